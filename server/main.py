"""
C{hostlined}: the daemon in the foreground, logging to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import hostline


def forget_here() -> None:
    """
    Take the directory that the daemon was started in off the path, where C{python -m} puts it first: it may be
    anybody's, and what is imported from now on may be run by root. It stays if hostline itself is there.
    """
    first = os.path.realpath(sys.path[0])
    ours = os.path.realpath(hostline.__path__[0] + "/..")
    if not sys.flags.safe_path and first == os.path.realpath(os.curdir) != ours:
        del sys.path[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run until SIGTERM or SIGINT; exit status 0 after a clean end, 1 if it could not start, 2 for wrong usage.
    """
    from twisted.logger import globalLogBeginner, jsonFileLogObserver, textFileLogObserver
    from twisted.python import usage

    from hostline.server.loop import install_reactor

    install_reactor()
    from hostline.server.tap import Options, makeService

    class HostlinedOptions(Options):
        optFlags = [["json-log", None, "Write the log as JSON, an event on each line."]]

    options = HostlinedOptions()
    try:
        options.parseOptions(list(sys.argv[1:] if arguments is None else arguments))
    except usage.UsageError as error:
        print(f"hostlined: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    observer = jsonFileLogObserver(sys.stderr, "") if options["json-log"] else textFileLogObserver(sys.stderr)
    service = makeService(options)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    if service.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    forget_here()
    main()
