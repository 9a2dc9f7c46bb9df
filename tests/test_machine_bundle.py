"""
The cell that QEMU runs in.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.bundle import Bind
from hostline.server.supervise.machine_bundle import Cell, config, lay

CELL = Cell(
    name="web", rootfs=Path("/run/x/root"), uid=70000, argv=["/usr/bin/qemu", "-S"], binds=[Bind(Path("/a"), "/b")]
)


class Cells(SynchronousTestCase):
    """
    What the runtime is told.
    """

    def test_haveNoCapability(self) -> None:
        """
        QEMU is a user without any right, and can get none.
        """
        process = config(CELL)["process"]
        self.assertEqual([one for one in process["capabilities"].values() if one], [])
        self.assertEqual((process["user"], process["noNewPrivileges"]), ({"uid": 70000, "gid": 70000}, True))

    def test_letNothingBeOpenedButTaps(self) -> None:
        """
        Of the host's devices there is the one for taps, and KVM only where guests run under it.
        """
        for kvm, paths in ((False, ["/dev/net/tun"]), (True, ["/dev/net/tun", "/dev/kvm"])):
            linux = config(evolve(CELL, kvm=kvm))["linux"]
            self.assertEqual([one["path"] for one in linux["devices"]], paths)
            rules = linux["resources"]["devices"]
            self.assertEqual((rules[0]["allow"], len(rules)), (False, 1 + len(paths)))

    def test_cannotBeWrittenTo(self) -> None:
        """
        Its root is read-only, and so is what is seen of the host.
        """
        made = config(CELL)
        self.assertTrue(made["root"]["readonly"])
        self.assertIn("ro", next(one for one in made["mounts"] if one["destination"] == "/b")["options"])

    def test_showProgramsAsTheHostHasThem(self) -> None:
        """
        A directory that is a link on the host is a link in there, the others are shown.
        """
        host = Path(self.mktemp())
        (host / "usr/lib").mkdir(parents=True)
        (host / "etc").mkdir()
        (host / "etc/ld.so.cache").touch()
        (host / "lib").symlink_to("usr/lib")
        (host / "lib64").mkdir()
        root = host / "root"
        binds = lay(root, host)
        self.assertEqual([one.place for one in binds], ["/usr", "/lib64", "/etc/ld.so.cache"])
        self.assertEqual(str((root / "lib").readlink()), "usr/lib")
        self.assertFalse(any(one.writable for one in binds))
