"""
HTTP of the XML-RPC: what is taken, what is refused, and what a client may take of the daemon.
"""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.callers import Caller
from hostline.server.config import Config, Limits
from hostline.server.facades.emulab_call import LONGEST
from tests.daemons import make
from tests.posting import Poster, called, posted

ECHO = called("emulab.echo", 0.1, {"str": "hello"})


class WebTest(SynchronousTestCase):
    """
    A daemon with small limits.
    """

    limits = Limits()

    def setUp(self) -> None:
        self.daemon = make(config=attrs.evolve(Config(), limits=self.limits))

    def poster(self, uid: int = 0) -> Poster:
        """
        A new client.
        """
        return Poster(self.daemon, Caller(uid, uid == 0))


class RequestTests(WebTest):
    """
    Requests.
    """

    def test_byteByByte(self) -> None:
        """
        However it is cut, a call is answered.
        """
        client = self.poster()
        for byte in posted(ECHO):
            client.send(bytes([byte]))
        self.assertEqual(client.answer()["value"], "hello")

    def test_oneAfterAnother(self) -> None:
        """
        A connection serves many calls, those that came together in their order.
        """
        client = self.poster()
        for text in ("a", "b"):
            self.assertEqual(client.value("emulab.echo", {"str": text}), text)
        client.send(posted(called("emulab.echo", 0.1, {"str": "c"})) + posted(called("emulab.echo", 0.1, {"str": "d"})))
        came = client.came()
        self.assertEqual(came.count(b"HTTP/1.1 200"), 2)
        self.assertLess(came.index(b"<string>c"), came.index(b"<string>d"))

    def test_chunked(self) -> None:
        """
        A body in pieces is one body.
        """
        client = self.poster()
        client.send(b"POST /RPC2 HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (ECHO[:10], ECHO[10:]):
            client.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        client.send(b"0\r\n\r\n")
        self.assertEqual(client.answer()["value"], "hello")

    def test_expects(self) -> None:
        """
        Who asks whether he may go on is told so.
        """
        client = self.poster()
        whole = posted(ECHO, more="Expect: 100-continue\r\n")
        client.send(whole[: -len(ECHO)])
        self.assertTrue(client.came().startswith(b"HTTP/1.1 100 "))
        client.send(ECHO)
        self.assertEqual(client.answer()["value"], "hello")

    def test_ofOldClients(self) -> None:
        """
        HTTP/1.0 has one call on a connection.
        """
        client = self.poster()
        client.send(posted(ECHO).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        self.assertEqual(client.status(), 200)
        self.assertTrue(client.transport.lost)

    def test_refused(self) -> None:
        """
        What is no POST to where it belongs gets the status that says why, and the connection ends.
        """
        for data, status in (
            (b"GET /usr/testbed HTTP/1.1\r\nHost: h\r\n\r\n", 405),
            (posted(ECHO, "/etc/passwd"), 404),
            (posted(ECHO, more="Content-Encoding: gzip\r\n"), 415),
            (posted(ECHO).replace(b"text/xml", b"text/plain", 1), 415),
            (posted(ECHO).replace(b"Content-Type", b"X-Type", 1), 415),
            (posted(b"", more=f"X: {'x' * 100_000}\r\n")[:-100], 431),
            (b"nonsense\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
            (
                f"POST / HTTP/1.1\r\nHost:h\r\nContent-Type:text/xml\r\nContent-Length: {LONGEST + 1}\r\n\r\n".encode(),
                413,
            ),
            (
                b"POST / HTTP/1.1\r\nHost:h\r\nContent-Type:text/xml\r\nContent-Length: 99999999999999999999\r\n\r\n",
                413,
            ),
            (b"POST / HTTP/1.1\r\nHost:h\r\nContent-Type:text/xml\r\nContent-Length: -1\r\n\r\n", 400),
            (
                b"POST / HTTP/1.1\r\nHost:h\r\nContent-Type:text/xml\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                400,
            ),
            (b"POST / HTTP/1.1\r\n\r\n", 400),
        ):
            client = self.poster()
            client.send(data)
            self.assertEqual((client.status(), client.transport.lost), (status, True), data[:60])

    def test_chunksWithoutEnd(self) -> None:
        """
        Who says no length may not send without end.
        """
        client = self.poster()
        client.send(b"POST / HTTP/1.1\r\nHost:h\r\nContent-Type:text/xml\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        for _ in range(5):
            if not client.transport.closing:
                client.send(piece)
        self.assertEqual((client.status(), client.transport.lost), (413, True))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.binary(max_size=60) | st.sampled_from([posted(ECHO)[:40], posted(ECHO)[40:]]), max_size=6))
    def test_garbage(self, pieces: list[bytes]) -> None:
        """
        Whatever comes, the daemon goes on and nothing is left behind.
        """
        client = self.poster()
        for piece in pieces:
            if not client.transport.closing:
                client.send(piece)
        client.transport.abort()
        self.daemon.settle()
        self.assertEqual(self.daemon.daemon.connections, 0)
        tally = self.daemon.daemon.tally(Caller(0, True))
        self.assertEqual((tally.bytes_waiting, tally.waiting), (0, 0))
        after = self.poster()
        self.assertEqual(after.value("emulab.echo", {"str": "on"}), "on")
        after.transport.abort()
        self.daemon.settle()


class LimitTests(WebTest):
    """
    What one client may take.
    """

    limits = attrs.evolve(
        Limits(),
        line_seconds=5.0,
        principal_connections=2,
        principal_bytes_waiting=300_000,
        unread_bytes=1000,
        unread_seconds=3.0,
    )

    def test_slow(self) -> None:
        """
        A request that was begun is to be whole in time; who asks nothing may stay.
        """
        slow, silent = self.poster(), self.poster()
        slow.send(posted(ECHO)[:30])
        for _ in range(5):
            self.daemon.advance(0.9)
            slow.send(b"x")
        self.assertFalse(slow.transport.lost)
        self.daemon.advance(1)
        self.assertEqual((slow.status(), slow.transport.lost), (408, True))
        self.assertEqual(silent.value("emulab.echo", {"str": "a"}), "a")
        self.daemon.advance(60)
        self.assertEqual(silent.value("emulab.echo", {"str": "b"}), "b")

    def test_connections(self) -> None:
        """
        One too many is told so and let go; whoever it is counts once, by whichever way he comes.
        """
        first = self.daemon.connect(7000)
        second = self.poster(7000)
        third = self.poster(7000)
        self.daemon.settle()
        self.assertEqual((third.status(), third.transport.lost), (503, True))
        self.assertEqual(second.value("emulab.echo", {"str": "a"}), "a")
        first.hang_up()
        self.assertEqual(self.poster(7000).value("emulab.echo", {"str": "a"}), "a")

    def test_bodies(self) -> None:
        """
        Bodies that wait are counted, over all connections of a principal, and given back.
        """
        one, other = self.poster(), self.poster()
        head = b"POST / HTTP/1.1\r\nHost:h\r\nContent-Type:text/xml\r\nContent-Length: 4000000\r\n\r\n"
        one.send(head + b" " * 200_000)
        self.assertEqual(one.status(), 0)
        other.send(head + b" " * 200_000)
        self.assertEqual((other.status(), other.transport.lost), (503, True))
        one.transport.abort()
        self.daemon.settle()
        self.assertEqual(self.daemon.daemon.tally(Caller(0, True)).bytes_waiting, 0)

    def test_ahead(self) -> None:
        """
        Who sends on and on before he is answered is cut off.
        """
        client = self.poster()
        self.daemon.connect().body("add_project lab")
        self.daemon.offload.held = True
        client.send(posted(called("experiment.nscheck", 0.1, {"nsfilestr": "x"})))
        client.send(b"x" * 60_000)
        self.assertFalse(client.transport.lost)
        client.send(b"x" * 10_000)
        self.assertTrue(client.transport.lost)
        self.daemon.offload.release()
        self.daemon.settle()

    def test_unread(self) -> None:
        """
        Who does not read his answers is dropped after a while.
        """
        client = self.poster()
        client.transport.client_reads = False
        client.send(posted(called("emulab.echo", 0.1, {"str": "x" * 3000})))
        self.daemon.advance(2)
        self.assertFalse(client.transport.lost)
        self.daemon.advance(2)
        self.assertTrue(client.transport.lost)


class FairTests(SynchronousTestCase):
    """
    Calls cost their principal time, as lines do.
    """

    def test_turns(self) -> None:
        """
        Somebody with many calls in one packet has them answered over several turns of the loop.
        """
        daemon = make()
        daemon.line_s = 1.0
        client = Poster(daemon, Caller(0, True))
        client.transport.unsent += posted(ECHO) * 20
        client.transport.deliver()
        at_once = client.transport.received.count(b"HTTP/1.1 200")
        self.assertLess(at_once, 20)
        daemon.settle()
        self.assertEqual(client.came().count(b"HTTP/1.1 200"), 20)
