# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of this room."""


class EnvironmentProblem(Exception):  # noqa: N818, it is what the user reads, in one line
    """There is no environment as it is needed; the message says why, and what to do."""
