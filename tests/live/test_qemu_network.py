"""
QEMU machines on networks: their own address, the links of their experiment, and what a new daemon finds of it.

The host of these tests is a network namespace of the test's own.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import unittest
from typing import Any

from attrs import evolve

from hostline.server import config
from hostline.server.drivers.driver import Interface, Workload
from hostline.server.drivers.qemu import QemuDriver
from hostline.server.network.fabric import Link, Member, Shape
from hostline.server.network.ip import Tools
from hostline.server.network.links import Links
from hostline.server.network.network import Network
from hostline.server.network.shared import Shared
from hostline.server.network.taps import Taps
from tests import needs
from tests.drivers import Heard
from tests.live import support
from tests.live.machines import MachineHost, imaged

_NEWNET = 0x40000000
#: Of the link, and what is sent over it, KiB.
RATE_KBPS, SENT_KIB = 4000, 1024
LINK = Link("9/lan", tuple(Member(serial, "inf000", Shape(rate_kbps=RATE_KBPS), Shape()) for serial in (5, 6)))


def workload(serial: int, **more: Any) -> Workload:
    interface = Interface("inf000", LINK.name, f"02:aa:00:00:00:0{serial}", f"10.1.1.{serial}/24")
    return Workload(serial, f"n{serial}.exp1.lab", interfaces=(interface,), hosts=f"10.1.1.{serial} me\n", **more)


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "qemu-system-x86_64", "ip", "tc", "nft", "nsenter")
class NetworkedTests(unittest.TestCase):
    """
    Two machines on one link.
    """

    def setUp(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        imaged()  # it fetches, so it needs the real network
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.addCleanup(os.close, before)
        if libc.unshare(_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        self.addCleanup(libc.setns, before, _NEWNET)
        subprocess.run(["ip", "link", "set", "dev", "lo", "up"], check=True, timeout=10)
        self.host = MachineHost()
        self.addCleanup(self.host.close)

    def make(self, *known: int) -> QemuDriver:
        """
        @return: a daemon's driver that has not recovered yet.
        """
        host = self.host
        settings = config.Network(subnet="10.97.0.0/24")
        state = host.directory / "network"
        found, why = host.go(Network.find(settings, host.instance, state, host.spawner, host.clock))
        links, why_no = host.go(Links.find(host.instance, host.spawner, host.clock))
        if found is None or links is None:
            self.skipTest(f"{needs.CANNOT}{why or why_no}")
        links.tell({LINK.name: LINK})
        host.go(found.recover(known))
        host.go(links.recover(known))
        taps = Taps(Tools(host.spawner, host.clock))
        driver: QemuDriver = host.driver(network=Shared(found), taps=taps, wires=links)
        return driver

    def said(self, driver: QemuDriver, serial: int, *argv: str) -> str:
        """
        @return: all that a command in a machine says.
        """
        heard = Heard()
        driver.execute(serial, argv, heard)
        self.host.until(lambda: heard.ends)
        return (heard.out + heard.err).decode()

    def test_areReached(self) -> None:
        """
        Machines have addresses, names and links, are reached there by the host and by each other, are held to the
        link's rate, keep all that while the daemon restarts, and leave nothing.
        """
        driver = self.make()
        self.host.go(driver.recover({}))
        command = "while :; do echo hello | nc -l -p 7777; done"
        known = {5: workload(5, start_command=command), 6: workload(6)}
        for one in known.values():
            self.host.go(driver.ensure_created(one))
            self.host.go(driver.ensure_started(one))
        self.host.until(lambda: all(status.boot == "booted" for status in driver.status().values()))
        for serial in known:
            self.assertEqual(driver.status()[serial].problems, ())
        address = driver.status()[5].address
        assert address is not None
        self.assertEqual(self.greeting(address), b"hello\n")
        self.assertIn("1 packets received", self.said(driver, 6, "ping", "-c", "1", "-w", "10", "10.1.1.5"))
        self.assertIn("me", self.said(driver, 6, "cat", "/etc/hosts"))
        self.assertEqual(self.said(driver, 6, "hostname"), "n6.exp1.lab\n")
        self.assertIn("default via 10.97.0.1", self.said(driver, 6, "ip", "route"))
        self.assertIn("02:aa:00:00:00:06", self.said(driver, 6, "ip", "link", "show", "inf000"))
        self.assertGreater(self.sending_s(driver), SENT_KIB * 8192 / (RATE_KBPS * 1000) * 0.8)
        activity = self.host.go(driver.activity(6))
        assert activity is not None
        self.assertGreater(activity.experiment_packets, SENT_KIB * 1024 // 1514)
        before = dict(driver.status())
        driver.close()
        driver = self.make(5, 6)
        self.host.go(driver.recover(known))
        self.assertEqual(dict(driver.status()), before)
        self.assertEqual(self.greeting(address), b"hello\n")
        self.host.until(lambda: driver.reachable(6))
        self.assertIn("1 packets received", self.said(driver, 6, "ping", "-c", "1", "-w", "10", "10.1.1.5"))
        self.host.go(
            driver.ensure_configured(evolve(known[6], rspec={"net_max": 16_000_000}, hosts="10.1.1.5 other\n"))
        )
        self.assertEqual(driver.in_force(6).get("net_max"), 16_000_000)
        self.host.until(lambda: "other" in self.said(driver, 6, "cat", "/etc/hosts"))
        for serial in known:
            self.host.go(driver.ensure_destroyed(serial))
        links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True, timeout=10).stdout
        self.assertEqual([line for line in links.splitlines() if "@" in line or "tap" in line], [])
        self.assertEqual(self.host.left(), [])
        driver.close()

    def sending_s(self, driver: QemuDriver) -> float:
        """
        @return: how long the one takes to send something to the other.
        """
        listening = Heard()
        driver.execute(5, ["sh", "-c", "nc -l -p 7778 >/dev/null"], listening)
        support.idle(self.host.loop, 1.0)
        begun = self.host.loop.time()
        send = f"dd if=/dev/zero bs=1024 count={SENT_KIB} 2>/dev/null | nc 10.1.1.5 7778"
        self.assertEqual(self.said(driver, 6, "sh", "-c", send), "")
        self.host.until(lambda: listening.ends)
        return self.host.loop.time() - begun

    def greeting(self, address: str) -> bytes:
        """
        @return: what it says to who connects.
        """
        deadline = self.host.loop.time() + 20
        while True:
            try:
                with socket.create_connection((address, 7777), 2) as link:
                    return link.recv(100)
            except OSError:
                if self.host.loop.time() > deadline:
                    raise
            support.idle(self.host.loop, 0.05)
