#!/bin/sh
# What a container does: catatonit (PID 1) runs this, and ends with it. The daemon reads $said (see said.py).
# Nothing is forked once the start command runs, until the end: what runs in here may have used up pids_max.
#   own/command     the start command, if there is one        own/initscript  its script, if there is one
umask 022
here=/.hostline said=/.hostline/said log=/var/log/hostline

late=
end() { # the daemon sends TERM; again when half of the time is over; and then kills
    trap 'late=1' TERM
    if [ -e $here/own/initscript ]; then
        $here/bin/initscript stop &
        wait $!
    fi
    trap '' TERM
    kill -s TERM -- -1 2>/dev/null # everybody but this shell and PID 1
    while kill -s 0 -- -1 2>/dev/null; do
        sleep 0.05 2>/dev/null || sleep 1
    done
    exit 0
}
trap end TERM

mkdir -p $log 2>/dev/null
if [ -e $here/own/initscript ]; then
    echo running >$said/initscript
    $here/bin/initscript start &
fi
if [ -e $here/own/command ]; then
    for name in out err log; do
        true >$log/start_command.$name
    done
    (
        trap - TERM
        (
            cd "$HOME" || cd /
            exec /bin/sh -c ". $here/own/command" </dev/null >>$log/start_command.out 2>>$log/start_command.err
        )
        code=$?
        echo $code >$said/ended
        echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) exit status $code" >>$log/start_command.log
    ) &
    command=$!
    echo started >$said/started
fi
echo up >$said/up
if [ -n "$command" ]; then
    wait $command
    code=$?
    [ -s $said/ended ] || echo $code >$said/ended # whoever was to say so was killed
fi
while :; do read -r _; done <>$said/never # a machine stays up after its start command; nobody ever writes here
