"""
Containers by conmon and an OCI runtime: runc, or crun.

conmon stays with a container for as long as it lives, whatever happens to the daemon: it keeps its output, and writes
its exit status to a file. All of one boot is in one directory, the bundle, whose name is in conmon's arguments: by that
it is found again.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled
from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise import console
from hostline.server.supervise.shim import PATH, SHELL, Process
from hostline.server.supervise.spawn import Spawner, start_time, state

#: conmon's name of a socket for the terminal, and how long the whole path of one may be (unix(7)).
_SOCKET, _LONGEST_PATH = "/conmon-term.XXXXXX", 107
#: How long the runtime may take over one step.
STEP_S = 60.0
#: Open files of a process in a container: soft, as everywhere; hard, as far as the daemon itself may.
_FILES = 1024, 65536
#: With both, and a directory. A shell, for one program that does it all starts faster than one for each.
_LIMITED = """
ulimit -S -n "$1" && ulimit -H -n "$2" && ulimit -c 0 || exit
[ -z "$3" ] || cd "$3" || exit
shift 3
exec "$@"
"""
_LONGEST = 1 << 16


class Failed(OSError):
    """
    The runtime could not do it; the message is its own.
    """


@frozen
class Bundle:
    """
    One boot of one container: C{DIRECTORY/SERIAL/BOOT}.
    """

    directory: Path
    serial: int
    boots: int

    @property
    def path(self) -> Path:
        """
        @return: where all its files are.
        """
        return self.directory / str(self.serial) / str(self.boots)

    @property
    def name(self) -> str:
        """
        @return: what the runtime calls it.
        """
        return f"{self.serial}.{self.boots}"


@frozen
class Ended:
    """
    What conmon kept.

    @ivar code: the exit status of the container's own process, 128+signal if killed; None if nobody knows.
    @ivar oom: something in it was killed because its memory was used up.
    """

    code: int | None = None
    oom: bool = False


def conmon_argv(
    conmon: str, program: str, root: Path, bundle: Bundle, log: Path, most: int = console.MOST
) -> list[str]:
    """
    @param program: of the runtime; C{root}: where it keeps its state.
    @param log: where the container's output goes; begun anew at C{most} bytes.
    @return: what creates a container and stays with it.
    """
    path = str(bundle.path)
    return [
        conmon, "-c", bundle.name, "-u", bundle.name, "-r", program, "-b", path, "-p", f"{path}/pid",
        "-P", f"{path}/conmon.pid", "-l", f"k8s-file:{log}", "--log-size-max", str(most), "--no-sync-log",
        "--log-level", "error", "--exit-dir", f"{path}/kept", "--persist-dir", f"{path}/kept", "--full-attach", "-t",
        "--runtime-arg", f"--root={root}",
    ]  # fmt: skip


def conmon_bundle(argv: Sequence[bytes], directory: Path) -> tuple[int, int] | None:
    """
    @param argv: of any process.
    @return: serial and boot if it is the conmon of a bundle under C{directory}.
    """
    if not argv or not argv[0].endswith(b"conmon"):
        return None
    prefix = os.fsencode(directory) + b"/"
    for option, value in pairwise(argv):
        if option == b"-b" and value.startswith(prefix):
            words = value[len(prefix) :].split(b"/")
            if len(words) == 2 and all(word.isdigit() and len(word) < 19 for word in words):
                return int(words[0]), int(words[1])
    return None


def exec_argv(program: str, root: Path, name: str, process: str, pid_file: Path, more: int = 0) -> list[str]:
    """
    @param process: the file with the OCI process.
    @param more: how many descriptors from 3 on the command gets as well.
    @return: what runs a command in a container, and ends with its status.
    """
    options = ["--preserve-fds", str(more), "--pid-file", str(pid_file), "--process", process]
    return [*limited(open_files()), program, f"--root={root}", "exec", *options, name]


def limited(files: int, directory: str = "") -> list[str]:
    """
    @param files: how many open files we may allow.
    @param directory: where it is to be started; empty: where we are.
    @return: what to put before a runtime's argv, so that each process of what it starts has limits. They are inherited:
        the runtime may set none in a user namespace that is not root's without CAP_SYS_RESOURCE.
    """
    hard = min(_FILES[1], files)
    return [SHELL, "-c", _LIMITED, "sh", str(min(_FILES[0], hard)), str(hard), directory]


def within_users(config: dict[str, Any], namespace: int) -> dict[str, Any]:
    """
    @param namespace: descriptor of a user namespace with the same uids.
    @return: the configuration of a container in it.
    """
    linux = config["linux"]
    path = f"/proc/{os.getpid()}/fd/{namespace}"
    namespaces = [one | {"path": path} if one["type"] == "user" else one for one in linux["namespaces"]]
    return config | {"linux": linux | {"namespaces": namespaces}}


def read_ended(bundle: Bundle) -> Ended:
    """
    @return: what conmon kept of a boot.
    """
    kept = bundle.path / "kept"
    text = ""
    with suppress(OSError):
        text = (kept / "exit").read_text("ascii", "replace").strip()
    code = int(text) if text.isdigit() and len(text) <= 3 else None
    return Ended(code, (kept / "oom").exists())


def said_by_sync(line: bytes) -> int:
    """
    @param line: what conmon wrote to its sync pipe.
    @return: the pid of the container's own process.
    @raise Failed: with the runtime's words, if it could not be created.
    """
    try:
        body = json.loads(line)
        pid = body.get("pid", body.get("data"))
        if isinstance(pid, int) and pid > 0:
            return pid
        raise Failed(shortened(str(body.get("message") or "the runtime did not say why")))
    except (ValueError, AttributeError):
        raise Failed("conmon ended before the container was created") from None


def shortened(text: str) -> str:
    """
    @return: the last thing that a runtime complains of, without its levels and times.
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    if 'msg="' in last:
        last = last.partition('msg="')[2].rstrip('"').replace('\\"', '"')
    return last[:500]


class Runtime:
    """
    Creates, starts and deletes containers; two of them, with two C{root} directories, know nothing of each other.

    @ivar program: the path of runc or crun.
    @ivar root: where it keeps its notes.
    """

    def __init__(
        self,
        program: str,
        conmon: str,
        root: Path,
        *,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
    ) -> None:
        self.program = program
        self.root = root
        self._conmon = conmon
        self.spawner = spawner
        self._loop = loop
        self.clock = clock

    async def create(
        self,
        bundle: Bundle,
        config: dict[str, Any],
        log: Path,
        users: int | None = None,
        *,
        most: int = console.MOST,
        keep: Sequence[int] = (),
    ) -> tuple[int, Process]:
        """
        Create a container; its own process waits to be started.

        @param log: where its output goes; begun anew, now and at C{most} bytes.
        @param users: descriptor of the user namespace that it is to be in, with the uids of its configuration; None:
            the runtime makes one.
        @param keep: descriptors of ours that its own process is to have, from 3 on.
        @return: the pid of its own process, and its conmon.
        @raise Failed: if it could not be created; the runtime may have left something for L{delete}.
        @raise OSError: if conmon could not be started, or files not written.
        """
        if users is not None:
            config = within_users(config, users)
        path = bundle.path
        (path / "config.json").write_text(json.dumps(config))
        (path / "kept").mkdir(exist_ok=True)
        log.unlink(missing_ok=True)
        reading, writing = os.pipe()
        theirs: list[int] = []
        try:
            # conmon leaves a file in its own directory when the kernel kills for want of memory: the bundle's.
            conmon = conmon_argv(self._conmon, self.program, self.root, bundle, log, most)
            if keep:
                conmon += ["--runtime-opt=--preserve-fds", f"--runtime-opt={len(keep)}"]
            argv = [*limited(open_files(), str(path)), *conmon]
            environment = {"PATH": PATH, "_OCI_SYNCPIPE": str(3 + len(keep))}
            # Where it makes a socket for a moment; a daemon that dies in that moment leaves it (L{tidy}).
            if len(str(self.root.parent)) + len(_SOCKET) < _LONGEST_PATH:
                environment["TMPDIR"] = str(self.root.parent)
            # From numbers above those that they get, or one would be taken for another.
            theirs += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 4 + len(keep)) for fd in (*keep, writing)]
            duplicated = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs, 3)]
            self.spawner.spawn(argv, environment=environment, file_actions=duplicated, ended=lambda _: None)
        except OSError:
            os.close(reading)
            raise
        finally:
            for fd in (writing, *theirs):
                os.close(fd)
        pid = said_by_sync(await self._line(reading))
        keeper = int((path / "conmon.pid").read_text())
        known = start_time(keeper)
        if known is None:
            raise Failed("conmon ended at once")
        return pid, Process(keeper, known[0])

    def tidy(self) -> None:
        """
        Remove what conmons left that were killed; to be called while none is being started.
        """
        for left in self.root.parent.glob(_SOCKET[1:].replace("XXXXXX", "*")):
            left.unlink(missing_ok=True)

    async def start(self, bundle: Bundle) -> None:
        """
        Let a container's own process begin; may be repeated until it has.

        @raise Failed: if it cannot.
        """
        await self._run("start", bundle.name)

    async def delete(self, bundle: Bundle, *, over: bool = False) -> None:
        """
        End what is left of a container, and remove the runtime's notes of it and its control groups.

        @param over: nothing is left but the notes, and somebody else removes the groups: no program is run for it.
        @raise Failed: if that cannot be done.
        """
        if not self.knows(bundle):
            return
        try:
            if not over:
                await self._run("delete", "--force", bundle.name)
        except Failed as error:
            if "does not exist" not in str(error):
                raise
        # Killed at its first breath, it left a directory that it cannot read itself.
        shutil.rmtree(self.root / bundle.name, ignore_errors=True)

    def knows(self, bundle: Bundle) -> bool:
        """
        @return: whether the runtime has notes of a container.
        """
        return (self.root / bundle.name).exists()

    def waits(self, bundle: Bundle) -> bool:
        """
        @return: whether it was created, and not started yet: its own process waits at this FIFO.
        """
        return (self.root / bundle.name / "exec.fifo").exists()

    @staticmethod
    def keepers(directory: Path, proc: Path = Path("/proc")) -> Iterator[tuple[int, int, Process]]:
        """
        @param directory: of bundles.
        @return: serial, boot and conmon of each that lives, whatever notes there are.
        """
        for name in os.listdir(proc):  # noqa: PTH208
            if not name.isdigit():
                continue
            try:
                if (proc / name / "comm").read_bytes() != b"conmon\n" or (proc / name).stat().st_uid != os.geteuid():
                    continue
                known = start_time(int(name))
                found = conmon_bundle((proc / name / "cmdline").read_bytes().split(b"\0"), directory)
            except OSError:
                continue
            if found is not None and known is not None and known[1] not in "ZX":
                yield *found, Process(int(name), known[0])

    async def _run(self, *words: str) -> None:
        ended: Deferred[int | None] = Deferred()
        said = os.memfd_create("said")
        try:
            to_said = [(os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
            argv = [self.program, f"--root={self.root}", *words]
            child = self.spawner.spawn(argv, environment={"PATH": PATH}, file_actions=to_said, ended=ended.callback)
            late = self.clock.callLater(STEP_S, child.kill, signal.SIGKILL)
            code = await ended
            if late.active():
                late.cancel()
            if code != 0:
                text = os.pread(said, _LONGEST, 0).decode("utf-8", "replace")
                raise Failed(shortened(text) or f"{Path(self.program).name} {words[0]} ended with status {code}")
        finally:
            os.close(said)

    async def _line(self, fd: int) -> bytes:
        """
        @return: the first line that comes; what came until then if there is none.
        """
        os.set_blocking(fd, False)
        came: Deferred[bytes] = Deferred()
        found = bytearray()

        def readable() -> None:
            try:
                data = os.read(fd, _LONGEST)
            except BlockingIOError:
                return
            found.extend(data)
            if not data or b"\n" in found or len(found) > _LONGEST:
                over()

        def over() -> None:
            with suppress(AlreadyCalled):
                came.callback(bytes(found))

        self._loop.add_reader(fd, readable)
        late = self.clock.callLater(STEP_S, over)
        try:
            return await came
        finally:
            if late.active():
                late.cancel()
            self._loop.remove_reader(fd)
            os.close(fd)


def parent(pid: int) -> int | None:
    """
    @return: the parent of a living process.
    """
    with suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        if state(fields) not in "ZX":
            return int(fields[1])
    return None


def open_files() -> int:
    """
    @return: how many open files we may allow to a container, as far as we ourselves may.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard
