"""
Answers about the daemon itself: hello, help, ping, whoami, host_status, doctor, blob.
"""

from __future__ import annotations

from typing import Any

import hostline
from hostline.protocol import commands, wire
from hostline.protocol.commands import TABLE
from hostline.server import callers
from hostline.server.asking import Ask, responds

#: Words for what came after the first version of the protocol; a command's own name is one too, and C{tls} stands
#: there while those with a certificate can come in.
FEATURES = ["format=json", "token", "wait", "watch", "blob", "stream"]


@responds(TABLE["hello"])
def hello(ask: Ask, format: str | None, client: str | None) -> dict[str, Any]:
    """
    Greet, and change the format of this connection's bodies.
    """
    if format is not None:
        ask.session.format = format
    if client is not None:
        ask.session.client = client
    return {
        "protocol": wire.VERSION,
        "version": hostline.__version__,
        "host": ask.host.name,
        "principal": callers.shown_principal(ask.host, ask.principal),
        "roles": sorted(callers.roles(ask.host, ask.caller)),
        "features": [*FEATURES, *(["tls"] if ask.daemon.tls.listening else [])],
    }


@responds(TABLE["help"])
def help_(ask: Ask, command: str | None = None) -> dict[str, Any]:
    """
    Say what the table says.
    """
    rows = TABLE.values() if command is None else [commands.command_named(command)]
    return {row.name: {"usage": row.usage, "help": row.help, "who": sorted(row.who)} for row in rows}


@responds(TABLE["ping"])
def ping(ask: Ask) -> dict[str, Any]:
    """
    Say what time it is here.
    """
    return {"time": ask.now}


@responds(TABLE["whoami"])
def whoami(ask: Ask) -> dict[str, Any]:
    """
    Say whom the daemon takes the caller for.
    """
    return {
        "principal": callers.shown_principal(ask.host, ask.principal),
        "roles": sorted(callers.roles(ask.host, ask.caller)),
        "uid": ask.caller.uid,
        "via": callers.way(ask.host, ask.caller),
    }


@responds(TABLE["host_status"])
def host_status(ask: Ask) -> dict[str, Any]:
    """
    Say what this host has, what it has given, and what is wrong.
    """
    return ask.daemon.health.host_status(callers.is_operator(ask.host, ask.caller))


@responds(TABLE["doctor"])
def doctor(ask: Ask) -> list[dict[str, Any]]:
    """
    Look at everything the daemon stands on.
    """
    return ask.daemon.health.doctor()


@responds(TABLE["blob"])
async def blob(ask: Ask, sha256: str, size: int, offset: int, base64: str) -> dict[str, Any]:
    """
    Take a piece of something big.
    """
    return await ask.daemon.blobs.add(ask.principal, sha256, size, offset, base64)
