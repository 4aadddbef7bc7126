"""Interface identifiers: from the MAC address, stable and opaque (RFC 7217), random (RFC 8981).

net/ipv6/addrconf.c. An identifier is the low 64 bits of an address; those of RFC 5453 are reserved.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import TYPE_CHECKING

from stack.core.netdevice import ETH_ALEN, IFF_IPVLAN_SLAVE, net_device
from stack.core.rows import wide
from stack.ipv6.addr import addrconf_ifid_eui48, in6_bytes, parse_addr6

if TYPE_CHECKING:
    from stack.ipv6.if_inet6 import inet6_dev

IN6_ADDR_GEN_MODE_EUI64 = 0
IN6_ADDR_GEN_MODE_NONE = 1
IN6_ADDR_GEN_MODE_STABLE_PRIVACY = 2
IN6_ADDR_GEN_MODE_RANDOM = 3

IID_MASK = (1 << 64) - 1


def ipv6_reserved_interfaceid(iid: wide) -> bool:
    """net/ipv6/addrconf.c: RFC 5453: subnet-router anycast, IANA's Ethernet block, anycast."""
    return not iid or iid >> 25 == 0x02005EFFFE000000 >> 25 or iid >> 7 == 0xFDFFFFFFFFFFFF80 >> 7


def ipv6_generate_eui64(dev: net_device) -> wide | None:
    """net/ipv6/addrconf.c: the modified EUI-64 identifier of the device's MAC address.

    Slaves of ipvlan have one MAC address, so each has its number in the middle (`dev->dev_id`).
    """
    if dev.addr_len != ETH_ALEN:
        return None
    if dev.priv_flags & IFF_IPVLAN_SLAVE:
        number: int = dev.priv.dev_id
        return int.from_bytes(
            dev.dev_addr[:3] + number.to_bytes(2, "big") + dev.dev_addr[3:], "big"
        )
    return addrconf_ifid_eui48(dev.dev_addr)


def ipv6_gen_rnd_iid(random: Random) -> wide:
    """net/ipv6/addrconf.c: a random identifier, neither reserved nor that of ISATAP."""
    while True:
        iid = random.getrandbits(64)
        if not ipv6_reserved_interfaceid(iid) and iid >> 32 & ~0x02000000 != 0x00005EFE:
            return iid


def stable_iid(secret: bytes, prefix: wide, hwaddr: bytes, dad_count: int) -> wide:
    """RFC 7217 5: F(prefix, interface, DAD counter, secret); the same for the same arguments."""
    h = hashlib.blake2b(digest_size=8, key=secret)
    h.update(in6_bytes(prefix)[:8] + bytes((len(hwaddr),)) + hwaddr + bytes((dad_count & 255,)))
    return int.from_bytes(h.digest(), "big")


def stable_secret(idev: inet6_dev) -> bytes:
    """The interface's secret: its sysctl, else that of `default`; b"" when there is none."""
    for conf in (idev.cnf, idev.net.ipv6.devconf_dflt):
        if conf.stable_secret:
            return in6_bytes(parse_addr6(conf.stable_secret))
    return idev.nd.stable_secret


def is_addr_mode_generate_stable(idev: inet6_dev) -> bool:
    """net/ipv6/addrconf.c: addr_gen_mode 2 and 3."""
    modes = (IN6_ADDR_GEN_MODE_STABLE_PRIVACY, IN6_ADDR_GEN_MODE_RANDOM)
    return idev.cnf.addr_gen_mode in modes


def ipv6_generate_stable_address(idev: inet6_dev, prefix: wide, dad_count: int) -> wide | None:
    """net/ipv6/addrconf.c: make a stable address in the /64 `prefix` (RFC 7217 5).

    None without a secret, or after idgen_retries. In addr_gen_mode 3 a secret that is not set is
    drawn at random once.
    """
    secret = stable_secret(idev)
    if not secret:
        if idev.cnf.addr_gen_mode != IN6_ADDR_GEN_MODE_RANDOM:
            return None
        secret = idev.nd.stable_secret = idev.net.random.randbytes(16)
    retries = idev.net.ipv6.sysctl.idgen_retries
    prefix &= ~IID_MASK
    while dad_count <= retries:
        iid = stable_iid(secret, prefix, idev.dev.perm_addr or idev.dev.dev_addr, dad_count)
        if not ipv6_reserved_interfaceid(iid):
            return prefix | iid
        dad_count += 1
    return None
