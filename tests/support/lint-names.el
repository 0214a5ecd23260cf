;;; lint-names.el --- Check who uses which names  -*- lexical-binding: t; -*-

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

;; What another package may use has no "--" in its name, and stands in the
;; section "API reference" of README.org.  Everything else has, and is used in
;; its own layer and in those that `dualstack-lint-names--layers' puts above.
;; Files need only what is in their layer or below it.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)

(defconst dualstack-lint-names--layers
  '((race "race" "alone" "attempt")
    (address "address" "memory")
    (core "" "stream" "server" "async" "nowait" "tls" (address race))
    (child "child")
    (view "view" (core))
    (connect "connect" (view core address))
    (mode "mode" "mode-*" (view core address race))
    (diagnose "diagnose" "diagnose-*" (connect view mode core address race))
    (epc "epc" "epc-*" (core address child))
    (sidecar "sidecar" "sidecar-*" (view epc core child)))
  "Layers, each with its files and the layers that it may need.
A file's name is what follows \"dualstack-\"; one that ends in * stands for many.")

(defun dualstack-lint-names--layer (file)
  "Return the element of `dualstack-lint-names--layers' for FILE, or nil."
  (let ((name (if (string= file "dualstack") "" (string-remove-prefix "dualstack-" file))))
    (cl-find-if (lambda (layer)
                  (cl-some (lambda (pattern)
                             (and (stringp pattern)
                                  (string-match-p (concat "\\`" (dualstack-lint-names--regexp pattern)
                                                          "\\'")
                                                  name)))
                           (cdr layer)))
                dualstack-lint-names--layers)))

(defun dualstack-lint-names--regexp (pattern)
  "Return PATTERN as a regular expression."
  (replace-regexp-in-string "\\*" ".*" pattern t t))

(defun dualstack-lint-names--below (file)
  "Return the layers that FILE may need, its own first."
  (let ((layer (dualstack-lint-names--layer file)))
    (cons (car layer) (car (seq-filter #'consp (cdr layer))))))

;;;; What is defined

(defun dualstack-lint-names--defined (form)
  "Return the symbols that the top-level FORM defines."
  (pcase form
    (`(,(or 'defun 'cl-defun 'defmacro 'cl-defmacro 'defsubst 'cl-defsubst 'define-inline
            'defconst 'defcustom 'defface 'defgroup 'define-minor-mode 'define-derived-mode
            'define-globalized-minor-mode 'cl-defgeneric 'defvar-local)
       ,(and name (pred symbolp)) . ,_)
     (list name))
    ;; Without a value it says only that the variable is another's.
    (`(defvar ,name ,_ . ,_) (list name))
    (`(,(or 'define-error 'defalias) (quote ,name) . ,_) (list name))
    (`(cl-defstruct ,head . ,slots) (dualstack-lint-names--of-struct head slots))))

(defun dualstack-lint-names--of-struct (head slots)
  "Return the symbols that a structure of HEAD and SLOTS defines."
  (let* ((name (if (consp head) (car head) head))
         (options (and (consp head) (seq-filter #'consp (cdr head))))
         (prefix (format "%s" (or (cadr (assq :conc-name options)) (format "%s-" name)))))
    (append
     ;; A type whose parts are private is, too.
     (unless (string-match-p "--" prefix) (list name))
     (mapcar (lambda (option) (cadr option))
             (seq-filter (lambda (option)
                           (and (memq (car option) '(:constructor :copier :predicate))
                                (cadr option)))
                         options))
     (unless (assq :predicate options)
       (list (intern (format (if (string-match-p "-" (symbol-name name)) "%s-p" "%sp") name))))
     (unless (assq :constructor options) (list (intern (format "make-%s" name))))
     (unless (assq :copier options) (list (intern (format "copy-%s" name))))
     (mapcar (lambda (slot) (intern (format "%s%s" prefix (if (consp slot) (car slot) slot))))
             (seq-remove #'stringp slots)))))

(defun dualstack-lint-names--forms (file)
  "Return the top-level forms of FILE."
  (with-temp-buffer
    (insert-file-contents file)
    (let (forms form)
      (while (setq form (condition-case nil (read (current-buffer)) (end-of-file nil)))
        (push form forms))
      (nreverse forms))))

;;;; What is used

(defun dualstack-lint-names--symbols (file)
  "Return the names that begin with dualstack- in FILE's code, as strings.
Those in comments and strings do not count."
  (with-temp-buffer
    (insert-file-contents file)
    (emacs-lisp-mode)
    (let (found)
      (while (re-search-forward "\\_<dualstack-[^][ \n\t()\"';`,|?]*" nil t)
        (unless (or (nth 3 (syntax-ppss)) (nth 4 (syntax-ppss)))
          (push (match-string-no-properties 0) found)))
      (delete-dups found))))

(defun dualstack-lint-names--documented ()
  "Return the names that README.org documents, as strings.
They stand in the section \"API reference\", and options at the beginning of
a table's row."
  (with-temp-buffer
    (insert-file-contents "README.org")
    (let ((case-fold-search nil) found)
      (while (re-search-forward "^| \\(dualstack-[a-z0-9-]+\\) +|" nil t)
        (push (match-string 1) found))
      (goto-char (point-min))
      (when (re-search-forward "^\\* API reference$" nil t)
        (let ((end (save-excursion (or (re-search-forward "^\\* " nil t) (point-max)))))
          (while (re-search-forward "[=~]\\(dualstack[a-z0-9-]*\\)[=~]" end t)
            (push (match-string 1) found))))
      found)))

;;;; The check

(defun dualstack-lint-names ()
  "Print which names are used, needed or kept silent about, and should not be."
  (let ((files (directory-files "lisp" t "\\`dualstack.*\\.el\\'"))
        (documented (dualstack-lint-names--documented))
        (owners (make-hash-table :test #'equal)))
    (dolist (file files)
      (dolist (name (mapcan #'dualstack-lint-names--defined (dualstack-lint-names--forms file)))
        ;; The keymap of a mode is known by the mode, and Emacs calls by its name
        ;; what unloads a file.
        (unless (string-match-p "-\\(?:mode-map\\|unload-function\\)\\'"
                                (symbol-name name))
          (puthash (symbol-name name) (file-name-base file) owners))))
    (maphash (lambda (name owner)
               (unless (or (string-match-p "--" name) (member name documented))
                 (princ (format "%s.el: %s is public, and not in README.org's API reference\n"
                                owner name))))
             owners)
    (dolist (name documented)
      (unless (or (gethash name owners) (file-exists-p (format "lisp/%s.el" name)))
        (princ (format "README.org: there is no %s\n" name))))
    (dolist (file files)
      (dualstack-lint-names--check-uses file owners)
      (dualstack-lint-names--check-needs file))))

(defun dualstack-lint-names--check-uses (file owners)
  "Print which private names of others FILE uses; OWNERS are the files of all names."
  (let* ((base (file-name-base file))
         (below (dualstack-lint-names--below base)))
    (dolist (name (dualstack-lint-names--symbols file))
      (let ((owner (gethash name owners)))
        (when (and owner (string-match-p "--" name)
                   (not (memq (car (dualstack-lint-names--layer owner)) below)))
          (princ (format "%s.el: uses %s, which is private to %s.el\n" base name owner)))))))

(defun dualstack-lint-names--check-needs (file)
  "Print which files FILE requires that are not in its layer or below it."
  (let* ((base (file-name-base file))
         (below (dualstack-lint-names--below base)))
    (unless (car below)
      (princ (format "%s.el: has no layer in lint-names.el\n" base)))
    (with-temp-buffer
      (insert-file-contents file)
      (while (re-search-forward "(require '\\(dualstack[^) ]*\\)" nil t)
        (unless (memq (car (dualstack-lint-names--layer (match-string 1))) below)
          (princ (format "%s.el: needs %s, which is not below it\n" base (match-string 1))))))))

(provide 'lint-names)

;;; lint-names.el ends here
