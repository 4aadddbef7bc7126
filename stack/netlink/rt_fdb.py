"""net/core/rtnetlink.c, net/bridge/br_fdb.c: RTM_*NEIGH of AF_BRIDGE: forwarding databases.

RTM_NEWNEIGH    rtnl_fdb_add => br_fdb_add; with NTF_SELF a link kind's, else ndo_dflt_fdb_add
RTM_DELNEIGH    rtnl_fdb_del => br_fdb_delete, ndo_dflt_fdb_del; with NLM_F_BULK br_fdb_delete_bulk
RTM_GETNEIGH    rtnl_fdb_get => br_fdb_get; rtnl_fdb_dump => bridge and interface entries
changes         fdb_fill_info
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from sys import byteorder
from typing import Any

from stack.bridge.br_fdb import (
    FDB_BY_USER,
    FDB_EXT_LEARNED,
    FDB_LOCAL,
    FDB_STATIC,
    FDB_STICKY,
    br_fdb_external_learn_add,
    br_fdb_find_rcu,
    br_fdb_flush,
    br_fdb_update,
    fdb_add_entry,
    fdb_delete_entry,
    fdb_to_nud,
)
from stack.bridge.br_private import (
    br_port_get,
    net_bridge,
    net_bridge_fdb_entry,
    net_bridge_port,
    netif_is_bridge_master,
)
from stack.core import uapi
from stack.core.dev import dev_mc_add, dev_mc_del, dev_uc_add, dev_uc_del
from stack.core.errors import check
from stack.core.netdevice import ARPHRD_ETHER, ETH_ALEN, net_device
from stack.core.time64 import TICK_NS
from stack.core.uapi import NLM_F_EXCL, NTF_EXT_LEARNED, NTF_MASTER, NTF_SELF, NTF_STICKY, NTF_USE
from stack.netlink.af_netlink import netlink_reply, nlmsg_notify, nlmsg_part
from stack.netlink.netlink_sock import NETLINK_ROUTE, NLM_F_BULK, NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import (
    BINARY,
    DEPRECATED_STRICT,
    STRICT,
    U8,
    U16,
    U32,
    Attr,
    Attrs,
    AttrTable,
    NlError,
)
from stack.netlink.rt_attrs import IFINFOMSG, IFLA, NDA, NDA_CACHE, NDMSG
from stack.netlink.rt_kinds import link_kind_of
from stack.netlink.rt_link import device_of, header, nlmsg_parse
from stack.netlink.rt_neigh import ndm_header

RTNLGRP_NEIGH = 3
GET = "fdb get request"
NDA_DUMP = AttrTable(
    "NDA",
    Attr("NDA_IFINDEX", 8, BINARY, told=True),
    Attr("NDA_MASTER", 9, BINARY, told=True),
    last=NDA.last,
)
FLUSH = AttrTable(
    "NDA",
    Attr("NDA_VLAN", 5, U16, legal=range(1, 4095)),
    Attr("NDA_IFINDEX", 8, U32, legal=range(1, 1 << 31)),
    Attr("NDA_NDM_STATE_MASK", 16, U16),
    Attr("NDA_NDM_FLAGS_MASK", 17, U8),
)
"""br_nda_fdb_pol: filter of `bridge fdb flush`."""


# --- dumping --------------------------------------------------------------------------------------


def fdb_fill_info(br: net_bridge, fdb: net_bridge_fdb_entry) -> bytes:
    """net/bridge/br_fdb.c: struct ndmsg and attributes of an entry."""
    now, port = br.dev.net.clock.now_ns(), fdb.dst
    used, updated = (max(now - at, 0) // TICK_NS for at in (fdb.used, fdb.updated))
    flags = NTF_STICKY if fdb.flags & FDB_STICKY else 0
    if fdb.flags & FDB_EXT_LEARNED:
        flags |= NTF_EXT_LEARNED
    attrs = {
        "NDA_LLADDR": fdb.addr,
        "NDA_MASTER": br.dev.ifindex,
        "NDA_FLAGS_EXT": 0,
        "NDA_CACHEINFO": NDA_CACHE.pack(0, used, updated, 0),
    }
    return fdb_message(br.dev if port is None else port.dev, fdb_to_nud(br, fdb), flags, attrs)


def fdb_message(dev: net_device, state: int, flags: int, attrs: dict[str, Any]) -> bytes:
    """struct ndmsg of AF_BRIDGE with attributes."""
    return NDMSG.pack(uapi.AF_BRIDGE, 0, 0, dev.ifindex, state, flags, 0) + NDA.build(attrs)


def rtnl_fdb_notify(dev: net_device, kind: int, addr: bytes, state: int) -> None:
    """net/core/rtnetlink.c: notify a change of an interface's receive addresses."""
    payload = fdb_message(dev, state, NTF_SELF, {"NDA_LLADDR": addr})
    nlmsg_notify(dev.net, NETLINK_ROUTE, RTNLGRP_NEIGH, kind, payload)


def fdb_dump_filter(nlh: nlmsg) -> tuple[int, int]:
    """net/core/rtnetlink.c valid_fdb_dump_strict, valid_fdb_dump_legacy: bridge and port, 0: all.

    Raises: NlError EINVAL.
    """
    what = "fdb dump request"
    if not nlh.sk.strict_chk:
        if len(nlh.payload) in (NDMSG.size, NDMSG.size + 8):  # of iproute2 before 4.12
            return 0, 0
        try:
            values, tb = nlmsg_parse(nlh, IFINFOMSG, IFLA)
        except NlError as exc:
            raise NlError(errno.EINVAL, exc.msg, exc.at) from None
        return tb.get("IFLA_MASTER", 0), values[2]
    _, pad1, pad2, port, _, flags, kind = header(nlh, NDMSG, f"Invalid header for {what}")
    if pad1 or pad2 or flags or kind:
        raise NlError(errno.EINVAL, f"Invalid values in header for {what}")
    tb = NDA_DUMP.parse(nlh.whole, NLMSG_HDRLEN + NDMSG.size, DEPRECATED_STRICT)
    found = {"NDA_IFINDEX": port, "NDA_MASTER": 0}
    for name, payload in tb.items():
        if name not in found:
            raise NlError(errno.EINVAL, f"Unsupported attribute in {what}")
        if len(payload) != 4:
            raise NlError(errno.EINVAL, f"Invalid {name[4:]} attribute in {what}")
        found[name] = int.from_bytes(payload, byteorder)
    return found["NDA_MASTER"], found["NDA_IFINDEX"]


def rtnl_fdb_dump(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/rtnetlink.c: RTM_GETNEIGH of AF_BRIDGE: entries of bridges and interfaces.

    Raises: NlError EINVAL, ENODEV.
    """
    net = nlh.sk.net
    bridge, port = fdb_dump_filter(nlh)
    wanted = device_of(net, bridge) if bridge else None
    for dev in tuple(net.dev_base_head):
        if port not in (0, dev.ifindex):
            continue
        if wanted is not None:
            p = br_port_get(dev)
            if dev is not wanted and p is None:
                continue
            if (p is None or p.br.dev is not wanted) and not netif_is_bridge_master(dev):
                continue
        for payload in device_entries(dev):
            yield nlmsg_part(nlh, uapi.RTM_NEWNEIGH, payload)


def device_entries(dev: net_device) -> Iterator[bytes]:
    """The entries of one interface, its port's and its own."""
    p, row = br_port_get(dev), link_kind_of(dev)
    if p is not None:
        yield from br_fdb_dump(p.br, p)
    if row is None or row.fdb_dump is None:  # ndo_dflt_fdb_dump
        for addr in (*dev.uc, *dev.mc):
            yield fdb_message(dev, uapi.NUD_PERMANENT, NTF_SELF, {"NDA_LLADDR": addr})
    if netif_is_bridge_master(dev):
        yield from br_fdb_dump(dev.priv, None)
    if row is not None and row.fdb_dump is not None:
        now = dev.net.clock.now_ns()
        for state, flags, attrs, (used, updated) in row.fdb_dump(dev):
            ages = (max(now - at, 0) // TICK_NS for at in (used, used, updated))
            told = attrs | {"NDA_CACHEINFO": NDA_CACHE.pack(*ages, 0)}
            yield fdb_message(dev, state, flags, told)


def br_fdb_dump(br: net_bridge, port: net_bridge_port | None) -> Iterator[bytes]:
    """net/bridge/br_fdb.c: the addresses of a port; None: of the bridge itself."""
    for fdb in tuple(br.fdb_hash.values())[::-1]:  # the newest first
        if fdb.dst is port:
            yield fdb_fill_info(br, fdb)


def rtnl_fdb_get(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: `bridge fdb get ADDR`: the entry of an address. Raises: NlError."""
    net = nlh.sk.net
    _, index, flags = ndm_header(nlh, GET, NTF_MASTER | NTF_SELF)
    tb = NDA.parse(nlh.whole, NLMSG_HDRLEN + NDMSG.size, DEPRECATED_STRICT)
    known = ("NDA_MASTER", "NDA_LLADDR", "NDA_VLAN", "NDA_VNI")
    for name in tb:
        if name == "NDA_LLADDR" and len(tb[name]) != ETH_ALEN:
            raise NlError(errno.EINVAL, f"Invalid address in {GET}")
        if name == "NDA_VLAN":
            fdb_vid_parse(tb)
        if name not in known:
            raise NlError(errno.EINVAL, f"Unsupported attribute in {GET}")
    if "NDA_LLADDR" not in tb:
        raise NlError(errno.EINVAL, f"Missing lookup address for {GET}")
    dev = device_of(net, index, "Unknown device ifindex") if index else None
    bridge = None
    if tb.get("NDA_MASTER"):
        if dev is not None:
            raise NlError(errno.EINVAL, "Master and device are mutually exclusive")
        bridge = net.dev_by_index.get(tb["NDA_MASTER"])
        if bridge is None:
            raise NlError(errno.EINVAL, "Invalid master ifindex")
    elif dev is None:
        raise NlError(errno.ENODEV, "No device specified")
    elif not flags or flags & NTF_MASTER:
        p = br_port_get(dev)
        if p is None:
            raise NlError(errno.EINVAL, "Device is not a bridge port")
        bridge = p.br.dev
    asked = bridge if bridge is not None else dev
    if asked is None or not netif_is_bridge_master(asked):
        raise NlError(errno.EOPNOTSUPP, "Fdb get operation not supported by device")
    br: net_bridge = asked.priv
    fdb = br_fdb_find_rcu(br, tb["NDA_LLADDR"])
    if fdb is None or "NDA_VLAN" in tb:  # no addresses are learned per VLAN
        raise NlError(errno.ENOENT, "Fdb entry not found")
    netlink_reply(nlh, uapi.RTM_NEWNEIGH, fdb_fill_info(br, fdb))


def fdb_flags(flags: int) -> int:
    """The bits FDB_* of bits NTF_*."""
    learned = FDB_EXT_LEARNED if flags & NTF_EXT_LEARNED else 0
    return learned | (FDB_STICKY if flags & NTF_STICKY else 0)


# --- changing -------------------------------------------------------------------------------------


def fdb_vid_parse(tb: Attrs) -> int:
    """net/core/rtnetlink.c: the VLAN of a request, 0: none. Raises: NlError EINVAL."""
    vid: int = tb.get("NDA_VLAN", 0)
    if "NDA_VLAN" in tb and not 0 < vid < 4095:
        raise NlError(errno.EINVAL, "invalid vlan id")
    return vid


def _fdb_request(nlh: nlmsg) -> tuple[net_device, Attrs, int, int]:
    """Device, attributes, state and flags of a request. Raises: NlError."""
    (_, _, _, index, state, flags, _), tb = nlmsg_parse(nlh, NDMSG, NDA)
    if not index:
        raise NlError(errno.EINVAL, "invalid ifindex")
    dev = device_of(nlh.sk.net, index, "unknown ifindex")
    if len(tb.get("NDA_LLADDR", b"")) != ETH_ALEN:
        raise NlError(errno.EINVAL, "invalid address")
    return dev, tb, state, flags


def _ether_only(dev: net_device, what: str) -> None:
    if dev.type != ARPHRD_ETHER:
        raise NlError(errno.EINVAL, f"FDB {what} only supported for Ethernet devices")


def rtnl_fdb_add(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: `bridge fdb add|append|replace ADDR dev DEV`. Raises: NlError."""
    dev, tb, state, flags = _fdb_request(nlh)
    _ether_only(dev, "add")
    vid, p, done = fdb_vid_parse(tb), br_port_get(dev), False
    if p is not None and (not flags or flags & NTF_MASTER):
        br_fdb_add(p.br, p, tb, state, flags, nlh.flags)
        done = True
    if flags & NTF_SELF:
        row = link_kind_of(dev)
        if netif_is_bridge_master(dev):
            br_fdb_add(dev.priv, None, tb, state, flags, nlh.flags)
        elif row is not None and row.fdb_add is not None:
            row.fdb_add(dev, tb, state, flags, nlh.flags)
        else:
            if vid or "NDA_FLAGS_EXT" in tb:
                raise NlError(errno.EINVAL)
            ndo_dflt_fdb_add(dev, tb["NDA_LLADDR"], state, nlh.flags)
            rtnl_fdb_notify(dev, uapi.RTM_NEWNEIGH, tb["NDA_LLADDR"], state)
        done = True
    if not done:
        raise NlError(errno.EOPNOTSUPP)


def br_fdb_add(
    br: net_bridge, p: net_bridge_port | None, tb: Attrs, state: int, flags: int, nlflags: int
) -> None:
    """net/bridge/br_fdb.c: an entry of a port, or of the bridge itself (`p` None)."""
    addr: bytes = tb["NDA_LLADDR"]
    if not state & (uapi.NUD_PERMANENT | uapi.NUD_NOARP | uapi.NUD_REACHABLE):
        raise NlError(errno.EINVAL)
    if not any(addr):
        raise NlError(errno.EINVAL)
    if "NDA_VLAN" in tb:
        raise NlError(errno.EINVAL)  # bridges here do not filter VLANs
    if flags & NTF_USE:
        if p is None:
            raise NlError(errno.EINVAL)
        br_fdb_update(br, p, addr)
        return
    if flags & NTF_EXT_LEARNED:
        if p is None and not state & uapi.NUD_PERMANENT:
            raise NlError(errno.EINVAL, "bridge: FDB entry towards bridge must be permanent")
        br_fdb_external_learn_add(br, p, addr)
        return
    check(fdb_add_entry(br, p, addr, state, fdb_flags(flags), nlflags))


def ndo_dflt_fdb_add(dev: net_device, addr: bytes, state: int, nlflags: int) -> None:
    """net/core/rtnetlink.c: add a receive address of an interface."""
    if state and not state & uapi.NUD_PERMANENT:
        raise NlError(errno.EINVAL)
    if addr not in (dev.mc if addr[0] & 1 else dev.uc):
        (dev_mc_add if addr[0] & 1 else dev_uc_add)(dev, addr)
    elif nlflags & NLM_F_EXCL:
        raise NlError(errno.EEXIST)


def rtnl_fdb_del(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: `bridge fdb del ADDR dev DEV`, `bridge fdb flush dev DEV`.

    Raises: NlError.
    """
    if nlh.flags & NLM_F_BULK:
        br_fdb_delete_bulk(nlh)
        return
    dev, tb, state, flags = _fdb_request(nlh)
    vid, p, done = fdb_vid_parse(tb), br_port_get(dev), False
    _ether_only(dev, "delete")
    addr: bytes = tb["NDA_LLADDR"]
    if p is not None and (not flags or flags & NTF_MASTER):
        check(-errno.ENOENT if vid else fdb_delete_entry(p.br, p, addr))
        done = True
    if flags & NTF_SELF:
        row = link_kind_of(dev)
        if netif_is_bridge_master(dev):
            check(-errno.ENOENT if vid else fdb_delete_entry(dev.priv, None, addr))
        elif row is not None and row.fdb_del is not None:
            row.fdb_del(dev, tb)
        else:
            ndo_dflt_fdb_del(dev, addr, state)
            rtnl_fdb_notify(dev, uapi.RTM_DELNEIGH, addr, state)
        done = True
    if not done:
        raise NlError(errno.EOPNOTSUPP)


def ndo_dflt_fdb_del(dev: net_device, addr: bytes, state: int) -> None:
    """net/core/rtnetlink.c. Raises: NlError EINVAL, ENOENT."""
    if not state & uapi.NUD_PERMANENT:
        raise NlError(errno.EINVAL)
    if addr not in (dev.mc if addr[0] & 1 else dev.uc):
        raise NlError(errno.ENOENT)
    (dev_mc_del if addr[0] & 1 else dev_uc_del)(dev, addr)


def fdb_flush_flags(state: int, flags: int) -> int:
    """net/bridge/br_fdb.c __ndm_state_to_fdb_flags, __ndm_flags_to_fdb_flags."""
    bits = fdb_flags(flags) | (FDB_BY_USER if flags & NTF_USE else 0)
    bits |= FDB_LOCAL if state & uapi.NUD_PERMANENT else 0
    return bits | (FDB_STATIC if state & uapi.NUD_NOARP else 0)


def br_fdb_flush_device(br: net_bridge, dev: net_device) -> None:
    """net/bridge/br_fdb.c: refuse devices other than the bridge and its ports. Raises: NlError."""
    p, text = br_port_get(dev), ""
    if netif_is_bridge_master(dev):
        if dev is not br.dev:
            text = "Flush bridge device does not match target bridge device"
    elif p is None:
        text = "Flush device is not a bridge or bridge port"
    elif p.br is not br:
        text = "Port belongs to a different bridge device"
    if text:
        raise NlError(errno.EINVAL, f"bridge: {text}")


def br_fdb_delete_bulk(nlh: nlmsg) -> None:
    """net/bridge/br_fdb.c: delete the entries that match port, state and flags."""
    net = nlh.sk.net
    _, _, _, index, state, flags, _ = header(nlh, NDMSG)
    if not index:
        raise NlError(errno.EINVAL, "invalid ifindex")
    dev = device_of(net, index, "unknown ifindex")
    p, port = br_port_get(dev), 0
    if netif_is_bridge_master(dev) and flags & NTF_SELF:
        br: net_bridge = dev.priv
    elif p is not None and (not flags or flags & NTF_MASTER):
        br, port = p.br, index
    else:
        raise NlError(errno.EOPNOTSUPP)
    tb = FLUSH.parse(nlh.whole, NLMSG_HDRLEN + NDMSG.size, STRICT)
    if "NDA_IFINDEX" in tb:
        port = tb["NDA_IFINDEX"]
        br_fdb_flush_device(br, device_of(net, port, "bridge: Unknown flush device ifindex"))
    if "NDA_VLAN" in tb:
        return  # bridges here do not filter VLANs: no entry has one
    wanted = fdb_flush_flags(state, flags)
    mask = fdb_flush_flags(tb.get("NDA_NDM_STATE_MASK", 0), tb.get("NDA_NDM_FLAGS_MASK", 0))
    br_fdb_flush(br, port, wanted, mask)
