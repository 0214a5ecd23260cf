# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking the modules that Emacs has sent to another machine, before they are served there."""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path


def unpack_first(arguments: list[str]) -> None:
    """Do what each ``--unpack ARCHIVE DIRECTORY`` at the beginning of ARGUMENTS says; remove it.

    ARGUMENTS begin with the program's name.  Exit with a line of reason if it cannot be done.
    """
    while arguments[1:2] == ["--unpack"]:
        archive, directory = map(Path, arguments[2:4])
        del arguments[1:4]
        try:
            unpack(archive, directory)
        except (OSError, zipfile.BadZipFile) as error:
            sys.exit(f"{archive} cannot be unpacked: {error}")


def unpack(archive: Path, directory: Path) -> None:
    """Make DIRECTORY of ARCHIVE, a zip file, unless it is there; it is whole, or not there at all.

    ARCHIVE is removed, as it is of no use any longer.  Another process may do the same.
    """
    if not directory.is_dir():
        making = Path(tempfile.mkdtemp(dir=directory.parent))
        try:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(making)
            making.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    archive.unlink(missing_ok=True)
