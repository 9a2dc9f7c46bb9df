"""
Ssh: what a delegate waits for one answer, beside an ssh that runs nothing, on the same sshd.

The account beside which we are measured has /bin/sh for its shell; it is made by us, and removed at the end.
"""

from __future__ import annotations

import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from bench.child import Child, ends_with_us
from bench.daemon import Daemon
from bench.machine import clean_environment, pin, pinned
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting
from bench.starts import StartFailed

COLD, NOTHING, KEPT = "echo ping | ssh delegate", "ssh account true", "ping in a kept ssh"
_SSHD = "/usr/sbin/sshd"
#: Where no distribution gives uids to people, and no daemon's range begins by itself.
_CONFIG = """\
[slivers]
uid_first = 800000
uid_count = 1000
[delegates]
uid_first = 802000
uid_count = 100
"""
_NAME = re.compile(r"hlbench([0-9]+)$")
_PATIENCE_S = 30.0
_KEPT_REQUESTS = 300
_TRIES = 10


def missing() -> str:
    """
    @return: why this part cannot be measured here; empty if it can.
    """
    if os.geteuid():
        return "needs root"
    absent = [name for name in ("ssh", "ssh-keygen", "useradd", "userdel") if not shutil.which(name)]
    absent += [] if Path(_SSHD).exists() else ["sshd"]
    return f"needs {', '.join(absent)}" if absent else ""


def ssh(setting: Setting) -> Table:
    """
    @raise CannotStart: sshd or the daemon does not come up.
    @raise Refused: the daemon does not let the delegate in.
    @raise StartFailed: an ssh did not do its work.
    """
    why = missing()
    names = (COLD, NOTHING, KEPT)
    values: dict[str, list[float]] = {name: [] for name in names}
    details: dict[str, list[float]] = {}
    if not why:
        with Daemon(setting.directory, "asked-by-ssh", _CONFIG) as daemon, _account() as account:
            values, details = _measured(setting, daemon, account)
    return Table(
        "one answer by ssh",
        [
            Series(COLD, "ms", values[COLD], left_out=why),
            Series(NOTHING, "ms", values[NOTHING], left_out=why),
            Series(KEPT, "ms", values[KEPT], details, left_out=why),
        ],
        [Goal(COLD, NOTHING, 1.1, at_most=True), Goal(COLD, KEPT, 1000)],
        [
            f"{setting.starts} rounds; from posix_spawn of ssh to its end, with a connection and a login of its own; "
            f"in the last row from the write of a line to its answer, the median of {_KEPT_REQUESTS} in turn. ssh, "
            "sshd, its session and the daemon on one core.",
            "The delegate's account and shell are as the daemon makes them; the other account has /bin/sh for its "
            "shell, and the same key with restrict. Sshd has its defaults, but for PAM, which is off.",
        ],
    )


def _measured(setting: Setting, daemon: Daemon, account: str) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    directory = setting.directory
    for name in ("host_key", "key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(directory / name)]
        _run(words)
    key = (directory / "key.pub").read_text().strip()
    delegate = f"{account}d"
    daemon.ask(f"add_delegate {delegate} keys={[key]!r} commands=['ping']")
    try:
        _let_in(account, key)
        with _sshd(directory) as (sshd, port):
            begin = ["ssh", "-F", "none", "-i", str(directory / "key"), "-p", str(port), *_options()]
            argv = {COLD: [*begin, f"{delegate}@127.0.0.1"], NOTHING: [*begin, f"{account}@127.0.0.1", "true"]}
            wanted = {COLD: b"ping_reply ", NOTHING: b""}
            with _Kept(argv[COLD], daemon, sshd) as kept:
                turns: dict[str, Callable[[int], float]] = {
                    name: partial(_cold, argv=argv[name], wanted=wanted[name], daemon=daemon, sshd=sshd)
                    for name in (COLD, NOTHING)
                }
                turns[KEPT] = kept.slice
                by_turns(turns, 1, setting.cores)
                kept.p99_ms.clear()
                return by_turns(turns, setting.starts, setting.cores), {"p99 ms": kept.p99_ms}
    finally:
        daemon.ask(f"remove_delegate {delegate}")


def _options() -> list[str]:
    known = ("UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=no")
    own = ("BatchMode=yes", "LogLevel=ERROR", "IdentitiesOnly=yes", "IdentityAgent=none", "ControlPath=none")
    return [word for one in (*known, *own) for word in ("-o", one)]


@contextmanager
def _sshd(directory: Path) -> Iterator[tuple[Child, int]]:
    """
    An sshd on a loopback port.
    """
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = directory / "sshd_config"
    file.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host_key\nPidFile none\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin no\nPrintMotd no\n"
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with Child([_SSHD, "-D", "-e", "-f", str(file)], directory / "sshd.log", listens) as sshd:
        yield sshd, port


@contextmanager
def _account() -> Iterator[str]:
    """
    An account with /bin/sh; those that runs of ours left which were killed are removed too.
    """
    for entry in pwd.getpwall():
        found = _NAME.match(entry.pw_name)
        if found and entry.pw_gecos == "hostline bench" and not Path(f"/proc/{found[1]}").exists():
            _remove(entry.pw_name)
    name = f"hlbench{os.getpid()}"
    words = ["useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "--comment", "hostline bench", name]
    for attempt in range(_TRIES):  # somebody else may have the list of accounts
        try:
            _run(words)
            break
        except StartFailed:
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.5)
    try:
        yield name
    finally:
        _remove(name)


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    if done.returncode != 0:
        raise StartFailed(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def _remove(name: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:  # sshd may not have ended its session yet
        done = subprocess.run(["userdel", "--remove", name], capture_output=True, timeout=_PATIENCE_S, check=False)
        if done.returncode in (0, 6, 12) or time.monotonic() > until:
            return
        time.sleep(0.1)


def _let_in(account: str, key: str) -> None:
    entry = pwd.getpwnam(account)
    keys = Path(entry.pw_dir) / ".ssh" / "authorized_keys"
    keys.parent.mkdir(mode=0o700)
    keys.write_text(f"restrict {key}\n")
    for one in (keys, keys.parent):
        os.chown(one, entry.pw_uid, entry.pw_gid)


def _cold(core: int, argv: list[str], wanted: bytes, daemon: Daemon, sshd: Child) -> float:
    """
    @return: milliseconds from the start of ssh to its end.
    """
    pin(daemon.pid, core)
    pin(sshd.pid, core)
    input_end, asks = os.pipe()
    says, output_end = os.pipe()
    os.write(asks, b"ping\n")
    os.close(asks)
    doubles = [(os.POSIX_SPAWN_DUP2, input_end, 0), (os.POSIX_SPAWN_DUP2, output_end, 1)]
    program = shutil.which(argv[0]) or argv[0]
    try:
        with pinned(core):
            begun = time.perf_counter_ns()
            pid = os.posix_spawn(program, argv, clean_environment(), file_actions=doubles)
            _, status = os.waitpid(pid, 0)
            took = time.perf_counter_ns() - begun
        os.close(output_end)
        output_end = -1
        said = os.read(says, 1 << 16)
    finally:
        for one in (input_end, says, output_end):
            with suppress(OSError):
                os.close(one)
    if status != 0 or not said.startswith(wanted) or said.count(b"\n") != bool(wanted):
        raise StartFailed(f"{argv[-1]}: ssh ended with {os.waitstatus_to_exitcode(status)} and said {said[:200]!r}")
    return took / 1e6


class _Kept:
    """
    One ssh that stays.

    @ivar p99_ms: of each slice.
    """

    def __init__(self, argv: list[str], daemon: Daemon, sshd: Child) -> None:
        self._daemon = daemon
        self._sshd = sshd
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            bufsize=0,
            preexec_fn=ends_with_us(),
        )
        self.p99_ms: list[float] = []

    def slice(self, core: int) -> float:
        """
        @return: milliseconds from a request to its answer, the median of many.
        """
        pin(self._daemon.pid, core)
        pin(self._process.pid, core)
        for one in self._session():
            with suppress(ProcessLookupError, FileNotFoundError):
                pin(one, core)
        with pinned(core):
            took = sorted(self._one() for _ in range(_KEPT_REQUESTS))
        self.p99_ms.append(took[-1 - len(took) // 100])
        return took[len(took) // 2]

    def _session(self) -> list[int]:
        return [one.pid for one in psutil.Process(self._sshd.pid).children(recursive=True)]

    def _one(self) -> float:
        source, sink = self._process.stdin, self._process.stdout
        assert source is not None and sink is not None
        begun = time.perf_counter_ns()
        source.write(b"ping\n")
        if not select.select([sink], [], [], _PATIENCE_S)[0]:
            raise StartFailed("the kept ssh has not answered")
        line = sink.read(1 << 16)
        took = time.perf_counter_ns() - begun
        if not line or not line.startswith(b"ping_reply ") or not line.endswith(b"\n"):
            raise StartFailed(f"the kept ssh answered {line!r}")
        return took / 1e6

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()
