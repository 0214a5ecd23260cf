;;; dualstack-sidecar-debug-test.el --- Test what helps to write one  -*- lexical-binding: t; -*-

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

;; A module is edited while its sidecar runs, and fails.

;;; Code:

(require 'dualstack-sidecar-helper)
(require 'dualstack-sidecar-debug)

(defun dualstack-sidecar-debug-test-module (value)
  "Write a module whose function gives VALUE, as Python has it; return its file."
  (dualstack-sidecar-helper-file
   "edited.py" "import os, time" "" "" "def value():" (format "    return %s" value)
   "" "" "def pid():" "    return os.getpid()" "" "" "def slow():" "    time.sleep(1.5)"
   "    return 'slow'" "" "" "def fail():" "    inner()" "" "" "def inner():"
   "    raise ValueError('so')"))

(dualstack-sidecar-helper-test dualstack-sidecar-debug-traceback
  "A traceback is a buffer whose lines lead to those of the files, and not to ours."
  (let* ((file (dualstack-sidecar-debug-test-module 1))
         (sidecar (dualstack-sidecar-start :name "t" :modules (list file) :wait t)))
    (should-error (dualstack-sidecar-traceback "t") :type 'user-error)
    (should-error (dualstack-sidecar-helper-call sidecar 'fail))
    (dualstack-test-wait (lambda () (dualstack-sidecar-debug--last (dualstack-sidecar-log sidecar))))
    (dualstack-test-wait
     (lambda () (string-match-p "ValueError('so')"
                                (dualstack-sidecar-debug--last (dualstack-sidecar-log sidecar)))))
    (let ((buffer (dualstack-sidecar-traceback "t")))
      (unwind-protect
          (with-current-buffer buffer
            (should compilation-minor-mode)
            (should-not (string-match-p "dualstack_epc" (buffer-string)))
            (should (string-match-p "ValueError('so')\\'" (buffer-string)))
            (save-window-excursion
              (next-error)
              (should (equal file (buffer-file-name (window-buffer))))
              (should (equal "    inner()" (with-current-buffer (window-buffer)
                                             (buffer-substring (line-beginning-position)
                                                               (line-end-position)))))
              (next-error)
              (with-current-buffer (window-buffer)
                (should (looking-at-p " *raise ValueError"))
                (kill-buffer))))
        (kill-buffer buffer)))))

(dualstack-sidecar-helper-test dualstack-sidecar-debug-reload
  "A sidecar starts again when its file changes, and not while a call runs."
  (let* ((file (dualstack-sidecar-debug-test-module 1))
         (get (lambda () (dualstack-sidecar-get "r")))
         (call (lambda (method) (dualstack-sidecar-helper-call (funcall get) method)))
         slow)
    (dualstack-sidecar-start :name "r" :modules (list file) :reload t :wait t)
    (should (equal 1 (funcall call 'value)))
    (let ((first (funcall get)))
      (dualstack-epc-call-async (dualstack-sidecar-connection first) 'slow nil
                                :then (lambda (it) (setq slow it)) :else #'error)
      (dualstack-sidecar-debug-test-module 20)
      (dualstack-test-wait (lambda () (not (eq first (funcall get)))))
      ;; The call had its value before.
      (should (equal slow "slow")))
    (dualstack-test-wait (lambda () (eq 'running (dualstack-sidecar-state (funcall get)))))
    (should (equal 20 (funcall call 'value)))
    ;; A mistake in the file, and its correction.
    (dualstack-sidecar-debug-test-module "300 +")
    (dualstack-test-wait (lambda () (eq 'failed (dualstack-sidecar-state (funcall get)))))
    (should (string-match-p "SyntaxError" (cadr (dualstack-sidecar-failure (funcall get)))))
    (dualstack-sidecar-debug-test-module "300")
    (dualstack-test-wait (lambda () (eq 'running (dualstack-sidecar-state (funcall get)))))
    (should (equal 300 (funcall call 'value)))))

(dualstack-sidecar-helper-test dualstack-sidecar-debug-restart-is-quick
  "A restart takes no longer than two starts."
  (let* ((file (dualstack-sidecar-debug-test-module 1))
         (begun (float-time))
         (start (lambda () (dualstack-sidecar-start :name "r" :modules (list file) :wait t)))
         (first (progn (funcall start) (- (float-time) begun))))
    (dualstack-test-within (max 1 (* 2 first))
                           (lambda ()
                             (dualstack-test-seconds
                              (lambda ()
                                (dualstack-sidecar-restart "r")
                                (funcall start)))))))

(provide 'dualstack-sidecar-debug-test)

;;; dualstack-sidecar-debug-test.el ends here
