"""
The network of slivers that have one of their own, as drivers use it.

Nothing here is undone when the daemon ends: what runs keeps its network, and the next daemon finds it again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hostline.server import config
from hostline.server.network import bridge, ip, means, naming, shaping
from hostline.server.network.addressbook import AddressBook
from hostline.server.network.bridge import Names, Way
from hostline.server.network.forwarding import Forwarding
from hostline.server.network.ground import Ground
from hostline.server.network.means import Means
from hostline.server.network.plugging import space_of
from hostline.server.network.shaping import Lease, Shown
from hostline.server.network.wiring import Found, Wiring
from hostline.server.supervise.spawn import Spawner, start_time

#: Older than this, what the kernel said last is asked for anew when somebody looks.
FRESH_S = 1.0


class Network:
    """
    Addresses, the bridge, the way out, and what slivers may send.

    @ivar way: where they may go.
    """

    _log = Logger()

    def __init__(
        self,
        settings: config.Network,
        instance: str,
        directory: Path,
        tools: ip.Tools,
        clock: IReactorTime,
        able: Means,
        names: bool = False,
    ) -> None:
        """
        @param directory: C{STATE/network}.
        @param names: whether the host answers slivers that ask for names.
        @param able: what this host can do, as L{find} found.
        """
        subnet = IPv4Network(settings.subnet)
        asked = [IPv4Address(word) for word in _words(settings.dns)]
        self._resolvers = asked or (naming.host_resolvers() if settings.nat else [])
        self.way = Way(
            subnet,
            settings.nat and able.masquerade,
            settings.together,
            tuple(IPv4Network(word) for word in _words(settings.forbidden)),
            tuple(self._resolvers),
            names,
        )
        self._exempt = [IPv4Network(word) for word in _words(settings.exempt)]
        self._settings = settings
        self._able = able
        self._clock = clock
        self._names = Names(instance)
        self._book = AddressBook(directory / "addresses", subnet)
        self._wiring = Wiring(tools, self._names)
        self._ground = Ground(
            tools, self._names, self._book, self.way, self._exempt, settings.rate_kbps * 1000, able,
            Forwarding(directory / "forwarding"),
        )  # fmt: skip
        self._lock = DeferredLock()
        self._parting = DeferredLock()
        self._leaving: set[int] = set()
        self._stuck: dict[int, str] = {}
        self._asked: dict[int, Mapping[str, int]] = {}
        self._shown: dict[int, tuple[Shown | None, Shown | None]] = {}
        self._processes: dict[int, tuple[int, int]] = {}
        self._read_at = float("-inf")
        self._reading = False
        self._closed = False
        self._known: frozenset[int] | None = None

    @classmethod
    async def find(
        cls,
        settings: config.Network,
        instance: str,
        directory: Path,
        spawner: Spawner,
        clock: IReactorTime,
        names: bool = False,
    ) -> tuple[Network | None, str]:
        """
        Find out, by trying, what can be done here. Nothing is changed on the host.

        @param directory: C{STATE/network}.
        @param names: whether the host answers slivers that ask for names.
        @return: what can be used, or None and why not, in words for the operator.
        """
        if not settings.bridge:
            return None, "no network for slivers: network.bridge = false"
        if os.geteuid() != 0:
            return None, "no network for slivers: the daemon does not run as root"
        if wanting := ip.missing():
            return None, f"no network for slivers: install {', '.join(wanting)}"
        tools = ip.Tools(spawner, clock)
        able, why = await means.find_means(tools)
        if able is None:
            return None, why
        routes = await tools.run("ip -j -4 route show table all")
        subnet = IPv4Network(settings.subnet)
        if overlap := bridge.routed(routes.out, subnet, Names(instance).bridge):
            return None, f"no network for slivers: {bridge.in_use(subnet, overlap)}"
        return cls(settings, instance, directory, tools, clock, able, names), ""

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        """
        Make what is missing, put right what is there, and remove what is ours and belongs to no sliver: all, if no
        sliver has an address. The network of slivers that run is not interrupted.

        @param known: every sliver that has a record.
        @param keep_strays: leave those without one alone, and tell of them in L{problems}.
        @raise OSError: if the addresses that were given cannot be read.
        """
        self._book.load()
        self._known = None if keep_strays else frozenset(known)
        self._ground.strays = []
        if not keep_strays:
            for serial in self._book.serials() - set(known):
                self._book.forget(serial)
        await self._stand()
        if keep_strays:
            strays = sorted(self._book.serials() - set(known))
            self._ground.strays = [f"sliver {serial} has no record and keeps its address" for serial in strays]

    async def _stand(self) -> None:
        await self._lock.acquire()
        try:
            if self._closed:
                return
            before = {serial for serial, shown in self._shown.items() if None not in shown}
            self._took(await self._ground.stand(self._known))
            for serial in before:
                lease = self._book.lease(serial)
                if lease is not None and serial in self._asked and None in self._shown.get(serial, ()):
                    outcome = await self._wiring.shape(self._orders(serial, lease), lease.minors)
                    self._heard(serial, outcome.out, lease.minors)
        finally:
            self._lock.release()

    def _took(self, found: Mapping[int, Shown]) -> None:
        self._shown = {}
        for serial, lease in self._book.leases().items():
            first, second = lease.minors
            self._shown[serial] = (found.get(first), found.get(second))
        self._read_at = self._clock.seconds()

    def address(self, serial: int) -> str:
        """
        @return: a sliver's IPv4 address: the same until L{forget}, whatever fails.
        @raise OSError: if it cannot be noted, or none is free.
        """
        return str(self._book.ensure(serial).address)

    def hardware(self, serial: int) -> str:
        """
        @return: the hardware address of a sliver's C{eth0}: the same for ever.
        """
        return self._names.hardware(serial)

    def place(self, serial: int) -> tuple[str, str]:
        """
        @return: a sliver's address with its prefix length, and the way out of its network.
        @raise OSError: as L{address}.
        """
        return f"{self._book.ensure(serial).address}/{self.way.subnet.prefixlen}", str(self._book.gateway)

    async def connect(self, serial: int, pid: int, rspec: Mapping[str, int], *, inside: bool = True) -> list[str]:
        """
        Give the network namespace of a process C{eth0}, an address, a route, and C{lo}. What is so already stays as it
        is: after a restart of the daemon this is called for each sliver that runs.

        @param pid: of a process in the sliver, which has a network namespace of its own.
        @param inside: whether C{eth0} gets the address and the route there; if not, it is only there, up, for somebody
            who takes frames from it.
        @return: what is not as it should be, in words for the user; nothing if all is.
        """
        started = start_time(pid)
        try:
            with _space(pid) as space:
                if self._known is not None:
                    self._known |= {serial}
                self._book.ensure(serial)
                self._asked[serial] = dict(rspec)
                if started is not None:
                    self._processes[serial] = (pid, started[0])
                why = await self._wire(serial, space, inside)
                if why:
                    return [f"no network: {why}"]
                return [] if self._able.tree else await self._shape_own(serial, space, new=True)
        except (OSError, ValueError) as error:
            return [f"no network: {getattr(error, 'strerror', None) or error}"]

    async def _wire(self, serial: int, space: int, inside: bool) -> str:
        if not self._ground.standing:
            await self._stand()
        if not self._ground.standing:
            return self._ground.broken or "the daemon is ending"
        outcome = await self._wire_once(serial, space, inside, new=True)
        if outcome.code == 0:
            return ""
        # Something of it is there already; or something that it hangs on is not, since somebody emptied the tables.
        found = await self._wiring.inspect(serial, space)
        if found is Found.FOREIGN:
            return f"an interface {self._names.end(serial)} is there that is not ours"
        if found is Found.APART:
            await self._wiring.cut(serial)
        if found is Found.ABSENT or outcome.code != 11:
            await self._stand()
        outcome = await self._wire_once(serial, space, inside, new=found is not Found.JOINED)
        return outcome.reason if outcome.code else ""

    async def _wire_once(self, serial: int, space: int, inside: bool, *, new: bool) -> ip.Outcome:
        lease, end = self._book.ensure(serial), self._names.end(serial)
        isolated = self._able.isolated and not self.way.together
        orders = [*self._orders(serial, lease), *shaping.port(end, self._names.shaper, lease)]
        outcome = await self._wiring.wire(
            space,
            bridge.outer(self._names, serial, new=new, isolated=isolated),
            bridge.inner(lease.address, self.way.subnet.prefixlen, self._book.gateway) if inside else bridge.bare(),
            [bridge.admission(self._names, serial, lease.address)] if self._able.guard else [],
            (orders, lease.minors) if self._able.tree else None,
        )
        if self._able.tree and outcome.code == 0:
            self._heard(serial, outcome.out, lease.minors)
        return outcome

    def _orders(self, serial: int, lease: Lease) -> list[str]:
        shown = self._shown.get(serial, (None, None))
        now = {number: one for number, one in zip(lease.minors, shown, strict=True) if one is not None}
        return shaping.classes(self._names.shaper, lease, self._asked[serial], now)

    def _heard(self, serial: int, text: str, numbers: tuple[int, int]) -> None:
        found = shaping.read_classes(text)
        self._shown[serial] = (found.get(numbers[0]), found.get(numbers[1]))

    async def shape(self, serial: int, rspec: Mapping[str, int]) -> list[str]:
        """
        Hold a sliver to what is asked now; it goes on sending.

        @return: what is not as it should be, in words for the user.
        """
        self._asked[serial] = dict(rspec)
        lease = self._book.lease(serial)
        if lease is None:
            return []  # never connected: L{connect} does it
        if self._able.tree:
            return await self._shape_common(serial, lease)
        process = self._processes.get(serial)
        if process is None or (start_time(process[0]) or (0, ""))[0] != process[1]:
            return []  # it has no network any more
        try:
            with _space(process[0]) as space:
                return await self._shape_own(serial, space, new=False)
        except OSError:
            return []

    async def _shape_common(self, serial: int, lease: Lease) -> list[str]:
        outcome = await self._wiring.shape(self._orders(serial, lease), lease.minors)
        if outcome.code:
            await self._stand()  # what is there may not be what we saw last
            outcome = await self._wiring.shape(self._orders(serial, lease), lease.minors)
        self._heard(serial, outcome.out, lease.minors)
        return [f"what it sends is not held to its limits: {outcome.reason}"] if outcome.code else []

    async def _shape_own(self, serial: int, space: int, *, new: bool) -> list[str]:
        if not self._able.own:
            return []
        begin = shaping.own_tree(self._settings.rate_kbps * 1000, self._exempt) if new else []
        orders = [*begin, *shaping.own_classes(self._asked[serial])]
        outcome = await self._wiring.shape_own(space, orders, new=new)
        self._heard(serial, outcome.out, shaping.OWN_MINORS)
        return [f"what it sends is not held to its limits: {outcome.reason}"] if outcome.code else []

    async def read(self) -> None:
        """
        Ask the kernel what slivers are held to; and put right what somebody else has taken away: a C{nft flush
        ruleset}, say, would leave the host open to them.

        Where each sliver has a tree of its own, what it said when that was changed last is kept.
        """
        if self._reading or self._closed:
            return
        self._reading = True
        try:
            found = await self._ground.read()
            if found is None:
                self._log.warn("somebody removed what holds the slivers' network; it is put right")
                await self._stand()
            elif self._able.tree:
                self._took(found)
            self._read_at = self._clock.seconds()
        finally:
            self._reading = False

    def in_force(self, serial: int) -> dict[str, int]:
        """
        What the kernel said at the newest L{read}, L{connect} or L{shape}. If that was over a second ago it is asked
        anew, for the next who looks.

        @return: by resource, in the rspec's units. Where the kernel has what came of the amount that was asked, this
            amount; it holds rates in steps of 8 bit/s. Resources to which a sliver cannot be held here are left out.
        """
        if self._clock.seconds() - self._read_at > FRESH_S and not self._closed:
            self._read_at = self._clock.seconds()
            Deferred.fromCoroutine(self.read()).addErrback(
                lambda failure: self._log.failure("reading what is in force", failure)
            )
        first, second = self._shown.get(serial, (None, None))
        found = shaping.in_force(first, second, self._asked.get(serial, {}))
        if not self._able.tree:
            for name in ("net_min", "net2_min", "net_share"):
                found.pop(name, None)
        return found

    async def forget(self, serial: int) -> None:
        """
        Remove all there is of a sliver's network, and give its address free; with the last sliver, remove all.

        @raise OSError: if something is left; the address stays its own.
        """
        self._leaving.add(serial)
        await self._parting.acquire()
        try:
            if serial in self._leaving:  # else somebody took it along
                leaving, self._leaving = self._leaving, set()
                await self._forget(leaving)
        finally:
            self._parting.release()
        if serial in self._stuck:
            raise OSError(f"its network cannot be removed: {self._stuck[serial]}")

    async def _forget(self, serials: Collection[int]) -> None:
        """
        Remove what there is of all that wait for that, in one go; whose cannot be is noted.
        """
        outcomes = dict.fromkeys(serials, await self._unwire(serials))
        if len(serials) > 1:
            for serial in [serial for serial, outcome in outcomes.items() if outcome.code]:
                outcomes[serial] = await self._unwire([serial])  # no other is to suffer
        for serial, outcome in outcomes.items():
            self._stuck.pop(serial, None)
            if outcome.code:
                self._stuck[serial] = outcome.reason
                continue
            self._book.forget(serial)
            self._asked.pop(serial, None)
            self._shown.pop(serial, None)
            self._processes.pop(serial, None)
            if self._known is not None:
                self._known -= {serial}
        if not self._book.serials():
            await self._stand()  # nobody stands on it

    async def _unwire(self, serials: Collection[int]) -> ip.Outcome:
        leases, means = {serial: self._book.lease(serial) for serial in serials}, self._able
        outcome = await self._wiring.unwire(leases, shared=means.tree, guarded=means.guard)
        if outcome.code == 14:  # our table is gone, so put it right; what is not in it need not be removed
            await self._stand()
            outcome = await self._wiring.unwire(leases, shared=means.tree, guarded=means.guard)
        return outcome

    def names(self, serial: int, name: str) -> str:
        """
        @return: a text for a sliver's C{/etc/hosts}.
        """
        lease = self._book.lease(serial)
        return naming.hosts(name, lease.address if lease else None)

    def dns(self) -> str:
        """
        @return: a text for slivers' C{/etc/resolv.conf}: the host itself if it answers; then the resolvers of the
            configuration, else the host's but for those on loopback; none where there is no way out.
        """
        return naming.resolv_conf([*([self._book.gateway] if self.way.names else []), *self._resolvers])

    def problems(self) -> list[str]:
        """
        @return: what slivers' network lacks on this host, in words for the operator.
        """
        found = [*self._able.problems(), *self._ground.problems()]
        if self._settings.nat and not self._able.masquerade:
            found.append("slivers cannot go out: this kernel's nftables have no masquerade")
        if self.way.out and not self._resolvers:
            found.append("slivers have no resolver: the host's are on loopback; set network.dns")
        return found

    def close(self) -> None:
        """
        Start nothing more; every sliver keeps its network.
        """
        self._closed = True


@contextmanager
def _space(pid: int) -> Iterator[int]:
    """
    As L{space_of}.

    @raise OSError: also if it has none of its own.
    """
    with space_of(pid) as (fd, hosted):
        if hosted:
            raise OSError(f"process {pid} is in the host's own network namespace")
        yield fd


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
