"""
Arguments of a shell as those of a request: read by the command table, which is all that is known of any command.

The grammar is C{COMMAND ARGS.. [option=value | --option value | --option=value]}. What is wrong with a value is for the
daemon to say; here only commands, options and their number are looked at.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hostline.clients.settings import Settings, Usage
from hostline.protocol import kinds, literal, words
from hostline.protocol.commands import TABLE, Command
from hostline.protocol.errors import BadLiteral, BadValue
from hostline.protocol.kinds import Kind
from hostline.protocol.names import near
from hostline.protocol.rows.images import BLOB
from hostline.protocol.rows.streams import ARGV

#: What this program does by itself: usage and help.
LOCAL = {
    "shell": ("shell", "A prompt for request lines, with history and completion."),
    "completion": (
        "completion bash|zsh",
        'Print the completion script for a shell: eval "$(hostline completion bash)".',
    ),
    "ca": (
        "ca init|token|certificate|revoke|revoked|enrol|renew ..",
        "The site's certificates. 'ca enrol [HOST[:PORT]] TOKEN' gets one into the trust directory, 'ca renew' a "
        "new one when two thirds of its life are over; all others are the commands ca_init and so on.",
    ),
    "topdl": (
        "topdl set [--any-name] FILE NODE.. NAME=VALUE..",
        "Set attributes of nodes in a TopDL file, in place; NAME= takes one away. NODE may be a pattern with *.",
    ),
    "picture": (
        "picture PROJECT/EXPERIMENT OUT.svg|.png|.pdf|.dot",
        "Draw an experiment: nodes coloured by their state, links, LANs, hosts.",
    ),
    "ssh-config": (
        "ssh-config PROJECT/EXPERIMENT [--jump [USER@]HOST[:PORT]] [--user USER]",
        "Print what ssh needs to reach the nodes by name, for ~/.ssh/config.",
    ),
}

#: A list of which the shell has taken the quotes.
_UNQUOTED = re.compile(r"\[\s*[\w.:/*@+-]+(\s*,\s*[\w.:/*@+-]+)*\s*\]", re.ASCII)

FILE = Kind("FILE", "a file here; - is standard input or output", kinds.STRING.fits)


def _in_a_shell(row: Command) -> Command:
    # What carries bytes does so as a stream, between files and descriptors of ours.
    args = row.args
    if row.name == "push":
        args = (args[0], ("file", FILE), args[1])
    elif row.name == "pull":
        args = (*args, ("file", FILE))
    elif row.name not in ("exec", "attach"):
        return row
    options = tuple(one for one in row.options if one[0] != "stream")
    return row._replace(args=args, options=options, optional=1 if row.name == "pull" else 0)


#: The commands as a shell says them; lines of a stream are no business of its.
ROWS: dict[str, Command] = {name: _in_a_shell(row) for name, row in TABLE.items() if name != "data"}


class Text(str):
    """
    The value of a TEXT.

    @ivar given: whether it came from a file, so that C{blob:} at its beginning means nothing.
    """

    given = False


class Arguments:
    """
    One request.

    @ivar row: of its command.
    @ivar values: the positional values, each as L{words.as_word} takes it.
    @ivar options: the options given.
    """

    def __init__(self, row: Command, given: list[str], settings: Settings) -> None:
        """
        @param given: what follows the command; global options among it are taken into C{settings}.
        @raise Usage: if it makes no sense.
        """
        self.row = row
        self.values: list[Any] = []
        self.options: dict[str, Any] = {}
        self._kinds = {name: kind for name, (kind, _) in row.all_options.items()}
        self._settings = settings
        rest = list(given)
        positional: list[str] = []
        while rest:
            if self._has_begun(positional):
                positional += rest
                break
            if rest[0] == "--":
                positional += rest[1:]
                break
            if not self._take_option(rest):
                positional.append(rest.pop(0))
        if settings.asked:
            return
        self._take_values(positional)

    def _has_begun(self, given: list[str]) -> bool:
        # The words of a command to be run inside are its own: behind its name nothing is an option of ours.
        args = self.row.args
        return len(given) >= len(args) > 0 and args[-1][1] is ARGV

    def _take_option(self, rest: list[str]) -> bool:
        word = rest[0]
        if word.startswith("--"):
            name, equals, value = word[2:].replace("-", "_", len(word.partition("=")[0])).partition("=")
            value = word.partition("=")[2]
            kind = self._kinds.get(name)
            if kind is None and name.startswith("no_") and self._kinds.get(name[3:]) is kinds.FLAG and not equals:
                name, kind, equals, value = name[3:], kinds.FLAG, "=", "False"
            if kind is None:
                if self._settings.take(rest):
                    return True
                raise self._wrong(f"no option --{name} in {self.row.name}{near(name, list(self._kinds))}")
            del rest[0]
            if not equals and kind is kinds.FLAG:
                value = "True"
            elif not equals:
                if not rest:
                    raise self._wrong(f"--{name} wants a value")
                value = rest.pop(0)
            self._add_option(name, kind, value)
            return True
        name, equals, value = word.partition("=")
        if equals and name.isascii() and name.isidentifier():
            kind = self._kinds.get(name)
            if kind is None:
                raise self._wrong(f"no option {name} in {self.row.name}{near(name, list(self._kinds))}")
            del rest[0]
            self._add_option(name, kind, value)
            return True
        if word == "-t" and self._kinds.get("terminal") is kinds.FLAG:
            del rest[0]
            self._add_option("terminal", kinds.FLAG, "True")
            return True
        if word.startswith("-") and word != "-" and not word[1:2].isdigit():
            if self._settings.take(rest):
                return True
            raise self._wrong(f"no option {word} in {self.row.name}")
        return False

    def _add_option(self, name: str, kind: Kind, text: str) -> None:
        value = read(kind, text, name)
        if name not in self.options:
            self.options[name] = value
        elif is_list(kind) and isinstance(value, list) and isinstance(self.options[name], list):
            self.options[name] += value
        else:
            raise self._wrong(f"option {name} was given twice")

    def _take_values(self, given: list[str]) -> None:
        row = self.row
        if row.args and row.args[-1][1] is ARGV and len(given) >= len(row.args):
            at = len(row.args) - 1
            given, argv = given[:at], given[at:]
            self.values = [read(kind, text, name) for text, (name, kind) in zip(given, row.args, strict=False)] + [argv]
            return
        least = len(row.args) - row.optional
        if len(given) < least or (len(given) > len(row.args) and not row.rest):
            raise self._wrong(f"{row.name} got {len(given)} arguments")
        for at, text in enumerate(given):
            name, kind = row.args[min(at, len(row.args) - 1)]
            self.values.append(read(kind, text, name))

    def _wrong(self, message: str) -> Usage:
        return Usage(message, usage(self.row))


def row_named(name: str) -> Command | None:
    """
    @param name: C{-} may stand for C{_}.
    """
    return ROWS.get(name) or ROWS.get(name.replace("-", "_"))


def unknown(name: str) -> Usage:
    """
    What to say of a command that is not in the table.
    """
    from hostline.clients.emulab import FORMS

    return Usage(f"no command {name}{near(name, [*ROWS, *LOCAL, *FORMS])}; 'hostline --help' lists them")


def usage(row: Command) -> str:
    """
    The usage line of a command, as a shell takes it.
    """
    return f"hostline {row.usage}"


def is_list(kind: Kind) -> bool:
    """
    Whether a value of this Kind is a list of others.
    """
    return any(kind.fits(one) is None for one in ([], ["x"])) and kind.fits({}) is not None


def read(kind: Kind, text: str, what: str) -> Any:
    """
    The value that an argument stands for.

    C{@FILE} is what is in the file, C{-} what comes on standard input where a TEXT is wanted, C{@@} an C{@}. A literal
    is one where the Kind wants a list or a dict; a list may also be one bare value, a file with one on each line, or
    plain words in brackets, of which the shell took the quotes. Where a BLOB is wanted, C{@FILE} is the path
    itself, whose bytes are sent ahead.

    @raise Usage: if the file cannot be read.
    """
    from_file = False
    if kind is BLOB:
        return Path(text[1:]) if text.startswith("@") and len(text) > 1 else text
    if text.startswith("@@"):
        text = text[1:]
    elif text.startswith("@") and len(text) > 1:
        text, from_file = _from_file(text[1:]), True
    elif text == "-" and kind is kinds.TEXT:
        text, from_file = _from_stdin(), True
    if kind is kinds.TEXT:
        whole = Text(text)
        whole.given = from_file
        return whole
    if from_file:
        if is_list(kind) and text[:1] not in words.OPENERS:
            lines = [line.strip() for line in text.splitlines()]
            return [read(kind, line, what)[0] for line in lines if line and not line.startswith("#")]
        text = text.strip()
    if text[:1] and text[0] in words.OPENERS:
        try:
            value = literal.read(text, literal.REQUEST)
        except BadLiteral:
            if is_list(kind) and _UNQUOTED.fullmatch(text):
                return [item.strip() for item in text[1:-1].split(",")]
        else:
            if not isinstance(value, str) or kind.fits(value) is None:
                return value
    if is_list(kind):
        try:
            return kind.read(words.Word(text, True), what)
        except BadValue:
            return [text]
    return text


def _from_file(path: str) -> str:
    try:
        return _text(Path(path).read_bytes(), path)
    except OSError as error:
        raise Usage(f"cannot read {path}: {error.strerror}") from None


def _from_stdin() -> str:
    try:
        return _text(sys.stdin.buffer.read(), "standard input")
    except OSError as error:
        raise Usage(f"cannot read standard input: {error.strerror}") from None


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Usage(f"want UTF-8 text in {source}, got byte 0x{data[error.start]:02x} at {error.start}") from None
