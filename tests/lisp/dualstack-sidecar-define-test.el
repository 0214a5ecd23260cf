;;; dualstack-sidecar-define-test.el --- Test declared sidecars  -*- lexical-binding: t; -*-

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

;; A package with a declared sidecar is written to files and loaded, as source
;; and compiled, as a user does it.

;;; Code:

(require 'dualstack-sidecar-helper)
(require 'dualstack-sidecar-write)

(declare-function dualstack-tg-sidecar "dualstack-tg")
(declare-function dualstack-tg-call "dualstack-tg")
(declare-function dualstack-tg-call-async "dualstack-tg")
(declare-function dualstack-tg-greet-all "dualstack-tg-functions")
(declare-function dualstack-tg-same "dualstack-tg-functions")
(declare-function dualstack-to-dynamic "dualstack-to-functions")
(declare-function dualstack-to-posonly "dualstack-to-functions")
(defvar dualstack-tg-word)
(defvar dualstack-tg-sidecar-python)
(defvar dualstack-tg-sidecar-restart)
(defvar dualstack-tg-sidecar-log)

(defun dualstack-sidecar-define-test-package ()
  "Write the files of a package; return that of the Lisp."
  (dualstack-sidecar-helper-file
   "greet.py" "import os" "from dualstack_epc import current_client" "" ""
   "def greet_all(names, end='!', *more):"
   "    \"\"\"Return a greeting for each of NAMES." "" "    (It has \"quotes\" and \\\\.)\"\"\""
   "    word = current_client().call_sync('word', [], timeout=5)"
   "    return [f'{word}, {name}{end}' for name in names] + list(more)" "" ""
   "def call(x): return x" "" "" "def same(t, _other=None): return t" "" ""
   "def pid(): return os.getpid()" "" "" "def crash(): os._exit(3)" "" ""
   "def fail(): raise ValueError('so')")
  (dualstack-sidecar-helper-file
   "dualstack-tg.el" ";;; -*- lexical-binding: t; -*-"
   "(require 'dualstack)"
   "(defvar dualstack-tg-word \"Hello\" \"The word.\")"
   "(dualstack-define-sidecar dualstack-tg \"Greets people.\""
   "  :module \"greet.py\" :restart t :functions t"
   "  :methods `((word ,(lambda () dualstack-tg-word))))"
   "(provide 'dualstack-tg)"))

(defmacro dualstack-sidecar-define-test (name docstring &rest body)
  "Define the test NAME, with DOCSTRING, of BODY; the package is loaded."
  (declare (indent 1) (doc-string 2))
  `(dualstack-sidecar-helper-test ,name
     ,docstring
     (let ((dualstack-sidecar-define--sidecars nil)
           (load-path (cons dualstack-sidecar-helper-directory load-path)))
       (load (dualstack-sidecar-define-test-package) nil t)
       (unwind-protect
           (progn ,@body)
         (setq dualstack-tg-sidecar-python nil
               dualstack-tg-sidecar-restart t
               dualstack-tg-sidecar-log nil)
         (setq features (cl-set-difference features '(dualstack-tg dualstack-tg-functions)))
         (when (get-buffer "*Warnings*")
           (kill-buffer "*Warnings*"))
         (dolist (symbol '(dualstack-tg-greet-all dualstack-tg-same))
           (fmakunbound symbol))))))

(dualstack-sidecar-define-test dualstack-sidecar-define-calls
  "A declared sidecar starts at the first call, and each call returns its value."
  (should-not dualstack-sidecars)
  (should (equal '("Hello, Ada!") (dualstack-tg-call 'greet-all '("Ada"))))
  (let ((dualstack-tg-word "Hi"))
    (should (equal '("Hi, Ada?" 7) (dualstack-tg-call 'greet_all '("Ada") "?" 7))))
  (should (eq (dualstack-tg-sidecar) (dualstack-sidecar-get "dualstack-tg")))
  (should (= 1 (length dualstack-sidecars)))
  (should (string-match-p "so" (format "%s" (should-error (dualstack-tg-call 'fail)
                                                          :type 'dualstack-epc-remote-error))))
  (should (string-prefix-p "Greets people." (documentation 'dualstack-tg-sidecar))))

(dualstack-sidecar-define-test dualstack-sidecar-define-async
  "An asynchronous call starts the sidecar, too, without waiting, and can be cancelled."
  (let (value err)
    (dualstack-tg-call-async 'same '(7) :then (lambda (it) (setq value it)))
    (should (eq 'starting (dualstack-sidecar-state (dualstack-sidecar-get "dualstack-tg"))))
    (should-not value)
    (dualstack-test-wait (lambda () (eql value 7)))
    (dualstack-tg-call-async 'fail nil :then #'error :else (lambda (it) (setq err it)))
    (dualstack-test-wait (lambda () err))
    (should (eq 'dualstack-epc-remote-error (car err)))
    ;; What cannot be sent, and what cannot start, end by :else, too.
    (setq err nil)
    (dualstack-tg-call-async 'same (list (current-buffer)) :then #'error
                             :else (lambda (it) (setq err it)))
    (dualstack-test-wait (lambda () err))
    (should (eq 'dualstack-epc-unsendable (car err)))
    (dualstack-sidecar-stop "dualstack-tg")
    (setq err nil value nil)
    (funcall (dualstack-tg-call-async 'same '(8) :then #'error :else #'error))
    (should (equal 9 (dualstack-tg-call 'same 9)))
    (dualstack-sidecar-helper-end (dualstack-sidecar-get "dualstack-tg"))
    (setq dualstack-tg-sidecar-python "/nonexistent/python")
    (dualstack-tg-call-async 'same '(8) :then #'error :else (lambda (it) (setq err it)))
    (dualstack-test-wait (lambda () err))
    (should (eq 'dualstack-sidecar-error (car err)))))

(dualstack-sidecar-define-test dualstack-sidecar-define-options
  "The user chooses the Python, restarting, and a file for the log."
  (let ((log (expand-file-name "a log" dualstack-sidecar-helper-directory)))
    (should (eq t (default-value 'dualstack-tg-sidecar-restart)))
    (should (custom-variable-p 'dualstack-tg-sidecar-python))
    (setq dualstack-tg-sidecar-log log
          dualstack-tg-sidecar-restart nil
          dualstack-tg-sidecar-python
          (dualstack-sidecar-helper-python
           "python" "print('mine', file=sys.stderr, flush=True)"))
    (should (equal 1 (dualstack-tg-call 'same 1)))
    (should-error (dualstack-tg-call 'crash) :type 'dualstack-epc-closed)
    (dualstack-test-wait (lambda () (eq 'failed (dualstack-sidecar-state
                                                 (dualstack-sidecar-get "dualstack-tg")))))
    (should-not (dualstack-sidecar--again (dualstack-sidecar-get "dualstack-tg")))
    (should (string-match-p "^--- .*\nmine\n" (with-temp-buffer
                                                (insert-file-contents log)
                                                (buffer-string))))))

(dualstack-sidecar-define-test dualstack-sidecar-define-functions
  "The functions that are written have names, arguments and docstrings of Python's."
  (let ((file (let ((inhibit-message t) (warning-minimum-log-level :error))
                (dualstack-sidecar-write-functions 'dualstack-tg))))
    (should (equal file (expand-file-name "dualstack-tg-functions.el"
                                          dualstack-sidecar-helper-directory)))
    ;; The declaration loads them; and they load it.
    (dualstack-sidecar-helper-end (dualstack-sidecar-get "dualstack-tg"))
    (load (expand-file-name "dualstack-tg.el" dualstack-sidecar-helper-directory) nil t)
    (should (featurep 'dualstack-tg-functions))
    (should (equal '(names &optional end &rest more)
                   (help-function-arglist 'dualstack-tg-greet-all t)))
    (should (equal "Return a greeting for each of NAMES.\n\n(It has \"quotes\" and \\.)\n
Arguments: END, MORE."
                   (substitute-command-keys (documentation 'dualstack-tg-greet-all t))))
    (should (equal '("Hello, Ada!") (dualstack-tg-greet-all '("Ada"))))
    (should (equal '("Hello, Ada?" nil) (dualstack-tg-greet-all '("Ada") "?" nil)))
    (should (equal 3 (dualstack-tg-same 3)))
    (should-not (fboundp 'dualstack-tg-hello))
    (should (string-match-p "Call the Python function" (documentation 'dualstack-tg-same)))
    (let ((before (file-attributes file)))
      (ignore before)
      (should (zerop (dualstack-sidecar-define-test-compile
                      (expand-file-name "dualstack-tg.el" dualstack-sidecar-helper-directory)
                      file))))))

(defconst dualstack-sidecar-define-test-odd
  "import functools
def plain(a, b=1, *args, key, other=2, **kw):
    'Return \"quoted\" and \\\\ and \\\\[forward-char], `x` and it\\'s.'
def dynamic(default_directory, load_path, nil=1, t=2, _=3, x_=4, x=5): return load_path
def posonly(a, b, /): return 'both'
def annotated(x: int, y: 'list[str]' = [], *z: object) -> dict:
    '''Returns a thing. And another

    (defun looks like code) \\x07
    \\tindented   '''
def car(x): 'a lower-case word'
def wide(x): '''%s
      second line'''
def non_ascii(ü, naïve): 'Grüße an 日本.'
def quote(): ''
def split(x):
    '''

    Take X. Then go.


    (fn WRONG)
    '''
async def later(rest, optional=1): 'Wait'
short = lambda x: x
@functools.lru_cache
def cached(x): 'Return X, or nothing.'
"
  "Python functions with names and docstrings that Lisp must not have.")

(dualstack-sidecar-helper-test dualstack-sidecar-define-odd-functions
  "What is written compiles without warnings and satisfies checkdoc."
  (let ((dualstack-sidecar-define--sidecars nil)
        (load-path (cons dualstack-sidecar-helper-directory load-path)))
    (dualstack-sidecar-helper-file
     "odd.py" (format dualstack-sidecar-define-test-odd
                      (mapconcat #'identity (make-list 30 "word") " ")))
    (dualstack-sidecar-helper-file
     "dualstack-to.el" ";;; -*- lexical-binding: t; -*-" "(require 'dualstack)"
     "(dualstack-define-sidecar dualstack-to \"Odd.\" :module \"odd.py\")"
     "(provide 'dualstack-to)")
    (load (expand-file-name "dualstack-to.el" dualstack-sidecar-helper-directory) nil t)
    (let ((file (dualstack-sidecar-write-functions 'dualstack-to)))
      (should (equal '(0 . "") (dualstack-sidecar-define-test-checkdoc file)))
      (should (zerop (dualstack-sidecar-define-test-compile file)))
      (unwind-protect
          (progn
            (load file nil t)
            (should (equal "both" (dualstack-to-posonly 1 2)))
            (should (equal "here" (dualstack-to-dynamic "/nonexistent/" "here")))
            (should (equal '(default-directory-value load-path-value
                              &optional nil-value t-value any-value x x-value)
                           (help-function-arglist 'dualstack-to-dynamic t)))
            (should (equal "Return \"quoted\" and \\ and \\[forward-char], `x` and it's.\n
Arguments: A, B, ARGS."
                           (let ((text-quoting-style 'grave))
                             (substitute-command-keys (documentation 'dualstack-to-plain t)))))
            (should (string-prefix-p "Take X.  Then go.\n\n" (documentation 'dualstack-to-split t)))
            (should-not (fboundp 'dualstack-to-<lambda>)))
        (unload-feature 'dualstack-to-functions t)
        (setq features (delq 'dualstack-to features))))))

(defun dualstack-sidecar-define-test-checkdoc (file)
  "Return the status and the output of checkdoc of FILE in another Emacs."
  (dualstack-test-run (list (dualstack-test-emacs-program) "-Q" "--batch"
                            "-l" (dualstack-test-support "lint.el")
                            "-f" "dualstack-lint-checkdoc" file)))

(defun dualstack-sidecar-define-test-compile (&rest files)
  "Compile FILES in another Emacs, where a warning is an error; return its status."
  (apply #'call-process (expand-file-name invocation-name invocation-directory) nil nil nil
         "-Q" "--batch" "-L" (expand-file-name "lisp" dualstack-test-root)
         "-L" dualstack-sidecar-helper-directory
         "--eval" "(setq byte-compile-error-on-warn t)" "-f" "batch-byte-compile" files))

(dualstack-sidecar-define-test dualstack-sidecar-define-compiled
  "A compiled package finds its Python file."
  (let ((lisp (expand-file-name "dualstack-tg.el" dualstack-sidecar-helper-directory)))
    (should (zerop (dualstack-sidecar-define-test-compile lisp)))
    (load (concat lisp "c") nil t)
    (should (equal 1 (dualstack-tg-call 'same 1)))))

(dualstack-sidecar-define-test dualstack-sidecar-define-linked
  "A package that is linked finds its Python file beside what is linked."
  (when (eq system-type 'windows-nt)
    (ert-skip "needs symbolic links, which users of Windows may not make"))
  (let ((lisp (expand-file-name "dualstack-tg.el" dualstack-sidecar-helper-directory))
        (elsewhere (expand-file-name "elsewhere/" dualstack-sidecar-helper-directory)))
    (make-directory elsewhere)
    (make-symbolic-link lisp (expand-file-name "dualstack-tg.el" elsewhere))
    (load (expand-file-name "dualstack-tg.el" elsewhere) nil t)
    (should (equal 2 (dualstack-tg-call 'same 2)))))

(ert-deftest dualstack-sidecar-define-optional ()
  "Optional arguments that were not given are left to Python."
  (should (equal nil (dualstack-sidecar-optional '(nil nil))))
  (should (equal '(1) (dualstack-sidecar-optional '(1 nil))))
  (should (equal '(nil 2) (dualstack-sidecar-optional '(nil 2) nil)))
  (should (equal '(nil nil 3 nil) (dualstack-sidecar-optional '(nil nil) '(3 nil)))))

(ert-deftest dualstack-sidecar-define-mistakes ()
  "A declaration that makes no sense is an error."
  (should-error (macroexpand '(dualstack-define-sidecar "x" "Doc.")))
  (should-error (macroexpand '(dualstack-define-sidecar x :module "x.py")))
  (should-error (dualstack-sidecar-define--start 'dualstack-undeclared)
                :type 'dualstack-sidecar-error))

(provide 'dualstack-sidecar-define-test)

;;; dualstack-sidecar-define-test.el ends here
