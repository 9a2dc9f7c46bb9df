"""
The rows of experiments that are looked after: who uses them, when they are swapped out, what became of them, and why
something is not as it should be.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol import kinds
from hostline.protocol.command import FOR_MEMBERS, Command
from hostline.protocol.kinds import EXPERIMENT, FLAG, FLOAT, INT, NODE, STRING, TIME, Kind, listing, maybe, record
from hostline.protocol.moments import read_seconds
from hostline.protocol.shapes import STATE, STRINGS

_EXPERIMENT = (("experiment", EXPERIMENT),)
#: What C{idle=} and C{most=} are set to so that the configuration's is meant.
SITE = "site"


def _limit(value: Any) -> str | None:
    return None if value == SITE else kinds.SECONDS.fits(value)


LIMIT = Kind(
    "SECONDS",
    f"seconds: 30, 2.5, 10m, 2h, 1d; {SITE}: as the configuration says",
    _limit,
    lambda text: text if text == SITE else read_seconds(text),
)


def _reason(value: Any) -> str | None:
    if type(value) is not str or not value.strip() or len(value) > 500 or not value.isprintable():
        return "want a reason: some words on one line, of at most 500 characters"
    return None


REASON = Kind("REASON", "why, in words on one line, of at most 500 characters", _reason)

NODE_ACTIVITY = record(
    "USE",
    "when a node was last in use by each rule, since the daemon began to look; seconds since the newest of them; "
    "when its driver last said so, and whether that is too long ago to be believed",
    {
        "node": NODE,
        "idle": FLOAT,
        "reported": maybe(TIME),
        "stale": FLAG,
        "terminal": maybe(TIME),
        "load": maybe(TIME),
        "links": maybe(TIME),
        "control": maybe(TIME),
    },
)
ACTIVITY = record(
    "ACTIVITY",
    "who uses an experiment: seconds since it was in use, when that was, by which rule or command, on which node; "
    "after how long it is swapped out, when that will be and for what; why that waits",
    {
        "experiment": EXPERIMENT,
        "state": STATE,
        "idle": maybe(FLOAT),
        "used": maybe(TIME),
        "by": STRING,
        "node": maybe(NODE),
        "idle_limit": maybe(FLOAT),
        "no_idle": STRING,
        "most": maybe(FLOAT),
        "swap_at": maybe(TIME),
        "swap_for": kinds.choice("FOR", "idle, most, or nothing", "idle", "most", ""),
        "held": STRING,
        "warned": maybe(TIME),
        "nodes": listing(NODE_ACTIVITY),
    },
)
HISTORY = listing(
    record(
        "PAST",
        "something that was done with an experiment: when it began, by whom, how long it took and how it ended",
        {
            "time": TIME,
            "what": STRING,
            "who": STRING,
            "name": STRING,
            "seconds": maybe(FLOAT),
            "operation": maybe(INT),
            "outcome": STRING,
            "reason": STRING,
            "nodes": STRINGS,
        },
    )
)
WHY = record(
    "WHY",
    "why a node is as it is: in a sentence, and by what was found, the innermost cause first",
    {
        "node": STRING,
        "verdict": STRING,
        "well": FLAG,
        "causes": listing(
            record("CAUSE", "something that was found", {"cause": STRING, "detail": STRING, "when": maybe(TIME)})
        ),
    },
)

ROWS: tuple[Command, ...] = (
    Command(
        "set_swap",
        _EXPERIMENT,
        ACTIVITY,
        FOR_MEMBERS,
        "When the experiment is swapped out by itself: after how long without use, not for that at all and for what "
        "reason, after how long whatever is done in it.",
        options=(("idle", LIMIT, None), ("no_idle", REASON, None), ("most", LIMIT, None)),
        target="experiment",
        changes=True,
    ),
    Command(
        "activity",
        _EXPERIMENT,
        ACTIVITY,
        FOR_MEMBERS,
        "Who uses the experiment, by which rule, and when it will be swapped out by itself. To ask is no use of it.",
        target="experiment",
    ),
    Command(
        "history",
        _EXPERIMENT,
        HISTORY,
        FOR_MEMBERS,
        "What was done with the experiment, by whom, how long it took and how it ended, the oldest first.",
        options=(
            ("since", TIME, 0.0),
            ("limit", kinds.number("N", "how many at most, the newest", 1, 1000), 100),
        ),
        target="experiment",
    ),
    Command(
        "why",
        (*_EXPERIMENT, ("node", NODE)),
        WHY,
        FOR_MEMBERS,
        "Why a node is as it is, the innermost cause first: what its driver, its start command, its logs, the failed "
        "operation and the host say of it.",
        target="experiment",
    ),
)
