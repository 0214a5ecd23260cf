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
;;    dualstack-epc-connect.el open one, or take what connects to Emacs.
;; 2. `dualstack-epc-call-async' sends (call UID METHOD ARGS) and notes a
;;    request under UID.  `dualstack-epc-call' is that and a wait.
;; 3. `dualstack-epc--filter' cuts what arrives into frames.  (return UID VALUE),
;;    (return-error UID MESSAGE) and (epc-error UID MESSAGE) end the request
;;    at once; user code never runs in the filter, but from a timer.
;; 4. (call ...) and (methods ...) of the peer are answered from that timer,
;;    with functions that `dualstack-epc-define-method' has defined.
;; 5. When the process ends, `dualstack-epc--end' ends every request.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack)
(require 'dualstack-epc-codec)
(require 'dualstack-epc-later)

(define-error 'dualstack-epc-remote-error "The method failed" 'dualstack-epc-error)
(define-error 'dualstack-epc-timeout "No reply in time" 'dualstack-epc-error)
(define-error 'dualstack-epc-closed "The connection is closed" 'dualstack-epc-error)

;;;; Structs

(cl-defstruct (dualstack-epc-connection (:constructor dualstack-epc--make)
                                        (:copier nil))
  "An EPC connection.
NAME is a string.  PROCESS is what it runs over.  METHODS is a list of
\(NAME FUNCTION ARGLIST DOCUMENTATION), what the peer can call.  CALLS and
ERRORS count the calls made and those that failed.  ENDED is nil, or says
why the connection is over; then ON-END is called with it, if it is a
function."
  name process methods (calls 0) (errors 0) ended on-end
  (-pending (make-hash-table)) (-input nil) (-length nil) (-last-uid 0))

(cl-defstruct (dualstack-epc--request (:constructor dualstack-epc--request-make)
                                      (:copier nil))
  "A call that waits for its reply.
STATE is nil, `return', or the condition of an error; VALUE is the value
or the error's data."
  uid method then else timer state value)

;;;; Customization

(defcustom dualstack-epc-timeout 60
  "Seconds after which `dualstack-epc-call' gives up.  Nil means never."
  :type '(choice number (const :tag "Never" nil))
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-epc-log-events nil
  "Non-nil means that messages are logged in *dualstack-log*, shortened."
  :type 'boolean
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

;;;###autoload
(defun dualstack-epc-toggle-log ()
  "Begin, or cease, to log EPC messages in *dualstack-log*."
  (interactive)
  (setq dualstack-epc-log-events (not dualstack-epc-log-events))
  (message "EPC messages are %s logged in *dualstack-log*"
           (if dualstack-epc-log-events "now" "no longer")))

(defun dualstack-epc--log (connection format &rest args)
  "Log FORMAT with ARGS for CONNECTION if `dualstack-epc-log-events' is non-nil."
  (when dualstack-epc-log-events
    (dualstack-log "%s: %s" (dualstack-epc-connection-name connection)
                   (truncate-string-to-width
                    (replace-regexp-in-string "\n" "\\n" (apply #'format format args)
                                              t t)
                    500 nil nil "..."))))

;;;; The connection

(defun dualstack-epc-attach (process)
  "Return a new EPC connection over PROCESS, which is open.
Its filter, sentinel and coding systems become those of the connection."
  (let ((connection (dualstack-epc--make :name (process-name process)
                                         :process process
                                         :-input (generate-new-buffer
                                                  " *dualstack-epc*"))))
    (with-current-buffer (dualstack-epc-connection--input connection)
      (buffer-disable-undo)
      (set-buffer-multibyte nil))
    (set-process-coding-system process 'binary 'binary)
    (set-process-query-on-exit-flag process nil)
    (set-process-filter process
                        (lambda (_process bytes)
                          (dualstack-epc--filter connection bytes)))
    (set-process-sentinel process
                          (lambda (process event)
                            (unless (process-live-p process)
                              (dualstack-epc--end connection event))))
    (unless (process-live-p process)
      (dualstack-epc--end connection "not open"))
    connection))

(defun dualstack-epc-close (connection)
  "Close CONNECTION.  Its requests end with `dualstack-epc-closed' at once."
  (dualstack-epc--end connection "closed here"))

(defun dualstack-epc-live-p (connection)
  "Return non-nil if CONNECTION is open."
  (null (dualstack-epc-connection-ended connection)))

(defun dualstack-epc--end (connection reason)
  "Note that CONNECTION is over for REASON, and end its requests."
  (unless (dualstack-epc-connection-ended connection)
    (setf (dualstack-epc-connection-ended connection) (string-trim reason))
    (dualstack-epc--log connection "Closed: %s"
                        (dualstack-epc-connection-ended connection))
    (let ((process (dualstack-epc-connection-process connection)))
      (set-process-sentinel process #'ignore)
      (set-process-filter process #'ignore)
      (delete-process process))
    (kill-buffer (dualstack-epc-connection--input connection))
    (dolist (request (cl-loop for request being the hash-values of
                              (dualstack-epc-connection--pending connection)
                              collect request))
      (dualstack-epc--finish connection request 'dualstack-epc-closed
                             (list (dualstack-epc-connection-ended connection))))
    (when (dualstack-epc-connection-on-end connection)
      (dualstack-epc-later (dualstack-epc-connection-on-end connection) connection))))

;;;; Calling

(cl-defun dualstack-epc-call (connection method args
                                         &key (timeout dualstack-epc-timeout)
                                         cancel-on-input)
  "Call METHOD, a symbol, with the list ARGS over CONNECTION; return its value.
Timers and filters run meanwhile, and may call too.  TIMEOUT is in seconds,
nil for none.  If CANCEL-ON-INPUT is non-nil and the user types, give up and
return its value.  A reply that comes after all is dropped.

Signal `dualstack-epc-remote-error' if the method failed,
`dualstack-epc-protocol-error' if there is none or the peer's answer is no
EPC, `dualstack-epc-unsendable', `dualstack-epc-timeout' or
`dualstack-epc-closed'."
  (dualstack-epc--wait connection
                       (dualstack-epc--request connection 'call
                                               (list method args)
                                               :timeout timeout)
                       cancel-on-input))

(cl-defun dualstack-epc-call-async (connection method args
                                               &key then else
                                               (timeout dualstack-epc-timeout))
  "Call METHOD, a symbol, with the list ARGS over CONNECTION; return a handle.
Later one of these is called, and once: THEN with the value, or ELSE with
the error, a list of a condition and data as `dualstack-epc-call' signals
it.  TIMEOUT is in seconds, nil for none.  `dualstack-epc-cancel' takes the
handle.  What cannot be sent is signalled at once."
  (dualstack-epc--request connection 'call (list method args)
                          :then then :else else :timeout timeout))

(cl-defun dualstack-epc-methods (connection &key (timeout dualstack-epc-timeout))
  "Return what can be called over CONNECTION.
It is a list of lists of a name, an argument list and documentation.
TIMEOUT and errors are as for `dualstack-epc-call'."
  (dualstack-epc--wait connection
                       (dualstack-epc--request connection 'methods nil
                                               :timeout timeout)
                       nil))

(defun dualstack-epc-cancel (connection handle)
  "Forget the call HANDLE of `dualstack-epc-call-async' over CONNECTION.
Neither of its functions is called.  After one of them was, do nothing."
  (dualstack-epc--forget connection handle)
  (setf (dualstack-epc--request-then handle) nil
        (dualstack-epc--request-else handle) nil))

(cl-defun dualstack-epc--request (connection kind rest &key then else timeout)
  "Send (KIND UID . REST) over CONNECTION; return the request.
THEN, ELSE and TIMEOUT are as for `dualstack-epc-call-async'."
  (when (dualstack-epc-connection-ended connection)
    (signal 'dualstack-epc-closed (list (dualstack-epc-connection-ended connection))))
  (let* ((uid (cl-incf (dualstack-epc-connection--last-uid connection)))
         (frame (dualstack-epc-codec-encode (cl-list* kind uid rest)))
         (request (dualstack-epc--request-make
                   :uid uid :method (or (car rest) kind) :then then :else else)))
    (puthash uid request (dualstack-epc-connection--pending connection))
    (cl-incf (dualstack-epc-connection-calls connection))
    (when timeout
      (setf (dualstack-epc--request-timer request)
            (run-at-time timeout nil #'dualstack-epc--time-out
                         connection request timeout)))
    (let ((sent nil))
      (unwind-protect
          (progn
            (dualstack-epc--send connection frame)
            (setq sent t))
        ;; What is signalled is the end of this call: there is no second one.
        (unless sent
          (dualstack-epc-cancel connection request))))
    request))

(defun dualstack-epc--time-out (connection request timeout)
  "End REQUEST of CONNECTION, for which TIMEOUT seconds have passed."
  (dualstack-epc--finish connection request 'dualstack-epc-timeout
                         (list (dualstack-epc--request-method request)
                               (format "no reply within %s s" timeout))))

(defun dualstack-epc--finish (connection request state value)
  "End REQUEST of CONNECTION with STATE and VALUE."
  (dualstack-epc--forget connection request)
  (unless (eq state 'return)
    (cl-incf (dualstack-epc-connection-errors connection)))
  (setf (dualstack-epc--request-state request) state
        (dualstack-epc--request-value request) value)
  (when (or (dualstack-epc--request-then request)
            (dualstack-epc--request-else request))
    (dualstack-epc-later #'dualstack-epc--tell request)))

(defun dualstack-epc--tell (request)
  "Call the function that waits for the end of REQUEST, if it still does."
  (let ((state (dualstack-epc--request-state request))
        (value (dualstack-epc--request-value request))
        (then (dualstack-epc--request-then request))
        (else (dualstack-epc--request-else request)))
    (cond ((and then (eq state 'return))
           (funcall then value))
          ((and else (not (eq state 'return)))
           (funcall else (cons state value))))))

(defun dualstack-epc--forget (connection request)
  "Drop REQUEST of CONNECTION, and its timer."
  (remhash (dualstack-epc--request-uid request)
           (dualstack-epc-connection--pending connection))
  (when (dualstack-epc--request-timer request)
    (cancel-timer (dualstack-epc--request-timer request))
    (setf (dualstack-epc--request-timer request) nil)))

(defconst dualstack-epc--slice 0.05
  "Longest time in seconds that a wait goes on without a look.
A reply that another wait inside this one has read is seen then.")

(defun dualstack-epc-await (connection seconds)
  "Wait for output over CONNECTION, and for events, up to SECONDS.
While it is open, the wait is for its process: without one, Emacs waits on
for 10 ms after any output.  Once it has closed, the wait must not be for
it: Emacs would return at once, and never get to call the sentinel."
  (let ((process (dualstack-epc-connection-process connection)))
    (accept-process-output (and (process-live-p process) process) seconds)))

(defun dualstack-epc--wait (connection request cancel-on-input)
  "Wait for REQUEST of CONNECTION and return its value, or signal its error.
CANCEL-ON-INPUT is as for `dualstack-epc-call'."
  (let ((read-process-output-max (max read-process-output-max 65536))
        (cancelled nil))
    (unwind-protect
        (with-local-quit
          (while (not (or (dualstack-epc--request-state request)
                          (setq cancelled (and cancel-on-input (input-pending-p)))))
            (dualstack-epc-await connection dualstack-epc--slice)))
      (unless (dualstack-epc--request-state request)
        (dualstack-epc--forget connection request)))
    (pcase (dualstack-epc--request-state request)
      ('return (dualstack-epc--request-value request))
      ('nil (if cancelled
                cancel-on-input
              ;; Inside a timer C-g has ended the wait without a signal.
              (signal 'quit nil)))
      (condition (signal condition (dualstack-epc--request-value request))))))

;;;; Sending

(defun dualstack-epc--send (connection frame)
  "Send FRAME over CONNECTION.
If `quit' comes between, the peer has half a frame, and the connection ends."
  (when dualstack-epc-log-events
    (dualstack-epc--log connection "-> %s" (substring frame 6)))
  (let ((sent nil))
    (unwind-protect
        (progn
          (condition-case err
              (process-send-string (dualstack-epc-connection-process connection) frame)
            (error (dualstack-epc--end connection (error-message-string err))
                   (signal 'dualstack-epc-closed
                           (list (dualstack-epc-connection-ended connection)))))
          (setq sent t))
      (unless sent
        (dualstack-epc--end connection "sending was interrupted")))))

;;;; Receiving

(defun dualstack-epc--filter (connection bytes)
  "Take BYTES that arrived over CONNECTION.
A frame is cut off before anything is done about it, as that may lead here
again."
  (unless (dualstack-epc-connection-ended connection)
    (with-current-buffer (dualstack-epc-connection--input connection)
      (goto-char (point-max))
      (insert bytes))
    (let (payload)
      (while (setq payload (dualstack-epc--next-payload connection))
        (dualstack-epc--log connection "<- %s" payload)
        (dualstack-epc--receive connection payload)))))

(defun dualstack-epc--next-payload (connection)
  "Return the next payload that arrived over CONNECTION, or nil.
A malformed header ends the connection."
  (unless (dualstack-epc-connection-ended connection)
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
          (dualstack-epc--end connection
                              (format "the peer sent %S, which is no EPC"
                                      (buffer-substring 1 7)))))
      (let ((length (dualstack-epc-connection--length connection)))
        (when (and length (buffer-live-p (current-buffer)) (>= (buffer-size) length))
          (setf (dualstack-epc-connection--length connection) nil)
          (delete-and-extract-region (point-min) (+ (point-min) length)))))))

(defun dualstack-epc--receive (connection payload)
  "Act on the message in PAYLOAD that arrived over CONNECTION."
  (let ((message (condition-case err
                     (dualstack-epc-codec-read payload)
                   (dualstack-epc-protocol-error
                    (dualstack-epc--receive-unreadable connection payload err)
                    nil))))
    (pcase (car message)
      ('nil)
      ('call (dualstack-epc-later #'dualstack-epc--answer connection message))
      ('methods (dualstack-epc-later #'dualstack-epc--answer-methods
                                      connection (cadr message)))
      ((or 'return 'return-error 'epc-error)
       (dualstack-epc--receive-reply connection message))
      (_ (dualstack-epc--reply connection 'epc-error (cadr message)
                               "Unknown message")))))

(defun dualstack-epc--receive-reply (connection message)
  "End the request that MESSAGE is the reply to, over CONNECTION."
  (let* ((request (gethash (cadr message)
                           (dualstack-epc-connection--pending connection)))
         (method (and request (dualstack-epc--request-method request))))
    (cond ((null request)
           (dualstack-epc--log connection "Dropped: %S is no call that waits"
                               (cadr message)))
          ((not (eq (car message) 'return))
           (dualstack-epc--finish connection request
                                  (if (eq (car message) 'return-error)
                                      'dualstack-epc-remote-error
                                    'dualstack-epc-protocol-error)
                                  (list method (nth 2 message))))
          ((= (length message) 3)
           (dualstack-epc--finish connection request 'return (nth 2 message)))
          (t
           (dualstack-epc--finish connection request 'dualstack-epc-protocol-error
                                  (list method "A reply with not one value"))))))

(defun dualstack-epc--receive-unreadable (connection payload err)
  "Answer the request in PAYLOAD over CONNECTION, or end the one it is for.
ERR is why it cannot be read."
  (pcase (dualstack-epc-codec-uid payload)
    (`(,(or 'return 'return-error 'epc-error) . ,uid)
     (let ((request (gethash uid (dualstack-epc-connection--pending connection))))
       (when request
         (dualstack-epc--finish connection request 'dualstack-epc-protocol-error
                                (cons (dualstack-epc--request-method request)
                                      (cdr err))))))
    (`(,(or 'call 'methods) . ,uid)
     (dualstack-epc--reply connection 'return-error uid (error-message-string err)))
    (_
     (dualstack-epc--reply connection 'epc-error nil (error-message-string err)))))

;;;; Methods of our own

(defun dualstack-epc-define-method (connection name function
                                               &optional arglist documentation)
  "Let the peer of CONNECTION call FUNCTION as the method NAME, a symbol.
The function's value is the reply; an error it signals is sent as such.
ARGLIST and DOCUMENTATION are for the peer's information."
  (setf (alist-get name (dualstack-epc-connection-methods connection))
        (list function arglist (or documentation (documentation function) "")))
  name)

(defun dualstack-epc--answer (connection message)
  "Run the call MESSAGE of CONNECTION's peer and reply."
  (pcase-let* ((`(,_ ,uid ,name ,args) message)
               (function (car (alist-get name
                                         (dualstack-epc-connection-methods connection)))))
    (cond ((not (and (= (length message) 4) (symbolp name) (proper-list-p args)))
           (dualstack-epc--reply connection 'epc-error uid "Not a call"))
          ((null function)
           (dualstack-epc--reply connection 'epc-error uid
                                 (format "No such method: %s" name)))
          (t
           (let (reply)
             (unwind-protect
                 (setq reply
                       (condition-case err
                           ;; In a timer C-g works only so, and ends this alone.
                           (let ((inhibit-quit nil))
                             (cons 'return (apply function args)))
                         (quit '(return-error . "The method was quit"))
                         (error (cons 'return-error (error-message-string err)))))
               (dualstack-epc--reply connection (or (car reply) 'return-error) uid
                                     (if reply (cdr reply) "The method was left"))))))))

(defun dualstack-epc--answer-methods (connection uid)
  "Send the list of methods over CONNECTION as the reply to UID."
  (dualstack-epc--reply
   connection 'return uid
   (mapcar (pcase-lambda (`(,name ,_ ,arglist ,documentation))
             (list name arglist (substring-no-properties documentation)))
           (dualstack-epc-connection-methods connection))))

(defun dualstack-epc--reply (connection kind uid value)
  "Send (KIND UID VALUE) over CONNECTION if that is open.
If VALUE cannot be sent, that is the reply."
  (unless (dualstack-epc-connection-ended connection)
    (ignore-error dualstack-epc-closed
      (dualstack-epc--send
       connection
       (condition-case err
           (dualstack-epc-codec-encode (list kind uid value))
         (dualstack-epc-unsendable
          (dualstack-epc-codec-encode
           (list 'return-error uid
                 (substring-no-properties (error-message-string err))))))))))

(autoload 'dualstack-epc-connect "dualstack-epc-connect")
(autoload 'dualstack-epc-connect-async "dualstack-epc-connect")
(autoload 'dualstack-epc-serve "dualstack-epc-connect")

(provide 'dualstack-epc)

;;; dualstack-epc.el ends here
