"""
The offload child, for real: whatever the input does, the daemon gets a value or an error that says why.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadTopology, HostError, Internal, OperationFailed
from hostline.server import offload
from hostline.server.offload import Offload
from hostline.server.supervise.spawn import Child, Spawner
from tests.live.support import LoopClock, as_root, living, run, until

_BOMBS = Path(__file__).with_name("offload_bombs.py")


class _Remembers(Spawner):
    """
    A spawner that tells which children it made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.children: list[Child] = []

    def spawn(self, *args: Any, **options: Any) -> Child:
        self.children.append(super().spawn(*args, **options))
        return self.children[-1]


class OffloadTests(SynchronousTestCase):
    """
    What comes back from a child.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        asyncio.set_event_loop(self.loop)
        self.addCleanup(asyncio.set_event_loop, None)
        self.spawner = _Remembers(self.loop)
        self.offload = self.made()
        gc.collect()  # or what other tests left open is closed while one of ours counts
        self.before = self.descriptors()

    def made(self, **options: Any) -> Offload:
        options = {"program": (sys.executable, str(_BOMBS)), **options}
        return Offload(self.spawner, self.loop, LoopClock(self.loop), **options)

    def descriptors(self) -> list[str]:
        self.loop.run_until_complete(asyncio.sleep(0))  # the loop's own are open from now on
        return sorted(one.name for one in Path("/proc/self/fd").iterdir())

    def gone(self) -> None:
        """
        No child and no descriptor is left over.
        """
        until(self.loop, lambda: not any(child.alive for child in self.spawner.children))
        self.assertEqual([child.pid for child in self.spawner.children if living(child.pid)], [])
        self.assertEqual(self.descriptors(), self.before)

    def call(self, name: str, argument: Any = None, deadline_s: float = 20) -> Any:
        return run(self.loop, self.offload.call(name, lambda: argument, deadline_s))

    def failure(self, name: str, deadline_s: float = 20, kind: type[HostError] = OperationFailed) -> HostError:
        error = self.assertRaises(kind, self.call, name, None, deadline_s)
        self.gone()
        assert isinstance(error, HostError)
        return error

    def test_value(self) -> None:
        """
        A value goes in and comes out as it is, also one much larger than a pipe holds.
        """
        value = {"text": "ü\ud800\n", "list": [1, 2.5, None, True], "big": "x" * 3_000_000}
        self.assertEqual(self.call("echo", value), value)
        self.gone()

    def test_error(self) -> None:
        """
        An error raised inside is raised here again: class, message and details.
        """
        error = self.failure("refuse", kind=BadTopology)
        self.assertEqual((error.message, error.details), ("no good", {"errors": [{"line": 7, "text": "here"}]}))

    def test_bug(self) -> None:
        """
        A bug inside is INTERNAL to the caller, and its traceback is in the log.
        """
        with capturedLogs() as said:
            error = self.failure("bug", kind=Internal)
        self.assertNotIn("Traceback", error.message)
        self.assertIn("KeyError", formatEvent(said[0]))

    def test_noSuchName(self) -> None:
        """
        What is not registered is not called.
        """
        with capturedLogs() as said:
            self.failure("os.system", kind=Internal)
        self.assertIn("KeyError", formatEvent(said[0]))

    def test_memory(self) -> None:
        """
        Input that swells is stopped at the limit, and the caller is told which.
        """
        self.assertIn("more memory than 1 GiB", self.failure("memory").message)

    def test_loop(self) -> None:
        """
        Input that takes for ever is stopped at the deadline.
        """
        began = time.monotonic()
        self.assertEqual(self.failure("loop", 1).message, "reading the input took more than 1 s")
        self.assertLess(time.monotonic() - began, 5)

    def test_shut(self) -> None:
        """
        A child that closes its output and goes on is stopped at the deadline, too.
        """
        self.assertIn("more than 1 s", self.failure("shut", 1).message)

    def test_processorTime(self) -> None:
        """
        A child ends by itself even if the daemon is gone: its processor time is limited.
        """
        self.offload = self.made(program=("/bin/sh", "-c", f'exec "{sys.executable}" "{_BOMBS}" "$1" 1', "sh"))
        self.assertIn("more than 20 s", self.failure("loop").message)

    def test_crash(self) -> None:
        """
        A child that crashes is told of by its signal.
        """
        self.assertIn("signal 11", self.failure("crash").message)

    def test_leave(self) -> None:
        """
        A child that just ends is told of by its status.
        """
        self.assertIn("status 3", self.failure("leave").message)

    def test_garbage(self) -> None:
        """
        Output that is no document is an error, not an exception.
        """
        for name in ("garbage", "deep"):
            self.assertIn("not a value", self.failure(name).message)

    def test_notJson(self) -> None:
        """
        A function that gives what JSON cannot carry is a bug.
        """
        with capturedLogs():
            self.failure("not_json", kind=Internal)

    def test_flood(self) -> None:
        """
        Output without end is cut at the limit.
        """
        self.patch(offload, "OUTPUT_MAX", 2 * 1024 * 1024)
        self.assertIn("more than 2 MiB", self.failure("flood").message)

    def test_noProgram(self) -> None:
        """
        Where no child can be started, the caller is told so.
        """
        self.offload = self.made(program=("/no/such/program",))
        self.assertIn("no child could be started", self.failure("echo").message)

    def test_cancel(self) -> None:
        """
        Whoever stops waiting leaves no child behind.
        """
        waiting = Deferred.fromCoroutine(self.offload.call("loop", lambda: None))
        failures: list[Any] = []
        waiting.addErrback(failures.append)
        until(self.loop, lambda: self.spawner.children)
        waiting.cancel()
        self.assertEqual(len(failures), 1)
        self.gone()

    def test_atOnce(self) -> None:
        """
        No more children than places run at one time; every caller gets an answer.
        """
        self.offload = self.made(at_once=2)
        answers: list[Any] = []
        made: list[int] = []

        def argument(number: int) -> int:
            made.append(number)
            return number

        for number in range(5):
            calling = self.offload.call("echo", partial(argument, number), who=f"uid:{number % 3}")
            Deferred.fromCoroutine(calling).addBoth(answers.append)
        self.assertEqual(len(self.spawner.children), 2)
        self.assertEqual(made, [0, 1])  # what waits is not there yet
        until(self.loop, lambda: len(answers) == 5)
        self.assertEqual(sorted(answers), [0, 1, 2, 3, 4])
        self.gone()

    def test_rights(self) -> None:
        """
        The work cannot write files, start processes, open many descriptors, or see the daemon's environment.
        """
        place = Path(tempfile.mkdtemp())
        self.addCleanup(place.rmdir)
        place.chmod(0o777)
        self.addCleanup(lambda: (place / "file").unlink(missing_ok=True))
        os.environ["HOSTLINE_TEST_SECRET"] = "x"
        self.addCleanup(os.environ.pop, "HOSTLINE_TEST_SECRET")
        said = self.call("rights", str(place))
        self.assertEqual(said["fork"], "BlockingIOError")
        self.assertEqual(said["write"], "OSError")
        self.assertEqual(said["many files"], "OSError")
        self.assertEqual(said["limits"], [1024**3, 16])
        self.assertEqual((said["no_new_privs"], said["dumpable"]), (1, 0))
        self.assertNotIn("HOSTLINE_TEST_SECRET", said["environment"])
        self.gone()

    def test_root(self) -> None:
        """
        Under a root daemon the work is done by nobody, for good.
        """
        if not as_root():
            self.skipTest("needs root")
        said = self.call("rights", "/")
        self.assertEqual((said["uids"], said["gids"], said["groups"]), ([65534] * 3, [65534] * 3, []))
        self.assertEqual(said["root"], "PermissionError")

    def test_importsNothingFromWhereItWasStarted(self) -> None:
        """
        A daemon that was started in a directory of somebody else's runs none of his code, in no child either.
        """
        place = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, place)
        mine = "open({!r}, 'w').close()\n"
        for name in ("attr", "json", "xml", "sitecustomize", "twisted"):
            (place / f"{name}.py").write_text(mine.format(str(place / f"ran {name}")))
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(place)
        self.patch(sys, "path", ["", str(place), ".", *sys.path])
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": str(place)})
        self.offload = self.made(program=offload.PROGRAM)
        good = "<e><elements><computer><name>web</name></computer></elements></e>"
        self.assertEqual([one["node"] for one in self.call("check_topology", {"text": good})["nodes"]], ["web"])
        self.assertEqual(list(place.glob("ran *")), [])

    def test_daemonForgetsWhereItWasStarted(self) -> None:
        """
        Nor does C{python -m} have the daemon import later from there; hostline's own place stays.
        """
        place = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, place)
        root = str(offload._ROOT)
        code = "import sys, hostline.server.main as m; m.forget_here(); print(sys.path[0])"
        for directory in (place, root):
            argv = [sys.executable, "-c", f"import sys, os; sys.path[0] = os.getcwd(); {code}"]
            environment = {**os.environ, "PYTHONPATH": root}
            said = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True, check=True)
            self.assertEqual(said.stdout.strip(), root)

    def test_checkTopology(self) -> None:
        """
        The real child reads a topology, and a bomb is an error with its line.
        """
        self.offload = self.made(program=offload.PROGRAM)
        good = "<e><elements><computer><name>web</name></computer></elements></e>"
        self.assertEqual([one["node"] for one in self.call("check_topology", {"text": good})["nodes"]], ["web"])
        bomb = '<!DOCTYPE e [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>\n<e>&b;</e>'
        self.assertEqual([one["line"] for one in self.call("check_topology", {"text": bomb})["errors"]], [1])
        self.gone()
