;;; dualstack-install-test.el --- Tests of every way into Emacs  -*- lexical-binding: t; -*-

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

;; The Lisp files on `load-path' as the README has it, a repository by :vc,
;; a package from a tar, links as straight and elpaca make them, and a
;; directory that is read-only as Nix, Guix and site-lisp have it.  Each is
;; tried in an empty Emacs with a home directory of its own.

;;; Code:

(require 'dualstack-test-hosts)
(require 'subr-x)

(load (expand-file-name "tests/support/first-block.el" dualstack-test-root) nil t)

(defun dualstack-install-test-files ()
  "Return the Lisp files of the package."
  (cl-remove-if (lambda (file) (string-match-p "-\\(?:autoloads\\|pkg\\)\\.el\\'" file))
                (directory-files (expand-file-name "lisp" dualstack-test-root)
                                 t "\\`dualstack.*\\.el\\'")))

(defun dualstack-install-test-definitions (kinds)
  "Return the names defined in the package by KINDS, a list of macros."
  (let (names)
    (dolist (file (dualstack-install-test-files))
      (with-temp-buffer
        (insert-file-contents file)
        (while (re-search-forward (concat "^" (regexp-opt kinds "(\\(?:") " \\([^ )\n]+\\)") nil t)
          (push (intern (match-string 1)) names))))
    names))

(defun dualstack-install-test-cookies ()
  "Return the names of functions below an autoload cookie."
  (let (names)
    (dolist (file (dualstack-install-test-files))
      (with-temp-buffer
        (insert-file-contents file)
        (while (re-search-forward
                "^;;;###autoload\n(\\(?:cl-defun\\|defun\\|defmacro\\|define-minor-mode\\) \\([^ \n]+\\)" nil t)
          (push (intern (match-string 1)) names))))
    names))

(defmacro dualstack-install-test-with-home (variable &rest body)
  "Run BODY with VARIABLE bound to a new home directory, which Emacs then has.
So have the children of BODY, who find no dualstack and no sidecar there."
  (declare (indent 1) (debug (symbolp body)))
  `(let* ((,variable (file-name-as-directory (file-truename (make-temp-file "home" t))))
          (process-environment
           (append (list (concat "HOME=" (directory-file-name ,variable)) "XDG_CONFIG_HOME"
                         "XDG_CACHE_HOME" "XDG_DATA_HOME")
                   process-environment)))
     (unwind-protect
         (progn ,@body)
       ;; What was made read-only is to go, too.
       (unless (eq system-type 'windows-nt)
         (call-process "chmod" nil nil nil "-R" "u+w" ,variable))
       (delete-directory ,variable t))))

(defun dualstack-install-test-emacs (wrapper &rest forms)
  "Run FORMS in an empty Emacs; return the value of the last and what it printed.
WRAPPER is a list of a program and its arguments that runs it, or nil."
  (with-temp-buffer
    (let* ((command (append wrapper
                            (list (dualstack-test-emacs-program)
                                  "-Q" "--batch" "--eval"
                                  (prin1-to-string
                                   `(let ((value (progn ,@forms)))
                                      (princ (format "\nVALUE %S" value)))))))
           (default-directory (expand-file-name "/"))
           (run (dualstack-test-run command 120)))
      (insert (cdr run))
      (goto-char (point-max))
      (unless (and (eq (car run) 0) (re-search-backward "^VALUE " nil t))
        (error "%S gave %S: %s" command (car run) (buffer-string)))
      (let ((printed (string-trim (buffer-substring (point-min) (point)))))
        (goto-char (match-end 0))
        (list (read (current-buffer)) printed)))))

(defconst dualstack-install-test-hello
  `(progn (require 'dualstack-sidecar)
          (setq dualstack-python ,dualstack-test-python)
          (let ((sidecar (dualstack-sidecar-start :wait t)))
            (prog1 (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'hello nil)
              (dualstack-sidecar-stop))))
  "A form whose value is \"hello\", by a sidecar.")

;;;; The files on `load-path'

(ert-deftest dualstack-install-readme-blocks ()
  "The first blocks of the README turn the mode on, and every command can be typed.
The one with `use-package' needs Emacs 29, and is tried from there on."
  (dolist (kind (if (locate-library "use-package") '("(use-package" "(require 'dualstack)")
                  '("(require 'dualstack)")))
    (dualstack-install-test-with-home home
      (make-directory (expand-file-name "src" home))
      (if (eq system-type 'windows-nt) ; That has no links for everybody.
          (copy-directory dualstack-test-root (expand-file-name "src/dualstack" home) nil nil t)
        (make-symbolic-link (directory-file-name dualstack-test-root)
                            (expand-file-name "src/dualstack" home)))
      (with-temp-buffer
        (let ((status (call-process
                       (dualstack-test-emacs-program) nil t nil
                       "-Q" "--batch"
                       "--eval" (format "(setq dualstack-python %S)" dualstack-test-python)
                       "-l" (expand-file-name "src/dualstack/tests/support/first-block.el" home)
                       "--eval" (format "(dualstack-first-block %S)" kind))))
          (ert-info ((buffer-string))
            (should (eq status 0))))))))

(ert-deftest dualstack-install-autoloads ()
  "With dualstack alone loaded every function with a cookie is defined.
Commands are so as commands."
  (should-not
   (dualstack-test-emacs
    nil
    '(require 'cl-lib)
    `(let (missing)
       (dolist (name ',(dualstack-install-test-cookies) missing)
         (unless (and (fboundp name)
                      (let ((interactive (commandp name)))
                        (autoload-do-load (symbol-function name) name)
                        (eq interactive (commandp name))))
           (push name missing)))))))

(ert-deftest dualstack-install-commands ()
  "Every command has a cookie, unless it is a mode or one for a mode's buffers."
  (let ((features (mapcar (lambda (file) (intern (file-name-base file)))
                          (dualstack-install-test-files))))
    (should-not
     (dualstack-test-emacs
      nil
      `(mapc #'require ',features)
      `(let (found bound)
         (mapatoms (lambda (symbol)
                     (when (and (string-match-p "\\`dualstack.*-map\\'" (symbol-name symbol))
                                (boundp symbol) (keymapp (symbol-value symbol)))
                       (map-keymap (lambda (_key command) (push command bound))
                                   (symbol-value symbol)))))
         (mapatoms (lambda (symbol)
                     (when (and (string-prefix-p "dualstack-" (symbol-name symbol))
                                (commandp symbol)
                                (not (string-match-p "--" (symbol-name symbol)))
                                (not (get symbol 'derived-mode-parent))
                                (not (memq symbol bound))
                                (not (get symbol 'completion-predicate))
                                (not (and (fboundp 'command-modes) (command-modes symbol)))
                                (not (memq symbol ',(dualstack-install-test-cookies))))
                       (push symbol found))))
         found)))))

(defun dualstack-install-test-options ()
  "Return the options and faces of the package."
  (dualstack-install-test-definitions '("defcustom" "defface")))

(defconst dualstack-install-test-group
  '(progn
     ;; A batch Emacs 30 without graphics has none, and asks for it.
     (defvar tool-bar-map (make-sparse-keymap))
     (customize-group 'dualstack)
     (let (members (groups '(dualstack)))
       (while groups
         (dolist (member (custom-group-members (pop groups) nil))
           (push (car member) (if (eq (cadr member) 'custom-group) groups members))))
       members))
  "A form that shows the group and gives the options and faces in it.")

(ert-deftest dualstack-install-customize-group ()
  "All options are in `customize-group' when dualstack alone is loaded."
  (should (> (length (dualstack-install-test-options)) 10))
  (should-not (cl-set-difference
               (dualstack-install-test-options)
               (dualstack-test-emacs nil dualstack-install-test-group))))

;;;; A package

(defun dualstack-install-test-repository (directory)
  "Make DIRECTORY a repository of what this one's files are now."
  (make-directory directory t)
  (unless (executable-find "git")
    (ert-skip "needs git (Debian: git)"))
  (dolist (file '("lisp" "python" "tests" ".ci" ".elpaignore" ".gitignore" "Makefile" "LICENSE"
                  "README.org" "NEWS.org"))
    (let ((source (expand-file-name file dualstack-test-root)))
      (cond ((file-directory-p source)
             (copy-directory source (file-name-as-directory directory)))
            ((file-exists-p source)
             (copy-file source (file-name-as-directory directory))))))
  (let ((default-directory (file-name-as-directory directory)))
    (dolist (arguments '(("init" "-q") ("add" ".")
                         ("-c" "user.name=a" "-c" "user.email=a@b" "commit" "-qm" "x")))
      (should (eq 0 (apply #'call-process "git" nil nil nil arguments))))))

(defun dualstack-install-test-vc-form ()
  "Return the README's form with :vc."
  (with-temp-buffer
    (insert-file-contents (expand-file-name "README.org" dualstack-test-root))
    (re-search-forward "^(use-package dualstack\n +:vc")
    (goto-char (match-beginning 0))
    (read (current-buffer))))

(defconst dualstack-install-test-after
  `(progn
     (setq package-archives nil)
     (package-initialize)
     (list (memq 'dualstack features)
           (delq nil (mapcar (lambda (name) (and (not (autoloadp (symbol-function name))) name))
                             ',(dualstack-install-test-cookies)))
           ,dualstack-install-test-group
           (progn (dualstack-mode 1) dualstack-mode)
           ,dualstack-install-test-hello))
  "A form for the next session.
Its value: whether it was loaded, what is not autoloaded, the options, the
mode, and hello.")

(defun dualstack-install-test-should-work (value)
  "Fail unless VALUE, of the form for the next session, is as it should be."
  (pcase-let ((`(,loaded ,missing ,options ,mode ,hello) value))
    (should-not loaded)
    (should-not missing)
    (should-not (cl-set-difference (dualstack-install-test-options) options))
    (should (eq mode t))
    (should (equal hello "hello"))))

(ert-deftest dualstack-install-vc ()
  "Emacs 30 installs the repository by the README's :vc, and reports no error or warning."
  (unless (>= emacs-major-version 30)
    (ert-skip "needs Emacs 30 or later: make test EMACS=..."))
  (dualstack-install-test-with-home home
    (let* ((form (dualstack-install-test-vc-form))
           (place (plist-get (cddr form) :vc))
           (url (plist-get place :url)))
      (should (string-match "/home/YOU/" url))
      (plist-put place :url (replace-match home t t url))
      (dualstack-install-test-repository (expand-file-name "src/dualstack" home))
      (make-directory (expand-file-name ".emacs.d" home))
      (pcase-let ((`(,value ,printed)
                   (dualstack-install-test-emacs
                    nil
                    '(setq package-archives nil)
                    '(package-initialize)
                    form
                    '(list (bound-and-true-p dualstack-mode)
                           (mapcar (lambda (name)
                                     (and (get-buffer name)
                                          (with-current-buffer name (buffer-string))))
                                   '("*Compile-Log*" "*Warnings*"))))))
        (ert-info (printed)
          (should (eq (car value) t))
          (dolist (text (cons printed (cadr value)))
            (should-not (string-match-p "error\\|warning" (downcase (or text "")))))))
      (dualstack-install-test-should-work
       (car (dualstack-install-test-emacs nil dualstack-install-test-after))))))

(defun dualstack-install-test-package (directory)
  "Make the package's tar in DIRECTORY; return the status and output of that."
  (let* ((windows (eq system-type 'windows-nt))
         (target (if windows (make-temp-file (expand-file-name "/tmp/tar") t) directory)))
    (prog1 (dualstack-test-run
            (dualstack-test-there
             "sh" (dualstack-test-name-there (expand-file-name ".ci/package" dualstack-test-root))
             (dualstack-test-name-there target)))
      (when windows ; It was made on the machine below.
        (dolist (tar (directory-files target t "tar\\'"))
          (copy-file tar (file-name-as-directory directory)))
        (delete-directory target t)))))

(ert-deftest dualstack-install-tar ()
  "The package's tar installs without a warning, and its manual is in the Info directory."
  (unless (and (or (eq system-type 'windows-nt) (executable-find "tar"))
               (file-exists-p (expand-file-name ".ci/package" dualstack-test-root)))
    (ert-skip "needs tar, and a clone of the repository"))
  (dualstack-install-test-with-home home
    (let ((process-environment
           (cons (concat "EMACS=" (dualstack-test-emacs-program))
                 process-environment)))
      (make-directory (expand-file-name ".emacs.d" home))
      (let ((made (dualstack-install-test-package home)))
        (ert-info ((cdr made))
          (should (eq 0 (car made)))))
      (pcase-let ((`(,_value ,printed)
                   (dualstack-install-test-emacs
                    nil
                    '(setq package-archives nil)
                    '(package-initialize)
                    `(package-install-file
                      ,(expand-file-name (format "dualstack-%s.tar" dualstack-version) home)))))
        (should-not (string-match-p "error\\|warning" (downcase printed))))
      (dualstack-install-test-should-work
       (car (dualstack-install-test-emacs nil dualstack-install-test-after)))
      (when (executable-find "makeinfo")
        (should (string-match-p
                 "dualstack:"
                 (car (dualstack-install-test-emacs
                       nil
                       '(setq package-archives nil)
                       '(package-initialize)
                       '(require 'info)
                       '(info "(dir)")
                       '(goto-char (point-min))
                       '(re-search-forward "(dualstack)")
                       '(buffer-substring (line-beginning-position) (line-end-position))))))))))

;;;; Other places

(ert-deftest dualstack-install-links ()
  "A directory of links to the Lisp files is enough, as straight and elpaca make it."
  (dualstack-install-test-with-home home
    (let ((build (expand-file-name "build/dualstack" home)))
      (make-directory build t)
      (dolist (file (dualstack-install-test-files))
        (make-symbolic-link file (expand-file-name (file-name-nondirectory file) build)))
      (should
       (equal (car (dualstack-install-test-emacs
                    nil
                    `(push ,build load-path)
                    ;; They compile beside the links, and load that.
                    `(let ((inhibit-message t))
                       (byte-recompile-directory ,build 0 t))
                    '(require 'dualstack)
                    '(dualstack-mode 1)
                    `(list dualstack-mode (file-name-extension (locate-library "dualstack"))
                           ,dualstack-install-test-hello)))
              '(t "elc" "hello"))))))

(defun dualstack-install-test-read-only-below (directory function)
  "Call FUNCTION while DIRECTORY is read-only, which the machine below sees to."
  (let ((child (apply #'dualstack-test-child
                      (dualstack-test-there
                       "sh" "-c" "trap '' HUP; mount --bind \"$0\" \"$0\"
mount -o remount,bind,ro \"$0\" && echo made; cat >/dev/null; umount \"$0\""
                       (dualstack-test-name-there directory)))))
    (unwind-protect
        (funcall function)
      (process-send-eof child)
      (dualstack-test-wait (lambda () (not (process-live-p child))))
      (dualstack-test-end child))))

(defun dualstack-install-test-read-only (directory)
  "Make DIRECTORY read-only; return a wrapper in which that is true for root, too."
  (call-process "chmod" nil nil nil "-R" "a-w" directory)
  (when (eq 0 (user-uid))
    (let ((wrapper (list "unshare" "-m" "sh" "-ec"
                         "mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"; exec \"$@\""
                         directory)))
      (unless (and (executable-find "unshare")
                   (eq 0 (apply #'call-process (car wrapper) nil nil nil
                                (append (cdr wrapper) '("true")))))
        (ert-skip "needs an ordinary user, or leave to mount, which a container may not give"))
      wrapper)))

(ert-deftest dualstack-install-read-only ()
  "All works where the package may not be written, as in Nix, Guix and site-lisp."
  (let ((temporary-file-directory (if (eq system-type 'windows-nt) (expand-file-name "/tmp/")
                                    temporary-file-directory)))
    (dualstack-install-test-with-home home
      (let* ((place (expand-file-name "store/dualstack" home))
             (file (expand-file-name "lisp/new" place))
             (use (lambda (&optional wrapper)
                    (car (dualstack-install-test-emacs
                          wrapper
                          `(push ,(expand-file-name "lisp" place) load-path)
                          '(require 'dualstack)
                          '(dualstack-mode 1)
                          `(list dualstack-mode
                                 (condition-case nil (write-region "" nil ,file) (error 'refused))
                                 ,dualstack-install-test-hello))))))
        (make-directory place t)
        (dolist (directory '("lisp" "python"))
          (copy-directory (expand-file-name directory dualstack-test-root)
                          (file-name-as-directory place)))
        (should
         (equal (if (eq system-type 'windows-nt)
                    (dualstack-install-test-read-only-below place use)
                  (funcall use (dualstack-install-test-read-only place)))
                '(t refused "hello")))))))

(when (eq system-type 'windows-nt)
  (dualstack-test-leave-out
   "\\`dualstack-install-links\\'" "needs symbolic links, which users of Windows may not make"))

(provide 'dualstack-install-test)

;;; dualstack-install-test.el ends here
