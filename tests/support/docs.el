;;; docs.el --- Write the README's API reference  -*- lexical-binding: t; -*-

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

;; `make docs' puts the section "API reference" into README.org.  It is made
;; of the names, arguments and docstrings of the code: of each name that
;; lint-names.el takes for public, and of those that the Python package
;; exports, which docs.py prints.  A test compares.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'lint-names (expand-file-name "lint-names" (file-name-directory
                                                     (or load-file-name buffer-file-name))))

(defconst dualstack-docs--root
  (expand-file-name "../.." (file-name-directory (or load-file-name buffer-file-name)))
  "The repository's root.")

(defconst dualstack-docs--groups
  '(("Connecting" race address core view connect)
    ("The mode" mode)
    ("The diagnosis" diagnose)
    ("EPC" epc)
    ("The sidecar" sidecar))
  "Headings, and the layers of lint-names.el that are below each.")

(defconst dualstack-docs--begin
  "All that another package may use.  Whatever has =--= in its name may change at any time.  =C-h o= shows the rest of
what is said here; =make docs= writes this section from the code.\n"
  "How the section begins.")

;;;; What there is

(defun dualstack-docs--definitions ()
  "Return the public definitions, a list of (NAME FORM GROUP), by name.
NAME is a symbol, FORM its top-level form, GROUP a heading."
  (let (found)
    (dolist (file (directory-files (expand-file-name "lisp" dualstack-docs--root) t
                                   "\\`dualstack.*\\.el\\'"))
      (unless (string-match-p "-\\(?:autoloads\\|pkg\\)\\.el\\'" file)
        (let* ((layer (car (dualstack-lint-names--layer (file-name-base file))))
               (group (car (cl-find-if (lambda (group) (memq layer (cdr group)))
                                       dualstack-docs--groups))))
          (require (intern (file-name-base file)))
          (dolist (form (dualstack-lint-names--forms file))
            (dolist (name (dualstack-lint-names--defined form))
              (unless (string-match-p "--\\|-map\\'\\|-unload-function\\'" (symbol-name name))
                (push (list name form group) found)))))))
    (sort found (lambda (a b) (string< (car a) (car b))))))

(defun dualstack-docs--kind (form)
  "Return what the definition FORM defines: `option', `struct' or another symbol."
  (pcase (car form)
    ('defcustom 'option)
    ('cl-defstruct 'struct)
    ('define-error 'condition)
    ('defface 'face)
    ('defgroup 'group)
    ((or 'defvar 'defvar-local 'defconst) 'variable)
    (_ 'function)))

;;;; What is said of it

(defun dualstack-docs--first-line (text)
  "Return the first line of TEXT as Org, without its period."
  (let* ((text-quoting-style 'grave)
         (line (car (split-string (substitute-command-keys (or text "")) "\n"))))
    (setq line (replace-regexp-in-string "`\\([^']+\\)'" "=\\1=" line))
    (setq line (replace-regexp-in-string "\\*[a-z][a-z-]*\\*" "=\\&=" line))
    (string-remove-suffix "." (string-trim line))))

(defun dualstack-docs--arguments (form)
  "Return the arguments of the function that FORM defines as Org, or nothing."
  (let ((arguments (and (memq (car form) '(defun cl-defun defmacro cl-defmacro))
                        (remq '&allow-other-keys (nth 2 form)))))
    (if (null arguments)
        ""
      (format " =%s="
              (mapconcat (lambda (argument)
                           (let ((name (symbol-name (car (dualstack-docs--list argument)))))
                             (if (string-prefix-p "&" name) name
                               (upcase (string-remove-prefix "_" name)))))
                         arguments " ")))))

(defun dualstack-docs--list (object)
  "Return OBJECT if it is a list, or a list of it."
  (if (listp object) object (list object)))

(defun dualstack-docs--item (name form)
  "Return the item of the reference for NAME, which FORM defines."
  (pcase (dualstack-docs--kind form)
    ('condition
     (dualstack-docs--line name "" (concat "Error: " (get name 'error-message))))
    ('face (dualstack-docs--line name "" (concat "Face: " (dualstack-docs--first-line
                                                            (documentation-property
                                                             name 'face-documentation t)))))
    ('variable (dualstack-docs--line name "" (concat "Variable: "
                                                     (dualstack-docs--first-line
                                                      (documentation-property
                                                       name 'variable-documentation t)))))
    ('struct (dualstack-docs--struct name form))
    ('group nil)
    (_ (dualstack-docs--line name
                             (dualstack-docs--arguments form)
                             (concat (and (commandp name)
                                          (not (get name 'derived-mode-parent))
                                          "Command: ")
                                     (dualstack-docs--first-line (documentation name t)))))))

(defun dualstack-docs--line (name arguments text)
  "Return an item for NAME with ARGUMENTS and TEXT."
  (format "- =%s=%s :: %s.\n" name arguments text))

(defun dualstack-docs--struct (name form)
  "Return the item for the structure NAME, which FORM defines, if it is its own."
  (when (eq name (car (dualstack-docs--list (cadr form))))
    (let ((slots (remq name (seq-remove
                             (lambda (symbol) (string-match-p "--" (symbol-name symbol)))
                             (dualstack-lint-names--defined form)))))
      (dualstack-docs--line
       name ""
       (concat "Structure: " (dualstack-docs--first-line (car (seq-filter #'stringp form)))
               (if slots
                   (format ".  %s" (mapconcat (lambda (slot) (format "=%s=" slot)) slots ", "))
                 ""))))))

(defun dualstack-docs--options (definitions)
  "Return the table of those of DEFINITIONS that are options, with their defaults."
  (concat
   "** Options\n\nThe group =dualstack= has them: =M-x customize-group RET dualstack=.\n\n"
   "| Option | Default | Meaning |\n|-\n"
   (mapconcat
    (pcase-lambda (`(,name ,form . ,_))
      (format "| %s | %s | %s |\n" name
              (let ((default (format "%S" (nth 2 form))))
                (if (> (length default) 20) "see there"
                  (concat "=" (string-remove-prefix "'" default) "=")))
              (dualstack-docs--first-line
               (documentation-property name 'variable-documentation t))))
    definitions "")
   "\n"))

(defun dualstack-docs--python ()
  "Return the part about the Python package."
  (with-temp-buffer
    (let ((status (call-process (or (getenv "DUALSTACK_PYTHON") "python3") nil t nil
                                (expand-file-name "tests/support/docs.py"
                                                  dualstack-docs--root))))
      (unless (eq status 0)
        (error "The program docs.py failed: %s" (buffer-string)))
      (buffer-string))))

(defun dualstack-docs--section ()
  "Return the section, without its heading."
  (let* ((all (seq-uniq (dualstack-docs--definitions)
                        (lambda (a b)
                          (and (eq (car a) (car b))
                               (eq (dualstack-docs--kind (nth 1 a))
                                   (dualstack-docs--kind (nth 1 b)))))))
         (options (seq-filter (lambda (d) (eq 'option (dualstack-docs--kind (nth 1 d)))) all))
         (others (seq-difference all options)))
    (with-temp-buffer
      (require 'org)
      (insert dualstack-docs--begin "\n" (dualstack-docs--options options))
      (dolist (group (mapcar #'car dualstack-docs--groups))
        (insert "** " group "\n\n")
        (pcase-dolist (`(,name ,form ,where) others)
          (when (equal where group)
            (insert (or (dualstack-docs--item name form) ""))))
        (insert "\n"))
      (insert (dualstack-docs--python))
      (delay-mode-hooks (org-mode))
      (goto-char (point-min))
      (when (re-search-forward "^| Option" nil t)
        (org-table-align))
      (buffer-string))))

;;;; The README

(defun dualstack-docs--edges ()
  "Return the beginning and the end of the section in the current buffer."
  (goto-char (point-min))
  (re-search-forward "^\\* API reference\n\n")
  (list (point) (if (re-search-forward "^\\* " nil t) (match-beginning 0) (point-max))))

(defun dualstack-docs-current-p ()
  "Return non-nil if README.org has the section as the code has it."
  (with-temp-buffer
    (insert-file-contents (expand-file-name "README.org" dualstack-docs--root))
    (equal (string-trim (apply #'buffer-substring (dualstack-docs--edges)))
           (string-trim (dualstack-docs--section)))))

(defun dualstack-docs ()
  "Put the section into README.org."
  (let ((section (dualstack-docs--section))
        (coding-system-for-write 'utf-8-unix))
    (with-temp-file (expand-file-name "README.org" dualstack-docs--root)
      (insert-file-contents (expand-file-name "README.org" dualstack-docs--root))
      (apply #'delete-region (dualstack-docs--edges))
      (insert (string-trim section) "\n")
      (unless (eobp) (insert "\n")))))

(provide 'docs)

;;; docs.el ends here
