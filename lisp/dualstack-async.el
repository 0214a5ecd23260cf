;;; dualstack-async.el --- Connect in the background  -*- lexical-binding: t; -*-

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

;; `dualstack-open-async' connects without waiting, `dualstack-wait-for-port'
;; until somebody listens.  Both return a handle for `dualstack-cancel'.

;;; Code:

(require 'cl-lib)
(require 'dualstack)

(defconst dualstack-async--limit (if (eq system-type 'windows-nt) 4 64)
  "How many connections are being made at once; others wait for their turn.
A Windows Emacs has room for 32 sockets and children, and loses events when
many sockets have some.")

(defvar dualstack-async--races nil
  "The races that are not decided, in the order of their calls.")

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
the same; without ELSE a failure is only logged.  What is wrong with the
arguments themselves is signalled at once."
  (dualstack-address--check-host host)
  (dualstack-async--begin
   host service args
   (append (list :name name :then then :else else)
           (dualstack--race-options (dualstack-address--bare-host host) timeout))))

;;;###autoload
(cl-defun dualstack-wait-for-port (host service &rest args
                                        &key (name "dualstack") then else timeout
                                        &allow-other-keys)
  "Connect to HOST at SERVICE as soon as somebody listens; do not wait here.
For a server that is only starting.  The addresses are tried every 0.1 s, and
a server sees a single connection: THEN is called with its process, for the
caller to use or to delete.  A server that serves one client would be spent
by a mere look.

Without an answer within TIMEOUT seconds, by default for ever, ELSE is called
with the error.  NAME and ARGS are as for `dualstack-open-async', and so are
when THEN and ELSE are called, and the value, a handle for
`dualstack-cancel'."
  (dualstack-address--check-host host)
  (dualstack--check-options)
  (let ((bare (dualstack-address--bare-host host)))
    (dualstack-async--begin
     host service args
     (list :name name :then then :else else :timeout timeout
           :persist t :renew dualstack--renewal
           :attempt-delay (if (dualstack-localhost-p bare)
                              dualstack-loopback-attempt-delay
                            dualstack-attempt-delay)))))

(defun dualstack-async--begin (host service args options)
  "Begin to connect to HOST at SERVICE with ARGS, and return the race.
OPTIONS have `:name', `:then' and `:else' of the caller; the rest is for
`dualstack-race--prepare'."
  (dualstack-async--check options)
  (let* ((host (dualstack-address--bare-host host))
         (plain (append (list :name (plist-get options :name)
                              :host (dualstack-address--encode-host host) :service service)
                        (dualstack-async--without
                         args '(:name :then :else :timeout :nowait))))
         (port (dualstack--client-port plain))
         (race (apply #'dualstack-race--start
                      (dualstack-async--addresses host port) plain
                      :hold t :coding (dualstack-attempt--coding plain)
                      :on-end (lambda (race)
                                (run-at-time 0 nil #'dualstack-async--deliver race plain
                                             (plist-get options :then)
                                             (plist-get options :else))
                                (dualstack-async--release))
                      (dualstack-async--without options '(:name :then :else)))))
    (setq dualstack-async--races (append dualstack-async--races (list race)))
    (dualstack-async--release)
    (let ((err (dualstack-race--err race)))
      (when err
        (dualstack-cancel race)
        (signal (car err) (cdr err))))
    race))

(defun dualstack-async--check (options)
  "Signal an error if the caller's OPTIONS cannot be used later."
  (let ((timeout (plist-get options :timeout)))
    (unless (or (null timeout) (and (numberp timeout) (<= 0 timeout 1e6)))
      (error "Bad :timeout %S: give a number of seconds" timeout)))
  (dolist (key '(:then :else))
    (let ((function (plist-get options key)))
      (unless (or (symbolp function) (functionp function))
        (error "Bad %s %S: give a function" key function)))))

(defun dualstack-async--release ()
  "Begin the races whose turn it is.
One that waits for a server may never end: it takes nobody's turn."
  (setq dualstack-async--races
        (cl-remove-if-not #'dualstack-race--running-p dualstack-async--races))
  (let ((places dualstack-async--limit))
    (dolist (race dualstack-async--races)
      (unless (dualstack-race--persist race)
        (cl-decf places))
      (when (and (dualstack-race--running-p race)
                 (dualstack-race--held-p race)
                 (or (dualstack-race--persist race) (>= places 0)))
        (dualstack-race--release race)))))

(defun dualstack-async--without (plist keys)
  "Return a copy of PLIST without KEYS."
  (cl-loop for (key value) on plist by #'cddr
           unless (memq key keys) append (list key value)))

(defun dualstack-async--addresses (host port)
  "Return the addresses of HOST with PORT, without waiting for a resolver.
A name that is to be looked up stands as the families that
`dualstack-policy' allows."
  (if (or (dualstack-localhost-p host)
          (string-match-p ":\\|\\`[0-9.]+\\'" host))
      (dualstack--ordered-addresses host port)
    (dualstack-address--families)))

(defun dualstack-async--deliver (race args then else)
  "Call THEN or ELSE for the settled RACE that was made for ARGS.
A race that was cancelled meanwhile calls neither."
  (let ((winner (dualstack-race--winner race)))
    (unless (eq (dualstack-race--state race) 'cancelled)
      (let ((peer (dualstack--peer args)))
        (dualstack--note args race peer)
        (if winner
            (let ((process (dualstack--adopt race peer winner)))
              (when then (funcall then process)))
          (when else (funcall else (dualstack--error race args))))))))

(defun dualstack-cancel (handle)
  "Give up the connection attempt HANDLE.
It is one of `dualstack-open-async' or `dualstack-wait-for-port'.  Its
sockets are closed and neither of its functions is called.  After one of them
was called this does nothing."
  (dualstack-race--cancel handle)
  (dualstack-async--release))

(provide 'dualstack-async)

;;; dualstack-async.el ends here
