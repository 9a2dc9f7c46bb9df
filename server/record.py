"""
What every record is: a frozen thing with a serial and a key, and its way into JSON and back.
"""

from __future__ import annotations

import json
from typing import ClassVar, TypeVar

import attrs
from attrs import field, frozen

from hostline.server.fields import TEXT, WHOLE

_R = TypeVar("_R", bound="Record")

#: Made once: C{json.dumps} with other separators makes an encoder for each call.
ENCODE = json.JSONEncoder(separators=(",", ":")).encode


class Damaged(Exception):
    """
    A stored record cannot be read; it is set aside and named in C{doctor}.
    """


@frozen(kw_only=True)
class Record:
    """
    Anything that is kept.

    @cvar table: the record's kind in the store.
    @ivar serial: never used again on this host.
    """

    table: ClassVar[str] = ""
    serial: int = field(validator=WHOLE)

    @property
    def key(self) -> str:
        """
        What the record is found by, unique in its table.
        """
        return str(self.serial)

    def as_json(self) -> str:
        """
        The record as the store keeps it.
        """
        # Not attrs.asdict, which copies a topology of thousands of nodes leaf by leaf.
        return ENCODE({one.name: getattr(self, one.name) for one in attrs.fields(type(self))})

    @classmethod
    def from_json(cls: type[_R], text: str) -> _R:
        """
        @raise Damaged: if the text is no such record.
        """
        try:
            body = json.loads(text)
            known = {one.name for one in attrs.fields(cls)}
            return cls(**{name: value for name, value in body.items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise Damaged(f"{cls.table} record: {error}"[:200]) from error


@frozen(kw_only=True)
class Named(Record):
    """
    A record found by its name.
    """

    name: str = field(validator=TEXT)

    @property
    def key(self) -> str:
        """
        The name.
        """
        return self.name
