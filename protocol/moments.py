"""
Moments and lengths of time, as requests and configurations write them.
"""

from __future__ import annotations

from hostline.protocol.errors import BadValue
from hostline.protocol.names import shown

#: The last moment that may be named: the end of the year 9999.
LATEST = 253402300799


def moment(value: float | str, now: float) -> float:
    """
    What a WHEN means.

    @param value: Unix seconds, C{+30m}, or a time as in RFC 3339.
    @param now: Unix seconds.
    @return: Unix seconds.
    @raise BadValue: if it is none of these.
    """
    try:
        if isinstance(value, str) and value.startswith("+"):
            return now + _between_moments(read_seconds(value[1:]))
        if isinstance(value, str):
            from datetime import datetime  # slow to import, seldom wanted

            read = datetime.fromisoformat(value[:40])
            if read.tzinfo is None:
                raise ValueError("no zone")
            return _between_moments(read.timestamp())
        if type(value) in (int, float):
            return float(_between_moments(value))
    except (BadValue, ValueError, OverflowError):
        pass
    raise BadValue(f"want Unix seconds, +30m, or a time such as 2027-01-31T12:00:00Z, got {shown(value)}")


def written(seconds: float) -> str:
    """
    @param seconds: Unix seconds.
    @return: a moment for people, in UTC: C{2027-01-31T12:00:00Z}.
    """
    from time import gmtime, strftime

    try:
        return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))
    except (ValueError, OverflowError, OSError):  # after the end of all calendars
        return f"{seconds:.0f}"


def read_number(text: str) -> float:
    """
    @return: what a bare word says of a number.
    @raise BadValue: if it says none.
    """
    # As a float is written by Python and others: an exponent, but no "infinity" and no "1_000".
    if len(text) <= 40 and not text.strip("0123456789.eE+-"):
        try:
            return float(text)
        except ValueError:
            pass
    raise BadValue(f"want a number, got {shown(text)}")


def read_seconds(text: str) -> float:
    """
    @return: what a bare word says of a length of time: C{30}, C{2.5}, C{10m}.
    @raise BadValue: if it says none.
    """
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:], 0)
    try:
        return read_number(text[:-1] if unit else text) * (unit or 1)
    except BadValue:
        raise BadValue(f"want seconds such as 30, 2.5 or 10m, got {shown(text)}") from None


def span(seconds: float) -> str:
    """
    @return: a length of time for people: C{12 s}, C{5 min}, C{3.5 h}.
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _between_moments(seconds: float) -> float:
    if not 0 <= seconds <= LATEST:
        raise ValueError("too late")
    return seconds
