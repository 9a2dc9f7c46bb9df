"""
Nodes of every kind, from what a plan says of them to what their drivers are told, as their experiment's members see it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import NoRoom, TooMany, WrongState
from hostline.server.drivers.driver import Interface, Workload
from hostline.server.drivers.fake import FakeDriver
from hostline.server.experiments.planned import read_plan
from hostline.server.experiments.rooms import check_room
from hostline.server.experiments.topology import Topology, TopologyInterface, TopologyNode
from hostline.server.records import Experiment, Image, Operation, Plan, Sliver
from hostline.server.slivers.rspec import DEFAULTS, OF_PROCESSES
from hostline.server.workloads import once
from tests.daemons import make, topdl

MEMORY = 1 << 30


def node(name: str, *links: str, number: int = 2, **more: Any) -> TopologyNode:
    """
    A node, addressed, on some links.
    """
    interfaces = [
        TopologyInterface(
            f"inf{at:03}", link, f"10.1.{ord(link[-1])}.{number}", "255.255.255.0", f"02:00:00:00:00:{at:02}"
        )
        for at, link in enumerate(links)
    ]
    return TopologyNode(name=name, interfaces=tuple(interfaces), **more)


class NodesCase(SynchronousTestCase):
    """
    A daemon for processes and containers, on which boots and stops take a second, and the experiment lab/x.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()
        self.containers = FakeDriver(
            self.daemon.clock, host=self.daemon.fake_host, kind="container", boot_after=1.0, stop_after=1.0
        )
        self.containers.changed = self.daemon.daemon.sync.news
        cast("dict[str, Any]", self.daemon.daemon.sync.drivers)["container"] = self.containers
        self.daemon.daemon.lifecycle._rooms = None
        self.ann.body(f"create_experiment lab/x {topdl({'first': None})}")

    @property
    def experiment(self) -> Experiment:
        (found,) = self.daemon.host.table(Experiment).values()
        return found

    def plan(self, *nodes: TopologyNode, routes: Any = None, **settled: Mapping[str, Any]) -> Plan:
        """
        A plan of these nodes, made as is said of each, in part.
        """
        process = {"kind": "process", "image": None, "pnode": "pnode-0000", "rspec": dict(OF_PROCESSES)}
        return Plan(
            serial=self.experiment.serial,
            topology=Topology(nodes=nodes).as_value(),
            settled={one.name: {**process, **settled.get(one.name, {})} for one in nodes},
            routes=routes or {},
        )

    def change(self, plan: Plan, seconds: float = 20.0) -> tuple[Operation | None, dict[str, list[str]]]:
        """
        Modify the experiment, and wait.
        """
        change = self.daemon.daemon._news()
        operation, said = self.daemon.daemon.lifecycle.modify(change, self.experiment, plan, "uid:5001")
        self.daemon.daemon.commit(change)
        self.daemon.advance(seconds)
        self.daemon.check()
        return operation, said

    def up(self, *nodes: TopologyNode, **settled: Mapping[str, Any]) -> None:
        """
        Have these, swapped in.
        """
        self.change(self.plan(*nodes, **settled))
        self.do("swap_in lab/x")

    def do(self, line: str) -> Any:
        self.ann.send(line + "\n")
        self.daemon.advance(20)
        (reply,) = self.ann.replies()
        self.assertNotEqual(reply.word, "error_reply", reply)
        return reply.body

    def status(self) -> Any:
        return self.ann.body("status_request lab/x")

    def sliver(self, name: str) -> Sliver:
        return self.daemon.host.slivers_by_serial[self.experiment.slivers[name]]

    def told(self, name: str) -> Workload:
        return self.daemon.daemon.sync._workloads.of(self.sliver(name))

    def image(self, name: str = "deb", **more: Any) -> int:
        change = self.daemon.daemon._news()
        record = Image(serial=change.serial(), name=name, sha256="0" * 64, created=1.0, **more)
        change.put(record)
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        return record.serial


class WhatDriversAreToldTests(NodesCase):
    """
    Records become workloads.
    """

    def test_interfacesAndRoutes(self) -> None:
        """
        A node's driver is told its interfaces with their links, its routes, and that it passes packets on if it is on
        several links.
        """
        plan = self.plan(
            node("a", "l0"), node("b", "l0", "l1", number=3), routes={"a": [["10.1.49.0/24", "10.1.48.3"]]}
        )
        self.change(plan)
        self.do("swap_in lab/x")
        serial = self.experiment.serial
        a, b = self.told("a"), self.told("b")
        self.assertEqual(a.interfaces, (Interface("inf000", f"{serial}/l0", "02:00:00:00:00:00", "10.1.48.2/24"),))
        self.assertEqual((a.routes, a.forwards), ((("10.1.49.0/24", "10.1.48.3"),), False))
        self.assertEqual([one.link for one in b.interfaces], [f"{serial}/l0", f"{serial}/l1"])
        self.assertTrue(b.forwards)
        for name in ("a", "b", "b.x.lab", "b-l1"):
            self.assertRegex(a.hosts, rf"(?m)[\t ]{name}( |$)")

    def test_keysOfMembers(self) -> None:
        """
        Who is a member of the project may log in to its nodes; who is none any more may not, and is not let in by an
        operator's own keys either.
        """
        self.up(node("a"))
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ann"
        operator = self.daemon.connect()
        operator.body(f"add_user cyd uid=5003 keys=['{key}']")
        self.assertEqual(self.told("a").keys, ())
        operator.body("add_member lab cyd")
        self.daemon.settle()
        self.assertEqual(self.daemon.driver.configured[self.sliver("a").serial].keys, (key,))
        operator.body("remove_member lab cyd")
        self.daemon.settle()
        self.assertEqual(self.daemon.driver.configured[self.sliver("a").serial].keys, ())

    def test_imageSaysWhatToRun(self) -> None:
        """
        A node that has no start command runs what its image does, in the image's environment; one that has, its own.
        """
        image = self.image(command=("serve", "a b"), environment={"PORT": "80"})
        settled = {"kind": "container", "image": image, "rspec": dict(DEFAULTS)}
        self.up(node("a"), node("b", start_command="exit 3"), a=settled, b=settled)
        self.assertEqual((self.told("a").start_command, self.told("a").image), ("cd / && exec serve 'a b'", image))
        self.assertEqual((self.told("b").start_command, self.told("b").environment), ("exit 3", {"PORT": "80"}))

    def test_onceKeepsTheFirstCode(self) -> None:
        """
        A start command that is to run once is run by a real shell once, and each later boot ends as it did; one that
        was interrupted is run again.
        """
        with tempfile.TemporaryDirectory() as place:
            env = {"HOSTLINE_LOG": place, "PATH": "/usr/bin:/bin"}
            command = once(f"echo ran >>{place}/runs; [ -e {place}/calm ] || kill -9 $PPID; exit 7 # ' )\"")

            def run() -> int:
                return subprocess.run(["/bin/sh", "-c", command], env=env, check=False, timeout=20).returncode

            self.assertEqual(run(), -9)
            Path(place, "calm").touch()
            self.assertEqual([run(), run(), run()], [7, 7, 7])
            self.assertEqual(Path(place, "runs").read_text(), "ran\nran\n")

    def test_readsALargePlanOnce(self) -> None:
        """
        Of ten thousand nodes the plan is read once, not for each.
        """
        self.change(self.plan(*(node(f"n{at}") for at in range(50))))
        planned = self.daemon.daemon.planned
        self.assertIs(planned.nodes(self.experiment.serial), planned.nodes(self.experiment.serial))
        self.do("swap_in lab/x")
        self.assertIs(self.told("n1").hosts, self.told("n2").hosts)

    def test_environment(self) -> None:
        """
        What a topology says of the environment reaches every start command, and counts more than what the image says.
        """
        image = self.image(environment={"LANG": "C", "SIZE": "1"})
        plan = self.plan(node("a"), node("b"), b={"kind": "container", "image": image})
        plan.topology["environment"] = {"SIZE": "5"}
        self.change(plan)
        self.do("swap_in lab/x")
        self.assertEqual(self.told("a").environment, {"SIZE": "5"})
        self.assertEqual(self.told("b").environment, {"LANG": "C", "SIZE": "5"})


class GhostTests(NodesCase):
    """
    Nodes that are placed and not started.
    """

    def setUp(self) -> None:
        super().setUp()
        self.up(node("a", start_command="exit 1"), node("g", attributes={"containers:ghost": "true"}))

    def test_isListedAndNotStarted(self) -> None:
        """
        Its experiment is active and started without it; it has its place, and nothing runs.
        """
        self.assertEqual(self.status(), {"hv:process:pnode-0000": {"a": ["booted", 1], "g": [None, None]}})
        self.assertEqual(self.do("wait_for lab/x started timeout=1")["state"], "active")
        self.assertNotIn(self.sliver("g").serial, self.daemon.fake_host.statuses)

    def test_isBootedByStartNode(self) -> None:
        """
        C{start_node} boots it for the first time; a crash of the daemon does not.
        """
        self.daemon.crash()
        self.daemon.advance(10)
        self.ann = self.daemon.connect(5001)
        self.assertEqual(self.status()["hv:process:pnode-0000"]["g"], [None, None])
        (shown,) = self.do("start_node lab/x g")
        self.assertEqual((shown["boot"], shown["boots"]), ("booted", 1))
        self.do("swap_out lab/x")
        self.assertEqual(self.daemon.fake_host.statuses, {})

    def test_becomesANodeLikeOthers(self) -> None:
        """
        Modified to be no ghost any more it is started.
        """
        self.change(self.plan(node("a", start_command="exit 1"), node("g")))
        self.assertEqual(self.status()["hv:process:pnode-0000"], {"a": ["booted", 1], "g": ["booted", None]})

    def test_staysOneWhenItsExperimentIsRepaired(self) -> None:
        """
        Swapped in again after a failure, what failed is started, the ghost is not.
        """
        self.do("swap_out lab/x")
        self.daemon.driver.errors["ensure_started"] = [OSError("no memory")]
        self.ann.send("swap_in lab/x\n")
        self.daemon.advance(20)
        self.assertEqual(self.ann.lines(), ["FAILED"])
        self.do("swap_in lab/x")
        self.assertEqual(self.status()["hv:process:pnode-0000"], {"a": ["booted", 1], "g": [None, None]})


class FailureActionTests(NodesCase):
    """
    What becomes of an experiment of which a node cannot be started.
    """

    def swap_in(self, **actions: str) -> Any:
        """
        Each node is refused by its driver, but C{fine}.
        """
        self.change(self.plan(node("fine"), *(node(name, failure_action=one) for name, one in actions.items())))
        first = self.daemon.host._next_serial
        self.daemon.driver.refusals = {first + at: "no memory" for at in range(1, len(actions) + 1)}
        self.ann.send("swap_in lab/x\n")
        self.daemon.advance(20)
        self.daemon.check()
        (reply,) = self.ann.replies()
        return reply.body

    def test_nonfatalIsToldAndGoneWithout(self) -> None:
        """
        The experiment becomes active without the node, and says so: in its reason, in the event, in the operation.
        """
        body = self.swap_in(weak="nonfatal")
        self.assertEqual((body["state"], body["reason"]), ("active", "weak could not be started"))
        (operation,) = [one for one in self.ann.body("operations") if one["command"] == "swap_in"]
        self.assertEqual(operation["state"], "done")
        self.assertIn("weak: could not be started: no memory", operation["causes"])
        events = self.ann.body("events topic=experiment/lab/x")
        (active,) = [one for one in events if one["what"] == "active"]
        self.assertEqual(active["reason"], "weak could not be started")
        self.assertEqual(self.do("wait_for lab/x started timeout=1")["state"], "active")

    def test_ignoredIsNot(self) -> None:
        """
        Only the node itself says that it is dead.
        """
        body = self.swap_in(weak="ignore")
        self.assertEqual((body["state"], body["reason"]), ("active", ""))
        self.assertEqual(self.status()["hv:process:pnode-0000"]["weak"], ["dead", 125])

    def test_fatalFails(self) -> None:
        """
        One fatal node is enough, whatever the others are.
        """
        self.assertEqual(self.swap_in(weak="nonfatal", vital="fatal", odd="ignore")["code"], "FAILED")
        body = self.ann.body("experiment lab/x")
        self.assertEqual((body["state"], body["reason"]), ("failed", "vital could not be started"))

    def test_countsForWhoNamesTheNode(self) -> None:
        """
        A reboot of a node that its experiment can do without fails all the same if it cannot be started.
        """
        self.swap_in(weak="nonfatal")
        self.ann.send("start_node lab/x weak\n")
        self.daemon.advance(20)
        self.assertEqual(self.ann.lines(), ["FAILED"])


class ModifyTests(NodesCase):
    """
    What stays goes on.
    """

    def setUp(self) -> None:
        super().setUp()
        self.old = (node("a", "l0"), node("b", "l0", number=3))
        self.up(*self.old)
        self.pids = self.seen()

    def seen(self) -> dict[str, Any]:
        nodes = self.ann.body("experiment lab/x")["nodes"]
        return {name: (one["pid"], one["boots"]) for name, one in nodes.items()}

    def test_newLinksComeToRunningNodes(self) -> None:
        """
        A node that is given another interface is told so while it runs, and the operation ends only then.
        """
        operation, said = self.change(self.plan(node("a", "l0", "l1"), self.old[1]), seconds=0)
        self.assertEqual((said["changed"], said["kept"]), (["a"], ["b"]))
        assert operation is not None
        self.daemon.advance(5)
        self.assertEqual(self.daemon.host.table(Operation)[str(operation.serial)].state, "done")
        told = self.daemon.driver.configured[self.sliver("a").serial]
        self.assertEqual(len(told.interfaces), 2)
        self.assertIn("a-l1", self.daemon.driver.configured[self.sliver("b").serial].hosts)
        self.assertEqual(self.seen(), self.pids)

    def test_waitsUntilTheLinksAreSo(self) -> None:
        """
        While a driver cannot change a node's links the experiment is being modified, and it becomes active once it can.
        """
        self.daemon.driver.errors["ensure_configured"] = [OSError("busy")]
        self.change(self.plan(node("a", "l0", "l1"), self.old[1]), seconds=5)
        self.assertEqual(self.ann.body("experiment lab/x")["state"], "modifying")
        self.daemon.advance(10)
        self.assertEqual(self.ann.body("experiment lab/x")["state"], "active")

    def test_addedAndRemoved(self) -> None:
        """
        A node that comes and one that goes leave the others as they are, but for their names.
        """
        _, said = self.change(self.plan(self.old[0], node("c", "l0", number=4)))
        self.assertEqual((said["added"], said["removed"], said["kept"]), (["c"], ["b"], ["a"]))
        self.assertEqual(self.seen()["a"], self.pids["a"])
        self.assertIn("c.x.lab", self.daemon.driver.configured[self.sliver("a").serial].hosts)
        self.assertEqual(len(self.daemon.fake_host.statuses), 2)

    def test_anotherKindIsMadeAnew(self) -> None:
        """
        A node that is to be a container is one, under the other hypervisor, and nothing is left of the process.
        """
        image = self.image()
        old = self.sliver("a").serial
        made = {"kind": "container", "image": image, "rspec": dict(DEFAULTS)}
        self.change(self.plan(*self.old, a=made))
        self.assertEqual(
            self.status(),
            {"hv:container:pnode-0000": {"a": ["booted", None]}, "hv:process:pnode-0000": {"b": ["booted", None]}},
        )
        self.assertNotIn(old, self.daemon.fake_host.statuses)
        self.assertNotIn(old, self.daemon.host.slivers_by_serial)
        self.assertEqual(self.seen()["b"], self.pids["b"])

    def test_goesBackToTheFormerKindWhenCancelled(self) -> None:
        """
        Cancelled at any moment while a process becomes a container, it is the process again, there once, and nothing
        of the container is left.
        """
        image = self.image()
        made = {"kind": "container", "image": image, "rspec": dict(DEFAULTS)}
        for seconds in (0.0, 0.5, 0.9):
            operation, _ = self.change(self.plan(*self.old, a=made), seconds=seconds)
            assert operation is not None
            self.daemon.connect().body(f"cancel {operation.serial}")
            self.daemon.advance(20)
            self.daemon.check()
            self.assertEqual(self.status(), {"hv:process:pnode-0000": {"a": ["booted", None], "b": ["booted", None]}})
            self.assertEqual(self.ann.body("experiment lab/x")["state"], "active")
            self.assertEqual(len(self.daemon.fake_host.statuses), 2)
            self.assertEqual(set(self.daemon.host.slivers_by_serial), set(self.experiment.slivers.values()))
            self.assertEqual(self.seen()["b"], self.pids["b"])

    def test_anotherImageIsMadeAnew(self) -> None:
        """
        A container of another image is destroyed and made again; cancelled half-way it is made again of the first.
        """
        first, second = self.image(), self.image("other")
        made = {"kind": "container", "rspec": dict(DEFAULTS)}
        self.change(self.plan(*self.old, a={**made, "image": first}))
        serial = self.sliver("a").serial
        self.change(self.plan(*self.old, a={**made, "image": second}))
        self.assertEqual(
            (self.sliver("a").serial, self.sliver("a").builds, self.sliver("a").image), (serial, 2, second)
        )
        self.assertEqual(self.daemon.fake_host.statuses[serial].builds, 2)
        operation, _ = self.change(self.plan(*self.old, a={**made, "image": first}), seconds=0)
        assert operation is not None
        self.daemon.connect().body(f"cancel {operation.serial}")
        self.daemon.advance(20)
        self.assertEqual(self.ann.body("experiment lab/x")["state"], "active")
        self.assertEqual(
            (self.sliver("a").image, self.status()["hv:container:pnode-0000"]["a"]), (second, ["booted", None])
        )

    def test_firstInterfaceOfAProcessRestartsIt(self) -> None:
        """
        A process that was on no link runs in the host's network; to be on one it is begun anew.
        """
        self.change(self.plan(node("a"), node("b")))
        self.change(self.plan(node("a", "l0"), node("b")))
        seen = self.seen()
        self.assertEqual(seen["a"][1], seen["b"][1] + 1)

    def test_limitsChangeWhileItRuns(self) -> None:
        """
        Another limit is put in force without a restart.
        """
        self.change(self.plan(*self.old, a={"rspec": {**OF_PROCESSES, "pids_max": 99}}))
        self.assertEqual(self.daemon.fake_host.in_force[self.sliver("a").serial]["pids_max"], 99)
        self.assertEqual(self.seen(), self.pids)

    def test_goesToAnotherPlace(self) -> None:
        """
        Packed otherwise, a node is shown where it is, and no longer where it was.
        """
        self.change(self.plan(*self.old, a={"pnode": "pnode-0001"}))
        self.assertEqual(
            {hv: list(nodes) for hv, nodes in self.status().items()},
            {
                "hv:process:pnode-0000": ["b"],
                "hv:process:pnode-0001": ["a"],
            },
        )


class RoomTests(NodesCase):
    """
    What the host and the project can give.
    """

    def refusal(self, kind: type[Exception], *nodes: TopologyNode, **settled: Mapping[str, Any]) -> str:
        self.change(self.plan(*nodes, **settled))
        change = self.daemon.daemon._news()
        error = self.assertRaises(kind, self.daemon.daemon.lifecycle.swap_in, change, self.experiment, "uid:5001")
        change.undo()
        return str(error)

    def limit(self) -> None:
        daemon = self.daemon.daemon
        daemon.lifecycle._rooms = lambda nodes, gone: check_room(
            self.daemon.host, daemon.planned, 2, MEMORY, nodes, gone
        )

    def test_namesTheNodeAndTheResource(self) -> None:
        """
        What does not fit is refused before anything is made, and says what is left.
        """
        self.limit()
        image = self.image()
        half = {"kind": "qemu", "image": image, "rspec": {**DEFAULTS, "memory_max": MEMORY // 2 + 1}}
        said = self.refusal(NoRoom, node("a"), node("b"), a=half, b=half)
        self.assertIn(f"b: memory_max {MEMORY // 2 + 1} wanted, {MEMORY // 2 - 1} left", said)
        most = {"rspec": {**OF_PROCESSES, "cpu_min": 1000}}
        said = self.refusal(NoRoom, node("a"), node("b"), a=most, b=most)
        self.assertIn("b: cpu_min 1000 wanted, 800 left", said)

    def test_boundsAreNotKept(self) -> None:
        """
        Any number of processes may have the same memory as a bound; what is asked for by name is kept.
        """
        self.limit()
        self.up(*(node(f"n{at}") for at in range(9)))
        self.assertEqual(len(self.daemon.fake_host.statuses), 9)
        asked = node("big", attributes={"hostline:memory_max": "600M"})
        plan = self.plan(
            asked,
            evolve(asked, name="bag"),
            big={"rspec": {"memory_max": 600 << 20}},
            bag={"rspec": {"memory_max": 600 << 20}},
        )
        self.assertEqual(len(read_plan(plan)), 2)
        self.assertRaises(
            NoRoom, self.daemon.daemon.lifecycle.modify, self.daemon.daemon._news(), self.experiment, plan, "uid:5001"
        )

    def test_aHostToItself(self) -> None:
        """
        Where that is allowed, an exclusive node is swapped in beside no other experiment, and no other beside it; that
        of one's own project is another, too.
        """
        lifecycle = self.daemon.daemon.lifecycle
        self.ann.body(f"create_experiment lab/y {topdl({'other': None})}")
        self.do("swap_in lab/y")
        (experiment,) = [one for one in self.daemon.host.table(Experiment).values() if one.name == "lab/x"]
        change = self.daemon.daemon._news()
        alone = node("a", attributes={"hostline:exclusive": "1"})
        change.put(self.plan_for(experiment, alone))
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        lifecycle._alone = lambda: True
        reply = self.refused("swap_in lab/x")
        self.assertIn(
            "a: wants the host to itself (hostline:exclusive), but one other experiment has nodes on it", reply
        )
        self.do("swap_out lab/y")
        self.do("swap_in lab/x")
        self.assertIn("another experiment has this host to itself", self.refused("swap_in lab/y"))
        lifecycle._alone = lambda: False
        self.assertEqual(self.do("swap_in lab/y")["state"], "active")

    def refused(self, line: str) -> str:
        """
        The message of the refusal.
        """
        reply = self.ann.ask(line)
        self.assertEqual((reply.word, reply.body["code"]), ("error_reply", "NO_ROOM"))
        return str(reply.body["message"])

    def plan_for(self, experiment: Experiment, *nodes: TopologyNode) -> Plan:
        """
        A plan of processes.
        """
        process = {"kind": "process", "image": None, "pnode": "pnode-0000", "rspec": dict(OF_PROCESSES)}
        topology = Topology(nodes=nodes).as_value()
        return Plan(serial=experiment.serial, topology=topology, settled={one.name: process for one in nodes})

    def test_isCheckedAgainstTheQuota(self) -> None:
        """
        What nodes really are given counts, not what processes usually are.
        """
        operator = self.daemon.connect()
        operator.body("add_project small quota={'pids_max': 600}")
        operator.body(f"create_experiment small/y {topdl({'first': None})}")
        experiment = next(one for one in self.daemon.host.table(Experiment).values() if one.name == "small/y")
        few = {"kind": "process", "image": None, "pnode": "pnode-0000", "rspec": {"pids_max": 300}}
        daemon = self.daemon.daemon

        def plan(count: int) -> Plan:
            names = [f"n{at}" for at in range(count)]
            topology = Topology(nodes=[node(name) for name in names])
            return Plan(serial=experiment.serial, topology=topology.as_value(), settled=dict.fromkeys(names, few))

        change = daemon._news()
        change.put(plan(3))
        error = self.assertRaises(TooMany, daemon.lifecycle.swap_in, change, experiment, "uid:0")
        self.assertIn("0 in use, 900 wanted for 3 more nodes", str(error))
        change.put(plan(2))
        self.assertIsNotNone(daemon.lifecycle.swap_in(change, experiment, "uid:0"))
        change.undo()

    def test_wantsTheImage(self) -> None:
        """
        An experiment whose image was removed since it was made is refused, naming the node.
        """
        made = {"kind": "container", "image": 4242, "rspec": dict(DEFAULTS)}
        self.assertIn("image of node a of lab/x was removed", self.refusal(WrongState, node("a"), a=made))
