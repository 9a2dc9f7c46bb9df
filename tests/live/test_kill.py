"""
C{kill -9} of the daemon, over and over, while commands run: nothing acknowledged is lost, no node notices, nothing is
left over.
"""

from __future__ import annotations

import os
import random
import threading
import time
import unittest
from collections import Counter
from typing import Any

from attrs import evolve, frozen

from tests.live.hosted import Client, topology, until
from tests.live.killing import SEED, KilledTest, Ledger
from tests.live.support import living
from tests.scale import scaled

_PASSING = ("new", "activating", "swapping", "modifying", "terminating")


@frozen
class Experiment:
    """
    An experiment as its owner was told it is.

    @ivar codes: what each node's start command ends with.
    @ivar boots: how often each was started, while it is active.
    """

    active: bool
    codes: dict[str, int]
    boots: dict[str, int]


def commands(codes: dict[str, int]) -> str:
    return topology({name: f"exit {code}" for name, code in codes.items()})


class People(Ledger):
    """
    One who makes users and experiments.

    @ivar users: whether each exists.
    @ivar experiments: None if it does not exist.
    """

    refusals = ("WRONG_STATE", "EXISTS")  # what was asked for with wait=0 is still under way

    def __init__(self, number: int, random_: random.Random) -> None:
        super().__init__(random_)
        self.project = f"p{number}"
        self.users: dict[str, bool] = {}
        self.experiments: dict[str, Experiment | None] = {f"{self.project}/e{n}": None for n in range(2)}
        self._count = 0

    def step(self, client: Client) -> None:
        if self.random.random() < 0.3:
            self._user(client)
        else:
            self._experiment(client)

    def _user(self, client: Client) -> None:
        there = [name for name, is_there in self.users.items() if is_there]
        if there and self.random.random() < 0.3:
            name = self.random.choice(there)
            self.ask(client, f"remove_user {name}", self.users, name, False)
            return
        self._count += 1
        name = f"{self.project}u{self._count}"
        self.ask(client, f"add_user {name} token={name}", self.users, name, True)

    def _experiment(self, client: Client) -> None:
        name = self.random.choice(list(self.experiments))
        wait = self.random.choice(["wait=0", "wait=20", "wait=20"])
        before = self.experiments[name]
        codes = {node: self.random.randrange(1, 100) for node in self.random.sample("abcd", 3)}
        if before is None:
            request = f"create_experiment {name} {commands(codes)} {wait}"
            if self.random.random() < 0.5:
                self.ask(client, request, self.experiments, name, Experiment(False, codes, {}))
            else:
                up = Experiment(True, codes, dict.fromkeys(codes, 1))
                self.ask(client, f"{request} swap_in=True", self.experiments, name, up)
            return
        command = self.random.choice(
            ["swap_out", "terminate", "modify_experiment", "node_reboot", "node_reboot"]
            if before.active
            else ["swap_in", "swap_in", "terminate", "modify_experiment"]
        )
        request = f"{command} {name} {wait}"
        after: Experiment | None = None
        if command == "swap_in":
            after = evolve(before, active=True, boots=dict.fromkeys(before.codes, 1))
        elif command == "swap_out":
            after = evolve(before, active=False, boots={})
        elif command == "modify_experiment":
            request = f"{command} {name} {commands(codes)} {wait}"
            boots = {}
            for node in codes if before.active else ():
                same = before.codes.get(node) == codes[node]
                boots[node] = 1 if node not in before.codes else before.boots[node] + (0 if same else 1)
            after = evolve(before, codes=codes, boots=boots)
        elif command == "node_reboot":
            node = self.random.choice(list(before.codes))
            request = f"{command} {name} {node} {wait}"
            after = evolve(before, boots=before.boots | {node: before.boots[node] + 1})
        self.ask(client, request, self.experiments, name, after)

    def compare(self, test: unittest.TestCase, client: Client) -> None:
        """
        See whether all is as it was acknowledged; settle what was open.
        """
        self.settle(client)
        there = {one["name"] for one in client.ask("users")}
        for name in self.users:
            test.assertIn(name in there, self.allowed(self.users, name), name)
            self.users[name] = name in there
        for name in self.experiments:
            found = self._settled(client, name)
            test.assertIn(found, self.allowed(self.experiments, name), f"{name}, {self.open}")
            self.experiments[name] = found
        self.open = None

    def _settled(self, client: Client, name: str) -> Experiment | None:
        found: Experiment | None = None

        def settled() -> bool:
            nonlocal found
            word, body = client.refusal(f"experiment {name}")
            if word == "error_reply":
                found = None
                return bool(body["code"] == "NO_SUCH_EXPERIMENT")
            nodes = body["nodes"].values()
            if body["state"] in _PASSING or any(one["start_command"] == "running" for one in nodes):
                return False
            active = body["state"] == "active"
            if active:
                found = Experiment(
                    active, {one["node"]: one["code"] for one in nodes}, {one["node"]: one["boots"] for one in nodes}
                )
                return all(one["boot"] == "booted" for one in nodes)
            text = client.ask(f"topology {name}")["text"]
            kept = {
                one["node"]: int(text.partition(f"<name>{one['node']}<")[2].split("exit ")[1].split("<")[0])
                for one in nodes
            }
            found = Experiment(active, kept, {})
            return bool(body["state"] == "swapped")

        until(settled, 30, lambda: client.refusal(f"experiment {name}"))
        return found


class Nodes(KilledTest):
    """
    With experiments.
    """

    def pids(self, name: str) -> dict[str, Any]:
        return {node: one["pid"] for node, one in self.host.ask(f"experiment {name}")["nodes"].items()}


class Killed(Nodes):
    """
    While people work.
    """

    def test_everyAcknowledgedChangeIsThereAfterwards(self) -> None:
        """
        Four people work at once while the daemon is killed again and again: whatever one of them was told is done is
        so, once; what nobody was told is either done or not; nodes go on with their pids.
        """
        seed = random.Random(SEED)
        ledgers = [People(number, random.Random(seed.random())) for number in range(4)]
        for ledger in ledgers:
            self.host.ask(f"add_project {ledger.project}")
        self.host.ask("add_project keep")
        self.host.ask(f"create_experiment keep/steady {topology({'x': None, 'y': 'sleep 1000 & exit 3'})} swap_in=True")
        steady = self.pids("keep/steady")
        restarts = []
        for _ in range(scaled(10, 100)):
            threads = [threading.Thread(target=ledger.work, args=(self.host.socket,)) for ledger in ledgers]
            for thread in threads:
                thread.start()
            time.sleep(seed.uniform(0.05, 0.7))
            self.kill()
            for thread in threads:
                thread.join(30)
            restarts.append(self.host.start())
            with self.host.client() as client:
                for ledger in ledgers:
                    self.assertIsNone(ledger.failure)
                    ledger.compare(self, client)
            self.assertEqual(self.pids("keep/steady"), steady)
        acknowledged = sum((ledger.acknowledged for ledger in ledgers), Counter())
        print(f"\nseed {SEED}: {dict(acknowledged)}; restarts {max(restarts):.2f} s at most")
        self.assertGreater(len(acknowledged), 5)
        with self.host.client() as client:
            for one in client.ask("experiments"):
                client.ask(f"terminate {one['name']}")
            self.assertEqual(client.ask("experiments"), [])
        self.assertNothingLeft()

    def test_whatEndedWhileTheDaemonWasDeadIsReported(self) -> None:
        """
        Start commands that end, and nodes that die, while there is no daemon: their statuses are told by the next.
        """
        self.host.ask("add_project lab")
        codes = {f"n{number}": number for number in (0, 1, 7, 125, 255)}
        nodes: dict[str, str | None] = {name: f"sleep 1.5; exit {code}" for name, code in codes.items()}
        nodes |= {"killed": None, "shot": "sleep 1.5; kill -9 $$", "orphaned": "sleep 1000 & sleep 1000"}
        self.host.ask(f"create_experiment lab/codes {topology(nodes)} swap_in=True")
        pids = self.pids("lab/codes")
        self.kill()
        for node in ("killed", "orphaned"):
            self.assertTrue(living(pids[node]))
            os.kill(pids[node], 9)
        time.sleep(2.5)
        self.host.start()
        expected = {name: ["booted", code] for name, code in codes.items()}
        expected |= {"killed": ["dead", 137], "shot": ["booted", 137], "orphaned": ["dead", 137]}
        self.assertEqual(self.host.ask("status_request lab/codes"), {"hv:process:pnode-0000": expected})
        self.assertEqual({name: self.pids("lab/codes")[name] for name in codes}, {name: pids[name] for name in codes})
        until(lambda: len(self.host.processes()) == 2 * (len(codes) + 1), 10, self.host.processes)
        self.host.ask("terminate lab/codes")
        self.assertNothingLeft()


class KilledAtBadMoments(Nodes):
    """
    Killed a few milliseconds into something, each time a little later.
    """

    nodes = 6

    def setUp(self) -> None:
        super().setUp()
        self.host.ask("add_project lab")
        self.text = topology({f"n{number}": None for number in range(self.nodes)})

    def moments(self) -> list[float]:
        count = scaled(6, 60)
        return [0.12 * step / count for step in range(count)]

    def again(self, half_way: float) -> None:
        """
        Start the daemon, kill that one as well while it still looks around, and start the next.
        """
        self.host.launch()
        time.sleep(0.15 + half_way)
        self.kill()
        self.host.start()

    def assertEachRunsOnce(self, name: str) -> None:
        self.host.ask(f"wait_for {name} active timeout=20", 30)
        wanted = {"hv:process:pnode-0000": {f"n{number}": ["booted", None] for number in range(self.nodes)}}
        until(lambda: self.host.ask(f"status_request {name}") == wanted, 10)
        until(lambda: len(self.host.processes()) == 2 * self.nodes, 5, self.host.processes)

    def test_swapInThenKill(self) -> None:
        """
        However early or late in a swap-in the daemon dies, the next one finishes it, and no node runs twice.
        """
        for moment in self.moments():
            with self.subTest(moment=moment):
                with self.host.client() as client:
                    client.ask(f"create_experiment lab/e {self.text}")
                    client.send("swap_in lab/e wait=0\n")
                    self.assertIn(client.reply()[0], ("operation_reply", "swap_in_reply"))
                time.sleep(moment)
                self.kill()
                self.again(moment)
                self.assertEachRunsOnce("lab/e")
                self.host.ask("terminate lab/e")
        self.assertNothingLeft()

    def test_terminateThenKill(self) -> None:
        """
        However early or late in a terminate the daemon dies, the next one finishes it, and nothing is left over.
        """
        for moment in self.moments():
            with self.subTest(moment=moment):
                self.host.ask(f"create_experiment lab/e {self.text} swap_in=True")
                with self.host.client() as client:
                    self.assertIn(client.refusal("terminate lab/e wait=0")[0], ("operation_reply", "terminate_reply"))
                time.sleep(moment)
                self.kill()
                self.again(moment)
                until(lambda: self.host.ask("experiments") == [], 20, lambda: self.host.ask("experiments"))
                until(lambda: not self.host.left_over(), 10, self.host.left_over)
        self.assertNothingLeft()

    def test_rebootThenKill(self) -> None:
        """
        However early or late in a reboot the daemon dies, every node is rebooted once.
        """
        names = " ".join(f"n{number}" for number in range(self.nodes))
        self.host.ask(f"create_experiment lab/e {self.text} swap_in=True")
        boots = 1
        for moment in self.moments():
            with self.subTest(moment=moment):
                with self.host.client() as client:
                    self.assertIn(
                        client.refusal(f"node_reboot lab/e {names} wait=0")[0], ("operation_reply", "node_reboot_reply")
                    )
                boots += 1
                time.sleep(moment)
                self.kill()
                self.again(moment)
                until(lambda: not [one for one in self.host.ask("operations") if one["ended"] is None], 20)
                self.assertEachRunsOnce("lab/e")
                found = self.host.ask("experiment lab/e")["nodes"].values()
                self.assertEqual({one["boots"] for one in found}, {boots})
        self.host.ask("terminate lab/e")
        self.assertNothingLeft()

    def test_conflictingWishesAtOnce(self) -> None:
        """
        Several people swap in, swap out and reboot the same experiment in the same instant: every operation ends.
        """
        self.host.ask(f"create_experiment lab/e {self.text}")
        clients = [self.host.client(60) for _ in range(6)]
        for client in clients:
            self.addCleanup(client.close)
        rng = random.Random(SEED)
        for _ in range(scaled(12, 200)):
            for client in clients:
                wish = rng.choice(["swap_in lab/e", "swap_out lab/e", "swap_in lab/e", "node_reboot lab/e n0 n1"])
                client.send(f"{wish} wait={rng.choice([0, 0.05])}\n")
            for client in clients:
                word, body = client.reply()
                if word == "error_reply":
                    self.assertIn(body["code"], ("CANCELLED", "WRONG_STATE", "OPERATION_FAILED", "NO_SUCH_NODE"), body)
                    if body["code"] == "OPERATION_FAILED":
                        self.assertNotIn("could not be started", str(body["causes"]))
        self.host.ask("swap_in lab/e wait=30", 40)
        self.assertEachRunsOnce("lab/e")
        self.host.ask("terminate lab/e wait=30", 40)
        self.assertNothingLeft()
