"""
This host's own certificate, renewed when two thirds of its life are over: by the site's authority, if that is here;
else by C{hostline ca renew}, which asks the host that has it, and fetches what is revoked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hostline.protocol.errors import HostError, StoreFailed
from hostline.protocol.trust import ISSUER
from hostline.server.supervise.running import run
from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Spawner
from hostline.server.trust.endpoint import Endpoint
from hostline.server.trust.loaded import Loaded

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: How much of its life may pass before it is renewed.
DUE = 2 / 3
#: Seconds after which it is tried again where nothing came of it, at the most; and the part of a short life that it is.
_AGAIN_S, _AGAIN_PART = 3600, 1 / 50
#: Seconds that asking another host may take.
_ASK_S = 60


class Renewal:
    """
    Looks when it is told to.

    @ivar trouble: why the last time nothing came of it; empty if something did.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, tls: Endpoint, spawner: Spawner | None, program: Callable[[], str]) -> None:
        """
        @param spawner: starts the program; without one, only an authority that is here renews.
        @param program: finds C{hostline}.
        """
        self._daemon = daemon
        self._tls = tls
        self._spawner = spawner
        self._program = program
        self._busy = False
        self._looked = 0.0
        self.trouble = ""

    def round(self) -> None:
        """
        Do so as soon as the certificate is due, however short its life is.
        """
        loaded, now = self._tls.loaded, self._daemon.now()
        if loaded is None or not _is_due(loaded, now):
            return
        if abs(now - self._looked) >= min(_AGAIN_S, (loaded.ends - loaded.begins) * _AGAIN_PART):
            self.look()

    def look(self) -> None:
        """
        Begin to do what is due, unless it is being done.
        """
        config = self._daemon.config.tls
        if self._busy or not (config.listen or config.enrol) or self._tls.trust.missing():
            return
        self._busy = True
        self._looked = self._daemon.now()
        Deferred.fromCoroutine(self._do()).addErrback(lambda failure: self._log.failure("renewal", failure))

    async def _do(self) -> None:
        try:
            await self._renew()
        except (HostError, OSError) as error:
            self._tell(str(error))
        else:
            self._tell("")
        finally:
            self._busy = False

    async def _renew(self) -> None:
        daemon, trust = self._daemon, self._tls.trust
        loaded = self._tls.loaded
        due = loaded is not None and _is_due(loaded, daemon.now())
        if daemon.issuer.present:
            if due:
                await daemon.issuer.renew_own()
            return
        issuer = daemon.config.tls.issuer
        if self._spawner is None or not (issuer or trust.has(ISSUER)):
            if due:
                raise HostError("nothing says where to renew it: set tls.issuer")
            return
        host = ["--host", issuer] if issuer else []
        words = [self._program(), "ca", "renew", "--trust", str(trust.directory), "--timeout", str(_ASK_S), *host]
        await run(self._spawner, "timeout", "-k", "5", str(3 * _ASK_S), *words)
        self._tls.look()

    def _tell(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        if trouble == before:
            return
        change = self._daemon.host.change(self._daemon.now())
        if trouble:
            self._log.error("this host's certificate was not renewed: {trouble}", trouble=trouble)
            change.tell("host", "not_renewed", reason=trouble)
        else:
            change.tell("host", "renewed")
        self._daemon.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        @return: what C{doctor} says: what was looked at, whether it is well, detail and remedy.
        """
        if not self.trouble:
            return []
        remedy = "mend what it says; within the hour it is tried again, or: hostline ca renew --trust STATE/trust"
        return [("tls renewal", False, f"the last time nothing came of it: {self.trouble}", remedy)]


def _is_due(loaded: Loaded, now: float) -> bool:
    """
    Whether it is time; also if it is not good yet, for it was signed by a clock that was ahead.
    """
    return now < loaded.begins or now >= loaded.begins + (loaded.ends - loaded.begins) * DUE


def beside_us() -> str:
    """
    @return: the program C{hostline} that is installed with this daemon.
    @raise FileNotFoundError: if there is none.
    """
    beside = Path(sys.executable).parent / "hostline"
    found = str(beside) if beside.exists() else which("hostline", path=PATH)
    if found is None:
        raise FileNotFoundError("there is no program hostline, which renews certificates")
    return found
