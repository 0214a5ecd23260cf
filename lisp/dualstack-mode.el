;;; dualstack-mode.el --- Every package's localhost connection, cured  -*- lexical-binding: t; -*-

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

;; `dualstack-mode' puts one advice round `make-network-process', which every
;; package's connection comes through in the end.
;;
;; A synchronous client of localhost gets the connection that
;; `dualstack-make-network-process' makes.  A `:nowait' client gets the
;; process that Emacs makes, at once: if it is remembered which family answers
;; at the port, with that literal address, and otherwise untouched; what
;; becomes of it is learnt.  Everything else passes through.

;;; Code:

(require 'cl-lib)
(require 'dualstack)

(defcustom dualstack-mode-hosts nil
  "Host names besides localhost whose connections `dualstack-mode' makes.
Their addresses are looked up and raced: for hosts whose IPv6 is broken."
  :type '(repeat string)
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-mode-exclude nil
  "Connections that `dualstack-mode' leaves alone.
Either a list of regular expressions that match process names, or a function
that is called with the arguments of `make-network-process' as a list and
returns non-nil for them."
  :type '(choice (repeat regexp) function)
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

;;;###autoload
(define-minor-mode dualstack-mode
  "Have every package connect to localhost without waiting for the wrong family.
Both loopback addresses are tried at once, and what answers is remembered.
See `dualstack-policy', `dualstack-mode-hosts', `dualstack-mode-exclude' and
the command `dualstack-mode-report'."
  :global t
  :group 'dualstack
  (if dualstack-mode
      (let ((start (float-time)))
        (advice-add 'make-network-process :around #'dualstack-mode--make-process)
        ;; With native compilation Emacs makes a trampoline for the primitive.
        (when (> (- (float-time) start) 0.2)
          (message "dualstack-mode: one-time preparation")))
    (advice-remove 'make-network-process #'dualstack-mode--make-process)
    (dualstack-mode--stop-watching)))

(defun dualstack-mode--make-process (original &rest args)
  "Return a process for ARGS, by ORIGINAL or by ours.
An error of our own is logged, and ORIGINAL called."
  (if (not (dualstack-mode--ours-p args))
      (apply original args)
    (condition-case err
        (if (plist-get args :nowait)
            (dualstack-mode--nowait original args)
          (dualstack-mode--connect args))
      (file-error (signal (car err) (cdr err)))
      (error
       (dualstack-log "%s: internal error, please report it: %s"
                      (plist-get args :name) (error-message-string err))
       (apply original args)))))

(defun dualstack-mode--ours-p (args)
  "Return what `dualstack-mode--acts-p' does for ARGS, or nil if that fails.
It runs code of the user, see `dualstack-mode-exclude'."
  (condition-case err
      (dualstack-mode--acts-p args)
    (error
     (dualstack-log "%s: not looked at: %s" (plist-get args :name)
                    (error-message-string err))
     nil)))

(defun dualstack-mode--acts-p (args)
  "Return non-nil if a process with ARGS is ours to make."
  (let ((host (plist-get args :host)))
    (and (stringp host)
         (not (or (plist-get args :server)
                  (plist-get args :family)
                  (plist-get args :type)
                  (plist-get args :remote)
                  (plist-get args :local)
                  (plist-get args :use-external-socket)))
         (or (dualstack-localhost-p host)
             (member-ignore-case host dualstack-mode-hosts))
         (dualstack-mode--port-p (plist-get args :service))
         ;; A synchronous TLS client of the primitive is set up by Emacs alone.
         (or (plist-get args :nowait) (not (plist-get args :tls-parameters)))
         (not (dualstack-mode--excluded-p args)))))

(defun dualstack-mode--port-p (service)
  "Return non-nil if SERVICE is the number of a port that can be connected to."
  (let ((number (if (and (stringp service) (string-match-p "\\`[0-9]+\\'" service))
                    (string-to-number service)
                  service)))
    (and (integerp number) (< 0 number 65536))))

(defun dualstack-mode--excluded-p (args)
  "Return non-nil if the user does not want the mode to act on ARGS."
  (if (functionp dualstack-mode-exclude)
      (funcall dualstack-mode-exclude args)
    (let ((name (plist-get args :name)))
      (cl-some (lambda (regexp) (string-match-p regexp name))
               dualstack-mode-exclude))))

;;;; Synchronous clients

(defun dualstack-mode--connect (args)
  "Return a connected process for ARGS, or signal `file-error'."
  (let* ((start (float-time))
         (process (condition-case err
                      (apply #'dualstack-make-network-process args)
                    (file-error
                     (dualstack-mode-record args dualstack-last-attempt-records
                                            (- (float-time) start) nil err)
                     (signal (car err) (cdr err))))))
    (dualstack-mode-record args dualstack-last-attempt-records (- (float-time) start)
                           (dualstack-mode--process-family process) nil)
    process))

(defun dualstack-mode--process-family (process)
  "Return the address family that PROCESS is connected by, or nil."
  (let ((remote (process-contact process :remote)))
    (and (vectorp remote) (dualstack-family remote))))

;;;; Asynchronous clients

(defvar dualstack-mode--watched nil
  "Connecting processes whose outcome is to be learnt.
Each is a list (PROCESS ARGS START), START being a time as of `float-time'.")

(defvar dualstack-mode--watch-timer nil
  "The timer that looks at `dualstack-mode--watched', or nil.")

(defconst dualstack-mode--watch-limit 60
  "Seconds after which the outcome of a connection is no longer waited for.")

(defun dualstack-mode--nowait (original args)
  "Return the process of ORIGINAL for the `:nowait' client ARGS.
With a remembered family it is given that literal address."
  (let* ((port (dualstack-port (plist-get args :service)))
         (family (and (dualstack-localhost-p (plist-get args :host))
                      (or (and (not (eq dualstack-policy 'both)) dualstack-policy)
                          (dualstack-remembered-family port))))
         (process (dualstack-make-nowait original args family)))
    (dualstack-mode--watch process args)
    process))

(defun dualstack-mode--watch (process args)
  "Learn, once it is clear, what became of PROCESS that was made for ARGS.
Its sentinel is the caller's, so its status is looked at."
  (push (list process args (float-time)) dualstack-mode--watched)
  (unless dualstack-mode--watch-timer
    (setq dualstack-mode--watch-timer
          (run-at-time 0.05 0.1 #'dualstack-mode--look))))

(defun dualstack-mode--look ()
  "Learn from those watched processes that have connected or failed."
  (setq dualstack-mode--watched
        (cl-remove-if #'dualstack-mode--learn dualstack-mode--watched))
  (unless dualstack-mode--watched
    (dualstack-mode--stop-watching)))

(defun dualstack-mode--stop-watching ()
  "Watch no process any longer."
  (setq dualstack-mode--watched nil)
  (when dualstack-mode--watch-timer
    (cancel-timer dualstack-mode--watch-timer)
    (setq dualstack-mode--watch-timer nil)))

(defun dualstack-mode--learn (watched)
  "Learn from WATCHED; return non-nil if it need not be watched any longer."
  (pcase-let* ((`(,process ,args ,start) watched)
               (time (- (float-time) start))
               (host (plist-get args :host))
               (port (dualstack-port (plist-get args :service))))
    (pcase (process-status process)
      ((or 'open 'run)
       (let ((family (dualstack-mode--process-family process)))
         (when family
           (dualstack-remember (dualstack-peer host port) family))
         (dualstack-mode-record args nil time family nil))
       t)
      ('failed
       (dualstack-forget host port)
       (dualstack-mode-record args nil time nil (process-exit-status process))
       t)
      ;; One that was deleted meanwhile teaches nothing.
      ('connect (> time dualstack-mode--watch-limit))
      (_ t))))

;;;; What happened

(cl-defstruct (dualstack-mode-peer (:constructor dualstack-mode-peer--make)
                                   (:copier nil))
  "What this session has seen of a HOST and PORT.
COUNT is the number of connections, FAILED that of those that failed;
FAMILY the last that answered, SAVED the seconds that the plain order of
addresses would have cost more, ERR the last error.  COSTS is an alist of
families and the seconds that their last failure took."
  host port (count 0) (failed 0) family (saved 0.0) err costs)

(defvar dualstack-mode-peers nil
  "The `dualstack-mode-peer' records of this session, newest first.")

(defun dualstack-mode-record (args attempts time family err)
  "Note a connection for ARGS that took TIME seconds, and its ATTEMPTS.
FAMILY is that which answered, or nil, and then ERR is the error."
  (with-demoted-errors "dualstack-mode: %S"
    (dualstack-mode--record args attempts time family err)))

(defun dualstack-mode--record (args attempts time family err)
  "Do what `dualstack-mode-record' does for ARGS, ATTEMPTS, TIME, FAMILY and ERR."
  (let* ((host (plist-get args :host))
         (port (dualstack-port (plist-get args :service)))
         (peer (or (cl-find-if (lambda (peer)
                                 (and (equal (dualstack-mode-peer-host peer) host)
                                      (equal (dualstack-mode-peer-port peer) port)))
                               dualstack-mode-peers)
                   (car (push (dualstack-mode-peer--make :host host :port port)
                              dualstack-mode-peers)))))
    (cl-incf (dualstack-mode-peer-count peer))
    (dolist (attempt attempts)
      (when (stringp (dualstack-race-attempt-outcome attempt))
        (setf (alist-get (dualstack-family (dualstack-race-attempt-address attempt))
                         (dualstack-mode-peer-costs peer))
              (- (dualstack-race-attempt-end attempt)
                 (dualstack-race-attempt-start attempt)))))
    (cond (family
           (setf (dualstack-mode-peer-family peer) family)
           ;; Plain Emacs comes to IPv4 after IPv6 has failed.
           (when (eq family 'ipv4)
             (cl-incf (dualstack-mode-peer-saved peer)
                      (max 0 (- (or (alist-get 'ipv6 (dualstack-mode-peer-costs peer)) 0)
                                time)))))
          (t
           (cl-incf (dualstack-mode-peer-failed peer))
           (setf (dualstack-mode-peer-err peer)
                 (cond ((numberp err) (format "failed with code %d" err))
                       ((consp err) (or (plist-get (nthcdr 3 err) :attempts)
                                        (error-message-string err)))
                       (t (format "%s" err))))))))

(autoload 'dualstack-mode-report "dualstack-mode-report" nil t)

(provide 'dualstack-mode)

;;; dualstack-mode.el ends here
