"""
The images of this host, made once and never changed. That of containers is one ext4 file, mounted read-only where it is
first wanted; that of QEMU machines some files in a directory.

C{SERIAL/disk} is the file, C{SERIAL/tree} is where it is mounted; or C{SERIAL/guest} is the directory. C{SERIAL/note}
says that it is whole: what has no note was begun and not ended, and is removed at the next start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hostline.server import whole
from hostline.server.supervise import syscalls
from hostline.server.supervise.builders import Builders, Recipe, progress
from hostline.server.supervise.running import run
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.trash import Trash

#: Nothing on an image is a device, and no program of it gives a user of the host rights: setuid programs would be
#: root's own wherever somebody reaches the files. In a container nothing is lost, for no_new_privs is set there.
FLAGS = syscalls.RDONLY | syscalls.NODEV | syscalls.NOSUID


@frozen
class Made:
    """
    An image that is whole.

    @ivar size: bytes of its file, or of all its files.
    @ivar command: what a container runs that is given no start command; C{environment} and C{directory} go with it.
    @ivar ready: how a guest is known to be up; empty if it is not of guests.
    """

    sha256: str
    size: int
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(factory=dict)
    directory: str = "/"
    ready: str = ""


@frozen
class GuestFiles:
    """
    What a QEMU machine begins with; paths of files that everybody may read who gets there.

    @ivar directory: where they are.
    @ivar kernel: with C{initrd}; None if there is none, and the disk is what the machine's own BIOS begins.
    @ivar disk: qcow2, never written to; None if there is none.
    @ivar about: of C{guest.json}: C{ready}, C{append}, C{machine}, C{memory_least} (bytes).
    @ivar sha256: of all of them.
    """

    directory: Path
    kernel: Path | None
    initrd: Path | None
    disk: Path | None
    about: Mapping[str, Any]
    sha256: str


class Shelf:
    """
    All images, by serial.
    """

    _log = Logger()

    def __init__(self, directory: Path, spawner: Spawner, clock: IReactorTime, leave: Sequence[Path] = ()) -> None:
        """
        @param directory: C{STATE/images}; made if it is missing, its parent must be there.
        @param leave: mount points of ours whose mounts a build must not keep up.
        """
        self._directory = directory.parent.resolve() / directory.name
        self._spawner = spawner
        self._builders = Builders(self._directory, spawner, clock, leave)
        self._trash = Trash(self._directory / ".trash", spawner)
        self._locks: dict[int, DeferredLock] = {}
        self._made: dict[int, Made] = {}

    def prepare(self) -> None:
        """
        Make the directory, not for anybody but root to look into.

        @raise OSError: if that cannot be done.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._trash.resume()

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        """
        Remove what was begun and not ended, and what has no record. What was whole and is damaged since stays: what has
        been made from it has nothing else to be mended from.

        @param known: serials of the images that have records.
        @param keep_strays: leave alone what is whole and has no record.
        """
        self.prepare()
        await self._builders.end_earlier()
        for serial in self.serials():
            made = (self._place(serial) / "note").exists()
            if not made or (serial not in known and not keep_strays):
                try:
                    await self.remove(serial)
                except OSError as error:
                    self._log.warn("image {serial} is not removed: {error}", serial=serial, error=error)

    def serials(self) -> set[int]:
        """
        @return: of all that is here, also half made.
        """
        try:
            return {int(name) for name in os.listdir(self._directory) if name.isdecimal()}  # noqa: PTH208
        except FileNotFoundError:
            return set()

    def made(self, serial: int) -> Made | None:
        """
        @return: what is known of an image; None if it is not here, or not whole.
        """
        if serial not in self._made:
            place = self._place(serial)
            try:
                said = json.loads((place / "note").read_text("utf-8"))
                made = Made(
                    said["sha256"],
                    said["size"],
                    tuple(said["command"]),
                    said["environment"],
                    said["directory"],
                    said.get("ready", ""),
                )
                if _size(place) != made.size:
                    return None
            except (OSError, ValueError, KeyError, TypeError):
                return None
            self._made[serial] = made
        return self._made[serial]

    async def tree(self, serial: int) -> Path:
        """
        @return: where the files of an image are, mounted read-only.
        @raise OSError: if the image is not here, or cannot be mounted.
        """
        tree = self._place(serial) / "tree"
        lock = self._lock(serial)
        await lock.acquire()
        try:
            made = self.made(serial)
            if made is None:
                raise FileNotFoundError(f"image {serial} is not on this host, or damaged")
            if made.ready:
                raise OSError(f"image {serial} is of QEMU machines, not of containers")
            if not syscalls.is_mounted(tree):
                tree.mkdir(mode=0o700, exist_ok=True)
                syscalls.ensure_apart(self._directory)
                with syscalls.loop_device(self._place(serial) / "disk", read_only=True) as device:
                    syscalls.mount(device, tree, "ext4", FLAGS)
        finally:
            lock.release()
        return tree

    def guest(self, serial: int) -> GuestFiles:
        """
        @return: what a QEMU machine begins with.
        @raise OSError: if the image is not here, or is not of guests.
        """
        made = self.made(serial)
        if made is None:
            raise FileNotFoundError(f"image {serial} is not on this host, or damaged")
        directory = self._place(serial) / "guest"
        if not made.ready:
            raise OSError(f"image {serial} is none of QEMU machines")
        try:
            about = json.loads((directory / "guest.json").read_text("utf-8"))
        except ValueError as error:
            raise OSError(f"image {serial}: guest.json cannot be read") from error
        files = [directory / name for name in ("kernel", "initrd", "disk.qcow2")]
        kernel, initrd, disk = (one if one.exists() else None for one in files)
        return GuestFiles(directory, kernel, initrd, disk, about, made.sha256)

    async def build(self, serial: int, recipe: Recipe) -> Made:
        """
        Make an image; one that is here already is kept. If that fails, nothing is left of it.

        @raise OSError: if it cannot be made; the message is the innermost cause.
        """
        lock = self._lock(serial)
        await lock.acquire()
        try:
            made = self.made(serial)
            if made is not None:
                return made
            await self._trash.throw(self._place(serial))
            work = self._place(serial) / "work"
            work.mkdir(mode=0o700, parents=True)
            try:
                await self._builders.build(serial, recipe, work)
                made = self._finished(serial, work)
            except BaseException:
                await self._trash.throw(self._place(serial))
                raise
            await self._trash.throw(work)
            self._made[serial] = made
            return made
        finally:
            lock.release()

    def progress(self, serial: int) -> tuple[str, float | None]:
        """
        @return: what is being done to make an image, and how much of it is done, 0..1.
        """
        return progress(self._place(serial) / "work")

    def cancel(self, serial: int, why: str = "cancelled") -> None:
        """
        End the making of an image, if it is under way: L{build} fails, once nothing is left of it.

        @param why: what it fails with.
        """
        self._builders.cancel(serial, why)

    async def remove(self, serial: int) -> None:
        """
        Remove an image, whole or not. Whether a container needs it is for the caller to know: one whose root is
        mounted keeps its files, and cannot be mounted again.

        @raise OSError: if a process is in it.
        """
        lock = self._lock(serial)
        await lock.acquire()
        try:
            tree = self._place(serial) / "tree"
            if syscalls.is_mounted(tree):
                await run(self._spawner, "umount", str(tree))
            await self._trash.throw(self._place(serial))
            self._made.pop(serial, None)
            syscalls.end_apart(self._directory)
        finally:
            lock.release()

    def close(self) -> None:
        """
        End what is being built: it is begun again at the next start. What is mounted stays.
        """
        self._builders.close()
        self._trash.close()

    def _finished(self, serial: int, work: Path) -> Made:
        place = self._place(serial)
        said: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            said = json.loads((work / "said").read_text("utf-8"))
        of_guest = (work / "guest").is_dir()
        ready = json.loads((work / "guest/guest.json").read_text("utf-8"))["ready"] if of_guest else ""
        made = Made(
            (work / "sum").read_text("ascii").strip(),
            _size(work),
            tuple(said.get("command", ())),
            said.get("environment", {}),
            said.get("directory", "/"),
            ready,
        )
        name = "guest" if of_guest else "disk"
        (work / name).rename(place / name)
        body = {
            "sha256": made.sha256,
            "size": made.size,
            "command": list(made.command),
            "environment": dict(made.environment),
            "directory": made.directory,
            "ready": made.ready,
        }
        whole.write(place / "note", json.dumps(body).encode())
        for directory in (*((place / "guest",) if of_guest else ()), place, self._directory):
            whole.flush(directory)
        return made

    def _place(self, serial: int) -> Path:
        return self._directory / str(serial)

    def _lock(self, serial: int) -> DeferredLock:
        return self._locks.setdefault(serial, DeferredLock())


def _size(place: Path) -> int:
    """
    @return: bytes of all that an image has in a directory.
    """
    guest = place / "guest"
    if guest.is_dir():
        return sum(one.stat().st_size for one in guest.iterdir())
    return (place / "disk").stat().st_size
