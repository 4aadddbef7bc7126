"""drivers/net/bonding/bond_main.c: bonds, adding and removing slaves, failover.

    bond_create                     `ip link add NAME type bond`
    bond_enslave, bond_release      `ip link set DEV master BOND`, `nomaster`
    bond_netdev_event               a slave's carrier, state or name changed, or it is removed
    bond_mii_monitor                a tick of miimon
        bond_miimon_inspect         which slaves changed, after updelay and downdelay
        bond_miimon_commit
            bond_select_active_slave => bond_change_active_slave    the failover
            bond_3ad_handle_link_change                             802.3ad
        bond_set_carrier            the bond has a carrier while one of its slaves is usable
        NETDEV_NOTIFY_PEERS         gratuitous ARP and unsolicited advertisements

Linux checks the carriers every `miimon` ms. Here drivers report them, so a tick is due only
after an event and while updelay, downdelay or notifications count ticks. Ticks are multiples of
`miimon` after the opening of the bond, as in Linux.

State is in `bonding` and `slave`. Read bond_enslave first.
"""

from __future__ import annotations

import errno

from stack.bonding.bond_3ad import (
    bond_3ad_adapter_speed_duplex_changed,
    bond_3ad_bind_slave,
    bond_3ad_handle_link_change,
    bond_3ad_initialize,
    bond_3ad_set_carrier,
    bond_3ad_start,
    bond_3ad_stop,
    bond_3ad_unbind_slave,
    bond_update_slave_arr,
    lacpdu_mcast_addr,
)
from stack.bonding.bond_xmit import bond_handle_frame, bond_start_xmit
from stack.bonding.bonding import (
    BOND_FOM_ACTIVE,
    BOND_FOM_FOLLOW,
    BOND_FOM_NONE,
    BOND_LINK_BACK,
    BOND_LINK_DOWN,
    BOND_LINK_FAIL,
    BOND_LINK_UP,
    BOND_MODE_8023AD,
    BOND_MODE_ACTIVEBACKUP,
    BOND_MODE_ROUNDROBIN,
    BOND_PRI_RESELECT_BETTER,
    BOND_PRI_RESELECT_FAILURE,
    BondError,
    bond_set_active_flags,
    bond_set_inactive_flags,
    bond_slave_get,
    bond_slave_is_up,
    bond_uses_primary,
    bonding,
    slave,
)
from stack.core import netdevice
from stack.core.dev import (
    dev_addresses_move,
    dev_close,
    dev_get_stats,
    dev_mc_add,
    dev_mc_del,
    dev_open,
    dev_set_allmulti,
    dev_set_mac_address,
    dev_set_mtu,
    dev_set_promiscuity,
    free_netdev,
    netdev_update_features,
    netif_inherit_tso_max,
    netif_set_tso_max_size,
    unregister_netdevice,
)
from stack.core.dev_notifier import call_netdevice_notifiers, watches_devices
from stack.core.dev_receive import netdev_rx_handler_register, netdev_rx_handler_unregister
from stack.core.dev_upper import (
    master_fix_features,
    netdev_master_upper_dev_link,
    netdev_upper_dev_unlink,
)
from stack.core.errors import check
from stack.core.ethtool import (
    DUPLEX_FULL,
    SPEED_UNKNOWN,
    ethtool_get_settings,
    ethtool_link_ksettings,
    ethtool_ops,
    fixed_drvinfo,
)
from stack.core.if_vlan import vlan_vid_add, vlan_vid_del
from stack.core.link_watch import linkwatch_pending, netif_carrier_off, netif_carrier_on
from stack.core.net_namespace import load_module
from stack.core.netdevice import (
    net_device,
    net_device_ops,
    netif_carrier_ok,
    netif_running,
    rtnl_link_ops,
)
from stack.core.rows import rows_of
from stack.core.rtnetlink import eth_hw_addr_init, rtnl_newlink
from stack.core.snmp import rtnl_link_stats64
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.timer import mod_timer, timer_delete, timer_list, timer_shutdown
from stack.ethernet.eth import ether_setup_software, is_valid_ether_addr
from stack.net import Net

BOND_VLAN_FEATURES = netdevice.NETIF_F_SOFTWARE_DEVICE
COUNTERS = tuple(rows_of(rtnl_link_stats64))
IGMP_AGAIN_NS = 200_000_000
"""Between two rounds of resend_igmp."""

# --- the active slave -----------------------------------------------------------------------------


def bond_choose_primary_or_current(bond: bonding) -> slave | None:
    """drivers/net/bonding/bond_main.c: primary or current slave; None: neither can be active.

    If there is no primary that is up, the slaves with the highest priority take its role.
    """
    prim, curr = bond.primary_slave, bond.curr_active_slave
    if curr is not None and curr.link != BOND_LINK_UP:
        curr = None
    if prim is None or prim.link != BOND_LINK_UP:
        up = [one for one in bond.slave_list if one.link == BOND_LINK_UP]
        best = max(up, key=lambda one: one.prio, default=None)
        if curr is None or best is None or best.prio == curr.prio:
            return best if curr is None and best is not None and best.prio else curr
        prim = best
    elif bond.force_primary:
        bond.force_primary = False
        return prim
    if curr is None or curr is prim:
        return prim
    reselect = bond.params.primary_reselect
    if reselect == BOND_PRI_RESELECT_FAILURE:
        return curr
    if reselect == BOND_PRI_RESELECT_BETTER and (prim.speed, prim.duplex) <= (
        curr.speed,
        curr.duplex,
    ):
        return curr
    return prim


def bond_find_best_slave(bond: bonding) -> slave | None:
    """drivers/net/bonding/bond_main.c: the first slave that is up, or will be up soonest."""
    found = bond_choose_primary_or_current(bond)
    if found is not None:
        return found
    mintime = bond.params.updelay
    for one in bond.slave_list:
        if one.link == BOND_LINK_UP:
            return one
        if one.link == BOND_LINK_BACK and bond_slave_is_up(one) and one.delay < mintime:
            mintime = one.delay
            found = one
    return found


def bond_select_active_slave(bond: bonding) -> None:
    """drivers/net/bonding/bond_main.c: a slave changed: select the active one again."""
    best = bond_find_best_slave(bond)
    if best is not bond.curr_active_slave:
        bond_change_active_slave(bond, best)
        bond_set_carrier(bond)


def bond_change_active_slave(bond: bonding, new: slave | None) -> None:
    """drivers/net/bonding/bond_main.c: the failover: flags, addresses, filters, notifications."""
    old = bond.curr_active_slave
    if old is new:
        return
    dev = bond.dev
    if new is not None and new.link == BOND_LINK_BACK and bond_uses_primary(bond):
        new.delay = 0
        new.link = BOND_LINK_UP
    if bond_uses_primary(bond):
        bond_hw_addr_swap(bond, new, old)
    bond.curr_active_slave = new
    if bond.params.mode == BOND_MODE_ACTIVEBACKUP:
        if old is not None:
            bond_set_inactive_flags(old)
        if new is not None:
            bond_set_active_flags(new)
            if bond.params.fail_over_mac:
                bond_do_fail_over_mac(bond, new, old)
            if netif_running(dev):
                each = max(1, bond.params.peer_notif_delay)
                bond.send_peer_notif = bond.params.num_peer_notif * each
            call_netdevice_notifiers(netdevice.NETDEV_BONDING_FAILOVER, dev)
            bond_notify_peers(bond)
    again = new is not None if bond_uses_primary(bond) else bond.params.mode == BOND_MODE_ROUNDROBIN
    if netif_running(dev) and bond.params.resend_igmp and again:
        bond.igmp_retrans = bond.params.resend_igmp
        mod_timer(bond.mcast_timer, dev.machine.clock.now_ns())


def bond_resend_igmp_join_requests(timer: timer_list) -> None:
    """drivers/net/bonding/bond_main.c: groups are reported again through the new slave."""
    bond: bonding = timer.data
    if not bond.igmp_retrans:
        return
    bond.igmp_retrans -= 1
    call_netdevice_notifiers(netdevice.NETDEV_RESEND_IGMP, bond.dev)
    if bond.igmp_retrans:
        mod_timer(timer, bond.dev.machine.clock.now_ns() + IGMP_AGAIN_NS)


def bond_should_notify_peers(bond: bonding) -> bool:
    """drivers/net/bonding/bond_main.c: whether peers are notified of the failover in this tick."""
    curr = bond.curr_active_slave
    if curr is None or not bond.send_peer_notif or not netif_carrier_ok(bond.dev):
        return False
    if bond.send_peer_notif % max(1, bond.params.peer_notif_delay):
        return False
    return not linkwatch_pending(curr.dev)


def bond_notify_peers(bond: bonding) -> None:
    """Notify the peers, if due."""
    if bond_should_notify_peers(bond):
        bond.send_peer_notif -= 1
        call_netdevice_notifiers(netdevice.NETDEV_NOTIFY_PEERS, bond.dev)


def bond_do_fail_over_mac(bond: bonding, new: slave, old: slave | None) -> None:
    """drivers/net/bonding/bond_main.c: copy the slave's address to the bond, or vice versa."""
    if bond.params.fail_over_mac == BOND_FOM_ACTIVE:
        bond_set_dev_addr(bond, new.dev)
    elif bond.params.fail_over_mac == BOND_FOM_FOLLOW:
        if old is None:
            holders = (one for one in bond.slave_list if one.dev.dev_addr == bond.dev.dev_addr)
            old = next((one for one in holders if one is not new), None)
        was = new.dev.dev_addr
        dev_set_mac_address(new.dev, bond.dev.dev_addr if old is None else old.dev.dev_addr)
        if old is not None:
            dev_set_mac_address(old.dev, was)


def bond_set_dev_addr(bond: bonding, slave_dev: net_device) -> None:
    """drivers/net/bonding/bond_main.c: set the bond's address to that of a slave."""
    bond.dev.dev_addr = slave_dev.dev_addr
    bond.dev.addr_assign_type = netdevice.NET_ADDR_STOLEN
    call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, bond.dev)


def bond_set_carrier(bond: bonding) -> None:
    """drivers/net/bonding/bond_main.c: the bond has a carrier if one of its slaves is usable."""
    if bond.params.mode == BOND_MODE_8023AD and bond.slave_list:
        bond_3ad_set_carrier(bond)
    elif any(one.link == BOND_LINK_UP for one in bond.slave_list):
        netif_carrier_on(bond.dev)
    else:
        netif_carrier_off(bond.dev)


# --- filters of the slaves ------------------------------------------------------------------------


def bond_hw_addr_flush(one: slave) -> None:
    """drivers/net/bonding/bond_main.c: remove the bond's addresses from a slave."""
    was, one.synced = one.synced, (set(), set())
    dev_addresses_move(one.dev, was, one.synced)


def bond_hw_addr_sync(bond: bonding, one: slave) -> None:
    """dev_uc_sync, dev_mc_sync: add the bond's addresses to a slave."""
    was, one.synced = one.synced, (set(bond.dev.uc), set(bond.dev.mc))
    dev_addresses_move(one.dev, was, one.synced)


def bond_hw_addr_swap(bond: bonding, new: slave | None, old: slave | None) -> None:
    """drivers/net/bonding/bond_main.c: move the bond's filters from one slave to another."""
    flags = bond.dev.flags
    if old is not None:
        _pass_modes(old.dev, flags, -1)
        if flags & netdevice.IFF_UP:
            bond_hw_addr_flush(old)
    if new is not None:
        _pass_modes(new.dev, flags, 1)
        if flags & netdevice.IFF_UP:
            bond_hw_addr_sync(bond, new)


def _pass_modes(dev: net_device, flags: int, inc: int) -> None:
    if flags & netdevice.IFF_PROMISC:
        dev_set_promiscuity(dev, inc)
    if flags & netdevice.IFF_ALLMULTI:
        dev_set_allmulti(dev, inc)


def bond_listeners(bond: bonding) -> list[slave]:
    """The slaves that need the bond's filters: the active one, or all."""
    if not bond_uses_primary(bond):
        return bond.slave_list
    return [] if bond.curr_active_slave is None else [bond.curr_active_slave]


def bond_set_rx_mode(dev: net_device) -> None:
    """drivers/net/bonding/bond_main.c: ndo_set_rx_mode."""
    bond: bonding = dev.priv
    for one in bond_listeners(bond):
        bond_hw_addr_sync(bond, one)


def bond_change_rx_flags(dev: net_device, change: int) -> None:
    """drivers/net/bonding/bond_main.c: promiscuity is passed to the slaves."""
    bond: bonding = dev.priv
    for one in bond_listeners(bond):
        _pass_modes(one.dev, change & dev.flags, 1)
        _pass_modes(one.dev, change & ~dev.flags, -1)


def bond_vlan_rx_add_vid(dev: net_device, proto: int, vid: int) -> int:
    """drivers/net/bonding/bond_main.c: a VLAN of the bond passes the slaves' filters. 0, -errno."""
    bond: bonding = dev.priv
    done: list[net_device] = []
    for one in bond.slave_list:
        err = vlan_vid_add(one.dev, proto, vid)
        if err:
            for other in done:
                vlan_vid_del(other, proto, vid)
            return err
        done.append(one.dev)
    return 0


def bond_vlan_rx_kill_vid(dev: net_device, proto: int, vid: int) -> int:
    """drivers/net/bonding/bond_main.c: 0."""
    bond: bonding = dev.priv
    for one in bond.slave_list:
        vlan_vid_del(one.dev, proto, vid)
    return 0


def _vids(dev: net_device) -> list[tuple[int, int]]:
    """net/8021q/vlan_core.c vlan_vids_add_by_dev: the VLANs of a bond."""
    info = dev.vlan_info
    return [(key >> 16, key & 0xFFFF) for key in info.vid_list] if info is not None else []


# --- adding slaves --------------------------------------------------------------------------------


def bond_enslave(bond: bonding, dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c: `ip link set DEV master BOND`. 0.

    The device gets the bond's MTU and, except for fail_over_mac, address, and is opened.

    Raises:
        OSError: EPERM, the device is up, or the bond itself; EBUSY, it has a master; EINVAL, it is
            no Ethernet; EOPNOTSUPP, its address cannot be set; what opening it raises.
    """
    bond_dev, params = bond.dev, bond.params
    if dev is bond_dev:
        raise BondError(errno.EPERM, "Cannot enslave bond to itself.")
    if dev.flags & netdevice.IFF_MASTER and not dev.priv_flags & netdevice.IFF_BONDING:
        raise BondError(errno.EPERM, "Device type (master device) cannot be enslaved")
    if dev.rx_handler is not None or dev.master is not None:
        raise BondError(errno.EBUSY, "Device is in use and cannot be enslaved")
    if dev.flags & netdevice.IFF_UP:
        raise BondError(errno.EPERM, "Device can not be enslaved while up")
    if dev.type != netdevice.ARPHRD_ETHER or dev.flags & netdevice.IFF_LOOPBACK:
        raise BondError(errno.EINVAL, "Device type is different from other slaves")
    if dev.netdev_ops.ndo_set_mac_address is None and params.fail_over_mac != BOND_FOM_ACTIVE:
        if params.mode != BOND_MODE_ACTIVEBACKUP or bond.slave_list:
            text = "Slave device does not support setting the MAC address, but fail_over_mac is "
            raise BondError(errno.EOPNOTSUPP, text + "not set to active")
        params.fail_over_mac = BOND_FOM_ACTIVE
    if not bond.slave_list and bond_dev.addr_assign_type == netdevice.NET_ADDR_RANDOM:
        bond_set_dev_addr(bond, dev)
    one = slave(bond, dev)
    one.perm_hwaddr, one.original_mtu = dev.dev_addr, dev.mtu
    try:
        _prepare(bond, one)
    except OSError:
        _restore(one)
        if not bond.slave_list and bond_dev.dev_addr == dev.dev_addr:
            eth_hw_addr_init(bond_dev, None)  # the next slave's address is taken instead
        raise
    bond_add(bond, one)
    return 0


def _prepare(bond: bonding, one: slave) -> None:
    """MTU, address, open, link to the bond, VLANs: what may fail. Raises: OSError."""
    dev, bond_dev = one.dev, bond.dev
    check(dev_set_mtu(dev, bond_dev.mtu), f"{dev.name}: mtu {bond_dev.mtu}")
    if not bond.params.fail_over_mac or bond.params.mode != BOND_MODE_ACTIVEBACKUP:
        check(dev_set_mac_address(dev, bond_dev.dev_addr), f"{dev.name}: address")
    dev.flags |= netdevice.IFF_SLAVE
    check(dev_open(dev), f"{dev.name}: open")
    err = netdev_master_upper_dev_link(dev, bond_dev)
    check(-errno.ELOOP if err == -errno.EBUSY else err, f"{dev.name}: master {bond_dev.name}")
    for proto, vid in _vids(bond_dev):
        vlan_vid_add(dev, proto, vid)


def _restore(one: slave) -> None:
    """Restore the device's settings from before it was enslaved."""
    dev = one.dev
    dev.flags &= ~netdevice.IFF_SLAVE
    dev_close(dev)
    if dev.dev_addr != one.perm_hwaddr:
        dev_set_mac_address(dev, one.perm_hwaddr)
    dev_set_mtu(dev, one.original_mtu)


def bond_add(bond: bonding, one: slave) -> None:
    """The second half of bond_enslave: the slave's initial state, by the mode."""
    dev, bond_dev, params = one.dev, bond.dev, bond.params
    bond_update_speed_duplex(one)
    one.slave_stats = _copy(dev_get_stats(dev))
    if params.miimon:
        one.link = BOND_LINK_UP if bond_check_dev_link(one) else BOND_LINK_DOWN
        if one.link == BOND_LINK_UP and params.updelay:
            one.link, one.delay = BOND_LINK_BACK, params.updelay
    if one.link != BOND_LINK_DOWN and bond_speed_missing(one):
        one.link = BOND_LINK_DOWN
    if params.primary == dev.name and bond_uses_primary(bond):
        bond.primary_slave = one
        bond.force_primary = True
    if params.mode == BOND_MODE_8023AD:
        bond_set_inactive_flags(one)
        if not bond.slave_list:
            bond_3ad_initialize(bond)
        bond.slave_list.append(one)
        bond_3ad_bind_slave(one)
    else:
        bond.slave_list.append(one)
        if bond_uses_primary(bond):
            bond_set_inactive_flags(one)
        else:
            bond_set_active_flags(one)
            if bond.curr_active_slave is None and one.link == BOND_LINK_UP:
                bond.curr_active_slave = one
    netdev_rx_handler_register(dev, bond_handle_frame, one)
    if not bond_uses_primary(bond):
        _pass_modes(dev, bond_dev.flags, 1)
        if bond_dev.flags & netdevice.IFF_UP:
            bond_hw_addr_sync(bond, one)
            if params.mode == BOND_MODE_8023AD:
                dev_mc_add(dev, lacpdu_mcast_addr)
    bond_compute_features(bond)
    if bond_uses_primary(bond):
        bond_select_active_slave(bond)
    bond_set_carrier(bond)
    bond_update_slave_arr(bond)
    bond_mii_arm(bond)


def bond_check_dev_link(one: slave) -> bool:
    """drivers/net/bonding/bond_main.c: the link state for MII monitoring."""
    return bond_slave_is_up(one)


def bond_update_speed_duplex(one: slave) -> bool:
    """drivers/net/bonding/bond_main.c: query the driver; False: unknown."""
    ops = one.dev.ethtool_ops
    one.speed, one.duplex = SPEED_UNKNOWN, 0
    if ops is None or ops.get_link_ksettings is None:
        return False
    found = ethtool_get_settings(one.dev)
    if found.speed <= 0:
        return False
    one.speed, one.duplex = found.speed, int(found.duplex == DUPLEX_FULL)
    return True


def bond_speed_missing(one: slave) -> bool:
    """bond_needs_speed_duplex: 802.3ad cannot use a slave of unknown speed."""
    return one.bond.params.mode == BOND_MODE_8023AD and not bond_update_speed_duplex(one)


# --- removing slaves ------------------------------------------------------------------------------


def bond_release(bond: bonding, dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c: `ip link set DEV nomaster`. 0, or -EINVAL: not its slave.

    The device is closed, and its own address and MTU are restored.
    """
    one = bond_slave_get(dev)
    if one is None or one.bond is not bond:
        return -errno.EINVAL
    bond_dev, params = bond.dev, bond.params
    netdev_rx_handler_unregister(dev)
    bond_fold_stats(bond, one)
    if params.mode == BOND_MODE_8023AD:
        bond_3ad_unbind_slave(one)
    bond.slave_list.remove(one)
    if bond.primary_slave is one:
        bond.primary_slave = None
    was_active = bond.curr_active_slave is one
    if was_active:
        bond_change_active_slave(bond, None)
    if not bond_uses_primary(bond):
        _pass_modes(dev, bond_dev.flags, -1)
        bond_hw_addr_flush(one)
        if params.mode == BOND_MODE_8023AD and bond_dev.flags & netdevice.IFF_UP:
            dev_mc_del(dev, lacpdu_mcast_addr)
    if was_active:
        bond_select_active_slave(bond)
    bond_set_carrier(bond)
    if not bond.slave_list:
        eth_hw_addr_init(bond_dev, None)
        call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, bond_dev)
    for proto, vid in _vids(bond_dev):
        vlan_vid_del(dev, proto, vid)
    netdev_upper_dev_unlink(dev, bond_dev)
    bond_compute_features(bond)
    bond_update_slave_arr(bond)
    _restore(one)
    return 0


# --- MII monitoring -------------------------------------------------------------------------------


def bond_mii_arm(bond: bonding) -> None:
    """Schedule the next tick of miimon, if there is something to check or count in it."""
    period = bond.params.miimon * NSEC_PER_MSEC
    if not period or not netif_running(bond.dev) or bond.mii_timer.pending:
        return
    if bond.send_peer_notif or any(bond_tick_due(one) for one in bond.slave_list):
        now = bond.dev.machine.clock.now_ns()
        ticks = (now - bond.mii_epoch) // period + 1
        mod_timer(bond.mii_timer, bond.mii_epoch + ticks * period)


def bond_tick_due(one: slave) -> bool:
    """Whether a tick would change this slave."""
    if one.link in (BOND_LINK_FAIL, BOND_LINK_BACK):
        return True
    up = bond_check_dev_link(one)
    return up != (one.link == BOND_LINK_UP) and not (up and bond_speed_missing(one))


def bond_mii_monitor(timer: timer_list) -> None:
    """drivers/net/bonding/bond_main.c: a tick."""
    bond: bonding = timer.data
    if not netif_running(bond.dev):
        return
    notify = bond_should_notify_peers(bond)
    changed = bond_miimon_inspect(bond)
    if bond.send_peer_notif:
        bond.send_peer_notif -= 1
    if changed:
        bond_miimon_commit(bond, changed)
    if notify:
        call_netdevice_notifiers(netdevice.NETDEV_NOTIFY_PEERS, bond.dev)
    bond_mii_arm(bond)


def bond_miimon_inspect(bond: bonding) -> dict[slave, int]:
    """drivers/net/bonding/bond_main.c: slaves that have been up or down for long enough.

    Without an active slave, updelay is ignored.
    """
    params = bond.params
    changed: dict[slave, int] = {}
    if bond_uses_primary(bond):
        ignore_updelay = bond.curr_active_slave is None
    else:
        ignore_updelay = not bond.usable_slaves
    for one in bond.slave_list:
        up = bond_check_dev_link(one)
        if one.link == BOND_LINK_UP and not up:
            one.link, one.delay = BOND_LINK_FAIL, params.downdelay
        elif one.link == BOND_LINK_DOWN and up:
            one.link, one.delay = BOND_LINK_BACK, params.updelay
        elif one.link == BOND_LINK_FAIL and up:
            one.link = BOND_LINK_UP
        elif one.link == BOND_LINK_BACK and not up:
            one.link = BOND_LINK_DOWN
        if one.link == BOND_LINK_BACK and ignore_updelay:
            one.delay = 0
        if one.link not in (BOND_LINK_FAIL, BOND_LINK_BACK):
            continue
        if one.delay > 0:
            one.delay -= 1
            continue
        changed[one] = BOND_LINK_DOWN if one.link == BOND_LINK_FAIL else BOND_LINK_UP
        ignore_updelay = ignore_updelay and changed[one] != BOND_LINK_UP
    return changed


def bond_miimon_commit(bond: bonding, changed: dict[slave, int]) -> None:
    """drivers/net/bonding/bond_main.c: process slaves that came up or went down."""
    mode = bond.params.mode
    failover = False
    for one, link in changed.items():
        if link == BOND_LINK_UP:
            bond_update_speed_duplex(one)
            if bond_speed_missing(one):
                one.link = BOND_LINK_DOWN
                continue
        else:
            one.link_failure_count += 1
        one.link = link
        if mode == BOND_MODE_8023AD:
            bond_set_inactive_flags(one)
            bond_3ad_handle_link_change(one, link)
            continue
        if bond_uses_primary(bond) and link == BOND_LINK_DOWN:
            bond_set_inactive_flags(one)
        elif not bond_uses_primary(bond) and link == BOND_LINK_UP:
            bond_set_active_flags(one)
        curr = bond.curr_active_slave
        if link == BOND_LINK_DOWN:
            failover = failover or one is curr
        elif curr is None or one is bond.primary_slave or one.prio > curr.prio:
            failover = True
    if failover:
        bond_select_active_slave(bond)
    bond_update_slave_arr(bond)
    bond_set_carrier(bond)


# --- device events --------------------------------------------------------------------------------


def bond_netdev_event(event: int, dev: net_device) -> None:
    """drivers/net/bonding/bond_main.c: an event of a slave."""
    one = bond_slave_get(dev)
    if one is None:
        return
    bond = one.bond
    if event == netdevice.NETDEV_UNREGISTER:
        bond_release(bond, dev)
    elif event in (netdevice.NETDEV_UP, netdevice.NETDEV_CHANGE):
        bond_update_speed_duplex(one)
        if bond.params.mode == BOND_MODE_8023AD:
            bond_3ad_adapter_speed_duplex_changed(one)
        bond_update_slave_arr(bond)
        bond_mii_arm(bond)
    elif event == netdevice.NETDEV_DOWN:
        bond_update_slave_arr(bond)
        bond_mii_arm(bond)
    elif event == netdevice.NETDEV_CHANGENAME:
        bond_primary_renamed(bond, one)
    elif event == netdevice.NETDEV_FEAT_CHANGE:
        bond_compute_features(bond)


def bond_primary_renamed(bond: bonding, one: slave) -> None:
    """A slave was renamed: it may become the primary, or no longer be it."""
    if not bond_uses_primary(bond) or not bond.params.primary:
        return
    if one is bond.primary_slave:
        bond.primary_slave = None
    elif one.dev.name == bond.params.primary:
        bond.primary_slave = one
    else:
        return
    bond_select_active_slave(bond)


# --- the bond's own device ------------------------------------------------------------------------


def bond_open(dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c: 0."""
    bond: bonding = dev.priv
    for one in bond.slave_list:
        if bond_uses_primary(bond) and one is not bond.curr_active_slave:
            bond_set_inactive_flags(one)
        elif bond.params.mode != BOND_MODE_8023AD:
            bond_set_active_flags(one)
    bond.mii_epoch = dev.machine.clock.now_ns()
    if bond.params.mode == BOND_MODE_8023AD:
        for one in bond.slave_list:
            dev_mc_add(one.dev, lacpdu_mcast_addr)
        bond_3ad_start(bond)
    bond_update_slave_arr(bond)
    bond_mii_arm(bond)
    return 0


def bond_close(dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c: 0."""
    bond: bonding = dev.priv
    bond.send_peer_notif = 0
    for timer in (bond.mii_timer, bond.mcast_timer):
        timer_delete(timer)
    bond_3ad_stop(bond)
    for one in bond.slave_list:
        bond_hw_addr_flush(one)
        if bond.params.mode == BOND_MODE_8023AD:
            dev_mc_del(one.dev, lacpdu_mcast_addr)
    return 0


def bond_change_mtu(dev: net_device, new_mtu: int) -> int:
    """drivers/net/bonding/bond_main.c: set it on all slaves, or on none. 0 or -errno."""
    bond: bonding = dev.priv
    for at, one in enumerate(bond.slave_list):
        err = dev_set_mtu(one.dev, new_mtu)
        if err:
            for other in bond.slave_list[:at]:
                dev_set_mtu(other.dev, dev.mtu)
            return err
    return 0


def bond_set_mac_address(dev: net_device, addr: bytes) -> int:
    """drivers/net/bonding/bond_main.c: set it on all slaves, or on none. 0 or -errno.

    With fail_over_mac, slaves keep their own addresses.
    """
    bond: bonding = dev.priv
    if bond.params.fail_over_mac != BOND_FOM_NONE and bond.params.mode == BOND_MODE_ACTIVEBACKUP:
        return 0
    if not is_valid_ether_addr(addr):
        return -errno.EADDRNOTAVAIL
    for at, one in enumerate(bond.slave_list):
        err = dev_set_mac_address(one.dev, addr)
        if err:
            for other in bond.slave_list[:at]:
                dev_set_mac_address(other.dev, dev.dev_addr)
            return err
    dev.dev_addr = bytes(addr)
    return 0


def bond_compute_features(bond: bonding) -> None:
    """drivers/net/bonding/bond_main.c: compute the offloads from those of the slaves."""
    dev = bond.dev
    slaves = [one.dev for one in bond.slave_list]
    features = BOND_VLAN_FEATURES & ~netdevice.NETIF_F_ONE_FOR_ALL if slaves else BOND_VLAN_FEATURES
    for one in slaves:
        features |= one.vlan_features & BOND_VLAN_FEATURES
    dev.vlan_features = features
    netif_inherit_tso_max(dev, slaves)
    dev.hard_header_len = max((d.hard_header_len for d in slaves), default=netdevice.ETH_HLEN)
    dev.needed_headroom = max((d.needed_headroom for d in slaves), default=0)
    netdev_update_features(dev)


def _copy(stats: rtnl_link_stats64) -> rtnl_link_stats64:
    made = rtnl_link_stats64()
    for name in COUNTERS:
        setattr(made, name, getattr(stats, name))
    return made


def bond_fold_stats(bond: bonding, one: slave) -> None:
    """drivers/net/bonding/bond_main.c: add a slave's counts since the last call."""
    now, total = _copy(dev_get_stats(one.dev)), bond.bond_stats
    for name in COUNTERS:
        more = getattr(now, name) - getattr(one.slave_stats, name)
        if more > 0:
            setattr(total, name, getattr(total, name) + more)
    one.slave_stats = now


def bond_get_stats(dev: net_device) -> rtnl_link_stats64:
    """drivers/net/bonding/bond_main.c: the sum of the slaves' counters, and its own drops."""
    bond: bonding = dev.priv
    for one in bond.slave_list:
        bond_fold_stats(bond, one)
    told = _copy(bond.bond_stats)
    told.tx_dropped += dev.stats.tx_dropped
    told.rx_nohandler += dev.stats.rx_nohandler
    return told


def bond_ethtool_get_link_ksettings(dev: net_device) -> ethtool_link_ksettings:
    """drivers/net/bonding/bond_main.c: the sum of the speeds of the slaves that send."""
    bond: bonding = dev.priv
    speeds = [one for one in bond.slave_list if not one.backup and one.speed != SPEED_UNKNOWN]
    found = ethtool_link_ksettings(autoneg=False)
    if speeds:
        found.speed = sum(one.speed for one in speeds)
        if any(one.duplex for one in speeds):
            found.duplex = DUPLEX_FULL
    return found


bond_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("bonding", fw_version="2"),
    get_link=netif_carrier_ok,
    get_link_ksettings=bond_ethtool_get_link_ksettings,
)

bond_netdev_ops = net_device_ops(
    ndo_open=bond_open,
    ndo_stop=bond_close,
    ndo_start_xmit=bond_start_xmit,
    ndo_get_stats64=bond_get_stats,
    ndo_set_rx_mode=bond_set_rx_mode,
    ndo_change_rx_flags=bond_change_rx_flags,
    ndo_change_mtu=bond_change_mtu,
    ndo_set_mac_address=bond_set_mac_address,
    ndo_vlan_rx_add_vid=bond_vlan_rx_add_vid,
    ndo_vlan_rx_kill_vid=bond_vlan_rx_kill_vid,
    ndo_fix_features=master_fix_features,
)


def bond_priv(dev: net_device) -> bonding:
    """The private part of a bond's device."""
    bond = bonding(dev)
    bond.mii_timer = timer_list(dev.machine, bond_mii_monitor, data=bond)
    bond.mcast_timer = timer_list(dev.machine, bond_resend_igmp_join_requests, data=bond)
    return bond


def bond_setup(dev: net_device) -> None:
    """drivers/net/bonding/bond_main.c: Ethernet without a queue; it stays in its namespace."""
    ether_setup_software(dev, bond_netdev_ops, bond_ethtool_ops)
    dev.state |= netdevice.LINK_STATE_NOCARRIER
    dev.flags |= netdevice.IFF_MASTER
    dev.priv_flags |= netdevice.IFF_BONDING
    tags = netdevice.NETIF_F_HW_VLAN_CTAG_TX | netdevice.NETIF_F_HW_VLAN_STAG_TX
    filters = netdevice.NETIF_F_HW_VLAN_CTAG_RX | netdevice.NETIF_F_HW_VLAN_CTAG_FILTER
    own = BOND_VLAN_FEATURES | netdevice.NETIF_F_GSO_ENCAP_ALL
    dev.hw_features = own | netdevice.NETIF_F_HW_VLAN_CTAG_RX
    dev.features = own | tags | filters | netdevice.NETIF_F_NETNS_LOCAL
    dev.vlan_features = BOND_VLAN_FEATURES
    netif_set_tso_max_size(dev, netdevice.GSO_MAX_SIZE)


def bond_create(net: Net, name: str, mac: bytes | None = None) -> net_device:
    """drivers/net/bonding/bond_main.c: `ip link add NAME type bond`; no carrier without a slave.

    `mac`: a fixed address; without it that of the first slave.

    Raises:
        OSError: EEXIST, the name is taken; EADDRNOTAVAIL, no address of a station.
        ValueError: the name is empty or too long.
    """
    load_module(net.machine, "bonding", bond_net_ops)
    return rtnl_newlink(net, name, bond_link_ops, bond_setup, mac, bond_priv)


def bond_uninit(dev: net_device) -> None:
    """drivers/net/bonding/bond_main.c: release the slaves, unregister the bond."""
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return
    bond: bonding = dev.priv
    dev_close(dev)
    for one in list(bond.slave_list):
        bond_release(bond, one.dev)
    unregister_netdevice(dev)
    for timer in (bond.mii_timer, bond.mcast_timer):
        timer_shutdown(timer)
    if bond.ad is not None:
        timer_shutdown(bond.ad.timer)
    free_netdev(dev)


bond_link_ops = rtnl_link_ops("bond", bond_uninit)


bond_net_ops = watches_devices(bond_netdev_event)
