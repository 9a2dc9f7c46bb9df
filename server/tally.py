"""
What all connections of one principal take together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from hostline.server.kept import Kept

if TYPE_CHECKING:
    from hostline.server.connection import Connection

#: Lines of a principal answered in one turn of the loop, so that its heap does not delay the others.
_TURN = 32


class Tally:
    """
    What all connections of one principal take together.

    @ivar budget: lines that may still be answered before the next turn.
    @ivar streams: how many streams, and commands inside slivers, are open.
    @ivar written: bytes written since it was last looked how many of them are unread.
    @ivar full: whether there were too many, so that nothing more is answered before the next turn.
    """

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.waiting = 0
        self.tagged = 0
        self.streams = 0
        self.bytes_waiting = 0
        self._kept: WeakValueDictionary[Hashable, Kept] = WeakValueDictionary()
        self.budget = _TURN
        self.written = 0
        self.full = False
        self._turns: deque[Connection] = deque()
        self._turning = False

    def kept(self, caller: Hashable) -> Kept:
        """
        @return: the replies kept for a caller, for as long as one of its connections has them.
        """
        return self._kept.setdefault(caller, Kept())

    def wait(self, connection: Connection | None, loop: asyncio.AbstractEventLoop) -> None:
        """
        Have a connection go on in the next turn of the loop, or in one of those after it, when those before it have
        had theirs.
        """
        if connection is not None:
            self._turns.append(connection)
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turning = False
        self.budget = _TURN
        if self.full:
            self.full = False
            self._relieve()
        while self._turns and self.budget and not self.full:
            self._turns.popleft().turn()
        if self._turns:
            self.wait(None, loop)

    def look(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        """
        Find out how much is unread; if it is too much, and still is in the next turn, the worst is dropped then.
        """
        self.written = 0
        if self.unread > limit and not self.full:
            self.full = True
            self.wait(None, loop)

    def _relieve(self) -> None:
        unread = {one: one.unread for one in self.connections}
        total = sum(unread.values())
        for one in sorted(unread, key=unread.__getitem__, reverse=True):
            if total <= one.most_unread:
                break
            total -= unread[one]
            one.drop("principal_unread_bytes")

    @property
    def unread(self) -> int:
        """
        Bytes that wait to be read by its clients.
        """
        return sum(one.unread for one in self.connections)
