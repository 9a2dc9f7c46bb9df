"""
Bodies: what replies say of experiments, slivers and operations, from the records and from what drivers say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hostline.server import callers
from hostline.server.experiments import views
from hostline.server.experiments.requests import result
from hostline.server.records import Experiment, Image, Operation, Sliver
from hostline.server.slivers import views as views_of_slivers

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon


class Bodies:
    """
    Makes the bodies of replies that take more to tell than a record.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def experiment(self, experiment: Experiment) -> dict[str, Any]:
        """
        An experiment as it goes on the wire.
        """
        host = self._daemon.host
        owner = callers.shown_principal(host, experiment.owner)
        return views.experiment_body(host, experiment, self._daemon.sync.status, owner, self._shaped_by)

    def _shaped_by(self, experiment: int, link: str) -> str | None:
        wires = self._daemon.wires
        return wires.shaped_by(f"{experiment}/{link}") if wires is not None else None

    def sliver(self, sliver: Sliver) -> dict[str, Any]:
        """
        A sliver as it goes on the wire.
        """
        sync, serial, grace_s = self._daemon.sync, sliver.serial, self._daemon.config.slivers.grace_days * 86400
        problems = sync.problems(serial)
        return views_of_slivers.sliver_body(
            self._daemon.host, sliver, sync.status(serial), sync.busy(serial), grace_s, problems
        )

    def result(self, operation: Operation) -> Any:
        """
        The reply body of an operation that is done.

        @raise OperationFailed: if its experiment was terminated since.
        """
        host = self._daemon.host
        sliver = host.slivers_by_serial.get(operation.subject)
        if sliver is not None:
            return self.sliver(sliver)
        image = host.by_serial(Image, operation.subject)
        if image is not None:
            return self._daemon.images.body(image)
        return result(self.experiment, host, operation)
