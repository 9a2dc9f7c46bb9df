#!/bin/sh
# How the tickets in this directory were made, by OpenSSL 3.0: tests/tickets/make.sh. The keys are thrown away.
set -e
here=$(cd "$(dirname "$0")" && pwd)
there=$(mktemp -d)
trap 'rm -r "$there"' EXIT
cd "$there"

cat >record.json <<'END'
{
  "sliver": "lab_web",
  "kind": "process",
  "rspec": {"cpu_share": 64},
  "keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann"],
  "hosts": ["*"],
  "not_before": "2026-12-01T00:00:00Z",
  "not_after": 1797000000,
  "number": 17
}
END
cat >ca.ext <<'END'
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
END
cat >signer.ext <<'END'
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
END
sed 's/emailProtection/serverAuth, clientAuth/' signer.ext >tls.ext
sed 's/digitalSignature/keyEncipherment/' signer.ext >encrypts.ext

ec="-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
rsa="-algorithm RSA -pkeyopt rsa_keygen_bits:2048"
# NAME KEY EXTENSIONS ISSUER [OPTION]
certified() {
    openssl genpkey $2 -out $1.key 2>/dev/null
    openssl req -new -key $1.key -subj "/CN=$1" -out $1.csr
    if [ $4 = $1 ]; then by="-signkey $1.key"; else by="-CA $4.pem -CAkey $4.key -CAcreateserial"; fi
    openssl x509 -req -in $1.csr $by -days 3650 ${5:-} -extfile $3.ext -out $1.pem 2>/dev/null
}
certified root "$ec" ca root
certified stranger "$ec" ca stranger
certified below "$rsa" ca root
certified rsa "$rsa" signer root
certified ec "$ec" signer root
certified p521 "-algorithm EC -pkeyopt ec_paramgen_curve:P-521" signer root
certified far "$ec" signer below
certified strange "$ec" signer stranger
certified tls "$ec" tls root
certified encrypts "$rsa" encrypts root
certified short "-algorithm RSA -pkeyopt rsa_keygen_bits:1024" signer root
certified k256 "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1" signer root
certified weak "$ec" signer root -sha1

# NAME SIGNER OPTIONS..
signed() {
    name=$1 by=$2
    shift 2
    openssl cms -sign -binary -nodetach -outform PEM -signer $by.pem -inkey $by.key -in record.json "$@" -out $name.cms
}
signed rsa rsa
signed sha512 rsa -md sha512
signed pss rsa -keyopt rsa_padding_mode:pss
signed keyid rsa -keyid
signed ec ec
signed p521 p521 -md sha384
signed chain far -certfile below.pem
openssl cms -sign -nodetach -outform DER -signer ec.pem -inkey ec.key -in record.json | base64 -w 0 >text.cms

signed stranger strange
signed tls tls
signed encrypts encrypts
signed authority root
signed lonely far
signed short short
signed k256 k256
signed weak weak
signed sha1 rsa -md sha1
signed md5 rsa -md md5
signed noattr rsa -noattr
signed nocerts rsa -nocerts
signed stream rsa -stream
signed two rsa -signer ec.pem -inkey ec.key
openssl cms -resign -inform PEM -in rsa.cms -outform PEM -signer ec.pem -inkey ec.key -out resigned.cms
openssl cms -sign -binary -outform PEM -signer rsa.pem -inkey rsa.key -in record.json -out detached.cms
openssl cms -data_create -in record.json -outform PEM -out data.cms
openssl cms -digest_create -in record.json -outform PEM -out digested.cms
openssl cms -encrypt -binary -in record.json -outform PEM -out enveloped.cms encrypts.pem
openssl cms -sign -binary -nodetach -outform DER -signer rsa.pem -inkey rsa.key -in record.json -out inner.der
openssl cms -sign -binary -nodetach -outform PEM -signer rsa.pem -inkey rsa.key -in inner.der -out nested.cms
openssl cms -sign -binary -nodetach -econtent_type pkcs7-signedData -outform PEM -signer rsa.pem -inkey rsa.key \
    -in inner.der -out nested2.cms
{
    echo "-----BEGIN CMS-----"
    base64 -w 64 record.json
    echo "-----END CMS-----"
} >literal.cms
cp ./*.cms root.pem "$here"
