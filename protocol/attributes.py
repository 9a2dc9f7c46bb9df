"""
The attributes that a TopDL text may carry, and what to say of one that looks like a slip.

The ancestor took any attribute and said nothing: files with C{container:partition} ran for years with every node in
the wrong place. Attributes of the user's own are welcome; a warning is for what is close to a name that means
something, and for unknown names under the prefixes that were the ancestor's own, or are ours.
"""

from __future__ import annotations

from functools import lru_cache

#: What a node may ask for under our own prefix: resources by both their names, packages, and yes or no.
WISHES = (
    *("enabled", "cpu_share", "cpu_min", "cpu_max", "memory_max", "pids_max", "disk_max"),
    *("net_min", "net_max", "net2_min", "net2_max", "net_share"),
    *("cpu_pct", "net_min_rate", "net_max_rate", "net_i2_min_rate", "net_i2_max_rate"),
    *("packages", "start_once", "exclusive"),
)
#: What an interface may say of one direction alone, under the same prefix.
DIRECTIONAL = tuple(f"{way}_{what}" for way in ("to", "from") for what in ("rate_kbps", "delay_ms", "loss"))
_PARTITION = {"partition", "benito:partition", "containers:partition"}
#: Attributes that mean something, by the element that carries them (DETER's Containers Reference; Benito).
ATTRIBUTES: dict[str, frozenset[str]] = {
    "computer": frozenset(
        {"startup", "failureaction", "type", "fixed", "testbed", "osid", "containers:node_type", "containers:ghost"}
        | {"containers:PartitionPass", "containers:PackingPass", "containers:qemu_url", "containers:qemu_arch"}
        | {"containers:openvz_template", "containers:openvz_diskspace", "containers:maverick_url"}
        | {"benito:node_type"}
        | _PARTITION
        | {f"hostline:{name}" for name in WISHES}
    ),
    "interface": frozenset(
        {"ip4_address", "ip4_netmask", "loss"}
        | {f"{prefix}:{name}" for prefix in ("benito", "containers") for name in ("mac_address", "vde_switch")}
        | {"benito:vde_port", "containers:vde_port"}
        | {f"hostline:{name}" for name in DIRECTIONAL}
    ),
    "substrates": frozenset({"loss"}),
    "os": frozenset({"osid"}),
}
_PREFIXES = ("containers", "benito", "hostline")
#: Slips too far from the right name for a search by likeness.
_SLIPS = {
    "startcmd": "startup",
    "start_command": "startup",
    "startup_command": "startup",
    "startcommand": "startup",
    "ip": "ip4_address",
    "address": "ip4_address",
    "ip_address": "ip4_address",
    "netmask": "ip4_netmask",
}
#: Longer names are the user's own.
_NAME_MAX = 64


@lru_cache(maxsize=1024)
def attribute_meant(name: str, place: str) -> str | None:
    """
    The attribute that C{name} is a likely slip for.

    @param place: the element that carries it, a key of L{ATTRIBUTES}.
    @return: the right name; an empty text if it cannot be right and nothing is near; None if there is nothing to say.
    """
    known = ATTRIBUTES[place]
    if name in known or len(name) > _NAME_MAX:
        return None
    prefix, colon, rest = name.partition(":")
    if not colon:
        slip = _SLIPS.get(name.lower().replace("-", "_"))
        return slip if slip in known else nearest(name, {one for one in known if ":" not in one})
    right = prefix if prefix in _PREFIXES else nearest(prefix, set(_PREFIXES))
    if right is None:
        return None
    under = {one.partition(":")[2] for one in known if one.startswith(f"{right}:")}
    rest = rest.lstrip(":")
    longer = [one for one in under if one.startswith(f"{rest}_")]
    meant = rest if rest in under else longer[0] if len(longer) == 1 else nearest(rest, under)
    return "" if meant is None else f"{right}:{meant}"


def nearest(name: str, known: set[str]) -> str | None:
    """
    The one of C{known} that is most like C{name}; None if none is near.
    """
    from difflib import get_close_matches  # slow to import; wanted only where something is odd

    by_lower = {one.lower(): one for one in sorted(known)}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.8)
    return by_lower[near[0]] if near else None
