#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# make-venv.sh PYTHON DIRECTORY: make a virtual environment with the sidecar and the tools in it.
# Its file .installed is written last, and names PYTHON.
set -eu
named=$1
venv=$2
support=$(dirname -- "$0")
. "$support/python.sh"
python=$("$support/need.sh" "$named")
case $PWD in
  *[{}]* | *\$[a-zA-Z_]*)
    echo "Python's setuptools takes \$NAME and {NAME} in $PWD for variables; move the clone to a folder without them" >&2
    exit 1
    ;;
esac
echo "Setting up $venv (once)..." >&2
# pip, too, notes where the source is, and the clone's name may have any letters.
case $(locale charmap 2>/dev/null) in
  UTF-8) ;;
  *) export LC_ALL=C.UTF-8 ;;
esac
log=$(mktemp)
trap 'rm -f "$log"' EXIT
[ "$(cat "$venv/.installed" 2>/dev/null)" = "$named" ] && "$(venv_python "$venv")" -c 'import pip' 2>/dev/null ||
  "$python" -m venv --clear "$venv" >"$log" 2>&1 || {
  echo "$python -m venv fails: $(tail -n 1 "$log")" >&2
  exit 1
}
venv_python=$(venv_python "$venv")
# The build backend is installed first, and not fetched anew, so that a second time needs no network.
pip() { "$venv_python" -m pip --disable-pip-version-check --retries 2 "$@" >"$log" 2>&1; }
pip install 'setuptools>=77' wheel && pip install --no-build-isolation -e 'python[dev]' || {
  echo "The Python packages that the tests need cannot be downloaded (is there a network?);" \
    "connect and type make again.  pip: $(grep -i '^ *error' "$log" | tail -n 1)" >&2
  exit 1
}
# Python 3.11 and 3.12 read that in the locale's encoding, whatever it is then: a relative name is
# ASCII wherever the clone lies.
"$venv_python" - <<'PYTHON'
import os
import pathlib
import sysconfig

site = pathlib.Path(sysconfig.get_paths()["purelib"])
for note in site.glob("__editable__.dualstack_epc-*.pth"):
    note.write_text(os.path.relpath("python/src", site) + "\n")
PYTHON
printf '%s\n' "$named" >"$venv/.installed"
