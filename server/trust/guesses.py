"""
How often somebody may say a wrong token: a few times a minute.
"""

from __future__ import annotations

from collections import Counter

#: Wrong ones of one principal in a minute.
MOST = 10
#: Principals that are counted; those beyond share one count.
_COUNTED = 1000


class Guesses:
    """
    The wrong ones of this minute.
    """

    def __init__(self) -> None:
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def too_many(self, principal: str, now: float) -> bool:
        """
        Whether this principal has guessed wrong as often as it may.

        @param now: Unix seconds.
        """
        self._look(now)
        return self._counts[self._key(principal)] >= MOST

    def wrong(self, principal: str, now: float) -> None:
        """
        Count one.
        """
        self._look(now)
        self._counts[self._key(principal)] += 1

    def _look(self, now: float) -> None:
        if int(now // 60) != self._minute:
            self._minute = int(now // 60)
            self._counts.clear()

    def _key(self, principal: str) -> str:
        return principal if principal in self._counts or len(self._counts) < _COUNTED else ""
