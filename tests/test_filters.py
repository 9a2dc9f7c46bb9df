"""
Tests for how many wirefilters there may be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.network.fabric import Joint, Shape
from hostline.server.network.filters import OF_ALL, OF_ONE, Filters, most_joints


class FullTests(SynchronousTestCase):
    """
    A host on which nothing starts, and that may have a few.
    """

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.started: list[Any] = []
        nothing: Any = None
        self.filters = Filters("a" * 16, directory, nothing, nothing, Clock(), 65534, None)
        self.directory = directory

        async def noted(chain: Any) -> None:
            self.started.append(chain.near)

        self.filters._look_after = noted  # type: ignore[method-assign]

    def ensure(self, name: str, group: int) -> str:
        """
        @return: why there is none of this name.
        """
        slow = Shape(delay_ms=5)
        joint = Joint(f"{name}n", f"{name}f", "b", "c", slow, slow, filtered=True)
        return self.successResultOf(Deferred.fromCoroutine(self.filters.ensure(joint, group)))

    def test_ofOneExperiment(self) -> None:
        """
        One experiment cannot have all that there may be; another still gets its own, until there are too many in all.
        """
        self.filters._most = 10
        said = [self.ensure(f"a{at}", 7) for at in range(6)]
        self.assertIn("the experiment has 5", said[5])
        self.assertEqual(len(self.started), 5)
        for at in range(6):
            self.ensure(f"b{at}", 8)
        self.assertEqual(len(self.started), 10)
        self.assertIn("this host has 10", self.ensure("c", 9))

    def test_thoseThatAreThere(self) -> None:
        """
        One that is there is looked after though there may be no more; where one goes another may come.
        """
        self.filters._most = 2
        self.ensure("a", 7)
        self.assertIn("the experiment has 1", self.ensure("b", 7))
        self.assertNotIn("the experiment has", self.ensure("a", 7))
        self.filters.drop("an")
        self.assertNotIn("the experiment has", self.ensure("b", 7))
        self.assertEqual(self.started, ["an", "an", "bn"])

    def test_most(self) -> None:
        """
        It hangs on how many processes the host can have.
        """
        note = self.directory / "pid_max"
        note.write_text("32768\n")
        self.assertLess(3 * most_joints(note), 32768 // 3)
        note.write_text("4194304\n")
        self.assertEqual(most_joints(note), OF_ALL)
        self.assertGreaterEqual(OF_ALL // 2, OF_ONE)
        note.write_text("none")
        self.assertEqual(most_joints(note), OF_ALL)
