"""
The asyncio reactor, on uvloop where that is installed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast


class WrongReactor(Exception):
    """
    Another reactor than asyncio's was installed before ours could be.
    """


def install_reactor() -> None:
    """
    Install the asyncio reactor, unless a reactor is installed already.
    """
    if "twisted.internet.reactor" in sys.modules:
        return
    from twisted.internet import asyncioreactor

    try:
        import uvloop
    except ImportError:
        loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)


def loop_of(reactor: Any) -> asyncio.AbstractEventLoop:
    """
    @return: the loop that the reactor runs on.
    @raise WrongReactor: if it is not asyncio's.
    """
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is None:
        raise WrongReactor(
            f"hostline runs on the asyncio reactor, not on {type(reactor).__name__}; start it with --reactor=asyncio"
        )
    return cast("asyncio.AbstractEventLoop", loop)
