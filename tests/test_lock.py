"""
One daemon for each state.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.lock import Locked, StateLock

_HOLDER = """
import os, sys, time
from pathlib import Path
from hostline.server.lock import StateLock
lock = StateLock(Path(sys.argv[1]))
lock.take()
os.write(1, b"x")
time.sleep(60)
"""


class StateLockTests(SynchronousTestCase):
    """
    Who holds it, and when it is free.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def lock(self) -> StateLock:
        lock = StateLock(self.path)
        self.addCleanup(lock.release)
        return lock

    def holder(self) -> int:
        """
        Another process that holds the lock.
        """
        read, write = os.pipe()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        argv = [sys.executable, "-c", _HOLDER, str(self.path)]
        pid = os.posix_spawn(sys.executable, argv, environment, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
        os.close(write)
        said = os.read(read, 1)
        os.close(read)
        self.assertEqual(said, b"x")
        return pid

    def test_isRefusedToASecond(self) -> None:
        """
        A second daemon is refused, and told the first one's pid and the state; the first is not disturbed.
        """
        first = self.lock()
        first.take()
        error = str(self.assertRaises(Locked, self.lock().take))
        self.assertIn(f"pid {os.getpid()}", error)
        self.assertIn(str(self.path.parent), error)
        self.assertRaises(Locked, self.lock().take)
        self.assertEqual(self.path.read_text(), f"{os.getpid()}\n")

    def test_isFreeWhenReleased(self) -> None:
        """
        Released, even twice, it can be taken again.
        """
        first = self.lock()
        first.take()
        first.release()
        first.release()
        self.lock().take()

    def test_isFreeWhenItsHolderWasKilled(self) -> None:
        """
        A daemon that was killed leaves no obstacle.
        """
        pid = self.holder()
        try:
            self.assertIn(f"pid {pid}", str(self.assertRaises(Locked, self.lock().take)))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.lock().take()
        self.assertEqual(self.path.read_text(), f"{os.getpid()}\n")

    def test_isNotHeldByAPid(self) -> None:
        """
        A file left over with the pid of something that lives today is no obstacle.
        """
        self.path.write_text(f"{os.getppid()}\n")
        self.lock().take()

    def test_isNotTakenThroughALink(self) -> None:
        """
        A symbolic link in its place is not followed.
        """
        target = self.path.with_name(self.path.name + ".target")
        target.write_text("precious")
        self.path.symlink_to(target)
        self.assertRaises(OSError, self.lock().take)
        self.assertEqual(target.read_text(), "precious")
