"""
What a payload of a control authority changes on this host; pure.

Nothing is destroyed because something is missing: what the payload no longer names is doomed (stopped, and kept for a
grace time), and a payload that would doom too many at once is held. What was made here by hand is never touched. What a
ticket gave that is newer than the payload stays too: the payload does not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import field, frozen

from hostline.protocol.errors import BadPayload, Held
from hostline.server.slivers.doom import Timed
from hostline.server.slivers.plan import ABSENT, folded
from hostline.server.slivers.ticket import BY_TICKET, since

#: Made here; not the authority's.
LOCAL = "local"
#: How far ahead of our clock a payload may be: more would make every later one stale.
AHEAD_S = 86400.0
#: Names in the body of an error.
_SHOWN = 1000


class Known(Timed, Protocol):
    """
    The part of L{hostline.server.records.Sliver} that is looked at here.
    """

    @property
    def kind(self) -> str: ...

    @property
    def instantiation(self) -> str: ...

    @property
    def source(self) -> str: ...


@frozen
class Decision:
    """
    What is to be done; each sliver is in one of these at most, but one that another slice's has the name of: that is
    doomed, and its successor refused.

    @ivar created: entries of those that are new here; C{changed}: of those whose record is another now.
    @ivar back: names of the doomed that are brought back; with their entry, if their record is another now.
    @ivar kept: names of those that stay as they are.
    @ivar doomed: names of those that are missing.
    @ivar refused: why, by name.
    """

    created: list[dict[str, Any]] = field(factory=list)
    changed: list[dict[str, Any]] = field(factory=list)
    back: dict[str, dict[str, Any] | None] = field(factory=dict)
    kept: list[str] = field(factory=list)
    doomed: list[str] = field(factory=list)
    refused: dict[str, str] = field(factory=dict)


def sources(known: Mapping[str, Known]) -> dict[str, str]:
    """
    @return: what L{hostline.server.slivers.payload.read_payload} wants to know of those that are here.
    """
    return {name: one.source for name, one in known.items() if one.source}


def decide(
    known: Mapping[str, Known],
    reading: Mapping[str, Any],
    last: float,
    now: float,
    *,
    brake: float,
    force: bool = False,
) -> Decision:
    """
    What a payload changes.

    @param known: the free slivers of this host, by name.
    @param reading: from L{hostline.server.slivers.payload.read_payload}.
    @param last: timestamp of the payload taken over last; an older one is refused, and one of the same time only adds.
    @param now: Unix seconds.
    @param brake: which part of the authority's slivers may be doomed at once, 0 to 1; an empty payload dooms none.
    @param force: take it whatever its timestamp, and however many it dooms.
    @raise BadPayload: if it is stale, or from the future.
    @raise Held: if it would doom too many.
    """
    timestamp = reading["timestamp"]
    if timestamp < last and not force:
        raise BadPayload(f"stale: its timestamp is {timestamp:.15g}, and {last:.15g} was taken over before")
    if timestamp > now + AHEAD_S and not force:
        raise BadPayload(
            f"its timestamp is {timestamp:.15g}, more than a day ahead of this host's clock, which says {now:.15g}"
        )
    same = timestamp == last and not force
    decision = Decision(refused=dict(reading["refused"]))
    named = set(decision.refused)
    newer = set() if force else {name for name, one in known.items() if since(one.source) > timestamp}
    ends = _entries(known, reading["entries"], decision, named, now, same, newer)
    _kept(known, reading["kept"], decision, named, now)
    nothing = not named
    named |= newer
    living = sum(_braked(one) and one.doomed is None for one in known.values())
    if not same and not reading["unnamed"]:  # an entry that cannot be read may be any of those that are missing
        decision.doomed.extend(
            name for name, one in known.items() if name not in named and _followed(one) and one.doomed is None
        )
    going = [name for name in decision.doomed + ends if _braked(known[name])]
    if going and not force and (nothing or len(going) > brake * living):
        raise Held(
            f"the payload would take away {len(going)} of {living} slivers ({folded(sorted(going))}), which is more "
            "than the brake allows; nothing was changed. If it is right: sync again with force=True",
            stopped=sorted(going)[:_SHOWN],
            slivers=living,
        )
    return decision


def _entries(
    known: Mapping[str, Known],
    entries: list[dict[str, Any]],
    decision: Decision,
    named: set[str],
    now: float,
    same: bool,
    newer: set[str],
) -> list[str]:
    """
    @return: the names of those whose time the payload ends.
    """
    ends = []
    names = {name.lower(): name for name in known} if entries else {}
    for entry in entries:
        name = entry["name"]
        old = known.get(name)
        if old is not None and _another(old, entry):
            decision.refused[name] = (
                "it is another slice's than the sliver of this name that is here; it is made once that one is gone: "
                "destroy it, or wait until its grace time is over"
            )
            continue
        named.add(name)
        over = entry["expires"] is not None and entry["expires"] <= now
        if old is None:
            reason = _unfit(entry, names.get(name.lower()), over)
            if reason:
                decision.refused[name] = reason
            else:
                decision.created.append(entry)
        elif reason := _refusal(old, entry):
            decision.refused[name] = reason
        elif name in newer:
            decision.kept.append(name)
        elif old.doomed is not None and not over:
            decision.back[name] = entry
        elif same:
            decision.kept.append(name)
        else:
            decision.changed.append(entry)
            if over and old.doomed is None and (old.expires is None or old.expires > now):
                ends.append(name)
    return ends


def _kept(known: Mapping[str, Known], kept: list[str], decision: Decision, named: set[str], now: float) -> None:
    for name in kept:
        named.add(name)
        old = known.get(name)
        if old is None:
            decision.refused[name] = "it was taken away while the payload was read; the next one makes it anew"
        elif old.wanted == ABSENT and not old.remains:
            decision.refused[name] = _GOING
        elif old.doomed is not None and (old.expires is None or old.expires > now):
            decision.back[name] = None
        else:
            decision.kept.append(name)


_GOING = "the sliver of this name is being destroyed; the next payload makes it anew"


def _unfit(entry: Mapping[str, Any], other: str | None, over: bool) -> str:
    if other is not None:
        return f"there is {other}; names differ in more than case"
    return f"it expired at {entry['expires']:.15g}" if over else ""


def _refusal(old: Known, entry: Mapping[str, Any]) -> str:
    if old.instantiation == LOCAL:
        return "a sliver of this name was made on this host, not by the authority; it stays as it is"
    if old.wanted == ABSENT and not old.remains:
        return _GOING
    if old.kind != entry["kind"]:
        return (
            f"the sliver is of kind {old.kind} and would be {entry['kind']}, which wants it destroyed first; it stays "
            "as it is. Leave it out of one payload, destroy it while it is doomed, and name it again"
        )
    return ""


def _another(old: Known, entry: Mapping[str, Any]) -> bool:
    # A new holder of a name inherits nothing, its files least of all.
    before, after = old.source.partition("/")[0], entry["source"].partition("/")[0]
    return bool(before and after and before != after)


def _braked(one: Known) -> bool:
    """
    Whether it counts for the brake. What a ticket made does not: an authority that never heard of it leaves it out, and
    nothing is wrong with its payload.
    """
    return _followed(one) and one.instantiation != BY_TICKET


def _followed(one: Known) -> bool:
    """
    Whether a sliver stands and falls with the authority's payloads; one that was brought back by hand has no source.
    """
    return one.instantiation != LOCAL and one.source != "" and (one.remains or one.wanted != ABSENT)
