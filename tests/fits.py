"""
Whether a line of the daemon's is what the command table promises; for every test that sees one.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from hostline.protocol import literal, shapes, wire
from hostline.protocol.commands import TABLE
from hostline.protocol.errors import ERRORS, HostError
from hostline.protocol.kinds import STRING, Kind, choice, record
from hostline.protocol.wire import Reply

#: What every C{error_reply} holds at least.
ERROR = record(
    "ERROR", "what went wrong", {"code": choice("CODE", "of an error", *ERRORS), "message": STRING, "command": STRING}
)


def fits(line: bytes | str, command: str, as_json: bool = False) -> Reply:
    """
    Check one line that was sent to whoever said C{command}: an answer to it, an error, an operation, or an event.

    @param line: with or without its newline.
    @param as_json: after C{hello format=json}.
    @return: the line, read.
    @raise AssertionError: it is no such line; or scripts could not read it; or its body is not of the declared Kind.
    """
    text = (line.decode("latin-1") if isinstance(line, bytes) else line).removesuffix("\n")
    assert text.isascii() and text.isprintable(), f"want one line of plain ASCII, got {line!r}"
    try:
        reply = wire.read_reply(text, as_json)
        literal.check(reply.body)
        by_script = _read_by_script(text, as_json)
    except (HostError, TypeError, ValueError, SyntaxError) as error:
        raise AssertionError(f"{error}; in {text}") from error
    assert by_script == reply.body, f"a script reads {by_script!r}, a client {reply.body!r}"
    kind = _kind(reply.word, command)
    wrong = kind.fits(reply.body)
    assert wrong is None, f"{reply.word} of {command}: {wrong}; in {text}"
    if reply.word == "error_reply":
        assert reply.body["command"] in (command, ""), f"want an error of {command}, got {text}"
        assert reply.body["message"], f"want a message, got {text}"
    return reply


def _kind(word: str, command: str) -> Kind:
    row = TABLE.get(command)
    if row is not None and word == row.reply_word:
        return row.reply
    if word == "operation_reply" and row is not None and row.slow:
        return shapes.OPERATION_BODY
    if word == "error_reply":
        return ERROR
    if word == "event":
        return shapes.EVENT
    raise AssertionError(f"want {row.reply_word if row else 'error_reply'} to {command}, got {word}")


def _read_by_script(text: str, as_json: bool) -> Any:
    # As the protocol's page tells people to: one tag at most, split once, read.
    body = text.split(" ", 2 if text.startswith("@") else 1)[-1]
    return json.loads(body) if as_json else ast.literal_eval(body)
