;;; dualstack-race-test.el --- Tests of the race engine  -*- lexical-binding: t; -*-

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

;; Real sockets throughout: servers in this Emacs, and addresses that stall.

;;; Code:

(require 'dualstack-test-hosts)

(defconst dualstack-race-test--coding '(utf-8-unix . utf-8-unix))

(defun dualstack-race-test--addresses (port &rest families)
  "Return the loopback addresses of FAMILIES with PORT."
  (mapcar (lambda (family) (dualstack-loopback-address family port)) families))

(defun dualstack-race-test--run (addresses &rest options)
  "Race to ADDRESSES with OPTIONS, which may have `:args', and return the race."
  (let ((args (or (plist-get options :args)
                  (list :name "test" :host "localhost" :service 1))))
    (setq options (cl-loop for (key value) on options by #'cddr
                           unless (eq key :args) append (list key value)))
    (apply #'dualstack-race--run addresses args
           :coding dualstack-race-test--coding options)))

(defun dualstack-race-test--outcomes (race)
  "Return the outcomes of the attempts of RACE, in their order."
  (mapcar #'dualstack-attempt--outcome
          (reverse (dualstack-race--attempts race))))

(dualstack-deftest dualstack-race-first-address-wins ()
  "A server at the first address gets one connection, the second address none."
  (dualstack-test-with-servers ((four 'ipv4))
    (dualstack-test-with-servers ((six 'ipv6 :service (dualstack-test-port four)))
      (let* ((race (dualstack-race-test--run
                    (dualstack-race-test--addresses (dualstack-test-port four)
                                                    'ipv4 'ipv6)))
             (process (dualstack-race--adopt race)))
        (should (eq (process-status process) 'open))
        (should (equal (dualstack-race-test--outcomes race) '(won)))
        (should (= 1 (length (dualstack-test-accepted four))))
        (should (= 0 (length (dualstack-test-accepted six))))
        (delete-process process)))))

(dualstack-deftest dualstack-race-next-attempt-at-once-on-failure ()
  "A refusal starts the next attempt; the attempt delay does not count."
  (dualstack-test-with-servers ((six 'ipv6))
    (let* ((race (dualstack-race-test--run
                  (dualstack-race-test--addresses (dualstack-test-port six)
                                                  'ipv4 'ipv6)
                  :attempt-delay 30))
           (process (dualstack-race--adopt race)))
      (should (equal (dualstack-race-test--outcomes race)
                     '("Connection refused" won)))
      (should (equal (aref (process-contact process :remote) 7) 1))
      (delete-process process))))

(dualstack-deftest dualstack-race-second-attempt-after-delay ()
  "An address that does not answer is overtaken by the next, after the delay."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (dualstack-test-with-servers ((six 'ipv6 :service port))
      (let* ((race (dualstack-race-test--run
                    (dualstack-race-test--addresses port 'ipv4 'ipv6)
                    :attempt-delay 0.05))
             (attempts (reverse (dualstack-race--attempts race)))
             (process (dualstack-race--adopt race)))
        (should (equal (dualstack-race-test--outcomes race) '(lost won)))
        (should (>= (- (dualstack-attempt--start (nth 1 attempts))
                       (dualstack-attempt--start (nth 0 attempts)))
                    0.05))
        (should (equal (process-name process) "test"))
        (should (eq (get-process "test") process))
        (should (equal (process-contact process :name) "test"))
        (delete-process process)))))

(dualstack-deftest dualstack-race-name-is-made-unique-as-by-emacs ()
  "With another process of the name, the winner is called as Emacs would."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (dualstack-test-with-servers ((six 'ipv6 :service port))
      (let ((other (make-pipe-process :name "test" :noquery t
                                      :buffer (current-buffer))))
        (unwind-protect
            (let ((process (dualstack-race--adopt
                            (dualstack-race-test--run
                             (dualstack-race-test--addresses port 'ipv4 'ipv6)
                             :attempt-delay 0.01))))
              (should (equal (process-name process) "test<1>"))
              (should (eq (get-process "test<1>") process))
              (delete-process process))
          (delete-process other))))))

(dualstack-deftest dualstack-race-name-of-any-characters ()
  "The name is exact also where its first character is not ASCII."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (dualstack-test-with-servers ((six 'ipv6 :service port))
      (dolist (name '("é" "漢字" "a" " hidden" "A"))
        (let ((process (dualstack-race--adopt
                        (dualstack-race-test--run
                         (dualstack-race-test--addresses port 'ipv4 'ipv6)
                         :args (list :name (copy-sequence name)
                                     :host "localhost" :service port)
                         :attempt-delay 0.01))))
          (should (equal (process-name process) name))
          (should (eq (get-process name) process))
          (delete-process process))))))

(dualstack-deftest dualstack-race-winner-takes-all ()
  "When both addresses connect in one instant, one connection is left."
  (dualstack-test-with-servers ((four 'ipv4))
    (dualstack-test-with-servers ((six 'ipv6 :service (dualstack-test-port four)))
      (let ((race (dualstack-race--start
                   (dualstack-race-test--addresses (dualstack-test-port four)
                                                   'ipv4 'ipv6)
                   (list :name "test" :host "localhost" :service 1)
                   :coding dualstack-race-test--coding :attempt-delay 0)))
        ;; Begin the second attempt before Emacs looks at the first's socket.
        (dualstack-race--attempt-next race (float-time))
        (dualstack-test-wait (lambda () (not (dualstack-race--running-p race))))
        (should (equal (sort (mapcar (lambda (outcome) (format "%s" outcome))
                                     (dualstack-race-test--outcomes race))
                             #'string<)
                       '("lost" "won")))
        (let ((process (dualstack-race--adopt race)))
          (dualstack-test-wait
           (lambda ()
             (= 1 (+ (length (dualstack-test-accepted four))
                     (length (dualstack-test-accepted six))))))
          (should (eq (process-status process) 'open))
          (delete-process process))))))

(dualstack-deftest dualstack-race-all-refused ()
  "When every address refuses, each attempt says so."
  (let ((race (dualstack-race-test--run
               (dualstack-race-test--addresses (dualstack-test-free-port)
                                               'ipv4 'ipv6))))
    (should (eq (dualstack-race--state race) 'failed))
    (should-not (dualstack-race--winner race))
    (should (equal (dualstack-race-test--outcomes race)
                   '("Connection refused" "Connection refused")))))

(dualstack-deftest dualstack-race-no-addresses ()
  "A race to no address fails."
  (should (eq (dualstack-race--state (dualstack-race-test--run nil)) 'failed)))

(dualstack-deftest dualstack-race-timeout ()
  "The timeout bounds the whole race."
  (let ((check
         (lambda (port)
           (let* ((start (float-time))
                  (race (dualstack-race-test--run
                         (dualstack-race-test--addresses port 'ipv4 'ipv6)
                         :timeout 0.2 :attempt-delay 0.01)))
             (should (eq (dualstack-race--state race) 'timeout))
             (should (equal (dualstack-race-test--outcomes race) '(timeout timeout)))
             (should (< 0.2 (- (float-time) start) 20))))))
    (if (eq system-type 'windows-nt)
        (funcall check (or (dualstack-test-silent-port 'both)
                           (ert-skip "needs a port that answers nothing: WINDOWS_NET")))
      (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
        (dualstack-test-with-stall (other "--family" "ipv6" "--port"
                                          (number-to-string port) "--black-hole")
          (funcall check other))))))

(dualstack-deftest dualstack-race-timeout-after-a-look ()
  "An Emacs that was busy past the timeout finds what has connected meanwhile."
  ;; There a thread begins to report it only then, and may need longer.
  (skip-unless (not (eq system-type 'windows-nt)))
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((won nil) (lost nil)
           (handle (dualstack-open-async "localhost" (dualstack-test-port server)
                                         :timeout 0.05 :noquery t
                                         :then (lambda (process) (setq won process))
                                         :else (lambda (err) (setq lost err))))
           (end (+ (float-time) 0.1)))
      (while (< (float-time) end))
      (dualstack-test-wait (lambda () (or won lost)))
      (should-not lost)
      (dualstack-cancel handle)
      (delete-process won))))

(dualstack-deftest dualstack-race-waits-as-long-as-windows-lately-took ()
  "Where connections are reported late, the second address has to wait longer."
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((system-type 'windows-nt)
           (dualstack-attempt--usual 0)
           (addresses (mapcar (lambda (family)
                                (dualstack-loopback-address family (dualstack-test-port server)))
                              '(ipv4 ipv6)))
           (delay (lambda ()
                    (let ((race (dualstack-race--prepare addresses '(:name "peer")
                                                         :coding '(binary . binary)
                                                         :attempt-delay 0.01)))
                      (dualstack-race--attempt-next race 0)
                      (prog1 (dualstack-race--due race)
                        (dualstack-race--cancel race)))))
           (attempt (dualstack-attempt--make :start 0 :end 0.03)))
      (should (= 0.01 (funcall delay)))
      (dualstack-attempt--note-time attempt)
      (should (< 0.03 (funcall delay) 0.05))
      (setf (dualstack-attempt--end attempt) 9)
      (dualstack-attempt--note-time attempt)
      (should (= 0.05 (funcall delay)))
      (setf (dualstack-attempt--end attempt) 0.001)
      (dotimes (_ 90)
        (dualstack-attempt--note-time attempt))
      (should (= 0.01 (funcall delay)))
      (setq dualstack-attempt--usual 9
            system-type 'gnu/linux)
      (should (= 0.01 (funcall delay))))))

(dualstack-deftest dualstack-race-silence-counts-while-the-clock-is-right ()
  "Silence means nobody after some rounds, of which late ones do not count."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (let ((race (dualstack-race--prepare
                 (list (dualstack-loopback-address 'ipv4 port)) '(:name "peer")
                 :coding '(binary . binary) :renew 0.02 :patience 0.06)))
      (dualstack-race--step race)
      (should (= 3 (dualstack-race--rounds race)))
      ;; The machine was busy for a minute.
      (dualstack-race--renew-all race (+ 60 (dualstack-race--again race)))
      (should (= 3 (dualstack-race--rounds race)))
      (dotimes (_ 2)
        (dualstack-race--renew-all race (dualstack-race--again race)))
      (should (dualstack-race--running-p race))
      (dualstack-race--renew-all race (dualstack-race--again race))
      (should (eq 'unanswered (dualstack-race--state race)))
      (should (equal '(timeout) (mapcar #'dualstack-attempt--outcome
                                        (dualstack-race--attempts race)))))))

(dualstack-deftest dualstack-race-renewal-keeps-what-is-not-told ()
  "A failure that Emacs has not told when attempts are renewed counts.
The attempt is not dialled again, which would forget it."
  (let* ((port (dualstack-test-free-port))
         (race (dualstack-race--prepare
                (list (dualstack-loopback-address 'ipv4 port)) '(:name "peer")
                :coding '(binary . binary) :renew 60 :patience 600)))
    (dualstack-race--step race)
    (let ((process (dualstack-attempt--process (car (dualstack-race--attempts race)))))
      (set-process-sentinel process #'ignore)
      (dualstack-test-wait (lambda () (eq (process-status process) 'failed)))
      (dualstack-race--renew-all race (dualstack-race--again race))
      (should (eq process (dualstack-attempt--process (car (dualstack-race--attempts race)))))
      (dualstack-race--step race)
      (should (eq 'failed (dualstack-race--state race)))
      (should (equal '("Connection refused") (mapcar #'dualstack-attempt--outcome
                                                     (dualstack-race--attempts race)))))))

(dualstack-deftest dualstack-race-cancel ()
  "A cancelled race closes its attempts and calls nothing."
  (dualstack-test-with-stall (port "--black-hole")
    (let* ((called nil)
           (race (dualstack-race--start
                  (dualstack-race-test--addresses port 'ipv6)
                  (list :name "test" :host "localhost" :service port)
                  :coding dualstack-race-test--coding
                  :timeout 10 :on-end (lambda (_race) (setq called t)))))
      (should (dualstack-race--running-p race))
      (dualstack-race--cancel race)
      (should (eq (dualstack-race--state race) 'cancelled))
      (should (equal (dualstack-race-test--outcomes race) '(cancelled)))
      (dualstack-race--cancel race)
      (should-not (get-process "test"))
      (should-not called))))

(dualstack-deftest dualstack-race-cancel-before-adoption ()
  "A race that was won and not adopted can be cancelled."
  (dualstack-test-with-servers ((four 'ipv4))
    (let ((race (dualstack-race-test--run
                 (dualstack-race-test--addresses (dualstack-test-port four) 'ipv4))))
      (dualstack-race--cancel race)
      (should (eq (dualstack-race--state race) 'cancelled))
      (should-not (get-process "test")))))

(dualstack-deftest dualstack-race-cancel-after-adoption ()
  "The process of an adopted race is the caller's."
  (dualstack-test-with-servers ((four 'ipv4))
    (let* ((race (dualstack-race-test--run
                  (dualstack-race-test--addresses (dualstack-test-port four) 'ipv4)))
           (process (dualstack-race--adopt race)))
      (dualstack-race--cancel race)
      (should (eq (process-status process) 'open))
      (delete-process process))))

(dualstack-deftest dualstack-race-without-nowait ()
  "Without `:nowait' the addresses are dialled one after the other."
  (let ((dualstack-race--nowait nil))
    (dualstack-test-with-servers ((six 'ipv6))
      (let* ((race (dualstack-race-test--run
                    (dualstack-race-test--addresses (dualstack-test-port six)
                                                    'ipv4 'ipv6)))
             (process (dualstack-race--adopt race)))
        (should (equal (dualstack-race-test--outcomes race)
                       '("Connection refused" won)))
        (should (eq (process-status process) 'open))
        (should (= 1 (length (dualstack-test-accepted six))))
        (delete-process process)))))

(dualstack-deftest dualstack-race-misreported-by-windows ()
  "On Windows a failure with code 14 of an IPv6 attempt is dialled again."
  (dualstack-test-with-servers ((six 'ipv6))
    (let* ((system-type 'windows-nt)
           (race (dualstack-race--start
                  (dualstack-race-test--addresses (dualstack-test-port six) 'ipv6)
                  (list :name "test" :host "localhost" :service 1)
                  :coding dualstack-race-test--coding))
           (attempt (car (dualstack-race--attempts race))))
      (should (dualstack-race--running-p race))
      ;; The event that w32 builds give to the sentinel of a connected socket.
      (funcall (process-sentinel (dualstack-attempt--process attempt))
               (dualstack-attempt--process attempt) "failed with code 14\n")
      (should (eq (dualstack-race--state race) 'won))
      (let ((process (dualstack-race--adopt race)))
        (should (equal (process-name process) "test"))
        (should (eq (process-status process) 'open))
        (delete-process process)))))

(dualstack-deftest dualstack-race-lost-by-windows ()
  "On Windows a connect that Emacs never tells of is made again, to a literal address too."
  (dualstack-test-with-servers ((four 'ipv4))
    (let* ((system-type 'windows-nt)
           (heard 0)
           (lose (lambda (&rest _) (> (setq heard (1+ heard)) 1)))
           (start (float-time)))
      (advice-add 'dualstack-race--hear :before-while lose)
      (unwind-protect
          (delete-process (dualstack-open-network-stream "test" nil "127.0.0.1"
                                                         (dualstack-test-port four)))
        (advice-remove 'dualstack-race--hear lose))
      (should (= 2 heard))
      (should (< 3 (- (float-time) start))))))

(defmacro dualstack-race-test-with-quit (function count &rest body)
  "Run BODY, and quit when FUNCTION is called for the COUNTth time.
FUNCTION is a symbol.  Nobody's timer runs in a race."
  (declare (indent 2))
  `(let* ((calls 0)
          (quit (lambda (&rest _)
                  (when (= ,count (setq calls (1+ calls)))
                    (setq quit-flag t)))))
     (advice-add ,function :before quit)
     (unwind-protect
         (progn ,@body)
       (advice-remove ,function quit))))

(dualstack-deftest dualstack-race-quit ()
  "Quitting during the wait closes every attempt."
  (dualstack-test-with-stall (port "--black-hole")
    (dualstack-race-test-with-quit 'dualstack-race--time-left 2
      (should (eq 'quit
                  (condition-case nil
                      (dualstack-race-test--run
                       (dualstack-race-test--addresses port 'ipv6)
                       :timeout 5 :renew 0.02)
                    (quit 'quit))))
      (should-not (get-process "test")))))

(dualstack-deftest dualstack-race-quit-at-any-moment ()
  "Wherever quitting hits, nothing is left; the clean-up check sees to that."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (dualstack-test-with-servers ((six 'ipv6 :service port))
      (dolist (function '(dualstack-attempt--dial dualstack-attempt--close
                          dualstack-attempt--adopt dualstack-attempt--failure
                          dualstack-race--attempt-next dualstack-race--connected
                          dualstack-race--settle dualstack-race--time-left
                          dualstack-race--read-news dualstack-race--adopt
                          dualstack-alone--call dualstack-alone--release
                          dualstack-memory--order dualstack--note dualstack--adopt
                          dualstack--learn dualstack-memory--watch))
        (dotimes (count 3)
          (dualstack-forget)
          (let ((outcome
                 (condition-case nil
                     (dualstack-race-test-with-quit function (1+ count)
                       (let ((process (dualstack-make-network-process
                                       :name "test" :host "localhost" :service port)))
                         (delete-process process)
                         'connected))
                   (quit 'quit))))
            (ert-info ((format "%s, call %d: %s" function (1+ count) outcome))
              (should-not (get-process "test"))
              (should-not quit-flag)
              (when (= count 0)
                (should (eq outcome 'quit)))))
          (mapc #'delete-process (dualstack-test-accepted six)))))))

(dualstack-deftest dualstack-race-quit-where-inhibited ()
  "In a timer, quitting ends the wait at once and stays pending."
  (dualstack-test-with-stall (port "--black-hole")
    (let* ((race nil)
           (inhibit-quit t)
           (time-left (symbol-function 'dualstack-race--time-left))
           (start (float-time)))
      (cl-letf (((symbol-function 'dualstack-race--time-left)
                 (lambda (race)
                   (setq quit-flag t)
                   (funcall time-left race))))
        (setq race (dualstack-race-test--run
                    (dualstack-race-test--addresses port 'ipv6) :timeout 30)))
      (should (eq (dualstack-race--state race) 'cancelled))
      (should (< (- (float-time) start) 10))
      (should quit-flag)
      (setq quit-flag nil))))

(dualstack-deftest dualstack-race-buffer-killed ()
  "A buffer killed during a race in the background ends its attempts."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (let* ((buffer (generate-new-buffer "killed"))
           (race (dualstack-race--start
                  (dualstack-race-test--addresses port 'ipv4)
                  (list :name "test" :buffer buffer
                        :host "localhost" :service port)
                  :coding dualstack-race-test--coding :timeout 5)))
      (kill-buffer buffer)
      (dualstack-test-wait (lambda () (not (dualstack-race--running-p race))))
      (should (eq (dualstack-race--state race) 'failed)))))

(dualstack-deftest dualstack-race-refuses-a-connection-to-itself ()
  "A socket that the kernel connected to itself counts as refused."
  (let ((value
         (dualstack-test-emacs
          (dualstack-test-host "ipv4/ip_local_port_range '41000 41001'")
          '(let ((outcomes nil))
             (dotimes (_ 40)
               (push (condition-case err
                         (let ((process (make-network-process
                                         :name "plain" :host "127.0.0.1"
                                         :service 41000)))
                           (delete-process process)
                           'self)
                       (file-error (nth 2 err)))
                     outcomes))
             (list (and (memq 'self outcomes) t)
                   (let (ours)
                     (dotimes (_ 40)
                       (condition-case err
                           (progn (delete-process
                                   (dualstack-make-network-process
                                    :name "ours" :host "localhost" :service 41000))
                                  (push 'self ours))
                         (file-error (push (nth 2 err) ours))))
                     (delete-dups ours))
                   (let (ours)
                     (dotimes (_ 40)
                       (dualstack-memory--remember 41000 'ipv4)
                       (condition-case err
                           (progn (delete-process
                                   (dualstack-make-network-process
                                    :name "ours" :host "localhost" :service 41000))
                                  (push 'self ours))
                         (file-error (push (nth 2 err) ours))))
                     (delete-dups ours)))))))
    ;; The kernel does it to the plain call, so the case is really met.
    (should (nth 0 value))
    (should (equal (nth 1 value) '("Connection refused")))
    (should (equal (nth 2 value) '("Connection refused")))))

(provide 'dualstack-race-test)

;;; dualstack-race-test.el ends here
