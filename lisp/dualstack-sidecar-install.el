;;; dualstack-sidecar-install.el --- Set up the Python of sidecars  -*- lexical-binding: t; -*-

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

;; `dualstack-sidecar-install' makes a Python environment below the user's
;; Emacs directory and installs the Python package that comes with this one.
;; It runs in the background; its progress is in a buffer.

;;; Code:

(require 'subr-x)
(require 'dualstack-sidecar-python)

(defconst dualstack-sidecar-install--oldest '(3 10)
  "The oldest Python that will do, as major and minor version.")

(defvar dualstack-sidecar-install-source
  (let ((here (file-name-directory (or load-file-name buffer-file-name ""))))
    (car (seq-filter (lambda (directory)
                       (file-exists-p (expand-file-name "pyproject.toml" directory)))
                     (list (expand-file-name "python" here)
                           (expand-file-name "../python" here)))))
  "The directory of the Python package's source, or nil if it is not here.")

(defun dualstack-sidecar-install--stamp ()
  "Return the name of the file with the version that is installed."
  (expand-file-name "dualstack-version" dualstack-sidecar-directory))

(defun dualstack-sidecar-installed-version ()
  "Return the version that is installed, a string, or nil."
  (let ((stamp (dualstack-sidecar-install--stamp)))
    (and (file-readable-p stamp)
         (file-executable-p (dualstack-sidecar-venv-python))
         (with-temp-buffer
           (insert-file-contents stamp)
           (string-trim (buffer-string))))))

;;;###autoload
(defun dualstack-sidecar-install (&optional then else)
  "Set up Python for sidecars in `dualstack-sidecar-directory'.
The package dualstack-epc is installed there, or brought to the version of
this package.  That is done in the background: by uv where it is on the
path, or else by Python's venv and pip.  Its progress is in the buffer
*dualstack-install*.  THEN is called when it is done, ELSE if it fails."
  (interactive)
  (unless dualstack-sidecar-install-source
    (user-error "The Python source is not beside dualstack's Lisp: %s"
                "pip install dualstack-epc, and set `dualstack-python'"))
  (let ((buffer (get-buffer-create "*dualstack-install*")))
    (when (get-buffer-process buffer)
      (user-error "The installation is running, see *dualstack-install*"))
    (let ((steps (dualstack-sidecar-install--steps)))
      (with-current-buffer buffer
        (let ((inhibit-read-only t))
          (erase-buffer))
        (special-mode))
      (unless noninteractive
        (display-buffer buffer))
      (dualstack-sidecar-install--run steps buffer then else))))

;;;###autoload
(defun dualstack-sidecar-upgrade (then)
  "Call THEN, after bringing Python to the version of this package.
That is done if `dualstack-sidecar-install' has put an older one there.  If
it fails, the older one has to do."
  (let ((installed (dualstack-sidecar-installed-version)))
    (if (not (and installed (version< installed dualstack-version)))
        (funcall then)
      (message "dualstack: Python has version %s, %s is installed first..."
               installed dualstack-version)
      (condition-case err
          (dualstack-sidecar-install then then)
        (user-error
         (message "dualstack: Python stays at version %s: %s" installed (cadr err))
         (funcall then))))))

(defun dualstack-sidecar-install--steps ()
  "Return the command lines that install, in order."
  (let ((uv (executable-find "uv"))
        (python (dualstack-sidecar-install--python))
        (own (dualstack-sidecar-venv-python))
        (directory (expand-file-name dualstack-sidecar-directory))
        (source (expand-file-name dualstack-sidecar-install-source)))
    (if uv
        (list (list uv "venv" "--allow-existing" "--python" python directory)
              (list uv "pip" "install" "--python" own "--reinstall-package"
                    "dualstack-epc" source))
      (list (list python "-m" "venv" directory)
            (list own "-m" "pip" "install" "--disable-pip-version-check"
                  "--upgrade" source)))))

(defun dualstack-sidecar-install--python ()
  "Return a Python that is new enough to make the environment with.
Signal `user-error' if there is none, with what to type."
  (let (found old)
    (dolist (name (if dualstack-python
                      (list dualstack-python)
                    '("python3" "python" "python3.13" "python3.12" "python3.11" "python3.10")))
      (let ((version (and (not found) (dualstack-sidecar-install--version name))))
        (cond ((null version))
              ((version-list-< version dualstack-sidecar-install--oldest)
               (setq old (format "%s is Python %s" name
                                 (mapconcat #'number-to-string version "."))))
              (t (setq found (executable-find name))))))
    (or found
        (user-error "%s; Python 3.10 or later is needed.  Type: %s"
                    (or old "There is no Python on the path")
                    (pcase system-type
                      ('windows-nt "winget install Python.Python.3.12")
                      ('darwin "brew install python")
                      (_ "sudo apt-get install python3 python3-venv"))))))

(defun dualstack-sidecar-install--version (name)
  "Return the version of the Python called NAME as a list, or nil."
  (let ((program (executable-find name)))
    (and program
         (with-temp-buffer
           (and (eq 0 (ignore-errors
                        (call-process program nil t nil "-c"
                                      "import sys; print('%d.%d' % sys.version_info[:2])")))
                (ignore-errors (version-to-list (string-trim (buffer-string)))))))))

(defun dualstack-sidecar-install--run (commands buffer then else)
  "Run COMMANDS, lists of words, log to BUFFER, and then call THEN, or ELSE."
  (dualstack-sidecar-install--say buffer "$ %s\n" (mapconcat #'identity (car commands) " "))
  (make-process
   :name "dualstack-install" :buffer buffer :command (car commands) :noquery t
   :connection-type 'pipe
   :filter (lambda (_process text)
             (dualstack-sidecar-install--say buffer "%s" text))
   :sentinel
   (lambda (process _event)
     (unless (process-live-p process)
       (cond ((not (eq 0 (process-exit-status process)))
              (dualstack-sidecar-install--say
               buffer "\nThis failed, with status %d.\n" (process-exit-status process))
              (message "dualstack: the installation failed, see *dualstack-install*")
              (when else
                (funcall else)))
             ((cdr commands)
              (dualstack-sidecar-install--run (cdr commands) buffer then else))
             (t
              (write-region dualstack-version nil (dualstack-sidecar-install--stamp)
                            nil 'silent)
              (dualstack-sidecar-install--say buffer "\nDone: %s\n"
                                              (dualstack-sidecar-venv-python))
              (message "dualstack: Python is set up; M-x dualstack-hello tries it")
              (when then
                (funcall then))))))))

(defun dualstack-sidecar-install--say (buffer format &rest args)
  "Append FORMAT with ARGS to BUFFER, if it is still there."
  (when (buffer-live-p buffer)
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (goto-char (point-max))
        (insert (apply #'format format args))))))

(provide 'dualstack-sidecar-install)

;;; dualstack-sidecar-install.el ends here
