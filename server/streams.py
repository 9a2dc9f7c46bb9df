"""
What is open on a connection: commands that run inside slivers, consoles and logs that are followed; streams by their
tags, and what requests without one wait for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hostline.protocol.errors import BadValue, HostError, NoSuchStream, TooMany, WrongState

if TYPE_CHECKING:
    from hostline.server.line import Prepared
    from hostline.server.talk import Talk
    from hostline.server.tally import Tally

#: Seconds between two looks whether who opened a stream still may.
RIGHTS_S = 1.0
#: Seconds between two looks how much input has not been read by what it is for.
INPUT_S = 0.02
#: Tags of ended streams that are remembered: who sent them more did not know yet.
_REMEMBERED = 64


class Streams:
    """
    All that is open on one connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tally: Tally,
        most: Callable[[], int],
        write: Callable[[str, str, bytes], None],
        drained: Callable[[], None],
        paused: bool = False,
    ) -> None:
        """
        @param most: how many a principal may have open, on all its connections.
        @param write: sends bytes of a stream (C{out}, C{err}) under a tag.
        @param drained: called when L{unwritten} may have become less.
        @param paused: whether the client reads slower than it is written to.
        """
        self._loop = loop
        self._tally = tally
        self._most = most
        self._drained = drained
        self._paused = paused
        self._tags: dict[str, Talk] = {}
        self._talks: dict[Talk, None] = {}
        self._over: deque[str] = deque(maxlen=_REMEMBERED)
        self._rights_timer: asyncio.TimerHandle | None = None
        self._input_timer: asyncio.TimerHandle | None = None
        self.write = write

    def __len__(self) -> int:
        return len(self._talks)

    def __contains__(self, tag: str | None) -> bool:
        return tag in self._tags

    @property
    def unwritten(self) -> int:
        """
        Bytes of input that nobody inside has read yet.
        """
        return sum(one.conversation.unwritten for one in self._talks if one.conversation is not None)

    def add(self, talk: Talk) -> None:
        """
        @raise TooMany: if the principal has too many open.
        @raise WrongState: if the tag is that of an open stream.
        """
        if talk.tag in self._tags:
            raise WrongState(f"a stream is open under tag {talk.tag}; take another tag")
        if self._tally.streams >= self._most():
            raise TooMany(f"want at most {self._most()} streams and commands of one principal open at the same time")
        self._tally.streams += 1
        self._talks[talk] = None
        if talk.tag is not None:
            self._tags[talk.tag] = talk
        if self._rights_timer is None:
            self._rights_timer = self._loop.call_later(RIGHTS_S, self._look_at_rights)

    def begun(self, talk: Talk) -> None:
        """
        It has its conversation.
        """
        if self._paused and talk.conversation is not None:
            talk.conversation.pause()

    def remove(self, talk: Talk) -> None:
        """
        It is over.
        """
        if talk not in self._talks:
            return
        del self._talks[talk]
        self._tally.streams -= 1
        if talk.tag is not None:
            del self._tags[talk.tag]
            self._over.append(talk.tag)
        if not self._talks:
            for timer in (self._rights_timer, self._input_timer):
                if timer is not None:
                    timer.cancel()
            self._rights_timer = self._input_timer = None

    def feed(self, line: Prepared) -> HostError | None:
        """
        Take a C{data} line. What is wrong with one ends its stream, for a part of the input would be missing.

        @return: what to answer, if no stream is there to be ended; a stream that has just ended asks for no answer.
        """
        talk = self._tags.get(line.tag or "")
        if talk is None:
            if line.tag in self._over:
                return None
            return line.error or NoSuchStream(f"no stream is open under tag {line.tag}")
        try:
            if line.row is None or line.request is None:
                raise line.error or BadValue("want a data line")
            (piece,), _ = line.row.read(line.request)
            talk.feed(piece)
        except HostError as error:
            talk.fail(error)
        if self._input_timer is None and self._talks and self.unwritten:
            self._input_timer = self._loop.call_later(INPUT_S, self._look_at_input)
        return None

    def end_input(self) -> None:
        """
        The client will say nothing more.
        """
        for talk in list(self._talks):
            talk.end_input()

    def pause(self) -> None:
        """
        The client reads slower than it is written to.
        """
        self._paused = True
        for talk in self._talks:
            if talk.conversation is not None:
                talk.conversation.pause()

    def resume(self) -> None:
        """
        It caught up.
        """
        self._paused = False
        for talk in list(self._talks):
            if talk.conversation is not None and not self._paused:
                talk.conversation.resume()

    def _look_at_rights(self) -> None:
        self._rights_timer = self._loop.call_later(RIGHTS_S, self._look_at_rights)
        for talk in list(self._talks):
            talk.check()

    def _look_at_input(self) -> None:
        self._input_timer = self._loop.call_later(INPUT_S, self._look_at_input) if self.unwritten else None
        self._drained()
