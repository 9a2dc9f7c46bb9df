"""
What disks are taken, by their heads and by what is with them; qemu-img is another test's.
"""

from __future__ import annotations

import bz2
import io
import json
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.unpack import Refused
from hostline.server.supervise.unpack_guest import about_guest, check_head, take
from tests.live.support import temporary_directory


def head(**other: int) -> bytes:
    """
    @return: the head of a qcow2 file of version 3, with something else in it.
    """
    said = {
        "version": 3, "backing": 0, "name": 0, "bits": 16, "size": 1 << 30, "crypt": 0, "l1_size": 2, "l1": 0x30000,
        "refcounts": 0x10000, "ref_size": 1, "snapshots": 0, "snapshot_at": 0, "features": 0, **other,
    }  # fmt: skip
    words = [said[name] for name in said if name != "features"]
    return b"QFI\xfb" + struct.pack(">IQIIQIIQQIIQ", *words) + struct.pack(">QQQII", said["features"], 0, 0, 4, 104)


def tar_of(**files: bytes) -> bytes:
    """
    @return: a tar of files by name; C{_} stands for a dot.
    """
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


class HeadTests(SynchronousTestCase):
    """
    Heads of disks.
    """

    def test_good(self) -> None:
        """
        A plain disk is taken, of either version.
        """
        self.assertEqual(check_head(head(), 1 << 20), 1 << 30)
        self.assertEqual(check_head(head(version=2)[:72], 1 << 20), 1 << 30)
        self.assertEqual(check_head(head(features=8 | 16 | 1), 1 << 20), 1 << 30)

    def test_refused(self) -> None:
        """
        What refers to another file, is cut off or cannot be is refused, each by what is wrong with it.
        """
        for other, why in (
            ({"backing": 200, "name": 11}, "backing file"),
            ({"backing": 200}, "backing file"),
            ({"name": 11}, "backing file"),
            ({"features": 4}, "another file"),
            ({"features": 2}, "corrupt"),
            ({"features": 1 << 40}, "features"),
            ({"crypt": 2}, "encrypted"),
            ({"bits": 40}, "cannot be"),
            ({"size": 1 << 60}, "more than"),
            ({"l1": 1 << 20}, "cut off"),
            ({"l1_size": 1 << 24}, "cut off"),
            ({"ref_size": 100}, "cut off"),
            ({"version": 9}, "version 9"),
        ):
            with self.assertRaisesRegex(Refused, why):
                check_head(head(**other), 1 << 20)
        with self.assertRaisesRegex(Refused, "cut off"):
            check_head(head()[:80], 80)

    @given(st.binary(max_size=120) | st.binary(max_size=110).map(lambda one: b"QFI\xfb" + one), st.integers(0, 1 << 40))
    def test_anyHead(self, data: bytes, size: int) -> None:
        """
        Whatever the first bytes are, they are taken or refused; what is taken refers to nothing.
        """
        try:
            check_head(data, size)
        except Refused:
            return
        self.assertEqual(data[8:20], bytes(12))


class AboutTests(SynchronousTestCase):
    """
    What an image says of itself.
    """

    def test_defaults(self) -> None:
        """
        An image that says nothing is up when its agent answers; what was asked for counts more than what it says.
        """
        self.assertEqual(about_guest(b"", "")["ready"], "agent")
        said = json.dumps(
            {"ready": "tcp:22", "append": "root=/dev/vda", "machine": "microvm", "memory_least": 5}
        ).encode()
        self.assertEqual(about_guest(said, "")["ready"], "tcp:22")
        self.assertEqual(about_guest(said, "started")["ready"], "started")
        self.assertEqual(about_guest(said, "")["machine"], "microvm")

    def test_refused(self) -> None:
        """
        What makes no sense is refused.
        """
        bad: list[Any] = [
            {"ready": "console:(a+)+"}, {"ready": 5}, {"append": "a\nb"}, {"append": 3}, {"machine": "isapc"},
            {"machine": []}, {"memory_least": -1}, {"memory_least": True}, {"memory_least": 1.5}, {"other": 1}, [], 3,
        ]  # fmt: skip
        for one in bad:
            with self.assertRaises(Refused, msg=str(one)):
                about_guest(json.dumps(one).encode(), "")
        with self.assertRaises(Refused):
            about_guest(b"[" * 5000, "")


class TakeTests(SynchronousTestCase):
    """
    What may be sent.
    """

    def setUp(self) -> None:
        self.directory = temporary_directory()
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.directory)], check=False)

    def take(self, data: bytes, most: int = 1 << 20) -> set[str]:
        """
        @return: names of what was taken.
        """
        work = Path(self.directory) / str(len(list(self.directory.iterdir())))
        work.mkdir()
        take(io.BytesIO(data), work, most)
        return {one.name for one in work.iterdir()}

    def test_taken(self) -> None:
        """
        A disk alone, or a tar with a kernel.
        """
        self.assertEqual(self.take(head()), {"disk.qcow2"})
        both = tar_of(kernel=b"k", initrd=b"i", disk_qcow2=b"d", guest_json=b"{}")
        self.assertEqual(self.take(both), {"kernel", "initrd", "disk.qcow2", "guest.json"})

    def test_refused(self) -> None:
        """
        What is something else, too large or cut off is refused in words, and nothing but that is raised.
        """
        both = tar_of(kernel=b"k" * 3000)
        for data, most, why in (
            (tar_of(etc_passwd=b"x"), 1 << 20, "want only files"),
            (both, 2000, "more bytes"),
            (head() + bytes(5000), 2000, "more bytes"),
            (both[:1000], 1 << 20, "no tar"),
            (b"garbage" * 200, 1 << 20, "no tar"),
        ):
            with self.assertRaisesRegex(Refused, why):
                self.take(data, most)

    def test_links(self) -> None:
        """
        A link in the tar is not followed, and not made.
        """
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            info = tarfile.TarInfo("kernel")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
        with self.assertRaisesRegex(Refused, "want only files"):
            self.take(made.getvalue())

    def test_cutOffCompressed(self) -> None:
        """
        What was compressed and cut off is refused in words.
        """
        work = self.directory / "x"
        work.mkdir()
        with self.assertRaises(Refused):
            take(bz2.BZ2File(io.BytesIO(bz2.compress(head() * 5000)[:-20])), work, 1 << 30)
