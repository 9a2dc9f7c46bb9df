"""
The account driver: the lightest sliver is a Unix account with a home, keys and a login shell.

All that a process sliver does it does too (L{hostline.server.drivers.process}): start command, initscript, limits.
It has no mounts of its own, sees the host as any user does, and people come in by the host's own sshd. Its login
shell asks us first (L{AccountDriver.admit}), so that whoever comes in is in the sliver's control groups; those who
come by other ways (cron, sftp within sshd, forwarding) are moved there soon after.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import which

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.process import ProcessDriver
from hostline.server.supervise import homes, passable, survey
from hostline.server.supervise.accounts import Accounts
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.keyfile import write_keys
from hostline.server.supervise.shim import PATH, Process
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.uids import UidRange

#: How often processes are looked for that came in without asking.
SWEEP_S = 5.0
#: Characters of a login name.
_LOGIN_MOST = 32
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def find_login() -> Path:
    """
    @return: where the login shell is installed: beside the daemon's own programs, or where such are.
    """
    beside = Path(sys.executable).parent / "hostline-login"
    return beside if beside.exists() else Path(which("hostline-login", path=PATH) or "/usr/local/bin/hostline-login")


def login_name(workload: Workload) -> str:
    """
    @return: by which name people come in: that of a free sliver; of a node its full name, in small letters, its end cut
        off for its serial where it is longer than a login name may be.
    """
    if "." not in workload.name:
        return workload.name
    name, tail = workload.name.lower(), f".{workload.serial}"
    return name if len(name) <= _LOGIN_MOST else name[: _LOGIN_MOST - len(tail)].rstrip("-.") + tail


class AccountDriver(ProcessDriver):
    """
    Runs slivers as accounts of this host. Only root can.
    """

    kind = "account"
    holds = "limits of processor, memory and processes are held, of disk and network not"
    letter = "a"
    with_mounts = False
    thorough = True

    def __init__(
        self,
        directory: Path,
        run: Path,
        *,
        instance: str,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        uids: UidRange,
        login: Path,
        cgroups: Cgroups | None = None,
        no_cgroups: str = "limits not applied: control groups are switched off",
        grace_s: float = 5.0,
        sweep_s: float = SWEEP_S,
    ) -> None:
        """
        @param directory: C{STATE/accounts}; others must be able to pass through all above it, for homes are below.
        @param run: C{RUN/accounts}.
        @param uids: which no other kind of sliver gets.
        @param login: the login shell, see L{find_login}.
        @param sweep_s: seconds between two looks for processes that came in without asking.
        """
        super().__init__(
            directory,
            run,
            instance=instance,
            spawner=spawner,
            loop=loop,
            clock=clock,
            uids=uids,
            cgroups=cgroups,
            no_cgroups=no_cgroups,
            as_root=True,
            grace_s=grace_s,
        )
        self._login = login
        noted = self._uids.by_serial if self._uids is not None else {}
        self._accounts = Accounts(spawner, instance, uids, login, noted=noted)
        self._sweep_s = sweep_s
        self._sweep_call: IDelayedCall | None = None
        self._open_doors: set[int] = set()

    async def recover(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        await super().recover(known, keep_strays)
        why_not = passable.why_not_run(self._login) or passable.why_not_reached(self._directory)
        if why_not is not None:
            self._problems = (*self._problems, f"nobody can log in: {why_not}")
        for sliver in self._slivers.values():
            self._tell(sliver)
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(self._sweep_s, self._sweep_soon)

    def admit(self, serial: int, pid: int) -> None:
        """
        Let somebody in who is at the door: from now on the process, and all that it starts, is the sliver's.

        @param pid: as the kernel tells of the peer.
        @raise OSError: if the sliver is not up, or the process is not of its account; the reason is in words.
        """
        sliver = self._slivers.get(serial)
        uid = self._uids.by_serial.get(serial) if self._uids is not None else None
        if sliver is None or uid is None or sliver.keeper is None or not sliver.boot.up or sliver.ending:
            raise OSError("it is not up")
        try:
            found = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
        except OSError:
            raise OSError("who asks is gone") from None
        if found != uid:
            raise OSError("who asks is not of this account")
        if self._cgroups is not None:
            self._cgroups.move(serial, pid)

    def tidy(self) -> None:
        """
        Also: see to it that accounts and keys are still what they should be.
        """
        super().tidy()
        for sliver in list(self._slivers.values()):
            workload = sliver.workload
            if workload is not None and sliver.boots and not sliver.ending:
                self._go(self.ensure_configured(workload))

    def close(self) -> None:
        if self._sweep_call is not None and self._sweep_call.active():
            self._sweep_call.cancel()
        self._sweep_call = None
        super().close()

    # What the process driver asks of its kind

    def _found_more(self) -> set[int]:
        found = self._accounts.own()
        if self._uids is not None:
            for serial, account in found.items():
                self._uids.by_serial.setdefault(serial, account.uid)
        return set(found)

    async def _ensure_home(self, sliver: ProcessSliver, workload: Workload) -> None:
        await super()._ensure_home(sliver, workload)
        root = self._directory / str(sliver.serial)
        name = root / "account"
        if not name.exists():
            homes.write_note(name, login_name(workload), lasting=True)
        door = "" if workload.door is None else str(workload.door / "hostline.sock")
        homes.write_note(root / "door", door)
        (root / "door").chmod(0o644)
        await self._ensure_account(sliver, workload)

    async def _configure(self, sliver: ProcessSliver, workload: Workload) -> None:
        if sliver.keeper is not None:
            self._open_doors.add(sliver.serial)
        else:
            self._open_doors.discard(sliver.serial)
        await super()._configure(sliver, workload)
        if not (self._directory / str(sliver.serial) / "account").exists():
            return
        kept = tuple(problem for problem in sliver.problems if not problem.startswith(("keys", "account:")))
        found = []
        try:
            self._starting.make_home(workload)
            self._write_keys(sliver.serial, workload)
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            found.append(text if text.startswith("keys") else f"keys not written: {text}")
        try:
            await self._ensure_account(sliver, workload)
        except OSError as error:
            found.append(f"account: {error}")
        sliver.problems = (*kept, *found)

    async def _open(self, workload: Workload) -> None:
        self._open_doors.add(workload.serial)
        await self._ensure_account(self._slivers[workload.serial], workload)

    async def _shut(self, sliver: ProcessSliver) -> None:
        self._open_doors.discard(sliver.serial)
        if sliver.workload is not None and sliver.serial in self._accounts.own():
            await self._ensure_account(sliver, sliver.workload)

    async def _unmake(self, serial: int) -> None:
        name = None
        with suppress(OSError):
            name = (self._directory / str(serial) / "account").read_text("ascii").strip() or None
        uid = self._uids.by_serial.get(serial) if self._uids is not None else None
        await self._accounts.remove(serial, name, uid)
        self._open_doors.discard(serial)

    # Accounts and keys

    async def _ensure_account(self, sliver: ProcessSliver, workload: Workload) -> None:
        assert self._uids is not None
        serial = sliver.serial
        uid = self._uids.ensure(serial)
        home = self._starting.home(workload).home
        up = serial in self._open_doors
        await self._accounts.ensure(serial, login_name(workload), uid, home, up=up)

    def _write_keys(self, serial: int, workload: Workload) -> None:
        assert self._uids is not None
        uid = self._uids.ensure(serial)
        home = os.open(self._starting.home(workload).home, _DIRECTORY)  # all above it is root's
        try:
            write_keys(home, workload.keys, uid, uid)
        finally:
            os.close(home)

    # Who came in without asking

    def _sweep_soon(self) -> None:
        self._sweep_call = None
        self._go(self._sweep())

    async def _sweep(self) -> None:
        """
        Move processes of each account that is up into its control groups, and end those of the others.
        """
        try:
            if self._uids is not None and self._slivers:
                everywhere = await self._members.everywhere()
                await self._turns.mine()
                for serial, sliver in list(self._slivers.items()):
                    inside = set(self._cgroups.members(serial)) if self._cgroups is not None else set()
                    for process in everywhere.get(serial, ()):
                        if process.pid not in inside:
                            self._take(sliver, process)
        finally:
            if not self._closed:
                self._sweep_call = self._clock.callLater(self._sweep_s, self._sweep_soon)

    def _take(self, sliver: ProcessSliver, process: Process) -> None:
        assert self._uids is not None
        serial, uid = sliver.serial, self._uids.by_serial.get(sliver.serial)
        with suppress(OSError):
            if uid is None or os.stat(f"/proc/{process.pid}").st_uid != uid:  # noqa: PTH116
                return  # one of our own shims
            if sliver.keeper is not None and sliver.boot.up:
                if self._cgroups is not None and not sliver.ending:
                    self._cgroups.move(serial, process.pid)
            elif sliver.keeper is None and not sliver.ending:
                survey.signal_process(process, signal.SIGKILL)
