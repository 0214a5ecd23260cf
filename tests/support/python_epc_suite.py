# SPDX-License-Identifier: GPL-3.0-or-later
"""Run python-epc's own tests with `DualStackEPCServer` in place of its server.

Print how many passed; the status is 1 unless every one did, and none was skipped.
"""

from __future__ import annotations

import sys
import types
import unittest
import warnings

import epc.server

from dualstack_epc.drop_in.server import DualStackEPCServer

# nose, which the suite asks for, does not load on Python 3.12 and later; of it SkipTest is all
# that the suite uses.
nose = types.ModuleType("nose")
nose.SkipTest = unittest.SkipTest  # type: ignore[attr-defined]
sys.modules["nose"] = nose
epc.server.ThreadingEPCServer = DualStackEPCServer


def main() -> None:
    """Run the suite."""
    warnings.simplefilter("ignore", ResourceWarning)  # Its own clients are not closed.
    names = ["client", "dispatcher", "py2py", "server", "utils"]
    suite = unittest.defaultTestLoader.loadTestsFromNames([f"epc.tests.test_{n}" for n in names])
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2, buffer=True).run(suite)
    bad = len(result.failures) + len(result.errors) + len(result.skipped)
    print(f"{result.testsRun - bad} passed, {bad} not")
    sys.exit(bool(bad) or result.testsRun == 0)


if __name__ == "__main__":
    main()
