# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes sure, on Windows, that a sidecar ends with Emacs, whatever runs in it.

No thread of Python can: it does not run while a method holds the interpreter's lock.  So the system
does it, in three steps that need no code of ours:

1. a wait for the end of the process that has made our standard input, which is Emacs, resumes
2. a thread that was made suspended and that does nothing but sleep, the grace period,
3. and a wait for the end of that thread terminates this process.

Where standard input is no pipe nothing is done, and the thread that reads it is all there is.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    from typing import Any

GRACE = 1500  # milliseconds in which the sidecar may end by itself
SYNCHRONIZE = 0x100000
SUSPENDED = 4  # CREATE_SUSPENDED
ONCE = 8  # WT_EXECUTEONLYONCE
FOREVER = 0xFFFFFFFF
THIS_PROCESS = -1  # what GetCurrentProcess returns


def start() -> bool:
    """Have this process end soon after the one that made its standard input; return whether so."""
    # What is called back takes an argument less, or more, than it is given: that is harmless where
    # the caller takes arguments off the stack, as in all 64-bit programs.
    if sys.platform != "win32" or sys.maxsize < 2**32:
        return False
    import ctypes  # noqa: PLC0415, it is needed on Windows alone

    kernel = _kernel()
    emacs = _maker_of_stdin(kernel)
    grace = kernel.CreateThread(
        None, 0, ctypes.cast(kernel.Sleep, ctypes.c_void_p), GRACE, SUSPENDED, None
    )

    if not (emacs and grace):
        return False

    def call_after(end: int, function: Any, argument: int) -> bool:
        """Have FUNCTION called with ARGUMENT at the END of a process or thread."""
        wait = ctypes.byref(ctypes.c_void_p())
        called = ctypes.cast(function, ctypes.c_void_p)
        return bool(kernel.RegisterWaitForSingleObject(wait, end, called, argument, FOREVER, ONCE))

    return call_after(grace, kernel.TerminateProcess, THIS_PROCESS) and call_after(
        emacs, kernel.ResumeThread, grace
    )


def _kernel() -> Any:
    """Return the functions of Windows' kernel, told of their types."""
    import ctypes  # noqa: PLC0415, it is needed on Windows alone

    kernel = ctypes.CDLL("kernel32")  # 64-bit programs have one way to call.
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    kernel.GetNamedPipeServerProcessId.argtypes = [pointer, pointer]
    kernel.OpenProcess.argtypes = [number, number, number]
    kernel.OpenProcess.restype = pointer
    kernel.CreateThread.argtypes = [pointer, ctypes.c_size_t, pointer, pointer, number, pointer]
    kernel.CreateThread.restype = pointer
    kernel.RegisterWaitForSingleObject.argtypes = [pointer] * 4 + [number] * 2
    return kernel


def _maker_of_stdin(kernel: Any) -> int | None:
    """Return a handle of the process that has made standard input, if that is a pipe.

    That of the parent would not do: it may be a launcher, such as an environment's python.exe.
    """
    import ctypes  # noqa: PLC0415, it is needed on Windows alone
    import msvcrt  # noqa: PLC0415, as above

    maker = ctypes.c_uint32()
    stdin = msvcrt.get_osfhandle(0)  # type: ignore[attr-defined,unused-ignore]
    if not kernel.GetNamedPipeServerProcessId(stdin, ctypes.byref(maker)):
        return None
    handle: int | None = kernel.OpenProcess(SYNCHRONIZE, 0, maker)
    return handle
