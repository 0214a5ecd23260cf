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
;; what each address answers and after what time, and who listens.  Nothing
;; here blocks for long, but for the look-up of a name that is not localhost.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack)

(defconst dualstack-diagnose-probe-timeout 4
  "Seconds after which an address that does not answer is called silent.")

(cl-defstruct (dualstack-diagnose-facts (:constructor dualstack-diagnose-facts-make)
                                        (:copier nil))
  "What was found out about HOST and PORT.
ADDRESSES are those that HOST resolves to, in the resolver's order, vectors
as of `format-network-address'; LOOKUP is the seconds that took.  PROBES is a
list, in that order, of (ADDRESS OUTCOME SECONDS), OUTCOME being `open',
`silent' or a string that says why not.  LISTENERS is a list of plists, see
`dualstack-diagnose-listeners'.  PROXY is the proxy that catches HOST, or
nil."
  host port addresses lookup probes listeners proxy)

(defun dualstack-diagnose-probe (host port then)
  "Gather the facts about HOST and PORT, then call THEN with them.
Return a function of no arguments that gives this up."
  (let* ((start (float-time))
         (addresses (dualstack-diagnose-probe--resolve host port))
         (facts (dualstack-diagnose-facts-make
                 :host host :port port :addresses addresses
                 :lookup (- (float-time) start)
                 :listeners (and (dualstack-diagnose-probe--local-p host addresses)
                                 (dualstack-diagnose-listeners port))
                 :proxy (dualstack-diagnose-probe--proxy host)))
         (race (list nil)))
    (dualstack-diagnose-probe--next facts addresses race then)
    (lambda ()
      (when (car race)
        (dualstack-race--cancel (car race))))))

(defun dualstack-diagnose-probe--resolve (host port)
  "Return the addresses of HOST with PORT in the order that Emacs would try.
For localhost that is ::1 and 127.0.0.1 (RFC 6724), whatever this machine's
hosts file says, and nil if HOST does not resolve."
  (if (dualstack-localhost-p host)
      (list (dualstack-loopback-address 'ipv6 port)
            (dualstack-loopback-address 'ipv4 port))
    (let ((dualstack-policy 'both))
      (ignore-errors (dualstack-addresses host port)))))

(defun dualstack-diagnose-probe--local-p (host addresses)
  "Return non-nil if HOST, with ADDRESSES, is this machine."
  (or (dualstack-localhost-p host)
      (cl-some (lambda (address)
                 (pcase (dualstack-family address)
                   ('ipv4 (= (aref address 0) 127))
                   (_ (equal (append address nil)
                             (append [0 0 0 0 0 0 0 1] (last (append address nil)))))))
               addresses)))

(defun dualstack-diagnose-probe--next (facts addresses race then)
  "Probe the first of ADDRESSES, and then the others, one after the other.
Note what they answer in FACTS, and in the end call THEN with them.  The car
of RACE is what runs."
  (if (null addresses)
      (funcall then facts)
    (setcar race
            (dualstack-race--start
             (list (car addresses))
             (list :name "dualstack-diagnose" :noquery t :sentinel #'ignore)
             :coding '(binary . binary) :timeout dualstack-diagnose-probe-timeout
             :on-end (lambda (ended)
                       (run-at-time 0 nil #'dualstack-diagnose-probe--note facts ended
                                    addresses race then))))))

(defun dualstack-diagnose-probe--note (facts ended addresses race then)
  "Note in FACTS what the race ENDED gave; go on, as by `--next'.
ADDRESSES, RACE and THEN are as there."
  (unless (eq (dualstack-race--state ended) 'cancelled)
    (let ((attempt (car (dualstack-race--attempts ended))))
      (when (dualstack-race--winner ended)
        (delete-process (dualstack-race--adopt ended)))
      (setf (dualstack-diagnose-facts-probes facts)
            (append (dualstack-diagnose-facts-probes facts)
                    (list (list (car addresses)
                                (pcase (dualstack-attempt--outcome attempt)
                                  ('won 'open)
                                  ('timeout 'silent)
                                  (reason reason))
                                (- (dualstack-attempt--end attempt)
                                   (dualstack-attempt--start attempt))))))
      (dualstack-diagnose-probe--next facts (cdr addresses) race then))))

(defun dualstack-diagnose-probe--proxy (host)
  "Return the proxy of the environment that would catch HOST, or nil."
  (let ((proxy (or (getenv "http_proxy") (getenv "HTTP_PROXY")
                   (getenv "all_proxy") (getenv "ALL_PROXY")))
        (except (or (getenv "no_proxy") (getenv "NO_PROXY") "")))
    (and proxy (not (string= proxy ""))
         (not (cl-some (lambda (name)
                         (setq name (string-trim name))
                         (or (string= name "*")
                             (and (not (string= name ""))
                                  (string-suffix-p (string-remove-prefix "." name)
                                                   host t))))
                       (split-string except ",")))
         ;; It may have a password in it.
         (replace-regexp-in-string "//[^/@]*@" "//" proxy))))

;;;; Who listens

(defun dualstack-diagnose-listeners (port)
  "Return who listens at PORT of this machine, as far as is known.
Each is a plist: `:family', `ipv4' or `ipv6'; `:address', a string; `:any'
non-nil if that is every address of the machine; `:pid' and `:program', nil
if they are not known."
  (pcase system-type
    ('gnu/linux (dualstack-diagnose-probe--proc port))
    ('windows-nt (dualstack-diagnose-probe--command
                  "netstat" '("-ano" "-p" "TCP")
                  (lambda () (dualstack-diagnose-probe--parse-netstat port))))
    (_ (dualstack-diagnose-probe--command
        "lsof" (list "-nP" (format "-iTCP:%d" port) "-sTCP:LISTEN" "-Fpcn")
        #'dualstack-diagnose-probe--parse-lsof))))

(defun dualstack-diagnose-probe--command (program args parse)
  "Return what PARSE gives in a buffer with PROGRAM's output for ARGS.
Return nil if there is no such PROGRAM."
  (when (executable-find program)
    (with-temp-buffer
      (apply #'call-process program nil t nil args)
      (goto-char (point-min))
      (funcall parse))))

(defun dualstack-diagnose-probe--listener (family address pid program)
  "Return a listener of FAMILY at ADDRESS, with PID and PROGRAM."
  (list :family family :address address
        :any (and (member address '("0.0.0.0" "::" "*")) t)
        :pid pid :program program))

(defun dualstack-diagnose-probe--parse-lsof ()
  "Return the listeners in the current buffer, the output of lsof -Fpcn."
  (let (pid program found)
    (while (not (eobp))
      (let ((text (buffer-substring (1+ (point)) (line-end-position))))
        (pcase (char-after)
          (?p (setq pid (string-to-number text)))
          (?c (setq program text))
          (?n (when (string-match "\\`\\(?:\\[\\(.*\\)\\]\\|\\([^:]*\\)\\):[0-9]+\\'" text)
                (push (dualstack-diagnose-probe--listener
                       (if (match-string 1 text) 'ipv6 'ipv4)
                       (or (match-string 1 text) (match-string 2 text)) pid program)
                      found)))))
      (forward-line))
    (nreverse found)))

(defun dualstack-diagnose-probe--parse-netstat (port)
  "Return the listeners at PORT in the current buffer, the output of netstat.
That is Windows' netstat -ano; its words are in the user's language."
  (let (found)
    (while (re-search-forward
            (format "^ *TCP +\\(?:\\[\\([^]]*\\)\\]\\|\\([0-9.]+\\)\\):%d +[^ ]+:0 +[^ ]+ +\\([0-9]+\\)"
                    port)
            nil t)
      (push (dualstack-diagnose-probe--listener
             (if (match-string 1) 'ipv6 'ipv4)
             (or (match-string 1) (match-string 2))
             (string-to-number (match-string 3)) nil)
            found))
    (nreverse found)))

(defun dualstack-diagnose-probe--proc (port)
  "Return the listeners at PORT, from /proc of GNU/Linux."
  (let ((found nil))
    (pcase-dolist (`(,file . ,family) '(("/proc/net/tcp" . ipv4) ("/proc/net/tcp6" . ipv6)))
      (with-temp-buffer
        (ignore-errors (insert-file-contents file))
        (goto-char (point-min))
        (while (re-search-forward
                (format "^ *[0-9]+: \\([0-9A-F]+\\):%04X [0-9A-F:]+ 0A \\(?:[^ ]+ +\\)\\{5\\}\\([0-9]+\\)"
                        port)
                nil t)
          (push (list family (dualstack-diagnose-probe--proc-address (match-string 1))
                      (match-string 2))
                found))))
    (let ((owners (and found (dualstack-diagnose-probe--proc-owners (mapcar #'caddr found)))))
      (mapcar (pcase-lambda (`(,family ,address ,inode))
                (let ((pid (cdr (assoc inode owners))))
                  (dualstack-diagnose-probe--listener
                   family address pid
                   (and pid (alist-get 'comm (process-attributes pid))))))
              (nreverse found)))))

(defun dualstack-diagnose-probe--proc-address (digits)
  "Return the address that DIGITS are in /proc/net/tcp, words in host order."
  (let* ((bytes (cl-loop for i from 0 below (length digits) by 2
                         collect (string-to-number (substring digits i (+ i 2)) 16)))
         (bytes (cl-loop for word on bytes by #'cddddr
                         append (reverse (seq-take word 4)))))
    (if (= (length bytes) 4)
        (mapconcat #'number-to-string bytes ".")
      (let ((parts (cl-loop for (high low) on bytes by #'cddr
                            collect (+ (* 256 high) low))))
        (cond ((cl-every #'zerop parts) "::")
              ((equal parts '(0 0 0 0 0 0 0 1)) "::1")
              (t (mapconcat (lambda (part) (format "%x" part)) parts ":")))))))

(defun dualstack-diagnose-probe--proc-owners (inodes)
  "Return an alist of those of INODES, strings, that a process has open, and pids."
  (let ((names (mapcar (lambda (inode) (cons (format "socket:[%s]" inode) inode)) inodes))
        (found nil))
    (dolist (pid (list-system-processes))
      (dolist (file (ignore-errors (directory-files (format "/proc/%d/fd" pid) t "\\`[0-9]" t)))
        (let ((inode (cdr (assoc (file-symlink-p file) names))))
          (when inode
            (push (cons inode pid) found)))))
    found))

(provide 'dualstack-diagnose-probe)

;;; dualstack-diagnose-probe.el ends here
