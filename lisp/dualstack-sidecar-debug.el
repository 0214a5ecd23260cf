;;; dualstack-sidecar-debug.el --- Where a sidecar's function failed  -*- lexical-binding: t; -*-

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

;; `dualstack-sidecar-traceback' shows where a Python function failed.

;;; Code:

(require 'compile)
(require 'dualstack-sidecar-record)

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
  (let* ((sidecar (dualstack-sidecar--named name))
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

(provide 'dualstack-sidecar-debug)

;;; dualstack-sidecar-debug.el ends here
