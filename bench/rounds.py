"""
Rounds: candidates measured by turns, and what many rounds say together.

A slice on a shared machine may be off by half; the ratio of two slices taken one after the other on one core repeats
to a few per cent. So a ratio is the median of the ratios of each round, never the ratio of two medians.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

Measured = TypeVar("Measured")
Key = TypeVar("Key", bound=Hashable)


class Spread(NamedTuple):
    """
    What several rounds gave: the median, the least and the most.
    """

    median: float
    low: float
    high: float


class Series(NamedTuple):
    """
    One candidate, round by round.

    @ivar values: the figure of each round, in the order of the rounds; empty if the candidate was left out.
    @ivar details: further figures by name (C{p50 us}), shown beside the first.
    @ivar left_out: why there are no values.
    """

    name: str
    unit: str
    values: Sequence[float] = ()
    details: Mapping[str, Sequence[float]] = {}
    left_out: str = ""


class Goal(NamedTuple):
    """
    A ratio that is wanted: C{top} divided by C{bottom}, both names of series, is at least or at most C{bound}.

    @ivar bound: None if nothing is wanted of the ratio: it is told to understand the others.
    """

    top: str
    bottom: str
    bound: float | None = None
    at_most: bool = False


class Verdict(NamedTuple):
    """
    What became of a goal.

    @ivar ratio: None if one of its series was left out.
    @ivar reached: whether the median ratio keeps the bound; None if it is not known, or there is none.
    """

    goal: Goal
    ratio: Spread | None
    reached: bool | None


class Table(NamedTuple):
    """
    Candidates that were measured side by side, and the goals between them.

    @ivar notes: how it was measured, and what to know when reading it.
    """

    title: str
    series: Sequence[Series]
    goals: Sequence[Goal]
    notes: Sequence[str] = ()


def spread(values: Sequence[float]) -> Spread:
    """
    The median of some figures and how far they lie apart.

    @raise ValueError: there are none.
    """
    if not values:
        raise ValueError("want at least one value")
    return Spread(median(values), min(values), max(values))


def ratio(top: Sequence[float], bottom: Sequence[float]) -> Spread:
    """
    The spread of the ratios of each round.

    @raise ValueError: the two were not measured in the same rounds.
    """
    if len(top) != len(bottom):
        raise ValueError(f"want the same rounds, got {len(top)} and {len(bottom)}")
    return spread([one / other for one, other in zip(top, bottom, strict=True)])


def verdict(table: Table, goal: Goal) -> Verdict:
    """
    Whether a goal was reached.

    @raise KeyError: the goal names a series that the table has not.
    """
    values = {one.name: one.values for one in table.series}
    top, bottom = values[goal.top], values[goal.bottom]
    if not top or not bottom:
        return Verdict(goal, None, None)
    found = ratio(top, bottom)
    if goal.bound is None:
        return Verdict(goal, found, None)
    reached = found.median <= goal.bound if goal.at_most else found.median >= goal.bound
    return Verdict(goal, found, reached)


def by_turns(
    candidates: Mapping[Key, Callable[[int], Measured]], rounds: int, cores: Sequence[int]
) -> dict[Key, list[Measured]]:
    """
    Measure every candidate once per round, each round on the next core and beginning with the next candidate.

    @param candidates: name to what measures one slice on the core it is given.
    @return: name to what each round gave.
    """
    names = list(candidates)
    found: dict[Key, list[Measured]] = {name: [] for name in names}
    for number in range(rounds):
        core = cores[number % len(cores)]
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(candidates[name](core))
    return found
