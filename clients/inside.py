"""
C{hostline exec}, C{attach}, C{logs --follow}, C{push} and C{pull}: streams between a shell and the inside of a sliver.
"""

from __future__ import annotations

import os

from hostline.clients.connection import after
from hostline.clients.output import CannotWrite, complain, show, show_error, write, write_all
from hostline.clients.settings import DEADLINE, OK, Settings, Usage
from hostline.protocol.errors import HostError, Timeout
from hostline.protocol.literal import write as literal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.clients.arguments import Arguments
    from hostline.clients.stream import Stream

#: Exit status of C{exec}: hostline could not run the command, or nobody knows how it ended.
CANNOT_RUN = 125
#: What leaves a console.
DETACH, DETACH_NAME = 0x1D, "Ctrl-]"


def run(given: Arguments, settings: Settings) -> int:
    """
    Do what the arguments ask for.

    @return: the exit status.
    @raise HostError: if there is no reply, or it is an error.
    """
    _take_places()
    return _RUNS[given.row.name](given, settings)


def _take_places() -> None:
    # Of a standard input that was closed our own connection would take the number, and be read as input.
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)


def _exec(given: Arguments, settings: Settings) -> int:
    name, argv = given.values
    options = {**given.options, "stream": True}
    terminal = options.get("terminal") in ("True", True)
    if terminal and not os.isatty(0):
        raise Usage("--terminal (-t) wants a terminal on standard input")
    try:
        body = _talk(settings, "exec", [name, argv], options, raw=terminal)
    except HostError as error:
        show_error(settings, error.body())
        return DEADLINE if error.code == Timeout.code else CANNOT_RUN
    code = body.get("exit")
    return code if isinstance(code, int) and 0 <= code <= 255 else CANNOT_RUN


def _attach(given: Arguments, settings: Settings) -> int:
    terminal = os.isatty(0)
    if terminal:
        complain(f"attached to {given.values[0]}; {DETACH_NAME} leaves it")
    _talk(settings, "attach", given.values, given.options, raw=terminal, detachable=True)
    return OK


def _follow(given: Arguments, settings: Settings) -> int:
    with _Opened(settings, "logs", given.values, given.options, None) as stream:
        stream.run()
    return OK


def _push(given: Arguments, settings: Settings) -> int:
    name, file, path = given.values
    descriptor = 0
    if file != "-":
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            os.read(descriptor, 0)  # a directory can be opened, but not read
        except OSError as error:
            raise Usage(f"cannot read {file}: {error.strerror}") from None
    reply = _body(settings, "push", [name, path], {**given.options, "stream": True}, descriptor)
    show(settings, "push_reply", reply)
    return OK


def _pull(given: Arguments, settings: Settings) -> int:
    from hashlib import sha256

    name, path = given.values[:2]
    file = given.values[2] if len(given.values) > 2 else "-"
    options = {**given.options, "stream": True}
    if file == "-":
        _body(settings, "pull", [name, path], options, None)
        return OK
    beside = f"{file}.{os.getpid()}.part"
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Usage(f"cannot write {file}: {error.strerror}") from None
    sum_ = sha256()

    def keep(_: str, data: bytes) -> None:
        sum_.update(data)
        try:
            write_all(descriptor, data)
        except OSError as error:
            raise CannotWrite(f"cannot write {file}: {error.strerror}") from None

    try:
        with _Opened(settings, "pull", [name, path], options, None, keep) as stream:
            body = stream.run().body
        if body.get("sha256") != sum_.hexdigest():
            raise HostError(f"what came of {path} is not what was sent")
        os.fsync(descriptor)
        os.rename(beside, file)  # noqa: PTH104
    except OSError as error:
        raise CannotWrite(f"cannot write {file}: {error.strerror}") from None
    finally:
        os.close(descriptor)
        try:
            os.unlink(beside)  # noqa: PTH108
        except OSError:
            pass
    show(settings, "pull_reply", literal(body).encode("ascii"))
    return OK


def _body(settings: Settings, command: str, values: list[Any], options: dict[str, Any], source: int | None) -> bytes:
    with _Opened(settings, command, values, options, source) as stream:
        return literal(stream.run().body).encode("ascii")


def _talk(
    settings: Settings, command: str, values: list[Any], options: dict[str, Any], raw: bool, detachable: bool = False
) -> Any:
    with _Opened(settings, command, values, options, 0) as stream:
        if detachable:
            stream.filter = lambda data: _up_to_detach(stream, data)
        if not raw:
            return stream.run().body
        from hostline.clients.terminal import Terminal

        with Terminal(0) as terminal:
            stream.resize(*terminal.size())
            stream.wake(terminal.resized, lambda: stream.resize(*terminal.size()))
            return stream.run().body


def _up_to_detach(stream: Stream, data: bytes) -> bytes:
    if DETACH not in data or not os.isatty(0):
        return data
    before = data[: data.index(DETACH)]
    if before:
        stream.tell(before)
    stream.leave()
    return b""


class _Opened:
    """
    A stream on a connection of its own, closed at the end.
    """

    def __init__(
        self,
        settings: Settings,
        command: str,
        values: list[Any],
        options: dict[str, Any],
        source: int | None,
        hear: Any = None,
    ) -> None:
        deadline = after(settings.timeout)
        client = settings.client()
        self._connection = client.connect(deadline)
        hear = hear if hear is not None else _print
        self._stream = client.opened(self._connection, command, values, options, hear, source, deadline)

    def __enter__(self) -> Stream:
        return self._stream

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _print(stream: str, data: bytes) -> None:
    if stream == "out":
        write(data)
        return
    try:
        write_all(2, data)
    except OSError:
        pass  # as with our own complaints


_RUNS = {"exec": _exec, "attach": _attach, "logs": _follow, "push": _push, "pull": _pull}
