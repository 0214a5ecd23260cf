;;; compare-connect.el --- Time one connect of each kind  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:

;; Run by compare.py: prints the seconds that one connect takes.

;;; Code:

(require 'dualstack)
(require 'dualstack-stream)

(defun dualstack-compare (kind port)
  "Print the seconds that connecting to PORT takes by KIND, or nil if it fails."
  ;; What is loaded at the first connect is not what is measured.
  (ignore-errors (dualstack-open-network-stream "x" nil "localhost" 1))
  (ignore-errors (open-network-stream "x" nil "127.0.0.1" 1))
  (dualstack-forget)
  (garbage-collect)
  (let* ((start (current-time))
         (process (ignore-errors
                    (pcase kind
                      ('plain (open-network-stream "x" nil "localhost" port))
                      ('literal (open-network-stream "x" nil "127.0.0.1" port))
                      ('ours (dualstack-open-network-stream "x" nil "localhost" port)))))
         (time (float-time (time-subtract nil start))))
    (princ (format "%s" (and process time)))
    (kill-emacs 0)))

(provide 'compare-connect)

;;; compare-connect.el ends here
