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
;; Under Wine it is the one that this runs on, and tests/windows/host.py is ssh
;; and sshd.

;;; Code:

(require 'tramp)
(require 'tramp-sh)
(require 'dualstack-sidecar-helper)
(require 'dualstack-test-hosts)

;; New in Emacs 28.
(defvar tramp-system-name)

(defvar dualstack-sidecar-remote-test-host "/dualstackssh:dualstack-test:"
  "What the other machine is called.")

(defvar dualstack-sidecar-remote-test-direct nil
  "Whether processes of TRAMP are direct.")

(defvar dualstack-sidecar-remote-test-delay "0"
  "Seconds that what is sent to or by the sshd takes, a string.")

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
  (when (and direct (version< emacs-version "28"))
    (ert-skip "needs Emacs 28 or later"))
  (dualstack-sidecar-remote-test-with-sshd
   (lambda ()
     (let* ((home (dualstack-sidecar-remote-test-home))
            (tramp-methods (cons (dualstack-sidecar-remote-test-method) tramp-methods))
            (dualstack-sidecar-remote-test-direct direct)
            (connection-local-profile-alist connection-local-profile-alist)
            (connection-local-criteria-alist connection-local-criteria-alist)
            (tramp-connection-properties (dualstack-sidecar-remote-test-properties))
            (tramp-persistency-file-name nil)
            (tramp-verbose 1)
            (dualstack-sidecar-timeout 60)
            (dualstack-sidecar-remote--cache
             (concat (dualstack-test-name-there home) ".cache/dualstack/")))
       (unwind-protect
           (funcall body)
         (mapc #'dualstack-sidecar-helper-end dualstack-sidecars)
         (dualstack-sidecar-remote-test-kill)
         (tramp-cleanup-connection
          (tramp-dissect-file-name (concat dualstack-sidecar-remote-test-host "/")))
         (dualstack-sidecar-remote-test-clean))))))

(defun dualstack-sidecar-remote-test-with-sshd (body)
  "Call BODY beside an sshd, or skip the test."
  (if (eq system-type 'windows-nt)
      (dualstack-sidecar-remote-test-below body)
    (unless (and (executable-find "ssh") (dualstack-sidecar-remote-test-sshd-p))
      (ert-skip "needs ssh and sshd (Debian: openssh-client, openssh-server)"))
    (dualstack-test-with-child (sshd dualstack-test-python (dualstack-test-support "sshd.py")
                                      dualstack-sidecar-helper-directory
                                      dualstack-sidecar-remote-test-delay)
      (funcall body))))

(defun dualstack-sidecar-remote-test-below (body)
  "Call BODY where the other machine is that below Wine, or skip the test.
The way there is that of a process, which can be stopped."
  (let* ((dualstack-sidecar-helper-directory
          (file-name-as-directory (make-temp-file (expand-file-name "/tmp/dualstack") t)))
         (relay nil))
    (unwind-protect
        (progn
          (setq relay (apply #'dualstack-test-child
                             (dualstack-test-there
                              "python" (dualstack-test-name-there (dualstack-test-support "far.py"))
                              (car (split-string (or (getenv "DUALSTACK_HOST") "")))
                              dualstack-sidecar-remote-test-delay)))
          (pcase-let ((`(,port ,pid) (split-string (process-get relay 'line))))
            (dualstack-sidecar-helper-file "ssh_config" (concat "Port " port))
            (dualstack-sidecar-helper-file "sshd.pid" pid))
          (dualstack-sidecar-remote-test-with-shell body))
      (when relay
        (dualstack-test-end relay))
      ;; Not by Emacs: Wine deletes what a symbolic link leads to, such as Python itself.
      (dualstack-test-run (dualstack-test-there
                           "rm" "-r" (dualstack-test-name-there
                                      dualstack-sidecar-helper-directory))))))

(defun dualstack-sidecar-remote-test-with-shell (body)
  "Call BODY where TRAMP begins with a shell of this system.
Under Wine the variable SHELL is that of another."
  (if (eq system-type 'windows-nt)
      (let ((tramp-encoding-shell (getenv "COMSPEC"))
            (tramp-encoding-command-interactive nil)
            (tramp-restricted-shell-hosts-alist (list (regexp-quote tramp-system-name))))
        (funcall body))
    (funcall body)))

(defun dualstack-sidecar-remote-test-properties ()
  "Return properties of TRAMP's connections that make processes direct, if wanted.
Emacs 30 has a variable for it."
  (cond ((not dualstack-sidecar-remote-test-direct) nil)
        ((boundp 'tramp-direct-async-process)
         (connection-local-set-profile-variables
          'dualstack-test-direct '((tramp-direct-async-process . t)))
         (connection-local-set-profiles
          '(:application tramp :protocol "dualstackssh") 'dualstack-test-direct)
         nil)
        (t (list (list (regexp-quote "/dualstackssh:") "direct-async-process" t)))))

(defvar dualstack-sidecar-remote-test-found 'unknown
  "Whether there is an sshd.")

(defun dualstack-sidecar-remote-test-sshd-p ()
  "Return non-nil if there is an sshd beside Python, which may be elsewhere."
  (when (eq dualstack-sidecar-remote-test-found 'unknown)
    (setq dualstack-sidecar-remote-test-found
          (eq 0 (call-process dualstack-test-python nil nil nil
                              (dualstack-test-support "sshd.py") "--find"))))
  dualstack-sidecar-remote-test-found)

(defun dualstack-sidecar-remote-test-home ()
  "Return a directory that is the home of nobody, for what is cached."
  (let ((home (expand-file-name "home ü/" dualstack-sidecar-helper-directory)))
    (make-directory home)
    home))

(defun dualstack-sidecar-remote-test-kill ()
  "On Windows kill the processes of TRAMP: Emacs hangs if their ssh outlives them."
  (when (eq system-type 'windows-nt)
    (dolist (process (process-list))
      (when (string-prefix-p "*tramp/" (process-name process))
        (dualstack-child--kill process)))))

(defun dualstack-sidecar-remote-test-clean ()
  "End the processes of TRAMP, and remove its buffers and timers."
  (dualstack-sidecar-remote-test-kill)
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

(defun dualstack-sidecar-remote-test-program (name &rest lines)
  "Write a shell script of LINES to the file NAME; return what it is called there."
  (let ((file (dualstack-test-name-there
               (apply #'dualstack-sidecar-helper-program name lines))))
    (set-file-modes (concat dualstack-sidecar-remote-test-host file) #o755)
    file))

(defun dualstack-sidecar-remote-test-module ()
  "Return the file of a module."
  (dualstack-sidecar-helper-file
   "m.py" "import os, sys, time" "from dualstack_epc import current_client" ""
   "def echo(*args): return list(args)"
   "def long(n): return 'x' * n"
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
         (size (if dualstack-sidecar-remote-test-direct 16000000 300000))
         ;; Wine fails, with EINVAL, where a pipe is full.
         (long (make-string (if dualstack-test-on-wine 2000 size) ?x)))
    (should (equal "away /dualstackssh:dualstack-test:" (dualstack-sidecar-name sidecar)))
    (should (string-match-p "/dualstackssh:dualstack-test:\\'"
                            (dualstack-sidecar-describe sidecar)))
    (should (dualstack-sidecar-helper-call sidecar 'shout "from there"))
    (should (equal 42 (dualstack-sidecar-helper-call sidecar 'ask 41)))
    (should (equal (list bytes) (dualstack-sidecar-helper-call sidecar 'echo bytes)))
    (should (equal '("\r\n\0\3\4ü\x1b") (dualstack-sidecar-helper-call sidecar 'echo "\r\n\0\3\4ü\x1b")))
    (should (string= long (car (dualstack-epc-call (dualstack-sidecar-connection sidecar)
                                                   'echo (list long) :timeout 200))))
    (should (= size (length (dualstack-epc-call (dualstack-sidecar-connection sidecar)
                                                'long (list size) :timeout 200))))
    (pcase-let ((`(,directory ,_ ,file) (dualstack-sidecar-helper-call sidecar 'where)))
      (should (equal directory (file-remote-p (file-truename
                                               (concat dualstack-sidecar-remote-test-host "/tmp"))
                                              'localname)))
      (should (string-prefix-p dualstack-sidecar-remote--cache file)))
    (dualstack-test-wait
     (lambda () (string-match-p "^from there$" (dualstack-sidecar-remote-test-logged sidecar))))
    ;; Our source is there once.
    (dualstack-sidecar-restart (dualstack-sidecar-name sidecar))
    (setq sidecar (dualstack-sidecar-remote-test-start))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (should (= 1 (length (directory-files dualstack-sidecar-remote--cache nil "pyz"))))))

(defun dualstack-sidecar-remote-test-imports ()
  "Write modules that import others, and what is not to be copied.
Return a module, a package and a directory with one."
  (dualstack-sidecar-helper-file "with spaces/helfer.py" "WORD = 'Grüße'")
  (dualstack-sidecar-helper-file "with spaces/tool/__init__.py" "from .deep import part")
  (dualstack-sidecar-helper-file "with spaces/tool/deep/__init__.py" "")
  (dualstack-sidecar-helper-file "with spaces/tool/deep/part.py" "NUMBER = 4")
  (dualstack-sidecar-helper-file "with spaces/.venv/x.py" "1")
  (dualstack-sidecar-helper-file "with spaces/big.bin" (make-string 5000000 ?x))
  (dualstack-sidecar-helper-file "greeter/data/word.txt" "from data")
  (dualstack-sidecar-helper-file "greeter/wörd.py" "import os" "HERE = os.path.dirname(__file__)")
  (dualstack-sidecar-helper-file "lib/json/__init__.py" "raise SystemExit('not the one of Python')")
  (dualstack-sidecar-helper-file "lib/named/__init__.py" "import json" "def twice(n): return 2 * n")
  (list (dualstack-sidecar-helper-file
         "with spaces/m ü.py" "import helfer" "from tool import part"
         "def both(): return [helfer.WORD, part.NUMBER, __file__]")
        (dualstack-sidecar-helper-file
         "greeter/__init__.py" "from . import wörd"
         "def read():" "    with open(wörd.HERE + '/data/word.txt') as f: return f.read().strip()")
        (expand-file-name "lib" dualstack-sidecar-helper-directory)))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-imports
  "A module can import what is beside it there, too, and can be a package."
  (dualstack-sidecar-remote-test-call
   nil
   (lambda ()
     (pcase-let* ((`(,file ,package ,lib) (dualstack-sidecar-remote-test-imports))
                  (keys (list :modules (list file package "named") :path (list lib)))
                  (sidecar (apply #'dualstack-sidecar-remote-test-start keys))
                  (cache (concat dualstack-sidecar-remote--cache "modules/"))
                  (all (directory-files cache)))
       (pcase-let ((`(,word ,number ,there) (dualstack-sidecar-helper-call sidecar 'both)))
         (should (equal (list word number) '("Grüße" 4)))
         (should (equal '("helfer.py" "m ü.py" "tool")
                        (directory-files (file-name-directory there) nil "\\`[^._]"))))
       (should (equal "from data" (dualstack-sidecar-helper-call sidecar 'read)))
       (should (equal 8 (dualstack-sidecar-helper-call sidecar 'twice 4)))
       ;; Once for each content.
       (should (= 5 (length all)))
       (dualstack-sidecar-helper-file "with spaces/helfer.py" "WORD = 'Servus'")
       (dualstack-sidecar-restart (dualstack-sidecar-name sidecar))
       (setq sidecar (dualstack-sidecar-remote-test-start))
       (should (equal "Servus" (car (dualstack-sidecar-helper-call sidecar 'both))))
       (should (= 1 (length (cl-set-difference (directory-files cache) all :test #'equal))))
       ;; Too much is an error, as what is not there is.
       (dualstack-sidecar-helper-file "with spaces/big.py" (make-string 5000000 ?x))
       (should (string-match-p "too much beside the Python module in .*with spaces/ to copy"
                               (dualstack-sidecar-helper-error
                                :directory (concat dualstack-sidecar-remote-test-host "/tmp/")
                                :modules (list file))))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-ends
  "A crash, and a connection that is lost, end calls at once and say what happened."
  (let ((sidecar (dualstack-sidecar-remote-test-start)))
    (should (eq 'dualstack-epc-closed
                (car (should-error (dualstack-sidecar-helper-call sidecar 'crash)))))
    (dualstack-test-wait (lambda () (eq 'failed (dualstack-sidecar-state sidecar))))
    ;; Wine's shell, in which TRAMP runs ssh, ends with another status.
    (should (string-match-p (concat (if dualstack-test-on-wine "its connection is gone: finished\\|")
                                    "it crashed, with status 7\\(.\\|\n\\)*last words")
                            (cadr (dualstack-sidecar-failure sidecar))))
    (setq sidecar (dualstack-sidecar-remote-test-start))
    (let ((parent (dualstack-sidecar-helper-call sidecar 'parent)) err)
      (dualstack-epc-call-async (dualstack-sidecar-connection sidecar) 'slow nil
                                :else (lambda (it) (setq err it)))
      (accept-process-output nil 0.05)
      (dualstack-sidecar-remote-test-cut sidecar)
      (ignore parent)
      (dualstack-test-wait (lambda () err))
      (should (eq 'dualstack-epc-closed (car err)))
      (dualstack-test-wait (lambda () (eq 'failed (dualstack-sidecar-state sidecar))))
      (should (string-match-p (concat (if dualstack-test-on-wine
                                          "its connection is gone: finished\\|")
                                      "the connection to /dualstackssh:dualstack-test: is lost")
                              (cadr (dualstack-sidecar-failure sidecar)))))
    (setq sidecar (dualstack-sidecar-remote-test-start))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (dualstack-sidecar-stop (dualstack-sidecar-name sidecar))
    (dualstack-test-wait (lambda ()
                           (not (process-live-p (dualstack-sidecar-process sidecar)))))))

(defun dualstack-sidecar-remote-test-cut (sidecar)
  "Kill the ssh of SIDECAR, on Windows with the shell that it is in."
  (if (eq system-type 'windows-nt)
      (dualstack-child--kill (dualstack-sidecar-process sidecar))
    (signal-process (process-id (dualstack-sidecar-process sidecar)) 'SIGKILL)))

(defun dualstack-sidecar-remote-test-signal (signal)
  "Send SIGNAL to the sshd."
  (let ((pid (with-temp-buffer
               (insert-file-contents (expand-file-name "sshd.pid" dualstack-sidecar-helper-directory))
               (string-to-number (buffer-string)))))
    (should (> pid 1))
    (if (eq system-type 'windows-nt)
        (should (equal 0 (car (dualstack-test-run
                               (dualstack-test-there
                                "sh" "-c" (format "kill -s %s %d"
                                                  (substring (symbol-name signal) 3) pid))))))
      (signal-process pid signal))))

(defun dualstack-sidecar-remote-test-running (sidecar)
  "Wait for SIDECAR to run, and call it."
  (dualstack-test-wait (lambda () (eq 'running (dualstack-sidecar-state sidecar))) 60)
  (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello))))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-again
  "With :restart, one that crashed or was cut off starts again, and nobody waits.
That goes by ssh alone, as TRAMP would wait, or ask for a password."
  (dualstack-sidecar-remote-test-call nil #'dualstack-sidecar-remote-test-again))

(defun dualstack-sidecar-remote-test-again ()
  "Have a sidecar start again after a crash, and when its machine comes back."
  (let* ((sidecar (dualstack-sidecar-remote-test-start :restart t))
         (where (dualstack-sidecar-helper-call sidecar 'where))
         (launches 0)
         (asked nil)
         (note (lambda (operation &rest _)
                 (unless (memq operation '(file-remote-p expand-file-name)) ; They look at names alone.
                   (push operation asked)))))
    (setf (dualstack-sidecar--launcher sidecar)
          (lambda (sidecar)
            (cl-incf launches)
            (dualstack-sidecar--launch sidecar)))
    (advice-add 'tramp-file-name-handler :before note)
    (unwind-protect
        (progn
          (should-error (dualstack-sidecar-helper-call sidecar 'crash) :type 'dualstack-epc-closed)
          (dualstack-test-wait (lambda () (= 1 launches)))
          (dualstack-sidecar-remote-test-running sidecar)
          (should (equal where (dualstack-sidecar-helper-call sidecar 'where)))
          (should (dualstack-sidecar-helper-call sidecar 'shout "from there again"))
          (dualstack-test-wait (lambda () (string-match-p
                                           "^from there again$"
                                           (dualstack-sidecar-remote-test-logged sidecar))))
          ;; The machine is silent, then there is none, then it is there again.
          (dualstack-sidecar-remote-test-signal 'SIGSTOP)
          (signal-process (process-id (dualstack-sidecar-process sidecar)) 'SIGKILL)
          (dualstack-test-wait (lambda () (= 2 launches)) 60)
          (should (with-current-buffer "*dualstack-log*"
                    (save-excursion
                      (goto-char (point-max))
                      (search-backward "/dualstackssh:dualstack-test: is lost; it is made again"))))
          (signal-process (process-id (dualstack-sidecar-process sidecar)) 'SIGKILL)
          (dualstack-test-wait (lambda () (= 3 launches)) 60)
          (dualstack-sidecar-remote-test-signal 'SIGCONT)
          (dualstack-sidecar-remote-test-running sidecar)
          (should-not asked))
      (advice-remove 'tramp-file-name-handler note)
      (dualstack-sidecar-remote-test-signal 'SIGCONT)
      (dualstack-sidecar-stop (dualstack-sidecar-name sidecar)))))

(defun dualstack-sidecar-remote-test-seconds (sidecar count)
  "Return the seconds that SIDECAR needs for COUNT answers at once."
  (let ((left count)
        (start (float-time)))
    (dotimes (_ count)
      (dualstack-epc-call-async (dualstack-sidecar-connection sidecar) 'echo (list 1)
                                :then (lambda (_) (cl-decf left))))
    (should (= left count)) ; Nobody has waited.
    (dualstack-test-wait (lambda () (zerop left)))
    (- (float-time) start)))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-far
  "Over a link with a round trip of 50 ms everything works, and calls share the way."
  (let ((dualstack-sidecar-remote-test-delay "0.025"))
    (dualstack-sidecar-remote-test-call
     nil
     (lambda ()
       (let* ((sidecar (dualstack-sidecar-remote-test-start :methods '((answer 1+))))
              (bytes (apply #'unibyte-string (number-sequence 0 255)))
              (one (cl-loop repeat 3 minimize (dualstack-sidecar-remote-test-seconds sidecar 1)))
              (many (cl-loop repeat 5 minimize (dualstack-sidecar-remote-test-seconds sidecar 20))))
         (should (>= one 0.05))
         (should (< many (* 10 one)))
         (should (equal (list bytes) (dualstack-sidecar-helper-call sidecar 'echo bytes)))
         (should (equal 42 (dualstack-sidecar-helper-call sidecar 'ask 41))))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-mistakes
  "What cannot work there is an error that says why."
  (let ((here (dualstack-sidecar-remote-test-program "python3" "echo 3.7"))
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
             "There is no file .*/nonexistent/m.py"
             (dualstack-sidecar-helper-error :directory directory
                                             :modules '("/nonexistent/m.py"))))
    (let ((dualstack-sidecar-remote--cache "/proc/nowhere/"))
      (should (string-match-p
               "/dualstackssh:dualstack-test: cannot be used: "
               (dualstack-sidecar-helper-error :directory directory))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-environment
  "An environment is made there, of what a module's metadata or the caller says."
  (let* ((wheel (dualstack-test-name-there (dualstack-sidecar-helper-wheel t)))
         (sidecar (dualstack-sidecar-remote-test-start :requirements (list wheel))))
    (should (equal 3 (dualstack-sidecar-helper-call sidecar 'plus 1 2)))
    (should (string-prefix-p (concat dualstack-sidecar-remote--cache "environments")
                             (nth 1 (dualstack-sidecar-helper-call sidecar 'where))))
    (should-not (file-exists-p dualstack-sidecar-environments-directory))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-quit
  "C-g while it starts gives that up, and another start works."
  (let ((default-directory (expand-file-name "/tmp/")))
    ;; The connection is open, but the sidecar takes its time.
    (let* ((slow (dualstack-sidecar-remote-test-program "python3" "sleep 30" "exit 1"))
           (timer (run-at-time 0.1 0.1
                               (lambda ()
                                 (when (process-live-p (dualstack-sidecar-process
                                                        (car dualstack-sidecars)))
                                   (setq quit-flag t))))))
      (unwind-protect
          (should (eq 'quit (condition-case nil
                                (dualstack-sidecar-remote-test-start :python slow)
                              (quit 'quit))))
        (cancel-timer timer)))
    (let ((sidecar (dualstack-sidecar-remote-test-start)))
      (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello))))))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-of-a-buffer
  "The machine can be that of the current buffer; here it is as ever."
  (dualstack-sidecar-remote-test-call
   nil
   (lambda ()
     (let ((default-directory (concat dualstack-sidecar-remote-test-host "/tmp/")))
       (let ((sidecar (dualstack-sidecar-remote-test-start :directory 'current)))
         (should (dualstack-sidecar-helper-call sidecar 'shout "x"))))
     (let* ((default-directory (expand-file-name "/tmp/"))
            (sidecar (dualstack-sidecar-remote-test-start :directory 'current)))
       (should (equal "away" (dualstack-sidecar-name sidecar)))
       (should (dualstack-sidecar-port sidecar))))))

(dualstack-sidecar-remote-test dualstack-sidecar-remote-command
  "Any program there that speaks EPC over its streams is a sidecar."
  (let ((sidecar (dualstack-sidecar-remote-test-start
                  :command (list (if (eq system-type 'windows-nt) "python3"
                                   (dualstack-sidecar-helper-python-file))
                                 "-X" "utf8"
                                 (dualstack-test-name-there
                                  (expand-file-name "python/src/dualstack_epc"
                                                    dualstack-test-root))
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
        (dualstack-sidecar-remote-test-with-shell
         (lambda ()
           (should (string-match-p
                    "/dualstackssh:dualstack-test: cannot be used: "
                    (dualstack-sidecar-helper-error
                     :directory (concat dualstack-sidecar-remote-test-host "~/"))))))
      (dualstack-sidecar-remote-test-clean))))

(defun dualstack-sidecar-remote-test-as-nobody (method)
  "Have a sidecar be that of the user nobody, by METHOD of TRAMP; restart it there."
  (unless (eq 0 (ignore-errors (call-process "/usr/bin/python3" nil nil nil "-c"
                              "import sys; sys.exit(sys.version_info < (3, 10))")))
    (ert-skip "needs a Python from 3.10 on at /usr/bin/python3"))
  ;; In plain ASCII: TRAMP of Emacs 28 cannot set modes of others by su.
  (let* ((home (expand-file-name "home/" dualstack-sidecar-helper-directory))
         (tramp-methods (cons (append '("dualstacksu"
                                        (tramp-login-args (("-s") ("/bin/sh") ("%u"))))
                                      (cdr (assoc "su" tramp-methods)))
                              tramp-methods))
         (process-environment (cons "SHELL=/bin/sh" process-environment))
         (tramp-verbose 0)
         (tramp-histfile-override nil)
         (dualstack-sidecar-timeout 60)
         (dualstack-sidecar-remote--cache (concat home "cache/")))
    (make-directory home)
    (set-file-modes dualstack-sidecar-helper-directory #o711)
    (set-file-modes home #o777)
    (unwind-protect
        (let ((nobody (string-to-number (shell-command-to-string "id -u nobody")))
              (sidecar (dualstack-sidecar-start
                        :name "nobody" :wait t :restart t
                        :directory (format "/%s:nobody@localhost:/tmp/" method)
                        :python "/usr/bin/python3"
                        :modules (list (dualstack-sidecar-helper-file
                                        "u.py" "import os, time"
                                        "def user(): return os.geteuid()"
                                        "def crash(): os._exit(7)")))))
          (should (equal nobody (dualstack-sidecar-helper-call sidecar 'user)))
          (should-error (dualstack-sidecar-helper-call sidecar 'crash) :type 'dualstack-epc-closed)
          (dualstack-test-wait (lambda () (< 0 (dualstack-sidecar-restarts sidecar))))
          (dualstack-sidecar-remote-test-running sidecar)
          (should (equal nobody (dualstack-sidecar-helper-call sidecar 'user))))
      (mapc #'dualstack-sidecar-helper-end dualstack-sidecars)
      (dualstack-sidecar-remote-test-clean))))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-another-user
  "A sidecar can be that of another user, over su."
  (skip-unless (and (eq 0 (user-uid)) (executable-find "su")
                    (eq 0 (call-process "su" nil nil nil "-s" "/bin/sh" "nobody" "-c" "true"))))
  (dualstack-sidecar-remote-test-as-nobody "dualstacksu"))

(dualstack-sidecar-helper-test dualstack-sidecar-remote-sudo
  "A sidecar can be that of another user, over sudo, where that asks no password."
  (unless (and (executable-find "sudo")
               (eq 0 (call-process "sudo" nil nil nil "-n" "-u" "nobody" "true")))
    (ert-skip "needs sudo, as a user whom it asks no password"))
  (dualstack-sidecar-remote-test-as-nobody "sudo"))

(dualstack-deftest dualstack-sidecar-remote-in-ascii ()
  "A shell script with any characters is one in ASCII, for Windows."
  (let* ((text "用户 'ü' \\n %s \"$HOME\" `x`\n\tend")
         (script (dualstack-sidecar-direct--ascii
                  (concat "printf '<%s>' " (dualstack-sidecar-direct--quote text)))))
    (should (string-match-p "\\`[[:ascii:]]+\\'" script))
    (should (equal (dualstack-test-run (dualstack-test-there "sh" "-c" script))
                   (cons 0 (format "<%s>" text))))
    (should (equal "echo a" (dualstack-sidecar-direct--ascii "echo a")))))

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

(provide 'dualstack-sidecar-remote-test)

;;; dualstack-sidecar-remote-test.el ends here
