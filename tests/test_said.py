"""
What a container says of itself is believed only as far as it makes sense.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import said
from hostline.server.supervise.said import Said


class ReadingTests(SynchronousTestCase):
    """
    Its files, as anybody may have written them.
    """

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.place.mkdir()

    def write(self, name: str, content: bytes) -> Said:
        (self.place / name).write_bytes(content)
        return said.read(self.place)

    def test_howFarItIs(self) -> None:
        """
        Each file counts once it ends with a newline; what is cut short or too long does not.
        """
        self.assertEqual(self.write("ended", b"7"), Said())
        self.assertEqual(self.write("ended", b"7\n"), Said(ended=7))
        self.assertEqual(self.write("up", b"up\n"), Said(up=True, ended=7))
        self.assertEqual(self.write("ended", b"7" * 40 + b"\n"), Said(up=True))
        self.assertEqual(self.write("ended", b"256\n"), Said(up=True))

    def test_whyItGaveUp(self) -> None:
        """
        The reason is one line of plain characters, however much was written, and stays known once it was read.
        """
        first = self.write("failure", b"packages: \x1b[2Jno \xffdisk\nmore\n")
        self.assertEqual(first.failure, "packages: ?[2Jno ?disk")
        self.assertEqual(len(self.write("failure", b"x" * 60000).failure), 500)
        (self.place / "failure").unlink()
        self.assertEqual(first.then(said.read(self.place)).failure, first.failure)

    def test_whatIsNoPlainFile(self) -> None:
        """
        A FIFO holds nobody up, and a link leads nowhere.
        """
        os.mkfifo(self.place / "up")
        (self.place / "failure").symlink_to("/etc/hostname")
        self.assertEqual(said.read(self.place), Said())
