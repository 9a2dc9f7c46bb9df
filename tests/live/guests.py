"""
The smallest image of QEMU machines, made once for all tests of a day: that takes longer than most of them. Whether it
is made on a host as it should be is for C{test_guest_images} and C{test_show_experiments} to say, which have their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import io
import shutil
import tarfile
import time
from binascii import b2a_base64
from pathlib import Path

from hostline.server.supervise import builders
from hostline.server.supervise.builders import Recipe
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.spawn import Spawner
from tests.live import support
from tests.live.hosted import Hosted

#: Where it is kept; C{make clean} removes it.
_KEPT = Path(__file__).parents[2] / ".pytest_cache" / "guests"
_BUILD_S = 600.0
_PIECE = 300_000


def place(images: Path) -> None:
    """
    Put it on a shelf as number 1, making it first if nobody has.

    @param images: the directory of the shelf.
    """
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / "lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _KEPT / _key()
        if not kept.exists():
            for old in _KEPT.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _make(kept)
        shutil.copytree(kept, images / "1")


def bring(host: Hosted, name: str) -> None:
    """
    Send it to a daemon, as an image of this name.
    """
    place(host.directory)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for one in (host.directory / "1" / "guest").iterdir():
            tar.add(one, one.name)
    shutil.rmtree(host.directory / "1")
    data = content.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    with host.client(120) as client:
        for start in range(0, len(data), _PIECE):
            piece = b2a_base64(data[start : start + _PIECE], newline=False).decode()
            client.ask(f"blob {digest} {len(data)} {start} '{piece}'")
        client.ask(f"image_import {name} blob:{digest} kind=qemu wait=100")


def _key() -> str:
    """
    @return: what it depends on, in short: what of ours makes it, and the day, for Debian's packages change as well.
    """
    ours = Path(builders.__file__).parent
    files = [ours / "build.sh", ours / "build_guest.sh", *sorted((ours / "inguest").iterdir())]
    digest = hashlib.sha256(time.strftime("%Y-%m-%d", time.gmtime()).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _make(kept: Path) -> None:
    state = support.temporary_directory().resolve()
    loop = asyncio.new_event_loop()
    spawner = Spawner(loop)
    shelf = Shelf(state / "images", spawner, support.LoopClock(loop))
    try:
        shelf.prepare()
        support.run(loop, shelf.build(1, Recipe("busybox", kind="qemu")), _BUILD_S)
        half = kept.with_suffix(".half")
        shutil.copytree(state / "images" / "1", half)
        half.rename(kept)
    finally:
        shelf.close()
        spawner.close()
        loop.close()
        support.remove_directory(state)
