"""
Tcl's own library, by L{ctypes}: no program is started, and neither Tk nor Python's tkinter is needed.
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

#: What may be there, the best first. Debian: libtcl8.6, which the package tcl brings.
LIBRARIES = ("libtcl8.6.so", "libtcl8.6.so.0", "libtcl.so")
MISSING = "NS is read by Tcl 8.6, which is not on this host (Debian: apt install libtcl8.6)"

OK, ERROR, RETURN = 0, 1, 2
GLOBAL_ONLY = 1
Callback = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, POINTER(c_void_p))
Panic = ctypes.CFUNCTYPE(None, c_char_p)


def findings() -> list[tuple[str, bool, str, str]]:
    """
    What C{doctor} says: check, whether it is well, detail, remedy. The library is only looked for, not loaded.
    """
    found = next((one for one in _places() if one.exists()), None)
    detail = f"NS is read by {found}" if found is not None else "topologies in NS cannot be read; TopDL and TOML can"
    return [("topologies", found is not None, detail, MISSING)]


def _places() -> Iterator[Path]:
    for directory in (f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}", "/usr/lib64", "/usr/lib", "/usr/local/lib"):
        for name in LIBRARIES:
            yield Path(directory, name)


class TclMissing(Exception):
    """There is no Tcl on this host."""


@cache
def library() -> Any:
    """
    Tcl's library, initialized.

    @raise TclMissing: there is none.
    """
    for name in LIBRARIES:
        try:
            found = ctypes.CDLL(name)
            _declare(found)
        except (OSError, AttributeError):
            continue
        found.Tcl_FindExecutable(None)
        return found
    raise TclMissing(MISSING)


def _declare(found: Any) -> None:
    obj, interp, text = c_void_p, c_void_p, c_char_p
    for name, result, arguments in (
        ("Tcl_FindExecutable", None, [text]),
        ("Tcl_SetPanicProc", None, [Panic]),
        ("Tcl_CreateInterp", interp, []),
        ("Tcl_DeleteInterp", None, [interp]),
        ("Tcl_GetSlave", interp, [interp, text]),
        ("Tcl_CreateObjCommand", c_void_p, [interp, text, Callback, c_void_p, c_void_p]),
        ("Tcl_CommandComplete", c_int, [text]),
        ("Tcl_EvalEx", c_int, [interp, text, c_int, c_int]),
        ("Tcl_EvalObjEx", c_int, [interp, obj, c_int]),
        ("Tcl_EvalObjv", c_int, [interp, c_int, POINTER(c_void_p), c_int]),
        ("Tcl_GetReturnOptions", obj, [interp, c_int]),
        ("Tcl_DictObjGet", c_int, [interp, obj, obj, POINTER(c_void_p)]),
        ("Tcl_ListObjGetElements", c_int, [interp, obj, POINTER(c_int), POINTER(POINTER(c_void_p))]),
        ("Tcl_NewStringObj", obj, [text, c_int]),
        ("Tcl_GetStringFromObj", c_void_p, [obj, POINTER(c_int)]),
        ("Tcl_GetObjResult", obj, [interp]),
        ("Tcl_SetObjResult", None, [interp, obj]),
        ("Tcl_SetVar2", c_void_p, [interp, text, text, text, c_int]),
        ("Tcl_UnsetVar2", c_int, [interp, text, text, c_int]),
        ("Tcl_LimitExceeded", c_int, [interp]),
        ("Tcl_DbIncrRefCount", None, [obj, text, c_int]),
        ("Tcl_DbDecrRefCount", None, [obj, text, c_int]),
    ):
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
