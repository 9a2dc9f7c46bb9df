"""
C{hostlined}: the daemon in the foreground, logging to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.logger import globalLogBeginner, jsonFileLogObserver, textFileLogObserver
from twisted.python import usage

from hostline.server.loop import install_reactor


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run until SIGTERM or SIGINT; exit status 0 after a clean end, 1 if it could not start, 2 for wrong usage.
    """
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
    main()
