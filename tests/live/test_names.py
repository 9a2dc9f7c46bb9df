"""
Names of nodes, asked for by DNS: from the host, and from a node.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

from twisted.names import dns

from tests.live.experiments import Node, text
from tests.live.hosted import Hosted
from tests.live.killing import KilledTest
from tests.needs import needs_root, needs_tool

_PORT = 5390
#: Asks (argv 1) for the address of a name (argv 2), and says the code of the reply and the address.
_ASK = """
import socket, struct, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(3)
name = b"".join(bytes([len(one)]) + one.encode() for one in sys.argv[2].split(".")) + bytes(1)
asking.sendto(struct.pack("!6H", 7, 256, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1), (sys.argv[1], 53))
reply = asking.recv(512)
print(reply[3] & 15, socket.inet_ntoa(reply[-4:]) if reply[7] else None)
"""


@needs_root
@needs_tool("nsenter", "nft")
class NamesTests(KilledTest):
    """
    A host that answers for names, with an experiment in each of two projects.
    """

    def setUp(self) -> None:
        self.helpers = set()
        self.host = Hosted(self, f'[experiments]\ndns = "127.0.0.1:{_PORT}"\n')
        self.host.start()
        nodes = {name: Node("process", ["lan"]) for name in ("a", "b")}
        for project in ("lab", "other"):
            self.host.ask(f"add_project {project}")
            self.host.ask(f"create_experiment {project}/x {text(nodes)} swap_in=True wait=60", 90)

    def node(self, name: str, project: str = "lab") -> dict[str, Any]:
        return dict(self.host.ask(f"experiment {project}/x")["nodes"][name])

    def ask(self, name: str) -> tuple[int, str | None]:
        """
        @return: code and address, as the host itself hears them.
        """
        message = dns.Message(id=7)
        message.addQuery(name.encode(), dns.A)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.sendto(message.toStr(), ("127.0.0.1", _PORT))
            reply = dns.Message()
            reply.fromStr(asking.recv(512))
        payloads: list[Any] = [one.payload for one in reply.answers]
        found = [one.dottedQuad() for one in payloads if isinstance(one, dns.Record_A)]
        return reply.rCode, found[0] if found else None

    def ask_in(self, node: dict[str, Any], name: str) -> str:
        """
        @return: what a node hears from the host's own address in its network.
        """
        server = ".".join([*node["address"].split(".")[:2], "0", "1"])
        routes = subprocess.run(
            ["nsenter", "-t", str(node["pid"]), "-n", "ip", "-4", "route", "show", "default"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.split()  # fmt: skip
        server = routes[routes.index("via") + 1] if "via" in routes else server
        return subprocess.run(
            ["nsenter", "-t", str(node["pid"]), "-n", sys.executable, "-c", _ASK, server, name],
            capture_output=True, text=True, timeout=10, check=False,
        ).stdout.strip()  # fmt: skip

    def test_answers(self) -> None:
        """
        The host hears of all nodes, in any case; a node of those of its own project, and of no other; who is swapped
        out has no name.
        """
        node, other = self.node("a"), self.node("a", "other")
        self.assertIsNotNone(node["address"])
        asked = ("a.x.lab", "A.X.Lab", "a.x.other", "c.x.lab", "www.example.org")
        wanted = [(0, node["address"]), (0, node["address"]), (0, other["address"]), (3, None), (5, None)]
        self.assertEqual([self.ask(name) for name in asked], wanted)
        heard = [self.ask_in(node, name) for name in ("b.x.lab", "b.x.other", "b.x.nosuch")]
        self.assertEqual(heard, [f"0 {self.node('b')['address']}", "5 None", "5 None"])
        self.host.ask("swap_out lab/x wait=30", 60)
        self.assertEqual(self.ask("a.x.lab"), (3, None))
