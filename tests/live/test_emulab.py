"""
Emulab's surface on a real daemon with process nodes: a stock C{xmlrpc.client} over TLS and over the host's own socket,
our commands with Emulab's flags, and those who mean no good.
"""

from __future__ import annotations

import ast
import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Signed
from tests.live import guests
from tests.live.encrypted import SERVER, Site, context_for, free_port
from tests.live.hosted import Hosted, until
from tests.live.support import DEADLINE_S
from tests.live.test_clients import LIMIT_S, environment, program
from tests.needs import needs_root, needs_tool
from tests.posting import called, posted
from tests.scale import scaled

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "emulab.py"
#: Links are of no concern here.
NODES = {"web": "exit 7", "db": "sleep 1000", "probe": ""}


#: Two machines on a link, as their users have it.
_NS = """source tb_compat.tcl
set ns [new Simulator]
set a [$ns node]
set b [$ns node]
tb-set-node-startcmd $a "exit 7"
set l [$ns duplex-link $a $b 10Mb 0ms DropTail]
$ns rtproto Static
$ns run
"""


def topology(nodes: dict[str, str]) -> str:
    """
    A topology of nodes with these start commands.
    """
    parts = []
    for name, command in nodes.items():
        startup = f"<attribute><attribute>startup</attribute><value>{command}</value></attribute>" if command else ""
        parts.append(f"<elements><computer><name>{name}</name>{startup}</computer></elements>")
    return f"<experiment><version>1.0</version>{''.join(parts)}</experiment>"


class _HttpsTo(http.client.HTTPSConnection):
    """
    To an address, by the name that the certificate there has.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(SERVER, port, context=context, timeout=DEADLINE_S)
        self._secure = context

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        self.sock = self._secure.wrap_socket(plain, server_hostname=SERVER)


class _Transport(xmlrpc.client.SafeTransport):
    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__()
        self._to = (port, context)

    def make_connection(self, host: Any) -> http.client.HTTPSConnection:
        kept = self._connection[1] if self._connection else None
        if not isinstance(kept, _HttpsTo):
            kept = _HttpsTo(*self._to)
            self._connection = host, kept
        return kept


class EmulabTest(SynchronousTestCase):
    """
    A site whose host has a project of Ann's, and answers Emulab's XML-RPC.
    """

    def setUp(self) -> None:
        self.port = free_port()
        self.site = Site(self, more=f'[emulab]\nlisten = "127.0.0.1:{self.port}"\n')
        self.host = self.site.hosted
        self.addCleanup(lambda: self.assertEqual(self.host.tracebacks(), ""))
        self.calls = self.host.state / "run" / "emulab.sock"
        self.host.ask("add_project lab")
        self.host.ask("add_member lab ann")
        self.ann = self.site.ca.sign("urn:site:user:ann")
        self.file = self.host.directory / "topology.xml"
        self.file.write_text(topology(NODES))

    def proxy(self, shown: Signed | None) -> xmlrpc.client.ServerProxy:
        """
        A stock client with a certificate.
        """
        transport = _Transport(self.port, context_for(self.site.ca.pem, shown))
        server = xmlrpc.client.ServerProxy(f"https://{SERVER}/usr/testbed", transport)
        self.addCleanup(server("close"))
        return server

    def call(self, server: xmlrpc.client.ServerProxy, method: str, **arguments: Any) -> dict[str, Any]:
        """
        @return: what a method answers.
        """
        reply: Any = getattr(server, method)(0.1, arguments)
        return dict(reply)

    def value(self, server: xmlrpc.client.ServerProxy, method: str, **arguments: Any) -> Any:
        """
        The same, which must succeed.
        """
        reply = self.call(server, method, **arguments)
        self.assertEqual(reply["code"], 0, reply)
        return reply["value"]

    def hostline(self, *words: str, given: bytes = b"") -> tuple[int, str, str]:
        """
        @return: exit status, standard output, standard error.
        """
        return ran(self.host, program("hostline", *words), given)


def ran(host: Hosted, argv: Sequence[str], given: bytes = b"") -> tuple[int, str, str]:
    """
    Run a program of ours on a host.
    """
    done = subprocess.run(
        argv, input=given, capture_output=True, env=environment(host.socket), timeout=LIMIT_S, check=False, cwd="/"
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class ShowTests(EmulabTest):
    """
    The third of what is shown: create, swap-in, statewait, extra_nodes, swap-out.
    """

    def test_overTls(self) -> None:
        """
        A stock client with a certificate leads an experiment through its life; C{node_list --extra} shows the same.
        """
        server = self.proxy(self.ann)
        which = {"proj": "lab", "exp": "exp1"}
        text = self.file.read_text()
        self.assertEqual(self.value(server, "experiment.startexp", **which, nsfilestr=text, noswapin=True), 0)
        self.value(server, "experiment.swapexp", **which, direction="in")
        self.assertEqual(self.value(server, "experiment.statewait", **which, state="active", timeout=30), "active")
        extra = self.value(server, "experiment.extra_nodes", **which)
        self.assertEqual(extra, ["db.exp1.lab", "probe.exp1.lab", "web.exp1.lab"])
        listed = ran(self.host, program("node_list", "--extra"))
        (name,) = self.host.ask("experiment lab/exp1")["pnodes"].values()
        expected = "".join(f"    {one}\n" for one in extra)
        head = f"lab/exp1\n    pnode-0000.exp1.lab / {name}\n  extra nodes:\n"
        self.assertEqual(listed, (0, head + expected, ""))
        until(lambda: self.host.ask("status_request lab/exp1")["hv:process:pnode-0000"]["web"] == ["booted", 7])
        self.assertEqual(self.value(server, "experiment.info", **which, aspect="mapping")["web"]["startstatus"], "7")
        self.value(server, "experiment.swapexp", **which, direction="out", wait="yes")
        self.assertEqual(self.value(server, "experiment.state", **which), "swapped")
        self.assertEqual(self.value(server, "experiment.extra_nodes", **which), [])
        self.assertEqual(ran(self.host, program("node_list", "--extra")), (0, "", ""))
        self.value(server, "experiment.endexp", **which, wait=True)
        self.assertEqual(self.call(server, "experiment.state", **which)["code"], 2)
        self.assertEqual(self.host.processes(), set())

    def test_example(self) -> None:
        """
        The example does that, as it stands: through the host's own socket, and with a certificate.
        """
        trust = self.host.directory / "trust-ann"
        self.ann.write(trust, self.site.ca.pem)
        for at, place in enumerate([[str(self.calls)], self._local_name(trust)]):
            argv = [sys.executable, str(EXAMPLE), "lab", f"e{at}", str(self.file), *place]
            status, out, error = ran(self.host, argv, b"\n")
            self.assertEqual((status, error), (0, ""), out)
            lines = out.splitlines()
            self.assertEqual(lines[2], "experiment.statewait: active")
            self.assertEqual(ast.literal_eval(lines[3].partition(": ")[2])[-1], f"web.e{at}.lab")
            self.assertEqual(len(lines), 7)

    def _local_name(self, trust: Path) -> list[str]:
        """
        A host whose name is this machine's, so that a stock client can check its certificate.
        """
        own = self.site.ca.sign("localhost")
        own.write(self.site.trust, self.site.ca.pem)
        self.site.reload()
        until(lambda: self._serves("localhost"), what=self.host.said)
        return [f"https://localhost:{self.port}", str(trust)]

    def _serves(self, name: str) -> bool:
        context = context_for(self.site.ca.pem, self.ann)
        try:
            with socket.create_connection(("127.0.0.1", self.port), DEADLINE_S) as plain:
                context.wrap_socket(plain, server_hostname=name).close()
        except ssl.SSLCertVerificationError:
            return False
        return True


class CallerTests(EmulabTest):
    """
    Who may.
    """

    def test_foreigner(self) -> None:
        """
        Bob, who is no member, finds nothing of Ann's, and does nothing to it.
        """
        ann, bob = self.proxy(self.ann), self.proxy(self.site.ca.sign("bob.example"))
        which = {"proj": "lab", "exp": "exp1"}
        self.value(ann, "experiment.startexp", **which, nsfilestr=self.file.read_text(), noswapin=True)
        self.assertEqual(self.call(bob, "experiment.endexp", **which)["output"], "No such experiment: lab/exp1")
        self.assertEqual(self.value(bob, "experiment.getlist"), {})
        self.assertEqual(self.value(ann, "experiment.getlist"), {"lab": {"lab": ["exp1"]}})

    def test_certificates(self) -> None:
        """
        Without one, with one of nobody's, or with a revoked one nobody comes in; who was in by it is cut.
        """
        ann = self.proxy(self.ann)
        self.assertEqual(self.value(ann, "emulab.echo", str="a"), "a")
        for shown in (None, type(self.site.ca)().sign("urn:site:user:ann")):
            with self.assertRaises((ssl.SSLError, OSError, http.client.HTTPException)):
                self.value(self.proxy(shown), "emulab.echo", str="a")
        self.site.revoke(self.ann)
        self.site.reload()
        with self.assertRaises((ssl.SSLError, OSError, http.client.HTTPException, xmlrpc.client.Error)):
            for _ in range(50):
                self.value(ann, "emulab.echo", str="a")
                time.sleep(0.1)
        with self.assertRaises((ssl.SSLError, OSError, http.client.HTTPException, xmlrpc.client.Error)):
            self.value(self.proxy(self.ann), "emulab.echo", str="a")

    def test_doctor(self) -> None:
        """
        Where it is answered is told.
        """
        self.assertIn(f"speak XML-RPC, come in at 127.0.0.1:{self.port}", self.site.finding()["detail"])


class HostileTests(EmulabTest):
    """
    Those who mean no good.
    """

    def unix(self) -> socket.socket:
        """
        A connection to the host's own socket for this.
        """
        found = socket.socket(socket.AF_UNIX)
        self.addCleanup(found.close)
        found.settimeout(DEADLINE_S)
        found.connect(str(self.calls))
        return found

    def whole(self, connection: socket.socket) -> bytes:
        """
        @return: one answer.
        """
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.read()

    def test_bombs(self) -> None:
        """
        Bombs of entities, depth, size and garbage are refused in time, and the daemon stays small and serves others.
        """
        before = self.host.rss()
        nested = b"<value><array><data>" * 100_000
        bomb = b"<!DOCTYPE a [<!ENTITY a '" + b"x" * 50_000 + b"'>]><methodCall>" + b"&a;" * 100_000
        call = b"<methodCall><methodName>a</methodName><params><param>"
        many = b"<value><i4>1</i4></value>" * 150_000
        for body in (bomb, call + nested, call + b"<value><array><data>" + many, os.urandom(100_000), b"<" * 4_000_000):
            begun = time.monotonic()
            connection = self.unix()
            connection.sendall(posted(body))
            self.assertIn(b"<name>faultCode</name>", self.whole(connection))
            self.assertLess(time.monotonic() - begun, 25)
        self.host.ask("ping")
        self.assertLess(self.host.rss() - before, 100 << 20)

    def test_others(self) -> None:
        """
        While big bodies are read, lines are answered as if nothing was.
        """
        many = b"<value><i4>1</i4></value>" * 150_000
        body = b"<methodCall><methodName>a</methodName><params><param>" + many
        flooding = [self.unix() for _ in range(scaled(4, 20))]
        for one in flooding:
            one.sendall(posted(body))
        slowest = 0.0
        with self.host.client() as client:
            until_s = time.monotonic() + 2
            while time.monotonic() < until_s:
                begun = time.monotonic()
                client.ask("ping")
                slowest = max(slowest, time.monotonic() - begun)
                time.sleep(0.002)
        self.assertLess(slowest, 1.0)
        for one in flooding:
            self.whole(one)

    def test_slow(self) -> None:
        """
        Those who send a byte now and then hold nobody up, and go when their time is over.
        """
        self.host.configure("[limits]\nline_seconds = 1.0\n")
        self.site.reload()
        until(lambda: "line_seconds" in self.host.said())
        slow = [self.unix() for _ in range(20)]
        begun = time.monotonic()
        for one in slow:
            one.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n")
        fast = self.unix()
        fast.sendall(posted(called("emulab.echo", 0.1, {"str": "x"})))
        self.assertIn(b"<string>x</string>", self.whole(fast))
        for one in slow:
            self.assertTrue(one.recv(100).startswith(b"HTTP/1.1 408"))
        self.assertGreater(time.monotonic() - begun, 0.9)

    def test_waiting(self) -> None:
        """
        Who waits for a state blocks nobody, on no connection; hung up, he holds nothing.
        """
        self.host.ask(f"create_experiment lab/exp1 {self.file.read_text()!r}")
        which = {"proj": "lab", "exp": "exp1"}
        waiting = [self.unix() for _ in range(scaled(20, 100))]
        for one in waiting:
            one.sendall(posted(called("experiment.statewait", 0.1, {**which, "state": "active"})))
        fast = self.unix()
        fast.sendall(posted(called("experiment.state", 0.1, which)))
        self.assertIn(b"<string>swapped</string>", self.whole(fast))
        half = len(waiting) // 2
        for one in waiting[:half]:
            one.close()
        until(lambda: self.host.ask("host_status")["daemon"]["connections"] <= len(waiting) - half + 2)
        self.host.ask("swap_in lab/exp1")
        for one in waiting[half:]:
            self.assertIn(b"<string>active</string>", self.whole(one))


class CommandTests(EmulabTest):
    """
    Emulab's commands, at a shell.
    """

    def test_life(self) -> None:
        """
        startexp, swapexp, expwait, expinfo, node_list, node_reboot, modexp, endexp.
        """
        status, out, error = self.hostline("startexp", "-f", "-a", "600", "-p", "lab", "-e", "exp1", str(self.file))
        self.assertEqual((status, out, error), (0, "lab/exp1 is swapped\n", ""))
        self.assertEqual(self.host.ask("activity lab/exp1")["most"], 36000.0)
        again = self.hostline("startexp", "-p", "lab", "-e", "exp1", str(self.file))
        self.assertEqual(again[:2], (2, ""))
        self.assertIn("exists", again[2])
        self.assertEqual(self.hostline("node_list", "-e", "lab,exp1", "-v"), (2, "Experiment is not active!\n", ""))
        self.assertEqual(self.hostline("swapexp", "-w", "-e", "lab,exp1", "in"), (0, "lab/exp1 is active\n", ""))
        self.assertEqual(self.hostline("expwait", "-t", "5", "lab/exp1", "active"), (0, "", ""))
        self.assertEqual(self.hostline("expwait", "--nodes-started", "-t", "0.5", "-e", "lab,exp1")[0], 8)
        self.assertEqual(self.hostline("node_list", "-e", "lab,exp1", "-c"), (0, "db   probe   web\n", ""))
        self.assertEqual(self.hostline("node_list", "-e", "lab,exp1", "-v"), (0, "pnode-0000\n", ""))
        out = self.hostline("expinfo", "-n", "-m", "lab", "exp1")[1]
        self.assertIn("Experiment: lab/exp1\nState: active\n", out)
        self.assertRegex(out, r"\nweb {13}process {22}web.exp1.lab\n")
        self.assertIn("start command: ended, exit status 7", out)
        before = self.host.ask("experiment lab/exp1")["nodes"]
        self.assertEqual(self.hostline("node_reboot", "-w", "web.exp1.lab")[0], 0)
        self.file.write_text(topology({**NODES, "more": "", "web": "exit 8"}))
        status, out, error = self.hostline("modexp", "-w", "-e", "lab,exp1", str(self.file))
        self.assertEqual((status, out), (0, "added: more\nchanged: web\nkept: db, probe\n"), error)
        after = self.host.ask("experiment lab/exp1")["nodes"]
        self.assertEqual(before["db"]["pid"], after["db"]["pid"])
        self.assertEqual(self.hostline("swapexp", "lab", "exp1", "out", "-w")[:2], (0, "lab/exp1 is swapped\n"))
        self.assertEqual(self.hostline("endexp", "-w", "-e", "lab,exp1")[:2], (0, "lab/exp1 is gone\n"))
        self.assertEqual(self.hostline("expinfo", "lab", "exp1")[0], 2)
        self.assertEqual(self.host.processes(), set())

    def test_usage(self) -> None:
        """
        What makes no sense is 255, with the usage; the row of the same name still does what it did.
        """
        for words in (
            ["startexp"],
            ["swapexp", "-e", "lab,exp1"],
            ["swapexp", "-e", "lab,exp1", "up"],
            ["swapexp", "-x", "-e", "lab,exp1", "in"],
            ["expinfo"],
            ["expwait", "-t", "x", "lab/exp1", "active"],
            ["node_reboot", "-w"],
            ["node_reboot", "web.exp1"],
            ["delay_config", "-e", "lab,exp1", "lan0", "BANDWIDTH"],
            ["delay_config", "-e", "lab,exp1", "lan0", "SPEED=3"],
            ["qemu_experiment", "lab", "exp1", str(self.file), "x"],
            ["node_list", "-v"],
            ["nscheck", "/no/such/file"],
        ):
            status, out, error = self.hostline(*words)
            self.assertEqual((status, out), (255, ""), words)
            self.assertIn("usage: ", error)
        self.host.ask(f"create_experiment lab/exp1 {self.file.read_text()!r} swap_in=True")
        self.assertEqual(self.hostline("node_reboot", "lab/exp1", "web")[0], 0)
        self.assertEqual(self.hostline("node_reboot", "-e", "lab,exp1")[0], 0)

    def test_nscheck(self) -> None:
        """
        A good topology is 0, another 2 with its lines.
        """
        self.assertEqual(self.hostline("nscheck", str(self.file)), (0, "", ""))
        status, out, _ = self.hostline("nscheck", "-", given=b"<experiment>\n<elements>\n")
        self.assertEqual(status, 2)
        self.assertRegex(out, r"\Aline \d+: error: ")


@needs_root
class BenitoTests(SynchronousTestCase):
    """
    Benito's own command, with real machines.
    """

    @needs_tool("qemu-system-x86_64", "qemu-img")
    def test_qemuExperiment(self) -> None:
        """
        C{qemu_experiment} of an NS file: all nodes are QEMU machines, up, with their start commands' exit statuses.
        """
        host = Hosted(self, '[experiments]\nqemu_image = "tiny"\n')
        host.start()
        host.ask("add_project lab")
        guests.bring(host, "tiny")
        file = host.directory / "two.ns"
        file.write_text(_NS)
        done = ran(host, program("hostline", "qemu_experiment", "lab", "exp1", str(file), "4"))
        self.assertEqual((done[0], done[2]), (0, ""))
        host.ask("wait_for lab/exp1 active timeout=120", 130)
        host.ask("wait_for lab/exp1 started timeout=60", 70)
        status = host.ask("status_request lab/exp1")
        self.assertEqual(status, {"hv:qemu:pnode-0000": {"a": ["booted", 7], "b": ["booted", None]}})
        self.assertEqual(ran(host, program("hostline", "node_list", "-e", "lab,exp1", "-c")), (0, "a   b\n", ""))
        self.assertEqual(ran(host, program("hostline", "endexp", "-w", "lab/exp1"))[0], 0)
        self.assertEqual(host.processes(), set())
