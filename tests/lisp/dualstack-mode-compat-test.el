;;; dualstack-mode-compat-test.el --- How packages open connections  -*- lexical-binding: t; -*-

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

;; Each test calls in the shape that a package in the wild calls in, with the
;; mode off and on, and compares what the package would see.  The numbers are
;; those of the project's list of call shapes.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-mode)
(require 'comint)
(require 'tq)
(require 'gnutls)

(defmacro dualstack-compat (name docstring bindings &rest body)
  "Define the test NAME, with DOCSTRING: BODY gives the same, mode off and on.
BINDINGS is (PORT PEERS ARGS...): PORT is bound to the port of a server on
IPv4 made with ARGS, PEERS to a function that gives what it accepted."
  (declare (indent 2) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (let ((inhibit-message t)
           (dualstack-mode-peers--all nil)
           results)
       (dolist (on '(0 1 1))            ; The second time with a memory.
         (dualstack-mode on)
         (unwind-protect
             (dualstack-test-with-servers ((server 'ipv4 ,@(nthcdr 2 bindings)))
               (let ((,(car bindings) (dualstack-test-port server))
                     (,(cadr bindings) (lambda () (dualstack-test-accepted server))))
                 (ignore ,(car bindings) ,(cadr bindings))
                 (push (dualstack-compat-call (lambda () ,@body)) results)))
           (dualstack-mode 0)))
       (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer)))
       (should (nth 0 results))
       (dualstack-compat-check-none-is-lost results)
       (should (equal (nth 1 results) (nth 2 results)))
       (should (equal (nth 0 results) (nth 2 results))))))

(defun dualstack-compat-call (function)
  "Call FUNCTION, and return what it does.
Without the mode, a connection that is refused is one that Emacs has lost: on
Windows it takes one connect in some hundreds for failed."
  (condition-case err
      (funcall function)
    (file-error
     (if dualstack-mode
         (signal (car err) (cdr err))
       (error "Waited in vain for a plain connection: %S" err)))))

(defun dualstack-compat-check-none-is-lost (results)
  "Signal that a connection is lost if one of RESULTS alone has one that is closed.
Emacs on Windows takes a healthy one for closed now and then, and the test is
repeated."
  (let ((closed (lambda (result) (and (consp result) (memq 'closed result)))))
    (when (and (eq system-type 'windows-nt)
               (seq-some closed results)
               (not (seq-every-p closed results)))
      (error "One is closed: connection broken by remote peer"))))

(defun dualstack-compat-greeter (_server client _message)
  "Greet CLIENT, with a character that is not ASCII."
  (process-send-string client (encode-coding-string "hällo\r\n" 'utf-8)))

(defun dualstack-compat-echo (process text)
  "Send TEXT back to PROCESS."
  (process-send-string process text))

(defun dualstack-compat-end (process)
  "Delete PROCESS without a word."
  (set-process-sentinel process #'ignore)
  (delete-process process))

(defun dualstack-compat-contact (process port)
  "Return the contact of PROCESS but for PORT and the addresses of both ends."
  (cl-loop for (key value) on (process-contact process t) by #'cddr
           unless (memq key '(:local :remote))
           append (list key (if (equal value port) 'port value))))

(defun dualstack-compat-view (process port)
  "Return what a package can see of PROCESS, connected to PORT, but for PORT."
  (let ((buffer (process-buffer process)))
    (list (process-name process) (process-status process)
          (dualstack-compat-contact process port)
          (process-coding-system process) (process-plist process)
          (process-query-on-exit-flag process) (process-type process)
          (and buffer (buffer-name buffer))
          (eq process (get-process (process-name process)))
          (process-get process 'any) (process-filter process)
          (process-sentinel process) (process-inherit-coding-system-flag process))))

(dualstack-compat dualstack-compat-01-epc
  "emacs-epc: everything is set after the connection; the greeting is whole."
  (port peers :log #'dualstack-compat-greeter)
  (with-temp-buffer
    (let* ((text "")
           (events nil)
           (process (open-network-stream "epc con" (current-buffer) "localhost" port)))
      (set-process-coding-system process 'binary 'binary)
      (set-process-filter process (lambda (_process string) (setq text (concat text string))))
      (set-process-sentinel process (lambda (_process event) (push event events)))
      (set-process-query-on-exit-flag process nil)
      (dualstack-test-wait (lambda () (= 8 (length text))))
      (prog1 (list text events (process-status process))
        (dualstack-compat-end process)))))

(dualstack-compat dualstack-compat-02-slime
  "slime: no buffer; a secret is sent at once."
  (port peers :filter #'dualstack-compat-echo)
  (let ((process (open-network-stream "SLIME Lisp" nil "localhost" port))
        (buffer (generate-new-buffer " *cl-connection*")))
    (prog1 (list (process-status process)
                 (progn
                   (set-process-buffer process buffer)
                   (process-send-string process "secret")
                   (set-process-coding-system process 'utf-8-unix 'utf-8-unix)
                   (dualstack-test-wait (lambda ()
                                          (with-current-buffer buffer
                                            (and (> (buffer-size) 0) (buffer-string)))))))
      (dualstack-compat-end process)
      (kill-buffer buffer))))

(dualstack-compat dualstack-compat-03-sly
  "sly: the whole plist is replaced."
  (port peers)
  (let ((process (open-network-stream "sly-1" nil "localhost" port)))
    (set-process-plist process '(sly--net t))
    (prog1 (dualstack-compat-view process port)
      (dualstack-compat-end process))))

(dualstack-compat dualstack-compat-04-sly-mrepl
  "sly-mrepl: a second stream to the host of the first one's contact."
  (port peers)
  (let* ((first (open-network-stream "one" nil "localhost" port))
         (second (open-network-stream "two" nil (car (process-contact first)) port)))
    (prog1 (list (process-status second) (car (process-contact second)))
      (mapc #'dualstack-compat-end (list first second)))))

(dualstack-compat dualstack-compat-05-cider
  "cider: a refused connection is an error, never nil."
  (port peers)
  (condition-case err
      (open-network-stream "nrepl" nil "localhost" (dualstack-test-free-port))
    (error (list (car err) (nth 1 err) (nth 2 err)
                 (plist-get (nthcdr 3 err) :host)))))

(dualstack-compat dualstack-compat-06-port-probe
  "cider, lsp-mode, dap-mode: whether a port is free."
  (port peers)
  (let ((taken (lambda (port)
                 (condition-case nil
                     (progn (delete-process (open-network-stream "probe" nil "localhost" port)) t)
                   (file-error nil)))))
    (list (funcall taken port) (funcall taken (dualstack-test-free-port))
          (progn (dualstack-test-wait (lambda () (null (funcall peers)))) 'gone))))

(dualstack-compat dualstack-compat-07-retry
  "lsp-mode, dap-mode: plain, no-conversion, retried until the server is there."
  (port peers)
  (let* ((port (dualstack-test-free-port))
         (tries 0)
         late process)
    (unwind-protect
        (while (not process)
          (condition-case err
              (setq process (open-network-stream "lsp" nil "localhost" port
                                                 :type 'plain :coding 'no-conversion))
            (file-error
             (should (equal (cadr err) "make client process failed"))
             (setq tries (1+ tries))
             (when (= tries 3)
               (setq late (dualstack-test-server 'ipv4 :service port))))))
      (when process (dualstack-compat-end process))
      (when late (dualstack-test-close late)))
    (list tries (and process t))))

(dualstack-compat dualstack-compat-08-dape
  "dape: the primitive, with ignore-errors."
  (port peers)
  (let ((process (ignore-errors
                   (make-network-process :name "dape" :host "localhost" :service port
                                         :coding 'utf-8-emacs-unix :noquery t))))
    (unless (or process dualstack-mode)
      (signal 'file-error '("It does not say why")))
    (prog1 (list (dualstack-compat-view process port)
                 (ignore-errors (make-network-process
                                 :name "dape" :host "localhost"
                                 :service (dualstack-test-free-port) :noquery t)))
      (dualstack-compat-end process))))

(dualstack-compat dualstack-compat-09-autoport
  "jsonrpc, dape, eglot: a server for a port, and then a client of it."
  (port peers)
  (let* ((server (make-network-process :name "autoport" :server t :host "localhost"
                                       :service 0 :sentinel #'ignore))
         (port (process-contact server :service)))
    (delete-process server)
    (list (numberp port)
          (car (should-error (open-network-stream "x" nil "localhost" port)
                             :type 'file-error)))))

(dualstack-compat dualstack-compat-10-url-gw
  "url-gw: coding let-bound to binary."
  (port peers :log #'dualstack-compat-greeter)
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (let* ((coding-system-for-read 'binary)
           (coding-system-for-write 'binary)
           (process (open-network-stream "localhost" (current-buffer) "localhost" port)))
      (dualstack-test-wait (lambda () (= 8 (buffer-size))))
      (prog1 (list (buffer-string) (process-coding-system process))
        (dualstack-compat-end process)))))

(dualstack-compat dualstack-compat-11-url-http
  "url-http: the process is pooled, and loses its buffer."
  (port peers)
  (let* ((buffer (generate-new-buffer " *http*"))
         (process (open-network-stream "localhost" buffer "localhost" port)))
    (set-process-buffer process nil)
    (kill-buffer buffer)
    (prog1 (list (memq (process-status process) '(run open connect))
                 (process-buffer process) (eq process (get-process "localhost")))
      (dualstack-compat-end process))))

(dualstack-compat dualstack-compat-12-websocket
  "websocket: :nowait, everything set afterwards, one open."
  (port peers)
  (let* ((process (make-network-process :name "ws" :host "localhost" :service port
                                        :nowait t :coding 'binary :noquery t))
         (first (process-status process))
         (events nil))
    (set-process-sentinel process (lambda (_process event) (push event events)))
    (set-process-filter process #'ignore)
    (dualstack-test-wait (lambda () events))
    (accept-process-output nil 0.05)
    (prog1 (list first events (process-status process) (car (process-contact process)))
      (dualstack-compat-end process))))

(dualstack-compat dualstack-compat-13-circe
  "circe: many keywords, with nil and with a family."
  (port peers)
  (let* ((process (make-network-process
                   :name "irc" :host "localhost" :service port :family 'ipv4 :nowait nil
                   :plist '(:conn t) :filter #'ignore :sentinel #'ignore :keepalive t
                   :tls-parameters nil)))
    (prog1 (dualstack-compat-view process port)
      (dualstack-compat-end process))))

(dualstack-compat dualstack-compat-14-rcirc-refused
  "erc, rcirc: the sentinel is told of a refusal in C's own words."
  (port peers)
  (let* ((event nil)
         (process (make-network-process
                   :name "rcirc" :host "localhost" :service (dualstack-test-free-port)
                   :nowait t :noquery t
                   :sentinel (lambda (_process text) (setq event text)))))
    (dualstack-test-wait (lambda () event))
    (delete-process process)
    event))

(dualstack-compat dualstack-compat-15-mpc
  "mpc: the greeting arrives in the buffer, with let-bound coding, in a filter."
  (port peers :log #'dualstack-compat-greeter)
  (with-temp-buffer
    (let* ((coding-system-for-read 'utf-8-unix)
           (coding-system-for-write 'utf-8-unix)
           (process (make-network-process :name "mpc" :buffer (current-buffer)
                                          :host "localhost" :service port :family nil)))
      (dualstack-test-wait (lambda () (= 7 (buffer-size))))
      (prog1 (list (buffer-string) (process-coding-system process))
        (dualstack-compat-end process)))))

(dualstack-compat dualstack-compat-16-libmpdel
  "libmpdel: keys with nil, and a transaction queue."
  (port peers :filter #'dualstack-compat-echo)
  (let* ((answer nil)
         (process (make-network-process :name "mpd" :buffer nil :host "localhost"
                                        :service port :type nil :family nil))
         (queue (tq-create process)))
    (tq-enqueue queue "ping\n" "\n" nil (lambda (_closure text) (setq answer text)))
    (dualstack-test-wait (lambda () answer))
    (tq-close queue)
    answer))

(dualstack-compat dualstack-compat-17-comint
  "comint: a pair of host and port."
  (port peers :log #'dualstack-compat-greeter)
  (let* ((buffer (make-comint "dualstack compat" (cons "localhost" port)))
         (process (get-buffer-process buffer)))
    (dualstack-test-wait (lambda ()
                           (with-current-buffer buffer (> (buffer-size) 5))))
    (prog1 (with-current-buffer buffer
             (list (buffer-string) (= (process-mark process) (point-max))
                   (process-status process)))
      (dualstack-compat-end process)
      (kill-buffer buffer))))

(dualstack-compat dualstack-compat-18-dictionary
  "dictionary: no filter, the greeting is read from the buffer."
  (port peers :log #'dualstack-compat-greeter)
  (with-temp-buffer
    (let ((process (open-network-stream "dictionary" (current-buffer) "localhost" port)))
      (while (not (and (goto-char (point-min)) (search-forward "\n" nil t)))
        (accept-process-output process 1))
      (prog1 (list (buffer-string) (process-filter process))
        (dualstack-compat-end process)))))

(dualstack-deftest dualstack-compat-19-esup ()
  "esup: in a batch child."
  (dualstack-test-with-servers ((server 'ipv4))
    (should (equal (dualstack-test-emacs
                    nil `(progn
                           (require 'dualstack-mode)
                           (dualstack-mode 1)
                           (process-status (open-network-stream
                                            "esup" nil "localhost"
                                            ,(dualstack-test-port server)))))
                   'open))))

(dualstack-compat dualstack-compat-20-meghanada
  "meghanada: a literal address and family, filter and sentinel at creation."
  (port peers)
  (let ((process (make-network-process :name "meghanada" :host "127.0.0.1" :service port
                                       :family 'ipv4 :filter #'ignore :sentinel #'ignore)))
    (prog1 (dualstack-compat-view process port)
      (dualstack-compat-end process))))

(dualstack-compat dualstack-compat-21-inside-a-filter
  "indium, floobits, monroe: within a filter, the buffer given by name."
  (port peers :log #'dualstack-compat-greeter)
  (let* (inner
         (outer (make-network-process
                 :name "outer" :service nil :remote (vector 127 0 0 1 port) :sentinel #'ignore
                 :filter (lambda (_process _text)
                           (setq inner (open-network-stream "inner" "*inner*" "localhost"
                                                            port))))))
    (dualstack-test-wait (lambda () inner))
    (dualstack-test-wait (lambda () (with-current-buffer "*inner*" (> (buffer-size) 0))))
    (prog1 (list (process-status inner) (buffer-name (process-buffer inner)))
      (mapc #'dualstack-compat-end (list inner outer))
      (kill-buffer "*inner*"))))

(dualstack-compat dualstack-compat-22-tramp
  "tramp: a server on the host `local'."
  (port peers)
  (let ((server (make-network-process :name "tramp" :server t :host 'local :service t
                                      :sentinel #'ignore)))
    (prog1 (list (process-status server) (numberp (process-contact server :service)))
      (delete-process server))))

(defmacro dualstack-compat-or-refusal (&rest body)
  "Run BODY; on Windows, which lacks what it asks for, return its error."
  `(if (eq system-type 'windows-nt)
       (condition-case err (progn ,@body) (error (list 'error (car err) (nth 1 err))))
     ,@body))

(dualstack-compat dualstack-compat-23-local-sockets
  "lsp-roslyn, geiser: local sockets."
  (port peers)
  (dualstack-compat-or-refusal
   (let* ((name (make-temp-name (expand-file-name "ds" temporary-file-directory)))
         (server (make-network-process :name "socket" :server t :family 'local :service name
                                       :sentinel #'ignore))
         (one (make-network-process :name "one" :service nil :remote name :sentinel #'ignore))
         (two (make-network-process :name "two" :family 'local :service name
                                    :sentinel #'ignore)))
    (prog1 (list (process-status one) (process-status two))
      (mapc #'delete-process (list one two server))
      (mapc #'delete-process (cl-remove-if-not
                              (lambda (process) (string-prefix-p "socket <" (process-name process)))
                              (process-list)))
      (delete-file name)))))

(dualstack-compat dualstack-compat-24-datagrams
  "dns.el, server.el: datagrams and a server on the host `local'."
  (port peers)
  (dualstack-compat-or-refusal
   (let* ((udp (make-network-process :name "udp" :server t :type 'datagram :family 'ipv4
                                    :host "127.0.0.1" :service t :sentinel #'ignore))
         (client (make-network-process :name "dns" :host "localhost" :type 'datagram
                                       :service (process-contact udp :service)
                                       :sentinel #'ignore))
         (server (make-network-process :name "server" :family 'ipv4 :host 'local :server t
                                       :service t :sentinel #'ignore)))
    (prog1 (mapcar #'process-status (list udp client server))
      (mapc #'delete-process (list udp client server))))))

(dualstack-compat dualstack-compat-25-starttls
  "nntp, smtpmail, nnimap: network-stream with :return-list, its greeting read."
  (port peers :log (lambda (_server client _message)
                      (process-send-string client "200 ready\r\n"))
        :filter (lambda (process _text) (process-send-string process "500 no\r\n")))
  (with-temp-buffer
    (let* ((result (open-network-stream "nntp" (current-buffer) "localhost" port
                                        :type 'network :return-list t
                                        :end-of-command "^[0-9]+.*\r?\n"
                                        :capability-command "CAPABILITIES\r\n"
                                        :starttls-function #'ignore))
           (process (car result)))
      (prog1 (list (process-status process) (plist-get (cdr result) :greeting)
                   (plist-get (cdr result) :type) (plist-get (cdr result) :capabilities))
        (dualstack-compat-end process)))))

(dualstack-compat dualstack-compat-26-rcon
  "rcon: an unknown keyword; deleted by name."
  (port peers)
  (let ((process (open-network-stream "rcon" nil "localhost" port :unknown t)))
    (set-process-sentinel process #'ignore)
    (prog1 (list (process-name process) (eq process (get-process "rcon")))
      (delete-process "rcon"))))

;; In batch Emacs dies of SIGPIPE when a TLS client is deleted while it connects,
;; with the mode and without, hence the child in which that signal is ignored.
(dualstack-deftest dualstack-compat-27-tls-host-name ()
  "jabber: :nowait with TLS keeps the host's name."
  (unless (gnutls-available-p)
    (ert-skip "needs an Emacs with GnuTLS: make test EMACS=..."))
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((results
           (dualstack-test-emacs
            '("sh" "-c" "trap '' PIPE; exec \"$@\"" "--")
            `(progn
               (require 'dualstack-mode)
               (require 'gnutls)
               (mapcar
                (lambda (on)
                  (dualstack-mode on)
                  (let ((process (make-network-process
                                  :name "jabber" :host "localhost"
                                  :service ,(dualstack-test-port server)
                                  :nowait t :noquery t :sentinel #'ignore
                                  :tls-parameters
                                  (cons 'gnutls-x509pki
                                        (gnutls-boot-parameters :hostname "localhost")))))
                    (prog1 (list (process-contact process :host)
                                 (plist-get (cdr (process-contact process :tls-parameters))
                                            :hostname))
                      (delete-process process))))
                '(0 1 1))))))
      (should (equal results '(("localhost" "localhost") ("localhost" "localhost")
                               ("localhost" "localhost")))))))

(dualstack-compat dualstack-compat-28-parallel-probes
  "bruvtab: many :nowait probes at once, their status polled."
  (port peers)
  (let* ((start (float-time))
         (processes (cl-loop repeat 20
                             collect (make-network-process
                                      :name "probe" :host "localhost" :service port
                                      :nowait t :noquery t :sentinel #'ignore)))
         (time (- (float-time) start)))
    (dualstack-test-wait
     (lambda () (cl-every (lambda (p) (eq (process-status p) 'open)) processes)))
    (prog1 (list (< time 5) (length processes))
      (mapc #'delete-process processes))))

(provide 'dualstack-mode-compat-test)

;;; dualstack-mode-compat-test.el ends here
