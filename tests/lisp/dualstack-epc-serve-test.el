;;; dualstack-epc-serve-test.el --- Tests of whom Emacs lets in, and of odd peers  -*- lexical-binding: t; -*-

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

;; Emacs as a server: the proof, who passes it on, floods, bounds; and calls
;; that are interrupted, made in a thread, or lose their buffer.

;;; Code:

(require 'dualstack-epc-helper)
(require 'dualstack-epc-serve)
(require 'dualstack-sidecar)

(defmacro dualstack-epc-serve-test-with (bindings &rest body)
  "Run BODY with a server of Emacs with the token \"secret\".
BINDINGS is (PORT . ARGS), ARGS being keywords of `dualstack-epc-serve'."
  (declare (indent 1) (debug ((symbolp &rest form) body)))
  (let ((servers (make-symbol "servers")) (connections (make-symbol "connections")))
    `(let* (,connections
            (,servers (dualstack-epc-serve
                       :methods `((echo ,(lambda (&rest args) args)))
                       :on-connect (lambda (connection) (push connection ,connections))
                       ,@(cdr bindings)))
            (,(car bindings) (process-contact (car ,servers) :service)))
       (unwind-protect
           (progn ,@body)
         (mapc #'delete-process ,servers)
         (mapc #'dualstack-epc-close ,connections)
         (dolist (process (process-list))
           (when (and (equal (process-contact process :server) nil)
                      (string-prefix-p "dualstack-epc server" (process-name process)))
             (delete-process process)))
         (dolist (timer timer-list)
           (when (memq (timer--function timer)
                       '(dualstack-epc-serve--refuse dualstack-epc-serve--report))
             (cancel-timer timer)))))))

(dualstack-deftest dualstack-epc-serve-with-token ()
  "With a token both prove themselves, from Emacs and from Python."
  (dualstack-epc-serve-test-with (port :token "secret")
    (let ((client (dualstack-epc-connect "localhost" port :token "secret")))
      (should (equal (dualstack-epc-call client 'echo '(1 "two")) '(1 "two")))
      (dualstack-epc-close client))
    (let* ((text "")
           (python (make-process
                    :name "python" :connection-type 'pipe :noquery t :sentinel #'ignore
                    :filter (lambda (_process output) (setq text (concat text output)))
                    :command (dualstack-test-python-command
                              "import sys; from dualstack_epc.rpc.client import connect
with connect('::1', int(sys.argv[1]), token='secret') as c: print(c.call_sync('echo', [1], 5))"
                              (number-to-string port)))))
      (dualstack-test-wait (lambda () (not (process-live-p python))))
      (should (equal text "[1]\n")))))

(dualstack-deftest dualstack-epc-serve-without-the-token ()
  "Without the token nothing is called, read or interned, and there is one error."
  (let* ((called nil)
         (call (lambda () (setq called t))))
    (dualstack-epc-serve-test-with (port :token "secret" :methods `((f ,call)))
      (should (eq (car (dualstack-epc-test-error
                        (dualstack-epc-connect "localhost" port :token "other")))
                  'dualstack-epc-auth-error))
      (should (memq (car (dualstack-epc-test-error
                          (dualstack-epc-call (dualstack-epc-connect "localhost" port) 'f nil)))
                    '(dualstack-epc-protocol-error dualstack-epc-closed)))
      (dolist (text `("000011(call 1 f nil)  \n" "GET / HTTP/1.1\r\n\r\n" "ffffff" "00000A" "000006(((((\n"
                      ,(dualstack-epc-test-frame "(call 1 dualstack-prove (\"x\"))")
                      ,(dualstack-epc-test-frame "(call 1 dualstack-auth (dualstack-epc-serve-new))")
                      ,(concat (dualstack-epc-test-frame "(call 1 dualstack-auth (\"n\"))")
                               (dualstack-epc-test-frame "(call 2 dualstack-prove (\"0\"))")
                               (dualstack-epc-test-frame "(call 3 f ())"))))
        (let ((process (make-network-process :name "stranger" :host "127.0.0.1" :service port
                                             :coding 'binary :sentinel #'ignore :noquery t)))
          (process-send-string process text)
          (dualstack-test-wait (lambda () (not (process-live-p process))))
          (delete-process process)))
      (should-not called)
      (should-not (intern-soft "dualstack-epc-serve-new")))))

(defun dualstack-epc-serve-test-relay (port family)
  "Return a server of FAMILY at PORT that passes all on to PORT of the other."
  (dualstack-test-server
   family :service port :coding 'binary
   :filter (lambda (process bytes)
             (let ((other (or (process-get process 'other)
                              (make-network-process
                               :name "relay" :family (if (eq family 'ipv4) 'ipv6 'ipv4)
                               :host (if (eq family 'ipv4) "::1" "127.0.0.1") :service port
                               :coding 'binary :noquery t :sentinel #'ignore
                               :filter (lambda (_other bytes)
                                         (process-send-string process bytes))))))
               (process-put process 'other other)
               (process-send-string other bytes)))))

(dualstack-deftest dualstack-epc-serve-relay ()
  "Who passes the two messages of the proof on becomes neither side."
  (let* ((called nil)
         (port (dualstack-test-free-port)))
    (dualstack-test-with-child (child dualstack-test-python "-c"
                                      (concat "from dualstack_epc.net.listener import open_listener
from dualstack_epc.rpc.core import Server
server = Server(open_listener('ipv6', " (number-to-string port) "), 'secret')
server.register_function(lambda: 1, 'f')
server.print_port(); server.serve_forever()"))
      (dualstack-test-child-port child)
      (let ((relay (dualstack-epc-serve-test-relay port 'ipv4)))
        (unwind-protect
            (progn
              (let ((err (dualstack-epc-test-error
                          (dualstack-epc-connect "127.0.0.1" port :token "secret"))))
                (should (eq (car err) 'dualstack-epc-auth-error))
                (should (string-match-p "not proved itself" (cadr err))))
              (let ((client (dualstack-epc-connect "::1" port :token "secret")))
                (should (= 1 (dualstack-epc-call client 'f nil)))
                (dualstack-epc-close client)))
          (dualstack-test-close relay))))
    (should-not called)))

(dualstack-deftest dualstack-epc-stranger-sends-little ()
  "A server that has not proved itself cannot send what keeps Emacs busy.
Neither what begins such a message, nor one that comes as a whole, is read."
  (dolist (payload (list "" (make-string 4097 ?x)))
    (let ((read-process-output-max 65536) ; As since Emacs 30.
          (stranger (make-network-process
                     :name "stranger" :server t :host "127.0.0.1" :service t :family 'ipv4
                     :noquery t :filter #'ignore
                     :sentinel (lambda (process event)
                                 (when (string-prefix-p "open" event)
                                   (process-send-string process (concat "001001" payload)))))))
      (unwind-protect
          (let ((err (should-error (dualstack-epc-connect
                                    "127.0.0.1" (process-contact stranger :service)
                                    :token "secret")
                                   :type 'dualstack-epc-closed)))
            (should (string-match-p "4097 bytes before its proof" (cadr err))))
        (delete-process stranger)))))

(dualstack-deftest dualstack-epc-serve-label ()
  "Both ends of a forwarded port name a label, and no other is taken for it."
  (dualstack-epc-serve-test-with (port :token "secret" :label "build")
    (let ((client (dualstack-epc-connect "localhost" port :token "secret" :label "build")))
      (should (equal (dualstack-epc-call client 'echo '(1)) '(1)))
      (dualstack-epc-close client))
    (should (eq (car (dualstack-epc-test-error
                      (dualstack-epc-connect "localhost" port :token "secret" :label "other")))
                'dualstack-epc-auth-error))))

(defconst dualstack-epc-serve-test--silent "
import socket, sys
print('ready', flush=True)
clients = []
for _ in sys.stdin:
    clients.append(socket.create_connection(('127.0.0.1', int(sys.argv[1]))))
    print('silent', flush=True)"
  "A program with clients that say nothing: another one for each line.")

(defun dualstack-epc-serve-test-turned-away ()
  "Return the numbers of clients turned away in the lines of the log."
  (with-current-buffer (get-buffer-create "*dualstack-log*")
    (goto-char (point-min))
    (cl-loop while (re-search-forward "turned \\([0-9]+\\) clients away" nil t)
             collect (string-to-number (match-string 1)))))

(dualstack-deftest dualstack-epc-serve-flood ()
  "Two hundred silent clients leave a few and a line a second, and shut nobody out."
  (let ((dualstack-epc-serve--patience 60)
        (start (float-time)))
    (dualstack-epc-serve-test-with (port :token "secret")
      (dualstack-test-call-with-child
       (dualstack-test-python-command dualstack-epc-serve-test--silent (number-to-string port))
       (lambda (child)
         (dotimes (i 200)
           (process-send-string child "\n")
           (dualstack-test-wait
            (lambda () (with-current-buffer (process-buffer child)
                         (= (+ i 2) (count-lines (point-min) (point-max)))))))
         (let ((client (dualstack-epc-connect "127.0.0.1" port :token "secret")))
           (should (equal (dualstack-epc-call client 'echo '(1)) '(1)))
           (dualstack-epc-close client))
         (dualstack-test-wait
          (lambda () (<= (- 200 dualstack-epc-serve--gates)
                         (apply #'+ (dualstack-epc-serve-test-turned-away)))))
         (should (>= dualstack-epc-serve--gates
                     (cl-count-if (lambda (timer)
                                    (eq (timer--function timer) 'dualstack-epc-serve--refuse))
                                  timer-list)
                     (1- dualstack-epc-serve--gates)))
         (should (<= (length (dualstack-epc-serve-test-turned-away))
                     (1+ (- (float-time) start)))))))))

(dualstack-deftest dualstack-epc-serve-limit ()
  "Without a token there are no more clients than are wanted."
  (dualstack-epc-serve-test-with (port :max-clients 3)
    (let ((clients (cl-loop repeat 3 collect (dualstack-epc-connect "localhost" port))))
      (unwind-protect
          (progn
            (dolist (client clients)
              (should (equal (dualstack-epc-call client 'echo '(1)) '(1))))
            (should (eq (car (dualstack-epc-test-error
                              (dualstack-epc-call (dualstack-epc-connect "localhost" port)
                                                  'echo '(1))))
                        'dualstack-epc-closed))
            (dualstack-epc-close (pop clients))
            (let ((again nil))
              (dualstack-test-wait
               (lambda ()
                 (setq again (dualstack-epc-connect "localhost" port))
                 (condition-case nil
                     (dualstack-epc-call again 'echo '(1))
                   (dualstack-epc-error nil))))
              (push again clients)))
        (mapc #'dualstack-epc-close clients)))))

(dualstack-deftest dualstack-epc-serve-waiting-calls-are-bounded ()
  "Of 10,500 calls at once those that are too many get an error; all get a reply."
  (dualstack-epc-test-with-raw (connection peer)
    (dualstack-epc-define-method connection 'f #'ignore)
    (process-send-string
     peer (mapconcat (lambda (i) (dualstack-epc-test-frame (format "(call %d f ())" i)))
                     (number-sequence 1 10500) ""))
    (let (replies)
      (dualstack-test-wait
       (lambda ()
         (setq replies (with-temp-buffer
                         (insert (or (process-get peer 'text) ""))
                         (cons (count-matches "(return " (point-min) (point-max))
                               (count-matches "(return-error " (point-min) (point-max)))))
         (>= (+ (car replies) (cdr replies)) 10500)))
      (should (= 10500 (+ (car replies) (cdr replies))))
      (should (equal (dualstack-epc-connection--waiting connection) '(0 . 0))))))

;;;; Odd peers, and odd moments

(dualstack-deftest dualstack-epc-undefined-methods-are-named ()
  "A method whose function does not exist is an error at once, and named."
  (dolist (methods '(((add dualstack-no-such-function)) (add) ((add)) (("add" +)) t ((nil +))))
    (let ((err (should-error (dualstack-epc-serve :methods methods))))
      (should (eq (car err) 'error))
      (should (string-match-p "add\\|method" (cadr err)))))
  (should-error (dualstack-sidecar-start :name "undefined"
                                         :methods '((add dualstack-no-such-function))))
  (should-not (dualstack-sidecar-get "undefined")))

(dualstack-deftest dualstack-epc-sidecar-that-dies-in-the-proof ()
  "A sidecar that dies during the proof is reported with its log."
  (let ((dualstack-python dualstack-test-python)
        (dualstack-sidecars nil)
        (inhibit-message t))
    (let ((err (should-error
                (dualstack-sidecar-start
                 :name "dying" :wait t
                 :command (dualstack-test-python-command
                           "import socket, sys
s = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]
print(port); print(f'(dualstack-epc 1 :token \"x\" :addresses ((\"127.0.0.1\" . {port})))', flush=True)
c, _ = s.accept(); c.recv(10); print('the disk is on fire', file=sys.stderr, flush=True)
c.close(); sys.exit(3)")))))
      (should (string-match-p "status 3" (cadr err)))
      (should (string-match-p "the disk is on fire" (cadr err)))
      (should-not (string-match-p "who it should be" (cadr err))))
    (kill-buffer "*dualstack-sidecar dying*")))

(dualstack-deftest dualstack-epc-killed-buffer-ends-the-connection ()
  "To kill all buffers ends the connection, and its calls, with a reason."
  (dualstack-epc-test-with-raw (connection peer)
    (run-at-time 0 nil #'kill-buffer (dualstack-epc-connection--input connection))
    (let ((err (dualstack-epc-test-error (dualstack-epc-call connection 'x nil :timeout 5))))
      (should (eq (car err) 'dualstack-epc-closed))
      (should (string-match-p "killed" (cadr err))))
    (should (process-live-p peer))))

(dualstack-deftest dualstack-epc-call-in-a-thread ()
  "A call in a thread is an error before anything is sent."
  (skip-unless (fboundp 'make-thread))
  (dualstack-epc-test-with-raw (connection peer)
    (dolist (function (list (lambda () (dualstack-epc-call connection 'x nil :timeout 1))
                            (lambda () (dualstack-epc-methods connection :timeout 1))
                            (lambda () (dualstack-epc-connect "localhost" 1))))
      (let* ((found nil)
             (thread (make-thread (lambda ()
                                    (setq found (dualstack-epc-test-error (funcall function)))))))
        (thread-join thread)
        (should (eq (car found) 'dualstack-epc-error))
        (should (string-match-p "main thread" (cadr found)))))
    (accept-process-output nil 0.05)
    (should-not (process-get peer 'text))
    (should (= 0 (hash-table-count (dualstack-epc--pending connection))))))

(dualstack-deftest dualstack-epc-while-no-input-harms-nothing ()
  "Calls that input interrupts, at any moment, leave the connection and no request.
The input is a signal that comes at a random moment, as typing does."
  (dualstack-epc-test-with-python (connection "")
    (let ((interrupted 0))
      (dotimes (i 600)
        (let* ((timer nil)
               (value (catch 'dualstack-epc-test
                        (let ((throw-on-input 'dualstack-epc-test))
                          (setq timer (run-at-time (/ (random 700) 1000000.0) nil
                                                   (lambda () (setq quit-flag throw-on-input))))
                          (dualstack-epc-call connection 'echo (list i))))))
          (cancel-timer timer)
          (setq quit-flag nil)
          (unless (equal value (list i))
            (cl-incf interrupted))))
      (should (> interrupted 20))
      (should (dualstack-epc-live-p connection))
      (should (equal (dualstack-epc-call connection 'echo '(end)) '(end)))
      (should (= 0 (hash-table-count (dualstack-epc--pending connection)))))))

(provide 'dualstack-epc-serve-test)

;;; dualstack-epc-serve-test.el ends here
