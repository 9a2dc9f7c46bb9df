"""
Tests for L{hostline.server.experiments.snapshots} and L{hostline.server.supervise.pack_tree}; those that need root are
in L{tests.live.test_nodes}.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments.snapshots import Snapshots
from hostline.server.host import Host
from hostline.server.records import Image
from hostline.server.supervise import pack_tree


class TidyTests(SynchronousTestCase):
    """
    Files that images are made of.
    """

    def test_keepsWhatIsWanted(self) -> None:
        """
        The file of an image that is not made yet stays; that of one that is, and of none, goes.
        """
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        host = Host("h")
        change = host.change(1.0)
        for name, sha256 in (("wanted", ""), ("made", "a" * 64)):
            path = directory / f"{name}.tar"
            change.put(Image(serial=change.serial(), name=name, sha256=sha256, created=1.0, blob=str(path)))
            path.touch()
        (directory / "stray.tar").touch()
        Snapshots(host, directory, None).tidy()
        self.assertEqual([one.name for one in directory.iterdir()], ["wanted.tar"])

    def test_nothingThere(self) -> None:
        """
        Where no snapshot was ever taken there is nothing to do.
        """
        directory = Path(self.mktemp())
        Snapshots(Host("h"), directory, None).tidy()
        self.assertFalse(directory.exists())


class PackTests(SynchronousTestCase):
    """
    The tar of a tree.
    """

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        real_open = os.open

        def opened(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            # In the program the tree is the root of the process.
            return real_open(self.root if path == "/" else path, flags, mode, dir_fd=dir_fd)  # type: ignore[arg-type]

        self.patch(os, "open", opened)

    def packed(self, most: int = 1 << 20, first: int | None = None) -> dict[str, tarfile.TarInfo]:
        """The entries by name."""
        out = io.BytesIO()
        pack_tree.pack(out, os.getuid() if first is None else first, 65536, most)
        self.data = io.BytesIO(out.getvalue())
        with tarfile.open(fileobj=self.data) as tar:
            return {one.name: one for one in tar}

    def test_whatIsInIt(self) -> None:
        """
        Files, directories, links and pipes with their modes, the container's root being 0; hard links are links.
        """
        (self.root / "etc").mkdir(mode=0o750)
        (self.root / "etc/file").write_bytes(b"data")
        (self.root / "etc/file").chmod(0o640)
        os.link(self.root / "etc/file", self.root / "same")
        (self.root / "link").symlink_to("/etc/shadow")
        os.mkfifo(self.root / "pipe")
        found = self.packed()
        self.assertEqual(set(found), {"etc", "etc/file", "same", "link", "pipe"})
        self.assertEqual((found["etc/file"].mode, found["etc/file"].uid, found["etc"].mode), (0o640, 0, 0o750))
        self.assertEqual((found["same"].islnk(), found["same"].linkname), (True, "etc/file"))
        self.assertEqual((found["link"].issym(), found["link"].linkname), (True, "/etc/shadow"))
        self.assertTrue(found["pipe"].isfifo())

    def test_whatIsLeftOut(self) -> None:
        """
        What is of one boot, or our own, is empty; who has no uid in the container is nobody.
        """
        for name in ("tmp/x", "var/log/hostline/start_command.out", "var/log/other"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).touch()
        found = self.packed(first=os.getuid() + 1)
        self.assertEqual(set(found), {"tmp", "var", "var/log", "var/log/hostline", "var/log/other"})
        self.assertEqual(found["tmp"].uid, 65534)

    def test_isBounded(self) -> None:
        """
        More than may be is refused before it is written.
        """
        with (self.root / "big").open("wb") as file:
            file.truncate(1 << 40)
        self.assertRaises(pack_tree.TooBig, self.packed)

    def test_aFileThatIsCutMeanwhile(self) -> None:
        """
        It is filled with zeros to what it was said to be, so that what is behind it can be read.
        """
        whole = pack_tree._Whole(io.BytesIO(b"abc"), 5)
        self.assertEqual((whole.read(2), whole.read(10), whole.read(10)), (b"ab", b"c\0\0", b""))

    def test_aNameThatIsTurnedIntoALink(self) -> None:
        """
        What was a file when it was listed, and is a link when it is opened, is left out: nothing is read through it.
        """
        (self.root / "file").write_text("mine")
        secret = Path(self.mktemp()).absolute()
        secret.write_text("secret")
        entry = pack_tree._entry

        def turned(name: str, *about: object) -> tarfile.TarInfo | None:
            found = entry(name, *about)  # type: ignore[arg-type]
            (self.root / "file").unlink()
            (self.root / "file").symlink_to(secret)
            return found

        self.patch(pack_tree, "_entry", turned)
        self.assertEqual(self.packed(), {})
        self.assertNotIn(b"secret", self.data.getvalue())
