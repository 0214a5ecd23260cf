;;; dualstack-mode-report.el --- What dualstack-mode has done  -*- lexical-binding: t; -*-

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

;; `dualstack-mode-report' shows a table of this session's connections.

;;; Code:

(require 'dualstack-mode)

(defvar dualstack-mode-report-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map "w" #'dualstack-mode-report-copy)
    map)
  "Keys of `dualstack-mode-report-mode'.")

(define-derived-mode dualstack-mode-report-mode special-mode "Dualstack-Report"
  "Major mode for the report of `dualstack-mode'.

\\{dualstack-mode-report-mode-map}"
  (setq-local revert-buffer-function
              (lambda (&rest _) (dualstack-mode-report--fill))))

;;;###autoload
(defun dualstack-mode-report ()
  "Show what connections `dualstack-mode' has made in this session."
  (interactive)
  (with-current-buffer (get-buffer-create "*dualstack-report*")
    (dualstack-mode-report-mode)
    (dualstack-mode-report--fill)
    (pop-to-buffer (current-buffer))))

(defun dualstack-mode-report-copy ()
  "Copy the report, as text for a bug report."
  (interactive)
  (kill-new (dualstack-mode-report-text))
  (message "Copied the report"))

(defun dualstack-mode-report--fill ()
  "Put the report into the current buffer."
  (let ((inhibit-read-only t))
    (erase-buffer)
    (insert (dualstack-mode-report-text))
    (goto-char (point-min))))

(defun dualstack-mode-report-text ()
  "Return the report as a string."
  (concat
   (format "dualstack %s, Emacs %s, %s; dualstack-mode is %s, policy %s\n\n"
           dualstack-version emacs-version system-type
           (if dualstack-mode "on" "off") dualstack-policy)
   (if (null dualstack-mode-peers)
       "No connection to localhost was made by the mode in this session.\n"
     (concat
      (format "%-22s %6s %7s %-7s %12s  %s\n"
              "Peer" "Times" "Failed" "Family" "Time saved" "Last error")
      (mapconcat #'dualstack-mode-report--line (reverse dualstack-mode-peers) "")
      "\nTime saved is what plain Emacs would have waited for the other family: as long as\n\
its failure took or, where it was not even tried, "
      (if (dualstack-mode-refusal-cost)
          (format "%.4f s, a refused attempt on this\nmachine, measured once in the background.\n"
                  (dualstack-mode-refusal-cost))
        "what a refused attempt costs, which\nis being measured.\n")))))

(defun dualstack-mode-report--line (peer)
  "Return the line of the report for PEER."
  (format "%-22s %6d %7d %-7s %10.2f s  %s\n"
          (format "%s:%s" (dualstack-mode-peer-host peer) (dualstack-mode-peer-port peer))
          (dualstack-mode-peer-count peer)
          (dualstack-mode-peer-failed peer)
          (pcase (dualstack-mode-peer-family peer)
            ('ipv4 "IPv4") ('ipv6 "IPv6") (_ "none"))
          (dualstack-mode-peer-time-saved peer)
          (or (dualstack-mode-peer-err peer) "")))

(provide 'dualstack-mode-report)

;;; dualstack-mode-report.el ends here
