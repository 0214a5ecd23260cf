;;; dualstack-address.el --- Addresses and ports of hosts  -*- lexical-binding: t; -*-

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

;; Which addresses a host name has, and in which order they are to be tried.
;;
;; `dualstack-addresses' needs no resolver for localhost and the other
;; names of RFC 6761 section 6.3: they are ::1 and 127.0.0.1.  Another
;; name is looked up, and its families take turns (RFC 8305 section 4).

;;; Code:

(declare-function puny-encode-domain "puny" (domain))

;;;; Customization

(defcustom dualstack-policy 'both
  "Which address families are tried for a host name.
Literal addresses are not affected."
  :type '(choice (const :tag "Both, nearly at once" both)
                 (const :tag "IPv4 only (127.0.0.1 for localhost)" ipv4)
                 (const :tag "IPv6 only (::1 for localhost)" ipv6))
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

(defcustom dualstack-preferred-family 'ipv4
  "The address family that is tried first for localhost.
It counts when `dualstack-policy' is `both'.  Nearly every local server
listens on IPv4, so the second family is seldom needed.  For other hosts
the system's resolver decides (RFC 6724)."
  :type '(choice (const :tag "IPv4, 127.0.0.1" ipv4)
                 (const :tag "IPv6, ::1" ipv6))
  :group 'dualstack
  :package-version '(dualstack . "0.1.0"))

;;;; Addresses

(defun dualstack-loopback-address (family port)
  "Return the loopback address of FAMILY, a vector with PORT at its end.
FAMILY is `ipv4' or `ipv6' (RFC 5735 section 3, RFC 4291 section 2.5.3)."
  (if (eq family 'ipv4)
      (vector 127 0 0 1 port)
    (vector 0 0 0 0 0 0 0 1 port)))

(defun dualstack-localhost-p (host)
  "Return non-nil if HOST is a name for this machine's loopback.
These are localhost and names that end in .localhost, each with or without
a final dot and in any case (RFC 6761 section 6.3)."
  (or (equal host "localhost")          ; That is the usual one.
      (dualstack-address--localhost-variant-p host)))

(defun dualstack-address--localhost-variant-p (host)
  "Return non-nil if HOST is a name as of `dualstack-localhost-p'."
  (let* ((length (length host))
         (end (if (and (> length 0) (eq (aref host (1- length)) ?.))
                  (1- length)
                length))
         (start (- end (length "localhost"))))
    (and (>= start 0)
         (eq t (compare-strings host start end "localhost" nil nil t))
         (or (= start 0)
             (and (> start 1) (eq (aref host (1- start)) ?.))))))

(defsubst dualstack-address--family (address)
  "Return the family of ADDRESS, `ipv4' or `ipv6'.
ADDRESS is a vector as `network-lookup-address-info' returns it, or one of
these symbols, for a host name that Emacs looks up."
  (cond ((symbolp address) address)
        ((= (length address) 5) 'ipv4)
        (t 'ipv6)))

(defun dualstack-address-string (address)
  "Return ADDRESS, a vector, as \"127.0.0.1:80\" or \"[::1]:80\".
Without its port if that is 0; a symbol is returned as its name."
  (if (symbolp address)
      (symbol-name address)
    (replace-regexp-in-string
     "\\_<\\(?:0:\\)\\{7\\}1\\_>" "::1"
     (format-network-address
      address (eq 0 (aref address (1- (length address))))))))

(defun dualstack-addresses (host &optional port)
  "Return the addresses of HOST, a list of vectors, in the order of attempts.
PORT, an integer, becomes the last element of each; it defaults to 0.

A name of this machine's loopback (`dualstack-localhost-p') is not looked
up.  Any other is, and its addresses are interleaved by family (RFC 8305
section 4).  `dualstack-policy' chooses the families.  A literal address
stands for itself.  Signal an error if HOST has no address."
  (let ((port (or port 0)))
    (if (dualstack-localhost-p host)
        (let (addresses)
          (dolist (family (dualstack-address--families) (nreverse addresses))
            (push (dualstack-loopback-address family port) addresses)))
      (mapcar (lambda (address)
                (let ((copy (copy-sequence address)))
                  (aset copy (1- (length copy)) port)
                  copy))
              (or (dualstack--ipv4-literal host)
                  (dualstack--lookup host))))))

(defun dualstack-address--families ()
  "Return the families of `dualstack-policy', the preferred one first.
Signal an error if an option has a value that it cannot have."
  (unless (memq dualstack-preferred-family '(ipv4 ipv6))
    (user-error "Unknown `dualstack-preferred-family' %S: set it to `ipv4' or `ipv6'"
                dualstack-preferred-family))
  (pcase dualstack-policy
    ('both (if (eq dualstack-preferred-family 'ipv4) '(ipv4 ipv6) '(ipv6 ipv4)))
    ((or 'ipv4 'ipv6) (list dualstack-policy))
    (_ (user-error "Unknown `dualstack-policy' %S: set it to `both', `ipv4' or `ipv6'"
                   dualstack-policy))))

(defun dualstack--ipv4-literal (host)
  "Return the address in HOST if it is four numbers, else nil."
  (when (string-match-p "\\`[0-9]\\{1,3\\}\\(?:\\.[0-9]\\{1,3\\}\\)\\{3\\}\\'" host)
    (let ((bytes (mapcar #'string-to-number (split-string host "\\."))))
      (unless (> (apply #'max bytes) 255)
        (list (vconcat bytes '(0)))))))

(defun dualstack--lookup (host)
  "Return the addresses that the system's resolver has for HOST, interleaved.
Those of a literal are not chosen by `dualstack-policy'."
  (let ((families (if (string-match-p ":" host)
                      '(ipv4 ipv6)
                    (dualstack-address--families)))
        (found (network-lookup-address-info host))
        chosen)
    (dolist (address found)
      (when (memq (dualstack-address--family address) families)
        (push address chosen)))
    (cond (chosen (dualstack--interleave (nreverse chosen)))
          (found (error "%s has no address that `dualstack-policy' %s allows"
                        host dualstack-policy))
          (t (error "%s: Name or service not known" host)))))

(defun dualstack--interleave (addresses)
  "Return ADDRESSES with the families in turn, beginning with the first's."
  (let* ((family (dualstack-address--family (car addresses)))
         first second result)
    (dolist (address addresses)
      (if (eq (dualstack-address--family address) family)
          (push address first)
        (push address second)))
    (setq first (nreverse first) second (nreverse second))
    (while (or first second)
      (when first (push (pop first) result))
      (when second (push (pop second) result)))
    (nreverse result)))
;;;; Hosts and services

(defun dualstack-address--port (service)
  "Return the port number of SERVICE.
SERVICE is a number, a string of digits, or a name in the system's services
file.  Signal an error that says what is wrong with any other value."
  (cond ((integerp service)
         (if (<= 1 service 65535)
             service
           (error "Port %s is out of range: give a number from 1 to 65535"
                  service)))
        ((not (and (stringp service) (string-match-p "[^[:space:]]" service)))
         (error "No service %S: give a port number or a service name" service))
        ((string-match-p "\\`[0-9]+\\'" service)
         (dualstack-address--port (string-to-number service)))
        ((dualstack--service-port service))
        (t (error "Unknown service %S: give a port number" service))))

(defun dualstack--service-port (name)
  "Return the TCP port of the service NAME, or nil.
It is read from the file that getservbyname reads; Lisp cannot call that."
  (let ((file (if (eq system-type 'windows-nt)
                  (expand-file-name "System32/drivers/etc/services"
                                    (getenv "SystemRoot"))
                "/etc/services"))
        (case-fold-search nil))
    (when (file-readable-p file)
      (with-temp-buffer
        (insert-file-contents file)
        (when (re-search-forward
               (concat "^\\(?:" (regexp-quote name)
                       "[ \t]+\\([0-9]+\\)/tcp\\_>"
                       "\\|[^# \t\n]+[ \t]+\\([0-9]+\\)/tcp[^#\n]*[ \t]"
                       (regexp-quote name) "\\(?:[ \t#]\\|$\\)\\)")
               nil t)
          (string-to-number (or (match-string 1) (match-string 2))))))))

(defun dualstack-address--check-host (host)
  "Signal an error unless HOST can be the name of a host."
  (cond ((not (and (stringp host) (string-match-p "[^[:space:]]" host)))
         (error "No host %S: give a name or an address, such as \"localhost\"" host))
        ((string-match "\\`[a-z+]+://\\(?:[^/@]*@\\)?\\(\\[[^]/]*\\]\\|[^]/:[]*\\)" host)
         (error "%S is a URL: give %S as host" host
                (dualstack-address--bare-host (match-string 1 host))))
        ((string-match "\\`\\(\\[.*\\]\\|[^][:]+\\):\\([0-9]+\\)\\'" host)
         (let ((port (match-string 2 host)))
           (error "The host %S has a port in it: give %S as host and %s as port"
                  host (dualstack-address--bare-host (match-string 1 host)) port)))))

(defun dualstack-address--bare-host (host)
  "Return HOST without the brackets that URLs have round an IPv6 address.
See RFC 3986 section 3.2.2."
  (if (and (stringp host)
           (string-prefix-p "[" host)
           (string-match "\\`\\[\\([^][]*:[^][]*\\)\\]\\'" host))
      (match-string 1 host)
    host))

(defun dualstack-address--encode-host (host)
  "Return HOST as the resolver takes it, in ASCII (RFC 3492)."
  (if (multibyte-string-p host)
      (progn (require 'puny)
             (puny-encode-domain host))
    host))

(defun dualstack-address--with-port (host port)
  "Return HOST and PORT as \"HOST:PORT\", an IPv6 address in brackets.
See RFC 3986 section 3.2."
  (format (if (string-match-p "\\`[^[].*:" host) "[%s]:%s" "%s:%s") host port))

(provide 'dualstack-address)

;;; dualstack-address.el ends here
