"""
Payload: an authority's records of 10,000 slivers with nothing new, from the request to the durable reply.
"""

from __future__ import annotations

import json
import os
import time
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.daemon import Daemon
from bench.machine import cpu_ns, pin
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting

SLIVERS = 10_000
SAME, ONE, XML, LIMIT = "nothing new, JSON", "one keyring changed, JSON", "nothing new, XML-RPC", "0.3 s"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl {}"
#: Delegated: ten thousand records, of which nobody has asked for the sliver.
_CONFIG = """\
[slivers]
uid_first = 795000
uid_count = 2000
[delegates]
uid_first = 798100
uid_count = 100
[authority]
file = "{}"
kind = "process"
period_s = 86400.0
"""


def payload(number: int, changed: int = -1) -> dict[str, Any]:
    """
    @param number: of the payload, its time; C{changed}: which sliver has another key than in the others.
    """
    return {
        "timestamp": 1_162_224_834 + number,
        "initscripts": [{"name": "hello", "script": "#!/bin/sh\ndate >/tmp/up\n"}],
        "slivers": [
            {
                "name": f"lab_s{at}",
                "slice_id": at,
                "instantiation": "delegated",
                "expires": None,
                "keys": [
                    {"key_type": "ssh", "key": _KEY.format(who)} for who in ("ann", f"bob{number * (at == changed)}")
                ],
                "attributes": [
                    {"tagname": "cpu_share", "value": "64"},
                    {"tagname": "memory_max", "value": "67108864"},
                    {"tagname": "initscript", "value": "hello"},
                ],
            }
            for at in range(SLIVERS)
        ],
    }


class _Payloads:
    """
    A daemon that has taken over the records once.
    """

    def __init__(self, daemon: Daemon, file: Path) -> None:
        self._daemon = daemon
        self._file = file
        self._number = 0
        self._cores = os.sched_getaffinity(0)
        self.cpu: dict[str, list[float]] = {}
        self.size = self._write(payload(0), json.dumps)
        self._said(created=SLIVERS)

    def same(self, core: int) -> float:
        """Seconds for one with nothing new."""
        return self._timed(SAME, core, self._next(), json.dumps, kept=SLIVERS)

    def one(self, core: int) -> float:
        """Seconds for one in which one sliver has another key."""
        # Twice the same sliver: what it was before it is again, so that the next one finds nothing new.
        spent = self._timed(ONE, core, self._next(changed=617), json.dumps, kept=SLIVERS - 1, changed=1)
        self._write(self._next(), json.dumps)
        self._said(kept=SLIVERS - 1, changed=1)
        return spent

    def xml(self, core: int) -> float:
        """Seconds for one with nothing new, as the authority of old sends it."""
        return self._timed(XML, core, self._next(), _response, kept=SLIVERS)

    def _next(self, changed: int = -1) -> dict[str, Any]:
        self._number += 1
        return payload(self._number, changed)

    def _timed(self, name: str, core: int, value: dict[str, Any], write: Callable[[Any], str], **wanted: int) -> float:
        self._write(value, write)
        pin(self._daemon.pid, core)
        before, begun = cpu_ns(self._daemon.pid), time.perf_counter()
        self._said(**wanted)
        spent = time.perf_counter() - begun
        self.cpu.setdefault(name, []).append((cpu_ns(self._daemon.pid) - before) / 1e9)
        return spent

    def _write(self, value: dict[str, Any], write: Callable[[Any], str]) -> int:
        text = write(value)
        self._file.write_text(text)
        return len(text)

    def _said(self, **wanted: int) -> None:
        body = self._daemon.ask("sync")
        found = {name: len(body[name]) for name in ("created", "changed", "kept", "stopped", "refused")}
        if found != {**dict.fromkeys(found, 0), **wanted}:
            raise ValueError(f"want {wanted} of a sync, got {found}")


def payloads(setting: Setting) -> Table:
    """
    @raise CannotStart: the daemon does not start; C{Refused}: it does not take a payload; C{ValueError}: it makes of
        one what it does not say.
    """
    file = setting.directory / "payload"
    with Daemon(setting.directory, "following", _CONFIG.format(file)) as daemon:
        measured = _Payloads(daemon, file)
        candidates = {SAME: measured.same, ONE: measured.one, XML: measured.xml}
        by_turns(candidates, 1, setting.cores)  # so that the memory is there
        measured.cpu.clear()
        found = by_turns(candidates, setting.rounds, setting.cores)
    series = [Series(name, "s", found[name], {"of that the daemon's CPU": measured.cpu[name]}) for name in candidates]
    return Table(
        f"sync of a payload of {SLIVERS:,} records",
        [*series, Series(LIMIT, "s", [0.3] * setting.rounds)],
        [Goal(SAME, LIMIT, 1, at_most=True), Goal(ONE, LIMIT), Goal(XML, LIMIT)],
        [
            f"{measured.size} bytes as JSON, from a file; seconds from the request to the reply, which names every "
            "sliver and comes when all is durable. The child that reads the payload is started for each one; its time "
            "is in the seconds, not in the daemon's."
        ],
    )


def _response(value: Any) -> str:
    return xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True)
