"""
Removing big trees without holding up anybody.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.trash import AT_ONCE, Trash


class Removals:
    """
    In the place of a spawner: what C{rm} is at, ended when a test says so.
    """

    def __init__(self) -> None:
        self.running: dict[str, Callable[[int | None], None]] = {}
        self.released = 0
        self.fails = False

    def spawn(self, argv: list[str], *, environment: dict[str, str], ended: Callable[[int | None], None]) -> object:
        if self.fails:
            raise OSError(11, "Resource temporarily unavailable")
        assert argv[1:4] == ["-rf", "--one-file-system", "--"]
        (path,) = argv[4:]
        self.running[path] = ended
        return object()

    def release(self, child: Any) -> None:
        self.released += 1

    def end(self, path: str, *, removed: bool = True) -> None:
        if removed:
            shutil.rmtree(path)
        self.running.pop(path)(0 if removed else 1)


class TrashTests(SynchronousTestCase):
    """
    What is thrown away.
    """

    def setUp(self) -> None:
        self.home = Path(self.mktemp())
        self.home.mkdir(parents=True)
        self.removals = Removals()
        self.trash = self.another()

    def another(self) -> Trash:
        trash = Trash(self.home / ".trash", cast("Spawner", self.removals))
        trash.resume()
        return trash

    def throw(self, name: str) -> None:
        tree = self.home / name
        (tree / "deep").mkdir(parents=True)
        self.successResultOf(Deferred.fromCoroutine(self.trash.throw(tree)))
        self.assertFalse(tree.exists())

    def running(self) -> list[str]:
        return [Path(path).name.partition(".")[0] for path in self.removals.running]

    def test_isGoneAtOnce(self) -> None:
        """
        Who throws something away does not wait for its removal, and what is not there is no mistake.
        """
        self.throw("5")
        self.assertEqual(self.running(), ["5"])
        self.successResultOf(Deferred.fromCoroutine(self.trash.throw(self.home / "5")))
        self.throw("5")
        self.assertEqual(self.running(), ["5", "5"])

    def test_removesAFewSideBySide(self) -> None:
        """
        Each tree by itself, so many at a time: the others go while a huge one takes its time.
        """
        for number in range(7):
            self.throw(str(number))
        self.assertEqual(self.running(), ["0", "1", "2", "3"][:AT_ONCE])
        for path in list(self.removals.running)[1:]:
            self.removals.end(path)
        self.assertEqual(self.running(), ["0", "4", "5", "6"])

    def test_goesOnAfterOneThatCannotBeRemoved(self) -> None:
        """
        What is still there is left for the next start; the others are removed.
        """
        for number in range(5):
            self.throw(str(number))
        self.removals.end(next(iter(self.removals.running)), removed=False)
        self.assertEqual(self.running(), ["1", "2", "3", "4"])
        for path in list(self.removals.running):
            self.removals.end(path)
        self.another()
        self.assertEqual(self.running(), ["0"])

    def test_waitsWhileNothingCanBeStarted(self) -> None:
        """
        If there are too many processes it is tried again with the next.
        """
        self.removals.fails = True
        self.throw("1")
        self.removals.fails = False
        self.throw("2")
        self.assertEqual(self.running(), ["1", "2"])

    def test_leavesTheRestToTheNext(self) -> None:
        """
        After the daemon's end each C{rm} goes on unwatched, and no other begins.
        """
        for number in range(6):
            self.throw(str(number))
        self.trash.close()
        self.assertEqual(self.removals.released, AT_ONCE)
        self.assertEqual(len(self.removals.running), AT_ONCE)
