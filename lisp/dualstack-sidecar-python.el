;;; dualstack-sidecar-python.el --- Which Python runs sidecars  -*- lexical-binding: t; -*-

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

;; A sidecar is run by the interpreter that the user has chosen, or by that of
;; the environment that `dualstack-sidecar-install' makes, or by the first one
;; on the path.

;;; Code:

(require 'dualstack)

(define-error 'dualstack-sidecar-error "Sidecar")

(defcustom dualstack-python nil
  "The Python interpreter that runs sidecars, or nil.
Nil means the one that `dualstack-sidecar-install' has set up, or else the
first python3 or python on the path."
  :type '(choice (const :tag "Choose" nil) file)
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-sidecar-directory
  (locate-user-emacs-file "dualstack-venv")
  "Where `dualstack-sidecar-install' puts the Python environment."
  :type 'directory
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defun dualstack-sidecar-python ()
  "Return the Python interpreter for sidecars; signal `dualstack-sidecar-error'."
  (let ((own (dualstack-sidecar-venv-python)))
    (cond (dualstack-python
           (or (executable-find dualstack-python)
               (signal 'dualstack-sidecar-error
                       (list (format "There is no program %s: set `dualstack-python'"
                                     dualstack-python)))))
          ((file-executable-p own) own)
          ((executable-find "python3"))
          ((executable-find "python"))
          (t (signal 'dualstack-sidecar-error
                     '("There is no Python on the path: install Python 3.10 or \
later, or set `dualstack-python'"))))))

(defun dualstack-sidecar-venv-python ()
  "Return where the interpreter of `dualstack-sidecar-directory' is, or would be."
  (expand-file-name (if (eq system-type 'windows-nt) "Scripts/python.exe" "bin/python")
                    dualstack-sidecar-directory))

(defun dualstack-sidecar-default-command (&rest modules)
  "Return the command line that serves MODULES, names or files, with proof."
  (append (list (dualstack-sidecar-python) "-m" "dualstack_epc.sidecar") modules))

(provide 'dualstack-sidecar-python)

;;; dualstack-sidecar-python.el ends here
