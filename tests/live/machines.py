"""
What the live tests of QEMU machines share: a place for them on this host, and a look at what is left of it.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Any, cast

from attrs import evolve

from hostline.server.drivers.qemu import PROGRAM, QemuDriver
from hostline.server.supervise.running import program
from hostline.server.supervise.shelf import GuestFiles, Shelf
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.subuids import BLOCK, SubuidRange
from tests.live import guests, support
from tests.live.containers import Host, Shelved

#: A guest boots in some 3 s under TCG on a quiet machine; others may be busy here.
BOOT_S = 90.0


class Imaged:
    """
    A shelf with the smallest image of QEMU machines as number 1; any further number is one that says something else of
    itself.
    """

    def __init__(self) -> None:
        self.state = support.temporary_directory().resolve()
        loop = asyncio.new_event_loop()
        spawner = Spawner(loop)
        shelf = Shelf(self.state / "images", spawner, support.LoopClock(loop))
        try:
            shelf.prepare()
            guests.place(self.state / "images")
            self._images = {1: shelf.guest(1)}
        finally:
            shelf.close()
            spawner.close()
            loop.close()

    def guest(self, serial: int) -> GuestFiles:
        """
        @return: the files of an image; workloads without one have the first.
        """
        return self._images[serial or 1]

    def add(self, about: Mapping[str, Any], **files: Any) -> int:
        """
        @param about: what it says otherwise than the first.
        @return: its number.
        """
        first = self._images[1]
        number = len(self._images) + 1
        self._images[number] = evolve(first, about={**first.about, **about}, **files)
        return number

    def close(self) -> None:
        """
        Leave nothing of it.
        """
        shutil.rmtree(self.state, ignore_errors=True)


@cache
def imaged() -> Imaged:
    """
    @return: for all tests of a run; it may have to be made first, and that fetches packages.
    """
    made = Imaged()
    atexit.register(made.close)
    return made


class MachineHost(Host):
    """
    A place on this host where drivers run machines one after the other.
    """

    def __init__(self) -> None:
        self.imaged = imaged()
        super().__init__(cast(Shelved, self.imaged))
        self.cgroups = self._cgroups.of("q")

    def new_files(self) -> Any:
        """
        @return: what knows of no files: a machine's are where its notes are.
        """
        return _NoFiles()

    def driver(self, **more: Any) -> Any:
        """
        @return: another daemon's driver, a L{QemuDriver}.
        """
        arguments: dict[str, Any] = {
            "program": program(PROGRAM),
            "images": self.imaged.guest,
            "network": None,
            "taps": None,
            "spawner": self.spawner,
            "loop": self.loop,
            "clock": self.clock,
            "uids": SubuidRange(self.first_uid, 256 * BLOCK),
            "cgroups": self.cgroups,
            "accelerator": "tcg",
            **more,
        }
        return QemuDriver(self.directory / "notes", self.run, **arguments)

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return support.run(self.loop, coroutine, BOOT_S)

    def until(self, true: Callable[[], object]) -> None:
        support.until(self.loop, true, BOOT_S)


class _NoFiles:
    def serials(self) -> set[int]:
        return set()
