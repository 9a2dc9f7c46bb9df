"""
A disk copied while the real QEMU has it, and writes to it; without a guest, which takes minutes to have a disk.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import unittest
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from hostline.server.supervise import backup
from hostline.server.supervise.qmp import Qmp
from hostline.server.supervise.within import joined
from tests import needs
from tests.live import support


@needs.needs_tool("qemu-system-x86_64", "qemu-img", "qemu-io")
class BackupTests(unittest.TestCase):
    """
    A machine with a disk over another one, of which nothing begins.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.clock = support.LoopClock(self.loop)
        self.place = support.temporary_directory().resolve()
        self.addCleanup(support.remove_directory, self.place)
        self.base, self.disk, self.target = (self.place / f"{one}.qcow2" for one in ("base", "disk", "target"))
        self.create(self.base, "64M")
        self.io(self.base, "write -P 1 0 8M")
        self.create(self.disk, "-F", "qcow2", "-b", str(self.base), "96M")
        self.io(self.disk, "write -P 2 1M 1M", "write -z 4M 1M", "write -P 3 70M 1M")
        words = [
            "qemu-system-x86_64",
            "-M",
            "q35",
            "-nodefaults",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-m",
            "32",
        ]
        words += ["-chardev", f"socket,id=qmp,path={self.place}/qmp,server=on,wait=off", "-mon", "qmp,mode=control"]
        words += ["-drive", f"file={self.disk},format=qcow2,if=none,id=disk,discard=unmap"]
        self.process = subprocess.Popen([*words, "-device", "virtio-blk-pci,drive=disk"])
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        support.until(self.loop, self.listens)
        self.qmp = self.joined()
        # Before, QEMU does not let go of what it is lent.
        support.until(self.loop, lambda: self.go(self.qmp.execute("query-status"))["running"])

    def listens(self) -> bool:
        try:
            joined(self.place, "qmp").close()
        except OSError:
            return False
        return True

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return support.run(self.loop, coroutine, 60)

    def joined(self) -> Qmp:
        qmp = Qmp(self.loop, lambda event: None, lambda: None)
        self.go(qmp.join(self.place, "qmp"))
        self.addCleanup(support.idle, self.loop, 0.05)
        self.addCleanup(qmp.close)
        return qmp

    def create(self, disk: Path, *words: str) -> None:
        """A disk."""
        name, *rest = words[::-1]
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", *rest[::-1], str(disk), name], check=True, timeout=60
        )

    def io(self, disk: Path, *orders: str) -> None:
        """Read and write; what is read must be what is said."""
        words = [word for one in orders for word in ("-c", one)]
        done = subprocess.run(
            ["qemu-io", "-f", "qcow2", *words, str(disk)], capture_output=True, check=True, timeout=60
        )
        self.assertNotIn(b"failed", done.stdout)

    def opened(self) -> int:
        """An empty disk for the copy."""
        self.target.unlink(missing_ok=True)
        self.create(self.target, str(self.go(backup.size(self.qmp))))
        fd = os.open(self.target, os.O_RDWR | os.O_CLOEXEC)
        self.addCleanup(os.close, fd)
        return fd

    def copy(self, most: int = 1 << 30, then: str = "") -> None:
        """Copy it; C{then}: what is written to the disk as soon as the guest goes on."""
        self.go(backup.copy(self.qmp, _Rests(self.qmp, then), self.clock, self.opened(), self.base, most))

    def test_isWhatItWas(self) -> None:
        """
        The copy has what was changed, zeros over what lies below too, and nothing of what was written after that
        moment; with what lies below it is the whole disk. It can be made again, and nothing is left in QEMU.
        """
        for _ in range(2):
            self.copy(then="write -P 9 1M 512k")
            said = subprocess.run(["qemu-img", "info", "-U", str(self.target)], capture_output=True, check=True).stdout
            self.assertNotIn(b"backing", said)
            whole = self.place / "whole.qcow2"
            options = f"driver=qcow2,file.driver=file,file.filename={self.target},backing.driver=qcow2"
            options += f",backing.file.driver=file,backing.file.filename={self.base}"
            words = ["qemu-img", "convert", "-O", "qcow2", "--image-opts", options, str(whole)]
            subprocess.run(words, check=True, timeout=60)
            self.io(
                whole, "read -P 1 0 1M", "read -P 1 2M 2M", "read -P 0 4M 1M", "read -P 1 5M 3M", "read -P 3 70M 1M"
            )
            self.io(whole, "read -P 0 71M 25M", "read -P 2 1536k 512k")
            names = [one.get("node-name") for one in self.go(self.qmp.execute("query-named-block-nodes"))]
            self.assertNotIn(backup.NAME, names)
            self.assertEqual(self.go(self.qmp.execute("query-fdsets")), [])

    def test_whoDiedInBetween(self) -> None:
        """
        What one began who is no more, the next one ends; then there is room for another copy.
        """
        fd = self.opened()
        file = {"driver": "file", "filename": self.go(self.qmp.lend(fd))}
        node = {"node-name": backup.NAME, "driver": "qcow2", "file": file, "backing": None}
        self.go(self.qmp.execute("blockdev-add", node))
        slow = {"job-id": backup.NAME, "device": "disk", "target": backup.NAME, "sync": "full", "speed": 65536}
        self.go(self.qmp.execute("blockdev-backup", {**slow, "auto-dismiss": False}))
        self.qmp.close()
        self.qmp = self.joined()
        self.go(backup.abandon(self.qmp, self.clock))
        self.copy()

    def test_tooMuch(self) -> None:
        """
        A copy that gets bigger than it may is ended.
        """
        with self.assertRaisesRegex(OSError, "more than 4096 bytes"):
            self.go(backup.copy(_Slow(self.qmp), _Rests(self.qmp, ""), self.clock, self.opened(), self.base, 4096))
        self.assertEqual(self.go(self.qmp.execute("query-jobs")), [])


class _Rests:
    """
    An agent of a guest that rests as it is told, and writes when it goes on.
    """

    def __init__(self, qmp: Qmp, then: str) -> None:
        self._qmp = qmp
        self._then = then

    async def alone(self, ask: Any) -> Any:
        return await ask(self.call)

    async def call(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0) -> Any:
        if command == "guest-fsfreeze-thaw" and self._then:
            order = f'qemu-io disk "{self._then}"'
            await self._qmp.execute("human-monitor-command", {"command-line": order})
        return {"guest-fsfreeze-freeze": 1, "guest-fsfreeze-status": "frozen"}.get(command, {"pid": 5})


class _Slow:
    """
    QEMU, which copies slowly.
    """

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp
        self.lend, self.reclaim = qmp.lend, qmp.reclaim

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        slow = {"speed": 65536} if command == "blockdev-backup" else {}
        return await self._qmp.execute(command, {**arguments, **slow} if arguments is not None else None)
