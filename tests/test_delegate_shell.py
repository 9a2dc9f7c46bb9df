"""
What the shell of delegates is made from.
"""

from __future__ import annotations

import ast

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.delegate_shell import find_forward


class ForwardTests(SynchronousTestCase):
    """
    The forward shell, of which one file is copied to where delegates can read it.
    """

    def test_runsAlone(self) -> None:
        """
        It imports nothing of ours: beside the copy there is no package of ours.
        """
        names = set()
        for node in ast.walk(ast.parse(find_forward().read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or ".")
        self.assertIn("sys", names)
        self.assertEqual({name for name in names if name.partition(".")[0] in ("hostline", "")}, set())
