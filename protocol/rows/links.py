"""
The rows of links that are changed while they are in use.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol import shapes
from hostline.protocol.command import FOR_MEMBERS, Command
from hostline.protocol.kinds import EXPERIMENT, FLAG, NODE, WORD, Kind, maybe
from hostline.protocol.moments import read_number

#: What is said instead of a number for: as the topology says.
NONE = "none"
#: The most that may be asked for: 100 Gbit/s, 100 seconds.
MOST_KBPS, MOST_MS = 10.0**8, 10.0**5


def _upto(name: str, doc: str, most: float) -> Kind:
    def check(value: Any) -> str | None:
        if value == NONE:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            return f"want a number from 0 to {most:.15g}, or {NONE}"
        return None

    return Kind(name, doc, check, lambda text: text if text == NONE else read_number(text))


RATE = _upto("KBPS", f"kbit/s, 0: as fast as can be; {NONE}: as the topology says", MOST_KBPS)
DELAY = _upto("MS", f"milliseconds one way; {NONE}: as the topology says", MOST_MS)
LOSS = _upto("PART", f"the part that is lost, 0 to 1; {NONE}: as the topology says", 1.0)

ROWS: tuple[Command, ...] = (
    Command(
        "delay_config",
        (("experiment", EXPERIMENT), ("link", WORD)),
        shapes.LINK,
        FOR_MEMBERS,
        "Change a link while it is in use, until the experiment is swapped out, or with save=True until it is "
        "modified; source=NODE: only what that node sends.",
        options=(
            ("source", maybe(NODE), None),
            ("rate_kbps", maybe(RATE), None),
            ("delay_ms", maybe(DELAY), None),
            ("loss", maybe(LOSS), None),
            ("save", FLAG, False),
        ),
        target="experiment",
        changes=True,
    ),
)
