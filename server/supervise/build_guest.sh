# Part of build.sh: makes what a QEMU guest begins with, WORK/guest: kernel, initrd, disk.qcow2 if it has a disk, and
# guest.json, which says how it is run.

architecture=$(dpkg --print-architecture 2>/dev/null || echo amd64)

# What apt keeps is ours, and goes with us; where it fetches is as the host has it, or as it is given.
fetch_begin() {
    apt=$work/apt
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/debs" "$apt/empty" || return 1
    : >"$apt/status"
    {
        echo "Dir::State::status \"$apt/status\";"
        echo "Dir::Cache::archives \"$apt/archives\";"
        echo "Dir::Cache::pkgcache \"\"; Dir::Cache::srcpkgcache \"\";"
        echo 'APT::Sandbox::User "root"; APT::Install-Recommends "false"; Acquire::Retries "2"; Debug::NoLocking "true";'
        echo 'Acquire::Languages "none"; APT::Get::Download-Only "true"; APT::Get::Assume-Yes "true";'
    } >"$apt/conf"
    export APT_CONFIG="$apt/conf"
    command -v apt-get >/dev/null || { echo 'E: this host has no apt, from which a guest gets its kernel'; return 1; }
}

# The packages that these names stand for now, each with all that it needs, into $apt/archives.
fetch() {
    apt-get -q install "$@" >"$apt/said" 2>&1 && return
    # What the host knows of its mirror is too old, or nothing.
    echo "Dir::State::lists \"$apt/lists\";" >>"$apt/conf"
    if ! { apt-get -q update && apt-get -q install "$@"; } >"$apt/said" 2>&1; then
        grep '^E: ' "$apt/said" || tail -n 3 "$apt/said"
        return 1
    fi
}

# The kernel that the cloud flavour stands for now, without what it would need on a machine of its own.
fetch_kernel() {
    name=linux-image-cloud-$architecture
    [ -n "$(apt-cache depends "$name" 2>/dev/null)" ] || name=linux-image-$architecture
    real=$(apt-cache depends "$name" | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$real" ] || { echo "E: there is no package $name"; return 1; }
    (cd "$apt/debs" && apt-get -q download "$real") >"$apt/said" 2>&1 || { grep '^E: ' "$apt/said"; return 1; }
    mkdir -p "$work/kernel" && dpkg-deb -x "$apt/debs/$real"_*.deb "$work/kernel" || return 1
    release=$(ls "$work/kernel/lib/modules" 2>/dev/null || ls "$work/kernel/usr/lib/modules")
    modules=$work/kernel/lib/modules/$release
    [ -d "$modules" ] || modules=$work/kernel/usr/lib/modules/$release
}

# A program out of packages, with the libraries that it needs, which are theirs as well: nothing is the host's.
bring() { # ROOT PROGRAM
    loader=
    for one in "$1"/lib64/ld-linux*.so.* "$1"/lib/ld-linux*.so.* "$1"/usr/lib64/ld-linux*.so.*; do
        [ -e "$one" ] && loader=$one && break
    done
    [ -n "$loader" ] || { echo "E: no loader for $2"; return 1; }
    paths=$(find "$1"/lib "$1"/usr/lib -maxdepth 1 -type d -name '*-linux-gnu*' | tr '\n' ':')$1/usr/lib:$1/lib
    needed=$("$loader" --library-path "$paths" --list "$1$2") || { echo "E: $2 lacks a library"; return 1; }
    mkdir -p "$tree/lib/${loader%/*}" 2>/dev/null
    mkdir -p "$tree${2%/*}" "$tree/lib64" "$tree/usr/lib" && cp -L "$1$2" "$tree$2" || return 1
    interpreter=$(LC_ALL=C grep -ao '/lib[^[:cntrl:][:space:]]*/ld-linux[^[:cntrl:][:space:]]*\.so\.[0-9]' "$1$2" | head -n 1)
    interpreter=${interpreter:-/lib64/${loader##*/}}
    mkdir -p "$tree${interpreter%/*}" && cp -L "$loader" "$tree$interpreter" || return 1
    for file in $(printf '%s\n' "$needed" | sed -n 's/.* => \(\/[^ ]*\).*/\1/p'); do
        [ "${file##*/}" = "${loader##*/}" ] || cp -L "$file" "$tree/usr/lib/" || return 1
    done
}

# Kernel modules with what each of them needs before it, and their order.
place_modules() { # DIRECTORY NAME..
    mkdir -p "$1" && : >"$1/order"
    into=$1
    shift
    for one in "$@"; do need "$one"; done
}
need() { # one module; its names have - or _, as it pleases them
    pattern=$(printf %s "$1" | sed 's/[-_]/[-_]/g')
    grep -qx "$pattern\.ko" "$into/order" && return
    file=$(find "$modules" -name "$pattern.ko*" | head -n 1)
    [ -n "$file" ] || return 0 # built in
    plain=$into/$(basename "$file" | sed 's/\.ko.*/.ko/')
    case $file in
        *.xz) xz -dc "$file" >"$plain" ;;
        *.zst) zstd -dqc "$file" >"$plain" ;;
        *.gz) gzip -dc "$file" >"$plain" ;;
        *) cp "$file" "$plain" ;;
    esac || return 1
    for before in $(LC_ALL=C tr '\0' '\n' <"$plain" | sed -n 's/^depends=//p' | tr ',' ' '); do
        need "$before" || return 1
    done
    plain=$(basename "$(find "$modules" -name "$(printf %s "$1" | sed 's/[-_]/[-_]/g').ko*" | head -n 1)" | sed 's/\.ko.*/.ko/')
    echo "$plain" >>"$into/order"
}

# The kernel; unpacked if this host can: under emulation that saves a third of the way up.
write_kernel() {
    vmlinuz=$(find "$work/kernel/boot" -name 'vmlinuz-*' | head -n 1)
    [ -n "$vmlinuz" ] || { echo 'E: there is no kernel in its package'; return 1; }
    cp "$vmlinuz" "$work/guest/kernel"
}

# What is in a tree, as the kernel wants its first files.
pack() { # TREE FILE
    (cd "$1" && find . | LC_ALL=C sort | busybox cpio -o -H newc 2>/dev/null) | gzip -n -1 >"$2"
}

ours() { # TREE: what of ours is in every guest
    mkdir -p "$1/usr/lib/hostline" "$1/sbin" &&
        for one in up services; do
            cp "$here/inguest/$one.sh" "$1/usr/lib/hostline/$one" && chmod 0755 "$1/usr/lib/hostline/$one" || return 1
        done &&
        mkdir -p "$1/usr/sbin" && reseed "$1/usr/sbin/hostline-reseed" &&
        rm -f "$1/sbin/shutdown" && cp "$here/inguest/shutdown.sh" "$1/sbin/shutdown" && chmod 0755 "$1/sbin/shutdown"
}

# The program whose source is inguest/reseed.s (a test holds them together); other machines go without.
reseed() { # FILE
    [ "$architecture" = amd64 ] || return 0
    base64 -d >"$1" <<END && chmod 0755 "$1"
f0VMRgIBAQAAAAAAAAAAAAIAPgABAAAAeABAAAAAAABAAAAAAAAAABgBAAAAAAAAAAAAAEAAOAABAEAABAADAAEAAAAHAAAAeAAA
AAAAAAB4AEAAAAAAAHgAQAAAAAAAhAAAAAAAAACQAgAAAAAAAAgAAAAAAAAASI0dgQAAADH/SI1zCLoAAgAAMcAPBUiFwH5RiUME
weADiQNIjT1OAAAAvgIAAAAx0rgCAAAADwVIhcB4L4nFie++A1IIQEiJ2rgQAAAADwVIhcB1F4nvvgdSAAAx0rgQAAAADwUx/0iF
wHQFvwEAAAC4PAAAAA8FL2Rldi9yYW5kb20AAC5zaHN0cnRhYgAudGV4dAAuYnNzAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAALAAAAAQAAAAcAAAAAAAAAeABAAAAAAAB4AAAAAAAA
AIQAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAEQAAAAgAAAADAAAAAAAAAAABQAAAAAAA/AAAAAAAAAAIAgAAAAAAAAAA
AAAAAAAACAAAAAAAAAAAAAAAAAAAAAEAAAADAAAAAAAAAAAAAAAAAAAAAAAAAPwAAAAAAAAAFgAAAAAAAAAAAAAAAAAAAAEAAAAA
AAAAAAAAAAAAAAA=
END
}

# no_timer_check: on a busy host an emulated machine's ticks may come late, and the kernel would take its timer for broken.
say_how() { # READY LEAST: bytes of memory
    printf '{"ready": %s, "append": "console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check", "machine": "q35", "memory_least": %s}\n' \
        "$1" "$2" >"$work/guest/guest.json"
}

DEVICES='virtio_mmio virtio_pci virtio_console virtio_net virtio-rng pvpanic-mmio pvpanic-pci'

make_qemu_busybox() { # READY
    mkdir -p "$work/guest" && make_busybox && fetch_begin || return 1
    say 0.2 'fetching the agent and the kernel'
    fetch qemu-guest-agent dropbear-bin && fetch_kernel || return 1
    say 0.6 'putting it together'
    mkdir -p "$work/packages"
    for one in "$apt"/archives/*.deb; do
        dpkg-deb -x "$one" "$work/packages" || return 1
    done
    bring "$work/packages" /usr/sbin/qemu-ga && bring "$work/packages" /usr/sbin/dropbear || return 1
    ours "$tree" && place_modules "$tree/lib/hostline/modules" $DEVICES virtio_blk || return 1
    cp "$here/inguest/init.sh" "$tree/init" && chmod 0755 "$tree/init"
    write_kernel || return 1
    say 0.9 'packing it'
    pack "$tree" "$work/guest/initrd" && say_how "$1" $((96 << 20))
}

make_qemu_debian() { # READY SUITE MIRROR PACKAGES
    mkdir -p "$work/guest"
    make_debian "$2" "$3" "qemu-guest-agent,iproute2,openssh-server,iputils-ping,procps,kmod${4:+,$4}" || return 1
    say 0.8 'fetching the kernel'
    fetch_begin || return 1
    cp "$tree/etc/apt/sources.list" "$apt/sources.list" 2>/dev/null || echo "deb $3 $2 main" >"$apt/sources.list"
    {
        echo "Dir::State::lists \"$apt/lists\"; Dir::Etc::sourcelist \"$apt/sources.list\"; Dir::Etc::sourceparts \"$apt/empty\";"
        echo "Dir::Etc::trustedparts \"$tree/etc/apt/trusted.gpg.d\"; Dir::Etc::trusted \"/dev/null\";"
    } >>"$apt/conf"
    apt-get -q update >"$apt/said" 2>&1 || { grep '^E: ' "$apt/said"; return 1; }
    fetch_kernel || return 1
    mkdir -p "$tree/lib/modules" && cp -a "$modules" "$tree/lib/modules/" && busybox depmod -b "$tree" "$release"
    ours "$tree" || return 1
    printf 'PermitRootLogin prohibit-password\nPasswordAuthentication no\n' >"$tree/etc/ssh/sshd_config.d/hostline.conf"
    write_kernel || return 1
    say 0.86 'putting its first files together'
    early=$work/early
    mkdir -p "$early/bin" "$early/dev" "$early/proc" "$early/sys" "$early/mnt" "$early/lib/hostline"
    cp "$(command -v busybox)" "$early/bin/busybox" && for one in sh mount insmod sleep switch_root poweroff; do
        ln -s busybox "$early/bin/$one"
    done
    place_modules "$early/lib/hostline/modules" $DEVICES virtio_blk || return 1
    : >"$early/lib/hostline/disk"
    cp "$here/inguest/init.sh" "$early/init" && chmod 0755 "$early/init"
    pack "$early" "$work/guest/initrd" && say_how "$1" $((160 << 20))
    say 0.9 'making its disk'
    # Room for what nodes install; it takes none before.
    mkfs.ext4 -q -F -b 4096 -m 0 -E root_owner=0:0 -d "$tree" "$work/raw" 4G 2>&1 || return 1
    command -v qemu-img >/dev/null || { echo 'E: this host has no qemu-img; install qemu-utils'; return 1; }
    qemu-img convert -f raw -O qcow2 "$work/raw" "$work/guest/disk.qcow2" || return 1
    rm -f "$work/raw"
}

write_guest() {
    say 0.96 'taking its sum'
    cd "$work/guest" || return 1
    chmod 0444 ./* || return 1
    sum=$(LC_ALL=C sha256sum -- * | sha256sum) || return 1
    for one in ./*; do sync "$one" || return 1; done
    printf '%s\n' "${sum%% *}" >"$work/sum"
}

make_qemu_import() { # PYTHON UNPACK BLOB BYTES READY
    say 0.1 'looking at the disk'
    "$1" -I -S -B "$2" "$work" "$3" "$4" "$5" || return 1
}
