"""
C{~/.ssh/authorized_keys} of somebody who owns the directory and wants to lead us astray; or of somebody who owns
nothing of it and may only have it read.

Every step goes through descriptors of directories and follows no link. What is in our way there is renamed or
unlinked, never opened for writing: a planted link loses its name and its target is not touched. The file is always a
new one, put in place by a rename, so that a hard link to another file is never written through either.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

#: Bytes that all keys of one home may have together; a longer list is refused as it is.
MOST = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SSH, _FILE, _FRESH, _ASIDE = ".ssh", "authorized_keys", ".authorized_keys.hostline", ".ssh.hostline-aside"
_TRIES = 20
#: Modes of the directory and the file: for their owner alone, and for sshd to read under another uid.
OWN, SHOWN = (0o700, 0o600), (0o755, 0o644)


def write_keys(home: int, keys: Sequence[str], uid: int, gid: int, modes: tuple[int, int] = OWN) -> bool:
    """
    Have exactly these keys in force, and on the disk; nothing is written if it is already so. Without keys the file
    is there and empty.

    @param home: descriptor of the home directory.
    @param keys: lines without their newline.
    @param uid, gid: whose home it is; C{.ssh} and the file become theirs.
    @param modes: L{OWN} or L{SHOWN}.
    @return: whether anything had to be changed.
    @raise OSError: if that fails, or the home is somebody else's or may be written by others: whoever can write there
        can replace what we write.
    @raise ValueError: if the keys cannot be lines of that file.
    """
    content = _content(keys)
    about = os.fstat(home)
    if about.st_uid != uid:
        raise OSError(f"keys not written: the home belongs to uid {about.st_uid}, not {uid}")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"keys not written: others may write into the home (mode {stat.S_IMODE(about.st_mode):o})")
    with _ssh(home, uid, gid, modes[0]) as (ssh, changed):
        if _so(ssh, content, uid, gid, modes[1]):
            return changed
        # Where there was nothing, nothing is as good as an empty file should the host crash: no wait for the disk.
        _replace(ssh, content, uid, gid, modes[1], durable=bool(content) or _there(ssh))
        return True


def keys_in_force(home: int) -> list[str] | None:
    """
    @param home: descriptor of the home directory.
    @return: the lines of its C{authorized_keys}, as sshd would read them for its owner; None if there is no such plain
        file of theirs (a link, or too long, is none).
    """
    try:
        ssh = os.open(_SSH, _DIRECTORY, dir_fd=home)
    except OSError:
        return None
    try:
        found = _read(ssh, os.fstat(home).st_uid)
    finally:
        os.close(ssh)
    return None if found is None else [line for line in found.decode("utf-8", "replace").split("\n") if line]


def _content(keys: Sequence[str]) -> bytes:
    for key in keys:
        if any(c in key for c in "\n\r\0"):
            raise ValueError("want each key on one line")
    content = "".join(f"{key}\n" for key in keys).encode()
    if len(content) > MOST:
        raise ValueError(f"want at most {MOST} bytes of keys, got {len(content)}")
    return content


@contextmanager
def _ssh(home: int, uid: int, gid: int, mode: int) -> Iterator[tuple[int, bool]]:
    """
    Open C{.ssh}, made or mended if need be; something else in its place is renamed aside.
    """
    changed = False
    for _ in range(_TRIES):
        try:
            fd = os.open(_SSH, _DIRECTORY, dir_fd=home)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(_SSH, 0o700, dir_fd=home)
                changed = True
            continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            _put_aside(home)
            changed = True
            continue
        break
    else:
        raise OSError("keys not written: something else comes into the place of .ssh again and again")
    try:
        about = os.fstat(fd)
        if about.st_dev != os.fstat(home).st_dev:
            raise OSError("keys not written: .ssh is on another file system than the home")
        if about.st_uid not in (uid, os.geteuid()):
            raise OSError(f"keys not written: .ssh belongs to uid {about.st_uid}, not {uid}")
        if (about.st_uid, about.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
            changed = True
        if stat.S_IMODE(about.st_mode) != mode:
            os.fchmod(fd, mode)
            changed = True
        yield fd, changed
    finally:
        os.close(fd)


def _put_aside(home: int) -> None:
    """
    Rename what is in the place of C{.ssh}; what was put aside before, if it is no directory, is lost.
    """
    try:
        os.rename(_SSH, _ASIDE, src_dir_fd=home, dst_dir_fd=home)
    except FileNotFoundError:
        pass
    except OSError:  # a directory is there: then the link or file itself goes
        with suppress(FileNotFoundError):
            os.unlink(_SSH, dir_fd=home)


def _so(ssh: int, content: bytes, uid: int, gid: int, mode: int) -> bool:
    try:
        about = os.stat(_FILE, dir_fd=ssh, follow_symlinks=False)
    except OSError:
        return False
    as_wanted = stat.S_ISREG(about.st_mode) and (about.st_uid, about.st_gid) == (uid, gid)
    if not as_wanted or stat.S_IMODE(about.st_mode) != mode or about.st_nlink != 1 or about.st_size != len(content):
        return False
    return _read(ssh, uid) == content


def _read(ssh: int, uid: int) -> bytes | None:
    try:
        fd = os.open(_FILE, _PLAIN, dir_fd=ssh)
    except OSError:
        return None
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != uid or about.st_size > MOST:
            return None
        found = b""
        while len(found) <= MOST and (more := os.read(fd, MOST)):
            found += more
        return found
    except OSError:
        return None
    finally:
        os.close(fd)


def _there(ssh: int) -> bool:
    try:
        os.stat(_FILE, dir_fd=ssh, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _replace(ssh: int, content: bytes, uid: int, gid: int, mode: int, *, durable: bool) -> None:
    _unlink(ssh, _FRESH)
    fd = os.open(_FRESH, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=ssh)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fchmod(fd, mode)
        os.fchown(fd, uid, gid)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    for _ in range(_TRIES):
        try:
            os.rename(_FRESH, _FILE, src_dir_fd=ssh, dst_dir_fd=ssh)
            break
        except IsADirectoryError:
            with suppress(OSError):
                os.rename(_FILE, f"{_FILE}.aside-{os.urandom(6).hex()}", src_dir_fd=ssh, dst_dir_fd=ssh)
    else:
        raise OSError("keys not written: a directory comes into their place again and again")
    if durable:
        os.fsync(ssh)
    if not _so(ssh, content, uid, gid, mode):  # its owner may have been at work at the same time
        raise OSError("keys not written: somebody else writes there too")


def _unlink(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        os.rename(name, f"{name}.aside-{os.urandom(6).hex()}", src_dir_fd=directory, dst_dir_fd=directory)
