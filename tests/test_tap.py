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
from hostline.server.service import CannotStart, make_directory
from hostline.server.tap import Options, makeService


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

    def test_wantsOptionsInFull(self) -> None:
        """
        An option cut short, such as --stat, is wrong usage; values that look like options are none.
        """
        for words in (("--stat", "x"), ("--stat=x",), ("--state", "x", "--conf", "y"), ("-s", "x", "--chec")):
            error = self.assertRaises(usage.UsageError, self.options, *words)
            self.assertIn("unknown option --", str(error))
        self.assertIn("did you mean state", str(self.assertRaises(usage.UsageError, self.options, "--stat", "x")))
        self.assertEqual(self.options("--state", "--stat").state, Path.cwd() / "--stat")
        self.assertEqual(self.options("-s", "--stat").state, Path.cwd() / "--stat")
        self.assertEqual(self.options("-sx", "--check").state, Path.cwd() / "x")
        self.assertRaises(usage.UsageError, self.options, "--", "--stat")

    def test_letsEverybodyReachTheSocket(self) -> None:
        """
        Whatever the umask, what is made on the way to the socket can be passed; what is there stays as it is.
        """
        above = Path(self.mktemp())
        kept = Path(self.mktemp())
        kept.mkdir(0o700)
        state = above / "deep" / "state"
        self.addCleanup(os.umask, os.umask(0o077))
        self.options("--state", str(state)).probe()
        self.options("--state", str(kept)).probe()
        make_directory(state / "run")
        modes = [path.stat().st_mode & 0o777 for path in (above, state.parent, state, state / "run", kept)]
        self.assertEqual(modes, [0o755, 0o755, 0o711, 0o711, 0o700])

    def test_setsTheUmaskFirst(self) -> None:
        """
        Building the service leaves the umask that the daemon's files want.
        """
        self.addCleanup(os.umask, os.umask(0o077))
        state = Path(self.mktemp())
        makeService(self.options("--state", str(state)), reactor=object())
        self.assertEqual(os.umask(0o077), 0o022)
        self.assertEqual(state.stat().st_mode & 0o777, 0o711)

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
