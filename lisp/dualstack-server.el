;;; dualstack-server.el --- Listen on both loopback addresses  -*- lexical-binding: t; -*-

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

;; Emacs as the server that a client reaches at 127.0.0.1 and at ::1, at
;; one port, whichever of them its "localhost" is.

;;; Code:

(require 'dualstack)
(require 'cl-lib)

(defconst dualstack-server--tries 20
  "How many ports are drawn before a free pair is given up.")

;;;###autoload
(defun dualstack-make-server (&rest args)
  "Listen on 127.0.0.1 and ::1 at one port; return the server processes.
ARGS are as for `make-network-process' with `:server', without the keywords
that say where: the addresses are always the two loopback literals, never a
wildcard.  `:service' is a port, or t for a port that is free at both.

The value is a list of one process for each address family, IPv4 first;
delete each to stop listening.  Their port is in `process-contact'.  Where
the machine lacks a family, the list has one process and *dualstack-log*
says so.  Signal `file-error' if the port is taken at either address."
  (let ((service (or (plist-get args :service) t))
        (parked nil)
        (inhibit-quit t))               ; Until they are the caller's.
    (unless (eq service t)
      (setq service (dualstack-address--port service)))
    (unwind-protect
        (cl-loop repeat dualstack-server--tries
                 for families = '(ipv4 ipv6) then (dualstack-server--next-order families)
                 for pair = (dualstack-server--listen-pair args service families)
                 when (cl-every #'processp pair)
                 return (dualstack-server--report pair args)
                 do (push (car pair) parked)
                 finally (error "No port is free at both 127.0.0.1 and ::1"))
      (mapc #'dualstack-server--delete parked))))

;; Leading with the same family can repeat a collision.  But a Windows Emacs
;; does not tell which port it has drawn for IPv6: its contact says t.
(defun dualstack-server--next-order (families)
  "Return the order of FAMILIES to draw a port in after a collision."
  (if (eq system-type 'windows-nt)
      families
    (reverse families)))

(defun dualstack-server--listen-pair (args service families)
  "Listen with ARGS at SERVICE for each of FAMILIES, the first one leading.
Return the processes, without a family that the machine lacks; the second
element is nil if t was asked for and the second address has that port taken."
  (let* ((present (cl-remove-if-not #'dualstack-server--family-p families))
         (leader (dualstack-server--listen args (or (car present) 'ipv4) service))
         (port (process-contact leader :service))
         (done nil))
    (unwind-protect
        (prog1 (cons leader
                     (when (cdr present)
                       (list (condition-case err
                                 (dualstack-server--listen args (cadr present) port)
                               (file-error
                                (unless (eq service t)
                                  (signal (car err) (cdr err))))))))
          (setq done t))
      (unless done
        (dualstack-server--delete leader)))))

;; A server of ours is on both addresses, and needs no companion.
(defvar dualstack-mode-serve-both)

(defun dualstack-server--listen (args family port)
  "Return a server process made with ARGS for FAMILY at PORT, or t for any.
Signal `file-error' with the address if the port is taken."
  (let ((address (dualstack-loopback-address family (if (eq port t) 0 port)))
        (dualstack-mode-serve-both nil))
    (condition-case err
        (apply #'make-network-process
               :server (or (plist-get args :server) t) :type nil :nowait nil
               :family family :host (format-network-address address t)
               :service port :local nil :remote nil
               ;; On Windows SO_REUSEADDR lets two servers have one address.
               (append (and (eq system-type 'windows-nt) '(:reuseaddr nil))
                       args))
      (file-error
       (signal (car err)
               (append (cdr err) (list (dualstack-address-string address))))))))

(defun dualstack-server--family-p (family)
  "Return non-nil if this machine has the loopback address of FAMILY."
  (condition-case nil
      (let ((dualstack-mode-serve-both nil)
            (inhibit-quit t))
        (delete-process
         (make-network-process
          :name "dualstack-probe" :server t :family family :service t
          :host (format-network-address
                 (dualstack-loopback-address family 0) t)
          :sentinel #'ignore))
        t)
    (error nil)))

(defun dualstack-server--report (servers args)
  "Return SERVERS, IPv4 first; log it if they are not two.
ARGS are those that the servers were made with."
  (unless (cdr servers)
    (dualstack-log "%s: listening on %s only, this machine lacks the other family"
                   (plist-get args :name) (process-contact (car servers) :host)))
  (sort servers (lambda (a _b) (eq (process-contact a :family) 'ipv4))))

(defun dualstack-server--delete (process)
  "Delete PROCESS without a word from its sentinel."
  (when process
    (set-process-sentinel process #'ignore)
    (delete-process process)))

(provide 'dualstack-server)

;;; dualstack-server.el ends here
