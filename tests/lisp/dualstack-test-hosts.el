;;; dualstack-test-hosts.el --- Other hosts for tests  -*- lexical-binding: t; -*-

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

;; Hosts that stall, that resolve names otherwise, or that are another machine.

;;; Code:

(require 'dualstack-test-helper)

;;;; Hosts that stall

(defun dualstack-test-silent-port (family)
  "Return the port that answers nothing at the address of FAMILY, or nil.
FAMILY is `ipv4', `ipv6' or `both'.  The environment tells: Windows has no
other way, as it refuses where a backlog is full."
  (let ((ports (split-string (or (getenv "DUALSTACK_SILENT_PORTS") ""))))
    (when (= (length ports) 3)
      (string-to-number
       (nth (cl-position family '(ipv4 ipv6 both)) ports)))))

(defun dualstack-test-stalled-on-windows (arguments)
  "Return a port of this host that stalls as ARGUMENTS of stall.py say, or nil.
Without \"--black-hole\" that is any free one, as Windows refuses late.  The
value is nil if it takes that program, on the machine below."
  (let ((port (cadr (member "--port" arguments))))
    (cond ((member "--black-hole" arguments)
           (and (not port)
                (dualstack-test-silent-port
                 (intern (or (cadr (member "--family" arguments)) "both")))))
          (port (string-to-number port))
          (t (dualstack-test-free-port)))))

(defmacro dualstack-test-with-stall (binding &rest body)
  "Run BODY while connecting to an address stalls, by support/stall.py.
BINDING is (PORT ARGUMENT...): PORT is bound to the address's port, the rest
are the program's arguments."
  (declare (indent 1) (debug ((symbolp &rest form) body)))
  `(dualstack-test-call-with-stall (list ,@(cdr binding)) (lambda (,(car binding)) ,@body)))

(defun dualstack-test-call-with-stall (arguments function)
  "Call FUNCTION with a port that stalls as ARGUMENTS of stall.py say."
  (let ((port (and (eq system-type 'windows-nt) (dualstack-test-stalled-on-windows arguments))))
    (if port
        (funcall function port)
      (unless (memq system-type '(gnu/linux windows-nt))
        (ert-skip "needs GNU/Linux's full backlog"))
      (dualstack-test-call-with-child
       (apply #'dualstack-test-there "python"
              (dualstack-test-name-there (dualstack-test-support "stall.py")) arguments)
       (lambda (child) (funcall function (dualstack-test-child-port child)))))))

;;;; Another machine

(defun dualstack-test-there (&rest command)
  "Return a command line for COMMAND on a GNU/Linux machine.
That is this one or, under Wine, the one below; the program \"python\" is its
Python.  Skip the test where there is none."
  (cond ((not (eq system-type 'windows-nt))
         (cl-substitute dualstack-test-python "python" command :test #'equal))
        ((getenv "DUALSTACK_HOST")
         `(,@(dualstack-test--host-program) "run" ,@command))
        (t (ert-skip "needs a GNU/Linux machine that runs this one: WINDOWS_NET"))))

(defun dualstack-test--host-program ()
  "Return the command line, without arguments, of the program host.py."
  (list dualstack-test-python (expand-file-name "tests/windows/host.py" dualstack-test-root)))

(defun dualstack-test-name-there (file)
  "Return what FILE, on this machine, is called on that of `dualstack-test-there'."
  (if (eq system-type 'windows-nt)
      (substring (expand-file-name file) 2)
    file))

(defun dualstack-test-debian-package (package)
  "Return the directories with Lisp of Debian's PACKAGE, or skip the test."
  (let* ((command (dualstack-test-there
                   "sh" (dualstack-test-name-there (dualstack-test-support "debian-package.sh"))
                   package))
         (child (with-temp-buffer
                  (list (apply #'call-process (car command) nil (list t nil) nil (cdr command))
                        (buffer-string)))))
    (unless (eq 0 (car child))
      (ert-skip (format "needs Debian's %s, which cannot be had from here" package)))
    (split-string (cadr child) "\n" t)))

;;;; Hosts of their own

(defun dualstack-test--unshare (namespace)
  "Return the option of unshare for NAMESPACE that suits this user.
Root needs no user namespace, and in a chroot gets none."
  (concat (if (eq 0 (user-uid)) "-" "-r") namespace))

(defun dualstack-test-host (&rest settings)
  "Return a wrapper for `dualstack-test-emacs': a host of the child's own.
It is a network namespace with only the loopback.  SETTINGS are strings
\"FILE VALUE\", written below /proc/sys/net.  Skip the test where the
system does not allow that."
  (if (eq system-type 'windows-nt)
      (dualstack-test--below settings)
    (dualstack-test--host settings)))

(defun dualstack-test--below (settings)
  "Return a wrapper that has SETTINGS on the machine below, or skip the test."
  (unless (getenv "DUALSTACK_HOST")
    (ert-skip "needs a machine that runs this one, and may be changed: WINDOWS_NET"))
  `(,@(dualstack-test--host-program) "with" ,@settings "--"))

(defun dualstack-test--host (settings)
  "Return the wrapper of `dualstack-test-host' for SETTINGS."
  (let ((wrapper
         (list "unshare" (dualstack-test--unshare "n") "sh" "-ec"
               (concat "ip link set lo up 2>/dev/null || true\n"
                       (mapconcat (lambda (setting)
                                    (string-match "\\([^ ]+\\) \\(.*\\)" setting)
                                    (format "echo %s >/proc/sys/net/%s\n"
                                            (match-string 2 setting)
                                            (match-string 1 setting)))
                                  settings "")
                       "exec \"$@\"")
               "--")))
    (unless (and (executable-find "unshare") (executable-find "ip")
                 (eq 0 (apply #'call-process (car wrapper) nil nil nil
                              (append (cdr wrapper) '("true")))))
      (ert-skip "needs unshare, ip (Debian: iproute2) and leave to make a network namespace, which root has"))
    wrapper))

(defun dualstack-test-hosts-file (hosts)
  "Return a wrapper for `dualstack-test-emacs': its /etc/hosts is HOSTS.
Skip the test where the system does not allow that."
  (if (eq system-type 'windows-nt)
      (dualstack-test-resolver hosts)
    (dualstack-test--hosts-file hosts)))

(defun dualstack-test--hosts-file (hosts)
  "Return the wrapper of `dualstack-test-hosts-file' for HOSTS."
  (let ((wrapper
         (list "unshare" (dualstack-test--unshare "m") "sh" "-ec"
               (format "f=$(mktemp); printf %%s '%s' >\"$f\"; mount --bind \"$f\" /etc/hosts; rm \"$f\"; exec \"$@\""
                       hosts)
               "--")))
    (unless (and (executable-find "unshare")
                 (eq 0 (apply #'call-process (car wrapper) nil nil nil
                              (append (cdr wrapper) '("true")))))
      (ert-skip "needs unshare, and leave to mount, which root has"))
    wrapper))

(defun dualstack-test-resolver (hosts)
  "Return a wrapper for `dualstack-test-emacs': a resolver that knows HOSTS.
HOSTS is the text of a hosts file.  Skip the test without libnss_wrapper.
On Windows the hosts file has HOSTS already, or the machine below sees to that."
  (cond ((not (eq system-type 'windows-nt))
         (dualstack-test--resolver hosts))
        ((cl-set-difference (split-string hosts "\n" t)
                            (split-string (or (getenv "DUALSTACK_HOSTS") "") ";")
                            :test #'equal)
         (dualstack-test--below (list (format "/etc/hosts '%s'" hosts))))))

(defun dualstack-test--resolver (hosts)
  "Return the wrapper of `dualstack-test-resolver' for HOSTS."
  (let ((library (car (file-expand-wildcards
                       "/usr/lib/*/libnss_wrapper.so"))))
    (unless library
      (ert-skip "needs libnss_wrapper (Debian: libnss-wrapper)"))
    (let ((file (make-temp-file "dualstack-hosts" nil nil hosts)))
      (list "sh" "-c"
            "trap 'rm -f \"$file\"' EXIT; file=$1 LD_PRELOAD=$2; shift 2; export LD_PRELOAD
NSS_WRAPPER_HOSTS=$file \"$@\""
            "--" file library))))

(provide 'dualstack-test-hosts)

;;; dualstack-test-hosts.el ends here
