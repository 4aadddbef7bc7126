"""include/net/tcp_ecn.h: Accurate ECN (RFC 9768), which reports how many packets were marked.

The receiver counts packets received with CE. It also counts payload bytes received with
ECT(1), ECT(0) and CE. The ACE field, three header flags, reports the first count in every segment:

    SYN, SYN-ACK, last ACK of the handshake     the codepoint received (tcp_accecn_reflector)
    all other segments                          packets marked CE, plus 5, modulo 8

The AccECN option (kind 174: ECT(1), CE, ECT(0); 172: the reverse order) carries the byte counts,
24 bits each. It may be shorter than three counts, and no SYN has it.

    tcp_rcv_established -> tcp_ecn_received_counters        count, and request an option
    tcp_established_options -> tcp_accecn_fit, tcp_accecn_option
    tcp_ack -> tcp_accecn_process                           the peer's counts
        tcp_accecn_process_option                           byte counts, if the option is present
        tcp_accecn_delta                                    packet count: ACE may have wrapped

Our SYNs and SYN-ACKs are always Not-ECT, so a peer that saw another codepoint proves that the path
changes it: then we send Not-ECT (TCP_ACCECN_ACE_FAIL_RECV). State is in tcp_sock: received_*,
delivered_*, accecn_*. Read tcp_accecn_process first.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import tcp_hdr
from stack.core.inet_ecn import (
    INET_ECN_CE,
    INET_ECN_ECT_0,
    INET_ECN_ECT_1,
    INET_ECN_MASK,
    INET_ECN_NOT_ECT,
)
from stack.inet.inet_connection_sock import ICSK_ACK_NOW, request_sock
from stack.inet.tcp_sock import (
    FLAG_FORWARD_PROGRESS,
    FLAG_SLOWPATH,
    FLAG_SYN_ACKED,
    FLAG_TS_PROGRESS,
    M32,
    TCP_ACCECN_CEP_ACE_MASK,
    TCP_ACCECN_CEP_INIT_OFFSET,
    TCP_CA_CWR,
    TCP_ECN_MODE_ACCECN,
    TCP_ECN_MODE_RFC3168,
    TCP_ECN_SEEN,
    TCP_CA_Open,
    tcp_sock,
    tcp_stamp_us_delta,
)

# accecn_fail_mode: what the path breaks. ACE: send no ECT; OPT_SEND: send no options; OPT_RECV:
# ignore received options.
TCP_ACCECN_ACE_FAIL_SEND = 1
TCP_ACCECN_ACE_FAIL_RECV = 2
TCP_ACCECN_ACE_FAIL = TCP_ACCECN_ACE_FAIL_SEND | TCP_ACCECN_ACE_FAIL_RECV
TCP_ACCECN_OPT_FAIL_SEND = 4
TCP_ACCECN_OPT_FAIL_RECV = 8

# saw_accecn_opt: which options the peer has sent
TCP_ACCECN_OPT_NOT_SEEN = 0
TCP_ACCECN_OPT_EMPTY_SEEN = 1
TCP_ACCECN_OPT_COUNTER_SEEN = 2
TCP_ACCECN_OPT_FAIL_SEEN = 3

# sysctl tcp_ecn_option
TCP_ACCECN_OPTION_FULL = 2

TCPOPT_ACCECN0 = 172
TCPOPT_ACCECN1 = 174
TCPOLEN_ACCECN_BASE = 2
TCPOLEN_ACCECN_PERFIELD = 3
TCP_ACCECN_NUMFIELDS = 3
TCP_ACCECN_E1B_INIT_OFFSET = 1
TCP_ACCECN_E0B_INIT_OFFSET = 1
TCP_ACCECN_ACE_MAX_DELTA = 6
"""An ACK is sent at once when this many marked packets are not reported yet."""
TCP_ACCECN_SAFETY_SHIFT = 1
ACK_COMP_THRESH = 4
"""Average packets per ACK above which the path is assumed to thin out ACKs."""
PKTS_ACKED_PREC = 6
"""Fraction bits of that average; it gives the newest ACK a weight of 1/64 (PKTS_ACKED_WEIGHT)."""
PKTS_ACKED_WEIGHT = 6
ACCECN_BYTES_SHIFT = 22
"""An option is sent at least once per 4 MiB received with one codepoint."""
ACCECN_LATE_BYTES = (1 << 23) - 1
"""A first option after this many bytes is too late: the peer's counters may have wrapped."""
M24 = 0xFFFFFF

ACE_SHIFT = 6
"""Shift of the ACE field in TCPHDR_* bits: AE, CWR and ECE are adjacent."""
# The ACE field that answers a codepoint (RFC 9768 table 3), and back; other values: ECT(1), ECT(0).
_ECN_TO_ACE = (0b010, 0b011, 0b100, 0b110)
_ACE_TO_ECN = (
    INET_ECN_ECT_0,
    INET_ECN_ECT_1,
    INET_ECN_NOT_ECT,
    INET_ECN_ECT_1,
    INET_ECN_ECT_0,
    INET_ECN_ECT_1,
    INET_ECN_CE,
    INET_ECN_ECT_1,
)
# Codepoints in the order of the options' fields.
_FIELDS0 = (INET_ECN_ECT_0, INET_ECN_CE, INET_ECN_ECT_1)
_FIELDS1 = (INET_ECN_ECT_1, INET_ECN_CE, INET_ECN_ECT_0)


# --- the handshake ------------------------------------------------------------------------


def tcp_accecn_ace(flags: int) -> int:
    """The ACE field of header flags: AE, CWR, ECE."""
    return flags >> ACE_SHIFT & TCP_ACCECN_CEP_ACE_MASK


def tcp_accecn_reflector_flags(ect: int) -> int:
    """The flags of a SYN-ACK or last ACK that report the codepoint of the segment it answers."""
    return _ECN_TO_ACE[ect & INET_ECN_MASK] << ACE_SHIFT


def tcp_accecn_syn_requested(flags: int) -> bool:
    """Whether a SYN asks for AccECN (RFC 9768 3.1.2): anything but no ECN and classic ECN."""
    return tcp_accecn_ace(flags) not in (0b000, 0b011)


def tcp_accecn_validate_syn_feedback(sk: tcp_sock, ace: int) -> bool:
    """Whether our SYN or SYN-ACK arrived as Not-ECT, as sent (tcp_ect_transition_valid).

    If not, the connection sends no more ECT packets. Always true without sysctl tcp_ecn_fallback.
    """
    if not sk.net.sysctl.tcp_ecn_fallback or _ACE_TO_ECN[ace] == INET_ECN_NOT_ECT:
        return True
    sk.accecn_fail_mode |= TCP_ACCECN_ACE_FAIL_RECV
    return False


def tcp_accecn_third_ack(sk: tcp_sock, skb: sk_buff) -> None:
    """Read the ACE field of the ACK that ends our passive open (RFC 9768 table 4)."""
    ace = tcp_accecn_ace(skb.tcp_flags)
    if not ace:
        sk.accecn_fail_mode |= TCP_ACCECN_ACE_FAIL_RECV  # no such value: the path cleared it
    elif (
        ace not in (0b001, 0b101, 0b111)
        and skb.seq == skb.end_seq
        and tcp_accecn_validate_syn_feedback(sk, ace)
        and _ACE_TO_ECN[ace] == INET_ECN_CE
        and not sk.delivered_ce
    ):
        sk.delivered_ce = 1


def tcp_accecn_rcv_synack(sk: tcp_sock, skb: sk_buff) -> None:
    """A SYN-ACK agrees to AccECN."""
    ect = skb.ip_dsfield & INET_ECN_MASK
    sk.ecn_flags = TCP_ECN_MODE_ACCECN
    sk.syn_ect_rcv = ect
    if sk.rx_opt.accecn:
        tcp_accecn_saw_opt(sk, tcp_accecn_option_init(skb, sk.rx_opt.accecn))
        sk.accecn_opt_demand = 2
    ace = tcp_accecn_ace(skb.tcp_flags)
    if ect == INET_ECN_CE and (ace == 0b101 or tcp_accecn_validate_syn_feedback(sk, ace)):
        sk.received_ce += 1
        sk.received_ce_pending += 1


def tcp_accecn_rcv_syn_again(sk: tcp_sock, skb: sk_buff) -> None:
    """A SYN or SYN-ACK arrived again: the challenge ACK reports its codepoint."""
    sk.syn_ect_rcv = skb.ip_dsfield & INET_ECN_MASK
    if sk.rx_opt.accecn and sk.saw_accecn_opt < TCP_ACCECN_OPT_COUNTER_SEEN:
        tcp_accecn_saw_opt(sk, tcp_accecn_option_init(skb, sk.rx_opt.accecn))
        tcp_accecn_opt_demand_min(sk)


def tcp_accecn_req_syn_again(req: request_sock, skb: sk_buff) -> None:
    """A request's SYN arrived again, with another codepoint or without requesting ECN."""
    req.syn_ect_rcv = skb.ip_dsfield & INET_ECN_MASK
    if not tcp_accecn_ace(skb.tcp_flags):
        req.accecn_fail_mode |= TCP_ACCECN_ACE_FAIL_RECV


def tcp_accecn_reset(sk: tcp_sock) -> None:
    """tcp_accecn_init_counters and more, for tcp_disconnect."""
    sk.delivered_ce = sk.received_ce = sk.received_ce_pending = 0
    sk.received_e1_bytes = sk.received_e0_bytes = sk.received_ce_bytes = 0
    sk.delivered_e1_bytes = sk.delivered_e0_bytes = sk.delivered_ce_bytes = 0
    sk.accecn_minlen = sk.accecn_opt_demand = sk.est_ecnfield = sk.prev_ecnfield = 0
    sk.accecn_fail_mode = sk.saw_accecn_opt = sk.accecn_opt_tstamp = sk.pkts_acked_ewma = 0
    sk.accecn_opt_sent_w_dsack = False


def tcp_accecn_openreq_child(sk: tcp_sock, req: request_sock, skb: sk_buff) -> None:
    """An accepted socket has AccECN. skb: the last ACK of its handshake, data at the header."""
    sk.ecn_flags = TCP_ECN_MODE_ACCECN
    tcp_accecn_third_ack(sk, skb)
    sk.saw_accecn_opt = req.saw_accecn_opt
    sk.accecn_fail_mode |= req.accecn_fail_mode
    sk.prev_ecnfield = req.syn_ect_rcv
    sk.accecn_opt_demand = 1
    tcp_ecn_received_counters(sk, skb, skb.len - skb.l4_hlen)


# --- the receiver -------------------------------------------------------------------------


def tcp_accecn_opt_demand_min(sk: tcp_sock) -> None:
    """Request the option in the next ACK."""
    if not sk.accecn_opt_demand:
        sk.accecn_opt_demand = 1


def tcp_ecn_received_counters(sk: tcp_sock, skb: sk_buff, size: int) -> None:
    """Count the codepoint of a segment with `size` bytes of payload, with any ECN mode.

    Need not be called for a Not-ECT packet that follows another one (prev_ecnfield).
    """
    ecnfield = skb.ip_dsfield & INET_ECN_MASK
    if ecnfield:
        if not sk.ecn_flags & TCP_ECN_MODE_RFC3168:
            sk.ecn_flags |= TCP_ECN_SEEN  # classic ECN considers data only
        if ecnfield == INET_ECN_CE:
            pcount = skb.gso_segs or 1
            sk.received_ce += pcount
            sk.received_ce_pending = min(sk.received_ce_pending + pcount, 15)
        if size > 0:
            tcp_accecn_count_bytes(sk, ecnfield, size)
    edge = sk.prev_ecnfield != ecnfield
    if edge or ecnfield == INET_ECN_CE:
        sk.prev_ecnfield = ecnfield
        if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
            if edge:
                sk.icsk_ack_pending |= ICSK_ACK_NOW
            sk.accecn_opt_demand = 2  # the second surely reports the last codepoint


def tcp_accecn_count_bytes(sk: tcp_sock, ecnfield: int, size: int) -> None:
    """Count payload, and note which fields the next option must have."""
    if ecnfield == INET_ECN_ECT_1:
        old = sk.received_e1_bytes
        new = (old + size) & M32
        sk.received_e1_bytes = new
        field = 1
    elif ecnfield == INET_ECN_CE:
        old = sk.received_ce_bytes
        new = (old + size) & M32
        sk.received_ce_bytes = new
        field = 2
    else:
        old = sk.received_e0_bytes
        new = (old + size) & M32
        sk.received_e0_bytes = new
        field = 3
    if sk.accecn_minlen < field:
        sk.accecn_minlen = field
    if (old ^ new) >> ACCECN_BYTES_SHIFT:
        tcp_accecn_opt_demand_min(sk)


def tcp_accecn_opt_lost(sk: tcp_sock, seq: int) -> None:
    """Old data that begins at `seq` arrived (tcp_rcv_spurious_retrans).

    If the last ACK reported it by D-SACK, that ACK was lost: the path may drop its option.
    """
    if (
        sk.ecn_flags & TCP_ECN_MODE_ACCECN
        and sk.accecn_opt_sent_w_dsack
        and seq == sk.duplicate_sack[0]
    ):
        sk.accecn_fail_mode |= TCP_ACCECN_OPT_FAIL_SEND


def tcp_accecn_set_ace(sk: tcp_sock) -> int:
    """The flags of a segment that report how many packets were received with CE."""
    sk.received_ce_pending = 0
    return (sk.received_ce + TCP_ACCECN_CEP_INIT_OFFSET & TCP_ACCECN_CEP_ACE_MASK) << ACE_SHIFT


# --- the option to send -------------------------------------------------------------------


def tcp_accecn_option_wanted(sk: tcp_sock) -> bool:
    """Whether the next segment should carry the option (sysctl tcp_ecn_option).

    Not before the peer has sent one: a middlebox may drop it.
    """
    opt = sk.net.sysctl.tcp_ecn_option
    if not opt or not sk.saw_accecn_opt or sk.accecn_fail_mode & TCP_ACCECN_OPT_FAIL_SEND:
        return False
    return (
        opt >= TCP_ACCECN_OPTION_FULL
        or sk.accecn_opt_demand > 0
        or tcp_accecn_option_beacon_check(sk)
    )


def tcp_accecn_option_beacon_check(sk: tcp_sock) -> bool:
    """Whether the last option is old: tcp_ecn_option_beacon per round trip are sent; 0: none."""
    beacon = sk.net.sysctl.tcp_ecn_option_beacon
    if not beacon:
        return False
    age = tcp_stamp_us_delta(sk.tcp_mstamp, sk.accecn_opt_tstamp)
    return age * beacon >= sk.srtt_us >> 3


def tcp_accecn_padded(fields: int, saving: int) -> int:
    """Bytes that an option with this many fields adds; up to `saving` replace padding."""
    size = TCPOLEN_ACCECN_BASE + TCPOLEN_ACCECN_PERFIELD * fields
    return size & ~3 if size & 3 <= saving else size + 3 & ~3


def tcp_accecn_fit(required: int, room: int, sacks: int, saving: int) -> tuple[int, int]:
    """tcp_options_fit_accecn: (fields, SACK blocks), or -1 fields: the option does not fit.

    `room`: bytes left behind `sacks` blocks, of which all but two may go for `required` fields;
    `saving`: bytes of padding that the option may replace.
    """
    blocks = sacks
    while True:
        fields = TCP_ACCECN_NUMFIELDS
        while fields >= required:
            if room >= tcp_accecn_padded(fields, saving):
                return fields, blocks
            fields -= 1
        if not required or blocks <= 2:
            return -1, sacks
        blocks -= 1
        room += 8


def tcp_accecn_option(fields: int, e1: int, ce: int, e0: int) -> bytes:
    """The option, without padding, from counts of bytes: ECT(1), CE, ECT(0)."""
    size = TCPOLEN_ACCECN_BASE + TCPOLEN_ACCECN_PERFIELD * fields
    counts = (
        (e1 + TCP_ACCECN_E1B_INIT_OFFSET & M24) << 48
        | (ce & M24) << 24
        | e0 + TCP_ACCECN_E0B_INIT_OFFSET & M24
    )
    return bytes((TCPOPT_ACCECN1, size)) + counts.to_bytes(9, "big")[: size - 2]


# --- the sender ---------------------------------------------------------------------------


def tcp_accecn_option_init(skb: sk_buff, at: int) -> int:
    """TCP_ACCECN_OPT_*: what the peer's first option, at byte `at` of the header, shows.

    A path that zeroes it is caught: the counts of ECT(0) and ECT(1) begin at 1.
    """
    option = bytes(tcp_hdr(skb).options)[at - 20 :]
    size: int = option[1] - 2
    if size < TCPOLEN_ACCECN_PERFIELD:
        return TCP_ACCECN_OPT_EMPTY_SEEN
    if option[2:5] == b"\0\0\0" or (size >= 9 and option[8:11] == b"\0\0\0"):
        return TCP_ACCECN_OPT_FAIL_SEEN
    return TCP_ACCECN_OPT_COUNTER_SEEN


def tcp_accecn_saw_opt(sk: tcp_sock, saw_opt: int) -> None:
    """tcp_accecn_saw_opt_fail_recv: check the peer's option; ignore options after a bad one."""
    sk.saw_accecn_opt = saw_opt
    if saw_opt == TCP_ACCECN_OPT_FAIL_SEEN:
        sk.accecn_fail_mode |= TCP_ACCECN_OPT_FAIL_RECV


def tcp_accecn_add_delivered(sk: tcp_sock, ecnfield: int, delta: int) -> None:
    """The peer received `delta` more bytes (or fewer, if negative) with this codepoint."""
    if ecnfield == INET_ECN_ECT_1:
        sk.delivered_e1_bytes = (sk.delivered_e1_bytes + delta) & M32
    elif ecnfield == INET_ECN_CE:
        sk.delivered_ce_bytes = (sk.delivered_ce_bytes + delta) & M32
    else:
        sk.delivered_e0_bytes = (sk.delivered_e0_bytes + delta) & M32


def tcp_update_ecn_bytes(sk: tcp_sock, ecnfield: int, value: int) -> int:
    """Return the signed change of a count when the option's field is `value`."""
    if ecnfield == INET_ECN_ECT_1:
        count = sk.delivered_e1_bytes + TCP_ACCECN_E1B_INIT_OFFSET
    elif ecnfield == INET_ECN_CE:
        count = sk.delivered_ce_bytes
    else:
        count = sk.delivered_e0_bytes + TCP_ACCECN_E0B_INIT_OFFSET
    delta = (value - count) & M24
    if delta >> 23:
        delta -= 1 << 24
    if delta:
        tcp_accecn_add_delivered(sk, ecnfield, delta)
    return delta


def tcp_accecn_process_option(sk: tcp_sock, skb: sk_buff, delivered_bytes: int, flag: int) -> bool:
    """Update delivered_*_bytes from an ACK; return whether their growth is reliable.

    Without an option, delivered bytes count for the codepoint that grew last (est_ecnfield).
    """
    if sk.accecn_fail_mode & TCP_ACCECN_OPT_FAIL_RECV:
        return False
    estimate = sk.est_ecnfield
    at = sk.rx_opt.accecn
    if not flag & FLAG_SLOWPATH or not at:
        if not sk.saw_accecn_opt:
            if sk.bytes_sent >= ACCECN_LATE_BYTES:
                tcp_accecn_saw_opt(sk, TCP_ACCECN_OPT_FAIL_SEEN)
            return False
        if not estimate:
            return False
        tcp_accecn_add_delivered(sk, estimate, delivered_bytes)
        return True
    if sk.saw_accecn_opt < TCP_ACCECN_OPT_COUNTER_SEEN:
        tcp_accecn_saw_opt(sk, tcp_accecn_option_init(skb, at))
    option = bytes(tcp_hdr(skb).options)[at - 20 :]
    size: int = option[1]
    order = _FIELDS1 if option[0] == TCPOPT_ACCECN1 else _FIELDS0
    valid = estimate != 0
    changed = ambiguous = False
    place = TCPOLEN_ACCECN_BASE
    for ecnfield in order:
        if place + TCPOLEN_ACCECN_PERFIELD > size:
            break
        value = int.from_bytes(option[place : place + TCPOLEN_ACCECN_PERFIELD], "big")
        delta = tcp_update_ecn_bytes(sk, ecnfield, value)
        if delta < 0:
            ambiguous = True
        if delta and ecnfield != estimate:
            if changed:
                ambiguous = True
            else:
                sk.est_ecnfield = ecnfield
                changed = True
        place += TCPOLEN_ACCECN_PERFIELD
    if ambiguous:
        sk.est_ecnfield = 0
        return False
    return valid


def tcp_accecn_delta(
    low: int,
    packets: int,
    size: int,
    ce_bytes: int,
    mss: int,
    proportional: bool,
    thinned: bool,
) -> int:
    """Estimate how many of an ACK's `packets` were marked, from the 3 bits of the ACE field.

    `low`: its growth modulo 8. The safe estimate is the largest that fits. It is too large if each
    ACK covers many packets, so byte counts correct it.

    `size`: bytes of the packets. `ce_bytes`: marked bytes according to the option; -1: there was
    none. `proportional`: the packets are of about the same size, so their number follows from the
    bytes. `thinned`: ACKs are dropped or merged, and each covers many packets.
    """
    if packets <= TCP_ACCECN_CEP_ACE_MASK:
        return low
    safe = packets - (packets - low & TCP_ACCECN_CEP_ACE_MASK)
    if ce_bytes < 0:
        return low if thinned else safe
    if not ce_bytes:
        return low
    if proportional and packets >= 2 * (TCP_ACCECN_CEP_ACE_MASK + 1):
        if size <= ce_bytes:
            return safe
        marked = (ce_bytes * packets + size - 1) // size
        return min(safe, low + (marked & ~TCP_ACCECN_CEP_ACE_MASK))
    if ce_bytes > low * mss:
        return safe
    if ce_bytes < safe * mss >> TCP_ACCECN_SAFETY_SHIFT:
        return low
    return safe


def tcp_accecn_process(
    sk: tcp_sock, skb: sk_buff, delivered_pkts: int, delivered_bytes: int, flag: int
) -> int:
    """Count and return the newly marked packets of an ACK.

    An ACK that delivers nothing may be old, and is ignored.
    """
    if not flag & (FLAG_FORWARD_PROGRESS | FLAG_TS_PROGRESS):
        return 0
    old_ceb = sk.delivered_ce_bytes
    valid = tcp_accecn_process_option(sk, skb, delivered_bytes, flag)
    if delivered_pkts:
        average = sk.pkts_acked_ewma
        now = delivered_pkts << PKTS_ACKED_PREC
        average += (now - average) >> PKTS_ACKED_WEIGHT if average else now
        sk.pkts_acked_ewma = min(average, 0xFFFF)
    if not flag & FLAG_SLOWPATH and delivered_pkts <= TCP_ACCECN_CEP_ACE_MASK:
        return 0  # header prediction compared the ACE field
    if flag & FLAG_SYN_ACKED:
        return 0  # it has another meaning in the handshake
    if sk.received_ce_pending >= TCP_ACCECN_ACE_MAX_DELTA:
        sk.icsk_ack_pending |= ICSK_ACK_NOW
    low = (
        tcp_accecn_ace(skb.tcp_flags) - TCP_ACCECN_CEP_INIT_OFFSET - sk.delivered_ce
    ) & TCP_ACCECN_CEP_ACE_MASK
    delta = tcp_accecn_delta(
        low,
        delivered_pkts,
        delivered_bytes,
        (sk.delivered_ce_bytes - old_ceb) & M32 if valid else -1,
        sk.mss_cache,
        bool(sk.rx_opt.sack_ok) or sk.icsk_ca_state in (TCP_CA_Open, TCP_CA_CWR),
        sk.pkts_acked_ewma > ACK_COMP_THRESH << PKTS_ACKED_PREC,
    )
    sk.delivered_ce += delta
    return delta
