;;; dualstack-mode-programs-test.el --- Real programs over dualstack-mode  -*- lexical-binding: t; -*-

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

;; Packages that come with Emacs, over the mode, against real servers; and how
;; much sooner they connect in the stall.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-mode)
(require 'url)
(require 'smtpmail)
(require 'jsonrpc)
(require 'rcirc)
(require 'erc)
(require 'comint)
(require 'nsm)
(require 'gnutls)
(require 'url-http)

;; It sets a timer that stays.
(url-do-setup)

(defconst dualstack-programs-http "
import http.server, sys
from dualstack_epc.net.listener import open_listener
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '5'); self.end_headers()
        self.wfile.write(b'hello')
    def log_message(self, *a): pass
l = open_listener(sys.argv[1])
print(l.port, flush=True)
while True:
    s, a = l.accept()
    H(s, a, None); s.close()
"
  "An HTTP server on one family, in Python.")

(defmacro dualstack-programs-test (name docstring &rest body)
  "Define the test NAME, with DOCSTRING, of BODY for each FAMILY, the mode on.
FAMILY is bound to \"ipv4\" and \"ipv6\"."
  (declare (indent 1) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (let ((dualstack-mode-peers--all nil)
           (inhibit-message t)
           (network-security-level 'low)
           (nsm-settings-file (make-temp-name (expand-file-name "nsm" temporary-file-directory)))
           (message-log-max nil))
       (dualstack-mode 1)
       (unwind-protect
           (dolist (family '("ipv4" "ipv6"))
             ,@body)
         (dualstack-mode 0)
         (ignore-errors (delete-file nsm-settings-file))))))

(defconst dualstack-programs-times (if (eq system-type 'windows-nt) 10 100)
  "How many times as fast a connect must be with the mode.
On Windows any one in the background takes Emacs 6 to 16 ms, and some more
when it is busy.")

(defun dualstack-programs-forget-buffers (before)
  "Kill the buffers that are not among BEFORE, and their processes."
  (dolist (buffer (cl-set-difference (buffer-list) before))
    (let ((process (get-buffer-process buffer)))
      (when process
        (set-process-sentinel process #'ignore)
        (delete-process process)))
    (unless (string-match-p "dualstack-log\\|test child" (buffer-name buffer))
      (kill-buffer buffer))))

(dualstack-programs-test dualstack-programs-url
  "URLs are fetched, in either way."
  (dualstack-test-with-child (child dualstack-test-python "-c" dualstack-programs-http family)
    (let ((url (format "http://localhost:%d/" (dualstack-test-child-port child)))
          (url-http-attempt-keepalives nil)
          (url-proxy-services nil)
          (before (buffer-list))
          (fetched nil))
      (with-current-buffer (url-retrieve-synchronously url t)
        (should (string-match-p "\n\nhello\\'" (buffer-string))))
      ;; In the background Emacs finds a server on ::1 where the system's
      ;; localhost has that, with the mode or without.
      (dotimes (_ (if (equal family "ipv4") 2 0))
        (setq fetched nil)
        (url-retrieve url (lambda (_status) (setq fetched (buffer-string))) nil t t)
        (dualstack-test-wait (lambda () fetched))
        (should (string-match-p "\n\nhello\\'" fetched)))
      (dualstack-programs-forget-buffers before)
      (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer))))))

(dualstack-programs-test dualstack-programs-smtpmail
  "Mail is sent, over STARTTLS."
  (let ((ca (make-temp-file "ca")))
    (unwind-protect
        (dualstack-test-with-child (child dualstack-test-python
                                          (dualstack-test-support "smtp_server.py") family ca)
          (let ((smtpmail-smtp-server "localhost")
                (smtpmail-smtp-service (dualstack-test-child-port child))
                (smtpmail-stream-type (and (gnutls-available-p) 'starttls))
                (smtpmail-queue-mail nil)
                (password-cache nil)
                (auth-source-do-cache nil)
                (gnutls-trustfiles (list ca))
                (before (buffer-list)))
            (with-temp-buffer
              (insert "From: a@example.org\nTo: b@example.org\nSubject: s\n\nA body\n")
              (should-not (smtpmail-via-smtp '("b@example.org") (current-buffer))))
            (dualstack-programs-forget-buffers before)
            (dualstack-test-wait
             (lambda ()
               (with-current-buffer (process-buffer child)
                 (goto-char (point-min))
                 (and (search-forward "A body" nil t)
                      (goto-char (point-min))
                      (search-forward (if (gnutls-available-p) "--- encrypted" "--- plain")
                                      nil t)))))))
      (delete-file ca))))

(dualstack-programs-test dualstack-programs-tls
  "A TLS stream is opened, and the certificate checked for localhost."
  (unless (gnutls-available-p)
    (ert-skip "needs an Emacs with GnuTLS: make test EMACS=..."))
  (let ((ca (make-temp-file "ca")))
    (unwind-protect
        (dualstack-test-with-child (child dualstack-test-python
                                          (dualstack-test-support "tls_server.py")
                                          family "localhost" ca)
          (let* ((gnutls-trustfiles (list ca))
                 (network-security-level 'high)
                 (buffer (generate-new-buffer " *tls*"))
                 (process (open-network-stream "tls" buffer "localhost"
                                               (dualstack-test-child-port child) :type 'tls)))
            (should (eq (process-status process) 'open))
            (should (plist-get (gnutls-peer-status process) :protocol))
            (set-process-sentinel process #'ignore)
            (delete-process process)
            (kill-buffer buffer)))
      (delete-file ca))))

(dualstack-programs-test dualstack-programs-jsonrpc
  "A jsonrpc connection answers."
  (when (eq system-type 'windows-nt)
    (ert-skip "plain Emacs there gets no answer of this server either"))
  (dualstack-test-with-servers
      ((server (intern family)
               :coding 'binary
               :filter (lambda (process text)
                         (when (string-match "\"id\":\\([0-9]+\\)" text)
                           (let ((json (format "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":\"hello\"}"
                                               (match-string 1 text))))
                             (process-send-string
                              process (format "Content-Length: %d\r\n\r\n%s"
                                              (length json) json)))))))
    (let* ((before (buffer-list))
           (connection (make-instance
                        'jsonrpc-process-connection :name "jsonrpc"
                        :process (open-network-stream "jsonrpc" nil "localhost"
                                                      (dualstack-test-port server)))))
      (should (equal (jsonrpc-request connection :greet [] :timeout 30) "hello"))
      (let ((process (jsonrpc--process connection)))
        (set-process-sentinel process #'ignore)
        (delete-process process))
      (dualstack-programs-forget-buffers before))))

(dualstack-programs-test dualstack-programs-rcirc
  "A client of IRC says who it is."
  (let (heard)
    ;; It connects in the background, which is Emacs's own way to localhost.
    (setq family "ipv4")
    (dualstack-test-with-servers
        ((server (intern family)
                 :filter (lambda (_process text) (setq heard (concat heard text)))))
      (let ((port (dualstack-test-port server))
            (before (buffer-list))
            (rcirc-reconnect-delay 0))
        (let ((process (rcirc-connect "localhost" port "nick" "user" "Full Name")))
          (dualstack-test-wait (lambda () (and heard (string-match-p "NICK nick" heard))))
          (should (eq (process-status process) 'open))
          (set-process-sentinel process #'ignore)
          (delete-process process))
        (when (bound-and-true-p rcirc-keepalive-timer)
          (cancel-timer rcirc-keepalive-timer)
          (setq rcirc-keepalive-timer nil))
        (dualstack-programs-forget-buffers before)
        (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer)))))))

;;;; Requests that the server counts, in the background

(defconst dualstack-programs-counter "
import http.server, sys, threading
count = {'GET': 0, 'POST': 0}
class H(http.server.BaseHTTPRequestHandler):
    def answer(self):
        count[self.command] += 1
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        body = b'%d GET, %d POST' % (count['GET'], count['POST'])
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)
print(s.server_port, flush=True)
s.serve_forever()
"
  "An HTTP server that tells how many requests it has had.")

(defmacro dualstack-programs-twice (name docstring &rest body)
  "Define the test NAME, with DOCSTRING: BODY gives the same, mode off and on."
  (declare (indent 1) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (let ((inhibit-message t)
           (message-log-max nil)
           (dualstack-mode-peers--all nil)
           (before (buffer-list))
           results)
       (dolist (on '(0 1 1))
         (dualstack-mode on)
         (unwind-protect
             (push (progn ,@body) results)
           (dualstack-mode 0)
           (dualstack-programs-forget-buffers before)))
       (should (car results))
       (should (equal (nth 0 results) (nth 2 results)))
       (should (equal (nth 1 results) (nth 2 results))))))

(dualstack-programs-twice dualstack-programs-url-requests
  "Each `url-retrieve', GET or POST, is one request; a timeout is kept."
  (dualstack-test-with-child (child dualstack-test-python "-c" dualstack-programs-counter)
    (let* ((url (format "http://localhost:%d/" (dualstack-test-child-port child)))
           (url-http-attempt-keepalives nil)
           (url-proxy-services nil)
           (body (lambda ()
                   (goto-char (point-min))
                   (search-forward "\n\n")
                   (buffer-substring (point) (point-max))))
           (fetch (lambda ()
                    (let (fetched)
                      (url-retrieve url (lambda (_status) (setq fetched (funcall body)))
                                    nil t t)
                      (dualstack-test-wait (lambda () fetched))
                      fetched))))
      (list (funcall fetch)
            (let ((url-request-method "POST")
                  (url-request-data "a=b"))
              (funcall fetch))
            (with-current-buffer (url-retrieve-synchronously url t t 5)
              (funcall body))
            (funcall fetch)))))

(defconst dualstack-programs-irc-server "
import threading
from dualstack_epc.net.listener import open_listener
def serve(sock):
    with sock, sock.makefile() as lines:
        for line in lines:
            print(line.rstrip(), flush=True)
listener = open_listener('ipv4')
print(listener.port, flush=True)
while True:
    sock, _ = listener.accept()
    print('CONNECTED', flush=True)
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
"
  "A server that prints what it hears, in Python.
Emacs on Windows loses connections to itself.")

(defun dualstack-programs-irc (connect)
  "Return what an IRC server hears from CONNECT, called with its port."
  (dualstack-test-with-child (child dualstack-test-python "-c" dualstack-programs-irc-server)
    (let ((heard (lambda ()
                   (with-current-buffer (process-buffer child)
                     (buffer-string)))))
      (funcall connect (dualstack-test-child-port child))
      (dualstack-test-wait (lambda () (string-match-p "^USER [^\n]*\n" (funcall heard))))
      (cl-loop for line in (split-string (funcall heard) "[\r\n]+" t)
               when (string-match "\\`\\(CONNECTED\\|NICK\\|USER\\)" line)
               collect (match-string 1 line)))))

(dualstack-programs-twice dualstack-programs-erc
  "ERC connects once and says once who it is."
  (let ((erc-server-auto-reconnect nil)
        (erc-auto-query nil)
        (erc-modules nil)
        (erc-join-buffer 'bury)
        (erc-kill-server-buffer-on-quit nil)
        (timers (copy-sequence timer-list)))
    (prog1 (dualstack-programs-irc
            (lambda (port)
              (erc :server "localhost" :port port :nick "nick" :full-name "Full Name"
                   :password nil)))
      (dolist (buffer (buffer-list))
        (with-current-buffer buffer
          (when (derived-mode-p 'erc-mode)
            (set-process-query-on-exit-flag erc-server-process nil)
            (set-process-sentinel erc-server-process #'ignore)
            (delete-process erc-server-process)
            (let ((kill-buffer-query-functions nil)
                  (kill-buffer-hook nil))
              (kill-buffer buffer)))))
      (mapc #'cancel-timer (cl-set-difference timer-list timers)))))

;; Packages of others, from Debian.

(defun dualstack-programs-package (package feature)
  "Load FEATURE of the Debian package PACKAGE, or skip the test."
  (let ((load-path (append (dualstack-test-debian-package package) load-path)))
    (unless (require feature nil t)
      (ert-skip (format "needs Debian's %s, which cannot be had from here" package)))))

(dualstack-programs-twice dualstack-programs-websocket
  "A websocket shakes hands once, and its message is echoed once."
  (dualstack-programs-package "elpa-websocket" 'websocket)
  (dualstack-test-with-child (child dualstack-test-python
                                    (dualstack-test-support "websocket_server.py"))
    (let* ((opened 0) (messages nil) (closed nil)
           (socket (funcall (intern "websocket-open")
                            (format "ws://localhost:%d" (dualstack-test-child-port child))
                            :on-open (lambda (_) (setq opened (1+ opened)))
                            :on-message (lambda (_ frame)
                                          (push (funcall (intern "websocket-frame-text") frame)
                                                messages))
                            :on-close (lambda (_) (setq closed t)))))
      (dualstack-test-wait (lambda () (= 1 opened)))
      (funcall (intern "websocket-send-text") socket "hello")
      (dualstack-test-wait (lambda () messages))
      (funcall (intern "websocket-close") socket)
      (dualstack-test-wait (lambda () closed))
      (list opened messages))))

(dualstack-programs-twice dualstack-programs-circe
  "Circe's IRC library connects once and says once who it is."
  (dualstack-programs-package "elpa-circe" 'irc)
  (let (process)
    (prog1 (dualstack-programs-irc
            (lambda (port)
              (let ((handlers (funcall (intern "irc-handler-table"))))
                (funcall (intern "irc-handle-registration") handlers)
                (setq process (funcall (intern "irc-connect")
                                       :host "localhost" :service port :tls nil
                                       :handler-table handlers
                                       :nick "nick" :user "user" :mode 8
                                       :realname "Full Name" :server-password nil)))))
      (set-process-sentinel process #'ignore)
      (delete-process process))))

;;;; In the stall

(defconst dualstack-programs-clients
  '((stream . (open-network-stream "x" nil "localhost" port))
    (primitive . (make-network-process :name "x" :host "localhost" :service port))
    (comint . (get-buffer-process (make-comint "x" (cons "localhost" port))))
    (list . (car (open-network-stream "x" nil "localhost" port :return-list t))))
  "Synchronous clients: names and forms that connect to PORT of localhost.")

(dualstack-deftest dualstack-programs-in-the-stall ()
  "Each synchronous client connects `dualstack-programs-times' as fast with the mode."
  (dolist (client '(stream primitive comint list))
    (let ((host (dualstack-test-resolver "::1 localhost\n127.0.0.1 localhost\n")))
      (dualstack-test-with-servers ((server 'ipv4))
        (let ((port (dualstack-test-port server)))
          (dualstack-test-with-stall (stalled "--family" "ipv6" "--port"
                                              (number-to-string port))
            (should (= stalled port))
            (let ((times
                   (dualstack-test-emacs
                    host
                    `(progn
                       (require 'dualstack-mode)
                       (require 'comint)
                       (let* ((port ,port)
                              (connect (lambda ()
                                         (let ((start (float-time))
                                               (process ,(alist-get client dualstack-programs-clients)))
                                           (prog1 (- (float-time) start)
                                             (set-process-sentinel process #'ignore)
                                             (delete-process process)))))
                              (plain (funcall connect)))
                         (dualstack-mode 1)
                         (list plain
                               ;; First contact each time.
                               (apply #'min
                                      (cl-loop repeat 20
                                               do (dualstack-forget)
                                               collect (funcall connect)))))))))
              (ert-info ((format "Client %s" client))
                (should (> (car times) 0.9))
                (should (> (/ (car times) (cadr times)) dualstack-programs-times))))))))))

(dualstack-deftest dualstack-programs-url-in-the-stall ()
  "For a URL Emacs connects `dualstack-programs-times' as fast with the mode."
  (let ((host (dualstack-test-resolver "::1 localhost\n127.0.0.1 localhost\n")))
    (dualstack-test-with-child (child dualstack-test-python "-c" dualstack-programs-http "ipv4")
      (let ((port (dualstack-test-child-port child)))
        (dualstack-test-with-stall (stalled "--family" "ipv6" "--port" (number-to-string port))
          (should (= stalled port))
          (let ((times
                 (dualstack-test-emacs
                  host
                  `(progn
                     (require 'dualstack-mode)
                     (require 'url)
                     (setq url-http-attempt-keepalives nil)
                     (require 'url-gw)
                     (let* ((time nil)
                            (fetch (lambda ()
                                     (kill-buffer (url-retrieve-synchronously
                                                   ,(format "http://localhost:%d/" port) t))
                                     time)))
                       ;; In this Emacs is frozen.
                       (advice-add 'url-open-stream :around
                                   (lambda (open &rest args)
                                     (let ((start (float-time)))
                                       (prog1 (apply open args)
                                         (setq time (- (float-time) start))))))
                       (list (funcall fetch)
                             (progn
                               (dualstack-mode 1)
                               (apply #'min
                                      (cl-loop repeat 3
                                               do (dualstack-forget)
                                               collect (funcall fetch))))))))))
            (should (> (car times) 0.9))
            (should (> (/ (car times) (cadr times)) dualstack-programs-times))))))))

(provide 'dualstack-mode-programs-test)

;;; dualstack-mode-programs-test.el ends here
