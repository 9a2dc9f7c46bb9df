"""
What of a tar is unpacked, and what is read out of a build's log; without a file.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import NoSuchImage, WrongState
from hostline.server.records import Image, Project, Sliver
from hostline.server.supervise import unpack
from hostline.server.supervise.builders import Recipe, cause_of, step_of
from hostline.server.supervise.shelf import Shelf
from tests.daemons import make

KINDS = st.sampled_from(
    [
        tarfile.REGTYPE,
        tarfile.AREGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"Z",
    ]
)
NAMES = st.text("ab./\0\ud800\udc80\u00e9", max_size=12) | st.text(max_size=300)


def info(name: str, kind: bytes, link: str = "", uid: int = 0, gid: int = 0, size: int = 0) -> tarfile.TarInfo:
    """
    @return: a member of a tar.
    """
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.uid, made.gid, made.size = kind, link, uid, gid, size
    return made


class WhyNotTests(SynchronousTestCase):
    """
    Which members are refused.
    """

    @given(NAMES, KINDS, NAMES, st.integers(), st.integers(), st.integers())
    def test_whatIsTakenIsHarmless(self, name: str, kind: bytes, link: str, uid: int, gid: int, size: int) -> None:
        """
        What is taken has a name that leads down, can be written, and belongs to a uid that a container has.
        """
        said = unpack.why_not(info(name, kind, link, uid, gid, size))
        if said is not None:
            self.assertTrue(said)
            return
        for path in (name, link if kind == tarfile.LNKTYPE else ""):
            self.assertFalse(path.startswith("/"))
            self.assertNotIn("..", path.split("/"))
            self.assertNotIn(b"\0", os.fsencode(path))
        self.assertNotIn(kind, (tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"))
        self.assertTrue(0 <= uid < 65536 and 0 <= gid < 65536)

    @given(st.lists(st.text("abc.", min_size=1, max_size=5).filter(lambda one: one != ".."), min_size=1, max_size=4))
    def test_plainOnesAreTaken(self, parts: list[str]) -> None:
        """
        Files, directories and links with plain names are taken, wherever a symbolic link leads.
        """
        name = "/".join(parts)
        if not [one for one in parts if one != "."]:
            name += "/x"
        for kind, link in (
            (tarfile.REGTYPE, ""),
            (tarfile.DIRTYPE, ""),
            (tarfile.FIFOTYPE, ""),
            (tarfile.LNKTYPE, "a/b"),
            (tarfile.SYMTYPE, "/etc/passwd"),
            (tarfile.SYMTYPE, "../../x"),
        ):
            self.assertIsNone(unpack.why_not(info(name, kind, link)))


class TreeTests(SynchronousTestCase):
    """
    Unpacking, as whoever runs the tests.
    """

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.text("ab./", min_size=1, max_size=6),
                st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
                st.sampled_from(["a", "b", "a/b", "..", "../out", "../../out", ".", "a/../../out"]),
            ),
            max_size=8,
        )
    )
    def test_nothingOutside(self, members: list[tuple[str, bytes, str]]) -> None:
        """
        Whatever members come in whatever order, nothing is made or changed outside the tree; it is unpacked or refused.
        """
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for name, kind, link in members:
                one = info(name, kind, link, os.getuid(), os.getgid(), 1 if kind == tarfile.REGTYPE else 0)
                tar.addfile(one, io.BytesIO(b"x"))
        with tempfile.TemporaryDirectory() as place:
            tree = Path(place) / "tree"
            (Path(place) / "out").mkdir()
            tree.mkdir()
            root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
            unpacked = unpack.Tree(root, 1 << 20)
            try:
                unpacked.unpack(io.BytesIO(made.getvalue()), layer=True)
            except unpack.Refused:
                pass
            finally:
                unpacked.close()
                os.close(root)
            self.assertEqual(sorted(one.name for one in Path(place).iterdir()), ["out", "tree"])
            self.assertEqual(list((Path(place) / "out").iterdir()), [])

    @given(st.binary(max_size=3000))
    def test_garbage(self, content: bytes) -> None:
        """
        Garbage is refused, or holds nothing; it is never anything else that happens.
        """
        with tempfile.TemporaryDirectory() as place:
            root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            unpacked = unpack.Tree(root, 1 << 20)
            try:
                unpacked.unpack(io.BytesIO(content))
            except unpack.Refused as error:
                self.assertTrue(str(error))
            finally:
                unpacked.close()
                os.close(root)


class SaidTests(SynchronousTestCase):
    """
    What an OCI image says of itself.
    """

    def test_command(self) -> None:
        """
        A container runs the entry point with its words, where and with what the image says.
        """
        said = unpack.said_by({"Entrypoint": ["/a"], "Cmd": ["b", "c"], "Env": ["X=1=2", "Y"], "WorkingDir": "/w"})
        self.assertEqual(said, {"command": ["/a", "b", "c"], "environment": {"X": "1=2", "Y": ""}, "directory": "/w"})
        nothing = {"command": [], "environment": {}, "directory": "/"}
        self.assertEqual(unpack.said_by(None), nothing)
        self.assertEqual(unpack.said_by({"Entrypoint": None, "Cmd": None, "Env": None, "WorkingDir": ""}), nothing)

    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )

    @given(st.dictionaries(st.sampled_from(["Entrypoint", "Cmd", "Env", "WorkingDir", "User"]), json) | json)
    def test_anything(self, config: object) -> None:
        """
        Anything else than that is refused.
        """
        try:
            said = unpack.said_by(config)
        except unpack.Refused:
            return
        self.assertTrue(all(isinstance(one, str) for one in [*said["command"], said["directory"]]))
        self.assertTrue(all(isinstance(one, str) for pair in said["environment"].items() for one in pair))


class LogTests(SynchronousTestCase):
    """
    What a build says.
    """

    def test_steps(self) -> None:
        """
        What is being done, and how far it is, comes out of debootstrap's lines and our own; it never goes back.
        """
        lines = ["hostline: 0.01 looking for packages", "I: Retrieving InRelease"]
        lines += [f"I: Retrieving lib{n} 1.0" for n in range(80)]
        lines += [f"I: Extracting lib{n}..." for n in range(30)]
        lines += [f"I: Unpacking lib{n}..." for n in range(80)] + [f"I: Configuring lib{n}..." for n in range(80)]
        lines += ["hostline: 0.92 making the image"]
        seen = [step_of("\n".join(lines[: n + 1])) for n in range(len(lines))]
        numbers = [number or 0.0 for _, number in seen]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(seen[2], ("fetching lib0", 0.054))
        self.assertEqual((seen[0], seen[-1]), (("looking for packages", 0.01), ("making the image", 0.92)))

    @given(st.text(), st.text("hostline: IEW0.9\n", max_size=200))
    def test_anyLog(self, text: str, other: str) -> None:
        """
        Whatever a build says, there is a step of bounded length, and a number between 0 and 1.
        """
        for log in (text, other, "hostline: nan x", "hostline: inf x", "hostline: 7 x"):
            step, number = step_of(log)
            self.assertLessEqual(len(step), 100)
            self.assertTrue(number is not None and 0 <= number <= 1)
            self.assertLessEqual(len(cause_of(log)), 500)

    def test_cause(self) -> None:
        """
        The cause of a failure is the last error that was said, else the last line that is no progress.
        """
        said = "I: Retrieving x\nE: Couldn't find these debs: nosuch\nE: No such thing\nhostline: 0.9 x\n"
        self.assertEqual(cause_of(said), "No such thing")
        self.assertEqual(
            cause_of("mkfs.ext4: No space left on device\nW: x\nI: y\n"), "mkfs.ext4: No space left on device"
        )
        self.assertEqual(cause_of("I: y\n"), "")


class UsedTests(SynchronousTestCase):
    """
    Images and the slivers that are made from them, on a daemon without a disk.
    """

    def setUp(self) -> None:
        self.daemon = make()
        host = self.daemon.host
        change = host.change(1.0)
        image = change.put(Image(serial=change.serial(), name="tiny", sha256="0" * 64, size=1, created=1.0))
        change.put(Image(serial=change.serial(), name="other", sha256="0" * 64, size=1, created=1.0))
        for name, wanted in (("lab_web", "stopped"), ("lab_db", "absent")):
            serial = change.serial()
            change.put(
                Sliver(serial=serial, name=name, kind="container", image=image.serial, wanted=wanted, created=1.0)
            )
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        self.client = self.daemon.connect(0)

    def said(self, line: str) -> tuple[str, Any]:
        self.client.send(line + "\n")
        self.daemon.settle()
        reply = self.client.replies()[-1]
        return reply.word, reply.body

    def test_inUse(self) -> None:
        """
        An image that a sliver is made from stays, and the refusal names the sliver; others go.
        """
        word, body = self.said("image_remove tiny")
        self.assertEqual((word, body["code"]), ("error_reply", "WRONG_STATE"))
        self.assertIn("in use by lab_web", body["message"])
        self.assertEqual(self.said("image_remove other")[0], "image_remove_reply")
        self.assertEqual([one["name"] for one in self.said("images")[1]], ["tiny"])
        self.assertEqual(self.said("images")[1][0]["slivers"], 1)

    def test_lost(self) -> None:
        """
        An image whose files are gone says so, and no sliver can be made from it.
        """
        self.assertEqual(self.said("images")[1][0]["problems"], ["its files are gone from this host, or damaged"])
        images = self.daemon.daemon.images
        self.assertRaisesRegex(WrongState, "make it again", images.for_sliver, "other", "container")
        self.assertRaisesRegex(NoSuchImage, "did you mean tiny|tiny", images.for_sliver, "tinny", "container")

    def test_otherKind(self) -> None:
        """
        A machine is not made from an image of containers.
        """
        self.assertRaisesRegex(WrongState, "kind container", self.daemon.daemon.images.for_sliver, "other", "qemu")

    def test_ready(self) -> None:
        """
        A sign of being up that makes no sense, or could take for ever to look for, is refused before anything is made.
        """
        for words in (
            "kind=qemu ready=tcp:99999",
            "kind=qemu ready=soon",
            'kind=qemu ready="console:(a+)+$"',
            "kind=container ready=tcp:22",
        ):
            self.assertEqual(self.said(f"image_build vm base=busybox {words}")[1]["code"], "BAD_VALUE", words)

    def test_packages(self) -> None:
        """
        Nothing but names of packages becomes a word of a command line.
        """
        for packages in ("['-x']", "['a,b']", "['a b']", "['A']", "['']", "[7]", "['a;b']", "['a\\nb']", "x=y"):
            code = self.said(f"image_build deb packages={packages}")[1]["code"]
            self.assertEqual(code, "BAD_VALUE", packages)
        self.assertEqual(self.said("image_build deb base=busybox packages=['vim']")[1]["code"], "BAD_VALUE")


class _Shelf:
    """
    Makes nothing, and never ends.
    """

    async def build(self, serial: int, recipe: Recipe) -> None:
        await Deferred()

    async def remove(self, serial: int) -> None:
        pass

    def progress(self, serial: int) -> tuple[str, float | None]:
        return "unpacking", None

    def made(self, serial: int) -> None:
        return None


class BeginTests(SynchronousTestCase):
    """
    The moment in which an image is asked for.
    """

    def test_whileOthersChangeSomething(self) -> None:
        """
        An image is not given up because something else becomes durable just before it.
        """
        daemon = make()
        daemon.daemon.images.shelf = cast(Shelf, _Shelf())
        client = daemon.connect(0)
        client.send("image_build tiny base=busybox wait=0\n", settle=False)
        daemon.loop.turn()
        image, change = daemon.store.pending.pop(), daemon.host.change(1.0)
        change.put(Project(serial=change.serial(), name="lab"))
        daemon.daemon.commit(change)
        daemon.store.pending.append(image)
        daemon.settle()
        self.assertEqual([reply.word for reply in client.replies()], ["operation_reply"])
        client.send("images\n")
        daemon.settle()
        self.assertEqual([image["state"] for image in client.replies()[-1].body], ["building"])
