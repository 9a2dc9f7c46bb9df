"""
Making records anew that could not be read, from those that could; decides, does no I/O.
"""

from __future__ import annotations

import attrs

from hostline.protocol.names import split_node
from hostline.server.experiments.making import new_sliver, unplanned
from hostline.server.experiments.planned import Planned
from hostline.server.host import Change, Host
from hostline.server.records import Experiment, Project, Sliver
from hostline.server.slivers.plan import ABSENT


def rebuild(change: Change, host: Host, planned: Planned) -> list[str]:
    """
    Make anew the records of slivers that could not be read from what their experiments say, and of experiments
    from their slivers: nothing that runs is taken away because its record is damaged, and it can be terminated.

    @return: which, in words.
    """
    said = _rebuild_experiments(change, host)
    for experiment in list(host.experiments_by_serial.values()):
        missing = {node: serial for node, serial in experiment.slivers.items() if serial not in host.slivers_by_serial}
        nodes = planned.nodes(experiment.serial) if missing else {}
        going = experiment.state in ("swapping", "terminating")
        for node, serial in missing.items():
            known = nodes.get(node)
            sliver = new_sliver(change, experiment, known or unplanned(node), serial)
            if going or (nodes and known is None):
                change.put(attrs.evolve(sliver, wanted=ABSENT))
            said.append(f"the record of sliver {sliver.name} was made anew from its experiment")
    return said


def _rebuild_experiments(change: Change, host: Host) -> list[str]:
    orphans: dict[tuple[int, str], list[Sliver]] = {}
    for sliver in host.slivers_by_serial.values():
        if not sliver.free and sliver.experiment not in host.experiments_by_serial:
            orphans.setdefault((sliver.experiment, split_node(sliver.name)[1]), []).append(sliver)
    said = []
    for (serial, name), slivers in orphans.items():
        if host.get(Experiment, name) is not None:
            continue
        project = host.get(Project, name.partition("/")[0])
        experiment = Experiment(
            serial=serial,
            name=name,
            project=project.serial if project else 0,
            owner="uid:0",
            state="active",
            slivers={split_node(sliver.name)[0]: sliver.serial for sliver in slivers},
            created=min(sliver.created for sliver in slivers),
        )
        change.put(experiment)
        said.append(f"the record of experiment {name} was made anew from its slivers")
    return said
