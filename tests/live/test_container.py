"""
The container driver with real containers: what every driver promises, and what only containers do.
"""

from __future__ import annotations

import os
import signal
import unittest
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from hostline.server.drivers.container import ContainerDriver
from hostline.server.drivers.driver import Driver, Workload
from tests import needs
from tests.drivers import DriverContract
from tests.live.containers import Host, Shelved


class Containers(DriverContract, unittest.TestCase):
    """
    One state directory, one driver at a time; at the end nothing of it may be left.
    """

    grace_s = 5.0
    shelved: ClassVar[Shelved]

    @classmethod
    def setUpClass(cls) -> None:
        cls.shelved = Shelved()
        cls.addClassCleanup(cls.shelved.close)

    def setUp(self) -> None:
        self.host = Host(self.shelved)
        self.addCleanup(self.host.close)
        self.driver: Driver = self.make()
        self.addCleanup(self.clean)
        self.remake({})

    def make(self) -> ContainerDriver:
        return self.host.driver(grace_s=self.grace_s)

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.host.go(coroutine)

    def until(self, true: Callable[[], object]) -> None:
        self.host.until(true)

    def kill_node(self, serial: int) -> None:
        pid = self.status(serial).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        kept = self.host.run / "bundles" / str(serial) / str(self.status(serial).boots) / "kept/exit"
        self.until(kept.exists)

    def make_unstartable(self, serial: int) -> None:
        self.host.directory.joinpath("notes", str(serial)).write_text("in the way")

    def write_log(self, serial: int, stream: str, text: bytes) -> None:
        self.go(self.driver.ensure_started(Workload(serial, "web.exp1.lab")))
        root = self.go(self.host.files.mount(serial))
        (root / "var/log/hostline").mkdir(parents=True, exist_ok=True)
        (root / f"var/log/hostline/start_command.{stream}").write_bytes(text)

    def clean(self) -> None:
        """
        The records are gone: a last daemon leaves nothing of ours behind.
        """
        try:
            in_the_way = self.host.directory / "notes/5"
            if in_the_way.is_file():
                in_the_way.unlink()
            self.remake({})
            self.assertEqual(dict(self.driver.status()), {})
            self.assertEqual(self.host.left(), [])
        finally:
            self.driver.close()


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "busybox")
class ContainerTests(Containers):
    """
    With control groups and without a network.
    """

    def test_runsAsRootOfItsOwn(self) -> None:
        """
        Its root is not the host's, and its processes are its own.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="id -u; hostname; echo $$; exit 3"))
        self.until(lambda: self.status(5).start_command == "ended")
        out, _ = self.driver.read_log(5, "out", 0, 1000)
        self.assertEqual(out.split()[:2], [b"0", b"web.exp1.lab"])


del Containers, DriverContract
