"""net/ipv4/ipmr.c: what a daemon of IPv4 multicast routing asks for: MRT_* and ioctls.

    MRT_INIT -> mrt_init                    this raw socket of IGMP hears of packets (ipmr.py)
    MRT_ADD_VIF -> mrt_add_vif              an interface takes part
    MRT_ADD_MFC -> mrt_add_mfc              a route
    close, MRT_DONE -> mrtsock_destruct     what the daemon set goes
    SIOCGETVIFCNT, SIOCGETSGCNT -> ipmr_ioctl

MRT_OPTIONS at the end are rows of IPPROTO_IP's options.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from stack.core import uapi
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.errors import os_error
from stack.core.memory import copy_from_user, copy_to_user
from stack.core.netdevice import NETDEV_UNREGISTER, net_device
from stack.core.sock import ns_capable
from stack.core.sockopt_table import RAW, SockOpt, exact_int, opt_bytes, opt_raw
from stack.inet.ipmr_base import (
    IGMPMSG_WRVIFWHOLE,
    MAXVIFS,
    MRT_FLUSH_MFC,
    MRT_FLUSH_VIFS,
    VIFF_REGISTER,
    VIFF_TUNNEL,
    VIFF_USE_IFINDEX,
    mr_device_gone,
    mr_mfc_add,
    mr_mfc_delete,
    mr_mfc_find_parent,
    mr_table,
    mr_table_alloc,
    mr_vif_add,
    mr_vif_delete,
    mroute_clean_tables,
)
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.fib import ip_dev_find
from stack.ipv4.ipmr import ipmr_ops
from stack.ipv4.rt_cache import rt_cache_flush

if TYPE_CHECKING:
    from stack.inet.inet_sock import inet_sock
    from stack.inet.raw import raw_sock
    from stack.net import Net

RT_TABLE_DEFAULT = 253
MRT_VERSION_NUMBER = 0x0305
VIFCTL = struct.Struct("=HBBI4s4s")
"""struct vifctl: number, flags, threshold, rate limit, local address or index, remote address."""
MFCCTL = struct.Struct("=4s4sH32s2xIIIi")
"""struct mfcctl: sender, group, incoming interface, thresholds, four that nobody reads."""
SIOCGETVIFCNT, SIOCGETSGCNT = 0x89E0, 0x89E1
VIF_REQ = struct.Struct("@HQQQQ")
SG_REQ = struct.Struct("@4s4sQQQ")


def int_of(addr: bytes) -> int:
    """An address as an int."""
    return int.from_bytes(addr, "big")


def ipmr_get_table(net: Net) -> mr_table:
    """net/ipv4/ipmr.c ipmr_get_table: the table, made when first asked for."""
    mrt: mr_table | None = net.ipv4.mrt
    if mrt is None:
        made = mr_table_alloc(net, RT_TABLE_DEFAULT, ipmr_ops)

        def event(what: int, dev: net_device) -> None:
            if what == NETDEV_UNREGISTER:
                mr_device_gone(made, dev)

        register_netdevice_notifier(net, event)
        net.ipv4.mrt = mrt = made
    return mrt


def mrtsock_destruct(sk: raw_sock) -> None:
    """net/ipv4/ipmr.c: the daemon is gone, and what it set with it."""
    net: Net = sk.net
    mrt: mr_table | None = net.ipv4.mrt
    if mrt is None or mrt.mroute_sk is not sk:
        return
    if sk in net.ra_chain:
        net.ra_chain.remove(sk)
    net.sysctl.publish("mc_forwarding", net.sysctl.mc_forwarding - 1)
    mrt.mroute_sk = None
    mroute_clean_tables(mrt, MRT_FLUSH_VIFS | MRT_FLUSH_MFC)
    rt_cache_flush(net)


def ipmr_socket(sk: inet_sock) -> mr_table:
    """The table for an option of a raw socket of IGMP. Raises: OSError EOPNOTSUPP."""
    if sk.sk_type != uapi.SOCK_RAW or sk.inet_num != uapi.IPPROTO_IGMP:
        raise os_error(errno.EOPNOTSUPP, "multicast routing needs a raw socket of IGMP")
    return ipmr_get_table(sk.net)


def ipmr_admin(sk: raw_sock) -> mr_table:
    """The table, for who may change it. Raises: OSError EOPNOTSUPP, EACCES."""
    mrt = ipmr_socket(sk)
    if mrt.mroute_sk is not sk and not ns_capable(sk.net, uapi.CAP_NET_ADMIN):
        raise os_error(errno.EACCES, "only the daemon's socket and root may do so")
    return mrt


def exactly(optval: Any, size: int) -> bytes:
    """A structure of this size. Raises: OSError EINVAL."""
    data = opt_bytes(optval)
    if len(data) != size:
        raise os_error(errno.EINVAL, f"the option takes {size} bytes, not {len(data)}")
    return data


def mrt_init(sk: raw_sock, optval: Any) -> None:
    """MRT_INIT: this socket is the daemon's. Raises: OSError EADDRINUSE."""
    mrt, net = ipmr_socket(sk), sk.net
    exact_int(optval)
    if mrt.mroute_sk is not None or sk in net.ra_chain:
        raise os_error(errno.EADDRINUSE, "there is a multicast routing daemon")
    for dev in net.dev_base_head:
        if dev.ip_ptr is not None:
            dev.ip_ptr.cnf.count_up("mc_forwarding", 0)
    net.ra_chain.append(sk)
    mrt.mroute_sk = sk
    net.sysctl.publish("mc_forwarding", net.sysctl.mc_forwarding + 1)
    rt_cache_flush(net)


def mrt_done(sk: raw_sock, optval: Any) -> None:
    """MRT_DONE. Raises: OSError EACCES."""
    if ipmr_admin(sk).mroute_sk is not sk:
        raise os_error(errno.EACCES, "the socket is not the daemon's")
    mrtsock_destruct(sk)


def mrt_vif(sk: raw_sock, optval: Any) -> tuple[mr_table, tuple[Any, ...]]:
    """The table and struct vifctl. Raises: OSError."""
    mrt = ipmr_admin(sk)
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
    if flags in (VIFF_REGISTER, VIFF_TUNNEL):
        raise os_error(errno.EOPNOTSUPP, "no register interface, no tunnel")
    if flags & ~VIFF_USE_IFINDEX:
        raise os_error(errno.EINVAL, f"flags {flags:#x}")
    if flags:
        dev = net.dev_by_index.get(int.from_bytes(local, "little"))
    else:
        dev = ip_dev_find(net, int_of(local))
    if dev is None or dev.ip_ptr is None:
        raise os_error(errno.EADDRNOTAVAIL, "no interface of this address")
    vif = mr_vif_add(mrt, vifi, dev, flags, sk is mrt.mroute_sk)
    vif.local, vif.remote = int_of(local), int_of(remote)


def mrt_del_vif(sk: raw_sock, optval: Any) -> None:
    """MRT_DEL_VIF. Raises: OSError EADDRNOTAVAIL."""
    mrt, vif = mrt_vif(sk, optval)
    mr_vif_delete(mrt, vif[0])


def mrt_mfc(sk: raw_sock, optval: Any, proxy: bool, add: bool) -> None:
    """MRT_ADD_MFC and its like. Raises: OSError EINVAL, ENFILE, ENOENT."""
    mrt = ipmr_admin(sk)
    data = MFCCTL.unpack(exactly(optval, MFCCTL.size))
    origin, group, iif, ttls = int_of(data[0]), int_of(data[1]), data[2], data[3]
    parent = iif if proxy else -1
    if not add:
        mr_mfc_delete(mrt, origin, group, parent)
        return
    there = mr_mfc_find_parent(mrt, origin, group, parent) is not None
    if iif < MAXVIFS and group and not ipv4_is_multicast(group) and not there:
        raise os_error(errno.EINVAL, "not a group")
    mr_mfc_add(mrt, origin, group, iif, ttls, sk is mrt.mroute_sk, parent)


def mrt_add_mfc(sk: raw_sock, optval: Any) -> None:
    """MRT_ADD_MFC"""
    mrt_mfc(sk, optval, False, True)


def mrt_del_mfc(sk: raw_sock, optval: Any) -> None:
    """MRT_DEL_MFC"""
    mrt_mfc(sk, optval, False, False)


def mrt_add_mfc_proxy(sk: raw_sock, optval: Any) -> None:
    """MRT_ADD_MFC_PROXY"""
    mrt_mfc(sk, optval, True, True)


def mrt_del_mfc_proxy(sk: raw_sock, optval: Any) -> None:
    """MRT_DEL_MFC_PROXY"""
    mrt_mfc(sk, optval, True, False)


def mrt_flush(sk: raw_sock, optval: Any) -> None:
    """MRT_FLUSH: MRT_FLUSH_*"""
    mrt = ipmr_admin(sk)
    mroute_clean_tables(mrt, exact_int(optval))


def mrt_assert(sk: raw_sock, optval: Any) -> None:
    """MRT_ASSERT"""
    mrt = ipmr_admin(sk)
    mrt.mroute_do_assert = exact_int(optval)


def mrt_pim(sk: raw_sock, optval: Any) -> None:
    """MRT_PIM: asserts too."""
    mrt = ipmr_admin(sk)
    val = exact_int(optval)
    if bool(val) != mrt.mroute_do_pim:
        mrt.mroute_do_pim = bool(val)
        mrt.mroute_do_assert = int(bool(val))
        mrt.mroute_do_wrvifwhole = val == IGMPMSG_WRVIFWHOLE


def mrt_table(sk: raw_sock, optval: Any) -> None:
    """MRT_TABLE: there is one. Raises: OSError EBUSY, EINVAL."""
    mrt = ipmr_admin(sk)
    val = exact_int(optval)
    if mrt.mroute_sk is sk:
        raise os_error(errno.EBUSY, "the socket is the daemon's already")
    if val != RT_TABLE_DEFAULT:
        raise os_error(errno.EINVAL, f"the only table is {RT_TABLE_DEFAULT}")


def _mrt(name: str, what: str, setter: Any, get: Any = None) -> SockOpt:
    return SockOpt(name, what, sockets=RAW, takes=opt_raw, set=setter, get=get)


# fmt: off
MRT_OPTIONS = (
    _mrt("MRT_ADD_MFC", "a multicast route", mrt_add_mfc),
    _mrt("MRT_ADD_MFC_PROXY", "one of several (*,*) routes", mrt_add_mfc_proxy),
    _mrt("MRT_ADD_VIF", "an interface that routes multicast", mrt_add_vif),
    _mrt("MRT_ASSERT", "tell of packets that came in by the wrong interface", mrt_assert,
        lambda sk: ipmr_socket(sk).mroute_do_assert),
    _mrt("MRT_DEL_MFC", "no multicast route", mrt_del_mfc),
    _mrt("MRT_DEL_MFC_PROXY", "none of this interface", mrt_del_mfc_proxy),
    _mrt("MRT_DEL_VIF", "an interface no longer", mrt_del_vif),
    _mrt("MRT_DONE", "route multicast no longer", mrt_done),
    _mrt("MRT_FLUSH", "forget interfaces and routes", mrt_flush),
    _mrt("MRT_INIT", "route multicast: this socket is the daemon's", mrt_init),
    _mrt("MRT_PIM", "the daemon speaks PIM", mrt_pim,
        lambda sk: int(ipmr_socket(sk).mroute_do_pim)),
    _mrt("MRT_TABLE", "which table", mrt_table),
    SockOpt("MRT_VERSION", "version of the interface", sockets=RAW,
        get=lambda sk: ipmr_socket(sk) and MRT_VERSION_NUMBER),
)
# fmt: on


def ipmr_ioctl(sk: raw_sock, cmd: int, arg: Any) -> None:
    """net/ipv4/ipmr.c: counters of an interface (SIOCGETVIFCNT) or a route (SIOCGETSGCNT).

    Raises: OSError EINVAL, EADDRNOTAVAIL, ENOTTY.
    """
    mrt: mr_table | None = sk.net.ipv4.mrt
    if cmd == SIOCGETVIFCNT:
        data = VIF_REQ.unpack(copy_from_user(arg, VIF_REQ.size))
        vifi = data[0]
        if mrt is None or vifi >= mrt.maxvif:
            raise os_error(errno.EINVAL, f"no multicast interface {vifi}")
        vif = mrt.vif_table[vifi]
        if vif.dev is None:
            raise os_error(errno.EADDRNOTAVAIL, f"no multicast interface {vifi}")
        counts = (vif.pkt_in, vif.pkt_out, vif.bytes_in, vif.bytes_out)
        copy_to_user(arg, VIF_REQ.pack(vifi, *counts))
        return
    origin, group, *_ = SG_REQ.unpack(copy_from_user(arg, SG_REQ.size))
    c = None
    if mrt is not None:
        c = mr_mfc_find_parent(mrt, int_of(origin), int_of(group), -1)
    if c is None:
        raise os_error(errno.EADDRNOTAVAIL, "no such multicast route")
    copy_to_user(arg, SG_REQ.pack(origin, group, c.pkt, c.bytes, c.wrong_if))
