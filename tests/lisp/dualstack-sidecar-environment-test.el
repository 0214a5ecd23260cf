;;; dualstack-sidecar-environment-test.el --- Test environments  -*- lexical-binding: t; -*-

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

;; Environments are made for real, with a wheel that needs no network.  What
;; can go wrong with that is tested in tests/python/test_environments.py; here
;; is what Emacs makes of it.

;;; Code:

(require 'dualstack-sidecar-helper)
(require 'dualstack-sidecar-environments)

(defun dualstack-sidecar-environment-test-module (&rest metadata)
  "Return the file of a module with functions, and with lines of inline METADATA."
  (apply #'dualstack-sidecar-helper-file "a module.py"
         (append (and metadata
                      `("# /// script" ,@(mapcar (lambda (line) (concat "# " line)) metadata)
                        "# ///"))
                 '("import sys" "" "" "def plus(*numbers):" "    import tiny"
                   "    return tiny.add(*numbers)" "" ""
                   "def prefix():" "    return sys.prefix"))))

(defun dualstack-sidecar-environment-test-tree (directory)
  "Return the files below DIRECTORY, but for bytecode, which others write."
  (sort (cl-remove-if (lambda (file) (string-match-p "/__pycache__\\(/\\|\\'\\)" file))
                      (directory-files-recursively directory "" t))
        #'string<))

(defun dualstack-sidecar-environment-test-text (name)
  "Return the text of the buffer of the environment of the sidecar NAME."
  (with-current-buffer (format "*dualstack-environment %s*" name)
    (buffer-string)))

(defun dualstack-sidecar-environment-test-directories ()
  "Return the names of what is in the directory of environments."
  (and (file-directory-p dualstack-sidecar-environments-directory)
       (cl-remove-if (lambda (name) (string-suffix-p ".lock" name))
                     (directory-files dualstack-sidecar-environments-directory nil "\\`[^.]"))))

;;;; Starting in one

(dualstack-sidecar-helper-test dualstack-sidecar-environment-requirements
  "A sidecar with requirements runs where they are, and they are installed once."
  (let* ((source (dualstack-sidecar--source))
         (before (dualstack-sidecar-environment-test-tree source))
         (module (dualstack-sidecar-environment-test-module))
         (keys (list :name "adder" :modules (list module) :wait t
                     :requirements (list (dualstack-sidecar-helper-wheel))))
         (sidecar (apply #'dualstack-sidecar-start keys))
         (prefix (dualstack-sidecar-helper-call sidecar 'prefix)))
    (should (equal (dualstack-sidecar-helper-call sidecar 'plus 1 2) 3))
    (should (string-prefix-p dualstack-sidecar-environments-directory (expand-file-name prefix)))
    (should (string-match-p "Step 2 of 3: installing 1 package"
                            (dualstack-sidecar-environment-test-text "adder")))
    (should (string-match-p "^Ready: " (dualstack-sidecar-environment-test-text "adder")))
    (kill-buffer "*dualstack-environment adder*")
    ;; Again, at once; and in another session, after a look.
    (dualstack-sidecar-restart "adder")
    (setq sidecar (apply #'dualstack-sidecar-start keys))
    (should-not (get-buffer "*dualstack-environment adder*"))
    (clrhash dualstack-sidecar-environment--found)
    (dualstack-sidecar-restart "adder")
    (setq sidecar (apply #'dualstack-sidecar-start keys))
    (should (equal prefix (dualstack-sidecar-helper-call sidecar 'prefix)))
    (should-not (string-match-p "Step" (dualstack-sidecar-environment-test-text "adder")))
    (should (equal before (dualstack-sidecar-environment-test-tree source)))))

(defun dualstack-sidecar-environment-test-url (file)
  "Return the URL of FILE."
  (let ((name (expand-file-name file)))
    (concat "file://" (if (string-prefix-p "/" name) "" "/") name)))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-metadata
  "A module's inline metadata says what it needs; one that has none needs nothing."
  (let* ((wheel (dualstack-sidecar-helper-wheel))
         (sidecar (dualstack-sidecar-start
                   :name "adder" :wait t
                   :modules (list (dualstack-sidecar-environment-test-module
                                   "requires-python = \">=3.10\""
                                   (format "dependencies = [\"tiny @ %s\"]"
                                           (dualstack-sidecar-environment-test-url wheel)))))))
    (should (equal (dualstack-sidecar-helper-call sidecar 'plus 2 3) 5))
    (should-not (dualstack-sidecar-environment--needs
                 (list (dualstack-sidecar-environment-test-module) "json") nil))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-of-ones-own
  "A Python that is named is used as it is."
  (let* ((python (dualstack-sidecar-helper-python
                  "my python" "os.environ['DUALSTACK_MINE'] = 'yes'"))
         (module (dualstack-sidecar-helper-file
                  "m.py" "# /// script" "# dependencies = ['nonesuch']" "# ///"
                  "import os" "" "" "def mine():" "    return os.environ['DUALSTACK_MINE']"))
         (sidecar (dualstack-sidecar-start :name "own" :python python :modules (list module)
                                           :wait t)))
    (should (equal "yes" (dualstack-sidecar-helper-call sidecar 'mine)))
    (should-not (file-exists-p dualstack-sidecar-environments-directory))
    (dualstack-sidecar-restart "own")
    (setq sidecar (dualstack-sidecar-start :name "own" :wait t))
    (should (equal "yes" (dualstack-sidecar-helper-call sidecar 'mine)))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-that-is-damaged
  "An environment whose Python has gone is made again, in the same session too."
  (let* ((keys (list :name "adder" :wait t :requirements (list (dualstack-sidecar-helper-wheel))
                     :modules (list (dualstack-sidecar-environment-test-module))))
         (sidecar (apply #'dualstack-sidecar-start keys))
         (python (car (dualstack-sidecar-command sidecar))))
    (dualstack-sidecar-helper-end sidecar)
    (delete-file python)
    (unless (eq system-type 'windows-nt)
      (make-symbolic-link "/nonexistent/python" python))
    (setq sidecar (apply #'dualstack-sidecar-start keys))
    (should (equal (dualstack-sidecar-helper-call sidecar 'plus 4 5) 9))))

;;;; When it fails

(dualstack-sidecar-helper-test dualstack-sidecar-environment-failure
  "That a requirement cannot be had is told in the error; what runs goes on."
  (let* ((sidecar (dualstack-sidecar-start :wait t))
         (text (dualstack-sidecar-helper-error
                :requirements (list (dualstack-sidecar-helper-file "tiny-1.0-py3-none-any.whl"
                                                                   "no wheel")))))
    (should (string-match-p "\\`wrong: there is no environment: .*failed, with status [0-9]+"
                            text))
    (should (string-match-p "tiny-1.0-py3-none-any.whl" text))
    (should (string-match-p "^\\$ .*install" (dualstack-sidecar-environment-test-text "wrong")))
    (should (eq 'failed (dualstack-sidecar-state (dualstack-sidecar-get "wrong"))))
    (should-not (dualstack-sidecar-environment-test-directories))
    (should (equal "hello" (dualstack-sidecar-helper-call sidecar 'hello)))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-mistakes
  "What makes no sense is an error that says so."
  (dolist (case '((:requirements "rich" "Requirements are a list of strings")
                  (:requirements (rich) "Requirements are a list of strings")
                  (:requirements ("-r x") "'-r x' is no requirement")
                  (:requirements ("") "'' is no requirement")
                  (:modules ("/nonexistent/m.py") "there is no file ")
                  (:modules ("m.py") "depends on the current directory")
                  (:python "/nonexistent/python" "There is no program /nonexistent/python")
                  (:python "nonesuch-python" "There is no program nonesuch-python")
                  (:python "venv/bin/python" "depends on the current directory")))
    (pcase-let ((`(,key ,value ,message) case))
      (should (string-match-p (regexp-quote message)
                              (dualstack-sidecar-helper-error key value))))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-of-no-python
  "That the Python which was named says nothing is told."
  (let ((silent (dualstack-sidecar-helper-python "true" "sys.exit(0)")))
    (should (string-match-p "with status 0; is .*true\\(?:\\.bat\\)? a Python from 3.10 on\\?"
                            (dualstack-sidecar-helper-error :python silent)))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-broken-builder
  "That the child which makes it is killed is told."
  (let ((dualstack-python (dualstack-sidecar-helper-python
                           "python3" "if 'environment' in sys.argv:"
                           "    print('odd', flush=True)"
                           "    os._exit(9)")))
    (should (string-match-p
             "making the environment ended with status 9\nodd"
             (dualstack-sidecar-helper-error :requirements '("six"))))))

(defun dualstack-sidecar-environment-test-with-slow-uv (body)
  "Call BODY with a file that is there once uv, which never ends, has begun."
  (dualstack-sidecar-helper-stay-inside)
  (let* ((begun (expand-file-name "begun" dualstack-sidecar-helper-directory))
         (program (dualstack-sidecar-helper-python
                   "uv" "os.makedirs(sys.argv[-1], exist_ok=True)"
                   (format "open(%S, 'w').close()" begun)
                   "time.sleep(60)"))
         (exec-path (cons (file-name-directory program) exec-path))
         (process-environment
          (cons (concat "PATH=" (file-name-directory program) path-separator (getenv "PATH"))
                process-environment)))
    (funcall body begun)))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-quit
  "C-g while it is made ends that, and leaves nothing half made."
  (dualstack-sidecar-environment-test-with-slow-uv
   (lambda (begun)
     (let (timer)
       (setq timer (run-at-time 0.05 0.05
                                (lambda ()
                                  (when (file-exists-p begun)
                                    (cancel-timer timer)
                                    (setq quit-flag t)))))
       (should (eq 'quit (condition-case nil
                             (dualstack-sidecar-start :name "slow" :requirements '("six") :wait t)
                           (quit 'quit)))))
     (dualstack-test-wait (lambda () (null (get-process "slow environment"))))
     (should-not (dualstack-sidecar-environment-test-directories)))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-stopped
  "A sidecar can be stopped while its environment is made."
  (dualstack-sidecar-environment-test-with-slow-uv
   (lambda (begun)
     (let (failure)
       (dualstack-sidecar-start :name "slow" :requirements '("six") :then #'error
                                :else (lambda (err) (setq failure err)))
       (dualstack-test-wait (lambda () (file-exists-p begun)))
       (should (string-match-p "slow" dualstack-sidecar--mode-line))
       (dualstack-sidecar-stop "slow")
       (dualstack-test-wait (lambda () failure))
       (should (equal failure '(dualstack-sidecar-error "It was stopped")))
       (dualstack-test-wait (lambda () (null (get-process "slow environment"))))
       (should-not (dualstack-sidecar-environment-test-directories))))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-progress
  "Steps and the time are shown in the echo area."
  (let ((job (dualstack-sidecar-environment--make-job :name "a" :begun (- (float-time) 12)
                                                      :buffer nil))
        (noninteractive nil))
    (dualstack-sidecar-environment--read job "(dualstack-environment st")
    (dualstack-sidecar-environment--read job "ep 2 3 \"installing\")\r\nmore")
    (should (equal (current-message) nil))
    (cl-letf* ((shown nil)
               ((symbol-function 'message)
                (lambda (format &rest args) (setq shown (apply #'format format args)))))
      (dualstack-sidecar-environment--show job)
      (should (string-match-p "\\`a: installing (2/3, 1[2-9] s; C-g to quit)\\'" shown)))
    (should (equal "installing (2/3" (dualstack-sidecar-environment--job-step job)))
    (should (equal "more" (dualstack-sidecar-environment--job-rest job)))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-buffer-follows
  "A window that shows the end of a log goes on to do so; one that does not stays."
  (let ((log (dualstack-sidecar--special-buffer "*dualstack-environment x*")))
    (save-window-excursion
      (switch-to-buffer log)
      (dualstack-sidecar--log-append log "one\n")
      (should (= (window-point) (point-max)))
      (dualstack-sidecar--log-append log "two\n")
      (should (= (window-point) (point-max)))
      (goto-char 2)
      (set-window-point nil 2)
      (dualstack-sidecar--log-append log "three\n")
      (should (= (window-point) 2)))))

;;;; The list

(defun dualstack-sidecar-environment-test-list ()
  "Return the rows of the list of environments, once they are there."
  (dualstack-sidecar-environments)
  (dualstack-sidecar-environment-test-rows))

(defun dualstack-sidecar-environment-test-rows ()
  "Return the rows in the buffer of the list, once they are there."
  (with-current-buffer "*dualstack-environments*"
    (dualstack-test-wait (lambda () (null (get-buffer-process (current-buffer)))) 30)
    (dualstack-test-wait (lambda () (null mode-line-process)))
    (mapcar (lambda (entry) (append (cadr entry) nil)) tabulated-list-entries)))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-list
  "Environments are listed with users, size and age, rebuilt, and deleted."
  (should-not (dualstack-sidecar-environment-test-list))
  (let* ((sidecar (dualstack-sidecar-start
                   :name "adder" :wait t :requirements (list (dualstack-sidecar-helper-wheel))))
         (directory (expand-file-name (car (dualstack-sidecar-environment-test-directories))
                                      dualstack-sidecar-environments-directory))
         (record (expand-file-name "dualstack-environment.json" directory))
         (first (file-attribute-modification-time (file-attributes record))))
    (pcase-let ((`((,users ,state ,_python ,size ,age ,requirements))
                 (dualstack-sidecar-environment-test-list)))
      (should (equal (list users state age) '("adder (runs)" "runs" "0 min")))
      (should (string-match-p "\\`[0-9.]+[kM]\\'" size))
      (should (string-match-p "tiny-1.0-py3-none-any.whl\\'" requirements)))
    (with-current-buffer "*dualstack-environments*"
      (goto-char (point-min))
      (dualstack-sidecar-environments-rebuild)
      (dualstack-test-wait
       (lambda () (and (file-exists-p record)
                       (not (equal first (file-attribute-modification-time
                                          (file-attributes record))))))
       30)
      (dualstack-test-wait (lambda () (null (get-process "adder environment"))))
      (dualstack-sidecar-environment-test-rows)
      (goto-char (point-min))
      (cl-letf (((symbol-function 'yes-or-no-p) (lambda (_prompt) t)))
        (dualstack-sidecar-environments-delete))
      (should-not (dualstack-sidecar-environment-test-rows)))
    (should-not (file-exists-p directory))
    (should-not (eq 'running (dualstack-sidecar-state sidecar)))))

(dualstack-sidecar-helper-test dualstack-sidecar-environment-list-anew
  "A list that does not come is given up when it is asked for once more."
  (let* ((begun (expand-file-name "begun" dualstack-sidecar-helper-directory))
         (slow (dualstack-sidecar-helper-python
                "slow" "if 'environment' in sys.argv:"
                (format "    open(%S, 'w').close()" begun)
                "    time.sleep(100)"))
         (start (float-time)))
    (let ((dualstack-python slow))
      (dualstack-sidecar-environments))
    (dualstack-test-wait (lambda () (file-exists-p begun)))
    (should-not (dualstack-sidecar-environment-test-list))
    (should (< (- (float-time) start) 60))))

(provide 'dualstack-sidecar-environment-test)

;;; dualstack-sidecar-environment-test.el ends here
