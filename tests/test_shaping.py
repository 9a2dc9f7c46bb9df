"""
What a sliver may send, in the words of tc and back.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.network import shaping
from hostline.server.network.shaping import DEFAULTS, Lease, Shown

LEASE = Lease(0x103, IPv4Address("10.98.1.3"))

#: As iproute2 6.1 said it.
SAID = """\
class htb 1:1 root rate 1Gbit ceil 1Gbit linklayer ethernet burst 250000b/1 mpu 0b cburst 250000b/1 mpu 0b level 7 
class htb 1:4 parent 1:1 leaf 4: prio 0 quantum 16384 rate 8bit ceil 1Gbit linklayer ethernet burst 1b/1 mpu 0b cburst 250000b/1 mpu 0b level 0 
class htb 1:5 parent 1:1 prio 0 quantum 1073741824 rate 1Tbit ceil 1Tbit linklayer ethernet burst 250000000b/1 mpu 0b cburst 250000000b/1 mpu 0b level 0 
class htb 1:ffe0 parent 1:1 prio 0 quantum 49152 rate 12345Kbit ceil 123456Kbit linklayer ethernet burst 1597b/1 mpu 0b cburst 1574b/1 mpu 0b level 0 
"""  # noqa: E501, W291
FILTERS = """\
filter protocol ip pref 1 u32 chain 0 
filter protocol ip pref 1 u32 chain 0 fh 2: ht divisor 256 
filter protocol ip pref 1 u32 chain 0 fh 1: ht divisor 256 
filter protocol ip pref 1 u32 chain 0 fh 1:3:1 order 1 key ht 1 bkt 3 *flowid 1:4 not_in_hw 
  match 0a620003/ffffffff at 12
filter protocol ip pref 1 u32 chain 0 fh 800: ht divisor 1 
filter protocol ip pref 1 u32 chain 0 fh 800::1 order 1 key ht 800 bkt 0 link 2: not_in_hw 
  match c6336400/ffffff00 at 16
    hash mask 000000ff at 12 
filter protocol ip pref 1 u32 chain 0 fh 800::ffe order 4094 key ht 800 bkt 0 link 1: not_in_hw 
  match 00000000/00000000 at 0
    hash mask 000000ff at 12 
"""  # noqa: W291

RSPECS = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.integers(0, 2**63) for name in ("net_min", "net_max", "net2_min", "net2_max")},
        "net_share": st.integers(0, 2**63),
    },
)


def as_tc_says(rate: int) -> tuple[int, int]:
    """
    @return: a rate as tc rounds it down to show it (C{tc_print_rate} of iproute2), and the step.
    """
    step = 1
    for _ in range(4):
        if rate // step < 1000 or ((rate // step) % 1000 and rate // step < 1000 * 1000):
            break
        step *= 1000
    return rate // step * step, step


class HeldTests(SynchronousTestCase):
    """
    From an rspec to classes.
    """

    def test_defaults(self) -> None:
        """
        Who asks for nothing has PlanetLab's: 8 bit/s for sure, a gigabit at most, a share of 1.
        """
        first, second = shaping.held({})
        self.assertEqual((first.rate, first.ceil, first.quantum), (8, 10**9, shaping.PIECE))
        self.assertEqual(first, second)

    @given(RSPECS)
    @example({"net_min": 0, "net_max": 0, "net2_min": 7, "net2_max": 9, "net_share": 0})
    @example({"net_min": 10**12, "net_max": 8, "net2_max": 10**12, "net_share": 10**6})
    def test_whatTcTakes(self, rspec: dict[str, int]) -> None:
        """
        Whatever is asked, what tc is told are numbers that it and the kernel take: rates in whole bytes, from 8 bit/s
        on, none under what is for sure; bursts within 32 bits and a second; quanta within 31 bits.
        """
        for one in shaping.held(rspec):
            self.assertTrue(8 <= one.rate <= one.ceil <= 10**13)
            self.assertEqual((one.rate % 8, one.ceil % 8), (0, 0))
            self.assertTrue(shaping.PIECE <= one.quantum < 2**31)
            for rate in (one.rate, one.ceil):
                self.assertTrue(1 <= shaping._burst(rate) <= min(rate // 8, 1 << 30))

    @given(st.integers(1, 1000), st.integers(1, 1000))
    def test_shareIsWeight(self, one: int, two: int) -> None:
        """
        A turn is as long as the share says.
        """
        first, second = (shaping.held({"net_share": share})[0].quantum for share in (one, two))
        self.assertEqual(first * two, second * one)


class OrdersTests(SynchronousTestCase):
    """
    What tc is told.
    """

    def test_classes(self) -> None:
        """
        A sliver gets two classes, a queue each of 100 ms, and the filters that find them.
        """
        rspec = {"net_min": 8000, "net_max": 80_000_000, "net_share": 3, "net2_max": 8}
        self.assertEqual(
            shaping.classes("hi0", LEASE, rspec, {}),
            [
                "class replace dev hi0 parent 1:1 classid 1:206 htb "
                "rate 8000bit ceil 80000000bit burst 1000b cburst 20000b quantum 49152",
                "qdisc replace dev hi0 parent 1:206 handle 206: bfifo limit 1000000",
                "filter replace dev hi0 parent 1: prio 1 handle 1:3:2 protocol ip u32 ht 1:3: "
                "match ip src 10.98.1.3/32 flowid 1:206",
                "class replace dev hi0 parent 1:1 classid 1:207 htb "
                "rate 8bit ceil 8bit burst 1b cburst 1b quantum 49152",
                "qdisc replace dev hi0 parent 1:207 handle 207: bfifo limit 49152",
                "filter replace dev hi0 parent 1: prio 1 handle 2:3:2 protocol ip u32 ht 2:3: "
                "match ip src 10.98.1.3/32 flowid 1:207",
            ],
        )

    def test_debtIsForgiven(self) -> None:
        """
        A class that was slow, and may be faster now, is made anew, for what it has sent would hold it back for up to a
        minute; one that was fast, or becomes slower, is only changed.
        """
        slow, fast = Shown(8, 1, 8, 1, 16384), Shown(2 * 10**6, 1, 10**9, 10**9, 16384)
        for now, rspec, anew in (
            (slow, {"net_max": 10**9}, True),
            (slow, {"net_max": 8}, False),
            (fast, {"net_min": 10**9}, False),
            (fast, {"net_max": 8}, False),
            (Shown(8, 1, 10**9, 10**9, 16384), {"net_min": 10**8}, True),
        ):
            orders = shaping.classes("hi0", LEASE, rspec, {LEASE.minors[0]: now})
            self.assertEqual("class delete dev hi0 classid 1:206" in orders, anew, f"{now} {rspec}")

    @given(st.lists(st.integers(2, 0x7FF0), min_size=2, max_size=2, unique=True))
    def test_nothingInCommon(self, places: list[int]) -> None:
        """
        No two slivers have a class or a filter in common, nor one that belongs to all.
        """
        base = int(IPv4Address("10.98.0.0"))
        one, two = (Lease(place, IPv4Address(base + place)) for place in places)
        self.assertFalse({*one.minors} & {1, *two.minors})
        self.assertFalse({one.handle(1), one.handle(2)} & {two.handle(1), two.handle(2)})
        for lease in (one, two):
            _, bucket, node = lease.handle(1).split(":")
            self.assertTrue(int(bucket, 16) < 256 and 0 < int(node, 16) < 0xFFF)

    def test_exemptAnew(self) -> None:
        """
        When the exempt networks of the configuration change so do the filters; when they do not nothing is touched.
        """
        self.assertEqual(shaping.exempted_anew("hi0", [IPv4Network("198.51.100.0/24")], FILTERS), [])
        self.assertEqual(
            shaping.exempted_anew("hi0", [IPv4Network("192.0.2.0/25")], FILTERS),
            [
                "filter delete dev hi0 parent 1: prio 1 handle 800::1 protocol ip u32",
                "filter replace dev hi0 parent 1: prio 1 handle 800::1 protocol ip u32 ht 800: "
                "match ip dst 192.0.2.0/25 hashkey mask 0xff at 12 link 2:",
            ],
        )

    def test_whole(self) -> None:
        """
        A tree of which a part is missing is known.
        """
        self.assertTrue(shaping.whole(FILTERS))
        for missing in ("fh 1: ht", "fh 2: ht", "fh 800::ffe "):
            self.assertFalse(shaping.whole(FILTERS.replace(missing, "")))
        self.assertFalse(shaping.whole(""))


class InForceTests(SynchronousTestCase):
    """
    From what tc says to an rspec.
    """

    def test_read(self) -> None:
        """
        What tc says is read, but for the class over all.
        """
        self.assertEqual(
            shaping.read_classes(SAID),
            {
                4: Shown(8, 1, 10**9, 10**9, 16384),
                5: Shown(10**12, 10**12, 10**12, 10**12, 1 << 30),
                0xFFE0: Shown(12345000, 1000, 123456000, 1000, 49152),
            },
        )

    def test_garbage(self) -> None:
        """
        What is no class is passed over.
        """
        self.assertEqual(shaping.read_classes("Cannot find device\nclass htb 1:zz rate\nclass pfifo 1:4\n"), {})

    @given(RSPECS)
    def test_asAsked(self, rspec: dict[str, int]) -> None:
        """
        Where the kernel has what was asked, in_force is what was asked: no drift is seen where there is none.
        """
        first, second = (
            Shown(*as_tc_says(one.rate), *as_tc_says(one.ceil), one.quantum) for one in shaping.held(rspec)
        )
        self.assertEqual(shaping.in_force(first, second, rspec), {**DEFAULTS, **rspec})

    def test_drift(self) -> None:
        """
        Where it has something else, this is told; a class that is not there is left out.
        """
        shown = shaping.read_classes(SAID)
        self.assertEqual(
            shaping.in_force(shown[0xFFE0], None, {"net_min": 8, "net_max": 10**9}),
            {"net_min": 12345000, "net_max": 123456000, "net_share": 3},
        )
        self.assertEqual(shaping.in_force(None, None, {}), {})
