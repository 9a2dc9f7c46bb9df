"""
The links of the experiments on this host: laid when their first node is plugged in, gone with the last.

Nothing here is undone when the daemon ends: links go on as they are, and the next daemon finds them again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hostline.server.drivers.driver import Interface
from hostline.server.network import fabric, inner, ip, laying, link_means, plugging
from hostline.server.network.fabric import Able, Fabric, Link, Names
from hostline.server.network.filters import Filters
from hostline.server.network.inner import Inside
from hostline.server.network.laying import Orders
from hostline.server.network.link_ground import BRIDGED, LinkGround
from hostline.server.network.plugging import Work
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.spawn import Spawner

#: Whose wirefilters are where nobody says.
NOBODY = 65534


class Links:
    """
    Lays them, puts nodes on them, and looks after them. L{hostline.server.drivers.wires.Wires} for drivers.

    @ivar able: what this host can do for links.
    @ivar strays: what was found of slivers without a record, and left alone, in words.
    """

    _log = Logger()

    def __init__(self, instance: str, tools: ip.Tools, able: Able, filters: Filters | None = None) -> None:
        """
        @param filters: for what the kernel cannot; None if there are none.
        """
        self._filters = filters
        self.able = able
        self.strays: list[str] = []
        self._names = Names(instance)
        self._ground = LinkGround(tools, self._names, able, filters.uid if filters is not None else 0)
        self._wanted: dict[str, Link] = {}
        self._ending: set[str] = set()
        self._at: dict[tuple[int, str], str] = {}
        self._on: dict[str, set[tuple[int, str]]] = {}
        self._laid: dict[str, set[str]] = {}
        self._dirty: set[str] = set()
        self._leaving: set[int] = set()
        self._stuck: dict[int, str] = {}
        self._broken: dict[str, str] = {}
        self._lock = DeferredLock()
        self._closed = False

    @classmethod
    async def find(
        cls,
        instance: str,
        spawner: Spawner,
        clock: IReactorTime,
        *,
        run: Path | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        uid: int = NOBODY,
        cgroups: Cgroups | None = None,
    ) -> tuple[Links | None, str]:
        """
        Find out, by trying, what can be done here. Nothing is changed on the host.

        @param run: C{RUN}; without it, and a loop, there is no wirefilter.
        @param uid: what its processes have, which should be nobody else's.
        @param cgroups: for them; by the serials of experiments.
        @return: what can be used, or None and why not, in words for the operator.
        """
        if os.geteuid() != 0:
            return None, "no links: the daemon does not run as root"
        if wanting := ip.missing():
            return None, f"no links: install {', '.join(wanting)}"
        tools = ip.Tools(spawner, clock)
        able, why = await link_means.find_able(tools)
        if able is None:
            return None, why
        if run is None or loop is None or able.netem or not able.wirefilter:
            return cls(instance, tools, evolve(able, wirefilter=False)), ""
        return cls(instance, tools, able, Filters(instance, run, spawner, loop, clock, uid, cgroups)), ""

    # What should be.

    def tell(self, links: Mapping[str, Link | None]) -> None:
        """
        Say what links should be; those that are laid are changed as they are.

        @param links: by name; None: there is to be none any more. Members that have a port then keep it until they are
            unplugged.
        """
        for name, link in links.items():
            if link is None:
                self._ending.add(name)
                if not self._on.get(name):
                    self._forget(name)
            else:
                self._ending.discard(name)
                if self._wanted.get(name) != link:
                    self._wanted[name] = link
                    if self._on.get(name):
                        self._dirty.add(name)
        if self._dirty and not self._closed:
            Deferred.fromCoroutine(self.settle()).addErrback(
                lambda failure: self._log.failure("changing links", failure)
            )

    def _forget(self, name: str) -> None:
        self._ending.discard(name)
        self._wanted.pop(name, None)
        self._broken.pop(name, None)
        self._dirty.discard(name)

    def shaped_by(self, name: str) -> str | None:
        """
        @param name: as in L{Link}.
        @return: C{tbf}, C{wirefilter} or C{netem}; None if it is not shaped, or not there.
        """
        link = self._wanted.get(name)
        return fabric.shaped_by(link, self.able) if link is not None and self._on.get(name) else None

    def problems(self) -> list[str]:
        """
        @return: what is not as it should be, in words for the operator.
        """
        trap = []
        if self._ground.is_shut():
            trap = [
                "this host's firewall drops what it passes on and is asked about bridges, so that nodes may not reach "
                f"each other: set {'.'.join(BRIDGED.parts[3:])} = 0"
            ]
        of_filters = self._filters.problems() if self._filters is not None else []
        return [
            *(f"link {name}: {why}" for name, why in sorted(self._broken.items())),
            *self.strays,
            *of_filters,
            *trap,
        ]

    # What drivers ask for.

    async def plug(
        self,
        serial: int,
        pid: int,
        interfaces: Sequence[Interface],
        routes: Sequence[tuple[str, str]],
        *,
        forwards: bool,
        inside: bool = True,
    ) -> list[str]:
        """
        As in L{hostline.server.drivers.wires.Wires}.
        """
        problems, sound = [], []
        for one in interfaces:
            why = inner.refusal(one)
            if not why and (one.link not in self._wanted or self._member(serial, one) is None):
                why = f"{one.name}: there is no such link, or it is not on it"
            problems += [f"no link: {why}"] if why else []
            sound += [] if why else [one]
        await self._lock.acquire()
        try:
            with plugging.space_of(pid) as (space, hosted):
                if hosted and not all(getattr(self._member(serial, one), "embedded", False) for one in sound):
                    return [f"no links: process {pid} is in the host's own network namespace"]
                work = Work(serial, space, hosted, tuple(sound), tuple(routes), forwards, inside)
                problems += await self._plug(work)
        except (OSError, ValueError) as error:
            return [*problems, f"no links: {getattr(error, 'strerror', None) or error}"]
        finally:
            self._lock.release()
        for one in sound:
            problems += await self._filtered(serial, one)
        return problems

    async def _filtered(self, serial: int, one: Interface) -> list[str]:
        # Without the lock: it takes a while, and others need not wait.
        key = serial, one.name
        if self._at.get(key) != one.link or not (why := await self._filter(one.link, self._part(key))):
            return []
        return [f"{one.name}: {why}"] if self._at.get(key) == one.link else []

    def _member(self, serial: int, one: Interface) -> fabric.Member | None:
        link = self._wanted.get(one.link)
        return next((m for m in link.members if m.key == (serial, one.name)), None) if link is not None else None

    async def _plug(self, work: Work) -> list[str]:
        if self._closed:
            return ["no links: the daemon is ending"]
        if not work.interfaces and not any(key[0] == work.serial for key in self._at):
            return []
        before = {key: name for key, name in self._at.items() if key[0] == work.serial}
        # What never had a port of ours has nothing of ours inside; if that is not so, an order fails.
        fresh = not before and not work.hosted and not self._ground.seen.ours.keys() & set(self._ends(work))
        for one in work.interfaces:
            self._put((work.serial, one.name), one.link)
        gone = before.keys() - {(work.serial, one.name) for one in work.interfaces}
        outcome, found = await self._plug_once(work, gone, fresh=fresh)
        if outcome.code:
            # Something of it is there already, or something that it hangs on is not: somebody else was at it.
            await self._ground.look()
            for name in sorted(self._needed(work) & self._ground.seen.foreign):
                return [f"no links: an interface {name} is there that is not ours"]
            outcome, found = await self._plug_once(work, gone)
        await self._leave(gone)
        return [*found.problems, *([f"no links: {outcome.reason}"] if outcome.code else [])]

    async def _filter(self, name: str, part: Fabric) -> str:
        """
        @return: why what is between the bridges does not do what it is to, in words; empty if it does.
        """
        why = ""
        for joint in part.joints:
            if joint.filtered and self._filters is not None:
                why = await self._filters.ensure(joint, int(name.partition("/")[0])) or why
        return why

    def _needed(self, work: Work) -> set[str]:
        parts = self._parts(work)
        return {name for one in parts for name in laying.devices(one)} | set(self._ends(work))

    def _parts(self, work: Work) -> list[Fabric]:
        return [self._part((work.serial, one.name)) for one in work.interfaces]

    def _part(self, key: tuple[int, str]) -> Fabric:
        link = self._wanted.get(self._at[key])
        return fabric.fabric(link, [key], self._names, self.able) if link is not None else Fabric()

    def _ends(self, work: Work) -> list[str]:
        return [self._names.port((work.serial, one.name)) for one in work.interfaces]

    async def _plug_once(
        self, work: Work, gone: Collection[tuple[int, str]], *, fresh: bool = False
    ) -> tuple[ip.Outcome, inner.Inner]:
        ends = self._ends(work)
        lines = ["[]"] * (len(ends) + 2) + [""]  # as of one that has nothing inside yet
        if not fresh:
            told = await self._ground.tools.run(plugging.INSPECT, *ends, space=work.space)
            lines = told.out.splitlines()
            if told.code or len(lines) != len(ends) + 3:
                return ip.Outcome(told.code or 1, told.out, told.err or "cannot look inside"), inner.Inner()
        inside = Inside.read(lines[-3], lines[-2])
        orders, absent, before = Orders(), [], {}
        called: dict[str, Interface] = {}
        for one, end, line in zip(work.interfaces, ends, lines, strict=False):
            name = one.name if not work.hosted else self._names.device("i", work.serial, one.name)
            called[name] = one
            link = next((found for found in laying.parse(line) if self._names.owned(found)), None)
            self._ground.seen.ours.pop(end, None)
            if link is not None and inner.joined(name, inside, link):
                self._ground.seen.ours[end] = link
                before[name] = str(link.get("ifalias", "")).rpartition(" ")[2]
                if before[name] != one.address:
                    orders.make.append(inner.alias(self._names, work.serial, one))
                continue
            absent.append(end)
            self._ground.seen.qdiscs.pop(end, None)
            orders.make += [f"link delete dev {end}"] if link is not None else []
            orders.make += inner.outer(self._names, work.serial, one, name)
            inside = evolve(inside, links={other: one for other, one in inside.links.items() if other != name})
        parts = self._parts(work)
        laid = self._ground.wanting(parts, absent)
        orders = evolve(laid, make=[*laid.make, *orders.make])
        orders.remove += [
            f"link delete dev {end}" for key in gone if (end := self._names.port(key)) in self._ground.seen.ours
        ]
        found = inner.work(
            called, work.routes, inside, before,
            forwards=work.forwards, addressed=work.inside, hosted=work.hosted, switch=lines[-1],
        )  # fmt: skip
        outcome = await self._apply(orders, parts, found, work.space)
        return outcome, found

    async def _apply(
        self, orders: Orders, parts: Sequence[Fabric], found: inner.Inner | None = None, space: int = -1
    ) -> ip.Outcome:
        """
        Carry out orders, if there are any.
        """
        if self._filters is not None:  # a switch whose tap is made anew holds the old one
            anew = {order.split()[3] for order in orders.make if order.startswith("tuntap add ")}
            for name in {joint.near for one in parts for joint in one.joints if anew & {joint.near, joint.far}}:
                self._filters.drop(name)
        return await self._ground.apply(orders, parts, found, space)

    async def unplug(self, serial: int) -> None:
        """
        As in L{hostline.server.drivers.wires.Wires}.
        """
        self._leaving.add(serial)
        await self._lock.acquire()
        try:
            if serial in self._leaving:  # else somebody took it along
                await self._unplug(self._leaving)
        finally:
            self._lock.release()
        if serial in self._stuck:
            raise OSError(f"its links cannot be removed: {self._stuck[serial]}")

    async def _unplug(self, serials: Collection[int]) -> None:
        """
        Remove the ports of all that wait for that, in one go; whose cannot be is noted.
        """
        serials, self._leaving = set(serials), set()
        for serial in serials:
            self._stuck.pop(serial, None)
        ports = {self._names.port(key): key for key in self._at if key[0] in serials}
        if not ports:
            return
        shows = "".join(f"link show dev {port}\n" for port in ports)
        words = self._names.alias("port"), str(self._names.doomed)
        outcome = await self._ground.tools.run(plugging.UNPLUG, *words, texts={4: shows, 5: shows})
        left = set(outcome.out.split())
        for port, key in ports.items():
            if outcome.code or port in left:
                self._stuck[key[0]] = f"still there: {port}" if port in left else outcome.reason
            else:
                self._ground.seen.ours.pop(port, None)
        try:
            await self._leave([key for key in ports.values() if key[0] not in self._stuck])
        except OSError as error:
            self._stuck |= dict.fromkeys(serials, str(error))

    def _put(self, key: tuple[int, str], name: str) -> None:
        old = self._at.get(key)
        if old is not None and old != name:
            self._on.get(old, set()).discard(key)
            self._dirty.add(old)
        self._at[key] = name
        self._on.setdefault(name, set()).add(key)
        self._laid.setdefault(name, set()).update(laying.devices(self._part(key)))

    async def _leave(self, keys: Collection[tuple[int, str]]) -> None:
        """
        These members have no port any more: what there was for each alone goes, and a link with its last.
        """
        names: dict[str, None] = {}
        for key in keys:
            names[name := self._at.pop(key)] = None
            self._ground.held.pop(self._names.port(key), None)
            self._ground.seen.qdiscs.pop(self._names.port(key), None)
            self._on.get(name, set()).discard(key)
        if names:
            await self._trim(names)
        if "" in names and "" not in self._on and not self.strays:
            await self._ground.look()
            await self._sweep()

    async def _sweep(self) -> None:
        """
        Remove what is ours and of no link that anybody told of: an earlier daemon laid it, and whoever was on it then
        has left it since. As long as somebody is on such a link, only ports that are nobody's go.
        """
        whole = [self._whole(name) for name in self._on]
        stay = {name for one in whole for name in laying.devices(one)} | set(map(self._names.port, self._at))
        if "" in self._on:
            stay |= {name for name in self._ground.seen.ours if name[6:7] != "p"}
        gone = laying.outermost(self._ground.seen, self._names) - stay
        await self._ground.remove(laying.removal(gone, self._ground.seen))
        if self._filters is not None and "" not in self._on:
            self._filters.keep(joint.near for one in whole for joint in one.joints if joint.filtered)

    async def _trim(self, names: Collection[str]) -> None:
        """
        Remove what was laid for links and is not wanted any more.

        @raise OSError: if something is left.
        """
        wanted: dict[str, set[str]] = {}
        gone: set[str] = set()
        for name in names:
            whole = self._whole(name)
            left = wanted[name] = laying.devices(whole)
            filtered = {joint.near for joint in whole.joints if joint.filtered}
            if self._filters is not None:
                for device in self._laid.get(name, set()) - filtered:
                    self._filters.drop(device)
            gone |= (self._laid.get(name, set()) - left) & self._ground.seen.ours.keys()
        await self._ground.remove(laying.removal(gone, self._ground.seen))
        for name, left in wanted.items():
            self._laid[name] = left
            if not left:
                for table in (self._laid, self._on):
                    table.pop(name, None)
                if name in self._ending or name not in self._wanted:
                    self._forget(name)
        if not self._laid:
            await self._ground.unguard()

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        """
        As in L{hostline.server.drivers.wires.Wires}; L{tell} comes first.

        @raise OSError: if nobody can tell what there is.
        """
        await self._lock.acquire()
        try:
            await self._ground.look()
            told = {member.key: name for name, link in self._wanted.items() for member in link.members}
            ports = self._ground.seen.ports(self._names)
            self.strays = []
            if keep_strays:
                strays = sorted({key[0] for key in ports} - set(known))
                self.strays = [f"sliver {serial} has no record and keeps its links" for serial in strays]
            kept = {key for key in ports if key[0] in known or keep_strays}
            self._at.clear()
            self._on.clear()
            for key in kept & told.keys():
                self._put(key, told[key])
            for key in kept - told.keys():  # on links that nobody told of: these stay until they are unplugged
                self._at[key] = ""
                self._on.setdefault("", set()).add(key)
            if self._filters is not None:
                self._filters.recover()
            if not keep_strays:
                await self._sweep()
            self._dirty |= self._on.keys() - {""}
            if not self._laid:
                await self._ground.unguard()
        finally:
            self._lock.release()
        await self.settle()

    def _whole(self, name: str) -> Fabric:
        link = self._wanted.get(name)
        return fabric.fabric(link, self._on.get(name, ()), self._names, self.able) if link else Fabric()

    # Looking after them.

    async def look(self) -> None:
        """
        See whether all is still there, and put right what is not; without links this costs nothing.
        """
        if self._closed or not self._laid or self._lock.locked:
            return
        await self._lock.acquire()
        try:
            await self._ground.look()
            self._dirty |= self._on.keys() - {""}
        finally:
            self._lock.release()
        await self.settle()

    async def settle(self) -> None:
        """
        Lay links anew that are not, or may not be, what they should be.
        """
        await self._lock.acquire()
        try:
            while self._dirty and not self._closed:
                names, self._dirty = sorted(self._dirty), set()
                await self._relay([name for name in names if name in self._wanted])
        finally:
            self._lock.release()

    async def _relay(self, names: Sequence[str], *, again: bool = True) -> None:
        parts = [self._whole(name) for name in names]
        orders = self._ground.wanting(parts)
        foreign = {device for one in parts for device in laying.devices(one)} & self._ground.seen.foreign
        outcome = ip.Outcome(0)
        if not foreign:
            outcome = await self._apply(orders, parts)
        if outcome.code and again:  # something is not there any more; or one is amiss, and the others are not to suffer
            await self._ground.look()
            for name in names:
                await self._relay([name], again=False)
            return
        why = f"an interface {min(foreign)} is there that is not ours" if foreign else ""
        for name, one in zip(names, parts, strict=True):
            self._laid.setdefault(name, set()).update(laying.devices(one))
            self._broken.pop(name, None)
            if outcome.code or why:
                self._broken[name] = why or outcome.reason
                continue
            try:
                await self._trim([name])
                if why := await self._filter(name, one):
                    self._broken[name] = why
            except OSError as error:
                self._broken[name] = str(error)

    def close(self) -> None:
        """
        Start nothing more; every link goes on.
        """
        self._closed = True
        if self._filters is not None:
            self._filters.close()
