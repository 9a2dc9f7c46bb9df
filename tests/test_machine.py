"""
What QEMU is told of a guest.
"""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import machine
from hostline.server.supervise.machine import BadGuest, Machine, Manner, argv, cpus, memory, why_over

WEB = Machine(
    name="web.exp1.lab", guest=Manner(), macs=("02:00:00:00:00:01", "02:00:00:00:00:02"), disk="/d/disk.qcow2"
)


def values(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


class Arguments(SynchronousTestCase):
    """
    The arguments.
    """

    def test_giveNoRights(self) -> None:
        """
        QEMU starts no program and gets no privilege, whatever its guest makes of it.
        """
        self.assertEqual(
            values(argv(WEB), "-sandbox"), ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
        )

    def test_readNoConfiguration(self) -> None:
        """
        Nothing but what is said here is in a machine.
        """
        self.assertLessEqual({"-nodefaults", "-no-user-config"}, set(argv(WEB)))

    def test_haveTwoMonitors(self) -> None:
        """
        The daemon and an operator can talk to QEMU at the same time.
        """
        self.assertEqual(values(argv(WEB), "-mon"), ["chardev=qmp,mode=control", "chardev=operator,mode=control"])

    def test_giveEachCardItsTapAndAddress(self) -> None:
        """
        The n-th interface is the n-th card, with its own hardware address.
        """
        self.assertEqual(
            [one for one in values(argv(WEB), "-device") if one.startswith("virtio-net")],
            [
                f"virtio-net-pci,netdev=net{n},mac=02:00:00:00:00:0{n + 1},romfile="
                for n in range(2)
            ],
        )  # fmt: skip

    def test_haveNoCardWithoutNetwork(self) -> None:
        """
        A guest without interfaces has no card.
        """
        self.assertEqual(values(argv(evolve(WEB, macs=())), "-netdev"), [])

    def test_useNoBusOnMicrovm(self) -> None:
        """
        A microvm has no PCI, so nothing hangs on one.
        """
        words = argv(evolve(WEB, guest=Manner(kind="microvm")))
        self.assertEqual([one for one in values(words, "-device") if "pci" in one], [])

    def test_leaveOutTheKernelThatTheDiskHas(self) -> None:
        """
        Without a kernel of its own an image's disk is begun by the BIOS.
        """
        words = argv(evolve(WEB, kernel=False, initrd=False))
        self.assertEqual({"-kernel", "-initrd", "-append"} & set(words), set())

    @given(st.text(alphabet=st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
    def test_takeNoNameForAnOption(self, name: str) -> None:
        """
        No name and no path, whatever is in them, is read as further settings.
        """
        words = argv(evolve(WEB, name=name, disk=name))
        self.assertEqual(values(words, "-name"), ["guest=" + name.replace(",", ",,")])
        self.assertTrue(values(words, "-drive")[0].startswith("file=" + name.replace(",", ",,") + ",format=qcow2"))

    def test_boundTranslatedCode(self) -> None:
        """
        Under TCG what QEMU keeps of translated code is bounded, and so is its memory.
        """
        self.assertEqual(values(argv(WEB), "-accel"), ["tcg,tb-size=64"])
        self.assertEqual(values(argv(evolve(WEB, accelerator="kvm")), "-accel"), ["kvm"])


class Amounts(SynchronousTestCase):
    """
    Memory and processors.
    """

    @given(st.integers(0, 1 << 45), st.sampled_from(sorted(machine.OVERHEAD)))
    def test_leavesRoomForQemu(self, limit: int, accelerator: str) -> None:
        """
        The guest's memory and what QEMU needs never are more than the limit; and no whole MiB is wasted.
        """
        found = memory(limit, accelerator)
        self.assertEqual(found % (1 << 20), 0)
        if found:
            self.assertLessEqual(found + machine.OVERHEAD[accelerator], limit)
        self.assertLess(limit - machine.OVERHEAD[accelerator] - found, 1 << 20)

    def test_givesAsManyProcessorsAsItMayFill(self) -> None:
        """
        A guest sees one processor for each begun thousand of cpu_max, no more than the host has, at least one.
        """
        found = [cpus({"cpu_max": one}, 4) for one in (0, 1, 1000, 1001, 2500, 9000)]
        self.assertEqual((found, cpus({}, 4)), ([1, 1, 1, 2, 3, 4], 1))


class Images(SynchronousTestCase):
    """
    What an image says of its guests.
    """

    def test_isReadWhole(self) -> None:
        """
        All that it says is taken.
        """
        body = {"ready": "tcp:22", "append": "quiet", "machine": "microvm", "memory_least": 5}
        self.assertEqual(Manner.read(body), Manner("tcp:22", "quiet", "microvm", 5))

    def test_isRefusedWhereItMakesNoSense(self) -> None:
        """
        An image that asks for what is not there is not run.
        """
        bodies: list[object] = [
            [], {"ready": 1}, {"append": "a\0b"}, {"append": 5}, {"machine": "pc,accel=kvm"}, {"memory_least": -1},
            {"memory_least": True}, {"ready": "console:(a+)+"},
        ]  # fmt: skip
        for body in bodies:
            self.assertRaises(BadGuest, Manner.read, body)
        self.assertRaises(BadGuest, Manner.read, {"machine": "microvm"}, False)


class Ends(SynchronousTestCase):
    """
    What QEMU tells of an end.
    """

    def test_tellsPanics(self) -> None:
        """
        A panic and a restart of the guest's own are told; what was asked for is not.
        """
        told = {
            reason: why_over({"event": "SHUTDOWN", "data": {"guest": True, "reason": reason}})
            for reason in ("guest-panic", "guest-reset", "guest-shutdown", "host-signal")
        }
        self.assertEqual([one for one, why in told.items() if why], ["guest-panic", "guest-reset"])
        self.assertEqual(why_over({"event": "GUEST_PANICKED"}), "the guest's kernel panicked")

    @given(st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.dictionaries(st.text(), st.integers()))))
    def test_standsAnything(self, event: dict[str, object]) -> None:
        """
        Whatever comes as an event, it is judged or left alone.
        """
        self.assertIn(why_over(event | {"event": "SHUTDOWN"}), (None,))
