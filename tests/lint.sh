#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Check the style of the Lisp and the Python; the status is 1 if anything is found.  With --lisp as
# argument Python's is left out.
#
# package-lint and relint come from Debian's archive, through this machine's own apt settings, and are
# kept in .cache.  Where they cannot be had, that is said, and the rest is checked.
set -eu
CDPATH= cd -- "$(dirname -- "$0")/.."
. tests/support/python.sh
emacs=${EMACS:-emacs}
python=${DUALSTACK_PYTHON:-$(venv_python .venv)}
cache=$PWD/.cache/lint
status=0

# Downloads are made in a directory without spaces, which apt does not take.
fetch() {
  [ -e "$cache/done" ] && return
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  mirror=$(sed -n 's/^URIs: *\([^ ]*\/debian\/\?\)$/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\/debian\/\?\) .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list \
    2>/dev/null | head -n 1)
  [ -n "$mirror" ] || return 1
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/list"
  set -- -qq -o Dir::Etc::SourceList="$work/list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User=
  (cd "$work" && apt-get "$@" update &&
    apt-get "$@" download elpa-package-lint elpa-relint elpa-xr elpa-compat &&
    for package in *.deb; do dpkg-deb -x "$package" tree; done) >"$work/log" 2>&1 && [ -d "$work/tree" ] &&
    rm -rf "$cache" && mkdir -p "${cache%/*}" && cp -r "$work/tree" "$cache" && touch "$cache/done"
  fetched=$?
  rm -rf "$work"
  return $fetched
}

# say NAME COMMAND...: print NAME and, if COMMAND fails or says anything, what it says.
say() {
  name=$1
  shift
  if output=$("$@" 2>&1) && [ -z "$output" ]; then
    echo "  $name: clean"
  else
    echo "  $name:"
    echo "$output"
    status=1
  fi
}

# compile FILE...: print what byte-compiling FILEs, together, prints.
compile() {
  directory=$(mktemp -d)
  cp "$@" "$directory"
  "$emacs" -Q --batch -L "$directory" --eval '(setq byte-compile-error-on-warn t)' \
    -f batch-byte-compile "$directory"/*.el
  compiled=$?
  rm -rf "$directory"
  return $compiled
}

# compile_alone FILE...: the same of each FILE by itself, as native compilation does it.
compile_alone() {
  directory=$(mktemp -d)
  cp "$@" "$directory"
  for file in "$directory"/*.el; do
    "$emacs" -Q --batch -L "$directory" --eval '(setq byte-compile-error-on-warn t)' \
      --eval '(setq byte-compile-dest-file-function (lambda (file) (concat file ".alone")))' \
      -f batch-byte-compile "$file" || break
  done
  rm -rf "$directory"
}

say byte-compile compile lisp/*.el tests/lisp/*.el tests/bench/*.el tests/*.el
say 'byte-compile, each alone' compile_alone lisp/*.el
say 'calls without service' "$emacs" -Q --batch -l tests/support/lint.el \
  -f dualstack-lint-service lisp/*.el tests/lisp/*.el tests/bench/*.el tests/*.el
say names "$emacs" -Q --batch -l tests/support/lint-names.el -f dualstack-lint-names
say checkdoc "$emacs" -Q --batch -L lisp -l tests/support/lint.el \
  -f dualstack-lint-checkdoc lisp/*.el tests/lisp/*.el
if "$emacs" -Q --batch --eval '(kill-emacs (if (locate-file "net/puny" load-path (list ".el" ".el.gz")) 0 1))'; then
  say check-declare "$emacs" -Q --batch -L lisp -l tests/support/lint.el -f dualstack-lint-declare
else
  echo "  check-declare: not checked, for want of Emacs's sources (Debian: emacs-el)"
fi
if fetch; then
  say package-lint "$emacs" -Q --batch -L lisp -l tests/support/lint.el \
    -f dualstack-lint-package lisp/*.el
  say relint "$emacs" -Q --batch -l tests/support/lint.el -f dualstack-lint-relint lisp tests
else
  echo "  package-lint, relint: not checked, for want of Debian's archive: run make test on Debian, with a network"
fi
[ "${1-}" != --lisp ] || exit $status
case $PWD in
  # It takes what is outside the names in its settings for patterns, too.
  *[\[\]*?{}!]*) echo "  ruff: not checked, for $PWD is a pattern to it: use a folder without brackets" ;;
  *) say ruff "$python" -m ruff check --quiet --config python/pyproject.toml python tests ;;
esac
say ruff-format "$python" -m ruff format --quiet --check --config python/pyproject.toml python tests
say mypy "$python" -m mypy --no-error-summary --config-file python/pyproject.toml \
  python/src tests/python tests/support tests/bench tests/*.py tests/windows/*.py
exit $status
