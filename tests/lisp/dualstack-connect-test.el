;;; dualstack-connect-test.el --- Tests of the command `dualstack-connect'  -*- lexical-binding: t; -*-

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

;; A buffer that talks to a port.

;;; Code:

(require 'dualstack-test-helper)

(require 'dualstack-connect)

(dualstack-deftest dualstack-connect-talks ()
  "Lines are sent, answers appear, and the echo area says what was connected."
  (dualstack-test-with-child (hello dualstack-test-python "-m" "dualstack_epc"
                                    "hello" "--family" "ipv6")
    (let* ((dualstack-connect--history nil)
           (port (process-get hello 'line))
           (message nil)
           (earlier nil)
           (buffer (cl-letf (((symbol-function 'message)
                              (lambda (&rest args)
                                (push message earlier)
                                (setq message (apply #'format-message args)))))
                     (save-window-excursion (dualstack-connect "localhost" port)))))
      (unwind-protect
          (with-current-buffer buffer
            (should (string-match-p (format "\\`Connected to \\[::1\\]:%s in [0-9.]+ ms" port)
                                    message))
            (should (equal (format "Connecting to localhost:%s... (C-g to quit)" port)
                           (car earlier)))
            (should (derived-mode-p 'comint-mode))
            (insert "hi")
            (comint-send-input)
            (dualstack-test-wait (lambda () (string-match-p "hello" (buffer-string))))
            (should (equal dualstack-connect--history (list port)))
            ;; Again: the same buffer and connection.
            (let ((process (get-buffer-process buffer)))
              (save-window-excursion (dualstack-connect "localhost" port))
              (should (eq process (get-buffer-process buffer)))))
        (delete-process (get-buffer-process buffer))
        (kill-buffer buffer)))))

(dualstack-deftest dualstack-connect-closed-port ()
  "A closed port leaves no buffer, and the error names both addresses."
  (let* ((port (dualstack-test-free-port))
         (err (should-error (dualstack-connect "localhost" port))))
    (should (string-match-p (format "127.0.0.1:%d [Cn][^;]*; \\[::1\\]:%d" port port)
                            (error-message-string err))))
  (dolist (host '("" nil localhost))
    (dolist (command '(dualstack-connect dualstack-diagnose))
      (should (string-match-p "No host" (error-message-string
                                         (should-error (funcall command host 80))))))))

(ert-deftest dualstack-connect-reads-a-peer ()
  "What is typed is trimmed; what is no host or port is the user's error, and not kept."
  (let ((dualstack-connect--history nil))
    (cl-flet ((type (host port)
                (cl-letf (((symbol-function 'read-string) (lambda (&rest _) host))
                          ((symbol-function 'completing-read)
                           (lambda (_prompt _table _predicate _match _initial history &rest _)
                             (when history-add-new-input (add-to-history history port))
                             port)))
                  (condition-case err
                      (dualstack-connect--read-peer)
                    (user-error (cadr err))))))
      (should (equal (type " localhost " " 8080 ") '("localhost" 8080)))
      (should (equal dualstack-connect--history '("8080")))
      (should (string-match-p "\\`No host" (type "  " "80")))
      (should (string-match-p "\\`No port" (type "localhost" " ")))
      (should (string-match-p "out of range" (type "localhost" "70000")))
      (should (string-match-p "Unknown service \"x\"" (type "localhost" "x")))
      (should (equal (type "http://localhost:8080/path" "80")
                     "\"http://localhost:8080/path\" is a URL: give \"localhost\" as host"))
      (should (string-match-p "\"::1\" as host" (type "http://u:p@[::1]:8080" "80")))
      (should (equal dualstack-connect--history '("8080"))))))

(provide 'dualstack-connect-test)

;;; dualstack-connect-test.el ends here
