;;; dualstack-sidecar-environments.el --- List environments  -*- lexical-binding: t; -*-

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

;; `dualstack-sidecar-environments' lists the Python environments that were
;; made for sidecars, rebuilds them and deletes them.  A child looks at them,
;; as their sizes take long to find out.

;;; Code:

(require 'cl-lib)
(require 'tabulated-list)
(require 'dualstack-child)
(require 'dualstack-epc-codec)
(require 'dualstack-sidecar)
(require 'dualstack-sidecar-environment)

(defvar dualstack-sidecar-environments-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map "r" #'dualstack-sidecar-environments-rebuild)
    (define-key map "d" #'dualstack-sidecar-environments-delete)
    map)
  "Keys of `dualstack-sidecar-environments-mode'.")

(define-derived-mode dualstack-sidecar-environments-mode tabulated-list-mode "Environments"
  "Major mode for the list of Python environments of sidecars.

\\{dualstack-sidecar-environments-mode-map}"
  (setq tabulated-list-format
        [("Used by" 20 t)
         ("State" 9 t)
         ("Python" 8 t)
         ("Size" 8 dualstack-sidecar-environments--smaller-p :right-align t)
         ("Age" 6 dualstack-sidecar-environments--younger-p :right-align t)
         ("Requirements" 0 t)])
  (setq-local revert-buffer-function #'dualstack-sidecar-environments--refresh)
  (tabulated-list-init-header))

;;;###autoload
(defun dualstack-sidecar-environments ()
  "List the Python environments of sidecars; keys there rebuild and delete them."
  (interactive)
  (with-current-buffer (get-buffer-create "*dualstack-environments*")
    (unless (derived-mode-p 'dualstack-sidecar-environments-mode)
      (dualstack-sidecar-environments-mode))
    (dualstack-sidecar-environments--refresh)
    (pop-to-buffer (current-buffer))))

(defun dualstack-sidecar-environments--refresh (&rest _)
  "Have the environments looked at, and list them when that is done."
  (let* ((buffer (current-buffer))
         (output "")
         (old (get-buffer-process buffer)))
    (when old
      (dualstack-child--drop old))
    (setq mode-line-process " looking...")
    (dualstack-sidecar-environment--run
     '("environment" "--list")
     :name "dualstack environments" :buffer buffer :noquery t :coding 'utf-8
     :filter (lambda (_process text)
               (setq output (concat output text)))
     :sentinel (lambda (process _event)
                 (unless (or (process-live-p process) (not (buffer-live-p buffer)))
                   (with-current-buffer buffer
                     (dualstack-sidecar-environments--show output)))))))

(defun dualstack-sidecar-environments--show (output)
  "List the environments in OUTPUT, that of the child."
  (setq mode-line-process nil)
  (setq tabulated-list-entries
        (cl-loop for line in (split-string output "\r?\n" t)
                 for entry = (dualstack-sidecar-environments--entry line)
                 when entry collect entry))
  (tabulated-list-print t)
  (force-mode-line-update)
  (if tabulated-list-entries
      (message "%d environments; r rebuilds one, d deletes one"
               (length tabulated-list-entries))
    (message "There are no environments in %s"
             (abbreviate-file-name dualstack-sidecar-environments-directory))))

(defun dualstack-sidecar-environments--entry (line)
  "Return the entry of the list for LINE of the child's output, or nil.
Its id is a plist with `:directory', `:needs', `:size', `:made' and `:users'."
  (pcase (ignore-errors (dualstack-epc--codec-read (encode-coding-string line 'utf-8)))
    (`(,_ has ,name ,size ,state ,made ,_used ,python ,users ,requirements ,pythons)
     (let ((directory (file-name-as-directory
                       (expand-file-name name dualstack-sidecar-environments-directory))))
       (list (list :directory directory :size size :made made :users users
                   :needs (append
                           (mapcar (lambda (each) (concat "--requirement=" each)) requirements)
                           (and pythons (list (concat "--requires-python="
                                                      (mapconcat #'identity pythons ","))))))
             (vector (dualstack-sidecar-environments--users directory users)
                     state python
                     (file-size-human-readable size)
                     (dualstack-sidecar-environments--age made)
                     (mapconcat #'identity requirements " ")))))))

(defun dualstack-sidecar-environments--users (directory users)
  "Return USERS, names of sidecars that use the environment DIRECTORY, as a phrase."
  (let ((running (mapcar #'dualstack-sidecar-name
                         (dualstack-sidecar-environments--running directory))))
    (mapconcat (lambda (name)
                 (if (member name running) (concat name " (runs)") name))
               users " ")))

(defun dualstack-sidecar-environments--running (directory)
  "Return the sidecars of this Emacs that run in the environment DIRECTORY."
  (cl-remove-if-not (lambda (sidecar)
                      (and (memq (dualstack-sidecar-state sidecar) '(starting running))
                           (string-prefix-p directory
                                            (or (car (dualstack-sidecar-command sidecar)) ""))))
                    dualstack-sidecars))

(defun dualstack-sidecar-environments--age (time)
  "Return how long ago TIME, seconds of the epoch, was."
  (let ((seconds (- (float-time) time)))
    (cond ((= time 0) "")
          ((< seconds 3600) (format "%d min" (/ seconds 60)))
          ((< seconds 172800) (format "%d h" (/ seconds 3600)))
          (t (format "%d d" (/ seconds 86400))))))

(defun dualstack-sidecar-environments--smaller-p (a b)
  "Return non-nil if the environment of entry A is smaller than that of B."
  (< (plist-get (car a) :size) (plist-get (car b) :size)))

(defun dualstack-sidecar-environments--younger-p (a b)
  "Return non-nil if the environment of entry A is younger than that of B."
  (> (plist-get (car a) :made) (plist-get (car b) :made)))

(defun dualstack-sidecar-environments--this ()
  "Return the id of the environment in this line."
  (or (tabulated-list-get-id) (user-error "No environment in this line")))

(defun dualstack-sidecar-environments-rebuild ()
  "Rebuild the environment in this line; the old one works until that is done."
  (interactive)
  (let* ((id (dualstack-sidecar-environments--this))
         (buffer (current-buffer))
         (user (or (car (plist-get id :users)) "environment"))
         (then (lambda (&rest _)
                 (when (buffer-live-p buffer)
                   (with-current-buffer buffer
                     (dualstack-sidecar-environments--refresh))))))
    (dualstack-sidecar-environment--ensure
     (plist-get id :needs) :name user :rebuild t :then then
     :else (lambda (reason)
             (message "%s" reason)
             (funcall then)))))

(defun dualstack-sidecar-environments--await-ends (sidecars)
  "Wait a few seconds for the children of SIDECARS, which were stopped, to end.
Windows deletes no program that runs."
  (with-timeout (3)
    (while (cl-some #'process-live-p
                    (delq nil (mapcar #'dualstack-sidecar-process sidecars)))
      (accept-process-output nil 0.02))))

(defun dualstack-sidecar-environments--former (directory)
  "Return the place that a rebuild gives to the former DIRECTORY."
  (let ((name (file-name-nondirectory (directory-file-name directory))))
    (expand-file-name (concat "former-" (substring name (length "former-")))
                      (file-name-directory (directory-file-name directory)))))

(defun dualstack-sidecar-environments-delete ()
  "Delete the environment in this line, after asking.
A sidecar that needs it builds it again."
  (interactive)
  (let* ((id (dualstack-sidecar-environments--this))
         (directory (plist-get id :directory))
         (running (dualstack-sidecar-environments--running directory)))
    (when (yes-or-no-p
           (if running
               (format "Sidecar %s runs in it; stop that and delete %s? "
                       (mapconcat #'dualstack-sidecar-name running ", ")
                       (abbreviate-file-name directory))
             (format "Delete %s? " (abbreviate-file-name directory))))
      (dolist (sidecar running)
        (dualstack-sidecar-stop (dualstack-sidecar-name sidecar)))
      (dualstack-sidecar-environments--await-ends running)
      (clrhash dualstack-sidecar-environment--found)
      (delete-directory directory t)
      (ignore-errors (delete-file (concat (directory-file-name directory) ".lock")))
      (ignore-errors (delete-directory (dualstack-sidecar-environments--former directory) t))
      (dualstack-sidecar-environments--refresh))))

(provide 'dualstack-sidecar-environments)

;;; dualstack-sidecar-environments.el ends here
