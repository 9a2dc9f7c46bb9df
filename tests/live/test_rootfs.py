"""
The root file systems of containers, on real mounts.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from hostline.server.supervise import rootfs as module
from hostline.server.supervise import running, syscalls
from hostline.server.supervise.means import Means
from hostline.server.supervise.rootfs import Rootfs
from tests import needs
from tests.shelves import BUSYBOX, Shelved

FIRST = 400000
KIB = 32768


@needs.needs_root
@needs.needs_tool("busybox", "mkfs.ext4", "unshare")
class RootfsTests(Shelved):
    """
    Two containers on one image.
    """

    def setUp(self) -> None:
        super().setUp()
        self.run_to_end(self.shelf.build(1, BUSYBOX))
        self.rootfs = self.files()
        if self.rootfs.means.disk != Means.LOOP:
            self.skipTest(f"{needs.CANNOT}{'; '.join(self.rootfs.means.problems)}")

    def mounted(self, serial: int, rootfs: Rootfs | None = None) -> Path:
        """
        @return: a new container's root.
        """
        files = rootfs or self.rootfs
        self.run_to_end(files.make(serial, 1, FIRST * serial, 65536, KIB))
        return self.run_to_end(files.mount(serial))

    def test_owners(self) -> None:
        """
        The image's files belong to the container's own uids, and so does its root.
        """
        root = self.mounted(1)
        self.assertEqual({root.stat().st_uid, (root / "bin/busybox").stat().st_uid}, {FIRST})
        self.assertEqual((root / "bin/busybox").stat().st_gid, FIRST)

    def test_apart(self) -> None:
        """
        What one changes or removes, the other and the image keep.
        """
        one, two = self.mounted(1), self.mounted(2)
        (one / "etc/passwd").write_text("changed\n")
        (one / "bin/busybox").unlink()
        tree = self.run_to_end(self.shelf.tree(1))
        for place in (two, tree):
            self.assertTrue((place / "bin/busybox").is_file())
            self.assertTrue((place / "etc/passwd").read_text().startswith("root:"))
        self.assertEqual((one / "etc/passwd").stat().st_uid, FIRST)
        with self.assertRaises(OSError) as caught:
            (tree / "new").touch()
        self.assertEqual(caught.exception.errno, errno.EROFS)

    def test_nobodyElseGetsIn(self) -> None:
        """
        A user of the host cannot reach a container's files, its own root can.
        """
        root = self.mounted(1)
        argv = ["setpriv", "--clear-groups", "--reuid", str(FIRST), "--regid"]
        own = subprocess.run([*argv, str(FIRST), "ls", str(root)], capture_output=True, check=False, timeout=10)
        other = subprocess.run([*argv, "65534", "ls", str(root)], capture_output=True, check=False, timeout=10)
        self.assertEqual((own.returncode, other.returncode), (0, 2), own.stderr)

    def test_diskMax(self) -> None:
        """
        A container cannot write more than its disk_max, the other does not notice, and what it deletes is free again.
        """
        one, two = self.mounted(1), self.mounted(2)
        allowed, used = self.rootfs.disk(1)
        self.assertEqual(allowed, KIB)
        with self.assertRaises(OSError) as caught, (one / "hog").open("wb", buffering=0) as file:
            for _ in range(KIB // 1024 + 1):
                file.write(os.urandom(1 << 20))
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.assertGreater(self.rootfs.disk(1)[1], KIB * 0.8)
        (two / "file").write_bytes(bytes(1 << 20))
        (one / "hog").unlink()
        self.assertLess(self.rootfs.disk(1)[1], used + 1024)

    def test_filesLast(self) -> None:
        """
        What a container wrote is there when it is mounted again, also by another daemon.
        """
        (self.mounted(1) / "mine").write_text("1\n")
        self.run_to_end(self.rootfs.unmount(1))
        self.run_to_end(self.rootfs.unmount(1))
        self.assertEqual(self.mounts(), [])
        root = self.run_to_end(self.files(self.rootfs.means).mount(1))
        self.assertEqual((root / "mine").read_text(), "1\n")

    def test_nothingLeft(self) -> None:
        """
        After the end no mount, no loop device and no file is left, and it may be ended twice.
        """
        for serial in (1, 2):
            (self.mounted(serial) / "file").write_bytes(bytes(1 << 20))
        self.assertEqual(self.rootfs.serials(), {1, 2})
        for serial in (1, 2, 1):
            self.run_to_end(self.rootfs.destroy(serial))
        self.run_to_end(self.shelf.remove(1))
        self.wait_for(lambda: self.left() == ([], []))
        self.assertEqual((self.rootfs.serials(), self.shelf.serials()), (set(), set()))

    def test_inUse(self) -> None:
        """
        What somebody still uses is not taken away: that is said, and works when he has left.
        """
        file = (self.mounted(1) / "file").open("w")
        with self.assertRaisesRegex(OSError, "busy"):
            self.run_to_end(self.rootfs.destroy(1))
        self.assertEqual(self.rootfs.serials(), {1})
        file.close()
        self.run_to_end(self.rootfs.destroy(1))

    def test_imageGoneBeneath(self) -> None:
        """
        A container that runs keeps the files of its image even if that is removed from the host.
        """
        root = self.mounted(1)
        self.run_to_end(self.shelf.remove(1))
        self.assertEqual(len((root / "bin/busybox").read_bytes()), (root / "bin/busybox").stat().st_size)
        self.assertEqual(self.shelf.serials(), set())

    def test_killedAtAnyStep(self) -> None:
        """
        Whatever step of making and mounting a daemon died before, the next one goes on from there, or leaves nothing.
        """
        for end in ("mount", "destroy"):
            step = 0
            while self.stopped_before(step):
                files = self.files(self.rootfs.means)
                if end == "mount":
                    self.assertEqual((self.mounted(1, files) / "bin/sh").readlink(), Path("busybox"))
                self.run_to_end(files.destroy(1))
                self.assertEqual(files.serials(), set(), f"step {step}")
                self.wait_for(lambda: not [one for one in self.left()[1] if "containers" in one])
                step += 1
            self.assertGreater(step, 8)
            self.run_to_end(self.rootfs.destroy(1))

    def stopped_before(self, step: int) -> bool:
        """
        Make and mount until the given step on the host, and no further.

        @return: whether there was such a step.
        """
        count = 0

        def counted(original: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **named: object) -> object:
                nonlocal count
                count += 1
                if count > step:
                    raise KeyboardInterrupt  # nothing of ours catches it
                return original(*args, **named)

            return call

        files = self.files(self.rootfs.means)
        with (
            mock.patch.multiple(
                syscalls,
                mount=counted(syscalls.mount),
                bind_shifted=counted(syscalls.bind_shifted),
                detach=counted(syscalls.detach),
            ),
            mock.patch(f"{module.__name__}.run", counted(running.run)),
            mock.patch.multiple(
                Path, mkdir=counted(Path.mkdir), rename=counted(Path.rename), replace=counted(Path.replace)
            ),
        ):
            try:
                self.mounted(1, files)
            except KeyboardInterrupt:
                return True
        return False

    def test_grown(self) -> None:
        """
        More disk_max is in force at once, or, where a mounted file system cannot grow, when it is mounted next; a text
        says which.
        """
        (self.mounted(1) / "mine").write_text("1\n")
        said = self.run_to_end(self.rootfs.resize(1, 2 * KIB))
        if said is not None:
            self.assertIn("next start", said)
            self.run_to_end(self.rootfs.unmount(1))
            self.assertIsNone(self.run_to_end(self.rootfs.resize(1, 2 * KIB)))
        root = self.run_to_end(self.rootfs.mount(1))
        self.assertEqual((self.rootfs.disk(1)[0], (root / "mine").read_text()), (2 * KIB, "1\n"))

    def test_shrunk(self) -> None:
        """
        Less is in force when it is mounted next; not if it holds more than that: then it stays as it is and says so.
        """
        (self.mounted(1) / "mine").write_bytes(os.urandom(8 << 20))
        self.run_to_end(self.rootfs.unmount(1))
        self.assertIn("cannot be made 4096 KiB", self.run_to_end(self.rootfs.resize(1, 4096)) or "")
        root = self.run_to_end(self.rootfs.mount(1))
        self.assertEqual((self.rootfs.disk(1)[0], (root / "mine").stat().st_size), (KIB, 8 << 20))
        self.assertIn("cannot be made 4096 KiB", self.run_to_end(self.rootfs.resize(1, 4096)) or "")
        self.run_to_end(self.rootfs.unmount(1))
        self.assertIsNone(self.run_to_end(self.rootfs.resize(1, KIB // 2)))
        self.run_to_end(self.rootfs.mount(1))
        self.assertEqual(self.rootfs.disk(1)[0], KIB // 2)

    def test_uncleanIsMended(self) -> None:
        """
        A file system that was not unmounted, as after a power cut, is checked before it is used again.
        """
        (self.mounted(1) / "mine").write_text("1\n")
        subprocess.run(["sync", "-f", str(self.rootfs._place(1) / "store")], check=True)
        disk = self.rootfs._place(1) / "disk"
        seen = disk.read_bytes()
        self.run_to_end(self.rootfs.unmount(1))
        self.assertIsNone(self.run_to_end(self.rootfs._holder(disk)))
        disk.write_bytes(seen)
        self.assertFalse(module._superblock(disk)[1])
        later = self.files(self.rootfs.means)
        root = self.run_to_end(later.mount(1))
        self.assertEqual((root / "mine").read_text(), "1\n")
        self.run_to_end(later.unmount(1))
        self.assertIsNone(self.run_to_end(later._holder(disk)))
        self.assertTrue(module._superblock(disk)[1])

    def test_heldElsewhere(self) -> None:
        """
        A file system that another mount namespace keeps up is mounted again from the same device, never twice.
        """
        self.mounted(1)
        other = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        own = Path("/proc/self/ns/mnt").stat().st_ino
        self.wait_for(lambda: Path(f"/proc/{other.pid}/ns/mnt").stat().st_ino != own)
        self.run_to_end(self.rootfs.unmount(1))
        self.assertIn(str(self.rootfs._place(1) / "disk"), self.left()[1])
        self.run_to_end(self.files(self.rootfs.means).mount(1))
        devices = [syscalls.backing_file(one.name) for one in Path("/sys/block").glob("loop*")]
        self.assertEqual(devices.count(str(self.rootfs._place(1) / "disk")), 1)

    def wait_for(self, true: Callable[[], bool]) -> None:
        """
        Loop devices go a moment after their mounts.
        """
        until = time.monotonic() + 10
        while not true():
            self.assertLess(time.monotonic(), until, f"still there: {self.left()}")
            time.sleep(0.01)


@needs.needs_root
@needs.needs_tool("busybox", "mkfs.ext4", "unshare")
class LesserMeansTests(Shelved):
    """
    Hosts that have less.
    """

    def test_copies(self) -> None:
        """
        Where the kernel cannot shift owners, a container has a copy of the image with its own; nothing of it is left.
        """
        self.run_to_end(self.shelf.build(1, BUSYBOX))
        for disk in (Means.LOOP, "none"):
            files = self.files(Means(disk=disk, shift="copy"))
            for _ in range(2):
                self.run_to_end(files.make(1, 1, FIRST, 65536, KIB))
            root = self.run_to_end(files.mount(1))
            self.assertEqual(root, self.run_to_end(files.mount(1)))
            self.assertEqual((root / "bin/busybox").stat().st_uid, FIRST)
            self.assertEqual((root / "bin/sh").lstat().st_gid, FIRST)
            (root / "file").touch()
            self.run_to_end(files.destroy(1))
            self.assertEqual((files.serials(), self.mounts()), (set(), []))

    def test_noDisk(self) -> None:
        """
        Where there are no loop devices a container runs all the same, and says that disk_max is not held.
        """
        self.run_to_end(self.shelf.build(1, BUSYBOX))
        files = self.files(Means(shift=Means.IDMAP, problems=("disk_max is not held",)))
        self.run_to_end(files.make(1, 1, FIRST, 65536, KIB))
        root = self.run_to_end(files.mount(1))
        (root / "file").touch()
        self.assertIn("not held", self.run_to_end(files.resize(1, KIB)) or "")
        self.assertRaises(OSError, files.disk, 1)
        self.run_to_end(files.destroy(1))
        self.assertEqual(files.serials(), set())

    def test_findLeavesNothing(self) -> None:
        """
        Finding out what the host can do leaves nothing behind, and says what it found.
        """
        means = self.run_to_end(Means.find(self.state, self.spawner, self.clock))
        self.assertEqual(self.left()[0], [])
        self.assertFalse((self.state / ".trial").exists())
        self.assertIn("disk_max", means.describe())

    def test_findsTheSameOnAFullDisk(self) -> None:
        """
        A daemon that is started on a full disk holds containers to disk_max as it did before.
        """
        note = self.state / "means"
        found = self.run_to_end(Means.find(self.state, self.spawner, self.clock, note=note))
        full = self.run_to_end(Means.find(self.state, self.spawner, self.clock, note=note, full=True))
        self.assertEqual(full, found)
        note.write_text("[")
        full = self.run_to_end(Means.find(self.state, self.spawner, self.clock, note=note, full=True))
        self.assertEqual((full.disk, len(full.problems)), ("none", 1))
