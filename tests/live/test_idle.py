"""
Who uses an experiment, seen on real nodes: each rule by what it is meant for, and by nothing else; and what becomes of
one that nobody uses.
"""

from __future__ import annotations

import base64
import contextlib
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.running import program
from tests.live.hosted import Client, Hosted, until
from tests.needs import needs_root

LOOK_S = 1.0
#: How long it may take until what was done is seen, on a machine where others are busy.
SEEN_S = 30.0
CONFIG = f"[experiments]\nidle_look_s = {LOOK_S}\n"
TWO = "".join(
    f"<elements><computer><name>{name}</name><interface><substrate>l0</substrate><name>inf000</name></interface>"
    "</computer></elements>"
    for name in ("a", "b")
)
LINKED = ascii(f"<experiment><version>1.0</version><substrates><name>l0</name></substrates>{TWO}</experiment>")
#: Sends N packets to the node's gateway, over the control network.
SEND = (
    "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
    "[s.sendto(b'x', (sys.argv[1], 9)) for _ in range(int(sys.argv[2]))]"
)


@needs_root
class RuleTests(SynchronousTestCase):
    """
    Two process nodes on a link.
    """

    def setUp(self) -> None:
        self.host = Hosted(self, CONFIG)
        self.addCleanup(lambda: self.assertEqual(self.host.tracebacks(), ""))
        self.host.start()
        self.host.ask("add_project lab")
        self.host.ask(f"create_experiment lab/exp1 {LINKED} swap_in=True wait=60", 70)
        # What was before the first looks is compared with nothing.
        until(lambda: len(self.nodes()) == 2 and all(one["reported"] for one in self.nodes().values()), SEEN_S)
        time.sleep(3 * LOOK_S)

    def activity(self) -> Any:
        return self.host.ask("activity lab/exp1")

    def nodes(self) -> dict[str, Any]:
        return {one["node"]: one for one in self.activity()["nodes"]}

    def run_in(self, node: str, *argv: str) -> Any:
        return self.host.ask(f"exec {node}.exp1.lab {list(argv)!r} timeout=30", 40)

    def seen(self, node: str, rule: str, since: float) -> Callable[[], bool]:
        return lambda: (self.nodes()[node][rule] or 0.0) >= since

    @contextlib.contextmanager
    def terminal(self, node: str) -> Iterator[Callable[[bytes], None]]:
        """
        A shell on a terminal; what it is called with is typed.
        """
        with self.host.client() as client:
            client.send(f"@7 exec {node}.exp1.lab ['sh'] stream=True terminal=True\n")
            yield lambda data: self._type(client, data)
            client.send("@7 data {'close': True}\n")

    def _type(self, client: Client, data: bytes) -> None:
        piece = {"stream": "in", "base64": base64.b64encode(data).decode()}
        client.send(f"@7 data {piece!r}\n")

    def test_rules(self) -> None:
        """
        Nothing is use of a node that does nothing; then pings are, on both ends; packets out; a loop; keystrokes.
        """
        for one in self.nodes().values():
            self.assertEqual([one[rule] for rule in ("terminal", "load", "links", "control")], [None] * 4, one)
        with self.subTest("links"):
            begun = time.time()
            self.assertEqual(self.run_in("a", "ping", "-c", "4", "-i", "0.2", "b")["exit"], 0)
            for node in "ab":
                until(self.seen(node, "links", begun - 1), SEEN_S, self.activity)
        with self.subTest("control"):
            gateway = self.run_in("a", "sh", "-c", "ip -4 route show default")["out"].split()[2]
            self.assertEqual(self.run_in("a", program("python3"), "-c", SEND, gateway, "400")["exit"], 0)
            time.sleep(3 * LOOK_S)
            self.assertIsNone(self.nodes()["a"]["control"])
            begun = time.time()
            self.assertEqual(self.run_in("a", program("python3"), "-c", SEND, gateway, "1100")["exit"], 0)
            until(self.seen("a", "control", begun - 1), SEEN_S, self.activity)
            self.assertIsNone(self.nodes()["b"]["control"])
        with self.subTest("load"):
            begun = time.time()
            self.run_in("b", "sh", "-c", "timeout 8 sh -c 'while :; do :; done' >/dev/null 2>&1 &")
            until(self.seen("b", "load", begun), SEEN_S, self.activity)
            self.assertIsNone(self.nodes()["a"]["load"])
        with self.subTest("terminal"), self.terminal("a") as type_:
            until(lambda: self.nodes()["a"]["terminal"], SEEN_S)  # that it was opened counts
            self.assertIsNone(self.nodes()["b"]["terminal"])
            time.sleep(9)  # the kernel keeps the time of a keystroke in steps of 8 s
            before = self.nodes()["a"]["terminal"]
            begun = time.time()
            type_(b"echo hello\n")
            until(self.seen("a", "terminal", begun - 8), SEEN_S, self.activity)
            self.assertGreater(self.nodes()["a"]["terminal"], before)

    def test_outside(self) -> None:
        """
        A reboot is use; to ask how it is is none, and what is done to one node does not make another look used.
        """
        self.host.ask("node_reboot lab/exp1 a", 60)
        self.assertEqual(self.activity()["by"], "node_reboot")
        until(lambda: len(self.nodes()) == 2 and self.nodes()["a"]["reported"], SEEN_S)
        time.sleep(4)
        for line in ("status_request lab/exp1", "experiment lab/exp1", "why lab/exp1 a", "logs a.exp1.lab"):
            self.host.ask(line)
        self.assertGreater(self.activity()["idle"], 4)
        self.assertIsNone(self.nodes()["b"]["links"])


@needs_root
class SwapTests(SynchronousTestCase):
    """
    What becomes of an experiment that nobody uses.
    """

    def test_out(self) -> None:
        """
        It is warned, with the program told, and swapped out: nothing of it is left, and its history says why.
        """
        host = Hosted(self, CONFIG)
        self.addCleanup(lambda: self.assertEqual(host.tracebacks(), ""))
        said = host.directory / "said"
        tell = host.directory / "tell"
        tell.write_text(f'#!/bin/sh\n{{ echo "$1 $2 $3"; cat; }} >>{said}\n')
        tell.chmod(tell.stat().st_mode | stat.S_IXUSR)
        host.configure(f'{CONFIG}notify = "{tell}"\n')
        host.start()
        host.ask("add_project lab")
        host.ask(f"create_experiment lab/exp1 {LINKED} swap_in=True wait=60", 70)
        begun = time.monotonic()
        host.ask("set_swap lab/exp1 idle=8")
        until(lambda: host.ask("experiment lab/exp1")["state"] == "swapped", 60)
        self.assertGreater(time.monotonic() - begun, 7)
        self.assertEqual(host.processes(), set())
        self.assertFalse(list(Path("/sys/class/net").glob("*exp1*")))
        whats = [one["what"] for one in host.ask("history lab/exp1")]
        self.assertEqual(whats[-4:], ["set_swap", "idle_warning", "idle_swap", "swap_out"])
        until(lambda: said.exists() and len(said.read_text().splitlines()) == 4, SEEN_S)
        lines = said.read_text().splitlines()
        self.assertEqual([lines[0], lines[2]], ["lab/exp1 uid:0 idle_warning", "lab/exp1 uid:0 idle_swap"])
        self.assertEqual(host.stop(), 0)
