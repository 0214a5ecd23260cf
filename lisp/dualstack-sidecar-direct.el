;;; dualstack-sidecar-direct.el --- Reach a machine again by oneself  -*- lexical-binding: t; -*-

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

;; TRAMP starts a sidecar on another machine while the user waits, and may ask
;; for a password.  A sidecar that starts again by itself may do neither.  So
;; then the program that TRAMP would use is run without TRAMP, as any child is,
;; and told to fail rather than to ask.

;;; Code:

(require 'cl-lib)
(require 'seq)

(declare-function tramp-compute-multi-hops "tramp-sh" t t)
(declare-function tramp-direct-async-process-p "tramp" t t)
(declare-function tramp-dissect-file-name "tramp" t t)
(declare-function tramp-file-name-host "tramp" t t)
(declare-function tramp-file-name-method "tramp" t t)
(declare-function tramp-file-name-port "tramp" t t)
(declare-function tramp-file-name-user "tramp" t t)
(declare-function tramp-get-method-parameter "tramp" t t)
(declare-function tramp-get-remote-path "tramp-sh" t t)

(defun dualstack-sidecar-direct--words (directory command)
  "Return a command line for COMMAND in DIRECTORY, of another machine.
It is for this machine, needs no TRAMP, and asks nothing.  The value is nil if
that cannot be.  TRAMP must be connected to that machine."
  (let* ((directory (expand-file-name directory))
         (vector (tramp-dissect-file-name directory))
         (program (tramp-get-method-parameter vector 'tramp-login-program))
         (script (dualstack-sidecar-direct--script
                  (dualstack-sidecar-direct--path vector directory)
                  (file-remote-p directory 'localname) command)))
    (when (eq system-type 'windows-nt)
      (setq script (dualstack-sidecar-direct--ascii script)))
    (and program
         (null (cdr (tramp-compute-multi-hops vector)))
         (dualstack-sidecar-direct--login program vector script))))

(defun dualstack-sidecar-direct--path (vector directory)
  "Return TRAMP's path for programs in DIRECTORY, to which VECTOR leads.
It is a list of directories, or nil for those that the machine itself says, as
it is for direct processes of Emacs 28."
  (unless (and (fboundp 'tramp-direct-async-process-p)
               (version< emacs-version "29")
               (let ((default-directory directory))
                 (tramp-direct-async-process-p)))
    (tramp-get-remote-path vector)))

(defun dualstack-sidecar-direct--login (program vector script)
  "Return a command line for the shell SCRIPT where VECTOR leads to.
PROGRAM is what TRAMP logs in with.  The value is nil if it is not known, or may
have to ask."
  (let ((arguments (dualstack-sidecar-direct--arguments vector))
        (user (or (tramp-file-name-user vector) "root"))
        (shell (list "sh" "-c" script)))
    (pcase (if (equal program "env") ; It sets the prompt of what follows.
               (tramp-file-name-method vector)
             (file-name-nondirectory program))
      ("ssh" `(,program "-o" "BatchMode=yes" "-o" "ConnectTimeout=10"
                        "-o" "ServerAliveInterval=15" ,@arguments
                        ,(concat "exec sh -c " (dualstack-sidecar-direct--quote script))))
      ((or "docker" "podman") `(,program ,@arguments ,@shell))
      ("sudo" `("sudo" "-n" "-H" "-u" ,user "--" ,@shell))
      ("doas" `("doas" "-n" "-u" ,user ,@shell))
      ("su" (and (eql 0 (user-uid)) `(,program "-s" "/bin/sh" ,user "-c" ,script))))))

(defun dualstack-sidecar-direct--arguments (vector)
  "Return the arguments with which TRAMP's program logs in where VECTOR leads to.
What has it make a terminal, or start a shell of TRAMP's, is left out."
  (let ((values `(("%u" . ,(tramp-file-name-user vector))
                  ("%p" . ,(and (tramp-file-name-port vector)
                                (format "%s" (tramp-file-name-port vector))))
                  ("%h" . ,(tramp-file-name-host vector)))))
    (cl-loop for group in (tramp-get-method-parameter vector 'tramp-login-args)
             for words = (mapcar (lambda (word)
                                   (cond ((equal word "-it") "-i")
                                         ((string-match-p "%[a-z]" word)
                                          (cdr (assoc word values)))
                                         (t word)))
                                 group)
             unless (or (memq nil words) (equal words '("-t" "-t")))
             append words)))

(defun dualstack-sidecar-direct--script (path directory command)
  "Return a shell script for COMMAND, a list, in DIRECTORY.
PATH is a list of directories for programs, or nil."
  (format "%scd %s && exec %s"
          (if path
              (format "PATH=%s; export PATH; "
                      (dualstack-sidecar-direct--quote (mapconcat #'identity path ":")))
            "")
          (dualstack-sidecar-direct--quote directory)
          (mapconcat #'dualstack-sidecar-direct--quote command " ")))

(defun dualstack-sidecar-direct--by-windows-p (directory)
  "Return non-nil if TRAMP needs Windows' command line for a process in DIRECTORY.
That is so for its direct processes; a shell there is told to start others."
  (and (eq system-type 'windows-nt)
       (fboundp 'tramp-direct-async-process-p)
       (let ((default-directory directory))
         (tramp-direct-async-process-p))))

(defun dualstack-sidecar-direct--ascii (script)
  "Return a shell script in ASCII that does what SCRIPT does.
The command line of a program on Windows has no other characters than those of
a code page, and ssh programs differ in what they make of them."
  (if (string-match-p "\\`[[:ascii:]]*\\'" script) script
    (format "eval \"$(printf %%b '%s')\""
            (mapconcat (lambda (byte)
                         (if (and (<= ?\s byte ?~) (not (memql byte '(?' ?\\))))
                             (string byte)
                           (format "\\0%03o" byte)))
                       (encode-coding-string script 'utf-8) ""))))

(defun dualstack-sidecar-direct--quote (word)
  "Return WORD quoted for a POSIX shell, whatever this system has."
  (concat "'" (replace-regexp-in-string "'" "'\\\\''" word) "'"))

(provide 'dualstack-sidecar-direct)

;;; dualstack-sidecar-direct.el ends here
