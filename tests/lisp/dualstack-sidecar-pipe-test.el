;;; dualstack-sidecar-pipe-test.el --- Test sidecars over pipes  -*- lexical-binding: t; -*-

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

;; The children are the Python server, and programs that speak EPC, or do not,
;; over their standard streams.

;;; Code:

(require 'dualstack-sidecar-helper)

(defun dualstack-sidecar-pipe-test-module ()
  "Return the file of a module."
  (dualstack-sidecar-helper-file
   "m.py" "import os, sys, time" "from dualstack_epc import current_client" ""
   "def echo(*args): return list(args)"
   "def ask(n): return current_client().call_sync('answer', [n], timeout=5)"
   "def shout(text): print(text, file=sys.stderr); return text"
   "def crash():" "    print('last words', flush=True)" "    os._exit(7)"
   "def slow(): time.sleep(60)"
   "def noise(): os.write(int(max(os.listdir('/proc/self/fd'), key=int)), b'x')"))

(defun dualstack-sidecar-pipe-test-start (&rest keys)
  "Start a sidecar over a pipe with a module, and KEYS; return it."
  (apply #'dualstack-sidecar-start
         (append keys (list :name "pipe" :transport 'pipe :wait t
                            :modules (list (dualstack-sidecar-pipe-test-module))))))

(defun dualstack-sidecar-pipe-test-foreign (&rest lines)
  "Return the command of a Python program that speaks frames by LINES of code.
They are the body of a loop that has read MESSAGE, and can call say."
  (list dualstack-test-python
        (apply #'dualstack-sidecar-helper-file
               "foreign.py"
               "import sys, time"
               "def say(text):"
               "    data = text.encode() + b'\\n'"
               "    sys.stdout.buffer.write(b'%06x' % len(data) + data)"
               "    sys.stdout.flush()"
               "while True:"
               "    size = sys.stdin.buffer.read(6)"
               "    if not size: break"
               "    message = sys.stdin.buffer.read(int(size, 16)).decode()"
               "    uid = message.split()[1].rstrip(')')"
               (mapcar (lambda (line) (concat "    " line)) lines))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-calls
  "Calls cross both ways, and there is no socket and no token."
  (let* ((networks (lambda () (cl-count 'network (process-list) :key #'process-type)))
         (sidecar (dualstack-sidecar-pipe-test-start :methods '((answer 1+)))))
    (should (eq 'running (dualstack-sidecar-state sidecar)))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (should (equal 42 (dualstack-sidecar-helper-call sidecar 'ask 41)))
    (should (= 0 (funcall networks)))
    (should-not (dualstack-sidecar-port sidecar))
    (should-not (dualstack-sidecar-token sidecar))
    (should (string-match-p "pipe runs: process [0-9]+ at its pipe"
                            (dualstack-sidecar-describe sidecar)))
    (dualstack-sidecar-helper-call sidecar 'shout "not a frame")
    (dualstack-test-wait
     (lambda () (string-match-p "not a frame"
                                (dualstack-sidecar--log-current (dualstack-sidecar-log sidecar)))))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-bytes
  "All 256 bytes, and 16 MB, cross unchanged."
  (let ((sidecar (dualstack-sidecar-pipe-test-start))
        (bytes (apply #'unibyte-string (number-sequence 0 255)))
        (long (make-string 16000000 ?ä)))
    (should (equal (list bytes) (dualstack-sidecar-helper-call sidecar 'echo bytes)))
    (setq long (make-string 8000000 ?ä))
    (should (string= long (car (dualstack-sidecar-helper-call sidecar 'echo long))))
    (setq long (make-string 16000000 ?x))
    (should (string= long (car (dualstack-sidecar-helper-call sidecar 'echo long))))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-stop
  "Stopped, the child ends in order, at the end of its input."
  (let* ((sidecar (dualstack-sidecar-pipe-test-start))
         (process (dualstack-sidecar-process sidecar)))
    (dualstack-sidecar-stop "pipe")
    (dualstack-test-wait (lambda () (not (process-live-p process))))
    (should (equal '(exit 0) (list (process-status process) (process-exit-status process))))
    (dualstack-test-wait (lambda () (eq 'stopped (dualstack-sidecar-state sidecar))))
    ;; And what does not end is killed.
    (setq sidecar (dualstack-sidecar-start
                   :name "deaf" :transport 'pipe :wait t
                   :command (dualstack-test-python-command
                             "import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)"))
          process (dualstack-sidecar-process sidecar))
    (dualstack-sidecar-stop "deaf")
    (dualstack-test-wait (lambda () (not (process-live-p process))))))

(dualstack-deftest dualstack-sidecar-pipe-kill ()
  "A child is killed with what it has started, as a shell with its ssh has to be.
So it is at the end of a connection over it, and Emacs does not wait for that."
  (dolist (end (list #'dualstack-child--kill
                     (lambda (child) (dualstack-epc-close (dualstack-epc-attach child)))))
    (let* ((child (dualstack-test-child
                   dualstack-test-python "-c" "
import subprocess, sys
code = 'import os, time; print(os.getpid(), flush=True); time.sleep(100)'
subprocess.run([sys.executable, '-c', code])"))
           (pid (dualstack-test-child-port child))
           (start (float-time)))
      (should (dualstack-test-alive-p pid))
      (funcall end child)
      (should (< (- (float-time) start) 30))
      (dualstack-test-wait (lambda () (not (or (process-live-p child)
                                               (dualstack-test-alive-p pid)))))
      (dualstack-test-end child))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-crash
  "A crash ends calls at once, is told with the log, and the sidecar starts again."
  (let* ((sidecar (dualstack-sidecar-pipe-test-start :restart t))
         (first (dualstack-sidecar-process sidecar)))
    (should (eq 'dualstack-epc-closed
                (car (should-error (dualstack-sidecar-helper-call sidecar 'crash)))))
    (dualstack-test-wait (lambda () (eq 'failed (dualstack-sidecar-state sidecar))))
    (should (string-match-p "it crashed, with status 7\\(.\\|\n\\)*last words"
                            (cadr (dualstack-sidecar-failure sidecar))))
    (dualstack-test-wait (lambda () (eq 'running (dualstack-sidecar-state sidecar))))
    (should-not (eq first (dualstack-sidecar-process sidecar)))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (dualstack-sidecar-restart "pipe")
    (setq sidecar (dualstack-sidecar-start :name "pipe" :wait t))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (should-not (dualstack-sidecar-port sidecar))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-not-starting
  "What does not start is an error that says why."
  (let ((dualstack-sidecar-timeout 20))
    (should (string-match-p "no module nonesuch"
                            (dualstack-sidecar-helper-error :transport 'pipe
                                                            :modules '("nonesuch"))))
    (should (string-match-p "/nonexistent/program.*: .*\\(?:No such file\\|Invalid argument\\)"
                            (dualstack-sidecar-helper-error :transport 'pipe
                                                            :command '("/nonexistent/program"))))
    (should (string-match-p "ended before it ran, with status 3\noh no"
                            (dualstack-sidecar-helper-error
                             :transport 'pipe
                             :command (dualstack-test-python-command
                                       "import sys; print('oh no', file=sys.stderr); sys.exit(3)"))))
    (should (string-match-p "The transport is `socket' or `pipe', not smoke"
                            (let ((text-quoting-style 'grave))
                              (dualstack-sidecar-helper-error :transport 'smoke))))
    (let ((python (dualstack-sidecar-helper-python
                   "python" "print('Welcome', flush=True)" "time.sleep(60)"))
          (dualstack-sidecar-timeout 1))
      (should (string-match-p "it was not ready within 1 s"
                              (dualstack-sidecar-helper-error :transport 'pipe
                                                              :python python))))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-greeting
  "What a shell prints before the server's first frame goes to the log."
  (let* ((python (dualstack-sidecar-helper-python
                  "python" "print('Welcome\\nno newline', end='', flush=True)"))
         (sidecar (dualstack-sidecar-pipe-test-start :python python)))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))
    (should (string-match-p "Welcome\nno newline"
                            (dualstack-sidecar--log-current (dualstack-sidecar-log sidecar))))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-of-another-language
  "Any program that speaks frames over its streams is a sidecar."
  (let ((sidecar (dualstack-sidecar-start
                  :name "foreign" :transport 'pipe :wait t
                  :command (dualstack-sidecar-pipe-test-foreign
                            "say(f'(return {uid} (\"foreign\" {len(message)}))')"))))
    (should (equal "foreign" (car (dualstack-sidecar-helper-call sidecar 'anything 1)))))
  ;; One that knows no methods.
  (let ((sidecar (dualstack-sidecar-start
                  :name "silent" :transport 'pipe :wait t
                  :command (dualstack-sidecar-pipe-test-foreign
                            "if 'call' in message: say(f'(return {uid} 1)')"))))
    (should (equal 1 (dualstack-sidecar-helper-call sidecar 'anything))))
  ;; And one that speaks something else.
  (let ((text (dualstack-sidecar-helper-error
               :transport 'pipe :command (dualstack-test-python-command
                                          "import sys
print('{\"jsonrpc\": 2}', flush=True)
sys.stdin.read()"))))
    (should (string-match-p "which is no EPC" text))))

(dualstack-sidecar-helper-test dualstack-sidecar-pipe-stop-while-starting
  "A sidecar can be stopped before it is ready."
  (dolist (command (list nil (dualstack-test-python-command "import time; time.sleep(60)")))
    (let (failure)
      (dualstack-sidecar-start :name "pipe" :transport 'pipe :command command
                               :then #'error :else (lambda (err) (setq failure err)))
      (dualstack-sidecar-stop "pipe")
      (dualstack-test-wait (lambda () failure))
      (should (equal failure '(dualstack-sidecar-error "It was stopped"))))))

(ert-deftest dualstack-sidecar-pipe-family ()
  "What a child has started is killed with it, and nobody whose parent only had its number."
  (let ((all '((10 (ppid . 1) (start . (0 100)))
               (11 (ppid . 10) (start . (0 101)))
               (12 (ppid . 11) (start . (0 101)))
               (13 (ppid . 10) (start . (0 99))) ; Its parent was another.
               (14 (ppid . 13) (start . (0 102)))
               (15 (ppid . 10))
               (16 (ppid . 16) (start . (0 103))))))
    (should (equal (dualstack-child--family 10 all) '(12 11 10)))
    (should (equal (dualstack-child--family 16 all) '(16)))
    (should (equal (dualstack-child--family 99 all) '(99)))))

(provide 'dualstack-sidecar-pipe-test)

;;; dualstack-sidecar-pipe-test.el ends here
