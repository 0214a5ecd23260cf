# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls over one connection, and the servers and clients made of that."""
