;;; dualstack-sidecar-end.el --- How sidecars end  -*- lexical-binding: t; -*-

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

;; A child ends by itself when its input does: Emacs never waits for it.
;;
;; When it ends unasked, every call ends with an error, the last lines of its
;; log are shown, and if wanted it is started again, by the function in its
;; record.

;;; Code:

(require 'cl-lib)
(require 'dualstack-child)
(require 'dualstack-epc)
(require 'dualstack-sidecar-environment)
(require 'dualstack-sidecar-log)
(require 'dualstack-sidecar-pipe)
(require 'dualstack-sidecar-record)
(require 'dualstack-view)

(defconst dualstack-sidecar--farewell 0.5
  "Seconds in which a child that has closed its connection may end by itself.
Its end tells more than that of its connection.")

;;;; Asked to

(defun dualstack-sidecar--stop (sidecar)
  "Stop SIDECAR, and tell whoever waits for it."
  (setf (dualstack-sidecar-state sidecar) 'stopping
        (dualstack-sidecar-failure sidecar)
        '(dualstack-sidecar-error "It was stopped"))
  (dualstack-sidecar--tell sidecar)
  (dualstack-sidecar--release sidecar))

(defun dualstack-sidecar--release (sidecar)
  "Let go of SIDECAR's connection, timers and process."
  (dualstack-sidecar--disarm sidecar)
  (when (dualstack-sidecar--cancel sidecar)
    (funcall (dualstack-sidecar--cancel sidecar))
    (setf (dualstack-sidecar--cancel sidecar) nil))
  (when (dualstack-sidecar-connection sidecar)
    (dualstack-epc-close (dualstack-sidecar-connection sidecar))
    (setf (dualstack-sidecar-connection sidecar) nil))
  (let ((process (dualstack-sidecar-process sidecar)))
    (cond ((process-live-p process)
           (dualstack-sidecar--pipe-end process)
           (when (process-live-p process)
             (setf (dualstack-sidecar--timer sidecar)
                   (run-at-time 2 nil #'dualstack-child--end process))))
          (t
           (dualstack-sidecar--forget-process sidecar)))))

(defun dualstack-sidecar--forget-process (sidecar)
  "Note that SIDECAR's process has ended."
  (dualstack-sidecar--disarm sidecar)
  (setf (dualstack-sidecar--stderr sidecar) nil)
  (when (memq (dualstack-sidecar-state sidecar) '(starting running stopping))
    (setf (dualstack-sidecar-state sidecar) 'stopped))
  (dualstack-sidecar--show-in-mode-line))

;;;; Unasked

(defun dualstack-sidecar--fail (sidecar reason)
  "Note that SIDECAR does not run, for REASON, and say so."
  (let ((known (dualstack-sidecar--reconnecting-p sidecar)))
    (setf (dualstack-sidecar-state sidecar) 'failed
          (dualstack-sidecar-failure sidecar)
          (list 'dualstack-sidecar-error
                (format "%s: %s" (dualstack-sidecar-name sidecar) reason)))
    (dualstack-log "%s" (cadr (dualstack-sidecar-failure sidecar)))
    (unless (or noninteractive known)
      (message "%s" (dualstack-view--error (dualstack-sidecar-failure sidecar)))))
  (dualstack-sidecar--tell sidecar)
  (dualstack-sidecar--release sidecar)
  (dualstack-sidecar--show-in-mode-line))

(defun dualstack-sidecar--crash (sidecar reason &optional reported)
  "Note that SIDECAR, which ran, does not any longer, for REASON.
Start it again if that is wanted: at once if REPORTED is non-nil, that is if
Emacs has told of the end of its process, and otherwise then."
  (dualstack-sidecar--fail sidecar reason)
  (when (and (dualstack-sidecar--auto-restart sidecar)
             (or (not (dualstack-sidecar--place sidecar)) (dualstack-sidecar--direct sidecar)))
    (if reported
        (dualstack-sidecar--restart-later sidecar)
      ;; One that is dead by now may still be to be told of, which ends the timer.
      (setf (dualstack-sidecar--again sidecar) t))))

(defun dualstack-sidecar--reconnecting-p (sidecar)
  "Return non-nil if SIDECAR has run, and its machine is just tried to be reached.
Then each attempt that fails is followed by another, as networks come and go."
  (and (eq (dualstack-sidecar-state sidecar) 'starting)
       (dualstack-sidecar--direct sidecar)
       (> (dualstack-sidecar-restarts sidecar) 0)))

(defun dualstack-sidecar--unreached-p (sidecar process)
  "Return non-nil if PROCESS of SIDECAR, on another machine, has ended on the way.
That is how ssh reports it, and how a signal to a program here does.  One that
is not let in without a question would not be later."
  (and (dualstack-sidecar--place sidecar)
       (or (eq 255 (process-exit-status process))
           (eq 'signal (process-status process)))
       (not (string-match-p "Permission denied\\|verification failed"
                            (dualstack-sidecar--log-current (dualstack-sidecar-log sidecar))))))

(defun dualstack-sidecar--restart-later (sidecar)
  "Start SIDECAR again, the later the more often that has been necessary."
  (when (> (- (float-time) (dualstack-sidecar-started sidecar)) 60)
    (setf (dualstack-sidecar-restarts sidecar) 0))
  (let ((delay (min 60 (* 0.5 (expt 2 (dualstack-sidecar-restarts sidecar))))))
    (cl-incf (dualstack-sidecar-restarts sidecar))
    (dualstack-log "%s: starts again in %s s" (dualstack-sidecar-name sidecar) delay)
    (setf (dualstack-sidecar--timer sidecar)
          (run-at-time delay nil (dualstack-sidecar--launcher sidecar) sidecar))))

(defun dualstack-sidecar--ended (sidecar process)
  "Note that PROCESS of SIDECAR has ended, and report it when its log is whole."
  (when (eq process (dualstack-sidecar-process sidecar))
    (dualstack-sidecar--after-log
     sidecar (lambda () (dualstack-sidecar--report-end sidecar process)))))

(defun dualstack-sidecar--after-log (sidecar function)
  "Call FUNCTION once what SIDECAR's child has written is in its log.
What it has started may write for ever: wait a moment at most."
  (let* ((stderr (dualstack-sidecar--stderr sidecar))
         (timer nil)
         (once (lambda (&rest _)
                 (when timer
                   (cancel-timer timer)
                   (setq timer nil)
                   (set-process-sentinel stderr #'ignore)
                   (funcall function)))))
    (cond ((process-live-p stderr)
           (dualstack-sidecar--disarm sidecar)
           (setf timer (run-at-time dualstack-sidecar--farewell nil once)
                 (dualstack-sidecar--timer sidecar) timer)
           (set-process-sentinel stderr once))
          (t (funcall function)))))

(defun dualstack-sidecar--report-end (sidecar process)
  "Say why SIDECAR's PROCESS has ended, and do what follows."
  (when (eq process (dualstack-sidecar-process sidecar))
    (let ((state (if (or (dualstack-sidecar--broken sidecar)
                         (and (dualstack-sidecar--reconnecting-p sidecar)
                              (dualstack-sidecar--unreached-p sidecar process)))
                     'running
                   (dualstack-sidecar-state sidecar)))
          (status (process-exit-status process)))
      (setf (dualstack-sidecar--broken sidecar) nil)
      (dualstack-sidecar--forget-process sidecar)
      (pcase state
        ('starting
         (dualstack-sidecar-environment--forget (car (dualstack-sidecar-command sidecar)))
         (dualstack-sidecar--fail
          sidecar (concat (or (and (eq status 0) ; What made it end may be known.
                                   (cadr (dualstack-sidecar-failure sidecar)))
                              (format "it ended before it ran, with status %s%s" status
                                      (dualstack-sidecar--of-python sidecar)))
                          (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar)))))
        ('running
         (dualstack-sidecar--crash
          sidecar (concat (dualstack-sidecar--why-ended sidecar status)
                          (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar)))
          t))
        ;; It was asked to end as it had failed before.
        ('failed
         (when (dualstack-sidecar--again sidecar)
           (setf (dualstack-sidecar--again sidecar) nil)
           (dualstack-sidecar--restart-later sidecar)))))))

(defun dualstack-sidecar--of-python (sidecar)
  "Return a question about the Python that SIDECAR was told to use, or nothing.
One that has said something is a Python."
  (if (and (dualstack-sidecar--python sidecar)
           (not (dualstack-sidecar--own-command sidecar))
           (string= "" (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar))))
      (format "; is %s a Python from 3.10 on?" (dualstack-sidecar--python sidecar))
    ""))

(defun dualstack-sidecar--why-ended (sidecar status)
  "Return why SIDECAR, which ran, has ended with STATUS.
One that ends in order has lost its connection."
  (let ((connection (dualstack-sidecar-connection sidecar)))
    (cond ((dualstack-sidecar--unreached-p sidecar (dualstack-sidecar-process sidecar))
           (format "the connection to %s is lost; %s"
                   (file-remote-p (dualstack-sidecar--place sidecar))
                   (if (dualstack-sidecar--direct sidecar)
                       "it is made again"
                     "the next start connects again")))
          ((and (eq status 0) connection (dualstack-epc-connection-ended connection))
           (format "its connection is gone: %s" (dualstack-epc-connection-ended connection)))
          (t (format "it crashed, with status %s" status)))))

(provide 'dualstack-sidecar-end)

;;; dualstack-sidecar-end.el ends here
