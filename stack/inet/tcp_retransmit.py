"""net/ipv4/tcp_output.c: retransmission, collapsing, the tail loss probe."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_cloned, skb_copy_bits, skb_put_data, skb_tailroom
from fastpath.net.zerocopy import skb_zcopy
from stack.core.sock import SK_PACING_NEEDED
from stack.core.uapi import MSG_EOR
from stack.inet.inet_connection_sock import ICSK_TIME_REO_TIMEOUT, ICSK_TIME_RETRANS
from stack.inet.tcp_ecn import TCPHDR_SYN_ECN, tcp_ecn_clear_syn
from stack.inet.tcp_output import (
    TCP_FRAG_IN_RTX_QUEUE,
    tcp_adjust_pcount,
    tcp_fragment,
    tcp_rearm_rto,
    tcp_reset_xmit_timer,
    tcp_set_skb_tso_segs,
    tcp_skb_collapse_tstamp,
    tcp_small_queue_check,
    tcp_snd_wnd_test,
    tcp_transmit_skb,
    tcp_trim_head,
    tcp_tso_segs,
    tcp_tx_tstamp,
    tcp_wmem_free_skb,
    tcp_write_xmit,
)
from stack.inet.tcp_pacing import tcp_pacing_check, tcp_update_skb_after_send
from stack.inet.tcp_sock import (
    HALF,
    M32,
    TCP_NAGLE_OFF,
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_REPAIRED,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPHDR_SYN,
    TCP_CA_Loss,
    after,
    before,
    tcp_in_cwnd_reduction,
    tcp_packets_in_flight,
    tcp_sock,
    tcp_wnd_end,
)
from stack.inet.tcp_window import tcp_current_mss


def tcp_send_loss_probe(sk: tcp_sock) -> None:
    """Send the probe: new data if there is some, else the last segment again."""
    mss = tcp_current_mss(sk)
    sent = False
    if not sk.tlp_high_seq:
        sk.tlp_retrans = 0
        skb = sk.sk_write_queue.peek()
        if skb is not None and tcp_snd_wnd_test(sk, skb, mss):
            pcount = sk.packets_out
            tcp_write_xmit(sk, mss, TCP_NAGLE_OFF, 2)
            sent = sk.packets_out > pcount
        else:
            skb = sk.tcp_rtx_queue.peek_tail()
            if skb is None:
                sk.icsk_pending = 0
                return
            pcount = skb.tcp_gso_segs
            ok = True
            if pcount > 1 and skb.len > (pcount - 1) * mss:
                ok = not tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, (pcount - 1) * mss, mss)
                skb = sk.tcp_rtx_queue.peek_tail()
            if ok and skb is not None and not __tcp_retransmit_skb(sk, skb, 1):
                sk.tlp_retrans = 1
                sent = True
        if sent:
            sk.tlp_high_seq = sk.snd_nxt
            sk.net.mib.linux.TCPLossProbes += 1
            sk.icsk_pending = 0
    tcp_rearm_rto(sk)


def tcp_retrans_try_collapse(sk: tcp_sock, to: sk_buff, space: int) -> None:
    """Merge following small packets into the one about to be retransmitted."""
    if not sk.net.sysctl.tcp_retrans_collapse or to.tcp_flags & TCPHDR_SYN:
        return
    if to.tcp_gso_segs > 1 or skb_cloned(to) or to is sk.sk_write_queue.peek():
        return
    queue = sk.tcp_rtx_queue
    while True:
        skb = queue.next(to)
        if (
            skb is None
            or skb.tcp_gso_segs > 1
            or skb.tcp_flags & TCPHDR_SYN
            or skb.sacked & TCPCB_SACKED_ACKED
            or skb_cloned(skb)
            or to.cb == MSG_EOR
            or to.len + skb.len > space
            or after(skb.end_seq, tcp_wnd_end(sk))
        ):
            return
        ends = skb.cb
        if not tcp_collapse_retrans(sk, to, skb):
            return
        to.cb = ends


def tcp_collapse_retrans(sk: tcp_sock, skb: sk_buff, next_skb: sk_buff) -> bool:
    """Move the whole payload of next_skb behind that of skb; next_skb is freed."""
    end_seq, flags, sacked = next_skb.end_seq, next_skb.tcp_flags, next_skb.sacked
    segs = next_skb.tcp_gso_segs
    stamps = tcp_tx_tstamp(next_skb)
    if not next_skb.len or (not skb.data_len and not next_skb.data_len):
        if not _collapse_linear(sk, skb, next_skb):
            return False
    elif (
        not skb.data_len
        or not next_skb.data_len
        or skb.len - skb.data_len
        or skb_zcopy(skb) is not None
        or skb_zcopy(next_skb) is not None
    ):
        return False
    else:
        total = skb.truesize + next_skb.truesize
        if not sk.tcp_rtx_queue.coalesce(skb, next_skb):
            return False
        delta = skb.truesize - total
        sk.sk_wmem_queued += delta
        sk.sk_forward_alloc -= delta
    if stamps is not None:
        tcp_skb_collapse_tstamp(skb, stamps)
    skb.end_seq = end_seq
    skb.tcp_flags |= flags
    skb.sacked |= sacked & TCPCB_EVER_RETRANS
    sk.packets_out -= segs
    if sacked & TCPCB_LOST:
        sk.lost_out -= segs
    if sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out -= segs
    if not sk.rx_opt.sack_ok and sk.sacked_out:
        sk.sacked_out -= min(sk.sacked_out, segs)
    return True


def _collapse_linear(sk: tcp_sock, skb: sk_buff, next_skb: sk_buff) -> bool:
    """Collapse payload that small writes left in next_skb's head buffer: copy it behind skb's."""
    moved = next_skb.len
    if moved:  # and not only a FIN
        if skb_tailroom(skb) < moved:
            return False
        skb_put_data(skb, skb_copy_bits(next_skb, 0, moved))
    skb.truesize += moved
    next_skb.truesize -= moved
    sk.tcp_rtx_queue.unlink(next_skb)
    tcp_wmem_free_skb(sk, next_skb)
    return True


def __tcp_retransmit_skb(sk: tcp_sock, skb: sk_buff, segs: int) -> int:
    """Send up to `segs` segments of skb (of the retransmit queue) again. 0 or an error."""
    sk.mtup_probe_size = 0  # a loss besides the probe: its result is void
    if before(skb.seq, sk.snd_una):
        if skb.tcp_flags & TCPHDR_SYN:
            skb.tcp_flags &= ~TCPHDR_SYN
            skb.seq = (skb.seq + 1) & M32
        if before(skb.seq, sk.snd_una):
            if before(skb.end_seq, sk.snd_una):
                return -errno.EINVAL
            if tcp_trim_head(sk, skb, (sk.snd_una - skb.seq) & M32):
                return -errno.ENOMEM
    if sk.icsk_af_ops.rebuild_header(sk):
        return -errno.EHOSTUNREACH
    cur_mss = tcp_current_mss(sk)
    avail_wnd = (sk.snd_una + sk.snd_wnd - skb.seq) & M32
    if avail_wnd >= HALF or not avail_wnd:
        # The window shrank below what was sent: only the head may be sent, as a probe.
        if skb.seq != sk.snd_una:
            return -errno.EAGAIN
        avail_wnd = cur_mss
    length = cur_mss * segs
    if length > avail_wnd:
        length = avail_wnd - avail_wnd % cur_mss or avail_wnd
    if skb.len > length:
        if tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, length, cur_mss):
            return -errno.ENOMEM
    else:
        diff = skb.tcp_gso_segs
        diff -= tcp_set_skb_tso_segs(skb, cur_mss)
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
        avail_wnd = min(avail_wnd, cur_mss)
        if skb.len < avail_wnd:
            tcp_retrans_try_collapse(sk, skb, avail_wnd)
    if skb.tcp_flags & TCPHDR_SYN_ECN == TCPHDR_SYN_ECN:
        tcp_ecn_clear_syn(sk, skb)
    segs = skb.tcp_gso_segs
    mib = sk.net.mib
    mib.tcp.RetransSegs += segs
    if skb.tcp_flags & TCPHDR_SYN:
        mib.linux.TCPSynRetrans += 1
    sk.total_retrans += segs
    sk.bytes_retrans += skb.len
    err = tcp_transmit_skb(sk, skb, 1)
    if err:
        mib.linux.TCPRetransFail += segs
    else:
        skb.sacked |= TCPCB_EVER_RETRANS
        sk.tcp_rtx_queue.sent(skb)
        if sk.sk_pacing_status:
            tcp_update_skb_after_send(sk, skb.len)
    return err


def tcp_retransmit_skb(sk: tcp_sock, skb: sk_buff, segs: int) -> int:
    """Retransmit and count it: retrans_out, undo_retrans, and the time of the first one."""
    err = __tcp_retransmit_skb(sk, skb, segs)
    if err:
        return err
    pcount = skb.tcp_gso_segs
    if not skb.sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out += pcount
    skb.sacked |= TCPCB_RETRANS & ~TCPCB_REPAIRED
    if not sk.retrans_stamp:
        sk.retrans_stamp = skb.tx_tstamp_ns or 1
    if sk.undo_retrans < 0:
        sk.undo_retrans = 0
    sk.undo_retrans += pcount
    return 0


def tcp_xmit_retransmit_queue(sk: tcp_sock) -> None:
    """Retransmit what is marked lost, as far as the congestion window allows."""
    if not sk.packets_out or sk.lost_out <= sk.retrans_out:
        return
    linux = sk.net.mib.linux
    max_segs = tcp_tso_segs(sk, tcp_current_mss(sk))
    rearm_timer = False
    queue = sk.tcp_rtx_queue
    while (skb := queue.lost_first) is not None:
        segs = sk.snd_cwnd - tcp_packets_in_flight(sk)
        if segs <= 0 or (sk.sk_pacing_status == SK_PACING_NEEDED and tcp_pacing_check(sk)):
            break
        if tcp_small_queue_check(sk, skb, 1):
            break
        if tcp_retransmit_skb(sk, skb, min(segs, max_segs)):
            break
        if sk.icsk_ca_state != TCP_CA_Loss:
            linux.TCPFastRetrans += skb.tcp_gso_segs
        else:
            linux.TCPSlowStartRetrans += skb.tcp_gso_segs
        if tcp_in_cwnd_reduction(sk):
            sk.prr_out += skb.tcp_gso_segs
        if skb is queue.peek() and sk.icsk_pending != ICSK_TIME_REO_TIMEOUT:
            rearm_timer = True
    if rearm_timer:
        tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto)
