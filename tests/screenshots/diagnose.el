;;; diagnose.el --- Take the screenshot for the README  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:

;; Run by tests/screenshots/take.sh in a graphical Emacs with Cairo.

;;; Code:

(require 'dualstack-diagnose)

(declare-function x-export-frames "ext:xfns.c" (&optional frames type))

(defun dualstack-screenshot (port file)
  "Write the diagnosis of PORT of localhost to FILE, a PNG image; end Emacs."
  (menu-bar-mode 0)
  (tool-bar-mode 0)
  (scroll-bar-mode 0)
  (set-frame-size nil 100 19)
  (let ((inhibit-message t))
    (dualstack-diagnose "localhost" port))
  (delete-other-windows)
  (with-current-buffer "*dualstack-diagnose*"
    (while (not (string-match-p "^Verdict: " (buffer-string)))
      (accept-process-output nil 0.05)))
  (message nil)
  (redisplay t)
  (let ((png (x-export-frames nil 'png))
        (coding-system-for-write 'binary))
    (with-temp-file file
      (set-buffer-multibyte nil)
      (insert png)))
  (kill-emacs 0))

(provide 'diagnose)

;;; diagnose.el ends here
