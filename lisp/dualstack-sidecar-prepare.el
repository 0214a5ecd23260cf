;;; dualstack-sidecar-prepare.el --- The command line of a sidecar  -*- lexical-binding: t; -*-

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

;; Before a sidecar is started it is found out how: by a command of its own, by
;; a Python that was named, or in an environment with the packages that it
;; needs.  The command stays that of the first start when a sidecar is started
;; again by itself.

;;; Code:

(require 'dualstack-sidecar-end)
(require 'dualstack-sidecar-environment)
(require 'dualstack-sidecar-launch)
(require 'dualstack-sidecar-pipe)
(require 'dualstack-sidecar-python)
(require 'dualstack-sidecar-record)
(require 'dualstack-sidecar-remote)

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
    (quit (dualstack-sidecar--stop sidecar)
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

(provide 'dualstack-sidecar-prepare)

;;; dualstack-sidecar-prepare.el ends here
