"""
What a QEMU guest is told at each boot, so that it becomes its node: as a text that C{inguest/apply.sh} reads.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping

from attrs import field, frozen

from hostline.server.supervise.packages import installing
from hostline.server.supervise.quoting import exports, quoted

#: What means nothing to a shell.
_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/_-")


@frozen
class Card:
    """
    A network card of a guest, and the interface it is to be there.

    @ivar name: of the interface; at most 15 characters.
    @ivar mac: that it is to have, lower case.
    @ivar now: that it has when the guest comes up, if another: a clone's cards have those of its template.
    @ivar addresses: with their prefixes.
    """

    name: str
    mac: str
    addresses: tuple[str, ...] = ()
    mtu: int = 1500
    now: str = ""


@frozen
class Seed:
    """
    What a guest is told at each boot.

    @ivar boots: which boot this is, counted by us; the start command runs once for each.
    @ivar clock: Unix seconds now.
    @ivar random: bytes that no other guest has.
    @ivar hosts: the whole text of its C{/etc/hosts}; C{resolv_conf}: of that file; None: as it is.
    @ivar keys: lines of root's C{authorized_keys}.
    @ivar routes: destination (or C{default}) and next hop.
    @ivar packages: of Debian, that it is to have before anything is begun in it.
    """

    name: str
    boots: int
    clock: float
    random: bytes
    cards: tuple[Card, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    forwards: bool = False
    hosts: str | None = None
    resolv_conf: str | None = None
    keys: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    start_command: str | None = None
    environment: Mapping[str, str] = field(factory=dict)
    initscript: str | None = None

    def text(self) -> bytes:
        """
        @return: as C{apply.sh} reads it.
        """
        lines = [
            f"name {_word(self.name)}",
            f"clock {int(self.clock)}",
            f"random {b64encode(self.random).decode('ascii')}",
        ]
        if self.hosts is not None:
            lines.append(f"text /etc/hosts {quoted(self.hosts)}")
        if self.resolv_conf is not None:
            lines.append(f"text /etc/resolv.conf {quoted(self.resolv_conf)}")
        keys = "".join(f"{one}\n" for one in self.keys)
        lines.append(f"secret /root/.ssh/authorized_keys {quoted(keys)}")
        for card in self.cards:
            words = (card.now or card.mac, card.mac, card.name, str(card.mtu), *card.addresses)
            lines.append(" ".join(("interface", *map(_word, words))))
        lines += [f"route {_word(to)} {_word(by)}" for to, by in self.routes]
        lines.append(f"forward {int(self.forwards)}")
        if self.environment:
            lines.append(f"once environment {quoted(exports(self.environment))}")
        lines.append("initscript" if self.initscript is None else f"initscript {quoted(self.initscript)}")
        if self.packages:
            lines.append(f"once packages {quoted(installing(self.packages) + chr(10))}")
        if self.start_command is not None:
            lines.append(f"once command {quoted(self.start_command + chr(10))}")
        lines.append("done_with")
        return b"".join(os.fsencode(one) + b"\n" for one in lines)


def _word(text: str) -> str:
    """
    @return: the same, in quotes if a shell would take it for more than a word.
    @raise ValueError: if there is more in it than one word.
    """
    if not text or any(one.isspace() or not one.isprintable() for one in text) or not text.isascii():
        raise ValueError(f"want one word, got {text!r}")
    return text if not set(text) - _PLAIN else quoted(text)
