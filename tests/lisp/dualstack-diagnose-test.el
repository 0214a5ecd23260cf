;;; dualstack-diagnose-test.el --- Tests of dualstack-diagnose-verdict.el  -*- lexical-binding: t; -*-

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

;; Each verdict is reached from real listeners where the machine can have them.

;;; Code:

(require 'dualstack-diagnose-helper)
(require 'dualstack-test-hosts)

(defvar url-proxy-services)

(dualstack-deftest dualstack-diagnose-one-family ()
  "A server on one family is told, and what cures it."
  (dualstack-diagnose-test-with-hello (port "ipv4")
    (should (eq 'ipv4-only (dualstack-diagnose-test-kind port))))
  (dualstack-diagnose-test-with-hello (port "ipv6")
    (should (eq 'ipv6-only (dualstack-diagnose-test-kind port)))
    ;; Where localhost is 127.0.0.1 alone, the mode finds what plain Emacs does not.
    (let ((facts (dualstack-diagnose-test-facts "localhost" port)))
      (should (string-match-p "\\`Verdict: The server listens on ::1 only"
                              (dualstack-diagnose--text facts)))
      (setf (dualstack-diagnose--facts-localhost facts)
            (dualstack-diagnose-test-localhost "127.0.0.1"))
      (should (string-match-p "^Cure:    (dualstack-mode 1)"
                              (dualstack-diagnose--text facts))))))

(dualstack-deftest dualstack-diagnose-cures-what-it-can ()
  "The mode is a cure where it is off, and where it helps."
  (cl-flet ((cure (&rest args) (nth 2 (apply #'dualstack-diagnose-test-verdict args))))
    (let ((slow '(("::1" "Connection refused" 2.0) ("127.0.0.1" open 0.001 quiet)))
          (quick '(("::1" "Connection refused" 0.0001) ("127.0.0.1" open 0.001 quiet))))
      (should (equal (cure slow) "(dualstack-mode 1)"))
      (should-not (cure quick))
      ;; There what is refused may take seconds the next time.
      (let ((dualstack-diagnose-test-system 'windows-nt))
        (should (equal (cure quick) "(dualstack-mode 1)")))
      (should-not (cure '(("::1" open 0.001 quiet) ("127.0.0.1" open 0.001 quiet))))
      (should-not (equal (cure '(("::1" open 0.001 quiet)
                                 ("127.0.0.1" "Connection refused" 0.001)))
                         "(dualstack-mode 1)"))
      (let ((dualstack-mode t))
        (should-not (cure slow)))
      (let ((dualstack-policy 'ipv6))
        (should (equal (cure slow) "(setq dualstack-policy 'both)")))
      ;; The hosts file has localhost as ::1 alone, and the server is on IPv4.
      (should (equal (cure quick :localhost (dualstack-diagnose-test-localhost "::1"))
                     "(dualstack-mode 1)")))))

(dualstack-deftest dualstack-diagnose-another-host ()
  "A host whose IPv6 is silent is cured by its name, and by the mode if that is off."
  (let ((facts (dualstack-diagnose--facts-make
                :host "box.example" :port 80 :lookup 0.02
                :addresses '([8193 3512 0 0 0 0 0 1 80] [192 0 2 1 80])
                :probes '(([8193 3512 0 0 0 0 0 1 80] silent 4.0)
                          ([192 0 2 1 80] open 0.01 quiet)))))
    (dualstack-diagnose-test-fits (dualstack-diagnose--text facts))
    (should (equal (cddr (dualstack-diagnose--verdict facts))
                   '("(add-to-list 'dualstack-mode-hosts \"box.example\") (dualstack-mode 1)")))
    (let ((dualstack-mode t)
          (dualstack-mode-hosts '("box.example")))
      (should-not (nth 2 (dualstack-diagnose--verdict facts))))))

(dualstack-deftest dualstack-diagnose-both ()
  "One program on both families is well; two programs are a warning."
  (dualstack-diagnose-test-with-hello (port "dual")
    (should (eq 'both (dualstack-diagnose-test-kind port)))
    (let ((facts (dualstack-diagnose-test-facts "localhost" port)))
      (should (= 2 (length (dualstack-diagnose--facts-listeners facts))))
      (should (string-match-p "python" (plist-get (car (dualstack-diagnose--facts-listeners facts))
                                                  :program)))))
  (dualstack-diagnose-test-with-hello (port "ipv4")
    (dualstack-diagnose-test-with-hello (other "ipv6" port)
      (should (= port other))
      (should (eq 'both-different (dualstack-diagnose-test-kind port)))
      (should (string-match-p "Two different programs have port"
                              (dualstack-diagnose--text
                               (dualstack-diagnose-test-facts "localhost" port)))))))

(dualstack-deftest dualstack-diagnose-none ()
  "A port at which nobody listens is told."
  (should (eq 'none (dualstack-diagnose-test-kind (dualstack-test-free-port)))))

(dualstack-deftest dualstack-diagnose-self ()
  "A port of this Emacs is told."
  (dualstack-test-with-servers ((server 'ipv4))
    (should (eq 'self (dualstack-diagnose-test-kind (dualstack-test-port server))))))

(dualstack-deftest dualstack-diagnose-silent ()
  "An address that does not answer is told, in bounded time."
  (let ((dualstack-diagnose-probe--timeout 0.3))
    (dualstack-test-with-stall (port "--family" "ipv6" "--black-hole")
      (should (eq 'silent (dualstack-diagnose-test-kind port)))
      (dualstack-test-with-servers ((four 'ipv4 :service port))
        (should (memq (dualstack-diagnose-test-kind port) '(self ipv4-only)))))))

(dualstack-deftest dualstack-diagnose-unresolved ()
  "A name that does not resolve is told."
  (should (eq 'unresolved (dualstack-diagnose-test-kind 80 "no-such-host.invalid"))))

(dualstack-deftest dualstack-diagnose-proxy ()
  "A proxy that catches localhost is a warning, without its password."
  (let ((process-environment (append '("http_proxy=http://user:secret@127.0.0.1:3128/"
                                       "no_proxy=example.org")
                                     process-environment))
        (port (dualstack-test-free-port)))
    (let ((text (dualstack-diagnose--text (dualstack-diagnose-test-facts "localhost" port))))
      (should (string-match-p "Warning: The proxy http://127.0.0.1:3128/ catches localhost" text))
      (should-not (string-match-p "secret" text)))
    (let ((process-environment (cons "no_proxy=example.org, localhost" process-environment)))
      (should-not (dualstack-diagnose-probe--proxy "localhost")))))

(dualstack-deftest dualstack-diagnose-proxy-of-url ()
  "What url.el is set to counts before the environment, and ALL_PROXY does not."
  (let ((process-environment (append '("http_proxy" "HTTP_PROXY" "https_proxy" "HTTPS_PROXY"
                                       "no_proxy" "NO_PROXY" "all_proxy=socks5://127.0.0.1:1")
                                     process-environment))
        (url-proxy-services nil))
    (should-not (dualstack-diagnose-probe--proxy "localhost"))
    (setq url-proxy-services '(("http" . "10.0.0.1:3128")))
    (should (equal (dualstack-diagnose-probe--proxy "localhost") "10.0.0.1:3128"))
    (push '("no_proxy" . "\\(local.*\\)") url-proxy-services)
    (should-not (dualstack-diagnose-probe--proxy "localhost"))
    (setq url-proxy-services nil)
    ;; In front: to Windows it is the same variable.
    (push "HTTP_PROXY=http://10.0.0.1:3128" process-environment)
    (setenv "no_proxy" "*.example.org,local*")
    (should-not (dualstack-diagnose-probe--proxy "localhost"))
    (should-not (dualstack-diagnose-probe--proxy "a.example.org"))
    (should (dualstack-diagnose-probe--proxy "example.com"))))

(dualstack-deftest dualstack-diagnose-open-to-the-network ()
  "A server on every address is a warning, and not called one on 127.0.0.1 only."
  (dualstack-test-with-child
      (child dualstack-test-python "-c" (dualstack-diagnose-test-python "" "0.0.0.0"))
    (let* ((facts (dualstack-diagnose-test-facts "localhost" (dualstack-test-child-port child)))
           (verdict (dualstack-diagnose--verdict facts)))
      (should (eq 'ipv4-only (car verdict)))
      (should-not (string-match-p "127.0.0.1 only" (nth 1 verdict)))
      (should (string-match-p
               "\\`python.* listens at 0.0.0.0: it can be reached from the network"
               (car (dualstack-diagnose--warnings facts)))))))

(dualstack-deftest dualstack-diagnose-whose-listener ()
  "One at the very address goes before a wildcard, and :: serves IPv4, too."
  (let* ((any '(:family ipv4 :address "0.0.0.0" :any t :pid 1 :program "any"))
         (exact '(:family ipv4 :address "127.0.0.1" :pid 2 :program "exact"))
         (six '(:family ipv6 :address "::" :any t :pid 3 :program "six"))
         (of (lambda (listeners family)
               (plist-get (dualstack-diagnose--listener
                           (dualstack-diagnose-test-made nil :listeners listeners)
                           (dualstack-loopback-address family 8080))
                          :program))))
    (should (equal (funcall of (list any exact) 'ipv4) "exact"))
    (should (equal (funcall of (list six any) 'ipv4) "any"))
    (should (equal (funcall of (list six) 'ipv4) "six"))
    (should (equal (funcall of (list six exact) 'ipv6) "six"))
    (should-not (funcall of (list any exact) 'ipv6))
    ;; A program on one address does not hide behind another's wildcard.
    (should (eq 'both-different
                (car (dualstack-diagnose-test-verdict
                      '(("::1" open 0.001 quiet) ("127.0.0.1" open 0.001 quiet))
                      :listeners (list any exact six)))))
    (should (eq 'both (car (dualstack-diagnose-test-verdict
                            '(("::1" open 0.001 quiet) ("127.0.0.1" open 0.001 quiet))
                            :listeners (list six)))))))

(dualstack-deftest dualstack-diagnose-of-another-user ()
  "A process that another user has is called that."
  (should (string-match-p
           "connects in 1.00 ms\n +another user's process at 127.0.0.1"
           (dualstack-diagnose--text
            (dualstack-diagnose-test-made
             '(("127.0.0.1" open 0.001 quiet))
             :listeners '((:family ipv4 :address "127.0.0.1" :any nil :pid nil :program nil
                                   :other t)))))))

(dualstack-deftest dualstack-diagnose-what-comes-after ()
  "It is told whether an address serves, closes at once, or waits."
  (let ((after (lambda (what)
                 (dualstack-test-with-child
                     (child dualstack-test-python "-c"
                            (dualstack-diagnose-test-python
                             (format "while 1:\n    c, _ = sockets[0].accept()\n    %s" what)
                             "127.0.0.1"))
                   (let ((facts (dualstack-diagnose-test-facts
                                 "127.0.0.1" (dualstack-test-child-port child))))
                     (list (nth 3 (car (dualstack-diagnose--facts-probes facts)))
                           (car (dualstack-diagnose--verdict facts))))))))
    (should (equal (funcall after "c.close()") '(resets resets)))
    (should (equal (funcall after "c.sendall(b'220 hi')") '(serves both)))
    (should (equal (funcall after "keep = c") '(quiet both)))))

(dualstack-deftest dualstack-diagnose-docker-and-wsl ()
  "What stands before a container or WSL has verdicts of its own, and cures."
  (let ((docker '((:family ipv4 :address "0.0.0.0" :any t :pid 7 :program "docker-proxy")
                  (:family ipv6 :address "::" :any t :pid 8 :program "docker-proxy")))
        (wsl '((:family ipv6 :address "::1" :pid 9 :program "wslrelay.exe"))))
    (pcase-let ((`(,kind ,sentence ,cure)
                 (dualstack-diagnose-test-verdict
                  '(("::1" open 0.001 resets) ("127.0.0.1" open 0.001 resets))
                  :listeners docker)))
      (should (eq kind 'docker))
      (should (string-match-p "Docker at ::1 and 127.0.0.1 accepts and closes" sentence))
      (should (string-match-p "listen on 0.0.0.0" cure)))
    (pcase-let ((`(,kind ,sentence ,cure)
                 (dualstack-diagnose-test-verdict
                  '(("::1" open 0.001 resets) ("127.0.0.1" open 0.001 quiet))
                  :listeners docker)))
      (should (eq kind 'docker))
      (should (string-match-p "127.0.0.1 stays open" sentence))
      (should (string-match-p "-p 127.0.0.1:8080:" cure)))
    (pcase-let ((`(,kind ,sentence ,cure)
                 (dualstack-diagnose-test-verdict
                  '(("::1" open 0.001 quiet) ("127.0.0.1" "Connection refused" 0.001))
                  :listeners wsl)))
      (should (eq kind 'wsl))
      (should (string-match-p "WSL passes this port on at ::1 only" sentence))
      (should (string-match-p "mirrored" cure)))
    (should (eq 'half-resets
                (car (dualstack-diagnose-test-verdict
                      '(("::1" open 0.001 resets) ("127.0.0.1" open 0.001 serves))))))))

(dualstack-deftest dualstack-diagnose-ports-of-windows ()
  "A port that Windows keeps, and one that it forbids, are told."
  (let ((refused '(("::1" "failed with code 10061" 2.0)
                   ("127.0.0.1" "failed with code 10061" 2.0)))
        (forbidden '(("::1" "failed with code 10013" 0.0)
                     ("127.0.0.1" "failed with code 10013" 0.0))))
    (should (eq 'excluded (car (dualstack-diagnose-test-verdict
                                refused :excluded '(8000 . 8099)))))
    (should (eq 'forbidden (car (dualstack-diagnose-test-verdict forbidden))))
    (should (eq 'none (car (dualstack-diagnose-test-verdict refused))))))

(dualstack-deftest dualstack-diagnose-without-ipv6 ()
  "It is said that IPv6 is off."
  (let ((host (dualstack-test-host "ipv6/conf/all/disable_ipv6 1")))
    (should (string-match-p
             "IPv6 is off on this machine"
             (dualstack-test-emacs
              host
              '(progn
                 (require 'dualstack-diagnose)
                 (let (result)
                   (dualstack-diagnose--probe "localhost" 9 (lambda (facts) (setq result facts)))
                   (while (not result) (accept-process-output nil 0.01))
                   (substring-no-properties (dualstack-diagnose--text result)))))))))

(dualstack-deftest dualstack-diagnose-of-many-addresses ()
  "Of a host with many addresses two of each family are tried, and the report fits."
  (let* ((many (append (mapcar (lambda (n) (vector 8193 3512 43981 4660 22136 39612 57072 n 443))
                               '(1 2 3 4))
                       (list [192 0 2 1 443] [192 0 2 2 443] [192 0 2 3 443])))
         (first (dualstack-diagnose-probe--first many)))
    (should (equal first (list (nth 0 many) (nth 1 many) (nth 4 many) (nth 5 many))))
    (dualstack-diagnose-test-fits
     (dualstack-diagnose--text
      (dualstack-diagnose--facts-make
       :host "many.example" :port 443 :lookup 0.02 :addresses first
       :probes (mapcar (lambda (address) (list address 'silent 4.0)) first))))))

(when dualstack-test-on-wine
  (dualstack-test-leave-out
   "\\`dualstack-diagnose-\\(?:both\\|open-to-the-network\\|self\\)\\'"
   "Wine's netstat names no process and no IPv6 address, as Windows' does"))

(provide 'dualstack-diagnose-test)

;;; dualstack-diagnose-test.el ends here
