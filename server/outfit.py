"""
What this host can run slivers with: its drivers, as far as it has what they need.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

from hostline.server.config import Config
from hostline.server.drivers.account import AccountDriver, find_login
from hostline.server.drivers.container import ContainerDriver
from hostline.server.drivers.driver import Driver
from hostline.server.drivers.embedded import EmbeddedDriver
from hostline.server.drivers.process import ProcessDriver
from hostline.server.drivers.qemu import PROGRAM, QemuDriver
from hostline.server.network.ip import Tools
from hostline.server.network.links import NOBODY, Links
from hostline.server.network.network import Network
from hostline.server.network.shared import Shared
from hostline.server.network.taps import Taps
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.claim import Claimed, claim
from hostline.server.supervise.means import Means
from hostline.server.supervise.rootfs import Rootfs
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.shim import PATH
from hostline.server.supervise.subuids import BLOCK, SubuidRange
from hostline.server.supervise.templates import Templates
from hostline.server.supervise.uids import UidRange
from hostline.server.sync import Footing

#: runc's and crun's, for what runs without a user namespace of its own.
MOST_UID = 2**31 - 1


def ranges(config: Config) -> tuple[UidRange, UidRange, UidRange, SubuidRange, SubuidRange]:
    """
    @return: the uids of process slivers, of accounts (an eighth of what is configured for all), of embedded nodes (a
        part of that; the last uid is for what filters links), the blocks of containers, and those of QEMU machines (an
        eighth of what is configured for both).
    """
    slivers = config.slivers
    eighth, of_embedded = slivers.uid_count // 8, slivers.uid_count // 64
    processes = UidRange(slivers.uid_first, slivers.uid_count - eighth)
    accounts = UidRange(slivers.uid_first + processes.size, eighth - of_embedded)
    embedded = UidRange(accounts.first + accounts.size, of_embedded - (of_embedded > 1))
    of_machines = slivers.container_uid_count // BLOCK // 8 * BLOCK
    containers = SubuidRange(slivers.container_uid_first, slivers.container_uid_count - of_machines)
    machines = SubuidRange(containers.first + containers.size, of_machines)
    return processes, accounts, embedded, containers, machines


def why_no_machines(uids: SubuidRange) -> str:
    """
    @param uids: those of QEMU machines.
    @return: why none can run with these; empty if they can.
    """
    if uids.size < BLOCK:
        return f"slivers.container_uid_count leaves no uid for QEMU machines: want {8 * BLOCK} or more"
    last = uids.first + uids.size - 1
    if last > MOST_UID:
        return (
            f"the uids of QEMU machines, the last eighth of slivers.container_uid_first and _count, end with {last}; "
            f"OCI runtimes take none above {MOST_UID} there"
        )
    return ""


async def find_drivers(
    config: Config,
    state: Path,
    run: Path,
    drivers: dict[str, Driver],
    missing: dict[str, str],
    at_end: Callable[[Callable[[], Any]], Any],
    *,
    instance: str,
    shelf: Shelf | None,
    cgroups: Cgroups | None,
    footings: list[Footing],
    **common: Any,
) -> Links | None:
    """
    Find out, by trying, what can be done here.

    @param run: RUN; each driver has a directory of its own below.
    @param drivers: what there is is put here, by kind.
    @param missing: why what there is not is not, by kind.
    @param at_end: takes what is to be called when the daemon ends.
    @param shelf: the images; None if there are none, and so no containers.
    @param footings: what several drivers stand on is put here.
    @param common: what every driver is given.
    @return: the links of experiments; None if there can be none.
    """
    processes, accounts, of_embedded, blocks, of_machines = ranges(config)
    spawner, clock = common["spawner"], common["clock"]
    found, no_network = await Network.find(
        config.network, instance, state / "network", spawner, clock, bool(config.experiments.dns)
    )
    links, no_links = await Links.find(
        instance,
        spawner,
        clock,
        run=run,
        loop=common["loop"],
        uid=of_embedded.first + of_embedded.size if of_embedded.size > 1 else NOBODY,
        cgroups=cgroups.of("w") if cgroups is not None else None,
    )
    footings += [one for one in (found, links) if one is not None]
    network = Shared(found) if found is not None else None
    wired: dict[str, Any] = {"wires": links, "network": network, "no_links": no_links}
    drivers["process"] = ProcessDriver(
        state / "slivers",
        run,
        instance=instance,
        uids=processes,
        cgroups=cgroups,
        hidden=[state / "images", state / "roots"],
        **wired,
        **common,
    )
    if shelf is None:
        of_root = ("account", "container", "qemu", *(["embedded"] if config.experiments.embedded else []))
        missing |= dict.fromkeys(of_root, "the daemon does not run as root")
        return links
    drivers["account"] = AccountDriver(
        state / "accounts",
        run / "accounts",
        instance=instance,
        uids=accounts,
        login=find_login(),
        cgroups=cgroups,
        **common,
    )
    if config.experiments.embedded:
        drivers["embedded"] = EmbeddedDriver(
            state / "embedded",
            run / "embedded",
            instance=instance,
            uids=of_embedded,
            cgroups=cgroups,
            hidden=[state / "images", state / "roots"],
            **wired,
            **common,
        )
    try:
        at_end(claim(UidRange(blocks.first, blocks.size + of_machines.size), key="slivers.container_uid").close)
    except Claimed as error:
        missing |= dict.fromkeys(("container", "qemu"), str(error))
        return links
    means = await Means.find(state / "roots", spawner, clock, note=state / "means")
    drivers["container"] = driver = ContainerDriver(
        state / "containers",
        run / "containers",
        files=Rootfs(state / "roots", shelf, spawner, means, clock),
        uids=blocks,
        cgroups=cgroups.of("c") if cgroups is not None else None,
        no_network=no_network,
        lacks=means.problems,
        **wired,
        **common,
    )
    driver.holds = f"{driver.holds}: {means.describe()}; what they receive from the network is not limited"
    qemu = which(PROGRAM, path=PATH)
    if qemu is None or which("qemu-img", path=PATH) is None:
        missing["qemu"] = f"there is no {PROGRAM} (Debian: apt install qemu-system-x86 qemu-utils)"
        return links
    unusable = why_no_machines(of_machines)
    if unusable:
        missing["qemu"] = unusable
        return links
    drivers["qemu"] = QemuDriver(
        state / "machines",
        run / "machines",
        program=qemu,
        images=shelf.guest,
        templates=Templates(state / "templates", spawner, common["loop"], clock, lambda: config.images.templates),
        taps=Taps(Tools(spawner, clock)),
        uids=of_machines,
        cgroups=cgroups.of("q") if cgroups is not None else None,
        no_network=no_network,
        **wired,
        **common,
    )
    return links
