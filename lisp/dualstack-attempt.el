;;; dualstack-attempt.el --- One attempt to connect to one address  -*- lexical-binding: t; -*-

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

;; What is known of Emacs's processes: how one is made that connects to an
;; address, what its events mean on each system, and how it becomes the
;; caller's.  dualstack-race.el decides which attempts are made.

;;; Code:

(eval-when-compile (require 'cl-lib))

;; A list is made quicker than a record, whose type would be looked at whenever
;; a slot is.
(cl-defstruct (dualstack-attempt
               (:type list)
               (:constructor dualstack-attempt--make)
               (:conc-name dualstack-attempt--)
               (:predicate nil)
               (:copier nil))
  "One attempt to connect to one address.
ADDRESS is what is dialled: an address vector with the port last (see
`format-network-address'), or the symbol `ipv4' or `ipv6' where the host
name is left to Emacs.  START and END are times as of `float-time', END nil
while the attempt runs.  OUTCOME is `won', `lost' (another address was
faster), `cancelled', `timeout' (of the whole race), a string that says why
the connection failed, or nil while the attempt runs.  PROCESS is the
attempt's process, UNKNOWN how often the system could not say what became
of one."
  address start end outcome process (unknown 0))

;;;; Making and closing

(defvar dualstack-attempt--maker #'make-network-process
  "The function that makes attempts.
Inside an advice of `make-network-process' it is the primitive, so that other
advice of it sees one call, the package's own.")

(defun dualstack-attempt--dial (attempt args &rest overrides)
  "Make the process of ATTEMPT with ARGS, but for OVERRIDES.
Both are keyword arguments of `make-network-process', whose errors are
signalled."
  (let ((address (dualstack-attempt--address attempt)))
    (setf (dualstack-attempt--process attempt)
          (apply dualstack-attempt--maker
                 (if (symbolp address) :family :remote) address
                 (nconc overrides args)))))

(defun dualstack-attempt--end-as (attempt outcome)
  "Enter OUTCOME and the end time of ATTEMPT."
  (setf (dualstack-attempt--outcome attempt) outcome
        (dualstack-attempt--end attempt) (float-time)))

(defun dualstack-attempt--close (attempt outcome)
  "End ATTEMPT with OUTCOME and delete its process, if it has one."
  (dualstack-attempt--end-as attempt outcome)
  (dualstack-attempt--delete attempt))

(defvar dualstack-attempt--inside-wait nil
  "Non-nil in a timer or sentinel, which runs inside somebody's wait.
Emacs notes which thread waits for which descriptor, and forgets it at the
end of the wait, but only up to the highest descriptor that is still open.
What is closed inside a wait can leave its number noted, and whoever gets the
number later is not heard by other threads.")

(defun dualstack-attempt--delete (attempt)
  "Delete the process of ATTEMPT, if it has one, without a word from it.
Inside a wait another one, of no time, has Emacs forget the descriptor first."
  (let ((process (dualstack-attempt--process attempt)))
    (when process
      (setf (dualstack-attempt--process attempt) nil)
      (set-process-sentinel process #'ignore)
      (set-process-filter process #'ignore)
      (when (and dualstack-attempt--inside-wait
                 (eq (process-status process) 'connect))
        (ignore-errors (accept-process-output process 0 nil 1)))
      (delete-process process))))

;;;; What became of it

(defun dualstack-attempt--verdict (attempt event)
  "Return the meaning of the sentinel string EVENT for ATTEMPT.
That is `open', `listens' (someone listens, but the process is of no use),
`unknown' (nothing is known yet, and the process is of no use), or a string
that says why it failed."
  (if (string-prefix-p "open" event)
      'open
    (let ((code (and (string-match "\\`failed with code \\([0-9]+\\)\n" event)
                     (string-to-number (match-string 1 event)))))
      (cond ((not (eq system-type 'windows-nt))
             (dualstack-attempt--event-reason event code))
            ;; Emacs asks for an IPv6 peer's name with a buffer that is too
            ;; short (WSAEFAULT), once TCP has connected.
            ((and (eql code 14) (dualstack-attempt--ipv6-p attempt)) 'listens)
            ;; WSAEWOULDBLOCK and WSAENOTCONN.
            ((and (memql code '(10035 10057)) (dualstack-attempt--again-p attempt))
             'unknown)
            (t (dualstack-attempt--event-reason event code))))))

(defconst dualstack-attempt--most-unknown 20
  "How often an attempt is dialled again because its outcome is unknown.")

(defun dualstack-attempt--again-p (attempt)
  "Return non-nil if ATTEMPT, of unknown outcome, may be dialled again."
  (< (cl-incf (dualstack-attempt--unknown attempt)) dualstack-attempt--most-unknown))

(defun dualstack-attempt--unknown-error-p (attempt err)
  "Return non-nil if ERR does not tell the outcome of ATTEMPT.
Also a blocking connect of Windows is now and then said to be under way."
  (and (eq system-type 'windows-nt)
       (equal (nth 2 err) "Resource temporarily unavailable")
       (dualstack-attempt--again-p attempt)))

(defun dualstack-attempt--ipv6-p (attempt)
  "Return non-nil if ATTEMPT dials an IPv6 address."
  (let ((address (dualstack-attempt--address attempt)))
    (or (eq address 'ipv6)
        (and (vectorp address) (= (length address) 9)))))

;; Emacs does not call the sentinel when a `:nowait' client fails at once, as
;; without the address family, or when its host name cannot be looked up.
(defun dualstack-attempt--failure (attempt)
  "Return why the process of ATTEMPT has failed, a string, or nil."
  (let ((process (dualstack-attempt--process attempt)))
    (unless (memq (process-status process) '(connect open run))
      (dualstack-attempt--status-reason (process-exit-status process)))))

;; On Windows a socket can look ready for long when there is nothing to read, and
;; Emacs calls no sentinel for a failure while any looks ready.
(defun dualstack-attempt--untold (attempt)
  "Return what a sentinel of ATTEMPT is yet to be told, its string, or nil."
  (let ((process (dualstack-attempt--process attempt)))
    (and (eq (process-status process) 'failed)
         (integerp (process-exit-status process))
         (format "failed with code %d\n" (process-exit-status process)))))

(defun dualstack-attempt--self-connected-p (attempt)
  "Return non-nil if both ends of the connection of ATTEMPT are one socket.
TCP connects a socket to itself when it draws the port that it dials as
its own (simultaneous open, RFC 9293 section 3.5).  Nobody listens then."
  (let ((contact (process-contact (dualstack-attempt--process attempt) t)))
    (equal (plist-get contact :local) (plist-get contact :remote))))

(defconst dualstack-attempt--refusals
  '((gnu/linux (111 . "Connection refused") (110 . "Connection timed out")
               (113 . "No route to host") (101 . "Network is unreachable")
               (104 . "Connection reset by peer"))
    (darwin (61 . "Connection refused") (60 . "Operation timed out")
            (65 . "No route to host") (51 . "Network is unreachable")
            (54 . "Connection reset by peer"))
    (windows-nt (10061 . "Connection refused") (10060 . "Connection timed out")
                (10065 . "No route to host") (10051 . "Network is unreachable")
                (10054 . "Connection reset by peer")))
  "Texts that strerror gives for the codes in a sentinel's string.
An alist of system types and alists of codes and texts; Lisp cannot ask
the C library for them.")

(defun dualstack-attempt--event-reason (event code)
  "Return why the sentinel string EVENT was sent, in the words of strerror.
CODE is the number in it, or nil."
  (or (cdr (assq code (cdr (assq system-type dualstack-attempt--refusals))))
      (replace-regexp-in-string "\n+\\'" "" event)))

(defun dualstack-attempt--status-reason (code)
  "Return why a process failed that has the exit status CODE.
It has the data of an error, in a shape that depends on Emacs's version, or
a text if a host name was looked up."
  (if (consp code)
      (or (cadr (member "make client process failed" code)) (format "%s" code))
    "Name or service not known"))

(defun dualstack-attempt--error-reason (err)
  "Return why the error ERR of `make-network-process' was signalled."
  (let ((reason (nth 2 err)))
    (cond ((not (and (dualstack-attempt--file-error-p err) (stringp reason)))
           (error-message-string err))
          ;; WSAHOST_NOT_FOUND and its kin, which Windows' Emacs cannot name.
          ((string-match-p "getaddrinfo error 1100[0-9]\\'" reason)
           "Name or service not known")
          (t reason))))

(defun dualstack-attempt--file-error-p (err)
  "Return non-nil if ERR is that a connection failed.
Other errors of `make-network-process' are about its arguments, also that
an option of a socket cannot be set."
  (and (memq 'file-error (get (car err) 'error-conditions))
       (not (equal (nth 1 err) "Cannot set network option"))))

;;;; How long an answer takes

(defvar dualstack-attempt--usual 0
  "Seconds that Windows lately took to report a connection.")

(defun dualstack-attempt--note-time (attempt)
  "Note how long ATTEMPT, which has connected, took to be reported.
Windows reports by way of a thread that sleeps, late where the machine is busy;
elsewhere one look at the sockets tells what has happened."
  (when (eq system-type 'windows-nt)
    (setq dualstack-attempt--usual
          (max (- (dualstack-attempt--end attempt) (dualstack-attempt--start attempt))
               (* 0.9 dualstack-attempt--usual)))))

(defun dualstack-attempt--look ()
  "Return the seconds until Emacs has heard of what happened while it was busy.
On Windows only then a thread begins to report it."
  (if (eq system-type 'windows-nt) 0.05 0))

(defun dualstack-attempt--patience ()
  "Return the least seconds to wait for an answer before another attempt.
A server on both families would else see two connections."
  (if (eq system-type 'windows-nt)
      (min 0.05 (* 1.4 dualstack-attempt--usual))
    0))

;;;; The caller's process

(defun dualstack-attempt--adopt (attempt args name)
  "Return the process of ATTEMPT, ready for the caller.
It has what ARGS, of `make-network-process', ask for, has the NAME of
`dualstack-attempt--name', and begins to read."
  (let ((process (dualstack-attempt--process attempt)))
    (dualstack-attempt--rename process name)
    (set-process-sentinel process (plist-get args :sentinel))
    (set-process-filter process (plist-get args :filter))
    (set-process-query-on-exit-flag process (not (plist-get args :noquery)))
    (dualstack-attempt--hide-overrides process args)
    (unless (plist-get args :stop)
      (continue-process process))
    process))

(defun dualstack-attempt--coding-given-p (args)
  "Return non-nil if the `:coding' in ARGS counts for Emacs.
Nil counts before version 28, and afterwards is as good as none."
  (if (< emacs-major-version 28)
      (plist-member args :coding)
    (plist-get args :coding)))

(defun dualstack-attempt--hide-overrides (process args)
  "Make PROCESS look as if it was made with ARGS alone."
  (when (and inherit-process-coding-system
             (plist-get args :buffer)
             (not (dualstack-attempt--coding-given-p args)))
    (set-process-inherit-coding-system-flag process t))
  (let* ((contact (process-contact process t))
         ;; As Emacs does: ARGS may have these, with nil.
         (ends (list :remote (plist-get contact :remote) :local (plist-get contact :local)))
         (plain (if (or (plist-member args :remote) (plist-member args :local))
                    (plist-put (plist-put (copy-sequence args) :remote (nth 1 ends))
                               :local (nth 3 ends))
                  (append args ends))))
    (setcar contact (car plain))
    (setcdr contact (cdr plain))))

;;;; Its coding and its name

(defun dualstack-attempt--coding (args)
  "Return the coding systems (DECODING . ENCODING) for ARGS.
They are those that `make-network-process' would choose now; it chooses
others for an address than for a host name."
  (let ((coding (plist-get args :coding)))
    (cond ((consp coding) coding)
          ((dualstack-attempt--coding-given-p args) (cons coding coding))
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

;; Emacs makes process names unique with a suffix and cannot rename, but
;; callers look processes up by name: a winner called "name<1>", after a
;; loser that is gone, would not do.  A process is named by the very string
;; it was made with, so an attempt beside another gets a string of the same
;; length, and its first character is set right when the other is gone.

(defun dualstack-attempt--name (name)
  "Return NAME, or a name that stands for it while another process has it.
The latter differs in its first character, and no process has it.  The
empty string has no such sibling, and is returned as it is."
  (if (or (string= name "") (not (get-process name)))
      name
    (let ((decoy (copy-sequence name))
          (char ?A))
      (while (progn (aset decoy 0 char) (get-process decoy))
        (setq char (1+ char)))
      decoy)))

(defun dualstack-attempt--rename (process name)
  "Give PROCESS, which may be called by a decoy, its NAME."
  (unless (get-process name)
    (aset (process-name process) 0 (aref name 0))))

(provide 'dualstack-attempt)

;;; dualstack-attempt.el ends here
