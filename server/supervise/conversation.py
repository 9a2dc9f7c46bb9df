"""
A conversation with a process of ours: its input, output and end, over pipes or over a terminal.

Nothing blocks: who writes faster than the process reads sees L{Piped.unwritten} grow, and a process that says more
than its hearer wants (L{Piped.pause}) waits in its own write.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from hostline.server.drivers.driver import Hearer
from hostline.server.supervise.spawn import Child, Spawner

#: How long an output that others still hold open is heard after the process itself has ended.
DRAIN_S = 0.2
Action = tuple[Any, ...]
_MOST = 1 << 16
_END_OF_INPUT = b"\x04"


class Piped:
    """
    A L{hostline.server.drivers.driver.Conversation} with one process that we start.

    @ivar child: the process; None until L{start}.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        hearer: Hearer,
        kill: Callable[[Child], None],
        over: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param kill: ends the process and all in its session; called by L{close} while the process lives.
        @param over: called once the process has ended, whether anybody listens or not.
        """
        self.child: Child | None = None
        self._loop = loop
        self._clock = clock
        self._hearer = hearer
        self._kill = kill
        self._over = over
        self._outputs: dict[int, str] = {}
        self._owed: dict[int, int] = {}
        self._input = -1
        self._terminal = False
        self._unwritten = bytearray()
        self._input_ends = False
        self._fresh_line = True
        self._paused = False
        self._dead = False
        self._code: int | None = None
        self._drain: IDelayedCall | None = None
        self._closed = False

    def start(
        self,
        spawner: Spawner,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        terminal: bool = False,
        owner: int | None = None,
        file_actions: Sequence[Action] = (),
    ) -> Child:
        """
        Start the process, in a session of its own.

        @param terminal: give it a terminal, which controls its session; both outputs are C{out} then.
        @param owner: whose that terminal is to be, a uid; None: ours.
        @param file_actions: further ones, for descriptors above 2.
        @raise OSError: if it could not be started; nothing is left open.
        """
        theirs: list[int] = []
        try:
            actions = self._open_terminal(theirs, owner) if terminal else self._open_pipes(theirs)
            self.child = spawner.spawn(
                argv, environment=environment, file_actions=[*actions, *file_actions], ended=self._ended
            )
        except OSError:
            self._close_all()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        for fd in self._outputs:
            self._loop.add_reader(fd, self._readable, fd)
        return self.child

    def _open_terminal(self, theirs: list[int], owner: int | None) -> list[Action]:
        ours, slave = os.openpty()
        theirs.append(slave)
        self._input, self._terminal = ours, True
        self._outputs[ours] = "out"
        os.set_blocking(ours, False)
        if owner is not None:
            os.fchown(slave, owner, -1)
        name = os.ttyname(slave)
        # opened after setsid, so that it becomes the terminal that controls the session
        opened = (os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)
        return [opened, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]

    def _open_pipes(self, theirs: list[int]) -> list[Action]:
        actions: list[Action] = []
        for number, stream in ((0, ""), (1, "out"), (2, "err")):
            reading, writing = os.pipe()
            ours, other = (writing, reading) if number == 0 else (reading, writing)
            theirs.append(other)
            os.set_blocking(ours, False)
            if number == 0:
                self._input = ours
            else:
                self._outputs[ours] = stream
            actions.append((os.POSIX_SPAWN_DUP2, other, number))
        return actions

    # What who began it may do

    def write(self, data: bytes) -> None:
        if self._input >= 0 and not self._input_ends and data:
            waiting = bool(self._unwritten)
            self._unwritten += data
            if not waiting:
                self._writable()

    @property
    def unwritten(self) -> int:
        return len(self._unwritten)

    def end_input(self) -> None:
        if not self._input_ends:
            self._input_ends = True
            if not self._unwritten:
                self._finish_input()

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal and self._input >= 0:
            size = struct.pack("HHHH", *(min(max(n, 0), 65535) for n in (rows, columns)), 0, 0)
            with suppress(OSError):
                fcntl.ioctl(self._input, termios.TIOCSWINSZ, size)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            for fd in self._outputs:
                self._loop.remove_reader(fd)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            for fd in self._outputs:
                self._loop.add_reader(fd, self._readable, fd)
            if self._dead:
                self._loop.call_soon(self._perhaps_over)

    def close(self) -> None:
        if self._closed:
            return
        self._close_all()
        if self.child is not None and not self._dead:
            self._kill(self.child)

    # What happens

    def _readable(self, fd: int) -> None:
        if fd not in self._outputs or self._paused:
            return
        try:
            data = os.read(fd, _MOST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        stream = self._outputs[fd]
        if not data:
            self._drop_output(fd)
        elif fd in self._owed:
            self._owed[fd] -= len(data)
        if data:
            self._hearer.said(stream, data)
        self._perhaps_over()

    def _writable(self) -> None:
        if self._input < 0:
            return
        try:
            written = os.write(self._input, self._unwritten[:_MOST])
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:  # it does not read any more
            self._unwritten.clear()
            self._drop_input()
            return
        if written:
            self._fresh_line = self._unwritten[written - 1] in b"\n\x04"
            del self._unwritten[:written]
        if self._unwritten:
            self._loop.add_writer(self._input, self._writable)
        else:
            self._loop.remove_writer(self._input)
            if self._input_ends:
                self._finish_input()

    def _finish_input(self) -> None:
        if not self._terminal:
            self._drop_input()
        elif self._input >= 0:
            with suppress(OSError, termios.error):
                if termios.tcgetattr(self._input)[3] & termios.ICANON:
                    os.write(self._input, _END_OF_INPUT if self._fresh_line else _END_OF_INPUT * 2)

    def _ended(self, code: int | None) -> None:
        self._dead, self._code = True, code
        self._over()
        if self._closed:
            return
        self._unwritten.clear()
        if not self._terminal:
            self._drop_input()
        for fd in self._outputs:  # what it said itself is heard, however much others add to it
            self._owed[fd] = _waiting(fd)
        self._drain = self._clock.callLater(DRAIN_S, self._drained)
        self._perhaps_over()

    def _drained(self) -> None:
        self._drain = None
        self._perhaps_over()

    def _perhaps_over(self) -> None:
        if self._closed or not self._dead:
            return
        if self._outputs and (self._drain is not None or any(self._owed.get(fd, 0) > 0 for fd in self._outputs)):
            return
        self._close_all()
        self._hearer.ended(self._code)

    # Descriptors

    def _drop_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._loop.remove_reader(fd)
        if fd == self._input:
            self._loop.remove_writer(fd)
            self._input = -1
            self._unwritten.clear()
        os.close(fd)

    def _drop_input(self) -> None:
        if self._input >= 0:
            self._loop.remove_writer(self._input)
            if self._input not in self._outputs:  # a terminal is both
                os.close(self._input)
            self._input = -1

    def _close_all(self) -> None:
        self._closed = True
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None
        self._unwritten.clear()
        for fd in list(self._outputs):
            self._drop_output(fd)
        self._drop_input()


def _waiting(fd: int) -> int:
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])
    except OSError:
        return 0
