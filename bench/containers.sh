#!/bin/sh
# What an operator would write: containers with runc, two at a time; the daemon's rival (bench/containers.py).
# `containers.sh prepare DIR IMAGE`   once: bridge, template; IMAGE: a directory with a root file system in it
# `containers.sh up DIR COUNT`        overlay, network namespace, veth, cgroup with limits, runc create and start
# `containers.sh down DIR COUNT`      undo all that
# `containers.sh clear DIR`           undo what prepare did
# Everything is named after DIR's last part, at most 8 characters. With SIZED=KIB each has a file system of that size.
set -eu

command=$1 dir=$2
tag=${dir##*/}

prepare() {
    image=$1
    mkdir -p "$dir/state"
    echo "$image" >"$dir/image"
    ip link add "br$tag" type bridge
    ip address add 10.197.0.1/16 dev "br$tag"
    ip link set "br$tag" up
    (cd "$dir" && rm -f config.json && runc spec)
    # No terminal, a process that does nothing, our namespace for the network, limits.
    sed -i -e 's/"terminal": true/"terminal": false/' \
        -e 's/"sh"$/"sleep", "100000"/' \
        -e 's/"readonly": true/"readonly": false/' \
        -e 's|"type": "network"|"type": "network", "path": "/run/netns/@NAME@"|' \
        -e 's|"path": "rootfs"|"path": "root"|' \
        -e "s|\"resources\": {|\"cgroupsPath\": \"/$tag/@NAME@\", \"resources\": { \"memory\": {\"limit\": 67108864, \"swap\": 67108864}, \"cpu\": {\"shares\": 1024, \"quota\": 20000, \"period\": 100000}, \"pids\": {\"limit\": 32},|" \
        "$dir/config.json"
}

up() {
    name=$tag-$1 place=$dir/$1
    if [ -n "${SIZED:-}" ]; then
        mkdir "$place" "$place/store" "$place/root"
        truncate -s "${SIZED}K" "$place/disk"
        mkfs.ext4 -q -m 0 -O ^has_journal -E lazy_itable_init=1,nodiscard "$place/disk"
        mount -o loop "$place/disk" "$place/store"
        mkdir "$place/store/upper" "$place/store/work"
    else
        mkdir "$place" "$place/store" "$place/store/upper" "$place/store/work" "$place/root"
    fi
    mount -t overlay overlay -o "lowerdir=$image,upperdir=$place/store/upper,workdir=$place/store/work" "$place/root"
    ip netns add "$name"
    ip link add "v$name" type veth peer name eth0 netns "$name"
    ip link set "v$name" master "br$tag" up
    ip -n "$name" -batch - <<EOF
address add 10.197.$((($1 + 10) / 250)).$((($1 + 10) % 250))/16 dev eth0
link set lo up
link set eth0 up
route add default via 10.197.0.1
EOF
    sed "s/@NAME@/$name/" "$dir/config.json" >"$place/config.json"
    runc --root "$dir/state" create --bundle "$place" "$name" </dev/null >"$place/log" 2>&1
    runc --root "$dir/state" start "$name"
}

down() {
    name=$tag-$1 place=$dir/$1
    runc --root "$dir/state" delete --force "$name"
    ip netns delete "$name"
    umount "$place/root"
    [ -z "${SIZED:-}" ] || umount "$place/store"
    rm -r "$place"
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
    rm -r "$dir"
}

case $command in
prepare) prepare "$3" ;;
up | down) halves "$command" "$3" ;;
clear) clear_up ;;
esac
