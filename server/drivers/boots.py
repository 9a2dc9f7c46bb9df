"""
One sliver as the process driver remembers it, and what that means as a status.
"""

from __future__ import annotations

from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IDelayedCall

from hostline.server.drivers.driver import CANNOT_START, Status, Workload
from hostline.server.drivers.wires import NO_WIRES
from hostline.server.supervise import shim
from hostline.server.supervise.spawn import Child


@define
class ProcessSliver:
    """
    @ivar boots: the boot reached; 0 if there is none.
    @ivar boot: what the files of that boot said last.
    @ivar keeper: while it lives.
    @ivar has_command: whether this boot has a start command.
    @ivar failure: why this boot could not be started.
    @ivar problems: what this sliver lacks beyond what all lack.
    @ivar place: among those on their way up; ends by itself after a while.
    @ivar joining: another keeper runs this boot, and is being looked for.
    @ivar ending: its processes are being ended.
    @ivar cleared: nothing of this boot is left but its files.
    @ivar workload: what it was last asked to be.
    @ivar builds: which making of it this is.
    @ivar wired: the interfaces, routes and forwarding that it was given last; None if that is not known.
    @ivar plugging: it is just being given them.
    @ivar unplugged: what of its networks is not as it should be.
    @ivar hosts: its C{/etc/hosts}, as written last.
    @ivar address: on the control network.
    @ivar lock: one piece of work at a time.
    """

    serial: int
    boots: int = 0
    boot: shim.Boot = field(factory=shim.Boot)
    keeper: Child | None = None
    has_command: bool = False
    failure: str | None = None
    problems: tuple[str, ...] = ()
    place: IDelayedCall | None = None
    joining: bool = False
    ending: bool = False
    cleared: bool = True
    workload: Workload | None = None
    builds: int = 1
    wired: tuple[Any, ...] | None = NO_WIRES
    plugging: bool = False
    unplugged: tuple[str, ...] = ()
    hosts: str = ""
    address: str | None = None
    lock: DeferredLock = field(factory=DeferredLock)

    def status(self, standing: tuple[str, ...]) -> Status:
        """
        @param standing: what every sliver of this host lacks.
        """
        boot = self.boot
        status = Status(self.serial, boots=self.boots, builds=self.builds, address=self.address)
        if self.boots == 0:
            return status
        dead = self.failure is not None or boot.exit is not None or (self.keeper is None and not self.joining)
        over = dead or boot.ended is not None
        status = evolve(
            status,
            start_command="none" if not self.has_command else "ended" if over else "running",
            start_code=boot.ended,
            problems=standing + self.problems + self.unplugged,
        )
        if boot.initscript is not None:
            now = boot.initscript.code is None and not dead
            status = evolve(status, initscript="running" if now else "ended", initscript_code=boot.initscript.code)
        if dead:
            why = self.failure or (boot.errors if not boot.up else "")
            if why:
                status = evolve(status, problems=(*status.problems, f"could not be started: {why}"))
            code = CANNOT_START if self.failure is not None else 0 if boot.stopped else boot.exit
            return evolve(status, boot="dead", exit_code=code)
        up = boot.up and (boot.started or not self.has_command)
        return evolve(status, boot="booted" if up else "running", pid=boot.node.pid if boot.node else None)
