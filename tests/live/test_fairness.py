"""
Fair service: one delegate asks all that its limits allow, on all its connections, and others hardly notice.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
import unittest

from tests.live import flooding
from tests.live.hosted import ENVIRONMENT, Client, Hosted, topology
from tests.live.support import DEADLINE_S
from tests.live.test_oracle import coming_as
from tests.needs import needs_root
from tests.permissions import GRANTABLE
from tests.scale import scaled

#: Quiet and flood take turns so often, for so many seconds each.
ROUNDS, EACH_S = scaled(4, 20), 1.5
#: So many times as long may answers take.
_MOST = 3
#: The flood has begun, and its first burst is over.
_BEGUN_S = 1.0


@needs_root
class FairnessTests(unittest.TestCase):
    """
    A user polls the status of its experiment while a delegate floods.
    """

    USER, DELEGATE, OWNER = 7001, 7002, 7003
    NODES = 300

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()
        nodes = dict.fromkeys(f"node-{number}" for number in range(self.NODES))
        lines = [
            "add_project lab",
            "add_project garden",
            f"add_user ann uid={self.OWNER}",
            f"add_user bob uid={self.USER}",
            "add_member lab ann",
            "add_member garden bob",
            f"create_experiment garden/demo {topology({'web': None, 'db': None})} swap_in=True wait=60",
            f"create_experiment {flooding.BIG} {topology(nodes)}",
            f"create {flooding.FREE} kind=process wait=60",
            f"add_delegate del_flood uid={self.DELEGATE} commands={GRANTABLE!r} "
            f"slivers={[flooding.BIG, flooding.FREE]!r}",
            # So that there are events to ask for.
            *(f"set_loans {flooding.FREE} [['lab_no{number % 7}','cpu_share',1]]" for number in range(500)),
        ]
        with self.host.client() as operator:
            for line in lines:
                operator.ask(line)
        with coming_as(self.USER):
            self.client = self.host.client()
        self.addCleanup(self.client.close)

    def test_staysWithinThreeTimesOfQuiet(self) -> None:
        """
        The slowest hundredth of a user's polls takes at most three times as long while a delegate floods. What does
        not look so is measured once more: others use this machine too.
        """
        ratio, said = self.measure()
        if ratio > _MOST:
            ratio, said = self.measure()
        self.assertLessEqual(ratio, _MOST, said)
        self.assertEqual(self.host.tracebacks(), "")

    def measure(self) -> tuple[float, str]:
        """
        @return: how many times as long the polls took, by the medians of the rounds; and all figures.
        """
        quiet, flooded = [], []
        for _ in range(ROUNDS):
            quiet.append(_p99(poll(self.client, EACH_S)))
            flood = self.flood()
            poll(self.client, _BEGUN_S)
            flooded.append(_p99(poll(self.client, EACH_S)))
            self.assertIsNone(flood.poll(), "the flood ended by itself")
            flood.kill()
            flood.wait(DEADLINE_S)
            time.sleep(_BEGUN_S)  # until what it asked is forgotten
        ratio = statistics.median(flooded) / statistics.median(quiet)
        print(f"p99 under a flood: {ratio:.2f} times quiet; us, quiet {quiet}, flooded {flooded}")
        return ratio, f"us, quiet {quiet}, flooded {flooded}"

    def flood(self) -> subprocess.Popen[bytes]:
        """
        @return: a process of its own, less urgent than we are: the flood has one processor of two, not ours.
        """
        argv = [sys.executable, "-m", "tests.live.flooding", str(self.host.socket), str(self.DELEGATE)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=ENVIRONMENT)
        self.addCleanup(_end, process)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"flooding\n")
        return process


def poll(client: Client, seconds: float) -> list[float]:
    """
    Ask one thing after the other.

    @return: microseconds that each answer took.
    """
    times = []
    line = b"status_request garden/demo\n"
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        while time.perf_counter() < end:
            begun = time.perf_counter_ns()
            client.socket.send(line)
            if not client.socket.recv(1 << 16).startswith(b"status_reply "):
                raise AssertionError("want a status_reply")
            times.append((time.perf_counter_ns() - begun) / 1000)
    finally:
        gc.enable()
    return times


def _p99(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(DEADLINE_S)
    if process.stdout is not None:
        process.stdout.close()
