"""RFC 8335, PROBE: a request asks about an interface of this host (net/ipv4/icmp.c).

    ICMP header | version, checksum | one object: length, class, type | name, index or address

The low byte of the sequence field of a reply tells whether the interface is up, and whether it has
addresses of IPv4 and IPv6.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from stack.core.netdevice import IFF_UP, IFNAMSIZ, net_device
from stack.core.uapi import AF_INET, AF_INET6
from stack.inet.af_ops import af_ops_of
from stack.inet.icmp_ext import EXT_HDR, OBJ_HDR
from stack.net import Net

L_BIT = 1
"""In a request: the interface is one of this host, not of a neighbour."""
ICMP_EXT_ECHOREPLY_ACTIVE, ICMP_EXT_ECHOREPLY_IPV4, ICMP_EXT_ECHOREPLY_IPV6 = 4, 2, 1
ICMP_EXT_CODE_MAL_QUERY, ICMP_EXT_CODE_NO_IF = 1, 2
ICMP_EXT_ECHO_CTYPE_NAME, ICMP_EXT_ECHO_CTYPE_INDEX, ICMP_EXT_ECHO_CTYPE_ADDR = 1, 2, 3
FAMILIES = {(1, 4): AF_INET, (2, 16): AF_INET6}
"""By ICMP_AFI_IP or ICMP_AFI_IP6, and the length of an address."""
IIO_MAX = OBJ_HDR.size + 20
"""The longest object: an IPv6 address behind its own header of 4 bytes."""


class MalformedQuery(Exception):
    """The request names no interface in any of the three ways."""


def icmp_build_probe(net: Net, skb: sk_buff, un: int) -> tuple[int, int] | None:
    """net/ipv4/icmp.c: code and word 2 of the reply; None: there is none.

    `un`: identifier and sequence of the request, whose data are behind its ICMP header.
    """
    if not net.sysctl.icmp_echo_enable_probe or not un & L_BIT:
        return None
    un &= ~0xFF
    try:
        dev = probed(net, skb)
    except MalformedQuery:
        return ICMP_EXT_CODE_MAL_QUERY, un
    if dev is None:
        return ICMP_EXT_CODE_NO_IF, un
    if dev.flags & IFF_UP:
        un |= ICMP_EXT_ECHOREPLY_ACTIVE
    if dev.ip_ptr is not None and dev.ip_ptr.ifa_list:
        un |= ICMP_EXT_ECHOREPLY_IPV4
    if dev.ip6_ptr is not None and dev.ip6_ptr.addr_list:
        un |= ICMP_EXT_ECHOREPLY_IPV6
    return 0, un


def probed(net: Net, skb: sk_buff) -> net_device | None:
    """The device that a request names, if there is one. Raises: MalformedQuery."""
    data = skb_copy_bits(skb, 0, min(skb.len, EXT_HDR.size + IIO_MAX))
    if len(data) < EXT_HDR.size + OBJ_HDR.size:
        raise MalformedQuery
    length, _, ctype = OBJ_HDR.unpack_from(data, EXT_HDR.size)
    ident = data[EXT_HDR.size + OBJ_HDR.size : EXT_HDR.size + length]
    if not OBJ_HDR.size < length <= IIO_MAX or len(ident) != length - OBJ_HDR.size:
        raise MalformedQuery
    if ctype == ICMP_EXT_ECHO_CTYPE_NAME and len(ident) < IFNAMSIZ:
        return net.dev_by_name.get(ident.split(b"\0")[0].decode("latin-1"))
    if ctype == ICMP_EXT_ECHO_CTYPE_INDEX and len(ident) == 4:
        return net.dev_by_index.get(int.from_bytes(ident, "big"))
    if ctype == ICMP_EXT_ECHO_CTYPE_ADDR and len(ident) > 4 and len(ident) - 4 == ident[2]:
        family = FAMILIES.get((int.from_bytes(ident[:2], "big"), ident[2]))
        if family is not None:
            return af_ops_of[family].dev_find(net, int.from_bytes(ident[4:], "big"))
    raise MalformedQuery
