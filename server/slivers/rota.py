"""
Who comes next: a number of places, given to what waits for one, group by group in turn; pure.

A group that asks for much, or keeps its places for long, delays itself: the others' turns come as before.
"""

from __future__ import annotations

from collections import deque


class Rota:
    """
    The places, who has one, and who waits; in the order they came within a group.

    @ivar at_once: how many places there are; C{most}: how many of them one group has at most, so that another finds
        one free when it comes.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.most = max(1, at_once - max(1, at_once // 4))
        self._taken = 0
        self._held: dict[int, int] = {}
        self._waiting: dict[int, deque[int]] = {}  # the group whose turn comes first is first

    def wait(self, group: int, serial: int) -> None:
        """
        Have a member of a group wait for a place.
        """
        self._waiting.setdefault(group, deque()).append(serial)

    def take(self) -> tuple[int, int] | None:
        """
        Give the next free place away.

        @return: the group and its member; None if there is no place for any that waits.
        """
        if self._taken >= self.at_once:
            return None
        group = next((one for one in self._waiting if self._held.get(one, 0) < self.most), None)
        if group is None:
            return None
        waiting = self._waiting.pop(group)
        serial = waiting.popleft()
        if waiting:
            self._waiting[group] = waiting  # behind all others
        self._taken += 1
        self._held[group] = self._held.get(group, 0) + 1
        return group, serial

    def leave(self, group: int) -> None:
        """
        One of the group gives its place back.
        """
        self._taken -= 1
        self._held[group] -= 1
        if not self._held[group]:
            del self._held[group]
