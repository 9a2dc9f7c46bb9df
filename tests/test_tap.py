"""
The daemon's command line.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config
from hostline.server.lock import StateLock
from hostline.server.service import CannotStart
from hostline.server.tap import Options


class OptionsTests(SynchronousTestCase):
    """
    Where things are, and whether they can be used.
    """

    def options(self, *words: str) -> Options:
        options = Options()
        options.parseOptions(list(words))
        return options

    def test_takesTheSystemsPlaces(self) -> None:
        """
        Without options the state is in /var/lib and the socket in /run.
        """
        options = self.options()
        self.assertEqual(options.state, Path("/var/lib/hostline"))
        self.assertEqual(options.socket, Path("/run/hostline/hostline.sock"))
        self.assertEqual(options.config, Config())

    def test_keepsAllUnderOneDirectory(self) -> None:
        """
        With --state all is under that, however it was named; --socket goes elsewhere.
        """
        options = self.options("--state", "here")
        here = Path.cwd() / "here"
        self.assertEqual((options.state, options.socket), (here, here / "run" / "hostline.sock"))
        self.assertEqual(self.options("--state=x", "--socket=y").socket, Path.cwd() / "y")

    def test_refusesABadConfiguration(self) -> None:
        """
        An unknown key is wrong usage, in one line.
        """
        path = Path(self.mktemp())
        path.write_text("operatros = 'x'")
        error = self.assertRaises(usage.UsageError, self.options, "--config", str(path))
        self.assertIn("did you mean operators", str(error))

    def test_findsOutWhetherItCanStart(self) -> None:
        """
        A state that another daemon has, or that cannot be made, is told before anything is begun.
        """
        state = Path(self.mktemp())
        options = self.options("--state", str(state))
        options.probe()
        options.probe()
        lock = StateLock(state / "lock")
        lock.take()
        self.addCleanup(lock.release)
        self.assertIn(f"pid {os.getpid()}", str(self.assertRaises(CannotStart, options.probe)))
        file = Path(self.mktemp())
        file.write_text("x")
        self.assertRaises(CannotStart, self.options("--state", str(file)).probe)
