;;; dualstack-sidecar.el --- A Python process of Emacs's own  -*- lexical-binding: t; -*-

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

;; A sidecar is a child process that serves EPC to this Emacs alone.
;;
;; 1. `dualstack-sidecar-start' starts the child.  It prints its port as the
;;    first line, and as the second one a token and its addresses; standard
;;    error goes to a log buffer.
;; 2. Emacs connects to an address that the child has told, and both prove
;;    the token.  The sidecar is then running, and :then is called.
;; 3. The child ends by itself when its input does: Emacs never waits for it,
;;    and when Emacs is killed it goes too.
;; 4. When the child ends unasked, every call ends with an error, the last
;;    lines of its log are shown, and if wanted it is started again.

;;; Code:

(require 'cl-lib)
(require 'dualstack-epc)
(require 'dualstack-sidecar-connect)
(require 'dualstack-sidecar-end)
(require 'dualstack-sidecar-launch)
(require 'dualstack-sidecar-log)
(require 'dualstack-sidecar-prepare)
(require 'dualstack-sidecar-python)
(require 'dualstack-sidecar-record)
(require 'dualstack-sidecar-reload)
(require 'dualstack-sidecar-remote)

;;;; Starting

;;;###autoload
(cl-defun dualstack-sidecar-start (&key (name "dualstack") command modules path
                                        requirements python (transport 'socket) directory
                                        (auth t) methods restart reload log-file then else wait)
  "Start the sidecar NAME and return it at once; it connects by itself.
If it runs already, return it as it is.

COMMAND is a list, a program and arguments that serve EPC.  By default it is
the Python server of this package, run by `dualstack-sidecar-python', with
MODULES, names of Python modules or full names of files that end in .py.
Modules are looked for by name in Python's own places and then in PATH, a
list of directories; the current directory is none of these.

REQUIREMENTS is a list of Python packages, as pip writes them.  If there are
any, or files of MODULES have inline metadata (PEP 723), the sidecar runs in an
environment that has them, in `dualstack-sidecar-environments-directory'.  It
is built at the first start, in the background; see
`dualstack-sidecar-environments'.
PYTHON, a full name or a program on the path, runs the sidecar instead, with
the packages that it has.

COMMAND prints its port as its first line; if AUTH is non-nil, the second
line is that of `dualstack-epc serve --auth'.  It must exit at the end of its
standard input.  It runs in a directory of the user's own, usually the home
directory.  If TRANSPORT is `pipe', EPC uses the standard input and output of
the child instead, without a port or a proof, and AUTH is ignored.

With DIRECTORY, a remote name such as \"/ssh:host:~/\", the sidecar runs there,
by TRAMP, over a pipe; `current' means the machine of the current buffer's
directory, in the home directory.  The name of the sidecar is then NAME and that
of the machine, as each has its own.  Files of MODULES that are here, and
what they may import from beside them, are copied there.

METHODS is a list of (NAME FUNCTION [ARGLIST DOCUMENTATION]), what
the sidecar can call.  If RESTART is non-nil, it is restarted when it crashes,
after a delay that grows.  If RELOAD is non-nil, it is restarted when a file of
MODULES changes, as soon as no call runs.  LOG-FILE is a file to which the log
is appended, too.

THEN is called with the sidecar once it runs, ELSE with the error if it does
not: a list of `dualstack-sidecar-error' and a text.  With WAIT return when it
runs, or signal that error."
  (interactive)
  (dualstack-epc--check-methods methods)
  (unless (memq transport '(socket pipe))
    (dualstack-sidecar--error "The transport is `socket' or `pipe', not %S" transport))
  (let* ((place (dualstack-sidecar-remote--directory directory))
         (name (dualstack-sidecar--name-at name place))
         (sidecar (dualstack-sidecar-get name)))
    (when sidecar
      (dualstack-sidecar--renew-at-once sidecar))
    (when (called-interactively-p 'any)
      (setq then (lambda (sidecar)
                   (message "%s" (dualstack-sidecar-describe sidecar)))))
    (unless (and sidecar (memq (dualstack-sidecar-state sidecar) '(starting running)))
      (setq sidecar (dualstack-sidecar--make
                     :name name :-own-command command :-modules modules :-path path
                     :-requirements requirements :-python python
                     :-transport (if place 'pipe transport) :-place place
                     :-auth auth :-methods methods :-auto-restart restart :-reload reload
                     :-launcher #'dualstack-sidecar--launch :state 'starting
                     :log (dualstack-sidecar--log-buffer name)))
      (dualstack-sidecar--log-to-file (dualstack-sidecar-log sidecar) log-file)
      (dualstack-sidecar--enter sidecar)
      (dualstack-sidecar--prepare sidecar))
    (dualstack-sidecar--notify sidecar then else)
    (when wait
      (dualstack-sidecar--await sidecar))
    sidecar))

(defun dualstack-sidecar--name-at (name place)
  "Return NAME, that of a sidecar, with the machine of PLACE if that is another."
  (let ((machine (and place (concat " " (file-remote-p place)))))
    (if (or (null machine) (string-suffix-p machine name))
        name
      (concat name machine))))

(defun dualstack-sidecar--enter (sidecar)
  "Put SIDECAR in `dualstack-sidecars', in place of one of its name that has ended."
  (let ((old (dualstack-sidecar-get (dualstack-sidecar-name sidecar))))
    (when old
      (dualstack-sidecar--release old)
      (setq dualstack-sidecars (delq old dualstack-sidecars))))
  (push sidecar dualstack-sidecars)
  (when (dualstack-sidecar--reload sidecar)
    (dualstack-sidecar--watch sidecar #'dualstack-sidecar-restart)))

(defun dualstack-sidecar--await (sidecar)
  "Wait until SIDECAR is running, or signal why it is not.
If \\`C-g' ends the wait, stop it."
  (let ((waiting t))
    (unwind-protect
        (with-local-quit
          (while (eq (dualstack-sidecar-state sidecar) 'starting)
            (let ((process (or (dualstack-sidecar--dialled sidecar)
                               (dualstack-sidecar-process sidecar))))
              (dualstack-epc--calm-look (and (process-live-p process) process) 0.005)))
          (setq waiting nil))
      (when waiting
        (dualstack-sidecar--stop sidecar)))
    (when waiting ; Inside a timer C-g has ended the wait without a signal.
      (signal 'quit nil)))
  (pcase (dualstack-sidecar-state sidecar)
    ('running sidecar)
    ('failed (signal (car (dualstack-sidecar-failure sidecar))
                     (cdr (dualstack-sidecar-failure sidecar))))
    (_ (signal 'dualstack-sidecar-error (list (dualstack-sidecar-describe sidecar))))))

;;;; Stopping

;;;###autoload
(defun dualstack-sidecar-stop (&optional name)
  "Stop the sidecar NAME, by default \"dualstack\".
This closes its standard input, at which it exits.  If it still runs after two
seconds it is killed.  Emacs does not wait for that.  As a command, ask which
one if there are several."
  (interactive (list (dualstack-sidecar--read-name "Stop sidecar: ")))
  (dualstack-sidecar--stop (dualstack-sidecar--named name)))

;;;###autoload
(defun dualstack-sidecar-restart (&optional name)
  "Stop the sidecar NAME, by default \"dualstack\", and start it again.
As a command, ask which one if there are several."
  (interactive (list (dualstack-sidecar--read-name "Restart sidecar: ")))
  (let ((old (dualstack-sidecar--named name)))
    (dualstack-sidecar--stop old)
    (setq dualstack-sidecars (delq old dualstack-sidecars))
    (dualstack-sidecar-start :name (dualstack-sidecar-name old)
                             :command (dualstack-sidecar--own-command old)
                             :modules (dualstack-sidecar--modules old)
                             :path (dualstack-sidecar--path old)
                             :requirements (dualstack-sidecar--requirements old)
                             :python (dualstack-sidecar--python old)
                             :transport (dualstack-sidecar--transport old)
                             :directory (dualstack-sidecar--place old)
                             :reload (dualstack-sidecar--reload old)
                             :log-file (dualstack-sidecar--log-file
                                        (dualstack-sidecar-log old))
                             :auth (dualstack-sidecar--auth old)
                             :methods (dualstack-sidecar--methods old)
                             :restart (dualstack-sidecar--auto-restart old))))

(provide 'dualstack-sidecar)

;;; dualstack-sidecar.el ends here
