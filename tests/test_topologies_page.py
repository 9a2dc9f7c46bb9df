"""
The samples of docs/topologies.md, and the files in examples/.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments import topdl
from hostline.server.experiments.check import check_topology
from hostline.server.experiments.ns_simulator import METHODS
from hostline.server.experiments.ns_testbed import COMMANDS
from hostline.server.experiments.toml_form import AT_KEYS, LINK_KEYS, NODE_KEYS
from hostline.server.experiments.topology import Topology
from hostline.server.slivers.rspec import ALIASES, RESOURCES

_ROOT = Path(__file__).parents[1]
_PAGE = (_ROOT / "docs" / "topologies.md").read_text()
_FORMATS = {"xml": None, "tcl": None, "ns": None, "toml": "toml"}


class SampleTests(SynchronousTestCase):
    """
    What the page shows is so.
    """

    def read(self, text: str, language: str) -> dict[str, Any]:
        """What is read without remark, and is the same when its TopDL is read."""
        said = check_topology({"text": text, "format": _FORMATS[language]})
        self.assertEqual((said["errors"], said["warnings"]), ([], []))
        topology = Topology.from_value(said["topology"])
        self.assertEqual(topdl.read(topdl.write(topology.document)), topology)
        return said

    def test_samples(self) -> None:
        """
        Each sample is read without remark; the ancestors' two are what they were there.
        """
        samples = dict(re.findall(r"```(\w+)\n(.*?)```", _PAGE, re.DOTALL))
        names = {
            language: [one["node"] for one in self.read(text, language)["nodes"]] for language, text in samples.items()
        }
        self.assertEqual(
            names,
            {
                "xml": ["web", "probe"],
                "tcl": ["hub", "leaf-0", "leaf-1"],
                "toml": ["hub", "web", "leaf-0", "leaf-1", "leaf-2"],
            },
        )

    def test_examples(self) -> None:
        """
        So is each file in examples/, of the size that it says.
        """
        sizes = {}
        for path in (_ROOT / "examples").iterdir():
            if path.suffix[1:] in _FORMATS:
                said = self.read(path.read_text(), path.suffix[1:])
                sizes[path.name] = (len(said["nodes"]), len(said["links"]))
        self.assertEqual(
            sizes,
            {
                "demo.xml": (4, 2),
                "campus.xml": (17, 5),
                "mixed.ns": (8, 5),
                "ring.ns": (60, 63),
                "office.toml": (10, 3),
            },
        )

    def test_commands(self) -> None:
        """
        Every command and key that means something is on the page.
        """
        words = set(re.findall(r"[\w:-]+", _PAGE))
        for name in COMMANDS:
            short = name.removeprefix("tb-").removeprefix("set").removeprefix("make")
            self.assertTrue(
                {name, short} & words or short == "-tarfiles" or name.endswith("usage") or name in _TOLD, name
            )
        self.assertEqual([one for one in METHODS if one not in words and one not in ("make-cloud", "simplex-link")], [])
        resources = {*RESOURCES, *ALIASES}
        self.assertEqual([one for one in (*NODE_KEYS, *LINK_KEYS) if one not in words | resources], [])
        self.assertEqual([one for one in AT_KEYS if one.rpartition("_")[2] not in words], [])


#: Known and checked, but said to be without effect.
_TOLD = ("tb-set-sync-server", "tb-set-colocate-factor")
