"""Time stamps of sent packets, SO_TIMESTAMPING (net/core/skbuff.c, include/net/sock.h).

    setsockopt => sock_set_timestamping             what the socket wants: sk_tsflags
    sendmsg -> skb_setup_tx_timestamp, tcp_tx_timestamp     what this packet gets: skb.tx_flags
    dev_queue_xmit -> __skb_tstamp_tx               SCM_TSTAMP_SCHED: it is queued
    ndo_start_xmit -> skb_tx_timestamp              SCM_TSTAMP_SND: the driver has it
    tcp_clean_rtx_queue -> tcp_ack_tstamp           SCM_TSTAMP_ACK: the peer has it
    recvmsg(MSG_ERRQUEUE) -> sock_recv_errqueue     the application reads the stamps

No device here makes hardware stamps. A stamp is a copy of the packet on the error queue, or with
SOF_TIMESTAMPING_OPT_TSONLY an empty one.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import alloc_skb, kfree_skb, sk_buff, skb_clone, skb_put_data
from fastpath.net.zerocopy import skb_orphan_frags
from stack.core import uapi
from stack.core.errqueue import sock_exterr_skb
from stack.core.netstamp import net_timestamp_check
from stack.core.sock import ns_capable, sk_is_tcp, sock, sock_queue_err_skb
from stack.core.sockopt import sockcm_cookie

SKBTX_HW_TSTAMP = 1 << 0
SKBTX_SW_TSTAMP = 1 << 1
SKBTX_COMPLETION_TSTAMP = 1 << 3
SKBTX_SCHED_TSTAMP = 1 << 6
M32 = 0xFFFFFFFF

TX_FLAGS = (
    (uapi.SOF_TIMESTAMPING_TX_HARDWARE, SKBTX_HW_TSTAMP),
    (uapi.SOF_TIMESTAMPING_TX_SOFTWARE, SKBTX_SW_TSTAMP),
    (uapi.SOF_TIMESTAMPING_TX_SCHED, SKBTX_SCHED_TSTAMP),
    (uapi.SOF_TIMESTAMPING_TX_COMPLETION, SKBTX_COMPLETION_TSTAMP),
)


# --- sending --------------------------------------------------------------------------------


def sock_tx_flags(tsflags: int) -> int:
    """include/net/sock.h (__sock_tx_timestamp): the SKBTX_* of these SOF_TIMESTAMPING_TX_*."""
    flags = 0
    for asked, bit in TX_FLAGS:
        if tsflags & asked:
            flags |= bit
    return flags


def sock_tx_key(sk: sock, sockc: sockcm_cookie) -> int:
    """SOF_TIMESTAMPING_OPT_ID: the packet's number, the next one or SCM_TS_OPT_ID; else 0."""
    if not sockc.tsflags & uapi.SOF_TIMESTAMPING_OPT_ID:
        return 0
    if sockc.ts_opt_id >= 0:
        return sockc.ts_opt_id
    key = sk.sk_tskey
    sk.sk_tskey = (key + 1) & M32
    return key


def skb_setup_tx_timestamp(skb: sk_buff, sk: sock, sockc: sockcm_cookie) -> None:
    """include/net/sock.h: what the sender of this packet asked for: stamps, and when to leave."""
    tsflags = sockc.tsflags
    if tsflags & uapi.SOF_TIMESTAMPING_TX_RECORD_MASK:
        skb.tx_flags = sock_tx_flags(tsflags)
        skb.tskey = sock_tx_key(sk, sockc)
    skb.tx_tstamp_ns = sockc.transmit_time


def skb_setup_datagram(skb: sk_buff, sk: sock, sockc: sockcm_cookie) -> None:
    """net/ipv{4,6}/ip{,6}_output.c: the same for a datagram; acknowledgements count for nothing."""
    skb.tx_flags = sock_tx_flags(sockc.tsflags)
    if skb.tx_flags:
        skb.tskey = sock_tx_key(sk, sockc)
    skb.tx_tstamp_ns = sockc.transmit_time


def skb_tx_timestamp(skb: sk_buff) -> None:
    """include/linux/skbuff.h: a driver takes the packet: SCM_TSTAMP_SND, if it is wanted.

    Call when `skb.tx_flags` is not 0.
    """
    if skb.tx_flags & SKBTX_SW_TSTAMP:
        __skb_tstamp_tx(skb, None, skb.sk, uapi.SCM_TSTAMP_SND)


def skb_sched_timestamp(skb: sk_buff) -> None:
    """net/core/dev.c (__dev_queue_xmit): SCM_TSTAMP_SCHED. Call when `skb.tx_flags` is not 0."""
    if skb.tx_flags & SKBTX_SCHED_TSTAMP:
        __skb_tstamp_tx(skb, None, skb.sk, uapi.SCM_TSTAMP_SCHED)


def __skb_tstamp_tx(
    orig_skb: sk_buff, ack_skb: sk_buff | None, sk: sock | None, tstype: int
) -> None:
    """net/core/skbuff.c: put a time stamp of `orig_skb` (borrowed) on its sender's error queue.

    `ack_skb`: the segment that acknowledged it, for SCM_TSTAMP_ACK. Nothing without memory.
    """
    if sk is None or sk.sk_freed:
        return
    net = sk.net
    tsflags = sk.sk_tsflags
    tsonly = tsflags & uapi.SOF_TIMESTAMPING_OPT_TSONLY
    if not (tsonly or net.sysctl.tstamp_allow_data or ns_capable(net, uapi.CAP_NET_RAW)):
        return
    skb: sk_buff | None = None
    stats = b""
    if tsonly:
        if tsflags & uapi.SOF_TIMESTAMPING_OPT_STATS and sk.sk_prot.opt_stats is not None:
            stats = sk.sk_prot.opt_stats(sk, orig_skb, ack_skb)
        small = net.skb_small_head
        if len(stats) <= small.buf_bytes:
            skb = alloc_skb(small, len(stats), 0)
        if skb is None:
            skb = alloc_skb(net.skb_small, len(stats), 0)
        if skb is None:
            return
        if stats:
            skb_put_data(skb, stats)
    else:
        skb = skb_clone(orig_skb)
        if not skb_orphan_frags(skb, net.skb_pages):
            kfree_skb(skb)
            return
        skb.skb_iif = 0 if skb.dev is None else skb.dev.ifindex
        skb.dev = None
        skb.dst = None
    skb.tstamp_ns = 0
    net_timestamp_check(skb, net.machine)
    number = 0
    if tsflags & uapi.SOF_TIMESTAMPING_OPT_ID:
        number = orig_skb.tskey
        if sk_is_tcp(sk):
            number = (number - sk.sk_tskey) & M32
    skb.cb = sock_exterr_skb(
        errno.ENOMSG, uapi.SO_EE_ORIGIN_TIMESTAMPING, 0, 0, tstype, None, None, number, bool(stats)
    )
    if sock_queue_err_skb(sk, skb):
        kfree_skb(skb)
