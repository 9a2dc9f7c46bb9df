"""
How much of everything: short counts for C{make test}, full ones for C{make soak}, in the same tests.
"""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

SOAK = os.environ.get("HOSTLINE_SOAK") == "1"


def scaled(short: T, full: T) -> T:
    """
    @return: C{full} under C{make soak} (C{HOSTLINE_SOAK=1}), otherwise C{short}.
    """
    return full if SOAK else short
