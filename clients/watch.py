"""
C{hostline watch}: events as they come.
"""

from __future__ import annotations

import time

from hostline.clients.output import complain, say, terminal, write
from hostline.clients.settings import OK, Settings
from hostline.clients.tables import cell
from hostline.protocol import literal
from hostline.protocol.errors import NoDaemon, Timeout
from hostline.protocol.names import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.clients.arguments import Arguments

_ALWAYS = ("cursor", "time", "topic", "what", "request")


def run(given: Arguments, settings: Settings) -> int:
    """
    Print events, each on a line, until interrupted.

    @return: the exit status.
    @raise HostError: the daemon refuses or goes away.
    """
    since = given.options.get("since")
    if since is not None and not str(since).isdigit():
        from hostline.clients.settings import Usage

        raise Usage(f"since: want a cursor, got {since}")
    client = settings.client()
    try:
        for event in client.events(
            *given.values, since=None if since is None else int(since), seconds=settings.timeout
        ):
            show(event, settings)
    except KeyboardInterrupt:
        return OK
    except (NoDaemon, Timeout) as error:
        if error.details.get("cursor") is not None:
            complain(f"to miss nothing, go on with since={error.details['cursor']}")
        raise
    return OK


def show(event: dict[str, Any], settings: Settings) -> None:
    """
    Print one event.

    @raise CannotWrite: if it could not be.
    """
    if settings.format == "json":
        write(literal.write_json(event).encode("ascii") + b"\n")
    elif settings.format == "raw" or not terminal():
        write(literal.write(event).encode("ascii") + b"\n")
    else:
        say(line(event))


def line(event: dict[str, Any]) -> str:
    """
    C{08:59:32 experiment/lab/exp1 dead node=web boot=dead code=137}
    """
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"])) if event["time"] else "--:--:--"
    more = "".join(
        f" {escaped(name)}={cell(value)}"
        for name, value in event.items()
        if name not in _ALWAYS and value not in (None, [], {}, "") and f"{name}/{value}" != event["topic"]
    )
    return f"{clock} {escaped(event['topic'])} {escaped(event['what'])}{more}\n"
