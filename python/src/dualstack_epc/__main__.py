# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m dualstack_epc`` is the command ``dualstack-epc``."""

from dualstack_epc.cli import main

main()
