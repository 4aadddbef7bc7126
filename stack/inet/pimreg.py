"""The register interface of PIM sparse mode, in both families (RFC 7761 4.4).

net/ipv4/ipmr.c, net/ipv6/ip6mr.c. A sender's first-hop router sends its packets to the rendezvous
point, each in a PIM register message:

    mr_forward, reg_vif_xmit => mr_register_xmit    whole, to the daemon, which makes the message
    pim_rcv, pim6_rcv -> mr_register_rcv            the inner packet is received on the interface

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    | Ver=2 |Type=1 |   Reserved    |  Checksum, of 8 bytes or all  |
    |B|N|                        Reserved2                          |   N: nothing is inside

State: `mr_table.mroute_reg_vif_num`. The interface is deleted when it leaves the table.
"""

from __future__ import annotations

import errno
from functools import partial

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    sk_buff,
    skb_copy_bits,
    skb_pull,
    skb_reset_mac_header,
    skb_reset_network_header,
)
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev import alloc_netdev_mqs, dev_open, register_netdevice
from stack.core.dev_forward import skb_scrub_packet
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.netdevice import net_device, net_device_ops
from stack.inet.ipmr_base import ARPHRD_PIMREG, mr_register_xmit, mr_table

IPPROTO_PIM = 103
PIM_HLEN = 8
PIM_REGISTER = 0x21
"""Version 2, type 1."""
PIM_NULL_REGISTER = 0x40
"""In the fifth byte."""


def reg_vif_xmit(skb: sk_buff, dev: net_device) -> int:
    """net/ipv4/ipmr.c, net/ipv6/ip6mr.c: ndo_start_xmit. Takes ownership of skb."""
    mrt: mr_table = dev.priv
    mr_register_xmit(mrt, dev, skb)
    return netdevice.NETDEV_TX_OK


reg_vif_netdev_ops = net_device_ops(ndo_start_xmit=reg_vif_xmit)


def reg_vif_setup(hlen: int, dev: net_device) -> None:
    """net/ipv4/ipmr.c, net/ipv6/ip6mr.c: a device without addresses; `hlen`: of the IP header."""
    dev.type = ARPHRD_PIMREG
    dev.mtu = netdevice.ETH_DATA_LEN - hlen - PIM_HLEN
    dev.tx_queue_len = 0
    dev.flags = netdevice.IFF_NOARP
    dev.features = netdevice.NETIF_F_NETNS_LOCAL
    dev.netdev_ops = reg_vif_netdev_ops


def mr_reg_vif(mrt: mr_table, hlen: int) -> net_device:
    """net/ipv4/ipmr.c ipmr_reg_vif, net/ipv6/ip6mr.c ip6mr_reg_vif: the interface, up.

    Raises: OSError EADDRINUSE: the table has one; ENOBUFS: another device has its name.
    """
    if mrt.mroute_reg_vif_num >= 0:
        raise os_error(errno.EADDRINUSE, "there is a register interface")
    dev = alloc_netdev_mqs(mrt.net, None, mrt.ops.reg_name, partial(reg_vif_setup, hlen))
    dev.priv = mrt
    dev.virtual = True
    if register_netdevice(dev):
        raise os_error(errno.ENOBUFS, f"there is a device {dev.name}")
    dev_open(dev)
    return dev


def pim_is_register(skb: sk_buff) -> bool:
    """In pim_rcv, pim6_rcv: whether it is a register message that has a packet. Borrows skb."""
    head = skb_copy_bits(skb, 0, PIM_HLEN)
    return head[0] == PIM_REGISTER and not head[4] & PIM_NULL_REGISTER


def mr_register_rcv(mrt: mr_table | None, skb: sk_buff, protocol: int) -> bool:
    """net/ipv4/ipmr.c __pim_rcv, net/ipv6/ip6mr.c pim6_rcv: receive the inner packet.

    Data at the message. Takes ownership of skb when True; False: there is no such interface.
    """
    if mrt is None or mrt.mroute_reg_vif_num < 0:
        return False
    dev = mrt.vif_table[mrt.mroute_reg_vif_num].dev
    if dev is None:
        return False
    skb_pull(skb, PIM_HLEN)
    skb_reset_mac_header(skb)
    skb_reset_network_header(skb)
    skb.protocol = protocol
    skb.ip_summed = CHECKSUM_NONE
    dev.stats.rx_packets += 1
    dev.stats.rx_bytes += skb.len
    skb_scrub_packet(skb, False)
    skb.cb = None
    skb.ip_cb_flags = 0
    skb.dev = dev
    netif_rx(skb)
    return True


def pim_drop(skb: sk_buff) -> int:
    """Drop a message of PIM that the host does not read. Takes ownership of skb."""
    kfree_skb_reason(skb.dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return 0
