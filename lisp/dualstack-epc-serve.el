;;; dualstack-epc-serve.el --- Let EPC clients in  -*- lexical-binding: t; -*-

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

;; Emacs as an EPC server.  Any program of this machine can connect, so what
;; has not proved itself costs little:
;;
;; 1. It is a gate, which reads frames of up to 4 KB and takes nothing but the
;;    two steps of the proof (dualstack-epc-auth.el) for 5 seconds.  Nothing of
;;    it is read as Lisp.
;; 2. At most 64 are at the gate (8 on Windows); the oldest makes room for another.
;; 3. What is turned away is counted, and logged once a second.
;;
;; Only what has proved itself becomes a connection.  Without a token all do at
;; once, and no more than a given number.

;;; Code:

(require 'cl-lib)
(require 'dualstack-server)
(require 'dualstack-epc)
(require 'dualstack-epc-auth)

(defconst dualstack-epc-serve--gates (if (eq system-type 'windows-nt) 8 64)
  "How many clients without proof there can be.
Emacs on Windows has 32 sockets and children in all.")

(defconst dualstack-epc-serve--clients (if (eq system-type 'windows-nt) 16 64)
  "How many clients there can be if nothing else is said.")

(defconst dualstack-epc-serve--patience 5
  "Seconds in which a client must prove itself.")

(defconst dualstack-epc-serve--frame 4096
  "Bytes of a frame before that.")

(defconst dualstack-epc-serve--unfinished 67108864
  "Bytes of unfinished messages that all clients of a server may have sent.")

(cl-defstruct (dualstack-epc-serve--door (:constructor dualstack-epc-serve--door-make)
                                         (:copier nil))
  "What the clients of one server have in common.
The first slots are the arguments of `dualstack-epc-serve', TOKEN as
`dualstack-epc--auth-seal' makes it.  GATES and
CONNECTIONS are lists, the newest first.  TURNED-AWAY counts since the last
line in the log, for which TIMER is."
  name token label methods on-connect limit gates connections (turned-away 0) timer)

(cl-defstruct (dualstack-epc-serve--gate (:constructor dualstack-epc-serve--gate-make)
                                         (:copier nil))
  "A client that has not proved itself to the server of DOOR.
INPUT is what it has sent.  NONCES is (CLIENT . SERVER) after the first step."
  door process (input "") nonces timer)

;;;###autoload
(cl-defun dualstack-epc-serve (&key (name "dualstack-epc server") (port t) methods
                                    on-connect token label
                                    (max-clients dualstack-epc-serve--clients))
  "Serve EPC clients at PORT of both loopback addresses.
PORT t means a free one.  Return the list of server processes; `delete-process'
ends one.  METHODS is a list of (NAME FUNCTION [ARGLIST DOCUMENTATION]),
what clients can call.  ON-CONNECT is called with each new connection.

With TOKEN, a string that nobody else knows, clients and the server prove to
each other that they know it before any call, as `dualstack-epc-connect' does
with its own `:token'.  Both proofs hold for the address that was dialled only;
where that is another than the server's own, as that of a forwarded port, both
sides give the same LABEL, a string.

Without TOKEN every user and every program of this machine can call METHODS.

At most MAX-CLIENTS have a connection at once, by default 64, and 16 on Windows,
where Emacs has 32 sockets and children in all; others are turned away, which
is logged.  Signal `error' if a function in METHODS is none."
  (dualstack-epc--check-methods methods)
  (dualstack-make-server
   :name name :service port :coding 'binary :noquery t
   :filter #'ignore
   :sentinel (dualstack-epc-serve--sentinel
              (dualstack-epc-serve--door-make
               :name name :token (dualstack-epc--auth-seal token) :label label
               :methods methods :on-connect on-connect :limit max-clients))))

(defun dualstack-epc-serve--sentinel (door)
  "Return the sentinel of the clients of DOOR."
  (lambda (process event)
    (when (string-prefix-p "open" event)
      (if (dualstack-epc-serve--door-token door)
          (dualstack-epc-serve--arrive door process)
        (dualstack-epc-serve--admit door process)))))

(defun dualstack-epc-serve--admit (door process)
  "Make a connection of PROCESS, a client of DOOR, and return it.
Return nil if there are too many."
  (let ((live (cl-delete-if-not #'dualstack-epc-live-p
                                (dualstack-epc-serve--door-connections door))))
    (setf (dualstack-epc-serve--door-connections door) live)
    (if (>= (length live) (dualstack-epc-serve--door-limit door))
        (dualstack-epc-serve--turn-away door process)
      (let ((connection (dualstack-epc-attach process t)))
        (push connection (dualstack-epc-serve--door-connections door))
        (dualstack-epc-serve--bound-input door connection)
        (dolist (method (dualstack-epc-serve--door-methods door))
          (apply #'dualstack-epc-define-method connection method))
        (when (dualstack-epc-serve--door-on-connect door)
          (dualstack-epc--later (dualstack-epc-serve--door-on-connect door) connection))
        connection))))

(defun dualstack-epc-serve--bound-input (door connection)
  "Have CONNECTION end when the clients of DOOR have too much unfinished."
  (let* ((process (dualstack-epc-connection-process connection))
         (filter (process-filter process)))
    (set-process-filter
     process
     (lambda (process bytes)
       (funcall filter process bytes)
       (when (and (> (dualstack-epc--unfinished connection) 1000000)
                  (> (cl-loop for each in (dualstack-epc-serve--door-connections door)
                              sum (dualstack-epc--unfinished each))
                     dualstack-epc-serve--unfinished))
         (dualstack-epc--link-end connection "too much unfinished"))))))

(defun dualstack-epc-serve--turn-away (door process)
  "Close PROCESS, a client of DOOR, and have that logged; return nil."
  (set-process-sentinel process #'ignore)
  (set-process-filter process #'ignore)
  (delete-process process)
  (cl-incf (dualstack-epc-serve--door-turned-away door))
  (unless (dualstack-epc-serve--door-timer door)
    (setf (dualstack-epc-serve--door-timer door)
          (run-at-time 1 nil #'dualstack-epc-serve--report door)))
  nil)

(defun dualstack-epc-serve--report (door)
  "Log how many clients of DOOR were turned away."
  (dualstack-log "%s: turned %d clients away, which had no proof or no place"
                 (dualstack-epc-serve--door-name door)
                 (dualstack-epc-serve--door-turned-away door))
  (setf (dualstack-epc-serve--door-turned-away door) 0
        (dualstack-epc-serve--door-timer door) nil))

;;;; At the gate

(defun dualstack-epc-serve--arrive (door process)
  "Wait for the proof of PROCESS, a new client of DOOR."
  (let ((gate (dualstack-epc-serve--gate-make :door door :process process)))
    (push gate (dualstack-epc-serve--door-gates door))
    (setf (dualstack-epc-serve--gate-timer gate)
          (run-at-time dualstack-epc-serve--patience nil
                       #'dualstack-epc-serve--refuse gate nil))
    (set-process-coding-system process 'binary 'binary)
    (set-process-filter process (lambda (_process bytes)
                                  (dualstack-epc-serve--filter gate bytes)))
    (set-process-sentinel process (lambda (process _event)
                                    (unless (process-live-p process)
                                      (dualstack-epc-serve--refuse gate nil))))
    (let ((oldest (nth dualstack-epc-serve--gates (dualstack-epc-serve--door-gates door))))
      (when oldest
        (dualstack-epc-serve--refuse oldest nil)))))

(defun dualstack-epc-serve--leave (gate)
  "Take GATE from its door."
  (let ((door (dualstack-epc-serve--gate-door gate)))
    (setf (dualstack-epc-serve--door-gates door)
          (delq gate (dualstack-epc-serve--door-gates door)))
    (cancel-timer (dualstack-epc-serve--gate-timer gate))))

(defun dualstack-epc-serve--refuse (gate uid)
  "Turn the client at GATE away, with an error as reply to UID if that is one."
  (let ((process (dualstack-epc-serve--gate-process gate)))
    (when uid
      (dualstack-epc-serve--send process 'epc-error uid
                                 "this server asks for authentication first"))
    (dualstack-epc-serve--leave gate)
    (dualstack-epc-serve--turn-away (dualstack-epc-serve--gate-door gate) process)))

(defun dualstack-epc-serve--send (process kind uid value)
  "Send (KIND UID VALUE) to PROCESS, which is some 200 bytes."
  (ignore-errors
    (process-send-string process (dualstack-epc--codec-encode (list kind uid value)))))

(defun dualstack-epc-serve--filter (gate bytes)
  "Take BYTES of the client at GATE."
  (let* ((input (concat (dualstack-epc-serve--gate-input gate) bytes))
         (case-fold-search nil)
         (length (and (string-match-p "\\`[0-9a-f]\\{6\\}" input)
                      (string-to-number (substring input 0 6) 16))))
    (cond ((not (or length (string-match-p "\\`[0-9a-f]\\{0,5\\}\\'" input)))
           (dualstack-epc-serve--refuse gate nil))
          ((> (or length 0) dualstack-epc-serve--frame)
           (dualstack-epc-serve--refuse gate nil))
          ((or (null length) (< (length input) (+ 6 length)))
           (setf (dualstack-epc-serve--gate-input gate) input))
          (t
           (setf (dualstack-epc-serve--gate-input gate) "")
           (dualstack-epc-serve--receive gate (substring input 6 (+ 6 length))
                                         (substring input (+ 6 length)))))))

(defconst dualstack-epc-serve--step
  "\\`[ \n]*([ \n]*call[ \n]+\\([0-9]\\{1,15\\}\\)[ \n]+dualstack-\\(auth\\|prove\\)[ \n]+([ \n]*\"\\([^\"\\:]\\{1,256\\}\\)\"[ \n]*)[ \n]*)[ \t\n]*\\'"
  "What a step of the proof looks like: UID, which step, and nonce or proof.")

(defun dualstack-epc-serve--receive (gate payload rest)
  "Take PAYLOAD of the client at GATE for a step of the proof.
REST are the bytes after it."
  (if (not (string-match dualstack-epc-serve--step payload))
      (dualstack-epc-serve--refuse gate (or (cdr (dualstack-epc--codec-uid payload)) 0))
    (let ((uid (string-to-number (match-string 1 payload)))
          (nonces (dualstack-epc-serve--gate-nonces gate))
          (text (match-string 3 payload)))
      (cond ((and (null nonces) (equal (match-string 2 payload) "auth"))
             (dualstack-epc-serve--greet gate uid text)
             (dualstack-epc-serve--filter gate rest))
            ((and nonces
                  (equal (match-string 2 payload) "prove")
                  (dualstack-epc--auth-equal
                   text (dualstack-epc-serve--proof gate "client" (cdr nonces) (car nonces))))
             (dualstack-epc-serve--let-in gate uid rest))
            (t
             (dualstack-epc-serve--refuse gate uid))))))

(defun dualstack-epc-serve--proof (gate side first second)
  "Return the proof of SIDE over the nonces FIRST and SECOND at GATE."
  (let ((door (dualstack-epc-serve--gate-door gate)))
    (dualstack-epc--auth-proof
     (dualstack-epc--auth-token (dualstack-epc-serve--door-token door)) side first second
     (dualstack-epc--auth-place (dualstack-epc-serve--gate-process gate) :local
                               (dualstack-epc-serve--door-label door)))))

(defun dualstack-epc-serve--greet (gate uid nonce)
  "Prove the server to the client at GATE, for its NONCE, in reply to UID."
  (let ((own (dualstack-epc--auth-nonce)))
    (setf (dualstack-epc-serve--gate-nonces gate) (cons nonce own))
    (dualstack-epc-serve--send (dualstack-epc-serve--gate-process gate) 'return uid
                               (list own (dualstack-epc-serve--proof gate "server" nonce own)))))

(defun dualstack-epc-serve--let-in (gate uid rest)
  "Make a connection of the client at GATE, which has proved itself with UID.
REST are the bytes after the proof."
  (let ((process (dualstack-epc-serve--gate-process gate))
        connection)
    (dualstack-epc-serve--leave gate)
    (when (setq connection (dualstack-epc-serve--admit
                            (dualstack-epc-serve--gate-door gate) process))
      (dualstack-epc--link-meet connection)
      (dualstack-epc--link-reply connection 'return uid t)
      (unless (string-empty-p rest)
        (funcall (process-filter process) process rest)))))

(provide 'dualstack-epc-serve)

;;; dualstack-epc-serve.el ends here
