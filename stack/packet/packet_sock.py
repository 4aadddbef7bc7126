"""net/packet/internal.h, uapi/linux/if_packet.h: a packet socket's state, and its numbers."""

from __future__ import annotations

from fastpath.base.bpf import bpf_prog
from stack.core.netdevice import net_device, packet_type
from stack.core.rows import FRESH, row, state
from stack.core.sock import sock

# options of SOL_PACKET
PACKET_ADD_MEMBERSHIP = 1
PACKET_DROP_MEMBERSHIP = 2
PACKET_STATISTICS = 6
PACKET_COPY_THRESH = 7
PACKET_AUXDATA = 8
PACKET_TX_TIMESTAMP = 16
PACKET_ORIGDEV = 9
PACKET_VERSION = 10
PACKET_HDRLEN = 11
PACKET_RESERVE = 12
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


TPACKET_HDRLEN = {0: 32, 1: 32, 2: 48}
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
    """struct packet_rollover: the socket that got the last frame for lack of room, and counters."""

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
    # Options of rings, which are not supported: programs can set and read them.
    tp_version: int = row(0)
    tp_reserve: int = row(0)
    tp_loss: bool = row(False)
    tp_tstamp: int = row(0)
    tp_tx_has_off: bool = row(False)
    copy_thresh: int = row(0)
