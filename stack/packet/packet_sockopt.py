"""net/packet/af_packet.c: the options of SOL_PACKET, and memberships."""

from __future__ import annotations

import errno
import struct
from functools import partial
from typing import Any

from stack.core.bsd_socket import socket
from stack.core.dev import (
    dev_mc_add,
    dev_mc_del,
    dev_set_allmulti,
    dev_set_promiscuity,
    dev_uc_add,
    dev_uc_del,
)
from stack.core.errors import os_error
from stack.core.netdevice import net_device
from stack.core.sockopt_table import (
    M32,
    ON_OFF,
    Level,
    SockOpt,
    exact_int,
    get_option,
    number,
    opt_bytes,
    opt_int,
    opt_raw,
    set_option,
    switch,
)
from stack.core.uapi import SOL_PACKET
from stack.packet import packet_sock as names
from stack.packet.packet_fanout import fanout_add, fanout_get, fanout_set_data, rollover_stats
from stack.packet.packet_ring import packet_set_ring
from stack.packet.packet_sock import (
    PACKET_MR_ALLMULTI,
    PACKET_MR_MULTICAST,
    PACKET_MR_PROMISC,
    PACKET_MR_UNICAST,
    TPACKET_HDRLEN,
    TPACKET_V3,
    packet_mclist,
    packet_sock,
)

MREQ = struct.Struct("=iHH")
MREQ_BYTES = 16  # struct packet_mreq, with room for an address of 8
MREQ_MAX_BYTES = 40  # struct packet_mreq_max: 32
STATS = struct.Struct("=II")


# --- memberships -------------------------------------------------------------------------------


def packet_dev_mc(dev: net_device, i: packet_mclist, what: int) -> int:
    """net/packet/af_packet.c: add (1) or remove (-1) a membership at the interface. 0, -EINVAL."""
    if i.type in (PACKET_MR_MULTICAST, PACKET_MR_UNICAST):
        if len(i.addr) != dev.addr_len:
            return -errno.EINVAL
        if i.type == PACKET_MR_MULTICAST:
            return dev_mc_add(dev, i.addr) if what > 0 else dev_mc_del(dev, i.addr)
        return dev_uc_add(dev, i.addr) if what > 0 else dev_uc_del(dev, i.addr)
    if i.type == PACKET_MR_PROMISC:
        dev_set_promiscuity(dev, what)
    elif i.type == PACKET_MR_ALLMULTI:
        dev_set_allmulti(dev, what)
    return 0


def packet_mreq(optval: Any) -> packet_mclist:
    """struct packet_mreq of an option value. Raises: OSError EINVAL."""
    data = opt_bytes(optval)[:MREQ_MAX_BYTES]
    if len(data) < MREQ_BYTES:
        raise os_error(errno.EINVAL, f"struct packet_mreq has {MREQ_BYTES} bytes, not {len(data)}")
    ifindex, kind, alen = MREQ.unpack_from(data)
    if len(data) < MREQ.size + alen:
        raise os_error(errno.EINVAL, f"no room for an address of {alen} bytes")
    return packet_mclist(ifindex, kind, data[MREQ.size : MREQ.size + alen])


def packet_mc_find(sk: packet_sock, mreq: packet_mclist) -> packet_mclist | None:
    """The socket's membership equal to `mreq`, or None."""
    for ml in sk.mclist:
        if (ml.ifindex, ml.type, ml.addr) == (mreq.ifindex, mreq.type, mreq.addr):
            return ml
    return None


def packet_mc_add(sk: packet_sock, mreq: packet_mclist) -> None:
    """net/packet/af_packet.c: join. Raises: OSError ENODEV, EINVAL."""
    dev = sk.net.dev_by_index.get(mreq.ifindex)
    if dev is None:
        raise os_error(errno.ENODEV, f"no interface {mreq.ifindex}")
    if len(mreq.addr) > dev.addr_len:
        raise os_error(errno.EINVAL, f"an address of {dev.name} has {dev.addr_len} bytes")
    known = packet_mc_find(sk, mreq)
    if known is not None:
        known.count += 1
        return
    if packet_dev_mc(dev, mreq, 1):
        raise os_error(errno.EINVAL, f"an address of {dev.name} has {dev.addr_len} bytes")
    sk.mclist.append(mreq)


def packet_mc_drop(sk: packet_sock, mreq: packet_mclist) -> None:
    """net/packet/af_packet.c: leave; as on Linux without effect when it is no member."""
    known = packet_mc_find(sk, mreq)
    if known is None:
        return
    known.count -= 1
    if known.count:
        return
    sk.mclist.remove(known)
    dev = sk.net.dev_by_index.get(known.ifindex)
    if dev is not None:
        packet_dev_mc(dev, known, -1)


def packet_dev_mclist_delete(dev: net_device, sk: packet_sock) -> None:
    """net/packet/af_packet.c: the interface is removed: drop the memberships on it."""
    for ml in tuple(sk.mclist):
        if ml.ifindex == dev.ifindex:
            packet_dev_mc(dev, ml, -1)
            sk.mclist.remove(ml)


def packet_flush_mclist(sk: packet_sock) -> None:
    """net/packet/af_packet.c: the socket ends: drop all its memberships."""
    for ml in sk.mclist:
        dev = sk.net.dev_by_index.get(ml.ifindex)
        if dev is not None:
            packet_dev_mc(dev, ml, -1)
    sk.mclist.clear()


# --- options -----------------------------------------------------------------------------------


def packet_get_statistics(sk: packet_sock) -> bytes:
    """PACKET_STATISTICS: struct tpacket_stats or tpacket_stats_v3, which reading resets."""
    packets, drops = sk.tp_packets, sk.tp_drops
    sk.tp_packets = sk.tp_drops = 0
    told = STATS.pack(packets + drops & M32, drops & M32)
    if sk.tp_version != TPACKET_V3:
        return told
    ring = sk.rx_ring
    if ring is None:
        return told + bytes(4)
    freezes, ring.freezes = ring.freezes, 0
    return told + struct.pack("=I", freezes & M32)


def no_ring(sk: packet_sock, value: Any) -> None:
    """A row's `check`: fixed while a ring exists. Raises: OSError EBUSY."""
    if sk.rx_ring is not None or sk.tx_ring is not None:
        raise os_error(errno.EBUSY, "the socket has a ring")


def set_tx_has_off(sk: packet_sock, value: int) -> None:
    """PACKET_TX_HAS_OFF, which as on Linux a socket with a ring ignores."""
    if sk.rx_ring is None and sk.tx_ring is None:
        sk.tp_tx_has_off = bool(value)


# fmt: off
PACKET_LEVEL = Level("SOL_PACKET", SOL_PACKET, vars(names), (
    SockOpt("PACKET_ADD_MEMBERSHIP", "receive what is sent to a group, or everything",
        takes=packet_mreq, set=packet_mc_add),
    switch("PACKET_AUXDATA", "auxdata", "length, checksum state and VLAN tag, as a control message",
        since="2.6.21", takes=opt_int),
    number("PACKET_COPY_THRESH", "copy_thresh", None,
        "frames that are too long for a slot of the ring are also queued whole"),
    SockOpt("PACKET_DROP_MEMBERSHIP", "the opposite of PACKET_ADD_MEMBERSHIP",
        takes=packet_mreq, set=packet_mc_drop),
    SockOpt("PACKET_FANOUT", "share the packets with the sockets of a group", "3.1",
        takes=opt_raw, set=fanout_add, get=fanout_get),
    SockOpt("PACKET_FANOUT_DATA", "the program of PACKET_FANOUT_CBPF", "4.3",
        takes=opt_raw, set=fanout_set_data),
    SockOpt("PACKET_HDRLEN", "the length of a ring's header", "2.6.27",
        get=lambda sk: TPACKET_HDRLEN[0], room=4),  # the buffer has no version
    switch("PACKET_IGNORE_OUTGOING", "prot_hook.ignore_outgoing", "receive only incoming packets",
        since="4.20", legal=ON_OFF),
    switch("PACKET_LOSS", "tp_loss", "frames of a ring that cannot be sent are left out",
        since="2.6.31", check=no_ring),
    switch("PACKET_ORIGDEV", "origdev", "addresses name the interface that received first",
        since="2.6.22", takes=opt_int),
    switch("PACKET_QDISC_BYPASS", "qdisc_bypass", "send past the queueing discipline",
        since="3.14"),
    number("PACKET_RESERVE", "tp_reserve", range(1 << 31),
        "reserved bytes before each frame of a ring", since="2.6.27", check=no_ring),
    SockOpt("PACKET_ROLLOVER_STATS", "packets that other sockets of the group took", "4.2",
        get=rollover_stats),
    SockOpt("PACKET_RX_RING", "ring of received frames, in memory that the program maps",
        takes=opt_raw, set=partial(packet_set_ring, False)),
    SockOpt("PACKET_STATISTICS", "packets received and dropped since this was read",
        get=packet_get_statistics),
    number("PACKET_TIMESTAMP", "tp_tstamp", None, "kept; time stamps are always software's",
        since="2.6.36"),
    switch("PACKET_TX_HAS_OFF", "tp_tx_has_off", "a slot to send says where its frame begins",
        since="3.8", set=set_tx_has_off),
    SockOpt("PACKET_TX_RING", "ring of frames to send, in memory that the program maps", "2.6.31",
        takes=opt_raw, set=partial(packet_set_ring, True)),
    number("PACKET_VERSION", "tp_version", tuple(TPACKET_HDRLEN), "how a ring is laid out",
        since="2.6.27", check=no_ring),
), takes=exact_int, length_first=False)
# fmt: on


def packet_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """net/packet/af_packet.c. Raises: OSError ENOPROTOOPT, EINVAL, ENODEV.

    Virtio headers are not supported: ENOPROTOOPT.
    """
    if level != SOL_PACKET:
        raise os_error(errno.ENOPROTOOPT, f"packet sockets have no options of level {level}")
    set_option(PACKET_LEVEL, sock.sk, optname, optval)


def packet_getsockopt(sock: socket, level: int, optname: int, optlen: int) -> Any:
    """net/packet/af_packet.c. Raises: OSError ENOPROTOOPT."""
    if level != SOL_PACKET:
        raise os_error(errno.ENOPROTOOPT, f"packet sockets have no options of level {level}")
    return get_option(PACKET_LEVEL, sock.sk, optname, optlen)
