"""
The audit log as a whole: its old part is moved to files, and all of it is read by the command C{audit}.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import OperationFailed
from hostline.server import config, entries
from hostline.server.archive import Archive, ArchiveTrouble
from hostline.server.asking import Ask, responds

#: How many entries one request looks through at most, and characters of entries that it answers with.
LOOKED_THROUGH = 50000
_LONGEST = 1 << 20

_T = TypeVar("_T")
_Use = Callable[[Callable[[sqlite3.Connection], Any]], Deferred[Any]]


class Audit:
    """
    Keeps the log within its bounds, and reads it.

    @ivar trouble: why the last rotation failed; empty if it did not.
    """

    _log = Logger()

    def __init__(
        self,
        archive: Archive,
        use: _Use,
        settings: Callable[[], config.Audit],
    ) -> None:
        """
        @param use: runs a function with the state's file on the thread that writes it.
        """
        self._archive = archive
        self._use = use
        self._settings = settings
        self._rotating = False
        self.trouble = ""

    def rotate(self) -> None:
        """
        Move old entries to files, if there are too many; a failure is told by L{trouble}, and it is for the next time.
        """
        if not self._rotating:
            self._rotating = True
            Deferred.fromCoroutine(self._rotate()).addErrback(lambda failure: self._log.failure("rotating", failure))

    async def _rotate(self) -> None:
        settings = self._settings()
        try:
            steps = _Steps(self._use, lambda state: self._archive.rotate(state, settings.entries, settings.files))
            while await steps.take():
                pass
        except (OSError, sqlite3.Error, ArchiveTrouble) as error:
            if not self.trouble:
                self._log.error("old entries of the audit log could not be moved to a file: {reason}", reason=error)
            self.trouble = str(error)
        else:
            self.trouble = ""
        finally:
            self._rotating = False

    async def read(self, since: int, limit: int, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """
        One page of the log, the oldest entries first.

        @return: the body of C{audit}.
        @raise OperationFailed: if a file cannot be read.
        """
        found: list[dict[str, Any]] = []
        looked, length, at = 0, 0, since
        try:
            steps = _Steps(self._use, lambda state: self._archive.read(state, since))
            while step := await steps.take():
                for cursor, line in step[0]:
                    if len(found) == limit or looked == LOOKED_THROUGH or length > _LONGEST:
                        return {"entries": found, "next": at}
                    looked, at = looked + 1, cursor
                    entry = _entry(cursor, line)
                    if fits(entry):
                        found.append(entry)
                        length += len(line)
        except ArchiveTrouble as error:
            raise OperationFailed(str(error)) from None
        return {"entries": found, "next": None}


class _Steps(Generic[_T]):
    """
    An iterator whose steps are taken on the thread that writes the state, which others have between two.
    """

    def __init__(self, use: _Use, begin: Callable[[sqlite3.Connection], Iterator[_T]]) -> None:
        self._use = use
        self._begin = begin
        self._begun: Iterator[_T] | None = None

    async def take(self) -> list[_T]:
        """
        @return: what the next step gave; nothing if there is none.
        """
        taken: list[_T] = await self._use(self._step)
        return taken

    def _step(self, state: sqlite3.Connection) -> list[_T]:
        if self._begun is None:
            self._begun = self._begin(state)
        return list(islice(self._begun, 1))


def _entry(cursor: int, line: str) -> dict[str, Any]:
    try:
        return entries.shown(json.loads(line))
    except (KeyError, TypeError, ValueError):
        return entries.shown({"cursor": cursor, "time": 0.0, "what": "damaged", "arguments": entries.cut(line)})


@responds(TABLE["audit"])
async def audit(ask: Ask, since: int, limit: int, principal: str | None, command: str | None) -> dict[str, Any]:
    """
    Read the audit log.
    """

    def fits(entry: dict[str, Any]) -> bool:
        said_by = principal is None or principal in (entry["principal"], entry["name"])
        return said_by and command in (None, entry["command"])

    ask.waiting = True
    try:
        return await ask.daemon.audit.read(since, limit, fits)
    finally:
        ask.waiting = False
