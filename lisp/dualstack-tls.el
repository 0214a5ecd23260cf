;;; dualstack-tls.el --- Errors of TLS as Emacs signals them  -*- lexical-binding: t; -*-

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

;; A raced connection was made with `:nowait'.  When it does not like a
;; certificate, Emacs notes why in the process instead of signalling it, and
;; `gnutls-negotiate' signals a `gnutls-error' without a reason.

;;; Code:

(defun dualstack-tls--negotiate (negotiate &rest args)
  "Return what NEGOTIATE, `gnutls-negotiate', does for ARGS.
What it signals is what it signals for a connection that was waited for."
  (condition-case err
      (apply negotiate args)
    (gnutls-error
     (let ((reason (dualstack-tls--reason (plist-get args :process))))
       (if (and reason (null (nth 2 err)))
           (error "%s" reason)
         (signal (car err) (cdr err)))))))

(defun dualstack-tls--reason (process)
  "Return why GnuTLS has rejected the peer of PROCESS, if Emacs has noted it there."
  (and (processp process)
       (not (process-contact process :nowait))
       (eq (process-status process) 'failed)
       (let ((reason (process-exit-status process)))
         (and (stringp reason) reason))))

(provide 'dualstack-tls)

;;; dualstack-tls.el ends here
