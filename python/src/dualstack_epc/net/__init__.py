# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets of localhost, at both of its addresses: no EPC."""
