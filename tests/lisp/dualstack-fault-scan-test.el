;;; dualstack-fault-scan-test.el --- Hostile texts, at random  -*- lexical-binding: t; -*-

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

;; Texts made of what is difficult for a reader, at random.  Whatever is read of
;; them is data: numbers, strings without properties, symbols, lists, vectors
;; and small hash tables.

;;; Code:

(require 'dualstack-epc-helper)
(require 'dualstack-epc-scan)

(defconst dualstack-fault-scan-pieces
  (mapcar (lambda (text) (encode-coding-string text 'binary))
          (list "#(\"x\" 0 1 (face bold))" "#s(hash-table size 99999 data (a b))" "#s(hash-table data (a b" ") size 99999)"
                "#s(hash-table test equal" " data (" "#s(foo bar)" "#[0 \"\" [] 1]" "#&3\"a\"" "#1=" "#1#" "#:a" "#_b" "#@3" "#$" "#!"
                "#x1f" "#24r1k" "#b1" "##" "#'" "#" "'" "`" "," ",@" ",." "." " . " "?" "?\"" "?a" "?\\" "?\\(" "\\?" "\\#" ";" "\n" "\t" "\r"
                "\"" "\"\"" "\"a\"" "\"\\\"" "\"\\\\\"" "\\\"" "\\" "\\\\" "\\C-" "\\M-" "\\^" "\\S-" "\\N{" "}" "\\x41" "\\x" "\\u0041" "\\303"
                "(" ")" "(" ")" "[" "]" "a" "b" "1" "-1.5" "1e5" " " " " "\0" "\177" "@" "|" "&"
                "\302\240" "\240" "\302" "\340\202\240" "\301\240" "\300\242" "\340\200\242" "\370\200\200\202\240"
                "\303\244" "\355\240\200" "\343" "\364\220\200\200" "size 99999" "test" "data" "hash-table" "\\\n"))
  "What texts are made of.")

(defun dualstack-fault-scan-text ()
  "Return a random text, in bytes."
  (let ((pieces (cl-loop repeat (1+ (random 14))
                         collect (nth (random (length dualstack-fault-scan-pieces))
                                      dualstack-fault-scan-pieces))))
    (concat "(return 1 (" (apply #'concat pieces) ;; Mostly something that ends.
            (nth (random 6) '("" "" "\"" ")" "))" "\")")) "))" (nth (random 2) '("\n" "\t\t\t\n")))))

(defun dualstack-fault-scan-harmless-p (value)
  "Return non-nil if VALUE is data only."
  (cond ((stringp value)
         (not (or (text-properties-at 0 value) (next-property-change 0 value))))
        ((consp value)
         (and (dualstack-fault-scan-harmless-p (car value))
              (dualstack-fault-scan-harmless-p (cdr value))))
        ((vectorp value) (cl-every #'dualstack-fault-scan-harmless-p value))
        ((hash-table-p value)
         (and (< (hash-table-size value) 100)
              (memq (hash-table-test value) '(eq eql equal))
              (let ((harmless t))
                (maphash (lambda (key item)
                           (unless (and (dualstack-fault-scan-harmless-p key)
                                        (dualstack-fault-scan-harmless-p item))
                             (setq harmless nil)))
                         value)
                harmless)))
        ((symbolp value) (eq value (intern-soft (symbol-name value))))
        (t (numberp value))))

(dualstack-deftest dualstack-fault-scan-random ()
  "Nothing but data is read, whatever the text; what was refused is an error of ours."
  (random "dualstack scan")
  (let ((count (* 20000 (string-to-number (or (getenv "DUALSTACK_FAULT_TIMES") "1"))))
        (read 0))
    (dotimes (_ count)
      (let* ((text (dualstack-fault-scan-text))
             (value (condition-case nil
                        (list (dualstack-epc--codec-read text))
                      (dualstack-epc-protocol-error nil))))
        (when value
          (cl-incf read)
          (unless (dualstack-fault-scan-harmless-p (car value))
            (error "%S was read as %S" text (car value))))))
    (message "%d of %d texts were read" read count)
    (should (> read (/ count 200)))))

(provide 'dualstack-fault-scan-test)

;;; dualstack-fault-scan-test.el ends here
