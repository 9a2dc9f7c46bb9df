"""
One request of the shell, from its arguments to its exit status.
"""

from __future__ import annotations

import os
import time

from hostline.clients.client import GRACE_S, Client, patience
from hostline.clients.output import complain, show, show_error, terminal, value_of
from hostline.clients.settings import DEADLINE, NO_DAEMON, OK, REFUSED, Settings
from hostline.protocol.errors import HostError, NoDaemon, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.clients.arguments import Arguments

#: Seconds for a request of which nothing is known: what a slow one waits by itself, and a grace.
PATIENCE_S = 30.0 + GRACE_S


def plain(words: list[str], settings: Settings) -> bytes:
    """
    Say words that need neither quotes nor the command table.

    @return: the reply line.
    @raise HostError: if there is none.
    """
    seconds = PATIENCE_S if settings.timeout is None else settings.timeout
    with settings.client() as client:
        return client.exchange(" ".join(words), seconds)


def asked(given: Arguments, settings: Settings) -> int:
    """
    Say what the arguments ask for.

    @return: the exit status.
    @raise HostError: if there is no reply.
    """
    row, options = given.row, given.options
    seconds = patience(row, options) + GRACE_S if settings.timeout is None else settings.timeout
    with settings.client() as client:
        if row.slow and row.changes and settings.format == "auto" and terminal():
            return _watched(client, given, settings)
        line = client.prepared(row.name, given.values, options, seconds)
        reply = client.exchange(line, seconds)
    as_json = row.name == "hello" and options.get("format") == "json"
    asked_so = not row.slow or ("wait" in options and patience(row, options) == 0)
    return shown(settings, reply, as_json, detached=asked_so)


def _watched(client: Client, given: Arguments, settings: Settings) -> int:
    # Asked again under its token, a request that has ended gives its own reply.
    limit = settings.timeout if settings.timeout is not None else None
    if "wait" in given.options:
        limit = min(patience(given.row, given.options), limit if limit is not None else float("inf"))
    deadline = None if limit is None else time.monotonic() + limit
    options = dict(given.options)
    options.setdefault("token", _token())
    options["wait"] = 1.0 if limit is None else min(1.0, limit)
    line = client.prepared(given.row.name, given.values, options)
    operation: dict[str, Any] | None = None
    try:
        while True:
            reply = client.exchange(line, options["wait"] + GRACE_S)
            if not reply.startswith(b"operation_reply "):
                return shown(settings, reply)
            operation = value_of(reply.partition(b" ")[2])
            if deadline is not None and time.monotonic() >= deadline:
                return shown(settings, reply, detached=limit == 0)
            operation = _followed(client, operation, deadline)
    except KeyboardInterrupt:
        if operation is not None:
            number = operation["operation"]
            complain(f"\n{given.row.name} goes on as operation {number}; hostline wait {number}, or cancel {number}")
        raise


def _followed(client: Client, operation: Any, deadline: float | None) -> Any:
    from hostline.clients.progress import follow

    return follow(client, operation, deadline)


def _token() -> str:
    return f"hostline-{os.urandom(12).hex()}"


def shown(settings: Settings, reply: bytes, as_json: bool = False, detached: bool = False) -> int:
    """
    Print a reply.

    @param reply: the line as received.
    @param as_json: whether its body is JSON.
    @param detached: whether the caller did not want to wait, or asked for an operation as such.
    @return: the exit status.
    """
    word, _, body = reply.partition(b" ")
    if word == b"error_reply":
        error = value_of(body, as_json)
        show_error(settings, error)
        return status_of(error.get("code") if isinstance(error, dict) else None)
    show(settings, word.decode("ascii", "replace"), body, as_json)
    if word == b"operation_reply" and not detached:
        complain("it has not ended within wait=; it goes on")
        return DEADLINE
    return OK


def status_of(code: object) -> int:
    """
    @param code: of an error.
    @return: the exit status that tells of it.
    """
    if code == NoDaemon.code:
        return NO_DAEMON
    return DEADLINE if code == Timeout.code else REFUSED


def failed(settings: Settings, error: HostError) -> int:
    """
    Show an error that was raised.

    @return: the exit status.
    """
    show_error(settings, error.body())
    return status_of(error.code)
