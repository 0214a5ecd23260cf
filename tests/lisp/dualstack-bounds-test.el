;;; dualstack-bounds-test.el --- Tests of what memory is bounded by  -*- lexical-binding: t; -*-

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

;; What Emacs keeps of peers and logs does not grow without end.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-mode)
(require 'dualstack-sidecar)

(dualstack-deftest dualstack-bounds-of-the-memory ()
  "What was noted of ports is dropped when it is old, or too much."
  (let ((dualstack-memory-lifetime 0))
    (dotimes (port 3000)
      (dualstack-memory--remember port 'ipv4)))
  (should (<= (hash-table-count dualstack--memory) 1000))
  (dualstack-memory--remember 5000 'ipv6)
  (let ((dualstack-memory-lifetime 0))
    (dotimes (port 1200)
      (dualstack-memory--remember port 'ipv4)))
  (should (eq (dualstack-remembered-family 5000) 'ipv6))
  (dotimes (port 3000)
    (dualstack-memory--remember port 'ipv4))
  (should (<= (hash-table-count dualstack--memory) 1000)))

(dualstack-deftest dualstack-bounds-of-the-report ()
  "The mode keeps records of the last 1,000 peers."
  (let ((dualstack-mode-peers--all nil))
    (dotimes (port 1500)
      (dualstack-mode-peers--peer (list :host "localhost" :service (1+ port))))
    (should (= (length dualstack-mode-peers--all) 1000))
    (should (= (dualstack-mode-peers--record-port (car dualstack-mode-peers--all)) 1500))))

(dualstack-deftest dualstack-bounds-of-logs ()
  "Log buffers are cut, and keep no undo."
  (let ((log (dualstack-sidecar--log-buffer "bounded")))
    (unwind-protect
        (progn
          (dotimes (_ 200)
            (dualstack-sidecar--log-append log (make-string 10000 ?x))
            (dualstack-log "%s" (make-string 1000 ?x)))
          (dolist (buffer (list log (get-buffer "*dualstack-log*")))
            (should (eq (buffer-local-value 'buffer-undo-list buffer) t))
            (should (<= (buffer-size buffer) dualstack-log-size))))
      (kill-buffer log))))

(provide 'dualstack-bounds-test)

;;; dualstack-bounds-test.el ends here
