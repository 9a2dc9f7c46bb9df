"""
How pytest runs our tests: in continuous integration nothing is skipped, and nobody's Ctrl-C is ignored.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.needs import CANNOT

#: Where a skip is a failure: the needs could have been met.
STRICT = os.environ.get("CI") == "true" and os.geteuid() == 0


def pytest_configure() -> None:
    """
    Have what the tests start end at Ctrl-C: a shell that starts us in the background has us ignore it, and who starts
    with that hands it on.

    On a busy machine one try of an example may take long; what must not is measured by the tests themselves.
    """
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def _strict(report: Any) -> Any:
    if not STRICT or not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if CANNOT not in reason:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} could run here: {reason}"
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """
    A skipped test is a failed one where L{STRICT} says so.
    """
    return _strict((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """
    So is a skipped module.
    """
    return _strict((yield))
