"""
Delegates through a real sshd: accounts that the daemon makes, for which distributions' sshd_config is as it comes.
"""

from __future__ import annotations

import ast
import os
import pwd
import shutil
import socket
import subprocess
import threading
import unittest
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, cast

from tests import needs
from tests.live.hosted import DELEGATE_UIDS, DELEGATES, SLIVERS, Hosted, topology, until
from tests.live.sshd import Sshd
from tests.live.support import DEADLINE_S
from tests.scale import scaled

_NUMBER = os.getpid() % 100000
_NAME = f"d{_NUMBER}_"
MON, SPY, OTHER = f"{_NAME}mon", f"{_NAME}spy", f"{_NAME}oth"
STATUS = "status_request lab/demo"
#: Where a door that should be shut would lead.
SECRET = b"somebody came through\n"
_FILES = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid", "/etc/shells")


def read(lines: bytes) -> list[tuple[str, Any]]:
    """
    @return: words and bodies of reply lines.
    """
    found = []
    for line in lines.decode("ascii").splitlines():
        word, _, body = line.partition(" ")
        found.append((word, ast.literal_eval(body)))
    return found


def words(lines: bytes) -> list[str]:
    return [word for word, _ in read(lines)]


def lines_of(path: str, state: Path | None = None) -> list[str]:
    """
    @param state: of the daemon whose delegates are ours.
    @return: the lines of one of the host's files, without those of other daemons' delegates and accounts.
    """
    ours = Path("/nowhere") if state is None else state
    others = set()
    for file in ("/etc/passwd", "/etc/group"):
        for words in (line.split(":") for line in Path(file).read_text().splitlines()):
            if not words[0].startswith(_NAME) and any(int(words[2]) in uids for uids in (DELEGATES, SLIVERS)):
                others.add(words[0])
    found = Path(path).read_text().splitlines(keepends=True)
    return [
        one
        for one in found
        if one.split(":")[0] not in others and (one.startswith(str(ours)) or "/delegates/shell/" not in one)
    ]


class _AllTests:
    """
    All tests of a class, as one test to those who clean up behind it.
    """

    def __init__(self, tests: type[unittest.TestCase]) -> None:
        self.addCleanup = tests.addClassCleanup


@needs.needs_root
@needs.needs_tool("useradd", "ssh", "sftp", "scp", "ssh-keygen", "sshd")
class Delegated(unittest.TestCase):
    """
    A daemon with the experiment lab/demo and the sliver lab_web, an sshd, and at the end nothing left of them.
    """

    config: ClassVar[dict[str, str]] = {}
    files: ClassVar[dict[str, list[str]]]
    host: ClassVar[Hosted]
    sshd: ClassVar[Sshd]

    @classmethod
    def setUpClass(cls) -> None:
        cls.files = {path: lines_of(path) for path in _FILES if Path(path).exists()}
        case = cast("unittest.TestCase", _AllTests(cls))
        cls.host, cls.sshd = Hosted(case), Sshd(case, cls.config)
        cls.host.start()
        nodes = topology({"web": "exit 0", "db": "exit 3"})
        cls.host.ask("add_project lab")
        cls.host.ask(f"create_experiment lab/demo {nodes} swap_in=True wait=30")
        until(lambda: "running" not in str(cls.host.ask(STATUS)))

    def setUp(self) -> None:
        self.addCleanup(self.remove_all)

    def remove_all(self) -> None:
        for one in self.host.ask("delegates"):
            self.host.ask(f"remove_delegate {one['name']}")

    def add(
        self,
        name: str = MON,
        commands: Iterable[str] = ("status_request",),
        slivers: Iterable[str] = ("lab/demo",),
        keys: Iterable[str] | None = None,
    ) -> dict[str, Any]:
        """
        @return: the delegate.
        """
        keys = [self.sshd.key] if keys is None else list(keys)
        request = f"add_delegate {name} keys={keys!r} commands={list(commands)!r} slivers={list(slivers)!r}"
        added: dict[str, Any] = self.host.ask(request)
        self.assertEqual(added["problems"], [])
        return added

    def ssh(self, *request: str, user: str = MON, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return self.sshd.ssh(user, *request, **more)

    def assertAnswered(self, done: subprocess.CompletedProcess[bytes], *replies: str) -> None:
        """
        These are the reply lines, and nothing else was said.
        """
        self.assertEqual((words(done.stdout), done.stderr), (list(replies), b""))

    def assertShut(self, done: subprocess.CompletedProcess[bytes]) -> None:
        """
        sshd let nobody in.
        """
        self.assertEqual((done.returncode, done.stdout), (255, b""), done.stderr)
        self.assertIn(b"Permission denied", done.stderr)

    def processes(self) -> set[int]:
        """
        @return: all that have any uid of a delegate.
        """
        uids = range(self.host.delegate_first, self.host.delegate_first + DELEGATE_UIDS)
        found = set()
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                if any(int(word) in uids for word in lines["Uid"].split()) and "Z" not in lines["State"]:
                    found.add(int(status.parent.name))
        return found

    def assertNothingLeft(self) -> None:
        """
        Not in the host's files, not in the state, no process.
        """
        until(lambda: not self.processes(), what=self.processes)
        # Other tests' accounts come and go, and are in one of the files a moment longer than in the next.
        for path, before in self.files.items():
            until(lambda p=path, b=before: lines_of(p, self.host.state) == b, 2, lambda p=path: (p, lines_of(p)))  # type: ignore[misc]
        self.assertFalse((self.host.state / "delegates").exists())
        self.assertEqual(self.host.ask("delegates"), [])


class ShowTests(Delegated):
    """
    What a delegate can do, and what is not open to it.
    """

    def setUp(self) -> None:
        super().setUp()
        self.add(commands=["status_request", "wait_for"])

    def test_answersTheSameEitherWay(self) -> None:
        """
        A request on standard input or as ssh's arguments: the same reply line.
        """
        piped = self.ssh(input=f"{STATUS}\n".encode())
        said = self.ssh(*STATUS.split())
        self.assertAnswered(said, "status_reply")
        self.assertEqual((said.stdout, said.returncode), (piped.stdout, piped.returncode))
        self.assertEqual(said.returncode, 0)
        (nodes,) = read(said.stdout)[0][1].values()
        self.assertEqual(nodes, {"web": ["booted", 0], "db": ["booted", 3]})

    def test_answersManyInOrder(self) -> None:
        """
        1,000 requests in one go are answered each, in their order.
        """
        lines = b"".join(
            b"@t%d %s\n" % (n, b"ping" if n % 3 else STATUS.encode()) if n % 2 else b"ping\n" for n in range(1000)
        )
        done = self.ssh(input=lines)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        replies = done.stdout.splitlines()
        self.assertEqual(len(replies), 1000)
        tags = [line.split()[0] for line in replies if line.startswith(b"@")]
        self.assertEqual(tags, [b"@t%d" % n for n in range(1, 1000, 2)])

    def test_mayDoWhatItWasGranted(self) -> None:
        """
        Another command, or another experiment, is answered as what does not exist.
        """
        self.host.ask(f"create_experiment lab/other {topology({'web': None})}")
        for request in ("status_request lab/other", "swap_out lab/demo", "experiment lab/demo"):
            done = self.ssh(*request.split())
            self.assertEqual((read(done.stdout)[0][1]["code"], done.returncode), ("NO_SUCH_EXPERIMENT", 1), request)
        for request in ("add_user mal operator=True", f"set_delegate {MON} commands=ping", "doctor"):
            self.assertEqual(words(self.ssh(*request.split()).stdout), ["error_reply"], request)
        self.assertEqual([one["name"] for one in self.host.ask("users")], [])

    def test_isAnAccountThatOwnsNothing(self) -> None:
        """
        No password fits, the home is root's, the shell is listed, and sshd need not be told to be lax.
        """
        account = pwd.getpwnam(MON)
        (shown,) = self.host.ask("delegates")
        self.assertEqual((account.pw_uid, account.pw_gid), (shown["uid"], shown["uid"]))
        self.assertEqual(account.pw_gecos, f"hostline {self.host.instance}/delegate-{shown['serial']}")
        shadow = next(line for line in Path("/etc/shadow").read_text().splitlines() if line.startswith(f"{MON}:"))
        self.assertEqual((shadow.split(":")[1], shadow.split(":")[7]), ("*", ""))
        self.assertIn(account.pw_shell, Path("/etc/shells").read_text().splitlines())
        for path, mode in (("", 0o755), (".ssh", 0o755), (".ssh/authorized_keys", 0o644)):
            about = (Path(account.pw_dir) / path).lstat()
            self.assertEqual((about.st_uid, about.st_gid, about.st_mode & 0o7777), (0, 0, mode), path)
        keys = (Path(account.pw_dir) / ".ssh/authorized_keys").read_text()
        self.assertEqual(keys, f'restrict,command="hostline-shell" {self.sshd.key}\n')

    def test_runsNoOtherProgram(self) -> None:
        """
        What would be a command elsewhere is a request that there is none for.
        """
        for command in (
            ["sh"],
            ["/bin/sh", "-c", "id"],
            ["id;", "id"],
            ["$(id)"],
            ["`id`"],
            ["hostline-shell"],
        ):
            done = self.ssh(*command, input=b"id\n")
            self.assertAnswered(done, "error_reply")
            self.assertNotEqual(done.returncode, 0)

    def test_refusesFiles(self) -> None:
        """
        Neither sftp nor scp, old or new, reads or writes a file, though sshd has a subsystem for it.
        """
        local = self.sshd.directory / "local"
        local.write_bytes(SECRET)
        (self.sshd.directory / "open").mkdir()
        (self.sshd.directory / "open").chmod(0o777)
        self.sshd.directory.chmod(0o755)
        target = self.sshd.directory / "open" / "target"
        tries = [
            self.ssh(program="sftp", options=["-b", "-"], input=f"put {local} {target}\nls /\n".encode()),
            self.ssh(str(local), f"HOST:{target}", program="scp"),
            self.ssh("-O", str(local), f"HOST:{target}", program="scp"),
            self.ssh("HOST:/etc/passwd", str(target), program="scp"),
            self.ssh("-O", "HOST:/etc/passwd", str(target), program="scp"),
            self.ssh("sftp", options=["-s"], input=b"\0\0\0\5\1\0\0\0\3"),
        ]
        for done in tries:
            self.assertNotEqual(done.returncode, 0, done)
            self.assertFalse(target.exists(), done)
        self.assertAnswered(tries[-1], "error_reply")
        # The same by an account without the forced command would work: that the test can fail is shown by it.
        self.open_up()
        self.ssh(program="sftp", options=["-b", "-"], input=f"put {local} {target}\n".encode())
        self.assertEqual(target.read_bytes(), SECRET)

    def open_up(self) -> None:
        """
        Let the key in without restrictions, until the end of the test, by a file that is not the daemon's: what is open
        now shows that what was shut before could be seen to be open.
        """
        self.sshd.directory.chmod(0o755)
        keys = self.sshd.directory / "all_keys"
        keys.write_text(self.sshd.key + "\n")
        self.addCleanup(self.sshd.configure, {"AuthorizedKeysFile": "", "StrictModes": "yes"})
        self.sshd.configure({"AuthorizedKeysFile": str(keys), "StrictModes": "no"})

    def forwarded(self, kind: str) -> bytes:
        """
        Try to get through a forwarding.

        @param kind: C{-L}, C{-R} or C{-D}.
        @return: what came out at its end.
        """
        served = socket.create_server(("127.0.0.1", 0))
        served.settimeout(DEADLINE_S)
        self.addCleanup(served.close)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with served.accept()[0] as connection:
                        connection.sendall(SECRET)

        threading.Thread(target=serve, daemon=True).start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        to = f"{port}:127.0.0.1:{served.getsockname()[1]}"
        where = [kind, str(port) if kind == "-D" else to]
        with subprocess.Popen(
            self.sshd.argv(MON, options=[*where, "-N"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            try:
                return self.through(client, port, served.getsockname()[1] if kind == "-D" else None)
            finally:
                client.kill()

    def through(self, client: subprocess.Popen[bytes], port: int, beyond: int | None) -> bytes:
        """
        @param beyond: the port that is asked for by SOCKS; None: there is none to ask for.
        @return: what comes from a port of ssh's own, if it ever listens there.
        """
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.settimeout(5)
                if beyond is not None:
                    connection.sendall(b"\4\1" + beyond.to_bytes(2, "big") + b"\x7f\0\0\1\0")
                found = b""
                while more := connection.recv(1000):
                    found += more
                return found[8:] if beyond is not None else found
            if client.poll() is not None:
                break
            with suppress(subprocess.TimeoutExpired):
                client.wait(0.05)
        return b""

    def test_forwardsNoPorts(self) -> None:
        """
        -L, -R and -D carry no byte, in either direction.
        """
        for kind in ("-L", "-R", "-D"):
            self.assertEqual(self.forwarded(kind), b"", kind)
        self.open_up()
        for kind in ("-L", "-R", "-D"):
            self.assertEqual(self.forwarded(kind), SECRET, kind)

    def test_forwardsNoStandardInput(self) -> None:
        """
        -W, by which other hosts are reached through this one, is refused.
        """
        with socket.create_server(("127.0.0.1", 0)) as served:
            options = ["-W", f"127.0.0.1:{served.getsockname()[1]}"]
            done = self.ssh(options=options)
            self.assertEqual((done.returncode, done.stdout), (255, b""))
            served.settimeout(0.2)
            self.assertRaises(TimeoutError, served.accept)
            self.open_up()
            with subprocess.Popen(self.sshd.argv(MON, options=options), stdin=subprocess.PIPE) as client:
                served.settimeout(DEADLINE_S)
                served.accept()[0].close()
                client.kill()

    def test_forwardsNoSocketsNorTunnels(self) -> None:
        """
        The socket of the daemon, or any other, is reached by no other way than the shell.
        """
        place = self.sshd.directory / "forwarded"
        options = ["-L", f"{place}:{self.host.socket}", "-o", "ExitOnForwardFailure=yes", "-N"]
        with subprocess.Popen(self.sshd.argv(MON, options=options), stderr=subprocess.DEVNULL) as client:
            until(lambda: place.exists() or client.poll() is not None)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(DEADLINE_S)
                connection.connect(str(place))
                with suppress(OSError):
                    connection.sendall(b"ping\n")
                with suppress(ConnectionError):
                    self.assertEqual(connection.recv(100), b"")
            client.kill()

    def test_givesNoTerminal(self) -> None:
        """
        With -t there is no terminal: sshd says so, and a client that insists on one gives up.
        """
        done = self.ssh(*STATUS.split(), options=["-tt"])
        self.assertIn(b"PTY allocation request failed", done.stderr)
        self.assertNotIn(b"\r\n", done.stdout)
        self.open_up()
        self.assertIn(b"\r\n", self.ssh(*STATUS.split(), options=["-tt"]).stdout)

    def test_givesNoAgentNorDisplay(self) -> None:
        """
        With -A, -X and -Y there is no agent and no display: the request is answered as ever.
        """
        before = self.agents()
        for option in ("-A", "-X", "-Y"):
            self.assertEqual(self.given(option), [], option)
            self.assertEqual(self.agents(), before, option)
        self.open_up()
        self.assertIn(b"SSH_AUTH_SOCK", self.given("-A"))
        if scaled(0, 1) and shutil.which("xauth"):  # xauth waits 20 s for a lock in a home that is not its own
            self.assertIn(b"DISPLAY", self.given("-Y"))

    def given(self, option: str) -> list[bytes]:
        """
        @return: which variables sshd sets for who has a terminal, an agent or a display, as the shell has them.
        """
        agent = self.agent()
        environment = {"PATH": os.environ["PATH"], "DISPLAY": ":99", "SSH_AUTH_SOCK": agent}
        options = [option, "-o", f"IdentityAgent={agent}"]
        held = self.sshd.argv(MON, "wait_for", "lab/demo", "swapped", "timeout=60", options=options)
        with subprocess.Popen(held, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
            try:
                until(lambda: any(b"SSH_CLIENT" in one for one in self.environments()))
                return [
                    name
                    for name in (b"SSH_TTY", b"SSH_AUTH_SOCK", b"DISPLAY", b"XAUTHORITY")
                    if any(name in one for one in self.environments())
                ]
            finally:
                client.kill()
                client.wait()
                until(lambda: not self.processes())

    def environments(self) -> list[set[bytes]]:
        """
        @return: the names of the variables of each process of a delegate.
        """
        found = []
        for pid in self.processes():
            with suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found.append({one.partition(b"=")[0] for one in environ})
        return found

    def agent(self) -> str:
        """
        @return: the socket of an agent, ended with the test.
        """
        path = self.sshd.directory / "agent"
        if path.exists():
            return str(path)
        options = ["ssh-agent", "-D", "-a", str(path)]
        agent = subprocess.Popen(options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.terminate)
        until(path.exists)
        return str(path)

    def agents(self) -> list[Path]:
        """
        @return: the sockets that sshd made for agents, wherever.
        """
        return sorted(Path("/tmp").glob("ssh-*/agent.*"))

    def test_endsWithItsConnection(self) -> None:
        """
        Who hangs up while a request waits leaves no process behind.
        """
        held = self.sshd.argv(MON, "wait_for", "lab/demo", "swapped", "timeout=60")
        with subprocess.Popen(held, stdout=subprocess.PIPE) as client:
            until(lambda: len(self.processes()) > 1)
            client.kill()
        until(lambda: not self.processes(), what=self.processes)


class EnvironmentTests(Delegated):
    """
    An sshd that takes all that clients send, as no distribution's does.
    """

    config: ClassVar[dict[str, str]] = {"AcceptEnv": "*", "PermitUserEnvironment": "yes", "PermitUserRC": "yes"}

    def test_environmentAndRcFilesHaveNoEffect(self) -> None:
        """
        Variables that lead programs astray, and files in the home that sshd would run, change nothing.
        """
        self.add()
        home = Path(pwd.getpwnam(MON).pw_dir)
        trap = self.sshd.directory / "trap"
        self.sshd.directory.chmod(0o755)
        evil = self.sshd.directory / "evil"
        evil.mkdir(mode=0o755)
        for name in ("forward.py", "sitecustomize.py", "_socket.py", "select.py", "hook.py"):
            (evil / name).write_text(f"open({str(trap)!r}, 'w')\n")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(evil),
            "PYTHONHOME": str(evil),
            "PYTHONSTARTUP": str(evil / "hook.py"),
            "PYTHONINSPECT": "1",
            "BASH_ENV": str(evil / "hook.py"),
            "ENV": str(evil / "hook.py"),
            "HOME": str(evil),
            "HOSTLINE_SOCKET": str(evil / "sock"),
            "LC_ALL": "xx_XX.nonsense",
            "LANG": "tr_TR.UTF-8",
        }
        options = [word for name in environment for word in ("-o", f"SendEnv={name}")]
        before = self.ssh(*STATUS.split())
        done = self.ssh(*STATUS.split(), options=options, env=environment)
        self.assertEqual((done.stdout, done.stderr, done.returncode), (before.stdout, before.stderr, 0))
        (home / ".ssh" / "rc").write_text(f"touch {trap}\n")
        (home / ".ssh" / "environment").write_text(f"PYTHONPATH={evil}\n")
        done = self.ssh(*STATUS.split())
        self.assertEqual((done.stdout, done.returncode), (before.stdout, 0))
        self.assertFalse(trap.exists())
        self.host.ask(f"set_delegate {MON} keys={[self.sshd.key]!r}")
        self.assertEqual(os.listdir(home / ".ssh"), ["authorized_keys"])  # noqa: PTH208


class PamTests(Delegated):
    """
    An sshd with UsePAM, as most distributions have it.
    """

    config: ClassVar[dict[str, str]] = {"UsePAM": "yes"}

    def test_letsDelegatesIn(self) -> None:
        """
        The account is good for PAM too, and no password opens it.
        """
        self.add()
        self.assertAnswered(self.ssh(*STATUS.split()), "status_reply")
        self.host.ask(f"remove_delegate {MON}")
        self.assertShut(self.ssh("ping"))


class KeysTests(Delegated):
    """
    Who is let in, and to what.
    """

    def test_severalKeysAndDelegates(self) -> None:
        """
        Each of several keys opens; two delegates of one experiment have their own commands each; a key may be in both.
        """
        others = [self.sshd.new_key("second"), self.sshd.new_key("third", "ecdsa"), self.sshd.new_key("fourth", "rsa")]
        self.add(keys=[self.sshd.key, *others[:2]])
        self.add(OTHER, ["topology", "node_list"], keys=[self.sshd.key, others[2]])
        for key in ("key", "second", "third"):
            self.assertAnswered(self.ssh(*STATUS.split(), key=key), "status_reply")
        self.assertShut(self.ssh(*STATUS.split(), key="fourth"))
        for key in ("key", "fourth"):
            self.assertAnswered(self.ssh("topology", "lab/demo", user=OTHER, key=key), "topology_reply")
        self.assertShut(self.ssh("ping", user=OTHER, key="second"))
        self.assertAnswered(self.ssh("topology", "lab/demo"), "error_reply")
        self.assertAnswered(self.ssh(*STATUS.split(), user=OTHER), "error_reply")

    def test_spyReadsWhatThereIs(self) -> None:
        """
        With slivers=* a delegate may say its commands of every experiment and sliver, also of those made later.
        """
        self.add(SPY, ["get_rspec", "status_request"], ["*"])
        self.host.ask("create lab_late kind=process rspec={'pids_max':17} wait=20")
        done = self.ssh(input=b"get_rspec lab_late\nget_rspec web.demo.lab\nstatus_request lab/demo\n", user=SPY)
        self.assertAnswered(done, "get_rspec_reply", "get_rspec_reply", "status_reply")
        self.assertEqual(read(done.stdout)[0][1]["pids_max"], 17)
        self.assertAnswered(self.ssh("stop", "lab_late", user=SPY), "error_reply")
        self.host.ask("destroy lab_late wait=20")

    def test_rotatesKeys(self) -> None:
        """
        A new key is let in at once, one that is taken away is not, and what was open with it is cut.
        """
        self.add()
        new = self.sshd.new_key("new")
        self.host.ask(f"set_delegate {MON} keys={[self.sshd.key, new]!r}")
        with self.open() as client:
            self.assertAnswered(self.ssh("ping", key="new"), "ping_reply")
            self.assertIsNone(client.poll())
            self.host.ask(f"set_delegate {MON} keys={[new]!r}")
            self.assertEqual(self.processes(), set())
            self.assertNotEqual(client.wait(DEADLINE_S), 0)
        self.assertShut(self.ssh("ping"))
        self.assertAnswered(self.ssh("ping", key="new"), "ping_reply")
        self.host.ask(f"set_delegate {MON} keys=[]")
        self.assertShut(self.ssh("ping", key="new"))

    def open(self, *options: str) -> subprocess.Popen[bytes]:
        """
        @return: a client whose session is open.
        """
        argv = self.sshd.argv(MON, options=options)
        client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        for pipe in (client.stdin, client.stdout, client.stderr):
            assert pipe is not None
            self.addCleanup(pipe.close)
        if "-N" in options:
            until(self.processes)
            return client
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"ping\n")
        client.stdin.flush()
        self.assertIn(b"ping_reply", client.stdout.readline())
        return client

    def test_setsCommandsOfAnOpenSession(self) -> None:
        """
        What is granted and taken away counts from the next request on, and needs no new session.
        """
        self.add()
        client = self.open()
        assert client.stdin is not None and client.stdout is not None
        for commands, reply in (("topology", b"topology_reply"), ("ping", b"error_reply")):
            self.host.ask(f"set_delegate {MON} commands={commands}")
            client.stdin.write(b"topology lab/demo\n")
            client.stdin.flush()
            self.assertEqual(client.stdout.readline().split()[0], reply)

    def test_removalCutsWhatIsOpen(self) -> None:
        """
        When remove_delegate is answered no session is left, with a shell or without; nothing else is either.
        """
        self.add()
        clients = [self.open(), self.open("-N")]
        self.host.ask(f"remove_delegate {MON}")
        self.assertEqual(self.processes(), set())
        for client in clients:
            self.assertNotEqual(client.wait(DEADLINE_S), 0)
        self.assertShut(self.ssh("ping"))
        self.assertNothingLeft()
        added = self.add()
        self.assertAnswered(self.ssh("ping"), "ping_reply")
        self.assertNotEqual(added["uid"], 0)

    def test_givesNoUidAgainSoon(self) -> None:
        """
        A delegate of the same name gets another uid, so that nothing left over of the first is its own.
        """
        first = self.add()
        self.host.ask(f"remove_delegate {MON}")
        self.assertNotEqual(self.add()["uid"], first["uid"])

    def test_takesTextForKeysOnly(self) -> None:
        """
        Options, a second line, a certificate or half a key are refused, and no account is made.
        """
        key = self.sshd.key
        kind, data, _ = key.split()
        for bad in (
            f'command="sh" {key}',
            f"{key}\n{key}",
            f"{key}\r",
            f"restrict {key}",
            f"{kind}-cert-v01@openssh.com {data}",
            f"{kind} {data[:-8]}=",
            f"ssh-rsa {data}",
            f"{kind}  {data}",
            f"{kind}",
            f'ssh-ed25519,command="sh" {data}',
        ):
            word, body = self.host.ask_any(f"add_delegate {MON} keys={[bad]!r}")
            self.assertEqual((word, body["code"]), ("error_reply", "BAD_VALUE"), bad)
        self.assertNothingLeft()


class AccountsTests(Delegated):
    """
    What is made on the host, and what is left alone.
    """

    def test_leavesAccountsOfOthersAlone(self) -> None:
        """
        The name of an account or a group that is there is refused, and both stay as they are.
        """
        for name in ("root", "nobody", "sudo"):
            word, body = self.host.ask_any(f"add_delegate {name} keys={[self.sshd.key]!r}")
            self.assertEqual((word, body["code"]), ("error_reply", "EXISTS"), name)
            self.assertIn("is taken by", body["message"])
        subprocess.run(["useradd", "--no-create-home", "--comment", "Ann", "--shell", "/bin/sh", OTHER], check=True)
        try:
            before = pwd.getpwnam(OTHER)
            self.assertEqual(self.host.ask_any(f"add_delegate {OTHER}")[1]["code"], "EXISTS")
            self.host.kill()
            self.host.start()
            self.assertEqual(pwd.getpwnam(OTHER), before)
        finally:
            subprocess.run(["userdel", OTHER], check=True)
        self.assertNothingLeft()

    def test_keysOfOthersAreTheirOwn(self) -> None:
        """
        uid= with keys= is refused: whose account it is keeps its keys.
        """
        word, body = self.host.ask_any(f"add_delegate {MON} uid=12 keys={[self.sshd.key]!r}")
        self.assertEqual((word, body["code"]), ("error_reply", "BAD_VALUE"))
        self.assertIn("leave uid= out", body["message"])
        self.host.ask(f"add_delegate {MON} uid=12")
        self.assertEqual(self.host.ask_any(f"set_delegate {MON} keys={[self.sshd.key]!r}")[1]["code"], "BAD_VALUE")
        self.host.ask(f"remove_delegate {MON}")
        self.assertNothingLeft()

    def test_followsNoLinkInAHome(self) -> None:
        """
        Links in the place of the home, of .ssh or of the keys lead nowhere: what they point to stays as it is.
        """
        self.add()
        home = Path(pwd.getpwnam(MON).pw_dir)
        outside = self.sshd.directory / "outside"
        for place in (home, home / ".ssh", home / ".ssh" / "authorized_keys"):
            outside.mkdir(exist_ok=True)
            (outside / "authorized_keys").write_text("theirs\n")
            aside = place.with_name("aside")
            place.rename(aside)
            place.symlink_to(outside if place.name != "authorized_keys" else outside / "authorized_keys")
            self.host.ask(f"set_delegate {MON} keys={[self.sshd.key]!r}")
            self.assertFalse(place.is_symlink())
            self.assertEqual((outside / "authorized_keys").read_text(), "theirs\n")
            self.assertEqual(sorted(one.name for one in outside.iterdir()), ["authorized_keys"])
            self.assertAnswered(self.ssh("ping"), "ping_reply")
            subprocess.run(["rm", "-rf", str(aside)], check=True)
        home.rename(home.with_name("aside"))
        home.symlink_to(outside)
        self.host.ask(f"remove_delegate {MON}")
        self.assertEqual((outside / "authorized_keys").read_text(), "theirs\n")
        shutil.rmtree(home.with_name("aside"))

    def test_mendsWhatSomebodyChanged(self) -> None:
        """
        A shell, an expiry, a home or keys that somebody changed are as they should be after a restart.
        """
        self.add()
        account = pwd.getpwnam(MON)
        subprocess.run(["usermod", "--shell", "/bin/sh", "--expiredate", "1", "--home", "/tmp", MON], check=True)
        keys = Path(account.pw_dir) / ".ssh" / "authorized_keys"
        keys.write_text(f"{self.sshd.new_key('mallory')}\n")
        (keys.parent / "authorized_keys2").write_text(keys.read_text())
        self.host.kill()
        self.host.start()
        self.assertEqual(pwd.getpwnam(MON), account)
        self.assertShut(self.ssh("ping", key="mallory"))
        self.assertAnswered(self.ssh("ping"), "ping_reply")
        subprocess.run(["userdel", "--force", MON], check=True)  # what just ended may still count as there
        self.host.kill()
        self.host.start()
        self.assertEqual(pwd.getpwnam(MON), account)
        self.assertAnswered(self.ssh("ping"), "ping_reply")

    def test_mendsItsShell(self) -> None:
        """
        A part of the shell that somebody removed is there again after the next look.
        """
        self.add()
        part = Path(pwd.getpwnam(MON).pw_shell).parent / "hostline" / "clients" / "reach.py"
        part.unlink()
        self.assertNotEqual(self.ssh("ping").returncode, 0)
        self.host.ask(f"set_delegate {MON} keys={[self.sshd.key]!r}")
        self.assertTrue(part.exists())
        self.assertAnswered(self.ssh("ping"), "ping_reply")

    def test_saysWhyNobodyComesIn(self) -> None:
        """
        A directory on the way that others may not pass through is named, by doctor and beside the delegate.
        """
        self.add()
        self.host.state.chmod(0o700)
        found = {one["check"]: one for one in self.host.ask("doctor")}["delegates"]
        self.assertFalse(found["ok"])
        self.assertIn(f"others may not pass through {self.host.state}", found["detail"])
        self.assertIn(f"others may not pass through {self.host.state}", self.host.ask("delegates")[0]["problems"][0])
        self.host.state.chmod(0o711)
        self.assertTrue({one["check"]: one for one in self.host.ask("doctor")}["delegates"]["ok"])

    def test_keepsToItsLineInShells(self) -> None:
        """
        /etc/shells has one line more while there are delegates; a line that was there before stays.
        """
        self.add()
        self.add(OTHER)
        shell = pwd.getpwnam(MON).pw_shell
        self.assertEqual(lines_of("/etc/shells", self.host.state), [*self.files["/etc/shells"], f"{shell}\n"])
        self.host.ask(f"remove_delegate {MON}")
        self.assertIn(shell, Path("/etc/shells").read_text().splitlines())
        self.host.ask(f"remove_delegate {OTHER}")
        self.assertNothingLeft()

    def test_isThereAfterARestart(self) -> None:
        """
        Delegates come in after a restart as before; one that was open goes on with the next daemon's own socket.
        """
        self.add()
        self.assertEqual(self.host.stop(), 0)
        done = self.ssh(*STATUS.split())
        self.assertEqual(read(done.stdout)[0][1]["code"], "NO_DAEMON")
        self.host.start()
        self.assertAnswered(self.ssh(*STATUS.split()), "status_reply")


@needs.needs_root
@needs.needs_tool("useradd", "ssh-keygen", "sshd")
class KillTests(Delegated):
    """
    kill -9 of the daemon while it makes and removes accounts.
    """

    def test_isOneOrTheOther(self) -> None:
        """
        Killed at any moment of add_delegate or remove_delegate: after the next start there is the delegate with its
        account, or nothing of it; and what was acknowledged is so.
        """
        self.add(OTHER)
        there = False
        for step in range(scaled(8, 40)):
            request = f"remove_delegate {MON}" if there else f"add_delegate {MON} keys={[self.sshd.key]!r}"
            client = self.host.client()
            client.send(request + "\n")
            # A look at the clock would kill always at the same few points: a whole add takes some 0.3 s.
            threading.Event().wait(0.045 * (step % 8) + 0.007 * (step // 8))
            self.host.kill()
            answered = client.rest().decode()
            client.close()
            self.host.start()
            now = MON in [one["name"] for one in self.host.ask("delegates")]
            if answered:
                self.assertIn("delegate_reply", answered)
                self.assertEqual(now, not there)
            there = now
            self.assertConsistent()
        self.host.ask(f"remove_delegate {OTHER}")
        if there:
            self.host.ask(f"remove_delegate {MON}")
        self.assertNothingLeft()
        self.assertEqual(self.host.tracebacks(), "")

    def assertConsistent(self) -> None:
        """
        Records and accounts are the same, and each opens.
        """
        records = {one["name"]: one for one in self.host.ask("delegates")}
        tag = f"hostline {self.host.instance}/delegate-"
        found = {one.pw_name: one for one in pwd.getpwall() if one.pw_gecos.startswith(tag)}
        self.assertEqual(set(found), set(records))
        groups = [line.split(":") for line in Path("/etc/group").read_text().splitlines()]
        uids = range(self.host.delegate_first, self.host.delegate_first + DELEGATE_UIDS)
        self.assertEqual({group[0] for group in groups if int(group[2]) in uids}, set(records))
        serials = {str(one["serial"]) for one in records.values()}
        names = {one.name for one in (self.host.state / "delegates").iterdir()}
        homes = {f"{serial}{end}" for serial in serials for end in ("", ".account")}
        self.assertEqual(names, homes | {"shell", "shells-line"})
        for name, one in records.items():
            self.assertEqual((one["problems"], one["uid"]), ([], found[name].pw_uid))
            self.assertAnswered(self.ssh("ping", user=name), "ping_reply")


del Delegated
