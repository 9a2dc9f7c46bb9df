"""
What QEMU is told of a guest: its arguments, as a pure function.

It runs in a bundle of its own (L{hostline.server.supervise.machine_bundle}), so all paths here are as seen in there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from hostline.server.supervise.readiness import BadRule, Rule

#: Where the guest's own directory with its sockets is, and where its image's files are.
STATE, IMAGE = "/state", "/image"
#: Sockets in it: two for QMP, ours and the operator's; the guest's agent.
QMP, OPERATORS, AGENT = "qmp", "operator", "agent"
AGENT_PORT = "org.qemu.guest_agent.0"
#: How many commands people may run in a guest at the same time, and the ports of each: C{hostline.out.3}.
TALKS, STREAMS = 8, ("in", "out", "err")
#: Bytes beyond the guest's memory that QEMU itself may come to use (docs/qemu.md says how that was measured): its own
#: code, devices, threads, and under TCG the translated code, of which it keeps at most L{_TRANSLATED_MIB}.
OVERHEAD = {"tcg": 176 << 20, "kvm": 96 << 20}
_TRANSLATED_MIB = 64
#: The processor that guests see.
CPU = {"tcg": "max", "kvm": "host"}
#: QEMU is not to have more processors than these.
_MOST_CPUS = 8
#: What a guest's own image may say of it, and what is so if it does not.
KINDS = ("q35", "microvm")
_LEAST = 64 << 20
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


class BadGuest(ValueError):
    """
    An image's C{guest.json} makes no sense; the message says why.
    """


@frozen
class Manner:
    """
    What an image says of the guests that begin with it.

    @ivar ready: C{agent}, C{console:REGEX}, C{tcp:PORT} or C{started}: when a guest is up.
    @ivar append: the kernel's command line.
    @ivar kind: one of L{KINDS}.
    @ivar least: bytes of memory without which it does not come up.
    """

    ready: str = "agent"
    append: str = "console=ttyS0 quiet panic=-1 no_timer_check"
    kind: str = "q35"
    least: int = _LEAST

    @classmethod
    def read(cls, body: object, direct: bool = True) -> Manner:
        """
        @param body: of C{guest.json}.
        @param direct: whether there is a kernel; if not, the machine's own BIOS begins its disk.
        @raise BadGuest: if it makes no sense.
        """
        if not isinstance(body, Mapping):
            raise BadGuest("want a dictionary in guest.json")
        new = cls()
        found = cls(
            body.get("ready", new.ready), body.get("append", new.append), body.get("machine", new.kind),
            body.get("memory_least", new.least),
        )  # fmt: skip
        if not isinstance(found.append, str) or "\0" in found.append or len(found.append) > 2000:
            raise BadGuest("append: want a kernel's command line")
        if found.kind not in KINDS:
            raise BadGuest(f"machine: want {' or '.join(KINDS)}, got {found.kind!r}")
        if not direct and found.kind == "microvm":
            raise BadGuest("machine: a microvm has no BIOS that begins a disk; want a kernel or q35")
        if type(found.least) is not int or not 0 <= found.least < 1 << 50:
            raise BadGuest(f"memory_least: want a number of bytes, got {found.least!r}")
        try:
            Rule.parse(found.ready if isinstance(found.ready, str) else repr(found.ready))
        except BadRule as error:
            raise BadGuest(f"ready: {error}") from error
        return found


@frozen
class Machine:
    """
    All that the arguments depend on.

    @ivar name: of the sliver.
    @ivar memory: bytes that the guest has.
    @ivar macs: of its network cards, in order; the tap of the first is C{tap0}.
    @ivar disk: the path of its disk; None if it has none.
    @ivar kernel: whether there is one, C{initrd}: whether there is one.
    @ivar image: where its kernel is, C{state}: where its sockets are to be.
    @ivar ram: the path of a file that is its memory, from which it goes on; empty: memory of its own.
    @ivar keeps: whether what it does to that file stays there.
    @ivar waits: it does not begin, but goes on from a state that it is told of.
    @ivar taps: whether its cards are joined to anything.
    """

    name: str
    guest: Manner
    program: str = "/usr/bin/qemu-system-x86_64"
    accelerator: str = "tcg"
    memory: int = 128 << 20
    cpus: int = 1
    macs: Sequence[str] = ()
    disk: str | None = None
    kernel: bool = True
    initrd: bool = True
    image: str = IMAGE
    state: str = STATE
    ram: str = ""
    keeps: bool = False
    waits: bool = False
    taps: bool = True


def memory(limit: int, accelerator: str) -> int:
    """
    @param limit: C{memory_max}, to which QEMU and all is held.
    @return: how much of it the guest may have, whole MiB; what is left is enough for QEMU.
    """
    return max(0, limit - OVERHEAD[accelerator]) >> 20 << 20


def cpus(rspec: Mapping[str, int], cores: int) -> int:
    """
    @param cores: of the host.
    @return: how many processors a guest sees: as many as its C{cpu_max} fills, one if it has none.
    """
    return min(max(1, -(-rspec.get("cpu_max", 0) // 1000)), cores, _MOST_CPUS)


def tap(number: int) -> str:
    """
    @return: what the tap of a network card is called in the bundle's network namespace.
    """
    return f"tap{number}"


def port(stream: str, number: int) -> str:
    """
    @return: the name of a port, as the guest sees it, and of its socket.
    """
    return f"hostline.{stream}.{number}"


def argv(machine: Machine) -> list[str]:
    """
    @return: QEMU and its arguments. The guest's first serial line is our standard streams.
    """
    small = machine.guest.kind == "microvm"
    bus, nic = ("device", "") if small else ("pci", ",romfile=")
    board = "microvm,isa-serial=on" if small else "q35,smm=off,hpet=off,vmport=off"
    tcg = machine.accelerator == "tcg"
    found = [
        machine.program, "-L", "/usr/share/qemu", "-name", f"guest={_quoted(machine.name)}", "-nodefaults",
        "-no-user-config", "-display", "none", "-sandbox", _SANDBOX, "-machine", board,
        "-accel", f"tcg,tb-size={_TRANSLATED_MIB}" if tcg else "kvm", "-cpu", CPU[machine.accelerator],
        "-m", f"{machine.memory >> 20}M", "-smp", str(machine.cpus),
        # A guest that restarts itself, or whose kernel panics, ends: its next boot is for us to begin.
        "-action", "reboot=shutdown,panic=exit-failure,shutdown=poweroff",
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
    ]  # fmt: skip
    if machine.ram:
        size = f"{machine.memory >> 20}M,share={'on' if machine.keeps else 'off'}"
        found += ["-object", f"memory-backend-file,id=ram,mem-path={machine.ram},size={size}"]
        found += ["-machine", "memory-backend=ram"]
    if machine.waits:
        found += ["-incoming", "defer"]
    if machine.kernel:
        found += ["-kernel", f"{machine.image}/kernel", "-append", machine.guest.append]
        found += ["-initrd", f"{machine.image}/initrd"] if machine.initrd else []
    for name in (QMP, OPERATORS):
        found += [*_socket(machine.state, name), "-mon", f"chardev={name},mode=control"]
    found += ["-device", f"virtio-serial-{bus},id=ports"]
    ports = [(AGENT, AGENT_PORT)]
    ports += [(port(stream, number),) * 2 for number in range(TALKS) for stream in STREAMS]
    for name, seen in ports:
        device = f"virtserialport,bus=ports.0,chardev={name},id={name},name={seen}"
        found += [*_socket(machine.state, name), "-device", device]
    found += ["-object", "rng-builtin,id=random", "-device", f"virtio-rng-{bus},rng=random"]
    if not small:
        found += ["-device", "pvpanic-pci"]
    for number, mac in enumerate(machine.macs):
        # Without vnet_hdr whole frames only come and go: what shapes and delays them counts them as they are.
        end = f"tap,id=net{number},ifname={tap(number)},script=no,downscript=no,vnet_hdr=off"
        found += ["-netdev", end if machine.taps else f"hubport,id=net{number},hubid={number}"]
        found += ["-device", f"virtio-net-{bus},netdev=net{number},mac={mac}{nic}"]
    if machine.disk is not None:
        # What the host has no room for is an error inside, and the guest goes on.
        told = "discard=unmap,werror=report,rerror=report"
        found += ["-drive", f"file={_quoted(machine.disk)},format=qcow2,if=none,id=disk,{told}"]
        found += ["-device", f"virtio-blk-{bus},drive=disk"]
    return found


def why_over(event: Mapping[str, Any]) -> str | None:
    """
    @param event: of QMP.
    @return: why the guest is over, in words for the user; None if it is not, or that needs no words.
    """
    data = event.get("data")
    reason = data.get("reason") if isinstance(data, Mapping) else None
    if event.get("event") == "GUEST_PANICKED":
        return "the guest's kernel panicked"
    if event.get("event") == "SHUTDOWN":
        return {
            "guest-reset": "the guest restarted itself, or its kernel panicked",
            "guest-panic": "the guest's kernel panicked",
        }.get(str(reason))
    return None


def _socket(state: str, name: str) -> list[str]:
    return ["-chardev", f"socket,id={name},path={state}/{name},server=on,wait=off"]


def _quoted(text: str) -> str:
    """
    @return: as a value among others: a comma in it is written twice.
    """
    return text.replace(",", ",,")
