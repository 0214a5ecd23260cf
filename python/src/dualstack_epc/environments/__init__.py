# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments with the packages that a sidecar needs.  Knows no socket and no EPC."""
