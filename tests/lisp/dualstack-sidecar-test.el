;;; dualstack-sidecar-test.el --- Tests for dualstack-sidecar  -*- lexical-binding: t; -*-

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

;; The children are real: the Python server, and programs that do wrong what
;; a sidecar can do wrong.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-sidecar)
(require 'dualstack-sidecar-status)

(defmacro dualstack-sidecar-test (name docstring &rest body)
  "Define the test NAME, with DOCSTRING, of BODY; end all sidecars."
  (declare (indent 1) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (let ((dualstack-python dualstack-test-python)
           (dualstack-sidecars nil)
           (mode-line-misc-info mode-line-misc-info)
           (inhibit-message t))
       (unwind-protect
           (progn ,@body)
         (dualstack-sidecar-test-end)))))

(defun dualstack-sidecar-test-end ()
  "Stop all sidecars, wait until they are gone, and kill their logs."
  (dolist (sidecar dualstack-sidecars)
    (when (memq (dualstack-sidecar-state sidecar) '(starting running))
      (dualstack-sidecar-stop (dualstack-sidecar-name sidecar)))
    (dualstack-test-wait (lambda ()
                           (not (process-live-p (dualstack-sidecar-process sidecar)))))
    (dualstack-sidecar--disarm sidecar)
    (when (buffer-live-p (dualstack-sidecar-log sidecar))
      (kill-buffer (dualstack-sidecar-log sidecar)))))

(defun dualstack-sidecar-test-call (sidecar method &rest args)
  "Call METHOD of SIDECAR with ARGS."
  (dualstack-epc-call (dualstack-sidecar-connection sidecar) method args))

(defun dualstack-sidecar-test-failure (&rest command)
  "Start COMMAND as a sidecar and return the text of the error."
  (cadr (should-error (dualstack-sidecar-start :name "wrong" :command command :wait t)
                      :type 'dualstack-sidecar-error)))

;;;; Its life

(dualstack-sidecar-test dualstack-sidecar-start-and-stop
  "A sidecar starts, is called by proof, and ends when it is stopped."
  (let ((sidecar (dualstack-sidecar-start :wait t)))
    (should (eq (dualstack-sidecar-state sidecar) 'running))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))
    (should (= 64 (length (dualstack-sidecar-token sidecar))))
    (should (equal (dualstack-sidecar-address sidecar)
                   (format "127.0.0.1:%d" (dualstack-sidecar-port sidecar))))
    (should (eq sidecar (dualstack-sidecar-start :wait t)))
    (let ((pid (process-id (dualstack-sidecar-process sidecar))))
      (dualstack-sidecar-stop)
      ;; It does not wait for that.
      (should (eq (dualstack-sidecar-state sidecar) 'stopping))
      (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'stopped)))
      (should-not (dualstack-test-alive-p pid)))))

(dualstack-sidecar-test dualstack-sidecar-asynchronous
  "Starting does not wait, shows in the mode line, and then calls :then."
  (let* (told
         (sidecar (dualstack-sidecar-start :then (lambda (s) (push s told))
                                           :else (lambda (err) (push err told)))))
    (should-not told)
    (should (eq (dualstack-sidecar-state sidecar) 'starting))
    (should (equal dualstack-sidecar--mode-line " [dualstack...]"))
    (should (member '(t dualstack-sidecar--mode-line) mode-line-misc-info))
    (dualstack-test-wait (lambda () told))
    (should (equal told (list sidecar)))
    (should-not dualstack-sidecar--mode-line)
    (should-not (member '(t dualstack-sidecar--mode-line) mode-line-misc-info))))

(dualstack-sidecar-test dualstack-sidecar-two-at-once
  "Two sidecars have ports, tokens and methods of their own."
  (let* ((one (dualstack-sidecar-start :name "one"))
         (two (dualstack-sidecar-start :name "two" :wait t)))
    (dualstack-sidecar-start :name "one" :wait t)
    (should-not (equal (dualstack-sidecar-port one) (dualstack-sidecar-port two)))
    (should-not (equal (dualstack-sidecar-token one) (dualstack-sidecar-token two)))
    (should (equal (dualstack-sidecar-test-call one 'hello) "hello"))
    (should (equal (dualstack-sidecar-test-call two 'hello) "hello"))))

(dualstack-sidecar-test dualstack-sidecar-restart-command
  "A restart gives a new process with the same methods."
  (let* ((old (dualstack-sidecar-start :wait t))
         (pid (process-id (dualstack-sidecar-process old)))
         (new (dualstack-sidecar-restart)))
    (dualstack-sidecar-start :wait t)
    (should-not (= pid (process-id (dualstack-sidecar-process new))))
    (should (equal (dualstack-sidecar-test-call new 'hello) "hello"))
    (dualstack-test-wait (lambda () (not (process-live-p (dualstack-sidecar-process old)))))
    (dualstack-sidecar--disarm old)))

(dualstack-sidecar-test dualstack-sidecar-crash-is-reported
  "A child that is killed in a call ends the call, and its last words are shown."
  (let* ((file (make-temp-file "crash" nil ".py" "
import os, signal, sys
def die():
    print('last words', flush=True)
    os.kill(os.getpid(), getattr(signal, 'SIGKILL', 9))
"))
         (sidecar (dualstack-sidecar-start :modules (list file) :wait t)))
    (unwind-protect
        (progn
          (should (eq 'dualstack-epc-closed
                      (car (should-error (dualstack-sidecar-test-call sidecar 'die)))))
          (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))
          (let ((text (cadr (dualstack-sidecar-failure sidecar))))
            (should (string-match-p "crashed, with status 9" text))
            (should (string-match-p "last words" text))))
      (delete-file file))))

(dualstack-sidecar-test dualstack-sidecar-crash-without-log
  "A crash is reported also where the user has killed the buffer with the log."
  (let ((sidecar (dualstack-sidecar-start :wait t)))
    (kill-buffer (dualstack-sidecar-log sidecar))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))
    (dualstack-test-kill (process-id (dualstack-sidecar-process sidecar)))
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))
    (should (string-match-p "crashed, with status \\(?:9\\|255\\)\\'"
                            (cadr (dualstack-sidecar-failure sidecar))))))

(dualstack-sidecar-test dualstack-sidecar-restarts-by-itself
  "A sidecar that is to be restarted runs again after a crash."
  (let* ((sidecar (dualstack-sidecar-start :restart t :wait t))
         (first (process-id (dualstack-sidecar-process sidecar))))
    (dualstack-test-kill first)
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'running)))
    (should-not (= first (process-id (dualstack-sidecar-process sidecar))))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))
    (should (= 1 (dualstack-sidecar-restarts sidecar)))))

(dualstack-sidecar-test dualstack-sidecar-ends-while-it-is-connected-to-again
  "Where the child ends within the attempt to connect to it again, it starts again."
  (let* ((sidecar (dualstack-sidecar-start :restart t :wait t))
         (first (process-id (dualstack-sidecar-process sidecar)))
         (ending nil)
         (end (lambda (&rest _)
                (unless ending
                  (setq ending t)
                  (dualstack-test-kill first)
                  (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))))))
    (unwind-protect
        (progn
          (advice-add 'dualstack-epc-connect-async :before end)
          (delete-process
           (dualstack-epc-connection-process (dualstack-sidecar-connection sidecar)))
          (dualstack-test-wait (lambda () ending)))
      (advice-remove 'dualstack-epc-connect-async end))
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'running)))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))))

(dualstack-sidecar-test dualstack-sidecar-in-folders-of-any-name
  "A module is found, and its log read, in folders with any letters."
  (dolist (name '("\u7528\u6237 \u5f20\u4e09" "\u00c9lodie d'\u00e9t\u00e9"))
    (let* ((folder (make-temp-file "folder" t))
           (inner (expand-file-name name folder))
           (file (expand-file-name (concat name ".py") inner))
           (coding-system-for-write 'utf-8-unix)
           sidecar)
      (make-directory inner)
      (write-region (concat "print('in the log: " (substring name 0 2) "')\n"
                            "def where():\n    return __file__\n")
                    nil file nil 'silent)
      (unwind-protect
          (progn
            (setq sidecar (dualstack-sidecar-start :modules (list file) :wait t))
            (should (string-suffix-p (concat name ".py")
                                     (dualstack-sidecar-test-call sidecar 'where)))
            (dualstack-test-wait
             (lambda ()
               (string-match-p (concat "in the log: " (substring name 0 2))
                               (dualstack-sidecar--log-current
                                (dualstack-sidecar-log sidecar))))))
        (dualstack-sidecar-test-end)
        (delete-directory folder t)))))

(defun dualstack-sidecar-test-break (sidecar)
  "Break the connection of SIDECAR, as Emacs on Windows does now and then."
  (delete-process (dualstack-epc-connection-process
                   (dualstack-sidecar-connection sidecar))))

(dualstack-sidecar-test dualstack-sidecar-connects-again
  "A connection that breaks while the child lives is made again, with its methods."
  (let* ((file (make-temp-file "again" nil ".py" "
from dualstack_epc import current_client
import time
def nap():
    time.sleep(3)
def ask(x):
    return current_client().call_sync('twice', [x], timeout=10)
"))
         (sidecar (dualstack-sidecar-start
                   :modules (list file) :wait t
                   :methods (list (list 'twice (lambda (x) (* 2 x))))))
         (first (process-id (dualstack-sidecar-process sidecar)))
         (ends nil))
    (unwind-protect
        (dotimes (_ 3)
          (setq ends nil)
          (dualstack-epc-call-async (dualstack-sidecar-connection sidecar) 'nap nil
                                    :then #'error
                                    :else (lambda (err) (push (car err) ends)))
          (dualstack-sidecar-test-break sidecar)
          (should-error (dualstack-sidecar-test-call sidecar 'hello) :type 'dualstack-epc-closed)
          ;; At once: no timer has run since.
          (dualstack-sidecar-start :wait t)
          (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))
          (should (equal (dualstack-sidecar-test-call sidecar 'ask 21) 42))
          (should (equal ends '(dualstack-epc-closed)))
          (should (= first (process-id (dualstack-sidecar-process sidecar))))
          (should (= 0 (dualstack-sidecar-restarts sidecar))))
      (delete-file file))))

(dualstack-sidecar-test dualstack-sidecar-started-program-outlives-it
  "A program that a method has started, and that writes on, keeps nobody waiting."
  (let* ((file (make-temp-file "starts" nil ".py" "
import subprocess, sys
CODE = r'''
import sys, time
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        print('still here', file=sys.stderr, flush=True)
    except OSError: # Nobody reads that any longer.
        pass
    time.sleep(0.05)
'''
def start():
    return subprocess.Popen([sys.executable, '-c', CODE]).pid
"))
         (sidecar (dualstack-sidecar-start :modules (list file) :wait t))
         (pid (dualstack-sidecar-test-call sidecar 'start)))
    (unwind-protect
        (progn
          (dualstack-test-wait (lambda ()
                                 (string-match-p "still here"
                                                 (dualstack-sidecar--log-current
                                                  (dualstack-sidecar-log sidecar)))))
          (kill-buffer (dualstack-sidecar-log sidecar))
          (dualstack-sidecar-stop)
          (should (eq (dualstack-sidecar-state sidecar) 'stopping))
          (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'stopped)))
          (should (dualstack-test-alive-p pid)))
      (ignore-errors (dualstack-test-kill pid))
      (delete-file file))))

(dualstack-sidecar-test dualstack-sidecar-without-its-connection
  "A sidecar whose connection closes again at once is not taken for running."
  (let* ((sidecar (dualstack-sidecar-start :restart t :wait t))
         (first (process-id (dualstack-sidecar-process sidecar))))
    (let ((connection (dualstack-sidecar-connection sidecar)))
      (dualstack-sidecar-test-break sidecar)
      (dualstack-test-wait (lambda ()
                             (not (memq (dualstack-sidecar-connection sidecar)
                                        (list nil connection))))))
    (dualstack-sidecar-test-break sidecar)
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))
    (should (string-match-p "its connection is gone"
                            (cadr (dualstack-sidecar-failure sidecar))))
    (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'running)))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))
    (dualstack-test-wait (lambda () (not (dualstack-test-alive-p first))))))

(dualstack-sidecar-test dualstack-sidecar-stop-while-starting
  "A sidecar can be stopped before it runs."
  (let (failure)
    (dualstack-sidecar-start :then #'error :else (lambda (err) (setq failure err)))
    (dualstack-sidecar-stop)
    (dualstack-test-wait (lambda () failure))
    (should (equal failure '(dualstack-sidecar-error "It was stopped")))))

(dualstack-sidecar-test dualstack-sidecar-that-does-not-end-is-killed
  "What ignores the end of its input is killed."
  (let* ((sidecar (dualstack-sidecar-start
                   :auth nil
                   :command (dualstack-test-python-command "
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(1, flush=True)
time.sleep(60)")))
         (pid (process-id (dualstack-sidecar-process sidecar))))
    (dualstack-sidecar-stop)
    (dualstack-test-wait (lambda () (not (dualstack-test-alive-p pid))))))

(defun dualstack-sidecar-test-outlives ()
  "Return how many seconds a sidecar outlives its Emacs, which is killed."
  (let* ((code `(let ((dualstack-python ,dualstack-test-python))
                  (require 'dualstack-sidecar)
                  (message "\n%d" (process-id (dualstack-sidecar-process
                                               (dualstack-sidecar-start :wait t))))
                  (while t (sleep-for 1))))
         (emacs (dualstack-test-child
                 (dualstack-test-emacs-program)
                 "-Q" "--batch" "-L" (expand-file-name "lisp" dualstack-test-root)
                 "-l" "dualstack-sidecar" "--eval" (prin1-to-string code)))
         pid)
    (unwind-protect
        (progn
          (dualstack-test-wait
           (lambda ()
             (with-current-buffer (process-buffer emacs)
               (goto-char (point-min))
               (when (re-search-forward "^\\([0-9]+\\)\n" nil t)
                 (setq pid (string-to-number (match-string 1)))))))
          (should (dualstack-test-alive-p pid)))
      (dualstack-test-kill (process-id emacs))
      (dualstack-test-end emacs))
    (dualstack-test-seconds
     (lambda () (dualstack-test-wait (lambda () (not (dualstack-test-alive-p pid))))))))

(dualstack-sidecar-test dualstack-sidecar-does-not-outlive-emacs
  "When Emacs is killed, its sidecar goes within two seconds."
  (dualstack-test-within 2 #'dualstack-sidecar-test-outlives))

;;;; What goes wrong

(dualstack-sidecar-test dualstack-sidecar-failures
  "Each way not to start has its own message."
  (let ((dualstack-sidecar-timeout 30))
    (should (string-match-p "no-such-program"
                            (dualstack-sidecar-test-failure "/no-such-program")))
    (should (string-match-p "ended before it ran, with status 3\nwhat it said"
                            (dualstack-sidecar-test-failure
                             dualstack-test-python "-c"
                             "import sys; print('what it said', file=sys.stderr); sys.exit(3)")))
    (should (string-match-p "printed \"Warning: x\" where its port should be"
                            (dualstack-sidecar-test-failure
                             dualstack-test-python "-c"
                             "import time; print('Warning: x\\n1234', flush=True); time.sleep(60)")))
    (let ((dualstack-sidecar-timeout 0.2)
          (text ""))
      ;; A busy machine needs longer until it says so.
      (while (and (not (string-match-p "loading" text))
                  (< dualstack-sidecar-timeout 30))
        (cl-callf * dualstack-sidecar-timeout 2)
        (setq text (dualstack-sidecar-test-failure
                    dualstack-test-python "-c"
                    "import sys, time; print('loading', file=sys.stderr); time.sleep(60)")))
      (should (string-match-p (format "no port line within %s s\nloading" dualstack-sidecar-timeout)
                              text)))
    ;; Of a later version, too, the token is nobody's business.
    (should (string-match-p "2 :token ... :more t)\" where its announcement should be"
                            (dualstack-sidecar-test-failure
                             dualstack-test-python "-c"
                             "import time; print('1234\\n(dualstack-epc 2 :token \"x9\" :more t)', flush=True); time.sleep(60)")))
    (should (string-match-p "printed \"hi\" where its announcement should be"
                            (dualstack-sidecar-test-failure
                             dualstack-test-python "-c"
                             "import time; print('1234\\nhi', flush=True); time.sleep(60)")))
    (should (string-match-p "printed no port, but much else"
                            (dualstack-sidecar-test-failure
                             dualstack-test-python "-c"
                             "import time; print('x' * 20000, end='', flush=True); time.sleep(60)")))))

(dualstack-sidecar-test dualstack-sidecar-nobody-at-its-port
  "A port at which nobody listens is an error that names it."
  (let ((port (dualstack-test-free-port)))
    (should (string-match-p
             (format "127.0.0.1:%d \\(?:Connection refused\\|no answer\\)" port)
             (cadr (should-error
                    (dualstack-sidecar-start
                     :name "wrong" :auth nil :wait t
                     :command (dualstack-test-python-command
                               (format "import time; print(%d, flush=True); time.sleep(60)"
                                       port)))))))))

(dualstack-sidecar-test dualstack-sidecar-warnings-are-not-the-port
  "What is written on standard error goes to the log, not for the port."
  (let ((sidecar (dualstack-sidecar-start
                  :wait t
                  :command (dualstack-test-python-command "
import sys
print('99 warning', file=sys.stderr, flush=True)
from dualstack_epc.cli import main
main(['serve', '--auth', '--exit-on-eof'])"))))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))
    (should (string-match-p "99 warning" (dualstack-sidecar--log-current (dualstack-sidecar-log sidecar))))))

(dualstack-sidecar-test dualstack-sidecar-no-such-python
  "An interpreter that is not there is named."
  (let ((dualstack-python "/no/such/python"))
    (should (equal (cadr (should-error (dualstack-sidecar-start :wait t)))
                   "dualstack: There is no program /no/such/python; \
set `dualstack-python' to a Python 3.10 or later"))))

(dualstack-sidecar-test dualstack-sidecar-proxies-are-of-no-consequence
  "An http_proxy does not matter."
  (let* ((process-environment (append '("http_proxy=http://127.0.0.1:9/" "HTTP_PROXY=http://127.0.0.1:9/"
                                        "ALL_PROXY=http://127.0.0.1:9/")
                                      process-environment))
         (sidecar (dualstack-sidecar-start :wait t)))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))))

;;;; Security

(dualstack-sidecar-test dualstack-sidecar-others-are-refused
  "A connection without the token can call nothing."
  (let ((sidecar (dualstack-sidecar-start :wait t)))
    (dolist (host '("127.0.0.1" "::1"))
      (let ((stranger (dualstack-epc-connect host (dualstack-sidecar-port sidecar))))
        (should (memq (car (should-error (dualstack-epc-call stranger 'hello nil)))
                      '(dualstack-epc-protocol-error dualstack-epc-closed)))
        (dualstack-epc-close stranger)))
    (should (equal (dualstack-sidecar-test-call sidecar 'hello) "hello"))))

(defun dualstack-sidecar-test-look-into (process token)
  "Fail if TOKEN is in the files of the kernel about PROCESS, where it has some."
  (when (eq system-type 'gnu/linux)
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (dolist (file '("environ" "cmdline" "comm"))
        (insert-file-contents-literally (format "/proc/%d/%s" (process-id process) file)))
      (should (> (buffer-size) 50))
      (should-not (search-forward token nil t)))))

(dualstack-sidecar-test dualstack-sidecar-token-is-not-shown
  "The token is in no environment, list of processes, log or printed structure."
  (let* ((file (make-temp-file "told" nil ".py" "
import os, sys
def told(): return repr([sys.orig_argv, dict(os.environ)])
"))
         (sidecar (dualstack-sidecar-start :wait t :modules (list file)))
         (token (dualstack-sidecar-token sidecar)))
    (delete-file file)
    (should (= (length token) 64))
    (let ((told (dualstack-sidecar-test-call sidecar 'told)))
      (should (> (length told) 50))
      (should-not (string-match-p token told)))
    (dualstack-sidecar-test-look-into (dualstack-sidecar-process sidecar) token)
    (should-not (string-match-p token (format "%S" sidecar)))
    (let ((err (should-error (dualstack-sidecar-stop sidecar) :type 'user-error)))
      (should (equal (cadr err) "The name of a sidecar is a string, and not a dualstack-sidecar")))
    (should-not (string-match-p token (dualstack-sidecar--log-current
                                       (dualstack-sidecar-log sidecar))))
    (should-not (string-match-p token (mapconcat #'identity process-environment "\n")))))

(dualstack-sidecar-test dualstack-sidecar-another-user-is-refused
  "Another user of the machine can neither call nor read the token."
  (unless (eq 0 (car (ignore-errors
                       (dualstack-test-run
                        (dualstack-test-there "setpriv" "--reuid=65534" "--clear-groups" "true")))))
    (ert-skip "needs root, and setpriv"))
  (let* ((sidecar (dualstack-sidecar-start :wait t))
         (code (format "
import socket, sys
s = socket.create_connection(('127.0.0.1', %d), timeout=5)
s.sendall(b'000010(call 1 hello ())\\n'[:0] + b'%%06x' %% 19 + b'(call 1 hello nil)\\n')
print(s.recv(1000).decode())
for f in ('environ', 'fd/1', 'mem'):
    try:
        open('/proc/%d/' + f, 'rb').read(1)
        print('READ ' + f)
    except OSError:
        pass
" (dualstack-sidecar-port sidecar) (process-id (dualstack-sidecar-process sidecar))))
         ;; Under Wine that user has no such files to look into.
         (output (cdr (dualstack-test-run
                       (dualstack-test-there "setpriv" "--reuid=65534" "--clear-groups"
                                             "/usr/bin/python3" "-c" code)))))
    (should (string-match-p "epc-error 1 \"this server asks for authentication first\"" output))
    (should-not (string-match-p "READ" output))))

;;;; Commands

(dualstack-sidecar-test dualstack-sidecar-hello-command
  "M-x dualstack-hello shows the answer and its time."
  (let (shown)
    (cl-letf (((symbol-function 'message)
               (lambda (format &rest args) (push (apply #'format format args) shown))))
      (dualstack-hello)
      (dualstack-test-wait (lambda () shown)))
    (should (string-match-p "\\`127.0.0.1:[0-9]+ said hello in [0-9.]+ ms\\'" (car shown)))))

(dualstack-sidecar-test dualstack-sidecar-status-command
  "The list shows each sidecar, and its keys act on it."
  (let ((sidecar (dualstack-sidecar-start :wait t)))
    (dualstack-sidecar-test-call sidecar 'hello)
    (save-window-excursion
      (dualstack-sidecar-status)
      (with-current-buffer "*dualstack-sidecars*"
        (goto-char (point-min))
        (should (looking-at (format "dualstack +running +%d +127.0.0.1:%d +IPv4 +0:00:0. +1 +0"
                                    (process-id (dualstack-sidecar-process sidecar))
                                    (dualstack-sidecar-port sidecar))))
        (call-interactively (key-binding "l"))
        (call-interactively (key-binding "k"))
        (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'stopped)))
        (revert-buffer)
        (should (looking-at "dualstack +stopped"))
        (call-interactively (key-binding "r"))
        (dualstack-sidecar-start :wait t)
        (revert-buffer)
        (goto-char (point-min))
        (should (looking-at "dualstack +running")))
      (kill-buffer "*dualstack-sidecars*"))))

(provide 'dualstack-sidecar-test)

;;; dualstack-sidecar-test.el ends here
