"""
Deadlines: a connection's client ends the lines it begins, reads what it asked for, and is looked after when it may have
hung up.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING

from hostline.server.config import Limits

if TYPE_CHECKING:
    from hostline.server.connection import Connection

#: Seconds between two looks whether somebody from whom nothing more is read has hung up.
_HANGUP_S = 1.0


class Deadlines:
    """
    The timers of one connection.
    """

    def __init__(
        self,
        connection: Connection,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._loop = loop
        self._limits = limits
        self._line: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._hangup: asyncio.TimerHandle | None = None

    def watch_the_line(self, anew: bool, waiting: bool) -> None:
        """
        @param anew: a line has just ended, or we read no more or again: the time of the next one begins now.
        @param waiting: whether there is one that was begun.
        """
        if self._line is not None and (anew or not waiting):
            self._line.cancel()
            self._line = None
        if waiting and self._line is None and self._connection.reading:
            self._line = self._loop.call_later(self._limits.line_seconds, self._line_late)

    def _line_late(self) -> None:
        self._line = None
        self._connection.line_late()

    def watch_the_unread(self) -> None:
        """
        The client reads slower than it asks: it is dropped, if it reads nothing for too long.
        """
        self._unread = self._loop.call_later(self._limits.unread_seconds, self._unread_late, self._connection.unread)

    def all_read(self) -> None:
        """
        The client caught up.
        """
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _unread_late(self, before: int) -> None:
        # Who has a stream open may let it stand, as in a pager: what is said into it waits, and it is counted.
        if self._connection.unread < before or self._connection.has_streams:
            self.watch_the_unread()
            return
        self._connection.drop("unread_seconds")

    def watch_for_hangup(self) -> None:
        """
        Look from time to time whether the client is still there, while nothing is read that would tell.
        """
        if self._hangup is None and self._connection.deaf and not self._transport.is_closing():
            self._hangup = self._loop.call_later(_HANGUP_S, self._look_for_hangup)

    def _look_for_hangup(self) -> None:
        self._hangup = None
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), 0)  # POLLHUP: not only its own side is ended
        if poll.poll(0) and not self._transport.is_closing():
            self._transport.abort()
        self.watch_for_hangup()

    def close(self) -> None:
        """
        The connection is over.
        """
        for timer in (self._line, self._unread, self._hangup):
            if timer is not None:
                timer.cancel()
        del self._connection  # which holds this: or both would stay until the collector comes by
