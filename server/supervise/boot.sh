#!/bin/sh
# What a container does: catatonit (PID 1) runs this, and ends with it. The daemon reads $said (see said.py).
# Nothing is forked once the start command runs, until the end: what runs in here may have used up pids_max.
#   own/command     the start command, if there is one        own/initscript  its script, if there is one
#   own/packages    names of Debian packages to be installed first
umask 022
here=/.hostline said=/.hostline/said log=/var/log/hostline

initscript() { # with signals as everybody has them
    (
        trap - TERM HUP INT QUIT TSTP
        exec $here/bin/initscript "$1"
    )
    echo "initscript $1: exit status $?"
}

end() { # the daemon sends TERM; again when half of the time is over; and then kills
    trap : TERM # ends the wait
    if [ -e $here/own/initscript ]; then
        initscript stop &
        wait $!
    fi
    trap '' TERM
    echo 'going down'
    kill -TERM -1 2>/dev/null # everybody but this shell and PID 1
    wait
    while kill -0 -1 2>/dev/null; do
        sleep 0.05 2>/dev/null || sleep 1
    done
    exit 0
}
trap end TERM
trap '' HUP INT QUIT TSTP # its console is a terminal

mkdir -p $log 2>/dev/null
if [ -d /etc/ssh ] && [ -x /usr/bin/ssh-keygen ]; then # an image of ours has an sshd, but no key: each has its own
    for key in /etc/ssh/ssh_host_*_key; do
        [ -e "$key" ] || ssh-keygen -A >/dev/null 2>&1 </dev/null
    done
fi
if [ -e $here/own/packages ]; then
    read -r packages <$here/own/packages
    (
        trap - TERM HUP INT QUIT TSTP
        exec /bin/sh $here/bin/packages $packages
    ) >$log/packages.out 2>&1 &
    if ! wait $!; then
        tail -n 1 $log/packages.out >$said/failure
        exit 125
    fi
fi
if [ -e $here/own/initscript ]; then
    echo running >$said/initscript
    initscript start &
fi
if [ -e $here/own/command ]; then
    for name in out err log; do
        true >$log/start_command.$name
    done
    (
        trap - TERM HUP INT QUIT TSTP
        (
            cd "$HOME" || cd /
            exec /bin/sh -c ". $here/own/command" </dev/null >>$log/start_command.out 2>>$log/start_command.err
        )
        code=$?
        echo $code >$said/ended
        echo "start command: exit status $code"
        echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) exit status $code" >>$log/start_command.log
    ) &
    command=$!
    echo started >$said/started
fi
echo up >$said/up
echo 'up'
if [ -n "$command" ]; then
    wait $command
    code=$?
    [ -s $said/ended ] || echo $code >$said/ended # whoever was to say so was killed
fi
while :; do read -r _; done <>$said/never # a machine stays up after its start command; nobody ever writes here
