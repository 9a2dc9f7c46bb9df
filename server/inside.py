"""
Answers about what goes on inside a sliver: commands run there, its console, its logs.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadArguments, Timeout, WrongState
from hostline.server.asking import Ask, responds
from hostline.server.drivers.driver import Driver
from hostline.server.follow import Follow
from hostline.server.records import Sliver
from hostline.server.talk import Collected, Talk

#: The logs that are meant when none is named.
_LOGS = ("log", "out", "err")


def driver_of(ask: Ask) -> Driver:
    """
    The driver of the sliver that a request is about.

    @raise WrongState: if this host has none for its kind.
    """
    sliver: Sliver = ask.target
    driver: Driver | None = ask.daemon.sync.drivers.get(sliver.kind)
    if driver is None:
        raise WrongState(f"this host runs no slivers of the kind {sliver.kind}")
    return driver


def needs_tag(ask: Ask, what: str) -> None:
    """
    @raise BadArguments: if a request that makes a stream has no tag for it.
    """
    if ask.tag is None:
        raise BadArguments(f"{what} is a stream and wants a tag: @1 {ask.row.name} ...")


@responds(TABLE["exec"])
async def execute(
    ask: Ask, name: str, argv: list[str], *, stream: bool, terminal: bool, timeout: float | None
) -> dict[str, Any]:
    """
    Run a command.
    """
    if stream:
        needs_tag(ask, "stream=True")
    driver, serial = driver_of(ask), ask.target.serial
    wrote = Collected(ask.daemon.config.limits.collected_bytes)
    talk = Talk(ask, None if stream else wrote.hear, stream=stream)

    def begin(hearer: Talk) -> Any:
        running = driver.execute(serial, argv, hearer, terminal=terminal)
        if not stream:
            running.end_input()
        return running

    try:
        code = await talk.held(begin, timeout, ask.audit)
    except Timeout as error:
        error.details |= _written(wrote)
        raise
    return {"exit": code, **_written(wrote)}


def _written(wrote: Collected) -> dict[str, Any]:
    return {"out": wrote.text("out"), "err": wrote.text("err")} | ({"cut": True} if wrote.cut else {})


@responds(TABLE["attach"])
async def attach(ask: Ask, name: str) -> dict[str, Any]:
    """
    Join a console.
    """
    needs_tag(ask, "attach")
    driver, serial = driver_of(ask), ask.target.serial
    talk = Talk(ask, stream=True, endless=True)
    code = await talk.held(lambda hearer: driver.attach(serial, hearer), None, ask.audit)
    return {"exit": code, "out": "", "err": ""}


@responds(TABLE["logs"])
def logs(
    ask: Ask, name: str, *, stream: str | None, tail: int, follow: bool
) -> dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]:
    """
    Show what a sliver wrote, or follow it.
    """
    driver, serial = driver_of(ask), ask.target.serial
    if not follow:
        wanted = _LOGS if stream is None else (stream,)
        return {one: driver.read_log(serial, one, -tail, tail)[0].decode("utf-8", "replace") for one in wanted}
    needs_tag(ask, "follow=True")
    followed = {"out": "out", "err": "err"} if stream is None else {stream: "err" if stream == "err" else "out"}

    async def following() -> dict[str, Any]:
        def begin(hearer: Talk) -> Follow:
            loop = ask.daemon.loop
            return Follow(lambda *place: driver.read_log(serial, *place), followed, tail, hearer, loop)

        await Talk(ask, stream=True).held(begin, None)
        return {}

    return following()


@responds(TABLE["data"])
def data(ask: Ask, piece: dict[str, Any]) -> None:
    """
    Refuse a data line without a tag; those with one are taken by the connection.
    """
    raise BadArguments("want the tag of the stream that this is for before data: @1 data ...")
