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
;; anybody.  `accept-process-output' runs all of them.  `dualstack-alone--call' is
;; for a wait that must be like the former.
;;
;; 1. The lists of timers are empty meanwhile.
;; 2. Connections, pipes and servers are stopped: what they get waits in the
;;    kernel, and so do a server's clients.
;; 3. What cannot be stopped (a child, a connection in the making) has its
;;    output and events collected.  They are handed over by a timer of no
;;    delay, or together with what comes next, in their order.
;;
;; To lock the others to a thread that has ended would stop them all, too, but
;; the descriptor of a child that exits stays locked, and so deaf.

;;; Code:

(require 'cl-lib)

;; A list is made quicker than a record.
(cl-defstruct (dualstack-alone--held
               (:type list)
               (:conc-name dualstack-alone--held-)
               (:copier nil)
               (:predicate nil))
  "What PROCESS had before it was held: its FILTER and SENTINEL.
CONTACT is the list that Emacs keeps of it, and LENGTH its length."
  process filter sentinel contact length)

(defvar dualstack-alone--all-held nil
  "The records of processes whose output and events are collected.")

(defvar dualstack-alone--late nil
  "What was collected: lists (COLLECTOR PROCESS STRING), oldest first.")

(defvar dualstack-alone--depth 0
  "How many calls of `dualstack-alone--call' are waiting.")

;; Special variables, as a closure for what is to be done at the end takes longer
;; than most of the rest.
(defvar dualstack-alone--outside 0
  "The `dualstack-alone--depth' outside the innermost `dualstack-alone--call'.")

(defvar dualstack-alone--stopped nil
  "The processes that the innermost `dualstack-alone--call' has stopped.")

(defun dualstack-alone--call (function &rest arguments)
  "Call FUNCTION, which may wait, with ARGUMENTS, without anybody else's code.
Return its value.  Processes that it makes are waited for as usual, if its waits
name one of them.  It must run in the main thread; other threads are not held."
  (let ((dualstack-alone--outside dualstack-alone--depth)
        (dualstack-alone--stopped nil))
    (unwind-protect
        (progn
          (let ((inhibit-quit t))
            (setq dualstack-alone--depth (1+ dualstack-alone--depth))
            (mapc #'dualstack-alone--hold (process-list)))
          (let ((timer-list nil)
                (timer-idle-list nil)
                ;; Input waits for the end of the call, as in a system call.
                (throw-on-input nil))
            (apply function arguments)))
      (let ((inhibit-quit t))
        (setq dualstack-alone--depth dualstack-alone--outside)
        (mapc #'continue-process dualstack-alone--stopped)
        (dualstack-alone--release)))))

(defun dualstack-alone--hold (process)
  "Stop PROCESS, or collect what comes of it."
  (if (dualstack-alone--stoppable-p process)
      (progn (push process dualstack-alone--stopped)
             (stop-process process))
    (dualstack-alone--collect process)))

(defun dualstack-alone--stoppable-p (process)
  "Return non-nil if Emacs can leave PROCESS alone without losing anything.
It must not wait for its connection: Emacs would then begin to read from it
too early.  To continue a serial port empties its buffer."
  (and (memq (process-type process) '(network pipe))
       (memq (process-status process) '(open listen run))))

(defun dualstack-alone--collect (process)
  "Collect what comes of PROCESS, unless it is stopped or collected already."
  (unless (or (eq (process-status process) 'stop)
              (eq (process-sentinel process) #'dualstack-alone--tell))
    (let ((contact (and (not (eq (process-type process) 'real))
                        (process-contact process t t)))
          (filter (process-filter process)))
      (push (make-dualstack-alone--held
             :process process :filter filter :sentinel (process-sentinel process)
             :contact contact :length (length contact))
            dualstack-alone--all-held)
      ;; One that does not read has nothing to collect.
      (unless (eq filter t)
        (set-process-filter process #'dualstack-alone--read))
      (set-process-sentinel process #'dualstack-alone--tell))))

(defun dualstack-alone--read (process string)
  "Collect STRING, which PROCESS wrote."
  (dualstack-alone--add #'dualstack-alone--read process string))

(defun dualstack-alone--tell (process string)
  "Collect STRING, an event of PROCESS."
  (dualstack-alone--add #'dualstack-alone--tell process string))

(defun dualstack-alone--add (collector process string)
  "Note that COLLECTOR got STRING from PROCESS.
Once nobody waits alone any more, it is handed over after what came before."
  (setq dualstack-alone--late
        (nconc dualstack-alone--late (list (list collector process string))))
  (when (= dualstack-alone--depth 0)
    (dualstack-alone--hand-over)))

(defun dualstack-alone--release ()
  "Let others go on once nobody waits alone any more."
  (when (= dualstack-alone--depth 0)
    (if dualstack-alone--late
        (run-at-time 0 nil #'dualstack-alone--hand-over)
      (dualstack-alone--restore))))

(defun dualstack-alone--restore ()
  "Give the processes that are collected from their functions back.
One whose function was changed meanwhile keeps the new one."
  (let ((all dualstack-alone--all-held))
    (setq dualstack-alone--all-held nil)
    (dolist (held all)
      (let ((process (dualstack-alone--held-process held))
            (length (dualstack-alone--held-length held)))
        (when (eq (process-filter process) #'dualstack-alone--read)
          (set-process-filter process (dualstack-alone--held-filter held)))
        (when (eq (process-sentinel process) #'dualstack-alone--tell)
          (set-process-sentinel process (dualstack-alone--held-sentinel held)))
        ;; Emacs notes the functions there, and need not have had them.
        (when (> length 0)
          (setcdr (nthcdr (1- length) (dualstack-alone--held-contact held)) nil))))))

(defun dualstack-alone--hand-over ()
  "Call with what was collected those to whom it belongs now, in its order.
Their functions are theirs again before the last of it, and not before, so
that nothing newer overtakes the rest."
  (while dualstack-alone--late
    (pcase-let ((`(,collector ,process ,string) (pop dualstack-alone--late)))
      (unless dualstack-alone--late
        (dualstack-alone--restore))
      (condition-case err
          (save-match-data
            (save-current-buffer
              (funcall (dualstack-alone--function collector process)
                       process string)))
        (error (message "error in %s: %s"
                        (if (eq collector #'dualstack-alone--read) "process filter"
                          "process sentinel")
                        (error-message-string err)))))))

(defun dualstack-alone--function (collector process)
  "Return the function of PROCESS that COLLECTOR stands for."
  (let* ((read (eq collector #'dualstack-alone--read))
         (now (if read (process-filter process) (process-sentinel process)))
         (held (and (eq now collector)
                    (cl-find process dualstack-alone--all-held
                             :key #'dualstack-alone--held-process)))
         (function (cond ((null held) now)
                         (read (dualstack-alone--held-filter held))
                         (t (dualstack-alone--held-sentinel held)))))
    ;; A filter may have become t meanwhile.
    (if (functionp function) function #'ignore)))

(provide 'dualstack-alone)

;;; dualstack-alone.el ends here
