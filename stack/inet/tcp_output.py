"""net/ipv4/tcp_output.c: from the write queue to IP.

`sk_write_queue` holds sk_buffs not sent yet, `tcp_rtx_queue` those sent and not acknowledged, both
in sequence order. Their sk_buffs stay in TCP: IP gets a clone, or, while an earlier clone still
exists, a copy of the header over the same payload. What IP gets counts in `sk_wmem_alloc` until
it is freed: tcp_small_queue_check limits by it, and tcp_wfree continues sending.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    SKB_GSO_TCP_ACCECN,
    SKB_GSO_TCP_ECN,
    alloc_skb,
    kfree_skb,
    pskb_copy,
    sk_buff,
    skb_add_data,
    skb_append_frags,
    skb_clone,
    skb_cloned,
    skb_copy_bits,
    skb_header_release,
    skb_pull,
    skb_shift,
    skb_split,
    skb_unclone,
)
from fastpath.net.hdr import tcp_push as tcp_header_push
from fastpath.net.hdr import tcp_push_ts
from fastpath.net.zerocopy import skb_zcopy
from stack.core.dev_xmit import gso_owners
from stack.core.dst import dst_confirm_neigh, dst_entry
from stack.core.netdevice import NET_XMIT_CN
from stack.core.sk_mem import (
    sk_enter_memory_pressure,
    sk_forced_mem_schedule,
    sk_mem_uncharge,
    sk_stream_moderate_sndbuf,
    sk_wmem_schedule,
)
from stack.core.sock import SK_PACING_FQ, SK_PACING_NEEDED
from stack.core.softirq import tasklet_schedule
from stack.core.tcp_states import TCP_CLOSE
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.timer import timer_delete
from stack.core.uapi import MSG_EOR
from stack.inet.inet_connection_sock import (
    ICSK_ACK_SCHED,
    ICSK_TIME_DACK,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    inet_csk_clear_xmit_timer,
    inet_csk_delack_armed,
    inet_csk_inc_pingpong_cnt,
    inet_csk_reset_xmit_timer,
)
from stack.inet.tcp_cong import (
    tcp_ca_event,
    tcp_current_ssthresh,
    tcp_cwnd_validate,
    tcp_enter_cwr,
    tcp_init_cwnd,
)
from stack.inet.tcp_const import TCP_ATO_MIN, TCP_TIMEOUT_MIN
from stack.inet.tcp_ecn import tcp_ecn_send
from stack.inet.tcp_md5 import TCPOLEN_MD5SIG_ALIGNED, tcp_md5_lookup, tcp_md5_option
from stack.inet.tcp_options import tcp_established_options, tcp_syn_options
from stack.inet.tcp_pacing import (
    PACING_SHIFT,
    tcp_pacing_armed,
    tcp_pacing_check,
    tcp_pacing_rate,
    tcp_tso_autosize,
    tcp_update_skb_after_send,
)
from stack.inet.tcp_rtt import tcp_rto_min
from stack.inet.tcp_sock import (
    CA_EVENT_CWND_RESTART,
    CA_EVENT_TX_START,
    HALF,
    M32,
    MAX_TCP_HEADER,
    TCP_CA_CWR,
    TCP_CHRONO_BUSY,
    TCP_CHRONO_RWND_LIMITED,
    TCP_ECN_MODE_ACCECN,
    TCP_NAGLE_CORK,
    TCP_NAGLE_PUSH,
    TCPCB_LOST,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPHDR_ACK,
    TCPHDR_CWR,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TCPHDR_SYN,
    TCPHDR_URG,
    TSQF_QUEUED,
    TSQF_THROTTLED,
    TCP_CA_Open,
    TCP_CA_Recovery,
    after,
    before,
    tcp_chrono_start,
    tcp_chrono_stop,
    tcp_in_cwnd_reduction,
    tcp_mstamp_refresh,
    tcp_packets_in_flight,
    tcp_sock,
)
from stack.inet.tcp_window import (
    tcp_current_mss,
    tcp_mss_to_mtu,
    tcp_mtu_check_reprobe,
    tcp_mtu_to_mss,
    tcp_select_window,
)

TCP_SKB_TRUESIZE = 832
"""Overhead of an sk_buff in a send buffer, in bytes: as on 64-bit Linux."""
TCP_FRAG_IN_WRITE_QUEUE = 0
TCP_FRAG_IN_RTX_QUEUE = 1
TSO_SEND = 0
TSO_DEFER_CWND = 1
TSO_DEFER_RWND = 2
TSO_DEFER_APP = 3
MTU_PROBE_CWND = 11
"""Minimum window in segments for a probe: duplicate ACKs must reveal its loss."""


# --- new data -----------------------------------------------------------------------------


def tcp_event_new_data_sent(sk: tcp_sock, skb: sk_buff) -> None:
    """Move skb from the write queue to the retransmit queue."""
    sk.snd_nxt = skb.end_seq
    sk.sk_write_queue.unlink(skb)
    sk.tcp_rtx_queue.queue_tail(skb)
    prior_packets = sk.packets_out
    sk.packets_out = prior_packets + skb.tcp_gso_segs
    if not prior_packets or sk.icsk_pending == ICSK_TIME_LOSS_PROBE:
        tcp_rearm_rto(sk)
    sk.net.mib.linux.TCPOrigDataSent += skb.tcp_gso_segs


def tcp_rearm_rto(sk: tcp_sock) -> None:
    """net/ipv4/tcp_input.c: restart the RTO timer, or stop it (RFC 6298 5.2, 5.3)."""
    if sk.fastopen_rsk is not None:
        return  # the timer is for the SYN-ACK
    if not sk.packets_out:
        inet_csk_clear_xmit_timer(sk, ICSK_TIME_RETRANS)
        return
    rto = sk.icsk_rto
    if sk.icsk_pending in (ICSK_TIME_LOSS_PROBE, ICSK_TIME_REO_TIMEOUT):
        # The time of the probe or reorder timer counts towards the RTO.
        rto = max(tcp_rto_delta(sk), 1)
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, rto)


def tcp_rto_delta(sk: tcp_sock) -> int:
    """ns until the head of the retransmit queue is RTO old; negative when it is older."""
    skb = sk.tcp_rtx_queue.peek()
    if skb is None:
        return sk.icsk_rto
    return skb.tx_tstamp_ns + sk.icsk_rto - sk.tcp_mstamp


def tcp_reset_xmit_timer(sk: tcp_sock, what: int, when: int) -> None:
    """include/net/tcp.h: arm one of the write timers, at most RTO_MAX from now."""
    inet_csk_reset_xmit_timer(sk, what, when, sk.icsk_rto_max)


def tcp_cwnd_restart(sk: tcp_sock, delta: int) -> None:
    """RFC 2861: after `delta` ns of idleness the window halves once per RTO."""
    restart_cwnd = tcp_init_cwnd(sk, sk.sk_dst_cache)
    cwnd = sk.snd_cwnd
    tcp_ca_event(sk, CA_EVENT_CWND_RESTART)
    sk.snd_ssthresh = tcp_current_ssthresh(sk)
    restart_cwnd = min(restart_cwnd, cwnd)
    rto = sk.icsk_rto
    delta -= rto
    while delta > 0 and cwnd > restart_cwnd:
        cwnd >>= 1
        delta -= rto
    sk.snd_cwnd = max(cwnd, restart_cwnd)
    sk.snd_cwnd_stamp = sk.tcp_mstamp
    sk.snd_cwnd_used = 0


def tcp_slow_start_after_idle_check(sk: tcp_sock) -> None:
    """include/net/tcp.h: before queueing data after a pause."""
    if (
        sk.packets_out
        or not sk.net.sysctl.tcp_slow_start_after_idle
        or sk.icsk_ca_ops.cong_control is not None
    ):
        return
    now: int = sk.net.clock.now_ns()
    if now - sk.lsndtime > sk.icsk_rto:
        tcp_cwnd_restart(sk, now - sk.lsndtime)


def tcp_event_data_sent(sk: tcp_sock) -> None:
    """Store the time; a reply sent soon after data arrived makes the session interactive."""
    now = sk.tcp_mstamp
    if tcp_packets_in_flight(sk) == 0:
        tcp_ca_event(sk, CA_EVENT_TX_START)
    sk.lsndtime = now
    if now - sk.icsk_ack_lrcvtime < sk.icsk_ack_ato:
        inet_csk_inc_pingpong_cnt(sk)


def tcp_event_ack_sent(sk: tcp_sock, rcv_nxt: int) -> None:
    """This segment carried an ACK: cancel delayed and compressed ACKs."""
    if sk.compressed_ack:
        sk.net.mib.linux.TCPAckCompressed += sk.compressed_ack
        sk.compressed_ack = 0
        if sk.compressed_ack_timer is not None:
            timer_delete(sk.compressed_ack_timer)
    if rcv_nxt != sk.rcv_nxt:
        return
    tcp_dec_quickack_mode(sk)
    if sk.icsk_ack_pending or inet_csk_delack_armed(sk):
        inet_csk_clear_xmit_timer(sk, ICSK_TIME_DACK)


def tcp_dec_quickack_mode(sk: tcp_sock) -> None:
    """An ACK is sent: if it covers new data, use up one quick ACK."""
    quick = sk.icsk_ack_quick
    if quick and sk.icsk_ack_pending & ICSK_ACK_SCHED:
        if quick <= 1:
            sk.icsk_ack_quick = 0
            # Leaving quick ACK mode deflates the ATO.
            sk.icsk_ack_ato = TCP_ATO_MIN
        else:
            sk.icsk_ack_quick = quick - 1


# --- sending ------------------------------------------------------------------------------


def tcp_stream_alloc_skb(sk: tcp_sock, force: bool = False) -> sk_buff | None:
    """net/ipv4/tcp.c: an empty sk_buff with header room; None when pool or budget is exhausted."""
    skb = alloc_skb(sk.net.skb_small, 0, MAX_TCP_HEADER)
    if skb is None:
        sk_enter_memory_pressure(sk)
        sk_stream_moderate_sndbuf(sk)
        return None
    skb.truesize = TCP_SKB_TRUESIZE
    if force:
        sk_forced_mem_schedule(sk, skb.truesize)
    elif not sk_wmem_schedule(sk, skb.truesize):
        kfree_skb(skb)
        return None
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.tcp_gso_segs = 0
    skb.tcp_gso_size = 0
    return skb


def tcp_set_skb_tso_segs(skb: sk_buff, mss_now: int) -> int:
    """Set skb's MSS and its number of segments; returns the number."""
    length = skb.len
    if length <= mss_now:
        skb.tcp_gso_size = 0
        skb.tcp_gso_segs = 1
        return 1
    tso_segs = (length + mss_now - 1) // mss_now
    skb.tcp_gso_size = mss_now
    skb.tcp_gso_segs = tso_segs
    return tso_segs


def tcp_transmit_skb(sk: tcp_sock, skb: sk_buff, clone_it: int) -> int:
    """Send skb (a clone when clone_it); 0, or an error with nothing sent."""
    return __tcp_transmit_skb(sk, skb, clone_it, sk.rcv_nxt)


def __tcp_transmit_skb(sk: tcp_sock, skb: sk_buff, clone_it: int, rcv_nxt: int) -> int:
    """Build the TCP header on a clone of skb and hand it to IP.

    Takes ownership of skb unless clone_it. Returns 0 or an error (negative errno, NET_XMIT_*).
    """
    oskb = None
    if clone_it:
        oskb = skb
        clone = pskb_copy(skb) if skb_cloned(skb) else skb_clone(skb)
        if clone is None:
            return -errno.ENOBUFS
        skb = clone
        skb.cb = None
    flags = skb.tcp_flags
    pcount = skb.tcp_gso_segs
    if pcount > 1:
        # PSH makes the receiver's GRO deliver a burst at its end. A single segment does not
        # set it: under congestion its ACK, which releases the next one, should come late.
        flags |= TCPHDR_PSH
    payload = skb.len
    seq = skb.seq
    rx_opt = sk.rx_opt

    urg_ptr = 0
    if sk.snd_up != sk.snd_una and before(seq, sk.snd_up):  # urgent mode
        distance = (sk.snd_up - seq) & M32
        if distance < 0x10000:
            urg_ptr = distance
            flags |= TCPHDR_URG
        elif after((seq + 0xFFFF) & M32, sk.snd_nxt):
            urg_ptr = 0xFFFF
            flags |= TCPHDR_URG

    md5 = tcp_md5_lookup(sk) if sk.md5sig_info is not None else None
    used = TCPOLEN_MD5SIG_ALIGNED if md5 is not None else 0
    options = None
    if flags & TCPHDR_SYN:
        # RFC 7323 2.2: the window of a SYN is never scaled.
        window = min(sk.rcv_wnd, 65535)
        options = tcp_syn_options(sk, used)
    elif (
        rx_opt.tstamp_ok
        and not used
        and not rx_opt.num_sacks
        and not rx_opt.dsack
        and not sk.ecn_flags & TCP_ECN_MODE_ACCECN
    ):
        if sk.ecn_flags:
            flags |= tcp_ecn_send(sk, skb, payload, seq)
        window = tcp_select_window(sk)
        tsval = (sk.tcp_mstamp // NSEC_PER_MSEC + sk.tsoffset) & M32
        tcp_push_ts(
            skb,
            sk.inet_sport,
            sk.inet_dport,
            seq,
            rcv_nxt,
            flags,
            window,
            urg_ptr,
            tsval,
            rx_opt.ts_recent,
        )
    else:
        if sk.ecn_flags:
            flags |= tcp_ecn_send(sk, skb, payload, seq)
        window = tcp_select_window(sk)
        options = tcp_established_options(sk, used)
    if options is not None:
        if md5 is not None:
            fields = (sk.inet_sport, sk.inet_dport, seq, rcv_nxt, flags, window, urg_ptr)
            data = skb_copy_bits(skb, 0, payload)
            options = (
                tcp_md5_option(md5, sk.inet_saddr, sk.inet_daddr, fields, len(options), data)
                + options
            )
        tcp_header_push(
            skb, sk.inet_sport, sk.inet_dport, seq, rcv_nxt, flags, window, urg_ptr, options
        )
    sk.icsk_af_ops.send_check(sk, skb)

    if flags & TCPHDR_ACK:
        tcp_event_ack_sent(sk, rcv_nxt)
    if payload:
        tcp_event_data_sent(sk)
        sk.data_segs_out += pcount
        sk.bytes_sent += payload
    tcp_mib = sk.net.mib.tcp
    if after(skb.end_seq, sk.snd_nxt) or seq == skb.end_seq:
        tcp_mib.OutSegs += pcount
    sk.segs_out += pcount
    if pcount > 1:  # queued sk_buffs have these unset, so a clone with one segment has too
        skb.gso_segs = pcount
        skb.gso_size = skb.tcp_gso_size
        skb.gso_type = sk.sk_gso_type
        if flags & TCPHDR_CWR:
            # Only the first segment keeps CWR, all keep the ACE field: not every device can.
            accecn = sk.ecn_flags & TCP_ECN_MODE_ACCECN
            skb.gso_type |= SKB_GSO_TCP_ACCECN if accecn else SKB_GSO_TCP_ECN
    # Strictly increasing, so that RACK can tell the order of packets sent at the same time.
    wstamp = sk.tcp_wstamp_ns + 1
    if wstamp < sk.tcp_mstamp:
        wstamp = sk.tcp_mstamp
    if oskb is not None:  # a pure ACK is charged to no socket and not paced
        if sk.sk_pacing_status == SK_PACING_FQ and wstamp < sk.pacing_next_ns:
            wstamp = skb.tx_tstamp_ns = sk.pacing_next_ns
        skb.sk = sk
        skb.destructor = tcp_wfree
        sk.sk_wmem_alloc += skb.truesize
    sk.tcp_wstamp_ns = wstamp
    end_seq = skb.end_seq
    if sk.sk_dst_pending_confirm:
        sock_confirm_neigh(sk)
    err = sk.icsk_af_ops.queue_xmit(sk, skb, sk.inet_fl)
    if err > 0:
        tcp_enter_cwr(sk)
        if err == NET_XMIT_CN:
            err = 0
    if not err and oskb is not None and oskb.end_seq == end_seq:
        oskb.tx_tstamp_ns = wstamp
        tcp_rate_skb_sent(sk, oskb)
    return err


def tcp_wfree(skb: sk_buff) -> None:
    """Destructor of a packet that was sent: send data that tcp_small_queue_check held back."""
    sk: tcp_sock = skb.sk  # type: ignore[assignment]  # it set the destructor
    try:
        sk.sk_wmem_alloc -= skb.truesize
        flags = sk.tsq_flags
        if flags & TSQF_THROTTLED:
            sk.tsq_flags = flags & ~TSQF_THROTTLED | TSQF_QUEUED
            if not flags & TSQF_QUEUED:
                machine = sk.net.machine
                machine.tsq_head.append(sk)
                tasklet_schedule(machine, machine.tsq_tasklet)
    except (AttributeError, TypeError):  # the garbage collector cleared sk
        return


gso_owners.add(tcp_wfree)

NEIGH_CONFIRM_NS = 100_000_000
"""Minimum time between a socket's confirmations: a neighbour stays REACHABLE much longer."""


def sock_confirm_neigh(sk: tcp_sock) -> None:
    """include/net/sock.h: the peer acknowledged what we sent, so its next hop is reachable."""
    sk.sk_dst_pending_confirm = False
    now = sk.tcp_mstamp
    if now - sk.neigh_confirmed < NEIGH_CONFIRM_NS:
        return
    sk.neigh_confirmed = now
    dst: dst_entry | None = sk.sk_dst_cache
    if dst is not None:
        dst_confirm_neigh(dst, sk.inet_daddr)


def tcp_rate_skb_sent(sk: tcp_sock, skb: sk_buff) -> None:
    """net/ipv4/tcp_rate.c: store in the packet what its delivery-rate sample needs."""
    if not sk.packets_out:
        sk.first_tx_mstamp = skb.tx_tstamp_ns
        sk.delivered_mstamp = skb.tx_tstamp_ns
    skb.tx_first_tx_mstamp_ns = sk.first_tx_mstamp
    skb.tx_delivered_mstamp_ns = sk.delivered_mstamp
    skb.tx_delivered = sk.delivered & M32
    skb.tx_is_app_limited = 1 if sk.app_limited else 0


def tcp_adjust_pcount(sk: tcp_sock, skb: sk_buff, decr: int) -> None:
    """skb in the retransmit queue now stands for `decr` segments fewer."""
    sk.packets_out -= decr
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        sk.sacked_out -= decr
    if sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out -= decr
    if sacked & TCPCB_LOST:
        sk.lost_out -= decr
    # Without SACK sacked_out estimates arrivals by duplicate ACKs; it must not outlive the data.
    if not sk.rx_opt.sack_ok and decr > 0:
        sk.sacked_out -= min(sk.sacked_out, decr)


def _split(sk: tcp_sock, skb: sk_buff, length: int) -> sk_buff | None:
    """Move everything past `length` payload bytes to a new sk_buff, charged to the socket."""
    buff = tcp_stream_alloc_skb(sk, True)
    if buff is None:
        return None
    own = buff.truesize
    skb_split(skb, buff, length)
    # Move the payload's share of truesize along with the payload.
    moved = min(buff.len, skb.truesize - 1)
    skb.truesize -= moved
    buff.truesize = own + moved
    sk.sk_wmem_queued += own
    sk.sk_forward_alloc -= own
    seq = (skb.seq + length) & M32
    buff.seq = seq
    buff.end_seq = skb.end_seq
    skb.end_seq = seq
    flags = skb.tcp_flags
    skb.tcp_flags = flags & ~(TCPHDR_FIN | TCPHDR_PSH)
    buff.tcp_flags = flags
    buff.sacked = skb.sacked
    buff.cb = skb.cb  # a record's end (MSG_EOR)
    skb.cb = None
    if (skb.tx_flags or skb.txstamp_ack) and not before(skb.tskey, seq):
        buff.tx_flags, buff.txstamp_ack, buff.tskey = skb.tx_flags, skb.txstamp_ack, skb.tskey
        skb.tx_flags = skb.txstamp_ack = 0
    return buff


def tcp_tx_tstamp(skb: sk_buff) -> tuple[int, int, int] | None:
    """The time stamps requested for skb, for tcp_skb_collapse_tstamp; None: none."""
    if not skb.tx_flags and not skb.txstamp_ack:
        return None
    return skb.tx_flags, skb.txstamp_ack, skb.tskey


def tcp_skb_collapse_tstamp(skb: sk_buff, stamps: tuple[int, int, int]) -> None:
    """Merge the time stamp requests of a merged packet: those of the later byte stay."""
    skb.tx_flags |= stamps[0]
    skb.txstamp_ack |= stamps[1]
    skb.tskey = stamps[2]


def tcp_fragment(sk: tcp_sock, tcp_queue: int, skb: sk_buff, length: int, mss_now: int) -> int:
    """Cut skb in two at `length` bytes, both staying in their queue. 0 or -ENOMEM.

    With far more queued than the send buffer allows, only the ends of the retransmit queue are cut:
    otherwise forged SACK blocks could multiply the sk_buffs.
    """
    queue = sk.tcp_rtx_queue
    if (
        sk.sk_wmem_queued >> 1 > sk.sk_sndbuf + 2 * 65536 * 8
        and tcp_queue
        and skb is not queue.peek()
        and skb is not queue.peek_tail()
    ):
        sk.net.mib.linux.TCPWqueueTooBig += 1
        return -errno.ENOMEM
    old_factor = skb.tcp_gso_segs
    buff = _split(sk, skb, length)
    if buff is None:
        return -errno.ENOMEM
    buff.tx_tstamp_ns = skb.tx_tstamp_ns
    buff.tx_first_tx_mstamp_ns = skb.tx_first_tx_mstamp_ns
    buff.tx_delivered_mstamp_ns = skb.tx_delivered_mstamp_ns
    buff.tx_delivered = skb.tx_delivered
    diff = old_factor - tcp_set_skb_tso_segs(skb, mss_now) - tcp_set_skb_tso_segs(buff, mss_now)
    skb_header_release(buff)
    if tcp_queue:
        # Already sent: the counters go by segments.
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
        queue.insert_after(skb, buff)
    else:
        sk.sk_write_queue.insert_after(skb, buff)
    return 0


def tso_fragment(sk: tcp_sock, skb: sk_buff, length: int, mss_now: int) -> int:
    """Cut an sk_buff of the write queue so that its first part can be sent now. 0 or -ENOMEM."""
    buff = _split(sk, skb, length)
    if buff is None:
        return -errno.ENOMEM
    tcp_set_skb_tso_segs(skb, mss_now)
    tcp_set_skb_tso_segs(buff, mss_now)
    skb_header_release(buff)
    sk.sk_write_queue.insert_after(skb, buff)
    return 0


def tcp_trim_head(sk: tcp_sock, skb: sk_buff, length: int) -> int:
    """Drop the acknowledged first `length` bytes of skb in the retransmit queue. 0 or -ENOMEM."""
    if skb_cloned(skb) and not skb_unclone(skb):
        return -errno.ENOMEM
    skb_pull(skb, length)
    delta = min(length, skb.truesize - 1)
    skb.truesize -= delta
    sk.sk_wmem_queued -= delta
    sk_mem_uncharge(sk, delta)
    skb.seq = (skb.seq + length) & M32
    if skb.tcp_gso_segs > 1:
        tcp_set_skb_tso_segs(skb, skb.tcp_gso_size)
    return 0


def tcp_cwnd_test(sk: tcp_sock) -> int:
    """How many segments the congestion window allows now."""
    in_flight = sk.packets_out - (sk.sacked_out + sk.lost_out) + sk.retrans_out
    cwnd = sk.snd_cwnd
    if in_flight >= cwnd:
        return 0
    # At most half of the window at once, so that ACKs arrive in between.
    quota = cwnd - in_flight
    half = cwnd >> 1
    if quota > half:
        return half or 1
    return quota


def tcp_init_tso_segs(skb: sk_buff, mss_now: int) -> int:
    """Number of segments of skb; recomputed when the MSS has changed since it was queued."""
    tso_segs = skb.tcp_gso_segs
    if not tso_segs or (tso_segs > 1 and skb.tcp_gso_size != mss_now):
        return tcp_set_skb_tso_segs(skb, mss_now)
    return tso_segs


def tcp_minshall_check(sk: tcp_sock) -> bool:
    """Whether a small segment is in flight (Minshall's variant of Nagle)."""
    return after(sk.snd_sml, sk.snd_una) and not after(sk.snd_sml, sk.snd_nxt)


def tcp_minshall_update(sk: tcp_sock, mss_now: int, skb: sk_buff) -> None:
    """Store the end of the last small segment sent."""
    if skb.len // mss_now < skb.tcp_gso_segs:
        sk.snd_sml = skb.end_seq


def tcp_nagle_check(partial: bool, sk: tcp_sock, nonagle: int) -> bool:
    """True if Nagle or cork makes a partial segment wait."""
    return partial and bool(
        nonagle & TCP_NAGLE_CORK or (not nonagle and sk.packets_out and tcp_minshall_check(sk))
    )


def tcp_nagle_test(sk: tcp_sock, skb: sk_buff, cur_mss: int, nonagle: int) -> bool:
    """True when Nagle and cork let skb be sent (RFC 9293 3.7.4)."""
    if nonagle & TCP_NAGLE_PUSH:
        return True
    if sk.snd_up != sk.snd_una or skb.tcp_flags & TCPHDR_FIN:
        return True
    return not tcp_nagle_check(skb.len < cur_mss, sk, nonagle)


def tcp_snd_wnd_test(sk: tcp_sock, skb: sk_buff, cur_mss: int) -> bool:
    """True when the first segment of skb fits the peer's window."""
    end_seq = skb.end_seq
    if skb.len > cur_mss:
        end_seq = (skb.seq + cur_mss) & M32
    return ((sk.snd_una + sk.snd_wnd - end_seq) & M32) < HALF


def tcp_mss_split_point(
    sk: tcp_sock, skb: sk_buff, mss_now: int, max_segs: int, nonagle: int
) -> int:
    """How many bytes of skb may be sent in this transmission."""
    window = (sk.snd_una + sk.snd_wnd - skb.seq) & M32
    max_len = mss_now * max_segs
    if max_len <= window and sk.sk_write_queue.peek_tail() is not skb:
        return max_len
    needed = min(skb.len, window)
    if max_len <= needed:
        return max_len
    partial = needed % mss_now
    # A remainder below the MSS waits if Nagle or the window requires it.
    if tcp_nagle_check(partial != 0, sk, nonagle):
        return needed - partial
    return needed


def tcp_tso_segs(sk: tcp_sock, mss_now: int) -> int:
    """Segments of one sk_buff at most, by the device's limits."""
    return max(min(sk.sk_gso_max_segs, (sk.sk_gso_max_size - 1 - MAX_TCP_HEADER) // mss_now), 1)


def tcp_tso_should_defer(sk: tcp_sock, skb: sk_buff, max_segs: int) -> int:
    """Whether waiting for the next ACK or write allows a larger packet, and what limits it now.

    TSO_SEND or TSO_DEFER_*: the congestion window, the peer's window, or the application.
    """
    if sk.icsk_ca_state >= TCP_CA_Recovery:
        return TSO_SEND
    if sk.tcp_mstamp - sk.tcp_wstamp_ns > NSEC_PER_MSEC:
        return TSO_SEND  # data sent long ago begins no burst
    is_tail = sk.sk_write_queue.peek_tail() is skb
    mss = sk.mss_cache
    in_flight = sk.packets_out - (sk.sacked_out + sk.lost_out) + sk.retrans_out
    send_win = (sk.snd_una + sk.snd_wnd - skb.seq) & M32
    cong_win = (sk.snd_cwnd - in_flight) * mss
    limit = min(send_win, cong_win)
    if limit >= max_segs * mss:
        return TSO_SEND
    if not is_tail and limit >= skb.len:
        return TSO_SEND
    win_divisor = sk.net.sysctl.tcp_tso_win_divisor
    if win_divisor:
        chunk = min(sk.snd_wnd, sk.snd_cwnd * mss) // win_divisor
        if limit >= chunk:
            return TSO_SEND
    elif limit > 3 * mss:
        return TSO_SEND
    # Will an ACK come soon? Not if the oldest packet was sent less than half a round trip ago.
    head = sk.tcp_rtx_queue.peek()
    if head is None:
        return TSO_SEND
    delta_us = max(sk.tcp_mstamp - head.tx_tstamp_ns, 0) // 1000
    if delta_us < (sk.srtt_us >> 4):
        return TSO_SEND
    if cong_win < send_win:
        if cong_win <= skb.len:
            return TSO_DEFER_CWND
    elif send_win <= skb.len:
        return TSO_DEFER_RWND
    # Nothing more can be added to an sk_buff with FIN or the end of a record: do not wait.
    if skb.tcp_flags & TCPHDR_FIN or skb.cb == MSG_EOR:
        return TSO_SEND
    return TSO_DEFER_APP


def tcp_can_coalesce_send_queue_head(sk: tcp_sock, length: int) -> bool:
    """Whether queued data fills a packet of `length` bytes, without an end or time stamp inside."""
    for skb in sk.sk_write_queue:
        if length <= skb.len:
            break
        if skb.tx_flags or skb.txstamp_ack or skb.cb == MSG_EOR:
            return False
        length -= skb.len
    return True


def tcp_mtu_probe(sk: tcp_sock) -> int:
    """Send a larger packet than the path is known to carry, if one is due (RFC 4821 7.5).

    1: it was sent. 0: sending should wait, since the probe needs room. -1: no probe is due.
    """
    if (
        sk.mtup_probe_size
        or sk.icsk_ca_state != TCP_CA_Open
        or sk.snd_cwnd < MTU_PROBE_CWND
        or sk.rx_opt.num_sacks
        or sk.rx_opt.dsack
    ):
        return -1
    mss_now = tcp_current_mss(sk)
    low, high = sk.mtup_search_low, sk.mtup_search_high
    probe_size = tcp_mtu_to_mss(sk, (high + low) >> 1)
    size_needed = probe_size + (sk.reordering + 1) * sk.mss_cache
    threshold: int = sk.net.sysctl.tcp_probe_threshold
    if probe_size > tcp_mtu_to_mss(sk, high) or high - low < threshold:
        tcp_mtu_check_reprobe(sk)
        return -1
    if (sk.write_seq - sk.snd_nxt) & M32 < size_needed or sk.snd_wnd < size_needed:
        return -1
    if after((sk.snd_nxt + size_needed) & M32, (sk.snd_una + sk.snd_wnd) & M32):
        return 0
    in_flight = tcp_packets_in_flight(sk)
    if in_flight + 2 > sk.snd_cwnd:
        return 0 if in_flight else -1
    if not tcp_can_coalesce_send_queue_head(sk, probe_size):
        return -1
    probe = tcp_mtu_probe_skb(sk, probe_size, mss_now)
    if probe is None or tcp_transmit_skb(sk, probe, 1):
        return -1
    sk.snd_cwnd -= 1  # it counts for two packets
    tcp_event_new_data_sent(sk, probe)
    sk.mtup_probe_size = tcp_mss_to_mtu(sk, probe.len)
    sk.mtu_probe_seq_start, sk.mtu_probe_seq_end = probe.seq, probe.end_seq
    return 1


def tcp_mtu_probe_skb(sk: tcp_sock, probe_size: int, mss_now: int) -> sk_buff | None:
    """Put the first `probe_size` bytes of the write queue into one packet; None without memory."""
    queue = sk.sk_write_queue
    probe = tcp_stream_alloc_skb(sk)
    if probe is None:
        return None
    left = probe_size
    for skb in queue:  # first share the payload: a failure leaves all bytes in the queue
        if (skb.len > left and tso_fragment(sk, skb, left, mss_now)) or not skb_append_frags(
            probe, skb, 0, skb.len
        ):
            kfree_skb(probe)
            return None
        left -= skb.len
        if not left:
            break
    sk.sk_wmem_queued += probe.truesize
    sk.sk_forward_alloc -= probe.truesize
    head = queue.peek()
    assert head is not None  # the caller counted the bytes
    probe.seq = head.seq
    probe.end_seq = (head.seq + probe_size) & M32
    probe.tcp_flags = TCPHDR_ACK
    skb_header_release(probe)
    queue.insert_before(head, probe)
    left = probe_size
    while left and (eaten := queue.next(probe)) is not None:
        left -= eaten.len
        tcp_eat_one_skb(sk, probe, eaten)
    tcp_set_skb_tso_segs(probe, probe_size)
    return probe


def tcp_small_queue_check(sk: tcp_sock, skb: sk_buff, factor: int) -> bool:
    """TCP Small Queues: whether skb must wait, since enough is queued in this host.

    The limit is what the rate sends in a millisecond, at least two packets as large as skb, shifted
    left by `factor`. tcp_wfree sends later. With at most one packet in flight nothing waits: a
    lost completion must not stop the connection.
    """
    queued = sk.sk_wmem_alloc
    if not queued:
        return False
    limit: int = sk.net.sysctl.tcp_limit_output_bytes
    most = max(2 * skb.truesize, tcp_pacing_rate(sk) >> PACING_SHIFT)
    if most < limit or sk.sk_pacing_status:
        limit = most
    if queued <= limit << factor or sk.tcp_rtx_queue.qlen <= 1:
        return False
    sk.tsq_flags |= TSQF_THROTTLED
    return True


def tcp_grow_skb(sk: tcp_sock, skb: sk_buff, amount: int) -> bool:
    """Move up to `amount` bytes of the next sk_buff into the head of the write queue.

    So a head that was split still makes a large packet. True: it has grown.
    """
    queue = sk.sk_write_queue
    next_skb = queue.next(skb)
    if next_skb is None or skb.cb == MSG_EOR:
        return False
    if skb_zcopy(skb) is not None or skb_zcopy(next_skb) is not None:
        return False
    nlen: int = min(amount, next_skb.len)
    if not nlen:
        return False
    if nlen < next_skb.len and next_skb.len > next_skb.data_len:
        # The rest of a small write stays in its head buffer, before which a header is built.
        data = skb_copy_bits(next_skb, 0, nlen)
        nlen = skb_add_data(skb, sk.net.skb_pages, data, 0, nlen)
        skb_pull(next_skb, nlen)
        next_skb.truesize -= nlen
    else:
        nlen = skb_shift(skb, next_skb, nlen)
    if not nlen:
        return False
    skb.end_seq = next_skb.seq = (next_skb.seq + nlen) & M32
    if not next_skb.len:
        skb.end_seq = next_skb.end_seq  # it may have a FIN
        tcp_eat_one_skb(sk, skb, next_skb)
    return True


def tcp_eat_one_skb(sk: tcp_sock, dst: sk_buff, src: sk_buff) -> None:
    """`dst` has the payload of `src`, the next of the write queue: move the rest, free `src`."""
    dst.tcp_flags |= src.tcp_flags
    dst.cb = src.cb
    stamps = tcp_tx_tstamp(src)
    if stamps is not None:
        tcp_skb_collapse_tstamp(dst, stamps)
    sk.sk_write_queue.unlink(src)
    tcp_wmem_free_skb(sk, src)


def tcp_write_xmit(sk: tcp_sock, mss_now: int, nonagle: int, push_one: int) -> bool:
    """Send from the write queue what windows, Nagle and TSO allow.

    push_one 1: one packet; 2: one packet whatever cwnd says (loss probe). True when nothing is in
    flight though data waits: the caller must arm the zero-window probe.
    """
    tcp_mstamp_refresh(sk)
    sent_pkts = 0
    is_cwnd_limited = False
    rwnd_limited = False
    max_segs = 0  # not needed for single segments
    paced = sk.sk_pacing_status
    write_queue = sk.sk_write_queue
    if sk.mtup_enabled and not push_one and write_queue.qlen:
        probed = tcp_mtu_probe(sk)
        if not probed:
            return False
        if probed > 0:
            sent_pkts = 1
    while (skb := write_queue.peek()) is not None:
        if paced == SK_PACING_NEEDED and tcp_pacing_check(sk):
            break
        tso_segs = tcp_init_tso_segs(skb, mss_now)
        cwnd_quota = tcp_cwnd_test(sk)
        if not cwnd_quota:
            if push_one != 2:
                is_cwnd_limited = True
                break
            cwnd_quota = 1
        if write_queue.peek_tail() is not skb:
            if not max_segs:
                max_segs = tcp_tso_autosize(sk, mss_now, tcp_tso_segs(sk, mss_now))
            missing_bytes = min(cwnd_quota, max_segs) * mss_now - skb.len
            if missing_bytes > 0 and tcp_grow_skb(sk, skb, missing_bytes):
                tso_segs = tcp_set_skb_tso_segs(skb, mss_now)
        if not tcp_snd_wnd_test(sk, skb, mss_now):
            rwnd_limited = True
            break
        limit = mss_now
        if tso_segs == 1:
            # Only the last sk_buff may wait for more data.
            if write_queue.peek_tail() is skb and not tcp_nagle_test(sk, skb, mss_now, nonagle):
                break
        else:
            if not max_segs:
                max_segs = tcp_tso_autosize(sk, mss_now, tcp_tso_segs(sk, mss_now))
            if not push_one:
                defer = tcp_tso_should_defer(sk, skb, max_segs)
                if defer:
                    is_cwnd_limited = defer == TSO_DEFER_CWND
                    rwnd_limited = defer == TSO_DEFER_RWND
                    break
            if sk.snd_up == sk.snd_una:
                limit = tcp_mss_split_point(sk, skb, mss_now, min(cwnd_quota, max_segs), nonagle)
        if skb.len > limit and (not limit or tso_fragment(sk, skb, limit, mss_now)):
            break
        if skb.end_seq == skb.seq or tcp_small_queue_check(sk, skb, 0):
            break
        if tcp_transmit_skb(sk, skb, 1):
            break
        tcp_event_new_data_sent(sk, skb)
        tcp_minshall_update(sk, mss_now, skb)
        sent_pkts += skb.tcp_gso_segs
        if paced:
            tcp_update_skb_after_send(sk, skb.len)
        if push_one:
            break
    if rwnd_limited:
        tcp_chrono_start(sk, TCP_CHRONO_RWND_LIMITED)
    elif sk.chrono_type == TCP_CHRONO_RWND_LIMITED:
        tcp_chrono_stop(sk, TCP_CHRONO_RWND_LIMITED)
    is_cwnd_limited = is_cwnd_limited or tcp_packets_in_flight(sk) >= sk.snd_cwnd
    if sent_pkts or is_cwnd_limited:
        tcp_cwnd_validate(sk, is_cwnd_limited)
    if sent_pkts:
        if tcp_in_cwnd_reduction(sk):
            sk.prr_out += sent_pkts
        if push_one != 2:
            tcp_schedule_loss_probe(sk, False)
        return False
    return not sk.packets_out and sk.write_seq != sk.snd_nxt and not tcp_pacing_armed(sk)


def __tcp_push_pending_frames(sk: tcp_sock, cur_mss: int, nonagle: int) -> None:
    """Send what is allowed; if nothing was sent and nothing is in flight, start probing."""
    if sk.sk_state == TCP_CLOSE:
        return
    if tcp_write_xmit(sk, cur_mss, nonagle, 0):
        tcp_check_probe_timer(sk)


def tcp_push_pending_frames(sk: tcp_sock) -> None:
    """include/net/tcp.h: __tcp_push_pending_frames if data waits; called for each ACK."""
    if sk.sk_write_queue.qlen:
        __tcp_push_pending_frames(sk, tcp_current_mss(sk), sk.nonagle)


def tcp_push_one(sk: tcp_sock, mss_now: int) -> None:
    """Send the first sk_buff of the write queue (it just became full)."""
    tcp_write_xmit(sk, mss_now, TCP_NAGLE_PUSH, 1)


def tcp_probe0_base(sk: tcp_sock) -> int:
    return max(sk.icsk_rto, tcp_rto_min(sk))


def tcp_probe0_when(sk: tcp_sock, max_when: int) -> int:
    """Time to the next window probe: exponential, bounded.

    The bound of 10 doublings is reached before TCP_RTO_MAX by a small TCP_RTO_MIN_US only.
    """
    return min(tcp_probe0_base(sk) << min(sk.icsk_backoff, 10), max_when)


def tcp_check_probe_timer(sk: tcp_sock) -> None:
    """include/net/tcp.h: arm the probe timer unless some timer runs already."""
    if not sk.packets_out and not sk.icsk_pending:
        tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, tcp_probe0_base(sk))


# --- tail loss probe (RFC 8985 7) ---------------------------------------------------------


def tcp_schedule_loss_probe(sk: tcp_sock, advancing_rto: bool) -> bool:
    """Arm a probe after two round trips instead of waiting for the RTO."""
    if not sk.packets_out or sk.fastopen_rsk is not None:  # the timer is for the SYN-ACK
        return False
    if not sk.rx_opt.sack_ok or sk.icsk_ca_state not in (TCP_CA_Open, TCP_CA_CWR):
        return False
    if sk.net.sysctl.tcp_early_retrans not in (3, 4):
        return False
    srtt_us = sk.srtt_us
    if srtt_us:
        timeout = (srtt_us >> 2) * 1000
        timeout += tcp_rto_min(sk) if sk.packets_out == 1 else TCP_TIMEOUT_MIN
    else:
        timeout = NSEC_PER_SEC
    rto_delta = sk.icsk_rto if advancing_rto else tcp_rto_delta(sk)
    if 0 < rto_delta < timeout:
        timeout = rto_delta
    tcp_reset_xmit_timer(sk, ICSK_TIME_LOSS_PROBE, timeout)
    return True


# --- freeing what is queued ---------------------------------------------------------------


def tcp_write_queue_purge(sk: tcp_sock) -> None:
    """net/ipv4/tcp.c: free both queues. Counts of lost and retransmitted segments stay."""
    for queue in (sk.sk_write_queue, sk.tcp_rtx_queue):
        while (skb := queue.dequeue()) is not None:
            tcp_wmem_free_skb(sk, skb)
    if sk.chrono_type:
        tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
    sk.packets_out = 0
    sk.icsk_backoff = 0


def tcp_wmem_free_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """include/net/tcp.h: uncharge and free one sk_buff of the send queues. Takes ownership."""
    truesize = skb.truesize
    sk.sk_wmem_queued -= truesize
    sk_mem_uncharge(sk, truesize)
    kfree_skb(skb)
