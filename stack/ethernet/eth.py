"""net/ethernet/eth.c: Ethernet devices and their 14-byte header."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from fastpath.base.skbuff import PACKET_BROADCAST, PACKET_MULTICAST, sk_buff
from fastpath.net.hdr import eth_hdr, eth_header_push, eth_type_trans_fast
from stack.core import netdevice
from stack.core.dev import alloc_netdev_mqs
from stack.core.neigh_table import hh_cache, neighbour
from stack.core.netdevice import header_ops, net_device, net_device_ops
from stack.net import Net

ETH_BROADCAST = b"\xff" * netdevice.ETH_ALEN
LINK_LOCAL = b"\x01\x80\xc2\x00\x00"
_ZERO = bytes(netdevice.ETH_ALEN)


def is_valid_ether_addr(addr: bytes) -> bool:
    """include/linux/etherdevice.h: whether a station may have the address."""
    return len(addr) == netdevice.ETH_ALEN and not addr[0] & 1 and addr != _ZERO


def is_link_local_ether_addr(addr: bytes) -> bool:
    """include/linux/etherdevice.h: 01:80:C2:00:00:0x, which no bridge forwards (IEEE 802.1D)."""
    return addr[:5] == LINK_LOCAL and addr[5] < 0x10


def eth_header(
    skb: sk_buff,
    dev: net_device,
    proto: int,
    daddr: bytes | None,
    saddr: bytes | None,
    len: int,  # noqa: A002
) -> int:
    """net/ethernet/eth.c: push the header. ETH_HLEN, or -ETH_HLEN when `daddr` is not known yet.

    `len` is the 802.3 length, used when proto is ETH_P_802_2.
    """
    eth_header_push(
        skb,
        daddr if daddr is not None else _ZERO,
        saddr if saddr is not None else dev.dev_addr,
        len if proto == netdevice.ETH_P_802_2 else proto,
    )
    known = daddr is not None or dev.flags & (netdevice.IFF_LOOPBACK | netdevice.IFF_NOARP)
    return netdevice.ETH_HLEN if known else -netdevice.ETH_HLEN


def eth_header_parse(skb: sk_buff) -> bytes:
    """net/ethernet/eth.c: the sender's address."""
    return eth_hdr(skb).h_source


def eth_header_cache(neigh: neighbour, hh: hh_cache, proto: int) -> int:
    """net/ethernet/eth.c: store the cached header in `hh.hh_data`; 0, or -1 for 802.3 framing."""
    if proto == netdevice.ETH_P_802_2:
        return -1
    hh.hh_data = neigh.ha + neigh.dev.dev_addr + proto.to_bytes(2, "big")
    hh.hh_len = netdevice.ETH_HLEN
    return 0


def eth_header_cache_update(hh: hh_cache, dev: net_device, haddr: bytes) -> None:
    """net/ethernet/eth.c: update a neighbour's address in its cached header."""
    hh.hh_data = haddr + hh.hh_data[netdevice.ETH_ALEN :]


def eth_type_trans(skb: sk_buff, dev: net_device) -> int:
    """net/ethernet/eth.c: set dev, mac_header, pkt_type and protocol; pull the header.

    Returns the protocol (EtherType in host order; ETH_P_802_2 for a length field).
    """
    skb.dev = dev
    protocol = eth_type_trans_fast(skb, dev.dev_addr)
    if skb.pkt_type == PACKET_BROADCAST and dev.broadcast != ETH_BROADCAST:
        skb.pkt_type = PACKET_MULTICAST  # lo has a zero broadcast address
    return protocol


eth_header_ops = header_ops(
    create=eth_header,
    parse=eth_header_parse,
    cache=eth_header_cache,
    cache_update=eth_header_cache_update,
)


def eth_mac_addr(dev: net_device, addr: bytes) -> int:
    """net/ethernet/eth.c: ndo_set_mac_address of a device with nothing to program."""
    if not is_valid_ether_addr(addr):
        return -errno.EADDRNOTAVAIL
    dev.dev_addr = bytes(addr)
    return 0


def eth_validate_addr(dev: net_device) -> int:
    """net/ethernet/eth.c: ndo_validate_addr."""
    return 0 if is_valid_ether_addr(dev.dev_addr) else -errno.EADDRNOTAVAIL


def eth_no_rx_filter(dev: net_device) -> None:
    """ndo_set_rx_mode of a device that has no filter: it receives everything."""


def ether_setup(dev: net_device) -> None:
    """net/ethernet/eth.c: set the fields that all Ethernet devices share."""
    dev.header_ops = eth_header_ops
    dev.type = netdevice.ARPHRD_ETHER
    dev.hard_header_len = netdevice.ETH_HLEN
    dev.mtu = netdevice.ETH_DATA_LEN
    dev.min_mtu = netdevice.ETH_MIN_MTU
    dev.max_mtu = netdevice.ETH_DATA_LEN
    dev.addr_len = netdevice.ETH_ALEN
    dev.tx_queue_len = 1000
    dev.flags = netdevice.IFF_BROADCAST | netdevice.IFF_MULTICAST
    dev.broadcast = ETH_BROADCAST
    dev.dev_addr = _ZERO


def ether_setup_software(
    dev: net_device, ops: net_device_ops, ethtool: Any, min_mtu: int = netdevice.ETH_MIN_MTU
) -> None:
    """An Ethernet device of software: no queue and any MTU, with its operations."""
    ether_setup(dev)
    dev.tx_queue_len = 0
    dev.min_mtu = min_mtu
    dev.max_mtu = netdevice.ETH_MAX_MTU
    dev.netdev_ops = ops
    dev.ethtool_ops = ethtool


def alloc_etherdev_mqs(
    net: Net, priv_factory: Callable[[net_device], Any] | None, txqs: int = 1, rxqs: int = 1
) -> net_device:
    """net/ethernet/eth.c: an Ethernet device eth%d with `priv_factory(dev)` as private part."""
    return alloc_netdev_mqs(net, priv_factory, "eth%d", ether_setup, txqs, rxqs)


def alloc_etherdev(net: Net, priv_factory: Callable[[net_device], Any] | None) -> net_device:
    """include/linux/etherdevice.h."""
    return alloc_etherdev_mqs(net, priv_factory, 1, 1)
