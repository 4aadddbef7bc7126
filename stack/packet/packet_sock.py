"""net/packet/internal.h, uapi/linux/if_packet.h: a packet socket's state, and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpath.base.bpf import bpf_prog
from stack.core.netdevice import net_device, packet_type
from stack.core.rows import FRESH, row, state
from stack.core.sock import sock
from stack.core.timer import timer_list

# options of SOL_PACKET
PACKET_ADD_MEMBERSHIP = 1
PACKET_DROP_MEMBERSHIP = 2
PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_COPY_THRESH = 7
PACKET_AUXDATA = 8
PACKET_TX_TIMESTAMP = 16
PACKET_ORIGDEV = 9
PACKET_VERSION = 10
PACKET_HDRLEN = 11
PACKET_RESERVE = 12
PACKET_TX_RING = 13
PACKET_LOSS = 14
PACKET_TIMESTAMP = 17
PACKET_FANOUT = 18
PACKET_TX_HAS_OFF = 19
PACKET_QDISC_BYPASS = 20
PACKET_ROLLOVER_STATS = 21
PACKET_FANOUT_DATA = 22
PACKET_IGNORE_OUTGOING = 23

# mr_type
PACKET_MR_MULTICAST = 0
PACKET_MR_PROMISC = 1
PACKET_MR_ALLMULTI = 2
PACKET_MR_UNICAST = 3

TPACKET_V1 = 0
TPACKET_V2 = 1
TPACKET_V3 = 2
TPACKET_HDRLEN = {TPACKET_V1: 32, TPACKET_V2: 32, TPACKET_V3: 48}
"""sizeof(struct tpacket_hdr), of tpacket2_hdr and of tpacket3_hdr, by version."""


@state
class packet_mclist:
    """struct packet_mclist: one membership; `count`: how often it was joined."""

    ifindex: int
    type: int
    addr: bytes
    count: int = 1


def no_packet_func(skb: object, dev: object, pt: object, orig_dev: object) -> int:
    """The function of a hook before packet_create sets it."""
    return 0


def new_hook(sk: packet_sock) -> packet_type:
    """The prot_hook of a new socket."""
    return packet_type(0, no_packet_func, None, sk)


@state
class packet_rollover:
    """struct packet_rollover: the socket of the last rollover, and counters."""

    sock: int = row(0)
    num: int = row(0)
    num_huge: int = row(0)
    num_failed: int = row(0)
    history: list[int] = row(make=lambda: [0] * 16)


@state
class packet_fanout:
    """struct packet_fanout: a group of sockets; `arr`: those that receive now."""

    id: int
    type: int
    flags: int
    max_num_members: int
    prot_hook: packet_type = row()
    arr: list[packet_sock] = row(make=list)
    sk_ref: int = row(0)
    rr_cur: int = row(0)
    bpf_prog: bpf_prog | None = row()


@state
class packet_ring_buffer:
    """struct packet_ring_buffer: frames in memory that a program shares.

    TPACKET_V1 and V2 have `frame_nr` slots of `frame_size` bytes, `head` is the next one. V3 has
    `block_nr` blocks of `block_size` bytes, which frames fill consecutively: the fields below
    `pending` are those of struct tpacket_kbdq_core.
    """

    version: int
    block_size: int
    block_nr: int
    frame_size: int
    frame_nr: int
    memory: Any
    """Its pages: an mmap.mmap, or with a second ring a part of one."""
    hdrlen: int
    """Bytes before a frame, without its own header: tp_hdrlen."""
    head: int = row(0)
    pending: int = row(0)
    """Frames of a send ring in transmission."""
    priv: int = row(0)
    """Private bytes of the program after a block's header."""
    tov_ns: int = row(0)
    """Timeout after the first frame, when a block is passed on."""
    features: int = row(0)
    block: int = row(0)
    """The block that is filled; `at` is the next frame in the ring, `last` the one before."""
    at: int = row(0)
    last: int = row(0)
    seq: int = row(1)
    frozen: bool = row(False)
    """The program has not given back the block that is to be filled."""
    freezes: int = row(0)
    timer: timer_list | None = row()


@state
class packet_sock(sock):
    """struct packet_sock. `num`: the protocol in host order; `ifindex` -1: interface removed."""

    prot_hook: packet_type = row(of=new_hook, clone=FRESH)
    num: int = row(0)
    ifindex: int = row(0)
    running: bool = row(False)
    """Whether prot_hook is registered, so that the socket receives."""
    cached_dev: net_device | None = row()
    """The interface for frames that are sent without an address."""
    mclist: list[packet_mclist] = row(make=list, clone=FRESH)
    tp_packets: int = row(0)
    tp_drops: int = row(0)
    fanout: packet_fanout | None = row()
    rollover: packet_rollover | None = row()
    auxdata: bool = row(False)
    origdev: bool = row(False)
    qdisc_bypass: bool = row(False)
    rx_ring: packet_ring_buffer | None = row(clone=FRESH)
    tx_ring: packet_ring_buffer | None = row(clone=FRESH)
    """Where the program puts frames to send (packet_snd.py)."""
    pages_fd: int = row(-1, clone=FRESH)
    """A file of the machine that runs this: the pages of rx_ring, then those of tx_ring."""
    maps: list[Callable[[], bool]] = row(make=list, clone=FRESH)
    """Functions that return whether a mapping of the pages still exists."""
    tp_version: int = row(0)
    tp_reserve: int = row(0)
    tp_loss: bool = row(False)
    tp_tstamp: int = row(0)
    tp_tx_has_off: bool = row(False)
    copy_thresh: int = row(0)
