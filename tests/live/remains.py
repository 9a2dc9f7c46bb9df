"""
What a daemon's slivers are on a machine, found without asking it: by tag, by uid, by the paths of its state; and the
removal of all of it, for tests that failed half-way.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from attrs import frozen

from hostline.server.network import fabric
from hostline.server.supervise import syscalls
from hostline.server.supervise.means import clear, mounts_below
from tests.live.support import DEADLINE_S, living, working_in

_GROUP = re.compile("[a-z][0-9]+")
#: Below the state directory: where each sliver has something of its own, while it is there.
_PLACES = (
    "slivers", "slivers/.trash", "embedded", "embedded/.trash", "run/embedded/slivers", "accounts",
    "accounts/.trash", "containers", "roots", "roots/.trash",
    "network/addresses", "run/slivers", "run/accounts/slivers", "run/containers/bundles", "run/containers/state-*",
    "machines", "machines/.trash", "run/machines/bundles", "run/machines/state-*", "run/links", "snapshots",
    "run/doors", "delegates/[0-9]*",
)  # fmt: skip
#: What removes what L{Remains.accounts} finds, in that order.
_REMOVE = {"account": ("userdel", "--force"), "group": ("groupdel",), "shell": ("remove-shell",)}


@frozen
class Remains:
    """
    @ivar state: the state directory; C{instance}: what the daemon on it calls itself.
    @ivar uids: of slivers, and C{blocks}: those of containers; C{delegates}: those of delegates' accounts.
    """

    state: Path
    instance: str
    uids: range
    blocks: range
    delegates: range

    def processes(self) -> set[int]:
        """
        @return: every living process of a sliver or a link: by its tag, by its uid; and what keeps containers, by its
            arguments.
        """
        tag = tuple(f"{name}={self.instance}/".encode() for name in ("HOSTLINE_SLIVER", "HOSTLINE_LINK"))
        path = os.fsencode(self.state)
        found = set()
        for one in Path("/proc").iterdir():
            if not one.name.isdigit():
                continue
            try:
                uid = one.stat().st_uid
                tagged = any(word.startswith(tag) for word in (one / "environ").read_bytes().split(b"\0"))
                argv = (one / "cmdline").read_bytes()
            except OSError:
                continue
            keeps = argv.split(b"\0")[0].endswith((b"conmon", b"runc", b"crun")) and path in argv
            of_ours = any(uid in uids for uids in (self.uids, self.blocks, self.delegates))
            if (tagged or keeps or of_ours) and living(int(one.name)):
                found.add(int(one.name))
        return found

    def filters(self) -> int:
        """
        @return: how many living processes delay or lose what is on links.
        """
        tag = f"HOSTLINE_LINK={self.instance}/".encode()
        found = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                found += any(word.startswith(tag) for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
        return found

    def makers(self) -> set[int]:
        """
        @return: every living process of what makes templates of machines, by where it is; none needs to end while the
            daemon runs.
        """
        place, found = f"{self.state}/templates/", set()
        for one in Path("/proc").iterdir():
            if not one.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = (one / "cmdline").read_bytes().split(b"\0")
                told = any(word.startswith(place.encode()) for word in words) and b"hostline-template" in words
                if (told or str((one / "cwd").readlink()).startswith(place)) and living(int(one.name)):
                    found.add(int(one.name))
        return found

    def accounts(self) -> list[str]:
        """
        @return: what there is in the host's files of accounts that bear our tag or have a uid of a delegate, and of
            shells of ours.
        """
        found = []
        for line in Path("/etc/passwd").read_text("utf-8", "replace").splitlines():
            words = line.split(":")
            if words[4].startswith(f"hostline {self.instance}/") or int(words[2]) in self.delegates:
                found.append(f"account {words[0]}")
        for line in Path("/etc/group").read_text("utf-8", "replace").splitlines():
            words = line.split(":")
            if int(words[2]) in self.delegates:
                found.append(f"group {words[0]}")
        shells = Path("/etc/shells").read_text("utf-8", "replace").splitlines()
        return found + [f"shell {line}" for line in shells if line.startswith(f"{self.state}/")]

    def cgroups(self) -> list[Path]:
        """
        @return: all control groups made for this state, in every hierarchy, the outer ones first.
        """
        name = f"hostline-{self.instance[:12]}"
        walked = (Path(top) for top, _, _ in os.walk("/sys/fs/cgroup"))
        return [path for path in walked if name in path.parts]

    def groups(self) -> list[Path]:
        """
        @return: those of slivers.
        """
        return [path for path in self.cgroups() if _GROUP.fullmatch(path.name)]

    def interfaces(self) -> list[str]:
        """
        @return: the host's interfaces that bear our tag.
        """
        links = json.loads(_said("ip", "-j", "link", "show") or "[]")
        tags = f"hostline {self.instance}/", f"hostline-links {self.instance} "
        start = fabric.Names(self.instance).start
        return [
            link["ifname"]
            for link in links
            if link.get("ifalias", "").startswith(tags) or link["ifname"].startswith(start)
        ]

    def tables(self) -> list[str]:
        """
        @return: the nftables tables that are named after us, with their families.
        """
        lines = _said("nft", "list", "tables").splitlines()
        names = tuple(f" hostline_{links}{self.instance[:8]}" for links in ("", "links_"))
        return [line.removeprefix("table ") for line in lines if line.endswith(names)]

    def mounts(self) -> list[Path]:
        """
        @return: what is mounted for slivers; images may stay mounted while there are none.
        """
        images = self.state / "images"
        return [path for path in mounts_below(self.state) if images not in (path, *path.parents)]

    def files(self) -> list[Path]:
        """
        @return: what is in the directories where each sliver has something of its own.
        """
        found = (one for pattern in _PLACES for place in self.state.glob(pattern) for one in place.iterdir())
        return [one for one in found if one.name != ".trash"]

    def in_words(self) -> list[str]:
        """
        @return: all that is still there of slivers.
        """
        words = []
        for pid in sorted(self.processes()):
            with contextlib.suppress(OSError):
                said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                words.append(f"process {pid}: {said}")
        words += self.accounts()
        words += [f"cgroup {path}" for path in self.groups()]
        words += [f"file {path}" for path in self.files()]
        words += [f"mount {path}" for path in self.mounts()]
        words += [f"loop {path}" for path in syscalls.loops(self.state / "roots")]
        words += [f"interface {name}" for name in self.interfaces()]
        words += [f"table {name}" for name in self.tables()]
        return words

    def remove(self) -> None:
        """
        End and remove all of it but files, whether it was of a sliver or of all.
        """
        deadline = time.monotonic() + DEADLINE_S
        while (left := {*self.processes(), *working_in(self.state)}) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        if os.geteuid() == 0:
            for kind, name in (one.split(" ", 1) for one in self.accounts()):
                _said(*_REMOVE[kind], name)
            clear(self.state)
            for device in syscalls.loops(self.state).values():
                _said("losetup", "--detach", device)
            for name in self.interfaces():
                _said("ip", "link", "delete", "dev", name)
            for table in self.tables():
                _said("nft", "delete", "table", *table.split())
        for path in reversed(self.cgroups()):
            with contextlib.suppress(OSError):
                path.rmdir()


def _said(*argv: str) -> str:
    """
    @return: the output of a program; empty if it is not there.
    """
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=DEADLINE_S).stdout
    return ""
