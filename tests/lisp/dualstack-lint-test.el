;;; dualstack-lint-test.el --- The check of names finds what it should  -*- lexical-binding: t; -*-

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

;; The check runs on a small package with one fault of each kind.

;;; Code:

(require 'dualstack-test-helper)
(load (expand-file-name "tests/support/lint-names" dualstack-test-root) nil t)
(declare-function dualstack-lint-names "../support/lint-names" ())

(defun dualstack-lint-test-run (readme &rest files)
  "Return the lines that the check prints for a package, sorted.
README is its documentation, FILES an alist of names and code."
  (let* ((directory (file-name-as-directory (make-temp-file "dualstack" t)))
         (default-directory directory))
    (unwind-protect
        (progn
          (make-directory "lisp")
          (write-region readme nil "README.org" nil 'silent)
          (pcase-dolist (`(,name . ,code) files)
            (write-region code nil (format "lisp/%s.el" name) nil 'silent))
          (sort (split-string (with-output-to-string (dualstack-lint-names)) "\n" t)
                #'string<))
      (delete-directory directory t))))

(dualstack-deftest dualstack-lint-names-of-every-kind ()
  "What is public must be documented, whatever defines it, and what is not, not."
  (should
   (equal
    (dualstack-lint-test-run
     "| dualstack-size | 1 |\n* API reference\n=dualstack-known=, =dualstack-gone=
* Other\n=dualstack-elsewhere=\n"
     '("dualstack" . "(defun dualstack-known ()) (defun dualstack-elsewhere ())
(defmacro dualstack--private ()) (defvar dualstack-of-another)
(defcustom dualstack-option nil nil) (defcustom dualstack-size 1 nil) (define-error 'dualstack-error \"\")
(cl-defstruct (dualstack-thing (:constructor dualstack--make) (:copier nil)) slot -hidden)
(define-derived-mode dualstack-list-mode special-mode \"\") (defvar dualstack-list-mode-map nil)"))
    '("README.org: there is no dualstack-gone"
      "dualstack.el: dualstack-elsewhere is public, and not in README.org's API reference"
      "dualstack.el: dualstack-error is public, and not in README.org's API reference"
      "dualstack.el: dualstack-list-mode is public, and not in README.org's API reference"
      "dualstack.el: dualstack-option is public, and not in README.org's API reference"
      "dualstack.el: dualstack-thing is public, and not in README.org's API reference"
      "dualstack.el: dualstack-thing-p is public, and not in README.org's API reference"
      "dualstack.el: dualstack-thing-slot is public, and not in README.org's API reference"))))

(dualstack-deftest dualstack-lint-names-of-others ()
  "What is private is used in its layer and above; files need what is below."
  (should
   (equal
    (dualstack-lint-test-run
     "* API reference\n"
     '("dualstack-race" . "(defun dualstack-race--run () (dualstack--note)) ; dualstack--log
(require 'dualstack) \"dualstack--log\"")
     '("dualstack" . "(require 'dualstack-race) (defun dualstack--note () (dualstack-race--run))
(defvar dualstack--log nil)")
     '("dualstack-sidecar-log" . "(defun dualstack-sidecar--x () (dualstack-race--run))")
     '("dualstack-sidecar" . "(defun dualstack-sidecar--y () (dualstack-sidecar--x))")
     '("dualstack-other" . "()"))
    '("dualstack-other.el: has no layer in lint-names.el"
      "dualstack-race.el: needs dualstack, which is not below it"
      "dualstack-race.el: uses dualstack--note, which is private to dualstack.el"
      "dualstack-sidecar-log.el: uses dualstack-race--run, which is private to dualstack-race.el"))))

(provide 'dualstack-lint-test)

;;; dualstack-lint-test.el ends here
