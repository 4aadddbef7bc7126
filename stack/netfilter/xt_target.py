"""iptables' targets that answer, change or pass on a packet: net/ipv4/netfilter/ipt_REJECT.c,
ip6t_REJECT.c, net/netfilter/xt_LOG.c, xt_NFLOG.c, xt_mark.c, xt_TCPMSS.c, xt_HL.c, xt_DSCP.c,
xt_CLASSIFY.c, xt_CHECKSUM.c, xt_NFQUEUE.c, xt_TRACE.c.

LOG writes nothing: see nft_log.py. TCPMSS does not add the option to a SYN without it.
"""

from __future__ import annotations

import errno
import os
import struct

from fastpath.base.csum import csum_replace2
from fastpath.base.skbuff import CHECKSUM_PARTIAL, skb_checksum_help, skb_cow
from fastpath.net.hdr import iphdr_at, ipv6hdr_at, tcphdr_at
from stack.core.netfilter import (
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_QUEUE_NR,
    NF_VERDICT_FLAG_QUEUE_BYPASS,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
)
from stack.core.uapi import IPPROTO_TCP, TCP_HLEN
from stack.netfilter.nf_log import nf_log_packet, nf_loginfo
from stack.netfilter.nf_reject import nf_send_reset, nf_send_unreach
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nf_tables_trace import nf_set_trace
from stack.netfilter.nft_exthdr import skb_replace16, tcp_strip_options
from stack.netfilter.nft_hash import nfqueue_hash
from stack.netfilter.nft_rt import tcp_headers, tcpmss_mtu
from stack.netfilter.x_tables import (
    BOTH,
    XT_CONTINUE,
    xt_mtchk_param,
    xt_register_target,
    xt_target,
)
from stack.netfilter.xt_tcpudp import TCPOPT_MSS, tcp_options
from stack.netlink.nlattr import NlError

REJECT_HOOKS = 1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD | 1 << NF_INET_LOCAL_OUT
CLASSIFY_HOOKS = 1 << NF_INET_LOCAL_OUT | 1 << NF_INET_FORWARD | 1 << NF_INET_POST_ROUTING
IPT_ICMP_ECHOREPLY, IPT_TCP_RESET = 4, 7
IPT_CODES = {0: 0, 1: 1, 2: 2, 3: 3, 5: 9, 6: 10, 8: 13}
IP6T_ICMP6_ECHOREPLY, IP6T_TCP_RESET = 5, 6
IP6T_CODES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 7: 5, 8: 6}
"""ICMP codes by enum ipt_reject_with, ip6t_reject_with."""
XT_TCPMSS_CLAMP_PMTU = 0xFFFF
IPT_TTL_SET, IPT_TTL_INC, IPT_TTL_DEC = 0, 1, 2
XT_CHECKSUM_OP_FILL = 1
XT_NFLOG_F_COPY_LEN = 1
NFQ_FLAG_BYPASS, NFQ_FLAG_MASK = 1, 3
U32 = 0xFFFFFFFF


class ipt_reject_info(xt_target):
    """struct ipt_reject_info: REJECT: drop the packet, and answer with an ICMP error or a reset.

    EINVAL: an echo reply, or a reset without `-p tcp`.
    """

    name = "REJECT"
    families = (NFPROTO_IPV4,)
    size = 4
    table = "filter"
    hooks = REJECT_HOOKS
    codes, reset, echoreply = IPT_CODES, IPT_TCP_RESET, IPT_ICMP_ECHOREPLY

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.kind: int = struct.unpack_from("=I", info)[0]
        tcp = par.proto == IPPROTO_TCP and not par.inv_proto
        if self.kind == self.echoreply or (self.kind == self.reset and not tcp):
            raise NlError(errno.EINVAL)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/ipv4/netfilter/ipt_REJECT.c reject_tg, ip6t_REJECT.c reject_tg6."""
        if self.kind == self.reset:
            nf_send_reset(pkt.skb, pkt.state)
        elif self.kind in self.codes:
            nf_send_unreach(pkt.skb, pkt.state, self.codes[self.kind])
        return NF_DROP


class ip6t_reject_info(ipt_reject_info):
    """struct ip6t_reject_info: REJECT of IPv6."""

    families = (NFPROTO_IPV6,)
    codes, reset, echoreply = IP6T_CODES, IP6T_TCP_RESET, IP6T_ICMP6_ECHOREPLY


class xt_log_info(xt_target):
    """struct xt_log_info: LOG: it has no effect. EINVAL: no such level, an unterminated prefix."""

    name = "LOG"
    families = BOTH
    size = 32

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        level, _, prefix = struct.unpack_from("=BB30s", info)
        if level >= 8 or prefix[-1]:
            raise NlError(errno.EINVAL)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_LOG.c log_tg."""
        return XT_CONTINUE


class xt_nflog_info(xt_target):
    """struct xt_nflog_info: NFLOG: copy the packet to the listener of a group. EINVAL: an unknown
    flag, an unterminated prefix.
    """

    name = "NFLOG"
    size = 76

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        length, group, threshold, flags, prefix = struct.unpack_from("=IHHHxx64s", info)
        if flags & ~XT_NFLOG_F_COPY_LEN or prefix[-1]:
            raise NlError(errno.EINVAL)
        text = os.fsdecode(prefix.partition(b"\0")[0])
        self.loginfo = nf_loginfo(group, text, length if flags else None, threshold)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_NFLOG.c nflog_tg."""
        nf_log_packet(pkt, self.loginfo)
        return XT_CONTINUE


class xt_trace(xt_target):
    """TRACE: trace the packet. iptables makes it `meta nftrace set 1` if the target exists."""

    name = "TRACE"
    size = 0
    table = "raw"

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_TRACE.c trace_tg."""
        nf_set_trace(pkt, True)
        return XT_CONTINUE


class xt_mark_tginfo2(xt_target):
    """struct xt_mark_tginfo2: MARK: clear the bits of `mask`, then exclusive or `mark`."""

    name = "MARK"
    revision = 2
    size = 8

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.mark, self.mask = struct.unpack_from("=II", info)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_mark.c mark_tg."""
        pkt.skb.mark = pkt.skb.mark & ~self.mask & U32 ^ self.mark
        return XT_CONTINUE


class xt_tcpmss_info(xt_target):
    """struct xt_tcpmss_info: TCPMSS: lower the MSS option to `mss`, or with XT_TCPMSS_CLAMP_PMTU to
    what the routes of both directions carry.

    EINVAL: the latter where packets have no route yet.
    """

    name = "TCPMSS"
    families = BOTH
    size = 2
    proto = IPPROTO_TCP

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.mss: int = struct.unpack_from("=H", info)[0]
        if self.mss == XT_TCPMSS_CLAMP_PMTU and par.hook_mask & ~CLASSIFY_HOOKS:
            raise NlError(errno.EINVAL)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_TCPMSS.c tcpmss_tg4, tcpmss_tg6."""
        if pkt.fragoff:
            return XT_CONTINUE
        options = tcp_options(pkt)
        th = tcphdr_at(pkt.skb, pkt.thoff)
        new = self.mss
        if new == XT_TCPMSS_CLAMP_PMTU:
            new = tcpmss_mtu(pkt) - tcp_headers(pkt.pf)
            if new <= 0:
                return NF_DROP
        for kind, at, size in options:
            if kind == TCPOPT_MSS and size == 4 and at + size <= th.doff * 4:
                old = int.from_bytes(th.options[at - TCP_HLEN + 2 :][:2], "big")
                if old > new and not skb_replace16(pkt, at + 2, new):
                    return NF_DROP
                break
        return XT_CONTINUE


class xt_tcpoptstrip_target_info(xt_target):
    """struct xt_tcpoptstrip_target_info: TCPOPTSTRIP: overwrite options of TCP with no-operations.
    It has a bit for each kind.
    """

    name = "TCPOPTSTRIP"
    families = BOTH
    size = 32
    table = "mangle"
    proto = IPPROTO_TCP

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        words = struct.unpack_from("=8I", info)
        self.kinds = {kind for kind in range(256) if words[kind >> 5] >> (kind & 31) & 1}

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_TCPOPTSTRIP.c tcpoptstrip_tg4, tcpoptstrip_tg6."""
        return XT_CONTINUE if tcp_strip_options(pkt, self.kinds) else NF_DROP


class ipt_TTL_info(xt_target):
    """struct ipt_TTL_info: TTL: set or change it. EINVAL: no such mode, or a change by 0."""

    name = "TTL"
    families = (NFPROTO_IPV4,)
    size = 2
    table = "mangle"

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.mode, self.ttl = info[:2]
        if self.mode > IPT_TTL_DEC or (self.mode != IPT_TTL_SET and not self.ttl):
            raise NlError(errno.EINVAL)

    def new_ttl(self, ttl: int) -> int:
        """The new value."""
        if self.mode == IPT_TTL_SET:
            return self.ttl
        change = self.ttl if self.mode == IPT_TTL_INC else -self.ttl
        return min(max(ttl + change, 0), 255)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_HL.c ttl_tg."""
        if not skb_cow(pkt.skb, 0):
            return NF_DROP
        iph = iphdr_at(pkt.skb, 0)
        old, new = iph.ttl, self.new_ttl(iph.ttl)
        iph.check = csum_replace2(iph.check, old << 8, new << 8)
        iph.ttl = new
        return XT_CONTINUE


class ip6t_HL_info(ipt_TTL_info):
    """struct ip6t_HL_info: HL: set, increase or decrease the hop limit."""

    name = "HL"
    families = (NFPROTO_IPV6,)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_HL.c hl_tg6."""
        if not skb_cow(pkt.skb, 0):
            return NF_DROP
        ip6h = ipv6hdr_at(pkt.skb, 0)
        ip6h.hop_limit = self.new_ttl(ip6h.hop_limit)
        return XT_CONTINUE


class xt_tos_target_info(xt_target):
    """struct xt_tos_target_info: TOS: clear the bits of `mask`, then exclusive or `value`."""

    name = "TOS"
    revision = 1
    families = BOTH
    size = 2
    table = "mangle"

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.value, self.mask = info[:2]

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_DSCP.c tos_tg, tos_tg6, dscp_tg, dscp_tg6."""
        if not skb_cow(pkt.skb, 0):
            return NF_DROP
        if pkt.pf == NFPROTO_IPV4:
            iph = iphdr_at(pkt.skb, 0)
            old = iph.tos
            new = old & ~self.mask & 0xFF ^ self.value
            iph.check = csum_replace2(iph.check, old, new)
            iph.tos = new
        else:
            ip6h = ipv6hdr_at(pkt.skb, 0)
            ip6h.priority = ip6h.priority & ~self.mask & 0xFF ^ self.value
        return XT_CONTINUE


class xt_DSCP_info(xt_tos_target_info):
    """struct xt_DSCP_info: DSCP: set it. EDOM: it is over 63."""

    name = "DSCP"
    revision = 0
    size = 1

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        if info[0] > 63:
            raise NlError(errno.EDOM)
        self.value, self.mask = info[0] << 2, 0xFC


class xt_classify_target_info(xt_target):
    """struct xt_classify_target_info: CLASSIFY: set the packet's priority, which names a class."""

    name = "CLASSIFY"
    size = 4
    hooks = CLASSIFY_HOOKS

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.priority: int = struct.unpack_from("=I", info)[0]

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_CLASSIFY.c classify_tg."""
        pkt.skb.priority = self.priority
        return XT_CONTINUE


class xt_CHECKSUM_info(xt_target):
    """struct xt_CHECKSUM_info: CHECKSUM: fill in a checksum that is left to the device. EINVAL: no
    such operation.
    """

    name = "CHECKSUM"
    size = 1
    table = "mangle"

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        if info[0] != XT_CHECKSUM_OP_FILL:
            raise NlError(errno.EINVAL)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_CHECKSUM.c checksum_tg."""
        skb = pkt.skb
        if skb.ip_summed == CHECKSUM_PARTIAL and not skb.gso_size:
            skb_checksum_help(skb)
        return XT_CONTINUE


class xt_NFQ_info(xt_target):
    """struct xt_NFQ_info: NFQUEUE; the later revisions have more."""

    name = "NFQUEUE"
    size = 2

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.first: int = struct.unpack_from("=H", info)[0]
        self.total, self.flags = 1, 0
        if self.revision:
            self.total = struct.unpack_from("=H", info, 2)[0]
        if self.revision > 1:
            self.flags = struct.unpack_from("=H", info, 4)[0]
        if not self.total or self.flags > (1 if self.revision == 2 else NFQ_FLAG_MASK):
            raise NlError(errno.EINVAL)
        if self.first + self.total - 1 > 0xFFFF:
            raise NlError(errno.ERANGE)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_NFQUEUE.c nfqueue_tg, nfqueue_tg_v1, _v2, _v3."""
        queue = self.first
        if self.total > 1 and not self.flags & ~NFQ_FLAG_BYPASS:  # fan-out by CPU: the first
            queue += nfqueue_hash(pkt, self.total)
        bypass = NF_VERDICT_FLAG_QUEUE_BYPASS if self.flags & NFQ_FLAG_BYPASS else 0
        return NF_QUEUE_NR(queue) | bypass


class xt_NFQ_info_v1(xt_NFQ_info):
    """struct xt_NFQ_info_v1: several queues."""

    revision = 1
    size = 4


class xt_NFQ_info_v2(xt_NFQ_info):
    """struct xt_NFQ_info_v2: without a listener packets may be accepted."""

    revision = 2
    size = 6


class xt_NFQ_info_v3(xt_NFQ_info):
    """struct xt_NFQ_info_v3: flags."""

    revision = 3
    size = 6


xt_register_target(ipt_reject_info, ip6t_reject_info, xt_log_info, xt_nflog_info)
xt_register_target(xt_trace)
xt_register_target(
    xt_tcpoptstrip_target_info, xt_mark_tginfo2, xt_tcpmss_info, ipt_TTL_info, ip6t_HL_info
)
xt_register_target(xt_tos_target_info, xt_DSCP_info, xt_classify_target_info, xt_CHECKSUM_info)
xt_register_target(xt_NFQ_info, xt_NFQ_info_v1, xt_NFQ_info_v2, xt_NFQ_info_v3)
