;;; bench-quit.el --- Connect until a key quits that  -*- lexical-binding: t; -*-

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

;; Run by bench_quit.py in a terminal of its own: connects again and again
;; until C-g is typed, and notes when that had its effect.

;;; Code:

(require 'cl-lib)
(require 'dualstack)
(require 'dualstack-epc)

(defconst dualstack-bench-quit--calls 10000
  "Calls that are under way while one is quit.")

(defvar dualstack-bench-quit--connection nil
  "A connection with calls under way, or nil.")

(defun dualstack-bench-quit--say (file format &rest args)
  "Append to FILE the line that FORMAT makes of ARGS."
  (write-region (concat (apply #'format format args) "\n") nil file t 'silent))

(defun dualstack-bench-quit--connect (port)
  "Connect to PORT and close that, or be quit.
A quit between the two would leave a process behind."
  (let* ((inhibit-quit t)
         (process (with-local-quit
                    (condition-case nil
                        (dualstack-make-network-process
                         :name "bench" :host "localhost" :service port
                         :sentinel #'ignore)
                      (file-error nil)))))
    (when process
      (delete-process process))))

(defun dualstack-bench-quit--load (port)
  "Have calls of 100 KB under way to the server at PORT."
  (unless dualstack-bench-quit--connection
    (let ((text (make-string 100000 ?x))
          (connection (dualstack-epc-connect "127.0.0.1" port)))
      (dotimes (i dualstack-bench-quit--calls)
        (dualstack-epc-call-async connection 'slow (list i text) :timeout nil))
      (setq dualstack-bench-quit--connection connection))))

(defun dualstack-bench-quit--step (port how)
  "Do at PORT what a press of C-g is to end; HOW is as in `dualstack-bench-quit'."
  (cond ((= port 0) (accept-process-output nil 10))
        ((eq how 'load)
         (dualstack-epc-call dualstack-bench-quit--connection 'slow '(0 "")))
        (t
         (dualstack-memory--remember port how)
         (dualstack-bench-quit--connect port))))

(defun dualstack-bench-quit (file presses cases)
  "Be quit PRESSES times in each of CASES, and tell FILE of it.
A case is a list (NAME PORT HOW).  HOW is the family that is remembered when
Emacs connects there, or `load': then it waits for a call to there, behind
many.  With port 0 Emacs only waits, for comparison."
  (pcase-dolist (`(,name ,port ,how) cases)
    (when (eq how 'load)
      (dualstack-bench-quit--load port))
    (dotimes (_ presses)
      (condition-case nil
          (progn
            (dualstack-bench-quit--say file "ready %s" name)
            (while t
              (dualstack-bench-quit--step port how)))
        (quit
         (dualstack-bench-quit--say file "quit %.6f" (float-time))))))
  (when dualstack-bench-quit--connection
    (dualstack-epc-close dualstack-bench-quit--connection))
  ;; Emacs may be compiling to machine code meanwhile, in processes that are no matter here.
  (dualstack-bench-quit--say file "end %d"
                             (cl-count 'network (process-list) :key #'process-type))
  (kill-emacs 0))

(provide 'bench-quit)

;;; bench-quit.el ends here
