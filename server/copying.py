"""
Answers that carry files into slivers and out of them.

The daemon opens no path inside a sliver: a shell in there does, with the rights that one has there, so that no link and
no mount made inside leads out.
"""

from __future__ import annotations

import hashlib
import secrets
from binascii import b2a_base64
from contextlib import suppress
from io import BytesIO
from typing import Any, BinaryIO

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadArguments, Cancelled, OperationFailed, TooMany
from hostline.server.asking import Ask, responds
from hostline.server.drivers.driver import Conversation, Driver
from hostline.server.inside import driver_of, needs_tag
from hostline.server.talk import Collected, Talk

#: Written beside the file, then put in its place: who reads it sees the old one or the new one.
_WRITE = """
[ ! -d "$1" ] || { echo "$1: Is a directory" >&2; exit 21; }
umask 077
cat > "$2" && chmod "$3" "$2" && mv -f "$2" "$1" || { rm -f "$2"; exit 1; }
"""
_READ = 'exec cat < "$1"'
#: Bytes of what such a shell complains about that are told.
_TOLD = 2000
#: Bytes that are handed on at a time, and seconds between two looks whether they were read.
_PIECE, _LOOK_S = 1 << 17, 0.005
#: Seconds that the removal of what a killed shell left may take.
_REMOVING_S = 10.0


class _Pump:
    """
    Input for a conversation, as fast as it is read.
    """

    def __init__(self, ask: Ask, source: BinaryIO, talk: Talk, taken: _Sum) -> None:
        self._loop = ask.daemon.loop
        self._source = source
        self._talk = talk
        self._taken = taken

    def go_on(self) -> None:
        to = self._talk.conversation
        while to is not None and self._talk.open and to.unwritten < _PIECE:
            piece = self._source.read(_PIECE)
            if not piece:
                to.end_input()
                return
            self._taken.add(piece)
            to.write(piece)
        if self._talk.open:
            self._loop.call_later(_LOOK_S, self.go_on)


class _Sum:
    """
    Size and SHA-256 of what went by.
    """

    def __init__(self) -> None:
        self.size = 0
        self._sum = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._sum.update(data)

    def body(self, path: str) -> dict[str, Any]:
        return {"path": path, "size": self.size, "sha256": self._sum.hexdigest()}


class _Deaf:
    """
    Hears nothing.
    """

    def said(self, stream: str, data: bytes) -> None:
        pass

    def ended(self, code: int | None) -> None:
        pass


@responds(TABLE["push"])
async def push(
    ask: Ask, name: str, path: str, text: str | None = None, *, mode: str, stream: bool, timeout: float | None
) -> dict[str, Any]:
    """
    Write a file.
    """
    if (text is None) != stream:
        raise BadArguments("want either a TEXT or stream=True")
    if stream:
        needs_tag(ask, "stream=True")
    del ask.values[2:]  # nobody looks for what is in the file in the audit log
    driver, serial = driver_of(ask), ask.target.serial
    there = _operand(path)
    beside = f"{there.rpartition('/')[0]}/" if "/" in there else ""
    beside += f".hostline-{secrets.token_hex(8)}"
    complaint, taken = Collected(_TOLD), _Sum()
    talk = Talk(ask, complaint.hear, stream=stream, taken=taken.add, whole=True)
    source = None if text is None else _source(ask, text)

    def begin(hearer: Talk) -> Conversation:
        return driver.execute(serial, ["/bin/sh", "-c", _WRITE, "push", there, beside, mode], hearer)

    def begun() -> None:
        ask.audit()
        if source is not None:
            _Pump(ask, source, talk, taken).go_on()

    try:
        code = await talk.held(begin, timeout, begun)
        if code is None:
            raise Cancelled("the stream was closed; nothing was written")
    except BaseException:
        if talk.conversation is not None:
            _remove(ask, driver, serial, beside)
        raise
    finally:
        if source is not None:
            source.close()
    _check(code, complaint, path)
    return taken.body(path)


@responds(TABLE["pull"])
async def pull(ask: Ask, name: str, path: str, *, stream: bool, timeout: float | None) -> dict[str, Any]:
    """
    Read a file.
    """
    if stream:
        needs_tag(ask, "stream=True")
    driver, serial = driver_of(ask), ask.target.serial
    most = ask.daemon.config.limits.collected_bytes
    complaint, found, taken = Collected(_TOLD), Collected(most), _Sum()

    def hear(channel: str, data: bytes) -> None:
        if channel == "err":
            complaint.hear(channel, data)
            return
        taken.add(data)
        if stream:
            talk.send(channel, data)
            return
        found.hear(channel, data)
        if found.cut:
            talk.fail(TooMany(f"{path} is longer than {most} bytes; pull it with stream=True, under a tag"))

    def begin(hearer: Talk) -> Conversation:
        reading = driver.execute(serial, ["/bin/sh", "-c", _READ, "pull", _operand(path)], hearer)
        reading.end_input()
        return reading

    talk = Talk(ask, hear, stream=stream)
    code = await talk.held(begin, timeout, ask.audit)
    if code is None:
        raise Cancelled("the stream was closed before the end of the file")
    _check(code, complaint, path)
    body = taken.body(path)
    return body if stream else body | {"base64": b2a_base64(found.bytes("out"), newline=False).decode("ascii")}


def _operand(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _source(ask: Ask, text: str) -> BinaryIO:
    if text.startswith("blob:"):
        return ask.daemon.blobs.opened(ask.principal, text[5:])
    return BytesIO(text.encode("utf-8"))


def _remove(ask: Ask, driver: Driver, serial: int, path: str) -> None:
    # What was killed could not do it itself; a sliver that is no longer up has other sorrows.
    with suppress(OSError):
        removing = driver.execute(serial, ["/bin/sh", "-c", 'rm -f "$1"', "push", path], _Deaf())
        removing.end_input()
        ask.daemon.loop.call_later(_REMOVING_S, removing.close)


def _check(code: int, complaint: Collected, path: str) -> None:
    """
    @raise OperationFailed: if the shell inside could not do it; its own words are the cause.
    """
    if code:
        said = complaint.text("err").strip().splitlines()
        raise OperationFailed(said[-1] if said else f"{path}: the shell inside ended with status {code}")
