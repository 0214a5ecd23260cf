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
;; is slow, or refused, and what to do about it: the verdict and the cure
;; first, and below them what was found.  The facts come from
;; dualstack-diagnose-probe.el, what they mean from
;; dualstack-diagnose-verdict.el, the picture from dualstack-diagnose-draw.el.

;;; Code:

(require 'cl-lib)
(require 'dualstack)
(require 'dualstack-diagnose-probe)
(require 'dualstack-diagnose-draw)
(require 'dualstack-diagnose-verdict)
(require 'dualstack-connect)
(require 'dualstack-mode)
(require 'dualstack-view)

;;;; In words

(defun dualstack-diagnose--text (facts &optional picture)
  "Return the report on FACTS, with PICTURE, a string, for its waterfall."
  (concat (dualstack-diagnose--answer facts) "\n"
          (dualstack-diagnose--evidence facts picture)))

(defun dualstack-diagnose--answer (facts)
  "Return the verdict on FACTS and the cure, as lines."
  (pcase-let ((`(,_ ,sentence ,cure) (dualstack-diagnose--verdict facts)))
    (concat (dualstack-diagnose--paragraph "Verdict: " 'bold sentence)
            (and cure (dualstack-diagnose--paragraph "Cure:    " 'bold cure)))))

(defun dualstack-diagnose--paragraph (label face text)
  "Return LABEL in FACE and TEXT after it as lines of at most 79 columns.
A narrow window wraps them below TEXT."
  (let ((indent (make-string (length label) ?\s)))
    (with-temp-buffer
      (insert text)
      (let ((fill-column (- 79 (length label)))
            (sentence-end-double-space nil))
        (fill-region (point-min) (point-max)))
      (propertize (concat (propertize label 'face face)
                          (mapconcat #'identity (split-string (buffer-string) "\n" t)
                                     (concat "\n" indent))
                          "\n")
                  'wrap-prefix indent))))

(defun dualstack-diagnose--evidence (facts picture)
  "Return what was found out, FACTS, as lines, with PICTURE or a drawing."
  (let* ((probes (dualstack-diagnose--facts-probes facts))
         (plain (dualstack-diagnose-draw--plain probes))
         (ours (dualstack-diagnose-draw--ours probes)))
    (concat
     (dualstack-diagnose--heading facts)
     (mapconcat (lambda (probe) (dualstack-diagnose--probe-line facts probe)) probes "")
     (mapconcat (lambda (warning)
                  (dualstack-diagnose--paragraph "  Warning: " 'warning warning))
                (dualstack-diagnose--warnings facts) "")
     (and (dualstack-diagnose--note facts)
          (dualstack-diagnose--paragraph "  " 'default (dualstack-diagnose--note facts)))
     (and probes
          (concat "\n" (dualstack-diagnose--waterfall (append plain ours) picture)
                  (format "  Plain Emacs needs %s, dualstack %s.\n"
                          (dualstack-diagnose-draw--time (dualstack-diagnose-draw--cost plain))
                          (dualstack-diagnose-draw--time (dualstack-diagnose-draw--cost ours))))))))

(defun dualstack-diagnose--waterfall (bars picture)
  "Return PICTURE, or BARS drawn in characters, if a screen has room for them."
  (if (> (length bars) 6)
      ""
    (or picture (dualstack-diagnose-draw--text bars))))

(defun dualstack-diagnose--heading (facts)
  "Return the line about the name of FACTS."
  (let ((host (dualstack-diagnose--facts-host facts))
        (addresses (dualstack-diagnose--facts-addresses facts)))
    (concat (propertize (dualstack-address--with-port host (dualstack-diagnose--facts-port facts))
                        'face 'bold)
            (cond ((null addresses) " does not resolve\n")
                  ((dualstack-localhost-p host) ", tried at both loopback addresses\n")
                  ((dualstack-diagnose-probe--literal-p host) "\n")
                  (t (format ", looked up in %s\n"
                             (dualstack-diagnose-draw--time
                              (dualstack-diagnose--facts-lookup facts))))))))

(defun dualstack-diagnose--probe-line (facts probe)
  "Return the lines about PROBE of FACTS: what it gave, and who listens there."
  (pcase-let* ((`(,address ,outcome ,seconds . ,then) probe)
               (listener (and (symbolp outcome) ; Not refused.
                              (dualstack-diagnose--listener facts address)))
               (time (dualstack-diagnose-draw--time seconds))
               (line (format "  %-16s " (dualstack-diagnose-probe--literal address))))
    (concat
     line
     (pcase outcome
       ('open (format "connects in %s%s" time
                      (pcase (car then)
                        ('serves ", and speaks first") ('resets ", and closes at once")
                        (_ ""))))
       ('silent (format "silent for %s" time))
       (reason (format "%s, after %s" reason time)))
     "\n"
     (and listener
          (format "%s%s at %s\n" (make-string (length line) ?\s)
                  (dualstack-diagnose--who listener) (plist-get listener :address))))))

;;;; The command

(defconst dualstack-diagnose--keys
  '(("g" revert-buffer "again" "gr")
    ("w" dualstack-diagnose-copy "copy" "y")
    ("m" dualstack-diagnose-cure "mode on" "m")
    ("f" dualstack-diagnose-forget "forget family" "f")
    ("l" dualstack-diagnose-log "log" "o")
    ("q" quit-window "quit" "q"))
  "Keys of `dualstack-diagnose-mode', see `dualstack-view--map'.")

(defvar dualstack-diagnose-mode-map
  (dualstack-view--map "Diagnosis" special-mode-map dualstack-diagnose--keys)
  "Keys of `dualstack-diagnose-mode'.")

(define-derived-mode dualstack-diagnose-mode special-mode "Diagnosis"
  "Major mode for a diagnosis.

\\{dualstack-diagnose-mode-map}"
  (setq-local revert-buffer-function #'dualstack-diagnose--again)
  (dualstack-view--bookmark #'dualstack-diagnose--bookmark #'dualstack-diagnose-bookmark-jump)
  (add-hook 'kill-buffer-hook #'dualstack-diagnose--give-up nil t)
  (add-hook 'change-major-mode-hook #'dualstack-diagnose--give-up nil t)
  (add-hook 'pre-redisplay-functions #'dualstack-diagnose--follow-theme nil t)
  (dualstack-view--setup 'dualstack-diagnose-mode dualstack-diagnose-mode-map
                        dualstack-diagnose--keys)
  (setq-local truncate-lines nil)
  (setq-local word-wrap t))

(dualstack-view--only-in 'dualstack-diagnose-mode
                        '(dualstack-diagnose-copy dualstack-diagnose-cure
                          dualstack-diagnose-forget dualstack-diagnose-log))

(defvar-local dualstack-diagnose--peer nil
  "The host and port of this buffer's diagnosis, a list.")

(defvar-local dualstack-diagnose--facts nil
  "The facts of this buffer's diagnosis, or nil.")

(defvar-local dualstack-diagnose--cancel nil
  "A function that gives up what is being gathered, or nil.")

(defvar-local dualstack-diagnose--places nil
  "Where point and the windows were when this diagnosis was repeated, or nil.")

(defvar-local dualstack-diagnose--colors nil
  "The colors that this buffer's picture is drawn in, or nil if there is none.")

;;;###autoload
(defun dualstack-diagnose (host port)
  "Say why connecting to PORT of HOST is slow, or refused, and what to do.
The addresses are tried in the background; \\<dualstack-diagnose-mode-map>\\[revert-buffer] tries them again."
  (interactive (dualstack-connect--read-peer))
  (dualstack-address--check-host host)
  (let ((peer (list (dualstack-address--bare-host host) (dualstack-address--port port))))
    (with-current-buffer (get-buffer-create "*dualstack-diagnose*")
      (dualstack-diagnose-mode)
      (setq dualstack-diagnose--peer peer)
      (dualstack-diagnose--run)
      (pop-to-buffer (current-buffer)))))

(defun dualstack-diagnose--name ()
  "Return the host and port of this buffer as a string."
  (apply #'dualstack-address--with-port dualstack-diagnose--peer))

(defun dualstack-diagnose--give-up ()
  "Give up what is being gathered for this buffer."
  (when dualstack-diagnose--cancel
    (funcall dualstack-diagnose--cancel)
    (setq dualstack-diagnose--cancel nil)))

(defun dualstack-diagnose--again (&rest _)
  "Gather the facts for this buffer again, and come back to the same line."
  (setq dualstack-diagnose--places (or dualstack-diagnose--places (dualstack-view--places)))
  (dualstack-diagnose--run))

(defun dualstack-diagnose--run ()
  "Gather the facts for this buffer, and show them when they are there."
  (dualstack-diagnose--give-up)
  (setq dualstack-diagnose--facts nil)
  (let ((inhibit-read-only t)
        (buffer (current-buffer)))
    (erase-buffer)
    (insert (format "Trying %s...\n" (dualstack-diagnose--name)))
    (setq dualstack-diagnose--cancel
          (apply #'dualstack-diagnose--probe
                 (append dualstack-diagnose--peer
                         (list (lambda (facts)
                                 (when (buffer-live-p buffer)
                                   (with-current-buffer buffer
                                     (dualstack-diagnose--show facts))))))))))

(defun dualstack-diagnose--show (facts)
  "Show FACTS in this buffer."
  (setq dualstack-diagnose--cancel nil
        dualstack-diagnose--facts facts)
  (dualstack-view--fill
   (lambda ()
     (insert (dualstack-diagnose--answer facts))
     (dualstack-diagnose--insert-buttons)
     (insert "\n" (dualstack-diagnose--evidence facts (dualstack-diagnose--picture facts))))
   (or dualstack-diagnose--places '((1 . 0))))
  (setq dualstack-diagnose--places nil))

(defun dualstack-diagnose--insert-buttons ()
  "Insert buttons for what can be done about this diagnosis."
  (insert (make-string 9 ?\s))
  (unless dualstack-mode
    (dualstack-view--insert-button "Turn on dualstack-mode"
                                  "Have every package connect without waiting"
                                  #'dualstack-diagnose-cure)
    (insert " "))
  (dualstack-view--insert-button "Forget what is remembered"
                                "Have the next connection try both families"
                                #'dualstack-diagnose-forget)
  (insert " ")
  (dualstack-view--insert-button "Connect" "Talk to the server in a buffer"
                                #'dualstack-diagnose--connect)
  (insert "\n"))

(defun dualstack-diagnose--connect ()
  "Connect to this buffer's host and port."
  (funcall-interactively #'dualstack-connect (car dualstack-diagnose--peer)
                         (cadr dualstack-diagnose--peer)))

;;;; Pictures

(defun dualstack-diagnose--picture (facts)
  "Return a string with the waterfall of FACTS as an image, or nil.
It is empty where a drawing in characters would not fit."
  (setq dualstack-diagnose--colors nil)
  (cond ((null (dualstack-diagnose--facts-probes facts)) nil)
        ((and (display-graphic-p) (image-type-available-p 'svg))
         (setq dualstack-diagnose--colors (dualstack-diagnose-draw--colors))
         (concat (propertize "[waterfall]" 'display (dualstack-diagnose--image facts)) "\n"))
        ((dualstack-diagnose--narrow-p) "")))

(defun dualstack-diagnose--narrow-p ()
  "Return non-nil if a window of this buffer has less than 79 columns."
  (cl-some (lambda (window) (< (window-body-width window) 79))
           (get-buffer-window-list nil nil t)))

(defun dualstack-diagnose--image (facts)
  "Return the waterfall of FACTS as an image."
  (let ((probes (dualstack-diagnose--facts-probes facts)))
    (svg-image (dualstack-diagnose-draw--svg
                (append (dualstack-diagnose-draw--plain probes)
                        (dualstack-diagnose-draw--ours probes))))))

(defun dualstack-diagnose--follow-theme (_window)
  "Redraw this buffer's picture if the theme's colors have changed."
  (when (and dualstack-diagnose--colors dualstack-diagnose--facts)
    (let ((colors (dualstack-diagnose-draw--colors)))
      (unless (equal colors dualstack-diagnose--colors)
        (setq dualstack-diagnose--colors colors)
        (dualstack-diagnose--redraw)))))

(defun dualstack-diagnose--redraw ()
  "Put a new picture where this buffer has one."
  (save-excursion
    (goto-char (point-min))
    (when (search-forward "[waterfall]" nil t)
      (with-silent-modifications
        (put-text-property (match-beginning 0) (match-end 0) 'display
                           (dualstack-diagnose--image dualstack-diagnose--facts))))))

;;;; Keys

(defun dualstack-diagnose--check-buffer ()
  "Signal an error unless the current buffer is a diagnosis."
  (unless (derived-mode-p 'dualstack-diagnose-mode)
    (user-error "There is no diagnosis in this buffer; type M-x dualstack-diagnose")))

(defun dualstack-diagnose-cure ()
  "Turn on `dualstack-mode', and try again."
  (interactive)
  (dualstack-diagnose--check-buffer)
  (if dualstack-mode
      (message "dualstack-mode is on already")
    (dualstack-mode 1)
    (revert-buffer)
    (message "dualstack-mode is on; put (dualstack-mode 1) into your init file")))

(defun dualstack-diagnose-forget ()
  "Forget which family answers at this buffer's host and port."
  (interactive)
  (dualstack-diagnose--check-buffer)
  (apply #'dualstack-forget dualstack-diagnose--peer)
  (message "Forgotten: the next connection tries both families"))

(defun dualstack-diagnose-log ()
  "Show what dualstack has logged."
  (interactive)
  (display-buffer (get-buffer-create "*dualstack-log*")))

(defun dualstack-diagnose-copy ()
  "Copy this diagnosis as text, for a bug tracker.
It has no user names or paths in it."
  (interactive)
  (dualstack-diagnose--check-buffer)
  (unless dualstack-diagnose--facts
    (user-error "Still trying the addresses: wait a moment"))
  (kill-new (dualstack-diagnose--report dualstack-diagnose--facts))
  (message "Copied the diagnosis"))

(defun dualstack-diagnose--report (facts)
  "Return the report on FACTS as plain text, with the versions."
  (concat (substring-no-properties (dualstack-diagnose--text facts))
          (format "\ndualstack %s, Emacs %s, %s, policy %s, dualstack-mode %s\n"
                  dualstack-version emacs-version system-type dualstack-policy
                  (if dualstack-mode "on" "off"))))

(defun dualstack-diagnose--bookmark ()
  "Return what a bookmark of this diagnosis has, see `dualstack-view--bookmark'."
  `(,(format "Diagnosis of %s" (dualstack-diagnose--name))
    (peer . ,dualstack-diagnose--peer)))

;;;###autoload
(defun dualstack-diagnose-bookmark-jump (bookmark)
  "Repeat the diagnosis of BOOKMARK."
  (apply #'dualstack-diagnose (cdr (assq 'peer (cdr bookmark))))
  (set-buffer "*dualstack-diagnose*"))

;;;; In batch

(defun dualstack-diagnose-batch ()
  "Print the diagnosis of the host and port on the command line; end Emacs.
The status is 0 if something answers, 1 if nothing does, 2 on misuse.
Call it by \"--batch -l dualstack-diagnose -f dualstack-diagnose-batch HOST
PORT\"."
  (condition-case err
      (let* ((host (pop command-line-args-left))
             (port (dualstack-address--port
                    (or (pop command-line-args-left)
                        (user-error "Usage: ... -f dualstack-diagnose-batch HOST PORT"))))
             result)
        (dualstack-diagnose--probe host port (lambda (facts) (setq result facts)))
        (while (not result)
          (accept-process-output nil 0.05))
        (princ (dualstack-diagnose--report result))
        (kill-emacs (if (dualstack-diagnose--open result) 0 1)))
    (error
     (message "%s" (error-message-string err))
     (kill-emacs 2))))

(provide 'dualstack-diagnose)

;;; dualstack-diagnose.el ends here
