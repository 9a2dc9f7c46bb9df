"""
What runs in a QEMU guest for people who ask, and how one joins its console.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hostline.server.drivers.console import Attached
from hostline.server.drivers.container_commands import Commands
from hostline.server.drivers.containers import ContainerSliver
from hostline.server.drivers.driver import Conversation, Hearer
from hostline.server.drivers.qemu_talk import GuestTalk
from hostline.server.supervise.machine import TALKS

if TYPE_CHECKING:
    from hostline.server.drivers.qemu_watch import Watch

_MOST = 1 << 15


class GuestCommands(Commands):
    """
    Runs commands in guests, and ends them.

    @ivar watching: finds who watches a guest.
    """

    watching: Callable[[int], Watch | None]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._talks: dict[int, dict[int, GuestTalk]] = {}

    def execute(  # type: ignore[override]
        self, sliver: ContainerSliver, argv: Sequence[str], hearer: Hearer, *, terminal: bool
    ) -> Conversation:
        if not argv or any("\0" in word for word in argv):
            raise ValueError("want a command of at least one word, without NUL")
        if terminal:
            raise OSError("commands in QEMU machines get no terminal; attach joins the console")
        watch = self.watching(sliver.serial)
        if watch is None or not watch.reachable:
            raise OSError("the guest's agent does not answer: no command can run in it")
        talks = self._talks.setdefault(sliver.serial, {})
        number = next((one for one in range(TALKS) if one not in talks), None)
        if number is None:
            raise OSError(f"{TALKS} commands run in it already, which is as many as can")

        def over() -> None:
            talks.pop(number, None)

        talks[number] = talk = GuestTalk(
            sliver.name,
            argv,
            hearer,
            state=self._kept.bundle(sliver.serial, sliver.boots).path / "state",
            number=number,
            agent=watch.guest.agent,
            loop=self._loop,
            clock=self._clock,
            over=over,
        )
        return talk

    def attach(self, sliver: ContainerSliver, hearer: Hearer) -> Attached:
        return Console(self._loop, self._kept.bundle(sliver.serial, sliver.boots).path, hearer)

    def end(self, serial: int) -> None:
        for talk in list(self._talks.pop(serial, {}).values()):
            talk.end()

    def end_strays(self, sliver: ContainerSliver) -> None:
        """
        Who watches the guest does so, when its agent answers.
        """

    def close(self) -> None:
        for serial in list(self._talks):
            for talk in list(self._talks.pop(serial).values()):
                talk.close()


class Console(Attached):
    """
    The guest's first serial line, with input.
    """

    _unwritten = b""

    def write(self, data: bytes) -> None:
        waiting = bool(self._unwritten)
        self._unwritten += data
        if not waiting:
            self._writable()

    @property
    def unwritten(self) -> int:
        return len(self._unwritten)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket.fileno())
        self._unwritten = b""
        super().close()

    def _writable(self) -> None:
        fd = self._socket.fileno()
        if fd < 0:
            return
        try:
            written = self._socket.send(self._unwritten[:_MOST])
        except BlockingIOError:
            written = 0
        except OSError:
            self._unwritten = b""
            return
        self._unwritten = self._unwritten[written:]
        if self._unwritten:
            self._loop.add_writer(fd, self._writable)
        else:
            self._loop.remove_writer(fd)
