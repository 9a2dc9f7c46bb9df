"""
All nodes of an experiment at once, for real: a command run in each, their logs as a tar, a snapshot, ssh's settings.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.live.experiments import Node
from tests.live.test_experiments import ExperimentsCase


class NodesTests(ExperimentsCase):
    """
    Two containers and a process.
    """

    def setUp(self) -> None:
        super().setUp()
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.swap_in(
            {
                "a": Node("container", ["lan"], "echo from a; exit 7"),
                "b": Node("container", ["lan"], "echo from b"),
                "p": Node("process", ["lan"], "echo from p; echo oh >&2"),
            }
        )

    def hostline(self, *words: str) -> str:
        """What our program prints."""
        program = [sys.executable, "-m", "hostline.clients.main", f"--socket={self.host.socket}", *words]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_runsInAllNodes(self) -> None:
        """
        Each node has its own name and its own network, and equal answers are told once; who is stopped says so.
        """
        body = self.host.ask("run lab/x ['/bin/sh', '-c', 'grep -c inf000 /proc/net/dev']", 30)
        self.assertEqual(
            [(one["nodes"], one["exit"], one["out"]) for one in body["answers"]], [(["a", "b", "p"], 0, "1\n")], body
        )
        self.host.ask("stop_node lab/x b", 30)
        body = self.host.ask("run lab/x sleep timeout=1 nodes=['b']", 30)
        self.assertEqual((body["answers"], list(body["silent"])), ([], ["b"]))
        body = self.host.ask("run lab/x ['sleep', '9'] nodes=['a', 'p'] timeout=1", 30)
        self.assertEqual((body["answers"], sorted(body["silent"])), ([], ["a", "p"]))

    def test_fetchesAllLogs(self) -> None:
        """
        The tar has what each node's start command wrote, byte by byte.
        """
        path = self.directory / "file"
        self.hostline("logs", "lab/x", "--tar", str(path))
        with tarfile.open(path) as tar:
            found = {}
            for entry in tar:
                file = tar.extractfile(entry)
                assert file is not None
                found[entry.name] = file.read()
        for node in "abp":
            self.assertEqual(found[f"lab-x/{node}/out.log"], f"from {node}\n".encode())
        self.assertEqual(found["lab-x/p/err.log"], b"oh\n")

    def test_tellsSshWhereNodesAre(self) -> None:
        """
        Containers have a block that ssh itself reads as it is meant; a process has a comment.
        """
        text = self.hostline("ssh-config", "lab/x", "--jump", "ann@lab.example.org")
        path = self.directory / "file"
        path.write_text(text)
        said = subprocess.run(
            ["ssh", "-G", "-F", str(path), "a.x.lab"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.splitlines()
        address = self.nodes()["a"]["address"]
        if address:
            self.assertIn(f"hostname {address}", said)
            self.assertIn("proxyjump ann@lab.example.org", said)
        else:
            self.assertTrue(any("exec a.x.lab -- /usr/sbin/sshd -i" in line for line in said), said)
        self.assertIn("user root", said)
        self.assertIn("# p.x.lab: a node of kind process has no sshd of its own", text)

    def test_makesASnapshot(self) -> None:
        """
        What a container has become is an image, running or stopped: files, owners, links; not its logs, nor what it
        made of names that are links to the host's files.
        """
        script = (
            "mkdir /data && echo kept >/data/file && ln /data/file /data/same && ln -s /etc/shadow /data/link && "
            "chown 1000:1001 /data/file && chmod 4750 /data/file && rm /etc/profile && echo x >/tmp/gone"
        )
        self.assertEqual(self.run_in("a", script)["exit"], 0)
        for name, stop in (("one", False), ("two", True)):
            if stop:
                self.host.ask("stop_node lab/x a", 30)
            image = self.host.ask(f"snapshot_node lab/x a {name} wait=60", 90)
            self.assertEqual((image["state"], image["kind"]), ("ready", "container"), image)
            self.host.ask(f"create lab_{name} kind=container image={name} wait=60", 90)
            look = (
                "stat -c '%u %g %a %h' /data/file; readlink /data/link; cat /data/same; "
                "ls /tmp /var/log/hostline; [ -e /etc/profile ] || echo gone"
            )
            said = self.host.ask(f"exec lab_{name} ['/bin/sh', '-c', {look!r}]", 30)
            lines = said["out"].splitlines()
            self.assertEqual((lines[0].split()[:2], lines[0].split()[3]), (["1000", "1001"], "2"), said)
            self.assertEqual((lines[1], lines[2], lines[-1]), ("/etc/shadow", "kept", "gone"), said)
            self.assertEqual(lines.count("gone"), 1, said)
        for line, code in (("a one", "EXISTS"), ("p three", "WRONG_STATE"), ("z three", "NO_SUCH_NODE")):
            _, body = self.host.ask_any(f"snapshot_node lab/x {line}")
            self.assertEqual(body["code"], code)
