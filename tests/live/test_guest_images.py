"""
Images of QEMU machines: made on the host, and imported from disks of whoever.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from hostline.server.supervise.builders import Recipe
from hostline.server.supervise.shelf import Made
from tests import needs
from tests.live.test_images import Making
from tests.scale import SOAK
from tests.shelves import BUSYBOX, Shelved

SECRET = b"the host's own file, which no guest may see"


@needs.needs_root
@needs.needs_tool("busybox", "apt-get", "unshare", "qemu-img")
class BuildTests(Shelved):
    """
    Made on the host.
    """

    def test_busybox(self) -> None:
        """
        A tiny image has a kernel and what it begins with, is summed up as a whole, and is known again by the next
        daemon; nothing of its making is left.
        """
        made = self.run_to_end(self.shelf.build(1, Recipe("busybox", kind="qemu", ready="console:login:")), 300)
        files = self.shelf.guest(1)
        self.assertEqual(sorted(one.name for one in files.directory.iterdir()), ["guest.json", "initrd", "kernel"])
        self.assertEqual((files.about["ready"], made.ready, files.disk), ("console:login:",) * 2 + (None,))
        sums = "".join(
            f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in sorted(files.directory.iterdir())
        )
        self.assertEqual(made.sha256, hashlib.sha256(sums.encode()).hexdigest())
        self.assertEqual(made.size, sum(one.stat().st_size for one in files.directory.iterdir()))
        self.assertEqual({one.stat().st_mode & 0o777 for one in files.directory.iterdir()}, {0o444})
        self.assertEqual(sorted(one.name for one in files.directory.parent.iterdir()), ["guest", "note"])
        self.crash()
        self.begin()
        self.run_to_end(self.shelf.recover([1]))
        self.assertEqual((self.shelf.made(1), self.shelf.guest(1)), (made, files))
        with self.assertRaisesRegex(OSError, "not of containers"):
            self.run_to_end(self.shelf.tree(1))
        (files.directory / "kernel").unlink()
        self.crash()
        self.begin()
        self.assertIsNone(self.shelf.made(1))
        self.run_to_end(self.shelf.recover([1]))
        with self.assertRaisesRegex(OSError, "or damaged"):
            self.shelf.guest(1)
        self.assertEqual(self.shelf.serials(), {1})  # what is left may still be mended

    def test_ofContainers(self) -> None:
        """
        An image of containers is none of machines.
        """
        self.run_to_end(self.shelf.build(1, BUSYBOX))
        with self.assertRaisesRegex(OSError, "none of QEMU machines"):
            self.shelf.guest(1)

    @needs.needs_tool("debootstrap")
    def test_debian(self) -> None:
        """
        Debian has a disk beside its kernel, with room for what nodes install, and packages that were asked for.
        """
        if not SOAK:
            self.skipTest(f"{needs.CANNOT}takes minutes and a mirror; make soak runs it")
        self.run_to_end(self.shelf.build(1, Recipe("debian", kind="qemu", packages=("hello",))), 1200)
        files = self.shelf.guest(1)
        assert files.disk is not None
        words = ["qemu-img", "info", "--output=json", str(files.disk)]
        said = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
        self.assertEqual((said["virtual-size"], said.get("backing-filename")), (4 << 30, None))
        self.assertLess(files.disk.stat().st_size, 1 << 30)
        raw = self.state / "raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(files.disk), str(raw)], check=True, timeout=300)
        for path in ("/usr/bin/hello", "/usr/sbin/qemu-ga", "/usr/sbin/sshd", "/usr/lib/hostline/up"):
            listed = subprocess.run(["debugfs", "-R", f"stat {path}", str(raw)], capture_output=True, check=True)
            self.assertIn(b"Type: regular", listed.stdout, path)
        keys = subprocess.run(["debugfs", "-R", "ls /etc/ssh", str(raw)], capture_output=True, check=True).stdout
        self.assertNotIn(b"ssh_host_", keys)


@needs.needs_root
@needs.needs_tool("qemu-img", "qemu-io", "unshare")
class ImportTests(Making):
    """
    Disks that were sent.
    """

    def disk(self, *options: str, size: str = "64M") -> Path:
        """
        @return: a qcow2 file with something in it.
        """
        path = self.state / "made.qcow2"
        path.unlink(missing_ok=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), size], check=True, timeout=60)
        subprocess.run(
            ["qemu-io", "-c", "write -P 7 1M 3M", "-c", "write -P 8 40M 64k", str(path)],
            check=True, timeout=60, capture_output=True,
        )  # fmt: skip
        return path

    def bring_guest(self, content: bytes, ready: str = "", most: int = 1 << 30) -> Made:
        """
        Import what was sent as image 1.
        """
        return self.bring(content, kind="qemu", ready=ready, most_bytes=most)

    def refuse(self, content: bytes, why: str, most: int = 1 << 30) -> None:
        """
        Something is refused, by what is wrong with it, and nothing is left.
        """
        with self.assertRaisesRegex(OSError, why):
            self.bring_guest(content, most=most)
        self.assertEqual(self.shelf.serials(), set())

    def test_disk(self) -> None:
        """
        A disk is taken as it is, by bzip2, or in a tar with a kernel; a guest sees what was in it.
        """
        disk = self.disk()
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w:gz") as made:
            made.add(disk, "disk.qcow2")
            for name, text in (("kernel", b"k"), ("initrd", b"i"), ("guest.json", b'{"append": "x"}')):
                info = tarfile.TarInfo(name)
                info.size = len(text)
                made.addfile(info, io.BytesIO(text))
        for content, kernel in (
            (disk.read_bytes(), None), (bz2.compress(disk.read_bytes()), None), (tar.getvalue(), "kernel"),
        ):  # fmt: skip
            self.assertEqual(self.bring_guest(content, "tcp:22").ready, "tcp:22")
            files = self.shelf.guest(1)
            self.assertEqual(files.kernel and files.kernel.name, kernel)
            subprocess.run(["qemu-img", "compare", "-q", str(disk), str(files.disk)], check=True, timeout=60)
            self.assertEqual(files.directory.stat().st_uid, 0)

    def test_backing(self) -> None:
        """
        A disk that would have the host's files read by the guest is refused, whatever way it refers to them.
        """
        secret = self.state / "secret"
        secret.write_bytes(SECRET * 2000)
        self.refuse(self.disk("-F", "raw", "-b", str(secret)).read_bytes(), "backing file")
        outer = self.state / "data.raw"
        self.refuse(self.disk("-o", f"data_file={outer},data_file_raw=on").read_bytes(), "another file")
        raw = bytearray(self.disk().read_bytes())
        link = b"json:" + json.dumps({"driver": "raw", "file": {"filename": str(secret)}}).encode()
        raw[8:20] = (1024).to_bytes(8, "big") + len(link).to_bytes(4, "big")
        raw[1024 : 1024 + len(link)] = link
        self.refuse(bytes(raw), "backing file")

    def test_damaged(self) -> None:
        """
        A disk that is cut off, or whose tables lead astray, is refused; so is what is no disk.
        """
        whole = self.disk().read_bytes()
        for share in (0.3, 0.6, 0.99):
            self.refuse(whole[: int(len(whole) * share)], "cut off|damaged")
        for place in (0x30000, 0x10000):  # the first tables of most
            broken = bytearray(whole)
            broken[place : place + 8] = b"\x5a" * 8
            self.refuse(bytes(broken), "damaged|cut off|cannot be read")
        self.refuse(bytes(100_000), "neither a disk nor")
        self.refuse(b"", "no tar|neither a disk nor")
        self.refuse(bz2.compress(whole)[:-50], "cut off|no tar|cannot be read|damaged")

    def test_bombs(self) -> None:
        """
        What is small when it is sent and large when it is unpacked is refused.
        """
        self.refuse(bz2.compress(self.disk().read_bytes() + bytes(200 << 20)), "more bytes", 64 << 20)
        self.refuse(_huge(self.disk().read_bytes()), "more than")


def _huge(disk: bytes) -> bytes:
    return disk[:24] + (1 << 62).to_bytes(8, "big") + disk[32:]
