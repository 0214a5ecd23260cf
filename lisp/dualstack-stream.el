;;; dualstack-stream.el --- Streams with TLS over both address families  -*- lexical-binding: t; -*-

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

;; `dualstack-open-network-stream', the counterpart of network-stream.el:
;; the same arguments, values and errors over connections that
;; `dualstack-make-network-process' makes.

;;; Code:

(require 'dualstack)
(require 'dualstack-tls)

(declare-function gnutls-available-p "ext:gnutls.c" ())
(declare-function gnutls-boot-parameters "gnutls" (&rest spec))
(declare-function gnutls-negotiate "gnutls" (&rest spec))
(declare-function network-stream-certificate "network-stream"
                  (host service parameters))
(declare-function network-stream-command "network-stream" (stream command eoc))
(declare-function network-stream-get-response "network-stream"
                  (stream start end-of-command))
(declare-function nsm-verify-connection "nsm"
                  (process host port &optional save-fingerprint warn-unencrypted))
(defvar network-stream-use-client-certificates)

;;;###autoload
(defun dualstack-open-network-stream (name buffer host service &rest parameters)
  "Open a connection like `open-network-stream', trying both address families.
NAME, BUFFER, HOST, SERVICE and PARAMETERS are as there, and so are the
value and the errors; see `dualstack-make-network-process' for how HOST is
tried.  HOST may be any host.

The types nil, `network' and `plain' (a plain connection) and `tls' and
`ssl' are made here; TLS checks the certificate against HOST.  For STARTTLS
and `shell' call `open-network-stream' itself: `dualstack-mode' makes its
inner connections as this library does."
  (let ((type (plist-get parameters :type)))
    (cond ((dualstack-stream--starttls-p parameters)
           (error "No STARTTLS or shell connections here: turn on `dualstack-mode' and call `open-network-stream'"))
          ((memq type '(nil network plain))
           (dualstack-stream--open-plain name buffer host service parameters))
          ((memq type '(tls ssl))
           (dualstack-stream--open-tls name buffer host service parameters))
          (t (error "Unknown connection type %S: use `plain' or `tls'" type)))))

(defun dualstack-stream--starttls-p (parameters)
  "Return non-nil if PARAMETERS ask for STARTTLS or a shell connection."
  (let ((type (plist-get parameters :type)))
    (or (memq type '(starttls shell))
        (and (memq type '(nil network))
             (plist-get parameters :success)
             (plist-get parameters :capability-command)))))

(defun dualstack-stream--args (name buffer host service parameters)
  "Return the `make-network-process' arguments of a stream.
NAME, BUFFER, HOST, SERVICE and PARAMETERS are those of
`open-network-stream'."
  (unless (stringp host)
    (dualstack-address--check-host host))
  (list :name name :buffer buffer
        :host (dualstack-address--encode-host host) :service service
        :nowait (plist-get parameters :nowait)
        :tls-parameters (plist-get parameters :tls-parameters)
        :coding (plist-get parameters :coding)))

(defun dualstack-stream--open-plain (name buffer host service parameters)
  "Open a plain connection; the arguments are those of `open-network-stream'.
NAME, BUFFER, HOST, SERVICE and PARAMETERS are as there."
  (if (plist-get parameters :return-list)
      (dualstack-stream--converse
       buffer 'plain parameters
       (lambda (buffer)
         (dualstack-stream--connect name buffer host service parameters)))
    (dualstack-stream--connect name buffer host service parameters)))

(defun dualstack-stream--connect (name buffer host service parameters)
  "Return a plain connection, of which nothing was read.
NAME, BUFFER, HOST, SERVICE and PARAMETERS are those of `open-network-stream'."
  (apply #'dualstack-make-network-process
         (dualstack-stream--args name buffer host service parameters)))

(defun dualstack-stream--open-tls (name buffer host service parameters)
  "Open a TLS connection; the arguments are those of `open-network-stream'.
NAME, BUFFER, HOST, SERVICE and PARAMETERS are as there.  The certificate
is checked against HOST, by GnuTLS and the Network Security Manager."
  (require 'network-stream)
  (unless (gnutls-available-p)
    (error "No TLS: this Emacs was built without GnuTLS"))
  (when (and network-stream-use-client-certificates
             (not (plist-member parameters :client-certificate)))
    (setq parameters (append '(:client-certificate t) parameters)))
  (let* ((host-name (dualstack-address--encode-host host))
         (certificate (network-stream-certificate host service parameters))
         (tls (list :type 'gnutls-x509pki :hostname host-name
                    :keylist (and certificate (list certificate)))))
    (if (plist-get parameters :nowait)
        (dualstack-stream--open-tls-nowait name buffer host service parameters tls)
      (dualstack-stream--converse
       buffer 'tls parameters
       (lambda (buffer)
         (dualstack-stream--negotiate
          (apply #'dualstack-make-network-process
                 (dualstack-stream--args name buffer host service
                                         (append '(:tls-parameters nil)
                                                 parameters)))
          host service tls))))))

(defun dualstack-stream--open-tls-nowait (name buffer host service parameters tls)
  "Return a TLS connection that Emacs will shake hands on once it is open.
NAME, BUFFER, HOST, SERVICE and PARAMETERS are those of
`open-network-stream', TLS the arguments of `gnutls-boot-parameters'."
  (require 'gnutls)
  (apply #'dualstack-make-network-process
         (dualstack-stream--args
          name buffer host service
          (append (list :tls-parameters
                        (cons 'gnutls-x509pki
                              (apply #'gnutls-boot-parameters tls)))
                  parameters))))

(defun dualstack-stream--negotiate (process host service tls)
  "Return PROCESS with TLS on it, or nil if the user does not trust HOST.
SERVICE is for the user to read, TLS are the arguments of
`gnutls-negotiate'.  A failed negotiation deletes PROCESS."
  (let ((done nil))
    (unwind-protect
        (prog1 (progn
                 (apply #'dualstack-tls--negotiate #'gnutls-negotiate :process process tls)
                 (nsm-verify-connection process host service))
          (setq done t))
      (unless done (delete-process process)))))

(defun dualstack-stream--converse (buffer type parameters connect)
  "Return what `open-network-stream' does after a connection is made.
CONNECT is called with BUFFER, or with a buffer made for the time of this
call, and returns the process or nil.  TYPE is `plain' or `tls'; PARAMETERS
say which greeting and capabilities to wait for and whether to return them."
  (require 'network-stream)
  (let* ((work (get-buffer-create
                (or buffer (generate-new-buffer " *dualstack stream*"))))
         (start (with-current-buffer work (point-max)))
         (end (plist-get parameters :end-of-command))
         (command (plist-get parameters :capability-command))
         process greeting capabilities)
    (unwind-protect
        (when (setq process (funcall connect work))
          (setq greeting (network-stream-get-response process start end)
                capabilities
                (network-stream-command
                 process (if (functionp command) (funcall command greeting)
                           command)
                 (or (plist-get parameters :end-of-capability) end))))
      (unless buffer
        (when process (set-process-buffer process nil))
        (kill-buffer work)))
    (if (plist-get parameters :return-list)
        (list process :greeting greeting :capabilities capabilities
              :type (if process type 'plain) :error nil)
      process)))

(provide 'dualstack-stream)

;;; dualstack-stream.el ends here
