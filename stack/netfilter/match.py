"""The conditions of a rule, with the keywords of nft and iptables.

    iif, oif        name of the incoming, outgoing interface
    saddr, daddr    "10.0.0.7", "10.0.0.0/24" or "10.0.0.5-10.0.0.9"
    proto           "tcp", "udp", "icmp", "icmpv6" or a number
    sport, dport    443, "443", "8000-8010" or (8000, 8010)
    state           "new", "established", "related", "invalid", "untracked", or several of these
    mark            5, "0x5": skb.mark
    ip              "ip" or "ip6": the family, if no address implies it

A value that begins with "!" matches all others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from fastpath.base.skbuff import pskb_may_pull, sk_buff
from fastpath.net.hdr import iphdr_at, ipv6hdr_at, udphdr_at
from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6, nf_hook_state
from stack.core.rows import row, state, wide
from stack.core.uapi import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack_tuple import nf_ct_l4_offset

__all__ = ["nft_match", "nft_match_packet", "parse_match"]

CT_INVALID, CT_ESTABLISHED, CT_RELATED, CT_NEW, CT_UNTRACKED = 1, 2, 4, 8, 64
STATES = {
    "invalid": CT_INVALID,
    "established": CT_ESTABLISHED,
    "related": CT_RELATED,
    "new": CT_NEW,
    "untracked": CT_UNTRACKED,
}
STATE_OF_INFO = {
    nf_conntrack.IP_CT_ESTABLISHED: CT_ESTABLISHED,
    nf_conntrack.IP_CT_ESTABLISHED_REPLY: CT_ESTABLISHED,
    nf_conntrack.IP_CT_RELATED: CT_RELATED,
    nf_conntrack.IP_CT_RELATED_REPLY: CT_RELATED,
    nf_conntrack.IP_CT_NEW: CT_NEW,
}
PROTOS = {
    "icmp": IPPROTO_ICMP,
    "tcp": IPPROTO_TCP,
    "udp": IPPROTO_UDP,
    "icmpv6": IPPROTO_ICMPV6,
    "ipv6-icmp": IPPROTO_ICMPV6,
}
FAMILIES = {"ip": NFPROTO_IPV4, "ip6": NFPROTO_IPV6, 4: NFPROTO_IPV4, 6: NFPROTO_IPV6}
WORDS = ("iif", "oif", "saddr", "daddr", "proto", "sport", "dport", "state", "mark", "ip")


@state
class nft_match:
    """The parsed keywords; an omitted keyword matches everything."""

    pf: int = row(0)
    iif: str = row("")
    iif_not: bool = row(False)
    oif: str = row("")
    oif_not: bool = row(False)
    saddr: bool = row(False)
    saddr_not: bool = row(False)
    saddr_min: wide = row(0)
    saddr_max: wide = row(0)
    daddr: bool = row(False)
    daddr_not: bool = row(False)
    daddr_min: wide = row(0)
    daddr_max: wide = row(0)
    proto: int = row(-1)
    proto_not: bool = row(False)
    sport: bool = row(False)
    sport_not: bool = row(False)
    sport_min: int = row(0)
    sport_max: int = row(0)
    dport: bool = row(False)
    dport_not: bool = row(False)
    dport_min: int = row(0)
    dport_max: int = row(0)
    states: int = row(0)
    mark: int = row(-1)
    mark_not: bool = row(False)


def rule_text(words: dict[str, Any], kind: str) -> str:
    """A rule as text: its keywords, then what it does."""
    said = (f"{word} {value}" for word, value in words.items() if value is not None)
    return " ".join((*said, kind))


def _negated(value: Any) -> tuple[Any, bool]:
    """The value without its "!", and whether there was one."""
    if isinstance(value, str) and value.startswith("!"):
        return value[1:].strip(), True
    return value, False


def parse_addrs(text: str) -> tuple[int, int, int]:
    """(family, first, last) of "10.0.0.0/24", "10.0.0.5-10.0.0.9" or one address.

    Raises:
        ValueError: it is none of these.
    """
    first, dash, last = str(text).partition("-")
    if dash:
        low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
        if low.version != high.version or int(high) < int(low):
            raise ValueError(f"{text!r} is no range of addresses")
        return FAMILIES[low.version], int(low), int(high)
    net = ipaddress.ip_network(first.strip(), strict=False)
    start = int(net.network_address)
    return FAMILIES[net.version], start, start + net.num_addresses - 1


def parse_ports(value: Any) -> tuple[int, int]:
    """(first, last) of 443, "443", "8000-8010" or (8000, 8010).

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str):
        first, dash, last = value.partition("-")
        low, high = int(first), int(last if dash else first)
    elif isinstance(value, int):
        low = high = value
    else:
        low, high = value
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"{value!r}: ports are 0 to 65535, the smaller one first")
    return low, high


def parse_proto(value: Any) -> int:
    """The number of "tcp", "17", 17 ... Raises: ValueError."""
    if isinstance(value, str) and value in PROTOS:
        return PROTOS[value]
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"proto {value!r}: a number, or one of {', '.join(PROTOS)}") from None
    if not 0 <= number <= 255:
        raise ValueError(f"proto {number}: they are 0 to 255")
    return number


def parse_states(value: str | Iterable[str]) -> int:
    """The bits of "established,related" or ("established", "related"). Raises: ValueError."""
    words = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    bits = 0
    for word in words:
        if word not in STATES:
            raise ValueError(f"state {word!r}: they are {', '.join(STATES)}")
        bits |= STATES[word]
    return bits


def parse_mark(value: Any) -> int:
    """The number of 5, "5" or "0x5". Raises: ValueError."""
    mark = int(value, 0) if isinstance(value, str) else int(value)
    if not 0 <= mark <= 0xFFFFFFFF:
        raise ValueError(f"mark {mark}: it has 32 bits")
    return mark


def parse_match(words: dict[str, Any], pf: int = 0) -> nft_match:
    """The match of a rule's keywords (see above); None omits a keyword. `pf`: the family, if the
    caller knows it.

    Raises:
        ValueError: unknown keyword, invalid value, addresses of both families in one rule, ports
            without "tcp" or "udp".
    """
    m = nft_match()
    m.pf = pf
    for word, given in words.items():
        if word not in WORDS:
            raise ValueError(f"{word!r}: a rule asks for {', '.join(WORDS)}")
        if given is None:
            continue
        value, negated = _negated(given)
        if word == "ip":
            if negated or value not in FAMILIES:
                raise ValueError(f"ip {given!r}: it is 'ip' or 'ip6'")
            _family(m, FAMILIES[value])
        elif word in ("iif", "oif"):
            setattr(m, word, str(value))
            setattr(m, f"{word}_not", negated)
        elif word in ("saddr", "daddr"):
            pf, low, high = parse_addrs(value)
            _family(m, pf)
            _range(m, word, low, high, negated)
        elif word in ("sport", "dport"):
            _range(m, word, *parse_ports(value), negated)
        elif word == "proto":
            m.proto, m.proto_not = parse_proto(value), negated
        elif word == "state":
            m.states = parse_states(value)
            if negated:
                m.states = ~m.states & sum(STATES.values())
        else:
            m.mark, m.mark_not = parse_mark(value), negated
    if (m.sport or m.dport) and (m.proto_not or m.proto not in (IPPROTO_TCP, IPPROTO_UDP)):
        raise ValueError("ports need proto 'tcp' or 'udp'")
    return m


def _family(m: nft_match, pf: int) -> None:
    if m.pf not in (0, pf):
        raise ValueError("one rule is about IPv4 or about IPv6")
    m.pf = pf


def _range(m: nft_match, word: str, low: wide, high: wide, negated: bool) -> None:
    setattr(m, word, True)
    setattr(m, f"{word}_not", negated)
    setattr(m, f"{word}_min", low)
    setattr(m, f"{word}_max", high)


def nft_match_packet(m: nft_match, skb: sk_buff, hook: nf_hook_state) -> bool:
    """Whether the packet meets all conditions of the rule. data at the network header."""
    pf = hook.pf
    if m.pf and m.pf != pf:
        return False
    if m.iif and (hook.indev is not None and hook.indev.name == m.iif) == m.iif_not:
        return False
    if m.oif and (hook.outdev is not None and hook.outdev.name == m.oif) == m.oif_not:
        return False
    if m.mark >= 0 and (skb.mark == m.mark) == m.mark_not:
        return False
    if m.states and not m.states & ct_state_of(skb):
        return False
    if m.saddr or m.daddr:
        saddr: wide = 0
        daddr: wide = 0
        if pf == NFPROTO_IPV4:
            iph = iphdr_at(skb, 0)
            saddr, daddr = iph.saddr, iph.daddr
        else:
            ip6h = ipv6hdr_at(skb, 0)
            saddr, daddr = ip6h.saddr, ip6h.daddr
        if m.saddr and (m.saddr_min <= saddr <= m.saddr_max) == m.saddr_not:
            return False
        if m.daddr and (m.daddr_min <= daddr <= m.daddr_max) == m.daddr_not:
            return False
    if m.proto < 0:
        return True
    off, proto = nf_ct_l4_offset(skb, 0, pf)
    if (proto == m.proto and off >= 0) == m.proto_not:
        return False
    if not m.sport and not m.dport:
        return True
    if skb.len < off + 8 or not pskb_may_pull(skb, off + 8):
        return False
    ports = udphdr_at(skb, off)
    if m.sport and (m.sport_min <= ports.source <= m.sport_max) == m.sport_not:
        return False
    return not m.dport or (m.dport_min <= ports.dest <= m.dport_max) != m.dport_not


def ct_state_of(skb: sk_buff) -> int:
    """CT_*: the packet's state in its connection (nft_ct NFT_CT_STATE)."""
    if skb.nfct is None:
        return CT_UNTRACKED if skb.nfctinfo == nf_conntrack.IP_CT_UNTRACKED else CT_INVALID
    return STATE_OF_INFO.get(skb.nfctinfo, CT_INVALID)
