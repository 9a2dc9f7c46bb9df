"""
The demo, as C{make demo} runs it.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import tools.demo
from tests import needs

ROOT = Path(__file__).parents[2]
#: Twice what it may take: the tests share the machine with others.
_LIMIT_S = 120


def demo(*before: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """
    @param before: words to put before the command.
    @return: exit status and output.
    """
    done = subprocess.run(
        [*before, sys.executable, "tools/demo.py"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_LIMIT_S,
        check=False,
    )
    return done.returncode, done.stdout.decode()


class DemoTests(unittest.TestCase):
    """
    What somebody sees who types C{make demo}.
    """

    def test_demo(self) -> None:
        """
        It shows an experiment from running to booted, with exit statuses, through a kill of the daemon, and ends clean.
        """
        status, said = demo()
        self.assertEqual(status, 0, said)
        for wanted in (
            "['running', None]",
            "'web': ['booted', 0]",
            "'probe': ['booted', 7]",
            "ast.literal_eval",
            "$ node_list --extra",
            "(lab_bob: cpu_share effective 48",
            "(lab_bob: cpu_share effective 32",
            "did you mean lab/demo?",
            "kill -KILL",
            "The demo took",
        ):
            self.assertIn(wanted, said)

    def test_whenSomethingIsWrong(self) -> None:
        """
        The demo ends with status 1, says what was wrong and what the daemon said, and leaves nothing behind.
        """
        said = io.StringIO()
        with redirect_stdout(said), patch.object(tools.demo, "TOPOLOGY", "examples/missing.xml"):
            self.assertEqual(tools.demo.main(), 1)
        self.assertIn("the demo failed: exit status 2, not 0: hostline check_topology", said.getvalue())
        self.assertIn("hostline serves", said.getvalue())
        directory = re.findall(r"HOSTLINE_SOCKET=(\S+)/state/run/", said.getvalue())[0]
        self.assertFalse(Path(directory).exists())

    @needs.needs_root
    @needs.needs_tool("setpriv")
    def test_demoAsAnotherUser(self) -> None:
        """
        The same without any privilege.
        """
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/"}
        probe = [*user, "env", "hostlined", "--help"]
        if subprocess.run(probe, env=environment, check=False, cwd="/", capture_output=True).returncode != 0:
            self.skipTest(f"{needs.CANNOT}another user may not read this directory, or Python's")
        status, said = demo(*user, environment=environment)
        self.assertEqual(status, 0, said)
        self.assertIn("'probe': ['booted', 7]", said)
