;;; dualstack-epc-window.el --- Calls that wait for replies  -*- lexical-binding: t; -*-

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

;; A window lets a limited number of calls wait for their replies at once, and
;; holds the others back in their order, so that neither Emacs nor the other
;; end is flooded.  Calls from inside a method are not held back: the other end
;; may wait for that method, and would wait for ever.
;;
;; Each request ends once: with a value, an error, or its cancellation.

;;; Code:

(require 'cl-lib)
(require 'timer)
(require 'dualstack-epc-codec)
(require 'dualstack-epc-later)

(define-error 'dualstack-epc-timeout "No reply in time" 'dualstack-epc-error)

(cl-defstruct (dualstack-epc--request (:constructor dualstack-epc--request--make)
                                     (:copier nil))
  "A call that waits for its reply, or to be sent.
MESSAGE is (KIND UID . REST), or the frame of that.  STATE is nil, `return',
`cancelled', or the condition of an error; VALUE is the value or the error's
data.  PROGRESS is called with each element of REPORTS.  URGENT means that it
is never held back, AWAITED that its waiter looks at the time itself."
  uid method message then else progress timeout deadline urgent awaited
  sent counted state value reports)

(cl-defstruct (dualstack-epc--window (:constructor dualstack-epc--window--make)
                                    (:copier nil))
  "The calls of one connection.
ENCODER is a function that returns the frame of a request, SENDER one that
sends it, FULL-P one that returns non-nil while there should be no more to
send, and CANCELLER one that has the other end cancel a request.  CALLS and
ERRORS count those made and those that failed."
  encoder sender full-p canceller (calls 0) (errors 0)
  (pending (make-hash-table)) (-head nil) (-tail nil) (-count 0) (-last-uid 0)
  (-timer nil) (-pump nil))

(defconst dualstack-epc--window--limit 64
  "Calls of a connection that wait for replies at once.")

(defconst dualstack-epc--window--turn 0.01
  "Seconds for which calls that were held back are sent in a row.")

(defun dualstack-epc--window-uid (window)
  "Return a new UID of WINDOW."
  (cl-incf (dualstack-epc--window--last-uid window)))

(defun dualstack-epc--window-add (window request)
  "Send REQUEST by WINDOW, or hold it back while there is no room.
Signal `dualstack-epc-unsendable' if it cannot be sent."
  (let ((taken nil))
    (unwind-protect
        (progn
          (if (or (dualstack-epc--request-urgent request)
                  (dualstack-epc--window--room-p window))
              (dualstack-epc--window--send window request)
            (dualstack-epc--window--hold window request))
          (setq taken t))
      ;; What is signalled is the end of this call: there is no second one.
      (unless taken
        (dualstack-epc--window-cancel window request))))
  (cl-incf (dualstack-epc--window-calls window))
  (when (dualstack-epc--request-timeout request)
    (setf (dualstack-epc--request-deadline request)
          (+ (float-time) (dualstack-epc--request-timeout request)))
    (unless (dualstack-epc--request-awaited request)
      (dualstack-epc--window--arm window (dualstack-epc--request-deadline request)))))

(defun dualstack-epc--window--room-p (window)
  "Return non-nil if WINDOW may send a call now."
  (and (null (dualstack-epc--window--head window))
       (< (dualstack-epc--window--count window) dualstack-epc--window--limit)
       (not (funcall (dualstack-epc--window-full-p window)))))

(defun dualstack-epc--window--send (window request)
  "Send REQUEST by WINDOW.  If this signals, the request is still to be ended."
  (puthash (dualstack-epc--request-uid request) request
           (dualstack-epc--window-pending window))
  (unless (dualstack-epc--request-urgent request)
    (cl-incf (dualstack-epc--window--count window))
    (setf (dualstack-epc--request-counted request) t))
  (funcall (dualstack-epc--window-sender window)
           (dualstack-epc--window--frame window request))
  (setf (dualstack-epc--request-message request) nil
        (dualstack-epc--request-sent request) t))

(defun dualstack-epc--window--frame (window request)
  "Return the frame of REQUEST of WINDOW."
  (let ((message (dualstack-epc--request-message request)))
    (if (stringp message)
        message
      (funcall (dualstack-epc--window-encoder window) request))))

;;;; Holding back

(defun dualstack-epc--window--hold (window request)
  "Have WINDOW keep REQUEST until there is room.
Strings alone are not made into a frame before, which would hold them twice;
nothing else may change or be found unsendable later."
  (setf (dualstack-epc--request-message request)
        (or (dualstack-epc--window--snapshot (dualstack-epc--request-message request))
            (dualstack-epc--window--frame window request)))
  (let ((cell (list request)))
    (if (dualstack-epc--window--head window)
        (setcdr (dualstack-epc--window--tail window) cell)
      (setf (dualstack-epc--window--head window) cell))
    (setf (dualstack-epc--window--tail window) cell)))

(defun dualstack-epc--window--snapshot (message)
  "Return MESSAGE with a copy of its arguments if they are plain and few.
That is, numbers, symbols and short strings, which can be sent for sure."
  (pcase message
    (`(call ,uid ,name ,arguments)
     (let ((left 1000000))
       (and (proper-list-p arguments)
            (< (length arguments) 100)
            (cl-every (lambda (item)
                        (and (or (not (stringp item))
                                 (> (setq left (- left (string-bytes item))) 0))
                             (dualstack-epc--codec-plain-p item)))
                      arguments)
            (list 'call uid name (copy-sequence arguments)))))))

(defun dualstack-epc--window-pump (window)
  "Have WINDOW send what it has held back, if there is room, as Emacs waits."
  (when (and (dualstack-epc--window--head window)
             (not (dualstack-epc--window--pump window)))
    (setf (dualstack-epc--window--pump window)
          (run-at-time 0 nil #'dualstack-epc--window--run-pump window))))

(defun dualstack-epc--window--run-pump (window)
  "Send what WINDOW has held back, as far as there is room, but not for long."
  (setf (dualstack-epc--window--pump window) nil)
  (let ((end (+ (float-time) dualstack-epc--window--turn))
        ;; A frame of 100 KB is garbage at once: collect it once for all of them.
        (gc-cons-threshold (max gc-cons-threshold 20000000)))
    (while (and (dualstack-epc--window--head window)
                (< (dualstack-epc--window--count window) dualstack-epc--window--limit)
                (not (funcall (dualstack-epc--window-full-p window)))
                (or (< (float-time) end)
                    (dualstack-epc--window-pump window)))
      (let ((request (pop (dualstack-epc--window--head window))))
        (unless (dualstack-epc--request-state request)
          (dualstack-epc--window--send-held window request))))))

(defun dualstack-epc--window--send-held (window request)
  "Send REQUEST, which WINDOW has held back.  An error ends it."
  (condition-case err
      (dualstack-epc--window--send window request)
    (error
     (dualstack-epc--window-finish window request (car err) (cdr err)))))

;;;; The end of a request

(defun dualstack-epc--window-finish (window request state value)
  "End REQUEST of WINDOW with STATE and VALUE, unless it has ended."
  (unless (dualstack-epc--request-state request)
    (unless (eq state 'return)
      (cl-incf (dualstack-epc--window-errors window)))
    (setf (dualstack-epc--request-state request) state
          (dualstack-epc--request-value request) value)
    (dualstack-epc--window--forget window request)
    (when (or (dualstack-epc--request-then request)
              (dualstack-epc--request-else request))
      (dualstack-epc--later #'dualstack-epc--window--tell request))))

(defun dualstack-epc--window-cancel (window request)
  "End REQUEST of WINDOW, at the other end too, and tell nobody.
After its end, keep what has not been told from being told."
  (setf (dualstack-epc--request-then request) nil
        (dualstack-epc--request-else request) nil
        (dualstack-epc--request-progress request) nil)
  ;; Those are calls of the other end, and get their replies.
  (dualstack-epc--window-run-reports request)
  (unless (dualstack-epc--request-state request)
    (setf (dualstack-epc--request-state request) 'cancelled)
    (dualstack-epc--window--abandon window request)))

(defun dualstack-epc--window--abandon (window request)
  "Forget REQUEST of WINDOW, and have the other end cancel it if it was sent."
  (dualstack-epc--window--forget window request)
  (when (dualstack-epc--request-sent request)
    (funcall (dualstack-epc--window-canceller window) request)))

(defun dualstack-epc--window--tell (request)
  "Call the function that waits for the end of REQUEST, if it still does."
  (let ((state (dualstack-epc--request-state request))
        (value (dualstack-epc--request-value request))
        (then (dualstack-epc--request-then request))
        (else (dualstack-epc--request-else request)))
    (cond ((and then (eq state 'return))
           (funcall then value))
          ((and else (not (memq state '(return cancelled))))
           (funcall else (cons state value))))))

(defun dualstack-epc--window--forget (window request)
  "Drop REQUEST of WINDOW, and send another one in its place."
  (remhash (dualstack-epc--request-uid request) (dualstack-epc--window-pending window))
  (setf (dualstack-epc--request-message request) nil)
  (when (dualstack-epc--request-counted request)
    (setf (dualstack-epc--request-counted request) nil)
    (cl-decf (dualstack-epc--window--count window)))
  (dualstack-epc--window-pump window)
  (when (and (null (dualstack-epc--window--head window))
             (= 0 (hash-table-count (dualstack-epc--window-pending window))))
    (dualstack-epc--window--disarm window)))

(defun dualstack-epc--window-close (window state value)
  "End all requests of WINDOW with STATE and VALUE."
  (let ((requests (nconc (cl-loop for request being the hash-values of
                                  (dualstack-epc--window-pending window)
                                  collect request)
                         (dualstack-epc--window--head window))))
    (setf (dualstack-epc--window--head window) nil)
    (dolist (request requests)
      (dualstack-epc--window-finish window request state value))
    (when (dualstack-epc--window--pump window)
      (cancel-timer (dualstack-epc--window--pump window)))
    (dualstack-epc--window--disarm window)))

;;;; Time

(defun dualstack-epc--window--arm (window deadline)
  "Have a timer of WINDOW look at its requests at DEADLINE at the latest.
There is one timer, as Emacs looks at all its timers whenever it waits."
  (let ((timer (dualstack-epc--window--timer window)))
    (unless (and timer (<= (float-time (timer--time timer)) deadline))
      (dualstack-epc--window--disarm window)
      (setf (dualstack-epc--window--timer window)
            (run-at-time (max 0 (- deadline (float-time))) nil
                         #'dualstack-epc--window--look window)))))

(defun dualstack-epc--window--disarm (window)
  "Cancel the timer of WINDOW."
  (when (dualstack-epc--window--timer window)
    (cancel-timer (dualstack-epc--window--timer window))
    (setf (dualstack-epc--window--timer window) nil)))

(defun dualstack-epc--window--look (window)
  "End the requests of WINDOW whose time is over, and wait for the next one."
  (setf (dualstack-epc--window--timer window) nil)
  (let ((now (float-time))
        (next nil)
        (late nil))
    (cl-flet ((look (request)
                (let ((deadline (dualstack-epc--request-deadline request)))
                  (cond ((or (null deadline)
                             (dualstack-epc--request-awaited request)
                             (dualstack-epc--request-state request)))
                        ((<= deadline now) (push request late))
                        (t (setq next (min deadline (or next deadline))))))))
      (maphash (lambda (_uid request) (look request))
               (dualstack-epc--window-pending window))
      (mapc #'look (dualstack-epc--window--head window)))
    (when next
      (dualstack-epc--window--arm window next))
    (dolist (request (nreverse late))
      (dualstack-epc--window-time-out window request))))

(defun dualstack-epc--window-time-out (window request)
  "End REQUEST of WINDOW, whose time is over, at the other end too."
  (dualstack-epc--window-finish
   window request 'dualstack-epc-timeout
   (list (dualstack-epc--request-method request)
         (format "no reply within %s s" (dualstack-epc--request-timeout request))))
  (when (dualstack-epc--request-sent request)
    (funcall (dualstack-epc--window-canceller window) request)))

;;;; Progress

(defun dualstack-epc--window-report (request value done)
  "Have REQUEST's progress function called with VALUE later, and DONE after that.
It is called before the functions that are told of the end."
  (push (cons value done) (dualstack-epc--request-reports request))
  (dualstack-epc--later #'dualstack-epc--window-run-reports request))

(defun dualstack-epc--window-run-reports (request)
  "Call REQUEST's progress function for what was reported, in order."
  (let ((reports (nreverse (dualstack-epc--request-reports request))))
    (setf (dualstack-epc--request-reports request) nil)
    (pcase-dolist (`(,value . ,done) reports)
      (when (dualstack-epc--request-progress request)
        (dualstack-epc--later-run-one
         (list (dualstack-epc--request-progress request) value)))
      (funcall done))))

(provide 'dualstack-epc-window)

;;; dualstack-epc-window.el ends here
