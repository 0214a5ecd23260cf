;;; dualstack-epc-helper.el --- Peers for the tests of EPC  -*- lexical-binding: t; -*-

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

;; Both ends in this Emacs, an end that sends what it is told, and a server in
;; Python.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-epc)
(require 'dualstack-epc-connect)
(require 'dualstack-epc-serve)

(defmacro dualstack-epc-test-with-pair (bindings &rest body)
  "Run BODY with two ends of a connection of this Emacs to itself.
BINDINGS is (CLIENT SERVER METHODS)."
  (declare (indent 1) (debug ((symbolp symbolp form) body)))
  (let ((servers (make-symbol "servers")))
    `(let* (,(cadr bindings)
            (,servers (dualstack-epc-serve
                       :methods ,(nth 2 bindings)
                       :on-connect (lambda (connection)
                                     (setq ,(cadr bindings) connection))))
            (,(car bindings) (dualstack-epc-connect
                              "localhost" (process-contact (car ,servers) :service))))
       (unwind-protect
           (progn
             (dualstack-test-wait (lambda () ,(cadr bindings)))
             ,@body)
         (dualstack-epc-close ,(car bindings))
         (when ,(cadr bindings)
           (dualstack-epc-close ,(cadr bindings)))
         (mapc #'delete-process ,servers)))))

(defmacro dualstack-epc-test-with-raw (bindings &rest body)
  "Run BODY with a connection whose other end is a plain process.
BINDINGS is (CONNECTION PROCESS); PROCESS keeps what arrives in its property
`text'."
  (declare (indent 1) (debug ((symbolp symbolp) body)))
  (let ((server (make-symbol "server")))
    `(let (,(cadr bindings))
       (dualstack-test-with-servers
           ((,server 'ipv4 :coding 'binary
                     :filter (lambda (process text)
                               (process-put process 'text
                                            (concat (process-get process 'text) text)))
                     :log (lambda (_server client _message)
                            (setq ,(cadr bindings) client))))
         (let ((,(car bindings) (dualstack-epc-connect
                                 "localhost" (dualstack-test-port ,server))))
           (unwind-protect
               (progn
                 (dualstack-test-wait (lambda () ,(cadr bindings)))
                 ,@body)
             (dualstack-epc-close ,(car bindings))))))))

(defun dualstack-epc-test-frame (text)
  "Return TEXT as a frame."
  (let ((payload (encode-coding-string (concat text "\n") 'utf-8-unix)))
    (concat (format "%06x" (length payload)) payload)))

(defun dualstack-epc-test-received (process count)
  "Wait until PROCESS has received COUNT frames, and return what it has."
  (dualstack-test-wait
   (lambda ()
     (let ((text (or (process-get process 'text) ""))
           (found nil))
       (while (and (>= (length text) 6)
                   (>= (length text) (+ 6 (string-to-number (substring text 0 6) 16))))
         (let ((end (+ 6 (string-to-number (substring text 0 6) 16))))
           (push (car (read-from-string (decode-coding-string (substring text 6 end) 'utf-8)))
                 found)
           (setq text (substring text end))))
       (and (>= (length found) count) (nreverse found))))))

(defmacro dualstack-epc-test-error (&rest body)
  "Run BODY and return the error that it signals, or nil."
  `(condition-case err (progn ,@body nil) (dualstack-epc-error err)))

(defmacro dualstack-epc-test-with-python (bindings &rest body)
  "Run BODY with a connection to a Python server of ours.
BINDINGS is (CONNECTION CODE), CODE being Python that defines functions."
  (declare (indent 1) (debug ((symbolp form) body)))
  `(dualstack-test-with-child
       (child dualstack-test-python "-c"
              (concat "from dualstack_epc.drop_in.server import DualStackEPCServer\n"
                      "server = DualStackEPCServer()\n"
                      "f = server.register_function\n"
                      "f(lambda *a: a, 'echo')\n" ,(cadr bindings)
                      "\nserver.print_port()\nserver.serve_forever()\n"))
     (let ((,(car bindings) (dualstack-epc-connect
                             "localhost" (dualstack-test-child-port child))))
       (unwind-protect
           (progn ,@body)
         (dualstack-epc-close ,(car bindings))))))

(provide 'dualstack-epc-helper)

;;; dualstack-epc-helper.el ends here
