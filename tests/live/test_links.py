"""
The links of experiments, in the kernel: who reaches whom, how late, how fast, and what is left behind.

As in L{tests.live.test_network}, the host of these tests is a network namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from hostline.server.drivers.driver import Interface
from hostline.server.network.fabric import Able, Link, Member, Names, Shape
from hostline.server.network.links import Links
from tests import needs
from tests.live import support, test_network
from tests.live.test_network import Child, said
from tests.scale import scaled

#: Each run has its own: what filters for it is found by that.
INSTANCE = os.urandom(8).hex()
#: How far what is measured may be from what was declared.
WITHIN = 0.1

#: A daemon that recovers, says so, and has three nodes on a delayed LAN and a plain link again and again.
_DAEMON = """
import asyncio, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from hostline.server.network.links import Links
from hostline.server.supervise.spawn import Spawner
from tests.live.support import LoopClock
from tests.live.test_links import Link, interface, member

async def work(loop):
    pids = [int(pid) for pid in sys.argv[3:]]
    links, why = await Links.find(
        sys.argv[2], Spawner(loop), LoopClock(loop), run=Path(sys.argv[1], "run"), loop=loop, uid=64999
    )
    links.tell({"9/a": Link("9/a", tuple(member(at, delay_ms=5.0, rate_kbps=9000.0) for at in (1, 2, 3)))})
    links.tell({"9/b": Link("9/b", tuple(member(at, "inf001") for at in (1, 2)))})
    await links.recover(range(1, 4))
    print("begin", flush=True)
    while True:
        for serial, pid in enumerate(pids, 1):
            other = [interface(serial, "9/b", "inf001", f"10.1.2.{serial + 1}/24")] if serial < 3 else []
            await links.plug(serial, pid, [interface(serial), *other], [], forwards=serial == 1)
        for serial in range(1, 4):
            await links.unplug(serial)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(Deferred.fromCoroutine(work(loop)).asFuture(loop))
"""


def member(serial: int, name: str = "inf000", /, **shape: Any) -> Member:
    """
    @return: one that has the same both ways.
    """
    return Member(serial, name, Shape(**shape), Shape(**shape))


def interface(serial: int, link: str = "9/a", name: str = "inf000", address: str = "") -> Interface:
    """
    @return: that of a sliver on a link.
    """
    return Interface(name, link, f"02:00:00:00:00:{serial:02x}", address or f"10.1.1.{serial + 1}/24")


async def together(coroutines: Iterable[Coroutine[Deferred[Any], Any, None]]) -> None:
    """
    Do all at the same time.
    """
    await gatherResults([Deferred.fromCoroutine(one) for one in coroutines])


def command(pid: int) -> str:
    """
    @return: what a process runs.
    """
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def filters() -> set[int]:
    """
    @return: the living processes that filter for our instance.
    """
    found = set()
    for one in Path("/proc").iterdir():
        with suppress(OSError):
            if one.name.isdigit() and f"HOSTLINE_LINK={INSTANCE}/".encode() in (one / "environ").read_bytes():
                found |= {int(one.name)} if support.living(int(one.name)) else set()
    return found


@needs.needs_root
@needs.needs_tool("ip", "tc", "nft", "nsenter", "unshare", "busybox", "ping")
class LinksCase(test_network.NetworkCase):
    """
    A host with links.
    """

    def found_links(self, instance: str = INSTANCE) -> Links:
        """
        @return: as a daemon finds what can be done.
        """
        finding = Links.find(instance, self.spawner, self.clock, run=self.directory / "run", loop=self.loop, uid=64999)
        links, why = support.run(self.loop, finding)
        if links is None:
            raise AssertionError(why)
        self.addCleanup(self.end_filters, links)
        return links

    def end_filters(self, links: Links) -> None:
        """
        Kill what a test has left.
        """
        links.close()
        for pid in filters():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def links(self, *told: Link, known: Sequence[int] = (), instance: str = INSTANCE) -> Links:
        """
        @return: what has recovered, and knows of these links.
        """
        links = self.found_links(instance)
        links.tell({one.name: one for one in told})
        support.run(self.loop, links.recover(known))
        return links

    def plug(self, links: Links, serial: int, *interfaces: Interface, child: Child | None = None, **more: Any) -> Child:
        """
        @return: what is on them, as well as can be.
        """
        child = child or Child(self)
        routes = more.pop("routes", ())
        more.setdefault("forwards", False)
        said = support.run(self.loop, links.plug(serial, child.pid, interfaces, routes, **more))
        self.assertEqual(said, [])
        return child

    def devices(self) -> set[str]:
        """
        @return: all but loopback of the test's host.
        """
        return {str(link["ifname"]) for link in json.loads(said("ip", "-j", "link", "show"))} - {"lo"}

    def pair(self, **shape: Any) -> tuple[Links, Child, Child]:
        """
        @return: a link of two, and who is on it: 10.1.1.2 and 10.1.1.3.
        """
        links = self.links(Link("9/a", (member(1, **shape), member(2, **shape))))
        return links, self.plug(links, 1, interface(1)), self.plug(links, 2, interface(2))


class ReachTests(LinksCase):
    """
    Who reaches whom.
    """

    def test_linkOfTwo(self) -> None:
        """
        Two nodes on a link reach each other, with the names, MACs and addresses that they were given.
        """
        links, first, second = self.pair()
        self.assertTrue(first.pings("10.1.1.3"))
        self.assertTrue(second.pings("10.1.1.2"))
        shown = json.loads(first.run("ip", "-j", "address", "show", "dev", "inf000").stdout)[0]
        self.assertEqual((shown["address"], shown["mtu"]), ("02:00:00:00:00:01", 1500))
        self.assertEqual(links.problems(), [])

    def test_otherLinksAreApart(self) -> None:
        """
        What is on another link is not reached, though it has an address of the same subnet.
        """
        links = self.links(Link("9/a", (member(1), member(2))), Link("9/b", (member(3), member(4))))
        first = self.plug(links, 1, interface(1))
        self.plug(links, 3, interface(3, "9/b"))
        self.assertFalse(first.pings("10.1.1.4"))

    def test_hostIsApart(self) -> None:
        """
        Nothing on a link reaches the host: it answers neither for its own addresses, nor what is sent to its bridge.
        """
        said("ip", "link", "add", "name", "up0", "type", "bridge")
        said("ip", "address", "add", "198.51.100.1/24", "dev", "up0")
        said("ip", "link", "set", "dev", "up0", "up")
        for guard in (True, False):
            links = self.links(Link("9/a", (member(1), member(2))))
            links.able = Able(guard=guard)
            first = self.plug(links, 1, interface(1))
            first.run("ip", "route", "add", "198.51.100.0/24", "dev", "inf000")
            self.assertFalse(first.pings("198.51.100.1"))
            self.assertNotIn("lladdr", first.run("ip", "neighbour", "show", "198.51.100.1").stdout)
            bridge = next(one for one in self.devices() if one.startswith(Names(INSTANCE).start + "b"))
            address = json.loads(said("ip", "-j", "link", "show", "dev", bridge))[0]["address"]
            first.run("ip", "neighbour", "replace", "198.51.100.1", "lladdr", address, "dev", "inf000")
            self.assertFalse(first.pings("198.51.100.1"))
            support.run(self.loop, links.unplug(1))

    def test_chain(self) -> None:
        """
        Over two that pass on, the ends of a chain reach each other, with no more than the routes that they were given.
        """
        told = [Link(f"9/l{at}", (member(at, "inf001"), member(at + 1, "inf000"))) for at in (1, 2, 3)]
        links = self.links(*told)
        children = {}
        for at in (1, 2, 3, 4):
            faces = []
            if at > 1:
                faces.append(interface(at, f"9/l{at - 1}", "inf000", f"10.1.{at - 1}.3/24"))
            if at < 4:
                faces.append(interface(at + 16, f"9/l{at}", "inf001", f"10.1.{at}.2/24"))
            routes = [(f"10.1.{n}.0/24", f"10.1.{at}.3") for n in range(at + 1, 4)]
            routes += [(f"10.1.{n}.0/24", f"10.1.{at - 1}.2") for n in range(1, at - 1)]
            children[at] = self.plug(links, at, *faces, routes=routes, forwards=at in (2, 3))
        self.assertTrue(children[1].pings("10.1.3.3"))
        self.assertTrue(children[4].pings("10.1.1.2"))
        again = self.plug(links, 2, interface(2, "9/l1", "inf000", "10.1.1.3/24"), child=children[2])
        self.assertNotIn("inf001", again.run("ip", "link", "show").stdout)
        self.assertEqual(again.run("ip", "route", "show", "proto", "197").stdout, "")

    def test_otherAddress(self) -> None:
        """
        An address that is changed is another at once, and what a user added stays.
        """
        links, first, _ = self.pair()
        first.run("ip", "address", "add", "10.7.7.7/24", "dev", "inf000")
        self.plug(links, 1, interface(1, address="10.1.1.77/24"), child=first)
        shown = first.run("ip", "-4", "-o", "address", "show", "dev", "inf000").stdout
        self.assertEqual(re.findall(r"inet (\S+)", shown), ["10.7.7.7/24", "10.1.1.77/24"])
        self.assertTrue(first.pings("10.1.1.3"))


class ShapeTests(LinksCase):
    """
    How late, how fast, and how much is lost.
    """

    def rtt(self, child: Child, address: str = "10.1.1.3", count: int = 0) -> float:
        """
        @return: milliseconds there and back, where nothing else holds us up: what nine of ten exceed.
        """
        count = count or scaled(20, 100)
        said = child.run("ping", "-i", "0.05", "-c", str(count), address).stdout
        times = sorted(float(one) for one in re.findall(r"time=([0-9.]+)", said))
        self.assertGreater(len(times), count // 2, said)
        return times[len(times) // 10]

    def assertNear(self, found: float, wanted: float) -> None:
        self.assertLess(abs(found - wanted), WITHIN * wanted, f"{found} is not {wanted}")

    def change(self, links: Links, *members: Member) -> None:
        links.tell({"9/a": Link("9/a", members)})
        support.run(self.loop, links.settle())

    def sent(self, sender: Child, receiver: Child, address: str, *options: str) -> dict[str, Any]:
        """
        @return: what iperf3 says in the end.
        """
        server = subprocess.Popen(["nsenter", "-t", str(receiver.pid), "-n", "iperf3", "-s", "-1"], stdout=-3)
        try:
            support.until(self.loop, lambda: ":5201" in receiver.run("ss", "-ltn").stdout)
            said = sender.run("iperf3", "-J", "-c", address, "-t", str(scaled(2, 5)), *options)
            return dict(json.loads(said.stdout)["end"])
        finally:
            server.kill()
            server.wait()

    def assertRate(self, sender: Child, receiver: Child, address: str, kbps: float) -> None:
        """
        Frames that are sent faster come at this rate, 1442 bytes of each 1484 being for iperf3 to count.
        """
        many = f"{kbps * 1.5:.0f}k"
        end = self.sent(sender, receiver, address, "-u", "-b", many, "-l", "1442")
        got = end["sum"]["bytes"] * (1 - end["sum"]["lost_percent"] / 100) * 8 / end["sum"]["seconds"] / 1000
        self.assertNear(got * 1484 / 1442, kbps)

    def assertLoss(self, child: Child, loss: float, address: str = "10.1.1.3") -> None:
        """
        So much of what goes there and back is lost, within four standard deviations.
        """
        count = scaled(1000, 4000)
        said = child.run("ping", "-q", "-i", "0.002", "-c", str(count), "-W", "1", address).stdout
        found = 1 - int(re.findall(r"(\d+) received", said)[0]) / count
        self.assertLess(abs(found - loss), 4 * (loss * (1 - loss) / count) ** 0.5 + 0.001, said)

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_delay(self) -> None:
        """
        10 ms one way are 20 ms there and back; and what is changed is so at once, while the link goes on.
        """
        links, first, _ = self.pair(delay_ms=10.0)
        self.rtt(first, count=4)
        self.assertNear(self.rtt(first), 20.0)
        pids = filters()
        for delay in (5.0, 33.3):
            self.change(links, member(1, delay_ms=delay), member(2, delay_ms=delay))
            self.assertNear(self.rtt(first), 2 * delay)
        self.assertEqual((links.shaped_by("9/a"), links.problems(), filters()), ("wirefilter", [], pids))

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_goneWhileTheDaemonWas(self) -> None:
        """
        Of a link that the next daemon does not want there is nothing: no process, no socket of its switches; nor is
        there anything of what ended meanwhile.
        """
        links, _, _ = self.pair(delay_ms=10.0)
        place = self.directory / "run/links"
        self.assertEqual(len(list(place.iterdir())), 3)
        links.close()
        (place / "stale.s").mkdir()
        (place / "stale.s/ctl").touch()
        (place / "stale.m").touch()
        self.links()
        support.until(self.loop, lambda: not filters())
        self.assertEqual(list(place.iterdir()), [])

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_ways(self) -> None:
        """
        Each way has its own: what the one is delayed the other is not, nor does it wait for it.
        """
        shapes = Shape(delay_ms=40.0), Shape(delay_ms=5.0)
        links = self.links(Link("9/a", (Member(1, "inf000", *shapes), Member(2, "inf000", shapes[1], shapes[0]))))
        first = self.plug(links, 1, interface(1))
        self.plug(links, 2, interface(2))
        self.assertNear(self.rtt(first), 45.0)

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_loss(self) -> None:
        """
        A tenth lost each way is 19 of 100 lost there and back.
        """
        links, first, _ = self.pair(loss=0.1)
        self.assertLoss(first, 0.19)
        self.change(links, member(1), member(2))
        self.assertLoss(first, 0.0)
        self.assertEqual((links.shaped_by("9/a"), filters()), (None, set()))

    @needs.needs_tool("iperf3")
    def test_rate(self) -> None:
        """
        A rate is held, each way, and changed while the link goes on.
        """
        links, first, second = self.pair(rate_kbps=10_000.0)
        self.assertRate(first, second, "10.1.1.3", 10_000.0)
        end = self.sent(second, first, "10.1.1.2")
        self.assertNear(end["sum_received"]["bits_per_second"], 10e6 * 1448 / 1514)
        self.change(links, member(1, rate_kbps=600.0), member(2, rate_kbps=600.0))
        self.assertRate(second, first, "10.1.1.2", 600.0)
        self.assertEqual(links.shaped_by("9/a"), "tbf")

    @needs.needs_tool("iperf3", "vde_switch", "wirefilter")
    def test_rateAndDelay(self) -> None:
        """
        Both at once: the rate is filled though much is on its way at any time.
        """
        _, first, second = self.pair(rate_kbps=20_000.0, delay_ms=20.0)
        self.assertNear(self.rtt(first), 40.0)
        self.assertRate(first, second, "10.1.1.3", 20_000.0)

    @needs.needs_tool("iperf3", "vde_switch", "wirefilter")
    def test_lan(self) -> None:
        """
        On a LAN each pair has what the LAN has; one that sends slower does so to all, and the others do not.
        """
        slow = Member(3, "inf000", Shape(5_000.0, 10.0), Shape(0.0, 10.0))
        told = Link("9/a", (member(1, delay_ms=10.0), member(2, delay_ms=10.0), slow))
        links = self.links(told)
        children = [self.plug(links, serial, interface(serial)) for serial in (1, 2, 3)]
        for child, other in ((0, 3), (1, 4), (2, 2)):
            self.assertNear(self.rtt(children[child], f"10.1.1.{other}"), 20.0)
        self.assertRate(children[2], children[0], "10.1.1.2", 5_000.0)
        end = self.sent(children[0], children[2], "10.1.1.4", "-u", "-b", "20M")
        self.assertLess(end["sum"]["lost_percent"], 5)
        for serial in (1, 2, 3):
            support.run(self.loop, links.unplug(serial))
        self.assertEqual((self.devices(), filters()), (set(), set()))

    @needs.needs_tool("iperf3")
    def test_lanOfRates(self) -> None:
        """
        On a LAN a rate is of each node by itself, both ways, without any filter.
        """
        slow = Member(3, "inf000", Shape(4_000.0), Shape(8_000.0))
        links = self.links(Link("9/a", (member(1), member(2), slow)))
        children = [self.plug(links, serial, interface(serial)) for serial in (1, 2, 3)]
        self.assertRate(children[2], children[0], "10.1.1.2", 4_000.0)
        self.assertRate(children[0], children[2], "10.1.1.4", 8_000.0)
        end = self.sent(children[0], children[1], "10.1.1.3", "-u", "-b", "50M")
        self.assertLess(end["sum"]["lost_percent"], 5)
        self.assertEqual((links.shaped_by("9/a"), filters()), ("tbf", set()))
        support.run(self.loop, links.unplug(3))
        self.assertEqual(len(self.devices()), 3)

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_filterIsKilled(self) -> None:
        """
        Whatever of it is killed comes again, and so does the delay.
        """
        links, first, _ = self.pair(delay_ms=10.0)
        for name in ("wirefilter", "vde_switch"):
            os.kill(min(pid for pid in filters() if name in command(pid)), signal.SIGKILL)
            support.idle(self.loop, 1.0)  # while nothing blocks the loop: it has to be put right by it
            support.until(self.loop, lambda: len(filters()) == 3)
            self.assertTrue(first.pings("10.1.1.3"))
            self.assertNear(self.rtt(first), 20.0)
        self.assertEqual(links.problems(), [])

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_restartOfDaemon(self) -> None:
        """
        A restart of the daemon leaves a delayed link as it is; its next changes are made by the next daemon; and with
        the slivers all of it goes, though nobody is there who made it.
        """
        links, first, _ = self.pair(delay_ms=10.0)
        before = filters()
        links.close()
        told = Link("9/a", (member(1, delay_ms=20.0), member(2, delay_ms=20.0)))
        again = self.links(told, known=(1, 2))
        self.assertEqual(filters(), before)
        self.assertNear(self.rtt(first), 40.0)
        again.close()
        self.links()
        support.until(self.loop, lambda: not filters())
        self.assertEqual(self.devices(), set())

    def test_leftWhileTheDaemonWasGone(self) -> None:
        """
        A link that nobody tells of when the daemon is back stays until its nodes have left it, and goes with them.
        """
        links, first, second = self.pair(delay_ms=10.0)
        links.close()
        again = self.links(known=(1, 2))
        self.assertTrue(first.pings("10.1.1.3"))
        self.plug(again, 1, child=first)
        self.plug(again, 2, child=second)
        support.until(self.loop, lambda: not filters())
        self.assertEqual(self.devices(), set())

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_noRights(self) -> None:
        """
        What filters has a uid of its own, no capability and no way to get any.
        """
        self.pair(delay_ms=10.0)
        for pid in filters():
            status = Path(f"/proc/{pid}/status").read_text()
            self.assertRegex(status, r"Uid:\t64999\t64999\t64999\t64999")
            self.assertRegex(status, r"CapEff:\t0+\nCapBnd:\t0+\n")
            self.assertRegex(status, r"NoNewPrivs:\t1")


class LifeTests(LinksCase):
    """
    What comes, stays, and goes.
    """

    def test_restartOfNode(self) -> None:
        """
        A node that is started again is on its link again; its neighbour never lost the link.
        """
        links, first, second = self.pair()
        index = second.run("cat", "/sys/class/net/inf000/ifindex").stdout
        first.end()
        again = self.plug(links, 1, interface(1))
        self.assertTrue(again.pings("10.1.1.3"))
        self.assertEqual(second.run("cat", "/sys/class/net/inf000/ifindex").stdout, index)

    def test_unplugged(self) -> None:
        """
        With the last node everything is gone, and with the first nothing that the other needs.
        """
        links, first, second = self.pair()
        support.run(self.loop, links.unplug(1))
        self.assertIn("inf000", second.run("ip", "link", "show").stdout)
        self.assertNotIn("inf000", first.run("ip", "link", "show").stdout)
        support.run(self.loop, links.unplug(2))
        self.assertEqual((self.devices(), said("nft", "list", "tables")), (set(), ""))

    def test_restartOfDaemon(self) -> None:
        """
        A restart of the daemon changes nothing on a link, and what belongs to no sliver is removed.
        """
        links, first, second = self.pair()
        links.close()
        index = second.run("cat", "/sys/class/net/inf000/ifindex").stdout
        before = said("ip", "link", "show")
        told = Link("9/a", (member(1), member(2)))
        again = self.links(told, known=(1, 2))
        self.assertEqual(said("ip", "link", "show"), before)
        self.plug(again, 2, interface(2), child=second)
        self.assertEqual(second.run("cat", "/sys/class/net/inf000/ifindex").stdout, index)
        self.assertTrue(first.pings("10.1.1.3"))
        again.close()
        self.links(told, known=(2,))
        self.assertNotIn("inf000", first.run("ip", "link", "show").stdout)
        self.links()
        self.assertEqual((self.devices(), said("nft", "list", "tables")), (set(), ""))

    def test_host(self) -> None:
        """
        The host itself is a node like others, with names of its own for what it has; what it had stays, and is not
        taken from it; and another process of the host's is no node.
        """
        links = self.links(Link("9/a", (Member(1, "inf000", embedded=True), member(2))))
        self.plug(links, 2, interface(2))
        switch = Path("/proc/sys/net/ipv4/ip_forward").read_text()

        def plug(serial: int, *routes: tuple[str, str]) -> list[str]:
            return support.run(self.loop, links.plug(serial, os.getpid(), [interface(serial)], routes, forwards=False))

        self.assertEqual(plug(1, ("10.1.2.0/24", "10.1.1.3")), [])
        ping = subprocess.run(["ping", "-c", "3", "-i", "0.2", "10.1.1.3"], capture_output=True, check=False)
        self.assertEqual(ping.returncode, 0)
        self.assertIn("10.1.2.0/24 via 10.1.1.3", said("ip", "route", "show"))
        self.assertEqual(Path("/proc/sys/net/ipv4/ip_forward").read_text(), switch)
        self.assertIn("in the host's own", plug(2)[0])
        support.run(self.loop, links.unplug(1))
        self.assertEqual(said("ip", "route", "show"), "")
        said("ip", "link", "add", "name", "up0", "type", "bridge")
        said("ip", "address", "add", "10.1.0.1/16", "dev", "up0")
        before = said("ip", "address", "show", "dev", "up0")
        self.assertIn("this host has 10.1.0.1/16 on up0 already", plug(1)[0])
        self.assertEqual(said("ip", "address", "show", "dev", "up0"), before)

    def test_onlyThere(self) -> None:
        """
        An interface for somebody who takes frames from it is there, up, with its MAC and without an address.
        """
        links = self.links(Link("9/a", (member(1), member(2))))
        child = self.plug(links, 1, interface(1), inside=False)
        shown = json.loads(child.run("ip", "-j", "address", "show", "dev", "inf000").stdout)[0]
        self.assertEqual((shown["address"], shown["addr_info"]), ("02:00:00:00:00:01", []))
        self.assertIn("UP", shown["flags"])

    def test_strays(self) -> None:
        """
        Where records were lost, what belongs to nobody is told of and left alone, and goes once it may.
        """
        links, first, _ = self.pair(delay_ms=5.0)
        links.close()
        again = self.found_links()
        support.run(self.loop, again.recover([], keep_strays=True))
        self.assertEqual([one.split(" has")[0] for one in again.problems()], ["sliver 1", "sliver 2"])
        self.assertTrue(first.pings("10.1.1.3"))
        support.run(self.loop, again.unplug(1))
        support.run(self.loop, again.recover([]))
        support.until(self.loop, lambda: not filters())
        self.assertEqual((self.devices(), said("nft", "list", "tables")), (set(), ""))

    @needs.needs_tool("vde_switch", "wirefilter")
    def test_killedAtAnyTime(self) -> None:
        """
        Whenever a daemon is killed, the next one finds what it made, finished or not, and removes it.
        """
        children = [Child(self) for _ in range(3)]
        for number in range(scaled(8, 60)):
            with subprocess.Popen(
                [sys.executable, "-c", _DAEMON, str(self.directory), INSTANCE, *(str(one.pid) for one in children)],
                stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": test_network.PYTHONPATH},
            ) as daemon:  # fmt: skip
                assert daemon.stdout is not None
                daemon.stdout.readline()
                time.sleep(0.05 + 0.4 * (number * 0.618 % 1))
                daemon.kill()
            links = self.links()
            support.until(self.loop, lambda: not filters())
            self.assertEqual((self.devices(), said("nft", "list", "tables")), (set(), ""), number)
            links.close()

    def test_many(self) -> None:
        """
        A hundred nodes on links are there in a few seconds, and cost the daemon a process each; all that go at the same
        time go together, and cost it fewer.
        """
        count = scaled(20, 100)
        links = self.links(Link("9/a", tuple(member(at) for at in range(1, count + 1))))
        child = Child(self)
        before, begun = self.spawner.started, time.monotonic()
        for at in range(1, count + 1):
            name = f"inf{at:03}"
            links.tell({f"9/{at}": Link(f"9/{at}", (member(at, name), member(at + 1000)))})
            self.plug(links, at, interface(at, f"9/{at}", name, f"10.{at}.0.2/24"), child=child)
        self.assertEqual(self.spawner.started - before, count)
        self.assertLess(time.monotonic() - begun, 0.3 * count)
        before = self.spawner.started
        support.run(self.loop, together(links.unplug(at) for at in range(1, count + 1)))
        self.assertEqual(self.devices(), set())
        self.assertLess(self.spawner.started - before, 6)

    def test_userTookItAway(self) -> None:
        """
        A node that has removed its interface keeps nobody from changing the link, and has it again at its next boot.
        """
        links, first, second = self.pair(rate_kbps=8000.0)
        first.run("ip", "link", "delete", "dev", "inf000")
        told = Link("9/a", (member(1, rate_kbps=900.0), member(2, rate_kbps=900.0)))
        links.tell({"9/a": told})
        support.run(self.loop, links.settle())
        self.assertEqual(links.problems(), [])
        self.assertIn("rate 900Kbit", said("tc", "qdisc", "show", "dev", Names(INSTANCE).port((2, "inf000"))))
        self.plug(links, 1, interface(1), child=first)
        self.assertTrue(second.pings("10.1.1.2"))

    def test_foreignBridge(self) -> None:
        """
        A bridge of somebody else's with the name of one of ours is told of, and left alone.
        """
        name = Names(INSTANCE).device("b", "9/a")
        said("ip", "link", "add", "name", name, "type", "bridge")
        links = self.links(Link("9/a", (member(1), member(2))))
        child = Child(self)
        told = support.run(self.loop, links.plug(1, child.pid, [interface(1)], [], forwards=False))
        self.assertEqual(told, [f"no links: an interface {name} is there that is not ours"])
        support.run(self.loop, links.unplug(1))
        self.assertEqual(self.devices(), {name})

    def test_somebodyTookItAway(self) -> None:
        """
        A bridge and a qdisc that somebody removed are there again when they are looked for.
        """
        links, first, _ = self.pair(rate_kbps=8000.0)
        bridge = Names(INSTANCE).device("b", "9/a")
        said("ip", "link", "delete", "dev", bridge)
        said("tc", "qdisc", "delete", "dev", Names(INSTANCE).port((1, "inf000")), "root")
        said("nft", "flush", "ruleset")
        self.assertFalse(first.pings("10.1.1.3"))
        support.run(self.loop, links.look())
        self.assertTrue(first.pings("10.1.1.3"))
        self.assertEqual(said("tc", "qdisc", "show").count("tbf"), 2)
        self.assertIn(Names(INSTANCE).table, said("nft", "list", "tables"))
