"""
The rows of the site's certificate authority.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol import kinds
from hostline.protocol.command import ANYONE, FOR_ANYONE, FOR_OPERATORS, STRANGER, Command
from hostline.protocol.kinds import INT, SECONDS, STRING, TIME, WHEN, Kind, choice, listing, record, several
from hostline.protocol.names import shown
from hostline.protocol.shapes import STRINGS

#: Longest request for a certificate, in characters.
LONGEST_REQUEST = 16384
#: Most names of one certificate.
MOST_NAMES = 16


def _secret(value: Any) -> str | None:
    # What was got wrong is not said back: it may be right but for a letter.
    good = type(value) is str and 0 < len(value) <= 100 and value.isascii() and value.isprintable()
    return None if good and not set(value) & set(" .") else "want what stands before the dot in a token"


def _request(value: Any) -> str | None:
    if type(value) is not str:
        return f"want text, got {shown(value)}"
    if len(value) > LONGEST_REQUEST:
        return f"want at most {LONGEST_REQUEST} characters, got {len(value)}"
    return None if value.isascii() else "want a request for a certificate in PEM"


def _names(value: Any) -> str | None:
    wrong = _NAMES.fits(value)
    if wrong or 1 <= len(value) <= MOST_NAMES:
        return wrong
    return f"want 1 to {MOST_NAMES} names, got {len(value)}"


_NAMES = several(kinds.CERTIFICATE_NAME)
NAMES = Kind(
    "[NAME, ..]",
    f"1 to {MOST_NAMES} names for a certificate: DNS names such as host.example.org, URNs such as urn:site:user:ann",
    _names,
    lambda text: [text],
)
SECRET = Kind("SECRET", "what stands before the dot in a token", _secret)
REQUEST = Kind("REQUEST", f"a request for a certificate (PKCS #10), PEM of at most {LONGEST_REQUEST} bytes", _request)
PURPOSE = choice("PURPOSE", "what a certificate is for: a host, a user, or signing tickets", "host", "user", "ticket")

AUTHORITY_BODY = record(
    "AUTHORITY",
    "a certificate authority; the fingerprint is the SHA-256 of its certificate's DER, in hexadecimal",
    {"fingerprint": STRING, "names": STRINGS, "until": TIME},
)
TOKEN_BODY = record(
    "TOKEN",
    "a token that gets one certificate, once: SECRET.FINGERPRINT; it is told here and nowhere else",
    {"token": STRING, "names": STRINGS, "purpose": PURPOSE, "expires": TIME, "fingerprint": STRING},
)
CA_BODY = record(
    "CA",
    "the authority's own certificate, PEM, and its fingerprint",
    {"certificate": STRING, "fingerprint": STRING},
)
SIGNED_BODY = record(
    "SIGNED",
    "a new certificate with its chain, its authority's and the list of what is revoked, each in PEM; its number",
    {"certificate": STRING, "ca": STRING, "crl": STRING, "number": STRING, "until": TIME},
)
CRL_BODY = record("CRL", "the list of what is revoked, PEM", {"crl": STRING})
REVOKED_BODY = record(
    "REVOKED",
    "the numbers of the certificates that are revoked, and how many tokens were withdrawn",
    {"revoked": STRINGS, "withdrawn": INT},
)
CERTIFICATE_BODY = record(
    "CERTIFICATE",
    "a certificate that was signed here; revoked: since when, 0 if it is not; renews: the number of the one before it",
    {
        "number": STRING,
        "names": STRINGS,
        "purpose": PURPOSE,
        "issued": TIME,
        "until": TIME,
        "revoked": TIME,
        "renews": STRING,
    },
)

_ANYBODY = frozenset({ANYONE, STRANGER})
_NUMBER_OR_NAME = Kind(
    "NUMBER_OR_NAME", "the number of a certificate in hexadecimal, or a name in certificates", kinds.WORD.fits
)

ROWS: tuple[Command, ...] = (
    Command(
        "ca_init",
        (),
        AUTHORITY_BODY,
        FOR_OPERATORS,
        "Make the site's certificate authority on this host, with a certificate of this host's own for names=; life= "
        "is the authority's.",
        options=(("names", NAMES, None), ("life", SECONDS, 315360000.0)),
        changes=True,
        once=True,
    ),
    Command(
        "ca_token",
        (("names", NAMES),),
        TOKEN_BODY,
        FOR_OPERATORS,
        "Invite whoever says the token to get one certificate of these names, once.",
        options=(("purpose", PURPOSE, None), ("expires", WHEN, "+1h"), ("life", SECONDS, None)),
        changes=True,
        once=True,
    ),
    Command(
        "ca_certificate",
        (),
        CA_BODY,
        _ANYBODY,
        "The certificate of the site's authority, to be compared with the fingerprint in a token.",
    ),
    Command(
        "ca_enrol",
        (("secret", SECRET), ("request", REQUEST)),
        SIGNED_BODY,
        _ANYBODY,
        "Change a token for a certificate; its names are those that the token was made for.",
        changes=True,
        once=True,
        secret=("secret",),
    ),
    Command(
        "ca_renew",
        (("request", REQUEST),),
        SIGNED_BODY,
        FOR_ANYONE,
        "Get a new certificate of the same names, by the one with which the caller has come.",
        changes=True,
        once=True,
    ),
    Command(
        "ca_revoke",
        (("certificate", _NUMBER_OR_NAME),),
        REVOKED_BODY,
        FOR_OPERATORS,
        "Revoke a certificate with all that it was renewed to, or all of a name with the tokens for it; connections "
        "that came by one are cut. "
        "unknown=True: a number that is not on record, too.",
        options=(("unknown", kinds.FLAG, False),),
        changes=True,
        once=True,
        frees=True,
    ),
    Command("ca_revoked", (), CRL_BODY, _ANYBODY, "The list of what the site's authority has revoked."),
    Command(
        "certificates",
        (),
        listing(CERTIFICATE_BODY),
        FOR_OPERATORS,
        "All certificates that were signed here, the newest last.",
    ),
)
