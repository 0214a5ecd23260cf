;;; dualstack-test-helper.el --- What the tests share  -*- lexical-binding: t; -*-

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

;; `dualstack-deftest' is `ert-deftest' with a check that the test leaves
;; nothing behind.  The rest makes real peers: servers in this Emacs, and
;; children.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'dualstack)

;; Emacs abbreviates it below the home directory, and tests have home
;; directories of their own.
(setq default-directory (expand-file-name default-directory))

;; A user without a home directory may have no place for what Emacs compiles.
(when (and (boundp 'native-comp-eln-load-path) (not (getenv "HOME")))
  (let ((directory (make-temp-file "eln" t)))
    (push directory native-comp-eln-load-path)
    (add-hook 'kill-emacs-hook (lambda () (delete-directory directory t)))))

(defconst dualstack-test-root
  (file-name-directory
   (directory-file-name
    (file-name-directory
     (directory-file-name
      (file-name-directory (or load-file-name buffer-file-name))))))
  "The repository's root.")

(defconst dualstack-test-python
  (or (getenv "DUALSTACK_PYTHON")
      (let ((venv (expand-file-name (if (eq system-type 'windows-nt)
                                        ".venv/Scripts/python.exe"
                                      ".venv/bin/python")
                                    dualstack-test-root)))
        (and (file-executable-p venv) venv))
      (executable-find (if (eq system-type 'windows-nt) "python" "python3")))
  "The Python interpreter that has the sidecar, or nil.")

;;;; Nothing is left behind

(defconst dualstack-test--emacs-own
  "\\`\\(?:\\*dualstack-log\\*\\|\\*Messages\\*\\| \\*\\(?:Echo Area\\|Minibuf\\|code-conver\\)\\|\\*\\(?:Async-\\)?[Nn]ative-compile\\)"
  "Names of buffers that Emacs, or the log, makes once and keeps.")

(defun dualstack-test--state ()
  "Return what a test could leave behind, an alist of kinds and lists."
  (list (cons 'processes (process-list))
        (cons 'timers (cl-remove 'undo-auto--boundary-timer
                                 (append timer-list timer-idle-list nil)
                                 :key #'timer--function))
        (cons 'buffers (cl-remove-if
                        (lambda (buffer)
                          (string-match-p dualstack-test--emacs-own
                                          (buffer-name buffer)))
                        (buffer-list)))
        (cons 'advice (cl-remove-if-not
                       (lambda (function) (advice--p (advice--symbol-function function)))
                       '(make-network-process open-network-stream delete-process gnutls-negotiate)))
        ;; Without a home directory there is one that goes with Emacs.
        (cons 'hooks (remq 'dualstack-sidecar--delete-temporary-directory
                           (append kill-emacs-hook kill-emacs-query-functions nil)))))

(defun dualstack-test--extra (before)
  "Return what is there now and was not in the state BEFORE, an alist."
  (cl-loop for (kind . now) in (dualstack-test--state)
           for extra = (cl-set-difference now (alist-get kind before) :test #'eq)
           when extra collect (cons kind extra)))

(defun dualstack-test--clear (extra)
  "End what the alist EXTRA names, for the next test to begin clean."
  (mapc #'dualstack-test--end-process (alist-get 'processes extra))
  (mapc #'cancel-timer (alist-get 'timers extra))
  (mapc #'kill-buffer (alist-get 'buffers extra)))

(defun dualstack-test--end-process (process)
  "Delete PROCESS, or only kill it if it is a live child of a Windows Emacs.
That Emacs can wait for ever for the pipe of a child that it deletes."
  (if (and (eq system-type 'windows-nt)
           (eq (process-type process) 'real)
           (process-live-p process))
      (progn (set-process-sentinel process #'ignore)
             (kill-process process))
    (delete-process process)))

(defmacro dualstack-test-clean (&rest body)
  "Run BODY with an empty memory; fail if anything is left behind.
Processes, timers, buffers, advice and hooks count.  What is on its way out
may take a second, and processes five."
  (declare (indent 0) (debug t))
  `(let ((before (dualstack-test--state))
         (dualstack--memory (make-hash-table :test #'equal))
         (deadline nil)
         extra left)
     (unwind-protect
         (progn ,@body)
       (setq deadline (+ (float-time) 1))
       (while (and (setq extra (dualstack-test--extra before))
                   (< (float-time) (+ deadline (if (assq 'processes extra) 4 0))))
         (accept-process-output nil 0.01))
       (setq left (format "%S" extra))
       (dualstack-test--clear extra))
     (should (equal left "nil"))))

(defmacro dualstack-deftest (name arguments docstring &rest body)
  "Define the ERT test NAME, which must leave nothing behind.
ARGUMENTS, DOCSTRING and BODY are as for `ert-deftest'."
  (declare (indent 2) (doc-string 3) (debug (&define name sexp stringp def-body)))
  (let ((keys nil))
    (while (keywordp (car body))
      (push (pop body) keys)
      (push (pop body) keys))
    `(ert-deftest ,name ,arguments
       ,docstring
       ,@(nreverse keys)
       (dualstack-test-survive (lambda () (dualstack-test-clean ,@body))))))

(defconst dualstack-test--lost
  "connection broken by remote peer\\|Connection reset by peer\\|websocket-closed\\|which is no EPC\\|Process .* not running\\|Waited in vain\\|no reply within"
  "What is said where Emacs on Windows has lost an event of a connection.")

(defun dualstack-test-survive (function)
  "Call FUNCTION; on Windows up to three times, where Emacs has lost an event.
It loses one in about a hundred of those of connections, most often where
both ends are its own, and can then wait for ever: see
tests/windows/REPORT-TO-EMACS.txt.  Each time is told."
  (if (not (eq system-type 'windows-nt))
      (funcall function)
    (let ((timer (run-at-time 5 5 #'dualstack-test--wake))
          (tries 3))
      (unwind-protect
          (while (> tries 0)
            (condition-case err
                (progn (dualstack-test--bounded function)
                       (setq tries 0))
              (error
               (let* ((case-fold-search nil)
                      ;; A closure that is compiled has bytes that are no text: who
                      ;; filters what Emacs prints would drop the rest of it.
                      (print-escape-control-characters t)
                      (print-escape-nonascii t)
                      (text (format "%S" err)))
                 (unless (and (> (setq tries (1- tries)) 0)
                              (string-match dualstack-test--lost text))
                   (signal (car err) (cdr err)))
                 (message "repeated %s: %s"
                          (ert-test-name (ert-running-test))
                          (truncate-string-to-width text 1000))))))
        (cancel-timer timer)))))

(defun dualstack-test--bounded (function)
  "Call FUNCTION; signal an error if it takes 240 s.
`process-send-string' waits for ever for a connection whose event is lost."
  (let* ((late (make-symbol "late"))
         (where nil)
         (timer (run-at-time 240 nil (lambda ()
                                       (setq where (dualstack-test--callers))
                                       (throw late t)))))
    (when (unwind-protect
              (catch late
                (funcall function)
                nil)
            (cancel-timer timer))
      (error "Waited in vain for the end of the test, in %s" where))))

(defun dualstack-test--callers ()
  "Return the functions that are being called, a string, the innermost first."
  (let ((names nil))
    (mapbacktrace (lambda (evaluated function arguments _flags)
                    (when (and evaluated (symbolp function) (< (length names) 20))
                      (push (cons function (and (eq function 'accept-process-output) arguments))
                            names))))
    (format "%S" (nreverse names))))

(defun dualstack-test--wake ()
  "Have Emacs on Windows look at what became of its processes, or it may not."
  (with-temp-buffer
    (delete-process (make-pipe-process :name "wake" :buffer (current-buffer)
                                       :noquery t :sentinel #'ignore))))

(defun dualstack-test-leave-out (regexp reason)
  "Have each test with a name for REGEXP skipped, for REASON.
It is for a group that cannot run on a system."
  (dolist (name (apropos-internal regexp #'ert-test-boundp))
    (ert-set-test name (make-ert-test :name name
                                      :documentation (ert-test-documentation (ert-get-test name))
                                      :body (lambda () (ert-skip reason))))))

(defun dualstack-test--reason (reason)
  "Return REASON, what `ert-skip' or `skip-unless' gave, as a line."
  (if (stringp reason) reason
    (replace-regexp-in-string "[ \n]+" " " (format "needs %S" (cadr (car reason))))))

(defun dualstack-test-run-tests (selector)
  "Run those of SELECTOR in batch, say why some were skipped, and exit."
  (let ((stats (ert-run-tests-batch selector)))
    (dotimes (i (length (ert--stats-tests stats)))
      (let ((result (aref (ert--stats-test-results stats) i)))
        (when (ert-test-skipped-p result)
          (message "reason %s: %s" (ert-test-name (aref (ert--stats-tests stats) i))
                   (dualstack-test--reason
                    (cadr (ert-test-result-with-condition-condition result)))))))
    (kill-emacs (if (zerop (ert-stats-completed-unexpected stats)) 0 1))))

(defun dualstack-test-wait (predicate &optional seconds)
  "Wait until PREDICATE gives non-nil, and return that.
Signal an error after SECONDS, by default 30: machines are busy."
  (let ((deadline (+ (float-time) (or seconds 30)))
        value)
    (while (not (setq value (funcall predicate)))
      (when (> (float-time) deadline)
        (error "Waited in vain for %S" predicate))
      (accept-process-output nil 0.005))
    value))

(defun dualstack-test-seconds (function)
  "Return how many seconds a call of FUNCTION takes."
  (let ((start (float-time)))
    (funcall function)
    (- (float-time) start)))

(defun dualstack-test-within (seconds measure)
  "Fail unless MEASURE gives less than SECONDS, the first or the fifth time.
A busy machine lengthens some of what it measures, and a fault all."
  (let ((times nil))
    (while (and (push (funcall measure) times)
                (>= (car times) seconds)
                (< (length times) 5)))
    (should (< (apply #'min times) seconds))))

;;;; Peers in this Emacs

(defun dualstack-test-server (family &rest args)
  "Listen on the loopback address of FAMILY and return the server process.
ARGS are further arguments of `make-network-process'; `:service' is t unless
it is among them."
  (apply #'make-network-process
         (append args
                 ;; Emacs on Windows does not tell which port it has drawn for IPv6.
                 (and (eq family 'ipv6) (eq system-type 'windows-nt)
                      (list :service (dualstack-test-free-port)))
                 (list :name "test server" :server 200 :family family :noquery t
                       :filter #'ignore
                       :host (if (eq family 'ipv4) "127.0.0.1" "::1") :service t
                       :sentinel #'ignore))))

(defun dualstack-test-port (server)
  "Return the port that SERVER listens on."
  (process-contact server :service))

(defmacro dualstack-test-with-servers (bindings &rest body)
  "Run BODY with servers, which end with it, and with what they accepted.
BINDINGS are lists (VARIABLE FAMILY . ARGS); VARIABLE is bound to the server
that `dualstack-test-server' makes of the rest."
  (declare (indent 1) (debug ((&rest (symbolp &rest form)) body)))
  (if (null bindings)
      `(progn ,@body)
    `(let ((,(caar bindings) (dualstack-test-server ,@(cdar bindings))))
       (unwind-protect
           (dualstack-test-with-servers ,(cdr bindings) ,@body)
         (dualstack-test-close ,(caar bindings))))))

(defun dualstack-test-accepted (server)
  "Return the connections that SERVER has accepted and that still exist."
  (accept-process-output nil 0.02)
  (let ((prefix (concat (process-name server) " <")))
    (cl-remove-if-not
     (lambda (process)
       (and (string-prefix-p prefix (process-name process))
            (equal (dualstack-test-port server)
                   (aref (process-contact process :local)
                         (1- (length (process-contact process :local)))))
            (= (length (process-contact process :local))
               (length (process-contact server :local)))))
     (process-list))))

(defun dualstack-test-close (server)
  "Delete SERVER and what it accepted."
  (mapc #'delete-process (dualstack-test-accepted server))
  (delete-process server))

(defun dualstack-test-free-port ()
  "Return a port that is free at both loopback addresses."
  (let* ((servers (dualstack-make-server :name "port" :noquery t :service t
                                         :sentinel #'ignore))
         (port (dualstack-test-port (car servers))))
    (mapc #'delete-process servers)
    port))

(defun dualstack-test-refused-p (text port &rest hosts)
  "Return non-nil if TEXT is that PORT of each of HOSTS, in order, is refused.
On Windows a refusal takes longer than what is waited for, and that is told."
  (let ((said (cl-loop for outcome in '("Connection refused" "no answer within 0.5 s")
                       collect (mapconcat (lambda (host) (format "%s:%d %s" host port outcome))
                                          hosts "; "))))
    (member text (if (eq system-type 'windows-nt) said (list (car said))))))

(defconst dualstack-test-on-wine
  (and (eq system-type 'windows-nt) (file-exists-p "c:/windows/system32/winepath.exe"))
  "Non-nil if this is Wine, not Windows.")

(when dualstack-test-on-wine
  (require 'dualstack-test-wine))

;;;; Peers that are children

(defun dualstack-test-child (&rest command)
  "Start COMMAND and return its process once it has printed a line.
The line is its property `line'.  It ends when its input does, or by
`dualstack-test-end'."
  (let* ((buffer (generate-new-buffer " *test child*"))
         (process (make-process :name "test child" :command command
                                :buffer buffer :noquery t
                                :connection-type 'pipe :sentinel #'ignore)))
    (process-put process 'line
                 (dualstack-test-wait
                  (lambda ()
                    (unless (process-live-p process)
                      (error "%S ended: %s" command
                             (with-current-buffer buffer (buffer-string))))
                    (with-current-buffer buffer
                      (save-excursion
                        (goto-char (point-min))
                        (and (re-search-forward "^\\(.*\\)\r?\n" nil t)
                             (match-string 1)))))))
    process))

(defun dualstack-test-end (child)
  "End CHILD, wait until it is gone, and kill its buffer."
  (dualstack-test-end-process child)
  (kill-buffer (process-buffer child)))

(defun dualstack-test-end-process (process)
  "End PROCESS, which may be a child, and wait until it is gone."
  (dualstack-test--end-process process)
  (dualstack-test-wait (lambda () (not (process-live-p process)))))

(defun dualstack-test-python-command (code &rest arguments)
  "Return a command for CODE, lines of Python, with ARGUMENTS."
  (append (list dualstack-test-python "-c" code) arguments))

(defun dualstack-test-kill (pid)
  "Kill the process PID at once."
  (signal-process pid 'SIGKILL))

(defun dualstack-test-alive-p (pid)
  "Return non-nil if there is a process PID that has not ended."
  (let ((state (alist-get 'state (process-attributes pid))))
    (if (eq system-type 'windows-nt)
        (memq pid (list-system-processes))
      (and state (not (equal state "Z"))))))

(defun dualstack-test-run (command &optional seconds)
  "Run COMMAND and return its status and output, a cons; kill it after SECONDS.
The default is 60."
  (with-temp-buffer
    (let* ((process (make-process :name "test run" :command command :noquery t
                                  :buffer (current-buffer) :connection-type 'pipe
                                  :coding 'utf-8 :sentinel #'ignore))
           (deadline (+ (float-time) (or seconds 60))))
      (unwind-protect
          (while (and (process-live-p process) (< (float-time) deadline))
            (accept-process-output process 0.1))
        (when (process-live-p process)
          (kill-process process)
          (dualstack-test-wait (lambda () (not (process-live-p process))))))
      (while (accept-process-output process 0))
      (cons (process-exit-status process)
            (replace-regexp-in-string "\r\n" "\n" (buffer-string) t t)))))

(defmacro dualstack-test-with-child (binding &rest body)
  "Run BODY beside a child, and then end the child.
BINDING is (VARIABLE COMMAND...)."
  (declare (indent 1) (debug ((symbolp &rest form) body)))
  `(dualstack-test-call-with-child (list ,@(cdr binding)) (lambda (,(car binding)) (ignore ,(car binding)) ,@body)))

(defun dualstack-test-call-with-child (command function)
  "Call FUNCTION with a child of the list COMMAND, and then end the child."
  (let ((child (apply #'dualstack-test-child command)))
    (unwind-protect
        (funcall function child)
      (dualstack-test-end child))))

(defun dualstack-test-launcher (file script)
  "Make FILE a program, which is the Python SCRIPT; return its full name.
On Windows it is a batch file."
  (let* ((windows (eq system-type 'windows-nt))
         (file (if windows (concat file ".bat") file)))
    (make-directory (file-name-directory file) t)
    (write-region (if windows (format "@\"%s\" \"%s\" %%*\n" dualstack-test-python script)
                    (format "#!/bin/sh\nexec %s %s \"$@\"\n"
                            (shell-quote-argument dualstack-test-python)
                            (shell-quote-argument script)))
                  nil file nil 'silent)
    (set-file-modes file #o755)
    file))

(defun dualstack-test-child-port (child)
  "Return the port that CHILD printed."
  (string-to-number (process-get child 'line)))

(defun dualstack-test-support (file)
  "Return the absolute name of FILE, a support file."
  (expand-file-name (concat "tests/support/" file) dualstack-test-root))

(defun dualstack-test-emacs-program ()
  "Return the file name of this Emacs."
  (expand-file-name invocation-name invocation-directory))

(defun dualstack-test-emacs (wrapper &rest forms)
  "Run FORMS in a child Emacs and return the value of the last one.
WRAPPER is a list of a program and arguments that runs the child, or nil.
The value must be readable.  Fail with the child's output if it has none."
  (let* ((command
          (append wrapper
                  (list (dualstack-test-emacs-program) "-Q" "--batch"
                        "-L" (expand-file-name "lisp" dualstack-test-root)
                        "--eval"
                        (prin1-to-string
                         `(progn (require 'dualstack)
                                 (princ (concat "\nVALUE "
                                                (prin1-to-string
                                                 (progn ,@forms)))))))))
         (run (dualstack-test-run command)))
    (unless (and (eq (car run) 0) (string-match "^VALUE " (cdr run)))
      (error "%S gave %S: %s" command (car run) (cdr run)))
    (car (read-from-string (cdr run) (match-end 0)))))

(provide 'dualstack-test-helper)

;;; dualstack-test-helper.el ends here
