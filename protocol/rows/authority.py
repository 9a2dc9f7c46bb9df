"""
The rows of the control authority: its records, and what they, or time, took away.
"""

from __future__ import annotations

from hostline.protocol import shapes
from hostline.protocol.command import FOR_OPERATORS, FOR_OWNERS, Command
from hostline.protocol.kinds import FLAG, SLICE, STRING, TEXT, TIME, mapping, record

_NAMES = shapes.STRINGS
SYNCED = record(
    "SYNCED",
    "what a payload of the authority's changed, by the names of slivers",
    {
        "created": _NAMES,
        "changed": _NAMES,
        "kept": _NAMES,
        "stopped": _NAMES,
        "brought_back": _NAMES,
        "refused": mapping(STRING, STRING, "REFUSED", "why, by name"),
        "timestamp": TIME,
    },
)
CLOCK = record("CLOCK", "what this host's clock says, and whether it is trusted", {"time": TIME, "trusted": FLAG})

ROWS: tuple[Command, ...] = (
    Command(
        "sync",
        (("payload", TEXT),),
        SYNCED,
        FOR_OPERATORS,
        "Take over the authority's records, given or fetched now; force=True takes older ones too, and whatever the "
        "brake holds.",
        options=(("force", FLAG, False),),
        optional=1,
        changes=True,
    ),
    Command(
        "undo",
        (("sliver", SLICE),),
        shapes.SLIVER_BODY,
        FOR_OWNERS,
        "Bring back a doomed sliver as it was; it stays until the authority names it again.",
        target="sliver",
        changes=True,
    ),
    Command(
        "accept_clock",
        (),
        CLOCK,
        FOR_OPERATORS,
        "Say that this host's clock is right, after it has jumped: slivers expire by it again.",
        changes=True,
    ),
)
