"""
TLS on memory: whatever pieces it comes in, whoever ends first, and what somebody on the way does to it.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.trust.encrypted import Encrypted
from tests.certificates import Authority
from tests.live.encrypted import context_for

SITE = Authority()
OWN, ANN = SITE.sign("host.example"), SITE.sign("urn:site:user:ann")


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.load_verify_locations(cadata=SITE.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    with tempfile.NamedTemporaryFile() as file:
        file.write(OWN.pem + OWN.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


class Below(asyncio.Transport):
    """
    The socket: keeps what is said to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()
        self.calls: list[str] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return mock.Mock() if name == "socket" else default

    def write(self, data: Any) -> None:
        assert "write_eof" not in self.calls and "abort" not in self.calls
        self.said += data

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return "abort" in self.calls

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def get_write_buffer_size(self) -> int:
        return 0


class Echo(asyncio.Protocol):
    """
    Says again what it hears.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.calls: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.calls == ["made"]
        self.heard += data
        self.transport.write(data)  # type: ignore[attr-defined]

    def eof_received(self) -> bool:
        self.calls.append("eof")
        self.transport.write(b"the end")  # type: ignore[attr-defined]
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")


class Writer:
    """
    Writes records of TLS 1.3 by itself, from the secret of a client: what no library lets one say at length.
    """

    def __init__(self, secret: bytes, cipher: str) -> None:
        """
        @param secret: C{CLIENT_TRAFFIC_SECRET_0} of a log of keys.
        @param cipher: its name, C{TLS_AES_256_GCM_SHA384}.
        """
        self._hash = SHA384() if cipher.endswith("384") else SHA256()
        self._size = 16 if "_128_" in cipher else 32
        self._kind = ChaCha20Poly1305 if "CHACHA" in cipher else AESGCM
        self._renew(secret)

    def _expand(self, label: bytes, size: int) -> bytes:
        full = b"tls13 " + label
        said = size.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
        return HKDFExpand(self._hash, size, said).derive(self._secret)

    def _renew(self, secret: bytes) -> None:
        self._secret, self._count = secret, 0
        self._key, self._iv = self._kind(self._expand(b"key", self._size)), self._expand(b"iv", 12)

    def _record(self, kind: int, content: bytes) -> bytes:
        nonce = (int.from_bytes(self._iv, "big") ^ self._count).to_bytes(12, "big")
        self._count += 1
        head = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2, "big")
        return head + self._key.encrypt(nonce, content + bytes([kind]), head)

    def say(self, text: bytes) -> bytes:
        """
        One record of it.
        """
        return self._record(23, text)

    def new_keys(self) -> bytes:
        """
        A KeyUpdate that asks for one (RFC 8446, 4.6.3).
        """
        record = self._record(22, b"\x18\0\0\x01\x01")
        self._renew(self._expand(b"traffic upd", self._hash.digest_size))
        return record


class EncryptedTests(SynchronousTestCase):
    """
    A client's TLS on memory too, and the pieces between.
    """

    context = server_context()
    client_context = context_for(SITE.pem, ANN)

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.begin()

    def begin(self, client: ssl.SSLContext | None = None) -> None:
        self.echo, self.below = Echo(), Below()
        self.encrypted = Encrypted(self.echo, self.context, self.loop, 5.0)
        self.encrypted.connection_made(self.below)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        used = client or self.client_context
        self.client = used.wrap_bio(self.incoming, self.outgoing, server_hostname="host.example")

    def carry(self, sizes: list[int] | None = None) -> None:
        """
        Take what each has said to the other; to the daemon in pieces of these sizes, again and again.
        """
        data = self.outgoing.read()
        turn = 0
        while data:
            size = sizes[turn % len(sizes)] if sizes else len(data)
            self.encrypted.data_received(data[:size])
            data = data[size:]
            turn += 1
        self.incoming.write(bytes(self.below.said))
        self.below.said.clear()

    def shake(self, sizes: list[int] | None = None) -> None:
        for _ in range(6):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                self.carry(sizes)
                return
            self.carry(sizes)
        raise AssertionError("they never come to an end")

    def read(self) -> bytes:
        found = b""
        try:
            while data := self.client.read(1 << 16):
                found += data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return found

    @settings(max_examples=40)
    @given(st.lists(st.integers(1, 700), min_size=1, max_size=5), st.lists(st.binary(max_size=40000), max_size=3))
    def test_inPieces(self, sizes: list[int], texts: list[bytes]) -> None:
        """
        However it is cut on the way, it arrives as it was said, both ways.
        """
        self.begin()
        self.shake(sizes)
        for text in texts:
            if text:
                self.client.write(text)
            self.carry(sizes)
            self.assertEqual(self.read(), text)
        self.assertEqual((self.echo.heard, self.echo.calls), (b"".join(texts), ["made"]))

    def test_byteByByte(self) -> None:
        """
        Also byte by byte, from the first one on.
        """
        self.shake([1])
        self.client.write(b"ping\n")
        self.carry([1])
        self.assertEqual(self.read(), b"ping\n")

    def test_nothingBeforeTheHandshake(self) -> None:
        """
        Nobody above hears of who shows nothing.
        """
        self.encrypted.data_received(b"ping\n")
        self.assertEqual(self.echo.calls, [])
        self.assertIsInstance(self.encrypted.shaken.exception(), ssl.SSLError)
        self.assertEqual(self.below.calls, ["write_eof"])
        self.encrypted.data_received(b"more")
        self.encrypted.connection_lost(None)
        self.assertEqual(self.echo.calls, [])

    def test_saysWhyItFailed(self) -> None:
        """
        Who is refused gets the alert that says why.
        """
        self.begin(context_for(SITE.pem, Authority("else").sign("urn:site:user:ann")))
        self.shake()
        error = self.assertRaises(ssl.SSLError, self.client.read, 100)
        self.assertIn("UNKNOWN_CA", str(error))
        self.assertEqual(self.echo.calls, [])

    @settings(max_examples=60)
    @given(st.data())
    def test_altered(self, data: st.DataObject) -> None:
        """
        One byte changed on the way: nothing of that is heard, and the connection is over, or waits for the rest.
        """
        self.begin()
        self.shake()
        self.client.write(b"remove_user ann\n")
        said = bytearray(self.outgoing.read())
        at = data.draw(st.integers(0, len(said) - 1))
        said[at] ^= data.draw(st.integers(1, 255))
        self.encrypted.data_received(bytes(said))
        self.assertEqual(self.echo.heard, b"")

    def test_endsInOrder(self) -> None:
        """
        Who says that he ends hears what is said then, and that this was all.
        """
        self.shake()
        self.client.write(b"x")
        self.assertRaises(ssl.SSLWantReadError, self.client.unwrap)
        self.carry()
        self.assertEqual(self.read(), b"xthe end")
        self.assertEqual((self.echo.calls, self.below.calls), (["made", "eof"], ["write_eof"]))
        self.assertFalse(self.encrypted.eof_received())

    def test_cutOff(self) -> None:
        """
        Bytes that just end are no end that somebody meant.
        """
        self.shake()
        self.client.write(b"x")
        self.carry()
        self.encrypted.eof_received()
        self.assertEqual((self.echo.calls, self.below.calls), (["made"], ["abort"]))
        self.encrypted.connection_lost(None)
        self.assertEqual(self.echo.calls, ["made", "lost"])

    def test_pausesWhatIsThereAlready(self) -> None:
        """
        Who wants nothing read gets nothing, also of what came before; all of it when he wants again.
        """
        self.shake()
        self.encrypted.pause_reading()
        self.client.write(b"a" * 50000)
        self.carry()
        self.assertEqual(self.echo.heard, b"")
        self.encrypted.resume_reading()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.assertEqual(len(self.echo.heard), 50000)
        self.assertEqual(self.below.calls, ["pause", "resume"])

    def writer(self) -> Writer:
        """
        Whoever writes in the client's place, the handshake done.
        """
        keys = Path(self.mktemp())
        client = context_for(SITE.pem, ANN)
        client.keylog_filename = str(keys)
        self.begin(client)
        self.shake()
        cipher = self.client.cipher()
        assert cipher is not None
        lines = dict(line.split()[::2] for line in keys.read_text().splitlines() if line.startswith("CLIENT_"))
        return Writer(bytes.fromhex(lines["CLIENT_TRAFFIC_SECRET_0"]), cipher[0])

    def test_newKeys(self) -> None:
        """
        Who takes new keys now and then is heard on; also if that comes in one piece with what he says.
        """
        writer = self.writer()
        for _ in range(50):
            self.encrypted.data_received(writer.new_keys() + writer.say(b"ping\n"))
        self.assertEqual((self.echo.heard, self.echo.calls, self.below.calls), (b"ping\n" * 50, ["made"], []))

    def test_newKeysWithoutEnd(self) -> None:
        """
        Who takes new keys and says nothing is cut after a few, however much of that came at once: each one costs the
        daemon as much as a request.
        """
        writer = self.writer()
        self.encrypted.data_received(b"".join(writer.new_keys() for _ in range(3000)))
        self.assertEqual((self.echo.calls, self.below.calls), (["made"], ["abort"]))
        self.assertLess(len(self.below.said), 3000)

    def test_handshakeWithoutEnd(self) -> None:
        """
        A handshake of thousands of tiny records is cut; one of hundreds is not.
        """
        self.assertRaises(ssl.SSLWantReadError, self.client.do_handshake)
        hello = self.outgoing.read()
        kind, said = hello[:3], hello[5:]
        for size, calls in (3, []), (1, ["write_eof"]):
            self.begin()
            pieces = [said[at : at + size] for at in range(0, len(said), size)]
            self.encrypted.data_received(b"".join(kind + len(one).to_bytes(2, "big") + one for one in pieces))
            self.assertEqual(self.below.calls, calls, len(pieces))

    def test_late(self) -> None:
        """
        Who takes too long is cut.
        """
        encrypted = Encrypted(self.echo, self.context, self.loop, 0.01)
        encrypted.connection_made(self.below)
        self.loop.run_until_complete(asyncio.sleep(0.05))
        self.assertIsInstance(encrypted.shaken.exception(), TimeoutError)
        self.assertEqual(self.below.calls, ["abort"])

    def test_neverBegun(self) -> None:
        """
        One that was given up before there was a socket has nothing to close.
        """
        Encrypted(self.echo, self.context, self.loop, 1.0).abort()
