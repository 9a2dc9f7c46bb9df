"""
What can go wrong, as classes with fixed codes: the server raises one, the client raises the same one again.

People and programs match on C{code}, never on the message. What is unreachable, dead, late or unknown is data in a
reply and has no class here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # short-lived clients spare the import
    from typing import Any


class HostError(Exception):
    """
    A request was refused or failed; the message says what was wanted.

    @cvar code: the fixed word on the wire; an error from a newer daemon, whose class is not known here, has its own.
    @ivar details: further keys of the C{error_reply}, such as C{operation} and C{causes}.
    """

    code = "ERROR"

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def body(self, command: str = "") -> dict[str, Any]:
        """
        @return: the body of the C{error_reply}: code, message, command, and the details.
        """
        return {"code": self.code, "message": self.message, "command": command, **self.details}


class UnknownCommand(HostError):
    """No command has this name."""

    code = "UNKNOWN_COMMAND"


class BadArguments(HostError):
    """Too few or too many arguments, or an option twice."""

    code = "BAD_ARGUMENTS"


class UnknownOption(HostError):
    """The command has no such option."""

    code = "UNKNOWN_OPTION"


class BadValue(HostError):
    """An argument is not what its Kind wants."""

    code = "BAD_VALUE"


class BadLiteral(HostError):
    """A Python literal cannot be read, or is deeper, longer or larger than the bounds."""

    code = "BAD_LITERAL"


class BadLine(HostError):
    """A line is not UTF-8 text ended by a newline."""

    code = "BAD_LINE"


class LineTooLong(HostError):
    """A line is longer than the limit; it was skipped to its end."""

    code = "LINE_TOO_LONG"


class Denied(HostError):
    """The caller sees the target but may not do this to it."""

    code = "DENIED"


class NoSuchProject(HostError):
    """No such project, as far as the caller may know."""

    code = "NO_SUCH_PROJECT"


class NoSuchUser(HostError):
    """No such user."""

    code = "NO_SUCH_USER"


class NoSuchDelegate(HostError):
    """No such delegate."""

    code = "NO_SUCH_DELEGATE"


class NoSuchExperiment(HostError):
    """No such experiment, as far as the caller may know."""

    code = "NO_SUCH_EXPERIMENT"


class NoSuchNode(HostError):
    """The experiment has no such node."""

    code = "NO_SUCH_NODE"


class NoSuchSliver(HostError):
    """No such sliver, or the caller may not know of it."""

    code = "NO_SUCH_SLIVER"


class NoSuchImage(HostError):
    """No such image on this host."""

    code = "NO_SUCH_IMAGE"


class NoSuchStream(HostError):
    """No stream is open under the tag of a C{data} line."""

    code = "NO_SUCH_STREAM"


class NoSuchOperation(HostError):
    """No such operation, as far as the caller may know."""

    code = "NO_SUCH_OPERATION"


class NoSuchBlob(HostError):
    """The caller has not sent this blob, or not all of it."""

    code = "NO_SUCH_BLOB"


class NoSuchCertificate(HostError):
    """No certificate and no token has this number or name."""

    code = "NO_SUCH_CERTIFICATE"


class NoSuchTopic(HostError):
    """Nothing that the caller may see has this topic."""

    code = "NO_SUCH_TOPIC"


class Exists(HostError):
    """The name is taken."""

    code = "EXISTS"


class WrongState(HostError):
    """The target is not in a state that allows this."""

    code = "WRONG_STATE"


class BadTopology(HostError):
    """The topology has errors; C{errors} in the body lists them with their lines."""

    code = "BAD_TOPOLOGY"


class BadPayload(HostError):
    """The records of the control authority cannot be taken over; nothing was changed."""

    code = "BAD_PAYLOAD"


class BadTicket(HostError):
    """The ticket is not taken, and nothing was changed; C{reason} in the body is one word that says why."""

    code = "BAD_TICKET"


class Held(HostError):
    """It would take away more than the brake allows; nothing was taken away."""

    code = "HELD"


class NoRoom(HostError):
    """The host cannot promise that much besides what it has promised."""

    code = "NO_ROOM"


class TokenReused(HostError):
    """The token was used before with another request."""

    code = "TOKEN_REUSED"


class Timeout(HostError):
    """What was waited for has not come in the time given."""

    code = "TIMEOUT"


class OperationFailed(HostError):
    """Slow work failed; C{operation} and C{causes} are in the body."""

    code = "FAILED"


class Cancelled(HostError):
    """Slow work was cancelled, by request or by a newer intent."""

    code = "CANCELLED"


class TooMany(HostError):
    """A limit on connections, waiting lines, blobs or records was reached."""

    code = "TOO_MANY"


class StoreFailed(HostError):
    """The change could not be made durable, so it was not made."""

    code = "STORE_FAILED"


class Internal(HostError):
    """A bug of ours; the daemon's log has it under the request id."""

    code = "INTERNAL"


class NoDaemon(HostError):
    """Nobody answers at the socket, or the connection broke (said by clients only)."""

    code = "NO_DAEMON"


_CLASSES: list[type[HostError]] = [HostError, *HostError.__subclasses__()]
#: Class by code.
ERRORS: dict[str, type[HostError]] = {one.code: one for one in _CLASSES}


def raised_again(body: object) -> HostError:
    """
    The error that an C{error_reply} tells of, for a client to raise; whatever the body is, some error comes out.

    @param body: the body of the reply; an unknown code gives a plain L{HostError} that carries it.
    """
    if not isinstance(body, dict):
        return HostError(f"want a dict in an error_reply, got {type(body).__name__}")
    details = {str(key): value for key, value in body.items() if key not in ("code", "message")}
    details.setdefault("command", "")
    code = body.get("code")
    if not isinstance(code, str):
        code = HostError.code
    error = ERRORS.get(code, HostError)(str(body.get("message", "")), **details)
    error.code = code
    return error
