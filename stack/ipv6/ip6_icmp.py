"""ICMPv6's numbers, and the function that all layers use to report errors (net/ipv6/ip6_icmp.c).

The sender (icmp_send.py) depends on output, which depends on this file. So it registers here.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.ipv4.icmp_codes import icmp_err
from stack.net import Net

# include/uapi/linux/icmpv6.h
ICMPV6_DEST_UNREACH = 1
ICMPV6_PKT_TOOBIG = 2
ICMPV6_TIME_EXCEED = 3
ICMPV6_PARAMPROB = 4
ICMPV6_INFOMSG_MASK = 0x80
ICMPV6_ECHO_REQUEST = 128
ICMPV6_ECHO_REPLY = 129
ICMPV6_MGM_QUERY = 130
ICMPV6_MGM_REPORT = 131
ICMPV6_MGM_REDUCTION = 132
NDISC_ROUTER_SOLICITATION = 133
NDISC_ROUTER_ADVERTISEMENT = 134
NDISC_NEIGHBOUR_SOLICITATION = 135
NDISC_NEIGHBOUR_ADVERTISEMENT = 136
NDISC_REDIRECT = 137
ICMPV6_MLD2_REPORT = 143
ICMPV6_EXT_ECHO_REQUEST = 160
ICMPV6_EXT_ECHO_REPLY = 161

# codes of ICMPV6_DEST_UNREACH
ICMPV6_NOROUTE = 0
ICMPV6_ADM_PROHIBITED = 1
ICMPV6_NOT_NEIGHBOUR = 2
ICMPV6_ADDR_UNREACH = 3
ICMPV6_PORT_UNREACH = 4
# codes of ICMPV6_TIME_EXCEED
ICMPV6_EXC_HOPLIMIT = 0
ICMPV6_EXC_FRAGTIME = 1
# codes of ICMPV6_PARAMPROB
ICMPV6_HDR_FIELD = 0
ICMPV6_UNK_NEXTHDR = 1
ICMPV6_UNK_OPTION = 2
ICMPV6_HDR_INCOMP = 3

ICMP6_HLEN = 8


# net/ipv6/icmp.c tab_unreach[], by code (Linux's errno numbers)
tab_unreach = (
    icmp_err(101, False),  # ENETUNREACH   NOROUTE
    icmp_err(13, True),  # EACCES        ADM_PROHIBITED
    icmp_err(113, False),  # EHOSTUNREACH  NOT_NEIGHBOUR
    icmp_err(113, False),  # EHOSTUNREACH  ADDR_UNREACH
    icmp_err(111, True),  # ECONNREFUSED  PORT_UNREACH
    icmp_err(13, True),  # EACCES        POLICY_FAIL
    icmp_err(13, True),  # EACCES        REJECT_ROUTE
)


def icmpv6_err_convert(kind: int, code: int) -> icmp_err:
    """net/ipv6/icmp.c: errno and fatality of an error message."""
    if kind == ICMPV6_DEST_UNREACH and code < len(tab_unreach):
        return tab_unreach[code]
    if kind == ICMPV6_DEST_UNREACH:
        return icmp_err(71, True)  # EPROTO
    if kind == ICMPV6_PKT_TOOBIG:
        return icmp_err(90, False)  # EMSGSIZE
    if kind == ICMPV6_PARAMPROB:
        return icmp_err(71, True)  # EPROTO
    if kind == ICMPV6_TIME_EXCEED:
        return icmp_err(113, False)  # EHOSTUNREACH
    return icmp_err(71, False)


def icmp6_out_count(net: Net, kind: int) -> None:
    """include/net/ipv6.h ICMP6MSGOUT_INC_STATS: count one message sent."""
    net.mib.icmp6.OutMsgs += 1
    outtype = net.mib.icmp6msg.outtype
    outtype[kind] = outtype.get(kind, 0) + 1


def icmp6_in_count(net: Net, kind: int) -> None:
    """include/net/ipv6.h ICMP6MSGIN_INC_STATS: count one message received."""
    intype = net.mib.icmp6msg.intype
    intype[kind] = intype.get(kind, 0) + 1


def icmpv6_send(skb: sk_buff, type: int, code: int, info: int) -> None:  # noqa: A002
    """include/linux/icmpv6.h: report an error about `skb` to its sender (RFC 4443 2.4).

    Borrows skb: network header set. `info` = the 4 bytes behind the checksum.
    """
    if skb.dev is not None:
        skb.dev.net.ipv6.icmp_sender(skb, type, code, info)


def icmpv6_param_prob(
    skb: sk_buff, code: int, pos: int, reason: int = SKB_DROP_REASON_NOT_SPECIFIED
) -> None:
    """include/linux/icmpv6.h: report that byte `pos` of the packet is wrong, and free it.

    Takes ownership of skb.
    """
    icmpv6_send(skb, ICMPV6_PARAMPROB, code, pos)
    kfree_skb_reason(skb.dev.net, skb, reason)
