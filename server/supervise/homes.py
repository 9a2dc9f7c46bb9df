"""
The directories of one sliver that last from boot to boot, made so that nothing its users do can lead us astray.

C{SERIAL/home/NODE} and C{SERIAL/tmp} are the sliver's own; C{SERIAL/log/hostline} is root's, and sticky, so that the
sliver can write there but not move our files away. Every step is taken without following a link.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

from hostline.server import whole

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: What a sliver writes for us, by the word of the stream.
STREAMS = {
    "out": "start_command.out",
    "err": "start_command.err",
    "log": "start_command.log",
    "initscript": "initscript.log",
}
LOGS = tuple(STREAMS.values())


@frozen
class Home:
    """
    Where a sliver's directories are.

    @ivar root: C{STATE/slivers/SERIAL}.
    @ivar node: its first label, the name of its home directory and of its user.
    @ivar mounted: whether they are seen at their usual places inside.
    """

    root: Path
    node: str
    mounted: bool

    @property
    def home(self) -> str:
        """
        @return: C{HOME}, as seen inside.
        """
        return f"/home/{self.node}" if self.mounted else str(self.root / "home" / self.node)

    @property
    def tmp(self) -> str:
        """
        @return: C{TMPDIR}, as seen inside.
        """
        return "/tmp" if self.mounted else str(self.root / "tmp")

    @property
    def log(self) -> str:
        """
        @return: where the start command's output is, as seen inside.
        """
        return "/var/log/hostline" if self.mounted else str(self.root / "log" / "hostline")

    def binds(self) -> list[tuple[Path, str]]:
        """
        @return: which directory is shown where.
        """
        places = (("home", "/home"), ("log", "/var/log"), ("tmp", "/var/tmp"), ("tmp", "/tmp"))
        return [(self.root / name, place) for name, place in places]


def node_label(name: str) -> str:
    """
    @return: the first label of a full name.
    @raise ValueError: if it cannot be the name of a directory and a user.
    """
    label = name.split(".")[0]
    if not _LABEL.match(label):
        raise ValueError(f"want a name that begins with letters or digits, got {name!r}")
    return label


def ensure_home(home: Home, uid: int | None) -> None:
    """
    Make what is missing.

    @param uid: whose it is; None: ours, and nobody else looks in.
    @raise OSError: if that fails, or something else is in a place of ours.
    """
    mine = uid is None
    home.root.mkdir(mode=0o700, exist_ok=True)
    with _opened(home.root, None) as root:
        _own(root, None, 0o700 if mine or home.mounted else 0o711)
        with _made("home", root, None, 0o700 if mine else 0o755) as fd, _made(home.node, fd, uid, 0o700):
            pass
        with _made("tmp", root, uid, 0o1700):
            pass
        with _made("log", root, None, 0o1770, group=uid) as fd, _made("hostline", fd, None, 0o1770, group=uid) as logs:
            for name in LOGS:
                _file(name, logs, uid)


def install_script(path: Path, text: str | None, group: int | None) -> None:
    """
    Have this script, or none, in a file of ours; it is on the disk when this returns.

    @param group: who may read and run it beside us.
    @raise OSError: if that fails.
    """
    if text is None:
        path.unlink(missing_ok=True)
        return
    content = text.encode("utf-8", "surrogateescape")
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    whole.write(path, content, 0o700 if group is None else 0o750, group=group)


def write_note(path: Path, text: str, *, lasting: bool = False) -> None:
    """
    Write a line of our own into a sliver's directory, all of it or nothing.

    @param lasting: it is on the disk when this returns.
    @raise OSError: if that fails.
    """
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        if lasting:
            os.fsync(file.fileno())
    fresh.replace(path)
    if lasting:
        for directory in (path.parent, path.parent.parent):
            whole.flush(directory)


def read_note(path: Path) -> list[int]:
    """
    @return: the numbers in a line of our own; none if there is no such line.
    """
    try:
        text = path.read_text("ascii")
        return [int(word) for word in text.split()] if text.endswith("\n") else []
    except (OSError, ValueError):
        return []


def cut_logs(root: Path, limit: int) -> None:
    """
    Empty those of the L{LOGS} that are longer than a limit, and say so in them; who writes there goes on.

    @param root: C{STATE/slivers/SERIAL}.
    """
    for name in LOGS:
        try:
            fd = os.open(root / "log" / "hostline" / name, os.O_WRONLY | os.O_APPEND | _PLAIN)
        except OSError:
            continue
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_size > limit:
                os.ftruncate(fd, 0)
                os.write(fd, f"[hostline: emptied after {found.st_size} bytes]\n".encode())
        except OSError:
            pass
        finally:
            os.close(fd)


def read_log(root: Path, stream: str, offset: int, most: int) -> tuple[bytes, int]:
    """
    A part of what a sliver wrote.

    @param root: C{STATE/slivers/SERIAL}.
    @param stream: one of L{STREAMS}.
    @param offset: where to begin; from the end if negative; behind the end: the log was begun anew, and so is this.
    @return: at most so many bytes and the offset behind them; nothing where there is no log, or something else is in
        its place.
    """
    if stream not in STREAMS:
        return b"", 0
    try:
        fd = os.open(root / "log" / "hostline" / STREAMS[stream], os.O_RDONLY | _PLAIN)
    except OSError:
        return b"", 0
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return b"", 0
        begin = max(about.st_size + offset, 0) if offset < 0 else 0 if offset > about.st_size else offset
        found = os.pread(fd, max(most, 0), begin)
        return found, begin + len(found)
    except OSError:
        return b"", 0
    finally:
        os.close(fd)


def append_log(root: Path, stream: str) -> int:
    """
    @return: a descriptor for what is to be added to one of the L{STREAMS}.
    @raise OSError: if there is no such plain file.
    """
    fd = os.open(root / "log" / "hostline" / STREAMS[stream], os.O_WRONLY | os.O_APPEND | _PLAIN)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"not a plain file: {STREAMS[stream]}")
    return fd


@contextmanager
def _opened(path: Path | str, parent: int | None) -> Iterator[int]:
    fd = os.open(path, _DIRECTORY, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _made(name: str, parent: int, uid: int | None, mode: int, *, group: int | None = None) -> Iterator[int]:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass
    with _opened(name, parent) as fd:
        _own(fd, uid, mode, group=group)
        yield fd


def _own(fd: int, uid: int | None, mode: int, *, group: int | None = None) -> None:
    wanted_uid = os.geteuid() if uid is None else uid
    wanted_gid = group if group is not None else os.getegid() if uid is None else uid
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (wanted_uid, wanted_gid):
        os.fchown(fd, wanted_uid, wanted_gid)
    if stat.S_IMODE(now.st_mode) != mode:
        os.fchmod(fd, mode)


def _file(name: str, parent: int, group: int | None) -> None:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | _PLAIN, 0o600, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"not a plain file: {name}")
        _own(fd, None, 0o640 if name.endswith(".log") else 0o660, group=group)
    finally:
        os.close(fd)
