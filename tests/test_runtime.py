"""
What conmon and the runtime are told, and what they say.
"""

from __future__ import annotations

import json
import os
import subprocess
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from hostline.server.drivers.container_boot import cgroups_path, hosts
from hostline.server.drivers.containers import ContainerSliver
from hostline.server.supervise import console, inside, said, within
from hostline.server.supervise.runtime import (
    Bundle,
    Ended,
    Failed,
    conmon_argv,
    conmon_bundle,
    limited,
    open_files,
    read_ended,
    said_by_sync,
    shortened,
)
from hostline.server.supervise.said import Said


class Temporary(unittest.TestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name).resolve()


class RuntimeTests(Temporary):
    """
    Without any process.
    """

    def test_findsConmonAgain(self) -> None:
        """
        A conmon is known by its arguments, and only those of ours.
        """
        argv = conmon_argv("/usr/bin/conmon", "/usr/sbin/runc", self.path / "r", Bundle(self.path, 5, 3), Path("/log"))
        words = [os.fsencode(word) for word in argv]
        self.assertEqual(conmon_bundle(words, self.path), (5, 3))
        self.assertIsNone(conmon_bundle(words, Path("/elsewhere")))
        self.assertIsNone(conmon_bundle([b"sh", *words[1:]], self.path))
        self.assertIsNone(conmon_bundle([], self.path))

    def test_allowsNoMoreFilesThanTheDaemonHas(self) -> None:
        """
        Limits of open files are never above the daemon's own.
        """
        hard = min(65536, open_files())
        for files, wanted in ((500, "500 500"), (hard, f"{min(1024, hard)} {hard}")):
            script = 'echo "$(ulimit -Sn) $(ulimit -Hn) $(ulimit -Hc) $(pwd) $1"'
            argv = [*limited(files, "/usr"), "/bin/sh", "-c", script, "sh", "a b"]
            found = subprocess.run(argv, capture_output=True, text=True, check=True)
            self.assertEqual(found.stdout, f"{wanted} 0 /usr a b\n")

    def test_readsWhatSyncSays(self) -> None:
        """
        The pid, or the runtime's reason, or that nobody knows.
        """
        self.assertEqual(said_by_sync(b'{"pid": 42}\n'), 42)
        with self.assertRaisesRegex(Failed, "no such image"):
            said_by_sync(b'{"pid": -1, "message": "time=x level=error msg=\\"no such image\\""}\n')
        for line in (b"", b"\n", b"[]\n", b'{"pid"', b"17\n"):
            with self.subTest(line), self.assertRaises(Failed):
                said_by_sync(line)

    @given(st.binary(max_size=200))
    def test_takesAnySync(self, line: bytes) -> None:
        """
        Whatever comes is a pid or a failure.
        """
        try:
            self.assertGreater(said_by_sync(line), 0)
        except Failed:
            pass

    def test_readsTheEnd(self) -> None:
        """
        The exit file counts if it is a number; an OOM is seen beside it.
        """
        bundle = Bundle(self.path, 5, 1)
        (bundle.path / "kept").mkdir(parents=True)
        self.assertEqual(read_ended(bundle), Ended(None, False))
        (bundle.path / "kept/exit").write_text("137")
        (bundle.path / "kept/oom").touch()
        self.assertEqual(read_ended(bundle), Ended(137, True))
        (bundle.path / "kept/exit").write_text("nonsense")
        self.assertEqual(read_ended(bundle).code, None)

    def test_shortens(self) -> None:
        """
        Of what a runtime says the reason is left.
        """
        text = 'time="x" level=warning msg="a"\ntime="x" level=error msg="container \\"5.1\\" does not exist"\n'
        self.assertEqual(shortened(text), 'container "5.1" does not exist')
        self.assertEqual(shortened(""), "")

    def test_placesGroups(self) -> None:
        """
        The same group in every hierarchy, under either version.
        """
        root = Path("/sys/fs/cgroup")
        self.assertEqual(cgroups_path(root / "cpu/hostline-x/c5/cgroup.procs", 1), "/hostline-x/c5")
        self.assertEqual(
            cgroups_path(root / "system.slice/hostline-x/c5/cgroup.procs", 2), "/system.slice/hostline-x/c5"
        )

    def test_tellsOfAnOom(self) -> None:
        """
        A container whose own process was killed for want of memory says so.
        """
        sliver = ContainerSliver(5, builds=1, boots=2, end=Ended(137, True))
        self.assertIn("out of memory", sliver.status(()).problems[-1])
        self.assertEqual(ContainerSliver(5, boots=2, end=Ended(143, True)).status(()).problems, ())

    def test_namesItsHosts(self) -> None:
        """
        Without a network a container still knows its own name.
        """
        self.assertIn("127.0.1.1\tweb.exp1.lab web\n", hosts("web.exp1.lab"))


class ConsoleTests(Temporary):
    """
    conmon's log.
    """

    LINES = b"2026-01-01T00:00:00.0+00:00 stdout F one\n2026-01-01T00:00:00.0+00:00 stderr P tw\n"
    REST = b"2026-01-01T00:00:00.0+00:00 stdout F o\r\n"

    def test_isPlain(self) -> None:
        """
        What the container wrote, partial lines joined; an unfinished line waits, nonsense is passed over.
        """
        self.assertEqual(
            console.plain(self.LINES + self.REST + b"2026 std"), (b"one\ntwo\n", len(self.LINES + self.REST))
        )
        self.assertEqual(console.plain(b"nonsense\n\n"), (b"", 10))

    @given(st.binary(max_size=300))
    def test_readsAnything(self, data: bytes) -> None:
        """
        No log makes it fail, and it never says more than was there.
        """
        text, used = console.plain(data)
        self.assertLessEqual(len(text), used)
        self.assertLessEqual(used, len(data))

    def test_isReadInParts(self) -> None:
        """
        Read from where it was left, so many bytes of what was written last (their stamps do not count), and from the
        beginning once it was begun anew.
        """
        log = self.path / "console"
        log.write_bytes(self.LINES)
        text, behind = console.read_console(log, 0, 1000)
        self.assertEqual((text, behind), (b"one\ntw", len(self.LINES)))
        log.write_bytes(self.LINES + self.REST)
        self.assertEqual(console.read_console(log, behind, 1000)[0], b"o\n")
        self.assertEqual(console.read_console(log, -4, 1000), (b"two\n", len(self.LINES + self.REST)))
        log.write_bytes(self.REST)
        self.assertEqual(console.read_console(log, behind, 1000), (b"o\n", len(self.REST)))
        self.assertEqual(console.read_console(self.path / "none", 0, 10), (b"", 0))


class SaidTests(Temporary):
    """
    What a container says of itself.
    """

    def put(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)

    def test_isRead(self) -> None:
        """
        Complete lines of the right words.
        """
        for name, data in (("up", b"up\n"), ("started", b"started\n"), ("ended", b"7\n"), ("initscript", b"ended 4\n")):
            self.put(name, data)
        self.assertEqual(said.read(self.path), Said(True, True, 7, "ended", 4))

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def test_isBounded(self, data: bytes) -> None:
        """
        Whatever is in a file, an exit status is one or none.
        """
        with TemporaryDirectory() as directory:
            for name in ("up", "started", "ended", "initscript"):
                Path(directory, name).write_bytes(data)
            found = said.read(Path(directory))
        for code in (found.ended, found.initscript_code):
            self.assertTrue(code is None or 0 <= code <= 255)
        self.assertIn(found.initscript, ("none", "running", "ended"))

    def test_staysSo(self) -> None:
        """
        What was said once is not taken back by a file that is just being written.
        """
        first = Said(True, True, 7, "running", None)
        self.assertEqual(first.then(Said()), first)
        self.assertEqual(first.then(Said(True, True, 8, "ended", 4)), Said(True, True, 7, "ended", 4))

    def test_isNothingWithoutADirectory(self) -> None:
        """
        A container that is gone says nothing.
        """
        self.assertEqual(said.read(self.path / "none"), Said())


class WithinTests(Temporary):
    """
    Opening what somebody else made.
    """

    def test_staysWithin(self) -> None:
        """
        Links lead where they lead inside.
        """
        root = self.path / "root"
        (root / "etc").mkdir(parents=True)
        (root / "etc/passwd").write_text("inside")
        (self.path / "secret").write_text("outside")
        (root / "absolute").symlink_to("/etc/passwd")
        (root / "up").symlink_to("../../../../../../../../../etc/passwd")
        for name in ("absolute", "up"):
            with within.opened(root, name) as fd:
                self.assertEqual(os.read(fd, 100), b"inside")
        (root / "out").symlink_to(self.path / "secret")
        with self.assertRaises(FileNotFoundError), within.opened(root, "out"):
            pass

    def test_readsPlainFilesOnly(self) -> None:
        """
        A pipe holds nobody up; a link in a log's place is no log.
        """
        os.mkfifo(self.path / "pipe")
        (self.path / "file").write_bytes(b"0123456789")
        (self.path / "link").symlink_to("file")
        self.assertEqual(within.read_piece(self.path, "pipe", 0, 10), (b"", 0))
        self.assertEqual(within.read_piece(self.path, "link", 0, 10), (b"", 0))
        self.assertEqual(within.read_piece(self.path, "file", -3, 10), (b"789", 10))


class InsideTests(Temporary):
    """
    What of ours a container sees.
    """

    def test_isTheSameAgain(self) -> None:
        """
        Put together twice it is the same, and whole.
        """
        try:
            place = inside.install(self.path)
        except inside.Incomplete as error:
            self.skipTest(f"needs catatonit: {error}")
        self.assertEqual(inside.install(self.path), place)
        self.assertTrue((place / "lib/hostline/clients/main.py").is_file())
        self.assertEqual([path.name for path in self.path.iterdir()], [place.name])
        for path in place.rglob("*"):
            self.assertEqual(
                path.stat().st_mode & 0o055, 0o055 if path.is_dir() or path.parent.name == "bin" else 0o044
            )

    def test_quotesTheEnvironment(self) -> None:
        """
        Values reach the start command as they are; names that are none are refused.
        """
        text = inside.command_text("env", {"A": "it's $x\nb"})
        self.assertEqual(text, "export A='it'\\''s $x\nb'\nenv\n")
        with self.assertRaises(ValueError):
            inside.command_text("env", {"A B": ""})
        with self.assertRaises(ValueError):
            inside.command_text("a\0b", {})

    def test_describesNoSecret(self) -> None:
        """
        A start command is in no argument, which every user of the host could read.
        """
        argv = conmon_argv("/usr/bin/conmon", "/usr/sbin/runc", self.path, Bundle(self.path, 5, 3), Path("/log"))
        self.assertNotIn("secret", json.dumps(argv))
