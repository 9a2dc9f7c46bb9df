"""
What runs in a process sliver beside its start command: commands for people who ask, and its initscript.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import CANNOT_START, Hearer
from hostline.server.supervise import execution, homes, shim
from hostline.server.supervise.conversation import Piped
from hostline.server.supervise.execution import Place
from hostline.server.supervise.members import Members
from hostline.server.supervise.spawn import Child, Spawner

#: How long all in the session of a closed command may take to end; the sliver's end finds whoever is left.
_END_S, _AGAIN_S = 5.0, 0.05
_KILLED = 137


class Commands:
    """
    Runs commands in slivers, and ends them.
    """

    _log = Logger()

    def __init__(
        self, spawner: Spawner, loop: asyncio.AbstractEventLoop, clock: IReactorTime, members: Members
    ) -> None:
        self._spawner = spawner
        self._loop = loop
        self._clock = clock
        self._members = members
        self._running: dict[int, set[Piped]] = {}

    def execute(
        self, serial: int, place: Place, argv: Sequence[str], hearer: Hearer, *, terminal: bool, tag: str
    ) -> Piped:
        """
        @raise OSError: if it cannot be run.
        @raise ValueError: if it can be no argv.
        """
        if not argv or any("\0" in word for word in argv):
            raise ValueError("want a command of at least one word, without NUL")
        running = self._running.setdefault(serial, set())

        def over() -> None:
            running.discard(piped)

        piped = Piped(self._loop, self._clock, hearer, partial(self._kill, serial), over)
        with execution.entrance(place) as (before, actions):
            piped.start(
                self._spawner,
                execution.joining(place.procs, execution.with_daemon([*before, *argv])),
                environment={"PATH": shim.PATH, shim.TAG: tag},
                terminal=terminal,
                owner=place.uid if terminal else None,
                file_actions=actions,
            )
        running.add(piped)
        return piped

    def end(self, serial: int) -> None:
        """
        Kill the commands of a sliver that ends: some may not have joined it yet. Whoever listens hears of their end.
        """
        for piped in self._running.pop(serial, set()):
            if piped.child is not None:
                self._kill(serial, piped.child)

    def close(self) -> None:
        """
        The daemon ends, and every command with it.
        """
        for serial in list(self._running):
            for piped in self._running.pop(serial):
                if piped.child is not None:
                    piped.child.kill(signal.SIGKILL)
                piped.close()

    def _kill(self, serial: int, child: Child) -> None:
        child.kill(signal.SIGKILL)
        Deferred.fromCoroutine(self._end_session(serial, child.pid)).addErrback(
            lambda failure: self._log.failure("a command was not ended", failure)
        )

    async def _end_session(self, serial: int, session: int) -> None:
        """
        Kill all of a sliver that are in a session, until nobody is.
        """
        deadline = self._clock.seconds() + _END_S
        while await self._members.kill_session(serial, session) and self._clock.seconds() < deadline:
            await deferLater(self._clock, _AGAIN_S)


class Initscripts:
    """
    Runs the initscripts of slivers: C{start} at each boot, C{restart} when the text changes, C{stop} before the end.

    Each run has a keeper outside the sliver (C{shim.sh init}) that notes its exit status, so that no daemon need be
    there at its end.
    """

    def __init__(
        self,
        directory: Path,
        spawner: Spawner,
        clock: IReactorTime,
        members: Members,
        changed: Callable[[ProcessSliver], None],
    ) -> None:
        """
        @param directory: C{STATE/slivers}.
        @param changed: called when a run has ended.
        """
        self._directory = directory
        self._spawner = spawner
        self._clock = clock
        self._members = members
        self._changed = changed
        self._runners: dict[int, Child] = {}

    def install(self, serial: int, text: str | None, group: int | None) -> None:
        """
        Have this text in place for the next run.

        @raise OSError: if that fails.
        """
        homes.install_script(self._directory / str(serial) / "initscript", text, group)

    def due(self, sliver: ProcessSliver) -> str | None:
        """
        @return: with what word a sliver's initscript has to be run now: C{start}, C{restart} or None.
        """
        text = sliver.workload.initscript if sliver.workload is not None else None
        if text is None or not sliver.boot.up or sliver.boot.exit is not None or sliver.serial in self._runners:
            return None
        run = sliver.boot.initscript
        if run is None:
            return "start"
        return "restart" if run.mark != shim.mark(text) else None

    def begin(self, sliver: ProcessSliver, word: str, script: Path, boot: Path, place: Place, tag: str) -> None:
        """
        Run it.

        @param script: the shim.
        @param boot: the directory of the boot.
        @raise OSError: if it could not be started.
        """
        serial = sliver.serial
        text = sliver.workload.initscript if sliver.workload is not None else None
        mark = shim.mark(text or "")
        interpreter = [] if text is not None and text.startswith("#!") else [shim.SHELL]
        root = self._directory / str(serial)
        (boot / "initscript").unlink(missing_ok=True)
        with suppress(OSError), (boot / "initscript.begun").open("w") as note:
            note.write("0 0 -\n")  # until its keeper says who it is
        opened: list[int] = []
        try:
            script_fd = os.open(root / "initscript", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            opened.append(execution.out_of_the_way(script_fd))
            opened.append(execution.out_of_the_way(homes.append_log(root, "initscript")))
            os.write(opened[1], f"[hostline: initscript {word}]\n".encode())
            with execution.entrance(place) as (before, actions):
                argv = [shim.SHELL, str(script), "init", str(serial), str(boot), mark, *map(str, place.procs)]
                self._runners[serial] = self._spawner.spawn(
                    [*argv, "--", *before, *interpreter, f"/proc/self/fd/{execution.SCRIPT}", word],
                    environment={"PATH": shim.PATH, shim.TAG: tag},
                    file_actions=[
                        *actions,
                        (os.POSIX_SPAWN_DUP2, opened[0], execution.SCRIPT),
                        (os.POSIX_SPAWN_DUP2, opened[1], 1),
                        (os.POSIX_SPAWN_DUP2, opened[1], 2),
                    ],
                    ended=partial(self._ended, sliver, boot, mark),
                )
        except OSError:
            _note(boot, mark, CANNOT_START)
            raise
        finally:
            for fd in opened:
                os.close(fd)

    def adopt(self, sliver: ProcessSliver, boot: Path) -> None:
        """
        Watch a run that an earlier daemon began; one whose keeper is gone, and said nothing, has ended.
        """
        run = sliver.boot.initscript
        if run is None or run.code is not None or sliver.serial in self._runners:
            return
        ended = partial(self._ended, sliver, boot, run.mark)
        child = self._spawner.adopt(run.runner.pid, run.runner.started, ended) if run.runner.pid else None
        if child is not None:
            self._runners[sliver.serial] = child
        elif run.runner.pid:
            _note(boot, run.mark, None)

    def running(self, serial: int) -> bool:
        """
        @return: whether a run goes on.
        """
        return serial in self._runners

    def kill(self, serial: int) -> None:
        """
        End the keeper of a run whose sliver is ended.
        """
        child = self._runners.get(serial)
        if child is not None:
            child.kill(signal.SIGKILL)

    async def cut(self, serial: int, limit_s: float) -> None:
        """
        Kill what a run of a living sliver runs, and wait until its keeper has noted that.
        """
        deadline = self._clock.seconds() + limit_s
        while (child := self._runners.get(serial)) is not None and self._clock.seconds() < deadline:
            await self._members.kill_session(serial, child.pid)
            await deferLater(self._clock, _AGAIN_S)

    async def wait(self, serial: int, limit_s: float) -> None:
        """
        Give a run so long to end.
        """
        deadline = self._clock.seconds() + limit_s
        while serial in self._runners and self._clock.seconds() < deadline:
            await deferLater(self._clock, _AGAIN_S)

    def close(self) -> None:
        """
        Stop watching; every run goes on.
        """
        for child in self._runners.values():
            self._spawner.release(child)
        self._runners.clear()

    def _ended(self, sliver: ProcessSliver, boot: Path, mark: str, code: int | None) -> None:
        self._runners.pop(sliver.serial, None)
        run = shim.read_boot(boot).initscript
        if run is None or run.code is None:  # its keeper was killed: nobody else will say so
            _note(boot, mark, code)
        self._changed(sliver)


def _note(boot: Path, mark: str, code: int | None) -> None:
    with suppress(OSError):
        (boot / "initscript.begun").write_text(f"0 0 {mark}\n")
        (boot / "initscript").write_text(f"{_KILLED if code is None else code}\n")
