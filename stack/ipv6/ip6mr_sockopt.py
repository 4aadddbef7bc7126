"""net/ipv6/ip6mr.c: socket options (MRT6_*) and ioctls of a multicast routing daemon for IPv6.

They are used on a raw socket of ICMPv6. Shared code is in stack/inet/mroute_sockopt.py, IPv4's in
stack/ipv4/ipmr_sockopt.py. Structures may be longer here, and routes have no thresholds.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core.errors import os_error
from stack.core.sockopt_table import opt_int, opt_struct
from stack.core.uapi import IPV6_HLEN
from stack.inet.ipmr_base import MAXVIFS, mr_vif_add, mr_vif_delete
from stack.inet.mroute_sockopt import (
    int_of,
    mfc_request,
    mroute_admin,
    mroute_family,
    mroute_options,
)
from stack.inet.pimreg import mr_reg_vif
from stack.inet.raw import raw_sock
from stack.ipv6.addr import ipv6_addr_is_multicast
from stack.ipv6.ip6mr import ip6mr_ops

MIF6CTL = struct.Struct("=HBBH2xI")
"""struct mif6ctl: number, flags, threshold, index, rate limit."""
MIFF_REGISTER = 1
MIFI = struct.Struct("=H")
MF6CCTL = struct.Struct("=28s28sH2x32s")
"""struct mf6cctl: sender and group (sockaddr_in6), incoming interface, a bit for each other."""
SG_REQ6 = struct.Struct("@28s28sQQQ")
SIN6_ADDR = slice(8, 24)
"""Offset of the address in struct sockaddr_in6."""


def mrt6_init(sk: raw_sock, optval: Any) -> None:
    """MRT6_INIT: accepts any int. Raises: OSError EINVAL."""
    opt_int(optval)


def mif6_add(sk: raw_sock, optval: Any) -> None:
    """MRT6_ADD_MIF. Raises: OSError EINVAL, ENFILE, EADDRINUSE, EADDRNOTAVAIL."""
    mrt = mroute_admin(ip6mr_ops, sk)
    mifi, flags, _, index, _ = MIF6CTL.unpack_from(opt_struct(optval, MIF6CTL.size))
    if mifi >= MAXVIFS:
        raise os_error(errno.ENFILE, f"interface {mifi}: there are {MAXVIFS}")
    if mrt.vif_table[mifi].dev is not None:
        raise os_error(errno.EADDRINUSE, f"interface {mifi} is taken")
    if flags not in (0, MIFF_REGISTER):
        raise os_error(errno.EINVAL, f"flags {flags:#x}")
    dev = mr_reg_vif(mrt, IPV6_HLEN) if flags else mrt.net.dev_by_index.get(index)
    if dev is None:
        raise os_error(errno.EADDRNOTAVAIL, f"no interface {index}")
    mr_vif_add(mrt, mifi, dev, flags, sk is mrt.mroute_sk)
    if flags:
        mrt.mroute_reg_vif_num = mifi


def mif6_delete(sk: raw_sock, optval: Any) -> None:
    """MRT6_DEL_MIF. Raises: OSError EINVAL, EADDRNOTAVAIL."""
    mrt = mroute_admin(ip6mr_ops, sk)
    mr_vif_delete(mrt, MIFI.unpack_from(opt_struct(optval, MIFI.size))[0])


def mrt6_mfc(optval: Any) -> mfc_request:
    """struct mf6cctl. Raises: OSError EINVAL."""
    data = opt_struct(optval, MF6CCTL.size)
    origin, group, parent, ifset = MF6CCTL.unpack_from(data)
    wanted = int.from_bytes(ifset, "little")
    ttls = bytes(wanted >> at & 1 for at in range(MAXVIFS))
    return mfc_request(int_of(origin[SIN6_ADDR]), int_of(group[SIN6_ADDR]), parent, ttls)


ip6mr_family = mroute_family(
    ops=ip6mr_ops,
    prefix="MRT6",
    vif="MIF",
    init=mrt6_init,
    add_vif=mif6_add,
    del_vif=mif6_delete,
    mfc=mrt6_mfc,
    is_multicast=ipv6_addr_is_multicast,
    sg_req=SG_REQ6,
    addr=SIN6_ADDR,
)
MRT6_OPTIONS = mroute_options(ip6mr_family)
