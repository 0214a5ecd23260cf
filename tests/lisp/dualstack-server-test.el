;;; dualstack-server-test.el --- Tests of Emacs as the server  -*- lexical-binding: t; -*-

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

;; One port on both loopback addresses.

;;; Code:

(require 'dualstack-test-hosts)

(defun dualstack-server-test--delete (servers)
  "Close SERVERS and what they accepted."
  (mapc #'dualstack-test-close servers))

(dualstack-deftest dualstack-server-answers-on-both ()
  "The same port answers at both loopback literals, and at no wildcard."
  (let* ((servers (dualstack-make-server
                   :name "echo" :service t :noquery t :sentinel #'ignore
                   :filter (lambda (process string)
                             (process-send-string process (upcase string)))))
         (port (dualstack-test-port (car servers))))
    (unwind-protect
        (progn
          (should (equal (mapcar (lambda (server) (process-contact server :family)) servers)
                         '(ipv4 ipv6)))
          (should (equal (mapcar (lambda (server) (process-contact server :local)) servers)
                         (list (vector 127 0 0 1 port) (vector 0 0 0 0 0 0 0 1 port))))
          (dolist (dualstack-policy '(ipv4 ipv6))
            (with-temp-buffer
              (let ((process (dualstack-open-network-stream
                              "peer" (current-buffer) "localhost" port)))
                (set-process-sentinel process #'ignore)
                (process-send-string process "abc")
                (dualstack-test-wait (lambda () (equal (buffer-string) "ABC")))
                (delete-process process)))))
      (dualstack-server-test--delete servers))))

(dualstack-deftest dualstack-server-port-in-use ()
  "A port that is taken at either address is an error that names it."
  (dolist (family '(ipv4 ipv6))
    (dualstack-test-with-servers ((other family))
      (let ((err (should-error (dualstack-make-server
                                :name "server" :noquery t
                                :service (dualstack-test-port other))
                               :type 'file-error)))
        (should (equal (car (last err))
                       (dualstack-address-string
                        (dualstack-loopback-address
                         family (dualstack-test-port other)))))))))

(dualstack-deftest dualstack-server-bad-port ()
  "A port out of range is an error that says so."
  (should (string-match-p "out of range"
                          (cadr (should-error (dualstack-make-server
                                               :name "server" :service 65536))))))

(dualstack-deftest dualstack-server-drawn-ports-collide ()
  "When the drawn port is taken at the other address, another one is found."
  (should (equal
           (dualstack-test-emacs
            ;; Four ports: three of them are taken on IPv6.
            (dualstack-test-host "ipv4/ip_local_port_range '41000 41003'")
            '(let ((taken (mapcar (lambda (port)
                                    (make-network-process
                                     :name "taken" :server t :family 'ipv6
                                     :host "::1" :service port))
                                  '(41000 41001 41003))))
               (prog1 (mapcar (lambda (server) (process-contact server :service))
                              (dualstack-make-server :name "server" :service t))
                 (mapc #'delete-process taken))))
           '(41002 41002))))

(dualstack-deftest dualstack-server-port-is-one-number ()
  "The drawn port is one number at both addresses, after a collision too."
  (let ((real (symbol-function 'dualstack-server--listen-pair))
        (taken nil)
        (orders nil))
    (cl-letf (((symbol-function 'dualstack-server--listen-pair)
               (lambda (args service families)
                 (push families orders)
                 (let ((pair (funcall real args service families)))
                   (if (= 1 (length orders)) ; Somebody else was there first.
                       (progn (push (cadr pair) taken) (list (car pair) nil))
                     pair)))))
      (let* ((servers (dualstack-make-server :name "server" :service t :noquery t))
             (ports (mapcar (lambda (server) (process-contact server :service)) servers)))
        (mapc #'delete-process (append servers taken))
        (should (= 2 (length orders)))
        (should (natnump (car ports)))
        (should (eql (car ports) (cadr ports)))))))

(dualstack-deftest dualstack-server-without-ipv6 ()
  "Without IPv6 the server listens on IPv4, and the log says so."
  (pcase-let ((`(,families ,log)
               (dualstack-test-emacs
                (dualstack-test-host "ipv6/conf/all/disable_ipv6 1")
                '(list (mapcar (lambda (server) (process-contact server :family))
                               (dualstack-make-server :name "server" :service t))
                       (with-current-buffer "*dualstack-log*" (buffer-string))))))
    (should (equal families '(ipv4)))
    (should (string-match-p "listening on 127.0.0.1 only" log))))

(provide 'dualstack-server-test)

;;; dualstack-server-test.el ends here
