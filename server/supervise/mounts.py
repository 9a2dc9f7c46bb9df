"""
Whether slivers can have mounts of their own on this host.

The shim makes a mount namespace for each, and all in it private. Where C{/} is no mount point, in a chroot, that cannot
be done; then what is mounted in it might be seen outside, if the mount under it is shared. Only a trial tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from twisted.internet.defer import Deferred

from hostline.server.supervise.shim import PATH, SHELL
from hostline.server.supervise.spawn import Spawner

_TRIAL = 'mount --make-rprivate / 2>/dev/null; exec mount --bind "$1" "$1"'


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


async def _status(spawner: Spawner, argv: Sequence[str]) -> int | None:
    ended: Deferred[int | None] = Deferred()
    try:
        spawner.spawn(argv, environment={"PATH": PATH}, ended=ended.callback)
    except OSError:
        return None
    return await ended


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
