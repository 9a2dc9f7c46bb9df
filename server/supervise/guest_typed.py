"""
When somebody last typed in a QEMU guest: as the guest says, by its own clock; nobody but itself is deceived by a lie.
"""

from __future__ import annotations

from contextlib import suppress

from hostline.server.supervise.guest import Guest

#: Seconds that it may take to say.
LIMIT_S = 5.0
_MOST = 4096
#: A terminal was read last when somebody had typed, by whichever of its names it was opened.
_TERMINALS = "/dev/pts/[0-9]* /dev/tty[1-9] /dev/ttyS[0-9] /dev/hvc0 /dev/console"
_ASK = f'for one in {_TERMINALS}; do stat -c %X "$one" 2>/dev/null; done; :'


async def typed(guest: Guest) -> float:
    """
    @return: the time of the newest keystroke on any of its terminals, by its clock; 0 if it does not say.
    """
    with suppress(OSError):
        ran = await guest.run(["/bin/sh", "-c", _ASK], limit_s=LIMIT_S, most_bytes=_MOST)
        return newest(ran.out)
    return 0.0


def newest(said: bytes) -> float:
    """
    @param said: times as a guest wrote them, which may be anything.
    """
    words = said[:_MOST].split()
    return float(max((int(word) for word in words if word.isdigit() and len(word) < 12), default=0))
