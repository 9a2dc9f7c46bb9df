"""
C{hostline shell}: request lines typed at a prompt, with history and completion.
"""

from __future__ import annotations

import os
import sys
import time

from hostline.clients import output
from hostline.clients.client import GRACE_S, Client, patience
from hostline.clients.completion import names
from hostline.clients.exchange import failed
from hostline.clients.settings import OK, REFUSED, Settings, Usage
from hostline.protocol import kinds, words
from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadArguments, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

PROMPT = "hostline> "
_ENDINGS = ("exit", "quit")
_HISTORY_LINES = 2000
#: Seconds that names from the daemon are taken to hold while somebody types.
_FRESH_S = 5.0


class Candidates:
    """
    What may stand next on a line.
    """

    def __init__(self, client: Client) -> None:
        """
        @param client: for live names.
        """
        self._client = client
        self._kept: dict[tuple[str, str], tuple[float, list[str]]] = {}

    def of(self, before: str, word: str) -> list[str]:
        """
        @param before: what stands before the word.
        @param word: its beginning.
        """
        typed = [one for one in before.split() if not one.startswith("@")]
        if not typed:
            return _beginning(word, [*TABLE, *_ENDINGS])
        row = TABLE.get(typed[0])
        if row is None:
            return []
        name, equals, value = word.partition("=")
        if equals and name in row.all_options:
            return [f"{name}={one}" for one in _beginning(value, self._words(row.all_options[name][0], ""))]
        values = [one for one in typed[1:] if "=" not in one]
        at = min(len(values), len(row.args) - 1) if row.rest else len(values)
        found: list[str] = []
        if row.name == "help" and not values:
            found = list(TABLE)
        elif at < len(row.args):
            found = self._words(row.args[at][1], values[0] if values else "")
        return _beginning(word, found + [f"{option}=" for option in row.all_options])

    def _words(self, kind: kinds.Kind, experiment: str) -> list[str]:
        if kind is kinds.FLAG:
            return ["True", "False"]
        if kind.words:
            return list(kind.words)
        name = "OPERATION" if kind is kinds.OPERATION else kind.name
        then, found = self._kept.get((name, experiment), (0.0, []))
        if time.monotonic() > then:
            found = names(name, self._client, experiment)
            self._kept[name, experiment] = time.monotonic() + _FRESH_S, found
        return found


def _beginning(word: str, found: list[str]) -> list[str]:
    return [one for one in found if one.startswith(word)]


class Prompt:
    """
    The dialogue, on standard input and output.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = settings.client()
        self._candidates = Candidates(settings.client())
        self._found: list[str] = []
        self._status = OK

    def run(self) -> int:
        """
        Take lines until the input or the caller ends.

        @return: the exit status: at a prompt 0, otherwise that of the last line.
        """
        typed = sys.stdin is not None and sys.stdin.isatty()
        history = self._begin() if typed else None
        try:
            while True:
                try:
                    line = input(PROMPT if typed else "").strip()
                    if line in _ENDINGS:
                        break
                    if line:
                        self._status = self.say(line)
                except KeyboardInterrupt:
                    output.complain("")
        except EOFError:
            if typed:
                output.complain("")
        finally:
            if history is not None:
                _keep_history(history)
        return OK if typed else self._status

    def say(self, line: str) -> int:
        """
        Say one line and show the reply.

        @return: what would be the exit status.
        """
        try:
            try:
                request = words.split(line)
            except words.Broken as broken:
                raise broken.error from None
            row = TABLE.get(request.command)
            if row is not None and row.name == "watch":
                return self._watch(request)
            options = {name: word.value for name, word in request.options.items()}
            if request.command == "attach" or options.get("follow") == "True" or options.get("stream") == "True":
                raise BadArguments(f"no streams at this prompt; say: hostline {request.command} ...")
            seconds = (patience(row, options) if row else GRACE_S) + GRACE_S
            if self._settings.timeout is not None:
                seconds = self._settings.timeout
            reply = self._client.exchange(line, seconds)
        except HostError as error:
            return failed(self._settings, error)
        return self._show(reply)

    def _show(self, reply: bytes) -> int:
        from hostline.clients.exchange import shown

        if reply.startswith(b"@"):
            reply = reply.partition(b" ")[2]
        try:
            return shown(self._settings, reply, detached=True)
        except HostError as error:
            return failed(self._settings, error)

    def _watch(self, request: words.Request) -> int:
        from hostline.clients.watch import show

        since = request.options["since"].value if "since" in request.options else None
        try:
            for event in self._client.events(*(word.value for word in request.values), since=since):
                show(event, self._settings)
        except KeyboardInterrupt:
            output.complain("")
        return OK

    def _begin(self) -> str:
        import readline

        history = history_path()
        try:
            readline.read_history_file(history)
        except OSError:
            pass
        readline.set_history_length(_HISTORY_LINES)
        readline.set_completer(self._complete)
        readline.set_completer_delims(" \t")
        readline.parse_and_bind("tab: complete")
        return history

    def _complete(self, word: str, state: int) -> str | None:
        import readline

        if state == 0:
            self._found = self._candidates.of(readline.get_line_buffer()[: readline.get_begidx()], word)
        if state >= len(self._found):
            return None
        found = self._found[state]
        return found if len(self._found) > 1 or found.endswith("=") else found + " "


def history_path() -> str:
    """
    Where lines are kept: C{$XDG_STATE_HOME/hostline/history}, C{~/.local/state} if that is not set.
    """
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return f"{state}/hostline/history"


def _keep_history(path: str) -> None:
    import readline

    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        readline.write_history_file(path)
        os.chmod(path, 0o600)  # noqa: PTH101
    except OSError:
        pass


def run(given: list[str], settings: Settings) -> int:
    """
    C{hostline shell}.

    @return: the exit status.
    @raise Usage: if arguments are given.
    """
    if given:
        raise Usage("shell takes no arguments", "hostline shell")
    try:
        return Prompt(settings).run()
    except output.CannotWrite as error:
        return REFUSED if str(error) else OK
