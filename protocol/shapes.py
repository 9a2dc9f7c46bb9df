"""
The Kinds of reply bodies: which keys each dict has at least, and what their values are.
"""

from __future__ import annotations

from hostline.protocol.kinds import (
    CURSOR,
    EXPERIMENT,
    FLAG,
    FLOAT,
    FULL_NODE,
    INT,
    LITERAL,
    NODE,
    SHA256,
    STRING,
    TIME,
    TOPIC,
    Kind,
    choice,
    listing,
    mapping,
    maybe,
    record,
)
from hostline.protocol.names import shown

STRINGS = listing(STRING)

HELLO = record(
    "GREETING",
    "who answers, and who it takes the caller for",
    {
        "protocol": INT,
        "version": STRING,
        "host": STRING,
        "principal": STRING,
        "roles": STRINGS,
        "features": STRINGS,
    },
)
HELP = mapping(
    STRING,
    record("HELP", "one command", {"usage": STRING, "help": STRING, "who": STRINGS}),
    "{COMMAND: HELP}",
    "usage, help and who may call, by command",
)
PING = record("PING", "the daemon's clock", {"time": TIME})
WHOAMI = record(
    "CALLER",
    "who the daemon takes the caller for",
    {"principal": STRING, "roles": STRINGS, "uid": maybe(INT), "via": STRING},
)
HOST_STATUS = record(
    "HOST",
    "one host: what it has, what it has given, what is wrong",
    {
        "host": STRING,
        "capacity": mapping(STRING, INT, "CAPACITY", "cores, memory_bytes, disk_bytes"),
        "allocated": mapping(STRING, INT, "ALLOCATED", "slivers, running, memory_max, pids_max, cpu_min"),
        "load": mapping(STRING, FLOAT, "LOAD", "load1, load5, load15, cpu_percent, memory_used_bytes, disk_free_bytes"),
        "drivers": mapping(STRING, STRING, "DRIVERS", "version by kind"),
        "problems": STRINGS,
        "uptime": FLOAT,
        "daemon": mapping(STRING, LITERAL, "DAEMON", "pid, version, started, memory_bytes, connections, generation"),
    },
)
DOCTOR = listing(
    record(
        "FINDING",
        "one thing that doctor looked at",
        {"check": STRING, "ok": FLAG, "detail": STRING, "remedy": STRING},
    )
)
EVENT = record(
    "EVENT",
    "something that came to be",
    {"cursor": INT, "time": TIME, "topic": TOPIC, "what": STRING, "request": maybe(STRING)},
)
EVENTS = listing(EVENT)
AUDIT_ENTRY = record(
    "ENTRY",
    "who did what, by which way, and what came of it",
    {
        "cursor": CURSOR,
        "time": TIME,
        "request": maybe(STRING),
        "command": STRING,
        "principal": STRING,
        "name": STRING,
        "via": STRING,
        "uid": maybe(INT),
        "certificate": maybe(STRING),
        "client": maybe(STRING),
        "arguments": STRING,
        "options": STRING,
        "about": STRING,
        "operation": maybe(INT),
        "outcome": STRING,
        "causes": STRINGS,
        "untold": INT,
    },
)
AUDIT = record(
    "AUDIT",
    "some of the audit log, and the since= by which it goes on; None at its end",
    {"entries": listing(AUDIT_ENTRY), "next": maybe(CURSOR)},
)
WATCHING = record(
    "WATCHING",
    "where the event lines begin",
    {"cursor": CURSOR, "topics": STRINGS},
    {"missed": FLAG},
)
OPERATION_STATE = choice("STATE", "the state of an operation", "queued", "running", "done", "failed", "cancelled")
OPERATION_BODY = record(
    "OPERATION",
    "slow work with a number",
    {
        "operation": INT,
        "command": STRING,
        "target": STRING,
        "nodes": STRINGS,
        "state": OPERATION_STATE,
        "step": STRING,
        "progress": maybe(FLOAT),
        "started": TIME,
        "ended": maybe(TIME),
        "causes": STRINGS,
    },
)
OPERATIONS = listing(OPERATION_BODY)
PROJECT_BODY = record(
    "PROJECT",
    "a project",
    {"name": STRING, "serial": INT, "members": STRINGS, "quota": mapping(STRING, INT, "QUOTA", "resource to amount")},
)
PROJECTS = listing(PROJECT_BODY)
USER_BODY = record(
    "USER",
    "a user",
    {
        "name": STRING,
        "serial": INT,
        "uid": maybe(INT),
        "keys": STRINGS,
        "certificates": STRINGS,
        "operator": FLAG,
        "projects": STRINGS,
    },
)
USERS = listing(USER_BODY)
DELEGATE_BODY = record(
    "DELEGATE",
    "an account that may say some commands of some experiments and slivers",
    {
        "name": STRING,
        "serial": INT,
        "uid": INT,
        "keys": STRINGS,
        "account": FLAG,
        "commands": STRINGS,
        "slivers": STRINGS,
        "every": FLAG,
        "grantor": maybe(STRING),
        "problems": STRINGS,
    },
)
DELEGATES = listing(DELEGATE_BODY)
BLOB = record("BLOB", "a blob on its way", {"sha256": SHA256, "size": INT, "have": INT, "complete": FLAG})

BOOT = choice(
    "BOOT",
    "running: started, its inside not up; booted: up; dead: its process ended",
    "running",
    "booted",
    "dead",
)
BOOTED = maybe(BOOT)


def _pair(value: object) -> str | None:
    if type(value) is not list or len(value) != 2:
        return f"want [boot, code], got {shown(value)}"
    return BOOTED.fits(value[0]) or maybe(INT).fits(value[1])


STATUS = mapping(
    STRING,
    mapping(STRING, Kind("[BOOT, CODE]", "boot and exit status", _pair), "NODES", "status by node"),
    "{HYPERVISOR: {NODE: [BOOT, CODE]}}",
    "the status of every placed node, by hypervisor",
)
INTERFACE = record(
    "INTERFACE",
    "one end of a link",
    {"name": STRING, "link": STRING, "ip4": maybe(STRING), "netmask": maybe(STRING), "mac": maybe(STRING)},
)
NODE_BODY = record(
    "NODE",
    "one node of an experiment",
    {
        "node": NODE,
        "experiment": STRING,
        "project": STRING,
        "name": FULL_NODE,
        "pnode": maybe(STRING),
        "host": maybe(STRING),
        "kind": STRING,
        "image": maybe(STRING),
        "boot": BOOTED,
        "code": maybe(INT),
        "start_command": choice("START", "the start command's state", "none", "running", "ended"),
        "address": maybe(STRING),
        "interfaces": listing(INTERFACE),
        "extra": FLAG,
        "problems": STRINGS,
    },
    {"start_code": maybe(INT), "boots": INT, "pid": maybe(INT)},
)
NODES = listing(NODE_BODY)
LINK = record(
    "LINK",
    "one link or LAN",
    {
        "link": STRING,
        "kind": choice("KIND", "link or lan", "link", "lan"),
        "members": STRINGS,
        "rate_kbps": maybe(FLOAT),
        "delay_ms": maybe(FLOAT),
        "loss": maybe(FLOAT),
        "by": maybe(STRING),
    },
    {"changes": mapping(STRING, mapping(STRING, FLOAT, "CHANGES", "value by name"), "SOURCES", "changes by sender")},
)
STATE = choice(
    "STATE",
    "the state of an experiment",
    "new",
    "swapped",
    "activating",
    "active",
    "swapping",
    "modifying",
    "terminating",
    "failed",
)
EXPERIMENT_BODY = record(
    "EXPERIMENT",
    "one experiment",
    {
        "name": EXPERIMENT,
        "project": STRING,
        "experiment": STRING,
        "serial": INT,
        "owner": STRING,
        "state": STATE,
        "reason": STRING,
        "nodes": mapping(STRING, NODE_BODY, "NODES", "node by name"),
        "links": mapping(STRING, LINK, "LINKS", "link by name"),
        "pnodes": mapping(STRING, STRING, "PNODES", "host by pnode"),
        "created": TIME,
        "swapped_in": maybe(TIME),
        "warnings": STRINGS,
    },
)
EXPERIMENTS = listing(EXPERIMENT_BODY)
HOST_OFFERED = record(
    "HOST",
    "a host that nodes could go to; what is left out is not limited",
    {"name": STRING},
    {"cores": INT, "memory_bytes": INT, "interfaces": INT, "kinds": STRINGS, "type": STRING},
)
FOUND = record("REMARK", "a remark on a topology", {"line": INT, "text": STRING})
PLAN = record(
    "PLAN",
    "what a topology says, and where its nodes would go",
    {
        "nodes": listing(LITERAL),
        "links": listing(LINK),
        "placement": mapping(STRING, STRING, "PLACEMENT", "hypervisor by node"),
        "warnings": listing(FOUND),
        "errors": listing(FOUND),
    },
    {"pnodes": mapping(STRING, STRING, "PNODES", "host by pnode")},
)
MODIFIED = record(
    "MODIFIED",
    "what became of each node",
    {"added": STRINGS, "removed": STRINGS, "changed": STRINGS, "kept": STRINGS},
)
TOPOLOGY = record("TOPOLOGY", "the topology as it is kept", {"format": STRING, "text": STRING})
LOGS = record(
    "LOGS",
    "the end of what a sliver wrote, by log; no log of a stream, whose data lines had it",
    {},
    {"log": STRING, "out": STRING, "err": STRING, "initscript": STRING, "console": STRING},
)
EXECUTED = record(
    "EXECUTED",
    "how a command ended: 128+signal if killed, None if nobody knows; and what it wrote, of a stream nothing",
    {"exit": maybe(INT), "out": STRING, "err": STRING},
    {"cut": FLAG},
)
PUSHED = record("PUSHED", "a file that was written", {"path": STRING, "size": INT, "sha256": SHA256})
PULLED = record("PULLED", "a file that was read", {"path": STRING, "size": INT, "sha256": SHA256}, {"base64": STRING})

AMOUNTS = mapping(STRING, INT, "RESOURCES", "amount by resource")
LOAN_BODY = record(
    "LOAN",
    "what one sliver lends another",
    {
        "lender": STRING,
        "recipient": STRING,
        "resource": STRING,
        "amount": INT,
        "until": maybe(TIME),
        "accepted": FLAG,
        "reason": STRING,
    },
)
LOANS = listing(LOAN_BODY)
SLIVER_STATE = choice(
    "STATE",
    "the state of a sliver",
    "absent",
    "creating",
    "stopped",
    "starting",
    "running",
    "stopping",
    "destroying",
    "failed",
    "doomed",
)
SLIVER_BODY = record(
    "SLIVER",
    "one sliver",
    {
        "name": STRING,
        "serial": INT,
        "kind": STRING,
        "parent": maybe(STRING),
        "owner": STRING,
        "users": STRINGS,
        "host": STRING,
        "image": maybe(STRING),
        "state": SLIVER_STATE,
        "boot": BOOTED,
        "code": maybe(INT),
        "start_command": choice("START", "the start command's state", "none", "running", "ended"),
        "start_code": maybe(INT),
        "boots": INT,
        "builds": INT,
        "initscript": choice("START", "the initscript's state", "none", "running", "ended"),
        "initscript_code": maybe(INT),
        "rspec": AMOUNTS,
        "effective": AMOUNTS,
        "loans": LOANS,
        "expires": maybe(TIME),
        "doomed_until": maybe(TIME),
        "created": TIME,
        "address": maybe(STRING),
        "instantiation": STRING,
        "problems": STRINGS,
    },
    {"in_force": AMOUNTS, "pid": maybe(INT)},
)
SLIVERS = listing(SLIVER_BODY)

IMAGE_BODY = record(
    "IMAGE",
    "what slivers are made from",
    {
        "name": STRING,
        "serial": INT,
        "kind": STRING,
        "state": choice("STATE", "the state of an image", "building", "ready", "failed"),
        "step": STRING,
        "progress": maybe(FLOAT),
        "sha256": maybe(SHA256),
        "size": INT,
        "created": TIME,
        "ready": STRING,
        "base": STRING,
        "packages": STRINGS,
        "command": STRINGS,
        "environment": mapping(STRING, STRING, "ENVIRONMENT", "value by name"),
        "directory": STRING,
        "slivers": INT,
        "problems": STRINGS,
    },
)
IMAGES = listing(IMAGE_BODY)
