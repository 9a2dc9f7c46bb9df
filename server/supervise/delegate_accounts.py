"""
The accounts of delegates on this host: password that fits none, the forward shell, a home that is root's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hostline.server.supervise import passable
from hostline.server.supervise.accounts import DELEGATE, PROGRAMS, Accounts, Taken
from hostline.server.supervise.delegate_homes import DelegateHomes
from hostline.server.supervise.delegate_shell import DelegateShell
from hostline.server.supervise.owned import Owned
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.uids import UidRange

#: Processes of one delegate: two for each connection, of which it may have hundreds (limits.principal_connections).
MOST = 1000


class DelegateAccounts:
    """
    Those of one state directory. Only root can have them. What is awaited is to be asked for one after the other.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Path,
        socket: Path,
        *,
        instance: str,
        uids: UidRange,
        spawner: Spawner,
        clock: IReactorTime,
    ) -> None:
        """
        @param directory: C{STATE/delegates}; others must be able to pass through all above it.
        @param socket: the daemon's.
        @param uids: which nobody else gives out.
        """
        directory, socket = directory.absolute(), socket.absolute()
        self._directory = directory
        self._uids = uids
        self._homes = DelegateHomes(directory, spawner)
        self._shell = DelegateShell(directory / "shell", socket, spawner, clock)
        self._owned = Owned(clock)
        self._had_any = False
        self._given: set[int] = set()
        self._accounts = Accounts(spawner, instance, uids, self._shell.path, noted=self._homes.uids, label=DELEGATE)

    def there(self) -> set[int]:
        """
        @return: the serials of which something is on the host.
        """
        return self._homes.there() | set(self._accounts.own())

    async def quiet(self) -> None:
        """
        Wait until what an earlier daemon began, before it died, has ended.
        """
        noted = (self._homes.noted(serial) for serial in self._homes.there())
        await self._owned.ended(PROGRAMS, [one[0] for one in noted if one is not None])

    def wrong(self, serial: int, name: str, uid: int, keys: Sequence[str]) -> str | None:
        """
        @return: how an account is not as it should be, in words; None if it is.
        """
        account = self._accounts.own().get(serial)
        if account is not None and (account.name, account.home) != (name, str(self._homes.path(serial))):
            return f"its account is called {account.name} and lives in {account.home}"
        return self._accounts.problem(serial, uid, True) or self._homes.wrong(serial, keys) or self._shell.wrong()

    def why_not_used(self) -> str | None:
        """
        @return: why nobody can come in to any of them, in words; None if they can.
        """
        why_not = self._shell.why_not_used() or passable.why_not_reached(self._directory / "home")
        return f"delegates cannot come in: {why_not}" if why_not is not None else None

    async def ensure(self, serial: int, name: str, uid: int, keys: Sequence[str]) -> None:
        """
        Have an account that lets in with these keys; what is open of a key that is taken away is ended.

        @raise hostline.server.supervise.accounts.Taken: if the name or the uid is another's.
        @raise OSError: if it cannot be made.
        """
        self._had_any = True
        self._directory.mkdir(exist_ok=True)
        self._directory.chmod(0o711)
        home = str(self._homes.path(serial))
        if serial not in self._accounts.own():
            self._accounts.check_free(name, uid)
            others = (await self._owned.uids()).get(uid)
            if others:  # a container's, say; whoever ends what runs in the account must not end that
                raise Taken(f"the uid {uid} is taken by the process {others[0].pid}")
            self._homes.note(serial, name, uid)
            await self._accounts.ensure(serial, name, uid, home, up=False)
        await self._shell.install()
        try:
            fewer = await self._homes.ensure(serial, keys)
        except ValueError as error:
            raise OSError(f"its keys: {error}") from None
        await self._accounts.ensure(serial, name, uid, home, up=True)
        if fewer:
            await self._owned.end(uid, name)

    async def remove(self, serial: int) -> None:
        """
        Remove an account, all that runs in it, and its home.

        @raise OSError: if that fails.
        """
        account, noted = self._accounts.own().get(serial), self._homes.noted(serial)
        name, uid = (account.name, account.uid) if account is not None else noted or (None, None)
        if account is not None:
            await self._accounts.ensure(serial, account.name, account.uid, account.home, up=False)
            await self._owned.end(account.uid, account.name)
        await self._accounts.remove(serial, name, uid)
        if uid is not None and uid in self._uids and not await self._accounts.is_known(uid):
            self._given.add(uid)
            await self._owned.end(uid)  # who was let in while it was shut
        await self._homes.remove(serial)
        await self._withdraw()

    async def settle(self, known: Collection[int]) -> None:
        """
        End what still runs under uids of accounts that were removed; take the shell away if nobody is left to have it.

        @param known: uids of accounts, which are left alone as long as each has L{MOST} processes at most.
        @raise OSError: if that fails.
        """
        if not known and not self._had_any and not self._directory.exists():
            return
        for uid, processes in (await self._owned.uids()).items():
            if uid in known:
                # Who asks nothing (ssh -N) is no connection of ours that is counted, and sshd counts none either.
                if len(processes) > MOST:
                    self._log.warn("uid {uid} has {count} processes of sshd; ended", uid=uid, count=len(processes))
                    await self._owned.end(uid)
            # Only those that were ours: accounts of other services and containers may have uids between ours.
            elif uid in self._given and not await self._accounts.is_known(uid):
                await self._owned.end(uid)
        if not known:
            await self._withdraw()

    async def _withdraw(self) -> None:
        if self._directory.exists() and not self.there():
            await self._shell.withdraw()
            with suppress(OSError):
                self._directory.rmdir()
