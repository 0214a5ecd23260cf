;;; dualstack-package-test.el --- Tests of the package as a whole  -*- lexical-binding: t; -*-

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

;; What the README shows, the version, and that loading a file does nothing
;; else.

;;; Code:

(require 'dualstack-test-hosts)

(defun dualstack-package-test-lines (file regexp)
  "Return the first group of every match of REGEXP in FILE."
  (with-temp-buffer
    (insert-file-contents (expand-file-name file dualstack-test-root))
    (let (found)
      (while (re-search-forward regexp nil t)
        (push (match-string 1) found))
      (nreverse found))))

(ert-deftest dualstack-package-version ()
  "The version is the same wherever it stands."
  (let ((version dualstack-version))
    (should (equal (dualstack-package-test-lines "lisp/dualstack.el" "^;; Version: \\(.*\\)")
                   (list version)))
    ;; What is not released yet stands above.
    (should (string-prefix-p version
                             (seq-find (lambda (line) (not (string-suffix-p "(unreleased)" line)))
                                       (dualstack-package-test-lines "NEWS.org"
                                                                     "^\\* \\(.*\\)"))))
    (when (file-exists-p (expand-file-name "python/src" dualstack-test-root))
      (should (equal (dualstack-package-test-lines
                      "python/src/dualstack_epc/__init__.py" "^__version__ = \"\\(.*\\)\"")
                     (list version))))))

(defconst dualstack-package-test-changes
  '(lambda (libraries)
     (let* (hooks changes
            (state (lambda ()
                     (list (mapcar #'symbol-function
                                   '(make-network-process open-network-stream delete-process))
                           (append timer-list timer-idle-list nil)
                           (process-list)
                           (cl-remove " *code-conversion-work*" (buffer-list)
                                      :key #'buffer-name :test #'equal)
                           global-mode-string mode-line-misc-info))))
       (mapatoms (lambda (symbol)
                   (when (and (boundp symbol)
                              (string-match-p "-\\(hook\\|functions\\)\\'" (symbol-name symbol)))
                     (push symbol hooks))))
       (dolist (library libraries (nreverse changes))
         (let ((before (funcall state))
               (values (mapcar #'symbol-value hooks)))
           (require library)
           (unless (equal before (funcall state))
             (push (list library before (funcall state)) changes))
           (cl-mapc (lambda (hook value)
                      (unless (equal value (symbol-value hook))
                        (push (list library hook) changes)))
                    hooks values)))))
  "A function that loads libraries; its value is what they changed.
Hooks that they define do not count.")

(ert-deftest dualstack-package-loading-does-nothing-else ()
  "No file changes advice, hooks, timers, processes or buffers when loaded."
  ;; What one file needs is loaded with it, and what that changes counts, too.
  (let* ((libraries (mapcar (lambda (file) (intern (file-name-sans-extension file)))
                            (directory-files (expand-file-name "lisp" dualstack-test-root) nil
                                             "\\`dualstack.*\\.el\\'")))
         (run (dualstack-test-run
               (list (dualstack-test-emacs-program)
                     "-Q" "--batch" "-L" (expand-file-name "lisp" dualstack-test-root) "--eval"
                     (prin1-to-string
                      `(progn
                         ;; What Emacs's own libraries do when they are loaded is not ours.
                         (dolist (library '(cl-lib subr-x comint tabulated-list svg dom seq tramp checkdoc
                                                   compile network-stream nsm gnutls puny))
                           (require library nil t))
                         (prin1 (list 'changes (,dualstack-package-test-changes
                                                ',libraries)))))))))
    (should (equal run '(0 . "(changes nil)")))))

;;;; The README

(defun dualstack-package-test-blocks ()
  "Return the Lisp blocks of the README, and the Chinese one, that have no name."
  (with-temp-buffer
    (dolist (file '("README.org" "README.zh-CN.org"))
      (insert-file-contents (expand-file-name file dualstack-test-root)))
    (let (found)
      (while (re-search-forward "^#\\+begin_src emacs-lisp\n\\(\\(?:.*\n\\)*?\\)#\\+end_src" nil t)
        (let ((body (match-string 1)))
          (unless (save-excursion
                    (goto-char (match-beginning 0))
                    (forward-line -1)
                    (looking-at-p "#\\+name:"))
            (push body found))))
      (nreverse found))))

(defun dualstack-package-test-use-package ()
  "Return forms that make `use-package' loadable, or nil if it is not here."
  (let ((debian (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa-src/use-package-*")))
    (cond ((locate-library "use-package") '((require 'use-package)))
          (debian `((push ,(car debian) load-path)
                    (push ,(car (file-expand-wildcards
                                 "/usr/share/emacs/site-lisp/elpa-src/bind-key-*"))
                          load-path)
                    (require 'use-package))))))

(ert-deftest dualstack-package-readme-blocks ()
  "Each Lisp block of the README runs, and gives the value that it shows."
  (dolist (block (dualstack-package-test-blocks))
    (unless (and (string-match-p "use-package" block)
                 (not (dualstack-package-test-use-package)))
      (ert-info (block)
        (let* ((home (make-temp-file "home" t))
               (expected (and (string-match "^;; => \\(.*\\)" block)
                              (read (match-string 1 block))))
               (forms (car (read-from-string (concat "(" block "\n)"))))
               (process-environment (cons (concat "HOME=" home) process-environment)))
          (unwind-protect
              (progn
                (make-directory (expand-file-name "src" home))
                (if (eq system-type 'windows-nt) ; That has no links for everybody.
                    (copy-directory dualstack-test-root (expand-file-name "src/dualstack" home)
                                    nil nil t)
                  (make-symbolic-link (directory-file-name dualstack-test-root)
                                      (expand-file-name "src/dualstack" home)))
                (let ((value (apply #'dualstack-test-emacs nil
                                    `(setq dualstack-python ,dualstack-test-python
                                           load-prefer-newer t)
                                    (append (and (string-match-p "use-package" block)
                                                 (dualstack-package-test-use-package))
                                            forms
                                            (unless expected '(nil))))))
                  (when expected
                    ;; Windows refuses later than is waited for.
                    (should (equal (if (eq system-type 'windows-nt)
                                       (cl-subst "Connection refused" 'timeout value)
                                     value)
                                   expected)))))
            (delete-directory home t)))))))

(ert-deftest dualstack-package-readme-reference ()
  "The README's API reference is what `make docs' makes of the docstrings."
  (skip-unless (and dualstack-test-python
                    (file-exists-p (dualstack-test-support "docs.el"))))
  (should
   (equal "current"
          (dualstack-test-emacs
           nil
           `(progn (setenv "DUALSTACK_PYTHON" ,dualstack-test-python)
                   (load ,(dualstack-test-support "docs.el") nil t)
                   (if (dualstack-docs-current-p) "current" "type `make docs'"))))))

(defun dualstack-package-test-makeinfo (texi)
  "Return the status and output of makeinfo for the file TEXI, a cons."
  ;; Perl complains of a locale that was not generated.
  (dualstack-test-run
   (dualstack-test-there "env" "LC_ALL=C" "makeinfo"
                         "-o" (dualstack-test-name-there
                               (concat (file-name-sans-extension texi) ".info"))
                         (dualstack-test-name-there texi))))

(ert-deftest dualstack-package-readme-exports-to-info ()
  "The README becomes an Info manual without a warning."
  (unless (eq 0 (car (ignore-errors
                       (dualstack-test-run (dualstack-test-there "makeinfo" "--version")))))
    (ert-skip "needs makeinfo (Debian: texinfo)"))
  (let ((directory (make-temp-file (if (eq system-type 'windows-nt) (expand-file-name "/tmp/manual")
                                     "manual")
                                   t)))
    (unwind-protect
        (let ((org (expand-file-name "dualstack.org" directory)))
          (copy-file (expand-file-name "README.org" dualstack-test-root) org)
          (dualstack-test-emacs
           nil
           `(with-current-buffer (find-file-noselect ,org)
              (require 'ox-texinfo)
              (org-texinfo-export-to-texinfo)))
          (should (equal '(0 . "") (dualstack-package-test-makeinfo
                                    (expand-file-name "dualstack.texi" directory)))))
      (delete-directory directory t))))

(provide 'dualstack-package-test)

;;; dualstack-package-test.el ends here
