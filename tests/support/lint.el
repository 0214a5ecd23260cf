;;; lint.el --- Run the linters for Lisp in batch  -*- lexical-binding: t; -*-

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

;; Each function prints what it finds, and nothing if it finds nothing.

;;; Code:

(require 'subr-x)

(defconst dualstack-lint--cache
  (expand-file-name "../../.cache/lint/usr/share/emacs/site-lisp/"
                    (file-name-directory (or load-file-name buffer-file-name)))
  "Where lint.sh has unpacked Debian's packages.")

(defun dualstack-lint--load-path ()
  "Make the packages in the cache loadable."
  ;; The clone's name may have brackets, which wildcards do not allow.
  (dolist (place (directory-files dualstack-lint--cache t "\\`elpa"))
    (dolist (directory (directory-files place t "\\`[^.]"))
      (when (file-directory-p directory)
        (push directory load-path)))))

(defun dualstack-lint-checkdoc ()
  "Print what checkdoc says of the files on the command line."
  (require 'checkdoc)
  (while command-line-args-left
    (with-current-buffer (find-file-noselect (pop command-line-args-left))
      (let ((checkdoc-create-error-function
             (lambda (text start _end &optional _unfixable)
               ;; Emacs 28 leaves the width to its compiler, and counts otherwise.
               (unless (string-match-p "over 80 columns" text)
                 (princ (format "%s:%d: %s\n" (file-name-nondirectory buffer-file-name)
                                (if start (line-number-at-pos start) 0) text)))
               nil)))
        (checkdoc-current-buffer t)))))

(defun dualstack-lint-declare ()
  "Print what `check-declare-directory' finds in lisp."
  (require 'check-declare)
  (let ((inhibit-message t))
    (check-declare-directory (expand-file-name "lisp")))
  (when (get-buffer "*Check Declarations Warnings*")
    (princ (string-trim (with-current-buffer "*Check Declarations Warnings*"
                          (buffer-string))
                        "[ \t\n\f]+"))))

(defun dualstack-lint--calls (form function)
  "Return all calls of FUNCTION in FORM."
  (let (calls)
    (while (consp form)
      (setq calls (nconc calls (dualstack-lint--calls (car form) function)))
      (setq form (cdr form))
      (when (and (consp form) (eq (car-safe (car form)) function))
        (push (car form) calls)))
    calls))

(defun dualstack-lint-service ()
  "Print the calls in files on the command line that Emacs 30 does not compile.
It wants :service in every `make-network-process', and does not say where."
  (while command-line-args-left
    (let ((file (pop command-line-args-left)))
      (with-temp-buffer
        (insert-file-contents file)
        (condition-case nil
            (while t
              (dolist (call (dualstack-lint--calls (list nil (read (current-buffer)))
                                                   'make-network-process))
                (when (and (keywordp (cadr call))
                           (not (memq :service call)))
                  (princ (format "%s: no :service in %S\n" file call)))))
          (end-of-file nil))))))

(defvar package-lint-main-file)
(declare-function package-lint-buffer "ext:package-lint" (&optional buffer))

(defun dualstack-lint-package ()
  "Print what package-lint says of the files on the command line."
  (dualstack-lint--load-path)
  (require 'package-lint)
  (setq package-lint-main-file (expand-file-name "lisp/dualstack.el"))
  (while command-line-args-left
    (let ((file (pop command-line-args-left)))
      (with-current-buffer (find-file-noselect file)
        (pcase-dolist (`(,line ,column ,type ,message) (package-lint-buffer))
          (princ (format "%s:%d:%d: %s: %s\n" file line column type message)))))))

(declare-function relint-file "ext:relint" (file))
(declare-function relint-buffer "ext:relint" (buffer))

(defun dualstack-lint-relint ()
  "Print what relint says of the Lisp below the directories on the command line."
  (dualstack-lint--load-path)
  (require 'relint)
  (while command-line-args-left
    (dolist (file (directory-files-recursively (pop command-line-args-left) "\\.el\\'"))
      (with-current-buffer (find-file-noselect file)
        (dolist (found (relint-buffer (current-buffer)))
          (princ (format "%s: %S\n" file found)))))))

(provide 'lint)

;;; lint.el ends here
