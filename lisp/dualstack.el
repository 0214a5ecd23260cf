;;; dualstack.el --- Connect to localhost at once  -*- lexical-binding: t; -*-

;; Copyright (C) 2026 The dualstack authors

;; Author: The dualstack authors
;; Maintainer: The dualstack authors
;; Version: 0.1.0
;; Keywords: comm, processes
;; URL: https://github.com/dualstack-emacs/dualstack
;; Package-Requires: ((emacs "27.1"))

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

;; `localhost' is two addresses, ::1 and 127.0.0.1, and most servers
;; listen on one of them.  Emacs tries one after the other and waits for
;; each: on Windows, where a refusal takes a second or two, it freezes
;; whenever the server is at the other one.  This library tries both,
;; nearly at once, and takes the first that answers.
;;
;; `dualstack-open-network-stream' takes the arguments of
;; `open-network-stream', `dualstack-make-network-process' those of
;; `make-network-process'; the processes that they return are like the
;; originals'.  `dualstack-open-async' does not wait.  To cure packages
;; that call the originals, see `dualstack-mode'.
;;
;; 1. `dualstack-addresses' turns the host into addresses, without the
;;    resolver for localhost, in the order of `dualstack-policy' and
;;    `dualstack-preferred-family'.
;; 2. A family that answered at this port in the last ten minutes is
;;    dialled first, with one plain blocking call (`dualstack-race-dial').
;; 3. Otherwise the addresses are raced (dualstack-race.el), the winner's
;;    family is remembered, and an error names every address that failed.

;;; Code:

(require 'dualstack-address)
(require 'dualstack-race)
(eval-when-compile (require 'cl-lib))

;;;; Customization

(defgroup dualstack nil
  "Connect to localhost without waiting for the wrong address family."
  :group 'comm
  :link '(url-link "https://github.com/dualstack-emacs/dualstack")
  :prefix "dualstack-")

(defcustom dualstack-loopback-attempt-delay 0.01
  "Seconds after which the second loopback address is tried too.
The first keeps its chance.  The value is the least that RFC 8305 section
8 allows; a loopback round trip takes some 20 microseconds."
  :type 'number
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-attempt-delay 0.25
  "Seconds after which the next address of another host is tried too.
Earlier attempts keep their chance (RFC 8305 section 8)."
  :type 'number
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-connect-timeout 10
  "Seconds after which connecting is given up, all addresses together."
  :type 'number
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-log-size 65536
  "Characters kept in the buffer *dualstack-log*."
  :type 'natnum
  :package-version '(dualstack . "0.1.0"))

;;;; Log and records

(defun dualstack-log (format &rest args)
  "Append FORMAT with ARGS, as a line with the time, to *dualstack-log*.
The oldest lines make room when `dualstack-log-size' is reached."
  (with-current-buffer (get-buffer-create "*dualstack-log*")
    (let ((inhibit-read-only t))
      (unless (derived-mode-p 'special-mode)
        (special-mode))
      (save-excursion
        (goto-char (point-max))
        (insert (format-time-string "%F %T.%3N ")
                (apply #'format-message format args) "\n")
        (when (> (buffer-size) dualstack-log-size)
          (goto-char (- (point-max) dualstack-log-size))
          (forward-line)
          (delete-region (point-min) (point)))))))

(defvar dualstack-last-attempt-records nil
  "The `dualstack-race-attempt' records of the last connection, in order.")

(defun dualstack-last-attempts ()
  "Return what was tried for the last connection, a list of plists in order.
Each has :address, a string like \"127.0.0.1:80\", :family, `ipv4' or
`ipv6', :start and :end, times as of `float-time', and :outcome: `won',
`lost' to a faster address, `cancelled', `timeout', or a string that
says why the address failed."
  (mapcar (lambda (attempt)
            (let ((address (dualstack-race-attempt-address attempt)))
              (list :address (dualstack-address-string address)
                    :family (dualstack-family address)
                    :start (dualstack-race-attempt-start attempt)
                    :end (dualstack-race-attempt-end attempt)
                    :outcome (dualstack-race-attempt-outcome attempt))))
          dualstack-last-attempt-records))

(defun dualstack--describe-attempts (attempts)
  "Return a line with each of ATTEMPTS and its outcome."
  (mapconcat (lambda (attempt)
               (format "%s %s"
                       (dualstack-address-string
                        (dualstack-race-attempt-address attempt))
                       (dualstack-race-attempt-outcome attempt)))
             attempts "; "))

(defun dualstack--note (args race &optional earlier)
  "Note what became of RACE, made for ARGS, and of the attempt EARLIER.
The winner's family is remembered; what went wrong is logged."
  (let* ((host (plist-get args :host))
         (service (plist-get args :service))
         (attempts (reverse (dualstack-race-attempts race)))
         (winner (dualstack-race-winner race)))
    (when earlier
      (push earlier attempts))
    (setq dualstack-last-attempt-records attempts)
    (when winner
      (dualstack-remember (dualstack-peer host (dualstack-port service))
                          (dualstack-family
                           (dualstack-race-attempt-address winner))))
    (unless (and winner (null (cdr attempts)))
      (dualstack-log "%s: %s:%s: %s" (plist-get args :name) host service
                     (dualstack--describe-attempts attempts)))))

;;;; Connecting

(defun dualstack--coding (args)
  "Return the coding systems (DECODING . ENCODING) for ARGS.
They are those that `make-network-process' would choose now; it chooses
others for an address than for a host name."
  (let ((coding (plist-get args :coding)))
    (cond ((consp coding) coding)
          ((dualstack-race-coding-given-p args) (cons coding coding))
          (t (let* ((buffer (plist-get args :buffer))
                    (old (and buffer (get-buffer buffer)))
                    (multibyte
                     (if old
                         (buffer-local-value 'enable-multibyte-characters old)
                       (default-value 'enable-multibyte-characters)))
                    (found (find-operation-coding-system
                            'open-network-stream (plist-get args :name) buffer
                            (plist-get args :host) (plist-get args :service)))
                    (default (if (consp found) found
                               default-process-coding-system)))
               (cons (or coding-system-for-read
                         (and multibyte (car default)))
                     (or coding-system-for-write
                         (and enable-multibyte-characters (cdr default)))))))))

;;;###autoload
(defun dualstack-make-network-process (&rest args)
  "Return a network process made with ARGS, trying both address families.
ARGS are as for `make-network-process', and so is the process: it has the
same name, status, contact, buffer, filter, sentinel, coding systems, plist
and query flag.

For a stream client with a `:host' name and without `:family' the addresses
are those of `dualstack-addresses', tried as `dualstack-policy' says; all
together for at most `dualstack-connect-timeout' seconds.  If none answers,
signal `file-error' with the data that `make-network-process' gives, and
`:attempts' with a string that names each address and why it failed.  A
`:nowait' client gets the single address that `dualstack-policy' leaves of
localhost, or Emacs's own order.  Anything else is for
`make-network-process' alone."
  (if (dualstack--client-p args)
      (dualstack--connect args)
    (apply #'make-network-process args)))

(defun dualstack--client-p (args)
  "Return non-nil if ARGS ask for a stream to a host that is to be looked up."
  (and (stringp (plist-get args :host))
       (not (or (plist-get args :server)
                (plist-get args :type)
                (plist-get args :family)
                (plist-get args :remote)
                (plist-get args :local)
                (plist-get args :use-external-socket)))))

(defun dualstack--connect (args)
  "Return a process for the client ARGS, or signal an error."
  (let* ((host (plist-get args :host))
         (port (dualstack-port (plist-get args :service)))
         (local (dualstack-localhost-p host)))
    (unless local
      (dualstack-check-host host))
    (cond ((plist-get args :nowait)
           (dualstack-make-nowait #'make-network-process args
                                  (dualstack--only-family local)))
          (local
           (dualstack--connect-loopback args port))
          ;; Only the system's resolver knows an IPv6 zone (RFC 4007).
          ((string-match-p ":.*%" host)
           (apply #'make-network-process args))
          (t
           (dualstack--race args (dualstack--ordered-addresses host port))))))

(defun dualstack--only-family (local)
  "Return the only family of `dualstack-policy', or nil, as if LOCAL is nil."
  (let ((families (and local (dualstack-families))))
    (and (null (cdr families)) (car families))))

(defun dualstack-make-nowait (make args family)
  "Return a process for the `:nowait' client ARGS, by the function MAKE.
It cannot be raced, for the caller gets it before it is connected.  With
FAMILY, `ipv4' or `ipv6', it dials that loopback address alone, and looks as
if it was made with ARGS."
  (if (null family)
      (apply make args)
    (let ((process (apply make
                          :remote (dualstack-loopback-address
                                   family (dualstack-port (plist-get args :service)))
                          :coding (dualstack--coding args)
                          args)))
      (dualstack-race-hide-overrides process args)
      process)))

(defun dualstack--connect-loopback (args port)
  "Return a process for the client ARGS, connected to PORT of localhost.
A remembered family is dialled alone, and forgotten when it fails."
  (let* ((family (dualstack-remembered-family port))
         (dialled (and family
                       (dualstack-race-dial
                        (dualstack-loopback-address family port)
                        args (dualstack--coding args)))))
    (cond ((null dialled)
           (dualstack--race args (dualstack-addresses "localhost" port)))
          ((eq (dualstack-race-attempt-outcome dialled) 'won)
           (setq dualstack-last-attempt-records (list dialled))
           (dualstack-race-attempt-process dialled))
          (t
           (dualstack-forget "localhost" port)
           (dualstack--race args
                            (remove (dualstack-race-attempt-address dialled)
                                    (dualstack-addresses "localhost" port))
                            dialled)))))

(defun dualstack--ordered-addresses (host port)
  "Return the addresses of HOST with PORT, the one remembered first."
  (let* ((addresses (dualstack-addresses host port))
         (family (dualstack-remembered-family (dualstack-peer host port)))
         (known (cl-loop for address in addresses
                         when (eq (dualstack-family address) family)
                         return address)))
    (if known
        (cons known (remove known addresses))
      addresses)))

(defun dualstack--race (args addresses &optional earlier)
  "Return a process for the client ARGS, the winner of a race to ADDRESSES.
EARLIER is the record of an attempt that failed before.  Signal
`file-error' if all fail."
  (let* ((race (apply #'dualstack-race-run addresses args
                      :coding (dualstack--coding args)
                      (dualstack--race-options (plist-get args :host))))
         (winner (dualstack-race-winner race)))
    (dualstack--note args race earlier)
    (if winner
        (dualstack-race-adopt race)
      (let ((failure (dualstack--error race args)))
        (signal (car failure) (cdr failure))))))

(defun dualstack--race-options (host)
  "Return the keyword arguments of `dualstack-race-start' that suit HOST."
  (list :attempt-delay (if (dualstack-localhost-p host)
                           dualstack-loopback-attempt-delay
                         dualstack-attempt-delay)
        :timeout dualstack-connect-timeout))

(defun dualstack--error (race args)
  "Return the error (file-error . DATA) for RACE, lost, that was made for ARGS.
DATA is as `make-network-process' gives it, and what was tried at its end.
One refusal is the reason before any other: a family that the host does not
have says less."
  (let* ((attempts dualstack-last-attempt-records)
         (outcomes (mapcar #'dualstack-race-attempt-outcome attempts))
         (reason (pcase (dualstack-race-state race)
                   ('timeout "Connection timed out")
                   ('cancelled "Quit")
                   (_ (or (car (member "Connection refused" outcomes))
                          (car (last outcomes)))))))
    (append (list 'file-error "make client process failed" reason)
            args
            (list :attempts (dualstack--describe-attempts attempts)))))

;;;; Asynchronous connections

;;;###autoload
(cl-defun dualstack-open-async (host service &rest args
                                     &key (name "dualstack") then else timeout
                                     &allow-other-keys)
  "Begin to connect to HOST at SERVICE and return a handle at once.
Both address families are tried, as by `dualstack-make-network-process';
ARGS may have any of its keywords that a plain client can have, such as
`:buffer', `:filter', `:sentinel', `:coding', `:noquery' and `:plist'.
NAME is the name of the process.

Later, from a timer, one of these is called, and once: THEN with the
connected process, or ELSE with the error, a list as
`dualstack-make-network-process' signals it.  TIMEOUT is in seconds and
defaults to `dualstack-connect-timeout'.  `dualstack-cancel' takes the
handle; after it neither is called.

A HOST that is not localhost is looked up by Emacs in the background where
the system can do that (GNU/Linux).  Without THEN the process is made all
the same; without ELSE a failure is only logged."
  (dualstack-check-host host)
  (let* ((port (dualstack-port service))
         (plain (append (list :name name :host (dualstack-encode-host host)
                              :service service)
                        (dualstack--without-keys
                         args '(:name :then :else :timeout :nowait)))))
    (apply #'dualstack-race-start
           (dualstack--async-addresses host port) plain
           :coding (dualstack--coding plain)
           :on-end (lambda (race)
                     (run-at-time 0 nil #'dualstack--deliver race plain then else))
           (append (and timeout (list :timeout timeout))
                   (dualstack--race-options host)))))

(defun dualstack--without-keys (plist keys)
  "Return a copy of PLIST without KEYS."
  (let (rest)
    (while plist
      (unless (memq (car plist) keys)
        (setq rest (cons (cadr plist) (cons (car plist) rest))))
      (setq plist (cddr plist)))
    (nreverse rest)))

(defun dualstack--async-addresses (host port)
  "Return the addresses of HOST with PORT, without waiting for a resolver.
A name that is to be looked up stands as the families that
`dualstack-policy' allows."
  (if (or (dualstack-localhost-p host)
          (string-match-p ":\\|\\`[0-9.]+\\'" host))
      (dualstack--ordered-addresses host port)
    (dualstack-families)))

(defun dualstack--deliver (race args then else)
  "Call THEN or ELSE for the settled RACE that was made for ARGS.
A race that was cancelled meanwhile calls neither."
  (unless (eq (dualstack-race-state race) 'cancelled)
    (dualstack--note args race)
    (if (dualstack-race-winner race)
        (let ((process (dualstack-race-adopt race)))
          (when then (funcall then process)))
      (when else (funcall else (dualstack--error race args))))))

(defun dualstack-cancel (handle)
  "Give up the connection attempt HANDLE, from `dualstack-open-async'.
Its sockets are closed and neither of its functions is called.  After one
of them was called this does nothing."
  (dualstack-race-cancel handle))

;;;; Version

(defconst dualstack-version "0.1.0"
  "The version of dualstack, a string.")

;;;; The rest, loaded when it is used

;; A package manager makes these of the files' cookies; here they are for
;; those who only have the files on their `load-path'.
(autoload 'dualstack-connect "dualstack-connect" nil t)
(autoload 'dualstack-diagnose "dualstack-diagnose" nil t)
(autoload 'dualstack-epc-connect "dualstack-epc-connect")
(autoload 'dualstack-epc-connect-async "dualstack-epc-connect")
(autoload 'dualstack-epc-serve "dualstack-epc-connect")
(autoload 'dualstack-epc-toggle-log "dualstack-epc" nil t)
(autoload 'dualstack-hello "dualstack-sidecar-status" nil t)
(autoload 'dualstack-make-server "dualstack-server")
(autoload 'dualstack-mode "dualstack-mode" nil t)
(autoload 'dualstack-mode-report "dualstack-mode-report" nil t)
(autoload 'dualstack-open-network-stream "dualstack-stream")
(autoload 'dualstack-sidecar-environments "dualstack-sidecar-environments" nil t)
(autoload 'dualstack-sidecar-restart "dualstack-sidecar" nil t)
(autoload 'dualstack-sidecar-start "dualstack-sidecar" nil t)
(autoload 'dualstack-sidecar-status "dualstack-sidecar-status" nil t)
(autoload 'dualstack-sidecar-stop "dualstack-sidecar" nil t)

;; What has options or faces, which `customize-group' loads to show them.
;;;###autoload
(dolist (feature '(dualstack dualstack-address dualstack-diagnose-draw dualstack-epc
                   dualstack-mode dualstack-sidecar dualstack-sidecar-environment
                   dualstack-sidecar-python))
  (custom-add-load 'dualstack feature))

(provide 'dualstack)

;;; dualstack.el ends here
