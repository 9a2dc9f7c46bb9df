"""
Who can get at a file and run it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.passable import why_not_reached, why_not_run


class PassableTests(SynchronousTestCase):
    """
    A program in a directory that everybody may pass through, until a test says otherwise.
    """

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory(prefix="hl-")
        self.addCleanup(holder.cleanup)
        self.directory = Path(holder.name)
        self.directory.chmod(0o711)
        self.program = self.directory / "program"
        self.program.write_text("#!/bin/sh -e\n")
        self.program.chmod(0o755)

    def test_saysNothingWhereAllIsWell(self) -> None:
        """
        A program that everybody can run is no problem, nor is a place for a file that is not there yet.
        """
        self.assertIsNone(why_not_run(self.program))
        self.assertIsNone(why_not_reached(self.directory / "later"))

    def test_namesWhatIsInTheWay(self) -> None:
        """
        The directory, the mode or the interpreter that keeps others out is named.
        """
        private = self.directory / "private"
        private.mkdir(mode=0o700)
        (private / "sh").symlink_to("/bin/sh")
        inside = private / "program"
        inside.write_text("x")
        inside.chmod(0o755)
        self.assertEqual(why_not_run(inside), f"others may not pass through {private}")
        self.assertEqual(why_not_reached(private / "socket"), f"others may not pass through {private}")
        self.program.write_text(f"#! {inside} -e\n")
        self.assertEqual(why_not_run(self.program), f"others may not pass through {private}")
        self.program.chmod(0o750)
        self.assertEqual(why_not_run(self.program), f"others may not run {self.program}")
        self.program.unlink()
        self.assertEqual(why_not_run(self.program), f"{self.program}: No such file or directory")
