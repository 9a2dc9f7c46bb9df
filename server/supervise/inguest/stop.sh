# Run by a guest's agent before the guest goes down: what it was given to do at its end, in bounded time.
[ -e /run/hostline/initscript ] || exit 0
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
{
    echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) stop"
    cd "$HOME" || cd /
    timeout "$1" /run/hostline/initscript stop </dev/null
} >>/var/log/hostline/initscript.log 2>&1
