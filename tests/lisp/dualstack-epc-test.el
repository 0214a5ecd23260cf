;;; dualstack-epc-test.el --- Tests for dualstack-epc  -*- lexical-binding: t; -*-

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

;; The peers are real: Python servers, ours and python-epc's, epc.el where it
;; is installed, this Emacs itself, and a server that sends what it is told.

;;; Code:

(require 'dualstack-epc-helper)

;;;; Calls

(dualstack-deftest dualstack-epc-call-python ()
  "Calls of a Python server give values and errors."
  (dualstack-epc-test-with-python
      (connection "
import os
def fail():
    raise ValueError('not so')
f(fail)
f(lambda: object(), 'unsendable')
f(lambda n: 'x' * n, 'big')
")
    (should (equal (dualstack-epc-call connection 'echo '(1 "ä" nil sym)) '(1 "ä" nil sym)))
    (should (equal (dualstack-epc-test-error (dualstack-epc-call connection 'fail nil))
                   '(dualstack-epc-remote-error fail "ValueError('not so')")))
    (should (string-match-p "object" (nth 2 (dualstack-epc-test-error
                                             (dualstack-epc-call connection 'unsendable nil)))))
    (should (equal (dualstack-epc-test-error (dualstack-epc-call connection 'no-such nil))
                   '(dualstack-epc-protocol-error no-such "EPC-ERROR: No such method : no-such")))
    (should (= (length (dualstack-epc-call connection 'big '(3000000))) 3000000))
    (should (string-match-p "16,777" (nth 2 (dualstack-epc-test-error
                                             (dualstack-epc-call connection 'big '(16777216))))))
    (should (equal (car (dualstack-epc-methods connection))
                   '(echo (&rest a) "")))
    (should (dualstack-epc-live-p connection))))

(dualstack-deftest dualstack-epc-call-python-epc ()
  "Python-epc's own server is called, and calls."
  (dualstack-test-with-child
      (child dualstack-test-python "-c" "
from epc.server import ThreadingEPCServer
server = ThreadingEPCServer(('127.0.0.1', 0))
server.daemon_threads = True
server.register_function(lambda *a: a, 'echo')
server.register_function(lambda x: server.clients[0].call_sync('twice', [x]), 'ask')
server.print_port()
server.serve_forever()
")
    (let ((connection (dualstack-epc-connect "localhost" (dualstack-test-child-port child))))
      (unwind-protect
          (progn
            (dualstack-epc-define-method connection 'twice (lambda (x) (* 2 x)))
            (should (equal (dualstack-epc-call connection 'echo '("x" (1 2))) '("x" (1 2))))
            (should (= (dualstack-epc-call connection 'ask '(21)) 42))
            (should (equal (mapcar #'car (dualstack-epc-methods connection)) '(echo ask))))
        (dualstack-epc-close connection)))))

(defun dualstack-epc-test-epc-el (&rest forms)
  "Return a command for FORMS in an Emacs with epc.el.
Skip the test where that is not installed."
  (let ((path (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa-src/*")))
    (unless (let ((load-path path)) (locate-library "epcs"))
      (ert-skip "needs epc.el (Debian: elpa-epc)"))
    (list (dualstack-test-emacs-program)
          "-Q" "--batch" "--eval"
          (prin1-to-string
           `(progn
              (setq inhibit-message t)
              (setq load-path (append ',path load-path))
              (require 'epcs)
              ;; epcs.el 0.1.1 asks for what Emacs 26 and later refuse.
              (advice-add 'make-network-process :filter-args
                          (lambda (args)
                            (if (plist-get args :server) (plist-put args :nowait nil) args)))
              ,@forms)))))

(defmacro dualstack-epc-test-with-epc-el (forms &rest body)
  "Run BODY beside an Emacs with epc.el and FORMS.
What that has printed is in the current buffer once it has ended."
  (declare (indent 1))
  `(with-temp-buffer
     (let ((child (make-process :name "epc.el" :buffer (current-buffer) :noquery t
                                :connection-type 'pipe :sentinel #'ignore
                                :command (apply #'dualstack-epc-test-epc-el ,forms))))
       (unwind-protect
           (progn ,@body)
         (dualstack-test-end-process child)))))

(dualstack-deftest dualstack-epc-call-epcs ()
  "The server of epc.el is called."
  (let ((port (dualstack-test-free-port))
        connection)
    (dualstack-epc-test-with-epc-el
        `((epcs:server-start
           (lambda (manager) (epc:define-method manager 'echo (lambda (&rest a) a)))
           ,port)
          (while t (sleep-for 1)))
      (dualstack-test-wait
       (lambda ()
         (setq connection (ignore-errors (dualstack-epc-connect "localhost" port))))
       30)
      (unwind-protect
          (should (equal (dualstack-epc-call connection 'echo '(1 "ä" (x . y)))
                         '(1 "ä" (x . y))))
        (dualstack-epc-close connection)))))

(dualstack-deftest dualstack-epc-called-by-epc-el ()
  "A client of epc.el calls this Emacs."
  (let* (connection
         (servers (dualstack-epc-serve :methods '((plus +))
                                       :on-connect (lambda (c) (setq connection c)))))
    (unwind-protect
        (dualstack-epc-test-with-epc-el
            `((let ((manager (make-epc:manager
                              :port ,(process-contact (car servers) :service))))
                (setf (epc:manager-connection manager)
                      (epc:connect "127.0.0.1" (epc:manager-port manager)))
                (epc:init-epc-layer manager)
                (princ (format "SUM %s\n" (epc:call-sync manager 'plus '(1 2))))))
          (dualstack-test-wait (lambda () (string-match-p "^SUM 3$" (buffer-string))) 30))
      (when connection
        (dualstack-epc-close connection))
      (mapc #'delete-process servers))))

(dualstack-deftest dualstack-epc-both-directions ()
  "Each end calls the other, nested 32 deep."
  (dualstack-epc-test-with-pair (client server nil)
    (dualstack-epc-define-method
     client 'down (lambda (n) (if (= n 0) 0 (1+ (dualstack-epc-call client 'up (list (1- n)))))))
    (dualstack-epc-define-method
     server 'up (lambda (n) (if (= n 0) 0 (1+ (dualstack-epc-call server 'down (list (1- n)))))))
    (should (= (dualstack-epc-call client 'up '(32)) 32))
    (should (equal (mapcar #'car (dualstack-epc-methods client)) '(up)))))

(dualstack-deftest dualstack-epc-async ()
  "Each asynchronous call ends in one call of one function, in any order."
  (dualstack-epc-test-with-pair
      (client server `((echo ,(lambda (x) x)) (fail ,(lambda () (error "So")))))
    (let (values errors)
      (dotimes (i 64)
        (dualstack-epc-call-async client 'echo (list i)
                                  :then (lambda (value) (push value values))
                                  :else #'error))
      (dualstack-epc-call-async client 'fail nil :then #'error
                                :else (lambda (err) (push err errors)))
      (dualstack-test-wait (lambda () (and errors (= (length values) 64))))
      (should (equal (sort values #'<) (number-sequence 0 63)))
      (should (equal errors '((dualstack-epc-remote-error fail "So")))))))

(defun dualstack-epc-test-settle ()
  "Let everything run that is due."
  (let ((done nil))
    (dualstack-epc--later (lambda () (setq done t)))
    (dualstack-test-wait (lambda () done))))

(dualstack-deftest dualstack-epc-cancel-after-the-reply ()
  "A call can be cancelled until its function is called."
  (dualstack-epc-test-with-raw (connection peer)
    (let* ((second nil)
           (called nil)
           (first (dualstack-epc-call-async
                   connection 'soon nil
                   :then (lambda (_)
                           (push 'first called)
                           (dualstack-epc-cancel connection second)))))
      (setq second (dualstack-epc-call-async connection 'soon nil
                                             :then (lambda (_) (push 'second called))))
      ;; Both replies are there when the first function is called.
      (process-send-string
       peer (mapconcat (lambda (handle)
                         (dualstack-epc-test-frame
                          (format "(return %d t)" (dualstack-epc--request-uid handle))))
                       (list first second) ""))
      (dualstack-test-wait (lambda () called))
      (dualstack-epc-test-settle)
      (should (equal called '(first))))))

(dualstack-deftest dualstack-epc-cancel-handle ()
  "After a cancel neither function is called."
  (dualstack-epc-test-with-pair (client server `((echo ,(lambda (x) x))))
    (dualstack-epc-cancel client (dualstack-epc-call-async client 'echo '(1)
                                                           :then #'error :else #'error))
    (should (= (dualstack-epc-call client 'echo '(2)) 2))
    (should (= 0 (hash-table-count (dualstack-epc--pending client))))))

;;;; Waiting inside waiting

(dualstack-deftest dualstack-epc-nested-in-a-timer ()
  "A call from a timer during a call neither delays nor ends the outer one."
  (dualstack-epc-test-with-python (connection "
import time
def slow(x):
    time.sleep(x)
    return x
f(slow)
")
    (let* ((inner nil)
           (start (float-time))
           (timer (run-at-time 0.05 nil
                               (lambda ()
                                 (setq inner (dualstack-epc-call connection 'slow '(0.6)))))))
      (should (= (dualstack-epc-call connection 'slow '(0.2)) 0.2))
      ;; The inner call is inside the outer one's wait, which it must not outlast by much.
      (should (< (- (float-time) start) 20))
      (cancel-timer timer)
      (should (= inner 0.6)))))

(dualstack-deftest dualstack-epc-nested-outer-not-stalled ()
  "A reply for an outer call that an inner one reads ends the outer one soon."
  (dualstack-epc-test-with-raw (connection peer)
    (let* ((ended nil)
           (timer (run-at-time
                   0.01 nil
                   (lambda ()
                     (run-at-time 0.1 nil
                                  (lambda ()
                                    (process-send-string
                                     peer (concat (dualstack-epc-test-frame "(return 1 outer)")
                                                  (dualstack-epc-test-frame "(return 2 inner)")))))
                     (should (eq (dualstack-epc-call connection 'b nil :timeout 60) 'inner))
                     (setq ended (float-time))))))
      (should (eq (dualstack-epc-call connection 'a nil :timeout 60) 'outer))
      (should ended)
      (should (< (- (float-time) ended) 20))
      (cancel-timer timer))))

(dualstack-deftest dualstack-epc-call-in-a-filter ()
  "A call from within a filter works."
  (dualstack-epc-test-with-pair (client server `((echo ,(lambda (x) x))))
    (let (value)
      (dualstack-test-with-servers ((server 'ipv4))
        (let ((other (make-network-process
                      :name "other" :service nil :remote (vector 127 0 0 1 (dualstack-test-port server))
                      :filter (lambda (_process _text)
                                (setq value (dualstack-epc-call client 'echo '(7))))
                      :sentinel #'ignore)))
          (dualstack-test-wait (lambda () (dualstack-test-accepted server)))
          (process-send-string (car (dualstack-test-accepted server)) "x")
          (dualstack-test-wait (lambda () value))
          (delete-process other)))
      (should (= value 7)))))

;;;; The end of calls

(dualstack-deftest dualstack-epc-timeout-and-late-reply ()
  "A call ends in time; its late reply, a double and an unknown one are dropped."
  (dualstack-epc-test-with-raw (connection peer)
    (should (equal (dualstack-epc-test-error
                    (dualstack-epc-call connection 'slow nil :timeout 0.05))
                   '(dualstack-epc-timeout slow "no reply within 0.05 s")))
    (should (= 0 (hash-table-count (dualstack-epc--pending connection))))
    (let (ended)
      (dualstack-epc-call-async connection 'slow nil :timeout 0.05 :then #'error
                                :else (lambda (err) (push (car err) ended)))
      (dualstack-test-wait (lambda () ended))
      (should (equal ended '(dualstack-epc-timeout))))
    (let ((call (lambda ()
                  (run-at-time 0 nil #'process-send-string peer
                               (concat (dualstack-epc-test-frame "(return 1 late)")
                                       (dualstack-epc-test-frame "(return 77 unknown)")
                                       (dualstack-epc-test-frame "(return 3 right)")
                                       (dualstack-epc-test-frame "(return 3 double)"))))))
      (funcall call)
      (should (eq (dualstack-epc-call connection 'third nil) 'right)))))

(dualstack-deftest dualstack-epc-lost-connection-ends-all ()
  "When the peer goes, every call ends at once."
  (dualstack-epc-test-with-raw (connection peer)
    (let (ends)
      (dotimes (_ 10)
        (dualstack-epc-call-async connection 'never nil
                                  :then #'error :else (lambda (err) (push (car err) ends))))
      (run-at-time 0.05 nil #'delete-process peer)
      (should (eq (car (dualstack-epc-test-error
                        (dualstack-epc-call connection 'never nil)))
                  'dualstack-epc-closed))
      (dualstack-test-wait (lambda () (= (length ends) 10)))
      (should (equal (delete-dups ends) '(dualstack-epc-closed)))
      (should-not (dualstack-epc-live-p connection))
      (should (eq (car (dualstack-epc-test-error (dualstack-epc-call connection 'x nil)))
                  'dualstack-epc-closed)))))

(dualstack-deftest dualstack-epc-call-that-cannot-be-sent-ends-once ()
  "A call whose sending fails is signalled, and its function is not called, too."
  (dualstack-epc-test-with-raw (connection peer)
    (let ((ends (make-vector 20 0)))
      ;; The peer resets the connection; Emacs learns that when it sends.
      (set-network-process-option peer :linger 0)
      (delete-process peer)
      (dotimes (i 20)
        (let ((end (lambda (&rest _) (cl-incf (aref ends i)))))
          (condition-case nil
              (dualstack-epc-call-async connection 'never nil :then end :else end)
            (dualstack-epc-closed (funcall end)))))
      (dualstack-test-wait (lambda () (not (cl-position 0 ends))))
      (dualstack-epc-test-settle)
      (should (equal ends (make-vector 20 1))))))

(dualstack-deftest dualstack-epc-child-killed-in-mid-call ()
  "A child that is killed while it works ends its call."
  (dualstack-epc-test-with-python
      (connection "import os, signal\nf(lambda: os.kill(os.getpid(), getattr(signal, 'SIGKILL', 9)), 'die')\n")
    (should (eq (car (dualstack-epc-test-error
                      (dualstack-epc-call connection 'die nil)))
                'dualstack-epc-closed))))

(dualstack-deftest dualstack-epc-quit ()
  "A quit ends a call, also in a timer, and leaves nothing of it."
  (dualstack-epc-test-with-raw (connection peer)
    (let ((timer (run-at-time 0.05 nil (lambda () (setq quit-flag t)))))
      (should (eq 'quit (condition-case nil
                            (dualstack-epc-call connection 'never nil)
                          (quit 'quit))))
      (cancel-timer timer))
    (should (= 0 (hash-table-count (dualstack-epc--pending connection))))
    (should (dualstack-epc-live-p connection))))

(dualstack-deftest dualstack-epc-cancel-on-input ()
  "Input ends a call where that is wanted."
  (dualstack-epc-test-with-raw (connection peer)
    (let ((unread-command-events nil))
      (run-at-time 0.05 nil (lambda () (push ?a unread-command-events)))
      (should (eq (dualstack-epc-call connection 'never nil :cancel-on-input 'typed) 'typed)))
    (should (= 0 (hash-table-count (dualstack-epc--pending connection))))))

(dualstack-deftest dualstack-epc-callbacks-harm-nothing ()
  "A callback or method that signals or quits harms nothing else."
  (dualstack-epc-test-with-pair
      (client server `((echo ,(lambda (x) x))
                        (quit ,(lambda () (signal 'quit nil)))
                        (fail ,(lambda () (signal 'wrong-type-argument '(x))))))
    (let ((inhibit-message t) (debug-on-error nil))
      (dualstack-epc-call-async client 'echo '(1) :then (lambda (_) (error "In a callback")))
      (dualstack-epc-call-async client 'echo '(1) :then (lambda (_) (signal 'quit nil)))
      (should (= (dualstack-epc-call client 'echo '(2)) 2))
      (should (equal (dualstack-epc-test-error (dualstack-epc-call client 'quit nil))
                     '(dualstack-epc-remote-error quit "The method was quit")))
      (should (string-match-p "Wrong type" (nth 2 (dualstack-epc-test-error
                                                   (dualstack-epc-call client 'fail nil)))))
      (should (= (dualstack-epc-call client 'echo '(3)) 3)))))

;;;; The log

(dualstack-deftest dualstack-epc-log ()
  "Messages are logged when that is switched on, and not otherwise."
  (dualstack-epc-test-with-pair (client server `((echo ,(lambda (x) x))))
    (let ((logged (lambda (text)
                    (with-current-buffer (get-buffer-create "*dualstack-log*")
                      (string-match-p text (buffer-string)))))
          (inhibit-message t))
      (dualstack-epc-call client 'echo '("not logged"))
      (should-not (funcall logged "not logged"))
      (dualstack-epc-toggle-log)
      (unwind-protect
          (dualstack-epc-call client 'echo (list (concat "logged " (make-string 10000 ?x))))
        (dualstack-epc-toggle-log))
      ;; Emacs 30 sends it as JSON.
      (should (funcall logged "-> [[(]\"?call\"?[ ,]2[ ,]\"?echo\"?[ ,][[(]\"logged x+\\.\\.\\."))
      (should (funcall logged "<- [[(]\"?return\"?[ ,]2[ ,]")))))

;;;; Callbacks

(dualstack-deftest dualstack-epc-later-runs-all-in-one-wait ()
  "One wait runs what is to run, in order, whatever it does."
  (let ((inhibit-message t)
        (debug-on-error nil)
        (ran nil))
    (dotimes (i 100)
      (dualstack-epc--later (lambda ()
                             (push i ran)
                             (pcase i
                               (10 (error "Not the others' business"))
                               (20 (signal 'quit nil))
                               (30 (dualstack-epc--later (lambda () (push 'late ran))))))))
    (accept-process-output nil 0.01)
    (should (equal (last ran 100) (number-sequence 99 0 -1)))
    (dualstack-test-wait (lambda () (eq (car ran) 'late)))))

(dualstack-deftest dualstack-epc-later-one-that-waits ()
  "What is to run after a function that waits runs while it waits."
  (let ((ran nil))
    (dualstack-epc--later (lambda ()
                           (dualstack-test-wait (lambda () (memq 'second ran)))
                           (push 'first ran)))
    (dualstack-epc--later (lambda () (push 'second ran)))
    (dualstack-test-wait (lambda () (memq 'first ran)))
    (should (equal ran '(first second)))))

;;;; Windows' Emacs must not begin to read while it writes

(dualstack-deftest dualstack-epc-calm ()
  "After the output that a wait of ours is for, Emacs does not look for more.
In a wait of somebody else's it goes on."
  (let ((dualstack-epc--calm-needed t)
        (stopped 0))
    (dualstack-epc-test-with-pair (client server '((echo identity)))
      (let ((process (dualstack-epc-connection-process client)))
        (cl-letf* ((stop (symbol-function 'stop-process))
                   ((symbol-function 'stop-process)
                    (lambda (&rest args)
                      (setq stopped (1+ stopped))
                      (apply stop args))))
          (dotimes (n 10)
            (should (equal (dualstack-epc-call client 'echo (list n)) n))
            (should (eq (process-status process) 'open)))
          (should (>= stopped 10))
          (setq stopped 0)
          (let ((heard nil) (during nil))
            (dualstack-epc-call-async client 'echo '(2)
                                      :then (lambda (value) (setq heard value)))
            (dualstack-test-wait (lambda () heard))
            (should (equal heard 2))
            (should (= stopped 0))
            ;; A timer that waits itself, inside a call of ours.
            (run-at-time 0 nil
                         (lambda ()
                           (let ((inner nil))
                             (dualstack-epc-call-async client 'echo '(3)
                                                       :then (lambda (value) (setq inner value)))
                             (dualstack-test-wait (lambda () inner))
                             (setq during inner))))
            (should (equal (dualstack-epc-call client 'echo '(4)) 4))
            (dualstack-test-wait (lambda () during))
            (should (eq (process-status process) 'open))
            ;; A call inside the wait of a call does not wait for that one's end.
            (let ((longest 0))
              (dualstack-epc-define-method
               server 'back (lambda (n)
                              (if (= n 0) 0
                                (1+ (dualstack-epc-call server 'forth (list (1- n)))))))
              (dualstack-epc-define-method
               client 'forth (lambda (n)
                               (if (= n 0) 0
                                 (1+ (dualstack-epc-call client 'back (list (1- n)))))))
              (dotimes (_ 3)
                (let ((start (float-time)))
                  (should (equal (dualstack-epc-call client 'back '(20)) 20))
                  (setq longest (max longest (- (float-time) start)))))
              ;; Twenty waits of 50 ms would be a second.
              (should (< longest 1)))
            ;; Of another connection nothing is stopped.
            (dualstack-epc-test-with-pair (other end '((echo identity)))
              (dotimes (n 3)
                (setq heard nil)
                (dualstack-epc-call-async other 'echo (list n)
                                          :then (lambda (value) (setq heard value)))
                (should (equal (dualstack-epc-call client 'echo '(5)) 5))
                (dualstack-test-wait (lambda () heard))
                (should (equal heard n)))
              (dolist (connection (list other end client server))
                (should (eq (process-status (dualstack-epc-connection-process connection))
                            'open))))))))))

(provide 'dualstack-epc-test)

;;; dualstack-epc-test.el ends here
