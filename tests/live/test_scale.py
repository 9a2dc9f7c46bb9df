"""
Many nodes on one host: what they cost while they come, while they are there and polled, and while they go.
"""

from __future__ import annotations

import time
import unittest
from pathlib import Path

from tests.live.hosted import Hosted, topology, until
from tests.scale import scaled

MIB = 1 << 20
NODES = scaled(100, 1000)
#: Seconds of polling, once a second.
POLLED_S = scaled(8, 60)


def pss(pid: int) -> int:
    """
    @return: bytes of a process, what it shares with others divided among them.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


class Scale(unittest.TestCase):
    """
    One experiment with many process nodes.
    """

    def setUp(self) -> None:
        self.host = Hosted(self, files=(1024, 1 << 14))
        self.host.start()
        self.host.ask("add_project lab")

    def test_manyNodes(self) -> None:
        """
        An experiment with as many nodes as a big one has comes up, costs next to nothing while it is polled, is found
        again by the next daemon, and goes without a trace.
        """
        text = topology({f"n{number}": f"exit {number % 100}" for number in range(NODES)})
        idle = self.host.rss()
        with self.host.client(600) as client:
            begun = time.monotonic()
            client.ask(f"create_experiment lab/big {text}")
            created = time.monotonic() - begun
            begun, cpu = time.monotonic(), self.host.cpu_s()
            client.ask("swap_in lab/big wait=500")
            swap_in, swap_in_cpu = time.monotonic() - begun, self.host.cpu_s() - cpu
            wanted = {f"n{number}": ["booted", number % 100] for number in range(NODES)}
            until(lambda: client.ask("status_request lab/big") == {"hv:process:pnode-0000": wanted}, 60)
            rss = self.host.rss()

            begun, cpu = time.monotonic(), self.host.cpu_s()
            for _ in range(POLLED_S):
                client.ask("status_request lab/big")
                time.sleep(1)
            share = (self.host.cpu_s() - cpu) / (time.monotonic() - begun)
            shims = sorted(self.host.processes())
            per_node = sum(map(pss, shims)) / NODES
            pids = {name: one["pid"] for name, one in client.ask("experiment lab/big")["nodes"].items()}

        self.host.kill()
        restart = self.host.start(60)
        with self.host.client(600) as client:
            found = client.ask("experiment lab/big")["nodes"]
            self.assertEqual({name: one["pid"] for name, one in found.items()}, pids)
            self.assertEqual(client.ask("status_request lab/big"), {"hv:process:pnode-0000": wanted})
            restarted_rss = self.host.rss()
            begun = time.monotonic()
            client.ask("terminate lab/big wait=500")
            terminate = time.monotonic() - begun
        until(lambda: not self.host.left_over(), 30, self.host.left_over)
        print(
            f"\n{NODES} nodes: created in {created:.2f} s, swapped in in {swap_in:.2f} s"
            f" ({swap_in_cpu:.2f} s of a core), terminated in {terminate:.2f} s, daemon restarted in {restart:.2f} s;"
            f" daemon {idle / MIB:.1f} MiB idle, {rss / MIB:.1f} MiB with them,"
            f" {restarted_rss / MIB:.1f} MiB after the restart; polled every second {share:.2%} of a core;"
            f" per node {per_node / 1024:.0f} KiB in {len(shims) / NODES:g} processes"
        )
        self.assertLess(rss, 80_000_000)
        self.assertLess(restarted_rss, 80_000_000)
        self.assertLess(share, 0.01)
        self.assertEqual(len(shims), 2 * NODES)
        self.assertLess(per_node, 2 * MIB)
        self.assertEqual(self.host.tracebacks(), "")

    def test_manyPollsOfOneExperiment(self) -> None:
        """
        Whoever polls as fast as he can gets an answer each time, and the daemon does not grow by it.
        """
        self.host.ask(f"create_experiment lab/big {topology({f'n{n}': None for n in range(20)})} swap_in=True")
        with self.host.client() as client:
            for _ in range(2000):
                client.ask("status_request lab/big")
            before = self.host.rss()
            for _ in range(scaled(5000, 100_000)):
                client.ask("status_request lab/big")
        self.assertLess(self.host.rss() - before, 2 * MIB)

    def test_aLongHistory(self) -> None:
        """
        The next daemon holds the same events in no more memory than the one that was there when they came.
        """
        with self.host.client() as client:
            for _ in range(scaled(50, 150)):
                client.send("add_user u uid=1234\nremove_user u\n" * 100)
                for _ in range(200):
                    client.line()
        before = self.host.rss()
        self.host.kill()
        self.host.start()
        self.assertLess(self.host.rss() - before, 4 * MIB)
        self.assertLess(self.host.rss(), 80_000_000)
