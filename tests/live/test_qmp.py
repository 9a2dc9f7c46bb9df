"""
Joining sockets in a directory that belongs to somebody who may be hostile, and talking with QEMU.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import unittest
from collections.abc import Mapping
from typing import Any

from hostline.server.supervise.qmp import Qmp
from hostline.server.supervise.within import joined
from tests import needs
from tests.live import support


class JoiningTests(unittest.TestCase):
    """
    Which sockets are joined.
    """

    def setUp(self) -> None:
        self.place = support.temporary_directory()
        self.addCleanup(support.remove_directory, self.place)
        self.listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listening.close)
        self.listening.bind(str(self.place / "real"))
        self.listening.listen()

    def test_joinsSockets(self) -> None:
        """
        One that is there is joined, however long its path.
        """
        deep = self.place / ("d" * 100)
        deep.mkdir()
        (self.place / "real").rename(deep / "real")
        joined(deep, "real").close()

    def test_followsNoLink(self) -> None:
        """
        A link is not followed, wherever it leads: root would be led to other people's sockets.
        """
        inner = self.place / "inner"
        inner.mkdir()
        (inner / "out").symlink_to(self.place / "real")
        (self.place / "same").symlink_to("real")
        (inner / "plain").touch()
        for directory, name in ((inner, "out"), (self.place, "same"), (inner, "plain"), (inner, "../real")):
            with self.assertRaises(OSError):
                joined(directory, name)


@needs.needs_tool("qemu-system-x86_64")
class QmpTests(unittest.TestCase):
    """
    With a QEMU that runs nothing.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.place = support.temporary_directory()
        self.addCleanup(support.remove_directory, self.place)
        words = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-accel", "tcg"]
        for name in ("qmp", "operator"):
            path = self.place / name
            words += ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
            words += ["-mon", f"chardev={name},mode=control"]
        self.process = subprocess.Popen(words)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        support.until(self.loop, (self.place / "operator").exists)
        self.heard: list[Mapping[str, Any]] = []
        self.lost: list[None] = []

    def joined(self, name: str) -> Qmp:
        made = Qmp(self.loop, self.heard.append, lambda: self.lost.append(None))
        support.run(self.loop, made.join(self.place, name))
        self.addCleanup(support.idle, self.loop, 0.05)
        self.addCleanup(made.close)
        return made

    def test_isToldWhatHappens(self) -> None:
        """
        Commands are answered on both sockets at once, an event reaches both, and the end is noticed, once each.
        """
        ours, operators = self.joined("qmp"), self.joined("operator")
        self.assertEqual(support.run(self.loop, operators.execute("query-status"))["status"], "running")
        support.run(self.loop, operators.execute("stop"))
        self.assertEqual(support.run(self.loop, ours.execute("query-status"))["status"], "paused")
        support.until(self.loop, lambda: [one["event"] for one in self.heard].count("STOP") == 2)
        os.kill(self.process.pid, 15)
        support.until(self.loop, lambda: len(self.lost) == 2)
        self.assertFalse(ours.joined)
        with self.assertRaises(OSError):
            support.run(self.loop, ours.execute("query-status"))

    def test_saysNo(self) -> None:
        """
        What QEMU refuses is told in its words.
        """
        with self.assertRaisesRegex(OSError, "no-such-command"):
            support.run(self.loop, self.joined("qmp").execute("no-such-command"))
