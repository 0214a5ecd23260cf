;;; dualstack-diagnose-listeners-test.el --- Tests of what the system is asked  -*- lexical-binding: t; -*-

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

;; Programs of the system, names that it resolves, and what each system prints.

;;; Code:

(require 'dualstack-diagnose-helper)

(dualstack-deftest dualstack-diagnose-looks-names-up-aside ()
  "A name is looked up by a child, which is gone when that is given up."
  (let* ((result nil)
         (before (length (process-list)))
         (cancel (dualstack-diagnose--probe "no-such-host.invalid" 80
                                           (lambda (facts) (setq result facts)))))
    (should-not result)
    (should (= (1+ before) (length (process-list))))
    (funcall cancel)
    (dualstack-test-wait (lambda () (= before (length (process-list)))))
    (should-not result)))

(defun dualstack-diagnose-test-printed (text function &rest args)
  "Return the value of FUNCTION with ARGS in a buffer with TEXT."
  (with-temp-buffer
    (insert text)
    (goto-char (point-min))
    (apply function args)))

(dualstack-deftest dualstack-diagnose-netstat ()
  "Windows' netstat is read, both families, in any language."
  (should (equal (dualstack-diagnose-test-printed "
Aktive Verbindungen

  Proto  Lokale Adresse         Remoteadresse          Status           PID
  TCP    0.0.0.0:8080           0.0.0.0:0              ABHÖREN         4711
  TCP    127.0.0.1:18080        0.0.0.0:0              ABHÖREN         1
  TCP    127.0.0.1:8080         127.0.0.1:50000        HERGESTELLT     2
  TCP    [::1]:8080             [::]:0                 ABHÖREN         4712\r
  UDP    0.0.0.0:8080           *:*                                    4713
" #'dualstack-diagnose-listeners--parse-netstat 8080)
                 '((:family ipv4 :address "0.0.0.0" :any t :pid 4711 :program nil)
                   (:family ipv6 :address "::1" :any nil :pid 4712 :program nil))))
  ;; Chinese; an address with its zone, and a state of two words.
  (should (equal (dualstack-diagnose-test-printed "
活动连接\r

  协议  本地地址          外部地址        状态           PID\r
  TCP    127.0.0.1:8080         0.0.0.0:0              LISTENING       5820\r
  TCP    127.0.0.1:50010        127.0.0.1:8080         ESTABLISHED     9128\r
  TCP    [::]:8080              [::]:0                 EN ÉCOUTE       1044\r
  TCP    [fe80::1c5b:9d2%5]:8080  [::]:0               LISTENING       1045\r
" #'dualstack-diagnose-listeners--parse-netstat 8080)
                 '((:family ipv4 :address "127.0.0.1" :any nil :pid 5820 :program nil)
                   (:family ipv6 :address "::" :any t :pid 1044 :program nil)
                   (:family ipv6 :address "fe80::1c5b:9d2" :any nil :pid 1045 :program nil)))))

(dualstack-deftest dualstack-diagnose-netstat-in-code-pages ()
  "What netstat and tasklist print is read, whatever its code page is taken for."
  (pcase-dolist (`(,page ,title ,state ,nothing)
                 '((cp850 "Aktive Verbindungen" "ABHÖREN" "INFORMATION: Es werden keine Aufgaben")
                   (cp850 "Connexions actives" "À L'ÉCOUTE" "Information : aucune tâche en cours")
                   (cp936 "活动连接" "侦听" "信息: 没有运行的任务匹配指定标准。")
                   (cp932 "アクティブな接続" "待ち受け" "情報: 指定された条件に一致するタスクは")))
    (dolist (taken-for (list page 'utf-8 'windows-1252 'cp936))
      (cl-flet ((printed (text function &rest args)
                  (apply #'dualstack-diagnose-test-printed
                         (decode-coding-string (encode-coding-string text page) taken-for)
                         function args)))
        (should (equal (printed (concat "\r\n" title "\r\n\r\n"
                                        "  TCP    127.0.0.1:8080         0.0.0.0:0              "
                                        state "         5820\r\n"
                                        "  TCP    [::1]:8080             [::]:0                 "
                                        state "         44\r\n")
                                #'dualstack-diagnose-listeners--parse-netstat 8080)
                       '((:family ipv4 :address "127.0.0.1" :any nil :pid 5820 :program nil)
                         (:family ipv6 :address "::1" :any nil :pid 44 :program nil))))
        (should (equal "a b.exe"
                       (printed (format "\"a b.exe\",\"5820\",\"%s\",\"1\",\"18.332 K\"\r\n" title)
                                #'dualstack-diagnose-listeners--parse-tasklist 5820)))
        (should-not (printed (concat nothing "\r\n")
                             #'dualstack-diagnose-listeners--parse-tasklist 5820))))))

(dualstack-deftest dualstack-diagnose-netstat-of-wine ()
  "What Wine prints, as it was captured, has no process; that is no hindrance."
  (should (equal (dualstack-diagnose-test-printed "\r
Active Connections\r
\r
  Proto  Local Address          Foreign Address        State\r
  TCP    127.0.0.1:33001        127.0.0.1:47452        TIME_WAIT\r
  TCP    127.0.0.1:38201        0.0.0.0:0              LISTENING\r
  TCP    127.0.0.1:38201        127.0.0.1:42501        ESTABLISHED\r
" #'dualstack-diagnose-listeners--parse-netstat 38201)
                 '((:family ipv4 :address "127.0.0.1" :any nil :pid nil :program nil)))))

(dualstack-deftest dualstack-diagnose-tasklist ()
  "Windows' tasklist is read, and that it has found nothing."
  (should (equal "python.exe"
                 (dualstack-diagnose-test-printed
                  "\"python.exe\",\"5820\",\"Console\",\"1\",\"18,332 K\"\r\n"
                  #'dualstack-diagnose-listeners--parse-tasklist 5820)))
  (should-not (dualstack-diagnose-test-printed
               "信息: 没有运行的任务匹配指定标准。\r\n"
               #'dualstack-diagnose-listeners--parse-tasklist 5820)))

(dualstack-deftest dualstack-diagnose-netsh ()
  "The ports that Windows keeps are read."
  (let ((text "
协议 tcp 端口排除范围

开始端口    结束端口
----------    --------
      5357        5357
     50000       50059     *
     54364       54463

* - 管理的端口排除。
"))
    (pcase-dolist (`(,port ,range) '((5357 (5357 . 5357)) (5358 nil) (50059 (50000 . 50059))
                                     (54463 (54364 . 54463)) (54464 nil)))
      (should (equal range (dualstack-diagnose-test-printed
                            text #'dualstack-diagnose-listeners--parse-netsh port))))))

(dualstack-deftest dualstack-diagnose-lsof ()
  "The output of lsof is read, with and without the type of each socket."
  (should (equal (dualstack-diagnose-test-printed
                  "p123\ncnode\nf20\nn[::1]:8080\nf21\nn*:8080\np124\ncPython\nf3\nn127.0.0.1:8080\n"
                  #'dualstack-diagnose-listeners--parse-lsof)
                 '((:family ipv6 :address "::1" :any nil :pid 123 :program "node")
                   (:family ipv4 :address "*" :any t :pid 123 :program "node")
                   (:family ipv4 :address "127.0.0.1" :any nil :pid 124 :program "Python"))))
  (should (equal (dualstack-diagnose-test-printed
                  "p123\ncnode\nf20\ntIPv6\nn*:8080\n"
                  #'dualstack-diagnose-listeners--parse-lsof)
                 '((:family ipv6 :address "*" :any t :pid 123 :program "node")))))

(dualstack-deftest dualstack-diagnose-proc ()
  "What GNU/Linux has in /proc is read: Java's IPv4 addresses, too."
  (should (equal "127.0.0.1" (dualstack-diagnose-listeners--proc-address "0100007F")))
  (should (equal "::1" (dualstack-diagnose-listeners--proc-address
                        "00000000000000000000000001000000")))
  (should (equal "127.0.0.1" (dualstack-diagnose-listeners--proc-address
                              "0000000000000000FFFF00000100007F"))))

(dualstack-deftest dualstack-diagnose-from-any-directory ()
  "The system is asked where the buffer's directory is gone, or another machine's.
Nor need the user have a home."
  (dualstack-test-with-servers ((server 'ipv4))
    (let* ((asked nil)
           (file-name-handler-alist
            (cons (cons "\\`/elsewhere:" (lambda (operation &rest args)
                                           (push operation asked)
                                           (pcase operation
                                             ('expand-file-name (car args))
                                             (_ nil))))
                  file-name-handler-alist))
           (process-environment (cons "HOME=/no/home" process-environment))
           (gone (file-name-as-directory (make-temp-file "gone" t))))
      (delete-directory gone)
      (dolist (directory (list gone "/elsewhere:/tmp/"))
        (let ((default-directory directory)
              (listeners 'unknown)
              (printed nil))
          (dualstack-diagnose--listeners (dualstack-test-port server) (list nil)
                                         (lambda (found) (setq listeners found)))
          (dualstack-diagnose-listeners--command
           (list nil) (dualstack-test-emacs-program) '("--version")
           (lambda () (setq printed (buffer-string))))
          (dualstack-test-wait (lambda () (and printed (listp listeners))))
          (should (string-prefix-p "GNU Emacs" printed))
          (when (eq system-type 'gnu/linux)
            (should (equal (emacs-pid) (plist-get (car listeners) :pid))))))
      (should-not (seq-intersection '(list-system-processes process-attributes process-file
                                      make-process)
                                    asked)))))

(dualstack-deftest dualstack-diagnose-a-program-that-hangs ()
  "A program of the system that does not end is not waited for; none is as good."
  (let ((dualstack-diagnose-listeners--timeout 0.2)
        (run (list nil))
        (text nil))
    (dualstack-diagnose-listeners--command
     run dualstack-test-python '("-c" "print('part', flush=True); input()")
     (lambda () (setq text (buffer-string))))
    (should (car run))
    (dualstack-test-wait (lambda () text))
    (should-not (car run))
    (setq text nil)
    (dualstack-diagnose-listeners--command run "no-such-program" nil
                                          (lambda () (setq text (buffer-string))))
    (should (equal text ""))))

(provide 'dualstack-diagnose-listeners-test)

;;; dualstack-diagnose-listeners-test.el ends here
