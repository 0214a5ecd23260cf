;;; bench-epc.el --- Measure the EPC peer  -*- lexical-binding: t; -*-

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

;; Run by `make bench-epc', after bench_epc.py.  Everything is measured in one
;; run, against a raw echo in this Emacs, and against epc.el with python-epc
;; where epc.el is installed.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-sidecar)
(require 'cl-lib)

(defvar dualstack-bench-epc--missed nil
  "Non-nil once a bound was not met.")

(defconst dualstack-bench-epc--server "
import sys
%s
server = Server(('127.0.0.1', 0))
server.daemon_threads = True
rows = [[i, 'row %%d' %% i, ['ok', 'c%%d' %% i], i * 1.5] for i in range(20000)]
server.register_function(lambda *a: a, 'echo')
server.register_function(lambda: rows, 'rows')
server.print_port()
server.serve_forever()
"
  "A Python server with echo and 20,000 rows; the import is to be filled in.")

(defconst dualstack-bench-epc--raw "
import socket
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while True:
    d = c.recv(65536)
    if not d: break
    c.sendall(d)
"
  "A raw echo server in Python.")

(declare-function epc:call-sync "ext:epc" (manager method args))
(declare-function epc:connect "ext:epc" (host port))
(declare-function epc:init-epc-layer "ext:epc" (manager))
(declare-function make-epc:manager "ext:epc" (&rest slots))

(defun dualstack-bench-epc--median (function rounds)
  "Return the median of the seconds that FUNCTION takes in ROUNDS calls."
  (let ((times nil)
        (gc-cons-threshold most-positive-fixnum))
    (funcall function)
    (garbage-collect)
    (dotimes (_ rounds)
      (let ((start (current-time)))
        (funcall function)
        (push (float-time (time-subtract nil start)) times)))
    (nth (/ rounds 2) (sort times #'<))))

(defun dualstack-bench-epc--judge (what value compare bound)
  "Print WHAT, its VALUE and BOUND, and whether COMPARE holds of them."
  (let ((met (funcall compare value bound)))
    (unless met
      (setq dualstack-bench-epc--missed t))
    (princ (format "%-6s %-54s %9.2f x (bound: %s %s)\n" (if met "met" "MISSED")
                   what value (if (eq compare #'>=) "at least" "at most") bound))))

(defun dualstack-bench-epc--raw ()
  "Return the median time of a raw echo over a plain socket, in seconds."
  (dualstack-test-with-child (child dualstack-test-python "-c" dualstack-bench-epc--raw)
    (let* ((got nil)
           (process-adaptive-read-buffering nil)
           (process (make-network-process
                     :name "raw" :coding 'binary :noquery t :sentinel #'ignore
                     :service nil :remote (vector 127 0 0 1 (dualstack-test-child-port child))
                     :filter (lambda (_process text) (setq got text)))))
      (unwind-protect
          (dualstack-bench-epc--median
           (lambda ()
             (setq got nil)
             (process-send-string process "000011(call 1 echo (1))\n")
             (while (not got)
               (accept-process-output process 0.05)))
           1000)
        (delete-process process)))))

(defun dualstack-bench-epc--ours (import)
  "Return the medians of our small call and of the rows from Python with IMPORT."
  (dualstack-test-with-child
      (child dualstack-test-python "-c" (format dualstack-bench-epc--server import))
    (let ((connection (dualstack-epc-connect "127.0.0.1" (dualstack-test-child-port child))))
      (unwind-protect
          (list (dualstack-bench-epc--median
                 (lambda () (dualstack-epc-call connection 'echo '(1))) 1000)
                (dualstack-bench-epc--median
                 (lambda () (dualstack-epc-call connection 'rows nil)) 5))
        (dualstack-epc-close connection)))))

(defun dualstack-bench-epc--theirs ()
  "Return the same of epc.el with python-epc, or nil where that is not installed."
  (let ((load-path (append (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa/*")
                           (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa-src/*")
                           load-path)))
    (when (let ((inhibit-message t)) (require 'epc nil t))
      (dualstack-test-with-child
          (child dualstack-test-python "-c"
                 (format dualstack-bench-epc--server
                         "from epc.server import ThreadingEPCServer as Server"))
        (let* ((port (dualstack-test-child-port child))
               (manager (make-epc:manager :port port
                                          :connection (epc:connect "127.0.0.1" port))))
          (epc:init-epc-layer manager)
          (prog1 (list (dualstack-bench-epc--median
                        (lambda () (epc:call-sync manager 'echo '(1))) 5)
                       (dualstack-bench-epc--median
                        (lambda () (epc:call-sync manager 'rows nil)) 3))
            (mapc #'delete-process
                  (cl-remove child (process-list)))))))))

(defconst dualstack-bench-epc--slow "
import time
from dualstack_epc.drop_in.server import DualStackEPCServer
server = DualStackEPCServer()
server.register_function(lambda index, text: time.sleep(0.01) or index, 'slow')
server.print_port()
server.serve_forever()
"
  "A Python server with a method that takes 10 ms.")

(defun dualstack-bench-epc--memory ()
  "Return the memory of Emacs in KB, or nil where /proc does not tell."
  (ignore-errors
    (with-temp-buffer
      (insert-file-contents-literally "/proc/self/status")
      (re-search-forward "^VmRSS:[ \t]*\\([0-9]+\\)")
      (string-to-number (match-string 1)))))

(defun dualstack-bench-epc--load (count size)
  "Make COUNT calls at once, each with SIZE characters, to a method of 10 ms.
Return the longest time between two calls of a timer of 10 ms, the longest in
which Emacs itself worked, by its processor's time, both in seconds, the
growth of its memory in KB, and the seconds until all replies were there."
  (dualstack-test-with-child (child dualstack-test-python "-c" dualstack-bench-epc--slow)
    (let* ((connection (dualstack-epc-connect "127.0.0.1" (dualstack-test-child-port child)))
           (texts (make-vector 4 nil)) (begin (float-time)) (left count)
           (memory (dualstack-bench-epc--memory)) (most (or memory 0))
           (last begin) (used (float-time (get-internal-run-time))) (gap 0) (work 0)
           (look (lambda ()
                   (let ((now (float-time)) (run (float-time (get-internal-run-time))))
                     (setq gap (max gap (- now last)) work (max work (- run used))
                           most (max most (or (dualstack-bench-epc--memory) 0))
                           last (float-time) used (float-time (get-internal-run-time))))))
           timer)
      (dotimes (i 4)
        (aset texts i (make-string size (+ ?a i))))
      (unwind-protect
          (progn
            (dotimes (i count)
              (dualstack-epc-call-async connection 'slow (list i (aref texts (% i 4)))
                                        :timeout nil
                                        :then (lambda (_) (cl-decf left))))
            (princ (format "  made in %.0f ms\n" (* 1e3 (- (float-time) begin))))
            (setq last (float-time) used (float-time (get-internal-run-time))
                  timer (run-at-time 0.01 0.01 look))
            (while (> left 0)
              (accept-process-output nil 0.05)))
        (when timer
          (cancel-timer timer))
        (dualstack-epc-close connection))
      (list gap work (and memory (- most memory)) (- (float-time) begin)))))

(defun dualstack-bench-epc-load ()
  "Print how Emacs does with 10,000 calls of 100 KB at once, and end it."
  (pcase-let ((`(,gap ,work ,memory ,seconds) (dualstack-bench-epc--load 10000 100000)))
    (princ (format "10,000 calls of 100 KB at once, a method of 10 ms: %.1f s, %s KB more memory\n"
                   seconds memory))
    (dualstack-bench-epc--judge "longest gap of a timer of 10 ms / 60 ms" (/ gap 0.06) #'<= 1)
    (dualstack-bench-epc--judge "Emacs's own work in a gap / 60 ms" (/ work 0.06) #'<= 1))
  (kill-emacs (if dualstack-bench-epc--missed 1 0)))

(defun dualstack-bench-epc--hello ()
  "Return the median of starting a sidecar up to a reply."
  (dualstack-bench-epc--median
   (lambda ()
     (let ((sidecar (dualstack-sidecar-start :wait t)))
       (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'hello nil)
       (dualstack-sidecar-stop)))
   7))

(defun dualstack-bench-epc--start ()
  "Return the medians of starting a sidecar up to a reply, and of importing epc.
The first is with bytecode, as where the package was compiled; the second is
without, as Emacs finds the package."
  (let* ((dualstack-python dualstack-test-python)
         (directory (make-temp-file "dualstack" t))
         (copy (expand-file-name "python" directory))
         (dualstack-sidecar--file (expand-file-name "dualstack-sidecar-python.el" directory))
         compiled)
    (copy-directory (expand-file-name "python" dualstack-test-root) copy)
    (call-process dualstack-test-python nil nil nil "-m" "compileall" "-q" copy)
    (setq compiled (dualstack-bench-epc--hello))
    (dolist (cache (directory-files-recursively copy "\\`__pycache__\\'" t))
      (delete-directory cache t))
    (list compiled
          (prog1 (dualstack-bench-epc--hello)
            (delete-directory directory t))
          (dualstack-bench-epc--median
           (lambda () (call-process dualstack-test-python nil nil nil "-c" "import epc"))
           7)
          (dualstack-bench-epc--median
           (lambda () (call-process dualstack-test-python nil nil nil "-c"
                                    "import epc.server"))
           7))))

(defun dualstack-bench-epc ()
  "Measure everything, and end Emacs with 1 if a bound was missed."
  (pcase-let ((raw (dualstack-bench-epc--raw))
              (`(,call ,rows)
               (dualstack-bench-epc--ours
                "from dualstack_epc.drop_in.server import DualStackEPCServer as Server"))
              (`(,start ,shipped ,bare ,bare-server) (dualstack-bench-epc--start))
              (theirs (dualstack-bench-epc--theirs)))
    (princ (format "In Emacs: raw echo %.0f us, call %.0f us, 20,000 rows %.0f ms\n"
                   (* 1e6 raw) (* 1e6 call) (* 1e3 rows)))
    (princ (format "Sidecar: first reply after %.0f ms, %.0f ms without bytecode; \
python -c \"import epc\" %.0f ms, \"import epc.server\" %.0f ms\n"
                   (* 1e3 start) (* 1e3 shipped) (* 1e3 bare) (* 1e3 bare-server)))
    (dualstack-bench-epc--judge "synchronous call / raw echo" (/ call raw) #'<= 2.5)
    (dualstack-bench-epc--judge "sidecar to first reply / import epc" (/ start bare) #'<= 3)
    (if (not theirs)
        (princ "epc.el is not installed (Debian: elpa-epc): not compared\n")
      (princ (format "epc.el with python-epc: call %.0f ms, 20,000 rows %.0f ms\n"
                     (* 1e3 (car theirs)) (* 1e3 (cadr theirs))))
      (dualstack-bench-epc--judge "epc.el's synchronous call / ours"
                                  (/ (car theirs) call) #'>= 500)
      (dualstack-bench-epc--judge "epc.el's 20,000 rows / ours"
                                  (/ (cadr theirs) rows) #'>= 3)))
  (kill-emacs (if dualstack-bench-epc--missed 1 0)))

(provide 'bench-epc)

;;; bench-epc.el ends here
