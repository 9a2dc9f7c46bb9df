"""
Taking turns: many pieces of work asked for at once do not hold up the reactor.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Turns:
    """
    A queue for pieces of work that are short each; after some of them the reactor gets its turn.
    """

    def __init__(self, clock: IReactorTime, slice_s: float = 0.002) -> None:
        """
        @param slice_s: how long we go on before the reactor gets its turn.
        """
        self._clock = clock
        self._slice_s = slice_s
        self._waiting: deque[Deferred[None]] = deque()

    async def mine(self) -> None:
        """
        Return when it is the caller's turn.
        """
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._clock.callLater(0, self._go_on)
        await turn

    def _go_on(self) -> None:
        end = self._clock.seconds() + self._slice_s
        while self._waiting:
            self._waiting[0].callback(None)
            self._waiting.popleft()
            if self._clock.seconds() >= end:
                break
        if self._waiting:
            self._clock.callLater(0, self._go_on)
