"""
Whether guests can run under KVM here: found by running one. That C{/dev/kvm} is there says little: a machine that is
itself a guest may have it, and then hang.

The guest is a ROM of some bytes, which ends QEMU by a device made for that; what was found is noted until the host
restarts or QEMU changes, so that no daemon waits twice.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled
from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise.machine import CPU
from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Spawner

#: How long the guest may take; a real one takes some 50 ms.
LIMIT_S = 5.0
DEVICE = Path("/dev/kvm")
_ROM = 65536
#: By way of 16 bits to 64, as every kernel goes; some nested machines run a guest until there, and then hang::
#:
#:         cli; ds = 0; [0x1000] = 0x2003; [0x2000] = 0x3003; [0x3000] = 0x83   (tables of pages, one page of 2 MiB)
#:         cr4 = PAE; cr3 = 0x1000; EFER |= LME; lgdt; cr0 = PG | PE; ljmp 8:long
#:     long: ecx = 10000; do [0x4000] = ecx while --ecx; cpuid; out 0xf4, SAYS - 1 + byte [0x4000]; hlt
#:     gdt: 0, 0x00209a0000000000
_CODE = bytes.fromhex(
    "fa31c08ed866c70600100320000066c70600200330000066c70600308300000066b8200000000f22e066b8001000000f22d8"
    "66b9800000c00f32660d000100000f302e660f011690f066b8010000800f22c066ea5af00f000800b910270000890c250040"
    "0000e2f731c00fa28b0c2500400000b02a00c8fec866baf400eef490000000000000000000000000009a20000f0080f00f00"
)
#: What it writes to the device, and with what status QEMU ends then.
_SAYS = 0x2A
_STATUS = _SAYS << 1 | 1


@frozen
class Acceleration:
    """
    @ivar name: C{kvm} or C{tcg}.
    @ivar why: why not C{kvm}.
    """

    name: str
    why: str = ""


def rom() -> bytes:
    """
    @return: a BIOS. At the place where a processor begins it jumps to C{f000:f000}; see L{_CODE}.
    """
    found = bytearray(b"\x90" * _ROM)
    found[0xF000 : 0xF000 + len(_CODE)] = _CODE
    found[0xFFF0:0xFFF5] = b"\xea\x00\xf0\x00\xf0"
    return bytes(found)


def argv(program: str, file: str, accelerator: str) -> list[str]:
    """
    @param file: with L{rom}.
    """
    return [
        program, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
        "-accel", accelerator, "-cpu", CPU[accelerator], "-m", "16M", "-no-reboot", "-bios", file,
        "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
    ]  # fmt: skip


async def find_acceleration(
    program: str, run: Path, spawner: Spawner, clock: IReactorTime, *, device: Path = DEVICE
) -> Acceleration:
    """
    @param program: QEMU's path.
    @param run: of the driver, for the note; emptied when the host restarts.
    """
    if not device.exists():
        return Acceleration("tcg", f"there is no {device}")
    note = run / "acceleration"
    stamp = f"{program} {Path(program).stat().st_mtime_ns} {device.stat().st_ino} {device.stat().st_mode}"
    with suppress(OSError):
        noted, name, why = note.read_text("utf-8").split("\n")[:3]
        if noted == stamp and name in ("kvm", "tcg"):
            return Acceleration(name, why)
    why = await trial(program, run, spawner, clock, "kvm")
    found = Acceleration("tcg" if why else "kvm", why)
    with suppress(OSError):
        note.write_text(f"{stamp}\n{found.name}\n{found.why}\n", "utf-8")
    return found


async def trial(
    program: str, run: Path, spawner: Spawner, clock: IReactorTime, accelerator: str, limit_s: float = LIMIT_S
) -> str:
    """
    Run the guest.

    @return: why it does not run, in a line; empty if it does.
    """
    file = run / "trial.rom"
    file.write_bytes(rom())
    said = os.memfd_create("said")
    ended: Deferred[int | None] = Deferred()

    def over(code: int | None) -> None:
        with suppress(AlreadyCalled):  # one in the kernel's hands may end when nobody waits for it any more
            ended.callback(code)

    try:
        words = argv(program, str(file), accelerator)
        actions = [(os.POSIX_SPAWN_DUP2, said, 2)]
        child = spawner.spawn(words, environment={"PATH": PATH}, file_actions=actions, ended=over)
        late = clock.callLater(limit_s, over, -1)
        code = await ended
        if late.active():
            late.cancel()
        child.kill(signal.SIGKILL)
        if code == _STATUS:
            return ""
        if code == -1:
            return f"{accelerator} is there, but a guest does not come to its end in {limit_s:g} s"
        text = os.pread(said, 4096, 0).decode("utf-8", "replace").strip().splitlines()
        return text[0][:300] if text else f"a guest under {accelerator} ends with status {code}"
    except OSError as error:
        return str(error)
    finally:
        os.close(said)
        file.unlink(missing_ok=True)
