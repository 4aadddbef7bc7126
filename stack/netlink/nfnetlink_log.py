"""net/netfilter/nfnetlink_log.c: send logged packets to the program that bound a group.

    nfulnl_recv_config      a program binds a group, sets the copied length, and when to flush
    nfulnl_log_packet       nf_log_packet: a rule logs a packet
        packet_attributes   the attributes of one message, which is queued
        __nfulnl_flush      limit reached, no room, or timer expired: send them

A message behind struct nfgenmsg, whose res_id is the group, has only attributes (NFULA_*). If a
buffer has several messages NLMSG_DONE is the last. State: stack/netfilter/nf_log.py.

There is no glue to connection tracking. As on a kernel without NETFILTER_NETLINK_GLUE_CT the flag
NFULNL_CFG_F_CONNTRACK is refused (EOPNOTSUPP).
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from fastpath.base.skbuff import skb_copy_bits, skb_mac_offset
from stack.core.sockaddr import sockaddr
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.core.uapi import AF_NETLINK
from stack.net import Net
from stack.netfilter.nf_log import (
    NFULNL_COPY_PACKET,
    NFULNL_COPY_RANGE_MAX,
    NFULNL_NLBUFSIZ_DEFAULT,
    SKB_OVERHEAD,
    nf_loginfo,
    nfnl_log_net,
    nfnl_log_pernet,
    nfulnl_instance,
)
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_payload import packet_bytes
from stack.netlink.af_netlink import netlink_attachskb, netlink_overrun, nlmsg_put
from stack.netlink.ct_attrs import NFGENMSG
from stack.netlink.netlink_sock import NETLINK_NETFILTER, NLMSG_DONE, nlmsg
from stack.netlink.nfnl_packet import (
    has_link_header,
    packet_has_owner,
    packet_hw,
    packet_timestamp,
)
from stack.netlink.nlattr import BE16, BE32, BINARY, STRING, UNSPEC, Attr, Attrs, AttrTable, NlError

NFNL_SUBSYS_ULOG = 4
NFULNL_MSG_PACKET, NFULNL_MSG_CONFIG = 0, 1
NFULNL_CFG_CMD_BIND, NFULNL_CFG_CMD_UNBIND = 1, 2
NFULNL_CFG_CMD_PF_BIND, NFULNL_CFG_CMD_PF_UNBIND = 3, 4
NFULNL_COPY_META = 1
NFULNL_CFG_F_SEQ, NFULNL_CFG_F_SEQ_GLOBAL, NFULNL_CFG_F_CONNTRACK = 1, 2, 4
NFULNL_NLBUFSIZ_MAX = 131072
CACHE_BYTES = 64
META_BYTES = 20 + 8 + 4 * 8 + 3 * 8 + 16 + 20 + 20
"""Room that a packet needs at most beside prefix, payload and link-layer header. The parts are the
message's header, packet_hdr, four interfaces (a bridge's too), mark, uid, gid, packet_hw, the time
and NLMSG_DONE."""
HARDWARE_BYTES = 8 + 8
"""NFULA_HWTYPE and NFULA_HWLEN."""
ENOTSUPP = 524
NFPROTO_NUMPROTO = 11

NFULA_CFG = AttrTable(
    "NFULA_CFG",
    Attr("NFULA_CFG_CMD", 1, UNSPEC, 1),
    Attr("NFULA_CFG_MODE", 2, UNSPEC, 6),
    Attr("NFULA_CFG_NLBUFSIZ", 3, BE32),
    Attr("NFULA_CFG_TIMEOUT", 4, BE32),
    Attr("NFULA_CFG_QTHRESH", 5, BE32),
    Attr("NFULA_CFG_FLAGS", 6, BE16),
)
NFULA = AttrTable(
    "NFULA",
    Attr("NFULA_PACKET_HDR", 1, BINARY),
    Attr("NFULA_MARK", 2, BE32),
    Attr("NFULA_TIMESTAMP", 3, BINARY),
    Attr("NFULA_IFINDEX_INDEV", 4, BE32),
    Attr("NFULA_IFINDEX_OUTDEV", 5, BE32),
    Attr("NFULA_HWADDR", 8, BINARY),
    Attr("NFULA_PAYLOAD", 9, BINARY),
    Attr("NFULA_PREFIX", 10, STRING),
    Attr("NFULA_UID", 11, BE32),
    Attr("NFULA_SEQ", 12, BE32),
    Attr("NFULA_SEQ_GLOBAL", 13, BE32),
    Attr("NFULA_GID", 14, BE32),
    Attr("NFULA_HWTYPE", 15, BE16),
    Attr("NFULA_HWHEADER", 16, BINARY),
    Attr("NFULA_HWLEN", 17, BE16),
)


# --- what programs ask --------------------------------------------------------------------------


def nfulnl_recv_unsupp(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nfnetlink_log.c: programs cannot send packets. Raises: NlError ENOTSUPP."""
    raise NlError(ENOTSUPP)


def nfulnl_recv_config(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nfnetlink_log.c: NFULNL_MSG_CONFIG: bind a group, or change its parameters.

    Raises: NlError EINVAL, EPERM: it is another program's; EBUSY, ENODEV, EOPNOTSUPP, ENOTSUPP.
    """
    pf, _, group = NFGENMSG.unpack_from(nlh.payload)
    log = nfnl_log_pernet(nlh.sk.net)
    command: int | None = tb["NFULA_CFG_CMD"][0] if "NFULA_CFG_CMD" in tb else None
    if command == NFULNL_CFG_CMD_PF_BIND and pf >= NFPROTO_NUMPROTO:
        raise NlError(errno.EINVAL)
    if command in (NFULNL_CFG_CMD_PF_BIND, NFULNL_CFG_CMD_PF_UNBIND):
        return  # the logger without a group: nothing uses it
    inst = log.instances.get(group)
    if inst is not None and inst.peer_portid != nlh.sk.portid:
        raise NlError(errno.EPERM)
    if tb.get("NFULA_CFG_FLAGS", 0) & NFULNL_CFG_F_CONNTRACK:
        raise NlError(errno.EOPNOTSUPP)
    if command == NFULNL_CFG_CMD_BIND:
        if inst is not None:
            raise NlError(errno.EBUSY)
        inst = log.instances[group] = nfulnl_instance(group, nlh.sk.portid)
    elif command is not None and command != NFULNL_CFG_CMD_UNBIND:
        raise NlError(ENOTSUPP)
    elif inst is None:
        raise NlError(errno.ENODEV)
    elif command == NFULNL_CFG_CMD_UNBIND:
        instance_destroy(log, inst)
        return
    configure(inst, tb)


def configure(inst: nfulnl_instance, tb: Attrs) -> None:
    """nfulnl_set_mode and its siblings. An invalid value is ignored."""
    if "NFULA_CFG_MODE" in tb:
        mode: bytes = tb["NFULA_CFG_MODE"]
        copy_range, copy_mode = int.from_bytes(mode[:4], "big"), mode[4]
        if copy_mode == NFULNL_COPY_PACKET:
            inst.copy_range = min(copy_range or NFULNL_COPY_RANGE_MAX, NFULNL_COPY_RANGE_MAX)
        elif copy_mode <= NFULNL_COPY_META:
            inst.copy_range = 0
        if copy_mode <= NFULNL_COPY_PACKET:
            inst.copy_mode = copy_mode
    if NFULNL_NLBUFSIZ_DEFAULT <= tb.get("NFULA_CFG_NLBUFSIZ", 0) <= NFULNL_NLBUFSIZ_MAX:
        inst.nlbufsiz = tb["NFULA_CFG_NLBUFSIZ"]
    inst.flushtimeout = tb.get("NFULA_CFG_TIMEOUT", inst.flushtimeout)
    inst.qthreshold = tb.get("NFULA_CFG_QTHRESH", inst.qthreshold)
    inst.flags = tb.get("NFULA_CFG_FLAGS", inst.flags)


def instance_destroy(log: nfnl_log_net, inst: nfulnl_instance) -> None:
    """net/netfilter/nfnetlink_log.c: unbind a group; send pending messages."""
    del log.instances[inst.group_num]
    if inst.skb is not None:
        __nfulnl_flush(log, inst)


def nfulnl_rcv_nl_event(net: Net, portid: int) -> None:
    """net/netfilter/nfnetlink_log.c: a socket was closed: unbind its groups."""
    log = nfnl_log_pernet(net)
    for inst in list(log.instances.values()):
        if inst.peer_portid == portid:
            instance_destroy(log, inst)


# --- packets --------------------------------------------------------------------------------------


def nfulnl_log_packet(inst: nfulnl_instance, pkt: nft_pktinfo, li: nf_loginfo) -> None:
    """net/netfilter/nfnetlink_log.c: a rule logs a packet to a group that has a listener."""
    log = nfnl_log_pernet(pkt.state.net)
    skb = pkt.skb
    told = packet_attributes(pkt, li)
    data_len = 0
    if inst.copy_mode == NFULNL_COPY_PACKET:
        data_len = min(inst.copy_range, skb.len)
        if li.copy_len is not None:
            data_len = min(data_len, li.copy_len)
    size = packet_size(inst, pkt, li, data_len)
    if inst.skb is not None and size > inst.room - len(inst.skb):
        __nfulnl_flush(log, inst)
    if inst.skb is None:
        inst.skb, inst.room = bytearray(), alloc_room(max(inst.nlbufsiz, size))
    if inst.flags & NFULNL_CFG_F_SEQ:
        told["NFULA_SEQ"] = inst.seq
        inst.seq = inst.seq + 1 & 0xFFFFFFFF
    if inst.flags & NFULNL_CFG_F_SEQ_GLOBAL:
        log.global_seq = log.global_seq + 1 & 0xFFFFFFFF
        told["NFULA_SEQ_GLOBAL"] = log.global_seq
    told["NFULA_PAYLOAD"] = skb_copy_bits(skb, 0, data_len) if data_len else None
    payload = NFGENMSG.pack(pkt.pf, 0, inst.group_num) + NFULA.build(told)
    inst.skb += nlmsg_put(NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET, 0, 0, 0, payload)
    inst.qlen += 1
    qthreshold = min(inst.qthreshold, li.qthreshold or inst.qthreshold)
    if inst.qlen >= qthreshold:
        __nfulnl_flush(log, inst)
    elif inst.timer is None or not inst.timer.pending:
        if inst.timer is None:
            inst.timer = timer_list(log.net.machine, partial(nfulnl_timer, log, inst))
        now = log.net.clock.now_ns()
        mod_timer(inst.timer, now + inst.flushtimeout * (NSEC_PER_SEC // 100))


def packet_size(inst: nfulnl_instance, pkt: nft_pktinfo, li: nf_loginfo, data_len: int) -> int:
    """The size of a message, as nfulnl_log_packet computes it."""
    size = META_BYTES + nla_total_size(len(li.prefix.encode()) + 1)
    if has_link_header(pkt.skb, pkt.state):
        size += nla_total_size(pkt.skb.dev.hard_header_len) + HARDWARE_BYTES
    size += 8 * (inst.flags & (NFULNL_CFG_F_SEQ | NFULNL_CFG_F_SEQ_GLOBAL)).bit_count()
    if inst.copy_mode == NFULNL_COPY_PACKET:
        size += nla_total_size(data_len)
    return size


def nla_total_size(payload: int) -> int:
    """include/net/netlink.h: bytes of an attribute with its header and padding."""
    return 4 + payload + 3 & ~3


def alloc_room(size: int) -> int:
    """The data size of alloc_skb, rounded up to a power of two."""
    whole = (size + CACHE_BYTES - 1 & -CACHE_BYTES) + SKB_OVERHEAD
    return (1 << (whole - 1).bit_length()) - SKB_OVERHEAD


def packet_attributes(pkt: nft_pktinfo, li: nf_loginfo) -> dict[str, Any]:
    """net/netfilter/nfnetlink_log.c __build_packet_message: all except sequence and payload."""
    skb, state = pkt.skb, pkt.state
    told: dict[str, Any] = {
        "NFULA_PACKET_HDR": skb.protocol.to_bytes(2, "big") + bytes((state.hook, 0)),
        "NFULA_PREFIX": li.prefix,
        "NFULA_IFINDEX_INDEV": None if state.indev is None else state.indev.ifindex,
        "NFULA_IFINDEX_OUTDEV": None if state.outdev is None else state.outdev.ifindex,
        "NFULA_MARK": skb.mark or None,
    }
    if has_link_header(skb, state):
        told["NFULA_HWADDR"] = packet_hw(skb)
        told["NFULA_HWTYPE"] = skb.dev.type
        told["NFULA_HWLEN"] = skb.dev.hard_header_len
        told["NFULA_HWHEADER"] = packet_bytes(skb, skb_mac_offset(skb), skb.dev.hard_header_len)
    told["NFULA_TIMESTAMP"] = packet_timestamp(skb, state)
    if packet_has_owner(skb, state):
        told |= {"NFULA_UID": state.net.uid, "NFULA_GID": state.net.gid}
    return told


def nfulnl_timer(log: nfnl_log_net, inst: nfulnl_instance, timer: timer_list) -> None:
    """net/netfilter/nfnetlink_log.c: the flush timer expired."""
    if inst.skb is not None:
        __nfulnl_flush(log, inst)


def __nfulnl_flush(log: nfnl_log_net, inst: nfulnl_instance) -> None:
    """net/netfilter/nfnetlink_log.c: send pending messages."""
    if inst.timer is not None:
        timer_delete(inst.timer)
    data, inst.skb = bytes(inst.skb or b""), None
    if inst.qlen > 1:
        data += nlmsg_put(NLMSG_DONE, 0, 0, 0, NFGENMSG.pack(0, 0, inst.group_num))
    inst.qlen = 0
    peer = log.net.nl_table.protocols[NETLINK_NETFILTER].by_portid.get(inst.peer_portid)
    if peer is not None and netlink_attachskb(peer, data, sockaddr(AF_NETLINK, 0)):
        netlink_overrun(peer)


def nfnl_log_net_init(net: Net) -> None:
    """net/netfilter/nfnetlink_log.c: no group is bound."""
    net.gen["nfnetlink_log"] = nfnl_log_net(net, nfulnl_log_packet)
