"""
The one import rule: arrows point to protocol/ only, and what thin clients load is the standard library.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

HERE = Path(__file__).parents[1]
#: Folders whose name is no importable package: they are reached as hostline.protocol and so on.
PARTS = ("protocol", "clients", "server")
#: What the daemon may import besides the standard library; setup.cfg declares it.
FOR_SERVER = frozenset(
    {
        "twisted",
        "zope",
        "attrs",
        "cryptography",
        "defusedxml",
        "h11",
        "psutil",
        "pyasn1",
        "pyasn1_modules",
        "pymetis",
        "qemu",
        "service_identity",
        "uvloop",
    }
)


def imports(source: str) -> Iterator[tuple[int, str]]:
    """
    @return: line and full name of all that a module imports, wherever it does; a relative import begins with a dot.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{one.name}") for one in node.names)


def wrong(part: str, name: str) -> str | None:
    """
    @param part: the folder of the module that imports C{name}.
    @return: what is wrong with that.
    """
    first, _, rest = name.partition(".")
    inner = rest.partition(".")[0]
    if not first:
        return "want the full name"
    if first in PARTS:
        return f"want hostline.{name}"
    if part not in PARTS:
        return None
    if first == "hostline":
        allowed = {"protocol": ("protocol",), "clients": ("protocol", "clients"), "server": ("protocol", "server")}
        return f"{part}/ never imports {inner}/" if inner in PARTS and inner not in allowed[part] else None
    if part != "server" and first in ("dataclasses", "asyncio"):
        return "too slow to import for a thin client"
    known = sys.stdlib_module_names | (FOR_SERVER if part == "server" else set())
    return None if first in known else f"{part}/ may not depend on it"


class ImportRuleTests(SynchronousTestCase):
    """
    What each folder imports.
    """

    def test_everyModule(self) -> None:
        """
        No module imports what its folder may not.
        """
        found = []
        for part in (*PARTS, "tests", "bench", "tools", "twistd_plugins/twisted"):
            for path in sorted((HERE / part).rglob("*.py")):
                for line, name in imports(path.read_text("utf-8")):
                    reason = wrong(part, name)
                    if reason:
                        found.append(f"{path.relative_to(HERE)}:{line}: imports {name}: {reason}")
        self.assertEqual(found, [], "\n".join(found))

    def test_initsHoldNoCode(self) -> None:
        """
        The C{__init__.py} of a package is a docstring: importing one module never loads another.
        """
        for part in PARTS:
            for path in (HERE / part).rglob("__init__.py"):
                body = ast.parse(path.read_text("utf-8")).body
                self.assertTrue(ast.get_docstring(ast.Module(body, [])), f"{path} has no docstring")
                self.assertEqual(len(body), 1, f"{path} has code")


class RuleTests(SynchronousTestCase):
    """
    The rule itself, on names that it must refuse or allow.
    """

    def test_refused(self) -> None:
        """
        What breaks the rule is seen, wherever in a module it stands.
        """
        source = "def f():\n    from hostline import server\n    import protocol.wire\n    from . import x\n"
        self.assertEqual(list(imports(source)), [(2, "hostline.server"), (3, "protocol.wire"), (4, "..x")])
        for part, name in (
            ("protocol", "hostline.server"),
            ("protocol", "hostline.clients.main"),
            ("protocol", "attrs.define"),
            ("clients", "hostline.server.config"),
            ("clients", "twisted.internet"),
            ("clients", "dataclasses.dataclass"),
            ("server", "hostline.clients.main"),
            ("server", "requests"),
            ("tests", "protocol.wire"),
            ("tests", "..x"),
        ):
            self.assertTrue(wrong(part, name), f"{name} in {part}/")

    def test_allowed(self) -> None:
        """
        What keeps to it passes.
        """
        for part, name in (
            ("protocol", "json.loads"),
            ("protocol", "hostline.protocol.errors"),
            ("clients", "hostline.protocol.wire"),
            ("clients", "hostline.__version__"),
            ("server", "twisted.internet.defer"),
            ("tests", "hypothesis.given"),
        ):
            self.assertIsNone(wrong(part, name), f"{name} in {part}/")
