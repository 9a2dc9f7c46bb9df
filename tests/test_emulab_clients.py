"""
Emulab's commands at a shell: what is typed, what is asked of the daemon for it, and how it ends.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import emulab as commands
from hostline.clients import emulab_experiments, main, output
from hostline.clients.emulab import FORMS
from hostline.clients.emulab_flags import Asked, WrongFlags
from hostline.clients.settings import Settings
from hostline.protocol import emulab
from hostline.protocol.emulab import expinfo
from hostline.protocol.errors import ERRORS, BadValue, HostError
from hostline.protocol.wire import Reply

EXPERIMENT = {
    "name": "lab/exp1",
    "state": "active",
    "warnings": [],
    "nodes": {
        "web": {
            "node": "web",
            "name": "web.exp1.lab",
            "kind": "process",
            "image": None,
            "host": "h1",
            "start_command": "ended",
            "start_code": 7,
            "interfaces": [{"link": "lan0", "ip4": "10.1.1.2", "netmask": "255.255.255.0", "mac": "02:00:00:00:00:01"}],
        },
        "db": {
            "node": "db",
            "name": "db.exp1.lab",
            "kind": "qemu",
            "image": "debian",
            "host": "h1",
            "start_command": "none",
            "interfaces": [{"link": "lan0", "ip4": "10.1.1.3", "netmask": "255.255.255.0", "mac": None}],
        },
    },
    "links": {
        "lan0": {"link": "lan0", "kind": "lan", "rate_kbps": 1000.0, "delay_ms": 5.0, "loss": 0.01, "by": "tc"},
    },
}
OPERATION = {"operation": 17, "command": "swap_in", "state": "running"}


def asked(letters: str, *words: str, long: tuple[str, ...] = ()) -> Asked:
    """
    What was typed.
    """
    return Asked(letters, list(words), Settings(), long)


class FlagTests(SynchronousTestCase):
    """
    Flags and the other words.
    """

    def test_ways(self) -> None:
        """
        Together, apart, with their value or before it, and among the other words.
        """
        for words in (
            ["-w", "-e", "lab,exp1", "in"],
            ["-we", "lab,exp1", "in"],
            ["-welab,exp1", "in"],
            ["in", "-e", "lab,exp1", "-w"],
            ["-w", "-e", "lab,exp1", "--", "in"],
        ):
            found = asked("we:", *words)
            self.assertEqual((found.flags, found.words), ({"w": True, "e": "lab,exp1"}, ["in"]), words)

    def test_wrong(self) -> None:
        """
        What there is none of is named.
        """
        for words in (["-x"], ["-wx"], ["-e"], ["--nope"], ["--socket"], ["-:"], ["--timeout", "x"]):
            self.assertRaises(WrongFlags, asked, "we:", *words)

    def test_global(self) -> None:
        """
        Where the daemon is may be said here too, and help asked for.
        """
        found = asked("w", "--socket", "/s", "-w", "--json", "-h")
        self.assertEqual((found.settings.socket, found.settings.format, found.settings.asked), ("/s", "json", "help"))

    @given(st.lists(st.text("-we:lab,/ x", max_size=6), max_size=5))
    def test_anything(self, words: list[str]) -> None:
        """
        Whatever is typed, it is read or refused.
        """
        try:
            asked("we:", *words).experiment()
        except WrongFlags:
            pass

    def test_experiments(self) -> None:
        """
        C{-e P,E}, C{-e P/E}, C{P E}, C{P/E} and C{P,E}.
        """
        for words in (["-e", "lab,exp1"], ["-e", "lab/exp1"], ["lab", "exp1"], ["lab/exp1"], ["lab,exp1"]):
            self.assertEqual(asked("e:", *words).experiment(), "lab/exp1", words)
        for words in (["-e", "lab"], ["lab"], [], ["-e", "lab,"], ["-e", "a b,c"], ["-e", "lab,exp1,x"]):
            self.assertRaises(WrongFlags, asked("e:", *words).experiment)


class _Saying(Asked):
    """
    Says nothing to anybody: keeps what was asked.
    """

    lines: list[tuple[Any, ...]]
    replies: dict[str, Any]

    def reply(self, command: str, *values: Any, **options: Any) -> Any:
        chosen = {name: value for name, value in options.items() if value is not None}
        self.lines.append((command, *values, chosen))
        found = self.replies.get(command, EXPERIMENT)
        if isinstance(found, HostError):
            raise found
        word = "operation_reply" if found is OPERATION else f"{command}_reply"
        return Reply(None, word, found)


class CommandTests(SynchronousTestCase):
    """
    From what is typed to what is asked.
    """

    def setUp(self) -> None:
        self.said: list[str] = []
        self.complaints: list[str] = []
        for module in (commands, emulab_experiments, sys.modules["hostline.clients.emulab_nodes"]):
            self.patch(module, "say", self.said.append)
            self.patch(module, "complain", self.complaints.append)
        self.patch(output, "complain", self.complaints.append)
        self.patch(commands, "Asked", _Saying)
        _Saying.lines, _Saying.replies = [], {}
        directory = Path(self.mktemp())
        directory.mkdir()
        self.file = directory / "t.xml"
        self.file.write_text("<experiment/>")

    def run_it(self, *words: str) -> tuple[int, list[tuple[Any, ...]]]:
        """
        @return: the exit status, and what was asked.
        """
        del _Saying.lines[:]
        del self.said[:]
        return commands.run([str(one) for one in words], Settings()), list(_Saying.lines)

    def test_startexp(self) -> None:
        """
        Made and swapped in, at once or with limits of its own.
        """
        file = str(self.file)
        create = ("create_experiment", "lab/exp1", "<experiment/>")
        for name in ("startexp", "batchexp"):
            self.assertEqual(
                self.run_it(name, "-i", "-w", "-p", "lab", "-e", "exp1", file),
                (0, [(*create, {"swap_in": True, "wait": 1e8})]),
            )
        self.assertEqual(self.said, ["lab/exp1 is active\n"])
        self.assertEqual(
            self.run_it("startexp", "-f", "-q", "-E", "about", "-p", "lab", "-e", "exp1", file),
            (0, [(*create, {"swap_in": False, "wait": 0})]),
        )
        self.assertEqual(self.said, [])
        _Saying.replies = {"create_experiment": OPERATION, "experiment": {**EXPERIMENT, "warnings": ["line 1: odd"]}}
        self.assertEqual(self.run_it("startexp", "-p", "lab", "-e", "exp1", file)[0], 0)
        self.assertEqual(self.complaints, ["warning: line 1: odd"])
        _Saying.replies = {}
        self.assertEqual(
            self.run_it("startexp", "-l", "30", "-a", "120", "-p", "lab", "-e", "lab,exp1", file),
            (0, [(*create, {"swap_in": True, "wait": 0, "idle": 1800.0, "most": 7200.0})]),
        )
        self.assertEqual(
            self.run_it("startexp", "-L", "a long run", "-p", "lab", "-e", "exp1", file),
            (0, [(*create, {"swap_in": True, "wait": 0, "no_idle": "a long run"})]),
        )

    def test_startexpRefused(self) -> None:
        """
        No reason is none, and no number is none.
        """
        for more in (["-L", " "], ["-S", ""], ["-l", "x"], ["-l", "1", "-L", "y"]):
            status, lines = self.run_it("startexp", *more, "-p", "lab", "-e", "exp1", str(self.file))
            self.assertEqual((status, lines), (255, []), more)

    def test_swapexp(self) -> None:
        """
        In and out; without C{-w} it says how to go on.
        """
        _Saying.replies = {"swap_in": OPERATION}
        self.assertEqual(self.run_it("swapexp", "lab", "exp1", "in"), (0, [("swap_in", "lab/exp1", {"wait": 0})]))
        self.assertEqual(self.said, ["lab/exp1: swap_in goes on as operation 17; hostline wait 17\n"])
        self.assertEqual(
            self.run_it("swapexp", "-w", "-s", "out", "lab/exp1"), (0, [("swap_out", "lab/exp1", {"wait": 1e8})])
        )

    def test_modexp(self) -> None:
        """
        Another topology; C{-r} reboots all nodes when that is done.
        """
        _Saying.replies = {"modify_experiment": {"added": ["new"], "removed": [], "changed": [], "kept": ["web"]}}
        modify = ("modify_experiment", "lab/exp1", "<experiment/>")
        self.assertEqual(self.run_it("modexp", "-e", "lab,exp1", str(self.file)), (0, [(*modify, {"wait": 0})]))
        self.assertEqual(self.said, ["added: new\n", "kept: web\n"])
        status, lines = self.run_it("modexp", "-r", "lab", "exp1", str(self.file))
        self.assertEqual(status, 0)
        self.assertEqual(lines[0], (*modify, {"wait": 1e8}))
        self.assertEqual(lines[-1], ("node_reboot", "lab/exp1", "web", "db", {"wait": 0}))

    def test_toml(self) -> None:
        """
        A file whose name says so is TOML.
        """
        file = self.file.with_name("t.toml")
        file.write_text("[web]")
        _Saying.replies = {"check_topology": {"warnings": [], "errors": [{"line": 1, "text": "no"}]}}
        self.assertEqual(self.run_it("nscheck", str(file)), (2, [("check_topology", "[web]", {"format": "toml"})]))
        self.assertEqual(self.said, ["line 1: error: no\n"])
        self.assertEqual(self.run_it("modexp", "lab/exp1", str(file))[1][0][-1], {"wait": 0, "format": "toml"})

    def test_expwait(self) -> None:
        """
        A state, or all start commands; 8 if it does not come.
        """
        self.assertEqual(
            self.run_it("expwait", "-t", "5", "lab/exp1", "active"),
            (0, [("wait_for", "lab/exp1", "active", {"timeout": 5.0})]),
        )
        _Saying.replies = {"wait_for": ERRORS["TIMEOUT"]("late")}
        self.assertEqual(
            self.run_it("expwait", "--nodes-started", "-e", "lab,exp1"),
            (8, [("wait_for", "lab/exp1", "started", {"timeout": 1e8})]),
        )
        for state, own in (("terminating", "terminating"), ("ended", "terminated"), ("modify_reswap", "modifying")):
            self.assertEqual(
                self.run_it("expwait", "-t", "0", "lab/exp1", state),
                (8, [("wait_for", "lab/exp1", own, {"timeout": 0.0})]),
            )
        self.assertEqual(self.run_it("expwait", "lab/exp1", "nonsense"), (255, []))

    def test_nodeReboot(self) -> None:
        """
        Nodes by their full names, or all of an experiment.
        """
        self.assertEqual(
            self.run_it("node_reboot", "-w", "web.exp1.lab", "a.exp2.lab", "db.exp1.lab"),
            (
                0,
                [
                    ("node_reboot", "lab/exp1", "web", "db", {"wait": 1e8}),
                    ("node_reboot", "lab/exp2", "a", {"wait": 1e8}),
                ],
            ),
        )
        ghost = {"host": "h1", "boots": 0}  # nobody started it
        _Saying.replies = {"experiment": {**EXPERIMENT, "nodes": {"g": ghost, **cast("Any", EXPERIMENT["nodes"])}}}
        status, lines = self.run_it("node_reboot", "-cf", "-e", "lab,exp1")
        self.assertEqual((status, lines[-1]), (0, ("node_reboot", "lab/exp1", "web", "db", {"wait": 0})))

    def test_delayConfig(self) -> None:
        """
        Parameters with C{=} or, as in pages that tell of it, with C{#}.
        """
        self.assertEqual(
            self.run_it(
                "delay_config", "-m", "-s", "web", "-e", "lab,exp1", "lan0", "BANDWIDTH=1000", "DELAY#20", "PLR=0.1"
            ),
            (
                0,
                [
                    (
                        "delay_config",
                        "lab/exp1",
                        "lan0",
                        {"source": "web", "save": True, "rate_kbps": 1000, "delay_ms": 20.0, "loss": 0.1},
                    )
                ],
            ),
        )
        self.assertEqual(
            self.run_it("delay_config", "lab", "exp1", "lan0", "DELAY=5", "LIMIT=50"),
            (0, [("delay_config", "lab/exp1", "lan0", {"delay_ms": 5.0})]),
        )
        self.assertEqual(self.complaints, ["warning: LIMIT counts for nothing here"])

    def test_benitos(self) -> None:
        """
        Nodes that do not say what they are are made so; the others stay.
        """
        self.file.write_text(
            "<experiment><elements><computer><name>a</name></computer></elements>"
            "<elements><computer><name>b</name><attribute><attribute>partition</attribute><value>0</value></attribute>"
            "</computer></elements></experiment>"
        )
        options: dict[str, Any] = {"kind": "qemu"}
        status, lines = self.run_it("qemu_experiment", "lab", "exp1", str(self.file), "4")
        of_qemu = {**options, "packing": 4, "force_partition": True}
        self.assertEqual((status, lines[0]), (0, ("create_experiment", "lab/exp1", self.file.read_text(), of_qemu)))
        self.assertEqual(lines[1], ("swap_in", "lab/exp1", {"wait": 0}))
        status, lines = self.run_it("mixed_experiment", "-w", "lab", "exp1", str(self.file))
        self.assertEqual((status, lines[0][3]), (0, {**options, "kind_alone": "embedded"}))
        self.assertEqual(lines[1], ("swap_in", "lab/exp1", {"wait": 1e8}))

    def test_statuses(self) -> None:
        """
        The exit status is Emulab's code of the error; without a daemon it is 5.
        """
        for code, status in {
            "NO_SUCH_EXPERIMENT": 2,
            "DENIED": 3,
            "BAD_VALUE": 1,
            "NO_DAEMON": 5,
            "TOO_MANY": 7,
        }.items():
            _Saying.replies = {"terminate": ERRORS[code]("x")}
            self.assertEqual(self.run_it("endexp", "lab/exp1")[0], status, code)
        self.assertEqual(self.complaints, ["error: x"] * 5)

    def test_help(self) -> None:
        """
        Each explains itself, without asking anybody.
        """
        for name in FORMS:
            self.assertEqual(self.run_it(name, "--help"), (0, []))
            self.assertTrue(self.said[0].startswith(f"usage: hostline {name} "), name)


class MeantTests(SynchronousTestCase):
    """
    Which of two commands of one name is meant.
    """

    def test_which(self) -> None:
        """
        Flags of one letter, nodes in full and words in capitals are Emulab's.
        """
        for line, is_emulabs in {
            "node_reboot lab/exp1 web": False,
            "node_reboot lab/exp1 web --wait 3": False,
            "node_reboot lab/exp1 web wait=0": False,
            "node_reboot --help": False,
            "node_reboot -h": False,
            "node_reboot web.exp1.lab": True,
            "node_reboot -w web.exp1.lab": True,
            "node_reboot -e lab,exp1": True,
            "node_list lab/exp1": False,
            "node_list --extra": False,
            "node_list": False,
            "node_list -e lab,exp1 -v": True,
            "delay_config lab/exp1 lan0 delay_ms=5": False,
            "delay_config lab/exp1 lan0 DELAY=5": True,
            "delay_config lab exp1 lan0 DELAY#5": True,
            "delay_config -e lab,exp1 lan0 DELAY=5": True,
        }.items():
            self.assertEqual(main._is_emulabs(line.split()), is_emulabs, line)

    def test_known(self) -> None:
        """
        What the program knows without reading its tables is what is there.
        """
        self.assertEqual(main._EMULAB | {"node_reboot", "delay_config"}, set(FORMS))


class WordTests(SynchronousTestCase):
    """
    What both sides say.
    """

    def test_expinfo(self) -> None:
        """
        Columns of 15, 12 and 15 letters.
        """
        self.assertEqual(expinfo(EXPERIMENT), "Experiment: lab/exp1\nState: active\n")
        self.assertEqual(
            expinfo(EXPERIMENT, ["nodeinfo", "mapping"]),
            "Experiment: lab/exp1\n"
            "State: active\n"
            "\n"
            "Virtual Node Info:\n"
            "ID              Type         OS              Qualified Name\n"
            "--------------- ------------ --------------- -----------------------------------\n"
            "web             process                      web.exp1.lab\n"
            "                                             start command: ended, exit status 7\n"
            "db              qemu         debian          db.exp1.lab\n"
            "\n"
            "Physical Node Mapping:\n"
            "ID              Type         OS              Physical\n"
            "--------------- ------------ --------------- --------\n"
            "web             process                      h1\n"
            "db              qemu         debian          h1\n",
        )
        self.assertEqual(
            expinfo(EXPERIMENT, ["linkinfo", "shaping"]).partition("\n\n")[2],
            "Virtual Lan/Link Info:\n"
            "ID              Member          IP/Mask           Delay     BW (Kbs)  Loss Rate\n"
            "--------------- --------------- ----------------- --------- --------- ---------\n"
            "lan0            web:0           10.1.1.2/24       5.00      1000      0.0100\n"
            "                db:0            10.1.1.3/24       5.00      1000      0.0100\n"
            "\n"
            "Physical Delay Info:\n"
            "ID              Member          MAC               Delay     BW (Kbs)  Loss Rate By\n"
            "--------------- --------------- ----------------- --------- --------- --------- --\n"
            "lan0            web:0           02:00:00:00:00:01 5.00      1000      0.0100    tc\n"
            "                db:0                              5.00      1000      0.0100    tc\n",
        )

    def test_expinfoBetween(self) -> None:
        """
        From one state to another there is no information.
        """
        for state in ("new", "activating", "swapping", "terminating", "modifying"):
            said = expinfo({**EXPERIMENT, "state": state}, ["mapping"])
            self.assertTrue(said.endswith("\nNo information available.\n"), said)

    def test_truths(self) -> None:
        """
        Small letters only.
        """
        for value in (True, 1, "true", "yes", "on", "1"):
            self.assertTrue(emulab.is_true(value), value)
        others: list[Any] = [False, 0, 2, "True", "YES", "", "no", "off", None, [], 1.5]
        for value in others:
            self.assertFalse(emulab.is_true(value), value)

    def test_shaping(self) -> None:
        """
        Numbers in the right units; what is none, or nothing, is refused.
        """
        found = emulab.shaping({"bandwidth": "1e3", "DELAY": "2.5", "PLR": "0", "LIMIT": "7"})
        self.assertEqual(found, ({"rate_kbps": 1000, "delay_ms": 2.5, "loss": 0.0}, ["LIMIT"]))
        for given_ in ({}, {"LIMIT": "1"}, {"DELAY": "x"}, {"SPEED": "1"}, {"BANDWIDTH": "1.5"}, {"BANDWIDTH": "nan"}):
            self.assertRaises(BadValue, emulab.shaping, given_)

    def test_states(self) -> None:
        """
        Ours have Emulab's names, and back.
        """
        self.assertEqual(emulab.shown_state("modifying"), "modify_reswap")
        for state in ("swapped", "activating", "active", "swapping", "terminating", "failed", "modifying", "new"):
            self.assertEqual(emulab.own_state(emulab.shown_state(state)), state)
            self.assertIn(emulab.shown_state(state), emulab.STATES)
