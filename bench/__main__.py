"""
C{python -m bench}: measure, print the tables, and keep them if asked to.

The exit status tells whether everything could be measured, not whether every goal was reached.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from bench import table
from bench.child import ROOT, CannotStart
from bench.containers import containers
from bench.daemon import ASSUMED_REPLY, STATUS_REQUEST, Daemon, Refused
from bench.durable import durable
from bench.encoding import encoding
from bench.experiments import experiments
from bench.loans import loans
from bench.machine import cores, described
from bench.payload import payloads
from bench.peers import Peers
from bench.polling import HOSTLINE, polling
from bench.reading import ReadingFailed, reading
from bench.rounds import Table
from bench.setting import Setting
from bench.ssh import ssh
from bench.stalls import stalls
from bench.starts import CannotInstall, StartFailed, starts
from bench.tls import tls
from bench.wire import Load, LoadFailed

#: What may keep one part from being measured; the others go on.
_PROBLEMS = (
    CannotInstall,
    CannotStart,
    ImportError,
    LoadFailed,
    OSError,
    ReadingFailed,
    Refused,
    StartFailed,
    ValueError,
)


class Overdue(Exception):
    """The run took longer than it may."""


class Run:
    """
    One run of the benchmark.

    @ivar tables: those that were measured.
    @ivar problems: why others were not, by part.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.tables: list[Table] = []
        self.problems: dict[str, str] = {}
        self._why = ""

    def parts(self, names: list[str]) -> None:
        """
        Measure some parts, in our order.
        """
        with ExitStack() as daemons:
            daemon, reply = None, b""
            if {"polling", "starts", "stalls"} & set(names):
                with self._problem("daemon"):
                    daemon = daemons.enter_context(Daemon(self._setting.directory, "polled"))
                    reply = daemon.swap_in()
            up = daemon if reply else None
            if "polling" in names:
                self._part("polling", lambda: self._polling(up, reply))
            if "encoding" in names:
                self._part("encoding", lambda: [encoding(self._setting)])
            if "loans" in names:
                self._part("loans", lambda: [loans(self._setting)])
            if "payload" in names:
                self._part("payload", lambda: [payloads(self._setting)])
            if "containers" in names:
                self._part("containers", lambda: [containers(self._setting)])
            if "experiments" in names:
                self._part("experiments", lambda: experiments(self._setting))
            if "ssh" in names:
                self._part("ssh", lambda: [ssh(self._setting)])
            if "tls" in names:
                self._part("tls", lambda: tls(self._setting))
            if "reading" in names:
                self._part("reading", lambda: reading(self._setting))
            if up and "starts" in names:
                self._part("starts", lambda: [starts(self._setting, up)])
            if up and "stalls" in names:
                self._part("stalls", lambda: [stalls(self._setting, up, reply)])
        if "durable" in names:
            self._part("durable", self._durable)

    def _polling(self, daemon: Daemon | None, reply: bytes) -> list[Table]:
        reply = reply or ASSUMED_REPLY
        with ExitStack() as peers_end:
            peers = Peers(self._setting.directory, STATUS_REQUEST, reply)
            peers_end.callback(peers.end)
            servers, left_out = dict(peers.servers), dict(peers.left_out)
            if daemon:
                servers[HOSTLINE] = daemon.server(HOSTLINE, "exact", STATUS_REQUEST, reply)
            else:
                left_out[HOSTLINE] = "the daemon did not start"
            return polling(self._setting, servers, left_out, len(reply))

    def _durable(self) -> list[Table]:
        with ExitStack() as daemons:
            daemon = None
            with self._problem("durable daemon"):
                daemon = daemons.enter_context(Daemon(self._setting.directory, "changed"))
            return [durable(self._setting, daemon, "the daemon did not start")]

    def _part(self, name: str, measure: Callable[[], list[Table]]) -> None:
        begun = time.monotonic()
        with self._problem(name):
            for one in measure():
                self.tables.append(one)
                print(table.plain(one), flush=True)
        print(f"({name}: {time.monotonic() - begun:.0f} s)\n", flush=True)

    @contextmanager
    def _problem(self, name: str) -> Iterator[None]:
        try:
            yield
        except _PROBLEMS as error:
            self.problems[name] = f"{type(error).__name__}: {error}"
            print(f"{name} could not be measured: {error}\n", file=sys.stderr, flush=True)


PARTS = (
    "polling",
    "encoding",
    "loans",
    "payload",
    "containers",
    "experiments",
    "ssh",
    "tls",
    "reading",
    "starts",
    "durable",
    "stalls",
)


def main(arguments: list[str]) -> int:
    """
    @return: the exit status: 1 if something could not be measured.
    """
    options = _parser().parse_args(arguments)
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        _parser().error(f"want parts among {', '.join(PARTS)}, got {', '.join(unknown)}")
    if options.keep and (options.short or options.parts):
        _parser().error("want a full run to keep: --keep goes with neither --short nor parts")
    signal.signal(signal.SIGALRM, _overdue)
    signal.signal(signal.SIGTERM, _ended)
    signal.alarm(300 if options.short else 1200)
    with tempfile.TemporaryDirectory(prefix="hostline-bench-", dir=options.where) as name:
        directory = Path(name)
        directory.chmod(0o711)  # the daemon may run its nodes as other users
        setting = Setting(
            directory=directory,
            cores=cores(),
            rounds=2 if options.short else 9,
            starts=3 if options.short else 41,
            slice_ms=60 if options.short else 400,
            load=Load(directory),
            short=options.short,
        )
        machine = described(directory)
        rounds = f"{setting.rounds} rounds ({setting.starts} of process starts), slices of {setting.slice_ms} ms."
        print("\n".join(f"{name}: {value}" for name, value in machine.items()), rounds, "", sep="\n", flush=True)
        run = Run(setting)
        run.parts(options.parts or list(PARTS))
    signal.alarm(0)
    for part, problem in run.problems.items():
        print(f"{part}: {problem}", file=sys.stderr)
    if options.keep and not run.problems:
        _keep(run.tables, machine, rounds)
    elif options.keep:
        print("nothing was kept: not everything could be measured", file=sys.stderr)
    return 1 if run.problems else 0


def _keep(tables: list[Table], machine: dict[str, str], rounds: str) -> None:
    page, results = ROOT / "docs" / "bench.md", ROOT / "bench" / "results" / "latest.json"
    results.parent.mkdir(exist_ok=True)
    page.write_text(table.page(tables, machine, rounds))
    results.write_text(json.dumps(table.kept(tables, machine, rounds), indent=1) + "\n")
    print(f"kept in {page.relative_to(ROOT)} and {results.relative_to(ROOT)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure hostline side by side with its peers.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--short", action="store_true", help="few and short rounds: to see that it runs")
    parser.add_argument("--keep", action="store_true", help="write docs/bench.md and bench/results/latest.json")
    parser.add_argument("--where", default="/var/tmp", metavar="DIR", help="where the state is kept (/var/tmp)")
    return parser


def _overdue(number: int, frame: FrameType | None) -> None:
    raise Overdue("the benchmark took too long")


def _ended(number: int, frame: FrameType | None) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
