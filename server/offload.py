"""
Heavy work on callers' input (XML, and later ASN.1, Tcl, METIS) in a child process with limits and a deadline.

Pure function in, value out: C{await offload.call("check_topology", lambda: text)}. Whatever the input does to the
child, the daemon goes on serving others and the caller gets an error that says what happened.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

import hostline
from hostline.protocol.errors import Internal, OperationFailed, raised_again
from hostline.server.offload_child import MEMORY_TEXT
from hostline.server.places import Places

#: Bytes of a result.
OUTPUT_MAX = 64 * 1024 * 1024
#: Children at one time; the others wait, and their deadline has not begun.
AT_ONCE = 2
#: The child takes nothing from where the daemon was started: it looks for modules on the path it is given, and there
#: alone, for it is root until it has imported what it needs.
_START = """
import os, sys
os.chdir("/")
sys.path[:] = os.environ["PYTHONPATH"].split(os.pathsep)
from hostline.server.offload_child import main
main(sys.argv[1:])
"""
PROGRAM = (sys.executable, "-I", "-S", "-B", "-c", _START)
_CHUNK = 256 * 1024
#: Where hostline was imported from.
_ROOT = Path(hostline.__path__[0]).resolve().parent


class Watcher(Protocol):
    """
    The part of L{asyncio.AbstractEventLoop} that tells when a descriptor is ready.
    """

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> Any: ...

    def remove_reader(self, fd: int) -> Any: ...

    def add_writer(self, fd: int, callback: Callable[..., Any], *args: Any) -> Any: ...

    def remove_writer(self, fd: int) -> Any: ...


class Killable(Protocol):
    """
    The part of L{hostline.server.supervise.spawn.Child} used here.
    """

    def kill(self, number: int) -> bool: ...


class Spawns(Protocol):
    """
    The part of L{hostline.server.supervise.spawn.Spawner} used here.
    """

    def spawn(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        file_actions: Sequence[tuple[Any, ...]] = (),
        setsid: bool = True,
        ended: Callable[[int | None], None],
    ) -> Killable: ...


class Offload:
    """
    Runs named functions, each call in a child of its own.
    """

    _log = Logger()

    def __init__(
        self,
        spawner: Spawns,
        loop: Watcher,
        clock: IReactorTime,
        *,
        program: Sequence[str] = PROGRAM,
        at_once: int = AT_ONCE,
    ) -> None:
        """
        @param loop: the one that C{spawner} uses, whose thread is the reactor's.
        @param program: how the child is started; the name and the seconds of processor time are added.
        """
        self._spawner = spawner
        self._loop = loop
        self._clock = clock
        self._program = program
        self._places = Places(at_once)

    async def call(self, name: str, argument: Callable[[], Any], deadline_s: float = 20, *, who: str = "") -> Any:
        """
        What the function gives for this argument.

        @param name: a key of L{hostline.server.offload_child.NAMES}.
        @param argument: gives a JSON value; called when it is its turn, so that nothing big waits.
        @param who: the principal for whom this is done; the others have their turns too.
        @raise TooMany: if too many calls for C{who} wait.
        @raise HostError: the one that the function raised.
        @raise OperationFailed: it took too much time or memory, or died, or gave what is not a value.
        @raise Internal: any other exception in the child: a bug of ours; it is logged.
        """
        await self._places.take(who)
        try:
            asked = json.dumps(argument(), allow_nan=False).encode()
            job = _Job(self._loop, self._clock, asked, deadline_s)
            job.start(self._spawner, [*self._program, name, str(int(deadline_s) + 1)])
            return self._value(name, await job.done)
        finally:
            self._places.give_back(who)

    def _value(self, name: str, output: bytes) -> Any:
        reply = _loaded(output)
        match reply:
            case {"value": value}:
                return value
            case {"error": {"code": str(), "message": str()} as body}:
                error = raised_again({key: said for key, said in body.items() if key != "self"})
                error.details.pop("command", None)
                raise error
            case {"bug": str(text)}:
                self._log.error("a bug in the offload child, in {name}:\n{text}", name=name, text=text)
                raise Internal(f"a bug of the daemon's in {name}; its log has it")
        raise OperationFailed("reading the input failed: the child gave what is not a value")


def _loaded(output: bytes) -> Any:
    # Many small objects that are no garbage: with the collector on, this takes four times as long.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return json.loads(output)
    except (ValueError, RecursionError):
        return None
    finally:
        if collecting:
            gc.enable()


class _Job:
    """
    One child from its start to its end.

    @ivar done: its whole output, once it has ended with status 0; or why not. Cancelling it kills the child.
    """

    def __init__(self, loop: Watcher, clock: IReactorTime, asked: bytes, deadline_s: float) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._finish())
        self._loop = loop
        self._asked = memoryview(asked)
        self._output = bytearray()
        self._child: Killable | None = None
        self._to = self._from = -1
        self._eof = False
        self._ended = False
        self._code: int | None = None
        self._deadline_s = deadline_s
        self._late = clock.callLater(deadline_s, self._too_late)

    def start(self, spawner: Spawns, argv: Sequence[str]) -> None:
        """
        Start the child; a failure to do so comes out of C{done}, like all others.
        """
        theirs: list[int] = []
        try:
            stdin, self._to = os.pipe2(os.O_CLOEXEC)
            theirs.append(stdin)
            self._from, stdout = os.pipe2(os.O_CLOEXEC)
            theirs.append(stdout)
            os.set_blocking(self._to, False)
            os.set_blocking(self._from, False)
            self._child = spawner.spawn(
                argv,
                environment={"PYTHONPATH": os.pathsep.join(_path()), "LC_ALL": "C.UTF-8"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, stdout, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                ended=self._child_ended,
            )
            self._loop.add_reader(self._from, self._readable)
            self._loop.add_writer(self._to, self._writable)
        except OSError as error:
            self._fail(f"reading the input failed: no child could be started: {error}")
        finally:
            for fd in theirs:
                os.close(fd)

    def _writable(self) -> None:
        try:
            self._asked = self._asked[os.write(self._to, self._asked[:_CHUNK]) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._asked = self._asked[:0]  # it does not read: its end will say why
        if not self._asked:
            self._close_to()

    def _readable(self) -> None:
        try:
            data = os.read(self._from, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._output += data
        if len(self._output) > OUTPUT_MAX:
            self._fail(f"reading the input gave more than {OUTPUT_MAX // 1024**2} MiB")
        elif not data:
            self._close_from()
            self._eof = True
            self._look()

    def _child_ended(self, code: int | None) -> None:
        self._ended = True
        self._code = code
        self._child = None
        self._look()

    def _look(self) -> None:
        if not (self._eof and self._ended):
            return
        if self._code == 0:
            self._finish()
            if not self.done.called:
                self.done.callback(bytes(self._output))
        elif self._code == 128 + signal.SIGXCPU:
            self._too_late()
        elif self._code == 128 + signal.SIGKILL:
            self._fail("reading the input failed: its process was killed, most likely for want of memory")
        elif self._code is not None and self._code > 128:
            text = f"its process died of signal {self._code - 128}; more memory than {MEMORY_TEXT} can be the cause"
            self._fail(f"reading the input failed: {text}")
        else:
            self._fail(f"reading the input failed: its process ended with status {self._code}")

    def _too_late(self) -> None:
        self._fail(f"reading the input took more than {self._deadline_s:g} s")

    def _fail(self, text: str) -> None:
        self._finish()
        if not self.done.called:
            self.done.errback(OperationFailed(text))

    def _finish(self) -> None:
        self._close_to()
        self._close_from()
        if self._late.active():
            self._late.cancel()
        child, self._child = self._child, None
        if child is not None:
            with suppress(OSError):
                child.kill(signal.SIGKILL)

    def _close_to(self) -> None:
        fd, self._to = self._to, -1
        if fd >= 0:
            self._loop.remove_writer(fd)
            os.close(fd)

    def _close_from(self) -> None:
        fd, self._from = self._from, -1
        if fd >= 0:
            self._loop.remove_reader(fd)
            os.close(fd)


def _path() -> list[str]:
    """
    The daemon's own path without the directory it was started in, which may be anybody's; that stays if hostline
    itself is there, or if it is a part of Python.
    """
    here = Path.cwd()
    python = [Path(one).resolve() for one in (sys.prefix, sys.base_prefix)]
    found = []
    for one in sys.path:
        path = Path(one)
        if not path.is_absolute() or not path.exists() or os.pathsep in one:
            continue
        place = path.resolve()
        if place != here or place == _ROOT or any(place.is_relative_to(prefix) for prefix in python):
            found.append(one)
    return found
