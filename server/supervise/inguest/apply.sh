# What makes a guest the node that it is to be, run by its agent at each boot as `sh -c THIS hostline BOOT`, with the
# seed on its standard input (see guest.py): a word and its values in each line, what may be anything in base64.
# Said of it: a line "problem: ..." for what could not be done, and "applied" at last. It may be run again.
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root
here=/run/hostline log=/var/log/hostline
mkdir -p $here $log /etc /root 2>/dev/null

problem() { printf 'problem: %s\n' "$*"; }
text() { printf %s "$1" | base64 -d; }
named() { # the interface with one of these addresses
    for mac in "$@"; do
        for one in /sys/class/net/*; do
            if read -r found <"$one/address" && [ "$found" = "$mac" ]; then
                echo "${one##*/}"
                return 0
            fi
        done
    done 2>/dev/null
    return 1
}
interface() { # NOW MAC NAME MTU ADDRESS..
    now=$1 mac=$2 name=$3 mtu=$4 tries=0
    shift 4
    until at=$(named "$mac" "$now"); do # a card that is just being found
        tries=$((tries + 1))
        [ $tries -lt 50 ] || { problem "there is no network card $mac"; return; }
        sleep 0.1
    done
    read -r found <"/sys/class/net/$at/address"
    if [ "$at" != "$name" ] || [ "$found" != "$mac" ]; then
        ip link set dev "$at" down
        [ "$found" = "$mac" ] || ip link set dev "$at" address "$mac" || problem "$name does not take the address $mac"
        if [ "$at" != "$name" ]; then
            # whoever has the name now
            [ ! -e "/sys/class/net/$name" ] || { ip link set dev "$name" down; ip link set dev "$name" name "was-$$-$name"; }
            ip link set dev "$at" name "$name" || problem "$at cannot be called $name"
        fi
    fi
    ip link set dev "$name" mtu "$mtu" 2>/dev/null || problem "$name cannot have mtu $mtu"
    ip link set dev "$name" up || problem "$name cannot be set up"
    for address in "$@"; do
        case $(ip addr show dev "$name") in
            *"inet $address "*) ;;
            *) ip addr add "$address" dev "$name" || problem "$name does not take $address" ;;
        esac
    done
}
whole() { # FILE MODE BASE64: never half of it
    mkdir -p "${1%/*}" && text "$3" >"$1.new" && chmod "$2" "$1.new" && mv -f "$1.new" "$1" || problem "$1 is not written"
}
services() { # of images that we made
    [ -x /usr/lib/hostline/services ] || return 0
    /usr/lib/hostline/services </dev/null >/dev/null 2>&1 &
}
begin() { # what a boot does once, in the background; nothing of it keeps what we write to
    (
        printf '%s\n' "$boot" >$here/boot
        trap '' HUP
        if [ -e $here/initscript ]; then
            sh -c "$initscript" hostline start </dev/null >/dev/null 2>&1 &
        fi
        [ -e $here/command ] || exit 0
        for one in out err log; do
            : >$log/start_command.$one
        done
        echo started >$here/started
        exec </dev/null >>$log/start_command.out 2>>$log/start_command.err
        (
            [ ! -e $here/environment ] || . $here/environment
            cd "$HOME" || cd /
            exec sh $here/command
        )
        code=$?
        echo $code >$here/ended.new && mv -f $here/ended.new $here/ended
        echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) exit status $code" >>$log/start_command.log
    ) </dev/null >/dev/null 2>&1 &
}
initscript='
here=/run/hostline log=/var/log/hostline
echo running >$here/initscript.said
{
    echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) $1"
    cd "$HOME" || cd /
    $here/initscript "$1" </dev/null
} >>$log/initscript.log 2>&1
code=$?
echo "ended $code" >$here/initscript.said
exit $code'

# A boot of the guest that we did not see before: /run may be on its disk.
boot=$1 was=
read -r kernel </proc/sys/kernel/random/boot_id
boot="$boot $kernel"
read -r was 2>/dev/null <$here/boot
first=
[ "$was" = "$boot" ] || first=yes
[ -z "$first" ] || rm -f $here/started $here/ended $here/command $here/environment $here/initscript $here/initscript.said
ip link set dev lo up
while read -r word rest; do
    set -f
    set -- $rest
    set +f
    case $word in
        name)
            echo "$1" >/etc/hostname
            hostname "$1" || problem "it cannot be called $1"
            ;;
        clock) # seconds; less than a second of difference stays
            now=$(date +%s)
            [ $(($1 - now)) -ge -1 ] && [ $(($1 - now)) -le 1 ] || date -u -s "@$1" >/dev/null || problem 'its clock cannot be set'
            ;;
        random)
            if command -v hostline-reseed >/dev/null; then
                text "$1" | hostline-reseed || problem 'no new random seed'
            elif command -v perl >/dev/null; then
                text "$1" | perl -e 'read STDIN, $s, 512; open F, ">", "/dev/random" or die;
                    ioctl(F, 0x40085203, pack("iia*", 8 * length $s, length $s, $s)) or die; ioctl(F, 0x5207, 0) or die' ||
                    problem 'no new random seed'
            else
                text "$1" >/dev/urandom
            fi
            ;;
        file) whole "$1" "$2" "$3" ;;
        interface) interface "$@" ;;
        route) ip route replace "$1" via "$2" || problem "no route to $1 by $2" ;;
        forward) echo "$1" >/proc/sys/net/ipv4/ip_forward || problem 'it cannot forward' ;;
        environment | command) [ -z "$first" ] || text "$1" >"$here/$word" || problem "no $word" ;;
        initscript)
            [ "$1" != - ] || { rm -f $here/initscript; continue; }
            text "$1" >$here/initscript.new && chmod 0755 $here/initscript.new || problem 'no initscript'
            if [ -z "$first" ] && ! cmp -s $here/initscript.new $here/initscript; then
                mv -f $here/initscript.new $here/initscript
                sh -c "$initscript" hostline restart </dev/null >/dev/null 2>&1 &
            else
                mv -f $here/initscript.new $here/initscript
            fi
            ;;
    esac
done
if [ -n "$first" ]; then
    services
    begin
fi
echo applied
