"""
A ticket's record: what somebody whom this host believes signed of one sliver; pure.

L{read_record} is for text that nobody has looked at but a signer's key; L{decide} says whether it is for this host,
now, and for the first time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hostline.protocol.errors import BadTicket, BadValue
from hostline.protocol.kinds import IMAGE, KEY, SLIVER_KIND, USER, Kind
from hostline.protocol.moments import moment, written
from hostline.protocol.names import near, shown, split_slice
from hostline.server.slivers.entry import KEY_MAX, MOST, Refused, read_script
from hostline.server.slivers.rspec import read_rspec

#: What a sliver's C{instantiation} says that a ticket made.
BY_TICKET = "ticket"
#: Says in C{hosts} that any host is meant.
ANY_HOST = "*"
_REQUIRED = ("sliver", "hosts", "not_before", "not_after", "number")
_MARK = "/ticket:"


def read_record(content: bytes) -> dict[str, Any]:
    """
    What a record says.

    @param content: JSON, UTF-8.
    @return: C{sliver}, C{hosts}, C{not_before} and C{not_after} (Unix seconds), C{number} (a word); and what else it
        says of C{kind}, C{image}, C{rspec}, C{keys}, C{users}, C{initscript}, C{start_command}, C{expires} (Unix
        seconds).
    @raise BadTicket: naming what was wanted; its reason is C{form}.
    """
    try:
        said = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        wrong = "too deep" if isinstance(error, RecursionError) else str(error)
        raise _unread(f"want a JSON object in UTF-8: {wrong}"[:200]) from None
    if type(said) is not dict:
        raise _unread(f"want a JSON object, got {shown(said)}")
    for key in said:
        if key not in _READERS:
            raise _unread(f"no key {shown(key)}{near(key, _READERS)}; known are {', '.join(_READERS)}")
    for key in _REQUIRED:
        if said.get(key) is None:
            raise _unread(f"want the key {key}")
    record = {}
    for key, value in said.items():
        try:
            if value is not None:
                record[key] = _READERS[key](value)
        except (BadValue, Refused) as error:
            wrong = str(error).removeprefix(f"{key}: ")
            raise _unread(f"{key}: {wrong}") from None
    if record["not_after"] < record["not_before"]:
        raise _unread("want not_after behind not_before")
    return record


def decide(
    record: Mapping[str, Any],
    now: float,
    names: Collection[str],
    *,
    most_s: float,
    payload: float,
    remembers: float,
    forgets: float,
    spent: bool,
) -> None:
    """
    Whether a ticket that is rightly signed is good on this host.

    @param record: from L{read_record}.
    @param now: Unix seconds.
    @param names: of this host.
    @param most_s: the longest time for which a ticket may be good.
    @param payload: timestamp of the last full payload of the authority.
    @param remembers: since when this host knows all numbers that it has seen.
    @param forgets: up to when tickets ended whose numbers it has forgotten since.
    @param spent: whether this number was seen.
    @raise BadTicket: if it is not.
    """
    begins, ends = record["not_before"], record["not_after"]
    ours = {one.casefold().rstrip(".") for one in names}
    if record["hosts"] != [ANY_HOST] and ours.isdisjoint(one.casefold().rstrip(".") for one in record["hosts"]):
        raise _refusal("host", f"the ticket is for {_some(record['hosts'])}, this host is {_some(sorted(ours))}")
    if now < begins:
        raise _refusal("early", f"the ticket is good from {written(begins)} on, and it is {written(now)}")
    if now > ends:
        raise _refusal("late", f"the ticket was good until {written(ends)}, and it is {written(now)}")
    if ends - begins > most_s:
        raise _refusal("long", f"want a ticket that is good for {most_s / 86400:g} days at most (tickets.most_days)")
    if begins < payload:
        raise _refusal(
            "old",
            f"the ticket is older than the authority's last records, which are of {written(payload)}; get a new one",
        )
    if begins < remembers:
        raise _refusal(
            "old",
            f"this host knows which tickets it has seen since {written(remembers)} only, and this one may be older; "
            "get a new one",
        )
    if ends <= forgets:
        raise _refusal(
            "old",
            f"this host was at {written(forgets)} already, by a clock that was put back since, and has forgotten which "
            "tickets it saw before; get a new one",
        )
    if spent:
        raise _refusal("seen", f"a ticket of this signer with number {record['number']} was taken before")
    if record.get("expires") is not None and record["expires"] <= now:
        raise _refusal("late", f"the sliver's time was over at {written(record['expires'])}")


def source_of(before: str, not_before: float) -> str:
    """
    What a sliver follows that a ticket has changed: the slice it was of, and since when the ticket is good.

    @param before: what it followed before, L{hostline.server.records.Sliver.source}.
    """
    return f"{before.partition('/')[0]}{_MARK}{not_before!r}"


def since(source: str) -> float:
    """
    @return: since when the ticket is good that a sliver follows; 0 if it follows none. Payloads of before that time
        do not know of the ticket.
    """
    return float(source.partition(_MARK)[2] or 0.0)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _unread(message: str) -> BadTicket:
    text = f"the ticket's record: {message}".encode("utf-8", "backslashreplace").decode()
    return _refusal("form", text)


def _refusal(reason: str, message: str) -> BadTicket:
    return BadTicket(message, reason=reason)


def _sliver(value: Any) -> str:
    name: str = value if type(value) is str else ""
    split_slice(name)
    return name


def _hosts(value: Any) -> list[str]:
    if type(value) is not list or not 0 < len(value) <= MOST:
        raise BadValue(f"want a list of 1 to {MOST} names of hosts, or ['*'], got {shown(value)}")
    for one in value:
        if type(one) is not str or not 0 < len(one) <= 253 or not one.isascii() or not one.isprintable() or " " in one:
            raise BadValue(f"want names of hosts, got {shown(one)}")
    if ANY_HOST in value and len(value) > 1:
        raise BadValue("want ['*'] or names of hosts, got both")
    return value


def _time(value: Any) -> float:
    # What is so long from now is another time for each who reads it.
    if type(value) not in (int, float, str) or (type(value) is str and value.startswith("+")):
        raise BadValue(f"want Unix seconds or a time as in RFC 3339, got {shown(value)}")
    found = moment(value, 0.0)
    if not math.isfinite(found) or found < 0:
        raise BadValue(f"want Unix seconds from 0, got {shown(value)}")
    return found


def _number(value: Any) -> str:
    text = str(value) if type(value) is int and 0 <= value < 2**128 else value
    if type(text) is not str or not 0 < len(text) <= 64 or not text.isascii() or not text.isprintable() or " " in text:
        raise BadValue(f"want a whole number from 0, or a word of at most 64 characters, got {shown(value)}")
    return text


def _of(kind: Kind) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        wrong = kind.fits(value)
        if wrong:
            raise BadValue(wrong)
        return value

    return read


def _several(kind: Kind, longest: int) -> Callable[[Any], list[str]]:
    def read(value: Any) -> list[str]:
        if type(value) is not list or len(value) > MOST:
            raise BadValue(f"want a list of at most {MOST}, got {shown(value)}")
        for at, one in enumerate(value):
            wrong = kind.fits(one)
            if wrong or len(one) > longest:
                raise BadValue(f"item {at + 1}: {wrong or f'want at most {longest} characters, got {len(one)}'}")
        return list(dict.fromkeys(value))

    return read


def _rspec(value: Any) -> dict[str, int]:
    if type(value) is not dict:
        raise BadValue(f"want an object, amounts by resource, got {shown(value)}")
    read_rspec(value)  # what it leaves out is what the sliver has already
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "sliver": _sliver,
    "hosts": _hosts,
    "not_before": _time,
    "not_after": _time,
    "number": _number,
    "kind": _of(SLIVER_KIND),
    "image": _of(IMAGE),
    "rspec": _rspec,
    "keys": _several(KEY, KEY_MAX),
    "users": _several(USER, MOST),
    "initscript": lambda value: read_script(value, "initscript"),
    "start_command": lambda value: read_script(value, "start_command"),
    "expires": _time,
}


def _some(names: Collection[str]) -> str:
    shown_ = list(names)[:3]
    return ", ".join(shown_) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
