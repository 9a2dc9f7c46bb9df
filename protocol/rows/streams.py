"""
The rows of what goes on inside a sliver: commands run there, its console and logs, files put there and fetched.

With C{stream=True}, C{follow=True} or as C{attach}, such a request is a stream: until its reply, C{data} lines go both
ways under its tag.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol import kinds, shapes
from hostline.protocol.command import FOR_ANYONE, FOR_MEMBERS, Command
from hostline.protocol.kinds import FLAG, SECONDS, SLIVER, TEXT, Kind, choice, number
from hostline.protocol.names import shown

#: Most bytes of the words of a command that is run inside.
LONGEST_ARGV = 120_000
#: Longest path in a sliver, in bytes.
LONGEST_PATH = 4095
#: Largest number of rows or columns that a terminal may have.
LARGEST_TERMINAL = 65535


def _argv(value: Any) -> str | None:
    if type(value) is not list or not value:
        return f"want a list of a command and its arguments such as ['ls', '-l'], got {shown(value)}"
    size = 0
    for at, one in enumerate(value):
        wrong = kinds.STRING.fits(one)
        if wrong is None and ("\0" in one or (at == 0 and not one)):
            wrong = f"want text without NUL{', not empty' if at == 0 else ''}, got {shown(one)}"
        if wrong:
            return f"item {at + 1}: {wrong}"
        size += len(one.encode("utf-8")) + 1
    return None if size <= LONGEST_ARGV else f"want at most {LONGEST_ARGV} bytes in all, got {size}"


def _path(value: Any) -> str | None:
    wrong = kinds.STRING.fits(value)
    if wrong is None and (not value or "\0" in value or len(value.encode("utf-8")) > LONGEST_PATH):
        wrong = f"want a path of 1 to {LONGEST_PATH} bytes, got {shown(value)}"
    return wrong


def _mode(value: Any) -> str | None:
    good = type(value) is str and 3 <= len(value) <= 4 and not value.strip("01234567")
    return None if good else f"want three or four octal digits such as 644, got {shown(value)}"


def _piece(value: Any) -> str | None:
    want = "want {'stream': 'in', 'base64': TEXT}, {'stream': 'in', 'end': True}, {'rows': N, 'columns': N} or"
    want += " {'close': True}"
    if type(value) is dict:
        keys = frozenset(value)
        if keys == {"stream", "base64"} and value["stream"] == "in" and type(value["base64"]) is str:
            return None
        if keys == {"stream", "end"} and value["stream"] == "in" and value["end"] is True:
            return None
        if keys == {"rows", "columns"}:
            return _SIZE.fits(value["rows"]) or _SIZE.fits(value["columns"])
        if keys == {"close"} and value["close"] is True:
            return None
    return f"{want}, got {shown(value)}"


def _no_bare_piece(text: str) -> Any:
    return text  # which is no dict: _piece says what is wanted


_SIZE = number("SIZE", "of a terminal", 1, LARGEST_TERMINAL)
ARGV = Kind(
    "ARGV",
    f"a command and its arguments as a list, ['ls', '-l'], of at most {LONGEST_ARGV} bytes; a bare word is one alone",
    _argv,
    lambda text: [text],
)
PATH = Kind("PATH", "a path inside the sliver; from its first directory unless it begins with /", _path)
MODE = Kind("MODE", "permissions in octal, 644", _mode)
PIECE = Kind(
    "PIECE",
    "{'stream': 'in', 'base64': TEXT}: input; {'stream': 'in', 'end': True}: there is no more of it; "
    "{'rows': N, 'columns': N}: the size of the terminal; {'close': True}: end the stream, and what it ran",
    _piece,
    _no_bare_piece,
)
NOTHING = Kind("NOTHING", "no line at all", lambda value: "want no reply")

_SLIVER = (("sliver", SLIVER),)
_STREAM = ("stream", FLAG, False)
_TIMEOUT = ("timeout", SECONDS, None)
_BYTES = number("BYTES", "how many bytes of each, from the end", 1, 1 << 20)
LOG = choice(
    "LOG",
    "log, out and err of the start command at the newest boot; initscript: of its script; console: what the sliver "
    "itself wrote",
    "log",
    "out",
    "err",
    "initscript",
    "console",
)

ROWS: tuple[Command, ...] = (
    Command(
        "exec",
        (*_SLIVER, ("argv", ARGV)),
        shapes.EXECUTED,
        FOR_MEMBERS,
        "Run a command inside a sliver that is up; with stream=True its input and output go as data lines. "
        "Past timeout= it is killed.",
        options=(_STREAM, ("terminal", FLAG, False), _TIMEOUT),
        target="sliver",
        audited=True,
    ),
    Command(
        "attach",
        _SLIVER,
        shapes.EXECUTED,
        FOR_MEMBERS,
        "Join the console of a sliver that is up, as a stream; the sliver goes on when it is left.",
        target="sliver",
        audited=True,
    ),
    Command(
        "logs",
        _SLIVER,
        shapes.LOGS,
        FOR_MEMBERS,
        "What a sliver wrote: its start command unless stream= names another log; follow=True goes on as a stream.",
        options=(("stream", LOG, None), ("tail", _BYTES, 65536), ("follow", FLAG, False)),
        target="sliver",
    ),
    Command(
        "push",
        (*_SLIVER, ("path", PATH), ("text", TEXT)),
        shapes.PUSHED,
        FOR_MEMBERS,
        "Write a file inside a sliver that is up, whole or not at all: TEXT, blob:SHA256, or what comes as a stream.",
        options=(("mode", MODE, "644"), _STREAM, _TIMEOUT),
        target="sliver",
        optional=1,
        audited=True,
    ),
    Command(
        "pull",
        (*_SLIVER, ("path", PATH)),
        shapes.PULLED,
        FOR_MEMBERS,
        "Read a file inside a sliver that is up; with stream=True it comes as data lines, however large it is.",
        options=(_STREAM, _TIMEOUT),
        target="sliver",
        audited=True,
    ),
    Command(
        "data",
        (("piece", PIECE),),
        NOTHING,
        FOR_ANYONE,
        "Input for the stream that is open under the tag of this line; answered only if there is none.",
    ),
)
