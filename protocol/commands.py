"""
The command table: each command is declared once, in a row of L{hostline.protocol.rows}, and nowhere else.

Parsing, usage, C{help}, the permission check, the reply word, the client's argument parser and completion, and the
command part of docs/protocol.md are derived from these rows. A row never changes meaning; a new command gets a new row.
"""

from __future__ import annotations

from hostline.protocol.command import ANYONE, BY_GRANT, KNOWN, MEMBER, OPERATOR, OWNER, SELF, STRANGER, Command
from hostline.protocol.errors import UnknownCommand
from hostline.protocol.names import near, shown
from hostline.protocol.rows import (
    authority,
    experiments,
    host,
    images,
    links,
    loans,
    nodes,
    people,
    slivers,
    streams,
    tickets,
    trust,
    upkeep,
)

__all__ = [
    "ANYONE",
    "BY_GRANT",
    "KNOWN",
    "MEMBER",
    "OPERATOR",
    "OWNER",
    "ROWS",
    "SELF",
    "STRANGER",
    "TABLE",
    "Command",
    "command_named",
]

ROWS: tuple[Command, ...] = (
    *host.ROWS,
    *people.ROWS,
    *experiments.ROWS,
    *slivers.ROWS,
    *loans.ROWS,
    *streams.ROWS,
    *authority.ROWS,
    *images.ROWS,
    *trust.ROWS,
    *tickets.ROWS,
    *upkeep.ROWS,
    *nodes.ROWS,
    *links.ROWS,
)

TABLE: dict[str, Command] = {row.name: row for row in ROWS}


def command_named(name: str) -> Command:
    """
    @raise UnknownCommand: naming near ones.
    """
    try:
        return TABLE[name]
    except KeyError:
        raise UnknownCommand(f"no command {shown(name)}{near(name, TABLE)}; 'help' lists them") from None
