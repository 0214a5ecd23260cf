;;; demo.el --- See the freeze and its cure  -*- lexical-binding: t; -*-

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

;; The experiment that the project began with, as a table: servers on IPv4
;; only, on IPv6 only, on both and none at all; clients that Emacs has by
;; itself, and ours.  Run by `make demo'.

;;; Code:

(require 'dualstack)
(require 'dualstack-stream)
(require 'dualstack-sidecar)
(require 'cl-lib)

(defconst dualstack-demo--root
  (expand-file-name "../" (file-name-directory (or load-file-name buffer-file-name)))
  "The repository's root.")

(defvar dualstack-demo--children nil
  "Processes that the demo has started.")

;;;; Servers

(defun dualstack-demo--child (&rest arguments)
  "Run Python with ARGUMENTS and return the process, which has printed a line."
  (let* ((lines 0)
         (child (make-process
                 :name "demo" :noquery t :connection-type 'pipe
                 :command (cons (or (getenv "DUALSTACK_PYTHON") "python3") arguments)
                 :stderr (get-buffer-create " *demo errors*")
                 :filter (lambda (process string)
                           (process-put process 'text
                                        (concat (process-get process 'text) string))
                           (setq lines (+ lines (length (split-string string "\n" t))))
                           (process-put process 'lines lines)))))
    (push child dualstack-demo--children)
    (dualstack-demo--await-lines child 1)
    child))

(defun dualstack-demo--await-lines (child count)
  "Wait until CHILD has printed COUNT lines."
  (let ((deadline (+ (float-time) 20)))
    (while (< (or (process-get child 'lines) 0) count)
      (when (or (> (float-time) deadline) (not (process-live-p child)))
        (error "A server of the demo did not start: %s"
               (with-current-buffer " *demo errors*" (buffer-string))))
      (accept-process-output child 0.05))))

(defun dualstack-demo--end ()
  "End what the demo has started."
  (while dualstack-demo--children
    (let ((child (pop dualstack-demo--children)))
      (set-process-sentinel child #'ignore)
      (delete-process child))))

(defun dualstack-demo--hello (family)
  "Return the port of a new hello server on FAMILY."
  (string-to-number
   (process-get (dualstack-demo--child (expand-file-name "python/src/dualstack_epc"
                                                        dualstack-demo--root)
                                      "hello" "--family" family)
                'text)))

(defun dualstack-demo--stall (family port)
  "Make connecting to PORT of FAMILY stall as on Windows; return the child.
For 0 as PORT one is drawn."
  (dualstack-demo--child (expand-file-name "tests/support/stall.py" dualstack-demo--root)
                         "--family" family "--port" (number-to-string port)))

(defun dualstack-demo--setup (server)
  "Start SERVER, a key of `dualstack-demo--servers'.
Return (PORT . STALLS), the children that make refusals slow."
  (if (equal server "none")
      (dualstack-demo--setup-none)
    (let ((port (dualstack-demo--hello server)))
      (cons port
            (and (eq system-type 'gnu/linux)
                 (pcase server
                   ("ipv4" (list (dualstack-demo--stall "ipv6" port)))
                   ("ipv6" (list (dualstack-demo--stall "ipv4" port)))))))))

(defun dualstack-demo--setup-none ()
  "Return (PORT . STALLS) where nobody listens."
  (if (eq system-type 'gnu/linux)
      (let* ((four (dualstack-demo--stall "ipv4" 0))
             (port (string-to-number (process-get four 'text))))
        (list port four (dualstack-demo--stall "ipv6" port)))
    (prog1 (list (dualstack-demo--hello "dual"))
      (dualstack-demo--end))))

(defun dualstack-demo--ready (stalls)
  "Wait until connecting to what STALLS hold would stall."
  (dolist (stall stalls)
    (let ((lines (process-get stall 'lines)))
      (process-send-string stall "ready?\n")
      (dualstack-demo--await-lines stall (1+ lines)))))

(defconst dualstack-demo--servers
  '(("ipv4" . "IPv4 only") ("ipv6" . "IPv6 only")
    ("dual" . "both (dualstack)") ("none" . "none"))
  "Servers of the demo and what they are called.")

(defun dualstack-demo--fails-on-purpose-p (server client)
  "Return non-nil if CLIENT, the name of one, cannot reach SERVER, a key."
  (or (equal server "none")
      (and (equal server "ipv6")
           (string-match-p "127\\.0\\.0\\.1\\|policy ipv4" client))))

;;;; Clients

(defun dualstack-demo--localhost-has-ipv6 ()
  "Return non-nil if this machine's localhost is ::1 first, as on Windows."
  (eql 9 (length (car (network-lookup-address-info "localhost")))))

(defun dualstack-demo--plain-localhost (port)
  "Connect to PORT of localhost as Emacs does, one address after the other."
  (if (dualstack-demo--localhost-has-ipv6)
      (open-network-stream "demo" nil "localhost" port)
    (condition-case nil
        (open-network-stream "demo" nil "::1" port)
      (file-error (open-network-stream "demo" nil "127.0.0.1" port)))))

(defconst dualstack-demo--clients
  (list (cons "Emacs, \"localhost\"" #'dualstack-demo--plain-localhost)
        (cons "Emacs, \"127.0.0.1\""
              (lambda (port) (open-network-stream "demo" nil "127.0.0.1" port)))
        (cons "dualstack, policy ipv4"
              (lambda (port)
                (let ((dualstack-policy 'ipv4))
                  (dualstack-open-network-stream "demo" nil "localhost" port))))
        (cons "dualstack, policy both"
              (lambda (port)
                (dualstack-open-network-stream "demo" nil "localhost" port))))
  "Names of the demo's clients and the functions that connect to a port.")

(defun dualstack-demo--greet (process)
  "Send something by PROCESS and return the answer, a string."
  (let ((answer ""))
    (set-process-filter process (lambda (_process string)
                                  (setq answer (concat answer string))))
    (process-send-string process "1")
    (let ((deadline (+ (float-time) 5)))
      (while (and (< (length answer) 5) (< (float-time) deadline))
        (accept-process-output process 0.05)))
    (process-send-string process "stop")
    answer))

(defun dualstack-demo--try (connect port)
  "Call CONNECT with PORT; return (MILLISECONDS ADDRESS ANSWER).
ADDRESS is nil if nobody answered."
  (dualstack-forget)
  (garbage-collect)
  (let* ((start (float-time))
         (process (condition-case nil (funcall connect port) (file-error nil)))
         (time (* 1000 (- (float-time) start))))
    (prog1 (list time
                 (and process
                      (dualstack-address-string
                       (let ((address (copy-sequence (process-contact process :remote))))
                         (aset address (1- (length address)) 0)
                         address)))
                 (and process (dualstack-demo--greet process)))
      (when process
        (set-process-sentinel process #'ignore)
        (delete-process process)))))

;;;; The table

(defconst dualstack-demo--row "%-17s %-23s %12s   %-11s %s\n"
  "Format of a row: server, client, time, address, answer.")

(defun dualstack-demo--stalls-p (server client)
  "Return non-nil if CLIENT, one of Emacs's own, meets a slow refusal at SERVER.
They are a name and a key."
  (and (eq system-type 'gnu/linux)
       (string-prefix-p "Emacs," client)
       (or (dualstack-demo--fails-on-purpose-p server client)
           (and (equal server "ipv4") (string-match-p "\"localhost\"" client)))))

(defvar dualstack-demo--surprises 0
  "How many rows were not as they should be.")

(defun dualstack-demo--print-row (server client result)
  "Print a row of the table for SERVER, a key, CLIENT and RESULT."
  (pcase-let* ((`(,time ,address ,answer) result)
               (on-purpose (dualstack-demo--fails-on-purpose-p server client))
               (surprise (or (if on-purpose address (not (equal answer "hello")))
                             (and (dualstack-demo--stalls-p server client) (< time 500)))))
    (when surprise
      (setq dualstack-demo--surprises (1+ dualstack-demo--surprises)))
    (princ (format dualstack-demo--row (cdr (assoc server dualstack-demo--servers)) client
                   (format (if (< time 10) "%.2f ms" "%.0f ms") time)
                   (or address "refused")
                   (cond (surprise (format "%s  UNEXPECTED" (or answer "")))
                         (on-purpose "as it should be")
                         (t answer))))))

(defun dualstack-demo--run ()
  "Print the table and return the times of the first server, by client."
  (princ (format dualstack-demo--row "Server listens on" "Client" "Connected in"
                 "Answered by" "Said"))
  (princ (concat (make-string 80 ?-) "\n"))
  (let (first)
    (dolist (server (mapcar #'car dualstack-demo--servers))
      (pcase-let ((`(,port . ,stalls) (dualstack-demo--setup server)))
        (unwind-protect
            (pcase-dolist (`(,client . ,connect) dualstack-demo--clients)
              (dualstack-demo--ready stalls)
              (let ((result (dualstack-demo--try connect port)))
                (dualstack-demo--print-row server client result)
                (when (equal server "ipv4")
                  (push (car result) first))))
          (dualstack-demo--end))))
    (princ "\nWhere nobody listens at an address that a client tries, it is refused: \"as it should be\".\n")
    (nreverse first)))

;;;; The sidecar

(defun dualstack-demo--sidecar ()
  "Start a sidecar, say hello over each family, stop it, and print all that."
  (let* ((dualstack-python (or (getenv "DUALSTACK_PYTHON") "python3"))
         (start (float-time))
         (since (lambda () (* 1000 (- (float-time) start))))
         (sidecar (dualstack-sidecar-start
                   :wait t :modules (list (expand-file-name "tests/demo_steps.py"
                                                            dualstack-demo--root))))
         (pid (process-id (dualstack-sidecar-process sidecar))))
    (princ (format "\nA Python sidecar, process %d, at port %d of both families:\n" pid
                   (dualstack-sidecar-port sidecar)))
    (princ (format "  started, both sides proved by token    %8.2f ms\n" (funcall since)))
    (pcase-dolist (`(,host . ,port) (dualstack-sidecar-addresses sidecar))
      (let ((connection (dualstack-epc-connect
                         host port :token (dualstack-sidecar-token sidecar))))
        (setq start (float-time))
        (princ (format "  %-9s over %-24s %8.2f ms\n"
                       (dualstack-epc-call connection 'hello nil) host (funcall since)))
        (dualstack-epc-close connection)))
    (dualstack-demo--progress (dualstack-sidecar-connection sidecar))
    (setq start (float-time))
    (dualstack-sidecar-stop)
    (while (process-live-p (dualstack-sidecar-process sidecar))
      (accept-process-output nil 0.01))
    (princ (format "  stopped, process %d is %-16s %8.2f ms\n" pid
                   (if (process-attributes pid) "STILL THERE" "gone") (funcall since)))))

(defconst dualstack-demo--patience 20
  "Seconds within which a package must have come from the index.")

(defun dualstack-demo--package ()
  "Run a sidecar with a package from the index, or say that there is none."
  (let* ((directory (file-name-as-directory (make-temp-file "dualstack-demo" t)))
         (dualstack-sidecar-environments-directory directory)
         (dualstack-python (or (getenv "DUALSTACK_PYTHON") "python3"))
         (module (expand-file-name "demo_package.py" directory))
         (start (float-time))
         (outcome nil))
    (write-region "# /// script\n# dependencies = [\"six\"]\n# ///\nimport six\n\n
def version():\n    return six.__version__\n" nil module nil 'silent)
    (dualstack-sidecar-start :name "demo" :modules (list module)
                             :then (lambda (sidecar) (setq outcome sidecar))
                             :else (lambda (err) (setq outcome err)))
    (while (and (not outcome) (< (- (float-time) start) dualstack-demo--patience))
      (accept-process-output nil 0.1))
    (princ (if (dualstack-sidecar-p outcome)
               (format "  with the package six %s from the index %8.2f s\n"
                       (dualstack-epc-call (dualstack-sidecar-connection outcome) 'version nil)
                       (- (float-time) start))
             (format "  a package from the index: not shown, as %s\n"
                     (if outcome
                         "none could be fetched"
                       (format "none came within %d s" dualstack-demo--patience)))))
    (dualstack-sidecar-stop "demo")
    (while (or (get-process "demo environment")
               (process-live-p (dualstack-sidecar-process (dualstack-sidecar-get "demo"))))
      (accept-process-output nil 0.05))
    (delete-directory directory t)))

(defun dualstack-demo--next ()
  "Print what to type next."
  (princ (format "
What to type next:
  1. Put these lines into your init file, and restart Emacs:
       (add-to-list 'load-path %S)
       (require 'dualstack)
       (dualstack-mode 1)
  2. M-x dualstack-diagnose, and the port of a server of yours: what it costs you
  3. M-x dualstack-hello: a Python process of your own, with nothing installed
README.org has the rest; README.zh-CN.org is in Chinese.
"
                 (abbreviate-file-name (expand-file-name "lisp" dualstack-demo--root)))))

(defun dualstack-demo--progress (connection)
  "Show the progress of a call over CONNECTION, and one that is cancelled."
  (princ "  a call that lasts")
  (princ (format "  -> %s\n"
                 (dualstack-epc-call connection 'count '(4)
                                     :progress (lambda (value)
                                                 (princ (format " %d/%d" (car value)
                                                                (cadr value)))))))
  (let ((start (float-time)))
    (ignore-error dualstack-epc-timeout
      (dualstack-epc-call connection 'count '(1000) :timeout 0.1))
    (princ (format "  one that is cancelled after 0.1 s       %8.2f ms\n"
                   (* 1000 (- (float-time) start))))))

(defun dualstack-demo ()
  "Run the demo and end Emacs."
  (princ (format "Emacs %s on %s; every refused connect takes %s.\n\n"
                 emacs-version system-type
                 (if (eq system-type 'gnu/linux)
                     "a second, as on Windows"
                   "as long as this system takes")))
  (let ((times (unwind-protect (dualstack-demo--run)
                 (dualstack-demo--end))))
    (unless (dualstack-demo--localhost-has-ipv6)
      (princ "\nThis machine's localhost has no ::1; \"localhost\" is walked as Emacs would \
where\nit has, by the literals ::1 and then 127.0.0.1.\n"))
    (princ (format "
You have seen Emacs freeze for %.1f s on its way to a server that was there all the
time, and dualstack connect to it in %.2f ms and find a server on either address family.\n"
                   (/ (nth 0 times) 1000) (nth 3 times))))
  (dualstack-demo--sidecar)
  (dualstack-demo--package)
  (unless (zerop dualstack-demo--surprises)
    (princ (format "\n%d rows are not as they should be\n" dualstack-demo--surprises)))
  (dualstack-demo--next)
  (kill-emacs (min 1 dualstack-demo--surprises)))

(provide 'demo)

;;; demo.el ends here
