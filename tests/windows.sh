#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Run the networking tests in a Windows Emacs.
#
#   EMACS_W32="COMMAND..." [WINDOWS_NET="COMMAND..."] tests/windows.sh
#
# EMACS_W32 runs the Emacs, on Windows itself or under Wine.  WINDOWS_NET, on other systems, runs a
# command on a host whose loopback refuses as slowly as Windows' does, and whose localhost is ::1
# first; without it the tests of speed are skipped.  The servers are this machine's Python.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ -z ${EMACS_W32:-} ]]; then
  echo 'Which Windows Emacs?  make test-windows EMACS_W32="COMMAND" [WINDOWS_NET="COMMAND"]' >&2
  exit 2
fi
if [[ -n ${WINDOWS_NET:-} && -z ${DUALSTACK_INSIDE:-} ]]; then
  DUALSTACK_INSIDE=1 exec $WINDOWS_NET tests/windows.sh
fi
servers=()
# Not the compiled files: they are another Emacs's.
lisp=$(mktemp -d)
cp lisp/*.el "$lisp"
end() {
  for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$lisp"
}
trap end EXIT
serve() { # FAMILY PORT
  local line
  exec {line}< <(exec "${DUALSTACK_PYTHON:-.venv/bin/python}" -m dualstack_epc hello --family "$1" --port "$2" 2>/dev/null)
  servers+=("$!")
  read -r -t 20 _ <&"$line" || { echo "The $1 server did not start at port $2" >&2; exit 1; }
}
serve ipv4 41004
serve ipv6 41006
serve dual 41046
log=$(mktemp)
timeout 300 $EMACS_W32 -Q --batch -L "$lisp" -l tests/lisp/dualstack-windows.el \
  -f ert-run-tests-batch-and-exit 2>&1 | tr -d '\r' | tee "$log" || true
count() { grep -c "^ *$1 *[0-9]*/[0-9]* " "$log" || true; }
failed=$(count FAILED)
passed=$(count passed)
rm -f "$log"
echo "dualstack on Windows: $passed passed, $failed failed"
((passed && !failed))
