"""
The record of an experiment's diary (L{hostline.server.experiments.history}).
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import field, frozen
from attrs.validators import deep_mapping, instance_of

from hostline.server.fields import NUMBER, OBJECTS, TEXT, WHOLE
from hostline.server.record import Record


@frozen(kw_only=True)
class Diary(Record):
    """
    The diary of the experiment with the same serial.

    @ivar entries: the oldest first, as C{history} shows them.
    @ivar told: when the owner was told last of something, by what; forgotten once that is so no more.
    @ivar reminders: how often it was reminded of one that nobody uses, since it was in use.
    @ivar owed: what the notify program was not given yet: C{{'number', 'what', 'to', 'text'}}, oldest first.
    @ivar sent: how many of C{owed} there have been, so that each has a number: that of the newest.
    """

    table: ClassVar[str] = "diary"
    entries: list[dict[str, Any]] = field(factory=list, validator=OBJECTS)
    told: dict[str, float] = field(factory=dict, validator=deep_mapping(TEXT, NUMBER, instance_of(dict)))
    reminders: int = field(default=0, validator=WHOLE)
    owed: list[dict[str, Any]] = field(factory=list, validator=OBJECTS)
    sent: int = field(default=0, validator=WHOLE)
