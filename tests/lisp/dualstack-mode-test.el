;;; dualstack-mode-test.el --- Tests for dualstack-mode  -*- lexical-binding: t; -*-

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

;; What the mode does and what it leaves alone.  How packages call it is in
;; dualstack-mode-compat-test.el.

;;; Code:

(require 'dualstack-test-hosts)
(require 'dualstack-mode)
(require 'dualstack-mode-report)
(require 'dualstack-mode-serve)

(defmacro dualstack-mode-test (name docstring &rest body)
  "Define the test NAME, with DOCSTRING, of BODY with the mode on."
  (declare (indent 1) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (let ((dualstack-mode-peers--all nil)
           (inhibit-message t))
       (dualstack-mode 1)
       (unwind-protect
           (progn ,@body)
         (dualstack-mode 0)))))

(defun dualstack-mode-test-open (port &rest args)
  "Connect to PORT of localhost as packages do, with ARGS."
  (apply #'make-network-process
         (append args (list :name "peer" :host "localhost" :service port
                            :noquery t :sentinel #'ignore))))

(defun dualstack-mode-test-remote (process)
  "Return the family that PROCESS is connected by, and delete it."
  (prog1 (dualstack-address--family (process-contact process :remote))
    (delete-process process)))

(dualstack-deftest dualstack-mode-on-and-off ()
  "Switching the mode on and off is symmetric; loading it does nothing."
  (let ((before (symbol-function 'make-network-process))
        (inhibit-message t))
    (should-not (advice-member-p #'dualstack-mode--make-process 'make-network-process))
    (dotimes (_ 2)
      (dualstack-mode 1)
      (dualstack-mode 1)
      (should (advice-member-p #'dualstack-mode--make-process 'make-network-process))
      (dualstack-mode 0)
      (should (eq before (symbol-function 'make-network-process))))
    (customize-set-variable 'dualstack-mode t)
    (should (advice-member-p #'dualstack-mode--make-process 'make-network-process))
    (customize-set-variable 'dualstack-mode nil)
    (should (eq before (symbol-function 'make-network-process)))))

(dualstack-mode-test dualstack-mode-reaches-both-families
  "Clients of localhost reach a server on either family, and it is remembered."
  (dolist (family '(ipv4 ipv6))
    (dualstack-test-with-servers ((server family))
      (let ((port (dualstack-test-port server)))
        (should (eq family (dualstack-mode-test-remote (dualstack-mode-test-open port))))
        (should (eq family (dualstack-remembered-family port)))
        (should (eq family (dualstack-mode-test-remote
                            (open-network-stream "peer" nil "LOCALHOST." port))))))))

(dualstack-mode-test dualstack-mode-passes-through
  "What is not a plain client of localhost comes to Emacs as it is."
  (dolist (args '((:host "localhost" :service 80 :family ipv4)
                  (:host "127.0.0.1" :service 80) (:host "::1" :service 80)
                  (:host "example.org" :service 80)
                  (:host "localhost" :service "http") (:host "localhost" :service t)
                  (:host "localhost" :service 0) (:host "localhost" :service 70000)
                  (:host "localhost" :service 80 :server t)
                  (:host "localhost" :service 80 :type datagram)
                  (:host "localhost" :service 80 :remote [127 0 0 1 80])
                  (:host "localhost" :service 80 :local [127 0 0 1 80])
                  (:host "localhost" :service 80 :use-external-socket t)
                  (:host local :service 80) (:host nil :service 80)
                  (:remote "/tmp/socket" :family local)
                  (:host "localhost" :service 80 :tls-parameters (x))))
    (should-not (dualstack-mode--acts-p (cons :name (cons "x" args)))))
  (dolist (args '((:host "localhost" :service 80) (:host "Localhost." :service "80")
                  (:host "app.localhost" :service 80 :type nil :family nil)
                  (:host "localhost" :service 80 :nowait t :tls-parameters (x))))
    (should (dualstack-mode--acts-p (cons :name (cons "x" args))))))

(dualstack-mode-test dualstack-mode-excludes
  "Process names and a predicate exclude connections."
  (let ((args '(:name "slime" :host "localhost" :service 80)))
    (let ((dualstack-mode-exclude '("\\`slime")))
      (should-not (dualstack-mode--acts-p args)))
    (let ((dualstack-mode-exclude '("sly")))
      (should (dualstack-mode--acts-p args)))
    (let ((dualstack-mode-exclude (lambda (args) (= 80 (plist-get args :service)))))
      (should-not (dualstack-mode--acts-p args)))))

(dualstack-mode-test dualstack-mode-an-error-of-the-users-breaks-nothing
  "When the user's predicate or regexp fails, the connection is made all the same."
  (dualstack-test-with-servers ((server 'ipv4))
    (dolist (exclude (list (lambda (_args) (error "A mistake")) '("\\(")))
      (let* ((dualstack-mode-exclude exclude)
             (process (dualstack-mode-test-open (dualstack-test-port server))))
        (should (eq (process-status process) 'open))
        (delete-process process)))))

(dualstack-mode-test dualstack-mode-a-wrong-option-breaks-nothing
  "An option of a wrong value leaves connections to Emacs; the user is told, once."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((port (dualstack-test-port server))
          (processes (process-list)))
      (pcase-dolist (`(,option . ,value) '((dualstack-connect-timeout . "10")
                                           (dualstack-memory-lifetime . nil)
                                           (dualstack-policy . ipv5)
                                           (dualstack-mode-exclude . "slime")
                                           (dualstack-mode-exclude . (5))
                                           (dualstack-mode-exclude . ("a" . "b"))
                                           (dualstack-mode-hosts . "box")))
        (cl-progv (list option) (list value)
          (let ((dualstack-mode--complaints nil))
            (dolist (nowait '(nil t))
              (let ((process (dualstack-mode-test-open port :nowait nowait)))
                ;; Deleted while its host is looked up it can hang Emacs.
                (dualstack-test-wait (lambda () (eq (process-status process) 'open)))
                (delete-process process)))
            (unless (eq option 'dualstack-mode-hosts)
              (should (string-match-p (symbol-name option)
                                      (mapconcat #'identity dualstack-mode--complaints " ")))
              (should-not (cdr dualstack-mode--complaints)))
            (should-error (make-network-process :name "x" :host "box.invalid" :service port)))))
      (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer)))
      (mapc #'delete-process (dualstack-test-accepted server))
      ;; What is measured there ends by itself, on Windows after a refusal.
      (dualstack-test-wait (lambda () (equal processes (process-list)))))))

(dualstack-mode-test dualstack-mode-other-hosts
  "Hosts that the user names are raced too."
  (let ((dualstack-mode-hosts '("box.test"))
        (host (dualstack-test-resolver "127.0.0.1 box.test\n::1 box.test\n")))
    (should (dualstack-mode--acts-p '(:name "x" :host "BOX.test" :service 80)))
    (dualstack-test-with-servers ((six 'ipv6))
      (should (equal (dualstack-test-emacs
                      host
                      `(progn
                         (require 'dualstack-mode)
                         (setq dualstack-mode-hosts '("box.test"))
                         (dualstack-mode 1)
                         (dualstack-address--family
                          (process-contact
                           (open-network-stream "x" nil "box.test" ,(dualstack-test-port six))
                           :remote))))
                     'ipv6)))))

(dualstack-mode-test dualstack-mode-an-error-of-ours-breaks-nothing
  "When our own code fails, the connection is made all the same."
  (dualstack-test-with-servers ((server 'ipv4))
    (cl-letf (((symbol-function 'dualstack-make-network-process)
               (lambda (&rest _) (error "A bug")))
              ((symbol-function 'dualstack-mode-peers--note)
               (lambda (&rest _) (error "Another bug"))))
      (let ((process (dualstack-mode-test-open (dualstack-test-port server))))
        (should (eq (process-status process) 'open))
        (delete-process process)))
    (should (with-current-buffer "*dualstack-log*"
              (string-match-p "internal error, please report it: A bug" (buffer-string))))))

(dualstack-mode-test dualstack-mode-errors-are-emacs-own
  "A refused connection signals what Emacs signals, and it is noted."
  (let* ((port (dualstack-test-free-port))
         (ours (should-error (dualstack-mode-test-open port) :type 'file-error))
         (plain (progn (dualstack-mode 0)
                       (should-error (dualstack-mode-test-open port) :type 'file-error))))
    (should (equal (seq-take ours (length plain)) plain))
    (should (string-match-p (format "\\[::1]:%d \\(Connection refused\\|no answer\\)" port)
                            (dualstack-mode-peers--record-err (car dualstack-mode-peers--all))))))

(dualstack-mode-test dualstack-mode-nowait-is-untouched-and-learnt-from
  "A :nowait client is not blocked; what became of it is remembered."
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((port (dualstack-test-port server))
           (events nil)
           (process (dualstack-mode-test-open
                     port :nowait t
                     :sentinel (lambda (_process event) (push event events)))))
      (should (eq (process-status process) 'connect))
      (dualstack-test-wait (lambda () events))
      (should (equal events '("open\n")))
      (dualstack-test-wait (lambda () (dualstack-remembered-family port)))
      (should (eq 'ipv4 (dualstack-remembered-family port)))
      (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer)))
      (set-process-sentinel process #'ignore)
      (delete-process process))))

(dualstack-mode-test dualstack-mode-nowait-failure-forgets
  "A remembered family that fails for a :nowait client is forgotten."
  (let ((port (dualstack-test-free-port))
        (event nil))
    (dualstack-memory--remember port 'ipv4)
    (let ((process (dualstack-mode-test-open
                    port :nowait t :sentinel (lambda (_process text) (setq event text)))))
      (dualstack-test-wait (lambda () event))
      ;; Emacs keeps one that has failed.
      (run-at-time 0.2 nil #'delete-process process))
    (should (string-match-p "\\`failed with code [0-9]+\n" event))
    (dualstack-test-wait (lambda () (not (dualstack-remembered-family port))))
    (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer)))))

(dualstack-mode-test dualstack-mode-remembered-until-it-fails
  "With servers on either family the remembered one is kept until it fails."
  (dualstack-test-with-servers ((six 'ipv6))
    (let ((port (dualstack-test-port six)))
      (should (eq 'ipv6 (dualstack-mode-test-remote (dualstack-mode-test-open port))))
      (dualstack-test-with-servers ((four 'ipv4 :service port))
        (should (eq 'ipv6 (dualstack-mode-test-remote (dualstack-mode-test-open port))))
        (dualstack-test-close six)
        (should (eq 'ipv4 (dualstack-mode-test-remote (dualstack-mode-test-open port))))
        (should (eq 'ipv4 (dualstack-remembered-family port)))))))

(dualstack-mode-test dualstack-mode-port-probe
  "A probe whether a port is free teaches nothing wrong."
  (let ((port (dualstack-test-free-port)))
    (dotimes (_ 3)
      (should-error (dualstack-mode-test-open port) :type 'file-error))
    (should-not (dualstack-remembered-family port))
    (dualstack-test-with-servers ((six 'ipv6 :service port))
      (should (eq 'ipv6 (dualstack-mode-test-remote (dualstack-mode-test-open port)))))))

(dualstack-mode-test dualstack-mode-report-shows-peers
  "The report has a line for each peer, and is copied as text."
  (dualstack-test-with-servers ((server 'ipv6))
    (let ((port (dualstack-test-port server))
          (kill-ring nil))
      (dotimes (_ 3)
        (delete-process (dualstack-mode-test-open port)))
      (save-window-excursion
        (dualstack-mode-report)
        (with-current-buffer "*dualstack-report*"
          (goto-char (point-min))
          (should (re-search-forward (format "^localhost:%d +3 +0 IPv6 " port)))
          (call-interactively (key-binding "w"))
          (should (equal (current-kill 0) (buffer-string)))
          (revert-buffer)
          (kill-buffer))))))

(dualstack-mode-test dualstack-mode-report-saved-time
  "Time saved is what was measured of the other family's failure."
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((port (dualstack-test-port server))
           (attempt (lambda (family outcome seconds)
                      (dualstack-attempt--make
                       :address (dualstack-loopback-address family port)
                       :start 0 :end seconds :outcome outcome)))
           (args (list :host "localhost" :service port)))
      (dualstack-mode-peers--note args (list (funcall attempt 'ipv6 "Connection refused" 2.0)
                                        (funcall attempt 'ipv4 'won 0.01))
                             0.01 'ipv4 nil)
      (should (< 1.9 (dualstack-mode-peers--record-saved (car dualstack-mode-peers--all)) 2.0))
      (delete-process (dualstack-mode-test-open port))
      (should (< 3.9 (dualstack-mode-peers--record-saved (car dualstack-mode-peers--all)) 4.0)))))

(dualstack-mode-test dualstack-mode-report-counts-what-was-not-tried
  "An attempt at ::1 that was not even made counts what a refusal costs here."
  (dualstack-test-with-servers ((server 'ipv4))
    (let ((dualstack-mode-peers--cost nil))
      (dotimes (_ 3)
        (delete-process (dualstack-mode-test-open (dualstack-test-port server))))
      (dualstack-test-wait #'dualstack-mode-peers--refusal-cost)
      (should (< -1 (dualstack-mode-peers--refusal-cost) 5))
      (setq dualstack-mode-peers--cost 1.5)
      (should (< 4 (dualstack-mode-peers--record-time-saved (car dualstack-mode-peers--all)) 4.51))
      (should (string-match-p " 4\\.[45][0-9] s" (dualstack-mode-report--text)))
      (should (string-match-p "measured" (dualstack-mode-report--text))))))

(dualstack-deftest dualstack-mode-a-slow-refusal-is-measured ()
  "In the stall the report shows about a second for each connection."
  (let ((host (dualstack-test-resolver "::1 localhost\n127.0.0.1 localhost\n")))
    (dualstack-test-with-servers ((server 'ipv4))
      (dualstack-test-with-stall (stalled "--family" "ipv6")
        (should
         (< 0.9
            (dualstack-test-emacs
             host
             `(progn
                (require 'dualstack-mode)
                (dualstack-mode 1)
                (fset 'dualstack-mode-peers--free-port (lambda () ,stalled))
                (delete-process (make-network-process :name "x" :host "localhost"
                                                      :service ,(dualstack-test-port server)))
                (with-timeout (10)
                  (while (not (dualstack-mode-peers--refusal-cost))
                    (accept-process-output nil 0.05)))
                (dualstack-mode-peers--record-time-saved (car dualstack-mode-peers--all))))
            5))))))

;;;; Without the tools of native compilation

(dualstack-deftest dualstack-mode-without-a-trampoline ()
  "The mode comes on where no trampoline can be made, works, and says so once."
  (unless (and (fboundp 'native-comp-available-p) (native-comp-available-p))
    (ert-skip "needs an Emacs with native compilation"))
  (dualstack-test-with-servers ((server 'ipv6))
    (let* ((directory (make-temp-file "dualstack-eln" t))
           (value (unwind-protect
                      (dualstack-test-emacs
                       nil
                       `(progn
                          (require 'dualstack-mode)
                          (setq native-comp-eln-load-path (list ,(file-name-as-directory directory))
                                exec-path nil)
                          (setenv "PATH" "/nonexistent")
                          (dualstack-mode 1)
                          (dualstack-mode 0)
                          (dualstack-mode 1)
                          (list dualstack-mode
                                dualstack-mode--told
                                (process-status
                                 (open-network-stream "x" nil "localhost"
                                                      ,(dualstack-test-port server)))
                                (mapcar #'dualstack-mode-peers--record-count dualstack-mode-peers--all))))
                    (delete-directory directory t))))
      (should (equal value '(t t open (1)))))))

(dualstack-deftest dualstack-mode-variable-never-lies ()
  "If the advice cannot be added at all, the mode is off."
  (cl-letf (((symbol-function 'dualstack-mode--advise) (lambda () (error "No"))))
    (should-error (dualstack-mode 1))
    (should-not dualstack-mode)))

(dualstack-mode-test dualstack-mode-other-advice-sees-one-call
  "Whoever else advises `make-network-process' sees the call of the package, once."
  (let* ((seen nil)
         (look (lambda (original &rest args)
                 (when (plist-get args :host)
                   (push (plist-get args :host) seen))
                 (apply original args)))
         (connect (lambda (port)
                    (ignore-errors
                      (delete-process (dualstack-mode-test-open port))))))
    (dualstack-test-with-servers ((server 'ipv6))
      (dotimes (i 2)
        (when (= i 1) (dualstack-mode 0))
        (advice-add 'make-network-process :around look)
        (unwind-protect
            (progn
              (when (= i 1) (dualstack-mode 1))
              (setq seen nil)
              (funcall connect (dualstack-test-port server))
              (funcall connect 1)
              (should (equal seen '("localhost" "localhost"))))
          (advice-remove 'make-network-process look))))))

(dualstack-deftest dualstack-mode-unloaded ()
  "Unloading the mode while it is on leaves connections as they were, and no timer."
  (should
   (equal
    '(nil nil nil file-error)
    (dualstack-test-emacs
     nil
     '(require 'dualstack-mode)
     '(let ((default-directory (file-name-as-directory (make-temp-file "gone" t))))
        (delete-directory default-directory)
        (dualstack-mode 1))
     '(make-network-process :name "x" :host "localhost" :service 1 :nowait t :noquery t)
     '(condition-case nil (make-network-process :name "x" :host "localhost" :service 1)
        (file-error nil))
     '(dolist (feature '(dualstack-mode dualstack-mode-peers dualstack dualstack-nowait
                         dualstack-memory))
        (unload-feature feature t))
     ;; What is for once may be still to come.
     '(let ((end (+ (float-time) 5)))
        (while (and timer-list (< (float-time) end))
          (accept-process-output nil 0.01)))
     '(list (bound-and-true-p dualstack-mode) timer-list
            (advice--p (advice--symbol-function 'make-network-process))
            (condition-case err
                (make-network-process :name "x" :host "localhost" :service 1)
              (error (car err))))))))

;;;; Servers on both addresses

(defun dualstack-mode-test-listening (port)
  "Return the families on which someone listens on PORT."
  (cl-loop for family in '(ipv4 ipv6)
           for process = (ignore-errors
                           (make-network-process
                            :name "look" :service nil :noquery t :sentinel #'ignore
                            :remote (dualstack-loopback-address family port)))
           when process collect family and do (delete-process process)))

(dualstack-mode-test dualstack-mode-serves-both
  "With the option a package's server has a companion, which ends with it."
  (dolist (host '("localhost" "127.0.0.1" "::1" local))
    (let* ((dualstack-mode-serve-both t)
           (heard nil)
           (logged 0)
           (server (make-network-process
                    :name "package" :server 20 :host host :noquery t
                    ;; Drawn by Emacs, the port is not told on Windows.
                    :service (dualstack-test-free-port)
                    :family (and (eq host 'local) 'ipv4)
                    :log (lambda (&rest _) (setq logged (1+ logged)))
                    :sentinel (lambda (_process event) (push event heard))
                    :filter (lambda (process text) (process-send-string process text))))
           (port (process-contact server :service)))
      (dolist (family '(ipv4 ipv6))
        (let* ((answer nil)
               (client (make-network-process
                        :name "client" :service nil :noquery t :sentinel #'ignore
                        :remote (dualstack-loopback-address family port)
                        :filter (lambda (_process text) (setq answer text)))))
          (process-send-string client (symbol-name family))
          (dualstack-test-wait (lambda () answer))
          (should (equal answer (symbol-name family)))
          (delete-process client)))
      (should (= 2 logged))
      (dualstack-test-wait
       (lambda () (= 2 (cl-count "connection broken by remote peer\n" heard :test #'equal))))
      (should (= 2 (cl-count-if (lambda (event) (string-prefix-p "open from" event)) heard)))
      (setq heard nil)
      (delete-process server)
      (should (equal heard '("deleted\n")))
      (should-not (dualstack-mode-test-listening port)))))

(dualstack-mode-test dualstack-mode-serves-both-whatever-is-set-later
  "A companion's clients get what the server was given since, and it ends with it."
  (let* ((dualstack-mode-serve-both t)
         (heard nil)
         (server (make-network-process :name "package" :server 20 :host "127.0.0.1"
                                       :family 'ipv4 :service (dualstack-test-free-port)))
         (port (process-contact server :service))
         (client nil) (answer nil))
    (set-process-query-on-exit-flag server nil)
    (set-process-filter server (lambda (process text)
                                 (process-send-string process (process-get process 'answer))
                                 (push text heard)))
    (set-process-sentinel server (lambda (_process event) (push event heard)))
    (process-put server 'answer "later")
    (should-not (cl-find-if #'process-query-on-exit-flag (process-list)))
    (setq client (make-network-process
                  :name "client" :service nil :noquery t :sentinel #'ignore
                  :remote (dualstack-loopback-address 'ipv6 port)
                  :filter (lambda (_process text) (setq answer text))))
    (process-send-string client "one")
    (dualstack-test-wait (lambda () answer))
    (should (equal answer "later"))
    (should (equal (cl-count "one" heard :test #'equal) 1))
    (should (cl-find-if (lambda (event) (string-prefix-p "open from" event)) heard))
    (delete-process client)
    (delete-process server)
    (dualstack-test-wait (lambda () (null (dualstack-mode-test-listening port))))))

(dualstack-mode-test dualstack-mode-serves-both-only-where-asked
  "Without the option, on a wildcard address or a taken port, a server stays alone."
  (let ((server (make-network-process :name "alone" :server t :host "127.0.0.1" :family 'ipv4
                                      :service t :noquery t)))
    (should (equal '(ipv4) (dualstack-mode-test-listening (process-contact server :service))))
    (delete-process server))
  (dualstack-test-with-servers ((six 'ipv6))
    (let ((dualstack-mode-serve-both t))
      (let ((before (length (process-list)))
            (server (make-network-process :name "taken" :server t :host "127.0.0.1" :noquery t
                                          :family 'ipv4 :service (dualstack-test-port six))))
        (should (= (1+ before) (length (process-list))))
        (delete-process server))))
  (let ((dualstack-mode-serve-both t))
    (let ((before (length (process-list)))
          (server (make-network-process :name "wild" :server t :host "0.0.0.0" :noquery t
                                        :family 'ipv4 :service t)))
      (should (= (1+ before) (length (process-list))))
      (delete-process server))))

(provide 'dualstack-mode-test)

;;; dualstack-mode-test.el ends here
