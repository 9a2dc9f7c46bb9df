"""
The network of slivers, in the kernel: who reaches whom, how fast, and what is left behind.

The host of these tests is a network namespace of the test's own, so that the real one is never touched and whatever
happens is gone with it. Namespaces of C{sleep} stand in for containers, and one more for the world.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import subprocess
import sys
import time
import unittest
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from hostline.server import config
from hostline.server.network import ip
from hostline.server.network.bridge import Names
from hostline.server.network.means import Means
from hostline.server.network.network import Network
from hostline.server.supervise.spawn import Spawner
from tests import needs
from tests.live import support
from tests.scale import scaled

INSTANCE = "5b1e77aa0f3c4d2e"
MBIT = 10**6
ROOT = Path(__file__).parents[2]
PYTHONPATH = f"{ROOT}:{ROOT / 'twistd_plugins'}"
_NEWNET = 0x40000000

#: Connects to an address (argv 1), from another (argv 2, if any), and says after argv 3 seconds how many bytes it read.
_READER = """
import socket, sys, time
address, source, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
deadline = time.monotonic() + 10
while True:
    try:
        link = socket.create_connection((address, 7777), 2, (source, 0) if source else None)
        break
    except OSError:
        if time.monotonic() > deadline: raise
        time.sleep(0.05)
link.settimeout(10)
begun, total = None, 0
while begun is None or time.monotonic() < begun + seconds:
    data = link.recv(1 << 16)
    if begun is None and time.monotonic() > deadline - 10 + 0.5: begun, total = time.monotonic(), 0
    total += len(data)
print(total / (time.monotonic() - begun))
"""
#: Sends as fast as it can to whoever connects.
_WRITER = """
import socket, threading
listening = socket.create_server(("0.0.0.0", 7777))
def send(link):
    try:
        while True: link.sendall(bytes(1 << 16))
    except OSError: pass
while True: threading.Thread(target=send, args=(listening.accept()[0],), daemon=True).start()
"""
#: A daemon that finds and recovers, says so, and connects and forgets what it is told, again and again.
_DAEMON = """
import asyncio, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from hostline.server import config
from hostline.server.network.network import Network
from hostline.server.supervise.spawn import Spawner
from tests.live.support import LoopClock

async def work(loop):
    spawner, clock, pids = Spawner(loop), LoopClock(loop), [int(pid) for pid in sys.argv[3:]]
    network, why = await Network.find(config.Network(), sys.argv[2], Path(sys.argv[1], "a"), spawner, clock)
    await network.recover(range(1, len(pids) + 1))
    print("begin", flush=True)
    while True:
        for serial, pid in enumerate(pids, 1):
            await network.connect(serial, pid, {"net_max": 10**7})
        for serial in range(1, len(pids) + 1):
            await network.forget(serial)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(Deferred.fromCoroutine(work(loop)).asFuture(loop))
"""


#: Arguments: hardware address of the frame, its VLAN's tag, hardware and address that ARP says, and of whom it asks.
_SAYS = """
import socket, sys
mac = lambda text: bytes.fromhex(text.replace(":", ""))
ether, vlan, hardware, ours, theirs = sys.argv[1:]
body = mac("0806 0001 0800 06 04 0001".replace(" ", "")) + mac(hardware) + socket.inet_aton(ours) + bytes(6)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
s.send(b"\\xff" * 6 + mac(ether) + mac(vlan) + body + socket.inet_aton(theirs))
"""


class Child:
    """
    Something in a network namespace of its own.
    """

    def __init__(self, test: unittest.TestCase) -> None:
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        test.addCleanup(self.end)
        own = Path("/proc/self/ns/net").stat().st_ino
        deadline = time.monotonic() + 10
        while Path(f"/proc/{self.pid}/ns/net").stat().st_ino == own:
            if time.monotonic() > deadline:
                raise AssertionError("no network namespace")
            time.sleep(0.001)

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """
        Run a command in it.
        """
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", *argv], capture_output=True, text=True, timeout=20, check=False
        )

    def pings(self, address: str) -> bool:
        """
        @return: whether one of three is answered within a second; the first may be lost while a link comes up.
        """
        return self.run("busybox", "ping", "-c", "3", "-i", "0.2", "-W", "1", address).returncode == 0


class Counting(Spawner):
    """
    Counts what it starts.
    """

    started = 0

    def spawn(self, *args: Any, **more: Any) -> Any:
        self.started += 1
        return super().spawn(*args, **more)


def said(*argv: str) -> str:
    """
    @return: what a command on the test's host says.
    """
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout


def links() -> set[str]:
    """
    @return: the interfaces of the test's host.
    """
    return {str(link["ifname"]) for link in json.loads(said("ip", "-j", "link", "show"))}


@needs.needs_root
@needs.needs_tool("ip", "tc", "nft", "nsenter", "unshare", "busybox")
class NetworkCase(unittest.TestCase):
    """
    A host with a network for slivers.
    """

    def setUp(self) -> None:
        self.enter_host()
        self.directory = support.temporary_directory()
        self.addCleanup(support.remove_directory, self.directory)
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.spawner = Counting(self.loop)
        self.addCleanup(self.spawner.close)
        self.clock = support.LoopClock(self.loop)

    def enter_host(self) -> None:
        """
        Go where this test's host is; back at the end.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.addCleanup(os.close, before)
        if libc.unshare(_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        self.addCleanup(libc.setns, before, _NEWNET)
        said("ip", "link", "set", "dev", "lo", "up")

    def found(self, instance: str = INSTANCE, state: str = "a", **settings: Any) -> tuple[Network | None, str]:
        return support.run(
            self.loop,
            Network.find(config.Network(**settings), instance, Path(self.directory, state), self.spawner, self.clock),
        )

    def network(self, *known: int, instance: str = INSTANCE, state: str = "a", **settings: Any) -> Network:
        """
        @return: one that has recovered.
        """
        network, why = self.found(instance, state, **settings)
        if network is None:
            raise AssertionError(why)
        self.recover(network, *known)
        return network

    def limited(self, able: Means, **settings: Any) -> Network:
        """
        @return: one on a host that is able to do less.
        """
        network = Network(
            config.Network(**settings),
            INSTANCE,
            Path(self.directory, "a"),
            ip.Tools(self.spawner, self.clock),
            self.clock,
            able,
        )
        self.recover(network)
        return network

    def recover(self, network: Network, *known: int, keep_strays: bool = False) -> None:
        support.run(self.loop, network.recover(known, keep_strays))

    def connect(self, network: Network, serial: int, child: Child | None = None, **rspec: int) -> Child:
        """
        @return: what is connected, as well as can be.
        """
        child = child or Child(self)
        self.assertEqual(support.run(self.loop, network.connect(serial, child.pid, rspec)), [])
        return child

    def listen(self, child: Child) -> None:
        """
        Let a sliver send to whoever connects to it.
        """
        writer = subprocess.Popen(["nsenter", "-t", str(child.pid), "-n", sys.executable, "-c", _WRITER])
        self.addCleanup(writer.wait)
        self.addCleanup(writer.kill)

    def rates(self, *sources: tuple[str, str], seconds: float = 0.0) -> list[float]:
        """
        @param sources: addresses of slivers that listen, and of the host who reads from there, all at the same time.
        @return: bytes a second, each.
        """
        seconds = seconds or scaled(1.0, 5.0)
        readers = [
            subprocess.Popen([sys.executable, "-c", _READER, *pair, str(seconds)], stdout=subprocess.PIPE, text=True)
            for pair in sources
        ]
        try:
            return [float(reader.communicate(timeout=60)[0]) for reader in readers]
        finally:
            for reader in readers:
                reader.kill()
                with suppress(OSError):
                    reader.wait()


class ReachTests(NetworkCase):
    """
    Who reaches whom.
    """

    def test_slivers(self) -> None:
        """
        A sliver has the address that was told, loopback, and the host answers its ping; the next sliver does not, nor
        is its hardware address to be learned.
        """
        network = self.network()
        first, second = self.connect(network, 1), self.connect(network, 2)
        self.assertIn(f"inet {network.address(1)}/16", first.run("ip", "address", "show", "dev", "eth0").stdout)
        reached = [first.pings(address) for address in ("127.0.0.1", "10.98.0.1", network.address(2))]
        self.assertEqual(reached, [True, True, False])
        self.assertNotIn("lladdr", first.run("ip", "neighbour", "show", network.address(2)).stdout)
        self.assertIn("lladdr", first.run("ip", "neighbour", "show", "10.98.0.1").stdout)
        self.assertTrue(second.pings("10.98.0.1"))
        self.assertEqual(network.problems(), [])

    def test_together(self) -> None:
        """
        Slivers reach each other where they are told to.
        """
        network = self.network(together=True)
        first, _ = self.connect(network, 1), self.connect(network, 2)
        self.assertTrue(first.pings(network.address(2)))
        self.assertEqual(network.problems(), [])

    def test_hostIsShut(self) -> None:
        """
        A service of the host on all its addresses is not there for slivers; one of the sliver's is there for the host.
        """
        network = self.network()
        child = self.connect(network, 1)
        self.listen(child)
        listening = subprocess.Popen(["busybox", "nc", "-l", "-p", "7788"])
        self.addCleanup(listening.wait)
        self.addCleanup(listening.kill)
        support.until(self.loop, lambda: "7788" in said("ss", "-ltn"))
        self.assertNotEqual(child.run("busybox", "nc", "-w", "1", "10.98.0.1", "7788").returncode, 0)
        self.assertIsNone(listening.poll())
        self.assertGreater(self.rates((network.address(1), ""), seconds=0.1)[0], 0)

    def test_falseAddress(self) -> None:
        """
        What bears another's address, or another's hardware address, does not come through; what is right does again.
        """
        network = self.network()
        child = self.connect(network, 1)
        child.run("ip", "address", "add", "10.98.77.7/16", "dev", "eth0")
        ping = ("busybox", "ping", "-c", "1", "-W", "1", "10.98.0.1")
        self.assertNotEqual(child.run(*ping[:-1], "-I", "10.98.77.7", ping[-1]).returncode, 0)
        hardware = Names(INSTANCE).hardware(1)
        child.run("ip", "link", "set", "dev", "eth0", "address", "02:00:00:00:00:99")
        self.assertFalse(child.pings("10.98.0.1"))
        child.run("ip", "link", "set", "dev", "eth0", "address", hardware)
        self.assertTrue(child.pings("10.98.0.1"))

    def test_falseHardwareAddressInArp(self) -> None:
        """
        A sliver that says that its address is at another's hardware does not have its packets sent there; nor does what
        hides in a VLAN come through.
        """
        network = self.network()
        child = self.connect(network, 1)
        hardware, address = Names(INSTANCE).hardware(1), network.address(1)
        for other in ("02:00:00:00:00:99", hardware):
            said("ip", "neighbour", "flush", "dev", Names(INSTANCE).bridge)
            for vlan in ("", "81000007"):
                child.run(sys.executable, "-c", _SAYS, hardware, vlan, other, address, "10.98.0.1")
            entry = said("ip", "neighbour", "show", address)
            self.assertEqual(other in entry, other == hardware, entry)

    def world(self) -> Child:
        """
        @return: a machine out there, 198.51.100.2, that knows the host only as 198.51.100.1; another network of it is
            192.0.2.2.
        """
        world = Child(self)
        said("ip", "link", "add", "name", "up0", "type", "veth", "peer", "name", "eth0", "netns", str(world.pid))
        said("ip", "address", "add", "198.51.100.1/24", "dev", "up0")
        said("ip", "link", "set", "dev", "up0", "up")
        said("ip", "route", "add", "192.0.2.0/24", "via", "198.51.100.2")
        world.run("ip", "link", "set", "dev", "lo", "up")
        world.run("ip", "address", "add", "198.51.100.2/24", "dev", "eth0")
        world.run("ip", "address", "add", "192.0.2.2/32", "dev", "lo")
        world.run("ip", "link", "set", "dev", "eth0", "up")
        return world

    def test_wayOut(self) -> None:
        """
        With NAT a sliver reaches the world, but for what is forbidden; the world does not reach the sliver.
        """
        world = self.world()
        network = self.network(nat=True, forbidden="192.0.2.0/24")
        child = self.connect(network, 1)
        self.assertEqual([child.pings(one) for one in ("198.51.100.2", "192.0.2.2")], [True, False])
        world.run("ip", "route", "add", "10.98.0.0/16", "via", "198.51.100.1")
        self.assertFalse(world.pings(network.address(1)))
        self.assertTrue(world.pings("198.51.100.1"))

    def test_wayShut(self) -> None:
        """
        Without NAT there is no way out, even where the host passes packets on for others; and what was switched on for
        NAT is switched off once it is not wanted any more, while what the host did before stays.
        """
        switch = Path("/proc/sys/net/ipv4/ip_forward")
        switch.write_text("0")
        world = self.world()
        child = self.connect(self.network(nat=True), 1)
        self.assertEqual((switch.read_text(), child.pings("198.51.100.2")), ("1\n", True))
        self.connect(self.network(1), 1, child)
        self.assertEqual((switch.read_text(), child.pings("198.51.100.2")), ("0\n", False))
        switch.write_text("1")
        self.network(1, nat=True)
        self.connect(self.network(1), 1, child)
        world.run("ip", "route", "add", "10.98.0.0/16", "via", "198.51.100.1")
        self.assertEqual((switch.read_text(), child.pings("198.51.100.2")), ("1\n", False))


class LifeTests(NetworkCase):
    """
    What comes, stays, and goes.
    """

    def test_oneProcess(self) -> None:
        """
        To connect a sliver costs one process of the daemon's, to connect it again (after a restart) two more.
        """
        network = self.network()
        self.connect(network, 2)
        before = self.spawner.started
        child = self.connect(network, 1)
        self.assertEqual(self.spawner.started - before, 1)
        self.connect(network, 1, child)
        self.assertLessEqual(self.spawner.started - before, 4)

    def test_restart(self) -> None:
        """
        A connection of a sliver lives through a restart of the daemon, and its address stays.
        """
        network = self.network()
        child = self.connect(network, 1)
        self.listen(child)
        address = network.address(1)
        reader = subprocess.Popen([sys.executable, "-c", _READER, address, "", "2"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(reader.kill)
        support.idle(self.loop, 0.7)
        network.close()
        index = said("cat", "/proc/net/dev")
        again = self.network(1)
        self.connect(again, 1, child)
        self.assertGreater(float(reader.communicate(timeout=30)[0]), 0)
        self.assertEqual(again.address(1), address)
        self.assertEqual(len(index.splitlines()), len(said("cat", "/proc/net/dev").splitlines()))
        self.assertEqual(again.problems(), [])

    def test_endOfSliver(self) -> None:
        """
        With the sliver's namespace its veth goes; it comes again with the same address; forgotten, all is as before.
        """
        network = self.network()
        self.connect(network, 2)

        def seen() -> list[object]:
            classes = said("tc", "class", "show", "dev", Names(INSTANCE).shaper).splitlines()
            filters = said("tc", "filter", "show", "dev", Names(INSTANCE).shaper).splitlines()
            return [links(), said("nft", "list", "ruleset"), sorted(classes), sorted(filters)]

        before = seen()
        child = self.connect(network, 1)
        address, end = network.address(1), Names(INSTANCE).end(1)
        self.assertIn(end, links())
        child.end()
        support.until(self.loop, lambda: end not in links())
        child = self.connect(network, 1)
        self.assertTrue(child.pings("10.98.0.1"))
        self.assertEqual(network.address(1), address)
        support.run(self.loop, network.forget(1))
        self.assertEqual(seen(), before)
        self.assertEqual(network.in_force(1), {})

    def test_last(self) -> None:
        """
        With the last sliver all that was made on the host goes; so it does after a start that knows of none, while a
        network that only lost its records stays.
        """
        switch = Path("/proc/sys/net/ipv4/ip_forward")
        switch.write_text("0")
        untouched = links(), said("nft", "list", "ruleset")
        network = self.network(nat=True)
        self.assertEqual((links(), said("nft", "list", "ruleset")), untouched)
        self.connect(network, 1)
        self.assertEqual(switch.read_text(), "1\n")
        support.run(self.loop, network.forget(1))
        self.assertEqual((links(), said("nft", "list", "ruleset"), switch.read_text()), (*untouched, "0\n"))
        self.assertTrue(self.connect(network, 2).pings("10.98.0.1"))
        again, _ = self.found(nat=True)
        assert again is not None
        self.recover(again, keep_strays=True)
        self.assertIn(Names(INSTANCE).end(2), links())
        again = self.network(nat=True)
        self.assertEqual((links(), said("nft", "list", "ruleset"), switch.read_text()), (*untouched, "0\n"))
        self.assertEqual(again.problems(), [])

    def test_strays(self) -> None:
        """
        After a start what belongs to no sliver is removed; what is not ours, and looks like it, stays.
        """
        names = Names(INSTANCE)
        network = self.network()
        kept, stray = self.connect(network, 1), self.connect(network, 2)
        said("ip", "link", "add", "name", names.ends + "zz", "type", "bridge")
        unfinished = ("ip", "link", "add", "name", names.ends + "9", "group", str(names.group), "type", "bridge")
        said(*unfinished)
        again = self.network(1)
        self.assertEqual(
            links() - {"lo"} - _ready_made(), {names.bridge, names.shaper, names.end(1), names.ends + "zz"}
        )
        self.assertEqual((kept.pings("10.98.0.1"), stray.pings("10.98.0.1")), (True, False))
        self.assertEqual(again.in_force(2), {})
        self.assertNotIn(names.end(2), said("nft", "list", "ruleset"))

    def test_keepStrays(self) -> None:
        """
        Where records were lost nothing is removed, and what is kept is told.
        """
        child = self.connect(self.network(), 2)
        network, _ = self.found()
        assert network is not None
        self.recover(network, 1, keep_strays=True)
        self.assertTrue(child.pings("10.98.0.1"))
        self.assertEqual(network.problems(), ["sliver 2 has no record and keeps its address"])

    def test_taken(self) -> None:
        """
        Where an interface of somebody else's has the name, the sliver's problem says so, and it is not touched.
        """
        name = Names(INSTANCE).end(1)
        network = self.network()
        said("ip", "link", "add", "name", name, "type", "bridge")
        problems = support.run(self.loop, network.connect(1, Child(self).pid, {}))
        self.assertEqual(problems, [f"no network: an interface {name} is there that is not ours"])
        support.run(self.loop, network.forget(1))
        self.assertIn(name, links())

    def test_hostsOwnNamespace(self) -> None:
        """
        A process that shares the host's network gets nothing, least of all the host's eth0.
        """
        network = self.network()
        before = links()
        problems = support.run(self.loop, network.connect(1, os.getpid(), {}))
        self.assertIn("the host's own network namespace", problems[0])
        self.assertEqual(links(), before)

    def test_processIsGone(self) -> None:
        """
        A process that ended meanwhile is a problem in words.
        """
        network, child = self.network(), Child(self)
        child.end()
        self.assertIn("No such file", support.run(self.loop, network.connect(1, child.pid, {}))[0])

    def test_sideBySide(self) -> None:
        """
        Two daemons on a host have networks of their own; the second is told if it asks for the first's, be it then or
        later, and neither removes what is the other's.
        """
        other = "5b1e88ff00000000"
        first, late = self.network(), self.network(instance="77", state="c")
        one = self.connect(first, 1)
        problems = support.run(self.loop, late.connect(1, Child(self).pid, {}))
        self.assertIn("10.98.0.0/16 is in use", "".join(problems))
        network, why = self.found(other, "b")
        self.assertIsNone(network)
        self.assertIn("10.98.0.0/16 is in use", why)
        second = self.network(instance=other, state="b", subnet="10.99.0.0/16")
        two = self.connect(second, 1)
        self.network(1)
        self.network(1, instance=other, state="b", subnet="10.99.0.0/16")
        self.assertEqual((one.pings("10.98.0.1"), two.pings("10.99.0.1")), (True, True))
        self.assertEqual((one.pings(second.address(1)), two.pings(first.address(1))), (False, False))

    def test_flushed(self) -> None:
        """
        Who empties the host's tables does not open it to slivers for long: when somebody looks, all is put right; and
        the next sliver is connected as ever.
        """
        network = self.network()
        child = self.connect(network, 1, net_max=8 * MBIT)
        rules = said("nft", "list", "ruleset")
        said("nft", "flush", "ruleset")
        support.run(self.loop, network.read())
        self.assertEqual(said("nft", "list", "ruleset"), rules)
        said("nft", "flush", "ruleset")
        said("ip", "link", "delete", "dev", Names(INSTANCE).shaper)
        second = self.connect(network, 2)
        self.assertEqual((child.pings("10.98.0.1"), second.pings("10.98.0.1")), (True, True))
        self.assertEqual((network.in_force(1)["net_max"], network.problems()), (8 * MBIT, []))

    def test_halfMade(self) -> None:
        """
        A veth that a daemon had just made when it was killed is taken over, and finished.
        """
        names, child = Names(INSTANCE), Child(self)
        network = self.network()
        self.connect(network, 2)
        made = ("ip", "link", "add", "name", names.end(1), "group", str(names.group), "type", "veth", "peer", "name")
        said(*made, "eth0", "address", names.hardware(1), "netns", str(child.pid))
        self.connect(network, 1, child)
        self.assertTrue(child.pings("10.98.0.1"))
        self.assertIn(names.alias(1), said("ip", "link", "show", "dev", names.end(1)))

    def test_killed(self) -> None:
        """
        A daemon that is killed at any moment while it connects slivers leaves nothing that the next cannot finish, and
        nothing is left when they are forgotten.
        """
        untouched = links(), said("nft", "list", "ruleset")
        chance = random.Random(3)
        for attempt in range(scaled(6, 50)):
            children = [Child(self) for _ in range(4)]
            argv = [sys.executable, "-c", _DAEMON, str(self.directory), INSTANCE, *(str(one.pid) for one in children)]
            daemon = subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PYTHONPATH})
            self.addCleanup(daemon.wait)
            self.addCleanup(daemon.kill)
            assert daemon.stdout is not None
            self.assertEqual(daemon.stdout.readline(), b"begin\n")
            time.sleep(chance.random() * 0.15)
            daemon.kill()
            daemon.stdout.close()
            time.sleep(0.3)  # what it was running goes on to its end
            network = self.network(1, 2, 3, 4)
            for serial, child in enumerate(children, 1):
                self.connect(network, serial, child)
            self.assertEqual([child.pings("10.98.0.1") for child in children], [True] * 4, f"attempt {attempt}")
            self.assertEqual(network.problems(), [])
            for serial in range(1, 5):
                support.run(self.loop, network.forget(serial))
            self.assertEqual((links(), said("nft", "list", "ruleset")), untouched)
            for child in children:
                child.end()

    def test_notHere(self) -> None:
        """
        Where the network is switched off, or its addresses are in use, the reason is told, and nothing is changed.
        """
        self.assertEqual(self.found(bridge=False), (None, "no network for slivers: network.bridge = false"))
        said("ip", "route", "add", "10.98.3.0/24", "dev", "lo")
        self.assertIn("(10.98.3.0/24 dev lo); set network.subnet", self.found()[1])
        self.assertEqual(links(), {"lo"} | _ready_made())


class RateTests(NetworkCase):
    """
    What slivers send, measured. Rates are compared with each other, never with a clock alone.
    """

    def test_most(self) -> None:
        """
        A sliver sends net_max and no more, also once it is changed, up and down; in_force says what is so.
        """
        network = self.network()
        child = self.connect(network, 1, net_max=20 * MBIT)
        self.listen(child)
        pair = (network.address(1), "")
        low = self.rates(pair)[0]
        self.assertEqual(network.in_force(1)["net_max"], 20 * MBIT)
        support.run(self.loop, network.shape(1, {"net_max": 80 * MBIT}))
        high = self.rates(pair)[0]
        self.assertEqual(network.in_force(1)["net_max"], 80 * MBIT)
        support.run(self.loop, network.shape(1, {"net_max": 20 * MBIT}))
        again = self.rates(pair)[0]
        self.assertAlmostEqual(high / low, 4, delta=0.6)
        self.assertAlmostEqual(high / again, 4, delta=0.6)
        self.assertLess(high * 8, 80 * MBIT * 1.1)

    def test_fromNearlyNothing(self) -> None:
        """
        A sliver held to next to nothing sends again at once when it may.
        """
        network = self.network()
        child = self.connect(network, 1, net_max=8)
        self.listen(child)
        child.pings("10.98.0.1")
        child.pings("10.98.0.1")
        support.run(self.loop, network.shape(1, {"net_max": 40 * MBIT}))
        self.assertGreater(self.rates((network.address(1), ""))[0] * 8, 20 * MBIT)

    def test_share(self) -> None:
        """
        Two slivers that want all there is get it by net_share, 1 to 3; and of net_min what was promised.
        """
        network = self.network(rate_kbps=40_000)
        one, two = self.connect(network, 1), self.connect(network, 2, net_share=3)
        self.listen(one)
        self.listen(two)
        pairs = (network.address(1), ""), (network.address(2), "")
        first, second = self.rates(*pairs, seconds=scaled(2.0, 6.0))
        self.assertAlmostEqual(second / first, 3, delta=0.5)
        self.assertAlmostEqual((first + second) * 8 / MBIT, 38, delta=3)
        support.run(self.loop, network.shape(1, {"net_min": 30 * MBIT}))
        first, second = self.rates(*pairs, seconds=scaled(2.0, 6.0))
        self.assertGreater(first * 8, 28 * MBIT)

    def test_exempt(self) -> None:
        """
        To exempt destinations net2_max counts, and to others net_max, at the same time.
        """
        said("ip", "address", "add", "198.51.100.1/32", "dev", "lo")
        network = self.network(exempt="198.51.100.0/24")
        self.listen(self.connect(network, 1, net_max=10 * MBIT, net2_max=30 * MBIT))
        usual, exempt = self.rates((network.address(1), ""), (network.address(1), "198.51.100.1"))
        self.assertAlmostEqual(exempt / usual, 3, delta=0.4)

    def test_extremes(self) -> None:
        """
        The least and the most that may be asked for is taken, and told again.
        """
        network = self.network()
        child = Child(self)
        for rspec in (
            {"net_min": 0, "net_max": 8, "net2_min": 0, "net2_max": 8, "net_share": 1},
            {"net_min": 10**12, "net_max": 10**12, "net2_min": 8, "net2_max": 2**62, "net_share": 10**9},
            {"net_min": 12345678, "net_max": 123456789, "net2_min": 9, "net2_max": 10**9 + 1, "net_share": 7},
        ):
            self.connect(network, 1, child, **rspec)
            self.assertEqual(network.in_force(1), rspec)
            support.run(self.loop, network.read())
            self.assertEqual(network.in_force(1), rspec)

    def test_drift(self) -> None:
        """
        What somebody else changed is seen, and the next shape() mends it.
        """
        network, names = self.network(), Names(INSTANCE)
        self.connect(network, 1, net_max=8 * MBIT)
        number = f"1:{2 * (int(IPv4Address(network.address(1))) & 0xFFFF):x}"
        order = ("dev", names.shaper, "parent", "1:1", "classid", number, "htb", "rate", "16mbit", "ceil", "16mbit")
        said("tc", "class", "change", *order)
        support.run(self.loop, network.read())
        self.assertIn(16 * MBIT, network.in_force(1).values())
        self.assertEqual(support.run(self.loop, network.shape(1, {"net_max": 8 * MBIT})), [])
        self.assertEqual((network.in_force(1)["net_max"], network.in_force(1)["net_min"]), (8 * MBIT, 8))

    def test_withoutTree(self) -> None:
        """
        On a host that cannot have the common tree each sliver is held to its own most, also to exempt destinations;
        what does not hold is told.
        """
        said("ip", "address", "add", "198.51.100.1/32", "dev", "lo")
        network = self.limited(Means(tree=False), exempt="198.51.100.0/24")
        child = self.connect(network, 1, net_max=10 * MBIT, net2_max=30 * MBIT)
        self.listen(child)
        usual, exempt = self.rates((network.address(1), ""), (network.address(1), "198.51.100.1"))
        self.assertAlmostEqual(exempt / usual, 3, delta=0.4)
        self.assertLess(usual * 8, 10 * MBIT)
        self.assertEqual(support.run(self.loop, network.shape(1, {"net_max": 20 * MBIT})), [])
        self.assertEqual(network.in_force(1), {"net_max": 20 * MBIT, "net2_max": 10**9})
        self.assertIn("net_min and net_share do not hold", network.problems()[0])
        self.connect(network, 1, child, net_max=5 * MBIT)
        self.assertEqual(network.in_force(1)["net_max"], 5 * MBIT)

    def test_ableToNothing(self) -> None:
        """
        On a host with next to nothing slivers have a network, and the operator is told what it lacks.
        """
        network = self.limited(evolve(Means(False, False, False, False, False)), nat=True, dns="192.0.2.53")
        child = self.connect(network, 1)
        self.assertTrue(child.pings("10.98.0.1"))
        self.assertEqual(len(network.problems()), 4)
        self.assertEqual(network.in_force(1), {})
        support.run(self.loop, network.forget(1))


class ManyTests(NetworkCase):
    """
    More than a few.
    """

    def test_many(self) -> None:
        """
        Many are connected at the same time, each has its address, and when they are forgotten nothing is left.
        """
        count = scaled(20, 200)
        network = self.network()
        before = links(), said("nft", "list", "ruleset"), Path("/proc/sys/net/ipv4/ip_forward").read_text()
        children = [Child(self) for _ in range(count)]
        begun = time.monotonic()

        async def connect(serial: int, child: Child) -> list[str]:
            return await network.connect(serial, child.pid, {})

        async def forget() -> None:
            await gatherResults([Deferred.fromCoroutine(network.forget(serial)) for serial in range(1, count + 1)])

        for serial, child in enumerate(children, 1):
            self.assertEqual(support.run(self.loop, connect(serial, child)), [])
        print(f"{(time.monotonic() - begun) * 1000 / count:.1f} ms to connect one of {count}")
        self.assertEqual(len({network.address(serial) for serial in range(1, count + 1)}), count)
        self.assertTrue(children[-1].pings("10.98.0.1"))
        spawned = self.spawner.started
        support.run(self.loop, forget(), 60)
        self.assertLess(self.spawner.started - spawned, 6)  # those that go at the same time go together
        after = links(), said("nft", "list", "ruleset"), Path("/proc/sys/net/ipv4/ip_forward").read_text()
        self.assertEqual(after, before)


def _ready_made() -> set[str]:
    """
    @return: what the kernel puts into each namespace once the module is there.
    """
    return links() & {"ifb0", "ifb1"}
