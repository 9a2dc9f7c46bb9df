"""
The QEMU driver with real guests: what every driver promises, and what only machines do.
"""

from __future__ import annotations

import os
import signal
import unittest
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from hostline.server.drivers.driver import Driver, Workload
from hostline.server.drivers.qemu import QemuDriver
from tests import needs
from tests.drivers import DriverContract, Heard
from tests.live import support
from tests.live.machines import MachineHost
from tests.scale import SOAK


class Machines(unittest.TestCase):
    """
    One state directory, one driver at a time; at the end nothing of it may be left.
    """

    def setUp(self) -> None:
        self.host = MachineHost()
        self.addCleanup(self.host.close)
        self.driver: Driver = self.make()
        self.addCleanup(self.clean)
        self.remake({})

    def make(self) -> QemuDriver:
        made: QemuDriver = self.host.driver()
        return made

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.host.go(coroutine)

    def until(self, true: Callable[[], object]) -> None:
        self.host.until(true)

    def remake(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        """
        The daemon dies and comes back.
        """
        self.driver.close()
        self.driver = self.make()
        self.heard: list[int] = []
        self.driver.changed = lambda serial: self.heard.append(serial)
        self.go(self.driver.recover(known, keep_strays))

    def clean(self) -> None:
        for path in (self.host.directory / "notes").glob("*"):
            if path.is_file():
                path.unlink()
        self.remake({})
        left = self.host.left()
        self.driver.close()
        support.idle(self.host.loop, 0.05)
        self.assertEqual(left, [])


#: Each boots real machines, so in a short run there are only those promises that no other test of these is about.
_SHORT = (
    "test_saysItsUid",
    "test_isNotRestartedWhenItsBootEnded",
    "test_isDeadWhenNodeIsKilled",
    "test_isForgottenWhenDestroyed",
    "test_is125WhenItCannotBeStarted",
    "test_goesOnWhenTheDaemonRestarts",
    "test_removesWhatHasNoRecord",
    "test_holdsWhatItIsConfiguredTo",
    "test_feedsCommands",
    "test_endsCommandsWithTheSliver",
    "test_readsLogsInParts",
)


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "qemu-system-x86_64")
class QemuContract(Machines, DriverContract):
    """
    What every driver promises.
    """

    def kill_node(self, serial: int) -> None:
        pid = self.status(serial).pid
        assert pid is not None
        kept = self.host.run / "bundles" / str(serial) / str(self.status(serial).boots) / "kept/exit"
        os.kill(pid, signal.SIGKILL)
        self.until(kept.exists)

    def make_unstartable(self, serial: int) -> None:
        self.host.directory.joinpath("notes", str(serial)).write_text("in the way")

    def write_log(self, serial: int, stream: str, text: bytes) -> None:
        self.start(Workload(serial, self.web))
        name = f"/var/log/hostline/start_command.{stream}"
        heard = Heard()
        self.driver.execute(serial, ["sh", "-c", 'printf %s "$1" >"$2"', "sh", text.decode(), name], heard)
        self.until(lambda: heard.ends)
        self.until(lambda: self.driver.read_log(serial, stream, 0, 100)[0])


if not SOAK:
    for _name in [one for one in dir(DriverContract) if one.startswith("test_") and one not in _SHORT]:
        setattr(QemuContract, _name, None)

del DriverContract
