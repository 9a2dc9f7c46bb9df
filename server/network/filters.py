"""
What delays and loses frames where the kernel cannot: for each joint two switches of VDE's, each with a tap, and a
wirefilter between them. Three processes, of a uid without rights, in a control group of our own.

They live on when the daemon ends; each bears its joint's name in its environment, by which the next one finds it.

VDE's programs end when their standard input does, so it is a pipe that nobody ever closes. A wirefilter that is not
told C{-N} keeps one order for both directions, so that the slower one delays the other.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hostline.server.network.fabric import Joint, Shape, buffer_bytes
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.shim import PATH, SHELL
from hostline.server.supervise.spawn import Child, Spawner, start_time

TUN = Path("/dev/net/tun")
#: In the environment of each process: INSTANCE/NEAR END/ROLE/EXPERIMENT, the last a serial.
TAG = "HOSTLINE_LINK"
#: What there is to whatever it is told, milliseconds each way: it looks at its clock in steps, and so do the switches.
OVERHEAD_MS = 0.22
#: Joints of one experiment and of all: each has three processes, of which a host cannot have any number. All of ours
#: together leave at least three quarters of its process numbers to others.
OF_ONE, OF_ALL, _PART = 1024, 4096, 12
PIDS = Path("/proc/sys/kernel/pid_max")
#: Whatever runs of one experiment.
LIMITS = {"cpu_share": 128, "memory_max": 1 << 30, "pids_max": 32768}
_PACE_S, _WAIT_S, _STEADY_S, _LONGEST_S, _AGAIN_S = 0.02, 5.0, 10.0, 10.0, 0.2
#: $1: uid, $2: open if everybody may open the tap device, $3: what must stay mounted, $4: files to join control groups
#: by, then what to run. Where only root may open the device there is one of its own, which nobody else sees; what else
#: is mounted is let go there, or it would stay in use.
_RUN = """
uid=$1 tun=$2 keep=$3 join=$4; shift 4
for one in $join; do echo 0 >"$one"; done 2>/dev/null
set -- setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
umask 077
[ "$tun" != open ] || exec "$@"
exec unshare --mount --propagation private /bin/sh -c '
keep=$1; shift
while read -r _ place _; do
    case $place in /|/usr*|/lib*|/bin|/sbin|/dev|/proc) continue ;; esac
    case $keep/ in "$place"/*) continue ;; esac
    umount -l "$place"
done </proc/self/mounts 2>/dev/null
umask 022
mount -t tmpfs -o mode=755,size=64k hostline /dev/net && mknod -m 666 /dev/net/tun c 10 200 || exit 126
umask 077
exec "$@"' sh "$keep" "$@"
"""


@define
class _Chain:
    """
    One joint's processes.

    @ivar told: what the wirefilter was told last; None if nobody knows.
    @ivar failures: how often in a row it ended soon.
    """

    near: str
    far: str
    group: int
    wanted: tuple[Shape, Shape]
    told: tuple[Shape, Shape] | None = None
    running: dict[str, Child] = field(factory=dict)
    failures: int = 0
    since: float = 0.0
    busy: bool = False
    gone: bool = False


class Filters:
    """
    All of them.
    """

    _log = Logger()

    def __init__(
        self,
        instance: str,
        run: Path,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        uid: int,
        cgroups: Cgroups | None,
    ) -> None:
        """
        @param run: C{RUN}; sockets are in C{RUN/links}, which is the uid's.
        @param uid: of the processes, and of the taps.
        @param cgroups: those of filters, by the serial of the experiment.
        """
        self.uid = uid
        self._tag = f"{TAG}={instance}/"
        self._directory = run / "links"
        self._never = run / "links-never"
        self._spawner = spawner
        self._loop = loop
        self._clock = clock
        self._cgroups = cgroups
        self._chains: dict[str, _Chain] = {}
        self._most = most_joints()
        self._closed = False

    def recover(self) -> None:
        """
        Find what runs; L{keep} then ends what is not wanted.

        @raise OSError: if there can be no directory for it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(self._directory, self.uid, self.uid)
        with suppress(FileExistsError):
            os.mkfifo(self._never, 0o600)
        for near, role, group, pid, started in list(self._find()):
            chain = self._chains.setdefault(near, _Chain(near, "", group, (Shape(), Shape())))
            child = None
            if role not in chain.running:
                child = self._spawner.adopt(pid, started, partial(self._adopted_ended, chain, role))
            if child is not None:
                chain.running[role] = child
            else:
                _kill(pid, started)
        known = {name for near in self._chains for name in _places(near)}
        for one in self._directory.iterdir():  # of what ended when nobody looked
            if one.name not in known:
                _remove(one)

    def _find(self) -> Iterable[tuple[str, str, int, int, int]]:
        tag = self._tag.encode()
        for one in Path("/proc").iterdir():
            if not one.name.isdigit():
                continue
            try:
                if one.stat().st_uid not in (0, self.uid):
                    continue
                words = (one / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            name = next((word[len(tag) :].decode("ascii", "replace") for word in words if word.startswith(tag)), "")
            known = start_time(int(one.name))
            if "/" in name and known is not None and known[1] not in "ZX":
                near, role, group = (*name.split("/"), "0")[:3]
                yield near, role, int(group) if group.isdecimal() else 0, int(one.name), known[0]

    def keep(self, nears: Iterable[str]) -> None:
        """
        End all others.
        """
        for near in self._chains.keys() - set(nears):
            self.drop(near)
        if self._cgroups is not None:
            for serial in self._cgroups.serials() - {chain.group for chain in self._chains.values()}:
                if not self._cgroups.members(serial):
                    self._cgroups.remove(serial)

    async def ensure(self, joint: Joint, group: int) -> str:
        """
        Have a joint's processes run, and do what they are to do now; those that run are not interrupted.

        @param group: serial of the experiment.
        @return: why not, in words; empty if they do.
        """
        chain = self._chains.get(joint.near)
        if chain is None and (why := self._full(group)):
            return f"no wirefilter for it: {why}"
        if chain is None:
            chain = self._chains[joint.near] = _Chain(joint.near, joint.far, group, (joint.there, joint.back))
        chain.far, chain.group, chain.wanted = joint.far, group, (joint.there, joint.back)
        while chain.busy and not self._closed:
            await self._pause(_PACE_S)
        await self._look_after(chain)
        return "" if chain.told == chain.wanted else f"its wirefilter does not run: {self._said(chain)}"

    def _full(self, group: int) -> str:
        own = sum(one.group == group for one in self._chains.values())
        if own >= min(OF_ONE, self._most // 2):
            return f"the experiment has {own}, and may not have more"
        return f"this host has {self._most}, and may not have more" if len(self._chains) >= self._most else ""

    async def _look_after(self, chain: _Chain) -> None:
        if chain.busy or chain.gone or self._closed:
            return
        chain.busy = True
        try:
            if not {"near", "far"} <= chain.running.keys():
                await self._begin(chain)
            if "filter" not in chain.running:
                await self._filter(chain)
            if chain.told != chain.wanted and "filter" in chain.running:
                wanted = chain.wanted
                await Deferred.fromFuture(asyncio.ensure_future(self._tell(chain, wanted), loop=self._loop))
                chain.told = wanted
        except (TimeoutError, OSError, ValueError) as error:
            chain.told = None
            if not chain.gone:
                self._log.warn("link {near}: {error}", near=chain.near, error=str(error) or type(error).__name__)
            self._fail(chain)
        finally:
            chain.busy = False

    async def _begin(self, chain: _Chain) -> None:
        chain.told = None
        until = self._clock.seconds() + _WAIT_S
        while chain.running:  # a switch that finds its tap in use goes on without one
            self._kill(chain)
            if self._clock.seconds() > until:
                raise OSError("what is left of it does not end")
            await self._pause(_PACE_S)
        for name in (chain.near, chain.far):
            shutil.rmtree(self._directory / f"{name}.s", ignore_errors=True)
        for role, name in (("near", chain.near), ("far", chain.far)):
            self._start(chain, role, "vde_switch", "-x", "-s", str(self._directory / f"{name}.s"), "-t", name)
        sockets = [self._directory / f"{name}.s/ctl" for name in (chain.near, chain.far)]
        while not all(map(os.path.exists, sockets)):
            if self._clock.seconds() > until or not {"near", "far"} <= chain.running.keys():
                raise OSError("its switches do not come up")
            await self._pause(_PACE_S)

    async def _filter(self, chain: _Chain) -> None:
        chain.told = None
        management = self._directory / f"{chain.near}.m"
        until = self._clock.seconds() + _WAIT_S
        while True:
            with suppress(FileNotFoundError):
                management.unlink()
            wanted = chain.wanted
            sockets = f"{self._directory / chain.near}.s:{self._directory / chain.far}.s"
            options = [f"-{letter}{value}" for letter, value in _settings(wanted, "dlc")]
            self._start(chain, "filter", "wirefilter", "-N", "-v", sockets, "-M", str(management), *options)
            # The sockets of switches are there a moment before they can be used: then it ends at once.
            while "filter" in chain.running and not management.exists() and self._clock.seconds() < until:
                await self._pause(_PACE_S)
            if "filter" in chain.running and management.exists():
                chain.told = wanted
                return
            if self._clock.seconds() > until or not {"near", "far"} <= chain.running.keys() or chain.gone:
                raise OSError("its wirefilter does not come up")
            await self._pause(_PACE_S)

    def _start(self, chain: _Chain, role: str, *argv: str) -> None:
        if chain.gone or self._closed:  # while we waited for something
            raise OSError("it is not wanted any more")
        join: list[Path] = []
        if self._cgroups is not None:
            join, _ = self._cgroups.prepare(chain.group, LIMITS)
        try:
            free = TUN.stat().st_mode & 0o006 == 0o006 or role == "filter"
        except OSError:
            free = False
        words = [str(self.uid), "open" if free else "", str(self._directory), " ".join(map(str, join)), *argv]
        chain.since = self._clock.seconds()
        tag = f"{self._tag.partition('=')[2]}{chain.near}/{role}/{chain.group}"
        chain.running[role] = self._spawner.spawn(
            [SHELL, "-c", _RUN, "sh", *words],
            environment={"PATH": PATH, "LC_ALL": "C", TAG: tag},
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, str(self._never), os.O_RDWR, 0)],
            ended=lambda _: self._ended(chain, role),
        )

    def _adopted_ended(self, chain: _Chain, role: str, code: int | None) -> None:
        self._ended(chain, role)

    def _ended(self, chain: _Chain, role: str) -> None:
        child = chain.running.get(role)
        if child is None or child.alive:
            return  # news of one before
        del chain.running[role]
        if not chain.busy:
            self._fail(chain)
        if chain.gone and not chain.running:
            if chain.near not in self._chains:  # once more: what it was making when it was killed
                self._remove(chain.near)
            self._let_go(chain.group)

    def _let_go(self, group: int, tries: int = 5) -> None:
        """
        Remove the control group of an experiment that has no joint any more; now or, while something ends in it, soon.
        """
        if self._closed or self._cgroups is None or any(one.group == group for one in self._chains.values()):
            return
        if not self._cgroups.remove(group) and tries > 0:
            self._clock.callLater(_AGAIN_S, self._let_go, group, tries - 1)

    def _fail(self, chain: _Chain) -> None:
        if chain.gone or self._closed or self._chains.get(chain.near) is not chain:
            return
        chain.told = None
        chain.failures = 0 if self._clock.seconds() - chain.since > _STEADY_S else chain.failures + 1
        if chain.far:  # else nobody has said what it is to be
            self._clock.callLater(min(0.05 * 2**chain.failures, _LONGEST_S), self._again, chain)

    def _again(self, chain: _Chain) -> None:
        Deferred.fromCoroutine(self._look_after(chain)).addErrback(
            lambda failure: self._log.failure("looking after a link's wirefilter", failure)
        )

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self._clock.callLater(seconds, over.callback, None)
        await over

    async def _tell(self, chain: _Chain, wanted: tuple[Shape, Shape]) -> None:
        path = str(self._directory / f"{chain.near}.m")
        reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(path, limit=1 << 16), _WAIT_S)
        try:
            await asyncio.wait_for(reader.readuntil(_PROMPT), _WAIT_S)
            names = {"d": "delay", "l": "loss", "c": "chanbufsize"}
            for letter, value in _settings(wanted, "cdl"):
                writer.write(f"{names[letter]} {value}\n".encode())
                said = await asyncio.wait_for(reader.readuntil(_PROMPT), _WAIT_S)
                if b"1000" not in said:
                    raise OSError(f"wirefilter refuses {names[letter]} {value}")
        except asyncio.IncompleteReadError:
            raise OSError("wirefilter ended") from None
        finally:
            writer.close()

    def drop(self, near: str) -> None:
        """
        End a joint's processes, if there are any.
        """
        chain = self._chains.pop(near, None)
        if chain is not None:
            chain.gone = True
            self._kill(chain)
            self._remove(near)
            if not chain.running:
                self._let_go(chain.group)

    def _remove(self, near: str) -> None:
        for name in _places(near):
            _remove(self._directory / name)

    def _kill(self, chain: _Chain) -> None:
        for child in list(chain.running.values()):
            child.kill(signal.SIGKILL)

    def problems(self) -> list[str]:
        """
        @return: which do not run, in words for the operator.
        """
        return [
            f"the wirefilter of {chain.near} does not run: {self._said(chain)}"
            for chain in self._chains.values()
            if chain.far and chain.told is None and chain.failures > 2
        ]

    def _said(self, chain: _Chain) -> str:
        return "it is tried again" if not chain.failures else f"it ended {chain.failures} times; it is tried again"

    def close(self) -> None:
        """
        Start nothing more; what runs goes on.
        """
        self._closed = True


_PROMPT = b"VDEwf$ "


def _places(near: str) -> tuple[str, str, str]:
    """
    @return: what there is of a joint in our directory: its switches', whose names differ in one letter
        (L{hostline.server.network.fabric.Names.device}), and its wirefilter's.
    """
    return f"{near}.s", f"{near[:6]}f{near[7:]}.s", f"{near}.m"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def most_joints(pids: Path = PIDS) -> int:
    """
    @return: how many there may be on this host.
    """
    try:
        return max(min(OF_ALL, int(pids.read_text()) // _PART), 1)
    except (OSError, ValueError):
        return OF_ALL


def told_ms(delay_ms: float) -> int:
    """
    @return: what it is told, for it counts whole ones.
    """
    return max(round(delay_ms - OVERHEAD_MS), 0)


def given_ms(delay_ms: float) -> float:
    """
    @return: how long it takes then.
    """
    return told_ms(delay_ms) + OVERHEAD_MS


def _settings(wanted: tuple[Shape, Shape], letters: str) -> list[tuple[str, str]]:
    """
    @return: options of wirefilter and their values, for both ways.
    """
    found = []
    for letter in letters:
        for way, shape in zip(("LR", "RL"), wanted, strict=True):
            values: dict[str, Any] = {
                "d": told_ms(shape.delay_ms),
                "l": round(shape.loss * 100, 4),
                "c": buffer_bytes(shape),
            }
            found.append((letter, f"{way}{values[letter]}"))
    return found


def _kill(pid: int, started: int) -> None:
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            known = start_time(pid)
            if known is not None and known[0] == started:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
