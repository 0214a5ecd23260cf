;;; dualstack-view-test.el --- Tests of the buffers that show something  -*- lexical-binding: t; -*-

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

;; What the buffers of the report, the sidecars and a diagnosis share: keys in
;; the header line, a menu, Evil, M-x, and that they stay up to date.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-view)
(require 'dualstack-diagnose)
(require 'dualstack-mode-report)
(require 'dualstack-sidecar-status)

(defconst dualstack-view-test-modes
  '((dualstack-diagnose-mode . dualstack-diagnose--keys)
    (dualstack-mode-report-mode . dualstack-mode-report--keys)
    (dualstack-sidecar-status-mode . dualstack-sidecar-status--keys))
  "The modes whose buffers show something, and the variables with their keys.")

(ert-deftest dualstack-view-keys ()
  "Each key is bound, and in the header line and the menu; the line fits."
  (pcase-dolist (`(,mode . ,keys) dualstack-view-test-modes)
    (with-temp-buffer
      (funcall mode)
      (should (<= (string-width header-line-format) 80))
      (pcase-dolist (`(,key ,command ,label . ,_) (symbol-value keys))
        (should (eq command (key-binding (kbd key))))
        (should (string-match-p (regexp-quote (format "%s %s" key label)) header-line-format))
        (should (where-is-internal command (current-local-map) nil)))
      (should (lookup-key (current-local-map) [menu-bar]))
      (should (eq 'next-line (key-binding (kbd "n"))))
      (should (eq 'previous-line (key-binding (kbd "p"))))
      (should (eq 'forward-button (key-binding (kbd "TAB")))))))

(declare-function command-completion-default-include-p "simple" (symbol buffer))

(ert-deftest dualstack-view-commands-are-offered-where-they-work ()
  "A command for a line is offered by its name only in its mode."
  (skip-unless (fboundp 'command-completion-default-include-p))
  (pcase-dolist (`(,mode . ,keys) dualstack-view-test-modes)
    (pcase-dolist (`(,_ ,command . ,_) (symbol-value keys))
      (unless (memq command '(revert-buffer quit-window))
        (with-temp-buffer
          (should-not (command-completion-default-include-p command (current-buffer)))
          (funcall mode)
          (should (command-completion-default-include-p command (current-buffer))))))))

(ert-deftest dualstack-view-errors-are-one-line ()
  "An error is told in one line without quotes; of a log, with its last line."
  (pcase-dolist (`(,text ,condition . ,data)
                 '(("No Python" dualstack-sidecar-error "No Python")
                   ("it crashed; Boom" dualstack-sidecar-error "it crashed\nTraceback\n Boom\n")
                   ("127.0.0.1:9 Connection refused" file-error "make client process failed"
                    "Connection refused" :name "x" :attempts "127.0.0.1:9 Connection refused")
                   ("Cannot open: gone, f" file-error "Cannot open" "gone" "f")))
    (should (equal text (dualstack-view--error (cons condition data))))))

(dualstack-deftest dualstack-view-refreshes-while-shown ()
  "A buffer is reverted again and again while a window shows it, and not else."
  (let ((buffer (get-buffer-create "view"))
        (count 0))
    (save-window-excursion
      (with-current-buffer buffer
        (setq-local revert-buffer-function (lambda (&rest _) (setq count (1+ count)))))
      (switch-to-buffer buffer)
      (dualstack-view--refresh-each 0.02)
      (dualstack-test-wait (lambda () (> count 3)))
      (switch-to-buffer "*scratch*")
      (dualstack-test-wait
       (lambda () (not (buffer-local-value 'dualstack-view--timer buffer))))
      (setq count 0)
      (switch-to-buffer buffer)
      ;; What a redisplay would do.
      (run-hook-with-args 'window-buffer-change-functions (selected-window))
      (dualstack-test-wait (lambda () (> count 3))))
    (kill-buffer buffer)))

(dualstack-deftest dualstack-view-keeps-the-line ()
  "When a buffer is filled again, point stays in its line and column."
  (with-temp-buffer
    (dualstack-view--fill (lambda () (insert "one\ntwo\nthree\n")))
    (goto-char (point-min))
    (search-forward "tw")
    (dualstack-view--fill (lambda () (insert "eins\nzwei\ndrei\n")))
    (should (looking-at "ei\n"))))

(dualstack-deftest dualstack-view-report ()
  "The report fits 80 columns whatever is in it, and its lines diagnose."
  (let ((dualstack-mode-peers--all nil)
        (dualstack-mode nil)
        (diagnosed nil))
    (should (string-match-p "M-x dualstack-mode" (dualstack-mode-report--text)))
    (dolist (host (list "localhost" (concat (make-string 60 ?a) ".localhost")))
      (push (dualstack-mode-peer--make :host host :port 9 :count 1 :failed 1
                                       :err (concat "127.0.0.1:9\n" (make-string 200 ?x)))
            dualstack-mode-peers--all))
    (dolist (line (split-string (dualstack-mode-report--text) "\n"))
      (should (<= (string-width line) 79)))
    (save-window-excursion
      (dualstack-mode-report)
      (with-current-buffer "*dualstack-report*"
        (goto-char (point-min))
        (search-forward "localhost:9")
        (cl-letf (((symbol-function 'dualstack-diagnose)
                   (lambda (host port) (setq diagnosed (list host port)))))
          (call-interactively (key-binding "d")))
        (should (equal diagnosed '("localhost" 9)))
        (kill-buffer)))))

(dualstack-deftest dualstack-view-says-what-a-key-did ()
  "To stop a sidecar that does not run is no news, and what starts it is said."
  (let ((dualstack-sidecars (list (dualstack-sidecar--make :name "one" :state 'stopped)))
        (said nil))
    (save-window-excursion
      (dualstack-sidecar-status)
      (with-current-buffer "*dualstack-sidecars*"
        (goto-char (point-min))
        (cl-letf (((symbol-function 'message)
                   (lambda (&rest args) (setq said (apply #'format-message args)))))
          (call-interactively (key-binding "k")))
        (should (equal said "one does not run; r starts it"))
        (kill-buffer)))))

(dualstack-deftest dualstack-view-asks-which-sidecar ()
  "A command that acts on one of several sidecars asks which."
  (let* ((asked nil)
         (make (lambda (name) (dualstack-sidecar--make :name name)))
         (read (lambda ()
                 (cl-letf (((symbol-function 'completing-read)
                            (lambda (prompt names &rest _) (setq asked prompt) (cadr names))))
                   (dualstack-sidecar--read-name "Stop sidecar: ")))))
    (let ((dualstack-sidecars nil))
      (should-error (funcall read) :type 'user-error))
    (let ((dualstack-sidecars (list (funcall make "one"))))
      (should (equal "one" (funcall read)))
      (should-not asked))
    (let ((dualstack-sidecars (list (funcall make "one") (funcall make "two"))))
      (should (equal "two" (funcall read)))
      (should (equal asked "Stop sidecar: ")))))

(dualstack-deftest dualstack-view-evil ()
  "Users of Evil get the motion state, whose motions keep their keys."
  (let ((directories (cl-mapcan #'dualstack-test-debian-package '("elpa-evil" "elpa-goto-chg"))))
    (should
     (equal
      (dualstack-test-emacs
       nil
       `(progn
          (dolist (directory ',directories)
            (push directory load-path))
          (require 'evil)
          (require 'dualstack-mode-report)
          (evil-mode 1)
          (dualstack-mode-report)
          (set-buffer "*dualstack-report*")
          (list evil-state (key-binding "j") (key-binding "y") (key-binding "gr")
                (and (string-match-p "y copy" header-line-format) t))))
      '(motion evil-next-line dualstack-mode-report-copy revert-buffer t)))))

(provide 'dualstack-view-test)

;;; dualstack-view-test.el ends here
