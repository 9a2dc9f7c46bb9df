"""
The way in through the network: its ports, whom its files let in, and what of that doctor tells.

Whatever is wrong with certificates, files or ports, the host's own socket goes on; it is looked again every few
seconds whether something has changed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.logger import Logger

from hostline.protocol.endpoints import CALLS_PORT, ENROL_PORT, TLS_PORT, split_endpoint
from hostline.protocol.errors import BadValue, Denied
from hostline.server.credentials import Certificate
from hostline.server.facades.emulab import answer
from hostline.server.facades.web import WebConnection
from hostline.server.trust import peer
from hostline.server.trust.entrance import Entrance, listen
from hostline.server.trust.files import BadTrust, Trust, stamp
from hostline.server.trust.handshakes import Handshakes
from hostline.server.trust.loaded import Loaded, findings, load
from hostline.server.trust.peer import Shown
from hostline.server.trust.visit import EnrolVisit, Visit

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: What is told of handshakes that come to nothing: so many lines at once, then one each time so many seconds have
#: passed; anybody can make them.
_TOLD, _TOLD_EACH_S = 20, 5.0
#: Who comes to which of the ports.
_WHO = {
    "listen": "with a certificate",
    "emulab": "with a certificate, who speak XML-RPC,",
    "enrol": "without one, who have a token,",
}
_REMEDY = "mend what it says; it is tried again every few seconds, and the host's own socket is not affected"


class Endpoint:
    """
    All of it. Nothing is read or opened before L{open}.

    @ivar trust: the files.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        """
        @param directory: of trust.
        """
        self._daemon = daemon
        self.trust = Trust(directory)
        self.loaded: Loaded | None = None
        self._visits: set[Visit] = set()
        self._strangers: set[Visit] = set()
        self._handshakes = Handshakes(lambda: daemon.config.tls)
        self._entrances: dict[str, Entrance] = {}
        self._troubles: dict[str, str] = {}
        self._stamp: object = None
        self._open = False
        self._tellings = float(_TOLD)
        self._told_at = 0.0
        self._untold = 0

    @property
    def listening(self) -> bool:
        """
        Whether those with a certificate can come in.
        """
        return "listen" in self._entrances

    def open(self) -> None:
        """
        Begin, as far as the files let us.
        """
        self._open = True
        self.reload()

    def close(self) -> None:
        """
        Let nobody in any more, and cut those who are in.
        """
        self._open = False
        for entrance in self._entrances.values():
            entrance.close()
        self._entrances.clear()
        for visit in [*self._visits, *self._strangers]:
            visit.cut()

    def reload(self) -> None:
        """
        Read the files anew; whoever is not to be believed any more is cut at once.
        """
        self._stamp = None
        self.look()

    def look(self) -> None:
        """
        Look whether something has changed: files, ports, or the hour.
        """
        tls, calls = self._daemon.config.tls, self._daemon.config.emulab.listen
        if not self._open or not (tls.listen or tls.enrol or calls or self._entrances):
            return
        now = (self.trust.stamp(), stamp(*(Path(one) for one in (tls.roots_file, tls.crl_file) if one)), tls)
        if now != self._stamp:
            self._stamp = now
            self._load()
        if self.loaded is not None:
            self._listen("listen", tls.listen, TLS_PORT, self._visit)
            self._listen("enrol", tls.enrol, ENROL_PORT, self._enrol_visit)
            self._listen("emulab", calls, CALLS_PORT, self._visit, self._calls_of)
        self._cut()

    def _load(self) -> None:
        tls = self._daemon.config.tls
        try:
            self.loaded = load(self.trust, tls.roots_file, tls.crl_file, self.loaded)
        except (BadTrust, OSError) as error:
            self._trouble("files", str(error))
        else:
            self._trouble("files", "")

    def _listen(
        self,
        which: str,
        where: str,
        port: int,
        make: Callable[[str], Visit],
        around: Callable[[Visit], asyncio.Protocol] = lambda visit: visit,
    ) -> None:
        if not where or which in self._entrances:
            return
        try:
            listening = listen(*split_endpoint(where, port))
        except (BadValue, OSError) as error:
            said = error.message if isinstance(error, BadValue) else error.strerror or str(error)
            self._trouble(which, f"cannot listen at {where}: {said}")
            return
        self._trouble(which, "")
        self._entrances[which] = Entrance(
            listening,
            self._daemon.loop,
            self._handshakes,
            lambda: self._daemon.config.tls.handshake_s,
            lambda: self._context(which),
            make,
            self._failed,
            around,
        )
        self._log.info("those {who} come in at {where}", who=_WHO[which], where=self._entrances[which].place)
        self._daemon.host.touched()  # hello says so

    def _context(self, which: str) -> ssl.SSLContext:
        assert self.loaded is not None, "nobody listens before"
        return self.loaded.enrol if which == "enrol" else self.loaded.context

    def _trouble(self, about: str, said: str) -> None:
        if said and said != self._troubles.get(about):
            self._log.error("tls: {said}", said=said)
        if said:
            self._troubles[about] = said
        else:
            self._troubles.pop(about, None)

    @property
    def places(self) -> dict[str, str]:
        """
        Where it is listened, C{ADDRESS:PORT} by C{listen}, C{enrol} and C{emulab}.
        """
        return {which: entrance.place for which, entrance in self._entrances.items()}

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        @return: what C{doctor} says of all this: what was looked at, whether it is well, detail and remedy.
        """
        tls, calls = self._daemon.config.tls, self._daemon.config.emulab.listen
        if not (tls.listen or tls.enrol or calls or self._entrances):
            return [("tls", True, "nobody comes in through the network: tls.listen is not set", "")]
        places = [f"those {_WHO[which]} come in at {place}" for which, place in self.places.items()]
        if self.listening:
            places.append(f"{len(self._visits)} are here")
        missing = self.trust.missing()
        troubles = list(self._troubles.values())
        if missing and not self._entrances:
            troubles = [f"nobody can come in through the network: {self.trust.directory} has no {', '.join(missing)}"]
        remedy = _REMEDY
        if missing:
            remedy = "hostline ca init, on the host that is to have the site's authority; on others hostline ca enrol"
        found = [("tls", not troubles, "; ".join(troubles + places), remedy)]
        if self.loaded is not None:
            found += findings(self.loaded, self._daemon.now())
        return found

    # Who comes.

    def _visit(self, address: str) -> Visit:
        return Visit(self._daemon, address, self._visits, lambda shown: self._admit(shown, address))

    def _calls_of(self, visit: Visit) -> asyncio.Protocol:
        return WebConnection(self._daemon, visit, answer)

    def _enrol_visit(self, address: str) -> Visit:
        return EnrolVisit(self._daemon, address, self._strangers)

    def _admit(self, shown: Shown, address: str) -> None:
        why = self._why_not(shown)
        if why is None and len(self._daemon.host.by_names(shown.names)) > 1:
            why = "the certificate has names of two users: want one that is of one"
        if why is not None:
            self._failed(address, f"{why} (number {shown.number}, {', '.join(shown.names)[:200]})")
            raise Denied(why)

    def _why_not(self, shown: Shown) -> str | None:
        assert self.loaded is not None, "nobody came before"
        if shown.root and shown.root not in self.loaded.authorities:
            return "the certificate's authority is not believed any more"
        record = self._daemon.host.get(Certificate, shown.number)
        if record is not None and record.revoked:
            return "the certificate is revoked"
        return peer.why_not(shown, self.loaded.revoked, self._daemon.now())

    def _cut(self) -> None:
        for visit in list(self._visits):
            why = self._why_not(visit.shown) if visit.shown is not None else None
            if why is not None and visit.shown is not None:
                self._log.warn(
                    "a connection of {name} from {address} is cut: {why} (number {number})",
                    name=visit.shown.names[0],
                    address=visit.address,
                    why=why,
                    number=visit.shown.number,
                )
                visit.cut()

    def _failed(self, address: str, why: str) -> None:
        now = self._daemon.loop.time()
        self._tellings = min(_TOLD, self._tellings + (now - self._told_at) / _TOLD_EACH_S)
        self._told_at = now
        if self._tellings < 1:
            self._untold += 1
            return
        self._tellings -= 1
        untold, self._untold = self._untold, 0
        self._log.info(
            "nobody came in from {address}: {why}{more}",
            address=address,
            why=why,
            more=f" (and {untold} times more)" if untold else "",
        )
