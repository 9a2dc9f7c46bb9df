"""
Both faces of C{node_list}, byte by byte, on canned replies.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import connection, node_list
from hostline.clients.connection import Connection
from hostline.clients.node_list import Arguments, Usage, headers, one_line
from tests.canned import Canned


def node(name: str, host: str | None = "pc003", extra: bool = False, kind: str = "host") -> dict[str, Any]:
    """
    @param name: in full.
    """
    short, experiment, project = name.split(".")
    return {
        "node": short,
        "experiment": experiment,
        "project": project,
        "name": name,
        "host": host,
        "kind": kind,
        "extra": extra,
    }


#: The experiment of the users' page of Benito, with its host twice and one of its nodes twice.
SAMPLE = [
    node("pnode-0001.some-experiment.YourPID", "pc003"),
    node("pnode-0000.some-experiment.YourPID", "pc038"),
    node("pnode-0000.some-experiment.YourPID", "pc038"),
    *(node(f"node-{n}.some-experiment.YourPID", "pc003", True, "qemu") for n in (5, 1, 2, 3, 4, 5)),
    node("web.exp1.lab", "pc042", False, "embedded"),
    node("off.exp2.lab", None, True, "qemu"),
]


class HeaderTests(SynchronousTestCase):
    """
    Without an experiment.
    """

    def test_plain(self) -> None:
        """
        Active experiments, sorted, nodes with their hosts, each once.
        """
        self.assertEqual(
            headers(SAMPLE, False),
            "YourPID/some-experiment\n"
            "    pnode-0000.some-experiment.YourPID / pc038\n"
            "    pnode-0001.some-experiment.YourPID / pc003\n"
            "lab/exp1\n"
            "    web.exp1.lab / pc042\n",
        )

    def test_extra(self) -> None:
        """
        The block of extra nodes stands where there are any.
        """
        self.assertEqual(
            headers(SAMPLE, True),
            "YourPID/some-experiment\n"
            "    pnode-0000.some-experiment.YourPID / pc038\n"
            "    pnode-0001.some-experiment.YourPID / pc003\n"
            "  extra nodes:\n"
            "    node-1.some-experiment.YourPID\n"
            "    node-2.some-experiment.YourPID\n"
            "    node-3.some-experiment.YourPID\n"
            "    node-4.some-experiment.YourPID\n"
            "    node-5.some-experiment.YourPID\n"
            "lab/exp1\n"
            "    web.exp1.lab / pc042\n",
        )

    def test_nothing(self) -> None:
        """
        Who has nothing active is told nothing.
        """
        self.assertEqual(headers([node("off.exp2.lab", None, True)], True), "")


class OneLineTests(SynchronousTestCase):
    """
    With one: a line to be split at blanks.
    """

    NODES = [
        node("pnode-0000.e.p", "pc1"),
        node("pnode-0001.e.p", "pc2"),
        node("whole.e.p", "pc3", False, "embedded"),
        node("web.e.p", "pc1", True, "qemu"),
        node("db.e.p", "pc2", True, "process"),
    ]

    def test_modes(self) -> None:
        """
        Each letter.
        """
        for mode, names in {
            "p": "pc1 pc2 pc3",
            "P": "pc1=host pc2=host pc3=embedded",
            "v": "pnode-0000 pnode-0001 whole",
            "h": "pc1 pc2 pc3",
            "H": "pc1=host pc1=qemu pc2=host pc2=process pc3=embedded",
            "m": "db=pc2 pnode-0000=pc1 pnode-0001=pc2 web=pc1 whole=pc3",
            "c": "db web whole",
        }.items():
            self.assertEqual(one_line(self.NODES, mode), "   ".join(names.split()) + "\n", mode)

    def test_withoutContainers(self) -> None:
        """
        Then C{-c} is C{-v}.
        """
        self.assertEqual(one_line(self.NODES[:3], "c"), one_line(self.NODES, "v"))

    def test_inactive(self) -> None:
        """
        Not placed, or without nodes.
        """
        self.assertIsNone(one_line([node("web.e.p", None, True)], "p"))
        self.assertIsNone(one_line([], "c"))


class ArgumentsTests(SynchronousTestCase):
    """
    C{-e} means two things.
    """

    def test_extra(self) -> None:
        """
        Alone it asks for extra nodes.
        """
        for words in (["-e"], ["--extra"], ["-e", "--socket", "/s"]):
            asked = Arguments(words)
            self.assertEqual((asked.extra, asked.experiment), (True, None))

    def test_experiment(self) -> None:
        """
        With a value it is that experiment.
        """
        for words in (
            ["-e", "p,x"],
            ["-e", "p/x"],
            ["-ep,x"],
            ["-c", "-e", "p,x"],
            ["-ce", "p,x"],
            ["-e", "p,x", "-c"],
        ):
            asked = Arguments(words)
            self.assertEqual((asked.extra, asked.experiment), (False, "p/x"), words)
            self.assertEqual(asked.mode, "c" if "c" in "".join(words) else "")

    def test_wrong(self) -> None:
        """
        All else is refused.
        """
        for words in (
            ["x"],
            ["-q"],
            ["-c"],
            ["-e", "x"],
            ["-p", "-v", "-e", "p,x"],
            ["-e", "p,x", "-e", "p,y"],
            ["--socket"],
            ["-"],
        ):
            self.assertRaises(Usage, Arguments, words)


class RunTests(SynchronousTestCase):
    """
    The program, but for its process.
    """

    def run_on(self, reply: bytes, *words: str) -> tuple[int, str, str]:
        """
        @return: exit status, standard output, standard error.
        """
        self.canned = Canned(self, reply)
        self.patch(connection, "Connection", self.canned.connect)
        return node_list.run(list(words))

    def test_requests(self) -> None:
        """
        No more is asked than is needed.
        """
        reply = b"node_list_reply " + ascii(SAMPLE).encode() + b"\n"
        self.assertEqual(self.run_on(reply), (0, headers(SAMPLE, False), ""))
        self.assertEqual(self.canned.asked(), [b"node_list extra=False"])
        self.assertEqual(self.run_on(reply, "-e"), (0, headers(SAMPLE, True), ""))
        self.assertEqual(self.canned.asked(), [b"node_list extra=True"])
        self.assertEqual(self.run_on(reply, "-v", "-e", "lab,exp1"), (0, one_line(SAMPLE, "v"), ""))
        self.assertEqual(self.canned.asked(), [b"node_list lab/exp1 extra=True"])

    def test_inactive(self) -> None:
        """
        The ancestor's message and status.
        """
        self.assertEqual(self.run_on(b"node_list_reply []\n", "-e", "p,x"), (2, "Experiment is not active!\n", ""))

    def test_failures(self) -> None:
        """
        Each has its status, and a message on standard error.
        """
        refusal = (
            b"error_reply {'code': 'NO_SUCH_EXPERIMENT', 'message': 'no experiment p/x', 'command': 'node_list'}\n"
        )
        self.assertEqual(self.run_on(refusal, "-e", "p,x"), (1, "", "error: no experiment p/x\n"))
        self.assertEqual(self.run_on(b"", "-e", "p p,x")[0], 1)
        self.assertEqual(self.run_on(b"", "-q")[0], 255)
        self.assertEqual(self.run_on(b"", "--help"), (0, node_list.USAGE, ""))
        self.patch(os, "environ", {"HOSTLINE_SOCKET": "/nowhere/sock"})
        self.patch(connection, "Connection", Connection)
        status, out, complaint = node_list.run([])
        self.assertEqual((status, out), (3, ""))
        self.assertIn("/nowhere/sock", complaint)

    def test_late(self) -> None:
        """
        A daemon that does not answer is not waited for without end.
        """
        self.patch(node_list, "_DEADLINE_S", 0.05)
        self.assertEqual(self.run_on(b"")[0], 124)
