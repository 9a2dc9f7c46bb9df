"""
What a container says of itself: a few small files on a file system of its own, 64 KiB, and how we hear of them.

Its root may write there what it likes. So each file is opened without following a link or waiting, only a plain one
counts, a few bytes are read, and what makes no sense counts as not written. It can deceive us only about itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from hostline.server.supervise import syscalls

_SIZE, _INODES = 64 << 10, 64
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CLOSE_WRITE, _MOVED_TO, _ONLYDIR, _ONESHOT = 0x8, 0x80, 0x01000000, 0x80000000
_NOEXEC = 8
#: Characters of a reason that are read.
_LONGEST = 500
#: Seconds from a change to the look, and how far that grows if changes go on and on.
_SOON_S, _LATE_S = 0.002, 1.0


@frozen
class Said:
    """
    @ivar up: everything has been begun.
    @ivar started: there is a start command, and it was started.
    @ivar ended: its exit status.
    @ivar failure: why it gave up before it was up.
    @ivar initscript: C{none}, C{running} or C{ended}; C{initscript_code}: how.
    """

    up: bool = False
    started: bool = False
    ended: int | None = None
    initscript: str = "none"
    initscript_code: int | None = None
    failure: str = ""

    def then(self, later: Said) -> Said:
        """
        @param later: what was read later; a file may just be written, and what was so once stays so.
        @return: what is known of both.
        """
        return evolve(
            later,
            up=self.up or later.up,
            started=self.started or later.started,
            failure=later.failure or self.failure,
            ended=later.ended if self.ended is None else self.ended,
            initscript=self.initscript if later.initscript == "none" else later.initscript,
            initscript_code=self.initscript_code if later.initscript == "none" else later.initscript_code,
        )


def prepare(directory: Path, first_uid: int) -> None:
    """
    Make and mount the directory; the FIFO C{never} in it is what an idle container waits at.

    @raise OSError: if that cannot be done.
    """
    directory.mkdir(mode=0o700)
    flags = syscalls.NOSUID | syscalls.NODEV | _NOEXEC
    data = f"size={_SIZE},nr_inodes={_INODES},mode=700,uid={first_uid},gid={first_uid}"
    syscalls.mount("hostline", directory, "tmpfs", flags, data)
    os.mkfifo(directory / "never", 0o600)
    os.chown(directory / "never", first_uid, first_uid)


def remove(directory: Path) -> None:
    """
    Unmount and remove it, whether it is there or not.
    """
    with suppress(OSError):
        while True:
            syscalls.detach(directory)
    with suppress(OSError):
        directory.rmdir()


def read(directory: Path) -> Said:
    """
    @return: what the files say now.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return Said()
    try:
        words = _words(fd, "initscript")
        ended = len(words) == 2 and words[0] == "ended" and _code(words[1]) is not None
        return Said(
            up=_words(fd, "up") == ["up"],
            started=_words(fd, "started") == ["started"],
            ended=_code(*_words(fd, "ended")[:1]),
            initscript="ended" if ended else "running" if words == ["running"] else "none",
            initscript_code=_code(words[1]) if ended else None,
            failure=_text(fd, "failure"),
        )
    finally:
        os.close(fd)


def _words(directory: int, name: str) -> list[str]:
    line = _read(directory, name, 33)
    return line.decode("ascii", "replace").split() if line.endswith(b"\n") and len(line) < 33 else []


def _text(directory: int, name: str) -> str:
    """
    @return: a line for people: printable ASCII.
    """
    text = _read(directory, name, _LONGEST).decode("ascii", "replace").partition("\n")[0]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text).strip()


def _read(directory: int, name: str, most: int) -> bytes:
    try:
        fd = os.open(name, _PLAIN, dir_fd=directory)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _code(word: str = "") -> int | None:
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 255 else None


@define
class _Watched:
    directory: Path
    pause_s: float = _SOON_S
    last_s: float = 0.0
    call: IDelayedCall | None = None
    number: int = field(default=-1)


class Ear:
    """
    Hears that something was written in a directory (inotify). Each watch tells once, and is set again only when we
    have looked, less and less soon while a container goes on writing: it cannot keep us busy.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: IReactorTime, heard: Callable[[int], None]) -> None:
        """
        @param heard: called with a serial: look.
        """
        self._loop = loop
        self._clock = clock
        self._heard = heard
        self._watched: dict[int, _Watched] = {}
        self._serials: dict[int, int] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            loop.add_reader(self._fd, self._readable)

    def watch(self, serial: int, directory: Path) -> None:
        """
        Begin to listen; whoever calls this looks once afterwards.
        """
        self.forget(serial)
        self._watched[serial] = _Watched(directory)
        self._set(serial)

    def forget(self, serial: int) -> None:
        """
        Listen to it no more.
        """
        watched = self._watched.pop(serial, None)
        if watched is None:
            return
        if watched.call is not None:
            watched.call.cancel()
        if self._serials.get(watched.number) == serial:
            del self._serials[watched.number]
            self._libc.inotify_rm_watch(self._fd, watched.number)

    def close(self) -> None:
        """
        Hear nothing more.
        """
        for serial in list(self._watched):
            self.forget(serial)
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _set(self, serial: int) -> None:
        watched = self._watched[serial]
        mask = ctypes.c_uint32(_CLOSE_WRITE | _MOVED_TO | _ONLYDIR | _ONESHOT)
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(watched.directory), mask)
        watched.number = number
        if number >= 0:
            self._serials[number] = serial
        else:  # no more watches to be had: look from time to time
            watched.call = self._clock.callLater(_LATE_S, self._look, serial)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return
        at = 0
        while at + 16 <= len(data):
            number, _, _, length = struct.unpack_from("iIII", data, at)
            at += 16 + length
            serial = self._serials.pop(number, None)
            if serial is not None:
                self._rang(serial)

    def _rang(self, serial: int) -> None:
        watched = self._watched[serial]
        now = self._clock.seconds()
        quiet = now - watched.last_s > 2 * watched.pause_s + 0.1
        watched.pause_s = _SOON_S if quiet else min(_LATE_S, watched.pause_s * 2)
        watched.call = self._clock.callLater(watched.pause_s, self._look, serial)

    def _look(self, serial: int) -> None:
        watched = self._watched[serial]
        watched.call = None
        watched.last_s = self._clock.seconds()
        self._set(serial)  # first: what is written from now on rings again
        self._heard(serial)
