"""
The rows of free slivers.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol import kinds, shapes
from hostline.protocol.command import (
    ANYONE,
    BY_GRANT,
    FOR_MEMBERS,
    FOR_OWNERS,
    FOR_SLIVERS_TOO,
    OPERATOR,
    OWNER,
    SELF,
    Command,
)
from hostline.protocol.kinds import KEY, SLICE, SLIVER, TEXT, WHEN, Kind, listing, mapping, maybe, several

_SLICE = (("sliver", SLICE),)
_TURNED = frozenset({OWNER, BY_GRANT, OPERATOR})
_RSPEC = mapping(kinds.WORD, kinds.LITERAL, "RSPEC", "amount by resource; those not named keep their value or default")
_SETTINGS: tuple[tuple[str, Kind, Any], ...] = (
    ("rspec", _RSPEC, {}),
    ("keys", maybe(several(KEY)), None),
    ("initscript", maybe(TEXT), None),
    ("start_command", maybe(TEXT), None),
    ("expires", maybe(WHEN), None),
)

ROWS: tuple[Command, ...] = (
    Command(
        "create",
        _SLICE,
        shapes.SLIVER_BODY,
        frozenset({ANYONE}),
        "Make a sliver and start it: of any description for operators, for others one whose record is delegated to "
        "them.",
        options=(
            ("kind", maybe(kinds.SLIVER_KIND), None),
            ("image", maybe(kinds.IMAGE), None),
            *_SETTINGS,
            ("owner", maybe(kinds.USER), None),
            ("users", several(kinds.USER), []),
        ),
        target="new sliver",
        changes=True,
        slow=True,
    ),
    Command(
        "set_sliver",
        _SLICE,
        shapes.SLIVER_BODY,
        FOR_OWNERS,
        "Change a sliver as it runs; rspec=, expires=, owner= and users= are for operators.",
        options=(
            *_SETTINGS,
            ("owner", maybe(kinds.USER), None),
            ("users", maybe(several(kinds.USER)), None),
        ),
        target="sliver",
        changes=True,
    ),
    Command(
        "start",
        _SLICE,
        shapes.SLIVER_BODY,
        _TURNED,
        "Start a sliver, unless it is up.",
        target="sliver",
        changes=True,
        slow=True,
    ),
    Command(
        "stop",
        _SLICE,
        shapes.SLIVER_BODY,
        _TURNED,
        "End all that runs in a sliver; its files stay, and it stays stopped.",
        target="sliver",
        changes=True,
        frees=True,
        slow=True,
    ),
    Command(
        "recreate",
        _SLICE,
        shapes.SLIVER_BODY,
        _TURNED,
        "Make a sliver anew: all its files are as at first; its record, loans and serial stay.",
        target="sliver",
        changes=True,
        slow=True,
    ),
    Command(
        "destroy",
        _SLICE,
        shapes.SLIVER_BODY,
        _TURNED,
        "Take a sliver and its files off the host; the record of a delegated one stays, so that it can be made again.",
        target="sliver",
        changes=True,
        frees=True,
        slow=True,
    ),
    Command(
        "slivers",
        (),
        shapes.SLIVERS,
        FOR_SLIVERS_TOO,
        "The free slivers that the caller may see.",
        polled=True,
    ),
    Command(
        "sliver",
        (("sliver", SLIVER),),
        shapes.SLIVER_BODY,
        FOR_MEMBERS | {SELF},
        "One sliver: what it was given, what is in force after loans, and what the kernel says now.",
        target="sliver",
    ),
    Command(
        "get_ssh_keys",
        (("sliver", SLICE),),
        mapping(kinds.STRING, listing(kinds.STRING), "KEYS", "lines of authorized_keys by sliver"),
        FOR_SLIVERS_TOO,
        "Who may log in: the keys of one sliver, or of all of the caller's.",
        optional=1,
    ),
    Command(
        "get_xids",
        (),
        mapping(kinds.STRING, kinds.INT, "UIDS", "uid on the host by sliver"),
        FOR_SLIVERS_TOO,
        "The uid that each of the caller's slivers has on the host; of a container the first of its range.",
    ),
)
