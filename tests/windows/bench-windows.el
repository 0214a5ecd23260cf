;;; bench-windows.el --- What connecting takes in a Windows Emacs  -*- lexical-binding: t; -*-

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

;; `make bench-windows' prints a table: plain Emacs and dualstack, waiting and
;; with :nowait, for each kind of server.  Each figure is the least of some.

;;; Code:

(require 'dualstack-windows-test)
(require 'dualstack-sidecar)

(defun dualstack-bench-windows--once (port nowait)
  "Return the milliseconds until PORT of localhost has answered or failed.
With NOWAIT the call itself does not wait.  The value is a list of those and
`open', or what became of it."
  (let* ((start (float-time))
         (event nil)
         (process (condition-case err
                      (make-network-process :name "bench" :host "localhost" :service port
                                            :nowait nowait :noquery t
                                            :sentinel (lambda (_process string)
                                                        (setq event string)))
                    (file-error (setq event (format "%s" (nth 2 err))) nil))))
    (while (and process (not event) (not (eq (process-status process) 'open))
                (< (- (float-time) start) 5))
      (accept-process-output nil 0.002))
    (prog1 (list (* 1000 (- (float-time) start))
                 (if (and process (eq (process-status process) 'open))
                     'open
                   (replace-regexp-in-string "\n" "" (or event "no answer"))))
      (when process
        (set-process-sentinel process #'ignore)
        (delete-process process)))))

(defun dualstack-bench-windows--least (times port nowait forget)
  "Return the least of TIMES measurements as a string; FORGET before each.
PORT and NOWAIT are as for `dualstack-bench-windows--once'."
  (let ((results (cl-loop repeat times
                          do (when forget (dualstack-forget))
                          collect (dualstack-bench-windows--once port nowait))))
    (pcase-let ((`(,time ,outcome) (car (sort results (lambda (a b) (< (car a) (car b)))))))
      (format (if (eq outcome 'open) "%.1f ms" "%.1f ms, %s") time outcome))))

(defun dualstack-bench-windows--row (kind nowait)
  "Print the row of the server of KIND; NOWAIT says how it is dialled."
  (let* ((port (alist-get kind dualstack-windows-ports))
         (plain (dualstack-bench-windows--least 3 port nowait nil))
         (ours (progn
                 (dualstack-mode 1)
                 (unwind-protect
                     (list (dualstack-bench-windows--least 5 port nowait t)
                           (progn
                             ;; A connection that waited has told which family answers.
                             (dualstack-bench-windows--once port nil)
                             (dualstack-bench-windows--least 5 port nowait nil)))
                   (dualstack-mode 0)))))
    (dualstack-forget)
    (princ (format "| %s%s | %s | %s | %s |\n" kind (if nowait ", :nowait" "")
                   plain (car ours) (cadr ours)))))

(defun dualstack-bench-windows--hello ()
  "Print what a call of a sidecar's method takes, the median of 200."
  (let* ((dualstack-python dualstack-test-python)
         (sidecar (dualstack-sidecar-start :wait t))
         (times nil))
    (dotimes (_ 200)
      (dualstack-sidecar-start :wait t) ; Emacs breaks the connection now and then.
      (let ((start (float-time)))
        (ignore-error dualstack-epc-closed
          (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'hello nil)
          (push (* 1000 (- (float-time) start)) times))))
    (dualstack-sidecar-stop)
    (princ (format "| a hello call | | %.2f ms | |\n"
                   (nth (/ (length times) 2) (sort times #'<))))))

(defun dualstack-bench-windows ()
  "Print the table."
  (princ "| server | plain Emacs | dualstack, first | remembered |\n|-\n")
  (dualstack-windows-call-with-servers
   (lambda ()
     (dolist (nowait '(nil t))
       (dolist (kind '(ipv4 ipv6 dual none))
         (dualstack-bench-windows--row kind nowait)))))
  (dualstack-bench-windows--hello))

(provide 'bench-windows)

;;; bench-windows.el ends here
