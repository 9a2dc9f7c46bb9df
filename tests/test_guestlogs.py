"""
Copies of a guest's logs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import guestlogs
from hostline.server.supervise.guest import Guest
from hostline.server.supervise.guestlogs import GuestLogs

OUT = "start_command.out"


class FakeGuest:
    """
    One with these files, which answers at once, as L{Guest.read} says.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def read(self, path: str, most: int, offset: int = 0) -> tuple[bytes, int]:
        name = path.rpartition("/")[2]
        if name not in self.files:
            raise FileNotFoundError(path)
        data = self.files[name]
        start = offset if offset <= len(data) else 0
        return data[start : start + most], start


class CopyTests(SynchronousTestCase):
    """
    What is copied.
    """

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        (self.root / "var/log/hostline").mkdir(parents=True)
        self.guest = FakeGuest()
        self.logs = GuestLogs(cast(Guest, self.guest))

    def copy(self) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.logs.copy(self.root)))

    def copied(self) -> bytes:
        return (self.root / "var/log/hostline" / OUT).read_bytes()

    def test_grows(self) -> None:
        """
        What is new is added.
        """
        for text in (b"one\n", b"one\ntwo\n", b"one\ntwo\n"):
            self.guest.files[OUT] = text
            self.assertFalse(self.copy())
            self.assertEqual(self.copied(), text)

    def test_isBegunAnewWithTheLog(self) -> None:
        """
        A log that is shorter than before was begun anew, and so is its copy.
        """
        self.guest.files[OUT] = b"a long line\n"
        self.copy()
        self.guest.files[OUT] = b"new\n"
        self.copy()
        self.assertEqual(self.copied(), b"new\n")

    def test_isWhatThereIsToANewDaemon(self) -> None:
        """
        A daemon that comes later begins the copy anew, with all that is there.
        """
        self.guest.files[OUT] = b"one\n"
        self.copy()
        self.logs = GuestLogs(cast(Guest, self.guest))
        self.copy()
        self.assertEqual(self.copied(), b"one\n")

    def test_isBounded(self) -> None:
        """
        However much a guest writes, its copy has an end; what came last is there.
        """
        self.guest.files[OUT] = b"x" * (3 * guestlogs.MOST) + b"last"
        while self.copy():
            self.assertLessEqual(len(self.copied()), guestlogs.MOST + 100)
        self.assertTrue(self.copied().endswith(b"last"))
        self.assertIn(b"[hostline: emptied after", self.copied())
