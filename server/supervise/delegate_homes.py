"""
The home directories of delegates: root's, with nothing in them but their keys, which sshd reads as the delegate.

What is there is taken as it comes: whatever is not just as we would make it is removed or made anew, and no link is
followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hostline.server.supervise import homes
from hostline.server.supervise.keyfile import SHOWN, keys_in_force, write_keys
from hostline.server.supervise.keyline import key_line
from hostline.server.supervise.running import run
from hostline.server.supervise.spawn import Spawner

_SSH, _KEYS, _MODE = ".ssh", "authorized_keys", 0o755
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTE = ".account"


class DelegateHomes:
    """
    Those of one state directory: C{SERIAL}, and beside it C{SERIAL.account}, a note of the account's name and uid that
    is there before the account and goes after it.

    @ivar uids: those that were noted, by serial, as they are when they are asked for.
    """

    def __init__(self, directory: Path, spawner: Spawner) -> None:
        """
        @param directory: C{STATE/delegates}, root's.
        """
        self._directory = directory
        self._spawner = spawner
        self.uids = _Uids(self)
        self._notes: dict[int, tuple[str, int] | None] = {}

    def path(self, serial: int) -> Path:
        """
        @return: a delegate's home.
        """
        return self._directory / str(serial)

    def note(self, serial: int, name: str, uid: int) -> None:
        """
        Keep, on the disk, what is about to be made.

        @raise OSError: if that fails.
        """
        if self.noted(serial) != (name, uid):
            homes.write_note(self._note(serial), f"{uid} {name}", lasting=True)
            self._notes[serial] = (name, uid)

    def noted(self, serial: int) -> tuple[str, int] | None:
        """
        @return: name and uid of what was made or was to be made.
        """
        if serial not in self._notes:
            self._notes[serial] = None
            with suppress(OSError, ValueError):
                uid, name = self._note(serial).read_text("ascii").split()
                self._notes[serial] = (name, int(uid))
        return self._notes[serial]

    def there(self) -> set[int]:
        """
        @return: the serials of which there is a home or a note.
        """
        with suppress(FileNotFoundError):
            names = [one.name.removesuffix(".new").removesuffix(_NOTE) for one in self._directory.iterdir()]
            return {int(name) for name in names if name.isdigit() and len(name) < 19}
        return set()

    def wrong(self, serial: int, keys: Sequence[str]) -> str | None:
        """
        @return: how a home is not as L{ensure} would have it, in words; None if it is.
        """
        try:
            home = os.open(self.path(serial), _DIRECTORY)
        except OSError as error:
            return f"its home is not there: {error.strerror}"
        try:
            about = os.fstat(home)
            if not _is_ours(about) or os.listdir(home) != [_SSH]:  # noqa: PTH208
                return "its home has something else in it, or another owner"
            ssh = os.open(_SSH, _DIRECTORY, dir_fd=home)
            try:
                of_keys = os.stat(_KEYS, dir_fd=ssh, follow_symlinks=False)
                alone = os.listdir(ssh) == [_KEYS] and stat.S_IMODE(of_keys.st_mode) == SHOWN[1]  # noqa: PTH208
                as_ours = _is_ours(os.fstat(ssh)) and stat.S_ISREG(of_keys.st_mode) and of_keys.st_nlink == 1
                owner = (of_keys.st_uid, of_keys.st_gid) == (os.geteuid(), os.getegid())
            finally:
                os.close(ssh)
            if not (alone and as_ours and owner) or keys_in_force(home) != _lines(keys):
                return "its keys are not those that it was given"
        except OSError as error:
            return f"its keys cannot be read: {error.strerror}"
        finally:
            os.close(home)
        return None

    async def ensure(self, serial: int, keys: Sequence[str]) -> bool:
        """
        Have a home with exactly these keys in force, and nothing else in it.

        @return: whether a key that was in force is not any more.
        @raise OSError: if that fails.
        @raise ValueError: if one of the keys is none.
        """
        lines, path, made = _lines(keys), self.path(serial), False
        if self.wrong(serial, keys) is None:
            return False
        with suppress(FileNotFoundError):
            about = path.lstat()
            device = path.parent.lstat().st_dev
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_dev != device:
                await self._clear(path)
        if not path.exists():
            path.mkdir()
            made = True
        home = os.open(path, _DIRECTORY)
        try:
            os.fchown(home, os.geteuid(), os.getegid())
            os.fchmod(home, _MODE)
            before = keys_in_force(home)
            for name in os.listdir(home):  # noqa: PTH208
                if name != _SSH:
                    await self._clear(path / name)
            write_keys(home, lines, os.geteuid(), os.getegid(), SHOWN)
            for name in os.listdir(path / _SSH):  # noqa: PTH208
                if name != _KEYS:
                    await self._clear(path / _SSH / name)
        finally:
            os.close(home)
        return not made and (before is None or not set(before) <= set(lines))

    async def remove(self, serial: int) -> None:
        """
        Remove home and note.

        @raise OSError: if that fails.
        """
        if os.path.lexists(self.path(serial)):
            await self._clear(self.path(serial))
        note = self._note(serial)
        for one in (note.with_name(note.name + ".new"), note):
            one.unlink(missing_ok=True)
        self._notes.pop(serial, None)

    def _note(self, serial: int) -> Path:
        return self._directory / f"{serial}{_NOTE}"

    async def _clear(self, path: Path) -> None:
        # All above it is root's, so that nobody can put a link in the way; rm follows none below.
        await run(self._spawner, "rm", "-rf", "--one-file-system", "--", str(path))


class _Uids(Mapping[int, int]):
    """
    What L{DelegateHomes.uids} is.
    """

    def __init__(self, of: DelegateHomes) -> None:
        self._of = of

    def __getitem__(self, serial: int) -> int:
        noted = self._of.noted(serial)
        if noted is None:
            raise KeyError(serial)
        return noted[1]

    def __iter__(self) -> Iterator[int]:
        return (serial for serial in self._of.there() if self._of.noted(serial) is not None)

    def __len__(self) -> int:
        return len(list(iter(self)))


def _is_ours(about: os.stat_result) -> bool:
    return (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (os.geteuid(), os.getegid(), _MODE)


def _lines(keys: Sequence[str]) -> list[str]:
    return [key_line(key) for key in keys]
