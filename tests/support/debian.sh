# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# debian DIRECTORY RELEASE PACKAGES: make DIRECTORY a minimal Debian with PACKAGES, "a,b", unless it is one.
# It comes from the mirror in this machine's apt settings, by debootstrap.
debian() {
  local directory=$1 release=$2 packages=$3 mirror
  [[ -e $directory/etc/debian_version ]] && return
  mirror=$(sed -n 's/^URIs: *\([^ ]*\/debian\/\?\)$/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\/debian\/\?\) .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1 || true)
  [[ -n $mirror ]] || { echo "No Debian mirror in this machine's apt settings" >&2; return 1; }
  [[ $mirror != https:* ]] || packages+=,ca-certificates
  rm -rf --one-file-system "$directory" "$directory.new"
  mkdir -p "$directory.new"
  debootstrap --variant=minbase --include="$packages" "$release" "$directory.new" "$mirror" >&2 &&
    mv "$directory.new" "$directory"
}
