;;; first-block.el --- Try the README's first blocks  -*- lexical-binding: t; -*-

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

;; Run in an empty Emacs, `emacs -Q --batch -l first-block.el -f
;; dualstack-first-block', this evaluates the block of README.org's section
;; "Quick start" that suits this Emacs, and asserts what the section promises of
;; it.  Only the clone's place is this one's.

;;; Code:

(require 'cl-lib)

(defconst dualstack-first-block-root
  (expand-file-name "../../" (file-name-directory (or load-file-name buffer-file-name)))
  "The repository's root.")

(defun dualstack-first-block-forms (regexp)
  "Return the forms of the section \"Quick start\" in the first block matching REGEXP."
  (with-temp-buffer
    (insert-file-contents (expand-file-name "README.org" dualstack-first-block-root))
    (re-search-forward "^\\* Quick start$")
    (narrow-to-region (point) (save-excursion (re-search-forward "^\\* ") (point)))
    (let (forms)
      (while (and (not forms)
                  (re-search-forward "^#\\+begin_src emacs-lisp\n\\(\\(?:.*\n\\)*?\\)#\\+end_src"
                                     nil t))
        (let ((body (match-string 1)))
          (when (string-match-p regexp body)
            (setq forms (car (read-from-string
                              (format "(%s)"
                                      (replace-regexp-in-string
                                       "~/src/dualstack/"
                                       ;; As it is inside a string.
                                       (substring (prin1-to-string dualstack-first-block-root) 1 -1)
                                       body t t))))))))
      (or forms (error "The section \"Quick start\" has no block with %s" regexp)))))

(defun dualstack-first-block-commands ()
  "Return the commands of the Lisp files that have an autoload cookie."
  (let (commands)
    (dolist (file (directory-files (expand-file-name "lisp" dualstack-first-block-root)
                                   t "\\`dualstack.*\\.el\\'"))
      (unless (string-match-p "-\\(?:autoloads\\|pkg\\)\\.el\\'" file)
        (with-temp-buffer
          (insert-file-contents file)
          (while (re-search-forward "^;;;###autoload\n" nil t)
            (let ((form (read (current-buffer))))
              (when (or (eq (car form) 'define-minor-mode)
                        (and (memq (car form) '(defun cl-defun))
                             (assq 'interactive (cl-remove-if-not #'consp (nthcdr 3 form)))))
                (push (cadr form) commands)))))))
    commands))

(defun dualstack-first-block-check ()
  "Signal an error unless the mode is on, and every command can be typed."
  (unless (bound-and-true-p dualstack-mode)
    (error "The mode is off"))
  (unless (> (length (dualstack-first-block-commands)) 5)
    (error "There are no commands"))
  (dolist (command (dualstack-first-block-commands))
    (unless (commandp command)
      (error "%s cannot be typed" command))))

(defvar dualstack-python)
(declare-function dualstack-sidecar-start "dualstack-sidecar")
(declare-function dualstack-sidecar-stop "dualstack-sidecar")
(declare-function dualstack-sidecar-connection "dualstack-sidecar")
(declare-function dualstack-epc-call "dualstack-epc")

(defun dualstack-first-block-hello ()
  "Signal an error unless a sidecar says hello."
  (let ((sidecar (dualstack-sidecar-start :wait t)))
    (unless (equal (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'hello nil)
                   "hello")
      (error "It does not say hello"))
    (dualstack-sidecar-stop)))

(defun dualstack-first-block (&optional kind)
  "Try the block of KIND, a regexp, and end Emacs.
Without KIND it is the one for this Emacs: `use-package' where it is part of it."
  (let ((kind (or kind (if (locate-library "use-package") "(use-package" "(require 'dualstack)"))))
    (mapc (lambda (form) (eval form t)) (dualstack-first-block-forms kind))
    (dualstack-first-block-check)
    (dualstack-first-block-hello)
    (message "The block with %s works in Emacs %s" kind emacs-version)
    (kill-emacs 0)))

(provide 'first-block)

;;; first-block.el ends here
