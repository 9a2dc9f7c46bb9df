"""
What slivers find in C{/etc/hosts} and C{/etc/resolv.conf}. Pure, but for the host's own C{resolv.conf}.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

#: The second is where systemd keeps the true ones when the first names only its own, on loopback.
SOURCES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def hosts(name: str, address: IPv4Address | None) -> str:
    """
    @param name: a sliver's; its first label stands for it too.
    @return: a text for C{/etc/hosts}.
    """
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    if address is not None:
        lines.append(f"{address}\t{' '.join(dict.fromkeys((name, name.split('.')[0])))}")
    return "\n".join(lines) + "\n"


def resolvers(text: str) -> list[IPv4Address]:
    """
    @param text: of a C{resolv.conf}.
    @return: the resolvers in it that somebody else than this host could ask, by IPv4.
    """
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = IPv4Address(words[1])
            except AddressValueError:
                continue
            if not address.is_loopback and not address.is_unspecified:
                found.append(address)
    return found


def host_resolvers(sources: tuple[Path, ...] = SOURCES) -> list[IPv4Address]:
    """
    @return: those that the host asks.
    """
    for source in sources:
        try:
            found = resolvers(source.read_text("utf-8", "replace"))
        except OSError:
            continue
        if found:
            return found
    return []


def resolv_conf(addresses: list[IPv4Address]) -> str:
    """
    @return: a text for C{/etc/resolv.conf}. Without resolvers asking fails at once, and not after a long time.
    """
    return "".join(f"nameserver {address}\n" for address in addresses) or "# no resolvers: there is no way out\n"
