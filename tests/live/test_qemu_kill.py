"""
An experiment of QEMU machines on a real daemon, which is killed at any instant.
"""

from __future__ import annotations

import random
import time
from typing import Any

from tests.live import guests
from tests.live.experiments import Node, text
from tests.live.hosted import Hosted, until
from tests.live.killing import SEED, KilledTest
from tests.live.machines import BOOT_S
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

_CONFIG = """
[experiments]
kind = "qemu"
qemu_image = "tiny"
"""
_NODES = {
    "a": Node("qemu", ["lan"], "echo begun >>/root/starts; exit 7"),
    "b": Node("qemu", ["lan"]),
}


@needs_root
@needs_tool("conmon", "runc", "catatonit", "qemu-system-x86_64", "qemu-img")
class KilledMachinesTests(KilledTest):
    """
    What was asked for is reached, once, and nothing is left over.
    """

    def setUp(self) -> None:
        self.helpers = set()
        self.host = Hosted(self, _CONFIG)
        self.host.start()
        guests.bring(self.host, "tiny")
        self.host.ask("add_project lab")

    def status(self) -> Any:
        found = self.host.ask("status_request lab/x")
        return next(iter(found.values()), {}) if found else {}

    def run_in(self, node: str, *argv: str) -> Any:
        return self.host.ask(f"exec {node}.x.lab {list(argv)!r}", 60)

    def test_areReached(self) -> None:
        """
        Wherever the daemon dies while machines come up, run and go, the next one goes on from there.
        """
        seed = random.Random(SEED)
        self.host.ask(f"create_experiment lab/x {text(_NODES)} swap_in=True wait=0", 60)
        for _ in range(scaled(3, 20)):
            time.sleep(seed.uniform(0.05, 2.5))
            self.kill()
            self.host.start(60)
        until(
            lambda: self.status() == {"a": ["booted", 7], "b": ["booted", None]},
            2 * BOOT_S,
            lambda: (self.host.ask("experiment lab/x"), self.host.said()),
        )
        until(lambda: self.host.ask_any("exec a.x.lab ['true']", 60)[0] != "error_reply", BOOT_S)
        self.assertEqual(self.run_in("a", "cat", "/root/starts")["out"], "begun\n")
        until(lambda: self.run_in("b", "ping", "-c", "1", "-w", "5", "a")["exit"] == 0, 60)
        self.host.ask("swap_out lab/x wait=0", 60)
        for _ in range(scaled(2, 10)):
            time.sleep(seed.uniform(0.0, 0.5))
            self.kill()
            self.host.start(60)
        until(lambda: self.status() == {}, BOOT_S)
        self.host.ask("terminate lab/x wait=50", 90)
        self.assertNothingLeft()
