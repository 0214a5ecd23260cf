# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending a program with all that it has started.

On POSIX it leads a session of its own, whose processes can be killed together.  Windows has jobs
for that: what a process in one starts is in it too, and all end when its last handle is closed, so
also when we are killed ourselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

# How to start a program, for all that it starts to be in the job: that has it begin.
SUSPENDED = 4 if sys.platform == "win32" else 0
KILL_ON_CLOSE = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
LIMITS = 9  # JobObjectExtendedLimitInformation


class Job:
    """The program CHILD and its descendants.

    It was started with `start_new_session`, on Windows `SUSPENDED`.
    """

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        """Take CHILD, which has just been started, and let it run."""
        self._child = child
        self._handle = _windows_job(child) if sys.platform == "win32" else None

    def end(self) -> None:
        """Kill them all."""
        if self._child.poll() is not None:
            return
        with contextlib.suppress(OSError):
            if sys.platform != "win32":
                os.killpg(self._child.pid, signal.SIGKILL)
            else:
                import ctypes  # noqa: PLC0415, it is needed on Windows alone

                if not ctypes.WinDLL("kernel32").TerminateJobObject(self._handle, 1):
                    self._child.kill()


def _windows_job(child: subprocess.Popen[bytes]) -> object:
    """Return the handle of a new job with CHILD in it, or of none where that cannot be.

    CHILD is suspended, and runs from then on.
    """
    if sys.platform != "win32":
        return None
    import ctypes  # noqa: PLC0415, it is needed on Windows alone
    from ctypes import wintypes  # noqa: PLC0415

    class Limits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

        _fields_ = (
            ("times", ctypes.c_int64 * 2), ("flags", wintypes.DWORD),
            ("working_sets", ctypes.c_size_t * 2), ("processes", wintypes.DWORD),
            ("affinity", ctypes.c_size_t), ("classes", wintypes.DWORD * 2),
            ("counters", ctypes.c_uint64 * 6), ("memory", ctypes.c_size_t * 4),
        )  # fmt: skip

    kernel = ctypes.WinDLL("kernel32")
    kernel.CreateJobObjectW.restype = wintypes.HANDLE
    job = wintypes.HANDLE(kernel.CreateJobObjectW(None, None))
    limits = Limits(flags=KILL_ON_CLOSE)
    kernel.SetInformationJobObject(job, LIMITS, ctypes.byref(limits), ctypes.sizeof(limits))
    process = wintypes.HANDLE(int(vars(child)["_handle"]))
    kernel.AssignProcessToJobObject(job, process)
    ctypes.WinDLL("ntdll").NtResumeProcess(process)
    return job
