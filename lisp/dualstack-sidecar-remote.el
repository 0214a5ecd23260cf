;;; dualstack-sidecar-remote.el --- Sidecars on other machines  -*- lexical-binding: t; -*-

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

;; A sidecar runs where TRAMP reaches: over ssh, as another user, in a
;; container.  TRAMP starts the process, and EPC goes over its streams: no port
;; and no protocol of ours crosses the network.
;;
;; 1. Our Python source is copied there as one file, once for each version,
;;    and so are modules that are here, with what they may import.
;; 2. A shell script chooses a Python there that is new enough.
;; 3. The server passes its log on as calls, as its standard error may be the
;;    same stream as its output.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'dualstack-child)
(require 'dualstack-sidecar-direct)
(require 'dualstack-sidecar-pipe)
(require 'dualstack-sidecar-python)
(require 'dualstack-sidecar-tree)
(require 'dualstack-sidecar-zip)

(defconst dualstack-sidecar-remote--cache "~/.cache/dualstack/"
  "The directory on other machines for what is copied there, and environments.")

(defconst dualstack-sidecar-remote--script
  "stty raw -echo 2>/dev/null
wanted=$1; shift
names='python3 python python3.14 python3.13 python3.12 python3.11 python3.10'
code='import sys; print(\"%d.%d\" % sys.version_info[:2])'
run() {
  python=$1; shift
  version=$(\"$python\" -c \"$code\" 2>/dev/null) || return
  case $version in
    3.[1-9][0-9]) exec \"$python\" -X utf8 \"$@\" 2>&1 ;;
  esac
  found=\"$found$python there is Python $version, and 3.10 or later is needed; \"
}
if [ -n \"$wanted\" ]; then
  run \"$wanted\" \"$@\"
else
  for name in $names; do run \"$name\" \"$@\"; done
fi
echo \"dualstack: ${found:-there is no ${wanted:-Python} there; }\"\
'install one, or name one with :python' >&2
exit 127"
  "The script that starts our source on another machine.
Its arguments are a Python, or nothing to choose one, and those of Python.")

(defun dualstack-sidecar-remote--directory (directory)
  "Return the remote directory for a sidecar that was told DIRECTORY, or nil.
DIRECTORY is nil, a name, or `current' for the machine of the current buffer's."
  (cond ((null directory) nil)
        ((eq directory 'current)
         (and (file-remote-p default-directory)
              (concat (file-remote-p default-directory) "~/")))
        ((not (stringp directory))
         (dualstack-sidecar--error "The directory is a string or `current', not %S" directory))
        ((file-remote-p directory) (file-name-as-directory directory))
        (t (dualstack-sidecar--error
            "%s is on this machine; :directory names one of another, such as /ssh:host:~/"
            directory))))

(defun dualstack-sidecar-remote--local (file)
  "Return what FILE, a name here or on another machine, is called there."
  (or (file-remote-p file 'localname) file))

;;;; What is copied

(defvar dualstack-sidecar-remote--archive nil
  "Our Python source as (HASH . BYTES), once it was needed.")

(defun dualstack-sidecar-remote--archive ()
  "Return our Python source as (HASH . BYTES)."
  (or dualstack-sidecar-remote--archive
      (let ((bytes (dualstack-sidecar-zip--archive (dualstack-sidecar-zip--files))))
        (setq dualstack-sidecar-remote--archive (cons (sha1 bytes) bytes)))))

(defun dualstack-sidecar-remote--copy-source (directory)
  "Have our Python source on the machine of DIRECTORY; return its name there."
  (pcase-let ((`(,hash . ,bytes) (dualstack-sidecar-remote--archive)))
    (dualstack-sidecar-remote--copy
     directory (format "dualstack-%s-%s.pyz" dualstack-version (substring hash 0 12)) bytes)))

(defun dualstack-sidecar-remote--copy-module (directory module)
  "Have MODULE on the machine of DIRECTORY, with what it may import.
Return a list of its name there and, unless it was there, words that have our
source unpack it."
  (cond ((not (string-suffix-p ".py" module)) (list module))
        ((file-remote-p module) (list (dualstack-sidecar-remote--local module)))
        (t (let* ((files (dualstack-sidecar-tree--of-module
                          (dualstack-sidecar--full-name module)))
                  (copied (dualstack-sidecar-remote--copy-tree directory files)))
             (cons (concat (car copied) (caar files)) (cdr copied))))))

(defun dualstack-sidecar-remote--copy-path (directory path)
  "Have PATH, where modules are, on the machine of DIRECTORY.
The value is as that of `dualstack-sidecar-remote--copy-module'."
  (if (or (file-remote-p path) (not (file-directory-p path)))
      (list (dualstack-sidecar-remote--local path))
    (dualstack-sidecar-remote--copy-tree
     directory (dualstack-sidecar-tree--files (file-name-as-directory path)))))

(defun dualstack-sidecar-remote--copy-tree (directory files)
  "Have FILES, an alist of names and contents, in the cache of DIRECTORY's machine.
Return the name of their directory there, with a slash, in a list as that of
`dualstack-sidecar-remote--copy-module'."
  (let* ((bytes (dualstack-sidecar-zip--archive files))
         (hash (substring (sha1 bytes) 0 12))
         (there (dualstack-sidecar-remote--cached directory (format "modules/%s/" hash)))
         (name (dualstack-sidecar-remote--local there)))
    (if (file-directory-p there)
        (list name)
      (list name "--unpack"
            (dualstack-sidecar-remote--copy directory (format "modules/%s.zip" hash) bytes)
            (directory-file-name name)))))

(defun dualstack-sidecar-remote--cached (directory name)
  "Return the full name of NAME in the cache on the machine of DIRECTORY."
  (expand-file-name (concat (file-remote-p directory) dualstack-sidecar-remote--cache name)))

(defun dualstack-sidecar-remote--copy (directory name bytes)
  "Have the file NAME with BYTES in the cache on the machine of DIRECTORY.
Return its full name there.  It is there whole, or not at all."
  (let* ((file (dualstack-sidecar-remote--cached directory name))
         (attributes (file-attributes file)))
    (unless (and attributes (= (length bytes) (file-attribute-size attributes)))
      (let ((temporary (concat file (format ".%x" (random most-positive-fixnum))))
            (coding-system-for-write 'no-conversion)
            (write-region-inhibit-fsync t))
        (with-file-modes #o700
          (make-directory (file-name-directory file) t)
          (write-region bytes nil temporary nil 'silent))
        (unless (= (length bytes) (file-attribute-size (file-attributes temporary)))
          (dualstack-sidecar--error "%s was not copied whole: is the disk there full?" file))
        (rename-file temporary file t)))
    (dualstack-sidecar-remote--local file)))

;;;; The process

(defun dualstack-sidecar-remote--command (directory arguments)
  "Return the command line of our source with ARGUMENTS, for DIRECTORY.
It is for Python there.  ARGUMENTS are those for this machine: files of modules
and directories in them are made those of the other."
  (let ((words nil) (unpack nil))
    (while arguments
      (let* ((word (pop arguments))
             (copied (cond ((equal word "--path")
                            (push word words)
                            (dualstack-sidecar-remote--copy-path directory (pop arguments)))
                           (t (dualstack-sidecar-remote--copy-module directory word)))))
        (push (car copied) words)
        (setq unpack (append (cdr copied) unpack))))
    (cons (dualstack-sidecar-remote--copy-source directory)
          (append unpack (nreverse words)))))

(defun dualstack-sidecar-remote--python-words (python arguments)
  "Return the command that has PYTHON, or what is found if nil, run with ARGUMENTS."
  `("sh" "-c" ,dualstack-sidecar-remote--script "dualstack" ,(or python "") ,@arguments))

(defun dualstack-sidecar-remote--own-words (command ready)
  "Return the command that has COMMAND, a list, speak EPC over its streams.
The line with the word READY is printed first, as our server does: a shell may
have greeted before.  What COMMAND writes to standard error is lost, as that may
be the same stream."
  `("sh" "-c" "stty raw -echo 2>/dev/null; ready=$1; shift
command -v \"$1\" >/dev/null || { echo \"dualstack: there is no $1 there\"; exit 127; }
printf '\\n(dualstack-epc 1 :ready \"%s\")\\n' \"$ready\"; exec \"$@\" 2>/dev/null"
    "dualstack" ,ready ,@command))

(defun dualstack-sidecar-remote--make-process (directory command &rest process)
  "Start COMMAND in DIRECTORY, by TRAMP; PROCESS is more for `make-process'."
  (when (dualstack-sidecar-direct--by-windows-p directory)
    (setq command (list "sh" "-c" (dualstack-sidecar-direct--ascii
                                   (concat "exec " (mapconcat #'dualstack-sidecar-direct--quote
                                                              command " "))))))
  (let ((default-directory directory)
        ;; Those of this machine mean nothing there.
        (process-environment (default-toplevel-value 'process-environment)))
    (let ((child (apply #'make-process :command command :connection-type 'pipe :file-handler t
                        process)))
      (process-put child 'dualstack-sidecar--far t)
      child)))

(declare-function tramp-cleanup-connection "tramp-cmds" t t)
(declare-function tramp-dissect-file-name "tramp" t t)
(declare-function tramp-get-connection-process "tramp" t t)

(defun dualstack-sidecar-remote--forget (directory)
  "Close TRAMP's connection to DIRECTORY, which a quit may have left in the middle."
  (ignore-errors
    (let* ((vector (tramp-dissect-file-name directory))
           (process (tramp-get-connection-process vector)))
      (when (and process (eq system-type 'windows-nt))
        (dualstack-child--kill process))
      (tramp-cleanup-connection vector t t))))

(defun dualstack-sidecar-remote--run (directory)
  "Return a function to start the maker of environments in DIRECTORY.
It is called as `dualstack-sidecar-environment--run' is."
  (lambda (arguments &rest process)
    (apply #'dualstack-sidecar-remote--make-process
           directory
           (dualstack-sidecar-remote--python-words
            nil
            (dualstack-sidecar-remote--command
             directory
             (append arguments
                     (list "--root" (concat dualstack-sidecar-remote--cache "environments")))))
           process)))

(provide 'dualstack-sidecar-remote)

;;; dualstack-sidecar-remote.el ends here
