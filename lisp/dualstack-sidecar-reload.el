;;; dualstack-sidecar-reload.el --- Restart a sidecar when its files change  -*- lexical-binding: t; -*-

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

;; While a sidecar is being written its files are looked at now and then.

;;; Code:

(require 'cl-lib)
(require 'dualstack-epc)
(require 'dualstack-sidecar-record)

(defconst dualstack-sidecar-reload--interval 0.5
  "Seconds between two looks at the files of a sidecar.")

(defun dualstack-sidecar--watch (sidecar restart)
  "Watch the files of SIDECAR; after a change, once it is idle, restart it.
RESTART is called for that with its name."
  (let* ((files (cl-remove-if-not (lambda (module) (string-suffix-p ".py" module))
                                  (dualstack-sidecar--modules sidecar)))
         (before (dualstack-sidecar-reload--state files))
         timer)
    (when files
      (setq timer
            (run-at-time dualstack-sidecar-reload--interval dualstack-sidecar-reload--interval
                         (lambda ()
                           (if (dualstack-sidecar-reload--over-p sidecar)
                               (cancel-timer timer)
                             (when (dualstack-sidecar-reload--changed-p sidecar files before)
                               (cancel-timer timer)
                               (dualstack-sidecar-reload--restart sidecar restart)))))))))

(defun dualstack-sidecar-reload--state (files)
  "Return the times and sizes of FILES."
  (mapcar (lambda (file)
            (let ((attributes (file-attributes file)))
              (list (file-attribute-modification-time attributes)
                    (file-attribute-size attributes))))
          files))

(defun dualstack-sidecar-reload--over-p (sidecar)
  "Return non-nil if SIDECAR was stopped, or another has its name."
  (or (not (memq sidecar dualstack-sidecars))
      (memq (dualstack-sidecar-state sidecar) '(stopping stopped))))

(defun dualstack-sidecar-reload--changed-p (sidecar files before)
  "Return non-nil if SIDECAR is idle, and the state of FILES is not BEFORE.
A file that is not there is being written."
  (let ((connection (dualstack-sidecar-connection sidecar))
        (now (dualstack-sidecar-reload--state files)))
    (and (not (equal now before))
         (not (member '(nil nil) now))
         (not (eq 'starting (dualstack-sidecar-state sidecar)))
         (or (null connection)
             (zerop (hash-table-count (dualstack-epc--pending connection)))))))

(defun dualstack-sidecar-reload--restart (sidecar restart)
  "Start SIDECAR again by RESTART, as one of its files has changed."
  (message "%s: a file has changed, so it starts again" (dualstack-sidecar-name sidecar))
  (with-local-quit
    (funcall restart (dualstack-sidecar-name sidecar))))

(provide 'dualstack-sidecar-reload)

;;; dualstack-sidecar-reload.el ends here
