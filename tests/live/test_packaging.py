"""
What people install: wheel, sdist and editable, in virtual environments that were empty before.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path
from typing import ClassVar

from tests.live.hosted import until

ROOT = Path(__file__).parents[2]
_LIMIT_S = 300
_NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info", "__pycache__", "_trial_temp*", "tests*.*"
)


def run(*argv: str | Path, cwd: Path | str = "/", **environment: str) -> str:
    """
    @return: what a program that must end well said.
    @raise AssertionError: with what it said, if it did not.
    """
    # Nothing of the environment that runs the tests may be found.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        list(map(str, argv)),
        cwd=cwd,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_LIMIT_S,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


class PackagingTests(unittest.TestCase):
    """
    One build for all.
    """

    directory: ClassVar[Path]
    source: ClassVar[Path]
    wheel: ClassVar[Path]
    sdist: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = Path(tempfile.mkdtemp(prefix="hl-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.source = cls.directory / "source"
        shutil.copytree(ROOT, cls.source, symlinks=True, ignore=_NOT_SOURCE)
        # First the sdist from the tree, then the wheel from the sdist.
        run(sys.executable, "-m", "build", "--outdir", cls.directory / "dist", cls.source)
        (cls.wheel,) = (cls.directory / "dist").glob("*.whl")
        (cls.sdist,) = (cls.directory / "dist").glob("*.tar.gz")

    def venv(self, name: str) -> Path:
        """
        @return: where the programs of a new environment are.
        """
        run(sys.executable, "-m", "venv", self.directory / name)
        return self.directory / name / "bin"

    def test_wheelHasEverything(self) -> None:
        """
        Every module is in the wheel, with the shim, the mark that says we are typed, and the plugin.
        """
        with zipfile.ZipFile(self.wheel) as wheel:
            names = set(wheel.namelist())
        modules = {
            f"hostline/{path.relative_to(self.source)}"
            for part in ("protocol", "clients", "server")
            for path in (self.source / part).rglob("*.py")
        }
        self.assertEqual(modules - names, set())
        for name in ("hostline/py.typed", "hostline/server/supervise/shim.sh", "twisted/plugins/hostline_plugin.py"):
            self.assertIn(name, names)

    def test_wheelTouchesNothingOfTwisted(self) -> None:
        """
        Only ours is in the wheel; nothing that would overwrite Twisted's own files.
        """
        with zipfile.ZipFile(self.wheel) as wheel:
            names = wheel.namelist()
        others = [one for one in names if not one.startswith(("hostline/", "hostline-"))]
        self.assertEqual(others, ["twisted/plugins/hostline_plugin.py"])
        self.assertEqual(
            [one for one in names if re.search(r"(^|/)tests?[/_]", one.lower()) or one.endswith(".pyc")], []
        )

    def test_sdistGivesTheSameWheel(self) -> None:
        """
        A wheel from the tree has the files of the wheel from the sdist; the sdist has the licence.
        """
        run(sys.executable, "-m", "build", "--wheel", "--outdir", self.directory / "direct", self.source)
        (direct,) = (self.directory / "direct").glob("*.whl")
        with zipfile.ZipFile(direct) as one, zipfile.ZipFile(self.wheel) as other:
            self.assertEqual(sorted(one.namelist()), sorted(other.namelist()))
        with tarfile.open(self.sdist) as sdist:
            self.assertIn("LICENSE", {name.partition("/")[2] for name in sdist.getnames()})

    def test_thinClients(self) -> None:
        """
        Without extras nothing else is installed, and the clients work from anywhere.
        """
        there = self.venv("thin")
        run(there / "pip", "install", "--no-index", self.wheel)
        listed = run(there / "pip", "list", "--format=freeze").split()
        names = {one.partition("==")[0].lower() for one in listed if "==" in one}
        self.assertEqual(names - {"pip", "setuptools", "wheel"}, {"hostline"})
        self.assertIn("status_request PROJECT/EXPERIMENT", run(there / "hostline", "--help"))
        self.assertIn("--extra", run(there / "node_list", "--help"))
        missing = str(self.directory / "no.sock")
        for words in (["hostline", "--socket", missing, "ping"], ["hostline-shell", "--socket", missing, "-c", "ping"]):
            done = subprocess.run([there / words[0], *words[1:]], cwd="/", check=False, capture_output=True)
            self.assertEqual(done.returncode, 3, done.stderr)
        # Keys and signatures want cryptography, which is not here: that is said in one line, and nothing is made.
        pki: list[str | Path] = [there / "hostline-pki", "request", "a.example.org", "--directory"]
        done = subprocess.run([*pki, self.directory / "trust"], cwd="/", check=False, capture_output=True)
        self.assertEqual((done.returncode, done.stderr.count(b"\n"), b"pip install" in done.stderr), (2, 1, True))
        self.assertFalse((self.directory / "trust").exists())
        modules = [f"hostline.clients.{path.stem}" for path in (self.source / "clients").glob("*.py")]
        run(there / "python", "-c", "import " + ", ".join(one.removesuffix(".__init__") for one in modules))

    def test_server(self) -> None:
        """
        From wheel, sdist and editable tree, twistd lists hostline and runs it from any directory.
        """
        there = self.venv("server")
        run(there / "pip", "install", "--quiet", f"{self.wheel}[server]")
        for what in ([self.wheel], [self.sdist], ["--editable", self.source]):
            with self.subTest(str(what[0])):
                run(there / "pip", "install", "--quiet", "--force-reinstall", "--no-deps", *what)
                self.assertRegex(run(there / "twistd", "--help"), r"(?m)^ +hostline +The daemon of one host\.$")
                run(there / "hostlined", "--state", self.directory / "state", "--check")
                self.serves(there)
        # Editable: a new module is seen at once.
        fresh = self.source / "protocol" / "fresh.py"
        self.addCleanup(fresh.unlink)
        fresh.write_text("")
        run(there / "python", "-c", "import hostline.protocol.fresh")

    def serves(self, there: Path) -> None:
        """
        Start C{twistd -n hostline}, ask it something, end it.
        """
        state, log = self.directory / "state", self.directory / "log"
        with log.open("wb") as file:
            daemon = subprocess.Popen(
                [there / "twistd", "-n", "--pidfile=", "hostline", "--state", state],
                cwd=self.directory,
                stdout=file,
                stderr=file,
            )
        try:
            asking: list[str | Path] = [there / "hostline", "--socket", str(state / "run" / "hostline.sock"), "hello"]

            def answered() -> bool:
                return subprocess.run(asking, check=False, capture_output=True).returncode == 0

            until(answered, what=lambda: log.read_text("utf-8", "replace"))
            daemon.terminate()
            self.assertEqual(daemon.wait(20), -signal.SIGTERM, log.read_text("utf-8", "replace"))
        finally:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()
