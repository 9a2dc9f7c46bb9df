"""
What is done inside a QEMU guest, by its agent: commands, files, its end, and the seed (L{Seed}) that makes it its node.

The guest needs no program of ours. What it runs is sent with each call and fits this daemon; it needs C{qemu-ga},
C{sh}, C{ip}, C{base64} and C{date}. What the guest says is bounded, and believed of itself only.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise.agent import Agent, AgentRefused, plain
from hostline.server.supervise.seed import Seed

#: Where a guest keeps its logs.
LOGS = "/var/log/hostline"
_APPLY, _SAID, _STOP = (
    Path(__file__).with_name("inguest").joinpath(f"{name}.sh").read_text("ascii") for name in ("apply", "said", "stop")
)
#: Seconds between two looks whether a command has ended: the first, and how far they grow.
_SOON_S, _LATE_S = 0.005, 0.25
_CHUNK = 48 << 10
_GONE = "No such file or directory"


@frozen
class Ran:
    """
    How a command in a guest ended.

    @ivar code: its exit status, 128+signal if killed.
    @ivar cut: not all it wrote is here.
    """

    code: int
    out: bytes = b""
    err: bytes = b""
    cut: bool = False


@frozen
class Said:
    """
    What is known of a boot inside a guest; see L{hostline.server.supervise.said.Said}.

    @ivar begun: all has been begun, and what was to be installed before is there.
    @ivar failure: why it is not; else empty.
    """

    started: bool = False
    ended: int | None = None
    initscript: str = "none"
    initscript_code: int | None = None
    begun: bool = False
    failure: str = ""


class Guest:
    """
    One guest, seen through its agent.
    """

    def __init__(self, agent: Agent, clock: IReactorTime) -> None:
        self.agent = agent
        self._clock = clock

    async def ready(self, limit_s: float) -> None:
        """
        Wait until the agent answers.

        @raise OSError: if it does not within C{limit_s}.
        """
        until = self._clock.seconds() + limit_s
        while True:
            left = until - self._clock.seconds()
            try:
                # What is written before the guest is up waits in QEMU: few connections, and an answer at once.
                await self.agent.call("guest-ping", timeout_s=max(left, 0.01))
                return
            except AgentRefused:
                raise
            except OSError:
                if until - self._clock.seconds() <= 0.25:
                    raise
                await deferLater(self._clock, 0.05)

    async def apply(self, seed: Seed, limit_s: float = 30.0) -> list[str]:
        """
        Make the guest the node that it is to be, and begin its start command unless this boot has begun it already.

        @return: what could not be done, in the guest's words.
        @raise OSError: if the guest did not come to an end with it.
        """
        script = _APPLY.encode("ascii") + seed.text()
        ran = await self.run(["/bin/sh", "-s", str(seed.boots)], input=script, limit_s=limit_s)
        lines = [plain(one) for one in ran.out.decode("utf-8", "replace").splitlines()]
        if "applied" not in lines:
            why = plain(ran.err.decode("utf-8", "replace").strip().rpartition("\n")[2])
            raise OSError(f"the guest was not set up: {why or f'exit status {ran.code}'}")
        return [one.removeprefix("problem: ") for one in lines if one.startswith("problem: ")][:50]

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        environment: Mapping[str, str] | None = None,
        limit_s: float = 30.0,
        most_bytes: int = 1 << 20,
    ) -> Ran:
        """
        Run a command as the guest's root, to its end. It must not leave anything behind that holds its output.

        @param argv: the first is its path.
        @param most_bytes: of its outputs together, as far as they are carried here.
        @raise OSError: if it cannot be started, or does not end in time (it goes on then).
        """
        until = self._clock.seconds() + limit_s
        arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if input:
            arguments["input-data"] = b64encode(input).decode("ascii")
        if environment:
            arguments["env"] = [f"{name}={value}" for name, value in environment.items()]
        said = await self.agent.call("guest-exec", arguments, timeout_s=limit_s)
        pid = said.get("pid") if isinstance(said, dict) else None
        if type(pid) is not int:
            raise OSError("the guest's agent started nothing")
        pause = _SOON_S
        while True:
            said = await self.agent.call(
                "guest-exec-status",
                {"pid": pid},
                timeout_s=max(until - self._clock.seconds(), 0.1),
                most_bytes=most_bytes * 4 // 3 + 4096,
            )
            if not isinstance(said, dict):
                raise OSError("the guest's agent does not know how it ended")
            if said.get("exited") is True:
                return _ran(said)
            if self._clock.seconds() + pause >= until:
                raise TimeoutError(f"{argv[0]} in the guest did not end in {limit_s:g} s")
            await deferLater(self._clock, pause)
            pause = min(pause * 1.5, _LATE_S)

    async def begin(self, argv: Sequence[str]) -> None:
        """
        Start a command as the guest's root, and not wait for it; its output goes nowhere.

        @raise OSError: if it cannot be started.
        """
        await self.agent.call("guest-exec", {"path": argv[0], "arg": list(argv[1:])})

    async def read(self, path: str, most: int, offset: int = 0) -> tuple[bytes, int]:
        """
        @param offset: where to begin; from the end if negative. Where the file is shorter, at its beginning.
        @param most: bytes at most.
        @return: what is there, and the offset of its first byte.
        @raise FileNotFoundError: if there is no such file.
        @raise OSError: if it cannot be read.
        """
        handle = await self._opened(path, "r")
        try:
            end = await self._seek(handle, 0, "end")
            start = max(end + offset, 0) if offset < 0 else (offset if offset <= end else 0)
            await self._seek(handle, start, "set")
            parts = []
            left = min(most, max(end - start, 0))
            while left > 0:
                said = await self.agent.call(
                    "guest-file-read", {"handle": handle, "count": min(left, _CHUNK)}, most_bytes=2 * _CHUNK
                )
                data = _decoded(said.get("buf-b64") if isinstance(said, dict) else None)[:left]
                if not data:
                    break
                parts.append(data)
                left -= len(data)
            return b"".join(parts), start
        finally:
            await self._shut(handle)

    async def write(self, path: str, data: bytes) -> None:
        """
        Write a file anew.

        @raise OSError: if that cannot be done.
        """
        handle = await self._opened(path, "w")
        try:
            for at in range(0, len(data), _CHUNK):
                part = data[at : at + _CHUNK]
                while part:
                    said = await self.agent.call(
                        "guest-file-write", {"handle": handle, "buf-b64": b64encode(part).decode("ascii")}
                    )
                    count = said.get("count") if isinstance(said, dict) else None
                    if type(count) is not int or not 0 < count <= len(part):
                        raise OSError(f"{path} in the guest is not written")
                    part = part[count:]
        finally:
            await self._shut(handle)

    async def said(self) -> Said:
        """
        @return: how far the start command and the initscript of this boot are.
        @raise OSError: if the guest does not tell.
        """
        ran = await self.run(["/bin/sh", "-c", _SAID], limit_s=10, most_bytes=4096)
        return said_in(ran.out)

    async def shutdown(self, limit_s: float = 0.0) -> None:
        """
        Let the guest go down; that it did, QEMU tells by its end.

        @param limit_s: for its initscript with C{stop}, before.
        @raise OSError: if it cannot be told.
        """
        if limit_s > 0:
            try:
                await self.run(["/bin/sh", "-c", _STOP, "hostline", str(int(limit_s))], limit_s=limit_s + 2)
            except AgentRefused:
                pass  # it goes down without
        await self.agent.tell("guest-shutdown", {"mode": "powerdown"})

    def close(self) -> None:
        """
        Leave it.
        """
        self.agent.close()

    async def _opened(self, path: str, mode: str) -> int:
        try:
            handle = await self.agent.call("guest-file-open", {"path": path, "mode": mode})
        except AgentRefused as error:
            if _GONE in str(error):
                raise FileNotFoundError(f"there is no {path} in the guest") from error
            raise
        if type(handle) is not int:
            raise OSError(f"{path} in the guest is not opened")
        return handle

    async def _seek(self, handle: int, offset: int, whence: str) -> int:
        said = await self.agent.call("guest-file-seek", {"handle": handle, "offset": offset, "whence": whence})
        position = said.get("position") if isinstance(said, dict) else None
        if type(position) is not int or position < 0:
            raise OSError("the guest's agent does not know where it is in a file")
        return position

    async def _shut(self, handle: int) -> None:
        try:
            await self.agent.call("guest-file-close", {"handle": handle})
        except OSError:
            pass  # it is gone, with all that it had open


def said_in(text: bytes) -> Said:
    """
    @param text: what C{said.sh} wrote: a line for each file there is, its name and its content.
    """
    found: dict[str, list[str]] = {}
    for line in text[:4096].decode("ascii", "replace").splitlines():
        name, *words = line.split() or [""]
        found[name] = words if name == "failure" else words[:2]
    script = found.get("initscript.said", [])
    state = script[0] if script and script[0] in ("running", "ended") else "none"
    return Said(
        "started" in found,
        _code(found["ended"]) if found.get("ended") else None,
        state,
        _code(script[1:]) if state == "ended" else None,
        begun="begun" in found,
        failure=plain(" ".join(found.get("failure", ()))),
    )


def _code(words: Sequence[str]) -> int:
    # One that makes no sense is a failure that nobody knows more of.
    number = words[0] if words else ""
    return int(number) if number.isascii() and number.isdigit() and len(number) < 4 and int(number) < 256 else 255


def _ran(said: Mapping[str, Any]) -> Ran:
    code, signal = said.get("exitcode"), said.get("signal")
    if type(signal) is int and 0 < signal < 128:
        code = 128 + signal
    if type(code) is not int or not 0 <= code <= 255:
        code = 255
    cut = any(said.get(name) is True for name in ("out-truncated", "err-truncated"))
    return Ran(code, _decoded(said.get("out-data", "")), _decoded(said.get("err-data", "")), cut)


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise OSError("the guest's agent answered what is no data")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise OSError("the guest's agent answered what is no data") from error
