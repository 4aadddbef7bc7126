"""TCP connections seen by a router: states and windows (net/netfilter/nf_conntrack_proto_tcp.c).

Called by nf_conntrack_in for each TCP packet, with its connection:

    nf_conntrack_tcp_packet
        tcp_error                   malformed, wrong checksum, impossible flags
        tcp_new                     the connection's first packet
        TCP_CONNTRACKS[direction][get_conntrack_index(flags)][state]    the next state
        tcp_ignored, tcp_resync     unexpected packets: our state may be out of sync
        tcp_reset                   a RST must fit the window (RFC 5961 3)
        tcp_in_window -> tcp_out_of_window      the four bounds; then store the ends
        tcp_handle_invalid          packets out of the window that close it
        tcp_timeout_of, nf_ct_refresh_acct      the connection's timeout

State: `ct.tcp` (ip_ct_tcp) has the state, the last packet, and per direction an ip_ct_tcp_state:
`td_end` (end of what it sent), `td_maxend` (end of what it may send), `td_maxwin`, `td_scale`.

The state table, the window check of "Real Stateful TCP Packet Filtering in IP Filter" (Guido van
Rooij) and their exceptions behave as in Linux 6.18. Read nf_conntrack_tcp_packet first.
"""

from __future__ import annotations

from fastpath.base.skbuff import pskb_may_pull, sk_buff
from fastpath.net.hdr import tcphdr, tcphdr_at
from stack.core.netfilter import NF_ACCEPT, NF_DROP, NF_REPEAT, nf_hook_state
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import IPPROTO_TCP, TCP_HLEN
from stack.inet.tcp_options import TCPOPT_SACK, TCPOPT_SACK_PERM, TCPOPT_WINDOW, tcp_option_at
from stack.inet.tcp_sock import (
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_RST,
    TCPHDR_SYN,
    TCPHDR_URG,
    before,
)
from stack.net import Net
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack import ctinfo2dir, ip_ct_tcp, ip_ct_tcp_state, nf_conn
from stack.netfilter.nf_conntrack_ecache import IPCT_PROTOINFO, nf_conntrack_event_cache
from stack.netfilter.nf_conntrack_life import (
    nf_ct_assured,
    nf_ct_delete,
    nf_ct_expires,
    nf_ct_kill_acct,
    nf_ct_refresh_acct,
)
from stack.netfilter.nf_conntrack_sum import nf_ct_sum_wrong
from stack.netfilter.nf_conntrack_tuple import skb_bytes

# enum tcp_conntrack
NONE = 0
SYN_SENT = 1
SYN_RECV = 2
ESTABLISHED = 3
FIN_WAIT = 4
CLOSE_WAIT = 5
LAST_ACK = 6
TIME_WAIT = 7
CLOSE = 8
SYN_SENT2 = 9
TCP_CONNTRACK_MAX = 10
IGNORE = 11

TCP_CONNTRACK_NAMES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)

# enum tcp_bit_set: a packet's row in the table
TCP_SYN_SET = 0
TCP_SYNACK_SET = 1
TCP_FIN_SET = 2
TCP_ACK_SET = 3
TCP_RST_SET = 4
TCP_NONE_SET = 5

sNO, sSS, sSR, sES, sFW, sCW, sLA, sTW, sCL, sS2 = range(10)
sIV = TCP_CONNTRACK_MAX
sIG = IGNORE

# tcp_conntracks[direction][tcp_bit_set][state]: the state a packet leads to
TCP_CONNTRACKS = (
    (  # ORIGINAL
        # sNO  sSS  sSR  sES  sFW  sCW  sLA  sTW  sCL  sS2
        (sSS, sSS, sIG, sIG, sIG, sIG, sIG, sSS, sSS, sS2),  # SYN
        (sIV, sIV, sSR, sIV, sIV, sIV, sIV, sIV, sIV, sSR),  # SYN-ACK
        (sIV, sIV, sFW, sFW, sLA, sLA, sLA, sTW, sCL, sIV),  # FIN
        (sES, sIV, sES, sES, sCW, sCW, sTW, sTW, sCL, sIV),  # ACK
        (sIV, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL),  # RST
        (sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV),  # nothing
    ),
    (  # REPLY
        (sIV, sS2, sIV, sIV, sIV, sIV, sIV, sSS, sIV, sS2),  # SYN
        (sIV, sSR, sIG, sIG, sIG, sIG, sIG, sIG, sIG, sSR),  # SYN-ACK
        (sIV, sIV, sFW, sFW, sLA, sLA, sLA, sTW, sCL, sIV),  # FIN
        (sIV, sIG, sSR, sES, sCW, sCW, sTW, sTW, sCL, sIG),  # ACK
        (sIV, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL, sCL),  # RST
        (sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV, sIV),  # nothing
    ),
)

SYN_ACK, FIN_ACK = TCPHDR_SYN | TCPHDR_ACK, TCPHDR_FIN | TCPHDR_ACK
# tcp_valid_flags: combinations that a TCP may send, with ECE, CWR and PSH masked out
TCP_VALID_FLAGS = frozenset(
    (
        *(TCPHDR_SYN, TCPHDR_SYN | TCPHDR_URG, SYN_ACK, TCPHDR_RST, TCPHDR_RST | TCPHDR_ACK),
        *(FIN_ACK, FIN_ACK | TCPHDR_URG, TCPHDR_ACK, TCPHDR_ACK | TCPHDR_URG),
    )
)
TH_CHECKED = 0x37  # all but ECE, CWR and PSH

# ip_ct_tcp_state.flags, ip_ct_tcp.last_flags
TCP_FLAG_WINDOW_SCALE = 0x01
TCP_FLAG_SACK_PERM = 0x02
TCP_FLAG_CLOSE_INIT = 0x04
TCP_FLAG_BE_LIBERAL = 0x08
TCP_FLAG_DATA_UNACKNOWLEDGED = 0x10
TCP_FLAG_MAXACK_SET = 0x20
EXP_CHALLENGE_ACK = 0x40
SIMULTANEOUS_OPEN = 0x80

TCP_MAX_WSCALE = 14
MAXACKWINCONST = 66000
LEAST_TO_SHORTEN_NS = 120 * NSEC_PER_SEC
U32 = 0xFFFFFFFF

NFCT_TCP_IGNORE, NFCT_TCP_INVALID, NFCT_TCP_ACCEPT = 0, 1, 2


def get_conntrack_index(flags: int) -> int:
    """net/netfilter/nf_conntrack_proto_tcp.c: the row of the table."""
    if flags & TCPHDR_RST:
        return TCP_RST_SET
    if flags & TCPHDR_SYN:
        return TCP_SYNACK_SET if flags & TCPHDR_ACK else TCP_SYN_SET
    if flags & TCPHDR_FIN:
        return TCP_FIN_SET
    return TCP_ACK_SET if flags & TCPHDR_ACK else TCP_NONE_SET


def segment_seq_plus_len(th: tcphdr, length: int, dataoff: int) -> int:
    """net/netfilter/nf_conntrack_proto_tcp.c: the sequence number after the segment."""
    flags = th.flags
    return (th.seq + length - dataoff - th.doff * 4 + (flags >> 1 & 1) + (flags & 1)) & U32


def tcp_options(skb: sk_buff, dataoff: int, th: tcphdr, seen: ip_ct_tcp_state) -> None:
    """net/netfilter/nf_conntrack_proto_tcp.c: window scale and SACK permitted, of a SYN."""
    seen.td_scale = 0
    seen.flags &= TCP_FLAG_BE_LIBERAL
    options = skb_bytes(skb, dataoff + TCP_HLEN, th.doff * 4 - TCP_HLEN)
    at = tcp_option_at(options, 0)
    while at >= 0:
        kind, size = options[at], options[at + 1]
        if kind == TCPOPT_SACK_PERM and size == 2:
            seen.flags |= TCP_FLAG_SACK_PERM
        elif kind == TCPOPT_WINDOW and size == 3:
            seen.td_scale = min(options[at + 2], TCP_MAX_WSCALE)
            seen.flags |= TCP_FLAG_WINDOW_SCALE
        at = tcp_option_at(options, at + size)


def tcp_sack(skb: sk_buff, dataoff: int, th: tcphdr, ack: int) -> int:
    """net/netfilter/nf_conntrack_proto_tcp.c: the highest byte acknowledged, SACK blocks too."""
    options = skb_bytes(skb, dataoff + TCP_HLEN, th.doff * 4 - TCP_HLEN)
    if len(options) == 12 and options[:4] == b"\1\1\x08\x0a":  # only time stamps
        return ack
    at = tcp_option_at(options, 0)
    while at >= 0:
        kind, size = options[at], options[at + 1]
        if kind == TCPOPT_SACK and size >= 10 and (size - 2) % 8 == 0:
            for block in range(at + 2, at + size, 8):
                right = int.from_bytes(options[block + 4 : block + 8], "big")
                if before(ack, right):
                    ack = right
        at = tcp_option_at(options, at + size)
    return ack


def tcp_init_sender(
    sender: ip_ct_tcp_state,
    receiver: ip_ct_tcp_state,
    skb: sk_buff,
    dataoff: int,
    th: tcphdr,
    end: int,
    win: int,
    direction: int,
) -> None:
    """net/netfilter/nf_conntrack_proto_tcp.c: start from a SYN or SYN-ACK."""
    sender.td_end = sender.td_maxend = end
    sender.td_maxwin = win or 1
    tcp_options(skb, dataoff, th, sender)
    # RFC 7323 2.2: both must offer it.
    if (
        direction == nf_conntrack.IP_CT_DIR_REPLY
        and not sender.flags & receiver.flags & TCP_FLAG_WINDOW_SCALE
    ):
        sender.td_scale = receiver.td_scale = 0


def tcp_in_window(
    ct: nf_conn,
    tcp: ip_ct_tcp,
    direction: int,
    index: int,
    skb: sk_buff,
    dataoff: int,
    th: tcphdr,
) -> int:
    """net/netfilter/nf_conntrack_proto_tcp.c: check a segment against the windows: NFCT_TCP_*."""
    sender = tcp.reply if direction else tcp.orig
    receiver = tcp.orig if direction else tcp.reply
    flags = th.flags
    seq = th.seq
    ack = sack = th.ack_seq
    win_raw = win = th.window
    syn = flags & TCPHDR_SYN
    end = segment_seq_plus_len(th, skb.len, dataoff)
    if receiver.flags & TCP_FLAG_SACK_PERM:
        sack = tcp_sack(skb, dataoff, th, sack)
    if not sender.td_maxwin:
        if syn:
            tcp_init_sender(sender, receiver, skb, dataoff, th, end, win, direction)
            if not flags & TCPHDR_ACK:  # simultaneous open
                return NFCT_TCP_ACCEPT
        else:
            # The connection's beginning was not seen.
            sender.td_end = end
            sender.td_maxwin = win << (sender.td_scale & 15) or 1
            sender.td_maxend = (end + sender.td_maxwin) & U32
            if not receiver.td_maxwin:
                receiver.td_end = receiver.td_maxend = sack
            elif sack == (receiver.td_end + 1) & U32:  # the answer to a keepalive
                receiver.td_end = sack
    elif syn and before(sender.td_end, end) and tcp.state in (SYN_SENT, SYN_RECV):
        # The connection restarts with another sequence number.
        tcp_init_sender(sender, receiver, skb, dataoff, th, end, win, direction)
        if direction == nf_conntrack.IP_CT_DIR_REPLY and not flags & TCPHDR_ACK:
            return NFCT_TCP_ACCEPT
    if not flags & TCPHDR_ACK or (flags & TCPHDR_RST and not ack):
        ack = sack = receiver.td_end
    if flags & TCPHDR_RST and not seq and tcp.state == SYN_SENT:  # the answer to a SYN
        seq = end = sender.td_end
    verdict = tcp_out_of_window(sender, receiver, seq, end, sack)
    if verdict != NFCT_TCP_ACCEPT:
        liberal = ct.net.sysctl.nf_conntrack_tcp_be_liberal
        if not liberal and not sender.flags & TCP_FLAG_BE_LIBERAL:
            return verdict
    if not syn:
        win <<= sender.td_scale & 15
    swin = win + ((sack - ack) & U32)
    sender.td_maxwin = max(sender.td_maxwin, swin)
    if before(sender.td_end, end):
        sender.td_end = end
        sender.flags |= TCP_FLAG_DATA_UNACKNOWLEDGED
    if flags & TCPHDR_ACK:
        if not sender.flags & TCP_FLAG_MAXACK_SET:
            sender.td_maxack = ack
            sender.flags |= TCP_FLAG_MAXACK_SET
        elif before(sender.td_maxack, ack):
            sender.td_maxack = ack
    if receiver.td_maxwin and before(sender.td_maxend, end):
        receiver.td_maxwin += (end - sender.td_maxend) & U32
    limit = (sack + win) & U32
    if before((receiver.td_maxend - 1) & U32, limit):
        receiver.td_maxend = limit if win else (limit + 1) & U32
    if ack == receiver.td_end:
        receiver.flags &= ~TCP_FLAG_DATA_UNACKNOWLEDGED
    if index == TCP_ACK_SET:
        if (
            tcp.last_dir == direction
            and tcp.last_seq == seq
            and tcp.last_ack == ack
            and tcp.last_end == end
            and tcp.last_win == win_raw
        ):
            tcp.retrans += 1
        else:
            tcp.last_dir = direction
            tcp.last_seq = seq
            tcp.last_ack = ack
            tcp.last_end = end
            tcp.last_win = win_raw
            tcp.retrans = 0
    return NFCT_TCP_ACCEPT


def tcp_out_of_window(
    sender: ip_ct_tcp_state, receiver: ip_ct_tcp_state, seq: int, end: int, sack: int
) -> int:
    """The four bounds of tcp_in_window, and the NFCT_TCP_* of a segment beyond one of them."""
    no_window = not receiver.td_maxwin
    in_recv_win = no_window or before((sender.td_end - receiver.td_maxwin - 1) & U32, end)
    lowest_ack = (receiver.td_end - max(sender.td_maxwin, MAXACKWINCONST) - 1) & U32
    ack_seen = before(sack, (receiver.td_end + 1) & U32)
    if not before(seq, (sender.td_maxend + 1) & U32):
        overshot = (end - sender.td_maxend + 1) & U32
        if (
            in_recv_win
            and not no_window
            and before(lowest_ack, sack)
            and overshot <= receiver.td_maxwin
            and ack_seen
        ):
            # Beyond the window: if the receiver accepts the data, its ACK must be let through.
            sender.td_end = end
            sender.flags |= TCP_FLAG_DATA_UNACKNOWLEDGED
            return NFCT_TCP_IGNORE
        return NFCT_TCP_INVALID
    if not ack_seen:  # acknowledges data that was not sent
        return NFCT_TCP_INVALID
    if not in_recv_win or not before(lowest_ack, sack):  # old segments, old acknowledgements
        return NFCT_TCP_IGNORE
    return NFCT_TCP_ACCEPT


def tcp_handle_invalid(ct: nf_conn, tcp: ip_ct_tcp, direction: int, index: int) -> None:
    """net/netfilter/nf_conntrack_proto_tcp.c nf_tcp_handle_invalid: both ends close out of window.

    Perhaps it is the state here that is wrong: the connection does not last for days any more.
    """
    if not ct.status & nf_conntrack.IPS_ASSURED or index not in (TCP_FIN_SET, TCP_RST_SET):
        return
    if tcp.last_dir == direction or tcp.last_index not in (TCP_FIN_SET, TCP_RST_SET):
        tcp.last_index = index
        tcp.last_dir = direction
        return
    expires = nf_ct_expires(ct)
    timeout: int = ct.net.sysctl.nf_conntrack_tcp_timeout_unacknowledged * NSEC_PER_SEC
    if expires >= LEAST_TO_SHORTEN_NS and expires > timeout:
        now: int = ct.net.clock.now_ns()
        ct.timeout = now + timeout


def tcp_new(ct: nf_conn, skb: sk_buff, dataoff: int, th: tcphdr) -> bool:
    """net/netfilter/nf_conntrack_proto_tcp.c: the first packet; False: it cannot begin one."""
    new_state = TCP_CONNTRACKS[0][get_conntrack_index(th.flags)][NONE]
    if new_state >= TCP_CONNTRACK_MAX:
        return False
    ct.tcp = tcp = ip_ct_tcp()
    seen = tcp.orig
    seen.td_end = segment_seq_plus_len(th, skb.len, dataoff)
    seen.td_maxwin = th.window or 1
    if new_state == SYN_SENT:
        seen.td_maxend = seen.td_end
        tcp_options(skb, dataoff, th, seen)
    elif not ct.net.sysctl.nf_conntrack_tcp_loose:
        return False
    else:
        # Picked up in the middle: the window scale is unknown.
        seen.td_maxend = (seen.td_end + seen.td_maxwin) & U32
        seen.flags = tcp.reply.flags = TCP_FLAG_SACK_PERM | TCP_FLAG_BE_LIBERAL
    tcp.last_index = TCP_NONE_SET
    return True


def tcp_timeouts(net: Net, new_state: int) -> int:
    """sysctl nf_conntrack_tcp_timeout_*: seconds in a state."""
    s = net.sysctl
    if new_state == ESTABLISHED:
        return s.nf_conntrack_tcp_timeout_established
    if new_state in (SYN_SENT, SYN_SENT2):
        return s.nf_conntrack_tcp_timeout_syn_sent
    if new_state == SYN_RECV:
        return s.nf_conntrack_tcp_timeout_syn_recv
    if new_state == FIN_WAIT:
        return s.nf_conntrack_tcp_timeout_fin_wait
    if new_state == CLOSE_WAIT:
        return s.nf_conntrack_tcp_timeout_close_wait
    if new_state == LAST_ACK:
        return s.nf_conntrack_tcp_timeout_last_ack
    if new_state == TIME_WAIT:
        return s.nf_conntrack_tcp_timeout_time_wait
    return s.nf_conntrack_tcp_timeout_close


def tcp_error(skb: sk_buff, dataoff: int, th: tcphdr, state: nf_hook_state) -> bool:
    """net/netfilter/nf_conntrack_proto_tcp.c: malformed, wrong checksum or invalid flags."""
    hlen = th.doff * 4
    if hlen < TCP_HLEN or skb.len - dataoff < hlen:
        return True
    if nf_ct_sum_wrong(skb, dataoff, IPPROTO_TCP, state):
        return True
    return th.flags & TH_CHECKED not in TCP_VALID_FLAGS


def nf_conntrack_tcp_packet(
    ct: nf_conn, skb: sk_buff, dataoff: int, ctinfo: int, state: nf_hook_state
) -> int:
    """net/netfilter/nf_conntrack_proto_tcp.c: NF_ACCEPT; -NF_ACCEPT for an INVALID packet;
    -NF_REPEAT: this connection is closed, look up the packet again; NF_DROP.
    """
    if skb.len - dataoff < TCP_HLEN or not pskb_may_pull(skb, dataoff + TCP_HLEN):
        return -NF_ACCEPT
    th = tcphdr_at(skb, dataoff)
    if tcp_error(skb, dataoff, th, state):
        return -NF_ACCEPT
    if not ct.status & nf_conntrack.IPS_CONFIRMED and not tcp_new(ct, skb, dataoff, th):
        return -NF_ACCEPT
    tcp: ip_ct_tcp = ct.tcp  # type: ignore[assignment]
    flags = th.flags
    old_state = tcp.state
    direction = ctinfo2dir(ctinfo)
    index = get_conntrack_index(flags)
    new_state: int = TCP_CONNTRACKS[direction][index][old_state]
    check_window = True
    if new_state == SYN_SENT and old_state >= TIME_WAIT:
        both = tcp.orig.flags | tcp.reply.flags
        if both & TCP_FLAG_CLOSE_INIT or (
            tcp.last_dir == direction and tcp.last_index == TCP_RST_SET
        ):
            return -NF_REPEAT if nf_ct_delete(ct) else NF_DROP  # closed and reopened
    if new_state == IGNORE or (new_state == SYN_SENT and old_state >= TIME_WAIT):
        if (
            index == TCP_SYNACK_SET
            and tcp.last_index == TCP_SYN_SET
            and tcp.last_dir != direction
            and th.ack_seq == tcp.last_end
        ):
            # It answers a SYN that was ignored: the ends are in sync, so track them again.
            old_state = SYN_SENT
            new_state = SYN_RECV
            tcp_resync(tcp, direction)
        else:
            tcp_ignored(tcp, skb, dataoff, th, direction, index, old_state)
            return NF_ACCEPT
    elif new_state == TCP_CONNTRACK_MAX:
        return -NF_ACCEPT
    elif new_state == TIME_WAIT:
        if (
            old_state == LAST_ACK
            and index == TCP_ACK_SET
            and tcp.last_dir != direction
            and tcp.last_index == TCP_SYN_SET
            and tcp.last_flags & EXP_CHALLENGE_ACK
        ):
            tcp.last_flags &= ~EXP_CHALLENGE_ACK  # RFC 5961: it does not acknowledge the FIN
            return NF_ACCEPT
    elif new_state == SYN_SENT2:
        tcp.last_flags |= SIMULTANEOUS_OPEN
    elif new_state == SYN_RECV:
        if (
            direction == nf_conntrack.IP_CT_DIR_REPLY
            and index == TCP_ACK_SET
            and tcp.last_flags & SIMULTANEOUS_OPEN
        ):
            new_state = ESTABLISHED
    elif new_state == CLOSE and index == TCP_RST_SET:
        if tcp.state in (FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE):
            check_window = False  # its ends may have begun another connection
        else:
            new_state = tcp_reset(ct, tcp, th, direction, old_state)
            if new_state < 0:
                return -NF_ACCEPT
            check_window = not tcp_reset_of_ignored(ct, tcp, th, old_state)
    if check_window:
        res = tcp_in_window(ct, tcp, direction, index, skb, dataoff, th)
        if res == NFCT_TCP_IGNORE:
            return NF_ACCEPT
        if res == NFCT_TCP_INVALID:
            tcp_handle_invalid(ct, tcp, direction, index)
            return -NF_ACCEPT
    tcp.last_index = index
    tcp.last_dir = direction
    tcp.state = new_state
    if old_state != new_state and new_state == FIN_WAIT:
        sender = tcp.reply if direction else tcp.orig
        sender.flags |= TCP_FLAG_CLOSE_INIT
    timeout = tcp_timeout_of(ct.net, tcp, index, new_state)
    if new_state != old_state:
        nf_conntrack_event_cache(IPCT_PROTOINFO, ct)
    if not ct.status & nf_conntrack.IPS_SEEN_REPLY:
        # The only answer is a reset: there was no connection.
        if flags & TCPHDR_RST:
            nf_ct_kill_acct(ct, ctinfo, skb)
            return NF_ACCEPT
        if index == TCP_SYN_SET and old_state == SYN_SENT:
            return NF_ACCEPT  # a retransmitted SYN does not extend the timeout
        if new_state == ESTABLISHED:
            timeout = min(timeout, ct.net.sysctl.nf_conntrack_tcp_timeout_unacknowledged)
    elif (
        not ct.status & nf_conntrack.IPS_ASSURED
        and old_state in (SYN_RECV, ESTABLISHED)
        and new_state == ESTABLISHED
    ):
        nf_ct_assured(ct)
    nf_ct_refresh_acct(ct, ctinfo, skb, timeout * NSEC_PER_SEC)
    return NF_ACCEPT


def tcp_timeout_of(net: Net, tcp: ip_ct_tcp, index: int, new_state: int) -> int:
    """In nf_conntrack_tcp_packet: the connection's timeout in seconds."""
    s = net.sysctl
    timeout = tcp_timeouts(net, new_state)
    if tcp.retrans >= s.nf_conntrack_tcp_max_retrans:
        shorter = s.nf_conntrack_tcp_timeout_max_retrans
    elif index == TCP_RST_SET:
        return s.nf_conntrack_tcp_timeout_close
    elif (tcp.orig.flags | tcp.reply.flags) & TCP_FLAG_DATA_UNACKNOWLEDGED:
        shorter = s.nf_conntrack_tcp_timeout_unacknowledged
    elif not tcp.last_win:
        shorter = s.nf_conntrack_tcp_timeout_max_retrans
    else:
        return timeout
    return min(timeout, shorter)


def tcp_resync(tcp: ip_ct_tcp, direction: int) -> None:
    """In nf_conntrack_tcp_packet: use the windows and options of the ignored SYN."""
    sender = tcp.reply if tcp.last_dir else tcp.orig
    sender.td_end = sender.td_maxend = tcp.last_end
    sender.td_maxwin = tcp.last_win or 1
    sender.td_scale = tcp.last_wscale
    tcp.last_flags &= ~EXP_CHALLENGE_ACK
    sender.flags = tcp.last_flags
    if direction:
        tcp.reply = ip_ct_tcp_state()
    else:
        tcp.orig = ip_ct_tcp_state()


def tcp_ignored(
    tcp: ip_ct_tcp,
    skb: sk_buff,
    dataoff: int,
    th: tcphdr,
    direction: int,
    index: int,
    old_state: int,
) -> None:
    """In nf_conntrack_tcp_packet: store an ignored packet; our state may be out of sync."""
    tcp.last_index = index
    tcp.last_dir = direction
    tcp.last_seq = th.seq
    tcp.last_end = segment_seq_plus_len(th, skb.len, dataoff)
    tcp.last_win = th.window
    if index == TCP_SYN_SET and direction == nf_conntrack.IP_CT_DIR_ORIGINAL:
        seen = ip_ct_tcp_state()
        tcp_options(skb, dataoff, th, seen)
        tcp.last_flags = seen.flags & (TCP_FLAG_WINDOW_SCALE | TCP_FLAG_SACK_PERM)
        tcp.last_wscale = seen.td_scale
        if old_state == LAST_ACK:
            tcp.last_flags |= EXP_CHALLENGE_ACK
    if old_state == SYN_SENT and index == TCP_ACK_SET and direction == nf_conntrack.IP_CT_DIR_REPLY:
        tcp.last_ack = th.ack_seq  # perhaps a challenge


def tcp_reset(ct: nf_conn, tcp: ip_ct_tcp, th: tcphdr, direction: int, old_state: int) -> int:
    """In nf_conntrack_tcp_packet: the state a reset leads to; -1: it fits no connection.

    RFC 5961 3: a reset in the window without the exact number is answered by a challenge ACK.
    """
    other = tcp.orig if direction else tcp.reply
    if not other.flags & TCP_FLAG_MAXACK_SET or tcp.last_index == TCP_SYN_SET:
        return CLOSE
    seq = th.seq
    established = tcp.state == ESTABLISHED and ct.status & nf_conntrack.IPS_ASSURED
    if not seq and not established:
        return CLOSE
    if before(seq, other.td_maxack) and not ct.net.sysctl.nf_conntrack_tcp_ignore_invalid_rst:
        return -1
    if not established or seq == other.td_maxack:
        return CLOSE
    if tcp.last_index == TCP_ACK_SET and tcp.last_dir == direction and seq == tcp.last_end:
        return CLOSE  # it directly follows the sender's data
    return old_state


def tcp_reset_of_ignored(ct: nf_conn, tcp: ip_ct_tcp, th: tcphdr, old_state: int) -> bool:
    """In nf_conntrack_tcp_packet: a reset that answers an ignored packet of unknown window."""
    if th.ack_seq == tcp.last_end and (
        (ct.status & nf_conntrack.IPS_SEEN_REPLY and tcp.last_index == TCP_SYN_SET)
        or (not ct.status & nf_conntrack.IPS_ASSURED and tcp.last_index == TCP_ACK_SET)
    ):
        return True
    return (
        old_state == SYN_SENT
        and tcp.last_index == TCP_ACK_SET
        and tcp.last_dir == nf_conntrack.IP_CT_DIR_REPLY
        and th.seq == tcp.last_ack
    )
