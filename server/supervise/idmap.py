"""
User namespaces without anybody in them: only the kernel's table of which uids are shown as which.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise.running import program
from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Spawner

#: Seconds that the making of a namespace may take, and between two looks.
_LIMIT_S, _STEP_S = 10.0, 0.001


class NoNamespace(OSError):
    """
    The kernel makes no such user namespace.
    """


@asynccontextmanager
async def user_namespace(
    spawner: Spawner, clock: IReactorTime, first: int, size: int, owner: int | None = None
) -> AsyncIterator[int]:
    """
    A user namespace in which uid and gid 0 are C{first} outside, and so on.

    A child holds it for as long as it takes to open it; should we die meanwhile, the child sees its input end.

    @param owner: the uid, and gid, whose it is: the kernel counts against that one too what is used up inside (inotify,
        message queues, queued signals); None: us.
    @return: its descriptor, closed at the end.
    @raise NoNamespace: if the kernel makes none.
    """
    ended: Deferred[int | None] = Deferred()
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    fd = -1
    try:
        who = [] if owner is None else ["--reuid", str(owner), "--regid", str(owner), "--clear-groups", "--"]
        become = [program("setpriv"), *who] if who else []
        argv = [*become, program("unshare"), "-U", program("cat")]
        child = spawner.spawn(
            argv,
            environment={"PATH": PATH},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)],
            ended=ended.callback,
        )
        os.close(theirs)
        theirs = -1
        until = clock.seconds() + _LIMIT_S
        own = os.stat("/proc/self/ns/user").st_ino  # noqa: PTH116
        while _namespace(child.pid) in (own, None):
            if ended.called or clock.seconds() > until:
                raise NoNamespace("this kernel makes no user namespace")
            await deferLater(clock, _STEP_S)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child.pid}/{name}").write_text(f"0 {first} {size}\n")
        fd = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        os.close(ours)  # the child ends; the descriptor holds the namespace
        ours = -1
        yield fd
    finally:
        for one in (theirs, ours, fd):
            if one >= 0:
                os.close(one)


@asynccontextmanager
async def users_of(spawner: Spawner, clock: IReactorTime, first: int, size: int) -> AsyncIterator[int | None]:
    """
    The user namespace for a container: its own root's. In one of ours what the kernel counts by user is counted against
    us, and runs out for all.

    @return: as L{user_namespace}; None where only root may make any.
    """
    async with AsyncExitStack() as stack:
        found = None
        with suppress(NoNamespace):
            found = await stack.enter_async_context(user_namespace(spawner, clock, first, size, owner=first))
        yield found


def _namespace(pid: int) -> int | None:
    with suppress(OSError):  # it has ended already
        return os.stat(f"/proc/{pid}/ns/user").st_ino  # noqa: PTH116
    return None
