"""
Event lines for one connection: a cursor into the kept events, moved on as the client reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostline.protocol.errors import NoSuchTopic, TooMany
from hostline.server import callers, rights
from hostline.server.callers import Caller
from hostline.server.events import Event
from hostline.server.host import Host
from hostline.server.records import Experiment, Operation

#: Topics that one connection may watch.
TOPICS = 100
#: What happens to the host and says to which slivers.
_NAMING = ("held", "expiry", "unused")
#: Events that are looked at in one turn.
_AT_ONCE = 4


class Watch:
    """
    What one connection watches.

    A client that reads slowly is not sent events until it has caught up; then they are taken from what is kept, and if
    some are not kept any more, a C{missed} event says so.
    """

    def __init__(
        self,
        host: Host,
        caller: Caller,
        send: Callable[[dict[str, Any], str | None], bool],
        soon: Callable[[], None],
    ) -> None:
        """
        @param send: writes an event under a tag; false if the client must catch up first.
        @param soon: has L{flush} called after what is being answered now, when it is this connection's turn.
        """
        self._host = host
        self._caller = caller
        self._send = send
        self._soon = soon
        self._tags: dict[str, str | None] = {}
        self._cursor = host.feed.newest
        self._stop: Callable[[], None] | None = None

    def add(self, topics: list[str], since: int | None, tag: str | None) -> dict[str, Any]:
        """
        Watch more topics.

        @raise NoSuchTopic: if the caller may not see one, or it does not exist.
        """
        for topic in topics:
            check_topic(self._host, self._caller, topic)
        if len(self._tags.keys() | set(topics)) > TOPICS:
            raise TooMany(f"want at most {TOPICS} topics on a connection")
        if since is not None:
            self._cursor = min(since, self._host.feed.newest)
        elif not self._tags:
            self._cursor = self._host.feed.newest
        self._tags |= dict.fromkeys(topics, tag)
        if self._stop is None:
            self._stop = self._host.feed.listen(self.flush)
        late = since is not None and since < self._host.feed.forgotten
        if late:
            self._cursor = self._host.feed.forgotten
        self._soon()
        return {"cursor": self._cursor, "topics": sorted(self._tags), "missed": late}

    def remove(self, topics: list[str]) -> dict[str, Any]:
        """
        Watch fewer; an empty list means none.
        """
        for topic in topics or list(self._tags):
            self._tags.pop(topic, None)
        if not self._tags:
            self.close()
        return {"cursor": self._cursor, "topics": sorted(self._tags)}

    def flush(self) -> None:
        """
        Send what has come since, as far as the client reads.
        """
        if self._cursor < self._host.feed.forgotten and self._tags:
            first = next(iter(self._tags))
            if not self._send(missed(self._host, first), self._tags[first]):
                return
            self._cursor = self._host.feed.forgotten
        for looked_at, event in enumerate(self._host.feed.after(self._cursor, _AT_ONCE + 1)):
            if looked_at == _AT_ONCE:
                self._soon()
                return
            for topic, tag in self._tags.items():
                if event.about(topic) and may_see(self._host, self._caller, event):
                    if not self._send(event.body, tag):
                        return
                    break
            self._cursor = event.cursor

    def close(self) -> None:
        """
        Send no more.
        """
        if self._stop is not None:
            self._stop()
            self._stop = None


def missed(host: Host, topic: str) -> dict[str, Any]:
    """
    What stands for the events that are not kept any more.
    """
    return {"cursor": host.feed.forgotten, "time": 0.0, "topic": topic, "what": "missed", "request": None}


def may_see(host: Host, caller: Caller, event: Event) -> bool:
    """
    Whether an event is for the caller: the audit log is for operators, what is about an experiment for those related.
    """
    if for_operators(event):
        return callers.is_operator(host, caller)
    return not caller.sliver if event.scope is None else rights.sees_scope(host, caller, event.scope)


def for_operators(event: Event) -> bool:
    """
    Whether an event is for operators alone: those of the audit log, and of the host those that name many a sliver.
    """
    topic = event.body["topic"]
    return topic == "audit" or (topic == "host" and event.body.get("what") in _NAMING)


def check_topic(host: Host, caller: Caller, topic: str) -> None:
    """
    @raise NoSuchTopic: if the caller may not see the topic, or it does not exist.
    """
    first, _, rest = topic.partition("/")
    seen = True
    if first == "audit":
        seen = callers.is_operator(host, caller)
    elif first == "host":
        seen = not caller.sliver
    elif first == "operation":
        operation = host.get(Operation, rest)
        looked_at = operation or rights.NO_OPERATION
        own = rights.sees(host, caller, looked_at, "watch")
        about = rights.sees_scope(host, caller, (looked_at.scope, looked_at.subject))
        seen = operation is not None and (own or about)
    elif first in ("experiment", "sliver"):
        # What is not there is looked at too, for it must take as long as what is hidden.
        _node, _, place = rest.partition(".") if first == "sliver" else ("", "", "")
        name = "/".join(reversed(place.split("."))) if place else rest
        found = host.sliver_named(rest) if first == "sliver" and not place else host.get(Experiment, name)
        stand_in = rights.stand_in_for(name)
        shown = [rights.sees(host, caller, found or stand_in, one) for one in rights.EVENTS]
        seen = found is not None and any(shown)
    if not seen:
        raise NoSuchTopic(f"no topic {topic}")
