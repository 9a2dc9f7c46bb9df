"""
What makes images: for each a shell under C{unshare}, which ends with all its processes; and what its log says.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise.running import program
from hostline.server.supervise.shim import PATH, SHELL
from hostline.server.supervise.spawn import Child, Spawner

_BUILD = Path(__file__).with_name("build.sh")
_UNPACK = Path(__file__).with_name("unpack.py")
_UNPACK_GUEST = Path(__file__).with_name("unpack_guest.py")
#: Bytes at the end of a build's log in which its step, or the cause of its failure, is looked for.
_TAIL = 16384
#: debootstrap's lines, how far each takes the work, and what is done then.
_STEPS = (
    ("I: Retrieving ", 0.05, 0.35, "fetching"),
    ("I: Validating ", 0.05, 0.35, "fetching"),
    ("I: Extracting ", 0.35, 0.5, "extracting"),
    ("I: Unpacking ", 0.5, 0.7, "unpacking"),
    ("I: Configuring ", 0.7, 0.9, "configuring"),
)


@frozen
class Recipe:
    """
    What an image is made from.

    @ivar how: C{busybox}; C{debian} with C{suite}, C{mirror} and C{packages}; or C{import}, of the file C{blob}.
    @ivar most_bytes: of all files together, unpacked.
    @ivar limit_s: seconds after which it is given up.
    @ivar kind: C{container} or C{qemu}: of the slivers that it is for.
    @ivar ready: how a guest is known to be up (L{hostline.server.supervise.readiness}); empty: as the image says, or
        C{agent}.
    """

    how: str
    packages: tuple[str, ...] = ()
    suite: str = "bookworm"
    mirror: str = "http://deb.debian.org/debian"
    blob: Path | None = None
    most_bytes: int = 4 << 30
    limit_s: float = 3600.0
    kind: str = "container"
    ready: str = ""

    def words(self) -> list[str]:
        """
        @return: the arguments of C{build.sh}.
        """
        if self.kind == "qemu":
            return self._words_of_guest()
        if self.how == "debian":
            return [self.how, self.suite, self.mirror, ",".join(self.packages)]
        if self.how == "import":
            return [self.how, sys.executable, str(_UNPACK), str(self.blob), str(self.most_bytes)]
        return [self.how]

    def _words_of_guest(self) -> list[str]:
        if self.how == "import":
            work = [sys.executable, str(_UNPACK_GUEST), str(self.blob), str(self.most_bytes), self.ready]
            return ["qemu_import", *work]
        ready = json.dumps(self.ready or "agent")
        if self.how == "debian":
            return ["qemu_debian", ready, self.suite, self.mirror, ",".join(self.packages)]
        return ["qemu_busybox", ready]


class Builders:
    """
    The builders of the images in one directory, by the images' serials.
    """

    def __init__(self, directory: Path, spawner: Spawner, clock: IReactorTime, leave: Sequence[Path] = ()) -> None:
        """
        @param directory: of all images.
        @param leave: one more mount point of ours whose mounts a builder must not keep up.
        """
        self._directory = directory
        self._spawner = spawner
        self._clock = clock
        self._leave = [directory, *leave][:2]
        self._children: dict[int, Child] = {}
        self._ended_early: dict[int, str] = {}

    async def build(self, serial: int, recipe: Recipe, work: Path) -> None:
        """
        Make the files of an image: C{disk}, its C{sum}, what was C{said} of it if it was imported, and a C{log}.

        @param work: an empty directory below the images' own, for them.
        @raise OSError: if it cannot be made; the message is the innermost cause.
        """
        ended: Deferred[int | None] = Deferred()
        leave = [str(one) for one in (*self._leave, *self._leave)][:2]
        argv = [
            *(program("unshare"), "-mpf", "--kill-child", "--propagation", "private", "--mount-proc"),
            *(SHELL, str(_BUILD), str(work), *leave, *recipe.words()),
        ]
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        child = self._children[serial] = self._spawner.spawn(argv, environment=environment, ended=ended.callback)
        self._ended_early.pop(serial, None)
        late = self._clock.callLater(recipe.limit_s, self.cancel, serial, f"not made in {recipe.limit_s:g} s")
        try:
            code = await ended
        finally:
            if self._children.get(serial) is child:
                del self._children[serial]
            if late.active():
                late.cancel()
        why = self._ended_early.pop(serial, None)
        if why is not None:
            raise OSError(why)
        if code != 0:
            raise OSError(cause_of(_log_tail(work)) or f"its making ended with status {code}")

    def cancel(self, serial: int, why: str = "cancelled") -> None:
        """
        End the making of an image, if it is under way: L{build} fails, once all its processes have ended.

        @param why: what it fails with.
        """
        child = self._children.get(serial)
        if child is not None:
            self._ended_early[serial] = why
            _kill(child)

    def close(self) -> None:
        """
        End all of them.
        """
        for child in self._children.values():
            _kill(child)
            self._spawner.release(child)
        self._children.clear()

    async def end_earlier(self) -> None:
        """
        End builds that an earlier daemon began: they would write where we build again.
        """
        for pid in builders(f"{self._directory}/"):
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                # Its init first: then nothing is left when unshare ends.
                if pid in builders(f"{self._directory}/"):
                    for inner in _children(pid) or [pid]:
                        os.kill(inner, signal.SIGKILL)
                    while pid in builders(f"{self._directory}/"):
                        await deferLater(self._clock, 0.01)
            except ProcessLookupError:
                pass
            finally:
                os.close(fd)


def progress(work: Path) -> tuple[str, float | None]:
    """
    @param work: where an image is made.
    @return: what is being done, and how much of all is done, 0..1.
    """
    return step_of(_log_tail(work))


def step_of(log: str) -> tuple[str, float | None]:
    """
    @param log: the end of a build's log, a line of which may be cut.
    @return: what is being done, and how much of all is done, 0..1.
    """
    for line in reversed(log.splitlines()):
        if line.startswith("hostline: "):
            number, _, text = line[10:].partition(" ")
            with suppress(ValueError):
                share = float(number)
                return text[:100], min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
        for begin, first, last, verb in _STEPS:
            if line.startswith(begin):
                what = line[len(begin) :].split(" ")[0].rstrip(".")[:60]
                count = sum(one.startswith(begin) for one in log.splitlines())
                # How many there will be is not told; each line of them halves what is left at the hundredth.
                return f"{verb} {what}", round(last - (last - first) * 0.5 ** (count / 100), 3)
    return "beginning", 0.0


def cause_of(log: str) -> str:
    """
    @param log: the end of the log of a build that failed.
    @return: the line that says why; empty if none does.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("hostline: ", "I: ", "W: "))]
    errors = [line.removeprefix("E: ") for line in said if line.startswith("E: ")]
    found = errors or said
    return found[-1][:500] if found else ""


def builders(prefix: str) -> list[int]:
    """
    @return: pids of the C{unshare} that build under a directory.
    """
    found = []
    unshare = os.path.realpath(program("unshare"))
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                if os.fsencode(str(_BUILD)) in words and any(one.startswith(os.fsencode(prefix)) for one in words):
                    about = os.stat(f"/proc/{name}")  # noqa: PTH116
                    if about.st_uid == 0 and os.readlink(f"/proc/{name}/exe") == unshare:  # noqa: PTH115
                        found.append(int(name))
            except OSError:
                continue
    return found


def _log_tail(work: Path) -> str:
    try:
        fd = os.open(work / "log", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.pread(fd, _TAIL, max(os.fstat(fd).st_size - _TAIL, 0)).decode("utf-8", "replace")
    finally:
        os.close(fd)


def _kill(child: Child) -> None:
    # The init of its processes first: when unshare, its parent, has ended, all of them have.
    inner = _children(child.pid) if child.alive else []
    for pid in inner:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not inner:
        child.kill(signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []
