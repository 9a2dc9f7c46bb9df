"""
Debian packages that a node is to have before its start command runs: how that is done where nobody else does it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

#: What every reason begins with.
PACKAGES = "packages: "
_SCRIPT = Path(__file__).with_name("packages.sh")


def installing(packages: Sequence[str]) -> str:
    """
    @param packages: their names.
    @return: a line of shell that installs them, unless they are there from an earlier boot; if that fails the last line
        of what it says is why, and it ends with 125.
    """
    return f"/bin/sh -c {shlex.quote(_SCRIPT.read_text('ascii'))} packages {shlex.join(packages)}"
