;;; dualstack-memory.el --- Which address family answered at a port  -*- lexical-binding: t; -*-

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

;; What was seen of a peer is kept for a while.  It is the order of later
;; attempts (`dualstack-memory--order') and never more: a family that is
;; remembered wrongly costs an attempt delay.
;;
;; - `answered': the family that connected last goes first.
;; - `ended': a family whose connection the peer ended at once goes last, as
;;   docker's proxy and WSL's relay accept and then close what nobody serves.
;; - `absent': a family that failed where the other connected; it has nothing
;;   to offer if the other is ended.
;; - `silent': a family that neither connects nor fails; see dualstack-nowait.el.

;;; Code:

(require 'cl-lib)
(require 'dualstack-address)

(defcustom dualstack-memory-lifetime 600
  "Seconds for which the address family that answered is remembered.
See `dualstack-forget'."
  :type 'number
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defconst dualstack-memory--early 0.3
  "Seconds within which the end of a connection means that nobody served it.")

(defconst dualstack-memory--peers 1000
  "How many peers are remembered at most.")

(defvar dualstack--memory (make-hash-table :test #'equal)
  "What was seen of each peer, by `dualstack-memory--peer'.
An alist of kinds, as in the commentary of this file, and (FAMILY . EXPIRY),
EXPIRY being a time as of `float-time'.")

(defun dualstack-memory--peer (host port)
  "Return the key under which what was seen of HOST at PORT is kept.
All names of the loopback are one host; its key is PORT."
  (if (dualstack-localhost-p host)
      port
    (cons (downcase host) port)))

(defun dualstack-memory--recall (peer kind)
  "Return the address family of KIND for PEER, or nil."
  (let ((entry (cdr (assq kind (gethash peer dualstack--memory)))))
    (and entry
         (< (float-time) (cdr entry))
         (car entry))))

(defun dualstack-memory--note (peer kind family)
  "Note for `dualstack-memory-lifetime' seconds that FAMILY of PEER is KIND.
If FAMILY is nil, forget which is."
  (let ((kinds (assq-delete-all kind (gethash peer dualstack--memory))))
    (puthash peer
             (if (and family (numberp dualstack-memory-lifetime))
                 (cons (cons kind (cons family (+ (float-time) dualstack-memory-lifetime)))
                       kinds)
               kinds)
             dualstack--memory))
  (when (> (hash-table-count dualstack--memory) dualstack-memory--peers)
    (dualstack-memory--prune)))

(defun dualstack-memory--prune ()
  "Drop what was noted too long ago, or all if that is too much."
  (let ((now (float-time)))
    (maphash (lambda (peer kinds)
               (unless (cl-some (lambda (kind) (< now (cddr kind))) kinds)
                 (remhash peer dualstack--memory)))
             dualstack--memory))
  (when (> (hash-table-count dualstack--memory) dualstack-memory--peers)
    (clrhash dualstack--memory)))

(defun dualstack-remembered-family (peer)
  "Return the address family that last answered for PEER, or nil.
PEER is as of `dualstack-memory--peer'.  `dualstack-policy' must allow it."
  (let ((family (dualstack-memory--recall peer 'answered)))
    (and (memq dualstack-policy (list 'both family))
         family)))

(defun dualstack-memory--remember (peer family)
  "Remember for `dualstack-memory-lifetime' seconds that FAMILY answered PEER."
  (let ((entry (cdr (assq 'answered (gethash peer dualstack--memory)))))
    (if (and (eq family (car entry)) (numberp dualstack-memory-lifetime))
        (setcdr entry (+ (float-time) dualstack-memory-lifetime))
      (dualstack-memory--note peer 'answered family)))
  (pcase-dolist (`(,kind . (,other . ,_)) (copy-sequence (gethash peer dualstack--memory)))
    (when (and (eq other family) (memq kind '(silent absent)))
      (dualstack-memory--note peer kind nil))))

(defun dualstack-memory--absent (peer family)
  "Note that FAMILY of PEER failed where the other family connected."
  (dualstack-memory--note peer 'absent family)
  (unless (eq family (dualstack-memory--recall peer 'ended))
    (dualstack-memory--note peer 'ended nil)))

(defun dualstack-memory--order (addresses peer)
  "Return ADDRESSES of PEER in the order of attempts.
It is that of ADDRESSES, but for what is remembered."
  (dualstack-memory--judge)
  (let ((first (dualstack-remembered-family peer))
        (last (dualstack-memory--recall peer 'ended))
        firsts others lasts)
    (if (not (and (cdr addresses) (or first last)))
        addresses
      (dolist (address addresses)
        (let ((family (dualstack-address--family address)))
          (cond ((eq family last) (push address lasts))
                ((eq family first) (push address firsts))
                (t (push address others)))))
      (nconc (nreverse firsts) (nreverse others) (nreverse lasts)))))

;;;###autoload
(defun dualstack-forget (&optional host service)
  "Forget which address family answered at HOST and SERVICE.
Without arguments, and when called as a command, forget them all.  The
next connection tries both families again."
  (interactive)
  (if host
      (progn
        (dualstack-address--check-host host)
        (remhash (dualstack-memory--peer (dualstack-address--bare-host host)
                                         (dualstack-address--port service))
                 dualstack--memory))
    (clrhash dualstack--memory)
    (when (called-interactively-p 'interactive)
      (message "Forgotten: the next connections try both address families"))))

;;;; Connections that end at once

;; The filter and the sentinel are the caller's.  So the process is looked at
;; after `dualstack-memory--early', and when the peer is to be connected to again.

(defvar dualstack-memory--young nil
  "Connections not older than `dualstack-memory--early', newest first.
Each is a list (PROCESS PEER FAMILY START POSITION), START being a time as
of `float-time' and POSITION that of the process mark then.")

(defvar dualstack-memory--kept nil
  "The last connection that its caller was seen to close first, not its peer.
A list (PEER FAMILY EXPIRY), EXPIRY being a time as of `float-time', or nil.")

(defvar dualstack-memory--timer nil
  "The timer that looks at `dualstack-memory--young', or nil.")

(defun dualstack-memory--watch (process peer family start)
  "Watch whether PROCESS, a connection to PEER by FAMILY since START, ends at once."
  (push (list process peer family start
              (marker-position (process-mark process)))
        dualstack-memory--young)
  (unless dualstack-memory--timer
    (dualstack-memory--set-timer)))

(defun dualstack-memory--set-timer ()
  "Set the timer for the next look, if there is something to look at."
  (let ((oldest (nth 3 (car (last dualstack-memory--young)))))
    (setq dualstack-memory--timer
          (and oldest
               (run-at-time (max 0 (- (+ oldest dualstack-memory--early) (float-time)))
                            nil #'dualstack-memory--look)))))

(defun dualstack-memory--look ()
  "Judge the young connections, and look again while there are any."
  (dualstack-memory--judge)
  (dualstack-memory--set-timer))

(defun dualstack-memory--judge ()
  "Learn from the young connections that have ended, and drop the old ones."
  (let ((now (float-time))
        (young dualstack-memory--young))
    (setq dualstack-memory--young nil)
    (dolist (entry (nreverse young))
      (pcase-let ((`(,process ,peer ,family ,start ,position) entry))
        (cond ((eq (process-status process) 'closed)
               (when (and (dualstack-memory--untouched-p process position)
                          (dualstack-memory--ended-by-peer-p process peer family)
                          (dualstack-memory--other-p peer family))
                 (dualstack-memory--note peer 'ended family)))
              ((< (- now start) dualstack-memory--early)
               (push entry dualstack-memory--young)))))))

(defun dualstack-memory--other-p (peer family)
  "Return non-nil if PEER may have another family to offer than FAMILY."
  (memq (dualstack-memory--recall peer 'absent) (list nil family)))

(defun dualstack-memory--untouched-p (process position)
  "Return non-nil if PROCESS, its mark once at POSITION, has inserted nothing.
One that has was served."
  (equal position (marker-position (process-mark process))))

(defun dualstack-memory--ended-by-peer-p (process peer family)
  "Return non-nil if PEER has ended PROCESS, which is closed, over FAMILY.
Emacs's exit status tells, unless the caller has deleted PROCESS since.  Then
its port does: the side that closes first keeps it for a while (TIME-WAIT, RFC
9293 section 3.6.1), and nobody can listen there.  Windows allows that.  A look
takes as long as a connect, so one that has shown that the caller closes first
holds for `dualstack-memory--early'."
  (or (eq 256 (process-exit-status process))
      (and (not (eq system-type 'windows-nt))
           (not (dualstack-memory--kept-p peer family))
           (or (dualstack-memory--port-free-p (process-contact process :local))
               (progn (setq dualstack-memory--kept
                            (list peer family (+ (float-time) dualstack-memory--early)))
                      nil)))))

(defun dualstack-memory--kept-p (peer family)
  "Return non-nil if PEER was seen to keep a connection over FAMILY lately."
  (and (eq family (nth 1 dualstack-memory--kept))
       (equal peer (nth 0 dualstack-memory--kept))
       (< (float-time) (nth 2 dualstack-memory--kept))))

(defun dualstack-memory--port-free-p (address)
  "Return non-nil if one can listen at ADDRESS, a vector with a port."
  (condition-case nil
      ;; A quit between the two would leave a server behind.
      (let ((inhibit-quit t))
        (delete-process
         (make-network-process :name "dualstack-free" :server t :service nil :local address
                               :reuseaddr nil :noquery t :sentinel #'ignore))
        t)
    (error nil)))

(defun dualstack-memory-unload-function ()
  "Look at connections no longer; see `unload-feature'."
  (when dualstack-memory--timer
    (cancel-timer dualstack-memory--timer))
  nil)

(provide 'dualstack-memory)

;;; dualstack-memory.el ends here
