;;; dualstack-epc-connect.el --- Open EPC connections, and prove them  -*- lexical-binding: t; -*-

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

;; `dualstack-epc-connect-async' connects to both address families, and with
;; a token has both sides prove themselves before it gives the connection
;; away.  `dualstack-epc-connect' waits for both.

;;; Code:

(require 'dualstack-epc)
(require 'dualstack-epc-auth)
(require 'dualstack-epc-keepalive)

(defconst dualstack-epc-connect--proof-timeout 5
  "Seconds in which a server must answer each step of the proof.")

(defconst dualstack-epc-connect--proof-size 4096
  "Bytes of a message that a server may send before it has proved itself.")

;;;###autoload
(cl-defun dualstack-epc-connect-async (host port &key token label keepalive name
                                            then else)
  "Begin to connect to the EPC server at HOST and PORT; return at once.
Later one of these is called, and once: THEN with the connection, or ELSE
with the error, a list as `dualstack-epc-connect' signals it.  TOKEN, LABEL,
KEEPALIVE and NAME are as there.  The value is a function of no arguments
that gives the attempt up."
  (dualstack-epc-connect--begin host port (dualstack-epc--auth-seal token) label keepalive name
                                then else))

;; By itself, as closures that are not compiled have, and print, all variables.
(defun dualstack-epc-connect--begin (host port sealed label keepalive name then else)
  "Connect to HOST and PORT, and call THEN or ELSE.
SEALED is as `dualstack-epc--auth-seal' makes it of the token; LABEL, KEEPALIVE
and NAME, and the value, are as those of `dualstack-epc-connect-async'."
  (let* (connection
         (over nil)
         (fail (lambda (err)
                 (unless over
                   (setq over t)
                   (when connection
                     (dualstack-epc-close connection))
                   (when else
                     (funcall else err)))))
         (done (lambda ()
                 (unless over
                   (setq over t)
                   (when keepalive
                     (dualstack-epc--keepalive connection keepalive))
                   (when then
                     (funcall then connection)))))
         (handle
          (dualstack-open-async
           host port :name (or name "dualstack-epc") :coding 'binary :noquery t :else fail
           :then (lambda (process)
                   (setq connection (dualstack-epc-attach process))
                   (if sealed
                       (dualstack-epc-connect--prove connection sealed label done fail)
                     (funcall done))))))
    (lambda ()
      (setq over t)
      (dualstack-cancel handle)
      (when connection
        (dualstack-epc-close connection)))))

(defun dualstack-epc-connect--prove (connection sealed label done fail)
  "Have both sides of CONNECTION prove a token, then call DONE.
Or else call FAIL with the error.  SEALED is as `dualstack-epc--auth-seal' makes
it of the token.  LABEL is as for `dualstack-epc-connect'."
  ;; A stranger is shown nothing more, and cannot keep Emacs busy.
  (setf (dualstack-epc-connection--peer connection) nil
        (dualstack-epc-connection--limit connection) dualstack-epc-connect--proof-size)
  (let* ((nonce (dualstack-epc--auth-nonce))
         (place (dualstack-epc--auth-place (dualstack-epc-connection-process connection)
                                          :remote label))
         (refuse (lambda (err)
                   ;; An end that is gone has proved nothing, and refused nothing.
                   (funcall fail (if (eq (car err) 'dualstack-epc-closed)
                                     err
                                   (list 'dualstack-epc-auth-error
                                         (error-message-string err))))))
         (call (lambda (method argument then)
                 (condition-case err
                     (dualstack-epc-call-async
                      connection method (list argument) :then then :else refuse
                      :timeout dualstack-epc-connect--proof-timeout)
                   (dualstack-epc-error (funcall refuse err))))))
    (funcall
     call 'dualstack-auth nonce
     (lambda (reply)
       (condition-case err
           (funcall call 'dualstack-prove
                    (prog1 (dualstack-epc--auth-answer (dualstack-epc--auth-token sealed)
                                                       nonce reply place)
                      (setf (dualstack-epc-connection--limit connection)
                            dualstack-epc--codec-limit))
                    (lambda (value)
                      (if (eq value t)
                          (progn
                            (dualstack-epc--link-meet connection)
                            (funcall done))
                        (funcall refuse '(error "The server refuses the token")))))
         (dualstack-epc-auth-error (funcall fail err)))))))

;;;###autoload
(cl-defun dualstack-epc-connect (host port &key token label keepalive
                                      (name "dualstack-epc"))
  "Connect to the EPC server at HOST and PORT and return the connection.
With TOKEN, a string, both sides prove that they know it before any call.
The proofs hold for the address that is dialled; where the server is reached
at another, as by a forwarded port, both sides give the same LABEL, a string.
With KEEPALIVE, a number of seconds, the connection ends when the other end
has said nothing for twice as long although it was asked: choose more than it
may be busy for.  Without it, as is right on one machine, only the system
tells of an end.

NAME is the name of the process.  Timers and filters run meanwhile.  Signal
`file-error' if nobody answers, `dualstack-epc-auth-error' if the server does
not know TOKEN, or `dualstack-epc-closed' if it is gone before it has proved
that."
  (dualstack-epc--check-thread)
  (let* ((process-adaptive-read-buffering nil)
         (connection (dualstack-epc-attach
                      (dualstack-make-network-process
                       :name name :host host :service port
                       :coding 'binary :noquery t)))
         (state (null token)))
    (unwind-protect
        (with-local-quit
          (when token
            (dualstack-epc-connect--prove connection (dualstack-epc--auth-seal token) label
                                          (lambda () (setq state t))
                                          (lambda (err) (setq state err))))
          (while (not state)
            (dualstack-epc--await connection 0.05)))
      (unless (eq state t)
        (dualstack-epc-close connection)))
    (cond ((eq state t)
           (when keepalive
             (dualstack-epc--keepalive connection keepalive))
           connection)
          (state (signal (car state) (cdr state)))
          (t (signal 'quit nil)))))

(provide 'dualstack-epc-connect)

;;; dualstack-epc-connect.el ends here
