"""
Tests for L{hostline.server.supervise.doings} and L{hostline.server.supervise.guest_typed}, on a /proc of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.driver import Activity
from hostline.server.supervise.doings import Doings, Ends
from hostline.server.supervise.guest_typed import newest

SECOND = 10**9
NET = """Inter-|   Receive                         |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:  9000  90    0    0    0     0          0         0  9000     90    0    0    0     0       0          0
  eth0: 10000 100    0    0    0     0          0         0 20000  {out}    0    0    0     0       0          0
inf000:  1000  10    0    0    0     0          0         0  2000     20    0    0    0     0       0          0
inf001:   100   1    0    0    0     0          0         0   200      2    0    0    0     0       0          0
"""


class DoingsCase(SynchronousTestCase):
    """
    A /proc that a test writes.
    """

    def setUp(self) -> None:
        self.proc = Path(self.mktemp())
        self.proc.mkdir()
        self.clock = Clock()
        self.doings = Doings(self.clock, self.proc)

    def process(self, pid: int, threads: Mapping[int, tuple[int, int]], terminal: int = 0) -> None:
        """
        @param threads: seconds run and waited, by thread.
        """
        stat = f"{pid} (a ) b) S 1 {pid} {pid} {terminal} {pid} 0 0"
        (self.proc / f"{pid}/task").mkdir(parents=True, exist_ok=True)
        (self.proc / f"{pid}/stat").write_text(stat)
        for thread, (ran, waited) in threads.items():
            place = self.proc / f"{pid}/task/{thread}"
            place.mkdir(exist_ok=True)
            (place / "schedstat").write_text(f"{int(ran * SECOND)} {int(waited * SECOND)} 7\n")

    def look(self, *pids: int, after: float = 60.0, ran: float | None = None, ends: Ends | None = None) -> Activity:
        """
        Let time pass, and look.
        """
        self.clock.advance(after)
        total = None if ran is None else int(ran * SECOND)
        found = Deferred.fromCoroutine(self.doings.look(1, pids, total, ends))
        for _ in range(100):
            self.clock.advance(0)
        return self.successResultOf(found)


class LoadTests(DoingsCase):
    """
    How many tasks run or want to.
    """

    def test_first(self) -> None:
        """What ran before anybody looked is not load."""
        self.process(5, {5: (500, 500)})
        self.assertEqual(self.look(5).load, 0.0)

    def test_runsAllTheTime(self) -> None:
        """One that runs all the time is one; two threads that do are two."""
        self.process(5, {5: (0, 0), 6: (0, 0)})
        self.look(5)
        self.process(5, {5: (60, 0), 6: (60, 0)})
        self.assertAlmostEqual(self.look(5).load, 2.0)

    def test_heldUp(self) -> None:
        """One that gets a tenth of what it wants is still one."""
        self.process(5, {5: (1, 1)})
        self.look(5)
        self.process(5, {5: (7, 55)})
        self.assertAlmostEqual(self.look(5).load, 1.0)

    def test_comesAndGoes(self) -> None:
        """Processes that came and went between two looks are counted by their group."""
        self.process(5, {5: (0, 0)})
        self.look(5, ran=100)
        self.assertAlmostEqual(self.look(5, ran=190).load, 1.5)

    def test_groupThatIsNew(self) -> None:
        """A group that counts less than before is another one, and no load."""
        self.process(5, {5: (0, 0)})
        self.look(5, ran=100)
        self.assertEqual(self.look(5, ran=3).load, 0.0)

    def test_twiceAtOnce(self) -> None:
        """Asked again at once it says what it said, and still knows when it looked last."""
        self.process(5, {5: (0, 0)})
        self.look(5)
        self.process(5, {5: (60, 0)})
        self.assertAlmostEqual(self.look(5).load, 1.0)
        self.assertAlmostEqual(self.look(5, after=0.5).load, 1.0)
        self.assertAlmostEqual(self.look(5, after=59.5).load, 0.0)

    def test_newProcess(self) -> None:
        """A process that is new, or has a number that was another's, brings what it ran itself."""
        self.process(5, {5: (50, 0)})
        self.look(5)
        self.process(5, {5: (30, 0)})
        self.process(6, {6: (30, 0)})
        self.assertAlmostEqual(self.look(5, 6).load, 1.0)

    def test_goneMeanwhile(self) -> None:
        """A process that ends while it is looked at is none."""
        self.look(4711)
        self.assertEqual(self.look(4711), Activity(120.0))

    def test_forgotten(self) -> None:
        """After a sliver began anew it is looked at as if for the first time."""
        self.process(5, {5: (0, 0)})
        self.look(5)
        self.doings.forget(1)
        self.process(5, {5: (60, 0)})
        self.assertEqual(self.look(5).load, 0.0)


class PacketTests(DoingsCase):
    """
    What goes over its interfaces.
    """

    def test_counted(self) -> None:
        """In and out over links, out over the control network, nothing of what stays inside."""
        place = self.proc / "5/net"
        place.mkdir(parents=True)
        (place / "dev").write_text(NET.format(out=207))
        found = self.look(ends=Ends(5, ["inf000", "inf001"]))
        self.assertEqual((found.experiment_packets, found.control_packets), (33, 207))

    def test_none(self) -> None:
        """Who has no network of its own has no packets."""
        self.assertEqual(self.look(ends=None), Activity(60.0))

    def test_gone(self) -> None:
        """A network that is gone has none."""
        self.assertEqual(self.look(ends=Ends(4711, ["inf000"])), Activity(60.0))


class TypedTests(DoingsCase):
    """
    Keystrokes, as far as files can be terminals.
    """

    def test_noTerminal(self) -> None:
        """What is no terminal is not taken for one, whatever the process has open."""
        self.process(5, {5: (0, 0)}, terminal=(136 << 8) | 1)
        streams = self.proc / "5/fd"
        streams.mkdir()
        (streams / "0").write_text("typed")
        (streams / "1").symlink_to("/dev/null")
        self.assertEqual(self.look(5).input, 0.0)

    def test_guest(self) -> None:
        """Of a guest the newest counts."""
        self.assertEqual(newest(b"1700000000\n1700000007\n\n1690000000\n"), 1700000007.0)

    @given(st.binary(max_size=200))
    def test_guestThatLies(self, said: bytes) -> None:
        """Whatever a guest says is a time or none."""
        self.assertTrue(0.0 <= newest(said) < 10**11)
