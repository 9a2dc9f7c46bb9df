"""
The rows of the host, its events, operations and blobs.
"""

from __future__ import annotations

from hostline.protocol import kinds, shapes
from hostline.protocol.command import FOR_ANYONE, FOR_OPERATORS, FOR_OWNERS, FOR_SLIVERS_TOO, FOR_USERS, Command
from hostline.protocol.kinds import SECONDS

_NUMBER = (("number", kinds.OPERATION),)

ROWS: tuple[Command, ...] = (
    Command(
        "hello",
        (),
        shapes.HELLO,
        FOR_SLIVERS_TOO,
        "Greet: who answers, whom it takes the caller for; format=json makes the bodies of this connection JSON.",
        options=(("format", kinds.FORMAT, None), ("client", kinds.WORD, None)),
    ),
    Command(
        "help",
        (("command", kinds.WORD),),
        shapes.HELP,
        FOR_SLIVERS_TOO,
        "Usage, help and who may call, of one command or of all.",
        optional=1,
    ),
    Command("ping", (), shapes.PING, FOR_SLIVERS_TOO, "The daemon's clock."),
    Command(
        "whoami", (), shapes.WHOAMI, FOR_SLIVERS_TOO, "Whom the daemon takes the caller for, and by which way it came."
    ),
    Command(
        "host_status",
        (),
        shapes.HOST_STATUS,
        FOR_ANYONE,
        "Capacity, what is allocated, load, drivers, problems and uptime of this host.",
    ),
    Command(
        "doctor",
        (),
        shapes.DOCTOR,
        FOR_OPERATORS,
        "Check everything the daemon stands on; each finding has its remedy.",
    ),
    Command(
        "watch",
        (("topics", kinds.TOPIC),),
        shapes.WATCHING,
        FOR_SLIVERS_TOO,
        "Turn on event lines for these topics, from now or from since=.",
        options=(("since", kinds.CURSOR, None),),
        rest=True,
    ),
    Command(
        "unwatch",
        (("topics", kinds.TOPIC),),
        shapes.WATCHING,
        FOR_SLIVERS_TOO,
        "Turn off event lines, of these topics or of all.",
        optional=1,
        rest=True,
    ),
    Command(
        "events",
        (),
        shapes.EVENTS,
        FOR_SLIVERS_TOO,
        "The kept events after since= that the caller may see, oldest first.",
        options=(
            ("since", kinds.CURSOR, 0),
            ("limit", kinds.number("N", "how many at most", 1, 10000), 1000),
            ("topic", kinds.TOPIC, "all"),
        ),
    ),
    Command(
        "audit",
        (),
        shapes.AUDIT,
        FOR_OPERATORS,
        "The audit log after since=, oldest first, of one principal or command if wanted; next= goes on.",
        options=(
            ("since", kinds.CURSOR, 0),
            ("limit", kinds.number("N", "how many at most", 1, 1000), 100),
            ("principal", kinds.WORD, None),
            ("command", kinds.WORD, None),
        ),
    ),
    Command(
        "operations",
        (),
        shapes.OPERATIONS,
        FOR_ANYONE,
        "The operations after since= that the caller may see, newest first.",
        options=(
            ("since", kinds.number("N", "an operation's number", 0, 2**62), 0),
            ("limit", kinds.number("N", "how many at most", 1, 10000), 1000),
        ),
    ),
    Command(
        "operation",
        _NUMBER,
        shapes.OPERATION_BODY,
        FOR_OWNERS,
        "One operation as it stands.",
        target="operation",
    ),
    Command(
        "wait",
        _NUMBER,
        shapes.OPERATION_BODY,
        FOR_OWNERS,
        "Wait until the operation has ended or timeout= is over; its state tells which.",
        options=(("timeout", SECONDS, 30.0),),
        target="operation",
    ),
    Command(
        "cancel",
        _NUMBER,
        shapes.OPERATION_BODY,
        FOR_OWNERS,
        "Cancel an operation: what it has not reached stays as it was; a swap-in is swapped out again.",
        target="operation",
        changes=True,
        frees=True,
    ),
    Command(
        "blob",
        (("sha256", kinds.SHA256), ("size", kinds.COUNT), ("offset", kinds.COUNT), ("bytes", kinds.BASE64)),
        shapes.BLOB,
        FOR_USERS,
        "Send a piece of something big; once complete, blob:SHA256 stands wherever a TEXT is wanted.",
    ),
)
