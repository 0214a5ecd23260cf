;;; compare-streams.el --- Time calls over a socket, a pipe and a pty  -*- lexical-binding: t; -*-

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

;; Run by compare.py.  The pty is raw, as TRAMP's is without direct processes.

;;; Code:

(require 'dualstack-sidecar)
(require 'compare-epc)

(defun dualstack-compare-streams--connect (kind module)
  "Return a connection over KIND, a string, to a server with MODULE, a file."
  (if (equal kind "pty")
      (let ((process-adaptive-read-buffering nil))
        (dualstack-epc-attach
         (make-process
          :name "pty" :connection-type 'pty :noquery t :coding 'binary
          :command `("sh" "-c" "stty raw -echo; exec \"$@\" 2>/dev/null" "sh"
                     ,@(dualstack-sidecar--program) "serve" "--stdio" ,module))))
    (dualstack-sidecar-connection
     (dualstack-sidecar-start :modules (list module) :transport (intern kind) :wait t))))

(defun dualstack-compare-streams (kind module)
  "Print the samples of calls over KIND of the functions in MODULE, as JSON."
  (let* ((connection (dualstack-compare-streams--connect kind module))
         (call (lambda (method &rest args)
                 (dualstack-epc-call connection method args :timeout 300)))
         (result (list (cons "small call"
                             (dualstack-compare--sample (lambda () (funcall call 'echo 1)))))))
    (dolist (size '(1000 15000))
      (let ((text (make-string (* 1000 size) ?x)))
        (pcase-dolist (`(,to ,method ,argument) `(("Emacs" text ,(* 1000 size))
                                                  ("Python" count ,text)))
          (push (cons (format "%d KB to %s" size to)
                      (dualstack-compare--sample
                       (lambda () (funcall call method argument))))
                result))))
    (princ (json-encode (nreverse result))))
  (kill-emacs 0))

(provide 'compare-streams)

;;; compare-streams.el ends here
