"""
The outer form of DER: what is looked at before anything is made of it.

pyasn1's decoder descends by calling itself and takes much that is not DER; so every tag and length is walked over once
here, without recursion, within bounds of depth, number and size. Pure.
"""

from __future__ import annotations

#: How deep elements may be in each other, and how many there may be.
DEPTH, ELEMENTS = 32, 5000
#: The longest number, and the longest object identifier, in bytes: both are slow to make something of.
NUMBER_MAX, OID_MAX = 1100, 40

_INTEGER, _OID, _SEQUENCE, _SET = 0x02, 0x06, 0x10, 0x11


class NotDer(Exception):
    """
    The bytes are no DER, or too much of it; the message says why.
    """


def walk(data: bytes) -> None:
    """
    Go over one element and all within it.

    @raise NotDer: if it is not one whole element in DER's form, or if it goes past the bounds.
    """
    ends = [len(data)]
    at = count = 0
    while at < len(data) or len(ends) > 1:
        if at == ends[-1]:
            ends.pop()
            continue
        if len(ends) == 1 and count:
            raise NotDer(f"want one element and nothing behind it, got {len(data) - at} bytes more")
        count += 1
        if count > ELEMENTS:
            raise NotDer(f"want at most {ELEMENTS} elements")
        constructed, at, length = _head(data, at, ends[-1])
        if constructed and length:
            if len(ends) > DEPTH:
                raise NotDer(f"want elements at most {DEPTH} deep")
            ends.append(at + length)
        else:
            at += length
    if not count:
        raise NotDer("want an element, got nothing")


def _head(data: bytes, at: int, end: int) -> tuple[bool, int, int]:
    """
    @return: whether the element at C{at} is made of others, where its content begins, and how long that is.
    """
    tag = data[at]
    if tag & 0x1F == 0x1F:
        raise NotDer(f"a tag of more than one byte at {at}")
    start, length = _length(data, at + 1, end)
    if length > end - start:
        raise NotDer(f"at {at} want {length} bytes, there are {end - start}")
    constructed = bool(tag & 0x20)
    if tag < 0x40:
        kind = tag & 0x1F
        if kind == 0:
            raise NotDer(f"an end of contents at {at}")
        if constructed != (kind in (_SEQUENCE, _SET)):
            raise NotDer(f"at {at} a value in pieces, or a list that is none")
        most = {_INTEGER: NUMBER_MAX, _OID: OID_MAX}.get(kind, length)
        if length > most:
            raise NotDer(f"at {at} want a number or identifier of at most {most} bytes, got {length}")
    return constructed, start, length


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """
    @return: where the content begins, and how long it is.
    """
    if at >= end:
        raise NotDer(f"cut off at {at}")
    first = data[at]
    at += 1
    if first < 0x80:
        return at, first
    size = first & 0x7F
    if size == 0:
        raise NotDer(f"an indefinite length at {at - 1}")
    if size > 3 or size > end - at:
        raise NotDer(f"a length of {size} bytes at {at - 1}")
    length = int.from_bytes(data[at : at + size], "big")
    if length < 0x80 or length < 1 << 8 * (size - 1):
        raise NotDer(f"a length in more bytes than it needs at {at - 1}")
    return at + size, length
