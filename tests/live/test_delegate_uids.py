"""
Whose processes are a delegate's, and whose are not though they look so: those of containers, and of accounts that a
directory service tells of, may have uids of the range of delegates.
"""

from __future__ import annotations

import os
import subprocess
import time
import unittest

from hostline.server.supervise.delegate_accounts import MOST
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

    def coming(self, name: str) -> subprocess.Popen[bytes]:
        """
        What sshd has for somebody whose key was good, while PAM opens the session.
        """
        script = f'exec -a "sshd: {name} [priv]" sleep 600'
        process = subprocess.Popen(["bash", "-c", script], stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait, DEADLINE_S)
        self.addCleanup(process.kill)
        return process

    def test_whoIsComingIn(self) -> None:
        """
        Who is let in by a key that is just taken away does not come in; who comes to another account does.
        """
        name = f"{_NAME}mon"
        self.host.ask(f"add_delegate {name} keys={[KEY]!r}")
        for request in (f"set_delegate {name} keys=[]", f"remove_delegate {name}"):
            ours, others = self.coming(name), self.coming(f"{name}x")
            time.sleep(0.2)  # bash has its turn
            self.host.ask(request)
            self.assertEqual((ours.wait(DEADLINE_S), others.poll()), (-9, None))

    def test_areNotWithoutNumber(self) -> None:
        """
        Who holds thousands of connections by ssh and asks nothing loses them; who holds some does not.
        """
        many, few = (self.host.ask(f"add_delegate {_NAME}{one} keys={[KEY]!r}")["uid"] for one in ("mon", "spy"))
        script = 'for at in $(seq "$1"); do sleep 600 & done; wait'
        crowds = []
        for uid, count in (many, MOST + 1), (few, MOST // 8):
            ids = f"--reuid={uid}", f"--regid={uid}", "--clear-groups"
            crowd = subprocess.Popen(["setpriv", *ids, "sh", "-c", script, "sh", str(count)], stdin=subprocess.DEVNULL)
            self.addCleanup(crowd.wait, DEADLINE_S)
            self.addCleanup(crowd.kill)
            crowds.append(crowd)
        time.sleep(1)
        self.host.kill()
        self.host.start()
        self.assertEqual((crowds[0].wait(DEADLINE_S), crowds[1].poll()), (-9, None))
        for name in ("mon", "spy"):
            self.host.ask(f"remove_delegate {_NAME}{name}")

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
