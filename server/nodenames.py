"""
Names of nodes for whoever asks by DNS: C{node.experiment.project} is the node's address on the control network.

Names and addresses tell that something exists. A sliver is answered for its own project only: of any other it hears
what it would hear if there was none. Whoever else reaches the address in C{experiments.dns} is answered for all, so it
should be one that only those reach who may know.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

from twisted.logger import Logger
from twisted.names import dns
from twisted.names.server import DNSServerFactory

from hostline.protocol.endpoints import split_endpoint
from hostline.protocol.errors import BadValue
from hostline.server.config import Config
from hostline.server.drivers.driver import Status
from hostline.server.host import Host
from hostline.server.nametalk import Connection, Datagrams
from hostline.server.records import Experiment, Project, Sliver

#: Seconds for which an answer may be kept: a node that is made anew may get another address.
TTL_S = 5
PORT = 53
_IP_FREEBIND = 15


class NodeNames:
    """
    Knows the answers.
    """

    def __init__(
        self,
        host: Host,
        statuses: Callable[[int], Status | None],
        subnet: IPv4Network,
        seconds: Callable[[], float],
    ) -> None:
        """
        @param statuses: what is so of a sliver, by its serial.
        @param subnet: that of slivers' control network.
        """
        self._host = host
        self._statuses = statuses
        self._subnet = subnet
        self._seconds = seconds
        self._nodes: dict[int, tuple[Mapping[str, int], dict[str, int]]] = {}
        self._projects: dict[str, int] = {}
        self._looked: tuple[int, float] = (-1, 0.0)

    def answer(self, name: str, kind: int, peer: str) -> tuple[int, str | None]:
        """
        @param name: what is asked for, with or without a dot at its end, in any case.
        @param kind: L{dns.A} and so on.
        @param peer: the address of who asks.
        @return: the code of the reply, and an IPv4 address if there is one to tell.
        """
        labels = name.rstrip(".").lower().split(".")
        project = self._host.spelt(Project, labels[-1])
        own = self._project_at(peer)
        if project is None or (own is not None and project.serial != own):
            return dns.EREFUSED, None
        if len(labels) == 1:
            return dns.OK, None
        experiment = self._host.spelt(Experiment, f"{labels[-1]}/{labels[-2]}")
        if experiment is None or len(labels) > 3:
            return dns.ENAME, None
        if len(labels) == 2:
            return dns.OK, None
        serial = self._folded(experiment).get(labels[0])
        status = self._statuses(serial) if serial is not None else None
        if serial is None:
            return dns.ENAME, None
        found = status.address if status is not None and kind in (dns.A, dns.ALL_RECORDS) else None
        return dns.OK, found

    def _folded(self, experiment: Experiment) -> dict[str, int]:
        known = self._nodes.get(experiment.serial)
        if known is None or known[0] is not experiment.slivers:
            if len(self._nodes) > 1000:
                self._nodes.clear()
            folded = {node.lower(): serial for node, serial in experiment.slivers.items()}
            known = self._nodes[experiment.serial] = experiment.slivers, folded
        return known[1]

    def _project_at(self, peer: str) -> int | None:
        """
        @return: serial of the project of the sliver that has this address, -1 if nobody knows whose it is; None if it
            is no sliver's.
        """
        try:
            address = IPv4Address(peer.removeprefix("::ffff:"))
        except AddressValueError:
            return None
        if address not in self._subnet or address == self._subnet[1]:
            return None
        now = self._seconds()
        if self._looked[0] != self._host.generation and now - self._looked[1] >= 1.0:
            self._looked = self._host.generation, now
            self._projects = {}
            for sliver in self._host.slivers_by_serial.values():
                status = self._statuses(sliver.serial)
                if status is not None and status.address is not None:
                    self._projects[status.address] = self._project_of(sliver)
        return self._projects.get(str(address), -1)

    def _project_of(self, sliver: Sliver) -> int:
        if sliver.free:
            return sliver.project or -1
        experiment = self._host.experiments_by_serial.get(sliver.experiment)
        return experiment.project if experiment is not None else -1


class NameServer(DNSServerFactory):
    """
    Answers by DNS what L{NodeNames} knows, and nothing else: who asks for other names is refused, and asks elsewhere.
    """

    noisy = False
    protocol = Connection

    def __init__(self, names: NodeNames, reactor: Any = None) -> None:
        """
        @param reactor: the clock of connections.
        """
        super().__init__()
        self._names = names
        self._reactor = reactor

    def buildProtocol(self, addr: Any) -> Connection:
        made = Connection(self, self._reactor)
        made.factory = self
        return made

    def handleQuery(self, message: dns.Message, protocol: Any, address: tuple[str, int] | None) -> None:
        peer = address[0] if address is not None else str(getattr(protocol.transport.getPeer(), "host", ""))
        code, found, answers = dns.EREFUSED, None, []
        if len(message.queries) == 1 and message.queries[0].cls in (dns.IN, dns.ANY):
            query = message.queries[0]
            code, found = self._names.answer(query.name.name.decode("ascii", "replace"), query.type, peer)
            if found is not None:
                payload = dns.Record_A(found, TTL_S)
                answers = [dns.RRHeader(query.name.name, dns.A, dns.IN, TTL_S, payload, auth=True)]
        self.sendReply(protocol, self._responseFromMessage(message, rCode=code, answers=answers), address)


class NameService:
    """
    Where it is answered: at the configured address, and for slivers at the host's own in their network.
    """

    _log = Logger()

    def __init__(self, names: NodeNames, reactor: Any) -> None:
        self._factory = NameServer(names, reactor)
        self._reactor = reactor
        self._ports: list[Any] = []
        self.problems: list[str] = []

    def open(self, host: str, port: int, *, early: bool = False) -> None:
        """
        Answer here from now on; what cannot be is in C{problems}.

        @param host: an address.
        @param early: the address may not be there yet.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(family, kind) as ours:
                    ours.setblocking(False)
                    if kind == socket.SOCK_STREAM:
                        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if early:
                        ours.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
                    ours.bind((host, port))
                    if kind == socket.SOCK_STREAM:
                        ours.listen(50)
                        self._ports.append(self._reactor.adoptStreamPort(ours.fileno(), family, self._factory))
                    else:
                        protocol = Datagrams(self._factory, self._reactor)
                        self._ports.append(self._reactor.adoptDatagramPort(ours.fileno(), family, protocol))
        except (OSError, UnicodeError) as error:
            why = f"names are not answered at {host} port {port}: {getattr(error, 'strerror', None) or error}"
            self.problems.append(why)
            self._log.warn("{why}", why=why)

    def open_all(self, config: Config) -> None:
        """
        Answer wherever the configuration says; slivers, too, if anybody is answered.
        """
        if not config.experiments.dns:
            return
        try:
            host, port = split_endpoint(config.experiments.dns, PORT)
        except BadValue as error:
            self.problems.append(f"experiments.dns: {error}")
            return
        self.open(host, port)
        of_slivers = str(IPv4Network(config.network.subnet)[1])
        if config.network.bridge and os.geteuid() == 0 and host not in ("0.0.0.0", "::", of_slivers):
            self.open(of_slivers, PORT, early=True)

    @property
    def addresses(self) -> list[Any]:
        """
        @return: where it is answered.
        """
        return [port.getHost() for port in self._ports]

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        What C{doctor} says of names; nothing if they are not asked for.
        """
        if not self._ports and not self.problems:
            return []
        said = "; ".join(self.problems) or "names of nodes are answered"
        return [("names", not self.problems, said, "set experiments.dns to an address and a port of this host's own")]

    def close(self) -> None:
        """
        Answer nobody any more.
        """
        for port in self._ports:
            port.stopListening()
        self._ports.clear()
