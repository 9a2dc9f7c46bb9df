#!/bin/sh
# What a guest begins once it is the node that it is to be: not before, for what it makes up, such as keys, must be
# its own, and it may go on from the memory of another.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd /
if [ -x /usr/sbin/sshd ]; then
    ssh-keygen -A # at its first boot
    exec /usr/sbin/sshd
elif [ -x /usr/sbin/dropbear ]; then
    mkdir -p /etc/dropbear
    exec /usr/sbin/dropbear -R -s # its key is made when somebody comes
fi
