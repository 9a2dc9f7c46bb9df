"""
As much of certificates, and of lists of revoked ones, as can be known without the package cryptography: of those that
we were given by who we believe, or that TLS has verified. Nothing here checks a signature.
"""

from __future__ import annotations

from binascii import a2b_base64

#: Universal tags of DER (X.690).
_INTEGER, _SEQUENCE, _UTC_TIME, _TIME, _EXPLICIT_0 = 0x02, 0x30, 0x17, 0x18, 0xA0


class Unreadable(ValueError):
    """It is no certificate, or no list of them."""


class Certificate:
    """
    A certificate.

    @ivar number: its serial number, as it is encoded.
    @ivar issuer: the name of who signed it, as it is encoded.
    @ivar begins: Unix seconds from which it is good, and C{ends} those to which it is.
    """

    def __init__(self, der: bytes) -> None:
        """
        @raise Unreadable: if it is none.
        """
        inner = _Reader(_Reader(der).take(_SEQUENCE)).inner()
        if inner.tag() == _EXPLICIT_0:
            inner.take(_EXPLICIT_0)  # the version
        self.number = inner.take(_INTEGER)
        inner.take(_SEQUENCE)  # the algorithm
        self.issuer = inner.take(_SEQUENCE)
        validity = inner.inner()
        self.begins, self.ends = validity.time(), validity.time()

    @property
    def renew_at(self) -> float:
        """
        Two thirds of its life, in Unix seconds.
        """
        return self.begins + (self.ends - self.begins) * 2 / 3


def blocks(pem: bytes, label: bytes) -> list[bytes]:
    """
    @param label: C{CERTIFICATE} or C{X509 CRL}.
    @return: what stands in a PEM under a label, as DER.
    @raise Unreadable: if one is not whole.
    """
    found = []
    begin, end = b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----"
    for part in pem.split(begin)[1:]:
        body, mark, _ = part.partition(end)
        try:
            found.append(a2b_base64(b"".join(body.split()), strict_mode=True))
        except ValueError:
            mark = b""
        if not mark:
            raise Unreadable(f"want PEM of a {label.decode().lower()}")
    return found


def first(pem: bytes) -> Certificate:
    """
    @return: the first certificate of a PEM.
    @raise Unreadable: if there is none.
    """
    found = blocks(pem, b"CERTIFICATE")
    if not found:
        raise Unreadable("want a certificate in PEM, there is none")
    return Certificate(found[0])


def revoked(certificate: Certificate, crl: bytes) -> bool:
    """
    @param crl: PEM of lists of revoked certificates, however old: what was taken back stays so.
    @raise Unreadable: if it is none.
    """
    # A list may have a hundred thousand numbers: taken apart only if this one seems to be there.
    return any(certificate.number in der and _listed(certificate, der) for der in blocks(crl, b"X509 CRL"))


def _listed(certificate: Certificate, der: bytes) -> bool:
    inner = _Reader(_Reader(der).take(_SEQUENCE)).inner()
    if inner.tag() == _INTEGER:
        inner.take(_INTEGER)  # the version
    inner.take(_SEQUENCE)  # the algorithm
    if inner.take(_SEQUENCE) != certificate.issuer:
        return False
    inner.time()
    if inner.tag() in (_UTC_TIME, _TIME):
        inner.time()
    entries = inner.inner() if inner.tag() == _SEQUENCE else _Reader(b"")
    while entries.tag() is not None:
        if entries.inner().take(_INTEGER) == certificate.number:
            return True
    return False


class _Reader:
    """
    What is encoded one after the other.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def tag(self) -> int | None:
        return self._data[self._at] if self._at < len(self._data) else None

    def take(self, tag: int) -> bytes:
        data, at = self._data, self._at
        if self.tag() != tag or at + 1 >= len(data):
            raise Unreadable("it is not encoded as it should be")
        size, start = data[at + 1], at + 2
        if size & 0x80:
            digits = size & 0x7F
            start += digits
            if not 0 < digits <= 4:
                raise Unreadable("it is not encoded as it should be")
            size = int.from_bytes(data[at + 2 : start], "big")
        self._at = start + size
        if self._at > len(data):
            raise Unreadable("it is cut off")
        return data[start : self._at]

    def inner(self) -> _Reader:
        return _Reader(self.take(_SEQUENCE))

    def time(self) -> float:
        """
        RFC 5280, 4.1.2.5: always UTC, with seconds; years of two digits are those from 1950 to 2049.
        """
        from calendar import timegm

        tag = self.tag()
        text = self.take(tag if tag in (_UTC_TIME, _TIME) else _TIME).decode("ascii", "replace")
        if tag == _UTC_TIME:
            text = ("20" if text[:2] < "50" else "19") + text
        if len(text) != 15 or text[14] != "Z" or not (text[:14].isascii() and text[:14].isdigit()):
            raise Unreadable("a time is not as it should be")
        parts = [int(text[:4])] + [int(text[at : at + 2]) for at in range(4, 14, 2)]
        if not (1 <= parts[1] <= 12 and 1 <= parts[2] <= 31):
            raise Unreadable("a time is not as it should be")
        return float(timegm((*parts, 0, 0, 0)))
