#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Make sure that $EMACS runs: install Emacs with the system's package manager where that is allowed,
# and otherwise say what to type.
set -eu
emacs=${EMACS:-emacs}
${emacs} --version >/dev/null 2>&1 && exit 0
if [ "$emacs" != emacs ]; then
  echo "EMACS=$emacs does not run: give the name of an Emacs of version 27.1 or later" >&2
  exit 1
fi
. "$(dirname "$0")/packages.sh"
install_packages "Emacs" \
  "apt-get install -y --no-install-recommends emacs-nox" "dnf install -y emacs-nox" \
  "pacman -S --noconfirm emacs-nox" "brew install emacs" \
  "winget install GNU.Emacs"
