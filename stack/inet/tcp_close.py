"""net/ipv4/tcp.c: the end of a connection: shutdown, close, disconnect, abort."""

from __future__ import annotations

import errno
import logging

from fastpath.base.skbuff import kfree_skb
from stack.core import sock_flags, tcp_states
from stack.core.ratelimit import net_ratelimit
from stack.core.sk_mem import SOCK_MIN_SNDBUF
from stack.core.sock import (
    bh_lock_sock,
    bh_unlock_sock,
    lock_sock,
    release_sock,
    sk_dst_reset,
    sk_error_report,
    sock_orphan,
)
from stack.core.stream import sk_stream_wait_close
from stack.core.tcp_states import NEW_STATE
from stack.core.uapi import SEND_SHUTDOWN, SHUTDOWN_MASK
from stack.inet.inet_connection_sock import (
    inet_csk_delack_init,
    inet_csk_destroy_sock,
    inet_csk_listen_stop,
    inet_csk_reset_keepalive_timer,
    reqsk_fastopen_remove,
)
from stack.inet.inet_hashtables import inet_reset_saddr
from stack.inet.tcp_accecn import tcp_accecn_reset
from stack.inet.tcp_cong import tcp_reset_congestion_control
from stack.inet.tcp_const import (
    TCP_DELACK_MAX,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN,
)
from stack.inet.tcp_ctl import tcp_clear_retrans, tcp_send_active_reset, tcp_send_fin
from stack.inet.tcp_data import tcp_ofo_purge
from stack.inet.tcp_done import tcp_clear_xmit_timers, tcp_done_with_error, tcp_set_state
from stack.inet.tcp_fastopen import tcp_fastopen_active_disable_ofo_check
from stack.inet.tcp_output import tcp_write_queue_purge
from stack.inet.tcp_sock import (
    M32,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
    TCPHDR_FIN,
    TCP_CA_Open,
    after,
    tcp_fin_time,
    tcp_options_received,
    tcp_sock,
)
from stack.inet.tcp_timewait import tcp_time_wait

log = logging.getLogger("stack.inet.tcp")


def tcp_close_state(sk: tcp_sock) -> bool:
    """Enter the state that follows on a close (NEW_STATE, from TRANSITIONS); True: send a FIN."""
    nxt = NEW_STATE[sk.sk_state]
    tcp_set_state(sk, nxt & tcp_states.TCP_STATE_MASK)
    return bool(nxt >> 4 & tcp_states.TCP_ACTION_FIN >> 4)


def tcp_shutdown(sk: tcp_sock, how: int) -> None:
    """proto.shutdown: SEND_SHUTDOWN sends a FIN once all data is out."""
    if not how & SEND_SHUTDOWN:
        return
    if (1 << sk.sk_state) & (
        tcp_states.TCPF_ESTABLISHED | tcp_states.TCPF_SYN_SENT | tcp_states.TCPF_CLOSE_WAIT
    ) and tcp_close_state(sk):
        tcp_send_fin(sk)


def tcp_too_many_orphans(sk: tcp_sock, shift: int) -> bool:
    """include/net/tcp.h: whether orphans exceed tcp_max_orphans; each counts 2 ** shift times."""
    most: int = sk.net.sysctl.tcp_max_orphans
    return sk.sk_mem.orphan_count << shift > most


def tcp_out_of_memory(sk: tcp_sock) -> bool:
    """include/net/tcp.h: memory is above tcp_mem[2] and sk has more queued than SOCK_MIN_SNDBUF."""
    mem = sk.sk_mem
    return sk.sk_wmem_queued > SOCK_MIN_SNDBUF and mem.memory_allocated > mem.sysctl_mem[2]


def tcp_check_oom(sk: tcp_sock, shift: int) -> bool:
    """True when the orphan sk must be killed. Logs the reason in the kernel's words."""
    orphans, memory = tcp_too_many_orphans(sk, shift), tcp_out_of_memory(sk)
    name = sk.net.name
    if orphans and net_ratelimit(sk.net):
        log.info("%s: TCP: too many orphaned sockets", name)
    if memory and net_ratelimit(sk.net):
        log.info("%s: TCP: out of memory -- consider tuning tcp_mem", name)
    return orphans or memory


def __tcp_close(sk: tcp_sock, timeout: int) -> None:
    """Close with the sock owned (RFC 9293 3.10.4, RFC 1122 4.2.2.13, RFC 2525 2.17)."""
    linux = sk.net.mib.linux
    data_was_unread = False
    sk.sk_shutdown = SHUTDOWN_MASK
    if sk.sk_state == tcp_states.TCP_LISTEN:
        tcp_set_state(sk, tcp_states.TCP_CLOSE)
        inet_csk_listen_stop(sk)
    else:
        while (skb := sk.sk_receive_queue.dequeue()) is not None:
            end_seq = skb.end_seq
            if skb.tcp_flags & TCPHDR_FIN:
                end_seq = (end_seq - 1) & M32
            if after(end_seq, sk.copied_seq):
                data_was_unread = True
            kfree_skb(skb)
        if sk.sk_state != tcp_states.TCP_CLOSE:
            if data_was_unread:
                # The peer must learn that its data was not read.
                linux.TCPAbortOnClose += 1
                tcp_set_state(sk, tcp_states.TCP_CLOSE)
                tcp_send_active_reset(sk)
            elif sk.sk_flags & sock_flags.SOCK_LINGER and not sk.sk_lingertime:
                # Abortive close.
                sk.sk_prot.disconnect(sk, 0)
                linux.TCPAbortOnData += 1
            elif tcp_close_state(sk):
                tcp_send_fin(sk)
            sk_stream_wait_close(sk, timeout)
    state = sk.sk_state
    sock_orphan(sk)
    sk.sk_mem.orphan_count += 1
    bh_lock_sock(sk)
    # Packets that arrived while we slept or sent.
    while (skb := sk.sk_backlog.dequeue()) is not None:
        sk.sk_backlog_rcv(sk, skb)
    sk.sk_backlog_len = 0
    if state != tcp_states.TCP_CLOSE and sk.sk_state == tcp_states.TCP_CLOSE:
        # It was closed meanwhile (RST, or the last ACK).
        inet_csk_destroy_sock(sk)
        return
    if sk.sk_state == tcp_states.TCP_FIN_WAIT2:
        if sk.linger2 < 0:
            tcp_set_state(sk, tcp_states.TCP_CLOSE)
            tcp_send_active_reset(sk)
            linux.TCPAbortOnLinger += 1
        else:
            tmo = tcp_fin_time(sk)
            if tmo > TCP_TIMEWAIT_LEN:
                inet_csk_reset_keepalive_timer(sk, tmo - TCP_TIMEWAIT_LEN)
            else:
                tcp_time_wait(sk, tcp_states.TCP_FIN_WAIT2, tmo)
                return
    if sk.sk_state != tcp_states.TCP_CLOSE and tcp_check_oom(sk, 0):
        tcp_set_state(sk, tcp_states.TCP_CLOSE)
        tcp_send_active_reset(sk)
        linux.TCPAbortOnMemory += 1
    if sk.sk_state == tcp_states.TCP_CLOSE:
        if sk.fastopen_rsk is not None:
            reqsk_fastopen_remove(sk, sk.fastopen_rsk, False)
        inet_csk_destroy_sock(sk)
    bh_unlock_sock(sk)


def tcp_close(sk: tcp_sock, timeout: int) -> None:
    """proto.close: wait at most `timeout` ns (SO_LINGER) for the FIN exchange."""
    lock_sock(sk)
    __tcp_close(sk, timeout)
    sk.sk_lock_owned = False
    if not sk.sk_freed:
        release_sock(sk)


def tcp_need_reset(state: int) -> bool:
    """States in which a disconnect sends a RST."""
    return bool(
        (1 << state)
        & (
            tcp_states.TCPF_ESTABLISHED
            | tcp_states.TCPF_CLOSE_WAIT
            | tcp_states.TCPF_FIN_WAIT1
            | tcp_states.TCPF_FIN_WAIT2
            | tcp_states.TCPF_SYN_RECV
        )
    )


def tcp_disconnect(sk: tcp_sock, flags: int = 0) -> int:
    """proto.disconnect: back to CLOSE, ready for another connect. 0."""
    old_state = sk.sk_state
    if old_state != tcp_states.TCP_CLOSE:
        tcp_set_state(sk, tcp_states.TCP_CLOSE)
    if old_state == tcp_states.TCP_LISTEN:
        inet_csk_listen_stop(sk)
    elif tcp_need_reset(old_state) or (
        sk.snd_nxt != sk.write_seq
        and (1 << old_state) & (tcp_states.TCPF_CLOSING | tcp_states.TCPF_LAST_ACK)
    ):
        tcp_send_active_reset(sk)
        sk.sk_err = errno.ECONNRESET
    elif old_state == tcp_states.TCP_SYN_SENT:
        sk.sk_err = errno.ECONNRESET
    tcp_clear_xmit_timers(sk)
    sk.sk_receive_queue.purge()
    sk.copied_seq = sk.rcv_nxt
    sk.urg_data = 0
    sk.sk_peek_off = -1
    tcp_write_queue_purge(sk)
    tcp_fastopen_active_disable_ofo_check(sk)
    tcp_ofo_purge(sk)
    sk.inet_dport = 0
    inet_reset_saddr(sk)
    sk.sk_shutdown = 0
    sk.sk_flags &= ~sock_flags.SOCK_DONE
    sk.srtt_us = 0
    sk.mdev_us = 1_000_000
    sk.rcv_rtt_last_tsecr = 0
    sk.write_seq = (sk.write_seq + sk.max_window + 2) & M32 or 1
    sk.icsk_backoff = 0
    sk.icsk_probes_out = 0
    sk.icsk_probes_tstamp = 0
    sk.icsk_rto = TCP_TIMEOUT_INIT
    sk.icsk_rto_min = TCP_RTO_MIN
    sk.icsk_delack_max = TCP_DELACK_MAX
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    sk.snd_cwnd = TCP_INIT_CWND
    sk.snd_cwnd_cnt = 0
    sk.is_cwnd_limited = False
    sk.max_packets_out = 0
    sk.window_clamp = 0
    sk.delivered = 0
    tcp_reset_congestion_control(sk)
    sk.icsk_ca_state = TCP_CA_Open
    tcp_clear_retrans(sk)
    sk.tlp_high_seq = 0
    sk.rack_mstamp = sk.rack_last_delivered = sk.rack_reo_wnd_persist = 0
    sk.rack_reo_wnd_steps = 1
    sk.rack_advanced = sk.rack_dsack_seen = False
    sk.last_oow_ack_time = 0
    sk.total_retrans = 0
    inet_csk_delack_init(sk)
    sk.icsk_ack_rcv_mss = TCP_MIN_MSS
    sk_dst_reset(sk)
    sk.sk_rx_dst = None
    sk.rx_opt = tcp_options_received()
    sk.selective_acks.clear()
    sk.saved_syn = None
    sk.bytes_acked = sk.bytes_received = sk.bytes_sent = sk.bytes_retrans = 0
    sk.rate_delivered = sk.rate_interval_us = 0
    sk.app_limited = M32
    sk.rate_app_limited = True
    sk.chrono_busy = sk.chrono_rwnd = sk.chrono_sndbuf = 0
    tcp_accecn_reset(sk)
    sk.data_segs_in = sk.data_segs_out = sk.segs_in = sk.segs_out = 0
    sk.rcv_ooopack = sk.dsack_dups = sk.reord_seen = 0
    sk.compressed_ack = 0
    if sk.fastopen_rsk is not None:
        reqsk_fastopen_remove(sk, sk.fastopen_rsk, False)
    sk.fastopen_req = None
    sk.defer_connect = False
    sk.fastopen_client_fail = 0
    sk.syn_fastopen = sk.syn_fastopen_exp = sk.syn_fastopen_ch = False
    sk.syn_data = sk.syn_data_acked = sk.syn_fastopen_child = False
    sk_error_report(sk)
    return 0


def tcp_abort(sk: tcp_sock, err: int) -> int:
    """proto.diag_destroy: end a connection from outside (`ss -K`). 0, or -ENOENT: it has ended."""
    if sk.sk_state == tcp_states.TCP_CLOSE:
        return -errno.ENOENT
    if sk.sk_state == tcp_states.TCP_LISTEN:
        tcp_set_state(sk, tcp_states.TCP_CLOSE)
        inet_csk_listen_stop(sk)
    if tcp_need_reset(sk.sk_state):
        tcp_send_active_reset(sk)
    tcp_done_with_error(sk, err)
    return 0
