"""drivers/net/macvlan.c: devices with MAC addresses of their own on one lower device.

    macvlan_start_xmit          to another device of mode bridge, or out through the lower device
        macvlan_broadcast       a multicast frame to the others of mode bridge
        dev_queue_xmit
    macvlan_handle_frame        the lower device's rx_handler: finds the device
        macvlan_forward_source  copies for mode source, by the sender
        macvlan_broadcast_enqueue -> macvlan_process_broadcast      multicast, deferred
        macvlan_multicast_rx    a group joined by at most one device, at once

State: the lower device's `rx_handler_data` is its macvlan_port. It has all devices in `vlans`,
those that are up in `vlan_hash` by address, senders of mode source in `vlan_source_hash`. A frame
for a group reaches the devices with it in their lists (`dev.mc`). Read macvlan_handle_frame first.
"""

from __future__ import annotations

import errno
from collections import deque
from functools import partial

from fastpath.base import skbuff
from fastpath.base.skbuff import (
    consume_skb,
    sk_buff,
    skb_clone,
    skb_copy_bits,
    skb_reset_mac_header,
    skb_share_check,
)
from fastpath.net.hdr import eth_hdr
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev import (
    dev_addresses_unsync,
    dev_set_mac_address,
    dev_set_promiscuity,
    dev_uc_add,
    dev_uc_del,
)
from stack.core.dev_forward import __dev_forward_skb, dev_count_rx, dev_count_tx, dev_wants_group
from stack.core.dev_queue import dev_queue_xmit
from stack.core.dev_receive import netdev_rx_handler_register, netdev_rx_handler_unregister
from stack.core.dev_upper import stacked_change_rx_flags, stacked_pass_modes
from stack.core.drop_reason import (
    SKB_DROP_REASON_DEV_READY,
    SKB_DROP_REASON_NOT_SPECIFIED,
    kfree_skb_reason,
)
from stack.core.ethtool import ethtool_get_ts_info, ethtool_ops, fixed_drvinfo
from stack.core.netdevice import ETH_P_PAUSE, net_device, net_device_ops, netif_carrier_ok
from stack.core.rows import row, state
from stack.core.workqueue import cancel_delayed_work, schedule_work, work_struct
from stack.drivers.stacked import (
    STACKED_FEATURES,
    stacked_fix_features,
    stacked_get_link_ksettings,
    stacked_init,
    stacked_set_rx_mode,
    stacked_vlan_rx_add_vid,
    stacked_vlan_rx_kill_vid,
)
from stack.ethernet.eth import eth_validate_addr, ether_setup_software, is_valid_ether_addr

# include/uapi/linux/if_link.h
MACVLAN_MODE_PRIVATE, MACVLAN_MODE_VEPA, MACVLAN_MODE_BRIDGE = 1, 2, 4
MACVLAN_MODE_PASSTHRU, MACVLAN_MODE_SOURCE = 8, 16
MACVLAN_MODE_NAMES = {
    "private": MACVLAN_MODE_PRIVATE,
    "vepa": MACVLAN_MODE_VEPA,
    "bridge": MACVLAN_MODE_BRIDGE,
    "passthru": MACVLAN_MODE_PASSTHRU,
    "source": MACVLAN_MODE_SOURCE,
}
MACVLAN_FLAG_NOPROMISC, MACVLAN_FLAG_NODST = 1, 2
MACVLAN_DEFAULT_BC_QUEUE_LEN = 1000
FROM_OUTSIDE = (
    MACVLAN_MODE_PRIVATE | MACVLAN_MODE_VEPA | MACVLAN_MODE_PASSTHRU | MACVLAN_MODE_BRIDGE
)
"""Modes of devices that receive a multicast frame from an external sender."""
MACVLAN_FEATURES = STACKED_FEATURES | netdevice.NETIF_F_LRO


@state
class macvlan_dev:
    """include/linux/if_macvlan.h: private data of a device."""

    dev: net_device
    lowerdev: net_device
    port: macvlan_port
    mode: int = row(MACVLAN_MODE_VEPA)
    flags: int = row(0)
    """MACVLAN_FLAG_*."""
    bc_queue_len_req: int = row(MACVLAN_DEFAULT_BC_QUEUE_LEN)
    """Requested limit of queued multicast frames."""
    sources: list[bytes] = row(make=list)
    """Senders accepted in mode source, newest first."""


@state
class macvlan_port:
    """Data of a lower device about its macvlans."""

    dev: net_device
    perm_addr: bytes = row(of=lambda port: port.dev.dev_addr)
    """The address to restore when mode passthru ends."""
    vlans: list[macvlan_dev] = row(make=list)
    vlan_hash: dict[bytes, macvlan_dev] = row(make=dict)
    vlan_source_hash: dict[bytes, list[macvlan_dev]] = row(make=dict)
    count: int = row(0)
    passthru: bool = row(False)
    addr_change: bool = row(False)
    """The device of mode passthru sets the lower device's address."""
    bc_queue: deque[tuple[sk_buff, macvlan_dev | None]] = row(make=deque)
    """Queued multicast frames, each with the sending device."""
    bc_queue_len_used: int = row(0)
    """Limit of the queue: the largest that a device requests."""
    bc_cutoff: int = row(1)
    """Groups joined by more devices than this are queued; -1: none."""
    bc_work: work_struct = row()


def macvlan_port_get(dev: net_device) -> macvlan_port | None:
    """The port of a lower device; None if it has no macvlans."""
    if not dev.priv_flags & netdevice.IFF_MACVLAN_PORT:
        return None
    port: macvlan_port = dev.rx_handler_data
    return port


def macvlan_port_create(dev: net_device) -> int:
    """Register the rx_handler of `dev`. 0; -EINVAL: not Ethernet; -EBUSY: a bridge uses it."""
    if dev.type != netdevice.ARPHRD_ETHER or dev.flags & netdevice.IFF_LOOPBACK:
        return -errno.EINVAL
    port = macvlan_port(dev)
    port.bc_work = work_struct(dev.machine, partial(macvlan_process_broadcast, port))
    err = netdev_rx_handler_register(dev, macvlan_handle_frame, port)
    if not err:
        dev.priv_flags |= netdevice.IFF_MACVLAN_PORT
    return err


def macvlan_port_destroy(port: macvlan_port) -> None:
    """Release the lower device and restore an address changed by mode passthru."""
    dev = port.dev
    if not dev.priv_flags & netdevice.IFF_MACVLAN_PORT:
        return
    dev.priv_flags &= ~netdevice.IFF_MACVLAN_PORT
    netdev_rx_handler_unregister(dev)
    cancel_delayed_work(port.bc_work)
    for skb, _ in port.bc_queue:
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_DEV_READY)
    port.bc_queue.clear()
    if port.passthru and dev.dev_addr != port.perm_addr:
        dev_set_mac_address(dev, port.perm_addr)


# --- receiving ------------------------------------------------------------------------------------


def macvlan_broadcast_one(skb: sk_buff, vlan: macvlan_dev, dest: bytes, local: bool) -> int:
    """Prepare skb as received by the device. 0 or NET_RX_DROP. Takes ownership when dropped."""
    dev = vlan.dev
    if local:
        return __dev_forward_skb(dev, skb)
    skb.dev = dev
    broadcast = dest == dev.broadcast
    skb.pkt_type = skbuff.PACKET_BROADCAST if broadcast else skbuff.PACKET_MULTICAST
    return 0


def macvlan_broadcast(
    skb: sk_buff, port: macvlan_port, src: net_device | None, mode: int, dest: bytes
) -> None:
    """Copy a multicast frame to all devices of these modes but `src`. Borrows skb.

    data is at the MAC header if a device of mode bridge sent it, else after it.
    """
    if skb.protocol == ETH_P_PAUSE:
        return
    local = mode == MACVLAN_MODE_BRIDGE
    nbytes = skb.len + netdevice.ETH_HLEN  # `skb.len` may already have the header: as in Linux
    vlan: macvlan_dev
    for vlan in tuple(port.vlan_hash.values()):
        if vlan.dev is src or not vlan.mode & mode or not dev_wants_group(vlan.dev, dest):
            continue
        nskb = skb_clone(skb)
        err = macvlan_broadcast_one(nskb, vlan, dest, local) or netif_rx(nskb)
        dev_count_rx(vlan.dev, nbytes, err == netdevice.NET_RX_SUCCESS, True)


def macvlan_multicast_rx(
    port: macvlan_port, src: macvlan_dev | None, skb: sk_buff, dest: bytes
) -> None:
    """Receive a multicast frame from the lower device. Borrows skb (data past the MAC header)."""
    if src is None:
        macvlan_broadcast(skb, port, None, FROM_OUTSIDE, dest)
    elif src.mode == MACVLAN_MODE_VEPA:
        macvlan_broadcast(skb, port, src.dev, MACVLAN_MODE_VEPA | MACVLAN_MODE_BRIDGE, dest)
    else:  # devices of mode bridge received it when sent
        macvlan_broadcast(skb, port, src.dev, MACVLAN_MODE_VEPA, dest)


def macvlan_process_broadcast(port: macvlan_port) -> None:
    """The work of `bc_work`: broadcast the queued frames."""
    waiting, port.bc_queue = port.bc_queue, deque()
    for skb, src in waiting:
        macvlan_multicast_rx(port, src, skb, eth_hdr(skb).h_dest)
        consume_skb(skb)


def macvlan_broadcast_enqueue(port: macvlan_port, src: macvlan_dev | None, skb: sk_buff) -> None:
    """Queue a copy of a multicast frame for `bc_work`, or drop it if full. Borrows skb."""
    if len(port.bc_queue) < port.bc_queue_len_used:
        port.bc_queue.append((skb_clone(skb), src))
        schedule_work(port.bc_work)
    else:
        port.dev.stats.rx_dropped += 1


def macvlan_waits(port: macvlan_port, dest: bytes) -> bool:
    """Whether the group's frames use `bc_queue` (the kernel's `bc_filter`)."""
    if port.bc_cutoff < 0:
        return False
    dev = port.dev
    if dev.flags & (netdevice.IFF_PROMISC | netdevice.IFF_ALLMULTI) or dest == dev.broadcast:
        return True
    users = 0
    vlan: macvlan_dev
    for vlan in port.vlans:
        users += dest in vlan.dev.synced[1]
    return users > port.bc_cutoff


def macvlan_forward_source(skb: sk_buff, port: macvlan_port, source: bytes) -> bool:
    """Copy to the devices of mode source that list the sender. True: consumed.

    Borrows skb.
    """
    consume = False
    vlan: macvlan_dev
    for vlan in port.vlan_source_hash.get(source, ()):
        if vlan.flags & MACVLAN_FLAG_NODST:
            consume = True
        dev = vlan.dev
        if not dev.flags & netdevice.IFF_UP:
            continue
        nskb = skb_clone(skb)
        nbytes = nskb.len + netdevice.ETH_HLEN
        nskb.dev = dev
        if eth_hdr(skb).h_dest == dev.dev_addr:
            nskb.pkt_type = skbuff.PACKET_HOST
        ret = netif_rx(nskb)
        dev_count_rx(vlan.dev, nbytes, ret == netdevice.NET_RX_SUCCESS, False)
    return consume


def macvlan_handle_frame(skb: sk_buff) -> int:
    """The rx_handler of a lower device. RX_HANDLER_*.

    Takes ownership of skb (data past the MAC header) when it is consumed.
    """
    if skb.pkt_type == skbuff.PACKET_LOOPBACK:
        return netdevice.RX_HANDLER_PASS
    lower: net_device = skb.dev
    port: macvlan_port = lower.rx_handler_data
    eth = eth_hdr(skb)
    dest = eth.h_dest
    source = eth.h_source
    vlan: macvlan_dev | None
    if port.vlan_source_hash and macvlan_forward_source(skb, port, source):
        kfree_skb_reason(lower.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.RX_HANDLER_CONSUMED
    if dest[0] & 1:
        vlan = port.vlan_hash.get(source)
        if vlan is not None and not vlan.mode & (MACVLAN_MODE_VEPA | MACVLAN_MODE_BRIDGE):
            # Its own frame, returned by the switch.
            shared = skb_share_check(skb)
            if shared is not None:
                ret = macvlan_broadcast_one(shared, vlan, dest, False) or netif_rx(shared)
                dev_count_rx(vlan.dev, 0, ret == netdevice.NET_RX_SUCCESS, False)
            return netdevice.RX_HANDLER_CONSUMED
        if macvlan_waits(port, dest):
            macvlan_broadcast_enqueue(port, vlan, skb)
        else:
            macvlan_multicast_rx(port, vlan, skb, dest)
        return netdevice.RX_HANDLER_PASS
    if port.passthru:
        vlan = port.vlans[0] if port.vlans else None
    else:
        vlan = port.vlan_hash.get(dest)
    if vlan is None or vlan.mode == MACVLAN_MODE_SOURCE:
        return netdevice.RX_HANDLER_PASS
    if not vlan.dev.flags & netdevice.IFF_UP:
        kfree_skb_reason(lower.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.RX_HANDLER_CONSUMED
    # The packet is not shared: a tap that keeps it has made a copy (packet_rcv).
    skb.dev = vlan.dev
    skb.pkt_type = skbuff.PACKET_HOST
    dev_count_rx(vlan.dev, skb.len + netdevice.ETH_HLEN, True, False)
    return netdevice.RX_HANDLER_ANOTHER


# --- sending --------------------------------------------------------------------------------------


def macvlan_start_xmit(skb: sk_buff, dev: net_device) -> int:
    """ndo_start_xmit. NETDEV_TX_OK; takes ownership of skb (data at the MAC header)."""
    vlan: macvlan_dev = dev.priv
    nbytes = skb.len
    dev_count_tx(dev, nbytes, macvlan_queue_xmit(skb, vlan))
    return netdevice.NETDEV_TX_OK


def macvlan_queue_xmit(skb: sk_buff, vlan: macvlan_dev) -> int:
    """Send to another device of mode bridge, or out. NET_XMIT_*. Takes ownership of skb."""
    port = vlan.port
    lower = vlan.lowerdev
    if vlan.mode == MACVLAN_MODE_BRIDGE and skb.len >= netdevice.ETH_HLEN:
        dest = skb_copy_bits(skb, 0, netdevice.ETH_ALEN)
        if dest[0] & 1:
            skb_reset_mac_header(skb)
            macvlan_broadcast(skb, port, vlan.dev, MACVLAN_MODE_BRIDGE, dest)
        else:
            other = port.vlan_hash.get(dest)
            if other is not None and other.mode == MACVLAN_MODE_BRIDGE:
                # The lower device receives it, so that its taps see it.
                if not __dev_forward_skb(lower, skb):
                    netif_rx(skb)
                return netdevice.NET_XMIT_SUCCESS
    skb.dev = lower
    return dev_queue_xmit(skb)


# --- the device -----------------------------------------------------------------------------------


def macvlan_addr_busy(port: macvlan_port, addr: bytes) -> bool:
    """Whether the lower device or a running macvlan on it uses the address."""
    if not port.passthru and not port.addr_change and port.dev.dev_addr == addr:
        return True
    return addr in port.vlan_hash


def macvlan_open(dev: net_device) -> int:
    """ndo_open: 0; -EADDRINUSE."""
    vlan: macvlan_dev = dev.priv
    port, lower = vlan.port, vlan.lowerdev
    if port.passthru:
        if not vlan.flags & MACVLAN_FLAG_NOPROMISC:
            dev_set_promiscuity(lower, 1)
    else:
        if macvlan_addr_busy(port, dev.dev_addr):
            return -errno.EADDRINUSE
        err = dev_uc_add(lower, dev.dev_addr)
        if err:
            return err
        stacked_pass_modes(lower, dev.flags, 1)
    port.vlan_hash[dev.dev_addr] = vlan
    return 0


def macvlan_stop(dev: net_device) -> int:
    """ndo_stop: remove the addresses from the lower device. 0."""
    vlan: macvlan_dev = dev.priv
    port, lower = vlan.port, vlan.lowerdev
    dev_addresses_unsync(lower, dev)
    if port.passthru:
        if not vlan.flags & MACVLAN_FLAG_NOPROMISC:
            dev_set_promiscuity(lower, -1)
    else:
        stacked_pass_modes(lower, dev.flags, -1)
        dev_uc_del(lower, dev.dev_addr)
    port.vlan_hash.pop(dev.dev_addr, None)
    return 0


def macvlan_sync_address(dev: net_device, addr: bytes) -> int:
    """Set the device's address, whether it is up or down. 0; -EADDRINUSE."""
    vlan: macvlan_dev = dev.priv
    port, lower = vlan.port, vlan.lowerdev
    if dev.flags & netdevice.IFF_UP:
        if macvlan_addr_busy(port, addr):
            return -errno.EADDRINUSE
        if not port.passthru:
            err = dev_uc_add(lower, addr)
            if err:
                return err
            dev_uc_del(lower, dev.dev_addr)
        port.vlan_hash.pop(dev.dev_addr, None)
        port.vlan_hash[bytes(addr)] = vlan
    dev.dev_addr = bytes(addr)
    if port.passthru and not port.addr_change:
        port.perm_addr = lower.dev_addr
    port.addr_change = False
    return 0


def macvlan_set_mac_address(dev: net_device, addr: bytes) -> int:
    """ndo_set_mac_address: in passthru also the lower device's. 0; -EADDRNOTAVAIL; -EADDRINUSE."""
    vlan: macvlan_dev = dev.priv
    if not is_valid_ether_addr(addr):
        return -errno.EADDRNOTAVAIL
    if vlan.mode == MACVLAN_MODE_PASSTHRU:
        vlan.port.addr_change = True
        return dev_set_mac_address(vlan.lowerdev, addr)
    if macvlan_addr_busy(vlan.port, addr):
        return -errno.EADDRINUSE
    return macvlan_sync_address(dev, addr)


def macvlan_change_rx_flags(dev: net_device, change: int) -> None:
    """ndo_change_rx_flags: pass the flags to the lower device."""
    vlan: macvlan_dev = dev.priv
    if vlan.port.passthru:
        change &= ~netdevice.IFF_PROMISC
    if dev.flags & netdevice.IFF_UP:
        stacked_change_rx_flags(dev, vlan.lowerdev, change)


def macvlan_change_mtu(dev: net_device, new_mtu: int) -> int:
    """ndo_change_mtu: 0; -EINVAL above the lower device's MTU."""
    vlan: macvlan_dev = dev.priv
    return -errno.EINVAL if vlan.lowerdev.mtu < new_mtu else 0


def macvlan_init(dev: net_device) -> int:
    """ndo_init: carrier and features of the lower device. 0."""
    vlan: macvlan_dev = dev.priv
    stacked_init(dev, vlan.lowerdev, MACVLAN_FEATURES)
    dev.hw_features |= netdevice.NETIF_F_LRO
    vlan.port.count += 1
    return 0


def macvlan_uninit(dev: net_device) -> None:
    """ndo_uninit: the last device destroys the port."""
    vlan: macvlan_dev = dev.priv
    vlan.port.count -= 1
    if not vlan.port.count:
        macvlan_port_destroy(vlan.port)


def macvlan_fix_features(dev: net_device, features: int) -> int:
    """ndo_fix_features: those of the lower device, and software features."""
    vlan: macvlan_dev = dev.priv
    return stacked_fix_features(vlan.lowerdev, features, MACVLAN_FEATURES)


def macvlan_ethtool_get_ts_info(dev: net_device) -> int:
    """`ethtool -T`: that of the lower device."""
    vlan: macvlan_dev = dev.priv
    return ethtool_get_ts_info(vlan.lowerdev)


macvlan_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("macvlan", "0.1"),
    get_ts_info=macvlan_ethtool_get_ts_info,
    get_link=netif_carrier_ok,
    get_link_ksettings=stacked_get_link_ksettings,
)

macvlan_netdev_ops = net_device_ops(
    ndo_init=macvlan_init,
    ndo_uninit=macvlan_uninit,
    ndo_open=macvlan_open,
    ndo_stop=macvlan_stop,
    ndo_start_xmit=macvlan_start_xmit,
    ndo_change_mtu=macvlan_change_mtu,
    ndo_fix_features=macvlan_fix_features,
    ndo_change_rx_flags=macvlan_change_rx_flags,
    ndo_set_mac_address=macvlan_set_mac_address,
    ndo_set_rx_mode=stacked_set_rx_mode,
    ndo_validate_addr=eth_validate_addr,
    ndo_vlan_rx_add_vid=stacked_vlan_rx_add_vid,
    ndo_vlan_rx_kill_vid=stacked_vlan_rx_kill_vid,
)


def macvlan_setup(dev: net_device) -> None:
    """Ethernet without a queue."""
    ether_setup_software(dev, macvlan_netdev_ops, macvlan_ethtool_ops)
