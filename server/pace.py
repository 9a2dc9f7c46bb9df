"""
How fast a sliver may change things through its own socket: each change is written, told and kept, at others' cost.
"""

from __future__ import annotations

from attrs import frozen

#: Changes at once, and the seconds after which there is one more.
BURST, EACH_S = 30, 2.0


@frozen
class _Left:
    changes: float
    time: float


class Pace:
    """
    What each sliver has left.
    """

    def __init__(self) -> None:
        self._left: dict[int, _Left] = {}

    def take(self, serial: int, now: float) -> bool:
        """
        Count a change.

        @param now: seconds, of any clock.
        @return: false if it comes too soon.
        """
        before = self._left.get(serial, _Left(BURST, now))
        changes = min(BURST, before.changes + max(0.0, now - before.time) / EACH_S)
        allowed = changes >= 1
        self._left[serial] = _Left(changes - allowed, now)
        if len(self._left) > 1000:  # who has not asked for a while has all of it again
            self._left = {one: left for one, left in self._left.items() if now - left.time < BURST * EACH_S}
        return allowed
