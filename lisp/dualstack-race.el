;;; dualstack-race.el --- Race connection attempts to several addresses  -*- lexical-binding: t; -*-

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

;; The engine below dualstack.el, after RFC 8305 section 5 ("Happy
;; Eyeballs").  It knows addresses and `make-network-process'
;; arguments, and nothing of options, names or users.
;;
;; 1. `dualstack-race-start' begins a non-blocking attempt at the
;;    first address.  The next one begins as soon as an attempt has
;;    failed, or after the attempt delay; earlier attempts keep running.
;; 2. An attempt's sentinel reports it connected or failed.  The first
;;    to connect wins, and every other is closed (`dualstack-race--settle').
;; 3. `dualstack-race-adopt' turns the winner into what a plain call of
;;    `make-network-process' would have returned.  Until then it is
;;    stopped, so that what the server says first waits in the kernel.
;;
;; `dualstack-race-run' is these three with a wait between them, and
;; `dualstack-race-dial' is the blocking attempt at one address.

;;; Code:

(eval-when-compile (require 'cl-lib))

;;;; Structs

(cl-defstruct (dualstack-race-attempt
               (:constructor dualstack-race-attempt--make)
               (:copier nil))
  "One attempt to connect to one address.
ADDRESS is what was dialled: an address vector with the port last
\(see `format-network-address'), or the symbol `ipv4' or `ipv6' where
the host name was left to Emacs.  START and END are times as of
`float-time', END nil while the attempt runs.  OUTCOME is `won',
`lost' (another address was faster), `cancelled', `timeout' (of the
whole race), a string that says why the connection failed, or nil
while the attempt runs.  PROCESS is the attempt's process."
  address start end outcome process)

(cl-defstruct (dualstack-race
               (:constructor dualstack-race--make)
               (:copier nil))
  "A race between attempts.
ARGS are the arguments of `make-network-process' that the winner shall
look as if made with, CODING the pair of coding systems it shall have.
PENDING holds the addresses not tried yet.  DELAY is the attempt delay
in seconds, DEADLINE the time as of `float-time' at which the race is
given up, or nil, DUE that at which the next attempt begins, AGAIN that
at which those running are dialled again, or nil.  ON-END is called with
the race when it is settled, but not when it is cancelled.  ATTEMPTS are
the records of all attempts, newest first.  NAME is the process name that Emacs gave to the first.
TIMER is the timer for the next step.  STATE is `running', `won',
`failed', `timeout' or `cancelled'.  WINNER is the attempt that won, until
it is adopted."
  args coding pending delay due again deadline on-end attempts name timer
  (state 'running) winner)

(defvar dualstack-race-use-nowait (featurep 'make-network-process '(:nowait t))
  "Non-nil if attempts are made with `:nowait'.
Nil makes blocking attempts, one address after the other.")

(defconst dualstack-race--look 0.1
  "Seconds between two looks at attempts whose host name Emacs looks up.")

(defconst dualstack-race--redial-delay 0.05
  "Seconds after a failure on Windows until the other attempts are renewed.
News that come together, and are not lost, come within this time.")

(defconst dualstack-race--longest-slice 0.02
  "Longest time in seconds that `dualstack-race--wait' waits at once.
A race that is decided inside another's wait, while a timer or filter
runs there, is seen by its own waiter after at most this time.")

;;;; The race

(cl-defun dualstack-race-start (addresses args &key coding (attempt-delay 0.25)
                                          timeout on-end)
  "Start a race to ADDRESSES, in their order, and return it at once.
ADDRESSES is a list as the ADDRESS of `dualstack-race-attempt'.  ARGS are
keyword arguments for `make-network-process', CODING is a pair
\(DECODING . ENCODING) of coding systems.  ATTEMPT-DELAY and TIMEOUT are
in seconds; nil for TIMEOUT means none.  ON-END is called with the race
once it is settled, from a sentinel or timer or before this function
returns; it must not signal.

Where `dualstack-race-use-nowait' is nil, this blocks.
The attempt delay is that of RFC 8305 section 5."
  (let ((race (dualstack-race--make
               :args args :coding coding :pending addresses
               :delay attempt-delay :on-end on-end
               :deadline (and timeout (+ (float-time) timeout)))))
    (dualstack-race--advance race)
    race))

(defun dualstack-race-running-p (race)
  "Return non-nil while RACE is undecided."
  (eq (dualstack-race-state race) 'running))

(defun dualstack-race-cancel (race)
  "Close every attempt of RACE, the winner too; its ON-END is not called.
A race whose winner was adopted is over, and is left alone."
  (let ((inhibit-quit t))
    (setf (dualstack-race-on-end race) nil)
    (if (dualstack-race-running-p race)
        (dualstack-race--settle race 'cancelled)
      (when (dualstack-race-winner race)
        (setf (dualstack-race-state race) 'cancelled)
        (dualstack-race--close (dualstack-race-winner race) 'cancelled)
        (setf (dualstack-race-winner race) nil)))))

(defun dualstack-race-run (addresses args &rest options)
  "Race to ADDRESSES with ARGS and OPTIONS, wait, and return the race.
The arguments are those of `dualstack-race-start'.  If the race was
won, `dualstack-race-adopt' gives the process.  Timers, filters and
sentinels run while this waits.  `quit' closes every attempt; where
`inhibit-quit' is set, as in a timer, it ends the wait and the race's
state is `cancelled'."
  (let ((race nil)
        (done nil))
    (unwind-protect
        (progn
          (if dualstack-race-use-nowait
              (let ((inhibit-quit t))
                (setq race (apply #'dualstack-race-start addresses args options)))
            (setq race (apply #'dualstack-race-start addresses args options)))
          (with-local-quit (dualstack-race--wait race))
          (setq done (not (dualstack-race-running-p race)))
          race)
      (when (and race (not done))
        (dualstack-race-cancel race)))))

(defun dualstack-race--wait (race)
  "Wait until RACE is settled.
Completion of a connect does not end `accept-process-output', so the
wait is in slices, each an eighth of the time waited: an attempt that
completes at once is seen at once, a slow one costs no processor time."
  (let ((start (float-time))
        (slice 0))
    (while (dualstack-race-running-p race)
      (accept-process-output nil slice)
      (setq slice (min dualstack-race--longest-slice
                       (/ (- (float-time) start) 8))))))

(defun dualstack-race--advance (race)
  "Begin the next attempt of RACE, and more while they fail at once.
Then arm the timer for the next step, or settle RACE if none is left."
  (dualstack-race--attempt-next race)
  (while (and (dualstack-race-running-p race)
              (dualstack-race-pending race)
              (not (dualstack-race--in-flight race)))
    (dualstack-race--attempt-next race))
  (when (dualstack-race-running-p race)
    (if (dualstack-race--in-flight race)
        (progn
          (setf (dualstack-race-due race)
                (and (dualstack-race-pending race)
                     (+ (float-time) (dualstack-race-delay race))))
          (dualstack-race--arm race))
      (dualstack-race--settle race 'failed))))

(defun dualstack-race--in-flight (race)
  "Return the attempts of RACE that are not decided."
  (let (running)
    (dolist (attempt (dualstack-race-attempts race) running)
      (unless (dualstack-race-attempt-end attempt)
        (push attempt running)))))

(defun dualstack-race--arm (race)
  "Set the timer of RACE to what is next: an attempt, a look, or the deadline."
  (dualstack-race--disarm race)
  (let* ((now (float-time))
         (times (delq nil (list (dualstack-race-due race)
                                (dualstack-race-again race)
                                (dualstack-race-deadline race)
                                (and (dualstack-race--lookups race)
                                     (+ now dualstack-race--look))))))
    (when times
      (setf (dualstack-race-timer race)
            (run-at-time (max 0 (- (apply #'min times) now)) nil
                         #'dualstack-race--tick race)))))

(defun dualstack-race--disarm (race)
  "Cancel the timer of RACE, if it has one."
  (when (dualstack-race-timer race)
    (cancel-timer (dualstack-race-timer race))
    (setf (dualstack-race-timer race) nil)))

(defun dualstack-race--tick (race)
  "Do what is due in RACE: give it up, begin an attempt, or look again."
  (when (dualstack-race-running-p race)
    (dualstack-race--fail-lookups race)
    (let ((now (float-time))
          (due (dualstack-race-due race))
          (deadline (dualstack-race-deadline race)))
      (cond ((and deadline (>= now deadline))
             (dualstack-race--settle race 'timeout))
            ((and (dualstack-race-again race) (>= now (dualstack-race-again race)))
             (dualstack-race--redial race))
            ((or (and due (>= now due))
                 (not (dualstack-race--in-flight race)))
             (dualstack-race--advance race))
            (t (dualstack-race--arm race))))))

;; A Windows Emacs that has one connect fail looks at its sockets once more
;; before it calls the sentinel, and drops what it sees: what became of another
;; connect in that moment is never told (`wait_reading_process_output' looks by
;; a `select', which in w32proc.c takes the event away).
(defun dualstack-race--redial (race)
  "Renew the attempts of RACE that run, as their outcome may have got lost."
  (setf (dualstack-race-again race) nil)
  (dolist (attempt (dualstack-race--in-flight race))
    (when (dualstack-race-running-p race)
      (dualstack-race--delete (dualstack-race-attempt-process attempt))
      (dualstack-race--connect race attempt t)))
  (when (dualstack-race-running-p race)
    (if (dualstack-race--in-flight race)
        (dualstack-race--arm race)
      (dualstack-race--advance race))))

(defun dualstack-race--lookups (race)
  "Return the attempts of RACE whose address Emacs may still be looking up."
  (cl-loop for attempt in (dualstack-race--in-flight race)
           when (symbolp (dualstack-race-attempt-address attempt))
           collect attempt))

(defun dualstack-race--fail-lookups (race)
  "End the attempts of RACE whose host name turned out to have no address."
  (dolist (attempt (dualstack-race--lookups race))
    (dualstack-race--close-if-failed attempt)))

;; Emacs does not call the sentinel when a `:nowait' client fails at once, as
;; without the address family, or when its host name cannot be looked up.
(defun dualstack-race--close-if-failed (attempt)
  "End ATTEMPT if its process has failed."
  (let ((process (dualstack-race-attempt-process attempt)))
    (unless (memq (process-status process) '(connect open run))
      (dualstack-race--close
       attempt (dualstack-race--status-reason (process-exit-status process))))))

;; Closing a process can run other sentinels, hence the state comes first.
(defun dualstack-race--settle (race state &optional winner)
  "End RACE with STATE and the attempt WINNER; close all other attempts."
  (setf (dualstack-race-state race) state
        (dualstack-race-winner race) winner)
  (dualstack-race--disarm race)
  (when winner
    (dualstack-race--record winner 'won))
  (dolist (attempt (dualstack-race--in-flight race))
    (dualstack-race--close attempt (if winner 'lost state)))
  (when (dualstack-race-on-end race)
    (funcall (dualstack-race-on-end race) race)))

;;;; Attempts

(defun dualstack-race--attempt-next (race)
  "Begin an attempt at the next address of RACE, if one is pending."
  (when (dualstack-race-pending race)
    (let ((attempt (dualstack-race-attempt--make
                    :address (pop (dualstack-race-pending race))
                    :start (float-time))))
      (push attempt (dualstack-race-attempts race))
      (dualstack-race--connect race attempt dualstack-race-use-nowait))))

(defun dualstack-race--connect (race attempt nowait)
  "Make the process of ATTEMPT in RACE, with NOWAIT or blocking.
A filter of t keeps it from reading: what the server says first waits in
the kernel for the caller's filter.  Emacs does not ask about it at exit."
  (condition-case err
      (let ((process
             (dualstack-race--make-process
              (dualstack-race-attempt-address attempt)
              (dualstack-race-args race)
              :name (dualstack-race--name race)
              :coding (dualstack-race-coding race)
              :nowait nowait :stop nil :noquery t :filter t
              :sentinel (lambda (_process event)
                          (dualstack-race--event race attempt event)))))
        (setf (dualstack-race-attempt-process attempt) process)
        (unless (dualstack-race-name race)
          (setf (dualstack-race-name race) (process-name process))))
    (error (dualstack-race--close attempt (dualstack-race--error-reason err))))
  (cond ((dualstack-race-attempt-end attempt))
        (nowait (dualstack-race--close-if-failed attempt))
        (t (dualstack-race--connected race attempt))))

(defun dualstack-race--make-process (address args &rest overrides)
  "Return a network process for ADDRESS, made with ARGS but for OVERRIDES.
ADDRESS is as in `dualstack-race-attempt'."
  (apply #'make-network-process
         (if (symbolp address) :family :remote) address
         (nconc overrides args)))

(defun dualstack-race--event (race attempt event)
  "Take note of the sentinel string EVENT of ATTEMPT in RACE."
  (when (and (dualstack-race-running-p race)
             (not (dualstack-race-attempt-end attempt)))
    (cond ((string-prefix-p "open" event)
           (dualstack-race--connected race attempt))
          ((dualstack-race--misreported-p attempt event)
           (dualstack-race--delete (dualstack-race-attempt-process attempt))
           (dualstack-race--connect race attempt nil))
          (t
           (dualstack-race--close attempt (dualstack-race--event-reason event))
           (when (and (eq system-type 'windows-nt) (dualstack-race--in-flight race))
             (setf (dualstack-race-again race)
                   (+ (float-time) dualstack-race--redial-delay)))))
    (when (dualstack-race-running-p race)
      (dualstack-race--advance race))))

(defun dualstack-race--connected (race attempt)
  "Let ATTEMPT win RACE, unless its socket is connected to itself.
The winner is stopped, as Emacs does not begin to read by itself when a
filter of t is replaced; it does when the process is continued."
  (let ((process (dualstack-race-attempt-process attempt)))
    (if (dualstack-race--self-connected-p process)
        (dualstack-race--close attempt "Connection refused")
      (stop-process process)
      (dualstack-race--settle race 'won attempt))))

(defun dualstack-race--self-connected-p (process)
  "Return non-nil if both ends of PROCESS are the same socket.
TCP connects a socket to itself when it draws the port that it dials as
its own (simultaneous open, RFC 9293 section 3.5).  Nobody listens then."
  (let ((contact (process-contact process t)))
    (equal (plist-get contact :local) (plist-get contact :remote))))

(defun dualstack-race--misreported-p (attempt event)
  "Return non-nil if EVENT is no failure of ATTEMPT.
On Windows a completed `:nowait' connect to an IPv6 address is reported
as failed with WSAEFAULT, 14, for Emacs asks for the peer's name with a
buffer that is too short.  The address answers, and can be dialled again."
  (let ((address (dualstack-race-attempt-address attempt)))
    (and (eq system-type 'windows-nt)
         (string-prefix-p "failed with code 14\n" event)
         (or (eq address 'ipv6) (and (vectorp address) (= (length address) 9))))))

(defun dualstack-race--record (attempt outcome)
  "Enter OUTCOME and the end time of ATTEMPT."
  (setf (dualstack-race-attempt-outcome attempt) outcome
        (dualstack-race-attempt-end attempt) (float-time)))

(defun dualstack-race--close (attempt outcome)
  "End ATTEMPT with OUTCOME and delete its process, if it has one."
  (dualstack-race--record attempt outcome)
  (when (dualstack-race-attempt-process attempt)
    (dualstack-race--delete (dualstack-race-attempt-process attempt))))

(defun dualstack-race--delete (process)
  "Delete PROCESS without a word from its sentinel."
  (set-process-sentinel process #'ignore)
  (delete-process process))

(defun dualstack-race-dial (address args coding)
  "Connect to ADDRESS with one blocking call; return the attempt's record.
ADDRESS, ARGS and CODING are as for `dualstack-race-start'.  If the
outcome is `won', the process is as `make-network-process' makes it.
This cannot be bounded in time; `quit' leaves nothing behind."
  (let ((attempt (dualstack-race-attempt--make :address address
                                               :start (float-time))))
    (condition-case err
        (let ((process (dualstack-race--make-process address args
                                                     :coding coding)))
          (setf (dualstack-race-attempt-process attempt) process)
          (if (dualstack-race--self-connected-p process)
              (dualstack-race--close attempt "Connection refused")
            (dualstack-race-hide-overrides process args)
            (dualstack-race--record attempt 'won)))
      (error (dualstack-race--close attempt (dualstack-race--error-reason err))))
    attempt))

;;;; Why an attempt failed

(defconst dualstack-race--refusals
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

(defun dualstack-race--event-reason (event)
  "Return why the sentinel string EVENT was sent, in the words of strerror."
  (or (and (string-match "\\`failed with code \\([0-9]+\\)" event)
           (cdr (assq (string-to-number (match-string 1 event))
                      (cdr (assq system-type dualstack-race--refusals)))))
      (replace-regexp-in-string "\n+\\'" "" event)))

(defun dualstack-race--status-reason (code)
  "Return why a process failed that has the exit status CODE.
It has the data of an error, in a shape that depends on Emacs's version, or
a text if a host name was looked up."
  (if (consp code)
      (or (cadr (member "make client process failed" code)) (format "%s" code))
    "Name or service not known"))

(defun dualstack-race--error-reason (err)
  "Return why the error ERR of `make-network-process' was signalled."
  (if (and (memq 'file-error (get (car err) 'error-conditions))
           (stringp (nth 2 err)))
      (nth 2 err)
    (error-message-string err)))

;;;; The winner

(defun dualstack-race-adopt (race)
  "Return the process that won RACE, ready for the caller.
It has the name, contact, filter, sentinel and query flag that ARGS of
the race ask for, and begins to read."
  (let* ((inhibit-quit t)
         (args (dualstack-race-args race))
         (process (dualstack-race-attempt-process (dualstack-race-winner race))))
    (setf (dualstack-race-winner race) nil)
    (dualstack-race--rename process (dualstack-race-name race))
    (set-process-sentinel process (plist-get args :sentinel))
    (set-process-filter process (plist-get args :filter))
    (set-process-query-on-exit-flag process (not (plist-get args :noquery)))
    (dualstack-race-hide-overrides process args)
    (unless (plist-get args :stop)
      (continue-process process))
    process))

(defun dualstack-race-coding-given-p (args)
  "Return non-nil if the `:coding' in ARGS counts for Emacs.
Nil counts before version 28, and afterwards is as good as none."
  (if (< emacs-major-version 28)
      (plist-member args :coding)
    (plist-get args :coding)))

(defun dualstack-race-hide-overrides (process args)
  "Make PROCESS look as if it was made with ARGS alone."
  (when (and inherit-process-coding-system
             (plist-get args :buffer)
             (not (dualstack-race-coding-given-p args)))
    (set-process-inherit-coding-system-flag process t))
  (let* ((contact (process-contact process t))
         (plain (append args (list :remote (plist-get contact :remote)
                                   :local (plist-get contact :local)))))
    (setcar contact (car plain))
    (setcdr contact (cdr plain))))

;; Emacs makes process names unique with a suffix and cannot rename, but
;; callers look processes up by name: a winner called "name<1>", after a
;; loser that is gone, would not do.  A process is named by the very string
;; it was made with, so an attempt beside another gets a string of the same
;; length, and its first character is set right when the other is gone.

(defun dualstack-race--name (race)
  "Return a name for the next attempt of RACE."
  (let ((name (dualstack-race-name race)))
    (cond ((null name) (plist-get (dualstack-race-args race) :name))
          ((get-process name) (dualstack-race--decoy name))
          (t name))))

(defun dualstack-race--decoy (name)
  "Return a string that differs from NAME in its first character.
No process has that name.  The empty string has no such sibling, and is
returned as it is."
  (let ((decoy (copy-sequence name))
        (char ?A))
    (unless (string= name "")
      (while (progn (aset decoy 0 char) (get-process decoy))
        (setq char (1+ char))))
    decoy))

(defun dualstack-race--rename (process name)
  "Give PROCESS, which may be called by a decoy, its NAME."
  (unless (get-process name)
    (aset (process-name process) 0 (aref name 0))))

(provide 'dualstack-race)

;;; dualstack-race.el ends here
