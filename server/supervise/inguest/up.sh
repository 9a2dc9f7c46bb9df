#!/bin/sh
# What a guest does: it is process 1. A shell on the serial line, and the agent, by which the host makes it the node that
# it is to be (and has it begin its services then). There is no other init: whoever wants a service begins it.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
umask 022
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 pts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=0755,size=20% run /run
mkdir -p -m 1777 /run/lock
mkdir -p /run/hostline /run/sshd /var/log/hostline
ln -sf /proc/self/fd /dev/fd
ip link set dev lo up
# A disk that was made bigger than the image: the file system follows.
if [ -b /dev/vda ] && command -v resize2fs >/dev/null; then
    resize2fs /dev/vda >/run/hostline/resize.log 2>&1
fi
if [ -c /dev/ttyS0 ]; then
    (
        cd /root
        while :; do
            if command -v cttyhack >/dev/null; then
                setsid cttyhack /bin/sh -l </dev/ttyS0 >/dev/ttyS0 2>&1
            else
                setsid -c /bin/sh -l </dev/ttyS0 >/dev/ttyS0 2>&1
            fi
            sleep 1
        done
    ) &
fi
while :; do
    for port in /sys/class/virtio-ports/*; do
        read -r name <"$port/name" && [ "$name" = org.qemu.guest_agent.0 ] || continue
        qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qga.pid </dev/null >/dev/null 2>&1
    done 2>/dev/null
    sleep 1
done
