;;; dualstack-epc-calm.el --- No read while Windows' Emacs writes  -*- lexical-binding: t; -*-

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

;; On Windows a thread of Emacs's own reads each socket.  Where the main
;; thread writes to it just when that one begins to read, Emacs takes the
;; connection for closed (tests/windows/REPORT-TO-EMACS.txt says why).
;;
;; It begins at the next look for input, and Emacs looks once more after the
;; output that a wait is for.  A call soon after another thus wrote right into
;; it.  So a wait of ours has the process stopped as soon as its output is
;; there, and continued when the wait is over: then Emacs reads again at its
;; next look, and that comes after the write.
;;
;; Such a connection can also look ready and have nothing to be read, for ever.
;; Any wait then goes on for ever, whatever its time, and also where what it is
;; for has been read: Emacs only ends it when nothing looks ready.  So timers
;; have Emacs look at what became of its processes, and end the wait.

;;; Code:

(require 'cl-lib)

(defconst dualstack-epc--calm-needed (eq system-type 'windows-nt)
  "Non-nil if this Emacs is one that can take a connection for closed.")

(defconst dualstack-epc--calm-pause 0.05
  "Seconds after which Emacs reads again although the wait goes on.
It does where a method or a timer that runs in it waits itself.")

(defconst dualstack-epc--calm-late 0.5
  "Seconds that a wait may outlast its time before Emacs is woken.")

(cl-defstruct (dualstack-epc--calm (:constructor dualstack-epc--calm-make (awaited due))
                                   (:copier nil))
  "A wait of ours.
AWAITED is the process that it is for, or t for anything, DUE the time that
it should not outlast, and STOPPED the processes that it has had stopped.
LATE-TIMER ends it where it does outlast that.  The innermost wait alone has
one: of hundreds of waits in each other each is late, and Emacs would do
little else."
  awaited due stopped late-timer)

(defvar dualstack-epc--calm-innermost nil
  "The innermost wait of ours.")

(defvar dualstack-epc--calm-ended nil
  "A process that has ended.  To make another one there may be no room.")

(defun dualstack-epc--calm-wait (process seconds)
  "Wait for output of PROCESS up to SECONDS, as `accept-process-output'."
  (if (not (and dualstack-epc--calm-needed process
                (eq (process-type process) 'network)))
      (accept-process-output process seconds)
    ;; A wait around this one, from whose timer this comes, may have stopped it.
    (dualstack-epc--calm-continue process)
    (dualstack-epc--calm-accept process seconds)))

(defun dualstack-epc--calm-look (process seconds)
  "Wait up to SECONDS for anything, first of all output of PROCESS.
A wait for none goes on for 10 ms after any output.  On Windows one for a
process that has written never ends while another socket looks ready."
  (if (not dualstack-epc--calm-needed)
      (accept-process-output process seconds)
    (dualstack-epc--calm-accept nil seconds)))

(defun dualstack-epc--calm-accept (process seconds)
  "Wait for output of PROCESS, or of any if that is nil, up to SECONDS.
A process of ours that is read meanwhile is stopped until the wait is over."
  ;; Where it is late there may be no room for the process that wakes Emacs.
  (unless dualstack-epc--calm-ended
    (dualstack-epc--calm-wake))
  (let* ((outer dualstack-epc--calm-innermost)
         (wait (dualstack-epc--calm-make (or process t) (+ (float-time) seconds)))
         (dualstack-epc--calm-innermost wait))
    (unwind-protect
        (progn
          (dualstack-epc--calm-unwatch outer)
          (dualstack-epc--calm-watch wait)
          (catch wait
            (accept-process-output process seconds)))
      (dualstack-epc--calm-unwatch wait)
      (when outer
        (dualstack-epc--calm-watch outer))
      (mapc #'dualstack-epc--calm-continue (dualstack-epc--calm-stopped wait)))))

(defun dualstack-epc--calm-watch (wait)
  "Have a timer wake Emacs and end WAIT where that outlasts its time."
  (setf (dualstack-epc--calm-late-timer wait)
        (run-at-time (+ (max 0 (- (dualstack-epc--calm-due wait) (float-time)))
                        dualstack-epc--calm-late)
                     dualstack-epc--calm-late
                     (lambda ()
                       (dualstack-epc--calm-wake)
                       (dualstack-epc--calm-leave wait)))))

(defun dualstack-epc--calm-unwatch (wait)
  "Take back what `dualstack-epc--calm-watch' has done for WAIT, if there is one."
  (let ((timer (and wait (dualstack-epc--calm-late-timer wait))))
    (when timer
      (cancel-timer timer))))

(defun dualstack-epc--calm-leave (wait)
  "End WAIT, from a timer inside it.
Another wait in there, ours or somebody else's, goes on."
  (when (and (eq wait dualstack-epc--calm-innermost)
             (dualstack-epc--calm-ours-p 'timer-event-handler))
    (throw wait nil)))

(defun dualstack-epc--calm-wake ()
  "Have Emacs look at what became of its processes.
Where one has ended while a socket is ready that cannot be read, a wait of
Emacs's neither looks nor ends.  To delete a process makes it look, also one
that has ended."
  (ignore-errors
    (unless dualstack-epc--calm-ended
      (with-temp-buffer
        (setq dualstack-epc--calm-ended
              (make-pipe-process :name "dualstack wake" :buffer (current-buffer)
                                 :noquery t :sentinel #'ignore))))
    (delete-process dualstack-epc--calm-ended)))

(defun dualstack-epc--calm-continue (process)
  "Have Emacs read from PROCESS again at its next look, and no timer do so."
  (let ((timer (process-get process 'dualstack-epc--calm-timer)))
    (when timer
      (cancel-timer timer)
      (process-put process 'dualstack-epc--calm-timer nil)))
  (when (eq (process-status process) 'stop)
    (continue-process process)))

(defun dualstack-epc--calm-resume (process wait)
  "Have Emacs read from PROCESS again; end WAIT, which has read from it."
  (dualstack-epc--calm-continue process)
  (dualstack-epc--calm-leave wait))

(defun dualstack-epc--calm-read (process filter)
  "Have Emacs not read from PROCESS again before the wait that read is over.
FILTER is the name of a function that the process's filter calls, and that
calls this.  In a wait of somebody else's nothing is done: that may be for
more."
  (let ((wait dualstack-epc--calm-innermost))
    (when (and wait
               (memq (dualstack-epc--calm-awaited wait) (list process t))
               (eq (process-type process) 'network)
               (process-live-p process)
               (dualstack-epc--calm-ours-p filter))
      (stop-process process)
      (push process (dualstack-epc--calm-stopped wait))
      (process-put process 'dualstack-epc--calm-timer
                   (run-at-time dualstack-epc--calm-pause nil
                                #'dualstack-epc--calm-resume process wait)))))

(defun dualstack-epc--calm-ours-p (callee)
  "Return non-nil if it is a wait of ours that has called the function CALLEE.
That is a filter, or what Emacs calls for timers."
  (let ((n 0) (callers nil) frame)
    (while (and (< (length callers) 2)
                (setq frame (backtrace-frame (setq n (1+ n)) callee)))
      ;; Filters without a name call each other, and special forms of code that
      ;; is not compiled are frames too.
      (when (and (car frame) (symbolp (cadr frame))
                 (not (memq (cadr frame) '(apply funcall))))
        (push (cadr frame) callers)))
    ;; Native code calls a primitive without a frame.
    (pcase (nreverse callers)
      ((or `(dualstack-epc--calm-accept . ,_)
           `(accept-process-output dualstack-epc--calm-accept))
       t))))

(provide 'dualstack-epc-calm)

;;; dualstack-epc-calm.el ends here
