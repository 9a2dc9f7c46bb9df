"""
How this host holds a container to its disk_max, and shows it the files of an image as its own: found by trying.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise import homes, syscalls
from hostline.server.supervise.idmap import user_namespace
from hostline.server.supervise.running import run
from hostline.server.supervise.spawn import Spawner

#: A file system on a file; it needs no journal, for an unclean one is checked before it is mounted.
MKFS = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard")
_TRIAL_KIB = 2048
_FIRST, _SIZE = 300000, 65536


@frozen
class Means:
    """
    What this host can do.

    @ivar disk: C{loop}: each container's changes are in a file system of their own, on a file of the size of disk_max;
        C{none}: they are in a directory, and disk_max is not held.
    @ivar shift: C{idmap}: the kernel shows an image's files with the container's uids; C{copy}: each container has a
        copy of them with its uids.
    @ivar problems: what that takes away from containers, in words for the user.
    """

    LOOP: ClassVar[str] = "loop"
    IDMAP: ClassVar[str] = "idmap"

    disk: str = "none"
    shift: str = "copy"
    problems: tuple[str, ...] = ()

    @classmethod
    async def find(
        cls,
        directory: Path,
        spawner: Spawner,
        clock: IReactorTime,
        *,
        note: Path | None = None,
        full: bool | None = None,
    ) -> Means:
        """
        Try it, and leave nothing behind but a note: while the disk is full nothing can be tried, and what was found
        before that still holds.

        @param directory: one of ours on the file system where containers will be; removed at the end if it was made.
        @param note: where to keep what was found; None: nowhere.
        @param full: whether the disk is; None: look.
        """
        directory = directory.resolve()
        if _is_full(directory.parent) if full is None else full:
            found = cls._noted(note) if note is not None else None
            return found or cls(problems=("disk_max is not held: the disk was full when it was to be tried",))
        found = await cls._try(directory / ".trial", spawner, clock)
        if note is not None and cls._noted(note) != found:
            with suppress(OSError):
                homes.write_note(note, json.dumps([found.disk, found.shift, *found.problems]), lasting=True)
        return found

    @classmethod
    def _noted(cls, note: Path) -> Means | None:
        with suppress(OSError, ValueError, TypeError):
            disk, shift, *problems = json.loads(note.read_text("ascii"))
            return cls(disk, shift, tuple(problems))
        return None

    @classmethod
    async def _try(cls, trial: Path, spawner: Spawner, clock: IReactorTime) -> Means:
        trial.mkdir(mode=0o700, parents=True, exist_ok=True)
        place, shifted, root, file = trial / "mount", trial / "shifted", trial / "root", trial / "disk"
        problems: list[str] = []
        disk, shift = "none", "copy"
        try:
            clear(trial)
            for path in (place, shifted, root):
                path.mkdir(exist_ok=True)
            with file.open("wb") as opened:
                opened.truncate(_TRIAL_KIB << 10)
            await run(spawner, *MKFS, str(file))
            with syscalls.loop_device(file, read_only=False) as device:
                syscalls.mount(device, place, "ext4", syscalls.NODEV | syscalls.NOSUID)
            for one in ("files", "store", "store/upper", "store/work"):
                (place / one).mkdir(exist_ok=True)
            (place / "files" / "file").touch()
            disk = cls.LOOP
            async with user_namespace(spawner, clock, _FIRST, _SIZE) as namespace:
                syscalls.bind_shifted(place, shifted, namespace)
            syscalls.mount("overlay", root, "overlay", 0, overlay_options(shifted / "files", place / "store"))
            if os.lstat(root / "file").st_uid != _FIRST:
                raise OSError("overlayfs shows the wrong owners")
            shift = cls.IDMAP
        except OSError as error:
            said = error.strerror or str(error)
            if disk != cls.LOOP:
                problems.append(f"disk_max is not held: no loop device with ext4 ({said})")
            else:
                problems.append(f"each container has a copy of its image: no mounts with other uids ({said})")
        finally:
            await _take_away(spawner, trial)
        return cls(disk, shift, tuple(problems))

    def describe(self) -> str:
        """
        @return: one line for the operator.
        """
        disk = {
            self.LOOP: "disk_max is the size of a file system on a loop device for each container",
            "none": "disk_max is not held",
        }[self.disk]
        shift = {
            self.IDMAP: "images are shared, shown with each container's uids by the kernel",
            "copy": "each container has a copy of its image",
        }[self.shift]
        return f"{disk}; {shift}"


def _is_full(directory: Path) -> bool:
    about = os.statvfs(directory)
    return about.f_bavail * about.f_frsize < 2 * _TRIAL_KIB << 10 or (about.f_files > 0 and about.f_favail < 16)


def overlay_options(lower: Path, store: Path) -> str:
    """
    @return: the data of an overlay whose changes are in C{store/upper}.
    @raise OSError: if a path cannot be told in them.
    """
    for one in (lower, store):
        if set(str(one)) & set(",:\\"):
            raise OSError(f"the path {one} has a comma, a colon or a backslash in it")
    return f"lowerdir={lower},upperdir={store}/upper,workdir={store}/work"


def clear(directory: Path) -> None:
    """
    Take all that is mounted below a directory of ours out of sight, the last first.
    """
    for path in reversed(mounts_below(directory)):
        with suppress(OSError):
            syscalls.detach(path)


def mounts_below(directory: Path) -> list[Path]:
    """
    @return: the mount points below a directory, in the order in which they were mounted.
    """
    return [one for one in syscalls.mount_points() if directory in one.parents]


async def _take_away(spawner: Spawner, trial: Path) -> None:
    clear(trial)
    with suppress(OSError):
        await run(spawner, "rm", "-rf", "--one-file-system", "--", str(trial))
