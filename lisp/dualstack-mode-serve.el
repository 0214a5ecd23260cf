;;; dualstack-mode-serve.el --- Servers of packages on both loopback addresses  -*- lexical-binding: t; -*-

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

;; A package that listens on 127.0.0.1 is not found by a client that takes ::1 for
;; localhost, as Node's do.  With `dualstack-mode-serve-both' its server gets a
;; companion at the same port of the other address.

;;; Code:

(require 'dualstack)

(defcustom dualstack-mode-serve-both nil
  "Non-nil means that local servers listen on both addresses of localhost.
When a package makes a server on one loopback address, `dualstack-mode' adds a
companion on the same port of the other address.  The companion has the same
functions, and ends with the server.  If that
port is taken, the server stays alone, and *dualstack-log* says so.  The
companion's process is called as the server, with its address added."
  :type 'boolean
  :group 'dualstack
  :package-version '(dualstack . "0.2.0"))

(defvar dualstack-mode-serve--pairs nil
  "Servers with companions, a list of pairs (SERVER . COMPANION).")

(defvar dualstack-mode-serve--timer nil
  "The timer that looks at servers with companions, or nil.
A package may replace the sentinel of its server.")

(defun dualstack-mode-serve--make (original args)
  "Return the server of ORIGINAL for ARGS, and give it a companion."
  (dualstack-mode-serve--prune)
  (let ((server (apply original args)))
    (with-demoted-errors "dualstack-mode-serve-both: %S"
      (let ((address (dualstack-mode-serve--other server args)))
        (when address
          (dualstack-mode-serve--accompany server original args address))))
    server))

(defun dualstack-mode-serve--other (server args)
  "Return the address for a companion of SERVER, made with ARGS, or nil.
It is the other loopback address with the same port."
  (let ((local (and (not (plist-get args :type))
                    (not (plist-get args :local))
                    (process-contact server :local))))
    (when (vectorp local)
      (let ((port (aref local (1- (length local)))))
        (cond ((equal local (dualstack-loopback-address 'ipv4 port))
               (dualstack-loopback-address 'ipv6 port))
              ((equal local (dualstack-loopback-address 'ipv6 port))
               (dualstack-loopback-address 'ipv4 port)))))))

(defun dualstack-mode-serve--accompany (server original args address)
  "Give SERVER a companion at ADDRESS, made with ARGS by ORIGINAL."
  (condition-case err
      (let ((companion
             (apply original
                    (append (list :name (format "%s %s" (process-name server)
                                                (dualstack-address-string address))
                                  :family (dualstack-address--family address)
                                  :host (format-network-address address t)
                                  :service (aref address (1- (length address)))
                                  ;; Emacs shall ask about the server alone.
                                  :noquery t
                                  :log (dualstack-mode-serve--log server args))
                            args))))
        (push (cons server companion) dualstack-mode-serve--pairs)
        (unless dualstack-mode-serve--timer
          (setq dualstack-mode-serve--timer
                (run-at-time 1 1 #'dualstack-mode-serve--prune)))
        (add-function :after (process-sentinel server)
                      #'dualstack-mode-serve--hear))
    (error
     (dualstack-log "%s: no companion at %s: %s" (process-name server)
                    (dualstack-address-string address) (error-message-string err)))))

(defun dualstack-mode-serve--log (server args)
  "Return the `:log' function of a companion of SERVER, which ARGS made.
It turns clients away that come after SERVER has ended, and gives others what
SERVER has now."
  (lambda (companion client message)
    (if (process-live-p server)
        (progn
          (dualstack-mode-serve--dress client server)
          (when (plist-get args :log)
            (funcall (plist-get args :log) companion client message)))
      (set-process-sentinel client #'ignore)
      (dualstack-mode-serve--kill-buffer client)
      (delete-process client)
      (dualstack-mode-serve--prune))))

(defun dualstack-mode-serve--dress (client server)
  "Give CLIENT what it would have if it had come to SERVER itself.
Emacs makes no buffer for it where SERVER has a filter."
  (unless (eq (process-filter server) #'internal-default-process-filter)
    (dualstack-mode-serve--kill-buffer client))
  (set-process-filter client (process-filter server))
  (set-process-sentinel client (process-sentinel server))
  (set-process-plist client (copy-sequence (process-plist server)))
  (set-process-query-on-exit-flag client (process-query-on-exit-flag server))
  (let ((coding (process-coding-system server)))
    (set-process-coding-system client (car coding) (cdr coding))))

(defun dualstack-mode-serve--kill-buffer (client)
  "Kill the buffer of CLIENT, if it has one."
  (let ((buffer (process-buffer client)))
    (when buffer
      (set-process-buffer client nil)
      (kill-buffer buffer))))

(defun dualstack-mode-serve--hear (process _event)
  "End the companion of PROCESS if that has ended.
Clients have the sentinel of their server, and come here too."
  (when (assq process dualstack-mode-serve--pairs)
    (dualstack-mode-serve--prune)))

(defun dualstack-mode-serve--prune ()
  "End the companions of servers that have ended."
  (let ((pairs dualstack-mode-serve--pairs))
    (setq dualstack-mode-serve--pairs nil)
    (dolist (pair pairs)
      (if (process-live-p (car pair))
          (push pair dualstack-mode-serve--pairs)
        (set-process-sentinel (cdr pair) #'ignore)
        (delete-process (cdr pair))))
    (when (and dualstack-mode-serve--timer (null dualstack-mode-serve--pairs))
      (cancel-timer dualstack-mode-serve--timer)
      (setq dualstack-mode-serve--timer nil))))

(provide 'dualstack-mode-serve)

;;; dualstack-mode-serve.el ends here
