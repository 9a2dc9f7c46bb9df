"""
The testbed's own commands in NS texts, C{tb-set-ip} and so on: Emulab's, and DETER's C{tb-add-node-attribute}.

Those that mean something here go into the draft, the others are known by name and told of as without effect, and one
that nobody knows is told of with the nearest that there is.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from hostline.protocol.names import near
from hostline.server.experiments import units
from hostline.server.experiments.draft import DraftLink, DraftNode, Port
from hostline.server.experiments.ns_words import Bad, Objects, Verb, flag, whole
from hostline.server.experiments.topdl import KINDS
from hostline.server.experiments.topology import FAILURE_ACTIONS, quoted

_KIND = "containers:node_type"
#: Commands without effect here, and what is said of them besides.
IDLE: dict[str, str] = {
    "tb-set-sync-server": "hostline has no barrier of its own; 'wait_for PROJ/EXP started' waits for start commands",
    "tb-set-colocate-factor": "packing= says how many nodes a host may have, when the experiment is made",
    "tb-set-cpu-usage": "tb-add-node-attribute NODE hostline:cpu_min N reserves N thousandths of a core",
    "tb-set-mem-usage": "tb-add-node-attribute NODE hostline:memory_max BYTES says what a node may use",
    **dict.fromkeys(
        ("tb-use-endnodeshaping", "tb-set-endnodeshaping", "tb-force-endnodeshaping", "tb-set-multiplexed"),
        "hostline decides by itself what shapes a link",
    ),
    **dict.fromkeys(
        (
            *("tb-add-node-service-hook", "tb-bind-parent", "tb-elab-in-elab", "tb-elab-in-elab-topology"),
            *("tb-elabinelab-singlenet", "tb-feedback-vlan", "tb-feedback-vlink", "tb-feedback-vnode"),
            *("tb-fix-current-resources", "tb-fix-interface", "tb-set-allowcolocate"),
            *("tb-set-delay-capacity", "tb-set-delay-os", "tb-set-dpdb", "tb-set-elabinelab-attribute"),
            *("tb-set-elabinelab-cvstag", "tb-set-elabinelab-fw-type", "tb-set-elabinelab-role-attribute"),
            *("tb-set-encapsulate", "tb-set-fw-style", "tb-set-inner-elab-eid", "tb-set-ip-routing"),
            *("tb-set-ipassign-args", "tb-set-jail-os", "tb-set-lan-accesspoint", "tb-set-lan-backfill"),
            *("tb-set-lan-est-bandwidth", "tb-set-lan-protocol", "tb-set-lan-setting"),
            *("tb-set-lan-simplex-backfill", "tb-set-link-backfill", "tb-set-link-encap"),
            *("tb-set-link-est-bandwidth", "tb-set-link-layer", "tb-set-link-protocol"),
            *("tb-set-link-simplex-backfill", "tb-set-node-cmdline", "tb-set-node-deltas"),
            *("tb-set-node-id", "tb-set-node-inner-elab-role", "tb-set-node-lan-backfill"),
            *("tb-set-node-lan-est-bandwidth", "tb-set-node-lan-setting", "tb-set-node-loadlist"),
            *("tb-set-node-memory-size", "tb-set-node-plab-plcnet", "tb-set-node-plab-role"),
            *("tb-set-node-routable-ip", "tb-set-node-service", "tb-set-node-sharingmode"),
            *("tb-set-node-usesharednode", "tb-set-nonfs", "tb-set-oml-mp", "tb-set-oml-server"),
            *("tb-set-oml-use-control", "tb-set-security-level", "tb-set-sim-os", "tb-set-switch-fabric"),
            *("tb-set-use-oml", "tb-set-uselatestwadata", "tb-set-useveth", "tb-set-usewatunnels"),
            *("tb-set-vlink-emulation", "tb-set-wasolver-weights", "tb-unset-elabinelab-attribute"),
            *("tb-unset-elabinelab-role-attribute", "tb-use-ipassign", "tb-use-physnaming"),
        ),
        "",
    ),
}


class Testbed(Objects):
    """
    The commands of one text.
    """

    def __init__(self, script: Any) -> None:
        super().__init__(script)
        self.types: dict[str, list[str]] = {}

    def call(self, name: str, words: list[str]) -> str:
        """
        Do one.

        @raise Bad: what is wrong with it.
        """
        verb = COMMANDS.get(name)
        if verb is not None:
            return verb.call(self, words)
        if name in IDLE:
            self.script.warning(f"{name} has no effect here{': ' if IDLE[name] else ''}{IDLE[name]}")
        else:
            hint = near(name, (*COMMANDS, *IDLE))
            self.script.warning(f"{name[:60]}: there is no such command{hint}; it is left out")
        return str(self.script.nothing(name))

    def _put(self, node: DraftNode, name: str, value: str) -> None:
        node.attributes.pop(name, None)
        node.attributes[name] = (value, self.script.line)

    # -- nodes

    def os(self, node: str, os: str, *_: str) -> None:
        """The image of a node."""
        self.node(node).os = (os, self.script.line)

    def hardware(self, node: str, kind: str, *_: str) -> None:
        """The type of a node; where it names one of our kinds, its kind."""
        one = self.node(node)
        known = [KINDS[name] for name in (kind, *self.types.get(kind, ())) if name in KINDS]
        if known:
            one.attributes.setdefault(_KIND, (known[0], self.script.line))
        elif kind not in ("pc", "pcvm", "vm") and kind not in self.types:
            text = f"of hardware, these words choose a kind: {', '.join(KINDS)}; {quoted(kind)} does not"
            self.script.warning(f"tb-set-hardware: {text}")
        self._put(one, "type", kind)

    def startcmd(self, node: str, command: str) -> None:
        """What runs when a node is up."""
        self._put(self.node(node), "startup", command)

    def failure_action(self, node: str, action: str) -> None:
        """What becomes of the experiment when a node does not come up."""
        if action not in FAILURE_ACTIONS:
            raise Bad(f"want one of {', '.join(FAILURE_ACTIONS)}, got {quoted(action)}")
        self._put(self.node(node), "failureaction", action)

    def attribute(self, node: str, name: str, value: str) -> None:
        """Any attribute; where it is there already, the first counts, as DETER has it."""
        one = self.node(node)
        if not name.strip():
            raise Bad("want the name of an attribute")
        if name in one.attributes:
            first = one.attributes[name][1]
            self.script.warning(f"{quoted(name)} of {one.name} is set in line {first} already, which counts")
        else:
            one.attributes[name] = (value, self.script.line)

    def fix(self, node: str, host: str) -> None:
        """The host that a node goes to."""
        self._put(self.node(node), "fixed", host)

    def tarfiles(self, node: str, *words: str) -> None:
        """What is to be unpacked on a node: directory and file in turn."""
        one = self.node(node)
        words = tuple(part for word in words for part in word.split()) if len(words) == 1 else words
        if len(words) % 2:
            raise Bad("want DIRECTORY TARFILE in pairs")
        line = self.script.line
        one.software += [(words[at + 1], words[at], line) for at in range(0, len(words), 2)]
        self.script.warning("tarfiles are kept in the topology, but nothing unpacks them: push them, or use an image")

    def rpms(self, node: str, *files: str) -> None:
        """What is to be installed on a node."""
        one = self.node(node)
        one.software += [(part, None, self.script.line) for word in files for part in word.split()]
        self.script.warning("rpms are kept in the topology, but nothing installs them: use hostline:packages")

    # -- types

    def soft_type(self, name: str, types: str) -> None:
        """A name for several types."""
        if name in self.types:
            raise Bad(f"type {quoted(name)} is there already")
        self.types[name] = self.script.tcl.words(types)

    def weighted_type(self, name: str, weight: str, types: str) -> None:
        """The same with a weight."""
        if not 0 < units.loss(weight) < 1:
            raise Bad(f"want a weight between 0 and 1, got {quoted(weight)}")
        self.soft_type(name, types)

    # -- addresses

    def ip(self, node: str, address: str) -> None:
        """The address of a node with one interface."""
        one = self.node(node)
        if len(one.ports) != 1:
            raise Bad(f"want a node on one link, got {one.name} on {len(one.ports)}; use tb-set-ip-link")
        one.ports[0].ip4 = _address(address)

    def ip_link(self, node: str, link: str, address: str) -> None:
        """The address of a node on a link or LAN."""
        self._port(self.node(node), self.link(link)).ip4 = _address(address)

    def ip_interface(self, node: str, other: str, address: str) -> None:
        """The address of a node on the link to another one."""
        self._port(self.node(node), self.between(node, other)).ip4 = _address(address)

    def netmask(self, link: str, mask: str) -> None:
        """The netmask of a link or LAN."""
        for port in self.link(link).ports:
            port.netmask = mask

    # -- shaping

    def loss(self, link: str, *words: str) -> None:
        """The loss of a link, named by itself or by its ends."""
        if len(words) > 2:
            raise Bad("want LINK LOSS, or NODE NODE LOSS")
        one = self.link(link) if len(words) == 1 else self.between(link, words[0])
        one.loss = units.loss(words[-1])

    def simplex_link(self, link: str, source: str, delay: str, rate: str, loss: str) -> None:
        """All of a link in the direction away from C{source}."""
        one, node = self.link(link), self.node(source)
        port = self._port(node, one)
        if len(one.ports) != 2:
            raise Bad(f"want a link of two nodes, got {one.name}, which has {len(one.ports)}")
        other = next(end for end in one.ports if end is not port)
        found = (units.rate(rate), units.delay(delay), units.loss(loss))
        for end, way in ((port, "to"), (other, "from")):
            _shape(end, way, *found)

    def simplex_lan(self, lan: str, node: str, *words: str) -> None:
        """All of a node's way to a LAN, then all of its way from it."""
        if len(words) != 6:
            raise Bad("want LAN NODE and delay, rate and loss to the LAN, then the same from it")
        port = self._port(self.node(node), self.link(lan))
        for way, (delay, rate, loss) in (("to", words[:3]), ("from", words[3:])):
            _shape(port, way, units.rate(rate), 2 * units.delay(delay), _both_halves(units.loss(loss)))

    def lan_params(self, node: str, lan: str, delay: str, rate: str, loss: str) -> None:
        """All of a node's way to a LAN and from it."""
        port = self._port(self.node(node), self.link(lan))
        found = units.rate(rate), 2 * units.delay(delay), _both_halves(units.loss(loss))
        for what, value in zip(("rate_kbps", "delay_ms", "loss"), found, strict=True):
            if value is None:
                port.shape.pop(what, None)
            else:
                port.shape[what] = value

    def lan_delay(self, node: str, lan: str, delay: str) -> None:
        """The delay of that way."""
        self._port(self.node(node), self.link(lan)).shape["delay_ms"] = 2 * units.delay(delay)

    def lan_rate(self, node: str, lan: str, rate: str) -> None:
        """The rate of it."""
        port, value = self._port(self.node(node), self.link(lan)), units.rate(rate)
        if value is None:
            port.shape.pop("rate_kbps", None)
        else:
            port.shape["rate_kbps"] = value

    def lan_loss(self, node: str, lan: str, loss: str) -> None:
        """The loss of it."""
        self._port(self.node(node), self.link(lan)).shape["loss"] = _both_halves(units.loss(loss))

    def unshaped(self, link: str, on: str = "1") -> None:
        """Let a link be as fast as it can be."""
        one = self.link(link)
        if flag(on):
            one.rate_kbps = None

    def _port(self, node: DraftNode, link: DraftLink) -> Port:
        port = link.port(node)
        if port is None:
            raise Bad(f"{node.name} is not on {link.name}")
        return port

    # -- numbers that are checked, though nothing follows from them

    def usage(self, amount: str) -> None:
        """What nodes use, 1 to 5."""
        whole(amount, 1, 5)

    def factor(self, amount: str) -> None:
        """Nodes on one host, 1 to 100."""
        whole(amount, 1, 100)


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text.strip()))
    except ValueError:
        raise Bad(f"want an address like 10.1.1.2, got {quoted(text)}") from None


def _both_halves(loss: float) -> float:
    # A way to or from a LAN is half of a path: a path of two such halves loses what the field of TopDL says.
    return float(f"{1 - (1 - loss) ** 2:.9g}")


def _shape(port: Port, way: str, rate: float | None, delay: float, loss: float) -> None:
    for what, value in (("rate_kbps", rate), ("delay_ms", delay), ("loss", loss)):
        if value is None:
            port.shape.pop(f"{way}_{what}", None)
        else:
            port.shape[f"{way}_{what}"] = value


def _idle(name: str, usage: str, check: Any) -> Verb:
    def body(testbed: Testbed, *words: str) -> None:
        check(testbed, *words)
        testbed.script.warning(f"{name} has no effect here: {IDLE[name]}")

    return Verb(name, usage, body)


COMMANDS: dict[str, Verb] = {
    one.name: one
    for one in (
        Verb("tb-set-node-os", "NODE OS ...", Testbed.os),
        Verb("tb-set-hardware", "NODE TYPE ...", Testbed.hardware),
        Verb("tb-set-node-startcmd", "NODE COMMAND", Testbed.startcmd),
        Verb("tb-set-node-startup", "NODE COMMAND", Testbed.startcmd),
        Verb("tb-set-node-failure-action", "NODE ACTION", Testbed.failure_action),
        Verb("tb-add-node-attribute", "NODE NAME VALUE", Testbed.attribute),
        Verb("tb-set-ip", "NODE ADDRESS", Testbed.ip),
        Verb("tb-set-ip-link", "NODE LINK ADDRESS", Testbed.ip_link),
        Verb("tb-set-ip-lan", "NODE LAN ADDRESS", Testbed.ip_link),
        Verb("tb-set-ip-interface", "NODE NODE ADDRESS", Testbed.ip_interface),
        Verb("tb-set-netmask", "LINK NETMASK", Testbed.netmask),
        Verb("tb-set-link-loss", "LINK LOSS ...", Testbed.loss),
        Verb("tb-set-lan-loss", "LAN LOSS", Testbed.loss),
        Verb("tb-set-link-simplex-params", "LINK NODE DELAY RATE LOSS", Testbed.simplex_link),
        Verb("tb-set-lan-simplex-params", "LAN NODE DELAY RATE LOSS ...", Testbed.simplex_lan),
        Verb("tb-set-node-lan-params", "NODE LAN DELAY RATE LOSS", Testbed.lan_params),
        Verb("tb-set-node-lan-delay", "NODE LAN DELAY", Testbed.lan_delay),
        Verb("tb-set-node-lan-bandwidth", "NODE LAN RATE", Testbed.lan_rate),
        Verb("tb-set-node-lan-loss", "NODE LAN LOSS", Testbed.lan_loss),
        Verb("tb-set-noshaping", "LINK ?ON?", Testbed.unshaped),
        Verb("tb-fix-node", "NODE HOST", Testbed.fix),
        Verb("tb-make-soft-vtype", "NAME TYPES", Testbed.soft_type),
        Verb("tb-make-hard-vtype", "NAME TYPES", Testbed.soft_type),
        Verb("tb-make-weighted-vtype", "NAME WEIGHT TYPES", Testbed.weighted_type),
        Verb("tb-set-node-tarfiles", "NODE ...", Testbed.tarfiles),
        Verb("tb-set-tarfiles", "NODE ...", Testbed.tarfiles),
        Verb("tb-set-node-rpms", "NODE ...", Testbed.rpms),
        _idle("tb-set-sync-server", "NODE", Testbed.node),
        _idle("tb-set-colocate-factor", "NUMBER", Testbed.factor),
        _idle("tb-set-cpu-usage", "NUMBER", Testbed.usage),
        _idle("tb-set-mem-usage", "NUMBER", Testbed.usage),
    )
}
