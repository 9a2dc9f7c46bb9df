"""
Blobs: something big, sent in pieces.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server import blobs
from hostline.server.config import Config, Limits
from hostline.server.experiments.check import check_topology
from tests.daemons import Client, make, topdl


class BlobTests(SynchronousTestCase):
    """
    Over the wire.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        config = Config(limits=Limits(blob_bytes=10000))
        self.daemon = make(directory=self.directory, config=config)
        self.ann = self.daemon.lab()

    def line(self, data: bytes, start: int = 0, end: int | None = None, whole: bytes | None = None) -> str:
        whole = data if whole is None else whole
        piece = base64.b64encode(data[start:end]).decode()
        return f"blob {hashlib.sha256(whole).hexdigest()} {len(data)} {start} '{piece}'"

    def use(self, client: Client, text: bytes) -> str:
        return client.code(f"check_topology blob:{hashlib.sha256(text).hexdigest()}")

    def test_standsForAText(self) -> None:
        """
        Sent whole, C{blob:SHA256} is the text; sent in pieces, some of them twice, just so.
        """
        text = topdl({"web": None})[1:-1].encode()
        self.assertEqual(self.ann.body(self.line(text, 0, 10))["have"], 10)
        self.assertEqual(self.use(self.ann, text), "NO_SUCH_BLOB")
        self.assertEqual(self.ann.body(self.line(text, 5, 20))["have"], 20)
        found = self.ann.body(self.line(text, 20))
        self.assertEqual((found["complete"], found["have"]), (True, len(text)))
        self.assertTrue(self.ann.body(self.line(text, 0, 3))["complete"])
        plan = self.ann.body(f"check_topology blob:{hashlib.sha256(text).hexdigest()}")
        self.assertEqual(plan["nodes"], check_topology({"text": text.decode()})["nodes"])
        sha = hashlib.sha256(text).hexdigest()
        self.ann.body(f"create_experiment lab/exp1 blob:{sha} swap_in=True")

    def test_stayInTheirDirectory(self) -> None:
        """
        Whatever stands in the name of a certificate, its holder's blobs are in a folder of their own, in one place.
        """
        names = ("urn:x:../../../../tmp", "urn:x:..-..", "dns:a.example.org", "urn:x:" + "a" * 300)
        folders = {self.daemon.daemon.blobs._folder(f"certificate:{name}") for name in names}
        self.assertEqual(len(folders), 4)
        self.assertEqual({one.parent for one in folders}, {self.directory / "blobs"})

    def test_areOnlySoMany(self) -> None:
        """
        A principal has so many blobs, whole or begun, also after a restart; a piece of one of them is taken still.
        """
        sent = [str(number).encode() * 3 for number in range(blobs.BLOBS)]
        for data in sent[1:]:
            self.ann.body(self.line(data))
        self.ann.body(self.line(sent[0], 0, 1))
        self.assertEqual(self.ann.code(self.line(b"more")), "TOO_MANY")
        self.assertEqual(self.daemon.connect().code(self.line(b"more")), "blob_reply")
        self.daemon.crash()
        ann = self.daemon.connect(5001)
        self.assertEqual(ann.code(self.line(b"more")), "TOO_MANY")
        self.assertTrue(ann.body(self.line(sent[0], 1))["complete"])
        self.assertEqual(ann.code(self.line(sent[5])), "blob_reply")

    def test_pieceDoesNotLookAtTheOthers(self) -> None:
        """
        What a piece costs does not grow with what is there; what went wrong meanwhile is not counted.
        """
        data = bytes(range(200))
        self.ann.body(self.line(data, 0, 10))
        looked: list[Path] = []
        iterdir = Path.iterdir

        def noted(path: Path) -> Iterator[Path]:
            looked.append(path)
            return iterdir(path)

        self.patch(Path, "iterdir", noted)
        for start in range(10, 190, 10):
            self.ann.body(self.line(data, start, start + 10))
        self.assertEqual(looked, [])
        self.assertEqual(self.ann.code(self.line(data, 195)), "BAD_VALUE")
        self.assertTrue(self.ann.body(self.line(data, 190))["complete"])
        sizes = self.daemon.daemon.blobs._sizes
        (known,) = sizes.values()
        self.assertEqual(known, {hashlib.sha256(data).hexdigest(): 200})

    def test_isItsSendersAlone(self) -> None:
        """
        Nobody else can use, or tell the presence of, what one has sent.
        """
        text = topdl({"web": None})[1:-1].encode()
        self.ann.body(self.line(text))
        bob = self.daemon.connect(5002)
        self.assertEqual(self.use(bob, text), "NO_SUCH_BLOB")
        self.assertEqual(bob.body(self.line(text, 0, 5))["have"], 5)
        self.assertEqual(self.daemon.connect(5009).code(self.line(text)), "DENIED")

    def test_refusesAnotherSum(self) -> None:
        """
        Bytes that are not those named are refused at the end, and can be sent again.
        """
        good, bad = b"good text", b"evil text"
        self.assertEqual(self.ann.code(self.line(bad, whole=good)), "BAD_VALUE")
        self.assertEqual(self.use(self.ann, good), "NO_SUCH_BLOB")
        self.assertTrue(self.ann.body(self.line(good))["complete"])

    def test_startsAgainWhenTheSizeWasWrong(self) -> None:
        """
        A size that was too large at first does not spoil the blob for ever.
        """
        good = b"good text"
        self.ann.code(self.line(good + b"and more", 0, 12, whole=good))
        self.assertTrue(self.ann.body(self.line(good))["complete"])

    def test_refusesGapsAndOverruns(self) -> None:
        """
        A piece that leaves a gap, goes past the end or is no base64 is refused.
        """
        text = b"some text"
        self.assertEqual(self.ann.code(self.line(text, 4)), "BAD_VALUE")
        sha = hashlib.sha256(text).hexdigest()
        self.assertEqual(self.ann.code(f"blob {sha} 2 0 'AAAA'"), "BAD_VALUE")
        self.assertEqual(self.ann.code(f"blob {sha} 9 0 'A'"), "BAD_VALUE")
        self.assertEqual(self.ann.code("blob ../../etc/passwd 9 0 'AAAA'"), "BAD_VALUE")
        self.assertEqual(self.ann.code("check_topology blob:../../../etc/passwd"), "NO_SUCH_BLOB")

    def test_limitsWhatIsKept(self) -> None:
        """
        A principal has so many bytes here and no more.
        """
        self.ann.body(self.line(b"x" * 9000))
        self.assertEqual(self.ann.code(self.line(b"y" * 2000)), "TOO_MANY")
        self.ann.body(self.line(b"z" * 500))

    def test_refusesWhatIsNoText(self) -> None:
        """
        Bytes that are no UTF-8 stand for no TEXT.
        """
        self.ann.body(self.line(b"\xff\xfe"))
        self.assertEqual(self.use(self.ann, b"\xff\xfe"), "BAD_VALUE")

    def test_isForgottenWhenOld(self) -> None:
        """
        What nobody has touched for a day is removed.
        """
        self.ann.body(self.line(b"old"))
        self.ann.body(self.line(b"new"))
        (old,) = self.directory.glob(f"blobs/*/{hashlib.sha256(b'old').hexdigest()}")
        os.utime(old, (1, 1))
        self.daemon.advance(3601)
        self.daemon.daemon.round()
        self.assertEqual([path.name for path in self.directory.glob("blobs/*/*")], [hashlib.sha256(b"new").hexdigest()])

    def test_isRefusedWhenItCannotBeKept(self) -> None:
        """
        A disk that takes nothing is an error in words.
        """
        (self.directory / "blobs").write_text("in the way")
        self.assertEqual(self.ann.code(self.line(b"text")), "STORE_FAILED")
