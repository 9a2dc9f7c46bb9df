"""
Which OCI runtime works on this host, found by starting a real container: crun may refuse a mixed tree of control groups
where runc works, and either may lack what the kernel has.

What was found is noted until the host restarts or a program changes, so that it costs nothing at most starts.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree, which

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise import bundle as oci
from hostline.server.supervise.bundle import Bind, Container
from hostline.server.supervise.idmap import users_of
from hostline.server.supervise.runtime import Bundle, Failed, Runtime, read_ended, shortened
from hostline.server.supervise.seccomp import PROFILE, read_profile, seccomp
from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.subuids import BLOCK

#: How long a container that does nothing may take.
TRIAL_S = 20.0


@frozen
class Found:
    """
    @ivar runtime: None if none works.
    @ivar why: why not.
    @ivar version: of what was found.
    @ivar seccomp: C{linux.seccomp} for all containers.
    """

    runtime: Runtime | None
    why: str = ""
    version: str = ""
    seccomp: dict[str, object] | None = None


async def find_runtime(
    names: Sequence[str],
    run: Path,
    common: Path,
    first_uid: int,
    *,
    spawner: Spawner,
    loop: asyncio.AbstractEventLoop,
    clock: IReactorTime,
    profile: Path = PROFILE,
) -> Found:
    """
    @param names: names or paths of runtimes; the first that works is taken.
    @param run: of the driver, for notes and the trial.
    @param common: what all containers see.
    @param first_uid: of a block of uids for the trial.
    """
    conmon = which("conmon", path=PATH)
    if conmon is None:
        return Found(None, "there is no conmon (Debian: apt install conmon)")
    try:
        filter_ = seccomp(read_profile(profile), oci.CAPABILITIES)
    except (OSError, ValueError, KeyError) as error:
        why = f"no seccomp profile (Debian: apt install golang-github-containers-common): {error}"
        return Found(None, why)
    reasons = []
    for name in names:
        program = which(name, path=PATH)
        if program is None:
            reasons.append(f"there is no {name}")
            continue
        runtime = Runtime(program, conmon, run / f"state-{Path(program).name}", spawner=spawner, loop=loop, clock=clock)
        note, stamp = run / f"works-{Path(program).name}", _stamp(program, conmon, str(common), str(profile))
        with suppress(OSError):
            noted = note.read_text().split("\n")
            if noted[0] == stamp:
                return Found(runtime, version=noted[1], seccomp=filter_)
        try:
            await _try(runtime, run, common, first_uid, filter_, clock)
        except (OSError, ValueError) as error:
            reasons.append(f"{name} does not work here: {error}")
            continue
        version = ", ".join([await version_of(spawner, program), await version_of(spawner, conmon)])
        with suppress(OSError):
            note.write_text(f"{stamp}\n{version}\n")
        return Found(runtime, version=version, seccomp=filter_)
    return Found(None, "; ".join(reasons) or "no runtime is configured")


async def _try(
    runtime: Runtime, run: Path, common: Path, first_uid: int, filter_: dict[str, object], clock: IReactorTime
) -> None:
    """
    @raise OSError: if a container cannot be started, or ends otherwise than it should.
    """
    place = run / "trial"
    bundle = Bundle(place, 0, os.getpid())
    rootfs = place / "root"
    rmtree(place, ignore_errors=True)
    rootfs.mkdir(parents=True)
    bundle.path.mkdir(parents=True)
    for directory in (place, rootfs):
        directory.chmod(0o711)
    os.chown(rootfs, first_uid, first_uid)
    binary = f"{oci.OURS}/bin/catatonit"
    container = Container(
        name="trial",
        rootfs=rootfs,
        first_uid=first_uid,
        argv=[binary, "--", binary, "--version"],
        environment=oci.environment("trial"),
        binds=[Bind(common, oci.OURS, executable=True)],
        seccomp=filter_,
    )
    try:
        async with users_of(runtime.spawner, clock, first_uid, BLOCK) as users:
            _, keeper = await runtime.create(bundle, oci.config(container), place / "console", users)
        over: Deferred[int | None] = Deferred()
        child = runtime.spawner.adopt(keeper.pid, keeper.started, over.callback)
        await runtime.start(bundle)
        if child is not None:
            late = clock.callLater(TRIAL_S, child.kill, signal.SIGKILL)
            await over
            if late.active():
                late.cancel()
        code = read_ended(bundle).code
        if code != 0:
            with suppress(OSError):
                raise Failed(f"status {code}: {shortened((place / 'console').read_text('utf-8', 'replace'))}")
            raise Failed(f"status {code}")
    finally:
        with suppress(OSError):
            await runtime.delete(bundle)
        rmtree(place, ignore_errors=True)


async def version_of(spawner: Spawner, program: str) -> str:
    """
    @return: its own words: C{runc version 1.1.5}.
    """
    said = os.memfd_create("said")
    try:
        ended: Deferred[int | None] = Deferred()
        to_said = [(os.POSIX_SPAWN_DUP2, said, 1)]
        spawner.spawn([program, "--version"], environment={"PATH": PATH}, file_actions=to_said, ended=ended.callback)
        await ended
        first = os.pread(said, 4096, 0).decode("utf-8", "replace").partition("\n")[0].strip()
        return first or Path(program).name
    finally:
        os.close(said)


def _stamp(*paths: str) -> str:
    return " ".join(f"{path}:{Path(path).stat().st_mtime_ns}" for path in paths)
