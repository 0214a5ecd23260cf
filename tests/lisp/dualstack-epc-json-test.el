;;; dualstack-epc-json-test.el --- Tests of messages in JSON  -*- lexical-binding: t; -*-

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

;; What crosses as JSON is what an S-expression would bring, and no other peer
;; gets to see any.  Before Emacs 30, which uses none, the same values cross as
;; S-expressions.

;;; Code:

(require 'dualstack-epc-helper)

(defconst dualstack-epc-json-test-server "
import enum, random
from collections import namedtuple
from dualstack_epc.drop_in.lisp import SEXPDATA as TYPES
from dualstack_epc.wire import printer, reader
from dualstack_epc.wire.errors import SendError
from dualstack_epc.wire.lisp import Cons, HashTable, Quoted, Symbol, Vector
r = random.Random(17)
class Name(str): pass
class Whole(int): pass
class Real(float): pass
class Items(list): pass
class Level(enum.IntEnum): ONE = 1
Point = namedtuple('Point', 'x y')
CHARACTERS = 'ab1 \\\\\"\\n\\t\\r\\x00\\x1f\\x7f{}[](),.:;#?\\'äß日🎉\\x85\\xa0\\u2028\\ufeff\\U0010ffff'
def text():
    return ''.join(r.choices(CHARACTERS, k=r.randrange(12)))
def plain(depth):
    kind = r.randrange(9 if depth else 7)
    if kind < 2: return text()
    if kind == 2: return r.choice([0, 1, -1, 2**61, -2**61 - 1, 2**64, 10**30, r.randrange(10**6)])
    if kind == 3: return r.choice([0.0, -0.0, 1.5, 1e16, 1e22, 5e-324, 1.7976931348623157e308, r.random()])
    if kind < 7: return r.choice([True, False, None, [], ()])
    return [plain(depth - 1) for _ in range(r.randrange(6))]
def special():
    return r.choice([
        Name('n'), Whole(3), Real(2.5), Items([1]), Level.ONE, Point(1, [2]), Symbol('null'),
        Symbol(':null'), Vector([1, 'a']), Cons(1, 2), Quoted(1), HashTable({'a': 1}), {'a': 1},
        {'a': {}, ':b': []}, b'abc\\xff', bytearray(b'x'), {1}, float('inf'), -float('inf'), 10**5000,
        '9' * 30000, range(3)])
def items():
    value = [plain(3) for _ in range(r.choice([3, 20, 60]))]
    if r.random() < 0.4:
        r.choice([value, *(x for x in value if type(x) is list)]).append(special())
    return value
def sample():
    global last
    value = items()
    last = printer.to_sexp(value)
    return value
f(sample)
f(lambda: last, 'as_text')
def check(value, text):
    ours, theirs = repr(value), repr(reader.read(text, TYPES))
    return ours == theirs or next((ours[max(0, i - 30):i + 30], theirs[max(0, i - 30):i + 30])
        for i in range(len(ours)) if ours[i] != theirs[i:i + 1])
f(check)
f(lambda depth: eval('[' * depth + ']' * depth) and [1] * 20 + eval('[' * depth + ']' * depth), 'deep')
f(lambda: [['\\ud800']] * 20, 'lone')
"
  "Python that makes values which JSON carries, and which it does not.")

(defmacro dualstack-epc-json-test-counting (counts &rest body)
  "Run BODY, with the conses COUNTS counting messages in JSON: (SENT . READ)."
  (declare (indent 1) (debug (symbolp body)))
  `(let ((count-sent (lambda (payload) (when payload (cl-incf (car ,counts))) payload))
         (count-read (lambda (message) (cl-incf (cdr ,counts)) message)))
     (advice-add 'dualstack-epc--json-payload :filter-return count-sent)
     (advice-add 'dualstack-epc--json-read :filter-return count-read)
     (unwind-protect (progn ,@body)
       (advice-remove 'dualstack-epc--json-payload count-sent)
       (advice-remove 'dualstack-epc--json-read count-read))))

(defun dualstack-epc-json-test-plain (depth)
  "Return a random value that JSON carries, nested up to DEPTH."
  (pcase (random (if (> depth 0) 9 7))
    ((or 0 1) (apply #'string (cl-loop repeat (random 12)
                                       collect (nth (random 16) '(?a ?\s ?\" ?\\ ?\n ?\0 ?\t ?{ ?\] ?\( ?, ?ä ?日 ?🎉 #x10ffff 127)))))
    (2 (nth (random 5) (list 0 -1 most-positive-fixnum most-negative-fixnum (random 1000000))))
    (3 (nth (random 6) '(0.0 -0.0 1.5 1e16 1e22 5e-324)))
    ((or 4 5 6) (nth (random 2) '(nil t)))
    (_ (cl-loop repeat (random 6) collect (dualstack-epc-json-test-plain (1- depth))))))

(defun dualstack-epc-json-test-special ()
  "Return a random value that JSON would change."
  (nth (random 16)
       (list 'null :null 'nil-x [1 "a"] '(1 . 2) '(:a 1) '(("a" . 1)) ''x "\377\0" (expt 7 100)
             1.0e+INF 0.0e+NaN (intern "") (make-string 30000 ?9) (number-to-string (expt 2 62))
             (let ((table (make-hash-table :test 'equal))) (puthash "a" nil table) table))))

(defun dualstack-epc-json-test-items ()
  "Return a long list, in which there may be one thing that JSON would change."
  (let ((items (cl-loop repeat (nth (random 3) '(3 60 90))
                        collect (dualstack-epc-json-test-plain 3))))
    (if (= 0 (random 3)) (append items (list (list 1 (dualstack-epc-json-test-special)))) items)))

(dualstack-deftest dualstack-epc-json-is-what-s-expressions-are ()
  "Random values come as from an S-expression, both ways, and many do cross as JSON."
  (random "dualstack")
  (dualstack-epc-test-with-python (connection dualstack-epc-json-test-server)
    (let ((counts (cons 0 0)) value)
      (dualstack-epc-call connection 'echo nil) ; Each end knows the other one.
      (dualstack-epc-json-test-counting counts
        (dotimes (_ 400)
          (setq value (dualstack-epc-call connection 'sample nil))
          (should (dualstack-epc-test-equal
                   value (car (read-from-string (dualstack-epc-call connection 'as_text nil)))))
          (setq value (dualstack-epc-json-test-items))
          (should (eq t (dualstack-epc-call
                         connection 'check
                         (list value (decode-coding-string (dualstack-epc-codec--safe value)
                                                           'utf-8)))))))
      (if (dualstack-epc--json-used-p)
          (should (and (> (car counts) 100) (> (cdr counts) 100)))
        (should (equal counts '(0 . 0))))
      (dualstack-epc-json-test-refused connection))))

(defun dualstack-epc-json-test-refused (connection)
  "Check that CONNECTION refuses the same as with S-expressions."
  (should (equal (length (dualstack-epc-call connection 'deep '(90))) 21))
  (dolist (call '((deep 990) (lone)))
    (condition-case err
        (dualstack-epc-call connection (car call) (cdr call))
      (dualstack-epc-remote-error
       (should (string-match-p "nested deeper\\|too many nested\\|surrogate\\|RecursionError" (nth 2 err))))))
  (dolist (value (list (propertize "x" 'face 'bold) (string #xd800) (string #x110000)))
    (should (eq (car (dualstack-epc-test-error
                      (dualstack-epc-call connection 'echo (list (cons value (make-list 60 1))))))
                'dualstack-epc-unsendable)))
  (should (equal (dualstack-epc-call connection 'echo '(1)) '(1))))

;; S-expressions take two to ten times as long, most where not all is ASCII.
(dualstack-deftest dualstack-epc-json-carries-long-strings ()
  "A long string, also in a list, crosses as JSON where that is used, both ways, as it is."
  (dualstack-epc-test-with-python (connection "f(lambda text: text, 'as_it_is')")
    (dualstack-epc-call connection 'echo nil)
    (dolist (text (list (make-string 5000 ?x) (make-string 3000 ?日) (make-string 4000 ?{)
                        (string-join (make-list 500 "a\"\\\n\0é{[]}) "))))
      (dolist (value (list text (list 1 text)))
        (let ((counts (cons 0 0)))
          (dualstack-epc-json-test-counting counts
            ;; Not printed, as it is long.
            (should (eq t (equal (dualstack-epc-call connection 'as_it_is (list value)) value))))
          (should (equal counts (if (dualstack-epc--json-used-p) '(1 . 1) '(0 . 0)))))))))

(dualstack-deftest dualstack-epc-json-carries-no-bytes ()
  "Long strings that JSON does not carry cross as before, or are refused as before."
  (dualstack-epc-test-with-python (connection "f(lambda text: [text, type(text).__name__], 'typed')")
    (dualstack-epc-call connection 'echo nil)
    (let ((counts (cons 0 0)))
      (dualstack-epc-json-test-counting counts
        (dolist (bytes (list (apply #'unibyte-string (make-list 5000 255))
                             (encode-coding-string (make-string 3000 ?é) 'utf-8)))
          (pcase-let ((`(,value ,type) (dualstack-epc-call connection 'typed (list bytes))))
            (should (equal type "bytes"))
            (should-not (multibyte-string-p value))
            (should (string= value bytes))))
        (dolist (text (list (propertize (make-string 2000 ?x) 'face 'bold)
                            (string-to-multibyte (apply #'unibyte-string (make-list 2000 255)))
                            (concat (make-string 2000 ?é) (string #xd800))
                            (concat (make-string 2000 ?x) (string #x110000))))
          (should (eq (car (dualstack-epc-test-error
                            (dualstack-epc-call connection 'echo (list text))))
                      'dualstack-epc-unsendable)))
        (should (string= (car (dualstack-epc-call connection 'echo (list (make-string 40000 ?9))))
                         (make-string 40000 ?9))))
      ;; Emacs need not be spared a long number.
      (should (equal counts (if (dualstack-epc--json-used-p) '(1 . 0) '(0 . 0)))))))

(dualstack-deftest dualstack-epc-json-malformed-ends-its-call ()
  "JSON that is no message is an error like any other, whatever it has in it."
  (dualstack-epc-test-with-raw (connection peer)
    (dolist (text (list "[\"return\",%d,{\"a\":1}]" "[\"return\",%d,[1,]" "[\"return\",%d]" "[\"return\",%d,1,2]"
                        "[\"return\",%d,NaN]" "[\"return\",%d,\"\\ud800\"]" "[\"return\",%d,1] x"
                        (concat "[\"return\",%d," (make-string 20000 ?\[) (make-string 20000 ?\]) "]")
                        (concat "[\"return\",%d," (make-string 50000 ?9) "]")))
      (let ((uid (1+ (dualstack-epc--window--last-uid
                      (dualstack-epc-connection--window connection)))))
        (run-at-time 0 nil #'process-send-string peer
                     (dualstack-epc-test-frame (format text uid)))
        (should (eq (car (dualstack-epc-test-error
                          (dualstack-epc-call connection 'x nil :timeout 20)))
                    'dualstack-epc-protocol-error))))
    (should (dualstack-epc-live-p connection))))

(dualstack-deftest dualstack-epc-json-is-not-shown-to-others ()
  "A peer that has said nothing of JSON gets S-expressions, long lists too."
  (dualstack-epc-test-with-raw (connection peer)
    (dolist (margin '("" "\t"))
      (run-at-time 0 nil #'process-send-string peer
                   (dualstack-epc-test-frame
                    (format "(return %d t)%s\n"
                            (1+ (dualstack-epc--window--last-uid
                                 (dualstack-epc-connection--window connection)))
                            margin)))
      (dualstack-epc-call connection 'x (list (make-list 100 1)) :timeout 20)
      (process-put peer 'text nil)
      (dualstack-epc-call-async connection 'x (list (make-list 100 1)))
      (should (equal (car (car (dualstack-epc-test-received peer 1))) 'call)))))

(provide 'dualstack-epc-json-test)

;;; dualstack-epc-json-test.el ends here
