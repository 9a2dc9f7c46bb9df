"""
What comes from a guest's agent, cut into answers; and a client that meets every kind of guest.
"""

from __future__ import annotations

import asyncio
import json
import unittest
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.agent import Agent, AgentRefused, Session, answer, opening, plain, request
from tests.live.support import LoopClock, run, temporary_directory

T = TypeVar("T")
MARK = 4711
LINES = st.lists(st.binary(min_size=1, max_size=40).filter(lambda one: b"\n" not in one and one.strip()), max_size=5)
#: What a client before us asked for, or the guest makes up.
NOISE = st.binary(max_size=200) | st.just(b'\xff{"return": 12}\n{"return": {}}\n')


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """
    @return: the same bytes in pieces.
    """
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


class SessionTests(SynchronousTestCase):
    """
    The codec.
    """

    @given(NOISE, LINES, st.lists(st.integers(0, 30), max_size=20))
    def test_allBehindTheMark(self, noise: bytes, lines: list[bytes], sizes: list[int]) -> None:
        """
        Whatever was in the pipe before, and however it comes in pieces, answers are those behind our own mark.
        """
        data = noise + b'\xff{"return": %d}\n' % MARK + b"".join(one + b"\n" for one in lines)
        session = Session(MARK)
        found = [line for piece in cut(data, sizes) for line in session.feed(piece)]
        self.assertTrue(session.open)
        self.assertEqual(found, [one.strip() for one in lines])

    @given(st.binary(max_size=400))
    def test_noiseIsNoSession(self, noise: bytes) -> None:
        """
        Without the mark nothing is an answer, and nothing but an OSError is raised.
        """
        session = Session(MARK, most_dropped=100)
        try:
            found = session.feed(noise, 50)
        except OSError:
            return
        self.assertEqual((found, session.open), ([], False))

    def test_tooLong(self) -> None:
        """
        A line that does not end is given up at the bound, before it is whole.
        """
        session = Session(MARK)
        session.feed(b'\xff{"return": %d}\n' % MARK)
        self.assertEqual(session.feed(b"x" * 100, 100), [])
        with self.assertRaisesRegex(OSError, "more than 100 bytes"):
            session.feed(b"x", 100)

    def test_onlyNoise(self) -> None:
        """
        A guest that only floods us is left after a bounded number of bytes, in a session or before it.
        """
        for first, flood in ((b"", b"x" * 100), (b'\xff{"return": %d}\n' % MARK, b"\n" * 100)):
            session = Session(MARK, most_dropped=1000)
            session.feed(first)
            with self.assertRaises(OSError):
                for _ in range(11):
                    session.feed(flood)

    @given(
        st.binary(max_size=200)
        | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda one: json.dumps(one).encode())
    )
    def test_anyAnswer(self, line: bytes) -> None:
        """
        Whatever is answered, it is a value or an OSError.
        """
        try:
            answer(line)
        except OSError as error:
            self.assertTrue(str(error))

    def test_deep(self) -> None:
        """
        What is nested too deep to read is refused in words.
        """
        with self.assertRaisesRegex(OSError, "cannot be read"):
            answer(b"[" * 60000)

    def test_refused(self) -> None:
        """
        What an agent says of its refusal is shown without its escape sequences, and not at length.
        """
        with self.assertRaises(AgentRefused) as caught:
            answer(json.dumps({"error": {"class": "GenericError", "desc": "no\x1b[2J" + "x" * 900}}).encode())
        self.assertEqual(caught.exception.kind, "GenericError")
        self.assertIn("no?[2J", str(caught.exception))
        self.assertLess(len(str(caught.exception)), 400)
        self.assertEqual(plain(["no text"]), "")

    def test_asWritten(self) -> None:
        """
        Calls are one line each; a session begins with the byte that ends what an earlier client began.
        """
        self.assertEqual(request("guest-ping"), b'{"execute": "guest-ping"}\n')
        self.assertEqual(opening(7), b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 7}}\n')


class Guest(asyncio.Protocol):
    """
    At the other end of the socket.
    """

    def __init__(self, replies: Callable[[dict[str, Any]], bytes]) -> None:
        self.replies = replies
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\n" in self.waiting:
            line, _, self.waiting = self.waiting.partition(b"\n")
            said = json.loads(line.lstrip(b"\xff"))
            if said["execute"] == "guest-sync-delimited":
                self.transport.write(b'\xff{"return": %d}\n' % said["arguments"]["id"])
            else:
                self.transport.write(self.replies(said))


class AgentTests(unittest.TestCase):
    """
    The client, on a socket.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.path = temporary_directory() / "agent"
        self.addCleanup(lambda: self.path.unlink(missing_ok=True))
        self.clock = LoopClock(self.loop)
        self.guests: list[Guest] = []

    def run_to_end(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """
        @return: what the coroutine returns.
        """
        return run(self.loop, coroutine, 10)

    def agent(self, replies: Callable[[dict[str, Any]], bytes]) -> Agent:
        """
        @return: the agent of a guest that answers so.
        """

        def made() -> Guest:
            self.guests.append(Guest(replies))
            return self.guests[-1]

        server = self.loop.run_until_complete(self.loop.create_unix_server(made, str(self.path)))
        self.addCleanup(lambda: self.loop.run_until_complete(self._ended(server)))
        agent = Agent(Path(self.path), self.loop, self.clock)
        self.addCleanup(agent.close)
        return agent

    async def _ended(self, server: asyncio.AbstractServer) -> None:
        for guest in self.guests:
            guest.transport.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)

    def test_answers(self) -> None:
        """
        Calls are answered one after the other, over one connection, also if many are made at once.
        """
        agent = self.agent(lambda said: b'{"return": %d}\n' % said["arguments"]["n"])
        asked = [Deferred.fromCoroutine(agent.call("x", {"n": n})) for n in range(20)]

        async def all_of_them() -> list[Any]:
            return [await one for one in asked]

        self.assertEqual(self.run_to_end(all_of_them()), list(range(20)))
        self.assertEqual(len(self.guests), 1)

    def test_silence(self) -> None:
        """
        An answer that comes too late is not taken for the next call's.
        """
        agent = self.agent(lambda said: b"" if said["execute"] == "slow" else b'{"return": "fast"}\n')
        with self.assertRaises(TimeoutError):
            self.run_to_end(agent.call("slow", timeout_s=0.1))
        self.guests[0].transport.write(b'{"return": "slow"}\n')
        self.assertEqual(self.run_to_end(agent.call("fast")), "fast")
        self.assertEqual(len(self.guests), 1)

    def test_refusalOfWhatWasTold(self) -> None:
        """
        A refusal that nobody waits for is not taken for an answer.
        """
        agent = self.agent(
            lambda said: (
                b'{"error": {"class": "GenericError", "desc": "no"}}\n'
                if said["execute"] == "guest-shutdown"
                else b'{"return": 1}\n'
            )
        )
        self.run_to_end(agent.tell("guest-shutdown"))
        self.assertEqual(self.run_to_end(agent.call("x")), 1)

    def test_flood(self) -> None:
        """
        A guest that answers without end is given up, and can be asked again.
        """
        agent = self.agent(lambda said: b"x" * 300_000 if said["execute"] == "flood" else b'{"return": 1}\n')
        with self.assertRaisesRegex(OSError, "more than"):
            self.run_to_end(agent.call("flood"))
        self.assertEqual(self.run_to_end(agent.call("x")), 1)
        self.assertEqual(len(self.guests), 2)

    def test_gone(self) -> None:
        """
        If QEMU ends, or has not begun, the call fails in words, at once.
        """
        with self.assertRaisesRegex(OSError, "no guest agent"):
            self.run_to_end(Agent(self.path, self.loop, self.clock).call("x"))
        agent = self.agent(lambda _: self.guests[0].transport.abort() or b"")  # type: ignore[func-returns-value]
        with self.assertRaises(OSError):
            self.run_to_end(agent.call("x"))

    def test_followsNoLink(self) -> None:
        """
        Whoever broke out of a guest may put a link in the socket's place: root is not led to other people's sockets.
        """
        self.agent(lambda _: b'{"return": 1}\n')
        link = self.path.with_name("link")
        link.symlink_to(self.path)
        with self.assertRaisesRegex(OSError, "no guest agent"):
            self.run_to_end(Agent(link, self.loop, self.clock).call("x"))
        self.assertEqual(self.guests, [])

    def test_closed(self) -> None:
        """
        Who leaves is waited for by nobody.
        """
        agent = self.agent(lambda _: b"")
        failed: list[str] = []
        asked = Deferred.fromCoroutine(agent.call("x"))
        asked.addErrback(lambda failure: failed.append(str(failure.value)))
        self.loop.run_until_complete(asyncio.sleep(0.05))
        agent.close()
        self.assertEqual(len(failed), 1)
        with self.assertRaises(OSError):
            self.run_to_end(agent.call("x"))

    def test_notRead(self) -> None:
        """
        What a guest says while nobody asks is left in its own buffers.
        """
        agent = self.agent(lambda _: b'{"return": 1}\n')
        self.run_to_end(agent.call("x"))
        self.guests[0].transport.write(b"x" * (8 << 20))
        self.loop.run_until_complete(asyncio.sleep(0.05))
        self.assertGreater(self.guests[0].transport.get_write_buffer_size(), 4 << 20)
