"""
What a driver is told, what it says, and what it can do: the one interface between what should be and what is.

A driver never sees the wire, the records or another driver. Every C{ensure_} may be repeated, also after a crash
between the act and its note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import field, frozen

#: The node's own process could not be started (GNU coreutils' status for "the tool itself failed").
CANNOT_START = 125


@frozen
class Workload:
    """
    One sliver, as its driver needs to know it.

    @ivar serial: the sliver's serial; all that the driver makes on the host is tagged with it.
    @ivar name: the full name, C{web.exp1.lab}.
    @ivar boots: which boot is wanted, counted from 1; a driver that has reached a lower one starts the sliver again.
    @ivar start_command: run by C{/bin/sh -c} at this boot; None if there is none.
    @ivar environment: further variables for the start command.
    @ivar rspec: resource to amount, in the units of DESIGN section 6.
    """

    serial: int
    name: str
    boots: int = 1
    start_command: str | None = None
    environment: Mapping[str, str] = field(factory=dict)
    rspec: Mapping[str, int] = field(factory=dict)


@frozen
class Status:
    """
    What is so of one sliver.

    @ivar boots: the boot that this speaks of; 0 if the sliver was created and never started.
    @ivar boot: C{running}, C{booted} or C{dead}; None if this boot has not been started.
    @ivar start_command: C{none}, C{running} or C{ended}.
    @ivar start_code: the exit status of the start command; None while it runs or if there is none.
    @ivar exit_code: once C{dead}, the exit status of the sliver's own process: 128+signal if killed, 0 if stopped on
        purpose, L{CANNOT_START} if it could not be started, None if what kept the status is gone.
    @ivar pid: of the node's own process, while it lives.
    @ivar problems: what is not as it was asked for, in words for the user.
    """

    serial: int
    boots: int = 0
    boot: str | None = None
    start_command: str = "none"
    start_code: int | None = None
    exit_code: int | None = None
    pid: int | None = None
    problems: tuple[str, ...] = ()

    @property
    def code(self) -> int | None:
        """
        The second item of C{status_reply}: the start command's exit status or, once dead, the sliver's own.
        """
        return self.exit_code if self.boot == "dead" else self.start_code


class Driver(Protocol):
    """
    One kind of sliver at work on this host.

    @ivar kind: the word in C{hv:KIND:pnode-NNNN}.
    @ivar unheld: what this kind cannot hold a sliver to on any host, in words.
    @ivar changed: called with a serial whenever its L{Status} is no longer what it was; set by the owner before
        L{recover}.
    """

    kind: str
    unheld: str
    changed: Callable[[int], None]

    async def recover(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        """
        Find again, after a start of the daemon, all that earlier daemons made.

        @param known: every sliver of this kind that has a record; what carries our tag and is not among them is a
            stray, and is removed from the host.
        @param keep_strays: records were lost, so strays may be somebody's: leave them alone and tell of them in
            L{problems}.
        """

    async def ensure_created(self, workload: Workload) -> None:
        """
        Make what lasts from boot to boot (directories, the uid); keep it if it is there.
        """

    async def ensure_started(self, workload: Workload) -> None:
        """
        Reach the boot C{workload.boots}: end an earlier one first, start this one unless it was started before
        (whether or not it still lives).
        """

    async def ensure_stopped(self, serial: int) -> None:
        """
        End the sliver's processes, politely first; its files stay. The status becomes C{dead} with code 0.

        @raise OSError: if some of them do not end.
        """

    async def ensure_destroyed(self, serial: int) -> None:
        """
        End the sliver's processes and remove all that the driver made for it.

        @raise OSError: if that could not be done; what the sliver had is not given to another, and the driver goes on
            knowing it.
        """

    def status(self) -> Mapping[int, Status]:
        """
        @return: what is so, by serial, from memory: asks nobody, costs nothing.
        """

    def problems(self) -> list[str]:
        """
        @return: what no sliver of this kind can be given on this host, in words for the operator.
        """

    def logs(self, serial: int, tail: int) -> Mapping[str, str]:
        """
        What the start command wrote at the newest boot.

        @param tail: how many bytes at most of each, from the end.
        @return: C{log}, C{out} and C{err}; bytes that are no UTF-8 are replaced.
        """

    def tidy(self) -> None:
        """
        Keep what slivers write for us within its bounds; called every minute.
        """

    def close(self) -> None:
        """
        Stop watching; every sliver goes on as it is.
        """
