;;; dualstack-nowait.el --- Clients that Emacs connects in the background  -*- lexical-binding: t; -*-

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

;; A `:nowait' client gets its process before it is connected: what it is
;; given cannot be raced.  It gets a process that Emacs itself is connecting,
;; and C's own events, for packages branch on its status.
;;
;; - Where a refusal is instant, as on GNU/Linux, the call is left alone.
;; - On Windows Emacs waits 1 to 2 s for ::1, and reports a connection to it as
;;   failed (code 14).  So it is given 127.0.0.1 straight away.  Where ::1 is
;;   known to answer, an attempt of 20 ms tells whether it still does, and then
;;   its connection is returned open, without an event.
;; - A family that was found silent is passed over, on any system.

;;; Code:

(require 'dualstack-memory)
(require 'dualstack-race)

(defconst dualstack-nowait--patience 0.02
  "Seconds for which a Windows Emacs waits whether ::1 answers.
Where answers lately took longer, it waits for as long.")

(defun dualstack-nowait--make (make args)
  "Return a process for ARGS, a `:nowait' client of localhost, by MAKE.
MAKE is `make-network-process' or what stands for it.  The process looks as
if it was made with ARGS alone."
  (let* ((port (dualstack-address--port (plist-get args :service)))
         (family (dualstack-nowait--family port)))
    (cond ((null family) (apply make args))
          ((and (eq family 'ipv6)
                (eq system-type 'windows-nt)
                (dualstack-nowait--open-ipv6 args port)))
          ((eq family 'ipv6)
           (dualstack-nowait--literal
            make args port (if (dualstack-nowait--choice-p) 'ipv4 'ipv6)))
          (t (dualstack-nowait--literal make args port family)))))

(defun dualstack-nowait--choice-p ()
  "Return non-nil on a Windows Emacs where 127.0.0.1 may be tried instead of ::1."
  (and (eq system-type 'windows-nt)
       (memq 'ipv4 (dualstack-address--families))))

(defun dualstack-nowait--family (port)
  "Return the family whose literal address PORT is to be dialled at, or nil.
Nil leaves the choice to Emacs."
  (let ((families (dualstack-address--families))
        (silent (dualstack-memory--recall port 'silent)))
    (cond ((null (cdr families)) (car families))
          (silent (if (eq silent 'ipv4) 'ipv6 'ipv4))
          ((not (eq system-type 'windows-nt)) nil)
          ((or (eq 'ipv6 (dualstack-memory--recall port 'answered))
               (memq 'ipv4 (list (dualstack-memory--recall port 'absent)
                                 (dualstack-memory--recall port 'ended))))
           'ipv6)
          (t 'ipv4))))

(defun dualstack-nowait--literal (make args port family)
  "Return a process for ARGS that dials PORT of FAMILY's loopback address.
MAKE is as in `dualstack-nowait--make'."
  (let ((process (apply make :remote (dualstack-loopback-address family port)
                        :coding (dualstack-attempt--coding args)
                        args)))
    (dualstack-attempt--hide-overrides process args)
    process))

(defun dualstack-nowait--open-ipv6 (args port)
  "Return an open process for ARGS, connected to PORT of ::1, or nil.
TLS is not for a process that is open already."
  (let ((race (and (not (plist-get args :tls-parameters))
                   (dualstack-race--run
                    (list (dualstack-loopback-address 'ipv6 port)) args
                    :coding (dualstack-attempt--coding args)
                    :timeout (max dualstack-nowait--patience
                                  (dualstack-attempt--patience))))))
    (cond ((null race) nil)
          ((dualstack-race--err race)
           (signal (car (dualstack-race--err race)) (cdr (dualstack-race--err race))))
          ((dualstack-race--winner race)
           (dualstack-memory--remember port 'ipv6)
           (dualstack-race--adopt race))
          (t (dualstack-memory--note port 'answered nil)
             (dualstack-memory--note port 'absent nil)
             nil))))

(provide 'dualstack-nowait)

;;; dualstack-nowait.el ends here
