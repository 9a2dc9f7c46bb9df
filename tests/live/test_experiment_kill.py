"""
Experiments with links, while the daemon is killed again and again: the asked state is always reached, nothing runs
twice, and nothing is left over.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.live.experiments import Node, chain, text
from tests.live.hosted import until
from tests.live.killing import SEED
from tests.live.test_experiments import ExperimentsCase
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

#: The latest moment of a kill, in seconds after the request was acknowledged.
_LATEST_S = 1.5


def topologies() -> list[dict[str, Node]]:
    """
    @return: what the experiment is modified to be, each after the one before: a node more, a link more between those
        that stay, another kind of node, another start command; all of four nodes in a row or more.
    """
    first = chain(4)
    longer = chain(5)
    ring = first | {"n0": Node("process", ["l0", "back"], "exit 0"), "n3": Node("container", ["l2", "back"], "exit 3")}
    other = first | {"n2": Node("container", ["l1", "l2"], "exit 22")}
    return [first, longer, ring, other]


@needs_root
@needs_tool("conmon", "runc", "catatonit", "busybox", "ping")
class KilledExperimentsTests(ExperimentsCase):
    """
    Containers and processes on the same links.
    """

    def test_theAskedStateIsReached(self) -> None:
        """
        Whatever moment of a swap-in, a modification, a reboot, a swap-out or a termination the daemon dies in, the next
        one finishes it: every node is up once with its links and its code, or nothing is there at all.
        """
        seed = random.Random(SEED)
        done: Counter[str] = Counter()
        texts = topologies()
        state, nodes = "gone", texts[0]
        for _ in range(scaled(5, 50)):
            if state == "gone":
                nodes = seed.choice(texts)
                self.host.ask(f"create_experiment lab/x {text(nodes)}")
                state = "swapped"
            command = seed.choice(
                ["swap_in"]
                if state == "swapped"
                else ["modify_experiment"] * 3 + ["node_reboot", "swap_out", "terminate"]
            )
            request = f"{command} lab/x"
            if command == "modify_experiment":
                nodes = seed.choice([one for one in texts if one is not nodes])
                request += f" {text(nodes)}"
            elif command == "node_reboot":
                request += " n1 n2"
            with self.host.client(60) as client:
                word, body = client.refusal(f"{request} wait=0")
                self.assertNotEqual(word, "error_reply", body)
            state = {"swap_out": "swapped", "terminate": "gone"}.get(command, "active")
            moment = seed.uniform(0, _LATEST_S)
            time.sleep(moment)
            self.kill()
            if seed.random() < 0.3:  # and once more, while the next one looks around
                self.host.launch()
                time.sleep(seed.uniform(0.1, 0.6))
                self.kill()
            self.host.start()
            done[command] += 1
            with self.subTest(command=command, moment=moment, seed=SEED):
                self.assertSo(state, nodes)
        print(f"\nseed {SEED}: {dict(done)}")
        if state != "gone":
            self.host.ask("terminate lab/x wait=30", 60)
        self.assertNothingLeft()

    def assertSo(self, state: str, nodes: dict[str, Node]) -> None:
        """
        The experiment is as asked, and the host with it.
        """
        ended = lambda: not [one for one in self.host.ask("operations") if one["ended"] is None]  # noqa: E731
        until(ended, 60, lambda: (self.host.ask("operations")[:2], self.host.said()))
        if state == "gone":
            self.assertEqual(self.host.ask("experiments"), [])
        if state != "active":
            until(lambda: not self.host.left_over(), 20, self.host.left_over)
            return
        self.assertEqual(self.host.ask("experiment lab/x")["state"], "active", self.host.said())
        wanted: dict[str, dict[str, list[Any]]] = {}
        for name, node in nodes.items():
            code = int((node.command or "").removeprefix("exit "))
            wanted.setdefault(f"hv:{node.kind}:pnode-0000", {})[name] = ["booted", code]
        status = lambda: self.host.ask("status_request lab/x")  # noqa: E731
        until(lambda: status() == wanted, 20, status)
        found = self.nodes()
        self.assertEqual({name: one["problems"] for name, one in found.items() if one["problems"]}, {})
        last = max(nodes)
        self.assertReaches("n0", last)
        self.assertReaches("n1", last)
        kinds = Counter(node.kind for node in nodes.values())
        until(lambda: self.running() == kinds, 10, lambda: (self.running(), kinds))
        ports = sum(len(node.links) for node in nodes.values())
        until(lambda: self.ports() == ports, 10, lambda: (self.host.remains.interfaces(), ports))

    def running(self) -> Counter[str]:
        """
        @return: how many nodes of each kind are being kept, by what keeps them.
        """
        found: Counter[str] = Counter()
        for pid in self.host.processes():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"conmon"):
                found["container"] += 1
            elif b"keep" in words[1:3] and b"shim-" in b" ".join(words[:3]):
                found["process"] += 1
        return found

    def ports(self) -> int:
        """
        @return: how many interfaces of the host lead to a node's on a link.
        """
        names = self.host.remains.interfaces()
        return sum(name.startswith("hk") and name[6:7] == "p" for name in names)
