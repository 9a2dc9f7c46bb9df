# What makes a guest the node that it is to be, run by its agent at each boot as `sh -s BOOT`, the seed behind it (see
# guest.py): calls of the functions below with what they are to be told, in quotes.
# Said of it: a line "problem: ..." for what could not be done, and "applied" at last. It may be run again.
# Few programs are started: under emulation each costs some hundredths of a second.
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root
here=/run/hostline log=/var/log/hostline

problem() { printf 'problem: %s\n' "$*"; }
directory() { [ -d "$1" ] || mkdir -p "$1" 2>/dev/null; }
named() { # the interface with one of these addresses, in $at
    for mac in "$@"; do
        for one in /sys/class/net/*; do
            if read -r found <"$one/address" && [ "$found" = "$mac" ]; then
                at=${one##*/}
                return 0
            fi
        done
    done 2>/dev/null
    return 1
}
interface() { # NOW MAC NAME MTU ADDRESS..
    now=$1 mac=$2 name=$3 mtu=$4 tries=0
    shift 4
    wanted=$mac
    until named "$wanted" "$now"; do # a card that is just being found
        tries=$((tries + 1))
        [ $tries -lt 50 ] || { problem "there is no network card $wanted"; return; }
        sleep 0.1
    done
    read -r was_mtu <"/sys/class/net/$at/mtu"
    read -r flags <"/sys/class/net/$at/flags" # IFF_UP is 1
    told=
    [ "$found" = "$wanted" ] || told="address $wanted"
    if [ "$at" != "$name" ]; then
        if [ -e "/sys/class/net/$name" ]; then # whoever has the name now
            ip link set dev "$name" down
            ip link set dev "$name" name "was$$.${name%"${name#????}"}"
        fi
        told="$told name $name"
    fi
    [ -z "$told" ] || [ $((flags & 1)) = 0 ] || ip link set dev "$at" down
    [ "$mtu" = "$was_mtu" ] || told="$told mtu $mtu"
    [ -z "$told" ] && [ $((flags & 1)) = 1 ] || ip link set dev "$at" $told up ||
        problem "$at does not become $name: address $wanted, mtu $mtu"
    for address in "$@"; do
        ip addr add "$address" dev "$name" 2>/dev/null && continue
        case $(ip addr show dev "$name") in
            *"inet $address "*) ;;
            *) problem "$name does not take $address" ;;
        esac
    done
}
text() { # FILE TEXT
    printf %s "$2" >"$1" || problem "$1 is not written"
}
secret() { # FILE TEXT: for its owner only, and never half of it
    directory "${1%/*}"
    umask 077
    printf %s "$2" >"$1.new" && mv -f "$1.new" "$1" || problem "$1 is not written"
    umask 022
}
name() {
    text /etc/hostname "$1
"
    printf %s "$1" >/proc/sys/kernel/hostname || problem "it cannot be called $1"
}
clock() { # seconds; one second of difference stays
    now=$(date +%s)
    [ $(($1 - now)) -ge -1 ] && [ $(($1 - now)) -le 1 ] || date -u -s "@$1" >/dev/null || problem 'its clock cannot be set'
}
random() { # BASE64
    if [ -x /usr/sbin/hostline-reseed ]; then
        printf %s "$1" | base64 -d | /usr/sbin/hostline-reseed || problem 'no new random seed'
    elif command -v perl >/dev/null; then
        printf %s "$1" | base64 -d | perl -e 'read STDIN, $s, 512; open F, ">", "/dev/random" or die;
            ioctl(F, 0x40085203, pack("iia*", 8 * length $s, length $s, $s)) or die; ioctl(F, 0x5207, 0) or die' ||
            problem 'no new random seed'
    else
        printf %s "$1" | base64 -d >/dev/urandom
    fi
}
route() { ip route replace "$1" via "$2" || problem "no route to $1 by $2"; }
forward() { echo "$1" >/proc/sys/net/ipv4/ip_forward || problem 'it cannot forward'; }
once() { # FILE TEXT, of this boot
    [ -z "$first" ] || text "$here/$1" "$2"
}
initscript() { # TEXT; none if there is none
    if [ $# = 0 ]; then
        [ ! -e $here/initscript ] || rm -f $here/initscript
        return
    fi
    umask 077
    text $here/initscript.new "$1"
    umask 022
    chmod 0755 $here/initscript.new
    changed=
    [ -n "$first" ] || cmp -s $here/initscript.new $here/initscript || changed=yes
    mv -f $here/initscript.new $here/initscript
    [ -z "$changed" ] || sh -c "$script" hostline restart </dev/null >/dev/null 2>&1 &
}
services() { # of images that we made
    [ -x /usr/lib/hostline/services ] || return 0
    /usr/lib/hostline/services </dev/null >/dev/null 2>&1 &
}
begin() { # what a boot does once, in the background; nothing of it keeps what we write to
    (
        printf '%s\n' "$boot" >$here/boot
        trap '' HUP
        if [ -e $here/packages ] && ! sh $here/packages >$log/packages.out 2>&1; then
            tail -n 20 $log/packages.log >>$log/start_command.err 2>/dev/null
            sync
            tail -n 1 $log/packages.out >$here/failure.new && mv -f $here/failure.new $here/failure
            exit
        fi
        echo begun >$here/begun
        if [ -e $here/initscript ]; then
            sh -c "$script" hostline start </dev/null >/dev/null 2>&1 &
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
script='
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

done_with() { # what all ends with
    if [ -n "$first" ]; then
        services
        begin
    fi
    echo applied
}

for one in $here $log /etc /root; do
    directory $one
done
# A boot of the guest that we did not see before: /run may be on its disk.
boot=$1 was=
read -r kernel </proc/sys/kernel/random/boot_id
boot="$boot $kernel"
[ ! -e $here/boot ] || read -r was <$here/boot
first=
if [ "$was" != "$boot" ]; then
    first=yes
    [ -z "$was" ] || rm -f $here/begun $here/failure $here/packages $here/started $here/ended $here/command $here/environment $here/initscript $here/initscript.said
fi
read -r flags </sys/class/net/lo/flags
[ $((flags & 1)) = 1 ] || ip link set dev lo up
