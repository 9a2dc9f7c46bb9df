#!/bin/sh
# Installs Debian packages in a node before its start command runs: packages.sh PACKAGE ..
# Once: what was installed is noted, and not looked at again until other packages are wanted. What apt-get says is in
# $log; why it cannot be done is the last line of the output, and the status then is 125.
log=/var/log/hostline/packages.log done=/var/lib/hostline/packages limit=900

fail() {
    echo "packages: $1"
    exit 125
}
limited() {
    if command -v timeout >/dev/null; then timeout -k 10 $limit "$@"; else "$@"; fi
}

mkdir -p "${log%/*}" "${done%/*}" || fail 'the file system cannot be written'
[ ! -r $done ] || read -r before <$done
[ "$before" != "$*" ] || exit 0
command -v apt-get >/dev/null || fail 'this image has no apt-get'
export DEBIAN_FRONTEND=noninteractive
# What is known of packages may do, where they cannot be asked for.
limited apt-get -q -y update </dev/null >$log 2>&1
limited apt-get -q -y --no-install-recommends install "$@" </dev/null >>$log 2>&1
code=$?
if [ $code -ne 0 ]; then
    why=$(sed -n 's/^E: //p' $log | tail -n 1)
    fail "apt-get install $* ended with status $code${why:+: $why}"
fi
echo "$*" >$done || fail 'the file system cannot be written'
