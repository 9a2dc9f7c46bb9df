"""
The rows of images.
"""

from __future__ import annotations

from hostline.protocol import kinds, shapes
from hostline.protocol.command import FOR_OPERATORS, FOR_USERS, Command
from hostline.protocol.kinds import Kind, choice, several
from hostline.protocol.names import shown

_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"


def _is_package(value: object) -> str | None:
    # It becomes a word of a command line, in a list with commas.
    if type(value) is str and 0 < len(value) <= 100 and value[0] in _FIRST and not value.strip(_FIRST + "+.-"):
        return None
    return f"want the name of a Debian package, got {shown(value)}"


def _is_blob(value: object) -> str | None:
    if type(value) is str and value.startswith("blob:") and kinds.SHA256.fits(value[5:]) is None:
        return None
    return f"want blob:SHA256 of bytes sent before, got {shown(value)}"


def _is_ready(value: object) -> str | None:
    # What is behind the colon is looked at by the host.
    if type(value) is str and len(value) <= 220 and value.isprintable():
        word, _, rest = value.partition(":")
        if value in ("", "agent", "started") or (word in ("tcp", "console") and rest):
            return None
    return f"want agent, started, tcp:PORT or console:REGEX, got {shown(value)}"


PACKAGE = Kind("PACKAGE", "the name of a Debian package", _is_package)
#: What a thin client sends ahead, byte by byte as it is in a file.
BLOB = Kind("BLOB", "blob:SHA256 of bytes sent before", _is_blob)
_KIND = choice("KIND", "the kind of slivers that it is for", "container", "qemu")
_READY = Kind("READY", "when a guest is up: agent, started, tcp:PORT or console:REGEX; '': agent", _is_ready)
_IMAGE = (("image", kinds.IMAGE),)

ROWS: tuple[Command, ...] = (
    Command("images", (), shapes.IMAGES, FOR_USERS, "The images of this host, those that are being made among them."),
    Command(
        "image_build",
        _IMAGE,
        shapes.IMAGE_BODY,
        FOR_OPERATORS,
        "Make an image: of Debian with packages=, by debootstrap, or a tiny one with base=busybox.",
        options=(
            ("packages", several(PACKAGE), []),
            ("base", choice("BASE", "what is in it", "debian", "busybox"), "debian"),
            ("kind", _KIND, "container"),
            ("ready", _READY, ""),
        ),
        changes=True,
        slow=True,
    ),
    Command(
        "image_import",
        (*_IMAGE, ("blob", BLOB)),
        shapes.IMAGE_BODY,
        FOR_OPERATORS,
        "Make an image of a tar of files or an OCI layout; of kind=qemu, of a qcow2 disk or a tar with it.",
        options=(("kind", _KIND, "container"), ("ready", _READY, "")),
        changes=True,
        slow=True,
    ),
    Command(
        "image_remove",
        _IMAGE,
        shapes.IMAGE_BODY,
        FOR_OPERATORS,
        "Remove an image that no sliver is made from.",
        changes=True,
        frees=True,
    ),
)
