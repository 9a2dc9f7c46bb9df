"""
Experiments with links, while the daemon is killed again and again: the asked state is always reached, nothing runs
twice, and nothing is left over.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from tests.live import guests
from tests.live.experiments import Node, chain, text
from tests.live.hosted import Hosted, until
from tests.live.killing import SEED
from tests.live.test_experiments import ExperimentsCase
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

#: The latest moment of a kill, in seconds after the request was acknowledged: while all is made, or a machine boots.
_LATEST_S = (1.5, 6.0)
#: Seconds in which a machine is up, on a host that has much else to do.
_UP_S = 180.0
#: Milliseconds, of the links that want a wirefilter where the kernel delays nothing.
_DELAYS = {"l1": 4.0, "l2": 3.0, "back": 6.0}
_FILTER = 3  # processes for each
_CONFIG = """
[experiments]
container_image = "tiny"
qemu_image = "guest"
"""


def topologies() -> list[dict[str, Node]]:
    """
    @return: what the experiment is modified to be, each after the one before: a node more, a link more between those
        that stay, another kind of node, another start command; all of four nodes in a row or more.
    """
    first = chain(4, ("process", "container", "qemu", "process"))
    longer = chain(5, ("process", "container", "qemu", "process", "qemu"))
    ring = first | {"n0": Node("process", ["l0", "back"], "exit 0"), "n3": Node("process", ["l2", "back"], "exit 3")}
    other = first | {"n2": Node("container", ["l1", "l2"], "exit 22"), "n3": Node("qemu", ["l2"], "exit 33")}
    return [first, longer, ring, other]


@needs_root
@needs_tool("conmon", "runc", "catatonit", "busybox", "ping", "qemu-system-x86_64", "qemu-img", "wirefilter")
class KilledExperimentsTests(ExperimentsCase):
    """
    Containers, processes and machines on the same links, which are delayed.

    @ivar took: seconds from each start of the daemon until all was as asked.
    """

    def setUp(self) -> None:
        self.helpers = set()
        self.took: list[float] = []
        self.host = Hosted(self, _CONFIG)
        self.host.start()
        self.host.ask("image_build tiny base=busybox wait=120", 150)
        guests.bring(self.host, "guest")
        self.host.ask("add_project lab")

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
                self.host.ask(f"create_experiment lab/x {text(nodes, _DELAYS)}")
                state = "swapped"
            command = seed.choice(
                ["swap_in"]
                if state == "swapped"
                else ["modify_experiment"] * 3 + ["node_reboot", "swap_out", "terminate"]
            )
            request = f"{command} lab/x"
            if command == "modify_experiment":
                nodes = seed.choice([one for one in texts if one is not nodes])
                request += f" {text(nodes, _DELAYS)}"
            elif command == "node_reboot":
                request += " n1 n2"
            with self.host.client(60) as client:
                word, body = client.refusal(f"{request} wait=0")
                self.assertNotEqual(word, "error_reply", body)
            state = {"swap_out": "swapped", "terminate": "gone"}.get(command, "active")
            moment = seed.uniform(0, seed.choice(_LATEST_S))
            time.sleep(moment)
            self.kill()
            if seed.random() < 0.3:  # and once more, while the next one looks around
                self.host.launch()
                time.sleep(seed.uniform(0.1, 0.6))
                self.kill()
            begun = time.monotonic()
            self.host.start(60)
            done[command] += 1
            with self.subTest(command=command, moment=moment, seed=SEED):
                self.assertSo(state, nodes, begun)
        spread = " ".join(f"{one:.1f}" for one in sorted(self.took))
        print(f"\nseed {SEED}: {dict(done)}; recovered in {median(self.took):.1f} s (middle), all: {spread}")
        if state != "gone":
            self.host.ask("terminate lab/x wait=30", 60)
        self.assertNothingLeft()

    def test_aPowerCut(self) -> None:
        """
        The host itself goes down, and all that runs and is only in memory with it: when it is up again, what was
        asked for comes back, whatever it was in the midst of.
        """
        seed = random.Random(SEED)
        texts = topologies()
        nodes = texts[0]
        self.host.ask(f"create_experiment lab/x {text(nodes, _DELAYS)} swap_in=True wait=150", 180)
        self.host.argv.append("--startup")
        for moment in scaled((None, 0.5), (None, 0.2, 0.5, 1.0, 2.0, 4.0)):
            if moment is not None:
                nodes = seed.choice([one for one in texts if one is not nodes])
                self.host.ask(f"modify_experiment lab/x {text(nodes, _DELAYS)} wait=0")
                time.sleep(moment)
            self.kill()
            self.host.remains.remove()
            shutil.rmtree(self.host.state / "run")
            begun = time.monotonic()
            self.host.start(60)
            with self.subTest(moment=moment, seed=SEED):
                self.assertSo("active", nodes, begun)
        print(f"\nback in {' '.join(f'{one:.1f}' for one in self.took)} s")
        self.host.ask("terminate lab/x wait=60", 90)
        self.assertNothingLeft()

    def assertSo(self, state: str, nodes: dict[str, Node], begun: float) -> None:
        """
        The experiment is as asked, and the host with it.

        @param begun: when the daemon was started that is to have brought it about.
        """
        ended = lambda: not [one for one in self.host.ask("operations") if one["ended"] is None]  # noqa: E731
        until(ended, _UP_S, lambda: (self.host.ask("operations")[:2], self.host.said()))
        if state == "gone":
            self.assertEqual(self.host.ask("experiments"), [])
        if state != "active":
            self.took.append(time.monotonic() - begun)
            until(lambda: not self.host.left_over(), 20, self.host.left_over)
            return
        self.assertEqual(self.host.ask("experiment lab/x")["state"], "active", self.host.said())
        wanted: dict[str, dict[str, list[Any]]] = {}
        for name, node in nodes.items():
            code = int((node.command or "").removeprefix("exit "))
            wanted.setdefault(f"hv:{node.kind}:pnode-0000", {})[name] = ["booted", code]
        status = lambda: self.host.ask("status_request lab/x")  # noqa: E731
        until(lambda: status() == wanted, _UP_S, status)
        self.took.append(time.monotonic() - begun)
        found = self.nodes()
        self.assertEqual({name: one["problems"] for name, one in found.items() if one["problems"]}, {})
        last = max(nodes)
        self.assertReaches("n0", last)
        self.assertReaches("n1", last)
        kinds = Counter(node.kind for node in nodes.values())
        until(lambda: self.running() == kinds, 10, lambda: (self.running(), kinds))
        ports = sum(len(node.links) for node in nodes.values())
        until(lambda: self.ports() == ports, 10, lambda: (self.host.remains.interfaces(), ports))
        links = {link for node in nodes.values() for link in node.links}
        filters = _FILTER * len(links & _DELAYS.keys()) if self.shaped_by("l1") == "wirefilter" else 0
        until(lambda: self.host.remains.filters() == filters, 10, lambda: (self.host.left_over(), filters))

    def shaped_by(self, link: str) -> str:
        """
        @return: what delays a link here.
        """
        return str(self.host.ask("experiment lab/x")["links"][link]["by"])

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
                found["qemu" if any(b"/machines/" in word for word in words) else "container"] += 1
            elif b"keep" in words[1:3] and b"shim-" in b" ".join(words[:3]):
                found["process"] += 1
        return found

    def ports(self) -> int:
        """
        @return: how many interfaces of the host lead to a node's on a link.
        """
        names = self.host.remains.interfaces()
        return sum(name.startswith("hk") and name[6:7] == "p" for name in names)
