"""
A flood: everything that the limits let one principal do, without end, on all its connections.

Run as a program (C{python -m tests.live.flooding SOCKET UID KIND..}) by root, of whom nothing is left once it runs.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count

#: What the flood is about: what the flooder may see, big; and what it may change.
BIG, FREE = "lab/big", "lab_free"
_MIB = 1 << 20


def _cheap() -> Iterator[bytes]:
    while True:
        yield b"ping\nwhoami\nstatus_request lab/big\nhello\n" * 16


def _costly() -> Iterator[bytes]:
    for number in count():  # each time spelt otherwise, so that no reply is kept
        blanks = b" " * (1 + number % 150)
        yield b"experiment" + blanks + b"lab/big\n"
        yield b"node_list" + blanks + b"lab/big extra=True\n"
        yield b"topology lab/big\n"


def _events() -> Iterator[bytes]:
    while True:
        yield b"events since=0 limit=10000\nevents since=1 limit=10000 topic=experiment/lab/big\n"


def _help() -> Iterator[bytes]:
    while True:
        yield b"help\nhelp nosuch\nexperiment lab/bigg\nunknown\n" * 4


def _junk() -> Iterator[bytes]:
    long = _MIB - 100
    while True:
        yield b"status_request " + b"x" * long + b"\n"
        yield b"set_loans lab_free [" + b"'a'," * (long // 4) + b"]\n"
        yield b"set_loans lab_free " + b"[" * 60 + b"]" * 60 + b" " * (long - 200) + b"\n"
        yield b"status_request " + b"y" * (2 * _MIB) + b"\n"


def _tagged() -> Iterator[bytes]:
    for number in count():
        yield b"@%d wait_for lab/big failed timeout=1\n@%d ping\n" % (number, number) * 8


def _watch() -> Iterator[bytes]:
    while True:
        yield b"watch all since=1\nwatch experiment/lab/big since=1\nunwatch\n"


def _changes() -> Iterator[bytes]:
    for number in count():
        yield b"set_loans lab_free [['lab_no%d','cpu_share',1]]\nstop_node lab/big node-%d wait=0\n" % (
            number % 50,
            number % 10,
        )
        yield b"@%d start_node lab/big node-%d wait=0\nadd_project denied\n" % (number, number % 10)


#: What is sent, how many connections do it, and whether they read what they are answered.
KINDS: dict[str, tuple[Callable[[], Iterator[bytes]], int, bool]] = {
    "cheap": (_cheap, 80, True),
    "costly": (_costly, 20, True),
    "events": (_events, 20, True),
    "help": (_help, 30, True),
    "junk": (_junk, 10, True),
    "tagged": (_tagged, 20, True),
    "watch": (_watch, 20, True),
    "changes": (_changes, 16, True),
    "unread": (_help, 20, False),
    "coming": (lambda: iter([b"ping\n"] * 3), 20, True),
}


class _One:
    def __init__(self, path: str, kind: str) -> None:
        self._path, self._kind = path, kind
        lines, _, self.reads = KINDS[kind]
        self._lines = lines()
        self._unsent = b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)

    def go(self, may_write: bool, may_read: bool) -> bool:
        """
        @return: false once the connection is over.
        """
        try:
            if may_read and not self.socket.recv(1 << 18):
                return False
            if may_write:
                if not self._unsent:
                    self._unsent = next(self._lines, b"")
                    if not self._unsent:
                        return False
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


def flood(path: str, kinds: list[str]) -> None:
    """
    Go on until killed.
    """
    selector = selectors.DefaultSelector()

    def begin(kind: str) -> None:
        try:
            one = _One(path, kind)
        except OSError:
            time.sleep(0.01)
            return
        events = selectors.EVENT_WRITE | (selectors.EVENT_READ if one.reads else 0)
        selector.register(one.socket, events, (kind, one))

    for kind in kinds:
        for _ in range(KINDS[kind][1]):
            begin(kind)
    print("flooding", flush=True)
    while True:
        for key, events in selector.select():
            kind, one = key.data
            if not one.go(bool(events & selectors.EVENT_WRITE), bool(events & selectors.EVENT_READ)):
                selector.unregister(one.socket)
                one.socket.close()
                begin(kind)


def main(arguments: list[str]) -> None:
    """
    Become the user, and flood.
    """
    path, uid, *kinds = arguments
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    os.nice(10)
    flood(path, kinds or list(KINDS))


if __name__ == "__main__":
    main(sys.argv[1:])
