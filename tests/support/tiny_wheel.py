# SPDX-License-Identifier: GPL-3.0-or-later
"""A wheel with the package tiny and its script, made by hand, so that nothing need be fetched.

``python tiny_wheel.py DIRECTORY`` puts it there.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

CODE = "def main():\n    print('tiny')\n\n\ndef add(*numbers):\n    return sum(numbers)\n"


def make(directory: Path) -> Path:
    """Make the wheel in DIRECTORY and return its file."""
    file = directory / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    contents = {
        "tiny.py": CODE,
        "tiny_data.txt": "some data\n" * 40_000,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return file


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
