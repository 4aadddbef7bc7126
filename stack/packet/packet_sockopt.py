"""net/packet/af_packet.c: the options of SOL_PACKET, and memberships."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from stack.core.dev import (
    dev_mc_add,
    dev_mc_del,
    dev_set_allmulti,
    dev_set_promiscuity,
    dev_uc_add,
    dev_uc_del,
)
from stack.core.errors import os_error
from stack.core.sockopt import opt_bytes, opt_int
from stack.core.uapi import SOL_PACKET
from stack.packet.packet_fanout import (
    fanout_add,
    fanout_get,
    fanout_set_data,
    rollover_stats,
)
from stack.packet.packet_sock import (
    PACKET_ADD_MEMBERSHIP,
    PACKET_AUXDATA,
    PACKET_COPY_THRESH,
    PACKET_DROP_MEMBERSHIP,
    PACKET_FANOUT,
    PACKET_FANOUT_DATA,
    PACKET_HDRLEN,
    PACKET_IGNORE_OUTGOING,
    PACKET_LOSS,
    PACKET_MR_ALLMULTI,
    PACKET_MR_MULTICAST,
    PACKET_MR_PROMISC,
    PACKET_MR_UNICAST,
    PACKET_ORIGDEV,
    PACKET_QDISC_BYPASS,
    PACKET_RESERVE,
    PACKET_ROLLOVER_STATS,
    PACKET_STATISTICS,
    PACKET_TIMESTAMP,
    PACKET_TX_HAS_OFF,
    PACKET_VERSION,
    TPACKET_HDRLEN,
    packet_mclist,
)

if TYPE_CHECKING:
    from stack.core.netdevice import net_device
    from stack.core.socket import socket
    from stack.packet.packet_sock import packet_sock

MREQ = struct.Struct("=iHH")
MREQ_BYTES = 16  # struct packet_mreq, with room for an address of 8
MREQ_MAX_BYTES = 40  # struct packet_mreq_max: 32
STATS = struct.Struct("=II")
M32 = 0xFFFFFFFF


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


def opt_int_only(optval: Any) -> int:
    """The value of an option of exactly an int. Raises: OSError EINVAL."""
    if not isinstance(optval, int) and len(opt_bytes(optval)) != 4:
        raise os_error(errno.EINVAL, "the option is an int of 4 bytes")
    return opt_int(optval)


def packet_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """net/packet/af_packet.c. Raises: OSError ENOPROTOOPT, EINVAL, ENODEV.

    Rings, which a program would map, and virtio headers are not supported: ENOPROTOOPT.
    """
    sk: packet_sock = sock.sk
    if level != SOL_PACKET:
        raise os_error(errno.ENOPROTOOPT, f"packet sockets have no options of level {level}")
    if optname == PACKET_ADD_MEMBERSHIP:
        packet_mc_add(sk, packet_mreq(optval))
    elif optname == PACKET_DROP_MEMBERSHIP:
        packet_mc_drop(sk, packet_mreq(optval))
    elif optname == PACKET_FANOUT:
        fanout_add(sk, optval)
    elif optname == PACKET_FANOUT_DATA:
        fanout_set_data(sk, optval)
    else:
        packet_set_int(sk, optname, optval)


def packet_set_int(sk: packet_sock, optname: int, optval: Any) -> None:
    """Set one of the options that are an int."""
    if optname == PACKET_AUXDATA:
        sk.auxdata = bool(opt_int(optval))
    elif optname == PACKET_ORIGDEV:
        sk.origdev = bool(opt_int(optval))
    elif optname == PACKET_COPY_THRESH:
        sk.copy_thresh = opt_int_only(optval)
    elif optname == PACKET_VERSION:
        version = opt_int_only(optval)
        if version not in TPACKET_HDRLEN:
            raise os_error(errno.EINVAL, f"TPACKET_V{version + 1} does not exist")
        sk.tp_version = version
    elif optname == PACKET_RESERVE:
        reserve = opt_int_only(optval)
        if reserve < 0:
            raise os_error(errno.EINVAL, "PACKET_RESERVE of more than 31 bits")
        sk.tp_reserve = reserve
    elif optname == PACKET_LOSS:
        sk.tp_loss = bool(opt_int_only(optval))
    elif optname == PACKET_TIMESTAMP:
        sk.tp_tstamp = opt_int_only(optval)
    elif optname == PACKET_TX_HAS_OFF:
        sk.tp_tx_has_off = bool(opt_int_only(optval))
    elif optname == PACKET_QDISC_BYPASS:
        sk.qdisc_bypass = bool(opt_int_only(optval))
    elif optname == PACKET_IGNORE_OUTGOING:
        value = opt_int_only(optval)
        if value not in (0, 1):
            raise os_error(errno.EINVAL, "PACKET_IGNORE_OUTGOING is 0 or 1")
        sk.prot_hook.ignore_outgoing = bool(value)
    else:
        raise os_error(errno.ENOPROTOOPT, f"unknown SOL_PACKET option {optname}")


def packet_getsockopt(sock: socket, level: int, optname: int) -> Any:
    """net/packet/af_packet.c. Raises: OSError ENOPROTOOPT.

    PACKET_STATISTICS is struct tpacket_stats; reading it resets the counters.
    """
    sk: packet_sock = sock.sk
    if level != SOL_PACKET:
        raise os_error(errno.ENOPROTOOPT, f"packet sockets have no options of level {level}")
    if optname == PACKET_STATISTICS:
        packets, drops = sk.tp_packets, sk.tp_drops
        sk.tp_packets = sk.tp_drops = 0
        return STATS.pack(packets + drops & M32, drops & M32)
    if optname == PACKET_ROLLOVER_STATS:
        return rollover_stats(sk)
    if optname == PACKET_FANOUT:
        return fanout_get(sk)
    values = {
        PACKET_AUXDATA: sk.auxdata,
        PACKET_ORIGDEV: sk.origdev,
        PACKET_COPY_THRESH: sk.copy_thresh,
        PACKET_VERSION: sk.tp_version,
        PACKET_HDRLEN: TPACKET_HDRLEN[0],
        PACKET_RESERVE: sk.tp_reserve,
        PACKET_LOSS: sk.tp_loss,
        PACKET_TIMESTAMP: sk.tp_tstamp,
        PACKET_TX_HAS_OFF: sk.tp_tx_has_off,
        PACKET_QDISC_BYPASS: sk.qdisc_bypass,
        PACKET_IGNORE_OUTGOING: sk.prot_hook.ignore_outgoing,
    }
    if optname not in values:
        raise os_error(errno.ENOPROTOOPT, f"unknown SOL_PACKET option {optname}")
    return int(values[optname])
