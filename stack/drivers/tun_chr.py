"""drivers/net/tun.c: the file /dev/net/tun, through which a program uses an interface.

    tun_chr_open            a file without an interface: all but TUNSETIFF gives EBADFD
    tun_chr_ioctl           tun_ioctl.py: TUNSETIFF attaches one
    tun_chr_read_iter       one packet of tx_ring, filled by tun_net_xmit (tun.py)
    tun_chr_write_iter      one packet for the interface to receive
    tun_chr_poll            readable if a packet is queued; writable while the interface is up
    tun_chr_close           drops the carrier; deletes a non-persistent interface

The data that a program reads and writes:

    | struct tun_pi 4 | struct virtio_net_hdr | the packet: of a TUN from its IP header on |
     unless IFF_NO_PI   vnet_hdr_sz bytes with IFF_VNET_HDR

    struct tun_pi           flags 2 (TUN_PKT_STRIP: it was truncated), EtherType 2
    struct virtio_net_hdr   flags 1, gso_type 1, hdr_len 2, gso_size 2, csum_start 2, csum_offset 2

Reads never block here. Callers wait on `tun_file.wq`. Call with the host's lock held.
"""

from __future__ import annotations

import errno
import struct

from stack.core.dev_notifier import watches_devices
from stack.core.errors import os_error
from stack.core.file import fd_install, file_operations, struct_file
from stack.core.iov import msghdr
from stack.core.link_watch import netif_carrier_off
from stack.core.net_namespace import load_module
from stack.core.netdevice import (
    ETH_HLEN,
    ETH_P_IP,
    ETH_P_IPV6,
    IFF_UP,
    NETDEV_UP,
    NETREG_REGISTERED,
    net_device,
)
from stack.core.rtnetlink import unregister_and_free
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.core.uapi import POLLERR, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM
from stack.core.wait import wait_queue_head, wake_up_poll
from stack.drivers.tun import (
    IFF_NO_PI,
    IFF_PERSIST,
    IFF_TAP,
    IFF_TUN,
    IFF_VNET_HDR,
    SMALL_FRAME_BYTES,
    VIRTIO_NET_HDR_BYTES,
    tun_file,
    tun_get_packet,
    tun_get_user,
    tun_struct,
    virtio_net_hdr,
)
from stack.drivers.tun_ioctl import tun_chr_ioctl
from stack.net import Net

TUN_PI = struct.Struct("=H2s")
"""Flags in host order, the EtherType in network order."""
TUN_PKT_STRIP = 0x0001
VIRTIO_NET_HDR = struct.Struct("<BBHHHH")
VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
VIRTIO_NET_HDR_GSO_NONE = 0
VIRTIO_NET_HDR_GSO_TCPV4 = 1
VIRTIO_NET_HDR_GSO_TCPV6 = 4
VIRTIO_NET_HDR_GSO_ECN = 0x80
MAX_PACKET = 1 << 19
"""Longer writes give EMSGSIZE. An IP packet has at most 65535 bytes; the rest is discarded."""
EBADFD = errno.EBADFD
PROTOCOLS = {4: ETH_P_IP, 6: ETH_P_IPV6}
"""EtherType of a packet by its IP version."""


def tun_chr_open(net: Net, flags: int) -> int:
    """drivers/net/tun.c: open(2) of /dev/net/tun: a descriptor. Raises: OSError EMFILE."""
    load_module(net.machine, "tun", tun_net_ops)
    tfile = tun_file(net, wait_queue_head(net.wake_clock))
    file = struct_file(net, tun_fops, tfile, flags)
    return fd_install(net, file, flags)


def tun_device_event(event: int, dev: net_device) -> int:
    """drivers/net/tun.c: wake writers when the interface is up."""
    if event == NETDEV_UP and isinstance(dev.priv, tun_struct):
        tun: tun_struct = dev.priv
        if tun.tfile is not None:
            wake_up_poll(tun.tfile.wq, POLLOUT | POLLWRNORM)
    return 0


def tun_get(tfile: tun_file) -> tun_struct:
    """drivers/net/tun.c: the interface's private data. Raises: OSError EBADFD."""
    tun = tfile.tun
    if tun is None:
        raise os_error(EBADFD, "TUNSETIFF has not given this file an interface")
    return tun


def tun_chr_close(file: struct_file) -> None:
    """drivers/net/tun.c tun_chr_close, __tun_detach: the last descriptor was closed."""
    tfile: tun_file = file.private_data
    tun = tfile.tun
    tfile.tx_ring.clear()
    if tun is None:
        return
    dev = tun.dev
    tfile.tun = tun.tfile = None
    netif_carrier_off(dev)
    if not tun.flags & IFF_PERSIST:
        unregister_and_free(dev)


def tun_chr_poll(file: struct_file) -> int:
    """drivers/net/tun.c: POLL* bits."""
    tfile: tun_file = file.private_data
    tun = tfile.tun
    if tun is None or tun.dev.reg_state != NETREG_REGISTERED:
        return POLLERR
    bits = POLLIN | POLLRDNORM if tfile.tx_ring else 0
    return bits | POLLOUT | POLLWRNORM if tun.dev.flags & IFF_UP else bits


def tun_chr_wait(file: struct_file) -> wait_queue_head:
    """The wait queue woken when the bits of tun_chr_poll may change."""
    tfile: tun_file = file.private_data
    return tfile.wq


def tun_chr_read_iter(file: struct_file, to: msghdr) -> int:
    """drivers/net/tun.c tun_chr_read_iter, tun_do_read: read one packet. Returns the bytes copied.

    Raises: OSError EBADFD, EAGAIN.
    """
    tfile: tun_file = file.private_data
    tun = tun_get(tfile)
    if not to.count:
        return 0
    if not tfile.tx_ring:
        raise os_error(errno.EAGAIN, f"{tun.dev.name} has sent nothing")
    protocol, packet = tfile.tx_ring.popleft()
    return tun_put_user(tun, protocol, packet, to)


def tun_put_user(tun: tun_struct, protocol: int, packet: bytes, to: msghdr) -> int:
    """drivers/net/tun.c: copy a packet with its headers. Data that does not fit is lost.

    Raises: OSError EINVAL: no room for the headers; EFAULT.
    """
    room = to.count
    vnet_hdr_sz = tun.vnet_hdr_sz if tun.flags & IFF_VNET_HDR else 0
    total = vnet_hdr_sz + len(packet)
    if not tun.flags & IFF_NO_PI:
        total += TUN_PI.size
        if to.count < TUN_PI.size:
            raise os_error(errno.EINVAL, f"no room for struct tun_pi in {room} bytes")
        flags = TUN_PKT_STRIP if room < total else 0
        to.put(TUN_PI.pack(flags, protocol.to_bytes(2, "big")))
    if vnet_hdr_sz:
        if to.count < vnet_hdr_sz:
            raise os_error(errno.EINVAL, f"no room for struct virtio_net_hdr in {room} bytes")
        to.put(bytes(vnet_hdr_sz))
    to.put(packet)
    stats = tun.dev.stats
    stats.tx_packets += 1
    stats.tx_bytes += len(packet)
    return min(total, room)


def tun_chr_write_iter(file: struct_file, frm: msghdr) -> int:
    """drivers/net/tun.c tun_chr_write_iter, tun_get_user: receive one packet. Returns all bytes.

    Raises: OSError EBADFD; EINVAL: too short or not a packet; EIO: the interface is down.
    """
    tfile: tun_file = file.private_data
    tun = tun_get(tfile)
    dev = tun.dev
    whole = frm.count
    least = ETH_HLEN if tun.flags & IFF_TAP else 0
    protocol = 0
    if not tun.flags & IFF_NO_PI:
        if frm.count < TUN_PI.size:
            raise os_error(errno.EINVAL, f"{whole} bytes are fewer than struct tun_pi has")
        protocol = int.from_bytes(TUN_PI.unpack(frm.take(TUN_PI.size))[1], "big")
    header = b""
    if tun.flags & IFF_VNET_HDR:
        header = tun_vnet_hdr_get(tun.vnet_hdr_sz, least, frm)
    if frm.count < least:
        raise os_error(errno.EINVAL, f"{frm.count} bytes are no frame")
    if frm.count > MAX_PACKET:
        raise os_error(errno.EMSGSIZE, f"{frm.count} bytes are too many for a packet")
    packet = frm.take(frm.count)
    hdr: virtio_net_hdr | None = None
    if header:
        try:
            hdr = tun_vnet_hdr_to_skb(header, len(packet))
        except OSError:
            dev.stats.rx_frame_errors += 1
            raise
    if tun.flags & IFF_TUN and tun.flags & IFF_NO_PI:
        protocol = PROTOCOLS.get(packet[0] >> 4, 0) if packet else 0
        if not protocol:
            dev.stats.rx_dropped += 1
            raise os_error(errno.EINVAL, "neither IPv4 nor IPv6")
    if not dev.flags & IFF_UP:
        dev.stats.rx_dropped += 1
        raise os_error(errno.EIO, f"{dev.name} is down")
    local_bh_disable(dev.machine)
    try:
        if tun.flags & IFF_TAP:
            tun_get_user(dev, memoryview(packet), 0, hdr)
        else:
            tun_get_packet(dev, memoryview(packet), protocol, hdr)
    finally:
        local_bh_enable(dev.machine)
    return whole


def tun_vnet_hdr_get(size: int, least: int, frm: msghdr) -> bytes:
    """drivers/net/tun_vnet.h: read the header; `size` includes the data after it.

    `least`: the minimum length of the headers that it describes.
    Raises: OSError EINVAL: too few bytes for the header or for what it describes.
    """
    if frm.count < size:
        raise os_error(errno.EINVAL, f"{frm.count} bytes are fewer than the header's {size}")
    header = frm.take(size)[:VIRTIO_NET_HDR_BYTES]
    flags, _, hdr_len, _, csum_start, csum_offset = VIRTIO_NET_HDR.unpack(header)
    if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
        hdr_len = max(hdr_len, (csum_start + csum_offset + 2) & 0xFFFF)
    if hdr_len > frm.count or 0 < hdr_len < least:
        raise os_error(errno.EINVAL, f"a header of {hdr_len} bytes in {frm.count}")
    return header


def tun_vnet_hdr_to_skb(header: bytes, length: int) -> virtio_net_hdr:
    """include/linux/virtio_net.h: parse the header of a packet of `length` bytes.

    Raises: OSError EINVAL.
    """
    flags, gso_type, _, gso_size, csum_start, csum_offset = VIRTIO_NET_HDR.unpack(header)
    kind = gso_type & ~VIRTIO_NET_HDR_GSO_ECN
    if kind not in (VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6):
        raise os_error(errno.EINVAL, f"no segments of kind {gso_type:#x} are taken")
    if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
        if csum_start + csum_offset + 2 > min(length, SMALL_FRAME_BYTES):
            raise os_error(errno.EINVAL, f"no checksum from {csum_start} on in {length} bytes")
    else:
        csum_start = -1
    if kind == VIRTIO_NET_HDR_GSO_NONE:
        gso_size = 0
    elif not gso_size:
        raise os_error(errno.EINVAL, "segments of 0 bytes")
    return virtio_net_hdr(gso_size, csum_start, csum_offset)


tun_net_ops = watches_devices(tun_device_event)
tun_fops = file_operations(
    release=tun_chr_close,
    poll=tun_chr_poll,
    poll_wait=tun_chr_wait,
    read_iter=tun_chr_read_iter,
    write_iter=tun_chr_write_iter,
    unlocked_ioctl=tun_chr_ioctl,
)
