"""
Reading: the client's reader of a status beside C{ast.literal_eval}, in a process of the standard library only.

Run as a program (C{python -m bench.reading ROUNDS CORE..}) it is that process: it prints the microseconds of each
reader, size and round.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from functools import partial

from bench.child import ROOT, ends_with_us
from bench.machine import clean_environment, pinned, python
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting

SIZES = (1000, 10000)
OURS, THEIRS = "hostline.protocol.literal.read", "ast.literal_eval"


class ReadingFailed(Exception):
    """The process that measures failed; the message is what it said."""


def status(nodes: int) -> str:
    """
    The body of a status reply, ten nodes on each hypervisor, one in fifty of them dead, starting or unreachable.
    """
    other = {7: ["running", None], 57: ["dead", 137], 107: [None, None]}
    return ascii(
        {
            f"hv:qemu:pnode-{host:04}": {
                f"node-{number}": other.get(number % 150, ["booted", 0]) for number in range(host * 10, host * 10 + 10)
            }
            for host in range(nodes // 10)
        }
    )


def reading(setting: Setting) -> list[Table]:
    """
    @raise ReadingFailed: the readers differ, or one is not there.
    """
    arguments = [str(setting.rounds), *map(str, setting.cores)]
    done = subprocess.run(
        [python(), "-m", "bench.reading", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=clean_environment(),
        preexec_fn=ends_with_us(),
        check=False,
    )
    if done.returncode != 0:
        raise ReadingFailed(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode))
    found = json.loads(done.stdout)
    return [
        Table(
            f"reading the status of {nodes:,} nodes",
            [Series(name, "us (CPU)", found[f"{name} {nodes}"]) for name in (OURS, THEIRS)],
            [Goal(THEIRS, OURS, 20)],
            [f"{len(status(nodes))} characters; a process that has imported the standard library only; same value."],
        )
        for nodes in SIZES
    ]


def _one(core: int, ours: bool, text: str) -> float:
    from hostline.protocol import literal

    # About as long for both: ours is taken for 20 times as fast. Long enough for each to pay for its own garbage.
    times = range(max((10_000_000 if ours else 500_000) // len(text), 2))
    with pinned(core):
        begun = time.process_time_ns()
        if ours:
            for _ in times:
                literal.read(text)
        else:
            for _ in times:
                ast.literal_eval(text)
        return (time.process_time_ns() - begun) / 1000 / len(times)


def main(arguments: list[str]) -> None:
    """
    Measure and print.
    """
    from hostline.protocol import literal

    rounds, *cores = map(int, arguments)
    texts = {nodes: status(nodes) for nodes in SIZES}
    for nodes, text in texts.items():
        if literal.read(text) != ast.literal_eval(text):
            sys.exit(f"the readers differ on {nodes} nodes")
    candidates = {
        f"{OURS if ours else THEIRS} {nodes}": partial(_one, ours=ours, text=text)
        for nodes, text in texts.items()
        for ours in (True, False)
    }
    found = by_turns(candidates, rounds, cores)
    foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"hostline", "bench"}
    foreign = {name for name in foreign if not name.startswith(("_", "sitecustomize", "usercustomize"))}
    if foreign:
        sys.exit(f"more than the standard library was imported: {', '.join(sorted(foreign))}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
