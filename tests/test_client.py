"""
The client for scripts, on canned bytes.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import os

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import client as module
from hostline.clients.client import Client, patience
from hostline.clients.connection import DEFAULT_SOCKET, Connection, after, way
from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadArguments, HostError, NoDaemon, NoSuchExperiment, OperationFailed, Timeout
from tests.canned import Canned

PING = b"ping_reply {'time': 1.5}\n"


class RequestTests(SynchronousTestCase):
    """
    A request out, the body of its reply back.
    """

    def test_body(self) -> None:
        """
        The reply's body is what a caller gets.
        """
        canned = Canned(self, PING + b"status_reply {'hv:process:pnode-0000': {'web': ['booted', None]}}\n")
        with canned.client() as client:
            self.assertEqual(client.request("ping"), {"time": 1.5})
            self.assertEqual(
                client.request("status_request", "lab/exp1"), {"hv:process:pnode-0000": {"web": ["booted", None]}}
            )
        self.assertEqual(canned.asked(), [b"ping", b"status_request lab/exp1"])

    def test_words(self) -> None:
        """
        Values and options are quoted as they need it, a topology always.
        """
        canned = Canned(self, PING * 3)
        client = canned.client()
        client.request("add_user", "ann", uid=7, keys=["ssh-ed25519 AAAA ann"])
        client.request("create_experiment", "lab/exp1", "word", swap_in=True)
        client.request("a_newer_command", "x y", [1, None])
        self.assertEqual(
            canned.asked(),
            [
                b"add_user ann uid=7 keys=['ssh-ed25519 AAAA ann']",
                b"create_experiment lab/exp1 'word' swap_in=True",
                b"a_newer_command 'x y' [1, None]",
            ],
        )

    def test_json(self) -> None:
        """
        A greeting that turns JSON on is read as such.
        """
        self.assertEqual(
            Canned(self, b'hello_reply {"x": null}\n').client().request("hello", format="json"), {"x": None}
        )

    def test_error(self) -> None:
        """
        The daemon's error is raised as the class it is, with its details; the connection is used on.
        """
        canned = Canned(
            self,
            b"error_reply {'code': 'NO_SUCH_EXPERIMENT', 'message': 'no experiment a/b', 'command': 'x'}\n"
            b"error_reply {'code': 'FAILED', 'message': 'm', 'command': 'x', 'operation': 7, 'causes': ['c']}\n"
            b"error_reply {'code': 'NEWER', 'message': 'm', 'command': 'x'}\n" + PING,
        )
        client = canned.client()
        error = self.assertRaises(NoSuchExperiment, client.request, "experiment", "a/b")
        self.assertEqual(error.message, "no experiment a/b")
        failed = self.assertRaises(OperationFailed, client.request, "swap_in", "a/b")
        self.assertEqual((failed.details["operation"], failed.details["causes"]), (7, ["c"]))
        newer = self.assertRaises(HostError, client.request, "ping")
        self.assertEqual(newer.code, "NEWER")
        self.assertEqual(client.request("ping"), {"time": 1.5})
        self.assertEqual(len(canned.peers), 1)

    def test_operation(self) -> None:
        """
        Work that goes on is told from work that is done.
        """
        canned = Canned(self, b"operation_reply {'operation': 17, 'state': 'running'}\n")
        reply = canned.client().reply("swap_in", "a/b", wait=0)
        self.assertEqual((reply.word, reply.body["operation"]), ("operation_reply", 17))

    def test_longReply(self) -> None:
        """
        A reply comes whole, whatever pieces it comes in.
        """
        names = [f"node-{number}" for number in range(9000)]
        canned = Canned(self, b"extra_nodes_reply " + ascii(names).encode() + b"\n" + PING)
        client = canned.client()
        self.assertEqual(client.request("extra_nodes", "a", "b"), names)
        self.assertEqual(client.request("ping"), {"time": 1.5})

    def test_junk(self) -> None:
        """
        What is no reply is an error, not a crash.
        """
        for line in (b"\n", b"ping_reply\n", b"ping_reply {\n", b"ping_reply \xff\n", b"a b c\n"):
            self.assertRaises(HostError, Canned(self, line).client().request, "ping")


class BrokenTests(SynchronousTestCase):
    """
    When no reply comes.
    """

    def test_noDaemon(self) -> None:
        """
        Nobody at the socket is L{NoDaemon}, which names it; paths that cannot be are no other error.
        """
        for path in ("/nowhere/sock", "/dev/null", "/x" * 100, "a\0b"):
            error = self.assertRaises(NoDaemon, Client(path).request, "ping")
            self.assertIn("no daemon at /" if path[0] == "/" else "no daemon", error.message)

    def test_hungUp(self) -> None:
        """
        A connection that ends is L{NoDaemon}; the next request makes a new one.
        """
        canned = Canned(self, PING, b"", PING)
        client = canned.client()
        client.request("ping")
        canned.hang_up()
        self.assertRaises(NoDaemon, client.request, "ping")
        self.assertEqual(len(canned.peers), 1)
        client = canned.client()
        client._connection = canned.connect("", None)
        canned.hang_up()
        self.assertRaises(NoDaemon, client.request, "ping")
        self.assertEqual(client.request("ping"), {"time": 1.5})

    def test_cutReply(self) -> None:
        """
        Half a reply is none.
        """
        canned = Canned(self, b"")
        connection = canned.connect("", None)
        canned.peers[-1].sendall(b"ping_reply {'ti")
        canned.hang_up()
        error = self.assertRaises(NoDaemon, connection.line, after(5))
        self.assertIn("in the middle of a reply", error.message)

    def test_refusedAtTheDoor(self) -> None:
        """
        A daemon that hangs up with a word is heard.
        """
        canned = Canned(self, b"error_reply {'code': 'TOO_MANY', 'message': 'full', 'command': ''}\n")
        client = canned.client()
        client._connection = canned.connect("", None)
        canned.hang_up()
        self.assertEqual(self.assertRaises(HostError, client.request, "ping").code, "TOO_MANY")

    def test_deadline(self) -> None:
        """
        No reply in time is L{Timeout}; one that comes late is not taken for the next.
        """
        canned = Canned(self, b"ping_reply {'ti", PING)
        client = canned.client(timeout=0.05)
        self.assertRaises(Timeout, client.request, "ping")
        self.assertEqual(client.request("ping"), {"time": 1.5})
        self.assertEqual(len(canned.peers), 2)

    def test_nobodyAccepts(self) -> None:
        """
        A daemon too busy to accept is waited for no longer than the deadline.
        """
        canned = Canned(self)
        canned._listener.listen(0)
        waiting = []
        try:
            for _ in range(3):
                waiting.append(Connection(canned.path, after(0.05)))
        except Timeout:
            pass
        else:
            self.fail("the deadline passed unseen")
        finally:
            for one in waiting:
                one.close()

    def test_deadlineWithTheRequestsOwn(self) -> None:
        """
        What a request asks the daemon to wait is waited for.
        """
        self.assertEqual(patience(TABLE["swap_in"], {}), 30)
        self.assertEqual(patience(TABLE["swap_in"], {"wait": "10m"}), 600)
        self.assertEqual(patience(TABLE["swap_in"], {"wait": 0}), 0)
        self.assertEqual(patience(TABLE["wait"], {"timeout": 5}), 5)
        self.assertEqual(patience(TABLE["ping"], {}), 0)
        self.assertEqual(patience(TABLE["swap_in"], {"wait": "soon"}), 0)
        self.assertEqual(patience(None, {"wait": 5}), 0)


class WayTests(SynchronousTestCase):
    """
    Which daemon.
    """

    def test_order(self) -> None:
        """
        What is given, then the environment, then the host's own.
        """
        environ = {"HOSTLINE_SOCKET": "/e"}
        self.patch(os, "environ", environ)
        self.assertEqual((way("/g", None), way(None, None)), (("/g", Connection), ("/e", Connection)))
        self.assertEqual(way(None, "far")[0], "far")
        environ = {"HOSTLINE_HOST": "far:7"}
        self.patch(os, "environ", environ)
        self.assertEqual((way("/g", None)[0], way(None, "near")[0], way(None, None)[0]), ("/g", "near", "far:7"))
        self.patch(os, "environ", {})
        self.assertEqual(way(None, None), (DEFAULT_SOCKET, Connection))

    def test_two(self) -> None:
        """
        Nobody guesses which of two was meant.
        """
        self.assertRaises(BadArguments, way, "/g", "far")
        self.assertRaises(BadArguments, Client, "/g", host="far")
        self.patch(os, "environ", {"HOSTLINE_SOCKET": "/e", "HOSTLINE_HOST": "far"})
        self.assertRaises(BadArguments, way, None, None)
        self.assertEqual(way("/g", None)[0], "/g")


class BlobTests(SynchronousTestCase):
    """
    Texts too long for a line.
    """

    def setUp(self) -> None:
        self.patch(module, "PIECE", 3000)
        self.patch(module, "LONGEST_INLINE", 5000)

    def test_sentAhead(self) -> None:
        """
        It goes in pieces, and the request names it.
        """
        text = "\u20ac" * 2999
        data = text.encode()
        name = hashlib.sha256(data).hexdigest()
        sizes = [3000, 6000, 8997]
        bodies = [{"sha256": name, "size": len(data), "have": size, "complete": size == len(data)} for size in sizes]
        canned = Canned(self, b"".join(f"blob_reply {body}\n".encode() for body in bodies) + PING)
        canned.client().request("check_topology", text)
        lines = canned.asked()
        self.assertEqual(len(lines), 4)
        pieces = []
        for at, line in enumerate(lines[:3]):
            word, sha256, size, offset, piece = line.split(b" ")
            self.assertEqual((word, sha256, int(size)), (b"blob", name.encode(), len(data)))
            self.assertEqual(int(offset), at * 3000)
            pieces.append(base64.b64decode(ast.literal_eval(piece.decode())))
        self.assertEqual(b"".join(pieces), data)
        self.assertEqual(lines[3], f"check_topology blob:{name}".encode())

    def test_knownAlready(self) -> None:
        """
        What the daemon has whole is not sent again.
        """
        canned = Canned(self, b"blob_reply {'sha256': 'x', 'size': 1, 'have': 1, 'complete': True}\n" + PING)
        text = "x" * 5000
        canned.client().request("check_topology", text)
        self.assertEqual([line.split()[0] for line in canned.asked()], [b"blob", b"check_topology"])

    def test_refused(self) -> None:
        """
        If it is refused, so is the request, before it is sent.
        """
        canned = Canned(self, b"error_reply {'code': 'TOO_MANY', 'message': 'm', 'command': 'blob'}\n")
        self.assertRaises(HostError, canned.client().request, "check_topology", "x" * 5000)
        self.assertEqual(len(canned.asked()), 1)


class EventTests(SynchronousTestCase):
    """
    Events as they come.
    """

    EVENT = b"event {'cursor': 8, 'time': 1.0, 'topic': 'host', 'what': 'started', 'request': None}\n"

    def test_events(self) -> None:
        """
        They come one by one, on a connection of their own.
        """
        canned = Canned(self, PING, b"watch_reply {'cursor': 7, 'topics': ['host']}\n" + self.EVENT)
        client = canned.client()
        client.request("ping")
        events = client.events("host", since=7)
        self.assertEqual(next(events)["what"], "started")
        self.assertEqual(canned.asked(), [b"watch host since=7"])
        canned.hang_up()
        error = self.assertRaises(NoDaemon, next, events)
        self.assertEqual(error.details["cursor"], 8)

    def test_all(self) -> None:
        """
        Without topics all events are meant; time can be up.
        """
        canned = Canned(self, b"watch_reply {'cursor': 7, 'topics': ['all']}\n")
        error = self.assertRaises(Timeout, next, canned.client().events(seconds=0.05))
        self.assertEqual(error.details["cursor"], 7)
        self.assertEqual(canned.asked(), [b"watch all"])

    def test_missed(self) -> None:
        """
        Who comes back too late is told so.
        """
        canned = Canned(self, b"watch_reply {'cursor': 7, 'topics': ['host'], 'missed': True}\n" + self.EVENT)
        events = canned.client().events("host", since=1)
        self.assertEqual([next(events)["what"], next(events)["what"]], ["missed", "started"])

    def test_refused(self) -> None:
        """
        A topic that is none is the daemon's error.
        """
        canned = Canned(self, b"error_reply {'code': 'NO_SUCH_TOPIC', 'message': 'm', 'command': 'watch'}\n")
        self.assertEqual(self.assertRaises(HostError, next, canned.client().events("x")).code, "NO_SUCH_TOPIC")
