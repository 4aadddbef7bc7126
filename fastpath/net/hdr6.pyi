# ruff: noqa: A002 - argument names are the kernel's
"""Views of IPv6 extension headers, ICMPv6 and redirects; checks of the header, ICMPv6's writer.

A view works as those of ``hdr``: each access checks that the fixed part of the header is linear
data of a live sk_buff. Integers are in host order, addresses are 128-bit ints, and a setter keeps
the low bits that fit. Names are those of linux/ipv6.h, icmpv6.h and net/ndisc.h.
"""

from typing import final

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import header
from fastpath.wide import wide

@final
class ipv6_opt_hdr(header):
    """Hop-by-hop or destination options header (RFC 8200 4.3, 4.6)."""

    nexthdr: int
    hdrlen: int
    options: bytes  # read-only: to the end of the header, (hdrlen + 1) * 8 bytes

@final
class ipv6_rt_hdr(header):
    """Routing header (RFC 8200 4.4)."""

    nexthdr: int
    hdrlen: int
    type: int
    segments_left: int
    data: bytes  # read-only: to the end of the header, (hdrlen + 1) * 8 bytes

@final
class frag_hdr(header):
    """Fragment header (RFC 8200 4.5); frag_off holds the two reserved bits and M too."""

    nexthdr: int
    reserved: int
    frag_off: int
    identification: int

@final
class icmp6hdr(header):
    """ICMPv6 header (RFC 4443 2.1) and what its second word means to each type."""

    icmp6_type: int
    icmp6_code: int
    icmp6_cksum: int
    icmp6_unused: int
    icmp6_mtu: int
    icmp6_pointer: int
    icmp6_identifier: int
    icmp6_sequence: int
    icmp6_maxdelay: int
    icmp6_router: int
    icmp6_solicited: int
    icmp6_override: int
    icmp6_hop_limit: int
    icmp6_addrconf_managed: int
    icmp6_addrconf_other: int
    icmp6_home_agent: int
    icmp6_router_pref: int
    icmp6_rt_lifetime: int

@final
class rd_msg(header):
    """Redirect (RFC 4861 4.5), from the ICMPv6 header on."""

    target: int
    dest: int

# the view at the offset recorded in the sk_buff (transport_header)
def icmp6_hdr(skb: sk_buff) -> icmp6hdr: ...

# views at an offset from skb->data
def ipv6_opt_hdr_at(skb: sk_buff, off: int) -> ipv6_opt_hdr: ...
def ipv6_rt_hdr_at(skb: sk_buff, off: int) -> ipv6_rt_hdr: ...
def frag_hdr_at(skb: sk_buff, off: int) -> frag_hdr: ...
def icmp6hdr_at(skb: sk_buff, off: int) -> icmp6hdr: ...
def rd_msg_at(skb: sk_buff, off: int) -> rd_msg: ...
def ipv6_hdr_validate(skb: sk_buff, loopback: bool = False) -> int:
    """ip6_rcv_core's checks with data at the IPv6 header (net/ipv6/ip6_input.c).

    0 fine (trimmed to its length, network_header and transport_header set, the latter behind the
    40 bytes), 1 header error, 3 truncated. `loopback`: it came over a loopback device, where the
    loopback address and groups of the host itself are right. payload_len 0 means skb.len in a GSO
    packet; before hop-by-hop options it says nothing (a jumbogram's length is one of them).
    """

def ipv6_skip_exthdr(skb: sk_buff, start: int, nexthdr: int) -> tuple[int, int, int]:
    """Step over the extension headers from `start` (bytes from data): (offset, nexthdr, frag_off).

    `nexthdr` says what stands at `start`. The offset is that of the first header that is no
    extension; in a piece of a packet other than the first one, that of its fragment header, with
    nexthdr 44. It is -1 when the packet ends before or says that nothing follows (59). frag_off is
    the fragment header's word, 0 without one. Bytes beyond the linear data are looked at too.
    """

def icmp6_push(skb: sk_buff, type: int, code: int, un: int, saddr: wide, daddr: wide) -> None:
    """Push the 8-byte ICMPv6 header and set its checksum over pseudo header and whole packet.

    `un` is the word after the checksum; sets transport_header.
    """

def icmp6_csum(skb: sk_buff, saddr: wide, daddr: wide) -> int:
    """Folded checksum of the ICMPv6 message at data: 0 when a received one is right.

    With its checksum field zero, the value that belongs there.
    """
