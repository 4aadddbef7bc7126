"""net/core/rtnetlink.c: RTM_*LINK: attributes of interfaces, and their changes.

    RTM_GETLINK     rtnl_getlink, rtnl_dump_ifinfo => rtnl_fill_ifinfo
    RTM_SETLINK     rtnl_setlink -> do_setlink      name, MTU, address, up or down, bridge
    RTM_NEWLINK     rtnl_newlink                    the same, or a new device (rt_newlink.py)
    kinds           rt_kinds.KINDS                  attributes of bridges, VLANs ...
    RTM_DELLINK     rtnl_dellink => rtnl_link_ops.dellink
    of AF_BRIDGE    rtnl_bridge_setlink             switches of a bridge's port
    RTM_*LINKPROP   rtnl_linkprop                   alternative names

Read rtnl_fill_ifinfo first: it has the attributes in the kernel's order.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Container, Iterator
from sys import byteorder
from typing import Any

from stack.bridge.br_private import br_port_get, net_bridge_port, netif_is_bridge_master
from stack.core.dev import (
    dev_change_carrier,
    dev_change_flags,
    dev_change_name,
    dev_get_stats,
    dev_set_mac_address,
    dev_set_mtu,
    netdev_name_node_alt_create,
    netdev_name_node_alt_destroy,
    netif_set_gro_max_size,
)
from stack.core.dev_notifier import netdev_state_change
from stack.core.errors import check, os_error
from stack.core.netdevice import (
    ETH_ALEN,
    GSO_MAX_SIZE,
    IFF_IPVLAN_SLAVE,
    IFF_UP,
    LINK_STATE_NOCARRIER,
    VLAN_VID_MASK,
    dev_get_flags,
    net_device,
)
from stack.core.rows import rows_of
from stack.core.rtnetlink import rtnl_delete_link
from stack.core.snmp import rtnl_link_stats64
from stack.core.time64 import TICK_NS
from stack.core.uapi import (
    AF_BRIDGE,
    AF_INET6,
    AF_UNSPEC,
    RTM_DELLINK,
    RTM_NEWLINK,
    RTM_NEWLINKPROP,
    RTM_SETLINK,
)
from stack.inet.ipmr_base import ARPHRD_PIMREG
from stack.ipv6.addrconf_prefix import inet6_set_iftoken
from stack.ipv6.if_inet6 import inet6_dev
from stack.ipv6.stable import stable_secret
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLM_F_DUMP_FILTERED, NLM_F_ECHO, NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import (
    DEPRECATED_STRICT,
    FAILED,
    LIBERAL,
    NLA_HDRLEN,
    NLA_TYPE_MASK,
    STRICT,
    U32,
    Attrs,
    AttrTable,
    NlError,
    nest,
    nla_for_each,
)
from stack.netlink.rt_attrs import AF_SPEC, BRPORT, IFINFOMSG, IFLA, INET6_LINK
from stack.netlink.rt_kinds import KINDS, br_setport, brport_fill, link_kind_of
from stack.tunnel.ip_tunnel import KINDS as TUNNELS

IF_OPER_UNKNOWN, IF_OPER_DOWN, IF_OPER_LOWERLAYERDOWN = 0, 2, 3
IF_OPER_TESTING, IF_OPER_DORMANT, IF_OPER_UP = 4, 5, 6
NOTIFIED = ("IFLA_GROUP", "IFLA_IFALIAS", "IFLA_BROADCAST", "IFLA_AF_SPEC")
"""Changes of these attributes are NETDEV_CHANGE; others have another event, or none."""
SILENT = ("dummy", "ifb", "vxlan", "geneve", *TUNNELS)
"""Kinds that never report a carrier."""
RTEXT_FILTER_SKIP_STATS = 1 << 3
IFLA_BRIDGE_FLAGS, IFLA_BRIDGE_VLAN_INFO, IFLA_BRIDGE_VLAN_TUNNEL_INFO = 0, 2, 3
BRIDGE_FLAGS_MASTER, BRIDGE_FLAGS_SELF = 1, 2
BRIDGE_VLAN_INFO = struct.Struct("=HH")
PROP_ROOM = 2 * NLA_HDRLEN + 128
"""Bytes that another name may need in IFLA_PROP_LIST."""
COUNTERS = tuple(rows_of(rtnl_link_stats64))
STATS64 = struct.Struct(f"={len(COUNTERS)}Q")
STATS = struct.Struct(f"={len(COUNTERS) - 1}I")


# --- attributes of interfaces ------------------------------------------------------------------


def operstate(dev: net_device) -> int:
    """net/core/link_watch.c rfc2863_policy, default_operstate."""
    if not dev.flags & IFF_UP:
        return IF_OPER_DOWN
    if dev.state & LINK_STATE_NOCARRIER:
        lower = dev_get_iflink(dev)
        if lower is not None and lower.net is dev.net and lower.state & LINK_STATE_NOCARRIER:
            return IF_OPER_LOWERLAYERDOWN
        return IF_OPER_DOWN
    ops = dev.rtnl_link_ops
    silent = dev is dev.net.loopback_dev or dev.type == ARPHRD_PIMREG
    silent = silent or (ops is not None and ops.kind in SILENT)
    silent = silent or (ops is not None and ops.kind == "tun" and not dev.carrier_down_count)
    return IF_OPER_UNKNOWN if silent else IF_OPER_UP


def dev_get_iflink(dev: net_device) -> net_device | None:
    """net/core/dev.c: the device below a VLAN, the other end of a veth."""
    row = link_kind_of(dev)
    return row.link(dev) if row is not None and row.link is not None else None


def rtnl_link_fill(dev: net_device) -> dict[str, Any] | None:
    """net/core/rtnetlink.c: IFLA_LINKINFO: the kind, its data, and its master's data."""
    found: dict[str, Any] = {}
    if dev.rtnl_link_ops is not None:
        found["IFLA_INFO_KIND"] = dev.rtnl_link_ops.kind
    row = link_kind_of(dev)
    if row is not None and row.fill_info is not None:
        found["IFLA_INFO_DATA"] = row.policy.build(row.fill_info(dev))
    master = link_kind_of(dev.master) if dev.master is not None else None
    if master is not None and master.fill_slave is not None:
        found["IFLA_INFO_SLAVE_KIND"] = master.kind
        found["IFLA_INFO_SLAVE_DATA"] = master.slave_policy.build(master.fill_slave(dev))
    return found or None


def inet6_fill_ifla6(idev: inet6_dev) -> dict[str, Any]:
    """net/ipv6/addrconf.c inet6_fill_ifla6_attrs: IPv6's part of IFLA_AF_SPEC."""
    parms = idev.nd_parms
    ms = (parms.reachable_time // 10**6, parms.retrans_time // 10**6)
    return {
        "IFLA_INET6_FLAGS": idev.if_flags & 0xFFFFFFFF,
        "IFLA_INET6_CACHEINFO": struct.pack("=IIII", 65535, idev.tstamp // TICK_NS, *ms),
        "IFLA_INET6_TOKEN": idev.nd.token,
        "IFLA_INET6_ADDR_GEN_MODE": idev.cnf.addr_gen_mode,
    }


def af_spec_fill(dev: net_device) -> bytes:
    """IFLA_AF_SPEC: the families' attributes."""
    found: dict[str, Any] = {}
    if dev.ip_ptr is not None:
        found["AF_INET"] = b""
    if dev.ip6_ptr is not None:
        found["AF_INET6"] = inet6_fill_ifla6(dev.ip6_ptr)
    return AF_SPEC.build(found)


def prop_list_fill(dev: net_device) -> bytes | None:
    """net/core/rtnetlink.c rtnl_fill_prop_list: the other names; None: there are none."""
    names = (IFLA.build({"IFLA_ALT_IFNAME": name}) for name in dev.altnames)
    return b"".join(names) or None


def link_addresses(dev: net_device) -> tuple[bytes | None, bytes | None]:
    """IFLA_ADDRESS and IFLA_BROADCAST; None for a link without addresses (dev->addr_len is 0)."""
    if not dev.addr_len and dev is not dev.net.loopback_dev:
        return None, None
    return dev.dev_addr or bytes(ETH_ALEN), dev.broadcast or bytes(ETH_ALEN)


def rtnl_fill_ifinfo(dev: net_device, *, stats: bool = True, change: int = 0) -> bytes:
    """net/core/rtnetlink.c: struct ifinfomsg and the attributes of an interface."""
    lower = dev_get_iflink(dev)
    away = lower is not None and lower.net is not dev.net
    counters = dev_get_stats(dev) if stats else None
    numbers = [getattr(counters, name) for name in COUNTERS] if counters is not None else []
    head = IFINFOMSG.pack(AF_UNSPEC, dev.type, dev.ifindex, dev_get_flags(dev), change)
    qdisc = dev.qdisc_sleeping or dev.qdisc
    bare = dev.type == ARPHRD_PIMREG
    addr, broadcast = link_addresses(dev)
    own = not dev.virtual or dev.priv_flags & IFF_IPVLAN_SLAVE  # NET_ADDR_PERM
    slot = own and any(dev.perm_addr)
    return head + IFLA.build(
        {
            "IFLA_IFNAME": dev.name,
            "IFLA_TXQLEN": dev.tx_queue_len,
            "IFLA_OPERSTATE": operstate(dev),
            "IFLA_LINKMODE": 0,
            "IFLA_MTU": dev.mtu,
            "IFLA_MIN_MTU": dev.min_mtu,
            "IFLA_MAX_MTU": dev.max_mtu,
            "IFLA_GROUP": dev.group,
            "IFLA_PROMISCUITY": dev.promiscuity,
            "IFLA_ALLMULTI": U32.put(dev.allmulti),
            "IFLA_NUM_TX_QUEUES": 1,
            "IFLA_GSO_MAX_SEGS": dev.gso_max_segs,
            "IFLA_GSO_MAX_SIZE": dev.gso_max_size,
            "IFLA_GRO_MAX_SIZE": dev.gro_max_size,
            "IFLA_TSO_MAX_SIZE": U32.put(dev.tso_max_size),
            "IFLA_TSO_MAX_SEGS": U32.put(dev.tso_max_segs),
            "IFLA_NUM_RX_QUEUES": 1,
            "IFLA_CARRIER": int(not dev.state & LINK_STATE_NOCARRIER) if dev.flags & IFF_UP else 0,
            "IFLA_IFALIAS": dev.ifalias + b"\0" if dev.ifalias else None,
            "IFLA_CARRIER_CHANGES": dev.carrier_up_count + dev.carrier_down_count,
            "IFLA_CARRIER_UP_COUNT": dev.carrier_up_count,
            "IFLA_CARRIER_DOWN_COUNT": dev.carrier_down_count,
            "IFLA_PROTO_DOWN": 0,
            "IFLA_ADDRESS": addr,
            "IFLA_BROADCAST": broadcast,
            "IFLA_STATS64": STATS64.pack(*numbers) if stats else None,
            "IFLA_STATS": STATS.pack(*(n & 0xFFFFFFFF for n in numbers[:-1])) if stats else None,
            "IFLA_XDP": {"IFLA_XDP_ATTACHED": 0},
            "IFLA_LINKINFO": rtnl_link_fill(dev),
            "IFLA_LINK": lower.ifindex if lower is not None else (0 if bare else None),
            "IFLA_LINK_NETNSID": 0 if away else None,
            "IFLA_MASTER": dev.master.ifindex if dev.master is not None else None,
            "IFLA_QDISC": qdisc.kind,
            "IFLA_AF_SPEC": af_spec_fill(dev),
            "IFLA_MAP": bytes(32),
            "IFLA_PERM_ADDRESS": dev.perm_addr if slot else None,
            "IFLA_PROP_LIST": prop_list_fill(dev),
        }
    )


# --- lookup -------------------------------------------------------------------------------------


def header(nlh: nlmsg, code: struct.Struct, what: str = "") -> tuple[int, ...]:
    """The structure after the header. Raises: NlError EINVAL: truncated."""
    if len(nlh.whole) < NLMSG_HDRLEN + code.size:
        raise NlError(errno.EINVAL, what or "Invalid header length")
    return code.unpack_from(nlh.whole, NLMSG_HDRLEN)


def nlmsg_parse(
    nlh: nlmsg, code: struct.Struct, table: AttrTable, validate: int = LIBERAL
) -> tuple[tuple[int, ...], Attrs]:
    """include/net/netlink.h: the structure after the header, and the attributes after it.

    Raises: NlError EINVAL, ERANGE.
    """
    values = header(nlh, code)
    return values, table.parse(nlh.whole, NLMSG_HDRLEN + code.size, validate)


def device_of(net: Net, index: int, text: str = "") -> net_device:
    """The interface that a request names. Raises: NlError ENODEV."""
    dev = net.dev_by_index.get(index)
    if dev is None:
        raise NlError(errno.ENODEV, text)
    return dev


def only(tb: Attrs, known: Container[str], text: str) -> None:
    """Refuse attributes that are not `known`. Raises: NlError EINVAL."""
    for name in tb:
        if name not in known:
            raise NlError(errno.EINVAL, text)


def for_each_netdev_dump(nlh: nlmsg) -> list[net_device]:
    """include/linux/netdevice.h: the interfaces of the requester, by index."""
    return sorted(nlh.sk.net.dev_base_head, key=lambda dev: dev.ifindex)


def find_link(net: Net, index: int, tb: Attrs) -> net_device:
    """__dev_get_by_index, or rtnl_dev_get. Raises: NlError EINVAL, ENODEV."""
    if index > 0:
        dev = net.dev_by_index.get(index)
    else:
        name = tb.get("IFLA_IFNAME", tb.get("IFLA_ALT_IFNAME"))
        if name is None:
            raise NlError(errno.EINVAL)
        dev = net.dev_by_name.get(name)
    if dev is None:
        raise NlError(errno.ENODEV)
    return dev


def one_netns(tb: Attrs) -> None:
    """net/core/rtnetlink.c rtnl_ensure_unique_netns: a request must be about its own namespace.

    Raises: NlError EOPNOTSUPP.
    """
    for name in ("IFLA_NET_NS_PID", "IFLA_NET_NS_FD"):
        if name in tb:
            raise NlError(errno.EOPNOTSUPP, "specified netns attribute not supported")


def rtnl_getlink(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_GETLINK of one interface."""
    sk = nlh.sk
    what = "get link request"
    _, kind, index, flags, change = header(nlh, IFINFOMSG, "Invalid header for get link")
    tb = IFLA.parse(nlh.whole, NLMSG_HDRLEN + 16, DEPRECATED_STRICT if sk.strict_chk else LIBERAL)
    if sk.strict_chk:
        if kind or flags or change:
            raise NlError(errno.EINVAL, f"Invalid values in header for {what}")
        known = ("IFLA_IFNAME", "IFLA_ALT_IFNAME", "IFLA_EXT_MASK", "IFLA_TARGET_NETNSID")
        only(tb, known, f"Unsupported attribute in {what}")
    one_netns(tb)
    dev = find_link(sk.net, index, tb)
    stats = not tb.get("IFLA_EXT_MASK", 0) & RTEXT_FILTER_SKIP_STATS
    netlink_reply(nlh, RTM_NEWLINK, rtnl_fill_ifinfo(dev, stats=stats))


def rtnl_dump_ifinfo(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/rtnetlink.c: RTM_GETLINK of all, or of those of a master or kind."""
    tb = Attrs()
    if nlh.sk.strict_chk:
        what = "link dump"
        _, kind, index, flags, change = header(nlh, IFINFOMSG, f"Invalid header for {what}")
        if kind or flags or change:
            raise NlError(errno.EINVAL, f"Invalid values in header for {what} request")
        if index:
            raise NlError(errno.EINVAL, f"Filter by device index not supported for {what}s")
        tb = IFLA.parse(nlh.whole, NLMSG_HDRLEN + 16, DEPRECATED_STRICT)
        known = ("IFLA_TARGET_NETNSID", "IFLA_EXT_MASK", "IFLA_MASTER", "IFLA_LINKINFO")
        only(tb, known, f"Unsupported attribute in {what} request")
    else:
        # Old programs send arbitrary headers.
        with contextlib.suppress(NlError):
            header(nlh, IFINFOMSG)
            tb = IFLA.parse(nlh.whole, NLMSG_HDRLEN + 16)
    if "IFLA_TARGET_NETNSID" in tb:
        raise NlError(errno.EINVAL, "Invalid target network namespace id")
    stats = not tb.get("IFLA_EXT_MASK", 0) & RTEXT_FILTER_SKIP_STATS
    master = tb.get("IFLA_MASTER", 0)
    wanted = tb.get("IFLA_LINKINFO", {}).get("IFLA_INFO_KIND")
    wanted = wanted if wanted in KINDS else None
    answer = NLM_F_DUMP_FILTERED if master or wanted is not None else 0
    for dev in for_each_netdev_dump(nlh):
        ops = dev.rtnl_link_ops
        if master and (dev.master is None or dev.master.ifindex != master):
            continue
        if wanted is not None and (ops is None or ops.kind != wanted):
            continue
        yield nlmsg_part(nlh, RTM_NEWLINK, rtnl_fill_ifinfo(dev, stats=stats), answer)


def inet6_dump_ifinfo(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv6/addrconf.c: RTM_GETLINK of AF_INET6."""
    if nlh.sk.strict_chk:
        _, *values = header(nlh, IFINFOMSG, "ipv6: Invalid header for link dump request")
        if len(nlh.payload) > IFINFOMSG.size:
            raise NlError(errno.EINVAL, "ipv6: Invalid data after header")
        if any(values):
            raise NlError(errno.EINVAL, "ipv6: Invalid values in header for dump request")
    for dev in for_each_netdev_dump(nlh):
        idev: inet6_dev | None = dev.ip6_ptr
        if idev is None:
            continue
        lower = dev_get_iflink(dev)
        found = inet6_fill_ifla6(idev)
        info = IFLA.build(
            {
                "IFLA_IFNAME": dev.name,
                "IFLA_ADDRESS": link_addresses(dev)[0],
                "IFLA_MTU": dev.mtu,
                "IFLA_LINK": lower.ifindex if lower is not None else None,
                "IFLA_OPERSTATE": operstate(dev),
            }
        )
        # This family's nested attributes have no NLA_F_NESTED.
        info += nest(IFLA.by_name["IFLA_PROTINFO"].number, INET6_LINK.build(found))
        head = IFINFOMSG.pack(AF_INET6, dev.type, dev.ifindex, dev_get_flags(dev), 0)
        yield nlmsg_part(nlh, RTM_NEWLINK, head + info)


def rtnl_bridge_getlink(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/rtnetlink.c: RTM_GETLINK of AF_BRIDGE: the bridges and their ports."""
    for dev in for_each_netdev_dump(nlh):
        p = br_port_get(dev)
        if p is not None:
            yield nlmsg_part(nlh, RTM_NEWLINK, br_fill_ifinfo(dev, p))


def br_fill_ifinfo(dev: net_device, p: net_bridge_port, event: int = RTM_NEWLINK) -> bytes:
    """net/bridge/br_netlink.c: a port for `bridge link`; a removed one has no state."""
    lower = dev_get_iflink(dev)
    head = IFINFOMSG.pack(AF_BRIDGE, dev.type, dev.ifindex, dev_get_flags(dev), 0)
    return head + IFLA.build(
        {
            "IFLA_IFNAME": dev.name,
            "IFLA_MASTER": p.br.dev.ifindex,
            "IFLA_MTU": dev.mtu,
            "IFLA_OPERSTATE": operstate(dev),
            "IFLA_ADDRESS": dev.dev_addr,
            "IFLA_LINK": lower.ifindex if lower is not None else None,
            "IFLA_PROTINFO": BRPORT.build(brport_fill(dev)) if event == RTM_NEWLINK else None,
        }
    )


# --- changing -----------------------------------------------------------------------------------


def validate_linkmsg(dev: net_device, tb: Attrs) -> None:
    """net/core/rtnetlink.c: reject what this interface does not support, before any change.

    Raises: NlError EINVAL, EOPNOTSUPP.
    """
    for name in ("IFLA_ADDRESS", "IFLA_BROADCAST"):
        if len(tb.get(name, dev.dev_addr)) < dev.addr_len:
            raise NlError(errno.EINVAL)
    if "IFLA_AF_SPEC" in tb and dev.ip6_ptr is not None:
        spec = AF_SPEC.parse(tb["IFLA_AF_SPEC"]).get("AF_INET6", {})
        mode = spec.get("IFLA_INET6_ADDR_GEN_MODE", 0)
        if mode > 3 or (mode == 2 and not stable_secret(dev.ip6_ptr)):
            raise NlError(errno.EINVAL)
    for name, most in (
        ("IFLA_GSO_MAX_SIZE", dev.tso_max_size),
        ("IFLA_GSO_MAX_SEGS", dev.tso_max_segs),
        ("IFLA_GRO_MAX_SIZE", GSO_MAX_SIZE),
    ):
        if tb.get(name, 0) > most:
            raise NlError(errno.EINVAL, f"too big {name[5:].lower()}")
    for name in ("IFLA_GSO_IPV4_MAX_SIZE", "IFLA_GRO_IPV4_MAX_SIZE"):
        if name in tb:
            raise tb.wrong(name, "What holds for IPv6 holds for IPv4", errno.EOPNOTSUPP)
    if tb.get("IFLA_XDP", {}).get("IFLA_XDP_FD", -1) >= 0:
        raise NlError(errno.EOPNOTSUPP, f"{dev.name} runs no XDP programs")
    if "IFLA_MAP" in tb:
        raise tb.wrong("IFLA_MAP", "IFLA_MAP is not supported", errno.EOPNOTSUPP)
    if tb.get("IFLA_LINKMODE") or tb.get("IFLA_OPERSTATE") in (IF_OPER_TESTING, IF_OPER_DORMANT):
        raise NlError(errno.EOPNOTSUPP, f"{dev.name} is never dormant or tested")


def do_setlink(dev: net_device, flags: int, mask: int, tb: Attrs) -> None:
    """net/core/rtnetlink.c: apply the request's changes, in the kernel's order.

    Raises: OSError EOPNOTSUPP, an attribute that is not supported; others of each change.
    """
    validate_linkmsg(dev, tb)
    if "IFLA_ADDRESS" in tb:
        addr = tb["IFLA_ADDRESS"][: dev.addr_len]
        check(dev_set_mac_address(dev, addr), f"{dev.name}: address")
    if "IFLA_MTU" in tb:
        if tb["IFLA_MTU"] < dev.min_mtu:
            raise NlError(errno.EINVAL, "mtu less than device minimum")
        if dev.max_mtu and tb["IFLA_MTU"] > dev.max_mtu:
            raise NlError(errno.EINVAL, "mtu greater than device maximum")
        check(dev_set_mtu(dev, tb["IFLA_MTU"]), f"{dev.name}: mtu {tb['IFLA_MTU']}")
    if "IFLA_GROUP" in tb:
        dev.group = tb["IFLA_GROUP"]
    if tb.get("IFLA_IFNAME") and tb["IFLA_IFNAME"] != dev.name:
        check(dev_change_name(dev, tb["IFLA_IFNAME"]), f"{dev.name}: name {tb['IFLA_IFNAME']}")
    if "IFLA_IFALIAS" in tb:
        dev.ifalias = tb["IFLA_IFALIAS"].partition(b"\0")[0]
    if "IFLA_BROADCAST" in tb:
        dev.broadcast = tb["IFLA_BROADCAST"][: dev.addr_len]
    if "IFLA_MASTER" in tb:
        do_set_master(dev, tb["IFLA_MASTER"])
    if flags or mask:
        keep = dev_get_flags(dev) & ~mask if mask else 0
        check(dev_change_flags(dev, keep | (flags & mask if mask else flags)), dev.name)
    if "IFLA_CARRIER" in tb:
        check(dev_change_carrier(dev, bool(tb["IFLA_CARRIER"])), f"{dev.name}: carrier")
    if "IFLA_TXQLEN" in tb:
        dev.tx_queue_len = tb["IFLA_TXQLEN"]
    dev.gso_max_size = tb.get("IFLA_GSO_MAX_SIZE", dev.gso_max_size)
    dev.gso_max_segs = tb.get("IFLA_GSO_MAX_SEGS", dev.gso_max_segs)
    if "IFLA_GRO_MAX_SIZE" in tb:
        netif_set_gro_max_size(dev, tb["IFLA_GRO_MAX_SIZE"])
    if tb.get("IFLA_VFINFO_LIST"):
        raise NlError(errno.EOPNOTSUPP, f"{dev.name} has no virtual functions")
    if "IFLA_AF_SPEC" in tb:
        do_set_af_spec(dev, tb)
    if "IFLA_PROTO_DOWN" in tb or "IFLA_PROTO_DOWN_REASON" in tb:
        raise NlError(errno.EOPNOTSUPP, "Protodown not supported by device")
    if not tb.keys().isdisjoint(NOTIFIED):
        netdev_state_change(dev)


def do_set_master(dev: net_device, index: int) -> None:
    """net/core/rtnetlink.c: set a master, such as a bridge, in place of another; 0: none."""
    if dev.master is not None:
        if index == dev.master.ifindex:
            return
        row = link_kind_of(dev.master)
        if row is None or row.del_slave is None:
            raise os_error(errno.EOPNOTSUPP, f"{dev.master.name} releases no ports")
        check(row.del_slave(dev.master, dev), f"{dev.name}: nomaster")
    if index:
        master = dev.net.dev_by_index.get(index)
        if master is None:
            raise NlError(errno.EINVAL)
        row = link_kind_of(master)
        if row is None or row.add_slave is None:
            raise os_error(errno.EOPNOTSUPP, f"{master.name} takes no ports")
        check(row.add_slave(master, dev), f"{dev.name}: master {master.name}")


def do_set_af_spec(dev: net_device, tb: Attrs) -> None:
    """net/ipv6/addrconf.c inet6_set_link_af: how link-local addresses are made, and the token of
    those of SLAAC."""
    spec = AF_SPEC.parse(tb["IFLA_AF_SPEC"]).get("AF_INET6", {})
    mode, token = spec.get("IFLA_INET6_ADDR_GEN_MODE"), spec.get("IFLA_INET6_TOKEN")
    if mode is None and token is None:
        return
    if dev.ip6_ptr is None:
        raise os_error(errno.EAFNOSUPPORT, f"{dev.name} has no IPv6")
    if token is not None:
        inet6_set_iftoken(dev.ip6_ptr, token)
    if mode is not None:
        dev.ip6_ptr.cnf.addr_gen_mode = mode


def no_namespaces(tb: Attrs) -> None:
    """Refuse another namespace: processes and descriptors have no host. Raises: NlError."""
    if "IFLA_NET_NS_PID" in tb:
        raise NlError(errno.ESRCH)
    if "IFLA_NET_NS_FD" in tb:
        raise NlError(errno.EBADF)


def rtnl_setlink(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_SETLINK."""
    (_, _, index, flags, mask), tb = nlmsg_parse(nlh, IFINFOMSG, IFLA)
    no_namespaces(tb)
    do_setlink(find_link(nlh.sk.net, index, tb), flags, mask, tb)


def bridge_request(nlh: nlmsg) -> tuple[net_device, Attrs, dict[int, bytes]]:
    """RTM_SETLINK, RTM_DELLINK of AF_BRIDGE: the port or bridge, and IFLA_AF_SPEC by IFLA_BRIDGE_*.

    Raises: NlError ENODEV; EOPNOTSUPP, no port of a bridge, no bridge; EINVAL, no such VLAN.
    """
    _, _, index, _, _ = header(nlh, IFINFOMSG)
    dev = device_of(nlh.sk.net, index, "unknown ifindex")
    tb = IFLA.parse(nlh.whole, NLMSG_HDRLEN + 16)
    data = tb.get("IFLA_AF_SPEC", b"")
    each = nla_for_each(data)
    spec = {kind & NLA_TYPE_MASK: data[at + NLA_HDRLEN : end] for kind, at, end in each}
    flags = int.from_bytes(spec.get(IFLA_BRIDGE_FLAGS, b"")[:2], byteorder)
    if (not flags or flags & BRIDGE_FLAGS_MASTER) and br_port_get(dev) is None:
        raise NlError(errno.EOPNOTSUPP)
    if flags & BRIDGE_FLAGS_SELF and not netif_is_bridge_master(dev):
        raise NlError(errno.EOPNOTSUPP)
    vlan = spec.get(IFLA_BRIDGE_VLAN_INFO, BRIDGE_VLAN_INFO.pack(0, 1))
    if len(vlan) != 4 or not 0 < BRIDGE_VLAN_INFO.unpack(vlan)[1] < VLAN_VID_MASK:
        text = "bridge: Vlan id is invalid" if nlh.type == RTM_SETLINK else ""
        raise NlError(errno.EINVAL, text)
    return dev, tb, spec


def rtnl_bridge_setlink(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_SETLINK of AF_BRIDGE: the switches and state of a port."""
    dev, tb, spec = bridge_request(nlh)
    if "IFLA_PROTINFO" in tb and br_port_get(dev) is not None:
        br_setport(dev, BRPORT.parse(tb["IFLA_PROTINFO"]))
    if IFLA_BRIDGE_VLAN_INFO in spec or IFLA_BRIDGE_VLAN_TUNNEL_INFO in spec:
        raise NlError(errno.EOPNOTSUPP)  # bridges have no VLANs here


def rtnl_bridge_dellink(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_DELLINK of AF_BRIDGE: VLANs of a port, of which there are none."""
    bridge_request(nlh)


def rtnl_linkprop(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_NEWLINKPROP, RTM_DELLINKPROP: other names of an interface."""
    (_, _, index, _, _), tb = nlmsg_parse(nlh, IFINFOMSG, IFLA, STRICT)
    one_netns(tb)
    dev = find_link(nlh.sk.net, index, tb)
    new = nlh.type == RTM_NEWLINKPROP
    change = netdev_name_node_alt_create if new else netdev_name_node_alt_destroy
    row = IFLA.by_name["IFLA_ALT_IFNAME"]
    changed = False
    for kind, at, end in nla_for_each(tb.get("IFLA_PROP_LIST", b"")):
        if kind & NLA_TYPE_MASK != row.number:
            continue
        payload = tb["IFLA_PROP_LIST"][at + NLA_HDRLEN : end]
        if not row.fits(payload):
            raise NlError(errno.ERANGE, FAILED, tb.span("IFLA_PROP_LIST")[0] + at)
        if new and len(prop_list_fill(dev) or b"") + PROP_ROOM > 0xFFFF:
            raise NlError(errno.EINVAL, "effective property list too long")
        check(change(dev, row.type.get(payload)))
        changed = True
    if changed:
        netdev_state_change(dev)


def rtnl_group_dellink(net: Net, group: int) -> None:
    """net/core/rtnetlink.c: `ip link del group`, delete all or none of a group."""
    if not group:
        raise NlError(errno.EPERM)
    devices = [dev for dev in net.dev_base_head if dev.group == group]
    if any(dev.rtnl_link_ops is None for dev in devices):
        raise NlError(errno.EOPNOTSUPP)
    if not devices:
        raise NlError(errno.ENODEV)
    for dev in devices:
        if dev in net.dev_base_head:  # it was not deleted with another
            check(rtnl_delete_link(dev))


def rtnl_dellink(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: RTM_DELLINK."""
    (_, _, index, _, _), tb = nlmsg_parse(nlh, IFINFOMSG, IFLA)
    one_netns(tb)
    if index <= 0 and "IFLA_GROUP" in tb and not {"IFLA_IFNAME", "IFLA_ALT_IFNAME"} & tb.keys():
        rtnl_group_dellink(nlh.sk.net, tb["IFLA_GROUP"])
        return
    dev = find_link(nlh.sk.net, index, tb)
    echo = rtnl_fill_ifinfo(dev, change=0xFFFFFFFF) if nlh.flags & NLM_F_ECHO else None
    check(rtnl_delete_link(dev), f"{dev.name} cannot be deleted")
    if echo is not None:
        netlink_reply(nlh, RTM_DELLINK, echo)
