"""
Flags as Emulab's programs take them: single letters, together or apart, before, behind or among the other words.
"""

from __future__ import annotations

from hostline.clients.settings import Settings, Usage
from hostline.protocol import emulab
from hostline.protocol.errors import BadValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.clients.client import Client


class WrongFlags(Exception):
    """What was typed makes no sense; the message says why."""


class Asked:
    """
    What was typed behind one of the commands.

    @ivar settings: where the daemon is, and whether help was asked for.
    @ivar flags: the values by letter; True of those that take none.
    @ivar words: the others.
    """

    def __init__(self, letters: str, given: list[str], settings: Settings, long: tuple[str, ...] = ()) -> None:
        """
        @param letters: those that there are, a colon behind each that takes a value.
        @param long: flags of a word, C{--nodes-started}, by which they are told.
        @raise WrongFlags: if something else was typed.
        """
        self.settings = settings
        self.flags: dict[str, Any] = {}
        self.words: list[str] = []
        self._client: Client | None = None
        rest = list(given)
        while rest:
            word = rest[0]
            if word == "--":
                self.words += rest[1:]
                break
            if word in long:
                self.flags[rest.pop(0)] = True
            elif word.startswith("-") and len(word) > 1 and not (word.startswith("--") or word == "-h"):
                self._letters(letters, rest)
            elif word.startswith("-") and word != "-":
                try:
                    known = settings.take(rest)
                except Usage as error:
                    raise WrongFlags(str(error)) from None
                if not known:
                    raise WrongFlags(f"no option {word}")
            else:
                self.words.append(rest.pop(0))

    def _letters(self, letters: str, rest: list[str]) -> None:
        typed = rest.pop(0)[1:]
        for at, letter in enumerate(typed):
            found = letters.find(letter) if letter != ":" else -1
            if found < 0:
                raise WrongFlags(f"no option -{letter}")
            if letters[found + 1 : found + 2] != ":":
                self.flags[letter] = True
                continue
            value = typed[at + 1 :]
            if not value and not rest:
                raise WrongFlags(f"-{letter} wants a value")
            self.flags[letter] = value or rest.pop(0)
            return

    def experiment(self) -> str:
        """
        C{lab/exp1}, of C{-e lab,exp1}, or of the first words: C{lab/exp1}, C{lab,exp1} or C{lab exp1}.

        @raise WrongFlags: if there is none.
        """
        text = self.flags.get("e")
        if text is None and self.words:
            text = self.words.pop(0)
            if not ("," in text or "/" in text) and self.words:
                text = f"{text},{self.words.pop(0)}"
        if text is None:
            raise WrongFlags("want -e PROJECT,EXPERIMENT")
        try:
            return emulab.experiment_of(text)
        except BadValue as error:
            raise WrongFlags(error.message) from None

    def one(self, what: str) -> str:
        """
        The next word, which must be there.
        """
        if not self.words:
            raise WrongFlags(f"want {what}")
        return self.words.pop(0)

    def last(self) -> None:
        """
        @raise WrongFlags: if words are left.
        """
        if self.words:
            raise WrongFlags(f"no argument {self.words[0]}")

    def number(self, letter: str, what: str, least: float = 0.0) -> float | None:
        """
        The value of a flag.

        @return: None if it was not typed.
        """
        text = self.flags.get(letter)
        if text is None:
            return None
        digits = text.replace(".", "", 1)
        if not (digits.isascii() and digits.isdigit() and len(text) <= 12 and float(text) >= least):
            raise WrongFlags(f"-{letter}: want {what}, got {text}")
        return float(text)

    def text(self, path: str) -> str:
        """
        What is in a file; of C{-} what comes on standard input.

        @raise WrongFlags: if it cannot be read.
        """
        from hostline.clients import arguments
        from hostline.protocol import kinds

        try:
            return str(arguments.read(kinds.TEXT, "-" if path == "-" else f"@{path}", "file"))
        except Usage as error:
            raise WrongFlags(str(error)) from None

    @property
    def client(self) -> Client:
        """
        The daemon.
        """
        if self._client is None:
            self._client = self.settings.client()
        return self._client

    def ask(self, command: str, *values: Any, **options: Any) -> Any:
        """
        Say a command; options that are None are left out.

        @return: the body of its reply.
        """
        return self.reply(command, *values, **options).body

    def reply(self, command: str, *values: Any, **options: Any) -> Any:
        """
        The same, with the reply word.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        return self.client.reply(command, *values, **chosen)
