"""
Answers about operations.
"""

from __future__ import annotations

from heapq import nlargest
from typing import Any

from hostline.protocol.commands import TABLE
from hostline.server import callers, rights
from hostline.server.asking import Ask, responds
from hostline.server.records import Operation


@responds(TABLE["operations"])
def operations(ask: Ask, since: int, limit: int) -> list[dict[str, Any]]:
    """
    List the operations that the caller may see, newest first.
    """
    table = ask.host.table(Operation)
    # All that others began is for operators alone: nobody else has the daemon walk through it.
    keys = table if callers.is_operator(ask.host, ask.caller) else ask.host.of_principal(Operation, ask.principal)
    later = (table[key] for key in keys if table[key].serial > since)
    seen = (one for one in later if rights.sees(ask.host, ask.caller, one, "operations"))
    return [ask.daemon.operations.body(one) for one in nlargest(limit, seen, key=lambda one: one.serial)]


@responds(TABLE["operation"])
def operation(ask: Ask, number: int) -> dict[str, Any]:
    """
    Show one operation.
    """
    return ask.daemon.operations.body(ask.target)


@responds(TABLE["wait"])
async def wait(ask: Ask, number: int, timeout: float) -> dict[str, Any]:
    """
    Wait for an operation; whether it has ended is in the reply.
    """
    ask.waiting = True
    await ask.daemon.ended(number, timeout, ask.caller)
    ask.look_again()
    return ask.daemon.operations.body(ask.target)


@responds(TABLE["cancel"])
def cancel(ask: Ask, number: int) -> dict[str, Any]:
    """
    Take back what an operation has not reached.
    """
    return ask.daemon.cancel(ask.change, ask.target)
