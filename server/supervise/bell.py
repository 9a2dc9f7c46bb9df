"""
The bell: one FIFO that every shim rings with its serial when its files say something new.

It only says "look"; a ring that is lost, doubled or made up does no harm.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path


class Bell:
    """
    The daemon's end of C{RUN/bell}; beside it lies C{RUN/never}, at which idle nodes wait for ever.
    """

    def __init__(self, run: Path, loop: asyncio.AbstractEventLoop, rung: Callable[[int], None]) -> None:
        """
        @param rung: called with each serial.
        @raise OSError: if the FIFOs cannot be made.
        """
        for name in ("bell", "never"):
            _ensure_fifo(run / name)
        self._fd = os.open(run / "bell", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self._rung = rung
        self._loop = loop
        loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        """
        Hear nothing more.
        """
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-32:]
        for serial in dict.fromkeys(lines):
            if serial.isdigit() and len(serial) < 19:
                self._rung(int(serial))


def _ensure_fifo(path: Path) -> None:
    try:
        if stat.S_ISFIFO(path.lstat().st_mode):
            return
        path.unlink()
    except FileNotFoundError:
        pass
    os.mkfifo(path, 0o600)
