"""
Running a command in a sliver that is up: in the namespaces and control groups of its node, as its user.

What enters gives up root for ever before anything of the sliver's own runs. It joins the control groups first, and
never forks on its way: a sliver that has used up pids_max can still be helped from outside.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

from attrs import frozen

from hostline.server.supervise import shim
from hostline.server.supervise.spawn import start_time

#: Descriptors in what enters: the initscript, the node's network, its root and its other namespaces.
SCRIPT, _NET, _ROOT, _MOUNTS, _IPC = 6, 5, 7, 8, 9
_JOIN = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@"'
_BEGIN = 'exec 5<&- 7<&- 8<&- 9<&-; cd "$HOME" || exit 126; umask 022; ulimit -Sn 1024; exec "$@"'


@frozen
class Place:
    """
    Where a command is to run.

    @ivar node: the node's own process, whose namespaces are entered where they are not ours.
    @ivar procs: the files by which control groups are joined.
    @ivar uid: the user to become; None: stay who we are.
    @ivar environment: all that the command sees.
    """

    node: shim.Process
    procs: Sequence[Path]
    uid: int | None
    environment: Mapping[str, str]


@contextmanager
def entrance(place: Place) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """
    @return: what to put before the command's argv after the control groups have been joined, and the descriptors that
        this needs; they are open as long as the context is.
    @raise OSError: if the node is gone.
    """
    files: dict[int, int] = {}
    try:
        if place.uid is not None:
            proc = f"/proc/{place.node.pid}"
            files[_ROOT] = out_of_the_way(os.open(f"{proc}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for number, name in ((_MOUNTS, "mnt"), (_IPC, "ipc"), (_NET, "net")):
                files[number] = out_of_the_way(os.open(f"{proc}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
            known = start_time(place.node.pid)
            if known is None or known[0] != place.node.started or known[1] in "ZX":
                raise OSError("it is not up")
        yield [*_nsenter(files), *_become(place)], [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in files.items()]
    finally:
        for fd in files.values():
            os.close(fd)


def out_of_the_way(fd: int) -> int:
    """
    @return: the same file with a number that no descriptor has which is put in place for what enters.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _IPC + 1)
    finally:
        os.close(fd)


def joining(procs: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """
    @return: an argv that joins control groups and then becomes another.
    """
    return [shim.SHELL, "-c", _JOIN, "sh", *map(str, procs), "--", *argv]


def _nsenter(files: Mapping[int, int]) -> list[str]:
    """
    Only into namespaces that are not ours: then C{/} may be another too, in a chroot, and is set again.
    """
    words = []
    for number, name, option in ((_MOUNTS, "mnt", "--mount"), (_IPC, "ipc", "--ipc"), (_NET, "net", "--net")):
        if number in files and os.fstat(files[number]).st_ino != Path(f"/proc/self/ns/{name}").stat().st_ino:
            words.append(f"{option}=/proc/self/fd/{number}")
    if not words:
        return []
    return [_tool("nsenter"), *words, f"--root=/proc/self/fd/{_ROOT}", "--"]


def _become(place: Place) -> list[str]:
    environment = [f"{name}={value}" for name, value in place.environment.items()]
    become = shim.become_argv(place.uid) or ["setpriv"]
    return [_tool(become[0]), *become[1:], _tool("env"), "-i", *environment, shim.SHELL, "-c", _BEGIN, "sh"]


def with_daemon(argv: Sequence[str]) -> list[str]:
    """
    @return: the same argv for a command that is killed when the daemon, its parent, ends: nobody speaks for it then.
    """
    at = next(number for number, word in enumerate(argv) if word.endswith("/setpriv")) + 1
    return [*argv[:at], "--pdeathsig", "KILL", *argv[at:]]


def _tool(name: str) -> str:
    return which(name, path=shim.PATH) or f"/usr/bin/{name}"
