;;; dualstack-sidecar-log.el --- What sidecars have written  -*- lexical-binding: t; -*-

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

;; A sidecar's standard error goes to a buffer.  Each start begins there with
;; a line of its own; old text is cut off at the beginning.

;;; Code:

(require 'cl-lib)
(require 'dualstack)
(require 'dualstack-sidecar-python)

(defun dualstack-sidecar--special-buffer (name)
  "Return the buffer called NAME for what a child writes; create it if necessary."
  (with-current-buffer (get-buffer-create name)
    (unless (derived-mode-p 'special-mode)
      (special-mode)
      (buffer-disable-undo)
      ;; Not that of the buffer which happens to be current, which may be remote, or gone.
      (setq default-directory (dualstack-sidecar--child-directory)))
    (current-buffer)))

(defun dualstack-sidecar--log-buffer (name)
  "Return the buffer, new if necessary, for what the sidecar called NAME writes."
  (dualstack-sidecar--special-buffer (format "*dualstack-sidecar %s*" name)))

(defvar-local dualstack-sidecar--log-file nil
  "The file that what is logged in this buffer is appended to, or nil.")

(defun dualstack-sidecar--log-to-file (log file)
  "Have what is logged in the buffer LOG appended to FILE, too, unless that is nil."
  (with-current-buffer log
    (setq dualstack-sidecar--log-file
          (and file (dualstack-sidecar--full-name file)))))

(defun dualstack-sidecar--log-file (log)
  "Return the file that what is logged in the buffer LOG is appended to, or nil."
  (and (buffer-live-p log)
       (buffer-local-value 'dualstack-sidecar--log-file log)))

(defun dualstack-sidecar--log-append (log text)
  "Append TEXT to the buffer LOG if it lives, and cut that to `dualstack-log-size'.
A window that shows its end, and point if it is there, go on to the new one."
  (when (buffer-live-p log)
    (with-current-buffer log
      (when dualstack-sidecar--log-file
        (let ((coding-system-for-write 'utf-8))
          ;; A full disk must not end what is logged.
          (ignore-errors
            (write-region text nil dualstack-sidecar--log-file t 'silent))))
      (let* ((inhibit-read-only t)
             (end (point-max))
             (follows (= (point) end))
             (windows (cl-remove-if-not (lambda (window) (= (window-point window) end))
                                        (get-buffer-window-list log nil t))))
        (save-excursion
          (goto-char end)
          (insert text)
          (when (> (buffer-size) dualstack-log-size)
            (delete-region (point-min) (- (point-max) dualstack-log-size))))
        (when follows
          (goto-char (point-max)))
        (dolist (window windows)
          (set-window-point window (point-max)))))))

(defun dualstack-sidecar--log-begin (log command)
  "Note in the buffer LOG that COMMAND, a list of words, is started."
  (dualstack-sidecar--log-append
   log (format "--- %s %s\n" (format-time-string "%F %T")
               (mapconcat #'identity command " "))))

(defun dualstack-sidecar--log-current (log)
  "Return what is in the buffer LOG since the last start, or nothing if it is dead."
  (if (not (buffer-live-p log))
      ""
    (with-current-buffer log
      (save-excursion
        (goto-char (point-max))
        (if (re-search-backward "^--- .*\n" nil t)
            (buffer-substring-no-properties (match-end 0) (point-max))
          (buffer-substring-no-properties (point-min) (point-max)))))))

(defun dualstack-sidecar--log-tail (log)
  "Return the last five lines of LOG since the last start, or nothing.
A newline is before them."
  (let ((lines (last (split-string (dualstack-sidecar--log-current log) "\n" t) 5)))
    (if lines
        (concat "\n" (mapconcat #'identity lines "\n"))
      "")))

(provide 'dualstack-sidecar-log)

;;; dualstack-sidecar-log.el ends here
