;;; dualstack-sidecar-launch.el --- The child process of a sidecar  -*- lexical-binding: t; -*-

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

;; The child is started here or on another machine.  Its standard error goes
;; to a log buffer.

;;; Code:

(require 'cl-lib)
(require 'dualstack-sidecar-connect)
(require 'dualstack-sidecar-direct)
(require 'dualstack-sidecar-end)
(require 'dualstack-sidecar-log)
(require 'dualstack-sidecar-pipe)
(require 'dualstack-sidecar-python)
(require 'dualstack-sidecar-record)
(require 'dualstack-sidecar-remote)

(defun dualstack-sidecar--launch (sidecar)
  "Start the process of SIDECAR."
  (let ((process-adaptive-read-buffering nil))
    (dualstack-sidecar--begin sidecar)
    (condition-case err
        (progn
          (setf (dualstack-sidecar-process sidecar)
                (if (dualstack-sidecar--by-tramp-p sidecar)
                    (dualstack-sidecar--make-remote-process sidecar)
                  (dualstack-sidecar--make-process sidecar))
                ;; Not before, as TRAMP may ask for a password.
                (dualstack-sidecar--timer sidecar)
                (run-at-time dualstack-sidecar-timeout nil #'dualstack-sidecar--late sidecar))
          (when (eq (dualstack-sidecar--transport sidecar) 'pipe)
            (dualstack-sidecar--connect-pipe sidecar)))
      (error
       ;; Nothing has read from it yet: later, deleting it could hang Windows.
       (when (dualstack-sidecar--stderr sidecar)
         (delete-process (dualstack-sidecar--stderr sidecar)))
       (dualstack-sidecar--fail
        sidecar (format "%s does not start: %s" (or (dualstack-sidecar--place sidecar)
                                                    (car (dualstack-sidecar-command sidecar)))
                        (error-message-string err)))))))

(defun dualstack-sidecar--begin (sidecar)
  "Note the start of SIDECAR, and make what its process needs."
  (let ((log (dualstack-sidecar--log-buffer (dualstack-sidecar-name sidecar))))
    (setf (dualstack-sidecar-state sidecar) 'starting
          (dualstack-sidecar-started sidecar) (float-time)
          (dualstack-sidecar-failure sidecar) nil
          (dualstack-sidecar-port sidecar) nil
          (dualstack-sidecar-addresses sidecar) nil
          (dualstack-sidecar--output sidecar) ""
          (dualstack-sidecar--broken sidecar) nil
          (dualstack-sidecar--renewed sidecar) nil
          (dualstack-sidecar-log sidecar) log)
    (dualstack-sidecar--log-begin log (delq nil (copy-sequence
                                                 (dualstack-sidecar-command sidecar))))
    (dualstack-sidecar--show-in-mode-line)
    (unless (dualstack-sidecar--by-tramp-p sidecar)
      (setf (dualstack-sidecar--stderr sidecar)
            (dualstack-sidecar--make-stderr
             (concat (dualstack-sidecar-name sidecar) " stderr") log)))))

(defun dualstack-sidecar--by-tramp-p (sidecar)
  "Return non-nil if TRAMP is to start the process of SIDECAR."
  (and (dualstack-sidecar--place sidecar) (not (dualstack-sidecar--direct sidecar))))

(defun dualstack-sidecar--sentinel (sidecar)
  "Return the sentinel of a process of SIDECAR."
  (lambda (process _event)
    (unless (process-live-p process)
      (dualstack-sidecar--ended sidecar process))))

(defun dualstack-sidecar--make-process (sidecar)
  "Return a new process of SIDECAR."
  (dualstack-sidecar--as-child
    (let ((process-environment (dualstack-sidecar--environment sidecar)))
      (make-process
       :name (dualstack-sidecar-name sidecar)
       :command (mapcar #'dualstack-sidecar--encode-word
                        (or (dualstack-sidecar--direct sidecar)
                            (dualstack-sidecar-command sidecar)))
       :connection-type 'pipe :noquery t :coding 'utf-8
       :stderr (dualstack-sidecar--stderr sidecar)
       :filter (lambda (_process text)
                 (dualstack-sidecar--read sidecar text))
       :sentinel (dualstack-sidecar--sentinel sidecar)))))

(defun dualstack-sidecar--make-remote-process (sidecar)
  "Return a new process of SIDECAR, on another machine, by TRAMP.
If it is to start again by itself, note how."
  (let* ((command (dualstack-sidecar-command sidecar))
         (place (dualstack-sidecar--place sidecar))
         (words (if (dualstack-sidecar--own-command sidecar)
                    (dualstack-sidecar-remote--own-words
                     command (setf (dualstack-sidecar--ready-word sidecar)
                                   (dualstack-sidecar--pipe-word)))
                  (dualstack-sidecar-remote--python-words (car command) (cdr command))))
         (process (dualstack-sidecar-remote--make-process
                   place words
                   :name (dualstack-sidecar-name sidecar) :noquery t :coding 'binary
                   :sentinel (dualstack-sidecar--sentinel sidecar))))
    (when (dualstack-sidecar--auto-restart sidecar)
      ;; What TRAMP does not tell of a method costs no more than starting again.
      (setf (dualstack-sidecar--direct sidecar)
            (ignore-errors (dualstack-sidecar-direct--words place words))))
    process))

;; A Windows Emacs hangs for good when it deletes a pipe that it waits to read
;; from and that somebody can still write to, be it that the child is alive or
;; what the child has started.  So the pipe has no buffer, which could be killed;
;; nobody waits for it alone; and it ends by itself when all its writers have.
(defun dualstack-sidecar--make-stderr (name log)
  "Return a pipe process called NAME with the buffer LOG for its output."
  (let* ((buffer (generate-new-buffer " *dualstack-stderr*")) ; Nil would make one, too.
         (process (make-pipe-process
                   :name name :noquery t :buffer buffer :coding 'utf-8 :sentinel #'ignore
                   :filter (lambda (_process text)
                             (dualstack-sidecar--log-append
                              log (replace-regexp-in-string "\r\n" "\n" text t t))))))
    (set-process-buffer process nil)
    (kill-buffer buffer)
    process))

(provide 'dualstack-sidecar-launch)

;;; dualstack-sidecar-launch.el ends here
