"""
A command in a fake sliver, in memory only: for tests of what carries input, output and end to people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime

from hostline.server.drivers.driver import Hearer


class FakeConversation:
    """
    A command that exists in memory only, or a console that says what is said to it.

    Understood are C{cat} (says its input until that ends), C{echo WORD..}, C{exit N} and C{sleep N}, also as C{sh -c}
    with several of them and C{>&2} behind C{echo}; any other ends at once with 127. It begins at the clock's next turn.

    @ivar size: rows and columns, once they were told.
    """

    def __init__(
        self,
        clock: IReactorTime,
        serial: int,
        argv: Sequence[str] | None,
        hearer: Hearer,
        over: Callable[[FakeConversation], None],
    ) -> None:
        """
        @param argv: None for a console.
        @param over: called once it is over, whether anybody listens or not.
        """
        self.serial = serial
        self.size: tuple[int, int] | None = None
        self._clock = clock
        self._gone = over
        self._hearer = hearer
        self._parts = [["cat"]] if argv is None else _parts(argv)
        self._is_console = argv is None
        self._kept: list[tuple[str, bytes]] = []
        self._input = b""
        self._input_ended = False
        self._reading = False
        self._paused = False
        self._over = False
        self._code: int | None = None

    def begin(self) -> None:
        """
        Go on with the next part, until one takes time.
        """
        code = 0
        while self._parts and not self._over:
            word, *rest = self._parts.pop(0)
            if word == "cat":
                self._reading = True
                self._read()
                return
            if word == "sleep":
                self._clock.callLater(float(rest[0]), self.begin)
                return
            if word == "exit":
                self.end(int(rest[0]))
                return
            if word == "echo":
                stream = "err" if rest[-1:] == [">&2"] else "out"
                self._say(stream, (" ".join(rest[:-1] if stream == "err" else rest) + "\n").encode())
            else:
                self._say("err", f"{word}: not found\n".encode())
                code = 127
        self.end(code)

    def end(self, code: int | None) -> None:
        """
        It ends now.
        """
        if not self._over:
            self._over, self._code = True, None if self._is_console else code
            self._gone(self)
            self._flush()

    def write(self, data: bytes) -> None:
        self._input += data
        self._read()

    @property
    def unwritten(self) -> int:
        return len(self._input)

    def end_input(self) -> None:
        self._input_ended = True
        self._read()

    def resize(self, rows: int, columns: int) -> None:
        self.size = (rows, columns)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._flush()
        self._read()

    def close(self) -> None:
        self._hearer = _Nobody()
        self.end(137)

    def _read(self) -> None:
        if self._reading and not self._over and not self._paused:
            data, self._input = self._input, b""
            if data:
                self._say("out", data)
            if self._input_ended and not self._over:
                self._reading = False
                self.begin()

    def _say(self, stream: str, data: bytes) -> None:
        self._kept.append((stream, data))
        self._flush()

    def _flush(self) -> None:
        while self._kept and not self._paused:
            self._hearer.said(*self._kept.pop(0))
        if self._over and not self._paused:
            hearer, self._hearer = self._hearer, _Nobody()
            hearer.ended(self._code)


class _Nobody:
    def said(self, stream: str, data: bytes) -> None:
        pass

    def ended(self, code: int | None) -> None:
        pass


def _parts(argv: Sequence[str]) -> list[list[str]]:
    if list(argv[:2]) in (["sh", "-c"], ["/bin/sh", "-c"]) and len(argv) > 2:
        return [words for part in argv[2].split(";") if (words := part.split())]
    return [list(argv)]
