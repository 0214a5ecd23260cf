;;; dualstack-epc-later.el --- Run code of others from a timer  -*- lexical-binding: t; -*-

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

;; Callbacks and methods may do anything: signal, quit, or wait for other
;; calls.  So they never run in a process filter, but one after the other
;; from a timer, and when one of them waits the others run inside its wait.

;;; Code:

(defvar dualstack-epc-later--now nil
  "What is to run from the timer: lists of a function and its arguments.")

(defvar dualstack-epc-later--jobs nil
  "What is to run after `dualstack-epc-later--now', in reverse.")

(defvar dualstack-epc-later--timer nil
  "The timer that is to run jobs, or nil if there are none.")

(defconst dualstack-epc-later--turn 0.02
  "Seconds of jobs in a row; then Emacs looks for input before the others.")

(defun dualstack-epc--later (function &rest args)
  "Call FUNCTION with ARGS from a timer, as soon as Emacs waits.
It runs in the order of such calls.  One that waits keeps nobody waiting."
  (push (cons function args) dualstack-epc-later--jobs)
  (dualstack-epc-later--arm))

(defun dualstack-epc-later--arm ()
  "Have a timer ready for the jobs, if there are any."
  (when (and (or dualstack-epc-later--now dualstack-epc-later--jobs)
             (not dualstack-epc-later--timer))
    (setq dualstack-epc-later--timer (run-at-time 0 nil #'dualstack-epc-later--run))))

(defun dualstack-epc-later--run ()
  "Run the jobs that are there, but not for long.
A wait in Emacs runs a timer that is made meanwhile only when it goes on to
the next event, so one job for each timer would be one for each event."
  (setq dualstack-epc-later--timer nil)
  (unless dualstack-epc-later--now
    (setq dualstack-epc-later--now (nreverse dualstack-epc-later--jobs)
          dualstack-epc-later--jobs nil))
  (let ((end (+ (float-time) dualstack-epc-later--turn))
        job)
    (while (and (setq job (pop dualstack-epc-later--now))
                (progn
                  ;; If the job waits, the others are run meanwhile.
                  (dualstack-epc-later--arm)
                  (dualstack-epc--later-run-one job)
                  (< (float-time) end)))))
  (if (or dualstack-epc-later--now dualstack-epc-later--jobs)
      (dualstack-epc-later--arm)
    (when dualstack-epc-later--timer
      (cancel-timer dualstack-epc-later--timer)
      (setq dualstack-epc-later--timer nil))))

(defun dualstack-epc-later-short (text length)
  "Return TEXT, which a peer may have sent, as one line of LENGTH columns."
  (truncate-string-to-width
   (replace-regexp-in-string "\n" "\\n" (substring text 0 (min (1+ length) (length text))) t t)
   length nil nil "..."))

(defun dualstack-epc--later-run-one (job)
  "Run JOB, a list of a function and its arguments, whatever it does."
  (condition-case nil
      (condition-case-unless-debug err
          (let ((inhibit-quit nil))
            (apply job))
        (error (message "dualstack-epc: %s"
                        (dualstack-epc-later-short (error-message-string err) 500))))
    (quit)))

(provide 'dualstack-epc-later)

;;; dualstack-epc-later.el ends here
