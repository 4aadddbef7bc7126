"""Packet headers as a table: the size of each, and the places of its members.

``hdr`` and ``hdr6`` derive the members of their views from it, and the plain-Python twins read it.
Multi-byte members are big-endian. Names are those of linux/if_ether.h, if_arp.h, ip.h, ipv6.h,
icmp.h, udp.h, tcp.h, icmpv6.h and net/ndisc.h.
"""

from __future__ import annotations

from typing import NamedTuple


class Member(NamedTuple):
    """`bits` bits, `shift` above the lowest of the `size` bytes at `at`; 0 bits: the bytes."""

    at: int
    size: int
    shift: int
    bits: int


class Header(NamedTuple):
    """A header whose fixed part has `size` bytes."""

    size: int
    members: dict[str, Member]


def _bits(at: int, size: int, shift: int, bits: int) -> Member:
    return Member(at, size, shift, bits)


def _word(at: int, size: int) -> Member:
    return Member(at, size, 0, size * 8)


def _mac(at: int) -> Member:
    return Member(at, 6, 0, 0)


HEADERS = {
    "ethhdr": Header(14, {"h_dest": _mac(0), "h_source": _mac(6), "h_proto": _word(12, 2)}),
    "arphdr": Header(
        28,
        {
            "ar_hrd": _word(0, 2),
            "ar_pro": _word(2, 2),
            "ar_hln": _word(4, 1),
            "ar_pln": _word(5, 1),
            "ar_op": _word(6, 2),
            "ar_sha": _mac(8),
            "ar_sip": _word(14, 4),
            "ar_tha": _mac(18),
            "ar_tip": _word(24, 4),
        },
    ),
    "iphdr": Header(
        20,
        {
            "version": _bits(0, 1, 4, 4),
            "ihl": _bits(0, 1, 0, 4),
            "tos": _word(1, 1),
            "tot_len": _word(2, 2),
            "id": _word(4, 2),
            "frag_off": _word(6, 2),
            "ttl": _word(8, 1),
            "protocol": _word(9, 1),
            "check": _word(10, 2),
            "saddr": _word(12, 4),
            "daddr": _word(16, 4),
        },
    ),
    "ipv6hdr": Header(
        40,
        {
            "version": _bits(0, 1, 4, 4),
            "priority": _bits(0, 2, 4, 8),
            "flow_lbl": _bits(0, 4, 0, 20),
            "payload_len": _word(4, 2),
            "nexthdr": _word(6, 1),
            "hop_limit": _word(7, 1),
            "saddr": _word(8, 16),
            "daddr": _word(24, 16),
        },
    ),
    "icmphdr": Header(
        8,
        {
            "type": _word(0, 1),
            "code": _word(1, 1),
            "checksum": _word(2, 2),
            "un": _word(4, 4),
            "id": _word(4, 2),
            "sequence": _word(6, 2),
            "gateway": _word(4, 4),
            "mtu": _word(6, 2),
        },
    ),
    "udphdr": Header(
        8, {"source": _word(0, 2), "dest": _word(2, 2), "len": _word(4, 2), "check": _word(6, 2)}
    ),
    "tcphdr": Header(
        20,
        {
            "source": _word(0, 2),
            "dest": _word(2, 2),
            "seq": _word(4, 4),
            "ack_seq": _word(8, 4),
            "doff": _bits(12, 1, 4, 4),
            "res1": _bits(12, 1, 0, 4),
            "flags": _word(13, 1),
            "fin": _bits(13, 1, 0, 1),
            "syn": _bits(13, 1, 1, 1),
            "rst": _bits(13, 1, 2, 1),
            "psh": _bits(13, 1, 3, 1),
            "ack": _bits(13, 1, 4, 1),
            "urg": _bits(13, 1, 5, 1),
            "ece": _bits(13, 1, 6, 1),
            "cwr": _bits(13, 1, 7, 1),
            "window": _word(14, 2),
            "check": _word(16, 2),
            "urg_ptr": _word(18, 2),
        },
    ),
    "frag_hdr": Header(
        8,
        {
            "nexthdr": _word(0, 1),
            "reserved": _word(1, 1),
            "frag_off": _word(2, 2),
            "identification": _word(4, 4),
        },
    ),
    "icmp6hdr": Header(
        8,
        {
            "icmp6_type": _word(0, 1),
            "icmp6_code": _word(1, 1),
            "icmp6_cksum": _word(2, 2),
            "icmp6_unused": _word(4, 4),
            "icmp6_mtu": _word(4, 4),
            "icmp6_pointer": _word(4, 4),
            "icmp6_identifier": _word(4, 2),
            "icmp6_sequence": _word(6, 2),
            "icmp6_maxdelay": _word(4, 2),
            "icmp6_router": _bits(4, 1, 7, 1),
            "icmp6_solicited": _bits(4, 1, 6, 1),
            "icmp6_override": _bits(4, 1, 5, 1),
            "icmp6_hop_limit": _word(4, 1),
            "icmp6_addrconf_managed": _bits(5, 1, 7, 1),
            "icmp6_addrconf_other": _bits(5, 1, 6, 1),
            "icmp6_home_agent": _bits(5, 1, 5, 1),
            "icmp6_router_pref": _bits(5, 1, 3, 2),
            "icmp6_rt_lifetime": _word(6, 2),
        },
    ),
    "rd_msg": Header(40, {"target": _word(8, 16), "dest": _word(24, 16)}),
}
