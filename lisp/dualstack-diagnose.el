;;; dualstack-diagnose.el --- Why a port is slow, or refused  -*- lexical-binding: t; -*-

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

;; `dualstack-diagnose' says in one screen why connecting to a host and port
;; is slow, or refused, and what to do about it.  The facts come from
;; dualstack-diagnose-probe.el, the picture from dualstack-diagnose-draw.el;
;; here is what they mean.

;;; Code:

(require 'cl-lib)
(require 'dualstack)
(require 'dualstack-diagnose-probe)
(require 'dualstack-diagnose-draw)
(require 'dualstack-connect)
(require 'dualstack-mode)

;;;; What the facts mean

(defun dualstack-diagnose-verdict (facts)
  "Return the verdict on FACTS, a list (KIND SENTENCE CURE).
KIND is a symbol; SENTENCE says what is the matter; CURE is a line of Lisp or
a change to the server, or nil if nothing is to be done."
  (or (and (not (dualstack-diagnose--families
                 (dualstack-diagnose-facts-probes facts) 'open))
           (dualstack-diagnose--verdict-nobody facts))
      (and (dualstack-localhost-p (dualstack-diagnose-facts-host facts))
           (dualstack-diagnose--verdict-localhost facts))
      (dualstack-diagnose--verdict-answered facts)))

(defun dualstack-diagnose--silent (facts)
  "Return the address in FACTS that does not answer, a string, or nil."
  (let ((probe (cl-find 'silent (dualstack-diagnose-facts-probes facts) :key #'cadr)))
    (and probe (dualstack-address-string (car probe)))))

(defun dualstack-diagnose--verdict-nobody (facts)
  "Return the verdict on FACTS if no address is open."
  (let ((host (dualstack-diagnose-facts-host facts))
        (port (dualstack-diagnose-facts-port facts))
        (silent (dualstack-diagnose--silent facts)))
    (cond
     ((null (dualstack-diagnose-facts-probes facts))
      (list 'unresolved
            (format "The name %s does not resolve to any address." host)
            "Check its spelling, or use an address such as \"127.0.0.1\""))
     (silent
      (list 'silent
            (format "%s does not answer: a firewall drops the packets, or its queue is full."
                    silent)
            "Look at the server, or at the firewall: nothing in Emacs can cure it"))
     (t
      (list 'none (format "Nobody listens at port %s of %s." port host)
            "Start the server, or correct the port")))))

(defun dualstack-diagnose--verdict-localhost (facts)
  "Return the verdict on FACTS about localhost, or nil if nothing is special."
  (let* ((port (dualstack-diagnose-facts-port facts))
         (probes (dualstack-diagnose-facts-probes facts))
         (open (dualstack-diagnose--families probes 'open))
         (plain (dualstack-diagnose-draw-cost (dualstack-diagnose-draw-plain probes)))
         (programs (dualstack-diagnose--two-programs facts)))
    (cond
     ((cl-find (emacs-pid) (dualstack-diagnose-facts-listeners facts)
               :key (lambda (listener) (plist-get listener :pid)))
      (list 'self
            (format "Port %s is served by this Emacs itself." port)
            "(dualstack-make-server ...) listens on both families"))
     ((equal open '(ipv4))
      (list 'ipv4-only
            (format "The server listens on 127.0.0.1 only; plain Emacs %s for ::1 first."
                    (if (> plain 0.3)
                        (format "waits %s" (dualstack-diagnose-draw-time plain))
                      "asks, and on Windows waits 1 to 2 s,"))
            "(dualstack-mode 1)"))
     ((equal open '(ipv6))
      (list 'ipv6-only
            "The server listens on ::1 only: clients of 127.0.0.1 do not reach it."
            "(dualstack-mode 1)"))
     (programs
      (list 'both-different
            (format "Two different programs have port %s: %s." port programs)
            "Give one of them another port")))))

(defun dualstack-diagnose--verdict-answered (facts)
  "Return the verdict on FACTS if some address is open, and the host is any."
  (let* ((host (dualstack-diagnose-facts-host facts))
         (probes (dualstack-diagnose-facts-probes facts))
         (open (dualstack-diagnose--families probes 'open))
         (silent (dualstack-diagnose--silent facts)))
    (cond
     (silent
      (list 'half-silent
            (format "%s does not answer, and another address does." silent)
            (format "(add-to-list 'dualstack-mode-hosts %S)" host)))
     ((and (null (cdr open)) (cdr (dualstack-diagnose-facts-addresses facts)))
      (list 'one-family
            (format "%s answers by %s only." host (if (equal open '(ipv4)) "IPv4" "IPv6"))
            (format "(add-to-list 'dualstack-mode-hosts %S)" host)))
     (t
      (list 'both (format "%s answers at every address: connecting is fast." host) nil)))))

(defun dualstack-diagnose--families (probes outcome)
  "Return the address families of those PROBES that had OUTCOME, IPv4 first."
  (sort (delete-dups (cl-loop for (address what _) in probes
                              when (eq what outcome)
                              collect (dualstack-family address)))
        #'string<))

(defun dualstack-diagnose--listener (facts family)
  "Return the listener on FAMILY in FACTS, or nil."
  (cl-find family (dualstack-diagnose-facts-listeners facts)
           :key (lambda (listener) (plist-get listener :family))))

(defun dualstack-diagnose--two-programs (facts)
  "Return a phrase if different processes of FACTS answer on either family."
  (let ((four (dualstack-diagnose--listener facts 'ipv4))
        (six (dualstack-diagnose--listener facts 'ipv6)))
    (and four six
         (cdr (dualstack-diagnose--families (dualstack-diagnose-facts-probes facts) 'open))
         (plist-get four :pid) (plist-get six :pid)
         (/= (plist-get four :pid) (plist-get six :pid))
         (format "%s on IPv4, %s on IPv6" (dualstack-diagnose--who four)
                 (dualstack-diagnose--who six)))))

(defun dualstack-diagnose--who (listener)
  "Return a phrase for the program of LISTENER."
  (cond ((null (plist-get listener :pid)) "a program that the system does not name")
        ((plist-get listener :program)
         (format "%s (process %d)" (plist-get listener :program) (plist-get listener :pid)))
        (t (format "process %d" (plist-get listener :pid)))))

(defun dualstack-diagnose-warnings (facts)
  "Return the warnings about FACTS, a list of sentences."
  (let ((listeners (dualstack-diagnose-facts-listeners facts)))
    (delq nil
          (list
           (and (dualstack-diagnose--two-programs facts)
                (format "Different programs listen on the two families: %s."
                        (dualstack-diagnose--two-programs facts)))
           (let ((any (cl-find-if (lambda (l) (plist-get l :any)) listeners)))
             (and any
                  (format "%s listens at %s: it can be reached from the network."
                          (dualstack-diagnose--who any) (plist-get any :address))))
           (and (dualstack-diagnose-facts-proxy facts)
                (format "The proxy %s catches %s: add it to no_proxy."
                        (dualstack-diagnose-facts-proxy facts)
                        (dualstack-diagnose-facts-host facts)))
           (and (dualstack-diagnose--no-ipv6-p facts)
                "IPv6 is off on this machine.")))))

(defun dualstack-diagnose--no-ipv6-p (facts)
  "Return non-nil if the machine has no IPv6, as FACTS tell."
  (cl-some (pcase-lambda (`(,address ,outcome ,_))
             (and (eq (dualstack-family address) 'ipv6)
                  (stringp outcome)
                  (string-match-p "\\(?:Cannot assign requested\\|not supported\\|unreachable\\)"
                                  outcome)))
           (dualstack-diagnose-facts-probes facts)))

;;;; In words

(defun dualstack-diagnose-text (facts &optional picture)
  "Return the report on FACTS, with PICTURE, a string, for its waterfall."
  (let* ((probes (dualstack-diagnose-facts-probes facts))
         (plain (dualstack-diagnose-draw-plain probes))
         (ours (dualstack-diagnose-draw-ours probes))
         (verdict (dualstack-diagnose-verdict facts)))
    (concat
     (propertize (format "%s:%s\n" (dualstack-diagnose-facts-host facts)
                         (dualstack-diagnose-facts-port facts))
                 'face 'bold)
     (if (dualstack-diagnose-facts-addresses facts)
         (format "  resolves to %s, in %s\n"
                 (mapconcat #'dualstack-address-string
                            (dualstack-diagnose-facts-addresses facts) ", ")
                 (dualstack-diagnose-draw-time (dualstack-diagnose-facts-lookup facts)))
       "  does not resolve\n")
     (mapconcat (lambda (probe) (dualstack-diagnose--probe-line facts probe)) probes "")
     (mapconcat (lambda (warning)
                  (concat (propertize "  Warning: " 'face 'warning) warning "\n"))
                (dualstack-diagnose-warnings facts) "")
     (and probes
          (concat "\n" (or picture (dualstack-diagnose-draw-text (append plain ours)))
                  (format "\n  Plain Emacs needs %s, dualstack %s.\n"
                          (dualstack-diagnose-draw-time (dualstack-diagnose-draw-cost plain))
                          (dualstack-diagnose-draw-time (dualstack-diagnose-draw-cost ours)))))
     "\n" (propertize "Verdict: " 'face 'bold) (nth 1 verdict) "\n"
     (and (nth 2 verdict)
          (concat (propertize "Cure:    " 'face 'bold) (nth 2 verdict) "\n")))))

(defun dualstack-diagnose--probe-line (facts probe)
  "Return the line about PROBE of FACTS."
  (pcase-let* ((`(,address ,outcome ,seconds) probe)
               (listener (and (symbolp outcome) ; Not refused.
                              (dualstack-diagnose--listener
                               facts (dualstack-family address)))))
    (format "  %-24s %s%s\n" (dualstack-address-string address)
            (pcase outcome
              ('open (format "connects in %s" (dualstack-diagnose-draw-time seconds)))
              ('silent (format "silent for %s" (dualstack-diagnose-draw-time seconds)))
              (reason (format "%s, after %s" reason
                              (dualstack-diagnose-draw-time seconds))))
            (if listener
                (format "; %s at %s" (dualstack-diagnose--who listener)
                        (plist-get listener :address))
              ""))))

;;;; The command

(defvar dualstack-diagnose-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map "w" #'dualstack-diagnose-copy)
    map)
  "Keys of `dualstack-diagnose-mode'.")

(define-derived-mode dualstack-diagnose-mode special-mode "Diagnosis"
  "Major mode for a diagnosis.

\\{dualstack-diagnose-mode-map}"
  (setq-local revert-buffer-function
              (lambda (&rest _) (dualstack-diagnose--run))))

(defvar-local dualstack-diagnose--peer nil
  "The host and port of this buffer's diagnosis, a list.")

(defvar-local dualstack-diagnose--facts nil
  "The facts of this buffer's diagnosis, or nil.")

(defvar-local dualstack-diagnose--cancel nil
  "A function that gives up what is being gathered, or nil.")

;;;###autoload
(defun dualstack-diagnose (host port)
  "Say why connecting to PORT of HOST is slow, or refused, and what to do.
The addresses are tried in the background; \\<dualstack-diagnose-mode-map>\\[revert-buffer] tries them again."
  (interactive (dualstack-connect-read-peer))
  (with-current-buffer (get-buffer-create "*dualstack-diagnose*")
    (dualstack-diagnose-mode)
    (setq dualstack-diagnose--peer (list host (dualstack-port port)))
    (add-hook 'kill-buffer-hook #'dualstack-diagnose--give-up nil t)
    (dualstack-diagnose--run)
    (pop-to-buffer (current-buffer))))

(defun dualstack-diagnose--give-up ()
  "Give up what is being gathered for this buffer."
  (when dualstack-diagnose--cancel
    (funcall dualstack-diagnose--cancel)
    (setq dualstack-diagnose--cancel nil)))

(defun dualstack-diagnose--run ()
  "Gather the facts for this buffer, and show them when they are there."
  (dualstack-diagnose--give-up)
  (setq dualstack-diagnose--facts nil)
  (let ((inhibit-read-only t)
        (buffer (current-buffer)))
    (erase-buffer)
    (insert (apply #'format "Trying %s:%s...\n" dualstack-diagnose--peer))
    (setq dualstack-diagnose--cancel
          (apply #'dualstack-diagnose-probe
                 (append dualstack-diagnose--peer
                         (list (lambda (facts)
                                 (when (buffer-live-p buffer)
                                   (with-current-buffer buffer
                                     (dualstack-diagnose--show facts))))))))))

(defun dualstack-diagnose--show (facts)
  "Show FACTS in this buffer."
  (setq dualstack-diagnose--cancel nil
        dualstack-diagnose--facts facts)
  (let ((inhibit-read-only t))
    (erase-buffer)
    (insert (dualstack-diagnose-text facts (dualstack-diagnose--picture facts)) "\n")
    (insert-text-button "Forget what is remembered"
                        'action (lambda (_) (dualstack-diagnose-forget)))
    (insert "  ")
    (insert-text-button (if dualstack-mode "dualstack-mode is on" "Turn on dualstack-mode")
                        'action (lambda (_) (dualstack-mode 1) (revert-buffer)))
    (insert "  ")
    (insert-text-button "Log" 'action (lambda (_) (dualstack-diagnose-log)))
    (insert "\n\nw copies this as text, g tries again, q quits\n")
    (goto-char (point-min))))

(defun dualstack-diagnose--picture (facts)
  "Return a string with the waterfall of FACTS as an image, or nil."
  (and (display-graphic-p)
       (image-type-available-p 'svg)
       (dualstack-diagnose-facts-probes facts)
       (let ((probes (dualstack-diagnose-facts-probes facts)))
         (concat (propertize
                  "[waterfall]" 'display
                  (svg-image (dualstack-diagnose-draw-svg
                              (append (dualstack-diagnose-draw-plain probes)
                                      (dualstack-diagnose-draw-ours probes)))))
                 "\n"))))

(put 'dualstack-diagnose-forget 'completion-predicate #'ignore)

(defun dualstack-diagnose-forget ()
  "Forget which family answers at this buffer's host and port."
  (interactive)
  (apply #'dualstack-forget dualstack-diagnose--peer)
  (message "Forgotten: the next connection tries both families"))

(put 'dualstack-diagnose-log 'completion-predicate #'ignore)

(defun dualstack-diagnose-log ()
  "Show what dualstack has logged."
  (interactive)
  (display-buffer (get-buffer-create "*dualstack-log*")))

(defun dualstack-diagnose-copy ()
  "Copy this diagnosis as text, for a bug tracker.
It has no user names or paths in it."
  (interactive)
  (unless dualstack-diagnose--facts
    (user-error "Still trying the addresses"))
  (kill-new (dualstack-diagnose--report dualstack-diagnose--facts))
  (message "Copied the diagnosis"))

(defun dualstack-diagnose--report (facts)
  "Return the report on FACTS as plain text, with the versions."
  (concat (substring-no-properties (dualstack-diagnose-text facts))
          (format "\ndualstack %s, Emacs %s, %s, policy %s, dualstack-mode %s\n"
                  dualstack-version emacs-version system-type dualstack-policy
                  (if dualstack-mode "on" "off"))))

;;;; In batch

(defun dualstack-diagnose-batch ()
  "Print the diagnosis of the host and port on the command line; end Emacs.
The status is 0 if something answers, 1 if nothing does, 2 on misuse.
Call it by \"--batch -l dualstack-diagnose -f dualstack-diagnose-batch HOST
PORT\"."
  (let ((host (pop command-line-args-left))
        (port (ignore-errors (dualstack-port (pop command-line-args-left))))
        result)
    (unless (and host port)
      (message "Usage: ... -f dualstack-diagnose-batch HOST PORT")
      (kill-emacs 2))
    (dualstack-diagnose-probe host port (lambda (facts) (setq result facts)))
    (while (not result)
      (accept-process-output nil 0.05))
    (princ (dualstack-diagnose--report result))
    (kill-emacs (if (cl-find 'open (dualstack-diagnose-facts-probes result) :key #'cadr)
                    0 1))))

(provide 'dualstack-diagnose)

;;; dualstack-diagnose.el ends here
