;;; dualstack-published-test.el --- Tests of servers in WSL and containers  -*- lexical-binding: t; -*-

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

;; A network namespace stands for the container: the server listens on the
;; 127.0.0.1 in there, and a relay publishes its port on one family of this host.

;;; Code:

(require 'dualstack-diagnose-helper)
(require 'dualstack-test-hosts)
(require 'dualstack-mode)

(defun dualstack-published-test-child (address)
  "Start a relay on ADDRESS to a server in a namespace, or skip the test."
  (unless (or (eq system-type 'windows-nt) (executable-find "ip"))
    (ert-skip "needs ip (Debian: iproute2)"))
  (condition-case err
      (apply #'dualstack-test-child
             (dualstack-test-there
              "python" (dualstack-test-name-there (dualstack-test-support "published.py")) address))
    (error
     (ert-skip (format "needs unshare, ip and leave to make a network namespace: %s"
                       (error-message-string err))))))

(defun dualstack-published-test-greeting (port)
  "Connect to PORT of localhost as any package does, and return the first line."
  (with-temp-buffer
    (let ((process (make-network-process :name "published" :host "localhost" :service port
                                         :buffer (current-buffer) :noquery t
                                         :sentinel #'ignore)))
      (unwind-protect
          (dualstack-test-wait (lambda ()
                                 (goto-char (point-min))
                                 (and (re-search-forward "\\(.*\\)\n" nil t) (match-string 1))))
        (delete-process process)))))

(dualstack-deftest dualstack-published-on-one-family ()
  "A server in a container is reached by localhost, whichever family its relay has.
The diagnosis names that family."
  (dolist (case '(("::1" "127.0.0.1" ipv6-only "::1 only: clients of 127.0.0.1 do not reach it")
                  ("127.0.0.1" "::1" ipv4-only "127.0.0.1 only")))
    (pcase-let* ((`(,relayed ,other ,kind ,text) case)
                 (child (dualstack-published-test-child relayed)))
      (unwind-protect
          (let ((port (dualstack-test-child-port child)))
            (should-error (make-network-process :name "other" :host other :service port)
                          :type 'file-error)
            (dualstack-mode 1)
            (should (equal "hello from inside" (dualstack-published-test-greeting port)))
            (should (eq kind (dualstack-diagnose-test-kind port)))
            (should (string-match-p (regexp-quote text)
                                    (dualstack-diagnose--text
                                     (dualstack-diagnose-test-facts "localhost" port)))))
        (dualstack-mode -1)
        (dualstack-test-end child)))))

(provide 'dualstack-published-test)

;;; dualstack-published-test.el ends here
