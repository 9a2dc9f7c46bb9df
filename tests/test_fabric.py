"""
Tests for what links are made of on the host, and for what is ordered so that they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.driver import Interface
from hostline.server.network import inner, laying
from hostline.server.network.fabric import (
    PLAIN,
    Able,
    Fabric,
    Link,
    Member,
    Names,
    Shape,
    between,
    fabric,
    qdiscs,
    shaped_by,
)
from hostline.server.network.filters import given_ms, told_ms
from hostline.server.network.inner import Inside
from hostline.server.network.laying import Seen

NAMES = Names("5b1e77aa0f3c4d2e")
ABLE = st.builds(Able, tbf=st.just(True), netem=st.booleans(), wirefilter=st.just(True))
SHAPES = st.one_of(
    st.just(PLAIN),
    st.builds(
        Shape,
        st.sampled_from([0.0, 64.0, 1e4, 1e6]),
        st.sampled_from([0.0, 0.3, 10.0, 250.0]),
        st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    ),
)


@st.composite
def links(draw: st.DrawFn, most: int = 5) -> Link:
    """
    Any link of up to so many members.
    """
    count = draw(st.integers(1, most))
    return Link("9/lan", tuple(Member(at, "inf000", draw(SHAPES), draw(SHAPES)) for at in range(count)))


def met(sender: Member, receiver: Member, found: Fabric) -> Shape:
    """
    @return: all that happens on the way from one port to another: the lowest rate, delays added, losses one behind the
        other.
    """
    at = found.ports[sender.key].bridge
    end = found.ports[receiver.key].bridge
    ways: list[tuple[str, str, Shape]] = []
    for joint in found.joints:
        ways += [(joint.near_bridge, joint.far_bridge, joint.there), (joint.far_bridge, joint.near_bridge, joint.back)]
    reached: dict[str, tuple[Shape, ...]] = {at: ()}
    for _ in found.bridges:
        for one, other, shape in ways:
            if one in reached and other not in reached:
                reached[other] = (*reached[one], shape)
    parts = (*reached[end], found.ports[receiver.key].shape)
    kept = math.prod(1 - one.loss for one in parts)
    rates = [one.rate_kbps for one in parts if one.rate_kbps]
    return Shape(min(rates, default=0.0), sum(one.delay_ms for one in parts), 1 - kept)


class FabricTests(SynchronousTestCase):
    """
    Tests for L{fabric}.
    """

    @given(links(), ABLE)
    def test_waysAreAsDeclared(self, link: Link, able: Able) -> None:
        """
        Whatever is declared of whichever members, and whatever the kernel can: on the way from each to each other
        happens just that.
        """
        found = fabric(link, [one.key for one in link.members], NAMES, able)
        for sender in link.members:
            for receiver in link.members:
                if sender is not receiver:
                    wanted, got = between(sender, receiver), met(sender, receiver, found)
                    self.assertEqual(wanted.rate_kbps, got.rate_kbps)
                    self.assertAlmostEqual(wanted.delay_ms, got.delay_ms)
                    self.assertAlmostEqual(wanted.loss, got.loss)

    @given(links(), ABLE)
    def test_onlyWhatIsThere(self, link: Link, able: Able) -> None:
        """
        Without netem nothing is delayed by the kernel, with it nothing by a filter; each joint is of two bridges, and
        C{by} names what is used.
        """
        found = fabric(link, [one.key for one in link.members], NAMES, able)
        kernel = [port.shape for port in found.ports.values()]
        kernel += [way for one in found.joints if not one.filtered for way in (one.there, one.back)]
        self.assertFalse(any(one.late for one in kernel) and not able.netem)
        self.assertFalse(any(one.filtered for one in found.joints) and able.netem)
        for joint in found.joints:
            self.assertEqual(len({joint.near_bridge, joint.far_bridge} & set(found.bridges)), 2)
        if found.by is None:
            self.assertEqual((found.joints, {one.shape for one in found.ports.values()}), ((), {PLAIN}))
        self.assertEqual(found.by, shaped_by(link, able))

    @given(links(), ABLE, st.data())
    def test_partsAreOfTheWhole(self, link: Link, able: Able, data: st.DataObject) -> None:
        """
        What is laid when one member comes is just its part of the link with all of them, so that the others need not
        be looked at.
        """
        keys = [one.key for one in link.members]
        present = data.draw(st.lists(st.sampled_from(keys), unique=True))
        whole = fabric(link, keys, NAMES, able)
        parts = [fabric(link, [key], NAMES, able) for key in present]
        together = fabric(link, present, NAMES, able)
        self.assertEqual({name for one in parts for name in laying.devices(one)}, laying.devices(together))
        self.assertLessEqual(laying.devices(together), laying.devices(whole))
        for one in parts:
            for key, port in one.ports.items():
                self.assertEqual(port, whole.ports[key])

    def test_lossIsJustThat(self) -> None:
        """
        Where both members have what the link has, a loss is that loss.
        """
        for loss in (0.001, 0.1, 0.5, 1.0):
            one, other = (Member(at, "a", Shape(0, 10, loss), Shape(0, 10, loss)) for at in (1, 2))
            self.assertAlmostEqual(between(one, other).loss, loss)
            self.assertEqual(between(one, other).delay_ms, 10)


class NamesTests(SynchronousTestCase):
    """
    Tests for L{Names}.
    """

    def test_names(self) -> None:
        """
        Names fit the kernel, begin like nobody else's, and differ from instance to instance.
        """
        found = {NAMES.device("b", "9/a"), NAMES.port((1, "inf000")), Names("other").port((1, "inf000"))}
        self.assertEqual((len(found), {len(name) for name in found}), (3, {15}))
        self.assertTrue(all(name.startswith("hk") for name in found))

    @given(st.integers(0, 10**9), st.text(max_size=15), st.text(max_size=20))
    def test_aliasIsOneWord(self, serial: int, name: str, address: str) -> None:
        """
        Whatever a name is, it cannot end the order that it stands in, and what is told of a port is read again.
        """
        text = NAMES.alias("port", serial, name, address)
        self.assertNotRegex(text, r"['\"\n\\]")
        self.assertEqual(len(text.split(" ")), 6)

    def test_member(self) -> None:
        """
        A port is known again by what is noted at it, if that is true.
        """
        link = {"ifname": NAMES.port((7, "inf001")), "ifalias": NAMES.alias("port", 7, "inf001", "10.1.1.2/24")}
        self.assertEqual((NAMES.owned(link), NAMES.member(link)), (True, (7, "inf001")))
        self.assertIsNone(NAMES.member({**link, "ifname": "hkfalse"}))
        self.assertFalse(Names("other").owned(link))

    def test_unfinished(self) -> None:
        """
        What a daemon had only begun to make when it was killed is ours too; what merely has our name is not.
        """
        name = NAMES.device("b", "9/a")
        self.assertTrue(NAMES.owned({"ifname": name, "group": str(NAMES.group)}))
        self.assertFalse(NAMES.owned({"ifname": name, "group": "default"}))
        self.assertTrue(NAMES.owned({"ifname": NAMES.device("n", "9/a"), "group": "default"}))


class QdiscTests(SynchronousTestCase):
    """
    Tests for L{qdiscs}, by tc-netem(8) and tc-tbf(8).
    """

    def test_rate(self) -> None:
        """
        A rate is a bucket of 4 ms, of a frame at the least, with 50 frames waiting or 50 ms.
        """
        self.assertEqual(
            qdiscs("d", Shape(10_000.0), old=False),
            ["qdisc replace dev d root handle 2: tbf rate 10000000bit burst 5000b limit 80700b"],
        )
        self.assertIn("burst 1600b limit 77300b", qdiscs("d", Shape(64.0))[0])
        self.assertIn("burst 500000b limit 6750000b", qdiscs("d", Shape(1e6))[0])

    def test_netem(self) -> None:
        """
        Where the kernel has netem, it delays and loses, with room for all that is on its way; a rate is held behind it.
        """
        self.assertEqual(
            qdiscs("d", Shape(10_000.0, 12.5, 0.015), old=False),
            [
                "qdisc replace dev d root handle 1: netem limit 1245 delay 12500us loss 1.5%",
                "qdisc replace dev d parent 1:1 handle 3: tbf rate 10000000bit burst 5000b limit 80700b",
            ],
        )
        self.assertEqual(
            qdiscs("d", Shape(0.0, 20.0), old=False),
            ["qdisc replace dev d root handle 1: netem limit 21000 delay 20000us"],
        )

    def test_otherwise(self) -> None:
        """
        What a filter delays is only held to its rate; what is not shaped any more loses its qdisc, if it had one.
        """
        self.assertEqual(len(qdiscs("d", Shape(100.0, 10.0), filtered=True)), 1)
        self.assertEqual(qdiscs("d", PLAIN), ["qdisc delete dev d root"])
        self.assertEqual(qdiscs("d", PLAIN, old=False), [])

    @given(st.floats(0, 1e5))
    def test_wholeMilliseconds(self, delay: float) -> None:
        """
        A wirefilter is told the nearest that it can.
        """
        self.assertLessEqual(abs(given_ms(delay) - delay), 0.5 + (0.22 if told_ms(delay) == 0 else 0))


class LayingTests(SynchronousTestCase):
    """
    Tests for L{laying.lay}.
    """

    def lay(self, link: Link, able: Able, seen: Seen, held: dict[str, Shape] | None = None) -> laying.Orders:
        self.parts = [fabric(link, [one.key for one in link.members], NAMES, able)]
        ports = [NAMES.port(one.key) for one in link.members]
        return laying.lay(self.parts, seen, held or {}, NAMES, 7, [port for port in ports if port not in seen.ours])

    @given(links(), ABLE)
    def test_nothingTwice(self, link: Link, able: Able) -> None:
        """
        Once all was done, there is nothing to be done.
        """
        seen = Seen()
        first = self.lay(link, able, seen)
        laying.assume(seen, first, self.parts, NAMES)
        again = self.lay(link, able, seen, first.shapes)
        self.assertFalse(bool(again), again)

    @given(links(), links(), ABLE)
    def test_fromAnyToAny(self, link: Link, other: Link, able: Able) -> None:
        """
        Whatever a link was, it becomes what it is to be now: every device that is wanted and was not there is made, and
        what is there already is not made again.
        """
        seen = Seen()
        first = self.lay(link, able, seen)
        laying.assume(seen, first, self.parts, NAMES)
        before = set(seen.ours)
        second = self.lay(other, able, seen, first.shapes)
        made = {_made(order) for order in second.make} - {""}
        wanted = laying.devices(self.parts[0])
        self.assertLessEqual({one for one in wanted - before if one[6] == "b"}, made)
        self.assertFalse({one for one in made & before if one[6] == "b"})
        laying.assume(seen, second, self.parts, NAMES)
        self.assertFalse(bool(self.lay(other, able, seen, {**first.shapes, **second.shapes})))

    def test_removal(self) -> None:
        """
        Of the two ends of a veth, one is removed; the other goes with it.
        """
        seen = Seen({"a": {"link": "b"}, "b": {"link": "a"}, "c": {}})
        self.assertEqual(laying.removal({"a", "b", "c"}, seen), ["link delete dev a", "link delete dev c"])


def _made(order: str) -> str:
    words = order.split()
    if words[:3] == ["link", "add", "name"]:
        return words[3]
    return words[3] if words[:2] == ["tuntap", "add"] else ""


class InnerTests(SynchronousTestCase):
    """
    Tests for L{inner.work}.
    """

    one = Interface("inf000", "9/a", "02:00:00:00:00:01", "10.1.1.2/24")
    route = (("10.1.2.0/24", "10.1.1.3"),)

    def work(
        self,
        links: dict[str, Any],
        routes: Collection[dict[str, str]] = (),
        *,
        hosted: bool = False,
        forwards: bool = False,
        addressed: bool = True,
        wanted: tuple[tuple[str, str], ...] = route,
        switch: str = "0",
        before: str = "",
    ) -> inner.Inner:
        name = "hkinner" if hosted else "inf000"
        return inner.work(
            {name: self.one}, wanted, Inside(links, list(routes)), {name: before},
            forwards=forwards, addressed=addressed, hosted=hosted, switch=switch,
        )  # fmt: skip

    def so(self, address: str = "10.1.1.2") -> dict[str, Any]:
        """
        @return: an interface as it should be, and loopback.
        """
        info = [{"family": "inet", "local": address, "prefixlen": 24}]
        good = {"address": self.one.mac, "inet6_addr_gen_mode": "none", "mtu": 1500, "flags": ["UP"]}
        return {"inf000": {**good, "addr_info": info}, "lo": {"flags": ["UP"]}}

    def test_new(self) -> None:
        """
        A new interface is given all that it is to have.
        """
        found = self.work({"lo": {}})
        self.assertEqual(
            found.orders,
            [
                "link set dev lo up",
                "link set dev inf000 address 02:00:00:00:00:01",
                "link set dev inf000 addrgenmode none mtu 1500",
                "address replace 10.1.1.2/24 dev inf000",
                "link set dev inf000 up",
                "route replace 10.1.2.0/24 via 10.1.1.3 dev inf000 proto 197",
            ],
        )
        self.assertEqual((found.problems, found.forward), ([], ""))

    def test_asItShouldBe(self) -> None:
        """
        Where all is so already, nothing is done; also not to what the user made of forwarding meanwhile.
        """
        route = {"dst": "10.1.2.0/24", "gateway": "10.1.1.3", "dev": "inf000", "protocol": "197"}
        found = self.work(self.so(), [route], switch="1")
        self.assertEqual((found.orders, found.forward, found.problems), ([], "", []))

    def test_forwarding(self) -> None:
        """
        Who passes on does, who does not does not from the beginning.
        """
        self.assertEqual(self.work(self.so(), forwards=True).forward, "1")
        self.assertEqual(self.work({"lo": {}}, switch="1").forward, "0")

    def test_otherRoutes(self) -> None:
        """
        Our routes that are not wanted any more go, those of others stay, also where they are in the way of ours.
        """
        old = {"dst": "10.1.9.0/24", "gateway": "10.1.1.9", "dev": "inf000", "protocol": "197"}
        users = {"dst": "10.1.2.0/24", "gateway": "10.1.1.77", "dev": "inf000", "protocol": "3"}
        found = self.work(self.so(), [old, users])
        self.assertEqual(found.orders, ["route delete 10.1.9.0/24 dev inf000 proto 197"])

    def test_noWay(self) -> None:
        """
        A route by what is on none of its links is told of, and so is one that is none.
        """
        found = self.work(self.so(), wanted=(("10.1.2.0/24", "10.9.9.9"), ("x", "y")))
        self.assertEqual((found.orders, len(found.problems)), ([], 2))

    def test_onTheHost(self) -> None:
        """
        On the host no address or route of the host's is touched, and its forwarding is not ours to change.
        """
        ours = {"dst": "10.1.2.0/24", "gateway": "192.0.2.1", "dev": "up0", "protocol": "3"}
        found = self.work({}, [ours], hosted=True, forwards=True)
        self.assertIn("address replace 10.1.1.2/24 dev hkinner", found.orders)
        self.assertFalse([order for order in found.orders if order.startswith(("route", "link set dev lo"))])
        self.assertEqual(len(found.problems), 2)
        taken = {"up0": {"addr_info": [{"family": "inet", "local": "10.1.0.1", "prefixlen": 16}]}}
        found = self.work(taken, hosted=True, wanted=())
        self.assertEqual((found.orders, len(found.problems)), ([], 1))
        routed = {"dst": "10.0.0.0/8", "dev": "up0", "protocol": "3"}
        self.assertEqual(self.work({}, [routed], hosted=True, wanted=()).orders, [])

    def test_onlyThere(self) -> None:
        """
        For somebody who takes frames from it, an interface is there with its MAC and nothing else.
        """
        found = self.work({}, addressed=False, forwards=True)
        self.assertFalse([order for order in found.orders if "route" in order or "address replace" in order])
        self.assertEqual((found.orders[-1], found.forward), ("link set dev inf000 up", ""))

    @given(st.text(), st.text(), st.text())
    def test_refusal(self, name: str, mac: str, address: str) -> None:
        """
        Whatever is let through stands in an order as one word.
        """
        for one in (
            evolve(self.one, name=name),
            evolve(self.one, mac=mac),
            evolve(self.one, address=address),
            evolve(self.one, address=address + "/24"),
        ):
            if not inner.refusal(one):
                for word in (one.name, one.mac, one.address):
                    self.assertRegex(word, r"\A[\w:./-]+\Z")
                    self.assertTrue(word.isascii())
        self.assertEqual(inner.refusal(self.one), "")
