"""net/ipv4/ipmr.c: socket options (MRT_*) and ioctls of a multicast routing daemon for IPv4.

    MRT_INIT                                this raw socket of IGMP gets messages (ipmr.py)
    MRT_ADD_VIF -> mrt_add_vif              add an interface
    MRT_ADD_MFC                             add a route
    close, MRT_DONE                         remove the daemon's settings
    SIOCGETVIFCNT, SIOCGETSGCNT

Code shared with IPv6 is in stack/inet/mroute_sockopt.py. MRT_OPTIONS at the end are rows of
IPPROTO_IP's options.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core.errors import os_error
from stack.core.netdevice import net_device
from stack.core.sockopt_table import exact_int, opt_bytes
from stack.core.uapi import IP_HLEN
from stack.inet.ipmr_base import (
    MAXVIFS,
    VIFF_REGISTER,
    VIFF_TUNNEL,
    VIFF_USE_IFINDEX,
    mr_table,
    mr_vif_add,
    mr_vif_delete,
)
from stack.inet.mroute_sockopt import (
    int_of,
    mfc_request,
    mroute_admin,
    mroute_family,
    mroute_options,
)
from stack.inet.pimreg import mr_reg_vif
from stack.inet.raw import ra_has, raw_sock
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.fib import ip_dev_find
from stack.ipv4.ipmr import ipmr_ops
from stack.net import Net

VIFCTL = struct.Struct("=HBBI4s4s")
"""struct vifctl: number, flags, threshold, rate limit, local address or index, remote address."""
MFCCTL = struct.Struct("=4s4sH32s2xIIIi")
"""struct mfcctl: sender, group, incoming interface, thresholds, four unused members."""
SG_REQ = struct.Struct("@4s4sQQQ")


def exactly(optval: Any, size: int) -> bytes:
    """A structure of this size. Raises: OSError EINVAL."""
    data = opt_bytes(optval)
    if len(data) != size:
        raise os_error(errno.EINVAL, f"the option takes {size} bytes, not {len(data)}")
    return data


def mrt_init(sk: raw_sock, optval: Any) -> None:
    """MRT_INIT: it adds the socket to the chain, as IP_ROUTER_ALERT does.

    Raises: OSError EINVAL, EADDRINUSE.
    """
    exact_int(optval)
    if ra_has(sk.net.ra_chain, sk):
        raise os_error(errno.EADDRINUSE, "the socket has IP_ROUTER_ALERT")


def mrt_vif(sk: raw_sock, optval: Any) -> tuple[mr_table, tuple[Any, ...]]:
    """The table and struct vifctl. Raises: OSError."""
    mrt = mroute_admin(ipmr_ops, sk)
    vif = VIFCTL.unpack(exactly(optval, VIFCTL.size))
    if vif[0] >= MAXVIFS:
        raise os_error(errno.ENFILE, f"interface {vif[0]}: there are {MAXVIFS}")
    return mrt, vif


def mrt_add_vif(sk: raw_sock, optval: Any) -> None:
    """MRT_ADD_VIF, net/ipv4/ipmr.c vif_add. Raises: OSError EADDRINUSE, EADDRNOTAVAIL, ..."""
    mrt, (vifi, flags, _, _, local, remote) = mrt_vif(sk, optval)
    net: Net = mrt.net
    if mrt.vif_table[vifi].dev is not None:
        raise os_error(errno.EADDRINUSE, f"interface {vifi} is taken")
    if flags == VIFF_TUNNEL:
        raise os_error(errno.EOPNOTSUPP, "no tunnel")
    if flags != VIFF_REGISTER and flags & ~VIFF_USE_IFINDEX:
        raise os_error(errno.EINVAL, f"flags {flags:#x}")
    dev: net_device | None
    if flags == VIFF_REGISTER:
        dev = mr_reg_vif(mrt, IP_HLEN)
        if dev.ip_ptr is not None:
            dev.ip_ptr.cnf.rp_filter = 0
    elif flags:
        dev = net.dev_by_index.get(int.from_bytes(local, "little"))
    else:
        dev = ip_dev_find(net, int_of(local))
    if dev is None or dev.ip_ptr is None:
        raise os_error(errno.EADDRNOTAVAIL, "no interface of this address")
    vif = mr_vif_add(mrt, vifi, dev, flags, sk is mrt.mroute_sk)
    vif.local, vif.remote = int_of(local), int_of(remote)
    if flags == VIFF_REGISTER:
        mrt.mroute_reg_vif_num = vifi


def mrt_del_vif(sk: raw_sock, optval: Any) -> None:
    """MRT_DEL_VIF. Raises: OSError EADDRNOTAVAIL."""
    mrt, vif = mrt_vif(sk, optval)
    mr_vif_delete(mrt, vif[0])


def mrt_mfc(optval: Any) -> mfc_request:
    """struct mfcctl. Raises: OSError EINVAL."""
    origin, group, iif, ttls, *_ = MFCCTL.unpack(exactly(optval, MFCCTL.size))
    return mfc_request(int_of(origin), int_of(group), iif, ttls)


ipmr_family = mroute_family(
    ops=ipmr_ops,
    prefix="MRT",
    vif="VIF",
    init=mrt_init,
    add_vif=mrt_add_vif,
    del_vif=mrt_del_vif,
    mfc=mrt_mfc,
    is_multicast=ipv4_is_multicast,
    sg_req=SG_REQ,
    addr=slice(None),
)
MRT_OPTIONS = mroute_options(ipmr_family)
