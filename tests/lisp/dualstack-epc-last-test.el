;;; dualstack-epc-last-test.el --- Tests of calls that last  -*- lexical-binding: t; -*-

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

;; Cancelling in both directions, progress and coroutines, with a real Python
;; and with peers that know nothing of them.

;;; Code:

(require 'dualstack-epc-helper)
(require 'dualstack-epc-progress)

(defconst dualstack-epc-last-test-python "
import asyncio, threading, time
from dualstack_epc import current_call, current_client
events = []
def note(name):
    events.append(name)
async def wait_async():
    note('begun')
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note('cancelled async')
        raise
def wait_plain():
    note('begun')
    while not current_call().cancelled:
        time.sleep(0.005)
    try:
        current_client().call_sync('called-back', [])
    except Exception as error:
        note('raised ' + type(error).__name__)
def wait_generator():
    note('begun')
    try:
        while True:
            yield 1
            time.sleep(0.005)
    finally:
        note('closed')
def count(most):
    for number in range(most):
        yield number
    return 'end'
async def count_async(most):
    for number in range(most):
        await asyncio.sleep(0)
        yield number
async def ask(*numbers):
    return await asyncio.gather(*(current_client().call('twice', n) for n in numbers))
async def ask_and_cancel(name):
    try:
        await asyncio.wait_for(current_client().call(name), 0.2)
    except asyncio.TimeoutError:
        return 'cancelled'
def ask_sync_and_cancel(name):
    try:
        current_client().call_sync(name, [], 0.2)
    except TimeoutError:
        return 'cancelled'
for each in (wait_async, wait_plain, wait_generator, count, count_async, ask, ask_and_cancel,
             ask_sync_and_cancel):
    f(each)
f(lambda: list(events), 'events')
" "What the Python end of these tests can do.")

(defun dualstack-epc-last-test-events (connection &rest names)
  "Wait until the Python end of CONNECTION has noted NAMES."
  (dualstack-test-wait
   (lambda ()
     (let ((events (dualstack-epc-call connection 'events nil)))
       (cl-every (lambda (name) (member name events)) names)))))

(defun dualstack-epc-last-test-when-begun (connection count function)
  "Run FUNCTION once Python has begun COUNT requests of CONNECTION."
  (dualstack-epc-call-async
   connection 'events nil
   :then (lambda (events)
           (if (>= (cl-count "begun" events :test #'equal) count)
               (funcall function)
             (run-at-time 0.02 nil #'dualstack-epc-last-test-when-begun
                          connection count function)))))

;;;; Cancelling what Python does

(dualstack-deftest dualstack-epc-last-timeout-cancels ()
  "A call whose time is over ends in Python, the very first one too."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (should (eq (car (dualstack-epc-test-error
                      (dualstack-epc-call connection 'wait_plain nil :timeout 1)))
                'dualstack-epc-timeout))
    (dualstack-epc-last-test-events connection "raised CallCancelledError")
    (let (err)
      (dualstack-epc-call-async connection 'wait_async nil :timeout 1
                                :else (lambda (e) (setq err e)))
      (dualstack-test-wait (lambda () err))
      (should (eq (car err) 'dualstack-epc-timeout))
      (dualstack-epc-last-test-events connection "cancelled async"))))

(dualstack-deftest dualstack-epc-last-quit-cancels ()
  "C-g ends the call in Python."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (dualstack-epc-last-test-when-begun connection 1 (lambda () (setq quit-flag t)))
    (should (eq 'quit (condition-case nil
                          (dualstack-epc-call connection 'wait_generator nil)
                        (quit 'quit))))
    (dualstack-epc-last-test-events connection "closed")
    (should (= 0 (hash-table-count (dualstack-epc--pending connection))))))

(dualstack-deftest dualstack-epc-last-handle-cancels ()
  "`dualstack-epc-cancel' ends the call in Python, and input does."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (let ((handle (dualstack-epc-call-async connection 'wait_async nil
                                            :then #'error :else #'error)))
      (dualstack-epc-last-test-events connection "begun")
      (dualstack-epc-cancel connection handle)
      (dualstack-epc-last-test-events connection "cancelled async"))
    (let ((unread-command-events nil))
      (dualstack-epc-last-test-when-begun
       connection 2 (lambda () (setq unread-command-events (list ?x))))
      (should (eq 'typed (dualstack-epc-call connection 'wait_plain nil
                                             :cancel-on-input 'typed))))
    (dualstack-epc-last-test-events connection "raised CallCancelledError")))

(dualstack-deftest dualstack-epc-last-cancel-is-not-shown-to-others ()
  "A peer that is not dualstack is sent nothing but calls."
  (dualstack-epc-test-with-raw (connection peer)
    (let ((first (dualstack-epc-call-async connection 'x nil)))
      (dualstack-epc-test-received peer 1)
      (dualstack-epc-cancel connection first)
      (dualstack-epc-call-async connection 'x nil)
      (dualstack-epc-test-received peer 2)
      (process-send-string peer (concat (dualstack-epc-test-frame "(return 1 late)")
                                        (dualstack-epc-test-frame "(return 2 t)")))
      (dualstack-test-wait
       (lambda () (= 0 (hash-table-count (dualstack-epc--pending connection)))))
      (process-put peer 'text nil)
      (dualstack-epc-cancel connection (dualstack-epc-call-async connection 'y '(1)))
      (dualstack-epc-call-async connection 'z nil)
      (dualstack-epc-test-received peer 2)
      ;; It has shown that it is not, so the calls are as any other's.
      (should (equal (process-get peer 'text)
                     (concat (dualstack-epc-test-frame "(call 3 y (1))")
                             (dualstack-epc-test-frame "(call 4 z nil)")))))))

;;;; Cancelling what Emacs does

(dualstack-deftest dualstack-epc-last-python-cancels ()
  "Python ends a method of Emacs that waits, by a timeout and by asyncio."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (let ((ends nil))
      (dualstack-epc-define-method
       connection 'wait (lambda ()
                          (condition-case nil
                              (progn (sleep-for 60) (push 'waited ends))
                            (quit (push 'quit ends)))))
      (dolist (name '(ask_and_cancel ask_sync_and_cancel))
        (setq ends nil)
        (should (equal (dualstack-epc-call connection name '("wait")) "cancelled"))
        (dualstack-test-wait (lambda () ends))
        (should (equal ends '(quit)))))))

(dualstack-deftest dualstack-epc-last-python-cancels-the-right-one ()
  "A method inside whose wait another one runs is quit after that."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (let ((ends nil) (inner-may-end nil))
      (dualstack-epc-define-method
       connection 'outer (lambda ()
                           (condition-case nil
                               (progn (sleep-for 60) (push 'waited ends))
                             (quit (push 'outer-quit ends)))))
      (dualstack-epc-define-method
       connection 'twice (lambda (_)
                          (condition-case nil
                              (progn (dualstack-test-wait (lambda () inner-may-end))
                                     (push 'inner-done ends))
                            (quit (push 'inner-quit ends)))))
      (dualstack-epc-call-async connection 'ask_and_cancel '("outer")
                                :then (lambda (_)
                                        (run-at-time 0.2 nil
                                                     (lambda () (setq inner-may-end t)))))
      (run-at-time 0.05 nil (lambda () (dualstack-epc-call-async connection 'ask '(1))))
      (dualstack-test-wait (lambda () (= (length ends) 2)))
      (should (equal ends '(outer-quit inner-done))))))

;;;; Calm, which a wait is on Windows

(dualstack-deftest dualstack-epc-last-calm-while-a-method-waits ()
  "A method that waits inside a call of ours is cancelled all the same."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (let ((dualstack-epc--calm-needed t)
          (end nil))
      (dualstack-epc-define-method
       connection 'wait (lambda ()
                          (condition-case nil
                              (progn (sleep-for 20) (setq end 'waited))
                            (quit (setq end 'quit)))))
      (should (equal (dualstack-epc-call connection 'ask_and_cancel '("wait") :timeout 15)
                     "cancelled"))
      (dualstack-test-wait (lambda () end))
      (should (eq end 'quit)))))

(dualstack-deftest dualstack-epc-last-calm-on-both-ends ()
  "What a server's wait for its client has read is as calm as what a client's has."
  (let ((dualstack-epc--calm-needed t))
    (dualstack-epc-test-with-pair (client server '((echo identity)))
      (dualstack-epc-define-method client 'echo #'identity)
      (dolist (connection (list client server))
        (let* ((process (dualstack-epc-connection-process connection))
               (stopped 0)
               (note (lambda (of &rest _) (when (eq of process) (setq stopped (1+ stopped))))))
          (unwind-protect
              (progn
                (advice-add 'stop-process :before note)
                (dotimes (n 10)
                  (should (equal (dualstack-epc-call connection 'echo (list n)) n))
                  (should (eq (process-status process) 'open))))
            (advice-remove 'stop-process note))
          (should (>= stopped 10)))))))

(dualstack-deftest dualstack-epc-last-calm-inside-a-wait ()
  "What an inner wait has read stays calm, whenever the one around it began."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (let ((dualstack-epc--calm-needed t)
          (dualstack-epc--calm-pause 10)
          (left nil))
      (dualstack-epc-define-method
       connection 'wait (lambda ()
                          (dualstack-epc-call connection 'events nil)
                          (setq left (cl-count #'dualstack-epc--calm-resume timer-list
                                               :key #'timer--function))))
      (dualstack-epc-call connection 'ask_and_cancel '("wait") :timeout 15)
      (should (equal left 0)))))

(dualstack-deftest dualstack-epc-last-calm-look ()
  "What a wait for anything has read, as a sidecar's start does, is calm until its end."
  (dualstack-epc-test-with-pair (client server '((echo identity)))
    (let* ((dualstack-epc--calm-needed t)
           (dualstack-epc--calm-pause 10)
           (process (dualstack-epc-connection-process client))
           (stopped 0)
           (note (lambda (of &rest _) (when (eq of process) (setq stopped (1+ stopped)))))
           (heard nil))
      (unwind-protect
          (progn
            (advice-add 'stop-process :before note)
            (dualstack-epc-call-async client 'echo '(1) :then (lambda (value) (setq heard value)))
            (while (not heard)
              (dualstack-epc--calm-look process 0.5)
              (should-not (eq (process-status process) 'stop))))
        (advice-remove 'stop-process note))
      ;; A pipe is never stopped.
      (should (eq (> stopped 0) (eq (process-type process) 'network)))
      (should-not (cl-find #'dualstack-epc--calm-resume timer-list
                           :key #'timer--function)))))

(dualstack-deftest dualstack-epc-last-calm-late ()
  "A wait of ours that outlasts its time is ended, but none that runs inside it."
  (let ((dualstack-epc--calm-needed t)
        (start (float-time))
        ;; A wait sees what timers a timer has made at the next one, as where it turns in circles.
        (circle (run-at-time 0 0.1 #'ignore))
        (inner nil))
    (cl-letf* ((watch (symbol-function 'dualstack-epc--calm-watch))
               ((symbol-function 'dualstack-epc--calm-watch)
                (lambda (wait)
                  (when (> (dualstack-epc--calm-due wait) (+ start 25))
                    (setf (dualstack-epc--calm-due wait) start))
                  (funcall watch wait))))
      (dualstack-epc--calm-look nil 30)
      (dolist (wait (list #'sleep-for (lambda (seconds) (dualstack-epc--calm-look nil seconds))))
        (run-at-time 0 nil (lambda ()
                             (let ((begun (float-time)))
                               (funcall wait 1.2)
                               (push (- (float-time) begun) inner))))
        (dualstack-epc--calm-look nil 30)))
    (cancel-timer circle)
    (should (= (length inner) 2))
    (should (>= (apply #'min inner) 1.1))
    (should (< (- (float-time) start) 20))))

(dualstack-deftest dualstack-epc-last-calm-nested ()
  "However many waits of ours there are in each other, the innermost alone has a timer.
Where each had one, which was late, calls deep in each other took seconds."
  (let* ((dualstack-epc--calm-needed t)
         (before (length timer-list))
         (most 0)
         (look nil))
    (setq look (lambda (depth)
                 (if (= depth 0)
                     (setq most (- (length timer-list) before))
                   (run-at-time 0 nil look (1- depth))
                   (dualstack-epc--calm-look nil 0.1))))
    (funcall look 20)
    ;; One is that of the timer which looks, on some Emacsen.
    (should (<= 1 most 2))
    (should (= (length timer-list) before))))

(dualstack-deftest dualstack-epc-last-calm-wake ()
  "Who waits too long hears of processes that have ended, and nothing is left."
  (dualstack-test-with-child (child dualstack-test-python "-c"
                                    "import sys; print(1, flush=True); sys.stdin.read()")
    (let ((event nil))
      (set-process-sentinel child (lambda (_process text) (setq event text)))
      (process-send-eof child)
      (dualstack-epc--calm-wake)
      (dualstack-test-wait (lambda () event)))))

;;;; Progress

(dualstack-deftest dualstack-epc-last-progress ()
  "What a method yields is told in order, before the end."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (dolist (method '(count count_async))
      (let ((told nil) (end (if (eq method 'count) "end" nil)))
        (should (equal (dualstack-epc-call connection method '(200)
                                           :progress (lambda (value) (push value told)))
                       end))
        (should (equal (nreverse told) (number-sequence 0 199)))
        (setq told nil)
        (dualstack-epc-call-async connection method '(200)
                                  :progress (lambda (value) (push value told))
                                  :then (lambda (value) (push (list value) told)))
        (dualstack-test-wait (lambda () (consp (car told))))
        (should (equal (nreverse told) (append (number-sequence 0 199) (list (list end)))))
        (should (equal (dualstack-epc-call connection method '(200)) end))))
    ;; One that signals spoils nothing.
    (let ((debug-on-error nil)
          (inhibit-message t))
      (should (equal (dualstack-epc-call connection 'count '(3) :progress #'error) "end")))))

(dualstack-deftest dualstack-epc-last-reporter ()
  "The progress reporter shows what a method yields."
  (let* ((shown nil)
         (note (lambda (format &rest args)
                 (push (and format (apply #'format-message format args)) shown)))
         (inhibit-message t))
    (unwind-protect
        (progn
          (advice-add 'message :before note)
          (let ((report (dualstack-epc-progress-reporter "Copying...")))
            (dolist (value '(10 (1 4 "a.txt") (2 4) "b.txt" odd nil (4 4)))
              ;; Emacs shows nothing twice in one tick of the clock, 16 ms on Windows.
              (sleep-for 0.02)
              (funcall report value))))
      (advice-remove 'message note))
    (setq shown (mapcar #'string-trim-right (nreverse shown)))
    (dolist (text '("Copying...10%" "Copying...25% a.txt" "Copying...50%" "Copying...50% b.txt"
                    "Copying...done"))
      (should (member text shown)))))

;;;; Values

(defun dualstack-epc-last-test-bytes (count)
  "Return a unibyte string of COUNT bytes of all kinds."
  (let ((bytes (make-string count 0)) (state 1))
    (dotimes (i count)
      (setq state (logand (+ (* state 1103515245) 12345) #x7fffffff))
      (aset bytes i (logand (ash state -16) 255)))
    (encode-coding-string bytes 'latin-1)))

(dualstack-deftest dualstack-epc-last-ten-megabytes-of-bytes ()
  "Bytes cross in both directions, 10 MB of them too."
  (dualstack-epc-test-with-python (connection "
import hashlib
f(lambda value: hashlib.sha1(value).hexdigest(), 'digest')
f(lambda value: {'x': [value]}, 'within')
")
    (dualstack-epc-call connection 'echo nil)
    (let* ((part (dualstack-epc-last-test-bytes 100003))
           (large (apply #'concat (make-list 100 part))))
      (should (equal (dualstack-epc-call connection 'digest (list large))
                     (secure-hash 'sha1 large)))
      (should (equal (dualstack-epc-call connection 'echo (list "ä" large 1))
                     (list "ä" large 1)))
      (should (equal (dualstack-epc-call connection 'within (list part))
                     (list :x (list part))))
      (should (equal (dualstack-epc-call connection 'echo (list (list part)))
                     (list (list part)))))))

(dualstack-deftest dualstack-epc-last-bytes-between-emacsen ()
  "Bytes cross as they are between two ends in Emacs."
  (dualstack-epc-test-with-pair (client server `((echo ,#'identity)))
    (let ((part (dualstack-epc-last-test-bytes 5000)))
      (dotimes (_ 2)
        (should (equal (dualstack-epc-call client 'echo (list part)) part)))
      (should-not (multibyte-string-p (dualstack-epc-call client 'echo (list part)))))))

;;;; Links that are dead

(dualstack-deftest dualstack-epc-last-keepalive ()
  "A peer that no longer answers is noticed; one that does is kept."
  (let ((servers (dualstack-epc-serve)))
    (unwind-protect
        (let ((connection (dualstack-epc-connect
                           "localhost" (process-contact (car servers) :service)
                           :keepalive 0.2)))
          (unwind-protect
              (progn
                (dualstack-test-wait
                 (lambda () (>= (dualstack-epc-connection-calls connection) 3)))
                (should (dualstack-epc-live-p connection)))
            (dualstack-epc-close connection)))
      (mapc #'delete-process servers)))
  (dualstack-test-with-child (child dualstack-test-python "-c" "
import socket, time
s = socket.create_server(('127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
time.sleep(60)
")
    (let* ((connection (dualstack-epc-connect
                        "127.0.0.1" (dualstack-test-child-port child) :keepalive 0.2))
           (err (dualstack-epc-test-error
                 (dualstack-epc-call connection 'x nil :timeout 20))))
      (should (eq (car err) 'dualstack-epc-closed))
      (should (string-match-p "nothing was heard for 0.4 s" (cadr err))))))

;;;; async def

(dualstack-deftest dualstack-epc-last-async-def ()
  "Coroutines await methods of Emacs."
  (dualstack-epc-test-with-python (connection dualstack-epc-last-test-python)
    (dualstack-epc-define-method connection 'twice (lambda (n) (* 2 n)))
    (should (equal (dualstack-epc-call connection 'ask '(1 2 3)) '(2 4 6)))))

(provide 'dualstack-epc-last-test)

;;; dualstack-epc-last-test.el ends here
