"""
Guests that go on from the memory of one that booted before: soon up, and still nobody's twin.
"""

from __future__ import annotations

import os
import time
import unittest
from pathlib import Path
from typing import Any, ClassVar

from attrs import evolve
from twisted.internet.defer import Deferred

from hostline.server.drivers.driver import Workload
from hostline.server.drivers.qemu import QemuDriver
from hostline.server.supervise.templates import RAM, Templates, makers
from tests import needs
from tests.drivers import Heard
from tests.live.machines import Imaged, MachineHost
from tests.live.support import idle
from tests.scale import scaled


@needs.needs_root
@needs.needs_tool("qemu-system-x86_64", "runc", "conmon", "busybox", "setpriv")
class TemplateTests(unittest.TestCase):
    """
    Clones, run by the driver.
    """

    imaged: ClassVar[Imaged]

    @classmethod
    def setUpClass(cls) -> None:
        cls.imaged = Imaged()
        cls.addClassCleanup(cls.imaged.close)

    def setUp(self) -> None:
        self.host = MachineHost(self.imaged)
        self.addCleanup(self.host.close)
        self.directory = self.host.directory / "templates"
        self.begin()
        self.addCleanup(self.clean)
        self.go(self.driver.recover({}))

    def begin(self) -> None:
        """
        As a daemon that starts.
        """
        self.templates = Templates(self.directory, self.host.spawner, self.host.loop, self.host.clock)
        self.driver: QemuDriver = self.host.driver(templates=self.templates)
        self.driver.changed = lambda _: None

    def clean(self) -> None:
        self.go(self.driver.recover({}))
        left = self.host.left()
        self.driver.close()
        idle(self.host.loop, 0.1)
        self.assertEqual((left, makers(self.directory)), ([], []))

    def go(self, coroutine: Any) -> Any:
        return self.host.go(coroutine)

    def start(self, serial: int, **more: Any) -> float:
        """
        @return: seconds until it was up.
        """
        workload = Workload(serial, f"n{serial}.exp.lab", image=1, rspec={"memory_max": 300 << 20}, **more)
        began = time.monotonic()
        self.go(self.driver.ensure_created(workload))
        self.go(self.driver.ensure_started(workload))
        self.host.until(lambda: self.driver.status()[serial].boot != "running")
        self.assertEqual(self.driver.status()[serial].boot, "booted", self.driver.status()[serial])
        return time.monotonic() - began

    def said(self, serial: int, command: str) -> str:
        """
        @return: what a command in a guest wrote.
        """
        heard = Heard()
        self.driver.execute(serial, ["/bin/sh", "-c", command], heard)
        self.host.until(lambda: heard.codes)
        return heard.out.decode()

    def make_template(self) -> float:
        """
        Boot a first guest, and wait for the template of those like it.

        @return: seconds until that guest was up.
        """
        cold = self.start(1)
        self.host.until(lambda: self.templates.ready() == 1)
        return cold

    def test_clones(self) -> None:
        """
        Guests after the first are up much sooner, are called what they are called, and share no secret.
        """
        cold = self.make_template()
        self.assertEqual([one.name for one in self.directory.iterdir()], [".trash"])
        serials = range(2, scaled(4, 12))
        warm = [self.start(serial, start_command=f"echo i am {serial}") for serial in serials]
        self.assertLess(min(warm), cold / 2)
        told = [
            self.said(one, "hostname; cat /proc/sys/kernel/random/uuid; date +%s; cat /var/log/hostline/*.out").split(
                "\n"
            )
            for one in serials
        ]
        for serial, (name, _, clock, output, *_) in zip(serials, told, strict=True):
            self.assertEqual((name, output), (f"n{serial}", f"i am {serial}"))
            self.assertLess(abs(int(clock) - time.time()), 5)
        self.assertEqual(len({one[1] for one in told}), len(serials))

    def test_randomNumbers(self) -> None:
        """
        The first random numbers that two clones draw are not the same.
        """
        self.make_template()
        draws = []
        for serial in (2, 3):
            self.start(serial, start_command="head -c 8 /dev/urandom | od -An -tx1")
            self.host.until(lambda serial=serial: self.driver.status()[serial].start_code is not None)
            draws.append(self.said(serial, "cat /var/log/hostline/start_command.out"))
        self.assertEqual(len(set(draws)), 2)
        self.assertTrue(all(draws))

    def test_sharedAndSealed(self) -> None:
        """
        Clones share the memory that they do not change, and none of them can write to it.
        """
        self.make_template()
        self.start(2)
        pid = self.driver.status()[2].pid
        assert pid is not None
        self.assertIn("hostline-ram", os.readlink(f"/proc/{pid}/fd/{RAM}"))  # noqa: PTH115
        fd = os.open(f"/proc/{pid}/fd/{RAM}", os.O_RDWR)
        self.addCleanup(os.close, fd)
        with self.assertRaises(PermissionError):
            os.pwrite(fd, b"x", 0)
        own = 0
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Clean", "Private_Dirty")):
                own += int(line.split()[1])
        self.assertLess(own, 90 << 10, "KiB of its own")

    def test_daemonDies(self) -> None:
        """
        What a daemon was making when it died is ended by the next; clones of its templates go on.
        """
        self.make_template()
        self.start(2)
        workload = Workload(2, "n2.exp.lab", image=1, rspec={"memory_max": 300 << 20})
        first = Workload(1, "n1.exp.lab", image=1, rspec={"memory_max": 300 << 20})
        other = evolve(first, serial=3, rspec={"memory_max": 320 << 20})
        self.go(self.driver.ensure_created(other))
        self.go(self.driver.ensure_started(other))
        self.host.until(lambda: makers(self.directory))
        # As when it is killed: nothing of it is told.
        self.templates._closed = True
        making = self.templates._making
        assert making is not None and making[1] is not None
        self.host.spawner.release(making[1])
        self.begin()
        self.go(self.driver.recover({1: first, 2: workload, 3: other}))
        self.assertEqual((makers(self.directory), [one.name for one in self.directory.iterdir()]), ([], [".trash"]))
        self.host.until(lambda: self.driver.status()[2].boot == "booted")
        self.host.until(lambda: self.said_or_not(2) == "n2\n")

    def said_or_not(self, serial: int) -> str:
        """
        @return: its name; empty if it cannot be asked yet.
        """
        try:
            return self.said(serial, "hostname")
        except OSError:
            self.go(self.pause())
            return ""

    async def pause(self) -> None:
        """
        Give the loop a turn.
        """
        paused: Deferred[None] = Deferred()
        self.host.clock.callLater(0.1, paused.callback, None)
        await paused
