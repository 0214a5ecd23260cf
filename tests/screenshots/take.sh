#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Take the screenshots in the README: tests/screenshots/take.sh [EMACS]
#
# A server on 127.0.0.1 only, and a refusal at ::1 that takes a second, as on Windows; a graphical
# Emacs that has Cairo and SVG, under Xvfb.  Needs xvfb-run; pngquant, if it is there, makes them small.
set -eu
CDPATH= cd -- "$(dirname -- "$0")/../.."
emacs=${1:-emacs}
. tests/support/python.sh
python=${DUALSTACK_PYTHON:-$(venv_python .venv)}
directory=$(mktemp -d)
server= stall=
trap 'kill $server $stall 2>/dev/null; rm -rf "$directory"' EXIT
mkfifo "$directory/port" "$directory/stalled" "$directory/hold"
sleep 60 >"$directory/hold" &
hold=$!
"$python" -m dualstack_epc hello --family ipv4 >"$directory/port" 2>/dev/null &
server=$!
read -r port <"$directory/port"
"$python" tests/support/stall.py --family ipv6 --port "$port" >"$directory/stalled" <"$directory/hold" &
stall="$! $hold"
read -r _ <"$directory/stalled"
DUALSTACK_PYTHON=$python timeout 120 xvfb-run -a -s "-screen 0 1100x700x24" "$emacs" -Q -L lisp \
  -l tests/screenshots/screenshots.el --eval "(setq dualstack-python \"$python\")" \
  --eval "(dualstack-screenshots $port \"$directory\")"
for image in diagnose diagnose-dark report sidecars; do
  if command -v pngquant >/dev/null; then
    pngquant --force --output "tests/screenshots/$image.png" 32 "$directory/$image.png"
  else
    cp "$directory/$image.png" tests/screenshots
  fi
done
ls -l tests/screenshots/*.png
