"""
Whether slivers get mounts of their own, on hosts of several sorts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tests import needs

ROOT = Path(__file__).parents[2]

#: Asks, and tells which mounts are seen afterwards.
_PROGRAM = """
import asyncio, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from hostline.server.supervise.mounts import can_mount
from hostline.server.supervise.spawn import Spawner

async def ask(loop):
    return await Deferred.fromCoroutine(can_mount(Spawner(loop), Path("/run-of-ours"))).asFuture(loop)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
print(loop.run_until_complete(ask(loop)), "run-of-ours" in Path("/proc/self/mountinfo").read_text())
"""

#: Makes a root of its own in an empty directory, which is no mount point, and runs the program in it.
_SCRIPT = """
propagation=$1 base=$2; shift 2
mount --make-rprivate / 2>/dev/null # fails where this very test runs in a chroot
set -e
mount -t tmpfs hostline-test "$base"
mount --make-$propagation "$base"
root=$base/root
mkdir "$root" "$root/run-of-ours"
for path in /*; do
    if [ -L "$path" ]; then cp -P "$path" "$root$path"
    elif [ -d "$path" ]; then mkdir "$root$path"; mount --rbind "$path" "$root$path"
    fi
done
exec chroot "$root" "$@"
"""


@needs.needs_root
@needs.needs_tool("unshare", "chroot")
class ChrootTests(unittest.TestCase):
    """
    In a chroot whose root is no mount point, such as debootstrap makes.
    """

    def ask(self, propagation: str) -> str:
        """
        @param propagation: of the mount that the chroot is on.
        @return: whether a sliver can have mounts, and whether one of them is seen outside afterwards.
        """
        base = tempfile.mkdtemp(prefix="hl-")
        self.addCleanup(os.rmdir, base)
        inside = ["env", f"PYTHONPATH={ROOT / 'twistd_plugins'}", sys.executable, "-c", _PROGRAM]
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "unchanged", "sh", "-c", _SCRIPT, "sh", propagation, base, *inside],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            text=True,
            check=False,
        )
        subprocess.run(["umount", "--lazy", base], check=False, capture_output=True)  # if it was seen outside
        return done.stdout.strip()

    def test_onPrivateMount(self) -> None:
        """
        Slivers have /home and /tmp of their own.
        """
        self.assertEqual(self.ask("private"), "True False")

    def test_onSharedMount(self) -> None:
        """
        There a sliver's mounts would be seen by all, so it gets none; and nothing stays from finding out.
        """
        self.assertEqual(self.ask("shared"), "False False")
