"""net/packet/af_packet.c: PACKET_RX_RING: frames go into memory that the program shares.

    setsockopt(PACKET_RX_RING, PACKET_TX_RING) => packet_set_ring
        place_rings -> alloc_pg_vec     the pages (packet_mmap.py); packet_snd.py sends from them
        init_prb_bdqc                   TPACKET_V3: open the first block
    mmap => packet_mmap
    packet_rcv -> tpacket_rcv           a slot or a place in a block; copy; the header before it
        tpacket_current_frame           TPACKET_V1, V2: the next slot, if the program gave it back
        __packet_lookup_frame_in_block  V3: a place in the block, or in the next one
            prb_retire_current_block    pass the block to the program; prb_dispatch_next_block
    timer -> prb_retire_rx_blk_timer_expired    pass on a block after its timeout
    poll => packet_poll

A slot, and a block of V3. The program owns it while its status is not 0:

    tpacket2_hdr | sockaddr_ll | PACKET_RESERVE | frame, its network header aligned to 16
    tpacket_block_desc | the program's own | tpacket3_hdr | sockaddr_ll | frame | tpacket3_hdr ...

State: `packet_sock.rx_ring` and `tx_ring`, each a packet_ring_buffer. What the program writes there
is never trusted: only the word of the status is read. Read tpacket_rcv first.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

from fastpath.base import skbuff
from fastpath.base.skbuff import (
    sk_buff,
    skb_copy_bits,
    skb_csum_unnecessary,
    skb_mac_offset,
    skb_network_offset,
)
from fastpath.net.sockaddr import sockaddr_ll_make
from stack.core import netdevice, uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import datagram_poll
from stack.core.errors import os_error
from stack.core.file import vm_area_struct
from stack.core.netdevice import net_device
from stack.core.pipe import PAGE_SIZE
from stack.core.sock import sk_data_ready
from stack.core.sockaddr import sockaddr_bytes
from stack.core.sockopt_table import opt_bytes
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_delete, timer_list, timer_shutdown
from stack.packet.packet_mmap import alloc_pg_vec
from stack.packet.packet_sock import (
    TPACKET_HDRLEN,
    TPACKET_V1,
    TPACKET_V2,
    TPACKET_V3,
    packet_ring_buffer,
    packet_sock,
)

# tp_status and block_status
TP_STATUS_KERNEL = 0
TP_STATUS_USER = 1 << 0
TP_STATUS_COPY = 1 << 1
TP_STATUS_LOSING = 1 << 2
TP_STATUS_CSUMNOTREADY = 1 << 3
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_BLK_TMO = 1 << 5
TP_STATUS_VLAN_TPID_VALID = 1 << 6
TP_STATUS_CSUM_VALID = 1 << 7
TP_STATUS_GSO_TCP = 1 << 8
TP_STATUS_TS_SOFTWARE = 1 << 29
# of a ring to send
TP_STATUS_AVAILABLE = 0
TP_STATUS_SEND_REQUEST = 1 << 0
TP_STATUS_SENDING = 1 << 1
TP_STATUS_WRONG_FORMAT = 1 << 2
TX_STATUS = {TPACKET_V1: 0, TPACKET_V2: 0, TPACKET_V3: 20}
"""Where a slot has its status, by version: a ring to send has no blocks."""

TPACKET_ALIGNMENT = 16
V3_ALIGNMENT = 8
SLL_BYTES = 20
"""struct sockaddr_ll."""
TP_FT_REQ_FILL_RXHASH = 1
DEFAULT_PRB_RETIRE_TOV_NS = 8_000_000
"""Linux uses the time to fill a block on a fast interface, if longer."""
UINT_MAX = 0xFFFFFFFF
USHRT_MAX = 0xFFFF

REQ = struct.Struct("=IIII")
REQ3 = struct.Struct("=IIIIIII")
WORD = struct.Struct("=I")
HDR = struct.Struct("=QIIHHII")
HDR2 = struct.Struct("=IIIHHIIHH4x")
HDR3 = struct.Struct("=IIIIIIHHIIH10x")
BLOCK_DESC = struct.Struct("=IIIIIIQIIII")
BLOCK_STATUS, BLOCK_NUM_PKTS, BLOCK_LEN, BLOCK_TS_LAST = 8, 12, 20, 40
"""Offsets in struct tpacket_block_desc."""
NEXT_OFFSET, TIME = 0, 4
"""Offsets in struct tpacket3_hdr."""


def align(value: int, to: int) -> int:
    """The next multiple of `to`, a power of two."""
    return value + to - 1 & ~(to - 1)


# --- making and mapping ------------------------------------------------------------------------


def packet_set_ring(tx: bool, sk: packet_sock, optval: Any) -> None:
    """net/packet/af_packet.c: create the receive or send ring; without blocks remove it.

    Raises: OSError EINVAL; EBUSY while it is mapped, is in use or already exists; ENOMEM.
    """
    there = sk.tx_ring if tx else sk.rx_ring
    layout = REQ3 if sk.tp_version == TPACKET_V3 else REQ
    data = opt_bytes(optval)
    if len(data) < layout.size:
        raise os_error(errno.EINVAL, f"a ring of this version takes {layout.size} bytes")
    block_size, block_nr, frame_size, frame_nr, tov, priv, features = REQ3.unpack(
        data[: layout.size].ljust(REQ3.size, b"\0")
    )
    if still_mapped(sk) or (there is not None and there.pending):
        raise os_error(errno.EBUSY, "the ring is mapped, or frames of it are on their way")
    if not block_nr:
        if frame_nr:
            raise os_error(errno.EINVAL, f"{frame_nr} frames in no block")
        if there is not None:
            place_rings(sk, *((sk.rx_ring, None) if tx else (None, sk.tx_ring)))
        return
    if there is not None:
        raise os_error(errno.EBUSY, "the socket has a ring")
    hdrlen = TPACKET_HDRLEN[sk.tp_version] + SLL_BYTES
    least = hdrlen + sk.tp_reserve
    if (
        not 0 < block_size < 1 << 31
        or block_size % PAGE_SIZE
        or (sk.tp_version == TPACKET_V3 and block_size < blk_plus_priv(priv) + least)
        or frame_size < least
        or frame_size % TPACKET_ALIGNMENT
        or block_size < frame_size
        or block_size // frame_size > UINT_MAX // block_nr
        or block_size // frame_size * block_nr != frame_nr
    ):
        raise os_error(errno.EINVAL, f"no ring: {block_nr} * {block_size} for {frame_nr} frames")
    if tx and (tov or priv or features):
        raise os_error(errno.EINVAL, "a ring to send has no blocks that wait")
    ring = packet_ring_buffer(
        sk.tp_version, block_size, block_nr, frame_size, frame_nr, None, hdrlen
    )
    place_rings(sk, *((sk.rx_ring, ring) if tx else (ring, sk.tx_ring)))
    if ring.version == TPACKET_V3 and not tx:
        ring.priv = priv
        ring.tov_ns = tov * NSEC_PER_MSEC or DEFAULT_PRB_RETIRE_TOV_NS
        ring.features = features
        ring.timer = timer_list(sk.net.machine, prb_retire_rx_blk_timer_expired, data=sk)
        prb_open_block(sk, ring)


def place_rings(
    sk: packet_sock, rx: packet_ring_buffer | None, tx: packet_ring_buffer | None
) -> None:
    """Set the socket's rings: pages of one file, the receive ring before the send ring.

    They must not be mapped. Raises: OSError ENOMEM, and the rings are unchanged.
    """
    rings = [ring for ring in (rx, tx) if ring is not None]
    fd = -1
    if rings:
        fd, pages = alloc_pg_vec(sum(map(ring_bytes, rings)))
        first = ring_bytes(rings[0])
        for ring, begin in zip(rings, (0, first), strict=False):
            size = ring_bytes(ring)
            memory = pages if len(rings) == 1 else memoryview(pages)[begin : begin + size]
            if ring.memory is not None:
                memory[0:size] = ring.memory[0:size]
            ring.memory = memory
    if rx is None and sk.rx_ring is not None and sk.rx_ring.timer is not None:
        timer_shutdown(sk.rx_ring.timer)
    if sk.pages_fd >= 0:
        os.close(sk.pages_fd)
    sk.rx_ring, sk.tx_ring, sk.pages_fd = rx, tx, fd


def still_mapped(sk: packet_sock) -> bool:
    """Whether the pages are mapped; drops ended mappings."""
    sk.maps = [still for still in sk.maps if still()]
    return bool(sk.maps)


def blk_plus_priv(priv: int) -> int:
    """BLK_PLUS_PRIV: bytes of a block before its first frame."""
    return BLOCK_DESC.size + align(priv, V3_ALIGNMENT)


def packet_mmap(file: object, sock: socket, vma: vm_area_struct) -> None:
    """net/packet/af_packet.c: the file whose pages are mapped. Raises: OSError EINVAL."""
    sk: packet_sock = sock.sk
    size = sum(ring_bytes(ring) for ring in (sk.rx_ring, sk.tx_ring) if ring is not None)
    if not size or vma.vm_pgoff or align(vma.size, PAGE_SIZE) != size:
        raise os_error(errno.EINVAL, "rings are mapped whole, once they were made")
    vma.vm_file = sk.pages_fd
    still_mapped(sk)
    sk.maps.append(vma.still)


def ring_bytes(ring: packet_ring_buffer) -> int:
    """Bytes of the whole ring."""
    return ring.block_size * ring.block_nr


def packet_poll(file: Any, sock: socket, wait: Any) -> int:
    """net/packet/af_packet.c: POLL* of the socket: readable, too, if frames are in the ring.

    With a send ring it is writable, too, if the next slot is free.
    """
    mask = datagram_poll(file, sock, wait)
    ring = sock.sk.tx_ring
    if ring is not None and slot_status(ring) == TP_STATUS_AVAILABLE:
        mask |= uapi.POLLOUT | uapi.POLLWRNORM
    ring = sock.sk.rx_ring
    if ring is not None:
        if ring.version == TPACKET_V3:
            before = ring.block - 1 if ring.block else ring.block_nr - 1
            status = word_at(ring, before * ring.block_size + BLOCK_STATUS)
        else:
            status = word_at(ring, slot_at(ring, ring.head - 1 if ring.head else ring.frame_nr - 1))
        if status != TP_STATUS_KERNEL:
            mask |= uapi.POLLIN | uapi.POLLRDNORM
    return mask


def word_at(ring: packet_ring_buffer, at: int) -> int:
    """32 bits of the ring."""
    return int(WORD.unpack_from(ring.memory, at)[0])


def slot_status(ring: packet_ring_buffer) -> int:
    """__packet_get_status of the current slot of a send ring."""
    return word_at(ring, slot_at(ring, ring.head) + TX_STATUS[ring.version])


def slot_at(ring: packet_ring_buffer, i: int) -> int:
    """packet_lookup_frame: the offset of slot `i`."""
    per = ring.block_size // ring.frame_size
    return i // per * ring.block_size + i % per * ring.frame_size


def tpacket_has_room(ring: packet_ring_buffer, behind: int) -> bool:
    """net/packet/af_packet.c: whether the next slot or block is free.

    `behind` n, not 0: whether the one an n-th of the ring later is.
    """
    if ring.version == TPACKET_V3:
        block = ring.block + (ring.block_nr // behind if behind else 0)
        at = block % ring.block_nr * ring.block_size + BLOCK_STATUS
        return word_at(ring, at) == TP_STATUS_KERNEL
    slot = ring.head + (ring.frame_nr // behind if behind else 0)
    return word_at(ring, slot_at(ring, slot % ring.frame_nr)) == TP_STATUS_KERNEL


# --- receiving ---------------------------------------------------------------------------------


def tpacket_rcv(
    sk: packet_sock, skb: sk_buff, dev: net_device, orig_dev: net_device, off: int, snaplen: int
) -> bool:
    """net/packet/af_packet.c: put a frame, which begins at `off` of the data, into the ring.

    True: it is too long for its slot, and the socket's queue must get it as well
    (PACKET_COPY_THRESH). Borrows skb.
    """
    ring: packet_ring_buffer = sk.rx_ring  # type: ignore[assignment]  # so packet_rcv found
    if not tpacket_has_room(ring, 0):
        sk.tp_drops += 1
        return False
    hdrlen = ring.hdrlen
    if sk.sk_type == uapi.SOCK_DGRAM:
        mac = network = align(hdrlen, TPACKET_ALIGNMENT) + 16 + sk.tp_reserve
    else:
        maclen = skb_network_offset(skb) - off
        network = align(hdrlen + (maclen if maclen > 16 else 16), TPACKET_ALIGNMENT)
        network += sk.tp_reserve
        mac = network - maclen
    if network > USHRT_MAX:
        sk.tp_drops += 1
        return False
    status = TP_STATUS_USER | tpacket_status(skb)
    room = ring.frame_size
    if ring.version == TPACKET_V3:
        room = ring.block_size - blk_plus_priv(ring.priv)
    copied = False
    if mac + snaplen > room:
        if ring.version != TPACKET_V3 and sk.copy_thresh and sk.sk_rmem_alloc < sk.sk_rcvbuf:
            copied = True
            status |= TP_STATUS_COPY
        snaplen = room - mac
        if snaplen < 0:
            snaplen = 0
            if ring.version == TPACKET_V3:
                mac = room
    if ring.version == TPACKET_V3:
        at = __packet_lookup_frame_in_block(sk, ring, mac + snaplen)
        if at < 0:
            sk.tp_drops += 1
            sk_data_ready(sk)
            return False
    else:
        at = slot_at(ring, ring.head)
        ring.head = ring.head + 1 if ring.head + 1 < ring.frame_nr else 0
        if sk.tp_drops:
            status |= TP_STATUS_LOSING
    if not copied:
        sk.tp_packets += 1
    memory = ring.memory
    memory[at + mac : at + mac + snaplen] = skb_copy_bits(skb, off, snaplen)
    source = b""
    if dev.header_ops is not None:
        source = skb_copy_bits(skb, skb_mac_offset(skb) + 6, 6)
    ifindex = orig_dev.ifindex if sk.origdev else dev.ifindex
    name = sockaddr_bytes(
        sockaddr_ll_make(skb.protocol, ifindex, dev.type, skb.pkt_type, source)
    ).ljust(SLL_BYTES, b"\0")
    behind = at + TPACKET_HDRLEN[ring.version]
    memory[behind : behind + SLL_BYTES] = name
    tpacket_fill(sk, ring, skb, at, status, skb.len - off, snaplen, mac, network)
    if ring.version != TPACKET_V3:
        sk_data_ready(sk)
    return copied


def tpacket_status(skb: sk_buff) -> int:
    """The bits of tp_status for the checksum and GSO."""
    status = 0
    if skb.ip_summed == skbuff.CHECKSUM_PARTIAL:
        status = TP_STATUS_CSUMNOTREADY
    elif skb.pkt_type != skbuff.PACKET_OUTGOING and skb_csum_unnecessary(skb):
        status = TP_STATUS_CSUM_VALID
    if skb.gso_size and skb.gso_type & (skbuff.SKB_GSO_TCPV4 | skbuff.SKB_GSO_TCPV6):
        status |= TP_STATUS_GSO_TCP
    return status


def tpacket_vlan(sk: packet_sock, skb: sk_buff) -> tuple[int, int, int]:
    """A frame's VLAN tag in metadata, its protocol, and their status bits.

    A SOCK_DGRAM socket also gets one from the MAC header.
    """
    valid = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID
    if skb.vlan_proto:
        return skb.vlan_tci, skb.vlan_proto, valid
    proto = skb.protocol
    if sk.sk_type == uapi.SOCK_DGRAM and proto in (netdevice.ETH_P_8021Q, netdevice.ETH_P_8021AD):
        at = skb_mac_offset(skb) + netdevice.ETH_HLEN
        if at + netdevice.VLAN_HLEN <= skb.len:
            return int.from_bytes(skb_copy_bits(skb, at, 2), "big"), proto, valid
        return 0, proto, valid
    return 0, 0, 0


def tpacket_fill(
    sk: packet_sock,
    ring: packet_ring_buffer,
    skb: sk_buff,
    at: int,
    status: int,
    length: int,
    snaplen: int,
    mac: int,
    network: int,
) -> None:
    """Write the header of a frame, its status last, because it passes the slot to the program."""
    memory = ring.memory
    stamp = sk.net.machine.realtime_ns(skb.tstamp_ns)
    if skb.tstamp_ns:
        status |= TP_STATUS_TS_SOFTWARE
    seconds, ns = divmod(stamp, NSEC_PER_SEC)
    seconds &= UINT_MAX
    if ring.version == TPACKET_V1:
        HDR.pack_into(memory, at, 0, length, snaplen, mac, network, seconds, ns // 1000)
        WORD.pack_into(memory, at, status)
        return
    tci, tpid, valid = tpacket_vlan(sk, skb)
    status |= valid
    if ring.version == TPACKET_V3:
        (following,) = WORD.unpack_from(memory, at + NEXT_OFFSET)
        hashed = skb.hash & UINT_MAX if ring.features & TP_FT_REQ_FILL_RXHASH else 0
        HDR3.pack_into(
            memory, at, following, seconds, ns, snaplen, length, status, mac, network, hashed, tci,
            tpid,
        )  # fmt: skip
        return
    HDR2.pack_into(memory, at, 0, length, snaplen, mac, network, seconds, ns, tci, tpid)
    WORD.pack_into(memory, at, status)


# --- blocks of TPACKET_V3 ----------------------------------------------------------------------


def __packet_lookup_frame_in_block(sk: packet_sock, ring: packet_ring_buffer, length: int) -> int:
    """net/packet/af_packet.c: the place of a frame of `length` bytes; -1: no block has room."""
    if ring.frozen:
        if word_at(ring, ring.block * ring.block_size + BLOCK_STATUS) & TP_STATUS_USER:
            return -1
        prb_open_block(sk, ring)
    length = align(length, V3_ALIGNMENT)
    if ring.at + length >= (ring.block + 1) * ring.block_size:
        prb_retire_current_block(sk, ring, 0)
        if not prb_dispatch_next_block(sk, ring):
            return -1
    at = ring.at
    memory = ring.memory
    WORD.pack_into(memory, at + NEXT_OFFSET, length)
    ring.last = at
    ring.at = at + length
    start = ring.block * ring.block_size
    frames = word_at(ring, start + BLOCK_NUM_PKTS)
    WORD.pack_into(memory, start + BLOCK_NUM_PKTS, frames + 1 & UINT_MAX)
    WORD.pack_into(memory, start + BLOCK_LEN, ring.at - start)
    if ring.timer is not None and not ring.timer.pending:
        mod_timer(ring.timer, sk.net.clock.now_ns() + ring.tov_ns)
    return at


def prb_open_block(sk: packet_sock, ring: packet_ring_buffer) -> None:
    """net/packet/af_packet.c: start to fill the current block."""
    start = ring.block * ring.block_size
    seconds, ns = divmod(sk.net.machine.realtime_ns(), NSEC_PER_SEC)
    first = blk_plus_priv(ring.priv)
    BLOCK_DESC.pack_into(
        ring.memory, start, ring.version, BLOCK_DESC.size, TP_STATUS_KERNEL, 0, first, first,
        ring.seq, seconds & UINT_MAX, ns, 0, 0,
    )  # fmt: skip
    ring.seq += 1
    ring.at = ring.last = start + first
    ring.frozen = False


def prb_retire_current_block(sk: packet_sock, ring: packet_ring_buffer, status: int) -> None:
    """net/packet/af_packet.c: pass the current block to the program, and go to the next."""
    start = ring.block * ring.block_size
    memory = ring.memory
    if ring.timer is not None:
        timer_delete(ring.timer)
    WORD.pack_into(memory, ring.last + NEXT_OFFSET, 0)
    if word_at(ring, start + BLOCK_NUM_PKTS):
        memory[start + BLOCK_TS_LAST : start + BLOCK_TS_LAST + 8] = memory[
            ring.last + TIME : ring.last + TIME + 8
        ]
    status |= TP_STATUS_USER
    if sk.tp_drops:
        status |= TP_STATUS_LOSING
    WORD.pack_into(memory, start + BLOCK_STATUS, status)
    ring.block = ring.block + 1 if ring.block + 1 < ring.block_nr else 0
    sk_data_ready(sk)


def prb_dispatch_next_block(sk: packet_sock, ring: packet_ring_buffer) -> bool:
    """net/packet/af_packet.c: open the current block; False: the program still owns it."""
    if word_at(ring, ring.block * ring.block_size + BLOCK_STATUS) != TP_STATUS_KERNEL:
        ring.frozen = True
        ring.freezes += 1
        return False
    prb_open_block(sk, ring)
    return True


def prb_retire_rx_blk_timer_expired(timer: timer_list) -> None:
    """net/packet/af_packet.c: pass on a block that is not full."""
    sk: packet_sock = timer.data
    ring = sk.rx_ring
    if ring is not None and not ring.frozen:
        prb_retire_current_block(sk, ring, TP_STATUS_BLK_TMO)
        prb_dispatch_next_block(sk, ring)
