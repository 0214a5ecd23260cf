;;; dualstack-sidecar-connect.el --- Emacs and its sidecar find each other  -*- lexical-binding: t; -*-

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

;; A child prints its port as the first line, and as the second one a token and
;; its addresses.  Emacs connects to an address that the child has told, and
;; both prove the token.  Or they speak over the child's streams.
;;
;; A connection that ends while the child lives is made again, once.

;;; Code:

(require 'cl-lib)
(require 'dualstack-epc)
(require 'dualstack-epc-codec)
(require 'dualstack-epc-connect)
(require 'dualstack-sidecar-end)
(require 'dualstack-sidecar-log)
(require 'dualstack-sidecar-pipe)
(require 'dualstack-sidecar-record)

(defcustom dualstack-sidecar-timeout 20
  "Seconds within which a sidecar must have started."
  :type 'number
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

;;;; The announcement

(defun dualstack-sidecar--read (sidecar text)
  "Take TEXT, which SIDECAR has printed on standard output."
  (pcase (dualstack-sidecar-state sidecar)
    ((guard (or (dualstack-sidecar-connection sidecar)
                (dualstack-sidecar--cancel sidecar)
                (dualstack-sidecar--broken sidecar)))
     (dualstack-sidecar--log-append (dualstack-sidecar-log sidecar) text))
    ('starting (dualstack-sidecar--read-announcement sidecar text))))

(defun dualstack-sidecar--read-announcement (sidecar text)
  "Take TEXT, which has more of what SIDECAR announces."
  (setf (dualstack-sidecar--output sidecar)
        (concat (dualstack-sidecar--output sidecar) text))
  (let ((lines (split-string (dualstack-sidecar--output sidecar) "\r?\n")))
    (cond ((and (cdr lines) (not (string-match-p "\\`[0-9]+\\'" (car lines))))
           (dualstack-sidecar--fail
            sidecar (format "it printed %S where its port should be" (car lines))))
          ((and (cdr lines) (not (dualstack-sidecar--auth sidecar)))
           (dualstack-sidecar--connect sidecar (string-to-number (car lines)) nil))
          ((cddr lines)
           (dualstack-sidecar--connect sidecar (string-to-number (car lines))
                                       (cadr lines)))
          ((> (length (dualstack-sidecar--output sidecar)) 10000)
           (dualstack-sidecar--fail sidecar "it printed no port, but much else")))))

(defun dualstack-sidecar--connect (sidecar port announcement)
  "Connect to SIDECAR at PORT, by its ANNOUNCEMENT, a string or nil."
  (let ((announced (and announcement (ignore-errors
                          (car (read-from-string
                                (dualstack-epc--scan
                                 (encode-coding-string announcement 'utf-8-unix))))))))
    (pcase announced
      ((guard (null announcement))
       (setf (dualstack-sidecar-port sidecar) port
             (dualstack-sidecar-addresses sidecar) (list (cons "localhost" port)))
       (dualstack-sidecar--try-next sidecar (dualstack-sidecar-addresses sidecar) nil))
      (`(dualstack-epc 1 :token ,(and (pred stringp) token) :addresses ,addresses)
       (setf (dualstack-sidecar-port sidecar) port
             (dualstack-sidecar--output sidecar) ""
             (dualstack-sidecar--token sidecar) (dualstack-epc--auth-seal token)
             (dualstack-sidecar-addresses sidecar) addresses)
       (dualstack-sidecar--try-next sidecar addresses nil))
      (_ (dualstack-sidecar--fail
          sidecar (format "it printed %S where its announcement should be"
                          (replace-regexp-in-string ":token +\"[^\"]*\"" ":token ..."
                                                    announcement)))))))

;;;; Connecting

(defun dualstack-sidecar--try-next (sidecar addresses err)
  "Connect to SIDECAR at the first of ADDRESSES, or else at the others.
ERR is the error of the one before."
  (pcase addresses
    ('nil
     ;; A child that dies has its own report, which tells more.
     (dualstack-sidecar--disarm sidecar)
     (setf (dualstack-sidecar--timer sidecar)
           (run-at-time dualstack-sidecar--farewell nil #'dualstack-sidecar--give-up sidecar
                        (concat (error-message-string err)
                                (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar))))))
    (`((,host . ,port) . ,others)
     (setf (dualstack-sidecar-address sidecar)
           (format (if (string-match-p ":" host) "[%s]:%d" "%s:%d") host port))
     (dualstack-sidecar--try sidecar host port
                             (lambda (err)
                               (dualstack-sidecar--try-next sidecar others err))))))

(defun dualstack-sidecar--try (sidecar host port else)
  "Connect to SIDECAR at HOST and PORT; if that fails call ELSE with the error.
The child may end before this returns, and the attempt with it: an attempt is
of no account once its child is another one or SIDECAR does not start."
  (let* ((process (dualstack-sidecar-process sidecar))
         (over nil)
         (wanted (lambda ()
                   (and (eq (dualstack-sidecar-state sidecar) 'starting)
                        (eq (dualstack-sidecar-process sidecar) process))))
         (cancel (dualstack-epc-connect-async
                  host port :name (dualstack-sidecar--connection-name sidecar)
                  :token (dualstack-sidecar-token sidecar)
                  :then (lambda (connection)
                          (setq over t)
                          (if (funcall wanted)
                              (dualstack-sidecar--ready sidecar connection)
                            (dualstack-epc-close connection)))
                  :else (lambda (err)
                          (setq over t)
                          (when (funcall wanted)
                            (funcall else err))))))
    (cond (over nil)
          ((funcall wanted) (setf (dualstack-sidecar--cancel sidecar) cancel))
          (t (funcall cancel)))))

(defun dualstack-sidecar--connection-name (sidecar)
  "Return the name of the process that connects to SIDECAR."
  (concat (dualstack-sidecar-name sidecar) " connection"))

(defun dualstack-sidecar--dialled (sidecar)
  "Return the process of a connection to SIDECAR that is being proved, or nil."
  (get-process (dualstack-sidecar--connection-name sidecar)))

(defun dualstack-sidecar--connect-pipe (sidecar)
  "Connect to SIDECAR, whose process has begun, over its own streams."
  (setf (dualstack-sidecar-address sidecar)
        (if (dualstack-sidecar--place sidecar)
            (file-remote-p (dualstack-sidecar--place sidecar))
          "its pipe"))
  (condition-case nil
      (setf (dualstack-sidecar--cancel sidecar)
            (dualstack-sidecar--pipe-open
             (dualstack-sidecar-process sidecar) (dualstack-sidecar--ready-word sidecar)
             (dualstack-sidecar-log sidecar)
             (lambda (connection) (dualstack-sidecar--ready sidecar connection))
             (lambda (reason) (dualstack-sidecar--pipe-broken sidecar reason))))
    ;; It has ended already: its end says why.
    (dualstack-epc-closed nil)))

(defun dualstack-sidecar--pipe-broken (sidecar reason)
  "Note that SIDECAR, which was not ready yet, speaks no EPC, for REASON.
Its child may say within a moment why."
  (when (eq (dualstack-sidecar-state sidecar) 'starting)
    (dualstack-sidecar--disarm sidecar)
    (setf (dualstack-sidecar-failure sidecar) (list 'dualstack-sidecar-error reason)
          (dualstack-sidecar--timer sidecar)
          (run-at-time dualstack-sidecar--farewell nil
                       (lambda ()
                         (when (eq (dualstack-sidecar-state sidecar) 'starting)
                           (dualstack-sidecar--fail sidecar reason)))))))

(defun dualstack-sidecar--ready (sidecar connection)
  "Note that SIDECAR is running, over CONNECTION."
  (if (not (eq (dualstack-sidecar-state sidecar) 'starting))
      (dualstack-epc-close connection)
    (dolist (method (dualstack-sidecar--methods sidecar))
      (apply #'dualstack-epc-define-method connection method))
    (when (dualstack-sidecar--place sidecar)
      (dualstack-epc-define-method connection 'dualstack-log
                                   (lambda (text)
                                     (dualstack-sidecar--log-append
                                      (dualstack-sidecar-log sidecar) text)
                                     nil)))
    (dualstack-sidecar--disarm sidecar)
    (setf (dualstack-sidecar--broken sidecar) nil
          (dualstack-sidecar-connection sidecar) connection
          (dualstack-sidecar-state sidecar) 'running
          (dualstack-epc-connection-on-end connection)
          (lambda (_connection) (dualstack-sidecar--disconnected sidecar connection)))
    (dualstack-sidecar--show-in-mode-line)
    (dualstack-sidecar--tell sidecar)))

(defun dualstack-sidecar--late (sidecar)
  "Give up SIDECAR, which has not started in time."
  (dualstack-sidecar--give-up
   sidecar
   (cond
    ((eq (dualstack-sidecar--transport sidecar) 'pipe)
     (format "it was not ready within %s s%s" dualstack-sidecar-timeout
             (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar))))
    ((dualstack-sidecar-port sidecar)
       (format "no answer at port %d within %s s" (dualstack-sidecar-port sidecar)
               dualstack-sidecar-timeout))
    (t (format "no port line within %s s%s" dualstack-sidecar-timeout
             (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar)))))))

;;;; The connection is over

(defun dualstack-sidecar--disconnected (sidecar connection)
  "Note that CONNECTION, that of SIDECAR, is over.
If its child lives it is made again, once.  A child that goes on without is of
no use, and counts as crashed."
  (when (and (eq (dualstack-sidecar-state sidecar) 'running)
             (eq connection (dualstack-sidecar-connection sidecar)))
    (if (dualstack-sidecar--renewable-p sidecar connection)
        (dualstack-sidecar--renew sidecar connection)
      (dualstack-sidecar--mourn sidecar connection))))

(defun dualstack-sidecar--renewable-p (sidecar connection)
  "Return non-nil if CONNECTION of SIDECAR, which has ended, is made again.
One that was made again and has not served a call since is not."
  (and (dualstack-sidecar-addresses sidecar)
       (not (eq (dualstack-sidecar--transport sidecar) 'pipe))
       (process-live-p (dualstack-sidecar-process sidecar))
       (or (not (dualstack-sidecar--renewed sidecar))
           (> (dualstack-epc-connection-calls connection)
              (dualstack-sidecar--renewed sidecar)))))

;; Emacs on Windows takes a healthy socket for closed now and then.
(defun dualstack-sidecar--renew (sidecar connection)
  "Make CONNECTION of SIDECAR, whose child lives, again."
  (dualstack-log "%s: connects again, as its connection is gone: %s"
                 (dualstack-sidecar-name sidecar) (dualstack-epc-connection-ended connection))
  (dualstack-sidecar--disarm sidecar)
  (setf (dualstack-sidecar-state sidecar) 'starting
        (dualstack-sidecar--broken sidecar) (dualstack-epc-connection-ended connection)
        ;; What the proof takes is no service.
        (dualstack-sidecar--renewed sidecar) (if (dualstack-sidecar-token sidecar) 3 0)
        (dualstack-sidecar-connection sidecar) nil
        (dualstack-sidecar--timer sidecar)
        (run-at-time dualstack-sidecar-timeout nil #'dualstack-sidecar--late sidecar))
  (dualstack-sidecar--try-next sidecar (dualstack-sidecar-addresses sidecar) nil))

(defun dualstack-sidecar--renew-at-once (sidecar)
  "Make the connection of SIDECAR again if it has just ended.
Otherwise a timer does that, and who starts a sidecar and calls at once would
come before it."
  (let ((connection (dualstack-sidecar-connection sidecar)))
    (when (and (eq (dualstack-sidecar-state sidecar) 'running)
               (not (dualstack-epc-live-p connection))
               (dualstack-sidecar--renewable-p sidecar connection))
      (dualstack-sidecar--renew sidecar connection))))

(defun dualstack-sidecar--give-up (sidecar reason)
  "Note that SIDECAR does not run for REASON, or does not run any longer."
  (let ((broken (dualstack-sidecar--broken sidecar)))
    (cond (broken
           (dualstack-sidecar--crash sidecar (format "its connection is gone: %s; %s"
                                                     broken reason)))
          ((dualstack-sidecar--reconnecting-p sidecar)
           (dualstack-sidecar--crash sidecar reason))
          (t
           (dualstack-sidecar--fail sidecar reason)))))

(defun dualstack-sidecar--mourn (sidecar connection)
  "Let the child of SIDECAR say within a moment why CONNECTION has ended."
  (setf (dualstack-sidecar--timer sidecar)
        (run-at-time dualstack-sidecar--farewell nil
                     #'dualstack-sidecar--outlived sidecar connection)))

(defun dualstack-sidecar--outlived (sidecar connection)
  "Note that SIDECAR lives on without CONNECTION.
One that has ended meanwhile says why itself, when Emacs comes to it."
  (when (process-live-p (dualstack-sidecar-process sidecar))
    (dualstack-sidecar--crash
     sidecar (format "its connection is gone: %s"
                     (dualstack-epc-connection-ended connection)))))

(provide 'dualstack-sidecar-connect)

;;; dualstack-sidecar-connect.el ends here
