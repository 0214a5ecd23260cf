;;; dualstack-sidecar-environment.el --- Packages for sidecars  -*- lexical-binding: t; -*-

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

;; A sidecar that needs Python packages is run in an environment that has
;; them.  A child, `dualstack-epc environment', makes it or finds the one that
;; is there; this file runs that child, and shows how far it is.
;;
;; 1. `dualstack-sidecar-environment--needs' says what modules need, by their
;;    inline metadata (PEP 723) and by what the sidecar was told.
;; 2. `dualstack-sidecar-environment--ensure' starts the child, which ends when
;;    its input does.  Its output goes to a buffer.
;; 3. Lines of the child's own tell of steps, and of the Python in the end.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack-child)
(require 'dualstack-epc-codec)
(require 'dualstack-epc-later)
(require 'dualstack-sidecar-log)
(require 'dualstack-sidecar-pipe)
(require 'dualstack-sidecar-python)

(defcustom dualstack-sidecar-environments-directory
  (locate-user-emacs-file "dualstack/environments/")
  "Where Python environments with the packages of sidecars are kept."
  :type 'directory
  :group 'dualstack
  :package-version '(dualstack . "0.2.0"))

;;;; What is needed

(defun dualstack-sidecar-environment--needs (modules requirements)
  "Return what a sidecar with MODULES and REQUIREMENTS needs, or nil if nothing.
It is a list of arguments of `dualstack-epc environment'.  Signal
`dualstack-sidecar-error' if REQUIREMENTS is no list of strings."
  (unless (and (listp requirements) (seq-every-p #'stringp requirements))
    (dualstack-sidecar--error "Requirements are a list of strings, such as \\='(\"rich>=13\"), not %S"
                              requirements))
  (append (seq-mapcat (lambda (each) (list (concat "--requirement=" each))) requirements)
          (seq-mapcat (lambda (each) (list "--script" (dualstack-sidecar--full-name each)))
                      (seq-filter #'dualstack-sidecar-environment--metadata-p modules))))

(defun dualstack-sidecar-environment--metadata-p (module)
  "Return non-nil if MODULE is a file with inline metadata."
  (and (string-suffix-p ".py" module)
       (file-readable-p module)
       (with-temp-buffer
         (insert-file-contents module)
         (re-search-forward "^# /// script[ \t\r]*$" nil t))))

;;;; Making it

(cl-defstruct (dualstack-sidecar-environment--job
               (:constructor dualstack-sidecar-environment--make-job) (:copier nil))
  "The child that makes an environment for the sidecar NAME.
THEN and ELSE are as for `dualstack-sidecar-environment--ensure'.  STEP is what
is being done, TIMER shows it, BEGUN is the time as of `float-time'.  REST is
output that is no whole line yet, OUTCOME the last line."
  name process buffer then else timer step begun (rest "") outcome)

(defvar dualstack-sidecar-environment--found (make-hash-table :test #'equal)
  "The Pythons of environments that were found in this session.
The keys are what they were looked for with, less the sidecar's name.")

(cl-defun dualstack-sidecar-environment--ensure (needs &key name place run rebuild then else)
  "Find or make the environment for NEEDS of the sidecar NAME; return at once.
NEEDS is of `dualstack-sidecar-environment--needs'.  RUN is called with the
arguments of our source and then those of `make-process', and starts it;
nil means `dualstack-sidecar-environment--run'.  PLACE is the directory of
another machine that it does so on, if it does.  With REBUILD, what is there is
made anew.  THEN is called with the Python in it, at once if that was found
in this session, or else ELSE with a string, why there is none.

The value is nil, or a function that gives the attempt up."
  (let* ((key (list needs place dualstack-python exec-path
                    dualstack-sidecar-environments-directory))
         (found (gethash key dualstack-sidecar-environment--found)))
    (if (and found (not rebuild) (or place (file-executable-p found)))
        (ignore (funcall then found))
      (let ((job (dualstack-sidecar-environment--make-job
                  :name name :else else :begun (float-time)
                  :buffer (dualstack-sidecar-environment--buffer name)
                  :then (lambda (python)
                          (unless place ; Windows' has backslashes.
                            (setq python (expand-file-name python)))
                          (puthash key python dualstack-sidecar-environment--found)
                          (funcall then python)))))
        (dualstack-sidecar-environment--start
         job (or run #'dualstack-sidecar-environment--run)
         `("environment" "--exit-on-eof" ,(concat "--user=" name)
           ,@(and rebuild '("--rebuild")) ,@needs))
        (lambda () (dualstack-sidecar-environment--give-up job))))))

(defun dualstack-sidecar-environment--forget (python)
  "Forget that PYTHON was found, so that it is looked at again."
  (maphash (lambda (key value)
             (when (equal value python)
               (remhash key dualstack-sidecar-environment--found)))
           dualstack-sidecar-environment--found))

(defun dualstack-sidecar-environment--run (arguments &rest process)
  "Start our source with ARGUMENTS; PROCESS is more for `make-process'."
  (let ((command (append (dualstack-sidecar--program) arguments
                         (list "--root" (expand-file-name
                                         dualstack-sidecar-environments-directory)))))
    (dualstack-sidecar--as-child
      (apply #'make-process
             :command (mapcar #'dualstack-sidecar--encode-word command)
             :connection-type 'pipe process))))

(defun dualstack-sidecar-environment--start (job run arguments)
  "Start the child of JOB with ARGUMENTS by RUN."
  (let ((process-adaptive-read-buffering nil))
    (setf (dualstack-sidecar-environment--job-process job)
          (funcall run arguments
                   :name (concat (dualstack-sidecar-environment--job-name job) " environment")
                   :noquery t :coding 'utf-8
                   :filter (lambda (_process text)
                             (dualstack-sidecar-environment--read job text))
                   :sentinel (lambda (process _event)
                               (unless (process-live-p process)
                                 (dualstack-sidecar-environment--ended job process))))
          (dualstack-sidecar-environment--job-timer job)
          (run-at-time 1 1 #'dualstack-sidecar-environment--show job))))

(defun dualstack-sidecar-environment--buffer (name)
  "Return the buffer for what making the environment of the sidecar NAME prints."
  (let ((buffer (dualstack-sidecar--special-buffer
                 (format "*dualstack-environment %s*" name))))
    (dualstack-sidecar--log-append
     buffer (format "--- %s\n" (format-time-string "%F %T")))
    buffer))

;;;; What it says

(defun dualstack-sidecar-environment--read (job text)
  "Take TEXT, which the child of JOB has printed."
  (let* ((lines (split-string (concat (dualstack-sidecar-environment--job-rest job) text)
                              "\r?\n"))
         (whole (butlast lines)))
    (setf (dualstack-sidecar-environment--job-rest job) (car (last lines)))
    (dolist (line whole)
      (if (string-prefix-p "(dualstack-environment " line)
          (dualstack-sidecar-environment--take job line)
        (dualstack-sidecar--log-append (dualstack-sidecar-environment--job-buffer job)
                                       (concat line "\n"))))))

(defun dualstack-sidecar-environment--take (job line)
  "Take LINE, which the child of JOB has printed, and which is its own."
  (pcase (ignore-errors (dualstack-epc--codec-read (encode-coding-string line 'utf-8)))
    (`(,_ step ,(and (pred integerp) number) ,(and (pred integerp) count)
          ,(and (pred stringp) what))
     (setf (dualstack-sidecar-environment--job-step job) (format "%s (%d/%d" what number count))
     (dualstack-sidecar--log-append (dualstack-sidecar-environment--job-buffer job)
                                    (format "Step %d of %d: %s\n" number count what))
     (dualstack-sidecar-environment--show job))
    ((and `(,_ ,(or 'ready 'failed) ,(pred stringp)) outcome)
     (setf (dualstack-sidecar-environment--job-outcome job) (cdr outcome)))))

(defun dualstack-sidecar-environment--show (job)
  "Show in the echo area what JOB is doing, and for how long."
  (unless (or noninteractive
              (null (dualstack-sidecar-environment--job-step job))
              (active-minibuffer-window))
    (let ((message-log-max nil))
      (message "%s: %s, %d s; C-g to quit)"
               (dualstack-sidecar-environment--job-name job)
               (dualstack-sidecar-environment--job-step job)
               (- (float-time) (dualstack-sidecar-environment--job-begun job))))))

;;;; Its end

(defun dualstack-sidecar-environment--ended (job process)
  "Note that PROCESS, the child of JOB, has ended."
  (dualstack-sidecar-environment--disarm job)
  (let ((buffer (dualstack-sidecar-environment--job-buffer job)))
    (pcase (dualstack-sidecar-environment--job-outcome job)
      (`(ready ,python)
       (dualstack-sidecar--log-append buffer (format "Ready: %s\n" python))
       (when (dualstack-sidecar-environment--job-step job)
         (unless noninteractive
           (message "%s: the environment is ready" (dualstack-sidecar-environment--job-name job))))
       (funcall (dualstack-sidecar-environment--job-then job) python))
      (outcome
       (let ((reason (or (cadr outcome)
                         (format "making the environment ended with status %s%s"
                                 (process-exit-status process)
                                 (dualstack-sidecar--log-tail buffer)))))
         (dualstack-sidecar--log-append buffer (concat reason "\n"))
         (funcall (dualstack-sidecar-environment--job-else job)
                  (format "there is no environment: %s" reason)))))))

(defun dualstack-sidecar-environment--disarm (job)
  "Cancel the timer of JOB."
  (when (dualstack-sidecar-environment--job-timer job)
    (cancel-timer (dualstack-sidecar-environment--job-timer job))
    (setf (dualstack-sidecar-environment--job-timer job) nil)))

(defun dualstack-sidecar-environment--give-up (job)
  "End the child of JOB, with all that is half made; call nobody."
  (dualstack-sidecar-environment--disarm job)
  (let ((process (dualstack-sidecar-environment--job-process job)))
    (setf (dualstack-sidecar-environment--job-then job) #'ignore
          (dualstack-sidecar-environment--job-else job) #'ignore
          (dualstack-sidecar-environment--job-step job) nil)
    (when (process-live-p process)
      (dualstack-sidecar--pipe-end process)
      (setf (dualstack-sidecar-environment--job-timer job)
            (run-at-time 5 nil #'dualstack-child--end process)))))

(provide 'dualstack-sidecar-environment)

;;; dualstack-sidecar-environment.el ends here
