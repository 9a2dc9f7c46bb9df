"""
Replies as people see them.
"""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import output, watch
from hostline.clients.progress import line
from hostline.clients.settings import Settings
from hostline.clients.tables import COLUMNS, cell, readable
from hostline.protocol.commands import ROWS
from hostline.protocol.kinds import Kind

NODE: dict[str, Any] = {
    "node": "web",
    "experiment": "exp1",
    "project": "lab",
    "name": "web.exp1.lab",
    "pnode": "pnode-0000",
    "host": "h1",
    "kind": "process",
    "image": None,
    "boot": "dead",
    "code": 137,
    "start_command": "ended",
    "address": None,
    "interfaces": [{"name": "e0", "link": "l", "ip4": None, "netmask": None, "mac": None}],
    "extra": True,
    "problems": [],
}


class ReadableTests(SynchronousTestCase):
    """
    Tables, records and texts.
    """

    def setUp(self) -> None:
        zone = os.environ.get("TZ")

        def back() -> None:
            os.environ.pop("TZ", None)
            if zone is not None:
                os.environ["TZ"] = zone
            time.tzset()

        self.addCleanup(back)
        os.environ["TZ"] = "UTC"
        time.tzset()

    def test_status(self) -> None:
        """
        A status is a line for each node, sorted.
        """
        body = {
            "hv:qemu:pnode-0001": {"db": [None, None]},
            "hv:process:pnode-0000": {"web": ["dead", 137], "a": ["booted", 0]},
        }
        self.assertEqual(
            readable("status_reply", body),
            "HYPERVISOR             NODE  BOOT    CODE\n"
            "hv:process:pnode-0000  a     booted  0\n"
            "hv:process:pnode-0000  web   dead    137\n"
            "hv:qemu:pnode-0001     db    -       -\n",
        )
        self.assertEqual(readable("status_reply", {}), "(not swapped in)\n")

    def test_list(self) -> None:
        """
        A list of dicts is a table of what matters; times are times, nested things counted.
        """
        body = [
            {
                "name": "lab/exp1",
                "state": "active",
                "owner": "ann",
                "nodes": {"web": NODE},
                "created": 0.5,
                "swapped_in": None,
            }
        ]
        self.assertEqual(
            readable("experiments_reply", body),
            "NAME      STATE   OWNER  NODES  CREATED\nlab/exp1  active  ann    1      1970-01-01 00:00:00\n",
        )
        self.assertEqual(readable("experiments_reply", []), "(none)\n")
        self.assertEqual(readable("extra_nodes_reply", ["a.b.c", "d.b.c"]), "a.b.c\nd.b.c\n")

    def test_certificates(self) -> None:
        """Of certificates the times are times, and what is not revoked has none."""
        times = {"issued": 1700000000.0, "until": 1700000000.0, "revoked": 0.0}
        one = {"number": "e5b3", "names": ["dns:a.b"], "purpose": "host", **times, "renews": ""}
        text = readable("certificates_reply", [one, {**one, "revoked": 1700000000.0}])
        self.assertEqual([line.count("2023-11-14 22:13:20") for line in text.splitlines()], [0, 2, 3], text)

    def test_findings(self) -> None:
        """
        What doctor found stands there whole, with the remedy below.
        """
        long = "mend what it says " * 9
        found = [
            {"check": "disk", "ok": True, "detail": "7 MiB free", "remedy": ""},
            {"check": "tls", "ok": False, "detail": long.strip(), "remedy": long.strip()},
            {"check": "clock", "ok": True, "detail": "-", "remedy": ""},
        ]
        want = ["CHECK  OK   DETAIL", "disk   yes  7 MiB free", f"tls    no   {long.strip()}", f"    {long.strip()}"]
        self.assertEqual(readable("doctor_reply", found).splitlines(), [*want, "clock  yes  -"])

    def test_checked(self) -> None:
        """
        What is wrong with a topology is told in full and last, whatever its names do.
        """
        found = {"line": 3, "text": f"no node {'x' * 100}\x1b[31m"}
        said = readable("check_topology_reply", {"nodes": [], "warnings": [found], "errors": [found]})
        text = f"no node {'x' * 100}\\x1b[31m"
        self.assertTrue(said.endswith(f"line 3: error: {text}\nline 3: warning: {text}\n"), said)

    def test_interfaces(self) -> None:
        """
        In a table a node's interfaces are its links and addresses.
        """
        interfaces = [
            {"name": "e0", "link": "lan0", "ip4": "10.1.1.2", "netmask": None, "mac": None},
            {"name": "e1", "link": "l", "ip4": None, "netmask": None, "mac": None},
        ]
        self.assertEqual(cell(interfaces), "lan0 10.1.1.2, l")

    def test_nodes(self) -> None:
        """
        Nodes look the same in a list and within an experiment; empty columns are left out.
        """
        table = (
            "NAME          HOST  PNODE       KIND     BOOT  CODE  START_COMMAND\n"
            "web.exp1.lab  h1    pnode-0000  process  dead  137   ended\n"
        )
        self.assertEqual(readable("node_list_reply", [NODE]), table)
        inside = "".join(f"  {one}\n" for one in table.splitlines())
        self.assertEqual(
            readable(
                "experiment_reply", {"name": "lab/exp1", "nodes": {"web": NODE}, "links": {}, "warnings": ["a", "b"]}
            ),
            f"name:     lab/exp1\nnodes:\n{inside}links:    -\nwarnings:\n  a\n  b\n",
        )

    def test_texts(self) -> None:
        """
        Texts are themselves.
        """
        self.assertEqual(readable("topology_reply", {"format": "topdl", "text": "<x>\n</x>"}), "<x>\n</x>\n")
        self.assertEqual(
            readable("logs_reply", {"log": "exit 0\n", "out": "hi", "err": ""}), "--- log\nexit 0\n--- out\nhi\n"
        )
        self.assertEqual(readable("logs_reply", {"log": "", "out": "", "err": ""}), "(nothing yet)\n")
        self.assertEqual(
            readable("help_reply", {"ping": {"usage": "ping", "help": "The clock.", "who": []}}),
            "ping\n    The clock.\n",
        )

    def test_controlCharacters(self) -> None:
        """
        Nothing of what others made up moves the reader's cursor.
        """
        evil = "\x1b]0;x\x07\r\x9b2J"
        bodies: list[tuple[str, Any]] = [
            ("logs_reply", {"log": evil, "out": "", "err": ""}),
            ("topology_reply", {"format": "ns", "text": evil}),
            ("experiments_reply", [{"name": evil, "nodes": {}}]),
            ("x_reply", {evil: evil, "list": [evil, {evil: evil}], "dict": {evil: {"a": evil}}, "text": f"a\n{evil}"}),
            ("x_reply", [evil]),
            ("x_reply", evil),
            ("status_reply", {"hv:x:pnode-0000": {"web": [evil, 0]}}),
        ]
        for word, body in bodies:
            shown = readable(word, body)
            self.assertEqual({one for one in shown if not one.isprintable()} - {"\n"}, set(), (word, shown))
        event = {"cursor": 1, "time": 0.0, "topic": evil, "what": evil, "request": None, evil: evil}
        self.assertTrue(watch.line(event)[:-1].isprintable())

    def test_anyValue(self) -> None:
        """
        Whatever a newer daemon answers, something is shown.
        """
        bodies: list[Any] = [
            None,
            True,
            7,
            1.5,
            "",
            "a",
            [],
            {},
            [[]],
            [1, {}],
            {"a": [[{}]]},
            [{"a": 1}, {"b": {}}],
            {"a": {"b": 1}},
        ]
        for body in bodies:
            self.assertTrue(readable("newer_reply", body).endswith("\n"))

    def test_columnsExist(self) -> None:
        """
        A column is a key that the command's reply has.
        """
        kinds: dict[str, Kind] = {row.reply_word: row.reply for row in ROWS}
        for word, columns in COLUMNS.items():
            (item,) = kinds[word].parts
            self.assertEqual(set(columns) - set(item.fields), set(), word)


class EventLineTests(SynchronousTestCase):
    """
    Events and progress, each on a line.
    """

    def test_event(self) -> None:
        """
        Time, topic, what, and what there is more to say.
        """
        event = {
            "cursor": 1,
            "time": 0.0,
            "topic": "operation/5",
            "what": "failed",
            "request": "r",
            "operation": 5,
            "causes": ["a", "b"],
        }
        self.assertEqual(watch.line(event), "--:--:-- operation/5 failed causes=a, b\n")

    def test_progress(self) -> None:
        """
        How far, and for how long.
        """
        operation = {
            "command": "swap_in",
            "target": "lab/exp1",
            "state": "running",
            "step": "3 of 20 nodes",
            "progress": 0.15,
        }
        self.assertEqual(line(operation, 12.4), "swap_in lab/exp1: 3 of 20 nodes, 15 %, 12 s")
        self.assertEqual(line({**operation, "progress": None, "step": ""}, 0), "swap_in lab/exp1: running, 0 s")


class OutputTests(SynchronousTestCase):
    """
    Which form goes out.
    """

    BODY = b"{'a': [None, True]}"

    def shown(self, format: str, terminal: bool, body: bytes = BODY) -> bytes:
        """
        What is written.
        """
        written: list[bytes] = []
        self.patch(output, "terminal", lambda: terminal)
        self.patch(output, "write", written.append)
        settings = Settings()
        settings.format = format
        output.show(settings, "x_reply", body)
        return b"".join(written)

    def test_forms(self) -> None:
        """
        The bytes as they came, unless somebody looks on or asks for JSON.
        """
        self.assertEqual(self.shown("auto", False, b"{'a':  1 }"), b"{'a':  1 }\n")
        self.assertEqual(self.shown("raw", True, b"{'a':  1 }"), b"{'a':  1 }\n")
        self.assertEqual(self.shown("json", False), b'{"a": [null, true]}\n')
        self.assertEqual(self.shown("json", True), b'{"a": [null, true]}\n')
        self.assertEqual(self.shown("auto", True), b"a:\n  -\n  yes\n")

    def test_errors(self) -> None:
        """
        The message, the causes that it does not name already, the lines that are wrong.
        """
        said: list[str] = []
        self.patch(output, "complain", said.append)
        body = {"code": "FAILED", "message": "no disk", "causes": ["no disk", "full"], "operation": 7}
        output.show_error(Settings(), body)
        self.assertEqual(said, ["error: no disk", "  cause: full", "  operation: 7"])
        said.clear()
        output.show_error(
            Settings(),
            {
                "message": "line 1: bad (and 1 more)",
                "errors": [{"line": 1, "text": "bad"}, {"line": 3, "text": "worse"}],
            },
        )
        self.assertEqual(said, ["error: line 1: bad (and 1 more)", "  line 3: worse"])
        for format, body_line in (("raw", "{'message': 'm'}"), ("json", '{"message": "m"}')):
            said.clear()
            settings = Settings()
            settings.format = format
            output.show_error(settings, {"message": "m"})
            self.assertEqual(said, ["error: m", body_line])
