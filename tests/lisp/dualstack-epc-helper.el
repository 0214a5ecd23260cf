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

(defvar dualstack-epc-test-transport 'socket
  "What connections of tests run over, `socket' or `pipe'.")

(defmacro dualstack-epc-test-with-pair (bindings &rest body)
  "Run BODY with two ends of a connection of this Emacs to itself.
BINDINGS is (CLIENT SERVER METHODS)."
  (declare (indent 1) (debug ((symbolp symbolp form) body)))
  (let ((end (make-symbol "end")))
    `(pcase-let ((`(,,(car bindings) ,,(cadr bindings) ,,end)
                  (dualstack-epc-test-pair ,(nth 2 bindings))))
       (unwind-protect
           (progn ,@body)
         (dualstack-epc-close ,(car bindings))
         (when ,(cadr bindings)
           (dualstack-epc-close ,(cadr bindings)))
         (funcall ,end)))))

(defun dualstack-epc-test-pair (methods)
  "Return two ends of a connection of this Emacs to itself, and what ends more.
METHODS is what the first one can call."
  (if (eq dualstack-epc-test-transport 'pipe)
      (pcase-let* ((`(,first ,second) (dualstack-epc-test-pipes))
                   (server (dualstack-epc-attach second t)))
        (dolist (method methods)
          (apply #'dualstack-epc-define-method server method))
        (list (dualstack-epc-attach first) server #'ignore))
    (let* (server
           (servers (dualstack-epc-serve :methods methods
                                         :on-connect (lambda (connection)
                                                       (setq server connection))))
           (client (dualstack-epc-connect
                    "localhost" (process-contact (car servers) :service))))
      (dualstack-test-wait (lambda () server))
      (list client server (lambda () (mapc #'delete-process servers))))))

(defun dualstack-epc-test-pipes ()
  "Return two children over pipes; what is sent to one is printed by the other."
  (let* ((said "")
         (first (dualstack-epc-test--pipe-end
                 (lambda (_process text) (setq said (concat said text)))))
         (heard nil))
    (dualstack-test-wait (lambda () (string-suffix-p "\n" said)))
    (let ((second (dualstack-epc-test--pipe-end
                   (lambda (_process _text) (setq heard t)) (string-trim said))))
      ;; Once something has crossed, they are joined.
      (process-send-string first "x")
      (dualstack-test-wait (lambda () heard))
      (list first second))))

(defun dualstack-epc-test--pipe-end (filter &rest arguments)
  "Run pipe_end.py with ARGUMENTS; return the process, which has FILTER."
  (let ((process-adaptive-read-buffering nil))
    (make-process :name "pipe end" :noquery t :connection-type 'pipe
                  :coding 'binary :sentinel #'ignore :filter filter
                  :command `(,dualstack-test-python ,(dualstack-test-support "pipe_end.py")
                             ,@arguments))))

(defmacro dualstack-epc-test-with-raw (bindings &rest body)
  "Run BODY with a connection whose other end is a plain process.
BINDINGS is (CONNECTION PROCESS); PROCESS keeps what arrives in its property
`text'."
  (declare (indent 1) (debug ((symbolp symbolp) body)))
  (let ((server (make-symbol "server")))
    `(let (,(cadr bindings) ,(car bindings) ,server)
       (unwind-protect
           (progn
             (if (eq dualstack-epc-test-transport 'pipe)
                 (pcase-let ((`(,first ,second) (dualstack-epc-test-pipes)))
                   (set-process-filter second #'dualstack-epc-test--keep)
                   (setq ,(cadr bindings) second
                         ,(car bindings) (dualstack-epc-attach first)))
               (setq ,server (dualstack-test-server
                              'ipv4 :coding 'binary :filter #'dualstack-epc-test--keep
                              :log (lambda (_server client _message)
                                     (setq ,(cadr bindings) client)))
                     ,(car bindings) (dualstack-epc-connect
                                      "localhost" (dualstack-test-port ,server))))
             (dualstack-test-wait (lambda () ,(cadr bindings)))
             ,@body)
         (when ,(car bindings)
           (dualstack-epc-close ,(car bindings)))
         (if ,server
             (dualstack-test-close ,server)
           (dualstack-test-end-process ,(cadr bindings)))))))

(defun dualstack-epc-test--keep (process text)
  "Add TEXT, which PROCESS has sent, to its property `text'."
  (process-put process 'text (concat (process-get process 'text) text)))

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
  `(dualstack-epc-test-call-with-python ,(cadr bindings)
                                        (lambda (,(car bindings)) ,@body)))

(defun dualstack-epc-test-call-with-python (code body)
  "Call BODY with a connection to a Python server with CODE."
  (if (eq dualstack-epc-test-transport 'pipe)
      (let ((child (make-process
                    :name "server" :noquery t :connection-type 'pipe :coding 'binary
                    :stderr (get-buffer-create " *test stderr*")
                    :command (list dualstack-test-python "-c"
                                   (concat "import os\n"
                                           "from dualstack_epc.rpc import serve, stdio\n"
                                           "stdin = serve._take_stdin()\n"
                                           "stream = serve._take_stdout(None)\n"
                                           "from dualstack_epc.rpc.core import Server\n"
                                           "server = Server(None)\n"
                                           "def f(function, name=None):\n"
                                           "    name = name or function.__name__\n"
                                           "    server.register_function(function, name)\n"
                                           "f(lambda *a: a, 'echo')\n" code
                                           "\nstdio.serve(server, stdin, os.dup(stream.fileno()),"
                                           " hung_up=lambda: None, pass_log=False)\n"
                                           "os._exit(0)")))))
        (set-process-sentinel (get-buffer-process " *test stderr*") #'ignore)
        (let ((connection (dualstack-epc-attach child)))
          (unwind-protect
              (progn
                (dualstack-epc-call connection 'echo nil) ; It has started.
                (funcall body connection))
            (dualstack-epc-close connection)
            ;; Before its end, to kill that could hang a Windows Emacs.
            (dualstack-test-wait (lambda () (not (get-buffer-process " *test stderr*"))))
            (kill-buffer " *test stderr*"))))
    (dualstack-test-with-child
        (child dualstack-test-python "-c"
               (concat "from dualstack_epc.drop_in.server import DualStackEPCServer\n"
                       "server = DualStackEPCServer()\n"
                       "f = server.register_function\n"
                       "f(lambda *a: a, 'echo')\n" code
                       "\nserver.print_port()\nserver.serve_forever()\n"))
      (dualstack-epc-test-insist
       (lambda ()
         (let ((connection (dualstack-epc-connect
                            "localhost" (dualstack-test-child-port child))))
           (unwind-protect
               (funcall body connection)
             (dualstack-epc-close connection))))))))

(defun dualstack-epc-test-insist (function)
  "Call FUNCTION, on Windows again where Emacs has broken a healthy connection.
What that is, tests/windows/REPORT-TO-EMACS.txt tells."
  (let ((tries (if (eq system-type 'windows-nt) 5 0))
        (broken t))
    (while broken
      (condition-case err
          (progn
            (setq broken nil)
            (funcall function))
        (dualstack-epc-closed
         (unless (and (> (setq tries (1- tries)) -1)
                      (equal (cadr err) "connection broken by remote peer"))
           (signal (car err) (cdr err)))
         (setq broken t))))))

(defun dualstack-epc-test-equal (a b)
  "Return non-nil if A and B are equal, also as to hash tables in them."
  (cond ((and (consp a) (consp b))
         (and (dualstack-epc-test-equal (car a) (car b))
              (dualstack-epc-test-equal (cdr a) (cdr b))))
        ((and (vectorp a) (vectorp b))
         (dualstack-epc-test-equal (append a nil) (append b nil)))
        ((and (hash-table-p a) (hash-table-p b))
         (and (eq (hash-table-test a) (hash-table-test b))
              (= (hash-table-count a) (hash-table-count b))
              (cl-loop for key being the hash-keys of a using (hash-values value)
                       always (dualstack-epc-test-equal value (gethash key b 'none)))))
        (t (equal a b))))

(provide 'dualstack-epc-helper)

;;; dualstack-epc-helper.el ends here
