"""
The rows of resources and loans.
"""

from __future__ import annotations

from hostline.protocol import kinds, shapes
from hostline.protocol.command import BY_GRANT, FOR_MEMBERS, OPERATOR, OWNER, SELF, Command
from hostline.protocol.kinds import COUNT, FLAG, SLICE, SLIVER, WHEN, WORD, Kind, maybe
from hostline.protocol.names import shown

#: How many items the list of one lender has at most.
MOST_LOANS = 1000

_FOR_LENDERS = frozenset({SELF, OWNER, BY_GRANT, OPERATOR})
_FOR_READERS = FOR_MEMBERS | {SELF}
_WANTED: dict[str, Kind] = {"recipient": SLICE, "resource": WORD, "amount": COUNT}
#: What else a dict may hold: all that the reply tells of a loan, so that it can be sent back.
_MORE: dict[str, Kind] = {
    "until": maybe(WHEN),
    "lender": SLICE,
    "accepted": FLAG,
    "reason": kinds.STRING,
}


def _item(value: object) -> str | None:
    if isinstance(value, list) and len(value) == 3:
        value = dict(zip(_WANTED, value, strict=True))
    if (
        not isinstance(value, dict)
        or not value.keys() >= _WANTED.keys()
        or value.keys() - _WANTED.keys() - _MORE.keys()
    ):
        return f"want [recipient, resource, amount], or a dict of these and until, got {shown(value)}"
    for name, its in value.items():
        wrong = (_WANTED | _MORE)[name].fits(its)
        if wrong:
            return f"{name}: {wrong}"
    return None


def _list(value: object) -> str | None:
    if type(value) is not list:
        return f"want a list of [recipient, resource, amount], got {shown(value)}"
    if len(value) > MOST_LOANS:
        return f"want at most {MOST_LOANS} loans, got {len(value)}"
    for at, one in enumerate(value, 1):
        wrong = _item(one)
        if wrong:
            return f"item {at}: {wrong}"
    return None


LENT = Kind(
    "LOANS",
    f"list of at most {MOST_LOANS} [recipient, resource, amount], or of dicts with these keys and until",
    _list,
    lambda text: text,
)

ROWS: tuple[Command, ...] = (
    Command(
        "get_rspec",
        (("sliver", SLIVER),),
        shapes.AMOUNTS,
        _FOR_READERS,
        "What the sliver was given of each resource, before loans.",
        target="sliver",
        polled=True,
    ),
    Command(
        "get_effective_rspec",
        (("sliver", SLIVER),),
        shapes.AMOUNTS,
        _FOR_READERS,
        "What the sliver has of each resource, after loans.",
        target="sliver",
        polled=True,
    ),
    Command(
        "loan",
        (("recipient", SLICE), ("resource", WORD), ("amount", COUNT)),
        shapes.LOANS,
        _FOR_LENDERS,
        "Lend RECIPIENT so much of a resource, in place of what it was lent of that before; 0 ends it. The lender is "
        "the sliver that asks, or lender=. The reply is all that the lender lends.",
        options=(("lender", maybe(SLICE), None), ("until", maybe(WHEN), None)),
        target="sliver",
        targeted="lender",
        changes=True,
    ),
    Command(
        "set_loans",
        (("sliver", SLICE), ("loans", LENT)),
        shapes.LOANS,
        _FOR_LENDERS,
        "Replace all that SLIVER lends. The list is looked at in its order; the reply says of each item whether it "
        "counts, or why not.",
        options=(("until", maybe(WHEN), None),),
        target="sliver",
        changes=True,
    ),
    Command(
        "get_loans",
        (("sliver", SLICE),),
        shapes.LOANS,
        _FOR_READERS,
        "What SLIVER lends, or with borrowed=True what others lend to it and is accepted.",
        options=(("borrowed", FLAG, False),),
        target="sliver",
        polled=True,
    ),
)
