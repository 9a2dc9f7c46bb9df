"""
Work that misbehaves, for C{test_offload}: the real child with other names.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from hostline.protocol.errors import BadTopology
from hostline.server import offload_child


def echo(value: Any) -> Any:
    return value


def refuse(value: Any) -> Any:
    raise BadTopology("no good", errors=[{"line": 7, "text": "here"}])


def bug(value: Any) -> Any:
    return {}[value]


def memory(value: Any) -> Any:
    kept = []
    while True:
        kept.append(bytearray(16 * 1024 * 1024))


def loop(value: Any) -> Any:
    while True:
        pass


def crash(value: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(value: Any) -> Any:
    os._exit(3)


def garbage(value: Any) -> Any:
    os.write(offload_child.OUT, b"\xff{[")
    os._exit(0)


def shut(value: Any) -> Any:
    os.close(offload_child.OUT)
    while True:
        pass


def flood(value: Any) -> Any:
    while True:
        os.write(offload_child.OUT, bytes(65536))


def not_json(value: Any) -> Any:
    return {1, 2}


def deep(value: Any) -> Any:
    os.write(offload_child.OUT, b"[" * 1_000_000)
    os._exit(0)


def rights(value: Any) -> Any:
    """
    What the work can still do.
    """
    said: dict[str, Any] = {
        "uids": list(os.getresuid()),
        "gids": list(os.getresgid()),
        "groups": os.getgroups(),
        "limits": [resource.getrlimit(one)[1] for one in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)],
        "environment": sorted(os.environ),
    }
    for name, attempt in (
        ("fork", os.fork),
        ("write", lambda: (Path(value) / "file").write_text("x")),
        ("root", lambda: os.setuid(0)),
        ("many files", lambda: [socket.socket() for _ in range(64)]),
    ):
        try:
            attempt()
            said[name] = "done"
        except OSError as error:
            said[name] = type(error).__name__
    libc = ctypes.CDLL(None)
    said["dumpable"] = libc.prctl(3, 0, 0, 0, 0)
    said["no_new_privs"] = libc.prctl(39, 0, 0, 0, 0)
    return said


_WORK = (echo, refuse, bug, memory, loop, crash, leave, garbage, shut, flood, not_json, deep, rights)
NAMES = {one.__name__: ("bombs", one.__name__) for one in _WORK}

if __name__ == "__main__":
    sys.modules["bombs"] = sys.modules["__main__"]
    offload_child.main(sys.argv[1:], NAMES)
