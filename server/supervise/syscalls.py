"""
Mounting by system calls: a mount takes a fraction of a millisecond, and C{mount(8)} ten times as long.

Nothing here waits for a disk that has work to do; unmounting does, and is left to a child.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

RDONLY: Final = 1
NOSUID: Final = 2
NODEV: Final = 4
REMOUNT: Final = 32
BIND: Final = 4096
PRIVATE: Final = 1 << 18

#: Numbers of system calls that came after all architectures had agreed on them.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _DETACH = 1, 4, 2
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_IDMAP = 1, 2, 4, 0x100000

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LOOP_SET_CAPACITY = 0x4C82, 0x4C0A, 0x4C07
_LO_READ_ONLY, _LO_AUTOCLEAR = 1, 4
_TRIES = 50

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, path: Path | str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return result


def mount(source: Path | str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """
    C{mount(2)}.

    @raise OSError: naming the target.
    """
    words = [os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data)]
    _checked(_libc.mount(*words), target)


def detach(target: Path) -> None:
    """
    Take a mount, and all on it, out of sight; it ends once nobody uses it.

    @raise OSError: if there is none.
    """
    _checked(_libc.umount2(os.fsencode(target), _DETACH), target)


def bind_shifted(source: Path, target: Path, namespace: int) -> None:
    """
    Show a mount at a second place, read-only, its owners shifted as a user namespace maps them.

    @param source: where something is mounted.
    @param namespace: descriptor of the user namespace.
    @raise OSError: if this kernel, or the file system, cannot.
    """
    fd = _checked(_libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC), source)
    try:
        attributes = struct.pack("QQQQ", _ATTR_IDMAP | _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, namespace)
        size = ctypes.c_size_t(len(attributes))
        _checked(_libc.syscall(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, attributes, size), source)
        to = os.fsencode(target)
        _checked(_libc.syscall(_MOVE_MOUNT, fd, b"", _AT_FDCWD, to, _MOVE_MOUNT_F_EMPTY_PATH), target)
    finally:
        os.close(fd)


@contextmanager
def loop_device(path: Path, *, read_only: bool) -> Iterator[str]:
    """
    A loop device on a file. It goes by itself when the last mount of it ends, or, if it was not mounted, with us.

    @return: C{/dev/loopN}.
    @raise OSError: if there is none to be had.
    """
    mode = os.O_RDONLY if read_only else os.O_RDWR
    backing = os.open(path, mode | os.O_NOFOLLOW | os.O_CLOEXEC)
    device = -1
    try:
        name, device = _free_loop(mode)
        flags = _LO_AUTOCLEAR | (_LO_READ_ONLY if read_only else 0)
        # struct loop_config: fd, block size, struct loop_info64 (its flags at 52, then 176 bytes), eight words.
        info = struct.pack(
            "=QQQQQIIII64s64s32sQQ", 0, 0, 0, 0, 0, 0, 0, 0, flags, os.fsencode(path)[:63], b"", b"", 0, 0
        )
        for left in reversed(range(_TRIES)):
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, struct.pack("=II", backing, 0) + info + bytes(64))
                break
            except OSError as error:
                if error.errno != errno.EBUSY or not left:
                    raise
                os.close(device)  # somebody else was faster
                name, device = _free_loop(mode)
        yield name
    finally:
        for fd in (device, backing):
            if fd >= 0:
                os.close(fd)


def look_at_size(device: str) -> None:
    """
    Let a loop device have the size that its file has now.
    """
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_SET_CAPACITY)
    finally:
        os.close(fd)


def _free_loop(mode: int) -> tuple[str, int]:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        name = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
    finally:
        os.close(control)
    return name, os.open(name, mode | os.O_CLOEXEC)


def loops(directory: Path, block: Path = Path("/sys/block")) -> dict[Path, str]:
    """
    @return: the loop devices on files under a directory, C{/dev/loopN} by file; a file that is gone is found by the
        name that it had.
    """
    found = {}
    prefix = f"{directory}/"
    with suppress(OSError):
        for name in os.listdir(block):  # noqa: PTH208
            if name.startswith("loop"):
                path = backing_file(f"/dev/{name}", block)
                if path is not None and path.startswith(prefix):
                    found[Path(path.removesuffix(" (deleted)"))] = f"/dev/{name}"
    return found


def backing_file(device: str, block: Path = Path("/sys/block")) -> str | None:
    """
    @return: what a loop device is on; None if on nothing.
    """
    try:
        return (block / Path(device).name / "loop/backing_file").read_text("utf-8", "surrogateescape").rstrip("\n")
    except OSError:
        return None


def is_mounted(path: Path) -> bool:
    """
    @return: whether another file system than that around it is at a path; not told for a directory bound on itself.
    """
    try:
        return os.lstat(path).st_dev != os.lstat(path.parent).st_dev
    except OSError:
        return False


def ensure_apart(directory: Path) -> None:
    """
    Make a directory a mount point of its own, nothing of which is seen elsewhere. Who makes a mount namespace then
    leaves all that is mounted in it behind by one C{umount --lazy}, and does not keep it up.

    @param directory: without symbolic links.
    @raise OSError: if mounting is not permitted here.
    """
    if directory not in mount_points():
        mount(directory, directory, flags=BIND)
        mount("none", directory, flags=PRIVATE)


def end_apart(directory: Path) -> None:
    """
    Undo L{ensure_apart}, unless something is still mounted in it, or it was not done.
    """
    points = mount_points()
    if directory in points and not any(directory in one.parents for one in points):
        with suppress(OSError):
            detach(directory)  # not at once: a file in it may still be open


def mount_points(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Path]:
    """
    @return: where something is mounted, in the order in which it was.
    """
    lines = mountinfo.read_text("utf-8", "surrogateescape").splitlines()
    return [Path(unescaped(line.split(" ")[4])) for line in lines]


def unescaped(path: str) -> str:
    """
    @return: a path as it is, from C{/proc/self/mountinfo}.
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
