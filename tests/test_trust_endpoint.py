"""
Where it is listened, and what is said of it before anything is opened.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from pathlib import Path
from unittest import mock

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadValue, TooMany
from hostline.server.config import BadConfig, Config, Tls, read_config
from hostline.server.trust.entrance import listen
from hostline.server.trust.visit import EnrolVisit, Visit
from tests.certificates import Authority
from tests.daemons import make
from tests.needs import needs_kernel


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


class ListenTests(SynchronousTestCase):
    """
    Addresses of this host.
    """

    def reached(self, listening: socket.socket, host: str) -> bool:
        with socket.create_connection((host, listening.getsockname()[1]), 5):
            listening.accept()[0].close()
            return True

    def listen(self, host: str) -> socket.socket:
        found = listen(host, 0)
        self.addCleanup(found.close)
        return found

    def test_ipv4(self) -> None:
        """
        An address of IPv4 is reached by that.
        """
        self.assertTrue(self.reached(self.listen("127.0.0.1"), "127.0.0.1"))

    @needs_kernel(_has_ipv6(), "this kernel has no IPv6")
    def test_both(self) -> None:
        """
        C{[::]} is reached by IPv6 and by IPv4.
        """
        listening = self.listen("::")
        self.assertTrue(self.reached(listening, "::1") and self.reached(listening, "127.0.0.1"))

    def test_noName(self) -> None:
        """
        A name would have to be asked for, and is refused.
        """
        self.assertRaises(BadValue, listen, "localhost", 0)

    def test_taken(self) -> None:
        """
        A port that is taken is told by the kernel's reason.
        """
        port = self.listen("127.0.0.1").getsockname()[1]
        self.assertEqual(self.assertRaises(OSError, listen, "127.0.0.1", port).errno, errno.EADDRINUSE)


class ConfigTests(SynchronousTestCase):
    """
    What may stand in the configuration.
    """

    def test_places(self) -> None:
        """
        Addresses with and without a port are taken; names, ports that are none and other nonsense are refused by key.
        """
        for good in ("[::]", "0.0.0.0:7000", "192.0.2.7", "[2001:db8::7]:1", "::1", ""):
            Tls(listen=good, enrol=good)
        path = Path(self.mktemp())
        for bad in ("localhost", "host.example:6446", "0.0.0.0:0", "0.0.0.0:99999", "[::]:x", ":6446", "/run/x"):
            path.write_text(f'[tls]\nenrol = "{bad}"\n')
            self.assertIn("enrol: want", str(self.assertRaises(BadConfig, read_config, path)))


class EndpointTests(SynchronousTestCase):
    """
    A daemon in memory, with the endpoint's sockets on a loop that never runs.
    """

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.whole = make(config=evolve(Config(), tls=Tls(listen=f"127.0.0.1:{self.port}")))
        self.daemon = self.whole.daemon
        self.daemon.now = time.time
        self.daemon.loop = asyncio.new_event_loop()
        self.addCleanup(self.daemon.loop.close)
        self.tls = self.daemon.tls
        self.addCleanup(self.tls.close)

    def certify(self) -> None:
        site = Authority()
        site.sign("host.example").write(self.tls.trust.directory, site.pem)

    def test_nothingIsOpenedBefore(self) -> None:
        """
        Files and ports are left alone until the daemon serves, whatever is reloaded before.
        """
        self.certify()
        self.tls.reload()
        self.assertEqual((self.tls.listening, self.tls.loaded), (False, None))

    def test_notSet(self) -> None:
        """
        Doctor says that nobody comes in through the network, and that this is well.
        """
        self.daemon.config = Config()
        self.tls.open()
        ((check, ok, detail, _),) = self.tls.findings()
        self.assertEqual((check, ok), ("tls", True))
        self.assertIn("tls.listen is not set", detail)

    def test_opens(self) -> None:
        """
        With its files it listens, says where, and stops when it is closed.
        """
        self.tls.open()
        self.assertFalse(self.tls.findings()[0][1])
        self.certify()
        self.tls.look()
        self.assertEqual(self.tls.places, {"listen": f"127.0.0.1:{self.port}"})
        self.assertEqual([ok for _, ok, _, _ in self.tls.findings()], [True] * 4)
        socket.create_connection(("127.0.0.1", self.port), 5).close()
        self.tls.close()
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", self.port), 5)

    def test_looksOnlyAtWhatChanged(self) -> None:
        """
        Files that stay as they are are not read again; each that changes is.
        """
        self.certify()
        self.tls.open()
        first = self.tls.loaded
        self.tls.look()
        self.assertIs(self.tls.loaded, first)
        self.tls.trust.write("crl.pem", b"spoilt")
        self.tls.look()
        self.assertIs(self.tls.loaded, first)
        self.assertIn("crl.pem", self.tls.findings()[0][2])
        self.tls.trust.crl.unlink()
        self.tls.look()
        self.assertIsNot(self.tls.loaded, first)
        self.assertTrue(self.tls.findings()[0][1])

    def test_portIsNoLongerSet(self) -> None:
        """
        While it still listens where it was once told to, it is looked after.
        """
        self.certify()
        self.tls.open()
        first = self.tls.loaded
        self.daemon.config = Config()
        self.tls.reload()
        self.assertIsNot(self.tls.loaded, first)
        self.assertIn(f"127.0.0.1:{self.port}", self.tls.findings()[0][2])


class EnrolTests(SynchronousTestCase):
    """
    Who comes without a certificate.
    """

    def test_fewFromOneSite(self) -> None:
        """
        Who has a whole network of IPv6 for his host is one, whichever of its addresses he comes from; and nobody else.
        """
        daemon, visits = make().daemon, set[Visit]()
        socket_ = mock.Mock()
        for at in range(4):
            visits.add(EnrolVisit(daemon, f"2001:db8::{at}", visits))
        for address in ("2001:db8::ffff:7", "2001:db8::1"):
            self.assertRaises(TooMany, EnrolVisit(daemon, address, visits)._find, socket_)
        for address in ("2001:db8:0:1::1", "192.0.2.1"):
            self.assertEqual(EnrolVisit(daemon, address, visits)._find(socket_).via, "enrol")
