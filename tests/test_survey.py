"""
Who belongs to which sliver.
"""

from __future__ import annotations

import os
import unittest

from hostline.server.supervise.shim import Process
from hostline.server.supervise.survey import Seen, members

OWN = os.geteuid()


def seen(
    pid: int, parent: int = 1, session: int = 0, uid: int = OWN, tag: bytes | None = None, shim: int | None = None
) -> Seen:
    """
    @return: a process, started at 10 times its pid.
    """
    return Seen(Process(pid, pid * 10), parent, session, uid, tag, shim)


class MemberTests(unittest.TestCase):
    """
    Where slivers have no uids: by tag, session and descent, among the daemon's user's own processes.
    """

    def pids(self, *everything: Seen) -> dict[int, set[int]]:
        found = members(everything, "us", None)
        return {serial: {process.pid for process in processes} for serial, processes in found.items()}

    def test_isByTag(self) -> None:
        """
        Only our own tag counts.
        """
        tags = [b"us/5", b"them/5", b"us/x", b"us/", b"usa/5", None, b"us/7"]
        self.assertEqual(self.pids(*(seen(n, tag=tag) for n, tag in enumerate(tags, 10))), {5: {10}, 7: {16}})

    def test_isNoOtherUsers(self) -> None:
        """
        A process of another user is nobody's, whatever it says, whoever its parent is and whose session it shares.
        """
        mine = seen(10, tag=b"us/5", session=9)
        other = [seen(11, uid=12345, tag=b"us/5"), seen(12, parent=10, uid=12345), seen(13, session=9, uid=12345)]
        self.assertEqual(self.pids(mine, *other, seen(14, parent=11), seen(15, parent=13)), {5: {10}})

    def test_isByDescentAndSession(self) -> None:
        """
        Children and sessions of members are members, however long the chain and whatever the order.
        """
        chain = [seen(14, parent=13), seen(13, parent=12, session=77), seen(15, session=77), seen(12, parent=11)]
        everything = [*chain, seen(11, tag=b"us/5", session=66), seen(20, session=66), seen(21, parent=15)]
        self.assertEqual(self.pids(*everything), {5: {11, 12, 13, 14, 20}})
        chain[1] = seen(13, parent=12, session=77, tag=b"us/5")
        self.assertEqual(self.pids(*chain, *everything[4:]), {5: {11, 12, 13, 14, 15, 20, 21}})

    def test_isNobodyElse(self) -> None:
        """
        Session 0 (the kernel's) joins nobody.
        """
        self.assertEqual(self.pids(seen(10, tag=b"us/5", session=0), seen(11, session=0)), {5: {10}})


class UidTests(unittest.TestCase):
    """
    Where slivers have uids: by uid; and of root's processes by what only root can have started.
    """

    def pids(self, *everything: Seen, keepers: dict[int, int] | None = None) -> dict[int, set[int]]:
        found = members(everything, "us", {205: 5}, keepers=keepers)
        return {serial: {process.pid for process in processes} for serial, processes in found.items()}

    def test_isByUid(self) -> None:
        """
        A uid of a sliver's own counts, whatever its process says.
        """
        junk = seen(12, uid=205, tag=b"junk/1")
        self.assertEqual(self.pids(seen(10, uid=205), seen(11, uid=206, tag=b"us/5"), junk), {5: {10, 12}})

    def test_isNotByTag(self) -> None:
        """
        A tag alone proves nothing: neither another user's, nor one that root's shell was made to carry.
        """
        forged = [seen(10, uid=12345, tag=b"us/99", session=9), seen(11, session=9), seen(12, parent=10)]
        self.assertEqual(self.pids(*forged, seen(13, tag=b"us/99", session=9)), {})

    def test_isByShim(self) -> None:
        """
        Our shims are ours, and so is what carries their tag in their session; descent counts for nothing.
        """
        shims = [seen(10, tag=b"us/7", session=10, shim=7), seen(11, parent=10, tag=b"us/7", session=10, shim=7)]
        others = [seen(12, parent=11, tag=b"us/7", session=10), seen(13, parent=11), seen(14, session=10)]
        self.assertEqual(self.pids(*shims, *others), {7: {10, 11, 12}})
        self.assertEqual(self.pids(seen(10, tag=b"us/7", session=10, shim=8)), {})

    def test_isByTheSessionOfOurKeeper(self) -> None:
        """
        What a keeper that is gone had just begun to start is known by its session.
        """
        self.assertEqual(self.pids(seen(11, tag=b"us/7", session=10), keepers={10: 7}), {7: {11}})
        self.assertEqual(self.pids(seen(11, tag=b"us/7", session=10), keepers={10: 8}), {})

    def test_isNobodyElseInASlivers(self) -> None:
        """
        Somebody who looks after things in a session or below a process of a sliver is not the sliver's.
        """
        self.assertEqual(self.pids(seen(10, uid=205, session=9), seen(11, session=9), seen(12, parent=10)), {5: {10}})
