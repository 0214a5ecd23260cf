#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Check the style of the Lisp and the Python; the status is 1 if anything is found.
#
# package-lint and relint come from Debian's archive, through this machine's own apt settings, and are
# kept in .cache.  Where they cannot be had, that is said, and the rest is checked.
set -eu
cd "$(dirname "$0")/.."
emacs=${EMACS:-emacs}
python=${DUALSTACK_PYTHON:-.venv/bin/python}
cache=$PWD/.cache/lint
status=0

fetch() {
  [ -e "$cache/done" ] && return
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  mirror=$(sed -n 's/^URIs: *\([^ ]*\/debian\/\?\)$/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\/debian\/\?\) .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list \
    2>/dev/null | head -n 1)
  [ -n "$mirror" ] || return 1
  rm -rf "$cache"
  mkdir -p "$cache/state/lists/partial" "$cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$cache/list"
  set -- -o Dir::Etc::SourceList="$cache/list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$cache/state/lists" -o Dir::Cache="$cache" -o APT::Sandbox::User=
  (cd "$cache" && apt-get "$@" -qq update &&
    apt-get "$@" -qq download elpa-package-lint elpa-relint elpa-xr elpa-compat &&
    for package in *.deb; do dpkg-deb -x "$package" .; done) >"$cache/log" 2>&1 || return 1
  rm -rf "$cache"/*.deb "$cache/state" "$cache/archives" "$cache"/*.bin
  touch "$cache/done"
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

say byte-compile sh -c "
  directory=\$(mktemp -d) && trap 'rm -rf \$directory' EXIT
  cp lisp/*.el tests/lisp/*.el tests/bench/*.el tests/*.el \$directory
  $emacs -Q --batch -L \$directory --eval '(setq byte-compile-error-on-warn t)' \
    -f batch-byte-compile \$directory/*.el"
say checkdoc "$emacs" -Q --batch -L lisp -l tests/support/lint.el \
  -f dualstack-lint-checkdoc lisp/*.el tests/lisp/*.el
say check-declare "$emacs" -Q --batch -L lisp -l tests/support/lint.el -f dualstack-lint-declare
if fetch; then
  say package-lint "$emacs" -Q --batch -L lisp -l tests/support/lint.el \
    -f dualstack-lint-package lisp/*.el
  say relint "$emacs" -Q --batch -l tests/support/lint.el -f dualstack-lint-relint lisp tests
else
  echo "  package-lint, relint: not checked, Debian's archive cannot be reached from here"
fi
say ruff "$python" -m ruff check --quiet --config python/pyproject.toml python tests
say ruff-format "$python" -m ruff format --quiet --check --config python/pyproject.toml python tests
say mypy sh -c "$python -m mypy --no-error-summary --config-file python/pyproject.toml \
  python/src tests/python tests/support tests/bench tests/*.py"
exit $status
