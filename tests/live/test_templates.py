"""
Guests that go on from the memory of one that booted before: soon up, and still nobody's twin.
"""

from __future__ import annotations

import os
import time
import unittest
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from hostline.server.drivers.driver import Workload
from hostline.server.drivers.qemu import QemuDriver
from hostline.server.supervise.clones import RAM
from hostline.server.supervise.templates import Templates, makers
from tests import needs
from tests.drivers import Heard
from tests.live.machines import BOOT_S, MachineHost
from tests.live.support import idle, until, working_in
from tests.scale import scaled


class Clones(unittest.TestCase):
    """
    What the tests here share.

    @ivar cold: seconds until the first guest was up, which booted.
    """

    cold: float
    host: MachineHost
    templates: Templates
    driver: QemuDriver

    @classmethod
    def begin(cls) -> None:
        """
        As a daemon that starts.
        """
        cls.templates = Templates(cls.directory(), cls.host.spawner, cls.host.loop, cls.host.clock)
        cls.driver = cls.host.driver(templates=cls.templates)
        cls.driver.changed = lambda _: None

    @classmethod
    def setUpClass(cls) -> None:
        cls.host = MachineHost()
        cls.addClassCleanup(cls.host.close)
        cls.begin()
        cls.addClassCleanup(cls.clean)
        cls.host.go(cls.driver.recover({}))
        cls.cold = cls.start(1)
        until(cls.host.loop, lambda: cls.templates.ready() == 1, 3 * BOOT_S)  # two boots

    @classmethod
    def directory(cls) -> Path:
        """
        Where templates are made.
        """
        return cls.host.directory / "templates"

    @classmethod
    def clean(cls) -> None:
        """
        End it all, and see that nothing is left.
        """
        cls.host.go(cls.driver.recover({}))
        left = cls.host.left()
        cls.driver.close()
        idle(cls.host.loop, 0.1)
        assert (left, makers(cls.directory()), working_in(cls.directory())) == ([], [], []), left

    def go(self, coroutine: Any) -> Any:
        return self.host.go(coroutine)

    @classmethod
    def start(cls, serial: int, **more: Any) -> float:
        """
        @return: seconds until it was up.
        """
        workload = Workload(serial, f"n{serial}.exp.lab", image=1, rspec={"memory_max": 300 << 20}, **more)
        began = time.monotonic()
        cls.host.go(cls.driver.ensure_created(workload))
        cls.host.go(cls.driver.ensure_started(workload))
        cls.host.until(lambda: cls.driver.status()[serial].boot != "running")
        assert cls.driver.status()[serial].boot == "booted", cls.driver.status()[serial]
        return time.monotonic() - began

    def said(self, serial: int, command: str) -> str:
        """
        @return: what a command in a guest wrote.
        """
        heard = Heard()
        self.driver.execute(serial, ["/bin/sh", "-c", command], heard)
        self.host.until(lambda: heard.ends)
        return heard.out.decode()


NEEDED = needs.needs_tool("qemu-system-x86_64", "runc", "conmon", "busybox", "setpriv", "apt-get")


@needs.needs_root
@NEEDED
class TemplateTests(Clones):
    """
    Clones, run by the driver.
    """

    def test_clones(self) -> None:
        """
        Guests after the first are up much sooner, are called what they are called, and share no secret.
        """
        self.assertEqual([one.name for one in self.directory().iterdir()], [".trash"])
        serials = range(10, scaled(12, 40))
        warm = [self.start(serial, start_command=f"echo i am {serial}") for serial in serials]
        self.assertLess(min(warm), self.cold / 2)
        told = [
            self.said(one, "hostname; cat /proc/sys/kernel/random/uuid; date +%s; cat /var/log/hostline/*.out").split(
                "\n"
            )
            for one in serials
        ]
        for serial, (name, _, clock, output, *_) in zip(serials, told, strict=True):
            self.assertEqual((name, output), (f"n{serial}.exp.lab", f"i am {serial}"))
            self.assertLess(abs(int(clock) - time.time()), 5)
        self.assertEqual(len({one[1] for one in told}), len(serials))

    def test_randomNumbers(self) -> None:
        """
        The first random numbers that two clones draw are not the same.
        """
        draws = []
        for serial in (4, 5):
            self.start(serial, start_command="head -c 8 /dev/urandom | od -An -tx1")
            self.host.until(lambda: self.driver.status()[serial].start_code is not None)  # noqa: B023
            draws.append(self.said(serial, "cat /var/log/hostline/start_command.out"))
        self.assertEqual(len(set(draws)), 2)
        self.assertTrue(all(draws))

    def test_sharedAndSealed(self) -> None:
        """
        Clones share the memory that they do not change, and none of them can write to it.
        """
        self.start(3)
        pid = self.driver.status()[3].pid
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


@needs.needs_root
@NEEDED
class CrashTests(Clones):
    """
    Clones, and a daemon that dies.
    """

    def test_daemonDies(self) -> None:
        """
        What a daemon was making when it died is ended by the next; clones of its templates go on.
        """
        self.start(2)
        workload = Workload(2, "n2.exp.lab", image=1, rspec={"memory_max": 300 << 20})
        first = Workload(1, "n1.exp.lab", image=1, rspec={"memory_max": 300 << 20})
        other = evolve(first, serial=3, rspec={"memory_max": 320 << 20})
        self.go(self.driver.ensure_created(other))
        self.go(self.driver.ensure_started(other))
        self.host.until(lambda: makers(self.directory()))
        # As when it is killed: nothing of it is told.
        self.templates._closed = True
        making = self.templates._making
        assert making is not None and making[1] is not None
        self.host.spawner.release(making[1])
        self.driver._booting.templates = None
        self.driver.close()
        type(self).begin()
        self.go(self.driver.recover({1: first, 2: workload, 3: other}))
        self.assertEqual(working_in(self.directory()), [])
        self.assertEqual((makers(self.directory()), [one.name for one in self.directory().iterdir()]), ([], [".trash"]))
        self.host.until(lambda: self.driver.status()[2].boot == "booted")
        self.host.until(lambda: self.said_or_not(2) == "n2.exp.lab\n")

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
