# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that Emacs has sent to another machine are unpacked there, whole or not at all."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from dualstack_epc.unpack import unpack_first

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return a zip file with two files in it."""
    file = tmp_path / "sent.zip"
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("m \u00fc.py", "WORD = 1\n")
        opened.writestr("inner/__init__.py", "")
    return file


def test_what_is_named_first_is_unpacked_once(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    arguments = ["program", "--unpack", str(archive), str(target), "sidecar", "--unpack"]
    for _ in range(2):  # A sidecar that starts again has the same arguments.
        words = list(arguments)
        unpack_first(words)
        assert words == ["program", "sidecar", "--unpack"]
        assert sorted(each.name for each in tmp_path.iterdir()) == ["there"]
    assert (target / "m \u00fc.py").read_text() == "WORD = 1\n"
    assert (target / "inner" / "__init__.py").is_file()


def test_what_cannot_be_unpacked_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(SystemExit, match="cannot be unpacked: File is not a zip file"):
        unpack_first(["program", "--unpack", str(archive), str(tmp_path / "there")])
    with pytest.raises(SystemExit, match=r"missing\.zip cannot be unpacked"):
        unpack_first(["program", "--unpack", str(tmp_path / "missing.zip"), str(tmp_path / "x")])
    assert [each.name for each in tmp_path.iterdir()] == ["sent.zip"]
