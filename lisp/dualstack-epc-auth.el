;;; dualstack-epc-auth.el --- Mutual proof of a shared token  -*- lexical-binding: t; -*-

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

;; Any user of this machine can connect to a loopback port, or listen at one.
;; So both ends of a connection prove that they know a token, which the sidecar
;; has handed to Emacs over its own pipe:
;;
;; 1. `dualstack-auth' is called with (CLIENT-NONCE) and returns (SERVER-NONCE
;;    PROOF), PROOF being the HMAC-SHA256 (RFC 2104) by the token of
;;    "server:CLIENT-NONCE:SERVER-NONCE:PLACE".
;; 2. That is checked, and `dualstack-prove' called with the HMAC-SHA256 of
;;    "client:SERVER-NONCE:CLIENT-NONCE:PLACE".  It returns t.
;;
;; PLACE is HOST:PORT, the address that the client has dialled and at which the
;; server was reached.  A program that listens elsewhere and passes the proofs
;; on to the server convinces neither, as they come from another place.  Where
;; the two addresses differ for a reason, both ends name the same label.
;;
;; Nothing worth having is sent before the server has proved itself.

;;; Code:

(require 'cl-lib)
(require 'dualstack-epc-codec)

(define-error 'dualstack-epc-auth-error "EPC peer is not who it should be"
  'dualstack-epc-error)

;; What holds a token may be printed, by an error or a debugger.
(defun dualstack-epc--auth-seal (token)
  "Return a symbol that prints without TOKEN, a string, which is its value.
Return nil if TOKEN is."
  (and token
       (let ((sealed (make-symbol "token")))
         (set sealed token)
         sealed)))

(defun dualstack-epc--auth-token (sealed)
  "Return the token that SEALED was made of, or nil if that is."
  (symbol-value sealed))

(defun dualstack-epc--auth-answer (token nonce reply place)
  "Return the client's proof by TOKEN, if REPLY to NONCE proves the server.
NONCE is what `dualstack-auth' was called with, REPLY the value, and PLACE as
`dualstack-epc--auth-place' returns it.  Signal `dualstack-epc-auth-error' if
the server does not know TOKEN."
  (let ((other (car-safe reply))
        (proof (car-safe (cdr-safe reply))))
    (unless (and (stringp other) (stringp proof)
                 (dualstack-epc--auth-equal
                  proof (dualstack-epc--auth-proof token "server" nonce other place)))
      (signal 'dualstack-epc-auth-error
              '("The server has not proved itself: it may be another program")))
    (dualstack-epc--auth-proof token "client" other nonce place)))

(defun dualstack-epc--auth-place (process side label)
  "Return what a proof over PROCESS is bound to: LABEL, or else an address.
SIDE is `:remote' for the address that was dialled, `:local' for the one that
was reached."
  (or label
      (let* ((address (process-contact process side))
             (last (and (vectorp address) (1- (length address)))))
        (if last
            (format "%s:%d"
                    (dualstack-epc-auth--host (append (substring address 0 last) nil))
                    (aref address last))
          ""))))

(defun dualstack-epc-auth--host (numbers)
  "Return the four or eight NUMBERS of an address as one writes it (RFC 5952)."
  (if (= (length numbers) 4)
      (mapconcat #'number-to-string numbers ".")
    (let* ((text (concat ":" (mapconcat (lambda (number) (format "%x" number)) numbers ":") ":"))
           (found (cl-loop for count from 8 downto 2
                           thereis (string-match
                                    (concat ":" (mapconcat #'identity (make-list count "0:") ""))
                                    text))))
      (when found
        (setq text (concat (substring text 0 found) "::" (substring text (match-end 0)))))
      (replace-regexp-in-string "\\`:\\([^:]\\)\\|\\([^:]\\):\\'" "\\1\\2" text))))

(defun dualstack-epc--auth-nonce ()
  "Return 32 hexadecimal digits that nobody can foresee."
  (substring
   (secure-hash 'sha256
                (concat (format "%S %S %S" (random most-positive-fixnum)
                                (current-time) (emacs-pid))
                        (ignore-errors
                          (with-temp-buffer
                            (set-buffer-multibyte nil)
                            (insert-file-contents-literally "/dev/urandom" nil 0 32)
                            (secure-hash 'sha256 (current-buffer))))))
   0 32))

(defun dualstack-epc--auth-proof (token side first second place)
  "Return the proof by TOKEN of SIDE, \"server\" or \"client\".
FIRST and SECOND are the nonces; PLACE is what the proof is bound to."
  (dualstack-epc-auth--hmac token (concat side ":" first ":" second ":" place)))

(defun dualstack-epc-auth--hmac (key text)
  "Return the HMAC-SHA256 of TEXT by KEY in hexadecimal (RFC 2104).
Emacs has it by itself only where it was built with GnuTLS."
  (let* ((key (encode-coding-string key 'utf-8-unix))
         (key (if (> (length key) 64) (secure-hash 'sha256 key nil nil t) key))
         (block (concat key (make-string (- 64 (length key)) 0)))
         (pad (lambda (byte)
                (apply #'unibyte-string
                       (mapcar (lambda (char) (logxor char byte)) block)))))
    (secure-hash 'sha256
                 (concat (funcall pad #x5c)
                         (secure-hash 'sha256
                                      (concat (funcall pad #x36)
                                              (encode-coding-string text 'utf-8-unix))
                                      nil nil t)))))

(defun dualstack-epc--auth-equal (given expected)
  "Return non-nil if the strings GIVEN and EXPECTED are equal.
The time this takes does not tell where they differ."
  (and (= (length given) (length expected))
       (let ((difference 0))
         (dotimes (i (length expected))
           (setq difference (logior difference
                                    (logxor (aref given i) (aref expected i)))))
         (= difference 0))))

(provide 'dualstack-epc-auth)

;;; dualstack-epc-auth.el ends here
