"""IPv6 addresses: text, types, scopes, multicast (include/net/ipv6.h, net/ipv6/addrconf_core.c).

In the stack, an address is a host-order 128-bit int. This file converts it to and from text.
"""

from __future__ import annotations

import ipaddress

from fastpath.errors import ArgumentError
from stack.core.rows import narrow, wide

IN6ADDR_ANY = 0
IN6ADDR_LOOPBACK = 1
IN6ADDR_LINKLOCAL_ALLNODES = 0xFF02 << 112 | 1
IN6ADDR_LINKLOCAL_ALLROUTERS = 0xFF02 << 112 | 2
IN6ADDR_INTERFACELOCAL_ALLNODES = 0xFF01 << 112 | 1
IN6ADDR_INTERFACELOCAL_ALLROUTERS = 0xFF01 << 112 | 2
IN6ADDR_SITELOCAL_ALLROUTERS = 0xFF05 << 112 | 2
IN6ADDR_V4MAPPED = 0xFFFF << 32

ALL_ONES = (1 << 128) - 1
MASKS6 = tuple(ALL_ONES << (128 - n) & ALL_ONES for n in range(129))
"""Netmask of each prefix length."""

# include/net/ipv6.h: the result of ipv6_addr_type
IPV6_ADDR_ANY = 0x0000
IPV6_ADDR_UNICAST = 0x0001
IPV6_ADDR_MULTICAST = 0x0002
IPV6_ADDR_LOOPBACK = 0x0010
IPV6_ADDR_LINKLOCAL = 0x0020
IPV6_ADDR_SITELOCAL = 0x0040
IPV6_ADDR_COMPATv4 = 0x0080
IPV6_ADDR_SCOPE_MASK = 0x00F0
IPV6_ADDR_MAPPED = 0x1000

# values of the scope field of a multicast address (RFC 4291 2.7)
IPV6_ADDR_SCOPE_NODELOCAL = 0x01
IPV6_ADDR_SCOPE_LINKLOCAL = 0x02
IPV6_ADDR_SCOPE_SITELOCAL = 0x05
IPV6_ADDR_SCOPE_GLOBAL = 0x0E

_SCOPE_TYPE = {
    IPV6_ADDR_SCOPE_NODELOCAL: IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_SCOPE_LINKLOCAL: IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_SCOPE_SITELOCAL: IPV6_ADDR_SITELOCAL,
}

_FE80 = 0xFE80 >> 6  # the first 10 bits
_FEC0 = 0xFEC0 >> 6


# --- text ----------------------------------------------------------------------------------


def parse_addr6(text: str) -> wide:
    """Parse an address such as "2001:db8::1".

    Raises: ArgumentError (a ValueError) with the text and the remedy; a scope ("%eth0") is not
    part of an address.
    """
    try:
        addr = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise ArgumentError(f"IPv6 address {text!r}: {error}; write 2001:db8::1") from None
    if addr.scope_id is not None:
        raise ArgumentError(f"IPv6 address {text!r}: an interface (%{addr.scope_id}) does not fit")
    return int(addr)


def format_addr6(addr: wide) -> str:
    """The text form of RFC 5952; a v4-mapped address with its dotted quad (5)."""
    if addr >> 32 == 0xFFFF:
        return f"::ffff:{ipaddress.IPv4Address(addr & 0xFFFFFFFF)}"
    return ipaddress.IPv6Address(addr).compressed


def parse_prefix6(text: str) -> tuple[int, int]:
    """(network, prefix length) of "2001:db8::/32", "default" or one address.

    Raises: ArgumentError, also for bits behind the prefix.
    """
    if text in ("default", "::/0"):
        return 0, 0
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError as error:
        raise ArgumentError(f"prefix {text!r}: {error}; write 2001:db8::/32") from None
    return int(network.network_address), network.prefixlen


def parse_ifaddr6(text: str) -> tuple[int, int]:
    """(address, prefix length) of "2001:db8::1/64". Raises: ArgumentError."""
    if "/" not in text:
        raise ArgumentError(f"address {text!r} has no prefix length; write for instance {text}/64")
    try:
        iface = ipaddress.IPv6Interface(text)
    except ValueError as error:
        example = "2001:db8::1/64"
        raise ArgumentError(f"address {text!r}: {error}; write for instance {example}") from None
    return int(iface.ip), iface.network.prefixlen


# --- types and scopes ----------------------------------------------------------------------


def ipv6_addr_type(addr: wide) -> int:
    """net/ipv6/addrconf_core.c __ipv6_addr_type: IPV6_ADDR_* bits (scope in the mask's place)."""
    top3 = addr >> 125
    if top3 and top3 != 7:  # 001 ... 110: global unicast
        return IPV6_ADDR_UNICAST
    if addr >> 120 == 0xFF:
        return IPV6_ADDR_MULTICAST | _SCOPE_TYPE.get(narrow(addr >> 112 & 15), 0)
    if addr >> 118 == _FE80:
        return IPV6_ADDR_LINKLOCAL | IPV6_ADDR_UNICAST
    if addr >> 118 == _FEC0:
        return IPV6_ADDR_SITELOCAL | IPV6_ADDR_UNICAST
    if top3:
        return IPV6_ADDR_UNICAST  # unique local (RFC 4193) and unassigned
    if not addr >> 64:
        if not addr:
            return IPV6_ADDR_ANY
        if addr == 1:
            return IPV6_ADDR_LOOPBACK | IPV6_ADDR_UNICAST
        if addr >> 32 == 0xFFFF:
            return IPV6_ADDR_MAPPED
        if not addr >> 32:
            return IPV6_ADDR_COMPATv4 | IPV6_ADDR_UNICAST
    return IPV6_ADDR_UNICAST


def ipv6_addr_scope(addr: wide) -> int:
    """include/net/ipv6.h ipv6_addr_src_scope: an IPV6_ADDR_SCOPE_* value, also for unicast."""
    if addr >> 120 == 0xFF:
        return narrow(addr >> 112 & 15)
    kind = ipv6_addr_type(addr)
    if kind & (IPV6_ADDR_LINKLOCAL | IPV6_ADDR_LOOPBACK):
        return IPV6_ADDR_SCOPE_LINKLOCAL
    if kind & IPV6_ADDR_SITELOCAL:
        return IPV6_ADDR_SCOPE_SITELOCAL
    return IPV6_ADDR_SCOPE_GLOBAL


def ipv6_addr_is_multicast(addr: wide) -> bool:
    """include/net/ipv6.h"""
    return addr >> 120 == 0xFF


def ipv6_addr_mc_scope(addr: wide) -> int:
    """include/net/ipv6.h IPV6_ADDR_MC_SCOPE: the scope field of a multicast address."""
    return narrow(addr >> 112 & 15)


def ipv6_addr_is_linklocal(addr: wide) -> bool:
    """fe80::/10"""
    return addr >> 118 == _FE80


def ipv6_addr_loopback(addr: wide) -> bool:
    """include/net/ipv6.h"""
    return addr == 1


def ipv6_addr_v4mapped(addr: wide) -> bool:
    """include/net/ipv6.h: ::ffff:0:0/96"""
    return addr >> 32 == 0xFFFF


def ipv6_addr_set_v4mapped(addr: wide) -> wide:
    """include/net/ipv6.h: the v4-mapped address of a 32-bit one."""
    return IN6ADDR_V4MAPPED | addr


def rt6_need_strict(addr: wide) -> bool:
    """include/net/ip6_route.h: whether an address is unique only together with its interface."""
    return addr >> 118 == _FE80 or addr >> 120 == 0xFF or addr == 1


def ipv6_addr_diff(a: wide, b: wide) -> int:
    """include/net/ipv6.h: the number of equal leading bits, 128 for the same address."""
    return 128 - (a ^ b).bit_length()


def ipv6_prefix_equal(a: wide, b: wide, plen: int) -> bool:
    """include/net/ipv6.h"""
    return not (a ^ b) & MASKS6[plen]


# --- derived addresses ---------------------------------------------------------------------


def addrconf_addr_solict_mult(addr: wide) -> wide:
    """include/net/addrconf.h: the solicited-node group of an address (RFC 4291 2.7.1)."""
    return 0xFF02 << 112 | 0x01FF << 24 | addr & 0xFFFFFF


def ipv6_addr_is_solict_mult(addr: wide) -> bool:
    """include/net/addrconf.h"""
    return addr >> 24 == (0xFF02 << 112 | 0x01FF << 24) >> 24


def ipv6_eth_mc_map(addr: wide) -> bytes:
    """include/net/if_inet6.h: the Ethernet address of a group (RFC 2464 7)."""
    return b"\x33\x33" + (addr & 0xFFFFFFFF).to_bytes(4, "big")


def addrconf_ifid_eui48(mac: bytes) -> wide:
    """include/net/addrconf.h: the modified EUI-64 interface identifier of a MAC address."""
    return int.from_bytes(bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:6], "big")


def in6_bytes(addr: wide) -> bytes:
    """The 16 bytes of the wire."""
    return addr.to_bytes(16, "big")
