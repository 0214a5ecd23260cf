;;; dualstack-epc-codec.el --- EPC messages as bytes  -*- lexical-binding: t; -*-

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

;; A frame is six lower-case hexadecimal digits, the length of a payload in
;; bytes, and the payload: an S-expression and a newline in UTF-8.  Which
;; values cross as what is a table in README.org.

;;; Code:

(require 'cl-lib)

(define-error 'dualstack-epc-error "EPC error")
(define-error 'dualstack-epc-protocol-error "EPC protocol error" 'dualstack-epc-error)
(define-error 'dualstack-epc-unsendable "Cannot be sent over EPC" 'dualstack-epc-error)

;; New in Emacs 29.
(defvar print-integers-as-characters)

(defconst dualstack-epc-codec-limit #xffffff
  "Greatest length of a payload in bytes, as six digits can tell no more.")

(defconst dualstack-epc-codec-depth 1000
  "How deep lists may be nested.")

;;;; To bytes

(defun dualstack-epc-codec-encode (message &optional margin)
  "Return the frame of the list MESSAGE, a unibyte string.
MARGIN, a string of blanks, comes before the newline at its end.
Signal `dualstack-epc-unsendable' if a value in it has no readable syntax,
is a string with text properties, or the frame would be too large."
  (let* ((text (dualstack-epc-codec--print message))
         (payload (encode-coding-string text 'utf-8-unix t))
         (length (+ (length payload) (length margin) 1)))
    (when (string-match-p "#" text)
      (dualstack-epc-codec--check message (length text)))
    (when (> length dualstack-epc-codec-limit)
      (signal 'dualstack-epc-unsendable
              (list (format "A message of %d bytes; the protocol allows %d"
                            length dualstack-epc-codec-limit))))
    (concat (format "%06x" length) payload margin "\n")))

(defun dualstack-epc-codec--print (message)
  "Return MESSAGE printed, whatever the user has set for printing."
  (let ((print-length nil) (print-level nil) (print-circle nil)
        (print-gensym nil) (print-quoted t) (print-escape-newlines nil)
        (print-escape-nonascii t) (print-escape-multibyte nil)
        (print-escape-control-characters nil) (print-integers-as-characters nil)
        (print-charset-text-property 'default) (print-number-table nil)
        (print-continuous-numbering nil) (float-output-format nil))
    (condition-case nil
        (prin1-to-string message)
      ;; Emacs takes what is nested 200 deep for circular, unless it looks.
      (error (let ((print-circle t))
               (prin1-to-string message))))))

(defun dualstack-epc-codec--check (message size)
  "Signal `dualstack-epc-unsendable' if MESSAGE has something unsendable in it.
Its printed form has SIZE characters.  The error names the argument, for
MESSAGE is (call UID METHOD ARGS) or has one value."
  (if (and (eq (car message) 'call) (proper-list-p (nth 3 message)))
      (let ((number 0))
        (dolist (argument (nth 3 message))
          (setq number (1+ number))
          (dualstack-epc-codec--check-value argument size
                                            (format "Argument %d" number))))
    (dualstack-epc-codec--check-value (nthcdr 2 message) size "The value")))

(defun dualstack-epc-codec--check-value (value size name)
  "Signal `dualstack-epc-unsendable' if VALUE, called NAME, is unsendable.
It has no more parts than SIZE unless it is circular."
  (let ((todo (list value)))
    (while todo
      (when (< (setq size (1- size)) -10)
        (dualstack-epc-codec--refuse name "is or has a circular list" nil))
      (let ((item (pop todo)))
        (cond ((consp item)
               (push (cdr item) todo)
               (push (car item) todo))
              ((stringp item)
               (when (dualstack-epc-codec--properties-p item)
                 (dualstack-epc-codec--refuse
                  name "is or has a string with text properties"
                  (substring-no-properties item))))
              ((vectorp item)
               (setq todo (append item todo)))
              ((hash-table-p item)
               (maphash (lambda (key value) (push key todo) (push value todo))
                        item))
              ((not (or (symbolp item) (numberp item)))
               (dualstack-epc-codec--refuse name "is or has something unreadable"
                                            item)))))))

(defun dualstack-epc-codec--properties-p (string)
  "Return non-nil if STRING has text properties anywhere."
  (or (text-properties-at 0 string)
      (next-property-change 0 string)))

(defun dualstack-epc-codec--refuse (name what item)
  "Signal that the value called NAME cannot be sent, for it WHAT: ITEM."
  (signal 'dualstack-epc-unsendable
          (list (concat name " " what
                        (and item
                             (let ((print-length 5) (print-level 2))
                               (truncate-string-to-width (format ": %S" item)
                                                         80 nil nil "...")))))))

;;;; From bytes

(defun dualstack-epc-codec-read (payload)
  "Return the message in PAYLOAD, a unibyte string.
Signal `dualstack-epc-protocol-error' if it is none."
  (when (and (> (length payload) dualstack-epc-codec-depth)
             (dualstack-epc-codec--too-deep-p payload))
    (signal 'dualstack-epc-protocol-error
            (list (format "Lists nested deeper than %d" dualstack-epc-codec-depth))))
  (let ((message (condition-case err
                     (let ((read-circle nil))
                       (car (read-from-string
                             (decode-coding-string payload 'utf-8-unix t))))
                   (error (signal 'dualstack-epc-protocol-error
                                  (list (concat "Unreadable: "
                                                (error-message-string err))))))))
    (unless (and (proper-list-p message) (symbolp (car message)) (cdr message))
      (signal 'dualstack-epc-protocol-error (list "No message")))
    message))

(defun dualstack-epc-codec--too-deep-p (payload)
  "Return non-nil if lists in PAYLOAD are nested too deep for Emacs's reader.
It is recursive before Emacs 29, and would exhaust the stack."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (set-syntax-table dualstack-epc-codec--syntax)
    (insert payload)
    (>= (car (parse-partial-sexp (point-min) (point-max)
                                 (1+ dualstack-epc-codec-depth)))
        (1+ dualstack-epc-codec-depth))))

(defconst dualstack-epc-codec--syntax
  (let ((table (make-char-table 'syntax-table '(3))))
    (modify-syntax-entry ?\( "()" table)
    (modify-syntax-entry ?\) ")(" table)
    (modify-syntax-entry ?\[ "(]" table)
    (modify-syntax-entry ?\] ")[" table)
    (modify-syntax-entry ?\" "\"" table)
    (modify-syntax-entry ?\\ "\\" table)
    table)
  "Syntax of S-expressions, without comments, for finding the depth.")

(defun dualstack-epc-codec-uid (payload)
  "Return (NAME . UID) of a PAYLOAD that cannot be read, or nil."
  (and (string-match "\\`[ \n]*([ \n]*\\([a-z-]+\\)[ \n]+\\([0-9]+\\)[ \n)]" payload)
       (cons (intern-soft (match-string 1 payload))
             (string-to-number (match-string 2 payload)))))

(provide 'dualstack-epc-codec)

;;; dualstack-epc-codec.el ends here
