"""
What a driver is told, what it says, and what it can do: the one interface between what should be and what is.

A driver never sees the wire, the records or another driver. Every C{ensure_} may be repeated, also after a crash
between the act and its note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

#: The node's own process could not be started (GNU coreutils' status for "the tool itself failed").
CANNOT_START = 125


@frozen
class Interface:
    """
    Where a node meets a link of its experiment.

    @ivar name: what it is called inside, C{inf000}; at most 15 characters there.
    @ivar link: which link, as L{hostline.server.network.links} knows it.
    @ivar mac: C{02:1b:...}, lower case.
    @ivar address: with its prefix, C{10.1.1.2/24}.
    """

    name: str
    link: str
    mac: str
    address: str


@frozen
class Workload:
    """
    One sliver, as its driver needs to know it.

    @ivar serial: the sliver's serial; all that the driver makes on the host is tagged with it.
    @ivar name: the full name, C{web.exp1.lab}.
    @ivar boots: which boot is wanted, counted from 1; a driver that has reached a lower one starts the sliver again.
    @ivar start_command: run by C{/bin/sh -c} at this boot; None if there is none.
    @ivar environment: further variables for the start command.
    @ivar rspec: resource to amount, after loans, in the units of L{hostline.server.slivers.rspec.RESOURCES}.
    @ivar builds: which making of it is wanted, counted from 1; the driver keeps the one it has with the sliver.
    @ivar image: serial of the image whose files it begins with; None for kinds that have none.
    @ivar keys: lines of its C{authorized_keys}.
    @ivar initscript: text of the script run with C{start} at each boot, C{stop} before each end, C{restart} when its
        text changes while the sliver runs; None if there is none.
    @ivar door: the directory with the sliver's own control socket, shown inside as C{/run/hostline}; None if the kind
        is not given one.
    @ivar interfaces: on the links of its experiment, in the order in which they are to be inside.
    @ivar routes: C{(destination, next hop)} for each network of its experiment that is not its neighbour, as
        C{("10.1.2.0/24", "10.1.1.3")}; a destination may hold several networks.
    @ivar forwards: whether it passes on what is not for itself.
    @ivar hosts: further lines for its C{/etc/hosts}.
    @ivar packages: Debian packages that it is to have before its start command runs, besides those of its image.
    """

    serial: int
    name: str
    boots: int = 1
    start_command: str | None = None
    environment: Mapping[str, str] = field(factory=dict)
    rspec: Mapping[str, int] = field(factory=dict)
    builds: int = 1
    image: int | None = None
    keys: tuple[str, ...] = ()
    initscript: str | None = None
    door: Path | None = None
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    forwards: bool = False
    hosts: str = ""
    packages: tuple[str, ...] = ()

    @property
    def wired(self) -> tuple[tuple[Interface, ...], tuple[tuple[str, str], ...], bool]:
        """
        All that is so of its links: where one of these changes, it is plugged in anew.
        """
        return self.interfaces, self.routes, self.forwards


@frozen
class Activity:
    """
    What was done in a sliver, as counters that only rise while it runs, and what it is like now.

    @ivar taken: when this was read, by the daemon's clock; old news is no news.
    @ivar input: Unix seconds of the newest keystroke on one of its terminals; 0 if there was none.
    @ivar load: how many of its processes run or want to, averaged over about a minute.
    @ivar experiment_packets: in and out over its links, C{control_packets} out over its own address; what the daemon
        itself causes is not among them, as far as it can tell.
    """

    taken: float
    input: float = 0.0
    load: float = 0.0
    experiment_packets: int = 0
    control_packets: int = 0


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
    @ivar builds: the making of the sliver that this speaks of.
    @ivar address: its IPv4 address, if it has one of its own.
    @ivar uid: what its processes have on the host; of a container the first of its range.
    @ivar initscript: C{none}, C{running} or C{ended}: the newest run of its script; C{initscript_code}: how that ended.
    """

    serial: int
    boots: int = 0
    boot: str | None = None
    start_command: str = "none"
    start_code: int | None = None
    exit_code: int | None = None
    pid: int | None = None
    problems: tuple[str, ...] = ()
    builds: int = 1
    address: str | None = None
    initscript: str = "none"
    initscript_code: int | None = None
    uid: int | None = None

    @property
    def code(self) -> int | None:
        """
        The second item of C{status_reply}: the start command's exit status or, once dead, the sliver's own.
        """
        return self.exit_code if self.boot == "dead" else self.start_code


class Hearer(Protocol):
    """
    Who began a L{Conversation}.
    """

    def said(self, stream: str, data: bytes) -> None:
        """
        @param stream: C{out} or C{err}.
        """

    def ended(self, code: int | None) -> None:
        """
        It is over, and all that was said has been heard; called once, at last.

        @param code: the command's exit status, 128+signal if killed; None if nobody knows, or it was only attached.
        """


class Conversation(Protocol):
    """
    A command that runs in a sliver, or the console of one, at the other end of somebody's stream.
    """

    def write(self, data: bytes) -> None:
        """
        Its input; kept until it is read.
        """

    @property
    def unwritten(self) -> int:
        """
        Bytes of input that it has not read yet: who writes waits when there are many.
        """

    def end_input(self) -> None:
        """
        There is no more input.
        """

    def resize(self, rows: int, columns: int) -> None:
        """
        The size of its terminal, if it has one.
        """

    def pause(self) -> None:
        """
        Say nothing more until L{resume}; what runs waits once its pipe is full.
        """

    def resume(self) -> None:
        """
        Go on.
        """

    def close(self) -> None:
        """
        Nobody listens any more: a command is killed with all it started in its session, a console goes on.
        L{Hearer.ended} is not called.
        """


class Driver(Protocol):
    """
    One kind of sliver at work on this host.

    @ivar kind: the word in C{hv:KIND:pnode-NNNN}.
    @ivar holds: which limits it holds slivers to on this host, by which means, in words for the operator.
    @ivar version: of what runs them, for C{host_status}.
    @ivar changed: called with a serial whenever its L{Status} is no longer what it was; set by the owner before
        L{recover}.
    """

    kind: str
    holds: str
    version: str
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

    async def ensure_configured(self, workload: Workload) -> None:
        """
        Put in force what may change while a sliver is there, started or not: limits, keys, initscript. What cannot
        be is in the status' C{problems}.
        """

    def in_force(self, serial: int) -> Mapping[str, int]:
        """
        @return: what the kernel says now that the sliver is held to, by resource, in the rspec's units; resources that
            this driver cannot hold it to on this host are left out. Read at each call.
        """

    def read_log(self, serial: int, stream: str, offset: int, most: int) -> tuple[bytes, int]:
        """
        What a sliver wrote.

        @param stream: C{log}, C{out} or C{err} of the start command at the newest boot, C{initscript}, or C{console}:
            what its own process wrote.
        @param offset: where to begin; from the end if negative; where the log is shorter than that, it was begun anew,
            and so is the reading.
        @param most: how many bytes at most.
        @return: them, and the offset behind them; nothing if there is no such log.
        """

    def execute(self, serial: int, argv: Sequence[str], hearer: Hearer, *, terminal: bool = False) -> Conversation:
        """
        Run a command in a sliver that is up, as its root (or only) user, within its limits.

        @raise OSError: if it is not up, or cannot run commands; the reason is in words.
        """

    def attach(self, serial: int, hearer: Hearer) -> Conversation:
        """
        Join the console of a sliver that is up.

        @raise OSError: if it has none.
        """

    def admit(self, serial: int, pid: int) -> None:
        """
        Somebody is at the sliver's own door, L{Workload.door}: a process that it started itself, or, of a kind that
        people come into from outside, one that is to be held to its limits from now on.

        @param pid: as the kernel tells of the peer.
        @raise OSError: if it may not come in; the reason is in words.
        """

    async def activity(self, serial: int) -> Activity | None:
        """
        @return: what is being done in a sliver; None if it is not up or cannot be asked.
        """

    def tidy(self) -> None:
        """
        Keep what slivers write for us within its bounds; called every minute.
        """

    def close(self) -> None:
        """
        Stop watching; every sliver goes on as it is.
        """
