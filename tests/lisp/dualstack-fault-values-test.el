;;; dualstack-fault-values-test.el --- Values cross, or are refused  -*- lexical-binding: t; -*-

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

;; 4,000 random values each way, 200,000 with `make fault': each comes back as
;; it was, or as the README says, or is refused.

;;; Code:

(require 'dualstack-epc-helper)

(defvar dualstack-fault-values-count
  (let ((times (string-to-number (or (getenv "DUALSTACK_FAULT_TIMES") "1"))))
    (if (> times 1) (* 20000 times) 4000))
  "How many values are sent each way.")

(defun dualstack-fault-values-atom ()
  "Return a random value without parts."
  (pcase (random 12)
    (0 nil) (1 t) (2 (- (random 2000) 1000)) (3 (- (random most-positive-fixnum)))
    (4 (* (expt 7 (random 300)) (if (= 0 (random 2)) 1 -1)))
    (5 (/ (- (random 2000000) 1000000) 997.0))
    (6 (nth (random 6) '(1.0e+INF -1.0e+INF -0.0 0.0 0.0e+NaN -0.0e+NaN)))
    ((or 7 8) (apply #'string (cl-loop repeat (random 12)
                                       collect (seq-elt "ab\"\\\n\0\t\r;#'`,?()[]. ä日🎉\u0085\u00a0\u1680\u2028\u3000\177"
                                                        (random 29)))))
    (9 (apply #'unibyte-string (cl-loop repeat (random 6) collect (random 256))))
    (10 (intern (nth (random 12) '(":key" "12" "1.5" "-" "1+" "" "?a" "a.b" "." "#" "a#b" "-1.0e+NaN"))))
    ;; A thousand names, as they stay.
    (_ (let ((seed (random 1000)))
         (intern (concat (list (seq-elt "ab:-s\"\\' (#?" (% seed 12))
                               (seq-elt "äx?#;.\u0085\u00a0\u1680\u2028\u2029\u3000" (/ seed 84)))))))))

(defun dualstack-fault-values-odd ()
  "Return a value that cannot cross, or cannot always."
  (pcase (random 12)
    (0 (propertize "x" 'face 'bold)) (1 (string-to-multibyte "\310")) (2 (string ?ä #x3fffc8))
    (3 (make-symbol "u")) (4 (make-bool-vector 3 t)) (5 (current-buffer)) (6 (symbol-function 'car))
    (7 (make-hash-table :weakness 'key)) (8 (string #xd800)) (9 (string #x110000))
    (10 (let ((list (list 1))) (setcdr list list)))
    (_ (let ((value 1)) (dotimes (_ 1500) (setq value (list value))) value))))

(defun dualstack-fault-values-random (depth)
  "Return a random value, nested up to DEPTH."
  (pcase (if (> depth 0) (random 12) 0)
    (6 (apply #'vector (cl-loop repeat (random 4) collect (dualstack-fault-values-random (1- depth)))))
    (7 (cons (dualstack-fault-values-random (1- depth)) (dualstack-fault-values-atom)))
    (8 (let ((table (make-hash-table :test (nth (random 3) '(eq eql equal)))))
         (dotimes (_ (random 4))
           (puthash (dualstack-fault-values-atom) (dualstack-fault-values-random (1- depth)) table))
         table))
    (9 (list (nth (random 5) '(quote function \` \, \,@)) (dualstack-fault-values-random (1- depth))))
    ((or 10 11) (cl-loop repeat (random 5) collect (dualstack-fault-values-random (1- depth))))
    (_ (if (= 0 (random 200)) (dualstack-fault-values-odd) (dualstack-fault-values-atom)))))

(defun dualstack-fault-values-same-p (a b)
  "Return non-nil if A and B are the same, also as to hash tables in them."
  (cond ((and (consp a) (consp b))
         (and (dualstack-fault-values-same-p (car a) (car b))
              (dualstack-fault-values-same-p (cdr a) (cdr b))))
        ((and (vectorp a) (vectorp b))
         (dualstack-fault-values-same-p (append a nil) (append b nil)))
        ((and (hash-table-p a) (hash-table-p b))
         (let (x y)
           (maphash (lambda (key value) (push (list key value) x)) a)
           (maphash (lambda (key value) (push (list key value) y)) b)
           (and (eq (hash-table-test a) (hash-table-test b))
                (dualstack-fault-values-same-p x y))))
        ((and (floatp a) (floatp b))
         (or (eql a b) (and (isnan a) (isnan b))))
        ((and (stringp a) (stringp b))
         (and (equal a b) (eq (multibyte-string-p a) (multibyte-string-p b))))
        (t (equal a b))))

(defun dualstack-fault-values-send (connection values)
  "Send VALUES over CONNECTION; return how many were refused.
Signal an error for one that comes back as another."
  (let ((same (condition-case err
                  (list (dualstack-epc-call connection 'same (list values)))
                ((dualstack-epc-unsendable dualstack-epc-remote-error)
                 (unless (stringp (car (last err)))
                   (error "An error without a reason: %S" err))
                 nil))))
    (cond (same
           (cl-mapc (lambda (a b)
                      (unless (dualstack-fault-values-same-p a b)
                        (error "%S came back as %S" a b)))
                    values (car same))
           0)
          ((cdr values)
           (let ((half (/ (length values) 2)))
             (+ (dualstack-fault-values-send connection (cl-subseq values 0 half))
                (dualstack-fault-values-send connection (nthcdr half values)))))
          (t 1))))

(dualstack-deftest dualstack-fault-values-of-emacs ()
  "What Emacs prints comes back from Python as it was, or is refused."
  (random "dualstack")
  (dualstack-epc-test-with-python (connection "f(lambda x: x, 'same')\n")
    (let ((refused 0))
      (dotimes (_ (/ dualstack-fault-values-count 50))
        (cl-incf refused
                 (dualstack-fault-values-send
                  connection (cl-loop repeat 50 collect (dualstack-fault-values-random 4)))))
      (message "%d values, %d of them refused" dualstack-fault-values-count refused)
      (should (< 0 refused (/ dualstack-fault-values-count 5)))
      (should (equal (dualstack-epc-call connection 'same '(1)) 1)))))

(dualstack-deftest dualstack-fault-values-of-python ()
  "What Python sends comes back from Emacs by the table, or is refused."
  (dualstack-epc-test-with-pair (client server `((same ,#'identity)))
    (let* ((output "")
           (port (process-contact (dualstack-epc-connection-process client) :service))
           (python (make-process
                    :name "crossings" :connection-type 'pipe :noquery t :sentinel #'ignore
                    :filter (lambda (_process text) (setq output (concat output text)))
                    :command (list dualstack-test-python "tests/support/crossings.py"
                                   (number-to-string port)
                                   (number-to-string dualstack-fault-values-count) "1"))))
      (dualstack-test-wait (lambda () (not (process-live-p python)))
                           (max 60 (/ dualstack-fault-values-count 200)))
      (message "%s" output)
      (should (string-match-p "\\`[0-9]+ crossed, [0-9]+ refused\n\\'" output)))))

(provide 'dualstack-fault-values-test)

;;; dualstack-fault-values-test.el ends here
