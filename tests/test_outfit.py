"""
Tests for L{hostline.server.outfit}: which uids are for what.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, Slivers
from hostline.server.outfit import MOST_UID, ranges, why_no_machines
from hostline.server.supervise.subuids import BLOCK, SubuidRange


class RangesTests(SynchronousTestCase):
    """
    What is configured, cut up.
    """

    @given(st.integers(1, 20000), st.integers(1, 5000))
    def test_machinesOrAReason(self, first: int, count: int) -> None:
        """
        Either every block of QEMU machines can be used, and there is one, or there is a reason; containers have the
        rest.
        """
        slivers = Slivers(container_uid_first=first * BLOCK, container_uid_count=count * BLOCK)
        *_, containers, machines = ranges(Config(slivers=slivers))
        self.assertEqual(containers.size + machines.size, count * BLOCK)
        blocks = machines.blocks()
        usable = bool(blocks) and blocks[-1] + BLOCK - 1 <= MOST_UID
        self.assertEqual(usable, not why_no_machines(machines))

    def test_says(self) -> None:
        """
        The reason names the setting; with what nobody has set there is none.
        """
        self.assertEqual(why_no_machines(ranges(Config())[-1]), "")
        self.assertIn("2147483647", why_no_machines(SubuidRange(2**31 - BLOCK, 2 * BLOCK)))
        self.assertIn("container_uid_count", why_no_machines(SubuidRange(2**30, 0)))
