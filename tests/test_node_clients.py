"""
What our program makes of all nodes of an experiment: their logs as a tar, ssh's settings, answers for people.
"""

from __future__ import annotations

import io
import tarfile
from base64 import b64encode
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import main, node_logs, ssh_config
from hostline.clients.answers import answers
from hostline.clients.settings import Settings, Usage
from hostline.protocol.errors import Internal

WROTE = {("db", "out"): b"one\n" * 40, ("web", "log"): b"\x00\xff", ("web", "out"): b"x" * 100}


def pages(limit: int) -> Any:
    """
    A daemon's node_logs of what was written, so many bytes on a page.
    """
    whole = [(node, log, at, data[at : at + 7]) for (node, log), data in WROTE.items() for at in range(0, len(data), 7)]

    def ask(command: str, experiment: str, since: str = "0", **options: Any) -> Any:
        assert (command, experiment) == ("node_logs", "lab/exp1")
        at = int(since)
        found = whole[at : at + limit]
        pieces = [
            {"node": node, "log": log, "offset": offset, "base64": b64encode(data).decode()}
            for node, log, offset, data in found
        ]
        return {"pieces": pieces, "next": str(at + limit) if at + limit < len(whole) else None}

    return ask


class TarTests(SynchronousTestCase):
    """
    Logs of all nodes.
    """

    def test_hasAllOfIt(self) -> None:
        """
        Whatever the size of a page, each log is one file of the tar, whole.
        """
        for limit in (1, 3, 1000):
            out = io.BytesIO()
            self.assertEqual(node_logs.write(out, pages(limit), "lab/exp1"), 3)
            with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
                found = {one.name: (tar.extractfile(one) or io.BytesIO()).read() for one in tar}
            self.assertEqual(found, {f"lab-exp1/{node}/{log}.log": data for (node, log), data in WROTE.items()})

    def test_writesAFileOrNothing(self) -> None:
        """
        A file that could not be written whole is not there; an older one of that name stays.
        """
        path = Path(self.mktemp())
        path.write_text("before")
        client = mock.Mock(request=mock.Mock(side_effect=OSError(28, "No space left on device")))
        self.patch(Settings, "client", lambda _: client)
        self.assertEqual(main.run(["logs", "lab/exp1", "--tar", str(path)]), 1)
        self.assertEqual([path.read_text(), *path.parent.glob("*.part")], ["before"])
        client.request.side_effect = pages(5)
        self.assertEqual(main.run(["logs", f"--tar={path}", "lab/exp1"]), 0)
        self.assertTrue(tarfile.is_tarfile(path))

    def test_words(self) -> None:
        """
        Nodes and a log may be named; what makes no sense is refused with the usage.
        """
        read = node_logs._read(["lab/exp1", "--tar=x", "nodes=[a,b]", "stream=out"])
        self.assertEqual(read, ("lab/exp1", "x", {"nodes": ["a", "b"], "stream": "out"}))
        for words in ([], ["lab/exp1"], ["--tar", "x"], ["lab/exp1", "--tar"], ["a/b", "--tar", "x", "--tarr=y"]):
            self.assertRaises(Usage, node_logs._read, words)


def node(name: str, kind: str, **said: Any) -> dict[str, Any]:
    """
    What the daemon says of a node.
    """
    return {"node": name, "name": f"{name}.exp1.lab", "kind": kind, "host": "h", "address": None, **said}


class SshConfigTests(SynchronousTestCase):
    """
    How ssh reaches nodes.
    """

    def config(self, *nodes: dict[str, Any], **said: Any) -> str:
        """Of these nodes."""
        return ssh_config.config({"name": "lab/exp1", "nodes": {one["node"]: one for one in nodes}}, **said)

    def test_aNodeWithAnAddress(self) -> None:
        """
        ssh goes to its address, by way of the host if that is said.
        """
        web = node("web", "container", address="10.98.0.7")
        text = self.config(web, jump="ann@lab.example.org", user="ann")
        self.assertIn("Host web.exp1.lab\n", text)
        for line in ("HostName 10.98.0.7", "User ann", "ProxyJump ann@lab.example.org"):
            self.assertIn(f"    {line}\n", text)
        self.assertNotIn("ProxyJump", self.config(web))

    def test_aNodeWithoutOne(self) -> None:
        """
        Its own sshd is run for the connection, by the words that reach the daemon.
        """
        text = self.config(node("vm", "qemu"), hostline=["hostline", "--socket=/run/my%h sock"])
        self.assertIn(
            "    ProxyCommand hostline '--socket=/run/my%%h sock' exec vm.exp1.lab -- /usr/sbin/sshd -i\n", text
        )

    def test_nodesWithoutSshd(self) -> None:
        """
        Of a process, and of a node that is not placed, there is a comment alone.
        """
        text = self.config(node("p", "process"), node("off", "container", host=None))
        self.assertTrue(all(line.startswith("#") for line in text.splitlines() if line), text)
        self.assertIn("hostline exec -t p.exp1.lab -- /bin/sh", text)

    def test_notBelieved(self) -> None:
        """
        A host that says more than names and addresses gets no line of its own into what ssh reads.
        """
        more = "\n    ProxyCommand touch /tmp/x"
        for one in (
            node("a", "process") | {"name": "a.exp1.lab" + more},
            node("a", "qemu", address="10.98.0.7" + more),
            node("a", "qemu", address="-oProxyCommand=x"),
            node("a", f"kind{more}"),
            node("a", "qemu") | {"name": "a.exp1.lab *"},
            node("a", "qemu", address=["10.98.0.7"]),
        ):
            self.assertRaises(Internal, self.config, one)

    def test_words(self) -> None:
        """
        What could become an option or a line of ssh's own is refused.
        """
        for words in (
            ["x/y", "--jump", "-oProxyCommand=x"],
            ["x/y", "--user=a\nb"],
            [],
            ["x/y", "--jum=p"],
            ["x/y", "z"],
        ):
            self.assertRaises(Usage, ssh_config.run, words, Settings())


class AnswersTests(SynchronousTestCase):
    """
    Answers of many nodes, for people.
    """

    def test_reads(self) -> None:
        """
        Names above what they said; codes but 0; who was silent, by reason.
        """
        body = {
            "answers": [
                {"nodes": ["a", "b"], "exit": 0, "out": "6.1\n", "err": ""},
                {"nodes": ["c"], "exit": 7, "out": "", "err": "no\x1b", "cut": True},
            ],
            "silent": {"d": "it is down", "e": "it is down"},
        }
        self.assertEqual(
            answers(body),
            "--- a, b\n6.1\n--- c (exit 7)\nno\\x1b\n(there was more)\n--- d, e: it is down\n",
        )
        many = {
            "answers": [{"nodes": [f"n{at:02}" for at in range(20)], "exit": 0, "out": "", "err": ""}],
            "silent": {},
        }
        self.assertIn("n11 and 8 more\n", answers(many))
