;;; dualstack-diagnose-helper.el --- Facts and servers for the tests of diagnosis  -*- lexical-binding: t; -*-

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

;; Facts that are made up, facts of real listeners, and such listeners.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-diagnose)

(defun dualstack-diagnose-test-localhost (&rest hosts)
  "Return HOSTS, strings, as the addresses of localhost of some machine."
  (mapcar (lambda (host)
            (dualstack-loopback-address (if (equal host "::1") 'ipv6 'ipv4) 0))
          hosts))

(defun dualstack-diagnose-test-made (probes &rest slots)
  "Return facts about localhost with PROBES and SLOTS, where localhost is as usual.
PROBES are lists (ADDRESS OUTCOME SECONDS [THEN]), ADDRESS being a string."
  (apply #'dualstack-diagnose--facts-make
         (append slots
                 (list :host "localhost" :port 8080 :lookup 0.001
                       :addresses (dualstack-diagnose-test-localhost "::1" "127.0.0.1")
                       :localhost (dualstack-diagnose-test-localhost "::1" "127.0.0.1")
                       :probes (mapcar (lambda (probe)
                                         (cons (dualstack-loopback-address
                                                (if (equal (car probe) "::1") 'ipv6 'ipv4)
                                                8080)
                                               (cdr probe)))
                                       probes)))))

(defvar dualstack-diagnose-test-system nil
  "The system that a verdict is for, GNU/Linux if this is nil.")

(defun dualstack-diagnose-test-verdict (&rest args)
  "Return the verdict on facts made of ARGS, and check that its text fits."
  (let ((system-type (or dualstack-diagnose-test-system 'gnu/linux))
        (facts (apply #'dualstack-diagnose-test-made args)))
    (dualstack-diagnose-test-fits (dualstack-diagnose--text facts))
    (dualstack-diagnose--verdict facts)))

(defun dualstack-diagnose-test-fits (text)
  "Check that TEXT fits a terminal of 80 columns, and 24 lines with its buttons."
  (let ((lines (split-string text "\n")))
    (dolist (line lines)
      (should (<= (string-width line) 79)))
    (should (<= (length lines) 19))))

(defun dualstack-diagnose-test-facts (host port)
  "Return the facts about HOST and PORT."
  (let (result)
    (dualstack-diagnose--probe host port (lambda (facts) (setq result facts)))
    (dualstack-test-wait (lambda () result) 30)))

(defun dualstack-diagnose-test-kind (port &optional host)
  "Return the verdict's kind for PORT of HOST, by default localhost."
  (let* ((process-environment (append '("http_proxy" "HTTP_PROXY" "all_proxy" "ALL_PROXY")
                                      process-environment))
         (facts (dualstack-diagnose-test-facts (or host "localhost") port)))
    (dualstack-diagnose-test-fits (dualstack-diagnose--text facts))
    (car (dualstack-diagnose--verdict facts))))

(defmacro dualstack-diagnose-test-with-hello (binding &rest body)
  "Run BODY beside a hello server; BINDING is (PORT FAMILY [AT])."
  (declare (indent 1))
  `(dualstack-test-with-child (,(intern (format "%s-child" (car binding)))
                               dualstack-test-python "-m" "dualstack_epc" "hello"
                               "--family" ,(nth 1 binding)
                               "--port" ,(if (nth 2 binding)
                                             `(number-to-string ,(nth 2 binding)) "0"))
     (let ((,(car binding) (dualstack-test-child-port
                            ,(intern (format "%s-child" (car binding))))))
       ,@body)))

(defun dualstack-diagnose-test-python (port-line &rest binds)
  "Return a Python program that listens at BINDS, on one port, and prints it.
Each of BINDS is a host; PORT-LINE is what is done afterwards."
  (concat "
import socket, sys
port = 0
sockets = []
for host in " (format "[%s]" (mapconcat #'prin1-to-string binds ", ")) ":
    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ':' in host: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != '::'))
    s.bind((host, port))
    s.listen()
    port = s.getsockname()[1]
    sockets.append(s)
print(port, flush=True)
" port-line "
sys.stdin.read()"))

(provide 'dualstack-diagnose-helper)

;;; dualstack-diagnose-helper.el ends here
