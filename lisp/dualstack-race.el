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
;; 1. The first attempt begins at once, each other one as soon as an
;;    attempt has failed, or after the attempt delay; earlier attempts
;;    keep running.
;; 2. An attempt's sentinel only notes the event and wakes the race.
;;    `dualstack-race--step' does what is due: it reads the notes, begins,
;;    renews or gives up attempts, and settles the race.  The first to
;;    connect wins, and every other is closed.
;; 3. Before an attempt that the clock asks for the sockets are looked at
;;    once more, so that a server never sees two connections.
;; 4. `dualstack-race--adopt' turns the winner into what a plain call of
;;    `make-network-process' would have returned.  Until then it is
;;    stopped, so that what the server says first waits in the kernel.
;;
;; `dualstack-race--run' steps in a loop that waits alone (dualstack-alone.el);
;; the sentinel ends its wait by a `throw', for a completed connect ends none.
;; `dualstack-race--start' leaves that to a timer and to the sentinels.

;;; Code:

(require 'dualstack-alone)
(require 'dualstack-attempt)
(eval-when-compile (require 'cl-lib))

;;;; Structs

;; A vector, as a record's type would be looked at whenever a slot is.
(cl-defstruct (dualstack-race
               (:type vector)
               (:constructor dualstack-race--make)
               (:conc-name dualstack-race--)
               (:predicate nil)
               (:copier nil))
  "A race between attempts.
ARGS are the arguments of `make-network-process' that the winner shall
look as if made with, CODING the pair of coding systems it shall have,
ADDRESSES those of the race.  DELAY is the attempt delay in seconds,
TIMEOUT how many seconds it may take from its beginning, or nil, DEADLINE
the time as of `float-time' at which it is given up, or nil.  RENEW is the
seconds after which running attempts are dialled again, or nil, and ROUNDS
how often that is done before their silence means that nobody listens, or
nil.  PERSIST is non-nil if addresses that have failed are tried again, for
as long.  ON-END is called with the race when it is settled, but not when
it is cancelled.

PENDING holds the addresses not tried yet, DUE is the time for the next of
them, nil while the race is held, AGAIN that at which the running attempts
are renewed, or nil, and LOOKED that at which the sockets will have been looked at for it, or nil.
ATTEMPTS are the records of all attempts, newest first, NAME is the process
name that Emacs gave to the first, NEWS a list of (ATTEMPT PROCESS EVENT)
not yet read, newest first.  BUSY is non-nil inside a step, TIMER is the
timer for the next.  STATE is `running', `won', `failed', `unanswered',
`timeout' or `cancelled', WINNER the attempt that won, until it is adopted, and ERR the
error, if the arguments are to blame."
  args coding addresses delay timeout deadline renew rounds persist on-end
  pending due again looked attempts name news busy timer
  (state 'running) winner err)

(defvar dualstack-race--nowait (featurep 'make-network-process '(:nowait t))
  "Non-nil if attempts can be made with `:nowait'.
Nil makes blocking attempts, one address after the other.")

(defvar dualstack-race--waiting nil
  "The race that waits for its sockets at this moment, or nil.
Its sentinels may end the wait by a `throw'.")

;; A special variable, as a closure for what is to be done at the end takes
;; longer than most of the rest.
(defvar dualstack-race--innermost nil
  "The race that runs or steps at this moment, the innermost of them, or nil.")

(defconst dualstack-race--look 0.001
  "Seconds for which sockets are looked at before the clock decides.")

(defconst dualstack-race--lookup-interval 0.1
  "Seconds between two looks at attempts whose host name Emacs looks up.")

(defconst dualstack-race--lost-news 0.1
  "Seconds after a failure on Windows until the other attempts are renewed.
A Windows Emacs that has one connect fail looks at its sockets once more
before it calls the sentinel, and drops what it sees: what became of another
connect in that moment is never told (`wait_reading_process_output' looks by
a `select', which in w32proc.c takes the event away).")

;;;; Running a race

(defsubst dualstack-race--in-flight (race)
  "Return the attempts of RACE that are not decided, oldest first."
  (let (running)
    (dolist (attempt (dualstack-race--attempts race) running)
      (unless (dualstack-attempt--end attempt)
        (push attempt running)))))

(defsubst dualstack-race--next (race)
  "Return the time at which the clock asks RACE for an attempt, or nil."
  (let ((due (and (dualstack-race--pending race) (dualstack-race--due race)))
        (again (dualstack-race--again race)))
    (if (and due again) (min due again) (or due again))))

(defsubst dualstack-race--running-p (race)
  "Return non-nil while RACE is undecided."
  (eq (dualstack-race--state race) 'running))

(defun dualstack-race--prepare (addresses args &rest options)
  "Return a race to ADDRESSES, in their order, that has not begun.
ADDRESSES is a list as the ADDRESS of `dualstack-attempt'.  ARGS are
keyword arguments for `make-network-process'.  OPTIONS are keywords and values:
`:coding', a pair (DECODING . ENCODING) of coding systems; `:attempt-delay',
`:timeout', `:renew' and `:patience', in seconds, where nil for the latter three
means none, and `:patience', as long as `:renew' at least, is for the silence
that means that nobody listens; `:persist' and `:on-end' as in the struct.  With
`:hold' it is begun by `dualstack-race--release'."
  (let ((now (float-time))
        (hold (plist-get options :hold))
        (timeout (plist-get options :timeout))
        (renew (plist-get options :renew))
        (patience (plist-get options :patience)))
    (dualstack-race--make
     :args args :coding (plist-get options :coding) :addresses addresses :pending addresses
     :due (if hold nil now)
     :delay (or (plist-get options :attempt-delay) 0.25) :renew renew
     :persist (plist-get options :persist) :on-end (plist-get options :on-end)
     :rounds (and patience (max 1 (round patience renew)))
     :timeout timeout
     :deadline (and timeout (not hold) (+ now timeout)))))

(defun dualstack-race--start (addresses args &rest options)
  "Start a race to ADDRESSES with ARGS and OPTIONS, and return it at once.
The arguments are those of `dualstack-race--prepare'.  Its ON-END is called
from a sentinel or timer or before this function returns; it must not signal.
Where `dualstack-race--nowait' is nil, this blocks."
  (let ((race (apply #'dualstack-race--prepare addresses args options)))
    (if dualstack-race--nowait
        (dualstack-race--drive race)
      (dualstack-race--in-turn race))
    race))

(defun dualstack-race--run (addresses args &rest options)
  "Race to ADDRESSES with ARGS and OPTIONS, wait, and return the race.
The arguments are those of `dualstack-race--prepare'.  If the race was won,
`dualstack-race--adopt' gives the process.  Nobody else's code runs meanwhile.
`quit' closes every attempt; where `inhibit-quit' is set, as in a timer, it
ends the wait and the race's state is `cancelled'.

A thread other than the main one dials the addresses blocking, in turn."
  (let ((dualstack-race--innermost (apply #'dualstack-race--prepare addresses args options)))
    (unwind-protect
        (with-local-quit
          (if (and dualstack-race--nowait (dualstack-race--main-thread-p))
              (dualstack-alone--call #'dualstack-race--wait dualstack-race--innermost)
            (dualstack-race--in-turn dualstack-race--innermost)))
      (when (dualstack-race--running-p dualstack-race--innermost)
        (dualstack-race--cancel dualstack-race--innermost)))
    dualstack-race--innermost))

(defun dualstack-race--held-p (race)
  "Return non-nil if RACE is held, and has not begun."
  (null (dualstack-race--due race)))

(defun dualstack-race--release (race)
  "Begin RACE, which is held."
  (let ((now (float-time))
        (timeout (dualstack-race--timeout race)))
    (setf (dualstack-race--due race) now
          (dualstack-race--deadline race) (and timeout (+ now timeout))))
  (dualstack-race--drive race))

(defun dualstack-race--main-thread-p ()
  "Return non-nil in the main thread."
  (or (not (fboundp 'current-thread))
      (eq (current-thread) main-thread)))

(defun dualstack-race--cancel (race)
  "Close every attempt of RACE, the winner too; its ON-END is not called.
A race whose winner was adopted is over, and is left alone."
  (let ((inhibit-quit t)
        (dualstack-attempt--inside-wait t))
    (setf (dualstack-race--on-end race) nil)
    (cond ((dualstack-race--running-p race)
           (dualstack-race--settle race 'cancelled))
          ((dualstack-race--winner race)
           (setf (dualstack-race--state race) 'cancelled)
           (dualstack-attempt--close (dualstack-race--winner race) 'cancelled)
           (setf (dualstack-race--winner race) nil))
          ((memq (dualstack-race--state race) '(failed unanswered timeout))
           (setf (dualstack-race--state race) 'cancelled)))))

(defun dualstack-race--adopt (race)
  "Return the process that won RACE, ready for the caller.
It has the name, contact, filter, sentinel and query flag that ARGS of
the race ask for, and begins to read."
  (let* ((inhibit-quit t)
         (winner (dualstack-race--winner race)))
    (setf (dualstack-race--winner race) nil)
    (dualstack-attempt--adopt winner (dualstack-race--args race)
                              (dualstack-race--name race))))

;;;; Who steps

(defun dualstack-race--wait (race)
  "Step and wait in alternation until RACE is settled."
  (while (progn (dualstack-race--step race)
                (dualstack-race--running-p race))
    (let ((attempt (car (dualstack-race--in-flight race)))
          (seconds (dualstack-race--time-left race)))
      (catch race
        (let ((dualstack-race--waiting race))
          ;; Given a process, Emacs goes on with nobody else's TLS
          ;; handshakes and look-ups meanwhile.
          (accept-process-output (dualstack-attempt--process attempt)
                                 seconds))))))

(defun dualstack-race--in-turn (race)
  "Dial the addresses of RACE, blocking, one after the other.
Each takes as long as the system does."
  (let ((dualstack-race--nowait nil))
    (setf (dualstack-race--deadline race) nil)
    (while (dualstack-race--running-p race)
      (dualstack-race--step race))))

(defun dualstack-race--drive (race)
  "Step, and set the timer of RACE to when something is due."
  (dualstack-race--disarm race)
  (let ((dualstack-attempt--inside-wait t))
    (dualstack-race--step race))
  (let ((seconds (and (dualstack-race--running-p race)
                      (not (dualstack-race--busy race))
                      (dualstack-race--time-left race))))
    (when seconds
      (setf (dualstack-race--timer race)
            (run-at-time seconds nil #'dualstack-race--drive race)))))

(defun dualstack-race--disarm (race)
  "Cancel the timer of RACE, if it has one."
  (when (dualstack-race--timer race)
    (cancel-timer (dualstack-race--timer race))
    (setf (dualstack-race--timer race) nil)))

(defun dualstack-race--hear (race attempt process event)
  "Note the sentinel string EVENT of PROCESS of ATTEMPT, and wake RACE."
  (when (dualstack-race--running-p race)
    (push (list attempt process event) (dualstack-race--news race))
    (cond ((dualstack-race--busy race))
          ((eq dualstack-race--waiting race) (dualstack-race--wake race))
          (t (dualstack-race--drive race)))))

(defun dualstack-race--wake (race)
  "End the wait of RACE, from one of its sentinels.
Windows tells of a connect once.  Emacs calls the sentinels of those that it has
been told of in turn, and a `throw' from one would lose the rest, which may be
anybody's; a timer that is due runs before Emacs asks again."
  (if (eq system-type 'windows-nt)
      (run-at-time 0 nil #'dualstack-race--leave race)
    (throw race nil)))

(defun dualstack-race--leave (race)
  "End the wait of RACE, if it still waits."
  (when (eq dualstack-race--waiting race)
    (throw race nil)))

;;;; What is due

(defun dualstack-race--step (race)
  "Do in RACE what is to be done by now.
A sentinel that runs inside a step only leaves its news to it."
  (unless (dualstack-race--busy race)
    (let ((inhibit-quit t)
          (dualstack-race--innermost race))
      (setf (dualstack-race--busy race) t)
      (unwind-protect
          (while (and (dualstack-race--running-p race)
                      (or (dualstack-race--read-news race)
                          (dualstack-race--act race (float-time)))))
        (setf (dualstack-race--busy dualstack-race--innermost) nil)))))

(defun dualstack-race--time-left (race)
  "Return the seconds until RACE is to step again, or nil if news will tell."
  (let* ((looked (dualstack-race--looked race))
         (deadline (and (not looked) (dualstack-race--deadline race)))
         (next (dualstack-race--next race))
         (time (cond (looked)
                     ((dualstack-race--in-flight race)
                      (and next (- next dualstack-race--look)))
                     (t (dualstack-race--due race))))
         (now (float-time)))
    (when deadline
      (setq time (if time (min time deadline) deadline)))
    (when (dualstack-race--lookups race)
      (let ((look (+ now dualstack-race--lookup-interval)))
        (setq time (if time (min time look) look))))
    (and time (max 0 (- time now)))))

(defun dualstack-race--act (race now)
  "Do one thing that is due in RACE at the time NOW; return nil if nothing is."
  (let ((flying (dualstack-race--in-flight race))
        (deadline (dualstack-race--deadline race))
        (next (dualstack-race--next race)))
    (cond ((not (or flying (dualstack-race--pending race)))
           (dualstack-race--all-failed race now)
           t)
          ((and deadline (>= now deadline))
           (when (or (null flying)
                     (dualstack-race--looked-p race deadline now))
             (dualstack-race--settle race 'timeout)
             t))
          ((null next) nil)
          ((null flying)
           (and (>= now next)
                (dualstack-race--attempt-next race now)))
          ((dualstack-race--looked-p race next now)
           (if (and (dualstack-race--pending race) (= next (dualstack-race--due race)))
               (dualstack-race--attempt-next race now)
             (dualstack-race--renew-all race now))))))

(defun dualstack-race--looked-p (race next now)
  "Return non-nil at the time NOW if RACE may do what is due at NEXT.
That is when the sockets have been looked at shortly before."
  (cond ((null (dualstack-race--looked race))
         (when (>= now (- next dualstack-race--look))
           (setf (dualstack-race--looked race)
                 (max next (+ now (if (> (- now next) 0.005)
                                      (max dualstack-race--look (dualstack-attempt--look))
                                    dualstack-race--look)))))
         nil)
        ((< now (dualstack-race--looked race)) nil)
        ;; Emacs runs ripe timers before it looks.  Where it comes this late, it
        ;; may have had no turn since, and not have looked.
        ((and (> now (+ (dualstack-race--looked race) dualstack-race--look))
              (< now (+ next (* 20 dualstack-race--look))))
         (setf (dualstack-race--looked race) (+ now dualstack-race--look))
         nil)
        (t
         (setf (dualstack-race--looked race) nil)
         t)))

(defun dualstack-race--all-failed (race now)
  "End RACE, all of whose attempts have failed; or begin anew soon after NOW."
  (if (not (and (dualstack-race--persist race) (dualstack-race--addresses race)))
      (dualstack-race--settle race 'failed)
    (setf (dualstack-race--pending race) (dualstack-race--addresses race)
          (dualstack-race--due race) (+ now (dualstack-race--renew race))
          (dualstack-race--again race) nil)))

(defun dualstack-race--settle (race state &optional winner)
  "End RACE with STATE and the attempt WINNER; close all other attempts."
  (setf (dualstack-race--state race) state
        (dualstack-race--winner race) winner
        (dualstack-race--news race) nil)
  (dualstack-race--disarm race)
  (when winner
    (dualstack-attempt--end-as winner 'won))
  (dolist (attempt (dualstack-race--in-flight race))
    (dualstack-attempt--close attempt (cond (winner 'lost)
                                            ((eq state 'unanswered) 'timeout)
                                            (t state))))
  (when winner
    (dualstack-attempt--rename (dualstack-attempt--process winner)
                               (dualstack-race--name race)))
  (when (dualstack-race--on-end race)
    (funcall (dualstack-race--on-end race) race)))

;;;; Attempts

(defun dualstack-race--attempt-next (race now)
  "Begin an attempt at the next address of RACE, at the time NOW."
  ;; Of one that persists, the last round is on record.
  (when (eq (dualstack-race--pending race) (dualstack-race--addresses race))
    (setf (dualstack-race--attempts race) nil))
  (let ((attempt (dualstack-attempt--make
                  :address (pop (dualstack-race--pending race)) :start now)))
    (push attempt (dualstack-race--attempts race))
    (setf (dualstack-race--due race)
          (+ now (max (dualstack-race--delay race) (dualstack-attempt--patience))))
    (when (and (dualstack-race--renew race) (not (dualstack-race--again race)))
      (setf (dualstack-race--again race) (+ now (dualstack-race--renew race))))
    (dualstack-race--dial race attempt dualstack-race--nowait)
    t))

(defun dualstack-race--renew-all (race now)
  "Dial the attempts of RACE that run once more, at the time NOW.
After the last of its rounds settle it instead.  Where the clock is late, the
machine is busy and so may be the answers: then they are given time, and the
round does not count."
  (let ((late (- now (dualstack-race--again race)))
        (rounds (dualstack-race--rounds race)))
    (setf (dualstack-race--again race)
          (and (dualstack-race--renew race)
               (+ now (dualstack-race--renew race) (if (> late 0.02) (* 4 late) 0)))
          (dualstack-race--rounds race)
          (and rounds (if (> late 0.02) rounds (1- rounds))))
    (dolist (attempt (dualstack-race--in-flight race))
      (dualstack-race--note-untold race attempt))
    (cond ((dualstack-race--news race))
          ((and rounds (<= (dualstack-race--rounds race) 0))
           (dualstack-race--settle race 'unanswered))
          (t (dolist (attempt (dualstack-race--in-flight race))
               ;; To delete one process has Emacs tell of the others.
               (unless (or (assq attempt (dualstack-race--news race))
                           (not (dualstack-race--running-p race)))
                 (dualstack-race--dial race attempt t)))))
    t))

(defun dualstack-race--note-untold (race attempt)
  "Note in RACE what Emacs knows of ATTEMPT and has not told its sentinel yet."
  (let ((event (dualstack-attempt--untold attempt)))
    (when event
      (push (list attempt (dualstack-attempt--process attempt) event)
            (dualstack-race--news race)))))

(defun dualstack-race--dial (race attempt nowait)
  "Make the process of ATTEMPT in RACE, a new one if it has one.
It is made with NOWAIT or blocking.  A filter of t keeps it from reading:
what the server says first waits in the kernel for the caller's filter.
Emacs does not ask about it at exit."
  (dualstack-attempt--delete attempt)
  (condition-case err
      (let ((process
             (dualstack-attempt--dial
              attempt
              (if (dualstack-race--name race)
                  (cons :name (cons (dualstack-attempt--name (dualstack-race--name race))
                                    (dualstack-race--args race)))
                (dualstack-race--args race))
              :coding (dualstack-race--coding race)
              :nowait nowait :stop nil :noquery t :filter t
              :sentinel (lambda (process event)
                          (dualstack-race--hear race attempt process event)))))
        (unless (dualstack-race--main-thread-p)
          (dualstack-race--unlock process))
        (unless (dualstack-race--name race)
          (setf (dualstack-race--name race) (process-name process)))
        (if nowait
            (let ((reason (dualstack-attempt--failure attempt)))
              (when reason
                (dualstack-race--failed race attempt reason)))
          (dualstack-race--connected race attempt)))
    (error (dualstack-race--refused race attempt err))))

(defun dualstack-race--unlock (process)
  "Let any thread wait for PROCESS: the main one, if this one ends."
  (set-process-thread process nil))

(defun dualstack-race--refused (race attempt err)
  "Take note of the error ERR that dialling ATTEMPT in RACE gave."
  (cond ((dualstack-attempt--unknown-error-p attempt err)
         (dualstack-race--dial race attempt dualstack-race--nowait))
        ((or (dualstack-attempt--file-error-p err)
             (symbolp (dualstack-attempt--address attempt)))
         (dualstack-race--failed race attempt (dualstack-attempt--error-reason err)))
        (t
         (dualstack-attempt--close attempt (error-message-string err))
         (setf (dualstack-race--err race) err)
         (dualstack-race--settle race 'failed))))

(defun dualstack-race--failed (race attempt reason)
  "End ATTEMPT of RACE because of REASON, a string; the next is due."
  (dualstack-attempt--close attempt reason)
  (let ((now (float-time))
        (flying (dualstack-race--in-flight race)))
    ;; Before anybody else takes the name.
    (when flying
      (dualstack-attempt--rename (dualstack-attempt--process (car flying))
                                 (dualstack-race--name race)))
    (setf (dualstack-race--due race) now
          (dualstack-race--looked race) nil)
    (when (eq system-type 'windows-nt)
      (let ((soon (+ now dualstack-race--lost-news)))
        (setf (dualstack-race--again race) (min soon (or (dualstack-race--again race) soon)))))))

(defun dualstack-race--connected (race attempt)
  "Let ATTEMPT win RACE, unless its socket is connected to itself.
The winner is stopped, as Emacs does not begin to read by itself when a
filter of t is replaced; it does when the process is continued."
  (if (dualstack-attempt--self-connected-p attempt)
      (dualstack-race--failed race attempt "Connection refused")
    (stop-process (dualstack-attempt--process attempt))
    (dualstack-race--settle race 'won attempt)
    (dualstack-attempt--note-time attempt)))

;;;; News

(defun dualstack-race--read-news (race)
  "Act in RACE on the oldest news; return nil if there is none."
  (let ((news (car (last (dualstack-race--news race)))))
    (if (null news)
        (and (symbolp (car (dualstack-race--addresses race)))
             (dualstack-race--check-lookups race))
      (setf (dualstack-race--news race) (butlast (dualstack-race--news race)))
      (pcase-let ((`(,attempt ,process ,event) news))
        (unless (or (dualstack-attempt--end attempt)
                    (not (eq process (dualstack-attempt--process attempt))))
          (pcase (dualstack-attempt--verdict attempt event)
            ('open (dualstack-race--connected race attempt))
            ;; A blocking literal is immediate where someone listens.
            ('listens (dualstack-race--dial race attempt nil))
            ('unknown (dualstack-race--dial race attempt t))
            (reason (dualstack-race--failed race attempt reason)))))
      t)))

(defun dualstack-race--lookups (race)
  "Return the attempts of RACE whose address Emacs may still be looking up.
The addresses of a race are all of them names, or none is."
  (and (symbolp (car (dualstack-race--addresses race)))
       (dualstack-race--in-flight race)))

(defun dualstack-race--check-lookups (race)
  "End the attempts of RACE whose host name turned out to have no address.
Return nil: nothing else is to be done about it."
  (dolist (attempt (dualstack-race--lookups race))
    (let ((reason (dualstack-attempt--failure attempt)))
      (when reason
        (dualstack-race--failed race attempt reason)))))

(provide 'dualstack-race)

;;; dualstack-race.el ends here
