"""
Answers about experiments.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.records import Experiment, Plan
from tests.daemons import make, topdl

TWO = topdl({"web": "sleep 3; exit 7", "db": None})
LINKED = repr(
    "<experiment><version>1.0</version><substrates><name>lan0</name></substrates>"
    "<elements><computer><name>a</name><interface><substrate>lan0</substrate><name>eth0</name></interface></computer>"
    "</elements><elements><computer><name>b</name><interface><substrate>lan0</substrate><name>eth0</name></interface>"
    "</computer></elements></experiment>"
)
QEMU = "<attribute><attribute>containers:node_type</attribute><value>qemu</value></attribute>"


class AskingCase(SynchronousTestCase):
    """
    A daemon on which boots take a second, and lab/exp1 with two nodes, swapped out.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/exp1 {TWO}")

    def waits(self, line: str, seconds: float) -> Any:
        """
        Nothing comes for so long, and then the reply.
        """
        self.ann.raw()
        self.ann.send(f"@w {line}\n")
        self.daemon.advance(seconds - 0.01)
        self.assertEqual(self.ann.raw(), [])
        self.daemon.advance(0.02)
        (reply,) = self.ann.replies()
        return reply.body


class StatusTests(AskingCase):
    """
    status_request, as scripts poll it.
    """

    def test_isOneLiteral(self) -> None:
        """
        The reply is the word, a blank, and the dict of dicts of two, in the order of the nodes.
        """
        self.ann.send("status_request lab/exp1\n")
        self.assertEqual(self.ann.raw(), [b"status_reply {}"])
        self.ann.body("swap_in lab/exp1 wait=0")
        seen = []
        for _ in range(6):
            self.ann.send("status_request lab/exp1\n")
            seen += self.ann.raw()
            self.daemon.advance(1)
        first = b"status_reply {'hv:process:pnode-0000': {'web': ['running', None], 'db': ['running', None]}}"
        self.assertEqual(seen[0], first)
        self.assertEqual(seen[2], first.replace(b"running", b"booted"))
        self.assertEqual(seen[5], first.replace(b"running", b"booted").replace(b"None", b"7", 1))

    def test_isUnknownBeforeItIsStarted(self) -> None:
        """
        A placed node that has not been started yet is listed, both items None.
        """
        self.daemon.driver.errors["recover"] = []
        self.daemon.daemon.sync._rota.at_once = 1
        self.ann.send("swap_in lab/exp1 wait=0\n", settle=False)
        self.daemon.store.commit()
        self.ann.send("status_request lab/exp1\n", settle=False)
        nodes = self.ann.replies()[-1].body["hv:process:pnode-0000"]
        self.assertEqual(set(nodes), {"web", "db"})

    def test_isAnErrorForAnUnknownOne(self) -> None:
        """
        An experiment that does not exist is an error in one line, and the connection lives on.
        """
        self.assertEqual(self.ann.code("status_request lab/none"), "NO_SUCH_EXPERIMENT")
        self.assertEqual(self.ann.code("status_request lab"), "BAD_VALUE")
        self.assertEqual(self.ann.code("status_request"), "BAD_ARGUMENTS")
        self.assertEqual(self.ann.code("status_request lab/exp1"), "status_reply")


class WaitForTests(AskingCase):
    """
    wait_for.
    """

    def test_waitsUntilItIsActive(self) -> None:
        """
        It answers when the state is reached, at once if it is.
        """
        self.ann.body("swap_in lab/exp1 wait=0")
        self.assertEqual(self.waits("wait_for lab/exp1 active", 1)["state"], "active")
        self.assertEqual(self.ann.body("wait_for lab/exp1 active")["state"], "active")

    def test_waitsUntilAllIsStarted(self) -> None:
        """
        C{started}: every start command has ended; a node without one counts as soon as it is up.
        """
        self.ann.body("swap_in lab/exp1 wait=0")
        body = self.waits("wait_for lab/exp1 started", 4)
        self.assertEqual((body["nodes"]["web"]["start_code"], body["nodes"]["db"]["start_code"]), (7, None))

    def test_countsDeadNodesAsStarted(self) -> None:
        """
        A node that died will run no start command to its end: it is not waited for.
        """
        self.ann.body("swap_in lab/exp1 wait=0")
        self.daemon.advance(2)
        web = next(one for one in self.daemon.host.slivers_by_serial.values() if one.name.startswith("web"))
        self.daemon.driver.end(web.serial, 137)
        self.assertEqual(self.ann.body("wait_for lab/exp1 started timeout=0")["state"], "active")

    def test_timesOut(self) -> None:
        """
        Past timeout= the error says what it is instead, and not at once if the clock is set meanwhile.
        """
        now = self.daemon.now
        self.patch(self.daemon.daemon, "now", lambda: now() + 10**9)
        body = self.waits("wait_for lab/exp1 active timeout=5", 5)
        self.assertEqual(body["code"], "TIMEOUT")
        self.assertIn("lab/exp1 is swapped, not active", body["message"])
        self.assertEqual(self.daemon.host.feed._listeners, set())
        self.assertEqual(self.ann.code("wait_for lab/exp1 active timeout=0"), "TIMEOUT")

    def test_isToldOfFailure(self) -> None:
        """
        Waiting for active or started ends when it fails; waiting for failed is answered then.
        """
        serial = self.daemon.host._next_serial
        self.daemon.driver.refusals = {serial: "no memory"}
        self.ann.send("swap_in lab/exp1 wait=0\n@1 wait_for lab/exp1 active\n@2 wait_for lab/exp1 started\n")
        self.ann.send("@3 wait_for lab/exp1 failed\n")
        self.daemon.advance(2)
        bodies = {reply.tag: reply.body for reply in self.ann.replies() if reply.tag}
        for tag in ("1", "2"):
            self.assertEqual(bodies[tag]["code"], "FAILED")
            self.assertIn("could not be started", bodies[tag]["message"])
        self.assertEqual(bodies["3"]["state"], "failed")

    def test_isToldOfItsEnd(self) -> None:
        """
        Who waits for an experiment that is terminated, even if it is made again, waits no longer.
        """
        self.ann.send("@1 wait_for lab/exp1 active\n")
        self.ann.send("@2 terminate lab/exp1\n")
        self.ann.send(f"@3 create_experiment lab/exp1 {TWO} swap_in=True\n")
        self.daemon.advance(5)
        first = self.ann.replies()[0]
        self.assertEqual((first.tag, first.body["code"]), ("1", "FAILED"))
        self.assertIn("was terminated", first.body["message"])

    def test_oneOfSeveral(self) -> None:
        """
        The first of several states that comes will do, one on the way to another, too.
        """
        self.ann.send("swap_in lab/exp1 wait=0\n@1 wait_for lab/exp1 activating\n")
        self.assertEqual([one.body["state"] for one in self.ann.replies() if one.tag == "1"], ["activating"])
        self.assertEqual(self.waits("wait_for lab/exp1 failed,active", 1)["state"], "active")
        self.ann.send("@2 wait_for lab/exp1 swapping,swapped\nswap_out lab/exp1 wait=0\n")
        self.assertEqual([one.body["state"] for one in self.ann.replies() if one.tag == "2"], ["swapping"])

    def test_untilItIsGone(self) -> None:
        """
        Who waits for its end is told what it was.
        """
        self.ann.body("swap_in lab/exp1 wait=0")
        self.daemon.advance(2)
        self.ann.send("@1 wait_for lab/exp1 failed,terminated\nterminate lab/exp1 wait=0\n")
        self.daemon.advance(1)
        (body,) = (one.body for one in self.ann.replies() if one.tag == "1")
        self.assertEqual((body["state"], sorted(body["nodes"])), ("terminating", ["db", "web"]))
        self.assertEqual(self.ann.code("wait_for lab/exp1 terminated"), "NO_SUCH_EXPERIMENT")

    def test_endsWithTheRight(self) -> None:
        """
        Who loses the right to see it while waiting is answered as if it were not there.
        """
        self.ann.send("wait_for lab/exp1 active\n")
        operator = self.daemon.connect()
        operator.body("remove_member lab ann")
        operator.body("swap_in lab/exp1 wait=0")
        self.daemon.advance(3)
        self.assertEqual(self.ann.lines(), ["NO_SUCH_EXPERIMENT"])


class ListingTests(AskingCase):
    """
    node_list, extra_nodes and what they show.
    """

    def test_listsHostsAndNodes(self) -> None:
        """
        Placed, the host is listed and the nodes inside it; without extra the host alone; not placed, the nodes alone.
        """
        names = [(one["name"], one["extra"], one["host"]) for one in self.ann.body("node_list lab/exp1 extra=True")]
        self.assertEqual(names, [("db.exp1.lab", True, None), ("web.exp1.lab", True, None)])
        self.assertEqual(self.ann.body("extra_nodes lab exp1"), [])
        self.ann.body("swap_in lab/exp1 wait=0")
        names = [(one["name"], one["extra"], one["host"]) for one in self.ann.body("node_list extra=True")]
        self.assertEqual(
            names,
            [
                ("pnode-0000.exp1.lab", False, "tester"),
                ("db.exp1.lab", True, "tester"),
                ("web.exp1.lab", True, "tester"),
            ],
        )
        self.assertEqual([one["name"] for one in self.ann.body("node_list")], ["pnode-0000.exp1.lab"])
        self.assertEqual(self.ann.body("extra_nodes lab exp1"), ["db.exp1.lab", "web.exp1.lab"])

    def test_showsLinksAndAddresses(self) -> None:
        """
        Links have their members, interfaces their addresses and MACs; a plan and the experiment agree on addresses.
        """
        plan = self.ann.body(f"plan_experiment lab/net {LINKED}")
        body = self.ann.body(f"create_experiment lab/net {LINKED}")
        (link,) = body["links"].values()
        self.assertEqual((link["kind"], link["members"]), ("link", ["a", "b"]))
        ips = [node["interfaces"][0]["ip4"] for node in body["nodes"].values()]
        self.assertEqual(ips, [node["interfaces"][0]["ip4"] for node in plan["nodes"]])
        self.assertEqual(len({node["interfaces"][0]["mac"] for node in body["nodes"].values()}), 2)
        self.assertEqual(plan["placement"], {"a": "hv:process:pnode-0000", "b": "hv:process:pnode-0000"})

    def test_refusesAKindThatIsNotHere(self) -> None:
        """
        A node of a kind that this host does not run is an error with its line, when planned and when made.
        """
        text = LINKED.replace(
            "</interface></computer></elements></exp", f"</interface>{QEMU}</computer></elements></exp"
        )
        self.assertNotEqual(text, LINKED)
        (error,) = self.ann.body(f"plan_experiment lab/net {text}")["errors"]
        self.assertIn("kind qemu cannot be had here", error["text"])
        self.assertGreater(error["line"], 0)
        self.assertEqual(self.ann.code(f"create_experiment lab/net {text}"), "BAD_TOPOLOGY")

    def test_saysWhatIsWrongWithATopology(self) -> None:
        """
        check_topology answers with the errors and their lines, which is no error of its own.
        """
        found = self.ann.body("check_topology '<experiment><nonsense/></experiment>'")
        self.assertTrue(found["errors"])
        self.assertEqual(found["placement"], {})

    def test_writesTheTopologyBack(self) -> None:
        """
        What topology answers makes the same experiment.
        """
        text = self.ann.body("topology lab/exp1")["text"]
        self.ann.body(f"create_experiment lab/exp2 {text!r}")
        one, two = (self.ann.body(f"experiment lab/{name}")["nodes"] for name in ("exp1", "exp2"))
        self.assertEqual(one.keys(), two.keys())
        said = self.ann.body(f"modify_experiment lab/exp1 {text!r}")
        self.assertEqual(said["kept"], ["db", "web"])

    def test_writesBackWhatWasWritten(self) -> None:
        """
        NS and TOML as they were written, with comments; what they are in TopDL on request; a modification replaces it.
        """
        toml = "[nodes]\na = 'process'  # mine\n"
        ns = "# hers\nset ns [new Simulator]\nset b [$ns node]\n$ns run\n"
        self.ann.body(f"create_experiment lab/exp2 {toml!r} format=toml")
        self.assertEqual(self.ann.body("topology lab/exp2"), {"format": "toml", "text": toml})
        written = self.ann.body("topology lab/exp2 format=topdl")
        self.assertEqual((written["format"], "<name>a</name>" in written["text"]), ("topdl", True))
        self.ann.body(f"modify_experiment lab/exp2 {ns!r}")
        self.assertEqual(self.ann.body("topology lab/exp2"), {"format": "ns", "text": ns})
        self.ann.body(f"modify_experiment lab/exp2 {written['text']!r}")
        self.assertEqual(self.ann.body("topology lab/exp2"), written)

    def test_showsLogs(self) -> None:
        """
        The logs of a node that is not placed are asked for in vain; of one that is they are there.
        """
        self.assertEqual(self.ann.code("logs web.exp1.lab"), "NO_SUCH_SLIVER")
        self.ann.body("swap_in lab/exp1 wait=0")
        self.assertEqual(self.ann.code("logs web.exp1.lab"), "logs_reply")
        self.assertEqual(self.ann.code("logs none.exp1.lab"), "NO_SUCH_SLIVER")


class PackingTests(AskingCase):
    """
    Where nodes are to go, as far as requests tell.
    """

    def partitioned(self, **partitions: str) -> str:
        """
        A topology of nodes with partitions.
        """
        nodes = "".join(
            f"<elements><computer><name>{name}</name><attribute><attribute>containers:partition</attribute>"
            f"<value>{partition}</value></attribute></computer></elements>"
            for name, partition in partitions.items()
        )
        return repr(f"<experiment>{nodes}</experiment>")

    def test_plansForHostsThatAreGiven(self) -> None:
        """
        For forty hosts a plan says which node would be on which, by hypervisor and host.
        """
        nodes: dict[str, str | None] = {f"n{at}": None for at in range(400)}
        hosts = [{"name": f"pc{at}", "cores": 8, "memory_bytes": 1 << 34} for at in range(40)]
        plan = self.ann.body(f"plan_experiment lab/new {topdl(nodes)} packing=10 hosts={hosts!r}")
        self.assertEqual(plan["pnodes"], {f"pnode-{at:04}": f"pc{at}" for at in range(40)})
        counts = Counter(plan["placement"].values())
        self.assertEqual(set(counts), {f"hv:process:pnode-{at:04}" for at in range(40)})
        self.assertEqual(set(counts.values()), {10})
        refused = self.ann.ask(f"plan_experiment lab/new {topdl(nodes)} packing=9 hosts={hosts!r}").body
        self.assertEqual((refused["code"], refused["wanted"], refused["left"]), ("NO_ROOM", 45, 40))

    def test_kinds(self) -> None:
        """
        What nodes are made as that do not say it is asked for with the topology, and holds when it is modified.
        """
        one = " hosts=[{'name': 'pc1'}]"
        plan = self.ann.body(f"plan_experiment lab/net {LINKED} kind=account{one}")
        self.assertIn("a node of kind account has no interfaces", plan["errors"][0]["text"])
        plan = self.ann.body(
            f"plan_experiment lab/net {LINKED} kind_alone=embedded force_partition=True{one[:-1]}, {{'name': 'pc2'}}]"
        )
        self.assertEqual(set(plan["placement"].values()), {"hv:embedded:pnode-0000", "hv:embedded:pnode-0001"})
        self.assertEqual(self.ann.code(f"create_experiment lab/net {LINKED} kind=qemu"), "BAD_TOPOLOGY")
        self.assertEqual(self.ann.code(f"create_experiment lab/net {LINKED} kind=pc"), "BAD_VALUE")
        self.ann.body(f"create_experiment lab/net {LINKED} kind=process")
        serial = self.ann.body("experiment lab/net")["serial"]
        self.ann.body(f"modify_experiment lab/net {LINKED}")
        kept = self.daemon.host.get(Plan, str(serial))
        self.assertEqual(kept.options if kept is not None else None, {"kind": "process"})

    def test_fixed(self) -> None:
        """
        A node that is fixed to one of the hosts goes there; where there is none, a warning names those that are.
        """
        text = LINKED.replace(
            "</name><interface>",
            "</name><attribute><attribute>fixed</attribute><value>pc2</value></attribute><interface>",
            1,
        )
        found = self.ann.body(f"plan_experiment lab/net {text} hosts=[{{'name': 'pc1'}}, {{'name': 'pc2'}}]")
        self.assertEqual((found["pnodes"], found["warnings"]), ({"pnode-0000": "pc2"}, []))
        found = self.ann.body(f"create_experiment lab/net {text}")
        (warning,) = found["warnings"]
        self.assertIn("node a is fixed to 'pc2', which is no host here; it may go to any (", warning)

    def test_refusesMoreHostsThanThereAre(self) -> None:
        """
        An experiment that wants two hosts is refused here, with how many, unless its partitions are left out of
        account; nothing is kept of it.
        """
        text = self.partitioned(a="7", b="7", c="9")
        refused = self.ann.ask(f"create_experiment lab/two {text}").body
        self.assertEqual((refused["code"], refused["wanted"], refused["left"]), ("NO_ROOM", 2, 1))
        self.assertEqual(self.ann.code("experiment lab/two"), "NO_SUCH_EXPERIMENT")
        self.assertEqual(self.ann.ask(f"create_experiment lab/two {TWO} size=2").body["code"], "NO_ROOM")
        self.ann.body(f"create_experiment lab/two {text} force_partition=True swap_in=True wait=0")
        body = self.ann.body("experiment lab/two")
        self.assertEqual(body["pnodes"], {"pnode-0000": "tester"})
        self.assertEqual({node["host"] for node in body["nodes"].values()}, {"tester"})

    def test_modifyKeepsWhatWasAsked(self) -> None:
        """
        What options were given once holds for later topologies, until they are given again.
        """
        self.ann.body(f"create_experiment lab/kept {self.partitioned(a='1', b='2')} force_partition=True")
        self.ann.body(f"modify_experiment lab/kept {self.partitioned(a='1', b='2', c='3')}")
        refused = self.ann.code(f"modify_experiment lab/kept {self.partitioned(a='1', b='2')} force_partition=False")
        self.assertEqual(refused, "NO_ROOM")
        refused = self.ann.code(f"modify_experiment lab/kept {self.partitioned(a='1', b='2')} force_partition=None")
        self.assertEqual(refused, "NO_ROOM")

    def test_memoryThatIsAskedFor(self) -> None:
        """
        A node that asks for more than the host has is refused by name.
        """
        attribute = "<attribute><attribute>hostline:memory_max</attribute><value>200T</value></attribute>"
        text = repr(f"<e><elements><computer><name>db</name>{attribute}</computer></elements></e>")
        refused = self.ann.ask(f"create_experiment lab/big {text}").body
        self.assertEqual(refused["code"], "NO_ROOM")
        self.assertIn("node db wants memory_max 200 TiB; host tester has", refused["message"])

    def test_optionsThatMeanNothing(self) -> None:
        """
        They are refused before anything is kept.
        """
        for option in (
            "packing=0",
            "packing=x",
            "size=-1",
            "pass_pack=0:0",
            "pass_pack=9:1",
            "qemu_nics=99",
            "format=xml",
        ):
            self.assertEqual(self.ann.code(f"create_experiment lab/none {TWO} {option}"), "BAD_VALUE", option)
        self.assertEqual(self.ann.code(f"plan_experiment lab/none {TWO} hosts=[]"), "NO_ROOM")

    def test_routesAndNamesAreKept(self) -> None:
        """
        A node between two links forwards, its neighbours have a route, and one resource asked for is in its record.
        """
        ends = {"a": ["l1"], "b": ["l1", "l2"], "c": ["l2"]}
        asked = "<attribute><attribute>hostline:cpu_min</attribute><value>100</value></attribute>"
        text = "".join(f"<substrates><name>{link}</name></substrates>" for link in ("l1", "l2"))
        for name, links in ends.items():
            interfaces = "".join(f"<interface><substrate>{link}</substrate></interface>" for link in links)
            text += f"<elements><computer><name>{name}</name>{interfaces}{asked}</computer></elements>"
        self.ann.body(f"create_experiment lab/far {f'<e>{text}</e>'!r} swap_in=True wait=0")
        host = self.daemon.host
        experiment = host.get(Experiment, "lab/far")
        assert experiment is not None
        self.assertEqual(host.plan_of(experiment).routes["a"], [("10.1.2.0/24", "10.1.1.3")])
        slivers = host.slivers_of(experiment)
        self.assertEqual({one.rspec["cpu_min"] for one in slivers.values()}, {100})
        workload = self.daemon.daemon.sync._workloads.of(slivers["b"])
        self.assertEqual((workload.forwards, len(workload.interfaces)), (True, 2))
        self.assertIn("10.1.2.3\tc-l2 c c-0 c.far.lab\n", workload.hosts)
