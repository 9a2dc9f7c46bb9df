"""
C{make demo}: a daemon, an experiment and its life, as somebody at a shell would see them; leaves nothing behind.

Everything is done by the installed commands, on a state directory of its own. Whatever is not as it should be ends the
demo with exit status 1 and the daemon's log.
"""

from __future__ import annotations

import ast
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOPOLOGY = "examples/demo.xml"
#: The experiment has ended its start commands, but for the one that stays.
WANTED = {"web": ["booted", 0], "db": ["booted", None], "probe": ["booted", 7], "spare": ["booted", None]}
_PATIENCE_S = 60.0
#: Polled without a pause at first: a process is up within milliseconds.
_QUICK_S, _PAUSE_S = 0.5, 0.02


class Wrong(Exception):
    """
    Something is not as it should be.
    """


class Demo:
    """
    A shell with a daemon in its background.
    """

    def __init__(self, directory: Path) -> None:
        self._state = directory / "state"
        self._config = directory / "hostline.toml"
        self._log = directory / "log"
        self._socket = self._state / "run" / "hostline.sock"
        commands = Path(sys.executable).parent
        self._environment = {
            **os.environ,
            "PATH": f"{commands}:{os.environ.get('PATH', os.defpath)}",
            "HOSTLINE_SOCKET": str(self._socket),
            "COLUMNS": "120",
        }
        self._daemon: subprocess.Popen[bytes] | None = None
        # Another daemon of this machine may have the usual range, and those of tests have the ones below.
        first = 600_000 + os.getpid() % 10_000 * 100
        delegates = f"[delegates]\nuid_first = {first + 1_000_000}\nuid_count = 100\n"
        self._config.write_text(f"[slivers]\nuid_first = {first}\nuid_count = 100\n{delegates}")
        say(f"$ export HOSTLINE_SOCKET={self._socket}")

    # The daemon.

    def start(self) -> None:
        """
        Start it, and wait until it answers.
        """
        say(f"$ hostlined --config {self._config} --state {self._state} 2>>{self._log} &")
        with self._log.open("ab") as log:
            argv = ["hostlined", "--config", str(self._config), "--state", str(self._state)]
            self._daemon = subprocess.Popen(argv, env=self._environment, stderr=log)
        self.until(lambda: self.quietly("hostline ping")[0] == 0, "the daemon answers")

    def end(self, number: signal.Signals) -> int:
        """
        Send the daemon a signal.

        @return: its exit status.
        """
        assert self._daemon is not None
        say(f"$ kill -{number.name.removeprefix('SIG')} {self._daemon.pid}")
        self._daemon.send_signal(number)
        return self._daemon.wait(_PATIENCE_S)

    # Commands.

    def run(self, command: str, status: int = 0, terminal: bool = False) -> str:
        """
        Run a command line and show it with its output.

        @param status: its exit status, if all is well.
        @param terminal: whether it is to believe that somebody looks, and print tables.
        """
        say(f"$ {command}")
        found, text = self._at_terminal(command) if terminal else self.quietly(command)
        say(text.rstrip("\n"))
        if found != status:
            raise Wrong(f"exit status {found}, not {status}: {command}")
        return text

    def value(self, command: str) -> Any:
        """
        @return: the value that a command prints, read as any script would.
        """
        return ast.literal_eval(self.quietly(command)[1])

    def quietly(self, command: str) -> tuple[int, str]:
        """
        @return: exit status and output of a command line that is not shown.
        """
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def _at_terminal(self, command: str) -> tuple[int, str]:
        try:
            ours, theirs = pty.openpty()
        except OSError:  # a system without /dev/pts
            return self.quietly(command)
        with subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        ) as child:
            os.close(theirs)
            text = b""
            try:
                while data := os.read(ours, 65536):
                    text += data
            except OSError:  # how the end of a terminal is told
                pass
            os.close(ours)
            return child.wait(_PATIENCE_S), text.decode().replace("\r\n", "\n")

    def create(self) -> None:
        """
        Make the experiment; where links cannot be delayed, without the delay.
        """
        command = f"hostline create_experiment lab/demo @{TOPOLOGY} >/dev/null"
        status, text = self.quietly(command)
        if status == 0:
            say(f"$ {command}")
            return
        self.run(command, status=status)
        if "link backup: " not in text:
            raise Wrong(f"exit status {status}: {command}")
        plain = self._config.with_name("demo.xml")
        whole = (ROOT / TOPOLOGY).read_text("utf-8")
        plain.write_text("".join(one for one in whole.splitlines(keepends=True) if "<latency>" not in one), "utf-8")
        say("(this kernel has no netem, and there is no vde2: so without the delay)")
        self.run(f"hostline create_experiment lab/demo @{plain} >/dev/null")

    def ping(self) -> None:
        """
        Where nodes have a network of their own, measure the link between two of them.
        """
        link = self.value("hostline --raw experiment lab/demo")["links"]["backup"]
        if os.geteuid() != 0 or link["by"] is None:
            why = "a daemon without root" if os.geteuid() != 0 else "a link without rate, delay and loss"
            say(f"({why}: there is nothing to measure; as root, nodes have links of their own)")
            return
        say(f"(link backup should delay by {link['delay_ms']:g} ms each way, and is held by {link['by']})")
        self.run("hostline exec db.demo.lab -- grep web /etc/hosts")
        if shutil.which("ping", path="/usr/bin:/bin:/usr/sbin:/sbin") is None:
            say("(there is no ping here: apt install iputils-ping)")
            return
        said = self.run("hostline exec db.demo.lab -- ping -q -c 3 -i 0.2 web-backup")
        times = re.search(r"= ([0-9.]+)/", said)
        if times is None or float(times[1]) < 2 * link["delay_ms"]:
            raise Wrong(f"a packet there and back should take {2 * link['delay_ms']:g} ms at least")

    def poll(self) -> None:
        """
        Swap the experiment in, and ask for its status again and again until it is as wanted.
        """
        say("$ hostline swap_in lab/demo &")
        say("$ while sleep 0.02; do echo 'status_request lab/demo'; done | hostline-shell --socket $HOSTLINE_SOCKET")
        argv = ["hostline-shell", "--socket", str(self._socket)]
        with subprocess.Popen(argv, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
            swap_in = subprocess.Popen(
                ["hostline", "swap_in", "lab/demo"], env=self._environment, stdout=subprocess.DEVNULL
            )
            asked, before, begun = 0, "", time.monotonic()
            value: dict[str, Any] = {}
            while WANTED not in value.values():
                assert shell.stdin is not None and shell.stdout is not None
                shell.stdin.write(b"status_request lab/demo\n")
                shell.stdin.flush()
                line = shell.stdout.readline().decode("ascii").rstrip("\n")
                asked += 1
                word, _, literal = line.partition(" ")
                value = ast.literal_eval(literal)
                if word != "status_reply":
                    raise Wrong(line)
                if line != before:
                    say(line)
                before = line
                passed = time.monotonic() - begun
                if passed > _PATIENCE_S:
                    raise Wrong(f"want {WANTED}")
                if value and passed > _QUICK_S:
                    time.sleep(_PAUSE_S)
        if swap_in.wait(_PATIENCE_S) != 0:
            raise Wrong("swap_in failed")
        say(f"(asked {asked} times; equal replies are shown once, and all were read by Python's ast.literal_eval)")

    def lend(self) -> None:
        """
        Make two slivers, and have one lend the other something for a while.
        """
        for name in ("lab_ann", "lab_bob"):
            self.run(f"hostline create {name} kind=process >/dev/null")
        self.run("hostline loan lab_bob cpu_share 16 lender=lab_ann until=+3s", terminal=True)
        self.shares({"lab_ann": 16, "lab_bob": 48})
        self.until(lambda: "loan_expired" in self.quietly("hostline events topic=sliver/lab_bob")[1], "the loan ends")
        self.shares({"lab_ann": 32, "lab_bob": 32})
        for name in ("lab_ann", "lab_bob"):
            self.run(f"hostline destroy {name} >/dev/null")

    def shares(self, wanted: dict[str, int]) -> None:
        """
        Show what slivers have after loans, and what the kernel says.
        """
        for name, share in wanted.items():
            body = self.value(f"hostline --raw sliver {name}")
            there = {"effective": body["effective"]["cpu_share"]}
            there |= {"in force": body["in_force"]["cpu_share"]} if "cpu_share" in body["in_force"] else {}
            say(f"({name}: cpu_share {', '.join(f'{what} {value}' for what, value in there.items())})")
            if set(there.values()) != {share}:
                raise Wrong(f"{name} should have cpu_share {share}")

    # What is so.

    def pids(self) -> dict[str, int]:
        """
        @return: pid of every node's own process.
        """
        nodes = self.value("hostline --raw experiment lab/demo")["nodes"]
        found = {name: node["pid"] for name, node in nodes.items()}
        say(f"(the nodes' processes: {', '.join(f'{name} {pid}' for name, pid in found.items())})")
        for name, pid in found.items():
            if not Path(f"/proc/{pid}").is_dir():
                raise Wrong(f"{name} has no process {pid}")
        return found

    def until(self, true: Callable[[], bool], what: str) -> None:
        """
        Wait until something is so.
        """
        begun = time.monotonic()
        while not true():
            if self._daemon is not None and self._daemon.poll() is not None:
                raise Wrong("the daemon has ended")
            if time.monotonic() - begun > _PATIENCE_S:
                raise Wrong(f"not so within {_PATIENCE_S:g} s: {what}")
            time.sleep(0.05)

    def left_over(self) -> list[str]:
        """
        @return: whatever is still there of the nodes.
        """
        instance = (self._state / "instance").read_text().strip()
        found = [f"process {pid}" for pid in tagged(f"HOSTLINE_SLIVER={instance}/".encode())]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/hostline-{instance[:12]}/[a-z][0-9]*")]
        found += [str(path) for path in (self._state / "slivers").iterdir() if path.name != ".trash"]
        found += [str(path) for path in (self._state / "slivers" / ".trash").iterdir()]
        found += [str(path) for path in (self._state / "run" / "slivers").iterdir()]
        found += [str(path) for path in (self._state / "run" / "doors").iterdir()]
        for alias in Path("/sys/class/net").glob("*/ifalias"):
            try:
                ours = f" {instance[:16]}" in alias.read_text() and "/bridge" not in alias.read_text()
            except OSError:  # gone meanwhile
                continue
            found += [f"interface {alias.parent.name}"] if ours else []
        found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self._state) in line]
        return found

    def abandon(self) -> None:
        """
        After a failure: show the log, end the daemon and the nodes.
        """
        say(f"--- {self._log}")
        say(self._log.read_text("utf-8", "replace")[-4000:] if self._log.exists() else "")
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.kill()
            self._daemon.wait()
        note = self._state / "instance"
        if note.exists():
            tag = f"HOSTLINE_SLIVER={note.read_text().strip()}/".encode()
            for _ in range(100):
                for pid in tagged(tag):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                if not tagged(tag):
                    break
                time.sleep(0.05)


def tagged(tag: bytes) -> list[int]:
    """
    @return: the processes whose environment has a variable that begins so.
    """
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                variables = (path / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(one.startswith(tag) for one in variables):
                found.append(int(path.name))
    return found


def say(text: str) -> None:
    """
    Print a line at once.
    """
    if text:
        print(text, flush=True)


def heading(text: str) -> None:
    """
    Print what comes next.
    """
    print(f"\n# {text}", flush=True)


def show(demo: Demo) -> None:
    """
    The whole demo.
    """
    heading("A daemon, as the present user, with a state directory of its own")
    demo.start()
    demo.run("hostline whoami")

    heading("A project, and an experiment from a TopDL file")
    demo.run("hostline add_project lab")
    demo.run(f"hostline check_topology @{TOPOLOGY}", terminal=True)
    demo.create()

    heading("Swapped in; a script polls its status meanwhile, as it would over ssh")
    demo.poll()

    heading("The nodes: the host they are on, and those inside it")
    demo.run("node_list")
    listed = demo.run("node_list --extra")
    if not re.search(r"extra nodes:\n +db\.demo\.lab\n", listed):
        raise Wrong("node_list --extra does not list db.demo.lab")
    demo.run("hostline experiment lab/demo", terminal=True)
    demo.run("hostline logs probe.demo.lab", terminal=True)

    heading("The link between two of them, as the topology has it")
    demo.ping()

    heading("Two slivers of their own; one lends the other half of its share of the processors, for three seconds")
    demo.lend()

    heading("A name misspelt")
    refused = demo.run("hostline status_request lab/dmo", status=1)
    if "did you mean lab/demo?" not in refused:
        raise Wrong("no near name was told")

    heading("The daemon is killed and started again; the nodes go on")
    before = demo.pids()
    demo.end(signal.SIGKILL)
    demo.start()
    if demo.pids() != before:
        raise Wrong("the nodes have other processes")
    status = demo.run("hostline --raw status_request lab/demo")
    if WANTED not in ast.literal_eval(status).values():
        raise Wrong("the status is another one")

    heading("The end: nothing is left over")
    demo.run("hostline terminate lab/demo >/dev/null")
    demo.run("hostline remove_project lab")
    demo.run("hostline experiments")
    demo.until(lambda: not demo.left_over(), "nothing is left over")
    status_code = demo.end(signal.SIGTERM)
    if status_code != 0:
        raise Wrong(f"the daemon ended with status {status_code}")
    say("(no process, control group, mount, interface or file of the nodes is left; the daemon ended with status 0)")


def main() -> int:
    """
    @return: the exit status.
    """
    begun = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="hostline-demo-"))
    directory.chmod(0o711)  # the nodes of a root daemon have uids of their own, which must pass
    demo = Demo(directory)
    try:
        show(demo)
    except (Wrong, OSError, subprocess.SubprocessError, ValueError) as error:
        say(f"\nthe demo failed: {error}")
        demo.abandon()
        return 1
    except KeyboardInterrupt:
        demo.abandon()
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    say(f"\nThe demo took {time.monotonic() - begun:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
