"""
Debian packages that a node is to have before its start command runs: how that is done where nobody else does it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = Path(__file__).with_name("packages.sh")


def with_packages(packages: Sequence[str], command: str | None) -> str:
    """
    @param packages: their names.
    @param command: a start command; None if there is none.
    @return: one that installs them first, unless they are there from an earlier boot; if that fails it says so, and
        ends with 125.
    """
    install = f"/bin/sh -c {shlex.quote(_SCRIPT.read_text('ascii'))} packages {shlex.join(packages)}"
    return install if command is None else f"{install} >&2 || exit 125\n{command}"
