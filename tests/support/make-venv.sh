#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# make-venv.sh PYTHON DIRECTORY: make a virtual environment with the sidecar and the tools in it.
set -eu
python=$1
venv=$2
. "$(dirname "$0")/packages.sh"
if ! $python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  if command -v "$python" >/dev/null; then
    echo "$python is $($python --version 2>&1); Python 3.10 or later is needed: make ... PYTHON=python3.X" >&2
    exit 1
  fi
  install_packages "Python" "apt-get install -y --no-install-recommends python3 python3-venv" \
    "dnf install -y python3" "pacman -S --noconfirm python" "brew install python" \
    "winget install Python.Python.3.12"
fi
$python -c 'import ensurepip' 2>/dev/null ||
  install_packages "Python's venv" "apt-get install -y --no-install-recommends python3-venv" \
    "dnf install -y python3" "pacman -S --noconfirm python" "brew install python" \
    "winget install Python.Python.3.12"
echo "Setting up $venv (once)..." >&2
[ -x "$venv/bin/python" ] || $python -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e 'python[dev]'
