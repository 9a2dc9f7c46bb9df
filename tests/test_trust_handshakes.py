"""
Who floods the way in with connections that show nothing takes it from nobody else.
"""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Tls
from hostline.server.trust.handshakes import Handshake, Handshakes, site_of


class HandshakesTests(SynchronousTestCase):
    """
    Six at a time, three from one address.
    """

    def setUp(self) -> None:
        self.handshakes = Handshakes(lambda: Tls(handshakes=6, address_handshakes=3))
        self.gone: list[str] = []

    def begin(self, address: str, name: str = "", now: float = 0.0) -> Handshake | None:
        return self.handshakes.begin(address, lambda: self.gone.append(name or address), now)

    def test_fewFromOneAddress(self) -> None:
        """
        An address that has as many as it may have gets no more until one is over.
        """
        first, *_ = [self.begin("a") for _ in range(3)]
        self.assertIsNone(self.begin("a"))
        self.assertEqual((len(self.handshakes), self.gone), (3, []))
        assert first is not None
        self.handshakes.end(first)
        self.handshakes.end(first)
        self.assertIsNotNone(self.begin("a"))

    def test_theGreediestMakesRoom(self) -> None:
        """
        When all are taken, a newcomer takes the place of the oldest of who has most.
        """
        self.begin("a")
        for name in ("b1", "b2", "b3"):
            self.begin("b", name)
        self.begin("c", "c1")
        self.begin("c", "c2")
        self.assertIsNotNone(self.begin("d"))
        self.assertEqual((self.gone, len(self.handshakes)), (["b1"], 6))

    def test_whoHasMostMakesNobodyGo(self) -> None:
        """
        A newcomer that has as many as anybody is turned away itself.
        """
        for address in "aabbcc":
            self.begin(address)
        self.assertIsNone(self.begin("c"))
        self.assertEqual(self.gone, [])
        self.assertIsNotNone(self.begin("d"))

    def test_aNewcomerAlwaysComesIn(self) -> None:
        """
        Even if all who are there have one each, who comes from elsewhere is let try.
        """
        for address in "abcdef":
            self.begin(address)
        self.assertIsNotNone(self.begin("g"))
        self.assertEqual(self.gone, ["a"])

    def test_paced(self) -> None:
        """
        Who shows certificate after certificate waits after a while, others do not, and the wait is over some time.
        """
        waits = []
        for _ in range(60):
            handshake = self.begin("a")
            assert handshake is not None
            waits.append(handshake.wait_s)
            self.handshakes.end(handshake)
        self.assertEqual(waits[:40], [0.0] * 40)
        self.assertGreater(waits[-1], 0.5)
        other, later = self.begin("b"), self.begin("a", now=30.0)
        assert other is not None and later is not None
        self.assertEqual((other.wait_s, later.wait_s), (0.0, 0.0))

    def test_whoIsKnownMayComeOftener(self) -> None:
        """
        Who was let in each time waits for less than who never is; but for ever as fast as he can nobody goes on.
        """
        waits: dict[bool, list[float]] = {False: [], True: []}
        for known, found in waits.items():
            for _ in range(300):
                handshake = self.begin(f"{known}", now=1000.0 * known)
                assert handshake is not None
                found.append(handshake.wait_s)
                self.handshakes.end(handshake, known)
        self.assertEqual(waits[True][:150], [0.0] * 150)
        self.assertGreater(waits[False][100], 0.5)
        self.assertGreater(waits[True][-1], 0.3)

    def test_pacedAltogether(self) -> None:
        """
        So do those from very many addresses, for the daemon has other things to do; but nobody waits long, however
        many came and went before.
        """
        waits = []
        for number in range(3000):
            handshake = self.begin(f"a{number}")
            assert handshake is not None
            waits.append(handshake.wait_s)
            self.handshakes.end(handshake)
        self.assertEqual(waits[:90], [0.0] * 90)
        self.assertGreater(waits[150], 0.3)
        self.assertTrue(0.9 < waits[-1] < 1.1, waits[-1])
        self.begin("b", now=1000.0)
        self.assertLess(len(self.handshakes._next), 3002)

    @given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=80))
    def test_bounded(self, steps: list[tuple[str, bool]]) -> None:
        """
        Whatever comes and goes, neither bound is passed, and each that had to go was told once.
        """
        handshakes = Handshakes(lambda: Tls(handshakes=4, address_handshakes=2))
        there: dict[Handshake, str] = {}
        told: list[Handshake] = []

        for address, ends in steps:
            mine: list[Handshake] = []
            if ends and there:
                gone = next(iter(there))
                del there[gone]
                handshakes.end(gone)
                continue
            begun = handshakes.begin(address, partial(told.extend, mine), 0.0)
            for one in told:
                there.pop(one, None)
            if begun is not None:
                mine.append(begun)
                there[begun] = address
            self.assertEqual(len(handshakes), len(there))
            self.assertLessEqual(len(there), 4)
            self.assertLessEqual(max(list(there.values()).count(one) for one in "abcdefgh"), 2)
        self.assertEqual(len(told), len(set(told)))


class SiteTests(SynchronousTestCase):
    """
    Whom an address is reckoned to.
    """

    def test_oneHostHasManyAddresses(self) -> None:
        """
        All IPv6 addresses of one network are one; IPv4 is the same however it is written.
        """
        self.assertEqual(site_of("2001:db8:1:2:3::4"), site_of("2001:db8:1:2::ffff"))
        self.assertNotEqual(site_of("2001:db8:1:2::4"), site_of("2001:db8:1:3::4"))
        self.assertEqual(site_of("::ffff:192.0.2.7"), site_of("192.0.2.7"))
        self.assertNotEqual(site_of("192.0.2.7"), site_of("192.0.2.8"))
        self.assertEqual(site_of("fe80::1%eth0"), site_of("fe80::2%eth0"))
        self.assertEqual(site_of("?"), "?")
