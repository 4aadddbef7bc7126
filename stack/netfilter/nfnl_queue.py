"""net/netfilter/nfnetlink_queue.c: the queues that programs have bound, and the packets in them.

A queue is the listener of its number (stack/core/nf_queue.py). Its messages are built and read in
stack/netlink/nfnetlink_queue.py.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    consume_skb,
    kfree_skb,
    pskb_may_pull,
    pskb_trim,
    sk_buff,
    skb_add_data,
    skb_copy,
    skb_store_bits,
    skb_transport_offset,
)
from stack.core.netdevice import net_device
from stack.core.netfilter import NF_DROP, NF_INET_LOCAL_OUT, NFPROTO_IPV6, nf_hook_state
from stack.core.nf_queue import nf_queue_entry, nf_reinject
from stack.core.uapi import IP_HLEN, IPV6_HLEN
from stack.net import Net

NFQNL_COPY_NONE, NFQNL_COPY_META, NFQNL_COPY_PACKET = 0, 1, 2
NFQNL_MAX_COPY_RANGE = 0xFFFF - 4
NFQNL_QMAX_DEFAULT = 1024
INSTANCE_BUCKETS = 16
U32 = 0xFFFFFFFF


@dataclass(slots=True, eq=False)
class nfqnl_instance:
    """struct nfqnl_instance: a queue that a program has bound."""

    net: Net
    queue_num: int
    peer_portid: int
    queue_maxlen: int = NFQNL_QMAX_DEFAULT
    copy_mode: int = NFQNL_COPY_NONE
    copy_range: int = NFQNL_MAX_COPY_RANGE
    flags: int = 0
    """NFQA_CFG_F_*."""
    queue_dropped: int = 0
    """Packets dropped because the queue was full."""
    queue_user_dropped: int = 0
    """Packets dropped because the program's socket had no room for their messages."""
    id_sequence: int = 0
    queue_list: dict[int, nf_queue_entry] = field(default_factory=dict)
    """Packets without a verdict, by their numbers, the oldest first."""


@dataclass(slots=True, eq=False)
class nfnl_queue_net:
    """struct nfnl_queue_net: the bound queues of a namespace, by number."""

    instances: dict[int, nfqnl_instance] = field(default_factory=dict)


def nfnl_queue_pernet(net: Net) -> nfnl_queue_net:
    """net/netfilter/nfnetlink_queue.c: the queues of a namespace."""
    found: nfnl_queue_net = net.gen["nfnetlink_queue"]
    return found


def instances_listed(net: Net) -> list[nfqnl_instance]:
    """The queues in the order of Linux's hash table: each bucket begins with the newest."""
    newest_first = reversed(nfnl_queue_pernet(net).instances.values())
    return sorted(newest_first, key=lambda one: instance_hashfn(one.queue_num))


def instance_hashfn(queue_num: int) -> int:
    """net/netfilter/nfnetlink_queue.c: the bucket of a queue."""
    return (queue_num >> 8 ^ queue_num) % INSTANCE_BUCKETS


def nfqnl_set_mode(queue: nfqnl_instance, mode: int, copy_range: int) -> None:
    """net/netfilter/nfnetlink_queue.c: what messages have of a packet. Another mode is ignored."""
    if mode in (NFQNL_COPY_NONE, NFQNL_COPY_META):
        queue.copy_mode, queue.copy_range = mode, 0
    elif mode == NFQNL_COPY_PACKET:
        queue.copy_mode = mode
        queue.copy_range = min(copy_range or NFQNL_MAX_COPY_RANGE, NFQNL_MAX_COPY_RANGE)


def nfqnl_flush(queue: nfqnl_instance, ifindex: int = 0) -> None:
    """net/netfilter/nfnetlink_queue.c: drop the packets of a queue, or those of one interface."""
    for number, entry in list(queue.queue_list.items()):
        if not ifindex or dev_cmp(entry, ifindex):
            del queue.queue_list[number]
            nf_reinject(entry, NF_DROP)


def dev_cmp(entry: nf_queue_entry, ifindex: int) -> bool:
    """net/netfilter/nfnetlink_queue.c: whether a packet came by an interface, or leaves by it."""
    devs: tuple[net_device | None, ...] = (entry.state.indev, entry.state.outdev)
    return any(dev is not None and dev.ifindex == ifindex for dev in devs)


def nfqnl_mangle(entry: nf_queue_entry, data: bytes) -> int:
    """net/netfilter/nfnetlink_queue.c: the program's bytes replace the packet. 0, -errno.

    Its checksums are the program's. Linux also continues with bytes that are no packet of the
    family; later functions here rely on what ip_rcv and ipv6_rcv have checked.
    """
    skb = entry.skb
    if len(data) < skb.len and len(data) < skb_transport_offset(skb):
        return -errno.EINVAL
    hlen = header_length(entry.state, data)
    if not hlen:
        return -errno.EINVAL
    if len(data) > skb.len or skb.cloned or skb.nr_frags:
        copied = skb_expanded(entry.state.net, skb, data)
        if copied is None:
            return -errno.ENOMEM
        entry.skb = skb = copied
    pskb_trim(skb, len(data))
    skb_store_bits(skb, 0, data)
    skb.ip_summed = CHECKSUM_NONE
    return 0 if pskb_may_pull(skb, hlen) else -errno.ENOMEM


def header_length(state: nf_hook_state, data: bytes) -> int:
    """Bytes of the IP header with which a packet begins; 0: it is none, or says too many bytes.

    The lengths in packets that leave the host are for their receivers to check.
    """
    if len(data) < IP_HLEN:
        return 0
    if state.pf == NFPROTO_IPV6:
        version, hlen = 6, IPV6_HLEN
        whole = IPV6_HLEN + int.from_bytes(data[4:6], "big")
    else:
        version, hlen = 4, (data[0] & 0xF) * 4
        whole = int.from_bytes(data[2:4], "big")
    if data[0] >> 4 != version or not IP_HLEN <= hlen <= len(data):
        return 0
    return hlen if state.hook >= NF_INET_LOCAL_OUT or hlen <= whole <= len(data) else 0


def skb_expanded(net: Net, skb: sk_buff, data: bytes) -> sk_buff | None:
    """skb_copy_expand: a private copy with room for the data. Takes ownership of skb if made."""
    copied = skb_copy(skb)
    if copied is None:
        return None
    more = len(data) - copied.len
    if more > 0 and skb_add_data(copied, net.skb_pages, data, copied.len, more) != more:
        kfree_skb(copied)
        return None
    consume_skb(skb)
    return copied
