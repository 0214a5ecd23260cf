;;; dualstack-mode-peers.el --- What dualstack-mode has seen  -*- lexical-binding: t; -*-

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

;; The records behind `dualstack-mode-report'.  Time saved is what plain Emacs
;; would have waited for ::1, which it tries first, before it reached a server
;; on 127.0.0.1.  Where ::1 was tried and failed, that is known.  Where it was not
;; even tried, it is what a refused connect costs on this machine: that is
;; measured once, in the background.

;;; Code:

(require 'cl-lib)
(require 'dualstack)

(cl-defstruct (dualstack-mode-peers--record (:constructor dualstack-mode-peer--make)
                                   (:copier nil))
  "What this session has seen of a HOST and PORT.
COUNT is the number of connections, FAILED that of those that failed;
FAMILY the last that answered, SAVED the seconds that the plain order of
addresses would have cost more, as far as a failure of ::1 here was measured,
ERR the last error.  COSTS is an alist of families and the seconds that their
last failure took.  UNTRIED is the number of connections to 127.0.0.1 for which
no cost of ::1 is known, and TIME the seconds that they took together."
  host port (count 0) (failed 0) family (saved 0.0) err costs (untried 0) (time 0.0))

(defconst dualstack-mode-peers--limit 1000
  "How many peers have a record; the oldest makes room.")

(defvar dualstack-mode-peers--all nil
  "The `dualstack-mode-peers--record' objects of this session, newest first.")

(defun dualstack-mode-peers--record-time-saved (peer)
  "Return the seconds that PEER would have cost more by plain Emacs.
Untried attempts count as the cost of a refusal, if that is known."
  (+ (dualstack-mode-peers--record-saved peer)
     (max 0 (- (* (dualstack-mode-peers--record-untried peer)
                  (or (dualstack-mode-peers--refusal-cost) 0))
               (dualstack-mode-peers--record-time peer)))))

;;;; Recording

(defun dualstack-mode-peers--note (args attempts time family err)
  "Note a connection for ARGS that took TIME seconds, and its ATTEMPTS.
FAMILY is that which answered, or nil, and then ERR is the error."
  (with-demoted-errors "dualstack-mode: %S"
    (let ((peer (dualstack-mode-peers--peer args)))
      (cl-incf (dualstack-mode-peers--record-count peer))
      (dualstack-mode-peers--note-costs peer attempts)
      (if (not family)
          (dualstack-mode-peers--note-failure peer err)
        (setf (dualstack-mode-peers--record-family peer) family)
        ;; Plain Emacs comes to IPv4 after IPv6 has failed.
        (when (eq family 'ipv4)
          (dualstack-mode-peers--note-saving peer time))))))

(defun dualstack-mode-peers--peer (args)
  "Return the record of the peer of ARGS, a new one at first contact."
  (let ((host (plist-get args :host))
        (port (dualstack-address--port (plist-get args :service))))
    (or (cl-find-if (lambda (peer)
                      (and (equal (dualstack-mode-peers--record-host peer) host)
                           (equal (dualstack-mode-peers--record-port peer) port)))
                    dualstack-mode-peers--all)
        (progn
          (push (dualstack-mode-peer--make :host host :port port) dualstack-mode-peers--all)
          ;; Ports that the system draws are a new peer each time.
          (let ((last (nthcdr (1- dualstack-mode-peers--limit) dualstack-mode-peers--all)))
            (when last
              (setcdr last nil)))
          (car dualstack-mode-peers--all)))))

(defun dualstack-mode-peers--note-costs (peer attempts)
  "Note in PEER how long those of ATTEMPTS took that failed."
  (dolist (attempt attempts)
    (when (stringp (dualstack-attempt--outcome attempt))
      (setf (alist-get (dualstack-address--family (dualstack-attempt--address attempt))
                       (dualstack-mode-peers--record-costs peer))
            (- (dualstack-attempt--end attempt)
               (dualstack-attempt--start attempt))))))

(defun dualstack-mode-peers--note-saving (peer time)
  "Note in PEER that 127.0.0.1 was reached in TIME seconds."
  (let ((cost (alist-get 'ipv6 (dualstack-mode-peers--record-costs peer))))
    (if cost
        (cl-incf (dualstack-mode-peers--record-saved peer) (max 0 (- cost time)))
      (cl-incf (dualstack-mode-peers--record-untried peer))
      (cl-incf (dualstack-mode-peers--record-time peer) time)
      (dualstack-mode-peers--measure))))

(defun dualstack-mode-peers--note-failure (peer err)
  "Note in PEER the error ERR, or the exit status ERR of a process."
  (cl-incf (dualstack-mode-peers--record-failed peer))
  (setf (dualstack-mode-peers--record-err peer)
        (cond ((numberp err) (format "failed with code %d" err))
              ((consp err) (or (plist-get (nthcdr 3 err) :attempts)
                               (error-message-string err)))
              (t (format "%s" err)))))

;;;; What a refused attempt costs

(defconst dualstack-mode-peers--longest 10
  "Seconds for which a refused attempt is waited for.")

(defvar dualstack-mode-peers--cost nil
  "Seconds that a refused attempt at ::1 took, or what takes their measure.
Nil before that has begun, then the timer that begins, then the race.")

(defun dualstack-mode-peers--refusal-cost ()
  "Return the seconds that a refused connect to ::1 takes on this machine.
They are measured once in a session, in the background, when the mode has first
reached a server on 127.0.0.1; nil until then.  They are 0 where plain Emacs
would not try ::1 first."
  (and (numberp dualstack-mode-peers--cost) dualstack-mode-peers--cost))

(defun dualstack-mode-peers--measure ()
  "Measure what a refused attempt costs, unless that is done or under way."
  (unless dualstack-mode-peers--cost
    (setq dualstack-mode-peers--cost
          (run-at-time 0 nil #'dualstack-mode-peers--begin))))

(defun dualstack-mode-peers--begin ()
  "Begin to measure what a refused attempt costs."
  (let ((port (and (dualstack-mode-peers--ipv6-first-p)
                   (dualstack-mode-peers--free-port))))
    (setq dualstack-mode-peers--cost 0)
    (when port
      (let ((race (dualstack-race--start
                   (list (dualstack-loopback-address 'ipv6 port))
                   (list :name "dualstack-measure" :noquery t)
                   :coding '(binary . binary)
                   :timeout dualstack-mode-peers--longest
                   :on-end #'dualstack-mode-peers--measured)))
        (when (dualstack-race--running-p race)
          (setq dualstack-mode-peers--cost race))))))

(defun dualstack-mode-peers--measured (race)
  "Note how long the only attempt of RACE took to fail."
  (let ((attempt (car (dualstack-race--attempts race))))
    (setq dualstack-mode-peers--cost
          (if (dualstack-race--winner race)
              0
            (- (dualstack-attempt--end attempt) (dualstack-attempt--start attempt))))
    (when (dualstack-race--winner race)
      (delete-process (dualstack-race--adopt race)))))

(defun dualstack-mode-peers--ipv6-first-p ()
  "Return non-nil if the system's first address of localhost is ::1."
  (let ((address (car (ignore-errors (network-lookup-address-info "localhost")))))
    (and address (eq (dualstack-address--family address) 'ipv6))))

(defun dualstack-mode-peers--free-port ()
  "Return a port where nobody listens on ::1, or nil without IPv6."
  (let* ((inhibit-quit t)
         (server (ignore-errors
                  (make-network-process :name "dualstack-measure" :server t :noquery t
                                        :service nil
                                        :local (dualstack-loopback-address 'ipv6 0)
                                        :sentinel #'ignore))))
    (when server
      (let ((local (process-contact server :local)))
        (delete-process server)
        (aref local (1- (length local)))))))

(defun dualstack-mode-peers--stop-measuring ()
  "Give up the measure that is under way; it may begin again later."
  (let ((running dualstack-mode-peers--cost))
    (unless (numberp running)
      (setq dualstack-mode-peers--cost nil)
      (cond ((timerp running) (cancel-timer running))
            (running (dualstack-race--cancel running))))))

(provide 'dualstack-mode-peers)

;;; dualstack-mode-peers.el ends here
