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

;;; Code:

(defconst dualstack-epc--calm-needed (eq system-type 'windows-nt)
  "Non-nil if this Emacs is one that can take a connection for closed.")

(defvar dualstack-epc--calm-awaited nil
  "The process that the innermost wait of ours is for.")

(defun dualstack-epc--calm-wait (process seconds)
  "Wait for output of PROCESS up to SECONDS, as `accept-process-output'."
  (if (not (and dualstack-epc--calm-needed process
                (eq (process-type process) 'network)))
      (accept-process-output process seconds)
    ;; A wait around this one, from whose timer this comes, may have stopped it.
    (dualstack-epc--calm-continue process)
    (unwind-protect
        (let ((dualstack-epc--calm-awaited process))
          (accept-process-output process seconds))
      (dualstack-epc--calm-continue process))))

(defun dualstack-epc--calm-continue (process)
  "Have Emacs read from PROCESS again at its next look."
  (when (eq (process-status process) 'stop)
    (continue-process process)))

(defun dualstack-epc--calm-read (process filter)
  "Have Emacs not read from PROCESS again before the wait that read is over.
FILTER is the name of a function that the process's filter calls, and that
calls this.  In a wait of somebody else's nothing is done: that may be for
more."
  (when (and dualstack-epc--calm-awaited
             (eq process dualstack-epc--calm-awaited)
             (process-live-p process)
             (dualstack-epc--calm-ours-p filter))
    (stop-process process)))

(defun dualstack-epc--calm-ours-p (filter)
  "Return non-nil if what FILTER takes was read by a wait of ours."
  (let ((n 0) (callers nil) frame)
    ;; Special forms of code that is not compiled are frames too.
    (while (and (< (length callers) 3)
                (setq frame (backtrace-frame (setq n (1+ n)) filter)))
      (when (car frame)
        (push (cadr frame) callers)))
    ;; The filter itself is the first.  Native code calls a primitive without a frame.
    (pcase (nreverse callers)
      ((or `(,_ dualstack-epc--calm-wait . ,_)
           `(,_ accept-process-output dualstack-epc--calm-wait))
       t))))

(provide 'dualstack-epc-calm)

;;; dualstack-epc-calm.el ends here
