"""Socket options (MRT_*, MRT6_*) and ioctls of multicast routing daemons, for both families.

net/ipv4/ipmr.c ip_mroute_setsockopt, net/ipv6/ip6mr.c ip6_mroute_setsockopt. The families' rows
are MRT_OPTIONS of stack/ipv4/ipmr_sockopt.py and MRT6_OPTIONS of stack/ipv6/ip6mr_sockopt.py, made
by `mroute_options`. `mroute_family` has a family's structures, lengths and addresses.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from stack.core import uapi
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.errors import os_error
from stack.core.memory import copy_from_user, copy_to_user
from stack.core.netdevice import NETDEV_UNREGISTER, net_device
from stack.core.rows import wide
from stack.core.sock import ns_capable
from stack.core.sockopt_table import RAW, SockOpt, exact_int, opt_raw
from stack.inet.inet_sock import inet_sock
from stack.inet.ipmr_base import (
    IGMPMSG_WRVIFWHOLE,
    MAXVIFS,
    MRT_FLUSH_MFC,
    MRT_FLUSH_VIFS,
    mr_device_gone,
    mr_mfc_add,
    mr_mfc_delete,
    mr_mfc_find_parent,
    mr_table,
    mr_table_alloc,
    mr_table_ops,
    mroute_clean_tables,
)
from stack.inet.raw import raw_ioctl, raw_sock
from stack.net import Net

MRT_VERSION_NUMBER = 0x0305
SIOCGETVIFCNT, SIOCGETSGCNT = 0x89E0, 0x89E1
"""The same numbers are SIOCGETMIFCNT_IN6, SIOCGETSGCNT_IN6."""
VIF_REQ = struct.Struct("@HQQQQ")
"""struct sioc_vif_req, sioc_mif_req6: number, packets in and out, bytes in and out."""


def int_of(addr: bytes) -> int:
    """An address as an int."""
    return int.from_bytes(addr, "big")


class mfc_request(NamedTuple):
    """struct mfcctl, mf6cctl: a route."""

    origin: wide
    group: wide
    parent: int
    ttls: bytes
    """The thresholds of the interfaces, 0: not by this one."""


class mroute_family(NamedTuple):
    """The structures and functions of one family."""

    ops: mr_table_ops
    prefix: str
    """Of the options' names: "MRT"."""
    vif: str
    """An interface in the options' names: "VIF"."""
    init: Callable[[raw_sock, Any], None]
    """Check the value of MRT_INIT. Raises: OSError EINVAL, EADDRINUSE."""
    add_vif: Callable[[raw_sock, Any], None]
    del_vif: Callable[[raw_sock, Any], None]
    mfc: Callable[[Any], mfc_request]
    """Read a route. Raises: OSError EINVAL."""
    is_multicast: Callable[[Any], bool]
    sg_req: struct.Struct
    """struct sioc_sg_req, sioc_sg_req6: sender, group, packets, bytes, those that came in wrong."""
    addr: slice
    """Offset of the address in `sender` and `group`."""


def mroute_table_of(net: Net, ops: mr_table_ops) -> mr_table | None:
    """The family's table; None: not used yet."""
    mrt: mr_table | None = ops.netns(net).mrt
    return mrt


def mroute_get_table(net: Net, ops: mr_table_ops) -> mr_table:
    """net/ipv4/ipmr.c ipmr_get_table: the family's table, created on first use."""
    mrt = mroute_table_of(net, ops)
    if mrt is not None:
        return mrt
    made = mr_table_alloc(net, ops.table, ops)

    def event(what: int, dev: net_device) -> None:
        if what == NETDEV_UNREGISTER:
            mr_device_gone(made, dev)

    register_netdevice_notifier(net, event)
    ops.netns(net).mrt = made
    return made


def mroute_socket(ops: mr_table_ops, sk: inet_sock) -> mr_table:
    """The table for an option of a raw socket of the protocol. Raises: OSError EOPNOTSUPP."""
    if sk.sk_type != uapi.SOCK_RAW or sk.inet_num != ops.protocol:
        raise os_error(errno.EOPNOTSUPP, f"needs a raw socket of protocol {ops.protocol}")
    return mroute_get_table(sk.net, ops)


def mroute_admin(ops: mr_table_ops, sk: raw_sock) -> mr_table:
    """The table, for who may change it. Raises: OSError EOPNOTSUPP, EACCES."""
    mrt = mroute_socket(ops, sk)
    if mrt.mroute_sk is not sk and not ns_capable(sk.net, uapi.CAP_NET_ADMIN):
        raise os_error(errno.EACCES, "only the daemon's socket and root may do so")
    return mrt


def mroute_sk_done(ops: mr_table_ops, sk: raw_sock) -> None:
    """net/ipv4/ipmr.c mrtsock_destruct, net/ipv6/ip6mr.c ip6mr_sk_done: a socket is closed.

    If it is the daemon's, the daemon's settings are removed.
    """
    mrt = mroute_table_of(sk.net, ops)
    if mrt is not None and mrt.mroute_sk is sk:
        mrt.mroute_sk = None
        mroute_clean_tables(mrt, MRT_FLUSH_VIFS | MRT_FLUSH_MFC)
        ops.daemon(mrt, sk, -1)


# --- options --------------------------------------------------------------------------------------


def mroute_init(family: mroute_family, sk: raw_sock, optval: Any) -> None:
    """MRT_INIT: this socket is the daemon's. Raises: OSError EADDRINUSE."""
    mrt = mroute_socket(family.ops, sk)
    family.init(sk, optval)
    if mrt.mroute_sk is not None:
        raise os_error(errno.EADDRINUSE, "there is a multicast routing daemon")
    mrt.mroute_sk = sk
    family.ops.daemon(mrt, sk, 1)


def mroute_done(family: mroute_family, sk: raw_sock, optval: Any) -> None:
    """MRT_DONE. Raises: OSError EACCES."""
    if mroute_admin(family.ops, sk).mroute_sk is not sk:
        raise os_error(errno.EACCES, "the socket is not the daemon's")
    mroute_sk_done(family.ops, sk)


def mroute_mfc(proxy: bool, add: bool, family: mroute_family, sk: raw_sock, optval: Any) -> None:
    """MRT_ADD_MFC and its like. Raises: OSError EINVAL, ENFILE, ENOENT."""
    mrt = mroute_admin(family.ops, sk)
    origin, group, iif, ttls = family.mfc(optval)
    parent = iif if proxy else -1
    if not add:
        mr_mfc_delete(mrt, origin, group, parent)
        return
    there = mr_mfc_find_parent(mrt, origin, group, parent) is not None
    if iif < MAXVIFS and group and not family.is_multicast(group) and not there:
        raise os_error(errno.EINVAL, "not a group")
    mr_mfc_add(mrt, origin, group, iif, ttls, sk is mrt.mroute_sk, parent)


def mroute_flush(family: mroute_family, sk: raw_sock, optval: Any) -> None:
    """MRT_FLUSH: MRT_FLUSH_*"""
    mrt = mroute_admin(family.ops, sk)
    mroute_clean_tables(mrt, exact_int(optval))


def mroute_assert(family: mroute_family, sk: raw_sock, optval: Any) -> None:
    """MRT_ASSERT"""
    mrt = mroute_admin(family.ops, sk)
    mrt.mroute_do_assert = int(exact_int(optval) != 0)


def mroute_pim(family: mroute_family, sk: raw_sock, optval: Any) -> None:
    """MRT_PIM: asserts too."""
    mrt = mroute_admin(family.ops, sk)
    val = exact_int(optval)
    if bool(val) != mrt.mroute_do_pim:
        mrt.mroute_do_pim = bool(val)
        mrt.mroute_do_assert = int(bool(val))
        mrt.mroute_do_wrvifwhole = val == IGMPMSG_WRVIFWHOLE


def mroute_table(family: mroute_family, sk: raw_sock, optval: Any) -> None:
    """MRT_TABLE: there is one. Raises: OSError EBUSY, EINVAL."""
    mrt = mroute_admin(family.ops, sk)
    val = exact_int(optval)
    if mrt.mroute_sk is sk:
        raise os_error(errno.EBUSY, "the socket is the daemon's already")
    if val != mrt.id:
        raise os_error(errno.EINVAL, f"the only table is {mrt.id}")


def mroute_options(family: mroute_family) -> tuple[SockOpt, ...]:
    """The rows of a family's options."""
    ops, vif = family.ops, family.vif

    def row(name: str, what: str, setter: Any, get: Any = None) -> SockOpt:
        name = f"{family.prefix}_{name}"
        return SockOpt(name, what, sockets=RAW, takes=opt_raw, set=setter, get=get)

    def of(setter: Any, *how: bool) -> Any:
        return partial(setter, *how, family)

    # fmt: off
    return (
        row("ADD_MFC", "add a multicast route", of(mroute_mfc, False, True)),
        row("ADD_MFC_PROXY", "add one of several (*,*) routes", of(mroute_mfc, True, True)),
        row(f"ADD_{vif}", "add an interface that routes multicast", family.add_vif),
        row("ASSERT", "report packets that arrived on the wrong interface", of(mroute_assert),
            lambda sk: mroute_socket(ops, sk).mroute_do_assert),
        row("DEL_MFC", "delete a multicast route", of(mroute_mfc, False, False)),
        row("DEL_MFC_PROXY", "delete a (*,*) route", of(mroute_mfc, True, False)),
        row(f"DEL_{vif}", "delete an interface", family.del_vif),
        row("DONE", "stop routing multicast", of(mroute_done)),
        row("FLUSH", "forget interfaces and routes", of(mroute_flush)),
        row("INIT", "route multicast: this socket is the daemon's", of(mroute_init)),
        row("PIM", "the daemon speaks PIM", of(mroute_pim),
            lambda sk: int(mroute_socket(ops, sk).mroute_do_pim)),
        row("TABLE", "the routing table that this socket manages", of(mroute_table)),
        SockOpt(f"{family.prefix}_VERSION", "version of the interface", sockets=RAW,
            get=lambda sk: mroute_socket(ops, sk) and MRT_VERSION_NUMBER),
    )
    # fmt: on


# --- requests -------------------------------------------------------------------------------------


def mroute_ioctl(family: mroute_family, sk: raw_sock, cmd: int, arg: Any) -> Any:
    """net/ipv4/ipmr.c ipmr_ioctl, net/ipv6/ip6mr.c ip6mr_ioctl, and raw_ioctl: counters.

    Of an interface (SIOCGETVIFCNT, SIOCGETMIFCNT_IN6) or a route (SIOCGETSGCNT, SIOCGETSGCNT_IN6).
    What raw_ioctl returns; else None. Raises: OSError EINVAL, EADDRNOTAVAIL, ENOTTY.
    """
    if cmd not in (SIOCGETVIFCNT, SIOCGETSGCNT):
        return raw_ioctl(sk, cmd, arg)
    mrt = mroute_table_of(sk.net, family.ops)
    if cmd == SIOCGETVIFCNT:
        vifi, *_ = VIF_REQ.unpack(copy_from_user(arg, VIF_REQ.size))
        if mrt is None or vifi >= mrt.maxvif:
            raise os_error(errno.EINVAL, f"no multicast interface {vifi}")
        vif = mrt.vif_table[vifi]
        if vif.dev is None:
            raise os_error(errno.EADDRNOTAVAIL, f"no multicast interface {vifi}")
        counts = (vif.pkt_in, vif.pkt_out, vif.bytes_in, vif.bytes_out)
        copy_to_user(arg, VIF_REQ.pack(vifi, *counts))
        return None
    origin, group, *_ = family.sg_req.unpack(copy_from_user(arg, family.sg_req.size))
    c = None
    if mrt is not None:
        of, to = int_of(origin[family.addr]), int_of(group[family.addr])
        c = mr_mfc_find_parent(mrt, of, to, -1)
    if c is None:
        raise os_error(errno.EADDRNOTAVAIL, "no such multicast route")
    copy_to_user(arg, family.sg_req.pack(origin, group, c.pkt, c.bytes, c.wrong_if))
    return None
