;;; dualstack-sidecar-record.el --- What is known of a sidecar  -*- lexical-binding: t; -*-

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

;; The record of a sidecar, the list of all, and how others learn what became of
;; one: functions that wait for it, and the mode line.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack-epc-auth)
(require 'dualstack-epc-later)

(cl-defstruct (dualstack-sidecar (:constructor dualstack-sidecar--make)
                                 (:copier nil))
  "A child process that serves EPC.
NAME names it, COMMAND is its command line.  STATE is `starting',
`running', `stopping', `stopped' or `failed'; PROCESS the child, LOG the
buffer of its standard error.  PORT and ADDRESSES, pairs of host and
port, are what it has announced; ADDRESS is the one connected to.
CONNECTION is the `dualstack-epc-connection'.  STARTED is the time as of
`float-time', RESTARTS how often it was started again in a row.  FAILURE is
the last error."
  name command state process log port addresses address connection started
  (restarts 0) failure
  ;; What `dualstack-sidecar-start' was told, and the environment for it.
  -own-command -modules -path -requirements -python -transport -place -ready-word -auth
  -methods -auto-restart -reload -environment
  (-output "") -stderr -timer -then -else -cancel -again
  ;; The function that starts its process, called with the sidecar; for another
  ;; machine, the command that reaches it when it is started again by itself.
  -launcher -direct
  ;; Why the connection ended that is being made again; the last one that was.
  -broken -renewed
  ;; What it has announced, as `dualstack-epc--auth-seal' makes it.
  -token)

(defun dualstack-sidecar-token (sidecar)
  "Return the token that SIDECAR has announced, a string, or nil if none."
  (dualstack-epc--auth-token (dualstack-sidecar--token sidecar)))

(defvar dualstack-sidecars nil
  "All sidecars of this Emacs that were started, newest first.")

;;;; Finding

(defun dualstack-sidecar-get (&optional name)
  "Return the sidecar called NAME, by default \"dualstack\", or nil."
  (cl-find (or name "dualstack") dualstack-sidecars
           :key #'dualstack-sidecar-name :test #'equal))

(defun dualstack-sidecar--named (name)
  "Return the sidecar NAME, by default \"dualstack\".
Signal `user-error' if there is none."
  (unless (or (null name) (stringp name))
    (user-error "The name of a sidecar is a string, and not a %s" (type-of name)))
  (or (dualstack-sidecar-get name)
      (user-error "No sidecar %s was started" (or name "dualstack"))))

(defun dualstack-sidecar--read-name (prompt)
  "Return the name of a sidecar, read with PROMPT and completion.
If there is only one it is not asked for.  Signal `user-error' if there is none."
  (let ((names (mapcar #'dualstack-sidecar-name dualstack-sidecars)))
    (cond ((null names)
           (user-error "No sidecar was started; M-x dualstack-sidecar-start starts one"))
          ((null (cdr names)) (car names))
          (t (completing-read prompt names nil t)))))

(defun dualstack-sidecar-describe (sidecar)
  "Return a phrase about SIDECAR and what state it is in."
  (pcase (dualstack-sidecar-state sidecar)
    ('running (format "%s runs: process %d at %s" (dualstack-sidecar-name sidecar)
                      (process-id (dualstack-sidecar-process sidecar))
                      (dualstack-sidecar-address sidecar)))
    ('failed (format "%s: %s" (dualstack-sidecar-name sidecar)
                     (cadr (dualstack-sidecar-failure sidecar))))
    (state (format "%s is %s" (dualstack-sidecar-name sidecar) state))))

;;;; Telling

(defun dualstack-sidecar--notify (sidecar then else)
  "Call THEN or ELSE once SIDECAR is running, or has failed."
  (pcase (dualstack-sidecar-state sidecar)
    ('running (when then (dualstack-epc--later then sidecar)))
    ('failed (when else (dualstack-epc--later else (dualstack-sidecar-failure sidecar))))
    (_ (when then (push then (dualstack-sidecar--then sidecar)))
       (when else (push else (dualstack-sidecar--else sidecar))))))

(defun dualstack-sidecar--tell (sidecar)
  "Call whoever waits for SIDECAR with what became of it."
  (let ((then (nreverse (dualstack-sidecar--then sidecar)))
        (else (nreverse (dualstack-sidecar--else sidecar))))
    (setf (dualstack-sidecar--then sidecar) nil
          (dualstack-sidecar--else sidecar) nil)
    (if (eq (dualstack-sidecar-state sidecar) 'running)
        (dolist (function then)
          (dualstack-epc--later function sidecar))
      (dolist (function else)
        (dualstack-epc--later function (dualstack-sidecar-failure sidecar))))))

;;;; The timer

(defun dualstack-sidecar--disarm (sidecar)
  "Cancel the timer of SIDECAR."
  (when (dualstack-sidecar--timer sidecar)
    (cancel-timer (dualstack-sidecar--timer sidecar))
    (setf (dualstack-sidecar--timer sidecar) nil)))

;;;; Mode line

(defvar dualstack-sidecar--mode-line nil
  "What the mode line says of sidecars that start.")
(put 'dualstack-sidecar--mode-line 'risky-local-variable t)

(defun dualstack-sidecar--show-in-mode-line ()
  "Show in the mode line which sidecars are starting, or nothing."
  (let ((starting (cl-remove 'starting dualstack-sidecars
                             :key #'dualstack-sidecar-state :test-not #'eq)))
    (setq dualstack-sidecar--mode-line
          (and starting
               (format " [%s...]" (mapconcat #'dualstack-sidecar-name starting " "))))
    (if starting
        (add-to-list 'mode-line-misc-info '(t dualstack-sidecar--mode-line) t)
      (setq mode-line-misc-info
            (delete '(t dualstack-sidecar--mode-line) mode-line-misc-info)))
    (force-mode-line-update t)))

(provide 'dualstack-sidecar-record)

;;; dualstack-sidecar-record.el ends here
