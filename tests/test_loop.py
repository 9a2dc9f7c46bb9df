"""
The reactor that the daemon runs on.
"""

from __future__ import annotations

import asyncio

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.loop import WrongReactor, loop_of


class LoopTests(SynchronousTestCase):
    """
    It is asyncio's.
    """

    def test_isTheReactors(self) -> None:
        """
        The daemon's connections are on the reactor's own loop.
        """
        loop = asyncio.SelectorEventLoop()
        reactor = AsyncioSelectorReactor(loop)
        self.addCleanup(loop.close)
        self.assertIs(loop_of(reactor), loop)

    def test_saysWhatToDoUnderAnother(self) -> None:
        """
        Under any other reactor it does not start, and names the option that helps.
        """
        self.assertIn("--reactor=asyncio", str(self.assertRaises(WrongReactor, loop_of, MemoryReactor())))
