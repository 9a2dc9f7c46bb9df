"""
Tables as text: for the terminal, and as the page that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.rounds import Series, Spread, Table, Verdict, spread, verdict

_ANSWER = {True: "reached", False: "NOT REACHED", None: "not known"}


def number(value: float) -> str:
    """
    A figure with three digits that count, thousands apart.
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}"


def shown(one: Spread) -> str:
    """
    C{median [least-most]}
    """
    return f"{number(one.median)} [{number(one.low)}-{number(one.high)}]"


def grid(table: Table) -> list[list[str]]:
    """
    The figures of a table as cells, the names of the columns first.
    """
    details = list(dict.fromkeys(name for one in table.series for name in one.details))
    units = list(dict.fromkeys(one.unit for one in table.series))
    unit = units[0] if len(units) == 1 else ""
    rows = [["", unit or "median", *details]]
    for one in table.series:
        rows.append([one.name, *_figures(one, details, with_unit=not unit)])
    return rows


def goals(table: Table) -> list[list[str]]:
    """
    The goals of a table as cells, the names of the columns first.
    """
    rows = [["ratio", "median of the rounds' ratios", "target", ""]]
    for goal in table.goals:
        rows.append(_judged(verdict(table, goal)))
    return rows


def plain(table: Table) -> str:
    """
    A table for the terminal.
    """
    parts = [table.title, "=" * len(table.title), _aligned(grid(table))]
    if table.goals:
        parts.append(_aligned(goals(table)))
    parts += [f"  {note}" for note in table.notes]
    return "\n".join(parts) + "\n"


def page(tables: Sequence[Table], machine: Mapping[str, str], rounds: str) -> str:
    """
    The page that is kept, in Markdown.

    @param machine: what the machine is, by name.
    @param rounds: how much was measured, in words.
    """
    parts = [
        "# How fast hostline is",
        "",
        "Written by `.venv/bin/python -m bench --keep`; the figures of each round are in `bench/results/latest.json`.",
        "",
        "Everything in one table was measured side by side in one run: one short slice of each candidate per round, on",
        "one core, on another core each round. Figures are median [least-most] of the rounds. A ratio is the median of",
        "the ratios of each round; read the ratios: they repeat on a busy machine, the figures do not.",
        "",
        f"{rounds} On this machine:",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
    ]
    for table in tables:
        parts += ["", f"## {table.title[0].upper()}{table.title[1:]}", "", *_markdown(grid(table))]
        if table.goals:
            parts += ["", *_markdown(goals(table))]
        if table.notes:
            parts += ["", *table.notes]
    return "\n".join(parts) + "\n"


def kept(tables: Sequence[Table], machine: Mapping[str, str], rounds: str) -> dict[str, object]:
    """
    Everything that was measured, as a value for JSON.
    """
    return {
        "machine": dict(machine),
        "rounds": rounds,
        "tables": [
            {
                "title": table.title,
                "notes": list(table.notes),
                "series": [
                    {
                        "name": one.name,
                        "unit": one.unit,
                        "values": list(one.values),
                        "details": {name: list(values) for name, values in one.details.items()},
                        "left_out": one.left_out,
                    }
                    for one in table.series
                ],
                "goals": [_kept_goal(verdict(table, goal)) for goal in table.goals],
            }
            for table in tables
        ],
    }


def _figures(one: Series, details: Sequence[str], with_unit: bool) -> list[str]:
    if not one.values:
        return [f"left out: {one.left_out}", *("" for _ in details)]
    first = shown(spread(one.values)) + (f" {one.unit}" if with_unit else "")
    return [first, *(shown(spread(one.details[name])) if one.details.get(name) else "" for name in details)]


def _judged(found: Verdict) -> list[str]:
    goal = found.goal
    ratio = shown(found.ratio) if found.ratio else "-"
    if goal.bound is None:
        return [f"{goal.top} / {goal.bottom}", ratio, "none", ""]
    bound = f"{'at most' if goal.at_most else 'at least'} {goal.bound:g}"
    return [f"{goal.top} / {goal.bottom}", ratio, bound, _ANSWER[found.reached]]


def _kept_goal(found: Verdict) -> dict[str, object]:
    return {
        **found.goal._asdict(),
        "ratio": found.ratio._asdict() if found.ratio else None,
        "reached": found.reached,
    }


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip() for row in rows
    )


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    return [_line(head), "|" + "---|" * len(head), *(_line(row) for row in rest)]


def _line(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
