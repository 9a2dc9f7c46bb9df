"""
An authority on the network, and a daemon that follows it: real connections, real certificates, real slivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadPayload, HostError, OperationFailed
from hostline.server.offload import Offload
from hostline.server.supervise.spawn import Spawner
from tests.live.control_plane import ControlPlane, endless, half, say, trickle
from tests.live.hosted import ENVIRONMENT, Hosted, until
from tests.live.support import LoopClock, living, run
from tests.needs import needs_root, needs_tool
from tests.test_payload import KEY, full, sliver

NODE = {"node_id": 7, "hostname": "n7.example.org", "kinds": ["process"], "kind": "process", "image": "", "known": {}}


class ChildCase(SynchronousTestCase):
    """
    The offload child as the daemon uses it.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        spawner = Spawner(self.loop)
        self.addCleanup(spawner.close)
        self.offload = Offload(spawner, self.loop, LoopClock(self.loop))
        self.directory = Path(tempfile.mkdtemp(prefix="hl-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def read(self, name: str, deadline_s: float = 30, **asked: Any) -> Any:
        """
        What a function of the child gives.
        """
        call = self.offload.call(name, lambda: {**NODE, **asked}, deadline_s)
        return run(self.loop, call, deadline_s + 10)

    def refusal(self, name: str, **asked: Any) -> HostError:
        """
        Why it gives nothing.
        """
        error: HostError = self.assertRaises(HostError, self.read, name, **asked)
        return error


class FetchTests(ChildCase):
    """
    What comes from the network, and what does not.
    """

    def setUp(self) -> None:
        super().setUp()
        self.plane = ControlPlane(self.directory)
        self.addCleanup(self.plane.close)
        self.plane.gives(full(sliver(expires=None)))

    def source(self, **more: Any) -> dict[str, Any]:
        """
        Where it is fetched, and how.
        """
        return {
            "url": self.plane.url,
            "method": "json",
            "node_id": 7,
            "auth": None,
            "ca": self.plane.ca.read_text(),
            "plain": False,
            "timeout_s": 5.0,
            "bytes": 1 << 20,
            **more,
        }

    def poll(self, **more: Any) -> Any:
        """
        Fetch and read.
        """
        return self.read("poll_authority", source=self.source(**more))

    def failure(self, code: type[HostError] = OperationFailed, **more: Any) -> str:
        """
        Why that failed.
        """
        error = self.refusal("poll_authority", source=self.source(**more))
        self.assertIsInstance(error, code, error.message)
        return error.message

    def test_json(self) -> None:
        """A JSON document is fetched with a certificate that our authority signed, and with the header that lets in."""
        self.assertEqual(self.poll(auth="Bearer x7")["entries"][0]["name"], "lab_web")
        ((_, path, headers, _),) = self.plane.asked
        self.assertEqual((path, headers["Authorization"]), ("/PLCAPI/", "Bearer x7"))

    def test_xmlrpc(self) -> None:
        """GetSlivers is called with the struct that lets in and our number."""
        found = self.poll(method="xmlrpc", auth={"AuthMethod": "hmac", "value": "s3cret"})
        self.assertEqual(found["entries"][0]["keys"], [KEY])
        body = self.plane.asked[0][3].decode()
        for word in ("<methodName>GetSlivers</methodName>", "s3cret", "<int>7</int>"):
            self.assertIn(word, body)

    def test_strangeCertificate(self) -> None:
        """A certificate that somebody else signed is refused, before anything is said."""
        other = ControlPlane(self.directory / "other")
        self.addCleanup(other.close)
        self.assertIn("not trusted", self.failure(ca=other.ca.read_text(), auth="s3cret"))
        self.assertIn("not trusted", self.failure(ca=""))
        self.assertEqual(self.plane.asked, [])

    def test_certificateOfAnother(self) -> None:
        """A certificate for another address is refused."""
        other = ControlPlane(self.directory / "other", names=("192.0.2.9",))
        self.addCleanup(other.close)
        self.assertIn("not trusted", self.failure(url=other.url, ca=other.ca.read_text()))

    def test_plain(self) -> None:
        """Without TLS only our own host is asked, unless the configuration says otherwise."""
        plain = ControlPlane(self.directory / "plain", tls=False)
        self.addCleanup(plain.close)
        plain.gives(full(sliver()))
        self.assertEqual(len(self.poll(url=plain.url)["entries"]), 1)
        self.assertIn("want https", self.failure(url="http://192.0.2.9/"))

    def test_noUrl(self) -> None:
        """What is no address of a web server is refused: files above all."""
        for wrong in (
            "file:///etc/shadow",
            "ftp://127.0.0.1/",
            "/etc/shadow",
            "https://",
            "https://[x/",
            "https://a b/",
        ):
            self.assertIn("authority.url", self.failure(url=wrong))

    def test_badSecret(self) -> None:
        """What cannot be said to the authority is refused without repeating it."""
        self.assertNotIn("98765", self.failure(method="xmlrpc", auth={"value": 98765 << 80}))
        self.assertIn("want what XML-RPC can carry", self.failure(method="xmlrpc", auth={"value": 98765 << 80}))

    def test_noHost(self) -> None:
        """A name that no host can have is told like one that none has."""
        for wrong in ("x" * 300, "a..b", "nobody.invalid"):
            self.assertIn(wrong, self.failure(url=f"https://{wrong}/"))

    def test_errors(self) -> None:
        """An answer that is none is told with its status, a redirect with where it would lead; none is followed."""
        self.plane.answer = say(b"oops", 500)
        self.assertIn("answered 500", self.failure())
        self.plane.answer = say(b"", 302, Location="file:///etc/shadow")
        self.assertIn("not followed", self.failure())
        self.assertEqual(len(self.plane.asked), 2)

    def test_half(self) -> None:
        """An answer that ends in the middle is told so, and not read."""
        self.plane.answer = half
        self.assertIn("before the end", self.failure())

    def test_slow(self) -> None:
        """An answer that drips is given up when its time is over."""
        self.plane.answer = trickle
        begun = time.monotonic()
        self.assertIn("no whole answer in 1 s", self.failure(timeout_s=1.0))
        self.assertLess(time.monotonic() - begun, 5)

    def test_tooLong(self) -> None:
        """An answer without an end is given up at the limit."""
        self.plane.answer = endless
        self.assertIn("at most 1048576 bytes", self.failure())

    def test_notWhatItSeems(self) -> None:
        """A compressed body, one that is no UTF-8, and a page of HTML are told apart."""
        self.plane.answer = say(b"x", Content_Encoding="gzip")
        self.assertIn("gzip", self.failure())
        self.plane.answer = say(b"\xff\xfe")
        self.assertIn("UTF-8", self.failure())
        self.plane.answer = say(b"<html><body>Welcome</body></html>")
        self.assertIn("XML-RPC", self.failure(BadPayload))

    def test_nobody(self) -> None:
        """A host where nobody listens is told so."""
        self.plane.close()
        self.plane.close = lambda: None  # type: ignore[method-assign]
        self.assertIn("refused", self.failure())


class HostileTests(ChildCase):
    """
    Payloads made to hurt: the child may die, the caller gets a reason in time.
    """

    def hurts(self, text: str, deadline_s: float = 20.0) -> Any:
        """
        The reading of a text, or why there is none; in time.
        """
        begun = time.monotonic()
        try:
            found = self.read("read_response", deadline_s, text=text)
        except (BadPayload, OperationFailed) as error:
            found = error
        self.assertLess(time.monotonic() - begun, deadline_s + 2)
        return found

    def test_laughs(self) -> None:
        """A billion laughs are not read."""
        entities = "".join(f'<!ENTITY a{at} "{f"&a{at - 1};" * 10}">' for at in range(1, 12))
        text = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><methodResponse>&a11;</methodResponse>'
        self.assertIsInstance(self.hurts(text), BadPayload)

    def test_deep(self) -> None:
        """Nesting without end, in each language, is a refusal and no crash."""
        for text in (
            "[" * 5_000_000,
            '{"a":' * 2_000_000,
            "(" * 1_000_000,
            "<methodResponse><params><param>" + "<value><array><data>" * 500_000,
        ):
            self.assertIsInstance(self.hurts(text), BadPayload | OperationFailed)

    def test_bigKey(self) -> None:
        """A key of 10 MB is left out, its sliver and its neighbours are read."""
        found = self.hurts(
            json.dumps(full(sliver("lab_a", keys=["ssh-rsa " + "A" * 10_000_000, KEY]), sliver("lab_b")))
        )
        self.assertEqual([one["keys"] for one in found["entries"]], [[KEY], [KEY]])

    def test_memory(self) -> None:
        """A payload that needs more memory than the child may have is told so."""
        text = '{"timestamp": 5, "slivers": [' + "{}," * 15_000_000 + "{}]}"
        found = self.hurts(text, 40.0)
        self.assertIsInstance(found, BadPayload | OperationFailed)

    def test_bigNumbers(self) -> None:
        """Numbers of a million digits are a refusal."""
        for text in (f'{{"timestamp": {"9" * 1_000_000}, "slivers": []}}', f'{{"timestamp": 1e{"9" * 1000}}}'):
            self.assertIsInstance(self.hurts(text), BadPayload)


CONFIG = """
[authority]
url = "{url}"
ca_file = "{ca}"
auth_file = "{auth}"
method = "{method}"
node_id = 7
hostname = "n7.example.org"
kind = "process"
period_s = 1.0
jitter_s = 0.1
backoff_s = 2.0
timeout_s = 3.0
clock_settle_s = 0.0
"""


@needs_root
class FollowedTests(SynchronousTestCase):
    """
    A daemon that polls, with process slivers.
    """

    def setUp(self) -> None:
        # Not below /tmp: slivers have one of their own.
        self.directory = Path(tempfile.mkdtemp(prefix="hl-", dir="/var/lib"))
        self.directory.chmod(0o711)
        self.addCleanup(self.removed)
        self.plane = ControlPlane(self.directory / "plane")
        self.addCleanup(self.plane.close)
        auth = self.directory / "auth"
        auth.touch(0o600)
        auth.write_text('{"AuthMethod": "hmac", "value": "s3cret-word"}')
        config = CONFIG.format(url=self.plane.url, ca=self.plane.ca, auth=auth, method="xmlrpc")
        self.hosted = Hosted(self, config, parent=self.directory)
        self.stamp = time.time() - 1000

    def removed(self) -> None:
        """
        Take away all that is below our directory, mounts of the daemon's as well.
        """
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            where = line.split()[4]
            if where.startswith(f"{self.directory}/"):
                subprocess.run(["umount", where], check=True)
        shutil.rmtree(self.directory)

    def payload(self, *slivers: dict[str, Any]) -> dict[str, Any]:
        """
        A payload newer than the one before.
        """
        self.stamp += 1
        return full(*({"expires": None, **one} for one in slivers), timestamp=self.stamp)

    def feed(self, *slivers: dict[str, Any]) -> Any:
        """
        Have the authority say this, and poll.
        """
        self.plane.gives(self.payload(*slivers))
        return self.hosted.ask("sync")

    def state(self, name: str) -> str:
        """
        The state of a sliver.
        """
        return str(self.hosted.ask(f"sliver {name}")["state"])

    def becomes(self, name: str, state: str) -> None:
        """
        Wait for it.
        """
        until(lambda: self.state(name) == state, what=lambda: self.hosted.ask(f"sliver {name}"))

    def pid(self, name: str) -> int:
        """
        The process of a sliver.
        """
        return int(self.hosted.ask(f"sliver {name}")["pid"])

    def uid(self, name: str) -> str:
        """
        The uid of what runs in a sliver.
        """
        return str(self.hosted.ask(f"exec {name} ['id', '-u']")["out"])

    def anchored(self, seconds: float) -> None:
        """
        While the daemon is down: make it so that the clock was so much further behind when it was trusted last.
        """
        with contextlib.closing(sqlite3.connect(self.hosted.state / "host.db")) as file:
            (body,) = file.execute("SELECT body FROM records WHERE kind = 'authority'").fetchone()
            known = json.loads(body)
            known["wall"] -= seconds
            file.execute("UPDATE records SET body = ? WHERE kind = 'authority'", (json.dumps(known),))
            file.commit()

    def test_life(self) -> None:
        """Polled slivers run; the authority fails, the daemon is killed, comes back alone: they run on, the same."""
        self.plane.gives(self.payload(one("a"), one("b"), one("c")))
        self.hosted.start()
        until(lambda: len(self.hosted.ask("slivers")) == 3, what=self.hosted.said)
        for name in ("lab_a", "lab_b", "lab_c"):
            self.becomes(name, "running")
        pids = [self.pid(name) for name in ("lab_a", "lab_b")]
        self.plane.answer = say(b"oops", 500)
        until(lambda: "answered 500" in str(self.hosted.ask("host_status")["problems"]))
        self.plane.close()
        self.plane.close = lambda: None  # type: ignore[method-assign]
        self.hosted.kill()
        self.hosted.start()
        self.assertEqual([self.pid(name) for name in ("lab_a", "lab_b")], pids)
        self.assertEqual(self.state("lab_c"), "running")
        self.assertNotIn("s3cret", self.hosted.log.read_text())
        self.assertEqual(self.hosted.tracebacks(), "")

    def test_missingAndBack(self) -> None:
        """What is missing is stopped at once and keeps its files; it comes back with them; undo brings it back too."""
        self.plane.gives(self.payload(one("a"), one("b"), one("c")))
        self.hosted.start()
        until(lambda: len(self.hosted.ask("slivers")) == 3, what=self.hosted.said)
        self.becomes("lab_b", "running")
        pid, uid = self.pid("lab_b"), self.uid("lab_b")
        self.hosted.ask("exec lab_b ['sh', '-c', 'echo mine >kept']")
        # The timer may have been faster than we.
        self.feed(one("a"), one("c"))
        until(lambda: not living(pid))
        self.assertEqual(self.state("lab_b"), "doomed")
        self.feed(one("a"), one("b"), one("c"))
        self.becomes("lab_b", "running")
        self.assertEqual(self.hosted.ask("exec lab_b ['cat', 'kept']")["out"], "mine\n")
        self.assertEqual(self.uid("lab_b"), uid)
        self.feed(one("a"), one("c"))
        self.becomes("lab_b", "doomed")
        self.hosted.ask("undo lab_b")
        self.feed(one("a"), one("c"))
        self.becomes("lab_b", "running")
        self.assertEqual(self.hosted.ask("exec lab_b ['cat', 'kept']")["out"], "mine\n")
        self.assertEqual(self.hosted.tracebacks(), "")

    def test_brake(self) -> None:
        """An empty payload ends nobody, not by the timer and not by hand; the client's exit status says so."""
        self.plane.gives(self.payload(one("a"), one("b")))
        self.hosted.start()
        until(lambda: len(self.hosted.ask("slivers")) == 2, what=self.hosted.said)
        self.becomes("lab_a", "running")
        pid = self.pid("lab_a")
        self.plane.gives(self.payload())
        until(lambda: [found for found in self.hosted.ask("doctor") if found["check"] == "brake"])
        done = self.hostline("sync")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("2 of 2 slivers", done.stderr)
        self.assertTrue(living(pid))
        self.hosted.ask("sync force=True")
        until(lambda: not living(pid))
        self.assertEqual([self.state(name) for name in ("lab_a", "lab_b")], ["doomed", "doomed"])

    def test_time(self) -> None:
        """Expiry needs no authority; a clock that has jumped ends nobody until an operator says that it is right."""
        self.plane.gives(self.payload(one("a"), one("b"), one("c")))
        self.hosted.start()
        until(lambda: len(self.hosted.ask("slivers")) == 3, what=self.hosted.said)
        self.feed(one("a"), one("b") | {"expires": time.time() + 3}, one("c") | {"expires": time.time() + 8})
        self.becomes("lab_b", "running")
        self.plane.close()
        self.plane.close = lambda: None  # type: ignore[method-assign]
        time.sleep(4)
        self.assertEqual([self.state(name) for name in ("lab_a", "lab_b")], ["running", "doomed"])
        self.hosted.kill()
        self.anchored(365 * 86400)
        self.hosted.start()
        time.sleep(6)
        self.assertEqual([self.state(name) for name in ("lab_b", "lab_c")], ["doomed", "running"])
        (found,) = [found for found in self.hosted.ask("doctor") if found["check"] == "clock"]
        self.assertIn("365.0 days", found["detail"])
        self.hosted.ask("accept_clock")
        self.becomes("lab_c", "doomed")

    def test_script(self) -> None:
        """An initscript runs at the start, and again when its text changes."""
        script = "#!/bin/sh\necho $1 {} >>$HOME/said\n"
        self.plane.gives(self.payload(one("a", initscript_code=script.format("one"))))
        self.hosted.start()
        until(lambda: "start one" in self.said_by_script(), what=self.hosted.said)
        self.feed(one("a", initscript_code=script.format("two")))
        until(lambda: "restart two" in self.said_by_script(), what=self.said_by_script)

    @needs_tool("useradd")
    def test_keys(self) -> None:
        """A controller is an account with its keys; taken back while the daemon is down, they are gone."""
        name = f"hl{os.getpid()}_ctl"
        self.addCleanup(self.no_account, name)
        controller = sliver(name, expires=None, instantiation="nm-controller")
        self.plane.gives(self.payload(controller))
        self.hosted.start()
        until(lambda: name in [found["name"] for found in self.hosted.ask("slivers")], what=self.hosted.said)
        self.becomes(name, "running")
        keys = Path(pwd.getpwnam(name).pw_dir) / ".ssh" / "authorized_keys"
        self.assertIn(KEY, keys.read_text())
        self.assertEqual([oct(path.stat().st_mode & 0o7777) for path in (keys.parent, keys)], ["0o700", "0o600"])
        self.assertEqual(keys.stat().st_uid, pwd.getpwnam(name).pw_uid)
        self.hosted.kill()
        self.plane.gives(self.payload(controller | {"keys": []}))
        self.hosted.start()
        self.hosted.ask("sync")
        until(lambda: KEY not in keys.read_text(), what=keys.read_text)
        self.plane.gives(self.payload())
        self.hosted.ask("sync force=True")
        self.hosted.ask(f"destroy {name}")
        self.assertRaises(KeyError, pwd.getpwnam, name)

    def no_account(self, name: str) -> None:
        """
        Remove an account that a test has left.
        """
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            subprocess.run(["userdel", "-f", name], check=True)

    def said_by_script(self) -> str:
        """
        What the initscript wrote.
        """
        with self.hosted.client() as client:
            word, body = client.refusal("exec lab_a ['cat', 'said']")
        return str(body.get("out", "")) if word == "exec_reply" else ""

    def test_loud(self) -> None:
        """While a payload of 20 MB that is all nonsense is read, others are answered all the time."""
        self.hosted.start()
        nonsense = full(*(sliver(f"lab_{at}", keys=["x" * 1000]) for at in range(20_000)), timestamp=self.stamp)
        self.plane.answer = say(json.dumps(nonsense).encode())
        answered = 0
        with self.hosted.client(60) as asking, self.hosted.client(60) as other:
            asking.send("sync\n")
            while not select.select([asking.socket], [], [], 0.005)[0]:
                other.ask("ping")
                answered += 1
            self.assertEqual(asking.reply()[0], "sync_reply")
        self.assertGreater(answered, 20)
        self.assertEqual(self.hosted.tracebacks(), "")

    def hostline(self, *words: str) -> subprocess.CompletedProcess[str]:
        """
        The command-line client.
        """
        argv = [sys.executable, "-m", "hostline.clients.main", *words]
        environment = {**ENVIRONMENT, "HOSTLINE_SOCKET": str(self.hosted.socket), "HOME": str(self.directory)}
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, env=environment, cwd="/", check=False)


def one(letter: str, **tags: str) -> dict[str, Any]:
    """
    An entry that lasts.
    """
    return sliver(f"lab_{letter}", expires=None, tags=tags)


class SecretTests(SynchronousTestCase):
    """
    What lets the daemon in at the authority's.
    """

    def test_readableByOthers(self) -> None:
        """A secret that others can read is not used."""
        from hostline.server.authority import _secret

        path = Path(self.mktemp())
        path.write_text("x")
        path.chmod(0o644)
        self.assertIn("others can read", self.assertRaises(OperationFailed, _secret, path).message)
        path.chmod(0o600)
        self.assertEqual(_secret(path), "x")
