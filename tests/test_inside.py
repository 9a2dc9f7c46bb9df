"""
What is asked about the inside of slivers: commands, logs, files; streams as such have their own tests.
"""

from __future__ import annotations

import hashlib
from binascii import a2b_base64, b2a_base64
from typing import Any

import attrs

from hostline.server.callers import Caller
from hostline.server.config import Limits
from tests.test_streams import Streamed, end_line, heard, in_line

BINARY = bytes(range(256)) * 2000


class ExecTests(Streamed):
    """
    Commands whose output is collected.
    """

    limits = attrs.evolve(Limits(), collected_bytes=1000)

    def test_answersWhatItWrote(self) -> None:
        """
        The reply has the exit status and both outputs; there was no input. Requests behind it keep their order.
        """
        self.ann.send("exec web.exp1.lab ['sh', '-c', 'echo hi'] \nping\n@7 exec web.exp1.lab ls\n")
        first, second = self.inside.talks
        self.assertEqual((first.argv, first.input_ended, first.terminal), (["sh", "-c", "echo hi"], True, False))
        self.assertEqual(second.argv, ["ls"])
        self.assertEqual(self.ann.raw(), [])
        second.say(b"bin\n")
        second.end()
        self.daemon.settle()
        self.assertEqual(heard(self.ann)[1], [("7", "exec_reply", {"exit": 0, "out": "bin\n", "err": ""})])
        first.say(b"hi \xe2\x82")
        first.say(b"\xac \xff")
        first.say(b"no", "err")
        first.end(137)
        self.daemon.settle()
        (_, word, body), (_, ping, _) = heard(self.ann)[1]
        self.assertEqual((word, ping), ("exec_reply", "ping_reply"))
        self.assertEqual(body, {"exit": 137, "out": "hi \u20ac \ufffd", "err": "no"})

    def test_keepsSoMuch(self) -> None:
        """
        Of endless output the beginning is kept, and the reply says that there was more.
        """
        self.ann.send("exec web.exp1.lab yes\n")
        for _ in range(100):
            self.talk.say(b"y\n" * 1000)
        self.talk.end()
        self.daemon.settle()
        body = heard(self.ann)[1][0][2]
        self.assertEqual((body["out"], body["cut"], body["exit"]), ("y\n" * 500, True, 0))

    def test_isRefusedWhereItCannotBe(self) -> None:
        """
        In a sliver that is not up nothing is run, and the reason is told.
        """
        self.inside.refusal = "web.exp1.lab is not up"
        for line in ("exec web.exp1.lab ls", "@1 attach web.exp1.lab", "pull web.exp1.lab f", "push web.exp1.lab f x"):
            body = self.ann.ask(line).body
            self.assertEqual((body["code"], body["message"]), ("WRONG_STATE", "web.exp1.lab is not up"), line)
        tally = self.daemon.daemon.tally(self.ann.connection.caller)
        self.assertEqual((tally.streams, tally.tagged, tally.waiting), (0, 0, 0))

    def test_readsArguments(self) -> None:
        """
        A command is a list of texts, as many as one may have; what is none is refused before anything is run.
        """
        for words in ("[]", "['']", "[7]", "['a\\x00']", "'ls -l'", "{'a': 1}", repr(["x" * 1000] * 130)):
            self.assertEqual(self.ann.code(f"exec web.exp1.lab {words}"), "BAD_VALUE", words[:50])
        self.assertEqual(self.inside.talks, [])
        self.ann.send("exec web.exp1.lab ['a', '']\n")
        self.assertEqual(self.talk.argv, ["a", ""])

    def test_reachesFreeSlivers(self) -> None:
        """
        A sliver of no experiment is gone into like a node, by its owner.
        """
        self.daemon.connect().body("create lab_web kind=process owner=ann")
        self.ann.send("exec lab_web ls\n")
        self.assertEqual(self.talk.serial, self.free)
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(heard(self.ann)[1][0][1], "exec_reply")

    @property
    def free(self) -> int:
        sliver = self.daemon.host.sliver_named("lab_web")
        assert sliver is not None
        return sliver.serial

    def test_notFromInside(self) -> None:
        """
        Through its own socket a sliver goes into no sliver, not even as its root: neither itself nor another.
        """
        self.daemon.connect().body("create lab_web kind=process owner=ann")
        inner = self.daemon.connect(0)
        inner.connection.caller = Caller(0, via="sliver", sliver=self.free)
        for command in ("exec %s ls", "@1 attach %s", "logs %s", "push %s f x", "pull %s f"):
            self.assertEqual(inner.code(command % "lab_web").split()[-1], "DENIED", command)
            self.assertEqual(inner.code(command % "web.exp1.lab").split()[-1], "NO_SUCH_SLIVER", command)
        self.assertEqual(self.inside.talks, [])

    def test_isAudited(self) -> None:
        """
        Who ran what where is in the audit log, also when it was refused; what is written into files is not.
        """
        bob = self.daemon.connect(5002)
        self.daemon.connect().code("add_member lab bob")
        self.daemon.connect().code("remove_member lab bob")
        bob.code("exec web.exp1.lab ['rm', '-rf', '/']")
        self.ann.send("exec web.exp1.lab ['halt', 'now']\n@2 push web.exp1.lab /etc/secret 'pass phrase'\n")
        self.ann.send("@3 pull web.exp1.lab /etc/other\n@4 attach web.exp1.lab\n")
        said = [event for event in self.daemon.connect().body("events topic=audit") if event["principal"] != "uid:0"]
        found = [(one["what"], one["arguments"], one["outcome"]) for one in said][-5:]
        self.assertEqual(
            found,
            [
                ("exec", "['web.exp1.lab', ['rm', '-rf', '/']]", "NO_SUCH_SLIVER"),
                ("exec", "['web.exp1.lab', ['halt', 'now']]", "ok"),
                ("push", "['web.exp1.lab', '/etc/secret']", "ok"),
                ("pull", "['web.exp1.lab', '/etc/other']", "ok"),
                ("attach", "['web.exp1.lab']", "ok"),
            ],
        )
        self.assertIn("'halt'", "".join(self.daemon.disk.audit()))
        self.assertNotIn("phrase", "".join(self.daemon.disk.audit()))


class LogTests(Streamed):
    """
    What slivers wrote.
    """

    def test_showsTheEnd(self) -> None:
        """
        The newest bytes of each log of the start command, or of the one that is named.
        """
        self.inside.logs = {"log": b"exit 0\n", "out": b"0123456789", "console": b"boot\xff"}
        body = self.ann.body("logs web.exp1.lab tail=4")
        self.assertEqual(body, {"log": "t 0\n", "out": "6789", "err": ""})
        self.assertEqual(self.ann.body("logs web.exp1.lab stream=console"), {"console": "boot\ufffd"})
        self.assertEqual(self.ann.body("logs web.exp1.lab stream=initscript"), {"initscript": ""})
        self.assertEqual(self.ann.code("logs web.exp1.lab stream=other"), "BAD_VALUE")

    def test_follows(self) -> None:
        """
        What is there comes first, what is written then comes within half a second, also when the log begins anew.
        """
        self.inside.logs = {"out": b"one\n", "err": b"oh\n", "console": b"not this"}
        self.ann.send("@1 logs web.exp1.lab follow=True tail=2\n")
        self.daemon.advance(0)
        self.assertEqual(heard(self.ann), ({"1 out": b"e\n", "1 err": b"h\n"}, []))
        self.inside.logs["out"] += b"two\n" * 100_000
        self.daemon.advance(0.5)
        self.assertEqual(heard(self.ann)[0], {"1 out": b"two\n" * 100_000})
        self.daemon.advance(5)
        self.assertEqual(heard(self.ann), ({}, []))
        self.inside.logs["out"] = b"new\n"
        self.daemon.advance(0.5)
        self.assertEqual(heard(self.ann)[0], {"1 out": b"new\n"})
        self.ann.send("@1 data {'close': True}\n")
        self.assertEqual(heard(self.ann)[1], [("1", "logs_reply", {})])
        self.inside.logs["out"] += b"more"
        self.daemon.advance(5)
        self.assertEqual(self.ann.raw(), [])

    def test_followsTheConsole(self) -> None:
        """
        A log that is named is followed alone.
        """
        self.inside.logs = {"out": b"not this", "console": b"login: "}
        self.ann.send("@1 logs web.exp1.lab follow=True stream=console\n")
        self.daemon.advance(1)
        self.assertEqual(heard(self.ann)[0], {"1 out": b"login: "})

    def test_waitsForTheReader(self) -> None:
        """
        Of a log that grows faster than its reader reads, no more is held than fits.
        """
        self.inside.logs = {"out": b"x" * (8 << 20)}
        self.ann.transport.client_reads = False
        self.ann.send("@1 logs web.exp1.lab follow=True tail=1048576\n")
        self.daemon.advance(1)
        self.inside.logs["out"] += b"y" * (8 << 20)
        self.daemon.advance(10)
        self.assertLess(len(self.ann.transport.unread), 4 << 20)
        self.ann.transport.client_reads = True
        self.ann.transport.read()
        self.daemon.advance(10)
        self.assertEqual(heard(self.ann)[0], {"1 out": b"x" * (1 << 20) + b"y" * (8 << 20)})


class CopyTests(Streamed):
    """
    Files into slivers and out of them.
    """

    def blob(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.ann.body(f"blob {name} {len(data)} 0 '{b2a_base64(data, newline=False).decode()}'")
        return name

    def written(self, data: bytes) -> dict[str, Any]:
        return {"path": "d/f", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def test_pushesText(self) -> None:
        """
        A text is written inside by a shell in there, beside the file and then in its place.
        """
        self.ann.send("push web.exp1.lab d/f 'h\xe9' mode=755\n")
        assert self.talk.argv is not None
        shell, option, _, name, path, beside, mode = self.talk.argv
        self.assertEqual((shell, option, name, path, mode), ("/bin/sh", "-c", "push", "d/f", "755"))
        self.assertRegex(beside, r"\Ad/\.hostline-[0-9a-f]{16}\Z")
        self.assertEqual((self.talk.heard, self.talk.input_ended), ("h\xe9".encode(), True))
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(heard(self.ann)[1], [("", "push_reply", self.written("h\xe9".encode()))])

    def test_namesWhatIsBeside(self) -> None:
        """
        What is written first is in the same directory, wherever that is; no path is taken for an option.
        """
        for path, directory, said in (
            ("/f", "/", "/f"),
            ("f", "", "f"),
            ("-r", "./", "./-r"),
            ("/a/b/", "/a/b/", "/a/b/"),
        ):
            self.ann.send(f"@1 push web.exp1.lab {path} x\n")
            argv = self.talk.argv or []
            self.assertEqual((argv[4], argv[5].rpartition(".hostline-")[0]), (said, directory))
            self.talk.end()
            self.daemon.settle()

    def test_pushesABlob(self) -> None:
        """
        A blob of any bytes is written as it is, no faster than it is taken; nobody else's is.
        """
        name = self.blob(BINARY)
        self.ann.send(f"push web.exp1.lab d/f blob:{name}\n", settle=False)
        self.talk.takes = False
        self.daemon.advance(0.1)
        self.assertLess(self.talk.unwritten, 300_000)
        while not self.talk.input_ended:
            self.talk.unwritten = 0
            self.daemon.advance(0.01)
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(self.talk.heard, BINARY)
        self.assertEqual(heard(self.ann)[1], [("", "push_reply", self.written(BINARY))])
        self.assertEqual(self.daemon.connect().code(f"push web.exp1.lab d/f blob:{name}"), "NO_SUCH_BLOB")
        self.assertEqual(self.ann.code("push web.exp1.lab d/f blob:../../host.db"), "NO_SUCH_BLOB")

    def test_pushesAStream(self) -> None:
        """
        What comes as a stream is written once its end was said.
        """
        self.ann.send("@1 push web.exp1.lab d/f stream=True\n" + in_line(b"one") + in_line(b"\0two"))
        self.assertFalse(self.talk.input_ended)
        self.ann.send(end_line())
        self.assertTrue(self.talk.input_ended)
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(heard(self.ann)[1], [("1", "push_reply", self.written(b"one\0two"))])

    def test_writesNoHalf(self) -> None:
        """
        Of a file whose end never came nothing is left: hung up, cut off, closed, too late, or broken within.
        """
        for how, code in (
            (lambda client: client.hang_up(), None),
            (lambda client: client.end(), "BAD_VALUE"),
            (lambda client: client.send("@1 data {'close': True}\n"), "CANCELLED"),
            (lambda client: self.daemon.advance(61), "TIMEOUT"),
            (lambda client: client.send("@1 data {'stream': 'in', 'base64': '?'}\n"), "BAD_VALUE"),
        ):
            client = self.daemon.connect(5001)
            client.send("@1 push web.exp1.lab d/f stream=True timeout=60\n" + in_line(b"half"))
            talk = self.talk
            how(client)
            self.assertTrue(talk.closed)
            self.assertFalse(talk.input_ended)
            assert talk.argv is not None and self.talk.argv is not None
            self.assertEqual(self.talk.argv[2:], ['rm -f "$1"', "push", talk.argv[5]])
            if code is not None:
                self.assertEqual(self.code(client), code)
            self.daemon.advance(11)
            self.assertTrue(self.talk.closed)

    def test_tellsWhyNot(self) -> None:
        """
        What the shell inside complained about is the error.
        """
        for line in ("push web.exp1.lab d/f x", "pull web.exp1.lab d/f"):
            self.ann.send(line + "\n")
            self.talk.say(b"cat: d/f: No space left on device\n", "err")
            self.talk.end(1)
            self.daemon.settle()
            body = self.ann.replies()[0].body
            self.assertEqual((body["code"], body["message"]), ("FAILED", "cat: d/f: No space left on device"))
        self.ann.send("pull web.exp1.lab d/f\n")
        self.talk.end(137)
        self.daemon.settle()
        self.assertEqual(self.ann.replies()[0].body["message"], "d/f: the shell inside ended with status 137")

    def test_wantsOneSource(self) -> None:
        """
        What to write is said once.
        """
        self.assertEqual(self.ann.code("push web.exp1.lab d/f"), "BAD_ARGUMENTS")
        self.assertEqual(self.ann.code("@1 push web.exp1.lab d/f x stream=True"), "@1 BAD_ARGUMENTS")
        for wrong in ("'' x", "'a\\x00' x", "f x mode=888", "f x mode=rw", "f x mode=77777"):
            self.assertEqual(self.ann.code(f"push web.exp1.lab {wrong}"), "BAD_VALUE", wrong)
        self.assertEqual(self.inside.talks, [])

    def test_pulls(self) -> None:
        """
        A file comes in the reply, or as a stream.
        """
        self.ann.send("pull web.exp1.lab d/f\n")
        self.assertEqual((self.talk.argv or [])[2:], ['exec cat < "$1"', "pull", "d/f"])
        self.talk.say(BINARY)
        self.talk.end()
        self.daemon.settle()
        (_, _, body) = heard(self.ann)[1][0]
        self.assertEqual(a2b_base64(body.pop("base64")), BINARY)
        self.assertEqual(body, self.written(BINARY))
        self.ann.send("@1 pull web.exp1.lab d/f stream=True\n")
        self.talk.say(BINARY)
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(heard(self.ann), ({"1 out": BINARY}, [("1", "pull_reply", self.written(BINARY))]))

    def test_pullsNoMoreThanFits(self) -> None:
        """
        A file too large for a reply is not read to its end, and the error says what to do.
        """
        self.ann.send("pull web.exp1.lab d/f\n")
        self.talk.say(b"x" * (1 << 20))
        self.talk.say(b"x")
        self.daemon.settle()
        self.assertTrue(self.talk.closed)
        body = self.ann.replies()[0].body
        self.assertEqual(body["code"], "TOO_MANY")
        self.assertIn("stream=True", body["message"])
