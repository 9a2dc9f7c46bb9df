"""
What came to be, in order: events with cursors, kept for a while, so that who comes back misses nothing.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from attrs import frozen

from hostline.server.record import ENCODE


@frozen
class Event:
    """
    One event.

    @ivar body: what goes on the wire: cursor, time, topic, what, request and what it concerns.
    @ivar scope: serials of the project and the experiment it is about, which decide who may see it; None for all.
    """

    cursor: int
    body: dict[str, Any]
    scope: tuple[int, int] | None = None

    def as_json(self) -> str:
        """
        The event as the store keeps it.
        """
        return ENCODE({"body": self.body, "scope": self.scope})

    @classmethod
    def from_json(cls, cursor: int, text: str) -> Event:
        """
        @raise ValueError: if the text is no event.
        """
        try:
            kept = json.loads(text, object_pairs_hook=_shared)
            scope, body = kept["scope"], dict(kept["body"])
            if not isinstance(body["topic"], str):
                raise ValueError("want a topic")
            return cls(cursor, body, None if scope is None else (int(scope[0]), int(scope[1])))
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(str(error)) from error

    def about(self, topic: str) -> bool:
        """
        Whether who watches C{topic} wants it. C{all} is everything but the audit log.
        """
        own = self.body["topic"]
        if own == "audit":
            return topic == "audit"
        sliver = self.body.get("sliver")
        return topic in ("all", own) or (sliver is not None and topic == f"sliver/{sliver}")


class Feed:
    """
    The kept events, and those who wait for more.

    @ivar newest: cursor of the newest event.
    @ivar forgotten: cursor of the newest event that is no longer kept; 0 if all are.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.newest = 0
        self.forgotten = 0
        self._events: list[Event] = []
        self._listeners: set[Callable[[], None]] = set()

    def load(self, events: list[Event], forgotten: int) -> None:
        """
        Begin with what the store kept.
        """
        self._events = events
        self.forgotten = forgotten
        self.newest = events[-1].cursor if events else forgotten

    def append(self, events: list[Event]) -> None:
        """
        Tell all listeners of events that are now durable.
        """
        self._events += events
        self.newest = max(self.newest, events[-1].cursor)
        # Cut by the quarter: taking one off the front of a list at each event would cost its whole length each time.
        if len(self._events) > self.kept * 5 // 4:
            self.forgotten = self._events[-self.kept - 1].cursor
            del self._events[: -self.kept]
        for listener in tuple(self._listeners):
            listener()

    def after(self, cursor: int, most: int | None = None) -> list[Event]:
        """
        The kept events that came after C{cursor}, oldest first; no more than C{most}.
        """
        first = bisect_right(self._events, cursor, key=lambda event: event.cursor)
        return self._events[first : None if most is None else first + most]

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """
        @param listener: called whenever there are new events.
        @return: call it to stop.
        """
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    A dict that shares its keys and short texts with those of other events, as those made here do: there are thousands.
    """
    intern = sys.intern
    return {intern(key): intern(value) if type(value) is str and len(value) < 40 else value for key, value in pairs}
