"""
Rates, times and losses as people write them in NS and TOML: C{10Mb}, C{5ms}, C{0.01}.
"""

from __future__ import annotations

import math
import re

from hostline.server.experiments.elements import DELAY_MAX, RATE_MAX
from hostline.server.experiments.topology import quoted

#: kbit/s: what Emulab had as the least.
RATE_MIN = 10.0
_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)"
_RATE = re.compile(rf"{_NUMBER}\s*([kKmMgG]?)(b?)(?:ps|/s|it|it/s)?")
_BYTES = re.compile(rf"{_NUMBER}\s*[kKmMgG]?B(?:ps|/s)?")
_TIME = re.compile(rf"{_NUMBER}\s*(|s|sec|ms|msec|us|usec)")
_KBPS = {"": 1e-3, "k": 1.0, "m": 1e3, "g": 1e6}
_MS = {"": 1e3, "s": 1e3, "sec": 1e3, "ms": 1.0, "msec": 1.0, "us": 1e-3, "usec": 1e-3}


class BadUnit(ValueError):
    """What was given is no such amount; the message says what was wanted."""


def rate(text: str) -> float | None:
    """
    A rate in kbit/s, from C{10Mb}, C{1.5Mbps}, C{64kb}, or bit/s as a bare number.

    @return: None for C{*}: any.
    @raise BadUnit: it is none, or below L{RATE_MIN} or above what TopDL may say.
    """
    given = text.strip()
    if given == "*":
        return None
    if _BYTES.fullmatch(given):
        raise BadUnit(f"want a rate in bits, such as 10Mb; {quoted(text)} is one in bytes")
    match = _RATE.fullmatch(given)
    if match is None:
        raise BadUnit(f"want a rate such as 10Mb, 64kb or *, got {quoted(text)}")
    value = _product(match[1], _KBPS[match[2].lower()])
    if not RATE_MIN <= value <= RATE_MAX:
        raise BadUnit(f"want a rate from 10kb to 1000Gb, got {quoted(text)}")
    return value


def delay(text: str) -> float:
    """
    A time in milliseconds, from C{5ms}, C{0.005s}, C{300us}, or seconds as a bare number.

    @raise BadUnit: it is none, or too long.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise BadUnit(f"want a delay such as 5ms or 0.005 (seconds), got {quoted(text)}")
    value = _product(match[1], _MS[match[2]])
    if not 0 <= value <= DELAY_MAX:
        raise BadUnit(f"want a delay from 0 to {DELAY_MAX / 1000:.0f} s, got {quoted(text)}")
    return value


def loss(text: str) -> float:
    """
    The part of packets that is lost, 0 to 1.

    @raise BadUnit: it is none.
    """
    match = re.fullmatch(_NUMBER, text.strip())
    value = _product(match[1], 1) if match else math.nan
    if not 0 <= value <= 1:
        raise BadUnit(f"want a loss from 0 to 1, such as 0.01, got {quoted(text)}")
    return value


def _product(number: str, times: float) -> float:
    # Nine digits, as nobody means the rest that 0.1 * 3 leaves.
    value = float(number) * times
    return float(f"{value:.9g}") if math.isfinite(value) else math.inf
