"""
The process in which heavy work on callers' input runs: one JSON value in, one JSON document out, and out of reach.

Started by L{hostline.server.offload} with C{NAME SECONDS}, it reads the argument from its standard input to the end and
writes C{{"value": ...}}, C{{"error": {"code", "message", ...}}} or, for a bug, C{{"bug": "traceback"}}. Before it
reads a byte it has given up all that it will not need: memory, time, files, processes, privileges, and root.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from hostline.protocol.errors import HostError, OperationFailed

#: What may be called: name to module and function. The function takes and returns a JSON value.
NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "check_topology": ("hostline.server.experiments.check", "check_topology"),
    "plan": ("hostline.server.experiments.planning", "plan"),
    "read_payload": ("hostline.server.slivers.payload", "read_payload"),
    "read_response": ("hostline.server.slivers.response", "read_payload"),
    "read_ticket": ("hostline.server.slivers.signed_ticket", "read_ticket"),
    "read_request": ("hostline.server.trust.csr", "read_request"),
    "read_call": ("hostline.server.facades.emulab_call", "read_call"),
    "poll_authority": ("hostline.server.fetch", "poll_authority"),
}
#: What the work imports only where something is odd in its input. It must be there before: a user without rights may
#: be unable to read it.
_LATE = (
    "datetime",
    "difflib",
    "encodings.idna",
    "encodings.unicode_escape",
    "ipaddress",
    "json.decoder",
    "hostline.protocol.tokens",
)
#: Bytes of address space.
MEMORY_MAX = 1024**3
MEMORY_TEXT = "1 GiB"
#: What must be made ready while the child may still start a thread, if the work is to use it: a function of the module.
_READY = ("hostline.server.experiments.tcl_guard", "prepare")
_FILES_MAX = 16
#: Where the reply goes.
OUT = 3
_NOBODY = 65534
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def main(arguments: Sequence[str], names: Mapping[str, tuple[str, str]] = NAMES) -> None:
    """
    Do one piece of work; never returns.

    @param arguments: the name, and the most seconds of processor time.
    """
    name, seconds = arguments
    gc.disable()  # it lives for one piece of work: to look for garbage costs more than the garbage
    try:
        os.closerange(OUT, 65536)
        os.dup2(1, OUT)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)  # a library may say something there: the reply is alone on what was standard output
        os.close(nothing)
        module, function = names[name]
        work: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
        for one in _LATE:
            importlib.import_module(one)
        module, function = _READY
        if module in sys.modules:
            _no_new_privileges()
            getattr(sys.modules[module], function)(_last_words)
        confine(int(seconds))
        reply = answer(work, sys.stdin.buffer.read())
    except BaseException:
        reply = json.dumps({"bug": traceback.format_exc()})
    _written(reply)


def _written(reply: str) -> NoReturn:
    with open(OUT, "wb", closefd=False) as out:
        out.write(reply.encode())
    os._exit(0)  # without the seconds that a big tree takes to be torn down


def _last_words(error: HostError) -> NoReturn:
    _written(_refusal(error))


def _refusal(error: HostError) -> str:
    return json.dumps({"error": {"code": error.code, "message": error.message, **error.details}})


def _no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def confine(seconds: int) -> None:
    """
    Give up what the work does not need, for good.

    @raise OSError: if root cannot be given up; then the work must not be done.
    """
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_MAX),
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _FILES_MAX),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # At the soft limit of processor time comes SIGXCPU, which says why; at the hard one SIGKILL.
        soft = min(seconds, least) if limit == resource.RLIMIT_CPU else least
        resource.setrlimit(limit, (soft, least))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _no_new_privileges()
    _prctl(_PR_SET_DUMPABLE, 0)


def answer(work: Callable[[Any], Any], asked: bytes) -> str:
    """
    @return: the document for the parent.
    """
    try:
        return json.dumps({"value": work(json.loads(asked))}, allow_nan=False)
    except HostError as error:
        return _refusal(error)
    except MemoryError:
        pass  # said below, when the frames of the work are gone
    late = OperationFailed(f"reading the input took more memory than {MEMORY_TEXT}")
    return json.dumps({"error": {"code": late.code, "message": late.message}})
