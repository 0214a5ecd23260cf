# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes the place of python-epc: the only room that knows `epc` and `sexpdata`."""
