"""
The store: what it says is durable is, what it says is not is not, and a bad file is never made worse.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import StoreFailed
from hostline.server import database, records, store
from hostline.server.archive import Archive
from hostline.server.database import CannotOpen
from hostline.server.store import Loaded, Store

#: A statement that cannot be carried out twice.
ONCE = (store.AUDIT, (1, "{}"))


def put(key: str, body: str = "{}") -> store.Statement:
    return (store.PUT, ("user", key, body))


class StoreCase(SynchronousTestCase):
    """
    @ivar path: of the file.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "host.db"
        self.woken: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self.store: Store | None = None
        self.addCleanup(self.close)

    def open(self) -> Loaded:
        self.close()
        self.store = Store(self.path, self.woken.put)
        return self.store.open()

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def submit(self, *statements: store.Statement, undo: Callable[[], Any] | None = None) -> Deferred[None]:
        assert self.store is not None
        done = self.store.submit(statements, undo)
        done.addErrback(lambda failure: failure.trap(StoreFailed) and failure)
        return done

    def wait(self, done: Deferred[Any]) -> None:
        while not done.called:
            self.woken.get(timeout=20)()

    def made(self, *statements: store.Statement) -> None:
        done = self.submit(*statements)
        self.wait(done)
        self.successResultOf(done)

    def refused(self, *statements: store.Statement) -> str:
        done = self.submit(*statements)
        self.wait(done)
        return str(self.failureResultOf(done, StoreFailed).value)

    def hold(self) -> threading.Event:
        """
        Keep the writer busy until the event is set.
        """
        event, begun = threading.Event(), threading.Event()
        assert self.store is not None

        def hold() -> None:
            begun.set()
            event.wait(20)

        self.store.run(hold)
        begun.wait(20)
        return event

    def keys(self) -> list[str]:
        return [key for _, key, _ in self.open().records]


class DurableTests(StoreCase):
    """
    What was acknowledged is in the file.
    """

    def test_keepsWhatWasMade(self) -> None:
        """
        Records, counters and events are there after a restart, what was removed is not.
        """
        self.open()
        self.made(put("ann"), put("bob"), (store.SET_META, ("serial", 65)), (store.EVENT, (1, "one")))
        self.made(put("ann", "new"), (store.REMOVE, ("user", "bob")), (store.AUDIT, (2, "two")))
        loaded = self.open()
        self.assertEqual(loaded.records, [("user", "ann", "new")])
        self.assertEqual((loaded.meta, loaded.events), ({"serial": 65}, [(1, "one"), (2, "two")]))
        self.assertEqual(loaded.notes, [])

    def test_keepsWhatWasMadeWhenKilled(self) -> None:
        """
        A daemon killed in the instant after it said yes has lost nothing.
        """
        self.path.parent.mkdir()
        program = f"""
import os, queue, signal
from pathlib import Path
from hostline.server import records, store
woken = queue.SimpleQueue()
one = store.Store(Path({str(self.path)!r}), woken.put)
one.open()
done = one.submit([(store.PUT, ("user", "ann", "x"))])
done.addCallback(lambda _: os.kill(os.getpid(), signal.SIGKILL))
while True:
    woken.get()()
"""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ended = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60)
        self.assertEqual(ended.returncode, -signal.SIGKILL)
        self.assertEqual(self.keys(), ["ann"])

    def test_writesWhatWaitsWhenClosed(self) -> None:
        """
        A clean end writes all that was asked for before.
        """
        self.open()
        event = self.hold()
        for name in ("ann", "bob"):
            self.submit(put(name))
        event.set()
        self.assertEqual(self.keys(), ["ann", "bob"])

    def test_sharesOneCommit(self) -> None:
        """
        Changes that arrive while the disk is busy are written together: they succeed or fail as one.
        """
        self.open()
        event = self.hold()
        done = [self.submit(put("ann")), self.submit(ONCE), self.submit(ONCE)]
        event.set()
        for one in done:
            self.wait(one)
            self.failureResultOf(one, StoreFailed)
        self.assertEqual(self.keys(), [])

    def test_isOursAlone(self) -> None:
        """
        Nobody else can read the state.
        """
        self.open()
        self.made(put("ann"))
        for path in self.path.parent.glob("host.db*"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)


class FailureTests(StoreCase):
    """
    A change that cannot be written was not made.
    """

    def test_saysWhyAndRecovers(self) -> None:
        """
        The error names the cause; doctor shows it; the next change that can be written is.
        """
        self.open()
        self.made(ONCE)
        self.assertIn("UNIQUE", self.refused(ONCE))
        assert self.store is not None
        self.assertIn("UNIQUE", self.store.trouble or "")
        self.made(put("ann"))
        self.assertIsNone(self.store.trouble)
        self.assertEqual(self.keys(), ["ann"])

    def test_failsAllThatCameAfter(self) -> None:
        """
        What was built on a change that failed fails too, though it could be written; newest undone first.
        """
        self.open()
        self.made(ONCE)
        order: list[str] = []
        event = self.hold()
        bad = self.submit(ONCE, undo=lambda: order.append("undo bad"))
        self.wait_hold(event)
        after = self.submit(put("ann"), undo=lambda: order.append("undo after"))
        bad.addErrback(lambda _: order.append("bad"))
        after.addErrback(lambda _: order.append("after"))
        self.wait(after)
        self.assertEqual(order, ["undo after", "undo bad", "bad", "after"])
        self.made(put("bob"))
        self.assertEqual(self.keys(), ["bob"])

    def wait_hold(self, event: threading.Event) -> None:
        """
        Let the writer come past what it holds, while nobody has heard of it yet.
        """
        event.set()
        flushed = threading.Event()
        assert self.store is not None
        self.store.run(flushed.set)
        flushed.wait(20)

    def test_keepsWhatIsBuiltOnTheUndoneMemory(self) -> None:
        """
        Who hears of the failure may change again at once, and that is kept.
        """
        self.open()
        self.made(ONCE)
        again: list[Deferred[None]] = []
        bad = self.submit(ONCE)
        bad.addErrback(lambda _: again.append(self.submit(put("ann"))))
        self.wait(bad)
        self.wait(again[0])
        self.successResultOf(again[0])
        self.assertEqual(self.keys(), ["ann"])

    def test_raisesWhatAFunctionRaises(self) -> None:
        """
        A file that cannot be written on the other thread is an error here.
        """
        self.open()
        assert self.store is not None
        done = self.store.run(lambda: Path("/nonexistent/x").read_bytes())
        self.wait(done)
        self.failureResultOf(done, FileNotFoundError)


class AuditTests(StoreCase):
    """
    The audit log only grows.
    """

    def test_cannotBeChanged(self) -> None:
        """
        Not even the daemon can change or remove an entry.
        """
        self.open()
        self.made((store.AUDIT, (1, "one")))
        self.assertIn("only grows", self.refused(("UPDATE audit SET body = 'two'", ())))
        self.assertIn("only grows", self.refused(("DELETE FROM audit", ())))
        self.assertEqual(self.open().events, [(1, "one")])

    def test_mayBeDeletedOnceItIsInAFile(self) -> None:
        """
        What was moved to a file may go, what came after it may not, and what is gone stays gone.
        """
        self.open()
        self.made(*((store.AUDIT, (cursor, "x")) for cursor in range(1, 6)))
        self.made((store.SET_META, ("audit_rotated", 3)), ("DELETE FROM audit WHERE cursor <= 3", ()))
        self.assertIn("only grows", self.refused(("DELETE FROM audit WHERE cursor = 4", ())))
        self.assertIn("only grows", self.refused(("UPDATE audit SET cursor = 2 WHERE cursor = 4", ())))
        self.assertEqual([cursor for cursor, _ in self.open().events], [4, 5])

    def test_neverGivesOutACursorOfAFileAgain(self) -> None:
        """
        Though the state be lost or an old one restored, new entries do not have cursors that files hold.
        """
        self.open()
        self.made((store.AUDIT, (1, "x")))
        self.close()
        (self.path.parent / "audit").mkdir()
        (self.path.parent / "audit" / "audit-1-4711.jsonl.gz").touch()
        self.assertEqual(self.open().meta["cursor"], 4711)

    def test_canBeReadBesidesChanges(self) -> None:
        """
        Who reads the file on the writer's thread sees what was handed in before.
        """
        self.open()
        self.submit((store.AUDIT, (1, "one")))
        assert self.store is not None
        done = self.store.use(lambda connection: connection.execute("SELECT * FROM audit").fetchall())
        self.wait(done)
        self.assertEqual(self.successResultOf(done), [(1, "one")])

    def test_outlivesOtherEvents(self) -> None:
        """
        When old events are forgotten the audit log keeps its own.
        """
        self.open()
        self.made((store.EVENT, (1, "one")), (store.AUDIT, (2, "two")), (store.FORGET_EVENTS, (2,)))
        self.close()
        with sqlite3.connect(self.path) as connection:
            self.assertEqual(connection.execute("SELECT * FROM audit").fetchall(), [(2, "two")])
            self.assertEqual(connection.execute("SELECT * FROM events").fetchall(), [])
        connection.close()


class OpeningTests(StoreCase):
    """
    Files of every condition.
    """

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.path.parent.iterdir()}

    def test_refusesANewerSchema(self) -> None:
        """
        A state written by a newer hostline is refused and left as it is, damaged or not.
        """
        self.open()
        self.made(put("ann"))
        self.close()
        with sqlite3.connect(self.path) as connection:
            connection.execute(f"PRAGMA user_version = {database.SCHEMA + 1}")
        connection.close()
        before = self.contents()
        self.assertIn("newer hostline", str(self.assertRaises(CannotOpen, self.open)))
        self.assertEqual(self.contents(), before)

    def fill(self) -> None:
        self.open()
        self.made(*(put(f"user-{number}", "x" * 500) for number in range(500)), (store.SET_META, ("serial", 65)))
        self.close()

    def test_carriesOverWhatCanBeRead(self) -> None:
        """
        A file that is damaged in the middle costs what stood there; the rest lives on, the damaged one is kept.
        """
        self.fill()
        size = self.path.stat().st_size
        with self.path.open("r+b") as file:
            file.seek(size // 2 // 4096 * 4096)
            file.write(b"\xff" * 8192)
        before = self.path.read_bytes()
        loaded = self.open()
        self.assertTrue(0 < len(loaded.records) < 500, len(loaded.records))
        self.assertEqual(loaded.meta, {"serial": 65})
        self.assertIn("damaged", loaded.notes[0])
        self.assertEqual((self.path.parent / "host.db.damaged-1").read_bytes(), before)
        self.made(put("ann"))
        self.assertEqual(self.open().notes, [])

    def test_refusesAFileOfWhichNothingCanBeRead(self) -> None:
        """
        Where nothing can be read the daemon does not begin anew by itself: that would end all that runs.
        """
        self.path.parent.mkdir()
        self.path.write_bytes(b"this is no database, whatever it was before" * 200)
        before = self.contents()
        self.assertIn("Nothing was touched", str(self.assertRaises(CannotOpen, self.open)))
        self.assertEqual(self.contents(), before)

    def test_refusesWhatCannotBeMade(self) -> None:
        """
        A state directory that is a file is an error in words.
        """
        self.path.parent.write_text("x")
        self.assertIn("cannot be opened", str(self.assertRaises(CannotOpen, self.open)))

    def upgrades(self, steps: dict[int, str]) -> None:
        self.patch(database, "SCHEMA", database.SCHEMA + len(steps))
        self.patch(database, "_UPGRADES", steps)

    def test_upgradesStepByStepWithBackups(self) -> None:
        """
        An older state is brought up to date, and each old one kept beside it.
        """
        self.open()
        self.made(put("ann", "1"))
        first = database.SCHEMA
        step = "UPDATE records SET body = body || '{}';"
        self.upgrades({first: step.format("a"), first + 1: step.format("b")})
        loaded = self.open()
        self.assertEqual(loaded.records, [("user", "ann", "1ab")])
        self.assertEqual(len(loaded.notes), 2)
        for version, body in ((first, "1"), (first + 1, "1a")):
            connection = sqlite3.connect(self.path.with_name(f"host.db.schema-{version}"))
            self.assertEqual(connection.execute("SELECT body FROM records").fetchall(), [(body,)])
            connection.close()
        self.assertEqual(self.open().notes, [])

    def test_bringsOperationsOfTheFirstSchemaUpToDate(self) -> None:
        """
        An operation that was begun under the first schema is the same one under this; what else there is is untouched.
        """
        self.open()
        old = {"serial": 6, "command": "swap_in", "target": "lab/exp1", "experiment": 4, "scope": 2}
        old |= {"caller": "user:1", "goal": {"5": ["started", 1]}, "started": 3.5}
        self.made(
            (store.PUT, ("operation", "6", json.dumps(old))),
            (store.PUT, ("operation", "7", "{damaged")),
            (store.PUT, ("sliver", "5", json.dumps({"experiment": 4}))),
        )
        self.close()
        with sqlite3.connect(self.path) as connection:
            connection.execute("PRAGMA user_version = 1")
        connection.close()
        found = {(kind, key): body for kind, key, body in self.open().records}
        operation = records.Operation.from_json(found["operation", "6"])
        self.assertEqual((operation.subject, operation.goal), (4, {"5": ["started", 1]}))
        self.assertEqual(found["operation", "7"], "{damaged")
        self.assertEqual(json.loads(found["sliver", "5"]), {"experiment": 4})

    def test_letsTheAuditLogOfTheSecondSchemaBeRotated(self) -> None:
        """
        The entries that an older hostline wrote are all there, can be moved to files, and else cannot be deleted.
        """
        self.open()
        self.made(*((store.AUDIT, (cursor, f"{cursor}")) for cursor in range(1, 300)), (store.EVENT, (300, "x")))
        self.close()
        with sqlite3.connect(self.path) as connection:
            connection.executescript(
                """
                DROP TRIGGER audit_keeps_all;
                CREATE TRIGGER audit_keeps_all BEFORE DELETE ON audit
                BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
                PRAGMA user_version = 2;
                """
            )
        connection.close()
        loaded = self.open()
        self.assertEqual(loaded.events, [*((cursor, f"{cursor}") for cursor in range(1, 300)), (300, "x")])
        self.assertIn("host.db.schema-2", "".join(loaded.notes))
        self.assertTrue(self.path.with_name("host.db.schema-2").exists())
        self.assertIn("only grows", self.refused(("DELETE FROM audit WHERE cursor = 1", ())))
        self.made((store.SET_META, ("forgotten", 299)))
        assert self.store is not None
        archive = Archive(self.path.parent / "audit")
        done = self.store.use(lambda connection: list(archive.rotate(connection, 100, 0)))
        self.wait(done)
        self.successResultOf(done)
        self.assertEqual([(one.first, one.last) for one in archive.parts()], [(1, 224)])
        self.assertEqual([cursor for cursor, _ in self.open().events], [300])
        self.assertEqual(self.open().notes, [])

    def test_isAsBeforeWhenAnUpgradeFails(self) -> None:
        """
        A step that fails leaves the state as it was, for the hostline that wrote it.
        """
        self.open()
        self.made(put("ann", "1"))
        self.close()
        before = database.SCHEMA
        self.upgrades({before: "UPDATE records SET body = 'half'; SELECT nonsense;"})
        self.assertRaises(CannotOpen, self.open)
        self.patch(database, "SCHEMA", before)
        self.assertEqual(self.open().records, [("user", "ann", "1")])


class _FullStore(Store):
    """
    On a disk that has just the reserve left.
    """

    def _try(self, connection: sqlite3.Connection, live: list[Any]) -> str | None:
        return "database or disk is full" if self._reserve.exists() else super()._try(connection, live)


class ReserveTests(StoreCase):
    """
    What is kept back for changes that lead to more room.
    """

    def open(self) -> Loaded:
        self.close()
        self.store = _FullStore(self.path, self.woken.put)
        return self.store.open()

    def test_isForWhatLeadsToMoreRoom(self) -> None:
        """
        When the disk is full other changes are refused and leave the reserve alone; one that frees is made.
        """
        self.open()
        assert self.store is not None
        reserve = self.path.with_name("reserve")
        self.assertEqual(reserve.stat().st_size, store.RESERVE)
        self.assertGreaterEqual(reserve.stat().st_blocks * 512, store.RESERVE)
        self.assertIn("full", self.refused(put("ann")))
        self.assertTrue(reserve.exists())
        done = self.store.submit([put("bob")], None, True)
        self.wait(done)
        self.successResultOf(done)
        self.assertFalse(reserve.exists())
        self.store.keep_reserve()
        self.assertTrue(reserve.exists())

    def test_isNotMadeWhereThereIsLittleRoom(self) -> None:
        """
        The reserve does not itself fill a disk, and a half made one is removed.
        """
        self.open()
        assert self.store is not None
        reserve = self.path.with_name("reserve")
        reserve.unlink()
        self.patch(shutil, "disk_usage", lambda path: SimpleNamespace(free=8 * store.RESERVE - 1))
        self.store.keep_reserve()
        self.assertEqual([path.name for path in self.path.parent.iterdir() if "reserve" in path.name], [])
