;;; dualstack-alone-test.el --- Tests of connecting while others live  -*- lexical-binding: t; -*-

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

;; A synchronous connect runs nobody else's code, and loses nothing of theirs;
;; other threads hear what is theirs.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-mode)

(defun dualstack-alone-test--ways (function)
  "Call FUNCTION with each way to open a connection to a port of localhost.
They are the public functions, and Emacs's own under the mode."
  (funcall function (lambda (port)
                      (dualstack-open-network-stream "peer" nil "localhost" port)))
  (let ((inhibit-message t)
        (dualstack-mode-peers--all nil))
    (dualstack-mode 1)
    (unwind-protect
        (funcall function (lambda (port)
                            (make-network-process :name "peer" :host "localhost"
                                                  :service port)))
      (dualstack-mode 0))))

(defun dualstack-alone-test--end (process)
  "End PROCESS without a word."
  (set-process-sentinel process #'ignore)
  (dualstack-test-end-process process))

(defmacro dualstack-alone-test--slowly (port &rest body)
  "Run BODY with PORT bound to one whose connects take 50 ms.
Its 127.0.0.1 is silent; a server listens on ::1."
  (declare (indent 1))
  `(dualstack-test-with-stall (,port "--family" "ipv4" "--black-hole")
     (dualstack-test-with-servers ((six 'ipv6 :service ,port))
       (let ((dualstack-loopback-attempt-delay 0.05))
         ,@body))))

(dualstack-deftest dualstack-alone-nobody-runs ()
  "No timer, filter, sentinel or new client's function runs inside a connect."
  (dualstack-alone-test--slowly port
    (dualstack-alone-test--ways
     (lambda (open)
       (dualstack-forget)
       (let* ((ran nil)
              (inside nil)
              (exit (dualstack-test-python-command "pass"))
              (note (lambda (what) (push (cons what inside) ran)))
              (server (dualstack-test-server
                       'ipv4 :log (lambda (&rest _) (funcall note 'log))))
              (client (make-network-process
                       :name "client" :service nil :remote (vector 127 0 0 1 (dualstack-test-port server))
                       :nowait t :noquery t
                       :sentinel (lambda (&rest _) (funcall note 'open))))
              (child (make-process
                      :name "child" :noquery t :connection-type 'pipe
                      :command (dualstack-test-python-command "print('x', end='')")
                      :filter (lambda (&rest _) (funcall note 'filter))
                      :sentinel (lambda (&rest _) (funcall note 'sentinel))))
              (timer (run-at-time 0 nil (lambda () (funcall note 'timer))))
              (idle (run-with-idle-timer 0 t (lambda () (funcall note 'idle))))
              process)
         ;; Ripe, all of them.
         (sleep-for 0)
         (apply #'call-process (car exit) nil nil nil (cdr exit))
         (setq inside t)
         (setq process (funcall open port))
         (setq inside nil)
         (unwind-protect
             (progn
               (dualstack-test-wait
                (lambda ()
                  (cl-every (lambda (what) (assq what ran))
                            '(timer log open filter sentinel))))
               (should-not (rassq t ran)))
           (cancel-timer timer)
           (cancel-timer idle)
           (mapc #'dualstack-alone-test--end (list process client child))
           (dualstack-test-close server)))))))

(dualstack-deftest dualstack-alone-a-filter-that-connects ()
  "A filter that connects gets what it reads in order, whole."
  (dualstack-alone-test--slowly port
    (dualstack-alone-test--ways
     (lambda (open)
       (dolist (chatter '(child network))
         (let* ((heard "")
                (filter (lambda (_process string)
                          (dualstack-forget)
                          (setq heard (concat heard string))
                          (dualstack-alone-test--end (funcall open port))))
                (parts (lambda (send)
                         (dotimes (i 5)
                           (funcall send (number-to-string i))
                           (call-process dualstack-test-python nil nil nil "-c"
                                         "import time; time.sleep(0.01)"))))
                (server (dualstack-test-server 'ipv4))
                (process
                 (if (eq chatter 'child)
                     (make-process :name "chatter" :noquery t :connection-type 'pipe
                                   :command (dualstack-test-python-command "
import sys, time
for i in range(5):
    print(i, end='', flush=True)
    time.sleep(0.02)")
                                   :filter filter :sentinel #'ignore)
                   (make-network-process
                    :name "chatter" :service nil :noquery t :filter filter :sentinel #'ignore
                    :remote (vector 127 0 0 1 (dualstack-test-port server)))))
                (peer (and (eq chatter 'network)
                           (dualstack-test-wait
                            (lambda () (car (dualstack-test-accepted server)))))))
           (when peer
             (funcall parts (lambda (text) (process-send-string peer text))))
           (dualstack-test-wait (lambda () (= 5 (length heard))))
           (should (equal heard "01234"))
           (dualstack-alone-test--end process)
           (dualstack-test-close server)))))))

(dualstack-deftest dualstack-alone-what-a-child-says-last ()
  "The last words and the end of a child during a connect come, in order, once."
  (dualstack-alone-test--slowly port
    (dualstack-alone-test--ways
     (lambda (open)
       (dotimes (_ 5)
         (dualstack-forget)
         (let* ((events nil)
                (child (make-process
                        :name "child" :noquery t :connection-type 'pipe
                        :command (dualstack-test-python-command "print('last', end='')")
                        :filter (lambda (_process text) (push text events))
                        :sentinel (lambda (_process text) (push text events))))
                (filter (process-filter child))
                (sentinel (process-sentinel child))
                (count 0))
           ;; As many connects as it takes the child to end inside one; nobody waits
           ;; between them.  On Windows a child begins so late that the server, which
           ;; accepts nothing meanwhile, would have a full backlog.
           (while (and (process-live-p child)
                       (< (setq count (1+ count)) (if (eq system-type 'windows-nt) 5 100)))
             (dualstack-forget)
             (dualstack-alone-test--end (funcall open port)))
           (should-not events)
           (dualstack-test-wait (lambda () (cdr events)))
           (should (eq filter (process-filter child)))
           (should (eq sentinel (process-sentinel child)))
           (should (equal events '("finished\n" "last")))))))))

(dualstack-deftest dualstack-alone-leaves-no-trace ()
  "Other processes are as they were, stopped ones and those of t included."
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((port (dualstack-test-port server))
           (stopped (make-network-process :name "stopped" :service nil :stop t :noquery t
                                          :sentinel #'ignore
                                          :remote (vector 127 0 0 1 port)))
           (deaf (make-network-process :name "deaf" :service nil :filter t :noquery t
                                       :sentinel #'ignore
                                       :remote (vector 127 0 0 1 port)))
           (pipe (make-pipe-process :name "pipe" :noquery t :buffer (current-buffer)))
           (view (lambda ()
                   (mapcar (lambda (process)
                             (list (process-status process) (process-filter process)
                                   (process-sentinel process) (process-thread process)
                                   (process-contact process t)))
                           (list stopped deaf pipe server))))
           (before (prin1-to-string (funcall view))))
      (delete-process (dualstack-open-network-stream "peer" nil "localhost" port))
      (should (equal (prin1-to-string (funcall view)) before))
      (mapc #'delete-process (list stopped deaf pipe)))))

(dualstack-deftest dualstack-alone-a-singleton-is-opened-once ()
  "A timer that opens the same connection does not do so inside the first open."
  (dualstack-alone-test--slowly port
    (dualstack-alone-test--ways
     (lambda (open)
       (dualstack-forget)
       (let* ((one nil)
              (opened 0)
              (get (lambda ()
                     (or one
                         (progn (setq opened (1+ opened))
                                (setq one (funcall open port))))))
              (timer (run-at-time 0.01 nil get)))
         (funcall get)
         (dualstack-test-wait (lambda () (not (memq timer timer-list))))
         (should (= 1 opened))
         (dualstack-alone-test--end one))))))

;;;; Threads

(defconst dualstack-alone-test--rounds (if (eq system-type 'windows-nt) 8 40)
  "How often threads connect: where one is refused late, each round takes a second.")

(defun dualstack-alone-test--main-hears (port)
  "Return what the main thread hears from a new connection to PORT, or nil.
The descriptors are those that were closed last."
  (let* ((heard nil)
         (process (make-network-process :name "main" :service nil :remote (vector 127 0 0 1 port)
                                        :noquery t :sentinel #'ignore
                                        :filter (lambda (_process text)
                                                  (setq heard text)))))
    (process-send-string process "1")
    (with-timeout (30)
      (while (not heard)
        (accept-process-output nil 0.1)))
    (delete-process process)
    heard))

(dualstack-deftest dualstack-alone-threads-leave-the-main-one-its-ears ()
  "After connects in threads the main thread hears every later connection."
  (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc" "hello")
    (dualstack-test-with-child (six dualstack-test-python "-m" "dualstack_epc" "hello"
                                    "--family" "ipv6")
      (let ((port (dualstack-test-child-port hello))
            (other (dualstack-test-child-port six)))
        (dotimes (_ dualstack-alone-test--rounds)
          (dualstack-forget)
          (let ((process nil))
            (thread-join
             (make-thread
              (lambda ()
                (setq process (dualstack-open-network-stream
                               "thread" nil "localhost" other))
                (dualstack-alone-test--end process))))
            (should process))
          (delete-process (dualstack-open-network-stream "main" nil "localhost" port))
          (should (dualstack-alone-test--main-hears port)))))))

(dualstack-deftest dualstack-alone-the-main-thread-leaves-threads-their-ears ()
  "After races in the main thread, waiting and not, a thread hears its connection."
  (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc" "hello")
    (dualstack-test-with-child (six dualstack-test-python "-m" "dualstack_epc" "hello"
                                    "--family" "ipv6")
      (let ((port (dualstack-test-child-port hello))
            (other (dualstack-test-child-port six)))
        (dotimes (i dualstack-alone-test--rounds)
          (dualstack-forget)
          (if (= 0 (% i 2))
              (delete-process (dualstack-open-network-stream "main" nil "localhost" other))
            (let ((opened nil))
              (dualstack-open-async "localhost" other
                                    :then (lambda (process) (setq opened process)))
              (dualstack-test-wait (lambda () opened))
              (delete-process opened)))
          (let* ((heard nil)
                 (thread
                  (make-thread
                   (lambda ()
                     (let ((process (dualstack-open-network-stream
                                     "thread" nil "localhost" port)))
                       (set-process-filter process (lambda (_process text)
                                                     (setq heard text)))
                       (process-send-string process "1")
                       (with-timeout (30)
                         (while (not heard)
                           (accept-process-output process 0.1)))
                       (dualstack-alone-test--end process))))))
            (thread-join thread)
            (should (equal heard "hello"))))))))

(provide 'dualstack-alone-test)

;;; dualstack-alone-test.el ends here
