"""net/ipv4/tcp_input.c: undoing an unneeded window reduction.

Evidence: an ACK that echoes a timestamp from before the retransmission (Eifel, RFC 3522), or
D-SACKs for everything that was retransmitted (RFC 3708).
"""

from __future__ import annotations

from stack.core.tcp_states import TCP_SYN_SENT
from stack.core.time64 import NSEC_PER_MSEC
from stack.inet.tcp_cong import tcp_enter_cwr, tcp_set_ca_state
from stack.inet.tcp_ecn import tcp_ecn_withdraw_cwr
from stack.inet.tcp_recovery import (
    TCP_RACK_RECOVERY_THRESH,
    tcp_any_retrans_done,
    tcp_check_sack_reordering,
)
from stack.inet.tcp_sock import (
    FLAG_ECE,
    M32,
    TCP_CA_CWR,
    TCPCB_LOST,
    TCP_CA_Disorder,
    TCP_CA_Loss,
    TCP_CA_Open,
    before,
    tcp_sock,
)


def tcp_init_undo(sk: tcp_sock) -> None:
    """Start to count retransmissions; if none was needed, the reduction is undone."""
    sk.undo_marker = sk.snd_una or 1
    sk.undo_retrans = sk.retrans_out
    if sk.tlp_high_seq and sk.tlp_retrans:
        sk.undo_retrans += 1
    if not sk.undo_retrans:
        sk.undo_retrans = -1


def tcp_packet_delayed(sk: tcp_sock) -> bool:
    """Whether the original was late, not lost.

    The ACK echoes a timestamp from before the first retransmission, or there was none. Its time may
    have been reset: at the end of a recovery without SACK, or when a SYN was acknowledged.
    """
    rx_opt = sk.rx_opt
    if sk.retrans_stamp:
        return bool(
            rx_opt.saw_tstamp
            and rx_opt.rcv_tsecr
            and before(rx_opt.rcv_tsecr, (sk.retrans_stamp // NSEC_PER_MSEC) & M32)
        )
    if not rx_opt.sack_ok and not before(sk.snd_una, sk.high_seq):
        return False
    return sk.sk_state != TCP_SYN_SENT


def tcp_may_undo(sk: tcp_sock) -> bool:
    return bool(sk.undo_marker) and (not sk.undo_retrans or tcp_packet_delayed(sk))


def tcp_undo_cwnd_reduction(sk: tcp_sock, unmark_loss: bool) -> None:
    """The reduction was wrong: restore window and threshold."""
    if unmark_loss:
        for skb in sk.tcp_rtx_queue:
            if skb.sacked & TCPCB_LOST:
                skb.sacked &= ~TCPCB_LOST
        sk.lost_out = 0
        sk.tcp_rtx_queue.unlose()
    if sk.prior_ssthresh:
        sk.snd_cwnd = sk.icsk_ca_ops.undo_cwnd(sk)
        if sk.prior_ssthresh > sk.snd_ssthresh:
            sk.snd_ssthresh = sk.prior_ssthresh
            tcp_ecn_withdraw_cwr(sk)
    sk.snd_cwnd_stamp = sk.tcp_mstamp
    sk.undo_marker = 0
    sk.rack_advanced = True


def tcp_is_non_sack_preventing_reopen(sk: tcp_sock) -> bool:
    """Without SACK, stay until data above high_seq is acknowledged (RFC 6582 3.2, step 5)."""
    if sk.snd_una == sk.high_seq and not sk.rx_opt.sack_ok:
        if not tcp_any_retrans_done(sk):
            sk.retrans_stamp = 0
        return True
    return False


def tcp_try_undo_recovery(sk: tcp_sock) -> bool:
    """Undo at the end of a recovery, if it was unneeded; True: stay in the state for now."""
    if tcp_may_undo(sk):
        tcp_undo_cwnd_reduction(sk, False)
        linux = sk.net.mib.linux
        if sk.icsk_ca_state == TCP_CA_Loss:
            linux.TCPLossUndo += 1
        else:
            linux.TCPFullUndo += 1
    elif sk.rack_reo_wnd_persist:
        sk.rack_reo_wnd_persist -= 1
    if tcp_is_non_sack_preventing_reopen(sk):
        return True
    tcp_set_ca_state(sk, TCP_CA_Open)
    return False


def tcp_try_undo_dsack(sk: tcp_sock) -> bool:
    """Every retransmission was reported as a duplicate."""
    if sk.undo_marker and not sk.undo_retrans:
        sk.rack_reo_wnd_persist = min(TCP_RACK_RECOVERY_THRESH, sk.rack_reo_wnd_persist + 1)
        tcp_undo_cwnd_reduction(sk, False)
        sk.net.mib.linux.TCPDSACKUndo += 1
        return True
    return False


def tcp_try_undo_loss(sk: tcp_sock, frto_undo: bool) -> bool:
    """The RTO was spurious."""
    if not frto_undo and not tcp_may_undo(sk):
        return False
    tcp_undo_cwnd_reduction(sk, True)
    linux = sk.net.mib.linux
    linux.TCPLossUndo += 1
    if frto_undo:
        linux.TCPSpuriousRTOs += 1
    sk.icsk_retransmits = 0
    if tcp_is_non_sack_preventing_reopen(sk):
        return True
    if frto_undo or sk.rx_opt.sack_ok:
        tcp_set_ca_state(sk, TCP_CA_Open)
    return True


def tcp_try_undo_partial(sk: tcp_sock, prior_snd_una: int) -> bool:
    """Undo on a partial ACK of originals: their packets were reordered, not lost."""
    if not (sk.undo_marker and tcp_packet_delayed(sk)):
        return False
    tcp_check_sack_reordering(sk, prior_snd_una, 1)
    if sk.retrans_out:
        return True
    if not tcp_any_retrans_done(sk):
        sk.retrans_stamp = 0
    tcp_undo_cwnd_reduction(sk, True)
    sk.net.mib.linux.TCPPartialUndo += 1
    tcp_try_keep_open(sk)
    return False


def tcp_try_keep_open(sk: tcp_sock) -> None:
    state = TCP_CA_Open
    if sk.sacked_out + sk.lost_out or tcp_any_retrans_done(sk):
        state = TCP_CA_Disorder
    if sk.icsk_ca_state != state:
        tcp_set_ca_state(sk, state)
        sk.high_seq = sk.snd_nxt


def tcp_try_to_open(sk: tcp_sock, flag: int) -> None:
    if not tcp_any_retrans_done(sk):
        sk.retrans_stamp = 0
    if flag & FLAG_ECE:
        tcp_enter_cwr(sk)
    if sk.icsk_ca_state != TCP_CA_CWR:
        tcp_try_keep_open(sk)
