# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# find_python PYTHON: print PYTHON if it is 3.10 or later.  If it is not, and is "python3", print another
# of the path or of uv that is; fail if there is none.
find_python() {
  if python_suits "$1"; then
    echo "$1"
    return
  fi
  [ "$1" = python3 ] || return 1
  # py is Windows' launcher; python3 is often a stub there that only names the store.  What a program
  # prints there ends in a return, which would stay.
  for candidate in python3.14 python3.13 python3.12 python3.11 python3.10 python \
    "$(py -3 -c 'import sys; print(sys.executable, end="")' 2>/dev/null || true)" \
    "$(uv python find --offline '>=3.10' 2>/dev/null || true)"; do
    if [ -n "$candidate" ] && python_suits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# venv_python DIRECTORY: print the Python of the environment in DIRECTORY.  That of Windows puts it into
# Scripts; one that MSYS2 has built for Windows does not.
venv_python() {
  if [ -e "$1/Scripts/python.exe" ]; then
    echo "$1/Scripts/python.exe"
  else
    echo "$1/bin/python"
  fi
}

python_suits() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}
