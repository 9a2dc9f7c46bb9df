"""
What is read in certificates, good ones and those that somebody made to be taken for another.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import Denied
from hostline.protocol.names import certificate_name
from hostline.server.trust.peer import names_in, read_chain, why_not
from hostline.server.trust.revoked import Revoked, read_lists
from tests.certificates import CLIENT, CODE_SIGNING, EMAIL, SERVER, Authority, Signed


class NamesTests(SynchronousTestCase):
    """
    One authority signs what it is asked to.
    """

    authority = Authority()

    def names(self, *names: str | x509.GeneralName, **options: str) -> tuple[str, ...]:
        return names_in(self.authority.sign(*names, **options).certificate)  # type: ignore[arg-type]

    def test_dnsNamesAndUrns(self) -> None:
        """
        Both are names, written as people write them for users; each counts once.
        """
        found = self.names("Host.Example", "urn:Site:user:Ann", "host.example", "b.example")
        self.assertEqual(found, ("dns:host.example", "dns:b.example", "urn:site:user:Ann"))

    def test_othersCountForNothing(self) -> None:
        """
        Wildcards, addresses, mail, other URIs and names of other kinds are nobody's.
        """
        found = self.names(
            "*.example",
            "https://host.example/urn:site:user:ann",
            x509.IPAddress(IPv4Address("192.0.2.7")),
            x509.RFC822Name("ann@site.example"),
            x509.RegisteredID(ObjectIdentifier("1.2.3.4")),
            x509.DirectoryName(x509.Name([])),
            "good.example",
        )
        self.assertEqual(found, ("dns:good.example",))

    def test_oneKindIsNotTakenForTheOther(self) -> None:
        """
        A DNS name that looks like a URN is none, and a URI that looks like a DNS name of ours is none.
        """
        found = self.names(
            x509.DNSName("urn:site:user:ann"),
            x509.DNSName("dns:ann.example"),
            x509.UniformResourceIdentifier("dns:ann.example"),
            x509.UniformResourceIdentifier("ann.example"),
        )
        self.assertEqual(found, ())

    def test_trickyDnsNames(self) -> None:
        """
        What other programs cut off, or read in another way, is not read at all.
        """
        found = self.names(
            x509.DNSName("ann.example\0.evil.example"),
            x509.DNSName("ann.example."),
            x509.DNSName("192.0.2.7"),
            x509.DNSName("-ann.example"),
            x509.DNSName("a" * 64 + ".example"),
            x509.DNSName(" "),
            x509.DNSName(" ann.example"),
            x509.DNSName("ann.example\n"),
            x509.DNSName(""),
        )
        self.assertEqual(found, ())

    def test_theSubjectIsNoName(self) -> None:
        """
        In the CN anything may stand.
        """
        self.assertEqual(self.names(common_name="ann.example"), ())

    @given(st.lists(st.text(st.characters(codec="ascii"), max_size=40), min_size=1, max_size=5))
    def test_whateverStandsThere(self, texts: list[str]) -> None:
        """
        Each name that is found is one that a user could be given.
        """
        general: list[x509.GeneralName] = [x509.DNSName(one) for one in texts]
        general += [x509.UniformResourceIdentifier(one) for one in texts]
        general += [x509.UniformResourceIdentifier("urn:" + one) for one in texts]
        for one in self.names(*general):
            self.assertEqual(certificate_name(one), one)
            self.assertTrue(one.startswith(("dns:", "urn:")), one)


class ChainTests(SynchronousTestCase):
    """
    What follows from a whole chain.
    """

    root = Authority("root")
    between = Authority("between", root, ends_s=1000)
    good = between.sign("ann.example", "urn:a:b").der

    def chain(self, signed: Signed) -> list[bytes]:
        return [signed.der, self.between.der, self.root.der]

    def denied(self, chain: list[bytes]) -> str:
        return str(self.assertRaises(Denied, read_chain, chain).message)

    def test_all(self) -> None:
        """
        Its names, its number in the way in which the authority keeps it, and its end: that of the first that ends.
        """
        signed = self.between.sign("ann.example", number=0xABC)
        shown = read_chain(self.chain(signed))
        self.assertEqual((shown.names, shown.number), (("dns:ann.example",), "abc"))
        self.assertEqual(shown.until, self.between.certificate.not_valid_after_utc.timestamp())
        self.assertEqual(shown.chain, (("CN=between", 0xABC), ("CN=root", self.between.certificate.serial_number)))

    def test_alone(self) -> None:
        """
        Where nobody tells what is above it, the certificate itself is still looked at.
        """
        shown = read_chain([self.between.sign("ann.example", number=7).der])
        self.assertEqual((shown.chain, shown.root), ((("CN=between", 7),), b""))

    def test_purposes(self) -> None:
        """
        One that is for something else is refused with the reason; one for several things, or for any, is not.
        """
        for purposes in ([CODE_SIGNING], [EMAIL], [SERVER]):
            self.assertIn("purpose", self.denied(self.chain(self.between.sign("ann.example", purposes=purposes))))
        for good in ([CLIENT], [SERVER, CLIENT], None):
            read_chain(self.chain(self.between.sign("ann.example", purposes=good)))

    def test_names(self) -> None:
        """
        None, and too many, are refused.
        """
        self.assertIn("no name", self.denied(self.chain(self.between.sign())))
        many = self.between.sign(*[f"h{one}.example" for one in range(33)])
        self.assertIn("at most 32", self.denied(self.chain(many)))

    def test_unreadable(self) -> None:
        """
        What cannot be read is refused like the others, wherever it breaks.
        """
        good = self.between.sign("ann.example").der
        for bad in (b"", b"\x30", good[:-1], good[:100], good.replace(b"ann.example", b"\xffnn.example")):
            self.assertIn("cannot be read", self.denied([bad]))
        self.assertIn("cannot be read", self.denied([]))

    @given(st.data())
    def test_altered(self, data: st.DataObject) -> None:
        """
        Whatever bytes are changed, it is read or refused, and nothing else happens.
        """
        der = bytearray(self.good)
        for _ in range(data.draw(st.integers(1, 4))):
            der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
        try:
            shown = read_chain([bytes(der)])
        except Denied:
            return
        for one in shown.names:
            self.assertEqual(certificate_name(one), one)

    def test_whyNot(self) -> None:
        """
        What is revoked, or has expired, is not believed; nor what hangs on something revoked.
        """
        signed = self.between.sign("ann.example")
        shown = read_chain(self.chain(signed))
        now = shown.until - 1
        self.assertIsNone(why_not(shown, Revoked(), now))
        self.assertEqual(why_not(shown, Revoked(), now + 1), "the certificate has expired")
        authorities = [self.root.certificate, self.between.certificate]
        for revoked in (self.between.revoke(signed), self.root.revoke(self.between)):
            self.assertEqual(why_not(shown, read_lists(revoked, authorities, "x"), now), "the certificate is revoked")
        other = read_lists(self.root.revoke(signed), authorities, "x")  # the same number, of another authority
        self.assertIsNone(why_not(shown, other, now))


def test_refusesNothingThatAUserMayHave() -> None:
    """
    What C{add_user} takes as a certificate's name is a name when it stands in one.
    """
    authority = Authority()
    for name in ("host.example.org", "xn--bcher-kva.example", "a", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"):
        general = x509.UniformResourceIdentifier(name) if name.startswith("urn:") else x509.DNSName(name)
        assert names_in(authority.sign(general).certificate) == (certificate_name(name),)
