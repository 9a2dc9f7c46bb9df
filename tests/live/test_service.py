"""
The daemon as a service: how it starts, what each signal does, who it runs as, beside whom.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Any

from tests.live.hosted import ENVIRONMENT, HOSTLINED, Hosted, topology, until
from tests.live.support import DEADLINE_S, living
from tests.needs import CANNOT, needs_root, needs_tool

TWISTD = str(Path(sys.executable).with_name("twistd"))
_TRANSCRIPT = {"hv:process:pnode-0000": {"web": ["booted", 3], "db": ["booted", None]}}
#: Where another interpreter finds what ours imports.
_IMPORTS = {
    **ENVIRONMENT,
    "PYTHONPATH": os.pathsep.join(
        one for one in sys.path if (one and Path(one).is_dir() and "site-packages" in one) or "twistd_plugins" in one
    ),
}
#: The loop that a daemon says it runs on.
_LOOP = re.compile("the reactor runs on (\\w+)")


class ServiceTest(unittest.TestCase):
    """
    Experiments as people have them.
    """

    def fill(self, host: Hosted) -> dict[str, Any]:
        host.ask("add_project lab")
        text = topology({"web": "exit 3", "db": None})
        body = host.ask(f"create_experiment lab/demo {text} swap_in=True")
        until(lambda: host.ask("status_request lab/demo") == _TRANSCRIPT, 10)
        return {node: one["pid"] for node, one in host.ask("experiment lab/demo")["nodes"].items()} | {
            "state": body["state"]
        }

    def run_to_end(self, argv: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(argv, capture_output=True, timeout=DEADLINE_S, env=ENVIRONMENT, cwd="/", check=False)

    def slice_works(self, host: Hosted, ended: int = 0) -> None:
        """
        From a project to nothing left over.

        @param ended: what SIGTERM ends the daemon with.
        """
        self.fill(host)
        self.assertEqual([one["node"] for one in host.ask("node_reboot lab/demo web")], ["web"])
        host.ask("swap_out lab/demo")
        self.assertEqual(host.ask("status_request lab/demo"), {})
        host.ask("terminate lab/demo")
        until(lambda: not host.left_over(), 5, host.left_over)
        self.assertEqual(host.stop(), ended)
        self.assertEqual(host.tracebacks(), "")


class Asked(ServiceTest):
    """
    By the programs that people have.
    """

    @needs_tool("socat")
    def test_socatGetsTheStatus(self) -> None:
        """
        C{printf 'status_request lab/demo\\n' | socat - UNIX:SOCKET} prints the status, as C{ast.literal_eval} reads it.
        """
        host = Hosted(self)
        host.start()
        self.fill(host)
        asked = subprocess.run(
            ["socat", "-", f"UNIX:{host.socket}"], input=b"status_request lab/demo\n", capture_output=True, timeout=10
        )
        word, _, body = asked.stdout.decode("ascii").partition(" ")
        self.assertEqual((word, ast.literal_eval(body)), ("status_reply", _TRANSCRIPT))
        self.assertEqual(asked.stdout.count(b"\n"), 1)

    def test_theForwardShellGetsTheStatus(self) -> None:
        """
        C{hostline-shell -c 'status_request lab/demo'} prints the same, and so does what is piped into it.
        """
        host = Hosted(self)
        host.start()
        self.fill(host)
        shell = [sys.executable, "-m", "hostline.clients.forward", "--socket", str(host.socket)]
        request = "status_request lab/demo"
        asked = self.run_to_end([*shell, "-c", request])
        piped = subprocess.run(shell, input=f"{request}\n".encode(), capture_output=True, timeout=10, env=ENVIRONMENT)
        self.assertEqual((asked.returncode, piped.returncode), (0, 0))
        self.assertEqual(asked.stdout, piped.stdout)
        word, _, body = asked.stdout.decode("ascii").partition(" ")
        self.assertEqual((word, ast.literal_eval(body)), ("status_reply", _TRANSCRIPT))

    @needs_tool("socat")
    def test_whatWasPipedInIsAnsweredBeforeTheEnd(self) -> None:
        """
        A swap-in piped in, with its input already ended, is answered when it is done, and then what came after it.
        """
        host = Hosted(self)
        host.start()
        host.ask("add_project lab")
        host.ask(f"create_experiment lab/demo {topology({f'n{n}': None for n in range(20)})}")
        asked = subprocess.run(
            ["socat", "-t", "30", "-", f"UNIX:{host.socket}"],
            input=b"swap_in lab/demo\nstatus_request lab/demo\n",
            capture_output=True,
            timeout=40,
        )
        first, second = asked.stdout.decode("ascii").splitlines()
        self.assertTrue(first.startswith("swap_in_reply {'name': 'lab/demo'"), first[:100])
        nodes = ast.literal_eval(second.partition(" ")[2])["hv:process:pnode-0000"]
        self.assertEqual(nodes, {f"n{n}": ["booted", None] for n in range(20)})


class Signals(ServiceTest):
    """
    What the daemon is told by signals.
    """

    def test_termEndsTheDaemonAndNotItsNodes(self) -> None:
        """
        After SIGTERM the daemon is gone, with its socket, in good order; its nodes run on, and the next one has them.
        """
        host = Hosted(self)
        host.start()
        pids = self.fill(host)
        self.assertEqual(host.stop(), 0)
        self.assertFalse(host.socket.exists())
        self.assertTrue(living(pids["web"]) and living(pids["db"]))
        host.start()
        nodes = host.ask("experiment lab/demo")["nodes"]
        self.assertEqual({name: one["pid"] for name, one in nodes.items()}, {"web": pids["web"], "db": pids["db"]})
        self.assertEqual(host.ask("status_request lab/demo"), _TRANSCRIPT)

    def test_termWhileItStartsAndWhileItWorks(self) -> None:
        """
        SIGTERM a moment after the start, or in the middle of a swap-in, ends it just as well, and nothing is lost.
        """
        host = Hosted(self)
        host.start()
        host.ask("add_project lab")
        with host.client() as client:
            client.ask(f"create_experiment lab/demo {topology({f'n{n}': None for n in range(20)})} swap_in=True wait=0")
        self.assertEqual(host.stop(), 0)
        for pause in (0.15, 0.2, 0.25, 0.3):
            host.launch()
            time.sleep(pause)
            self.assertIn(host.stop(), (0, -signal.SIGTERM))
        host.start()
        host.ask("wait_for lab/demo active")
        self.assertEqual(len(host.processes()), 40)
        self.assertEqual(host.tracebacks(), "")

    def test_hupReadsTheConfigurationAgain(self) -> None:
        """
        SIGHUP takes over what the file says now; log and event tell what changed, and what wants a restart.
        """
        host = Hosted(self, "[limits]\nconnections = 900\n")
        host.start()
        with host.client() as client:
            client.ask("watch host")
            host.configure("[limits]\nconnections = 3\noperator_connections = 0\nline_bytes = 5000\n")
            os.kill(host.pid, signal.SIGHUP)
            word, event = client.reply()
            self.assertEqual((word, event["topic"], event["what"]), ("event", "host", "configuration"))
            self.assertEqual(event["changed"]["limits.connections"], [900, 3])
            self.assertEqual(event["wants_restart"], ["limits.line_bytes"])
            two, three = host.client(), host.client()
            self.addCleanup(two.close)
            self.addCleanup(three.close)
            two.ask("ping")
            three.ask("ping")
            with host.client() as four:
                self.assertEqual(four.reply()[1]["code"], "TOO_MANY")
        self.assertIn("limits.connections 900 -> 3", host.said())

    def test_hupWithABadFileKeepsTheOldOne(self) -> None:
        """
        A mistake in the file changes nothing; the log names it with its place.
        """
        host = Hosted(self, "[limits]\nconnections = 5\n")
        host.start()
        for bad, said in (("[limits]\nconections = 3\n", "did you mean connections"), ("[limits\n", "line 1")):
            host.configure(bad)
            os.kill(host.pid, signal.SIGHUP)
            until(lambda said=said: said in host.said(), 5, host.said)  # type: ignore[misc]
        self.assertIn("stays as it was", host.said())
        clients = [host.client() for _ in range(5)]
        for client in clients:
            self.addCleanup(client.close)
            client.ask("ping")

    def test_logRotationIsNoEnd(self) -> None:
        """
        Signals that mean nothing to the daemon, and a closed terminal's, do not end it.
        """
        host = Hosted(self)
        host.start()
        with host.client() as client:
            for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGWINCH):
                os.kill(host.pid, number)
                client.ask("ping")
        self.assertEqual(host.stop(), 0)


class Starting(ServiceTest):
    """
    With one daemon there already, or none.
    """

    def assertRefuses(self, argv: list[str], said: str) -> None:
        ended = self.run_to_end(argv)
        self.assertNotEqual(ended.returncode, 0)
        lines = ended.stderr.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertIn(said, lines[0])

    def test_aSecondDaemonOnTheSameStateSaysSoAndEnds(self) -> None:
        """
        Whichever way it is started: a status that is not 0, one line that names the first; the first one serves on.
        """
        host = Hosted(self)
        host.start()
        state = ["--state", str(host.state)]
        said = f"another hostline (pid {host.pid}) runs on {host.state}"
        self.assertRefuses([*HOSTLINED, *state], said)
        self.assertRefuses([TWISTD, "-n", "--pidfile=", "hostline", *state], said)
        pidfile = host.directory / "pid"
        self.assertRefuses([TWISTD, f"--pidfile={pidfile}", f"--logfile={host.log}", "hostline", *state], said)
        self.assertFalse(pidfile.exists())
        self.assertTrue(host.socket.exists())
        host.ask("ping")

    def test_aSocketThatAnotherProgramHas(self) -> None:
        """
        A daemon never takes over a socket at which somebody answers, nor a file that is none.
        """
        first, second = Hosted(self), Hosted(self)
        first.start()
        self.assertRefuses([*second.argv, "--socket", str(first.socket)], "another program answers")
        self.assertRefuses([*second.argv, "--socket", str(first.config)], "is no socket")
        first.ask("ping")
        self.assertTrue(first.config.exists())

    @needs_root
    def test_twoDaemonsDoNotShareUids(self) -> None:
        """
        Of two root daemons with uids in common the second does not start, and says what to set.
        """
        first, second = Hosted(self), Hosted(self)
        second.uid_first = first.uid_first + 1999
        second.configure("")
        first.start()
        self.assertRefuses(second.argv, "slivers.uid_first")

    def test_check(self) -> None:
        """
        C{--check} says whether a daemon could start, and starts none.
        """
        host = Hosted(self, "[limits]\nconnections = 5\n")
        good = self.run_to_end([*host.argv, "--check"])
        self.assertEqual((good.returncode, good.stderr), (0, b""))
        self.assertIn(str(host.state), good.stdout.decode())
        self.assertFalse(host.socket.exists())
        for bad, said in (
            ("[limits]\nconnections = 'many'\n", "limits.connections: want int"),
            ("[limits]\nconnections = 0\n", "limits.connections: want a number from 1"),
            ("operator = 'x'\n", "did you mean operators"),
            ("=\n", "line 1"),
        ):
            with self.subTest(said):
                host.configure(bad)
                self.assertRefuses([*host.argv, "--check"], said)
        host.configure("")
        host.start()
        self.assertEqual(self.run_to_end([*host.argv, "--check"]).returncode, 0)
        host.kill()
        for path in host.state.glob("host.db*"):
            path.write_bytes(b"no database " * 1000)
        self.assertRefuses([*host.argv, "--check"], "damaged")

    def test_twistdInTheForeground(self) -> None:
        """
        C{twistd -n hostline} serves like C{hostlined}.
        """
        host = Hosted(self, argv=[TWISTD, "-n", "--pidfile=", "hostline"])
        host.start()
        self.slice_works(host, -signal.SIGTERM)  # twistd sends itself again what it was ended by

    def test_twistdAsADaemon(self) -> None:
        """
        C{twistd hostline} serves from the background, with uids, watching its nodes; SIGTERM ends it and not them.
        """
        host = Hosted(self)
        pidfile = host.directory / "pid"
        forked = [TWISTD, f"--pidfile={pidfile}", f"--logfile={host.log}", "hostline", *host.argv[len(HOSTLINED) :]]
        self.assertEqual(self.run_to_end(forked).returncode, 0)
        until(host.socket.exists)
        pid = int(pidfile.read_text())
        self.addCleanup(_kill, pid)
        host.answering()
        pids = self.fill(host)
        os.kill(pids["db"], signal.SIGKILL)
        until(lambda: host.ask("status_request lab/demo")["hv:process:pnode-0000"]["db"] == ["dead", 137], 5)
        os.kill(pid, signal.SIGTERM)
        until(lambda: not living(pid))
        self.assertTrue(living(pids["web"]))
        self.assertFalse(host.socket.exists())
        self.assertEqual(host.tracebacks(), "")

    def test_withoutUvloop(self) -> None:
        """
        Where uvloop is not installed, asyncio's own loop serves as well.
        """
        for without in (True, False):
            with self.subTest(without=without):
                host = Hosted(self)
                stub = host.directory / "stub"
                stub.mkdir()
                (stub / "uvloop.py").write_text("raise ImportError('not installed')\n")
                if without:
                    path = os.pathsep.join(filter(None, [str(stub), ENVIRONMENT.get("PYTHONPATH")]))
                    host = Hosted(self, environment={**ENVIRONMENT, "PYTHONPATH": path})
                host.start()
                loop = _LOOP.search(str(host.ask("doctor")))
                self.assertEqual(loop is not None and loop[1] == "asyncio", without or not _has_uvloop())
                self.slice_works(host)


class Beside(ServiceTest):
    """
    Somebody else's daemon on the same host.
    """

    def test_twoDaemonsDoNotTouchEachOther(self) -> None:
        """
        With two states on one host, and the same names and serials in both, what one ends is its own.
        """
        hosts = [Hosted(self), Hosted(self)]
        for host in hosts:
            host.start()
        first, second = (self.fill(host) for host in hosts)
        hosts[0].ask("node_reboot lab/demo web db")
        hosts[0].ask("terminate lab/demo")
        hosts[0].kill()
        hosts[0].start()
        time.sleep(0.2)
        self.assertTrue(living(second["web"]) and living(second["db"]))
        self.assertFalse(living(first["web"]) or living(first["db"]))
        self.assertEqual(hosts[1].ask("status_request lab/demo"), _TRANSCRIPT)
        self.assertEqual(hosts[1].ask("experiment lab/demo")["nodes"]["db"]["pid"], second["db"])


@needs_root
@needs_tool("setpriv")
class Unprivileged(ServiceTest):
    """
    A daemon of somebody who is not root, on root's host.
    """

    uid = 23456

    def setUp(self) -> None:
        python = _interpreter(self.uid)
        if python is None:
            self.skipTest(f"{CANNOT}no Python of this version that an ordinary user may run")
        self.python = python
        argv = [*_become(self.uid), python, "-S", *HOSTLINED[1:]]
        self.host = Hosted(self, argv=argv, environment=_IMPORTS)
        os.chown(self.host.directory, self.uid, self.uid)
        self.host.directory.chmod(0o711)
        os.chown(self.host.config, self.uid, self.uid)

    def test_everythingWorks(self) -> None:
        """
        The whole way of an experiment, as an ordinary user, who is its operator; status says what is missing.
        """
        self.host.start()
        with self.host.client() as client:
            self.assertIn("operator", client.ask("whoami")["roles"])
        pids = self.fill(self.host)
        self.assertEqual(Path(f"/proc/{pids['db']}").stat().st_uid, self.uid)
        problems = self.host.ask("experiment lab/demo")["nodes"]["db"]["problems"]
        self.assertIn("no uid of its own: the daemon does not run as root", problems)
        self.assertTrue([one for one in problems if one.startswith("limits not applied")], problems)
        self.assertTrue([one for one in self.host.ask("host_status")["problems"] if "does not run as root" in one])
        self.host.ask("terminate lab/demo")
        self.slice_again()

    def slice_again(self) -> None:
        self.host.ask(f"create_experiment lab/demo {topology({'web': 'exit 3', 'db': None})} swap_in=True")
        before = {one["node"]: one["pid"] for one in self.host.ask("experiment lab/demo")["nodes"].values()}
        self.host.kill()
        os.kill(before["db"], signal.SIGKILL)
        self.host.start()
        nodes = self.host.ask("experiment lab/demo")["nodes"]
        self.assertEqual(nodes["web"]["pid"], before["web"])
        until(lambda: self.host.ask("status_request lab/demo")["hv:process:pnode-0000"]["db"][0] == "dead", 5)
        self.host.ask("terminate lab/demo")
        until(lambda: not self.host.left_over(), 5, self.host.left_over)
        self.assertEqual(self.host.stop(), 0)
        self.assertEqual(self.host.tracebacks(), "")

    def test_othersMayNotAsk(self) -> None:
        """
        Its socket is its user's own: another ordinary user cannot even connect.
        """
        self.host.start()
        ended = subprocess.run(
            [*_become(34567), self.python, "-c", _CONNECT, str(self.host.socket)],
            capture_output=True,
            timeout=10,
        )
        self.assertIn(b"PermissionError", ended.stderr)


_PROBE = """
import twisted.internet.reactor, hostline.server.tap, subprocess, sys
subprocess.run([sys.executable, "-c", ""], check=True)
"""
_CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


def _become(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def _interpreter(uid: int) -> str | None:
    """
    @return: a Python that an ordinary user may run, with all that the daemon imports: ours may be in root's home.
    """
    same = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for program in (sys.executable, f"/usr/bin/{same}", f"/usr/local/bin/{same}"):
        argv = [*_become(uid), program, "-S", "-c", _PROBE]
        if subprocess.run(argv, capture_output=True, env=_IMPORTS, cwd="/").returncode == 0:
            return program
    return None


def _has_uvloop() -> bool:
    with contextlib.suppress(ImportError):
        import uvloop

        return bool(uvloop)
    return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
