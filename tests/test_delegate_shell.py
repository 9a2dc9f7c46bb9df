"""
What the shell of delegates is made from.
"""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.delegate_shell import MODULES, find_module
from tests.test_imports import imports


class ModulesTests(SynchronousTestCase):
    """
    The modules of the forward shell that are copied to where delegates can read them.
    """

    def test_runAlone(self) -> None:
        """
        They import one another and the standard library: beside the copies there is nothing else of ours.
        """
        found = {name for one in MODULES for _, name in imports(find_module(one).read_text("utf-8"))}
        ours = {name.rpartition(".")[0] for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
        self.assertEqual(ours - set(MODULES), set())
        self.assertEqual(set(MODULES) - ours, {"hostline", "hostline.clients", "hostline.clients.forward"})
