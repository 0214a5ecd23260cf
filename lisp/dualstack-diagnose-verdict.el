;;; dualstack-diagnose-verdict.el --- What is the matter with a port  -*- lexical-binding: t; -*-

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

;; What the facts of dualstack-diagnose-probe.el mean: one verdict, a cure
;; where there is one that helps, and warnings.

;;; Code:

(require 'cl-lib)
(require 'dualstack)
(require 'dualstack-mode)
(require 'dualstack-diagnose-probe)
(require 'dualstack-diagnose-draw)

(defun dualstack-diagnose--verdict (facts)
  "Return the verdict on FACTS, a list (KIND SENTENCE CURE).
KIND is a symbol; SENTENCE says what is the matter; CURE is a line of Lisp or
a change to the server, or nil if nothing is to be done."
  (if (not (dualstack-diagnose--open facts))
      (dualstack-diagnose--verdict-nobody facts)
    (or (dualstack-diagnose--verdict-resets facts)
        (and (dualstack-localhost-p (dualstack-diagnose--facts-host facts))
             (dualstack-diagnose--verdict-localhost facts))
        (dualstack-diagnose--verdict-answered facts))))

;;;; Looking at the facts

(defun dualstack-diagnose--open (facts &optional what)
  "Return the probes of FACTS that connected; with WHAT those that then do that."
  (cl-remove-if-not (pcase-lambda (`(,_ ,outcome ,_ . ,then))
                      (and (eq outcome 'open)
                           (or (null what) (eq what (car then)))))
                    (dualstack-diagnose--facts-probes facts)))

(defun dualstack-diagnose--families (probes)
  "Return the address families of PROBES, IPv4 first."
  (sort (delete-dups (mapcar (lambda (probe) (dualstack-address--family (car probe))) probes))
        #'string<))

(defun dualstack-diagnose--names (probes)
  "Return the addresses of PROBES, without the port, as a phrase."
  (mapconcat (lambda (probe) (dualstack-diagnose-probe--literal (car probe)))
             probes " and "))

(defun dualstack-diagnose--silent (facts)
  "Return the probes of FACTS that are not answered."
  (cl-remove-if-not (lambda (probe) (eq (nth 1 probe) 'silent))
                    (dualstack-diagnose--facts-probes facts)))

(defun dualstack-diagnose--failed-p (facts regexp)
  "Return non-nil if an address of FACTS failed for a reason like REGEXP."
  (cl-some (lambda (probe)
             (and (stringp (nth 1 probe)) (string-match-p regexp (nth 1 probe))))
           (dualstack-diagnose--facts-probes facts)))

(defun dualstack-diagnose--listener (facts address)
  "Return the listener in FACTS that serves ADDRESS, a vector, or nil.
One at that very address goes before one at every address of its family, and
that before one at ::, which serves IPv4 too."
  (let ((name (dualstack-diagnose-probe--literal address))
        (family (dualstack-address--family address))
        (listeners (dualstack-diagnose--facts-listeners facts)))
    (or (cl-find name listeners :key (lambda (l) (plist-get l :address)) :test #'equal)
        (cl-find-if (lambda (l) (and (plist-get l :any) (eq family (plist-get l :family))))
                    listeners)
        (and (eq family 'ipv4)
             (cl-find-if (lambda (l) (plist-get l :any)) listeners)))))

(defun dualstack-diagnose--who (listener)
  "Return a phrase for the program of LISTENER."
  (let ((pid (plist-get listener :pid))
        (program (plist-get listener :program)))
    (cond ((and pid program) (format "%s (process %d)" program pid))
          (pid (format "process %d" pid))
          ((plist-get listener :other) "another user's process")
          (t "a process that the system does not name"))))

(defun dualstack-diagnose--program-p (facts regexp)
  "Return non-nil if a program like REGEXP listens, by FACTS."
  (let ((case-fold-search t))
    (cl-some (lambda (listener)
               (let ((program (plist-get listener :program)))
                 (and program (string-match-p regexp program))))
             (dualstack-diagnose--facts-listeners facts))))

(defconst dualstack-diagnose--docker
  "docker\\|vpnkit\\|rootlessport\\|podman\\|containerd\\|\\`pasta\\|slirp4netns"
  "Regexp for programs that stand before a container.")

(defconst dualstack-diagnose--wsl "\\`wsl"
  "Regexp for programs that stand before a Linux within Windows.")

(defun dualstack-diagnose--in-wsl-p ()
  "Return non-nil if this Emacs is that of a Linux within Windows."
  (and (eq system-type 'gnu/linux)
       (with-temp-buffer
         (ignore-errors (insert-file-contents "/proc/version"))
         (let ((case-fold-search t))
           (re-search-forward "microsoft" nil t)))))

(defun dualstack-diagnose--two-programs (facts)
  "Return a phrase if different processes of FACTS answer on either family."
  (let* ((open (dualstack-diagnose--open facts))
         (listener (lambda (family)
                     (let ((probe (cl-find family open :key (lambda (probe)
                                                              (dualstack-address--family (car probe))))))
                       (and probe (dualstack-diagnose--listener facts (car probe))))))
         (four (funcall listener 'ipv4))
         (six (funcall listener 'ipv6)))
    (and (plist-get four :pid) (plist-get six :pid)
         (/= (plist-get four :pid) (plist-get six :pid))
         (format "%s on IPv4, %s on IPv6" (dualstack-diagnose--who four)
                 (dualstack-diagnose--who six)))))

;;;; Whether the mode helps

(defun dualstack-diagnose--costs (facts)
  "Return what connecting costs by FACTS: (PLAIN OURS), in seconds.
Either is nil if it fails; plain Emacs does where the name has no address that
answers."
  (let ((probes (dualstack-diagnose--facts-probes facts)))
    (mapcar (lambda (bars)
              (and (cl-find 'open bars :key (lambda (bar) (plist-get bar :outcome)))
                   (dualstack-diagnose-draw--cost bars)))
            (list (and (dualstack-diagnose--plain-p facts)
                       (dualstack-diagnose-draw--plain probes))
                  (dualstack-diagnose-draw--ours probes)))))

(defun dualstack-diagnose--plain-p (facts)
  "Return non-nil if localhost has an address, on this machine, that is open.
For another host FACTS have all addresses."
  (let ((found (dualstack-diagnose--localhost facts)))
    (or (null found)
        (cl-some (lambda (probe)
                   (member (dualstack-diagnose-probe--literal (car probe)) found))
                 (dualstack-diagnose--open facts)))))

(defun dualstack-diagnose--cure (facts)
  "Return the Lisp that has Emacs connect sooner, by FACTS, or nil if none does.
A twentieth of a second is what one may notice.  On Windows what is refused
now and then takes a second, and `:nowait' cannot use ::1."
  (pcase-let* ((`(,plain ,ours) (dualstack-diagnose--costs facts))
               (host (dualstack-diagnose--facts-host facts))
               (local (dualstack-localhost-p host)))
    (when (and ours
               (or (null plain)
                   (> (- plain ours) 0.05)
                   (and local (eq system-type 'windows-nt)
                        (cl-some (lambda (probe) (not (eq (nth 1 probe) 'open)))
                                 (dualstack-diagnose--facts-probes facts)))))
      (let ((lines (append
                    (unless (or local (member-ignore-case host dualstack-mode-hosts))
                      (list (format "(add-to-list 'dualstack-mode-hosts %S)" host)))
                    (unless dualstack-mode
                      (list "(dualstack-mode 1)")))))
        (and lines (mapconcat #'identity lines " "))))))

(defun dualstack-diagnose--plain (facts)
  "Return what plain Emacs does before it connects to the host of FACTS, a phrase.
It begins with a verb, and tells what was measured."
  (let* ((bars (dualstack-diagnose-draw--plain (dualstack-diagnose--facts-probes facts)))
         (lost (- (dualstack-diagnose-draw--cost bars)
                  (let ((bar (car (last bars))))
                    (- (plist-get bar :end) (plist-get bar :start)))))
         (first (plist-get (car bars) :label)))
    (cond ((not (dualstack-diagnose--plain-p facts))
           (format "fails, as localhost is %s alone here"
                   (car (dualstack-diagnose--localhost facts))))
          ((null (cdr bars)) "connects there at once")
          ((> lost 0.05)
           (format "waits %s at %s" (dualstack-diagnose-draw--time lost) first))
          (t (format "is refused at %s first, in %s" first
                     (dualstack-diagnose-draw--time lost))))))

;;;; Verdicts

(defun dualstack-diagnose--verdict-nobody (facts)
  "Return the verdict on FACTS if no address is open."
  (let ((host (dualstack-diagnose--facts-host facts))
        (port (dualstack-diagnose--facts-port facts))
        (silent (dualstack-diagnose--silent facts))
        (excluded (dualstack-diagnose--facts-excluded facts)))
    (cond
     ((null (dualstack-diagnose--facts-probes facts))
      (list 'unresolved
            (format "The name %s does not resolve to any address." host)
            "Check its spelling, or use an address such as \"127.0.0.1\""))
     (silent
      (list 'silent
            (format "%s does not answer: a firewall drops the packets, or the server hangs."
                    (dualstack-diagnose--names silent))
            "Look at the server, or at the firewall; no setting of Emacs helps"))
     (excluded
      (list 'excluded
            (format "Nobody listens at port %s: Windows keeps ports %d to %d for itself."
                    port (car excluded) (cdr excluded))
            "Choose another port (netsh interface ipv4 show excludedportrange tcp)"))
     ((dualstack-diagnose--failed-p facts "10013\\|ermission denied")
      (list 'forbidden
            (format "The system forbids connecting to port %s (error 10013)." port)
            "Allow Emacs in the firewall or the security program"))
     ((and (dualstack-localhost-p host) (dualstack-diagnose--in-wsl-p))
      (list 'none
            (format "Nobody listens at port %s of this Linux; Windows is another host." port)
            "For a server of Windows: networkingMode=mirrored in .wslconfig"))
     (t
      (list 'none (format "Nobody listens at port %s of %s." port host)
            "Start the server, or correct the port")))))

(defun dualstack-diagnose--verdict-resets (facts)
  "Return the verdict on FACTS if an open address closes at once, or nil.
So do those who stand before a server that does not run."
  (let* ((port (dualstack-diagnose--facts-port facts))
         (resets (dualstack-diagnose--open facts 'resets))
         (rest (cl-set-difference (dualstack-diagnose--open facts) resets))
         (docker (dualstack-diagnose--program-p facts dualstack-diagnose--docker))
         (wsl (dualstack-diagnose--program-p facts dualstack-diagnose--wsl)))
    (when resets
      (list (cond (docker 'docker) (wsl 'wsl) (rest 'half-resets) (t 'resets))
            (format "%s at %s accepts and closes at once%s."
                    (cond (docker "Docker") (wsl "WSL") (t "The server"))
                    (dualstack-diagnose--names resets)
                    (if rest
                        (format "; %s stays open" (dualstack-diagnose--names rest))
                      ", without a word"))
            (cond ((and rest docker)
                   (format "Publish the port at one address: docker run -p %s:%s:..."
                           (dualstack-diagnose--names (list (car rest))) port))
                  (rest
                   (format "Connect to %s, or let the server answer at both"
                           (dualstack-diagnose--names rest)))
                  (docker "Let the server in the container run, and listen on 0.0.0.0 there")
                  (wsl "Let the server in WSL run, and listen on 0.0.0.0 there")
                  (t "Look at the server's log: it may be full, or want another client"))))))

(defun dualstack-diagnose--verdict-localhost (facts)
  "Return the verdict on FACTS about localhost, or nil if nothing is special."
  (let* ((port (dualstack-diagnose--facts-port facts))
         (families (dualstack-diagnose--families (dualstack-diagnose--open facts)))
         (programs (dualstack-diagnose--two-programs facts)))
    (cond
     ((cl-find (emacs-pid) (dualstack-diagnose--facts-listeners facts)
               :key (lambda (listener) (plist-get listener :pid)))
      (list 'self
            (format "Port %s is served by this Emacs itself." port)
            (and (null (cdr families))
                 "(dualstack-make-server ...) listens on both families")))
     (programs
      (list 'both-different
            (format "Two different programs have port %s: %s." port programs)
            "Give one of them another port"))
     ((not (memq dualstack-policy (cons 'both families)))
      (list (if (equal families '(ipv4)) 'ipv4-only 'ipv6-only)
            (format "The server listens on %s only, and `dualstack-policy' is %s."
                    (if (equal families '(ipv4)) "127.0.0.1" "::1") dualstack-policy)
            "(setq dualstack-policy 'both)"))
     ((equal families '(ipv4)) (dualstack-diagnose--verdict-ipv4 facts))
     ((equal families '(ipv6)) (dualstack-diagnose--verdict-ipv6 facts)))))

(defun dualstack-diagnose--verdict-ipv4 (facts)
  "Return the verdict on FACTS about a server of localhost on IPv4 only."
  (let* ((address (car (car (dualstack-diagnose--open facts))))
         (any (plist-get (dualstack-diagnose--listener facts address) :any))
         (cure (dualstack-diagnose--cure facts)))
    (list 'ipv4-only
          (format "The server listens on %s; plain Emacs %s%s."
                  (if any "0.0.0.0, every IPv4 address, and not on ::1" "127.0.0.1 only")
                  (dualstack-diagnose--plain facts)
                  (cond ((and (dualstack-diagnose--localhost facts)
                              (not (member "::1" (dualstack-diagnose--localhost facts))))
                         ", but not here: this machine's localhost has no ::1")
                        (cure "")
                        (dualstack-mode ", `dualstack-mode' does not")
                        ((eq system-type 'windows-nt) "")
                        (t "; on Windows that takes 1 to 2 s")))
          cure)))

(defun dualstack-diagnose--verdict-ipv6 (facts)
  "Return the verdict on FACTS about a server of localhost on IPv6 only."
  (let ((cure (dualstack-diagnose--cure facts)))
    (if (dualstack-diagnose--program-p facts dualstack-diagnose--wsl)
        (list 'wsl
              "WSL passes this port on at ::1 only: clients of 127.0.0.1 do not reach it."
              (or cure "For those: networkingMode=mirrored in .wslconfig"))
      (list 'ipv6-only
            "The server listens on ::1 only: clients of 127.0.0.1 do not reach it."
            (or cure "For those: let the server listen on 127.0.0.1 too")))))

(defun dualstack-diagnose--verdict-answered (facts)
  "Return the verdict on FACTS if some address is open, and the host is any."
  (let* ((host (dualstack-diagnose--facts-host facts))
         (silent (dualstack-diagnose--silent facts))
         (open (dualstack-diagnose--open facts))
         (closed (cl-set-difference (dualstack-diagnose--facts-probes facts) open)))
    (cond
     (silent
      (list 'half-silent
            (format "%s does not answer, %s does; plain Emacs %s."
                    (dualstack-diagnose--names silent) (dualstack-diagnose--names open)
                    (dualstack-diagnose--plain facts))
            (dualstack-diagnose--cure facts)))
     (closed
      (list 'one-family
            (format "%s answers at %s only; plain Emacs %s."
                    host (dualstack-diagnose--names open) (dualstack-diagnose--plain facts))
            (dualstack-diagnose--cure facts)))
     (t
      (list 'both
            (format "%s answers at %s: plain Emacs connects in %s."
                    host
                    (if (cdr open) "every address" "its address")
                    (dualstack-diagnose-draw--time (car (dualstack-diagnose--costs facts))))
            nil)))))

;;;; Warnings

(defun dualstack-diagnose--warnings (facts)
  "Return the warnings about FACTS, a list of sentences."
  (delq nil
        (list
         (let ((any (cl-find-if (lambda (l) (plist-get l :any))
                                (dualstack-diagnose--facts-listeners facts))))
           (and any
                (format "%s listens at %s: it can be reached from the network."
                        (dualstack-diagnose--who any)
                        (if (equal (plist-get any :address) "::") "[::]"
                          (plist-get any :address)))))
         (and (dualstack-diagnose--facts-proxy facts)
              (format "The proxy %s catches %s: add it to no_proxy."
                      (dualstack-diagnose--facts-proxy facts)
                      (dualstack-diagnose--facts-host facts)))
         (and (dualstack-diagnose--no-ipv6-p facts)
              "IPv6 is off on this machine."))))

(defun dualstack-diagnose--localhost (facts)
  "Return what localhost is on this machine by FACTS, a list of strings, or nil."
  (mapcar #'dualstack-diagnose-probe--literal (dualstack-diagnose--facts-localhost facts)))

(defun dualstack-diagnose--note (facts)
  "Return a sentence if localhost is not ::1 and 127.0.0.1 here, by FACTS."
  (let ((found (dualstack-diagnose--localhost facts)))
    (and found
         (not (equal found '("::1" "127.0.0.1")))
         (format "By this machine's hosts file localhost is %s%s."
                 (mapconcat #'identity found ", ")
                 (if (cdr found) "" " alone")))))

(defun dualstack-diagnose--no-ipv6-p (facts)
  "Return non-nil if the machine has no IPv6, as FACTS tell."
  (cl-some (pcase-lambda (`(,address ,outcome . ,_))
             (and (eq (dualstack-address--family address) 'ipv6)
                  (stringp outcome)
                  (string-match-p "Cannot assign requested\\|not supported\\|unreachable"
                                  outcome)))
           (dualstack-diagnose--facts-probes facts)))

(provide 'dualstack-diagnose-verdict)

;;; dualstack-diagnose-verdict.el ends here
