"""
Why nodes are as they are, asked of a real daemon about real nodes.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.tables import readable
from tests.live.hosted import Hosted, until
from tests.needs import needs_root


def node(name: str, **attributes: str) -> str:
    said = "".join(
        f"<attribute><attribute>{key.replace('__', ':')}</attribute><value>{value}</value></attribute>"
        for key, value in attributes.items()
    )
    return f"<elements><computer><name>{name}</name>{said}</computer></elements>"


NODES = (
    node("eats", startup="tail /dev/zero; exit 7", hostline__memory_max=str(32 << 20)),
    node("ghost", containers__ghost="true"),
    node("misspelt", startup="nosuchprogram --option"),
    node("well", startup="true"),
)


@needs_root
class WhyTests(SynchronousTestCase):
    """
    Nodes that went wrong in several ways, and some that did not.
    """

    def test_chains(self) -> None:
        """
        The innermost cause is named first: the kernel that killed, the shell that found no program, the signal.
        """
        host = Hosted(self)
        self.addCleanup(lambda: self.assertEqual(host.tracebacks(), ""))
        host.start()
        host.ask("add_project lab")
        text = ascii(f"<experiment><version>1.0</version>{''.join(NODES)}</experiment>")
        host.ask(f"create_experiment lab/exp1 {text} swap_in=True wait=60", 70)
        until(lambda: host.ask("status_request lab/exp1")["hv:process:pnode-0000"]["eats"] == ["booted", 7])

        def why(name: str) -> Any:
            return host.ask(f"why lab/exp1 {name}")

        eats = why("eats")
        self.assertEqual(eats["verdict"], "eats is up, and its start command ended with 7")
        self.assertIn("killed by the kernel", eats["causes"][0]["detail"])
        self.assertIn("ended with 7", eats["causes"][-1]["detail"])
        self.assertIsNotNone(eats["causes"][-1]["when"])
        self.assertIn("nosuchprogram", why("misspelt")["causes"][0]["detail"])
        self.assertIn("127", why("misspelt")["verdict"])
        for name, words in (("ghost", "waits for start_node"), ("well", "ended with 0")):
            self.assertEqual((why(name)["well"], why(name)["causes"]), (True, []), name)
            self.assertIn(words, why(name)["verdict"])
        os.kill(host.ask("experiment lab/exp1")["nodes"]["well"]["pid"], signal.SIGKILL)
        until(lambda: not why("well")["well"])
        self.assertIn("signal 9 (KILL)", readable("why_reply", why("well")))
        host.ask("swap_out lab/exp1", 60)
        self.assertTrue(why("well")["well"])
        self.assertEqual(host.stop(), 0)
