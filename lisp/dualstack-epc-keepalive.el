;;; dualstack-epc-keepalive.el --- Notice a link that is dead  -*- lexical-binding: t; -*-

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

;; Where packets are lost, as behind a firewall that forgets or a laptop that
;; slept, neither end hears of it.  So when nothing was heard for a while the
;; other end is asked for its methods, which every EPC peer answers; if nothing
;; comes for as long again, the connection is over.

;;; Code:

(require 'dualstack-epc-link)

(defun dualstack-epc--keepalive (connection seconds)
  "End CONNECTION when its other end is silent for twice SECONDS, though asked."
  (unless (and (numberp seconds) (> seconds 0))
    (signal 'wrong-type-argument (list 'dualstack-positive-number seconds)))
  (dualstack-epc--keepalive-later connection seconds seconds)
  nil)

(defun dualstack-epc--keepalive-later (connection seconds wait)
  "Look at CONNECTION's silence in WAIT seconds; SECONDS of it are allowed."
  (setf (dualstack-epc-connection--heard connection)
        (or (dualstack-epc-connection--heard connection) (float-time))
        (dualstack-epc-connection--keepalive connection)
        (run-at-time wait nil #'dualstack-epc--keepalive-look connection seconds)))

(defun dualstack-epc--keepalive-look (connection seconds)
  "Ask CONNECTION's other end if it was silent for SECONDS, or give it up."
  (unless (dualstack-epc-connection-ended connection)
    (let ((silence (- (float-time) (dualstack-epc-connection--heard connection))))
      (cond ((< silence seconds)
             (dualstack-epc--keepalive-later connection seconds (- seconds silence)))
            ((>= silence (* 2 seconds))
             (dualstack-epc--link-end
              connection (format "nothing was heard for %s s" (* 2 seconds))))
            (t
             (let ((window (dualstack-epc-connection--window connection)))
               (dualstack-epc--keepalive-ask window)
               (dualstack-epc--keepalive-later connection seconds
                                               (max 0.01 (- (* 2 seconds) silence)))))))))

(defun dualstack-epc--keepalive-ask (window)
  "Ask for the methods of WINDOW's other end, and ignore the reply."
  (let ((uid (dualstack-epc--window-uid window)))
    (ignore-error dualstack-epc-error
      (dualstack-epc--window-add
       window (dualstack-epc--request--make :uid uid :method 'methods :urgent t
                                            :message (list 'methods uid))))))

(provide 'dualstack-epc-keepalive)

;;; dualstack-epc-keepalive.el ends here
