;;; dualstack-epc-answer.el --- Answer the calls of an EPC peer  -*- lexical-binding: t; -*-

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

;; The methods that the other end may call run one after the other from a
;; timer, each inside the wait of another that waits.  The other end can cancel
;; one: before it has begun it never runs, and while it waits it is quit, as
;; \`C-g' would quit it, once nothing else runs inside its wait.

;;; Code:

(require 'dualstack-epc-link)

(cl-defstruct (dualstack-epc--answer (:constructor dualstack-epc--answer--make)
                                    (:copier nil))
  "A call of the other end that has no reply yet.
CANCELLED means that the other end no longer wants one.  SIZE is that of its
message in bytes."
  connection uid name arguments cancelled size)

(defconst dualstack-epc--answer--depth 300
  "Methods that may wait inside of each other.")

(defconst dualstack-epc--answer--message-limit 10000
  "Characters of an error's message that are sent.")

(defvar dualstack-epc--answer--running nil
  "The answers that are being made, the innermost first.")

(defun dualstack-epc-define-method (connection name function
                                               &optional arglist documentation)
  "Let the peer of CONNECTION call FUNCTION as the method NAME, a symbol.
The function's value is the reply; an error it signals is sent as such.
ARGLIST and DOCUMENTATION are for the peer's information.  Signal `error' if
there is no such FUNCTION."
  (dualstack-epc--check-methods (list (list name function)))
  (setf (alist-get name (dualstack-epc-connection-methods connection))
        (list function arglist
              (or documentation (ignore-errors (documentation function)) "")))
  name)

(defun dualstack-epc--check-methods (methods)
  "Signal `error' if METHODS, as for `dualstack-epc-serve', cannot be called.
The message names the first that cannot."
  (unless (proper-list-p methods)
    (error "The methods are not a list of (NAME FUNCTION): %S" methods))
  (dolist (method methods)
    (pcase method
      (`(,(and (pred symbolp) (pred identity) name) ,function . ,_)
       (unless (functionp function)
         (error "The method %s cannot be called: %S is not a function" name function)))
      (_ (error "A method is a list (NAME FUNCTION), not %S" method)))))

(defconst dualstack-epc--answer--waiting 10000
  "Calls of the other end that may wait for their turn.")

(defconst dualstack-epc--answer--waiting-size 67108864
  "Bytes that those may have, unless it is one only.")

(defun dualstack-epc--answer-receive (connection message size)
  "Answer MESSAGE of CONNECTION's peer, SIZE bytes long, as soon as Emacs waits.
If too many wait for that, the reply is an error."
  (let ((uid (cadr message))
        (waiting (dualstack-epc-connection--waiting connection)))
    (cond ((or (>= (car waiting) dualstack-epc--answer--waiting)
               (and (> (car waiting) 0)
                    (> (+ (cdr waiting) size) dualstack-epc--answer--waiting-size)))
           (dualstack-epc--link-reply
            connection 'return-error uid
            (format "Emacs is busy: %d calls of %d bytes wait already"
                    (car waiting) (cdr waiting))))
          ((eq (car message) 'methods)
           (dualstack-epc--answer--count connection 1 size)
           (dualstack-epc--later #'dualstack-epc--answer--methods connection uid size))
          (t
           (dualstack-epc--answer--call connection message size)))))

(defun dualstack-epc--answer--count (connection count size)
  "Note that COUNT more messages of SIZE bytes wait in CONNECTION."
  (let ((waiting (dualstack-epc-connection--waiting connection)))
    (cl-incf (car waiting) count)
    (cl-incf (cdr waiting) (* count size))))

(defun dualstack-epc--answer--call (connection message size)
  "Answer the call MESSAGE of CONNECTION's peer, SIZE bytes long, in its turn."
  (pcase-let* ((`(,_ ,uid ,name ,arguments) message)
               (valid (and (= (length message) 4) (symbolp name)
                           (proper-list-p arguments))))
    (cond ((not valid)
           (dualstack-epc--link-reply connection 'epc-error uid "Not a call"))
          ((eq name 'dualstack-cancel)
           (dualstack-epc--answer--cancel connection (car arguments))
           (dualstack-epc--link-reply connection 'return uid t))
          ((eq name 'dualstack-progress)
           (dualstack-epc--answer--progress connection uid arguments size))
          (t
           (let ((answer (dualstack-epc--answer--make
                          :connection connection :uid uid :name name
                          :arguments arguments :size size)))
             (puthash uid answer (dualstack-epc-connection--answers connection))
             (dualstack-epc--answer--count connection 1 size)
             (dualstack-epc--later #'dualstack-epc--answer--run answer))))))

(defun dualstack-epc--answer--methods (connection uid size)
  "Send the list of methods over CONNECTION as the reply to UID.
SIZE is that of the request."
  (dualstack-epc--answer--count connection -1 size)
  (dualstack-epc--link-reply
   connection 'return uid
   (mapcar (pcase-lambda (`(,name ,_ ,arglist ,documentation))
             (list name arglist (substring-no-properties documentation)))
           (dualstack-epc-connection-methods connection))))

(defun dualstack-epc--answer--run (answer)
  "Run the method of ANSWER and reply."
  (let* ((connection (dualstack-epc--answer-connection answer))
         (name (dualstack-epc--answer-name answer))
         (function (car (alist-get name (dualstack-epc-connection-methods connection)))))
    (cond ((dualstack-epc--answer-cancelled answer)
           (dualstack-epc--answer--reply answer 'return-error "The call was cancelled"))
          ((nthcdr dualstack-epc--answer--depth dualstack-epc--answer--running)
           (dualstack-epc--answer--reply answer 'return-error
                                        "Calls are nested too deep"))
          ((null function)
           (dualstack-epc--answer--reply answer 'epc-error
                                        (format "No such method: %s" name)))
          (t
           (let (reply)
             (unwind-protect
                 (setq reply (dualstack-epc--answer--apply answer function))
               (dualstack-epc--answer--reply answer (or (car reply) 'return-error)
                                            (if reply (cdr reply) "The method was left"))
               (dualstack-epc--answer--quit-next)))))))

(defun dualstack-epc--answer--apply (answer function)
  "Return the kind and the value of the reply that FUNCTION gives ANSWER."
  (condition-case err
      ;; In a timer C-g works only so, and ends this alone.
      (let ((inhibit-quit nil)
            (dualstack-epc--answer--running (cons answer dualstack-epc--answer--running)))
        ;; What is below in the stack should not count against this method.
        (cl-progv '(max-lisp-eval-depth max-specpdl-size)
            (list (+ max-lisp-eval-depth 100)
                  (+ (symbol-value 'max-specpdl-size) 200))
          (cons 'return (apply function (dualstack-epc--answer-arguments answer)))))
    (quit (cons 'return-error (if (dualstack-epc--answer-cancelled answer)
                                  "The call was cancelled"
                                "The method was quit")))
    ;; A message of a message of ... has twice as many backslashes each time.
    (error (let ((text (error-message-string err)))
             (cons 'return-error
                   (substring text 0 (min (length text)
                                          dualstack-epc--answer--message-limit)))))))

(defun dualstack-epc--answer--reply (answer kind value)
  "Send the reply KIND VALUE for ANSWER, which is over."
  (let ((connection (dualstack-epc--answer-connection answer))
        (uid (dualstack-epc--answer-uid answer)))
    (when (eq answer (gethash uid (dualstack-epc-connection--answers connection)))
      (remhash uid (dualstack-epc-connection--answers connection)))
    (dualstack-epc--answer--count connection -1 (dualstack-epc--answer-size answer))
    (dualstack-epc--link-reply connection kind uid value)))

;;;; Cancelling

(defun dualstack-epc--answer-running-p ()
  "Return non-nil inside of a method, whose caller waits for it."
  dualstack-epc--answer--running)

(defun dualstack-epc--answer--cancel (connection uid)
  "Cancel the call UID of CONNECTION's peer, if it has no reply yet."
  (let ((answer (gethash uid (dualstack-epc-connection--answers connection))))
    (when answer
      (setf (dualstack-epc--answer-cancelled answer) t)
      (dualstack-epc--answer--quit-next))))

(defun dualstack-epc--answer--quit-next ()
  "Have the innermost method quit if it is cancelled, when it waits next."
  (when (and dualstack-epc--answer--running
             (dualstack-epc--answer-cancelled (car dualstack-epc--answer--running)))
    (run-at-time 0 nil #'dualstack-epc--answer--quit
                 (car dualstack-epc--answer--running))))

(defun dualstack-epc--answer--quit (answer)
  "Quit ANSWER's method, inside whose wait this is called.
If another one has begun meanwhile, its end brings the next attempt."
  (when (eq answer (car dualstack-epc--answer--running))
    (signal 'quit nil)))

;;;; Progress

(defun dualstack-epc--answer--progress (connection uid arguments size)
  "Take the progress ARGUMENTS, a UID and a value, of a call over CONNECTION.
They had SIZE bytes.
The reply to UID is sent when the value was used, which lets the next ones
come."
  (let ((request (gethash (car arguments)
                          (dualstack-epc--window-pending
                           (dualstack-epc-connection--window connection))))
        (done (lambda ()
                (dualstack-epc--answer--count connection -1 size)
                (dualstack-epc--link-reply connection 'return uid t))))
    (dualstack-epc--answer--count connection 1 size)
    (if (and request (dualstack-epc--request-progress request))
        (dualstack-epc--window-report request (cadr arguments) done)
      (funcall done))))

(provide 'dualstack-epc-answer)

;;; dualstack-epc-answer.el ends here
