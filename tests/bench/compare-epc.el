;;; compare-epc.el --- Time calls by each client of Emacs  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:

;; Run by compare_epc.py: prints, in JSON, how many seconds the calls of one
;; client took.  Each client is a list of functions: one that calls a method
;; and waits, and one that calls it and passes the reply on.

;;; Code:

(require 'cl-lib)
(require 'json)
(require 'dualstack-epc)

(declare-function epc:call-deferred "ext:epc" (manager method args))
(declare-function epc:call-sync "ext:epc" (manager method args))
(declare-function epc:connect "ext:epc" (host port))
(declare-function epc:init-epc-layer "ext:epc" (manager))
(declare-function make-epc:manager "ext:epc" (&rest slots))
(declare-function deferred:nextc "ext:deferred" (d callback))
(declare-function jsonrpc-request "jsonrpc" (connection method params &rest args))
(declare-function jsonrpc-async-request "jsonrpc" (connection method params &rest args))
(declare-function make-instance "eieio" (class &rest initargs))

(defconst dualstack-compare-sizes '(1000 10000 100000 1000000 16000000)
  "Characters of the strings that are echoed.")

(defconst dualstack-compare-patience 20
  "Seconds for one call; with a larger payload no call is then tried.")

(defun dualstack-compare--dualstack (port)
  "Return our client, connected to PORT."
  (let ((connection (dualstack-epc-connect "127.0.0.1" port)))
    (list (lambda (method args) (dualstack-epc-call connection method args))
          (lambda (method args then)
            (dualstack-epc-call-async connection method args :then then)))))

(defun dualstack-compare--epc (port)
  "Return epc.el's client, connected to PORT, or nil where it is not installed."
  (let ((load-path (append (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa/*")
                           (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa-src/*")
                           load-path))
        (inhibit-message t))
    (when (require 'epc nil t)
      (let ((manager (make-epc:manager :port port :connection (epc:connect "127.0.0.1" port))))
        (epc:init-epc-layer manager)
        (list (lambda (method args) (epc:call-sync manager method args))
              (lambda (method args then)
                (deferred:nextc (epc:call-deferred manager method args) then)))))))

(defun dualstack-compare--jsonrpc (port)
  "Return jsonrpc.el's client, connected to PORT."
  (require 'jsonrpc)
  (let ((connection
         (apply #'make-instance 'jsonrpc-process-connection :name "compare"
                :process (make-network-process
                          :name "compare" :host "127.0.0.1" :service port :coding 'utf-8-emacs-unix)
                ;; Its log of events is not what is compared.
                (if (< emacs-major-version 30)
                    '(:events-buffer-scrollback-size 0)
                  '(:events-buffer-config (:size 0))))))
    (list (lambda (method args)
            (jsonrpc-request connection method (vconcat args)
                             :timeout dualstack-compare-patience))
          (lambda (method args then)
            (jsonrpc-async-request connection method (vconcat args) :success-fn then)))))

(defun dualstack-compare--seconds (function)
  "Return how many seconds a call of FUNCTION takes."
  (let ((start (current-time)))
    (funcall function)
    (float-time (time-subtract nil start))))

(defun dualstack-compare--sample (function)
  "Return a vector of the seconds of calls of FUNCTION.
There is one that does not count first.  Three are enough after a second."
  (garbage-collect)
  (let ((first (dualstack-compare--seconds function))
        (end (+ (float-time) 1))
        (times nil))
    (if (> first dualstack-compare-patience)
        (vector first)
      (while (or (< (length times) 3)
                 (and (< (length times) 200) (< (float-time) end)))
        (push (dualstack-compare--seconds function) times))
      (vconcat times))))

(defun dualstack-compare--together (async count)
  "Make COUNT calls at once by ASYNC, and wait for all replies."
  (let ((left count))
    (dotimes (i count)
      (funcall async 'echo (list i) (lambda (_) (cl-decf left))))
    (while (> left 0)
      (accept-process-output nil 0.01))))

(defun dualstack-compare--raw (port)
  "Return a client that sends bytes to PORT and waits for as many."
  (let* ((got 0)
         (process-adaptive-read-buffering nil)
         (process (make-network-process
                   :name "raw" :host "127.0.0.1" :service port :coding 'binary :noquery t
                   :filter (lambda (_process text) (cl-incf got (length text))))))
    (list (lambda (_method args)
            (let ((bytes (format "000011(call 1 echo %S)\n" args)))
              (setq got 0)
              (process-send-string process bytes)
              (while (< got (length bytes))
                (accept-process-output process 0.05)))))))

(defun dualstack-compare--rows (vectors)
  "Return 20,000 rows of four, lists or with VECTORS what jsonrpc.el takes."
  (let ((make (if vectors #'vector #'list)))
    (apply make
           (cl-loop for i below 20000
                    collect (funcall make i (format "row %d" i)
                                     (funcall make "ok" (format "c%d" i)) (* i 1.5))))))

(defun dualstack-compare--size-rows (call)
  "Return the samples of CALL by the size of what it carries, each way."
  (let ((slow nil) (result nil))
    (dolist (size dualstack-compare-sizes)
      (let ((text (make-string size ?x)))
        (pcase-dolist (`(,name ,method ,argument)
                       `(("to Python" count ,text) ("to Emacs" text ,size)))
          (let ((times (and (not slow)
                            (ignore-errors
                              (dualstack-compare--sample
                               (lambda () (funcall call method (list argument))))))))
            (setq slow (or slow (null times)
                           (> (aref times 0) dualstack-compare-patience)))
            (push (cons (format "%d KB %s" (/ size 1000) name) (or times [])) result)))))
    (nreverse result)))

(defun dualstack-compare (client port)
  "Print the samples of CLIENT, connected to PORT, as JSON, or nil."
  (pcase (funcall (intern (format "dualstack-compare--%s" client)) port)
    (`(,call)
     (princ (json-encode
             (list (cons "small call"
                         (dualstack-compare--sample (lambda () (funcall call 'echo '(1)))))))))
    (`(,call ,async)
     (let ((rows (dualstack-compare--rows (eq client 'jsonrpc))))
       (princ
        (json-encode
         (append
          (list (cons "small call"
                      (dualstack-compare--sample (lambda () (funcall call 'echo '(1)))))
                (cons "64 calls at once"
                      (dualstack-compare--sample
                       (lambda () (dualstack-compare--together async 64))))
                (cons "20,000 rows to Emacs"
                      (dualstack-compare--sample (lambda () (funcall call 'rows nil))))
                (cons "20,000 rows to Python"
                      (dualstack-compare--sample (lambda () (funcall call 'count (list rows))))))
          (dualstack-compare--size-rows call)))))))
  (kill-emacs 0))

(defun dualstack-compare-open (port)
  "Print the seconds of connects to PORT by how many are open, as JSON.
An Emacs has descriptors for not many more than 1,000."
  (let ((open nil) (result nil))
    (dolist (count '(1 10 100 980))
      (while (< (length open) count)
        (push (dualstack-make-network-process :name "open" :host "localhost" :service port
                                              :coding 'binary :noquery t :sentinel #'ignore)
              open))
      (push (cons (format "%d open" count)
                  (dualstack-compare--sample
                   (lambda ()
                     (delete-process
                      (dualstack-make-network-process :name "next" :host "localhost"
                                                      :service port :coding 'binary
                                                      :noquery t :sentinel #'ignore)))))
            result))
    (mapc #'delete-process open)
    (princ (json-encode (nreverse result))))
  (kill-emacs 0))

(provide 'compare-epc)

;;; compare-epc.el ends here
