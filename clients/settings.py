"""
What C{hostline} is told before its command: where the daemon is, how to print, how long to wait.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hostline.clients.client import Client

#: Exit status: the request was answered.
OK = 0
#: The reply was an error, or it could not be written.
REFUSED = 1
#: The arguments make no sense.
WRONG_USAGE = 2
#: Nobody answers there, one side does not believe the other's certificate, or the connection broke.
NO_DAEMON = 3
#: The time given is over.
DEADLINE = 124
#: Ended by Ctrl-C, as shells count it.
INTERRUPTED = 130


class Usage(Exception):
    """
    The arguments make no sense.

    @ivar usage: the usage line that would.
    """

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


class Settings:
    """
    The global options.

    @ivar format: C{raw}, C{json} or C{auto}: readable on a terminal, raw elsewhere.
    @ivar socket: the daemon's socket, if given.
    @ivar host: C{NAME[:PORT]} of the daemon's host, if given.
    @ivar trust: the directory of our certificate, if given.
    @ivar timeout: seconds for the whole request, if given.
    @ivar asked: C{help} or C{version} if that was asked for.
    """

    def __init__(self) -> None:
        self.format = "auto"
        self.socket: str | None = None
        self.host: str | None = None
        self.trust: str | None = None
        self.timeout: float | None = None
        self.asked = ""

    def take(self, words: list[str]) -> bool:
        """
        Take a global option, and its value, off the front.

        @param words: begins with C{-}.
        @return: whether there was one.
        @raise Usage: its value is missing or makes no sense.
        """
        name, equals, value = words[0].partition("=")
        if name in ("--raw", "--json", "--help", "-h", "--version") and not equals:
            if name in ("--raw", "--json"):
                self.format = name[2:]
            else:
                self.asked = "help" if name == "-h" else name[2:]
            del words[0]
            return True
        if name not in ("--socket", "--host", "--trust", "--timeout"):
            return False
        if not equals:
            if len(words) < 2:
                raise Usage(f"{name} wants a value")
            value = words.pop(1)
        del words[0]
        if name == "--timeout":
            self.timeout = seconds(value)
        else:
            if not value:
                raise Usage(f"{name} wants a value")
            setattr(self, name[2:], value)
            if self.socket and self.host:
                raise Usage("want one of --socket and --host, got both")
            if name == "--host":
                self._check_host(value)
        return True

    def _check_host(self, value: str) -> None:
        from hostline.protocol.endpoints import split_endpoint
        from hostline.protocol.errors import BadValue

        try:
            split_endpoint(value)
        except BadValue as error:
            raise Usage(f"--host: {error.message}") from None

    def take_all(self, words: list[str]) -> None:
        """
        Take what stands before the command.

        @raise Usage: if something else does.
        """
        while words and words[0].startswith("-"):
            if not self.take(words):
                raise Usage(f"no global option {words[0]}")

    def client(self) -> Client:
        """
        The daemon that was asked for.

        @raise Usage: the environment names two.
        """
        from hostline.clients.client import Client
        from hostline.protocol.errors import BadArguments

        try:
            return Client(self.socket, host=self.host, trust=self.trust)
        except BadArguments as error:
            raise Usage(error.message) from None


def seconds(text: str) -> float:
    """
    @param text: C{30}, C{2.5}, C{10m}, C{2h}, C{1d}.
    @raise Usage: if it is none of these.
    """
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:], 0)
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.replace(".", "", 1).isdigit() and len(digits) <= 12):
        raise Usage(f"want seconds such as 30, 2.5 or 10m, got {text}")
    return float(digits) * (unit or 1)
