"""net/packet/af_packet.c: receiving frames by packet sockets, and sending frames.

    packet_bind -> packet_do_bind -> register_prot_hook
        dev_add_pack                        the socket becomes a packet_type of the device layer
    deliver_skb => packet_rcv               filter, room, a clone if shared; queue and wake
    recvmsg => packet_recvmsg               the frame, its sockaddr_ll, PACKET_AUXDATA
    sendmsg => packet_sendmsg -> packet_snd
        packet_alloc_skb                    copy the caller's bytes
        header_ops.create                   SOCK_DGRAM: the stack makes the MAC header
        packet_parse_headers, packet_xmit -> dev_queue_xmit, or dev_direct_xmit

Frames cost nothing when no socket is open, since without one there is no packet_type. State:
`packet_sock.prot_hook` (the packet_type), `running` (whether it is registered), `num` (the
protocol), `fanout` (its group, packet_fanout.py). A queued skb has its sockaddr_ll in `cb` and its
full length in `seq`. Read packet_rcv first.
"""

from __future__ import annotations

import errno
import struct
from sys import byteorder

from fastpath.base import skbuff
from fastpath.base.bpf import bpf_prog_run
from fastpath.base.skbuff import (
    consume_skb,
    kfree_skb,
    pskb_trim,
    sk_buff,
    skb_clone,
    skb_copy_bits,
    skb_mac_offset,
    skb_network_offset,
    skb_pull,
    skb_push,
    skb_reset_mac_header,
    skb_reset_network_header,
    skb_set_network_header,
    skb_shared,
)
from fastpath.net.sockaddr import sockaddr_ll_make
from stack.core import netdevice, uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import skb_recv_datagram
from stack.core.dev_queue import dev_direct_xmit, dev_queue_xmit
from stack.core.dev_receive import dev_add_pack, dev_remove_pack
from stack.core.drop_reason import SKB_DROP_REASON_PACKET_SOCK_ERROR, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.errqueue import sock_exterr_skb, sock_next_error, sock_recv_errqueue
from stack.core.iov import msghdr, skb_read_datagram
from stack.core.netdevice import net_device, net_xmit_errno, packet_type
from stack.core.sock import (
    lock_sock,
    release_sock,
    sk_data_ready,
    sk_error_report,
    skb_set_owner_r,
    sock_alloc_send_skb,
)
from stack.core.sock_flags import SOCK_DEAD
from stack.core.sockaddr import (
    SOCKADDR_LL_LEN,
    in_addr_of,
    need_sa_len,
    sockaddr,
    sockaddr_ll,
)
from stack.core.sockopt import put_cmsg, sock_cmsg_send, sock_recv_cmsgs, sockcm_cookie
from stack.core.tstamp import skb_setup_tx_timestamp
from stack.packet.packet_fanout import fanout_link, fanout_unlink
from stack.packet.packet_ring import (
    TP_STATUS_USER,
    tpacket_rcv,
    tpacket_status,
    tpacket_vlan,
)
from stack.packet.packet_sock import PACKET_AUXDATA, PACKET_TX_TIMESTAMP, packet_sock

AUXDATA = struct.Struct("=IIIHHHH")
HEADROOM = 32  # LL_RESERVED_SPACE: an Ethernet header and what precedes it, rounded up
READ_FLAGS = uapi.MSG_PEEK | uapi.MSG_DONTWAIT | uapi.MSG_TRUNC | uapi.MSG_ERRQUEUE
VLAN_MAX_DEPTH = 8
MAX_LINEAR = 0x600
"""Bytes of a frame in the head of its sk_buff; the rest is in page fragments."""


# --- the hook ----------------------------------------------------------------------------------


def register_prot_hook(sk: packet_sock) -> None:
    """net/packet/af_packet.c: register the socket's hook, so that it receives."""
    if not sk.running:
        if sk.fanout is not None:
            fanout_link(sk, sk.fanout)
        else:
            dev_add_pack(sk.net, sk.prot_hook)
        sk.running = True


def unregister_prot_hook(sk: packet_sock) -> None:
    """net/packet/af_packet.c (__unregister_prot_hook): remove the hook; it receives no more."""
    if sk.running:
        sk.running = False
        if sk.fanout is not None:
            fanout_unlink(sk, sk.fanout)
        else:
            dev_remove_pack(sk.net, sk.prot_hook)


def packet_down(sk: packet_sock) -> None:
    """The socket's interface is down: the next read or write fails with ENETDOWN."""
    sk.sk_err = errno.ENETDOWN
    if not sk.sk_flags & SOCK_DEAD:
        sk_error_report(sk)


def packet_do_bind(sk: packet_sock, ifindex: int, proto: int) -> int:
    """net/packet/af_packet.c: receive `proto` (0: as before) on an interface, 0 for any.

    Returns 0, -ENODEV, or -EINVAL for a socket of a fanout group. An interface that is down leaves
    ENETDOWN as the socket's error.
    """
    lock_sock(sk)
    try:
        if sk.fanout is not None:
            return -errno.EINVAL
        proto = proto or sk.num
        dev: net_device | None = None
        if ifindex:
            dev = sk.net.dev_by_index.get(ifindex)
            if dev is None:
                return -errno.ENODEV
        hook = sk.prot_hook
        if hook.type == proto and hook.dev is dev:
            return 0
        unregister_prot_hook(sk)
        sk.num = hook.type = proto
        hook.dev = sk.cached_dev = dev
        sk.ifindex = ifindex
        if not proto:
            return 0
        if dev is None or dev.flags & netdevice.IFF_UP:
            register_prot_hook(sk)
        else:
            packet_down(sk)
        return 0
    finally:
        release_sock(sk)


# --- receiving ---------------------------------------------------------------------------------


def packet_rcv(skb: sk_buff, dev: net_device, pt: packet_type, orig_dev: net_device) -> int:
    """net/packet/af_packet.c: packet_type.func: queue a frame, with or without its MAC header.

    Data behind the MAC header; for a sent frame at it. Takes ownership of (a reference to) skb.
    """
    sk: packet_sock = pt.af_packet_priv
    if skb.pkt_type == skbuff.PACKET_LOOPBACK:
        consume_skb(skb)
        return 0
    off = 0
    if dev.header_ops is not None:
        if sk.sk_type != uapi.SOCK_DGRAM:
            off = skb_mac_offset(skb)
        elif skb.pkt_type == skbuff.PACKET_OUTGOING:
            off = skb_network_offset(skb)
    length = skb.len - off
    snaplen = length
    if sk.sk_filter is not None:
        skb.dev = dev
        wanted = bpf_prog_run(sk.sk_filter, skb, off)
        if not wanted:
            consume_skb(skb)
            return 0
        if wanted < snaplen:
            snaplen = wanted
    elif not length:  # as in run_filter, whose result would be 0 bytes
        consume_skb(skb)
        return 0
    if sk.rx_ring is not None:
        if not tpacket_rcv(sk, skb, dev, orig_dev, off, snaplen):
            consume_skb(skb)
            return 0
        snaplen = length
    if sk.sk_rmem_alloc >= sk.sk_rcvbuf:
        sk.tp_drops += 1
        sk.sk_drops += 1
        kfree_skb_reason(sk.net, skb, SKB_DROP_REASON_PACKET_SOCK_ERROR)
        return 0
    if skb_shared(skb):
        clone = skb_clone(skb)
        consume_skb(skb)
        skb = clone
    source = b""
    if dev.header_ops is not None:
        source = skb_copy_bits(skb, skb_mac_offset(skb) + 6, 6)
    ifindex = orig_dev.ifindex if sk.origdev else dev.ifindex
    skb.cb = sockaddr_ll_make(skb.protocol, ifindex, dev.type, skb.pkt_type, source)
    if off < 0:
        skb_push(skb, -off)
    elif off > 0:
        skb_pull(skb, off)
    skb.seq = length  # PACKET_SKB_CB(skb)->sa.origlen: the frame's whole length, for tp_len
    if snaplen < length:
        pskb_trim(skb, snaplen)
    skb_set_owner_r(skb, sk)
    skb.dev = None
    skb.dst = None
    sk.tp_packets += 1
    sk.sk_receive_queue.queue_tail(skb)
    sk_data_ready(sk)
    return 0


def packet_recvmsg(sock: socket, msg: msghdr, length: int, flags: int) -> int:
    """net/packet/af_packet.c: read one frame; bytes copied, with MSG_TRUNC its own length.

    Raises: OSError EINVAL for other flags than MSG_PEEK, MSG_DONTWAIT, MSG_TRUNC, MSG_ERRQUEUE;
    EAGAIN; ENETDOWN when the interface went down.
    """
    sk: packet_sock = sock.sk
    if flags & ~READ_FLAGS:
        raise os_error(
            errno.EINVAL, f"flags {flags & ~READ_FLAGS:#x} mean nothing to packet sockets"
        )
    if flags & uapi.MSG_ERRQUEUE:
        return packet_recv_error(sk, msg, length)
    skb = skb_recv_datagram(sk, flags)
    if skb is None:
        return 0
    full = skb.len
    copied = skb_read_datagram(skb, msg, length)
    msg.msg_name = skb.cb
    if sk.sk_type == uapi.SOCK_DGRAM and is_vlan(skb.protocol):
        msg.msg_name = vlan_name_dgram(skb)
    sock_recv_cmsgs(msg, sk, skb)
    if sk.auxdata:
        put_cmsg(msg, uapi.SOL_PACKET, PACKET_AUXDATA, packet_auxdata(sk, skb))
    consume_skb(skb)
    return full if flags & uapi.MSG_TRUNC else copied


def packet_recv_error(sk: packet_sock, msg: msghdr, length: int) -> int:
    """net/core/sock.c (sock_recv_errqueue): the time stamp of a sent frame, PACKET_TX_TIMESTAMP.

    Raises: BlockingIOError when there is none.
    """
    copied, skb = sock_recv_errqueue(sk, msg, length)
    serr = skb.cb
    if isinstance(serr, sock_exterr_skb):
        put_cmsg(msg, uapi.SOL_PACKET, PACKET_TX_TIMESTAMP, serr.pack())
    sock_next_error(sk, serr)
    consume_skb(skb)
    return copied


def is_vlan(protocol: int) -> bool:
    """include/linux/if_vlan.h eth_type_vlan."""
    return protocol in (netdevice.ETH_P_8021Q, netdevice.ETH_P_8021AD)


def vlan_name_dgram(skb: sk_buff) -> sockaddr_ll:
    """A tagged frame's address, with the protocol behind its tags (vlan_get_protocol_dgram)."""
    name: sockaddr_ll = skb.cb
    proto = vlan_behind(skb, skb.protocol, skb_mac_offset(skb) + netdevice.ETH_HLEN)
    return sockaddr_ll_make(proto, name.ifindex, name.hatype, name.pkttype, name.lladdr)


def vlan_behind(skb: sk_buff, proto: int, off: int) -> int:
    """include/linux/if_vlan.h __vlan_get_protocol_offset: the protocol behind the tags at `off`.

    0 when there are too many tags, or the frame ends.
    """
    for _ in range(VLAN_MAX_DEPTH):
        if not is_vlan(proto):
            return proto
        if off + netdevice.VLAN_HLEN > skb.len:
            return 0
        proto = int.from_bytes(skb_copy_bits(skb, off + 2, 2), "big")
        off += netdevice.VLAN_HLEN
    return 0


def packet_auxdata(sk: packet_sock, skb: sk_buff) -> bytes:
    """struct tpacket_auxdata of a frame."""
    tci, tpid, valid = tpacket_vlan(sk, skb)
    status = TP_STATUS_USER | tpacket_status(skb) | valid
    net = skb_network_offset(skb) & 0xFFFF
    return AUXDATA.pack(status, skb.seq, skb.len, 0, net, tci, tpid)


# --- sending -----------------------------------------------------------------------------------


def packet_sendmsg(sock: socket, msg: msghdr, length: int) -> int:
    """net/packet/af_packet.c: send one frame. Returns `length`. Raises: OSError."""
    return packet_snd(sock.sk, msg, length)


def packet_snd(sk: packet_sock, msg: msghdr, length: int) -> int:
    """net/packet/af_packet.c: a whole frame (SOCK_RAW), or one that gets its header here.

    Raises: OSError ENXIO without an interface, ENETDOWN, EMSGSIZE above MTU and header, EINVAL for
    less than a header, ENOBUFS, EAGAIN, EPIPE.
    """
    raw = sk.sk_type == uapi.SOCK_RAW
    to: sockaddr_ll | None = None
    if msg.msg_name is None:
        dev: net_device | None = sk.cached_dev
        proto = sk.num
    else:
        to = ll_destination(msg.msg_name)
        dev = sk.net.dev_by_index.get(to.ifindex)
        proto = to.protocol
    if dev is None:
        raise os_error(errno.ENXIO, "no such interface: bind the socket, or give an address")
    if not dev.flags & netdevice.IFF_UP:
        raise os_error(errno.ENETDOWN, f"{dev.name} is down")
    sockc: sockcm_cookie | None = None
    if msg.msg_control:
        sockc = sock_cmsg_send(sk, msg.msg_control)
    elif sk.sk_tsflags:
        sockc = sockcm_cookie(sk, sk.sk_mark, sk.sk_priority)
    reserve = dev.hard_header_len if raw else 0
    if length > dev.mtu + reserve + netdevice.VLAN_HLEN:
        raise os_error(errno.EMSGSIZE, f"{length} bytes exceed the MTU of {dev.name}, {dev.mtu}")
    skb = packet_alloc_skb(sk, dev, msg, length)
    if not raw:
        header = dev.header_ops
        if header is not None:
            daddr = to.lladdr.ljust(dev.addr_len, b"\0")[: dev.addr_len] if to is not None else None
            if header.create(skb, dev, proto, daddr, None, length) < 0:
                kfree_skb(skb)
                raise os_error(errno.EINVAL, "a destination address is needed")
    elif length < dev.hard_header_len:
        kfree_skb(skb)
        raise os_error(errno.EINVAL, f"{length} bytes are less than a header of {dev.name}")
    else:
        skb_set_network_header(skb, dev.hard_header_len)
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
    err = packet_xmit(sk, skb)
    if err > 0:
        err = net_xmit_errno(err)
    if err:
        raise os_error(err)
    return length


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
    # The byte at the place of sll_halen is taken for one, and so must fit.
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
    skb = sock_alloc_send_skb(
        sk, linear, msg.msg_flags & uapi.MSG_DONTWAIT, net.skb_small, headroom
    )
    before = skb.truesize
    skb_reset_network_header(skb)
    done = msg.copy_to_skb(skb, linear)
    if done == linear and done < length:
        done += msg.add_to_skb(skb, net.skb_pages, length - done)
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
    while is_vlan(proto) and depth + netdevice.VLAN_HLEN <= skb.len:
        proto = int.from_bytes(skb_copy_bits(skb, depth + 2, 2), "big")
        depth += netdevice.VLAN_HLEN
    if depth != netdevice.ETH_HLEN and not is_vlan(proto):
        skb_set_network_header(skb, depth)


def packet_xmit(sk: packet_sock, skb: sk_buff) -> int:
    """net/packet/af_packet.c: send through the qdisc or, with PACKET_QDISC_BYPASS, directly.

    Returns NET_XMIT_*.
    """
    if sk.qdisc_bypass:
        return dev_direct_xmit(skb)
    return dev_queue_xmit(skb)
