;;; bench-connect.el --- Measure connecting against its bounds  -*- lexical-binding: t; -*-

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

;; Run by `make bench-connect'.  The clients take turns, so that noise of the
;; machine hits all of them, and the bounds are on ratios of medians.  The
;; status is 1 if a bound is not met.

;;; Code:

(require 'dualstack)
(require 'dualstack-stream)
(require 'dualstack-mode)
(require 'dualstack-test-helper)

(defconst dualstack-bench--rounds 400
  "How often each client connects.")

(defvar dualstack-bench--missed nil
  "Non-nil once a bound was not met.")

(defun dualstack-bench--time (function)
  "Return the seconds that FUNCTION takes to return a process; delete that."
  (let* ((start (current-time))
         (process (funcall function))
         (time (float-time (time-subtract nil start))))
    (set-process-sentinel process #'ignore)
    (delete-process process)
    time))

(defun dualstack-bench--sample (clients rounds)
  "Let each of CLIENTS, an alist of names and functions, connect ROUNDS times.
Return an alist of names and lists of seconds, sorted."
  (let ((samples (mapcar (lambda (client) (list (car client))) clients))
        (gc-cons-threshold most-positive-fixnum))
    (dotimes (_ 20)
      (dolist (client clients)
        (dualstack-bench--time (cdr client))))
    (garbage-collect)
    (dotimes (_ rounds)
      (dolist (client clients)
        (push (dualstack-bench--time (cdr client))
              (cdr (assoc (car client) samples)))))
    (dolist (sample samples samples)
      (setcdr sample (sort (cdr sample) #'<)))))

(defun dualstack-bench--quantile (sorted part)
  "Return the element of the list SORTED that PART of it is below."
  (nth (floor (* part (1- (length sorted)))) sorted))

(defun dualstack-bench--median (name samples)
  "Return the median of NAME in SAMPLES, in seconds."
  (dualstack-bench--quantile (cdr (assoc name samples)) 0.5))

(defun dualstack-bench--print (samples)
  "Print the median and spread of each of SAMPLES."
  (princ (format "%-44s %10s %10s %10s\n" "" "median" "10 %" "90 %"))
  (pcase-dolist (`(,name . ,sorted) samples)
    (princ (apply #'format "%-44s %7.1f us %7.1f us %7.1f us\n" name
                  (mapcar (lambda (part) (* 1e6 (dualstack-bench--quantile sorted part)))
                          '(0.5 0.1 0.9))))))

(defun dualstack-bench--judge (what value compare bound unit)
  "Print WHAT, its VALUE and BOUND in UNIT, and whether COMPARE holds of them."
  (let ((met (funcall compare value bound)))
    (unless met
      (setq dualstack-bench--missed t))
    (princ (format "%-6s %-50s %9.2f %s (bound: %s %s)\n" (if met "met" "MISSED")
                   what value unit (if (eq compare #'>=) "at least" "at most") bound))))

(defun dualstack-bench--require-seconds ()
  "Return the seconds that loading the compiled library takes in a new Emacs."
  (dualstack-test-emacs nil
                        '(dolist (library '(dualstack-address dualstack-memory dualstack-race dualstack))
                           (unload-feature library t))
                        '(let ((start (current-time)))
                           (require 'dualstack)
                           (float-time (time-subtract nil start)))))

(defun dualstack-bench--clients (port)
  "Return the clients of the server at PORT, which listens on both families."
  (list (cons "Emacs, literal 127.0.0.1"
              (lambda () (open-network-stream "bench" nil "127.0.0.1" port)))
        (cons "dualstack, steady"
              (lambda () (dualstack-open-network-stream "bench" nil "localhost" port)))
        (cons "dualstack, first contact"
              (lambda ()
                (dualstack-forget)
                (dualstack-open-network-stream "bench" nil "localhost" port)))))

(defun dualstack-bench--steady ()
  "Measure connecting to a server on both families, and judge it."
  (dualstack-test-with-child (server dualstack-test-python "-m" "dualstack_epc" "hello")
    ;; Remembered before the first steady connect.
    (let* ((samples (dualstack-bench--sample
                     (dualstack-bench--clients (dualstack-test-child-port server))
                     dualstack-bench--rounds))
           (plain (dualstack-bench--median "Emacs, literal 127.0.0.1" samples)))
      (princ "Server on both families:\n")
      (dualstack-bench--print samples)
      (dualstack-bench--judge "steady state / plain literal"
                              (/ (dualstack-bench--median "dualstack, steady" samples) plain)
                              #'<= 3 "x")
      (dualstack-bench--judge "first contact / plain literal"
                              (/ (dualstack-bench--median "dualstack, first contact" samples)
                                 plain)
                              #'<= 3 "x"))))

(defun dualstack-bench--ipv6-only ()
  "Measure first contact with a server on IPv6 only, and judge it."
  (dualstack-test-with-child (server dualstack-test-python "-m" "dualstack_epc" "hello"
                                     "--family" "ipv6")
    (let* ((port (dualstack-test-child-port server))
           (client (cons "dualstack, first contact"
                         (lambda ()
                           (dualstack-forget)
                           (dualstack-open-network-stream "bench" nil "localhost" port))))
           (refused (dualstack-bench--sample (list client) 100)))
      (princ "\nServer on IPv6 only, IPv4 refused at once:\n")
      (dualstack-bench--print refused)
      (dualstack-test-with-child (stall dualstack-test-python
                                         (dualstack-test-support "stall.py")
                                         "--family" "ipv4" "--black-hole"
                                         "--port" (number-to-string port))
        (let ((stalled (dualstack-bench--sample (list client) 50)))
          (princ "\nServer on IPv6 only, IPv4 does not answer:\n")
          (dualstack-bench--print stalled)
          (dualstack-bench--judge
           "first contact, IPv6 only"
           (* 1000 (max (dualstack-bench--median (car client) refused)
                        (dualstack-bench--median (car client) stalled)))
           #'<= 15 "ms"))))))

(defun dualstack-bench--stall ()
  "Measure plain \"localhost\" in the stall against ours, and judge it."
  (dualstack-test-with-child (server dualstack-test-python "-m" "dualstack_epc" "hello"
                                     "--family" "ipv4")
    (let* ((port (dualstack-test-child-port server))
           (ours (dualstack-bench--sample (last (dualstack-bench--clients port)) 100))
           plain)
      (dualstack-test-with-child (stall dualstack-test-python
                                        (dualstack-test-support "stall.py")
                                        "--port" (number-to-string port))
        (dotimes (i 3)
          (push (dualstack-bench--time
                 (lambda ()
                   (ignore-errors (open-network-stream "bench" nil "::1" port))
                   (open-network-stream "bench" nil "127.0.0.1" port)))
                plain)
          (process-send-string stall "\n")
          (dualstack-test-wait
           (lambda ()
             (with-current-buffer (process-buffer stall)
               (= (+ i 2) (count-lines (point-min) (point-max))))))))
      (princ "\nServer on IPv4 only, IPv6 refused after a second:\n")
      (dualstack-bench--print (append (list (cons "Emacs, \"localhost\"" (sort plain #'<)))
                                      ours))
      (dualstack-bench--judge "plain \"localhost\" / ours, first contact"
                              (/ (dualstack-bench--quantile (sort plain #'<) 0.5)
                                 (dualstack-bench--median "dualstack, first contact" ours))
                              #'>= 5000 "x"))))

(defun dualstack-bench--stale ()
  "Measure what a memory costs that has become wrong, and judge it.
The server is on 127.0.0.1, and ::1, which is remembered, refuses as late as
on Windows, or does not answer."
  (dualstack-test-with-child (server dualstack-test-python "-m" "dualstack_epc" "hello"
                                     "--family" "ipv4")
    (let* ((port (dualstack-test-child-port server))
           (connect (lambda (family)
                      (lambda ()
                        (dualstack-forget)
                        (when family
                          (dualstack-memory--remember port family))
                        (dualstack-open-network-stream "bench" nil "localhost" port))))
           (clients (list (cons "without a memory" (funcall connect nil))
                          (cons "with a wrong one" (funcall connect 'ipv6)))))
      (dualstack-test-with-child (stall dualstack-test-python
                                        (dualstack-test-support "stall.py")
                                        "--black-hole" "--port" (number-to-string port))
        (let ((samples (dualstack-bench--sample clients 60)))
          (princ "\nServer on IPv4 only, IPv6 remembered and silent:\n")
          (dualstack-bench--print samples)
          (dualstack-bench--judge "a wrong memory costs more than none"
                                  (* 1000 (- (dualstack-bench--median "with a wrong one" samples)
                                             (dualstack-bench--median "without a memory" samples)))
                                  #'<= 12 "ms"))))))

(defun dualstack-bench--crowd ()
  "Measure what 200 live processes cost a connect, and judge it.
Half are children, whose output must be collected."
  (dualstack-test-with-child (server dualstack-test-python "-m" "dualstack_epc" "hello")
    (let* ((port (dualstack-test-child-port server))
           (client (cdr (assoc "dualstack, steady" (dualstack-bench--clients port))))
           (alone (dualstack-bench--sample (list (cons "alone" client)) 200))
           (crowd (cl-loop repeat 100
                           collect (make-pipe-process :name "crowd" :noquery t
                                                      :buffer (current-buffer))
                           collect (make-process :name "crowd" :noquery t :buffer nil
                                                 :connection-type 'pipe
                                                 :command '("sleep" "600"))))
           (among (dualstack-bench--sample (list (cons "among 200" client)) 200)))
      (mapc (lambda (process)
              (set-process-sentinel process #'ignore)
              (delete-process process))
            crowd)
      (princ "\nServer on both families, with other processes:\n")
      (dualstack-bench--print (append alone among))
      (dualstack-bench--judge "200 live processes cost"
                              (* 1000 (- (dualstack-bench--median "among 200" among)
                                         (dualstack-bench--median "alone" alone)))
                              #'<= 1 "ms"))))

;; Calls that fail at once show the cost of the advice best: what Emacs does for
;; them is the same with and without it.
(defun dualstack-bench--pass-through ()
  "Measure and judge what `dualstack-mode' costs where it does not act."
  (let* ((rounds 20000)
         (calls '((:name "x" :host "127.0.0.1" :service 80 :family none)
                  (:name "x" :host "localhost" :service 80 :family none)
                  (:name "x" :host local :service 80 :server t :family none)))
         (run (lambda (args)
                (let ((gc-cons-threshold most-positive-fixnum)
                      (start (current-time)))
                  (dotimes (_ rounds)
                    (ignore-errors (apply #'make-network-process args)))
                  (prog1 (/ (float-time (time-subtract nil start)) rounds)
                    (garbage-collect)))))
         (costs nil))
    (dolist (args calls)
      (let (off on)
        (dotimes (_ 5)
          (push (funcall run args) off)
          (dualstack-mode 1)
          (push (funcall run args) on)
          (dualstack-mode 0))
        (push (* 1e6 (- (apply #'min on) (apply #'min off))) costs)))
    (dualstack-bench--judge "dualstack-mode where it does not act"
                            (apply #'max costs) #'<= 2 "us")))

(defun dualstack-bench-connect ()
  "Measure, print and judge everything; end Emacs with status 1 on a missed bound."
  (princ (format "Emacs %s, %d rounds\n\n" emacs-version dualstack-bench--rounds))
  (dualstack-bench--steady)
  (dualstack-bench--ipv6-only)
  (dualstack-bench--stall)
  (dualstack-bench--stale)
  (dualstack-bench--crowd)
  (princ "\n")
  (dualstack-bench--pass-through)
  (let ((times (sort (cl-loop repeat 7 collect (dualstack-bench--require-seconds)) #'<)))
    (dualstack-bench--judge "(require 'dualstack), compiled"
                            (* 1000 (dualstack-bench--quantile times 0.5)) #'<= 10 "ms"))
  (kill-emacs (if dualstack-bench--missed 1 0)))

(provide 'bench-connect)

;;; bench-connect.el ends here
