"""
What runs inside slivers, as a test wants it: conversations that say, take and end what they are told to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hostline.server.drivers.driver import Hearer
from tests.daemons import MemoryDaemon


class FakeTalk:
    """
    A conversation in the test's hands.

    @ivar heard: its input so far.
    @ivar takes: whether it reads its input; else it is L{unwritten}.
    """

    def __init__(self, hearer: Hearer, serial: int, argv: Sequence[str] | None, terminal: bool) -> None:
        self.hearer = hearer
        self.serial = serial
        self.argv = argv
        self.terminal = terminal
        self.heard = b""
        self.takes = True
        self.unwritten = 0
        self.input_ended = self.paused = self.closed = self.over = False
        self.size: tuple[int, int] | None = None

    def write(self, data: bytes) -> None:
        assert not (self.closed or self.input_ended)
        self.heard += data
        if not self.takes:
            self.unwritten += len(data)

    def end_input(self) -> None:
        assert not self.closed
        self.input_ended = True

    def resize(self, rows: int, columns: int) -> None:
        self.size = (rows, columns)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        assert not self.over, "who has been told the end need not close"
        self.closed = True

    def say(self, data: bytes, stream: str = "out") -> None:
        """
        Write something.
        """
        assert not (self.paused or self.closed or self.over)
        self.hearer.said(stream, data)

    def end(self, code: int | None = 0) -> None:
        """
        End by itself.
        """
        assert not (self.paused or self.closed)
        self.over = True
        self.hearer.ended(code)


class Inside:
    """
    The inside of every sliver of a daemon.

    @ivar talks: what was begun there, in order.
    @ivar refusal: why nothing can be.
    @ivar logs: what was written, by log.
    """

    def __init__(self, daemon: MemoryDaemon) -> None:
        self.talks: list[FakeTalk] = []
        self.refusal: str | None = None
        self.logs: dict[str, bytes] = {}
        driver: Any = daemon.driver
        driver.execute, driver.attach, driver.read_log = self.execute, self.attach, self.read_log

    def execute(self, serial: int, argv: Sequence[str], hearer: Hearer, *, terminal: bool = False) -> FakeTalk:
        return self._begin(FakeTalk(hearer, serial, argv, terminal))

    def attach(self, serial: int, hearer: Hearer) -> FakeTalk:
        return self._begin(FakeTalk(hearer, serial, None, True))

    def read_log(self, serial: int, stream: str, offset: int, most: int) -> tuple[bytes, int]:
        log = self.logs.get(stream, b"")
        if offset < 0:
            offset = max(0, len(log) + offset)
        elif offset > len(log):
            offset = 0
        data = log[offset : offset + most]
        return data, offset + len(data)

    def _begin(self, talk: FakeTalk) -> FakeTalk:
        if self.refusal is not None:
            raise OSError(self.refusal)
        self.talks.append(talk)
        return talk
