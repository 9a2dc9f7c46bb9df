"""
Plans of experiments: what is asked of the offload child for one, with all that it needs to know of this host, and the
record that its answer makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostline.protocol.errors import BadTopology, HostError
from hostline.protocol.kinds import NODE_KINDS
from hostline.server.asking import Ask
from hostline.server.experiments.addresses import fill_macs
from hostline.server.experiments.placing import CONTAINER, NICS, QEMU
from hostline.server.experiments.rooms import memory_of_host
from hostline.server.records import Image, Plan

#: The largest experiments take seconds of a processor's time, of which others want their part.
DEADLINE_S = 60.0
#: Characters of a text that are kept as it was written; no NS and no TOML is longer.
SOURCE_MAX = 1 << 20
#: Options of a request that are of nodes, not of how they are packed.
_OF_NODES = ("qemu_nics", "kind", "kind_alone")


async def found(
    ask: Ask,
    text: str,
    options: Mapping[str, Any],
    before: Plan | None = None,
    hosts: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    What L{hostline.server.experiments.planning.plan} says of a text.

    @param text: as it stands in the request.
    @param options: those of the request that tell how to pack, C{format} and those of nodes among them.
    @param before: of the experiment that is to become this; what the request leaves out is as it was asked for then.
    @param hosts: those that are there instead of this one.
    @raise BadTopology: if there are errors, and it is not only asked about.
    """
    form = options.get("format")
    said = {name: value for name, value in options.items() if name != "format" and name in ask.given}
    kept = {**(before.options if before is not None else {}), **said}
    kept = {name: value for name, value in kept.items() if value is not None}  # who says None takes back what was asked
    source: dict[str, str] = {}

    def asked() -> dict[str, Any]:
        whole = ask.text(text)
        if len(whole) <= SOURCE_MAX:
            source["text"] = whole
        return _asked(ask, whole, form, kept, before, hosts)

    answer: dict[str, Any] = await ask.daemon.offload.call("plan", asked, DEADLINE_S, who=ask.principal)
    if source:
        source["format"] = answer["format"]
    answer["options"] = kept
    answer["source"] = source if source.get("format") != "topdl" else {}
    if hosts is None and not answer["errors"]:
        errors, warnings = ask.daemon.linked.judge(answer["topology"])
        answer["errors"] += errors
        answer["warnings"] += warnings
    if ask.row.changes:
        refuse(answer["errors"], answer["warnings"])
    return answer


def plan_of(answer: Mapping[str, Any], serial: int) -> Plan:
    """
    @param answer: of L{found}; it is the record's from now on.
    @param serial: the experiment's.
    """
    fill_macs(answer["topology"], serial)
    return Plan(
        serial=serial,
        topology=answer["topology"],
        warnings=answer["warnings"],
        settled=answer["settled"],
        pnodes=answer["pnodes"],
        routes=answer["routes"],
        options=answer["options"],
        source=answer["source"],
    )


def refuse(errors: list[dict[str, Any]], warnings: list[dict[str, Any]]) -> None:
    """
    @raise BadTopology: if there are errors.
    """
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise BadTopology(f"line {first['line']}: {first['text']}{more}", errors=errors, warnings=warnings)


def _asked(
    ask: Ask,
    text: str,
    form: str | None,
    options: Mapping[str, Any],
    before: Plan | None,
    hosts: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "text": text,
        "format": form,
        "options": {name: value for name, value in options.items() if name not in _OF_NODES},
        "means": _means(ask, options, hosts),
        "hosts": [_this(ask)] if hosts is None else hosts,
    }
    if before is not None:
        asked["previous"] = {**before.topology, "findings": [], "document": None}
        asked["kept"] = {
            "placement": {node: one["pnode"] for node, one in before.settled.items()},
            "pnodes": before.pnodes,
        }
    return asked


def _this(ask: Ask) -> dict[str, Any]:
    return {
        "name": ask.host.name,
        "cores": ask.daemon.cores,
        "memory_bytes": memory_of_host(),
    }


def _means(ask: Ask, options: Mapping[str, Any], hosts: list[dict[str, Any]] | None) -> dict[str, Any]:
    config = ask.daemon.config.experiments
    there = ask.daemon.sync.drivers
    if hosts is None:
        kinds = {kind: ask.daemon.missing.get(kind, "this host has no driver for it") for kind in NODE_KINDS}
        kinds |= dict.fromkeys(there, "")
    else:
        kinds = dict.fromkeys(NODE_KINDS, "")
    return {
        "kinds": kinds,
        "kind": options.get("kind", config.kind),
        "kind_alone": options.get("kind_alone"),
        "images": [_image(ask, one) for one in ask.host.tables[Image.table].values() if isinstance(one, Image)],
        "defaults": {CONTAINER: config.container_image, QEMU: config.qemu_image},
        "embedded": config.embedded or hosts is not None,
        "exclusive": config.exclusive or hosts is not None,
        "nics": options.get("qemu_nics", NICS),
    }


def _image(ask: Ask, image: Image) -> dict[str, Any]:
    try:
        ask.daemon.images.for_sliver(image.name, image.kind)
        why = ""
    except HostError as error:
        why = error.message
    return {"name": image.name, "serial": image.serial, "kind": image.kind, "why": why}
