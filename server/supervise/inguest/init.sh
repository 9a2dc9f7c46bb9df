#!/bin/sh
# The first thing that runs in a guest, from its initrd: loads what the machine's devices need, in the order in which
# they were put together, and goes over to the disk if there is a system on it, else stays here.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t devtmpfs -o mode=0755,nosuid dev /dev 2>/dev/null
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
while read -r module; do
    insmod "/lib/hostline/modules/$module" 2>/dev/null
done </lib/hostline/modules/order
if [ -e /lib/hostline/disk ]; then
    tries=0
    until [ -e /dev/vda ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo 'hostline: there is no disk'; poweroff -f; }
        sleep 0.05
    done
    mount -t ext4 /dev/vda /mnt || { echo 'hostline: the disk cannot be mounted'; poweroff -f; }
    for one in dev proc sys; do
        mount --move /$one /mnt/$one
    done
    exec switch_root /mnt /usr/lib/hostline/up
fi
exec /usr/lib/hostline/up
