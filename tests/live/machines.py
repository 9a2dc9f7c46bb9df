"""
What the live tests of QEMU machines share: a place for them on this host, and a look at what is left of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from hostline.server.drivers.qemu import PROGRAM, QemuDriver
from hostline.server.supervise.running import program
from hostline.server.supervise.subuids import BLOCK, SubuidRange
from tests.live import support
from tests.live.containers import Host, Shelved

#: A guest boots in some 3 s under TCG on a quiet machine; others may be busy here.
BOOT_S = 90.0
IMAGE = Path("/tmp/h6/shared_guest/tiny")


class _NoFiles:
    state = Path("/nonexistent")


class MachineHost(Host):
    """
    A place on this host where drivers run machines one after the other.
    """

    def __init__(self, images: dict[int, Path]) -> None:
        self.images = images
        super().__init__(cast(Shelved, _NoFiles()))
        self.cgroups = self._cgroups.of("q")
        self.first_uid -= 15 * 256 * BLOCK  # beside those of containers

    def new_files(self) -> Any:
        """
        @return: nothing: a machine's files are where its notes are.
        """

        class None_:
            @staticmethod
            def serials() -> set[int]:
                return set()

        return None_()

    def driver(self, **more: Any) -> Any:
        arguments: dict[str, Any] = {
            "program": program(PROGRAM),
            "images": self.image,
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

    def image(self, serial: int) -> Path:
        """
        @return: the directory of an image; those without a number have the first.
        """
        return self.images[serial or 1]

    def go(self, coroutine: Any) -> Any:
        return support.run(self.loop, coroutine, BOOT_S)

    def until(self, true: Any) -> None:
        support.until(self.loop, true, BOOT_S)
