"""
What a sliver's rspec means in the kernel's words: pure, for control groups of both versions.

cpu_share is a weight whose default is 32 (PlanetLab's); it is mapped linearly so that 32 becomes the kernel's own
default: 1024 C{cpu.shares} (times 32), 100 C{cpu.weight} (times 100/32). cpu_min raises the weight of those who have
one, so far that all slivers together, all busy, still leave them their part of the host: see L{weights}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeVar

#: What names a sliver: its serial, or its group.
Key = TypeVar("Key", int, str)

#: The resources that control groups enforce.
ENFORCED = frozenset({"cpu_share", "cpu_min", "cpu_max", "memory_max", "pids_max"})
_SHARE = 32
_PERIOD_US = 100_000
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST_PROMISED = 0.9
#: In units of cpu_share, what is between two weights of version 2, which is also its least, and its most; version 1
#: has more room.
_STEP = _SHARE / 100
_MOST = 10000 * _STEP


def weights(rspecs: Mapping[Key, Mapping[str, int]], cores: int) -> dict[Key, float]:
    """
    What each sliver weighs, in units of cpu_share.

    With B the sum of all shares and r the part of the host promised by all cpu_min, everybody together never weighs
    more than T = B/(1-r) if each weighs max(share, T * its promised part); so each has at least its part of T. Who has
    a cpu_min weighs one step more, of which B knows, since the kernel's weights are whole numbers.

    Where somebody would have to weigh more than the kernel allows, all weigh less, in proportion. That holds for a
    thousand slivers beside one that has nine tenths of the host promised, and for more where less is promised.

    @param rspecs: of every sliver that competes.
    @param cores: of the host.
    """
    parts = {serial: rspec.get("cpu_min", 0) / (1000 * cores) for serial, rspec in rspecs.items()}
    shares = {serial: min(max(1, rspec.get("cpu_share", _SHARE)), _MOST) for serial, rspec in rspecs.items()}
    promised = sum(parts.values())
    if not promised:
        return {serial: float(share) for serial, share in shares.items()}
    squeeze = min(1.0, _MOST_PROMISED / promised)
    steps = _STEP * sum(part > 0 for part in parts.values())
    scale, found = 1.0, dict[Key, float]()
    for _ in range(8):
        lifted = {serial: max(_STEP, share * scale) for serial, share in shares.items()}
        total = (sum(lifted.values()) + steps) / (1 - promised * squeeze)
        for serial, part in parts.items():
            found[serial] = max(lifted[serial], total * part * squeeze + _STEP) if part else lifted[serial]
        most = max(found.values())
        if most <= _MOST:
            break
        scale *= _MOST / most * 0.999
    return found


def files_v1(rspec: Mapping[str, int], weight: float) -> list[tuple[str, str, str]]:
    """
    @return: controller, file and what to write, in order; memory twice, since memsw must never be below it.
    """
    quota = _quota_us(rspec)
    writes = [
        ("cpu", "cpu.shares", str(_between(2, weight * 32, 262144))),
        ("cpu", "cpu.cfs_period_us", str(_PERIOD_US)),
        ("cpu", "cpu.cfs_quota_us", str(quota or -1)),
    ]
    if "memory_max" in rspec:
        limit = str(rspec["memory_max"])
        writes += [("memory", "memory.limit_in_bytes", limit), ("memory", "memory.memsw.limit_in_bytes", limit)]
        writes += [("memory", "memory.limit_in_bytes", limit)]
    if "pids_max" in rspec:
        writes.append(("pids", "pids.max", str(rspec["pids_max"])))
    return writes


def files_v2(rspec: Mapping[str, int], weight: float) -> list[tuple[str, str, str]]:
    """
    @return: controller, file and what to write; swap is not given, as under version 1.
    """
    quota = _quota_us(rspec)
    writes = [
        ("cpu", "cpu.weight", str(_between(1, weight * 100 / _SHARE, 10000))),
        ("cpu", "cpu.max", f"{quota or 'max'} {_PERIOD_US}"),
    ]
    if "memory_max" in rspec:
        writes += [("memory", "memory.max", str(rspec["memory_max"])), ("memory", "memory.swap.max", "0")]
    if "pids_max" in rspec:
        writes.append(("pids", "pids.max", str(rspec["pids_max"])))
    return writes


def weight_file(version: int, weight: float) -> tuple[str, str, str]:
    """
    @return: the one entry of L{files_v1} or L{files_v2} that depends on the other slivers.
    """
    return (files_v1 if version == 1 else files_v2)({}, weight)[0]


def read_back(version: int, texts: Mapping[str, str]) -> dict[str, int]:
    """
    @param texts: file name to content, as far as there are such files.
    @return: what is in force, in the units of the rspec; a limit that is off is left out (cpu_max: 0). cpu_share is
        what a sliver without cpu_min would have asked for to get its weight.
    """
    found: dict[str, int] = {}
    for resource, name in (
        ("memory_max", "memory.limit_in_bytes" if version == 1 else "memory.max"),
        ("pids_max", "pids.max"),
        ("cpu_share", "cpu.shares" if version == 1 else "cpu.weight"),
    ):
        text = texts.get(name, "").strip()
        if text.isdigit():
            found[resource] = int(text)
    if "cpu_share" in found:
        found["cpu_share"] = _share(version, found["cpu_share"])
    quota = texts.get("cpu.cfs_quota_us" if version == 1 else "cpu.max", "").split()
    if quota:
        found["cpu_max"] = int(quota[0]) * 1000 // _PERIOD_US if quota[0].isdigit() else 0
    return found


def as_asked(version: int, texts: Mapping[str, str], rspec: Mapping[str, int], weight: float) -> dict[str, int]:
    """
    The same as L{read_back} for who knows what was asked for: where the kernel has just what was written for it, what
    was asked is in force, though the kernel rounds (memory to pages) and has bounds.

    @param weight: what the sliver should weigh.
    """
    files = (files_v1 if version == 1 else files_v2)(rspec, weight)
    written = read_back(version, {name: text for _, name, text in files})
    found = read_back(version, texts)
    if "memory_max" in written:
        written["memory_max"] -= written["memory_max"] % _PAGE
    result = {name: rspec.get(name, value) if written.get(name) == value else value for name, value in found.items()}
    if "cpu_share" in found and found["cpu_share"] == written["cpu_share"]:
        result["cpu_share"] = rspec.get("cpu_share", _SHARE)
        result["cpu_min"] = rspec.get("cpu_min", 0)
    return result


def _share(version: int, weight: int) -> int:
    """
    @return: the smallest share whose weight is this.
    """
    return -(-weight // 32) if version == 1 else -(-weight * _SHARE // 100)


def _quota_us(rspec: Mapping[str, int]) -> int:
    per_mille = rspec.get("cpu_max", 0)
    return max(1000, per_mille * _PERIOD_US // 1000) if per_mille > 0 else 0


def _between(low: int, value: float, high: int) -> int:
    return int(min(max(low, value), high))
