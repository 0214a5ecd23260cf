;;; dualstack-child.el --- End children of Emacs  -*- lexical-binding: t; -*-

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

;; A Windows Emacs that deletes a process waits until nobody can write to its
;; pipe any more: the process itself, or what it has started.  That may be for
;; ever, and `C-g' does not end it.  So there a child that runs is never deleted.
;; It is killed with what it has started, and Emacs then notes its end.

;;; Code:

(require 'cl-lib)

(defun dualstack-child--end (process)
  "End PROCESS, a child or a connection, without waiting for anything.
Where it is not deleted, its sentinel is called a moment later."
  (if (and (eq system-type 'windows-nt)
           (eq (process-type process) 'real)
           (process-live-p process))
      (dualstack-child--kill process)
    (delete-process process)))

(defun dualstack-child--drop (process)
  "End the child PROCESS, and hear nothing more of it."
  (set-process-sentinel process #'ignore)
  (set-process-filter process #'ignore)
  (set-process-buffer process nil)
  (dualstack-child--end process))

(defun dualstack-child--kill (process)
  "Kill the child PROCESS and what it has started, such as a shell's ssh.
One of them may start another program meanwhile, so they are looked for again
until there are no more."
  (let ((default-directory temporary-file-directory) ; Not the processes of another machine.
        (all nil)
        (killed nil)
        found)
    (while (progn
             (setq all (dualstack-child--more all)
                   found (cl-set-difference
                          (dualstack-child--family (process-id process) all) killed))
             (dolist (pid found)
               (ignore-errors (signal-process pid 'SIGKILL)))
             (setq killed (append found killed))
             found))))

(defun dualstack-child--more (all)
  "Return ALL, an alist of numbers and attributes, with the processes it lacks.
Those that have ended meanwhile stay in it, as parents of others."
  (dolist (pid (list-system-processes) all)
    (unless (assq pid all)
      (push (cons pid (process-attributes pid)) all))))

(defun dualstack-child--family (pid all)
  "Return PID after the numbers of what it has started, and they in turn.
ALL is an alist of numbers and attributes, of all processes.  On Windows the
parent of a process may have ended, and its number be that of another one by
now, which is younger than the child."
  (let ((found (list pid)))
    (dolist (parent found) ; It grows meanwhile.
      (let ((begun (alist-get 'start (alist-get parent all))))
        (pcase-dolist (`(,child . ,attributes) all)
          (when (and (eql parent (alist-get 'ppid attributes))
                     begun
                     (alist-get 'start attributes)
                     (not (time-less-p (alist-get 'start attributes) begun))
                     (not (memql child found)))
            (nconc found (list child))))))
    (nreverse found)))

(provide 'dualstack-child)

;;; dualstack-child.el ends here
