"""
The files of a directory of trust: the same names everywhere, for hosts and for people.
"""

from __future__ import annotations

#: The site's authority; our own certificate, then what is between it and the authority; its key; and what is revoked,
#: signed by the site's authority.
CA, CERTIFICATE, KEY, CRL = "ca.pem", "cert.pem", "key.pem", "crl.pem"
#: The authority's own key, on the host that has it.
CA_KEY = "ca.key"
#: What a new key is called until its certificate is in place.
NEXT_KEY = "key.pem.next"
#: What C{hostline-pki} calls a key that it made, until a certificate for it has come.
NEW_KEY = "key.pem.new"
#: Where certificates are renewed, C{HOST:PORT}; there after C{hostline ca enrol}.
ISSUER = "issuer"
#: Longest file that is read, in bytes: a list of some hundred thousand revoked certificates.
LONGEST = 16 << 20
