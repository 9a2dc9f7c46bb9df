"""
Where a host is reached through the network: C{NAME[:PORT]}, and the port it is if none is said.
"""

from __future__ import annotations

from hostline.protocol.errors import BadValue
from hostline.protocol.names import shown

#: Where those with a certificate come in, and where tokens are changed for certificates.
TLS_PORT, ENROL_PORT = 6446, 6447
#: That of the XML-RPC of Emulab, as on its own hosts.
CALLS_PORT = 3069
#: Longest name of a host (RFC 1035, 2.3.4).
LONGEST_HOST = 253


def split_endpoint(text: str, port: int = TLS_PORT) -> tuple[str, int]:
    """
    @param text: C{host.example.org}, C{host.example.org:6446}, C{192.0.2.7}, C{[2001:db8::7]:6446} or C{2001:db8::7}.
    @param port: the one that it is if none is said.
    @return: the name or address of the host, and its port.
    @raise BadValue: if it is none of these.
    """
    if text.startswith("["):
        host, bracket, digits = text[1:].partition("]")
        good = bool(bracket) and (not digits or digits[0] == ":")
        said, digits = bool(digits), digits[1:]
    elif text.count(":") > 1:
        host, said, digits, good = text, False, "", True
    else:
        host, colon, digits = text.partition(":")
        said, good = bool(colon), True
    if said:
        good = good and digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65536
        port = int(digits) if good else 0
    if not (good and 0 < len(host) <= LONGEST_HOST and _plain(host)):
        raise BadValue(f"want HOST or HOST:PORT, such as host.example.org:{TLS_PORT}, got {shown(text)}")
    return host, port


def endpoint(host: str, port: int) -> str:
    """
    The opposite: C{host.example.org:6446}, C{[2001:db8::7]:6446}.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _plain(host: str) -> bool:
    return host[0] != "-" and all(one.isalnum() or one in "-._:%" for one in host)
