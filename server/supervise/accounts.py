"""
The Unix accounts that are slivers, or delegates: made, let in, shut and removed by the host's own C{useradd},
C{usermod} and C{userdel}, one at a time.

An account is ours if its comment says C{hostline INSTANCE/SERIAL}, of a delegate C{hostline INSTANCE/delegate-SERIAL},
and its uid is the one that this was given. Any other is never touched, whatever its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import DeferredLock

from hostline.server.supervise.running import Failed, run
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.uids import UidRange

#: The shell of an account that nobody may use now.
NO_LOGIN = "/usr/sbin/nologin"
#: Day of the expiry of such an account: it is refused also where no shell is asked (sftp within sshd).
_LONG_AGO = "1"
#: What changes accounts and groups here.
PROGRAMS = ("groupadd", "useradd", "usermod", "userdel", "groupdel")
#: What C{getent} ends with if there is no such account.
_NOT_THERE = 2
#: In front of the serial in the comment of a delegate's account.
DELEGATE = "delegate-"
_SPOOLS = ("var/spool/cron/crontabs", "var/spool/cron", "var/mail")


class Taken(OSError):
    """
    A name or a uid is that of an account or a group that is not ours.
    """


@frozen
class Account:
    """
    A line of C{/etc/passwd}.

    @ivar comment: its first part, up to the first comma: what follows users may change.
    """

    name: str
    uid: int
    gid: int
    comment: str
    home: str
    shell: str


def read_accounts(passwd: Path) -> list[Account]:
    """
    @return: all that can be read; other lines are left out.
    """
    found = []
    for line in passwd.read_text("utf-8", "surrogateescape").splitlines():
        words = line.split(":")
        if len(words) == 7 and words[2].isdigit() and words[3].isdigit():
            comment = words[4].partition(",")[0]
            found.append(Account(words[0], int(words[2]), int(words[3]), comment, words[5], words[6]))
    return found


class Accounts:
    """
    The accounts of one state directory.
    """

    def __init__(
        self,
        spawner: Spawner,
        instance: str,
        uids: UidRange,
        login: Path,
        root: Path = Path("/"),
        noted: Mapping[int, int] | None = None,
        label: str = "",
    ) -> None:
        """
        @param label: what stands in front of the serial in their comments; accounts with another one are not ours.
        @param uids: those that accounts of ours may have.
        @param noted: serial to the uid that it was given, looked at anew each time; where there is one it decides: the
            comment alone could have been written by somebody else.
        @param login: the shell of those who may come in.
        @param root: of the host, for tests.
        """
        self._spawner = spawner
        self._mark = f"hostline {instance}/{label}"
        self._uids = uids
        self._login = str(login)
        self._root = root
        self._noted = {} if noted is None else noted
        self._lock = DeferredLock()
        self._seen: tuple[tuple[int, int, int], list[Account]] = ((0, 0, 0), [])

    def own(self) -> dict[int, Account]:
        """
        @return: our accounts, by serial.
        """
        found: dict[int, Account] = {}
        for account in self._everybody():
            serial = account.comment.removeprefix(self._mark)
            if serial == account.comment or not serial.isdigit() or len(serial) > 18:
                continue
            noted = self._noted.get(int(serial))
            if account.uid in self._uids if noted is None else account.uid == noted:
                found[int(serial)] = account
        return found

    def problem(self, serial: int, uid: int, up: bool) -> str | None:
        """
        @param up: whether people may come in.
        @return: how an account is not as L{ensure} would have it, in words for the user; None if it is.
        """
        account = self.own().get(serial)
        if account is None:
            return "its account is gone"
        if account.uid != uid or account.gid != uid:
            return f"its account has the uid {account.uid} and the gid {account.gid} instead of {uid}"
        wanted = self._login if up else NO_LOGIN
        if account.shell != wanted:
            return f"the shell of its account is {account.shell} instead of {wanted}"
        if (self._expiry(account.name) == "") is not up:
            return f"its account is {'expired' if up else 'not shut'}"
        return None

    def holder(self, uid: int) -> str | None:
        """
        @return: the account that has a uid, ours or not.
        """
        return next((account.name for account in self._everybody() if account.uid == uid), None)

    async def is_known(self, uid: int) -> bool:
        """
        @return: whether an account has a uid, those included that a directory service tells of.
        """
        if self.holder(uid) is not None:
            return True
        try:
            await run(self._spawner, "getent", "passwd", str(uid))
        except Failed as error:
            return error.status != _NOT_THERE
        except OSError:
            return True  # nobody can tell; whoever asks means to take it for nobody's
        return True

    def check_free(self, name: str, uid: int) -> None:
        """
        @raise Taken: if another account has the name or the uid, or another group the name.
        """
        for other in self._everybody():
            if other.name == name:
                raise Taken(f"the name {name} is taken by an account of this host that is not ours")
            if other.uid == uid:
                raise Taken(f"the uid {uid} is taken by the account {other.name}")
        groups = self._groups()
        if name in groups and groups[name] != uid:
            raise Taken(f"the name {name} is taken by a group of this host")

    async def ensure(self, serial: int, name: str, uid: int, home: str, *, up: bool) -> None:
        """
        Have the account, as it should be.

        @param up: whether people may come in.
        @raise Taken: if the name, the uid or the group is another's.
        @raise OSError: if that fails.
        """
        await self._lock.acquire()
        try:
            account = self.own().get(serial)
            if account is None:
                await self._add(serial, name, uid, home)
            elif account.name != name:
                raise OSError(f"its account is called {account.name}, not {name}: destroy it first")
            elif (account.uid, account.gid) != (uid, uid):
                raise OSError(f"its account has the uid {account.uid} and the gid {account.gid}, not {uid}")
            elsewhere = ["--home", home] if account is not None and account.home != home else []
            if elsewhere or self.problem(serial, uid, up):
                shell, expiry = (self._login, "") if up else (NO_LOGIN, _LONG_AGO)
                words = ["--shell", shell, "--expiredate", expiry, "--password", "*", *elsewhere]
                await run(self._spawner, "usermod", *words, name)
        finally:
            self._lock.release()

    async def remove(self, serial: int, name: str | None, uid: int | None) -> None:
        """
        Remove the account, its group and its crontab; to be called when it has no process any more.

        @param name, uid: noted when it was made: of a group that was made for an account that was not.
        @raise OSError: if that fails.
        """
        await self._lock.acquire()
        try:
            account = self.own().get(serial)
            if account is not None and uid is not None and account.uid != uid:
                raise OSError(
                    f"the account {account.name} says that it is {account.comment}, and has the uid of another"
                )
            if account is not None:
                for spool in _SPOOLS:
                    with suppress(OSError):
                        (self._root / spool / account.name).unlink()
                await self._delete(account.name)
                name, uid = account.name, account.uid
            if name is not None and uid is not None and self._groups().get(name) == uid and not self._has(uid):
                await run(self._spawner, "groupdel", name)
        finally:
            self._lock.release()

    async def _delete(self, name: str) -> None:
        try:
            await run(self._spawner, "userdel", name)
        except Failed as error:  # it takes the dead, whom nobody has reaped yet, for processes
            if "used by process" not in str(error):
                raise
            await run(self._spawner, "userdel", "--force", name)

    async def _add(self, serial: int, name: str, uid: int, home: str) -> None:
        self.check_free(name, uid)
        groups = self._groups()
        if name not in groups:
            await run(self._spawner, "groupadd", "--gid", str(uid), name)
        words = ["--no-create-home", "--home-dir", home, "--no-user-group", "--gid", str(uid), "--uid", str(uid)]
        words += ["--shell", NO_LOGIN, "--expiredate", _LONG_AGO, "--password", "*"]
        await run(self._spawner, "useradd", *words, "--comment", f"{self._mark}{serial}", name)

    def _everybody(self) -> list[Account]:
        """
        @return: all accounts; read again only if the file is another than last time.
        """
        passwd = self._root / "etc/passwd"
        about = passwd.stat()
        seen = about.st_ino, about.st_mtime_ns, about.st_size
        if self._seen[0] != seen:
            self._seen = seen, read_accounts(passwd)
        return self._seen[1]

    def _groups(self) -> Mapping[str, int]:
        found = {}
        for line in (self._root / "etc/group").read_text("utf-8", "surrogateescape").splitlines():
            words = line.split(":")
            if len(words) == 4 and words[2].isdigit():
                found[words[0]] = int(words[2])
        return found

    def _has(self, gid: int) -> bool:
        return any(account.gid == gid for account in self._everybody())

    def _expiry(self, name: str) -> str | None:
        """
        @return: the day on which an account ends, empty if none; None if it cannot be known.
        """
        with suppress(OSError):
            for line in (self._root / "etc/shadow").read_text("utf-8", "surrogateescape").splitlines():
                words = line.split(":")
                if words[0] == name and len(words) == 9:
                    return words[7]
        return None
