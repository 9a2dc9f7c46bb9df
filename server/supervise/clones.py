"""
Guests that go on from a template instead of booting, and what they need for that.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise import machine
from hostline.server.supervise.machine import Machine
from hostline.server.supervise.qmp import Qmp

#: Where a clone finds the memory and the state: descriptors that QEMU is started with.
RAM, STATE = 3, 4
#: What QEMU is told before it leaves out of a state the memory that is in a file.
CAPABILITY = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}


def mac(number: int) -> str:
    """
    @return: what the card of this number has in every template, and a clone has until its seed is applied.
    """
    return f"02:1b:ff:ff:{number >> 8 & 255:02x}:{number & 255:02x}"


@frozen
class Template:
    """
    One that is whole.

    @ivar ram: descriptor of the memory; C{state}: of the devices' state.
    """

    ram: int
    state: int

    def like(self, told: Machine) -> Machine:
        """
        @return: a machine that goes on from this, if it is started with L{opened} and L{revive} is called.
        """
        return evolve(told, ram=f"/proc/self/fd/{RAM}", waits=True)

    def opened(self) -> list[int]:
        """
        @return: descriptors for a clone, C{RAM} and C{STATE} in this order; whoever asks closes them.
        @raise OSError: if there are no more descriptors.
        """
        ram = os.open(f"/proc/self/fd/{self.ram}", os.O_RDWR | os.O_CLOEXEC)
        try:
            return [ram, os.open(f"/proc/self/fd/{self.state}", os.O_RDONLY | os.O_CLOEXEC)]
        except OSError:
            os.close(ram)
            raise

    def close(self) -> None:
        """
        Let go of it; its clones go on.
        """
        os.close(self.ram)
        os.close(self.state)


async def revive(qmp: Qmp, clock: IReactorTime, limit_s: float = 20.0) -> None:
    """
    Have a guest go on if it is a clone that waits for that, else do nothing; may be repeated after a crash in between.

    @raise OSError: if it cannot.
    """
    until = clock.seconds() + limit_s
    if (await _status(qmp)) != "inmigrate":
        return
    with suppress(OSError):  # said before
        await qmp.execute("migrate-set-capabilities", CAPABILITY)
        await qmp.execute("migrate-incoming", {"uri": f"fd:{STATE}"})
    pause = 0.002
    while (await _status(qmp)) == "inmigrate":
        if clock.seconds() > until:
            raise TimeoutError("the template's state is not read")
        await deferLater(clock, pause)
        pause = min(pause * 1.5, 0.1)


async def _status(qmp: Qmp) -> str:
    said = await qmp.execute("query-status")
    return str(said.get("status")) if isinstance(said, dict) else ""


def like(told: Machine) -> Machine:
    """
    @return: the machine that all are like from which this one differs by name and addresses only.
    """
    cards = [mac(number) for number in range(len(told.macs))]
    return evolve(told, name="template", macs=cards, image=".", state=".", taps=False)


def key_of(pattern: Machine, image: Path) -> str:
    """
    @return: what is another for another QEMU, command line or image.
    @raise OSError: if QEMU or the image is not there.
    """
    digest = hashlib.sha256()
    for file in (Path(pattern.program), image / "kernel", image / "initrd"):
        about = file.stat()
        digest.update(f"{file} {about.st_ino} {about.st_size} {about.st_mtime_ns}\0".encode())
    for word in machine.argv(pattern):
        digest.update(word.encode() + b"\0")
    return digest.hexdigest()
