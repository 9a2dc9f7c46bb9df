"""
Tests for L{hostline.server.experiments.runs} and L{hostline.server.experiments.everywhere}.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import attrs

from hostline.server.config import Limits
from hostline.server.drivers.driver import Status
from hostline.server.experiments.everywhere import AT_ONCE, folded
from hostline.server.experiments.runs import LOGS
from tests.daemons import topdl
from tests.test_streams import Streamed


class RunTests(Streamed):
    """
    A command in all nodes.
    """

    limits = attrs.evolve(Limits(), collected_bytes=1000)

    def replied(self) -> Any:
        """The body of the one reply that came."""
        self.daemon.advance(0)
        (reply,) = self.ann.replies()
        return reply.body

    def test_foldsWhatIsTheSame(self) -> None:
        """
        Both nodes run it, and one answer is told with both names; another with its own.
        """
        self.ann.send("run lab/exp1 ['uname', '-r']\n")
        self.daemon.advance(0)
        self.assertEqual([(one.argv, one.input_ended) for one in self.inside.talks], [(["uname", "-r"], True)] * 2)
        for talk in self.inside.talks:
            talk.say(b"6.1\n")
            self.assertEqual(self.ann.raw(), [])
            talk.end()
        self.assertEqual(
            self.replied(),
            {"answers": [{"nodes": ["db", "web"], "exit": 0, "out": "6.1\n", "err": ""}], "silent": {}},
        )
        self.ann.send("run lab/exp1 false nodes=web\n")
        self.daemon.advance(0)
        self.inside.talks[2].end(1)
        self.assertEqual(self.replied()["answers"], [{"nodes": ["web"], "exit": 1, "out": "", "err": ""}])

    def test_aLineForAShell(self) -> None:
        """
        What is one word with blanks in it is what people type into a shell.
        """
        self.ann.send("run lab/exp1 ['df -h | tail -1'] nodes=web\n")
        self.daemon.advance(0)
        self.assertEqual([one.argv for one in self.inside.talks], [["/bin/sh", "-c", "df -h | tail -1"]])
        self.inside.talks[0].end()
        self.assertEqual(self.replied()["silent"], {})

    def test_saysWhoDidNotAnswer(self) -> None:
        """
        A node that takes too long is ended and named, and does not keep the others' answers.
        """
        self.ann.send("run lab/exp1 sleep timeout=5\n")
        self.daemon.advance(0)
        self.inside.talks[0].end()
        self.daemon.advance(4)
        self.assertEqual(self.ann.raw(), [])
        self.daemon.advance(2)
        body = self.replied()
        self.assertEqual(body["answers"][0]["nodes"], ["db"])
        self.assertEqual(body["silent"], {"web": "it has not ended in 5 s; it was ended"})
        self.assertTrue(self.inside.talks[1].closed)

    def test_cutsWhatIsTooMuch(self) -> None:
        """
        Of each answer as much is kept as of any command's, and it is said.
        """
        self.ann.send("run lab/exp1 yes nodes=web\n")
        self.daemon.advance(0)
        self.inside.talks[0].say(b"y" * 5000)
        self.inside.talks[0].end()
        (answer,) = self.replied()["answers"]
        self.assertEqual((len(answer["out"]), answer["cut"]), (1000, True))

    def test_whoLeavesEndsIt(self) -> None:
        """
        When the caller has gone the command is ended wherever it runs.
        """
        self.ann.send("run lab/exp1 sleep\n")
        self.daemon.advance(0)
        self.ann.hang_up()
        self.daemon.advance(3)
        self.assertEqual([one.closed for one in self.inside.talks], [True, True])

    def test_refusesNodesThatAreNotThere(self) -> None:
        """
        A misspelt node is named with a near one, and nothing is run; so is an experiment that is not placed.
        """
        reply = self.ann.ask("run lab/exp1 true nodes=['web', 'dbb']")
        self.assertEqual((reply.body["code"], self.inside.talks), ("NO_SUCH_NODE", []))
        self.assertIn("did you mean db?", reply.body["message"])
        self.ann.body(f"create_experiment lab/exp2 {topdl({'a': None})}")
        self.assertEqual(self.ann.code("run lab/exp2 true"), "WRONG_STATE")
        self.assertEqual(self.ann.code("node_logs lab/exp2"), "WRONG_STATE")

    def test_manyAtATime(self) -> None:
        """
        Of a hundred nodes a bounded number run it together, and all have run it in the end.
        """
        names = {f"n{at:03}": None for at in range(100)}
        self.ann.body(f"create_experiment lab/many {topdl(names)} swap_in=True")
        self.daemon.advance(30)
        self.ann.raw()
        self.ann.send("run lab/many true\n")
        self.daemon.advance(0)
        self.assertEqual(len(self.inside.talks), AT_ONCE)
        done = 0
        while done < len(self.inside.talks):
            self.inside.talks[done].end()
            done += 1
            self.daemon.advance(0)
            self.assertLessEqual(len(self.inside.talks) - done, AT_ONCE)
        self.assertEqual(self.replied()["answers"][0]["nodes"], sorted(names))

    def test_folded(self) -> None:
        """
        Answers of most nodes come first; those that differ in anything are apart.
        """
        same, other = {"exit": 0, "out": "a", "err": ""}, {"exit": 0, "out": "", "err": "a"}
        found = folded({"c": same, "a": other, "b": same})
        self.assertEqual([one["nodes"] for one in found], [["b", "c"], ["a"]])


class NodeLogsTests(Streamed):
    """
    What all nodes wrote, page by page.
    """

    def pages(self, options: str = "", limit: int = 1000) -> dict[tuple[str, str], bytes]:
        """All of it, put together."""
        found: dict[tuple[str, str], bytes] = {}
        since = ""
        for _ in range(1000):
            body = self.ann.body(f"node_logs lab/exp1 limit={limit} {options} {since}")
            self.assertLessEqual(sum(len(b64decode(one["base64"])) for one in body["pieces"]), limit)
            for piece in body["pieces"]:
                key = piece["node"], piece["log"]
                self.assertEqual(piece["offset"], len(found.get(key, b"")))
                found[key] = found.get(key, b"") + b64decode(piece["base64"])
            if body["next"] is None:
                return found
            since = f"since={body['next']}"
        raise AssertionError("it has no end")

    def read_log(self, serial: int, stream: str, offset: int, most: int) -> tuple[bytes, int]:
        """As drivers do."""
        log = self.logs[serial][stream]
        begin = 0 if offset > len(log) else offset
        return log[begin : begin + most], begin + len(log[begin : begin + most])

    def setUp(self) -> None:
        super().setUp()
        serials = next(iter(self.daemon.host.experiments_by_serial.values())).slivers
        self.logs: dict[int, dict[str, bytes]] = {}
        driver: Any = self.daemon.driver
        driver.read_log = self.read_log
        for node, serial in serials.items():
            self.logs[serial] = {log: f"{node} {log}\xff".encode() * 300 for log in LOGS}
        self.serials = serials

    def test_allOfIt(self) -> None:
        """
        Whatever the size of a page, all logs of all nodes come whole, byte by byte.
        """
        want = {(node, log): self.logs[serial][log] for node, serial in self.serials.items() for log in LOGS}
        for limit in (777, 5000, 1 << 20):
            self.assertEqual(self.pages(limit=limit), want)
        self.assertEqual(self.pages("nodes=web stream=out"), {("web", "out"): want["web", "out"]})

    def test_aLogThatGrowsHasAnEnd(self) -> None:
        """
        One that is begun anew while it is read does not begin anew for the reader.
        """
        first = self.ann.body("node_logs lab/exp1 nodes=web stream=out limit=100")
        self.logs[self.serials["web"]]["out"] = b"short"
        self.assertEqual(self.ann.body(f"node_logs lab/exp1 nodes=web stream=out since={first['next']}")["pieces"], [])

    def test_refusesOtherPlaces(self) -> None:
        """
        What is no place that a reply told is refused.
        """
        for since in ("web", "web/out", "web/none/0", "web/out/-1", "web/out/99999999999999999999", "'web/out/\u0663'"):
            self.assertEqual(self.ann.code(f"node_logs lab/exp1 since={since}"), "BAD_VALUE")

    def test_statusIsNotAsked(self) -> None:
        """
        Logs of nodes that are down are there, too.
        """
        serial = self.serials["web"]
        self.daemon.driver.host.statuses[serial] = Status(serial, 1, "dead", exit_code=1)
        self.assertIn(("web", "out"), self.pages())
