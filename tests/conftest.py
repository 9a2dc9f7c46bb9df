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

#: Live tests that measure time or what is free of the machine, or take all of it: C{make test} runs them when all
#: others are done, one after the other. They have the marker C{alone}.
ALONE = (
    "test_acceleration.py",
    "test_audit.py::AuditTests::test_losesNothingWhenKilled",
    "test_container_hostile.py::HostileTests::test_diskHog",
    "test_container_scale.py",
    "test_delays.py",
    "test_emulab.py::HostileTests::test_others",
    "test_fairness.py",
    "test_forward_ssh.py::ManyTests",
    "test_links.py::ShapeTests",
    "test_network.py::RateTests",
    "test_ns_bombs.py",
    "test_oracle.py",
    "test_scale.py::Scale::test_manyNodes",
    "test_show_containers.py::LimitTests::test_busyLoop",
    "test_show_containers.py::LoanTests",
    "test_show_containers.py::ShareTests",
    "test_show_experiments.py",
    "test_slivers.py::StartupTests",
    "test_templates.py::TemplateTests",
    "test_tls_endpoint.py::FloodTests::test_fromManyAddresses",
)
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark those of L{ALONE}.
    """
    for item in items:
        if item.nodeid.partition("live/")[2].startswith(ALONE):
            item.add_marker("alone")


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
