;;; dualstack-sidecar-python-test.el --- Whose code runs  -*- lexical-binding: t; -*-

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

;; Sidecars are started from a directory full of traps: modules that are
;; called as Python's own, and that leave a file behind when they are run.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-sidecar)

(defvar dualstack-python-test-directory nil
  "The directory of a test, which is deleted after it.")

(defmacro dualstack-python-test (name docstring &rest body)
  "Define the test NAME, with DOCSTRING, of BODY, which has a directory.
All sidecars are ended."
  (declare (indent 1) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (let* ((dualstack-python dualstack-test-python)
            (dualstack-sidecars nil)
            (dualstack-sidecar--pythons nil)
            (dualstack-sidecar--temporary-directory nil)
            (kill-emacs-hook kill-emacs-hook)
            (mode-line-misc-info mode-line-misc-info)
            (inhibit-message t)
            (dualstack-python-test-directory
             (file-name-as-directory (file-truename (make-temp-file "dualstack" t)))))
       (unwind-protect
           (progn ,@body)
         (dolist (sidecar dualstack-sidecars)
           (dualstack-sidecar-stop (dualstack-sidecar-name sidecar))
           (dualstack-test-wait
            (lambda () (not (process-live-p (dualstack-sidecar-process sidecar)))))
           (dualstack-sidecar--disarm sidecar)
           (kill-buffer (dualstack-sidecar-log sidecar)))
         (delete-directory dualstack-python-test-directory t)))))

(defun dualstack-python-test-file (name &rest lines)
  "Write LINES to the file NAME of the test's directory; return its full name."
  (let ((file (expand-file-name name dualstack-python-test-directory)))
    (make-directory (file-name-directory file) t)
    (write-region (mapconcat (lambda (line) (concat line "\n")) lines "") nil file nil 'silent)
    file))

(defun dualstack-python-test-program (name &rest lines)
  "Write a shell script of LINES to the file NAME in bin; return its full name."
  (let ((file (apply #'dualstack-python-test-file (concat "bin/" name) "#!/bin/sh" lines)))
    (set-file-modes file #o755)
    file))

(defun dualstack-python-test-script (name &rest lines)
  "Make NAME in bin a program that is LINES of Python; return its full name."
  (dualstack-test-launcher
   (expand-file-name (concat "bin/" name) dualstack-python-test-directory)
   (apply #'dualstack-python-test-file (concat "scripts/" name ".py") lines)))

(defun dualstack-python-test-trap ()
  "Return a directory whose modules are called as Python's and ours."
  (let ((code (format "open(%S, 'w')"
                      (expand-file-name "sprung" dualstack-python-test-directory))))
    (dolist (name '("queue.py" "socket.py" "signal.py" "inspect.py" "typing.py" "logging.py"
                    "runpy.py" "sitecustomize.py" "dualstack_epc/__init__.py"
                    "dualstack_epc/__main__.py"))
      (dualstack-python-test-file (concat "trap/" name) code))
    (file-name-as-directory (expand-file-name "trap" dualstack-python-test-directory))))

(defun dualstack-python-test-sprung ()
  "Return non-nil if something of the trap was run."
  (file-exists-p (expand-file-name "sprung" dualstack-python-test-directory)))

(defun dualstack-python-test-call (sidecar method &rest args)
  "Call METHOD of SIDECAR with ARGS."
  (dualstack-epc-call (dualstack-sidecar-connection sidecar) method args))

(defun dualstack-python-test-module ()
  "Return the name of a file, a module with functions about its process."
  (dualstack-python-test-file
   "own/where.py" "import inspect, logging, os, queue, sys, typing" ""
   "def where():" "    return [os.getcwd(), sys.path]" ""
   "def variable(name):" "    return os.environ.get(name)" ""
   "def crash():" "    os._exit(7)"))

(defun dualstack-python-test-paths (sidecar)
  "Return the directory of SIDECAR, and its path without the last entry."
  (pcase-let ((`(,directory ,path) (dualstack-python-test-call sidecar 'where)))
    (cons (file-name-as-directory directory) (butlast path))))

;;;; The current directory

(dualstack-python-test dualstack-python-not-of-the-current-directory
  "Nothing of the current directory is run: at a start, with modules, at restarts."
  (let* ((home (dualstack-sidecar--child-directory))
         (trap (dualstack-python-test-trap))
         (default-directory trap)
         (exec-path (append '("." nil "bin") exec-path))
         (sidecar (dualstack-sidecar-start
                   :wait t :restart t :modules (list (dualstack-python-test-module) "json")))
         (first (process-id (dualstack-sidecar-process sidecar))))
    (dualstack-python-test-program "python3" "touch ../sprung")
    (should (equal (dualstack-python-test-call sidecar 'dumps [1]) "[1]"))
    (let ((paths (dualstack-python-test-paths sidecar)))
      (should (equal (car paths) (file-truename home)))
      (should-not (member (directory-file-name trap) paths))
      (should-not (member "" paths)))
    ;; By itself, while a buffer of that directory is current.
    (should-error (dualstack-python-test-call sidecar 'crash) :type 'dualstack-epc-closed)
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'running)))
    (should-not (= first (process-id (dualstack-sidecar-process sidecar))))
    (should (equal (car (dualstack-python-test-paths sidecar)) (file-truename home)))
    ;; On demand.
    (dualstack-sidecar-restart)
    (setq sidecar (dualstack-sidecar-start :wait t))
    (should (equal (car (dualstack-python-test-paths sidecar)) (file-truename home)))
    (should-not (dualstack-python-test-sprung))))

(dualstack-python-test dualstack-python-search-of-the-current-directory
  "A Python is not looked for in the current directory either."
  (let* ((program (dualstack-python-test-program "python3" "touch sprung"))
         (default-directory (file-name-directory program))
         (dualstack-python nil)
         (exec-path '("." nil "")))
    (should (string-match-p "There is no Python on the path"
                            (cadr (should-error (dualstack-sidecar-python)
                                                :type 'dualstack-sidecar-error))))
    (should-not (file-exists-p "sprung"))))

(dualstack-python-test dualstack-python-any-current-directory
  "A current directory that is gone, or remote, does not matter."
  (dolist (directory (list (expand-file-name "gone/" dualstack-python-test-directory)
                           "/ssh:nobody@no.such.host.invalid:/tmp/"))
    (let* ((default-directory directory)
           (sidecar (dualstack-sidecar-start :name directory :wait t)))
      (should (equal (dualstack-python-test-call sidecar 'hello) "hello"))
      (should-not (file-remote-p (buffer-local-value 'default-directory
                                                     (dualstack-sidecar-log sidecar)))))))

(dualstack-python-test dualstack-python-other-programs-too
  "What :command starts has the same directory."
  (let* ((home (dualstack-sidecar--child-directory))
         (default-directory (dualstack-python-test-trap))
         (sidecar (dualstack-sidecar-start
                   :auth nil
                   :command (dualstack-test-python-command
                             "import os, sys; print(os.getcwd(), file=sys.stderr); print('x')"))))
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))
    (should (string-match-p (concat "^" (regexp-quote (directory-file-name (file-truename home)))
                                    "$")
                            (subst-char-in-string
                             ?\\ ?/ (dualstack-sidecar--log-current
                                      (dualstack-sidecar-log sidecar)))))))

(dualstack-python-test dualstack-python-directory-of-its-own
  "A home that others can write is not where children start."
  (skip-unless (not (eq system-type 'windows-nt)))
  (let* ((home (expand-file-name "home/" dualstack-python-test-directory))
         (emacs (expand-file-name "emacs/" dualstack-python-test-directory))
         (user-emacs-directory emacs)
         (process-environment (cons (concat "HOME=" home) process-environment)))
    (dolist (directory (list home emacs))
      (make-directory directory)
      (set-file-modes directory #o700))
    (should (equal (dualstack-sidecar--child-directory) home))
    (dolist (modes '(#o777 #o770 #o702))
      (set-file-modes home modes)
      (should (equal (dualstack-sidecar--child-directory) emacs)))
    (set-file-modes emacs #o777)
    (let ((made (dualstack-sidecar--child-directory)))
      (should (eql #o700 (file-modes made)))
      (should (equal (dualstack-sidecar--child-directory) made))
      (dualstack-sidecar--delete-temporary-directory)
      (should-not (file-exists-p made)))
    (set-file-modes home #o700)
    (when (eq 0 (user-uid))
      (set-file-modes emacs #o700)
      (call-process "chown" nil nil nil "12345" home)
      (should (equal (dualstack-sidecar--child-directory) emacs)))))

(dualstack-python-test dualstack-python-modules-by-full-name
  "A module's file, or a path, that depends on the current directory is refused."
  (let ((default-directory (file-name-directory (dualstack-python-test-module))))
    (should (string-match-p "where.py depends on the current directory"
                            (cadr (should-error (dualstack-sidecar-start
                                                 :wait t :modules '("where.py"))))))
    (should (string-match-p "own depends on the current directory"
                            (cadr (should-error (dualstack-sidecar-start
                                                 :wait t :modules '("where") :path '("own"))))))
    (should (string-match-p "there is no module where"
                            (cadr (should-error (dualstack-sidecar-start
                                                 :wait t :modules '("where"))))))
    (let ((sidecar (dualstack-sidecar-start :wait t :modules '("where")
                                            :path (list default-directory))))
      (should (dualstack-python-test-call sidecar 'where)))))

;;;; What the user has set

(dualstack-python-test dualstack-python-path-of-the-user
  "PYTHONPATH is what the user has set, without what is relative; the rest is left."
  (let* ((own (file-name-directory (dualstack-python-test-module)))
         (default-directory (dualstack-python-test-trap))
         (process-environment
          (append (list (concat "PYTHONPATH="
                                (mapconcat #'identity (list "" own "." "trap" "~/lib" "")
                                           path-separator))
                        "PYTHONSTARTUP=/my/own.py")
                  process-environment))
         (sidecar (dualstack-sidecar-start :wait t :modules '("where"))))
    (should (equal (dualstack-python-test-call sidecar 'variable "PYTHONPATH") own))
    (should (equal (dualstack-python-test-call sidecar 'variable "PYTHONSTARTUP") "/my/own.py"))
    (should-not (dualstack-python-test-sprung))))

(defun dualstack-python-test-as-on-windows (path)
  "Return PATH, directories with colons in between, as Windows writes it."
  (replace-regexp-in-string "\\(^\\|;\\)/" "\\1c:/"
                            (subst-char-in-string ?: ?\; path)))

(ert-deftest dualstack-python-environment ()
  "PYTHONPATH is only changed where it has to be."
  (pcase-dolist (`(,before ,after)
                 '(("/a:/b" "/a:/b") ("" nil) (":" nil) ("a:b" nil) ("/a::/b" "/a:/b")
                   ("/a:" "/a") ("~/a:/b" "/b") ("./a" nil)))
    (when (eq system-type 'windows-nt)
      (setq before (dualstack-python-test-as-on-windows before)
            after (and after (dualstack-python-test-as-on-windows after))))
    (let ((process-environment (cons (concat "PYTHONPATH=" before) process-environment)))
      (let ((process-environment (dualstack-sidecar--child-environment)))
        (should (equal (getenv "PYTHONPATH") after)))))
  (let ((process-environment (cons "PYTHONPATH" process-environment)))
    (should (eq (dualstack-sidecar--child-environment) process-environment))))

(dualstack-python-test dualstack-python-in-any-locale
  "A file in a folder with Chinese letters and blanks is read as UTF-8 in a GBK locale."
  (let* ((file (dualstack-python-test-file
                "中文 文件夹/mine.py" "def text():" "    with open(__file__) as f:"
                "        return f.read(99)[-3:] + '你好'" "# 你好"))
         (process-environment (append '("LC_ALL=zh_CN.GBK" "LANG=zh_CN.GBK")
                                      process-environment))
         (sidecar (dualstack-sidecar-start :wait t :modules (list file))))
    (should (string-suffix-p "好\n你好" (dualstack-python-test-call sidecar 'text)))))

;;;; Which Python

(defun dualstack-python-test-wrapper (name)
  "Make the program NAME, the real Python, which is counted."
  (dualstack-python-test-script
   name "import subprocess, sys"
   (format "with open(%S, 'a') as file: print('called', file=file)"
           (expand-file-name "calls" dualstack-python-test-directory))
   "sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"))

(defun dualstack-python-test-calls ()
  "Return how often wrappers were called."
  (with-temp-buffer
    (ignore-errors
      (insert-file-contents (expand-file-name "calls" dualstack-python-test-directory)))
    (count-lines (point-min) (point-max))))

(defun dualstack-python-test-executable ()
  "Return what Python itself takes for its interpreter's file."
  (with-temp-buffer
    (call-process dualstack-test-python nil t nil
                  "-c" "import sys; sys.stdout.write(sys.executable)")
    (buffer-string)))

(defun dualstack-python-test-same-p (one two)
  "Return non-nil if ONE and TWO are the same file name, on Windows in any case."
  (eq t (compare-strings one nil nil two nil nil (eq system-type 'windows-nt))))

(defun dualstack-python-test-complaint ()
  "Return why no Python is found."
  (cadr (should-error (dualstack-sidecar-python) :type 'dualstack-sidecar-error)))

(dualstack-python-test dualstack-python-first-that-is-new-enough
  "One that is too old, or no Python, is passed over; what is found is remembered."
  (let* ((dualstack-python nil)
         (bin (expand-file-name "bin" dualstack-python-test-directory))
         (exec-path (list bin "/bin"))
         (dualstack-sidecar--patience 30) ; To start two programs takes Wine seconds.
         (dualstack-sidecar--names '(("python3") ("python") ("py" "-3")))
         (python nil))
    (dualstack-python-test-script "python3" "print('dualstack 3.8 2f78')")
    (dualstack-python-test-script "python" "import sys; sys.exit('oh dear')")
    (dualstack-python-test-script "py" "import subprocess, sys"
                                  "sys.exit(subprocess.call([sys.executable, *sys.argv[2:]]))")
    ;; Of a launcher, the Python that it has launched.
    (should (dualstack-python-test-same-p (dualstack-sidecar-python)
                                          (dualstack-python-test-executable)))
    (setq python (dualstack-python-test-wrapper "python")
          dualstack-sidecar--pythons nil)
    ;; As it is of a batch file that nobody has named.
    (should (dualstack-python-test-same-p
             (dualstack-sidecar-python)
             (if (eq system-type 'windows-nt) (dualstack-python-test-executable) python)))
    (dotimes (_ 3)
      (dualstack-sidecar-python))
    (should (= 1 (dualstack-python-test-calls)))
    (let ((dualstack-python "python"))
      (should (equal (dualstack-sidecar-python) python)))
    ;; Not for longer than it is there.
    (delete-file python)
    (should (dualstack-python-test-same-p (dualstack-sidecar-python)
                                          (dualstack-python-test-executable)))))

(dualstack-python-test dualstack-python-none
  "Where there is none, one sentence says why and what to type."
  (let* ((dualstack-python nil)
         (exec-path (list (expand-file-name "bin" dualstack-python-test-directory)))
         (dualstack-sidecar--patience 30)
         (type "; \\(?:type: .+\\|set `dualstack-python' to .+\\)\\'"))
    (should (string-match-p (concat "\\`There is no Python on the path" type)
                            (dualstack-python-test-complaint)))
    (unless (eq system-type 'windows-nt)
      (dualstack-python-test-program "apt-get")
      (should (string-match-p "; type: sudo apt-get install python3\\'"
                              (dualstack-python-test-complaint))))
    (let ((program (dualstack-python-test-script "python3" "print('dualstack 3.8 2f78')")))
      (should (string-match-p (concat "\\`python3\\(?:\\.bat\\)? is Python 3.8, "
                                      "and 3.10 or later is needed" type)
                              (dualstack-python-test-complaint)))
      (let ((dualstack-python program))
        (should (equal (dualstack-python-test-complaint)
                       (concat (file-name-nondirectory program)
                               " is Python 3.8, and 3.10 or later is needed; \
set `dualstack-python' to a Python 3.10 or later")))))
    (dualstack-python-test-script
     "python3" "import sys"
     "print('Python was not found; run without arguments to install from the \
Microsoft Store, or disable this shortcut', file=sys.stderr)" "sys.exit(49)")
    (should (string-match-p (concat "\\`python3\\(?:\\.bat\\)? is only a stub of the Microsoft Store"
                                    type)
                            (dualstack-python-test-complaint)))
    (dualstack-python-test-script "python3" "import sys" "print('broken', file=sys.stderr)"
                                  "sys.exit(3)")
    (should (string-match-p (concat "\\`python3\\(?:\\.bat\\)? is no Python that runs "
                                    "(status 3: broken)" type)
                            (dualstack-python-test-complaint)))
    ;; Who says too much is not waited for.
    (pcase-dolist (`(,code ,patience) '(("time.sleep(60)" 0.2)
                                        ("while True: print('something else')" 30)))
      ;; On Windows it is not the program itself, a batch file, that goes on.
      (dualstack-python-test-script "python3" "import time" code)
      (let ((dualstack-sidecar--patience patience)
            (start (float-time)))
        (should (string-match-p (concat "\\`python3\\(?:\\.bat\\)? does not answer" type)
                                (dualstack-python-test-complaint)))
        (should (< (- (float-time) start) 30))))
    ;; A sidecar says the same, and calls :else.
    (dualstack-python-test-script "python3" "print('dualstack 3.8 2f78')")
    (let (failure)
      (dualstack-sidecar-start :else (lambda (err) (setq failure err)))
      (dualstack-test-wait (lambda () failure))
      (should (string-match-p (concat "\\`dualstack: python3\\(?:\\.bat\\)? is Python 3.8, .*" type)
                              (cadr failure))))))

;;;; Hello without installing

(defconst dualstack-python-test-hello
  '(progn
     (require 'dualstack-sidecar)
     (let ((sidecar (dualstack-sidecar-start :wait t)))
       (princ (format "\nVALUE %S" (dualstack-epc-call (dualstack-sidecar-connection sidecar)
                                                      'hello nil)))
       (dualstack-sidecar-stop)
       (while (process-live-p (dualstack-sidecar-process sidecar))
         (accept-process-output nil 0.01))))
  "What an Emacs does that says hello.")

(defun dualstack-python-test-emacs (directory)
  "Return what an Emacs prints for a hello by the Lisp in DIRECTORY.
It has no settings, and an empty home."
  (let ((process-environment
         (append (list (concat "HOME=" (expand-file-name "home" dualstack-python-test-directory))
                       (concat "PATH=" (expand-file-name "bin" dualstack-python-test-directory)
                               (if (eq system-type 'windows-nt) (concat ";" (getenv "PATH"))
                                 ":/usr/bin:/bin:/usr/sbin:/sbin"))
                       "PYTHONDONTWRITEBYTECODE" "PYTHONPYCACHEPREFIX")
                 process-environment)))
    (with-temp-buffer
      (call-process (expand-file-name invocation-name invocation-directory) nil t nil
                    "-Q" "--batch" "-L" directory
                    "--eval" (prin1-to-string dualstack-python-test-hello))
      (goto-char (point-min))
      (if (re-search-forward "^VALUE \"\\(.*\\)\"" nil t)
          (match-string 1)
        (buffer-string)))))

(defun dualstack-python-test-tree (directory)
  "Return the names and times of all files below DIRECTORY."
  (mapcar (lambda (file)
            (cons file (file-attribute-modification-time (file-attributes file))))
          (directory-files-recursively directory "" t)))

(defun dualstack-python-test-clone ()
  "Return the directory of a copy of this repository's code, without bytecode."
  (let ((clone (expand-file-name "clone 文/" dualstack-python-test-directory)))
    (make-directory clone)
    (dolist (directory '("lisp" "python"))
      (copy-directory (expand-file-name directory dualstack-test-root) clone))
    (dolist (directory (directory-files-recursively clone "\\`__pycache__\\'" t))
      (delete-directory directory t))
    (mapc #'delete-file (directory-files-recursively clone "\\.elc\\'"))
    clone))

(defun dualstack-python-test-links (clone)
  "Return a directory of links to the Lisp of CLONE, compiled, as in straight."
  (let ((build (expand-file-name "build/" dualstack-python-test-directory)))
    (make-directory build)
    (dolist (file (directory-files (expand-file-name "lisp" clone) t "\\.el\\'"))
      (make-symbolic-link file (expand-file-name (file-name-nondirectory file) build)))
    (apply #'call-process (expand-file-name invocation-name invocation-directory) nil nil nil
           "-Q" "--batch" "-L" build "-f" "batch-byte-compile"
           (directory-files build t "\\`dualstack-sidecar.*\\.el\\'"))
    build))

(dualstack-python-test dualstack-python-hello-from-a-clone
  "Hello answers from a clone, or links to one, and nothing is written.
On Windows there are no links for everybody."
  (let* ((clone (dualstack-python-test-clone))
         (windows (eq system-type 'windows-nt))
         (build (and (not windows) (dualstack-python-test-links clone)))
         (home (expand-file-name "home" dualstack-python-test-directory)))
    (make-directory home)
    (set-file-modes home #o700)
    (dualstack-python-test-wrapper (if windows "python" "python3"))
    (when build
      (should (file-exists-p (expand-file-name "dualstack-sidecar-python.elc" build))))
    (let ((before (list (dualstack-python-test-tree clone) (dualstack-python-test-tree home))))
      (dolist (directory (cons (expand-file-name "lisp" clone) (and build (list build))))
        (should (equal (dualstack-python-test-emacs directory) "hello")))
      ;; A batch file is asked which Python it starts, and not run again.
      (should (= (if windows 1 4) (dualstack-python-test-calls)))
      (should (equal before (list (dualstack-python-test-tree clone)
                                  (dualstack-python-test-tree home)))))
    (delete-directory (expand-file-name "python" clone) t)
    (should (string-match-p "The directory python of the package"
                            (dualstack-python-test-emacs (expand-file-name "lisp" clone))))))

(when (eq system-type 'windows-nt)
  (dualstack-test-leave-out
   "\\`dualstack-python-directory-of-its-own\\'"
   "needs modes and owners of files, which Windows has otherwise"))

(provide 'dualstack-sidecar-python-test)

;;; dualstack-sidecar-python-test.el ends here
