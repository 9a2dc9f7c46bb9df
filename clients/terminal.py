"""
A terminal whose keys go to somebody else, as they are typed.
"""

from __future__ import annotations

import os
import signal
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


class Terminal:
    """
    In raw mode from its beginning to its end.

    @ivar resized: a descriptor that can be read once the size has changed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] = []
        self.resized, self._wake = -1, -1

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        self.resized, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # A signal alone would not end the wait for other descriptors.
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGWINCH, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._die())
        signal.signal(signal.SIGHUP, lambda *_: self._die())
        tty.setraw(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)
        os.close(self.resized)
        os.close(self._wake)

    def size(self) -> tuple[int, int]:
        """
        @return: rows and columns.
        """
        try:
            os.read(self.resized, 4096)
        except BlockingIOError:
            pass
        try:
            found = os.get_terminal_size(self._descriptor)
        except OSError:
            return 24, 80
        return found.lines or 24, found.columns or 80

    def _restore(self) -> None:
        try:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        except termios.error:
            pass  # it is gone

    def _die(self) -> None:
        self._restore()
        os._exit(128 + signal.SIGTERM)
