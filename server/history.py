"""
Answers about what came to be: watch, unwatch, events.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from hostline.protocol.commands import TABLE
from hostline.server.asking import Ask, responds
from hostline.server.events import Event
from hostline.server.watch import check_topic, for_operators, may_see, missed


@responds(TABLE["watch"])
def watch(ask: Ask, topics: list[str], since: int | None) -> dict[str, Any]:
    """
    Turn on event lines.
    """
    return ask.session.watch(topics, since, ask.tag)


@responds(TABLE["unwatch"])
def unwatch(ask: Ask, topics: list[str] | None = None) -> dict[str, Any]:
    """
    Turn them off.
    """
    return ask.session.unwatch(topics or [])


@responds(TABLE["events"])
def events(ask: Ask, since: int, limit: int, topic: str) -> list[dict[str, Any]]:
    """
    List what came to be.
    """
    check_topic(ask.host, ask.caller, topic)
    known: dict[tuple[bool, tuple[int, int] | None], bool] = {}  # there are thousands of events, of a few scopes

    def seen(event: Event) -> bool:
        scope = for_operators(event), event.scope
        if scope not in known:
            known[scope] = may_see(ask.host, ask.caller, event)
        return known[scope]

    found = (one for one in ask.host.feed.after(since) if one.about(topic) and seen(one))
    gap = [missed(ask.host, topic)] if 0 < since < ask.host.feed.forgotten else []
    return gap + [one.body for one in islice(found, limit - len(gap))]
