;;; dualstack-diagnose-listeners.el --- Who listens at a port  -*- lexical-binding: t; -*-

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

;; Asks the system who listens at a port of this machine: /proc on GNU/Linux,
;; netstat and tasklist on Windows, lsof elsewhere.  Programs are run in the
;; background, for a few seconds at most, and what they print is read by its
;; numbers, as its words are in the user's language.
;;
;; A function here that takes a RUN, a list, keeps in its car what gives up
;; what is under way.

;;; Code:

(require 'cl-lib)
(require 'subr-x)

(defconst dualstack-diagnose-listeners--timeout 5
  "Seconds after which a program of the system is waited for no longer.")

(defun dualstack-diagnose-listeners--directory ()
  "Return a directory that is always there and on this machine.
The buffer's may have been deleted or be another machine's, for which Emacs 29
and later would list the processes; the user may have no home."
  (if (eq system-type 'windows-nt)
      (file-name-as-directory (dualstack-diagnose-listeners--system ""))
    "/"))

(defun dualstack-diagnose--listeners (port run then)
  "Find out who listens at PORT of this machine, and call THEN with a list.
Each is a plist: `:family', `ipv4' or `ipv6'; `:address', a string; `:any'
non-nil if that is every address of the machine; `:pid' and `:program', nil
if they are not known; `:other' non-nil if it is another user's.  RUN is as
in the commentary."
  (pcase system-type
    ('gnu/linux (funcall then (dualstack-diagnose-listeners--proc port)))
    ('windows-nt (dualstack-diagnose-listeners--windows port run then))
    (_ (dualstack-diagnose-listeners--command
        run "lsof" (list "-nP" (format "-iTCP:%d" port) "-sTCP:LISTEN" "-Fpcnt")
        (lambda () (funcall then (dualstack-diagnose-listeners--parse-lsof)))))))

(defun dualstack-diagnose-listeners--command (run program args then)
  "Run PROGRAM with ARGS, and call THEN in a buffer with its output.
The buffer is empty if PROGRAM cannot be run, or takes too long.  RUN is as
in the commentary."
  (let* ((buffer (generate-new-buffer " *dualstack-diagnose*"))
         (default-directory (dualstack-diagnose-listeners--directory))
         (timer nil)
         (end (lambda (process overdue)
                (when timer (cancel-timer timer))
                (when process
                  (dualstack-diagnose-listeners--end process overdue))))
         (finish (lambda (process &optional overdue)
                   (funcall end process overdue)
                   (setcar run nil)
                   (unwind-protect
                       (with-current-buffer buffer
                         (goto-char (point-min))
                         (funcall then))
                     (kill-buffer buffer)))))
    (condition-case nil
        (let ((process
               (make-process :name "dualstack-diagnose" :command (cons program args)
                             :buffer buffer :noquery t :connection-type 'pipe
                             :coding (dualstack-diagnose-listeners--coding)
                             :stderr nil
                             :sentinel (lambda (process _event)
                                         (unless (process-live-p process)
                                           (funcall finish process))))))
          (setq timer (run-at-time dualstack-diagnose-listeners--timeout nil
                                   finish process t))
          (setcar run (lambda ()
                        (funcall end process nil)
                        (kill-buffer buffer))))
      (file-error (funcall finish nil)))))

;; To delete a process while it runs can hang a Windows Emacs.  To kill it as it
;; starts can leave somebody there who holds its pipe, so that it never seems to end.
(defun dualstack-diagnose-listeners--end (process overdue)
  "End PROCESS, whose output nobody wants any more.
On Windows let it end by itself, which takes it a moment, unless it is OVERDUE."
  (set-process-sentinel process #'ignore)
  (set-process-filter process #'ignore)
  (set-process-buffer process nil)
  (cond ((not (and (eq system-type 'windows-nt) (process-live-p process)))
         (delete-process process))
        (overdue (kill-process process))
        (t (let ((timer (run-at-time dualstack-diagnose-listeners--timeout nil
                                     #'kill-process process)))
             (set-process-sentinel process (lambda (process _event)
                                             (unless (process-live-p process)
                                               (cancel-timer timer))))))))

(declare-function w32-get-locale-info "ext:w32proc.c" (lcid &optional longform))
(declare-function w32-get-default-locale-id "ext:w32proc.c" ())

(defun dualstack-diagnose-listeners--coding ()
  "Return the coding system of what the system's programs print.
Windows' own print in the code page of DOS, whatever Emacs is set to."
  (let ((page (and (eq system-type 'windows-nt)
                   ;; 11 is LOCALE_IDEFAULTCODEPAGE.
                   (ignore-errors
                     (intern (format "cp%s" (w32-get-locale-info
                                             (w32-get-default-locale-id) 11)))))))
    (if (and page (coding-system-p page)) page locale-coding-system)))

(defun dualstack-diagnose-listeners--make (family address pid program &optional other)
  "Return the plist for FAMILY, ADDRESS, PID, PROGRAM and OTHER."
  (append (list :family family :address address
                :any (and (member address '("0.0.0.0" "::" "*")) t)
                :pid pid :program program)
          (and other (list :other t))))

;;;; Windows

(defun dualstack-diagnose-listeners--system (name)
  "Return the file name of Windows' own program NAME."
  (expand-file-name (concat "System32/" name)
                    (or (getenv "SystemRoot") "C:/Windows")))

(defun dualstack-diagnose-listeners--windows (port run then)
  "Call THEN with who listens at PORT of Windows.  RUN is as elsewhere."
  (dualstack-diagnose-listeners--command
   run (dualstack-diagnose-listeners--system "netstat.exe") '("-ano")
   (lambda ()
     (let ((listeners (dualstack-diagnose-listeners--parse-netstat port)))
       (dualstack-diagnose-listeners--name
        listeners (delete-dups (delq nil (mapcar (lambda (l) (plist-get l :pid)) listeners)))
        run then)))))

(defun dualstack-diagnose-listeners--name (listeners pids run then)
  "Put the programs that are PIDS into LISTENERS, and call THEN with these.
RUN is as in the commentary."
  (if (null pids)
      (funcall then listeners)
    (dualstack-diagnose-listeners--command
     run (dualstack-diagnose-listeners--system "tasklist.exe")
     (list "/FO" "CSV" "/NH" "/FI" (format "PID eq %d" (car pids)))
     (lambda ()
       (let ((program (dualstack-diagnose-listeners--parse-tasklist (car pids))))
         (dolist (listener listeners)
           (when (equal (plist-get listener :pid) (car pids))
             (plist-put listener :program program))))
       (dualstack-diagnose-listeners--name listeners (cdr pids) run then)))))

(defun dualstack-diagnose-listeners--parse-netstat (port)
  "Return who listens at PORT by the current buffer, what `netstat -ano' prints."
  (let (found)
    (while (re-search-forward
            (format "^ *TCP +\\(?:\\[\\([^]%%]*\\)[^]]*\\]\\|\\([0-9.]+\\)\\):%d +[^ ]+:0 [^0-9\r\n]*\\([0-9]+\\)?[ \r]*$"
                    port)
            nil t)
      (push (dualstack-diagnose-listeners--make
             (if (match-string 1) 'ipv6 'ipv4)
             (or (match-string 1) (match-string 2))
             (and (match-string 3) (string-to-number (match-string 3))) nil)
            found))
    (nreverse found)))

(defun dualstack-diagnose-listeners--parse-tasklist (pid)
  "Return the program of PID by the current buffer, what `tasklist /FO CSV' prints."
  (and (re-search-forward (format "^\"\\([^\"\n]+\\)\",\"%d\"," pid) nil t)
       (match-string 1)))

(defun dualstack-diagnose-listeners--excluded (port run then)
  "Call THEN with the range, kept by Windows, that PORT is in.
That is a cons of the first and the last port, or nil.  RUN is as in the
commentary."
  (dualstack-diagnose-listeners--command
   run (dualstack-diagnose-listeners--system "netsh.exe")
   '("interface" "ipv4" "show" "excludedportrange" "protocol=tcp")
   (lambda () (funcall then (dualstack-diagnose-listeners--parse-netsh port)))))

(defun dualstack-diagnose-listeners--parse-netsh (port)
  "Return the range that PORT is in by the current buffer, what netsh prints."
  (let (found)
    (while (and (not found)
                (re-search-forward "^ *\\([0-9]+\\) +\\([0-9]+\\)[ *\r]*$" nil t))
      (let ((first (string-to-number (match-string 1)))
            (last (string-to-number (match-string 2))))
        (when (<= first port last)
          (setq found (cons first last)))))
    found))

;;;; lsof

(defun dualstack-diagnose-listeners--parse-lsof ()
  "Return the listeners in the current buffer, the output of lsof -Fpcnt."
  (let (pid program family found)
    (while (not (eobp))
      (let ((text (buffer-substring (min (1+ (point)) (line-end-position))
                                    (line-end-position))))
        (pcase (char-after)
          (?p (setq pid (string-to-number text)))
          (?c (setq program text))
          (?f (setq family nil))
          (?t (setq family (if (equal text "IPv6") 'ipv6 'ipv4)))
          (?n (when (string-match "\\`\\(?:\\[\\(.*\\)\\]\\|\\([^:]*\\)\\):[0-9]+\\'" text)
                (push (dualstack-diagnose-listeners--make
                       (or family (if (match-string 1 text) 'ipv6 'ipv4))
                       (or (match-string 1 text) (match-string 2 text)) pid program)
                      found)))))
      (forward-line))
    (nreverse found)))

;;;; /proc

(defconst dualstack-diagnose-listeners--row
  (concat "^ *[0-9]+: \\([0-9A-F]+\\):%04X [0-9A-F:]+ 0A"
          ;; Queues, timer and retransmissions; user, timeout, inode.
          " +[^ ]+ +[^ ]+ +[^ ]+ +\\([0-9]+\\) +[^ ]+ +\\([0-9]+\\)")
  "Format of a regexp for a listener at a port in /proc/net/tcp.")

(defun dualstack-diagnose-listeners--proc (port)
  "Return the listeners at PORT, from /proc of GNU/Linux."
  (let* ((default-directory (dualstack-diagnose-listeners--directory))
         (rows (append (dualstack-diagnose-listeners--rows "/proc/net/tcp" port)
                       (dualstack-diagnose-listeners--rows "/proc/net/tcp6" port))))
    (when rows
      (let ((owners (dualstack-diagnose-listeners--owners (mapcar #'caddr rows))))
        (mapcar (pcase-lambda (`(,address ,uid ,inode))
                  (let ((pid (cdr (assoc inode owners))))
                    (dualstack-diagnose-listeners--make
                     (if (string-match-p ":" address) 'ipv6 'ipv4) address pid
                     (and pid (alist-get 'comm (process-attributes pid)))
                     (and (not pid) (/= uid (user-uid))))))
                rows)))))

(defun dualstack-diagnose-listeners--rows (file port)
  "Return the listeners at PORT in FILE, lists of address, user and inode."
  (with-temp-buffer
    (ignore-errors (insert-file-contents file))
    (goto-char (point-min))
    (let ((row (format dualstack-diagnose-listeners--row port))
          found)
      (while (re-search-forward row nil t)
        (push (list (dualstack-diagnose-listeners--proc-address (match-string 1))
                    (string-to-number (match-string 2))
                    (match-string 3))
              found))
      (nreverse found))))

(defun dualstack-diagnose-listeners--proc-address (digits)
  "Return the address that DIGITS are in /proc/net/tcp, words in host order.
An IPv4 address in IPv6's clothes, as Java has them, is an IPv4 address."
  (let* ((bytes (cl-loop for i from 0 below (length digits) by 2
                         collect (string-to-number (substring digits i (+ i 2)) 16)))
         (bytes (cl-loop for word on bytes by #'cddddr
                         append (reverse (seq-take word 4)))))
    (if (or (= (length bytes) 4)
            (equal (butlast bytes 4) '(0 0 0 0 0 0 0 0 0 0 255 255)))
        (mapconcat #'number-to-string (last bytes 4) ".")
      (let ((parts (cl-loop for (high low) on bytes by #'cddr
                            collect (+ (* 256 high) low))))
        (cond ((cl-every #'zerop parts) "::")
              ((equal parts '(0 0 0 0 0 0 0 1)) "::1")
              (t (mapconcat (lambda (part) (format "%x" part)) parts ":")))))))

(defun dualstack-diagnose-listeners--owners (inodes)
  "Return an alist of those of INODES, strings, that a process has open, and pids."
  (let ((names (mapcar (lambda (inode) (cons (format "socket:[%s]" inode) inode)) inodes))
        (found nil))
    (dolist (pid (list-system-processes))
      (dolist (file (ignore-errors (directory-files (format "/proc/%d/fd" pid) t "\\`[0-9]" t)))
        (let ((inode (cdr (assoc (file-symlink-p file) names))))
          (when inode
            (push (cons inode pid) found)))))
    found))

(provide 'dualstack-diagnose-listeners)

;;; dualstack-diagnose-listeners.el ends here
