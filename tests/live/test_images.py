"""
Making images, and what becomes of tars that were made to do harm.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import unittest
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from hostline.server.supervise.builders import Recipe, builders
from hostline.server.supervise.shelf import Made
from tests import needs
from tests.live.hosted import ENVIRONMENT, Hosted, until
from tests.scale import SOAK, scaled
from tests.shelves import BUSYBOX, Shelved

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **more: object) -> Member:
    """
    @return: what a tar is made of.
    """
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    info.mode = 0o755
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def tar_of(*members: Member) -> bytes:
    """
    @return: a tar, with what no tar program would put in.
    """
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def layout(*layers: bytes, config: Mapping[str, object] | None = None, changed: bytes = b"") -> bytes:
    """
    @param changed: put behind the first layer, whose digest stays as it was.
    @return: an OCI image layout in a tar.
    """
    blobs: dict[str, bytes] = {}

    def kept(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    tars = [kept(gzip.compress(one), "layer.v1.tar+gzip") for one in layers]
    if changed:
        blobs[str(tars[0]["digest"])[7:]] += changed
    about = kept(
        json.dumps({"architecture": "amd64", "os": "linux", "config": config or {}}).encode(), "config.v1+json"
    )
    manifest = kept(json.dumps({"schemaVersion": 2, "config": about, "layers": tars}).encode(), "manifest.v1+json")
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode(),
        **{f"blobs/sha256/{digest}": content for digest, content in blobs.items()},
    }
    return tar_of(*(member(name, content=content) for name, content in files.items()))


class Making(Shelved):
    """
    What the tests here share.
    """

    def bring(self, content: bytes, **more: object) -> Made:
        """
        Import a blob as image 1.
        """
        blob = self.state / "blob"
        blob.write_bytes(content)
        self.run_to_end(self.shelf.remove(1))
        return self.run_to_end(self.shelf.build(1, Recipe("import", blob=blob, **more)))  # type: ignore[arg-type]

    def tree(self) -> Path:
        """
        @return: where the files of image 1 are.
        """
        return self.run_to_end(self.shelf.tree(1))

    def wait_for(self, true: Callable[[], object], limit_s: float = 10.0) -> None:
        """
        Let the loop run until something is so.
        """
        until = time.monotonic() + limit_s
        while not true():
            self.assertLess(time.monotonic(), until)
            self.run_to_end(self.pause())

    async def pause(self) -> None:
        """
        Give the loop a turn.
        """
        paused: Deferred[None] = Deferred()
        self.clock.callLater(0.01, paused.callback, None)
        await paused


@needs.needs_root
@needs.needs_tool("busybox", "mkfs.ext4", "unshare", "debootstrap")
class BuildTests(Making):
    """
    Images made on the host.
    """

    def test_busyboxInASecond(self) -> None:
        """
        A busybox image takes about a second, has what a container needs, and is known again by the next daemon.
        """
        began = time.monotonic()
        made = self.run_to_end(self.shelf.build(1, BUSYBOX))
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(self.shelf.made(1), made)
        disk = (self.state / "images/1/disk").read_bytes()
        self.assertEqual((hashlib.sha256(disk).hexdigest(), len(disk)), (made.sha256, made.size))
        tree = self.tree()
        self.assertEqual((tree / "root").stat().st_mode & 0o7777, 0o700)
        self.assertEqual((tree / "tmp").stat().st_mode & 0o7777, 0o1777)
        for name in ("bin/sh", "etc/passwd", "proc", "sys", "dev", "run/hostline", "var/log", "etc/hostline"):
            self.assertTrue((tree / name).exists(), name)
        self.assertTrue((tree / "usr/bin/hostline").exists())
        self.crash()
        self.begin()
        self.run_to_end(self.shelf.recover([1]))
        self.assertEqual(self.shelf.made(1), made)

    def test_nobodyLooksIn(self) -> None:
        """
        Users of the host do not get at the files of images, whose setuid programs would be root's.
        """
        self.run_to_end(self.shelf.build(1, BUSYBOX))
        self.tree()
        self.assertEqual((self.state / "images").stat().st_mode & 0o777, 0o700)
        line = next(one for one in Path("/proc/self/mountinfo").read_text().splitlines() if "images/1/tree" in one)
        self.assertTrue({"ro", "nosuid", "nodev"} <= set(line.split()[5].split(",")), line)

    def test_noSuchPackage(self) -> None:
        """
        A build that fails says why in one line, and leaves nothing.
        """
        recipe = Recipe("debian", mirror="http://127.0.0.1:9/debian", packages=("hello",))
        with self.assertRaisesRegex(OSError, r"(?i)release"):
            self.run_to_end(self.shelf.build(1, recipe))
        self.assertEqual(self.shelf.serials(), set())

    def test_cancelled(self) -> None:
        """
        A build that is cancelled ends with all its processes.
        """
        failed = self.slow_build()
        self.assertTrue(builders(f"{self.state}/"))
        self.shelf.cancel(1)
        self.wait_for(lambda: failed)
        self.assertEqual((failed, self.processes(), self.shelf.serials()), (["cancelled"], [], set()))

    def test_tooLong(self) -> None:
        """
        A build that takes too long is given up.
        """
        failed = self.slow_build(limit_s=0.3)
        self.wait_for(lambda: failed)
        self.assertEqual((failed, self.processes(), self.shelf.serials()), (["not made in 0.3 s"], [], set()))

    def test_killedBuild(self) -> None:
        """
        If what makes it is killed, the build fails and leaves nothing; the next one works.
        """
        failed = self.slow_build()
        for pid in builders(f"{self.state}/"):
            os.kill(pid, signal.SIGKILL)
        self.wait_for(lambda: failed)
        self.wait_for(lambda: not self.processes())
        self.assertEqual(self.shelf.serials(), set())
        self.run_to_end(self.shelf.build(1, BUSYBOX))

    def test_killedDaemon(self) -> None:
        """
        What a daemon was making when it died is ended and removed by the next one, and made again.
        """
        self.slow_build()
        self.crash()
        self.assertTrue(builders(f"{self.state}/"))
        self.begin()
        self.run_to_end(self.shelf.recover([1]))
        self.assertEqual((self.processes(), self.shelf.serials()), ([], set()))
        self.run_to_end(self.shelf.build(1, BUSYBOX))

    def test_strays(self) -> None:
        """
        An image without a record is removed at a start, unless records were lost.
        """
        self.run_to_end(self.shelf.build(1, BUSYBOX))
        self.tree()
        self.run_to_end(self.shelf.recover([], keep_strays=True))
        self.assertEqual(self.shelf.serials(), {1})
        self.run_to_end(self.shelf.recover([]))
        self.assertEqual(self.shelf.serials(), set())
        self.wait_for(lambda: self.left() == ([], []))

    def slow_build(self, limit_s: float = 60.0) -> list[str]:
        """
        Begin a build that would take very long: its mirror takes the request and never answers.

        @return: gets the text of its failure.
        """
        mirror = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(mirror.close)
        recipe = Recipe("debian", mirror=f"http://127.0.0.1:{mirror.getsockname()[1]}/debian", limit_s=limit_s)
        failed: list[str] = []
        built = Deferred.fromCoroutine(self.shelf.build(1, recipe))
        built.addErrback(lambda failure: failed.append(str(failure.value)))
        self.wait_for(lambda: failed or b"wget" in b"".join(self.processes()))
        return failed

    def processes(self) -> list[bytes]:
        """
        @return: command lines of processes that work in our directory.
        """
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if os.fsencode(self.state) in line and b"/.trash/" not in line:
                found.append(line)
        return found

    def test_debian(self) -> None:
        """
        A Debian image has the packages that were asked for, tells how far it is, and leaves no mount. No secret is in
        it that all made from it would share.
        """
        if not SOAK:
            self.skipTest(f"{needs.CANNOT}takes a minute and a mirror; make soak runs it")
        seen: list[float] = []
        made: list[Made] = []
        built = Deferred.fromCoroutine(
            self.shelf.build(1, Recipe("debian", packages=("netcat-openbsd", "openssh-server")))
        )
        built.addCallback(made.append)
        built.addErrback(lambda failure: self.fail(str(failure.value)))

        def look() -> bool:
            progress = self.shelf.progress(1)[1]
            if not made and progress is not None:
                seen.append(progress)
            return bool(made)

        self.wait_for(look, 600)
        self.assertGreater(len(set(seen)), 10)
        tree = self.tree()
        for name in ("usr/bin/nc.openbsd", "bin/sh", "run/hostline"):
            self.assertTrue((tree / name).exists(), name)
        self.assertEqual(list((tree / "etc/ssh").glob("ssh_host_*")), [])
        self.assertEqual((tree / "etc/machine-id").read_bytes(), b"")
        self.assertEqual(list((tree / "proc").iterdir()), [])
        self.assertEqual(set(self.left()[0]) - {tree, tree.parents[1]}, set())  # all images are apart, with the tree


@needs.needs_root
@needs.needs_tool("mkfs.ext4", "unshare", "zstd")
class ImportTests(Making):
    """
    Tars of files.
    """

    def test_taken(self) -> None:
        """
        Files come with owners, modes, links and times, whatever the tar is compressed by.
        """
        import bz2
        import lzma

        content = tar_of(
            member("./bin/tool", content=b"#!/bin/sh\n", mode=0o4755, uid=1000, gid=65535, mtime=1000000000),
            member("bin/hard", tarfile.LNKTYPE, linkname="./bin/tool"),
            member("sh", tarfile.SYMTYPE, linkname="/bin/tool"),
            member("up", tarfile.SYMTYPE, linkname="../../../etc/passwd"),
            member("pipe", tarfile.FIFOTYPE, mode=0o640),
            member("var", tarfile.DIRTYPE, mode=0o1777),
            member("hole", content=bytes(3 << 20) + b"x"),
            member("\u00e9t\u00e9/" + "n" * 255, content=b"1"),
        )
        zstd = subprocess.run(["zstd", "-qc"], input=content, capture_output=True, check=True).stdout
        for packed in (content, gzip.compress(content), bz2.compress(content), lzma.compress(content), zstd):
            self.bring(packed)
            tree = self.tree()
            about = (tree / "bin/tool").stat()
            self.assertEqual((about.st_uid, about.st_gid, about.st_mode & 0o7777), (1000, 65535, 0o4755))
            self.assertEqual((about.st_mtime, about.st_nlink), (1000000000, 2))
            self.assertEqual(str((tree / "sh").readlink()), "/bin/tool")
            self.assertEqual(str((tree / "up").readlink()), "../../../etc/passwd")
            self.assertEqual((tree / "var").stat().st_mode & 0o7777, 0o1777)
            self.assertTrue((tree / "pipe").is_fifo())
            self.assertEqual((tree / "hole").read_bytes()[-2:], b"\0x")
            self.assertTrue((tree / "\u00e9t\u00e9" / ("n" * 255)).exists())
            self.assertTrue((tree / "proc").is_dir())

    def test_lastOneCounts(self) -> None:
        """
        Of two members with one name the later one stays, whatever they are.
        """
        self.bring(
            tar_of(
                member("a/b/c", content=b"1"),
                member("a/b", content=b"2"),
                member("d", tarfile.SYMTYPE, linkname="/etc"),
                member("d", tarfile.DIRTYPE),
                member("d/hostname", content=b"mine"),
                member("e", content=b"3"),
                member("e", tarfile.DIRTYPE),
            )
        )
        tree = self.tree()
        self.assertEqual((tree / "a/b").read_bytes(), b"2")
        self.assertEqual((tree / "d/hostname").read_bytes(), b"mine")
        self.assertTrue((tree / "e").is_dir())

    def test_refused(self) -> None:
        """
        What leads out, is a device, or is too much is refused by name; nothing is written elsewhere, nothing is left.
        """
        outside = self.state / "outside"
        outside.mkdir()
        (outside / "secret").write_text("secret")
        big = member("sparse")[0]
        big.size = 1 << 60
        cases = {
            "'\\.\\./x' has '\\.\\.'": [member("../x", content=b"1")],
            "'a/\\.\\./\\.\\./x' has '\\.\\.'": [member("a/../../x", content=b"1")],
            f"'{outside}/x' has an absolute": [member(f"{outside}/x", content=b"1")],
            "under 'l', which is no": [
                member("l", tarfile.SYMTYPE, linkname=str(outside)),
                member("l/x", content=b"1"),
            ],
            "under 'm/l', which is no": [
                member("m/l", tarfile.SYMTYPE, linkname="../../../outside"),
                member("m/l/y/x", content=b"1"),
            ],
            "'h' is a link to '\\.\\./blob'": [member("h", tarfile.LNKTYPE, linkname="../blob")],
            "'h' is a link to '/etc/passwd'": [member("h", tarfile.LNKTYPE, linkname="/etc/passwd")],
            "under 's', which is no": [
                member("s", tarfile.SYMTYPE, linkname=str(outside)),
                member("h", tarfile.LNKTYPE, linkname="s/secret"),
            ],
            "'h': No such file": [member("h", tarfile.LNKTYPE, linkname="nothing")],
            "'dev/sda' is a device": [member("dev/sda", tarfile.BLKTYPE, devmajor=8)],
            "'dev/mem' is a device": [member("dev/mem", tarfile.CHRTYPE, devmajor=1, devminor=1)],
            "'f' belongs to 65536:0": [member("f", uid=65536)],
            "'f' belongs to 0:100000": [member("f", gid=100000)],
            "'nnn.* too long": [member("n" * 256)],
            "more than 1048576 bytes; 'b' has 1048577": [member("b", content=bytes((1 << 20) + 1))],
            "more than 1048576 bytes; 'b2'": [
                member("b1", content=bytes(1 << 19)),
                member("b2", content=bytes(1 << 20)),
            ],
        }
        for wanted, members in cases.items():
            with self.subTest(wanted), self.assertRaisesRegex(OSError, wanted):
                self.bring(tar_of(*members), most_bytes=1 << 20)
            self.assertEqual(self.shelf.serials(), set())
        self.assertEqual([one.name for one in outside.iterdir()], ["secret"])
        self.assertEqual((outside / "secret").stat().st_nlink, 1)
        self.assertFalse((self.state / "x").exists())

    def test_notTars(self) -> None:
        """
        What is no tar, or is cut off or damaged, is refused in words.
        """
        whole = gzip.compress(tar_of(member("a", content=os.urandom(100000))))
        header = bytearray(tar_of(member("sparse"))[:512])
        for content in (
            b"",
            b"no tar\n" * 1000,
            whole[: len(whole) // 2],
            whole[:5000] + bytes(1000) + whole[6000:],
            tar_of(member("a", content=bytes(100000)))[:50000],
            b"\x28\xb5\x2f\xfd" + bytes(100),
            bytes(header[:100]) + b"\xff" * 412,
        ):
            with self.subTest(content[:20]), self.assertRaisesRegex(OSError, "no tar that can be read|cannot be read"):
                self.bring(content)
            self.assertEqual(self.shelf.serials(), set())

    def test_longHeader(self) -> None:
        """
        A header that wants gigabytes of memory is refused, and the host does not feel it.
        """
        info = tarfile.TarInfo("././@PaxHeader")
        info.type, info.size = tarfile.XHDTYPE, 3 << 30
        content = gzip.compress(info.tobuf() + bytes(64 << 20))
        with self.assertRaisesRegex(OSError, "memory|no tar that can be read"):
            self.bring(content)


@needs.needs_root
@needs.needs_tool("mkfs.ext4", "unshare")
class LayoutTests(Making):
    """
    OCI image layouts.
    """

    def test_layers(self) -> None:
        """
        A layer adds to those beneath it and takes away from them; what the image runs is kept.
        """
        made = self.bring(
            layout(
                tar_of(member("a/one", content=b"1"), member("a/two", content=b"2"), member("b/three", content=b"3")),
                tar_of(
                    member("a/.wh.one"),
                    member("b/four", content=b"4"),
                    member("b/.wh..wh..opq"),
                    member("c/.wh.nothing"),
                ),
                config={"Entrypoint": ["/bin/run"], "Cmd": ["-x"], "Env": ["A=b=c", "PATH=/bin"], "WorkingDir": "/srv"},
            )
        )
        tree = self.tree()
        names = sorted(str(one.relative_to(tree)) for one in tree.rglob("*") if one.is_file())
        self.assertEqual(names, ["a/two", "b/four"])
        self.assertEqual((made.command, made.directory), (("/bin/run", "-x"), "/srv"))
        self.assertEqual(made.environment, {"A": "b=c", "PATH": "/bin"})

    def test_refused(self) -> None:
        """
        A layout that does not hold what it says, or is for another machine, is refused, and leaves nothing.
        """
        good = tar_of(member("a", content=b"1"))
        up = tar_of(member("x/.wh..."), member(".wh..", content=b""))
        index = {"manifests": [{"digest": f"sha256:{'0' * 64}", "platform": {"os": "linux", "architecture": "s390x"}}]}
        for wanted, content in {
            "has the sum": layout(good, changed=b"x"),
            "takes nothing away": layout(good, up),
            "Cmd of its configuration": layout(good, config={"Cmd": "sh"}),
            "Env of its configuration": layout(good, config={"Env": [1]}),
            "only linux/s390x": tar_of(
                member("oci-layout", content=b"{}"), member("index.json", content=json.dumps(index).encode())
            ),
            "is missing in it": tar_of(
                member("oci-layout", content=b"{}"),
                member("index.json", content=json.dumps({"manifests": [{"digest": "sha256:" + "0" * 64}]}).encode()),
            ),
            "want a list of manifests": tar_of(member("oci-layout"), member("index.json", content=b"{}")),
            "index.json: ": tar_of(member("oci-layout"), member("index.json", content=b"[" * 100000)),
            "Docker's own format": tar_of(
                member("manifest.json", content=b"[]"), member("abc/layer.tar", content=good)
            ),
            "'dev/x' is a device": layout(good, tar_of(member("dev/x", tarfile.CHRTYPE))),
        }.items():
            with self.subTest(wanted), self.assertRaisesRegex(OSError, wanted):
                self.bring(content)
            self.assertEqual(self.shelf.serials(), set())


@needs.needs_root
@needs.needs_tool("busybox", "mkfs.ext4", "unshare", "debootstrap")
class CommandTests(unittest.TestCase):
    """
    Images by command, on a daemon as it is.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()

    def build(self, request: str = "image_build tiny base=busybox wait=0") -> int:
        """
        @return: the number of the operation.
        """
        number = self.host.ask(request)["operation"]
        assert isinstance(number, int)
        return number

    def refused(self, request: str) -> Mapping[str, Any]:
        """
        @return: the body of the error.
        """
        with self.host.client() as client:
            word, body = client.refusal(request)
        self.assertEqual(word, "error_reply", body)
        assert isinstance(body, dict)
        return body

    def test_builtAndRemoved(self) -> None:
        """
        An image is built, listed, and removed with all its files.
        """
        made = self.host.ask("image_build tiny base=busybox")
        self.assertEqual((made["name"], made["state"], made["ready"]), ("tiny", "ready", "started"))
        self.assertEqual(self.host.ask("images"), [made])
        self.assertEqual(self.refused("image_build Tiny base=busybox")["code"], "EXISTS")
        disk = self.host.state / "images" / str(made["serial"]) / "disk"
        self.assertEqual(hashlib.sha256(disk.read_bytes()).hexdigest(), made["sha256"])
        self.assertEqual(self.host.ask("image_remove tiny")["name"], "tiny")
        self.assertEqual(self.host.ask("images"), [])
        until(lambda: not disk.parent.exists())
        self.assertEqual(self.refused("image_remove tiny")["code"], "NO_SUCH_IMAGE")
        self.assertEqual(self.host.tracebacks(), "")

    def test_failed(self) -> None:
        """
        What cannot be built says why, innermost first, and its name is free again.
        """
        self.host.configure('[images]\nmirror = "http://127.0.0.1:9/debian"\n')
        os.kill(self.host.pid, signal.SIGHUP)
        until(lambda: "configuration read again" in self.host.said())
        error = self.refused("image_build deb packages=['hello']")
        self.assertEqual(error["code"], "FAILED")
        self.assertRegex(error["causes"][0], "(?i)release")
        self.assertEqual(error["causes"][-1], "image_build deb failed")
        until(lambda: self.host.ask("images") == [])
        self.host.ask("image_build deb base=busybox")

    def test_cancelled(self) -> None:
        """
        A build that is cancelled ends, with nothing left.
        """
        mirror = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(mirror.close)
        self.host.configure(f'[images]\nmirror = "http://127.0.0.1:{mirror.getsockname()[1]}/debian"\n')
        os.kill(self.host.pid, signal.SIGHUP)
        until(lambda: "configuration read again" in self.host.said())
        number = self.build("image_build deb wait=0")
        second = self.build("image_build other wait=0")
        until(lambda: self.host.ask(f"operation {number}")["step"] == "fetching InRelease")
        self.assertEqual(self.host.ask(f"operation {second}")["step"], "waiting for its turn")
        self.assertEqual(self.refused("image_remove deb")["code"], "WRONG_STATE")
        for one in (number, second):
            self.assertEqual(self.host.ask(f"cancel {one}")["state"], "cancelled")
        until(lambda: self.host.ask("images") == [])
        images = self.host.state / "images"
        until(lambda: [one.name for one in images.iterdir()] == [".trash"])
        self.assertEqual(builders(f"{images}/"), [])
        self.assertEqual(self.host.tracebacks(), "")

    def test_killedDaemon(self) -> None:
        """
        A build goes on after the daemon was killed, whenever that was.
        """
        for count in range(scaled(4, 30)):
            number = self.build(f"image_build tiny{count} base=busybox wait=0")
            time.sleep(count * 0.12 % 0.6)
            self.host.kill()
            self.host.start()
            ended = self.host.ask(f"wait {number}")
            self.assertEqual((ended["state"], ended["causes"]), ("done", []))
            self.assertEqual(self.host.ask(f"image_remove tiny{count}")["state"], "ready")
        images = self.host.state / "images"
        until(lambda: [one.name for one in images.iterdir()] == [".trash"])

    def test_imported(self) -> None:
        """
        What was sent as a blob becomes an image; a blob that was not sent is asked for.
        """
        content = layout(tar_of(member("bin/sh", content=b"#!")), config={"Cmd": ["/bin/sh", "-c", "x"]})
        name = hashlib.sha256(content).hexdigest()
        self.assertEqual(self.refused(f"image_import mine blob:{name}")["code"], "NO_SUCH_BLOB")
        self.assertEqual(self.refused("image_import mine blob:x")["code"], "BAD_VALUE")
        self.host.ask(f"blob {name} {len(content)} 0 '{b2a_base64(content, newline=False).decode()}'")
        made = self.host.ask(f"image_import mine blob:{name}")
        self.assertEqual((made["state"], made["command"], made["base"]), ("ready", ["/bin/sh", "-c", "x"], "import"))

    def test_importedFromAFile(self) -> None:
        """
        The command-line client sends a file's bytes ahead by itself, however many.
        """
        file = self.host.directory / "root.tar"
        file.write_bytes(tar_of(member("bin/sh", content=os.urandom(1_000_000))))
        done = subprocess.run(
            [sys.executable, "-m", "hostline.clients.main", "image_import", "mine", f"@{file}"],
            env={**ENVIRONMENT, "HOSTLINE_SOCKET": str(self.host.socket)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(self.host.ask("images")[0]["size"], 1_000_000)
