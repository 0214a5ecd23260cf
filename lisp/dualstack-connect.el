;;; dualstack-connect.el --- Talk to a port from a buffer  -*- lexical-binding: t; -*-

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

;; M-x dualstack-connect: connect to a host and port, and send lines to
;; the peer from a Comint buffer.

;;; Code:

(require 'comint)
(require 'subr-x)
(require 'dualstack)
(require 'dualstack-view)

(defvar dualstack-connect--history nil
  "Ports that `dualstack-connect' was used with, newest first, as strings.")

(define-derived-mode dualstack-connect-mode comint-mode "Dualstack"
  "Major mode for a buffer that is connected to a port.
\\<dualstack-connect-mode-map>Type a line and \\[comint-send-input] to send it."
  (setq-local comint-process-echoes nil))

;;;###autoload
(defun dualstack-connect (host port)
  "Connect to HOST at PORT and show a buffer to talk to the peer in.
HOST is a name or an address, PORT a number or a service name; ports used
before are offered.  Return the buffer.  As a command, say in the echo area
which address answered and how long that took, or offer to diagnose why none
did."
  (interactive (dualstack-connect--read-peer))
  (dualstack-address--check-host host)
  (let* ((service (dualstack-address--port port))
         (peer (dualstack-address--with-port host service))
         (name (format "dualstack %s" peer))
         (buffer (format "*%s*" name))
         (start (float-time)))
    (unless (comint-check-proc buffer)
      (message "Connecting to %s... (C-g to quit)" peer)
      (condition-case err
          (dualstack-connect--open buffer name host service)
        (file-error
         (if (called-interactively-p 'any)
             (dualstack-connect--offer-diagnosis host service err)
           (signal (car err) (cdr err)))))
      (add-to-history 'dualstack-connect--history (format "%s" service))
      (message "Connected to %s in %.1f ms; type a line and RET to send it"
               (dualstack-connect--peer buffer)
               (* 1000 (- (float-time) start))))
    (pop-to-buffer buffer)
    (get-buffer buffer)))

(defun dualstack-connect--offer-diagnosis (host port err)
  "Say that connecting to PORT of HOST failed with ERR; d diagnoses that."
  (let ((map (make-sparse-keymap)))
    (define-key map "d" (lambda ()
                          (interactive)
                          (dualstack-diagnose host port)))
    (set-transient-map map)
    (user-error "Cannot connect to %s: %s; type d to see why"
                (dualstack-address--with-port host port)
                (if (stringp (nth 2 err)) (nth 2 err) (dualstack-view--error err)))))

(defun dualstack-connect--read-peer ()
  "Read a host and a port, and return them as a list.
What is wrong with either is signalled as the user's error."
  (condition-case err
      (let ((host (string-trim
                   (read-string "Host (default localhost): " nil nil "localhost"))))
        (dualstack-address--check-host host)
        (let ((port (dualstack-address--port (string-trim (dualstack-connect--read-port)))))
          (add-to-history 'dualstack-connect--history (format "%s" port))
          (list host port)))
    (user-error (signal (car err) (cdr err)))
    (error (user-error "%s" (error-message-string err)))))

(defun dualstack-connect--read-port ()
  "Read a port, with completion over those used before."
  (let* ((history-add-new-input nil)    ; It may be no port.
         (port (completing-read (if dualstack-connect--history
                                    (format "Port (default %s): "
                                            (car dualstack-connect--history))
                                  "Port: ")
                                dualstack-connect--history nil nil nil
                                'dualstack-connect--history
                                (car dualstack-connect--history))))
    (when (string= (string-trim port) "")
      (user-error "No port: type the number that the server listens on"))
    port))

(defun dualstack-connect--open (buffer name host service)
  "Connect BUFFER to HOST at SERVICE by a process called NAME."
  (let ((process (dualstack-open-network-stream name nil host service)))
    (with-current-buffer (get-buffer-create buffer)
      (dualstack-connect-mode)
      (goto-char (point-max))
      (set-process-buffer process (current-buffer))
      (set-marker (process-mark process) (point))
      (set-process-filter process #'comint-output-filter)
      (set-process-query-on-exit-flag process nil))))

(defun dualstack-connect--peer (buffer)
  "Return the address that BUFFER is connected to, a string."
  (dualstack-address-string
   (process-contact (get-buffer-process buffer) :remote)))

(autoload 'dualstack-diagnose "dualstack-diagnose" nil t)

(provide 'dualstack-connect)

;;; dualstack-connect.el ends here
