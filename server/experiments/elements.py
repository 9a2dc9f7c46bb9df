"""
What every element of a TopDL text is made of: children, leaves, attributes, names, numbers; read with a finding, not
an exception, for whatever is wrong.
"""

from __future__ import annotations

import math
import re

from attrs import define, field

from hostline.protocol.attributes import attribute_meant
from hostline.server.experiments import wishes
from hostline.server.experiments.document import Element
from hostline.server.experiments.spelling import element_meant
from hostline.server.experiments.topology import Findings, quoted

#: kbit/s, ms.
RATE_MAX = 1e9
DELAY_MAX = 1e6

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_NAME_RULE = "at most 63 of A-Z, a-z, 0-9, '_' and '-', not beginning with '-'"
_SHAPE_KINDS = ("max", "average", "avg")


@define
class Elements:
    """
    Reads the parts of elements.

    @ivar prefix: what stands before the name of every element of TopDL in this text: empty, or C{t:}.
    """

    findings: Findings = field(factory=Findings)
    prefix: str = ""

    def all(self, one: Element, name: str) -> list[Element]:
        tag = self.prefix + name
        return [child for child in one.children if child.tag == tag]

    def one(self, parent: Element, name: str) -> Element | None:
        parts = self.all(parent, name)
        if len(parts) > 1:
            self.findings.warning(parts[1].line, f"several <{name}>: the first is taken")
        return parts[0] if parts else None

    def leaf(self, parent: Element, name: str) -> str | None:
        part = self.one(parent, name)
        if part is None:
            return None
        if part.elements:
            self.findings.error(part.line, f"want text in <{name}>, got markup (write '<' as &lt;)")
        return part.value

    def name(self, one: Element, what: str) -> str | None:
        name = self.leaf(one, "name")
        if name is None:
            self.findings.error(one.line, f"want a <name> for {what}")
        elif not _NAME.fullmatch(name):
            self.findings.error(one.line, f"want the name of {what} to be {_NAME_RULE}; got {quoted(name)}")
        else:
            return name
        return None

    def attributes(self, one: Element, place: str) -> dict[str, str]:
        """@return: name to value; where a name is repeated, the first, as fedd has it."""
        found: dict[str, str] = {}
        for part in self.all(one, "attribute"):
            self.lint(part, "attribute")
            name, value = self.leaf(part, "attribute"), self.leaf(part, "value")
            if not name or value is None:
                text = "want <attribute> and <value> in <attribute>; this one means nothing"
                self.findings.warning(part.line, text)
                continue
            if name in found:
                if found[name] != value:
                    self.findings.warning(part.line, f"attribute {quoted(name)} is there twice: the first is taken")
                continue
            found[name] = value
            fault = wishes.wrong(name, value) if place == "computer" else ""
            if fault:
                self.findings.error(part.line, fault)
            meant = attribute_meant(name, place)
            if meant is not None:
                advice = f"; did you mean {meant}?" if meant else f" on <{place}>"
                self.findings.warning(part.line, f"unknown attribute {quoted(name)}{advice}")
        return found

    def lint(self, one: Element, place: str) -> None:
        """Tell of children that TopDL does not have; elements of other namespaces are their owners' business."""
        for child in one.elements:
            name = child.tag.removeprefix(self.prefix)
            if ":" not in name:
                meant = element_meant(name, place)
                if meant is not None:
                    advice = f"; did you mean <{meant}>?" if meant else ": kept in the text, not used"
                    self.findings.warning(child.line, f"unknown element <{name[:64]}> in <{one.tag[:64]}>{advice}")

    def shape(self, one: Element, attributes: dict[str, str]) -> tuple[float | None, float | None, float | None]:
        """@return: rate in kbit/s, delay in ms, loss from 0 to 1, as far as they are given."""
        rate = delay = loss = None
        for outer, inner in (("capacity", "rate"), ("latency", "time")):
            part = self.one(one, outer)
            if part is None:
                continue
            self.lint(part, outer)
            kind = self.leaf(part, "kind")
            if kind not in (None, *_SHAPE_KINDS):
                self.findings.warning(part.line, f"want kind max or average in <{outer}>, got {quoted(kind)}")
            given = self.leaf(part, inner)
            if given is None:
                self.findings.error(part.line, f"want <{inner}> in <{outer}>")
            elif outer == "capacity":
                rule = "a rate in kbit/s above 0 (no <capacity> for no limit)"
                rate = self.number(part, given, rule, RATE_MAX)
                if rate == 0:
                    self.findings.error(part.line, f"want {rule}, got {quoted(given)}")
            else:
                delay = self.number(part, given, f"a time from 0 to {DELAY_MAX:.0f} ms", DELAY_MAX)
        if "loss" in attributes:
            loss = self.number(one, attributes["loss"], "a loss from 0 to 1", 1)
        return rate, delay, loss

    def number(self, one: Element, given: str, rule: str, most: float) -> float | None:
        try:
            value = float(given) if given.isascii() and "_" not in given else math.nan
        except ValueError:
            value = math.nan
        if 0 <= value <= most:
            return value
        self.findings.error(one.line, f"want {rule}, got {quoted(given)}")
        return None
