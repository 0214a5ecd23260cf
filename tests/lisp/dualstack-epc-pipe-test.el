;;; dualstack-epc-pipe-test.el --- Test EPC over pipes  -*- lexical-binding: t; -*-

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

;; All tests of EPC that have two ends, or an end that sends what it is told,
;; run again here, over the standard streams of children.

;;; Code:

(require 'dualstack-epc-helper)

(defconst dualstack-epc-pipe-test-files
  '("dualstack-epc-test" "dualstack-epc-flow-test" "dualstack-epc-last-test"
    "dualstack-epc-scan-test" "dualstack-epc-wire-test")
  "Files with tests that run over pipes, too.")

(defvar dualstack-epc-pipe-test-macros
  '(dualstack-epc-test-with-pair dualstack-epc-test-with-raw dualstack-epc-test-with-python)
  "What makes a connection that can be one over pipes.")

(defconst dualstack-epc-pipe-test-others
  '(dualstack-epc-call-that-cannot-be-sent-ends-once ; It resets a socket.
    ;; These are about sockets alone.
    dualstack-epc-calm dualstack-epc-last-calm-on-both-ends dualstack-epc-last-calm-inside-a-wait
    ;; The call and its end may be read at once; it is then cancelled before it begins.
    dualstack-epc-last-handle-cancels)
  "Tests that are about sockets, though they use one of the macros.")

(defun dualstack-epc-pipe-test-uses-p (form)
  "Return non-nil if one of `dualstack-epc-pipe-test-macros' is in FORM."
  (and (consp form)
       (or (memq (car form) dualstack-epc-pipe-test-macros)
           (cl-loop for rest on form
                    thereis (dualstack-epc-pipe-test-uses-p (car rest))
                    while (consp (cdr rest))))))

(defun dualstack-epc-pipe-test-clone (name)
  "Define the test NAME once more, over pipes."
  (let ((test (ert-get-test name))
        (clone (intern (format "%s-over-a-pipe" name))))
    (ert-set-test clone
                  (make-ert-test
                   :name clone
                   :documentation (ert-test-documentation test)
                   :expected-result-type (ert-test-expected-result-type test)
                   :body (lambda ()
                           (let ((dualstack-epc-test-transport 'pipe))
                             (funcall (ert-test-body test))))))))

(defun dualstack-epc-pipe-test-load (file)
  "Load FILE, and replace each test there by its clone for pipes."
  (let ((before (apropos-internal "" #'ert-test-boundp))
        (name (expand-file-name (concat "tests/lisp/" file ".el") dualstack-test-root)))
    (load name nil t)
    (with-temp-buffer
      (insert-file-contents name)
      (ignore-error end-of-file
        (while t
          (let ((form (read (current-buffer))))
            (when (and (dualstack-epc-pipe-test-uses-p form)
                       (symbolp (cadr form))
                       (ert-test-boundp (cadr form))
                       (not (memq (cadr form) dualstack-epc-pipe-test-others)))
              (dualstack-epc-pipe-test-clone (cadr form)))))))
    (dolist (each (apropos-internal "" #'ert-test-boundp))
      (unless (or (memq each before)
                  (string-suffix-p "-over-a-pipe" (symbol-name each)))
        (ert-make-test-unbound each)))))

(mapc #'dualstack-epc-pipe-test-load dualstack-epc-pipe-test-files)

(ert-deftest dualstack-epc-pipe-test-there-are-many ()
  "Most tests of EPC run over pipes."
  (should (> (length (apropos-internal "-over-a-pipe\\'" #'ert-test-boundp)) 25)))

(provide 'dualstack-epc-pipe-test)

;;; dualstack-epc-pipe-test.el ends here
