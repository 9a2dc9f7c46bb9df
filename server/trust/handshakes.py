"""
Handshakes: connections through the network that have not shown yet whose they are. Anybody can make one, so there are
few of them at a time, fewer from one address, and each costs time that is reckoned.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from attrs import define, field

from hostline.server.config import Tls

#: One address begins so many at once, and then one each time so many seconds have passed; one takes some two
#: milliseconds of the daemon's time.
_BURST, _EACH_S = 40, 0.05
#: The same for all addresses together.
_ALL_BURST, _ALL_EACH_S = 100, 0.01
#: How much of that is given back for one who was let in: so he may come four times as often.
_GIVEN_BACK = 0.75
#: Nobody waits longer to begin: there are few at a time, and who does not wait for his turn has cost nothing.
_LONGEST_WAIT_S = 1.0
#: How many bits of an IPv6 address are given to one site; the rest its host chooses as it likes.
_SITE_BITS = 64


@define(eq=False)
class Handshake:
    """
    One of them.

    @ivar wait_s: seconds until it may begin.
    """

    address: str
    wait_s: float
    give_up: Callable[[], object] = field(repr=False)


class Handshakes:
    """
    Those under way.
    """

    def __init__(self, limits: Callable[[], Tls]) -> None:
        """
        @param limits: those in force now.
        """
        self._limits = limits
        self._of: dict[str, list[Handshake]] = {}
        self._order: dict[Handshake, None] = {}
        self._next: dict[str, float] = {}
        self._next_of_all = 0.0

    def __len__(self) -> int:
        return len(self._order)

    def begin(self, address: str, give_up: Callable[[], object], now: float) -> Handshake | None:
        """
        Count one more. If there is no room, the oldest of the address that has the most has to go.

        @param give_up: ends it, if it has to go; L{end} is called behind it as behind any other.
        @param now: seconds, of any clock that does not go back.
        @return: None if it cannot be.
        """
        limits = self._limits()
        own = len(self._of.get(address, ()))
        if own >= limits.address_handshakes:
            return None
        if len(self) >= limits.handshakes:
            greediest = max(map(len, self._of.values()))
            if greediest <= own:
                return None
            worst = next(one for one in self._order if len(self._of[one.address]) == greediest)
            self.end(worst)
            worst.give_up()
        handshake = Handshake(address, self._wait_s(address, now), give_up)
        self._of.setdefault(address, []).append(handshake)
        self._order[handshake] = None
        return handshake

    def end(self, handshake: Handshake, known: bool = False) -> None:
        """
        It is over, however it went; may be said twice.

        @param known: whether it was somebody who was let in.
        """
        if handshake not in self._order:
            return
        if known:
            self._next[handshake.address] = self._next.get(handshake.address, 0.0) - _GIVEN_BACK * _EACH_S
            self._next_of_all -= _GIVEN_BACK * _ALL_EACH_S
        del self._order[handshake]
        of_address = self._of[handshake.address]
        of_address.remove(handshake)
        if not of_address:
            del self._of[handshake.address]

    def _wait_s(self, address: str, now: float) -> float:
        # Until when what one may do at once is used up; it comes back as time passes.
        own = max(self._next.get(address, 0.0), now)
        every = max(self._next_of_all, now)
        wait_s = max(0.0, own - now - _BURST * _EACH_S, every - now - _ALL_BURST * _ALL_EACH_S)
        self._next[address] = min(own + _EACH_S, now + _BURST * _EACH_S + _LONGEST_WAIT_S)
        self._next_of_all = min(every + _ALL_EACH_S, now + _ALL_BURST * _ALL_EACH_S + _LONGEST_WAIT_S)
        if len(self._next) > 1000:
            self._next = {one: time for one, time in self._next.items() if time > now}
        return wait_s


def site_of(address: str) -> str:
    """
    @param address: as the kernel writes it.
    @return: whom an address is reckoned to: itself, or of IPv6 its network of L{_SITE_BITS} bits.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _SITE_BITS), strict=False))
