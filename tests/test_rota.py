"""
Who comes next.
"""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.slivers.rota import Rota


class RotaTests(SynchronousTestCase):
    """
    Places for groups that wait.
    """

    def drain(self, rota: Rota) -> list[tuple[int, int]]:
        found = []
        while (taken := rota.take()) is not None:
            found.append(taken)
        return found

    def test_keepsPlacesForOthers(self) -> None:
        """
        However much one group asks for, another finds a place; with one place only, each has it in turn.
        """
        for at_once, most in ((1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (16, 12)):
            rota = Rota(at_once)
            for serial in range(100):
                rota.wait(1, serial)
            self.assertEqual(self.drain(rota), [(1, serial) for serial in range(most)], at_once)
            rota.wait(2, 100)
            self.assertEqual(self.drain(rota), [(2, 100)] if at_once > 1 else [])

    def test_servesGroupsInTurn(self) -> None:
        """
        As places become free, each group that waits gets one before any gets its second.
        """
        rota = Rota(1)
        for group in (1, 2, 3):
            for serial in range(3):
                rota.wait(group, 10 * group + serial)
        found = []
        while (taken := rota.take()) is not None:
            found.append(taken[1])
            rota.leave(taken[0])
        self.assertEqual(found, [10, 20, 30, 11, 21, 31, 12, 22, 32])

    @given(
        at_once=st.integers(1, 12),
        steps=st.lists(st.tuples(st.sampled_from(("wait", "wait", "take", "leave")), st.integers(0, 4)), max_size=120),
    )
    def test_isFair(self, at_once: int, steps: list[tuple[str, int]]) -> None:
        """
        Whatever comes and goes: no more places than there are, no group has too many, none free while somebody may
        have it, each group in its order, and no other group twice while one waits that may have a place.
        """
        rota, serials = Rota(at_once), count()
        held = dict.fromkeys(range(5), 0)
        waiting: dict[int, list[int]] = {group: [] for group in range(5)}
        passed: dict[int, set[int]] = {group: set() for group in range(5)}
        for what, group in steps:
            if what == "wait":
                waiting[group].append(next(serials))
                rota.wait(group, waiting[group][-1])
            elif what == "leave" and held[group]:
                rota.leave(group)
                held[group] -= 1
            elif what == "take":
                ready = {one for one in waiting if waiting[one] and held[one] < rota.most}
                taken = rota.take()
                self.assertEqual(taken is not None, bool(ready) and sum(held.values()) < at_once)
                if taken is not None:
                    served, serial = taken
                    self.assertIn(served, ready)
                    self.assertEqual(serial, waiting[served].pop(0))
                    held[served] += 1
                    passed[served] = set()
                    for one in ready - {served}:
                        self.assertNotIn(served, passed[one])
                        passed[one].add(served)
            for one in waiting:
                if not waiting[one] or held[one] >= rota.most:
                    passed[one] = set()
            self.assertLessEqual(max(held.values()), rota.most)
