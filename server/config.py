"""
The configuration: a TOML file, each key known by name, type and default; unknown ones are refused with the nearest.
"""

from __future__ import annotations

import math
import re
import tomllib
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from hostline.protocol.endpoints import CALLS_PORT, ENROL_PORT, TLS_PORT, split_endpoint
from hostline.protocol.errors import HostError
from hostline.protocol.names import near, shown

DEFAULT_STATE = "/var/lib/hostline"
DEFAULT_RUN = "/run/hostline"


class BadConfig(Exception):
    """
    The configuration cannot be used; the message names the file and the key.
    """


def _key(default: Any, doc: str, least: float | None = None, reload: bool = True) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        kind = type(default)
        if kind is float and type(value) is int:
            return
        if type(value) is not kind:
            raise BadConfig(f"{attribute.name}: want {kind.__name__}, got {shown(value)}")
        if least is not None and not least <= value < math.inf:
            raise BadConfig(f"{attribute.name}: want a number from {least:g}, got {value}")

    return field(default=default, validator=check, metadata={"doc": doc, "reload": reload})


@frozen
class Limits:
    """
    What one connection and one principal may take; past a limit a client waits, is refused or is dropped, as said.
    """

    line_bytes: int = _key(
        1 << 20, "longest request line; a longer one is skipped and answered by an error", 1000, False
    )
    line_seconds: float = _key(60.0, "how long a begun line may take to be ended; then an error and the end", 0.1)
    lines_waiting: int = _key(
        256, "lines of a connection that wait for answers; past it the daemon stops reading it", 1
    )
    principal_lines_waiting: int = _key(2048, "the same over all connections of a principal", 1)
    principal_tagged: int = _key(1024, "tagged requests of a principal under way; one more gets an error", 1)
    principal_streams: int = _key(
        32, "streams, and commands that run inside slivers, of a principal at a time; one more gets an error", 1
    )
    collected_bytes: int = _key(
        1 << 20, "bytes of each output of a command, or of a file, that go in a reply; past it want a stream", 1
    )
    bytes_waiting: int = _key(
        4 << 20,
        "bytes of such lines, and of input for streams, of a connection; past it the daemon stops reading it",
        1000,
    )
    principal_bytes_waiting: int = _key(16 << 20, "the same over all connections of a principal", 1000)
    unread_bytes: int = _key(1 << 20, "bytes a client has not read; past it the daemon stops reading from it", 1000)
    principal_unread_bytes: int = _key(64 << 20, "the same over all its connections; past it the worst go", 1000)
    unread_seconds: float = _key(60.0, "how long a client may read nothing while bytes wait; then it is dropped", 0.1)
    connections: int = _key(
        1024, "connections in all, besides those kept for operators; one more gets an error and the end", 1
    )
    operator_connections: int = _key(64, "more connections, kept for operators; past it they share those of all", 0)
    stranger_connections: int = _key(
        128,
        "those of all uids and certificates together that are no user's or delegate's, slivers' uids among them; "
        "one more is refused",
        1,
    )
    enrol_connections: int = _key(16, "connections of those together who come for a certificate", 1)
    principal_connections: int = _key(256, "connections of one principal; one more gets an error and the end", 1)
    sliver_connections: int = _key(1024, "connections of all slivers together through their own sockets", 1)
    own_connections: int = _key(16, "connections of one sliver through its own socket; one more is refused", 1)
    blob_bytes: int = _key(64 << 20, "bytes of blobs that a principal may have sent and not used", 0)
    project_experiments: int = _key(
        200, "experiments of a project, swapped out or not; one more gets an error, but for operators", 0
    )
    project_nodes: int = _key(20_000, "nodes of all these together; more get an error, but for operators", 0)


@frozen
class Slivers:
    """
    How slivers run.
    """

    uid_first: int = _key(200000, "first uid of the range for slivers", 1000, False)
    uid_count: int = _key(65536, "how many uids the range has; the last eighth of it is for accounts", 8, False)
    container_uid_first: int = _key(
        0x70000000, "first uid of the range for containers, of which each has 65536 on the host", 65536, False
    )
    container_uid_count: int = _key(4000 << 16, "how many uids that range has", 65536, False)
    at_once: int = _key(8, "slivers that are started, stopped or destroyed at the same time", 1, False)
    grace_days: float = _key(7.0, "days that a sliver is kept that expired or is missing from the records", 0.0)

    def __attrs_post_init__(self) -> None:
        for name in ("uid", "container_uid"):
            last = getattr(self, f"{name}_first") + getattr(self, f"{name}_count") - 1
            if last >= 2**32 - 1:
                raise BadConfig(f"{name}_count: want uids below {2**32 - 1}, the last would be {last}")


@frozen
class Network:
    """
    The network of slivers that have one of their own.
    """

    bridge: bool = _key(True, "whether slivers are given a network; without it they have only themselves", None, False)
    subnet: str = _key("10.98.0.0/16", "slivers' addresses; the first is the host's own among them", None, False)
    nat: bool = _key(False, "whether slivers may go out through this host, under its address", None, False)
    forbidden: str = _key("", "networks that slivers may not go to even then; commas between them", None, False)
    together: bool = _key(False, "whether slivers may reach each other", None, False)
    exempt: str = _key("", "networks for which net2_min and net2_max count; commas between them", None, False)
    rate_kbps: int = _key(1_000_000, "what all slivers together may send, in kbit/s", 8, False)
    dns: str = _key("", "resolvers that slivers ask; empty: the host's own", None, False)

    def __attrs_post_init__(self) -> None:
        _addresses("subnet", [self.subnet], IPv4Network)
        if IPv4Network(self.subnet).num_addresses < 8:
            raise BadConfig(f"subnet: want 8 addresses at least, got {self.subnet}")
        for name in ("forbidden", "exempt", "dns"):
            words = [word.strip() for word in getattr(self, name).split(",")]
            _addresses(name, words if any(words) else [], IPv4Address if name == "dns" else IPv4Network)


def _addresses(name: str, words: list[str], kind: type[IPv4Network] | type[IPv4Address]) -> None:
    if len(words) > 4000:
        raise BadConfig(f"{name}: want 4000 at most, got {len(words)}")
    for word in words:
        try:
            kind(word)
        except ValueError as error:
            raise BadConfig(f"{name}: {error}") from None


@frozen
class Authority:
    """
    The control authority whose records this host follows, and how far it trusts them and its own clock.
    """

    url: str = _key("", "where the records are fetched, https://HOST/PATH; empty: nowhere")
    method: str = _key("xmlrpc", "xmlrpc: by a call of GetSlivers; json: by a GET of a JSON document")
    file: str = _key("", "a file that has the records, instead of a url")
    ca_file: str = _key("", "PEM of the authorities that may certify the url's host; empty: the system's")
    auth_file: str = _key(
        "", "what is said to be let in, in a file only its owner reads: a JSON struct, for json a line"
    )
    plain_http: bool = _key(False, "whether the url may be http:// though it is not this host's own")
    node_id: int = _key(0, "the authority's number for this host; 0: any payload is ours", 0)
    hostname: str = _key("", "the authority's name for this host; empty: the host's own name")
    period_s: float = _key(600.0, "seconds between polls", 1.0)
    jitter_s: float = _key(300.0, "up to so many seconds more, at random each time", 0.0)
    backoff_s: float = _key(
        7200.0, "the most between polls while they fail, when each wait is twice the one before", 1.0
    )
    timeout_s: float = _key(60.0, "how long one answer may take", 0.1)
    payload_bytes: int = _key(32 << 20, "the longest answer", 1000)
    stale_s: float = _key(86400.0, "doctor complains if the last good payload is older", 1.0)
    kind: str = _key("container", "the kind of a sliver whose record names none")
    image: str = _key("", "the image of a container whose record names none")
    brake: float = _key(0.5, "more than this part of the slivers is not taken away at once, without force=True", 0.0)
    brake_least: int = _key(3, "that many may always expire at once", 0)
    clock_ahead_s: float = _key(
        300.0, "if the clock gains more than this on the time that passes, nothing expires", 1.0
    )
    clock_off_days: float = _key(30.0, "if it says that the host was off for longer than this, nothing expires", 0.0)
    clock_settle_s: float = _key(300.0, "nothing expires for so long after the host came up", 0.0)

    def __attrs_post_init__(self) -> None:
        if self.method not in ("xmlrpc", "json"):
            raise BadConfig(f"method: want xmlrpc or json, got {self.method!r}")
        if self.kind not in ("container", "account", "process"):
            raise BadConfig(f"kind: want container, account or process, got {self.kind!r}")
        if self.url and self.file:
            raise BadConfig("url: want url or file, got both")
        if self.brake > 1:
            raise BadConfig(f"brake: want a part from 0 to 1, got {self.brake:g}")


@frozen
class Delegates:
    """
    The accounts that are made for delegates.
    """

    uid_first: int = _key(70000, "first uid of the range for delegates", 1000, False)
    uid_count: int = _key(8192, "how many uids the range has", 1, False)
    per_user: int = _key(16, "delegates that one user may have made for its own slivers", 0)


@frozen
class Tls:
    """
    The way in through the network.
    """

    listen: str = _key("", "HOST:PORT where those with a certificate come in; empty: nowhere", None, False)
    enrol: str = _key("", "HOST:PORT where tokens are changed for certificates; empty: nowhere", None, False)
    roots_file: str = _key("", "PEM of further authorities whose certificates are believed, besides the site's own")
    crl_file: str = _key("", "PEM of the lists of what those have revoked")
    issuer: str = _key(
        "", "HOST:PORT of the host that has the site's authority, to renew from; empty: this host has it"
    )
    life_days: float = _key(90.0, "days that a certificate signed here lives, if nothing else was said", 0.01)
    handshakes: int = _key(64, "connections at a time that have not shown a certificate yet", 1)
    address_handshakes: int = _key(8, "the same from one address", 1)
    handshake_s: float = _key(10.0, "seconds that showing it may take", 0.1)

    def __attrs_post_init__(self) -> None:
        for name, port in (("listen", TLS_PORT), ("enrol", ENROL_PORT)):
            _address(name, getattr(self, name), port)


def _address(name: str, where: str, port: int) -> None:
    try:
        ip_address(split_endpoint(where, port)[0].partition("%")[0] if where else "::")
    except HostError as error:
        raise BadConfig(f"{name}: {error.message}") from None
    except ValueError:
        raise BadConfig(f"{name}: want an address of this host, such as 0.0.0.0 or [::], got {where}") from None


@frozen
class Tickets:
    """
    What signed rights to a sliver are believed.
    """

    roots_file: str = _key("", "PEM of the authorities whose signers are believed; empty: the site's own")
    crl_file: str = _key("", "PEM of the lists of what those have revoked, besides the site's own list")
    most_days: float = _key(30.0, "the longest time for which a ticket may be good", 0.01)


@frozen
class Audit:
    """
    The audit log: in the state, the old part in files.
    """

    entries: int = _key(
        100000, "entries kept in the state; when there are more, old ones that `events` has no more go to a file", 100
    )
    files: int = _key(0, "such files that are kept; 0: all", 0)


@frozen
class Images:
    """
    How images are made.
    """

    suite: str = _key("bookworm", "the release of Debian that images are made of")
    mirror: str = _key("http://deb.debian.org/debian", "where its packages are fetched, http:// or https://")
    at_once: int = _key(1, "images that are made at the same time", 1, False)
    build_s: float = _key(3600.0, "seconds after which the making of one is given up", 1.0)
    unpacked_bytes: int = _key(4 << 30, "the most that an imported image may be, unpacked", 1 << 20)
    templates: int = _key(
        4, "guests that booted once for all like them, in memory; their clones start at once. 0: none", 0, False
    )

    def __attrs_post_init__(self) -> None:
        # Both are words of a command line.
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.suite):
            raise BadConfig(f"suite: want a release such as bookworm, got {shown(self.suite)}")
        if not re.fullmatch(r"https?://[!-~]+", self.mirror):
            raise BadConfig(f"mirror: want http://HOST/PATH or https://, got {shown(self.mirror)}")


@frozen
class Experiments:
    """
    What experiments are made of, and when they are swapped out by themselves.
    """

    kind: str = _key("process", "the kind of nodes that name neither a kind nor an image")
    container_image: str = _key("", "the image of containers that name none")
    qemu_image: str = _key("", "the image of QEMU machines that name none")
    embedded: bool = _key(False, "whether this host itself may be a node, with users' start commands in its network")
    exclusive: bool = _key(False, "whether a node may keep all other experiments off this host (hostline:exclusive)")
    dns: str = _key("", "HOST:PORT where this host answers for NODE.EXPERIMENT.PROJECT; empty: nowhere", None, False)
    idle_swap: bool = _key(False, "whether experiments that nobody uses are swapped out")
    idle_look_s: float = _key(60.0, "seconds between two looks at what is done in nodes", 1.0)
    idle_s: float = _key(14400.0, "seconds without use after which that is done; a user may ask for less", 60.0)
    idle_warning_s: float = _key(1800.0, "seconds before, that the owner is warned", 0.0)
    most_s: float = _key(0.0, "seconds after which any experiment is swapped out; 0: never", 0.0)
    most_warning_s: float = _key(3600.0, "seconds before that, that the owner is warned", 0.0)
    notify: str = _key(
        "", "a program that is given each warning: EXPERIMENT OWNER WHAT as arguments, the text as input"
    )

    def __attrs_post_init__(self) -> None:
        if self.kind not in ("process", "container", "qemu"):
            raise BadConfig(f"kind: want process, container or qemu, got {self.kind!r}")


@frozen
class Emulab:
    """
    The XML-RPC of Emulab.
    """

    listen: str = _key(
        "", "HOST:PORT where it is answered, by TLS, to who has a certificate; empty: nowhere", None, False
    )

    def __attrs_post_init__(self) -> None:
        _address("listen", self.listen, CALLS_PORT)


@frozen
class History:
    """
    What is kept of the past.
    """

    events: int = _key(20000, "events that are kept", 100)
    operations_days: float = _key(7.0, "days an ended operation is kept", 0.0)
    tokens_days: float = _key(7.0, "days the reply to a token= is kept", 0.0)


@frozen
class Config:
    """
    All that can be set; C{--state} and C{--socket} are options of the command line.
    """

    operators: str = _key("hostline", "the group whose members are operators")
    limits: Limits = field(factory=Limits)
    slivers: Slivers = field(factory=Slivers)
    network: Network = field(factory=Network)
    authority: Authority = field(factory=Authority)
    images: Images = field(factory=Images)
    experiments: Experiments = field(factory=Experiments)
    emulab: Emulab = field(factory=Emulab)
    history: History = field(factory=History)
    delegates: Delegates = field(factory=Delegates)
    tls: Tls = field(factory=Tls)
    tickets: Tickets = field(factory=Tickets)
    audit: Audit = field(factory=Audit)


def read_config(path: Path | None) -> Config:
    """
    @param path: None gives the defaults.
    @raise BadConfig: if it cannot be read, is no TOML, or has an unknown or ill-typed key.
    """
    if path is None:
        return Config()
    try:
        body = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{path}: {error}") from error
    try:
        config: Config = _section(Config, body, "")
    except BadConfig as error:
        raise BadConfig(f"{path}: {error}") from None
    return config


def _section(kind: Any, body: dict[str, Any], prefix: str) -> Any:
    known = {one.name: one for one in attrs.fields(kind)}
    values = {}
    for name, value in body.items():
        if name not in known:
            raise BadConfig(f"unknown key {prefix}{name}{near(name, list(known))}; known are {', '.join(known)}")
        inner: Any = known[name].default
        if attrs.has(getattr(inner, "factory", None) or type(None)):
            if not isinstance(value, dict):
                raise BadConfig(f"{prefix}{name}: want a table, got {shown(value)}")
            value = _section(inner.factory, value, f"{prefix}{name}.")
        values[name] = value
    try:
        return kind(**values)
    except BadConfig as error:
        raise BadConfig(f"{prefix}{error}") from None


def flat(config: Any, prefix: str = "") -> dict[str, tuple[Any, attrs.Attribute[Any]]]:
    """
    Every key in full (C{limits.connections}) with its value and its declaration.
    """
    found: dict[str, tuple[Any, attrs.Attribute[Any]]] = {}
    for one in attrs.fields(type(config)):
        value = getattr(config, one.name)
        if attrs.has(type(value)):
            found |= flat(value, f"{prefix}{one.name}.")
        else:
            found[prefix + one.name] = (value, one)
    return found


def changes(old: Config, new: Config) -> tuple[dict[str, list[Any]], list[str]]:
    """
    What a reload changes.

    @return: C{[old, new]} by key, and those of the keys that want a restart.
    """
    before, after = flat(old), flat(new)
    changed = {name: [before[name][0], value] for name, (value, _) in after.items() if before[name][0] != value}
    return changed, [name for name in changed if not after[name][1].metadata["reload"]]
