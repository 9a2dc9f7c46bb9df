"""
Who may come in: connections are counted, so that nobody takes all of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from hostline.server.config import Limits
from hostline.server.connection import Connection
from hostline.server.host import Host
from hostline.server.rights import Caller
from hostline.server.tally import Tally

_OPERATORS, _KNOWN, _STRANGERS, _SLIVERS = "operators", "known", "strangers", "slivers"


class Gate:
    """
    The connections that there are, and what their principals take together.

    Operators have some of their own, so that they come in whatever the others do; uids without a record (those of
    slivers among them) have few for all of them together, since a uid costs nothing; what comes through slivers' own
    sockets takes nothing from anybody else.
    """

    def __init__(self, host: Host, limits: Callable[[], Limits]) -> None:
        """
        @param limits: those in force now.
        """
        self._host = host
        self._limits = limits
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._inside: dict[Connection, str] = {}
        self._counts: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """
        How many there are.
        """
        return len(self._inside)

    def tally(self, caller: Caller) -> Tally:
        """
        What is counted and kept for a principal. An operator by group is another one than the same uid without it.
        """
        return self._tallies.setdefault(_key(caller), Tally())

    def admit(self, connection: Connection) -> str | None:
        """
        Count a new connection.

        @return: why it is refused, if it is.
        """
        limits, caller = self._limits(), connection.caller
        tally = self._tallies.get(_key(caller))
        if caller.sliver:
            refusal = self._refuse_sliver(limits, tally)
            if refusal is None:
                self._count(connection, _SLIVERS)
            return refusal
        kind = _OPERATORS if caller.operator else _KNOWN if self._host.by_uid(caller.uid) else _STRANGERS
        beyond = self._counts[_OPERATORS] - limits.operator_connections
        shared = self._counts[_KNOWN] + self._counts[_STRANGERS] + max(0, beyond)
        if shared >= limits.connections and not (kind == _OPERATORS and beyond < 0):
            return f"want at most {limits.connections} connections to this host; try again later"
        if kind == _STRANGERS and self._counts[kind] >= limits.stranger_connections:
            return f"want at most {limits.stranger_connections} connections from uids not known here; try again later"
        if tally is not None and len(tally.connections) >= limits.principal_connections:
            return f"want at most {limits.principal_connections} connections from one principal"
        self._count(connection, kind)
        return None

    def _refuse_sliver(self, limits: Limits, tally: Tally | None) -> str | None:
        if self._counts[_SLIVERS] >= limits.sliver_connections:
            return f"want at most {limits.sliver_connections} connections from slivers; try again later"
        if tally is not None and len(tally.connections) >= limits.own_connections:  # as is_full, but for a race
            return f"want at most {limits.own_connections} connections from one sliver"
        return None

    def _count(self, connection: Connection, kind: str) -> None:
        self._inside[connection] = kind
        self._counts[kind] += 1

    def is_full(self, sliver: int) -> bool:
        """
        Whether a sliver has as many connections through its own socket as it may have.
        """
        tally = self._tallies.get(("sliver", sliver))
        return tally is not None and len(tally.connections) >= self._limits().own_connections

    def left(self, connection: Connection) -> None:
        """
        A connection that was admitted is over.
        """
        self._counts[self._inside.pop(connection)] -= 1
        key = _key(connection.caller)
        tally = self._tallies.get(key)
        if tally is not None and not tally.connections:
            del self._tallies[key]


def _key(caller: Caller) -> tuple[str, int]:
    if caller.sliver:
        return "sliver", caller.sliver
    apart = caller.operator and caller.uid not in (0, os.geteuid())
    return "operator" if apart else "uid", caller.uid
