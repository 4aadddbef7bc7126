"""net/core/rtnetlink.c, net/bridge/br_mdb.c: RTM_*MDB: the multicast groups of bridges.

RTM_NEWMDB, RTM_DELMDB      rtnl_mdb_add, rtnl_mdb_del => br_mdb_add, br_mdb_del
RTM_GETMDB                  rtnl_mdb_dump => groups, then ports with routers; rtnl_mdb_get
changes                     nlmsg_populate_mdb_fill

| br_port_msg | MDBA_MDB { MDBA_MDB_ENTRY { MDBA_MDB_ENTRY_INFO: br_mdb_entry, attributes } } } |
|             | MDBA_ROUTER { MDBA_ROUTER_PORT: index, attributes }                           |
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from sys import byteorder
from typing import Any

from stack.bridge.br_mdb import (
    br_mdb_add,
    br_mdb_del,
    br_multicast_is_star_g,
    mdb_entries,
    mdb_error,
)
from stack.bridge.br_multicast import is_rport
from stack.bridge.br_private import (
    MDB_PG_FLAGS_PERMANENT,
    br_port_get,
    net_bridge,
    net_bridge_mdb_entry,
    net_bridge_port,
    net_bridge_port_group,
    netif_is_bridge_master,
)
from stack.core.errors import check
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6, VLAN_VID_MASK, net_device, netif_running
from stack.core.uapi import AF_BRIDGE, NLM_F_REPLACE, RTM_GETMDB, RTM_NEWMDB
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import DEPRECATED_STRICT, STRICT, Attrs, AttrTable, NlError, invalid, nest
from stack.netlink.rt_attrs import (
    BR_MDB_ENTRY,
    BR_PORT_MSG,
    MDBA_EATTR,
    MDBA_GET,
    MDBA_PATTR,
    MDBA_SET,
    MDBE_ATTRS,
    MDBE_GET,
)
from stack.netlink.rt_br_mcast import ticks_left
from stack.netlink.rt_link import device_of, for_each_netdev_dump, header

MDBA_MDB, MDBA_ROUTER = 1, 2
MDBA_MDB_ENTRY = MDBA_MDB_ENTRY_INFO = MDBA_ROUTER_PORT = 1
MDB_PERMANENT = 1
MCAST_EXCLUDE, MCAST_INCLUDE = 0, 1
ENTRIES = 64
"""Maximum entries in one message of a dump."""
SIZES = {4: (ETH_P_IP, 4), 8: (ETH_P_IP, 4), 16: (ETH_P_IPV6, 16), 32: (ETH_P_IPV6, 16), 6: (0, 6)}
"""EtherType and size of a group by the size of an entry's address."""
GROUP_BYTES = {ETH_P_IP: 4, ETH_P_IPV6: 16, 0: 6}
"""Bytes of a group by its EtherType; 0: an address of Ethernet."""


# --- dumping --------------------------------------------------------------------------------------


def __mdb_fill_info(mp: net_bridge_mdb_entry, pg: net_bridge_port_group | None) -> bytes:
    """net/bridge/br_mdb.c: MDBA_MDB_ENTRY_INFO of a port or the host (`pg` None)."""
    proto, size = SIZES[len(mp.addr)]
    group, source = mp.addr[:size], mp.addr[size:]
    dev, flags, timer = mp.br.dev, 0, mp.timer
    if pg is not None:
        dev, flags, timer = pg.port.dev, pg.flags, pg.timer
    entry = BR_MDB_ENTRY.pack(
        dev.ifindex,
        flags & MDB_PG_FLAGS_PERMANENT or not proto,  # Ethernet groups do not expire
        flags >> 1,
        0,
        group,
        int.from_bytes(proto.to_bytes(2, "big"), byteorder),
    )
    attrs = {
        "MDBA_MDB_EATTR_TIMER": ticks_left(timer),
        "MDBA_MDB_EATTR_SOURCE": source or None,
        "MDBA_MDB_EATTR_RTPROT": pg.rt_protocol if pg is not None else None,
        "MDBA_MDB_EATTR_GROUP_MODE": group_mode(mp) if pg is not None else None,
    }
    return nest(MDBA_MDB_ENTRY_INFO, entry + MDBA_EATTR.build(attrs))


def group_mode(mp: net_bridge_mdb_entry) -> int | None:
    """MDBA_MDB_EATTR_GROUP_MODE: sent in mode IGMPv3 or MLDv2."""
    proto, _ = SIZES[len(mp.addr)]
    ctx = mp.br.multicast_ctx
    newest = {ETH_P_IP: ctx.multicast_igmp_version == 3, ETH_P_IPV6: ctx.multicast_mld_version == 2}
    if not newest.get(proto, False):
        return None
    return MCAST_EXCLUDE if br_multicast_is_star_g(mp.addr) else MCAST_INCLUDE


def router_port(p: net_bridge_port) -> bytes:
    """net/bridge/br_mdb.c br_rports_fill_info: MDBA_ROUTER_PORT of one port."""
    ticks = [ticks_left(pf.mc_router_timer) for pf in p.mcast]
    lists = [p in pf.mc_router_list for pf in p.br.multicast_ctx.pf]
    attrs = {
        "MDBA_ROUTER_PATTR_TIMER": max(ticks),
        "MDBA_ROUTER_PATTR_TYPE": p.multicast_router,
        "MDBA_ROUTER_PATTR_INET_TIMER": ticks[0] if lists[0] else None,
        "MDBA_ROUTER_PATTR_INET6_TIMER": ticks[1] if lists[1] else None,
    }
    index = p.dev.ifindex.to_bytes(4, byteorder)
    return nest(MDBA_ROUTER_PORT, index + MDBA_PATTR.build(attrs))


def nlmsg_populate_mdb_fill(what: Any) -> bytes:
    """net/bridge/br_mdb.c: a notification: (entry, port group or None), or (None, port)."""
    mp, other = what
    if mp is None:
        p: net_bridge_port = other
        body = nest(MDBA_ROUTER, nest(MDBA_ROUTER_PORT, p.dev.ifindex.to_bytes(4, byteorder)))
        return BR_PORT_MSG.pack(AF_BRIDGE, p.br.dev.ifindex) + body
    body = nest(MDBA_MDB, nest(MDBA_MDB_ENTRY, __mdb_fill_info(mp, other)))
    return BR_PORT_MSG.pack(AF_BRIDGE, mp.br.dev.ifindex) + body


def rtnl_mdb_dump(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/rtnetlink.c: RTM_GETMDB of all bridges."""
    if nlh.sk.strict_chk:
        _, wanted = header(nlh, BR_PORT_MSG, "Invalid header for mdb dump request")
        if len(nlh.payload) > BR_PORT_MSG.size:
            raise NlError(errno.EINVAL, "Invalid data after header in mdb dump request")
        if wanted:
            text = "Filtering by device index is not supported for mdb dump request"
            raise NlError(errno.EINVAL, text)
    for dev in for_each_netdev_dump(nlh):
        if not netif_is_bridge_master(dev):
            continue
        for payload in br_mdb_dump(dev):
            yield nlmsg_part(nlh, RTM_GETMDB, payload)


def br_mdb_dump(dev: net_device) -> Iterator[bytes]:
    """net/bridge/br_mdb.c: the groups of a bridge, and its ports with routers."""
    br: net_bridge = dev.priv
    head = BR_PORT_MSG.pack(0, dev.ifindex)  # a dump's has no family
    found = mdb_entries(br)
    parts = [found[at : at + ENTRIES] for at in range(0, len(found), ENTRIES)] or [[]]
    routers = b"".join(router_port(p) for p in br.port_list if is_rport(p))
    for part in parts:
        entries: dict[net_bridge_mdb_entry, bytes] = {}
        for mp, pg in part:
            entries[mp] = entries.get(mp, b"") + __mdb_fill_info(mp, pg)
        body = b"".join(nest(MDBA_MDB_ENTRY, entry) for entry in entries.values())
        tail = nest(MDBA_ROUTER, routers) if part is parts[-1] and routers else b""
        yield head + nest(MDBA_MDB, body) + tail


def rtnl_validate_mdb_entry_get(tb: Attrs) -> tuple[int, bytes]:
    """net/core/rtnetlink.c: VLAN and group of MDBA_GET_ENTRY. Raises: NlError EINVAL."""
    data = tb["MDBA_GET_ENTRY"]
    if len(data) != BR_MDB_ENTRY.size:
        raise tb.wrong("MDBA_GET_ENTRY", "Invalid attribute length")
    index, state, flags, vid, addr, order = BR_MDB_ENTRY.unpack(data)
    for value, name in ((index, "ifindex"), (state, "state"), (flags, "flags")):
        if value:
            raise NlError(errno.EINVAL, f"Entry {name} cannot be specified")
    if vid >= VLAN_VID_MASK:
        raise NlError(errno.EINVAL, "Invalid entry VLAN id")
    proto = int.from_bytes(order.to_bytes(2, byteorder), "big")
    if proto not in GROUP_BYTES:
        raise NlError(errno.EINVAL, "Unknown entry protocol")
    return vid, addr[: GROUP_BYTES[proto]]


def mdb_device(nlh: nlmsg, index: int, missing: str) -> net_device:
    """The bridge of a request. `missing`: the attribute that it must have and lacks.

    Raises: NlError EINVAL, ENODEV, EOPNOTSUPP.
    """
    if not index:
        raise NlError(errno.EINVAL, "Invalid ifindex")
    dev = device_of(nlh.sk.net, index, "Device doesn't exist")
    if missing:
        raise NlError(errno.EINVAL, f"Missing {missing} attribute", missing=1)
    if not netif_is_bridge_master(dev):
        raise NlError(errno.EOPNOTSUPP, "Device does not support MDB operations")
    return dev


def rtnl_mdb_get(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c, br_mdb_get: `bridge mdb get`: the ports of a group. Raises: NlError."""
    _, index = header(nlh, BR_PORT_MSG)
    tb = MDBA_GET.parse(nlh.whole, NLMSG_HDRLEN + BR_PORT_MSG.size, STRICT)
    entry = rtnl_validate_mdb_entry_get(tb) if "MDBA_GET_ENTRY" in tb else None
    dev = mdb_device(nlh, index, "" if entry is not None else "MDBA_GET_ENTRY")
    assert entry is not None
    vid, group = entry
    group = with_source(nested(nlh, tb, "MDBA_GET_ENTRY_ATTRS", MDBE_GET), group)
    br: net_bridge = dev.priv
    found = [(mp, pg) for mp, pg in mdb_entries(br) if mp.addr == group and not vid]
    if not found:
        raise NlError(errno.ENOENT, "bridge: MDB entry not found")
    told = b"".join(__mdb_fill_info(mp, pg) for mp, pg in found)
    body = nest(MDBA_MDB, nest(MDBA_MDB_ENTRY, told))
    netlink_reply(nlh, RTM_NEWMDB, BR_PORT_MSG.pack(AF_BRIDGE, dev.ifindex) + body)


def nested(nlh: nlmsg, tb: Attrs, name: str, table: AttrTable) -> Attrs:
    """Parse an attribute that only a bridge reads. Raises: NlError EINVAL, ERANGE."""
    if name not in tb:
        return Attrs()
    at, end = tb.span(name)
    return table.parse(nlh.whole, at, STRICT, end)


def with_source(attrs: Attrs, group: bytes) -> bytes:
    """net/bridge/br_mdb.c is_valid_mdb_source: a group, with MDBE_ATTR_SOURCE appended if present.

    An unspecified address is invalid as a source.

    Raises: NlError EINVAL.
    """
    if "MDBE_ATTR_SOURCE" not in attrs:
        return group
    source, text = attrs["MDBE_ATTR_SOURCE"], ""
    name = {4: "IPv4", 16: "IPv6"}.get(len(group), "")
    if not name:
        text = "Invalid protocol used with source address"
    elif len(source) != len(group):
        text = f"{name} invalid source address length"
    elif source[0] == 0xFF if len(group) == 16 else source[0] >> 4 == 14:
        text = f"{name} multicast source address is not allowed"
    if text:
        raise NlError(errno.EINVAL, f"bridge: {text}")
    return group + bytes(source) if any(source) else group


# --- changing -------------------------------------------------------------------------------------


def rtnl_validate_mdb_entry(tb: Attrs) -> tuple[int, int, bytes]:
    """net/core/rtnetlink.c: index of the port, state and group of MDBA_SET_ENTRY.

    Raises: NlError EINVAL.
    """
    data = tb["MDBA_SET_ENTRY"]
    if len(data) != BR_MDB_ENTRY.size:
        raise tb.wrong("MDBA_SET_ENTRY", "Invalid attribute length")
    index, state, _, vid, addr, order = BR_MDB_ENTRY.unpack(data)
    if not index:
        raise invalid("Zero entry ifindex is not allowed")
    proto = int.from_bytes(order.to_bytes(2, byteorder), "big")
    if proto == ETH_P_IP:
        group = addr[:4]
        if group[0] >> 4 != 14 and group[0]:
            raise invalid("IPv4 entry group address is not multicast or 0.0.0.0")
        if group[:3] == b"\xe0\0\0":
            raise invalid("IPv4 entry group address is local multicast")
    elif proto == ETH_P_IPV6:
        group = addr
        if addr == b"\xff\x02" + bytes(13) + b"\x01":
            raise invalid("IPv6 entry group address is link-local all nodes")
    elif not proto:
        group = addr[:6]
        if not group[0] & 1:
            raise invalid("L2 entry group is not multicast")
    else:
        raise invalid("Unknown entry protocol")
    if state > MDB_PERMANENT:
        raise invalid("Unknown entry state")
    if vid >= VLAN_VID_MASK:
        raise invalid("Invalid entry VLAN id")
    return index, state, group


def br_mdb_config_init(nlh: nlmsg) -> tuple[net_bridge, net_bridge_port | None, bytes, int, Attrs]:
    """net/bridge/br_mdb.c: bridge, port (None: the host), group, state, and the attributes.

    Raises: NlError EINVAL, ENODEV, EOPNOTSUPP.
    """
    _, index = header(nlh, BR_PORT_MSG)
    tb = MDBA_SET.parse(nlh.whole, NLMSG_HDRLEN + BR_PORT_MSG.size, DEPRECATED_STRICT)
    entry = rtnl_validate_mdb_entry(tb) if "MDBA_SET_ENTRY" in tb else None
    dev = mdb_device(nlh, index, "" if entry is not None else "MDBA_SET_ENTRY")
    assert entry is not None
    at, state, group = entry
    br: net_bridge = dev.priv
    if not netif_running(dev):
        raise NlError(errno.EINVAL, "bridge: Bridge device is not running")
    if not br.multicast_ctx.enabled:
        raise NlError(errno.EINVAL, "bridge: Bridge's multicast processing is disabled")
    p = None
    if at != index:
        p = br_port_get(device_of(nlh.sk.net, at, "bridge: Port net device doesn't exist"))
        if p is None:
            raise NlError(errno.EINVAL, "bridge: Net device is not a bridge port")
        if p.br is not br:
            raise NlError(errno.EINVAL, "bridge: Port belongs to a different bridge device")
    if group == bytes(4):
        raise NlError(errno.EINVAL, "bridge: IPv4 entry group address 0.0.0.0 is not allowed")
    attrs = nested(nlh, tb, "MDBA_SET_ENTRY_ATTRS", MDBE_ATTRS)
    group = with_source(attrs, group)
    if "MDBE_ATTR_RTPROT" in attrs and p is None:
        raise NlError(errno.EINVAL, "bridge: Protocol cannot be set for host groups")
    return br, p, group, state, attrs


def rtnl_mdb_add(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_NEWMDB: `bridge mdb add`, `replace`. Raises: NlError."""
    br, p, group, state, attrs = br_mdb_config_init(nlh)
    for name in ("MDBE_ATTR_SRC_LIST", "MDBE_ATTR_GROUP_MODE"):
        if name in attrs:
            raise attrs.wrong(name, "Source lists are not supported", errno.EOPNOTSUPP)
    again = bool(nlh.flags & NLM_F_REPLACE)
    rtprot = attrs.get("MDBE_ATTR_RTPROT", 4)
    try:
        br_mdb_add(br, p, group, bool(state), again, rtprot)
    except mdb_error as exc:
        raise NlError(exc.errno or errno.EINVAL, exc.msg) from None


def rtnl_mdb_del(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_DELMDB: `bridge mdb del`. Raises: NlError."""
    br, p, group, _, _ = br_mdb_config_init(nlh)
    check(br_mdb_del(br, p, group))
