"""
Which mounts slivers can have of their own on this host, and whether they can have IPC of their own.

The shim makes a mount namespace for each, and all in it private. Where C{/} is no mount point, in a chroot, that cannot
be done; then what is mounted in it might be seen outside, if the mount under it is shared. Only a trial tells.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shutil import which

from attrs import frozen
from twisted.internet.defer import Deferred

from hostline.server.supervise.shim import PATH, SHELL
from hostline.server.supervise.spawn import Spawner

#: Where everybody may leave something, beside /tmp and /var/tmp; what is there of them gets a file system of its own.
SHARED = ("/dev/shm", "/dev/mqueue", "/run/lock", "/run/shm", "/run/screen", "/var/lock", "/var/crash")
#: Bytes of C{/dev/shm} for a sliver without C{memory_max}, and of the other places.
_MEMORY, _SMALL = 64 << 20, 5 << 20

_TRIAL = 'mount --make-rprivate / 2>/dev/null; exec mount --bind "$1" "$1"'
_TRIAL_ALL = 'mount --make-rprivate / 2>/dev/null; exec mount -a -T "$1"'


@frozen
class Private:
    """
    What is a sliver's own for as long as it runs.

    @ivar flags: for C{unshare}.
    @ivar places: each gets a file system of its own.
    @ivar queues: of them, the one for POSIX message queues; empty if there is none.
    @ivar problems: what it shares with the host, in words for the user.
    """

    flags: str = "-m"
    places: tuple[str, ...] = ()
    queues: str = ""
    problems: tuple[str, ...] = ()

    def fstab(self, memory: int = 0) -> str:
        """
        @param memory: bytes that the sliver may use; 0: no limit.
        @return: lines for C{mount -a -T}. The source is a name of ours: what seems to be mounted already is left out.
        """
        lines = []
        for place in self.places:
            if place == self.queues:
                lines.append(f"hostline {place} mqueue nosuid,nodev,noexec 0 0\n")
            else:
                size = (memory or _MEMORY) if place.endswith("/shm") else _SMALL
                lines.append(f"hostline {place} tmpfs nosuid,nodev,mode=1777,size={size} 0 0\n")
        return "".join(lines)


async def find_private(spawner: Spawner, shared: Sequence[str] = SHARED) -> Private:
    """
    Try, on a host where L{can_mount}, what more slivers can have.
    """
    found: dict[str, None] = {}
    for place in shared:
        with suppress(OSError):
            path = Path(place).resolve(strict=True)
            if stat.S_ISDIR(path.stat().st_mode) and path.stat().st_mode & stat.S_IWOTH:
                found[str(path)] = None
    places = tuple(found)
    queues = "/dev/mqueue" if "/dev/mqueue" in found and "mqueue" in _file_systems() else ""
    common = "it shares System V IPC with the host"
    for private in (
        Private("-mi", places, queues),
        Private("-mi", places),
        Private("-m", places, problems=(common,)),
        Private("-mi", problems=(f"it shares {', '.join(places)} with the host",)),
    ):
        if await _works(spawner, private):
            return private
    return Private(problems=(f"{common}, and {', '.join(places)}",))


async def _works(spawner: Spawner, private: Private) -> bool:
    fstab = os.memfd_create("fstab")  # not a file: the disk may be full, and what was possible before still is
    try:
        os.write(fstab, private.fstab().encode())
        unshare = which("unshare", path=PATH) or "/usr/bin/unshare"
        argv = [unshare, private.flags, "--propagation", "unchanged", SHELL, "-c", _TRIAL_ALL, "sh", "/proc/self/fd/9"]
        return await _status(spawner, argv, [(os.POSIX_SPAWN_DUP2, fstab, 9)]) == 0
    finally:
        os.close(fstab)


def _file_systems() -> list[str]:
    try:
        return Path("/proc/filesystems").read_text().split()
    except OSError:
        return []


async def can_mount(spawner: Spawner, directory: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """
    Try it as the shim does.

    @param directory: one of ours, under which something may be mounted.
    @return: whether a sliver's mounts work, and are its own.
    """
    place = directory / "trial"
    place.mkdir(exist_ok=True)
    unshare = which("unshare", path=PATH) or "/usr/bin/unshare"
    argv = [unshare, "-m", "--propagation", "unchanged", SHELL, "-c", _TRIAL, "sh", str(place)]
    if await _status(spawner, argv) != 0:
        return False
    seen = mountinfo.read_text("utf-8", "surrogateescape").splitlines()
    if str(place) not in [_unescaped(line.split(" ")[4]) for line in seen]:
        return True
    await _status(spawner, [which("umount", path=PATH) or "/bin/umount", str(place)])
    return False


async def _status(spawner: Spawner, argv: Sequence[str], actions: Sequence[tuple[int, ...]] = ()) -> int | None:
    ended: Deferred[int | None] = Deferred()
    try:
        spawner.spawn(argv, environment={"PATH": PATH}, file_actions=actions, ended=ended.callback)
    except OSError:
        return None
    return await ended


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
