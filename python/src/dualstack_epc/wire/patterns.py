# SPDX-License-Identifier: GPL-3.0-or-later
"""The standard module `re`, which takes 3 ms to load, from its first use on."""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    import re
    from typing import Any
else:

    class _Module:
        """Stands for `re`."""

        def __getattr__(self, name: str) -> Any:
            """Return the function called NAME, and have it at hand for the next time."""
            import re  # noqa: PLC0415, see above

            value = getattr(re, name)
            setattr(self, name, value)
            return value

    re = _Module()

__all__ = ["re"]
