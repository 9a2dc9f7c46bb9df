"""
Completion, at a shell's prompt and at our own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.arguments import ROWS
from hostline.clients.completion import _NAMES, names, script
from hostline.clients.prompt import Candidates
from hostline.protocol.commands import TABLE
from tests.canned import Canned
from tests.needs import needs_tool

EXPERIMENTS = b"experiments_reply [{'name': 'lab/exp1'}, {'name': 'lab/exp2'}]\n"


class BashTests(SynchronousTestCase):
    """
    The script, run by bash, with a stand-in for hostline.
    """

    def completed(self, line: str) -> list[str]:
        """
        What bash would offer at the end of a line.
        """
        path = Path(self.mktemp())
        path.write_text(script("bash"))
        told = (
            f"source {path}\n"
            "hostline() { [[ $* == 'completion names PROJECT/EXPERIMENT' ]] && printf 'lab/exp1\\nlab/exp2\\n';"
            " [[ $* == 'completion names NODE lab/exp1' ]] && echo web;"
            " [[ $* == '--socket /s completion names OPERATION' ]] && echo 17;"
            " [[ $* == '--host h --trust=/t completion names OPERATION' ]] && echo 18; return 0; }\n"
            f"COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE)\n"
            "[[ $COMP_LINE == *' ' ]] && COMP_WORDS+=(\"\")\n"
            "COMP_CWORD=$((${#COMP_WORDS[@]}-1))\n"
            f"_{line.split(' ')[0]}; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        )
        done = subprocess.run(["bash", "--norc", "-c", told], capture_output=True, text=True, timeout=20, check=True)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_commands(self) -> None:
        """
        Commands, and global options where one begins with a dash.
        """
        self.assertEqual(self.completed("hostline status_r"), ["status_request"])
        self.assertLess(set(ROWS), set(self.completed("hostline ")))
        self.assertEqual(self.completed("hostline --js"), ["--json"])

    def test_names(self) -> None:
        """
        Names come from the daemon that was asked for.
        """
        self.assertEqual(self.completed("hostline status_request "), ["lab/exp1", "lab/exp2"])
        self.assertEqual(self.completed("hostline --json status_request lab/exp2"), ["lab/exp2"])
        self.assertEqual(self.completed("hostline node_reboot lab/exp1 w"), ["web", "wait="])
        self.assertEqual(self.completed("hostline node_reboot lab/exp1 web w"), ["web", "wait="])
        self.assertEqual(self.completed("hostline --socket /s wait 1"), ["17"])
        self.assertEqual(self.completed("hostline --host h --trust=/t wait 1"), ["18"])

    def test_certificates(self) -> None:
        """
        C{ca WORD} is completed as the command that it is.
        """
        self.assertEqual(self.completed("hostline ca re"), ["renew", "revoke", "revoked"])
        self.assertEqual(self.completed("hostline ca token a.example.org purpose=t"), ["ticket"])
        self.assertEqual(self.completed("hostline ca enrol x "), [])

    def test_options(self) -> None:
        """
        Options in each way, and their values.
        """
        self.assertEqual(self.completed("hostline swap_in lab/exp1 w"), ["wait="])
        self.assertEqual(self.completed("hostline swap_in lab/exp1 --w"), ["--wait="])
        self.assertEqual(self.completed("hostline node_list extra="), ["True", "False"])
        self.assertEqual(self.completed("hostline hello --format=j"), ["json"])
        self.assertEqual(self.completed("hostline hello --format j"), ["json"])
        self.assertEqual(self.completed("hostline wait_for lab/exp1 fai"), ["failed"])
        self.assertEqual(self.completed("hostline help unw"), ["unwatch"])

    def test_files(self) -> None:
        """
        A file after an C{@}.
        """
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        (path / "topology.xml").touch()
        self.assertEqual(self.completed(f"hostline check_topology @{path}/top"), [f"@{path}/topology.xml"])

    def test_nodeList(self) -> None:
        """
        C{node_list} has its own.
        """
        self.assertEqual(self.completed("node_list --e"), ["--extra"])
        self.assertEqual(self.completed("node_list -e lab/exp1"), ["lab/exp1"])

    def test_emulab(self) -> None:
        """
        Emulab's commands: their flags, experiments, words and files.
        """
        self.assertEqual(self.completed("hostline swapex"), ["swapexp"])
        self.assertEqual(self.completed("hostline swapexp -"), ["-w", "-N", "-s", "-e"])
        self.assertEqual(self.completed("hostline swapexp -e lab/exp1"), ["lab/exp1"])
        self.assertEqual(self.completed("hostline swapexp -e lab/exp1 i"), ["in"])
        self.assertEqual(self.completed("hostline expwait lab/exp1 --nod"), ["--nodes-started"])
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        (path / "topology.ns").touch()
        self.assertEqual(self.completed(f"hostline nscheck {path}/top"), [f"{path}/topology.ns"])

    def test_unknown(self) -> None:
        """
        Nothing to offer is no noise.
        """
        for line in ("hostline nope ", "hostline ping x", "hostline experiment lab/exp1 x", "hostline swap_in x nope="):
            self.assertEqual(self.completed(line), [], line)


class ZshTests(SynchronousTestCase):
    """
    The script for zsh.
    """

    @needs_tool("zsh")
    def test_syntax(self) -> None:
        """
        zsh takes it.
        """
        path = Path(self.mktemp())
        path.write_text(script("zsh"))
        told = f"compdef() {{ :; }}; source {path}; print -r -- $_hostline_arguments[wait_for]"
        done = subprocess.run(
            [shutil.which("zsh") or "zsh", "-fc", told], capture_output=True, text=True, timeout=20, check=True
        )
        self.assertEqual((done.stdout.split()[0], done.stderr), ("PROJECT/EXPERIMENT", ""))


class NamesTests(SynchronousTestCase):
    """
    Live names.
    """

    def test_names(self) -> None:
        """
        Taken from the replies of ordinary commands.
        """
        host = {"node": "pnode-0000", "name": "pnode-0000.exp1.lab", "kind": "host"}
        nodes = f"node_list_reply {[host, {'node': 'web', 'name': 'web.exp1.lab', 'kind': 'qemu'}]}\n".encode()
        for kind, experiment, reply, found in (
            ("PROJECT/EXPERIMENT", "", EXPERIMENTS, ["lab/exp1", "lab/exp2"]),
            ("TOPIC", "", EXPERIMENTS, ["all", "audit", "experiment/lab/exp1", "experiment/lab/exp2", "host"]),
            ("NODE", "lab/exp1", nodes, ["web"]),
            ("NODE.EXPERIMENT.PROJECT", "", nodes, ["web.exp1.lab"]),
            ("OPERATION", "", b"operations_reply [{'operation': 7}]\n", ["7"]),
        ):
            self.assertEqual(names(kind, Canned(self, reply).client(), experiment), found)

    def test_silent(self) -> None:
        """
        No daemon, no right or no such Kind is no name, and no noise.
        """
        refusal = b"error_reply {'code': 'DENIED', 'message': 'm', 'command': 'users'}\n"
        self.assertEqual(names("USER", Canned(self, refusal).client()), [])
        self.assertEqual(names("USER", Canned(self, b"users_reply None\n").client()), [])
        self.assertEqual(names("NOPE", Canned(self).client()), [])

    def test_requestsExist(self) -> None:
        """
        They are commands of the table.
        """
        self.assertEqual({request for request, _ in _NAMES.values()} - TABLE.keys(), set())


class PromptTests(SynchronousTestCase):
    """
    At our own prompt.
    """

    def test_candidates(self) -> None:
        """
        Commands, names, options and their values, by where the cursor is.
        """
        candidates = Candidates(
            Canned(self, EXPERIMENTS + b"node_list_reply [{'node': 'web', 'kind': 'qemu'}]\n").client()
        )
        for before, word, found in (
            ("", "status_r", ["status_request"]),
            ("", "ex", ["extra_nodes", "experiments", "experiment", "exec", "exit"]),
            ("@7 ", "status_r", ["status_request"]),
            ("status_request ", "lab/exp1", ["lab/exp1"]),
            ("swap_in ", "", ["lab/exp1", "lab/exp2", "wait=", "token="]),
            ("swap_in wait=5 ", "lab/exp2", ["lab/exp2"]),
            ("node_reboot lab/exp1 ", "w", ["web", "wait="]),
            ("node_reboot lab/exp1 web ", "w", ["web", "wait="]),
            ("node_list ", "extra=", ["extra=True", "extra=False"]),
            ("wait_for lab/exp1 ", "s", ["swapped", "swapping", "started"]),
            ("help ", "unw", ["unwatch"]),
            ("nope ", "", []),
            ("ping ", "", []),
        ):
            self.assertEqual(candidates.of(before, word), found, before + word)
