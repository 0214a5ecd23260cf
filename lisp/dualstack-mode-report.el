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
(require 'dualstack-view)

(defconst dualstack-mode-report--keys
  '(("g" revert-buffer "refresh" "gr")
    ("w" dualstack-mode-report-copy "copy" "y")
    ("d" dualstack-mode-report-diagnose "diagnose this line" "d")
    ("q" quit-window "quit" "q"))
  "Keys of `dualstack-mode-report-mode', see `dualstack-view--map'.")

(defvar dualstack-mode-report-mode-map
  (dualstack-view--map "Report" special-mode-map dualstack-mode-report--keys)
  "Keys of `dualstack-mode-report-mode'.")

(define-derived-mode dualstack-mode-report-mode special-mode "Dualstack-Report"
  "Major mode for the report of `dualstack-mode'.

\\{dualstack-mode-report-mode-map}"
  (setq-local revert-buffer-function (lambda (&rest _) (dualstack-mode-report--fill)))
  (dualstack-view--bookmark (lambda () '("Report of dualstack-mode"))
                           #'dualstack-mode-report-bookmark-jump)
  (dualstack-view--setup 'dualstack-mode-report-mode dualstack-mode-report-mode-map
                        dualstack-mode-report--keys))

(dualstack-view--only-in 'dualstack-mode-report-mode
                        '(dualstack-mode-report-copy dualstack-mode-report-diagnose))

;;;###autoload
(defun dualstack-mode-report ()
  "Show what connections `dualstack-mode' has made in this session."
  (interactive)
  (with-current-buffer (get-buffer-create "*dualstack-report*")
    (dualstack-mode-report-mode)
    (dualstack-mode-report--fill)
    (pop-to-buffer (current-buffer))
    (dualstack-view--refresh-each 1)))

;;;###autoload
(defun dualstack-mode-report-bookmark-jump (_bookmark)
  "Show the report of `dualstack-mode'."
  (dualstack-mode-report)
  (set-buffer "*dualstack-report*"))

(defun dualstack-mode-report-diagnose (peer)
  "Say why connecting to PEER, of this line, is slow, or refused.
In another line ask which."
  (interactive (list (or (get-text-property (line-beginning-position) 'dualstack-mode-peers--record)
                         (dualstack-mode-report--read-peer))))
  (dualstack-diagnose (dualstack-mode-peers--record-host peer) (dualstack-mode-peers--record-port peer)))

(defun dualstack-mode-report--read-peer ()
  "Return a peer of the report, read with completion if there are several."
  (let ((peers (mapcar (lambda (peer) (cons (dualstack-mode-report--name peer) peer))
                       dualstack-mode-peers--all)))
    (unless peers
      (user-error "The mode has made no connection yet"))
    (cdr (assoc (if (cdr peers)
                    (completing-read "Diagnose: " peers nil t)
                  (caar peers))
                peers))))

(defun dualstack-mode-report--name (peer)
  "Return the host and port of PEER as a string."
  (format "%s:%s" (dualstack-mode-peers--record-host peer) (dualstack-mode-peers--record-port peer)))

(defun dualstack-mode-report-copy ()
  "Copy the report, as text for a bug report."
  (interactive)
  (kill-new (dualstack-mode-report--text))
  (message "Copied the report"))

(defun dualstack-mode-report--fill ()
  "Put the report into the current buffer."
  (dualstack-view--fill (lambda () (insert (dualstack-mode-report--text)))))

(defun dualstack-mode-report--text ()
  "Return the report as a string, with lines of at most 80 columns."
  (concat
   (format "dualstack %s, Emacs %s, %s; dualstack-mode is %s, policy %s\n\n"
           dualstack-version emacs-version system-type
           (if dualstack-mode "on" "off") dualstack-policy)
   (if (null dualstack-mode-peers--all)
       (format "No connection to localhost was made by the mode in this session.\n%s"
               (if dualstack-mode ""
                 "Type M-x dualstack-mode to turn it on.\n"))
     (concat
      (propertize (format "%-34s %8s %8s %-7s %12s\n"
                          "Peer" "Times" "Failed" "Family" "Time saved")
                  'face 'bold)
      (mapconcat #'dualstack-mode-report--line (reverse dualstack-mode-peers--all) "")
      "\nTime saved is what plain Emacs would have waited for the other family: as long\n\
as its failure took or, where it was not even tried, as a refused attempt takes\n\
on this machine: "
      (if (dualstack-mode-peers--refusal-cost)
          (format "%.4f s, measured once in the background.\n" (dualstack-mode-peers--refusal-cost))
        "that is being measured.\n")))))

(defun dualstack-mode-report--line (peer)
  "Return the lines of the report for PEER: numbers, and its last error."
  (let ((err (dualstack-mode-peers--record-err peer)))
    (propertize
     (concat
      (format "%-34s %8d %8d %-7s %10.2f s\n"
              (truncate-string-to-width
               (dualstack-mode-report--name peer) 34 nil nil "...")
              (dualstack-mode-peers--record-count peer)
              (dualstack-mode-peers--record-failed peer)
              (pcase (dualstack-mode-peers--record-family peer)
                ('ipv4 "IPv4") ('ipv6 "IPv6") (_ "none"))
              (dualstack-mode-peers--record-time-saved peer))
      (and err
           (format "  last error: %s\n"
                   (truncate-string-to-width
                    (replace-regexp-in-string "\n+" " " err) 65 nil nil "..."))))
     'dualstack-mode-peers--record peer)))

(autoload 'dualstack-diagnose "dualstack-diagnose" nil t)

(provide 'dualstack-mode-report)

;;; dualstack-mode-report.el ends here
