;;; dualstack-epc-link.el --- The two ends of an EPC connection  -*- lexical-binding: t; -*-

;; Copyright (C) 2026 The dualstack authors

;; SPDX-License-Identifier: GPL-3.0-or-later

;; This file is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published
;; by the Free Software Foundation, either version 3 of the License,
;; or (at your option) any later version.
;;
;; This file is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.
;;
;; You should have received a copy of the GNU General Public License
;; along with this file.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; A connection, what is sent over it, and how it ends.
;;
;; An end that is dualstack too, and not another EPC peer, is told by the margin
;; of its payloads: blanks before the newline at their end, which other peers
;; skip as they skip any blank.  A tab means that the end knows the methods
;; `dualstack-cancel' and `dualstack-progress', a second one that the call wants
;; to be told of progress, and a blank before them that the end reads JSON.  The
;; end that has connected begins to use a margin, and stops once a reply has
;; none.  The proof of a token tells as much.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack)
(require 'dualstack-child)
(require 'dualstack-epc-codec)
(require 'dualstack-epc-flow)
(require 'dualstack-epc-later)
(require 'dualstack-epc-raw)
(require 'dualstack-epc-window)

(define-error 'dualstack-epc-closed "The connection is closed" 'dualstack-epc-error)

(defconst dualstack-epc--link-garbage 50000000
  "Bytes of garbage that one message may make before Emacs collects it.
A large one would be copied a few times, with a collection for each, all of
which look at the value that it is made of: half of the time in Emacs 28.")

(cl-defstruct (dualstack-epc-connection (:constructor dualstack-epc--link--make)
                                        (:copier nil))
  "An EPC connection.
NAME is a string.  PROCESS is what it runs over.  METHODS is a list of
\(NAME FUNCTION ARGLIST DOCUMENTATION), what the peer can call.  ENDED is nil,
or says why the connection is over; then ON-END is called with it, if it is
a function.  `-peer' is `dualstack' if the other end is, `other' if it is
not, `unknown' if this end is to begin, or nil; `-json' is t if that reads
JSON, and `unknown' until it has sent a margin.  `-waiting' is how many
messages of the other end wait for their turn, and how many bytes they have.
`-limit' is how many bytes one of them may have."
  name process methods ended on-end
  (-window nil) (-flow nil) (-input nil) (-length nil) (-peer nil) (-json 'unknown) (-cancels nil) (-heard nil) (-keepalive nil)
  (-answers (make-hash-table :test #'equal)) (-waiting (cons 0 0))
  (-limit dualstack-epc--codec-limit)
  (-closer #'dualstack-child--end)) ; Called with the process in the end.

(defun dualstack-epc-connection-calls (connection)
  "Return how often something was called over CONNECTION."
  (dualstack-epc--window-calls (dualstack-epc-connection--window connection)))

(defun dualstack-epc-connection-errors (connection)
  "Return how often that has failed over CONNECTION."
  (dualstack-epc--window-errors (dualstack-epc-connection--window connection)))

(defcustom dualstack-epc-timeout 60
  "Seconds after which `dualstack-epc-call' gives up.  Nil means never.
If the peer does not read for that long while data waits to be sent, the
connection is closed."
  :type '(choice number (const :tag "Never" nil))
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-epc-log-events nil
  "Non-nil means log messages in *dualstack-log*, shortened."
  :type 'boolean
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defun dualstack-epc--link-log (connection format &rest args)
  "Log FORMAT with ARGS for CONNECTION if `dualstack-epc-log-events' is non-nil."
  (when dualstack-epc-log-events
    (dualstack-log "%s: %s" (dualstack-epc-connection-name connection)
                   (dualstack-epc-later-short (apply #'format format args) 500))))

(defun dualstack-epc--link-make (process)
  "Return a new connection over PROCESS, which is not read yet."
  (let* ((connection (dualstack-epc--link--make :name (process-name process)
                                               :process process))
         (flow (dualstack-epc--flow--make :process process
                                         :patience dualstack-epc-timeout))
         (window (dualstack-epc--window--make
                  :encoder (lambda (request)
                             (dualstack-epc--link-encode
                              connection (dualstack-epc--request-message request)
                              (dualstack-epc--request-progress request)))
                  :sender (lambda (frame) (dualstack-epc--link-send connection frame))
                  :full-p (lambda () (dualstack-epc--flow-full-p flow))
                  :canceller (lambda (request)
                               (dualstack-epc--link-cancel connection request)))))
    (setf (dualstack-epc-connection--flow connection) flow
          (dualstack-epc-connection--window connection) window
          (dualstack-epc--flow-on-drain flow) (lambda () (dualstack-epc--window-pump window))
          (dualstack-epc--flow-on-error flow)
          (lambda (err) (dualstack-epc--link-end connection (error-message-string err)))
          (dualstack-epc--flow-on-stall flow)
          (lambda (seconds)
            (dualstack-epc--link-end
             connection (format "the other end has read nothing for %s s" seconds))))
    connection))

;;;; Sending

(defun dualstack-epc--link-send (connection frame)
  "Send FRAME over CONNECTION, without waiting for the other end to read.
Signal `dualstack-epc-closed' if it is gone."
  (when dualstack-epc-log-events
    (dualstack-epc--link-log connection "-> %s" (substring frame 6)))
  (condition-case err
      (dualstack-epc--flow-send (dualstack-epc-connection--flow connection) frame)
    (error
     (dualstack-epc--link-end connection (error-message-string err))
     (signal 'dualstack-epc-closed (list (dualstack-epc-connection-ended connection))))))

(defun dualstack-epc--link-reply (connection kind uid value)
  "Send (KIND UID VALUE) over CONNECTION if that is open.
If VALUE cannot be sent, that is the reply."
  (unless (dualstack-epc-connection-ended connection)
    (let ((margin (dualstack-epc--link--margin connection))
          (gc-cons-threshold (max gc-cons-threshold dualstack-epc--link-garbage)))
      (ignore-error dualstack-epc-closed
        (dualstack-epc--link-send
         connection
         (condition-case err
             (dualstack-epc--codec-encode
              (list kind uid value) margin
              (eq (dualstack-epc-connection--peer connection) 'dualstack)
              (eq (dualstack-epc-connection--json connection) t))
           (dualstack-epc-unsendable
            (dualstack-epc--codec-encode
             (list 'return-error uid
                   (substring-no-properties (error-message-string err)))
             margin))))))))

(defun dualstack-epc--link-encode (connection message &optional progress)
  "Return the frame of MESSAGE for CONNECTION.
PROGRESS means that the other end is to tell of progress."
  (dualstack-epc--codec-encode message
                              (dualstack-epc--link--margin connection progress)
                              (eq (dualstack-epc-connection--peer connection) 'dualstack)
                              (eq (dualstack-epc-connection--json connection) t)))

;;;; The other end

(defun dualstack-epc--link--margin (connection &optional progress)
  "Return the blanks at the end of payloads that are sent over CONNECTION.
PROGRESS means that the other end is to tell of progress."
  (and (memq (dualstack-epc-connection--peer connection) '(dualstack unknown))
       (if (dualstack-epc--json-used-p)
           (if progress " \t\t" " \t")
         (if progress "\t\t" "\t"))))

(defun dualstack-epc--link-note-margin (connection payload)
  "Note what the other end of CONNECTION is, by the margin of PAYLOAD."
  (let ((peer (dualstack-epc-connection--peer connection)))
    (when (and (eq (dualstack-epc-connection--json connection) 'unknown)
               (dualstack-epc--raw-margin-p payload))
      (setf (dualstack-epc-connection--json connection)
            (and (string-match-p " \t\t?\n\\'" payload (max 0 (- (length payload) 4))) t)))
    (cond ((eq peer 'dualstack))
          ((dualstack-epc--raw-margin-p payload)
           (dualstack-epc--link-meet connection)
           ;; A reply may take long: say as soon who this is.
           (unless (eq peer 'unknown)
             (dualstack-epc--link-reply connection 'return 0 t)))
          ((and (eq peer 'unknown)
                (string-match-p "\\`(\\(?:return\\|return-error\\|epc-error\\) " payload))
           (setf (dualstack-epc-connection--peer connection) 'other)))))

(defun dualstack-epc--link-meet (connection)
  "Note that the other end of CONNECTION is dualstack."
  (setf (dualstack-epc-connection--peer connection) 'dualstack)
  (mapc (lambda (uid) (dualstack-epc--link--send-cancel connection uid))
        (nreverse (dualstack-epc-connection--cancels connection)))
  (setf (dualstack-epc-connection--cancels connection) nil))

(defun dualstack-epc--link-cancel (connection request)
  "Have the other end of CONNECTION cancel REQUEST, if it knows how.
If its time was over, and the other end reads nothing, end CONNECTION."
  (unless (dualstack-epc-connection-ended connection)
    (pcase (dualstack-epc-connection--peer connection)
      ('dualstack (dualstack-epc--link--send-cancel
                   connection (dualstack-epc--request-uid request)))
      ('unknown (push (dualstack-epc--request-uid request)
                      (dualstack-epc-connection--cancels connection))))
    (when (eq (dualstack-epc--request-state request) 'dualstack-epc-timeout)
      (dualstack-epc--flow-hurry (dualstack-epc-connection--flow connection)
                                (max 1 (dualstack-epc--request-timeout request))))))

(defun dualstack-epc--link--send-cancel (connection uid)
  "Have the other end of CONNECTION cancel the call UID."
  (dualstack-epc--link-notify connection 'dualstack-cancel (list uid)))

(defun dualstack-epc--link-notify (connection method arguments)
  "Call METHOD with ARGUMENTS over CONNECTION, and ignore what comes of it."
  (unless (dualstack-epc-connection-ended connection)
    (ignore-error dualstack-epc-error
      (dualstack-epc--link-send
       connection
       (dualstack-epc--link-encode connection (list 'call 0 method arguments))))))

;;;; The end

(defun dualstack-epc--link-end (connection reason)
  "Note that CONNECTION is over for REASON, and end its requests."
  (unless (dualstack-epc-connection-ended connection)
    (setf (dualstack-epc-connection-ended connection) (string-trim reason))
    (dualstack-epc--link-log connection "Closed: %s"
                            (dualstack-epc-connection-ended connection))
    (let ((process (dualstack-epc-connection-process connection)))
      (set-process-sentinel process #'ignore)
      (set-process-filter process #'ignore)
      (funcall (dualstack-epc-connection--closer connection) process))
    (dualstack-epc--flow-close (dualstack-epc-connection--flow connection))
    (when (dualstack-epc-connection--keepalive connection)
      (cancel-timer (dualstack-epc-connection--keepalive connection)))
    (when (buffer-live-p (dualstack-epc-connection--input connection))
      (kill-buffer (dualstack-epc-connection--input connection)))
    (dualstack-epc--window-close (dualstack-epc-connection--window connection)
                                'dualstack-epc-closed
                                (list (dualstack-epc-connection-ended connection)))
    (when (dualstack-epc-connection-on-end connection)
      (dualstack-epc--later (dualstack-epc-connection-on-end connection) connection))))

(provide 'dualstack-epc-link)

;;; dualstack-epc-link.el ends here
