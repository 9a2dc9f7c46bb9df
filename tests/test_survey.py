"""
Who belongs to which sliver.
"""

from __future__ import annotations

import unittest

from hostline.server.supervise.shim import Process
from hostline.server.supervise.survey import Seen, members


def seen(pid: int, parent: int = 1, session: int = 0, uid: int = 0, tag: bytes | None = None) -> Seen:
    """
    @return: a process, started at 10 times its pid.
    """
    return Seen(Process(pid, pid * 10), parent, session, uid, tag)


class MemberTests(unittest.TestCase):
    """
    By tag, uid, session and descent.
    """

    def pids(self, *everything: Seen) -> dict[int, set[int]]:
        found = members(everything, "us", {205: 5})
        return {serial: {process.pid for process in processes} for serial, processes in found.items()}

    def test_isByTag(self) -> None:
        """
        Only our own tag counts.
        """
        tags = [b"us/5", b"them/5", b"us/x", b"us/", b"usa/5", None, b"us/7"]
        self.assertEqual(self.pids(*(seen(n, tag=tag) for n, tag in enumerate(tags, 10))), {5: {10}, 7: {16}})

    def test_isByUid(self) -> None:
        """
        A uid of a sliver's own counts.
        """
        self.assertEqual(self.pids(seen(10, uid=205), seen(11, uid=206)), {5: {10}})

    def test_isNotByUidWhenAnothersTag(self) -> None:
        """
        What carries the tag of another state directory is left alone, even if it has one of our uids.
        """
        self.assertEqual(self.pids(seen(10, uid=205, tag=b"them/5")), {})

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
        Session 0 (the kernel's) joins nobody, nor does one in which somebody only has a sliver's uid.
        """
        self.assertEqual(self.pids(seen(10, uid=205, session=9), seen(11, session=9)), {5: {10}})
        self.assertEqual(self.pids(seen(10, tag=b"us/5", session=0), seen(11, session=0)), {5: {10}})
