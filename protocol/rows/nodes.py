"""
The rows of what is done in all nodes of an experiment at once, and of what is made of one.
"""

from __future__ import annotations

from hostline.protocol import kinds, shapes
from hostline.protocol.command import FOR_MEMBERS, FOR_OPERATORS, Command
from hostline.protocol.kinds import (
    EXPERIMENT,
    INT,
    NODE,
    SECONDS,
    STRING,
    listing,
    mapping,
    maybe,
    number,
    record,
    several,
)
from hostline.protocol.rows.streams import ARGV, LOG

_EXPERIMENT = ("experiment", EXPERIMENT)
_NODES = ("nodes", maybe(several(NODE)), None)
_ANSWER = record(
    "ANSWER",
    "what the command answered in these nodes, in each the same; exit: 128+signal if killed, None if nobody knows",
    {"nodes": shapes.STRINGS, "exit": maybe(INT), "out": STRING, "err": STRING},
    {"cut": kinds.FLAG},
)
ANSWERS = record(
    "ANSWERS",
    "equal answers together, those of most nodes first; and why other nodes gave none",
    {"answers": listing(_ANSWER), "silent": mapping(STRING, STRING, "SILENT", "why, by node")},
)
_PIECE = record(
    "PIECE",
    "what stands in a node's log from an offset on",
    {"node": NODE, "log": STRING, "offset": INT, "base64": STRING},
)
PIECES = record(
    "PIECES",
    "what nodes wrote, node by node, and the since= by which it goes on; None at its end",
    {"pieces": listing(_PIECE), "next": maybe(STRING)},
)

ROWS: tuple[Command, ...] = (
    Command(
        "run",
        (_EXPERIMENT, ("argv", ARGV)),
        ANSWERS,
        FOR_MEMBERS,
        "Run a command, or a line in quotes for a shell, in all nodes that are up, or in nodes=; equal answers are "
        "told once. Where it takes longer than timeout= it is killed.",
        options=(_NODES, ("timeout", maybe(SECONDS), 60.0)),
        target="experiment",
        audited=True,
    ),
    Command(
        "node_logs",
        (_EXPERIMENT,),
        PIECES,
        FOR_MEMBERS,
        "What all nodes wrote, or nodes=, in all their logs, or stream=; limit= bytes of it at a time.",
        options=(
            _NODES,
            ("stream", maybe(LOG), None),
            ("since", maybe(STRING), None),
            ("limit", number("BYTES", "how many bytes at most", 1, 1 << 20), 1 << 18),
        ),
        target="experiment",
    ),
    Command(
        "snapshot_node",
        (_EXPERIMENT, ("node", NODE), ("image", kinds.IMAGE)),
        shapes.IMAGE_BODY,
        FOR_OPERATORS,
        "Make an image of a container's files, or of a QEMU machine's disk, as they are; either may run.",
        target="experiment",
        changes=True,
        slow=True,
    ),
)
