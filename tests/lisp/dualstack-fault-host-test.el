;;; dualstack-fault-host-test.el --- When the host itself is at fault  -*- lexical-binding: t; -*-

;; Copyright (C) 2026 The dualstack authors

;; Author: The dualstack authors
;; Maintainer: The dualstack authors
;; Version: 0.1.0
;; Keywords: comm, processes
;; URL: https://github.com/dualstack-emacs/dualstack
;; Package-Requires: ((emacs "27.1"))

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

;; The clock is set in the middle of a wait, and an Emacs runs out of file
;; descriptors.  Both are real, in an Emacs of their own.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-epc)

(defun dualstack-fault-host-jump (seconds &rest forms)
  "Run FORMS in an Emacs whose clock jumps by SECONDS in 0.2 s.
Return the value of the last one, and the seconds that the clock went on
meanwhile, but for those."
  (let ((library (car (file-expand-wildcards "/usr/lib/*/faketime/libfaketime.so.1")))
        (file (make-temp-file "clock" nil nil "+0")))
    (unwind-protect
        (progn
          (unless library
            (ert-skip "needs libfaketime (Debian: libfaketime)"))
          (apply #'dualstack-test-emacs
                 (list "env" (concat "LD_PRELOAD=" library)
                       (concat "FAKETIME_TIMESTAMP_FILE=" file)
                       "FAKETIME_NO_CACHE=1" "FAKETIME_DONT_FAKE_MONOTONIC=1")
                 '(setq start (float-time))
                 `(set-process-query-on-exit-flag
                   (start-process "jump" nil "env" "-u" "LD_PRELOAD" "sh" "-c"
                                  ,(format "sleep 0.2; echo %+d > %s" seconds (shell-quote-argument file)))
                   nil)
                 (list `(let ((value (progn ,@forms)))
                          (list value (- (float-time) start ,seconds))))))
      (delete-file file))))

;; When the clock is set back, each wait of Emacs itself goes on for as much
;; longer, as it is for a time of that clock; and timers come as much later.
(dualstack-deftest dualstack-fault-host-clock-race ()
  "A race ends with an error, in its timeout, when the clock is set meanwhile."
  (dualstack-test-with-child (first dualstack-test-python (dualstack-test-support "stall.py")
                                    "--family" "ipv4" "--black-hole")
    (let ((port (dualstack-test-child-port first)))
      (dualstack-test-with-child
          (second dualstack-test-python (dualstack-test-support "stall.py") "--family" "ipv6"
                   "--port" (number-to-string port) "--black-hole")
        (dolist (jump '(3600 -1))
          (pcase-let ((`(,err ,seconds)
                       (dualstack-fault-host-jump
                        jump
                        `(condition-case err
                             (let ((dualstack-connect-timeout 1))
                               (dualstack-make-network-process
                                :name "late" :host "localhost" :service ,port))
                           (error (error-message-string err))))))
            (should (string-match-p (format "127.0.0.1:%d timeout; \\[::1\\]:%d timeout" port port)
                                    err))
            (should (< seconds 30))))))))

(dualstack-deftest dualstack-fault-host-clock-call ()
  "A call ends, once, when the clock is set meanwhile, and the next one works."
  (dualstack-test-with-child (server dualstack-test-python "-c" "
import time
from dualstack_epc.drop_in.server import DualStackEPCServer as Server
server = Server()
server.register_function(lambda: time.sleep(60), 'sleep')
server.register_function(lambda: 'hello', 'hello')
server.print_port()
server.serve_forever()")
    (dolist (jump '(3600 -1))
      (pcase-let ((`((,ends ,hello) ,seconds)
                   (dualstack-fault-host-jump
                    jump
                    '(require 'dualstack-epc)
                    `(let ((connection (dualstack-epc-connect
                                        "localhost" ,(dualstack-test-child-port server)))
                           (ends nil))
                       (dualstack-epc-call-async connection 'sleep nil :timeout 1
                                                 :then (lambda (_) (push 'reply ends))
                                                 :else (lambda (err) (push (car err) ends)))
                       (push (condition-case err
                                 (dualstack-epc-call connection 'sleep nil :timeout 1)
                               (error (car err)))
                             ends)
                       (while (not (cdr ends))
                         (accept-process-output nil 0.05))
                       (prog1 (list ends (dualstack-epc-call connection 'hello nil))
                         (dualstack-epc-close connection))))))
        (should (equal ends '(dualstack-epc-timeout dualstack-epc-timeout)))
        (should (equal hello "hello"))
        (should (< seconds 30))))))

(dualstack-deftest dualstack-fault-host-descriptors ()
  "An Emacs without descriptors says so, keeps what it has, and goes on later."
  (dualstack-test-with-child (server dualstack-test-python "-m" "dualstack_epc" "serve")
    (let ((port (dualstack-test-child-port server)))
      (pcase-let
          ((`(,err ,hello ,count ,again)
            (dualstack-test-emacs
             ;; On Windows Emacs has 32 at most.
             (unless (eq system-type 'windows-nt)
               '("sh" "-c" "ulimit -n 64; exec \"$@\"" "--"))
             '(require 'dualstack-epc)
             `(let* ((connection (dualstack-epc-connect "localhost" ,port))
                     (open nil)
                     (err nil))
                (while (not err)
                  (condition-case failure
                      (push (dualstack-make-network-process :name "open" :host "localhost"
                                                            :service ,port)
                            open)
                    (error (setq err failure))))
                (prog1 (list (error-message-string err)
                             (dualstack-epc-call connection 'hello nil)
                             (length open)
                             (progn
                               (mapc #'delete-process open)
                               (process-status
                                (dualstack-make-network-process
                                 :name "again" :host "localhost" :service ,port))))
                  (dualstack-epc-close connection))))))
        (should (string-match-p "Too many open files\\|No file descriptors" err))
        (should (string-match-p (format "127.0.0.1:%d" port) err))
        (should (equal hello "hello"))
        (should (> count 20))
        (should (eq again 'open))))))

(when (eq system-type 'windows-nt)
  (dualstack-test-leave-out "\\`dualstack-fault-host-clock" "needs libfaketime"))

(provide 'dualstack-fault-host-test)

;;; dualstack-fault-host-test.el ends here
