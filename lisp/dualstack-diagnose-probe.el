;;; dualstack-diagnose-probe.el --- What there is at a host and port  -*- lexical-binding: t; -*-

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

;; Gathers the facts that a diagnosis rests on: what the name resolves to,
;; who listens, what each address answers and after what time, and what it
;; does then.  Nothing here blocks: a name is looked up by a child Emacs.
;;
;; The steps follow each other, each calling the next one.  A RUN is a list
;; whose car gives up the step that is under way, or nil.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack)
(require 'dualstack-diagnose-listeners)

(defconst dualstack-diagnose-probe--timeout 4
  "Seconds after which an address that does not answer is called silent.")

(defconst dualstack-diagnose-probe--watch 0.3
  "Seconds for which an address that has connected is looked at.")

(defconst dualstack-diagnose-probe--most 2
  "How many addresses of each family of a host are tried.")

(cl-defstruct (dualstack-diagnose--facts (:constructor dualstack-diagnose--facts-make)
                                        (:copier nil))
  "What was found out about HOST and PORT.
ADDRESSES are those that are tried, in the order that the resolver has them,
vectors as of `format-network-address'; LOOKUP is the seconds that took.
LOCALHOST is what this machine's resolver has for localhost, or nil if HOST
is another.  PROBES is a list, in that order, of (ADDRESS OUTCOME SECONDS
THEN), OUTCOME being `open', `silent' or a string that says why not; THEN is
what an open address does afterwards: `serves' if it says something,
`resets' if it closes, `quiet' otherwise.  LISTENERS is a list of plists, see
`dualstack-diagnose--listeners'.  PROXY is the proxy of url.el that catches
HOST, or nil.  EXCLUDED is the range of ports that Windows keeps, a cons."
  host port addresses lookup localhost probes listeners proxy excluded)

(defun dualstack-diagnose--probe (host port then)
  "Gather the facts about HOST and PORT, then call THEN with them.
Return a function of no arguments that gives this up."
  (dualstack-address--check-host host)
  (let ((host (dualstack-address--bare-host host))
        (run (list nil))
        (start (float-time)))
    (dualstack-diagnose-probe--resolve
     host port run
     (lambda (addresses)
       (dualstack-diagnose-probe--found
        (dualstack-diagnose--facts-make
         :host host :port port :addresses addresses
         :lookup (- (float-time) start)
         :localhost (dualstack-diagnose-probe--localhost host)
         :proxy (dualstack-diagnose-probe--proxy host))
        run then)))
    (lambda ()
      (when (car run)
        (funcall (car run))
        (setcar run nil)))))

(defun dualstack-diagnose-probe--found (facts run then)
  "Go on with FACTS, whose addresses are known: who listens, and the probes.
RUN and THEN are as elsewhere."
  (let ((probe (lambda (listeners)
                 (setf (dualstack-diagnose--facts-listeners facts) listeners)
                 (dualstack-diagnose-probe--next
                  facts (dualstack-diagnose--facts-addresses facts) run then))))
    (if (dualstack-diagnose-probe--local-p facts)
        (dualstack-diagnose--listeners (dualstack-diagnose--facts-port facts) run probe)
      (funcall probe nil))))

(defun dualstack-diagnose-probe--local-p (facts)
  "Return non-nil if the host of FACTS is this machine."
  (or (dualstack-localhost-p (dualstack-diagnose--facts-host facts))
      (cl-some (lambda (address)
                 (pcase (dualstack-address--family address)
                   ('ipv4 (= (aref address 0) 127))
                   (_ (equal (butlast (append address nil)) '(0 0 0 0 0 0 0 1)))))
               (dualstack-diagnose--facts-addresses facts))))

;;;; Names

(defun dualstack-diagnose-probe--resolve (host port run then)
  "Call THEN with the addresses of HOST with PORT, in the resolver's order.
For localhost these are ::1 and 127.0.0.1 (RFC 6724), whatever this machine's
hosts file says.  The list is empty if HOST does not resolve.  RUN is as in the
commentary."
  (let ((numbers (lambda (addresses)
                   (mapcar (lambda (address)
                             (let ((copy (copy-sequence address)))
                               (aset copy (1- (length copy)) port)
                               copy))
                           (dualstack-diagnose-probe--first addresses)))))
    (cond ((dualstack-localhost-p host)
           (funcall then (list (dualstack-loopback-address 'ipv6 port)
                               (dualstack-loopback-address 'ipv4 port))))
          ((dualstack-diagnose-probe--literal-p host)
           (funcall then (funcall numbers
                                  (ignore-errors (network-lookup-address-info host)))))
          (t (dualstack-diagnose-probe--look-up
              host run (lambda (addresses) (funcall then (funcall numbers addresses))))))))

(defun dualstack-diagnose-probe--first (addresses)
  "Return the first of ADDRESSES of each family, in their order."
  (let ((left (list (cons 'ipv4 dualstack-diagnose-probe--most)
                    (cons 'ipv6 dualstack-diagnose-probe--most))))
    (cl-remove-if (lambda (address)
                    (< (cl-decf (alist-get (dualstack-address--family address) left)) 0))
                  (delete-dups addresses))))

(defun dualstack-diagnose-probe--literal-p (host)
  "Return non-nil if HOST is an address, which no resolver is needed for."
  (string-match-p "\\`\\(?:[0-9.]+\\|[[:xdigit:].]*:[[:xdigit:]:.]*\\(?:%.*\\)?\\)\\'" host))

(defun dualstack-diagnose-probe--look-up (host run then)
  "Call THEN with the addresses of HOST, by way of another Emacs.
RUN is as in the commentary."
  (let ((form `(progn (princ "\nADDRESSES ")
                      (prin1 (network-lookup-address-info
                              ,(dualstack-address--encode-host host))))))
    (dualstack-diagnose-listeners--command
     run (expand-file-name invocation-name invocation-directory)
     (list "-Q" "--batch" "--eval" (prin1-to-string form))
     (lambda ()
       (funcall then (and (re-search-forward "^ADDRESSES " nil t)
                          (ignore-errors (read (current-buffer)))))))))

(defun dualstack-diagnose-probe--localhost (host)
  "Return the addresses of localhost by this machine's resolver, if HOST is that.
They come from the hosts file, so that this does not take long."
  (and (member (downcase host) '("localhost" "localhost."))
       (delete-dups (ignore-errors (network-lookup-address-info "localhost")))))

;;;; Probes

(defun dualstack-diagnose-probe--next (facts addresses run then)
  "Probe the first of ADDRESSES, and then the others, one after the other.
Note what they answer in FACTS, and in the end call THEN with them.  RUN is as
in the commentary."
  (if (null addresses)
      (dualstack-diagnose-probe--end facts run then)
    (dualstack-diagnose-probe--connect
     (car addresses) run
     (lambda (probe)
       (setf (dualstack-diagnose--facts-probes facts)
             (append (dualstack-diagnose--facts-probes facts) (list probe)))
       (dualstack-diagnose-probe--next facts (cdr addresses) run then)))))

(defun dualstack-diagnose-probe--connect (address run then)
  "Connect to ADDRESS, and call THEN with (ADDRESS OUTCOME SECONDS THEN).
RUN is as in the commentary."
  (let* ((port (aref address (1- (length address))))
         (host (dualstack-diagnose-probe--literal address))
         (done nil)
         (handle (dualstack-open-async
                  host port :name "dualstack-diagnose" :noquery t
                  :coding '(binary . binary) :timeout dualstack-diagnose-probe--timeout
                  :then (lambda (process)
                          (setq done t)
                          (let ((probe (dualstack-diagnose-probe--outcome address)))
                            (dualstack-diagnose-probe--watch
                             process run
                             (lambda (what)
                               (funcall then (append probe (list what)))))))
                  :else (lambda (_)
                          (setq done t)
                          (funcall then (append (dualstack-diagnose-probe--outcome address)
                                                '(nil)))))))
    (unless done
      (setcar run (lambda () (dualstack-cancel handle)))
      (dualstack-diagnose-probe--poll (lambda () done)))))

(defun dualstack-diagnose-probe--literal (address)
  "Return ADDRESS, a vector, as a host without its port."
  (let ((copy (copy-sequence address)))
    (aset copy (1- (length copy)) 0)
    (dualstack-address-string copy)))

(defun dualstack-diagnose-probe--poll (done-p)
  "Take in what comes until DONE-P gives non-nil, for at most 20 ms.
An answer on this machine takes microseconds.  Waited for by the command loop,
the first one would have to wait itself, for 35 ms of redisplay."
  (let ((inhibit-redisplay t)
        (gc-cons-threshold most-positive-fixnum)
        (deadline (+ (float-time) 0.02)))
    (while (and (not (funcall done-p)) (< (float-time) deadline))
      (accept-process-output nil 0))))

(defun dualstack-diagnose-probe--outcome (address)
  "Return (ADDRESS OUTCOME SECONDS) for the last attempt, which was to ADDRESS."
  (let ((attempt (car (dualstack-last-attempts))))
    (list address
          (pcase (plist-get attempt :outcome)
            ('won 'open)
            ('timeout 'silent)
            (reason reason))
          (- (plist-get attempt :end) (plist-get attempt :start)))))

(defun dualstack-diagnose-probe--watch (process run then)
  "See what PROCESS, which has just connected, does; close it, and call THEN.
That gets `serves', `resets' or `quiet'.  RUN is as in the commentary."
  (let* ((timer nil)
         (end (lambda ()
                (cancel-timer timer)
                (set-process-sentinel process #'ignore)
                (set-process-filter process #'ignore)
                (delete-process process)))
         (note (lambda (what)
                 (funcall end)
                 (setq timer (run-at-time 0 nil then what))
                 (setcar run (lambda () (cancel-timer timer))))))
    (setq timer (run-at-time dualstack-diagnose-probe--watch nil note 'quiet))
    (setcar run end)
    (set-process-filter process (lambda (_process _text) (funcall note 'serves)))
    (set-process-sentinel process (lambda (process _event)
                                    (unless (process-live-p process)
                                      (funcall note 'resets))))
    (unless (process-live-p process)
      (funcall note 'resets))))

(defun dualstack-diagnose-probe--end (facts run then)
  "Call THEN with FACTS.  Where Windows may keep the port, ask it before.
RUN is as in the commentary."
  (setcar run nil)
  (if (and (eq system-type 'windows-nt)
           (dualstack-diagnose-probe--local-p facts)
           (cl-notany (lambda (probe) (eq (nth 1 probe) 'open))
                      (dualstack-diagnose--facts-probes facts)))
      (dualstack-diagnose-listeners--excluded
       (dualstack-diagnose--facts-port facts) run
       (lambda (range)
         (setf (dualstack-diagnose--facts-excluded facts) range)
         (funcall then facts)))
    (funcall then facts)))

;;;; Proxies

(defvar url-proxy-services)

(defun dualstack-diagnose-probe--proxy (host)
  "Return the proxy that url.el sends requests to HOST to, or nil.
What it is set to counts before the environment; it has no use for ALL_PROXY."
  (let* ((services (bound-and-true-p url-proxy-services))
         (proxy (cl-some (lambda (scheme)
                           (or (cdr (assoc scheme services))
                               (dualstack-diagnose-probe--getenv
                                (concat scheme "_proxy"))))
                         '("http" "https")))
         (except (or (cdr (assoc "no_proxy" services))
                     (dualstack-diagnose-probe--no-proxy))))
    (and (stringp proxy)
         (not (and (stringp except)
                   (ignore-errors (string-match-p except host))))
         ;; It may have a password in it.
         (replace-regexp-in-string "//[^/@]*@" "//" proxy))))

(defun dualstack-diagnose-probe--getenv (name)
  "Return the variable NAME of the environment, or in capitals; nil if it is empty."
  (let ((value (or (getenv (upcase name)) (getenv name))))
    (and value (not (string= value "")) value)))

(defun dualstack-diagnose-probe--no-proxy ()
  "Return a regexp for no_proxy as url.el has it, or nil.
To it a name there is a wildcard pattern for any part of a host's name."
  (let ((names (split-string (or (dualstack-diagnose-probe--getenv "no_proxy") "")
                             "[, ]+" t)))
    (and names
         (mapconcat (lambda (name)
                      (replace-regexp-in-string
                       "\\\\?\\*" ".*" (regexp-quote name) t t))
                    names "\\|"))))

(provide 'dualstack-diagnose-probe)

;;; dualstack-diagnose-probe.el ends here
