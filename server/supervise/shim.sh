#!/bin/sh
# Keeps one boot of one sliver and its exit status, whatever happens to the daemon (see shim.py for who reads what).
#   shim.sh keep|node SERIAL BOOTDIR FSTAB UNSHARE HOME LOG CLOCK CGROUP.PROCS.. -- [THE START COMMAND'S ARGV..]
#   shim.sh init SERIAL BOOTDIR MARK CGROUP.PROCS.. -- WHAT RUNS THE INITSCRIPT..
# Two of these run per boot: the keeper, outside the sliver's cgroup, and its child, the node's own process.
# A file is complete when it ends with a newline. The files are the truth; the bell only says "look".
umask 077
role=$1 serial=$2 bootdir=$3 fstab=$4 unshare=$5 home=$6 log=$7 clock=$8

me() { # pid and start time of this shell, without starting anything
    read -r line </proc/$$/stat
    set -- ${line##*) }
    echo "$$ ${20}"
}
ring() { echo "$serial" 1<>../../../bell; }
fail() {
    echo "$1" >&2
    exit 125
}

if [ "$role" = init ]; then
    cd "$bootdir" || exit 4
    echo "$(me) $4" >initscript.begun || exit 4
    shift 4
    (
        while [ "$1" != -- ]; do
            echo 0 >"$1" || fail "could not join $1"
            shift
        done
        shift
        exec "$@"
    )
    echo $? >initscript
    ring
    exit 0
fi

if [ "$role" = keep ]; then
    cd "$bootdir" || exit 4
    set -C # whoever makes this file runs the boot; a second keeper of it leaves
    me >shim 2>>errors || { [ -e shim ] && exit 3 || exit 4; }
    set +C
    exec 2>>errors
    shift
    if [ -n "$fstab" ]; then
        unshare "$unshare" --propagation unchanged /bin/sh "$0" node "$@"
    else
        /bin/sh "$0" node "$@"
    fi
    echo $? >exit
    ring
    exit 0
fi

shift 8 # from here on: the node's own process, in the boot's directory
while [ "$1" != -- ]; do
    echo 0 >"$1" || fail "could not join $1"
    shift
done
shift
exec 7<>../../../never 8<>../../../bell # now: the sliver's own socket may be mounted over our directory
[ ! -p latch ] || exec 9<>latch # before the daemon learns of us: whatever it writes there from then on is read
me >node || fail "could not write to the run directory"
[ -z "$fstab" ] || mount --make-rprivate / 2>/dev/null # fails in a chroot that is no mount point: see mounts.py
[ -z "$fstab" ] || while IFS= read -r place; do # or what is mounted there would stay in use as long as we live
    umount -R -l "$place" 2>/dev/null
done <"$fstab.out"
[ -z "$fstab" ] || mount -a -T "$fstab" || fail "could not mount the sliver's own directories"
if [ -p latch ]; then
    ip link set dev lo up || fail "could not set up its loopback"
    # Nothing in it may gain rights anyway; but ping, which has some for itself, is run only where they do not count.
    echo 0 2147483647 2>/dev/null >/proc/sys/net/ipv4/ping_group_range
    for place in / /usr; do
        mount -o remount,bind,nosuid $place 2>/dev/null
    done
    echo "$serial" >&8
    read -r _ <&9 # until the daemon, or a later one, has plugged in what it is to have
    exec 9<&-
fi
echo "up $#" >up || fail "could not write to the run directory"
if [ $# -gt 0 ]; then
    for name in out err log; do
        true >"$log/start_command.$name" || fail "could not write to the sliver's log directory"
    done
    echo started >started || fail "could not write to the run directory"
    echo "$serial" >&8
    (
        exec 9<command # while we may: see write_command in shim.py
        cd "$home" || exit 126
        umask 022
        ulimit -Sn 1024
        exec "$@" </dev/null >>"$log/start_command.out" 2>>"$log/start_command.err" 7<&- 8<&-
    )
    code=$?
    echo $code >ended
    # From here on nothing is forked: what the command left behind may have used up pids_max.
    read -r uptime _ </proc/uptime
    s=$((clock + ${uptime%.*})) e=$((s / 86400 + 719468)) s=$((s % 86400))
    c=$((e / 146097)) e=$((e % 146097)) # days of the Gregorian calendar, counted from a 1 March
    y=$(((e - e / 1460 + e / 36524 - e / 146096) / 365)) d=$((e - 365 * y - y / 4 + y / 100)) m=$(((5 * d + 2) / 153))
    printf '%d-%02d-%02dT%02d:%02d:%02dZ exit status %d\n' $((y + c * 400 + m / 10)) $(((m + 2) % 12 + 1)) \
        $((d - (153 * m + 2) / 5 + 1)) $((s / 3600)) $((s / 60 % 60)) $((s % 60)) $code >>"$log/start_command.log"
fi
echo "$serial" >&8
while read -r _; do :; done <&7 # a machine stays up after its start command; nobody ever writes here
