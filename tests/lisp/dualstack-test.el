;;; dualstack-test.el --- Tests of the public connect functions  -*- lexical-binding: t; -*-

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

;; Each compares what a caller sees with what Emacs's own function gives.

;;; Code:

(require 'dualstack-test-hosts)

(defun dualstack-test--view (process)
  "Return all that a caller can see of PROCESS, without its own port."
  (list :name (process-name process)
        :status (process-status process)
        :type (process-type process)
        :contact (process-contact process)
        :arguments (let ((contact (copy-sequence (process-contact process t))))
                     (plist-put contact :local nil))
        :buffer (process-buffer process)
        :mark (and (process-buffer process)
                   (marker-position (process-mark process)))
        :filter (process-filter process)
        :sentinel (process-sentinel process)
        :coding (process-coding-system process)
        :inherit (process-inherit-coding-system-flag process)
        :plist (process-plist process)
        :query (process-query-on-exit-flag process)))

(defun dualstack-test--same-view (port &rest args)
  "Check that ours and Emacs's own function make the same of ARGS at PORT.
That is on first contact, and then with the family remembered."
  (let* ((plain (append (list :name "peer" :host "localhost" :service port) args))
         (view (lambda (make)
                 (let ((process (apply make plain)))
                   (unwind-protect (dualstack-test--view process)
                     (set-process-sentinel process #'ignore)
                     (delete-process process)))))
         ;; Emacs is given localhost's addresses one by one, as it tries them.
         (expected (funcall view #'make-network-process)))
    (dualstack-forget)
    (should (equal (funcall view #'dualstack-make-network-process) expected))
    (should (dualstack-remembered-family (dualstack-address--port port)))
    (should (equal (funcall view #'dualstack-make-network-process) expected))))

(dualstack-deftest dualstack-looks-like-the-original ()
  "Whatever is asked for, the process is what Emacs itself makes."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((port (dualstack-test-port server)))
      (dualstack-test--same-view port)
      (dualstack-test--same-view port :nowait nil :coding nil :tls-parameters nil)
      (dualstack-test--same-view port :filter #'ignore :sentinel #'ignore)
      (dualstack-test--same-view port :filter t)
      (dualstack-test--same-view port :coding 'binary)
      (dualstack-test--same-view port :coding '(utf-8-dos . latin-1))
      (dualstack-test--same-view port :noquery t :plist '(a 1 b nil))
      (dualstack-test--same-view port :keepalive t :nodelay t)
      (dualstack-test--same-view port :stop t)
      (dualstack-test--same-view port :remote nil :local nil :family nil)
      (dualstack-test--same-view (number-to-string port))
      (with-temp-buffer
        (insert "before")
        (dualstack-test--same-view port :buffer (current-buffer))
        (let ((inherit-process-coding-system t))
          (dualstack-test--same-view port :buffer (current-buffer))
          (dualstack-test--same-view port :buffer (current-buffer) :coding 'utf-8))
        (set-buffer-multibyte nil)
        (dualstack-test--same-view port :buffer (buffer-name))))))

(dualstack-deftest dualstack-coding-is-that-of-the-callers-bindings ()
  "Let-bound coding systems and `network-coding-system-alist' are obeyed."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((port (dualstack-test-port server)))
      (let ((coding-system-for-read 'binary)
            (coding-system-for-write 'latin-1))
        (dualstack-test--same-view port))
      (let ((coding-system-for-read 'utf-8-unix))
        (dualstack-test--same-view port))
      (let ((network-coding-system-alist `((,port . (koi8-r . cp1251)))))
        (dualstack-test--same-view port))
      (let ((default-process-coding-system nil))
        (dualstack-test--same-view port))
      (with-temp-buffer
        (set-buffer-multibyte nil)
        (dualstack-test--same-view port)))))

(dualstack-deftest dualstack-coding-of-a-later-attempt ()
  "An attempt that a timer begins has the coding that was bound at the call."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (dualstack-test-with-servers ((six 'ipv6 :service port))
      (let* ((process (let ((coding-system-for-read 'binary)
                            (coding-system-for-write 'latin-1))
                        (dualstack-make-network-process
                         :name "peer" :host "localhost" :service port))))
        (should (equal (process-coding-system process) '(binary . latin-1)))
        (delete-process process)))))

(dualstack-deftest dualstack-each-family ()
  "A server on either family is reached, and the other is not bothered."
  (dolist (family '(ipv4 ipv6))
    (dualstack-test-with-servers ((server family))
      (let ((process (dualstack-open-network-stream
                      "peer" nil "localhost" (dualstack-test-port server))))
        (should (eq (process-status process) 'open))
        (should (eq family (dualstack-address--family (process-contact process :remote))))
        (should (= 1 (length (dualstack-test-accepted server))))
        (delete-process process)))))

(dualstack-deftest dualstack-policies ()
  "With a single family the other is never tried."
  (dualstack-test-with-servers ((server 'ipv6))
    (let ((port (dualstack-test-port server)))
      (let* ((dualstack-policy 'ipv4)
             (err (should-error (dualstack-open-network-stream "peer" nil "localhost" port)
                                :type 'file-error)))
        (should (dualstack-test-refused-p (plist-get (nthcdr 3 err) :attempts) port "127.0.0.1")))
      (let ((dualstack-policy 'ipv6))
        (delete-process (dualstack-open-network-stream "peer" nil "localhost" port)))
      (let ((dualstack-preferred-family 'ipv6)
            ;; On a busy machine the first may need longer than 10 ms.
            (dualstack-loopback-attempt-delay 5))
        (dualstack-forget)
        (delete-process (dualstack-open-network-stream "peer" nil "localhost" port))
        (should (= 1 (length (dualstack-last-attempts))))))))

(dualstack-deftest dualstack-one-connection-to-a-dual-server ()
  "A server on both families gets one connection in all, first and later."
  (let* ((servers (dualstack-make-server :name "dual" :service t :noquery t
                                         :filter #'ignore :sentinel #'ignore))
         (port (dualstack-test-port (car servers)))
         ;; On a busy machine the first may need longer than 10 ms.
         (dualstack-loopback-attempt-delay 5))
    (unwind-protect
        (dotimes (i 3)
          (let ((process (dualstack-open-network-stream "peer" nil "localhost" port)))
            (should (= 1 (length (cl-mapcan #'dualstack-test-accepted servers))))
            (should (= 1 (length (dualstack-last-attempts))))
            (delete-process process)
            (dualstack-test-wait
             (lambda () (= 0 (length (cl-mapcan #'dualstack-test-accepted servers)))))
            (should (or (> i 0) (dualstack-remembered-family port)))))
      (mapc #'dualstack-test-close servers))))

(dualstack-deftest dualstack-remembered-family-first ()
  "The second connection dials the family that answered, and forgets it on failure."
  (let ((port nil))
    (dualstack-test-with-servers ((six 'ipv6))
      (setq port (dualstack-test-port six))
      (delete-process (dualstack-open-network-stream "peer" nil "localhost" port))
      (should (equal '(ipv4 ipv6) (mapcar (lambda (attempt) (plist-get attempt :family))
                                          (dualstack-last-attempts))))
      (delete-process (dualstack-open-network-stream "peer" nil "localhost" port))
      (should (equal '(ipv6) (mapcar (lambda (attempt) (plist-get attempt :family))
                                     (dualstack-last-attempts)))))
    ;; The server moves to the other family.
    (dualstack-test-with-servers ((four 'ipv4 :service port))
      (dualstack-open-network-stream "peer" nil "localhost" port)
      (should (equal '(ipv6 ipv4) (mapcar (lambda (attempt) (plist-get attempt :family))
                                          (dualstack-last-attempts))))
      (should (= 1 (length (dualstack-test-accepted four))))
      (delete-process "peer")
      (should (eq 'ipv4 (dualstack-remembered-family port))))
    ;; And goes away: the error has both.
    (let ((err (should-error (dualstack-open-network-stream "peer" nil "localhost" port))))
      (should (dualstack-test-refused-p (plist-get (nthcdr 3 err) :attempts) port
                                        "127.0.0.1" "[::1]")))
    (should-not (dualstack-remembered-family port))))

(dualstack-deftest dualstack-error-shape ()
  "The error is Emacs's own, and at its end says what was tried."
  (let* ((port (dualstack-test-free-port))
         (own (should-error (open-network-stream "peer" nil "localhost" port)))
         (ours (should-error (dualstack-open-network-stream "peer" nil "localhost" port))))
    ;; Which of its keywords `open-network-stream' passes on, and in which
    ;; order, depends on Emacs's version.
    (should (equal (seq-take ours 3) (seq-take own 3)))
    (dolist (key '(:name :buffer :host :service :nowait))
      (should (plist-member (nthcdr 3 ours) key))
      (should (equal (plist-get (nthcdr 3 ours) key)
                     (plist-get (nthcdr 3 own) key))))
    (should (equal (butlast (should-error (dualstack-make-network-process
                                           :name "peer" :host "localhost"
                                           :service port :coding 'binary))
                            2)
                   (should-error (make-network-process
                                  :name "peer" :host "localhost"
                                  :service port :coding 'binary))))
    (should (eq :attempts (car (last ours 2))))
    (should (dualstack-test-refused-p (car (last ours)) port "127.0.0.1" "[::1]"))
    (should (string-match-p (format "Connection refused.*\\[::1\\]:%d" port)
                            (error-message-string ours)))
    (should (with-current-buffer "*dualstack-log*"
              (save-excursion
                (goto-char (point-max))
                (search-backward (format "peer: localhost:%d: %s" port (car (last ours)))
                                 nil t))))))

(dualstack-deftest dualstack-timeout-error ()
  "Addresses that do not answer are given up, each named."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (let* ((dualstack-connect-timeout 0.2)
           (dualstack-policy 'ipv4)
           (err (should-error (dualstack-open-network-stream "peer" nil "localhost" port)
                              :type 'file-error)))
      (should (equal (nth 2 err) "Connection timed out"))
      (should (equal (plist-get (nthcdr 3 err) :attempts)
                     (format "127.0.0.1:%d timeout" port))))))

(dualstack-deftest dualstack-unusable-options ()
  "An option of a wrong value is named before anything is connected."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((port (dualstack-test-port server))
          (processes (process-list)))
      (dolist (option '(dualstack-connect-timeout dualstack-loopback-attempt-delay
                        dualstack-attempt-delay dualstack-loopback-patience
                        dualstack-memory-lifetime dualstack-policy
                        dualstack-preferred-family))
        (dolist (value '("10" -1 symbol (1)))
          (cl-progv (list option) (list value)
            (dolist (open (list (lambda () (dualstack-open-network-stream
                                            "peer" nil "localhost" port))
                                (lambda () (dualstack-open-async "localhost" port))))
              (should (string-match-p (symbol-name option)
                                      (cadr (should-error (funcall open)))))))))
      (dolist (args '((:timeout "1") (:timeout -1) (:then 5) (:else "x")))
        (should (string-match-p (symbol-name (car args))
                                (cadr (should-error (apply #'dualstack-open-async
                                                           "localhost" port args))))))
      (should (equal processes (process-list)))
      (let ((dualstack-connect-timeout 0))
        (should (equal "Connection timed out"
                       (nth 2 (should-error (dualstack-open-network-stream
                                             "peer" nil "localhost" port)
                                            :type 'file-error))))))))

(dualstack-deftest dualstack-log-harms-nobody ()
  "What goes wrong in the log, as by a hook of the user's, fails no connection."
  (let ((dualstack-log-size "many")
        (debug-on-error nil)            ; ERT's.
        (inhibit-message t))
    (dualstack-log "one")
    (when (get-buffer "*dualstack-log*")
      (kill-buffer "*dualstack-log*"))
    (let ((special-mode-hook (list (lambda () (error "A mistake")))))
      (dualstack-log "two"))
    (dualstack-log "three")
    (with-current-buffer "*dualstack-log*"
      (narrow-to-region (point-min) (point-min))
      (dualstack-log "four")
      (widen)
      (should (string-match-p " three\n.* four\n\\'" (buffer-string))))))

(dualstack-deftest dualstack-bad-input ()
  "Wrong arguments are errors that say what is wrong."
  (pcase-dolist (`(,host ,service ,message)
                 '(("" 80 "No host \"\"")
                   (" " 80 "No host \" \"")
                   (nil 80 "No host nil")
                   (localhost 80 "No host localhost")
                   ("localhost" 65536 "out of range")
                   ("localhost" "" "No service \"\"")
                   ("localhost" nil "No service nil")))
    (should (string-match-p
             message (cadr (should-error (dualstack-open-network-stream
                                          "peer" nil host service)))))
    (should (string-match-p
             message (cadr (should-error (dualstack-open-async host service))))))
  (let ((dualstack-policy 'any))
    (should (string-match-p
             "dualstack-policy" (cadr (should-error (dualstack-open-network-stream
                                                     "peer" nil "localhost" 80)))))))

(dualstack-deftest dualstack-errors-as-they-came ()
  "What is wrong with the arguments is told as `make-network-process' tells it."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((port (dualstack-test-port server)))
      (dolist (args (list (list :host "localhost" :service port)
                          (list :name 'symbol :host "localhost" :service port)
                          (list :name 5 :host "localhost" :service port)
                          (list :name "x" :host "localhost" :service port :coding 'no-such)
                          (list :name "x" :host "localhost" :service port :buffer 5)
                          (list :name "x" :host "localhost" :service port
                                :bindtodevice "no-such")
                          (list :name "x" :host "localhost" :service port
                                :filter-multibyte t :linger 'nonsense)))
        (let ((own (condition-case err
                       (progn (delete-process (apply #'make-network-process args)) nil)
                     (error err)))
              (ours (condition-case err
                        (progn (delete-process
                                (apply #'dualstack-make-network-process args))
                               nil)
                      (error err))))
          (should (equal own ours)))))))

(dualstack-deftest dualstack-port-zero ()
  "Port 0 is a connection that fails, not a mistake of the caller."
  (dolist (open (list (lambda () (dualstack-open-network-stream "peer" nil "localhost" 0))
                      (lambda () (dualstack-open-async "localhost" 0))))
    (should-error (funcall open) :type 'file-error)))

(dualstack-deftest dualstack-hosts-as-in-urls ()
  "Brackets are taken off an IPv6 literal; a port in the host is pointed out."
  (dualstack-test-with-servers ((six 'ipv6))
    (let* ((port (dualstack-test-port six))
           (process (dualstack-open-network-stream "peer" nil "[::1]" port)))
      (should (equal (process-contact process) (list "::1" port)))
      (delete-process process)
      (setq process nil)
      (dualstack-open-async "[::1]" port :then (lambda (opened) (setq process opened)))
      (dualstack-test-wait (lambda () process))
      (delete-process process)))
  (pcase-dolist (`(,host . ,hint) '(("localhost:6008" . "give \"localhost\" as host and 6008")
                                    ("127.0.0.1:80" . "give \"127.0.0.1\" as host and 80")
                                    ("[::1]:80" . "give \"::1\" as host and 80")))
    (dolist (open (list (lambda () (dualstack-open-network-stream "peer" nil host 80))
                        (lambda () (dualstack-open-async host 80))
                        (lambda () (dualstack-wait-for-port host 80))))
      (should (string-match-p (regexp-quote hint) (cadr (should-error (funcall open))))))))

(dualstack-deftest dualstack-others-pass-through ()
  "What is no client of a host name is for `make-network-process' alone."
  (let ((server (dualstack-make-network-process
                 :name "server" :server t :host "localhost" :family 'ipv4
                 :service t :filter #'ignore :noquery t)))
    (unwind-protect
        (let* ((port (dualstack-test-port server))
               (process (dualstack-make-network-process
                         :name "peer" :family 'ipv4 :host "localhost" :service port)))
          (should (eq (process-status server) 'listen))
          (should (eq (process-status process) 'open))
          (delete-process process)
          (setq process (dualstack-make-network-process
                         :name "peer" :remote (vector 127 0 0 1 port)))
          (should (eq (process-status process) 'open))
          (delete-process process))
      (dualstack-test-close server))))

(dualstack-deftest dualstack-literal-and-other-hosts ()
  "Literal addresses and other names are connected to as well."
  (dualstack-test-with-servers ((four 'ipv4) (six 'ipv6))
    (pcase-dolist (`(,host ,server) `(("127.0.0.1" ,four) ("::1" ,six)))
      (dotimes (_ 2)
        (let ((process (dualstack-open-network-stream
                        "peer" nil host (dualstack-test-port server))))
          (should (eq (process-status process) 'open))
          (should (equal (car (process-contact process)) host))
          (delete-process process))))))

(dualstack-deftest dualstack-any-host-races ()
  "For another host's name too the address that answers wins."
  (dualstack-test-with-servers ((six 'ipv6))
    (let ((value (dualstack-test-emacs
                  (dualstack-test-resolver "127.0.0.1 both.test\n::1 both.test\n")
                  `(let ((process (dualstack-open-network-stream
                                   "peer" nil "both.test" ,(dualstack-test-port six))))
                     (list (process-status process)
                           (process-contact process)
                           (process-contact process :remote)
                           (dualstack-remembered-family
                            (dualstack-memory--peer "Both.Test" ,(dualstack-test-port six))))))))
      (should (equal value (list 'open (list "both.test" (dualstack-test-port six))
                                 (vector 0 0 0 0 0 0 0 1 (dualstack-test-port six))
                                 'ipv6))))))

(dualstack-deftest dualstack-without-ipv6 ()
  "On a host without IPv6 the IPv4 server is reached, and errors say so."
  (pcase-let ((`(,status ,message)
               (dualstack-test-emacs
                (dualstack-test-host "ipv6/conf/all/disable_ipv6 1")
                '(let* ((dualstack-preferred-family 'ipv6)
                        (server (make-network-process
                                 :name "server" :server t :host "127.0.0.1"
                                 :service t :family 'ipv4))
                        (port (process-contact server :service))
                        (process (dualstack-open-network-stream
                                  "peer" nil "localhost" port)))
                   (delete-process server)
                   (dualstack-forget)
                   (list (process-status process)
                         (condition-case err
                             (dualstack-open-network-stream "peer" nil "localhost" port)
                           (file-error (error-message-string err))))))))
    (should (eq status 'open))
    (should (string-match-p "client process failed: Connection refused.*\\[::1\\]:[0-9]+ \
\\(Cannot assign requested address\\|Network is unreachable\\)" message))))

(dualstack-deftest dualstack-greeting-arrives-whole ()
  "What the server says at once reaches the caller's filter, rightly decoded.
That holds on first contact, from either family, and when remembered."
  (dolist (family '(ipv4 ipv6))
    (dualstack-test-with-servers
        ((server family :coding 'binary
                 :log (lambda (_server client _message)
                        (process-send-string
                         client (encode-coding-string "héllo wörld 漢字\n" 'utf-8)))))
      (dotimes (_ 2)
        (with-temp-buffer
          (let ((process (dualstack-open-network-stream
                          "peer" (current-buffer) "localhost"
                          (dualstack-test-port server) :coding 'utf-8-unix)))
            (should (equal (buffer-string) ""))
            (dualstack-test-wait
             (lambda () (string-match-p "\n" (buffer-string))))
            (should (equal (buffer-string) "héllo wörld 漢字\n"))
            (set-process-sentinel process #'ignore)
            (delete-process process)))))))

(dualstack-deftest dualstack-send-at-once ()
  "The process is open when it is returned: data can be sent at once."
  (let ((got nil))
    (dualstack-test-with-servers
        ((server 'ipv6 :filter (lambda (_process string) (setq got (concat got string)))))
      (let ((process (dualstack-open-network-stream
                      "peer" nil "localhost" (dualstack-test-port server))))
        (process-send-string process "secret\n")
        (dualstack-test-wait (lambda () (equal got "secret\n")))
        (delete-process process)))))

(dualstack-deftest dualstack-no-stray-sentinel-call ()
  "The sentinel is called for what happens afterwards, and not with \"open\"."
  (let ((events nil))
    (dualstack-test-with-servers ((server 'ipv6))
      (let ((process (dualstack-make-network-process
                      :name "peer" :host "localhost"
                      :service (dualstack-test-port server)
                      :sentinel (lambda (_process event) (push event events)))))
        (accept-process-output nil 0.05)
        (should-not events)
        (delete-process process)
        (should (equal events '("deleted\n")))))))

(dualstack-deftest dualstack-nowait-clients ()
  "A `:nowait' client gets its process before it is connected, and one \"open\"."
  (dualstack-test-with-servers ((server 'ipv4))
    (dolist (dualstack-policy '(both ipv4))
      (let* ((events nil)
             (process (dualstack-make-network-process
                       :name "peer" :host "localhost" :nowait t
                       :service (dualstack-test-port server)
                       :sentinel (lambda (_process event) (push event events)))))
        (should (eq (process-status process) 'connect))
        (dualstack-test-wait (lambda () events))
        (should (equal events '("open\n")))
        (should (equal (process-contact process)
                       (list "localhost" (dualstack-test-port server))))
        (delete-process process)))))

(dualstack-deftest dualstack-a-thousand-connects ()
  "A thousand connections leave no process, timer or buffer."
  (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc"
                                    "hello" "--family" "ipv6")
    (let ((port (dualstack-test-child-port hello)))
      (dotimes (i 1000)
        (when (= 0 (% i 2)) (dualstack-forget))
        (delete-process (dualstack-open-network-stream "peer" nil "localhost" port))))))

(defun dualstack-test-greeted (server answer &optional stop)
  "Check that a client gets ANSWER of SERVER, a child, and its end for STOP."
  (with-temp-buffer
    (let ((process (dualstack-open-network-stream
                    "hello" (current-buffer) "localhost" (dualstack-test-child-port server))))
      (set-process-sentinel process #'ignore)
      (process-send-string process "1")
      (dualstack-test-wait (lambda () (equal (buffer-string) answer)))
      (when stop
        (process-send-string process stop)
        (dualstack-test-wait (lambda () (not (process-live-p process)))))
      (delete-process process))))

(dualstack-deftest dualstack-hello ()
  "The client of the report: it sends something and is greeted, from each family."
  (dolist (family '("ipv4" "ipv6" "dual"))
    (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc"
                                      "hello" "--family" family)
      (dualstack-test-greeted hello "hello" "stop"))))

(dualstack-deftest dualstack-node-server ()
  "A server of another make: Node's listens on both families by a wildcard socket."
  (unless (eq 0 (car (ignore-errors
                       (dualstack-test-run (dualstack-test-there "node" "--version")))))
    (ert-skip "needs node (Debian: nodejs)"))
  (dualstack-test-call-with-child
   (dualstack-test-there "node" "-e" "const s = require('net').createServer(c =>
c.on('data', d => c.write('hello\\n'))); s.listen(0, '::1', () => console.log(s.address().port))")
   (lambda (node) (dualstack-test-greeted node "hello\n"))))

(dualstack-deftest dualstack-stalled-first-family ()
  "In the stall, ours takes a small part of what the literal walk takes."
  (dualstack-test-with-stall (port "--family" "ipv6")
    (dualstack-test-with-servers ((four 'ipv4 :service port))
      (let ((ours (lambda ()
                    (dualstack-forget)
                    (let ((process nil))
                      (prog1 (dualstack-test-seconds
                              (lambda ()
                                (setq process (dualstack-open-network-stream
                                               "peer" nil "localhost" port))))
                        (should (dualstack-test-accepted four))
                        (delete-process process)))))
            (plain (dualstack-test-seconds
                    (lambda () (ignore-errors (open-network-stream "peer" nil "::1" port))))))
        (should (> plain 0.5))
        (dualstack-test-within (/ plain 20) ours)))))

;;;; The report that began it

(defconst dualstack-test-report-server "
import select, socket
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.bind(('localhost', 0))
listener.listen(1)
print(listener.getsockname()[1], flush=True)
while True:
    ready, _, _ = select.select([listener], [], [], 1.0)
    if ready:
        client, _ = listener.accept()
        while True:
            data = client.recv(1024)
            if data == b'stop':
                client.close()
                break
            client.sendall(b'hello')
"
  "A server like the report's: IPv4 only, one client after the other.")

(defun dualstack-test-report-client (open port)
  "Talk to PORT like the report's client, connected by OPEN; return the answer."
  (let ((process (funcall open "hello" (get-buffer-create "*hel*") "localhost" port)))
    (set-process-sentinel process #'ignore)
    (unwind-protect
        (progn
          (process-send-string process "1")
          (dualstack-test-wait (lambda () (with-current-buffer "*hel*" (= 5 (buffer-size)))))
          (process-send-string process "stop")
          (dualstack-test-wait (lambda () (not (process-live-p process))))
          (with-current-buffer "*hel*" (buffer-string)))
      (delete-process process)
      (kill-buffer "*hel*"))))

(dualstack-deftest dualstack-report-listings ()
  "The report's server serves our client, and our server the report's client."
  (dualstack-test-with-child (child dualstack-test-python "-c" dualstack-test-report-server)
    ;; It would hang with the first of two connections.
    (dotimes (_ 3)
      (dualstack-forget)
      (should (equal "hello" (dualstack-test-report-client
                              #'dualstack-open-network-stream
                              (dualstack-test-child-port child))))))
  (dualstack-test-with-child (child dualstack-test-python "-m" "dualstack_epc" "hello")
    (should (equal "hello" (dualstack-test-report-client
                            #'open-network-stream (dualstack-test-child-port child))))))

(provide 'dualstack-test)

;;; dualstack-test.el ends here
