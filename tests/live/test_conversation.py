"""
Conversations with real processes, over pipes and terminals.
"""

from __future__ import annotations

import asyncio
import os
import signal
import unittest
from pathlib import Path

from hostline.server.supervise.conversation import Piped
from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Child, Spawner
from tests.drivers import Heard
from tests.live import support


class ConversationTests(unittest.TestCase):
    """
    C{/bin/sh} at the other end.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.spawner = Spawner(self.loop)
        self.addCleanup(self.spawner.close)
        self.open = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        self.addCleanup(lambda: self.assertEqual(len(os.listdir("/proc/self/fd")), self.open))  # noqa: PTH208
        self.heard = Heard()
        self.killed: list[int] = []

    def kill(self, child: Child) -> None:
        self.killed.append(child.pid)
        child.kill(signal.SIGKILL)

    def talk(self, script: str, *, terminal: bool = False, program: str = "/bin/sh") -> Piped:
        piped = Piped(self.loop, support.LoopClock(self.loop), self.heard, self.kill)
        piped.start(self.spawner, [program, "-c", script], environment={"PATH": PATH}, terminal=terminal)
        self.addCleanup(self.until_dead, piped)
        return piped

    def until_dead(self, piped: Piped) -> None:
        piped.close()
        self.until(lambda: piped.child is None or not piped.child.alive)

    def until(self, true: object) -> None:
        assert callable(true)
        support.until(self.loop, true)

    def over(self) -> list[int | None]:
        self.until(lambda: self.heard.ends)
        return self.heard.ends

    def test_tellsOutputsApart(self) -> None:
        """
        Output, errors and exit status arrive, all of them, once.
        """
        self.talk("echo one; echo two >&2; exit 7")
        self.assertEqual((self.over(), self.heard.out, self.heard.err), ([7], b"one\n", b"two\n"))

    def test_is128AndTheSignalWhenKilled(self) -> None:
        """
        A command that a signal ended has 128 + its number.
        """
        self.talk("kill -TERM $$")
        self.assertEqual(self.over(), [143])

    def test_carriesMuchBothWays(self) -> None:
        """
        Megabytes go in and come back as they were.
        """
        data = bytes(range(256)) * 8192
        piped = self.talk("cat")
        piped.write(data)
        self.assertGreater(piped.unwritten, 0)
        piped.end_input()
        self.assertEqual(self.over(), [0])
        self.assertTrue(self.heard.out == data)

    def test_goesOnWhenInputIsNotRead(self) -> None:
        """
        Input for one who does not read it does no harm.
        """
        piped = self.talk("exec <&-; sleep 0.2; exit 3")
        piped.write(b"x" * 1000000)
        self.assertEqual(self.over(), [3])

    def test_isOverWhenABackgroundChildHoldsTheOutput(self) -> None:
        """
        A command is over when it ends itself, though what it left behind keeps its output open.
        """
        begun = self.loop.time()
        self.talk("sleep 30 & echo $!")
        self.assertEqual(self.over(), [0])
        self.assertLess(self.loop.time() - begun, 5)
        os.kill(int(self.heard.out), signal.SIGKILL)

    def test_losesNothingWhenPaused(self) -> None:
        """
        Nothing is heard while paused; what was said before the end is heard after.
        """
        piped = self.talk("head -c 50000 /dev/zero; exit 4")
        piped.pause()
        self.until(lambda: piped.child is not None and not piped.child.alive)
        support.idle(self.loop, 0.5)
        self.assertEqual((self.heard.out, self.heard.ends), (b"", []))
        piped.resume()
        self.assertEqual((self.over(), len(self.heard.out)), ([4], 50000))

    def test_isKilledWhenClosed(self) -> None:
        """
        Whom nobody listens to is killed, and nobody is called.
        """
        piped = self.talk("sleep 1000")
        piped.close()
        piped.close()
        assert piped.child is not None
        self.until(lambda: piped.child is not None and not piped.child.alive)
        self.assertEqual((self.killed, self.heard.ends), ([piped.child.pid], []))

    def test_isItsTerminalWhenAsked(self) -> None:
        """
        With a terminal the command has one that controls its session, of the size asked for.
        """
        piped = self.talk("read x; stty size </dev/tty; tty; echo $x", terminal=True)
        piped.resize(40, 100)
        piped.write(b"hello\n")
        self.assertEqual(self.over(), [0])
        self.assertIn(b"40 100\r\n/dev/pts/", self.heard.out)
        self.assertTrue(self.heard.out.endswith(b"hello\r\n"), self.heard.out)

    def test_endsTheInputOfATerminal(self) -> None:
        """
        The end of input reaches a command that reads its terminal line by line, also in the middle of a line.
        """
        piped = self.talk("cat; exit 5", terminal=True)
        piped.write(b"ab")
        piped.end_input()
        self.assertEqual(self.over(), [5])

    def test_leavesNothingOpenWhenItCannotStart(self) -> None:
        """
        A program that is not there is an error at once.
        """
        with self.assertRaises(OSError):
            self.talk("", program="/no/such/program")
        self.assertFalse(Path("/no/such/program").exists())
