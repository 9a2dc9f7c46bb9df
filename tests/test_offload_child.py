"""
The process in which callers' input is read, as far as it needs no root; L{tests.live.test_offload} has the rest.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.offload_child import NAMES
from tests.test_csr import GOOD

_TICKETS = Path(__file__).parent / "tickets"
#: The child, but that it cannot import anything once it has given up its rights.
_PROGRAM = """
import sys
from hostline.server import offload_child

class Nothing:
    def find_spec(self, name, path=None, target=None):
        raise ImportError("imported late: " + name)

offload_child.confine = lambda seconds: sys.meta_path.insert(0, Nothing())
offload_child.main([sys.argv[1], "60"])
"""
_PAYLOAD = {"node_id": 1, "hostname": "h", "kinds": ["process"], "kind": "process", "image": "", "known": {}}
_RECORDS = ("(" * 1000, "[" * 100_000, "{'a': '\\x41'}", "{'slivers': [{'nme': 'lab_web'}]}", "<methodResponse>x", "")
_CALLS = (
    b"",
    b"\xff\xfe<",
    b"<?xml version='1.0' encoding='koi8-r'?><methodCall>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
    b"<methodCall><methodName>a</methodName><params><param><value><base64>/w==</base64></value></param>"
    b"<param><value><dateTime.iso8601>x</dateTime.iso8601></value></param>"
    b"<param><value><bigdecimal>1e9</bigdecimal></value></param></params></methodCall>",
    b"<methodCall><methodName>a</methodName><params><param><value><double>x</double></value></param>",
    b"<methodResponse><fault><value>1</value></fault></methodResponse>",
)


def _ticket(name: str) -> dict[str, Any]:
    data = (_TICKETS / name).read_bytes()
    text = data.decode() if data.startswith(b"-") else base64.b64encode(data).decode()
    return {"text": text, "roots": (_TICKETS / "root.pem").read_text(), "revoked": "", "now": 1.9e9}


def _linked(count: int) -> str:
    ends = "<interface><substrate>l</substrate></interface>"
    nodes = "".join(f"<elements><computer><name>n{at}</name>{ends}</computer></elements>" for at in range(count))
    return f"<experiment><substrates><name>l</name></substrates>{nodes}</experiment>"


def _plan(text: str, **options: int) -> dict[str, Any]:
    hosts = [{"name": "a"}, {"name": "b", "memory_bytes": 1}]
    return {"text": text, "options": options, "hosts": hosts, "means": {"kinds": {"process": ""}}}


def _inputs() -> dict[str, list[Any]]:
    topology = "<experiment><elements><elemnts/><computer><name>a</name></computer></elements></experiment>"
    source = {"url": "http://127.0.0.1:9/", "method": "json", "node_id": 1, "auth": None, "ca": "", "plain": True}
    return {
        "check_topology": [
            *({"text": one} for one in ("<experiment>", topology, "", "<!DOCTYPE a>", "[[[", "exec x")),
            {"text": "set ns [new Simulator]\nset a [$ns nod]\n$ns run"},
            *({"text": one, "format": "toml"} for one in ("[nodes]\na = {}", "a = 5", "[nodes]\na = {kid = 5}")),
        ],
        "plan": [
            _plan(topology),
            *(_plan(_linked(4), **options) for options in ({"size": 2}, {"size": 9}, {"siz": 1})),
        ],
        "read_payload": [_PAYLOAD | {"text": text} for text in _RECORDS],
        "read_response": [_PAYLOAD | {"text": text} for text in _RECORDS],
        "poll_authority": [_PAYLOAD | {"source": source | {"timeout_s": 5.0, "bytes": 10000}}],
        "read_ticket": [_ticket(one.name) for one in sorted(_TICKETS.glob("*.cms"))],
        "read_request": ["x", GOOD],
        "read_call": [{"body": base64.b64encode(one).decode()} for one in _CALLS],
    }


class LateTests(SynchronousTestCase):
    """
    A daemon of root's may be installed where nobody else can read.
    """

    def test_importsNothingLate(self) -> None:
        """
        Whatever the input is, all that reads it is there before the child gives up its rights.
        """
        inputs = _inputs()
        self.assertEqual(set(inputs), set(NAMES))
        for name, values in inputs.items():
            for value in values:
                done = subprocess.run(
                    [sys.executable, "-c", _PROGRAM, name], input=json.dumps(value).encode(), capture_output=True
                )
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn("bug", json.loads(done.stdout), f"{name} {value!a}"[:200])

    def test_whatLibrariesSayIsNoReply(self) -> None:
        """
        METIS complains on standard output of graphs that it does not like; the reply is whole all the same.
        """
        program = """
import ctypes, sys
from hostline.server import offload_child

def say(value):
    for _ in range(10000):
        ctypes.CDLL(None).puts(b"***Cannot bisect a graph with 0 vertices!")
    return value

sys.modules["said"] = sys.modules["__main__"]
offload_child.main(["say", "60"], {"say": ("said", "say")})
"""
        done = subprocess.run([sys.executable, "-c", program], input=b"[7]", capture_output=True)
        self.assertEqual(json.loads(done.stdout), {"value": [7]})
