"""
Texts as a shell reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def quoted(text: str) -> str:
    """
    @return: one word of a shell, whatever is in it.
    @raise ValueError: if no shell can hold it.
    """
    if "\0" in text:
        raise ValueError("want a text without NUL")
    return "'" + text.replace("'", "'\\''") + "'"


def exports(environment: Mapping[str, str]) -> str:
    """
    @return: lines by which what follows has these variables.
    @raise ValueError: if one cannot have such a name or value.
    """
    for name in environment:
        if not _VARIABLE.match(name):
            raise ValueError(f"want the name of an environment variable, got {name!r}")
    return "".join(f"export {name}={quoted(value)}\n" for name, value in environment.items())
