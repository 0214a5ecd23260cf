#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# need.sh [PYTHON]: see to it that Emacs and, if PYTHON is given, that Python can be used here.
#
# What is missing is installed at once where this user may do that without a password, and otherwise
# named in one line that ends with the command to type.  Prints the Python to use, if PYTHON is given.
set -eu
. "$(dirname -- "$0")/python.sh"
emacs=${EMACS:-emacs}
python=${1-}
oldest_emacs=27.1

fail() {
  echo "$*" >&2
  exit 1
}

emacs_runs() { "$emacs" --version >/dev/null 2>&1; }

# missing: set `names' to what is missing, and `packages' to what brings it, by the name of Debian.
missing() {
  names= packages=
  if ! emacs_runs; then
    [ "$emacs" = emacs ] || fail "EMACS=$emacs does not run; name an Emacs, $oldest_emacs or later:  make EMACS=..."
    names=Emacs packages=emacs-nox
  fi
  if [ -n "$python" ]; then
    if found=$(find_python "$python"); then
      "$found" -c 'import ensurepip, venv' 2>/dev/null || {
        names="${names:+$names and }Python's venv"
        packages="${packages:+$packages }$(venv_package "$found")"
      }
    elif "$python" -c pass 2>/dev/null; then
      too_old "$python"
    elif [ "$python" != python3 ]; then
      fail "PYTHON=$python does not run; name a Python, 3.10 or later:  make PYTHON=..."
    else
      names="${names:+$names and }Python"
      packages="${packages:+$packages }python3 python3-venv"
    fi
  fi
}

too_old() {
  fail "$1 is $("$1" --version 2>&1 | tr -d '\r'), and dualstack needs Python 3.10 or later; get one by uv (uv python install 3.13, then" \
    'make PYTHON="$(uv python find 3.13)") or by pyenv (pyenv install 3.13, then make PYTHON="$(pyenv prefix 3.13)/bin/python")'
}

# The Debian package that has the venv of PYTHON.
venv_package() {
  case ${1##*/} in
    python3.*) echo "${1##*/}-venv" ;;
    *) echo python3-venv ;;
  esac
}

# install_command: print the command that installs `packages' here.
install_command() {
  if command -v apt-get >/dev/null; then
    echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages"
    return
  fi
  others=$(echo "$packages" | sed 's/ *python3[^ ]*-venv//; s/^ *//')
  [ -n "$others" ] || others=python3
  if command -v dnf >/dev/null; then
    echo "sudo dnf install -y $others"
  elif command -v pacman >/dev/null; then
    echo "sudo pacman -S --noconfirm $(echo "$others" | sed 's/python3/python/')"
  elif command -v brew >/dev/null; then
    echo "brew install $(echo "$others" | sed 's/emacs-nox/emacs/; s/python3/python/')"
  else
    echo "winget install $(echo "$others" | sed 's/emacs-nox/GNU.Emacs/; s/python3/Python.Python.3.13/')"
  fi
}

install() {
  command=$(install_command)
  case $command in
    *apt-get*) ;;
    *) fail "Missing: $names; type:  $command" ;;
  esac
  if [ "$(id -u)" = 0 ]; then
    sudo=
  elif sudo -n true 2>/dev/null; then
    sudo=sudo
  else
    fail "Missing: $names; type (as root without sudo):  $command"
  fi
  echo "Missing: $names; installing:  $command" >&2
  log=$(mktemp)
  if ! { $sudo apt-get update &&
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null; then
    why=$(grep '^E: ' "$log" | tail -n 1)
    rm -f "$log"
    fail "Missing: $names, and apt-get cannot install it (${why:-is there a network?}); type:  $command"
  fi
  rm -f "$log"
}

[ -w . ] && [ -w lisp ] ||
  fail "$PWD cannot be written, and make keeps .venv and compiled files there; clone it to a place where you may write"
# By dd, as busybox's head writes byte by byte on Windows, and took two minutes.
scratch=$(mktemp 2>/dev/null) && dd if=/dev/zero of="$scratch" bs=1000000 count=20 2>/dev/null || {
  rm -f "$scratch"
  fail "${TMPDIR:-/tmp} cannot be written, or is full; make room there, or name another directory:  make TMPDIR=..."
}
rm -f "$scratch"
missing
if [ -n "$packages" ]; then
  install
  missing
  [ -z "$packages" ] || fail "Missing even after an installation: $names; see what  $(install_command)  says"
fi
version=$("$emacs" -Q --batch --eval '(princ (format "%s %s" emacs-version (version<= "'$oldest_emacs'" emacs-version)))' 2>/dev/null) || version=
case $version in
  *" t") ;;
  *) fail "$emacs is ${version% *}, and dualstack needs Emacs $oldest_emacs or later; name another:  make EMACS=..." ;;
esac
[ -z "$python" ] || find_python "$python"
