"""
The load generator in Python, for machines without a C compiler: what C{loadgen.c} does, with its arguments and output.

Slower than the servers it drives, so that all of them look alike; the tables say when it was used.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
import time
from pathlib import Path

_CHUNK = 262144


class Exact:
    """Every reply is the same bytes, and each is compared."""

    def __init__(self, expected: bytes) -> None:
        self._expected = expected
        self._held = b""

    def take(self, data: bytes) -> int:
        """
        @return: how many whole replies came.
        @raise ValueError: one is not what was expected.
        """
        self._held += data
        size = len(self._expected)
        replies = len(self._held) // size
        whole = replies * size
        if self._held[:whole] != self._expected * replies or not self._expected.startswith(self._held[whole:]):
            raise ValueError(f"not the reply that was expected: {self._held[:300]!r}")
        self._held = self._held[whole:]
        return replies


class Counted:
    """Every reply is a line that begins as expected."""

    def __init__(self, expected: bytes) -> None:
        self._expected = expected
        self._held = b""

    def take(self, data: bytes) -> int:
        """
        @return: how many whole lines came.
        @raise ValueError: one does not begin as expected.
        """
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if not line.startswith(self._expected):
                raise ValueError(f"not the reply that was expected: {line[:300]!r}")
        return len(lines)


class Http:
    """
    Every reply has status 200 and the same length.

    @ivar closes: whether the server closes after the last reply.
    """

    closes = False

    def __init__(self, expected: bytes) -> None:
        self._length = int(expected or b"0")
        self._held = b""

    def take(self, data: bytes) -> int:
        """
        @return: how many whole replies came.
        @raise ValueError: one is not what was expected.
        """
        self._held += data
        replies = 0
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            header = self._held[:end].lower()
            length = re.search(rb"\r\ncontent-length: *(\d+)", header)
            if not re.match(rb"http/1\.[01] 200 ", header) or not length:
                raise ValueError(f"not the reply that was expected: {header[:300]!r}")
            size = int(length[1])
            self._length = self._length or size
            if size != self._length:
                raise ValueError(f"a reply of another length: {header[:300]!r}")
            if len(self._held) < end + 4 + size:
                break
            connection = re.search(rb"\r\nconnection: *(\S+)", header)
            self.closes = connection[1] == b"close" if connection else header.startswith(b"http/1.0")
            self._held = self._held[end + 4 + size :]
            replies += 1
        return replies


READERS: dict[str, type[Exact] | type[Counted] | type[Http]] = {"exact": Exact, "counted": Counted, "http": Http}


class Connection:
    """
    One connection and the turn it is in.

    @ivar awaited: replies still to come in this turn.
    @ivar since: when the turn began, in nanoseconds.
    """

    def __init__(self, mode: str, address: str, expected: bytes) -> None:
        self._mode = mode
        self._address = address
        self._expected = expected
        self.awaited = 0
        self.since = 0
        self.open()

    def open(self) -> None:
        """
        Connect, or connect again.
        """
        if self._address.isdigit():
            self.socket = socket.create_connection(("127.0.0.1", int(self._address)))
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(self._address)
        self.reader = READERS[self._mode](self._expected)


def generate(
    mode: str, address: str, connections: int, depth: int, length_ns: int, request: bytes, expected: bytes, number: int
) -> str:
    """
    Send and check for a while.

    @param number: the first one to put for C{#}.
    @return: the line of figures.
    @raise ValueError: a reply is wrong, or none came in ten seconds.
    """
    poller = select.epoll()
    table: dict[int, Connection] = {}

    def added(one: Connection) -> None:
        table[one.socket.fileno()] = one
        poller.register(one.socket.fileno(), select.EPOLLIN)

    def sent(one: Connection, at: int) -> None:
        nonlocal number
        if mode == "counted":
            turn = b"".join(request.replace(b"#", b"%d" % one) for one in range(number, number + depth))
            number += depth
        else:
            turn = request * depth
        one.awaited, one.since = depth, at
        one.socket.sendall(turn)

    for _ in range(connections):
        added(Connection(mode, address, expected))
    at = time.monotonic_ns()
    counting = at + length_ns // 10
    deadline = counting + length_ns
    limit = deadline + 10**10
    first = last = replies = every = 0
    samples: list[int] = []
    for one in list(table.values()):
        sent(one, at)
    while table:
        ready = poller.poll(10)
        if not ready:
            raise ValueError("no reply for ten seconds")
        for descriptor, _ in ready:
            one = table[descriptor]
            data = one.socket.recv(_CHUNK)
            if not data:
                raise ValueError(f"the server closed the connection with {one.awaited} replies to come")
            came = one.reader.take(data)
            one.awaited -= came
            at = time.monotonic_ns()
            every += came
            if at >= deadline and len(samples) < 2 and at < limit:
                deadline = at + length_ns
            if counting <= at < deadline:
                if not first:
                    first = at
                else:
                    replies += came
                    last = at
                    if came and not one.awaited:
                        samples.append(at - one.since)
            if one.awaited:
                continue
            closes = isinstance(one.reader, Http) and one.reader.closes
            if closes or at >= deadline:
                del table[descriptor]
                poller.unregister(descriptor)
                one.socket.close()
            if at < deadline:
                if closes:
                    one.open()
                    added(one)
                sent(one, at)
    if not samples or last <= first:
        raise ValueError("too few replies")
    samples.sort()
    return (
        f"replies={replies} all={every} elapsed_ns={last - first} p50_ns={samples[len(samples) // 2]} "
        f"p99_ns={samples[int(len(samples) * 0.99)]} cpu_ns={time.process_time_ns()} next={number}"
    )


def main(arguments: list[str]) -> None:
    """
    Do as the arguments of C{loadgen.c} say.
    """
    mode, address, connections, depth, milliseconds, request, expected, number = arguments
    signal.alarm(int(milliseconds) // 1000 + 60)
    try:
        print(
            generate(
                mode,
                address,
                int(connections),
                int(depth),
                int(milliseconds) * 10**6,
                Path(request).read_bytes(),
                Path(expected).read_bytes(),
                int(number),
            )
        )
    except (ValueError, OSError) as error:
        sys.exit(f"generator: {error}")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
