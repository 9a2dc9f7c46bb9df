"""
Tests for L{hostline.server.supervise.backup}; those with a real guest are in L{tests.live.test_qemu_disk}.
"""

from __future__ import annotations

import tempfile
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import backup
from hostline.server.supervise.agent import AgentRefused


class Guest:
    """
    QEMU and the agent, which note what they are asked in one list.

    @ivar refuses: words that are refused once each.
    @ivar polls: how often the job is looked at before it is over.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses: list[str] = []
        self.polls = 3
        self.frozen = False
        self.job: dict[str, Any] | None = None
        self.nodes: set[object] = set()
        self.lent: set[str] = set()
        self.error = ""
        self.lies: Any = 2

    def _refused(self, word: str) -> None:
        self.asked.append(word)
        if word in self.refuses:
            self.refuses.remove(word)
            raise AgentRefused("GenericError", word)

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """What QEMU does."""
        self._refused(command)
        told = dict(arguments or {})
        if command == "blockdev-add":
            self.nodes.add(told["node-name"])
        elif command == "blockdev-del":
            if told["node-name"] not in self.nodes:
                raise OSError("there is none")
            self.nodes.discard(told["node-name"])
        elif command == "blockdev-backup":
            self.rested = self.frozen
            self.job = {"id": told["job-id"], "status": "running"}
        elif command == "job-cancel" and self.job:
            self.job["status"] = "concluded"
        elif command == "job-dismiss":
            self.job = None
        elif command == "query-jobs":
            self.polls -= 1
            if self.job and self.polls <= 0:
                self.job |= {"status": "concluded", **({"error": self.error} if self.error else {})}
            return [{"id": "another", "status": "running"}, *([self.job] if self.job else [])]
        return {}

    async def lend(self, fd: int) -> str:
        """What is open in QEMU."""
        self.lent.add(f"/dev/fdset/{fd}")
        return f"/dev/fdset/{fd}"

    async def reclaim(self, path: str) -> None:
        """What is no more."""
        self.lent.discard(path)

    async def alone(self, ask: Any) -> Any:
        """As nobody else asks here."""
        return await ask(self.call)

    async def call(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0) -> Any:
        """What the agent does."""
        self._refused(command if command != "guest-exec" else str(arguments)[-28:])
        if command == "guest-fsfreeze-freeze":
            self.frozen = True
            return self.lies
        if command == "guest-fsfreeze-status":
            return "frozen" if self.frozen else "thawed"
        if command == "guest-fsfreeze-thaw":
            self.frozen = False
            return 2
        return {"pid": 77}


class CopyTests(SynchronousTestCase):
    """
    A copy of a disk, and what is left of it when something goes wrong.
    """

    def setUp(self) -> None:
        self.guest, self.clock = Guest(), Clock()
        file = tempfile.TemporaryFile()  # noqa: SIM115
        self.addCleanup(file.close)
        self.fd = file.fileno()

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Its result, as soon as time goes by."""
        done: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        for _ in range(50):
            self.clock.advance(1.0)
        over: list[Any] = []
        done.addBoth(over.append)
        if isinstance(over[0], Failure):
            over[0].raiseException()
        return over[0]

    def copy(self, most: int = 1 << 20) -> None:
        """The whole of it; whatever comes of it, the guest goes on and nothing is left in QEMU."""
        try:
            self.go(backup.copy(self.guest, self.guest, self.clock, self.fd, Path("/base"), most))
        finally:
            self.assertEqual((self.guest.frozen, self.guest.job, self.guest.nodes), (False, None, set()))
            self.assertEqual(self.guest.lent, set())

    def failed(self, pattern: str, most: int = 1 << 20) -> None:
        """It fails, and leaves nothing."""
        with self.assertRaisesRegex(OSError, pattern):
            self.copy(most)

    def test_copies(self) -> None:
        """
        The copy begins while the guest is at rest, the guest goes on before it is done, and is told no more to wake.
        """
        self.copy()
        self.assertTrue(self.guest.rested)
        asked = self.guest.asked
        self.assertLess(asked.index("guest-fsfreeze-thaw"), asked.index("job-dismiss"))
        self.assertIn("/proc/sysrq-trigger", asked[1])
        self.assertLess(1, asked.index("guest-fsfreeze-freeze"))
        self.assertIn("kill 77", asked[asked.index("guest-fsfreeze-thaw") + 1])

    def test_whateverIsRefused(self) -> None:
        """
        Whatever QEMU or the agent refuse, it fails in words, and the guest is not left at rest.
        """
        for word in ("blockdev-add", "guest-fsfreeze-freeze", "blockdev-backup", "query-jobs"):
            with self.subTest(word):
                self.guest = Guest()
                self.guest.refuses = [word]
                self.failed(word)

    def test_doesNotWake(self) -> None:
        """
        A guest that does not say that it goes on is told of as such.
        """
        self.guest.refuses = ["guest-fsfreeze-thaw"]
        with self.assertRaises(backup.Cold):
            self.go(backup.copy(self.guest, self.guest, self.clock, self.fd, None, 1))
        self.assertTrue(self.guest.frozen)
        self.go(backup.wake(self.guest.call))
        self.assertFalse(self.guest.frozen)

    def test_fails(self) -> None:
        """
        A copy that fails, one that gets too big, and a guest without file systems, are told of.
        """
        self.guest.error = "No space left on device"
        self.failed("No space left")
        self.guest = Guest()
        self.guest.polls = 10**9
        with open(f"/proc/self/fd/{self.fd}", "wb") as file:  # noqa: PTH123
            file.write(bytes(1 << 16))
        self.failed("more than 4096 bytes", 4096)
        self.guest = Guest()
        self.guest.lies = 0
        self.failed("no file system")

    def test_abandons(self) -> None:
        """
        What somebody else has begun is ended; where there is nothing, nothing is done.
        """
        self.guest.polls = 10**9
        self.guest.job, self.guest.nodes = {"id": backup.NAME, "status": "running"}, {backup.NAME}
        for _ in range(2):
            self.go(backup.abandon(self.guest, self.clock))
            self.assertEqual((self.guest.job, self.guest.nodes), (None, set()))

    def test_size(self) -> None:
        """
        The disk is as large as QEMU says; a guest without one has none.
        """

        class Asked(Guest):
            async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
                return [{"device": "cd"}, {"device": "disk", "inserted": {"image": {"virtual-size": 5}}}][: self.polls]

        guest = Asked()
        self.assertEqual(self.go(backup.size(guest)), 5)
        guest.polls = 1
        self.assertRaises(OSError, self.go, backup.size(guest))
