#!/bin/sh
# initscript start|stop|restart: runs the sliver's script, keeps its output and says how it ended.
here=/.hostline said=/.hostline/said log=/var/log/hostline
mkdir -p $log 2>/dev/null
echo running >$said/initscript
{
    echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) $1"
    cd "$HOME" || cd /
    $here/own/initscript "$1" </dev/null
} >>$log/initscript.log 2>&1
code=$?
echo "ended $code" >$said/initscript
exit $code
