"""L3 master devices such as VRFs, whose ports have a routing table of their own.

net/l3mdev/l3mdev.c, include/net/l3mdev.h, include/net/inet_sock.h. The master's private object
begins with `l3mdev_ops`: the number of its table, and what it does with packets of its ports.

A received packet that went through a master has `skb.dev` and `skb.skb_iif` of the master. The
receiving interface is in the high bits of `skb.ip_cb_flags` (IPCB(skb)->iif with
IPSKB_L3SLAVE); `inet_sdif` reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff
from stack.core.netdevice import (
    IFF_L3MDEV_MASTER,
    IFF_L3MDEV_RX_HANDLER,
    IFF_L3MDEV_SLAVE,
    net_device,
)
from stack.core.rows import state

if TYPE_CHECKING:
    from stack.core.dst import dst_entry
    from stack.core.sock import sock
    from stack.inet.flow import flowi
    from stack.net import Net

IFF_L3MDEV = IFF_L3MDEV_MASTER | IFF_L3MDEV_SLAVE
IFF_L3MDEV_RCV = IFF_L3MDEV | IFF_L3MDEV_RX_HANDLER
"""Devices whose received packets l3mdev_l3_rcv must see."""
SDIF_SHIFT = 8
"""The flags of ip_cb_flags are below, the index of the interface above."""
SDIF_MASK = 0xFFFFFF


@state
class l3mdev_ops:
    """struct l3mdev_ops and the number of the table.

    `l3mdev_l3_rcv(master, skb, family)` and `l3mdev_l3_out(master, sk, skb, family)` return the
    packet, or None when they took it.
    """

    tb_id: int
    l3mdev_l3_rcv: Callable[[net_device, sk_buff, int], sk_buff | None]
    l3mdev_l3_out: Callable[[net_device, sock | None, sk_buff, int], sk_buff | None]


def netif_is_l3_master(dev: net_device) -> bool:
    """include/linux/netdevice.h: a VRF."""
    return bool(dev.priv_flags & IFF_L3MDEV_MASTER)


def netif_is_l3_slave(dev: net_device) -> bool:
    """include/linux/netdevice.h: a port of a VRF."""
    return bool(dev.priv_flags & IFF_L3MDEV_SLAVE)


def l3mdev_master_dev(dev: net_device) -> net_device | None:
    """l3mdev_master_dev_rcu: the VRF that a device is or is in; None: in none."""
    if not dev.priv_flags & IFF_L3MDEV:
        return None
    return dev if dev.priv_flags & IFF_L3MDEV_MASTER else dev.master


def l3mdev_master_ifindex(dev: net_device | None) -> int:
    """l3mdev_master_ifindex_rcu: the index of the VRF that a device is or is in; 0: in none."""
    master = l3mdev_master_dev(dev) if dev is not None else None
    return master.ifindex if master is not None else 0


def l3mdev_master_ifindex_by_index(net: Net, ifindex: int) -> int:
    """include/net/l3mdev.h: the same by the index of the device."""
    return l3mdev_master_ifindex(net.dev_by_index.get(ifindex)) if ifindex else 0


def l3mdev_fib_table(dev: net_device | None) -> int:
    """l3mdev_fib_table_rcu: the number of the table of a device's VRF; 0: it is in none."""
    master = l3mdev_master_dev(dev) if dev is not None else None
    if master is None or master.priv is None:
        return 0
    ops: l3mdev_ops = master.priv
    return ops.tb_id


def l3mdev_fib_table_by_index(net: Net, ifindex: int) -> int:
    """include/net/l3mdev.h: the same by the index of the device."""
    return l3mdev_fib_table(net.dev_by_index.get(ifindex)) if ifindex else 0


def netif_index_is_l3_master(net: Net, ifindex: int) -> bool:
    """include/net/l3mdev.h: whether the index is a VRF's."""
    dev = net.dev_by_index.get(ifindex) if ifindex else None
    return dev is not None and netif_is_l3_master(dev)


def l3mdev_flow_oif(net: Net, oif: int) -> int:
    """l3mdev_update_flow: what a table's next hops are compared with: 0 for a VRF's index."""
    return 0 if oif and netif_index_is_l3_master(net, oif) else oif


def l3mdev_flow(net: Net, fl: flowi, iif: int) -> int:
    """l3mdev_update_flow: the index of the VRF that a flow is in (flowi_l3mdev); 0: in none."""
    if fl.flowi_oif:
        return l3mdev_master_ifindex_by_index(net, fl.flowi_oif)
    return l3mdev_master_ifindex_by_index(net, iif)


def sk_dev_equal_l3scope(sk: sock, dif: int) -> bool:
    """include/net/sock.h: whether a socket may use the interface `dif`, by its bound device."""
    bound = sk.sk_bound_dev_if
    return not bound or bound in (dif, l3mdev_master_ifindex_by_index(sk.net, dif))


# --- packets --------------------------------------------------------------------------------------


def l3mdev_l3_rcv(skb: sk_buff, family: int) -> sk_buff | None:
    """include/net/l3mdev.h: pass a received packet to the VRF that its device is or is in.

    Or to ipvlan of mode l3s, whose port (`rx_handler_data`) has `l3mdev_ops`. Returns the packet,
    or None when it is gone.
    """
    ops: l3mdev_ops
    dev: net_device = skb.dev
    master = l3mdev_master_dev(dev)
    if master is None and dev.priv_flags & IFF_L3MDEV_RX_HANDLER:
        ops = dev.rx_handler_data.l3mdev_ops
        return ops.l3mdev_l3_rcv(dev, skb, family)
    if master is None or master.priv is None:
        return skb
    ops = master.priv
    return ops.l3mdev_l3_rcv(master, skb, family)


def l3mdev_l3_out(sk: sock | None, skb: sk_buff, family: int) -> sk_buff | None:
    """include/net/l3mdev.h: pass a packet of ours to the VRF that its device is a port of."""
    dst: dst_entry = skb.dst
    master = dst.dev.master
    if master is None or master.priv is None:
        return skb
    ops: l3mdev_ops = master.priv
    return ops.l3mdev_l3_out(master, sk, skb, family)


def l3mdev_mark(skb: sk_buff) -> None:
    """IPCB(skb)->iif and IPSKB_L3SLAVE: store the receiving interface."""
    skb.ip_cb_flags |= (skb.skb_iif & SDIF_MASK) << SDIF_SHIFT


def inet_sdif(skb: sk_buff) -> int:
    """include/net/ip.h inet_sdif, inet6_sdif: that interface, of a packet in a VRF; else 0."""
    return skb.ip_cb_flags >> SDIF_SHIFT


def inet_bound_dev_eq(l3mdev_accept: bool, bound_dev_if: int, dif: int, sdif: int) -> bool:
    """include/net/inet_sock.h: whether a socket gets packets from `dif`, of `sdif` in a VRF.

    One without SO_BINDTODEVICE gets those of a VRF if its protocol's *_l3mdev_accept is set.
    """
    if not bound_dev_if:
        return not sdif or l3mdev_accept
    return bound_dev_if in (dif, sdif)
