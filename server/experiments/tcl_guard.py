"""
What ends an offload child that runs a script and that Tcl cannot bring back: too long, too large, nested too deep.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable
from contextlib import suppress
from ctypes import byref, c_int, c_void_p

from hostline.protocol.errors import HostError
from hostline.server.experiments.tcl_library import Panic, TclMissing, library
from hostline.server.experiments.watchdog import Watchdog

#: What there is of memory in an offload child (L{hostline.server.offload_child}).
MEMORY_TEXT = "1 GiB"


class _Stack(ctypes.Structure):
    _fields_ = (("sp", c_void_p), ("flags", c_int), ("size", ctypes.c_size_t))


_OnSignal = ctypes.CFUNCTYPE(None, c_int)


class _Action(ctypes.Structure):
    # As glibc has it.
    _fields_ = (("call", _OnSignal), ("mask", ctypes.c_byte * 128), ("flags", c_int), ("restorer", c_void_p))


_SA_ONSTACK, _SA_RESETHAND = 0x08000000, 0x80000000
_spare = ctypes.create_string_buffer(512 * 1024)
_child: list[Watchdog] = []


def prepare(end: Callable[[HostError], object]) -> None:
    """
    Make an offload child ready to run scripts, while it may still start a thread; Tcl is loaded if there is one.

    @param end: writes the error as the child's reply and ends the process.
    """
    watchdog = Watchdog(end)
    watchdog.start()
    _child.append(watchdog)
    with suppress(TclMissing):
        library().Tcl_SetPanicProc(_on_panic)
    # What is nested too deep ends the process, as Tcl reads it by recursion; here it has stack enough to say so.
    stack = _Stack(ctypes.addressof(_spare), 0, len(_spare))
    action = _Action(_on_overflow, flags=ctypes.c_int(_SA_ONSTACK | _SA_RESETHAND).value)
    libc = ctypes.CDLL(None)
    libc.sigaltstack(byref(stack), None)
    libc.sigaction(signal.SIGSEGV, byref(action), None)


def child() -> Watchdog | None:
    """
    @return: the watchdog of this process, if it is an offload child.
    """
    return _child[0] if _child else None


def _overflow(_signal: int) -> None:
    for watchdog in _child:
        watchdog.too_deep()


def _panic(_format: bytes) -> None:
    # Tcl's last words, nearly always of memory; it takes no answer.
    for watchdog in _child:
        watchdog.out_of_memory(MEMORY_TEXT)


_on_overflow = _OnSignal(_overflow)
_on_panic = Panic(_panic)
