"""
Places for heavy work: few in all, one for each principal, and turns among those who wait.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, succeed

from hostline.protocol.errors import TooMany

#: How many of one principal may wait.
WAITING = 4


class Places:
    """
    So many places, given to the principals in turn, so that none can keep the others out.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._busy: set[str] = set()
        self._waiting: dict[str, deque[Deferred[None]]] = {}

    def take(self, who: str) -> Deferred[None]:
        """
        @return: fires once C{who} has a place; may be cancelled until then.
        @raise TooMany: if L{WAITING} of C{who} wait already.
        """
        if self._free and who not in self._busy:
            self._free -= 1
            self._busy.add(who)
            return succeed(None)
        if len(self._waiting.get(who, ())) >= WAITING:
            raise TooMany(
                f"want at most {WAITING + 1} topologies, payloads or tickets of one principal being read at a time; "
                "try again later"
            )
        turn: Deferred[None] = Deferred(lambda _: self._remove(who, turn))
        self._waiting.setdefault(who, deque()).append(turn)
        return turn

    def give_back(self, who: str) -> None:
        """
        The place is free again: for whoever has waited longest of those who are not served.
        """
        self._busy.discard(who)
        self._free += 1
        following = next((one for one in self._waiting if one not in self._busy), None)
        if following is None:
            return
        queue = self._waiting.pop(following)
        turn = queue.popleft()
        if queue:
            self._waiting[following] = queue  # behind the others
        self._free -= 1
        self._busy.add(following)
        turn.callback(None)

    def _remove(self, who: str, turn: Deferred[None]) -> None:
        queue = self._waiting[who]
        queue.remove(turn)
        if not queue:
            del self._waiting[who]
