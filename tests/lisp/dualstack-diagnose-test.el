;;; dualstack-diagnose-test.el --- Tests for dualstack-diagnose  -*- lexical-binding: t; -*-

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

;; Each verdict is reached from real listeners.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-diagnose)
(require 'dom)

(defun dualstack-diagnose-test-facts (host port)
  "Return the facts about HOST and PORT."
  (let (result)
    (dualstack-diagnose-probe host port (lambda (facts) (setq result facts)))
    (dualstack-test-wait (lambda () result) 30)))

(defun dualstack-diagnose-test-kind (port &optional host)
  "Return the verdict's kind for PORT of HOST, by default localhost."
  (let* ((process-environment (append '("http_proxy" "HTTP_PROXY" "all_proxy" "ALL_PROXY")
                                      process-environment))
         (facts (dualstack-diagnose-test-facts (or host "localhost") port)))
    (should (stringp (dualstack-diagnose-text facts)))
    (car (dualstack-diagnose-verdict facts))))

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

(dualstack-deftest dualstack-diagnose-one-family ()
  "A server on one family is told, and what cures it."
  (dualstack-diagnose-test-with-hello (port "ipv4")
    (should (eq 'ipv4-only (dualstack-diagnose-test-kind port))))
  (dualstack-diagnose-test-with-hello (port "ipv6")
    (should (eq 'ipv6-only (dualstack-diagnose-test-kind port)))
    (let ((text (dualstack-diagnose-text (dualstack-diagnose-test-facts "localhost" port))))
      (should (string-match-p "Cure:    (dualstack-mode 1)" text)))))

(dualstack-deftest dualstack-diagnose-both ()
  "One program on both families is well; two programs are a warning."
  (dualstack-diagnose-test-with-hello (port "dual")
    (should (eq 'both (dualstack-diagnose-test-kind port)))
    (let ((facts (dualstack-diagnose-test-facts "localhost" port)))
      (should (= 2 (length (dualstack-diagnose-facts-listeners facts))))
      (should (string-match-p "python" (plist-get (car (dualstack-diagnose-facts-listeners facts))
                                                  :program)))))
  (dualstack-diagnose-test-with-hello (port "ipv4")
    (dualstack-diagnose-test-with-hello (other "ipv6" port)
      (should (= port other))
      (should (eq 'both-different (dualstack-diagnose-test-kind port)))
      (should (string-match-p "Two different programs have port"
                              (dualstack-diagnose-text
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
  (let ((dualstack-diagnose-probe-timeout 0.3))
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
    (let ((text (dualstack-diagnose-text (dualstack-diagnose-test-facts "localhost" port))))
      (should (string-match-p "Warning: The proxy http://127.0.0.1:3128/ catches localhost" text))
      (should-not (string-match-p "secret" text)))
    (let ((process-environment (cons "no_proxy=example.org, localhost" process-environment)))
      (should-not (dualstack-diagnose-probe--proxy "localhost")))))

(dualstack-deftest dualstack-diagnose-open-to-the-network ()
  "A server on every address is a warning."
  (dualstack-test-with-child
      (child dualstack-test-python "-c" "
import socket, sys
s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen()
print(s.getsockname()[1], flush=True); sys.stdin.read()")
    (should (string-match-p
             "Warning: python.* listens at 0.0.0.0: it can be reached from the network"
             (dualstack-diagnose-text
              (dualstack-diagnose-test-facts "localhost" (dualstack-test-child-port child)))))))

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
                   (dualstack-diagnose-probe "localhost" 9 (lambda (facts) (setq result facts)))
                   (while (not result) (accept-process-output nil 0.01))
                   (substring-no-properties (dualstack-diagnose-text result)))))))))

(defun dualstack-diagnose-test-batch (port)
  "Return the status and output of the diagnosis of PORT in batch."
  (with-temp-buffer
    (let ((process-environment (append '("http_proxy" "HTTP_PROXY" "all_proxy" "ALL_PROXY")
                                       process-environment)))
      (list (call-process (dualstack-test-emacs-program)
                          nil '(t nil) nil "-Q" "--batch"
                          "-L" (expand-file-name "lisp" dualstack-test-root)
                          "-l" "dualstack-diagnose" "-f" "dualstack-diagnose-batch"
                          "localhost" (format "%s" port))
            (buffer-string)))))

(dualstack-deftest dualstack-diagnose-in-batch ()
  "In batch the report is printed, and the status tells whether something answers."
  (dualstack-diagnose-test-with-hello (port "ipv6")
    (pcase-let ((`(,status ,output) (dualstack-diagnose-test-batch port)))
      (should (= status 0))
      (should (string-match-p "^Verdict: The server listens on ::1 only" output))
      (should (string-match-p (format "^  127.0.0.1:%d .*Connection refused, after" port) output))
      (should-not (string-match-p (regexp-quote (user-login-name)) output))
      (should-not (string-match-p "/home\\|/root\\|/usr" output))))
  (should (= 1 (car (dualstack-diagnose-test-batch (dualstack-test-free-port)))))
  (should (= 2 (car (dualstack-diagnose-test-batch "nonsense")))))

(dualstack-deftest dualstack-diagnose-command ()
  "The buffer fills in the background; its keys and buttons work."
  (dualstack-diagnose-test-with-hello (port "ipv4")
    (let ((inhibit-message t) (kill-ring nil))
      (save-window-excursion
        (dualstack-diagnose "localhost" port)
        (with-current-buffer "*dualstack-diagnose*"
          (should (string-match-p "Trying localhost" (buffer-string)))
          (should-error (dualstack-diagnose-copy) :type 'user-error)
          (let ((done (lambda () (string-match-p "^Verdict: " (buffer-string)))))
            (dualstack-test-wait done)
            (call-interactively (key-binding "w"))
            (should (string-match-p "dualstack-mode off" (current-kill 0)))
            (dualstack-remember port 'ipv4)
            (search-forward "Forget what")
            (push-button (1- (point)))
            (should-not (dualstack-remembered-family port))
            (call-interactively (key-binding "g"))
            (dualstack-test-wait done)
            (search-forward "Turn on dualstack-mode")
            (push-button (1- (point)))
            (should dualstack-mode)
            (dualstack-mode 0)
            (dualstack-test-wait done))
          (call-interactively (key-binding "g"))
          (kill-buffer))))))

(dualstack-deftest dualstack-diagnose-from-a-failed-connect ()
  "After M-x dualstack-connect has failed, d diagnoses."
  (let ((port (dualstack-test-free-port))
        (overriding-terminal-local-map nil)
        (inhibit-message t))
    (unwind-protect
        (progn
          (should (string-match-p
                   "refused; type d to see why"
                   (cadr (should-error
                          (funcall-interactively #'dualstack-connect "localhost" port)
                          :type 'user-error))))
          (save-window-excursion
            (call-interactively (lookup-key overriding-terminal-local-map "d"))
            (with-current-buffer "*dualstack-diagnose*"
              (dualstack-test-wait (lambda () (string-match-p "Nobody listens" (buffer-string))))
              (kill-buffer))))
      (setq pre-command-hook (default-value 'pre-command-hook)))))

;;;; Pictures

(defun dualstack-diagnose-test-probes ()
  "Return what a Windows machine would give for a server on IPv4."
  (list (list (dualstack-loopback-address 'ipv6 80) "Connection refused" 2.0)
        (list (dualstack-loopback-address 'ipv4 80) 'open 0.001)))

(dualstack-deftest dualstack-diagnose-waterfall ()
  "Plain Emacs's way and ours are drawn on one scale, in characters and as SVG."
  (let* ((probes (dualstack-diagnose-test-probes))
         (plain (dualstack-diagnose-draw-plain probes))
         (ours (dualstack-diagnose-draw-ours probes))
         (text (dualstack-diagnose-draw-text (append plain ours))))
    (should (= 2.001 (dualstack-diagnose-draw-cost plain)))
    (should (= 0.001 (dualstack-diagnose-draw-cost ours)))
    (should (equal (substring-no-properties text) "\
  Emacs      [::1]:80              |xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx refused, 2.00 s
             127.0.0.1:80          |                                        = connected, 1.00 ms
  dualstack  127.0.0.1:80          |= connected, 1.00 ms
"))
    (let ((svg (dualstack-diagnose-draw-svg (append plain ours))))
      (should (= 3 (length (dom-by-tag svg 'rect))))
      (should (= 8 (length (dom-by-tag svg 'text)))))))

(dualstack-deftest dualstack-diagnose-waterfall-of-a-silent-address ()
  "What is given up when another connects is drawn so."
  (let ((ours (dualstack-diagnose-draw-ours
               (list (list (dualstack-loopback-address 'ipv4 80) 'silent 4.0)
                     (list (dualstack-loopback-address 'ipv6 80) 'open 0.001)))))
    (should (equal (mapcar (lambda (bar) (plist-get bar :outcome)) ours) '(lost open)))
    (should (= 0.011 (dualstack-diagnose-draw-cost ours)))))

;;;; What other systems print

(dualstack-deftest dualstack-diagnose-netstat ()
  "Windows' netstat is read, in any language."
  (with-temp-buffer
    (insert "
  Proto  Lokale Adresse         Remoteadresse          Status           PID
  TCP    0.0.0.0:8080           0.0.0.0:0              ABHÖREN          4711
  TCP    127.0.0.1:18080        0.0.0.0:0              ABHÖREN          1
  TCP    127.0.0.1:8080         127.0.0.1:50000        HERGESTELLT      2
  TCP    [::1]:8080             [::]:0                 ABHÖREN          4712\r
")
    (goto-char (point-min))
    (should (equal (dualstack-diagnose-probe--parse-netstat 8080)
                   '((:family ipv4 :address "0.0.0.0" :any t :pid 4711 :program nil)
                     (:family ipv6 :address "::1" :any nil :pid 4712 :program nil))))))

(dualstack-deftest dualstack-diagnose-lsof ()
  "The output of lsof is read."
  (with-temp-buffer
    (insert "p123\ncnode\nf20\nn[::1]:8080\nf21\nn*:8080\np124\ncPython\nf3\nn127.0.0.1:8080\n")
    (goto-char (point-min))
    (should (equal (dualstack-diagnose-probe--parse-lsof)
                   '((:family ipv6 :address "::1" :any nil :pid 123 :program "node")
                     (:family ipv4 :address "*" :any t :pid 123 :program "node")
                     (:family ipv4 :address "127.0.0.1" :any nil :pid 124 :program "Python"))))))

(provide 'dualstack-diagnose-test)

;;; dualstack-diagnose-test.el ends here
