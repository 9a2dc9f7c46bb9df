"""
A whole daemon in memory: real host, records, answers and connections; a store, a driver, a clock and clients that do
what a test tells them.

Every line that a client is sent is read back and checked against the Kind that its command declares.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import struct
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from hostline.protocol import wire
from hostline.protocol.commands import ROWS
from hostline.protocol.errors import StoreFailed
from hostline.protocol.wire import Reply
from hostline.server import database, tally
from hostline.server.board import hypervisor
from hostline.server.callers import Caller
from hostline.server.config import Config
from hostline.server.connection import Connection
from hostline.server.daemon import Daemon, open_host
from hostline.server.delegates import Makes
from hostline.server.doors import Doors
from hostline.server.drivers.fake import FakeDriver, FakeHost
from hostline.server.experiments.check import check_topology
from hostline.server.experiments.planning import plan
from hostline.server.facades.emulab_call import read_call
from hostline.server.gate import Gate
from hostline.server.host import Host
from hostline.server.record import Record
from hostline.server.slivers.payload import read_payload
from hostline.server.slivers.signed_ticket import read_ticket
from hostline.server.slivers.trusted_time import Moment
from hostline.server.store import Loaded, Statement, Store
from hostline.server.trust.csr import read_request
from tests.fits import fits

#: Unix seconds at which every clock of the tests begins.
EPOCH = 1_700_000_000.0
_COMMANDS = {row.reply_word: row.name for row in ROWS}


def checked(line: bytes, as_json: bool = False) -> Reply:
    """
    One line from the daemon, which must fit what its command declares.
    """
    reply = wire.read_reply(line.decode("ascii"), as_json)
    said = reply.body.get("command", "") if reply.word == "error_reply" else _COMMANDS.get(reply.word, "watch")
    return fits(line, str(said), as_json)


def topdl(nodes: Mapping[str, str | None]) -> str:
    """
    A topology of these nodes and start commands, as a word of a request.
    """
    computers = []
    for name, command in nodes.items():
        startup = f"<attribute><attribute>startup</attribute><value>{command}</value></attribute>" if command else ""
        computers.append(f"<elements><computer><name>{name}</name>{startup}</computer></elements>")
    return repr(f"<experiment><version>1.0</version>{''.join(computers)}</experiment>")


class Disk:
    """
    What a store keeps; outlives the daemons that use it.

    @ivar commits: how many there were.
    """

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        database.bring_up_to_date(self.connection, Path("memory"))
        self.commits = 0

    def records(self) -> dict[tuple[str, str], str]:
        """
        JSON by kind and key.
        """
        return {(kind, key): body for kind, key, body in self.connection.execute("SELECT * FROM records")}

    def audit(self) -> list[str]:
        """
        The bodies of the audit log.
        """
        return [body for (body,) in self.connection.execute("SELECT body FROM audit ORDER BY cursor")]


class FakeStore:
    """
    A store whose commits a test makes happen, or fail.

    @ivar full: whether they fail by themselves.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.full = False
        self.trouble: str | None = None
        self.pending: list[tuple[list[Statement], Deferred[None], Callable[[], Any] | None]] = []

    def open(self) -> Loaded:
        read = self.disk.connection.execute
        return Loaded(
            records=read("SELECT kind, key, body FROM records").fetchall(),
            meta=dict(read("SELECT name, value FROM meta").fetchall()),
            events=read(database.HISTORY).fetchall(),
            notes=[],
        )

    def submit(
        self, statements: Iterable[Statement], undo: Callable[[], Any] | None = None, frees: bool = False
    ) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.pending.append((list(statements), done, undo))
        return done

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        try:
            result.callback(function())
        except Exception:
            result.errback()
        return result

    def use(self, function: Callable[[sqlite3.Connection], Any]) -> Deferred[Any]:
        return self.run(lambda: function(self.disk.connection))

    def keep_reserve(self) -> None:
        pass

    def close(self) -> None:
        self.pending = []

    def commit(self) -> None:
        """
        What was handed in becomes durable, all in one commit.
        """
        group, self.pending = self.pending, []
        if not group:
            return
        self.disk.commits += 1
        self.disk.connection.execute("BEGIN")
        for statements, _, _ in group:
            for sql, values in statements:
                self.disk.connection.execute(sql, values)
        self.disk.connection.execute("COMMIT")
        self.trouble = None
        for _, done, _ in group:
            done.callback(None)

    def fail(self, reason: str = "disk full") -> None:
        """
        What was handed in cannot be written.
        """
        group, self.pending = self.pending, []
        if group:
            self.trouble = reason
        for _, _, undo in reversed(group):
            if undo is not None:
                undo()
        for _, done, _ in group:
            done.errback(StoreFailed(f"the change was not made, the state cannot be written: {reason}"))


class FakeOffload:
    """
    Reads topologies and payloads at once, or when it is let.

    @ivar held: whether calls wait for L{release}.
    """

    def __init__(self) -> None:
        self.held = False
        self.waiting: list[Deferred[None]] = []

    async def call(self, name: str, argument: Callable[[], Any], deadline_s: float = 20, *, who: str = "") -> Any:
        if self.held:
            turn: Deferred[None] = Deferred()
            self.waiting.append(turn)
            await turn
        reads: dict[str, Callable[[Any], Any]] = {
            "check_topology": check_topology,
            "plan": plan,
            "read_payload": read_payload,
            "read_request": read_request,
            "read_call": read_call,
        }
        reads["read_ticket"] = read_ticket
        return reads[name](argument())

    def release(self) -> None:
        """
        Let the oldest call that waits go on.
        """
        self.waiting.pop(0).callback(None)


class _Handle:
    def __init__(self, call: IDelayedCall) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


class FakeLoop:
    """
    The part of an event loop that the daemon uses, driven by a clock and by L{turn}.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._soon: deque[Callable[[], Any]] = deque()

    def call_soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._soon.append(lambda: function(*arguments))

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, function: Callable[..., Any], *arguments: Any) -> _Handle:
        return _Handle(self._clock.callLater(delay, function, *arguments))

    def turn(self) -> bool:
        """
        @return: whether there was something to do.
        """
        now, self._soon = self._soon, deque()
        for function in now:
            function()
        return bool(now)


class FakePeer:
    """
    The socket of a client, as far as the daemon asks the kernel about it.
    """

    def __init__(self, uid: int, gid: int, groups: Iterable[int]) -> None:
        self.uid, self.gid, self.groups = uid, gid, tuple(groups)
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if option == socket.SO_PEERCRED:
            return struct.pack("3i", 1, self.uid, self.gid)
        return struct.pack(f"{len(self.groups)}I", *self.groups)

    def fileno(self) -> int:
        if self._pair is None:
            self._pair = socket.socketpair()
        return self._pair[0].fileno()

    def hang_up(self) -> None:
        self.fileno()
        assert self._pair is not None
        self._pair[1].close()

    def close(self) -> None:
        for one in self._pair or ():
            one.close()


class FakeTransport(asyncio.Transport):
    """
    Between one client and the daemon; keeps what the client has not read, and what the daemon has not.
    """

    def __init__(self, loop: FakeLoop, protocol: Connection, peer: FakePeer) -> None:
        super().__init__()
        self._fake_loop = loop
        self._connection = protocol
        self.peer = peer
        self.client_reads = True
        self.received = bytearray()
        self.unread = bytearray()
        self.unsent = bytearray()
        self.reading = True
        self.closing = False
        self.lost = False
        self.pauses = 0
        self._high = 1 << 16
        self._full = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.peer if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self.unread)

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        assert not self.lost, "the daemon wrote to a connection that is over"
        self.unread += data
        if self.client_reads:
            self.read()
        elif len(self.unread) > self._high and not self._full:
            self._full = True
            self._connection.pause_writing()

    def read(self, size: int | None = None) -> None:
        """
        The client reads.
        """
        size = len(self.unread) if size is None else size
        self.received += self.unread[:size]
        del self.unread[:size]
        if self._full and len(self.unread) <= self._high // 4:
            self._full = False
            self._connection.resume_writing()
        if self.closing and not self.unread:
            self._fake_loop.call_soon(self._lose)

    def pause_reading(self) -> None:
        assert self.reading and not self.closing
        self.reading = False
        self.pauses += 1

    def resume_reading(self) -> None:
        assert not self.reading and not self.closing
        self.reading = True
        self._fake_loop.call_soon(self.deliver)

    def deliver(self) -> None:
        """
        The daemon reads what the client sent.
        """
        if self.reading and not self.closing and self.unsent:
            data = bytes(self.unsent)
            self.unsent.clear()
            self._connection.data_received(data)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.unread:
                self._fake_loop.call_soon(self._lose)

    def abort(self) -> None:
        self.closing = True
        self.unread.clear()
        self._fake_loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._connection.connection_lost(None)
            self.peer.close()


def _comes_to_the_socket(daemon: Daemon) -> Callable[[asyncio.Transport], Caller]:
    return lambda transport: daemon.caller(transport.get_extra_info("socket"))


class Client:
    """
    One connection, seen from outside.
    """

    def __init__(
        self, whole: MemoryDaemon, uid: int, groups: Iterable[int], caller: Caller | None = None, sliver: int = 0
    ) -> None:
        self._whole = whole
        who = partial(whole.daemon.caller_inside, sliver) if sliver else _comes_to_the_socket(whole.daemon)
        self.connection = Connection(whole.daemon, who if caller is None else lambda _: caller)
        self.transport = FakeTransport(whole.loop, self.connection, FakePeer(uid, uid or 0, groups))
        self.connection.connection_made(self.transport)
        self._ends = False
        self._ended = False

    def send(self, data: bytes | str, settle: bool = True) -> None:
        """
        @param settle: whether all that follows happens now, commits included.
        """
        self.transport.unsent += data.encode() if isinstance(data, str) else data
        self.transport.deliver()
        if settle:
            self._whole.settle()

    def end(self) -> None:
        """
        Say no more, and hear what there is to hear.
        """
        self.connection.eof_received()
        self._whole.settle()

    def hang_up(self) -> None:
        """
        Go away.
        """
        self.transport.abort()
        self._whole.settle()

    @property
    def over(self) -> bool:
        """
        Whether the connection has ended.
        """
        return self.transport.lost

    def raw(self) -> list[bytes]:
        """
        The lines that came since last asked, unchecked.
        """
        whole, newline, rest = bytes(self.transport.received).rpartition(b"\n")
        self.transport.received = bytearray(rest)
        return whole.split(b"\n") if newline else []

    def replies(self) -> list[Reply]:
        """
        The lines that came since last asked.
        """
        return [checked(line, self.connection.format == "json") for line in self.raw()]

    def lines(self) -> list[str]:
        """
        The same, as tag and word, errors by their code: C{@7 status_reply}, C{DENIED}.
        """
        return [shown(reply) for reply in self.replies()]

    def ask(self, line: str) -> Reply:
        """
        Send one line; the one reply to it.
        """
        self.raw()
        self.send(line + "\n")
        replies = self.replies()
        assert len(replies) == 1, replies
        return replies[0]

    def body(self, line: str) -> Any:
        """
        The body of the reply, which must be no error.
        """
        reply = self.ask(line)
        assert reply.word != "error_reply", reply
        return reply.body

    def code(self, line: str) -> str:
        """
        The code of the error that a line is answered by; its reply word if it is none.
        """
        return shown(self.ask(line))


def shown(reply: Reply) -> str:
    """
    A reply in short.
    """
    word = reply.body["code"] if reply.word == "error_reply" else reply.word
    return f"@{reply.tag} {word}" if reply.tag else str(word)


class FakeAccounts:
    """
    Accounts that are made by saying so.

    @ivar made: name, uid and keys by serial.
    """

    def __init__(self) -> None:
        self.made: dict[int, tuple[str, int, tuple[str, ...]]] = {}

    def there(self) -> set[int]:
        return set(self.made)

    async def quiet(self) -> None:
        pass

    def wrong(self, serial: int, name: str, uid: int, keys: Sequence[str]) -> str | None:
        return None if self.made.get(serial) == (name, uid, tuple(keys)) else "it is not so"

    def why_not_used(self) -> str | None:
        return None

    async def ensure(self, serial: int, name: str, uid: int, keys: Sequence[str]) -> None:
        self.made[serial] = name, uid, tuple(keys)

    async def remove(self, serial: int) -> None:
        self.made.pop(serial, None)

    async def settle(self, known: Collection[int]) -> None:
        pass


class MemoryDaemon:
    """
    A daemon, and the host it runs on; may crash and come back.

    @ivar slow: seconds that boots and stops take.
    @ivar fair: whether less is spent on who floods while others ask.
    @ivar line_s: seconds that seem to be spent on each line.
    @ivar accounts: makes those of delegates; None if there can be none.
    """

    def __init__(
        self,
        config: Config | None = None,
        slow: float = 0.0,
        directory: Path | None = None,
        accounts: Makes | None = None,
        fair: bool = False,
    ) -> None:
        self.accounts = accounts
        self.fair = fair
        self.line_s = tally.ALONE_S / 32
        self._spent = 0.0
        self.config = config or Config()
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="hostline-test-"))
            weakref.finalize(self, shutil.rmtree, directory, True)
        self.directory = directory
        self.clock = Clock()
        self.loop = FakeLoop(self.clock)
        self.disk = Disk()
        self.fake_host = FakeHost(self.clock)
        self.slow = slow
        self.runs = 0
        self.clients: list[Client] = []
        self.start()

    def start(self) -> None:
        """
        Begin, on what is there.
        """
        self.runs += 1
        self.store = FakeStore(self.disk)
        keeper = cast("Store", self.store)
        host, _ = open_host(keeper, "tester", self.config)
        self.driver = FakeDriver(
            self.clock, host=self.fake_host, kind="process", boot_after=self.slow, stop_after=self.slow
        )
        self.driver._pids = 1000 * self.runs
        self.offload = FakeOffload()
        self.daemon = Daemon(
            host,
            keeper,
            {"process": self.driver},
            cast("Any", self.offload),
            self.config,
            self.directory,
            cast("asyncio.AbstractEventLoop", self.loop),
            self.clock,
            self.now,
            f"run{self.runs}",
            Doors(self.directory / "run"),
            lambda: Moment(self.now(), self.clock.seconds() + 86400, "boot"),
            accounts=self.accounts,
        )
        limits = self.daemon.gate._limits
        self.daemon.gate = Gate(host, limits, clock=self._tick, now=self._tick, fair=self.fair)
        self._recovering = Deferred.fromCoroutine(self.daemon.recover())
        self.settle()
        assert self._recovering.called
        self._recovering.addErrback(_fail)

    def _tick(self) -> float:
        self._spent += self.line_s
        return self._spent

    @property
    def host(self) -> Host:
        """
        What should be.
        """
        return self.daemon.host

    def now(self) -> float:
        """
        Unix seconds.
        """
        return EPOCH + self.clock.seconds()

    def connect(
        self, uid: int = 0, groups: Iterable[int] = (), caller: Caller | None = None, sliver: int = 0
    ) -> Client:
        """
        A new client; uid 0 is an operator.

        @param caller: who it is, if it did not come by a Unix socket.
        @param sliver: the serial of the one whose own socket it came by.
        """
        client = Client(self, uid, groups, caller, sliver)
        self.clients.append(client)
        self.settle()
        return client

    def settle(self) -> None:
        """
        Let all happen that needs no time.
        """
        for _ in range(10000):
            if not self.loop.turn() and not self.store.pending:
                return
            if self.store.full:
                self.store.fail()
            else:
                self.store.commit()
        raise AssertionError("it never comes to rest")

    def advance(self, seconds: float) -> None:
        """
        Let time pass.
        """
        end = self.clock.seconds() + seconds
        for _ in range(100000):
            self.settle()
            next_call = min((call.getTime() for call in self.clock.getDelayedCalls()), default=float("inf"))
            if next_call > end:
                break
            self._at(next_call)
        else:
            raise AssertionError("it never comes to rest")
        self._at(end)

    def _at(self, time: float) -> None:
        # Not advance(time - now), which may round to just before it.
        self.clock.rightNow = max(time, self.clock.rightNow)
        self.clock.advance(0)
        self.settle()

    def crash(self) -> None:
        """
        The daemon dies with all that was not durable, and is started again; what runs goes on.
        """
        for client in self.clients:
            if not client.transport.lost:
                client.connection._deadlines.close()  # the dead have no timers
            client.transport.lost = client.transport.closing = True
            client.transport.peer.close()
        self.clients = []
        self.daemon.sync._closed = True  # nothing of the old one may act: it is dead
        self.driver.close()
        self.store.pending = []
        self.store.submit = _dead  # type: ignore[assignment,method-assign]
        self.loop._soon.clear()
        self.start()

    def check(self) -> None:
        """
        Fail unless memory is what the store keeps, and what is derived in memory follows from it.
        """
        kept = self.disk.records()
        mine = {(kind, key): one.as_json() for kind, table in self.host.tables.items() for key, one in table.items()}
        assert mine == kept, set(mine.items()) ^ set(kept.items())
        again = Host("again")
        again.load(self.store.open())
        for name in (
            "slivers_by_serial",
            "experiments_by_serial",
            "unended",
            "_slivers_in",
            "_memberships",
            "_folded",
            "_of_principal",
        ):
            assert getattr(self.host, name) == getattr(again, name), name
        mine_by_uid = {uid: sorted(one.serial for one in found) for uid, found in self.host._by_uid.items()}
        assert mine_by_uid == {uid: sorted(one.serial for one in found) for uid, found in again._by_uid.items()}
        assert self.host.unsettled == {}
        for sliver in self.host.free_slivers():
            assert self.host.effective(sliver) == again.effective(sliver), sliver.name
        for experiment in self.host.experiments_by_serial.values():
            slivers = self.host.slivers_of(experiment)
            for node, sliver in slivers.items():
                status = self.daemon.sync.status(sliver.serial)
                now = [status.boot, status.code] if status else [None, None]
                assert self.daemon.board.text(experiment).get(hypervisor(sliver), node) == now, sliver.name
        assert self.host._next_serial >= again._next_serial - 64

    def lab(self, *, member: int = 5001, other: int = 5002) -> Client:
        """
        A project C{lab} with the member ann, and bob who is in none; the client is ann's.
        """
        operator = self.connect()
        operator.body("add_project lab")
        operator.body(f"add_user ann uid={member}")
        operator.body(f"add_user bob uid={other}")
        operator.body("add_member lab ann")
        operator.hang_up()
        return self.connect(member)


def _dead(*_: Any) -> Deferred[None]:
    return Deferred()


def _fail(failure: Any) -> None:
    raise AssertionError(failure.getTraceback())


def make(**options: Any) -> MemoryDaemon:
    """
    @param options: as L{MemoryDaemon} takes them.
    """
    return MemoryDaemon(**options)


def only(record: type[Record], daemon: MemoryDaemon) -> Any:
    """
    The one record of its kind.
    """
    (found,) = daemon.host.table(record).values()
    return found


assert os.geteuid() not in range(5000, 6000), "the tests' users must not be the one who runs them"
