"""
What the fields of records may hold: the rules that a value must keep, and how lists out of JSON become tuples.

A value that breaks a rule is a C{TypeError} or C{ValueError} that says what was wanted; so is one that cannot be made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from attrs.validators import deep_iterable, deep_mapping, instance_of, optional

from hostline.server.slivers.loans import Loan

TEXT = instance_of(str)
MAYBE_TEXT = optional(instance_of(str))
FLAG = instance_of(bool)
WHOLE = instance_of(int)
MAYBE_WHOLE = optional(instance_of(int))
NUMBER = instance_of((int, float))
MAYBE_NUMBER = optional(instance_of((int, float)))
TEXTS = deep_iterable(instance_of(str), instance_of(tuple))
WHOLES = deep_iterable(instance_of(int), instance_of(tuple))
#: Whole numbers by name, and texts by name.
AMOUNTS = deep_mapping(instance_of(str), instance_of(int), instance_of(dict))
REASONS = deep_mapping(instance_of(str), instance_of(str), instance_of(dict))
OBJECTS = deep_iterable(instance_of(dict), instance_of(list))


def all_texts(value: Iterable[str]) -> tuple[str, ...]:
    """
    @raise TypeError: if it is one text, which is also a sequence of texts.
    """
    if isinstance(value, str):
        raise TypeError("want a list, got a text")
    return tuple(value)


def all_wholes(value: Iterable[int]) -> tuple[int, ...]:
    """
    @return: the same as a tuple; what is in it is not looked at.
    """
    return tuple(value)


def all_loans(value: Iterable[Any]) -> tuple[Loan, ...]:
    """
    @param value: loans, or lists of their fields in order, as JSON has them.
    @raise TypeError: if one is no loan.
    """
    found = tuple(one if isinstance(one, Loan) else Loan(*one) for one in value)
    for one in found:
        good = type(one.recipient) is str and type(one.resource) is str and type(one.amount) is int
        if not (good and type(one.until) in (float, int, type(None)) and type(one.to) in (int, type(None))):
            raise TypeError(f"want [recipient, resource, amount, until, to], got {list(one)}"[:200])
    return found


def is_goal(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """
    What an operation waits for, or what was before: C{[wanted, boots, ...]} by a sliver's serial, as text.

    @raise TypeError: if it is something else.
    """
    instance_of(dict)(instance, attribute, value)
    for serial, wanted in value.items():
        if not (serial.isdecimal() and isinstance(wanted, list) and len(wanted) >= 2):
            raise TypeError(f"want [wanted, boots] by serial as {attribute.name}")
        if not (isinstance(wanted[0], str) and isinstance(wanted[1], int)):
            raise TypeError(f"want [wanted, boots] by serial as {attribute.name}")
