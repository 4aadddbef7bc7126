"""net/ipv4/tcp_input.c, the receiver side: windows, queues, SACK blocks, when to send an ACK.

tcp_rcv_established and tcp_rcv_state_process (tcp_input.py) call these after checks and tcp_ack:

    tcp_urg                         look for urgent data
    tcp_data_queue                  the segment's data, by its place relative to RCV.NXT:
        tcp_data_out_of_window      all old, or beyond the window: drop, ACK at once
        tcp_data_queue_ofo          beyond a hole: into `out_of_order_queue`, make a SACK block
        tcp_try_rmem_schedule       room? else tcp_prune_queue: collapse, then drop
        tcp_event_data_recv         an ACK is owed; measure MSS and RTT, grow the window
        tcp_queue_rcv               into `sk_receive_queue`, merged with its tail if possible
        tcp_fin                     the peer's FIN: next state
        tcp_ofo_queue, tcp_sack_remove      the hole is filled: move what follows
        tcp_data_ready              wake the reader
    tcp_data_snd_check              send what the ACK allows
    tcp_ack_snd_check -> __tcp_ack_snd_check    send the owed ACK now, or delay it
        tcp_compress_ack            beyond a hole, with SACK: one ACK for several segments

State: `rcv_nxt`, both queues, `selective_acks` (blocks to report), `icsk_ack_*` (the owed ACK),
`compressed_ack` (ACKs that wait for `compressed_ack_timer`, see tcp_compressed_ack_kick).
`out_of_order_queue` is a list sorted by sequence number (the kernel: an rb-tree); its sk_buffs are
charged to the receive buffer like those of `sk_receive_queue`. Read tcp_data_queue first.
"""

from __future__ import annotations

from fastpath.base.skbuff import (
    alloc_skb,
    kfree_skb,
    sk_buff,
    skb_add_data,
    skb_clone,
    skb_cloned,
    skb_copy_bits,
    skb_headroom,
    skb_pull,
    skb_put_data,
    skb_tailroom,
    skb_try_coalesce,
)
from fastpath.net.hdr import tcp_hdr
from stack.core import drop_reason, sock_flags, tcp_states
from stack.core.drop_reason import kfree_skb_reason
from stack.core.fasync import SOCK_WAKE_WAITD
from stack.core.inet_ecn import INET_ECN_CE, INET_ECN_MASK, INET_ECN_NOT_ECT
from stack.core.netdevice import ARPHRD_NONE
from stack.core.sk_mem import (
    sk_forced_mem_schedule,
    sk_mem_reclaim,
    sk_rmem_schedule,
    sk_under_memory_pressure,
)
from stack.core.sock import (
    sk_data_ready,
    sk_send_sigurg,
    sk_state_change,
    sk_wake_async,
    sk_write_space,
    skb_set_owner_r,
    sock_owned_by_user,
)
from stack.core.tcp_states import RCV_FIN, tcp_next_state
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.core.uapi import POLL_HUP, POLL_IN, RCV_SHUTDOWN, SHUTDOWN_MASK
from stack.inet.inet_connection_sock import (
    ICSK_ACK_NOMEM,
    ICSK_ACK_NOW,
    ICSK_ACK_SCHED,
    inet_csk_enter_pingpong_mode,
    inet_csk_exit_pingpong_mode,
    inet_csk_in_pingpong_mode,
)
from stack.inet.tcp_accecn import tcp_accecn_opt_lost
from stack.inet.tcp_const import TCP_ATO_MIN
from stack.inet.tcp_ctl import tcp_send_ack, tcp_send_delayed_ack
from stack.inet.tcp_done import tcp_set_state
from stack.inet.tcp_ecn import tcp_ecn_accept_cwr
from stack.inet.tcp_output import tcp_push_pending_frames
from stack.inet.tcp_rcvbuf import (
    tcp_clamp_window,
    tcp_grow_window,
    tcp_measure_rcv_mss,
    tcp_rcv_rtt_measure,
    tcp_rcvbuf_grow,
    tcp_sndbuf_expand,
)
from stack.inet.tcp_sock import (
    HALF,
    M32,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_MODE_ANY,
    TCP_ECN_MODE_RFC3168,
    TCP_ECN_SEEN,
    TCP_FASTRETRANS_THRESH,
    TCP_MAX_QUICKACKS,
    TCP_NUM_SACKS,
    TCP_SACK_BLOCKS_EXPECTED,
    TCP_URG_NOTYET,
    TCP_URG_VALID,
    TCPF_ACK_DEFERRED,
    TCPHDR_FIN,
    TCPHDR_SYN,
    TCPHDR_URG,
    after,
    before,
    tcp_adjust_rcv_ssthresh,
    tcp_chrono_stop,
    tcp_fast_path_check,
    tcp_packets_in_flight,
    tcp_receive_window,
    tcp_sock,
)
from stack.inet.tcp_timewait import tcp_time_wait
from stack.inet.tcp_window import __tcp_select_window

SKB_OVERHEAD, SKB_SHARED_INFO = 256, 320  # of 64-bit Linux: sk_buff, skb_shared_info; bytes
COALESCE_MAX = 256 << 10  # bytes; larger sk_buffs gain nothing and hold ring buffers longer


# --- quick ACKs ---------------------------------------------------------------------------


def tcp_incr_quickack(sk: tcp_sock, max_quickacks: int) -> None:
    """ACK immediately for about half a window."""
    quickacks = sk.rcv_wnd // (2 * max(sk.icsk_ack_rcv_mss, 1)) or 2
    sk.icsk_ack_quick = max(sk.icsk_ack_quick, min(quickacks, max_quickacks))


def tcp_enter_quickack_mode(sk: tcp_sock, max_quickacks: int) -> None:
    tcp_incr_quickack(sk, max_quickacks)
    inet_csk_exit_pingpong_mode(sk)
    sk.icsk_ack_ato = TCP_ATO_MIN


def tcp_in_quickack_mode(sk: tcp_sock) -> bool:
    """Whether ACKs are sent immediately: at the start or after loss, but not in pingpong mode."""
    dst = sk.sk_dst_cache
    if dst is not None and dst.metrics and dst.metrics.get("quickack", 0):
        return True
    return sk.icsk_ack_quick != 0 and not inet_csk_in_pingpong_mode(sk)


def tcp_data_ecn_check(sk: tcp_sock, skb: sk_buff) -> None:
    """Data arrived on a connection with ECN: note its mark (RFC 3168 6.1.3)."""
    ecn = skb.ip_dsfield & INET_ECN_MASK
    if ecn == INET_ECN_NOT_ECT:
        # ECT before and not now: probably a retransmission, whose sender waits for the ACK.
        if sk.ecn_flags & TCP_ECN_SEEN and sk.ecn_flags & TCP_ECN_MODE_ANY:
            tcp_enter_quickack_mode(sk, 2)
    elif sk.ecn_flags & TCP_ECN_MODE_RFC3168:
        if ecn == INET_ECN_CE and not sk.ecn_flags & TCP_ECN_DEMAND_CWR:
            # Notify the sender at once: its window may have become small.
            tcp_enter_quickack_mode(sk, 2)
            sk.ecn_flags |= TCP_ECN_DEMAND_CWR
        sk.ecn_flags |= TCP_ECN_SEEN


def tcp_event_data_recv(sk: tcp_sock, skb: sk_buff) -> None:
    """Data arrived: schedule an ACK and adapt the delayed ACK timeout.

    Linux opens the window here (tcp_grow_window), as skb is queued. Here the caller does, since skb
    is not queued yet.
    """
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    tcp_measure_rcv_mss(sk, skb)
    tcp_rcv_rtt_measure(sk)
    now = sk.tcp_mstamp
    ato = sk.icsk_ack_ato
    if not ato:
        # The connection's first data: the peer is in slow start, so ACK every segment.
        tcp_incr_quickack(sk, TCP_MAX_QUICKACKS)
        sk.icsk_ack_ato = TCP_ATO_MIN
    else:
        m = now - sk.icsk_ack_lrcvtime
        if m <= TCP_ATO_MIN // 2:
            sk.icsk_ack_ato = (ato >> 1) + TCP_ATO_MIN // 2
        elif m < ato:
            ato = (ato >> 1) + m
            sk.icsk_ack_ato = ato if ato < sk.icsk_rto else sk.icsk_rto
        elif m > sk.icsk_rto:
            # After a pause this long the peer probably restarts with a small window.
            tcp_incr_quickack(sk, TCP_MAX_QUICKACKS)
    sk.icsk_ack_lrcvtime = now
    if sk.ecn_flags:
        tcp_data_ecn_check(sk, skb)


# --- SACK blocks to send (RFC 2018, 2883) -------------------------------------------------


def tcp_sack_extend(block: tuple[int, int], seq: int, end_seq: int) -> tuple[int, int] | None:
    """The union with an overlapping or adjacent range, else None."""
    start, end = block
    if not after(seq, end) and not after(start, end_seq):
        return (seq if before(seq, start) else start, end_seq if after(end_seq, end) else end)
    return None


def tcp_dsack_set(sk: tcp_sock, seq: int, end_seq: int) -> None:
    """Report a duplicate in the next ACK."""
    if sk.rx_opt.sack_ok and sk.net.sysctl.tcp_dsack:
        linux = sk.net.mib.linux
        if before(seq, sk.rcv_nxt):
            linux.TCPDSACKOldSent += 1
        else:
            linux.TCPDSACKOfoSent += 1
        sk.rx_opt.dsack = True
        sk.duplicate_sack = (seq, end_seq)


def tcp_dsack_extend(sk: tcp_sock, seq: int, end_seq: int) -> None:
    if not sk.rx_opt.dsack:
        tcp_dsack_set(sk, seq, end_seq)
    else:
        sk.duplicate_sack = tcp_sack_extend(sk.duplicate_sack, seq, end_seq) or sk.duplicate_sack


def tcp_sack_compress_send_ack(sk: tcp_sock) -> None:
    """Send the ACK that replaces those held back, if any."""
    held = sk.compressed_ack
    if not held:
        return
    if sk.compressed_ack_timer is not None:
        timer_delete(sk.compressed_ack_timer)
    sk.net.mib.linux.TCPAckCompressed += held - 1  # one of them is sent
    sk.compressed_ack = 0
    tcp_send_ack(sk)


def tcp_sack_new_ofo_skb(sk: tcp_sock, seq: int, end_seq: int) -> None:
    """Data arrived out of order: put its SACK block first and drop the oldest of too many.

    A held-back ACK is sent before a block moves beyond the last place of its option.
    """
    blocks = sk.selective_acks = list(sk.selective_acks)
    for i, block in enumerate(blocks):
        merged = tcp_sack_extend(block, seq, end_seq)
        if merged is not None:
            if i >= TCP_SACK_BLOCKS_EXPECTED:
                blocks[i] = merged
                tcp_sack_compress_send_ack(sk)
            del blocks[i]
            # The grown block may now touch others.
            j = 0
            while j < len(blocks):
                wider = tcp_sack_extend(blocks[j], *merged)
                if wider is not None:
                    merged = wider
                    del blocks[j]
                    j = 0
                else:
                    j += 1
            blocks.insert(0, merged)
            break
    else:
        if len(blocks) >= TCP_SACK_BLOCKS_EXPECTED:
            tcp_sack_compress_send_ack(sk)
        del blocks[TCP_NUM_SACKS - 1 :]
        blocks.insert(0, (seq, end_seq))
    sk.rx_opt.num_sacks = len(blocks)


def tcp_sack_remove(sk: tcp_sock) -> None:
    """RCV.NXT advanced: drop the blocks it covers."""
    if not sk.out_of_order_queue:
        sk.selective_acks.clear()
        sk.rx_opt.num_sacks = 0
        return
    rcv_nxt = sk.rcv_nxt
    sk.selective_acks = [b for b in sk.selective_acks if before(rcv_nxt, b[0])]
    sk.rx_opt.num_sacks = len(sk.selective_acks)


def tcp_sack_reset(sk: tcp_sock) -> None:
    """include/net/tcp.h"""
    sk.rx_opt.dsack = False
    sk.rx_opt.num_sacks = 0
    sk.selective_acks.clear()


def tcp_send_dupack(sk: tcp_sock, skb: sk_buff) -> None:
    """Answer an unacceptable segment; old data is reported by D-SACK."""
    if skb.end_seq != skb.seq and before(skb.seq, sk.rcv_nxt):
        sk.net.mib.linux.DelayedACKLost += 1
        tcp_enter_quickack_mode(sk, TCP_MAX_QUICKACKS)
        if sk.rx_opt.sack_ok and sk.net.sysctl.tcp_dsack:
            end_seq = skb.end_seq
            if after(end_seq, sk.rcv_nxt):
                end_seq = sk.rcv_nxt
            if sk.accecn_opt_sent_w_dsack:
                tcp_accecn_opt_lost(sk, skb.seq)
            tcp_dsack_set(sk, skb.seq, end_seq)
    tcp_send_ack(sk)


# --- memory -------------------------------------------------------------------------------


def tcp_drop_reason(sk: tcp_sock, skb: sk_buff, reason: int) -> None:
    """net/ipv4/tcp_input.c: count the drop and free. Takes ownership of skb."""
    sk.sk_drops += 1
    kfree_skb_reason(sk.net, skb, reason)


def tcp_collapse(sk: tcp_sock, skbs: list[sk_buff]) -> list[sk_buff]:
    """Copy runs of sk_buffs that waste buffer space to fewer ones; returns the new list.

    `skbs` is in sequence order. The copied ones are freed, and leave the receive queue first.
    """
    out: list[sk_buff] = []
    net = sk.net
    i = 0
    while i < len(skbs):
        run = [skbs[i]]
        i += 1
        while (
            i < len(skbs)
            and not before(run[-1].end_seq, skbs[i].seq)
            and not (run[-1].tcp_flags | skbs[i].tcp_flags) & (TCPHDR_SYN | TCPHDR_FIN)
            and ((skbs[i].end_seq - run[0].seq) & M32) <= net.skb_pages.buf_bytes
        ):
            run.append(skbs[i])
            i += 1
        payload = (run[-1].end_seq - run[0].seq) & M32
        if (len(run) == 1 and run[0].truesize < 2 * max(run[0].len, 2048)) or sum(
            s.truesize for s in run
        ) < payload + 2 * 4096:
            out.extend(run)
            continue
        merged = alloc_skb(net.skb_small, 0, 0)
        if merged is None:
            out.extend(run)
            continue
        data = bytearray()
        pos = run[0].seq
        for s in run:
            offset = (pos - s.seq) & M32
            if offset < s.len:
                data += skb_copy_bits(s, offset, s.len - offset)
                pos = (s.seq + s.len) & M32
        if skb_add_data(merged, net.skb_pages, data, 0, len(data)) != len(data):
            kfree_skb(merged)
            out.extend(run)
            continue
        last = run[-1]
        merged.seq, merged.end_seq, merged.ack_seq = run[0].seq, last.end_seq, last.ack_seq
        merged.tcp_flags = last.tcp_flags
        merged.tcp_gso_segs = merged.gso_segs = sum((s.gso_segs or 1) for s in run)
        merged.truesize = len(data) + 1024
        on_queue = run[0].list is not None
        if on_queue:
            sk.sk_receive_queue.insert_before(run[0], merged)
        for s in run:
            if on_queue:
                sk.sk_receive_queue.unlink(s)
            net.mib.linux.TCPRcvCollapsed += 1
            kfree_skb(s)
        skb_set_owner_r(merged, sk)
        out.append(merged)
    return out


def tcp_prune_ofo_queue(sk: tcp_sock, in_skb: sk_buff) -> bool:
    """Drop out-of-order data, the highest first, until the rest fits; True when some was."""
    queue = sk.out_of_order_queue
    if not queue:
        return False
    pruned = False
    goal = sk.sk_rcvbuf >> 3
    while queue:
        skb = queue[-1]
        # Drop only data beyond the new segment: what is before it is needed sooner.
        if after(in_skb.seq, skb.seq):
            break
        pruned = True
        queue.pop()
        goal -= skb.truesize
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_OFO_QUEUE_PRUNE)
        if goal <= 0:
            sk_mem_reclaim(sk)
            if sk.sk_rmem_alloc <= sk.sk_rcvbuf and not sk_under_memory_pressure(sk):
                break
            goal = sk.sk_rcvbuf >> 3
    if pruned:
        sk.net.mib.linux.OfoPruned += 1
        # RFC 2018 8: SACKed data may be discarded, but must not be reported again.
        if sk.rx_opt.sack_ok:
            tcp_sack_reset(sk)
    return pruned


def tcp_prune_queue(sk: tcp_sock, in_skb: sk_buff) -> int:
    """The receive buffer is over its limit: collapse, then drop. 0 when there is room, else -1."""
    linux = sk.net.mib.linux
    linux.PruneCalled += 1
    if sk.sk_rmem_alloc >= sk.sk_rcvbuf:
        tcp_clamp_window(sk)
    elif sk_under_memory_pressure(sk):
        tcp_adjust_rcv_ssthresh(sk)
    if sk.sk_rmem_alloc <= sk.sk_rcvbuf:
        return 0
    if sk.out_of_order_queue:
        sk.out_of_order_queue[:] = tcp_collapse(sk, sk.out_of_order_queue)
    if sk.sk_receive_queue.qlen:
        tcp_collapse(sk, list(sk.sk_receive_queue))
    sk_mem_reclaim(sk)
    if sk.sk_rmem_alloc <= sk.sk_rcvbuf:
        return 0
    tcp_prune_ofo_queue(sk, in_skb)
    if sk.sk_rmem_alloc <= sk.sk_rcvbuf:
        return 0
    linux.RcvPruned += 1
    sk.pred_flags = 0
    return -1


def tcp_try_rmem_schedule(sk: tcp_sock, skb: sk_buff, size: int) -> int:
    """0 when skb may be queued, -1 when there is no room even after pruning."""
    if sk.sk_rmem_alloc > sk.sk_rcvbuf or not sk_rmem_schedule(sk, skb, size):
        if tcp_prune_queue(sk, skb) < 0:
            return -1
        while not sk_rmem_schedule(sk, skb, size):
            if not tcp_prune_ofo_queue(sk, skb):
                return -1
    return 0


# --- queues -------------------------------------------------------------------------------


def tun_try_coalesce(to: sk_buff, frm: sk_buff) -> bool:
    """net/core/skbuff.c skb_try_coalesce for packets of a TUN, whose heads no other packet takes.

    So the window shrinks as in Linux. Bytes are copied if Linux's head of `to` has room for them:
    that is its truesize without sk_buff and skb_shared_info.
    """
    length = frm.len
    if skb_cloned(to):
        return False
    if length:
        room = to.truesize - SKB_OVERHEAD - SKB_SHARED_INFO - skb_headroom(to) - to.len
        if to.data_len or length > room or length > skb_tailroom(to):
            return False
        skb_put_data(to, skb_copy_bits(frm, 0, length))
    kfree_skb(frm)
    return True


def tcp_try_coalesce(sk: tcp_sock, to: sk_buff, frm: sk_buff) -> bool:
    """Append frm's payload to `to` (same queue, next in sequence) without copying; frees frm."""
    if to.end_seq != frm.seq or to.len + frm.len > COALESCE_MAX or frm.tcp_flags & TCPHDR_SYN:
        return False
    end_seq, ack_seq, flags = frm.end_seq, frm.ack_seq, frm.tcp_flags
    segs = (to.gso_segs or 1) + (frm.gso_segs or 1)
    old = to.truesize
    stamp = frm.tstamp_ns
    if frm.dev is not None and frm.dev.type == ARPHRD_NONE:
        if not tun_try_coalesce(to, frm):
            return False
    elif not skb_try_coalesce(to, frm):
        return False
    if stamp:
        to.tstamp_ns = stamp
    delta = to.truesize - old
    sk.sk_rmem_alloc += delta
    sk.sk_forward_alloc -= delta
    to.end_seq = end_seq
    to.ack_seq = ack_seq
    to.tcp_flags |= flags
    to.gso_segs = min(segs, 0xFFFF)
    sk.net.mib.linux.TCPRcvCoalesce += 1
    return True


def tcp_rcv_nxt_update(sk: tcp_sock, seq: int) -> None:
    sk.bytes_received += (seq - sk.rcv_nxt) & M32
    sk.rcv_nxt = seq


def tcp_queue_rcv(sk: tcp_sock, skb: sk_buff) -> bool:
    """Append in-order data to the receive queue; True when it was merged into the last sk_buff.

    Takes ownership of skb.
    """
    end_seq = skb.end_seq
    tail = sk.sk_receive_queue.peek_tail()
    if tail is not None and tcp_try_coalesce(sk, tail, skb):
        tcp_rcv_nxt_update(sk, end_seq)
        return True
    tcp_rcv_nxt_update(sk, end_seq)
    skb.dev = None
    skb.dst = None
    skb_set_owner_r(skb, sk)
    sk.sk_receive_queue.queue_tail(skb)
    return False


def tcp_data_ready(sk: tcp_sock) -> None:
    """Wake the reader when enough data is queued (SO_RCVLOWAT), or the queue is full."""
    lowat = sk.sk_rcvlowat
    if lowat <= 1 or tcp_epollin_ready(sk, lowat) or sk.sk_flags & sock_flags.SOCK_DONE:
        sk_data_ready(sk)


def tcp_epollin_ready(sk: tcp_sock, target: int) -> bool:
    """include/net/tcp.h: whether a reader that needs `target` bytes can return."""
    avail = (sk.rcv_nxt - sk.copied_seq) & M32
    if avail >= HALF or not avail:
        return False
    return (
        avail >= target
        or sk_under_memory_pressure(sk)
        or sk.sk_rmem_alloc > sk.sk_rcvbuf - (sk.sk_rcvbuf >> 3)
        or tcp_receive_window(sk) <= sk.icsk_ack_rcv_mss
    )


def tcp_ofo_find(queue: list[sk_buff], rcv_nxt: int, seq: int) -> int:
    """How many packets of the queue begin at or before seq."""
    base = (rcv_nxt - HALF) & M32
    wanted = (seq - base) & M32
    low, high = 0, len(queue)
    while low < high:
        middle = (low + high) >> 1
        if (queue[middle].seq - base) & M32 > wanted:
            high = middle
        else:
            low = middle + 1
    return low


def tcp_data_queue_ofo(sk: tcp_sock, skb: sk_buff) -> None:
    """Insert data beyond a hole in order. Takes ownership of skb."""
    linux = sk.net.mib.linux
    if sk.ecn_flags:
        tcp_data_ecn_check(sk, skb)
    if tcp_try_rmem_schedule(sk, skb, skb.truesize):
        linux.TCPOFODrop += 1
        sk_data_ready(sk)
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_PROTO_MEM)
        return
    tcp_measure_rcv_mss(sk, skb)
    sk.pred_flags = 0
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    segs = skb.gso_segs or 1
    sk.rcv_ooopack += segs
    # RFC 5681 4.2 wants a duplicate ACK for each segment; a merged sk_buff stands for several.
    # Without SACK the count is all the sender has, so send as many as its fast retransmit needs.
    sk.dup_acks_due = 1 if sk.rx_opt.sack_ok else min(segs, 4)
    linux.TCPOFOQueue += 1
    tcp_ofo_insert(sk, skb)
    if sk.sk_socket is not None:  # an accepted child, which has a reader
        tcp_rcvbuf_grow(sk, sk.rcvq_space_space)


def tcp_ofo_insert(sk: tcp_sock, skb: sk_buff) -> None:
    """Put data beyond a hole into its place, and into SACK's blocks.

    Without SACK the window stays, so that duplicate ACKs look like ones. Takes ownership of
    skb.
    """
    seq, end_seq = skb.seq, skb.end_seq
    length, truesize = skb.len, skb.truesize
    queue = sk.out_of_order_queue
    sack = sk.rx_opt.sack_ok
    if not queue:
        if sack:
            sk.selective_acks = [(seq, end_seq)]
            sk.rx_opt.num_sacks = 1
            tcp_grow_window(sk, length, truesize)
        sk.out_of_order_queue = [skb]
        skb_set_owner_r(skb, sk)
        return
    last = queue[-1]
    if last.end_seq == seq and tcp_try_coalesce(sk, last, skb):
        if sack:
            tcp_grow_window(sk, length, truesize)
            tcp_sack_new_ofo_skb(sk, seq, end_seq)
        return
    pos = tcp_ofo_find(queue, sk.rcv_nxt, seq)
    if pos:
        prev = queue[pos - 1]
        if before(seq, prev.end_seq):
            if not after(end_seq, prev.end_seq):
                # All of it is queued already.
                sk.net.mib.linux.TCPOFOMerge += 1
                tcp_dsack_set(sk, seq, end_seq)
                if sack:
                    tcp_sack_new_ofo_skb(sk, seq, end_seq)
                tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_OFOMERGE)
                return
            if prev.seq == seq:
                # Same start, but longer: skb replaces the old one below.
                pos -= 1
            else:
                tcp_dsack_set(sk, seq, prev.end_seq)
        elif prev.end_seq == seq and tcp_try_coalesce(sk, prev, skb):
            if sack:
                tcp_grow_window(sk, length, truesize)
            tcp_ofo_swallow(sk, pos, end_seq)
            if sack:
                tcp_sack_new_ofo_skb(sk, seq, end_seq)
            return
    queue.insert(pos, skb)
    tcp_ofo_swallow(sk, pos + 1, end_seq)
    if sack:
        tcp_sack_new_ofo_skb(sk, seq, end_seq)
        tcp_grow_window(sk, length, truesize)
    skb_set_owner_r(skb, sk)


def tcp_ofo_swallow(sk: tcp_sock, pos: int, end_seq: int) -> None:
    """Drop the members from index `pos` on that end at or before end_seq: new data covers them."""
    queue = sk.out_of_order_queue
    while pos < len(queue):
        nxt = queue[pos]
        if not after(end_seq, nxt.seq):
            break
        if before(end_seq, nxt.end_seq):
            tcp_dsack_extend(sk, nxt.seq, end_seq)
            break
        del queue[pos]
        tcp_dsack_extend(sk, nxt.seq, nxt.end_seq)
        sk.net.mib.linux.TCPOFOMerge += 1
        tcp_drop_reason(sk, nxt, drop_reason.SKB_DROP_REASON_TCP_OFOMERGE)


def tcp_ofo_queue(sk: tcp_sock) -> None:
    """The hole is filled: move the data that follows to the receive queue."""
    queue = sk.out_of_order_queue
    in_order = sk.rcv_nxt
    done = 0
    fin = False
    for skb in queue:
        rcv_nxt = sk.rcv_nxt
        if after(skb.seq, rcv_nxt):
            break
        done += 1
        if before(skb.seq, in_order):
            end = skb.end_seq if before(skb.end_seq, in_order) else in_order
            tcp_dsack_extend(sk, skb.seq, end)
        if not after(skb.end_seq, rcv_nxt):
            tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_OFO_DROP)
            continue
        fin = bool(skb.tcp_flags & TCPHDR_FIN)
        end_seq = skb.end_seq
        tail = sk.sk_receive_queue.peek_tail()
        if tail is None or not tcp_try_coalesce(sk, tail, skb):
            skb.dev = None
            skb.dst = None
            sk.sk_receive_queue.queue_tail(skb)
        tcp_rcv_nxt_update(sk, end_seq)
        if fin:
            break
    del queue[:done]
    if fin:
        tcp_fin(sk)


def tcp_ofo_purge(sk: tcp_sock) -> None:
    """skb_rbtree_purge(&tp->out_of_order_queue)."""
    queue = sk.out_of_order_queue
    while queue:
        kfree_skb(queue.pop())


def tcp_fastopen_add_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """net/ipv4/tcp_fastopen.c: queue the data of a SYN or SYN-ACK. Borrows skb.

    Data at the TCP header.
    """
    if skb.end_seq == sk.rcv_nxt:
        return
    copy = skb_clone(skb)
    copy.dst = None
    sk.segs_in = max(skb.gso_segs, 1)
    sk.data_segs_in += sk.segs_in
    skb_pull(copy, copy.l4_hlen)
    sk_forced_mem_schedule(sk, copy.truesize)
    copy.seq = (copy.seq + 1) & M32
    copy.tcp_flags &= ~TCPHDR_SYN
    fin = copy.tcp_flags & TCPHDR_FIN
    sk.syn_data_acked = True
    tcp_queue_rcv(sk, copy)
    sk.bytes_received = skb.len - skb.l4_hlen
    if fin:
        tcp_fin(sk)


def tcp_fin(sk: tcp_sock) -> None:
    """The peer sends no more data (RFC 9293 3.10.7.4 "eighth, check the FIN bit")."""
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    sk.sk_shutdown |= RCV_SHUTDOWN
    sk.sk_flags |= sock_flags.SOCK_DONE
    state = sk.sk_state
    new = tcp_next_state(state, RCV_FIN)
    if state in (tcp_states.TCP_SYN_RECV, tcp_states.TCP_ESTABLISHED):
        tcp_set_state(sk, new)
        inet_csk_enter_pingpong_mode(sk)
    elif state == tcp_states.TCP_FIN_WAIT1:
        # Simultaneous close: ACK the FIN, wait for the ACK of ours.
        tcp_send_ack(sk)
        tcp_set_state(sk, new)
    elif state == tcp_states.TCP_FIN_WAIT2:
        tcp_send_ack(sk)
        tcp_time_wait(sk, tcp_states.TCP_TIME_WAIT, 0)
    # CLOSE_WAIT, CLOSING, LAST_ACK: a retransmitted FIN only needs an ACK.
    tcp_ofo_purge(sk)
    if sk.rx_opt.sack_ok:
        tcp_sack_reset(sk)
    if not sk.sk_flags & sock_flags.SOCK_DEAD:
        sk_state_change(sk)
        if sk.sk_shutdown == SHUTDOWN_MASK or sk.sk_state == tcp_states.TCP_CLOSE:
            sk_wake_async(sk, SOCK_WAKE_WAITD, POLL_HUP)
        else:  # a half close raises no POLLHUP
            sk_wake_async(sk, SOCK_WAKE_WAITD, POLL_IN)


def tcp_data_queue(sk: tcp_sock, skb: sk_buff) -> None:
    """Queue the segment's data, in or out of order. Takes ownership of skb.

    data at the TCP header on entry.
    """
    seq, end_seq = skb.seq, skb.end_seq
    if seq == end_seq:
        kfree_skb(skb)
        return
    skb_pull(skb, skb.l4_hlen)
    if sk.ecn_flags:
        tcp_ecn_accept_cwr(sk, skb)
    sk.rx_opt.dsack = False
    linux = sk.net.mib.linux
    rcv_nxt = sk.rcv_nxt
    window = tcp_receive_window(sk)
    if seq != rcv_nxt:
        if not after(end_seq, rcv_nxt):
            # A retransmission of received data: perhaps our ACK was lost.
            linux.DelayedACKLost += 1
            if sk.accecn_opt_sent_w_dsack:
                tcp_accecn_opt_lost(sk, seq)
            tcp_dsack_set(sk, seq, end_seq)
            tcp_data_out_of_window(sk, skb, drop_reason.SKB_DROP_REASON_TCP_OLD_DATA)
            return
        if not before(seq, (rcv_nxt + window) & M32):
            tcp_data_out_of_window(sk, skb, drop_reason.SKB_DROP_REASON_TCP_OVERWINDOW)
            return
        if not before(seq, rcv_nxt):
            tcp_data_queue_ofo(sk, skb)
            return
        # Partly old.
        tcp_dsack_set(sk, seq, rcv_nxt)
    if not window and not (not skb.len and skb.tcp_flags & TCPHDR_FIN):
        linux.TCPZeroWindowDrop += 1
        tcp_data_out_of_window(sk, skb, drop_reason.SKB_DROP_REASON_TCP_ZEROWINDOW)
        return
    if tcp_try_rmem_schedule(sk, skb, skb.truesize):
        sk.icsk_ack_pending |= ICSK_ACK_NOMEM | ICSK_ACK_NOW | ICSK_ACK_SCHED
        sk_data_ready(sk)
        if sk.sk_receive_queue.qlen and skb.len:
            linux.TCPRcvQDrop += 1
            tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_PROTO_MEM)
            return
        sk_forced_mem_schedule(sk, skb.truesize)
    fin = skb.tcp_flags & TCPHDR_FIN
    length, truesize = skb.len, skb.truesize
    if length:
        tcp_event_data_recv(sk, skb)
    tcp_queue_rcv(sk, skb)
    if length >= 128:
        tcp_grow_window(sk, length, truesize)
    if fin:
        tcp_fin(sk)
    if sk.out_of_order_queue:
        tcp_ofo_queue(sk)
        # RFC 5681 4.2: an immediate ACK when the gap is filled.
        if not sk.out_of_order_queue:
            sk.icsk_ack_pending |= ICSK_ACK_NOW
    if sk.rx_opt.num_sacks:
        tcp_sack_remove(sk)
    tcp_fast_path_check(sk)
    if not sk.sk_flags & sock_flags.SOCK_DEAD:
        tcp_data_ready(sk)


def tcp_data_out_of_window(sk: tcp_sock, skb: sk_buff, reason: int) -> None:
    """Drop skb and ACK at once, to report our window to the peer. Takes ownership of skb."""
    tcp_enter_quickack_mode(sk, TCP_MAX_QUICKACKS)
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    tcp_drop_reason(sk, skb, reason)


# --- urgent data (RFC 6093) ---------------------------------------------------------------


def tcp_check_urg(sk: tcp_sock, skb: sk_buff, urg_ptr: int) -> None:
    """A new urgent pointer: forget the old byte, remember where the new one is."""
    # The pointer points behind the byte unless tcp_stdurg says otherwise.
    ptr = urg_ptr
    if ptr and not sk.net.sysctl.tcp_stdurg:
        ptr -= 1
    ptr = (ptr + skb.seq) & M32
    if after(sk.copied_seq, ptr):
        return
    if before(ptr, sk.rcv_nxt):
        return
    if sk.urg_data and not after(ptr, sk.urg_seq):
        return
    if (
        sk.urg_seq == sk.copied_seq
        and sk.urg_data
        and not sk.sk_flags & sock_flags.SOCK_URGINLINE
        and sk.copied_seq != sk.rcv_nxt
    ):
        # An unread urgent byte becomes ordinary data again, but is skipped at the queue's head.
        head = sk.sk_receive_queue.peek()
        sk.copied_seq = (sk.copied_seq + 1) & M32
        if head is not None and not before(sk.copied_seq, head.end_seq):
            sk.sk_receive_queue.unlink(head)
            kfree_skb(head)
    sk_send_sigurg(sk)
    sk.urg_data = TCP_URG_NOTYET
    sk.urg_seq = ptr
    sk.pred_flags = 0


def tcp_urg(sk: tcp_sock, skb: sk_buff) -> None:
    """Look for urgent data in a segment (data at the TCP header)."""
    if not skb.tcp_flags & TCPHDR_URG and sk.urg_data != TCP_URG_NOTYET:
        return
    th = tcp_hdr(skb)
    if th.urg:
        tcp_check_urg(sk, skb, th.urg_ptr)
    if sk.urg_data == TCP_URG_NOTYET:
        offset = ((sk.urg_seq - skb.seq) & M32) + th.doff * 4 - th.syn
        if th.doff * 4 <= offset < skb.len:
            sk.urg_data = TCP_URG_VALID | skb_copy_bits(skb, offset, 1)[0]
            if not sk.sk_flags & sock_flags.SOCK_DEAD:
                sk_data_ready(sk)


# --- after the segment --------------------------------------------------------------------


def tcp_should_expand_sndbuf(sk: tcp_sock) -> bool:
    """Whether the send buffer limits sending, rather than the window or the host's memory."""
    if sk.sk_flags & sock_flags.SOCK_SNDBUF_LOCK or sk_under_memory_pressure(sk):
        return False
    mem = sk.sk_mem
    return mem.memory_allocated < mem.sysctl_mem[0] and tcp_packets_in_flight(sk) < sk.snd_cwnd


def tcp_new_space(sk: tcp_sock) -> None:
    if tcp_should_expand_sndbuf(sk):
        tcp_sndbuf_expand(sk)
        sk.snd_cwnd_stamp = sk.tcp_mstamp
    sk_write_space(sk)


def tcp_check_space(sk: tcp_sock) -> None:
    """Wake a writer that waits for room (SOCK_NOSPACE)."""
    if sk.sk_flags & sock_flags.SOCK_NOSPACE and sk.sk_socket is not None:
        tcp_new_space(sk)
        if sk.chrono_type and not sk.sk_flags & sock_flags.SOCK_NOSPACE:
            tcp_chrono_stop(sk, TCP_CHRONO_SNDBUF_LIMITED)


def tcp_data_snd_check(sk: tcp_sock) -> None:
    """The ACK may have opened a window: continue sending."""
    tcp_push_pending_frames(sk)
    tcp_check_space(sk)


def tcp_compress_ack(sk: tcp_sock) -> bool:
    """A part of the kernel's __tcp_ack_snd_check: whether a timer sends this segment's ACK.

    For each RCV.NXT three duplicate ACKs are sent at once, for the peer's fast retransmit. Later
    ones wait for part of a round trip, and one covers at most tcp_comp_sack_nr segments.
    """
    sysctl = sk.net.sysctl
    if sk.compressed_ack >= sysctl.tcp_comp_sack_nr:
        return False
    rcv_nxt = sk.rcv_nxt
    if sk.compressed_ack_rcv_nxt != rcv_nxt:
        sk.compressed_ack_rcv_nxt = rcv_nxt
        sk.dup_ack_counter = 0
    if sk.dup_ack_counter < TCP_FASTRETRANS_THRESH:
        sk.dup_ack_counter += 1
        return False
    timer = sk.compressed_ack_timer
    if timer is None:
        handlers = sk.icsk_handlers
        if handlers is None:
            return False
        timer = timer_list(sk.net.machine, handlers.compressed_ack, 0, sk)
        sk.compressed_ack_timer = timer
    sk.compressed_ack += 1
    if timer.pending:
        return True
    rtt = sk.rcv_rtt_est_rtt_us
    if sk.srtt_us and sk.srtt_us < rtt:
        rtt = sk.srtt_us
    # From eighths of a microsecond and percent to ns.
    delay = (rtt + (rtt >> 2)) * sysctl.tcp_comp_sack_rtt_percent
    if delay > sysctl.tcp_comp_sack_delay_ns:
        delay = sysctl.tcp_comp_sack_delay_ns
    # A machine without other interrupts runs an hrtimer when its slack is over. A slack of more
    # than a second is taken for one.
    slack: int = sysctl.tcp_comp_sack_slack_ns
    mod_timer(timer, sk.net.clock.now_ns() + delay + min(slack, NSEC_PER_SEC))
    return True


def __tcp_ack_snd_check(sk: tcp_sock, ofo_possible: bool) -> None:
    """ACK every second full segment and gaps now, else delay (RFC 9293 3.8.6.3, RFC 5681 4.2)."""
    rcv_nxt = sk.rcv_nxt
    if (
        (
            ((rcv_nxt - sk.rcv_wup) & M32) > sk.icsk_ack_rcv_mss
            and (
                ((rcv_nxt - sk.copied_seq) & M32) < sk.sk_rcvlowat
                or __tcp_select_window(sk) >= sk.rcv_wnd
            )
        )
        or tcp_in_quickack_mode(sk)
        or sk.icsk_ack_pending & ICSK_ACK_NOW
    ):
        if sock_owned_by_user(sk) and sk.net.sysctl.tcp_backlog_ack_defer:
            sk.tsq_flags |= TCPF_ACK_DEFERRED  # tcp_release_cb sends one for the whole backlog
            sk.dup_acks_due = 0
            return
        due = sk.dup_acks_due if ofo_possible else 0
    elif not ofo_possible or not sk.out_of_order_queue:
        tcp_send_delayed_ack(sk)
        return
    elif sk.rx_opt.sack_ok and tcp_compress_ack(sk):
        return
    else:
        due = sk.dup_acks_due
    sk.dup_acks_due = 0
    tcp_send_ack(sk)
    for _ in range(due - 1):
        tcp_send_ack(sk)


def tcp_ack_snd_check(sk: tcp_sock) -> None:
    """Send or delay the pending ACK, if there is one."""
    if sk.icsk_ack_pending & ICSK_ACK_SCHED:
        __tcp_ack_snd_check(sk, True)
