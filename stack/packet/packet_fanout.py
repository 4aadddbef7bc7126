"""net/packet/af_packet.c: fanout groups: each frame goes to one socket of the group.

    setsockopt(PACKET_FANOUT) -> fanout_add     join; the first socket makes the group (fanout_new)
    register_prot_hook -> fanout_link           the socket receives
    deliver_skb => packet_rcv_fanout            chooses by the group's type:
        fanout_hash                 PACKET_FANOUT_HASH: one flow, one socket, both directions alike
        PACKET_FANOUT_LB, _RND, _CBPF           in turn, random, by a BPF program
        fanout_demux_rollover       the next socket with room
        => packet_rcv               of the chosen socket
    unregister_prot_hook -> fanout_unlink; close -> fanout_release

The sockets of a group share one hook, whose function is packet_rcv_fanout. State:
`net.packet_fanout_list` has the groups; a `packet_fanout` has `arr` (sockets that receive),
`sk_ref` (members), `type` and `flags`; `packet_sock.rollover` counts and stores flows. Read
packet_rcv_fanout first.
"""

from __future__ import annotations

import errno
import struct
from typing import Any
from zlib import crc32

from fastpath.base.bpf import bpf_prog, bpf_prog_run
from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from stack.core.dev_receive import dev_add_pack, dev_remove_pack
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.filter import copy_bpf_fprog_from_user
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6, net_device, packet_type
from stack.core.sock import sock
from stack.core.sock_flags import SOCK_FILTER_LOCKED
from stack.core.sockopt_table import opt_bytes
from stack.net import Net
from stack.packet.packet_ring import tpacket_has_room
from stack.packet.packet_sock import packet_fanout, packet_rollover, packet_sock

# ways to fan out, and flags (include/uapi/linux/if_packet.h)
PACKET_FANOUT_HASH = 0
PACKET_FANOUT_LB = 1
PACKET_FANOUT_CPU = 2
PACKET_FANOUT_ROLLOVER = 3
PACKET_FANOUT_RND = 4
PACKET_FANOUT_QM = 5
PACKET_FANOUT_CBPF = 6
PACKET_FANOUT_EBPF = 7
PACKET_FANOUT_FLAG_ROLLOVER = 0x1000
PACKET_FANOUT_FLAG_UNIQUEID = 0x2000
PACKET_FANOUT_FLAG_IGNORE_OUTGOING = 0x4000
PACKET_FANOUT_FLAG_DEFRAG = 0x8000


ARGS = struct.Struct("=HHI")  # struct fanout_args of a little-endian machine
ROLLOVER_STATS = struct.Struct("=QQQ")
PACKET_FANOUT_MAX = 1 << 16
PACKET_FANOUT_MAX_DEFAULT = 256
ROOM_NONE, ROOM_LOW, ROOM_NORMAL = 0, 1, 2
ROLLOVER_HLEN = 16
TYPES = (PACKET_FANOUT_HASH, PACKET_FANOUT_LB, PACKET_FANOUT_CPU, PACKET_FANOUT_ROLLOVER,
         PACKET_FANOUT_RND, PACKET_FANOUT_QM, PACKET_FANOUT_CBPF, PACKET_FANOUT_EBPF)  # fmt: skip
WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
M32 = 0xFFFFFFFF


# --- members -----------------------------------------------------------------------------------


def fanout_link(sk: packet_sock, f: packet_fanout) -> None:
    """net/packet/af_packet.c __fanout_link: add the socket to the group's receiving ones."""
    f.arr.append(sk)
    if len(f.arr) == 1:
        dev_add_pack(sk.net, f.prot_hook)


def fanout_unlink(sk: packet_sock, f: packet_fanout) -> None:
    """net/packet/af_packet.c __fanout_unlink: remove the socket; the last one replaces it."""
    i = f.arr.index(sk)
    f.arr[i] = f.arr[-1]
    f.arr.pop()
    if not f.arr:
        dev_remove_pack(sk.net, f.prot_hook)


def fanout_release(sk: packet_sock) -> None:
    """net/packet/af_packet.c: leave the group; the last socket ends it."""
    f = sk.fanout
    if f is None:
        return
    sk.fanout = None
    f.sk_ref -= 1
    if not f.sk_ref:
        sk.net.packet_fanout_list.remove(f)


def match_fanout_group(f: packet_fanout, sk: sock) -> bool:
    """net/packet/af_packet.c: whether `sk`, a frame's sender, is in the group, which ignores it."""
    return isinstance(sk, packet_sock) and sk.fanout is f


# --- options -----------------------------------------------------------------------------------


def fanout_args(optval: Any) -> tuple[int, int, int]:
    """(id, type_flags, max_num_members) of an option value. Raises: OSError EINVAL."""
    data = opt_bytes(optval)
    if len(data) not in (4, ARGS.size):
        raise os_error(errno.EINVAL, "PACKET_FANOUT is an int or a struct fanout_args")
    ident, type_flags, most = ARGS.unpack(data.ljust(ARGS.size, b"\0"))
    return ident, type_flags, most


def fanout_add(sk: packet_sock, optval: Any) -> None:
    """net/packet/af_packet.c: join a group; the first socket makes it.

    As in Linux 6.13 and later, a socket may join while its interface is down.

    Raises: OSError EINVAL for a socket that does not match the group or has no protocol; EALREADY;
    ENOSPC when the group is full; ENOMEM when no number is free.
    """
    net = sk.net
    ident, type_flags, most = fanout_args(optval)
    kind, flags = type_flags & 0xFF, type_flags & 0xFF00
    if kind not in TYPES:
        raise os_error(errno.EINVAL, f"{kind} is no way to fan out")
    if flags & PACKET_FANOUT_FLAG_DEFRAG:
        raise os_error(errno.EINVAL, "PACKET_FANOUT_FLAG_DEFRAG does not exist here")
    if kind == PACKET_FANOUT_ROLLOVER and flags & PACKET_FANOUT_FLAG_ROLLOVER:
        raise os_error(errno.EINVAL, "PACKET_FANOUT_ROLLOVER rolls over anyway")
    if sk.fanout is not None:
        raise os_error(errno.EALREADY, f"the socket is of group {sk.fanout.id}")
    if flags & PACKET_FANOUT_FLAG_UNIQUEID:
        if ident:
            raise os_error(errno.EINVAL, "a number and PACKET_FANOUT_FLAG_UNIQUEID")
        ident = fanout_find_new_id(net)
        flags &= ~PACKET_FANOUT_FLAG_UNIQUEID
    group: packet_fanout | None = None
    for f in net.packet_fanout_list:
        if f.id == ident:
            group = f
    if group is None:
        group = fanout_new(sk, ident, kind, flags, most)
    elif group.flags != flags or (most and most != group.max_num_members):
        raise os_error(errno.EINVAL, f"group {ident} has other flags, or another size")
    hook = sk.prot_hook
    if not (
        sk.num
        and group.type == kind
        and group.prot_hook.type == hook.type
        and group.prot_hook.dev is hook.dev
    ):
        raise os_error(errno.EINVAL, f"the socket has no protocol, or not group {ident}'s")
    if group.sk_ref >= group.max_num_members:
        raise os_error(errno.ENOSPC, f"group {ident} has its {group.max_num_members} sockets")
    if not group.sk_ref:
        net.packet_fanout_list.append(group)
    if kind == PACKET_FANOUT_ROLLOVER or flags & PACKET_FANOUT_FLAG_ROLLOVER:
        sk.rollover = packet_rollover()
    group.sk_ref += 1
    sk.fanout = group
    if sk.running:
        dev_remove_pack(net, hook)
        fanout_link(sk, group)


def fanout_new(sk: packet_sock, ident: int, kind: int, flags: int, most: int) -> packet_fanout:
    """Make a group with the parameters of its first socket. Raises: OSError EINVAL."""
    if most > PACKET_FANOUT_MAX:
        raise os_error(errno.EINVAL, f"a group has at most {PACKET_FANOUT_MAX} sockets")
    f = packet_fanout(ident, kind, flags, most or PACKET_FANOUT_MAX_DEFAULT)
    f.prot_hook = packet_type(
        sk.prot_hook.type,
        packet_rcv_fanout,
        sk.prot_hook.dev,
        f,
        bool(flags & PACKET_FANOUT_FLAG_IGNORE_OUTGOING),
        None,
        match_fanout_group,
    )
    return f


def fanout_find_new_id(net: Net) -> int:
    """net/packet/af_packet.c: a free group number. Raises: OSError ENOMEM."""
    taken = {f.id for f in net.packet_fanout_list}
    for _ in range(1 << 16):
        net.packet_fanout_next_id = net.packet_fanout_next_id + 1 & 0xFFFF
        if net.packet_fanout_next_id not in taken:
            return net.packet_fanout_next_id
    raise os_error(errno.ENOMEM, "every number of a group is taken")


def fanout_set_data(sk: packet_sock, optval: Any) -> None:
    """PACKET_FANOUT_DATA: the program of PACKET_FANOUT_CBPF.

    Raises: OSError EINVAL, EFAULT; EPERM when filters are locked; EBADF: there is no extended BPF.
    """
    f = sk.fanout
    if f is None or f.type not in (PACKET_FANOUT_CBPF, PACKET_FANOUT_EBPF):
        raise os_error(errno.EINVAL, "the socket is of no group that a program chooses for")
    if sk.sk_flags & SOCK_FILTER_LOCKED:
        raise os_error(errno.EPERM, "the filter is locked (SO_LOCK_FILTER)")
    if f.type == PACKET_FANOUT_EBPF:
        if len(opt_bytes(optval)) != 4:
            raise os_error(errno.EINVAL, "a BPF program is the number of a descriptor")
        raise os_error(errno.EBADF, "there are no extended BPF programs")
    try:
        f.bpf_prog = bpf_prog(copy_bpf_fprog_from_user(optval), sk.net.random.getrandbits(64))
    except ValueError as error:
        raise os_error(errno.EINVAL, str(error)) from None


def fanout_get(sk: packet_sock) -> int:
    """getsockopt(PACKET_FANOUT): number, type and flags; 0 without a group."""
    f = sk.fanout
    if f is None:
        return 0
    value = f.id | (f.type | f.flags) << 16
    return value - (1 << 32) if value > 0x7FFFFFFF else value


def rollover_stats(sk: packet_sock) -> bytes:
    """getsockopt(PACKET_ROLLOVER_STATS): struct tpacket_rollover_stats. Raises: OSError EINVAL."""
    r = sk.rollover
    if r is None:
        raise os_error(errno.EINVAL, "the socket does not roll over")
    return ROLLOVER_STATS.pack(r.num, r.num_huge, r.num_failed)


# --- choosing a socket -------------------------------------------------------------------------


def packet_rcv_fanout(skb: sk_buff, dev: net_device, pt: packet_type, orig_dev: net_device) -> int:
    """net/packet/af_packet.c: packet_type.func of a group: pass the frame to one of its sockets."""
    f: packet_fanout = pt.af_packet_priv
    num = len(f.arr)
    if not num:
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return 0
    kind = f.type
    i = 0
    if kind == PACKET_FANOUT_HASH:
        i = fanout_hash(skb) * num >> 32
    elif kind == PACKET_FANOUT_LB:
        f.rr_cur = f.rr_cur + 1 & M32
        i = f.rr_cur % num
    elif kind == PACKET_FANOUT_RND:
        i = dev.net.random.randrange(num)
    elif kind == PACKET_FANOUT_CBPF:
        prog = f.bpf_prog
        if prog is not None:
            i = bpf_prog_run(prog, skb, 0) % num
    elif kind == PACKET_FANOUT_ROLLOVER:
        i = fanout_demux_rollover(f, skb, 0, False, num)
    if f.flags & PACKET_FANOUT_FLAG_ROLLOVER:
        i = fanout_demux_rollover(f, skb, i, True, num)
    sk: packet_sock = f.arr[i]
    hook: packet_type = sk.prot_hook
    return hook.func(skb, dev, hook, orig_dev)


def fanout_hash(skb: sk_buff) -> int:
    """net/core/flow_dissector.c __skb_get_hash_symmetric: 32 bits, equal for both directions.

    The hash is of addresses, protocol and ports; fragments have no ports.
    """
    off = skb_network_offset(skb)
    room = skb.len - off
    proto = skb.protocol
    ports = b""
    a = b = b""
    upper = 0
    at = 0
    if proto == ETH_P_IP and room >= 20:
        head = skb_copy_bits(skb, off, 20)
        a, b, upper = head[12:16], head[16:20], head[9]
        at = (head[0] & 15) * 4
        if (head[6] & 0x3F) or head[7]:
            at = 0
    elif proto == ETH_P_IPV6 and room >= 40:
        head = skb_copy_bits(skb, off, 40)
        a, b, upper = head[8:24], head[24:40], head[6]
        at = 40
        while upper in (0, 43, 60) and at + 8 <= room:  # options, routing
            head = skb_copy_bits(skb, off + at, 2)
            upper = head[0]
            at += 8 + head[1] * 8
        if upper == 44:
            at = 0
    if at and upper in WITH_PORTS and at + 4 <= room:
        ports = skb_copy_bits(skb, off + at, 4)
        if (b, ports[2:]) < (a, ports[:2]):
            a, b, ports = b, a, ports[2:] + ports[:2]
    elif b < a:
        a, b = b, a
    return crc32(a + b + ports + bytes((upper, proto >> 8 & 0xFF, proto & 0xFF)))


def packet_rcv_has_room(sk: packet_sock, skb: sk_buff) -> int:
    """net/packet/af_packet.c: ROOM_NORMAL above a quarter of the buffer, ROOM_LOW, ROOM_NONE."""
    ring = sk.rx_ring
    if ring is not None:
        if tpacket_has_room(ring, 4):
            return ROOM_NORMAL
        return ROOM_LOW if tpacket_has_room(ring, 0) else ROOM_NONE
    avail = sk.sk_rcvbuf - sk.sk_rmem_alloc - skb.truesize
    if avail > sk.sk_rcvbuf >> 2:
        return ROOM_NORMAL
    return ROOM_LOW if avail > 0 else ROOM_NONE


def fanout_flow_is_huge(sk: packet_sock, skb: sk_buff) -> bool:
    """net/packet/af_packet.c: whether more than half of the socket's last frames had this flow."""
    r: packet_rollover = sk.rollover  # type: ignore[assignment]  # fanout_add made it
    hashed = fanout_hash(skb)
    count = r.history.count(hashed)
    r.history[sk.net.random.randrange(ROLLOVER_HLEN)] = hashed
    return count > ROLLOVER_HLEN >> 1


def fanout_demux_rollover(f: packet_fanout, skb: sk_buff, i: int, try_self: bool, num: int) -> int:
    """net/packet/af_packet.c: the index of the next socket with room, if that at `i` has none."""
    sk: packet_sock = f.arr[i]
    skip: packet_sock | None = None
    room = ROOM_NONE
    if try_self:
        room = packet_rcv_has_room(sk, skb)
        if room == ROOM_NORMAL or (room == ROOM_LOW and not fanout_flow_is_huge(sk, skb)):
            return i
        skip = sk
    r: packet_rollover = sk.rollover  # type: ignore[assignment]  # fanout_add made it
    start = at = min(r.sock, num - 1)
    while True:
        other: packet_sock = f.arr[at]
        if other is not skip and packet_rcv_has_room(other, skb) == ROOM_NORMAL:
            r.sock = at
            r.num += 1
            r.num_huge += room == ROOM_LOW
            return at
        at = (at + 1) % num
        if at == start:
            r.num_failed += 1
            return i
