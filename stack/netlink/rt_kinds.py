"""net/core/rtnetlink.c: the kinds of software devices, one row each.

A row has a kind's functions for RTM_NEWLINK, RTM_GETLINK and IFLA_MASTER, as rtnl_link_ops does:

    policy          the attributes of IFLA_INFO_DATA
    validate        check a request, before any look-up
    newlink         create the device; the caller sets the common attributes
    changelink      `ip link set DEV type KIND ...`; None: refused
    fill_info       the values of IFLA_INFO_DATA, in the kernel's order
    link            the device of IFLA_LINK
    add_slave, del_slave, fill_slave, slave_policy, slave_changelink    of masters of others

Devices have `rtnl_link_ops.dellink` themselves. Read KINDS first.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.bridge.br_fdb import br_fdb_delete_by_port, br_fdb_flush, br_gc_value
from stack.bridge.br_if import br_add_bridge, br_add_if, br_del_if, br_link_ops
from stack.bridge.br_ioctl import br_ioctl_stub
from stack.bridge.br_multicast import br_multicast_set_port_router
from stack.bridge.br_private import (
    BR_BCAST_FLOOD,
    BR_BPDU_GUARD,
    BR_FLOOD,
    BR_GROUPFWD_RESTRICTED,
    BR_HAIRPIN_MODE,
    BR_ISOLATED,
    BR_LEARNING,
    BR_MCAST_FLOOD,
    BR_MULTICAST_FAST_LEAVE,
    BR_ROOT_BLOCK,
    br_port_get,
    net_bridge,
)
from stack.bridge.br_stp import br_ifinfo_notify
from stack.bridge.br_stp_if import (
    br_set_ageing_time,
    br_set_forward_delay,
    br_set_hello_time,
    br_set_max_age,
    br_set_port_state,
    br_stp_set_bridge_priority,
    br_stp_set_enabled,
    br_stp_set_path_cost,
    br_stp_set_port_priority,
)
from stack.core.dev import dev_set_mtu
from stack.core.dev_ioctl import brioctl_set
from stack.core.errors import os_error
from stack.core.l3mdev import l3mdev_fib_table, netif_is_l3_master
from stack.core.netdevice import (
    ETH_ALEN,
    ETH_MAX_MTU,
    ETH_MIN_MTU,
    ETH_P_8021AD,
    ETH_P_8021Q,
    VLAN_VID_MASK,
    net_device,
)
from stack.core.time64 import TICK_NS
from stack.drivers.dummy import dummy_link_ops, dummy_newlink
from stack.drivers.ifb import ifb_link_ops, ifb_newlink
from stack.drivers.tun import (
    IFF_MULTI_QUEUE,
    IFF_NO_PI,
    IFF_PERSIST,
    IFF_VNET_HDR,
    INVALID_ID,
    TUN_TYPE_MASK,
    tun_link_ops,
    tun_struct,
)
from stack.drivers.veth import veth_link_ops, veth_newlink
from stack.drivers.vrf import (
    vrf_add_slave,
    vrf_del_slave,
    vrf_link_ops,
    vrf_newlink,
    vrf_table_taken,
)
from stack.ethernet.eth import is_link_local_ether_addr
from stack.net import Net
from stack.netlink.nlattr import U32, Attrs, NlError
from stack.netlink.rt_attrs import (
    BR,
    BRPORT,
    IFINFOMSG,
    IFLA,
    TUN,
    VETH,
    VLAN,
    VRF,
    VRF_PORT,
)
from stack.netlink.rt_bond import BOND_ROW
from stack.netlink.rt_br_mcast import br_mcast_changelink, br_mcast_fill_info, ticks_left
from stack.netlink.rt_geneve import GENEVE_ROW
from stack.netlink.rt_ipvlan import IPVLAN_ROW
from stack.netlink.rt_kind_row import (
    link_kind,
    link_name,
    lower_link,
    validate_address,
    validate_ether,
)
from stack.netlink.rt_macvlan import MACVLAN_ROW
from stack.netlink.rt_tunnels import TUNNEL_ROWS
from stack.netlink.rt_vxlan import VXLAN_ROW
from stack.vlan.vlan import vlan_link_ops, vlan_newlink
from stack.vlan.vlan_dev import VLAN_FLAG_REORDER_HDR, vlan_dev_priv

VLAN_FLAGS = struct.Struct("=II")
VLAN_FLAGS_KNOWN = 0x1F
PORT_FLAGS = {
    "IFLA_BRPORT_MODE": BR_HAIRPIN_MODE,
    "IFLA_BRPORT_GUARD": BR_BPDU_GUARD,
    "IFLA_BRPORT_PROTECT": BR_ROOT_BLOCK,
    "IFLA_BRPORT_FAST_LEAVE": BR_MULTICAST_FAST_LEAVE,
    "IFLA_BRPORT_LEARNING": BR_LEARNING,
    "IFLA_BRPORT_UNICAST_FLOOD": BR_FLOOD,
    "IFLA_BRPORT_MCAST_FLOOD": BR_MCAST_FLOOD,
    "IFLA_BRPORT_BCAST_FLOOD": BR_BCAST_FLOOD,
    "IFLA_BRPORT_ISOLATED": BR_ISOLATED,
}
# --- dummy, ifb, veth -----------------------------------------------------------------------------


def dummy_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """drivers/net/dummy.c."""
    return dummy_newlink(net, link_name(tb, "dummy"), tb.get("IFLA_ADDRESS"))


def ifb_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """drivers/net/ifb.c."""
    return ifb_newlink(net, link_name(tb, "ifb"), tb.get("IFLA_ADDRESS"))


def veth_validate(tb: Attrs, data: Attrs | None) -> None:
    """drivers/net/veth.c: the address and the MTU."""
    validate_ether(tb, data)
    if not ETH_MIN_MTU <= tb.get("IFLA_MTU", ETH_MIN_MTU) <= ETH_MAX_MTU:
        raise NlError(errno.EINVAL)


def veth_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """drivers/net/veth.c veth_newlink: both ends, in one namespace."""
    peer = Attrs()
    if "VETH_INFO_PEER" in data:
        peer = IFLA.parse(data["VETH_INFO_PEER"], IFINFOMSG.size)
        veth_validate(peer, None)
    name, other = link_name(tb, "veth"), link_name(peer, "veth")
    macs = tb.get("IFLA_ADDRESS"), peer.get("IFLA_ADDRESS")
    dev = veth_newlink(net, name, net, other, *macs)
    end: net_device = dev.priv.peer
    if "IFLA_MTU" in peer:
        err = dev_set_mtu(end, peer["IFLA_MTU"])
        if err:
            veth_link_ops.dellink(dev)
            raise os_error(-err, f"{end.name}: mtu")
    return dev


def veth_link(dev: net_device) -> net_device | None:
    """drivers/net/veth.c veth_get_iflink: the other end."""
    return dev.priv.peer if dev.priv is not None else None


# --- bridge ---------------------------------------------------------------------------------------


def br_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """net/bridge/br_netlink.c br_dev_newlink."""
    name = link_name(tb, "bridge")
    if not ETH_MIN_MTU <= tb.get("IFLA_MTU", ETH_MIN_MTU) <= ETH_MAX_MTU:  # rtnl_create_link
        raise NlError(errno.EINVAL)
    dev = br_add_bridge(net, name, tb.get("IFLA_ADDRESS"))
    try:
        br_changelink(dev, tb, data)
    except OSError:
        br_link_ops.dellink(dev)
        raise
    return dev


BR_TIMES = {
    "IFLA_BR_FORWARD_DELAY": br_set_forward_delay,
    "IFLA_BR_HELLO_TIME": br_set_hello_time,
    "IFLA_BR_MAX_AGE": br_set_max_age,
    "IFLA_BR_AGEING_TIME": br_set_ageing_time,
}


def br_changelink(dev: net_device, tb: Attrs, data: Attrs) -> None:
    """net/bridge/br_netlink.c. Raises: NlError."""
    br: net_bridge = dev.priv
    for name, setter in BR_TIMES.items():
        if name in data:
            err = setter(br, data[name] * TICK_NS)
            if err:
                raise NlError(-err)
    if "IFLA_BR_STP_STATE" in data:
        br_stp_set_enabled(br, bool(data["IFLA_BR_STP_STATE"]))
    if "IFLA_BR_PRIORITY" in data:
        br_stp_set_bridge_priority(br, data["IFLA_BR_PRIORITY"])
    if "IFLA_BR_GROUP_FWD_MASK" in data:
        if data["IFLA_BR_GROUP_FWD_MASK"] & BR_GROUPFWD_RESTRICTED:
            raise NlError(errno.EINVAL)
        br.group_fwd_mask = data["IFLA_BR_GROUP_FWD_MASK"]
    if "IFLA_BR_GROUP_ADDR" in data:
        addr = data["IFLA_BR_GROUP_ADDR"]
        if len(addr) != ETH_ALEN or not is_link_local_ether_addr(addr) or addr[5] in (1, 2, 3):
            raise NlError(errno.EINVAL)
        br.group_addr = addr
    if "IFLA_BR_FDB_FLUSH" in data:
        br_fdb_flush(br)
    if "IFLA_BR_FDB_MAX_LEARNED" in data:
        br.fdb_max_learned = data["IFLA_BR_FDB_MAX_LEARNED"]
    br_mcast_changelink(br, data)


def br_fill_info(dev: net_device) -> dict[str, Any]:
    """net/bridge/br_netlink.c."""
    br: net_bridge = dev.priv
    return {
        "IFLA_BR_HELLO_TIMER": ticks_left(br.hello_timer),
        "IFLA_BR_TCN_TIMER": ticks_left(br.tcn_timer),
        "IFLA_BR_TOPOLOGY_CHANGE_TIMER": ticks_left(br.topology_change_timer),
        "IFLA_BR_GC_TIMER": br_gc_value(br) // TICK_NS,
        "IFLA_BR_FORWARD_DELAY": br.forward_delay // TICK_NS,
        "IFLA_BR_HELLO_TIME": br.hello_time // TICK_NS,
        "IFLA_BR_MAX_AGE": br.max_age // TICK_NS,
        "IFLA_BR_AGEING_TIME": br.ageing_time // TICK_NS,
        "IFLA_BR_STP_STATE": br.stp_enabled,
        "IFLA_BR_PRIORITY": int.from_bytes(br.bridge_id[:2], "big"),
        "IFLA_BR_GROUP_FWD_MASK": br.group_fwd_mask,
        "IFLA_BR_BRIDGE_ID": br.bridge_id,
        "IFLA_BR_ROOT_ID": br.designated_root,
        "IFLA_BR_ROOT_PORT": br.root_port,
        "IFLA_BR_ROOT_PATH_COST": br.root_path_cost,
        "IFLA_BR_TOPOLOGY_CHANGE": int(br.topology_change),
        "IFLA_BR_TOPOLOGY_CHANGE_DETECTED": int(br.topology_change_detected),
        "IFLA_BR_GROUP_ADDR": br.group_addr,
        "IFLA_BR_FDB_MAX_LEARNED": br.fdb_max_learned,
        **br_mcast_fill_info(br),
    }


def br_add_slave(master: net_device, dev: net_device) -> int:
    """net/bridge/br_device.c."""
    return br_add_if(master.priv, dev)


def br_del_slave(master: net_device, dev: net_device) -> int:
    """net/bridge/br_device.c."""
    return br_del_if(master.priv, dev)


def brport_fill(dev: net_device) -> dict[str, Any]:
    """net/bridge/br_netlink.c br_port_fill_attrs."""
    p = br_port_get(dev)
    assert p is not None
    return {
        "IFLA_BRPORT_STATE": p.state,
        "IFLA_BRPORT_PRIORITY": p.priority,
        "IFLA_BRPORT_COST": p.path_cost,
        **{name: int(bool(p.flags & bit)) for name, bit in PORT_FLAGS.items()},
        "IFLA_BRPORT_ROOT_ID": p.designated_root,
        "IFLA_BRPORT_BRIDGE_ID": p.designated_bridge,
        "IFLA_BRPORT_DESIGNATED_PORT": p.designated_port,
        "IFLA_BRPORT_DESIGNATED_COST": p.designated_cost & 0xFFFF,
        "IFLA_BRPORT_ID": p.port_id,
        "IFLA_BRPORT_NO": p.port_no,
        "IFLA_BRPORT_TOPOLOGY_CHANGE_ACK": int(p.topology_change_ack),
        "IFLA_BRPORT_CONFIG_PENDING": int(p.config_pending),
        "IFLA_BRPORT_GROUP_FWD_MASK": p.group_fwd_mask,
        "IFLA_BRPORT_MESSAGE_AGE_TIMER": ticks_left(p.message_age_timer),
        "IFLA_BRPORT_FORWARD_DELAY_TIMER": ticks_left(p.forward_delay_timer),
        "IFLA_BRPORT_HOLD_TIMER": ticks_left(p.hold_timer),
        "IFLA_BRPORT_MULTICAST_ROUTER": p.multicast_router,
        "IFLA_BRPORT_MCAST_N_GROUPS": U32.put(p.mdb_n_entries),
        "IFLA_BRPORT_MCAST_MAX_GROUPS": p.mdb_max_entries,
    }


PORT_SETTERS = {
    "IFLA_BRPORT_COST": br_stp_set_path_cost,
    "IFLA_BRPORT_PRIORITY": br_stp_set_port_priority,
    "IFLA_BRPORT_STATE": br_set_port_state,
    "IFLA_BRPORT_MULTICAST_ROUTER": br_multicast_set_port_router,
}


def br_setport(dev: net_device, given: Attrs) -> None:
    """net/bridge/br_netlink.c: switches, cost, priority and state of a port. Raises: OSError."""
    p = br_port_get(dev)
    assert p is not None
    for name, bit in PORT_FLAGS.items():
        if name in given:
            p.flags = p.flags | bit if given[name] else p.flags & ~bit
    for name, setter in PORT_SETTERS.items():
        if name in given:
            err = setter(p, given[name])
            if err:
                what = name.removeprefix("IFLA_BRPORT_").lower()
                raise os_error(-err, f"{dev.name}: {what}")
    if "IFLA_BRPORT_MCAST_MAX_GROUPS" in given:
        p.mdb_max_entries = given["IFLA_BRPORT_MCAST_MAX_GROUPS"]
    if "IFLA_BRPORT_FLUSH" in given:
        br_fdb_delete_by_port(p.br, p, False)
    br_ifinfo_notify(p)


brioctl_set(br_ioctl_stub)

# --- vlan -----------------------------------------------------------------------------------------


def vlan_validate(tb: Attrs, data: Attrs | None) -> None:
    """net/8021q/vlan_netlink.c."""
    text = "8021q: Invalid link address"
    validate_address(tb, text, text)
    if data is None:
        raise NlError(errno.EINVAL, "8021q: VLAN properties not specified")
    if data.get("IFLA_VLAN_PROTOCOL", ETH_P_8021Q) not in (ETH_P_8021Q, ETH_P_8021AD):
        raise NlError(errno.EPROTONOSUPPORT, "8021q: Invalid VLAN protocol")
    if data.get("IFLA_VLAN_ID", 0) >= VLAN_VID_MASK:
        raise NlError(errno.ERANGE, "8021q: Invalid VLAN id")
    if "IFLA_VLAN_FLAGS" in data:
        value, mask = VLAN_FLAGS.unpack_from(data["IFLA_VLAN_FLAGS"])
        if value & mask & ~VLAN_FLAGS_KNOWN:
            raise NlError(errno.EINVAL, "8021q: Invalid VLAN flags")


def vlan_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """net/8021q/vlan_netlink.c vlan_newlink."""
    if "IFLA_VLAN_ID" not in data:
        raise NlError(errno.EINVAL, "8021q: VLAN id not specified")
    real = lower_link(net, tb, "8021q: link not specified", "8021q: link does not exist")
    flags = VLAN_FLAG_REORDER_HDR
    if "IFLA_VLAN_FLAGS" in data:
        value, mask = VLAN_FLAGS.unpack_from(data["IFLA_VLAN_FLAGS"])
        flags = flags & ~mask | value & mask
    name = link_name(tb, f"{real.name}.{data['IFLA_VLAN_ID']}".replace("%", ""))
    name = name.removesuffix("%d") if "IFLA_IFNAME" not in tb else name
    proto = data.get("IFLA_VLAN_PROTOCOL", ETH_P_8021Q)
    mtu, mac = tb.get("IFLA_MTU", 0), tb.get("IFLA_ADDRESS")
    return vlan_newlink(net, name, real, data["IFLA_VLAN_ID"], proto, flags, mtu, mac)


def vlan_changelink(dev: net_device, tb: Attrs, data: Attrs) -> None:
    """net/8021q/vlan_netlink.c: the flags of a VLAN."""
    vlan: vlan_dev_priv = dev.priv
    if "IFLA_VLAN_FLAGS" in data:
        value, mask = VLAN_FLAGS.unpack_from(data["IFLA_VLAN_FLAGS"])
        vlan.flags = vlan.flags & ~mask | value & mask


def vlan_fill_info(dev: net_device) -> dict[str, Any]:
    """net/8021q/vlan_netlink.c."""
    vlan: vlan_dev_priv = dev.priv
    return {
        "IFLA_VLAN_PROTOCOL": vlan.vlan_proto,
        "IFLA_VLAN_ID": vlan.vlan_id,
        "IFLA_VLAN_FLAGS": VLAN_FLAGS.pack(vlan.flags, 0xFFFFFFFF),
    }


def vlan_link(dev: net_device) -> net_device | None:
    """net/8021q/vlan_dev.c vlan_dev_get_iflink: the real device."""
    vlan: vlan_dev_priv = dev.priv
    return vlan.real_dev


# --- vrf ------------------------------------------------------------------------------------------


def vrf_validate(tb: Attrs, data: Attrs | None) -> None:
    """drivers/net/vrf.c."""
    validate_address(tb, "Invalid hardware address", "Invalid hardware address", at=True)


def vrf_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """drivers/net/vrf.c vrf_newlink."""
    if "IFLA_VRF_TABLE" not in data:
        raise NlError(errno.EINVAL, "VRF table id is missing")
    if not data["IFLA_VRF_TABLE"]:
        raise data.wrong("IFLA_VRF_TABLE", "Invalid VRF table id")
    if vrf_table_taken(net, data["IFLA_VRF_TABLE"]):
        raise NlError(errno.EBUSY, "Table is used by another VRF")
    return vrf_newlink(net, link_name(tb, "vrf"), data["IFLA_VRF_TABLE"], tb.get("IFLA_ADDRESS"))


def vrf_fill_info(dev: net_device) -> dict[str, Any]:
    """drivers/net/vrf.c vrf_fillinfo."""
    return {"IFLA_VRF_TABLE": l3mdev_fib_table(dev)}


def vrf_fill_slave(dev: net_device) -> dict[str, Any]:
    """drivers/net/vrf.c vrf_fill_slave_info."""
    return {"IFLA_VRF_PORT_TABLE": l3mdev_fib_table(dev)}


def vrf_add_port(master: net_device, dev: net_device) -> int:
    """drivers/net/vrf.c vrf_add_slave, its errors in the extended ACK."""
    if netif_is_l3_master(dev):
        raise NlError(errno.EINVAL, "Can not enslave an L3 master device to a VRF")
    if dev is dev.net.loopback_dev:
        raise NlError(errno.EOPNOTSUPP, "Can not enslave loopback device to a VRF")
    return vrf_add_slave(master, dev)


# --- tun ------------------------------------------------------------------------------------------


def tun_validate(tb: Attrs, data: Attrs | None) -> None:
    """drivers/net/tun.c."""
    raise NlError(errno.EOPNOTSUPP, "tun/tap creation via rtnetlink is not supported.")


def tun_fill_info(dev: net_device) -> dict[str, Any]:
    """drivers/net/tun.c."""
    tun: tun_struct = dev.priv
    ids = {"IFLA_TUN_OWNER": tun.owner, "IFLA_TUN_GROUP": tun.group}
    return {
        **{name: number for name, number in ids.items() if number != INVALID_ID},
        "IFLA_TUN_TYPE": tun.flags & TUN_TYPE_MASK,
        "IFLA_TUN_PI": int(not tun.flags & IFF_NO_PI),
        "IFLA_TUN_VNET_HDR": int(bool(tun.flags & IFF_VNET_HDR)),
        "IFLA_TUN_PERSIST": int(bool(tun.flags & IFF_PERSIST)),
        "IFLA_TUN_MULTI_QUEUE": int(bool(tun.flags & IFF_MULTI_QUEUE)),
    }


# --- the table ------------------------------------------------------------------------------------

ROWS = (
    link_kind(dummy_link_ops, dummy_new),
    link_kind(ifb_link_ops, ifb_new),
    link_kind(veth_link_ops, veth_new, VETH, veth_validate, link=veth_link),
    link_kind(tun_link_ops, policy=TUN, validate=tun_validate, fill_info=tun_fill_info),
    link_kind(
        vlan_link_ops, vlan_new, VLAN, vlan_validate, vlan_changelink, vlan_fill_info, vlan_link
    ),
    link_kind(
        br_link_ops,
        br_new,
        BR,
        changelink=br_changelink,
        fill_info=br_fill_info,
        add_slave=br_add_slave,
        del_slave=br_del_slave,
        fill_slave=brport_fill,
        slave_policy=BRPORT,
        slave_changelink=br_setport,
    ),
    link_kind(
        vrf_link_ops,
        vrf_new,
        VRF,
        vrf_validate,
        fill_info=vrf_fill_info,
        add_slave=vrf_add_port,
        del_slave=vrf_del_slave,
        fill_slave=vrf_fill_slave,
        slave_policy=VRF_PORT,
    ),
    *TUNNEL_ROWS,
    VXLAN_ROW,
    GENEVE_ROW,
    BOND_ROW,
    MACVLAN_ROW,
    IPVLAN_ROW,
)
KINDS: dict[str, link_kind] = {row.kind: row for row in ROWS}
"""rtnl_link_ops of each kind, by IFLA_INFO_KIND."""


def link_kind_of(dev: net_device) -> link_kind | None:
    """The row of a device; None: hardware, or lo."""
    ops = dev.rtnl_link_ops
    return KINDS.get(ops.kind) if ops is not None else None
