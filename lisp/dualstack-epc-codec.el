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
(require 'dualstack-epc-json)
(require 'dualstack-epc-raw)
(require 'subr-x)
(require 'dualstack-epc-scan)

(define-error 'dualstack-epc-error "EPC error")
(define-error 'dualstack-epc-protocol-error "EPC protocol error" 'dualstack-epc-error)
(define-error 'dualstack-epc-unsendable "Cannot be sent over EPC" 'dualstack-epc-error)

;; New in Emacs 28 and 29.
(defvar read-symbol-shorthands)
(defvar print-integers-as-characters)
(defvar print-unreadable-function)

(defconst dualstack-epc--codec-limit #xffffff
  "Greatest length of a payload in bytes, as six digits can tell no more.")

;;;; To bytes

(defun dualstack-epc--codec-encode (message &optional margin raw json)
  "Return the frame of the list MESSAGE, a unibyte string.
MARGIN, a string of blanks, comes before the newline at its end.  RAW means
that long unibyte strings that are an argument or the value may stand in it
as they are (dualstack-epc-raw.el), as the peer is one that knows of that.
JSON means that it reads JSON, too (dualstack-epc-json.el).
Signal `dualstack-epc-unsendable' if a value in it cannot cross unchanged, or
the frame would be too large."
  (let* ((payload (condition-case err
                      (or (dualstack-epc-codec--brief message)
                          (and json (dualstack-epc--json-used-p)
                               (dualstack-epc--json-payload message))
                          (and raw (dualstack-epc--raw-payload
                                    message #'dualstack-epc-codec--safe))
                          (dualstack-epc-codec--safe message))
                    (dualstack-epc--scan-refused
                     (dualstack-epc-codec--name-problem message (cadr err)))))
         (length (+ (length payload) (length margin) 1)))
    (when (> length dualstack-epc--codec-limit)
      (signal 'dualstack-epc-unsendable
              (list (format "A message of %d bytes; the protocol allows %d"
                            length dualstack-epc--codec-limit))))
    (concat (format "%06x" length) payload margin "\n")))

(defconst dualstack-epc-codec--few 5
  "Arguments of a small message, or elements of its value, at most.")

(defun dualstack-epc-codec--brief (message)
  "Return the list MESSAGE printed, in bytes, if it is one of the small ones.
That is a call or a value with a few small integers, short strings of ASCII and
t or nil in it, as most are.  To print those takes half as long as
`dualstack-epc-codec--safe'.  Otherwise return nil."
  (catch 'dualstack-epc-codec--large
    (pcase message
      (`(call ,(and uid (pred fixnump)) ,name ,arguments)
       (concat "(call " (number-to-string uid) " " (dualstack-epc-codec--brief-name name)
               " " (dualstack-epc-codec--brief-value arguments) ")"))
      (`(return ,(and uid (pred fixnump)) ,value)
       (concat "(return " (number-to-string uid) " "
               (dualstack-epc-codec--brief-value value) ")")))))

(defun dualstack-epc-codec--brief-name (name)
  "Return the NAME of a method printed; throw nil where that takes `prin1'."
  (if (and (symbolp name)
           (eq name (intern-soft (symbol-name name)))
           (let ((case-fold-search nil))
             (string-match-p "\\`[a-z][-_a-z0-9]*\\'" (symbol-name name))))
      (string-to-unibyte (symbol-name name))
    (throw 'dualstack-epc-codec--large nil)))

(defun dualstack-epc-codec--brief-value (value)
  "Return VALUE, an atom or a list of them, printed; throw nil where it is more."
  (cond ((not (consp value)) (dualstack-epc-codec--brief-atom value))
        ((and (proper-list-p value) (<= (length value) dualstack-epc-codec--few))
         (concat "(" (mapconcat #'dualstack-epc-codec--brief-atom value " ") ")"))
        (t (throw 'dualstack-epc-codec--large nil))))

(defun dualstack-epc-codec--brief-atom (atom)
  "Return ATOM printed; throw nil if it is no small one."
  (cond ((fixnump atom) (number-to-string atom))
        ((null atom) "nil")
        ((eq atom t) "t")
        ((and (stringp atom)
              (< (length atom) 100)
              (not (string-match-p "[^]-~ !#-[]" atom))
              (not (dualstack-epc--raw-propertied-p atom)))
         (concat "\"" (string-to-unibyte atom) "\""))
        (t (throw 'dualstack-epc-codec--large nil))))

(defun dualstack-epc-codec--print (message)
  "Return MESSAGE printed, whatever the user has set for printing."
  (let ((print-length nil) (print-level nil) (print-circle nil)
        (print-gensym t) (print-quoted t) (print-escape-newlines nil)
        (print-escape-nonascii t) (print-escape-multibyte nil)
        (print-escape-control-characters nil) (print-integers-as-characters nil)
        (print-charset-text-property 'default) (print-number-table nil)
        (print-continuous-numbering nil) (print-unreadable-function nil)
        (float-output-format nil))
    (condition-case nil
        (prin1-to-string message)
      ;; Emacs takes what is nested 200 deep for circular.
      (error (dualstack-epc-codec--print-deep message)))))

(defun dualstack-epc-codec--safe (value)
  "Return VALUE printed, in bytes, as a peer can read it.
Signal `dualstack-epc--scan-refused' with a reason if it cannot cross, or
would come back as another."
  (let* ((text (dualstack-epc-codec--print value))
         (payload (encode-coding-string text 'utf-8-unix t)))
    ;; As UTF-8 they are no characters, and would be read as bytes.
    (when (and (multibyte-string-p text)
               (string-match-p "[\xd800-\xdfff\x110000-\x3fff7f]" text))
      (dualstack-epc--scan-refuse "a character that Unicode does not have"))
    (when (and (dualstack-epc--scan-find "\\" payload)
               (string-match-p "\\\\[23]" payload)
               (dualstack-epc-codec--raw-p value))
      (dualstack-epc--scan-refuse "a multibyte string with raw bytes"))
    (if (dualstack-epc--scan-find "#" payload)
        (dualstack-epc--scan-outgoing payload)
      payload)))

(defun dualstack-epc-codec--name-problem (message reason)
  "Signal `dualstack-epc-unsendable' for MESSAGE, refused for REASON.
The error names the argument, for MESSAGE is (call UID METHOD ARGS) or has
one value."
  (let ((number 0))
    (when (and (eq (car message) 'call) (proper-list-p (nth 3 message)))
      (dolist (argument (nth 3 message))
        (cl-incf number)
        (condition-case err
            (dualstack-epc-codec--safe argument)
          (dualstack-epc--scan-refused
           (dualstack-epc-codec--refuse (format "Argument %d" number) (cadr err) argument)))))
    (dualstack-epc-codec--refuse (if (> number 0) "The message" "The value") reason
                                 (nth 2 message))))

(defun dualstack-epc-codec--refuse (name what item)
  "Signal that ITEM, called NAME, cannot be sent, for it is or has WHAT."
  (signal 'dualstack-epc-unsendable
          (list (let ((print-length 5) (print-level 2) (print-circle t))
                  (truncate-string-to-width (format "%s is or has %s: %S" name what item)
                                            160 nil nil "...")))))

(defun dualstack-epc--codec-plain-p (item)
  "Return non-nil if ITEM is an integer, symbol or string that is sure to cross."
  (cond ((stringp item)
         (not (or (dualstack-epc--raw-propertied-p item)
                  (dualstack-epc-codec--raw-string-p item))))
        ((symbolp item)
         (eq item (intern-soft (symbol-name item))))
        (t (fixnump item))))

(defun dualstack-epc-codec--raw-string-p (string)
  "Return non-nil if STRING is multibyte, but has only ASCII and raw bytes.
It would be read as a unibyte string."
  (and (multibyte-string-p string)
       (string-match-p "[\x3fff80-\x3fffff]" string)
       (not (string-match-p "[^[:ascii:]\x3fff80-\x3fffff]" string))))

(defun dualstack-epc-codec--raw-p (value)
  "Return non-nil if VALUE has a multibyte string of ASCII and raw bytes."
  (let ((todo (list value))
        (seen (make-hash-table :test #'eq))
        (found nil))
    (while (and todo (not found))
      (let ((item (pop todo)))
        (cond ((stringp item)
               (setq found (dualstack-epc-codec--raw-string-p item)))
              ((or (gethash item seen)
                   (not (or (consp item) (vectorp item) (hash-table-p item)))))
              (t
               (puthash item t seen)
               (cond ((consp item)
                      (push (cdr item) todo)
                      (push (car item) todo))
                     ((vectorp item)
                      (setq todo (append item todo)))
                     (t
                      (maphash (lambda (key value) (push key todo) (push value todo))
                               item)))))))
    found))

;;;; Values nested deep

(defconst dualstack-epc-codec--quotes
  '((quote . "'") (function . "#'") (\` . "`") (\, . ",") (\,@ . ",@"))
  "What is printed for lists of two elements that begin with these.")

(defun dualstack-epc-codec--print-deep (message)
  "Return MESSAGE printed as by `prin1', of any depth that can cross."
  (with-suppressed-warnings ((obsolete max-specpdl-size))
    (let ((max-lisp-eval-depth (max max-lisp-eval-depth 20000))
          (max-specpdl-size 50000))
      (with-temp-buffer
        (dualstack-epc-codec--insert message 0)
        (buffer-string)))))

(defun dualstack-epc-codec--insert (value depth)
  "Insert VALUE, which is DEPTH deep in lists, as `prin1' prints it."
  (when (or (> depth dualstack-epc--scan-depth)
            (> (buffer-size) dualstack-epc--codec-limit))
    (dualstack-epc--scan-refuse "a list that is circular, or nested deeper than %d"
                               dualstack-epc--scan-depth))
  (let ((depth (1+ depth)))
    (pcase value
      (`(,(and (pred symbolp) quote (guard (assq quote dualstack-epc-codec--quotes))) ,item)
       (insert (alist-get quote dualstack-epc-codec--quotes))
       (dualstack-epc-codec--insert item depth))
      ((pred consp)
       (insert "(")
       (dualstack-epc-codec--insert (pop value) depth)
       (while (consp value)
         (insert " ")
         (dualstack-epc-codec--insert (pop value) depth))
       (when value
         (insert " . ")
         (dualstack-epc-codec--insert value depth))
       (insert ")"))
      ((pred vectorp)
       (insert "[")
       (mapc (lambda (item) (dualstack-epc-codec--insert item depth) (insert " ")) value)
       (insert "]"))
      ((pred hash-table-p)
       (insert (format "#s(hash-table test %s%s data (" (hash-table-test value)
                       (if (hash-table-weakness value) " weakness" "")))
       (maphash (lambda (key item)
                  (dualstack-epc-codec--insert key (1+ depth))
                  (insert " ")
                  (dualstack-epc-codec--insert item (1+ depth))
                  (insert " "))
                value)
       (insert "))"))
      (_ (prin1 value (current-buffer))))))

;;;; From bytes

(defun dualstack-epc--codec-read (payload)
  "Return the message in PAYLOAD, a unibyte string.
Nothing comes of it but numbers, strings, symbols, lists, vectors and hash
tables.  Signal `dualstack-epc-protocol-error' if it is no message."
  (let ((message (condition-case err
                     (if (dualstack-epc--json-p payload)
                         (dualstack-epc--json-read payload)
                       (dualstack-epc-codec--read payload))
                   (dualstack-epc--scan-refused
                    (dualstack-epc-codec--unreadable (concat "it has " (cadr err))))
                   (error
                    (dualstack-epc-codec--unreadable (error-message-string err))))))
    (unless (and (proper-list-p message) (symbolp (car message)) (cdr message))
      (signal 'dualstack-epc-protocol-error (list "No message")))
    message))

(defun dualstack-epc-codec--read (payload)
  "Return the value in PAYLOAD, a unibyte string, or signal an error."
  (let ((read-circle nil)
        (read-symbol-shorthands nil)
        (text (decode-coding-string (dualstack-epc--scan payload) 'utf-8-unix t)))
    (when (and (multibyte-string-p text)
               (not (dualstack-epc--raw-margin-p payload))
               (string-match-p "[\x3fff80-\x3fffff]" text))
      (error "Bytes that are not UTF-8"))
    (car (read-from-string text))))

(defun dualstack-epc-codec--unreadable (reason)
  "Signal that a message cannot be read, for REASON."
  (signal 'dualstack-epc-protocol-error (list (concat "Unreadable: " reason))))

(defun dualstack-epc--codec-uid (payload)
  "Return (NAME . UID) of a PAYLOAD that cannot be read, or nil."
  (and (or (string-match "\\`[ \n]*([ \n]*\\([a-z-]+\\)[ \n]+\\([0-9]+\\)[ \n)]" payload)
           (string-match "\\`\\[\"\\([a-z-]+\\)\",\\([0-9]+\\)[],]" payload))
       (cons (intern-soft (match-string 1 payload))
             (string-to-number (match-string 2 payload)))))

(provide 'dualstack-epc-codec)

;;; dualstack-epc-codec.el ends here
