"""
What a guest is told, and what is made of its answers; the guest is a table here.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import guest as module
from hostline.server.supervise.agent import Agent, AgentRefused
from hostline.server.supervise.guest import Guest, Ran, Said, said_in
from hostline.server.supervise.seed import Card, Seed
from tests import needs
from tests.live.support import temporary_directory

INGUEST = Path(module.__file__).with_name("inguest")
#: What a hostile guest may answer to anything.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["pid", "exited", "exitcode", "signal", "out-data", "err-data", "position", "count", "buf-b64"]
            ),
            inner,
            max_size=5,
        )
    ),
)


class Table:
    """
    An agent that answers from a list, and notes what it is asked.
    """

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def call(self, command: str, arguments: Mapping[str, Any] | None = None, **_: Any) -> Any:
        self.asked.append((command, arguments or {}))
        if not self.answers:
            raise TimeoutError("no more answers")
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def tell(self, command: str, arguments: Mapping[str, Any] | None = None, **_: Any) -> None:
        self.asked.append((command, arguments or {}))


def guest_of(*answers: Any) -> tuple[Guest, Table]:
    """
    @return: a guest that answers so.
    """
    table = Table(list(answers))
    return Guest(cast(Agent, table), Clock()), table


class SeedTests(SynchronousTestCase):
    """
    The text of a seed.
    """

    def test_golden(self) -> None:
        """
        Each line is a call with what is to be told; what may be anything is in quotes.
        """
        seed = Seed(
            name="web",
            boots=3,
            clock=1700000000.9,
            random=b"\0\1",
            cards=(Card("inf000", "02:1b:00:00:00:01", ("10.1.1.2/24",), now="02:1b:ff:ff:00:00"),),
            routes=(("default", "10.1.1.1"),),
            forwards=True,
            hosts="127.0.0.1 localhost\n",
            keys=("ssh-ed25519 AAAA me",),
            start_command="echo 'a b'",
            environment={"A": "it's"},
        )
        lines = seed.text().decode().splitlines()
        self.assertEqual(lines[:3], ["name web", "clock 1700000000", "random AAE="])
        self.assertIn("interface 02:1b:ff:ff:00:00 02:1b:00:00:00:01 inf000 1500 10.1.1.2/24", lines)
        self.assertIn("route default 10.1.1.1", lines)
        self.assertIn("forward 1", lines)
        self.assertEqual(lines[-1], "done_with")
        text = seed.text().decode()
        self.assertIn("\ninitscript\n", text)
        self.assertIn("\ntext /etc/hosts '127.0.0.1 localhost\n'\n", text)
        self.assertIn("\nsecret /root/.ssh/authorized_keys 'ssh-ed25519 AAAA me\n'\n", text)
        self.assertIn("\nonce command 'echo '\\''a b'\\''\n'\n", text)

    @settings(max_examples=40, deadline=None)
    @given(st.text(max_size=20), st.text(max_size=40), st.text(max_size=8), st.text(max_size=8))
    def test_nothingEscapes(self, command: str, hosts: str, name: str, route: str) -> None:
        """
        Whatever is in a seed, a shell takes it for what it is to be told, byte by byte, and for nothing else.
        """
        seed = Seed(
            name=name, boots=1, clock=0, random=b"r", hosts=hosts, start_command=command, routes=((route, "10.0.0.1"),)
        )
        try:
            script = seed.text()
        except (ValueError, UnicodeError):
            return
        calls = ("name", "clock", "random", "text", "secret", "interface", "route", "forward", "once", "initscript")
        # Each call writes its own name and what it is told, with a NUL behind each.
        told = "".join(f'{one}() {{ printf "%s\\0" {one} "$@"; }}\n' for one in (*calls, "done_with"))
        ran = subprocess.run(
            ["/bin/sh", "-s"], input=told.encode() + script, capture_output=True, check=True, timeout=20
        )
        self.assertEqual(ran.stderr, b"")
        words = ran.stdout.split(b"\0")[:-1]
        self.assertEqual(words[:2], [b"name", name.encode()])
        for expected in (
            [b"text", b"/etc/hosts", os.fsencode(hosts)],
            [b"once", b"command", os.fsencode(command) + b"\n"],
            [b"route", route.encode(), b"10.0.0.1"],
        ):
            self.assertTrue(any(words[at : at + 3] == expected for at in range(len(words))), (expected, words))
        self.assertEqual(words[-1], b"done_with")

    @given(st.text(max_size=10))
    def test_words(self, text: str) -> None:
        """
        What is to be one word is one, or the seed is refused: nobody slips in a line.
        """
        try:
            lines = Seed(name=text, boots=1, clock=0, random=b"").text().decode().splitlines()
        except ValueError:
            return
        self.assertEqual(shlex.split(lines[0]), ["name", text])

    @settings(max_examples=30, deadline=None)
    @given(
        st.dictionaries(
            st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
            max_size=3,
        )
    )
    def test_environment(self, environment: dict[str, str]) -> None:
        """
        Variables reach a shell as they are, whatever is in them.
        """
        names = [
            name for name in environment if name not in ("PATH", "IFS", "PWD", "OLDPWD", "_", "OPTIND", "PPID", "UID")
        ]
        seed = Seed(name="n", boots=1, clock=0, random=b"", environment={one: environment[one] for one in names})
        others = ("name", "clock", "random", "secret", "forward", "initscript", "done_with")
        script = "".join(f"{one}() {{ :; }}\n" for one in others) + 'once() { eval "$2"; }\n'
        script += seed.text().decode("utf-8")
        for name in names:
            said = subprocess.run(
                ["/bin/sh", "-c", f'{script}printf %s "${name}"'], capture_output=True, check=True, timeout=20
            )
            self.assertEqual(said.stdout.decode(), environment[name])

    def test_badVariable(self) -> None:
        """
        A name that is none is refused, for it would be a command.
        """
        for name in ("A;reboot", "", "1A", "A B"):
            with self.assertRaises((ValueError, IndexError)):
                Seed(name="n", boots=1, clock=0, random=b"", environment={name: "x"}).text()


class GuestTests(SynchronousTestCase):
    """
    Calls upon an agent.
    """

    def test_run(self) -> None:
        """
        A command's outputs and status come back; the input goes along with the call.
        """
        guest, table = guest_of(
            {"pid": 7}, {"exited": True, "exitcode": 3, "out-data": "aGk=", "err-data": "", "out-truncated": True}
        )
        ran = self.successResultOf(_started(guest.run(["/bin/x", "y"], input=b"in")))
        self.assertEqual(ran, Ran(3, b"hi", b"", True))
        self.assertEqual(table.asked[0][1]["input-data"], b64encode(b"in").decode())

    def test_killed(self) -> None:
        """
        One that was killed has the status that a shell would give it.
        """
        guest, _ = guest_of({"pid": 7}, {"exited": True, "signal": 9})
        self.assertEqual(self.successResultOf(_started(guest.run(["/x"]))).code, 137)

    @given(st.lists(ANYTHING, max_size=4))
    def test_anyAnswer(self, answers: list[Any]) -> None:
        """
        Whatever a guest answers, there is a result or an OSError.
        """
        for act in (
            lambda guest: guest.run(["/x"]),
            lambda guest: guest.read("/x", 10),
            lambda guest: guest.write("/x", b"abc"),
            lambda guest: guest.said(),
            lambda guest: guest.apply(Seed(name="n", boots=1, clock=0, random=b"")),
        ):
            table = Table(list(answers))
            clock = Clock()
            done = _started(act(Guest(cast(Agent, table), clock)))
            clock.pump([1.0] * 120)
            failed: list[Any] = []
            done.addErrback(failed.append)
            self.assertTrue(done.called)
            for failure in failed:
                self.assertTrue(failure.check(OSError), failure)

    def test_read(self) -> None:
        """
        The end of a file, or what is behind an offset; one that became shorter is read from its beginning.
        """
        data = {"buf-b64": b64encode(b"cd").decode()}
        for offset, start, count in ((-2, 2, 2), (1, 1, 3), (9, 0, 4), (-9, 0, 4)):
            guest, table = guest_of(1, {"position": 4}, {"position": start}, data, {"buf-b64": ""}, None)
            found = self.successResultOf(_started(guest.read("/f", 100, offset)))
            self.assertEqual(found, (b"cd", start))
            self.assertEqual(table.asked[2][1]["offset"], start)
            self.assertEqual(table.asked[3][1]["count"], count)
            self.assertEqual(table.asked[-1][0], "guest-file-close")

    def test_noFile(self) -> None:
        """
        A file that is not there is told apart from a guest that does not answer.
        """
        refused = AgentRefused("GenericError", "failed to open file '/f' (mode: 'r'): No such file or directory")
        guest, _ = guest_of(refused)
        self.failureResultOf(_started(guest.read("/f", 100)), FileNotFoundError)

    def test_packages(self) -> None:
        """
        They are installed before anything is begun, by what is sent along; without any nothing is sent.
        """
        text = Seed(name="n", boots=1, clock=0, random=b"", packages=("vim", "nginx"), start_command="true").text()
        lines = text.splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith(b"once packages "))
        self.assertLess(at, lines.index(b"done_with"))
        self.assertIn(b" packages vim nginx\n", text)
        self.assertNotIn(b"once packages", Seed(name="n", boots=1, clock=0, random=b"").text())

    def test_problems(self) -> None:
        """
        What could not be done inside is told in the guest's words, without its escape sequences.
        """
        out = b64encode(b"problem: no route to 10.0.0.0/8\x1b[2J\nnoise\napplied\n").decode()
        guest, _ = guest_of({"pid": 1}, {"exited": True, "exitcode": 0, "out-data": out})
        applied = guest.apply(Seed(name="n", boots=1, clock=0, random=b""))
        self.assertEqual(self.successResultOf(_started(applied)), ["no route to 10.0.0.0/8?[2J"])

    def test_saidIn(self) -> None:
        """
        What a guest says of its start command; what makes no sense is a failure.
        """
        self.assertEqual(said_in(b""), Said())
        self.assertEqual(said_in(b"started started\n"), Said(started=True))
        self.assertEqual(said_in(b"started started\nended 7\ninitscript.said ended 0\n"), Said(True, 7, "ended", 0))
        self.assertEqual(said_in(b"begun begun\n"), Said(begun=True))
        self.assertEqual(said_in(b"failure packages: E: \x1b no such\n").failure, "packages: E: ? no such")
        self.assertEqual(said_in(b"ended -5\n").ended, 255)
        self.assertEqual(said_in(b"ended 99999999\n").ended, 255)

    @given(st.binary(max_size=200))
    def test_saidAnything(self, text: bytes) -> None:
        """
        Nothing that a guest says of itself is an error.
        """
        said = said_in(text)
        self.assertIn(said.initscript, ("none", "running", "ended"))


@needs.needs_tool("as", "ld")
class ReseedTests(SynchronousTestCase):
    """
    The one program of ours in a guest.
    """

    def test_isItsSource(self) -> None:
        """
        What is in the build script as numbers is what the source next to it becomes.
        """
        text = INGUEST.with_name("build_guest.sh").read_text()
        coded = text.partition("<<END && chmod 0755")[2].partition("\n")[2].partition("\nEND")[0]
        work = temporary_directory()
        self.addCleanup(subprocess.run, ["rm", "-rf", str(work)], check=False)
        subprocess.run(["as", str(INGUEST / "reseed.s"), "-o", "x.o"], cwd=work, check=True, timeout=20)
        words = ["ld", "-N", "-s", "-z", "noseparate-code", "x.o", "-o", "x"]
        subprocess.run(words, cwd=work, check=True, timeout=20, capture_output=True)
        # Not the section names that a linker adds at the end, but all that is loaded.
        size = 0x78 + 0x84
        self.assertEqual((work / "x").read_bytes()[:size][0x78:], b64decode(coded)[:size][0x78:])


def _started(coroutine: Any) -> Any:
    return Deferred.fromCoroutine(coroutine)
