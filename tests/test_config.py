"""
The configuration file.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import BadConfig, Config, Limits, changes, flat, read_config


class ConfigTests(SynchronousTestCase):
    """
    What stands in the file is what holds, or is refused in words.
    """

    def read(self, text: str) -> Config:
        path = Path(self.mktemp())
        path.write_text(text)
        return read_config(path)

    def refused(self, text: str) -> str:
        return str(self.assertRaises(BadConfig, self.read, text))

    def test_hasDefaults(self) -> None:
        """
        Without a file, and with an empty one, the defaults hold.
        """
        self.assertEqual(read_config(None), Config())
        self.assertEqual(self.read(""), Config())

    def test_takesWhatIsSaid(self) -> None:
        """
        A key that is set holds, the others keep their defaults; a whole number will do for seconds.
        """
        config = self.read('operators = "wheel"\n[limits]\nline_seconds = 5\nconnections = 7\n')
        self.assertEqual((config.operators, config.limits.line_seconds, config.limits.connections), ("wheel", 5, 7))
        self.assertEqual(config.limits.lines_waiting, Limits().lines_waiting)

    def test_namesWhatIsNearAnUnknownKey(self) -> None:
        """
        A misspelt key is refused with its full name and the nearest known one.
        """
        self.assertIn(
            "unknown key limits.conections (did you mean connections", self.refused("[limits]\nconections = 1")
        )
        self.assertIn("unknown key operator (did you mean operators", self.refused('operator = "x"'))
        self.assertIn("known are", self.refused("zzz = 1"))

    def test_refusesWhatNoNumberIs(self) -> None:
        """
        Limits are finite, and the range of uids ends where uids do.
        """
        for text in ("[limits]\nline_seconds = nan", "[history]\noperations_days = inf"):
            self.assertIn("want a number from", self.refused(text))
        self.assertIn("uid_count: want uids below", self.refused("[slivers]\nuid_first = 4294967000"))

    def test_refusesAnotherType(self) -> None:
        """
        A value of another type is refused, naming the key and the type; True is no number.
        """
        self.assertIn("limits.connections: want int, got 'x'", self.refused('[limits]\nconnections = "x"'))
        self.assertIn("limits.connections: want int", self.refused("[limits]\nconnections = true"))
        self.assertIn("limits.connections: want int", self.refused("[limits]\nconnections = 1.5"))
        self.assertIn("operators: want str", self.refused("operators = 7"))
        self.assertIn("limits: want a table", self.refused("limits = 7"))

    def test_refusesTooLittle(self) -> None:
        """
        A limit that would shut everybody out is refused.
        """
        self.assertIn("limits.connections: want a number from 1, got 0", self.refused("[limits]\nconnections = 0"))

    def test_namesTheFile(self) -> None:
        """
        What cannot be read or is no TOML is an error that names the file.
        """
        path = Path(self.mktemp())
        self.assertIn(f"{path}: No such file", str(self.assertRaises(BadConfig, read_config, path)))
        path.write_bytes(b"\xff")
        self.assertIn(str(path), str(self.assertRaises(BadConfig, read_config, path)))
        path.write_text("operators = \n")
        self.assertIn("line 1", str(self.assertRaises(BadConfig, read_config, path)))

    def test_saysWhatAReloadChanges(self) -> None:
        """
        A reload names each changed key with its old and new value, and those that wait for a restart.
        """
        new = self.read("[limits]\nconnections = 7\nline_bytes = 2000\n[slivers]\nat_once = 2")
        changed, restart = changes(Config(), new)
        self.assertEqual(
            changed, {"limits.connections": [1024, 7], "limits.line_bytes": [1 << 20, 2000], "slivers.at_once": [8, 2]}
        )
        self.assertEqual(restart, ["limits.line_bytes", "slivers.at_once"])
        self.assertEqual(changes(new, new), ({}, []))

    def test_saysWhatEachKeyIs(self) -> None:
        """
        Every key has a sentence for people.
        """
        for name, (_, declared) in flat(Config()).items():
            self.assertTrue(declared.metadata["doc"], name)
