;;; dualstack-alone.el --- Wait while nobody else's code runs  -*- lexical-binding: t; -*-

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

;; A synchronous `make-network-process' runs no timer, filter or sentinel of
;; anybody.  `accept-process-output' runs all of them.  `dualstack-alone' is
;; for a wait that must be like the former.
;;
;; 1. The lists of timers are empty meanwhile.
;; 2. Every other process is locked to a thread that has ended (see
;;    `set-process-thread').  Emacs then leaves its descriptors alone: what
;;    it sends waits in the kernel, in order, and so do clients of a server.
;; 3. A child that exits is noticed all the same.  What it wrote last and its
;;    event are collected, and a timer of no delay hands them over.

;;; Code:

(defvar dualstack-alone--nobody nil
  "A thread that has ended, or nil before it is needed.")

(defmacro dualstack-alone (&rest body)
  "Run BODY, which may wait, without anybody else's code; return its value.
Processes that BODY makes are waited for as usual.  It must run in the main
thread; other threads are not held."
  (declare (indent 0) (debug t))
  `(dualstack-alone--call (lambda () ,@body)))

(defun dualstack-alone--call (function)
  "Return what FUNCTION does, called as by `dualstack-alone'."
  (let ((held nil)
        (late (list nil)))
    (unwind-protect
        (progn
          (let ((inhibit-quit t))
            (setq held (dualstack-alone--hold late)))
          (let ((timer-list nil)
                (timer-idle-list nil)
                ;; Input waits for the end of the call, as in a system call.
                (throw-on-input nil))
            (funcall function)))
      (let ((inhibit-quit t))
        (mapc #'funcall held)
        (when (car late)
          (run-at-time 0 nil #'dualstack-alone--hand-over (nreverse (car late))))))))

(defun dualstack-alone--hold (late)
  "Hold every process; return a list of functions that release them.
What comes of one all the same is pushed to the car of LATE."
  (let ((releases nil))
    (dolist (process (process-list) releases)
      (when (and (fboundp 'make-thread)
                 (memq (process-thread process) (list nil main-thread)))
        (push (dualstack-alone--lock process) releases))
      (when (dualstack-alone--ends-p process)
        (push (dualstack-alone--collect process late) releases)))))

(defun dualstack-alone--lock (process)
  "Lock PROCESS to nobody; return a function to undo that."
  (let ((owner (process-thread process)))
    (unless dualstack-alone--nobody
      (thread-join (setq dualstack-alone--nobody (make-thread #'ignore "nobody"))))
    (set-process-thread process dualstack-alone--nobody)
    (lambda () (set-process-thread process owner))))

(defun dualstack-alone--ends-p (process)
  "Return non-nil if Emacs may tell the sentinel of PROCESS, locked or not.
That is a child, or a connection whose end it has not yet told.  In an
Emacs without threads, where none can be locked, it is every process."
  (or (not (fboundp 'make-thread))
      (eq (process-type process) 'real)
      (not (memq (process-status process) '(open listen connect run stop)))))

(defun dualstack-alone--collect (process late)
  "Collect for PROCESS in the car of LATE; return a function to undo that.
Each element is a list (PLACE PROCESS STRING), PLACE being the function that returns
the filter or the sentinel."
  (let ((filter (process-filter process))
        (sentinel (process-sentinel process)))
    ;; One that does not read has nothing to collect.
    (unless (eq filter t)
      (set-process-filter process
                          (lambda (process string)
                            (push (list #'process-filter process string) (car late)))))
    (set-process-sentinel process
                          (lambda (process string)
                            (push (list #'process-sentinel process string) (car late))))
    (lambda ()
      (unless (eq filter t)
        (set-process-filter process filter))
      (set-process-sentinel process sentinel))))

(defun dualstack-alone--hand-over (calls)
  "Call what CALLS has, of `dualstack-alone--collect', as Emacs would have."
  (pcase-dolist (`(,place ,process ,string) calls)
    (condition-case err
        (save-match-data
          (save-current-buffer
            (let ((function (funcall place process)))
              (when (functionp function)
                (funcall function process string)))))
      (error (message "error in %s: %s" place (error-message-string err))))))

(provide 'dualstack-alone)

;;; dualstack-alone.el ends here
