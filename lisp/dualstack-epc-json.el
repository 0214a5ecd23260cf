;;; dualstack-epc-json.el --- Messages in JSON, between two ends of dualstack  -*- lexical-binding: t; -*-

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

;; Emacs 30 reads and writes JSON faster than S-expressions, and JSON needs no
;; scan before it is read.  So a long string, and a long list of lists, strings
;; and numbers, may cross as JSON: ["return",UID,VALUE] and
;; ["call",UID,METHOD,ARGS].  Lists are arrays, nil is [] and t is true.
;; Whatever else there is in a message, it is an S-expression as a whole.  There
;; are no objects: their keys would be symbols, which stay for good, or lose
;; their order.
;;
;; An end that reads JSON says so by one more blank in the margin of its
;; payloads (dualstack-epc-link.el).  No other peer gets to see any.
;;
;; Before Emacs 30, where JSON is optional, `read' is the faster one.

;;; Code:

(require 'cl-lib)
(require 'dualstack-epc-raw)
(require 'dualstack-epc-scan)

;; Before Emacs 30 it may be built without them.
(declare-function json-parse-string "ext:json.c" (string &rest args))
(declare-function json-serialize "ext:json.c" (object &rest args))

(defconst dualstack-epc--json-long 50
  "Elements of a list that is worth a try.")

(defconst dualstack-epc--json-characters 500
  "Characters of a string that is worth a try.")

(defconst dualstack-epc--json-depth 100
  "Lists in lists that are sent as JSON.")

(defconst dualstack-epc--json-digits 20000
  "Digits of a number from which on it takes long to read.")

(defun dualstack-epc--json-used-p ()
  "Return non-nil if JSON is faster than S-expressions in this Emacs."
  (>= emacs-major-version 30))

(defun dualstack-epc--json-payload (message)
  "Return MESSAGE as JSON, a unibyte string without a newline, or nil.
Nil means that it has something else than lists, strings, numbers and t, or
that JSON would not be faster."
  (pcase message
    (`(call ,uid ,name ,arguments)
     (when (and (symbolp name) (proper-list-p arguments)
                (cl-some #'dualstack-epc--json--long-p arguments))
       (dualstack-epc--json--message "call" uid (symbol-name name) arguments)))
    (`(return ,uid ,value)
     (when (dualstack-epc--json--long-p value)
       (dualstack-epc--json--message "return" uid value)))))

(defun dualstack-epc--json--long-p (item)
  "Return non-nil if ITEM is a long string, or a list that is long or has one."
  (cond ((stringp item) (> (length item) dualstack-epc--json-characters))
        ((consp item)
         (or (consp (ignore-errors (nthcdr dualstack-epc--json-long item)))
             (dualstack-epc--json--has-long-string-p item)))))

(defun dualstack-epc--json--has-long-string-p (list)
  "Return non-nil if a string in LIST, which may end in another value, is long."
  (let (found)
    (while (and (consp list) (not found))
      (let ((item (pop list)))
        (setq found (and (stringp item) (> (length item) dualstack-epc--json-characters)))))
    found))

(defun dualstack-epc--json--message (&rest elements)
  "Return the list ELEMENTS as JSON, or nil if that does not carry them."
  ;; An error is of an improper list, or of a string that is no text.
  (ignore-errors
    (catch 'dualstack-epc--json
      (json-serialize (dualstack-epc--json--array elements dualstack-epc--json-depth)))))

(defun dualstack-epc--json--array (list depth)
  "Return the vector of LIST, with those of lists in it, up to DEPTH deep.
Throw nil to `dualstack-epc--json' if it has what JSON does not carry."
  (let ((vector (vconcat list))
        (i 0))
    (dolist (item list)
      (cond ((stringp item)
             (when (dualstack-epc--raw-propertied-p item)
               (throw 'dualstack-epc--json nil)))
            ((consp item)
             (when (= depth 0)
               (throw 'dualstack-epc--json nil))
             (aset vector i (dualstack-epc--json--array item (1- depth))))
            ((null item) (aset vector i []))
            ((not (or (fixnump item) (floatp item) (eq item t)))
             (throw 'dualstack-epc--json nil)))
      (setq i (1+ i)))
    vector))

(defun dualstack-epc--json-p (payload)
  "Return non-nil if PAYLOAD is JSON, if it is a message at all."
  (and (> (length payload) 0) (eq (aref payload 0) ?\[)))

(defun dualstack-epc--json-read (payload)
  "Return the message in PAYLOAD, a unibyte string of JSON.
It is (return UID VALUE) or (call UID METHOD ARGS); signal an error if it is
something else.  Nesting is bounded by Emacs, 10,000 deep."
  (unless (dualstack-epc--json-used-p)
    (error "JSON, which was not agreed upon"))
  ;; In strings a brace is written as an escape.
  (when (dualstack-epc--scan-find "{" payload)
    (error "JSON with objects"))
  (dualstack-epc--json--check-numbers payload)
  (pcase (json-parse-string payload :array-type 'list :null-object nil :false-object nil)
    (`("return" ,(and (pred integerp) uid) ,value)
     (list 'return uid value))
    (`("call" ,(and (pred integerp) uid) ,(and (pred stringp) name)
       ,(and (pred listp) arguments))
     (list 'call uid (intern name) arguments))
    (_ (error "JSON that is no message"))))

(defun dualstack-epc--json--check-numbers (payload)
  "Signal an error if PAYLOAD may have a number that takes long to read.
A look here and there finds each that is long."
  (let ((position 0))
    (while (< position (length payload))
      (when (> (- (or (string-match-p "[^0-9]" payload position) (length payload)) position)
               dualstack-epc--json-digits)
        (error "JSON with a number that is too long"))
      (setq position (+ position dualstack-epc--json-digits)))))

(provide 'dualstack-epc-json)

;;; dualstack-epc-json.el ends here
