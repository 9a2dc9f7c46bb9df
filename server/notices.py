"""
Notices: what owners of experiments, and operators, are to be told is given to a program of the configuration.

What is owed is kept in the experiment's diary until the program has ended, so a crash in between tells it twice rather
than never. One program runs at a time, and not for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hostline.protocol.errors import StoreFailed
from hostline.server.diary import Diary
from hostline.server.experiments import history
from hostline.server.supervise.running import run
from hostline.server.supervise.spawn import Spawner

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon
    from hostline.server.host import Change
    from hostline.server.records import Experiment

#: Seconds that the program may take, seconds until it is tried again, and how often it is tried in all.
LONGEST_S, AGAIN_S, TRIES = 30, 60.0, 3
#: Whom a notice is for that is for operators.
OPERATORS = "operators"


class Notices:
    """
    Gives what is owed to the program, in the order in which it came up.

    @ivar trouble: why the last one could not be given; empty if it was.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, spawner: Spawner | None) -> None:
        """
        @param spawner: starts the program; without one nobody is told.
        """
        self._daemon = daemon
        self._spawner = spawner
        self._waiting: dict[tuple[int, int], int] = {}
        self._running = False
        self._closed = False
        self.trouble = ""

    def start(self) -> None:
        """
        Give what earlier daemons did not; the records are loaded.
        """
        for diary in self._daemon.host.table(Diary).values() if self._spawner is not None else ():
            for one in diary.owed:
                self._waiting[diary.serial, int(one.get("number", 0))] = 0
        self._go()

    def close(self) -> None:
        """
        Start no more; what is owed stays so.
        """
        self._closed = True

    def tell(self, change: Change, experiment: Experiment, what: str, text: str, to: str) -> None:
        """
        Have the program told once the change is durable; nothing, if there is none.

        @param what: one word.
        @param to: whom it is for.
        """
        if not self._daemon.config.experiments.notify or self._spawner is None:
            return
        history.owe(change, experiment.serial, what, to, text)
        key = experiment.serial, history.of(change.host, experiment.serial).sent
        change.when_committed.append(lambda: self._add(key))

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        @return: what C{doctor} says: what was looked at, whether it is well, detail and remedy.
        """
        program = self._daemon.config.experiments.notify
        if not program:
            return []
        if not self.trouble:
            return [("notify", True, f"warnings are given to {program}", "")]
        remedy = f"it is given EXPERIMENT OWNER WHAT and the text as input, and must end with 0 within {LONGEST_S} s"
        return [("notify", False, f"the last warning could not be given to {program}: {self.trouble}", remedy)]

    def _add(self, key: tuple[int, int]) -> None:
        self._waiting[key] = 0
        self._go()

    def _go(self) -> None:
        if self._running or self._closed or not self._waiting:
            return
        self._running = True
        Deferred.fromCoroutine(self._give(next(iter(self._waiting)))).addErrback(
            lambda failure: self._log.failure("a notice was not given", failure)
        ).addCallback(lambda _: self._next())

    def _next(self) -> None:
        self._running = False
        self._go()

    async def _give(self, key: tuple[int, int]) -> None:
        tries = self._waiting.pop(key) + 1
        daemon, (serial, number) = self._daemon, key
        experiment = daemon.host.experiments_by_serial.get(serial)
        one = next((one for one in history.of(daemon.host, serial).owed if one.get("number") == number), None)
        program = daemon.config.experiments.notify
        if one is None or experiment is None:
            return
        try:
            if program and self._spawner is not None:
                await self._run(self._spawner, program, experiment.name, one)
        except OSError as error:
            before, self.trouble = self.trouble, str(error) or type(error).__name__
            if not before:
                self._log.error("a warning could not be given to {program}: {error}", program=program, error=error)
            if tries < TRIES:
                daemon.clock.callLater(AGAIN_S, self._try_again, key, tries)
                return
        else:
            self.trouble = ""
        self._given(serial, number)

    async def _run(self, spawner: Spawner, program: str, experiment: str, one: dict[str, Any]) -> None:
        words = [program, experiment, str(one["to"]), str(one["what"])]
        await run(spawner, "timeout", "-k", "5", str(LONGEST_S), *words, text=f"{one['text']}\n")

    def _try_again(self, key: tuple[int, int], tries: int) -> None:
        self._waiting[key] = tries
        self._go()

    def _given(self, serial: int, number: int) -> None:
        """
        It is owed no more.
        """
        daemon = self._daemon
        known = daemon.host.get(Diary, str(serial))
        if known is None or self._closed:
            return
        change = daemon.host.change(daemon.now())
        change.put(attrs.evolve(known, owed=[one for one in known.owed if one.get("number") != number]))
        daemon.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)
