"""
What goes to standard output, all of it, and what goes to standard error.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.clients.settings import Settings


class CannotWrite(Exception):
    """Standard output takes no more; the message says why, and is empty if its reader has gone, which is no fault."""


def write(data: bytes) -> None:
    """
    Write to standard output.

    @raise CannotWrite: if not all of it could be.
    """
    try:
        write_all(1, data)
    except BrokenPipeError:
        raise CannotWrite("") from None
    except OSError as error:
        raise CannotWrite(f"cannot write: {error.strerror}") from None


def write_all(descriptor: int, data: bytes) -> None:
    """
    Write all of it, also where somebody who shares the descriptor has made it one that does not wait.

    @raise OSError: if that cannot be done.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            from select import POLLOUT, poll

            ready = poll()
            ready.register(descriptor, POLLOUT)
            ready.poll()


def say(text: str) -> None:
    """
    Write text, in the terminal's own coding.

    @raise CannotWrite: if not all of it could be.
    """
    coding = (sys.stdout.encoding if sys.stdout else None) or "utf-8"
    write(text.encode(coding, "backslashreplace"))


def complain(text: str) -> None:
    """
    Say something on standard error, if it is there.
    """
    try:
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def terminal() -> bool:
    """
    Whether somebody looks at standard output.
    """
    return os.isatty(1)


def show(settings: Settings, word: str, body: bytes, as_json: bool = False) -> None:
    """
    Print a reply.

    @param body: as received.
    @param as_json: whether that is JSON.
    @raise CannotWrite: if not all of it could be.
    @raise HostError: if it cannot be read.
    """
    if settings.format == "raw" or (settings.format == "auto" and not terminal()):
        write(body + b"\n")
        return
    value = value_of(body, as_json)
    if settings.format == "json":
        from hostline.protocol.literal import write_json

        write(write_json(value).encode("ascii") + b"\n")
        return
    from hostline.clients.tables import readable

    say(readable(word, value))


def value_of(body: bytes, as_json: bool = False) -> Any:
    """
    @return: the value of a body as received.
    @raise HostError: if it cannot be read.
    """
    from hostline.protocol import literal

    return literal.read_json(body) if as_json else literal.read(body)


def show_error(settings: Settings, body: Any) -> None:
    """
    Print an error on standard error: its message, what it came from, what is wrong with which line.

    With C{--raw} or C{--json} the whole body follows on a line of its own.
    """
    from hostline.protocol.names import escaped

    details = body if isinstance(body, dict) else {"message": str(body)}
    message = str(details.get("message", ""))
    complain(f"error: {escaped(message)}")
    for cause in details.get("causes") or ():
        if cause != message:
            complain(f"  cause: {escaped(str(cause))}")
    for one in details.get("errors") or ():
        line = one.get("line") if isinstance(one, dict) else None
        text = escaped(str(one.get("text", one) if isinstance(one, dict) else one))
        if text not in message:
            complain(f"  line {line}: {text}" if line else f"  {text}")
    if details.get("operation") is not None:
        complain(f"  operation: {details['operation']}")
    if settings.format == "json":
        from hostline.protocol.literal import write_json

        complain(write_json(body))
    elif settings.format == "raw":
        complain(ascii(body))
