"""
C{kill -9} of the daemon, over and over, while people make, start, stop, remake and destroy containers: what is asked
for is reached, what was acknowledged is so, once, and nothing is left over.
"""

from __future__ import annotations

import random
import threading
import time
import unittest
from collections import Counter
from pathlib import Path

from attrs import evolve, frozen

from tests.live.hosted import Client, Hosted, until
from tests.live.killing import SEED, KilledTest, Ledger
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

_PASSING = ("creating", "starting", "stopping", "destroying")
#: Each start of a build leaves a line in the container's own files.
_COUNTS = "echo start >>/root/starts; exec sleep 100000"


@frozen
class Container:
    """
    A container as its owner was told it is.

    @ivar number: which of those that had its name.
    @ivar starts: how often it was started since it was made, or made anew.
    """

    number: int
    running: bool
    starts: int


class Owner(Ledger):
    """
    One who has two containers.
    """

    def __init__(self, host: Hosted, number: int, random_: random.Random) -> None:
        super().__init__(random_)
        self.slivers: dict[str, Container | None] = {f"lab{number}_c{at}": None for at in range(2)}
        self._host = host
        self._count = 0

    def step(self, client: Client) -> None:
        name = self.random.choice(list(self.slivers))
        before = self.slivers[name]
        if before is None:
            self._count += 1
            words = (
                f"create {name} kind=container image=tiny wait=50 token={name}.{self._count}",
                f"rspec={{'disk_max': 32768, 'pids_max': {100 + self._count}}} start_command='{_COUNTS}'",
            )
            self.ask(client, " ".join(words), self.slivers, name, Container(self._count, True, 1))
            return
        command = self.random.choice(
            ["stop", "recreate", "destroy"] if before.running else ["start", "start", "destroy"]
        )
        after = {
            "stop": evolve(before, running=False),
            "start": evolve(before, running=True, starts=before.starts + 1),
            "recreate": evolve(before, running=True, starts=1),
            "destroy": None,
        }[command]
        self.ask(client, f"{command} {name} wait=50", self.slivers, name, after)

    def compare(self, test: unittest.TestCase, client: Client) -> None:
        """
        See whether all is as it was acknowledged; settle what was open.
        """
        self.settle(client)
        for name in self.slivers:
            found = self._settled(client, name)
            test.assertIn(found, self.allowed(self.slivers, name), f"{name}, {self.open}")
            self.slivers[name] = found
        self.open = None

    def _settled(self, client: Client, name: str) -> Container | None:
        """
        @return: a container as it is, once it is as somebody wanted it.
        """
        found: Container | None = None

        def settled() -> bool:
            nonlocal found
            word, body = client.refusal(f"sliver {name}")
            if word == "error_reply":
                found = None
                return bool(body["code"] == "NO_SUCH_SLIVER")
            if body["state"] in _PASSING or (body["boot"], body["start_command"]) == ("booted", "none"):
                return False
            running = body["state"] == "running"
            known = [one.starts for one in self.allowed(self.slivers, name) if one is not None] or [-1]
            starts = self._starts(body["serial"], known) if running else known[0]
            found = Container(body["rspec"]["pids_max"] - 100, running, starts)
            return bool(body["boot"] == ("booted" if running else "dead"))

        until(settled, 60, lambda: (client.refusal(f"sliver {name}"), self._host.said()))
        return found

    def _starts(self, serial: int, known: list[int]) -> int:
        """
        @param known: what may be; a start command that has been started may not have got far yet.
        @return: how many lines there are in its own files.
        """
        path = self._host.state / "roots" / str(serial) / "root/root/starts"
        deadline = time.monotonic() + 5
        while (count := len(path.read_text().splitlines()) if path.exists() else 0) not in known:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return count


@needs_root
@needs_tool("conmon", "runc", "catatonit", "busybox")
class KilledContainersTest(KilledTest):
    """
    A host with a small image, and three people at work.
    """

    def setUp(self) -> None:
        super().setUp()
        self.host.ask("image_build tiny base=busybox")

    def keepers(self) -> int:
        """
        @return: how many containers are being kept.
        """
        count = 0
        for pid in self.host.processes():
            try:
                count += Path(f"/proc/{pid}/comm").read_text() == "conmon\n"
            except OSError:
                continue
        return count

    def assertKept(self, wanted: int) -> None:
        """
        So many containers run, and none twice.
        """
        until(lambda: self.keepers() == wanted, 10, lambda: f"want {wanted}, got {self.keepers()}")

    def restart(self, seed: random.Random) -> float:
        """
        Start the daemon; now and then kill that one as well while it still looks around, and start the next.

        @return: the seconds that took until it answered.
        """
        if seed.random() < 0.4:
            self.host.launch()
            time.sleep(seed.uniform(0.1, 0.8))
            self.kill()
        return self.host.start()

    def test_whatIsAskedForIsReached(self) -> None:
        """
        Whatever moment the daemon dies in, the next one reaches what was wanted: each container is there or not, runs
        or not, was started exactly as often as was acknowledged, and is there once.
        """
        seed = random.Random(SEED)
        owners = [Owner(self.host, number, random.Random(seed.random())) for number in range(3)]
        restarts = []
        for _ in range(scaled(6, 50)):
            threads = [threading.Thread(target=owner.work, args=(self.host.socket,)) for owner in owners]
            for thread in threads:
                thread.start()
            time.sleep(seed.uniform(0.05, 1.5))
            self.kill()
            for thread in threads:
                thread.join(30)
            restarts.append(self.restart(seed))
            with self.host.client(60) as client:
                for owner in owners:
                    self.assertIsNone(owner.failure)
                    owner.compare(self, client)
            self.assertKept(sum(one is not None and one.running for owner in owners for one in owner.slivers.values()))
        acknowledged: Counter[str] = sum((owner.acknowledged for owner in owners), Counter())
        print(f"\nseed {SEED}: {dict(acknowledged)}; restarts {max(restarts):.2f} s at most")
        self.assertGreaterEqual(len(acknowledged), 4)
        with self.host.client(60) as client:
            for one in client.ask("slivers"):
                client.ask(f"destroy {one['name']} wait=50")
            self.assertEqual(client.ask("slivers"), [])
        self.assertNothingLeft()
