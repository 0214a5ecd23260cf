;;; dualstack-sidecar-define.el --- Declare a sidecar  -*- lexical-binding: t; -*-

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

;; `dualstack-define-sidecar' defines the functions and options with which a
;; package uses a sidecar of its own.  `dualstack-sidecar-write-functions'
;; writes a file with a Lisp function for each of its Python functions.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack-sidecar)

(defvar dualstack-sidecar-define--sidecars nil
  "Sidecars that were declared, an alist of names and plists.
A plist has what `dualstack-sidecar-start' takes, and `:directory', that of the
file with the declaration.")

;;;###autoload
(defmacro dualstack-define-sidecar (name docstring &rest keys)
  "Define functions and options for the sidecar NAME, a symbol.
DOCSTRING says what it is for.  KEYS are keywords and values as
`dualstack-sidecar-start' takes them, such as `:methods', `:requirements' and
`:restart'.  `:module' or `:modules' are files beside this one, or names of
modules.  These are defined:

NAME-sidecar returns the sidecar, which is started if it does not run.
NAME-call METHOD ARG... calls a Python function and returns its value.
NAME-call-async METHOD ARGS &key THEN ELSE TIMEOUT PROGRESS does not wait.
NAME-sidecar-python, NAME-sidecar-restart and NAME-sidecar-log are options.

With `:functions' t the file NAME-functions.el beside this one is loaded,
too, if it exists; `dualstack-sidecar-write-functions' writes it."
  (declare (indent 1) (doc-string 2))
  (unless (and (symbolp name) (stringp docstring))
    (error "A sidecar has a name, a symbol, and a docstring"))
  (let ((functions (plist-get keys :functions))
        (defined (dualstack-sidecar-define--name name "sidecar")))
    `(progn
       (dualstack-sidecar-define--register
        ',name (or load-file-name buffer-file-name default-directory)
        ,@(dualstack-sidecar-define--without keys :functions))
       ,@(dualstack-sidecar-define--options name docstring (plist-get keys :restart))
       (defun ,defined ()
         ,(dualstack-sidecar-define--docstring
           docstring "\n\nReturn this sidecar, which is started if it does not run.
Signal `dualstack-sidecar-error' if it does not start.")
         (dualstack-sidecar-define--start ',name :wait t))
       ,@(dualstack-sidecar-define--calls name)
       ,@(and functions
              (list `(dualstack-sidecar-define--load-functions ',name)))
       ',defined)))

(defun dualstack-sidecar-define--docstring (&rest parts)
  "Return the concatenation of PARTS, the docstring of a definition."
  (apply #'concat parts))

(defun dualstack-sidecar-define--name (name suffix)
  "Return the symbol of NAME, a dash and SUFFIX."
  (intern (format "%s-%s" name suffix)))

(defun dualstack-sidecar-define--without (plist &rest keys)
  "Return a copy of PLIST without KEYS."
  (cl-loop for (key value) on plist by #'cddr
           unless (memq key keys) append (list key value)))

(defun dualstack-sidecar-define--options (name docstring restart)
  "Return forms that define the options of the sidecar NAME.
DOCSTRING is that of the sidecar, RESTART a form, the default of its option."
  (let ((group (dualstack-sidecar-define--name name "sidecar")))
    `((defgroup ,group nil ,docstring :group 'dualstack)
      (defcustom ,(dualstack-sidecar-define--name name "sidecar-python") nil
        ,(format "The Python that runs the sidecar %s, or nil.
Nil means one with the packages that it needs, which is found or made." name)
        :type '(choice (const :tag "Found or made" nil) file)
        :group ',group)
      (defcustom ,(dualstack-sidecar-define--name name "sidecar-restart") ,restart
        ,(format "Whether the sidecar %s starts again after a crash." name)
        :type 'boolean
        :group ',group)
      (defcustom ,(dualstack-sidecar-define--name name "sidecar-log") nil
        ,(format "A file for what the sidecar %s logs, or nil.
The buffer *dualstack-sidecar %s* has the end of that in any case." name name)
        :type '(choice (const :tag "Only in the buffer" nil) file)
        :group ',group))))

(defun dualstack-sidecar-define--calls (name)
  "Return forms that define the functions which call the sidecar NAME."
  `((defun ,(dualstack-sidecar-define--name name "call") (method &rest args)
      ,(dualstack-sidecar-define--docstring
        "Call the Python function METHOD, a symbol, with ARGS; return its value.
The sidecar is started if it does not run.  Signal an error as
`dualstack-epc-call' or `dualstack-sidecar-start' does.")
      (dualstack-epc-call (dualstack-sidecar-connection
                           (dualstack-sidecar-define--start ',name :wait t))
                          method args))
    (cl-defun ,(dualstack-sidecar-define--name name "call-async")
        (method args &rest keys &key then else timeout progress)
      ,(dualstack-sidecar-define--docstring
        "Call the Python function METHOD, a symbol, with the list ARGS.
Return at once; the sidecar is started if it does not run.  THEN, ELSE, TIMEOUT
and PROGRESS are as for `dualstack-epc-call-async', in KEYS.  The value is a
function of no arguments, which cancels the call.

\(fn METHOD ARGS &key THEN ELSE TIMEOUT PROGRESS)")
      (ignore then timeout progress)
      (dualstack-sidecar-define--call-async ',name method args else keys))))

;;;; What these do

(defun dualstack-sidecar-define--register (name file &rest keys)
  "Note that the sidecar NAME is declared in FILE with KEYS."
  (setf (alist-get name dualstack-sidecar-define--sidecars)
        (append (list :directory (file-name-directory (expand-file-name file))) keys)))

(defun dualstack-sidecar-define--start (name &rest more)
  "Start the declared sidecar NAME, if it does not run, and return it.
MORE is for `dualstack-sidecar-start'."
  (let* ((keys (or (alist-get name dualstack-sidecar-define--sidecars)
                   (dualstack-sidecar--error "No sidecar %s is declared" name)))
         (option (lambda (suffix)
                   (symbol-value (dualstack-sidecar-define--name name suffix))))
         (python (funcall option "sidecar-python")))
    (apply #'dualstack-sidecar-start
           :name (symbol-name name)
           :modules (dualstack-sidecar-define--modules keys)
           :restart (funcall option "sidecar-restart")
           :log-file (funcall option "sidecar-log")
           (append (and python (list :python python))
                   (dualstack-sidecar-define--without keys :directory :module :modules :restart)
                   more))))

(defun dualstack-sidecar-define--modules (keys)
  "Return the modules in KEYS, those of files with full names."
  (let ((directory (plist-get keys :directory))
        (modules (or (plist-get keys :modules)
                     (and (plist-get keys :module) (list (plist-get keys :module))))))
    (mapcar (lambda (module)
              (if (string-suffix-p ".py" module)
                  (dualstack-sidecar-define--beside module directory)
                module))
            modules)))

(defun dualstack-sidecar-define--beside (file directory)
  "Return FILE, a name below DIRECTORY, in full.
Package managers link Lisp files: it may be beside what a link points to."
  (or (seq-find #'file-exists-p
                (mapcar (lambda (link) (expand-file-name file (file-name-directory link)))
                        (cons directory
                              (mapcar #'file-truename
                                      (and (file-directory-p directory)
                                           (directory-files directory t "\\.el\\'"))))))
      (expand-file-name file directory)))

(defun dualstack-sidecar-define--call-async (name method args else keys)
  "Call METHOD with ARGS in the declared sidecar NAME, and start that if necessary.
KEYS, with ELSE, are for `dualstack-epc-call-async'.  Return what cancels that."
  (let* ((over nil)
         (cancel (lambda () (setq over t))))
    (dualstack-sidecar-define--start
     name
     :then (lambda (sidecar)
             (unless over
               (condition-case err
                   (let* ((connection (dualstack-sidecar-connection sidecar))
                          (handle (apply #'dualstack-epc-call-async
                                         connection method args keys)))
                     (setq cancel (lambda () (dualstack-epc-cancel connection handle))))
                 (dualstack-epc-error
                  (when else
                    (funcall else err))))))
     :else (lambda (err)
             (unless (or over (null else))
               (funcall else err))))
    (lambda () (funcall cancel))))

(defun dualstack-sidecar-define--load-functions (name)
  "Load the file with the functions of the sidecar NAME, if it exists."
  (require (dualstack-sidecar-define--name name "functions")
           (file-name-sans-extension (dualstack-sidecar-define--functions-file name))
           t))

(defun dualstack-sidecar-define--functions-file (name)
  "Return the file for the functions of the declared sidecar NAME."
  (expand-file-name (format "%s-functions.el" name)
                    (plist-get (alist-get name dualstack-sidecar-define--sidecars) :directory)))

;;;; Writing functions

;;;###autoload
(defun dualstack-sidecar-write-functions (name &optional file)
  "Write Lisp functions for the Python functions of the declared sidecar NAME.
NAME is a symbol.  They go to FILE, by default NAME-functions.el beside the
declaration, with autoload cookies, arguments and docstrings.  Return FILE.
The sidecar is started if it does not run."
  (interactive (list (dualstack-sidecar-define--read "Write functions of sidecar: ")))
  (let* ((file (or file (dualstack-sidecar-define--functions-file name)))
         (sidecar (dualstack-sidecar-define--start name :wait t))
         (methods (dualstack-sidecar-define--own-methods
                   name (dualstack-epc-methods (dualstack-sidecar-connection sidecar)))))
    (with-temp-file file
      (setq buffer-file-coding-system 'utf-8-unix)
      (dualstack-sidecar-define--insert name methods))
    (message "Wrote %d functions to %s" (length methods) (abbreviate-file-name file))
    file))

(defun dualstack-sidecar-define--read (prompt)
  "Ask for the name of a declared sidecar with PROMPT; return it, a symbol.
If there is one only, do not ask."
  (let ((names (mapcar #'car dualstack-sidecar-define--sidecars)))
    (cond ((null names)
           (user-error "No sidecar is declared: load a file with `dualstack-define-sidecar'"))
          ((null (cdr names)) (car names))
          (t (intern (completing-read prompt (mapcar #'symbol-name names) nil t))))))

(defun dualstack-sidecar-define--own-methods (name methods)
  "Return those of METHODS that are functions of the sidecar NAME's modules.
Each has two names if there are underscores in it, of which one is left out,
and so is what would hide a function of the declaration."
  (let (found)
    (dolist (method methods (nreverse found))
      (let ((lisp (dualstack-sidecar-define--lisp-name (car method))))
        (cond ((or (memq (car method) '(hello stop))
                   (assq (intern (replace-regexp-in-string "-" "_" (symbol-name (car method)))) found)))
              ((memq lisp '(sidecar call call-async sidecar-python sidecar-restart sidecar-log))
               (display-warning
                'dualstack (format "The Python function %s gets no Lisp function: %s-%s is another"
                                   (car method) name lisp)))
              (t (push method found)))))))

(defun dualstack-sidecar-define--lisp-name (symbol)
  "Return SYMBOL, a name in Python, as one in Lisp."
  (intern (replace-regexp-in-string "_" "-" (symbol-name symbol))))

(defun dualstack-sidecar-define--insert (name methods)
  "Insert the text of a file with the functions of the sidecar NAME, METHODS."
  (insert (format ";;; %s-functions.el --- Python functions of %s  " name name)
          "-*- lexical-binding: t; byte-compile-warnings: (not docstrings) -*-\n\n"
          ";;; Commentary:\n\n;; This file was written by `dualstack-sidecar-write-functions'.\n\n"
          ";;; Code:\n\n"
          (format "(autoload '%s-call %S)\n" name (symbol-name name))
          "(autoload 'dualstack-sidecar-optional \"dualstack-sidecar-define\")\n")
  (dolist (method methods)
    (apply #'dualstack-sidecar-define--insert-function name method))
  (insert (format "\n(provide '%s-functions)\n\n;;; %s-functions.el ends here\n" name name)))

(defun dualstack-sidecar-define--insert-function (name method arguments documentation)
  "Insert the function of the sidecar NAME for METHOD.
ARGUMENTS and DOCUMENTATION are those of the Python function."
  (let* ((arguments (mapcar #'dualstack-sidecar-define--argument arguments))
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
    (insert (format "\n;;;###autoload\n(defun %s-%s %S\n  " name
                    (dualstack-sidecar-define--lisp-name method) arguments)
            (dualstack-sidecar-define--doc method documentation)
            (format "\n  (%s%s '%s%s))\n" (if (or optional rest) "apply #'" "") call method
                    (mapconcat (lambda (each) (concat " " each)) more "")))))

(defun dualstack-sidecar-define--argument (symbol)
  "Return SYMBOL, an argument's name in Python, as one in Lisp."
  (if (memq symbol '(&optional &rest))
      symbol
    (let ((name (dualstack-sidecar-define--lisp-name symbol)))
      (if (memq name '(t nil))
          (intern (format "%s-value" name))
        name))))

(defun dualstack-sidecar-define--doc (method documentation)
  "Return the docstring of the function for METHOD, as it is written in Lisp.
DOCUMENTATION is that of the Python function, or nil."
  (let ((text (if (member documentation '(nil ""))
                  (format "Call the Python function %s." method)
                documentation))
        (print-escape-newlines nil))
    ;; What begins a line with an opening parenthesis looks like a definition.
    (replace-regexp-in-string "\n(" "\n\\\\\\\\=(" (prin1-to-string text))))

;;;###autoload
(defun dualstack-sidecar-optional (optional &optional rest)
  "Return the list OPTIONAL without nil at its end, and then the list REST.
With REST, all of OPTIONAL is there.  So a Python function sees its own defaults
for optional arguments that were not given."
  (if rest
      (append optional rest)
    (let ((values (reverse optional)))
      (while (and values (null (car values)))
        (pop values))
      (nreverse values))))

(provide 'dualstack-sidecar-define)

;;; dualstack-sidecar-define.el ends here
