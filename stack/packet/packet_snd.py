"""net/packet/af_packet.c: sending frames by packet sockets, one by one or from PACKET_TX_RING.

    sendmsg => packet_sendmsg -> packet_snd
        packet_alloc_skb                    copy the caller's bytes
        packet_fill_skb                     SOCK_DGRAM: the stack builds the MAC header
        packet_parse_headers, packet_xmit -> dev_queue_xmit, or dev_direct_xmit
    sendmsg => packet_sendmsg -> tpacket_snd        with a ring: all frames that are ready
        tpacket_parse_header                length and place of a slot's frame
    kfree_skb => tpacket_destruct_skb       return the slot to the program

A slot, and its status: AVAILABLE, by the program SEND_REQUEST, SENDING until the frame has left,
AVAILABLE. A frame that cannot be sent ends the call, its slot WRONG_FORMAT; with PACKET_LOSS it is
skipped.

    tpacket_hdr, tpacket2_hdr or tpacket3_hdr | frame, or with PACKET_TX_HAS_OFF later

State: `packet_sock.tx_ring`. What the program writes is read once and checked. Read packet_snd
first.
"""

from __future__ import annotations

import errno
import struct
from sys import byteorder

from fastpath.base.skbuff import (
    kfree_skb,
    sk_buff,
    skb_copy_bits,
    skb_reset_mac_header,
    skb_reset_network_header,
    skb_set_network_header,
)
from stack.core import netdevice, uapi
from stack.core.bsd_socket import socket
from stack.core.dev_queue import dev_direct_xmit, dev_queue_xmit
from stack.core.errors import os_error
from stack.core.if_vlan import eth_type_vlan
from stack.core.iov import add_to_skb, copy_to_skb, msghdr
from stack.core.netdevice import net_device, net_xmit_errno
from stack.core.sock import (
    KEY_OUT,
    skwq_has_sleeper,
    sock_alloc_send_skb,
    sock_sndtimeo,
    sock_wfree,
    wait_event,
)
from stack.core.sockaddr import SOCKADDR_LL_LEN, in_addr_of, need_sa_len, sockaddr, sockaddr_ll
from stack.core.sockopt import sock_cmsg_send, sockcm_cookie
from stack.core.tstamp import skb_setup_tx_timestamp
from stack.core.wait import wake_up_poll
from stack.packet.packet_ring import (
    TP_STATUS_AVAILABLE,
    TP_STATUS_SEND_REQUEST,
    TP_STATUS_SENDING,
    TP_STATUS_WRONG_FORMAT,
    TX_STATUS,
    WORD,
    slot_at,
    slot_status,
)
from stack.packet.packet_sock import (
    TPACKET_HDRLEN,
    TPACKET_V1,
    TPACKET_V2,
    TPACKET_V3,
    packet_ring_buffer,
    packet_sock,
)

HEADROOM = 32  # LL_RESERVED_SPACE: an Ethernet header and what precedes it, rounded up
MAX_LINEAR = 0x600
"""Bytes of a frame in the head of its sk_buff; the rest is in page fragments."""
TX_LENGTH = {TPACKET_V1: 8, TPACKET_V2: 4, TPACKET_V3: 16}
TX_MAC = {TPACKET_V1: 16, TPACKET_V2: 12, TPACKET_V3: 24}
"""Offsets of tp_len, and of tp_mac followed by tp_net, in a slot."""
OFFSETS = struct.Struct("=HH")


def packet_sendmsg(sock: socket, msg: msghdr, length: int) -> int:
    """net/packet/af_packet.c: send one frame, or those of the ring. Returns bytes.

    Raises: OSError.
    """
    sk: packet_sock = sock.sk
    if sk.tx_ring is not None:
        return tpacket_snd(sk, msg)
    return packet_snd(sk, msg, length)


def packet_snd(sk: packet_sock, msg: msghdr, length: int) -> int:
    """net/packet/af_packet.c: a whole frame (SOCK_RAW), or one that gets its header here.

    Raises: OSError ENXIO without an interface, ENETDOWN, EMSGSIZE above MTU and header, EINVAL for
    less than a header, ENOBUFS, EAGAIN, EPIPE.
    """
    to = None if msg.msg_name is None else ll_destination(msg.msg_name)
    dev = packet_destination(sk, to)
    sockc: sockcm_cookie | None = None
    if msg.msg_control:
        sockc = sock_cmsg_send(sk, msg.msg_control)
    elif sk.sk_tsflags:
        sockc = sockcm_cookie(sk, sk.sk_mark, sk.sk_priority)
    if length > max_frame(sk, dev):
        raise os_error(errno.EMSGSIZE, f"{length} bytes exceed the MTU of {dev.name}, {dev.mtu}")
    skb = packet_alloc_skb(sk, dev, msg, length)
    packet_fill_skb(sk, skb, dev, to, length, sockc)
    err = packet_xmit(sk, skb)
    if err:
        raise os_error(err)
    return length


def packet_destination(sk: packet_sock, to: sockaddr_ll | None) -> net_device:
    """The interface of an address, or that of the socket. Raises: OSError ENXIO, ENETDOWN."""
    dev: net_device | None = sk.cached_dev if to is None else sk.net.dev_by_index.get(to.ifindex)
    if dev is None:
        raise os_error(errno.ENXIO, "no such interface: bind the socket, or give an address")
    if not dev.flags & netdevice.IFF_UP:
        raise os_error(errno.ENETDOWN, f"{dev.name} is down")
    return dev


def max_frame(sk: packet_sock, dev: net_device) -> int:
    """Bytes of the longest frame: the MTU, the caller's header, and a VLAN tag."""
    reserve = dev.hard_header_len if sk.sk_type == uapi.SOCK_RAW else 0
    return dev.mtu + reserve + netdevice.VLAN_HLEN


def packet_fill_skb(
    sk: packet_sock,
    skb: sk_buff,
    dev: net_device,
    to: sockaddr_ll | None,
    length: int,
    sockc: sockcm_cookie | None,
) -> None:
    """Complete a frame of the caller's bytes: MAC header, protocol, device, priority.

    Raises: OSError EINVAL for less than a header or no address, EMSGSIZE; skb is freed then.
    """
    raw = sk.sk_type == uapi.SOCK_RAW
    proto: int = sk.num if to is None else to.protocol
    reserve = 0
    if not raw:
        header = dev.header_ops
        if header is not None:
            daddr = to.lladdr.ljust(dev.addr_len, b"\0")[: dev.addr_len] if to is not None else None
            if header.create(skb, dev, proto, daddr, None, length) < 0:
                kfree_skb(skb)
                raise os_error(errno.EINVAL, "a destination address is needed")
    else:
        reserve = dev.hard_header_len
        if length < reserve:
            kfree_skb(skb)
            raise os_error(errno.EINVAL, f"{length} bytes are less than a header of {dev.name}")
        skb_set_network_header(skb, reserve)
    if length > dev.mtu + reserve and not packet_extra_vlan_len_allowed(dev, skb):
        kfree_skb(skb)
        raise os_error(errno.EMSGSIZE, f"{length} bytes exceed the MTU of {dev.name}, {dev.mtu}")
    skb.protocol = proto
    skb.dev = dev
    skb.priority = sk.sk_priority if sockc is None else sockc.priority
    skb.mark = sk.sk_mark if sockc is None else sockc.mark
    if sockc is not None:
        skb_setup_tx_timestamp(skb, sk, sockc)
    packet_parse_headers(skb, raw)


def ll_address(name: sockaddr) -> sockaddr_ll:
    """Check that an address is one of AF_PACKET. Raises: OSError EINVAL."""
    need_sa_len(name, SOCKADDR_LL_LEN)
    if name.family != uapi.AF_PACKET:
        raise os_error(errno.EINVAL, f"{name!r} is no address of AF_PACKET")
    return name  # type: ignore[return-value]


def ll_destination(name: sockaddr) -> sockaddr_ll:
    """The address of a sendto, which ignores the family as on Linux. Raises: OSError EINVAL."""
    need_sa_len(name, SOCKADDR_LL_LEN)
    if name.family == uapi.AF_PACKET or (not name.sa_len and name.family != uapi.AF_INET6):
        return ll_address(name)
    # The byte at the offset of sll_halen is read as one, and must be valid.
    if name.family == uapi.AF_INET6 and 0 < name.sa_len < 12 + (name.addr >> 96 & 0xFF):
        raise os_error(errno.EINVAL, f"{name!r} is no address of AF_PACKET")
    return sockaddr_ll(name.port, int.from_bytes(in_addr_of(name).to_bytes(4, "big"), byteorder))


def packet_alloc_skb(sk: packet_sock, dev: net_device, msg: msghdr, length: int) -> sk_buff:
    """net/packet/af_packet.c: copy the caller's bytes to a charged sk_buff with headroom.

    Raises: OSError EAGAIN, ENOBUFS, EPIPE, EFAULT, the socket's error.
    """
    net = sk.net
    headroom = HEADROOM + dev.needed_headroom
    linear = length if length < MAX_LINEAR else MAX_LINEAR
    skb = sock_alloc_send_skb(sk, linear, msg.msg_flags & uapi.MSG_DONTWAIT, headroom)
    before = skb.truesize
    skb_reset_network_header(skb)
    done = copy_to_skb(msg, skb, linear)
    if done == linear and done < length:
        done += add_to_skb(msg, skb, net.skb_pages, length - done)
    sk.sk_wmem_alloc += skb.truesize - before
    if done < length:
        kfree_skb(skb)
        raise os_error(errno.ENOBUFS, "no packet memory left on the host")
    return skb


def packet_extra_vlan_len_allowed(dev: net_device, skb: sk_buff) -> bool:
    """net/packet/af_packet.c: whether a frame has a VLAN tag and may be longer by its size."""
    if dev.type != netdevice.ARPHRD_ETHER:
        return False
    return skb_copy_bits(skb, 12, 2) == b"\x81\x00"


def packet_parse_headers(skb: sk_buff, raw: bool) -> None:
    """net/packet/af_packet.c: set the protocol and the network header of a whole frame."""
    if raw and (not skb.protocol or skb.protocol == netdevice.ETH_P_ALL):
        skb_reset_mac_header(skb)
        skb.protocol = int.from_bytes(skb_copy_bits(skb, 12, 2), "big")
    dev: net_device = skb.dev
    if dev.type != netdevice.ARPHRD_ETHER:
        return
    proto = skb.protocol
    depth = netdevice.ETH_HLEN
    while eth_type_vlan(proto) and depth + netdevice.VLAN_HLEN <= skb.len:
        proto = int.from_bytes(skb_copy_bits(skb, depth + 2, 2), "big")
        depth += netdevice.VLAN_HLEN
    if depth != netdevice.ETH_HLEN and proto and not eth_type_vlan(proto):
        skb_set_network_header(skb, depth)


def packet_xmit(sk: packet_sock, skb: sk_buff) -> int:
    """net/packet/af_packet.c: send through the qdisc or, with PACKET_QDISC_BYPASS, directly.

    0 or an error.
    """
    err = dev_direct_xmit(skb) if sk.qdisc_bypass else dev_queue_xmit(skb)
    return net_xmit_errno(err) if err > 0 else err


# --- the ring ----------------------------------------------------------------------------------


def tpacket_snd(sk: packet_sock, msg: msghdr) -> int:
    """net/packet/af_packet.c: send the frames of the ring that are ready, from its head on.

    Returns their bytes. Without MSG_DONTWAIT it waits until all were sent. Raises: OSError as
    packet_snd; EMSGSIZE, EINVAL for an invalid slot; ETIMEDOUT.
    """
    to = None if msg.msg_name is None else ll_destination(msg.msg_name)
    dev = packet_destination(sk, to)
    sockc = sock_cmsg_send(sk, msg.msg_control or [])
    nowait = msg.msg_flags & uapi.MSG_DONTWAIT
    timeo_ns = sock_sndtimeo(sk, nowait)
    sent = 0
    while True:
        ring = sk.tx_ring
        if ring is None:
            raise os_error(errno.EBUSY, "another thread ended the ring")
        if slot_status(ring) != TP_STATUS_SEND_REQUEST:
            if nowait or not ring.pending:
                return sent
            timeo_ns = wait_event(sk, timeo_ns, tpacket_left, ring.pending)
            if timeo_ns <= 0:
                raise os_error(errno.ETIMEDOUT, "frames of the ring are still on their way")
            continue
        slot = slot_at(ring, ring.head)
        try:
            at, length = tpacket_parse_header(sk, ring, slot, max_frame(sk, dev))
        except OSError:
            if tpacket_wrong(sk, ring, slot):
                continue
            raise
        frame = msghdr(None, [memoryview(ring.memory)[at : at + length]], None, msg.msg_flags)
        try:
            skb = packet_alloc_skb(sk, dev, frame, length)
        except OSError:
            if sent:
                return sent
            raise
        try:
            packet_fill_skb(sk, skb, dev, to, length, sockc)
        except OSError:
            if tpacket_wrong(sk, ring, slot):
                continue
            raise
        skb.cb = slot
        skb.destructor = tpacket_destruct_skb
        set_slot_status(ring, slot, TP_STATUS_SENDING)
        ring.pending += 1
        err = packet_xmit(sk, skb)
        if err and slot_status(ring) == TP_STATUS_AVAILABLE:  # it was freed
            set_slot_status(ring, slot, TP_STATUS_SEND_REQUEST)
            raise os_error(err)
        next_slot(ring)
        sent += length


def tpacket_left(sk: packet_sock, seen: int) -> bool:
    """Condition of tpacket_snd's wait: frames were sent since `seen` were pending."""
    return sk.tx_ring is None or sk.tx_ring.pending != seen


def tpacket_parse_header(
    sk: packet_sock, ring: packet_ring_buffer, slot: int, most: int
) -> tuple[int, int]:
    """net/packet/af_packet.c: the offset in the ring and the length of a slot's frame.

    Raises: OSError EMSGSIZE above `most` or the slot, EINVAL for an offset outside of the slot.
    """
    memory, version = ring.memory, ring.version
    if version == TPACKET_V3 and WORD.unpack_from(memory, slot)[0]:
        raise os_error(errno.EINVAL, "tp_next_offset: slots have one size")
    length: int = WORD.unpack_from(memory, slot + TX_LENGTH[version])[0]
    off = TPACKET_HDRLEN[version]
    if length > min(ring.frame_size - off, most):
        raise os_error(errno.EMSGSIZE, f"a frame of {length} bytes")
    if sk.tp_tx_has_off:
        mac: int
        net: int
        mac, net = OFFSETS.unpack_from(memory, slot + TX_MAC[version])
        given = net if sk.sk_type == uapi.SOCK_DGRAM else mac
        if not off <= given <= ring.frame_size - length:
            raise os_error(errno.EINVAL, f"a frame at {given} of its slot")
        off = given
    return slot + off, length


def tpacket_wrong(sk: packet_sock, ring: packet_ring_buffer, slot: int) -> bool:
    """A slot cannot be sent. True: it is to be skipped (PACKET_LOSS)."""
    if not sk.tp_loss:
        set_slot_status(ring, slot, TP_STATUS_WRONG_FORMAT)
        return False
    set_slot_status(ring, slot, TP_STATUS_AVAILABLE)
    next_slot(ring)
    return True


def next_slot(ring: packet_ring_buffer) -> None:
    """net/packet/af_packet.c (packet_increment_head)."""
    ring.head = ring.head + 1 if ring.head + 1 < ring.frame_nr else 0


def set_slot_status(ring: packet_ring_buffer, slot: int, status: int) -> None:
    """net/packet/af_packet.c (__packet_set_status)."""
    WORD.pack_into(ring.memory, slot + TX_STATUS[ring.version], status)


def tpacket_destruct_skb(skb: sk_buff) -> None:
    """net/packet/af_packet.c: a frame of the ring was sent or dropped."""
    sk: packet_sock = skb.sk  # type: ignore[assignment]  # as tpacket_snd set it
    try:
        ring = sk.tx_ring
        if ring is not None:
            ring.pending -= 1
            set_slot_status(ring, skb.cb, TP_STATUS_AVAILABLE)
        sock_wfree(skb)
        if skwq_has_sleeper(sk):
            wake_up_poll(sk.sk_wq, KEY_OUT)
    except (AttributeError, TypeError):  # the garbage collector cleared sk
        return
