"""
The fake driver: slivers in memory only, driven by a clock. Shipped, and what every test of the server runs on.

It understands start commands made of C{sleep N} and C{exit N} (C{sleep 5; exit 7}); any other takes C{end_after}
seconds and ends with 0. What it can be asked to execute is in
L{hostline.server.drivers.fake_conversation}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from attrs import define, evolve, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.drivers.driver import CANNOT_START, Activity, Conversation, Hearer, Status, Workload
from hostline.server.drivers.fake_conversation import FakeConversation

_WORD = re.compile(r"\s*(sleep|exit)\s+(\d+(?:\.\d+)?)\s*\Z")
#: What the slivers' uids are counted from.
FIRST_UID = 100_000


@define
class FakeHost:
    """
    What is so; outlives the drivers that look at it, as a host outlives its daemon.

    @ivar statuses: by serial.
    @ivar in_force: what each sliver is held to, by serial; a test may change it, as a host may.
    @ivar logs: what each sliver wrote, by serial and stream.
    @ivar activities: what is done in each sliver, by serial; None: it cannot be asked.
    @ivar talks: every conversation that was begun and is not over.
    @ivar listeners: called with a serial when its status changed.
    """

    clock: IReactorTime
    statuses: dict[int, Status] = field(factory=dict)
    listeners: list[Callable[[int], None]] = field(factory=list)
    in_force: dict[int, dict[str, int]] = field(factory=dict)
    logs: dict[int, dict[str, bytes]] = field(factory=dict)
    talks: list[FakeConversation] = field(factory=list)
    activities: dict[int, Activity | None] = field(factory=dict)

    def put(self, status: Status) -> None:
        """
        Make it so.
        """
        if self.statuses.get(status.serial) != status:
            self.statuses[status.serial] = status
            self._tell(status.serial)

    def remove(self, serial: int) -> None:
        """
        As if it had never been.
        """
        self.hang_up(serial)
        self.in_force.pop(serial, None)
        self.logs.pop(serial, None)
        if self.statuses.pop(serial, None) is not None:
            self._tell(serial)

    def hang_up(self, serial: int) -> None:
        """
        What runs in a sliver is killed with it.
        """
        for talk in [talk for talk in self.talks if talk.serial == serial]:
            talk.end(137)

    def later(self, delay: float | None, serial: int, change: Callable[[Status], Status]) -> None:
        """
        Change a sliver's status after a delay, unless it is in another boot or dead by then; None: never.
        """
        if delay is None:
            return
        boots = self.statuses[serial].boots

        def now() -> None:
            status = self.statuses.get(serial)
            if status is not None and status.boots == boots and status.boot != "dead":
                self.put(change(status))

        if delay > 0:
            self.clock.callLater(delay, now)
        else:
            now()

    def _tell(self, serial: int) -> None:
        for listener in list(self.listeners):
            listener(serial)


class FakeDriver:
    """
    A driver without a host.

    @ivar host: what is so.
    @ivar boot_after: seconds from start to C{booted}; None: never.
    @ivar end_after: seconds that a start command takes which does not say so itself; None: for ever.
    @ivar stop_after: seconds that L{ensure_stopped} takes.
    @ivar boots_after: the same as C{boot_after}, for single slivers by serial.
    @ivar codes: exit status of the start command, by serial, instead of what it says itself.
    @ivar refusals: by serial, why a sliver cannot be started: it becomes C{dead} with L{CANNOT_START}.
    @ivar errors: by the name of a method, what its next calls raise, each once.
    @ivar calls: the name of each method called and its serial, in order.
    @ivar configured: the newest workload that L{ensure_configured} was called with, by serial.
    """

    version = "fake 1"

    holds = "no limit is held"
    changed: Callable[[int], None]

    def __init__(
        self,
        clock: IReactorTime,
        *,
        host: FakeHost | None = None,
        kind: str = "fake",
        boot_after: float | None = 0.0,
        end_after: float | None = 0.0,
        stop_after: float = 0.0,
    ) -> None:
        self.kind = kind
        self.changed = lambda serial: None
        self.host = FakeHost(clock) if host is None else host
        self.boot_after = boot_after
        self.end_after = end_after
        self.stop_after = stop_after
        self.boots_after: dict[int, float | None] = {}
        self.codes: dict[int, int] = {}
        self.refusals: dict[int, str] = {}
        self.errors: dict[str, list[Exception]] = {}
        self.calls: list[tuple[str, int]] = []
        self.configured: dict[int, Workload] = {}
        self._clock = clock
        self._pids = 1000
        self._listener = lambda serial: self.changed(serial)
        self.host.listeners.append(self._listener)

    async def recover(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        self._called("recover", 0)
        for serial in set(self.host.statuses) - set(known):
            if not keep_strays:
                self.host.remove(serial)

    async def ensure_created(self, workload: Workload) -> None:
        self._called("ensure_created", workload.serial)
        self._create(workload)
        self._hold(workload)

    async def ensure_configured(self, workload: Workload) -> None:
        self._called("ensure_configured", workload.serial)
        self.configured[workload.serial] = workload
        if workload.serial in self.host.statuses:
            self._hold(workload)

    async def ensure_started(self, workload: Workload) -> None:
        serial = workload.serial
        self._called("ensure_started", serial)
        self._create(workload)
        self._hold(workload)
        if self.host.statuses[serial].boots >= workload.boots:
            return
        has_command = workload.start_command is not None
        builds = self.host.statuses[serial].builds
        script = "ended" if workload.initscript is not None else "none"
        fresh = Status(
            serial,
            boots=workload.boots,
            start_command="running" if has_command else "none",
            builds=builds,
            initscript=script,
            initscript_code=0 if script == "ended" else None,
            uid=FIRST_UID + serial,
        )
        if serial in self.refusals:
            problems = (f"could not be started: {self.refusals[serial]}",)
            command = "ended" if has_command else "none"
            fresh = evolve(fresh, start_command=command, problems=problems)
            self.host.put(evolve(fresh, boot="dead", exit_code=CANNOT_START))
            return
        self._pids += 1
        self.host.put(evolve(fresh, boot="running", pid=self._pids))
        delay = self.boots_after.get(serial, self.boot_after)
        self.host.later(delay, serial, partial(evolve, boot="booted"))
        if workload.start_command is not None and delay is not None:
            takes, code = imagine(workload.start_command, self.end_after)
            code = self.codes.get(serial, code)
            if takes is not None:
                self.host.later(delay + takes, serial, partial(evolve, start_command="ended", start_code=code))

    async def ensure_stopped(self, serial: int) -> None:
        self._called("ensure_stopped", serial)
        status = self.host.statuses.get(serial)
        if status is None or status.boot in (None, "dead"):
            return
        if self.stop_after > 0:
            await deferLater(self._clock, self.stop_after)
        self.end(serial, 0)

    async def ensure_destroyed(self, serial: int) -> None:
        self._called("ensure_destroyed", serial)
        self.host.remove(serial)

    def status(self) -> Mapping[int, Status]:
        return self.host.statuses

    def problems(self) -> list[str]:
        return []

    def in_force(self, serial: int) -> Mapping[str, int]:
        return self.host.in_force.get(serial, {})

    def read_log(self, serial: int, stream: str, offset: int, most: int) -> tuple[bytes, int]:
        text = self.host.logs.get(serial, {}).get(stream, b"")
        begin = max(len(text) + offset, 0) if offset < 0 else 0 if offset > len(text) else offset
        found = text[begin : begin + most]
        return found, begin + len(found)

    def execute(self, serial: int, argv: Sequence[str], hearer: Hearer, *, terminal: bool = False) -> Conversation:
        self._called("execute", serial)
        return self._talk(serial, argv, hearer)

    def attach(self, serial: int, hearer: Hearer) -> Conversation:
        self._called("attach", serial)
        return self._talk(serial, None, hearer)

    def admit(self, serial: int, pid: int) -> None:
        """
        Whoever is at the door is inside already.
        """

    async def activity(self, serial: int) -> Activity | None:
        self._called("activity", serial)
        status = self.host.statuses.get(serial)
        if status is None or status.boot not in ("running", "booted"):
            return None
        found = self.host.activities.get(serial, Activity(0.0))
        return None if found is None else evolve(found, taken=self._clock.seconds())

    def tidy(self) -> None:
        pass

    def close(self) -> None:
        if self._listener in self.host.listeners:
            self.host.listeners.remove(self._listener)

    # What a test makes happen

    def end(self, serial: int, code: int | None) -> None:
        """
        The node's own process ends; None: and what kept its exit status is gone too.
        """
        status = self.host.statuses.get(serial)
        if status is not None and status.boot not in (None, "dead"):
            command = "none" if status.start_command == "none" else "ended"
            self.host.hang_up(serial)
            self.host.put(evolve(status, boot="dead", exit_code=code, start_command=command, pid=None))

    def boot(self, serial: int) -> None:
        """
        The sliver comes up now.
        """
        self.host.later(0, serial, partial(evolve, boot="booted"))

    def end_command(self, serial: int, code: int) -> None:
        """
        The start command ends now.
        """
        self.host.later(0, serial, partial(evolve, start_command="ended", start_code=code))

    def _create(self, workload: Workload) -> None:
        if workload.serial not in self.host.statuses:
            self.host.put(Status(workload.serial, builds=workload.builds, uid=FIRST_UID + workload.serial))

    def _hold(self, workload: Workload) -> None:
        self.host.in_force[workload.serial] = dict(workload.rspec)

    def _talk(self, serial: int, argv: Sequence[str] | None, hearer: Hearer) -> FakeConversation:
        status = self.host.statuses.get(serial)
        if status is None or status.boot not in ("running", "booted"):
            raise OSError("it is not up")
        talk = FakeConversation(self._clock, serial, argv, hearer, self.host.talks.remove)
        self.host.talks.append(talk)
        self._clock.callLater(0, talk.begin)
        return talk

    def _called(self, name: str, serial: int) -> None:
        self.calls.append((name, serial))
        waiting = self.errors.get(name)
        if waiting:
            raise waiting.pop(0)


def imagine(command: str, otherwise: float | None) -> tuple[float | None, int]:
    """
    @param otherwise: seconds that a command takes of which we do not understand every word.
    @return: seconds that a start command takes (None: for ever), and its exit status.
    """
    seconds = 0.0
    for part in command.split(";"):
        match = _WORD.match(part)
        if match is None:
            return otherwise, 0
        if match[1] == "exit":
            return seconds, int(float(match[2]))
        seconds += float(match[2])
    return seconds, 0
