"""
The images that should be on this host, made one after the other, and the answers about them.

An image is made by an operation, whose goal is that the image's status is C{booted}. An image that is not whole and
that no operation waits for, because it failed or was cancelled, has its record removed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadValue, NoSuchImage, StoreFailed, WrongState
from hostline.protocol.names import near
from hostline.server.asking import Ask, responds
from hostline.server.config import Images as Settings
from hostline.server.drivers.driver import CANNOT_START, Status
from hostline.server.host import Change, Host
from hostline.server.operations import Operations
from hostline.server.records import Image
from hostline.server.slivers.plan import ABSENT, STARTED, folded
from hostline.server.supervise.builders import Recipe
from hostline.server.supervise.readiness import BadRule, Rule
from hostline.server.supervise.shelf import Made, Shelf


class Images:
    """
    Makes images and removes them, as their records say.
    """

    _log = Logger()

    def __init__(
        self,
        host: Host,
        operations: Operations,
        shelf: Shelf | None,
        settings: Callable[[], Settings],
        begin: Callable[[], Change],
        commit: Callable[[Change], Deferred[None]],
        why_none: str = "",
    ) -> None:
        """
        @param shelf: None if this host can hold no images, for the reason C{why_none}.
        @param begin: begins a change that is nobody's request; C{commit} makes it durable.
        """
        self.shelf = shelf
        self.why_none = why_none
        self._host = host
        self._operations = operations
        self._settings = settings
        self._begin = begin
        self._commit = commit
        self._turns = DeferredSemaphore(settings().at_once)
        self._building: set[int] = set()
        self._begun: set[int] = set()
        self._failed: dict[int, str] = {}
        self._forgetting: set[int] = set()

    async def recover(self, keep_strays: bool = False) -> None:
        """
        Remove from the disk what no record wants; before slivers are found again.
        """
        if self.shelf is None:
            return
        try:
            await self.shelf.recover(set(self._all()), keep_strays)
        except OSError as error:
            self.shelf, self.why_none = None, f"{error.strerror or error}: {error.filename or ''}"

    def run(self) -> None:
        """
        Make what is wanted and not here; called when operations are followed again, and after every change.
        """
        for serial, image in list(self._all().items()):
            if image.sha256:
                continue
            if self._operations.waits_for(serial):
                if serial not in self._building and serial not in self._failed:
                    self._building.add(serial)
                    Deferred.fromCoroutine(self._build(image)).addErrback(self._broken, image)
            elif serial in self._building:
                if self.shelf is not None:
                    self.shelf.cancel(serial)
            elif serial not in self._host.unended:  # else it is not durable yet that somebody waits
                self._forget(image)

    def status(self, serial: int) -> Status | None:
        """
        @return: of an image, as of a sliver: C{running} while it is made, C{booted} when it is whole, C{dead} if it
            cannot be made; None if there is no such image.
        """
        image = self._all().get(serial)
        if image is None:
            return None
        if image.sha256:
            return Status(serial, 1, "booted")
        if serial in self._failed:
            return Status(serial, 1, "dead", exit_code=CANNOT_START, problems=(self._failed[serial],))
        return Status(serial, 1, "running")

    def progress(self, serial: int) -> tuple[str, float | None] | None:
        """
        @return: what is being done to make an image, and how much is done; None if it is not being made.
        """
        if serial not in self._building or self.shelf is None:
            return None
        return self.shelf.progress(serial) if serial in self._begun else ("waiting for its turn", 0.0)

    def named(self, name: str) -> Image:
        """
        @raise NoSuchImage: if there is none.
        """
        found = self._host.get(Image, name)
        if found is None:
            raise NoSuchImage(f"no image {name}{near(name, list(self._host.table(Image)))}")
        return found

    def for_sliver(self, name: str, kind: str) -> int:
        """
        @return: serial of an image that a sliver of a kind can be made from.
        @raise NoSuchImage: if there is none.
        @raise WrongState: if it is not whole, or of another kind.
        """
        image = self.named(name)
        if image.kind != kind:
            raise WrongState(f"image {name} is for slivers of kind {image.kind}, not {kind}")
        if not image.sha256:
            raise WrongState(f"image {name} is being made")
        if self.shelf is None or self.shelf.made(image.serial) is None:
            raise WrongState(f"the files of image {name} are gone; remove it and make it again")
        return image.serial

    def used_by(self, image: Image) -> list[str]:
        """
        @return: names of the slivers that are made from an image.
        """
        slivers = self._host.slivers_by_serial.values()
        return sorted(one.name for one in slivers if one.image == image.serial and one.wanted != ABSENT)

    def body(self, image: Image) -> dict[str, Any]:
        """
        An image as it goes on the wire.
        """
        whole = self.shelf is not None and self.shelf.made(image.serial) is not None
        step, progress = self.progress(image.serial) or ("", None)
        failed = self._failed.get(image.serial, "")
        lost = "its files are gone from this host, or damaged" if image.sha256 and not whole else ""
        return {
            "name": image.name,
            "serial": image.serial,
            "kind": image.kind,
            "state": "ready" if image.sha256 and whole else "building" if not image.sha256 and not failed else "failed",
            "step": step,
            "progress": progress,
            "sha256": image.sha256 or None,
            "size": image.size,
            "created": image.created,
            "ready": image.ready,
            "base": image.base,
            "packages": list(image.packages),
            "command": list(image.command),
            "environment": dict(image.environment),
            "directory": image.directory,
            "slivers": len(self.used_by(image)),
            "problems": [one for one in (failed, lost) if one],
        }

    def remove(self, change: Change, image: Image) -> None:
        """
        Remove an image.

        @raise WrongState: if it is being made, or a sliver needs it.
        """
        if not image.sha256:
            raise WrongState(f"image {image.name} is being made; cancel that")
        users = self.used_by(image)
        if users:
            raise WrongState(f"image {image.name} is in use by {folded(users)}")
        change.remove(image)
        change.when_committed.append(lambda: self._take_away(image))

    def close(self) -> None:
        """
        End what is being made; the next daemon begins it again.
        """
        if self.shelf is not None:
            self.shelf.close()

    def _all(self) -> dict[int, Image]:
        return {one.serial: one for one in self._host.table(Image).values()}

    async def _build(self, image: Image) -> None:
        serial = image.serial
        await self._turns.acquire()
        try:
            if self.shelf is None:
                raise OSError(f"this host can hold no images: {self.why_none}")
            if not self._operations.waits_for(serial):
                raise OSError("cancelled")
            self._begun.add(serial)
            made = await self.shelf.build(serial, self._recipe(image))
            await self._note(image, made)
        except (OSError, StoreFailed) as error:
            self._failed[serial] = getattr(error, "strerror", None) or str(error)
            self._log.warn("image {name}: {reason}", name=image.name, reason=self._failed[serial])
        finally:
            self._building.discard(serial)
            self._begun.discard(serial)
            self._turns.release()
        self._host.touched()
        self._operations.news(serial)
        self.run()

    async def _note(self, image: Image, made: Made) -> None:
        change = self._begin()
        whole = attrs.evolve(
            image,
            sha256=made.sha256,
            size=made.size,
            command=made.command,
            environment=dict(made.environment),
            directory=made.directory,
            ready=made.ready or "started",
        )
        change.put(whole)
        # For operators; others ask for images, if they may.
        change.tell("host", "image_made", (0, image.serial), image=image.name, sha256=made.sha256, size=made.size)
        await self._commit(change)

    def _recipe(self, image: Image) -> Recipe:
        settings = self._settings()
        return Recipe(
            "import" if image.blob else image.base,
            image.packages,
            settings.suite,
            settings.mirror,
            Path(image.blob) if image.blob else None,
            settings.unpacked_bytes,
            settings.build_s,
            image.kind,
            image.ready,
        )

    def _forget(self, image: Image) -> None:
        """
        Remove the record of an image that was not made, and nobody waits for.
        """
        if image.serial in self._forgetting:
            return
        self._forgetting.add(image.serial)
        change = self._begin()
        change.remove(image)
        change.when_committed.append(lambda: self._take_away(image))
        self._commit(change).addCallbacks(lambda _: self._failed.pop(image.serial, None), self._not_written)
        self._forgetting.discard(image.serial)

    def _not_written(self, failure: Failure) -> None:
        failure.trap(StoreFailed)  # the next change brings us here again

    def _take_away(self, image: Image) -> None:
        if self.shelf is not None:
            Deferred.fromCoroutine(self.shelf.remove(image.serial)).addErrback(self._broken, image)

    def _broken(self, failure: Failure, image: Image) -> None:
        if failure.check(OSError):
            self._log.warn("image {name}: {reason}", name=image.name, reason=str(failure.value))
        else:
            self._log.failure("image {name}", failure, name=image.name)


@responds(TABLE["images"])
def images(ask: Ask) -> list[dict[str, Any]]:
    """
    Name all images.
    """
    return [ask.daemon.images.body(one) for _, one in sorted(ask.host.table(Image).items())]


@responds(TABLE["image_build"])
def image_build(ask: Ask, name: str, packages: list[str], base: str, kind: str, ready: str) -> dict[str, Any]:
    """
    Begin to make an image on this host.
    """
    if base != "debian" and packages:
        raise BadValue("packages: want none with base=busybox")
    return _begin(ask, name, kind=kind, base=base, packages=tuple(packages), ready=_ready(kind, ready))


@responds(TABLE["image_import"])
def image_import(ask: Ask, name: str, blob: str, kind: str, ready: str) -> dict[str, Any]:
    """
    Begin to make an image of what was sent.
    """
    with ask.daemon.blobs.opened(ask.principal, blob.removeprefix("blob:")) as file:
        path = str(Path(file.name).absolute())
    return _begin(ask, name, kind=kind, base="import", blob=path, ready=_ready(kind, ready))


@responds(TABLE["image_remove"])
def image_remove(ask: Ask, name: str) -> dict[str, Any]:
    """
    Remove an image.
    """
    made = ask.daemon.images
    image = made.named(name)
    body = made.body(image)
    made.remove(ask.change, image)
    return body


def _ready(kind: str, ready: str) -> str:
    """
    @return: how a sliver is known to be up; empty: as an imported image says.
    """
    if kind != "qemu":
        if ready not in ("", "started"):
            raise BadValue("ready: want none of an image of containers: they are up when they are started")
        return "started"
    if ready:
        try:
            Rule.parse(ready)
        except BadRule as error:
            raise BadValue(f"ready: {error}") from error
    return ready


def _begin(ask: Ask, name: str, **about: Any) -> dict[str, Any]:
    made = ask.daemon.images
    if made.shelf is None:
        raise WrongState(f"this host can hold no images: {made.why_none}")
    image = ask.change.add(Image(serial=ask.change.serial(), name=name, created=ask.now, **about))
    goal, before = {image.serial: (STARTED, 1)}, {image.serial: (ABSENT, 0, None)}
    ask.operation = ask.daemon.operations.start(ask.change, ask.row.name, image, goal, before, ask.principal)
    return made.body(image)
