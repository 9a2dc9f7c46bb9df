#!/bin/sh
# What an operator would write: containers with runc, two at a time; the daemon's rival (bench/containers.py).
# `containers.sh prepare DIR IMAGE`   once: bridge, template; IMAGE: a directory with a root file system in it
# `containers.sh up DIR COUNT`        overlay, network namespace, veth, cgroup with limits, runc create and start
# `containers.sh down DIR COUNT`      undo all that
# `containers.sh clear DIR`           undo what prepare did
# Everything is named after DIR's last part, at most 8 characters. With SIZED=KIB each has a file system of that size.
# With BUNDLE=FILE that is the configuration, in which @NAME@, @ROOT@ and 4242424242 stand for the name, the root's path
# and the first uid on the host; the network namespace is then the runtime's, for it belongs to the user namespace.
# What lasts until the next reboot is in memory, as /run is: the runtime's state, and the bundles.
set -eu

command=$1 dir=$2
tag=${dir##*/}

prepare() {
    image=$1
    mkdir -p "$dir/run"
    chmod 711 "$dir"
    mount -t tmpfs -o mode=711 none "$dir/run"
    echo "$image" >"$dir/image"
    ip link add "br$tag" type bridge
    ip address add 10.197.0.1/16 dev "br$tag"
    ip link set "br$tag" up
    if [ -n "${BUNDLE:-}" ]; then
        sed "s|@GROUP@|$tag|" "$BUNDLE" >"$dir/config.json"
        return
    fi
    (cd "$dir" && rm -f config.json && runc spec)
    # No terminal, a process that does nothing, our namespace for the network, limits.
    sed -i -e 's/"terminal": true/"terminal": false/' \
        -e 's/"sh"$/"sleep", "100000"/' \
        -e 's/"readonly": true/"readonly": false/' \
        -e 's|"type": "network"|"type": "network", "path": "/run/netns/@NAME@"|' \
        -e 's|"path": "rootfs"|"path": "@ROOT@"|' \
        -e "s|\"resources\": {|\"cgroupsPath\": \"/$tag/@NAME@\", \"resources\": { \"memory\": {\"limit\": 67108864, \"swap\": 67108864}, \"cpu\": {\"shares\": 1024, \"quota\": 20000, \"period\": 100000}, \"pids\": {\"limit\": 32},|" \
        "$dir/config.json"
}

inside() {
    cat <<EOF
address add 10.197.$((($1 + 10) / 250)).$((($1 + 10) % 250))/16 dev eth0
link set lo up
link set eth0 up
route add default via 10.197.0.1
EOF
}

up() {
    name=$tag-$1 place=$dir/$1 bundle=$dir/run/$1 first=$((2415919104 + $1 * 65536))
    if [ -n "${SIZED:-}" ]; then
        mkdir "$place" "$place/store" "$place/root" "$bundle"
        truncate -s "${SIZED}K" "$place/disk"
        mkfs.ext4 -q -m 0 -O ^has_journal -E lazy_itable_init=1,nodiscard "$place/disk"
        mount -o loop "$place/disk" "$place/store"
        mkdir "$place/store/upper" "$place/store/work"
    else
        mkdir "$place" "$place/store" "$place/store/upper" "$place/store/work" "$place/root" "$bundle"
    fi
    [ -z "${BUNDLE:-}" ] || chown "$first:$first" "$place/store/upper"
    mount -t overlay overlay -o "lowerdir=$image,upperdir=$place/store/upper,workdir=$place/store/work" "$place/root"
    sed "s/@NAME@/$name/; s|@ROOT@|$place/root|; s/4242424242/$first/g" "$dir/config.json" >"$bundle/config.json"
    if [ -n "${BUNDLE:-}" ]; then
        create --pid-file "$bundle/pid"
        pid=$(cat "$bundle/pid")
        ip link add "v$name" type veth peer name eth0 netns "$pid"
        ip link set "v$name" master "br$tag" up
        inside "$1" | nsenter --target "$pid" --net ip -batch -
    else
        ip netns add "$name"
        ip link add "v$name" type veth peer name eth0 netns "$name"
        ip link set "v$name" master "br$tag" up
        inside "$1" | ip -n "$name" -batch -
        create
    fi
    runc --root "$dir/run/state" start "$name"
}

create() {
    runc --root "$dir/run/state" create --bundle "$bundle" "$@" "$name" </dev/null >"$place/log" 2>&1
}

down() {
    name=$tag-$1 place=$dir/$1
    runc --root "$dir/run/state" delete --force "$name"
    [ -n "${BUNDLE:-}" ] || ip netns delete "$name"
    umount "$place/root"
    [ -z "${SIZED:-}" ] || umount "$place/store"
    rm -r "$place" "$dir/run/$1"
}

# Each half by a shell of its own.
halves() {
    action=$1 count=$2
    image=$(cat "$dir/image")
    for first in 1 2; do
        (
            number=$first
            while [ "$number" -le "$count" ]; do
                "$action" "$number"
                number=$((number + 2))
            done
        ) &
        eval "half$first=$!"
    done
    # shellcheck disable=SC2154  # set by eval
    wait "$half1"
    # shellcheck disable=SC2154
    wait "$half2"
}

clear_up() {
    ip link delete "br$tag"
    for group in /sys/fs/cgroup/*/"$tag" /sys/fs/cgroup/"$tag"; do
        [ ! -d "$group" ] || rmdir "$group"
    done
    umount "$dir/run"
    rm -r "$dir"
}

case $command in
prepare) prepare "$3" ;;
up | down) halves "$command" "$3" ;;
clear) clear_up ;;
esac
