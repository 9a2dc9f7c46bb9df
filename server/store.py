"""
What should be is kept in one file, L{hostline.server.database}, and written by one thread.

A batch of changes is durable when its Deferred fires. Batches that arrive while the thread is busy share the next
commit (group commit), so many writers cost few syncs of the disk. When a commit fails, it and every batch handed in
since fail together, so that memory can be taken back to what the file holds.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from hostline.protocol.errors import StoreFailed
from hostline.server.archive import Archive
from hostline.server.database import HISTORY, CannotOpen, bring_up_to_date, connect, ensure_sound

#: Bytes that are kept back for changes that lead to more room.
RESERVE = 8 << 20

PUT = "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body"
REMOVE = "DELETE FROM records WHERE kind = ? AND key = ?"
SET_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
EVENT = "INSERT INTO events VALUES (?, ?)"
AUDIT = "INSERT INTO audit VALUES (?, ?)"
FORGET_EVENTS = "DELETE FROM events WHERE cursor <= ?"
SET_ASIDE = "INSERT INTO aside VALUES (?, ?, ?, ?)"

Statement = tuple[str, tuple[Any, ...]]

#: The statements of which several go into one, with the marks that are repeated; and how many (few sizes, so that each
#: is prepared once).
_MARKS = {PUT: "(?, ?, ?)", EVENT: "(?, ?)", AUDIT: "(?, ?)"}
_AT_ONCE = (64, 16, 4, 1)


@frozen
class Loaded:
    """
    All that the file held at start.

    @ivar records: kind, key and JSON body of each.
    @ivar events: cursor and JSON body, oldest first, those of the audit log among them.
    @ivar notes: what was found wrong and mended, in words.
    @ivar salvaged: whether rows may have been lost.
    """

    records: list[tuple[str, str, str]]
    meta: dict[str, int]
    events: list[tuple[int, str]]
    notes: list[str]
    salvaged: bool = False


@define(eq=False)
class _Batch:
    statements: list[Statement]
    done: Deferred[None]
    epoch: int
    undo: Callable[[], Any] | None
    frees: bool = False
    failure: str | None = field(default=None)
    settled: bool = field(default=False)


class Store:
    """
    @ivar trouble: why the last change was refused; None while all is well.
    """

    def __init__(
        self,
        path: Path,
        wake: Callable[[Callable[[], None]], Any],
        soon: Callable[[Callable[[], None]], Any] = lambda function: function(),
    ) -> None:
        """
        @param wake: runs a function on the reactor's thread, called from the writer's.
        @param soon: runs a function at the end of this turn of the reactor: all that is handed in by then goes to the
            writer together. One by one, the writer would be woken for each, and begin a commit of one.
        """
        self._path = path
        self._reserve = path.with_name("reserve")
        self._gave_up = False
        self._wake = wake
        self._soon = soon
        self._gathered: list[_Batch] = []
        self._queue: queue.SimpleQueue[list[_Batch] | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._epoch = 0
        self._failed_below = 0  # written by the thread only: batches of an earlier epoch fail unread
        self._pending: list[_Batch] = []
        self.trouble: str | None = None

    def open(self) -> Loaded:
        """
        Check the file, bring it up to date, read it whole, and start the writer.

        @raise CannotOpen: if it is newer than this program, or cannot be read or made.
        """
        connection: sqlite3.Connection | None = None
        try:
            self._path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            mended = ensure_sound(self._path)
            connection = connect(self._path)
            self.keep_reserve()
            notes = [mended] if mended is not None else []
            notes += bring_up_to_date(connection, self._path)
            meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
            # Should rows be lost, no cursor is given out again that stands in a file of the audit log.
            newest = Archive(self._path.parent / "audit").newest
            if newest > meta.get("cursor", 0):
                meta["cursor"] = newest
            loaded = Loaded(
                records=connection.execute("SELECT kind, key, body FROM records").fetchall(),
                meta=meta,
                events=connection.execute(HISTORY).fetchall(),
                notes=notes,
                salvaged=mended is not None,
            )
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise CannotOpen(f"the state in {self._path} cannot be opened: {error}") from error
        self._connection = connection
        self._thread = threading.Thread(target=self._write, args=(connection,), name="store", daemon=True)
        self._thread.start()
        return loaded

    def submit(
        self, statements: Iterable[Statement], undo: Callable[[], Any] | None = None, frees: bool = False
    ) -> Deferred[None]:
        """
        Make a batch durable; batches become so in the order they are handed in.

        @param undo: takes memory back to what it was before this batch, if it fails. Then all batches handed in since
            fail too; they are undone first, the newest before all, and only when memory is as the file is does any
            Deferred fire: whoever hears of it may go on to the next change.
        @param frees: it leads to more room on the host: if the disk is full, the reserve is given up for it.
        @return: fires with None once it is on the disk; fails with L{StoreFailed}.
        """
        batch = _Batch(list(statements), Deferred(), self._epoch, undo, frees)
        self._pending.append(batch)
        self._gathered.append(batch)
        if len(self._gathered) == 1:
            self._soon(self._hand_over)
        return batch.done

    def _hand_over(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._queue.put(gathered)

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """
        Run a blocking function on the writer's thread (for files that belong to the state).
        """
        result: Deferred[Any] = Deferred()

        def run() -> None:
            try:
                value = function()
            except Exception as error:
                failed = error
                self._wake(lambda: result.errback(failed))
            else:
                self._wake(lambda: result.callback(value))

        self._hand_over()
        self._queue.put(run)
        return result

    def use(self, function: Callable[[sqlite3.Connection], Any]) -> Deferred[Any]:
        """
        As L{run}, for a function that reads or changes the file itself; it must leave no transaction open.
        """

        def run() -> Any:
            assert self._connection is not None
            return function(self._connection)

        return self.run(run)

    def keep_reserve(self) -> None:
        """
        Have a file beside the state that can be given up once the disk is full, if there is room for it now; blocks.
        """
        fresh = self._reserve.with_name(self._reserve.name + ".new")
        with contextlib.suppress(OSError):
            if self._reserve.exists() or shutil.disk_usage(self._path.parent).free < 8 * RESERVE:
                return
            with fresh.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
            fresh.rename(self._reserve)
            self._gave_up = False
            return
        fresh.unlink(missing_ok=True)

    def close(self) -> None:
        """
        Write what was handed in, close the file, end the thread.
        """
        if self._thread is not None:
            self._hand_over()
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _write(self, connection: sqlite3.Connection) -> None:
        while True:
            first = self._queue.get()
            group: list[_Batch] = []
            last: Callable[[], None] | None = None
            stop = first is None
            while first is not None:
                if not isinstance(first, list):
                    last = first
                    break
                group += first
                try:
                    first = self._queue.get_nowait()
                except queue.Empty:
                    break
                stop = first is None
            if group:
                self._commit(connection, group)
                self._wake(lambda group=group: self._committed(group))  # type: ignore[misc]
            if last is not None:
                last()
            if stop:
                connection.close()
                return

    def _commit(self, connection: sqlite3.Connection, group: list[_Batch]) -> None:
        live = [batch for batch in group if batch.epoch >= self._failed_below]
        for batch in group:
            if batch.epoch < self._failed_below:
                batch.failure = "an earlier change could not be written"
        if not live:
            return
        frees = all(batch.frees for batch in live)
        if self._gave_up and not frees and shutil.disk_usage(self._path.parent).free < 2 * RESERVE:
            reason: str | None = "the disk is full; what is left is for changes that lead to more room"
        else:
            reason = self._try(connection, live)
        if reason is not None and frees and self._give_up_reserve():
            reason = self._try(connection, live)
        if reason is not None:
            self._failed_below = live[-1].epoch + 1
            for batch in live:
                batch.failure = reason

    def _give_up_reserve(self) -> bool:
        try:
            self._reserve.unlink()
        except OSError:
            return False
        self._gave_up = True
        return True

    def _try(self, connection: sqlite3.Connection, live: list[_Batch]) -> str | None:
        """
        @return: why it failed, and nothing of it is in the file; None if it did not.
        """
        try:
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in _together(statement for batch in live for statement in batch.statements):
                connection.execute(sql, values)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            reason = str(error)
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error as worse:
                reason += f"; {worse}"
            return reason
        return None

    def _committed(self, group: list[_Batch]) -> None:
        reason = next((batch.failure for batch in group if batch.failure is not None and not batch.settled), None)
        if reason is not None:
            self.trouble = reason
            self._epoch += 1
            failed, self._pending = self._pending, []
            for batch in reversed(failed):
                batch.settled = True
                if batch.undo is not None:
                    batch.undo()
            for batch in failed:
                batch.done.errback(StoreFailed(f"the change was not made, the state cannot be written: {reason}"))
        good = [batch for batch in group if batch.failure is None]
        if good:
            self.trouble = None
            del self._pending[: len(good)]
        for batch in good:
            batch.settled = True
            batch.done.callback(None)


def _together(statements: Iterable[Statement]) -> Iterator[Statement]:
    """
    The same effect in fewer statements: each one lets go of the interpreter and has to wait for it again, which is
    what a commit of many changes would mostly do.
    """
    records: dict[tuple[Any, ...], str | None] = {}
    rows: dict[str, list[tuple[Any, ...]]] = {PUT: [], EVENT: [], AUDIT: []}
    others: list[Statement] = []
    for sql, values in statements:
        if sql == PUT:
            records[values[:2]] = values[2]
        elif sql == REMOVE:
            records[values] = None
        elif sql in rows:
            rows[sql].append(values)
        else:
            others.append((sql, values))
    for key, body in records.items():
        if body is None:
            yield REMOVE, key
        else:
            rows[PUT].append((*key, body))
    for sql, several in rows.items():
        head, marks, tail = sql.partition(_MARKS[sql])
        at = 0
        while at < len(several):
            size = next(size for size in _AT_ONCE if size <= len(several) - at)
            yield f"{head}{', '.join([marks] * size)}{tail}", tuple(chain.from_iterable(several[at : at + size]))
            at += size
    yield from others
