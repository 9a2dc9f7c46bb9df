"""
Experiments: how long a swap-in takes until every node is up, beside a script that starts the same containers and
guests; and what five hundred processes and a hundred containers cost the daemon.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import psutil

from bench.containers import Script, lacking, our_bundle
from bench.daemon import Daemon, Refused
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting

OURS = "hostline swap_in, until all are booted"
SCRIPT = "shell script, containers two at a time beside the guests"
SMALL = "status_request, one connection in turn"
_CONFIG = """
[slivers]
uid_first = 792000
uid_count = 4000
container_uid_first = 1744830464
container_uid_count = 33554432
[delegates]
uid_first = 798200
uid_count = 100
[network]
subnet = "10.198.68.0/22"
[experiments]
container_image = "tiny"
qemu_image = "guest"
"""
_DISK_KIB = 262_144
_PATIENCE_S = 300.0
#: What a guest of the script is asked until it answers: flush what was said before, then one number.
_SYNC = b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 4711}}\n'
_KIND = "<attribute><attribute>containers:node_type</attribute><value>{}</value></attribute>"
_DISK = f"<attribute><attribute>hostline:disk_max</attribute><value>{_DISK_KIB}</value></attribute>"


def topology(kinds: Sequence[tuple[str, int]]) -> str:
    """
    @param kinds: how many nodes of each; they do nothing, and have no links.
    @return: TopDL.
    """
    nodes = [
        f"<elements><computer><name>{kind[0]}{number}</name>{_KIND.format(kind)}{_DISK if kind != 'process' else ''}"
        "</computer></elements>"
        for kind, count in kinds
        for number in range(count)
    ]
    return f"<experiment><version>1.0</version>{''.join(nodes)}</experiment>"


class _Guests:
    """
    Guests as a script starts them: one QEMU each, all at once, from the files of an image.
    """

    def __init__(self, directory: Path, image: Path) -> None:
        self._directory = directory / "guests"
        self._directory.mkdir()
        self._image = image
        self._running: list[subprocess.Popen[bytes]] = []

    def up(self, count: int) -> None:
        """Start them, and wait until the agent of each answers."""
        said = json.loads((self._image / "guest.json").read_text())
        sockets = []
        for number in range(count):
            agent = self._directory / f"{number}.sock"
            agent.unlink(missing_ok=True)
            sockets.append(agent)
            argv = [
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-M", "q35,smm=off,hpet=off", "-accel", "tcg", "-cpu", "max", "-m", "256"),
                *("-kernel", str(self._image / "kernel"), "-initrd", str(self._image / "initrd")),
                *("-append", str(said.get("append", "console=ttyS0 quiet panic=-1"))),
                *("-serial", f"file:{self._directory}/{number}.log", "-device", "virtio-serial-pci"),
                *("-chardev", f"socket,id=qga,path={agent},server=on,wait=off"),
                *("-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"),
            ]
            self._running.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL))
        for agent in sockets:
            _answers(agent)

    def down(self) -> None:
        """End them."""
        for one in self._running:
            one.terminate()
        for one in self._running:
            one.wait(30)
        self._running.clear()


def _without(daemon: Daemon, request: str) -> None:
    """
    Have something away at the end, come what may.
    """
    with suppress(Refused, OSError, SyntaxError):
        daemon.ask(request, _PATIENCE_S)


def _answers(agent: Path) -> None:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(agent))
            connection.sendall(_SYNC)
            said = b""
            while b"4711" not in said:
                said += connection.recv(4096) or b"4711"
            return
        time.sleep(0.02)
    raise OSError(f"no answer from {agent}")


class _Swapped:
    """
    Times swap-ins, ours and the script's.
    """

    def __init__(self, daemon: Daemon, script: Script, guests: _Guests, containers: int, machines: int) -> None:
        self._daemon, self._script, self._guests = daemon, script, guests
        self._containers, self._machines = containers, machines

    def ours(self, core: int) -> float:
        """
        @return: seconds until every node is booted.
        """
        begun = time.perf_counter()
        self._daemon.ask(f"swap_in lab/mixed wait={_PATIENCE_S:g}", _PATIENCE_S)
        seconds = time.perf_counter() - begun
        self._daemon.ask(f"swap_out lab/mixed wait={_PATIENCE_S:g}", _PATIENCE_S)
        return seconds

    def script(self, core: int) -> float:
        """
        @return: seconds until every container is started and every agent has answered.
        """
        begun = time.perf_counter()
        beside = threading.Thread(target=self._script.up, args=(self._containers,))
        beside.start()
        self._guests.up(self._machines)
        beside.join()
        seconds = time.perf_counter() - begun
        self._script.down(self._containers)
        self._guests.down()
        return seconds


def swap_ins(setting: Setting) -> Table:
    """
    @raise CannotStart: the daemon does not start; C{Refused}: it does not do it; C{OSError}: the script fails.
    """
    containers, machines = (2, 1) if setting.short else (8, 2)
    found: dict[str, list[float]] = {}
    why_not = lacking() or ("" if shutil.which("qemu-system-x86_64") else "needs qemu-system-x86_64")
    if not why_not:
        with ExitStack() as ends:
            daemon = ends.enter_context(Daemon(setting.directory, "swapped", _CONFIG, run_in_memory=True))
            script = ends.enter_context(Script(setting.directory, "hlb4", _DISK_KIB, our_bundle()))
            for image in ("tiny", "guest kind=qemu"):
                daemon.ask(f"image_build {image} base=busybox wait=200", 200)
                ends.callback(_without, daemon, f"image_remove {image.split()[0]}")
            daemon.ask("add_project lab")
            text = topology([("container", containers), ("qemu", machines)])
            daemon.ask(f"create_experiment lab/mixed {text!a} wait=60")
            ends.callback(_without, daemon, "terminate lab/mixed wait=60")
            built = next((setting.directory / "swapped" / "images").glob("*/guest/guest.json")).parent
            guests = _Guests(setting.directory, built)
            ends.callback(guests.down)
            timed = _Swapped(daemon, script, guests, containers, machines)
            candidates = {OURS: timed.ours, SCRIPT: timed.script}
            by_turns(candidates, 1, setting.cores)  # so that the files are in memory, and templates made
            found = by_turns(candidates, setting.rounds, setting.cores)
    return Table(
        "an experiment swapped in",
        [Series(name, "seconds", found.get(name, []), {}, why_not) for name in (OURS, SCRIPT)],
        [Goal(OURS, SCRIPT, 1.3, at_most=True)],
        [
            f"{containers} containers and {machines} QEMU machines by TCG, by turns. The script starts all guests at "
            "once, from the same kernel and initrd, and waits for their agents; beside that it makes the containers as "
            "in the table above, with our bundle and a disk of the same size.",
            "We make records that are durable, control networks and addresses, and wait until a start command could "
            "run in every node. Guests of ours are clones of a template, where the image has one.",
        ],
    )


class _Asking:
    """
    Polls C{status_request} in turn on a connection of its own, from a thread.
    """

    def __init__(self, path: Path, request: bytes) -> None:
        self._path, self._request = path, request
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.waits_us: list[float] = []

    def _ask(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as lines:
            connection.connect(str(self._path))
            while not self._over.is_set():
                begun = time.perf_counter()
                connection.sendall(self._request)
                lines.readline()
                self.waits_us.append((time.perf_counter() - begun) * 1e6)
                time.sleep(0.002)  # as an eager script would poll; the machine has better to do

    def p99_us(self) -> float:
        """
        @return: of all so far.
        """
        waits = sorted(self.waits_us)
        return waits[min(len(waits) - 1, len(waits) * 99 // 100)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class _Crowd:
    """
    One experiment of many nodes, swapped in and out again and again.
    """

    def __init__(self, daemon: Daemon, name: str, kinds: Sequence[tuple[str, int]]) -> None:
        self._daemon, self._name = daemon, name
        self._process = psutil.Process(daemon.pid)
        self.details: dict[str, list[float]] = {
            f"p99 us, {SMALL}, meanwhile": [],
            "the same, up and quiet": [],
            "daemon MiB": [],
            "seconds out": [],
        }
        daemon.ask(f"create_experiment {name} {topology(kinds)!a} wait=60")

    def measure(self, core: int) -> float:
        """
        @return: seconds until all are booted.
        """
        request = f"status_request {self._name}\n".encode()
        figures: list[float] = []
        with _Asking(self._daemon.socket, request) as meanwhile:
            begun = time.perf_counter()
            self._daemon.ask(f"swap_in {self._name} wait={_PATIENCE_S:g}", _PATIENCE_S)
            seconds = time.perf_counter() - begun
        figures.append(meanwhile.p99_us())
        with _Asking(self._daemon.socket, request) as quiet:
            time.sleep(1)
        figures += [quiet.p99_us(), self._process.memory_info().rss / 2**20]
        begun = time.perf_counter()
        self._daemon.ask(f"swap_out {self._name} wait={_PATIENCE_S:g}", _PATIENCE_S)
        figures.append(time.perf_counter() - begun)
        for values, figure in zip(self.details.values(), figures, strict=True):
            values.append(figure)
        return seconds


def crowds(setting: Setting) -> Table:
    """
    @raise CannotStart: the daemon does not start; C{Refused}: it does not do it.
    """
    processes, containers = (50, 4) if setting.short else (500, 100)
    rounds = min(setting.rounds, 3)
    names = {
        f"{processes} process nodes": ("process", processes),
        f"{containers} containers": ("container", containers),
    }
    found: dict[str, list[float]] = {}
    made: dict[str, _Crowd] = {}
    why_not = lacking()
    with ExitStack() as ends:
        if not why_not:
            daemon = ends.enter_context(Daemon(setting.directory, "crowded", _CONFIG, run_in_memory=True))
            daemon.ask("image_build tiny base=busybox wait=60")
            ends.callback(_without, daemon, "image_remove tiny")
            daemon.ask("add_project lab")
            for name, (kind, count) in names.items():
                made[name] = _Crowd(daemon, f"lab/{kind}", [(kind, count)])
                ends.callback(_without, daemon, f"terminate lab/{kind} wait=120")
            found = by_turns({name: one.measure for name, one in made.items()}, rounds, setting.cores)
    return Table(
        "many nodes swapped in",
        [
            Series(name, "seconds in", found.get(name, []), made[name].details if made else {}, why_not)
            for name in names
        ],
        [],
        [
            f"{rounds} rounds; polled every 2 ms by a client in Python, whose own time is in the figures; nodes "
            "without links.",
            f"{os.cpu_count()} cores for daemon, client and nodes together.",
        ],
    )


def experiments(setting: Setting) -> list[Table]:
    """
    Both tables.
    """
    return [swap_ins(setting), crowds(setting)]
