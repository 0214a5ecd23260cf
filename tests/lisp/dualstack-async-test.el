;;; dualstack-async-test.el --- Tests for connecting without waiting  -*- lexical-binding: t; -*-

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

;; `dualstack-open-async' and `dualstack-cancel' against real servers.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-async)

(dualstack-deftest dualstack-async-then ()
  "The function THEN gets the open process, with all that was asked for."
  (dualstack-test-with-servers ((server 'ipv6))
    (let* ((process nil)
           (handle (dualstack-open-async
                    "localhost" (dualstack-test-port server)
                    :name "peer" :filter #'ignore :noquery t :plist '(a 1)
                    :coding 'binary
                    :then (lambda (opened) (setq process opened))
                    :else #'error)))
      (should-not process)
      (dualstack-test-wait (lambda () process))
      (should (equal (process-name process) "peer"))
      (should (eq (process-status process) 'open))
      (should (eq (process-filter process) #'ignore))
      (should (equal (process-plist process) '(a 1)))
      (should (equal (process-coding-system process) '(binary . binary)))
      (should-not (process-query-on-exit-flag process))
      (dualstack-cancel handle)
      (should (eq (process-status process) 'open))
      (delete-process process))))

(dualstack-deftest dualstack-async-else ()
  "The function ELSE gets the error that the synchronous call signals."
  (let* ((port (dualstack-test-free-port))
         (err nil))
    (dualstack-open-async "localhost" port :then #'error
                          :else (lambda (e) (setq err e)))
    (dualstack-test-wait (lambda () err))
    (should (eq (nth 0 err) 'file-error))
    (should (equal (nth 1 err) "make client process failed"))
    (should (equal (nth 2 err) "Connection refused"))
    (should (string-match-p "\\[::1\\]" (plist-get (nthcdr 3 err) :attempts)))))

(dualstack-deftest dualstack-async-timeout ()
  "The `:timeout' of the call counts."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (let ((dualstack-policy 'ipv4)
          (err nil))
      (dualstack-open-async "localhost" port :timeout 0.1
                            :then #'error :else (lambda (e) (setq err e)))
      (dualstack-test-wait (lambda () err))
      (should (equal (nth 2 err) "Connection timed out")))))

(dualstack-deftest dualstack-async-cancel ()
  "After `dualstack-cancel' neither function is called, whenever it comes."
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((called nil)
           (begin (lambda ()
                    (dualstack-open-async
                     "localhost" (dualstack-test-port server)
                     :then (lambda (_) (setq called t))
                     :else (lambda (_) (setq called t))))))
      (dualstack-cancel (funcall begin))
      ;; Connected, and not delivered: the sentinel's call is ours, outside any
      ;; wait, so that the timer for the delivery cannot have run.
      (let* ((handle (funcall begin))
             (process (dualstack-attempt--process
                       (car (dualstack-race--attempts handle)))))
        (funcall (process-sentinel process) process "open\n")
        (should (eq (dualstack-race--state handle) 'won))
        (dualstack-cancel handle))
      (accept-process-output nil 0.05)
      (should-not called))))

(dualstack-deftest dualstack-async-cancel-after-the-failure ()
  "Nor is ELSE called if the race has failed by then, but was not told of."
  (dualstack-test-with-stall (port "--family" "ipv4" "--black-hole")
    (let ((dualstack-policy 'ipv4)
          (called nil))
      (dotimes (_ 5)
        (let* ((handle (dualstack-open-async "localhost" port
                                             :then (lambda (_) (setq called t))
                                             :else (lambda (_) (setq called t))))
               (process (dualstack-attempt--process
                         (car (dualstack-race--attempts handle)))))
          ;; Outside any wait, so that the timer that tells cannot have run.
          (funcall (process-sentinel process) process "failed with code 111\n")
          (should (eq (dualstack-race--state handle) 'failed))
          (dualstack-cancel handle)))
      (accept-process-output nil 0.05)
      (should-not called))))

(dualstack-deftest dualstack-async-more-than-may-race ()
  "Those beyond the limit wait for their turn, and all are connected."
  (dualstack-test-with-servers ((server 'ipv6))
    (let ((dualstack-async--limit 3)
          (opened nil)
          ;; A Windows Emacs has room for 32 sockets, the server's included.
          (count (if (eq system-type 'windows-nt) 6 20))
          (most 0))
      (let ((handles (cl-loop repeat count
                              collect (dualstack-open-async
                                       "localhost" (dualstack-test-port server)
                                       :then (lambda (process) (push process opened))))))
        (dualstack-test-wait
         (lambda ()
           (setq most (max most (cl-count-if
                                 (lambda (race)
                                   (and (dualstack-race--running-p race)
                                        (not (dualstack-race--held-p race))))
                                 handles)))
           (= count (length opened))))
        (should (<= most 3)))
      (mapc #'delete-process opened))))

(dualstack-deftest dualstack-async-waits-take-no-turns ()
  "However many wait for servers that do not come, others are connected."
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((dualstack-async--limit 2)
           (opened nil)
           (port (dualstack-test-free-port))
           (waits (cl-loop repeat 3
                           collect (dualstack-wait-for-port "localhost" port))))
      (dualstack-open-async "localhost" (dualstack-test-port server)
                            :then (lambda (process) (push process opened)))
      (unwind-protect
          (dualstack-test-wait (lambda () opened))
        (mapc #'dualstack-cancel waits))
      (mapc #'delete-process opened))))

(dualstack-deftest dualstack-async-callback-that-signals ()
  "An error in a caller's function harms nothing else."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((process nil)
          (signalled nil)
          (debug-on-error nil)
          (inhibit-message t))
      (dualstack-open-async "localhost" (dualstack-test-port server)
                            :then (lambda (opened)
                                    (delete-process opened)
                                    (setq signalled t)
                                    (error "Deliberate")))
      (dualstack-open-async "localhost" (dualstack-test-port server)
                            :then (lambda (opened) (setq process opened)))
      (dualstack-test-wait (lambda () (and signalled process)))
      (delete-process process))))

(dualstack-deftest dualstack-async-names ()
  "Connections of one name that are made at once have the names of Emacs's own."
  (dualstack-test-with-servers ((server 'ipv6))
    (let ((opened nil))
      (dotimes (_ 6)
        (dualstack-open-async "localhost" (dualstack-test-port server) :name "same"
                              :then (lambda (process) (push process opened))))
      (dualstack-test-wait (lambda () (= 6 (length opened))))
      (dolist (process opened)
        (should (string-match-p "\\`same\\(?:<[0-9]+>\\)?\\'" (process-name process))))
      (mapc #'delete-process opened))))

(dualstack-deftest dualstack-async-many-at-once ()
  "Handles are independent of each other."
  ;; Another process, as Emacs on Windows has 32 sockets at most.
  (dualstack-test-with-child (server dualstack-test-python "-m" "dualstack_epc" "hello"
                                     "--family" "ipv6")
    (let ((opened nil))
      (dotimes (_ 20)
        (dualstack-open-async "localhost" (dualstack-test-child-port server)
                              :then (lambda (process) (push process opened))))
      (dualstack-test-wait (lambda () (= 20 (length opened))))
      (should (= 20 (length (delete-dups (mapcar #'process-name opened)))))
      (mapc #'delete-process opened))))

(dualstack-deftest dualstack-async-other-host ()
  "A host that is to be looked up is connected to, too."
  (let ((host (dualstack-test-hosts-file "127.0.0.1 both.test\n::1 both.test\n")))
    (dualstack-test-with-servers ((six 'ipv6))
      (should (equal (dualstack-test-emacs
                      host
                      `(let (process)
                         (dualstack-open-async "both.test" ,(dualstack-test-port six)
                                               :then (lambda (p) (setq process p))
                                               :else #'error)
                         (while (not process) (accept-process-output nil 0.01))
                         (list (process-status process)
                               (dualstack-address--family (process-contact process :remote)))))
                     '(open ipv6))))))

(dualstack-deftest dualstack-async-unknown-host ()
  "A host without address is an error before the timeout."
  (let ((err nil))
    (dualstack-open-async "no-such-host.invalid" 80 :then #'error :timeout 60
                          :else (lambda (e) (setq err e)))
    (dualstack-test-wait (lambda () err) 30)
    (should (string-match-p
             (if (eq system-type 'windows-nt) "\\`ipv4 .* error 1100[0-9]; ipv6 .* error 1100[0-9]\\'"
               "\\`ipv4 Name or service not known; ipv6 Name or service not known\\'")
             (plist-get (nthcdr 3 err) :attempts)))))

(provide 'dualstack-async-test)

;;; dualstack-async-test.el ends here
