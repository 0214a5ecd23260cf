;;; dualstack.el --- Connect to localhost at once  -*- lexical-binding: t; -*-

;; Copyright (C) 2026 The dualstack authors

;; Author: The dualstack authors
;; Maintainer: The dualstack authors
;; Version: 0.1.0
;; Keywords: comm, processes
;; URL: https://github.com/dualstack-emacs/dualstack
;; Package-Requires: ((emacs "27.1"))

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

;; `localhost' is two addresses, ::1 and 127.0.0.1, and most servers
;; listen on one of them.  Emacs tries one after the other and waits for
;; each: on Windows, where a refusal takes a second or two, it freezes
;; whenever the server is at the other one.  This library tries both,
;; nearly at once, and takes the first that answers.
;;
;; `dualstack-open-network-stream' takes the arguments of
;; `open-network-stream', `dualstack-make-network-process' those of
;; `make-network-process'; the processes that they return are like the
;; originals'.  `dualstack-open-async' does not wait.  To cure packages
;; that call the originals, see `dualstack-mode'.
;;
;; 1. `dualstack-addresses' turns the host into addresses, without the
;;    resolver for localhost, in the order of `dualstack-policy' and
;;    `dualstack-preferred-family'.
;; 2. They are raced (dualstack-race.el), in an order that depends on what
;;    answered at this port in the last ten minutes (dualstack-memory.el).
;; 3. The winner's family is remembered, and an error names every address
;;    that failed.

;;; Code:

(require 'dualstack-address)
(require 'dualstack-memory)
(require 'dualstack-nowait)
(require 'dualstack-race)
(eval-when-compile (require 'cl-lib))

;;;; Customization

(defgroup dualstack nil
  "Connect to localhost without waiting for the wrong address family."
  :group 'comm
  :link '(url-link "https://github.com/dualstack-emacs/dualstack")
  :prefix "dualstack-")

(defcustom dualstack-loopback-attempt-delay 0.01
  "Seconds after which the second loopback address is tried too.
The first attempt continues meanwhile.  The default is the least that RFC 8305
section 8 allows; a loopback round trip takes about 20 microseconds."
  :type 'number
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-attempt-delay 0.25
  "Seconds after which the next address of another host is tried too.
Earlier attempts continue meanwhile (RFC 8305 section 8)."
  :type 'number
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-connect-timeout 10
  "Seconds after which Emacs gives up connecting, all addresses together."
  :type 'number
  :package-version '(dualstack . "0.1.0"))

(defconst dualstack--renewal 0.1
  "Seconds after which an attempt at localhost without an answer is renewed.
A server that has begun to listen meanwhile is reached at once; the system
would try again a second after the first time.")

(defconst dualstack--late-renewal 3
  "Seconds after which Windows renews an attempt at another host or an address.
Emacs there now and then never tells that an attempt has connected.  A refusal,
which renewal would cut short, takes up to two seconds.")

(defcustom dualstack-loopback-patience
  (and (eq system-type 'windows-nt) 0.5)
  "Seconds without an answer from localhost that mean that nobody listens.
Windows repeats a refused attempt for one to two seconds before it says so,
while a server answers within microseconds.  Nil waits for the system, and
for `dualstack-connect-timeout'; it is the default on other systems, which
refuse at once.  See `dualstack-wait-for-port' for a server that is starting."
  :type '(choice (const :tag "As long as the system" nil) number)
  :package-version '(dualstack . "0.2.0"))

(defcustom dualstack-log-size 65536
  "Characters kept in the buffer *dualstack-log*."
  :type 'natnum
  :package-version '(dualstack . "0.1.0"))

(defun dualstack--check-options ()
  "Signal an error if an option has a value that it cannot have."
  (dolist (option '(dualstack-loopback-attempt-delay dualstack-attempt-delay
                    dualstack-connect-timeout dualstack-loopback-patience
                    dualstack-memory-lifetime))
    (let ((value (symbol-value option)))
      (unless (or (and (numberp value) (<= 0 value 1e6))
                  (and (null value) (eq option 'dualstack-loopback-patience)))
        (user-error "Bad `%s' %S: set it to a number of seconds" option value)))))

;;;; Log and records

(defun dualstack-log (format &rest args)
  "Append FORMAT with ARGS, as a line with the time, to *dualstack-log*.
The oldest lines make room when `dualstack-log-size' is reached."
  ;; Hooks of the user's run here; nobody's connection shall fail by them.
  (with-demoted-errors "dualstack-log: %S"
    (with-current-buffer (get-buffer-create "*dualstack-log*")
      (unless (derived-mode-p 'special-mode)
        (special-mode)
        (buffer-disable-undo))
      (dualstack--log-line (apply #'format-message format args)))))

(defun dualstack--log-line (text)
  "Insert TEXT with the time at the end of this buffer, the log."
  (let ((inhibit-read-only t))
    (save-excursion
      (save-restriction
        (widen)
        (goto-char (point-max))
        (insert (format-time-string "%F %T.%3N ") text "\n")
        (when (and (natnump dualstack-log-size) (> (buffer-size) dualstack-log-size))
          (goto-char (- (point-max) dualstack-log-size))
          (forward-line)
          (delete-region (point-min) (point)))))))

(defvar dualstack--last-attempt-records nil
  "The `dualstack-attempt' records of the last connection, in order.")

(defun dualstack-last-attempts ()
  "Return what was tried for the last connection, a list of plists in order.
Each has :address, a string like \"127.0.0.1:80\", :family, `ipv4' or
`ipv6', :start and :end, times as of `float-time', and :outcome: `won',
`lost' to a faster address, `cancelled', `timeout', or a string that
says why the address failed."
  (mapcar (lambda (attempt)
            (let ((address (dualstack-attempt--address attempt)))
              (list :address (dualstack-address-string address)
                    :family (dualstack-address--family address)
                    :start (dualstack-attempt--start attempt)
                    :end (dualstack-attempt--end attempt)
                    :outcome (dualstack-attempt--outcome attempt))))
          dualstack--last-attempt-records))

(defun dualstack--describe-attempts (race attempts)
  "Return a line with each of the ATTEMPTS of RACE and its outcome."
  (mapconcat (lambda (attempt)
               (let ((outcome (dualstack-attempt--outcome attempt)))
                 (format "%s %s"
                         (dualstack-address-string
                          (dualstack-attempt--address attempt))
                         (if (and (eq outcome 'timeout)
                                  (eq (dualstack-race--state race) 'unanswered))
                             (format "no answer within %s s" dualstack-loopback-patience)
                           outcome))))
             attempts "; "))

(defun dualstack--note (args race peer)
  "Note what became of RACE, made for ARGS, to PEER.
What its families did is remembered; what went wrong is logged."
  (let ((attempts (reverse (dualstack-race--attempts race)))
        (winner (dualstack-race--winner race)))
    (setq dualstack--last-attempt-records attempts)
    (if winner
        (dualstack--learn peer winner attempts)
      (dualstack-memory--note peer 'answered nil))
    (unless (and winner (null (cdr attempts)))
      (dualstack-log "%s: %s: %s" (plist-get args :name)
                     (dualstack-address--with-port (plist-get args :host)
                                                   (plist-get args :service))
                     (dualstack--describe-attempts race attempts)))))

(defun dualstack--peer (args)
  "Return the key under which what is seen of the peer of ARGS is kept."
  (dualstack-memory--peer (plist-get args :host) (dualstack-address--port (plist-get args :service))))

(defun dualstack--learn (peer winner attempts)
  "Remember of PEER that WINNER, one of ATTEMPTS, has connected.
A family that had failed by then, or had begun before, has nobody there."
  (let ((family (dualstack-address--family (dualstack-attempt--address winner))))
    (dualstack-memory--remember peer family)
    (when (cdr attempts)
      (dolist (attempt attempts)
        (let ((other (dualstack-address--family (dualstack-attempt--address attempt))))
          (when (and (not (eq other family))
                     (or (stringp (dualstack-attempt--outcome attempt))
                         (< (dualstack-attempt--start attempt)
                            (dualstack-attempt--start winner))))
            (dualstack-memory--absent peer other)))))))

;;;; Connecting

;;;###autoload
(defun dualstack-make-network-process (&rest args)
  "Return a network process made with ARGS, trying both address families.
ARGS are as for `make-network-process', and so is the process: it has the
same name, status, contact, buffer, filter, sentinel, coding systems, plist
and query flag.

For a stream client with a `:host' name and without `:family' the addresses
are those of `dualstack-addresses', tried as `dualstack-policy' says; all
together for at most `dualstack-connect-timeout' seconds.  If none answers,
signal `file-error' with the data that `make-network-process' gives, and
`:attempts' with a string that names each address and why it failed.  Other
errors are those of `make-network-process'.  Nobody else's filter, sentinel
or timer runs meanwhile, and `quit' ends it; a thread other than the main one
dials the addresses in turn, each for as long as the system takes.

A `:nowait' client gets its process at once, and Emacs connects it: to the
single address that `dualstack-policy' leaves of localhost, on Windows to
127.0.0.1 unless only ::1 is known to answer, and otherwise as Emacs would.
Anything else is for `make-network-process' alone."
  (if (dualstack--client-p args)
      (dualstack--connect (dualstack--with-bare-host args))
    (apply #'make-network-process args)))

(defun dualstack--with-bare-host (args)
  "Return ARGS, with a `:host' that has no brackets round it."
  (let* ((host (plist-get args :host))
         (bare (dualstack-address--bare-host host)))
    (if (eq host bare)
        args
      (plist-put (copy-sequence args) :host bare))))

(defun dualstack--client-p (args)
  "Return non-nil if ARGS ask for a stream to a host that is to be looked up."
  (and (stringp (plist-get args :host))
       (not (or (plist-get args :server)
                (plist-get args :type)
                (plist-get args :family)
                (plist-get args :remote)
                (plist-get args :local)
                (plist-get args :use-external-socket)))))

(defun dualstack--connect (args)
  "Return a process for the client ARGS, or signal an error."
  (let* ((host (plist-get args :host))
         (port (dualstack--client-port args))
         (local (dualstack-localhost-p host)))
    (unless local
      (dualstack-address--check-host host))
    (cond ((plist-get args :nowait)
           (if local
               (dualstack-nowait--make #'make-network-process args)
             (apply #'make-network-process args)))
          ;; Only the system's resolver knows an IPv6 zone (RFC 4007).
          ((and (not local) (string-match-p ":.*%" host))
           (apply #'make-network-process args))
          (t
           (dualstack--race args (dualstack--ordered-addresses host port))))))

(defun dualstack--client-port (args)
  "Return the port that the client ARGS is to connect to.
Port 0 is one where nobody can listen."
  (let ((service (plist-get args :service)))
    (when (member service '(0 "0"))
      (signal 'file-error
              (append '("make client process failed" "Nobody can listen on port 0")
                      args)))
    (dualstack-address--port service)))

(defun dualstack--ordered-addresses (host port)
  "Return the addresses of HOST with PORT, in the order of attempts."
  (dualstack-memory--order (dualstack-addresses host port) (dualstack-memory--peer host port)))

(defun dualstack--race (args addresses)
  "Return a process for the client ARGS, the winner of a race to ADDRESSES.
Signal `file-error' if all fail, and `quit', if that is allowed, on quitting."
  (let* ((quit-allowed (not inhibit-quit))
         ;; So that a winner is the caller's before anything can be quit; the
         ;; wait allows it.
         (inhibit-quit t)
         (race (apply #'dualstack-race--run addresses args
                      :coding (dualstack-attempt--coding args)
                      (dualstack--race-options (plist-get args :host))))
         (winner (dualstack-race--winner race))
         (process nil))
    (unless (eq (dualstack-race--state race) 'cancelled)
      (let ((peer (dualstack--peer args)))
        (dualstack--note args race peer)
        (when winner
          (setq process (dualstack--adopt race peer winner)))))
    ;; Also a quit that came when it was not allowed: it would lose the process.
    (when (and quit-allowed quit-flag)
      (when process
        (set-process-sentinel process #'ignore)
        (delete-process process))
      (let ((inhibit-quit nil))
        (eval '(ignore nil) t)))
    (or process
        (let ((failure (dualstack--error race args)))
          (signal (car failure) (cdr failure))))))

(defun dualstack--adopt (race peer winner)
  "Return the process of WINNER, which won RACE to PEER, and watch its end."
  (let ((process (dualstack-race--adopt race)))
    (dualstack-memory--watch process peer
                             (dualstack-address--family (dualstack-attempt--address winner))
                             (dualstack-attempt--end winner))
    process))

(defun dualstack--race-options (host &optional timeout)
  "Return the keyword arguments of `dualstack-race--prepare' that suit HOST.
TIMEOUT, in seconds, replaces `dualstack-connect-timeout'."
  (dualstack--check-options)
  (let ((timeout (or timeout dualstack-connect-timeout)))
    (if (dualstack-localhost-p host)
        (list :attempt-delay dualstack-loopback-attempt-delay
              :timeout timeout
              :renew (if dualstack-loopback-patience
                         (max 0.01 (min dualstack--renewal dualstack-loopback-patience))
                       dualstack--renewal)
              :patience dualstack-loopback-patience)
      (list :attempt-delay dualstack-attempt-delay :timeout timeout
            :renew (and (eq system-type 'windows-nt) dualstack--late-renewal)))))

(defun dualstack--error (race args)
  "Return the error for RACE, lost, that was made for ARGS.
That is what the arguments are to blame for, or (file-error . DATA), DATA as
`make-network-process' gives it, and what was tried at its end.  One refusal
is the reason before any other: a family that the host does not have says
less."
  (or (dualstack-race--err race)
      (let* ((attempts dualstack--last-attempt-records)
             (outcomes (mapcar #'dualstack-attempt--outcome attempts))
             (reason (pcase (dualstack-race--state race)
                       ('unanswered "Connection refused")
                       ('timeout "Connection timed out")
                       ('cancelled "Quit")
                       (_ (or (car (member "Connection refused" outcomes))
                              (car (last outcomes)))))))
        (append (list 'file-error "make client process failed" reason)
                args
                (list :attempts (dualstack--describe-attempts race attempts))))))

;;;; Version

(defconst dualstack-version "0.1.0"
  "The version of dualstack, a string.")

;;;; The rest, loaded when it is used

;; A package manager makes these of the files' cookies; here they are for
;; those who only have the files on their `load-path'.
(autoload 'dualstack-cancel "dualstack-async")
(autoload 'dualstack-define-sidecar "dualstack-sidecar-define" nil nil t)
(autoload 'dualstack-connect "dualstack-connect" nil t)
(autoload 'dualstack-diagnose "dualstack-diagnose" nil t)
(autoload 'dualstack-diagnose-bookmark-jump "dualstack-diagnose")
(autoload 'dualstack-epc-connect "dualstack-epc-connect")
(autoload 'dualstack-epc-connect-async "dualstack-epc-connect")
(autoload 'dualstack-epc-progress-reporter "dualstack-epc-progress")
(autoload 'dualstack-epc-serve "dualstack-epc-connect")
(autoload 'dualstack-epc-toggle-log "dualstack-epc" nil t)
(autoload 'dualstack-hello "dualstack-sidecar-status" nil t)
(autoload 'dualstack-make-server "dualstack-server")
(autoload 'dualstack-mode "dualstack-mode" nil t)
(autoload 'dualstack-mode-report "dualstack-mode-report" nil t)
(autoload 'dualstack-mode-report-bookmark-jump "dualstack-mode-report")
(autoload 'dualstack-open-async "dualstack-async")
(autoload 'dualstack-open-network-stream "dualstack-stream")
(autoload 'dualstack-sidecar-environments "dualstack-sidecar-environments" nil t)
(autoload 'dualstack-sidecar-optional "dualstack-sidecar-define")
(autoload 'dualstack-sidecar-restart "dualstack-sidecar" nil t)
(autoload 'dualstack-sidecar-show-log "dualstack-sidecar-status" nil t)
(autoload 'dualstack-sidecar-start "dualstack-sidecar" nil t)
(autoload 'dualstack-sidecar-status "dualstack-sidecar-status" nil t)
(autoload 'dualstack-sidecar-status-bookmark-jump "dualstack-sidecar-status")
(autoload 'dualstack-sidecar-stop "dualstack-sidecar" nil t)
(autoload 'dualstack-sidecar-traceback "dualstack-sidecar-debug" nil t)
(autoload 'dualstack-sidecar-write-functions "dualstack-sidecar-write" nil t)
(autoload 'dualstack-wait-for-port "dualstack-async")

;; What has options or faces, which `customize-group' loads to show them.
;;;###autoload
(dolist (feature '(dualstack dualstack-address dualstack-diagnose-draw dualstack-epc
                   dualstack-memory dualstack-mode dualstack-mode-serve
                   dualstack-sidecar dualstack-sidecar-environment
                   dualstack-sidecar-python))
  (custom-add-load 'dualstack feature))

(provide 'dualstack)

;;; dualstack.el ends here
