;;; dualstack-tls-test.el --- Tests of certificates that are not trusted  -*- lexical-binding: t; -*-

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

;; A server whose certificate nobody vouches for, and one that is somebody
;; else's: what a client sees with the mode and without it.

;;; Code:

(require 'dualstack-test-helper)
(require 'gnutls)

(defconst dualstack-tls-test--outcomes
  '((defun outcome (open)
      "Return what becomes of the connection that OPEN, a function, makes."
      (condition-case err
          (let ((events nil) (text "") (process (funcall open)) (limit (+ (float-time) 20)))
            (if (not process)
                'distrusted
              (set-process-query-on-exit-flag process nil)
              (set-process-filter process (lambda (_ string) (setq text (concat text string))))
              (set-process-sentinel process (lambda (_ event) (push event events)))
              (while (and (equal text "") (< (float-time) limit)
                          (memq (process-status process) '(connect open)))
                (accept-process-output nil 0.01))
              (dotimes (_ 3) (accept-process-output nil 0.01))
              (prog1 (list (process-status process) events text)
                (set-process-sentinel process #'ignore)
                (delete-process process))))
        (error err)))

    (defun outcomes (port mode open)
      "Return those of clients of PORT by OPEN, with MODE."
      (dualstack-mode mode)
      (let ((kill-buffer-query-functions nil)
            (result nil))
        (dolist (strict '(nil t) result)
          (dolist (nowait '(nil t))
            (with-temp-buffer
              (let ((gnutls-verify-error strict))
                (push (outcome (lambda ()
                                 (funcall open "tls" (current-buffer) "localhost" port
                                          :type 'tls :nowait nowait)))
                      result)))))
        (nreverse result))))
  "What the child Emacs runs.")

;; In batch Emacs dies of SIGPIPE when a TLS client is given up while it connects,
;; with the mode and without, hence the child in which that signal is ignored.
(dualstack-deftest dualstack-tls-distrusted ()
  "A certificate that is not trusted, or another's, fails as in plain Emacs.
Each is tried without and with `gnutls-verify-error', waiting and with `:nowait'."
  (unless (gnutls-available-p)
    (ert-skip "needs an Emacs with GnuTLS: make test EMACS=..."))
  (let* ((directory (make-temp-file "dualstack-tls" t))
         (authority (expand-file-name "authority" directory)))
    (unwind-protect
        (dualstack-test-with-child
            (child dualstack-test-python (dualstack-test-support "tls_server.py")
                   "ipv4" "other.example" authority)
          (pcase-dolist
              (`(,plain ,mode ,ours)
               (dualstack-test-emacs
                '("sh" "-c" "trap '' PIPE; exec \"$@\"" "--")
                '(require 'dualstack-mode)
                '(require 'gnutls)
                `(setq network-security-level 'medium nsm-noninteractive t
                       nsm-settings-file ,(expand-file-name "nsm" directory))
                (cons 'progn dualstack-tls-test--outcomes)
                `(let ((port ,(dualstack-test-child-port child)))
                   (mapcar (lambda (trusted)
                             (setq gnutls-trustfiles trusted)
                             (list (outcomes port 0 #'open-network-stream)
                                   (outcomes port 1 #'open-network-stream)
                                   (outcomes port 0 #'dualstack-open-network-stream)))
                           '(nil (,authority))))))
            (should (string-match-p "certificate" (downcase (cadr (nth 2 plain)))))
            (dolist (nowait (list (nth 1 plain) (nth 3 plain)))
              (should (eq 'failed (car nowait)))
              (should (equal "" (nth 2 nowait)))
              (should-not (member "open\n" (nth 1 nowait))))
            (should (equal mode plain))
            (should (equal ours plain))))
      (delete-directory directory t))))

(provide 'dualstack-tls-test)

;;; dualstack-tls-test.el ends here
