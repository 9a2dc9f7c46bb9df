"""
Logs that are followed: a conversation with what a sliver wrote, and goes on writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from hostline.server.drivers.driver import Hearer

#: Seconds between two looks for more.
EVERY_S = 0.5
#: Bytes of a log that are read at a time.
_MOST = 1 << 16


class Follow:
    """
    A L{hostline.server.drivers.driver.Conversation} in which only one side speaks. It never ends by itself: a sliver
    that is dead may be started again.
    """

    def __init__(
        self,
        read: Callable[[str, int, int], tuple[bytes, int]],
        logs: Mapping[str, str],
        tail: int,
        hearer: Hearer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """
        @param read: reads a log, from an offset, so many bytes; as L{hostline.server.drivers.driver.Driver.read_log}.
        @param logs: those to follow, and the stream that each goes to.
        @param tail: how many bytes of each, from the end, come first.
        """
        self._read = read
        self._logs = dict(logs)
        self._offsets = dict.fromkeys(logs, -tail)
        self._first = tail
        self._hearer = hearer
        self._loop = loop
        self._paused = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = loop.call_later(0, self._look)

    def _look(self) -> None:
        self._timer = None
        more = False
        for log, stream in self._logs.items():
            if self._paused or self._closed:
                return
            most = _MOST
            if self._offsets[log] < 0:  # all of the tail at once: from its middle on, nothing counts from the end
                most = self._first
            data, self._offsets[log] = self._read(log, self._offsets[log], most)
            more = more or len(data) == most
            if data:
                self._hearer.said(stream, data)
        if not (self._paused or self._closed):
            self._timer = self._loop.call_later(0 if more else EVERY_S, self._look)

    def write(self, data: bytes) -> None:
        pass  # nobody hears it

    @property
    def unwritten(self) -> int:
        return 0

    def end_input(self) -> None:
        pass

    def resize(self, rows: int, columns: int) -> None:
        pass

    def pause(self) -> None:
        self._paused = True
        self._stop()

    def resume(self) -> None:
        self._paused = False
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(0, self._look)

    def close(self) -> None:
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
