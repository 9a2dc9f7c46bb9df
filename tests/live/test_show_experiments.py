"""
One experiment of machines, containers and processes on links of given rate, delay and loss, as its user sees it: from
the NS text to the last thing taken off the host.
"""

from __future__ import annotations

import json
import subprocess
import time
import unittest
from pathlib import Path
from statistics import median
from typing import Any

from tests.live.hosted import Hosted, until
from tests.live.support import DEADLINE_S
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

#: q0 - c0 - c1 - p0 = p1 (twice), and a LAN of p0, c2, c3, q1: from q0 to q1 it is four links.
TEXT = """
set ns [new Simulator]
foreach name {c0 c1 c2 c3} {
    set $name [$ns node]
    tb-set-hardware [set $name] container
    tb-set-node-os [set $name] tiny
}
foreach name {q0 q1} {
    set $name [$ns node]
    tb-set-hardware [set $name] qemu
    tb-set-node-os [set $name] guest
}
foreach name {p0 p1} {
    set $name [$ns node]
    tb-set-hardware [set $name] process
}
tb-set-node-startcmd $c3 "exit 7"
tb-set-node-startcmd $q1 "echo machine; exit 7"
tb-set-node-startcmd $p1 "echo process"
set first [$ns duplex-link $q0 $c0 100Mb 10ms DropTail]
set second [$ns duplex-link $c0 $c1 20Mb 5ms DropTail]
set third [$ns duplex-link $c1 $p0 100Mb 0ms DropTail]
set lossy [$ns duplex-link $p0 $p1 10Mb 20ms DropTail]
tb-set-link-loss $lossy 0.1
set rated [$ns duplex-link $p0 $p1 10Mb 0ms DropTail]
set campus [$ns make-lan "$p0 $c2 $c3 $q1" 50Mb 4ms]
$ns rtproto Static
$ns run
"""
RATE_BPS, DELAY_S, LOSS = 10e6, 0.020, 0.1
TOLERANCE = 0.1
#: What a packet of UDP has besides its data: the headers of Ethernet, IP and UDP.
_HEADERS = 42
#: Receives until nothing came for a second; says how many, and the seconds from the first to the last.
_RECEIVE = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
s.bind(("", 5000)); s.settimeout(20); n = 0; first = last = 0.0
print("ready", file=sys.stderr, flush=True)
try:
    while True:
        s.recv(2048); last = time.monotonic(); first = first or last; n += 1; s.settimeout(1.5)
except TimeoutError:
    print(n, last - first)
"""
#: $1: address, $2: packets, $3: their data, $4: per second.
_SEND = """
import socket, sys, time
to, count, size, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); begun = time.monotonic()
for at in range(count):
    while time.monotonic() < begun + at / rate:
        time.sleep(0.001)
    s.sendto(bytes(size), (to, 5000))
"""
_PYTHON = "/usr/bin/python3"


@needs_root
@needs_tool("conmon", "runc", "catatonit", "busybox", "qemu-system-x86_64", "qemu-img", "wirefilter", "ping")
class MixedExperimentTests(unittest.TestCase):
    """
    A host with a small image for containers and one for machines.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()
        self.host.ask("image_build tiny base=busybox wait=120", 150)
        self.host.ask("image_build guest base=busybox kind=qemu wait=300", 330)
        self.host.ask("add_project lab")

    def tearDown(self) -> None:
        self.assertEqual(self.host.stop(), 0)
        self.assertEqual(self.host.tracebacks(), "")

    def node(self, name: str) -> dict[str, Any]:
        """
        @return: what the daemon says of a node.
        """
        body: dict[str, Any] = self.host.ask("experiment lab/mixed")["nodes"][name]
        return body

    def address(self, node: str, link: str) -> str:
        """
        @return: that of a node on a link.
        """
        return next(str(one["ip4"]) for one in self.node(node)["interfaces"] if one["link"] == link)

    def run_in(self, node: str, *argv: str, limit_s: float = 60.0) -> str:
        """
        @return: what a command says inside a node.
        """
        found = self.host.ask(f"exec {node}.mixed.lab {list(argv)!a} timeout={limit_s:g}", limit_s + 10)
        self.assertEqual(found["exit"], 0, f"{node}: {argv}: {found} {self.host.said()}")
        return str(found["out"])

    def round_trips(self, node: str, to: str, count: int = 15) -> list[float]:
        """
        @return: seconds, of each ping that was answered.
        """
        said = self.run_in(node, "ping", "-c", str(count), "-i", "0.2", "-W", "2", to)
        return [float(word[5:]) / 1000 for word in said.split() if word.startswith("time=")]

    def received(self, to: str, link: str, count: int, size: int, rate: float, sender: str) -> tuple[int, float]:
        """
        Send packets from one process node to another.

        @return: how many came, and the seconds from the first to the last.
        """
        with self.host.client(120) as client:
            client.send(f"exec {to}.mixed.lab {[_PYTHON, '-c', _RECEIVE]!a} timeout=100\n")
            time.sleep(1.0)
            argv = [_PYTHON, "-c", _SEND, self.address(to, link), str(count), str(size), str(rate)]
            self.run_in(sender, *argv, limit_s=90)
            _, body = client.reply()
        self.assertEqual(body["exit"], 0, body)
        n, seconds = body["out"].split()
        return int(n), float(seconds)

    def within(self, what: str, found: float, declared: float) -> None:
        """
        @raise AssertionError: if it is not as declared.
        """
        self.assertLessEqual(abs(found - declared) / declared, TOLERANCE, f"{what}: {found:g}, declared {declared:g}")

    def test_mixedExperiment(self) -> None:
        """
        An NS text becomes two machines, four containers and two processes on links that are as declared; one is
        rebooted, one added, and nothing is left over at the end.
        """
        before = on_the_host()
        made = self.host.ask(f"create_experiment lab/mixed {TEXT!a} swap_in=True wait=180", 200)
        self.assertEqual((made["state"], made["reason"]), ("active", ""), made)
        self.host.ask("wait_for lab/mixed started timeout=60", 70)
        status = self.host.ask("status_request lab/mixed")
        self.assertEqual(
            status,
            {
                "hv:container:pnode-0000": {
                    "c0": ["booted", None], "c1": ["booted", None], "c2": ["booted", None], "c3": ["booted", 7],
                },
                "hv:qemu:pnode-0000": {"q0": ["booted", None], "q1": ["booted", 7]},
                "hv:process:pnode-0000": {"p0": ["booted", None], "p1": ["booted", 0]},
            },
        )  # fmt: skip
        self.assertEqual([one for node in made["nodes"].values() for one in node["problems"]], [])
        self.paths()
        self.as_declared()
        self.others_go_on()
        self.host.ask("swap_out lab/mixed wait=60", 90)
        until(lambda: not self.host.left_over(), 10, self.host.left_over)
        self.assertEqual(self.host.ask("status_request lab/mixed"), {})
        self.host.ask("terminate lab/mixed wait=60", 90)
        self.assertEqual(on_the_host(), before)

    def paths(self) -> None:
        """
        Everybody reaches everybody by name, over several links, and nobody had to do anything for it.
        """
        self.assertTrue(self.round_trips("q0", "q1", 5))
        self.assertTrue(self.round_trips("p1", "q0", 5))
        self.assertIn("c1-second", self.run_in("c0", "cat", "/etc/hosts"))

    def as_declared(self) -> None:
        """
        Delay, rate and loss are within a tenth of what was declared.
        """
        trips = self.round_trips("p0", "p1-lossy", 30)
        self.within("delay", median(trips), 2 * DELAY_S)
        self.within("delay between containers", median(self.round_trips("c0", "c1")), 0.010)
        count = scaled(8100, 32000)
        came, _ = self.received("p1", "lossy", count, 60, 3000, "p0")
        self.within("loss", 1 - came / count, LOSS)
        came, seconds = self.received("p1", "rated", scaled(3000, 9000), 1400, 2000, "p0")
        self.within("rate", (came - 1) * (1400 + _HEADERS) * 8 / seconds, RATE_BPS)

    def others_go_on(self) -> None:
        """
        One is rebooted and one added; nobody else notices.
        """
        before = {
            name: (one["pid"], one["boots"]) for name, one in self.host.ask("experiment lab/mixed")["nodes"].items()
        }
        self.host.ask("node_reboot lab/mixed c1 wait=60", 90)
        self.assertEqual(self.node("c1")["boots"], 2)
        self.assertTrue(self.round_trips("q0", "q1", 5))
        more = TEXT.replace("c2 c3}", "c2 c3 c4}").replace("$c3 $q1", "$c3 $c4 $q1")
        said = self.host.ask(f"modify_experiment lab/mixed {more!a} wait=60", 90)
        self.assertEqual((said["added"], said["removed"]), (["c4"], []))
        self.assertTrue(self.round_trips("c4", "q0", 5))
        after = {
            name: (one["pid"], one["boots"]) for name, one in self.host.ask("experiment lab/mixed")["nodes"].items()
        }
        del before["c1"]
        self.assertEqual({name: after[name] for name in before}, before)


def on_the_host() -> dict[str, Any]:
    """
    @return: what there is on this host that somebody could leave over; images stay.
    """
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, check=True, timeout=DEADLINE_S).stdout)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        "interfaces": sorted(one["ifname"] for one in links),
        "mounts": sorted(one for one in mounts if "/state/images" not in one),
    }


if __name__ == "__main__":
    unittest.main()
