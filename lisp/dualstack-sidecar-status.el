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

;; `dualstack-sidecar-status' lists sidecars, and stays up to date while it is
;; shown.  `dualstack-hello' shows that one answers, and how soon.

;;; Code:

(require 'tabulated-list)
(require 'dualstack-sidecar)
(require 'dualstack-view)

(defconst dualstack-sidecar-status--keys
  '(("k" dualstack-sidecar-status-stop "stop" "x")
    ("r" dualstack-sidecar-status-restart "restart" "r")
    ("l" dualstack-sidecar-status-log "log" "o")
    ("g" revert-buffer "refresh" "gr")
    ("q" quit-window "quit" "q"))
  "Keys of `dualstack-sidecar-status-mode', see `dualstack-view--map'.")

(defvar dualstack-sidecar-status-mode-map
  (dualstack-view--map "Sidecars" tabulated-list-mode-map dualstack-sidecar-status--keys)
  "Keys of `dualstack-sidecar-status-mode'.")

(define-derived-mode dualstack-sidecar-status-mode tabulated-list-mode "Sidecars"
  "Major mode for the list of sidecars.

\\{dualstack-sidecar-status-mode-map}"
  (setq tabulated-list-format [("Name" 14 t) ("State" 8 t) ("Pid" 7 t)
                               ("Address" 17 t) ("Family" 6 t) ("Uptime" 8 t)
                               ("Calls" 6 t) ("Errors" 6 t)]
        tabulated-list-padding 0)
  (dualstack-view--bookmark (lambda () '("Sidecars"))
                           #'dualstack-sidecar-status-bookmark-jump)
  (add-hook 'tabulated-list-revert-hook #'dualstack-sidecar-status--refresh nil t)
  (tabulated-list-init-header)
  (dualstack-view--setup 'dualstack-sidecar-status-mode dualstack-sidecar-status-mode-map
                        dualstack-sidecar-status--keys)
  (dualstack-sidecar-status--show-titles))

(dualstack-view--only-in 'dualstack-sidecar-status-mode
                        '(dualstack-sidecar-status-stop dualstack-sidecar-status-restart
                          dualstack-sidecar-status-log))

(defun dualstack-sidecar-status--show-titles ()
  "Show the columns' titles above the list; its header line has the keys."
  (remove-overlays nil nil 'dualstack-sidecar-status t)
  (let ((titles (mapconcat (pcase-lambda (`(,title ,width . ,_))
                             (truncate-string-to-width title width nil ?\s))
                           tabulated-list-format " "))
        (overlay (make-overlay (point-min) (point-min))))
    (overlay-put overlay 'dualstack-sidecar-status t)
    (overlay-put overlay 'before-string (propertize (concat titles "\n")
                                                'face '(:inherit (bold default) :underline nil)))))

;;;###autoload
(defun dualstack-sidecar-status ()
  "List the sidecars of this Emacs; keys there stop and restart them."
  (interactive)
  (with-current-buffer (get-buffer-create "*dualstack-sidecars*")
    (dualstack-sidecar-status-mode)
    (dualstack-sidecar-status--refresh)
    (tabulated-list-print)
    (pop-to-buffer (current-buffer))
    (dualstack-view--refresh-each 1))
  (unless dualstack-sidecars
    (message "No sidecar was started; M-x dualstack-sidecar-start starts one")))

;;;###autoload
(defun dualstack-sidecar-status-bookmark-jump (_bookmark)
  "Show the list of sidecars."
  (dualstack-sidecar-status)
  (set-buffer "*dualstack-sidecars*"))

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
    (vector (dualstack-sidecar-status--button sidecar)
            (dualstack-sidecar-status--state sidecar)
            (if live (number-to-string (process-id process)) "")
            address
            (cond ((string-prefix-p "[" address) "IPv6")
                  ((string= address "") "")
                  ((string= address "its pipe") "")
                  (t "IPv4"))
            (if live
                (format-seconds "%h:%.2m:%.2s"
                                (- (float-time) (dualstack-sidecar-started sidecar)))
              "")
            (if connection
                (number-to-string (dualstack-sidecar-status--calls sidecar connection))
              "")
            (if connection
                (number-to-string (dualstack-epc-connection-errors connection))
              ""))))

(defun dualstack-sidecar-status--calls (sidecar connection)
  "Return how often the user has called SIDECAR over CONNECTION.
The two calls by which both sides prove the token are not the user's."
  (max 0 (- (dualstack-epc-connection-calls connection)
            (if (dualstack-sidecar-token sidecar) 2 0))))

(defun dualstack-sidecar-status--button (sidecar)
  "Return the name of SIDECAR as a button for its log."
  (list (dualstack-sidecar-name sidecar)
        'follow-link t
        'help-echo "Show the log of this sidecar"
        'action (lambda (_) (dualstack-sidecar-show-log (dualstack-sidecar-name sidecar)))))

(defun dualstack-sidecar-status--state (sidecar)
  "Return the state of SIDECAR in its color, with why it failed as help."
  (let ((state (dualstack-sidecar-state sidecar))
        (failure (dualstack-sidecar-failure sidecar)))
    (propertize (symbol-name state)
                'face (pcase state ('running 'success) ('failed 'error) (_ 'shadow))
                'help-echo (and failure (dualstack-view--error failure)))))

;;;; Keys

(defun dualstack-sidecar-status--name ()
  "Return the name of the sidecar in this line."
  (or (tabulated-list-get-id) (user-error "No sidecar in this line: move to one")))

(defun dualstack-sidecar-status-stop ()
  "Stop the sidecar in this line."
  (interactive)
  (let* ((name (dualstack-sidecar-status--name))
         (over (memq (dualstack-sidecar-state (dualstack-sidecar--named name))
                     '(stopped failed))))
    (dualstack-sidecar-stop name)
    (revert-buffer)
    (message (if over "%s does not run; r starts it" "Stopping %s") name)))

(defun dualstack-sidecar-status-restart ()
  "Stop the sidecar in this line and start it again."
  (interactive)
  (let ((name (dualstack-sidecar-status--name)))
    (dualstack-sidecar-restart name)
    (revert-buffer)
    (message "Restarting %s..." name)
    (dualstack-sidecar-start
     :name name
     :then (lambda (sidecar) (message "%s" (dualstack-sidecar-describe sidecar))))))

(defun dualstack-sidecar-status-log ()
  "Show what the sidecar in this line has logged."
  (interactive)
  (dualstack-sidecar-show-log (dualstack-sidecar-status--name)))

;;;; Log and hello

;;;###autoload
(defun dualstack-sidecar-show-log (name)
  "Show what the sidecar NAME has logged; as a command, ask which."
  (interactive (list (dualstack-sidecar--read-name "Log of sidecar: ")))
  (let ((sidecar (dualstack-sidecar--named name)))
    (display-buffer (if (buffer-live-p (dualstack-sidecar-log sidecar))
                        (dualstack-sidecar-log sidecar)
                      (dualstack-sidecar--log-buffer name)))))

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
                      (message "%s" (dualstack-view--error err))))))
   :else (lambda (err)
           (message "%s" (dualstack-view--error err)))))

(provide 'dualstack-sidecar-status)

;;; dualstack-sidecar-status.el ends here
