"""
A host's own certificate, as time passes; what asks another host is a script of the test's.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, Tls
from hostline.server.supervise.spawn import Spawner
from hostline.server.trust.loaded import load
from hostline.server.trust.renewal import Renewal
from tests.certificates import DAY, Authority
from tests.daemons import MemoryDaemon, make
from tests.live.support import until


class RenewalTests(SynchronousTestCase):
    """
    A daemon in memory whose clock is that of the machine; programs are real.
    """

    def setUp(self) -> None:
        self.whole: MemoryDaemon = make(config=evolve(Config(), tls=Tls(listen="127.0.0.1:1", issuer="ca.example")))
        self.daemon = self.whole.daemon
        self.daemon.now = time.time
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.spawner = Spawner(self.loop)
        self.addCleanup(self.spawner.close)
        self.said = Path(self.mktemp())
        self.renewal = self.made('echo "$@" >>' + str(self.said.absolute()))

    def made(self, script: str) -> Renewal:
        program = Path(self.mktemp()).absolute()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return Renewal(self.daemon, self.daemon.tls, self.spawner, lambda: str(program))

    def certify(self, begins_s: float, ends_s: float) -> None:
        site = Authority()
        trust = self.daemon.tls.trust
        site.sign("host.example", begins_s=begins_s, ends_s=ends_s).write(trust.directory, site.pem)
        self.daemon.tls.loaded = load(trust)

    def look(self, renewal: Renewal) -> None:
        renewal.look()
        until(self.loop, lambda: not renewal._busy)
        self.whole.settle()

    def told(self) -> list[str]:
        return [str(one["what"]) for one in self.whole.connect().body("events topic=host")]

    def test_asksTheIssuer(self) -> None:
        """
        The program is asked each time, since it fetches what is revoked too, with the host to ask.
        """
        self.certify(-DAY, 29 * DAY)
        self.look(self.renewal)
        directory = self.daemon.tls.trust.directory
        self.assertEqual(self.said.read_text(), f"ca renew --trust {directory} --timeout 60 --host ca.example\n")
        self.assertEqual((self.renewal.findings(), self.told()), ([], []))

    def test_tellsOnceWhatFails(self) -> None:
        """
        What the program said last is in doctor and is told once, however often it fails; and that it is mended.
        """
        self.certify(-29 * DAY, DAY)
        failing = self.made("echo the issuer is away >&2; exit 1")
        for _ in range(3):
            self.look(failing)
        ((check, ok, detail, remedy),) = failing.findings()
        self.assertEqual((check, ok), ("tls renewal", False))
        self.assertIn("the issuer is away", detail)
        self.assertIn("hostline ca renew", remedy)
        self.assertEqual(self.told(), ["not_renewed"])
        failing._program = self.renewal._program
        self.look(failing)
        self.assertEqual((failing.findings(), self.told()), ([], ["not_renewed", "renewed"]))

    def test_oneAtATime(self) -> None:
        """
        While the program runs it is not started again.
        """
        self.certify(-DAY, DAY)
        slow = self.made(f"sleep 0.2; echo x >>{self.said.absolute()}")
        slow.look()
        slow.look()
        self.look(slow)
        self.assertEqual(self.said.read_text(), "x\n")

    def test_nowhereToAsk(self) -> None:
        """
        A host that knows no issuer says so when its certificate is due, and not before.
        """
        self.daemon.config = evolve(self.daemon.config, tls=Tls(listen="127.0.0.1:1"))
        self.certify(-DAY, 29 * DAY)
        self.look(self.renewal)
        self.assertEqual(self.renewal.findings(), [])
        self.certify(-21 * DAY, 9 * DAY)
        self.look(self.renewal)
        self.assertIn("tls.issuer", self.renewal.findings()[0][2])
        self.assertFalse(self.said.exists())

    def test_noProgram(self) -> None:
        """
        A host without the program says that.
        """
        self.certify(-DAY, DAY)

        def missing() -> str:
            raise FileNotFoundError("there is no program hostline, which renews certificates")

        self.renewal._program = missing
        self.look(self.renewal)
        self.assertIn("no program hostline", self.renewal.findings()[0][2])

    def test_byItsOwnAuthority(self) -> None:
        """
        A host that has the authority renews by that, at two thirds of the certificate's life, and asks nobody.
        """
        asked: list[Any] = []

        class Issuer:
            present = True

            async def renew_own(self) -> None:
                asked.append(None)

        self.daemon.issuer = Issuer()  # type: ignore[assignment]
        self.certify(-19 * DAY, 11 * DAY)
        self.look(self.renewal)
        self.assertEqual(asked, [])
        self.certify(-21 * DAY, 9 * DAY)
        self.look(self.renewal)
        self.assertEqual((asked, self.said.exists()), ([None], False))

    def test_shortLives(self) -> None:
        """
        A certificate is renewed as soon as it is due, though its life is shorter than an hour; what fails is not tried
        again at once, and of a long life within the hour.
        """
        for life, again in ((600.0, 12.0), (30 * DAY, 3600.0)):
            self.whole = make(config=self.daemon.config)
            self.daemon = self.whole.daemon
            now = time.time()
            self.daemon.now = lambda: now  # noqa: B023
            self.said.unlink(missing_ok=True)
            renewal = self.made(f"echo >>{self.said.absolute()}; exit 1")
            self.certify(-0.6 * life, 0.4 * life)
            tries = []
            for step in (0.0, 0.1 * life, again - 1, 2.0):
                now += step
                renewal.round()
                until(self.loop, lambda: not renewal._busy)  # noqa: B023
                tries.append(len(self.said.read_text()) if self.said.exists() else 0)
            self.assertEqual(tries, [0, 1, 1, 2], life)

    def test_signedByAClockAhead(self) -> None:
        """
        A certificate that is not good yet serves nobody: another one is asked for at once.
        """
        self.certify(3 * DAY, 90 * DAY)
        self.renewal.round()
        until(self.loop, lambda: not self.renewal._busy)
        self.assertTrue(self.said.exists())

    def test_notWithoutTls(self) -> None:
        """
        A host that lets nobody in through the network, or has no certificate, does nothing.
        """
        self.renewal.look()
        self.certify(-29 * DAY, DAY)
        self.daemon.config = Config()
        self.renewal.look()
        self.assertFalse(self.renewal._busy or self.said.exists())
