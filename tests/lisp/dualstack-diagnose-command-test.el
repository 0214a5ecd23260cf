;;; dualstack-diagnose-command-test.el --- Tests of M-x dualstack-diagnose  -*- lexical-binding: t; -*-

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

;; The command, its buffer and keys, the report in batch, and the pictures.

;;; Code:

(require 'dualstack-diagnose-helper)
(require 'dualstack-test-hosts)
(require 'dualstack-async)
(require 'dom)

(defvar bookmark-make-record-function)

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
            ;; Point is where it was.
            (should (looking-back "\\[Forget what" (line-beginning-position)))
            (goto-char (point-min))
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

(dualstack-deftest dualstack-diagnose-another-meanwhile ()
  "A second diagnosis gives the first up; so does another mode for the buffer."
  (dualstack-test-with-stall (silent "--family" "ipv6" "--black-hole")
    (dualstack-diagnose-test-with-hello (port "ipv4")
      (save-window-excursion
        (cl-flet ((begin () (dualstack-diagnose "localhost" silent)
                         ;; On Windows who listens is asked before.
                         (dualstack-test-wait
                          (lambda () (cl-find-if #'dualstack-race--running-p
                                                 dualstack-async--races)))))
          (let ((race (begin)))
            (dualstack-diagnose "localhost" port)
            (should (eq 'cancelled (dualstack-race--state race))))
          (with-current-buffer "*dualstack-diagnose*"
            (dualstack-test-wait (lambda () dualstack-diagnose--facts))
            (should (= port (dualstack-diagnose--facts-port dualstack-diagnose--facts)))
            (let ((race (begin)))
              (fundamental-mode)
              (should (eq 'cancelled (dualstack-race--state race))))
            (kill-buffer)))))))

(dualstack-deftest dualstack-diagnose-narrow ()
  "A narrow window wraps the verdict, and has no drawing; the copy has it."
  (let ((facts (dualstack-diagnose-test-made
                '(("::1" "Connection refused" 2.0) ("127.0.0.1" open 0.001 quiet)))))
    (save-window-excursion
      (with-temp-buffer
        (dualstack-diagnose-mode)
        (setq dualstack-diagnose--peer '("localhost" 8080))
        (should-not truncate-lines)
        (dualstack-diagnose--show facts)
        (should (string-match-p "|xxxx" (buffer-string)))
        (switch-to-buffer (current-buffer))
        (cl-letf (((symbol-function 'window-body-width) (lambda (&rest _) 40)))
          (dualstack-diagnose--show facts))
        (should (get-text-property (point-min) 'wrap-prefix))
        (should-not (string-match-p "|xxxx" (buffer-string)))
        (should (string-match-p "Plain Emacs needs 2.00 s" (buffer-string)))
        (should (string-match-p "|xxxx" (dualstack-diagnose--report facts)))))))

(dualstack-deftest dualstack-diagnose-of-a-literal ()
  "An address is understood with brackets and without, and shown with them."
  (dualstack-test-with-servers ((server 'ipv6))
    (dolist (host '("::1" "[::1]"))
      (let ((facts (dualstack-diagnose-test-facts host (dualstack-test-port server))))
        (should (dualstack-diagnose--open facts))
        (should (string-match-p (format "^\\[::1]:%d" (dualstack-test-port server))
                                (dualstack-diagnose--text facts)))))))

(dualstack-deftest dualstack-diagnose-keys-elsewhere ()
  "A command for a diagnosis does nothing in another buffer, and says so."
  (let ((reverted nil)
        (dualstack-mode nil))
    (dualstack-memory--remember 80 'ipv4)
    (with-temp-buffer
      (setq-local revert-buffer-function (lambda (&rest _) (setq reverted t)))
      (dolist (command '(dualstack-diagnose-cure dualstack-diagnose-forget
                         dualstack-diagnose-copy))
        (should (string-match-p "There is no diagnosis in this buffer"
                                (cadr (should-error (call-interactively command)
                                                    :type 'user-error))))))
    (should-not (or reverted dualstack-mode))
    (should (dualstack-remembered-family 80))))

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

(provide 'dualstack-diagnose-command-test)

;;; dualstack-diagnose-command-test.el ends here
