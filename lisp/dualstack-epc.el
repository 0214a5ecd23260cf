;;; dualstack-epc.el --- Call programs, and be called, over EPC  -*- lexical-binding: t; -*-

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

;; Both ends of an EPC connection are alike: each calls the other's methods.
;;
;; 1. `dualstack-epc-attach' makes a connection of any process; those of
;;    dualstack-epc-connect.el open one, and dualstack-epc-serve.el takes what
;;    connects to Emacs.
;; 2. `dualstack-epc-call-async' sends (call UID METHOD ARGS) and notes a
;;    request under UID.  `dualstack-epc-call' is that and a wait.
;; 3. `dualstack-epc--filter' cuts what arrives into frames.  (return UID VALUE),
;;    (return-error UID MESSAGE) and (epc-error UID MESSAGE) end the request
;;    at once; user code never runs in the filter, but from a timer.
;; 4. (call ...) and (methods ...) of the peer are answered from that timer,
;;    with functions that `dualstack-epc-define-method' has defined
;;    (dualstack-epc-answer.el).
;; 5. When the process ends, `dualstack-epc--link-end' ends every request.
;;
;; Sending never waits (dualstack-epc-flow.el), and of many calls at once most
;; are held back until others have their replies (dualstack-epc-window.el).

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack)
(require 'dualstack-epc-link)
(require 'dualstack-epc-answer)
(require 'dualstack-epc-calm)

(define-error 'dualstack-epc-remote-error "The method failed" 'dualstack-epc-error)

;;;###autoload
(defun dualstack-epc-toggle-log ()
  "Start or stop logging EPC messages in *dualstack-log*."
  (interactive)
  (setq dualstack-epc-log-events (not dualstack-epc-log-events))
  (message "EPC messages are %s logged in *dualstack-log*"
           (if dualstack-epc-log-events "now" "no longer")))

;;;; The connection

(defun dualstack-epc-attach (process &optional begun)
  "Return a new EPC connection over PROCESS, which is open.
Its filter, sentinel and coding systems become those of the connection.
BEGUN means that it was the other end that has connected."
  (let ((connection (dualstack-epc--link-make process)))
    (unless begun
      (setf (dualstack-epc-connection--peer connection) 'unknown))
    (with-current-buffer (setf (dualstack-epc-connection--input connection)
                               (generate-new-buffer " *dualstack-epc*"))
      (buffer-disable-undo)
      (set-buffer-multibyte nil)
      (add-hook 'kill-buffer-hook
                (lambda ()
                  (dualstack-epc--link-end connection
                                          "somebody has killed the buffer of what arrives"))
                nil t))
    (set-process-coding-system process 'binary 'binary)
    (set-process-query-on-exit-flag process nil)
    (set-process-filter process
                        (lambda (_process bytes)
                          (dualstack-epc--filter connection bytes)))
    (set-process-sentinel process
                          (lambda (process event)
                            (unless (process-live-p process)
                              (dualstack-epc--link-end connection event))))
    (unless (process-live-p process)
      (dualstack-epc--link-end connection "not open"))
    connection))

(defun dualstack-epc-close (connection)
  "Close CONNECTION.  Its requests end with `dualstack-epc-closed' at once."
  (let ((inhibit-quit t))
    (dualstack-epc--link-end connection "closed here")))

(defun dualstack-epc-live-p (connection)
  "Return non-nil if CONNECTION is open."
  (null (dualstack-epc-connection-ended connection)))

;;;; Calling

(cl-defun dualstack-epc-call (connection method args
                                         &key (timeout dualstack-epc-timeout)
                                         cancel-on-input progress)
  "Call METHOD, a symbol, with the list ARGS over CONNECTION; return its value.
Timers and filters run meanwhile, and may call too.  TIMEOUT is in seconds,
nil for none.  If CANCEL-ON-INPUT is non-nil and the user types, give up and
return its value.  PROGRESS is called with each value that the method yields
before its end.  A call that is given up, by \\`C-g' too, is cancelled at the
other end.  A reply that comes after all is dropped.

Signal `dualstack-epc-remote-error' if the method failed,
`dualstack-epc-protocol-error' if there is none or the peer's answer is no
EPC, `dualstack-epc-unsendable', `dualstack-epc-timeout' or
`dualstack-epc-closed'."
  (dualstack-epc--call-and-wait connection 'call (list method args) cancel-on-input
                                timeout progress))

(cl-defun dualstack-epc-call-async (connection method args
                                               &key then else progress
                                               (timeout dualstack-epc-timeout))
  "Call METHOD, a symbol, with the list ARGS over CONNECTION; return a handle.
Later one of these is called, and once: THEN with the value, or ELSE with
the error, a list of a condition and data as `dualstack-epc-call' signals
it.  PROGRESS is called before with each value that the method yields, in
order.  TIMEOUT is in seconds, nil for none.  `dualstack-epc-cancel' takes the
handle.  What cannot be sent is signalled at once.

This never waits.  Up to 64 calls wait for replies at once; others are held
back until then, in their order, and their time runs.  Strings in ARGS must
not be changed meanwhile."
  (let ((inhibit-quit t))
    (dualstack-epc--request connection 'call (list method args)
                            (dualstack-epc--request--make
                             :then then :else else :timeout timeout
                             :progress progress))))

(cl-defun dualstack-epc-methods (connection &key (timeout dualstack-epc-timeout))
  "Return what can be called over CONNECTION.
It is a list of lists of a name, an argument list and documentation.
TIMEOUT and errors are as for `dualstack-epc-call'."
  (dualstack-epc--call-and-wait connection 'methods nil nil timeout nil))

(defun dualstack-epc-cancel (connection handle)
  "Cancel the call HANDLE of `dualstack-epc-call-async' over CONNECTION.
It ends at the other end too, and neither of its functions is called.  After
one of them was, do nothing."
  (let ((inhibit-quit t))
    (dualstack-epc--window-cancel (dualstack-epc-connection--window connection) handle)))

(defun dualstack-epc--request (connection kind rest request)
  "Send (KIND UID . REST) over CONNECTION, and return REQUEST.
REQUEST is new, and says whom to tell of the end; the rest of it is filled in."
  (when (dualstack-epc-connection-ended connection)
    (signal 'dualstack-epc-closed (list (dualstack-epc-connection-ended connection))))
  (let* ((window (dualstack-epc-connection--window connection))
         (uid (dualstack-epc--window-uid window))
         (gc-cons-threshold (max gc-cons-threshold dualstack-epc--link-garbage)))
    (setf (dualstack-epc--request-uid request) uid
          (dualstack-epc--request-method request) (or (car rest) kind)
          (dualstack-epc--request-message request) (cl-list* kind uid rest)
          (dualstack-epc--request-urgent request)
          (or (eq kind 'methods) (dualstack-epc--answer-running-p)))
    (dualstack-epc--window-add window request)
    request))

(defun dualstack-epc--check-thread ()
  "Signal `dualstack-epc-error' in a thread other than the main one.
Emacs gives what arrives, and timers, to the thread that waits for them, and
a connection is the main one's."
  (unless (eq (bound-and-true-p main-thread)
              (and (fboundp 'current-thread) (current-thread)))
    (signal 'dualstack-epc-error
            '("Only the main thread can wait for a reply: use `dualstack-epc-call-async'"))))

(defun dualstack-epc--call-and-wait (connection kind rest cancel-on-input timeout progress)
  "Send (KIND UID . REST) over CONNECTION, wait for the reply, and return it.
CANCEL-ON-INPUT, TIMEOUT and PROGRESS are as for `dualstack-epc-call'.  A
quit, also that of `while-no-input', is held back but for the wait: in
between it would leave half a call behind."
  (dualstack-epc--check-thread)
  (let ((quittable (not inhibit-quit))
        (inhibit-quit t))
    (dualstack-epc--wait connection
                         (dualstack-epc--request
                          connection kind rest
                          (dualstack-epc--request--make
                           :timeout timeout :progress progress :awaited t))
                         cancel-on-input quittable)))

(defconst dualstack-epc--slice 0.05
  "Longest time in seconds that a wait goes on without a look.
A reply that another wait inside this one has read is seen then.")

(defun dualstack-epc--await (connection seconds)
  "Wait for output over CONNECTION, and for events, up to SECONDS.
While it is open, the wait is for its process: without one, Emacs waits on
for 10 ms after any output.  Once it has closed, the wait must not be for
it: Emacs would return at once, and never get to call the sentinel."
  (let ((process (dualstack-epc-connection-process connection)))
    (dualstack-epc--calm-wait (and (process-live-p process) process) seconds)))

(defun dualstack-epc--wait (connection request cancel-on-input quittable)
  "Wait for REQUEST of CONNECTION and return its value, or signal its error.
CANCEL-ON-INPUT is as for `dualstack-epc-call'.  QUITTABLE means that a quit
may go on to whoever called that; inside a timer it ends the wait only."
  (let ((read-process-output-max (max read-process-output-max 65536))
        (cancelled nil))
    (unwind-protect
        (if quittable
            (let ((inhibit-quit nil))
              (setq cancelled (dualstack-epc--wait-for connection request cancel-on-input)))
          (with-local-quit
            (setq cancelled (dualstack-epc--wait-for connection request cancel-on-input))))
      (dualstack-epc--window-cancel (dualstack-epc-connection--window connection) request))
    (pcase (dualstack-epc--request-state request)
      ('return (dualstack-epc--request-value request))
      ('cancelled (if cancelled
                      cancel-on-input
                    ;; Inside a timer C-g has ended the wait without a signal.
                    (signal 'quit nil)))
      (condition (signal condition (dualstack-epc--request-value request))))))

(defun dualstack-epc--wait-for (connection request cancel-on-input)
  "Wait until REQUEST of CONNECTION has ended, or is late.
With CANCEL-ON-INPUT, return non-nil as soon as the user has typed before."
  (let ((cancelled nil))
    (while (not (or (dualstack-epc--request-state request)
                    (setq cancelled (and cancel-on-input (input-pending-p)))))
      (dualstack-epc--wait-slice connection request))
    (dualstack-epc--window-run-reports request)
    cancelled))

(defun dualstack-epc--wait-slice (connection request)
  "Wait a while for REQUEST of CONNECTION, or end it if it is late."
  (let* ((deadline (dualstack-epc--request-deadline request))
         (left (and deadline (- deadline (float-time)))))
    (if (and left (<= left 0))
        (dualstack-epc--window-time-out (dualstack-epc-connection--window connection) request)
      (dualstack-epc--await connection (min dualstack-epc--slice
                                           (or left dualstack-epc--slice))))))

;;;; Receiving

(defun dualstack-epc--filter (connection bytes)
  "Take BYTES that arrived over CONNECTION.
A frame is cut off before anything is done about it, as that may lead here
again."
  (when (dualstack-epc-connection--keepalive connection)
    (setf (dualstack-epc-connection--heard connection) (float-time)))
  (when (buffer-live-p (dualstack-epc-connection--input connection))
    (let ((gc-cons-threshold (max gc-cons-threshold dualstack-epc--link-garbage))
          (payload (dualstack-epc--whole-payload connection bytes)))
      (unless payload
        (with-current-buffer (dualstack-epc-connection--input connection)
          (goto-char (point-max))
          (insert bytes))
        (setq payload (dualstack-epc--next-payload connection)))
      (while payload
        (dualstack-epc--link-log connection "<- %s" payload)
        (dualstack-epc--receive connection payload)
        (setq payload (dualstack-epc--next-payload connection)))))
  (dualstack-epc--calm-read (dualstack-epc-connection-process connection)
                            'dualstack-epc--filter))

(defun dualstack-epc--whole-payload (connection bytes)
  "Return the payload of BYTES if they are a frame, and CONNECTION waits for one.
Most small messages come so, and need no buffer."
  (and (null (dualstack-epc-connection--length connection))
       (= 0 (buffer-size (dualstack-epc-connection--input connection)))
       (let ((length (- (length bytes) 6)))
         (and (<= 0 length (dualstack-epc-connection--limit connection))
              (string= (substring bytes 0 6) (format "%06x" length))
              (substring bytes 6)))))

(defun dualstack-epc--unfinished (connection)
  "Return how many bytes of an unfinished message have arrived over CONNECTION."
  (let ((buffer (dualstack-epc-connection--input connection)))
    (if (buffer-live-p buffer) (buffer-size buffer) 0)))

(defun dualstack-epc--next-payload (connection)
  "Return the next payload that arrived over CONNECTION, or nil.
A malformed header ends the connection, and so does too long a message."
  (when (> (dualstack-epc--unfinished connection) 0)
    (with-current-buffer (dualstack-epc-connection--input connection)
      (unless (or (dualstack-epc-connection--length connection)
                  (< (buffer-size) 6))
        (goto-char (point-min))
        (if (let ((case-fold-search nil))
              (looking-at "[0-9a-f]\\{6\\}"))
            (progn
              (setf (dualstack-epc-connection--length connection)
                    (string-to-number (match-string 0) 16))
              (delete-region (point-min) (+ (point-min) 6)))
          (dualstack-epc--link-end connection
                                      (format "the peer sent %S, which is no EPC"
                                          (buffer-substring 1 7)))))
      (let ((length (dualstack-epc-connection--length connection)))
        (when (and length (> length (dualstack-epc-connection--limit connection)))
          (dualstack-epc--link-end connection
                                   (format "the peer has sent %d bytes before its proof" length)))
        (when (and length (buffer-live-p (current-buffer)) (>= (buffer-size) length))
          (setf (dualstack-epc-connection--length connection) nil)
          (delete-and-extract-region (point-min) (+ (point-min) length)))))))

(defun dualstack-epc--receive (connection payload)
  "Act on the message in PAYLOAD that arrived over CONNECTION."
  (let ((message (condition-case err
                     (dualstack-epc--codec-read payload)
                   (dualstack-epc-protocol-error
                    (dualstack-epc--receive-unreadable connection payload err)
                    nil))))
    (dualstack-epc--link-note-margin connection payload)
    (pcase (car message)
      ('nil)
      ((or 'call 'methods)
       (dualstack-epc--answer-receive connection message (length payload)))
      ((or 'return 'return-error 'epc-error)
       (dualstack-epc--receive-reply connection message))
      (_ (dualstack-epc--link-reply connection 'epc-error (cadr message)
                                   "Unknown message")))))

(defun dualstack-epc--pending (connection)
  "Return the table of the requests of CONNECTION that wait for replies."
  (dualstack-epc--window-pending (dualstack-epc-connection--window connection)))

(defun dualstack-epc--receive-reply (connection message)
  "End the request that MESSAGE is the reply to, over CONNECTION."
  (pcase-let ((`(,kind ,uid . ,rest) message))
    (cond ((not (eq kind 'return))
           (dualstack-epc--finish connection uid
                                  (if (eq kind 'return-error)
                                      'dualstack-epc-remote-error
                                    'dualstack-epc-protocol-error)
                                  (car rest)))
          ((= (length rest) 1)
           (dualstack-epc--finish connection uid 'return (car rest)))
          (t
           (dualstack-epc--finish connection uid 'dualstack-epc-protocol-error
                                  "A reply with not one value")))))

(defun dualstack-epc--finish (connection uid state value)
  "End the request UID of CONNECTION with STATE and VALUE, if there is one.
For an error, VALUE is the message."
  (let ((request (gethash uid (dualstack-epc--pending connection))))
    (if request
        (dualstack-epc--window-finish
         (dualstack-epc-connection--window connection) request state
         (if (eq state 'return) value
           (list (dualstack-epc--request-method request) value)))
      (dualstack-epc--link-log connection "Dropped: %S is no call that waits" uid))))

(defun dualstack-epc--receive-unreadable (connection payload err)
  "Answer the request in PAYLOAD over CONNECTION, or end the one it is for.
ERR is why it cannot be read."
  (pcase (dualstack-epc--codec-uid payload)
    (`(,(or 'return 'return-error 'epc-error) . ,uid)
     (dualstack-epc--finish connection uid 'dualstack-epc-protocol-error (cadr err)))
    (`(,(or 'call 'methods) . ,uid)
     (dualstack-epc--link-reply connection 'return-error uid (error-message-string err)))
    (_
     (dualstack-epc--link-reply connection 'epc-error nil (error-message-string err)))))

(autoload 'dualstack-epc-connect "dualstack-epc-connect")
(autoload 'dualstack-epc-connect-async "dualstack-epc-connect")
(autoload 'dualstack-epc-serve "dualstack-epc-serve")

(provide 'dualstack-epc)

;;; dualstack-epc.el ends here
