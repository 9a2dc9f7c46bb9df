"""
What runs in a container beside its start command: commands for people who ask, and its initscript when that changes;
and how one listens to its console.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hostline.server.drivers.console import Attached
from hostline.server.drivers.containers import ContainerSliver, Kept
from hostline.server.drivers.driver import CANNOT_START, Hearer
from hostline.server.supervise import bundle as oci
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.conversation import Piped
from hostline.server.supervise.runtime import Runtime, exec_argv, shortened
from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Child, Spawner, state

#: How long all in the session of a closed command may take to end.
_END_S, _AGAIN_S = 5.0, 0.02
_PROCESS = 9
_PID_FILE = "exec-"
#: The runtime copies what comes from the standard streams, and ends only when nobody has them open any more; so a
#: command gets ours beside those, and what it leaves behind holds up nobody.
_WITHOUT_TERMINAL = ("/bin/sh", "-c", 'exec "$0" "$@" <&3 >&4 2>&5 3<&- 4>&- 5>&-')


class Commands:
    """
    Runs commands in containers, and ends them.

    @ivar runtime: None if none works here.
    """

    _log = Logger()
    runtime: Runtime | None = None

    def __init__(
        self,
        kept: Kept,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        cgroups: Cgroups | None,
    ) -> None:
        self._kept = kept
        self._spawner = spawner
        self._loop = loop
        self._clock = clock
        self._cgroups = cgroups
        self._running: dict[int, set[Piped]] = {}
        self._token = os.urandom(6).hex()
        self._restarts: dict[int, Piped] = {}
        self._count = 0

    def execute(self, sliver: ContainerSliver, argv: Sequence[str], hearer: Hearer, *, terminal: bool) -> Piped:
        """
        @raise OSError: if it cannot be run.
        @raise ValueError: if it can be no argv.
        """
        if not argv or any("\0" in word for word in argv):
            raise ValueError("want a command of at least one word, without NUL")
        if self.runtime is None:
            raise OSError("no container runtime works on this host")
        bundle, boots = self._kept.bundle(sliver.serial, sliver.boots), sliver.boots
        self._count += 1
        pid_file = bundle.path / f"{_PID_FILE}{self._token}-{self._count}.pid"
        running = self._running.setdefault(sliver.serial, set())
        said = os.memfd_create("said")
        judged = _Judged(
            hearer, pid_file, said, "out" if terminal else "err", lambda: sliver.boots == boots and sliver.up
        )

        def over() -> None:
            running.discard(piped)
            judged.over()

        piped = Piped(self._loop, self._clock, judged, partial(self._kill, sliver, judged), over)
        environment = oci.environment(sliver.name) | ({"TERM": "xterm"} if terminal else {})
        words = list(argv) if terminal else [*_WITHOUT_TERMINAL, *argv]
        process = oci.process(words, environment, terminal=terminal)
        described = os.memfd_create("process")
        try:
            os.write(described, json.dumps(process).encode())
            runtime, file = self.runtime, f"/proc/self/fd/{_PROCESS}"
            words = exec_argv(runtime.program, runtime.root, bundle.name, file, pid_file, 0 if terminal else 3)
            actions = [(os.POSIX_SPAWN_DUP2, described, _PROCESS)]
            if not terminal:
                actions += [(os.POSIX_SPAWN_DUP2, number, number + 3) for number in range(3)]
                actions += [
                    (os.POSIX_SPAWN_DUP2, _PROCESS, number) for number in (0, 1)
                ]  # nothing to read or write there
                actions.append((os.POSIX_SPAWN_DUP2, said, 2))
            piped.start(self._spawner, words, environment={"PATH": PATH}, terminal=terminal, file_actions=actions)
        except OSError:
            judged.over()
            raise
        finally:
            os.close(described)
        if terminal:
            piped.resize(oci.ROWS, oci.COLUMNS)  # until somebody says otherwise
        running.add(piped)
        return piped

    def run_script(self, sliver: ContainerSliver, verb: str, begun: Callable[[], None]) -> None:
        """
        Run the initscript that is new; one that still runs from before is ended.

        @param verb: C{restart}, or C{start} if there was none before.
        @param begun: called once it runs.
        """
        old = self._restarts.pop(sliver.serial, None)
        if old is not None:
            old.close()
        try:
            argv = ["/bin/sh", f"{oci.OURS}/bin/initscript", verb]
            self._restarts[sliver.serial] = self.execute(sliver, argv, _Deaf(), terminal=False)
        except OSError as error:
            self._log.warn("no {verb} of an initscript: {error}", verb=verb, error=str(error))
        else:
            begun()

    def attach(self, sliver: ContainerSliver, hearer: Hearer) -> Attached:
        """
        @raise OSError: if its conmon does not answer.
        """
        return Attached(self._loop, self._kept.bundle(sliver.serial, sliver.boots).path, hearer)

    def end(self, serial: int) -> None:
        """
        A container ends, and with it every command in it; whoever listens hears so.
        """
        self._restarts.pop(serial, None)
        self._running.pop(serial, None)

    def end_strays(self, sliver: ContainerSliver) -> None:
        """
        End commands that an earlier daemon ran: nobody listens to them.
        """
        path = self._kept.bundle(sliver.serial, sliver.boots).path
        for pid_file in path.glob(f"{_PID_FILE}*.pid"):
            if not pid_file.name.startswith(f"{_PID_FILE}{self._token}-"):
                self._go(self._end_session(sliver, None, partial(_itself, _pid(pid_file))))
                pid_file.unlink(missing_ok=True)

    def close(self) -> None:
        """
        The daemon ends, and every command with it.
        """
        for serial in list(self._running):
            for piped in list(self._running.pop(serial)):
                piped.close()

    def _kill(self, sliver: ContainerSliver, judged: _Judged, child: Child) -> None:
        self._go(self._end_session(sliver, child, judged.pid))

    async def _end_session(self, sliver: ContainerSliver, child: Child | None, pid: Callable[[], int | None]) -> None:
        """
        Kill a command and all in its session, until nobody is left; and the runtime's process that waits for it.

        @param pid: the command's own, once there is one.
        """
        deadline = self._clock.seconds() + _END_S
        while self._clock.seconds() < deadline:
            first = pid()
            if first is not None:
                if not self._kill_session(sliver, first):
                    break
            elif child is None or not child.alive:
                break
            await deferLater(self._clock, _AGAIN_S)
        if child is not None:
            child.kill(signal.SIGKILL)

    def _kill_session(self, sliver: ContainerSliver, session: int) -> bool:
        """
        @param session: pid of its first process, as we see it.
        @return: whether anybody was there.
        """
        if self._cgroups is None:
            members = (
                [session] if sliver.node is not None and _namespace(session) == _namespace(sliver.node.pid) else []
            )
        else:
            members = self._cgroups.members(sliver.serial)
        there = False
        for pid in members:
            with suppress(OSError):
                fd = os.pidfd_open(pid)
                try:
                    if _session(pid) == session:
                        there = True
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                finally:
                    os.close(fd)
        return there

    def _go(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(
            lambda failure: self._log.failure("a command was not ended", failure)
        )


class _Judged:
    """
    Tells the runtime's own failure from the command's: without a pid there was no command.
    """

    def __init__(self, hearer: Hearer, pid_file: Path, said: int, stream: str, up: Callable[[], bool]) -> None:
        """
        @param said: descriptor of what the runtime itself says; closed by L{over}.
        @param up: whether the container still is.
        """
        self._hearer = hearer
        self._pid_file = pid_file
        self._said = said
        self._stream = stream
        self._up = up
        self._began = True
        self._pid: int | None = None
        self._reason = ""

    def pid(self) -> int | None:
        """
        @return: the command's own, also after its end; None if there is none yet.
        """
        if self._pid is None:
            self._pid = _pid(self._pid_file)
        return self._pid

    def over(self) -> None:
        """
        The runtime's process has ended.
        """
        self._began = self.pid() is not None
        self._pid_file.unlink(missing_ok=True)
        if self._said >= 0:
            self._reason = _reason(os.pread(self._said, 1 << 16, 0).decode("utf-8", "replace"))
            os.close(self._said)
            self._said = -1

    def said(self, stream: str, data: bytes) -> None:
        self._hearer.said(stream, data)

    def ended(self, code: int | None) -> None:
        if self._began or not code:
            self._hearer.ended(code)
        elif not self._up():
            self._hearer.ended(128 + signal.SIGKILL)  # it was still on its way in
        else:
            text = self._reason
            status = 127 if "not found" in text or "no such file" in text else 126 if "denied" in text else CANNOT_START
            if text:
                self._hearer.said(self._stream, f"{text}\n".encode())
            self._hearer.ended(status)


class _Deaf:
    def said(self, stream: str, data: bytes) -> None:
        pass

    def ended(self, code: int | None) -> None:
        pass


def _reason(text: str) -> str:
    """
    @return: why the runtime could not run a command, without what only its makers understand.
    """
    return shortened(text).rpartition("container process: ")[2]


def _pid(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _itself(pid: int | None) -> int | None:
    return pid


def _session(pid: int) -> int | None:
    with suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        if state(fields) not in "ZX":
            return int(fields[3])
    return None


def _namespace(pid: int) -> int | None:
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    return None
