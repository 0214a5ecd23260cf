;;; dualstack-memory-test.el --- Tests of what is remembered of a peer  -*- lexical-binding: t; -*-

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

;; Families that accept and close, servers that move, stop and start.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-server)
(require 'dualstack-mode)

(defconst dualstack-memory-test--resetter "
import socket, struct, sys
family, how, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
kind = socket.AF_INET if family == 'ipv4' else socket.AF_INET6
listener = socket.socket(kind)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('127.0.0.1' if family == 'ipv4' else '::1', port))
listener.listen(50)
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    if how == 'reset':
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    client.close()
"
  "A program that accepts on a family, and then closes or resets.")

(defun dualstack-memory-test--exchange (open port)
  "Connect to PORT by OPEN, send a byte and return the answer, or nil."
  (let* ((answer nil)
         (process (funcall open port)))
    (set-process-filter process (lambda (_process text) (setq answer text)))
    (set-process-sentinel process #'ignore)
    (ignore-errors (process-send-string process "1"))
    (with-timeout (5)
      (while (and (not answer) (process-live-p process))
        (accept-process-output process 0.05)))
    (when (process-live-p process)
      (delete-process process))
    answer))

(dualstack-deftest dualstack-memory-accepts-and-closes ()
  "A family that accepts and closes fails once; then the other is connected to."
  (dolist (family '("ipv4" "ipv6"))
    (dolist (how '("close" "reset"))
      (let ((dualstack-preferred-family (intern family))
            (other (if (equal family "ipv4") "ipv6" "ipv4")))
        (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc" "hello"
                                          "--family" other)
          (let ((port (dualstack-test-child-port hello)))
            (dualstack-test-with-child (bad dualstack-test-python "-c"
                                            dualstack-memory-test--resetter family how
                                            (number-to-string port))
              (let ((answers
                     (cl-loop repeat 6
                              collect (dualstack-memory-test--exchange
                                       (lambda (port)
                                         (dualstack-make-network-process
                                          :name "peer" :host "localhost" :service port))
                                       port))))
                (ert-info ((format "%s %s: %S" family how answers))
                  (should (equal (cdr answers) (make-list 5 "hello"))))))))))))

(dualstack-deftest dualstack-memory-a-port-probe-teaches-nothing ()
  "A client that connects and deletes at once has not been turned away."
  (dualstack-test-with-servers ((four 'ipv4))
    (let ((port (dualstack-test-port four)))
      (dotimes (_ 3)
        (delete-process (dualstack-open-network-stream "probe" nil "localhost" port))
        (accept-process-output nil 0.01)
        (should-not (dualstack-memory--recall port 'ended))))))

;; A look at a port takes as long as a connect.
(dualstack-deftest dualstack-memory-looks-at-few-ports ()
  "Once a caller was seen to close first, its ports are not looked at for a while."
  (skip-unless (not (eq system-type 'windows-nt)))
  (dualstack-test-with-servers ((four 'ipv4))
    (let* ((port (dualstack-test-port four))
           (looks 0)
           (count (lambda (&rest _) (setq looks (1+ looks))))
           (connect (lambda ()
                      (delete-process (dualstack-open-network-stream
                                       "probe" nil "localhost" port))))
           (dualstack-memory--kept (list port 'ipv4 (+ (float-time) 1000))))
      (dualstack-memory--judge) ; Of other tests.
      (advice-add 'dualstack-memory--port-free-p :before count)
      (unwind-protect
          (progn
            (dotimes (_ 3) (funcall connect))
            (dualstack-memory--judge)
            (should (= looks 0))
            (setq dualstack-memory--kept (list port 'ipv4 0))
            (funcall connect)
            (dualstack-memory--judge)
            (should (= looks 1))
            (should (< 0 (nth 2 dualstack-memory--kept))))
        (advice-remove 'dualstack-memory--port-free-p count)))))

(dualstack-deftest dualstack-memory-short-answers-are-no-failure ()
  "A server that answers and closes keeps its place, where that can be seen."
  (dualstack-test-with-servers
      ((four 'ipv4 :log (lambda (_server client _message)
                          (process-send-string client "12:00\n")
                          (delete-process client))))
    (let ((port (dualstack-test-port four)))
      (with-temp-buffer
        (let ((process (dualstack-open-network-stream "daytime" (current-buffer)
                                                      "localhost" port)))
          (set-process-sentinel process #'ignore)
          (dualstack-test-wait (lambda () (not (process-live-p process))))
          (dualstack-test-wait (lambda () (not dualstack-memory--young)))
          (should-not (dualstack-memory--recall port 'ended)))))))

(dualstack-deftest dualstack-memory-a-wrong-one-costs-little ()
  "A family that is remembered and gone is an order of attempts, no more."
  (dualstack-test-with-servers ((four 'ipv4))
    (let ((port (dualstack-test-port four)))
      (dualstack-memory--remember port 'ipv6)
      (delete-process (dualstack-open-network-stream "peer" nil "localhost" port))
      (should (equal '(ipv6 ipv4) (mapcar (lambda (attempt) (plist-get attempt :family))
                                          (dualstack-last-attempts))))
      (should (eq 'ipv4 (dualstack-remembered-family port)))))
  (dualstack-test-with-stall (port "--family" "ipv6" "--black-hole")
    (dualstack-test-with-servers ((four 'ipv4 :service port))
      (dualstack-memory--remember port 'ipv6)
      (dualstack-test-within
       1 (lambda ()
           (dualstack-memory--remember port 'ipv6)
           (dualstack-test-seconds
            (lambda ()
              (delete-process (dualstack-open-network-stream "peer" nil "localhost" port)))))))))

;;;; Servers that are starting

(defun dualstack-memory-test-late ()
  "Return the seconds until a server is reached that begins late."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (let* ((since nil)
           (process nil)
           (dualstack-policy 'ipv4)
           (server nil))
      ;; Its port refuses between the two.
      (dualstack-wait-for-port "localhost" port
                               :then (lambda (opened) (setq process opened)))
      (with-timeout (0.25) (while t (accept-process-output nil 0.05)))
      (should-not process)
      ;; The silent one ends, and a server takes its place.
      (dolist (child (process-list))
        (when (equal (process-name child) "test child")
          (process-send-eof child)
          (dualstack-test-wait (lambda () (not (process-live-p child))))))
      (setq server (dualstack-test-server 'ipv4 :service port :reuseaddr t)
            since (float-time))
      (dualstack-test-wait (lambda () process))
      (prog1 (- (float-time) since)
        (delete-process process)
        (dualstack-test-close server)))))

(dualstack-deftest dualstack-memory-a-server-that-begins-late ()
  "A pending attempt is renewed: a server is reached soon after it listens.
Plain Emacs's SYN is repeated after a second."
  (skip-unless (eq system-type 'gnu/linux))
  (dualstack-test-within 0.5 #'dualstack-memory-test-late))

(dualstack-deftest dualstack-memory-wait-for-port ()
  "The function for package authors connects when a server begins, once."
  (let ((port (dualstack-test-free-port)))
    (dolist (family '(ipv4 ipv6))
      (let ((opened nil)
            (handle nil))
        (setq handle (dualstack-wait-for-port
                      "localhost" port :name "waiter" :noquery t :timeout 20
                      :then (lambda (process) (push process opened))
                      :else #'error))
        (with-timeout (0.3) (while t (accept-process-output nil 0.05)))
        (should-not opened)
        (dualstack-test-with-servers ((server family :service port))
          (dualstack-test-wait (lambda () opened))
          (should (= 1 (length (dualstack-test-accepted server))))
          (dualstack-cancel handle)
          (should (eq 'open (process-status (car opened))))
          (should (equal "waiter" (process-name (car opened))))
          (delete-process (car opened)))
        (should (= 1 (length opened)))))))

(dualstack-deftest dualstack-memory-wait-for-port-ends ()
  "Waiting for a port times out, can be cancelled, and refuses nonsense."
  (let ((port (dualstack-test-free-port))
        (err nil))
    (dualstack-wait-for-port "localhost" port :timeout 0.25 :then #'error
                             :else (lambda (e) (push e err)))
    (dualstack-test-wait (lambda () err))
    (should (equal (seq-take (car err) 3)
                   (list 'file-error "make client process failed" "Connection timed out")))
    (should (string-match-p (if (eq system-type 'windows-nt) "timeout.*timeout"
                              "127.0.0.1:[0-9]+ Connection refused; \\[::1\\]:[0-9]+ Connection refused")
                            (plist-get (nthcdr 3 (car err)) :attempts)))
    (dualstack-cancel (dualstack-wait-for-port "localhost" port :then #'error :else #'error))
    (should-error (dualstack-wait-for-port "" port))
    (should-error (dualstack-wait-for-port "localhost" 70000))
    (should-error (dualstack-wait-for-port "localhost" 0) :type 'file-error)
    (should-error (dualstack-wait-for-port "localhost" port :name 'symbol))))

(dualstack-deftest dualstack-memory-patience ()
  "Where a refusal is slow, silence is taken for one."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (let* ((dualstack-loopback-patience 0.2)
           (dualstack-policy 'ipv4)
           (start (float-time))
           (err (should-error (dualstack-open-network-stream "peer" nil "localhost" port)
                              :type 'file-error)))
      (should (< 0.2 (- (float-time) start) 20))
      (should (equal (nth 2 err) "Connection refused"))
      (should (equal (plist-get (nthcdr 3 err) :attempts)
                     (format "127.0.0.1:%d no answer within 0.2 s" port)))))
  (should (eq (null dualstack-loopback-patience) (not (eq system-type 'windows-nt)))))

(dualstack-deftest dualstack-memory-a-quit-leaves-no-server ()
  "A C-g while a port is looked for or tried leaves no server behind."
  (let ((processes (process-list))
        (address (vector 127 0 0 1 (dualstack-test-free-port)))
        (press (lambda (process)
                 (setq quit-flag t)
                 process)))
    (dolist (function (list (lambda () (dualstack-memory--port-free-p address))
                            (lambda () (dualstack-mode-peers--free-port))
                            (lambda () (dualstack-server--family-p 'ipv4))))
      (advice-add 'make-network-process :filter-return press)
      (unwind-protect
          (should (eq 'quit (condition-case nil
                                (progn (funcall function)
                                       (eval '(ignore nil) t))
                              (quit 'quit))))
        (advice-remove 'make-network-process press)
        (setq quit-flag nil))
      (should (equal processes (process-list))))))

(provide 'dualstack-memory-test)

;;; dualstack-memory-test.el ends here
