"""drivers/net/tun.c: a TUN or TAP, an interface whose packets a program reads and writes.

There is no NIC with rings and interrupts. The program holds one of two objects:

    link     a link of e1000emu.links, whose port is a `LinkPort`: a TAP of the lab
    tfile    an open file of /dev/net/tun (tun_chr.py), held by a program on the host

    tun_net_xmit        => link.transmit                the frames of a burst together
                        => tun_file.tx_ring             one packet, which read(2) takes
    tun_get_user        receives a packet from a LinkPort or write(2) (tun_chr.tun_chr_write_iter)
    tun_set_iff         a TAP at a link. For files: tun_ioctl.tun_chr_set_iff

A TAP has Ethernet frames. A TUN has packets of IPv4 and IPv6 without a link header. As for a device
without offloads, packets are segmented and their checksums computed before transmission, and
the protocols verify checksums of received packets. A program may write several segments of
TCP as one packet (IFF_VNET_HDR).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Any, Protocol

from fastpath.base.batch import FB_BAD_CRC, FB_HAS_FCS, FrameBatch
from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    PACKET_HOST,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    consume_skb,
    kfree_skb,
    sk_buff,
    skb_add_data,
    skb_from_bytes,
    skb_headroom,
    skb_reset_mac_header,
    skb_to_bytes,
)
from fastpath.net.zerocopy import skb_orphan_frags
from fastpath.nic.cable import shared
from stack.core import netdevice, uapi
from stack.core.dev_queue import netif_stop_queue, netif_wake_queue
from stack.core.dev_receive import netif_receive_skb
from stack.core.ethtool import (
    DUPLEX_FULL,
    ethtool_drvinfo,
    ethtool_link_ksettings,
    ethtool_op_get_ts_info,
    ethtool_ops,
)
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import net_device, net_device_ops, netif_carrier_ok, rtnl_link_ops
from stack.core.rows import row, state
from stack.core.rtnetlink import rtnl_newlink, unregister_and_free
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.core.tstamp import skb_tx_timestamp
from stack.core.uapi import POLLIN, POLLRDNORM
from stack.core.wait import wait_queue_head, wake_up_poll
from stack.ethernet.eth import (
    eth_mac_addr,
    eth_no_rx_filter,
    eth_type_trans,
    eth_validate_addr,
    ether_setup,
)
from stack.net import Net

# include/uapi/linux/if_tun.h
IFF_TUN = 0x0001
IFF_TAP = 0x0002
IFF_NAPI = 0x0010
IFF_NAPI_FRAGS = 0x0020
IFF_NO_CARRIER = 0x0040
IFF_MULTI_QUEUE = 0x0100
IFF_PERSIST = 0x0800
IFF_NO_PI = 0x1000
IFF_NOFILTER = 0x1000
IFF_ONE_QUEUE = 0x2000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000
TUN_TYPE_MASK = IFF_TUN | IFF_TAP
TUN_FEATURES = IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_NAPI | IFF_NAPI_FRAGS
"""Supported flags. Linux also has IFF_MULTI_QUEUE. IFF_ONE_QUEUE and IFF_NAPI change nothing."""
INVALID_ID = -1
"""No owner or no group."""

TUN_READQ_SIZE = 500
VIRTIO_NET_HDR_BYTES = 10
"""sizeof(struct virtio_net_hdr)."""
NET_SKB_PAD = 64
NET_IP_ALIGN = 2
FCS_BYTES = 4
IPV4_VERSION = 4
IP_PROTOCOL, IPV6_NEXTHDR, TCP_DOFF = 9, 6, 12
"""Offsets of these fields in their headers."""
SMALL_FRAME_BYTES = 1700
"""Longer packets use buffers of the large pool."""
PAGE_SIZE = 4096
SKB_OVERHEAD = 256
SKB_SHARED_INFO = 320
SKB_SMALL_HEAD = 576
"""Size of net_hotdata.skb_small_head_cache: headers, or a short packet."""
SKB_MAX_HEAD = PAGE_SIZE - NET_SKB_PAD - SKB_SHARED_INFO
"""Data in a page, without headroom and skb_shared_info."""


class Link(Protocol):
    """The program at the other end."""

    @property
    def carrier(self) -> bool:
        """Whether the far end is connected."""

    def attach(self, port: Any) -> None:
        """Set the port whose `receive`, `link_changed` and `tx_ready` are called."""

    def detach(self) -> None:
        """Remove the port."""

    def tx_room(self) -> int:
        """Number of frames that fit; 0: wait for `tx_ready`."""

    def transmit(self, batch: FrameBatch) -> None:
        """Send frames. Takes ownership of `batch`."""


@state
class virtio_net_hdr:
    """struct virtio_net_hdr: the program's description of a packet that it writes."""

    gso_size: int
    """Segment size of a TCP packet, in bytes; 0: it is one segment."""
    csum_start: int = -1
    """Start of an unfinished checksum; -1: the checksum is complete."""
    csum_offset: int = 0


@state
class tun_filter:
    """struct tap_filter: frames to these addresses reach the program (TUNSETTXFILTER)."""

    addrs: set[bytes]
    allmulti: bool
    """All multicast frames also pass."""


@state
class tun_struct:
    """drivers/net/tun.c: private data of the interface."""

    dev: net_device
    flags: int
    """IFF_TUN or IFF_TAP, and bits of TUN_FEATURES and IFF_PERSIST."""
    link: Any = row()
    """The Link; None once it is detached, or when a file is at the other end."""
    batch: Any = row()
    """Frames kept until the last one of a burst."""
    tfile: tun_file | None = row()
    """The open file at the other end, or None."""
    owner: int = row(INVALID_ID)
    group: int = row(INVALID_ID)
    sndbuf: int = row(0x7FFFFFFF)
    """TUNSETSNDBUF: stored only, as written packets are received at once."""
    vnet_hdr_sz: int = row(VIRTIO_NET_HDR_BYTES)
    """Bytes of the header that IFF_VNET_HDR puts before a packet."""
    vnet_le: bool = row(False)
    """TUNSETVNETLE: stored only, as our machines are little-endian."""
    txflt: tun_filter | None = row()
    """None: no filter."""


@state
class tun_file:
    """struct tun_file: an open file of /dev/net/tun."""

    net: Net
    """The namespace in which TUNSETIFF creates the interface."""
    wq: wait_queue_head
    """Woken for a packet, room to write, or removal of the interface."""
    tun: tun_struct | None = row()
    """None before TUNSETIFF, and when the interface has been deleted."""
    tx_ring: deque[tuple[int, bytes]] = row(make=deque)
    """Unread packets: EtherType and bytes."""
    ifindex: int = row(0)
    """TUNSETIFINDEX: ifindex for the new interface; 0: any."""


def tun_net_xmit(skb: sk_buff, dev: net_device) -> int:
    """drivers/net/tun.c: ndo_start_xmit: pass it to the program. Takes ownership of skb."""
    tun: tun_struct = dev.priv
    stats = dev.stats
    if tun.link is None:
        return tun_file_xmit(skb, tun)
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


def tun_file_xmit(skb: sk_buff, tun: tun_struct) -> int:
    """The file part of tun_net_xmit: queue a packet for read(2). Takes ownership of skb.

    It is counted when read, as in the kernel (tun_put_user).
    """
    dev = tun.dev
    tfile = tun.tfile
    if (
        tfile is None
        or len(tfile.tx_ring) >= dev.tx_queue_len
        or not skb_orphan_frags(skb, dev.machine.skb_pages)
    ):
        dev.stats.tx_dropped += 1
        consume_skb(skb)
        return netdevice.NETDEV_TX_OK
    if skb.tx_flags:
        skb_tx_timestamp(skb)
    packet = skb_to_bytes(skb)
    protocol = skb.protocol
    consume_skb(skb)
    if tun.txflt is not None and not run_filter(tun.txflt, packet):
        dev.stats.tx_dropped += 1
        return netdevice.NETDEV_TX_OK
    tfile.tx_ring.append((protocol, packet))
    wake_up_poll(tfile.wq, POLLIN | POLLRDNORM)
    return netdevice.NETDEV_TX_OK


def run_filter(txflt: tun_filter, frame: bytes) -> bool:
    """drivers/net/tun.c: whether frames to this destination pass the filter."""
    to = frame[: netdevice.ETH_ALEN]
    return to in txflt.addrs or (txflt.allmulti and bool(to[0] & 1))


def tun_get_user(
    dev: net_device, frame: memoryview, flags: int, hdr: virtio_net_hdr | None = None
) -> None:
    """drivers/net/tun.c: the interface receives a frame that the program wrote.

    `hdr`: its virtio-net header, or None.
    """
    length = len(frame) - FCS_BYTES if flags & FB_HAS_FCS else len(frame)
    if flags & FB_BAD_CRC or length < netdevice.ETH_HLEN:
        dev.stats.rx_errors += 1
        return
    skb = tun_build_skb(dev, frame, length)
    if skb is None:
        return
    if hdr is not None:
        virtio_net_hdr_to_skb(skb, frame, length, netdevice.ETH_HLEN, hdr)
    eth_type_trans(skb, dev)
    netif_receive_skb(skb)


def tun_get_packet(
    dev: net_device, packet: memoryview, protocol: int, hdr: virtio_net_hdr | None
) -> None:
    """tun_get_user of a TUN: receive a packet of the EtherType `protocol`."""
    skb = tun_build_skb(dev, packet, len(packet))
    if skb is None:
        return
    if hdr is not None:
        virtio_net_hdr_to_skb(skb, packet, len(packet), 0, hdr)
    skb_reset_mac_header(skb)
    skb.protocol = protocol
    skb.pkt_type = PACKET_HOST
    skb.dev = dev
    netif_receive_skb(skb)


def tun_build_skb(dev: net_device, frame: memoryview, length: int) -> sk_buff | None:
    """drivers/net/tun.c: build an sk_buff of the data and count it. None: no memory."""
    stats = dev.stats
    machine = dev.machine
    linear = min(length, SMALL_FRAME_BYTES)
    rest = length - linear
    align = NET_SKB_PAD if dev.type == netdevice.ARPHRD_NONE else NET_SKB_PAD + NET_IP_ALIGN
    skb = skb_from_bytes(machine.skb_small, frame[:linear], align)
    if skb is None:
        stats.rx_dropped += 1
        return None
    if rest and skb_add_data(skb, machine.skb_pages, frame, linear, rest) < rest:
        stats.rx_dropped += 1
        kfree_skb(skb)
        return None
    skb.truesize = tun_truesize(length)
    stats.rx_packets += 1
    stats.rx_bytes += length
    return skb


def tun_truesize(length: int) -> int:
    """Bytes that Linux's tun_alloc_skb charges for a frame; TCP's window depends on it.

    The sk_buff, linear data of a small head or a power of two, and pages for larger packets.
    """
    if length <= SKB_SMALL_HEAD - SKB_SHARED_INFO - NET_SKB_PAD:
        return SKB_OVERHEAD + SKB_SMALL_HEAD
    if length <= SKB_MAX_HEAD:
        return SKB_OVERHEAD + (1 << (length + NET_SKB_PAD + SKB_SHARED_INFO - 1).bit_length())
    return SKB_OVERHEAD + PAGE_SIZE + -(-(length - SKB_MAX_HEAD) // PAGE_SIZE) * PAGE_SIZE


def virtio_net_hdr_to_skb(
    skb: sk_buff, frame: memoryview, length: int, nhoff: int, hdr: virtio_net_hdr
) -> None:
    """virtio_net.h: mark a TCP packet as segments of `gso_size` bytes, if it has more than one.

    `nhoff`: offset of its IP header. An unfinished checksum is trusted and, if the
    packet leaves the host, completed.
    """
    gso_size = hdr.gso_size
    if hdr.csum_start >= 0:
        skb.ip_summed = CHECKSUM_PARTIAL
        skb.csum_start = skb_headroom(skb) + hdr.csum_start
        skb.csum_offset = hdr.csum_offset
    if not gso_size:
        return
    if length < nhoff + uapi.IP_HLEN:
        return
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


class LinkPort:
    """The interface's end of a link: its port."""

    def __init__(self, dev: net_device) -> None:
        self.dev = dev

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Receive all frames of `batch` from `start`. Borrows `batch` until return."""
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
        """Receive a TCP packet of several segments, as IFF_VNET_HDR allows."""
        if not self.dev.flags & netdevice.IFF_UP:
            self.dev.stats.rx_dropped += 1
            return
        local_bh_disable(self.dev.machine)
        try:
            tun_get_user(self.dev, memoryview(frame), 0, virtio_net_hdr(gso_size))
        finally:
            local_bh_enable(self.dev.machine)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """The carrier has changed."""
        tun_net_change_carrier(self.dev, up)

    def tx_ready(self) -> None:
        """The link has room for frames again."""
        netif_wake_queue(self.dev)


def tun_get_link_ksettings(dev: net_device) -> ethtool_link_ksettings:
    """drivers/net/tun.c: `ethtool DEV`: a nominal 10 Gbit/s."""
    return ethtool_link_ksettings(speed=10000, duplex=DUPLEX_FULL, autoneg=False)


def tun_get_drvinfo(dev: net_device) -> ethtool_drvinfo:
    """drivers/net/tun.c: `ethtool -i DEV`."""
    tun: tun_struct = dev.priv
    bus = "tun" if tun.flags & IFF_TUN else "tap"
    return ethtool_drvinfo("tun", "1.6", bus_info=bus)


def tun_net_uninit(dev: net_device) -> None:
    """drivers/net/tun.c: ndo_uninit: detach the program's side."""
    tun: tun_struct = dev.priv
    link: Link | None = tun.link
    tfile = tun.tfile
    tun.link = tun.batch = tun.tfile = None
    if link is not None:
        link.detach()
    if tfile is not None:
        tfile.tun = None
        tfile.tx_ring.clear()
        wake_up_poll(tfile.wq, 0)


def tun_net_change_carrier(dev: net_device, new_carrier: bool) -> int:
    """drivers/net/tun.c: `ip link set DEV carrier on`: 0; -EPERM: no program is attached."""
    tun: tun_struct = dev.priv
    if new_carrier and tun.link is None and tun.tfile is None:
        return -errno.EPERM
    if new_carrier:
        netif_carrier_on(dev)
    else:
        netif_carrier_off(dev)
    return 0


tun_netdev_ops = net_device_ops(
    ndo_change_carrier=tun_net_change_carrier,
    ndo_uninit=tun_net_uninit,
    ndo_start_xmit=tun_net_xmit,
)
tap_netdev_ops = net_device_ops(
    ndo_change_carrier=tun_net_change_carrier,
    ndo_uninit=tun_net_uninit,
    ndo_start_xmit=tun_net_xmit,
    ndo_set_rx_mode=eth_no_rx_filter,
    ndo_set_mac_address=eth_mac_addr,
    ndo_validate_addr=eth_validate_addr,
)
tun_ethtool_ops = ethtool_ops(
    get_drvinfo=tun_get_drvinfo,
    get_ts_info=ethtool_op_get_ts_info,
    get_link=netif_carrier_ok,
    get_link_ksettings=tun_get_link_ksettings,
)


def tun_features(dev: net_device) -> None:
    """Features of both kinds (tun_setup, tun_set_iff): no offloads."""
    dev.ethtool_ops = tun_ethtool_ops
    dev.features = netdevice.NETIF_F_SG | netdevice.NETIF_F_FRAGLIST | netdevice.NETIF_F_GSO
    dev.hw_features = dev.features


def tap_setup(dev: net_device) -> None:
    """drivers/net/tun.c tun_net_initialize of a TAP: Ethernet."""
    ether_setup(dev)
    dev.max_mtu = netdevice.ETH_MAX_MTU - dev.hard_header_len
    dev.netdev_ops = tap_netdev_ops
    tun_features(dev)


def tun_setup(dev: net_device) -> None:
    """drivers/net/tun.c tun_net_initialize of a TUN: a point-to-point link without addresses."""
    dev.type = netdevice.ARPHRD_NONE
    dev.mtu = netdevice.ETH_DATA_LEN
    dev.min_mtu = netdevice.ETH_MIN_MTU
    dev.max_mtu = netdevice.ETH_MAX_MTU
    dev.tx_queue_len = TUN_READQ_SIZE
    dev.flags = netdevice.IFF_POINTOPOINT | netdevice.IFF_NOARP | netdevice.IFF_MULTICAST
    dev.netdev_ops = tun_netdev_ops
    tun_features(dev)


def tun_set_iff(net: Net, name: str, link: Link, mac: bytes | None = None) -> net_device:
    """drivers/net/tun.c: `ip tuntap add NAME mode tap`, opened by the program at `link`.

    Raises:
        OSError: EEXIST, the name is taken. ValueError: it is empty or too long.
    """
    dev = rtnl_newlink(net, name, tun_link_ops, tap_setup, mac, new_tap)
    netif_carrier_off(dev)
    dev.priv.link = link
    link.attach(LinkPort(dev))
    if link.carrier:
        netif_carrier_on(dev)
    return dev


def new_tap(dev: net_device) -> tun_struct:
    """The private data of a TAP."""
    return tun_struct(dev, IFF_TAP | IFF_NO_PI)


def tun_flags(tun: tun_struct) -> int:
    """drivers/net/tun.c: the flags reported to programs."""
    return tun.flags & (TUN_FEATURES | IFF_PERSIST | TUN_TYPE_MASK)


tun_link_ops = rtnl_link_ops("tun", unregister_and_free)
