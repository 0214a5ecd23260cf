# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers for Emacs that listen on 127.0.0.1 and ::1 at one port."""

__version__ = "0.1.0"
