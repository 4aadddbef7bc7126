"""Received ICMPv6 messages, by type (net/ipv6/icmp.c; RFC 4443)."""

from __future__ import annotations

from collections.abc import Callable

from fastpath.base.skbuff import (
    CHECKSUM_UNNECESSARY,
    consume_skb,
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_pull,
)
from fastpath.net.hdr import ipv6_hdr, ipv6hdr_at
from fastpath.net.hdr6 import icmp6_csum, icmp6_hdr, ipv6_skip_exthdr
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.proto import proto
from stack.core.sock import sk_alloc, sock_init_data
from stack.core.sock_flags import SOCK_USE_WRITE_QUEUE
from stack.core.uapi import (
    AF_INET6,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPV6_HLEN,
    SOCK_RAW,
)
from stack.inet.inet_sock import inet_sock
from stack.inet.ping import ping_rcv
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm6_policy_check
from stack.ipv6 import ip6_icmp
from stack.ipv6.icmp_send import icmp6_send, icmpv6_echo_reply
from stack.ipv6.ip6_icmp import icmp6_in_count
from stack.ipv6.mld import mld_rcv
from stack.ipv6.pinfo import IPV6_PMTUDISC_DONT, ipv6_pinfo
from stack.ipv6.ping import ping_v6_err
from stack.ipv6.protocol import INET6_PROTO_FINAL, INET6_PROTO_NOPOLICY, inet6_protocol
from stack.ipv6.raw import rawv6_icmp_error
from stack.ipv6.route_learned import ip6_redirect, ip6_update_pmtu
from stack.ipv6.txoptions import ipv6_ext_hdr
from stack.net import Net

# --- receiving -----------------------------------------------------------------------------


def icmpv6_rcv(skb: sk_buff) -> int:
    """net/ipv6/icmp.c: receive an ICMPv6 message, data at its header. Takes ownership of skb."""
    net = skb.dev.net
    if not xfrm6_policy_check(None, XFRM_POLICY_IN, skb):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        return 0
    mib = net.mib.icmp6
    mib.InMsgs += 1
    iph = ipv6_hdr(skb)
    if skb.ip_summed != CHECKSUM_UNNECESSARY and icmp6_csum(skb, iph.saddr, iph.daddr):
        mib.InCsumErrors += 1
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_ICMP_CSUM)
        return 0
    if not pskb_may_pull(skb, ip6_icmp.ICMP6_HLEN):
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    kind = icmp6_hdr(skb).icmp6_type
    icmp6_in_count(net, kind)
    if kind & ip6_icmp.ICMPV6_INFOMSG_MASK:
        handler = ICMPV6_HANDLERS.get(kind)
        # RFC 4443 2.4 (b): unknown messages are silently discarded.
        reason = handler(skb) if handler is not None else drop_reason.SKB_NOT_DROPPED_YET
    else:
        reason = icmpv6_error(skb)  # RFC 4443 2.4 (a): unknown ones are passed on, too
    if reason and reason != drop_reason.SKB_CONSUMED:
        kfree_skb_reason(net, skb, reason)
    else:
        consume_skb(skb)
    return 0


def icmpv6_echo_request(skb: sk_buff) -> int:
    """net/ipv6/icmp.c (in icmpv6_rcv): answer an echo request, unless icmp.echo_ignore_all.

    An extended one is only answered with sysctl icmp_echo_enable_probe.
    """
    net: Net = skb.dev.net
    extended = icmp6_hdr(skb).icmp6_type == ip6_icmp.ICMPV6_EXT_ECHO_REQUEST
    refused = extended and not net.sysctl.icmp_echo_enable_probe
    if refused or net.ipv6.sysctl.icmpv6_echo_ignore_all:
        return drop_reason.SKB_NOT_DROPPED_YET
    skb_pull(skb, ip6_icmp.ICMP6_HLEN)
    return icmpv6_echo_reply(skb)


def icmpv6_echo_answer(skb: sk_buff) -> int:
    """net/ipv6/icmp.c (ping_rcv): give an echo reply to its ping socket."""
    skb_pull(skb, ip6_icmp.ICMP6_HLEN)
    ping_rcv(skb)
    return drop_reason.SKB_NOT_DROPPED_YET


def icmpv6_error(skb: sk_buff) -> int:
    """net/ipv6/icmp.c (in icmpv6_rcv): process an error about our packet."""
    icmp6h = icmp6_hdr(skb)
    kind, code, info = icmp6h.icmp6_type, icmp6h.icmp6_code, icmp6h.icmp6_mtu
    skb_pull(skb, ip6_icmp.ICMP6_HLEN)
    return icmpv6_notify(skb, kind, code, info)


def icmpv6_notify(skb: sk_buff, kind: int, code: int, info: int) -> int:
    """net/ipv6/icmp.c: report an error to the transport and to raw sockets. Borrows skb.

    Data at the embedded IPv6 header. A drop reason; 0 when fine.
    """
    net: Net = skb.dev.net
    mib = net.mib.icmp6
    if not pskb_may_pull(skb, IPV6_HLEN):
        mib.InErrors += 1
        return drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL
    iph = ipv6hdr_at(skb, 0)
    nexthdr = iph.nexthdr
    inner = IPV6_HLEN
    if ipv6_ext_hdr(nexthdr):
        inner, nexthdr, _ = ipv6_skip_exthdr(skb, IPV6_HLEN, nexthdr)
        if inner < 0:
            mib.InErrors += 1
            return drop_reason.SKB_DROP_REASON_IPV6_BAD_EXTHDR
    # The ports in the first 8 bytes identify the sender's socket.
    if not pskb_may_pull(skb, inner + 8):
        mib.InErrors += 1
        return drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL
    ipprot = net.ipv6.inet6_protos[nexthdr]
    if iph.version != 6 and nexthdr in (IPPROTO_TCP, IPPROTO_UDP):  # we have not sent it
        mib.InErrors += 1
    elif ipprot is not None and ipprot.err_handler is not None:
        ipprot.err_handler(skb, None, kind, code, inner, info)
    rawv6_icmp_error(skb, nexthdr, inner, info)
    return drop_reason.SKB_NOT_DROPPED_YET


def icmpv6_err(skb: sk_buff, opt: object, kind: int, code: int, offset: int, info: int) -> int:
    """net/ipv6/icmp.c: err_handler of ICMPv6 itself: an error about our message."""
    net: Net = skb.dev.net
    if kind == ip6_icmp.ICMPV6_PKT_TOOBIG:
        ip6_update_pmtu(skb, net, info, 0)
    elif kind == ip6_icmp.NDISC_REDIRECT:
        ip6_redirect(skb, net, skb.dev.ifindex)
    if (
        not kind & ip6_icmp.ICMPV6_INFOMSG_MASK
        and skb_copy_bits(skb, offset, 1)[0] == ip6_icmp.ICMPV6_ECHO_REQUEST
    ):
        ping_v6_err(skb, offset, info)
    return 0


def icmpv6_ndisc(skb: sk_buff) -> int:
    """Pass a message of RFC 4861 to neighbour discovery."""
    return skb.dev.net.ipv6.nd.ndisc_rcv(skb)


# The handler of each type that is no error; types without a row are discarded.
ICMPV6_HANDLERS: dict[int, Callable[[sk_buff], int]] = {
    ip6_icmp.ICMPV6_ECHO_REQUEST: icmpv6_echo_request,
    ip6_icmp.ICMPV6_ECHO_REPLY: icmpv6_echo_answer,
    ip6_icmp.ICMPV6_EXT_ECHO_REQUEST: icmpv6_echo_request,
    ip6_icmp.ICMPV6_EXT_ECHO_REPLY: icmpv6_echo_answer,
    ip6_icmp.ICMPV6_MGM_QUERY: mld_rcv,
    ip6_icmp.ICMPV6_MGM_REPORT: mld_rcv,
    ip6_icmp.ICMPV6_MGM_REDUCTION: mld_rcv,
    ip6_icmp.ICMPV6_MLD2_REPORT: mld_rcv,
    ip6_icmp.NDISC_ROUTER_SOLICITATION: icmpv6_ndisc,
    ip6_icmp.NDISC_ROUTER_ADVERTISEMENT: icmpv6_ndisc,
    ip6_icmp.NDISC_NEIGHBOUR_SOLICITATION: icmpv6_ndisc,
    ip6_icmp.NDISC_NEIGHBOUR_ADVERTISEMENT: icmpv6_ndisc,
    ip6_icmp.NDISC_REDIRECT: icmpv6_ndisc,
}

icmpv6_protocol = inet6_protocol(
    handler=icmpv6_rcv, err_handler=icmpv6_err, flags=INET6_PROTO_NOPOLICY | INET6_PROTO_FINAL
)
icmpv6_ctl_prot = proto(name="ICMPv6", sock_class=inet_sock)


def icmpv6_sk_init(net: Net) -> None:
    """net/ipv6/icmp.c: make the socket that sends, with room for two 64 KiB echo replies."""
    sk = sk_alloc(net, AF_INET6, 0, icmpv6_ctl_prot, True)
    sock_init_data(None, sk)
    sk.sk_type = SOCK_RAW
    sk.sk_protocol = IPPROTO_ICMPV6
    sk.inet_num = IPPROTO_ICMPV6
    sk.pinet6 = ipv6_pinfo(pmtudisc=IPV6_PMTUDISC_DONT)
    sk.sk_sndbuf = 2 * 65536 * 2
    sk.sk_flags |= SOCK_USE_WRITE_QUEUE
    net.ipv6.icmp_sk = sk
    net.ipv6.icmp_sender = icmp6_send
    net.xfrm.changed.append(net.ipv6.rt_cache_flush)
