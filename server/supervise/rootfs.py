"""
The files of containers: those of an image, and over them what the container itself changed, held to its disk_max.

C{SERIAL/disk} is a file of the size of disk_max with an ext4 file system, mounted at C{SERIAL/store}; C{SERIAL/root} is
the overlay of the two, the container's root. C{SERIAL/note} says what it is made of, so that it can be mounted again
after the host restarted. Only root and the container's own root (by its gid) get into C{SERIAL}.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise import homes, syscalls
from hostline.server.supervise.idmap import user_namespace
from hostline.server.supervise.means import MKFS, Means, mounts_below, overlay_options
from hostline.server.supervise.running import Failed, run
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.spawn import Spawner

#: As on images: no device, and no setuid program that a user of the host could reach.
FLAGS = syscalls.NODEV | syscalls.NOSUID
#: Without the kernel's filling of tables that would make each file grow by a hundredth; what is deleted is given back.
_STORE = "nodev,nosuid,noinit_itable,discard"
#: With the options and the place of the store, those of the overlay, its place, and what the store is on; what is empty
#: is not wanted.
_MOUNT = """
[ -z "$5" ] || mount -n -i -t ext4 -o "$1" "$5" "$2" || exit
[ -z "$3" ] || exec mount -n -i -t overlay -o "nodev,nosuid,$3" overlay "$4"
"""
#: With the directory, and what is mounted in it.
_DESTROY = """
place=$1; shift
[ $# = 0 ] || umount "$@" || exit
rm -f "$place/note" && exec rm -rf --one-file-system -- "$place"
"""
_SHIFT = str(Path(__file__).with_name("shift.py"))
_CAP_SYS_RESOURCE = 24
#: How often mounting is tried, and seconds between two tries.
_TRIES, _PAUSE_S = 5, 0.05
#: How often it is looked whether a loop device is gone, and seconds between two looks.
_LOOKS, _LOOK_S = 100, 0.005
_BLOCK_KIB = 4
#: ext4 wants a few blocks for itself.
LEAST_KIB = 1024


@frozen
class _Note:
    image: int
    first: int
    size: int
    kib: int

    def text(self) -> str:
        return f"{self.image} {self.first} {self.size} {self.kib}"


class Rootfs:
    """
    The root file systems of all containers, by serial.
    """

    def __init__(
        self,
        directory: Path,
        shelf: Shelf,
        spawner: Spawner,
        means: Means,
        clock: IReactorTime,
        capabilities: int | None = None,
    ) -> None:
        """
        @param directory: C{STATE/roots}; made by L{prepare}, its parent must be there.
        @param capabilities: what we may do, in the manner of C{/proc/self/status}; None: look there.
        """
        self._directory = directory.parent.resolve() / directory.name
        self._shelf = shelf
        self._spawner = spawner
        self._clock = clock
        self._locks: dict[int, DeferredLock] = {}
        self._loops: dict[Path, str] = {}
        #: Why a container was mounted with another size than (place, KiB).
        self._unfit: dict[tuple[Path, int], str] = {}
        self._capabilities = _capabilities() if capabilities is None else capabilities
        self._prepared = self._apart = False
        self.means = means

    def prepare(self) -> None:
        """
        Make the directory, and see what is there; done at the latest with the first use.

        @raise OSError: if that cannot be done.
        """
        self._directory.mkdir(mode=0o711, exist_ok=True)
        self._directory.chmod(0o711)
        self._loops = syscalls.loops(self._directory)
        self._prepared = True

    def serials(self) -> set[int]:
        """
        @return: everything found on this host, also half made.
        """
        try:
            return {int(name) for name in os.listdir(self._directory) if name.isdecimal()}  # noqa: PTH208
        except FileNotFoundError:
            return set()

    async def make(self, serial: int, image: int, first_uid: int, size_uids: int, disk_kib: int) -> None:
        """
        Make what a container's changes go to; keep it if it is there, whatever its size.

        @param image: serial of the image on the shelf.
        @param first_uid: the uid, and gid, on the host of the container's root.
        @param size_uids: how many uids it has.
        @param disk_kib: how much it may change, with what the file system itself takes.
        @raise OSError: if that fails; what was made is taken up again by the next call.
        """
        async with self._held(serial):
            if self._note(serial) is not None:
                return
            if self._shelf.made(image) is None:
                raise FileNotFoundError(f"image {image} is not on this host")
            if disk_kib < LEAST_KIB:
                raise OSError(f"disk_max: want at least {LEAST_KIB} KiB, got {disk_kib}")
            place = self._place(serial)
            place.mkdir(mode=0o700, exist_ok=True)
            os.chown(place, 0, first_uid)
            place.chmod(0o710)
            for name, mode in (("store", 0o700), ("lower", 0o700), ("root", 0o755)):
                (place / name).mkdir(mode=mode, exist_ok=True)
            for name, owner, mode in (("work", 0, 0o700), ("upper", first_uid, 0o755)):
                one = place / "store" / name
                if not syscalls.is_mounted(one.parent) and not one.exists():
                    one.mkdir()
                    os.chown(one, owner, owner)
                    one.chmod(mode)
            disk = place / "disk"
            if self.means.disk == Means.LOOP and not disk.exists():
                fresh = place / "disk.new"
                with fresh.open("wb") as file:
                    file.truncate(disk_kib << 10)
                await run(self._spawner, *MKFS, "-d", str(place / "store"), str(fresh))
                fresh.rename(disk)
            note = _Note(image, first_uid, size_uids, disk_kib)
            if self.means.shift != Means.IDMAP:
                await self._copy(place, note)
            homes.write_note(place / "note", note.text())

    async def mount(self, serial: int, users: int | None = None) -> Path:
        """
        Mount a container's root, unless it is mounted.

        @param users: descriptor of a user namespace with the container's uids; None: one is made for this.
        @return: where it is.
        @raise OSError: if it was not made, or cannot be mounted.
        """
        async with self._held(serial):
            place = self._place(serial)
            root = place / "root"
            if _is_mount(root):
                return root
            note = self._note(serial)
            if note is None:
                raise FileNotFoundError(f"container {serial} has no files on this host")
            if (place / "copied").exists():
                await self._store(place, note)
                syscalls.mount(place / "store" / "upper", root, flags=syscalls.BIND)
                syscalls.mount("none", root, flags=syscalls.BIND | syscalls.REMOUNT | FLAGS)
                return root
            self._set_apart()
            lower = place / "lower"
            if not syscalls.is_mounted(lower):
                tree = await self._shelf.tree(note.image)
                if users is not None:
                    syscalls.bind_shifted(tree, lower, users)
                else:
                    async with user_namespace(self._spawner, self._clock, note.first, note.size) as namespace:
                        syscalls.bind_shifted(tree, lower, namespace)
            await self._store(place, note, overlay_options(lower, place / "store"))
            syscalls.detach(lower)  # the overlay has it for itself
            return root

    async def unmount(self, serial: int) -> None:
        """
        End a container's mounts, unless that was done; its files stay.

        @raise OSError: if something still uses them.
        """
        async with self._held(serial):
            await self._unmount(self._place(serial))

    async def destroy(self, serial: int) -> None:
        """
        Remove all that there is of a container's files, half made or whole.

        @raise OSError: if something still uses them.
        """
        async with self._held(serial):
            place = self._place(serial)
            self._detach(place)
            mounted = [str(place / name) for name in ("root", "store") if _is_mount(place / name)]
            if place.exists():
                # From the note's end on it is only to be removed.
                await run(self._spawner, "sh", "-c", _DESTROY, "sh", str(place), *mounted)
            self._loops.pop(place / "disk", None)
            self._forget_unfit(place)
            if not self.serials():
                syscalls.end_apart(self._directory)
                self._apart = False

    def disk(self, serial: int) -> tuple[int, int]:
        """
        What the kernel says of a container that is mounted.

        @return: KiB that it may use, with what the file system itself takes, and KiB used.
        @raise OSError: if it is not mounted, or is held to nothing.
        """
        place = self._place(serial)
        if not syscalls.is_mounted(place / "store"):
            raise FileNotFoundError(f"container {serial} has no file system of its own that is mounted")
        about = os.statvfs(place / "store")
        blocks, _ = _superblock(place / "disk")
        size = (place / "disk").stat().st_size >> 10
        allowed = size if blocks == size // _BLOCK_KIB else blocks * _BLOCK_KIB
        return allowed, (about.f_blocks - about.f_bfree) * about.f_frsize >> 10

    async def resize(self, serial: int, disk_kib: int) -> str | None:
        """
        Let a container use more, or less: at once while it is not mounted or where the kernel lets a mounted file
        system grow, else when it is mounted next.

        @return: None if it is in force, else why not, in words for the user.
        """
        async with self._held(serial):
            place, note = self._place(serial), self._note(serial)
            if note is None:
                return f"disk_max: container {serial} has no files on this host"
            if not (place / "disk").exists():
                return "disk_max is not held on this host"
            if disk_kib < LEAST_KIB:
                return f"disk_max: want at least {LEAST_KIB} KiB, got {disk_kib}"
            if disk_kib != note.kib:
                wanted = _Note(note.image, note.first, note.size, disk_kib)
                homes.write_note(place / "note", wanted.text(), lasting=True)
            try:
                if not syscalls.is_mounted(place / "store"):
                    if await self._holder(place / "disk") is not None:
                        return _held_text(disk_kib)
                    await self._fit(place, disk_kib)
                elif not _fits(place / "disk", disk_kib):
                    later = await self._grow(place, disk_kib)
                    return later and self._unfit.get((place, disk_kib), later)
            except OSError as error:
                return f"disk_max: {_words(error)}"
            return None

    # Parts

    def _set_apart(self) -> None:
        if not self._apart:
            syscalls.ensure_apart(self._directory)
            self._apart = True

    def _held(self, serial: int) -> _Held:
        if not self._prepared:
            self.prepare()
        return _Held(self._locks, serial)

    async def _store(self, place: Path, note: _Note, overlay: str = "") -> None:
        """
        Mount what a container's changes go to, where this host has file systems for that, and the overlay on it.

        By a child, for ext4 writes to the disk at its first mount, and waits for that.

        @param overlay: the overlay's options; empty: none is wanted.
        """
        store, disk = place / "store", place / "disk"
        self._set_apart()
        for left in reversed(range(_TRIES)):
            options, on = _STORE, ""
            if disk.exists() and not syscalls.is_mounted(store):
                held = await self._holder(disk)
                self._forget_unfit(place)
                if held is not None:
                    on = held  # never twice: two would destroy each other's files
                    self._unfit[place, note.kib] = _held_text(note.kib)
                else:
                    try:
                        await self._fit(place, note.kib)
                    except Unfit as error:
                        self._unfit[place, note.kib] = f"disk_max: {_words(error)}"
                    options, on = f"{_STORE},loop", str(disk)
            try:
                await run(
                    self._spawner, "sh", "-c", _MOUNT, "sh", options, str(store), overlay, str(place / "root"), on
                )
                break
            except Failed:
                if not left:
                    raise
                await deferLater(self._clock, _PAUSE_S)  # a loop device goes a moment after its last mount
        if syscalls.is_mounted(store):
            self._loops[disk] = f"/dev/loop{os.minor(os.lstat(store).st_dev)}"

    def _forget_unfit(self, place: Path) -> None:
        for key in [one for one in self._unfit if one[0] == place]:
            del self._unfit[key]

    async def _holder(self, disk: Path) -> str | None:
        """
        @return: the loop device that still has a container's disk, for a process has a copy of its mount; None if none
            has: one goes a moment after its last mount.
        """
        device = self._loops.get(disk)
        for _ in range(_LOOKS):
            if device is None or syscalls.backing_file(device) != str(disk):
                return None
            await deferLater(self._clock, _LOOK_S)
        return device

    async def _fit(self, place: Path, kib: int) -> None:
        """
        Mend a file system that was not unmounted, and bring it to its size; it must not be mounted.

        @raise Unfit: if it is whole, and cannot have that size.
        """
        disk = place / "disk"
        clean = _superblock(disk)[1]
        if clean and _fits(disk, kib):
            return
        await run(self._spawner, "sh", "-c", 'e2fsck -fp "$1"; [ $? -le 1 ]', "sh", str(disk))
        size = disk.stat().st_size >> 10
        if _fits(disk, kib):
            return
        try:
            if kib > size:
                os.truncate(disk, kib << 10)
            await run(self._spawner, "resize2fs", str(disk), f"{kib // _BLOCK_KIB * _BLOCK_KIB}K")
            os.truncate(disk, kib << 10)
        except OSError as error:
            raise Unfit(f"it cannot be made {kib} KiB: {_words(error)}") from error

    async def _grow(self, place: Path, kib: int) -> str | None:
        disk = place / "disk"
        device = self._loops.get(disk)
        if kib <= disk.stat().st_size >> 10 or not self._capabilities >> _CAP_SYS_RESOURCE & 1 or device is None:
            return f"disk_max: {kib} KiB from the next start on"
        os.truncate(disk, kib << 10)
        syscalls.look_at_size(device)
        await run(self._spawner, "resize2fs", device)
        return None if _fits(disk, kib) else f"disk_max: {kib} KiB from the next start on"

    async def _copy(self, place: Path, note: _Note) -> None:
        if (place / "copied").exists():
            return
        await self._store(place, note)
        upper = place / "store" / "upper"
        tree = await self._shelf.tree(note.image)
        await run(self._spawner, "cp", "-a", "--", f"{tree}/.", str(upper))
        python = (sys.executable, "-I", "-S", "-B", _SHIFT)
        await run(self._spawner, *python, str(upper), str(note.first), str(note.size))
        (place / "copied").touch()

    async def _unmount(self, place: Path) -> None:
        self._detach(place)
        mounted = [str(place / name) for name in ("root", "store") if _is_mount(place / name)]
        if mounted:
            await run(self._spawner, "umount", *mounted)

    def _detach(self, place: Path) -> None:
        if syscalls.is_mounted(place / "lower"):
            syscalls.detach(place / "lower")

    def _note(self, serial: int) -> _Note | None:
        numbers = homes.read_note(self._place(serial) / "note")
        return _Note(*numbers) if len(numbers) == 4 else None

    def _place(self, serial: int) -> Path:
        return self._directory / str(serial)


class Unfit(OSError):
    """
    A file system cannot have the size that it should have; it can be used as it is.
    """


class _Held:
    """
    The lock of one serial, for as long as something is done about it.
    """

    def __init__(self, locks: dict[int, DeferredLock], serial: int) -> None:
        self._locks = locks
        self._serial = serial
        self._lock = locks.setdefault(serial, DeferredLock())

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        if not self._lock.locked and not self._lock.waiting and self._locks.get(self._serial) is self._lock:
            del self._locks[self._serial]


def _held_text(kib: int) -> str:
    return f"disk_max: {kib} KiB when nothing holds the old file system any more"


def _is_mount(path: Path) -> bool:
    # A copy's root is on the same file system as its directory: then only the kernel's table knows.
    if syscalls.is_mounted(path):
        return True
    if not (path.parent / "copied").exists():
        return False
    return path in mounts_below(path.parent)


def _superblock(disk: Path) -> tuple[int, bool]:
    """
    @return: how many blocks of 4 KiB a file system has, and whether it was unmounted and has no errors.
    @raise OSError: if it is none.
    """
    with disk.open("rb") as file:
        head = file.read(2048)[1024:]
    if len(head) < 1024 or head[0x38:0x3A] != b"\x53\xef":
        raise OSError(f"{disk} is damaged")
    blocks, state = struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<H", head, 0x3A)[0]
    return blocks | struct.unpack_from("<I", head, 0x150)[0] << 32, state & 3 == 1


def _fits(disk: Path, kib: int) -> bool:
    return disk.stat().st_size >> 10 == kib and _superblock(disk)[0] == kib // _BLOCK_KIB


def _capabilities() -> int:
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _words(error: OSError) -> str:
    return error.strerror or str(error)
