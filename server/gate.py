"""
Who may come in: connections are counted, so that nobody takes all of them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from time import perf_counter, thread_time

from hostline.protocol.errors import TooMany
from hostline.server import callers
from hostline.server.callers import Caller
from hostline.server.config import Limits
from hostline.server.connection import Connection
from hostline.server.host import Host
from hostline.server.tally import Crowd, Tally

_OPERATORS, _KNOWN, _STRANGERS, _SLIVERS, _ENROLLING = "operators", "known", "strangers", "slivers", "enrolling"


class Gate:
    """
    The connections that there are, and what their principals take together.

    A principal is one, by whichever ways it comes. Operators have some connections of their own, so that they come in
    whatever the others do; uids and certificates without a record (uids of slivers among them) have few for all of them
    together, since they cost nothing; what comes through slivers' own sockets, and who comes for a certificate, takes
    nothing from anybody else.
    """

    def __init__(
        self,
        host: Host,
        limits: Callable[[], Limits],
        clock: Callable[[], float] = thread_time,
        now: Callable[[], float] = perf_counter,
        fair: bool = True,
    ) -> None:
        """
        @param limits: those in force now.
        @param clock: seconds, of what is spent on a principal; C{now}: of time that passes.
        @param fair: whether less is spent on it while others ask.
        """
        self._host = host
        self._limits = limits
        self._tallies: dict[str, Tally] = {}
        self._crowd = Crowd(self._tallies.values) if fair else None
        self._clock = clock
        self._now = now
        self._inside: dict[Connection, tuple[str, str]] = {}
        self._became: dict[Connection, str] = {}
        self._counts: Counter[str] = Counter()
        self._entering = 0

    @property
    def connections(self) -> int:
        """
        How many there are.
        """
        return len(self._inside)

    def tally(self, caller: Caller) -> Tally:
        """
        What is counted and kept for a principal. An operator by group is another one than the same user without it.
        """
        key = self._key(caller)
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = Tally(self._crowd, self._clock, self._now)
        return found

    async def enter(self, caller: Caller, loop: asyncio.AbstractEventLoop) -> None:
        """
        Return when a new connection of a principal is to be let in: at once, if it does not come and go all the time.

        @raise TooMany: if too many wait for that already.
        """
        most, kind = self._limits().connections, self._kind(caller)
        refusal = self._why_not(kind, self._tallies.get(self._key(caller)))
        if refusal is None and self._entering >= most and kind != _OPERATORS:
            refusal = _full(most)
        if refusal is not None:
            raise TooMany(refusal)
        self._entering += 1
        try:
            await self.tally(caller).enter(loop)
        finally:
            self._entering -= 1

    def tidy(self) -> None:
        """
        Forget principals of whom nothing is open any more. Not sooner: what they took is not forgiven who hangs up.
        """
        for key, tally in list(self._tallies.items()):
            if tally.is_at_rest():
                del self._tallies[key]

    def admit(self, connection: Connection) -> str | None:
        """
        Count a new connection.

        @return: why it is refused, if it is.
        """
        caller = connection.caller
        key, kind = self._key(caller), self._kind(caller)
        refusal = self._why_not(kind, self._tallies.get(key))
        if refusal is None:
            self._inside[connection] = kind, key
            self._counts[kind] += 1
        return refusal

    def _why_not(self, kind: str, tally: Tally | None) -> str | None:
        """
        @return: why one more connection of a principal is refused, if it is; those that wait to be let in count.
        """
        limits = self._limits()
        held = len(tally.connections) + tally.entering if tally is not None else 0
        if kind == _SLIVERS:
            return self._refuse_sliver(limits, held)
        if kind == _ENROLLING:
            return self._refuse_more(kind, limits.enrol_connections, "who has no certificate yet")
        return self._refuse(limits, kind, held)

    def _kind(self, caller: Caller) -> str:
        if caller.sliver:
            return _SLIVERS
        if caller.via == callers.ENROL:
            return _ENROLLING
        if callers.is_operator(self._host, caller):
            return _OPERATORS
        return _KNOWN if callers.is_known(self._host, caller) else _STRANGERS

    def _refuse(self, limits: Limits, kind: str, held: int) -> str | None:
        beyond = self._counts[_OPERATORS] - limits.operator_connections
        shared = self._counts[_KNOWN] + self._counts[_STRANGERS] + max(0, beyond)
        if shared >= limits.connections and not (kind == _OPERATORS and beyond < 0):
            return _full(limits.connections)
        refusal = None
        if kind == _STRANGERS:
            refusal = self._refuse_more(kind, limits.stranger_connections, "uids and certificates not known here")
        if refusal is None and held >= limits.principal_connections:
            return f"want at most {limits.principal_connections} connections from one principal"
        return refusal

    def _refuse_sliver(self, limits: Limits, held: int) -> str | None:
        if held >= limits.own_connections:  # as is_full, but for a race
            return f"want at most {limits.own_connections} connections from one sliver"
        return self._refuse_more(_SLIVERS, limits.sliver_connections, "slivers")

    def _refuse_more(self, kind: str, most: int, whose: str) -> str | None:
        if self._counts[kind] < most:
            return None
        return f"want at most {most} connections from {whose}; try again later"

    def is_full(self, sliver: int) -> bool:
        """
        Whether a sliver has as many connections through its own socket as it may have.
        """
        tally = self._tallies.get(self._key(Caller(-1, sliver=sliver)))
        return tally is not None and len(tally.connections) >= self._limits().own_connections

    def left(self, connection: Connection) -> None:
        """
        A connection that was admitted is over.
        """
        kind, _ = self._inside.pop(connection)
        self._became.pop(connection, None)
        self._counts[kind] -= 1

    def cut(self, chosen: Callable[[Caller], bool]) -> int:
        """
        End connections, with all that is open on them.

        @param chosen: whose.
        @return: how many.
        """
        found = [one for one in self._inside if chosen(one.caller)]
        for one in found:
            one.cut()
        return len(found)

    def cut_former(self) -> int:
        """
        End the connections of users and delegates that are no more, or are no longer known by what they came with: who
        has that now is another one; and those of operators who are none any more. Who was nobody and has become one of
        them goes on.

        @return: how many.
        """
        found = []
        for one, (kind, key) in self._inside.items():
            if kind == _OPERATORS and not callers.is_operator(self._host, one.caller):
                found.append(one)
                continue
            before, now = self._became.get(one, key), self._key(one.caller)
            if now == before:
                continue
            if before.startswith(("user:", "delegate:")):
                found.append(one)
            else:
                self._became[one] = now
        for one in found:
            one.cut()
        return len(found)

    def _key(self, caller: Caller) -> str:
        principal = callers.principal(self._host, caller)
        return f"{principal} operator" if caller.operator and caller.uid not in (0, os.geteuid()) else principal


def _full(most: int) -> str:
    return f"want at most {most} connections to this host; try again later"
