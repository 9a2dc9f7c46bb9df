"""
The files of QEMU guests that last from boot to boot: a disk that begins as its image's, and copies of their logs.

C{SERIAL/disk.qcow2} holds what a guest changed; the image's own disk below it is never written. C{SERIAL/image} notes
which image that is. C{SERIAL/seen} is a tree with what we have seen of the guest's logs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hostline.server.supervise import homes
from hostline.server.supervise.machine import Manner
from hostline.server.supervise.running import run
from hostline.server.supervise.shelf import GuestFiles
from hostline.server.supervise.spawn import Spawner

DISK = "disk.qcow2"
LOGS = Path("var/log/hostline")


class Disks:
    """
    All of them, by serial; fits L{hostline.server.drivers.container_boot.Files}.
    """

    def __init__(self, directory: Path, images: Callable[[int], GuestFiles], spawner: Spawner) -> None:
        """
        @param directory: C{STATE/machines}, one directory for each sliver, which somebody else makes and removes.
        @param images: the files of an image, by its serial (L{hostline.server.supervise.shelf.Shelf.guest}).
        """
        self._directory = directory
        self._images = images
        self._spawner = spawner

    def prepare(self) -> None:
        """
        Nothing has to be made before there are slivers.
        """

    async def make(self, serial: int, image: int, first_uid: int, size_uids: int, disk_kib: int) -> None:
        """
        Make what is missing of a guest's files.

        @raise OSError: if that fails; or the image is not here.
        """
        place = self._directory / str(serial)
        base = self._images(image).disk
        homes.write_note(place / "image", str(image), lasting=True)
        (place / "seen" / LOGS).mkdir(parents=True, exist_ok=True)
        disk = place / DISK
        if base is not None and not disk.exists():
            fresh = place / f"{DISK}.new"
            fresh.unlink(missing_ok=True)
            size = max(disk_kib * 1024, _virtual(base))
            words = ["-f", "qcow2", "-F", "qcow2", "-b", str(base.resolve()), str(fresh), str(size)]
            await run(self._spawner, "qemu-img", "create", "-q", *words)
            fresh.chmod(0o600)
            _give(fresh, first_uid)
            fresh.replace(disk)

    async def mount(self, serial: int, users: int | None = None) -> Path:
        """
        @return: the tree with copies of its logs.
        """
        return self._directory / str(serial) / "seen"

    async def unmount(self, serial: int) -> None:
        """
        Nothing is mounted.
        """

    async def destroy(self, serial: int) -> None:
        """
        Remove its files.
        """
        place = self._directory / str(serial)
        (place / DISK).unlink(missing_ok=True)
        shutil.rmtree(place / "seen", ignore_errors=True)

    def serials(self) -> set[int]:
        """
        @return: of all that have files.
        """
        return {int(note.parent.name) for note in self._directory.glob("*/image") if note.parent.name.isdigit()}

    def disk(self, serial: int) -> tuple[int, int]:
        """
        @return: KiB that its disk has, and that the file takes.
        @raise OSError: if it has none.
        """
        disk = self._directory / str(serial) / DISK
        return _virtual(disk) // 1024, disk.stat().st_blocks // 2

    async def resize(self, serial: int, disk_kib: int) -> str | None:
        """
        Whether a guest's disk can be so large. QEMU itself makes it larger, in its cell: it alone writes to the file,
        and nobody else believes what is in it.

        @return: why not, in words for the user.
        """
        try:
            now = self.disk(serial)[0]
        except OSError:
            return None
        return f"the disk stays at {now} KiB: it does not get smaller" if disk_kib < now else None

    def image(self, serial: int) -> tuple[GuestFiles, Manner]:
        """
        @return: the files of a guest's image, and what it says of guests.
        @raise OSError: if it is not here.
        @raise BadGuest: if it says what makes no sense.
        """
        noted = homes.read_note(self._directory / str(serial) / "image")
        if len(noted) != 1:
            raise FileNotFoundError("no image is noted")
        files = self._images(noted[0])
        return files, Manner.read(files.about, files.kernel is not None)

    def own_disk(self, serial: int) -> Path | None:
        """
        @return: the file of its disk; None if it has none.
        """
        disk = self._directory / str(serial) / DISK
        return disk if disk.exists() else None


def _virtual(path: Path) -> int:
    """
    @return: bytes that a qcow2 image has, as its head says.
    @raise OSError: if it is none.
    """
    with path.open("rb") as file:
        head = file.read(32)
    if head[:4] != b"QFI\xfb":
        raise OSError(f"{path.name} is no qcow2 image")
    return int.from_bytes(head[24:32], "big")


def _give(path: Path, uid: int) -> None:
    with suppress(FileNotFoundError):
        shutil.chown(path, uid, uid)
