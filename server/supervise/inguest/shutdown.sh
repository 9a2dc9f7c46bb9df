#!/bin/sh
# What the agent runs when the guest is to go down, with whatever arguments: what runs is ended, what is written stays.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
(
    trap '' TERM HUP
    kill -TERM -1
    sleep 0.2
    sync
    mount -o remount,ro / 2>/dev/null
    how=o
    case " $* " in *' -r '*) how=b ;; esac
    echo $how >/proc/sysrq-trigger
    sleep 5
    busybox poweroff -f
) </dev/null >/dev/null 2>&1 &
