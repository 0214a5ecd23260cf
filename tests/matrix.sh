#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Run the tests on other versions of Emacs and Python, and print a table.
#
#   tests/matrix.sh [--emacs VERSION]... [--no-python] [--only REGEXP]
#
# Emacs 27.1, 28.2, 30.1 and 30.2 are those of Debian's releases: each is installed once, by debootstrap
# from this machine's own mirror, into MATRIX_ROOT (~/.cache/dualstack/matrix).  Needs root, debootstrap,
# unshare.  Each version compiles, lints and tests a copy of the tree; the servers that the tests start
# are this machine's Python, reached from inside the chroot.  Each Python from 3.10 on that is here, or
# that uv has, runs pytest.
set -euo pipefail
CDPATH= cd -- "$(dirname -- "$0")/.."
root=${MATRIX_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/dualstack/matrix}
declare -A release=([27.1]=bullseye [28.2]=bookworm [30.1]=trixie [30.2]=sid)
versions=() only=() pythons=yes
while (($#)); do
  case $1 in
    --emacs) versions+=("$2"); shift 2 ;;
    --no-python) pythons=; shift ;;
    --only) only=(--only "$2"); shift 2 ;;
    *) echo "usage: tests/matrix.sh [--emacs VERSION]... [--only REGEXP]" >&2; exit 2 ;;
  esac
done
((${#versions[@]})) || versions=(27.1 28.2 30.1 30.2)
for tool in debootstrap unshare; do
  command -v $tool >/dev/null || { echo "$tool is missing; type:  apt-get install $tool" >&2; exit 1; }
done
((EUID == 0)) || { echo "The matrix makes chroots: run it as root" >&2; exit 1; }

. tests/support/debian.sh
. tests/support/python.sh
[[ -e $(venv_python .venv) ]] || { echo "There is no .venv; type:  make setup" >&2; exit 1; }

make_chroot() { # VERSION
  local where=$root/emacs-$1
  [[ -e $where/.dualstack-ready ]] && return
  echo "Installing Emacs $1 into $where (once)..." >&2
  mkdir -p "$root"
  debian "$where" "${release[$1]}" git,make >"$root/emacs-$1.log" 2>&1
  cp /etc/resolv.conf "$where/etc/"
  apt-config dump | grep -E '^Acquire::(Check-|Retries|https?::)' >"$where/etc/apt/apt.conf.d/90machine" || true
  DEBIAN_FRONTEND=noninteractive chroot "$where" sh -c 'apt-get update &&
    apt-get install -y --no-install-recommends emacs-nox git iproute2 libnss-wrapper netbase openssh-client procps python3 python3-venv' \
    >>"$root/emacs-$1.log" 2>&1
  touch "$where/.dualstack-ready"
}

run_tests() { # VERSION
  local where=$root/emacs-$1 copy
  copy=$(mktemp -d /tmp/dualstack-matrix.XXXXXX)
  cp -r .elpaignore .gitignore lisp tests python .ci Makefile README*.org NEWS.org LICENSE "$copy"
  # The linters that tests/lint.sh has fetched.
  [[ ! -e .cache/lint ]] || { mkdir "$copy/.cache" && cp -r .cache/lint "$copy/.cache"; }
  rm -f "$copy"/lisp/*.elc
  mkdir -p "$where/host"
  # What a test starts there may start it again.
  printf '#!/bin/sh\n[ -e /host ] || exec "%s" "$@"\nexec chroot /host sh -c '"'"'cd "$0" && exec "$@"'"'"' "$PWD" "%s" "$@"\n' \
    "$(venv_python "$PWD/.venv")" "$(venv_python "$PWD/.venv")" >"$copy/run-python"
  chmod +x "$copy/run-python"
  # The mounts are those of this command alone, and end with it.
  unshare -m bash -euc '
    where=$1 copy=$2; shift 2
    # A mount point, for tests that make mounts of their own.
    mount --bind "$where" "$where"
    mount --rbind / "$where/host"
    mount --bind /tmp "$where/tmp"
    mount -t proc proc "$where/proc"
    mount --rbind /dev "$where/dev"
    exec chroot "$where" sh -c "cd \$0 && emacs -Q --batch -L lisp \
      --eval \"(setq byte-compile-error-on-warn t)\" -f batch-byte-compile lisp/*.el && exec env DUALSTACK_PYTHON=\$0/run-python EMACS=emacs \
      LC_ALL=C.UTF-8 python3 tests/run.py --ert-only \"\$@\"" "$copy" "$@"
  ' -- "$where" "$copy" "${only[@]}" && result=0 || result=$?
  rm -rf "$copy"
  return $result
}

table="" status=0
for version in "${versions[@]}"; do
  [[ -n ${release[$version]:-} ]] || { echo "No Emacs $version here: 27.1, 28.2, 30.1 or 30.2" >&2; exit 2; }
  make_chroot "$version"
  echo "Emacs $version:"
  log=$(mktemp)
  run_tests "$version" | tee "$log" || status=1
  table+=$(printf 'Emacs %-8s %s' "$version" "$(sed -n 's/^dualstack: //p' "$log")")$'\n'
  rm -f "$log"
done
# Each Python that is here, from 3.10 on, runs pytest in an environment of its own, kept in .cache.
for minor in ${pythons:+10 11 12 13 14}; do
  python=
  for candidate in "python3.$minor" ~/.pyenv/versions/3."$minor".*/bin/python \
    "$(uv python find --offline "3.$minor" 2>/dev/null || true)"; do
    if "$candidate" -c pass 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  if [[ -z $python ]]; then
    table+="Python 3.$minor     not here (sid has 3.14: tests/fresh.sh --release sid)"$'\n'
    continue
  fi
  venv=.cache/venv-3.$minor
  [[ -e $venv/.installed ]] ||
    { python=$(tests/support/need.sh "$python") && "$python" tests/support/make_venv.py "$python" "$venv"; }
  echo "Python 3.$minor:"
  log=$(mktemp)
  "$(venv_python "$venv")" tests/run.py --pytest-only "${only[@]}" | tee "$log" || status=1
  table+=$(printf 'Python 3.%-6s %s' "$minor" "$(sed -n 's/^dualstack: //p' "$log")")$'\n'
  rm -f "$log"
done
printf '\n%s' "$table"
exit $status
