;;; dualstack-epc-flow.el --- Send without waiting  -*- lexical-binding: t; -*-

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

;; `process-send-string' waits until the system has taken everything, however
;; long the other end does not read.  But what the system has not taken it
;; keeps in a queue of the process before it waits, and goes on with at the
;; next call.  So nothing is lost when a timer, which is due and the only one,
;; throws out of that wait as soon as it begins.  A flow does that, and tries
;; again later until all is sent.

;;; Code:

(require 'cl-lib)
(require 'timer)

(defconst dualstack-epc--flow--piece 65536
  "Bytes that are given to Emacs at once.  Progress is seen piece by piece.")

(defconst dualstack-epc--flow--backlog 1000000
  "Bytes waiting to be sent beyond which a flow is full.")

(defconst dualstack-epc--flow--pause 0.002
  "Seconds until the next attempt to send.")

(defconst dualstack-epc--flow--long-pause 0.02
  "The same when the last attempts got nothing through.")

(cl-defstruct (dualstack-epc--flow (:constructor dualstack-epc--flow--make) (:copier nil))
  "What waits to be sent to PROCESS.
ON-DRAIN is called without arguments when a flow that was full no longer
is, ON-STALL with a number of seconds when the other end has read nothing for
as long, and ON-ERROR with the error when sending fails later.  PATIENCE is
that number, nil for ever."
  process on-drain on-stall on-error patience (-limit nil)
  (-head nil) (-tail nil) (-size 0) (-held nil) (-progress nil) (-timer nil) (-full nil))

(defun dualstack-epc--flow-send (flow bytes)
  "Send BYTES, a unibyte string, by FLOW, after what waits already.
Return at once.  Signal an error if the process is not running."
  (let ((idle (not (dualstack-epc--flow-pending-p flow))))
    (if (and idle (<= (length bytes) dualstack-epc--flow--piece))
        (unless (dualstack-epc--flow--try flow bytes)
          (setf (dualstack-epc--flow--progress flow) (float-time))
          (dualstack-epc--flow--wait flow))
      (dualstack-epc--flow--append flow bytes)
      (when idle
        (dualstack-epc--flow--flush flow)))))

(defun dualstack-epc--flow-pending-p (flow)
  "Return non-nil if something waits to be sent by FLOW."
  (or (dualstack-epc--flow--held flow) (dualstack-epc--flow--head flow)))

(defun dualstack-epc--flow-full-p (flow)
  "Return non-nil if so much waits in FLOW that more should not be made."
  (when (> (dualstack-epc--flow--size flow) dualstack-epc--flow--backlog)
    (setf (dualstack-epc--flow--full flow) t)))

(defun dualstack-epc--flow-hurry (flow seconds)
  "Be patient for SECONDS only until what waits in FLOW is sent."
  (when (dualstack-epc--flow-pending-p flow)
    (setf (dualstack-epc--flow--limit flow)
          (min seconds (or (dualstack-epc--flow--limit flow) seconds)))
    (dualstack-epc--flow--check flow)))

(defun dualstack-epc--flow--stalled-p (flow seconds)
  "Return non-nil if something waits in FLOW and nothing was read for SECONDS."
  (and (dualstack-epc--flow-pending-p flow)
       (>= (- (float-time) (dualstack-epc--flow--progress flow)) seconds)))

(defun dualstack-epc--flow--check (flow)
  "Give FLOW up if nothing was read for too long."
  (let ((limit (or (dualstack-epc--flow--limit flow)
                   (dualstack-epc--flow-patience flow))))
    (when (and limit (dualstack-epc--flow--stalled-p flow limit))
      (funcall (dualstack-epc--flow-on-stall flow) limit))))

(defun dualstack-epc--flow-close (flow)
  "Forget what waits in FLOW."
  (setf (dualstack-epc--flow--head flow) nil
        (dualstack-epc--flow--tail flow) nil
        (dualstack-epc--flow--held flow) nil
        (dualstack-epc--flow--size flow) 0)
  (dualstack-epc--flow--disarm flow))

(defun dualstack-epc--flow--append (flow bytes)
  "Add BYTES to what waits in FLOW, in pieces."
  (let ((start 0)
        (length (length bytes)))
    (while (< start length)
      (let* ((end (min length (+ start dualstack-epc--flow--piece)))
             (cell (list (if (and (= start 0) (= end length))
                             bytes
                           (substring bytes start end)))))
        (if (dualstack-epc--flow--head flow)
            (setcdr (dualstack-epc--flow--tail flow) cell)
          (setf (dualstack-epc--flow--head flow) cell
                (dualstack-epc--flow--progress flow) (float-time)))
        (setf (dualstack-epc--flow--tail flow) cell)
        (setq start end)))
    (cl-incf (dualstack-epc--flow--size flow) length)))

(defun dualstack-epc--flow--try (flow bytes)
  "Have BYTES sent by the process of FLOW; return nil if a part must wait.
Nothing else runs meanwhile, and \\`C-g' comes after it: it would leave half a
frame."
  (let* ((inhibit-quit t)
         (sent (catch 'dualstack-epc--flow--full
                 (let ((timer-list (list (dualstack-epc--flow--guard)))
                       (timer-idle-list nil))
                   (process-send-string (dualstack-epc--flow-process flow) bytes)
                   t))))
    (setf (dualstack-epc--flow--held flow) (not sent))
    sent))

(defvar dualstack-epc--flow--guard nil
  "The timer that is due in `dualstack-epc--flow--try'.
It is made again when it was used up, which most sends do not do.")

(defun dualstack-epc--flow--guard ()
  "Return a timer that is due, the end of a wait."
  (let ((guard dualstack-epc--flow--guard))
    (if (and guard (not (timer--triggered guard)))
        guard
      (setq guard (timer-create))
      (timer-set-function guard #'dualstack-epc--flow--leave)
      (timer-set-time guard '(0 0))
      (let ((timer-list nil))
        (timer-activate guard))
      (setq dualstack-epc--flow--guard guard))))

(defun dualstack-epc--flow--leave ()
  "Leave the wait of `dualstack-epc--flow--try'."
  (throw 'dualstack-epc--flow--full nil))

(defun dualstack-epc--flow--flush (flow)
  "Send what waits in FLOW as far as the system takes it."
  (when (dualstack-epc--flow--held flow)
    (when (dualstack-epc--flow--try flow "")
      (setf (dualstack-epc--flow--progress flow) (float-time))))
  (while (and (dualstack-epc--flow--head flow)
              (not (dualstack-epc--flow--held flow)))
    (let ((piece (pop (dualstack-epc--flow--head flow))))
      (cl-decf (dualstack-epc--flow--size flow) (length piece))
      (dualstack-epc--flow--try flow piece)
      (setf (dualstack-epc--flow--progress flow) (float-time))))
  (if (dualstack-epc--flow-pending-p flow)
      (dualstack-epc--flow--wait flow)
    (setf (dualstack-epc--flow--limit flow) nil)
    (dualstack-epc--flow--disarm flow))
  (when (and (dualstack-epc--flow--full flow)
             (not (> (dualstack-epc--flow--size flow) dualstack-epc--flow--backlog)))
    (setf (dualstack-epc--flow--full flow) nil)
    (when (dualstack-epc--flow-on-drain flow)
      (funcall (dualstack-epc--flow-on-drain flow)))))

(defun dualstack-epc--flow--wait (flow)
  "Have FLOW try again in a while."
  (dualstack-epc--flow--disarm flow)
  (setf (dualstack-epc--flow--timer flow)
        (run-at-time (if (dualstack-epc--flow--stalled-p flow 0.05)
                         dualstack-epc--flow--long-pause
                       dualstack-epc--flow--pause)
                     nil #'dualstack-epc--flow--again flow)))

(defun dualstack-epc--flow--disarm (flow)
  "Cancel the timer of FLOW."
  (when (dualstack-epc--flow--timer flow)
    (cancel-timer (dualstack-epc--flow--timer flow))
    (setf (dualstack-epc--flow--timer flow) nil)))

(defun dualstack-epc--flow--again (flow)
  "Go on sending what waits in FLOW, or give it up."
  (setf (dualstack-epc--flow--timer flow) nil)
  (condition-case err
      (dualstack-epc--flow--flush flow)
    (error
     (dualstack-epc--flow-close flow)
     (funcall (dualstack-epc--flow-on-error flow) err)))
  (dualstack-epc--flow--check flow))

(provide 'dualstack-epc-flow)

;;; dualstack-epc-flow.el ends here
