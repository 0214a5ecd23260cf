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
;; package's connection comes through in the end.  A second one, round
;; `gnutls-negotiate', has the errors of TLS stay what they are.
;;
;; A synchronous client of localhost gets the connection that
;; `dualstack-make-network-process' makes, a `:nowait' client what
;; dualstack-nowait.el says; what becomes of the latter is learnt.  A server may
;; get a companion (dualstack-mode-serve.el).  Everything else passes through.

;;; Code:

(require 'cl-lib)
(require 'dualstack)
(require 'dualstack-mode-peers)
(require 'dualstack-tls)

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

;; Defined where a server is.
(defvar dualstack-mode-serve-both)
(declare-function dualstack-mode-serve--make "dualstack-mode-serve" (original args))

;;;###autoload
(define-minor-mode dualstack-mode
  "Have every package connect to localhost without waiting for the wrong family.
Both loopback addresses are tried at once, and what answers is remembered.
See `dualstack-policy', `dualstack-mode-hosts', `dualstack-mode-exclude',
`dualstack-mode-serve-both' and the command `dualstack-mode-report'."
  :global t
  :group 'dualstack
  (if dualstack-mode
      (let ((done nil))
        (unwind-protect
            (progn (dualstack-mode--advise)
                   (advice-add 'gnutls-negotiate :around #'dualstack-tls--negotiate)
                   (setq done t))
          (setq dualstack-mode done)))
    (advice-remove 'make-network-process #'dualstack-mode--make-process)
    (advice-remove 'gnutls-negotiate #'dualstack-tls--negotiate)
    (dualstack-mode--stop-watching)
    (dualstack-mode-peers--stop-measuring)))

(defun dualstack-mode-unload-function ()
  "Turn the mode off before its functions are gone; see `unload-feature'."
  (dualstack-mode 0)
  nil)

;; The names of one option, before and since Emacs 29.
(defvar comp-enable-subr-trampolines)
(defvar native-comp-enable-subr-trampolines)
(defvar load-no-native)

(defvar dualstack-mode--told nil
  "Non-nil once the user was told that there is no trampoline.")

(defun dualstack-mode--advise ()
  "Advise `make-network-process'.
With native compilation Emacs makes a trampoline for the primitive, for which
it needs tools that the machine may lack.  Natively compiled Lisp calls the
primitive past an advice that has none; so what comes with Emacs and connects
for everybody is loaded as byte code then."
  (let ((start (float-time)))
    (condition-case err
        (progn
          (dualstack-mode--add-advice)
          (when (> (- (float-time) start) 0.2)
            (message "dualstack-mode: one-time preparation")))
      (error
       (with-suppressed-warnings ((obsolete comp-enable-subr-trampolines))
         (let ((comp-enable-subr-trampolines nil)
               (native-comp-enable-subr-trampolines nil)
               (load-no-native t))
           (dualstack-mode--add-advice)
           (load "network-stream" nil t)))
       (unless dualstack-mode--told
         (setq dualstack-mode--told t)
         (message "dualstack-mode is on, but natively compiled packages that call `make-network-process' themselves are not helped: install Emacs's native compiler (%s)"
                  (car (split-string (error-message-string err) "[\n:]"))))))))

(defun dualstack-mode--add-advice ()
  "Advise `make-network-process', inside everybody else's advice.
The compiler of a trampoline is started in a directory that is there."
  (let ((default-directory data-directory))
    (advice-add 'make-network-process :around #'dualstack-mode--make-process
                '((depth . 100)))))

(defun dualstack-mode--make-process (original &rest args)
  "Return a process for ARGS, by ORIGINAL or by ours.
If ours fails for another reason than the connection, ORIGINAL is called: it
signals what is wrong with ARGS, and else the fault was ours, which is logged."
  (cond ((dualstack-mode--ours-p args)
         (condition-case err
             (let ((dualstack-attempt--maker original))
               (if (plist-get args :nowait)
                   (dualstack-mode--nowait original args)
                 (dualstack-mode--connect args)))
           (file-error (signal (car err) (cdr err)))
           (user-error
            (dualstack-mode--complain args err)
            (apply original args))
           (error
            (prog1 (apply original args)
              (dualstack-log "%s: internal error, please report it: %s"
                             (plist-get args :name) (error-message-string err))))))
        ((and (plist-get args :server) (bound-and-true-p dualstack-mode-serve-both))
         (require 'dualstack-mode-serve)
         (dualstack-mode-serve--make original args))
        (t (apply original args))))

(defun dualstack-mode--ours-p (args)
  "Return what `dualstack-mode--acts-p' does for ARGS, or nil if that fails.
It runs code of the user, see `dualstack-mode-exclude'."
  (condition-case err
      (dualstack-mode--acts-p args)
    (error
     (dualstack-mode--complain args err)
     nil)))

(defvar dualstack-mode--complaints nil
  "What the user has been told of, texts of errors.")

(defun dualstack-mode--complain (args err)
  "Log that ARGS are left to Emacs because of ERR, a mistake in an option.
The first time also say so."
  (let ((text (error-message-string err)))
    (dualstack-log "%s: left to Emacs: %s" (plist-get args :name) text)
    (unless (member text dualstack-mode--complaints)
      (push text dualstack-mode--complaints)
      (message "dualstack-mode leaves connections to plain Emacs: %s" text))))

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
             (dualstack-mode--host-p host))
         (dualstack-mode--port-p (plist-get args :service))
         ;; A synchronous TLS client of the primitive is set up by Emacs alone.
         (or (plist-get args :nowait) (not (plist-get args :tls-parameters)))
         (not (dualstack-mode--excluded-p args)))))

(defun dualstack-mode--host-p (host)
  "Return non-nil if HOST is in `dualstack-mode-hosts'."
  (if (dualstack-mode--strings-p dualstack-mode-hosts)
      (member-ignore-case host dualstack-mode-hosts)
    (user-error "Bad `dualstack-mode-hosts' %S: set it to a list of names"
                dualstack-mode-hosts)))

(defun dualstack-mode--port-p (service)
  "Return non-nil if SERVICE is the number of a port that can be connected to."
  (let ((number (if (and (stringp service) (string-match-p "\\`[0-9]+\\'" service))
                    (string-to-number service)
                  service)))
    (and (integerp number) (< 0 number 65536))))

(defun dualstack-mode--excluded-p (args)
  "Return non-nil if the user does not want the mode to act on ARGS."
  (cond ((functionp dualstack-mode-exclude)
         (funcall dualstack-mode-exclude args))
        ((dualstack-mode--strings-p dualstack-mode-exclude)
         (let ((name (plist-get args :name)))
           (cl-some (lambda (regexp) (string-match-p regexp name))
                    dualstack-mode-exclude)))
        (t (user-error
            "Bad `dualstack-mode-exclude' %S: set it to a list of strings or a function"
            dualstack-mode-exclude))))

(defun dualstack-mode--strings-p (value)
  "Return non-nil if VALUE is a list of strings."
  (and (proper-list-p value) (cl-every #'stringp value)))

;;;; Synchronous clients

(defun dualstack-mode--connect (args)
  "Return a connected process for ARGS, or signal `file-error'."
  (let* ((start (float-time))
         (process (condition-case err
                      (apply #'dualstack-make-network-process args)
                    (file-error
                     (dualstack-mode-peers--note args dualstack--last-attempt-records
                                            (- (float-time) start) nil err)
                     (signal (car err) (cdr err))))))
    (dualstack-mode-peers--note args dualstack--last-attempt-records (- (float-time) start)
                           (dualstack-mode--process-family process) nil)
    process))

(defun dualstack-mode--process-family (process)
  "Return the address family that PROCESS is connected by, or nil."
  (let ((remote (process-contact process :remote)))
    (and (vectorp remote) (dualstack-address--family remote))))

;;;; Asynchronous clients

(defvar dualstack-mode--watched nil
  "Connecting processes whose outcome is to be learnt.
Each is a list (PROCESS ARGS START), START being a time as of `float-time'.")

(defvar dualstack-mode--watch-timer nil
  "The timer that looks at `dualstack-mode--watched', or nil.")

(defconst dualstack-mode--watch-limit 60
  "Seconds after which the outcome of a connection is no longer waited for.")

(defconst dualstack-mode--unanswered 0.5
  "Seconds without an answer after which Windows is taken to repeat a refusal.
A client may delete its process as soon as it hears of that.")

(defconst dualstack-mode--silence 2
  "Seconds without an answer after which an address is called silent.")

(defun dualstack-mode--nowait (original args)
  "Return the process of ORIGINAL for the `:nowait' client ARGS, and watch it."
  (let* ((local (dualstack-localhost-p (plist-get args :host)))
         (process (if local
                      (dualstack-nowait--make original args)
                    (apply original args))))
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
               (peer (dualstack--peer args))
               (family (dualstack-mode--process-family process)))
    (pcase (process-status process)
      ((or 'open 'run)
       (when family
         (dualstack-memory--remember peer family))
       (dualstack-mode-peers--note args nil time family nil)
       t)
      ('failed
       (dualstack-mode--learn-failure peer family)
       (dualstack-mode-peers--note args nil time nil (process-exit-status process))
       t)
      ('connect
       (when (and family (> time dualstack-mode--unanswered) (eq system-type 'windows-nt))
         (dualstack-memory--absent peer family))
       (when (and family (> time dualstack-mode--silence))
         (dualstack-memory--note peer 'silent family))
       (> time dualstack-mode--watch-limit))
      ;; One that was deleted meanwhile teaches nothing.
      (_ t))))

(defun dualstack-mode--learn-failure (peer family)
  "Note that a `:nowait' client of PEER has failed, by FAMILY at last."
  (when (eq family (dualstack-memory--recall peer 'answered))
    (dualstack-memory--note peer 'answered nil))
  (when (eq family (dualstack-memory--recall peer 'silent))
    (dualstack-memory--note peer 'silent nil))
  ;; Windows was given that one alone.
  (when (and family (eq system-type 'windows-nt))
    (dualstack-memory--note peer 'absent family)))

(autoload 'dualstack-mode-report "dualstack-mode-report" nil t)

(provide 'dualstack-mode)

;;; dualstack-mode.el ends here
