"""
The login shell of delegates: a copy of the forward shell where every account can read it, and its line in /etc/shells.

The daemon installs it itself: what it runs from may lie where delegates cannot go, and this one starts faster.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server import whole
from hostline.server.supervise import login_shells, passable
from hostline.server.supervise.running import Failed, run
from hostline.server.supervise.spawn import Spawner

#: The forward shell, and all of ours that it imports, packages first.
MODULES = (
    "hostline",
    "hostline.clients",
    "hostline.clients.counting",
    "hostline.clients.reach",
    "hostline.clients.passing",
    "hostline.clients.forward",
)
#: How often the list of shells is tried while somebody else has it, and the seconds in between.
_TRIES, BREATH_S = 60, 0.05
_SYSTEM_PYTHON = Path("/usr/bin/python3")
#: Run by the interpreter that is to run the shell, to see that it can; a hash in the byte code tells it from that of an
#: older copy.
_COMPILE = (
    "import sys\nif sys.version_info < (3, 11): sys.exit('want Python 3.11 or later')\n"
    "from py_compile import PycInvalidationMode, compile\n"
    "for one in sys.argv[2:]: compile(one, doraise=True, invalidation_mode=PycInvalidationMode.CHECKED_HASH)\n"
    "sys.path.insert(0, sys.argv[1])\nimport hostline.clients.forward\n"
)
_SCRIPT = '''#!{python} -IS
"""
The login shell of delegates. hostlined wrote this, and writes it again at each start.
"""
import sys

sys.path.insert(0, {directory!a})
sys.argv[1:1] = ["--socket", {socket!a}]
from hostline.clients.forward import main

main()
'''


class DelegateShell:
    """
    The shell of one state directory.

    @ivar path: where it is.
    """

    def __init__(
        self,
        directory: Path,
        socket: Path,
        spawner: Spawner,
        clock: IReactorTime,
        *,
        shells: Path = Path("/etc/shells"),
        pythons: tuple[Path, ...] = (_SYSTEM_PYTHON, Path(sys.executable).resolve()),
    ) -> None:
        """
        @param directory: C{STATE/delegates/shell}; the note of its line in C{/etc/shells} is beside it.
        @param socket: the daemon's.
        @param pythons: what may run it, the best first.
        """
        self.path = directory / "hostline-shell"
        self._directory = directory
        self._socket = socket
        self._spawner = spawner
        self._clock = clock
        self._shells = shells
        self._note = directory.with_name("shells-line")
        self._pythons = pythons
        self._copies: list[Path] = []

    async def install(self) -> None:
        """
        Have it there as it should be, the first time that this daemon needs it; and its line in /etc/shells.

        @raise OSError: if that fails.
        """
        if not self._copies or not self._is_there():
            _have(self._directory)
            copies = [self._copy(name) for name in MODULES]
            python = await self._compile(copies)
            for one in self._directory.rglob("*.pyc"):
                one.chmod(0o644)  # whatever our umask was
            script = _SCRIPT.format(python=python, directory=str(self._directory), socket=str(self._socket))
            _write(self.path, script, 0o755)
            self._copies = copies
        await self._patiently(self._offer)

    async def withdraw(self) -> None:
        """
        Remove it, and the line if it was added by us.

        @raise OSError: if that fails.
        """
        self._copies = []
        await self._patiently(self._take_back)
        self._note.unlink(missing_ok=True)
        self._note.with_name(self._note.name + ".new").unlink(missing_ok=True)
        if self._directory.exists():
            await run(self._spawner, "rm", "-rf", "--one-file-system", "--", str(self._directory))

    def wrong(self) -> str | None:
        """
        @return: how it is not as L{install} would have it, in words; None if it is.
        """
        if not self._is_there():
            return "its shell is not there, or not all of it"
        with suppress(FileNotFoundError):
            if not login_shells.has(str(self.path), self._shells):
                return f"its shell is not in {self._shells}"
        return None

    def why_not_used(self) -> str | None:
        """
        @return: why delegates cannot run it, or get at the daemon's socket, in words; None if they can.
        """
        return passable.why_not_run(self.path) or passable.why_not_reached(self._socket)

    def _is_there(self) -> bool:
        return self.path.exists() and all(one.exists() for one in self._copies)

    def _copy(self, name: str) -> Path:
        """
        @param name: of a module; the package that it is in is there.
        @return: our copy of it.
        """
        source = find_module(name)
        copy = self._directory.joinpath(*name.split("."))
        if source.name == "__init__.py":
            _have(copy)
            _have(copy / "__pycache__")
            copy = copy / source.name
        else:
            copy = copy.with_name(source.name)
        _write(copy, source.read_text("utf-8"), 0o644)
        return copy

    def _offer(self) -> None:
        line = str(self.path)
        with suppress(FileNotFoundError, UnicodeDecodeError):
            before = self._note.read_text("utf-8").rstrip("\n")
            if before != line:  # the state directory was moved
                login_shells.remove(before, self._shells)
        if self._shells.exists() and not login_shells.has(line, self._shells):
            _write(self._note, line + "\n", 0o644)
            login_shells.add(line, self._shells)

    def _take_back(self) -> None:
        with suppress(FileNotFoundError, UnicodeDecodeError):
            login_shells.remove(self._note.read_text("utf-8").rstrip("\n"), self._shells)

    async def _patiently(self, change: Callable[[], None]) -> None:
        for tries in range(_TRIES):
            try:
                change()
                break
            except login_shells.Busy:
                if tries == _TRIES - 1:
                    raise
                await deferLater(self._clock, BREATH_S)

    async def _compile(self, copies: list[Path]) -> Path:
        """
        @return: the interpreter that is to run it.
        """
        said = []
        for python in self._candidates():
            try:
                await run(self._spawner, str(python), "-IS", "-c", _COMPILE, str(self._directory), *map(str, copies))
            except Failed as error:
                said.append(f"{python}: {error}")
            else:
                return python
        raise OSError(f"no Python runs the forward shell: {'; '.join(said) or self._pythons}")

    def _candidates(self) -> Iterator[Path]:
        for python in self._pythons:
            if os.access(python, os.X_OK):
                yield python


def find_module(name: str) -> Path:
    """
    @return: the file of a module.
    @raise OSError: if this installation has none.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise OSError(f"this installation has no {name}")
    return Path(spec.origin)


def _have(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)  # whatever our umask is


def _write(path: Path, text: str, mode: int) -> None:
    """
    Have this text in a file of ours, all of it or what was there before.
    """
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text("utf-8") == text and path.stat().st_mode & 0o7777 == mode and not path.is_symlink():
            return
    whole.write(path, text.encode("utf-8"), mode)
