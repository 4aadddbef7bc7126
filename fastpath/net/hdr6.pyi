# ruff: noqa: A002 - argument names are the kernel's
from typing import final

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import header
from fastpath.wide import wide

@final
class frag_hdr(header):
    nexthdr: int
    reserved: int
    frag_off: int
    identification: int

@final
class icmp6hdr(header):
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
    target: int
    dest: int

# the view at the offset recorded in the sk_buff (transport_header)
def icmp6_hdr(skb: sk_buff) -> icmp6hdr: ...

# views at an offset from skb->data
def frag_hdr_at(skb: sk_buff, off: int) -> frag_hdr: ...
def rd_msg_at(skb: sk_buff, off: int) -> rd_msg: ...
def ipv6_hdr_validate(skb: sk_buff, loopback: bool = False) -> int: ...
def ipv6_skip_exthdr(skb: sk_buff, start: int, nexthdr: int) -> tuple[int, int, int]: ...
def icmp6_push(skb: sk_buff, type: int, code: int, un: int, saddr: wide, daddr: wide) -> None: ...
def icmp6_csum(skb: sk_buff, saddr: wide, daddr: wide) -> int: ...
