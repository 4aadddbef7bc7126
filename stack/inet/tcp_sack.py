"""net/ipv4/tcp_input.c, the sender side of SACK (RFC 2018, 2883): the scoreboard.

Called by tcp_ack for an ACK that has SACK blocks:

    tcp_sacktag_write_queue
        tcp_check_dsack                 is the first block a duplicate report (D-SACK)?
        tcp_is_sackblock_valid          ignore blocks outside of what was sent
        tcp_sacktag_block               each block, in sequence order
            tcp_sacktag_walk            the sk_buffs that it covers and no earlier block covered
                tcp_match_skb_to_sack   cut an sk_buff that is covered in part
                tcp_sacktag_one         mark it; correct the counters; tell RACK
                tcp_shift_skb_data      join it to its SACKed predecessor
        tcp_check_sack_reordering       (tcp_recovery.py)

State: each sk_buff of `tcp_rtx_queue` has TCPCB_* bits in `sacked`; the socket counts them in
`sacked_out`, `lost_out` and `retrans_out`. `sacked_ranges` holds what is SACKed as ranges of stream
positions, so that a repeated block costs nothing. tcp_sacktag_state has the results of one ACK.
The receiver side, which creates the blocks, is in tcp_data.py. Read tcp_sacktag_write_queue first.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.rows import row, state
from stack.inet.sack_ranges import sack_ranges
from stack.inet.tcp_options import tcp_parse_sack_blocks
from stack.inet.tcp_output import (
    TCP_FRAG_IN_RTX_QUEUE,
    tcp_fragment,
    tcp_skb_collapse_tstamp,
    tcp_tx_tstamp,
)
from stack.inet.tcp_recovery import (
    tcp_check_sack_reordering,
    tcp_highest_sack_seq,
    tcp_rack_advance,
    tcp_rate_skb_delivered,
)
from stack.inet.tcp_sock import (
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ORIG_SACK_ACKED,
    M32,
    NO_RANGES,
    TCP_DSACK_SEEN,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPCB_TAGBITS,
    TCPHDR_FIN,
    TCPHDR_SYN,
    TCP_CA_Loss,
    after,
    before,
    s32,
    tcp_sock,
)


@state
class tcp_sacktag_state:
    """Results of one ACK's SACK blocks."""

    first_sackt: int = row(0)
    last_sackt: int = row(0)
    reord: int = row(0)
    flag: int = row(0)


def tcp_is_sackblock_valid(sk: tcp_sock, is_dsack: bool, start_seq: int, end_seq: int) -> bool:
    """A block must lie in what was sent; a D-SACK may reach back one window (RFC 2883)."""
    if after(end_seq, sk.snd_nxt) or not before(start_seq, end_seq):
        return False
    if not before(start_seq, sk.snd_nxt):
        return False
    if after(start_seq, sk.snd_una):
        return True
    if not is_dsack or not sk.undo_marker:
        return False
    if after(end_seq, sk.snd_una):
        return False
    if not before(start_seq, sk.undo_marker):
        return True
    if not after(end_seq, sk.undo_marker):
        return False
    return not before(start_seq, (end_seq - sk.max_window) & M32)


def tcp_dsack_seen(sk: tcp_sock, start_seq: int, end_seq: int, state: tcp_sacktag_state) -> int:
    """Count a duplicate that the peer reports; returns its segments, 0 if implausible."""
    mss = sk.mss_cache
    dup_segs = 1
    span = (end_seq - start_seq) & M32
    if not before(start_seq, end_seq) or span > sk.max_window:
        return 0
    if span > mss:
        dup_segs = (span + mss - 1) // mss
    elif sk.tlp_high_seq and end_seq == sk.tlp_high_seq:
        state.flag |= FLAG_DSACK_TLP
    sk.dsack_dups += dup_segs
    if sk.dsack_dups > sk.total_retrans:
        return 0
    sk.delivered += dup_segs  # the unneeded retransmission was delivered
    sk.rx_opt.sack_ok |= TCP_DSACK_SEEN
    if sk.reord_seen and not state.flag & FLAG_DSACK_TLP:
        sk.rack_dsack_seen = True
    state.flag |= FLAG_DSACKING_ACK
    return dup_segs


def tcp_check_dsack(
    sk: tcp_sock,
    ack: int,
    blocks: list[tuple[int, int]],
    prior_snd_una: int,
    state: tcp_sacktag_state,
) -> bool:
    """Whether the first block is a D-SACK; counts it for undo."""
    start0, end0 = blocks[0]
    linux = sk.net.mib.linux
    if before(start0, ack):
        linux.TCPDSACKRecv += 1
    elif len(blocks) > 1:
        start1, end1 = blocks[1]
        if after(end0, end1) or before(start0, start1):
            return False
        linux.TCPDSACKOfoRecv += 1
    else:
        return False
    dup_segs = tcp_dsack_seen(sk, start0, end0, state)
    if not dup_segs:
        linux.TCPDSACKIgnoredDubious += 1
        return False
    linux.TCPDSACKRecvSegs += dup_segs
    if (
        sk.undo_marker
        and sk.undo_retrans > 0
        and not after(end0, prior_snd_una)
        and after(end0, sk.undo_marker)
    ):
        sk.undo_retrans = max(0, sk.undo_retrans - dup_segs)
    return True


def tcp_match_skb_to_sack(sk: tcp_sock, skb: sk_buff, start_seq: int, end_seq: int) -> bool:
    """Whether the block covers skb; a super-packet covered in part is cut at a segment border."""
    seq = skb.seq
    if not after(start_seq, seq) and not before(end_seq, skb.end_seq):
        return True
    if skb.tcp_gso_segs <= 1 or not after(skb.end_seq, start_seq):
        return False
    mss = skb.tcp_gso_size
    in_sack = not after(start_seq, seq)
    if in_sack:
        pkt_len = (end_seq - seq) & M32
        if pkt_len < mss:
            return False
        pkt_len -= pkt_len % mss
    else:
        pkt_len = (start_seq - seq) & M32
        pkt_len += -pkt_len % mss
    if pkt_len >= skb.len or tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, pkt_len, mss):
        return False
    return in_sack


def tcp_sacktag_one(sk: tcp_sock, state: tcp_sacktag_state, skb: sk_buff, dup_sack: bool) -> None:
    """skb is covered by a block: correct all counters."""
    sacked = skb.sacked
    pcount = skb.tcp_gso_segs
    seq, end_seq = skb.seq, skb.end_seq
    if dup_sack and sacked & TCPCB_RETRANS:
        if sk.undo_marker and sk.undo_retrans > 0 and after(end_seq, sk.undo_marker):
            sk.undo_retrans = max(0, sk.undo_retrans - pcount)
        if sacked & TCPCB_SACKED_ACKED and before(seq, state.reord):
            state.reord = seq
    if not after(end_seq, sk.snd_una):
        return
    if not sacked & TCPCB_SACKED_ACKED:
        xmit_time = skb.tx_tstamp_ns
        tcp_rack_advance(sk, sacked, end_seq, xmit_time)
        tcp_rate_skb_delivered(sk, skb)
        if sacked & TCPCB_SACKED_RETRANS:
            if sacked & TCPCB_LOST:
                sacked &= ~(TCPCB_LOST | TCPCB_SACKED_RETRANS)
                sk.lost_out -= pcount
                sk.retrans_out -= pcount
        else:
            if not sacked & TCPCB_RETRANS:
                # An original transmission below the highest SACK: later packets overtook it.
                if before(seq, tcp_highest_sack_seq(sk)) and before(seq, state.reord):
                    state.reord = seq
                if not after(end_seq, sk.high_seq):
                    state.flag |= FLAG_ORIG_SACK_ACKED
                if not state.first_sackt:
                    state.first_sackt = xmit_time
                state.last_sackt = xmit_time
            if sacked & TCPCB_LOST:
                sacked &= ~TCPCB_LOST
                sk.lost_out -= pcount
        sacked |= TCPCB_SACKED_ACKED
        sk.tcp_rtx_queue.settle(skb)
        state.flag |= FLAG_DATA_SACKED
        if not sk.sacked_out or after(end_seq, sk.highest_sack_end):
            sk.highest_sack_end = end_seq
        sk.sacked_out += pcount
        sk.sacked_bytes += (end_seq - seq) & M32
        sk.delivered += pcount
    if dup_sack and sacked & TCPCB_SACKED_RETRANS:
        sacked &= ~TCPCB_SACKED_RETRANS
        sk.retrans_out -= pcount
    skb.sacked = sacked


def tcp_shift_skb_data(sk: tcp_sock, skb: sk_buff) -> sk_buff:
    """Join skb, just SACKed, to a SACKed predecessor; returns the sk_buff that holds the data."""
    queue = sk.tcp_rtx_queue
    prev = queue.prev(skb)
    if (
        prev is None
        or prev.sacked & TCPCB_TAGBITS != TCPCB_SACKED_ACKED
        or skb.sacked & TCPCB_TAGBITS != TCPCB_SACKED_ACKED
        or (prev.tcp_flags | skb.tcp_flags) & (TCPHDR_SYN | TCPHDR_FIN)
        or prev.end_seq != skb.seq
        or prev.len + skb.len > 1 << 20
        or prev.tcp_gso_segs + skb.tcp_gso_segs > 0xFFFF
    ):
        return skb
    mss = max(prev.tcp_gso_size, skb.tcp_gso_size) or max(prev.len, skb.len)
    if prev.len % mss:
        return skb  # a short segment must stay the last one of its sk_buff
    end_seq, flags, segs = skb.end_seq, skb.tcp_flags, skb.tcp_gso_segs
    ever, stamp = skb.sacked, skb.tx_tstamp_ns
    total = prev.truesize + skb.truesize
    stamps = tcp_tx_tstamp(skb)
    if not queue.coalesce(prev, skb):
        return skb
    if stamps is not None:
        tcp_skb_collapse_tstamp(prev, stamps)
    delta = prev.truesize - total
    sk.sk_wmem_queued += delta
    sk.sk_forward_alloc -= delta
    prev.end_seq = end_seq
    prev.tcp_flags |= flags
    prev.sacked |= ever
    prev.tcp_gso_segs += segs
    prev.tcp_gso_size = mss
    prev.tx_tstamp_ns = max(prev.tx_tstamp_ns, stamp)
    sk.net.mib.linux.TCPSackShifted += 1
    return prev


def tcp_sacktag_walk(
    sk: tcp_sock,
    state: tcp_sacktag_state,
    block: tuple[int, int],
    part: tuple[int, int],
    dup_sack: bool,
) -> None:
    """Mark every sk_buff that the block covers and that reaches into a part of it."""
    start_seq, end_seq = block
    queue = sk.tcp_rtx_queue
    skb = queue.find(part[0])
    while skb is not None and before(skb.seq, part[1]):
        news = dup_sack or not skb.sacked & TCPCB_SACKED_ACKED
        if news and tcp_match_skb_to_sack(sk, skb, start_seq, end_seq):
            tcp_sacktag_one(sk, state, skb, dup_sack)
            if skb.sacked & TCPCB_SACKED_ACKED:
                at = tcp_stream_pos(sk, skb.seq)
                if sk.sacked_ranges is NO_RANGES:
                    sk.sacked_ranges = sack_ranges()
                sk.sacked_ranges.add(at, at + ((skb.end_seq - skb.seq) & M32))
            skb = tcp_shift_skb_data(sk, skb)
        skb = queue.next(skb)


def tcp_stream_pos(sk: tcp_sock, seq: int) -> int:
    """The position of `seq` in the whole stream, which does not wrap."""
    return sk.bytes_acked + s32(seq - sk.snd_una)


def tcp_sacktag_block(
    sk: tcp_sock, state: tcp_sacktag_state, start_seq: int, end_seq: int, dup_sack: bool
) -> None:
    """Mark what a block covers. Parts that earlier blocks marked are skipped, unless a D-SACK."""
    block = start_seq, end_seq
    if dup_sack:
        tcp_sacktag_walk(sk, state, block, block, True)
        return
    una = sk.snd_una
    start = una if before(start_seq, una) else start_seq
    origin = sk.bytes_acked - una
    for a, b in sk.sacked_ranges.gaps(tcp_stream_pos(sk, start), tcp_stream_pos(sk, end_seq)):
        tcp_sacktag_walk(sk, state, block, ((a - origin) & M32, (b - origin) & M32), False)


def tcp_sacktag_write_queue(
    sk: tcp_sock, ack_skb: sk_buff, prior_snd_una: int, state: tcp_sacktag_state
) -> int:
    """Process the SACK blocks of an ACK; returns FLAG_* bits."""
    blocks = tcp_parse_sack_blocks(sk.net, ack_skb)
    if not blocks:
        return 0
    if sk.sacked_out:
        sk.sacked_ranges.forget(sk.bytes_acked)
    else:
        sk.sacked_ranges.clear()
    state.reord = sk.snd_nxt
    ack = ack_skb.ack_seq
    # An ACK this old carries nothing new.
    if before(ack, (prior_snd_una - sk.max_window) & M32):
        return 0
    found_dup_sack = tcp_check_dsack(sk, ack, blocks, prior_snd_una, state)
    if not sk.packets_out:
        return state.flag
    linux = sk.net.mib.linux
    una = sk.snd_una
    used: list[tuple[int, int, int, int, bool]] = []
    for i, (start_seq, end_seq) in enumerate(blocks):
        dup_sack = found_dup_sack and i == 0
        if not tcp_is_sackblock_valid(sk, dup_sack, start_seq, end_seq):
            if dup_sack:
                if sk.undo_marker:
                    linux.TCPDSACKIgnoredOld += 1
                else:
                    linux.TCPDSACKIgnoredNoUndo += 1
            elif ack == sk.snd_una or after(end_seq, sk.snd_una):
                linux.TCPSACKDiscard += 1
            continue
        if not after(end_seq, prior_snd_una) and not dup_sack:
            continue
        used.append(((start_seq - una) & M32, i, start_seq, end_seq, dup_sack))
    # In sequence order, so that the highest SACK so far is known at each block.
    used.sort()
    for _, _, start_seq, end_seq, dup_sack in used:
        tcp_sacktag_block(sk, state, start_seq, end_seq, dup_sack)
    if sk.icsk_ca_state != TCP_CA_Loss or sk.undo_marker:
        tcp_check_sack_reordering(sk, state.reord, 0)
    return state.flag
