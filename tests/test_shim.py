"""
What the shim's files say, also cut short or garbled, and how it is called.
"""

from __future__ import annotations

import os
import stat
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from hostline.server.supervise import shim
from hostline.server.supervise.homes import Home, node_label


class FilesTests(unittest.TestCase):
    """
    A file counts once it is complete.
    """

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)

    def test_saysNothingWhenEmpty(self) -> None:
        """
        A boot that nobody began has nothing to say.
        """
        self.assertEqual(shim.read_boot(self.path), shim.Boot())
        self.assertEqual(shim.read_boot(self.path / "missing"), shim.Boot())

    def test_saysAllWhenComplete(self) -> None:
        """
        Every file is read.
        """
        files = {"shim": "12 34", "node": "56 78", "up": "up 3", "started": "started", "ended": "7", "exit": "137"}
        for name, text in files.items():
            (self.path / name).write_text(text + "\n")
        (self.path / "stopped").touch()
        boot = shim.read_boot(self.path)
        self.assertEqual((boot.keeper, boot.node), (shim.Process(12, 34), shim.Process(56, 78)))
        self.assertEqual((boot.up, boot.has_command, boot.started, boot.stopped), (True, True, True, True))
        self.assertEqual((boot.ended, boot.exit), (7, 137))

    def test_saysNothingWhenCutShort(self) -> None:
        """
        Whatever part of a line is there, only the whole counts.
        """
        for n in range(len("123 456")):
            self.assertIsNone(shim.parse_process(b"123 456\n"[:n]))
            self.assertIsNone(shim.parse_code(b"137\n"[: min(n, 3)]))
        self.assertEqual(shim.parse_code(b"137\n"), 137)

    def test_saysNothingWhenGarbled(self) -> None:
        """
        Garbage is as good as nothing; a FIFO or a link in a file's place holds up nobody.
        """
        for data in (b"x y\n", b"1 2 3\n", b"-1 2\n", b"1 2\n3 4\n", b"\xff 1\n", b"9" * 30 + b" 1\n", None):
            self.assertIsNone(shim.parse_process(data))
        os.mkfifo(self.path / "exit")
        (self.path / "shim").symlink_to("/etc/hostname")
        self.assertEqual(shim.read_boot(self.path), shim.Boot())

    def test_explainsOnlyWhatFailed(self) -> None:
        """
        What our tools said matters if the node never came up.
        """
        (self.path / "errors").write_text("could not mount\n")
        self.assertEqual(shim.read_boot(self.path).errors, "")
        (self.path / "exit").write_text("125\n")
        self.assertEqual(shim.read_boot(self.path).errors, "could not mount")
        (self.path / "up").write_text("up 0\n")
        self.assertEqual(shim.read_boot(self.path).errors, "")


class CallTests(unittest.TestCase):
    """
    How the shim and the start command are called.
    """

    def test_mountsLastWhatWouldHideOthers(self) -> None:
        """
        A place that contains what is to be mounted elsewhere is mounted last.
        """
        home = Home(Path("/tmp/state/slivers/5"), "web", True)
        places = [line.split()[1] for line in shim.fstab(home.binds()).splitlines()]
        self.assertEqual(places, ["/home", "/var/log", "/var/tmp", "/tmp"])
        home = Home(Path("/home/me/state/5"), "web", True)
        self.assertEqual(shim.fstab(home.binds()).splitlines()[-1].split()[1], "/home")

    def test_quotesPathsInFstab(self) -> None:
        """
        Blanks in a path stay in it.
        """
        self.assertEqual(shim.fstab([(Path("/a b\\c"), "/home")]), "/a\\040b\\134c /home none bind 0 0\n")

    def test_setsTheEnvironmentLast(self) -> None:
        """
        The environment is set after the change of user, and the tag cannot be changed.
        """
        home = Home(Path("/s/5"), "web", True)
        environment = shim.command_environment(home, name="web.e.p", tag="i/5", more={"LD_PRELOAD": "x", shim.TAG: "y"})
        argv = shim.command_argv(environment=environment, uid=7)
        self.assertLess(argv.index("setpriv"), argv.index("setsid"))
        self.assertLess(argv.index("setsid"), argv.index("env"))
        self.assertGreater(argv.index("LD_PRELOAD=x"), argv.index("env"))
        self.assertIn(f"{shim.TAG}=i/5", argv)
        self.assertEqual(argv[-3:], ["/bin/sh", "-c", ". /proc/self/fd/9"])

    def test_keepsTheCommandToItself(self) -> None:
        """
        The file with the start command is ours alone, or also the sliver's group's to read; a new one replaces it.
        """
        with TemporaryDirectory() as directory:
            path = Path(directory) / "command"
            for text, gid, mode in (("exit 1", None, 0o600), ("exit 2", os.getegid(), 0o640)):
                shim.write_command(Path(directory), text, gid)
                self.assertEqual(path.read_text(), f"exec 9<&-; {text}\n")
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode)
            with self.assertRaises(ValueError):
                shim.write_command(Path(directory), "a\0b", None)

    def test_refusesWhatIsNoName(self) -> None:
        """
        Neither a variable nor a node may have a name that could mean something else.
        """
        home = Home(Path("/s/5"), "web", True)
        for name in ("", "-u", "A=B", "A B", "1A", "A\n"):
            with self.assertRaises(ValueError):
                shim.command_environment(home, name="web", tag="i/5", more={name: "1"})
        for name in ("", ".", "..", "../x.e.p", "-x", "a/b"):
            with self.assertRaises(ValueError):
                node_label(name)
        self.assertEqual(node_label("web.exp1.lab"), "web")

    def test_installsOneCopyPerVersion(self) -> None:
        """
        The script that runs has its hash in its name, and a damaged copy is made new.
        """
        with TemporaryDirectory() as directory:
            path = shim.install(Path(directory))
            self.assertEqual(shim.install(Path(directory)), path)
            path.write_text("")
            shim.install(Path(directory))
            self.assertIn("keep|node", path.read_text())
            self.assertEqual(len(list(Path(directory).iterdir())), 1)
