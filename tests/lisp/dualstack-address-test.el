;;; dualstack-address-test.el --- Tests of addresses and the memory  -*- lexical-binding: t; -*-

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

;; Names, literals, families, ports, and what is remembered.

;;; Code:

(require 'dualstack-test-hosts)

(dualstack-deftest dualstack-address-names-of-localhost ()
  "The names of RFC 6761 are localhost, in any case, and no others are."
  (dolist (name '("localhost" "LOCALHOST" "Localhost." "a.localhost" "a.b.localhost."))
    (should (dualstack-localhost-p name)))
  (dolist (name '("" "." "local" "localhost.com" "notlocalhost" ".localhost"
                  "localhost.." "127.0.0.1" "::1" "ocalhost"))
    (should-not (dualstack-localhost-p name))))

(dualstack-deftest dualstack-address-policy-and-preference ()
  "The options say which loopback addresses there are, and in which order."
  (let ((four [127 0 0 1 80])
        (six [0 0 0 0 0 0 0 1 80]))
    (pcase-dolist (`(,policy ,preferred . ,addresses)
                   `((both ipv4 ,four ,six) (both ipv6 ,six ,four)
                     (ipv4 ipv4 ,four) (ipv4 ipv6 ,four)
                     (ipv6 ipv4 ,six)))
      (let ((dualstack-policy policy)
            (dualstack-preferred-family preferred))
        (should (equal (dualstack-addresses "localhost" 80) addresses))))))

(dualstack-deftest dualstack-address-default-port ()
  "Without a port the addresses end in 0, as Emacs's own do."
  (should (equal (dualstack-addresses "localhost")
                 '([127 0 0 1 0] [0 0 0 0 0 0 0 1 0]))))

(dualstack-deftest dualstack-address-literals ()
  "A literal stands for itself, whatever the policy."
  (dolist (dualstack-policy '(both ipv4 ipv6))
    (should (equal (dualstack-addresses "127.0.0.1" 80) '([127 0 0 1 80])))
    (should (equal (dualstack-addresses "::1" 80) '([0 0 0 0 0 0 0 1 80])))))

(dualstack-deftest dualstack-address-results-are-fresh ()
  "A caller may change the vectors."
  (aset (car (dualstack-addresses "localhost" 80)) 0 10)
  (should (equal (car (dualstack-addresses "localhost" 80)) [127 0 0 1 80])))

(dualstack-deftest dualstack-address-unknown-options ()
  "An option with a wrong value is named, with those that it can have."
  (let ((dualstack-policy 'ipv5))
    (should (string-match-p "dualstack-policy.*ipv5.*both.*ipv4.*ipv6"
                            (cadr (should-error (dualstack-addresses "localhost"))))))
  (let ((dualstack-preferred-family 4))
    (should (string-match-p "dualstack-preferred-family.*4.*ipv4.*ipv6"
                            (cadr (should-error (dualstack-addresses "localhost")))))))

(dualstack-deftest dualstack-address-as-string ()
  "Addresses are written as in a URL."
  (should (equal (dualstack-address-string [127 0 0 1 80]) "127.0.0.1:80"))
  (should (equal (dualstack-address-string [0 0 0 0 0 0 0 1 80]) "[::1]:80"))
  (should (equal (dualstack-address-string [0 0 0 0 0 0 0 1 0]) "::1"))
  (should (equal (dualstack-address-string [8193 0 0 0 0 0 0 1 80])
                 "[2001:0:0:0:0:0:0:1]:80"))
  (should (equal (dualstack-address-string 'ipv6) "ipv6")))

(dualstack-deftest dualstack-address-ports ()
  "A port is a number, digits or the name of a service."
  (should (= 8080 (dualstack-address--port 8080)))
  (should (= 8080 (dualstack-address--port "8080")))
  (should (= 1 (dualstack-address--port "00001")))
  (should (= 65535 (dualstack-address--port 65535)))
  (unless (eq system-type 'windows-nt) ; That has a list of its own.
    (skip-unless (file-readable-p "/etc/services")))
  (should (= 22 (dualstack-address--port "ssh")))
  ;; An alias.
  (should (= 25 (dualstack-address--port "mail"))))

(dualstack-deftest dualstack-address-bad-ports ()
  "What is no port is named, with what to do."
  (pcase-dolist (`(,service ,message)
                 '((0 "0 is out of range.*1 to 65535")
                   (65536 "65536 is out of range.*1 to 65535")
                   (-1 "-1 is out of range")
                   ("70000" "70000 is out of range")
                   ("" "No service \"\".*port number")
                   (" " "No service \" \"")
                   (nil "No service nil")
                   (t "No service t")
                   (8080.0 "No service 8080.0")
                   ("-1" "Unknown service \"-1\".*port number")
                   ("no-such-service" "Unknown service \"no-such-service\"")
                   ("s.h" "Unknown service")))
    (should (string-match-p message (cadr (should-error (dualstack-address--port service)))))))

(dualstack-deftest dualstack-address-interleaves-families ()
  "Addresses of any other host are looked up, and their families take turns."
  (let ((value (dualstack-test-emacs
                (dualstack-test-resolver
                 (concat "2001:db8::1 multi.test\n2001:db8::2 multi.test\n"
                         "192.0.2.1 multi.test\n192.0.2.2 multi.test\n"
                         "192.0.2.3 multi.test\n192.0.2.9 four.test\n"))
                '(list (mapcar #'dualstack-address-string
                               (dualstack-addresses "multi.test" 80))
                       (let ((dualstack-policy 'ipv4))
                         (mapcar #'dualstack-address-string
                                 (dualstack-addresses "multi.test" 80)))
                       (let ((dualstack-policy 'ipv6))
                         (condition-case err (dualstack-addresses "four.test" 80)
                           (error (cadr err))))))))
    (let ((families (mapcar (lambda (address) (string-prefix-p "[" address))
                            (car value))))
      (should (= 5 (length families)))
      ;; Whichever is first, the second is of the other family.
      (should-not (eq (nth 0 families) (nth 1 families)))
      (should-not (eq (nth 1 families) (nth 2 families)))
      (should-not (eq (nth 2 families) (nth 3 families))))
    (should (equal (sort (nth 1 value) #'string<)
                   '("192.0.2.1:80" "192.0.2.2:80" "192.0.2.3:80")))
    (should (string-match-p "four.test has no address.*ipv6" (nth 2 value)))))

(dualstack-deftest dualstack-address-localhost-needs-no-resolver ()
  "The addresses of localhost are the literals, whatever the hosts file says."
  (should (equal (dualstack-test-emacs
                  (dualstack-test-resolver "192.0.2.1 localhost\n")
                  '(dualstack-addresses "localhost" 80))
                 '([127 0 0 1 80] [0 0 0 0 0 0 0 1 80]))))

(dualstack-deftest dualstack-address-unknown-host ()
  "A name without address is named."
  (should (equal (cadr (should-error (dualstack-addresses "no-such-host.invalid" 80)))
                 "no-such-host.invalid: Name or service not known")))

(dualstack-deftest dualstack-address-memory ()
  "A family is remembered for a peer, for a while, and if the policy allows it."
  (let ((peer (dualstack-memory--peer "localhost" 80)))
    (should-not (dualstack-remembered-family peer))
    (dualstack-memory--remember peer 'ipv6)
    (should (eq 'ipv6 (dualstack-remembered-family peer)))
    (should (eq 'ipv6 (dualstack-remembered-family
                       (dualstack-memory--peer "A.LocalHost." 80))))
    (should-not (dualstack-remembered-family (dualstack-memory--peer "localhost" 81)))
    (should-not (dualstack-remembered-family (dualstack-memory--peer "example.org" 80)))
    (let ((dualstack-policy 'ipv4))
      (should-not (dualstack-remembered-family peer)))
    (should-error (dualstack-forget "localhost:80" 80))
    (dualstack-forget "localhost" "81")
    (should (dualstack-remembered-family peer))
    (dualstack-forget "localhost" "80")
    (should-not (dualstack-remembered-family peer))
    (let ((dualstack-memory-lifetime 0))
      (dualstack-memory--remember peer 'ipv6)
      (should-not (dualstack-remembered-family peer)))
    (dualstack-memory--remember peer 'ipv6)
    (call-interactively #'dualstack-forget)
    (should-not (dualstack-remembered-family peer))))

(ert-deftest dualstack-address-loads-what-it-needs ()
  "A host that is not ASCII is encoded in an Emacs that has not loaded puny."
  (should (equal "xn--bcher-kva.example"
                 (dualstack-test-emacs
                  nil '(dualstack-address--encode-host (string ?b #xfc ?c ?h ?e ?r ?. ?e ?x ?a ?m ?p ?l ?e))))))

(provide 'dualstack-address-test)

;;; dualstack-address-test.el ends here
