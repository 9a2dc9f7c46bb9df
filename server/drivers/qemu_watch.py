"""
Watching a QEMU guest come up and run: what QEMU tells, what its agent tells, and by which sign it counts as up.

One coroutine for each guest, which sleeps until there is news: a guest that answers late, never, or lies, holds up
nobody but itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hostline.server.drivers.containers import ContainerSliver
from hostline.server.supervise import backup, machine
from hostline.server.supervise.agent import Agent
from hostline.server.supervise.clones import revive
from hostline.server.supervise.console import read_console
from hostline.server.supervise.guest import Guest
from hostline.server.supervise.guestlogs import GuestLogs
from hostline.server.supervise.qmp import Qmp
from hostline.server.supervise.readiness import Rule
from hostline.server.supervise.said import Said
from hostline.server.supervise.seed import Seed

#: Seconds after which a guest that has not come up is told of.
LATE_S = 120.0
#: Seconds between two looks: before it is up; while its start command runs, growing; when nothing is expected.
_SOON_S, _FIRST_S, _LAST_S, _SELDOM_S = 0.5, 0.25, 5.0, 30.0
#: Seconds for a guest's answers.
_READY_S, _APPLY_S = 20.0, 60.0
#: Of a console that are looked at in one go.
_PIECE, _PIECES = 1 << 16, 8


class Watch:
    """
    One boot of one guest.

    @ivar guest: what is done in it goes by this.
    @ivar reachable: its agent answered, and nobody else's commands are left in it.
    """

    _log = Logger()

    def __init__(
        self,
        sliver: ContainerSliver,
        state: Path,
        console: Path,
        ready: str,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        changed: Callable[[Said], None],
        over: Callable[[str], None],
        problem: Callable[[str, tuple[str, ...]], None],
        settle: Callable[[Guest], Coroutine[Deferred[Any], Any, None]],
    ) -> None:
        """
        @param state: where QEMU's sockets are.
        @param ready: as its image says.
        @param changed: called with what it has said of itself.
        @param over: called with why it is about to end.
        @param problem: called with a subject, and what is not as it should be; nothing if all is.
        @param settle: run once the agent answers, before anybody else may ask it.
        """
        self._sliver = sliver
        self._state = state
        self._console = console
        self._rule = Rule.parse(ready)
        self._sign = self._rule.console() if self._rule.how == "console" else None
        self._read_to = 0
        self._loop = loop
        self._clock = clock
        self._changed = changed
        self._over = over
        self._problem = problem
        self._settle = settle
        self._qmp = Qmp(loop, self._heard, self._wake)
        self.guest = Guest(Agent(state / machine.AGENT, loop, clock), clock)
        self.reachable = False
        self.logs = GuestLogs(self.guest)
        self._seed: Seed | None = None
        self._applied = self._agent_open = self._closed = self._log_wanted = False
        self._address: str | None = None
        self._disk_kib: int | None = None
        self._since = clock.seconds()
        self._pause_s = _FIRST_S
        self._sleep: tuple[Deferred[None], IDelayedCall] | None = None
        self._woken = False
        self._copies = self._installs = False
        #: There while its disk is copied: whoever finds it ends that, and sees to it that the guest is not at rest.
        self._copying = state.parent / "copying"

    def begin(self) -> None:
        """
        Begin to watch.
        """
        Deferred.fromCoroutine(self._live()).addErrback(lambda failure: self._log.failure("a guest", failure))

    def want(self, seed: Seed, address: str | None, disk_kib: int | None) -> None:
        """
        Have the guest be so.

        @param disk_kib: how large its disk is to be at least.
        """
        self._seed, self._address, self._disk_kib, self._applied = seed, address, disk_kib, False
        self._installs = bool(seed.packages) and not self._sliver.said.up
        self._wake()

    def want_logs(self) -> None:
        """
        Somebody reads its logs.
        """
        self._log_wanted = True
        self._wake()

    async def shutdown(self, limit_s: float) -> bool:
        """
        Let it go down.

        @return: whether it was told to.
        """
        if not self.reachable:
            return False
        try:
            if self._sliver.root is not None and self._sliver.has_command:
                await self.logs.copy(self._sliver.root)
            await self.guest.shutdown(limit_s if self._sliver.said.initscript != "none" else 0.0)
        except OSError:
            return False
        return True

    async def copy_disk(self, target: int, base: Path | None, most_bytes: int) -> None:
        """
        Copy what the guest has changed of its disk (L{hostline.server.supervise.backup.copy}); one at a time.

        @raise OSError: if it cannot be done.
        """
        if not self.reachable or self._copies or self._copying.exists():
            raise OSError("its agent does not answer" if not self.reachable else "its disk is being copied")
        self._copies = True
        try:
            self._copying.touch()
            await backup.copy(self._qmp, self.guest.agent, self._clock, target, base, most_bytes)
            self._copying.unlink()
        finally:
            self._copies = False
            self._wake()

    async def disk_size(self) -> int:
        """
        @return: bytes that the guest's disk has.
        @raise OSError: if it has none, or QEMU does not say.
        """
        return await backup.size(self._qmp)

    def close(self) -> None:
        """
        Look away.
        """
        if not self._closed:
            self._closed = True
            self.reachable = False
            self._qmp.close()
            self.guest.close()
            self._wake()

    # What happens

    async def _live(self) -> None:
        while not self._closed:
            self._woken = False
            try:
                await self._look()
            except OSError as error:
                if not self._closed and self._agent_open and self._qmp.joined:
                    self._problem("guest", (str(error),))
                self._pause_s = min(self._pause_s * 1.5, _LAST_S)
            if not self._closed:
                self._judge()
                await self._rest()

    async def _look(self) -> None:
        if not self._qmp.joined:
            await self._join()
        if not (self._sliver.said.up or self._installs or self._rule.how == "agent") and await self._shows():
            self._say(Said(up=True))
        if not self._copies and self._agent_open and self._copying.exists():
            await self._wake_guest()
        if self._seed is not None and not self._applied and not self._closed:
            await self._apply(self._seed)
        if self._applied and not self._closed:
            await self._ask()

    async def _join(self) -> None:
        await self._qmp.join(self._state, machine.QMP)
        await revive(self._qmp, self._clock)
        for one in await self._qmp.execute("query-chardev"):
            if isinstance(one, dict) and one.get("label") == machine.AGENT:
                self._agent_open = one.get("frontend-open") is True

    async def _apply(self, seed: Seed) -> None:
        await self._resize()
        if not self._agent_open:
            return
        await self.guest.ready(_READY_S)
        if not self.reachable:
            await self._settle(self.guest)
        self.reachable = not self._closed
        problems = await self.guest.apply(seed, _APPLY_S)
        if self._seed is seed:
            self._applied = True
        self._problem("guest", tuple(f"inside: {one}" for one in problems))
        self._pause_s = _FIRST_S
        if not self._installs:
            self._say(Said(up=self._rule.how == "agent", started=self._sliver.has_command))

    async def _wake_guest(self) -> None:
        """
        End what somebody else, or we ourselves, began with its disk and did not end.
        """
        await backup.abandon(self._qmp, self._clock)
        await self.guest.ready(_READY_S)
        await self.guest.agent.alone(backup.wake)
        self._copying.unlink(missing_ok=True)

    async def _resize(self) -> None:
        if self._disk_kib is None:
            return
        wanted, self._disk_kib = self._disk_kib * 1024, None
        for one in await self._qmp.execute("query-block"):
            inserted = one.get("inserted") if isinstance(one, dict) and one.get("device") == "disk" else None
            now = inserted["image"]["virtual-size"] if inserted else wanted
            if now < wanted:
                await self._qmp.execute("block_resize", {"device": "disk", "size": wanted})

    async def _ask(self) -> None:
        said, root = self._sliver.said, self._sliver.root
        runs = self._installs or self._runs()
        if runs or self._pause_s == _FIRST_S:
            now = await self.guest.said()
            if self._installs and now.failure:
                await self._give_up(now.failure)
                return
            if self._installs and now.begun:
                self._installs = False
                self._say(Said(up=self._rule.how == "agent"))
            self._say(Said(said.up, now.started, now.ended, now.initscript, now.initscript_code))
            self._pause_s = min(self._pause_s * 1.5, _LAST_S)
        if root is not None and (runs or self._log_wanted):
            self._log_wanted = await self.logs.copy(root)

    def _runs(self) -> bool:
        """
        @return: whether something in it has begun that ends some time.
        """
        said = self._sliver.said
        return (self._sliver.has_command and said.ended is None) or said.initscript == "running"

    async def _give_up(self, why: str) -> None:
        """
        End a guest that cannot be what it is to be.
        """
        self._over(why)
        if self._sliver.root is not None:
            with suppress(OSError):
                await self.logs.copy(self._sliver.root)
        await self._qmp.execute("quit")

    async def _shows(self) -> bool:
        """
        Whether there is the sign by which this guest counts as up.
        """
        if self._rule.how == "started":
            return True
        if self._rule.how == "tcp":
            return self._address is not None and await self._listens(self._address, self._rule.port)
        if self._sign is None:
            return False
        for _ in range(_PIECES):
            data, self._read_to = read_console(self._console, self._read_to, _PIECE)
            if self._sign.feed(data) or not data:
                break
        return self._sign.found

    async def _listens(self, address: str, port: int) -> bool:
        async def tried() -> None:
            _, writing = await asyncio.wait_for(asyncio.open_connection(address, port), 1.0)
            writing.close()

        with suppress(OSError, asyncio.TimeoutError):
            await Deferred.fromFuture(asyncio.ensure_future(tried(), loop=self._loop))
            return True
        return False

    def _say(self, said: Said) -> None:
        if not self._closed:
            self._changed(said)

    def _judge(self) -> None:
        up = self._sliver.said.up and (self._sliver.said.started or not self._sliver.has_command)
        if up or self._clock.seconds() - self._since < LATE_S:
            self._problem("boot", ())
            return
        why = "it does not show the sign for which its image waits"
        if not self._agent_open:
            why = "its agent is not there"
        elif self._installs:
            why = "its packages are being installed"
        self._problem("boot", (f"it has not come up in {LATE_S:g} s: {why}",))

    # News

    def _heard(self, event: Mapping[str, Any]) -> None:
        why = machine.why_over(event)
        if why is not None:
            self._over(why)
        data = event.get("data")
        if event.get("event") == "VSERPORT_CHANGE" and isinstance(data, Mapping) and data.get("id") == machine.AGENT:
            self._agent_open = data.get("open") is True
            if self._agent_open:
                self._wake()

    def _wake(self) -> None:
        self._woken = True
        sleep, self._sleep = self._sleep, None
        if sleep is not None:
            if sleep[1].active():
                sleep[1].cancel()
            sleep[0].callback(None)

    async def _rest(self) -> None:
        said = self._sliver.said
        if self._woken:
            return
        if not said.up or not self._applied or self._copying.exists():
            pause = max(_SOON_S, self._pause_s) if self._qmp.joined else 0.1
        elif self._runs():
            pause = self._pause_s
        else:
            pause = 1.0 if self._log_wanted else _SELDOM_S
        over: Deferred[None] = Deferred()
        self._sleep = over, self._clock.callLater(pause, self._wake)
        await over
