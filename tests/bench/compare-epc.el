;;; compare-epc.el --- Time calls by each client of Emacs  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:

;; Run by compare_epc.py, in an Emacs at a terminal that waits for keys, as
;; Emacs does when a user has it.  Writes, in JSON, how many seconds calls take
;; by each client.  A round has one call by each of them, so that whatever else
;; the machine does hits all alike, and samples can be compared one by one.

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

(defconst dualstack-compare-rounds 200
  "Rounds for one thing, at most.")

(defconst dualstack-compare-time 4
  "Seconds for one thing; then five rounds are enough.")

(cl-defstruct (dualstack-compare-client (:constructor dualstack-compare-client)
                                        (:copier nil))
  "A client that is compared.
CALL calls a method with arguments and waits, ASYNC calls it and passes the
reply on.  VECTORS means that lists are vectors for it."
  name call async vectors)

(defun dualstack-compare--dualstack (port)
  "Return our client, connected to PORT."
  (let ((connection (dualstack-epc-connect "127.0.0.1" port)))
    (dualstack-compare-client
     :call (lambda (method args) (dualstack-epc-call connection method args))
     :async (lambda (method args then)
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
        (dualstack-compare-client
         :call (lambda (method args) (epc:call-sync manager method args))
         :async (lambda (method args then)
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
    (dualstack-compare-client
     :vectors t
     :call (lambda (method args)
             (jsonrpc-request connection method (vconcat args)
                              :timeout dualstack-compare-patience))
     :async (lambda (method args then)
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
  (funcall function)
  (let ((end (+ (float-time) 1))
        (times nil))
    (while (or (< (length times) 3)
               (and (< (length times) dualstack-compare-rounds) (< (float-time) end)))
      (push (dualstack-compare--seconds function) times))
    (vconcat times)))

(defun dualstack-compare--together (async count)
  "Return how many seconds COUNT calls at once by ASYNC take.
Emacs waits for a key meanwhile."
  (let ((left count)
        (start nil)
        (seconds nil))
    (run-at-time 0 nil
                 (lambda ()
                   (setq start (current-time))
                   (dotimes (i count)
                     (funcall async 'echo (list i)
                              (lambda (_)
                                (when (= 0 (cl-decf left))
                                  (setq seconds (float-time (time-subtract nil start)))
                                  (run-at-time 0 nil #'exit-recursive-edit)))))))
    (recursive-edit)
    seconds))

(defun dualstack-compare--raw (port)
  "Return a client that sends bytes to PORT and waits for as many."
  (let* ((got 0)
         (process-adaptive-read-buffering nil)
         (process (make-network-process
                   :name "raw" :host "127.0.0.1" :service port :coding 'binary :noquery t
                   :filter (lambda (_process text) (cl-incf got (length text))))))
    (dualstack-compare-client
     :call (lambda (_method args)
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

;;;; Rounds

(defun dualstack-compare--try (function)
  "Return how many seconds FUNCTION says that it took, or nil if it failed."
  (let ((seconds (ignore-errors (funcall function))))
    (and seconds (< seconds dualstack-compare-patience) seconds)))

(defun dualstack-compare--slow-p (seconds all)
  "Return non-nil if the one of ALL that took SECONDS should not hold up others."
  (and (> seconds 0.1) (> seconds (* 10 (apply #'min all)))))

(defun dualstack-compare--measure (functions large)
  "Return an alist of clients and a vector of the samples of each, by rounds.
FUNCTIONS is an alist of clients and functions that return seconds.  The first
call of each does not count; a slow one has three samples.  LARGE means that
the garbage of one is not to be left to the next one."
  (let* ((first (cl-loop for (_ . function) in functions
                         collect (or (dualstack-compare--try function) 1e9)))
         (all (cl-loop for (client . function) in functions
                       for seconds in first
                       when (< seconds 1e9)
                       collect (list client function (dualstack-compare--slow-p seconds first))))
         (samples (mapcar (lambda (pair) (list (car pair))) functions))
         (end (+ (float-time) dualstack-compare-time)))
    (dotimes (round dualstack-compare-rounds)
      (when (or (< round 5) (< (float-time) end))
        (pcase-dolist (`(,client ,function ,slow) all)
          (when (or (< round 3) (not slow))
            (when large
              (garbage-collect))
            (push (dualstack-compare--try function) (alist-get client samples))))
        ;; None comes after the same one always: what that leaves in the caches tells.
        (setq all (cons (car all) (nreverse (cdr all))))))
    (mapcar (pcase-lambda (`(,client . ,times)) (cons client (vconcat (nreverse times))))
            samples)))

(defun dualstack-compare--timed (method arguments)
  "Return a function of a client that returns one of no arguments.
This calls METHOD with what ARGUMENTS returns for the client, and returns how
many seconds that took."
  (lambda (client)
    (let ((call (dualstack-compare-client-call client))
          (list (funcall arguments client)))
      (lambda ()
        (dualstack-compare--seconds (lambda () (funcall call method list)))))))

(defun dualstack-compare--things ()
  "Return what is measured: an alist of names and functions of a client.
Those return a function that returns how many seconds it took."
  (append
   (list (cons "small call" (dualstack-compare--timed 'echo (lambda (_) '(1))))
         (cons "64 calls at once"
               (lambda (client)
                 (let ((async (dualstack-compare-client-async client)))
                   (lambda () (dualstack-compare--together async 64)))))
         (cons "20,000 rows to Emacs" (dualstack-compare--timed 'rows #'ignore))
         (cons "20,000 rows to Python"
               (dualstack-compare--timed
                'count (lambda (client)
                         (list (dualstack-compare--rows
                                (dualstack-compare-client-vectors client)))))))
   (cl-mapcan (lambda (size)
                (let ((name (format "%d KB" (/ size 1000))))
                  (list (cons (concat name " to Python")
                              (dualstack-compare--timed
                               'count (lambda (_) (list (make-string size ?x)))))
                        (cons (concat name " to Emacs")
                              (dualstack-compare--timed 'text (lambda (_) (list size)))))))
              dualstack-compare-sizes)))

(defun dualstack-compare--client (name port)
  "Return the client called NAME, connected to PORT, or nil if there is none."
  (let ((client (funcall (intern (format "dualstack-compare--%s" name)) port)))
    (when client
      (setf (dualstack-compare-client-name client) name)
      client)))

(defun dualstack-compare (ports file)
  "Write the samples of all clients into FILE, as JSON.
PORTS is an alist of the names of clients and the ports of their servers."
  (let* ((clients (cl-loop for (name . port) in ports
                           for client = (dualstack-compare--client name port)
                           when client collect client))
         (result
          (cl-loop for (thing . make) in (dualstack-compare--things)
                   for able = (if (equal thing "small call") clients
                                (cl-remove-if-not #'dualstack-compare-client-async clients))
                   collect (cons thing
                                 (dualstack-compare--measure
                                  (cl-loop for client in able
                                           collect (cons (dualstack-compare-client-name client)
                                                         (funcall make client)))
                                  (string-match-p "rows\\|[0-9]\\{3,\\} KB" thing))))))
    (with-temp-file file
      (insert (json-encode result))))
  (kill-emacs 0))

(defun dualstack-compare-open (port file)
  "Write the seconds of connects to PORT by how many are open into FILE, as JSON.
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
    (with-temp-file file
      (insert (json-encode (nreverse result)))))
  (kill-emacs 0))

(provide 'compare-epc)

;;; compare-epc.el ends here
