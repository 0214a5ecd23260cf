;;; screenshots.el --- Take the screenshots for the README  -*- lexical-binding: t; -*-

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

;; Run by tests/screenshots/take.sh in a graphical Emacs with Cairo.

;;; Code:

(require 'dualstack-diagnose)
(require 'dualstack-mode-report)
(require 'dualstack-sidecar-status)

(declare-function x-export-frames "ext:xfns.c" (&optional frames type))

(defun dualstack-screenshots-take (buffer lines file)
  "Write the first LINES lines of BUFFER to FILE, a PNG image."
  (switch-to-buffer buffer)
  (delete-other-windows)
  (set-frame-size nil 80 (+ lines 2))
  (goto-char (point-min))
  (setq-local cursor-type nil)
  (message nil)
  (sit-for 0.5)
  (redisplay t)
  (let ((png (x-export-frames nil 'png))
        (coding-system-for-write 'binary))
    (with-temp-file file
      (set-buffer-multibyte nil)
      (insert png))))

(defun dualstack-screenshots-await (predicate)
  "Wait until PREDICATE gives non-nil; end Emacs after 30 seconds."
  (let ((deadline (+ (float-time) 30)))
    (while (not (funcall predicate))
      (when (> (float-time) deadline)
        (kill-emacs 1))
      (accept-process-output nil 0.05))))

(defun dualstack-screenshots (port directory)
  "Put four images into DIRECTORY, with the server at PORT as example; end Emacs."
  (menu-bar-mode 0)
  (tool-bar-mode 0)
  (scroll-bar-mode 0)
  (setq inhibit-message t)
  (cl-flet ((file (name) (expand-file-name name directory)))
    (dualstack-diagnose "localhost" port)
    (dualstack-screenshots-await
     (lambda ()
       (with-current-buffer "*dualstack-diagnose*"
         (string-match-p "^Verdict: " (buffer-string)))))
    (dualstack-screenshots-take "*dualstack-diagnose*" 17 (file "diagnose.png"))
    (load-theme 'modus-vivendi t)
    (dualstack-screenshots-take "*dualstack-diagnose*" 17 (file "diagnose-dark.png"))
    (disable-theme 'modus-vivendi)
    (dualstack-screenshots-report port)
    (dualstack-screenshots-take "*dualstack-report*" 13 (file "report.png"))
    (dualstack-screenshots-sidecars)
    (dualstack-screenshots-take "*dualstack-sidecars*" 8 (file "sidecars.png")))
  (kill-emacs 0))

(defun dualstack-screenshots-report (port)
  "Connect to PORT a few times, and to a closed one, and show the report."
  (dualstack-mode 1)
  (dotimes (_ 3)
    (delete-process (open-network-stream "shot" nil "localhost" port)))
  (ignore-errors (open-network-stream "shot" nil "localhost" 9))
  (sit-for 2)
  (dualstack-mode-report))

(defun dualstack-screenshots-sidecars ()
  "Start sidecars, one of which fails, call one, and show them."
  (dualstack-sidecar-start :name "notes" :wait t)
  (dualstack-sidecar-start :name "search" :wait t)
  (ignore-errors (dualstack-sidecar-start :name "spell" :modules '("no_such_module") :wait t))
  (dotimes (_ 12)
    (dualstack-epc-call (dualstack-sidecar-connection (dualstack-sidecar-get "notes"))
                        'hello nil))
  (dualstack-sidecar-status))

(provide 'screenshots)

;;; screenshots.el ends here
