"""net/packet/af_packet.c: receiving frames by packet sockets.

    packet_bind -> packet_do_bind -> register_prot_hook
        dev_add_pack                        the socket becomes a packet_type of the device layer
    deliver_skb => packet_rcv               filter, room, a clone if shared; queue and wake
    recvmsg => packet_recvmsg               the frame, its sockaddr_ll, PACKET_AUXDATA
    sendmsg => packet_sendmsg               packet_snd.py

Frames cost nothing when no socket is open, since without one there is no packet_type. State:
`packet_sock.prot_hook` (the packet_type), `running` (whether it is registered), `num` (the
protocol), `fanout` (its group, packet_fanout.py). A queued skb has its sockaddr_ll in `cb` and its
full length in `seq`. Read packet_rcv first.
"""

from __future__ import annotations

import errno
import struct

from fastpath.base import skbuff
from fastpath.base.bpf import bpf_prog_run
from fastpath.base.skbuff import (
    consume_skb,
    pskb_trim,
    sk_buff,
    skb_clone,
    skb_copy_bits,
    skb_mac_offset,
    skb_network_offset,
    skb_pull,
    skb_push,
    skb_shared,
)
from fastpath.net.sockaddr import sockaddr_ll_make
from stack.core import netdevice, uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import skb_recv_datagram
from stack.core.dev_receive import dev_add_pack, dev_remove_pack
from stack.core.drop_reason import SKB_DROP_REASON_PACKET_SOCK_ERROR, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.errqueue import sock_exterr_skb, sock_next_error, sock_recv_errqueue
from stack.core.if_vlan import VLAN_MAX_DEPTH, eth_type_vlan
from stack.core.iov import msghdr, skb_read_datagram
from stack.core.netdevice import net_device, packet_type
from stack.core.sock import lock_sock, release_sock, sk_data_ready, sk_error_report, skb_set_owner_r
from stack.core.sock_flags import SOCK_DEAD
from stack.core.sockaddr import sockaddr_ll
from stack.core.sockopt import put_cmsg, sock_recv_cmsgs
from stack.packet.packet_fanout import fanout_link, fanout_unlink
from stack.packet.packet_ring import TP_STATUS_USER, tpacket_rcv, tpacket_status, tpacket_vlan
from stack.packet.packet_sock import PACKET_AUXDATA, PACKET_TX_TIMESTAMP, packet_sock

AUXDATA = struct.Struct("=IIIHHHH")
READ_FLAGS = uapi.MSG_PEEK | uapi.MSG_DONTWAIT | uapi.MSG_TRUNC | uapi.MSG_ERRQUEUE


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
    if sk.sk_type == uapi.SOCK_DGRAM and eth_type_vlan(skb.protocol):
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
        if not eth_type_vlan(proto):
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
