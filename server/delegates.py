"""
The accounts of delegates: what is on the host follows the records, one delegate at a time.

A record is made after its account and removed after it, so that what was acknowledged is so; a daemon that dies in
between finds an account without a record, which goes, or a record without its account, which is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.protocol.errors import BadValue, Exists, NoRoom, OperationFailed, WrongState
from hostline.server.config import Config
from hostline.server.host import Host
from hostline.server.records import Delegate
from hostline.server.supervise.accounts import Taken
from hostline.server.supervise.uids import UidRange, accounts


class Makes(Protocol):
    """
    Makes and removes accounts; L{hostline.server.supervise.delegate_accounts.DelegateAccounts}.
    """

    def there(self) -> set[int]:
        """
        @return: the serials of which something is on the host.
        """

    async def quiet(self) -> None:
        """
        Wait until what an earlier daemon began, before it died, has ended.
        """

    def wrong(self, serial: int, name: str, uid: int, keys: Sequence[str]) -> str | None:
        """
        @return: how an account is not as it should be, in words; None if it is.
        """

    def why_not_used(self) -> str | None:
        """
        @return: why nobody can come in to any of them, in words; None if they can.
        """

    async def ensure(self, serial: int, name: str, uid: int, keys: Sequence[str]) -> None:
        """
        Have an account that lets in with these keys; what is open of a key that is taken away is ended.

        @raise Taken: if the name or the uid is another's.
        @raise OSError: if it cannot be made.
        """

    async def remove(self, serial: int) -> None:
        """
        Remove an account, all that runs in it, and its home.

        @raise OSError: if that fails.
        """

    async def settle(self, known: Collection[int]) -> None:
        """
        End what still runs under uids of ours that no account has; take away what all of them shared once none is left.

        @param known: uids that are left alone.
        @raise OSError: if that fails.
        """


class Delegates:
    """
    Every delegate's account, if this daemon can have any.
    """

    _log = Logger()

    def __init__(
        self,
        host: Host,
        clock: IReactorTime,
        soon: Callable[[Callable[[], Any]], Any],
        config: Callable[[], Config],
        makes: Makes | None,
        no_accounts: str,
    ) -> None:
        """
        @param soon: calls something with the reactor's next turn.
        @param makes: None if there can be no accounts, for the reason C{no_accounts}.
        """
        self._host = host
        self._clock = clock
        self._soon = soon
        self._config = config
        self._makes = makes
        self._no_accounts = no_accounts
        self._lock = DeferredLock()
        self._reserved: dict[int, Delegate] = {}
        self._leaving: set[int] = set()
        self._troubles: dict[int, str] = {}
        self._kept: set[int] = set()
        self._common: str | None = None
        self._closed = False

    # What a request asks.

    def check_able(self) -> None:
        """
        @raise BadValue: if no account can be made.
        """
        if self._makes is None:
            raise BadValue(f"uid: want the uid of the delegate's account; {self._no_accounts}, so none can be made")

    def check_stays(self, record: Delegate) -> None:
        """
        @raise WrongState: if it is just being removed.
        """
        if record.serial in self._leaving:
            raise WrongState(f"delegate {record.name} is being removed")

    def allocate(self, serial: int) -> int:
        """
        @return: a uid for a new account. One that was given is not given again soon.
        @raise NoRoom: if none is free.
        """
        section = self._config().delegates
        known = accounts()
        reserved = {one.uid for one in self._reserved.values()}
        try:
            return UidRange(section.uid_first, section.uid_count).allocate(
                serial, lambda uid: uid in known or uid in reserved or bool(self._host.by_uid(uid))
            )
        except ValueError as error:
            raise NoRoom(str(error)) from None

    @property
    def coming(self) -> list[Delegate]:
        """
        Those whose accounts are being made.
        """
        return list(self._reserved.values())

    @contextmanager
    def reserved(self, record: Delegate) -> Iterator[None]:
        """
        Keep name and uid for a record that is not made yet.

        @raise Exists: if the name is somebody else's.
        """
        name = record.name.lower()
        if self._host.taken(record) or any(one.name.lower() == name for one in self._reserved.values()):
            raise Exists(f"delegate {record.name} exists")
        self._reserved[record.serial] = record
        try:
            yield
        finally:
            del self._reserved[record.serial]

    @contextmanager
    def leaving(self, record: Delegate) -> Iterator[None]:
        """
        Have nobody make or mend the account meanwhile.

        @raise WrongState: if it is being removed already.
        """
        self.check_stays(record)
        self._leaving.add(record.serial)
        try:
            yield
        finally:
            self._leaving.discard(record.serial)

    async def ensure(self, record: Delegate) -> None:
        """
        Have the account as this record says, which need not be in force yet. Until the reactor's next turn nobody else
        changes it, so that the record can follow.

        @raise Exists: if the name is that of an account that is not ours.
        @raise OperationFailed: if it cannot be made; what was made of it is undone.
        """
        makes = self._able()
        await self._lock.acquire()
        try:
            self.check_stays(record)
            await makes.ensure(record.serial, record.name, record.uid, record.keys)
            self._note(record.serial, None)
            self._common = makes.why_not_used()
        except OSError as error:
            self._background(self._follow(record.serial))
            if isinstance(error, Taken):
                raise Exists(str(error)) from None
            raise OperationFailed(f"the account of {record.name}: {error}") from None
        finally:
            self._soon(self._lock.release)

    async def remove(self, record: Delegate) -> None:
        """
        End all that runs in the account, and remove it with its home.

        @raise OperationFailed: if that cannot be.
        """
        makes = self._able()
        await self._lock.acquire()
        try:
            await makes.remove(record.serial)
            self._note(record.serial, None)
        except OSError as error:
            self._background(self._follow(record.serial))
            raise OperationFailed(f"the account of {record.name}: {error}") from None
        finally:
            self._soon(self._lock.release)

    def follow(self, record: Delegate) -> None:
        """
        Have the account as its record says by then, soon: none if there is no record.
        """
        self._background(self._follow(record.serial))

    # What the daemon does by itself.

    async def recover(self, keep_strays: bool = False) -> None:
        """
        Have what is on the host as the records say.

        @param keep_strays: leave accounts alone that have no record: it may have been lost.
        """
        if self._makes is None:
            return
        await self._makes.quiet()
        records = self._records()
        strays = self._makes.there() - set(records)
        self._kept = strays if keep_strays else set()
        for serial in sorted((strays - self._kept) | set(records)):
            await self._follow(serial)
        await self._settle()

    def tidy(self) -> None:
        """
        Look whether all is still so, and mend it.
        """
        if self._makes is not None and not self._lock.locked:
            self._background(self._tidy(self._makes))

    def problems(self, serial: int) -> list[str]:
        """
        @return: why a delegate cannot come in as it should, in words.
        """
        record = self._host.by_serial(Delegate, serial)
        if record is not None and not record.account:
            return []
        own = [self._troubles[serial]] if serial in self._troubles else []
        if self._makes is None:
            return [f"its account is not looked after: {self._no_accounts}"] if record is not None else own
        return own + ([self._common] if self._common is not None else [])

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        @return: what C{doctor} says of them: what was looked at, whether it is well, detail and remedy.
        """
        records = self._records()
        if self._makes is not None:
            self._common = self._makes.why_not_used() if records else None
        wrong = [f"{one.name}: {self._troubles[serial]}" for serial, one in records.items() if serial in self._troubles]
        if self._makes is None and records:
            wrong.append(f"{len(records)} accounts are not looked after: {self._no_accounts}")
        wrong += [self._common] if self._common is not None else []
        said = "; ".join(wrong)[:2000] or (
            f"accounts: {len(records)}" if self._makes else "from accounts of others only"
        )
        remedy = "mend what it says; the daemon looks each minute and makes again what is missing"
        return [("delegates", not wrong, said, remedy)]

    def close(self) -> None:
        """
        Begin nothing more.
        """
        self._closed = True

    def _able(self) -> Makes:
        if self._makes is None:
            raise WrongState(f"{self._no_accounts}: it cannot change accounts")
        return self._makes

    def _records(self) -> dict[int, Delegate]:
        return {one.serial: one for one in self._host.table(Delegate).values() if one.account}

    async def _tidy(self, makes: Makes) -> None:
        records = self._records()
        # Of what is gone by now something may be left, if the daemon could not remove it then.
        for serial in sorted(makes.there() - {*records, *self._reserved, *self._kept}):
            await self._follow(serial)
        for serial, one in records.items():
            if makes.wrong(serial, one.name, one.uid, one.keys) is not None or serial in self._troubles:
                await self._follow(serial)
            await deferLater(self._clock, 0)
        await self._settle()

    async def _follow(self, serial: int) -> None:
        makes = self._able()
        await self._lock.acquire()
        try:
            record = self._records().get(serial)
            if self._closed or serial in self._leaving or serial in self._reserved:
                return
            if record is None:
                await makes.remove(serial)
            else:
                await makes.ensure(serial, record.name, record.uid, record.keys)
            self._note(serial, None)
        except OSError as error:
            self._note(serial, str(error))
        finally:
            self._soon(self._lock.release)

    async def _settle(self) -> None:
        makes = self._able()
        await self._lock.acquire()
        try:
            records = [*self._records().values(), *self._reserved.values()]
            self._common = makes.why_not_used() if records else None
            if not self._closed:
                await makes.settle({one.uid for one in records})
        except OSError as error:
            self._log.warn("delegates: {trouble}", trouble=str(error))
        finally:
            self._soon(self._lock.release)

    def _note(self, serial: int, trouble: str | None) -> None:
        if trouble != self._troubles.get(serial):
            self._host.touched()
        if trouble is None:
            self._troubles.pop(serial, None)
        else:
            self._log.warn("delegate with serial {serial}: {trouble}", serial=serial, trouble=trouble)
            self._troubles[serial] = trouble

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        def failed(failure: Failure) -> None:
            self._log.failure("the accounts of delegates", failure)

        Deferred.fromCoroutine(work).addErrback(failed)
