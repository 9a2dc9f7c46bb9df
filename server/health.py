"""
What the host has, what it gives, and whether all that the daemon stands on is well.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import hostline
from hostline.server.experiments import tcl_library

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: What everybody may hear details of; others may name slivers, delegates, certificates and what they wait for.
_FOR_ALL = ("state", "disk", "clock", "descriptors")
#: Free disk below which C{doctor} warns.
_LOW_DISK = 256 << 20


class Health:
    """
    Looks, each time it is asked.
    """

    def __init__(self, daemon: Daemon, state: Path) -> None:
        self._daemon = daemon
        self._state = state
        self._process = psutil.Process()
        psutil.cpu_percent(None)  # the first call only begins the measuring

    def host_status(self, details: bool) -> dict[str, Any]:
        """
        The body of C{host_status}.

        @param details: whether the caller may know all that C{doctor} says.
        """
        daemon = self._daemon
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._state))
        load1, load5, load15 = os.getloadavg()
        slivers = list(daemon.host.slivers_by_serial.values())
        running = [one for one in slivers if (status := daemon.sync.status(one.serial)) and status.pid is not None]
        return {
            "host": daemon.host.name,
            "capacity": {
                "cores": psutil.cpu_count() or 1,
                "memory_bytes": memory.total,
                "disk_bytes": disk.total,
            },
            "allocated": {
                "slivers": len(slivers),
                "running": len(running),
                "memory_max": sum(one.rspec.get("memory_max", 0) for one in running),
                "pids_max": sum(one.rspec.get("pids_max", 0) for one in running),
                "cpu_min": daemon.host.ledger.total("cpu_min"),
            },
            "load": {
                "load1": load1,
                "load5": load5,
                "load15": load15,
                "cpu_percent": psutil.cpu_percent(None),
                "memory_used_bytes": memory.total - memory.available,
                "disk_free_bytes": disk.free,
            },
            "drivers": {kind: driver.version for kind, driver in daemon.sync.drivers.items()},
            "problems": [_problem(one, details) for one in self.doctor() if not one["ok"]],
            "uptime": daemon.now() - daemon.started,
            "daemon": {
                "pid": os.getpid(),
                "version": hostline.__version__,
                "started": daemon.started,
                "memory_bytes": self._process.memory_info().rss,
                "connections": daemon.connections,
                "generation": daemon.host.generation,
            },
        }

    def doctor(self) -> list[dict[str, Any]]:
        """
        The body of C{doctor}: what is looked at, whether it is well, and what to do if not.
        """
        return [
            *self._looks_at_the_state(),
            self._looks_at_records(),
            self._looks_at_the_audit_log(),
            *self._looks_at_drivers(),
            *self._looks_at_missing_drivers(),
            *self._asks_the_parts(),
            *(_found(*one) for one in tcl_library.findings()),
            self._looks_at_the_loop(),
            self._looks_at_descriptors(),
        ]

    def _looks_at_the_state(self) -> list[dict[str, Any]]:
        trouble = self._daemon.store.trouble
        free = shutil.disk_usage(self._state).free
        return [
            _found(
                "state",
                trouble is None,
                f"changes are written to {self._state}" if trouble is None else f"changes are refused: {trouble}",
                "make room on, or mend, the file system of the state directory; the next change then succeeds",
            ),
            _found(
                "disk",
                free > _LOW_DISK,
                f"{free >> 20} MiB free at {self._state}",
                f"keep {_LOW_DISK >> 20} MiB free: a full disk makes every change fail",
            ),
        ]

    def _looks_at_records(self) -> dict[str, Any]:
        aside = self._daemon.host.aside
        return _found(
            "records",
            not aside,
            f"all records could be read at start ({len(self._daemon.host.slivers_by_serial)} slivers)"
            if not aside
            else f"{len(aside)} at start: {'; '.join(aside[:5])}",
            "the damaged records are kept in the table 'aside' of host.db; terminate what they belonged to",
        )

    def _asks_the_parts(self) -> list[dict[str, Any]]:
        daemon = self._daemon
        parts = (
            daemon.follower,
            daemon.tls,
            daemon.renewal,
            daemon.delegates,
            daemon.issuer,
            daemon.tickets,
            daemon.linked,
            daemon.names,
        )
        return [_found(*one) for part in (*parts, daemon.idle) for one in part.findings()]

    def _looks_at_the_audit_log(self) -> dict[str, Any]:
        trouble = self._daemon.audit.trouble
        return _found(
            "audit log",
            not trouble,
            f"old entries stay in the state: {trouble}" if trouble else f"old entries go to {self._state / 'audit'}",
            "mend what it says; nothing is lost, and within the hour it is tried again",
        )

    def _looks_at_drivers(self) -> list[dict[str, Any]]:
        found = []
        for kind, driver in self._daemon.sync.drivers.items():
            problems = driver.problems()
            found.append(
                _found(
                    f"driver {kind}",
                    not problems,
                    "; ".join(problems or [one for one in (driver.version, driver.holds) if one]),
                    "mend what it says; a daemon of root's with control groups gives slivers uids and limits of "
                    "their own; to end slivers without a record, remove keep-strays from the state directory and "
                    "start again",
                )
            )
        return found

    def _looks_at_missing_drivers(self) -> list[dict[str, Any]]:
        remedy = "mend what it says and start the daemon again; slivers of other kinds are not affected"
        return [_found(f"driver {kind}", False, why, remedy) for kind, why in sorted(self._daemon.missing.items())]

    def _looks_at_the_loop(self) -> dict[str, Any]:
        name = type(self._daemon.loop).__module__.partition(".")[0]
        policy = "uvloop" if name == "uvloop" else asyncio.__name__
        return _found("event loop", True, f"the reactor runs on {policy}", "pip install hostline[fast] makes it faster")

    def _looks_at_descriptors(self) -> dict[str, Any]:
        used = self._process.num_fds()
        most = self._process.rlimit(psutil.RLIMIT_NOFILE)[0]
        return _found(
            "descriptors",
            used < most * 0.8,
            f"{used} of {most} file descriptors are open",
            "raise LimitNOFILE of the daemon's service; each sliver and each connection takes one",
        )


def _problem(found: dict[str, Any], details: bool) -> str:
    if details or found["check"] in _FOR_ALL:
        return str(found["detail"])
    return f"{found['check']}: not as it should be; doctor tells operators more"


def _found(check: str, ok: bool, detail: str, remedy: str) -> dict[str, Any]:
    return {"check": check, "ok": ok, "detail": detail, "remedy": "" if ok else remedy}
