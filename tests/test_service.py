"""
Small parts of the service.
"""

from __future__ import annotations

import stat
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from hostline.server.service import _instance


class InstanceTests(unittest.TestCase):
    """
    The id of a state directory.
    """

    def test_isKeptAndIsNobodyElses(self) -> None:
        """
        It is the same each time, and only the daemon's user can read it, also if an earlier version let others.
        """
        with TemporaryDirectory() as directory:
            path = Path(directory) / "instance"
            first = _instance(path)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            path.chmod(0o644)
            self.assertEqual(_instance(path), first)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
