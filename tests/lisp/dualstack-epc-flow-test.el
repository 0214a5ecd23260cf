;;; dualstack-epc-flow-test.el --- Tests of sending, holding back and cancelling  -*- lexical-binding: t; -*-

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

;; What does not read is a real process that is stopped, and what is slow a
;; real Python.

;;; Code:

(require 'dualstack-epc-helper)

(defmacro dualstack-epc-test-with-deaf (connection &rest body)
  "Run BODY with CONNECTION, whose other end is not reading."
  (declare (indent 1) (debug (symbolp body)))
  `(dualstack-test-with-child (child dualstack-test-python "-c" "
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
s.bind(('127.0.0.1', 0)); s.listen()
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
time.sleep(60)
")
     (let ((,connection (dualstack-epc-connect "127.0.0.1" (dualstack-test-child-port child))))
       (unwind-protect
           (progn ,@body)
         (dualstack-epc-close ,connection)))))

(dualstack-deftest dualstack-epc-flow-async-never-waits ()
  "An asynchronous call to a peer that does not read returns at once."
  (dualstack-epc-test-with-deaf connection
    (let ((err nil))
      (should (< (dualstack-test-seconds
                  (lambda ()
                    (dotimes (_ 4)
                      (dualstack-epc-call-async connection 'x (list (make-string 6000000 ?x)) :timeout 1
                                                :else (lambda (e) (setq err e))))))
                 60))
      ;; The send that makes no progress in its time ends the connection.
      (dualstack-test-wait (lambda () err))
      (should (eq (car err) 'dualstack-epc-timeout))
      (dualstack-test-wait (lambda () (not (dualstack-epc-live-p connection))))
      (should (string-match-p "has read nothing for 1 s"
                              (dualstack-epc-connection-ended connection))))))

(dualstack-deftest dualstack-epc-flow-nobody-elses-code ()
  "While bytes are sent no timer, filter or sentinel runs."
  (dualstack-epc-test-with-deaf connection
    (let* ((ran nil)
           (timer (run-at-time 0 nil (lambda () (setq ran t)))))
      (dualstack-epc-call-async connection 'x (list (make-string 15000000 ?x)))
      (should-not ran)
      (dualstack-test-wait (lambda () ran))
      (cancel-timer timer))))

(dualstack-deftest dualstack-epc-flow-quit-in-a-timer ()
  "C-g ends a call inside a timer although its peer does not read."
  (dualstack-epc-test-with-deaf connection
    (let ((state nil))
      (run-at-time 0 nil
                   (lambda ()
                     (condition-case nil
                         (let ((inhibit-quit nil))
                           (run-at-time 0.1 nil (lambda () (setq quit-flag t)))
                           (dualstack-epc-call connection 'x
                                               (list (make-string 15000000 ?x))))
                       (quit (setq state 'quit)))))
      (should (< (dualstack-test-seconds
                  (lambda () (dualstack-test-wait (lambda () state) 30)))
                 ;; Without the quit it is a minute, the call's timeout.
                 20))
      (should (eq state 'quit)))))

(dualstack-deftest dualstack-epc-flow-nothing-is-lost ()
  "What a slow reader gets is whole and in order, whatever its size."
  (dualstack-epc-test-with-python
      (connection "
import time
def size(index, text):
    time.sleep(0.01)
    return [index, len(text), text[:1], text[-1:]]
f(size)
")
    (let ((values nil)
          (sizes '(10 70000 3000000 65530 1 16000000 131072 5 900000)))
      (cl-loop for size in sizes
               for index from 0
               do (dualstack-epc-call-async
                   connection 'size (list index (concat (make-string size ?x) "y"))
                   :then (lambda (value) (push value values)) :else #'error))
      (dualstack-test-wait (lambda () (= (length values) (length sizes))) 60)
      (should (equal (sort values (lambda (a b) (< (car a) (car b))))
                     (cl-loop for size in sizes
                              for index from 0
                              collect (list index (1+ size) "x" "y")))))))

(dualstack-deftest dualstack-epc-flow-many-calls-at-once ()
  "Thousands of calls of 100 KB to a slow method leave Emacs responsive."
  (dualstack-epc-test-with-python
      (connection "
import threading, time
most, now, lock = 0, 0, threading.Lock()
def slow(index, text):
    global most, now
    with lock:
        now += 1
        most = max(most, now)
    time.sleep(0.01)
    with lock:
        now -= 1
    return index
f(slow)
f(lambda: most, 'most')
")
    (let* ((count 1500)
           (text (make-string 100000 ?x))
           (before (dualstack-epc-test-memory))
           (values nil) (errors nil) (gaps nil) (work nil) (last (float-time))
           (processor (lambda () (float-time (get-internal-run-time))))
           (used (funcall processor))
           (timer (run-at-time 0.01 0.01
                               (lambda ()
                                 (push (- (float-time) last) gaps)
                                 (push (- (funcall processor) used) work)
                                 (setq last (float-time) used (funcall processor))))))
      (unwind-protect
          (progn
            (dotimes (i count)
              (dualstack-epc-call-async connection 'slow (list i text)
                                        :then (lambda (value) (push value values))
                                        :else (lambda (err) (push err errors))
                                        :timeout 200))
            (dualstack-test-wait (lambda () (= (+ (length values) (length errors)) count)) 220))
        (cancel-timer timer))
      (should-not errors)
      (should (equal (sort values #'<) (number-sequence 0 (1- count))))
      (should (<= (dualstack-epc-call connection 'most nil) 64))
      ;; One text for all is what the caller holds, not one for each.
      (when before
        (should (< (- (dualstack-epc-test-memory) before) 80000)))
      ;; Other processes lengthen the time between two looks at the timers, but
      ;; not what Emacs itself does in it; a send that waits takes time, not work.
      (let ((usual-most (lambda (numbers) (nth (/ (length numbers) 20) (sort numbers #'>)))))
        (should (< (funcall usual-most work) 0.06))
        (should (< (funcall usual-most gaps) 0.5))))))

(defun dualstack-epc-test-memory ()
  "Return the memory of this Emacs in KB, or nil if that is not known."
  (alist-get 'rss (process-attributes (emacs-pid))))

(dualstack-deftest dualstack-epc-flow-held-back-in-order ()
  "Calls that were held back are sent in their order, and can end before."
  (dualstack-epc-test-with-raw (connection peer)
    (let* ((ends nil)
           (handles
            (mapcar (lambda (i)
                      (dualstack-epc-call-async connection 'x (list i)
                                                :then (lambda (_) (push i ends))
                                                :else (lambda (_) (push (- i) ends))
                                                :timeout (and (= i 66) 0.1)))
                    (number-sequence 1 70))))
      (should (= (length (dualstack-epc-test-received peer 64)) 64))
      (dualstack-epc-cancel connection (nth 64 handles))
      (dualstack-test-wait (lambda () (equal ends '(-66))))
      (process-send-string peer
                           (mapconcat (lambda (uid)
                                        (dualstack-epc-test-frame (format "(return %d t)" uid)))
                                      '(1 2 3 4) ""))
      (should (equal (mapcar (lambda (message) (car (nth 3 message)))
                             (nthcdr 64 (dualstack-epc-test-received peer 68)))
                     '(67 68 69 70)))
      (dualstack-epc-close connection)
      (dualstack-test-wait (lambda () (= (length ends) 69)))
      (should (equal (seq-filter #'cl-plusp ends) '(4 3 2 1))))))

(dualstack-deftest dualstack-epc-flow-held-back-is-checked ()
  "What cannot be sent is signalled at once, also by a call that is held back.
Arguments that change afterwards are sent as they were."
  (dualstack-epc-test-with-raw (connection peer)
    (dotimes (i 64)
      (dualstack-epc-call-async connection 'x (list i)))
    (dolist (value (list (current-buffer) (propertize "x" 'face 'bold)
                         (make-string 16777215 ?x)))
      (should-error (dualstack-epc-call-async connection 'x (list value))
                    :type 'dualstack-epc-unsendable))
    (let ((arguments (list 1 (list 2 3) [4])))
      (dualstack-epc-call-async connection 'y arguments)
      (setcar arguments 9)
      (setcar (cadr arguments) 9)
      (aset (nth 2 arguments) 0 9))
    (dualstack-epc-test-received peer 64)
    (process-send-string peer (dualstack-epc-test-frame "(return 1 t)"))
    (should (equal (nth 3 (nth 64 (dualstack-epc-test-received peer 65)))
                   '(1 (2 3) [4])))))

(dualstack-deftest dualstack-epc-flow-nested-256-deep-with-python ()
  "Calls of Emacs and Python that call each other nest to 256."
  (dualstack-epc-test-with-python
      (connection "
from dualstack_epc import current_client
def up(n):
    return 0 if n == 0 else 1 + current_client().call_sync('down', [n - 1])
f(up)
")
    (dualstack-epc-define-method
     connection 'down
     (lambda (n) (if (= n 0) 0 (1+ (dualstack-epc-call connection 'up (list (1- n)))))))
    (should (= (dualstack-epc-call connection 'up '(256)) 256))
    (should (= (dualstack-epc-call connection 'up '(1)) 1))))

(defconst dualstack-epc-flow-test--other
  '(progn
     (require 'dualstack-epc-serve)
     (let* (server
            (up (lambda (n) (if (= n 0) 0 (1+ (dualstack-epc-call server 'down (list (1- n)))))))
            (servers (dualstack-epc-serve :methods `((up ,up))
                                          :on-connect (lambda (connection)
                                                        (setq server connection)))))
       (message "%d" (process-contact (car servers) :service))
       (while t (accept-process-output nil 1))))
  "What another Emacs runs.")

(defun dualstack-epc-flow-test-nested (client)
  "Have CLIENT and its peer, which has the method `up', call each other."
  (dualstack-epc-define-method
   client 'down (lambda (n) (if (= n 0) 0 (1+ (dualstack-epc-call client 'up (list (1- n)))))))
  (should (= (dualstack-epc-call client 'up '(256)) 256))
  ;; Without end it ends in an error before the stack does.
  (should-error (dualstack-epc-call client 'up '(100000))
                :type 'dualstack-epc-remote-error)
  (should (= (dualstack-epc-call client 'up '(1)) 1)))

;; A Windows Emacs that has both ends of a socket writes to one as it begins to read from it,
;; and takes it for closed then.
(dualstack-deftest dualstack-epc-flow-nested-256-deep ()
  "Calls that call each other nest to 256, and hold nobody back."
  (if (eq dualstack-epc-test-transport 'socket)
      (dualstack-test-call-with-child
       (list (dualstack-test-emacs-program) "-Q" "--batch"
             "-L" (expand-file-name "lisp" dualstack-test-root)
             "--eval" (prin1-to-string dualstack-epc-flow-test--other))
       (lambda (other)
         (let ((client (dualstack-epc-connect "localhost" (dualstack-test-child-port other))))
           (unwind-protect (dualstack-epc-flow-test-nested client)
             (dualstack-epc-close client)))))
    (dualstack-epc-test-with-pair (client server nil)
      (dualstack-epc-define-method
       server 'up (lambda (n) (if (= n 0) 0 (1+ (dualstack-epc-call server 'down (list (1- n)))))))
      (dualstack-epc-flow-test-nested client))))

(when (eq system-type 'windows-nt)
  (dualstack-test-leave-out
   "\\`dualstack-epc-flow-\\(?:async-never-waits\\|nobody-elses-code\\|quit-in-a-timer\\)\\'"
   "Emacs's sends on Windows wait, without C-g, until the other end reads"))

(provide 'dualstack-epc-flow-test)

;;; dualstack-epc-flow-test.el ends here
