"""
The arguments of one call: read as Emulab's clients write them, and what a method needs to answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from hostline.protocol import emulab
from hostline.protocol.names import shown
from hostline.server.facades.emulab_call import LONGEST_TEXT, Refusal, Response
from hostline.server.facades.inward import WHOLE, Inward, Text

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

_NAME = re.compile(r"[-\w]+", re.ASCII)
#: Seconds that a client may wait, at most.
_LONGEST_WAIT_S = 30 * 86400.0


class Arguments:
    """
    Those of one call.

    @ivar daemon: for what is no command: its clock and configuration.
    @ivar inward: says commands in the name of who calls.
    """

    def __init__(self, daemon: Daemon, inward: Inward, given: Mapping[str, Any]) -> None:
        self.daemon = daemon
        self.inward = inward
        self.given = given

    async def say(self, command: str, *values: Any, **options: Any) -> Any:
        """
        Say a command; options that are None are left out.

        @return: the body of the reply.
        @raise HostError: as the reply tells.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        return await self.inward.say(command, *values, **chosen)

    def want(self, *names: str) -> None:
        """
        @raise Refusal: if one is missing.
        """
        for name in names:
            if name not in self.given:
                raise Refusal(emulab.BAD_ARGUMENTS, f"Must supply '{name}'")

    def text_of(self, name: str) -> str:
        """
        @return: an argument, if it is a text that can be a name; else nothing.
        """
        value = self.given.get(name)
        return value if isinstance(value, str) and _NAME.fullmatch(value) else ""

    def text(self, name: str, default: str = "") -> str:
        """
        @raise Refusal: if it is no text.
        """
        value = self.given.get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise Refusal(emulab.BAD_ARGUMENTS, f"{name}: want a text, got {shown(value)}")
        return value

    def name(self, argument: str) -> str:
        """
        @raise Refusal: if it is missing, or is no name.
        """
        self.want(argument)
        value = self.text(argument)
        if not _NAME.fullmatch(value):
            raise Refusal(emulab.BAD_ARGUMENTS, f"Illegal characters in '{argument}'!")
        return value

    @property
    def experiment(self) -> str:
        """
        C{proj} and C{exp} as C{lab/exp1}.
        """
        self.want("proj", "exp")
        return f"{self.name('proj')}/{self.name('exp')}"

    def is_true(self, name: str, default: bool = False) -> bool:
        """
        A truth, as Emulab's clients write it.
        """
        return emulab.is_true(self.given[name]) if name in self.given else default

    def number(self, name: str, least: float = 0.0) -> float | None:
        """
        @return: None if it was left out.
        @raise Refusal: if it is no number.
        """
        if name not in self.given:
            return None
        value = self.given[name]
        try:
            found = float(value) if not isinstance(value, bool) else -1.0
        except (TypeError, ValueError):
            found = -1.0
        if not least <= found <= _LONGEST_WAIT_S:
            raise Refusal(emulab.BAD_ARGUMENTS, f"{name}: want a number from {least:g}, got {shown(value)}")
        return found

    def words(self, name: str) -> list[str]:
        """
        @return: a list, or words with commas between them; empty if it was left out.
        """
        value = self.given.get(name, [])
        found = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise Refusal(emulab.BAD_ARGUMENTS, f"{name}: want a list of texts, got {shown(value)}")
        return [one for one in found if one]

    @property
    def topology(self) -> Text:
        """
        The text of C{nsfilestr}.

        @raise Refusal: if there is none, or it is too long.
        """
        if "nsfilestr" not in self.given:
            if "nsfilepath" in self.given:
                why = "nsfilepath: files of this host are not read for callers; send what is in it as 'nsfilestr'"
                raise Refusal(emulab.BAD_ARGUMENTS, why)
            raise Refusal(emulab.BAD_ARGUMENTS, "Must supply 'nsfilestr'")
        text = self.text("nsfilestr")
        if len(text) > LONGEST_TEXT:
            raise Refusal(emulab.TOO_BIG, "NS File way too big!")
        return Text(text)

    @property
    def wait(self) -> float:
        """
        For C{wait=} of commands: to the end if the caller wants to wait, else not at all.
        """
        return WHOLE if self.is_true("wait") else 0

    def pause(self, seconds: float) -> Deferred[None]:
        """
        @return: fires after so many seconds.
        """
        over: Deferred[None] = Deferred(lambda _: late.cancel() if late.active() else None)
        late = self.daemon.clock.callLater(seconds, over.callback, None)
        return over


def refusal(text: str) -> Any:
    """
    @return: a method of Emulab's that does nothing here, and says so.
    """

    async def refuse(arguments: Arguments) -> Response:
        return Response(emulab.ERROR, 0, text)

    refuse.__doc__ = text
    return refuse
