"""
What each node of a topology is made as: its kind, its image, what it is given, and what it may not ask for; pure.

A node's kind is what it says itself, else that of the image its C{os} names, else the configuration's. What cannot be
is an error with the node's line, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from hostline.protocol.errors import BadValue
from hostline.protocol.names import near
from hostline.server.experiments import wishes
from hostline.server.experiments.draft import PREFIX
from hostline.server.experiments.hosting import EMBEDDED
from hostline.server.experiments.topology import Findings, TopologyNode, quoted
from hostline.server.slivers.rspec import ALIASES, OF_PROCESSES, RESOURCES, read_rspec

PROCESS, CONTAINER, QEMU, ACCOUNT = "process", "container", "qemu", "account"
#: Those that are made from an image.
WITH_IMAGE = (CONTAINER, QEMU)
#: Interfaces on links that a QEMU machine may have where nothing else is said (Benito: 8 less the control network's).
NICS = 7
#: Slots of its bus that are left for them at most.
NICS_MOST = 24
_NAMES = {PREFIX + name: name for name in (*RESOURCES, *ALIASES)}
#: Resources by the attributes that ask for them.


@frozen
class Means:
    """
    What there is to make nodes of.

    @ivar kinds: by kind that can be had, nothing; by kind that cannot, why, as far as is known.
    @ivar kind: of nodes that name neither a kind nor an image; C{kind_alone}: of those that name no partition either,
        if it is another one (Benito: such a node is a host itself).
    @ivar images: those of this host, C{{'name', 'serial', 'kind', 'why'}}, the last why it cannot be used now.
    @ivar defaults: the name of the image of nodes that name none, by kind; empty for none.
    @ivar embedded: whether the host itself may be a node; C{exclusive}: whether one may keep other experiments off it.
    @ivar nics: interfaces that a QEMU machine may have.
    """

    kinds: Mapping[str, str]
    kind: str = PROCESS
    kind_alone: str | None = None
    images: tuple[Mapping[str, Any], ...] = field(default=(), converter=tuple)
    defaults: Mapping[str, str] = field(factory=dict)
    embedded: bool = False
    exclusive: bool = True
    nics: int = NICS


@frozen
class Made:
    """
    What one node is made as.

    @ivar image: serial of its image, None for kinds that have none; C{image_name} its name.
    @ivar memory: bytes that are kept for it (L{wishes.kept_memory}).
    """

    kind: str
    rspec: Mapping[str, int]
    image: int | None = None
    image_name: str | None = None
    memory: int = 0


def settle(nodes: Iterable[TopologyNode], means: Means) -> tuple[dict[str, Made], tuple[Any, ...]]:
    """
    Say what each node is made as.

    @return: by node, those that cannot be left out; and what is to be said, L{Finding}s.
    """
    work = _Settling(means)
    settled = {node.name: made for node in nodes if (made := work.made(node)) is not None}
    return settled, work.findings.told()


class _Settling:
    def __init__(self, means: Means) -> None:
        self.means = means
        self.findings = Findings()
        self._by_name: dict[str, Mapping[str, Any]] = {one["name"]: one for one in means.images}

    def made(self, node: TopologyNode) -> Made | None:
        """What a node is made as; None if that cannot be, which is then among the findings."""
        try:
            kind = self._kind(node)
            image = self._image(node, kind)
            self._check(node, kind)
            rspec, memory = self._given(node, kind)
        except BadValue as error:
            self.findings.error(node.line, f"node {node.name}: {error.message}")
            return None
        if image is None:
            return Made(kind, rspec, memory=memory)
        return Made(kind, rspec, image["serial"], image["name"], memory)

    def _kind(self, node: TopologyNode) -> str:
        kind = node.kind
        if kind is None:
            named = self._by_name.get(node.os or "")
            if named is not None:
                return self._had(named["kind"])
            alone = self.means.kind_alone if node.partition is None else None
            kind = alone or self.means.kind
        return self._had(kind)

    def _had(self, kind: str) -> str:
        if kind == EMBEDDED and not self.means.embedded:
            raise BadValue("kind embedded is off on this host: experiments.embedded in its configuration")
        missing = self.means.kinds.get(kind)
        if missing is None or missing:
            can = ", ".join(sorted(one for one, why in self.means.kinds.items() if not why)) or "none"
            raise BadValue(f"kind {kind} cannot be had here{': ' + missing if missing else ''}; what can: {can}")
        return kind

    def _image(self, node: TopologyNode, kind: str) -> Mapping[str, Any] | None:
        if kind not in WITH_IMAGE:
            if node.os is not None:
                text = f"asks for the system {quoted(node.os)}; as a node of kind {kind} it has that of its host"
                self.findings.warning(node.line, f"node {node.name} {text}")
            return None
        name = node.os or self.means.defaults.get(kind, "")
        if not name:
            raise BadValue(
                f"a node of kind {kind} wants an image: os, or experiments.{kind}_image in the configuration"
            )
        image = self._by_name.get(name)
        if image is None:
            of_kind = [one for one, its in self._by_name.items() if its["kind"] == kind]
            hint = near(name, of_kind)
            known = f"; there {'is' if len(of_kind) == 1 else 'are'} {', '.join(of_kind[:10])}" if of_kind else ""
            raise BadValue(f"no image {quoted(name)} of kind {kind}{hint or known or '; there is none of that kind'}")
        if image["kind"] != kind:
            raise BadValue(f"image {name} is for nodes of kind {image['kind']}, not {kind}")
        if image["why"]:
            raise BadValue(image["why"])
        return image

    def _check(self, node: TopologyNode, kind: str) -> None:
        count = len(node.interfaces)
        if kind == ACCOUNT and count:
            raise BadValue(f"a node of kind account has no interfaces, got {count}")
        if kind == QEMU and count > self.means.nics:
            raise BadValue(
                f"{count} interfaces wanted; a QEMU machine has {self.means.nics} at most "
                f"(qemu_nics= changes that, up to {NICS_MOST})"
            )
        if node.exclusive and not self.means.exclusive:
            text = (
                "other experiments may be on its host all the same: experiments.exclusive is off in the configuration"
            )
            self.findings.warning(node.line, f"node {node.name} is exclusive, but {text}")
        if node.packages and kind not in WITH_IMAGE:
            raise BadValue(f"hostline:packages is for kinds {' and '.join(WITH_IMAGE)}, not {kind}")

    def _given(self, node: TopologyNode, kind: str) -> tuple[dict[str, int], int]:
        asked: dict[str, object] = {}
        for attribute, text in node.attributes.items():
            name = _NAMES.get(attribute)
            if name is not None:
                asked[name] = wishes.amount(name, text)
        rspec = read_rspec(asked)
        if kind not in (PROCESS, EMBEDDED):
            return rspec, wishes.kept_memory(kind, node.attributes, rspec)
        for name in asked:
            resource = ALIASES[name].resource if name in ALIASES else name
            if resource not in OF_PROCESSES:
                raise BadValue(f"{PREFIX}{name}: a node of kind {kind} is given {', '.join(OF_PROCESSES)} only")
        given = {name: rspec[name] for name in OF_PROCESSES}
        return given, wishes.kept_memory(kind, node.attributes, given)
