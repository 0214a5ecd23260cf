#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What tests/fresh.sh runs on a new machine, as its root: do as the user USER_KIND what the README says,
# and print lines "fresh KEY: VALUE" for the table.
set -uo pipefail
settings=()
[[ -z $SETTINGS ]] || mapfile -t settings <<<"$SETTINGS"
clone="$USER_HOME/my projects/项目 dualstack"

# as_user COMMAND...: run COMMAND in the clone as the user, with a login's environment.
as_user() {
  local change=()
  [[ $USER_KIND == root ]] || change=(setpriv --reuid=ada --regid=ada --init-groups)
  (cd "$clone" && exec "${change[@]}" env -i HOME="$USER_HOME" PATH="$PATH" LANG="$LANG" \
    "${settings[@]}" "$@")
}

# make_target TARGET: run make TARGET; where it asks the user to type a command, type that, and try again.
make_target() {
  local output=/tmp/output.$1 status line
  as_user make "$1" ${ONLY:+ONLY="$ONLY"} 2>&1 | tee "$output"
  status=${PIPESTATUS[0]}
  line=$(sed -n 's/.*type[^:]*:  *\(sudo .*\)/\1/p' "$output")
  if ((status)) && [[ -n $line ]]; then
    asked=$((asked + $(wc -l <<<"$line")))
    # This machine has no sudo, and its root types it.
    (sudo() { env DEBIAN_FRONTEND=noninteractive "$@"; } && eval "$line") >/tmp/typed 2>&1 || cat /tmp/typed
    as_user make "$1" ${ONLY:+ONLY="$ONLY"} 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
  fi
  return "$status"
}

asked=0
make_target demo && demo=ok || demo=failed
# An ordinary user is asked once, for all that is missing.
[[ $USER_KIND == root ]] && expected=0 || expected=1
if ((asked == expected)); then echo "fresh asked: $asked"; else echo "fresh asked: $asked!"; demo=failed; fi
echo "fresh demo: $demo"
make_target test
echo "fresh test: $(sed -n 's/^dualstack: //p' /tmp/output.test)"
as_user emacs -Q --batch -l tests/support/first-block.el -f dualstack-first-block && block=ok || block=failed
echo "fresh block: $block"
echo "fresh emacs: $(emacs --version | sed -n '1s/GNU Emacs //p')"
echo "fresh python: $(python3 --version | sed 's/Python //')"
