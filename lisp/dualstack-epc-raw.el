;;; dualstack-epc-raw.el --- Bytes as they are  -*- lexical-binding: t; -*-

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

;; A unibyte string is printed with four characters for each byte over 127: 10
;; MB of random bytes become 25, and a frame holds 16.  But Emacs reads a string
;; of ASCII and bytes that are not UTF-8 as a unibyte one.  So between two ends
;; of dualstack long ones are sent as they are.  Where two of their bytes could
;; begin a character, a backslash and a newline come between, which stand for
;; nothing in a string.

;;; Code:

(require 'cl-lib)

(defconst dualstack-epc--raw-length 1000
  "Length of a unibyte string above which it is sent as it is.")

(defun dualstack-epc--raw-payload (message print)
  "Return MESSAGE as a payload with bytes as they are, without a newline.
Or return nil if neither an argument nor the value is a long unibyte string
with bytes over 127.  PRINT returns what else there is, printed."
  (pcase message
    ((and `(call ,uid ,name ,arguments)
          (guard (proper-list-p arguments))
          (guard (cl-some #'dualstack-epc--raw-p arguments)))
     (concat (format "(call %d " uid) (funcall print name) " ("
             (mapconcat (lambda (item) (dualstack-epc--raw-item item print)) arguments " ")
             "))"))
    ((and `(return ,uid ,value) (guard (dualstack-epc--raw-p value)))
     (concat "(return " (funcall print uid) " " (dualstack-epc--raw-literal value) ")"))))

(defun dualstack-epc--raw-margin-p (payload)
  "Return non-nil if strings in PAYLOAD may have bytes that are not UTF-8.
Its margin tells that it is from one that sends them so."
  (let ((length (length payload)))
    (and (> length 2) (eq (aref payload (- length 2)) ?\t))))

(defsubst dualstack-epc--raw-propertied-p (string)
  "Return non-nil if STRING has, or may have, text properties."
  (if (fboundp 'object-intervals)
      (object-intervals string) ; New in Emacs 28.
    (or (text-properties-at 0 string)
        (next-property-change 0 string))))

(defun dualstack-epc--raw-p (item)
  "Return non-nil if ITEM is a long unibyte string with bytes over 127."
  (and (stringp item)
       (> (length item) dualstack-epc--raw-length)
       (not (multibyte-string-p item))
       (not (dualstack-epc--raw-propertied-p item))
       (string-match-p "[\200-\377]" item)))

(defun dualstack-epc--raw-item (item print)
  "Return the argument ITEM printed, by PRINT unless its bytes stay as they are."
  (if (dualstack-epc--raw-p item)
      (dualstack-epc--raw-literal item)
    (funcall print item)))

(defun dualstack-epc--raw-literal (string)
  "Return STRING, which is unibyte, as a string literal."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (buffer-disable-undo)
    (insert string)
    (goto-char (point-min))
    (while (re-search-forward "[\"\\]" nil t)
      (replace-match "\\\\\\&" t))
    (goto-char (point-min))
    (while (re-search-forward "[\300-\377][\200-\277]" nil t)
      (forward-char -1)
      (insert "\\\n"))
    (concat "\"" (buffer-string) "\"")))

(provide 'dualstack-epc-raw)

;;; dualstack-epc-raw.el ends here
