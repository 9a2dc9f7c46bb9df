"""
Guests that mean no good, or are just broken: each is a nuisance to itself only.
"""

from __future__ import annotations

import subprocess
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from hostline.server.drivers import qemu_watch
from hostline.server.drivers.driver import Status, Workload
from hostline.server.drivers.qemu import QemuDriver
from tests import needs
from tests.drivers import Heard
from tests.live import support
from tests.live.machines import MachineHost, imaged
from tests.scale import SOAK, scaled

WEB = "web.exp1.lab"
_FLOOD = 'exec >/dev/null 2>&1; while :; do head -c 65536 /dev/zero | tr "\\0" x >/dev/ttyS0; done'
#: Takes the agent's port from the agent, and says there what is no answer.
_LIAR = """
for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name)" != org.qemu.guest_agent.0 ] || agent=/dev/${port##*/}
done
while killall -9 qemu-ga; do :; done
until { exec 5>$agent; } 2>/dev/null; do killall -9 qemu-ga; done
while :; do %s >&5; done
"""
_LIES = {
    "garbage": "head -c 65536 /dev/urandom",
    "endless": "head -c 65536 /dev/zero | tr '\\0' x",
    "answers": """printf '{"return": {"pid": 1, "exited": true, "exitcode": 0}}\\n'""",
}


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "qemu-system-x86_64", "qemu-img")
class HostileTests(unittest.TestCase):
    """
    One bad guest at a time; whatever it does, it can be ended, and leaves nothing.
    """

    def setUp(self) -> None:
        self.host = MachineHost()
        self.addCleanup(self.host.close)
        self.driver: QemuDriver = self.host.driver(grace_s=3.0)
        self.addCleanup(self.clean)
        self.host.go(self.driver.recover({}))

    def clean(self) -> None:
        for serial in list(self.driver.status()):
            begun = self.host.loop.time()
            self.host.go(self.driver.ensure_destroyed(serial))
            self.assertLess(self.host.loop.time() - begun, 40)
        left = self.host.left()
        self.driver.close()
        support.idle(self.host.loop, 0.05)
        self.assertEqual(left, [])

    def start(
        self, serial: int = 5, about: dict[str, Any] | None = None, image: int | None = None, **more: Any
    ) -> None:
        if about is not None:
            image = imaged().add(about)
        workload = Workload(serial, WEB, image=image, **more)
        self.host.go(self.driver.ensure_created(workload))
        self.host.go(self.driver.ensure_started(workload))

    def boot(self, serial: int = 5, **more: Any) -> None:
        self.start(serial, **more)
        self.host.until(lambda: self.status(serial).boot == "booted")

    def status(self, serial: int = 5) -> Status:
        return self.driver.status()[serial]

    def run_in(self, *argv: str, serial: int = 5) -> Heard:
        heard = Heard()
        self.driver.execute(serial, argv, heard)
        self.host.until(lambda: heard.ends)
        return heard

    def test_neverBoots(self) -> None:
        """
        One that never comes up stays running, with a reason, and runs no commands.
        """
        with mock.patch.object(qemu_watch, "LATE_S", 3.0):
            self.start(about={"append": "console=ttyS0 quiet panic=-1 rdinit=/bin/cat"})
            self.host.until(lambda: any("has not come up" in one for one in self.status().problems))
        self.assertEqual(self.status().boot, "running")
        with self.assertRaises(OSError):
            self.driver.execute(5, ["true"], Heard())

    def test_panics(self) -> None:
        """
        One whose kernel panics is dead, and says why; its start command has ended without status.
        """
        command = "sleep 1; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger"
        self.boot(start_command=command)
        self.host.until(lambda: self.status().boot == "dead")
        self.assertTrue(any("panicked" in one for one in self.status().problems), self.status().problems)

    def test_cannotStartItsKernel(self) -> None:
        """
        One whose kernel finds nothing to run could not be started, and says why.
        """
        self.start(about={"append": "console=ttyS0 quiet panic=-1 rdinit=/no/such"})
        self.host.until(lambda: self.status().boot == "dead")
        self.assertEqual(self.status().exit_code, 125)
        self.assertTrue(any("panicked" in one for one in self.status().problems), self.status().problems)

    def test_lacksItsPackages(self) -> None:
        """
        One whose packages cannot be had is never booted, is ended, and says why.
        """
        self.start(packages=("hello",), start_command="exit 3")
        seen = set()

        def over() -> bool:
            seen.add(self.status().boot)
            return self.status().boot == "dead"

        self.host.until(over)
        why = "could not be started: packages: this image has no apt-get"
        self.assertEqual((seen & {"booted"}, self.status().exit_code), (set(), 125))
        self.assertIn(why, self.status().problems)

    def test_floodsItsConsole(self) -> None:
        """
        What one writes to its console without end takes a bounded file, and commands still run in it.
        """
        self.boot(start_command=_FLOOD)
        support.idle(self.host.loop, 8.0)
        console = self.host.directory / "notes/5/console"
        self.assertLess(console.stat().st_size, 9 << 20)
        self.assertIn(b"xxxxxxxx", self.driver.read_log(5, "console", -1000, 1000)[0])
        self.assertEqual(self.run_in("echo", "fine").out, b"fine\n")

    def test_liesThroughItsAgent(self) -> None:
        """
        Whatever one says in its agent's place is believed of itself at most; others and the daemon go on.
        """
        self.boot(6)
        for number, (name, lie) in enumerate(scaled(list(_LIES.items())[:1], list(_LIES.items())), 10):
            with self.subTest(name):
                self.boot(number)
                heard = Heard()
                self.driver.execute(number, ["setsid", "sh", "-c", _LIAR % lie], heard)
                support.idle(self.host.loop, 3.0)
                begun = self.host.loop.time()
                self.assertEqual(self.run_in("echo", "fine", serial=6).out, b"fine\n")
                self.assertLess(self.host.loop.time() - begun, 20)
                other = Heard()
                self.driver.execute(number, ["echo", "hello"], other)
                self.host.until(lambda: other.ends)  # noqa: B023
                self.assertEqual(other.out, b"")
                self.host.go(self.driver.ensure_destroyed(number))

    def test_fillsItsDisk(self) -> None:
        """
        One cannot have more disk than it was given, and goes on when that is full.
        """
        base = self.host.directory / "base.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "4M"], check=True, timeout=60)
        before = base.read_bytes()
        image = imaged().add({}, disk=base)
        self.boot(image=image, rspec={"disk_max": 16 << 10})
        self.assertEqual(self.driver.in_force(5)["disk_max"], 16 << 10)
        self.assertEqual(self.run_in("sh", "-c", "cat /sys/block/vda/size").out, b"%d\n" % (16 << 11))
        heard = self.run_in("sh", "-c", "dd if=/dev/zero of=/dev/vda bs=1M conv=fsync; echo after")
        self.assertIn(b"after", heard.out)
        disk = Path(self.host.directory, "notes/5/disk.qcow2")
        self.assertLess(disk.stat().st_blocks * 512, 18 << 20)
        self.assertEqual(base.read_bytes(), before)
        self.assertEqual(self.run_in("echo", "fine").out, b"fine\n")

    def test_saysTooMuch(self) -> None:
        """
        One whose start command writes without end fills no more than a bounded copy.
        """
        self.boot(start_command="while :; do head -c 65536 /dev/zero | tr '\\0' y; echo; done | head -c 3000000")
        logs = self.host.directory / "notes/5/seen/var/log/hostline/start_command.out"
        self.host.until(lambda: self.status().start_command == "ended")
        for _ in range(20):
            self.driver.read_log(5, "out", -10, 10)
            support.idle(self.host.loop, 0.3)
        self.assertLess(logs.stat().st_size, (1 << 20) + 4096)
        self.assertIn(b"y", self.driver.read_log(5, "out", -10, 10)[0])

    def test_fillsItsMemory(self) -> None:
        """
        What one uses up is its own: QEMU is never killed for want of memory, nor when the guest is to have less.
        """
        self.boot(rspec={"memory_max": 448 << 20})
        self.run_in("sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M; dd if=/dev/zero of=/tmp/x bs=1M count=40")
        self.assertEqual((self.status().boot, self.run_in("echo", "fine").out), ("booted", b"fine\n"))
        self.host.go(self.driver.ensure_configured(Workload(5, WEB, rspec={"memory_max": 300 << 20})))
        self.assertEqual(self.driver.in_force(5)["memory_max"], 448 << 20)
        self.assertTrue(any("until its next boot" in one for one in self.status().problems))
        self.assertEqual((self.status().boot, self.run_in("echo", "fine").out), ("booted", b"fine\n"))


if not SOAK:  # it takes a kernel long to give up
    del HostileTests.test_cannotStartItsKernel
