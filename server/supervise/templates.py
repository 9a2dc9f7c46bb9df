"""
Guests that have booted once for all those like them: the memory and the devices of one, from which others go on.

A template is two files that are in memory only: the guest's memory, sealed so that nobody can write to it any more, and
what QEMU says of its devices. A clone maps the memory as its own (what it does not change it shares with all others)
and reads the devices' state; so it answers in some hundredths of what a boot takes. Nothing of a template is on the
disk but while it is made: it ends with the daemon, and the next one makes it again; clones go on.

What all clones of a template would share is made new by the seed: random numbers, clock, names, addresses of cards.
Only guests without a disk have templates: what a file system is to a guest's kernel is not only on its disk.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hostline.server.supervise import machine
from hostline.server.supervise.agent import Agent
from hostline.server.supervise.clones import CAPABILITY, RAM, Template, key_of, like, revive
from hostline.server.supervise.guest import Guest
from hostline.server.supervise.machine import Machine
from hostline.server.supervise.qmp import Qmp
from hostline.server.supervise.running import program, run
from hostline.server.supervise.shim import PATH, SHELL
from hostline.server.supervise.spawn import Child, Spawner
from hostline.server.supervise.trash import Trash

#: How many templates are kept, and how many failures there may be before one is given up for good.
MOST, TRIES = 4, 2
_LIMIT_S, _SETTLE_S, _APART_S, _SEAL_S, _TRY_S = 180.0, 1.0, 0.3, 10.0, 120.0
_NOBODY = "65534"
_SEALS = 0x2 | 0x4 | 0x8  # SHRINK, GROW, WRITE
_ADD_SEALS = 1033
#: The last word is how what an earlier daemon began is known again.
_MARK = "hostline-template"
# The shell stays root's and the first of its pid namespace: what sets its uid is no longer told of its parent's death.
_SCRIPT = 'cd "$1" || exit 1; shift 2; "$@"; exit "$?"'


@define
class _Kept:
    image: Path
    template: Template | None = None
    failures: int = 0


class Templates:
    """
    The templates of this host, made as they are wanted, one at a time.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Path,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        most: Callable[[], int] = lambda: MOST,
    ) -> None:
        """
        @param directory: for what is there while one is made; C{STATE/templates}.
        @param most: how many are kept; 0: none are made.
        """
        self._directory = directory
        self._spawner = spawner
        self._loop = loop
        self._clock = clock
        self._most = most
        self._kept: dict[str, _Kept] = {}  # the one that was used last is the last
        self._making: tuple[str, Child | None] | None = None
        self._trash = Trash(directory / ".trash", spawner)
        self._closed = False

    async def recover(self) -> None:
        """
        End and remove what an earlier daemon was making.

        @raise OSError: if that cannot be done.
        """
        self._directory.mkdir(mode=0o711, exist_ok=True)
        for pid in makers(self._directory):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            while pid in makers(self._directory):
                await deferLater(self._clock, 0.01)
        self._trash.resume()
        for one in self._directory.iterdir():
            if one.name != ".trash":
                await self._trash.throw(one)

    def find(self, told: Machine, image: Path) -> Template | None:
        """
        @param told: a guest that is to be started.
        @param image: the directory of its image.
        @return: what it can go on from; None if there is nothing, and then it is made in the background.
        """
        whole = told.kernel and told.initrd and told.disk is None and told.guest.ready == "agent"
        if not whole or self._closed or self._most() <= 0:
            return None
        pattern = like(told)
        try:
            key = key_of(pattern, image)
        except OSError:
            return None
        self._drop_removed()
        kept = self._kept.setdefault(key, _Kept(image))
        self._kept[key] = self._kept.pop(key)
        if kept.template is None and kept.failures < TRIES and self._making is None:
            self._making = key, None
            made = Deferred.fromCoroutine(self._make(key, pattern, image))
            made.addErrback(lambda failure: self._log.failure("a template", failure))
        return kept.template

    def failed(self, template: Template) -> None:
        """
        A clone of it did not come up: there is something wrong with it.
        """
        for kept in self._kept.values():
            if kept.template is template:
                kept.template = None
                kept.failures += 1
                template.close()

    def ready(self) -> int:
        """
        @return: how many there are.
        """
        return sum(kept.template is not None for kept in self._kept.values())

    def close(self) -> None:
        """
        End what is being made, and let go of all.
        """
        self._closed = True
        if self._making is not None and self._making[1] is not None:
            _end(self._making[1])
        for kept in self._kept.values():
            if kept.template is not None:
                kept.template.close()
                kept.template = None
        self._kept.clear()
        self._trash.close()

    async def _make(self, key: str, pattern: Machine, image: Path) -> None:
        place = self._directory / key[:16]
        try:
            template = await self._boot(key, place, pattern, image)
            if self._closed or key not in self._kept:
                template.close()
            else:
                self._kept[key].template = template
                self._drop_old()
        except OSError as error:
            if key in self._kept and not self._closed:
                self._kept[key].failures += 1
                self._log.warn("no template of {image}: {why}", image=image, why=str(error))
        finally:
            self._making = None
            with suppress(OSError):
                if not self._closed:
                    await self._trash.throw(place)

    async def _boot(self, key: str, place: Path, pattern: Machine, image: Path) -> Template:
        ram = os.memfd_create("hostline-ram", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        state = os.memfd_create("hostline-state", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        template = Template(ram, state)
        try:
            os.truncate(ram, pattern.memory)
            first = evolve(pattern, ram=f"/proc/self/fd/{RAM}", keeps=True)
            await self._run(key, place, first, image, [ram], lambda child: self._grow_up(place, child, state))
            await self._seal((ram, state))
            # Tried once before anybody gets it.
            keep = template.opened()
            try:
                second = template.like(pattern)
                await self._run(key, place, second, image, keep, lambda child: self._try(place, child))
            finally:
                for fd in keep:
                    os.close(fd)
            return template
        except BaseException:
            template.close()
            raise

    async def _run(
        self,
        key: str,
        place: Path,
        told: Machine,
        image: Path,
        keep: Sequence[int],
        what: Callable[[Child], Coroutine[Deferred[Any], Any, None]],
    ) -> None:
        """
        Do something with a guest that nobody else knows of, and end it.

        @param keep: descriptors that QEMU gets, from C{RAM} on.
        """
        await self._trash.throw(place)
        place.mkdir(mode=0o700)
        # Nobody gets to where images are; and no link is made from one mount point to another.
        await run(self._spawner, "cp", *(str(image / name) for name in ("kernel", "initrd")), str(place))
        os.chown(place, int(_NOBODY), int(_NOBODY))
        ended: Deferred[int | None] = Deferred()
        # From numbers above those that they get, or one would be taken for another.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, RAM + len(keep)) for fd in keep]
        try:
            child = self._spawner.spawn(
                confined(place, machine.argv(told)),
                environment={"PATH": PATH, "LC_ALL": "C"},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs, RAM)],
                ended=ended.callback,
            )
        finally:
            for fd in theirs:
                os.close(fd)
        self._making = key, child
        try:
            until = self._clock.seconds() + _LIMIT_S
            while not (place / machine.AGENT).exists() or not (place / machine.QMP).exists():
                if not child.alive or self._clock.seconds() > until:
                    raise OSError("QEMU did not start")
                await deferLater(self._clock, 0.02)
            await what(child)
        finally:
            _end(child)
        await ended

    async def _try(self, place: Path, child: Child) -> None:
        """
        See a clone answer.
        """
        qmp = Qmp(self._loop, lambda _: None, lambda: None)
        guest = Guest(Agent(place / machine.AGENT, self._loop, self._clock), self._clock)
        try:
            await qmp.join(place, machine.QMP)
            await revive(qmp, self._clock)
            await guest.ready(_TRY_S)
        except OSError as error:
            raise OSError(f"a guest does not go on from it: {error}") from error
        finally:
            guest.close()
            qmp.close()

    async def _grow_up(self, place: Path, child: Child, state: int) -> None:
        """
        Wait until a guest has booted, and have its devices' state written; it is over then.
        """
        guest = Guest(Agent(place / machine.AGENT, self._loop, self._clock), self._clock)
        qmp = Qmp(self._loop, lambda _: None, lambda: None)
        until = self._clock.seconds() + _LIMIT_S
        try:
            await guest.ready(_LIMIT_S)
            # What is begun at a boot comes to rest; nobody is connected any more.
            await deferLater(self._clock, _SETTLE_S)
            await guest.agent.call("guest-ping")
            guest.close()
            await deferLater(self._clock, _APART_S)
            await qmp.join(place, machine.QMP)
            # It stops by itself; as it runs when that is begun, its clones do so without being told.
            await qmp.execute("migrate-set-capabilities", CAPABILITY)
            await qmp.give("state", state)
            await qmp.execute("migrate", {"uri": "fd:state"})
            while True:
                said: Any = await qmp.execute("query-migrate")
                word = said.get("status") if isinstance(said, dict) else None
                if word == "completed":
                    break
                if word == "failed" or self._clock.seconds() > until:
                    raise OSError("QEMU does not write the state of its devices")
                await deferLater(self._clock, 0.02)
            with suppress(OSError):
                await qmp.execute("quit")
        finally:
            guest.close()
            qmp.close()

    async def _seal(self, files: Sequence[int]) -> None:
        """
        @raise OSError: if somebody still can write to them.
        """
        until = self._clock.seconds() + _SEAL_S
        for fd in files:
            while True:
                try:
                    fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
                    break
                except OSError as error:  # mapped by a QEMU that is just ending
                    if error.errno != errno.EBUSY or self._clock.seconds() > until:
                        raise
                await deferLater(self._clock, 0.01)

    def _drop_removed(self) -> None:
        """
        Let go of templates whose images were removed.
        """
        for key, kept in list(self._kept.items()):
            if not kept.image.exists() and (self._making is None or self._making[0] != key):
                del self._kept[key]
                if kept.template is not None:
                    kept.template.close()

    def _drop_old(self) -> None:
        whole = [key for key, kept in self._kept.items() if kept.template is not None]
        for key in whole[: max(len(whole) - max(self._most(), 1), 0)]:
            kept = self._kept.pop(key)
            if kept.template is not None:
                kept.template.close()


def confined(place: Path, argv: Sequence[str]) -> list[str]:
    """
    @return: what starts QEMU as nobody, with a network, processes and mounts of its own, in a directory; all of it ends
        when the first of them is killed.
    """
    return [
        *(program("unshare"), "-mpnif", "--kill-child", "--propagation", "private", "--mount-proc"),
        *(SHELL, "-c", _SCRIPT, "sh", str(place), _MARK),
        *(program("setpriv"), f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs"),
        *("--bounding-set=-all", "--inh-caps=-all"),
        *(program("nice"), "-n", "5"),
        *argv,
    ]


def makers(directory: Path) -> list[int]:
    """
    @return: pids of what makes templates under a directory.
    """
    found: list[int] = []
    try:
        unshare = os.path.realpath(program("unshare"))
    except FileNotFoundError:
        return found
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError):
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                if (
                    _MARK.encode() in words
                    and any(one.startswith(os.fsencode(f"{directory}/")) for one in words)
                    and os.readlink(f"/proc/{name}/exe") == unshare  # noqa: PTH115
                ):
                    found.append(int(name))
    return found


def _end(child: Child) -> None:
    child.kill(signal.SIGKILL)  # unshare: its child goes with it, and with that one all the others
