;;; dualstack-sidecar-helper.el --- For tests of sidecars  -*- lexical-binding: t; -*-

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

;; Tests of sidecars with a directory of their own, for modules, environments
;; and programs.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-sidecar)
(require 'dualstack-sidecar-environment)

(defvar dualstack-sidecar-helper-directory nil
  "The directory of a test, which is deleted after it.")

(defvar dualstack-sidecar-helper-messages nil
  "What was shown in the echo area in a test, newest first.")

(defmacro dualstack-sidecar-helper-test (name docstring &rest body)
  "Define the test NAME, with DOCSTRING, of BODY, which has a directory.
Environments are kept there; sidecars are ended."
  (declare (indent 1) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (dualstack-sidecar-helper-run (lambda () ,@body))))

(defun dualstack-sidecar-helper-run (body)
  "Call BODY with a directory, and end all sidecars."
  (let* ((dualstack-sidecar-helper-directory
          (file-name-as-directory (file-truename (make-temp-file "dualstack" t))))
         (dualstack-sidecar-environments-directory
          (expand-file-name "environments/" dualstack-sidecar-helper-directory))
         (dualstack-sidecar-environment--found (make-hash-table :test #'equal))
         (dualstack-python dualstack-test-python)
         (dualstack-sidecars nil)
         (dualstack-sidecar-helper-messages nil)
         (mode-line-misc-info mode-line-misc-info)
         (inhibit-message t))
    (unwind-protect
        (funcall body)
      (mapc #'dualstack-sidecar-helper-end dualstack-sidecars)
      (dolist (buffer (buffer-list))
        (when (string-prefix-p "*dualstack-environment" (buffer-name buffer))
          (let ((process (get-buffer-process buffer)))
            (when process
              (dualstack-test-wait (lambda () (not (process-live-p process))))))
          (kill-buffer buffer)))
      (delete-directory dualstack-sidecar-helper-directory t))))

(defun dualstack-sidecar-helper-end (sidecar)
  "Stop SIDECAR, wait until it is gone, and kill its log."
  (when (memq (dualstack-sidecar-state sidecar) '(starting running))
    (dualstack-sidecar-stop (dualstack-sidecar-name sidecar)))
  (dualstack-test-wait
   (lambda () (not (process-live-p (dualstack-sidecar-process sidecar)))))
  (dualstack-sidecar--disarm sidecar)
  (when (buffer-live-p (dualstack-sidecar-log sidecar))
    (kill-buffer (dualstack-sidecar-log sidecar))))

(defun dualstack-sidecar-helper-file (name &rest lines)
  "Write LINES to the file NAME of the test's directory; return its full name."
  (let ((file (expand-file-name name dualstack-sidecar-helper-directory))
        (coding-system-for-write 'utf-8-unix))
    (make-directory (file-name-directory file) t)
    (write-region (mapconcat (lambda (line) (concat line "\n")) lines "") nil file nil 'silent)
    file))

(defun dualstack-sidecar-helper-program (name &rest lines)
  "Write a shell script of LINES to the file NAME in bin; return its full name."
  (let ((file (apply #'dualstack-sidecar-helper-file (concat "bin/" name) "#!/bin/sh" lines)))
    (set-file-modes file #o755)
    file))

(defun dualstack-sidecar-helper-python (name &rest prelude)
  "Make NAME in bin a program: PRELUDE, lines of Python, and then Python itself.
Return its full name."
  (dualstack-test-launcher
   (expand-file-name (concat "bin/" name) dualstack-sidecar-helper-directory)
   (apply #'dualstack-sidecar-helper-file (concat "bin/" name ".py")
          (append '("import os, subprocess, sys, time")
                  prelude
                  ;; Which may be called something else outside this system.
                  (list "python = [sys.executable, *sys.argv[1:]]"
                        "if os.name == 'posix':"
                        "    os.execv(python[0], python)"
                        "sys.exit(subprocess.call(python))")))))

(defun dualstack-sidecar-helper-python-file ()
  "Return the file of our Python on its own system, which may be another."
  (with-temp-buffer
    (call-process dualstack-test-python nil t nil "-c" "import sys; print(sys.executable, end='')")
    (buffer-string)))

(defun dualstack-sidecar-helper-stay-inside ()
  "Have the test's sidecars run by a Python of this system.
Skip the test if there is none that makes environments."
  (let ((python (if (file-executable-p (dualstack-sidecar-helper-python-file))
                    dualstack-python
                  (executable-find "python3"))))
    (unless (and python
                 (eq 0 (call-process python nil nil nil "-c" "import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 10))")))
      (ert-skip "needs a Python from 3.10 on, with venv, that is of this system"))
    (setq dualstack-python python)))

(defun dualstack-sidecar-helper-wheel (&optional there)
  "Return the file of a wheel with the package tiny.
Skip the test where Emacs could not run an environment that has it, unless one
is made THERE, where the Python for tests is.  If that is outside this system,
sidecars of the test are run by a Python of the system."
  (unless there
    (dualstack-sidecar-helper-stay-inside))
  (with-temp-buffer
    (call-process dualstack-test-python nil t nil
                  (dualstack-test-support "tiny_wheel.py") dualstack-sidecar-helper-directory)
    (string-trim (buffer-string))))

(defun dualstack-sidecar-helper-call (sidecar method &rest args)
  "Call METHOD of SIDECAR with ARGS."
  (dualstack-epc-call (dualstack-sidecar-connection sidecar) method args))

(defun dualstack-sidecar-helper-error (&rest keys)
  "Start a sidecar with KEYS, and return the text of the error."
  (cadr (should-error (apply #'dualstack-sidecar-start :name "wrong" :wait t keys)
                      :type 'dualstack-sidecar-error)))

(provide 'dualstack-sidecar-helper)

;;; dualstack-sidecar-helper.el ends here
