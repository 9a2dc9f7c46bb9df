"""
A real guest, asked by its agent: QEMU by itself, without a driver.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import unittest
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hostline.server.supervise import machine
from hostline.server.supervise.agent import Agent
from hostline.server.supervise.clones import mac
from hostline.server.supervise.guest import Guest, Said
from hostline.server.supervise.machine import Machine, Manner
from hostline.server.supervise.seed import Card, Seed
from tests import needs
from tests.live.machines import BOOT_S, imaged
from tests.live.support import LoopClock, run, temporary_directory, until

OURS = "02:1b:00:00:00:07"


@needs.needs_root
@needs.needs_tool("qemu-system-x86_64", "busybox", "apt-get")
class GuestTests(unittest.TestCase):
    """
    All that is done in a guest, in one that boots once.
    """

    state: Path
    loop: asyncio.AbstractEventLoop
    clock: LoopClock
    qemu: subprocess.Popen[bytes]
    guest: Guest

    @classmethod
    def setUpClass(cls) -> None:
        files = imaged().guest(1)
        cls.state = temporary_directory().resolve()
        cls.addClassCleanup(subprocess.run, ["rm", "-rf", str(cls.state)], check=False)
        cls.loop = asyncio.new_event_loop()
        cls.addClassCleanup(cls.loop.close)
        cls.clock = LoopClock(cls.loop)
        told = Machine(
            "web.exp.lab", Manner.read(files.about), memory=128 << 20, macs=[mac(0), mac(1)],
            image=str(files.directory), state=str(cls.state), taps=False,
        )  # fmt: skip
        cls.qemu = subprocess.Popen(machine.argv(told), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        cls.addClassCleanup(cls.qemu.wait)
        cls.addClassCleanup(cls.qemu.kill)
        cls.guest = Guest(Agent(cls.state / machine.AGENT, cls.loop, cls.clock), cls.clock)
        cls.addClassCleanup(cls.guest.close)
        # Asked at once: long before there is an agent, and most likely before there is a socket.
        run(cls.loop, cls.guest.ready(BOOT_S), BOOT_S)

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return run(self.loop, coroutine, BOOT_S)

    def sh(self, command: str) -> str:
        """
        @return: what a command in the guest wrote.
        """
        ran = self.go(self.guest.run(["/bin/sh", "-c", command]))
        self.assertEqual((ran.code, ran.err), (0, b""))
        text: str = ran.out.decode()
        return text

    def test_commands(self) -> None:
        """
        Commands have input, outputs, variables and a status; one that is not there is refused in words.
        """
        ran = self.go(
            self.guest.run(["/bin/sh", "-c", "cat; echo $A >&2; exit 9"], input=b"in\0put", environment={"A": "x y"})
        )
        self.assertEqual((ran.code, ran.out, ran.err), (9, b"in\0put", b"x y\n"))
        self.assertEqual(self.go(self.guest.run(["/bin/sh", "-c", "kill -9 $$"])).code, 137)
        with self.assertRaisesRegex(OSError, "guest's agent"):
            self.go(self.guest.run(["/bin/none"]))
        with self.assertRaises(TimeoutError):
            self.go(self.guest.run(["/bin/sleep", "60"], limit_s=0.5))
        self.go(self.guest.begin(["/bin/touch", "/tmp/begun"]))
        until(self.loop, lambda: "begun" in self.sh("ls /tmp"), 20)

    def test_muchOutput(self) -> None:
        """
        A command that writes more than is wanted is no danger, and the guest can be asked again.
        """
        with self.assertRaisesRegex(OSError, "more than"):
            self.go(self.guest.run(["/bin/sh", "-c", "head -c 3000000 /dev/zero"], most_bytes=100_000))
        self.assertEqual(self.sh("echo here"), "here\n")

    def test_files(self) -> None:
        """
        Files are written and read whole, in part, and from their ends.
        """
        data = os.urandom(150_000)
        self.go(self.guest.write("/tmp/file", data))
        self.assertEqual(self.go(self.guest.read("/tmp/file", 1 << 20)), (data, 0))
        self.assertEqual(self.go(self.guest.read("/tmp/file", 100, 70_000)), (data[70_000:70_100], 70_000))
        self.assertEqual(self.go(self.guest.read("/tmp/file", 1 << 20, -10)), (data[-10:], 149_990))
        with self.assertRaises(FileNotFoundError):
            self.go(self.guest.read("/tmp/none", 10))

    def test_seed(self) -> None:
        """
        A guest becomes the node it is told to be; told again it changes what changed, and begins nothing twice.
        """
        seed = Seed(
            name="web", boots=2, clock=time.time() + 5000, random=os.urandom(64),
            cards=(Card("inf000", OURS, ("10.1.1.2/24",), 1400, mac(0)), Card("eth0", "02:1b:00:00:00:08", now=mac(1))),
            routes=(("10.2.0.0/16", "10.1.1.9"),), forwards=True, hosts="127.0.0.1 localhost\n10.1.1.3 other\n",
            resolv_conf="nameserver 10.1.1.9\n", keys=("ssh-ed25519 AAAA me",),
            start_command="echo out $A; echo err >&2; exit 3", environment={"A": "it's"},
            initscript="#!/bin/sh\necho script $1\n",
        )  # fmt: skip
        self.assertEqual(self.go(self.guest.apply(seed)), [])
        self.addCleanup(self.go, self.guest.run(["/bin/date", "-s", f"@{int(time.time())}"]))
        self.assertLess(abs(int(self.sh("date +%s")) - time.time() - 5000), 30)
        self.assertEqual(self.sh("hostname; cat /etc/hostname"), "web\nweb\n")
        self.assertEqual(
            self.sh("cat /sys/class/net/inf000/address /sys/class/net/inf000/mtu /sys/class/net/eth0/address"),
            f"{OURS}\n1400\n02:1b:00:00:00:08\n",
        )
        self.assertIn("inet 10.1.1.2/24", self.sh("ip addr show inf000"))
        self.assertIn("10.2.0.0/16 via 10.1.1.9", self.sh("ip route"))
        self.assertEqual(self.sh("cat /proc/sys/net/ipv4/ip_forward"), "1\n")
        self.assertIn("10.1.1.3 other", self.sh("cat /etc/hosts"))
        self.assertEqual(self.sh("cat /root/.ssh/authorized_keys; stat -c %a /root/.ssh/authorized_keys"),
                         "ssh-ed25519 AAAA me\n600\n")  # fmt: skip
        until(self.loop, lambda: self.go(self.guest.said()) == Said(True, 3, "ended", 0, begun=True), 30)
        self.assertEqual(self.sh("cat /var/log/hostline/start_command.out /var/log/hostline/start_command.err"),
                         "out it's\nerr\n")  # fmt: skip
        self.assertIn("exit status 3", self.sh("cat /var/log/hostline/start_command.log"))
        again = Seed(
            name="web", boots=2, clock=time.time(), random=os.urandom(64), start_command="echo twice",
            cards=(Card("inf000", OURS, ("10.1.1.2/24",), 1400, mac(0)),), initscript="#!/bin/sh\necho changed $1\n",
        )  # fmt: skip
        self.assertEqual(self.go(self.guest.apply(again)), [])
        until(self.loop, lambda: "changed restart" in self.sh("cat /var/log/hostline/initscript.log"), 30)
        self.assertNotIn("twice", self.sh("cat /var/log/hostline/start_command.out"))
        self.assertEqual(self.sh("cat /root/.ssh/authorized_keys"), "")

    def test_problems(self) -> None:
        """
        What could not be done is told; the rest is done all the same.
        """
        seed = Seed(
            name="odd", boots=1, clock=time.time(), random=b"x" * 8, routes=(("10.9.0.0/16", "192.0.2.1"),),
        )  # fmt: skip
        self.assertEqual(self.go(self.guest.apply(seed)), ["no route to 10.9.0.0/16 by 192.0.2.1"])
        self.assertEqual(self.sh("hostname"), "odd\n")

    def test_zShutdown(self) -> None:
        """
        A guest that is told to goes down by itself, after its initscript has been told.
        """
        began = time.monotonic()
        self.go(self.guest.shutdown(5))
        until(self.loop, lambda: self.qemu.poll() is not None, 30)
        self.assertEqual(self.qemu.returncode, 0)
        self.assertLess(time.monotonic() - began, 30)
        with self.assertRaises(OSError):
            self.go(self.guest.agent.call("guest-ping"))
        self.assertFalse((Path(self.state) / machine.AGENT).exists())
