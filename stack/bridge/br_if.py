"""net/bridge/br_if.c, br.c: adding and removing bridges and ports."""

from __future__ import annotations

import errno

from stack.bridge.br_device import br_dev_setup, br_dev_xmit, br_priv
from stack.bridge.br_fdb import br_fdb_add_local, br_fdb_changeaddr, br_fdb_delete_by_port
from stack.bridge.br_input import br_handle_frame
from stack.bridge.br_multicast import (
    br_multicast_add_port,
    br_multicast_del_port,
    br_multicast_dev_del,
)
from stack.bridge.br_private import (
    BR_ADMIN_COST,
    BR_MAX_PORTS,
    BR_STATE_DISABLED,
    br_port_get,
    net_bridge,
    net_bridge_port,
    netif_is_bridge_master,
)
from stack.bridge.br_stp import br_ifinfo_notify, br_init_port, br_set_state
from stack.bridge.br_stp_if import (
    br_stp_change_bridge_id,
    br_stp_disable_port,
    br_stp_enable_port,
    br_stp_recalculate_bridge_id,
)
from stack.bridge.br_stp_rcv import br_stp_rcv_init
from stack.bridge.br_stp_timer import br_stp_port_timer_init, br_stp_timer_shutdown
from stack.core import netdevice
from stack.core.dev import (
    dev_close,
    dev_set_allmulti,
    dev_set_mtu,
    dev_set_promiscuity,
    free_netdev,
    netdev_update_features,
    netif_inherit_tso_max,
    unregister_netdevice,
)
from stack.core.dev_notifier import call_netdevice_notifiers, register_netdevice_notifier
from stack.core.dev_receive import netdev_rx_handler_register, netdev_rx_handler_unregister
from stack.core.dev_upper import netdev_master_upper_dev_link, netdev_upper_dev_unlink
from stack.core.ethtool import SPEED_UNKNOWN, ethtool_get_settings
from stack.core.net_namespace import load_module, pernet_operations
from stack.core.netdevice import net_device, netif_carrier_ok, netif_running, rtnl_link_ops
from stack.core.rtnetlink import eth_hw_addr_init, rtnl_create_link, rtnl_register_link
from stack.core.uapi import RTM_DELLINK
from stack.core.workqueue import cancel_delayed_work
from stack.ethernet.eth import is_valid_ether_addr
from stack.net import Net

COSTS = {10: 100, 100: 19, 1000: 5, 2500: 4, 5000: 3, 10000: 2}
"""The path costs of a port by its speed (Mbit/s)."""
COST_UNKNOWN = 100


def br_add_bridge(net: Net, name: str, mac: bytes | None = None) -> net_device:
    """net/bridge/br_if.c: `ip link add NAME type bridge`; without a port it has no carrier.

    `mac`: a fixed address. Without it, the lowest of its ports', or a random one without ports.

    Raises:
        OSError: EEXIST, the name is taken; EADDRNOTAVAIL, no address of a station.
        ValueError: the name is empty or too long.
    """
    load_module(net.machine, "bridge", br_net_ops)
    dev = rtnl_create_link(net, name, br_link_ops, br_dev_setup, br_priv)
    eth_hw_addr_init(dev, mac)
    dev.state |= netdevice.LINK_STATE_NOCARRIER
    rtnl_register_link(dev)
    br_fdb_add_local(dev.priv, None, dev.dev_addr)
    if mac is not None:
        br_stp_change_bridge_id(dev.priv, dev.dev_addr)
    return dev


def br_dev_delete(dev: net_device) -> None:
    """net/bridge/br_if.c: release the ports, then unregister the bridge."""
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return
    br: net_bridge = dev.priv
    dev_close(dev)
    for p in list(br.port_list):
        br_del_if(br, p.dev)
    cancel_delayed_work(br.gc_work)
    br_multicast_dev_del(br)
    br_stp_timer_shutdown(br.hello_timer, br.tcn_timer, br.topology_change_timer)
    br.fdb_hash.clear()
    unregister_netdevice(dev)
    free_netdev(dev)
    br.gc_work.func = _nothing


def _nothing() -> None:
    """The collector's function after the bridge was deleted: nothing."""


br_link_ops = rtnl_link_ops("bridge", br_dev_delete)


def br_add_if(br: net_bridge, dev: net_device) -> int:
    """net/bridge/br_if.c: `ip link set DEV master BR`. 0 or -errno.

    -EINVAL: no Ethernet, a VRF, or another namespace's; -ELOOP: a bridge; -EBUSY: it has a master
    or an rx_handler; -EOPNOTSUPP: IFF_DONT_BRIDGE; -EXFULL: too many ports.
    """
    if (
        dev.flags & netdevice.IFF_LOOPBACK
        or dev.type != netdevice.ARPHRD_ETHER
        or dev.addr_len != netdevice.ETH_ALEN
        or not is_valid_ether_addr(dev.dev_addr)
        or dev.net is not br.dev.net
        or dev.reg_state != netdevice.NETREG_REGISTERED
        or dev.priv_flags & netdevice.IFF_L3MDEV_MASTER
    ):
        return -errno.EINVAL
    if dev.netdev_ops.ndo_start_xmit is br_dev_xmit or netif_is_bridge_master(dev):
        return -errno.ELOOP
    if dev.master is not None or dev.rx_handler is not None:
        return -errno.EBUSY
    if dev.priv_flags & netdevice.IFF_DONT_BRIDGE:
        return -errno.EOPNOTSUPP
    index = find_portno(br)
    if not index:
        return -errno.EXFULL
    p = new_nbp(br, dev, index)
    # It is made a port before it has a master, because listeners to the latter read the port.
    netdev_rx_handler_register(dev, br_handle_frame, p)
    dev.priv_flags |= netdevice.IFF_BRIDGE_PORT
    err = netdev_master_upper_dev_link(dev, br.dev)
    if err:
        dev.priv_flags &= ~netdevice.IFF_BRIDGE_PORT
        netdev_rx_handler_unregister(dev)
        return -errno.ELOOP if err == -errno.EBUSY else err
    dev_set_allmulti(dev, 1)
    dev_set_promiscuity(dev, 1)
    br.port_list.insert(0, p)
    netdev_update_features(br.dev)
    br_fdb_add_local(br, p, dev.dev_addr)
    changed = br_stp_recalculate_bridge_id(br)
    if netif_running(dev) and netif_carrier_ok(dev) and br.dev.flags & netdevice.IFF_UP:
        br_stp_enable_port(p)
    if changed:
        call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, br.dev)
    br_mtu_auto_adjust(br)
    br_set_gso_limits(br)
    br_ifinfo_notify(p)
    return 0


def br_del_if(br: net_bridge, dev: net_device) -> int:
    """net/bridge/br_if.c: `ip link set DEV nomaster`. 0, or -EINVAL: it is no port of this one."""
    p = br_port_get(dev)
    if p is None or p.br is not br:
        return -errno.EINVAL
    br_stp_disable_port(p)  # del_nbp
    br_multicast_del_port(p)
    br_ifinfo_notify(p, RTM_DELLINK)
    br_stp_timer_shutdown(p.forward_delay_timer, p.hold_timer, p.message_age_timer)
    br.port_list.remove(p)
    dev_set_promiscuity(dev, -1)
    dev_set_allmulti(dev, -1)
    br_fdb_delete_by_port(br, p, True)
    netdev_upper_dev_unlink(dev, br.dev)
    dev.priv_flags &= ~netdevice.IFF_BRIDGE_PORT
    netdev_rx_handler_unregister(dev)
    br_mtu_auto_adjust(br)
    br_set_gso_limits(br)
    if br_stp_recalculate_bridge_id(br):
        call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, br.dev)
    netdev_update_features(br.dev)
    return 0


def new_nbp(br: net_bridge, dev: net_device, index: int) -> net_bridge_port:
    """net/bridge/br_if.c: create a port, still disabled."""
    p = net_bridge_port(br, dev, index)
    p.path_cost = port_cost(dev)
    br_stp_port_timer_init(p)
    br_multicast_add_port(p)
    br_init_port(p)
    br_set_state(p, BR_STATE_DISABLED)
    return p


def port_cost(dev: net_device) -> int:
    """net/bridge/br_if.c: IEEE 802.1D table 8-5, and less for what is faster."""
    try:
        speed = ethtool_get_settings(dev).speed
    except OSError:
        speed = SPEED_UNKNOWN
    return COSTS.get(speed, COST_UNKNOWN if speed < max(COSTS) else 1)


def find_portno(br: net_bridge) -> int:
    """net/bridge/br_if.c: the first free number of a port, 0 when there is none."""
    inuse = {p.port_no for p in br.port_list}
    return next((number for number in range(1, BR_MAX_PORTS) if number not in inuse), 0)


def br_mtu_auto_adjust(br: net_bridge) -> None:
    """net/bridge/br_if.c: the smallest MTU of the ports, unless one was set."""
    if br.mtu_set_by_user:
        return
    dev_set_mtu(br.dev, min((p.dev.mtu for p in br.port_list), default=netdevice.ETH_DATA_LEN))
    br.mtu_set_by_user = False  # dev_set_mtu came by ndo_change_mtu


def br_set_gso_limits(br: net_bridge) -> None:
    """net/bridge/br_if.c: limit GSO packets to the smallest limit of the ports."""
    netif_inherit_tso_max(br.dev, [p.dev for p in br.port_list])


def br_device_event(event: int, dev: net_device) -> None:
    """net/bridge/br.c: an event of a port."""
    p = br_port_get(dev)
    if p is None:
        return
    br = p.br
    if event == netdevice.NETDEV_CHANGEMTU:
        br_mtu_auto_adjust(br)
    elif event == netdevice.NETDEV_CHANGEADDR:
        br_fdb_changeaddr(p, dev.dev_addr)
        if br_stp_recalculate_bridge_id(br):
            call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, br.dev)
    elif event == netdevice.NETDEV_CHANGE:
        br_port_carrier_check(p)
    elif event == netdevice.NETDEV_FEAT_CHANGE:
        netdev_update_features(br.dev)
        br_set_gso_limits(br)
    elif event == netdevice.NETDEV_DOWN:
        if br.dev.flags & netdevice.IFF_UP:
            br_stp_disable_port(p)
    elif event == netdevice.NETDEV_UP:
        if br.dev.flags & netdevice.IFF_UP and netif_carrier_ok(dev):
            br_stp_enable_port(p)
    elif event == netdevice.NETDEV_UNREGISTER:  # deleted, or moved to another namespace
        br_del_if(br, dev)


def br_port_carrier_check(p: net_bridge_port) -> None:
    """net/bridge/br_if.c: the port's carrier changed, and with it perhaps the speed."""
    br = p.br
    up = netif_running(p.dev) and netif_carrier_ok(p.dev)
    if not p.flags & BR_ADMIN_COST and up:
        p.path_cost = port_cost(p.dev)
    if not br.dev.flags & netdevice.IFF_UP:
        return
    if up:
        if p.state == BR_STATE_DISABLED:
            br_stp_enable_port(p)
    elif p.state != BR_STATE_DISABLED:
        br_stp_disable_port(p)


def br_init_net(net: Net) -> None:
    """net/bridge/br.c: watch the devices, and receive BPDUs."""
    register_netdevice_notifier(net, br_device_event)
    br_stp_rcv_init(net)


br_net_ops = pernet_operations(init=br_init_net)
