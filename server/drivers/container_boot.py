"""
All that is made for a boot of a container before it is started, and its start.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import define

from hostline.server.drivers.containers import ContainerSliver, Kept
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.wires import NO_WIRES, Wires
from hostline.server.supervise import bundle as oci
from hostline.server.supervise import inside, keyfile, said, within
from hostline.server.supervise.bundle import Bind, Container
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.idmap import users_of
from hostline.server.supervise.runtime import Bundle, Runtime
from hostline.server.supervise.shim import Process
from hostline.server.supervise.subuids import BLOCK, Subuids

#: KiB of disk for a workload that does not say.
_DISK_KIB = 5_000_000


class Files(Protocol):
    """
    Where containers' root file systems come from (L{hostline.server.supervise.rootfs.Rootfs}).
    """

    def prepare(self) -> None: ...
    async def make(self, serial: int, image: int, first_uid: int, size_uids: int, disk_kib: int) -> None: ...
    async def mount(self, serial: int, users: int | None = None) -> Path: ...
    async def unmount(self, serial: int) -> None: ...
    async def destroy(self, serial: int) -> None: ...
    def serials(self) -> set[int]: ...
    def disk(self, serial: int) -> tuple[int, int]: ...
    async def resize(self, serial: int, disk_kib: int) -> str | None: ...


class Net(Protocol):
    """
    What connects containers (L{hostline.server.network.network.Network}).
    """

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None: ...
    def address(self, serial: int) -> str: ...
    async def connect(self, serial: int, pid: int, rspec: Mapping[str, int]) -> list[str]: ...
    async def shape(self, serial: int, rspec: Mapping[str, int]) -> list[str]: ...
    def in_force(self, serial: int) -> Mapping[str, int]: ...
    async def forget(self, serial: int) -> None: ...
    def dns(self) -> str: ...
    def names(self, serial: int, name: str) -> str: ...


class Unstartable(Exception):
    """
    A container cannot be started; the message is for its user.
    """


@define
class Booting:
    """
    Makes directories, control groups and files, and starts what they are for.

    @ivar runtime: None if none works on this host, for the reason C{unusable}.
    @ivar common: what all containers see (L{inside.install}).
    @ivar seccomp: the filter of all.
    """

    kept: Kept
    files: Files
    network: Net | None
    cgroups: Cgroups | None
    uids: Subuids
    wires: Wires | None = None
    no_links: str = "no links: this host is not set up for them"
    runtime: Runtime | None = None
    unusable: str = "the driver has not looked around yet"
    common: Path = Path("/nonexistent")
    seccomp: Mapping[str, Any] | None = None

    async def make(self, sliver: ContainerSliver, workload: Workload) -> None:
        """
        Make what lasts from boot to boot.

        @raise OSError: if that fails.
        @raise ValueError: if there are no uids for it.
        """
        serial, place = workload.serial, self.kept.place(workload.serial)
        place.mkdir(mode=0o700, exist_ok=True)
        sliver.name, sliver.rspec = workload.name, workload.rspec
        if sliver.builds == 0:
            first = self.uids.ensure(serial)
            disk = workload.rspec.get("disk_max", _DISK_KIB)
            await self.files.make(serial, workload.image or 0, first, BLOCK, disk)
            if self.network is not None:
                sliver.address = self.network.address(serial)
            (place / "builds").write_text(f"{workload.builds}\n")
            sliver.builds = workload.builds

    async def begin(self, sliver: ContainerSliver, workload: Workload) -> tuple[int, Process]:
        """
        Make all that this boot needs, and start it; what it lacks is in the sliver's C{problems}.

        @return: the pid of its own process, and its conmon.
        @raise Unstartable: if it cannot be what the workload says, or not on this host.
        @raise OSError: if something else fails.
        """
        runtime = self.runtime
        if runtime is None:
            raise Unstartable(self.unusable)
        await self.make(sliver, workload)
        serial = workload.serial
        first = self.uids.ensure(serial)
        async with users_of(runtime.spawner, runtime.clock, first, BLOCK) as users:
            rootfs = sliver.root = await self._mounted(sliver, workload.rspec.get("disk_max"), users)
            if not within.is_program(rootfs, "bin/sh"):
                raise Unstartable("the image has no /bin/sh")
            bundle = self.kept.bundle(serial, workload.boots)
            self.kept.new_boot(bundle)
            self.put_keys(sliver, rootfs, workload.keys)
            container = self._container(sliver, workload, bundle, rootfs)
            log = self.kept.place(serial) / "console"
            pid, keeper = await runtime.create(bundle, oci.config(container), log, users)
        if self.network is not None:
            sliver.problems["network"] = tuple(await self.network.connect(serial, pid, workload.rspec))
        if workload.interfaces or sliver.wired != NO_WIRES:
            await self.wire(sliver, workload, pid)
        self.kept.mark(bundle, "starting")
        await runtime.start(bundle)
        return pid, keeper

    async def wire(self, sliver: ContainerSliver, workload: Workload, pid: int) -> None:
        """
        Put a container on its links; what is not as it should be is in its C{problems}.

        @param pid: of its own process.
        """
        wanted = workload.wired
        sliver.problems.pop("links", None)
        if self.wires is not None:
            said_of_it = await self.wires.plug(
                workload.serial, pid, workload.interfaces, workload.routes, forwards=workload.forwards
            )
            sliver.problems["links"] = tuple(said_of_it)
        elif workload.interfaces:
            sliver.problems["links"] = (self.no_links,)
        sliver.wired = wanted

    def hosts_of(self, workload: Workload) -> str:
        """
        @return: a container's C{/etc/hosts}: what its experiment calls its nodes comes first, and so counts.
        """
        network = self.network
        if network is not None:
            return workload.hosts + network.names(workload.serial, workload.name)
        return workload.hosts + hosts(oci.host_name(workload.name))

    def put_hosts(self, sliver: ContainerSliver, bundle: Bundle, workload: Workload) -> None:
        """
        Have a container that runs find these names; the file stays the same, for it is mounted.
        """
        sliver.hosts = workload.hosts
        data = self.hosts_of(workload).encode()
        with suppress(OSError):
            fd = os.open(bundle.path / "hosts", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, data, 0)
                os.ftruncate(fd, len(data))
            finally:
                os.close(fd)

    async def _mounted(self, sliver: ContainerSliver, disk_kib: int | None, users: int | None) -> Path:
        serial = sliver.serial
        sliver.problems.pop("disk", None)
        if disk_kib is None:
            return await self.files.mount(serial, users)
        if await self.files.resize(serial, disk_kib) is not None:
            await self.files.unmount(serial)  # another size comes into force when it is mounted
        root = await self.files.mount(serial, users)
        problem = await self.files.resize(serial, disk_kib)
        if problem is not None:
            sliver.problems["disk"] = (problem,)
        return root

    def put_keys(self, sliver: ContainerSliver, rootfs: Path, keys: tuple[str, ...]) -> None:
        """
        Have these keys in its root's C{authorized_keys}; what cannot be is in its C{problems}.
        """
        sliver.keys = keys
        first = self.uids.ensure(sliver.serial)
        try:
            with within.opened(rootfs, "root", within.DIRECTORY) as home:
                keyfile.write_keys(home, keys, first, first)
            sliver.problems.pop("keys", None)
        except FileNotFoundError:
            sliver.problems["keys"] = ("keys not written: the image has no /root",) if keys else ()
        except (OSError, ValueError) as error:
            sliver.problems["keys"] = (str(error),)

    def _container(self, sliver: ContainerSliver, workload: Workload, bundle: Bundle, rootfs: Path) -> Container:
        path, first = bundle.path, self.uids.ensure(workload.serial)
        try:
            inside.prepare_own(
                path / "own",
                first,
                workload.start_command,
                workload.environment,
                workload.initscript,
                workload.packages,
            )
        except ValueError as error:
            raise Unstartable(str(error)) from error
        said.prepare(path / "said", first)
        name = oci.host_name(workload.name)
        network = self.network
        texts = {
            "hostname": f"{name}\n",
            "hosts": self.hosts_of(workload),
            "resolv.conf": "# no network\n" if network is None else network.dns(),
        }
        binds = [
            Bind(self.common, oci.OURS, executable=True),
            Bind(path / "own", f"{oci.OURS}/own", executable=True),
            Bind(path / "said", f"{oci.OURS}/said", writable=True),
        ]
        sliver.hosts = workload.hosts
        for file, text in texts.items():
            (path / file).write_text(text)
            (path / file).chmod(0o644)
            binds.append(Bind(path / file, f"/etc/{file}"))
        if workload.door is not None:
            binds.append(Bind(workload.door, oci.DOOR))
        group = None
        if self.cgroups is not None:
            procs, problems = self.cgroups.prepare(workload.serial, workload.rspec)
            sliver.problems["limits"] = tuple(problems)
            group = cgroups_path(procs[0], self.cgroups.version) if procs else None
        return Container(
            name=workload.name,
            rootfs=rootfs,
            first_uid=first,
            argv=[f"{oci.OURS}/bin/catatonit", "--", "/bin/sh", f"{oci.OURS}/bin/boot"],
            environment=oci.environment(workload.name),
            binds=binds,
            cgroup=group,
            memory=workload.rspec.get("memory_max", 0),
            seccomp=self.seccomp,
        )


def hosts(name: str) -> str:
    """
    @return: the C{/etc/hosts} of a container that has no network.
    """
    names = " ".join(dict.fromkeys((name, name.split(".")[0])))
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{names}\n"


def cgroups_path(procs: Path, version: int, root: Path = Path("/sys/fs/cgroup")) -> str:
    """
    @param procs: the file C{cgroup.procs} of a control group in one hierarchy.
    @return: where it is below the root of any.
    """
    parts = procs.parent.relative_to(root).parts
    return "/" + "/".join(parts[1:] if version == 1 else parts)


def tidy_groups(cgroups: Cgroups, name: str = "", root: Path = Path("/sys/fs/cgroup")) -> None:
    """
    Remove an empty control group of ours from those hierarchies of version 1 that only the runtime uses.

    @param name: of the group; empty: our own directory, while no container is being made.
    """
    if cgroups.version != 1:
        return
    bases = cgroups.bases()
    others = {base.resolve() for base in bases}
    for base in {base.name for base in bases}:
        for place in root.glob(f"*/{base}"):
            if place.resolve() not in others:
                with suppress(OSError):
                    (place / name).rmdir()
