;;; dualstack-sidecar-remote-test.el --- Test sidecars elsewhere  -*- lexical-binding: t; -*-

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

;; The other machine is this one, reached over an sshd of the test's own on a
;; loopback port, by TRAMP's ssh with and without direct processes, and over su.

;;; Code:

(require 'tramp)
(require 'tramp-sh)
(require 'dualstack-sidecar-helper)

(defvar dualstack-sidecar-remote-test-host "/dualstackssh:dualstack-test:"
  "What the other machine is called.")

(defmacro dualstack-sidecar-remote-test (name docstring &rest body)
  "Define the test NAME, with DOCSTRING, of BODY, beside an sshd.
It is a second test, too, in which processes are direct."
  (declare (indent 1) (doc-string 2))
  `(progn
     (dualstack-sidecar-helper-test ,name
       ,docstring
       (dualstack-sidecar-remote-test-call nil (lambda () ,@body)))
     (dualstack-sidecar-helper-test ,(intern (format "%s-direct" name))
       ,docstring
       (dualstack-sidecar-remote-test-call t (lambda () ,@body)))))

(defun dualstack-sidecar-remote-test-call (direct body)
  "Call BODY beside an sshd; DIRECT means that processes are.
The home directory on the other side is this test's."
  (unless (and (executable-find "ssh")
               (or (executable-find "sshd") (file-executable-p "/usr/sbin/sshd")))
    (ert-skip "needs ssh and sshd (Debian: openssh-server)"))
  (when (and direct (version< emacs-version "28"))
    (ert-skip "needs Emacs 28 or later"))
  (dualstack-test-with-child (sshd dualstack-test-python (dualstack-test-support "sshd.py")
                                    dualstack-sidecar-helper-directory)
    (let* ((home (dualstack-sidecar-remote-test-home))
           (tramp-methods (cons (dualstack-sidecar-remote-test-method) tramp-methods))
           (tramp-connection-properties
            (and direct (list (list (regexp-quote "/dualstackssh:") "direct-async-process" t))))
           (tramp-persistency-file-name nil)
           (tramp-verbose 1)
           (dualstack-sidecar-timeout 60)
           (dualstack-sidecar-remote--cache (concat home ".cache/dualstack/")))
      (unwind-protect
          (funcall body)
        (mapc #'dualstack-sidecar-helper-end dualstack-sidecars)
        (tramp-cleanup-connection
         (tramp-dissect-file-name (concat dualstack-sidecar-remote-test-host "/")))
        (dualstack-sidecar-remote-test-clean)))))

(defun dualstack-sidecar-remote-test-home ()
  "Return a directory that is the home of nobody, for what is cached."
  (let ((home (expand-file-name "home ü/" dualstack-sidecar-helper-directory)))
    (make-directory home)
    home))

(defun dualstack-sidecar-remote-test-clean ()
  "Remove the buffers and timers of TRAMP."
  (tramp-cleanup-all-connections)
  (dolist (buffer (buffer-list))
    (when (string-match-p "\\` ?\\*\\(?:debug \\)?tramp/\\| \\*tramp temp\\*" (buffer-name buffer))
      (kill-buffer buffer)))
  (dolist (timer (append timer-list timer-idle-list))
    (when (string-prefix-p "tramp" (format "%s" (timer--function timer)))
      (cancel-timer timer))))

(defun dualstack-sidecar-remote-test-method ()
  "Return a method of TRAMP, that of ssh with the configuration of the test."
  (let ((config (expand-file-name "ssh_config" dualstack-sidecar-helper-directory)))
    (append `("dualstackssh"
              (tramp-login-args (("-F" ,config) ("-e" "none") ("%h")))
              (tramp-copy-program nil))
            (cdr (assoc "ssh" tramp-methods)))))

(defun dualstack-sidecar-remote-test-start (&rest keys)
  "Start a sidecar on the other machine, with a module and KEYS; return it."
  (apply #'dualstack-sidecar-start
         (append keys
                 (list :name "away" :wait t :modules (list (dualstack-sidecar-remote-test-module))
                       :directory (concat dualstack-sidecar-remote-test-host "/tmp/")))))

(defun dualstack-sidecar-remote-test-module ()
  "Return the file of a module."
  (dualstack-sidecar-helper-file
   "m.py" "import os, sys, time" "from dualstack_epc import current_client" ""
   "def echo(*args): return list(args)"
   "def ask(n): return current_client().call_sync('answer', [n], timeout=20)"
   "def shout(text): print(text); return os.environ.get('SSH_CONNECTION', '') != ''"
   "def crash():" "    print('last words')" "    time.sleep(0.5)" "    os._exit(7)"
   "def slow(): time.sleep(60)"
   "def parent(): return os.getppid()"
   "def where(): return [os.getcwd(), sys.prefix, __file__]"
   "def plus(*n):" "    import tiny" "    return tiny.add(*n)"))

(defun dualstack-sidecar-remote-test-logged (sidecar)
  "Return what is in the log of SIDECAR."
  (dualstack-sidecar--log-current (dualstack-sidecar-log sidecar)))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-calls
  "A sidecar runs there, is called and calls; what it prints comes to the log."
  (let* ((sidecar (dualstack-sidecar-remote-test-start :methods '((answer 1+))))
         (bytes (apply #'unibyte-string (number-sequence 0 255)))
         (long (make-string (if tramp-connection-properties 16000000 300000) ?x)))
    (should (equal "away /dualstackssh:dualstack-test:" (dualstack-sidecar-name sidecar)))
    (should (string-match-p "/dualstackssh:dualstack-test:\\'"
                            (dualstack-sidecar-describe sidecar)))
    (should (dualstack-sidecar-helper-call sidecar 'shout "from there"))
    (should (equal 42 (dualstack-sidecar-helper-call sidecar 'ask 41)))
    (should (equal (list bytes) (dualstack-sidecar-helper-call sidecar 'echo bytes)))
    (should (equal '("\r\n\0\3\4ü\x1b") (dualstack-sidecar-helper-call sidecar 'echo "\r\n\0\3\4ü\x1b")))
    (should (string= long (car (dualstack-epc-call (dualstack-sidecar-connection sidecar)
                                                   'echo (list long) :timeout 200))))
    (pcase-let ((`(,directory ,_ ,file) (dualstack-sidecar-helper-call sidecar 'where)))
      (should (equal directory (directory-file-name (file-truename "/tmp/"))))
      (should (string-prefix-p dualstack-sidecar-remote--cache file)))
    (dualstack-test-wait
     (lambda () (string-match-p "^from there$" (dualstack-sidecar-remote-test-logged sidecar))))
    ;; Our source is there once.
    (dualstack-sidecar-restart (dualstack-sidecar-name sidecar))
    (setq sidecar (dualstack-sidecar-remote-test-start))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (should (= 1 (length (directory-files dualstack-sidecar-remote--cache nil "pyz"))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-ends
  "A crash, and a connection that is lost, end calls at once and say what happened."
  (let ((sidecar (dualstack-sidecar-remote-test-start :restart t)))
    (should (eq 'dualstack-epc-closed
                (car (should-error (dualstack-sidecar-helper-call sidecar 'crash)))))
    (dualstack-test-wait (lambda () (eq 'failed (dualstack-sidecar-state sidecar))))
    (should (string-match-p "it crashed, with status 7\\(.\\|\n\\)*last words"
                            (cadr (dualstack-sidecar-failure sidecar))))
    (setq sidecar (dualstack-sidecar-remote-test-start))
    (let ((parent (dualstack-sidecar-helper-call sidecar 'parent)) err)
      (dualstack-epc-call-async (dualstack-sidecar-connection sidecar) 'slow nil
                                :else (lambda (it) (setq err it)))
      (accept-process-output nil 0.05)
      (signal-process (process-id (dualstack-sidecar-process sidecar)) 'SIGKILL)
      (ignore parent)
      (dualstack-test-wait (lambda () err))
      (should (eq 'dualstack-epc-closed (car err)))
      (dualstack-test-wait (lambda () (eq 'failed (dualstack-sidecar-state sidecar))))
      (should (string-match-p "the connection to /dualstackssh:dualstack-test: is lost"
                              (cadr (dualstack-sidecar-failure sidecar)))))
    (setq sidecar (dualstack-sidecar-remote-test-start))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (dualstack-sidecar-stop (dualstack-sidecar-name sidecar))
    (dualstack-test-wait (lambda ()
                           (not (process-live-p (dualstack-sidecar-process sidecar)))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-mistakes
  "What cannot work there is an error that says why."
  (let ((here (dualstack-sidecar-helper-program "python3" "echo 3.7"))
        (directory (concat dualstack-sidecar-remote-test-host "/tmp/")))
    (should (string-match-p
             "python3 there is Python 3.7, and 3.10 or later is needed; install one"
             (dualstack-sidecar-helper-error :directory directory :python here)))
    (should (string-match-p
             "there is no /nonexistent/python there"
             (dualstack-sidecar-helper-error :directory directory :python "/nonexistent/python")))
    (should (string-match-p
             "there is no /nonexistent/program there"
             (dualstack-sidecar-helper-error :directory directory
                                             :command '("/nonexistent/program"))))
    (should (string-match-p
             "no module nonesuch"
             (dualstack-sidecar-helper-error :directory directory :modules '("nonesuch"))))
    (should (string-match-p
             "There is no file /nonexistent/m.py"
             (dualstack-sidecar-helper-error :directory directory
                                             :modules '("/nonexistent/m.py"))))
    (let ((dualstack-sidecar-remote--cache "/proc/nowhere/"))
      (should (string-match-p
               "/dualstackssh:dualstack-test: cannot be used: "
               (dualstack-sidecar-helper-error :directory directory))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-environment
  "An environment is made there, of what a module's metadata or the caller says."
  (let* ((wheel (dualstack-sidecar-helper-wheel))
         (sidecar (dualstack-sidecar-remote-test-start :requirements (list wheel))))
    (should (equal 3 (dualstack-sidecar-helper-call sidecar 'plus 1 2)))
    (should (string-prefix-p (concat dualstack-sidecar-remote--cache "environments")
                             (nth 1 (dualstack-sidecar-helper-call sidecar 'where))))
    (should-not (file-exists-p dualstack-sidecar-environments-directory))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-quit
  "C-g while it starts gives that up, and another start works."
  (let ((default-directory "/tmp/"))
    ;; The connection is open, but the sidecar takes its time.
    (let ((slow (dualstack-sidecar-helper-program
                 "python3" "sleep 30" (format "exec %s \"$@\"" dualstack-test-python))))
      (run-at-time 1 nil (lambda () (setq quit-flag t)))
      (should (eq 'quit (condition-case nil
                            (dualstack-sidecar-remote-test-start :python slow)
                          (quit 'quit)))))
    (let ((sidecar (dualstack-sidecar-remote-test-start)))
      (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-of-a-buffer
  "The machine can be that of the current buffer; here it is as ever."
  (let ((default-directory (concat dualstack-sidecar-remote-test-host "/tmp/")))
    (let ((sidecar (dualstack-sidecar-remote-test-start :directory 'current)))
      (should (dualstack-sidecar-helper-call sidecar 'shout "x"))))
  (let* ((default-directory "/tmp/")
         (sidecar (dualstack-sidecar-remote-test-start :directory 'current)))
    (should (equal "away" (dualstack-sidecar-name sidecar)))
    (should (dualstack-sidecar-port sidecar))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-command
  "Any program there that speaks EPC over its streams is a sidecar."
  (let ((sidecar (dualstack-sidecar-remote-test-start
                  :command (list dualstack-test-python "-X" "utf8"
                                 (expand-file-name "python/src/dualstack_epc"
                                                   dualstack-test-root)
                                 "serve" "--stdio"))))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-no-connection
  "That the machine is not reached is told, and its name."
  (skip-unless (executable-find "ssh"))
  (dualstack-sidecar-helper-file
   "ssh_config" "Host dualstack-test" "HostName 127.0.0.1"
   (format "Port %d" (dualstack-test-free-port)))
  (let ((tramp-methods (cons (dualstack-sidecar-remote-test-method) tramp-methods))
        (tramp-verbose 0))
    (unwind-protect
        (should (string-match-p
                 "/dualstackssh:dualstack-test: cannot be used: "
                 (dualstack-sidecar-helper-error
                  :directory (concat dualstack-sidecar-remote-test-host "~/"))))
      (dualstack-sidecar-remote-test-clean))))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-another-user
  "A sidecar can be that of another user, over su."
  (skip-unless (and (eq 0 (user-uid)) (executable-find "su")
                    (eq 0 (call-process "su" nil nil nil "-s" "/bin/sh" "nobody" "-c" "true"))))
  (unless (eq 0 (ignore-errors (call-process "/usr/bin/python3" nil nil nil "-c"
                              "import sys; sys.exit(sys.version_info < (3, 10))")))
    (ert-skip "needs a Python from 3.10 on at /usr/bin/python3"))
  ;; In plain ASCII: TRAMP of Emacs 28 cannot set modes of others by su.
  (let* ((home (expand-file-name "home/" dualstack-sidecar-helper-directory))
         (tramp-methods (cons (append '("dualstacksu"
                                        (tramp-login-args (("-s") ("/bin/sh") ("%u"))))
                                      (cdr (assoc "su" tramp-methods)))
                              tramp-methods))
         (tramp-verbose 0)
         (tramp-histfile-override nil)
         (dualstack-sidecar-timeout 60)
         (dualstack-sidecar-remote--cache (concat home "cache/")))
    (make-directory home)
    (set-file-modes dualstack-sidecar-helper-directory #o711)
    (set-file-modes home #o777)
    (unwind-protect
        (let ((sidecar (dualstack-sidecar-start
                        :name "nobody" :wait t :directory "/dualstacksu:nobody@localhost:/tmp/"
                        :python "/usr/bin/python3"
                        :modules (list (dualstack-sidecar-helper-file
                                        "u.py" "import getpass, os"
                                        "def user(): return os.geteuid()")))))
          (should (equal (string-to-number (shell-command-to-string "id -u nobody"))
                         (dualstack-sidecar-helper-call sidecar 'user))))
      (mapc #'dualstack-sidecar-helper-end dualstack-sidecars)
      (dualstack-sidecar-remote-test-clean))))

(dualstack-deftest dualstack-sidecar-remote-archive ()
  "The archive is one that Python runs, and the same each time."
  (let ((file (make-temp-file "dualstack" nil ".pyz"))
        (coding-system-for-write 'no-conversion)
        (bytes (dualstack-sidecar-zip--archive (dualstack-sidecar-zip--files))))
    (unwind-protect
        (progn
          (write-region bytes nil file nil 'silent)
          (should (equal bytes (dualstack-sidecar-zip--archive (dualstack-sidecar-zip--files))))
          (should (= 0 (call-process dualstack-test-python nil nil nil "-m" "zipfile" "-t" file)))
          (should (= 0 (call-process dualstack-test-python nil nil nil file "hello" "--help"))))
      (delete-file file))))

(when (eq system-type 'windows-nt)
  (dualstack-test-leave-out "\\`dualstack-sidecar-remote" "needs ssh, sshd or sh, and Windows has none"))

(provide 'dualstack-sidecar-remote-test)

;;; dualstack-sidecar-remote-test.el ends here
