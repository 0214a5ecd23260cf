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

(require 'dualstack)

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

(defun dualstack-bench-quit (file presses cases)
  "Be quit PRESSES times in each of CASES, and tell FILE of it.
A case is a list (NAME PORT FAMILY), FAMILY being that which is remembered.
With port 0 Emacs only waits, for comparison."
  (pcase-dolist (`(,name ,port ,family) cases)
    (dotimes (_ presses)
      (condition-case nil
          (progn
            (dualstack-bench-quit--say file "ready %s" name)
            (while t
              (dualstack-memory--remember port family)
              (if (= port 0)
                  (accept-process-output nil 10)
                (dualstack-bench-quit--connect port))))
        (quit
         (dualstack-bench-quit--say file "quit %.6f" (float-time))))))
  (dualstack-bench-quit--say file "end %d" (length (process-list)))
  (kill-emacs 0))

(provide 'bench-quit)

;;; bench-quit.el ends here
