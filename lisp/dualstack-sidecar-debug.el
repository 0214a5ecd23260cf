;;; dualstack-sidecar-debug.el --- While you write a sidecar  -*- lexical-binding: t; -*-

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

;; `dualstack-sidecar-traceback' shows where a Python function failed.  With
;; :reload a sidecar is started again when one of its files has changed.

;;; Code:

(require 'cl-lib)
(require 'compile)
(require 'dualstack-sidecar)
(require 'dualstack-sidecar-status)

;;;; Where it failed

(defconst dualstack-sidecar-debug--line
  '("^ *File \"\\([^\"\n]+\\)\", line \\([0-9]+\\)" 1 2)
  "What names a line of a file in a traceback.
It is an element of `compilation-error-regexp-alist'.")

;;;###autoload
(defun dualstack-sidecar-traceback (name)
  "Show the last traceback in the log of the sidecar NAME.
Its lines lead to the files: \\[next-error] visits the next one.  As a command,
ask which sidecar if there are several."
  (interactive (list (dualstack-sidecar--read-name "Traceback of sidecar: ")))
  (let* ((sidecar (or (dualstack-sidecar-get name)
                      (user-error "No sidecar %s was started" name)))
         (text (or (dualstack-sidecar-debug--last (dualstack-sidecar-log sidecar))
                   (user-error "There is no traceback in the log of %s" name)))
         (buffer (get-buffer-create (format "*dualstack-traceback %s*" name))))
    (with-current-buffer buffer
      (special-mode)
      (setq-local compilation-error-regexp-alist (list dualstack-sidecar-debug--line))
      (setq-local comint-file-name-prefix
                  (or (and (dualstack-sidecar--place sidecar)
                           (file-remote-p (dualstack-sidecar--place sidecar)))
                      ""))
      (compilation-minor-mode 1)
      (let ((inhibit-read-only t))
        (erase-buffer)
        (insert text)
        (goto-char (point-min)))
      (setq next-error-last-buffer buffer))
    (display-buffer buffer)
    buffer))

(defun dualstack-sidecar-debug--last (log)
  "Return the last traceback in the buffer LOG, with the error after it, or nil."
  (and (buffer-live-p log)
       (with-current-buffer log
         (save-excursion
           (goto-char (point-max))
           (when (re-search-backward "Traceback (most recent call last):\n" nil t)
             (let ((start (point)))
               (forward-line)
               (while (looking-at "[ \t]")
                 (forward-line))
               (buffer-substring-no-properties start (line-end-position))))))))

;;;; Starting again when a file changes

(defconst dualstack-sidecar-debug--interval 0.5
  "Seconds between two looks at the files of a sidecar.")

(defun dualstack-sidecar--watch (sidecar)
  "Watch the files of SIDECAR, and restart it after a change once it is idle."
  (let* ((files (cl-remove-if-not (lambda (module) (string-suffix-p ".py" module))
                                  (dualstack-sidecar--modules sidecar)))
         (before (dualstack-sidecar-debug--state files))
         timer)
    (when files
      (setq timer
            (run-at-time dualstack-sidecar-debug--interval dualstack-sidecar-debug--interval
                         (lambda ()
                           (if (dualstack-sidecar-debug--over-p sidecar)
                               (cancel-timer timer)
                             (when (dualstack-sidecar-debug--changed-p sidecar files before)
                               (cancel-timer timer)
                               (dualstack-sidecar-debug--restart sidecar)))))))))

(defun dualstack-sidecar-debug--state (files)
  "Return the times and sizes of FILES."
  (mapcar (lambda (file)
            (let ((attributes (file-attributes file)))
              (list (file-attribute-modification-time attributes)
                    (file-attribute-size attributes))))
          files))

(defun dualstack-sidecar-debug--over-p (sidecar)
  "Return non-nil if SIDECAR was stopped, or another has its name."
  (or (not (memq sidecar dualstack-sidecars))
      (memq (dualstack-sidecar-state sidecar) '(stopping stopped))))

(defun dualstack-sidecar-debug--changed-p (sidecar files before)
  "Return non-nil if SIDECAR is idle, and the state of FILES is not BEFORE.
A file that is not there is being written."
  (let ((connection (dualstack-sidecar-connection sidecar))
        (now (dualstack-sidecar-debug--state files)))
    (and (not (equal now before))
         (not (member '(nil nil) now))
         (not (eq 'starting (dualstack-sidecar-state sidecar)))
         (or (null connection)
             (zerop (hash-table-count (dualstack-epc--pending connection)))))))

(defun dualstack-sidecar-debug--restart (sidecar)
  "Start SIDECAR again, as one of its files has changed."
  (message "%s: a file has changed, so it starts again" (dualstack-sidecar-name sidecar))
  (with-local-quit
    (dualstack-sidecar-restart (dualstack-sidecar-name sidecar))))

(provide 'dualstack-sidecar-debug)

;;; dualstack-sidecar-debug.el ends here
