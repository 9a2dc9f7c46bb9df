"""
What all connections of one principal take together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from hostline.server.kept import Kept

if TYPE_CHECKING:
    from hostline.server.connection import Connection

#: Seconds that a principal is answered in one turn of the loop, so that its heap does not delay the others: while none
#: of them asks anything, and while one does; a few answers out of memory take as long as the latter.
ALONE_S, AMONG_S = 1e-3, 50e-6
#: A turn that was longer than this, for one answer cannot be cut, is taken off what a principal may use for such ones:
#: this part of the time, so that few of the others' answers in a hundred wait for one, with so many seconds at once,
#: and so many that it may be behind.
LONG_S, SHARE, BURST_S, BEHIND_S = 150e-6, 0.005, 50e-3, 40e-3
#: Seconds that it takes to let a connection in: a turn of its own while others ask, but no long one, or scripts that
#: connect for each request would hardly come in besides others.
ENTER_S = 100e-6
#: Seconds that it takes to receive some bytes, besides those for each byte; and to answer a line by a kept reply.
READ_S, BYTE_S, KEPT_S = 5e-6, 2e-10, 3e-7
#: Seconds between two looks who has asked, and for which he counts as asking after that.
_LOOK_S, _ASKING_S = 0.05, 2.0


class Crowd:
    """
    Who has asked something lately.
    """

    def __init__(self, tallies: Callable[[], Iterable[Tally]]) -> None:
        """
        @param tallies: all that there are.
        """
        self._tallies = tallies
        self._looked = 0.0
        self._asking: dict[Tally, float] = {}

    def others(self, tally: Tally, now: float) -> bool:
        """
        Whether others than this one ask.
        """
        if now - self._looked > _LOOK_S:
            self._looked = now
            for one in self._tallies():
                if one.asked:
                    one.asked = False
                    self._asking[one] = now
            self._asking = {one: last for one, last in self._asking.items() if now - last < _ASKING_S}
        return len(self._asking) > (tally in self._asking)


class HasTurns(Protocol):
    """
    What goes on when it is its turn.
    """

    def turn(self) -> None: ...


class Piece:
    """
    Something short that is done once, when it is its turn.
    """

    def __init__(self, tally: Tally, do: Callable[[], object], seconds: float = 0.0) -> None:
        """
        @param seconds: that it takes, besides those that C{do} takes.
        """
        self._tally = tally
        self._do = do
        self._seconds = seconds

    def turn(self) -> None:
        """
        Do it.
        """
        self._tally.begin()
        self._do()
        self._tally.spend(self._seconds)


class Tally:
    """
    What all connections of one principal take together.

    @ivar asked: whether something came since it was looked last who asks.
    @ivar entering: how many connections wait to be let in.
    @ivar budget: seconds that may still be spent on answers before the next turn.
    @ivar streams: how many streams, and commands inside slivers, are open.
    @ivar written: bytes written since it was last looked how many of them are unread.
    @ivar full: whether there were too many, so that nothing more is answered before the next turn.
    """

    def __init__(
        self,
        crowd: Crowd | None = None,
        clock: Callable[[], float] = thread_time,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        """
        @param clock: seconds, of what is spent: of the processor, for on a busy host others have it in between.
        @param now: seconds, of time that passes.
        """
        self._crowd = crowd
        self._clock = clock
        self._now = now
        self.asked = False
        self.connections: set[Connection] = set()
        self.entering = 0
        self.waiting = 0
        self.tagged = 0
        self.streams = 0
        self.bytes_waiting = 0
        self._kept: WeakValueDictionary[Hashable, Kept] = WeakValueDictionary()
        self.budget = self._given = ALONE_S
        self._mark = 0.0
        self._allowance = BURST_S
        self._looked = 0.0
        self.written = 0
        self.full = False
        self._turns: deque[HasTurns] = deque()
        self._turning = False
        self._next = ALONE_S

    def kept(self, caller: Hashable) -> Kept:
        """
        @return: the replies kept for a caller, for as long as one of its connections has them.
        """
        found = self._kept.get(caller)
        if found is None:
            found = self._kept[caller] = Kept()
        return found

    def begin(self) -> None:
        """
        From now on time is spent.
        """
        self._mark = self._clock()

    def spend(self, more: float = 0.0) -> None:
        """
        Take off the budget what was spent since this was said last.

        @param more: seconds that were spent before.
        """
        now = self._clock()
        self.budget -= now - self._mark + more
        self._mark = now

    def charge(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """
        Take off the budget what was done at once.
        """
        self.budget -= seconds
        if self.budget <= 0:
            self.wait(None, loop)

    async def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Return when it is the turn of a new connection to be let in.
        """
        self.asked = True
        if not self._turning and self.budget > 0:
            self.charge(ENTER_S, loop)
            return
        turn: asyncio.Future[None] = loop.create_future()

        def come() -> None:
            if not turn.done():  # nobody has closed the door meanwhile
                turn.set_result(None)

        self.entering += 1
        try:
            self.wait(Piece(self, come, ENTER_S), loop)
            await turn
        finally:
            self.entering -= 1

    def is_at_rest(self) -> bool:
        """
        Whether nothing is open or under way, and nothing is behind: another one made later would be the same.
        """
        allowance = self._allowance + (self._now() - self._looked) * SHARE
        return not (self.connections or self.entering or self._turning) and allowance >= BURST_S

    def wait(self, one: HasTurns | None, loop: asyncio.AbstractEventLoop) -> None:
        """
        Have a connection, say, go on in the next turn of the loop, or in one of those after it, when those before it
        have had theirs.
        """
        if one is not None:
            self._turns.append(one)
        if not self._turning:
            self._turning = True
            rest = self._rest()
            if rest > 0:
                loop.call_later(rest, self._turn, loop)
            else:
                loop.call_soon(self._turn, loop)

    def _rest(self) -> float:
        """
        @return: seconds until the next turn, for whose turns are long while others ask.
        """
        now = self._now()
        among = self._crowd is not None and self._crowd.others(self, now)
        self._next = AMONG_S if among else ALONE_S
        self._allowance = min(BURST_S, self._allowance + (now - self._looked) * SHARE)
        self._looked = now
        used = self._given - self.budget
        if used > LONG_S and among:
            self._allowance = max(-BEHIND_S, self._allowance - used)
        return -self._allowance / SHARE if among else 0.0

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self.budget = self._given = self._next
        if self.full:
            self.full = False
            self._relieve()
        while self._turns and self.budget > 0 and not self.full:
            self._turns.popleft().turn()
        self._turning = False  # not before: what the next turn has to wait for is what this one took
        if self._turns or self.full or self.budget <= 0:
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
