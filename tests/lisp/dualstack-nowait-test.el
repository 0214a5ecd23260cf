;;; dualstack-nowait-test.el --- Tests of clients that connect in the background  -*- lexical-binding: t; -*-

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

;; The mode off and on, whatever is remembered: the same events, but for a
;; family that is silent.  Then packages as they are.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-mode)

(defconst dualstack-nowait-test--hosts
  "127.0.0.1 localhost\n::1 localhost\n"
  "A hosts file with both addresses of localhost.")

(defconst dualstack-nowait-test--outcome
  '(defun outcome (port &rest args)
     "Connect to PORT and return the status, events, answer and address."
     (let* ((events nil)
            (answer "")
            (process (apply #'make-network-process
                            :name "peer" :host "localhost" :service port :nowait t
                            :noquery t
                            :filter (lambda (_ text) (setq answer (concat answer text)))
                            :sentinel (lambda (_ event) (push event events))
                            args))
            (status (process-status process))
            (limit (+ (float-time) 20)))
       (while (and (not events) (< (float-time) limit))
         (accept-process-output nil 0.01))
       (when (equal events '("open\n"))
         (process-send-string process "1")
         (while (and (equal answer "") (< (float-time) limit))
           (accept-process-output nil 0.01)))
       (prog1 (list status events answer
                    (and (eq (process-status process) 'open)
                         (length (process-contact process :remote)))
                    (process-contact process) (process-name process))
         (set-process-sentinel process #'ignore)
         (delete-process process))))
  "What the child Emacs runs.")

(defun dualstack-nowait-test--compare (port)
  "Return what clients of PORT see, mode off and on, with each memory."
  (dualstack-test-emacs
   (dualstack-test-hosts-file dualstack-nowait-test--hosts)
   '(require 'dualstack-mode)
   dualstack-nowait-test--outcome
   `(let ((plain (outcome ,port))
          (message-log-max nil))
      (dualstack-mode 1)
      (list plain
            (mapcar (lambda (family)
                      (dualstack-forget)
                      (when family (dualstack-memory--remember ,port family))
                      (list (outcome ,port) (outcome ,port)))
                    '(nil ipv4 ipv6))))))

(dualstack-deftest dualstack-nowait-as-plain ()
  "On GNU/Linux a client sees what it sees without the mode, whatever is remembered."
  (skip-unless (eq system-type 'gnu/linux))
  (dolist (family '("ipv4" "ipv6" "dual"))
    (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc" "hello"
                                      "--family" family)
      (pcase-let ((`(,plain ,ours)
                   (dualstack-nowait-test--compare (dualstack-test-child-port hello))))
        (ert-info ((format "%s: %S" family plain))
          (should (equal (seq-take plain 3) '(connect ("open\n") "hello")))
          (dolist (both ours)
            (should (equal both (list plain plain))))))))
  (pcase-let ((`(,plain ,ours) (dualstack-nowait-test--compare (dualstack-test-free-port))))
    (should (equal (nth 1 plain) '("failed with code 111\n")))
    (dolist (both ours)
      (should (equal both (list plain plain))))))

(dualstack-deftest dualstack-nowait-silent-family ()
  "A family that was found silent is passed over in favour of the other's."
  (let ((host (dualstack-test-hosts-file dualstack-nowait-test--hosts)))
    (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc" "hello"
                                      "--family" "ipv4")
      (let ((port (dualstack-test-child-port hello)))
        (dualstack-test-with-stall (stalled "--family" "ipv6" "--black-hole"
                                            "--port" (number-to-string port))
          (should (= stalled port))
          (should
           (equal
            (seq-take
             (dualstack-test-emacs
              host
              '(require 'dualstack-mode)
              dualstack-nowait-test--outcome
              `(let ((first nil))
                 (dualstack-mode 1)
                 (setq first (make-network-process :name "first" :host "localhost"
                                                   :service ,port :nowait t :noquery t))
                 (with-timeout (10)
                   (while (not (dualstack-memory--recall ,port 'silent))
                     (accept-process-output nil 0.05)))
                 (delete-process first)
                 (outcome ,port)))
             4)
            '(connect ("open\n") "hello" 5))))))))

(defconst dualstack-nowait-test--banner "
import socket
server = socket.create_server(('127.0.0.1', 0))
print(server.getsockname()[1], flush=True)
clients = []
while True:
    clients.append(server.accept()[0])
    clients[-1].sendall(b'banner\\n')
" "A server in Python that greets its clients.")

;; The server is another process: where Emacs on Windows has a connection of its own
;; end in the moment of a connect, such as one of this server's, it never tells of the
;; connect, and a client that sends waits for ever.
(dualstack-deftest dualstack-nowait-shapes ()
  "Clients that set the sentinel later, are stopped, look or send at once.
One that deletes at once a process whose host is still looked up can hang in plain
Emacs, 28.2 and 30.1: `delete-process' waits for the resolver."
  (let ((inhibit-message t)
        (dualstack-mode-peers--all nil))
    (dualstack-test-with-child
        (server dualstack-test-python "-c" dualstack-nowait-test--banner)
      (let* ((port (dualstack-test-child-port server))
             (shapes
              (lambda ()
                (let* ((events nil) (text "")
                       (open (lambda (name &rest args)
                               (apply #'make-network-process
                                      :name name :host "localhost" :service port
                                      :nowait t :noquery t args)))
                       (later (funcall open "later"))
                       (stopped (funcall open "stopped" :stop t))
                       (sent (funcall open "sent" :sentinel #'ignore))
                       (statuses (mapcar #'process-status (list later stopped sent))))
                  (set-process-sentinel later (lambda (_process event) (push event events)))
                  (set-process-filter later (lambda (_process string)
                                              (push 'text events)
                                              (setq text (concat text string))))
                  (set-process-sentinel stopped #'ignore)
                  (process-send-string sent "now")
                  (prog1
                      (list statuses
                            (progn (dualstack-test-wait (lambda () (cdr events)))
                                   (nreverse events))
                            text
                            (eq later (get-process "later")))
                    (dolist (process (list later stopped sent))
                      (set-process-sentinel process #'ignore)
                      (delete-process process))))))
             (plain (funcall shapes)))
        (should (equal (nth 1 plain) '("open\n" text)))
        (dualstack-mode 1)
        (unwind-protect
            (dotimes (_ 2)
              (should (equal (funcall shapes) plain)))
          (dualstack-mode 0))))))

;;;; Windows, by its name

(defmacro dualstack-nowait-test--windows (&rest body)
  "Run BODY as if this were a Windows Emacs that has the mode."
  (declare (indent 0))
  `(let ((system-type 'windows-nt)
         (inhibit-message t)
         (dualstack-mode-peers--all nil))
     (dualstack-mode 1)
     (unwind-protect
         (progn ,@body)
       (dualstack-mode 0)
       (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer))))))

(dualstack-deftest dualstack-nowait-windows-literal ()
  "On Windows the client is given 127.0.0.1 at once, moved or not, and one \"open\"."
  (dualstack-nowait-test--windows
    (dualstack-test-with-servers ((server 'ipv4))
      (let ((port (dualstack-test-port server)))
        (dolist (memory '(nil ipv4 ipv6))
          (dualstack-forget)
          (when memory (dualstack-memory--remember port memory))
          (let* ((events nil)
                 (process (make-network-process
                           :name "peer" :host "localhost" :service port :nowait t :noquery t
                           :sentinel (lambda (_process event) (push event events)))))
            (should (eq 'connect (process-status process)))
            (dualstack-test-wait (lambda () events))
            (should (equal events '("open\n")))
            (should (= 5 (length (process-contact process :remote))))
            (should (equal (process-contact process) (list "localhost" port)))
            (set-process-sentinel process #'ignore)
            (delete-process process)
            (delete-process (make-network-process
                             :name "deleted" :host "localhost" :service port :nowait t
                             :sentinel #'ignore))
            (should-not (get-process "deleted"))))))))

(dualstack-deftest dualstack-nowait-windows-ipv6-remembered ()
  "Where ::1 is known to answer, its connection is returned open, without an event."
  (dualstack-nowait-test--windows
    (dualstack-test-with-servers ((server 'ipv6))
      (let* ((port (dualstack-test-port server))
             (events nil)
             (open (lambda ()
                     (make-network-process
                      :name "peer" :host "localhost" :service port :nowait t :noquery t
                      :sentinel (lambda (_process event) (push event events)))))
             (process nil))
        (dualstack-memory--remember port 'ipv6)
        (setq process (funcall open))
        (should (eq 'open (process-status process)))
        (should (= 9 (length (process-contact process :remote))))
        (accept-process-output nil 0.05)
        (should-not events)
        (set-process-sentinel process #'ignore)
        (delete-process process)
        ;; Without a memory it fails as it does in plain Emacs, and is then tried.
        (dualstack-forget)
        (setq process (funcall open))
        (dualstack-test-wait (lambda () events))
        (should (string-prefix-p "failed" (car events)))
        (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer)))
        (delete-process process)
        (setq process (funcall open))
        (should (eq 'open (process-status process)))
        (set-process-sentinel process #'ignore)
        (delete-process process)))))

(dualstack-deftest dualstack-nowait-windows-busy ()
  "Where Windows lately took long to report connections, ::1 is waited for as long."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((port (dualstack-test-port server)))
      (dualstack-test-with-stall (stalled "--family" "ipv6" "--black-hole"
                                          "--port" (number-to-string port))
        (should (= port stalled))
        (dualstack-nowait-test--windows
          (let ((dualstack-attempt--usual 0.03)
                (start (float-time)))
            (dualstack-memory--remember port 'ipv6)
            (let ((process (make-network-process
                            :name "peer" :host "localhost" :service port :nowait t :noquery t
                            :sentinel #'ignore)))
              (should (>= (- (float-time) start) 0.04))
              (should (= 5 (length (process-contact process :remote))))
              (delete-process process))))))))

;; A refusal takes a second there; the client hears of it, and its process is gone
;; before anybody else can look.
(dualstack-deftest dualstack-nowait-windows-deleted-on-failure ()
  "What ends when its client hears of the failure teaches that ::1 is to be tried."
  (dualstack-test-with-servers ((server 'ipv6))
    (let ((port (dualstack-test-port server))
          (events nil))
      (dualstack-test-with-stall (stalled "--family" "ipv4" "--port" (number-to-string port))
        (should (= port stalled))
        (dualstack-nowait-test--windows
          (make-network-process
           :name "peer" :host "localhost" :service port :nowait t :noquery t
           :sentinel (lambda (process event)
                       (push event events)
                       (set-process-sentinel process #'ignore)
                       (delete-process process)))
          (dualstack-test-wait (lambda () events))
          (should (string-prefix-p "failed" (car events)))
          (should (eq 'ipv4 (dualstack-memory--recall port 'absent)))
          (let ((process (make-network-process
                          :name "peer" :host "localhost" :service port :nowait t :noquery t
                          :sentinel #'ignore)))
            (should (eq 'open (process-status process)))
            (delete-process process))
          (should (eq 'ipv6 (dualstack-remembered-family port))))))))

(dualstack-deftest dualstack-nowait-windows-nobody-remembered ()
  "Whose server has gone, though ::1 is known to answer, hears of the failure."
  (let ((port (dualstack-test-free-port))
        (events nil))
    (dualstack-nowait-test--windows
      (dotimes (_ 3)
        (setq events nil)
        (dualstack-memory--remember port 'ipv6)
        (let ((process (make-network-process
                        :name "peer" :host "localhost" :service port :nowait t :noquery t
                        :sentinel (lambda (_process event) (push event events)))))
          (dualstack-test-wait (lambda () events) 10)
          (should (string-prefix-p "failed" (car events)))
          (delete-process process))))))

(provide 'dualstack-nowait-test)

;;; dualstack-nowait-test.el ends here
