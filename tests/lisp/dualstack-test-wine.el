;;; dualstack-test-wine.el --- What tests need under Wine  -*- lexical-binding: t; -*-

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

;; Where a pipe is full, Windows writes nothing and says ENOSPC, which Emacs takes for
;; EAGAIN: it waits, and writes again.  Wine writes nothing and says EINVAL.  A pipe there
;; takes 4096 bytes.

;;; Code:

(require 'cl-lib)

(defvar dualstack-test--unsent (make-hash-table :test #'eq :weakness 'key)
  "What is still to be written to children, lists of strings, by processes.")

(defun dualstack-test--note-unsent (process string)
  "Note that STRING is to be sent to PROCESS, in pieces that its pipe takes."
  (let ((size (if (= (string-bytes string) (length string)) 4000 1000)))
    (puthash process
             (append (gethash process dualstack-test--unsent)
                     (cl-loop for i from 0 below (length string) by size
                              collect (substring string i (min (length string) (+ i size)))))
             dualstack-test--unsent)))

(defun dualstack-test--send (send process string)
  "Send STRING to PROCESS by SEND; wait where its pipe is full, as on Windows.
What others send meanwhile comes behind."
  (if (not (and (processp process) (eq 'real (process-type process))))
      (funcall send process string)
    (dualstack-test--note-unsent process string)
    (let ((tries 0))
      (while (gethash process dualstack-test--unsent)
        (condition-case err
            (let ((signal-hook-function nil)) ; TRAMP has one, which makes it another error.
              (funcall send process (car (gethash process dualstack-test--unsent)))
              (pop (gethash process dualstack-test--unsent))
              (setq tries 0))
          (file-error
           (unless (and (equal (nth 2 err) "Invalid argument") (process-live-p process))
             (signal (car err) (cdr err)))
           (when (= 0 (% (cl-incf tries) 100)) ; A wait takes some 16 ms at least.
             (accept-process-output nil 0.001))))))))

(advice-add 'process-send-string :around #'dualstack-test--send)

(provide 'dualstack-test-wine)

;;; dualstack-test-wine.el ends here
