;;; dualstack-sidecar-zip.el --- Our Python source in one file  -*- lexical-binding: t; -*-

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

;; Another machine gets the Python source as one file that Python runs, a zip
;; archive.  It is made here in Lisp, as there may be no Python on this side.
;; Nothing in it is compressed, and its times are all alike: the same source
;; makes the same file.

;;; Code:

(require 'cl-lib)
(require 'dualstack-sidecar-python)
(require 'dualstack-sidecar-tree)

(defconst dualstack-sidecar-zip--main
  "import sys\nsys.dont_write_bytecode = True\nif sys.argv[1:2] == ['--unpack']:
    from dualstack_epc.unpack import unpack_first\n    unpack_first(sys.argv)
from dualstack_epc.__main__ import main\nmain()\n"
  "The module that Python runs first.")

(defun dualstack-sidecar-zip--files ()
  "Return the files of our Python source, an alist of names and contents in bytes."
  (let ((source (dualstack-sidecar--source)))
    (cons
     (cons "__main__.py" dualstack-sidecar-zip--main)
     (mapcar (lambda (file)
               (cons (file-relative-name file source)
                     (dualstack-sidecar-tree--bytes file)))
             (sort (directory-files-recursively
                    (expand-file-name "dualstack_epc" source) "\\.py\\'")
                   #'string<)))))

(defun dualstack-sidecar-zip--archive (files)
  "Return a zip archive, in bytes, with FILES, an alist of names and contents."
  (let ((table (dualstack-sidecar-zip--table))
        (offset 0) (locals nil) (centrals nil))
    (dolist (file files)
      (let* ((name (encode-coding-string (car file) 'utf-8))
             (content (cdr file))
             ;; Stored, not compressed, of 1 January 1980, with a name in UTF-8.
             (common (concat (dualstack-sidecar-zip--number 20 2)
                             (dualstack-sidecar-zip--number #x800 2)
                             (dualstack-sidecar-zip--number 0 2)
                             (dualstack-sidecar-zip--number 0 2)
                             (dualstack-sidecar-zip--number 33 2)
                             (dualstack-sidecar-zip--number
                              (dualstack-sidecar-zip--checksum content table) 4)
                             (dualstack-sidecar-zip--number (length content) 4)
                             (dualstack-sidecar-zip--number (length content) 4)
                             (dualstack-sidecar-zip--number (length name) 2)
                             (dualstack-sidecar-zip--number 0 2)))
             (local (concat "PK\3\4" common name content)))
        (push local locals)
        (push (concat "PK\1\2" (dualstack-sidecar-zip--number 20 2) common
                      (make-string 10 0) (dualstack-sidecar-zip--number offset 4) name)
              centrals)
        (cl-incf offset (length local))))
    (let ((directory (apply #'concat (nreverse centrals)))
          (count (dualstack-sidecar-zip--number (length files) 2)))
      (concat (apply #'concat (nreverse locals)) directory
              "PK\5\6" (make-string 4 0) count count
              (dualstack-sidecar-zip--number (length directory) 4)
              (dualstack-sidecar-zip--number offset 4) (make-string 2 0)))))

(defun dualstack-sidecar-zip--number (number bytes)
  "Return NUMBER as BYTES bytes, the lowest first."
  (let ((string (make-string bytes 0)))
    (dotimes (index bytes)
      (aset string index (logand 255 (ash number (* -8 index)))))
    string))

(defun dualstack-sidecar-zip--table ()
  "Return the table for `dualstack-sidecar-zip--checksum', a vector."
  (let ((table (make-vector 256 0)))
    (dotimes (index 256)
      (let ((value index))
        (dotimes (_ 8)
          (setq value (logxor (ash value -1) (if (= 1 (logand value 1)) #xedb88320 0))))
        (aset table index value)))
    table))

(defun dualstack-sidecar-zip--checksum (bytes table)
  "Return the CRC-32 of BYTES, as ISO 3309 has it, by TABLE."
  (let ((value #xffffffff))
    (dotimes (index (length bytes))
      (setq value (logxor (ash value -8)
                          (aref table (logand 255 (logxor value (aref bytes index)))))))
    (logxor value #xffffffff)))

(provide 'dualstack-sidecar-zip)

;;; dualstack-sidecar-zip.el ends here
