"""
Loans between slivers that run, as the kernel sees them.
"""

from __future__ import annotations

import tempfile
import time
import unittest
from pathlib import Path

from tests.live.hosted import Hosted
from tests.live.support import remove_directory
from tests.needs import needs_root

#: The kernel's weight of a cpu_share of 1, by the file's name.
WEIGHT_OF_ONE = {"cpu.shares": 32.0, "cpu.weight": 100 / 32}


@needs_root
class LoanTests(unittest.TestCase):
    """
    Two slivers whose processes go on while the daemon is killed.
    """

    def setUp(self) -> None:
        # Not below /tmp or /var/tmp, which slivers have of their own.
        parent = Path(tempfile.mkdtemp(prefix="hl-", dir="/srv"))
        parent.chmod(0o711)
        self.addCleanup(remove_directory, parent)
        self.host = Hosted(self, parent=parent)
        self.host.start()
        self.files = {}
        for name in ("lab_a", "lab_b"):
            self.host.ask(f"create {name} kind=process start_command='sleep 1000'")
            serial = self.host.ask(f"sliver {name}")["serial"]
            groups = [path for path in self.host.cgroups() if path.name[1:] == str(serial)]
            (self.files[name],) = [path / one for path in groups for one in WEIGHT_OF_ONE if (path / one).exists()]
        self.running = self.host.processes()

    def share(self, name: str) -> float:
        """
        The cpu_share that the kernel's weight of a sliver stands for.
        """
        file: Path = self.files[name]
        return int(file.read_text()) / WEIGHT_OF_ONE[file.name]

    def wait_for(self, a: int, b: int, seconds: float = 1.0) -> None:
        """
        The kernel has these weights within a time, and both slivers are as they were.
        """
        deadline = time.monotonic() + seconds
        while (shares := (round(self.share("lab_a")), round(self.share("lab_b")))) != (a, b):
            if time.monotonic() > deadline:
                self.fail(f"want weights of {a} and {b}, the kernel has {shares}: {self.host.said()}")
            time.sleep(0.01)
        self.assertEqual(self.host.processes(), self.running)

    def test_theKernelFollows(self) -> None:
        """
        Within a second of a loan, and of its end, the weights of both are other ones, and nothing is restarted.
        """
        self.wait_for(32, 32)
        self.host.ask("loan lab_b cpu_share 16 lender=lab_a")
        self.wait_for(16, 48)
        for name, share in (("lab_a", 16), ("lab_b", 48)):
            body = self.host.ask(f"sliver {name}")
            self.assertEqual((body["effective"]["cpu_share"], body["in_force"]["cpu_share"]), (share, share))
        self.host.ask("loan lab_b cpu_share 0 lender=lab_a")
        self.wait_for(32, 32)

    def test_killedMeanwhile(self) -> None:
        """
        A loan for a time holds over kill -9 and is given back in time by the daemon that comes after; one whose time is
        over while no daemon runs is given back as soon as there is one.
        """
        begun = time.time()
        self.host.ask("loan lab_b cpu_share 16 lender=lab_a until=+4s")
        self.wait_for(16, 48)
        self.host.kill()
        self.wait_for(16, 48)
        self.host.start()
        self.wait_for(16, 48)
        self.assertLess(time.time(), begun + 4)
        time.sleep(max(0.0, begun + 4 - time.time()))
        self.wait_for(32, 32)
        self.assertEqual(self.host.ask("get_loans lab_a"), [])
        begun = time.time()
        self.host.ask("loan lab_b cpu_share 8 lender=lab_a until=+1s")
        self.wait_for(24, 40, 0.9)
        self.host.kill()
        time.sleep(max(0.0, begun + 1.1 - time.time()))
        self.host.start()
        self.wait_for(32, 32, 2.0)
        events = self.host.ask("events topic=sliver/lab_b limit=1000")
        said = [one["what"] for one in events if one["what"].startswith("loan_")]
        self.assertEqual(said, ["loan_gained", "loan_expired", "loan_gained", "loan_expired"])
