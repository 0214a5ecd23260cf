;;; dualstack-epc-wire-test.el --- Tests of what crosses, and of the proof  -*- lexical-binding: t; -*-

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

;; Bytes, frames and values between Emacs and its peers, and the mutual proof.

;;; Code:

(require 'dualstack-epc-helper)

;;;; Bytes

(dualstack-deftest dualstack-epc-frames-split-anywhere ()
  "A frame may be cut anywhere, also inside a character."
  (dualstack-epc-test-with-raw (connection peer)
    (let ((uid 0))
      (dotimes (cut (length (dualstack-epc-test-frame "(return 10 \"aä日🎉\")")))
        (setq uid (1+ uid))
        (let* ((frame (dualstack-epc-test-frame (format "(return %d \"aä日🎉\")" uid)))
               (cut (min cut (length frame)))
               (value nil))
          (dualstack-epc-call-async connection 'x nil :then (lambda (v) (setq value v)))
          (process-send-string peer (substring frame 0 cut))
          (accept-process-output nil 0.001)
          (process-send-string peer (substring frame cut))
          (dualstack-test-wait (lambda () value))
          (should (equal value "aä日🎉")))))))

(dualstack-deftest dualstack-epc-bad-header-closes ()
  "Bytes that are no frame end the connection, and the error says what came."
  (dualstack-epc-test-with-raw (connection peer)
    (run-at-time 0 nil #'process-send-string peer "HTTP/1.1 400 Bad Request\r\n")
    (let ((err (dualstack-epc-test-error (dualstack-epc-call connection 'x nil))))
      (should (eq (car err) 'dualstack-epc-closed))
      (should (string-match-p "HTTP/1" (cadr err))))))

(dualstack-deftest dualstack-epc-unreadable-messages ()
  "What cannot be read ends its call, or gets an error as reply."
  (dualstack-epc-test-with-raw (connection peer)
    (dolist (reply '("(return %d #<buffer x>)" "(return %d 1 2)" "(return %d)" "(return %d (1 . ))"))
      (let ((uid (1+ (dualstack-epc--window--last-uid
                      (dualstack-epc-connection--window connection)))))
        (run-at-time 0 nil #'process-send-string peer
                     (dualstack-epc-test-frame (format reply uid)))
        (should (eq (car (dualstack-epc-test-error
                          (dualstack-epc-call connection 'x nil :timeout 5)))
                    'dualstack-epc-protocol-error))))
    (dualstack-epc-test-received peer 4)
    (process-put peer 'text nil)
    (dolist (request '("(call 5 x (#<x>))" "(call 5 no-such ())" "(call 5)" "(bogus 5)" "(((" "1"))
      (process-send-string peer (dualstack-epc-test-frame request)))
    (let ((replies (dualstack-epc-test-received peer 6)))
      (should (equal (sort (mapcar (lambda (reply) (symbol-name (car reply))) replies) #'string<)
                     '("epc-error" "epc-error" "epc-error" "epc-error" "epc-error"
                       "return-error"))))
    (should (dualstack-epc-live-p connection))))

(dualstack-deftest dualstack-epc-deep-replies-do-not-exhaust-the-stack ()
  "Lists nested too deep are an error, not the end of Emacs."
  (dualstack-epc-test-with-raw (connection peer)
    (run-at-time 0 nil #'process-send-string peer
                 (dualstack-epc-test-frame
                  (concat "(return 1 " (make-string 200000 ?\() (make-string 200000 ?\)) ")")))
    (should (equal (dualstack-epc-test-error (dualstack-epc-call connection 'x nil))
                   '(dualstack-epc-protocol-error x "Unreadable: it has lists nested deeper than 1000")))
    (let ((deep nil))
      (dotimes (_ 150) (setq deep (list deep)))
      (run-at-time 0 nil #'process-send-string peer
                   (dualstack-epc-test-frame (format "(return 2 (%s \"%s\"))" deep
                                                     (make-string 3000 ?\()))))
    (should (equal (cadr (dualstack-epc-call connection 'x nil)) (make-string 3000 ?\()))))

(dualstack-deftest dualstack-epc-unsendable ()
  "What cannot cross is refused before it is sent, and the argument is named."
  (dualstack-epc-test-with-pair (client server `((echo ,(lambda (&rest x) x))))
    (let ((circular (list 1)))
      (setcdr circular circular)
      (dolist (value (list (propertize "x" 'face 'bold) (concat "a" (propertize "x" 'face 'bold))
                           (current-buffer) (copy-marker (point-min)) (list 1 (list (selected-window)))
                           (vector (symbol-function 'car)) circular
                           (dualstack-epc-connection-process client)
                           (make-bool-vector 3 t)))
        (let ((err (dualstack-epc-test-error (dualstack-epc-call client 'echo (list 1 value)))))
          (should (eq (car err) 'dualstack-epc-unsendable))
          (should (string-prefix-p "Argument 2 " (cadr err))))))
    (let ((err (dualstack-epc-test-error
                (dualstack-epc-call client 'echo (list (make-string 16777216 ?x))))))
      (should (string-match-p "\\`A message of 167772[0-9]+ bytes; the protocol allows 16777215\\'" (cadr err)))
      (should (eq (car err) 'dualstack-epc-unsendable)))
    (dolist (value (list "#(not \"properties\")" '\#<x> "#<buffer>" [1 "#"]))
      (should (equal (dualstack-epc-call client 'echo (list value)) (list value))))
    (should (= 0 (hash-table-count (dualstack-epc--pending client))))))

(defvar print-integers-as-characters) ; since Emacs 29

(dualstack-deftest dualstack-epc-printing-options-do-not-matter ()
  "Whatever the user has set for printing, values cross whole."
  (dualstack-epc-test-with-pair (client server `((echo ,(lambda (x) x))))
    (let ((print-length 1) (print-level 1) (print-escape-newlines t) (print-quoted nil)
          (print-circle t) (float-output-format "%.1f") (print-escape-multibyte t)
          (print-integers-as-characters t)
          (value (let ((shared (list 1 2))) (list shared shared 1.23456 "a\nä" ''x '(3 (4 (5))) ?a))))
      (should (equal (dualstack-epc-call client 'echo (list value)) value)))))

;;;; Values

(defun dualstack-epc-test-random (depth)
  "Return a random value, nested up to DEPTH."
  (pcase (random (if (> depth 0) 16 11))
    (0 nil) (1 t) (2 (- (random 2000) 1000)) (3 (- (random most-positive-fixnum)))
    (4 (* (expt 7 (random 300)) (if (= 0 (random 2)) 1 -1)))
    (5 (/ (- (random 2000000) 1000000) 997.0)) (6 (nth (random 3) '(1.0e+INF -1.0e+INF -0.0)))
    (7 (apply #'string (cl-loop repeat (random 12)
                                collect (nth (random 12) '(?a ?\" ?\\ ?\n ?\0 ?\t ?\r ?ä ?日 ?🎉 ?\; ?#)))))
    (8 (apply #'unibyte-string 200 (cl-loop repeat (random 6) collect (random 256))))
    (9 (intern (apply #'string ?s (cl-loop repeat (random 5)
                                           collect (nth (random 11) '(?a ?- ?: ?\s ?\" ?\\ ?' ?\( ?ä ?# ??))))))
    (10 (intern (nth (random 8) '(":key" "12" "1.5" "-" "1+" "" "?a" "a.b"))))
    (11 (apply #'vector (cl-loop repeat (random 4) collect (dualstack-epc-test-random (1- depth)))))
    (12 (cons (dualstack-epc-test-random (1- depth)) (random 100)))
    (13 (let ((table (make-hash-table :test 'equal)))
          (dotimes (i (random 3))
            (puthash (format "k%d" i) (dualstack-epc-test-random (1- depth)) table))
          table))
    (_ (cl-loop repeat (random 5) collect (dualstack-epc-test-random (1- depth))))))

(dualstack-deftest dualstack-epc-10000-values-cross ()
  "Random values come back from Python as they were."
  (random "dualstack")
  (dualstack-epc-test-with-python (connection "f(lambda x: x, 'same')\n")
    (dotimes (_ 100)
      (let* ((values (cl-loop repeat 100 collect (dualstack-epc-test-random 4)))
             (same (dualstack-epc-call connection 'same (list values))))
        (unless (dualstack-epc-test-equal values same)
          (cl-loop for a in values for b in same
                   unless (dualstack-epc-test-equal a b)
                   do (ert-fail (list a b))))))))

(dualstack-deftest dualstack-epc-values-that-cannot-cross ()
  "What Python cannot hold is an error of ours or of Python, and the connection lives."
  (dualstack-epc-test-with-python (connection "")
    (dolist (value (list (string ?ä (unibyte-char-to-multibyte 200)) (string #x110000)
                         (string #xd800)))
      (should (memq (car (dualstack-epc-test-error
                          (dualstack-epc-call connection 'echo (list value))))
                    '(dualstack-epc-remote-error dualstack-epc-unsendable))))
    (should (equal (dualstack-epc-call connection 'echo '(1)) '(1)))))

;;;; Proof

(defun dualstack-epc-test-python-hmac (key text)
  "Return Python's HMAC-SHA256 of TEXT by KEY."
  (with-temp-buffer
    (call-process dualstack-test-python nil t nil "-c"
                  "import hmac, sys; print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), 'sha256').hexdigest(), end='')"
                  key text)
    (buffer-string)))

(dualstack-deftest dualstack-epc-hmac ()
  "HMAC-SHA256 is that of RFC 4231, sections 4.2 and 4.3."
  (should (equal (dualstack-epc-auth--hmac (make-string 20 11) "Hi There")
                 "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"))
  (should (equal (dualstack-epc-auth--hmac "Jefe" "what do ya want for nothing?")
                 "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))
  (should (equal (dualstack-epc-auth--hmac (make-string 131 ?k) "long")
                 (dualstack-epc-test-python-hmac (make-string 131 ?k) "long"))))

(dualstack-deftest dualstack-epc-impostor ()
  "An impostor at the other family's port gets no call."
  (dualstack-test-with-child (child dualstack-test-python "-m" "dualstack_epc" "serve"
                                    "--auth" "--family" "ipv6")
    (let ((port (dualstack-test-child-port child)) heard)
      (dualstack-test-with-servers
          ((impostor 'ipv4 :service port :coding 'binary
                      :filter (lambda (process text)
                                (setq heard (concat heard text))
                                (process-send-string
                                 process (dualstack-epc-test-frame
                                          "(return 1 (\"abc\" \"def\"))")))))
        (let ((err (dualstack-epc-test-error
                    (dualstack-epc-connect "localhost" port :token "secret"))))
          (should (eq (car err) 'dualstack-epc-auth-error))
          (should (string-match-p "\\`[0-9a-f]\\{6\\}(call 1 dualstack-auth (\"[0-9a-f]+\"))\n\\'"
                                  heard)))))))

(provide 'dualstack-epc-wire-test)

;;; dualstack-epc-wire-test.el ends here
