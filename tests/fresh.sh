#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Do what the README says on new machines, and print a table.
#
#   tests/fresh.sh [--release bookworm|trixie|sid]... [--user root|ordinary]... [--only REGEXP]
#
# A new machine is a copy of a Debian made by debootstrap, with nothing but git and make.  There the
# last commit is cloned into "$HOME/my projects/项目 dualstack", and `make demo', `make test' and the
# README's first block are run; what `make' asks an ordinary user to type is typed.  Each machine has
# processes and mounts of its own, which end with it.  What it has of this one: how packages are to
# be had, that is the settings of apt, pip and uv, certificates, and local directories of packages.
#
# The Debians are kept in FRESH_ROOT (~/.cache/dualstack/fresh).  A machine that takes more than
# FRESH_SECONDS (2400) is ended, and has failed.  Needs root, debootstrap and unshare.
# Read as a whole before it runs, as a run takes long and the file may change meanwhile.
{
set -euo pipefail
CDPATH= cd -- "$(dirname -- "$0")/.."
root=${FRESH_ROOT:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/dualstack/fresh}
releases=() users=() only=
while (($#)); do
  case $1 in
    --release) releases+=("$2"); shift 2 ;;
    --user) users+=("$2"); shift 2 ;;
    --only) only=$2; shift 2 ;;
    *) sed -n 's/^#   \(tests.*\)/usage: \1/p' "$0" >&2; exit 2 ;;
  esac
done
((${#releases[@]})) || releases=(bookworm trixie sid)
((${#users[@]})) || users=(root ordinary)
((EUID == 0)) || { echo "New machines are made in chroots: run it as root" >&2; exit 1; }
for tool in debootstrap unshare pivot_root; do
  command -v $tool >/dev/null ||
    { echo "$tool is missing; type:  apt-get update && apt-get install -y debootstrap util-linux" >&2; exit 1; }
done
. tests/support/debian.sh

# settings: print NAME=VALUE of the environment by which packages are to be had here.
settings() {
  env | grep -E '^(PIP_|UV_|SSL_CERT_|REQUESTS_CA_BUNDLE=|CURL_CA_BUNDLE=|GIT_SSL_CAINFO=|(https?|no|all|HTTPS?|NO|ALL)_(proxy|PROXY)=)' |
    grep -v -E '^(PIP|UV)_(CACHE_DIR|TARGET|PREFIX|PYTHON)=' || true
}

# files: print the files and directories of this machine that those settings are in, or name.
files() {
  local file config=()
  for file in /etc/pip.conf /etc/xdg/pip/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf \
    "${PIP_CONFIG_FILE:-}" /etc/uv/uv.toml ~/.config/uv/uv.toml "${UV_CONFIG_FILE:-}"; do
    [[ -f $file ]] && config+=("$file") && echo "$file"
  done
  { settings; ((${#config[@]})) && cat "${config[@]}"; } 2>/dev/null |
    grep -oE '(file://)?/[A-Za-z0-9._/+-]+' | sed 's,^file://,,' | sort -u |
    while read -r file; do [[ $file != / && -e $file ]] && echo "$file"; done || true
}

# furnish MACHINE: give the MACHINE what this one has for reaching packages.
furnish() {
  local file f
  cp -L /etc/resolv.conf /etc/hosts "$1/etc/" 2>/dev/null || true
  mkdir -p "$1/etc/apt/apt.conf.d" "$1/usr/local/share/ca-certificates" "$1/etc/ssl/certs"
  apt-config dump | grep -E '^Acquire::(Check-|Retries|https?::)' >"$1/etc/apt/apt.conf.d/90fresh" || true
  for file in /etc/apt/auth.conf /etc/apt/auth.conf.d \
    /usr/local/share/ca-certificates/*.crt /etc/ssl/certs/ca-certificates.crt; do
    [[ ! -e $file ]] || cp -rL "$file" "$1$file"
  done
  # Mounted read only, so that nothing that runs there changes this machine.
  files | while read -r file; do
    case $file in
      /etc/ssl/*) ;;
      "$HOME"/*) f=${file#"$HOME"/} && mkdir -p "$1$home/$(dirname "$f")" && cp -r "$file" "$1$home/$f" ;;
      # The files of an index of packages lie beside its pages.
      */simple) mount_files "$1" "${file%/simple}" ;;
      *) mount_files "$1" "$file" ;;
    esac
  done
}

# mount_files MACHINE FILE: show FILE, also a directory, in MACHINE.
mount_files() {
  if [[ -d $2 ]]; then
    mkdir -p "$1$2"
  else
    mkdir -p "$1${2%/*}" && : >"$1$2"
  fi
  mount --bind "$2" "$1$2" && mount -o remount,bind,ro "$1$2"
}

# run_machine RELEASE USER LOG: make a new machine, and run tests/support/fresh-machine.sh there.
run_machine() {
  local release=$1 user=$2 log=$3 machine home result
  machine=$(mktemp -d /tmp/dualstack-fresh.XXXXXX)
  cp -a --reflink=auto "$root/$release/." "$machine"
  home=/root
  if [[ $user == ordinary ]]; then
    home=/home/ada
    chroot "$machine" useradd -m ada
  fi
  mkdir -p "$machine$home/my projects" "$root/archives-$release"
  # What another machine has downloaded need not be downloaded again.
  cp --reflink=auto "$root/archives-$release/"*.deb "$machine/var/cache/apt/archives" 2>/dev/null || true
  git -c advice.detachedHead=false clone --quiet --no-local . "$machine$home/my projects/项目 dualstack"
  export machine release user home only
  settings="$(settings)" \
    timeout -s KILL "${FRESH_SECONDS:-2400}" unshare --mount --pid --uts --ipc --fork --kill-child bash -euo pipefail -c "$(declare -f settings files furnish mount_files)"'
      mount --make-rprivate /
      mount --bind "$machine" "$machine"
      furnish "$machine"
      chown -R "$(stat -c %u:%g "$machine$home")" "$machine$home"
      mount -t proc proc "$machine/proc"
      mount --rbind /dev "$machine/dev"
      mount --rbind /sys "$machine/sys"
      mount -t tmpfs -o mode=1777 tmpfs "$machine/tmp"
      cp tests/support/fresh-machine.sh "$machine/run-fresh"
      cd "$machine"
      mkdir -p old
      # A chroot would not let an ordinary user make a namespace, as a machine does.
      pivot_root . old
      umount -l /old
      exec /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        USER_KIND="$user" USER_HOME="$home" SETTINGS="$settings" ONLY="$only" LANG=C.UTF-8 \
        bash /run-fresh' </dev/null >"$log" 2>&1 && result=0 || result=$?
  # The mounts were those of the machine, and have ended with it.
  cp -n --reflink=auto "$machine/var/cache/apt/archives/"*.deb "$root/archives-$release" 2>/dev/null || true
  rm -rf --one-file-system "$machine"
  return $result
}

table=$(printf '%-9s %-9s %-6s %-7s %-5s %-6s %-38s %s' Release User Emacs Python asked demo test 'first block')
passed=0 failed=0 skipped=0
for release in "${releases[@]}"; do
  for user in "${users[@]}"; do
    log=$root/$release-$user.log
    row=() begun=$SECONDS
    mkdir -p "$root"
    echo "$release, $user:  see $log"
    if debian "$root/$release" "$release" git,make >"$log" 2>&1 && run_machine "$release" "$user" "$log"; then
      :
    else
      tail -n 40 "$log"
    fi
    for key in emacs python asked demo test block; do
      row+=("$(sed -n "s/^fresh $key: //p" "$log" | tail -n 1)")
    done
    table+=$'\n'$(printf '%-9s %-9s %-6s %-7s %-5s %-6s %-38s %s' "$release" "$user" "${row[0]:-?}" "${row[1]:-?}" \
      "${row[2]:-?}" "${row[3]:-failed}" "${row[4]:-failed}" "${row[5]:-failed}")", $((SECONDS - begun)) s"
    counts=${row[4]:-0 passed, 1 failed, 0 skipped}
    read -r a _ b _ c _ <<<"$counts"
    passed=$((passed + a)) failed=$((failed + b)) skipped=$((skipped + c))
    for index in 3 5; do
      if [[ ${row[$index]:-} == ok ]]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    done
  done
done
printf '\n%s\n\n' "$table"
echo "new machines: $passed passed, $failed failed, $skipped skipped"
exit $((failed > 0))
}
