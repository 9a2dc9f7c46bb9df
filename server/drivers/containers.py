"""
One container as its driver remembers it, what that means as a status, and what of it is kept in files.

C{NOTES/SERIAL} is for good: C{subuids}, C{builds}, C{made}, C{stopped} (boot and exit status), C{console}.
C{BUNDLES/SERIAL/BOOT} lasts until the host restarts: what conmon and the runtime want, and of ours C{starting} (from
here on it may have run), C{stopped} (what comes now is on purpose), C{failure} (why it could not be started) and
C{last} (what it had said of itself when it was over).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import asdict, define, evolve, field
from twisted.internet.defer import DeferredLock

from hostline.server.drivers.driver import CANNOT_START, Status
from hostline.server.drivers.wires import NO_WIRES
from hostline.server.supervise import homes, said
from hostline.server.supervise.runtime import Bundle, Ended, read_ended
from hostline.server.supervise.said import Said
from hostline.server.supervise.spawn import Child


@define
class ContainerSliver:
    """
    @ivar builds: the making of its files; 0 if there are none yet.
    @ivar boots: the boot reached; 0 if there is none.
    @ivar name: of the sliver.
    @ivar said: what it said last of itself.
    @ivar keeper: its conmon, while it lives.
    @ivar node: its own process, while it is watched.
    @ivar starting: between the wish and the start.
    @ivar has_command: whether this boot has a start command.
    @ivar failure: why this boot could not be started.
    @ivar end: what conmon kept of the end.
    @ivar stopped: it was ended on purpose.
    @ivar problems: what it lacks, by subject.
    @ivar root: where its files are mounted, if they are.
    @ivar rspec: in force, or to be; C{keys}: the same; None if not known.
    @ivar wired: the interfaces, routes and forwarding that it was given last; None if that is not known.
    @ivar hosts: the lines that its C{/etc/hosts} was given last.
    @ivar cleared: nothing of this boot is left but its files.
    @ivar left: why not.
    @ivar lock: one piece of work at a time.
    """

    serial: int
    builds: int = 0
    boots: int = 0
    name: str = ""
    said: Said = field(factory=Said)
    keeper: Child | None = None
    node: Child | None = None
    starting: bool = False
    has_command: bool = False
    failure: str | None = None
    end: Ended = field(factory=Ended)
    stopped: bool = False
    address: str | None = None
    problems: dict[str, tuple[str, ...]] = field(factory=dict)
    root: Path | None = None
    rspec: Mapping[str, int] = field(factory=dict)
    keys: tuple[str, ...] | None = None
    wired: tuple[Any, ...] | None = NO_WIRES
    hosts: str = ""
    ending: bool = False
    cleared: bool = True
    left: str = ""
    lock: DeferredLock = field(factory=DeferredLock)

    @property
    def alive(self) -> bool:
        """
        @return: whether its end has not been noticed.
        """
        return self.keeper is not None

    @property
    def up(self) -> bool:
        """
        @return: whether commands can run in it.
        """
        return self.alive and not self.starting and not self.ending

    @property
    def dead(self) -> bool:
        """
        @return: whether this boot is over.
        """
        return self.boots > 0 and not self.starting and (self.failure is not None or self.keeper is None)

    def status(self, standing: tuple[str, ...]) -> Status:
        """
        @param standing: what every container of this host lacks.
        """
        status = Status(self.serial, builds=self.builds, boots=self.boots, address=self.address)
        if self.boots == 0:
            return status
        told = self.said
        over = self.dead or told.ended is not None
        problems = [*standing, *(one for texts in self.problems.values() for one in texts)]
        if self.left:
            problems.append(self.left)
        script = "ended" if self.dead and told.initscript == "running" else told.initscript
        status = evolve(
            status,
            start_command="none" if not self.has_command else "ended" if over else "running",
            start_code=told.ended if self.has_command else None,
            initscript=script,
            initscript_code=told.initscript_code,
            problems=tuple(problems),
        )
        if not self.dead:
            up = told.up and (told.started or not self.has_command) and self.alive
            return evolve(status, boot="booted" if up else "running", pid=self.node.pid if self.node else None)
        if self.failure is not None:
            why = f"could not be started: {self.failure}"
            return evolve(status, boot="dead", exit_code=CANNOT_START, problems=(*problems, why))
        code = 0 if self.stopped else self.end.code
        if code == CANNOT_START and told.failure:
            status = evolve(status, problems=(*problems, f"could not be started: {told.failure}"))
        if self.end.oom and code == 137:
            status = evolve(status, problems=(*problems, "out of memory: its own process was killed"))
        return evolve(status, boot="dead", exit_code=code)


class Kept:
    """
    The files of containers and of their boots.
    """

    def __init__(self, notes: Path, bundles: Path) -> None:
        self.notes = notes
        self.bundles = bundles

    def serials(self) -> set[int]:
        """
        @return: every container that left any.
        """
        return {*_numbers(self.notes), *_numbers(self.bundles)}

    def place(self, serial: int) -> Path:
        """
        @return: the directory of its notes.
        """
        return self.notes / str(serial)

    def bundle(self, serial: int, boots: int) -> Bundle:
        return Bundle(self.bundles, serial, boots)

    def boots(self, serial: int) -> list[int]:
        """
        @return: every boot with a directory, in order.
        """
        return sorted(_numbers(self.bundles / str(serial)))

    def reached(self, bundle: Bundle) -> bool:
        """
        @return: whether a boot may have run, or was found impossible.
        """
        return (bundle.path / "starting").exists() or (bundle.path / "failure").exists()

    def new_boot(self, bundle: Bundle) -> None:
        """
        Make the directory of a boot.

        @raise OSError: if that fails.
        """
        bundle.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.remove_boot(bundle)
        bundle.path.mkdir(mode=0o700)

    def remove_boot(self, bundle: Bundle) -> None:
        """
        Remove the directory of a boot, and what is mounted in it.
        """
        said.remove(bundle.path / "said")
        shutil.rmtree(bundle.path, ignore_errors=True)

    def mark(self, bundle: Bundle, name: str, text: str = "") -> None:
        """
        Note something of a boot, whole or not at all.

        @raise OSError: if that fails.
        """
        fresh = bundle.path / f"{name}.new"
        fresh.write_text(text + "\n", "utf-8", "surrogateescape")
        fresh.replace(bundle.path / name)

    def keep_last(self, bundle: Bundle, told: Said) -> None:
        """
        Note what a container said of itself, and end the file system that it said it on.
        """
        if (bundle.path / "said").exists():
            with suppress(OSError):
                self.mark(bundle, "last", json.dumps(asdict(told)))
            said.remove(bundle.path / "said")

    def recall(self, sliver: ContainerSliver, bundle: Bundle) -> None:
        """
        Remember what is known of a boot.
        """
        path = bundle.path
        sliver.boots = bundle.boots
        sliver.stopped = (path / "stopped").exists()
        sliver.has_command = (path / "own/command").exists()
        with suppress(OSError):
            sliver.failure = (path / "failure").read_text("utf-8", "replace").strip()
        sliver.end = read_ended(bundle)
        sliver.said = said.read(path / "said") if os.path.ismount(path / "said") else _last(path / "last")

    def note_end(self, sliver: ContainerSliver) -> None:
        """
        Note what is to be known of a container that was stopped even after the host restarted.
        """
        status = sliver.status(())
        if status.boot == "dead" and status.exit_code is not None:
            with suppress(OSError):
                text = f"{status.boots} {status.exit_code}"
                if homes.read_note(self.place(sliver.serial) / "stopped") != [status.boots, status.exit_code]:
                    homes.write_note(self.place(sliver.serial) / "stopped", text)

    def recall_end(self, sliver: ContainerSliver) -> None:
        """
        Remember the boot that had ended before the host restarted.
        """
        noted = homes.read_note(self.place(sliver.serial) / "stopped")
        if len(noted) == 2 and noted[0] >= 1:
            sliver.boots, sliver.end = noted[0], Ended(noted[1])


def _last(path: Path) -> Said:
    with suppress(OSError, ValueError, TypeError):
        body: Any = json.loads(path.read_text("utf-8"))
        return Said(**body)
    return Said()


def _numbers(directory: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(directory) if name.isdecimal()]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
