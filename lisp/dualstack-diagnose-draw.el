;;; dualstack-diagnose-draw.el --- Draw who waits for what  -*- lexical-binding: t; -*-

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

;; A waterfall is described once, as a list of bars, and drawn as an image or
;; in characters.  A bar is a plist: `:group' and `:label', strings; `:start'
;; and `:end' in seconds; `:outcome', `open', `silent', `lost' or `failed'.

;;; Code:

(require 'cl-lib)
(require 'svg)
(require 'dualstack-diagnose-probe)

(defface dualstack-diagnose-open '((t :inherit success))
  "Face of what connects."
  :group 'dualstack)

(defface dualstack-diagnose-failed '((t :inherit error))
  "Face of what is refused or silent."
  :group 'dualstack)

(defface dualstack-diagnose-lost '((t :inherit shadow))
  "Face of what is given up as another was faster."
  :group 'dualstack)

(defun dualstack-diagnose-draw--bar (group address start seconds outcome)
  "Return a bar of GROUP for ADDRESS from START on for SECONDS, with OUTCOME."
  (list :group group :label (dualstack-diagnose-probe--literal address)
        :start start :end (+ start seconds)
        :outcome (if (stringp outcome) 'failed outcome)))

(defun dualstack-diagnose-draw--plain (probes)
  "Return the bars of Emacs's own way to PROBES: one after the other."
  (let ((now 0.0)
        (bars nil)
        (done nil))
    (pcase-dolist (`(,address ,outcome ,seconds . ,_) probes)
      (unless done
        (push (dualstack-diagnose-draw--bar "Emacs" address now seconds outcome) bars)
        (setq now (+ now seconds)
              done (eq outcome 'open))))
    (nreverse bars)))

(defun dualstack-diagnose-draw--ours (probes)
  "Return the bars of our way to PROBES: all of them, by the attempt delay.
What was not needed any longer ends when another connects.  Of localhost's
addresses `dualstack-policy' allows all or one."
  (let* ((probes (sort (dualstack-diagnose-draw--allowed probes)
                       (lambda (a b)
                         (and (eq (dualstack-address--family (car a)) dualstack-preferred-family)
                              (not (eq (dualstack-address--family (car b))
                                       dualstack-preferred-family))))))
         (start 0.0)
         (bars (mapcar (pcase-lambda (`(,address ,outcome ,seconds . ,_))
                         (prog1 (dualstack-diagnose-draw--bar "dualstack" address start
                                                              seconds outcome)
                           (setq start (+ start
                                          (if (eq outcome 'open)
                                              dualstack-loopback-attempt-delay
                                            (min seconds dualstack-loopback-attempt-delay))))))
                       probes))
         (won (cl-loop for bar in bars
                       when (eq (plist-get bar :outcome) 'open)
                       minimize (plist-get bar :end))))
    (cl-loop for bar in bars
             unless (and won (>= (plist-get bar :start) won))
             collect (if (and won (> (plist-get bar :end) won))
                         (append (list :end won :outcome 'lost) bar)
                       bar))))

(defun dualstack-diagnose-draw--allowed (probes)
  "Return a new list of those of PROBES in `dualstack-policy', or of all."
  (let ((families (dualstack-address--families)))
    (copy-sequence
     (or (cl-remove-if-not (lambda (probe)
                             (memq (dualstack-address--family (car probe)) families))
                           probes)
         probes))))

(defun dualstack-diagnose-draw--cost (bars)
  "Return the seconds after which BARS have connected, or have all failed."
  (or (cl-loop for bar in bars
               when (eq (plist-get bar :outcome) 'open)
               minimize (plist-get bar :end))
      (cl-loop for bar in bars maximize (plist-get bar :end))
      0))

(defun dualstack-diagnose-draw--time (seconds)
  "Return SECONDS as a short text."
  (cond ((< seconds 0.01) (format "%.2f ms" (* 1000 seconds)))
        ((< seconds 1) (format "%.0f ms" (* 1000 seconds)))
        (t (format "%.2f s" seconds))))

(defun dualstack-diagnose-draw--face (bar)
  "Return the face of BAR."
  (pcase (plist-get bar :outcome)
    ('open 'dualstack-diagnose-open)
    ('lost 'dualstack-diagnose-lost)
    (_ 'dualstack-diagnose-failed)))

(defun dualstack-diagnose-draw--word (bar)
  "Return what became of BAR, and the time that took."
  (format "%s, %s"
          (pcase (plist-get bar :outcome)
            ('open "connected") ('silent "silent") ('lost "given up") (_ "refused"))
          (dualstack-diagnose-draw--time (- (plist-get bar :end) (plist-get bar :start)))))

(defun dualstack-diagnose-draw--text (bars)
  "Return BARS drawn in characters, within 80 columns.
What connects is drawn with =, what fails with x, what is given up with -."
  (let* ((label (min 26 (cl-loop for bar in bars maximize (length (plist-get bar :label)))))
         (width (- 79 13 label 2 20))   ; The outcome has 20 columns.
         (scale (/ width (max 1e-6 (cl-loop for bar in bars maximize (plist-get bar :end)))))
         (group nil))
    (mapconcat
     (lambda (bar)
       (let* ((start (min (1- width) (round (* scale (plist-get bar :start)))))
              (length (max 1 (- (round (* scale (plist-get bar :end))) start)))
              (char (pcase (plist-get bar :outcome) ('open ?=) ('lost ?-) (_ ?x))))
         (prog1 (concat
                 (format "  %-10s %s |" (if (equal group (plist-get bar :group)) ""
                                          (plist-get bar :group))
                         (truncate-string-to-width (plist-get bar :label) label nil ?\s))
                 (make-string start ?\s)
                 (propertize (make-string length char)
                             'face (dualstack-diagnose-draw--face bar))
                 " " (dualstack-diagnose-draw--word bar) "\n")
           (setq group (plist-get bar :group)))))
     bars "")))

(defun dualstack-diagnose-draw--color (face)
  "Return the color of FACE for an image."
  (let ((color (face-foreground face nil t)))
    (if (and color (color-defined-p color))
        (apply #'format "#%02x%02x%02x"
               (mapcar (lambda (part) (/ part 256)) (color-values color)))
      "gray")))

(defun dualstack-diagnose-draw--colors ()
  "Return the colors of a picture by the theme of now, a list."
  (mapcar #'dualstack-diagnose-draw--color
          '(default dualstack-diagnose-open dualstack-diagnose-failed
            dualstack-diagnose-lost)))

(defun dualstack-diagnose-draw--svg (bars)
  "Return BARS drawn as an SVG object, see `svg-create'.
Besides by its color, each bar tells by a word what became of it; one that is
too short to be seen is drawn longer."
  (let* ((row 22)
         (left (+ 110 (* 8 (cl-loop for bar in bars maximize (length (plist-get bar :label))))))
         (width 300)
         (svg (svg-create (+ left width 150) (+ 10 (* row (length bars)))))
         (scale (/ width (max 1e-6 (cl-loop for bar in bars maximize (plist-get bar :end)))))
         (text (dualstack-diagnose-draw--color 'default))
         (group nil)
         (y 5))
    (dolist (bar bars)
      (let* ((start (+ left (* scale (plist-get bar :start))))
             (length (max 6 (* scale (- (plist-get bar :end) (plist-get bar :start)))))
             (say (lambda (x string)
                    (svg-text svg string :x x :y (+ y 15) :fill text
                              :font-family "sans-serif" :font-size 13))))
        (unless (equal group (plist-get bar :group))
          (funcall say 5 (plist-get bar :group)))
        (funcall say 100 (plist-get bar :label))
        (svg-rectangle svg start (+ y 3) length (- row 6) :rx 2
                       :fill (dualstack-diagnose-draw--color
                              (dualstack-diagnose-draw--face bar)))
        (funcall say (+ start length 6)
                 (dualstack-diagnose-draw--word bar))
        (setq group (plist-get bar :group)
              y (+ y row))))
    svg))

(provide 'dualstack-diagnose-draw)

;;; dualstack-diagnose-draw.el ends here
