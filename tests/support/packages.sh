# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# install_packages WHAT APT DNF PACMAN BREW WINDOWS: run the one of the commands that suits this
# system, if this user may; otherwise say what to type, and fail.
install_packages() {
  what=$1
  if command -v apt-get >/dev/null; then
    command=$2
  elif command -v dnf >/dev/null; then
    command=$3
  elif command -v pacman >/dev/null; then
    command=$4
  elif command -v brew >/dev/null; then
    command=$5
  else
    command=$6
  fi
  case $command in
    apt-get*)
      if [ "$(id -u)" = 0 ]; then
        sudo=
      elif sudo -n true 2>/dev/null; then
        sudo=sudo
      else
        echo "$what is missing; type:  sudo $command" >&2
        return 1
      fi
      echo "$what is missing; installing it: $sudo $command" >&2
      $sudo apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive $sudo $command -qq >/dev/null
      ;;
    *)
      echo "$what is missing; type:  $command" >&2
      return 1
      ;;
  esac
}
