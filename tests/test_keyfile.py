"""
authorized_keys in a home whose owner plants things.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.keyfile import MOST, keys_in_force, write_keys

ANN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI ann"
BOB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAB bob"
#: Whose home it is: somebody else's where we may give files away.
UID = 54321 if os.geteuid() == 0 else os.geteuid()
GID = 54321 if os.geteuid() == 0 else os.getegid()


class KeyFileTests(SynchronousTestCase):
    """
    One home, and a file outside that must stay as it is.
    """

    def setUp(self) -> None:
        self.top = Path(self.mktemp())
        self.top.mkdir()
        self.home = self.top / "home"
        self.home.mkdir(mode=0o755)
        os.chown(self.home, UID, GID)
        self.shadow = self.top / "shadow"
        self.shadow.write_text("secret\n")
        self.shadow.chmod(0o640)
        self.before = self.shadow.stat()
        self.fd = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.fd)
        self.open = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    def write(self, *keys: str) -> bool:
        changed = write_keys(self.fd, keys, UID, GID)
        self.assertEqual(len(os.listdir("/proc/self/fd")), self.open)  # noqa: PTH208
        return changed

    @property
    def file(self) -> Path:
        return self.home / ".ssh" / "authorized_keys"

    def assertRight(self, *keys: str) -> None:
        """
        Fail unless exactly these keys are there as they should be, and nothing outside has changed.
        """
        for path, mode in ((self.file.parent, 0o700 | stat.S_IFDIR), (self.file, 0o600 | stat.S_IFREG)):
            about = path.lstat()
            self.assertEqual((about.st_mode, about.st_uid, about.st_gid), (mode, UID, GID))
        self.assertEqual(self.file.read_text(), "".join(f"{key}\n" for key in keys))
        self.assertEqual(keys_in_force(self.fd), list(keys))
        after = self.shadow.stat()
        self.assertEqual(self.shadow.read_text(), "secret\n")
        self.assertEqual((after.st_mode, after.st_uid, after.st_nlink), (self.before.st_mode, self.before.st_uid, 1))

    def test_writesKeys(self) -> None:
        """
        The keys are there, the owner's alone.
        """
        self.write(ANN, BOB)
        self.assertRight(ANN, BOB)
        self.assertEqual([p.name for p in (self.home / ".ssh").iterdir()], ["authorized_keys"])

    def test_writesNothingWhenItIsSo(self) -> None:
        """
        The same keys again leave the very same file.
        """
        self.assertTrue(self.write(ANN))
        before = self.file.stat()
        self.assertFalse(self.write(ANN))
        self.assertEqual(self.file.stat(), before)

    def test_revokesAll(self) -> None:
        """
        No keys leave an empty file, also in a home that never had one.
        """
        self.write()
        self.assertRight()
        self.write(ANN)
        self.write()
        self.assertRight()

    def test_repairsDrift(self) -> None:
        """
        A key added by hand, another mode or owner, a looser directory: all are as asked again.
        """

        def loosen() -> None:
            self.file.parent.chmod(0o777)

        def give() -> None:
            os.chown(self.file, os.geteuid(), os.getegid())
            os.chown(self.file.parent, os.geteuid(), os.getegid())

        for drift in (
            lambda: self.file.write_text(f"{ANN}\n{BOB}\n"),
            lambda: self.file.chmod(0o644),
            lambda: self.file.unlink(),
            loosen,
            give,
        ):
            self.write(ANN)
            drift()
            self.write(ANN)
            self.assertRight(ANN)

    def test_followsNoLinkInPlaceOfTheFile(self) -> None:
        """
        authorized_keys -> /etc/shadow: the link goes, shadow stays.
        """
        self.write(ANN)
        self.file.unlink()
        self.file.symlink_to(self.shadow)
        self.assertIsNone(keys_in_force(self.fd))
        self.write(ANN)
        self.assertRight(ANN)

    def test_followsNoLinkInPlaceOfTheDirectory(self) -> None:
        """
        .ssh -> elsewhere: nothing is written there.
        """
        elsewhere = self.top / "root-ssh"
        elsewhere.mkdir()
        (self.home / ".ssh").symlink_to(elsewhere)
        self.write(ANN)
        self.assertRight(ANN)
        self.assertEqual(list(elsewhere.iterdir()), [])

    def test_writesThroughNoHardLink(self) -> None:
        """
        A hard link to another file is replaced, and that file stays as it is.
        """
        self.write(ANN)
        other = self.top / "other"
        other.write_text(f"{ANN}\n")
        other.chmod(0o600)
        os.chown(other, UID, GID)
        self.file.unlink()
        os.link(other, self.file)
        self.write(ANN)
        self.assertRight(ANN)
        self.assertEqual((other.read_text(), other.stat().st_nlink), (f"{ANN}\n", 1))

    def test_putsAsideWhatIsInTheWay(self) -> None:
        """
        Files, pipes and full directories in our places, also in that of the temporary file, hold up nothing.
        """
        (self.home / ".ssh").write_text("a file")
        self.write(ANN)
        self.assertRight(ANN)
        for name in ("authorized_keys", ".authorized_keys.hostline"):
            path = self.home / ".ssh" / name
            for plant in (os.mkfifo, os.mkdir, lambda p: p.symlink_to(self.shadow)):
                path.unlink(missing_ok=True)
                plant(path)
                if path.is_dir() and not path.is_symlink():
                    (path / "full").write_text("x")
                self.write(ANN, BOB)
                self.assertRight(ANN, BOB)
                if path.exists() and name != "authorized_keys":
                    self.fail(f"{name} is left")
                self.write(ANN)

    def test_putsAsideAgainAndAgain(self) -> None:
        """
        A second link in the place of .ssh goes too, whatever lies where the first was put.
        """
        for _ in range(3):
            self.write(ANN)
            (self.home / ".ssh").rename(self.home / f"old{os.urandom(4).hex()}")
            (self.home / ".ssh").symlink_to("/etc")
            self.write(ANN)
            self.assertRight(ANN)
        (self.home / ".ssh").rename(self.home / "older")
        (self.home / ".ssh").symlink_to("/etc")
        (self.home / ".ssh.hostline-aside").unlink()
        (self.home / ".ssh.hostline-aside").mkdir()
        (self.home / ".ssh.hostline-aside" / "full").write_text("x")
        self.write(ANN)
        self.assertRight(ANN)

    def test_refusesAHomeThatOthersMayWrite(self) -> None:
        """
        Where others could replace the keys none are written, and the reason is given.
        """
        self.home.chmod(0o775)
        with self.assertRaisesRegex(OSError, "others may write into the home"):
            self.write(ANN)
        self.assertEqual(list(self.home.iterdir()), [])

    def test_refusesAHomeOfSomebodyElse(self) -> None:
        """
        A home that belongs to another uid is left alone.
        """
        with self.assertRaisesRegex(OSError, "belongs to uid"):
            write_keys(self.fd, [ANN], UID + 1, GID)
        self.assertEqual(list(self.home.iterdir()), [])

    def test_refusesWhatIsNoKeyFile(self) -> None:
        """
        Keys with newlines, or 10 MB of them, are refused, and those before stay in force.
        """
        self.write(ANN)
        for keys in ([f"{ANN}\n{BOB}"], ["x" * 10_000_000], [ANN] * (MOST // len(ANN) + 1)):
            with self.assertRaises(ValueError):
                self.write(*keys)
        self.assertRight(ANN)

    def test_readsNoHugeFile(self) -> None:
        """
        A key file of 10 MB that a user made is not read, and is replaced.
        """
        self.write(ANN)
        with self.file.open("ab") as file:
            file.truncate(10_000_000)
        self.assertIsNone(keys_in_force(self.fd))
        self.write(ANN)
        self.assertRight(ANN)
