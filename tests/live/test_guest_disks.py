"""
The disk of a QEMU machine that is off, made one with what lies below it; by the real qemu-img, without any machine.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import pack_guest
from tests.needs import needs_root, needs_tool

_UID = 70001


@needs_root
@needs_tool("qemu-img", "qemu-io")
class PackTests(SynchronousTestCase):
    """
    A disk of which the guest changed a part, in a directory that only root may enter.
    """

    def setUp(self) -> None:
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.place = Path(temporary.name)
        self.base, self.disk = self.place / "base.qcow2", self.place / "disk.qcow2"
        self.tool("qemu-img", "create", "-q", "-f", "qcow2", str(self.base), "64M")
        self.io(self.base, "write -P 0x11 0 1M")
        self.over(self.base)
        self.io(self.disk, "write -P 0x22 512k 1M")
        (self.place / "guest.json").write_text(json.dumps({"ready": "agent"}))

    def over(self, base: Path) -> None:
        """The guest's own disk, anew, over another."""
        self.disk.unlink(missing_ok=True)
        self.tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(self.disk), "128M")
        self.disk.chmod(0o600)
        os.chown(self.disk, _UID, _UID)

    def tool(self, *words: str) -> str:
        """Run it; its output."""
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout

    def io(self, disk: Path, *orders: str) -> str:
        """Read and write in a disk; what is read must be as it is said."""
        said = self.tool("qemu-io", "-f", "qcow2", *(word for one in orders for word in ("-c", one)), str(disk))
        self.assertNotIn("failed", said)
        return said

    def packed(self) -> tuple[str, Path]:
        """What the program says, and the tar."""
        out = self.place / "out.tar"
        words = [out, self.disk, self.base, _UID, 1 << 30, "-", "-", self.place / "guest.json"]
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", pack_guest.__file__, *(str(one) for one in words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode == 0, not done.stderr, done.stderr)
        return done.stderr.strip(), out

    def test_isOneDisk(self) -> None:
        """
        What the guest wrote stands over what was there; nothing refers to another file, and nothing else is left.
        """
        before = set(self.place.iterdir())
        said, out = self.packed()
        self.assertEqual(said, "")
        self.assertEqual(set(self.place.iterdir()) - before, {out})
        with tarfile.open(out) as tar:
            self.assertEqual(tar.getnames(), ["guest.json", "disk.qcow2"])
            tar.extract("disk.qcow2", self.place / "there")
        made = self.place / "there/disk.qcow2"
        self.io(made, "read -P 0x11 0 512k", "read -P 0x22 512k 1M", "read -P 0 2M 100M")
        about = json.loads(self.tool("qemu-img", "info", "--output=json", str(made)))
        self.assertEqual((about.get("backing-filename"), about["virtual-size"]), (None, 128 << 20))

    def test_believesNothingOfWhatIsBelow(self) -> None:
        """
        A guest that has its disk refer to another file of the host's gets nothing of that.
        """
        secret = self.place / "secret.qcow2"
        self.tool("qemu-img", "create", "-q", "-f", "qcow2", str(secret), "64M")
        self.io(secret, "write -P 0x55 0 64M")
        self.over(secret)
        said, out = self.packed()
        self.assertEqual(said, "")
        with tarfile.open(out) as tar:
            tar.extract("disk.qcow2", self.place / "there")
        self.io(self.place / "there/disk.qcow2", "read -P 0x11 0 1M", "read -P 0 2M 60M")

    def test_refusesDisksThatLeadElsewhere(self) -> None:
        """
        One whose data is in a file that it names, and what is no disk, is refused; nothing is left of the tar.
        """
        with self.disk.open("r+b") as file:
            file.seek(72)
            file.write(struct.pack(">Q", 4))
        self.assertEqual(self.packed()[0], "its disk keeps its data in another file")
        self.disk.write_bytes(b"QFI\xfb" + bytes(20))
        self.assertEqual(self.packed()[0], "its disk is no qcow2 disk")
        self.assertEqual([*self.place.glob("out.tar*")], [])
