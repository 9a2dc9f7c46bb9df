"""
Snapshots: an image of what a node has become. The node's files are written into one file first, which the shelf then
makes an image of like one that somebody sent; that file goes when the image is made, or is not to be.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from twisted.logger import Logger

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import Exists, NoSuchNode, OperationFailed, WrongState
from hostline.protocol.names import near
from hostline.server.asking import Ask, responds
from hostline.server.experiments.placing import QEMU, WITH_IMAGE
from hostline.server.host import Host
from hostline.server.records import Experiment, Image, Sliver
from hostline.server.slivers.plan import ABSENT, STARTED, STOPPED
from hostline.server.supervise.disks import DISK
from hostline.server.supervise.homes import read_note
from hostline.server.supervise.running import run
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.spawn import Spawner

_SUPERVISE = Path(__file__).parents[1] / "supervise"


@runtime_checkable
class HasTree(Protocol):
    """
    A driver whose slivers' files can be read on the host.
    """

    async def tree_of(self, serial: int) -> tuple[Path, int, int]:
        """
        @return: where they are mounted, the uid on the host of the sliver's root, and how many uids it has.
        @raise OSError: if there are none.
        """


@runtime_checkable
class HasDisks(Protocol):
    """
    A driver whose slivers have disks, and run.
    """

    def reachable(self, serial: int) -> bool:
        """
        @return: whether one runs, and can be asked to put its file systems to rest.
        """

    async def copy_disk(self, serial: int, target: Path, most_bytes: int) -> None:
        """
        Write what one has changed of its disk into a new qcow2 disk, as it is at one moment.

        @raise OSError: if it cannot be done.
        """


class Snapshots:
    """
    The files that images of nodes are made of.
    """

    _log = Logger()

    def __init__(self, host: Host, directory: Path, spawner: Spawner | None) -> None:
        """
        @param directory: C{STATE/snapshots}; made when it is wanted. Beside it are the disks of machines.
        @param spawner: None if nothing can be started.
        """
        self._host = host
        self._directory = directory
        self._machines = directory.parent / "machines"
        self._spawner = spawner
        self._writing: set[Path] = set()

    async def of_container(self, serial: int, driver: object, name: str, most_bytes: int) -> Path:
        """
        Write a container's files into a tar.

        @param serial: the sliver's.
        @param name: of the file; nobody else has it.
        @return: it; kept until L{tidy} finds that no image wants it: make the image's record at once.
        @raise OSError: if that fails; then nothing is left.
        """
        if not isinstance(driver, HasTree):
            raise OSError("its driver does not let them be read")
        root, first, size = await driver.tree_of(serial)
        return await self._pack("pack_tree.py", name, root, first, size, most_bytes)

    async def of_machine(
        self, serial: int, shelf: Shelf, name: str, most_bytes: int, running: HasDisks | None = None
    ) -> Path:
        """
        The same of what a QEMU machine begins with.

        @param running: its driver if it runs; None if it is off.
        """
        place = self._machines / str(serial)
        disk = place / DISK
        noted = read_note(place / "image")
        if not disk.exists() or len(noted) != 1:
            raise OSError("it has no disk of its own: all that it has is in its memory")
        files = shelf.guest(noted[0])
        others = (files.kernel or "-", files.initrd or "-", files.directory / "guest.json")
        words = (files.disk or "-", disk.stat().st_uid, most_bytes, *others)
        if running is None:
            return await self._pack("pack_guest.py", name, disk, *words)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        changed = self._directory / f"{name}.changed"
        self._writing.add(changed)
        try:
            await running.copy_disk(serial, changed, most_bytes)
            return await self._pack("pack_guest.py", name, changed, *words, "live")
        finally:
            self._writing.discard(changed)
            changed.unlink(missing_ok=True)

    async def _pack(self, program: str, name: str, *words: object) -> Path:
        if self._spawner is None:
            raise OSError("this daemon starts no programs")
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._directory / f"{name}.tar"
        self._writing.add(path)
        try:
            argv = [sys.executable, "-I", "-S", "-B", str(_SUPERVISE / program)]
            await run(self._spawner, *argv, *(str(one) for one in (path, *words)))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._writing.discard(path)
        return path

    def tidy(self) -> None:
        """
        Remove files that no image is made of; called now and then, and after a restart.
        """
        if not self._directory.is_dir():
            return
        wanted = {one.blob for one in self._host.table(Image).values() if not one.sha256}
        for path in self._directory.iterdir():
            if not {path, path.with_suffix("")} & self._writing and str(path) not in wanted:
                self._log.info("removing {path}", path=path)
                path.unlink(missing_ok=True)


@responds(TABLE["snapshot_node"])
async def snapshot_node(ask: Ask, name: str, node: str, image: str) -> dict[str, Any]:
    """
    Make an image of a node.
    """
    images, snapshots = ask.daemon.images, ask.daemon.snapshots
    if images.shelf is None:
        raise WrongState(f"this host can hold no images: {images.why_none}")
    if ask.host.get(Image, image) is not None:
        raise Exists(f"image {image} exists")
    sliver = _sliver(ask, node)
    driver = ask.daemon.sync.drivers.get(sliver.kind)
    if sliver.kind not in WITH_IMAGE:
        raise WrongState(f"node {node} is of kind {sliver.kind}; want a container or a QEMU machine")
    name_of_file, most = f"{sliver.serial}-{ask.request}", ask.daemon.config.images.unpacked_bytes
    try:
        if sliver.kind == QEMU:
            running = _running(ask, sliver, driver, node)
            path = await snapshots.of_machine(sliver.serial, images.shelf, name_of_file, most, running)
        else:
            path = await snapshots.of_container(sliver.serial, driver, name_of_file, most)
    except OSError as error:
        raise OperationFailed(f"the files of node {node} cannot be read: {error.strerror or error}") from error
    try:
        ask.look_again()
        made = Image(
            serial=ask.change.serial(),
            name=image,
            kind=sliver.kind,
            created=ask.now,
            base="import",
            blob=str(path),
            ready="" if sliver.kind == QEMU else "started",  # a machine's image says itself
        )
        ask.change.add(made)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    goal, before = {made.serial: (STARTED, 1)}, {made.serial: (ABSENT, 0, None)}
    ask.operation = ask.daemon.operations.start(ask.change, ask.row.name, made, goal, before, ask.principal)
    return images.body(made)


def _running(ask: Ask, sliver: Sliver, driver: object, node: str) -> HasDisks | None:
    """
    @return: the driver of a machine that runs; None if it is off.
    @raise WrongState: if it is neither quite.
    """
    status = ask.daemon.sync.status(sliver.serial)
    boot = None if status is None else status.boot
    if sliver.aim == STOPPED and status is not None and boot in (None, "dead"):
        return None
    if boot == "booted" and isinstance(driver, HasDisks) and driver.reachable(sliver.serial):
        return driver
    why = "that has no agent that answers" if boot == "booted" else f"that is {boot or 'not up'}"
    raise WrongState(f"node {node} is a QEMU machine {why}; want it booted, or stop_node first")


def _sliver(ask: Ask, node: str) -> Sliver:
    experiment: Experiment = ask.target
    slivers = ask.host.slivers_of(experiment)
    if node not in slivers:
        if not slivers:
            raise WrongState(f"{experiment.name} is {experiment.state}; a snapshot wants its nodes placed")
        raise NoSuchNode(f"no node {node} in {experiment.name}{near(node, list(slivers)[:300])}")
    return slivers[node]
