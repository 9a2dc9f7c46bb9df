"""
Words of a shell as requests.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import main, usage
from hostline.clients.arguments import LOCAL, ROWS, Arguments, row_named
from hostline.clients.client import Client
from hostline.clients.settings import Settings, Usage
from hostline.protocol.commands import TABLE, Command
from hostline.protocol.errors import HostError
from hostline.protocol.words import split


def meaning(row: Command, line: str) -> Any:
    """
    What the daemon reads from a line: values and options, or the code of its error.
    """
    try:
        return row.read(split(line))
    except HostError as error:
        return error.code


def parsed(command: str, *words: str) -> Arguments:
    """
    @raise Usage: they make no sense.
    """
    return Arguments(TABLE[command], list(words), Settings())


class ArgumentsTests(SynchronousTestCase):
    """
    What the daemon would make of them.
    """

    def read(self, command: str, *words: str) -> tuple[list[Any], dict[str, Any]]:
        """
        What arrives, read by the command's Kinds.
        """
        given = parsed(command, *words)
        line = Client().prepared(given.row.name, given.values, given.options)
        return TABLE[command].read(split(line))

    def test_loans(self) -> None:
        """
        A list of loans is one argument, written as for the daemon; times are typed as they are said.
        """
        self.assertEqual(
            self.read("set_loans", "lab_web", "[['lab_db', 'cpu_share', 16]]", "--until", "+30m"),
            (["lab_web", [["lab_db", "cpu_share", 16]]], {"until": "+30m", "token": None}),
        )
        self.assertEqual(
            self.read("loan", "lab_db", "cpu_share", "16", "--lender=lab_web"),
            (["lab_db", "cpu_share", 16], {"lender": "lab_web", "until": None, "token": None}),
        )

    def test_options(self) -> None:
        """
        An option can be written in each of three ways, with C{-} for C{_}.
        """
        for words in (
            ("lab/exp1", "wait=5"),
            ("lab/exp1", "--wait", "5"),
            ("lab/exp1", "--wait=5"),
            ("--wait=5", "lab/exp1"),
        ):
            values, options = self.read("swap_in", *words)
            self.assertEqual((values, options["wait"]), (["lab/exp1"], 5.0))

    def test_flags(self) -> None:
        """
        A BOOL may stand alone.
        """
        for words, extra in (
            (("--extra",), True),
            (("--no-extra",), False),
            (("--extra=False",), False),
            (("extra=False",), False),
            (("--extra", "lab/exp1"), True),
        ):
            self.assertIs(self.read("node_list", *words)[1]["extra"], extra)
        self.assertIs(self.read("create_experiment", "a/b", "x", "--swap-in")[1]["swap_in"], True)

    def test_text(self) -> None:
        """
        A TEXT arrives as it was written, whatever it looks like.
        """
        for text in ("plain", "a b", "'quoted'", "[1]", "{", "None", "@@x", "\u20ac\n\t'\"", "7", ""):
            self.assertEqual(self.read("check_topology", text)[0], [text.replace("@@", "@")])

    def test_equalsInValue(self) -> None:
        """
        After C{--} nothing is an option.
        """
        self.assertEqual(self.read("check_topology", "--", "a=1")[0], ["a=1"])
        self.assertEqual(self.read("check_topology", "--", "--raw")[0], ["--raw"])
        self.assertRaises(Usage, parsed, "check_topology", "a=1")

    def test_lists(self) -> None:
        """
        A list may be a literal, one value, or several options.
        """
        keys = ["ssh-ed25519 AAAA ann@x", "ssh-rsa BBBB"]
        for words in ((f"keys={keys}",), ("--keys", keys[0], "--keys", keys[1])):
            self.assertEqual(self.read("add_user", "ann", *words)[1]["keys"], keys)
        self.assertEqual(self.read("add_user", "ann", f"keys={keys[0]}")[1]["keys"], keys[:1])
        self.assertEqual(self.read("add_delegate", "d", "commands=ping")[1]["commands"], ["ping"])

    def test_unquotedLists(self) -> None:
        """
        A list is read though the shell has taken its quotes; what it took more than that of stays one value.
        """
        for said, want in (
            ("[status_request,node_list]", ["status_request", "node_list"]),
            ("[ lab/exp1 , lab_web ]", ["lab/exp1", "lab_web"]),
            ("[*]", ["*"]),
            ("[a b, c]", ["[a b, c]"]),
            ("[a,,b]", ["[a,,b]"]),
            ("[[a],b]", ["[[a],b]"]),
        ):
            self.assertEqual(parsed("add_delegate", "d", f"slivers={said}").options["slivers"], want)
        self.assertEqual(self.read("ca_token", "[a.example.org, urn:site:b]")[0], [["a.example.org", "urn:site:b"]])

    def test_dict(self) -> None:
        """
        A dict is a literal.
        """
        self.assertEqual(self.read("add_project", "p", "quota={'memory_max': 7}")[1]["quota"], {"memory_max": 7})

    def test_repeated(self) -> None:
        """
        The last argument may repeat where the table says so.
        """
        self.assertEqual(self.read("node_reboot", "a/b", "web", "db")[0], ["a/b", ["web", "db"]])

    def test_file(self) -> None:
        """
        C{@FILE} is what is in it; for a list, one value on each line.
        """
        path = Path(self.mktemp())
        path.write_bytes("<x>\n\u20ac</x>\n".encode())
        self.assertEqual(self.read("check_topology", f"@{path}")[0], ["<x>\n\u20ac</x>\n"])
        self.assertTrue(parsed("check_topology", f"@{path}").values[0].given)
        path.write_text("# mine\nssh-rsa AAAA a\n\nssh-rsa BBBB b\n")
        self.assertEqual(self.read("add_user", "a", f"keys=@{path}")[1]["keys"], ["ssh-rsa AAAA a", "ssh-rsa BBBB b"])
        path.write_text("{'memory_max': 7}\n")
        self.assertEqual(self.read("add_project", "p", f"quota=@{path}")[1]["quota"], {"memory_max": 7})

    def test_standardInput(self) -> None:
        """
        C{-} is standard input where a TEXT is wanted.
        """
        self.patch(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"<x/>")))
        self.assertEqual(self.read("check_topology", "-")[0], ["<x/>"])

    def test_unreadable(self) -> None:
        """
        A file that cannot be read, or is no text, is named.
        """
        self.assertIn("/nowhere", str(self.assertRaises(Usage, parsed, "check_topology", "@/nowhere")))
        path = Path(self.mktemp())
        path.write_bytes(b"\xff")
        self.assertIn("UTF-8", str(self.assertRaises(Usage, parsed, "check_topology", f"@{path}")))

    def test_globalsAfterCommand(self) -> None:
        """
        Global options may come late, unless the command has one of that name.
        """
        settings = Settings()
        given = Arguments(TABLE["wait"], ["7", "--json", "--timeout", "5"], settings)
        self.assertEqual((settings.format, settings.timeout, given.options), ("json", None, {"timeout": "5"}))
        Arguments(TABLE["ping"], ["--timeout", "5"], settings)
        self.assertEqual(settings.timeout, 5)

    def test_wrong(self) -> None:
        """
        What is wrong is said, with the usage line, and what was perhaps meant.
        """
        for words, wants in (
            (("status_request",), "got 0 arguments"),
            (("status_request", "a/b", "c"), "got 2 arguments"),
            (("swap_in", "a/b", "wiat=5"), "wait"),
            (("swap_in", "a/b", "--wiat", "5"), "wait"),
            (("swap_in", "a/b", "--wait"), "wants a value"),
            (("swap_in", "a/b", "wait=1", "--wait=2"), "twice"),
            (("swap_in", "a/b", "-w"), "-w"),
            (("ping", "--timeout", "soon"), "want seconds"),
        ):
            error = self.assertRaises(Usage, parsed, *words)
            self.assertIn(wants, str(error))
        error = self.assertRaises(Usage, parsed, "status_request")
        self.assertEqual(error.usage, "hostline status_request PROJECT/EXPERIMENT")


class SettingsTests(SynchronousTestCase):
    """
    What stands before the command.
    """

    def test_all(self) -> None:
        """
        Each global option.
        """
        settings = Settings()
        words = ["--json", "--socket", "/s", "--timeout=2m", "ping", "--raw"]
        settings.take_all(words)
        self.assertEqual((settings.format, settings.socket, settings.timeout), ("json", "/s", 120))
        self.assertEqual(words, ["ping", "--raw"])

    def test_wrong(self) -> None:
        """
        No other option, and none without its value.
        """
        for words in (["--nope", "x"], ["--socket"], ["--timeout", "x"], ["--timeout="], ["--raw=1", "x"]):
            self.assertRaises(Usage, Settings().take_all, words)


class PlainTests(SynchronousTestCase):
    """
    Which words go to the daemon without a look at the table.
    """

    def test_plain(self) -> None:
        """
        Only such as mean the same to both.
        """
        for words in (["ping"], ["status_request", "lab/exp-1"], ["wait", "7"], ["unheard_of"]):
            self.assertTrue(main._is_plain(words), words)
        for words in (
            ["swap_in", "a/b", "wait=5"],
            ["check_topology", "-"],
            ["check_topology", "@x"],
            ["check_topology", "a b"],
            ["check_topology", "[1]"],
            ["check_topology", ""],
            ["check_topology", "\u20ac"],
            ["node_list", "--extra"],
            ["watch", "all"],
            ["shell"],
            ["@7", "ping"],
        ):
            self.assertFalse(main._is_plain(words), words)

    def test_same(self) -> None:
        """
        They are the same line as with the table.
        """
        for row in ROWS.values():
            words = [row.name] + ["a/b"] * (len(row.args) - row.optional)
            if main._is_plain(words):
                given = Arguments(row, words[1:], Settings())
                line = Client().prepared(row.name, given.values, given.options)
                self.assertEqual(meaning(row, " ".join(words)), meaning(row, line))


class InsideTests(SynchronousTestCase):
    """
    Commands that are run inside, and files that go there.
    """

    def given(self, command: str) -> tuple[list[Any], dict[str, Any]]:
        name, *words = command.split()
        given = Arguments(ROWS[name], words, Settings())
        return given.values, given.options

    def test_wordsAreItsOwn(self) -> None:
        """
        Behind the name of a command to be run nothing is ours; before it, options are.
        """
        for said, argv, options in (
            ("exec lab_web ls -l --raw", ["ls", "-l", "--raw"], {}),
            ("exec lab_web -- -x timeout=5", ["-x", "timeout=5"], {}),
            ("exec lab_web ls -- x", ["ls", "--", "x"], {}),
            ("exec -t lab_web timeout=5 env A=b c", ["env", "A=b", "c"], {"terminal": "True", "timeout": "5"}),
            ("exec --timeout=2m lab_web -t sh", ["sh"], {"terminal": "True", "timeout": "2m"}),
            ("exec lab_web @file [1] -", ["@file", "[1]", "-"], {}),
        ):
            self.assertEqual(self.given(said), (["lab_web", argv], options), said)

    def test_wantsACommand(self) -> None:
        """
        Without one, or with an option that exec does not have, it is wrong usage.
        """
        for said in (
            "exec lab_web",
            "exec lab_web --",
            "exec",
            "exec --stream lab_web ls",
            "exec -x lab_web ls",
            "ping -t",
        ):
            name, *words = said.split()
            self.assertRaises(Usage, Arguments, ROWS[name], words, Settings())

    def test_filesFirst(self) -> None:
        """
        What is pushed comes from a file here, what is pulled may go to one.
        """
        self.assertEqual(self.given("push lab_web f /etc/f mode=600"), (["lab_web", "f", "/etc/f"], {"mode": "600"}))
        self.assertEqual(self.given("push lab_web - -- -f"), (["lab_web", "-", "-f"], {}))
        self.assertEqual(self.given("pull lab_web /etc/f"), (["lab_web", "/etc/f"], {}))
        self.assertEqual(self.given("pull lab_web /etc/f f"), (["lab_web", "/etc/f", "f"], {}))
        self.assertRaises(Usage, Arguments, ROWS["push"], ["lab_web", "f"], Settings())


class UsageTests(SynchronousTestCase):
    """
    What is told to people.
    """

    def test_everyCommand(self) -> None:
        """
        Each command of the table is in the help, and has its own.
        """
        whole = usage.whole()
        for row in ROWS.values():
            self.assertIn(f"  {row.usage}\n", whole)
            self.assertIn(row.help, usage.of(row))
            for name in row.all_options:
                self.assertIn(f"  {name} ", usage.of(row))
        for local in LOCAL:
            self.assertIn(f"  {local}", whole)

    def test_dashes(self) -> None:
        """
        A command may be written with dashes.
        """
        self.assertEqual(row_named("status-request"), TABLE["status_request"])
        self.assertIsNone(row_named("nope"))

    def test_choices(self) -> None:
        """
        Where one of a few words is wanted they are named, and where a file's content may stand, how.
        """
        self.assertIn("container, account, process", usage.of(TABLE["create"]))
        self.assertIn("debian, busybox [debian]", usage.of(TABLE["image_build"]))
        self.assertIn("@FILE", usage.of(TABLE["image_import"]))
