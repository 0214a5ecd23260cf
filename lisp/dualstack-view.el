;;; dualstack-view.el --- What the buffers of dualstack share  -*- lexical-binding: t; -*-

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

;; Buffers that show something share how they are used: their keys stand in
;; the header line and in a menu, are the motion state's for users of Evil,
;; and their commands are not offered elsewhere.  What can change while it is
;; shown is drawn again while it is shown.

;;; Code:

(require 'button)
(require 'easymenu)
(require 'subr-x)

;;;; Keys

;; Each key is a list (KEY COMMAND LABEL EVIL-KEY).

(defun dualstack-view--map (name parent keys)
  "Return a keymap with KEYS and a menu called NAME of the same commands.
KEYS is a list of (KEY COMMAND LABEL EVIL-KEY), all but COMMAND strings.
PARENT is the keymap of the parent mode; n and p move by lines, TAB moves
between buttons."
  (let ((map (make-sparse-keymap)))
    (set-keymap-parent map (make-composed-keymap button-buffer-map parent))
    (define-key map "n" #'next-line)
    (define-key map "p" #'previous-line)
    (pcase-dolist (`(,key ,command . ,_) keys)
      (define-key map (kbd key) command))
    (easy-menu-define nil map nil
      (cons name (mapcar (pcase-lambda (`(,_ ,command ,label . ,_))
                           (vector (capitalize label) command t))
                         keys)))
    map))

(defun dualstack-view--only-in (mode commands)
  "Have `M-x' offer COMMANDS, symbols, in buffers of MODE only.
That is for completion by `command-completion-default-include-p'; Emacs 27
does not look."
  (dolist (command commands)
    (put command 'command-modes (list mode))))

(defun dualstack-view--setup (mode map keys)
  "Show KEYS, as of `dualstack-view--map', in the current buffer.
MODE and MAP are those of the buffer."
  (setq-local header-line-format
              (mapconcat (pcase-lambda (`(,key ,command ,label . ,_))
                           (dualstack-view--header key command label))
                         keys "  "))
  (setq-local truncate-lines t)
  (dualstack-view--evil mode map keys))

(defun dualstack-view--header (key command label)
  "Return the part of the header line for KEY of COMMAND, called LABEL.
A click on it runs the command, too."
  (let ((map (make-sparse-keymap)))
    (define-key map [header-line mouse-1]
      (lambda (event)
        (interactive "e")
        (with-selected-window (posn-window (event-start event))
          (call-interactively command))))
    (propertize (concat (propertize key 'face 'bold) " " label)
                'mouse-face 'mode-line-highlight
                'help-echo (format "mouse-1: %s" command)
                'local-map map)))

(declare-function evil-set-initial-state "ext:evil-core" (mode state))
(declare-function evil-define-key* "ext:evil-core" (state keymap key def &rest bindings))

(defun dualstack-view--evil (mode map keys)
  "Give users of Evil the motion state in MODE, with the last of each of KEYS.
Evil's own motions keep their keys; those of MAP that they hide are bound to
others."
  (when (fboundp 'evil-set-initial-state)
    (evil-set-initial-state mode 'motion)
    (pcase-dolist (`(,key ,command ,_ ,evil) keys)
      (evil-define-key* 'motion map (kbd (or evil key)) command))
    (setq-local header-line-format
                (if (bound-and-true-p evil-mode)
                    (mapconcat (pcase-lambda (`(,key ,command ,label ,evil))
                                 (dualstack-view--header (or evil key) command label))
                               keys "  ")
                  header-line-format))))

;;;; Bookmarks

(defvar bookmark-make-record-function)

(defun dualstack-view--bookmark (name handler)
  "Have a bookmark of the current buffer be called NAME, and jump by HANDLER.
NAME is a function of no arguments that returns a cons: the name, and an alist
for HANDLER."
  (setq-local bookmark-make-record-function
              (lambda ()
                (pcase-let ((`(,name . ,alist) (funcall name)))
                  (append (list name) alist (list (cons 'handler handler)))))))

;;;; Buttons

(defun dualstack-view--insert-button (label help action)
  "Insert a button called LABEL for ACTION, a function of no arguments.
HELP says what it does."
  (insert-text-button (format "[%s]" label)
                      'follow-link t
                      'help-echo help
                      'action (lambda (_) (funcall action))))

;;;; Drawn again while it is shown

(defvar-local dualstack-view--timer nil
  "The timer that draws this buffer again, or nil.")

(defun dualstack-view--refresh-each (seconds)
  "Have the current buffer reverted each SECONDS while it is shown."
  (add-hook 'kill-buffer-hook #'dualstack-view--stop nil t)
  (add-hook 'change-major-mode-hook #'dualstack-view--stop nil t)
  (let ((start (lambda (&rest _)
                 (dualstack-view--start seconds))))
    (add-hook 'window-buffer-change-functions start nil t)
    (funcall start)))

(defun dualstack-view--start (seconds)
  "Begin to revert the current buffer each SECONDS."
  (unless dualstack-view--timer
    (setq dualstack-view--timer
          (run-at-time seconds seconds #'dualstack-view--refresh (current-buffer)))))

(defun dualstack-view--stop ()
  "Revert the current buffer no longer."
  (when dualstack-view--timer
    (cancel-timer dualstack-view--timer)
    (setq dualstack-view--timer nil)))

(defun dualstack-view--refresh (buffer)
  "Revert BUFFER if it is shown, and otherwise stop doing that.
It goes on when a window shows it again.  A region that is being marked is
left alone."
  (with-current-buffer buffer
    (cond ((not (get-buffer-window buffer t))
           (dualstack-view--stop))
          ((not mark-active)
           (revert-buffer)))))

(defun dualstack-view--fill (function &optional places)
  "Call FUNCTION, to insert all that the current buffer has to show.
Point and the window's start stay in their lines, also in other windows, or
go to PLACES, which `dualstack-view--places' returned before."
  (let ((inhibit-read-only t)
        (places (or places (dualstack-view--places))))
    (erase-buffer)
    (funcall function)
    (set-buffer-modified-p nil)
    (goto-char (dualstack-view--position (car places)))
    (pcase-dolist (`(,window ,place ,start) (cdr places))
      (when (eq (current-buffer) (window-buffer window))
        (set-window-point window (dualstack-view--position place))
        (set-window-start window (dualstack-view--position (cons start 0)) t)))))

(defun dualstack-view--places ()
  "Return where point and the windows of the current buffer are, for later."
  (cons (dualstack-view--place (point))
        (mapcar (lambda (window)
                  (list window
                        (dualstack-view--place (window-point window))
                        (line-number-at-pos (window-start window))))
                (get-buffer-window-list nil nil t))))

(defun dualstack-view--place (position)
  "Return the line and column of POSITION."
  (save-excursion
    (goto-char position)
    (cons (line-number-at-pos) (current-column))))

(defun dualstack-view--position (place)
  "Return the position of PLACE, a line and a column."
  (save-excursion
    (goto-char (point-min))
    (forward-line (1- (car place)))
    (move-to-column (cdr place))
    (point)))

;;;; Errors

(defun dualstack-view--error (err)
  "Return the text of the error ERR as one line, without quotes.
ERR is a list of a condition and its data.  Of a text of many lines, such as
the end of a log, that is the first and the last."
  (let* ((data (cdr err))
         (text (cond ((and (eq (car err) 'file-error) (plist-get (nthcdr 2 data) :attempts)))
                     ((and (stringp (car data)) (null (cdr data))) (car data))
                     (t (error-message-string err)))))
    (let ((lines (split-string text "[ \t]*\n[ \t]*" t)))
      (string-join (if (cdr lines)
                       (list (car lines) (car (last lines)))
                     lines)
                   "; "))))

(provide 'dualstack-view)

;;; dualstack-view.el ends here
