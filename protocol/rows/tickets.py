"""
The row of tickets.
"""

from __future__ import annotations

from hostline.protocol import shapes
from hostline.protocol.command import FOR_ANYONE, Command
from hostline.protocol.kinds import TEXT

ROWS: tuple[Command, ...] = (
    Command(
        "ticket",
        (("text", TEXT),),
        shapes.SLIVER_BODY,
        FOR_ANYONE,
        "Use a signed right to a sliver, once: make and start the sliver, or give one that came by a ticket or from "
        "the authority what the ticket says.",
        changes=True,
        slow=True,
        secret=("text",),
    ),
)
