;;; dualstack-epc-scan-test.el --- Tests of what a peer may send  -*- lexical-binding: t; -*-

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

;; What a hostile peer sends, and what is refused to be sent.

;;; Code:

(require 'dualstack-epc-helper)
(require 'dualstack-epc-scan)

(defun dualstack-epc-scan-test-read (text)
  "Return the value of the reply TEXT, or the reason it is refused, a string."
  (condition-case err
      (list (nth 2 (dualstack-epc--codec-read
                    (encode-coding-string (format "(return 1 %s)\n" text) 'utf-8-unix))))
    (dualstack-epc-protocol-error (cadr err))))

(ert-deftest dualstack-epc-scan-refuses-what-is-no-data ()
  "What runs code, takes memory or stands for something else is not read."
  (pcase-dolist (`(,reason . ,texts)
                 '(("text properties" "#(\"hi\" 0 2 (face bold))" "(a . #(\"hi\"))" "'#(\"hi\" 0 2 ())")
                   ("hash table" "#s(hash-table size 80000000)" "#s(hash-table rehash-size 1e300)"
                    "#s(hash-table test equal size 80000000 data (a b))" "#s(hash-table test foo)"
                    "#s(hash-table data (a b) size 80000000)" "#s(hash-table weakness key data ())"
                    "#s(hash-table data (a #s(hash-table data (c d) size 80000000)))"
                    "#s(hash-table . (size 80000000))" "#s(hash-table data (a b) . (size 80000000))"
                    "#s(hash-table data (a b) ; x\n size 80000000)" "#s(hash-table size 1 size 80000000)")
                   ("record" "#s(foo 1)" "#s(\\hash-table size 80000000)" "#s( hash-table size 80000000)")
                   ("character" "?a" "(a ?\" \")" "(a .?\" \")" "(,@?\" \")" "('?\" \")"
                    "(a\u00a0?\" \")" "(\"a\"?\" \")" "('\u00a0?\" \")")
                   ("comment" "; (\n1" "(1;2\n)")
                   ("#" "#x12?\"" "(##?\" \")" "#_a" "#$" "#@2ab" "#!a\n1" "#;1" "#")
                   ("escape" "\"\\C-\" \" #(\\\"a\\\") \"" "\"\\N{DIGIT ONE}\"" "\"\\M-a\"" "\"\\^a\""
                    "\"\\\\\\\\\\C-a\"" "\"\\\\C \\\\\\C-a\"" "\\C" "\"\\H-a\"" "\"\\A-a\"" "\"\\S-a\"")
                   ("function" "#[0 \"a\" [] 1]") ("bool-vector" "#&3\"a\"") ("char-table" "#^[1]" "#^^[1]")
                   ("label" "#1=(a . #1#)" "#1#" "(#24r12?\" \")") ("uninterned" "#:a")
                   ("UTF-8" "\"\\\\310")))
    (dolist (text texts)
      (let ((found (dualstack-epc-scan-test-read text)))
        (unless (equal reason "UTF-8")
          (should (stringp found))
          (unless (string-match-p (regexp-quote reason) found)
            (ert-fail (list text reason found)))))))
  (should-error (dualstack-epc--codec-read "(return 1 \"\310\")\n")
                :type 'dualstack-epc-protocol-error))

(ert-deftest dualstack-epc-scan-passes-data ()
  "What Emacs prints of data is read, whatever is in strings and names."
  (let ((table (make-hash-table :test #'eq)))
    (puthash 'a "b" table)
    (dolist (value `("#(\"hi\" 0 2 (face bold))" ";?'`," "C:\\Classes\\New" "\\" "\\\"" "\n\t\0\177"
                     (quote a) (function car) (\` (a (\, b) (\,@ c))) (\#a a\# a\? \? \?a a\;b a\'b)
                     ,(intern "a\u00a0b") ,(intern "a\u00a0?b") ,(intern "") (,(intern "")) (a . b) (a b . 1.5) [a [b]] -0.0
                     1.0e+INF 123456789012345678901234567890 "ä日🎉" ,(intern "ä日") "\310\200"
                     (a.b) (\.a) (\. a) |a| 1+ -1+ \-1 \1.5 ,(make-string 3000 ?\()
                     "\\n\\c\\m\n" ,(make-list 2000 "it's, really; fine?") ,(make-list 3000 ''a)))
      (should (equal (nth 2 (dualstack-epc--codec-read
                             (substring (dualstack-epc--codec-encode (list 'return 1 value)) 6)))
                     value)))
    (should (equal (gethash 'a (car (dualstack-epc-scan-test-read
                                     "#s(hash-table test equal data (a 1))")))
                   1))
    (let ((read (nth 2 (dualstack-epc--codec-read
                        (substring (dualstack-epc--codec-encode `(return 1 ',table)) 6)))))
      (should (eq (hash-table-test (cadr read)) 'eq))
      (should (equal (gethash 'a (cadr read)) "b")))
    (should (equal (dualstack-epc-scan-test-read "(#x1F #o17 #b101 #24r1k #'a ##)")
                   `((31 15 5 44 #'a ,(intern "")))))))

(ert-deftest dualstack-epc--scan-depth ()
  "Brackets and quotes together may be 1,000 deep, on both sides."
  (pcase-dolist (`(,prefix ,suffix ,levels)
                 '(("(" ")" 1) ("[" "]" 1) ("'" "" 1) ("#'" "" 1) (",@ " "" 1) ("'(" ")" 2) ("`\u00a0[" "]" 2)
                   ("(a . (" "))" 2) ("('' . (" "))" 2) ("#s(hash-table data (a " "))" 2)
                   ("'#s(hash-table data (a " "))" 3)))
    (let ((text (lambda (count)
                  (concat (mapconcat #'identity (make-list count prefix) "") "a"
                          (mapconcat #'identity (make-list count suffix) "")))))
      ;; The message itself is one level.
      (unless (string-match-p "''" prefix)
        (should (consp (dualstack-epc-scan-test-read (funcall text (/ 999 levels))))))
      (should (string-match-p "deeper than 1000"
                              (dualstack-epc-scan-test-read (funcall text (1+ (/ 1000 levels))))))
      (should (string-match-p "deeper than 1000"
                              (dualstack-epc-scan-test-read (funcall text 100000))))))
  (let ((value 'a))
    (dotimes (_ 20000)
      (setq value (list value)))
    (should (string-match-p "deeper than 1000"
                            (cadr (should-error (dualstack-epc--codec-encode (list 'return 1 value))
                                                :type 'dualstack-epc-unsendable))))))

(ert-deftest dualstack-epc-scan-symbols-are-bounded ()
  "A message brings 10,000 new symbols at most, and no name or number without end."
  (let ((names (lambda (prefix count separator)
                 (concat "(" (mapconcat (lambda (i) (format "%s%d" prefix i))
                                        (number-sequence 1 count) separator)
                         ")"))))
    (should (= 9000 (length (car (dualstack-epc-scan-test-read
                                  (funcall names "dualstack-epc-scan-a" 9000 " "))))))
    (dolist (separator '(" " "\u00a0" " \"text\" 1.5 " " '" "\"\"" " #s(hash-table) "))
      (should (stringp (dualstack-epc-scan-test-read
                        (funcall names "dualstack-epc-scan-b" 20000 separator)))))
    (should (stringp (dualstack-epc-scan-test-read (funcall names "1+" 100000 " "))))
    (should-not (intern-soft "dualstack-epc-scan-b77"))
    ;; The same symbols again and again, old and new, are no harm.
    (should (consp (dualstack-epc-scan-test-read
                    (concat "(" (mapconcat (lambda (i) (format ":name a%d :c b%d" (% i 100) (% i 3000)))
                                           (number-sequence 1 40000) " ")
                            ")")))))
  (dolist (text (list (make-string 1000000 ?7) (make-string 1000000 ?a)
                      (concat "#x" (make-string 1000000 ?f))
                      (concat "(" (mapconcat #'identity (make-list 300000 "'a") " ") ")")))
    (should (stringp (dualstack-epc-scan-test-read text)))))

(ert-deftest dualstack-epc-scan-objects-are-bounded ()
  "A message has about four million objects at most, which hold Emacs for a moment."
  (cl-flet ((scan (count text)
              (condition-case err
                  (not (dualstack-epc--scan
                        (concat "(return 1 (" (apply #'concat (make-list count text)) "))\n")))
                (dualstack-epc--scan-refused (cadr err)))))
    (should-not (scan 1000000 "1 "))
    (let ((dualstack-epc-scan--objects 400000)) ; A tenth, to take less time.
      (pcase-dolist (`(,text ,count) '(("[]" 700000) ("()" 700000) ("1 " 700000) ("\"\"" 700000)
                                       ("1\302\2401 " 350000) ("(a . 1)" 250000) ("1.5 " 400000)))
        (should (equal (scan count text) "more than 400000 objects")))
      (pcase-dolist (`(,text ,count) '(("1 " 200000) ("(a . 1)" 80000) ("1.5 " 60000)
                                       ("\"1 2 3 4 5 6 7 8 9\"" 100000)))
        (should-not (scan count text))))))

(ert-deftest dualstack-epc-scan-keys-are-bounded ()
  "Hash tables have 20,000 keys at most, as all may have one hash."
  (should (= dualstack-epc-scan--keys 20000))
  (let ((dualstack-epc-scan--keys 2000)) ; A tenth, to take less time.
    (cl-flet ((table (from to) (concat "#s(hash-table test equal data ("
                                       (mapconcat (lambda (i) (format "\"k%d\" (1 (b))" i))
                                                  (number-sequence from to) " ")
                                       "))")))
      (should (= 1500 (hash-table-count (car (dualstack-epc-scan-test-read (table 1 1500))))))
      (dolist (text (list (table 1 2001)
                          (replace-regexp-in-string "\" (" "\"\u00a0(" (table 1 2001) t t)
                          (format "(%s %s)" (table 1 1500) (table 1 1500))
                          (format "#s(hash-table data (a %s b %s))" (table 1 1500) (table 1 1500))))
        (should (string-match-p "more than 2000 keys" (dualstack-epc-scan-test-read text))))
      ;; Many small ones are no harm, and what is sent has no limit.
      (should (consp (dualstack-epc-scan-test-read
                      (format "(%s)" (mapconcat #'identity (make-list 1000 (table 1 100)) " ")))))
      (let ((large (make-hash-table)))
        (dotimes (i 3000)
          (puthash i i large))
        (should (dualstack-epc--codec-encode (list 'return 1 large)))))))

(ert-deftest dualstack-epc-scan-takes-little-time ()
  "Looking through 20,000 rows takes no longer than reading them.
Before there was a scan, counting brackets took half of the time to read."
  (let* ((rows (cl-loop for i below 20000
                        collect (list i (format "row %d" i) (list "ok" (format "c%d" (% i 10)))
                                      (* i 1.5))))
         (payload (substring (dualstack-epc--codec-encode (list 'return 1 rows)) 6))
         (time (lambda (function)
                 (garbage-collect)
                 (let ((begin (float-time (get-internal-run-time))))
                   (funcall function)
                   (- (float-time (get-internal-run-time)) begin))))
         (scans nil) (reads nil))
    ;; By turns, and in the processor's time: others may have their share of it.
    (dotimes (_ 9)
      (push (funcall time (lambda () (dualstack-epc--scan payload))) scans)
      (push (funcall time (lambda () (read-from-string payload))) reads))
    (should (< (apply #'min scans) (* 1.5 (apply #'min reads))))))

(defvar read-symbol-shorthands) ; since Emacs 28

(dualstack-deftest dualstack-epc-scan-shorthands-do-not-matter ()
  "Names are read as they were sent, whatever the current buffer abbreviates."
  (with-temp-buffer
    (set (make-local-variable 'read-symbol-shorthands) '(("ds-" . "dualstack-")))
    (should (equal (symbol-name (car (dualstack-epc-scan-test-read "ds-x"))) "ds-x"))))

(ert-deftest dualstack-epc-scan-unsendable ()
  "What would come back as something else is refused, and named."
  (define-hash-table-test 'dualstack-epc-scan-test #'equal #'sxhash-equal)
  (pcase-dolist (`(,reason ,value)
                 `(("uninterned symbol" ,(make-symbol "a"))
                   ("hash table" ,(make-hash-table :test 'dualstack-epc-scan-test))
                   ("hash table" ,(make-hash-table :weakness 'key))
                   ("raw bytes" ,(string-to-multibyte "a\310"))
                   ("circular" ,(let ((list (list 1))) (setcdr list list) list))
                   ("circular" ,(let ((vector (vector 1))) (aset vector 0 vector) vector))))
    (dolist (value (list value (list 1 (vector value))))
      (let ((err (should-error (dualstack-epc--codec-encode (list 'call 1 'f (list 1 value 3)))
                               :type 'dualstack-epc-unsendable)))
        (should (string-match-p (concat "\\`Argument 2 is or has .*" reason) (cadr err))))))
  ;; Code with many quotes is not circular.
  (let ((code (list "#" (make-list 20 ''a))))
    (should (dualstack-epc--codec-encode (list 'call 1 'f (list code))))))

(ert-deftest dualstack-epc-scan-small-messages-are-printed-as-all-are ()
  "What is printed without `prin1' is what that prints, and little is printed so."
  (dolist (message `((call 1 echo (1)) (return 2 nil) (return 2 t) (return 3 "a b [c] ~!#")
                     (call 1 x-2_y (1 -2 nil t "z")) (return ,most-negative-fixnum (""))
                     (return 1 ,(string-to-multibyte "abc"))))
    (let ((text (dualstack-epc-codec--brief message)))
      (should (equal text (dualstack-epc-codec--safe message)))
      (should-not (multibyte-string-p text))))
  (dolist (message `((return 3 "a\"b") (return 3 "a\\b") (return 1 "a\nb") (return 1 "é")
                     (return 1 "\377") (return 1 x) (return 1 'x) (return 1 (1 . 2)) (return 1 . 2)
                     (return 1 [1]) (return 1 1.5) (return 1 ((1))) (return 1 :a) (return "1" 1)
                     (return ,(1+ most-positive-fixnum) 1) (return 1 ,(1+ most-positive-fixnum))
                     (return 1 ,(propertize "x" 'face 'bold)) (return 1 ,(make-string 200 ?x))
                     (return 1 ,(concat "xy" (propertize "z" 'face nil)))
                     (call 1 ,(make-symbol "x") (1)) (call 1 X (1)) (call 1 é (1)) (call 1 nil\  (1))
                     (call 1 "x" (1)) (call 1 x 1 . 2) (call 1 x (1) 2) (call 1 x (1 2 3 4 5 6))
                     (return-error 1 "x") (methods 1) (return 1) (return 1 2 3)))
    (should-not (dualstack-epc-codec--brief message))))

(ert-deftest dualstack-epc-scan-small-random-messages-are-printed-as-all-are ()
  "What is printed without `prin1' is what that prints, whatever characters there are."
  (random "dualstack")
  (let ((printed 0))
    (dotimes (_ 2000)
      (let ((message (dualstack-epc-scan-test-small-message)))
        (when (dualstack-epc-codec--brief message)
          (cl-incf printed)
          (should (equal (dualstack-epc-codec--brief message)
                         (dualstack-epc-codec--safe message))))))
    (should (< 500 printed 2000))))

(defun dualstack-epc-scan-test-small-message ()
  "Return a random small message."
  (let* ((atom (lambda ()
                 (pcase (random 4)
                   (0 (random))
                   (1 nil)
                   (2 t)
                   (_ (apply #'string (cl-loop repeat (random 9) collect (random 140)))))))
         (list (cl-loop repeat (random 6) collect (funcall atom))))
    (if (= 0 (random 2))
        (list 'return (random 999) (funcall atom))
      (list 'call (random 999) 'f list))))

(provide 'dualstack-epc-scan-test)

;;; dualstack-epc-scan-test.el ends here
