"""
Run as a program of its own: C{pack_tree.py OUT ROOT FIRST SIZE MOST} writes the files below ROOT, a container's, into a
tar, with FIRST taken off their owners. Where the container runs they are as they are found, one after the other.

Whoever is in the container may turn any name into a link while this reads. So ROOT is made the root of this process
first, beyond which no name leads, and nothing is imported, or looked up, from then on.
"""

# ruff: noqa: PTH101, PTH123

from __future__ import annotations

import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "twistd_plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from hostline.server.supervise.unpack import keep_rights

#: What is in these is of one boot, or ours; they themselves are kept.
EMPTIED = ("dev", "proc", "run", "sys", "tmp", "var/log/hostline")
#: DAC_READ_SEARCH: to read what only its owner may.
_RIGHTS = (2,)
_CHUNK = 1 << 20
_NOBODY = 65534


class TooBig(Exception):
    """
    There is more than may be.
    """


def pack(out: IO[bytes], first: int, size: int, most: int) -> None:
    """
    Write the tar of this process' own root.

    @param out: it; C{most}: the most bytes that it may have.
    @raise OSError: if something cannot be read or written.
    @raise TooBig: if there is more.
    """
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        seen: dict[tuple[int, int], str] = {}
        for name, parent, about in _walk("", os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)):
            entry = _entry(name, about, first, size)
            if entry is None:
                continue
            leaf = name.rpartition("/")[2]
            if stat.S_ISLNK(about.st_mode):
                entry.linkname = os.readlink(leaf, dir_fd=parent)
            elif stat.S_ISREG(about.st_mode):
                same = seen.setdefault((about.st_dev, about.st_ino), name) if about.st_nlink > 1 else name
                if same != name:
                    entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, same, 0
            if out.tell() + entry.size > most:
                raise TooBig
            if entry.type == tarfile.REGTYPE:
                _file(tar, entry, leaf, parent)
            else:
                tar.addfile(entry)


def _walk(path: str, directory: int) -> Iterator[tuple[str, int, os.stat_result]]:
    """
    @param directory: descriptor of what is at C{path}; it is closed.
    @return: name, descriptor of the directory it is in, and what is known of it, parents first.
    """
    try:
        device = os.fstat(directory).st_dev
        for leaf in sorted(os.listdir(directory)):
            name = f"{path}/{leaf}" if path else leaf
            try:
                about = os.stat(leaf, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                continue  # it was removed meanwhile
            yield name, directory, about
            if stat.S_ISDIR(about.st_mode) and name not in EMPTIED:
                try:
                    inner = os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if os.fstat(inner).st_dev != device:  # something is mounted there
                    os.close(inner)
                    continue
                yield from _walk(name, inner)
    finally:
        os.close(directory)


def _entry(name: str, about: os.stat_result, first: int, size: int) -> tarfile.TarInfo | None:
    kinds = {stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFREG: tarfile.REGTYPE}
    kind = {**kinds, stat.S_IFIFO: tarfile.FIFOTYPE}.get(stat.S_IFMT(about.st_mode))
    if kind is None:  # devices and sockets: they mean nothing elsewhere
        return None
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = stat.S_IMODE(about.st_mode)
    entry.uid, entry.gid = (
        own - first if first <= own < first + size else _NOBODY for own in (about.st_uid, about.st_gid)
    )
    entry.mtime = int(about.st_mtime)
    entry.size = about.st_size if kind == tarfile.REGTYPE else 0
    return entry


def _file(tar: tarfile.TarFile, entry: tarfile.TarInfo, leaf: str, parent: int) -> None:
    try:
        # Without waiting: it may have become a pipe that nobody writes to.
        opened = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except (FileNotFoundError, OSError) as error:
        if isinstance(error, FileNotFoundError) or not stat.S_ISREG(_mode(leaf, parent)):
            return  # it was removed, or is something else, meanwhile
        raise
    with open(opened, "rb") as file:
        if stat.S_ISREG(os.fstat(opened).st_mode):
            tar.addfile(entry, cast("IO[bytes]", _Whole(file, entry.size)))


def _mode(leaf: str, parent: int) -> int:
    try:
        return os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


class _Whole:
    """
    A file that has the length it was said to have, though it was cut meanwhile.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, count: int) -> bytes:
        """As of a file."""
        count = min(count, self._left)
        data = self._file.read(count)
        self._left -= count
        return data + bytes(count - len(data))


def main(words: list[str]) -> None:
    """
    @param words: as in the program's usage.
    """
    out, root, first, size, most = words
    with open(out, "xb", buffering=_CHUNK) as file:
        os.chmod(out, 0o600)
        os.closerange(3, file.fileno())
        os.chroot(root)
        os.chdir("/")
        # Names of users would be looked up in files of the container's, by libraries of the container's.
        tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]
        keep_rights(_RIGHTS)
        pack(file, int(first), int(size), int(most))
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    try:
        "".encode("utf-8", "surrogateescape")
        main(sys.argv[1:])
    except TooBig:
        sys.exit(f"its files are more than {sys.argv[5]} bytes")
    except OSError as error:
        sys.exit(f"{error.strerror or error}: {error.filename or ''}")
