"""Receive filters: addresses, multicast hash, VLANs (e1000_set_rx_mode of e1000_main.c)."""

from __future__ import annotations

import errno

from stack.core import netdevice
from stack.core.netdevice import net_device
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.e1000 import E1000_WRITE_FLUSH, e1000_adapter, er32, ew32
from stack.drivers.e1000.hw import (
    e1000_hash_mc_addr,
    e1000_rar_clear,
    e1000_rar_set,
    e1000_write_vfta,
)
from stack.ethernet.eth import is_valid_ether_addr


def e1000_set_rx_mode(netdev: net_device) -> None:
    """e1000_main.c: ndo_set_rx_mode: promiscuity, unicast and multicast lists into RCTL, RA, MTA.

    Entry 0 is our own address; 14 more addresses are exact, unicast first; others are hashed.
    """
    adapter: e1000_adapter = netdev.priv
    hw = adapter.hw
    rctl = er32(hw, d.E1000_RCTL)
    exact = d.E1000_RAR_ENTRIES - 1
    use_uc = True
    if netdev.flags & netdevice.IFF_PROMISC:
        rctl |= d.E1000_RCTL_UPE | d.E1000_RCTL_MPE
    else:
        rctl &= ~(d.E1000_RCTL_UPE | d.E1000_RCTL_MPE)
        if netdev.flags & netdevice.IFF_ALLMULTI:
            rctl |= d.E1000_RCTL_MPE
    if netdev.flags & netdevice.IFF_PROMISC or netdev.features & netdevice.NETIF_F_RXALL:
        rctl &= ~d.E1000_RCTL_VFE
    elif e1000_vlan_used(adapter):
        rctl |= d.E1000_RCTL_VFE
    if len(netdev.uc) > exact:
        rctl |= d.E1000_RCTL_UPE
        use_uc = False
    ew32(hw, d.E1000_RCTL, rctl)
    index = 1
    if use_uc:
        for addr in netdev.uc:
            e1000_rar_set(hw, addr, index)
            index += 1
    table = [0] * d.E1000_NUM_MTA_REGISTERS
    for addr in netdev.mc:
        if index <= exact:
            e1000_rar_set(hw, addr, index)
            index += 1
        else:
            bit = e1000_hash_mc_addr(hw, addr)
            table[bit >> 5] |= 1 << (bit & 31)
    for empty in range(index, d.E1000_RAR_ENTRIES):
        e1000_rar_clear(hw, empty)
    # Backwards, as some chips combine neighbouring writes.
    for reg in range(d.E1000_NUM_MTA_REGISTERS - 1, -1, -1):
        ew32(hw, d.E1000_MTA + 4 * reg, table[reg])
    E1000_WRITE_FLUSH(hw)


def e1000_set_mac(netdev: net_device, addr: bytes) -> int:
    """e1000_main.c: ndo_set_mac_address. 0 or -EADDRNOTAVAIL."""
    adapter: e1000_adapter = netdev.priv
    if not is_valid_ether_addr(addr):
        return -errno.EADDRNOTAVAIL
    netdev.dev_addr = adapter.hw.mac_addr = bytes(addr)
    e1000_rar_set(adapter.hw, netdev.dev_addr, 0)
    return 0


def e1000_vlan_used(adapter: e1000_adapter) -> bool:
    """e1000_main.c: whether any VLAN is registered."""
    return bool(adapter.active_vlans)


def e1000_vlan_mode(netdev: net_device, features: int) -> None:
    """e1000_main.c: CTRL.VME: strip and insert tags in hardware, or leave them in the frame."""
    adapter: e1000_adapter = netdev.priv
    ctrl = er32(adapter.hw, d.E1000_CTRL) & ~d.E1000_CTRL_VME
    adapter.rx_vlan_strip = bool(features & netdevice.NETIF_F_HW_VLAN_CTAG_RX)
    if adapter.rx_vlan_strip:
        ctrl |= d.E1000_CTRL_VME
    ew32(adapter.hw, d.E1000_CTRL, ctrl)


def e1000_vlan_filter_on_off(adapter: e1000_adapter, filter_on: bool) -> None:
    """e1000_main.c: RCTL.VFE: whether frames of VLANs outside VFTA are dropped."""
    hw = adapter.hw
    e1000_vlan_mode(adapter.netdev, adapter.netdev.features)
    rctl = er32(hw, d.E1000_RCTL) & ~d.E1000_RCTL_CFIEN
    if filter_on and not adapter.netdev.flags & netdevice.IFF_PROMISC:
        rctl |= d.E1000_RCTL_VFE
    else:
        rctl &= ~d.E1000_RCTL_VFE
    ew32(hw, d.E1000_RCTL, rctl)


def e1000_vlan_rx_add_vid(netdev: net_device, proto: int, vid: int) -> int:
    """e1000_main.c: accept frames of VLAN `vid`. 0 or -EINVAL."""
    adapter: e1000_adapter = netdev.priv
    if not 0 <= vid < 4096:
        return -errno.EINVAL
    if not e1000_vlan_used(adapter):
        e1000_vlan_filter_on_off(adapter, True)
    index = vid >> 5 & 0x7F
    word = er32(adapter.hw, d.E1000_VFTA + 4 * index) | 1 << (vid & 0x1F)
    e1000_write_vfta(adapter.hw, index, word)
    adapter.active_vlans.add(vid)
    return 0


def e1000_vlan_rx_kill_vid(netdev: net_device, proto: int, vid: int) -> int:
    """e1000_main.c: reject frames of VLAN `vid`."""
    adapter: e1000_adapter = netdev.priv
    index = vid >> 5 & 0x7F
    word = er32(adapter.hw, d.E1000_VFTA + 4 * index) & ~(1 << (vid & 0x1F))
    e1000_write_vfta(adapter.hw, index, word)
    adapter.active_vlans.discard(vid)
    if not e1000_vlan_used(adapter):
        e1000_vlan_filter_on_off(adapter, False)
    return 0


def e1000_restore_vlan(adapter: e1000_adapter) -> None:
    """e1000_main.c: write the VLAN filter again after a reset."""
    if not e1000_vlan_used(adapter):
        e1000_vlan_mode(adapter.netdev, adapter.netdev.features)
        return
    e1000_vlan_filter_on_off(adapter, True)
    for vid in sorted(adapter.active_vlans):
        e1000_vlan_rx_add_vid(adapter.netdev, netdevice.ETH_P_8021Q, vid)
