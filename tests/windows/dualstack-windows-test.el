;;; dualstack-windows-test.el --- Tests for a Windows Emacs  -*- lexical-binding: t; -*-

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

;; What only Windows does: a refused connect that freezes Emacs, code 14 for
;; each asynchronous one to ::1.  Skipped elsewhere.

;;; Code:

(require 'dualstack-test-helper)
(require 'dualstack-test-hosts)
(require 'dualstack-stream)
(require 'dualstack-mode)
(require 'dualstack-sidecar)

(defvar dualstack-windows-ports nil
  "An alist of kinds of servers and their ports, while a test runs.")

(defun dualstack-windows-call-with-servers (function)
  "Call FUNCTION with servers on 127.0.0.1, on ::1 and on both, and a free port."
  (let ((children (mapcar (lambda (family)
                            (cons (intern family)
                                  (dualstack-test-child dualstack-test-python "-m"
                                                        "dualstack_epc" "hello"
                                                        "--family" family)))
                          '("ipv4" "ipv6" "dual"))))
    (unwind-protect
        (let ((dualstack-windows-ports
               (cons (cons 'none (dualstack-test-free-port))
                     (mapcar (lambda (cell)
                               (cons (car cell) (dualstack-test-child-port (cdr cell))))
                             children))))
          (funcall function))
      (mapc #'dualstack-test-end (mapcar #'cdr children)))))

(defun dualstack-windows-address (kind)
  "Return the address that the server of KIND is to be reached at, as a string."
  (format (if (eq kind 'ipv6) "[::1]:%d" "127.0.0.1:%d")
          (alist-get kind dualstack-windows-ports)))

(defun dualstack-windows-open (kind &rest settings)
  "Connect to the server of KIND by `dualstack-open-network-stream'.
SETTINGS may have `:plain', for `open-network-stream', and `:policy'.
Return (SECONDS ADDRESS ANSWER), or for an error (SECONDS . ERROR)."
  (let* ((port (alist-get kind dualstack-windows-ports))
         (dualstack-policy (or (plist-get settings :policy) 'both))
         (start (float-time))
         (process (condition-case err
                      (funcall (if (plist-get settings :plain)
                                   #'open-network-stream
                                 #'dualstack-open-network-stream)
                               "windows" nil "localhost" port)
                    (file-error err)))
         (time (- (float-time) start))
         (answer ""))
    (if (not (processp process))
        (cons time process)
      (unwind-protect
          (progn
            (set-process-filter process (lambda (_process string)
                                          (setq answer (concat answer string))))
            (process-send-string process "1")
            (with-timeout (5)
              (while (< (length answer) 5)
                (accept-process-output process 0.05)))
            (list time
                  (dualstack-address-string (process-contact process :remote))
                  answer))
        (set-process-sentinel process #'ignore)
        (delete-process process)))))

(defun dualstack-windows-plain ()
  "Return what a plain connect to localhost gives for the server on 127.0.0.1.
Skip the test where that is not slow."
  (let ((plain (dualstack-windows-open 'ipv4 :plain t)))
    (when (< (car plain) 0.5)
      (ert-skip "A refused connect is not slow here: not Windows' loopback"))
    plain))

(defmacro dualstack-windows-deftest (name docstring &rest body)
  "Define the test NAME, run on Windows with the servers.
DOCSTRING and BODY are as for `dualstack-deftest'."
  (declare (indent 1) (doc-string 2))
  `(dualstack-deftest ,name ()
     ,docstring
     (unless (eq system-type 'windows-nt)
       (ert-skip "needs Windows"))
     (dualstack-windows-call-with-servers (lambda () ,@body))))

(defun dualstack-windows-much-sooner (plain factor kind &rest settings)
  "Fail unless the server of KIND is reached FACTOR times sooner than PLAIN tells.
PLAIN is the value of `dualstack-windows-plain'.  SETTINGS are as for
`dualstack-windows-open'; with `:first' nothing is remembered."
  (should (equal (cdr plain) (list (dualstack-windows-address 'ipv4) "hello")))
  (dualstack-test-within
   (/ (car plain) factor)
   (lambda ()
     (when (plist-get settings :first)
       (dualstack-forget))
     (pcase-let ((`(,time ,address ,answer) (apply #'dualstack-windows-open kind settings)))
       (message "%s: plain %.0f ms, dualstack %.1f ms"
                kind (* 1000 (car plain)) (* 1000 time))
       (should (equal (list address answer) (list (dualstack-windows-address kind) "hello")))
       time))))

(dualstack-windows-deftest dualstack-windows-ipv4
  "A server on 127.0.0.1 is reached much sooner than plain Emacs reaches it."
  (dualstack-windows-much-sooner (dualstack-windows-plain) 10 'ipv4 :first t))

(dualstack-windows-deftest dualstack-windows-remembered
  "What is remembered is reached even sooner."
  (dualstack-windows-open 'ipv4)
  (dualstack-windows-much-sooner (dualstack-windows-plain) 50 'ipv4))

(dualstack-windows-deftest dualstack-windows-policy
  "The policy ipv4 reaches 127.0.0.1 alone."
  (pcase-let ((`(,_ ,address ,answer) (dualstack-windows-open 'ipv4 :policy 'ipv4)))
    (should (equal (list address answer) (list (dualstack-windows-address 'ipv4) "hello")))
    (should (= 1 (length (dualstack-last-attempts))))))

(dualstack-windows-deftest dualstack-windows-ipv6
  "A server on ::1 is reached although Emacs reports code 14 for it."
  (dualstack-windows-much-sooner (dualstack-windows-plain) 10 'ipv6 :first t))

(dualstack-windows-deftest dualstack-windows-async
  "The asynchronous form reaches a server on ::1."
  (let (result)
    (dualstack-open-async "localhost" (alist-get 'ipv6 dualstack-windows-ports)
                          :then (lambda (process) (setq result process))
                          :else (lambda (err) (setq result err)))
    (with-timeout (10)
      (while (not result) (accept-process-output nil 0.02)))
    (should (processp result))
    (should (eq (process-status result) 'open))
    (should (equal (process-contact result)
                   (list "localhost" (alist-get 'ipv6 dualstack-windows-ports))))
    (set-process-sentinel result #'ignore)
    (delete-process result)))

(dualstack-windows-deftest dualstack-windows-dual
  "A server on both is reached."
  (pcase-let ((`(,_ ,address ,answer) (dualstack-windows-open 'dual)))
    (should (equal (list address answer) (list (dualstack-windows-address 'dual) "hello")))))

(dualstack-windows-deftest dualstack-windows-mode
  "With `dualstack-mode' a plain connect to localhost is quick, on either family."
  (let ((plain (dualstack-windows-plain)))
    (dualstack-mode 1)
    (unwind-protect
        (dolist (kind '(ipv4 ipv6 ipv4 ipv6))
          (dualstack-windows-much-sooner plain 10 kind :plain t))
      (dualstack-mode 0))))

(dualstack-windows-deftest dualstack-windows-none
  "Without a server that is known after `dualstack-loopback-patience'."
  (dotimes (_ 3)
    (dualstack-test-within
     (+ dualstack-loopback-patience 0.4)
     (lambda ()
       (pcase-let ((`(,time . ,err) (dualstack-windows-open 'none))
                   (port (alist-get 'none dualstack-windows-ports)))
         (should (equal (seq-take err 3)
                        '(file-error "make client process failed" "Connection refused")))
         (should (member (plist-get (nthcdr 3 err) :attempts)
                         (list (format "127.0.0.1:%d Connection refused; \
\[::1]:%d Connection refused" port port)
                               (format "127.0.0.1:%d no answer within 0.5 s; \
\[::1]:%d no answer within 0.5 s" port port))))
         time)))))

(dualstack-windows-deftest dualstack-windows-wrong-memory
  "A server that has moved is reached nearly as soon as without a memory."
  (dualstack-test-within
   0.3
   (lambda ()
     (dualstack-memory--remember (alist-get 'ipv4 dualstack-windows-ports) 'ipv6)
     (pcase-let ((`(,time ,address ,answer) (dualstack-windows-open 'ipv4)))
       (message "a wrong memory: %.1f ms" (* 1000 time))
       (should (equal (list address answer)
                      (list (dualstack-windows-address 'ipv4) "hello")))
       time))))

(defun dualstack-windows-nowait (kind)
  "Connect to the server of KIND with `:nowait', and return what came of it.
That is a list (SECONDS STATUS EVENTS ANSWER)."
  (let* ((start (float-time))
         (events nil) (answer "") (opened nil)
         (process (make-network-process
                   :name "nowait" :host "localhost" :nowait t :noquery t
                   :service (alist-get kind dualstack-windows-ports)
                   :filter (lambda (_process text) (setq answer (concat answer text)))
                   :sentinel (lambda (_process event) (push event events))))
         (status (process-status process)))
    (with-timeout (5)
      (while (not (or events (eq (process-status process) 'open)))
        (accept-process-output nil 0.005)))
    (setq opened (- (float-time) start))
    (when (eq (process-status process) 'open)
      (process-send-string process "1")
      (with-timeout (5)
        (while (< (length answer) 5)
          (accept-process-output nil 0.01))))
    (set-process-sentinel process #'ignore)
    (delete-process process)
    (list opened status events answer)))

(dualstack-windows-deftest dualstack-windows-mode-nowait
  "Clients in the background are open soon, with one event after the call."
  (dualstack-mode 1)
  (unwind-protect
      (progn
        (dolist (kind '(ipv4 dual))
          (dolist (memory '(nil ipv4 ipv6))
            (let ((port (alist-get kind dualstack-windows-ports)))
              (dualstack-forget)
              (when memory
                (dualstack-memory--remember port memory))
              (pcase-let ((`(,time ,status ,events ,answer) (dualstack-windows-nowait kind)))
                (message ":nowait, %s, %s remembered: %.1f ms" kind memory (* 1000 time))
                (should (< time 0.5))
                (should (equal answer "hello"))
                (should (equal (list status events)
                               (if (and (eq kind 'dual) (eq memory 'ipv6))
                                   '(open nil)
                                 '(connect ("open\n")))))))))
        (dualstack-forget)
        (dualstack-windows-open 'ipv6 :plain t)
        (pcase-let ((`(,time ,status ,events ,answer) (dualstack-windows-nowait 'ipv6)))
          (message ":nowait, ::1 remembered: %.1f ms" (* 1000 time))
          (should (equal (list status events answer) '(open nil "hello"))))
        (dualstack-test-wait (lambda () (not dualstack-mode--watch-timer))))
    (dualstack-mode 0)))

(dualstack-windows-deftest dualstack-windows-many-at-once
  "Twenty asynchronous connections to a server on ::1 are all made."
  (let ((opened nil) (failed nil))
    (dotimes (_ 20)
      (dualstack-open-async "localhost" (alist-get 'ipv6 dualstack-windows-ports)
                            :then (lambda (process) (push process opened))
                            :else (lambda (err) (push err failed))))
    (dualstack-test-wait (lambda () (= 20 (+ (length opened) (length failed)))) 30)
    (should-not failed)
    (mapc #'delete-process opened)))

(defun dualstack-windows-busy (&rest _)
  "Be busy for 20 ms, so that Emacs finds what happens meanwhile at one look."
  (let ((end (+ (float-time) 0.02)))
    (while (< (float-time) end))))

(dualstack-windows-deftest dualstack-windows-others-connect-meanwhile
  "Another client that connects in the same moment as ours hears of it.
The end of our wait must not keep Emacs from calling its sentinel."
  (let* ((port (alist-get 'ipv4 dualstack-windows-ports))
         (told nil) (lost 0)
         (open (lambda (name &rest args)
                 (apply #'make-network-process
                        :name name :host "127.0.0.1" :service port :noquery t
                        :sentinel (lambda (process _event) (push process told))
                        args))))
    (advice-add 'dualstack-alone--tell :before #'dualstack-windows-busy)
    (unwind-protect
        (dotimes (_ 10)
          (let ((early (funcall open "early" :nowait t))
                (first (funcall open "first"))
                (other (funcall open "other" :nowait t)))
            ;; Ours gets its descriptor, and Emacs looks at that before the other's.
            (delete-process first)
            (let ((ours (dualstack-make-network-process :name "ours" :host "localhost"
                                                        :service port :noquery t
                                                        :sentinel #'ignore)))
              (with-timeout (2 (setq lost (1+ lost)))
                (while (not (memq other told))
                  (accept-process-output nil 0.01)))
              (dolist (process (list early other ours))
                (set-process-sentinel process #'ignore)
                (delete-process process)))))
      (advice-remove 'dualstack-alone--tell #'dualstack-windows-busy))
    (should (= 0 lost))))

;;;; What breaks

(dualstack-deftest dualstack-windows-calls-break-nothing ()
  "Of 1,500 calls one after the other none breaks its connection.
Emacs takes a socket for closed where it writes just when it begins to read."
  (unless (eq system-type 'windows-nt)
    (ert-skip "needs Windows"))
  (let* ((dualstack-python dualstack-test-python)
         (dualstack-sidecars nil)
         (mode-line-misc-info mode-line-misc-info)
         (sidecar (dualstack-sidecar-start :wait t)))
    (unwind-protect
        (dotimes (_ 1500)
          (should (equal (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'hello nil)
                         "hello")))
      (dualstack-sidecar-stop)
      (dualstack-test-wait
       (lambda () (not (process-live-p (dualstack-sidecar-process sidecar)))))
      (kill-buffer (dualstack-sidecar-log sidecar)))))

(dualstack-deftest dualstack-windows-waits-beside-a-server-that-cannot-accept ()
  "Waits for a sidecar and for a Python end while a server of Emacs's has no room.
Emacs finds that server ready at each look, and its own wait for a process that
has written has no end then, whatever its time."
  (unless (eq system-type 'windows-nt)
    (ert-skip "needs Windows"))
  (should (< (dualstack-test-emacs
              nil
              '(require 'dualstack-sidecar)
              `(let* ((server (make-network-process :name "server" :server 50 :host "127.0.0.1"
                                                    :family 'ipv4 :service t :noquery t))
                      (port (process-contact server :service))
                      (child (make-process :name "child" :noquery t :connection-type 'pipe
                                           :command ',(dualstack-test-python-command "
import os, threading, time
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0))).start()
while True:
    print('x', flush=True)
    time.sleep(0.01)")))
                      client last start)
                 (while (not (accept-process-output child 1)))
                 (dualstack-epc--calm-look child 0.005)
                 (while (setq client (ignore-errors
                                       (make-network-process
                                        :name "client" :host "127.0.0.1" :family 'ipv4
                                        :service port :noquery t)))
                   (setq last client))
                 (setq start (float-time))
                 (dotimes (_ 20)
                   (dualstack-epc--calm-look child 0.005))
                 (delete-process last) ; A Python has room, and then nobody again.
                 (dualstack-sidecar--output-of
                  ',(dualstack-test-python-command "print(1)"))
                 (prog1 (- (float-time) start)
                   (kill-process child))))
             10)))

;;;; Names that are not ASCII

(defconst dualstack-windows-hello
  '(let ((sidecar (dualstack-sidecar-start :wait t :modules (list (getenv "MODULE")))))
     (list (dualstack-epc-call (dualstack-sidecar-connection sidecar) 'own '("猫 ü"))
           (progn (dualstack-sidecar-stop)
                  (while (process-live-p (dualstack-sidecar-process sidecar))
                    (accept-process-output nil 0.01))
                  (file-directory-p (expand-file-name "~")))
           (with-current-buffer (dualstack-sidecar-log sidecar)
             (and (string-match-p "logged" (buffer-string)) t))))
  "What an Emacs does that calls a function of a module of its own.")

(dualstack-deftest dualstack-windows-folders-of-any-name ()
  "Home, temporary and Emacs directories may have any letters, and the module's.
A letter that the system's code page lacks cannot be in a variable of the
environment: those have what it has, as Windows' own programs do."
  (unless (eq system-type 'windows-nt)
    (ert-skip "needs Windows"))
  (dolist (name '("用户 张三" "Zoë Müller"))
    (let* ((short (lambda (directory) (or (w32-short-file-name directory) directory)))
           (place (file-name-as-directory
                   (expand-file-name name (make-temp-file "dualstack" t))))
           (directories (mapcar (lambda (each)
                                  (let ((directory (expand-file-name each place)))
                                    (make-directory directory t)
                                    (funcall short directory)))
                                '("家 home" "Temp é" "Emacs 目录")))
           (module (expand-file-name "模块 m.py" place))
           (coding-system-for-write 'utf-8-unix))
      (write-region "import sys
def own(text):
    print('logged', text, file=sys.stderr, flush=True)
    return text + ' 你好'
" nil module nil 'silent)
      (let ((process-environment
             (append (cl-mapcar (lambda (variable directory) (concat variable "=" directory))
                                '("HOME" "TEMP" "EMACSDATA_")
                                directories)
                     (list (concat "TMP=" (cadr directories))
                           (concat "MODULE=" (funcall short module)))
                     process-environment)))
        (should (equal '("猫 ü 你好" t t)
                       (dualstack-test-emacs
                        nil
                        `(setq dualstack-python ,dualstack-test-python
                               user-emacs-directory ,(file-name-as-directory
                                                      (nth 2 directories)))
                        '(require 'dualstack-sidecar)
                        dualstack-windows-hello))))
      (delete-directory (file-name-directory (directory-file-name place)) t))))

;;;; Which Python

(defun dualstack-windows-program (directory name &rest lines)
  "Make NAME in DIRECTORY a program, a batch file of LINES."
  (let ((coding-system-for-write 'raw-text-dos))
    (write-region (mapconcat (lambda (line) (concat "@" line "\n")) lines "") nil
                  (expand-file-name (concat name ".bat") directory) nil 'silent)))

(dualstack-deftest dualstack-windows-which-python ()
  "The store's stub and what is too old are passed over, soon, and once."
  (unless (eq system-type 'windows-nt)
    (ert-skip "needs Windows"))
  (let* ((bin (make-temp-file "bin" t))
         (exec-path (list bin))
         (process-environment (cons (concat "PATH=" bin) process-environment))
         (dualstack-python nil)
         (dualstack-sidecar--pythons nil)
         (complaint (lambda ()
                      (setq dualstack-sidecar--pythons nil)
                      (cadr (should-error (dualstack-sidecar-python)
                                          :type 'dualstack-sidecar-error)))))
    (unwind-protect
        (progn
          (should (string-match-p "There is no Python on the path; type: winget"
                                  (funcall complaint)))
          (dualstack-windows-program
           bin "python3"
           "echo Python was not found; run without arguments to install from the Microsoft Store 1>&2"
           "exit 49")
          (should (string-match-p "python3.bat is only a stub of the Microsoft Store; type: winget"
                                  (funcall complaint)))
          (dualstack-windows-program bin "python" "echo dualstack 3.8 2f78")
          (should (string-match-p "python.*is Python 3.8, and 3.10 or later is needed"
                                  (funcall complaint)))
          (dualstack-windows-program bin "python3" (format "\"%s\" %%*" dualstack-test-python))
          (setq dualstack-sidecar--pythons nil)
          ;; The Python that it has started.
          (should (file-equal-p (dualstack-sidecar-python) dualstack-test-python))
          ;; Without batch files in between, which take Wine most of the time.
          (let* ((exec-path (list (file-name-directory dualstack-test-python)))
                 ;; Wine needs 0.3 to 0.5 s to start anything.
                 (bare (dualstack-test-seconds
                        (lambda ()
                          (call-process dualstack-test-python nil nil nil
                                        "-E" "-S" "-s" "-c" "pass")))))
            (dualstack-test-within
             (+ 0.3 bare)
             (lambda ()
               (let* ((dualstack-sidecar--pythons nil)
                      (seconds (dualstack-test-seconds
                                (lambda ()
                                  (should (file-equal-p (dualstack-sidecar-python)
                                                        dualstack-test-python))))))
                 (message "which Python: %.2f s; to start one takes %.2f s" seconds bare)
                 seconds))))
          (let ((start (float-time)))
            (dualstack-sidecar-python)
            (should (< (- (float-time) start) 0.3))))
      (delete-directory bin t))))

;;;; The end of children

(defconst dualstack-windows-starter "
import subprocess, sys
print('ready', flush=True)
sys.stdin.readline()
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])
print('started', child.pid, flush=True)
child.wait()
"
  "A program that starts another when it is told, in Python.")

(dualstack-deftest dualstack-windows-child-that-starts-another ()
  "What a child starts just as it is killed is killed, too.
It would keep the pipe, and Emacs waits for the end of that."
  (unless (eq system-type 'windows-nt)
    (ert-skip "needs Windows"))
  (let* ((child (dualstack-test-child dualstack-test-python "-c" dualstack-windows-starter))
         (begun (float-time))
         (pid nil)
         (start (lambda (&rest _)
                  (unless pid
                    (process-send-string child "\n")
                    (setq pid (with-current-buffer (process-buffer child)
                                (dualstack-test-wait
                                 (lambda ()
                                   (goto-char (point-min))
                                   (and (re-search-forward "^started \\([0-9]+\\)\r?\n" nil t)
                                        (string-to-number (match-string 1)))))))))))
    (unwind-protect
        (progn
          (advice-add 'signal-process :before start)
          (unwind-protect
              (dualstack-child--kill child)
            (advice-remove 'signal-process start))
          (should pid)
          (dualstack-test-wait (lambda () (not (process-live-p child))))
          (should (not (dualstack-test-alive-p pid)))
          (should (< (- (float-time) begun) 20)))
      (dualstack-test-end child))))

;;;; A port of both families

(dualstack-deftest dualstack-windows-make-server ()
  "A server whose port is drawn has one number at both addresses, told or not."
  (unless (eq system-type 'windows-nt)
    (ert-skip "needs Windows"))
  (dotimes (_ 10)
    (let* ((servers (dualstack-make-server :name "drawn" :service t :noquery t
                                           :filter #'ignore :sentinel #'ignore))
           (ports (mapcar (lambda (server) (process-contact server :service)) servers)))
      (unwind-protect
          (progn
            (should (= 2 (length servers)))
            (should (integerp (car ports)))
            (should (equal (car ports) (cadr ports)))
            (dolist (address (list (dualstack-loopback-address 'ipv4 (car ports))
                                   (dualstack-loopback-address 'ipv6 (car ports))))
              (let ((client (make-network-process :name "client" :remote address :service nil
                                                  :noquery t :sentinel #'ignore)))
                (should (eq 'open (process-status client)))
                (delete-process client))))
        (mapc #'dualstack-test-close servers)))))

;;;; The host that the tests run on

(dualstack-deftest dualstack-windows-silent-ports ()
  "No client is given a port that hears nothing, as one in 7,000 would be."
  (let ((ports (getenv "DUALSTACK_SILENT_PORTS"))
        (reserved nil))
    (unless ports
      (ert-skip "needs WINDOWS_NET"))
    (dolist (range (split-string
                    (cdr (dualstack-test-run
                          (dualstack-test-there
                           "cat" "/proc/sys/net/ipv4/ip_local_reserved_ports")))
                    "[,\n]" t))
      (let ((ends (mapcar #'string-to-number (split-string range "-"))))
        (setq reserved (append reserved (number-sequence (car ends) (car (last ends)))))))
    (dolist (port (split-string ports))
      (should (memq (string-to-number port) reserved)))))

(provide 'dualstack-windows-test)

;;; dualstack-windows-test.el ends here
