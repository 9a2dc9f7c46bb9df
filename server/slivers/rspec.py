"""
Resources: one table of names, units, defaults and bounds (DESIGN section 6), and reading what somebody asks for.

Two ways of reading: L{read_rspec} refuses what is wrong, for people who ask; L{read_tags} says what is wrong and goes
on with the default, for the records of a control authority, as the ancestor did silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from hostline.protocol.errors import BadValue
from hostline.protocol.names import near, shown


@frozen
class Resource:
    """
    One resource of a sliver.

    @ivar default: what a sliver has that asks for nothing.
    @ivar least: the least it may ask for; C{most}: the most.
    @ivar kept: the least that a lender keeps of it; None if it is not lent.
    @ivar enforced_v2: what holds a sliver to it where control groups are of version 2; C{enforced_v1}: of version 1.
    @ivar read_back: where what is in force is read again.
    """

    name: str
    unit: str
    default: int
    least: int
    most: int
    kept: int | None
    enforced_v2: str
    enforced_v1: str
    read_back: str

    @property
    def lendable(self) -> bool:
        """
        Whether slivers may lend it.
        """
        return self.kept is not None


_RECORD = "the sliver's record"
_CLASS = "the class in tc -s class show"


def _net(name: str, unit: str, default: int, least: int, kept: int, by: str) -> Resource:
    return Resource(name, unit, default, least, 10**12, kept, by, by, _CLASS)


RESOURCES: dict[str, Resource] = {
    one.name: one
    for one in (
        Resource("enabled", "0 or 1", 1, 0, 1, None, "started only if not 0", "started only if not 0", _RECORD),
        Resource("cpu_share", "weight", 32, 1, 3200, 16, "cpu.weight", "cpu.shares", "the same file"),
        Resource(
            "cpu_min",
            "per mille of a core",
            0,
            0,
            10**6,
            0,
            "admission, and a floor of cpu.weight",
            "admission, and a floor of cpu.shares",
            "the weight's file",
        ),
        Resource(
            "cpu_max",
            "per mille of a core, 0 = none",
            0,
            0,
            10**6,
            None,
            "cpu.max",
            "cpu.cfs_quota_us",
            "the same file",
        ),
        Resource(
            "memory_max",
            "bytes",
            512 << 20,
            16 << 20,
            1 << 48,
            16 << 20,
            "memory.max",
            "memory.limit_in_bytes",
            "the same file",
        ),
        Resource("pids_max", "count", 512, 16, 1 << 22, 16, "pids.max", "pids.max", "the same file"),
        Resource(
            "disk_max",
            "KiB",
            5_000_000,
            16384,
            1 << 40,
            None,
            "project quota or a sized file system",
            "project quota or a sized file system",
            "the quota, or the file system's size",
        ),
        _net("net_min", "bit/s", 8, 0, 0, "htb rate"),
        _net("net_max", "bit/s", 10**9, 8, 8, "htb ceil"),
        _net("net2_min", "bit/s, to exempt destinations", 8, 0, 0, "rate of a second htb class"),
        _net("net2_max", "bit/s, to exempt destinations", 10**9, 8, 8, "ceil of a second htb class"),
        Resource("net_share", "weight", 1, 1, 10000, 1, "htb quantum", "htb quantum", _CLASS),
    )
}

#: What a sliver has that asks for nothing.
DEFAULTS: dict[str, int] = {one.name: one.default for one in RESOURCES.values()}

#: The same for a process that is a node of an experiment: what control groups hold it to is all that it has.
OF_PROCESSES: dict[str, int] = {
    name: DEFAULTS[name] for name in ("cpu_share", "cpu_min", "cpu_max", "memory_max", "pids_max")
}

#: What is kept by a lender, of each resource that is lent.
KEPT: dict[str, int] = {one.name: one.kept for one in RESOURCES.values() if one.kept is not None}


@frozen
class Alias:
    """
    A name that a resource had later at the ancestor's.

    @ivar times: how many of the resource's units one of the alias's is.
    """

    resource: str
    unit: str
    times: int


ALIASES: dict[str, Alias] = {
    "cpu_pct": Alias("cpu_min", "per cent of a core", 10),
    "net_min_rate": Alias("net_min", "kbit/s", 1000),
    "net_max_rate": Alias("net_max", "kbit/s", 1000),
    "net_i2_min_rate": Alias("net2_min", "kbit/s", 1000),
    "net_i2_max_rate": Alias("net2_max", "kbit/s", 1000),
}

#: Pairs of which the first may not be more than the second; a second that is 0 where that means none bounds nothing.
_BOUNDED = (("net_min", "net_max"), ("net2_min", "net2_max"), ("cpu_min", "cpu_max"))


def read_rspec(
    given: Mapping[str, object], *, over: Mapping[str, int] = DEFAULTS, aliases: bool = True
) -> dict[str, int]:
    """
    What somebody asks for, completed.

    @param given: resource to amount, as it was typed.
    @param over: the amounts of what is not given.
    @param aliases: whether the ancestor's later names are taken, in their units.
    @return: the amount of every resource.
    @raise BadValue: naming what was wanted, at an unknown name, at what is no whole number within the resource's
        bounds, at a resource that is given under two names, or at amounts that contradict each other.
    """
    found: dict[str, int] = {}
    for name, value in given.items():
        resource, times, known = _meant(name, aliases)
        if resource.name in found:
            both = [one for one in given if one in RESOURCES or one in ALIASES]
            both = [one for one in both if _meant(one, aliases)[0] is resource]
            raise BadValue(f"rspec: want {resource.name} once, got it as {' and '.join(both)}")
        wrong = _wrong(resource, times, known, value)
        if wrong:
            raise BadValue(f"rspec: {name}: {wrong}")
        assert isinstance(value, int)
        found[resource.name] = value * times
    complete = {**DEFAULTS, **over, **found}
    for low, high in _contradictions(complete):
        raise BadValue(f"rspec: want {low} of at most {high}, got {complete[low]} and {complete[high]}")
    return complete


def read_tags(tags: Iterable[tuple[str, object]]) -> tuple[dict[str, int], list[str]]:
    """
    What the tags of a sliver in an authority's payload say of resources, completed; never refuses.

    @param tags: name and value, the one that counts most last; names that are no resource's are left alone, for tags
        say other things as well. A value may be a number or its digits as text.
    @return: the amount of every resource, and what was wrong, in words: there the default stands.
    """
    found: dict[str, int] = {}
    warnings: list[str] = []
    for name, said in tags:
        if name not in RESOURCES and name not in ALIASES:
            continue
        resource, times, known = _meant(name, True)
        value = _number(said)
        wrong = _wrong(resource, times, known, value)
        if wrong:
            warnings.append(f"tag {name}: {wrong}; the default, {resource.default}, stands")
            found.pop(resource.name, None)
        else:
            assert isinstance(value, int)
            found[resource.name] = value * times
    for low, high in _contradictions({**DEFAULTS, **found}):
        values = {**DEFAULTS, **found}
        warnings.append(f"tags: {low} {values[low]} is more than {high} {values[high]}; the defaults stand")
        found.pop(low, None)
        found.pop(high, None)
    for name, amount in found.items():
        kept = RESOURCES[name].kept
        if kept is not None and amount < kept:
            warnings.append(f"tag {name}: {amount} is less than the {kept} that a lender keeps; nothing of it is lent")
    return {**DEFAULTS, **found}, warnings


def lendable(name: str) -> Resource:
    """
    @raise BadValue: if slivers lend no such resource, naming those that they do.
    """
    resource = RESOURCES.get(name)
    if resource is None:
        raise BadValue(f"no resource {shown(name)}{near(name, KEPT)}; these are lent: {', '.join(KEPT)}")
    if not resource.lendable:
        raise BadValue(f"{name} is not lent; these are: {', '.join(KEPT)}")
    return resource


def _meant(name: str, aliases: bool) -> tuple[Resource, int, str]:
    """
    @return: the resource, how many of its units one of the name's is, and the name's unit.
    """
    if name in RESOURCES:
        return RESOURCES[name], 1, RESOURCES[name].unit
    if aliases and name in ALIASES:
        alias = ALIASES[name]
        return RESOURCES[alias.resource], alias.times, alias.unit
    known = [*RESOURCES, *ALIASES] if aliases else list(RESOURCES)
    raise BadValue(f"rspec: no resource {shown(name)}{near(str(name), known)}")


def _wrong(resource: Resource, times: int, unit: str, value: object) -> str:
    least, most = -(-resource.least // times), resource.most // times
    # Not isinstance: True is an int to Python, and no amount to anybody else.
    if type(value) is not int or not least <= value <= most:
        return f"want a whole number from {least} to {most} ({unit}), got {shown(value)}"
    return ""


def _number(said: object) -> object:
    if type(said) is not str:
        return said
    digits = said.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else said


def _contradictions(amounts: Mapping[str, int]) -> list[tuple[str, str]]:
    return [
        (low, high)
        for low, high in _BOUNDED
        if amounts[low] > amounts[high] and (amounts[high] > 0 or RESOURCES[high].default > 0)
    ]
