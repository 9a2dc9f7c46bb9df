"""
Topologies in TOML, our own short form: text to L{Topology}.

Nodes by name, links by name, what is said of a node or a link as keys; C{count}, C{from}, C{to} and C{chain} make many
of one line (docs/topologies.md). It becomes a L{Draft}, and that a TopDL tree, as NS does.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from hostline.protocol.attributes import DIRECTIONAL, WISHES
from hostline.protocol.names import near
from hostline.server.experiments import topdl, units
from hostline.server.experiments.draft import PREFIX, Draft, DraftLink, DraftNode, Port
from hostline.server.experiments.topology import LINKS_MAX, NODES_MAX, Findings, Topology, quoted
from hostline.server.experiments.units import BadUnit
from hostline.server.experiments.wishes import FLAGS, PACKAGES

#: Bytes of a text.
TEXT_MAX = 1024 * 1024
#: Keys of a node, and the attributes of TopDL that they are.
ATTRIBUTES = {
    "kind": "containers:node_type",
    "start": "startup",
    "partition": "partition",
    "failure_action": "failureaction",
    "ghost": "containers:ghost",
    "pass": "containers:PartitionPass",
    **{name: PREFIX + name for name in WISHES},
}
TABLES = ("nodes", "links", "defaults", "environment")
NODE_KEYS = (*ATTRIBUTES, "image", "count", "attributes")
LINK_KEYS = ("nodes", "from", "to", "chain", "rate", "delay", "loss", "netmask", "at")
#: Keys of C{at}, and the fields of an interface that they are.
SHAPE = {
    "rate": "rate_kbps",
    "delay": "delay_ms",
    "loss": "loss",
    **{name.removesuffix("_kbps").removesuffix("_ms"): name for name in DIRECTIONAL},
}
AT_KEYS = ("ip", "mac", *SHAPE)
_AT_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)$")
_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")


class _Wrong(Exception):
    """What is wrong with a value."""


def read(text: str) -> Topology:
    """
    The topology that a TOML text describes.

    @return: it never raises: what is wrong is in C{findings}, as for L{topdl.read}; C{document} is its TopDL.
    """
    findings = Findings()
    body = text.removeprefix("\ufeff")
    if len(body.encode("utf-8", "surrogatepass")) > TEXT_MAX:
        findings.error(1, f"want at most {TEXT_MAX // 1024} KiB of TOML")
        return Topology(findings=findings.told())
    try:
        tables = tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        at = _AT_LINE.search(said)
        line = int(at[1]) if at else body.rstrip().count("\n") + 1
        findings.error(line, f"not TOML: {_AT_LINE.sub('', said)[:200]}")
        return Topology(findings=findings.told())
    except RecursionError:
        findings.error(1, "not TOML that we read: it is nested too deep")
        return Topology(findings=findings.told())
    reading = _Reading(_lines(body), findings)
    reading.all(tables)
    return topdl.understood(reading.draft.tree(), findings)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Where each table and key stands. A key that only looks like one, inside a long text, comes too late to count."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None:
            table = tuple(_parts(header[1]))
            found.setdefault(table, number)
        elif key is not None:
            path = (*table, *_parts(key[1]))
            for depth in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:depth], number)
    return found


def _parts(dotted: str) -> Iterator[str]:
    for one in re.findall(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'", dotted):
        yield one[1:-1] if one[0] in "\"'" else one


class _Reading:
    def __init__(self, lines: dict[tuple[str, ...], int], findings: Findings) -> None:
        self.draft = Draft(findings)
        self._lines = lines
        self._nodes: dict[str, DraftNode] = {}
        self._counted: dict[str, list[DraftNode]] = {}

    def line(self, *path: str) -> int:
        """Where something stands, or that it is in."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def wrong(self, text: str, *path: str) -> None:
        """Tell of an error."""
        self.draft.findings.error(self.line(*path), text)

    def all(self, tables: Mapping[str, Any]) -> None:
        """Read the whole."""
        for name in tables:
            if name not in TABLES:
                self.wrong(f"no table {quoted(name)}{near(name, TABLES)}; there are {', '.join(TABLES)}", name)
        for name, value in self.table(tables, "environment").items():
            if isinstance(value, str) or type(value) in (int, float):
                self.draft.attributes.append((f"{topdl.OPTION}{name}", str(value), self.line("environment", name)))
            else:
                self.wrong(f"want {name} to be a text or a number, got {quoted(value)}", "environment", name)
        defaults = self.table(tables, "defaults")
        for name, said in self.table(tables, "nodes").items():
            self.nodes(name, {"kind": said} if isinstance(said, str) else said, defaults)
        for name, said in self.table(tables, "links").items():
            self.links(name, {"nodes": said} if isinstance(said, list) else said)
        if not self.draft.nodes and not self.draft.findings.wrong:
            self.wrong("want a table [nodes] with at least one node", "nodes")

    def table(self, within: Mapping[str, Any], name: str, *path: str) -> Mapping[str, Any]:
        """A table by its name; what is none is told of, and is empty."""
        found = within.get(name, {})
        if isinstance(found, dict):
            return found
        self.wrong(f"want a table {name}, got {quoted(found)}", *path, name)
        return {}

    # -- nodes

    def nodes(self, name: str, said: Any, defaults: Mapping[str, Any]) -> None:
        """One node, or as many as C{count} says."""
        path = ("nodes", name)
        if not isinstance(said, dict):
            self.wrong(f"want a kind or a table of node {name}, got {quoted(said)}", *path)
            return
        for where, given in ((("defaults",), defaults), (path, said)):
            for key in given:
                if key not in NODE_KEYS:
                    self.wrong(f"no key {quoted(key)} of a node{near(key, NODE_KEYS)}", *where, key)
        count = said.get("count")
        if count is not None and (type(count) is not int or not 1 <= count <= NODES_MAX):
            self.wrong(f"want count to be a whole number from 1 to {NODES_MAX}, got {quoted(count)}", *path, "count")
            return
        names = [name] if count is None else [f"{name}-{n}" for n in range(count)]
        if len(self.draft.nodes) + len(names) > NODES_MAX:
            self.wrong(f"want at most {NODES_MAX} nodes", *path)
            return
        made = [self.node(one, path, {**defaults, **said}) for one in names]
        if count is not None:
            self._counted[name] = made

    def node(self, name: str, path: tuple[str, ...], said: Mapping[str, Any]) -> DraftNode:
        """One node."""
        node = DraftNode(name, self.line(*path))
        if name in self._nodes:
            self.wrong(f"node {name} is there twice", *path)
        self._nodes[name] = node
        self.draft.nodes.append(node)
        for key, value in said.items():
            where = (*path, key) if (*path, key) in self._lines else ("defaults", key)
            line = self.line(*(where if where in self._lines else (*path, key)))
            try:
                if key == "image":
                    node.os = (_text(value, key), line)
                elif key == "attributes":
                    for attribute, text in self.table(said, key, *path).items():
                        node.attributes[attribute] = (_text(text, attribute), self.line(*path, key, attribute))
                elif key in ATTRIBUTES:
                    node.attributes[ATTRIBUTES[key]] = (_written(key, value), line)
            except _Wrong as error:
                self.draft.findings.error(line, str(error))
        return node

    # -- links

    def links(self, name: str, said: Any) -> None:
        """One link or LAN, or as many as C{from} and C{to}, or C{chain}, make."""
        path = ("links", name)
        if not isinstance(said, dict):
            self.wrong(f"want a list of nodes or a table of link {name}, got {quoted(said)}", *path)
            return
        for key in said:
            if key not in LINK_KEYS:
                self.wrong(f"no key {quoted(key)} of a link{near(key, LINK_KEYS)}", *path, key)
        ways = [one for one in (("nodes",), ("from", "to"), ("chain",)) if all(key in said for key in one)]
        if len(ways) != 1:
            self.wrong(f"want link {name} to have nodes, or from and to, or chain", *path)
            return
        ends = [self.members(said[key], (*path, key)) for key in ways[0]]
        if ways[0] == ("nodes",):
            groups = [ends[0]]
        elif ways[0] == ("chain",):
            groups = [list(pair) for pair in zip(ends[0], ends[0][1:], strict=False)]
        else:
            pairs = ([one, other] for one in ends[0] for other in ends[1] if one is not other)
            groups = list(islice(pairs, LINKS_MAX + 1))
        if len(self.draft.links) + len(groups) > LINKS_MAX:
            self.wrong(f"want at most {LINKS_MAX} links", *path)
            return
        names = [name] if ways[0] == ("nodes",) else [f"{name}-{n}" for n in range(len(groups))]
        found = [self.link(one, path, said, group) for one, group in zip(names, groups, strict=True)]
        self.at(path, self.table(said, "at", *path), found)

    def members(self, said: Any, path: tuple[str, ...]) -> list[DraftNode]:
        """The nodes that names and patterns mean, each once, in their order."""
        words = [said] if isinstance(said, str) else said
        if not isinstance(words, list) or not all(isinstance(one, str) for one in words):
            self.wrong(f"want names of nodes, got {quoted(said)}", *path)
            return []
        found: dict[int, DraftNode] = {}
        for word in words:
            if word in self._nodes:
                some = [self._nodes[word]]
            elif word in self._counted:
                some = self._counted[word]
            else:
                some = [node for name, node in self._nodes.items() if fnmatchcase(name, word)] if "*" in word else []
            if not some:
                self.wrong(f"no node {quoted(word)}{near(word, self._nodes)}", *path)
            found.update((id(one), one) for one in some)
        return list(found.values())

    def link(self, name: str, path: tuple[str, ...], said: Mapping[str, Any], nodes: list[DraftNode]) -> DraftLink:
        """One link."""
        link = DraftLink(name, self.line(*path))
        self.draft.links.append(link)
        for node in nodes:
            port = self.draft.connect(node, link, link.line)
            port.netmask = self.value(said, "netmask", _text, path)
        link.rate_kbps = self.value(said, "rate", _rate, path)
        link.delay_ms = self.value(said, "delay", _delay, path) or None
        link.loss = self.value(said, "loss", _loss, path)
        return link

    def at(self, path: tuple[str, ...], said: Mapping[str, Any], links: list[DraftLink]) -> None:
        """What is so where one node meets the link."""
        ports: dict[str, list[Port]] = {}
        for link in links:
            for port in link.ports:
                ports.setdefault(port.node.name, []).append(port)
        for name, values in said.items():
            where = (*path, "at", name)
            if name not in ports:
                self.wrong(f"node {quoted(name)} is not on this link{near(name, ports)}", *where)
            elif not isinstance(values, dict):
                self.wrong(f"want a table of node {name}, got {quoted(values)}", *where)
            else:
                for port in ports[name]:
                    self.port(port, values, where)

    def port(self, port: Port, values: Mapping[str, Any], path: tuple[str, ...]) -> None:
        """The values of one interface."""
        for key in values:
            if key not in AT_KEYS:
                self.wrong(f"no key {quoted(key)} of a node on a link{near(key, AT_KEYS)}", *path, key)
        port.ip4 = self.value(values, "ip", _text, path)
        port.mac = self.value(values, "mac", _text, path)
        for key, name in SHAPE.items():
            amount = self.value(values, key, _AMOUNTS[key.rpartition("_")[2]], path)
            if amount is not None:
                port.shape[name] = amount

    def value(self, within: Mapping[str, Any], key: str, read: Callable[[Any, str], Any], path: tuple[str, ...]) -> Any:
        """What a key says; None if it is not there, or is wrong, which is told."""
        if key not in within:
            return None
        try:
            return read(within[key], key)
        except (_Wrong, BadUnit) as error:
            self.wrong(str(error), *path, key)
            return None


def _text(value: Any, key: str) -> str:
    if isinstance(value, str):
        return value
    raise _Wrong(f"want {key} to be text in quotes, got {quoted(value)}")


def _written(key: str, value: Any) -> str:
    if key == PACKAGES and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    if isinstance(value, bool) and key in (*FLAGS, "ghost", "enabled"):
        return "1" if value else "0"
    if type(value) is int and key not in ("kind", "start", PACKAGES):
        return str(value)
    return _text(value, key)


def _rate(value: Any, key: str) -> float | None:
    return units.rate(_text(value, f'{key}, such as "10Mb",'))


def _delay(value: Any, key: str) -> float:
    return units.delay(_text(value, f'{key}, such as "5ms",'))


def _loss(value: Any, key: str) -> float:
    return units.loss(repr(value) if isinstance(value, float) or type(value) is int else _text(value, key))


_AMOUNTS: Mapping[str, Callable[[Any, str], Any]] = {"rate": _rate, "delay": _delay, "loss": _loss}
