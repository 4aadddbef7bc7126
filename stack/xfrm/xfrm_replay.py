"""net/xfrm/xfrm_replay.c: sequence numbers of sent and received packets (RFC 4303 3.4.3, A2).

Numbers are whole ones of 64 bits; without extended numbers (ESN) their high half stays 0.
"""

from __future__ import annotations

from stack.core.rows import narrow, row, state, wide

LOW = 0xFFFFFFFF
HALF = 32
GOOD, TWICE, OLD = 0, 1, 2


@state
class xfrm_replay:
    """struct xfrm_replay_state and _esn: the last number sent, and the receive window.

    `window` numbers up to `seq` are stored in `bitmap`, whose bit 0 is `seq`; 0: none are, and
    all are accepted.
    """

    window: int = 0
    esn: bool = False
    oseq: wide = row(0)
    seq: wide = row(0)
    bitmap: wide = row(0)


def xfrm_replay_overflow(r: xfrm_replay, may_wrap: bool) -> bool:
    """net/xfrm/xfrm_replay.c: take the next number to send, `oseq`. True: there is none left."""
    top = (1 << 64 if r.esn else 1 << HALF) - 1
    if r.oseq == top:
        if not may_wrap or r.esn:
            return True
        r.oseq = 0
        return False
    r.oseq += 1
    return False


def xfrm_replay_seqhi(r: xfrm_replay, low: int) -> wide:
    """net/xfrm/xfrm_replay.c: the full number from its received low half and the window.

    It is the one in or nearest above the window (RFC 4303 A2.2).
    """
    if not r.esn:
        return low
    high, top = r.seq >> HALF, r.seq & LOW
    bottom = (top - r.window + 1) & LOW
    if top >= r.window - 1:
        if low < bottom:
            high += 1
    elif low >= bottom:
        high -= 1
    return (high & LOW) << HALF | low


def xfrm_replay_check(r: xfrm_replay, number: wide) -> int:
    """net/xfrm/xfrm_replay.c: check a packet's number: GOOD, TWICE or OLD."""
    if not r.window:
        return GOOD
    if not number:
        return OLD
    if number > r.seq:
        return GOOD
    behind = r.seq - number
    if behind >= r.window:
        return OLD
    return TWICE if r.bitmap >> narrow(behind) & 1 else GOOD


def xfrm_replay_advance(r: xfrm_replay, number: wide) -> None:
    """net/xfrm/xfrm_replay.c: store the number of an authenticated packet."""
    if not r.window:
        return
    if number > r.seq:
        ahead = number - r.seq
        r.bitmap = 1 if ahead >= r.window else r.bitmap << narrow(ahead) | 1
        r.bitmap &= (1 << r.window) - 1
        r.seq = number
    else:
        r.bitmap |= 1 << narrow(r.seq - number)
