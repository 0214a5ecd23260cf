;;; dualstack-sidecar.el --- A Python process of Emacs's own  -*- lexical-binding: t; -*-

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

;; A sidecar is a child process that serves EPC to this Emacs alone.
;;
;; 1. `dualstack-sidecar-start' starts the child.  It prints its port as the
;;    first line, and as the second one a token and its addresses; standard
;;    error goes to a log buffer.
;; 2. Emacs connects to an address that the child has told, and both prove
;;    the token.  The sidecar is then running, and :then is called.
;; 3. The child ends by itself when its input does: Emacs never waits for it,
;;    and when Emacs is killed it goes too.
;; 4. When the child ends unasked, every call ends with an error, the last
;;    lines of its log are shown, and if wanted it is started again.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack-epc)
(require 'dualstack-epc-connect)
(require 'dualstack-sidecar-environment)
(require 'dualstack-sidecar-log)
(require 'dualstack-sidecar-pipe)
(require 'dualstack-sidecar-python)
(require 'dualstack-sidecar-remote)
(require 'dualstack-view)

(defcustom dualstack-sidecar-timeout 20
  "Seconds within which a sidecar must have started."
  :type 'number
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defconst dualstack-sidecar--farewell 0.5
  "Seconds in which a child that has closed its connection may end by itself.
Its end tells more than that of its connection.")

(cl-defstruct (dualstack-sidecar (:constructor dualstack-sidecar--make)
                                 (:copier nil))
  "A child process that serves EPC.
NAME names it, COMMAND is its command line.  STATE is `starting',
`running', `stopping', `stopped' or `failed'; PROCESS the child, LOG the
buffer of its standard error.  PORT, TOKEN and ADDRESSES, pairs of host and
port, are what it has announced; ADDRESS is the one connected to.
CONNECTION is the `dualstack-epc-connection'.  STARTED is the time as of
`float-time', RESTARTS how often it was started again in a row.  FAILURE is
the last error."
  name command state process log port token addresses address connection started
  (restarts 0) failure
  ;; What `dualstack-sidecar-start' was told, and the environment for it.
  -own-command -modules -path -requirements -python -transport -place -ready-word -auth
  -methods -auto-restart -reload -environment
  (-output "") -stderr -timer -then -else -cancel -again
  ;; Why the connection ended that is being made again; the last one that was.
  -broken -renewed)

(defvar dualstack-sidecars nil
  "All sidecars of this Emacs that were started, newest first.")

(autoload 'dualstack-sidecar--watch "dualstack-sidecar-debug")

;;;; Finding

(defun dualstack-sidecar-get (&optional name)
  "Return the sidecar called NAME, by default \"dualstack\", or nil."
  (cl-find (or name "dualstack") dualstack-sidecars
           :key #'dualstack-sidecar-name :test #'equal))

;;;; Starting

;;;###autoload
(cl-defun dualstack-sidecar-start (&key (name "dualstack") command modules path
                                        requirements python (transport 'socket) directory
                                        (auth t) methods restart reload log-file then else wait)
  "Start the sidecar NAME and return it at once; it connects by itself.
If it runs already, return it as it is.

COMMAND is a list, a program and arguments that serve EPC.  By default it is
the Python server of this package, run by `dualstack-sidecar-python', with
MODULES, names of Python modules or full names of files that end in .py.
Modules are looked for by name in Python's own places and then in PATH, a
list of directories; the current directory is none of these.

REQUIREMENTS is a list of Python packages, as pip writes them.  If there are
any, or files of MODULES have inline metadata (PEP 723), the sidecar runs in an
environment that has them, in `dualstack-sidecar-environments-directory'.  It
is built at the first start, in the background; see
`dualstack-sidecar-environments'.
PYTHON, a full name or a program on the path, runs the sidecar instead, with
the packages that it has.

COMMAND prints its port as its first line; if AUTH is non-nil, the second
line is that of `dualstack-epc serve --auth'.  It must exit at the end of its
standard input.  It runs in a directory of the user's own, usually the home
directory.  If TRANSPORT is `pipe', EPC uses the standard input and output of
the child instead, without a port or a proof, and AUTH is ignored.

With DIRECTORY, a remote name such as \"/ssh:host:~/\", the sidecar runs there,
by TRAMP, over a pipe; `current' means the machine of the current buffer's
directory, in the home directory.  The name of the sidecar is then NAME and that
of the machine, as each has its own.  Files of MODULES that are here are copied
there.

METHODS is a list of (NAME FUNCTION [ARGLIST DOCUMENTATION]), what
the sidecar can call.  If RESTART is non-nil, it is restarted when it crashes,
after a delay that grows.  If RELOAD is non-nil, it is restarted when a file of
MODULES changes, as soon as no call runs.  LOG-FILE is a file to which the log
is appended, too.

THEN is called with the sidecar once it runs, ELSE with the error if it does
not: a list of `dualstack-sidecar-error' and a text.  With WAIT return when it
runs, or signal that error."
  (interactive)
  (dualstack-epc--check-methods methods)
  (unless (memq transport '(socket pipe))
    (dualstack-sidecar--error "The transport is `socket' or `pipe', not %S" transport))
  (let* ((place (dualstack-sidecar-remote--directory directory))
         (machine (and place (concat " " (file-remote-p place))))
         (name (if (or (null machine) (string-suffix-p machine name))
                   name
                 (concat name machine)))
         (sidecar (dualstack-sidecar-get name)))
    (when (called-interactively-p 'any)
      (setq then (lambda (sidecar)
                   (message "%s" (dualstack-sidecar-describe sidecar)))))
    (unless (and sidecar (memq (dualstack-sidecar-state sidecar) '(starting running)))
      (when sidecar
        (dualstack-sidecar--release sidecar)
        (setq dualstack-sidecars (delq sidecar dualstack-sidecars)))
      (setq sidecar (dualstack-sidecar--make
                     :name name :-own-command command :-modules modules :-path path
                     :-requirements requirements :-python python
                     :-transport (if place 'pipe transport) :-place place
                     :-auth auth :-methods methods :-auto-restart restart :-reload reload :state 'starting
                     :log (dualstack-sidecar--log-buffer name)))
      (dualstack-sidecar--log-to-file (dualstack-sidecar-log sidecar) log-file)
      (push sidecar dualstack-sidecars)
      (when reload
        (dualstack-sidecar--watch sidecar))
      (dualstack-sidecar--prepare sidecar))
    (dualstack-sidecar--notify sidecar then else)
    (when wait
      (dualstack-sidecar--await sidecar))
    sidecar))

(defun dualstack-sidecar-describe (sidecar)
  "Return a phrase about SIDECAR and what state it is in."
  (pcase (dualstack-sidecar-state sidecar)
    ('running (format "%s runs: process %d at %s" (dualstack-sidecar-name sidecar)
                      (process-id (dualstack-sidecar-process sidecar))
                      (dualstack-sidecar-address sidecar)))
    ('failed (format "%s: %s" (dualstack-sidecar-name sidecar)
                     (cadr (dualstack-sidecar-failure sidecar))))
    (state (format "%s is %s" (dualstack-sidecar-name sidecar) state))))

(defun dualstack-sidecar--notify (sidecar then else)
  "Call THEN or ELSE once SIDECAR is running, or has failed."
  (pcase (dualstack-sidecar-state sidecar)
    ('running (when then (dualstack-epc--later then sidecar)))
    ('failed (when else (dualstack-epc--later else (dualstack-sidecar-failure sidecar))))
    (_ (when then (push then (dualstack-sidecar--then sidecar)))
       (when else (push else (dualstack-sidecar--else sidecar))))))

(defun dualstack-sidecar--await (sidecar)
  "Wait until SIDECAR is running, or signal why it is not.
If \\`C-g' ends the wait, stop it."
  (let ((waiting t))
    (unwind-protect
        (with-local-quit
          (while (eq (dualstack-sidecar-state sidecar) 'starting)
            ;; For a process, as a wait for none goes on for 10 ms after any output.
            (let ((process (or (dualstack-sidecar--dialled sidecar)
                               (dualstack-sidecar-process sidecar))))
              (accept-process-output (and (process-live-p process) process) 0.005)))
          (setq waiting nil))
      (when waiting
        (dualstack-sidecar-stop (dualstack-sidecar-name sidecar))))
    (when waiting ; Inside a timer C-g has ended the wait without a signal.
      (signal 'quit nil)))
  (pcase (dualstack-sidecar-state sidecar)
    ('running sidecar)
    ('failed (signal (car (dualstack-sidecar-failure sidecar))
                     (cdr (dualstack-sidecar-failure sidecar))))
    (_ (signal 'dualstack-sidecar-error (list (dualstack-sidecar-describe sidecar))))))

(defun dualstack-sidecar--dialled (sidecar)
  "Return the process of a connection to SIDECAR that is being proved, or nil."
  (get-process (dualstack-sidecar--connection-name sidecar)))

(defun dualstack-sidecar--connection-name (sidecar)
  "Return the name of the process that connects to SIDECAR."
  (concat (dualstack-sidecar-name sidecar) " connection"))

(defun dualstack-sidecar--prepare (sidecar)
  "Find out how SIDECAR is run, and run it.
The command and the environment stay those of the first start when it is
started again by itself: whatever buffer is current then."
  (condition-case err
      (let ((needs (dualstack-sidecar--needs sidecar)))
        (setf (dualstack-sidecar--environment sidecar) (dualstack-sidecar--child-environment))
        (if needs
            (dualstack-sidecar--prepare-environment sidecar needs)
          (dualstack-sidecar--run sidecar (dualstack-sidecar--chosen-python sidecar))))
    (quit (dualstack-sidecar-stop (dualstack-sidecar-name sidecar))
          (when (dualstack-sidecar--place sidecar)
            (dualstack-sidecar-remote--forget (dualstack-sidecar--place sidecar)))
          (signal 'quit nil))
    (error (dualstack-sidecar--fail sidecar (dualstack-sidecar--reason sidecar err)))))

(defun dualstack-sidecar--reason (sidecar err)
  "Return why SIDECAR does not start, as ERR, that of its preparation, has it."
  (cond ((eq (car err) 'dualstack-sidecar-error) (cadr err))
        ((dualstack-sidecar--place sidecar)
         (format "%s cannot be used: %s" (file-remote-p (dualstack-sidecar--place sidecar))
                 (error-message-string err)))
        (t (error-message-string err))))

(defun dualstack-sidecar--needs (sidecar)
  "Return what the environment of SIDECAR must have, or nil if it needs none."
  (unless (or (dualstack-sidecar--own-command sidecar) (dualstack-sidecar--python sidecar))
    (dualstack-sidecar-environment--needs (dualstack-sidecar--modules sidecar)
                                          (dualstack-sidecar--requirements sidecar))))

(defun dualstack-sidecar--chosen-python (sidecar)
  "Return the Python that SIDECAR was told to use, or nil."
  (let ((python (dualstack-sidecar--python sidecar)))
    (when python
      (or (and (dualstack-sidecar--place sidecar)
               (dualstack-sidecar-remote--local python))
          (if (file-name-directory python)
              (let ((file (dualstack-sidecar--full-name python)))
                (and (file-executable-p file) file))
            (dualstack-sidecar--as-child (executable-find python)))
          (dualstack-sidecar--error "There is no program %s, its Python" python)))))

(defun dualstack-sidecar--prepare-environment (sidecar needs)
  "Find or make the environment for NEEDS, and run SIDECAR in it."
  (dualstack-sidecar--show-in-mode-line)
  (setf (dualstack-sidecar--cancel sidecar)
        (dualstack-sidecar-environment--ensure
         needs :name (dualstack-sidecar-name sidecar) :place (dualstack-sidecar--place sidecar)
         :run (and (dualstack-sidecar--place sidecar)
                   (dualstack-sidecar-remote--run (dualstack-sidecar--place sidecar)))
         :then (lambda (python)
                 (setf (dualstack-sidecar--cancel sidecar) nil)
                 (when (eq (dualstack-sidecar-state sidecar) 'starting)
                   (condition-case err
                       (dualstack-sidecar--run sidecar python)
                     (error (dualstack-sidecar--fail
                             sidecar (dualstack-sidecar--reason sidecar err))))))
         :else (lambda (reason)
                 (setf (dualstack-sidecar--cancel sidecar) nil)
                 (dualstack-sidecar--fail sidecar reason)))))

(defun dualstack-sidecar--run (sidecar python)
  "Run SIDECAR, unless it has a command of its own, with PYTHON.
Nil means that of `dualstack-sidecar-python'."
  (let ((place (dualstack-sidecar--place sidecar))
        (own (dualstack-sidecar--own-command sidecar)))
    (setf (dualstack-sidecar-command sidecar)
          (cond (own own)
                (place (cons python (dualstack-sidecar-remote--command
                                     place (dualstack-sidecar--serve-arguments sidecar))))
                (t (append (dualstack-sidecar--program python)
                           (dualstack-sidecar--serve-arguments sidecar)))))
    (dualstack-sidecar--launch sidecar)))

(defun dualstack-sidecar--serve-arguments (sidecar)
  "Return the arguments of our source for SIDECAR."
  (let ((arguments (dualstack-sidecar--arguments (dualstack-sidecar--modules sidecar)
                                                 (dualstack-sidecar--path sidecar))))
    (when (eq (dualstack-sidecar--transport sidecar) 'pipe)
      (setf (dualstack-sidecar--ready-word sidecar) (dualstack-sidecar--pipe-word))
      (setcdr arguments (append (list "--stdio" "--ready"
                                      (dualstack-sidecar--ready-word sidecar))
                                (and (dualstack-sidecar--place sidecar) '("--pass-log"))
                                (cdr arguments))))
    arguments))

(defun dualstack-sidecar--launch (sidecar)
  "Start the process of SIDECAR."
  (let ((log (dualstack-sidecar--log-buffer (dualstack-sidecar-name sidecar)))
        (process-adaptive-read-buffering nil))
    (setf (dualstack-sidecar-state sidecar) 'starting
          (dualstack-sidecar-started sidecar) (float-time)
          (dualstack-sidecar-failure sidecar) nil
          (dualstack-sidecar--output sidecar) ""
          (dualstack-sidecar--broken sidecar) nil
          (dualstack-sidecar--renewed sidecar) nil
          (dualstack-sidecar-log sidecar) log)
    (dualstack-sidecar--log-begin log (delq nil (copy-sequence
                                                 (dualstack-sidecar-command sidecar))))
    (dualstack-sidecar--show-in-mode-line)
    (unless (dualstack-sidecar--place sidecar)
      (setf (dualstack-sidecar--stderr sidecar)
            (dualstack-sidecar--make-stderr
             (concat (dualstack-sidecar-name sidecar) " stderr") log)))
    (condition-case err
        (progn
          (setf (dualstack-sidecar-process sidecar)
                (if (dualstack-sidecar--place sidecar)
                    (dualstack-sidecar--make-remote-process sidecar)
                  (dualstack-sidecar--make-process sidecar))
                ;; Not before, as TRAMP may ask for a password.
                (dualstack-sidecar--timer sidecar)
                (run-at-time dualstack-sidecar-timeout nil #'dualstack-sidecar--late sidecar))
          (when (eq (dualstack-sidecar--transport sidecar) 'pipe)
            (dualstack-sidecar--connect-pipe sidecar)))
      (error
       ;; Nothing has read from it yet: later, deleting it could hang Windows.
       (when (dualstack-sidecar--stderr sidecar)
         (delete-process (dualstack-sidecar--stderr sidecar)))
       (dualstack-sidecar--fail
        sidecar (format "%s does not start: %s" (or (dualstack-sidecar--place sidecar)
                                                    (car (dualstack-sidecar-command sidecar)))
                        (error-message-string err)))))))

;; A Windows Emacs hangs for good when it deletes a pipe that it waits to read
;; from and that somebody can still write to, be it that the child is alive or
;; what the child has started.  So the pipe has no buffer, which could be killed;
;; nobody waits for it alone; and it ends by itself when all its writers have.
(defun dualstack-sidecar--make-stderr (name log)
  "Return a pipe process called NAME with the buffer LOG for its output."
  (let* ((buffer (generate-new-buffer " *dualstack-stderr*")) ; Nil would make one, too.
         (process (make-pipe-process
                   :name name :noquery t :buffer buffer :coding 'utf-8 :sentinel #'ignore
                   :filter (lambda (_process text)
                             (dualstack-sidecar--log-append
                              log (replace-regexp-in-string "\r\n" "\n" text t t))))))
    (set-process-buffer process nil)
    (kill-buffer buffer)
    process))

(defun dualstack-sidecar--make-process (sidecar)
  "Return a new process of SIDECAR."
  (dualstack-sidecar--as-child
    (let ((process-environment (dualstack-sidecar--environment sidecar)))
      (make-process
       :name (dualstack-sidecar-name sidecar)
       :command (mapcar #'dualstack-sidecar--encode-word
                        (dualstack-sidecar-command sidecar))
       :connection-type 'pipe :noquery t :coding 'utf-8
       :stderr (dualstack-sidecar--stderr sidecar)
       :filter (lambda (_process text)
                 (dualstack-sidecar--read sidecar text))
       :sentinel (dualstack-sidecar--sentinel sidecar)))))

(defun dualstack-sidecar--make-remote-process (sidecar)
  "Return a new process of SIDECAR, on another machine."
  (let ((command (dualstack-sidecar-command sidecar)))
    (apply #'dualstack-sidecar-remote--make-process
           (dualstack-sidecar--place sidecar)
           (if (dualstack-sidecar--own-command sidecar)
               (dualstack-sidecar-remote--own-words
                command (setf (dualstack-sidecar--ready-word sidecar)
                              (dualstack-sidecar--pipe-word)))
             (dualstack-sidecar-remote--python-words (car command) (cdr command)))
           (list :name (dualstack-sidecar-name sidecar) :noquery t :coding 'binary
                 :sentinel (dualstack-sidecar--sentinel sidecar)))))

(defun dualstack-sidecar--sentinel (sidecar)
  "Return the sentinel of a process of SIDECAR."
  (lambda (process _event)
    (unless (process-live-p process)
      (dualstack-sidecar--ended sidecar process))))

(defun dualstack-sidecar--late (sidecar)
  "Give up SIDECAR, which has not started in time."
  (dualstack-sidecar--give-up
   sidecar
   (cond
    ((eq (dualstack-sidecar--transport sidecar) 'pipe)
     (format "it was not ready within %s s%s" dualstack-sidecar-timeout
             (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar))))
    ((dualstack-sidecar-port sidecar)
       (format "no answer at port %d within %s s" (dualstack-sidecar-port sidecar)
               dualstack-sidecar-timeout))
    (t (format "no port line within %s s%s" dualstack-sidecar-timeout
             (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar)))))))

(defun dualstack-sidecar--connect-pipe (sidecar)
  "Connect to SIDECAR, whose process has begun, over its own streams."
  (setf (dualstack-sidecar-address sidecar)
        (if (dualstack-sidecar--place sidecar)
            (file-remote-p (dualstack-sidecar--place sidecar))
          "its pipe"))
  (condition-case nil
      (setf (dualstack-sidecar--cancel sidecar)
            (dualstack-sidecar--pipe-open
             (dualstack-sidecar-process sidecar) (dualstack-sidecar--ready-word sidecar)
             (dualstack-sidecar-log sidecar)
             (lambda (connection) (dualstack-sidecar--ready sidecar connection))
             (lambda (reason) (dualstack-sidecar--pipe-broken sidecar reason))))
    ;; It has ended already: its end says why.
    (dualstack-epc-closed nil)))

(defun dualstack-sidecar--pipe-broken (sidecar reason)
  "Note that SIDECAR, which was not ready yet, speaks no EPC, for REASON.
Its child may say within a moment why."
  (when (eq (dualstack-sidecar-state sidecar) 'starting)
    (dualstack-sidecar--disarm sidecar)
    (setf (dualstack-sidecar-failure sidecar) (list 'dualstack-sidecar-error reason)
          (dualstack-sidecar--timer sidecar)
          (run-at-time dualstack-sidecar--farewell nil
                       (lambda ()
                         (when (eq (dualstack-sidecar-state sidecar) 'starting)
                           (dualstack-sidecar--fail sidecar reason)))))))

;;;; The announcement

(defun dualstack-sidecar--read (sidecar text)
  "Take TEXT, which SIDECAR has printed on standard output."
  (pcase (dualstack-sidecar-state sidecar)
    ((guard (or (dualstack-sidecar-connection sidecar)
                (dualstack-sidecar--cancel sidecar)))
     (dualstack-sidecar--log-append (dualstack-sidecar-log sidecar) text))
    ('starting (dualstack-sidecar--read-announcement sidecar text))))

(defun dualstack-sidecar--read-announcement (sidecar text)
  "Take TEXT, which has more of what SIDECAR announces."
  (setf (dualstack-sidecar--output sidecar)
        (concat (dualstack-sidecar--output sidecar) text))
  (let ((lines (split-string (dualstack-sidecar--output sidecar) "\r?\n")))
    (cond ((and (cdr lines) (not (string-match-p "\\`[0-9]+\\'" (car lines))))
           (dualstack-sidecar--fail
            sidecar (format "it printed %S where its port should be" (car lines))))
          ((and (cdr lines) (not (dualstack-sidecar--auth sidecar)))
           (dualstack-sidecar--connect sidecar (string-to-number (car lines)) nil))
          ((cddr lines)
           (dualstack-sidecar--connect sidecar (string-to-number (car lines))
                                       (cadr lines)))
          ((> (length (dualstack-sidecar--output sidecar)) 10000)
           (dualstack-sidecar--fail sidecar "it printed no port, but much else")))))

(defun dualstack-sidecar--connect (sidecar port announcement)
  "Connect to SIDECAR at PORT, by its ANNOUNCEMENT, a string or nil."
  (let ((announced (and announcement (ignore-errors
                          (car (read-from-string
                                (dualstack-epc--scan
                                 (encode-coding-string announcement 'utf-8-unix))))))))
    (pcase announced
      ((guard (null announcement))
       (setf (dualstack-sidecar-port sidecar) port
             (dualstack-sidecar-addresses sidecar) (list (cons "localhost" port)))
       (dualstack-sidecar--try-next sidecar (dualstack-sidecar-addresses sidecar) nil))
      (`(dualstack-epc 1 :token ,(and (pred stringp) token) :addresses ,addresses)
       (setf (dualstack-sidecar-port sidecar) port
             (dualstack-sidecar-token sidecar) token
             (dualstack-sidecar-addresses sidecar) addresses)
       (dualstack-sidecar--try-next sidecar addresses nil))
      (_ (dualstack-sidecar--fail
          sidecar (format "it printed %S where its announcement should be"
                          announcement))))))

(defun dualstack-sidecar--try-next (sidecar addresses err)
  "Connect to SIDECAR at the first of ADDRESSES, or else at the others.
ERR is the error of the one before."
  (pcase addresses
    ('nil
     ;; A child that dies has its own report, which tells more.
     (dualstack-sidecar--disarm sidecar)
     (setf (dualstack-sidecar--timer sidecar)
           (run-at-time dualstack-sidecar--farewell nil #'dualstack-sidecar--give-up sidecar
                        (concat (error-message-string err)
                                (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar))))))
    (`((,host . ,port) . ,others)
     (setf (dualstack-sidecar-address sidecar)
           (format (if (string-match-p ":" host) "[%s]:%d" "%s:%d") host port)
           (dualstack-sidecar--cancel sidecar)
           (dualstack-epc-connect-async
            host port :name (dualstack-sidecar--connection-name sidecar)
            :token (dualstack-sidecar-token sidecar)
            :then (lambda (connection)
                    (dualstack-sidecar--ready sidecar connection))
            :else (lambda (err)
                    (when (eq (dualstack-sidecar-state sidecar) 'starting)
                      (dualstack-sidecar--try-next sidecar others err))))))))

(defun dualstack-sidecar--ready (sidecar connection)
  "Note that SIDECAR is running, over CONNECTION."
  (if (not (eq (dualstack-sidecar-state sidecar) 'starting))
      (dualstack-epc-close connection)
    (dolist (method (dualstack-sidecar--methods sidecar))
      (apply #'dualstack-epc-define-method connection method))
    (when (dualstack-sidecar--place sidecar)
      (dualstack-epc-define-method connection 'dualstack-log
                                   (lambda (text)
                                     (dualstack-sidecar--log-append
                                      (dualstack-sidecar-log sidecar) text)
                                     nil)))
    (dualstack-sidecar--disarm sidecar)
    (setf (dualstack-sidecar--broken sidecar) nil
          (dualstack-sidecar-connection sidecar) connection
          (dualstack-sidecar-state sidecar) 'running
          (dualstack-epc-connection-on-end connection)
          (lambda (_connection) (dualstack-sidecar--disconnected sidecar connection)))
    (dualstack-sidecar--show-in-mode-line)
    (dualstack-sidecar--tell sidecar)))

(defun dualstack-sidecar--tell (sidecar)
  "Call whoever waits for SIDECAR with what became of it."
  (let ((then (nreverse (dualstack-sidecar--then sidecar)))
        (else (nreverse (dualstack-sidecar--else sidecar))))
    (setf (dualstack-sidecar--then sidecar) nil
          (dualstack-sidecar--else sidecar) nil)
    (if (eq (dualstack-sidecar-state sidecar) 'running)
        (dolist (function then)
          (dualstack-epc--later function sidecar))
      (dolist (function else)
        (dualstack-epc--later function (dualstack-sidecar-failure sidecar))))))

;;;; The end

;;;###autoload
(defun dualstack-sidecar-stop (&optional name)
  "Stop the sidecar NAME, by default \"dualstack\".
This closes its standard input, at which it exits.  If it still runs after two
seconds it is killed.  Emacs does not wait for that.  As a command, ask which
one if there are several."
  (interactive (list (dualstack-sidecar--read-name "Stop sidecar: ")))
  (let ((sidecar (dualstack-sidecar-get name)))
    (cond ((null sidecar)
           (user-error "No sidecar %s was started" (or name "dualstack")))
          (t
           (setf (dualstack-sidecar-state sidecar) 'stopping
                 (dualstack-sidecar-failure sidecar)
                 '(dualstack-sidecar-error "It was stopped"))
           (dualstack-sidecar--tell sidecar)
           (dualstack-sidecar--release sidecar)))))

(defun dualstack-sidecar--release (sidecar)
  "Let go of SIDECAR's connection, timers and process."
  (dualstack-sidecar--disarm sidecar)
  (when (dualstack-sidecar--cancel sidecar)
    (funcall (dualstack-sidecar--cancel sidecar))
    (setf (dualstack-sidecar--cancel sidecar) nil))
  (when (dualstack-sidecar-connection sidecar)
    (dualstack-epc-close (dualstack-sidecar-connection sidecar))
    (setf (dualstack-sidecar-connection sidecar) nil))
  (let ((process (dualstack-sidecar-process sidecar)))
    (cond ((process-live-p process)
           (ignore-errors (process-send-eof process))
           (setf (dualstack-sidecar--timer sidecar)
                 (run-at-time 2 nil #'delete-process process)))
          (t
           (dualstack-sidecar--forget-process sidecar)))))

(defun dualstack-sidecar--after-log (sidecar function)
  "Call FUNCTION once what SIDECAR's child has written is in its log.
What it has started may write for ever: wait a moment at most."
  (let* ((stderr (dualstack-sidecar--stderr sidecar))
         (timer nil)
         (once (lambda (&rest _)
                 (when timer
                   (cancel-timer timer)
                   (setq timer nil)
                   (set-process-sentinel stderr #'ignore)
                   (funcall function)))))
    (cond ((process-live-p stderr)
           (dualstack-sidecar--disarm sidecar)
           (setf timer (run-at-time dualstack-sidecar--farewell nil once)
                 (dualstack-sidecar--timer sidecar) timer)
           (set-process-sentinel stderr once))
          (t (funcall function)))))

(defun dualstack-sidecar--forget-process (sidecar)
  "Note that SIDECAR's process has ended."
  (dualstack-sidecar--disarm sidecar)
  (setf (dualstack-sidecar--stderr sidecar) nil)
  (when (memq (dualstack-sidecar-state sidecar) '(starting running stopping))
    (setf (dualstack-sidecar-state sidecar) 'stopped))
  (dualstack-sidecar--show-in-mode-line))

(defun dualstack-sidecar--disarm (sidecar)
  "Cancel the timer of SIDECAR."
  (when (dualstack-sidecar--timer sidecar)
    (cancel-timer (dualstack-sidecar--timer sidecar))
    (setf (dualstack-sidecar--timer sidecar) nil)))

(defun dualstack-sidecar--disconnected (sidecar connection)
  "Note that CONNECTION, that of SIDECAR, is over.
If its child lives it is made again, once.  A child that goes on without is of
no use, and counts as crashed."
  (when (and (eq (dualstack-sidecar-state sidecar) 'running)
             (eq connection (dualstack-sidecar-connection sidecar)))
    (if (dualstack-sidecar--renewable-p sidecar connection)
        (dualstack-sidecar--renew sidecar connection)
      (dualstack-sidecar--mourn sidecar connection))))

(defun dualstack-sidecar--renewable-p (sidecar connection)
  "Return non-nil if CONNECTION of SIDECAR, which has ended, is made again.
One that was made again and has not served a call since is not."
  (and (dualstack-sidecar-addresses sidecar)
       (not (eq (dualstack-sidecar--transport sidecar) 'pipe))
       (process-live-p (dualstack-sidecar-process sidecar))
       (or (not (dualstack-sidecar--renewed sidecar))
           (> (dualstack-epc-connection-calls connection)
              (dualstack-sidecar--renewed sidecar)))))

;; Emacs on Windows takes a healthy socket for closed now and then.
(defun dualstack-sidecar--renew (sidecar connection)
  "Make CONNECTION of SIDECAR, whose child lives, again."
  (dualstack-log "%s: connects again, as its connection is gone: %s"
                 (dualstack-sidecar-name sidecar) (dualstack-epc-connection-ended connection))
  (dualstack-sidecar--disarm sidecar)
  (setf (dualstack-sidecar-state sidecar) 'starting
        (dualstack-sidecar--broken sidecar) (dualstack-epc-connection-ended connection)
        ;; What the proof takes is no service.
        (dualstack-sidecar--renewed sidecar) (if (dualstack-sidecar-token sidecar) 3 0)
        (dualstack-sidecar-connection sidecar) nil
        (dualstack-sidecar--timer sidecar)
        (run-at-time dualstack-sidecar-timeout nil #'dualstack-sidecar--late sidecar))
  (dualstack-sidecar--try-next sidecar (dualstack-sidecar-addresses sidecar) nil))

(defun dualstack-sidecar--give-up (sidecar reason)
  "Note that SIDECAR does not run for REASON, or does not run any longer."
  (let ((broken (dualstack-sidecar--broken sidecar)))
    (if broken
        (dualstack-sidecar--crash sidecar (format "its connection is gone: %s; %s"
                                                  broken reason))
      (dualstack-sidecar--fail sidecar reason))))

(defun dualstack-sidecar--mourn (sidecar connection)
  "Let the child of SIDECAR say within a moment why CONNECTION has ended."
  (setf (dualstack-sidecar--timer sidecar)
        (run-at-time dualstack-sidecar--farewell nil
                     #'dualstack-sidecar--outlived sidecar connection)))

(defun dualstack-sidecar--outlived (sidecar connection)
  "Note that SIDECAR lives on without CONNECTION.
One that has ended meanwhile says why itself, when Emacs comes to it."
  (when (process-live-p (dualstack-sidecar-process sidecar))
    (dualstack-sidecar--crash
     sidecar (format "its connection is gone: %s"
                     (dualstack-epc-connection-ended connection)))))

(defun dualstack-sidecar--crash (sidecar reason &optional reported)
  "Note that SIDECAR, which ran, does not any longer, for REASON.
Start it again if that is wanted: at once if REPORTED is non-nil, that is if
Emacs has told of the end of its process, and otherwise then."
  (dualstack-sidecar--fail sidecar reason)
  ;; Connecting to another machine takes time, and would do so at any moment.
  (when (and (dualstack-sidecar--auto-restart sidecar) (not (dualstack-sidecar--place sidecar)))
    (if reported
        (dualstack-sidecar--restart-later sidecar)
      ;; One that is dead by now may still be to be told of, which ends the timer.
      (setf (dualstack-sidecar--again sidecar) t))))

(defun dualstack-sidecar--ended (sidecar process)
  "Note that PROCESS of SIDECAR has ended, and report it when its log is whole."
  (when (eq process (dualstack-sidecar-process sidecar))
    (dualstack-sidecar--after-log
     sidecar (lambda () (dualstack-sidecar--report-end sidecar process)))))

(defun dualstack-sidecar--report-end (sidecar process)
  "Say why SIDECAR's PROCESS has ended, and do what follows."
  (when (eq process (dualstack-sidecar-process sidecar))
    (let ((state (if (dualstack-sidecar--broken sidecar)
                     'running
                   (dualstack-sidecar-state sidecar)))
          (status (process-exit-status process)))
      (setf (dualstack-sidecar--broken sidecar) nil)
      (dualstack-sidecar--forget-process sidecar)
      (pcase state
        ('starting
         (dualstack-sidecar-environment--forget (car (dualstack-sidecar-command sidecar)))
         (dualstack-sidecar--fail
          sidecar (concat (or (and (eq status 0) ; What made it end may be known.
                                   (cadr (dualstack-sidecar-failure sidecar)))
                              (format "it ended before it ran, with status %s" status))
                          (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar)))))
        ('running
         (dualstack-sidecar--crash
          sidecar (concat (dualstack-sidecar--why-ended sidecar status)
                          (dualstack-sidecar--log-tail (dualstack-sidecar-log sidecar)))
          t))
        ;; It was asked to end as it had failed before.
        ('failed
         (when (dualstack-sidecar--again sidecar)
           (setf (dualstack-sidecar--again sidecar) nil)
           (dualstack-sidecar--restart-later sidecar)))))))

(defun dualstack-sidecar--why-ended (sidecar status)
  "Return why SIDECAR, which ran, has ended with STATUS.
One that ends in order has lost its connection."
  (let ((connection (dualstack-sidecar-connection sidecar)))
    (cond ((and (dualstack-sidecar--place sidecar)
                (or (eq status 255)
                    (eq 'signal (process-status (dualstack-sidecar-process sidecar)))))
           (format "the connection to %s is lost; the next start connects again"
                   (file-remote-p (dualstack-sidecar--place sidecar))))
          ((and (eq status 0) connection (dualstack-epc-connection-ended connection))
           (format "its connection is gone: %s" (dualstack-epc-connection-ended connection)))
          (t (format "it crashed, with status %s" status)))))

(defun dualstack-sidecar--fail (sidecar reason)
  "Note that SIDECAR does not run, for REASON, and say so."
  (setf (dualstack-sidecar-state sidecar) 'failed
        (dualstack-sidecar-failure sidecar)
        (list 'dualstack-sidecar-error
              (format "%s: %s" (dualstack-sidecar-name sidecar) reason)))
  (dualstack-log "%s" (cadr (dualstack-sidecar-failure sidecar)))
  (unless noninteractive
    (message "%s" (dualstack-view--error (dualstack-sidecar-failure sidecar))))
  (dualstack-sidecar--tell sidecar)
  (dualstack-sidecar--release sidecar)
  (dualstack-sidecar--show-in-mode-line))

(defun dualstack-sidecar--restart-later (sidecar)
  "Start SIDECAR again, the later the more often that has been necessary."
  (when (> (- (float-time) (dualstack-sidecar-started sidecar)) 60)
    (setf (dualstack-sidecar-restarts sidecar) 0))
  (let ((delay (min 60 (* 0.5 (expt 2 (dualstack-sidecar-restarts sidecar))))))
    (cl-incf (dualstack-sidecar-restarts sidecar))
    (dualstack-log "%s: starts again in %s s" (dualstack-sidecar-name sidecar) delay)
    (setf (dualstack-sidecar--timer sidecar)
          (run-at-time delay nil #'dualstack-sidecar--launch sidecar))))

;;;###autoload
(defun dualstack-sidecar-restart (&optional name)
  "Stop the sidecar NAME, by default \"dualstack\", and start it again.
As a command, ask which one if there are several."
  (interactive (list (dualstack-sidecar--read-name "Restart sidecar: ")))
  (let ((old (or (dualstack-sidecar-get name)
                 (user-error "No sidecar %s was started" (or name "dualstack")))))
    (dualstack-sidecar-stop name)
    (setq dualstack-sidecars (delq old dualstack-sidecars))
    (dualstack-sidecar-start :name (dualstack-sidecar-name old)
                             :command (dualstack-sidecar--own-command old)
                             :modules (dualstack-sidecar--modules old)
                             :path (dualstack-sidecar--path old)
                             :requirements (dualstack-sidecar--requirements old)
                             :python (dualstack-sidecar--python old)
                             :transport (dualstack-sidecar--transport old)
                             :directory (dualstack-sidecar--place old)
                             :reload (dualstack-sidecar--reload old)
                             :log-file (dualstack-sidecar--log-file
                                        (dualstack-sidecar-log old))
                             :auth (dualstack-sidecar--auth old)
                             :methods (dualstack-sidecar--methods old)
                             :restart (dualstack-sidecar--auto-restart old))))

;;;; Mode line

(defvar dualstack-sidecar--mode-line nil
  "What the mode line says of sidecars that start.")
(put 'dualstack-sidecar--mode-line 'risky-local-variable t)

(defun dualstack-sidecar--show-in-mode-line ()
  "Show in the mode line which sidecars are starting, or nothing."
  (let ((starting (cl-remove 'starting dualstack-sidecars
                             :key #'dualstack-sidecar-state :test-not #'eq)))
    (setq dualstack-sidecar--mode-line
          (and starting
               (format " [%s...]" (mapconcat #'dualstack-sidecar-name starting " "))))
    (if starting
        (add-to-list 'mode-line-misc-info '(t dualstack-sidecar--mode-line) t)
      (setq mode-line-misc-info
            (delete '(t dualstack-sidecar--mode-line) mode-line-misc-info)))
    (force-mode-line-update t)))

(autoload 'dualstack-sidecar-status "dualstack-sidecar-status" nil t)
(autoload 'dualstack-hello "dualstack-sidecar-status" nil t)
(autoload 'dualstack-sidecar--read-name "dualstack-sidecar-status")

(provide 'dualstack-sidecar)

;;; dualstack-sidecar.el ends here
