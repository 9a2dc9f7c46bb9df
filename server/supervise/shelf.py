"""
The images of this host: each one ext4 file, made once and never changed, mounted read-only where it is first wanted.

C{SERIAL/disk} is the file, C{SERIAL/note} says that it is whole, C{SERIAL/tree} is where it is mounted. What has no
note was begun and not ended, and is removed at the next start.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hostline.server.supervise import syscalls
from hostline.server.supervise.running import program, run
from hostline.server.supervise.shim import PATH, SHELL
from hostline.server.supervise.spawn import Child, Spawner
from hostline.server.supervise.trash import Trash

#: Nothing on an image is a device, and no program of it gives a user of the host rights: setuid programs would be
#: root's own wherever somebody reaches the files. In a container nothing is lost, for no_new_privs is set there.
FLAGS = syscalls.RDONLY | syscalls.NODEV | syscalls.NOSUID

_BUILD = Path(__file__).with_name("build.sh")
_UNPACK = Path(__file__).with_name("unpack.py")
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
    """

    how: str
    packages: tuple[str, ...] = ()
    suite: str = "bookworm"
    mirror: str = "http://deb.debian.org/debian"
    blob: Path | None = None
    most_bytes: int = 4 << 30
    limit_s: float = 3600.0

    def words(self) -> list[str]:
        """
        @return: the arguments of C{build.sh}.
        """
        if self.how == "debian":
            return [self.how, self.suite, self.mirror, ",".join(self.packages)]
        if self.how == "import":
            return [self.how, sys.executable, str(_UNPACK), str(self.blob), str(self.most_bytes)]
        return [self.how]


@frozen
class Made:
    """
    An image that is whole.

    @ivar size: bytes of its file.
    @ivar command: what a container runs that is given no start command; C{environment} and C{directory} go with it.
    """

    sha256: str
    size: int
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(factory=dict)
    directory: str = "/"


class Shelf:
    """
    All images, by serial.
    """

    _log = Logger()

    def __init__(self, directory: Path, spawner: Spawner, clock: IReactorTime, leave: Sequence[Path] = ()) -> None:
        """
        @param directory: C{STATE/images}; made if it is missing, its parent must be there.
        @param leave: mount points of ours whose mounts a build must not keep up.
        """
        self._directory = directory.parent.resolve() / directory.name
        self._spawner = spawner
        self._clock = clock
        self._leave = [self._directory, *leave][:2]
        self._trash = Trash(self._directory / ".trash", spawner)
        self._locks: dict[int, DeferredLock] = {}
        self._builds: dict[int, Child] = {}
        self._ended_early: dict[int, str] = {}
        self._made: dict[int, Made] = {}

    def prepare(self) -> None:
        """
        Make the directory, not for anybody but root to look into.

        @raise OSError: if that cannot be done.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._trash.resume()

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        """
        Remove what was begun and not ended, and what has no record.

        @param known: serials of the images that have records.
        @param keep_strays: leave alone what is whole and has no record.
        """
        self.prepare()
        await self._end_builders()
        for serial in self.serials():
            whole = self.made(serial) is not None
            if not whole or (serial not in known and not keep_strays):
                try:
                    await self.remove(serial)
                except OSError as error:
                    self._log.warn("image {serial} is not removed: {error}", serial=serial, error=error)

    def serials(self) -> set[int]:
        """
        @return: of all that is here, also half made.
        """
        try:
            return {int(name) for name in os.listdir(self._directory) if name.isdecimal()}  # noqa: PTH208
        except FileNotFoundError:
            return set()

    def made(self, serial: int) -> Made | None:
        """
        @return: what is known of an image; None if it is not here, or not whole.
        """
        if serial not in self._made:
            place = self._place(serial)
            try:
                said = json.loads((place / "note").read_text("utf-8"))
                made = Made(
                    said["sha256"], said["size"], tuple(said["command"]), said["environment"], said["directory"]
                )
                if (place / "disk").stat().st_size != made.size:
                    return None
            except (OSError, ValueError, KeyError, TypeError):
                return None
            self._made[serial] = made
        return self._made[serial]

    async def tree(self, serial: int) -> Path:
        """
        @return: where the files of an image are, mounted read-only.
        @raise OSError: if the image is not here, or cannot be mounted.
        """
        tree = self._place(serial) / "tree"
        lock = self._lock(serial)
        await lock.acquire()
        try:
            if self.made(serial) is None:
                raise FileNotFoundError(f"image {serial} is not on this host")
            if not syscalls.is_mounted(tree):
                tree.mkdir(mode=0o700, exist_ok=True)
                syscalls.ensure_apart(self._directory)
                with syscalls.loop_device(self._place(serial) / "disk", read_only=True) as device:
                    syscalls.mount(device, tree, "ext4", FLAGS)
        finally:
            lock.release()
        return tree

    async def build(self, serial: int, recipe: Recipe) -> Made:
        """
        Make an image; one that is here already is kept. If that fails, nothing is left of it.

        @raise OSError: if it cannot be made; the message is the innermost cause.
        """
        lock = self._lock(serial)
        await lock.acquire()
        try:
            made = self.made(serial)
            if made is not None:
                return made
            await self._trash.throw(self._place(serial))
            work = self._place(serial) / "work"
            work.mkdir(mode=0o700, parents=True)
            try:
                await self._work(serial, recipe, work)
                made = self._finished(serial, work)
            except BaseException:
                await self._trash.throw(self._place(serial))
                raise
            await self._trash.throw(work)
            self._made[serial] = made
            return made
        finally:
            lock.release()

    def progress(self, serial: int) -> tuple[str, float | None]:
        """
        @return: what is being done to make an image, and how much of it is done, 0..1.
        """
        return step_of(self._log_tail(self._place(serial) / "work"))

    async def remove(self, serial: int) -> None:
        """
        Remove an image, whole or not. Whether a container needs it is for the caller to know: one whose root is
        mounted keeps its files, and cannot be mounted again.

        @raise OSError: if a process is in it.
        """
        lock = self._lock(serial)
        await lock.acquire()
        try:
            tree = self._place(serial) / "tree"
            if syscalls.is_mounted(tree):
                await run(self._spawner, "umount", str(tree))
            await self._trash.throw(self._place(serial))
            self._made.pop(serial, None)
            syscalls.end_apart(self._directory)
        finally:
            lock.release()

    def close(self) -> None:
        """
        End what is being built: it is begun again at the next start. What is mounted stays.
        """
        for child in self._builds.values():
            _kill(child)
            self._spawner.release(child)
        self._builds.clear()
        self._trash.close()

    # Building

    async def _work(self, serial: int, recipe: Recipe, work: Path) -> None:
        ended: Deferred[int | None] = Deferred()
        leave = [str(one) for one in (*self._leave, *self._leave)][:2]
        argv = [
            *(program("unshare"), "-mpf", "--kill-child", "--propagation", "private", "--mount-proc"),
            *(SHELL, str(_BUILD), str(work), *leave, *recipe.words()),
        ]
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        child = self._builds[serial] = self._spawner.spawn(argv, environment=environment, ended=ended.callback)
        self._ended_early.pop(serial, None)
        late = self._clock.callLater(recipe.limit_s, self.cancel, serial, f"not made in {recipe.limit_s:g} s")
        try:
            code = await ended
        finally:
            if self._builds.get(serial) is child:
                del self._builds[serial]
            if late.active():
                late.cancel()
        why = self._ended_early.pop(serial, None)
        if why is not None:
            raise OSError(why)
        if code != 0:
            raise OSError(cause_of(self._log_tail(work)) or f"its making ended with status {code}")

    def cancel(self, serial: int, why: str = "cancelled") -> None:
        """
        End the making of an image, if it is under way: L{build} fails, once nothing is left of it.

        @param why: what it fails with.
        """
        child = self._builds.get(serial)
        if child is not None:
            self._ended_early[serial] = why
            _kill(child)

    def _finished(self, serial: int, work: Path) -> Made:
        place = self._place(serial)
        said: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            said = json.loads((work / "said").read_text("utf-8"))
        made = Made(
            (work / "sum").read_text("ascii").strip(),
            (work / "disk").stat().st_size,
            tuple(said.get("command", ())),
            said.get("environment", {}),
            said.get("directory", "/"),
        )
        (work / "disk").rename(place / "disk")
        body = {
            "sha256": made.sha256,
            "size": made.size,
            "command": list(made.command),
            "environment": dict(made.environment),
            "directory": made.directory,
        }
        fresh = place / "note.new"
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(place / "note")
        for directory in (place, self._directory):
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        return made

    async def _end_builders(self) -> None:
        """
        End builds that an earlier daemon began: they would write where we build again.
        """
        for pid in _builders(f"{self._directory}/"):
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                # Its init first: then nothing is left when unshare ends.
                if pid in _builders(f"{self._directory}/"):
                    for inner in _children(pid) or [pid]:
                        os.kill(inner, signal.SIGKILL)
                    while pid in _builders(f"{self._directory}/"):
                        await deferLater(self._clock, 0.01)
            except ProcessLookupError:
                pass
            finally:
                os.close(fd)

    # Small things

    def _place(self, serial: int) -> Path:
        return self._directory / str(serial)

    def _lock(self, serial: int) -> DeferredLock:
        return self._locks.setdefault(serial, DeferredLock())

    def _log_tail(self, work: Path) -> str:
        try:
            fd = os.open(work / "log", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return os.pread(fd, _TAIL, max(os.fstat(fd).st_size - _TAIL, 0)).decode("utf-8", "replace")
        finally:
            os.close(fd)


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


def _builders(prefix: str) -> list[int]:
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
