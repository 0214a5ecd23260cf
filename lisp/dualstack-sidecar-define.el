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
;; writes more of them to a file, which is loaded from here.

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

;;;; What functions that are written call

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
