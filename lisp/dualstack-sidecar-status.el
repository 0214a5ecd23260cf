;;; dualstack-sidecar-status.el --- See sidecars, and say hello  -*- lexical-binding: t; -*-

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

;; `dualstack-sidecar-status' lists sidecars.  `dualstack-hello' shows that
;; one answers, and how soon.

;;; Code:

(require 'tabulated-list)
(require 'dualstack-sidecar)

(defvar dualstack-sidecar-status-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map "k" #'dualstack-sidecar-status-stop)
    (define-key map "r" #'dualstack-sidecar-status-restart)
    (define-key map "l" #'dualstack-sidecar-status-log)
    map)
  "Keys of `dualstack-sidecar-status-mode'.")

(define-derived-mode dualstack-sidecar-status-mode tabulated-list-mode "Sidecars"
  "Major mode for the list of sidecars.

\\{dualstack-sidecar-status-mode-map}"
  (setq tabulated-list-format [("Name" 20 t) ("State" 9 t) ("Pid" 8 t)
                               ("Address" 22 t) ("Family" 6 t) ("Uptime" 9 t)
                               ("Calls" 7 t) ("Errors" 6 t)])
  (add-hook 'tabulated-list-revert-hook #'dualstack-sidecar-status--refresh nil t)
  (tabulated-list-init-header))

;;;###autoload
(defun dualstack-sidecar-status ()
  "List the sidecars of this Emacs; keys there stop and restart them."
  (interactive)
  (with-current-buffer (get-buffer-create "*dualstack-sidecars*")
    (dualstack-sidecar-status-mode)
    (dualstack-sidecar-status--refresh)
    (tabulated-list-print)
    (pop-to-buffer (current-buffer)))
  (unless dualstack-sidecars
    (message "No sidecar was started; M-x dualstack-sidecar-start starts one")))

(defun dualstack-sidecar-status--refresh ()
  "Note what the list is to show."
  (setq tabulated-list-entries
        (mapcar (lambda (sidecar)
                  (list (dualstack-sidecar-name sidecar)
                        (dualstack-sidecar-status--row sidecar)))
                dualstack-sidecars)))

(defun dualstack-sidecar-status--row (sidecar)
  "Return the columns for SIDECAR, a vector."
  (let* ((process (dualstack-sidecar-process sidecar))
         (live (process-live-p process))
         (connection (dualstack-sidecar-connection sidecar))
         (address (or (dualstack-sidecar-address sidecar) "")))
    (vector (dualstack-sidecar-name sidecar)
            (symbol-name (dualstack-sidecar-state sidecar))
            (if live (number-to-string (process-id process)) "")
            address
            (cond ((string-prefix-p "[" address) "IPv6")
                  ((string= address "") "")
                  (t "IPv4"))
            (if live
                (format-seconds "%h:%.2m:%.2s"
                                (- (float-time) (dualstack-sidecar-started sidecar)))
              "")
            (if connection
                (number-to-string (dualstack-epc-connection-calls connection))
              "")
            (if connection
                (number-to-string (dualstack-epc-connection-errors connection))
              ""))))

(defun dualstack-sidecar-status--name ()
  "Return the name of the sidecar in this line."
  (or (tabulated-list-get-id) (user-error "No sidecar in this line")))

(defun dualstack-sidecar-status-stop ()
  "Stop the sidecar in this line."
  (interactive)
  (dualstack-sidecar-stop (dualstack-sidecar-status--name))
  (revert-buffer))

(defun dualstack-sidecar-status-restart ()
  "Stop the sidecar in this line and start it again."
  (interactive)
  (dualstack-sidecar-restart (dualstack-sidecar-status--name))
  (revert-buffer))

(defun dualstack-sidecar-status-log ()
  "Show what the sidecar in this line has logged."
  (interactive)
  (let ((sidecar (dualstack-sidecar-get (dualstack-sidecar-status--name))))
    (display-buffer (dualstack-sidecar-log sidecar))))

;;;###autoload
(defun dualstack-hello ()
  "Have the sidecar say hello, and show how long that took.
It is started if it does not run."
  (interactive)
  (dualstack-sidecar-start
   :then (lambda (sidecar)
           (let* ((connection (dualstack-sidecar-connection sidecar))
                  (start (float-time)))
             (dualstack-epc-call-async
              connection 'hello nil
              :then (lambda (value)
                      (message "%s said %s in %.2f ms"
                               (dualstack-sidecar-address sidecar) value
                               (* 1000 (- (float-time) start))))
              :else (lambda (err)
                      (message "%s" (error-message-string err))))))
   :else (lambda (err)
           (message "%s" (error-message-string err)))))

(provide 'dualstack-sidecar-status)

;;; dualstack-sidecar-status.el ends here
