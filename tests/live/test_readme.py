"""
What README.md shows is so: its script runs, its commands exist.
"""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
from pathlib import Path

from hostline.protocol.commands import TABLE
from tests.live.hosted import Hosted, topology

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def script() -> str:
    """
    @return: the script that polls.
    """
    found = re.search(r"<!-- script -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


class ScriptTests(unittest.TestCase):
    """
    The script that polls, against a real daemon.
    """

    def setUp(self) -> None:
        self.hosted = Hosted(self)
        self.hosted.start()
        self.hosted.ask("add_project lab")

    def run_script(self, experiment: str) -> subprocess.Popen[str]:
        """
        Start it.
        """
        argv = [sys.executable, "-I", "-S", "-c", script(), str(self.hosted.socket), experiment]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        return child

    def test_twelveLines(self) -> None:
        """
        It is as short as it says.
        """
        self.assertEqual(len([line for line in script().splitlines() if line]), 12)

    def test_polls(self) -> None:
        """
        It goes on until every node is up, and says what became of them.
        """
        text = topology({"web": "exit 7", "db": None})
        self.hosted.ask(f"create_experiment lab/demo {text} swap_in=True")
        self.hosted.ask("wait_for lab/demo started")
        said, complaint = self.run_script("lab/demo").communicate(timeout=20)
        self.assertEqual(said, "{'web': ['booted', 7], 'db': ['booted', None]}\n", complaint)

    def test_unknownExperiment(self) -> None:
        """
        An error ends it, with what the daemon said.
        """
        child = self.run_script("lab/none")
        _, complaint = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 1)
        self.assertIn("'code': 'NO_SUCH_EXPERIMENT'", complaint)


class CommandsTests(unittest.TestCase):
    """
    Commands named in the README.
    """

    def test_theyExist(self) -> None:
        """
        Every command of the daemon that is typed in it is in the table.
        """
        typed = re.findall(r"^ *[$#] hostline (?:--raw )?([a-z_]+)", README, re.MULTILINE)
        typed += re.findall(r"echo '([a-z_]+)", README)
        known = {*TABLE, "shell", "completion", "picture"}
        self.assertGreater(len(typed), 5)
        self.assertEqual([one for one in typed if one not in known], [])

    def test_makeTargets(self) -> None:
        """
        Every C{make} target that it names is in the Makefile.
        """
        makefile = (Path(__file__).parents[2] / "Makefile").read_text("utf-8")
        for target in re.findall(r"(?:`|^    )make ([a-z-]+)", README, re.MULTILINE):
            self.assertRegex(makefile, rf"(?m)^{target}:", target)
