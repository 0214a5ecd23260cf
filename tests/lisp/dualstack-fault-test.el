;;; dualstack-fault-test.el --- Faults and load  -*- lexical-binding: t; -*-

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

;; Whatever happens between Emacs and its peer: every call ends once, with its
;; own reply or an error; nothing outlasts its timeout; nothing is left.
;; `make fault' runs ten times as much as `make test'.
;;
;; Runs alone, for it loads the machine with processes that do nothing else.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-sidecar)

(defconst dualstack-fault-times
  (string-to-number (or (getenv "DUALSTACK_FAULT_TIMES") "1"))
  "How many times as much is done as in the short form.")

(defconst dualstack-fault-seed
  (string-to-number (or (getenv "DUALSTACK_FAULT_SEED") "1"))
  "What the random numbers begin with.")

(defconst dualstack-fault-server "
import os
import sys
import threading
from dualstack_epc.drop_in.server import DualStackEPCServer
server = DualStackEPCServer()
server.register_function(lambda *a: a, 'echo')
server.register_function(
    lambda: sum('connection' in thread.name for thread in threading.enumerate()), 'threads')
# Only GNU/Linux tells how many there are.
linux = sys.platform == 'linux'
server.register_function(lambda: len(os.listdir('/proc/self/fd')) if linux else 0, 'descriptors')
server.print_port()
server.serve_forever()
"
  "A server with echo, in Python, that tells what connections have left.")

(defun dualstack-fault-start-calls (connection count &optional timeout)
  "Call COUNT times over CONNECTION; return a vector of how each one ended.
It is filled in while Emacs waits.  TIMEOUT is that of each call, by default 2."
  (let ((ends (make-vector count nil)))
    (dotimes (i count)
      (let ((note (lambda (outcome)
                    (aset ends i (if (aref ends i) 'twice outcome)))))
        (condition-case err
            (dualstack-epc-call-async
             connection 'echo (list i (make-string (random 300) ?ä)) :timeout (or timeout 2)
             :then (lambda (value) (funcall note (if (eql (car value) i) 'reply 'wrong)))
             :else (lambda (err) (funcall note (car err))))
          (dualstack-epc-error (funcall note (car err))))))
    ends))

(defun dualstack-fault-outcomes (connection ends)
  "Wait until every one in ENDS, of CONNECTION, has ended; return the outcomes.
Fail if a call outlasts its timeout, ends twice, or with another's reply."
  ;; A busy machine is late; without a timeout it would be for ever.
  (dualstack-test-wait (lambda () (not (cl-position nil ends))) 30)
  (should (= 0 (hash-table-count (dualstack-epc--pending connection))))
  (should-not (cl-position 'wrong ends))
  (should-not (cl-position 'twice ends))
  (delete-dups (append ends nil)))

(dualstack-deftest dualstack-fault-proxy ()
  "Over a network at its worst every call ends once, with its own reply or an error."
  (dualstack-test-with-child (server dualstack-test-python "-c" dualstack-fault-server)
    (dualstack-test-with-child
        (proxy dualstack-test-python (dualstack-test-support "fault_proxy.py")
               (number-to-string (dualstack-test-child-port server))
               (number-to-string dualstack-fault-seed))
      (let ((seen nil))
        (dotimes (_ (* 3 dualstack-fault-times))
          (let* ((connect (lambda () (dualstack-epc-connect
                                      "127.0.0.1" (dualstack-test-child-port proxy))))
                 (connections (cl-loop repeat 20 collect (funcall connect)))
                 (ends (mapcar (lambda (connection) (dualstack-fault-start-calls connection 20))
                               connections)))
            (unwind-protect
                (cl-mapc (lambda (connection ends)
                           (dolist (outcome (dualstack-fault-outcomes connection ends))
                             (cl-pushnew outcome seen)))
                         connections ends)
              (mapc #'dualstack-epc-close connections))))
        (should (memq 'reply seen))
        (should (memq 'dualstack-epc-closed seen))))
    ;; The server has come through it.
    (let ((connection (dualstack-epc-connect "localhost" (dualstack-test-child-port server))))
      (should (equal (dualstack-fault-outcomes
                      connection (dualstack-fault-start-calls connection 64 30))
                     '(reply)))
      (dualstack-test-wait
       (lambda () (equal 1 (dualstack-epc-call connection 'threads nil :timeout 10)))
       30)
      (should (< (dualstack-epc-call connection 'descriptors nil :timeout 10) 20))
      (dualstack-epc-close connection))))

(defun dualstack-fault-sidecar-end (sidecar)
  "Stop SIDECAR, wait until it is gone, and kill its log."
  (dualstack-sidecar-stop (dualstack-sidecar-name sidecar))
  (dualstack-test-wait (lambda ()
                         (not (process-live-p (dualstack-sidecar-process sidecar)))))
  (dualstack-sidecar--disarm sidecar)
  (kill-buffer (dualstack-sidecar-log sidecar)))

(dualstack-deftest dualstack-fault-killed-at-random ()
  "A sidecar that is killed at a random moment ends its calls, and comes again."
  (random (format "%d" dualstack-fault-seed))
  (let* ((dualstack-python dualstack-test-python)
         (dualstack-sidecars nil)
         (inhibit-message t)
         (sidecar (dualstack-sidecar-start :name "killed" :restart t :wait t)))
    (unwind-protect
        (dotimes (_ (* 4 dualstack-fault-times))
          (setf (dualstack-sidecar-restarts sidecar) 0)
          (let ((pid (process-id (dualstack-sidecar-process sidecar)))
                (ends 0))
            (dotimes (_ 30)
              (dualstack-epc-call-async (dualstack-sidecar-connection sidecar) 'hello nil
                                        :then (lambda (_) (cl-incf ends))
                                        :else (lambda (_) (cl-incf ends))))
            (run-at-time (/ (random 100) 20000.0) nil
                         (lambda () (dualstack-test-kill pid)))
            (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'failed)))
            (dualstack-test-wait (lambda () (= ends 30)))
            (dualstack-test-wait (lambda () (eq (dualstack-sidecar-state sidecar) 'running)))
            (should (equal (dualstack-epc-call (dualstack-sidecar-connection sidecar)
                                               'hello nil)
                           "hello"))))
      (dualstack-fault-sidecar-end sidecar))))

(defun dualstack-fault-stopped-p (pid)
  "Return non-nil if every thread of the process PID has stopped.
It takes a signal's time until they have.  Where that is not to be seen, the
first one is asked."
  (let ((threads (file-expand-wildcards (format "/proc/%d/task/*/stat" pid))))
    (if threads
        (cl-every (lambda (file)
                    (with-temp-buffer
                      (ignore-errors (insert-file-contents file))
                      (string-match-p ") [Tt] " (buffer-string))))
                  threads)
      (member (alist-get 'state (process-attributes pid)) '("T" nil)))))

(defun dualstack-fault-halt (pid halt)
  "Have the process PID stop if HALT is non-nil, or else go on.
Windows has no signals for that, but its debuggers' functions."
  (if (eq system-type 'windows-nt)
      (should (equal '(0 . "0")
                     (dualstack-test-run
                      (dualstack-test-python-command
                       "import ctypes, sys
process = ctypes.windll.kernel32.OpenProcess(0x0800, False, int(sys.argv[1]))
print(getattr(ctypes.windll.ntdll, sys.argv[2])(process), end='')"
                       (number-to-string pid) (if halt "NtSuspendProcess" "NtResumeProcess")))))
    (signal-process pid (if halt 'SIGSTOP 'SIGCONT))
    (when halt
      (dualstack-test-wait (lambda () (dualstack-fault-stopped-p pid))))))

(dualstack-deftest dualstack-fault-stopped ()
  "A sidecar that is stopped lets calls time out, and answers when it goes on."
  (let* ((dualstack-python dualstack-test-python)
         (dualstack-sidecars nil)
         (inhibit-message t)
         (sidecar (dualstack-sidecar-start :name "stopped" :wait t))
         (pid (process-id (dualstack-sidecar-process sidecar)))
         (connection (dualstack-sidecar-connection sidecar)))
    (unwind-protect
        (dotimes (_ (* 2 dualstack-fault-times))
          (dualstack-fault-halt pid t)
          (should (eq 'dualstack-epc-timeout
                      (car (should-error (dualstack-epc-call connection 'hello nil
                                                             :timeout 0.2)))))
          (dualstack-fault-halt pid nil)
          (should (equal (dualstack-epc-call connection 'hello nil) "hello")))
      (dualstack-fault-halt pid nil)
      (dualstack-fault-sidecar-end sidecar))))

(dualstack-deftest dualstack-fault-one-connection-each ()
  "First contacts with a server on both families make one connection each.
Other processes load the machine meanwhile, and half of the contacts do not
wait for theirs."
  (dualstack-test-with-child (server dualstack-test-python "-c" "
import selectors, socket, sys
from dualstack_epc.net.listener import open_listener
listener = open_listener('dual', 0)
print(listener.port, flush=True)
count = 0
while True:
    client, _ = listener.accept()
    count += 1
    if client.recv(1) == b'?':
        client.sendall(b'%d\\n' % count)
    client.close()
")
    (let ((port (dualstack-test-child-port server))
          (load (cl-loop repeat 4
                         collect (make-process
                                  :name "load" :noquery t :connection-type 'pipe
                                  :command (dualstack-test-python-command
                                            "while True: pass")
                                  :sentinel #'ignore)))
          (rounds (* 1000 dualstack-fault-times))
          (answer ""))
      (unwind-protect
          (progn
            (dotimes (i rounds)
              (dualstack-forget)
              (let ((process nil))
                (if (= 0 (% i 2))
                    (setq process (dualstack-open-network-stream "peer" nil "localhost" port))
                  (dualstack-open-async "localhost" port
                                        :then (lambda (opened) (setq process opened)))
                  (dualstack-test-wait (lambda () process) 60))
                (set-process-sentinel process #'ignore)
                (delete-process process)))
            (let ((last (make-network-process :name "last" :service nil :remote (vector 127 0 0 1 port)
                                              :noquery t :sentinel #'ignore
                                              :filter (lambda (_process text)
                                                        (setq answer (concat answer text))))))
              (process-send-string last "?")
              (dualstack-test-wait (lambda () (string-suffix-p "\n" answer)) 60)
              (delete-process last)))
        (mapc #'dualstack-test-end-process load))
      (if (eq system-type 'windows-nt)
          ;; Emacs there may report a connect too late, and the other is dialled.
          (should (<= (1+ rounds) (string-to-number answer) (* 2 (1+ rounds))))
        ;; A kernel that is busy may take longer to answer than Emacs looks, now and then.
        (should (<= (1+ rounds) (string-to-number answer) (+ rounds 1 (/ rounds 100))))))))

(dualstack-deftest dualstack-fault-1000-connections ()
  "One Emacs has 1,000 connections open at once, 500 on each family.
On Windows, where Emacs has 32 sockets and children at most, it has 24."
  (let* ((windows (eq system-type 'windows-nt))
         (each (if windows 12 500))
         (many (unless windows '("sh" "-c" "ulimit -n 4096; exec \"$@\"" "--"))))
    (dualstack-test-call-with-child
     `(,@many ,dualstack-test-python "-m" "dualstack_epc" "hello")
     (lambda (server)
       (should
        (equal
         (dualstack-test-emacs
          many
          `(let ((answers 0) processes)
             (dolist (policy '(ipv4 ipv6))
               (setq dualstack-policy policy)
               (dotimes (_ ,each)
                 (push (dualstack-open-network-stream
                        "many" nil "localhost" ,(dualstack-test-child-port server))
                       processes)))
             (dolist (process processes)
               (set-process-filter process (lambda (_p _s) (setq answers (1+ answers))))
               (process-send-string process "1"))
             (while (< answers ,(* 2 each)) (accept-process-output nil 0.1))
             (list (length processes) answers)))
         (list (* 2 each) (* 2 each))))))))

(defun dualstack-fault-half-an-hour (connection)
  "Use CONNECTION as in half an hour, once a second, for every kind of call.
With `make fault' it is ten times a second.  ERT keeps what each `should'
is given, so here is none."
  (let ((ended 0)
        (count (* 1800 dualstack-fault-times))
        (large (make-string 5000 ?ä)))
    (dotimes (i count)
      (pcase (% i 10)
        (7 (unless (condition-case nil
                       (dualstack-epc-call connection 'no-such-method nil)
                     (dualstack-epc-error t))
             (error "No error"))
           (cl-incf ended))
        (9 (dualstack-epc-call-async connection 'echo (list i)
                                     :then (lambda (_) (cl-incf ended))
                                     :else #'error))
        (rest (let ((args (list i (if (= rest 8) large "text"))))
                (unless (equal args (dualstack-epc-call connection 'echo args))
                  (error "Another's reply"))
                (cl-incf ended)))))
    (dualstack-test-wait (lambda () (= ended count)))))

(dualstack-deftest dualstack-fault-flat-memory ()
  "Memory stays flat, in Emacs and in Python, over an hour's worth of use.
What the second half adds is what is judged.  All is done in a minute."
  (dualstack-test-with-child (server dualstack-test-python "-c" dualstack-fault-server)
    (let* ((start (float-time))
           (connection (dualstack-epc-connect "localhost" (dualstack-test-child-port server)))
           (resident (lambda (pid) (alist-get 'rss (process-attributes pid))))
           (objects (lambda ()
                      (cl-loop for (type _ used) in (garbage-collect)
                               unless (memq type '(heap floats string-bytes))
                               sum used)))
           (text (lambda () (nth 2 (assq 'string-bytes (garbage-collect))))))
      (unwind-protect
          (progn
            (dualstack-fault-half-an-hour connection)
            (let ((lisp (funcall objects))
                  (bytes (funcall text))
                  (emacs (funcall resident (emacs-pid)))
                  (python (funcall resident (process-id server))))
              (dualstack-fault-half-an-hour connection)
              (should (< (- (funcall objects) lisp) 5000))
              ;; The stack, which is searched for whatever may be a pointer, can
              ;; keep a string of 10,000 bytes or some; the calls had 3,600,000.
              (should (< (- (funcall text) bytes) 100000))
              ;; In KB.
              (should (< (- (funcall resident (emacs-pid)) emacs) 8192))
              (should (< (- (funcall resident (process-id server)) python) 4096)))
            (should (< (- (float-time) start) 60)))
        (dualstack-epc-close connection)))))

;;;; As an attacker

(dualstack-deftest dualstack-fault-browser ()
  "A browser's request with a frame in its body calls nothing."
  (let* ((dualstack-python dualstack-test-python)
         (dualstack-sidecars nil)
         (inhibit-message t)
         (sidecar (dualstack-sidecar-start :name "browsed" :wait t))
         (text ""))
    (unwind-protect
        (let ((process (make-network-process
                        :name "browser" :service nil :remote (vector 127 0 0 1 (dualstack-sidecar-port sidecar))
                        :filter (lambda (_process string) (setq text (concat text string)))
                        :sentinel #'ignore :coding 'binary)))
          (process-send-string process "POST / HTTP/1.1\r\nContent-Length: 21\r\n\r\n\
000012(call 1 stop nil)\n")
          (dualstack-test-wait (lambda () (not (process-live-p process))))
          (should (equal text ""))
          (should (equal (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'hello nil)
                         "hello")))
      (dualstack-fault-sidecar-end sidecar))))

(dualstack-deftest dualstack-fault-port-squatting ()
  "What listens at the other family, before or after the start, gets nothing."
  (let* ((dualstack-python dualstack-test-python)
         (dualstack-sidecars nil)
         (inhibit-message t)
         (port (dualstack-test-free-port))
         (heard nil)
         (squat (lambda (family)
                  (dualstack-test-server family :service port :coding 'binary
                                         :filter (lambda (_process string) (push string heard)))))
         (squatter (funcall squat 'ipv4)))
    (unwind-protect
        (progn
          ;; Before: the sidecar does not get the port, and says so.
          (should (string-match-p
                   (format "port %d is in use at 127.0.0.1:%d" port port)
                   (cadr (should-error
                          (dualstack-sidecar-start
                           :name "squatted" :wait t
                           :command (append (dualstack-sidecar--command)
                                            (list "--port" (number-to-string port))))))))
          ;; It has ::1 only: Emacs goes where the sidecar has told it to go.
          (let ((sidecar (dualstack-sidecar-start
                          :name "squatted" :wait t
                          :command (append (dualstack-sidecar--command)
                                           (list "--family" "ipv6"
                                                 "--port" (number-to-string port))))))
            (should (equal (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'hello nil)
                           "hello"))
            (dualstack-fault-sidecar-end sidecar))
          (should-not heard))
      (dualstack-test-close squatter))))

(provide 'dualstack-fault-test)

;;; dualstack-fault-test.el ends here
