"""
Uids of the range of delegates that others have: containers, and accounts that a directory service tells of.
"""

from __future__ import annotations

import os
import subprocess
import unittest

from tests import needs
from tests.live.hosted import Hosted
from tests.live.support import DEADLINE_S

_NAME = f"d{os.getpid() % 100000}_"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh ann"


@needs.needs_root
@needs.needs_tool("useradd", "setpriv")
class OthersTests(unittest.TestCase):
    """
    Processes under such uids which no account in /etc/passwd has.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()

    def begin(self, uid: int) -> subprocess.Popen[bytes]:
        """
        A process of somebody else's.
        """
        ids = f"--reuid={uid}", f"--regid={uid}", "--clear-groups"
        process = subprocess.Popen(["setpriv", *ids, "sleep", "600"], stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait, DEADLINE_S)
        self.addCleanup(process.kill)
        return process

    def test_areLeftAlone(self) -> None:
        """
        Delegates come and go, the daemon is killed and starts again: nobody else's process is ended.
        """
        other = self.begin(self.host.delegate_first + 150)
        self.host.ask(f"add_delegate {_NAME}mon keys={[KEY]!r}")
        self.host.kill()
        self.host.start()
        self.host.ask(f"add_delegate {_NAME}spy keys={[KEY]!r}")
        for name in ("mon", "spy"):
            self.host.ask(f"remove_delegate {_NAME}{name}")
        self.assertIsNone(other.poll())

    def test_areNotGivenAway(self) -> None:
        """
        A uid under which somebody's process runs is no delegate's: with the delegate, that would be ended.
        """
        first = self.host.ask(f"add_delegate {_NAME}mon keys={[KEY]!r}")
        other = self.begin(first["uid"] + 1)
        word, body = self.host.ask_any(f"add_delegate {_NAME}spy keys={[KEY]!r}")
        self.assertEqual((word, body.get("code")), ("error_reply", "EXISTS"))
        self.assertIn(f"is taken by the process {other.pid}", body["message"])
        self.host.ask(f"add_delegate {_NAME}spy keys={[KEY]!r}")
        for name in ("mon", "spy"):
            self.host.ask(f"remove_delegate {_NAME}{name}")
        self.assertIsNone(other.poll())
