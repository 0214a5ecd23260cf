;;; dualstack-sidecar-python.el --- Whose Python, and whose code, runs  -*- lexical-binding: t; -*-

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

;; A sidecar is run by the interpreter that the user has chosen, or by the
;; first one on the path that is new enough, from the source that comes with
;; this package.  Nothing is installed.
;;
;; Children start in a directory of the user's own, and neither that nor the
;; current one is a place where their Python looks for modules:
;; `dualstack-sidecar--as-child'.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'dualstack)
(require 'dualstack-child)
(require 'dualstack-epc-calm)

(define-error 'dualstack-sidecar-error "Sidecar")

(defcustom dualstack-python nil
  "The Python interpreter that runs sidecars, or nil.
It is a file, or a name on the path.  Nil means the first Python on the path
that is new enough, 3.10 or later."
  :type '(choice (const :tag "First on the path" nil) file)
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defun dualstack-sidecar--error (format &rest args)
  "Signal `dualstack-sidecar-error' with the text of FORMAT and ARGS."
  (signal 'dualstack-sidecar-error (list (apply #'format format args))))

;;;; What children are told

(declare-function w32-short-file-name "ext:w32proc.c" (filename))
(defvar w32-ansi-code-page)

(defun dualstack-sidecar--argument-coding ()
  "Return the coding system of arguments: the locale's, on Windows the code page.
There LANG can have the locale say something else."
  (let ((page (and (boundp 'w32-ansi-code-page)
                   (intern (format "cp%d" w32-ansi-code-page)))))
    (if (and page (coding-system-p page))
        page
      (or locale-coding-system 'utf-8))))

(defun dualstack-sidecar--encode-word (word)
  "Return WORD, a part of a command line, as `make-process' passes it unchanged.
Its `:coding' is for input and output.  On Windows a file whose name the code
page cannot express has a short name, too."
  (let ((coding (dualstack-sidecar--argument-coding)))
    (encode-coding-string
     (or (and (eq system-type 'windows-nt)
              (unencodable-char-position 0 (length word) coding nil word)
              (file-name-absolute-p word)
              (dualstack-sidecar--short-name word))
         word)
     coding)))

(defun dualstack-sidecar--short-name (file)
  "Return the short name of FILE on Windows, also if it is not there yet."
  (or (w32-short-file-name file)
      (let ((parent (file-name-directory (directory-file-name file))))
        (if (member parent (list nil file))
            file
          (concat (file-name-as-directory (dualstack-sidecar--short-name parent))
                  (file-name-nondirectory (directory-file-name file)))))))

;;;; Where children start

(defvar dualstack-sidecar--temporary-directory nil
  "A directory that was made as no other was the user's own, or nil.")

(defmacro dualstack-sidecar--as-child (&rest body)
  "Run BODY with the directory, environment and path of children.
All that would let code of the current directory in is left out."
  (declare (indent 0) (debug t))
  `(let ((default-directory (dualstack-sidecar--child-directory))
         (process-environment (dualstack-sidecar--child-environment))
         (exec-path (seq-filter #'dualstack-sidecar--absolute-p exec-path)))
     ,@body))

(defun dualstack-sidecar--child-directory ()
  "Return the directory in which children start, which only the user can write.
It is the home directory, or that of Emacs, or else one that is made."
  (or (seq-find #'dualstack-sidecar--own-directory-p
                (list (file-name-as-directory (expand-file-name "~"))
                      (expand-file-name user-emacs-directory)
                      dualstack-sidecar--temporary-directory))
      (let ((default-directory temporary-file-directory))
        (add-hook 'kill-emacs-hook #'dualstack-sidecar--delete-temporary-directory)
        (setq dualstack-sidecar--temporary-directory
              (file-name-as-directory (make-temp-file "dualstack-" t))))))

(defun dualstack-sidecar--own-directory-p (directory)
  "Return non-nil if DIRECTORY exists, and only the user can write it.
On Windows modes do not tell; there a home is its user's own."
  (and directory
       (not (file-remote-p directory))
       (file-accessible-directory-p directory)
       (or (eq system-type 'windows-nt)
           (let ((truename (directory-file-name (file-truename directory))))
             (and (eql (user-uid) (file-attribute-user-id (file-attributes truename)))
                  (zerop (logand #o022 (file-modes truename))))))))

(defun dualstack-sidecar--delete-temporary-directory ()
  "Delete the directory that was made for children, if it is empty."
  (ignore-errors (delete-directory dualstack-sidecar--temporary-directory)))

(defun dualstack-sidecar--absolute-p (file)
  "Return non-nil if FILE, a string or nil, is absolute to every program."
  (and file
       (string-match-p (if (eq system-type 'windows-nt) "\\`\\(?:[[:alpha:]]:[/\\]\\|[/\\]\\{2\\}\\)"
                         "\\`/")
                       file)))

(defun dualstack-sidecar--child-environment ()
  "Return `process-environment' without the current directory in PYTHONPATH.
An empty entry there, or a relative one, stands for it or for one below it."
  (let* ((path (getenv "PYTHONPATH"))
         (entries (and path (split-string path (regexp-quote path-separator))))
         (absolute (seq-filter #'dualstack-sidecar--absolute-p entries)))
    (if (equal entries absolute)
        process-environment
      (cons (if absolute
                (concat "PYTHONPATH=" (mapconcat #'identity absolute path-separator))
              "PYTHONPATH")
            process-environment))))

;;;; What runs there

(defconst dualstack-sidecar--file (or load-file-name buffer-file-name)
  "This file.")

(defun dualstack-sidecar--source ()
  "Return the directory of the Python source that this package ships.
Package managers link or copy the Lisp files, so it is looked for beside the
links and beside what they point to."
  (let* ((file dualstack-sidecar--file)
         (lisp (concat (file-name-sans-extension file) ".el")))
    (or (seq-find
         (lambda (directory)
           (file-exists-p (expand-file-name "dualstack_epc/__main__.py" directory)))
         (seq-mapcat (lambda (each)
                       (mapcar (lambda (relative)
                                 (expand-file-name relative (file-name-directory each)))
                               '("python/src" "../python/src")))
                     (delete-dups (list file lisp (file-truename file) (file-truename lisp)))))
        (dualstack-sidecar--error
         "The directory python of the package is not beside %s: install dualstack again, with it"
         (abbreviate-file-name lisp)))))

(defun dualstack-sidecar--program (&optional python)
  "Return the command line of our own source, without arguments.
PYTHON is the interpreter, by default that of `dualstack-sidecar-python'."
  (list (or python (dualstack-sidecar-python)) "-X" "utf8"
        (expand-file-name "dualstack_epc/__main__.py" (dualstack-sidecar--source))))

(defun dualstack-sidecar--arguments (&optional modules path)
  "Return the arguments of our own source that serve MODULES to Emacs.
MODULES are names, or files that end in .py; names are looked for in the
directories PATH, too.  Signal `dualstack-sidecar-error'."
  (cons "sidecar"
        (append (seq-mapcat (lambda (directory)
                              (list "--path" (dualstack-sidecar--full-name directory)))
                            path)
                (mapcar (lambda (module)
                          (if (string-suffix-p ".py" module)
                              (dualstack-sidecar--full-name module)
                            module))
                        modules))))

(defun dualstack-sidecar--command (&optional modules path python)
  "Return the command line that serves MODULES to Emacs, from our own source.
MODULES and PATH are as for `dualstack-sidecar--arguments', PYTHON as for
`dualstack-sidecar--program'."
  (append (dualstack-sidecar--program python) (dualstack-sidecar--arguments modules path)))

(defun dualstack-sidecar--full-name (file)
  "Return FILE's full name; signal an error if it depends on the current directory."
  (if (file-name-absolute-p file)
      (expand-file-name file)
    (dualstack-sidecar--error "%s depends on the current directory: give its full name, \
as by `expand-file-name'" file)))

;;;; Which Python

(defconst dualstack-sidecar--oldest '(3 10)
  "The oldest Python that will do, as major and minor version.")

(defconst dualstack-sidecar--names
  (if (eq system-type 'windows-nt)
      ;; There python3 is most often a stub that opens a shop.
      '(("python") ("py" "-3") ("python3"))
    '(("python3") ("python") ("python3.14") ("python3.13") ("python3.12") ("python3.11")
      ("python3.10")))
  "Programs, with arguments, that may be a Python, in the order of trying.")

(defconst dualstack-sidecar--question
  "import sys, binascii; print(' '.join(['dualstack', '.'.join(map(str, sys.version_info[:2])), \
binascii.hexlify((sys.executable or '').encode('utf-8')).decode('ascii')]))"
  "Python code, of any version, that prints what is to be known of a Python.
It has nothing that a batch file, which a Python may be on Windows, expands.")

(defconst dualstack-sidecar--patience 10
  "Seconds within which a program must say that it is Python.
The first start after that of a machine may take some.")

(defvar dualstack-sidecar--pythons nil
  "Interpreters that were found, an alist by what they were looked for with.")

(defun dualstack-sidecar-python ()
  "Return the Python interpreter for sidecars, a file.
It is that of `dualstack-python', or else the first one on the path that is
new enough.  If there is none, signal `dualstack-sidecar-error' with what to
type.  What was found is remembered while it is there."
  (let* ((key (cons dualstack-python exec-path))
         (found (cdr (assoc key dualstack-sidecar--pythons))))
    (if (and found (file-executable-p found))
        found
      (setq found (dualstack-sidecar--as-child
                    (dualstack-sidecar--find-python
                     (if dualstack-python
                         (list (list dualstack-python))
                       dualstack-sidecar--names))))
      (setf (alist-get key dualstack-sidecar--pythons nil nil #'equal) found))))

(defun dualstack-sidecar--find-python (names)
  "Return the first of NAMES, programs with arguments, that is a Python.
Signal `dualstack-sidecar-error' if none is new enough."
  (let (problem found)
    (while (and names (not found))
      (let* ((name (pop names))
             (program (executable-find (car name)))
             (answer (and program (dualstack-sidecar--ask program (cdr name)))))
        (if (or (null answer) (stringp answer))
            (setq problem (or problem answer))
          (setq found (if (or (cdr name) (dualstack-sidecar--shim-p program))
                          (cadr answer)
                        program)))))
    (or found
        (dualstack-sidecar--error
         "%s; %s" (or problem (if dualstack-python
                                  (format "There is no program %s" dualstack-python)
                                "There is no Python on the path"))
         (if dualstack-python
             "set `dualstack-python' to a Python 3.10 or later"
           (concat "type: " (dualstack-sidecar--what-to-type
                             (and problem (string-match-p "is Python" problem)))))))))

(defun dualstack-sidecar--shim-p (program)
  "Return non-nil if PROGRAM, which nobody has named, is a batch file.
That of pyenv-win starts a Python, and would stand between it and Emacs."
  (and (not dualstack-python)
       (string-match-p "\\.\\(?:bat\\|cmd\\)\\'" program)))

(defun dualstack-sidecar--ask (program arguments)
  "Return what PROGRAM, called with ARGUMENTS, is: (VERSION FILE) or a string.
The string says why it will not do."
  (pcase-let ((`(,status . ,output)
               (dualstack-sidecar--output-of
                `(,program ,@arguments "-E" "-S" "-s" "-c" ,dualstack-sidecar--question)))
              (name (file-name-nondirectory program)))
    (if (not (string-match "^dualstack \\([0-9.]+\\) \\([0-9a-f]*\\)\r?$" output))
        (cond ((null status) (format "%s does not answer" name))
              ((string-match-p "Microsoft Store" output)
               (format "%s is only a stub of the Microsoft Store" name))
              (t (format "%s is no Python that runs (status %s%s)" name status
                         (if (string-match "[^ \r\n].*" output)
                             (concat ": " (string-trim (match-string 0 output)))
                           ""))))
      (let ((version (version-to-list (match-string 1 output)))
            (file (decode-coding-string (dualstack-sidecar--unhex (match-string 2 output))
                                        'utf-8)))
        (if (version-list-< version dualstack-sidecar--oldest)
            (format "%s is Python %s, and 3.10 or later is needed" name
                    (match-string 1 output))
          (list version file))))))

(defun dualstack-sidecar--unhex (text)
  "Return the bytes that TEXT, hexadecimal digits, stands for."
  (apply #'unibyte-string
         (mapcar (lambda (pair) (string-to-number pair 16))
                 (seq-partition text 2))))

(defun dualstack-sidecar--output-of (command)
  "Run COMMAND and return (STATUS . OUTPUT).
STATUS is nil if it does not end within `dualstack-sidecar--patience', or says
too much."
  (let* ((output "")
         (killed nil)
         (process-adaptive-read-buffering nil)
         (deadline (+ (float-time) dualstack-sidecar--patience))
         (process (condition-case err
                      (make-process :name "dualstack python" :command command :noquery t
                                    :connection-type 'pipe :coding 'utf-8 :sentinel #'ignore
                                    :filter (lambda (process text)
                                              (setq output (concat output text))
                                              ;; Emacs reads for as long as there is more.
                                              (when (> (length output) 65536)
                                                (setq killed t)
                                                (dualstack-child--kill process))))
                    (file-error (setq output (error-message-string err))
                                nil))))
    (unwind-protect
        (while (and process (process-live-p process) (< (float-time) deadline))
          (dualstack-epc--calm-look process 0.05))
      (when process
        (while (accept-process-output process 0 nil t))
        ;; What is killed on Windows exits.
        (setq killed (or killed (process-live-p process)))
        (dualstack-child--drop process)))
    (cons (cond ((not process) 1)
                ((and (not killed) (eq (process-status process) 'exit))
                 (process-exit-status process)))
          output)))

(defun dualstack-sidecar--what-to-type (old)
  "Return how to get a Python on this system, which has one that is too old if OLD."
  (pcase system-type
    ('windows-nt "winget install Python.Python.3.12")
    ('darwin "brew install python")
    (_ (or (cdr (seq-find (lambda (each) (executable-find (car each)))
                          (if old
                              ;; The system's own is what is too old.
                              '(("uv" . "uv python install 3.12")
                                ("dnf" . "sudo dnf install python3.12")
                                ("zypper" . "sudo zypper install python312"))
                            '(("apt-get" . "sudo apt-get install python3")
                              ("dnf" . "sudo dnf install python3")
                              ("pacman" . "sudo pacman -S python")
                              ("zypper" . "sudo zypper install python3")
                              ("apk" . "sudo apk add python3")))))
           "M-x customize-option RET dualstack-python RET, and name a newer one"))))

(provide 'dualstack-sidecar-python)

;;; dualstack-sidecar-python.el ends here
