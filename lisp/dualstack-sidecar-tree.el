;;; dualstack-sidecar-tree.el --- A module and what it may import  -*- lexical-binding: t; -*-

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

;; Python looks for what a module imports beside its file, too.  To run it on
;; another machine that is copied: the Python files in its directory, and
;; packages there, which are directories with a file __init__.py, with all that
;; is in them.  Of a directory with very much of that nobody wants a copy.

;;; Code:

(require 'cl-lib)
(require 'dualstack-sidecar-python)

(defconst dualstack-sidecar-tree--most-bytes 4000000
  "How many bytes the files that are copied with a module may have.")

(defconst dualstack-sidecar-tree--most-names 5000
  "How many names in directories are looked at.")

(defun dualstack-sidecar-tree--of-module (file)
  "Return the module FILE and what it may import from beside it.
It is an alist of names, that of FILE first, and contents in bytes.  The names
are below its directory, or below the one around that if FILE is __init__.py.
Signal `dualstack-sidecar-error' if that is too much, or if there is no FILE."
  (unless (and (file-regular-p file) (file-readable-p file))
    (dualstack-sidecar--error "There is no file %s" file))
  (let* ((directory (file-name-directory file))
         (package (equal "__init__.py" (file-name-nondirectory file)))
         (top (if package (file-name-directory (directory-file-name directory)) directory))
         (name (file-relative-name file top)))
    (cons (cons name (dualstack-sidecar-tree--bytes file))
          (cl-remove name (dualstack-sidecar-tree--files
                           top (and package (file-relative-name directory top)))
                     :key #'car :test #'equal))))

(defun dualstack-sidecar-tree--files (top &optional package)
  "Return what can be imported from the directory TOP, or from PACKAGE in it.
It is an alist of names below TOP and contents in bytes, by name.  Signal
`dualstack-sidecar-error' if that is too much."
  (let ((names 0) (bytes 0) (waiting (list (or package ""))) (found nil))
    (while waiting
      (let ((directory (pop waiting)))
        (dolist (name (directory-files (concat top directory) nil "\\`[^.]" t))
          (let* ((name (concat directory name))
                 (file (concat top name)))
            (cl-incf names)
            (pcase (dualstack-sidecar-tree--kind file (not (equal directory "")))
              ('package (push (file-name-as-directory name) waiting))
              ('file (cl-incf bytes (file-attribute-size (file-attributes (file-truename file))))
                     (push name found)))
            (when (or (> names dualstack-sidecar-tree--most-names)
                      (> bytes dualstack-sidecar-tree--most-bytes))
              (dualstack-sidecar--error
               "There is too much beside the Python module in %s to copy: put the module, with \
what it imports, into a directory of its own" (abbreviate-file-name top)))))))
    (mapcar (lambda (name) (cons name (dualstack-sidecar-tree--bytes (concat top name))))
            (sort found #'string<))))

(defun dualstack-sidecar-tree--kind (file within)
  "Return what FILE is to be copied as: `package', `file' or nil.
WITHIN means that it is in a package."
  (cond ((file-directory-p file)
         (and (not (equal "__pycache__" (file-name-nondirectory file)))
              (or within (file-exists-p (concat file "/__init__.py")))
              'package))
        ((and (or within (string-suffix-p ".py" file))
              (file-regular-p file) (file-readable-p file))
         'file)))

(defun dualstack-sidecar-tree--bytes (file)
  "Return the contents of FILE, in bytes."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert-file-contents-literally file)
    (buffer-string)))

(provide 'dualstack-sidecar-tree)

;;; dualstack-sidecar-tree.el ends here
