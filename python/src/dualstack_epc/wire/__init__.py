# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes to messages to values: no socket, no thread, nothing but the standard library."""
