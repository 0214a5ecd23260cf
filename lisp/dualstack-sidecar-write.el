;;; dualstack-sidecar-write.el --- Write Lisp for Python functions  -*- lexical-binding: t; -*-

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

;; `dualstack-sidecar-write-functions' writes a file with a Lisp function for
;; each Python function of a declared sidecar.  That file is part of a package:
;; it compiles without warnings, and checkdoc has nothing to say of it, whatever
;; names and docstrings are in Python.

;;; Code:

(require 'checkdoc)
(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'dualstack-sidecar-define)

;;;###autoload
(defun dualstack-sidecar-write-functions (name &optional file)
  "Write Lisp functions for the Python functions of the declared sidecar NAME.
NAME is a symbol.  They go to FILE, by default NAME-functions.el beside the
declaration, with autoload cookies, arguments and docstrings.  Return FILE.
The sidecar is started if it does not run."
  (interactive (list (dualstack-sidecar-write--read "Write functions of sidecar: ")))
  (let* ((file (or file (dualstack-sidecar-define--functions-file name)))
         (sidecar (dualstack-sidecar-define--start name :wait t))
         (methods (dualstack-sidecar-write--own-methods
                   name (dualstack-epc-methods (dualstack-sidecar-connection sidecar)))))
    (with-temp-file file
      (setq buffer-file-coding-system 'utf-8-unix)
      (dualstack-sidecar-write--insert name methods))
    (message "Wrote %d functions to %s" (length methods) (abbreviate-file-name file))
    file))

(defun dualstack-sidecar-write--read (prompt)
  "Ask for the name of a declared sidecar with PROMPT; return it, a symbol.
If there is one only, do not ask."
  (let ((names (mapcar #'car dualstack-sidecar-define--sidecars)))
    (cond ((null names)
           (user-error "No sidecar is declared: load a file with `dualstack-define-sidecar'"))
          ((null (cdr names)) (car names))
          (t (intern (completing-read prompt (mapcar #'symbol-name names) nil t))))))

(defun dualstack-sidecar-write--own-methods (name methods)
  "Return those of METHODS that are functions of the sidecar NAME's modules.
Each has two names if there are underscores in it, of which one is left out,
and so is what would hide a function of the declaration."
  (let (found)
    (dolist (method methods (nreverse found))
      (let ((lisp (dualstack-sidecar-write--lisp-name (car method))))
        (cond ((or (memq (car method) '(hello stop))
                   ;; A lambda has no name of its own.
                   (string-match-p "[<>.]" (symbol-name (car method)))
                   (assq (intern (replace-regexp-in-string "-" "_" (symbol-name (car method)))) found)))
              ((memq lisp '(sidecar call call-async sidecar-python sidecar-restart sidecar-log))
               (display-warning
                'dualstack (format "The Python function %s gets no Lisp function: %s-%s is another"
                                   (car method) name lisp)))
              (t (push method found)))))))

(defun dualstack-sidecar-write--lisp-name (symbol)
  "Return SYMBOL, a name in Python, as one in Lisp."
  (intern (replace-regexp-in-string "_" "-" (symbol-name symbol))))

(defun dualstack-sidecar-write--insert (name methods)
  "Insert the text of a file with the functions of the sidecar NAME, METHODS."
  (insert (format ";;; %s-functions.el --- Python functions of %s  " name name)
          "-*- lexical-binding: t; byte-compile-warnings: (not docstrings) -*-\n\n"
          ";;; Commentary:\n\n;; This file was written by `dualstack-sidecar-write-functions'.\n\n"
          ";;; Code:\n\n"
          (format "(autoload '%s-call %S)\n" name (symbol-name name))
          "(autoload 'dualstack-sidecar-optional \"dualstack-sidecar-define\")\n")
  (dolist (method methods)
    (apply #'dualstack-sidecar-write--insert-function name method))
  (insert (format "\n(provide '%s-functions)\n\n;;; %s-functions.el ends here\n" name name)))

(defun dualstack-sidecar-write--insert-function (name method arguments documentation)
  "Insert the function of the sidecar NAME for METHOD.
ARGUMENTS and DOCUMENTATION are those of the Python function."
  (let* ((arguments (dualstack-sidecar-write--arguments arguments))
         (rest (cadr (memq '&rest arguments)))
         (positional (seq-take-while (lambda (each) (not (eq each '&rest))) arguments))
         (needed (seq-take-while (lambda (each) (not (eq each '&optional))) positional))
         (optional (cdr (memq '&optional positional)))
         (call (format "%s-call" name))
         (more `(,@(mapcar #'symbol-name needed)
                 ,@(and (or optional rest)
                        (list (format "(dualstack-sidecar-optional (list%s) %s)"
                                      (mapconcat (lambda (each) (format " %s" each)) optional "")
                                      rest))))))
    (insert (format "\n;;;###autoload\n(defun %s-%s %s\n  " name
                    (dualstack-sidecar-write--lisp-name method) (or arguments "()"))
            (dualstack-sidecar-write--doc method arguments documentation)
            (format "\n  (%s%s '%s%s))\n" (if (or optional rest) "apply #'" "") call method
                    (mapconcat (lambda (each) (concat " " each)) more "")))))

;;;; Arguments

(defun dualstack-sidecar-write--arguments (arguments)
  "Return ARGUMENTS, a list of Python's names, with names for Lisp.
None is that of a constant or of a variable that all of Emacs uses."
  (let (found)
    (dolist (symbol arguments (nreverse found))
      (let ((name (if (memq symbol '(&optional &rest))
                      symbol
                    (intern (string-trim (symbol-name (dualstack-sidecar-write--lisp-name symbol))
                                         "-+" "-+")))))
        (while (or (memq name found) (memq name '(t nil ##)) (special-variable-p name))
          (setq name (intern (format "%s-value" (if (eq name '##) "any" name)))))
        (push name found)))))

;;;; Docstrings

(defun dualstack-sidecar-write--doc (method arguments documentation)
  "Return the docstring of the function for METHOD, as it is written in Lisp.
ARGUMENTS are those in Lisp, DOCUMENTATION that of the Python function, or nil."
  (let* ((text (dualstack-sidecar-write--begin
                method (dualstack-sidecar-write--clean (or documentation ""))))
         (missing (dualstack-sidecar-write--missing arguments text)))
    (dualstack-sidecar-write--quote
     (dualstack-sidecar-write--fill
      (if missing
          (format "%s\n\nArgument%s: %s." text (if (cdr missing) "s" "")
                  (mapconcat #'identity missing ", "))
        text)))))

(defun dualstack-sidecar-write--begin (method text)
  "Return TEXT, the documentation of METHOD, with a first line as Lisp wants it."
  (let* ((lines (split-string text "\n"))
         (first (concat (capitalize (substring (car lines) 0 (min 1 (length (car lines)))))
                        (substring (car lines) (min 1 (length (car lines))))
                        (if (string-match-p "[.!?]\\'" (car lines)) "" "."))))
    (if (and (member (cadr lines) '(nil "")) (dualstack-sidecar-write--sentence-p first))
        (mapconcat #'identity (cons first (cdr lines)) "\n")
      (string-trim-right (format "Call the Python function `%s'.\n\n%s" method text)))))

(defun dualstack-sidecar-write--missing (arguments text)
  "Return those of ARGUMENTS that TEXT does not name, in capitals."
  (let ((case-fold-search nil))
    (seq-remove (lambda (name)
                  (string-match-p (format "\\<%s\\>" (regexp-quote name)) text))
                (mapcar (lambda (symbol) (upcase (symbol-name symbol)))
                        (seq-remove (lambda (symbol) (memq symbol '(&optional &rest)))
                                    arguments)))))

(defun dualstack-sidecar-write--sentence-p (line)
  "Return non-nil if checkdoc takes LINE for the first one of a docstring."
  (let ((case-fold-search nil))
    (and (string-match-p "\\`[[:upper:]].*[.!?]\\'" line)
         (< (string-width line) 78)
         (not (seq-some (lambda (word)
                          (assoc (downcase word) checkdoc-common-verbs-wrong-voice))
                        (split-string line "[^[:alpha:]]+" t))))))

(defun dualstack-sidecar-write--clean (text)
  "Return TEXT, of a Python docstring, without what no docstring should have.
That is control characters, space at the ends of lines and single spaces after
sentences."
  (let ((case-fold-search nil))
    (seq-reduce (lambda (text change)
                  (replace-regexp-in-string (car change) (cdr change) text))
                '(("[\0-\x08\x0b-\x1f\x7f]" . "") ("\t" . "        ") ("[ ]+$" . "")
                  ("\\([^ .0-9]\\)\\. \\([^ \n]\\)" . "\\1.  \\2")
                  ("\n\n\n+" . "\n\n") ("\\`\n+\\|\n+\\'" . ""))
                text)))

(defun dualstack-sidecar-write--fill (text)
  "Return TEXT with lines that are too wide broken, and indented as they are."
  (with-temp-buffer
    (insert text)
    (goto-char (point-min))
    (while (not (eobp))
      (let ((fill-column 72)
            (fill-prefix (progn (looking-at " *") (match-string 0)))
            (end (copy-marker (line-end-position))))
        (when (> (string-width (buffer-substring (point) end)) 76)
          (fill-region-as-paragraph (point) end nil t))
        (goto-char end)
        (forward-line)))
    (string-trim-right (buffer-string))))

(defun dualstack-sidecar-write--quote (text)
  "Return TEXT as a string in Lisp, for a docstring that has it unchanged.
What begins a line with an opening parenthesis looks like a definition."
  (let ((print-escape-newlines nil) (print-escape-control-characters nil))
    (prin1-to-string
     (replace-regexp-in-string
      "\n(" "\n\\\\=("
      (replace-regexp-in-string "\\\\[][{<=]" "\\\\=\\&" text)))))

(provide 'dualstack-sidecar-write)

;;; dualstack-sidecar-write.el ends here
