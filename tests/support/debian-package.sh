#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Print the directories with Lisp of Debian packages of Emacs Lisp, for the tests.
#
#   debian-package.sh PACKAGE
#
# It comes from Debian's archive, through this machine's own apt settings, and is kept in .cache.
set -eu
CDPATH= cd -- "$(dirname -- "$0")/../.."
cache=$PWD/.cache/packages/$1
if [ ! -e "$cache/done" ]; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && apt-get -qq -o APT::Sandbox::User= download "$1" && dpkg-deb -x ./*.deb tree) >&2
  rm -rf "$cache"
  mkdir -p "${cache%/*}"
  cp -r "$work/tree" "$cache"
  touch "$cache/done"
fi
for directory in "$cache"/usr/share/emacs/site-lisp/elpa-src/*; do
  echo "$directory"
done
