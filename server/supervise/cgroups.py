"""
Control groups: one C{hostline-INSTANCE/sSERIAL} per sliver, under version 1, 2, or 1 with an empty 2 beside it.

Each kind of sliver may have a letter of its own instead of C{s} (L{Cgroups.of}), and then sees only its own.

What is not ours is never touched. Where control groups cannot be used, L{Cgroups.find} says why and all goes on
without limits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hostline.server.supervise import limits

_CONTROLLERS = ("cpu", "memory", "pids")


class Cgroups:
    """
    Our part of the host's control groups.

    @ivar version: 1 or 2.
    @ivar problems: which limits cannot be applied on this host, in words for the user.
    """

    _letter = "s"

    def __init__(
        self, version: int, bases: Mapping[str, Path], kill_base: Path, cores: int, problems: Sequence[str] = ()
    ) -> None:
        """
        @param bases: controller to our own directory in its hierarchy.
        @param kill_base: our own directory where members are listed and killed.
        """
        self.version = version
        self.problems = tuple(problems)
        self._bases = dict(bases)
        self._kill_base = kill_base
        self._cores = cores
        self._rspecs: dict[str, dict[str, int]] = {}
        self._weights: dict[str, float] = {}  # while anybody has a cpu_min

    def of(self, letter: str) -> Cgroups:
        """
        @return: the same subtree, seen by another kind of sliver: its groups begin with another letter, all kinds
            compete by their weights.
        """
        if letter == self._letter:
            return self
        view = Cgroups(self.version, self._bases, self._kill_base, self._cores, self.problems)
        view._letter, view._rspecs, view._weights = letter, self._rspecs, self._weights
        return view

    @classmethod
    def find(
        cls,
        instance: str,
        *,
        root: Path = Path("/sys/fs/cgroup"),
        own: Path = Path("/proc/self/cgroup"),
        note: Path | None = None,
        unified: bool = True,
        cores: int | None = None,
    ) -> tuple[Cgroups | None, str]:
        """
        Find what this host has, and make our own subtree.

        @param note: where to keep, under version 2, the place of the subtree: a daemon started from elsewhere later
            still finds it.
        @param unified: under version 1, kill by the empty version 2 beside it, if it is there.
        @return: what can be used, or None and why not.
        """
        name = f"hostline-{instance[:12]}"
        count = cores or os.cpu_count() or 1
        try:
            if (root / "cgroup.controllers").exists():
                return cls._find_v2(root, own, name, note, count), ""
            if not (root / "pids").is_dir():
                return None, "limits not applied: no control groups are mounted"
            return cls._find_v1(root, name, unified, count), ""
        except OSError as e:
            return None, f"limits not applied: no control group of our own ({e.strerror}: {e.filename})"

    @classmethod
    def _find_v1(cls, root: Path, name: str, unified: bool, cores: int) -> Cgroups:
        missing = [c for c in _CONTROLLERS if not (root / c).is_dir()]
        bases = {c: root / c / name for c in _CONTROLLERS if c not in missing}
        for base in bases.values():
            base.mkdir(exist_ok=True)
        kill_base = root / "unified" / name
        try:
            if not unified or not (root / "unified" / "cgroup.procs").exists():
                raise FileNotFoundError
            kill_base.mkdir(exist_ok=True)
        except OSError:
            kill_base = root / "freezer" / name
            kill_base.mkdir(exist_ok=True)
        if "cpu" in bases:
            _write(bases["cpu"] / "cpu.shares", str(1024 * cores))
        return cls(1, bases, kill_base, cores, [f"limits not applied: no {c} control groups" for c in missing])

    @classmethod
    def _find_v2(cls, root: Path, own: Path, name: str, note: Path | None, cores: int) -> Cgroups:
        noted = Path(note.read_text().strip()) if note is not None and note.exists() else None
        if noted is not None and noted.name == name and noted.is_dir():
            base = noted
        else:
            mine = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), "/")
            parent = root / mine.strip("/")
            leaf = f"{name}-daemon"
            if parent.name == leaf:
                parent = parent.parent
            elif parent != root:  # a group with members of its own can give nothing to its children
                (parent / leaf).mkdir(exist_ok=True)
                _write(parent / leaf / "cgroup.procs", str(os.getpid()))
            base = parent / name
        there = (base.parent / "cgroup.controllers").read_text().split()
        usable = [c for c in _CONTROLLERS if c in there]
        for c in usable:
            _write(base.parent / "cgroup.subtree_control", f"+{c}")
        base.mkdir(exist_ok=True)
        for c in usable:
            _write(base / "cgroup.subtree_control", f"+{c}")
        if note is not None:
            note.write_text(f"{base}\n")
        missing = [f"limits not applied: no {c} control groups" for c in _CONTROLLERS if c not in usable]
        return cls(2, dict.fromkeys(usable, base), base, cores, missing)

    def prepare(self, serial: int, rspec: Mapping[str, int]) -> tuple[list[Path], list[str]]:
        """
        Make a sliver's groups, and put its limits in force; may be repeated, also while it runs.

        @return: the files that a process joins by writing 0 to each, and what could not be done.
        """
        directories = self._directories(serial)
        try:
            for directory in directories:
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            return [], [f"limits not applied: {e.strerror}: {e.filename}"]
        return self.procs(serial), self.apply(serial, rspec)

    def procs(self, serial: int) -> list[Path]:
        """
        @return: the files that a process joins by writing 0 to each.
        """
        return [directory / "cgroup.procs" for directory in self._directories(serial)]

    def apply(self, serial: int, rspec: Mapping[str, int]) -> list[str]:
        """
        Put limits in force for a sliver that has its groups.

        @return: what could not be done.
        """
        name = self._name(serial)
        old = self._rspecs.get(name)
        self._rspecs[name] = dict(rspec)
        weights = self._reweigh(name, moved=old is None or _cpu(old) != _cpu(rspec))
        writes = (limits.files_v1 if self.version == 1 else limits.files_v2)(rspec, weights[name])
        problems: dict[str, str] = {}
        for controller, file, value in writes:
            path = self._path(controller, name)
            if path is None or (file.startswith(("memory.memsw", "memory.swap")) and not (path / file).exists()):
                continue
            try:
                _write(path / file, value)
                problems.pop(file, None)
            except OSError as e:
                problems[file] = f"limit not applied: {file} {value}: {e.strerror}"
        return list(problems.values())

    def read(self, serial: int) -> dict[str, int]:
        """
        @return: what is really in force for a sliver (L{limits.as_asked}); empty if it has no groups.
        """
        texts = {}
        for directory in self._directories(serial):
            for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.shares", "cpu.weight", "cpu.max"):
                with suppress(OSError):
                    texts[name] = (directory / name).read_text()
            with suppress(OSError):
                texts["cpu.cfs_quota_us"] = (directory / "cpu.cfs_quota_us").read_text()
        name = self._name(serial)
        rspec = self._rspecs.get(name)
        if rspec is None:
            return limits.read_back(self.version, texts)
        weight = self._weights.get(name)
        if weight is None:
            weight = limits.weights({name: rspec}, self._cores)[name]
        return limits.as_asked(self.version, texts, rspec, weight)

    def serials(self) -> set[int]:
        """
        @return: every sliver that has a group here.
        """
        found = set()
        for base in {*self._bases.values(), self._kill_base}:
            with suppress(OSError):
                found |= {
                    int(p.name[1:]) for p in base.iterdir() if p.name[:1] == self._letter and p.name[1:].isdigit()
                }
        return found

    def members(self, serial: int) -> list[int]:
        """
        @return: the pids of a sliver's living processes.
        """
        try:
            return [int(line) for line in (self._kill_base / self._name(serial) / "cgroup.procs").read_text().split()]
        except (OSError, ValueError):
            return []

    def ran(self, serial: int) -> int | None:
        """
        @return: nanoseconds for which a sliver's processes have run, those that ended too; None if nobody counts them.
        """
        name = self._name(serial)
        with suppress(OSError, ValueError, IndexError):  # an empty version 2 beside version 1 counts as well
            for line in (self._kill_base / name / "cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec "):
                    return int(line.split()[1]) * 1000
        path = self._path("cpu", name)
        with suppress(OSError, ValueError):
            return int((path / "cpuacct.usage").read_text()) if path is not None else None
        return None

    def out_of_memory(self, serial: int) -> int:
        """
        @return: how many of a sliver's processes the kernel has killed since it was begun, for want of memory.
        """
        path = self._path("memory", self._name(serial))
        if path is not None:
            name = "memory.oom_control" if self.version == 1 else "memory.events"
            with suppress(OSError, ValueError, IndexError):
                for line in (path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def move(self, serial: int, pid: int) -> None:
        """
        Move a process, and all that it starts from now on, into a sliver's groups.

        @raise OSError: if that fails: there are no groups, or no such process.
        """
        for directory in self._directories(serial):
            _write(directory / "cgroup.procs", str(pid))

    def signal(self, serial: int, pid: int, number: int) -> None:
        """
        Send a signal to one member, never to a later process with its pid.
        """
        with suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                if pid in self.members(serial):  # after the pidfd: the pid is still that of the process that we hold
                    signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)

    def kill(self, serial: int) -> None:
        """
        Kill every member; to be repeated until L{members} is empty.
        """
        directory = self._kill_base / self._name(serial)
        with suppress(OSError):
            if (directory / "cgroup.kill").exists():
                _write(directory / "cgroup.kill", "1")
                return
            frozen = (directory / "freezer.state").exists()
            try:
                if frozen:  # so that none is born behind our back
                    _write(directory / "freezer.state", "FROZEN")
                for pid in self.members(serial):
                    self.signal(serial, pid, signal.SIGKILL)
            finally:
                if frozen:
                    _write(directory / "freezer.state", "THAWED")

    def remove(self, serial: int) -> bool:
        """
        Remove a sliver's groups.

        @return: False if some are still there, for instance because processes are still ending.
        """
        gone = True
        for directory in self._directories(serial):
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        if self._rspecs.pop(self._name(serial), None) is not None:
            self._reweigh(self._name(serial), moved=True)
        return gone

    def bases(self) -> set[Path]:
        """
        @return: our own directory in each hierarchy that we use.
        """
        return {*self._bases.values(), self._kill_base}

    def name(self, serial: int) -> str:
        """
        @return: what a sliver's group is called in each of them.
        """
        return self._name(serial)

    def close(self) -> None:
        """
        Remove our own subtree where it is empty.
        """
        for base in self.bases():
            with suppress(OSError):
                base.rmdir()

    def _name(self, serial: int) -> str:
        return f"{self._letter}{serial}"

    def _path(self, controller: str, name: str) -> Path | None:
        base = self._bases.get(controller)
        return None if base is None else base / name

    def _directories(self, serial: int) -> list[Path]:
        name = self._name(serial)
        return [base / name for base in dict.fromkeys([*self._bases.values(), self._kill_base])]

    def _reweigh(self, changed: str, *, moved: bool) -> dict[str, float]:
        """
        Find what each weighs after a change of one, and write it for all others that weigh another than before.

        @return: what each weighs, the one that changed at least.
        """
        if moved:
            old = dict(self._weights)
            self._weights.clear()
            if any(rspec.get("cpu_min") for rspec in self._rspecs.values()):
                self._weights.update(limits.weights(self._rspecs, self._cores))
            for name in self._weights or old:
                if name == changed or name not in self._rspecs:
                    continue
                was, weight = (self._plain(name) if of.get(name) is None else of[name] for of in (old, self._weights))
                path = self._path("cpu", name)
                if was != weight and path is not None:
                    _, file, value = limits.weight_file(self.version, weight)
                    with suppress(OSError):
                        _write(path / file, value)
        return self._weights or ({changed: self._plain(changed)} if changed in self._rspecs else {})

    def _plain(self, name: str) -> float:
        return limits.weights({name: {**self._rspecs[name], "cpu_min": 0}}, self._cores)[name]


def _cpu(rspec: Mapping[str, int]) -> tuple[int | None, int | None]:
    return rspec.get("cpu_share"), rspec.get("cpu_min")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
