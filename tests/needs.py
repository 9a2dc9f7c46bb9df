"""
What some tests need of the machine, as decorators for test methods and classes: without it they are skipped by name.

In continuous integration (C{CI=true}, as root) a skip is a failure, so that no test is lost unnoticed; only what no
package could bring (a kernel's feature, another user) may be missing there: its reason begins with L{CANNOT}.
"""

from __future__ import annotations

import os
import shutil
import unittest
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=Callable[..., object])

#: How the reason of a skip begins that is right even where tests may install what they like.
CANNOT = "cannot run here: "


def needs_root(test: T) -> T:
    """
    For what only root may do.
    """
    return unittest.skipUnless(os.geteuid() == 0, "needs root")(test)


def needs_other_user(test: T) -> T:
    """
    For what must be seen without root's rights.
    """
    return unittest.skipIf(os.geteuid() == 0, f"{CANNOT}needs a user who is not root")(test)


def needs_tool(*names: str) -> Callable[[T], T]:
    """
    For tests that call other programs; DEBIAN_FOR_TESTS in the Makefile names the packages.
    """
    missing = [name for name in names if shutil.which(name) is None]
    return unittest.skipIf(missing, f"needs {', '.join(missing)}")


def needs_kernel(there: object, what: str) -> Callable[[T], T]:
    """
    For what this kernel, or the container we are in, either can do or cannot.
    """
    return unittest.skipUnless(there, f"{CANNOT}{what}")
