;;; dualstack-epc-scan.el --- Let nothing but data be read  -*- lexical-binding: t; -*-

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

;; Emacs's reader makes what it reads.  A string with text properties runs
;; code when it is shown, a hash table may ask for gigabytes, brackets or
;; quotes exhaust the stack, and symbols stay for good.  So a text that a
;; peer has sent is looked through before it is read:
;;
;; 1. `dualstack-epc-scan--short-p' lets short texts pass that have none of
;;    the characters in question outside strings.
;; 2. Otherwise `parse-partial-sexp' skips strings and counts brackets at the
;;    speed of C.  For it the characters #, ', `, comma, ? and ; begin
;;    comments, at which it stops; `dualstack-epc-scan--special' looks at them.
;; 3. It also stops where nothing is, every few thousand bytes, at places that
;;    a peer cannot foresee.  If a few of them are in symbols that Emacs does
;;    not have, all are counted.  How many of them begin an object tells how
;;    many objects there are: they hold Emacs while they are made and, later,
;;    collected.
;; 4. The keys of hash tables are counted, as all that are in one may have one
;;    hash, and be compared with each other.
;;
;; The text is unibyte, in UTF-8.  Where the reader and this disagree about
;; where a string ends, the text is refused: see `dualstack-epc-scan--escapes'.

;;; Code:

(require 'cl-lib)

(define-error 'dualstack-epc--scan-refused "Refused")

(defconst dualstack-epc--scan-depth 1000
  "How deep lists, vectors, hash tables and quotes may be nested.")

(defconst dualstack-epc-scan--symbols 10000
  "How many symbols that Emacs does not have yet a text may bring.")

(defconst dualstack-epc-scan--token 20000
  "Greatest length in bytes of a symbol or number.
Emacs reads integers of up to 19,729 decimal digits, and may take long to
find out that one is longer.")

(defconst dualstack-epc-scan--stops 200000
  "How many quotes a text may have; a hash table counts as four.")

(defconst dualstack-epc-scan--objects 4000000
  "How many objects a text may have, about: samples tell.")

(defconst dualstack-epc-scan--gap 4096
  "How many bytes are between two samples, on average.")

(defconst dualstack-epc-scan--keys 20000
  "How many keys a hash table may have.
The squares of the numbers of several must add up to no more than of one.")

(defconst dualstack-epc-scan--small 2000
  "Bytes of a hash table's data in which there are not many keys.")

(defconst dualstack-epc-scan--between "^\0- \"';()[]#`,"
  "The characters of symbols and numbers, for `skip-chars-forward'.
Of those that end one, only U+00A0 is missing: it is two bytes.")

(defconst dualstack-epc-scan--no-break-space "\302\240"
  "U+00A0 in UTF-8.")

(defconst dualstack-epc-scan--syntax
  (let ((table (make-char-table 'syntax-table '(3))))
    (modify-syntax-entry ?\( "()" table)
    (modify-syntax-entry ?\) ")(" table)
    (modify-syntax-entry ?\[ "(]" table)
    (modify-syntax-entry ?\] ")[" table)
    (modify-syntax-entry ?\" "\"" table)
    (modify-syntax-entry ?\\ "\\" table)
    (dolist (char '(?# ?\' ?` ?, ?? ?\;))
      (modify-syntax-entry char "<" table))
    table)
  "Syntax of S-expressions, in which what must be looked at begins a comment.")

(defconst dualstack-epc-scan--counting-syntax
  (let ((table (copy-syntax-table dualstack-epc-scan--syntax)))
    (modify-syntax-entry '(0 . 32) " " table)
    (modify-syntax-entry #x3fffa0 " " table) ; The byte that ends U+00A0.
    table)
  "The same, in which blanks are not as good as symbols.")

(cl-defstruct (dualstack-epc-scan--state (:constructor dualstack-epc-scan--make)
                                         (:copier nil))
  "How far the scan of a buffer is.
PARSE is what `parse-partial-sexp' goes on from; its first element is the
depth of brackets.  QUOTES is a list of (DEPTH . COUNT), quotes before a
bracket that is open, and EXTRA the sum of their counts.  TABLES has a list
of (DEPTH . START) for the hash tables that are open: the depth round each, and
where its data begin.  KEYS is the sum of the squares of the numbers of keys.
STOPS counts what was looked at, OBJECTS samples that begin an object.
SEEN is a list of symbols that Emacs does not have, or t if all symbols were
counted; NEXT is where to look for one.  OUTGOING is non-nil if the text is of this Emacs."
  (parse (list 0)) quotes (extra 0) tables (keys 0) (stops 0) (objects 0) seen (next 0)
  outgoing)

;;;; Texts

(defun dualstack-epc--scan (payload)
  "Return PAYLOAD, a unibyte string from a peer, as it may be read.
Signal `dualstack-epc--scan-refused' with a reason if it has anything but
numbers, strings without properties, symbols, lists, vectors, quotes and
hash tables, is nested too deep, or brings too many symbols."
  (let ((case-fold-search nil))
    (dualstack-epc-scan--escapes payload)
    (if (dualstack-epc-scan--short-p payload)
        payload
      (dualstack-epc-scan--whole payload nil))))

(defun dualstack-epc--scan-outgoing (payload)
  "Return PAYLOAD, what Emacs has printed, as a peer can read it.
The sizes of hash tables are left out, as peers do not accept them.  Signal
`dualstack-epc--scan-refused' with a reason if it has what cannot cross."
  (let ((case-fold-search nil))
    (dualstack-epc-scan--whole payload t)))

(defun dualstack-epc-scan--whole (payload outgoing)
  "Scan PAYLOAD and return it as it may be read.
OUTGOING is non-nil if it is of this Emacs."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (set-syntax-table dualstack-epc-scan--syntax)
    (insert payload)
    (goto-char (point-min))
    (let ((scan (dualstack-epc-scan--make :outgoing outgoing
                                          :seen (or outgoing
                                                    (< (length payload)
                                                       (* 2 dualstack-epc-scan--symbols))))))
      (while (not (eobp))
        (dualstack-epc-scan--step scan)))
    (if (= (buffer-size) (length payload))
        payload
      (buffer-string))))

(defun dualstack-epc--scan-refuse (format &rest args)
  "Signal that the text is refused for the reason FORMAT with ARGS."
  (signal 'dualstack-epc--scan-refused (list (apply #'format format args))))

(defun dualstack-epc-scan--short-p (payload)
  "Return non-nil if PAYLOAD needs no scan.
It is so if it has up to 100 strings or escapes, and outside strings up to
1,000 bytes, none of which must be looked at."
  (let ((position 0)
        (outside 0)
        (steps 100)
        (clean t))
    (while (and clean position)
      (let ((next (string-match "[\"#'`,?;\\]" payload position)))
        (cl-incf outside (- (or next (length payload)) position))
        (setq clean (and (<= outside dualstack-epc--scan-depth)
                         (> (cl-decf steps) 0)
                         (or (null next) (eq (aref payload next) ?\")))
              position (and clean next (1+ next)))
        ;; The rest of the string.
        (while (and position
                    (setq position (string-match "[\"\\]" payload position))
                    (eq (aref payload position) ?\\))
          (cl-decf steps)
          (setq position (and (> steps 0)
                              (< (+ position 2) (length payload))
                              (+ position 2))
                clean (and position t)))
        (when position
          (cl-incf position))))
    clean))

(defun dualstack-epc-scan--escapes (payload)
  "Refuse PAYLOAD if Emacs and this might disagree about an escape in it.
In \"\\C-\\\"\" the last quote belongs to the escape, and does not end the
string; \"\\N{...}\" loads the names of all characters.  No printer writes
those."
  (let ((start (dualstack-epc--scan-find "\\" payload)))
    ;; What is searched for first is found fast, and rarely there.
    (when (and start
               (setq start (string-match "\\\\[CMSHAN^]" payload start))
               (string-match "\\(?:\\`\\|[^\\]\\)\\(?:\\\\\\\\\\)*\\(\\\\[CMSHAN^]\\)"
                             payload
                             (dualstack-epc-scan--run-start payload start)))
      (dualstack-epc--scan-refuse "the escape %s" (match-string 1 payload)))))

(defun dualstack-epc-scan--run-start (payload position)
  "Return where to search PAYLOAD for what comes before the backslash at POSITION.
That is the character before the first of several backslashes."
  (while (and (> position 0) (eq (aref payload position) ?\\))
    (setq position (1- position)))
  position)

(defun dualstack-epc--scan-find (text payload)
  "Return where TEXT is in PAYLOAD first, or nil."
  (if (fboundp 'string-search)
      (string-search text payload) ; Ten times as fast, new in Emacs 28.
    (string-match-p (regexp-quote text) payload)))

;;;; Steps

(defun dualstack-epc-scan--step (scan)
  "Go on with SCAN to the next place that is looked at."
  (let ((parse (parse-partial-sexp
                (point)
                (dualstack-epc-scan--goal scan)
                (if (dualstack-epc-scan--state-tables scan)
                    (1+ (caar (dualstack-epc-scan--state-tables scan)))
                  (- (1+ dualstack-epc--scan-depth) (dualstack-epc-scan--state-extra scan)))
                nil (dualstack-epc-scan--state-parse scan) t)))
    (setf (dualstack-epc-scan--state-parse scan) parse)
    (dualstack-epc-scan--close-quotes scan (nth 6 parse))
    (dualstack-epc-scan--check-depth scan 0)
    (cond ((nth 4 parse)
           (setf (dualstack-epc-scan--state-parse scan) (list (car parse)))
           (dualstack-epc-scan--special scan))
          ((and (dualstack-epc-scan--state-tables scan)
                (= (car parse) (1+ (caar (dualstack-epc-scan--state-tables scan)))))
           (dualstack-epc-scan--end-table scan))
          ((not (nth 3 parse))
           (dualstack-epc-scan--sample scan)))))

(defun dualstack-epc-scan--goal (scan)
  "Return the position up to which SCAN may go without a look.
In a hash table it cannot stop at the greatest depth, so it must not get
there."
  (when (>= (point) (dualstack-epc-scan--state-next scan))
    (setf (dualstack-epc-scan--state-next scan)
          (+ (point) (/ dualstack-epc-scan--gap 2) (random dualstack-epc-scan--gap))))
  (min (point-max)
       (dualstack-epc-scan--state-next scan)
       (if (dualstack-epc-scan--state-tables scan)
           (+ (point)
              (max 64 (- dualstack-epc--scan-depth (dualstack-epc-scan--depth scan))))
         (point-max))))

(defun dualstack-epc-scan--depth (scan)
  "Return how deep SCAN is in brackets and quotes."
  (+ (car (dualstack-epc-scan--state-parse scan)) (dualstack-epc-scan--state-extra scan)))

(defun dualstack-epc-scan--check-depth (scan more)
  "Refuse the text if SCAN is too deep with MORE quotes."
  (when (> (+ (dualstack-epc-scan--depth scan) more) dualstack-epc--scan-depth)
    (dualstack-epc--scan-refuse "lists nested deeper than %d" dualstack-epc--scan-depth)))

(defun dualstack-epc-scan--close-quotes (scan depth)
  "Note in SCAN that brackets have been closed down to DEPTH."
  (while (and (dualstack-epc-scan--state-quotes scan)
              (<= depth (caar (dualstack-epc-scan--state-quotes scan))))
    (cl-decf (dualstack-epc-scan--state-extra scan)
             (cdr (pop (dualstack-epc-scan--state-quotes scan))))))

(defun dualstack-epc-scan--special (scan)
  "Look at the character before point, at which SCAN has stopped."
  (when (> (cl-incf (dualstack-epc-scan--state-stops scan)) dualstack-epc-scan--stops)
    (dualstack-epc--scan-refuse "more than %d quotes and hash tables"
                                dualstack-epc-scan--stops))
  (backward-char)
  (pcase (following-char)
    (?\; (dualstack-epc--scan-refuse "a comment"))
    (?? (unless (dualstack-epc-scan--in-symbol-p)
          (dualstack-epc--scan-refuse "a character"))
        (forward-char))
    (_ (dualstack-epc-scan--prefixes scan))))

(defun dualstack-epc-scan--in-symbol-p ()
  "Return non-nil if point is within a symbol or number."
  (let* ((last (char-before))
         (before (and last (char-before (1- (point))))))
    (cond ((null before) nil)
          ((dualstack-epc-scan--escaped-p (1- (point))) t)
          ;; U+00A0 is a space.
          ((and (eq before #xc2) (eq last #xa0))
           (dualstack-epc-scan--escaped-p (- (point) 2)))
          ;; A dot that stands alone is no symbol, also before a question mark.
          ((eq last ?.) (dualstack-epc-scan--constituent-p before))
          (t (or (dualstack-epc-scan--constituent-p last) (>= last 128))))))

(defun dualstack-epc-scan--constituent-p (char)
  "Return non-nil if the ASCII character CHAR can be in a symbol."
  (and (< 32 char 128)
       (not (memq char '(?\" ?' ?\; ?\( ?\) ?\[ ?\] ?# ?` ?,)))))

(defun dualstack-epc-scan--escaped-p (position)
  "Return non-nil if an odd number of backslashes is before POSITION."
  (save-excursion
    (goto-char position)
    (cl-oddp (skip-chars-backward "\\\\"))))

(defun dualstack-epc-scan--prefixes (scan)
  "Take the quotes at point, and the bracket or # after them, for SCAN."
  (let ((count 0))
    (while (looking-at "[`',]\\|#'")
      (goto-char (match-end 0))
      (dualstack-epc-scan--check-depth scan (cl-incf count))
      (when (eq (char-before) ?,)
        (skip-chars-forward "@" (1+ (point))))
      (skip-chars-forward "\0- \302\240"))
    (cond ((eq (following-char) ??)
           (dualstack-epc--scan-refuse "a character"))
          ((looking-at "[([]")
           (dualstack-epc-scan--open scan count))
          ((eq (following-char) ?#)
           (dualstack-epc-scan--hash scan count)))))

(defun dualstack-epc-scan--open (scan count)
  "Go into the bracket at point, which COUNT quotes precede, with SCAN."
  (let ((depth (car (dualstack-epc-scan--state-parse scan))))
    (when (> count 0)
      (push (cons depth count) (dualstack-epc-scan--state-quotes scan))
      (cl-incf (dualstack-epc-scan--state-extra scan) count))
    (setf (dualstack-epc-scan--state-parse scan) (list (1+ depth)))
    (forward-char)
    (dualstack-epc-scan--check-depth scan 0)))

;;;; The character #

(defun dualstack-epc-scan--hash (scan count)
  "Take what begins with the # at point, which COUNT quotes precede, for SCAN."
  ;; Whatever else comes right after them might be the beginning of a character.
  (cond ((looking-at "##\\(?:[])\0- ]\\|\\'\\)")
         (forward-char 2))
        ((looking-at "#\\(?:[xXoObB]\\|[0-9][0-9]?r\\)[-+]?[0-9a-zA-Z]+\\(?:[])\0- ]\\|\\'\\)")
         (skip-chars-forward "^])\0- ")
         (when (> (- (point) (match-beginning 0)) dualstack-epc-scan--token)
           (dualstack-epc-scan--refuse-token)))
        ((looking-at "#s(hash-table[ \n)]")
         (dualstack-epc-scan--table scan count))
        (t
         (dualstack-epc--scan-refuse
          "%s"
          (pcase (char-after (1+ (point)))
            (?\( "a string with text properties")
            (?s "a record")
            (?< "an object that cannot be read")
            (?\[ "a function")
            (?& "a bool-vector")
            (?^ "a char-table")
            (?: "an uninterned symbol")
            ((pred (lambda (char) (and char (<= ?0 char ?9)))) "a circular list, or a label")
            (char (format "#%s" (if char (string char) ""))))))))

(defun dualstack-epc-scan--table (scan count)
  "Go into the hash table at point, which COUNT quotes precede, with SCAN.
A table may have a test and data, in this order, for its reader takes the
first of each."
  ;; It takes longer than a quote.
  (cl-incf (dualstack-epc-scan--state-stops scan) 3)
  (when (or (dualstack-epc-scan--state-outgoing scan) (< emacs-major-version 30))
    (dualstack-epc-scan--set-size (dualstack-epc-scan--state-outgoing scan)))
  (unless (looking-at "#s(hash-table\\(?:[ \n]+size 1\\)?\\(?:[ \n]+test[ \n]+\\(?:eql\\|equal\\|eq\\)\\)?[ \n]*\\(?:\\([ \n]data[ \n]*(\\)\\|)\\)")
    (dualstack-epc--scan-refuse "a hash table with more than data and the test eq, eql or equal"))
  (let ((depth (car (dualstack-epc-scan--state-parse scan)))
        (end (match-end 0))
        (data (match-end 1)))
    (when data
      (forward-char 2)
      (dualstack-epc-scan--open scan count)
      (push (cons depth end) (dualstack-epc-scan--state-tables scan))
      (goto-char (1- data))
      (dualstack-epc-scan--open scan 0))
    (goto-char end)))

(defun dualstack-epc-scan--set-size (outgoing)
  "Change how large the hash table at point will be made.
If OUTGOING, that is not said.  Otherwise it is 1, as tables grow: before
Emacs 30 even an empty one is made with 65 places."
  (save-excursion
    (looking-at "#s(hash-table")
    (goto-char (match-end 0))
    (if (not outgoing)
        (unless (looking-at "[ \n]+size")
          (insert " size 1"))
      (while (looking-at "[ \n]\\(?:\\(?:rehash-\\)?size\\|rehash-threshold\\) [0-9.e+]+\\| \\(test\\) ")
        (if (match-beginning 1)
            (progn (goto-char (match-end 0))
                   (skip-chars-forward dualstack-epc-scan--between))
          (delete-region (match-beginning 0) (match-end 0)))))))

(defun dualstack-epc-scan--end-table (scan)
  "Leave the hash table of SCAN whose data end at point."
  (unless (looking-at "[ \n]*)")
    (dualstack-epc--scan-refuse "a hash table with more than a test and data"))
  (pcase-let ((`(,depth . ,start) (pop (dualstack-epc-scan--state-tables scan))))
    (unless (dualstack-epc-scan--state-outgoing scan)
      (dualstack-epc-scan--count-keys scan start (1- (point))))
    (goto-char (match-end 0))
    (setf (dualstack-epc-scan--state-parse scan) (list depth))
    (dualstack-epc-scan--close-quotes scan depth)))

(defun dualstack-epc-scan--count-keys (scan start end)
  "Count the keys of the hash table of SCAN with data from START to END."
  (when (> (- end start) dualstack-epc-scan--small)
    (save-match-data
      (let ((count 0)
            (most (1+ (* 2 dualstack-epc-scan--keys))))
        (with-syntax-table dualstack-epc-scan--counting-syntax
          (while (and (< count most)
                      (setq start (ignore-errors (scan-sexps start 1)))
                      (<= start end))
            (cl-incf count)))
        (cl-incf (dualstack-epc-scan--state-keys scan) (expt (/ (1+ count) 2) 2))
        (when (> (dualstack-epc-scan--state-keys scan) (expt dualstack-epc-scan--keys 2))
          (dualstack-epc--scan-refuse "hash tables with more than %d keys: a list has no limit"
                                      dualstack-epc-scan--keys))))))

;;;; Objects

(defun dualstack-epc-scan--count-object (scan)
  "Count the object that begins at point, if one does, as a sample for SCAN.
A float counts as three: Emacs takes seconds to free a million of them."
  (when (and (= (point) (dualstack-epc-scan--state-next scan))
             (dualstack-epc-scan--object-p (char-before) (following-char))
             (not (looking-at "\\.[ \n]")) ; That of a pair.
             (> (* dualstack-epc-scan--gap
                   (cl-incf (dualstack-epc-scan--state-objects scan)
                            (if (looking-at "[-+]?[0-9]*\\(?:\\.[0-9]\\|[0-9]e\\)") 3 1)))
                dualstack-epc-scan--objects))
    (dualstack-epc--scan-refuse "more than %d objects" dualstack-epc-scan--objects)))

(defun dualstack-epc-scan--object-p (before after)
  "Return non-nil if an object begins between the characters BEFORE and AFTER."
  (or (memq after '(?\( ?\[ ?\"))
      (and (> after 32)
           (not (memq after '(?\) ?\])))
           ;; The last byte of U+00A0 may be that of a letter, too: rarely.
           (or (<= before 32) (memq before '(?\( ?\) ?\[ ?\] ?\" ?\' #xa0))))))

;;;; Symbols

(defun dualstack-epc-scan--refuse-token ()
  "Signal that a symbol or number is too long."
  (dualstack-epc--scan-refuse "a symbol or number of more than %d bytes"
                              dualstack-epc-scan--token))

(defun dualstack-epc-scan--sample (scan)
  "Look at the symbol or number round point for SCAN."
  (unless (dualstack-epc-scan--state-outgoing scan)
    (dualstack-epc-scan--count-object scan))
  (unless (eq (dualstack-epc-scan--state-seen scan) t)
    (let* ((reach (1+ dualstack-epc-scan--token))
           (start (save-excursion
                    (skip-chars-backward dualstack-epc-scan--between
                                         (max (point-min) (- (point) reach)))
                    (point)))
           (end (save-excursion
                  (skip-chars-forward dualstack-epc-scan--between
                                      (min (point-max) (+ (point) reach)))
                  (point)))
           (token (buffer-substring start end)))
      (when (> (length token) dualstack-epc-scan--token)
        (dualstack-epc-scan--refuse-token))
      (when (dualstack-epc-scan--new-symbol-p token)
        (cl-pushnew token (dualstack-epc-scan--state-seen scan) :test #'equal)
        (when (nthcdr 2 (dualstack-epc-scan--state-seen scan))
          (dualstack-epc-scan--count-symbols)
          (setf (dualstack-epc-scan--state-seen scan) t))))))

(defun dualstack-epc-scan--new-symbol-p (token)
  "Return non-nil if Emacs has no symbol that is written as TOKEN."
  (not (or (string-match-p
            "\\`[-+]?[0-9]*\\.?[0-9]*\\(?:e[-+]?\\(?:[0-9]+\\|INF\\|NaN\\)\\)?\\'" token)
           (intern-soft (decode-coding-string
                         (replace-regexp-in-string "\\\\\\(.\\)" "\\1" token)
                         'utf-8-unix)))))

(defun dualstack-epc-scan--count-symbols ()
  "Refuse the text in this buffer if too many of its symbols are new."
  (let ((seen (make-hash-table :test #'equal))
        (new 0))
    (save-excursion
      (goto-char (point-min))
      (while (not (eobp))
        (let ((start (point)))
          (cond ((> (skip-chars-forward "\0- ';()[]#`,") 0))
                ((eq (following-char) ?\")
                 (goto-char (or (ignore-errors (scan-sexps start 1)) (point-max))))
                (t
                 (dualstack-epc-scan--skip-token)
                 (unless (eq (char-before start) ?#)
                   (dolist (token (split-string (buffer-substring start (point))
                                                dualstack-epc-scan--no-break-space))
                     (unless (gethash token seen)
                       (puthash token t seen)
                       (when (and (dualstack-epc-scan--new-symbol-p token)
                                  (> (cl-incf new) dualstack-epc-scan--symbols))
                         (dualstack-epc--scan-refuse
                          "more than %d new symbols" dualstack-epc-scan--symbols))))))))))))

(defun dualstack-epc-scan--skip-token ()
  "Go to the end of the symbol or number at point."
  (while (and (> (skip-chars-forward dualstack-epc-scan--between) 0)
              (not (eobp))
              (dualstack-epc-scan--escaped-p (point)))
    (forward-char)))

(provide 'dualstack-epc-scan)

;;; dualstack-epc-scan.el ends here
