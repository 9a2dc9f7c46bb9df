"""
Processes found by any of their uids, and programs that an earlier daemon left at work.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.owned import BREATH_S, PATIENCE_S, Owned

_TOOLS = ("useradd", "groupadd")


class OwnedTests(SynchronousTestCase):
    """
    On a clock of the test's own.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.proc = Path(self.mktemp())
        self.proc.mkdir()

    def begin(self, pid: int, *argv: str) -> None:
        (self.proc / str(pid)).mkdir(exist_ok=True)
        (self.proc / str(pid) / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in argv))

    def test_findsEveryProcess(self) -> None:
        """
        We are among the processes of our own uid.
        """
        looking = Deferred.fromCoroutine(Owned(self.clock).uids())
        for _ in range(1000):
            if looking.called:
                break
            self.clock.advance(0)
        found = self.successResultOf(looking)
        self.assertIn(os.getpid(), [one.pid for one in found[os.getuid()]])

    def test_waitsForWhatIsAtWork(self) -> None:
        """
        A program that makes one of these accounts is waited for, one that makes another is not.
        """
        self.begin(7, "/usr/sbin/useradd", "--uid", "70005", "del_mon")
        owned = Owned(self.clock, str(self.proc))
        for programs, names in (
            (_TOOLS, ["del_other"]),
            (("groupdel",), ["del_mon"]),
            (_TOOLS, []),
        ):
            self.successResultOf(Deferred.fromCoroutine(owned.ended(programs, names)))
        waiting = Deferred.fromCoroutine(owned.ended(_TOOLS, ["del_mon"]))
        self.clock.advance(BREATH_S)
        self.assertNoResult(waiting)
        self.begin(7, "sh", "-c", "del_mon")
        self.clock.advance(BREATH_S)
        self.successResultOf(waiting)

    def test_waitsNotForEver(self) -> None:
        """
        One that never ends holds the daemon up for a while only.
        """
        self.begin(7, "groupadd", "del_mon")
        waiting = Deferred.fromCoroutine(Owned(self.clock, str(self.proc)).ended(_TOOLS, ["del_mon"]))
        self.clock.pump([BREATH_S] * int(PATIENCE_S / BREATH_S - 1))
        self.assertNoResult(waiting)
        self.clock.pump([BREATH_S] * 4)
        self.successResultOf(waiting)
