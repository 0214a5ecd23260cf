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

(defvar url-proxy-services)
(defvar bookmark-make-record-function)

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
    (setenv "HTTP_PROXY" "http://10.0.0.1:3128")
    (setenv "no_proxy" "*.example.org,local*")
    (should-not (dualstack-diagnose-probe--proxy "localhost"))
    (should-not (dualstack-diagnose-probe--proxy "a.example.org"))
    (should (dualstack-diagnose-probe--proxy "example.com"))))

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

(dualstack-deftest dualstack-diagnose-looks-names-up-aside ()
  "A name is looked up by a child, which is gone when that is given up."
  (let* ((result nil)
         (before (length (process-list)))
         (cancel (dualstack-diagnose--probe "no-such-host.invalid" 80
                                           (lambda (facts) (setq result facts)))))
    (should-not result)
    (should (= (1+ before) (length (process-list))))
    (funcall cancel)
    (should (= before (length (process-list))))
    (should-not result)))

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

(dualstack-deftest dualstack-diagnose-is-given-up ()
  "At each step what is under way can be given up, and leaves nothing."
  (dualstack-diagnose-test-with-hello (port "dual")
    (dotimes (i 8)
      (let* ((called nil)
             (cancel (dualstack-diagnose--probe "localhost" port (lambda (_) (setq called t)))))
        (dotimes (_ i) (accept-process-output nil 0.04))
        (funcall cancel)
        (accept-process-output nil 0.01)
        (should-not called)))))

(dualstack-deftest dualstack-diagnose-is-true-in-a-shown-emacs ()
  "Where redisplay takes long, what an address takes is told without it."
  (skip-unless (eq system-type 'gnu/linux))
  (dualstack-diagnose-test-with-hello (port "dual")
    (let* ((file (make-temp-file "diagnosis"))
           (form `(progn
                    (add-function :before pre-redisplay-function
                                  (lambda (&rest _)
                                    (let ((end (+ (float-time) 0.2)))
                                      (while (< (float-time) end)))))
                    (run-at-time
                     0.1 nil
                     (lambda ()
                       (dualstack-diagnose "localhost" ,port)
                       (run-at-time 0.1 0.1
                                    (lambda ()
                                      (let ((facts (buffer-local-value
                                                    'dualstack-diagnose--facts
                                                    (get-buffer "*dualstack-diagnose*"))))
                                        (when facts
                                          (write-region
                                           (format "%S" (mapcar #'caddr
                                                                (dualstack-diagnose--facts-probes
                                                                 facts)))
                                           nil ,file)
                                          (kill-emacs)))))))))
           (process-environment (cons "TERM=xterm" process-environment))
           (child (make-process
                   :name "shown" :connection-type 'pty :noquery t :filter #'ignore
                   :sentinel #'ignore
                   :command (list (dualstack-test-emacs-program)
                                  "-Q" "-nw" "-L" (expand-file-name "lisp" dualstack-test-root)
                                  "-l" "dualstack-diagnose" "--eval" (prin1-to-string form)))))
      (unwind-protect
          (progn
            (set-process-window-size child 24 80)
            (dualstack-test-wait (lambda () (not (process-live-p child))) 60)
            (let ((times (with-temp-buffer
                           (insert-file-contents file)
                           (read (current-buffer)))))
              (should (= 2 (length times)))
              (dolist (time times)
                (should (< time 0.15)))))
        (delete-process child)
        (delete-file file)))))

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

(defun dualstack-diagnose-test-batch (port)
  "Return the status and output of the diagnosis of PORT in batch."
  (with-temp-buffer
    (let ((process-environment (append '("http_proxy" "HTTP_PROXY" "all_proxy" "ALL_PROXY")
                                       process-environment)))
      (list (call-process (dualstack-test-emacs-program)
                          nil t nil "-Q" "--batch"
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
      (should (string-match-p "^  127.0.0.1 .*Connection refused, after" output))
      (should-not (string-match-p (regexp-quote (user-login-name)) output))
      (should-not (string-match-p "/home\\|/root\\|/usr" output))))
  (should (= 1 (car (dualstack-diagnose-test-batch (dualstack-test-free-port)))))
  (should (equal (dualstack-diagnose-test-batch "nonsense")
                 '(2 "Unknown service \"nonsense\": give a port number\n")))
  (should (equal (dualstack-diagnose-test-batch 70000)
                 '(2 "Port 70000 is out of range: give a number from 1 to 65535\n"))))

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
            (dualstack-memory--remember port 'ipv4)
            (search-forward "Forget what")
            (push-button (1- (point)))
            (should-not (dualstack-remembered-family port))
            (call-interactively (key-binding "g"))
            (dualstack-test-wait done)
            (search-forward "Turn on dualstack-mode")
            (push-button (1- (point)))
            (should dualstack-mode)
            (dualstack-test-wait done)
            (should-not (string-match-p "Turn on\\|Cure: +(dualstack-mode" (buffer-string)))
            (dualstack-mode 0)
            (let ((bookmark (funcall bookmark-make-record-function)))
              (dualstack-diagnose-bookmark-jump bookmark)
              (should (equal dualstack-diagnose--peer (list "localhost" port)))))
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
                   "\\`Cannot connect to localhost:[0-9]+: Connection refused; type d to see why\\'"
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
         (plain (dualstack-diagnose-draw--plain probes))
         (ours (dualstack-diagnose-draw--ours probes))
         (text (dualstack-diagnose-draw--text (append plain ours))))
    (should (= 2.001 (dualstack-diagnose-draw--cost plain)))
    (should (= 0.001 (dualstack-diagnose-draw--cost ours)))
    (should (equal (substring-no-properties text) "\
  Emacs      ::1       |xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx refused, 2.00 s
             127.0.0.1 |                                  = connected, 1.00 ms
  dualstack  127.0.0.1 |= connected, 1.00 ms
"))
    (let ((svg (dualstack-diagnose-draw--svg (append plain ours))))
      (should (= 3 (length (dom-by-tag svg 'rect))))
      (should (= 8 (length (dom-by-tag svg 'text)))))))

(dualstack-deftest dualstack-diagnose-waterfall-of-a-silent-address ()
  "What is given up when another connects is drawn so."
  (let ((ours (dualstack-diagnose-draw--ours
               (list (list (dualstack-loopback-address 'ipv4 80) 'silent 4.0)
                     (list (dualstack-loopback-address 'ipv6 80) 'open 0.001)))))
    (should (equal (mapcar (lambda (bar) (plist-get bar :outcome)) ours) '(lost open)))
    (should (= 0.011 (dualstack-diagnose-draw--cost ours)))))

;;;; What other systems print

(defun dualstack-diagnose-test-printed (text function &rest args)
  "Return the value of FUNCTION with ARGS in a buffer with TEXT."
  (with-temp-buffer
    (insert text)
    (goto-char (point-min))
    (apply function args)))

(dualstack-deftest dualstack-diagnose-netstat ()
  "Windows' netstat is read, both families, in any language."
  (should (equal (dualstack-diagnose-test-printed "
Aktive Verbindungen

  Proto  Lokale Adresse         Remoteadresse          Status           PID
  TCP    0.0.0.0:8080           0.0.0.0:0              ABHÖREN         4711
  TCP    127.0.0.1:18080        0.0.0.0:0              ABHÖREN         1
  TCP    127.0.0.1:8080         127.0.0.1:50000        HERGESTELLT     2
  TCP    [::1]:8080             [::]:0                 ABHÖREN         4712\r
  UDP    0.0.0.0:8080           *:*                                    4713
" #'dualstack-diagnose-listeners--parse-netstat 8080)
                 '((:family ipv4 :address "0.0.0.0" :any t :pid 4711 :program nil)
                   (:family ipv6 :address "::1" :any nil :pid 4712 :program nil))))
  ;; Chinese; an address with its zone, and a state of two words.
  (should (equal (dualstack-diagnose-test-printed "
活动连接\r

  协议  本地地址          外部地址        状态           PID\r
  TCP    127.0.0.1:8080         0.0.0.0:0              LISTENING       5820\r
  TCP    127.0.0.1:50010        127.0.0.1:8080         ESTABLISHED     9128\r
  TCP    [::]:8080              [::]:0                 EN ÉCOUTE       1044\r
  TCP    [fe80::1c5b:9d2%5]:8080  [::]:0               LISTENING       1045\r
" #'dualstack-diagnose-listeners--parse-netstat 8080)
                 '((:family ipv4 :address "127.0.0.1" :any nil :pid 5820 :program nil)
                   (:family ipv6 :address "::" :any t :pid 1044 :program nil)
                   (:family ipv6 :address "fe80::1c5b:9d2" :any nil :pid 1045 :program nil)))))

(dualstack-deftest dualstack-diagnose-netstat-of-wine ()
  "What Wine prints, as it was captured, has no process; that is no hindrance."
  (should (equal (dualstack-diagnose-test-printed "\r
Active Connections\r
\r
  Proto  Local Address          Foreign Address        State\r
  TCP    127.0.0.1:33001        127.0.0.1:47452        TIME_WAIT\r
  TCP    127.0.0.1:38201        0.0.0.0:0              LISTENING\r
  TCP    127.0.0.1:38201        127.0.0.1:42501        ESTABLISHED\r
" #'dualstack-diagnose-listeners--parse-netstat 38201)
                 '((:family ipv4 :address "127.0.0.1" :any nil :pid nil :program nil)))))

(dualstack-deftest dualstack-diagnose-tasklist ()
  "Windows' tasklist is read, and that it has found nothing."
  (should (equal "python.exe"
                 (dualstack-diagnose-test-printed
                  "\"python.exe\",\"5820\",\"Console\",\"1\",\"18,332 K\"\r\n"
                  #'dualstack-diagnose-listeners--parse-tasklist 5820)))
  (should-not (dualstack-diagnose-test-printed
               "信息: 没有运行的任务匹配指定标准。\r\n"
               #'dualstack-diagnose-listeners--parse-tasklist 5820)))

(dualstack-deftest dualstack-diagnose-netsh ()
  "The ports that Windows keeps are read."
  (let ((text "
协议 tcp 端口排除范围

开始端口    结束端口
----------    --------
      5357        5357
     50000       50059     *
     54364       54463

* - 管理的端口排除。
"))
    (pcase-dolist (`(,port ,range) '((5357 (5357 . 5357)) (5358 nil) (50059 (50000 . 50059))
                                     (54463 (54364 . 54463)) (54464 nil)))
      (should (equal range (dualstack-diagnose-test-printed
                            text #'dualstack-diagnose-listeners--parse-netsh port))))))

(dualstack-deftest dualstack-diagnose-lsof ()
  "The output of lsof is read, with and without the type of each socket."
  (should (equal (dualstack-diagnose-test-printed
                  "p123\ncnode\nf20\nn[::1]:8080\nf21\nn*:8080\np124\ncPython\nf3\nn127.0.0.1:8080\n"
                  #'dualstack-diagnose-listeners--parse-lsof)
                 '((:family ipv6 :address "::1" :any nil :pid 123 :program "node")
                   (:family ipv4 :address "*" :any t :pid 123 :program "node")
                   (:family ipv4 :address "127.0.0.1" :any nil :pid 124 :program "Python"))))
  (should (equal (dualstack-diagnose-test-printed
                  "p123\ncnode\nf20\ntIPv6\nn*:8080\n"
                  #'dualstack-diagnose-listeners--parse-lsof)
                 '((:family ipv6 :address "*" :any t :pid 123 :program "node")))))

(dualstack-deftest dualstack-diagnose-proc ()
  "What GNU/Linux has in /proc is read: Java's IPv4 addresses, too."
  (should (equal "127.0.0.1" (dualstack-diagnose-listeners--proc-address "0100007F")))
  (should (equal "::1" (dualstack-diagnose-listeners--proc-address
                        "00000000000000000000000001000000")))
  (should (equal "127.0.0.1" (dualstack-diagnose-listeners--proc-address
                              "0000000000000000FFFF00000100007F"))))

(dualstack-deftest dualstack-diagnose-a-program-that-hangs ()
  "A program of the system that does not end is not waited for; none is as good."
  (let ((dualstack-diagnose-listeners--timeout 0.2)
        (run (list nil))
        (text nil))
    (dualstack-diagnose-listeners--command
     run dualstack-test-python '("-c" "print('part', flush=True); input()")
     (lambda () (setq text (buffer-string))))
    (should (car run))
    (dualstack-test-wait (lambda () text))
    (should-not (car run))
    (setq text nil)
    (dualstack-diagnose-listeners--command run "no-such-program" nil
                                          (lambda () (setq text (buffer-string))))
    (should (equal text ""))))

(provide 'dualstack-diagnose-test)

;;; dualstack-diagnose-test.el ends here
