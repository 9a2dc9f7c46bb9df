"""
What the benchmark of ssh does where it cannot measure.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import ssh, table
from bench.setting import Setting
from bench.wire import Load


class LeftOutTests(SynchronousTestCase):
    """
    A machine that lacks something.
    """

    def test_withoutRoot(self) -> None:
        """
        Without root nothing is made, and each row says why it is empty.
        """
        self.patch(os, "geteuid", lambda: 1000)
        directory = Path(self.mktemp())
        directory.mkdir()
        found = ssh.ssh(Setting(directory, [0], 1, 1, 1, Load(directory), True))
        self.assertEqual([one.left_out for one in found.series], ["needs root"] * 3)
        self.assertEqual(table.plain(found).count("left out: needs root"), 3)
        self.assertEqual([one for one in directory.iterdir() if one.name != "loadgen"], [])

    def test_withoutSsh(self) -> None:
        """
        What is not installed is named.
        """
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "environ", {"PATH": "/nowhere"})
        self.patch(ssh, "_SSHD", "/nowhere/sshd")
        self.assertEqual(ssh.missing(), "needs ssh, ssh-keygen, useradd, userdel, sshd")
