#!/bin/sh
# Makes the files of an image, and one ext4 file of them. Runs in namespaces of its own (mounts, processes), so that
# nothing of it is left when it is killed.
#
#   build.sh WORK LEAVE LEAVE busybox
#   build.sh WORK LEAVE LEAVE debian SUITE MIRROR PACKAGES
#   build.sh WORK LEAVE LEAVE import PYTHON UNPACK BLOB BYTES
#   build.sh WORK LEAVE LEAVE qemu_.. .. (see build_guest.sh)
#
# WORK/tree are the files; WORK/log is what was said, cut at 32 MiB, the last line of a failure its cause; WORK/disk is
# the image, WORK/sum its sha256, WORK/status the exit status. LEAVE are mount points of ours: what is mounted there
# (other slivers' disks) must not be kept up by us.
set -u
umask 022
work=$1
umount -l "$2" 2>/dev/null
umount -l "$3" 2>/dev/null
how=$4 here=${0%/*}
shift 4
tree=$work/tree
mkdir -p "$tree" || exit 1

say() { printf 'hostline: %s\n' "$*"; }

# A program of the host with the libraries that it needs.
copy() {
    for file in "$1" $(ldd "$1" 2>/dev/null | sed -n 's/.* => \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'); do
        mkdir -p "$tree${file%/*}" && cp -L "$file" "$tree$file" || return 1
    done
}

make_busybox() {
    say 0.1 files
    program=$(command -v busybox) || { echo "E: this host has no busybox; install busybox-static"; return 1; }
    if ldd "$program" >/dev/null 2>&1; then echo "E: $program is not static; install busybox-static"; return 1; fi
    cd "$tree" || return 1
    mkdir -p bin sbin usr/bin usr/sbin dev etc/hostline home lib mnt proc run/hostline run/lock sys var/log/hostline \
        var/spool/cron var/run usr/lib || return 1
    mkdir -m 0700 root && mkdir -m 1777 tmp var/tmp || return 1
    cp "$program" bin/busybox && chmod 0755 bin/busybox || return 1
    # Relative links: one program under all its names.
    for applet in $("$program" --list); do
        [ "$applet" = busybox ] || ln -s busybox "bin/$applet"
    done
    ln -s ../../bin/busybox usr/bin/env
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd
    printf 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n' >etc/group
    printf 'root:*:::::::\nnobody:*:::::::\n' >etc/shadow && chmod 0600 etc/shadow
    printf '/bin/sh\n' >etc/shells
    printf 'hosts: files dns\n' >etc/nsswitch.conf
    printf '127.0.0.1 localhost\n::1 localhost\n' >etc/hosts
    printf 'export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n' >etc/profile
    printf 'NAME=busybox\nID=busybox\nPRETTY_NAME="BusyBox, made by hostline"\n' >etc/os-release
    # busybox' own nc knows no Unix sockets.
    client=
    case $how in qemu_*) return 0 ;; esac # nobody's socket is in a guest
    if nc=$(command -v nc.openbsd); then copy "$nc" && client="$nc -N -U /run/hostline/hostline.sock"
    elif socat=$(command -v socat); then copy "$socat" && client="$socat -t 86400 - UNIX-CONNECT:/run/hostline/hostline.sock"
    fi
    if [ -n "$client" ]; then
        cat >usr/bin/hostline <<END
#!/bin/sh
# One request over the sliver's own socket, and its reply; of watch all event lines that come.
{ printf '%s\\n' "\$*"; if [ "\$1" = watch ]; then exec tail -f /dev/null; fi; } | exec $client
END
        chmod 0755 usr/bin/hostline
    fi
}

make_debian() {
    say 0.01 'looking for packages'
    set -- "$1" "$2" "$3" ${3:+--include="$3"}
    debootstrap --variant=minbase --merged-usr ${4:+"$4"} "$1" "$tree" "$2" || {
        sed -n '/^E: /p; /^dpkg: error/p' "$tree/debootstrap/debootstrap.log" 2>/dev/null | tail -n 5
        return 1
    }
    say 0.9 'taking leave'
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/cache/apt/*.bin "$tree"/var/log/bootstrap.log
    rm -f "$tree"/etc/resolv.conf "$tree"/etc/hostname "$tree"/etc/machine-id
    : >"$tree/etc/machine-id"
    rm -f "$tree"/etc/ssh/ssh_host_*_key* # or all that are made from it would have the same secret
    mkdir -p "$tree/run/hostline" "$tree/etc/hostline" "$tree/var/log/hostline"
}

make_import() {
    say 0.1 unpacking
    "$1" -I -S -B "$2" "$work" "$3" "$4" || return 1
    cd "$tree" && for one in dev proc sys run tmp; do
        [ -e "$one" ] || [ -L "$one" ] || mkdir "$one" || return 1
    done
}

. "$here/build_guest.sh"

write_image() {
    say 0.92 'making the image'
    cd / || return 1
    count=$(find "$tree" -xdev | wc -l)
    size=$(du -skx "$tree" | cut -f 1)
    # Blocks of files, 256 bytes for each inode, and room for the tables. Where that is not enough, more.
    size=$((size + size / 32 + count / 2 + 1024))
    for _ in 1 2 3; do
        rm -f "$work/disk"
        # Nothing of when and where it was made is in it but the files' own times.
        mkfs.ext4 -q -F -b 4096 -m 0 -O ^has_journal -E nodiscard,root_owner=0:0 -N $((count + 32)) \
            -d "$tree" "$work/disk" "${size}k" 2>&1 && break
        size=$((size * 3 / 2))
    done || return 1
    chmod 0400 "$work/disk"
    say 0.96 'taking its sum'
    sum=$(sha256sum "$work/disk") || return 1
    sync "$work/disk" || return 1
    printf '%s\n' "${sum%% *}" >"$work/sum"
}

{
    write=write_image
    case $how in qemu_*) write=write_guest ;; esac
    { "make_$how" "$@" && $write; } 2>&1
    echo $? >"$work/status"
} </dev/null | {
    # dd, for it writes at once what it reads: the daemon reads the progress there.
    dd bs=1k count=32768 >"$work/log" 2>/dev/null
    cat >/dev/null
}
exit "$(cat "$work/status")"
