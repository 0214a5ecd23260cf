;;; dualstack-epc-progress.el --- Show the progress of EPC calls  -*- lexical-binding: t; -*-

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

;; Turns what a method yields into Emacs's progress reporter.

;;; Code:

(require 'cl-lib)

;;;###autoload
(defun dualstack-epc-progress-reporter (message &optional min max)
  "Return a function for `:progress' that puts progress behind MESSAGE.
What the method yields may be a number between MIN and MAX, 0 and 100 by
default; a list of how many of how many and, if you like, a text, as
\(3 10 \"three.txt\"); or a text alone, which stands behind MESSAGE.  Anything
else turns a wheel.  It says \"done\" when the last number is reached."
  (let* ((min (or min 0))
         (max (or max 100))
         (reporter (make-progress-reporter message min max))
         (wheel nil)
         (last min))
    (lambda (value)
      (pcase value
        ((pred numberp)
         (setq last value)
         (dualstack-epc-progress--show reporter value max nil))
        (`(,(and done (pred numberp)) ,(and total (pred numberp) (pred cl-plusp)) . ,text)
         (setq last (+ min (/ (* 1.0 (- max min) done) total)))
         (dualstack-epc-progress--show reporter last max (car text)))
        ((pred stringp)
         (dualstack-epc-progress--show reporter last max value))
        (_ (progress-reporter-update
            (or wheel (setq wheel (make-progress-reporter message)))))))))

(defun dualstack-epc-progress--show (reporter value max text)
  "Show VALUE, of up to MAX, by REPORTER, with TEXT if that is a string."
  (if (>= value max)
      (progress-reporter-done reporter)
    (progress-reporter-force-update reporter value nil (if (stringp text) text ""))))

(provide 'dualstack-epc-progress)

;;; dualstack-epc-progress.el ends here
