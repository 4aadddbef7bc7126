"""net/netfilter/nfnetlink_queue.c: queued packets go to the program that bound their queue.

    nfqnl_recv_config       a program binds a queue, sets what is copied, length and flags
    nfqnl_enqueue_packet    a hook queues a packet; a super-packet in segments
        __nfqnl_enqueue_packet      its message is sent, and it waits
            nfqnl_build_packet_message
    nfqnl_recv_verdict      the verdict about a packet, perhaps with other bytes and another mark
    nfqnl_recv_verdict_batch        about all up to a number
        nf_reinject         stack/core/nf_queue.py
    nfqnl_rcv_nl_event, nfqnl_rcv_dev_event, nfqnl_nf_hook_drop     packets that are dropped

A message behind struct nfgenmsg, whose res_id is the queue, has only attributes (NFQA_*). The
packet is the last one and not padded. State: stack/netfilter/nfnl_queue.py.

There is no glue to connection tracking. As on a kernel without NETFILTER_NETLINK_GLUE_CT the flag
NFQA_CFG_F_CONNTRACK is refused (EOPNOTSUPP), and NFQA_CT and NFQA_EXP of a verdict do nothing.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    consume_skb,
    kfree_skb_list,
    sk_buff,
    skb_checksum_help,
    skb_copy_bits,
    skb_csum_unnecessary,
)
from fastpath.net.gso import skb_gso_segment
from fastpath.net.zerocopy import skb_orphan_frags
from stack.core.dev_xmit import gso_owners, skb_gso_set_owner
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6, NETDEV_DOWN, net_device
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_POST_ROUTING,
    NF_MAX_VERDICT,
    NF_STOLEN,
    NF_VERDICT_MASK,
    NFPROTO_IPV4,
)
from stack.core.nf_queue import (
    nf_queue_entry,
    nf_queue_entry_dup,
    nf_register_queue_handler,
    nf_reinject,
    nf_unregister_queue_handler,
)
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_NETLINK
from stack.net import Net
from stack.netfilter.nf_conntrack import IPS_CONFIRMED, IPS_DYING, nf_conn
from stack.netfilter.nfnl_queue import (
    NFQNL_COPY_NONE,
    NFQNL_COPY_PACKET,
    NFQNL_MAX_COPY_RANGE,
    U32,
    nfnl_queue_net,
    nfnl_queue_pernet,
    nfqnl_flush,
    nfqnl_instance,
    nfqnl_mangle,
    nfqnl_set_mode,
)
from stack.netlink.af_netlink import hears, netlink_attachskb, netlink_overrun
from stack.netlink.ct_attrs import NFGENMSG
from stack.netlink.netlink_sock import NETLINK_NETFILTER, NLMSG_HDRLEN, NLMSGHDR, nlmsg
from stack.netlink.nfnl_packet import (
    has_link_header,
    packet_has_owner,
    packet_hw,
    packet_timestamp,
)
from stack.netlink.nlattr import (
    BE32,
    BINARY,
    NESTED,
    NLA_HDR,
    UNSPEC,
    Attr,
    Attrs,
    AttrTable,
    NlError,
)

NFNL_SUBSYS_QUEUE = 3
NFQNL_MSG_PACKET, NFQNL_MSG_VERDICT, NFQNL_MSG_CONFIG, NFQNL_MSG_VERDICT_BATCH = range(4)
NFQNL_CFG_CMD_BIND, NFQNL_CFG_CMD_UNBIND = 1, 2
NFQNL_CFG_CMD_PF_BIND, NFQNL_CFG_CMD_PF_UNBIND = 3, 4
NFQA_CFG_F_FAIL_OPEN, NFQA_CFG_F_CONNTRACK, NFQA_CFG_F_GSO, NFQA_CFG_F_UID_GID = 1, 2, 4, 8
NFQA_CFG_F_MAX = 32
NFQA_PAYLOAD = 10
NFQA_SKB_CSUMNOTREADY, NFQA_SKB_GSO, NFQA_SKB_CSUM_NOTVERIFIED = 1, 2, 4
NFQA_MAX = 22
ENOTSUPP = 524

NFQA_CFG = AttrTable(
    "NFQA_CFG",
    Attr("NFQA_CFG_CMD", 1, UNSPEC, 4),
    Attr("NFQA_CFG_PARAMS", 2, UNSPEC, 5),
    Attr("NFQA_CFG_QUEUE_MAXLEN", 3, BE32),
    Attr("NFQA_CFG_MASK", 4, BE32),
    Attr("NFQA_CFG_FLAGS", 5, BE32),
)
NFQA_VERDICT = AttrTable(
    "NFQA_VERDICT",
    Attr("NFQA_VERDICT_HDR", 2, UNSPEC, 8),
    Attr("NFQA_MARK", 3, BE32),
    Attr("NFQA_PAYLOAD", NFQA_PAYLOAD, UNSPEC),
    Attr("NFQA_VLAN", 19, NESTED),
    Attr("NFQA_PRIORITY", 21, BE32),
    last=NFQA_MAX,
)
NFQA_VERDICT_BATCH = AttrTable(
    "NFQA_VERDICT_BATCH",
    Attr("NFQA_VERDICT_HDR", 2, UNSPEC, 8),
    Attr("NFQA_MARK", 3, BE32),
    Attr("NFQA_PRIORITY", 21, BE32),
    last=NFQA_MAX,
)
NFQA = AttrTable(
    "NFQA",
    Attr("NFQA_PACKET_HDR", 1, BINARY),
    Attr("NFQA_MARK", 3, BE32),
    Attr("NFQA_TIMESTAMP", 4, BINARY),
    Attr("NFQA_IFINDEX_INDEV", 5, BE32),
    Attr("NFQA_IFINDEX_OUTDEV", 6, BE32),
    Attr("NFQA_HWADDR", 9, BINARY),
    Attr("NFQA_CAP_LEN", 13, BE32),
    Attr("NFQA_SKB_INFO", 14, BE32),
    Attr("NFQA_UID", 16, BE32),
    Attr("NFQA_GID", 17, BE32),
    Attr("NFQA_PRIORITY", 21, BE32),
)


# --- what programs ask --------------------------------------------------------------------------


def nfqnl_recv_unsupp(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nfnetlink_queue.c: programs cannot send packets. Raises: NlError ENOTSUPP."""
    raise NlError(ENOTSUPP)


def nfqnl_recv_config(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nfnetlink_queue.c: NFQNL_MSG_CONFIG: bind a queue, or change its parameters.

    Raises: NlError EINVAL, EOPNOTSUPP, EPERM: it is another program's; EBUSY, ENODEV.
    """
    net, queue_num = nlh.sk.net, NFGENMSG.unpack_from(nlh.payload)[2]
    instances = nfnl_queue_pernet(net).instances
    command: int | None = tb["NFQA_CFG_CMD"][0] if "NFQA_CFG_CMD" in tb else None
    if command in (NFQNL_CFG_CMD_PF_BIND, NFQNL_CFG_CMD_PF_UNBIND):
        return  # obsolete
    if "NFQA_CFG_FLAGS" in tb:
        check_flags(tb)
    queue = instances.get(queue_num)
    if queue is not None and queue.peer_portid != nlh.sk.portid:
        raise NlError(errno.EPERM)
    if command == NFQNL_CFG_CMD_BIND:
        if queue_num in net.nf_queue.handlers:
            raise NlError(errno.EBUSY)
        queue = instances[queue_num] = nfqnl_instance(net, queue_num, nlh.sk.portid)
        nf_register_queue_handler(net, queue_num, partial(nfqnl_enqueue_packet, queue))
    elif command is not None and command != NFQNL_CFG_CMD_UNBIND:
        raise NlError(errno.EOPNOTSUPP)
    if queue is None:
        raise NlError(errno.ENODEV)
    if command == NFQNL_CFG_CMD_UNBIND:
        instance_destroy(queue)
        return
    if "NFQA_CFG_PARAMS" in tb:
        params: bytes = tb["NFQA_CFG_PARAMS"]
        nfqnl_set_mode(queue, params[4], int.from_bytes(params[:4], "big"))
    queue.queue_maxlen = tb.get("NFQA_CFG_QUEUE_MAXLEN", queue.queue_maxlen)
    if "NFQA_CFG_FLAGS" in tb:
        mask: int = tb["NFQA_CFG_MASK"]
        queue.flags = queue.flags & ~mask | tb["NFQA_CFG_FLAGS"] & mask


def check_flags(tb: Attrs) -> None:
    """The flags that a program sets, and the mask of those that change. NFQA_CFG_F_SECCTX has no
    effect: packets have no security mark. Raises: NlError EINVAL, EOPNOTSUPP.
    """
    if "NFQA_CFG_MASK" not in tb:
        raise NlError(errno.EINVAL)
    flags: int = tb["NFQA_CFG_FLAGS"]
    if flags >= NFQA_CFG_F_MAX or flags & tb["NFQA_CFG_MASK"] & NFQA_CFG_F_CONNTRACK:
        raise NlError(errno.EOPNOTSUPP)


def verdict_instance_lookup(nlh: nlmsg) -> nfqnl_instance:
    """net/netfilter/nfnetlink_queue.c: the program's queue. Raises: NlError ENODEV, EPERM."""
    queue_num = NFGENMSG.unpack_from(nlh.payload)[2]
    queue = nfnl_queue_pernet(nlh.sk.net).instances.get(queue_num)
    if queue is None:
        raise NlError(errno.ENODEV)
    if queue.peer_portid != nlh.sk.portid:
        raise NlError(errno.EPERM)
    return queue


def verdicthdr_get(tb: Attrs) -> tuple[int, int]:
    """net/netfilter/nfnetlink_queue.c: verdict, and number of the packet. Raises: NlError
    EINVAL.
    """
    if "NFQA_VERDICT_HDR" not in tb:
        raise NlError(errno.EINVAL)
    header: bytes = tb["NFQA_VERDICT_HDR"]
    verdict = int.from_bytes(header[:4], "big")
    if verdict & NF_VERDICT_MASK > NF_MAX_VERDICT or verdict & NF_VERDICT_MASK == NF_STOLEN:
        raise NlError(errno.EINVAL)
    return verdict, int.from_bytes(header[4:8], "big")


def nfqnl_recv_verdict(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nfnetlink_queue.c: NFQNL_MSG_VERDICT. Raises: NlError ENODEV, EPERM, EINVAL,
    ENOENT: no such packet waits.
    """
    queue = verdict_instance_lookup(nlh)
    verdict, number = verdicthdr_get(tb)
    entry = queue.queue_list.pop(number, None)
    if entry is None:
        raise NlError(errno.ENOENT)
    if "NFQA_PAYLOAD" in tb and nfqnl_mangle(entry, tb["NFQA_PAYLOAD"]) < 0:
        verdict = NF_DROP
    nfqnl_reinject(entry, tb, verdict)


def nfqnl_recv_verdict_batch(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nfnetlink_queue.c: NFQNL_MSG_VERDICT_BATCH: a verdict about all packets up to
    a number. Raises: NlError ENODEV, EPERM, EINVAL, ENOENT: no such packet waits.
    """
    queue = verdict_instance_lookup(nlh)
    verdict, most = verdicthdr_get(tb)
    batch = []
    for number, entry in queue.queue_list.items():
        if 0 < (number - most & U32) <= U32 >> 1:  # nfq_id_after
            break
        batch.append((number, entry))
    if not batch:
        raise NlError(errno.ENOENT)
    for number, _ in batch:
        del queue.queue_list[number]
    for _, entry in batch:
        nfqnl_reinject(entry, tb, verdict)


def nfqnl_reinject(entry: nf_queue_entry, tb: Attrs, verdict: int) -> None:
    """net/netfilter/nfnetlink_queue.c: set mark and priority, then continue as the verdict says."""
    entry.skb.mark = tb.get("NFQA_MARK", entry.skb.mark)
    entry.skb.priority = tb.get("NFQA_PRIORITY", entry.skb.priority)
    nf_reinject(entry, verdict)


# --- packets --------------------------------------------------------------------------------------


def nfqnl_enqueue_packet(queue: nfqnl_instance, entry: nf_queue_entry) -> int:
    """net/netfilter/nfnetlink_queue.c: queue a packet; a super-packet in segments, unless the
    program wants it whole and it fits into one message. 0, -errno: the caller drops it.
    """
    if queue.copy_mode == NFQNL_COPY_NONE:
        return -errno.EINVAL
    skb = entry.skb
    skb.protocol = ETH_P_IP if entry.state.pf == NFPROTO_IPV4 else ETH_P_IPV6
    fits = queue.flags & NFQA_CFG_F_GSO and skb.len <= NFQNL_MAX_COPY_RANGE
    if not skb.gso_size or fits:
        return __nfqnl_enqueue_packet(queue, entry)
    segs = split(queue.net, skb)
    queued = 0
    for seg in segs:
        if __nfqnl_enqueue_packet(queue, nf_queue_entry_dup(entry, seg)):
            break
        queued += 1
    kfree_skb_list(segs[queued:])
    if not queued:
        return -errno.ENOBUFS
    consume_skb(skb)
    return 0


def split(net: Net, skb: sk_buff) -> list[sk_buff]:
    """The segments of a super-packet, with checksums; none without memory for them."""
    if skb.data_len and not skb_orphan_frags(skb, net.skb_pages):
        return []
    try:
        segs = skb_gso_segment(skb, net.skb_small)
    except (ValueError, MemoryError):
        return []
    if skb.destructor in gso_owners:
        skb_gso_set_owner(skb, segs)
    return segs


def __nfqnl_enqueue_packet(queue: nfqnl_instance, entry: nf_queue_entry) -> int:
    """net/netfilter/nfnetlink_queue.c: send the message of a packet, which then waits. 0, or a
    negative errno: the caller drops it.
    """
    if nf_ct_drop_unconfirmed(entry):
        return -errno.ENOBUFS
    fail_open = queue.flags & NFQA_CFG_F_FAIL_OPEN
    if len(queue.queue_list) >= queue.queue_maxlen:
        if fail_open:
            nf_reinject(entry, NF_ACCEPT)
            return 0
        queue.queue_dropped += 1
        return -errno.ENOBUFS
    number = queue.id_sequence + 1 & U32
    message = nfqnl_build_packet_message(queue, entry, number)
    if not message:
        return -errno.ENOMEM
    queue.id_sequence = number
    err = nfnetlink_unicast(queue.net, message, queue.peer_portid)
    if err:
        if fail_open:
            nf_reinject(entry, NF_ACCEPT)
            return 0
        queue.queue_user_dropped += 1
        return err
    queue.queue_list[number] = entry
    return 0


def nf_ct_drop_unconfirmed(entry: nf_queue_entry) -> bool:
    """net/netfilter/nfnetlink_queue.c: whether a packet's new connection was deleted meanwhile."""
    ct: nf_conn | None = entry.skb.nfct
    return ct is not None and ct.status & (IPS_CONFIRMED | IPS_DYING) == IPS_DYING


def nfnetlink_unicast(net: Net, message: bytes, portid: int) -> int:
    """net/netfilter/nfnetlink.c: send to a program; it is told of a message without room. 0,
    -errno.
    """
    peer = net.nl_table.protocols[NETLINK_NETFILTER].by_portid.get(portid)
    if peer is None or not hears(peer, 0):
        return -errno.ECONNREFUSED
    err = netlink_attachskb(peer, message, sockaddr(AF_NETLINK, 0))
    if err:
        netlink_overrun(peer)
    return err


def nfqnl_build_packet_message(queue: nfqnl_instance, entry: nf_queue_entry, number: int) -> bytes:
    """net/netfilter/nfnetlink_queue.c: a packet's message; empty: its checksum cannot be made."""
    skb, state = entry.skb, entry.state
    received = state.hook <= NF_INET_FORWARD
    verify = received or (state.hook == NF_INET_POST_ROUTING and skb.sk is None)
    info = NFQA_SKB_CSUM_NOTVERIFIED if verify and not skb_csum_unnecessary(skb) else 0
    copied = b""
    if queue.copy_mode == NFQNL_COPY_PACKET:
        if not queue.flags & NFQA_CFG_F_GSO and not skb_checksum_help(skb):
            return b""
        copied = skb_copy_bits(skb, 0, min(queue.copy_range, skb.len))
    if skb.ip_summed == CHECKSUM_PARTIAL:
        info = NFQA_SKB_CSUMNOTREADY
    if skb.gso_size:
        info |= NFQA_SKB_GSO
    head = number.to_bytes(4, "big") + skb.protocol.to_bytes(2, "big") + bytes((state.hook,))
    told: dict[str, Any] = {
        "NFQA_PACKET_HDR": head,
        "NFQA_IFINDEX_INDEV": None if state.indev is None else state.indev.ifindex,
        "NFQA_IFINDEX_OUTDEV": None if state.outdev is None else state.outdev.ifindex,
        "NFQA_MARK": skb.mark or None,
        "NFQA_PRIORITY": skb.priority or None,
        "NFQA_HWADDR": packet_hw(skb) if has_link_header(skb, state) else None,
        "NFQA_TIMESTAMP": packet_timestamp(skb, state),
    }
    if queue.flags & NFQA_CFG_F_UID_GID and packet_has_owner(skb, state):
        told |= {"NFQA_UID": state.net.uid, "NFQA_GID": state.net.gid}
    told["NFQA_CAP_LEN"] = skb.len if copied and len(copied) < skb.len else None
    told["NFQA_SKB_INFO"] = info or None
    body = NFGENMSG.pack(state.pf, 0, queue.queue_num) + NFQA.build(told)
    if copied:
        body += NLA_HDR.pack(NLA_HDR.size + len(copied), NFQA_PAYLOAD) + copied
    kind = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET
    return NLMSGHDR.pack(NLMSG_HDRLEN + len(body), kind, 0, 0, 0) + body


# --- packets that are dropped ---------------------------------------------------------------------


def instance_destroy(queue: nfqnl_instance) -> None:
    """net/netfilter/nfnetlink_queue.c: unbind a queue; drop its packets."""
    del nfnl_queue_pernet(queue.net).instances[queue.queue_num]
    nf_unregister_queue_handler(queue.net, queue.queue_num)
    nfqnl_flush(queue)


def nfqnl_rcv_nl_event(net: Net, portid: int) -> None:
    """net/netfilter/nfnetlink_queue.c: a socket was closed: unbind its queues."""
    for queue in list(nfnl_queue_pernet(net).instances.values()):
        if queue.peer_portid == portid:
            instance_destroy(queue)


def nfqnl_rcv_dev_event(event: int, dev: net_device) -> None:
    """net/netfilter/nfnetlink_queue.c: an interface went down: drop its packets."""
    if event == NETDEV_DOWN:
        for queue in list(nfnl_queue_pernet(dev.net).instances.values()):
            nfqnl_flush(queue, dev.ifindex)


def nfqnl_nf_hook_drop(net: Net) -> None:
    """net/netfilter/nfnetlink_queue.c: a hook was removed: drop the packets of all queues."""
    for queue in list(nfnl_queue_pernet(net).instances.values()):
        nfqnl_flush(queue)


def nfnl_queue_net_init(net: Net) -> None:
    """net/netfilter/nfnetlink_queue.c: no queue is bound."""
    net.gen["nfnetlink_queue"] = nfnl_queue_net()
    net.nf_queue.nf_hook_drop = partial(nfqnl_nf_hook_drop, net)
    net.netdev_chain.append(nfqnl_rcv_dev_event)
