;;; dualstack-sidecar-pipe.el --- EPC over a child's own streams  -*- lexical-binding: t; -*-

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

;; A sidecar can serve EPC over its standard input and output instead of a
;; socket: there is no port and no token, as nobody else has the other ends.
;;
;; Our own server is told a word, and prints that alone on a line before its
;; first frame: what a shell or a terminal has printed before is no frame, and
;; goes to the log.  Any other program is asked for its methods; it is ready
;; when it has answered anything, or has gone on for a second.

;;; Code:

(require 'dualstack-child)
(require 'dualstack-epc)
(require 'dualstack-sidecar-log)

(defconst dualstack-sidecar--pipe-patience 1
  "Seconds after which a program that answers nothing is taken for ready.")

(defun dualstack-sidecar--pipe-word ()
  "Return a new word for a server to say that it is ready."
  (format "%x-%x-%x" (emacs-pid) (random most-positive-fixnum) (random most-positive-fixnum)))

(defun dualstack-sidecar--pipe-open (process ready log then else)
  "Make an EPC connection over the streams of PROCESS, a child that has begun.
READY is the word that it prints first, or nil.  LOG is a buffer for what it
prints before that.  THEN is called with the connection when the child is
ready, or ELSE with a string when it speaks something else than EPC.  The
sentinel of PROCESS is called when the child ends, after the connection was
ended.  The value is a function that gives all of this up."
  (let* ((connection nil)
         (over nil)
         (done (lambda (&rest _)
                 (unless (or over (not (dualstack-epc-live-p connection)))
                   (setq over t)
                   (funcall then connection))))
         (attach (lambda (rest)
                   (setq connection (dualstack-sidecar--pipe-attach process rest))
                   (setf (dualstack-epc-connection-on-end connection)
                         (lambda (connection)
                           (unless over
                             (setq over t)
                             (funcall else (dualstack-epc-connection-ended connection))))))))
    (set-process-coding-system process 'binary 'binary)
    (cond (ready
           (dualstack-sidecar--pipe-listen process ready log
                                           (lambda (rest)
                                             (funcall attach rest)
                                             (funcall done))))
          ((process-live-p process) ; Else its sentinel tells.
           (funcall attach "")
           (dualstack-epc--request connection 'methods nil
                                   (dualstack-epc--request--make
                                    :then done :else done
                                    :timeout dualstack-sidecar--pipe-patience))))
    (lambda ()
      (setq over t)
      (if connection
          (dualstack-epc-close connection)
        (set-process-filter process #'ignore)))))

(defun dualstack-sidecar--pipe-listen (process ready log then)
  "Wait for PROCESS to print READY; call THEN with the bytes after it.
What comes before goes to LOG."
  (let ((line (format "\n(dualstack-epc 1 :ready %S)" ready))
        (before ""))
    (set-process-filter
     process
     (lambda (_process bytes)
       (setq before (concat before bytes))
       (if (string-match (concat (regexp-quote line) "\r?\n") before)
           (let ((rest (substring before (match-end 0))))
             (dualstack-sidecar--pipe-log log (substring before 0 (match-beginning 0)))
             (setq before "")
             (funcall then rest))
         ;; What cannot be a part of that line is logged at once.
         (let ((start (max 0 (- (length before) (length line) 2))))
           (dualstack-sidecar--pipe-log log (substring before 0 start))
           (setq before (substring before start))))))
    (set-process-sentinel
     process
     (let ((own (process-sentinel process)))
       (lambda (process event)
         (unless (process-live-p process)
           (dualstack-sidecar--pipe-log log before)
           (setq before ""))
         (funcall own process event))))))

(defun dualstack-sidecar--pipe-log (log bytes)
  "Append BYTES, in UTF-8, to the buffer LOG."
  (unless (string= bytes "")
    (dualstack-sidecar--log-append log (decode-coding-string bytes 'utf-8))))

(defun dualstack-sidecar--pipe-attach (process bytes)
  "Return a connection over PROCESS, which has sent BYTES of it already."
  (let* ((own (process-sentinel process))
         (connection (dualstack-epc-attach process))
         (theirs (process-sentinel process)))
    (set-process-sentinel process (lambda (process event)
                                    (funcall theirs process event)
                                    (funcall own process event)))
    (setf (dualstack-epc-connection--closer connection)
          (lambda (process)
            (set-process-sentinel process own)
            (dualstack-sidecar--pipe-end process)))
    (unless (string= bytes "")
      (funcall (process-filter process) process bytes))
    connection))

(defun dualstack-sidecar--pipe-end (process)
  "Have the child PROCESS end.
It is told so by the end of its input, which a terminal cannot tell, be it here
or, for a child with the property `dualstack-sidecar--far', on another machine."
  (when (process-live-p process)
    (cond ((process-tty-name process)
           (delete-process process))
          ((and (eq system-type 'windows-nt) (process-get process 'dualstack-sidecar--far))
           (dualstack-child--kill process))
          (t (ignore-errors (process-send-eof process))))))

(provide 'dualstack-sidecar-pipe)

;;; dualstack-sidecar-pipe.el ends here
