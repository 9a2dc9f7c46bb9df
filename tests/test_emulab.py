"""
The XML-RPC of Emulab, on a daemon in memory: what each method answers, and in whose name.
"""

from __future__ import annotations

import xmlrpc.client
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.callers import Caller
from hostline.server.facades.emulab import METHODS
from tests.daemons import make
from tests.posting import Poster, called, posted

TOPOLOGY = """<experiment><version>1.0</version>
<substrates><name>lan0</name><capacity><rate>1000.0</rate><kind>max</kind></capacity>
<latency><time>5.0</time><kind>average</kind></latency></substrates>
<elements><computer><name>web</name><interface><substrate>lan0</substrate></interface>
<attribute><attribute>startup</attribute><value>exit 7</value></attribute></computer></elements>
<elements><computer><name>db</name><interface><substrate>lan0</substrate></interface></computer></elements>
</experiment>"""
EXP1 = {"proj": "lab", "exp": "exp1"}
MEMBER, OTHER = 5001, 5002


class EmulabTest(SynchronousTestCase):
    """
    A project with a member and a stranger to it, each with a client.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.line = self.daemon.lab(member=MEMBER, other=OTHER)
        self.ann = Poster(self.daemon, Caller(MEMBER))
        self.stranger = Poster(self.daemon, Caller(OTHER))

    def create(self, **more: Any) -> dict[str, Any]:
        """
        Make lab/exp1.
        """
        return self.ann.call("experiment.startexp", {**EXP1, "nsfilestr": TOPOLOGY, "noswapin": True, **more})

    def activate(self) -> None:
        """
        Make it, and have it up.
        """
        self.assertEqual(self.create()["code"], 0)
        self.assertEqual(self.ann.call("experiment.swapexp", {**EXP1, "direction": "in"})["code"], 0)
        self.daemon.advance(3)


class LifeTests(EmulabTest):
    """
    An experiment from its beginning to its end.
    """

    def test_whole(self) -> None:
        """
        It is made, swapped in, modified, swapped out and ended.
        """
        self.assertEqual(self.create(), {"code": 0, "value": 0, "output": "lab/exp1 is swapped"})
        self.assertEqual(self.ann.value("experiment.state", EXP1), "swapped")
        said = self.ann.call("experiment.swapexp", {**EXP1, "direction": "in"})
        self.assertRegex(said["output"], r"\Alab/exp1: swap_in goes on as operation \d+\Z")
        self.assertEqual(self.ann.value("experiment.state", EXP1), "activating")
        self.daemon.advance(3)
        self.assertEqual(self.ann.value("experiment.state", EXP1), "active")
        more = TOPOLOGY.replace(
            "</experiment>", "<elements><computer><name>new</name></computer></elements></experiment>"
        )
        self.ann.send(posted(called("experiment.modify", 0.1, {**EXP1, "nsfilestr": more, "wait": "yes"})))
        self.daemon.advance(3)
        self.assertEqual(self.ann.answer()["output"], "added: new\nkept: db, web")
        self.ann.send(posted(called("experiment.swapexp", 0.1, {**EXP1, "direction": "out", "wait": 1})))
        self.daemon.advance(3)
        self.assertEqual(self.ann.answer(), {"code": 0, "value": 0, "output": "lab/exp1 is swapped"})
        self.ann.send(posted(called("experiment.endexp", 0.1, {**EXP1, "wait": True})))
        self.daemon.advance(3)
        self.assertEqual(self.ann.answer()["code"], 0)
        self.assertEqual(self.ann.call("experiment.state", EXP1)["output"], "No such experiment: lab/exp1")

    def test_startsAtOnce(self) -> None:
        """
        Without C{noswapin} it is swapped in; C{batchexp} is the same.
        """
        for method, name in (("startexp", "a"), ("batchexp", "b")):
            said = self.ann.call(f"experiment.{method}", {"proj": "lab", "exp": name, "nsfilestr": TOPOLOGY})
            self.assertEqual(said["code"], 0, said)
            self.assertEqual(self.ann.value("experiment.state", {"proj": "lab", "exp": name}), "activating")

    def test_warnings(self) -> None:
        """
        What is odd about a topology is told, whether it was waited for or not.
        """
        text = TOPOLOGY.replace("startup", "container:partition")
        for at, more in enumerate(({"noswapin": True}, {})):
            said = self.ann.call("experiment.startexp", {"proj": "lab", "exp": f"w{at}", "nsfilestr": text, **more})
            self.assertRegex(said["output"], r"\nline \d+: .*containers:partition")

    def test_truths(self) -> None:
        """
        C{false}, C{no} and whatever else is not true does not wait; C{yes}, C{on} and C{1} do.
        """
        for at, (text, waits) in enumerate({"false": 0, "no": 0, "0": 0, "YES": 0, "yes": 1, "on": 1, "1": 1}.items()):
            said = {"proj": "lab", "exp": f"e{at}", "nsfilestr": TOPOLOGY, "wait": text}
            self.ann.send(posted(called("experiment.startexp", 0.1, said)))
            self.assertEqual(self.ann.status() == 0, bool(waits), text)
            self.daemon.advance(5)
            self.ann.came()

    def test_limits(self) -> None:
        """
        C{idleswap} and C{max_duration} are minutes; what is refused of them is not made.
        """
        said = self.create(idleswap=30, max_duration="120", noswapin=False)
        self.assertEqual(said["code"], 0, said)
        self.assertEqual(self.ann.value("experiment.state", EXP1), "activating")
        self.daemon.advance(3)
        found = self.line.body("activity lab/exp1")
        self.assertEqual((found["idle_limit"], found["most"]), (1800.0, 7200.0))
        never = {"proj": "lab", "exp": "never", "nsfilestr": TOPOLOGY, "idleswap": 0, "noidleswap_reason": "a long run"}
        self.assertEqual(self.ann.call("experiment.startexp", {**never, "noswapin": True})["code"], 0)
        self.assertEqual(self.line.body("activity lab/never")["no_idle"], "a long run")
        wrong = {**never, "exp": "wrong", "noidleswap_reason": "two\nlines"}
        self.assertEqual(self.ann.call("experiment.startexp", wrong)["code"], 1)
        self.assertEqual(self.ann.value("experiment.getlist"), {"lab": {"lab": ["exp1", "never"]}})

    def test_history(self) -> None:
        """
        What was done, by whom, and how it ended.
        """
        self.activate()
        found = self.ann.value("experiment.history", EXP1)
        self.assertEqual(found["stats"]["eid"], "exp1")
        self.assertEqual({one["uid"] for one in found["resources"]}, {"ann"})
        self.assertIn("swap_in", [one["action"] for one in found["resources"]])

    def test_bareNames(self) -> None:
        """
        A method without a module is of experiments.
        """
        self.create()
        self.assertEqual(self.ann.value("state", EXP1), "swapped")

    def test_reboot(self) -> None:
        """
        All nodes, or some by their names in full.
        """
        self.activate()
        self.assertEqual(self.ann.call("experiment.reboot", EXP1)["output"], "lab/exp1: db, web")
        self.daemon.advance(3)
        said = self.ann.call("node.reboot", {"nodes": "web.exp1.lab,db.exp1.lab", "reconfig": "yes"})
        self.assertEqual(said["code"], 0)
        self.daemon.advance(3)
        self.assertEqual(self.ann.call("node.reboot", {"nodes": "web.exp1.lab"})["code"], 0)
        self.daemon.advance(3)
        body = self.line.body("experiment lab/exp1")
        self.assertEqual({name: one["boots"] for name, one in body["nodes"].items()}, {"web": 4, "db": 3})

    def test_rebootLeavesGhosts(self) -> None:
        """
        A node that is not to be started is not started by a reboot of all.
        """
        ghost = "<attribute><attribute>containers:ghost</attribute><value>1</value></attribute></computer>"
        text = ghost.join(TOPOLOGY.rsplit("</computer>", 1))
        self.ann.call("experiment.startexp", {**EXP1, "nsfilestr": text})
        self.daemon.advance(3)
        self.assertEqual(self.ann.call("experiment.reboot", EXP1)["output"], "lab/exp1: web")
        self.daemon.advance(3)
        body = self.line.body("experiment lab/exp1")
        self.assertEqual({name: one["boots"] for name, one in body["nodes"].items()}, {"web": 2, "db": 0})

    def test_modifyAndReboot(self) -> None:
        """
        C{reboot} of a modification reboots all nodes when it is done.
        """
        self.activate()
        self.ann.send(posted(called("experiment.modify", 0.1, {**EXP1, "nsfilestr": TOPOLOGY, "reboot": True})))
        self.daemon.advance(5)
        self.assertEqual(self.ann.answer()["code"], 0)
        self.daemon.advance(5)
        body = self.line.body("experiment lab/exp1")
        self.assertEqual([one["boots"] for one in body["nodes"].values()], [2, 2])


class WaitTests(EmulabTest):
    """
    C{statewait} and its kin.
    """

    def wait(self, state: Any, **more: Any) -> None:
        """
        Begin to wait.
        """
        self.ann.send(posted(called("experiment.statewait", 0.1, {**EXP1, "state": state, **more})))

    def test_there(self) -> None:
        """
        Of a state that it is in there is nothing to wait for.
        """
        self.create()
        self.wait("swapped")
        self.assertEqual(self.ann.answer(), {"code": 0, "value": "swapped", "output": "swapped"})

    def test_comes(self) -> None:
        """
        The answer comes with the state, one or any of several.
        """
        for state in ("active", ["active", "ended"]):
            self.create()
            self.wait(state)
            self.daemon.advance(2)
            self.assertEqual(self.ann.status(), 0)
            self.line.send("swap_in lab/exp1 wait=0\n")
            self.daemon.advance(4)
            self.assertEqual(self.ann.answer()["value"], "active")
            self.line.send("terminate lab/exp1\n")
            self.daemon.advance(4)

    def test_atOnce(self) -> None:
        """
        Nobody waits for a look each second: any state is told when it comes, and any other one, too.
        """
        self.create()
        for state, line, found in (
            ("activating", "swap_in lab/exp1 wait=0", "activating"),
            ([], "ping", "active"),
            (["modify_reswap", "swapping"], "swap_out lab/exp1 wait=0", "swapping"),
            (["new", "terminated"], "terminate lab/exp1 wait=0", "terminated"),
        ):
            self.wait(state)
            self.daemon.settle()
            self.assertEqual(self.ann.status(), 0, state)
            self.line.send(f"{line}\n")
            self.daemon.advance(3 if line == "ping" else 0.01)
            self.assertEqual(self.ann.answer()["value"], found)

    def test_late(self) -> None:
        """
        After C{timeout} seconds it is code 8.
        """
        self.create()
        for state in ("active", ["active", "paniced"]):
            self.wait(state, timeout=3)
            self.daemon.advance(2.9)
            self.assertEqual(self.ann.status(), 0)
            self.daemon.advance(0.2)
            self.assertEqual(self.ann.answer()["code"], 8)
        self.ann.send(posted(called("experiment.waitforactive", 0.1, {**EXP1, "timeout": "1"})))
        self.daemon.advance(1.1)
        self.assertRegex(self.ann.answer()["output"], "Timed out waiting for states: active")

    def test_gone(self) -> None:
        """
        Who waits for its end hears of it; who waits for something else, that it is gone.
        """
        for state, code in ((["ended"], 0), ("active", 2)):
            self.create()
            self.wait(state)
            self.line.send("terminate lab/exp1\n")
            self.daemon.advance(4)
            self.assertEqual(self.ann.answer()["code"], code, state)

    def test_badArguments(self) -> None:
        """
        States that there are none of, and times that are none, are code 1.
        """
        self.create()
        for more in (
            {"state": "up"},
            {"state": 7},
            {"state": "active", "timeout": "x"},
            {"state": "active", "timeout": -1},
            {},
        ):
            self.assertEqual(self.ann.call("experiment.statewait", {**EXP1, **more})["code"], 1, more)

    def test_others(self) -> None:
        """
        Who waits keeps nobody from anything, himself on another connection neither.
        """
        self.create()
        self.wait("active")
        again = Poster(self.daemon, Caller(MEMBER))
        self.assertEqual(again.value("experiment.state", EXP1), "swapped")

    def test_hangsUp(self) -> None:
        """
        Who hangs up is not waited for any more; what he began goes on.
        """
        self.create()
        self.ann.send(posted(called("experiment.swapexp", 0.1, {**EXP1, "direction": "in", "wait": "yes"})))
        self.ann.transport.abort()
        self.daemon.advance(4)
        self.assertEqual(self.line.body("experiment lab/exp1")["state"], "active")
        waiting = Poster(self.daemon, Caller(MEMBER))
        waiting.send(posted(called("experiment.statewait", 0.1, {**EXP1, "state": ["ended"]})))
        before = self.daemon.daemon.connections
        waiting.transport.abort()
        self.daemon.settle()
        self.assertEqual(self.daemon.daemon.connections, before - 1)
        self.daemon.advance(5)
        self.assertEqual(waiting.came(), b"")
        self.assertNotIn(True, [call.getTime() < 0 for call in self.daemon.clock.getDelayedCalls()])

    def test_node(self) -> None:
        """
        C{node.statewait} waits for a node.
        """
        self.create()
        asked = {"node": "web.exp1.lab", "state": "ISUP"}
        self.ann.send(posted(called("node.statewait", 0.1, asked)))
        self.line.send("swap_in lab/exp1 wait=0\n")
        self.daemon.advance(4)
        self.assertEqual(self.ann.answer()["value"], "ISUP")
        self.ann.send(posted(called("node.statewait", 0.1, {**asked, "state": "SHUTDOWN", "timeout": 2})))
        self.daemon.advance(3)
        self.assertEqual(self.ann.answer()["code"], 8)


class AnswerTests(EmulabTest):
    """
    What is told of experiments and nodes.
    """

    def test_inactive(self) -> None:
        """
        Swapped out there is no mapping, and there are no extra nodes.
        """
        self.create()
        said = self.ann.call("experiment.info", {**EXP1, "aspect": "mapping"})
        self.assertEqual((said["code"], said["output"]), (2, "Experiment is not active!"))
        self.assertEqual(self.ann.value("experiment.extra_nodes", EXP1), [])
        self.assertEqual(self.ann.call("experiment.reboot", EXP1)["output"], "Experiment is not active!")

    def test_mapping(self) -> None:
        """
        Nodes by name, with what they are, where they are, and whether they are up.
        """
        self.activate()
        found = self.ann.value("experiment.info", {**EXP1, "aspect": "mapping"})
        self.assertEqual(set(found), {"web", "db"})
        web = found["web"]
        self.assertLessEqual({"name", "node", "pnode", "type", "status", "osid", "erole", "eventstatus"}, set(web))
        self.assertEqual(
            [web[key] for key in ("name", "node", "pnode", "type", "status", "eventstatus", "startstatus")],
            ["web", "web.exp1.lab", "tester", "process", "up", "ISUP", "7"],
        )
        self.assertEqual(found["db"]["startstatus"], "none")

    def test_links(self) -> None:
        """
        The ends of links, with addresses and shaping both ways.
        """
        self.create()
        found = self.ann.value("experiment.info", {**EXP1, "aspect": "links"})
        self.assertEqual(set(found), {"web:0", "db:0"})
        self.assertEqual(
            found["web:0"],
            {
                "name": "lan0",
                "member": "web:0",
                "ipaddr": "10.1.1.2",
                "mask": "255.255.255.0",
                "delay": 5.0,
                "bandwidth": 1000,
                "plr": 0.0,
                "r_delay": 5.0,
                "r_bandwidth": 1000,
                "r_plr": 0.0,
            },
        )

    def test_physical(self) -> None:
        """
        Hosts, and interfaces of nodes that are placed.
        """
        self.activate()
        found = self.ann.value("experiment.info", {**EXP1, "aspect": "physical"})
        self.assertEqual(found["nodes"], [{"vname": "pnode-0000", "node_id": "tester", "erole": "node"}])
        self.assertEqual({one["IP"] for one in found["interfaces"]}, {"10.1.1.2", "10.1.1.3"})
        self.assertEqual(self.ann.value("experiment.info", {**EXP1, "aspect": "traces"}), [])

    def test_extraNodes(self) -> None:
        """
        Names in full, as the line has them.
        """
        self.activate()
        found = self.ann.value("experiment.extra_nodes", EXP1)
        self.assertEqual(found, ["db.exp1.lab", "web.exp1.lab"])
        self.assertEqual(found, self.line.body("extra_nodes lab exp1"))

    def test_expinfo(self) -> None:
        """
        Tables as the program's; in between states there is no information.
        """
        self.create()
        said = self.ann.call("experiment.expinfo", {**EXP1, "show": "nodeinfo,linkinfo"})["output"]
        self.assertTrue(said.startswith("Experiment: lab/exp1\nState: swapped\n\nVirtual Node Info:\nID "), said)
        self.assertIn("web:0           10.1.1.2/24       5.00      1000      0.0000", said)
        self.ann.call("experiment.swapexp", {**EXP1, "direction": "in"})
        said = self.ann.call("experiment.expinfo", {**EXP1, "show": "mapping"})["output"]
        self.assertEqual(said, "Experiment: lab/exp1\nState: activating\nNo information available.\n")

    def test_getlist(self) -> None:
        """
        The caller's experiments by project and group, and nobody else's.
        """
        self.create()
        self.assertEqual(self.ann.value("experiment.getlist"), {"lab": {"lab": ["exp1"]}})
        (full,) = self.ann.value("experiment.getlist", {"format": "full"})["lab"]["lab"]
        self.assertEqual((full["name"], full["state"], full["vnodes"]), ("exp1", "swapped", 2))
        self.assertEqual(self.stranger.value("experiment.getlist"), {})
        self.assertEqual(self.ann.value("experiment.getlist", {"proj": "none"}), {})
        self.assertEqual(self.ann.call("experiment.getlist", {"format": "x"})["code"], 1)

    def test_virtualTopology(self) -> None:
        """
        Rows of tables; those that are asked for.
        """
        self.create()
        (found,) = self.ann.value("experiment.virtual_topology", EXP1)
        self.assertEqual(set(found["experiment"]), {"settings", "nodes", "lans"})
        self.assertEqual([one["vname"] for one in found["experiment"]["nodes"]], ["db", "web"])
        (found,) = self.ann.value("experiment.virtual_topology", {**EXP1, "tables": ["lans"]})
        self.assertEqual(set(found["experiment"]), {"settings", "lans"})
        (found,) = self.ann.value("experiment.virtual_topology", {**EXP1, "exclude": ["lans"]})
        self.assertEqual(set(found["experiment"]), {"settings", "nodes"})
        text = self.ann.value("experiment.virtual_topology_xml", EXP1)
        self.assertEqual(text, self.line.body("topology lab/exp1")["text"])

    def test_readycount(self) -> None:
        """
        Nodes that are up with nothing left to start.
        """
        self.activate()
        self.assertEqual(self.ann.call("experiment.readycount", EXP1)["output"], "2 of 2 nodes are ready")
        said = self.ann.call("experiment.readycount", {**EXP1, "nodes": ["web"]})
        self.assertEqual((said["value"], said["output"]), ({"web": 1}, "web: ready"))
        self.assertEqual(self.ann.call("experiment.readycount", {**EXP1, "clear": "yes"})["code"], 2)

    def test_metadata(self) -> None:
        """
        What is on record.
        """
        self.create()
        found = self.ann.value("experiment.metadata", EXP1)
        self.assertEqual((found["pid"], found["eid"], found["state"]), ("lab", "exp1", "swapped"))
        self.assertEqual(found["expt_created"], "2023-11-14 22:13:20")
        self.assertEqual(self.ann.value("experiment.constraints")["idle/threshold"], 4.0)

    def test_nscheck(self) -> None:
        """
        A topology that can be used is code 0, another code 2 with what is wrong.
        """
        self.assertEqual(self.ann.call("experiment.nscheck", {"nsfilestr": TOPOLOGY})["code"], 0)
        said = self.ann.call("experiment.nscheck", {"nsfilestr": "<experiment>\n<elements>"})
        self.assertEqual(said["code"], 2)
        self.assertRegex(said["output"], r"\Aline \d+: error: ")

    def test_nodes(self) -> None:
        """
        Hosts, kinds, and how a node is reached.
        """
        self.activate()
        self.assertEqual(self.ann.value("node.available"), 1)
        self.assertEqual(self.ann.value("node.available", {"type": "process"}), 1)
        self.assertEqual(self.ann.value("node.available", {"type": "pc3000"}), 0)
        self.assertEqual(set(self.ann.value("node.getlist")), {"tester"})
        self.assertEqual(set(self.ann.value("node.typeinfo")), {"process"})
        found = self.ann.value("node.sshdescription", EXP1)
        self.assertEqual(set(found), {"web", "db"})
        self.assertEqual(found["web"]["gateway"], "tester")
        self.assertEqual(self.ann.value("node.sshdescription", {"node": "web.exp1.lab"}), {"web": found["web"]})
        self.assertEqual(
            self.ann.value("node.console", {"node": "web.exp1.lab"})["command"], "hostline attach web.exp1.lab"
        )
        self.assertEqual(self.ann.call("node.console", {"node": "nope.exp1.lab"})["code"], 2)
        self.assertEqual(self.ann.value("osid.getlist"), {})
        self.assertEqual(self.ann.value("user.membership"), {"lab": ["lab"]})

    def test_echo(self) -> None:
        """
        What was said comes back.
        """
        self.assertEqual(self.ann.value("emulab.echo", {"str": "h\u00e9 <&>"}), "h\u00e9 <&>")


class CodeTests(EmulabTest):
    """
    Every code, and nothing that looks like success.
    """

    def test_missing(self) -> None:
        """
        What must be there and is not is named, code 1.
        """
        for method, given, missing in (
            ("experiment.state", {"proj": "lab"}, "exp"),
            ("experiment.extra_nodes", {}, "proj"),
            ("experiment.swapexp", EXP1, "direction"),
            ("experiment.startexp", EXP1, "nsfilestr"),
            ("experiment.info", EXP1, "aspect"),
            ("experiment.expinfo", EXP1, "show"),
            ("experiment.delay_config", EXP1, "link"),
            ("node.reboot", {}, "nodes"),
            ("node.console", {}, "node"),
            ("experiment.echo", {}, "str"),
        ):
            said = self.ann.call(method, given)
            self.assertEqual((said["code"], said["output"]), (1, f"Must supply '{missing}'"), method)

    def test_characters(self) -> None:
        """
        What is no name is refused before anything is asked.
        """
        for name in ("a b", "a/b", "../x", "a;b", "", "a\nb", "\u00e4"):
            said = self.ann.call("experiment.state", {"proj": "lab", "exp": name})
            self.assertEqual((said["code"], said["output"]), (1, "Illegal characters in 'exp'!"), name)
        self.assertEqual(self.ann.call("experiment.state", {"proj": ["lab"], "exp": "x"})["code"], 1)

    def test_unknown(self) -> None:
        """
        What is not there, and what the caller may not see, is code 2 alike.
        """
        self.create()
        expected = {"code": 2, "value": 0, "output": "No such experiment: lab/none"}
        self.assertEqual(self.ann.call("experiment.state", {"proj": "lab", "exp": "none"}), expected)
        for method in ("state", "extra_nodes", "metadata", "reboot", "endexp", "virtual_topology", "readycount"):
            said = self.stranger.call(f"experiment.{method}", EXP1)
            self.assertEqual((said["code"], said["output"]), (2, "No such experiment: lab/exp1"), method)
        said = self.stranger.call("experiment.startexp", {**EXP1, "nsfilestr": TOPOLOGY})
        self.assertEqual((said["code"], said["output"]), (2, "No such project: lab"))
        self.assertEqual(self.line.body("experiment lab/exp1")["state"], "swapped")

    def test_forbidden(self) -> None:
        """
        What is for users is code 3 for who is none.
        """
        nobody = Poster(self.daemon, Caller(6000))
        self.assertEqual(nobody.call("experiment.nscheck", {"nsfilestr": TOPOLOGY})["code"], 3)

    def test_version(self) -> None:
        """
        Another version is code 4, and nothing is done.
        """
        said = self.ann.call("experiment.startexp", {**EXP1, "nsfilestr": TOPOLOGY}, version=0.2)
        self.assertEqual(said, {"code": 4, "value": 0, "output": "Client version mismatch!"})
        self.assertEqual(self.ann.value("experiment.getlist"), {})

    def test_tooBig(self) -> None:
        """
        A topology of more than 512 KiB is code 6; one of that size is read.
        """
        for method in ("startexp", "modify", "nscheck"):
            said = self.ann.call(f"experiment.{method}", {**EXP1, "nsfilestr": "x" * ((512 << 10) + 1)})
            self.assertEqual((said["code"], said["output"]), (6, "NS File way too big!"), method)
        text = TOPOLOGY + " " * ((512 << 10) - len(TOPOLOGY))
        self.assertEqual(self.ann.call("experiment.startexp", {**EXP1, "nsfilestr": text, "noswapin": "1"})["code"], 0)

    def test_long(self) -> None:
        """
        Long topologies take no room of the caller's when they were read, however many there were.
        """
        for at in range(70):
            text = TOPOLOGY + " " * (100_000 + at)
            self.assertEqual(self.ann.call("experiment.nscheck", {"nsfilestr": text})["code"], 0)
        self.assertEqual([one for one in (self.daemon.directory / "blobs").rglob("*") if one.is_file()], [])

    def test_path(self) -> None:
        """
        Files of the host are not read.
        """
        said = self.ann.call("experiment.startexp", {**EXP1, "nsfilepath": "/etc/passwd"})
        self.assertEqual(said["code"], 1)
        self.assertRegex(said["output"], "nsfilestr")

    def test_reasons(self) -> None:
        """
        Never to be swapped out takes a reason.
        """
        for more in (
            {"idleswap": 0},
            {"idleswap": "0", "noidleswap_reason": ""},
            {"swappable": "no"},
            {"idleswap": "x"},
        ):
            self.assertEqual(self.create(**more)["code"], 1, more)
        self.assertEqual(self.ann.value("experiment.getlist"), {})

    def test_exists(self) -> None:
        """
        A name that is taken is code 2, and what has it stays as it is.
        """
        self.create()
        self.assertEqual(self.create()["code"], 2)

    def test_direction(self) -> None:
        """
        In or out.
        """
        self.create()
        said = self.ann.call("experiment.swapexp", {**EXP1, "direction": "up"})
        self.assertEqual((said["code"], said["output"]), (1, "direction must be 'in' or 'out'"))

    def test_refusals(self) -> None:
        """
        What there is no such thing of says so, as code 2: no success without anything done.
        """
        refusing = [name for name, method in METHODS.items() if getattr(method, "__name__", "") == "refuse"]
        self.assertGreater(len(refusing), 10)
        for name in refusing:
            said = self.ann.call(name, EXP1)
            self.assertEqual(said["code"], 2, name)
            self.assertGreater(len(said["output"]), 20, name)

    def test_faults(self) -> None:
        """
        What is no call, and what is no method, is a fault.
        """
        for body, code in ((b"<x/>", -32700), (b"\xff", -32700), (called("experiment.nope", 0.1, {}), -32601)):
            self.ann.send(posted(body))
            with self.assertRaises(xmlrpc.client.Fault) as caught:
                self.ann.answer()
            self.assertEqual(caught.exception.faultCode, code)
        self.assertEqual(self.ann.value("experiment.getlist"), {})

    def test_everyMethodIsExplained(self) -> None:
        """
        Each has its sentence.
        """
        for name, method in METHODS.items():
            self.assertTrue((method.__doc__ or "").strip(), name)


class NameTests(EmulabTest):
    """
    In whose name things are done.
    """

    def test_audit(self) -> None:
        """
        The audit log has what was done, by whom and that it came this way.
        """
        self.create()
        operator = self.daemon.connect()
        (entry,) = [one for one in operator.body("audit")["entries"] if one["command"] == "create_experiment"]
        self.assertEqual((entry["name"], entry["client"], entry["outcome"]), ("ann", "xmlrpc", "ok"))

    def test_cut(self) -> None:
        """
        Who is a user no longer is cut off.
        """
        self.ann.value("experiment.getlist")
        self.daemon.connect().body("remove_user ann")
        self.daemon.settle()
        self.assertTrue(self.ann.transport.lost)
