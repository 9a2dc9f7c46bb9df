"""
Starts: our commands as whole processes beside a Python that does nothing, from one fresh virtual environment.

The package is built as a wheel and installed as a user's would be: compiled, not editable, without a dependency.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.child import ROOT, ends_with_us
from bench.daemon import EXPERIMENT, Daemon
from bench.machine import clean_environment, pin, pinned, python
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting

NODE_LIST, STATUS, NOTHING, BARE = (
    "node_list",
    f"hostline status_request {EXPERIMENT}",
    "python3 -c pass",
    "python3 -I -S -c pass",
)


class CannotInstall(Exception):
    """The package could not be built or installed; the message is what pip said last."""


class StartFailed(Exception):
    """A command did not do its work; the message has what it said."""


def installed(directory: Path) -> Path:
    """
    Build the source as it stands and install it into a new virtual environment.

    @return: the environment's folder of programs.
    @raise CannotInstall: pip cannot build it.
    """
    source = directory / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "dropin.cache")
    for name in ("protocol", "clients", "server", "twistd_plugins"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    wheels = directory / "wheels"
    build = [python(), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels)]
    try:
        _run([*build, "--no-build-isolation", str(source)])
    except CannotInstall:
        _run([*build, str(source)])  # an older setuptools: pip fetches a new one for the build
    environment = directory / "environment"
    _run([python(), "-m", "venv", "--without-pip", str(environment)])
    programs = environment / "bin"
    found = [str(wheel) for wheel in wheels.glob("*.whl")]
    install = ["install", "--quiet", "--no-index", "--no-deps", "--compile"]
    _run([python(), "-m", "pip", "--python", str(programs / "python3"), *install, *found])
    return programs


def starts(setting: Setting, daemon: Daemon) -> Table:
    """
    @raise CannotInstall: the package cannot be built.
    @raise StartFailed: a command does not work.
    """
    programs = installed(setting.directory)
    environment = clean_environment() | {
        "HOSTLINE_SOCKET": str(daemon.socket),
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
    }
    commands = {
        NODE_LIST: [str(programs / "node_list")],
        STATUS: [str(programs / "hostline"), "status_request", EXPERIMENT],
        NOTHING: [str(programs / "python3"), "-c", "pass"],
        BARE: [str(programs / "python3"), "-I", "-S", "-c", "pass"],
    }
    for name in (NODE_LIST, STATUS):
        _check(commands[name], environment)
    candidates = {
        name: partial(_start, argv=argv, environment=environment, daemon=daemon) for name, argv in commands.items()
    }
    by_turns(candidates, 1, setting.cores)
    found = by_turns(candidates, setting.starts, setting.cores)
    return Table(
        "whole commands, from start to end",
        [Series(name, "ms", found[name]) for name in commands],
        [Goal(NODE_LIST, NOTHING, 2, at_most=True), Goal(STATUS, NOTHING, 2, at_most=True)],
        [
            f"{setting.starts} rounds; posix_spawn to wait, command and daemon on one core; the package installed from "
            "its wheel into a fresh virtual environment, compiled; all four run that environment's Python."
        ],
    )


def _check(argv: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False
    )
    if done.returncode != 0 or "node-0" not in done.stdout:
        said = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise StartFailed(f"{Path(argv[0]).name} ended with {done.returncode}: {said}")


def _start(core: int, argv: list[str], environment: dict[str, str], daemon: Daemon) -> float:
    quiet = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1)]
    pin(daemon.pid, core)
    with pinned(core):
        begun = time.perf_counter_ns()
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=quiet)
        _, status = os.waitpid(pid, 0)
        took = time.perf_counter_ns() - begun
    if status != 0:
        raise StartFailed(f"{Path(argv[0]).name} ended with {os.waitstatus_to_exitcode(status)}")
    return took / 1e6


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(
        argv,
        env=clean_environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=180,
        preexec_fn=ends_with_us(),
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise CannotInstall(lines[-1] if lines else f"{argv[2]} ended with {done.returncode}")
