"""drivers/net/tun.c: a TAP, an Ethernet interface whose frames a program reads and writes.

The program is a link, as e1000emu.links has them: there is no NIC with rings and interrupts. As of
a TAP without offloads, frames are segmented and their checksums computed before they come here,
and checksums of what arrives are verified by the protocols. A program may write several segments of
TCP as one packet (tun_file.receive_gso).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastpath.base.batch import FB_BAD_CRC, FB_HAS_FCS, FrameBatch
from fastpath.base.skbuff import (
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    consume_skb,
    kfree_skb,
    sk_buff,
    skb_add_data,
    skb_from_bytes,
    skb_to_bytes,
)
from fastpath.net.zerocopy import skb_orphan_frags
from fastpath.nic.cable import shared
from stack.core import netdevice, uapi
from stack.core.dev_queue import netif_stop_queue, netif_wake_queue
from stack.core.dev_receive import netif_receive_skb
from stack.core.ethtool import (
    DUPLEX_FULL,
    ethtool_link_ksettings,
    ethtool_op_get_ts_info,
    ethtool_ops,
    fixed_drvinfo,
)
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import net_device, net_device_ops, netif_carrier_ok, rtnl_link_ops
from stack.core.rows import row, state
from stack.core.rtnetlink import rtnl_newlink, unregister_and_free
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.core.tstamp import skb_tx_timestamp
from stack.ethernet.eth import (
    eth_mac_addr,
    eth_no_rx_filter,
    eth_type_trans,
    eth_validate_addr,
    ether_setup,
)

if TYPE_CHECKING:
    from stack.net import Net

TUN_READQ_SIZE = 500
NET_SKB_PAD = 64
NET_IP_ALIGN = 2
FCS_BYTES = 4
IPV4_VERSION = 4
IP_PROTOCOL, IPV6_NEXTHDR, TCP_DOFF = 9, 6, 12
"""Where a header has its field."""
SMALL_FRAME_BYTES = 1700
"""Longer ones have buffers of the large pool."""
PAGE_SIZE = 4096
SKB_OVERHEAD = 256
SKB_MAX_HEAD = PAGE_SIZE - NET_SKB_PAD - 320
"""Of a page, without headroom and skb_shared_info."""


class Link(Protocol):
    """The program at the other end."""

    @property
    def carrier(self) -> bool:
        """The far end is there."""

    def attach(self, port: Any) -> None:
        """Take the port whose `receive`, `link_changed` and `tx_ready` are to be called."""

    def detach(self) -> None:
        """Forget the port."""

    def tx_room(self) -> int:
        """How many frames it takes; 0: wait for `tx_ready`."""

    def transmit(self, batch: FrameBatch) -> None:
        """Send frames. Takes ownership of `batch`."""


@state
class tun_struct:
    """drivers/net/tun.c: the interface's own part."""

    link: Any = row()
    """The Link; None once it is detached."""
    batch: Any = row()
    """Frames that wait for the last one of a burst."""


def tun_net_xmit(skb: sk_buff, dev: net_device) -> int:
    """drivers/net/tun.c: ndo_start_xmit: hand it to the program. Takes ownership of skb."""
    tun: tun_struct = dev.priv
    stats = dev.stats
    if tun.link is None:
        stats.tx_dropped += 1
        consume_skb(skb)
        return netdevice.NETDEV_TX_OK
    if not skb_orphan_frags(skb, dev.machine.skb_pages):
        stats.tx_dropped += 1
        consume_skb(skb)
        return netdevice.NETDEV_TX_OK
    batch: FrameBatch = shared.get() if tun.batch is None else tun.batch
    if skb.tx_flags:
        skb_tx_timestamp(skb)
    batch.append(skb_to_bytes(skb))
    stats.tx_packets += 1
    stats.tx_bytes += skb.len
    consume_skb(skb)
    if dev.xmit_more and len(batch) < tun.link.tx_room():
        tun.batch = batch
        return netdevice.NETDEV_TX_OK
    tun.batch = None
    tun.link.transmit(batch)
    if tun.link.tx_room() <= 0:
        netif_stop_queue(dev)
    return netdevice.NETDEV_TX_OK


def tun_get_user(dev: net_device, frame: memoryview, flags: int, gso_size: int = 0) -> None:
    """drivers/net/tun.c: the interface receives a frame that the program wrote.

    `gso_size`: of a TCP packet, whose virtio-net header says that it is several segments of so many
    bytes. 0 without one.
    """
    stats = dev.stats
    length = len(frame) - FCS_BYTES if flags & FB_HAS_FCS else len(frame)
    if flags & FB_BAD_CRC or length < 14:
        stats.rx_errors += 1
        return
    machine = dev.machine
    linear = min(length, SMALL_FRAME_BYTES)
    rest = length - linear
    skb = skb_from_bytes(machine.skb_small, frame[:linear], NET_SKB_PAD + NET_IP_ALIGN)
    if skb is None:
        stats.rx_dropped += 1
        return
    if rest:
        if skb_add_data(skb, machine.skb_pages, frame, linear, rest) < rest:
            stats.rx_dropped += 1
            kfree_skb(skb)
            return
        skb.truesize = tun_truesize(length)
    stats.rx_packets += 1
    stats.rx_bytes += length
    if gso_size:
        virtio_net_hdr_to_skb(skb, frame, length, gso_size)
    eth_type_trans(skb, dev)
    netif_receive_skb(skb)


def tun_truesize(length: int) -> int:
    """What Linux's tun_alloc_skb takes for a large frame, in bytes: TCP's window follows from it.

    The sk_buff, a page of linear data, and pages for the rest.
    """
    paged = max(length - SKB_MAX_HEAD, 0)
    return SKB_OVERHEAD + PAGE_SIZE + -(-paged // PAGE_SIZE) * PAGE_SIZE


def virtio_net_hdr_to_skb(skb: sk_buff, frame: memoryview, length: int, gso_size: int) -> None:
    """virtio_net.h: mark a TCP packet as segments of `gso_size` bytes, if it has more than one."""
    if length < netdevice.ETH_HLEN + uapi.IP_HLEN:
        return
    nhoff = netdevice.ETH_HLEN
    if frame[nhoff] >> 4 == IPV4_VERSION:
        gso_type, protocol = SKB_GSO_TCPV4, frame[nhoff + IP_PROTOCOL]
        thoff = nhoff + (frame[nhoff] & 15) * 4
    else:
        gso_type, protocol = SKB_GSO_TCPV6, frame[nhoff + IPV6_NEXTHDR]
        thoff = nhoff + uapi.IPV6_HLEN
    if protocol != uapi.IPPROTO_TCP or length < thoff + uapi.TCP_HLEN:
        return
    payload = length - thoff - (frame[thoff + TCP_DOFF] >> 4) * 4
    if payload > gso_size:
        skb.gso_type = gso_type
        skb.gso_size = gso_size
        skb.gso_segs = -(-payload // gso_size)


class tun_file:
    """drivers/net/tun.c: what the program holds, the port that is plugged into its link."""

    def __init__(self, dev: net_device) -> None:
        self.dev = dev

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Take all frames of `batch` from `start`. Borrows `batch` until return."""
        dev = self.dev
        stop = len(batch)
        if not dev.flags & netdevice.IFF_UP:
            dev.stats.rx_dropped += stop - start
            return stop
        local_bh_disable(dev.machine)
        try:
            for i in range(start, stop):
                tun_get_user(dev, batch.view(i), batch.flags(i))
        finally:
            local_bh_enable(dev.machine)
        return stop

    def receive_gso(self, frame: bytes, gso_size: int) -> None:
        """Take a frame that is one TCP packet of several segments, as IFF_VNET_HDR allows."""
        if not self.dev.flags & netdevice.IFF_UP:
            self.dev.stats.rx_dropped += 1
            return
        local_bh_disable(self.dev.machine)
        try:
            tun_get_user(self.dev, memoryview(frame), 0, gso_size)
        finally:
            local_bh_enable(self.dev.machine)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """The carrier has changed."""
        if up:
            netif_carrier_on(self.dev)
        else:
            netif_carrier_off(self.dev)

    def tx_ready(self) -> None:
        """The link takes frames again."""
        netif_wake_queue(self.dev)


def tun_get_link_ksettings(dev: net_device) -> ethtool_link_ksettings:
    """drivers/net/tun.c: `ethtool DEV`: a nominal 10 Gbit/s."""
    return ethtool_link_ksettings(speed=10000, duplex=DUPLEX_FULL, autoneg=False)


def tun_net_uninit(dev: net_device) -> None:
    """drivers/net/tun.c: ndo_uninit: the program's side ends with the interface."""
    tun: tun_struct = dev.priv
    link: Link | None = tun.link
    tun.link = tun.batch = None
    if link is not None:
        link.detach()


tap_netdev_ops = net_device_ops(
    ndo_uninit=tun_net_uninit,
    ndo_start_xmit=tun_net_xmit,
    ndo_set_rx_mode=eth_no_rx_filter,
    ndo_set_mac_address=eth_mac_addr,
    ndo_validate_addr=eth_validate_addr,
)
tun_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("tun", "1.6"),
    get_ts_info=ethtool_op_get_ts_info,
    get_link=netif_carrier_ok,
    get_link_ksettings=tun_get_link_ksettings,
)


def tun_setup(dev: net_device) -> None:
    """drivers/net/tun.c (with tun_net_initialize): Ethernet with a short queue, no offloads."""
    ether_setup(dev)
    dev.tx_queue_len = TUN_READQ_SIZE
    dev.max_mtu = netdevice.ETH_MAX_MTU - dev.hard_header_len
    dev.netdev_ops = tap_netdev_ops
    dev.ethtool_ops = tun_ethtool_ops
    dev.features = netdevice.NETIF_F_SG | netdevice.NETIF_F_FRAGLIST | netdevice.NETIF_F_GSO
    dev.hw_features = dev.features


def tun_set_iff(net: Net, name: str, link: Link, mac: bytes | None = None) -> net_device:
    """drivers/net/tun.c: `ip tuntap add NAME mode tap`, opened by the program at `link`.

    Raises:
        OSError: EEXIST, the name is taken. ValueError: it is empty or too long.
    """
    dev = rtnl_newlink(net, name, tun_link_ops, tun_setup, mac, lambda _dev: tun_struct())
    netif_carrier_off(dev)
    dev.priv.link = link
    link.attach(tun_file(dev))
    if link.carrier:
        netif_carrier_on(dev)
    return dev


tun_link_ops = rtnl_link_ops("tun", unregister_and_free)
