"""net/netlink/af_netlink.c: messages between programs and the kernel, and what sockets receive.

    sendmsg => netlink_sendmsg
        netlink_unicast             to another program's socket: queued
            netlink_unicast_kernel -> netlink_rcv_skb       each message of a request
                => netlink_protocol.rcv, e.g. rtnetlink_rcv_msg
                netlink_ack         NLMSG_ERROR, with the texts of NETLINK_EXT_ACK
        netlink_broadcast           to a multicast group
    netlink_dump_start -> netlink_dump      the first packet of a dump
    recvmsg => netlink_recvmsg
        netlink_dump                the next one, once the reader has room
    nlmsg_notify                    the kernel notifies a group of changes

A packet of the receive queue is an sk_buff with one or more messages; its `cb` is the sender's
address. A dump is an iterator of messages: at most two packets of it exist at a time, regardless of
its length. State: `netlink_sock`, and per namespace `net.nl_table`. Read netlink_sendmsg first.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from fastpath.base.bpf import bpf_prog_run
from fastpath.base.skbuff import consume_skb, kfree_skb, pskb_trim, sk_buff, skb_from_bytes
from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import skb_recv_datagram
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_read_datagram
from stack.core.scm import scm_send
from stack.core.sock import ns_capable, sk_data_ready, sk_error_report, skb_set_owner_r
from stack.core.sock_flags import SOCK_PASSCRED, SOCK_PASSSEC
from stack.core.sockaddr import NO_NAME, need_sa_len, sockaddr
from stack.core.sockopt import UCRED, put_cmsg
from stack.core.uapi import NLM_F_REQUEST
from stack.net import Net
from stack.netlink.netlink_sock import (
    NETLINK_PKTINFO,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP_INTR,
    NLM_F_MULTI,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_HDRLEN,
    NLMSG_MIN_TYPE,
    NLMSGHDR,
    SOCKADDR_NL_LEN,
    netlink_callback,
    netlink_protocol,
    netlink_sock,
    nlmsg,
)
from stack.netlink.nlattr import BINARY, NUL_STRING, S32, U32, Attr, AttrTable, NlError

DUMP_BYTES = 4096 - 320
"""A packet of a dump (NLMSG_GOODSIZE), unless the reader has shown a larger buffer: getifaddrs(3)
has 4096 bytes."""
DUMP_MOST_BYTES = 32768
DONE_BYTES = 512
"""Room for the message that ends a dump, with the text of an error."""
PORTS = 1 << 15
NEGATIVE = (1 << 32) - 4096
"""Start of port ids, going down, if another socket uses the process's number."""

NLMSGERR = AttrTable(
    "NLMSGERR",
    Attr("NLMSGERR_ATTR_MSG", 1, NUL_STRING),
    Attr("NLMSGERR_ATTR_OFFS", 2, U32),
    Attr("NLMSGERR_ATTR_COOKIE", 3, BINARY),
    Attr("NLMSGERR_ATTR_MISS_TYPE", 5, U32),
    Attr("NLMSGERR_ATTR_MISS_NEST", 6, U32),
)


def nlmsg_put(kind: int, flags: int, seq: int, portid: int, payload: bytes) -> bytes:
    """include/net/netlink.h: a message with its header; padded to a multiple of 4."""
    size = NLMSG_HDRLEN + len(payload)
    return NLMSGHDR.pack(size, kind, flags, seq, portid) + payload + bytes(-size & 3)


def netlink_group_mask(group: int) -> int:
    """nl_groups of a group; 0 for groups without a bit."""
    return 1 << (group - 1) if 0 < group <= 32 else 0


def netlink_capable(sk: netlink_sock) -> bool:
    """net/netlink/af_netlink.c netlink_net_capable: whether the sender may administer the host."""
    return ns_capable(sk.net, uapi.CAP_NET_ADMIN)


def protocol_of(sk: netlink_sock) -> netlink_protocol:
    """The protocol of a socket."""
    return sk.net.nl_table.protocols[sk.sk_protocol]


# --- delivery -----------------------------------------------------------------------------------


def netlink_attachskb(sk: netlink_sock, data: bytes, name: sockaddr) -> int:
    """net/netlink/af_netlink.c netlink_sendskb: queue a packet. 0, -ENOBUFS: no room.

    A packet dropped by the socket's filter counts as delivered.
    """
    skb = skb_from_bytes(sk.net.skb_small, data)
    if skb is None:
        return -errno.ENOBUFS
    if sk.sk_filter is not None:
        wanted = bpf_prog_run(sk.sk_filter, skb, 0)
        if not wanted:
            consume_skb(skb)
            return 0
        pskb_trim(skb, wanted)
    if sk.congested or (sk.sk_rmem_alloc and sk.sk_rmem_alloc + skb.truesize > sk.sk_rcvbuf):
        kfree_skb(skb)
        return -errno.ENOBUFS
    skb.cb = name
    skb_set_owner_r(skb, sk)
    sk.sk_receive_queue.queue_tail(skb)
    sk_data_ready(sk)
    return 0


def netlink_overrun(sk: netlink_sock) -> None:
    """net/netlink/af_netlink.c: a message was lost; the reader gets ENOBUFS, once."""
    if not sk.no_enobufs and not sk.congested:
        sk.congested = True
        sk.sk_err = errno.ENOBUFS
        sk_error_report(sk)
    sk.sk_drops += 1


def netlink_broadcast(
    proto: netlink_protocol,
    data: bytes,
    sender: int,
    group: int,
    but: netlink_sock | None = None,
    portid: int = 0,
) -> int:
    """net/netlink/af_netlink.c: send to every socket of a group except `but` and that of `portid`.

    0, -ESRCH, -ENOBUFS.
    """
    name = sockaddr(uapi.AF_NETLINK, sender, 0, netlink_group_mask(group))
    found, err = False, 0
    for sk in tuple(proto.listeners.get(group, ())):
        if sk is but or sk.portid == portid:
            continue
        if netlink_attachskb(sk, data, name):
            netlink_overrun(sk)
            if sk.broadcast_error:
                err = -errno.ENOBUFS
        found = True
    return err if found else -errno.ESRCH


def nlmsg_notify(
    net: Net,
    protocol: int,
    group: int,
    kind: int,
    payload: bytes,
    flags: int = 0,
    portid: int = 0,
    report: bool = False,
    seq: int = 0,
) -> int:
    """net/netlink/af_netlink.c: notify a group; without a request `seq` and `portid` are 0.

    `report`: also notify the requester (NLM_F_ECHO), once. 0, -ENOBUFS: a listener that
    requested errors had no room.
    """
    proto = net.nl_table.protocols[protocol]
    asked = proto.by_portid.get(portid) if report else None
    listeners = proto.listeners.get(group)
    if asked is None and not listeners:
        return 0
    message = nlmsg_put(kind, flags, seq, portid, payload)
    err = netlink_broadcast(proto, message, 0, group, asked) if listeners else 0
    if asked is not None:
        kernel_to(asked, message)
    return 0 if err == -errno.ESRCH else err


def nlmsg_part(nlh: nlmsg, kind: int, payload: bytes, flags: int = 0) -> bytes:
    """A message for the requester, such as one of a dump."""
    return nlmsg_put(kind, flags, nlh.seq, nlh.sk.portid, payload)


def netlink_reply(nlh: nlmsg, kind: int, payload: bytes, flags: int = 0) -> None:
    """include/linux/netlink.h nlmsg_unicast: an answer to the requester."""
    kernel_to(nlh.sk, nlmsg_part(nlh, kind, payload, flags))


def hears(sk: netlink_sock, portid: int) -> bool:
    """Whether a port id (0: the kernel) may unicast to it: a connected socket has one peer."""
    return not sk.connected or sk.dst_portid == portid


def kernel_to(sk: netlink_sock, data: bytes) -> None:
    """Queue a message of the kernel. Raises: OSError EAGAIN: queue full; ECONNREFUSED."""
    if not hears(sk, 0):
        raise os_error(errno.ECONNREFUSED, f"the socket's peer is {sk.dst_portid}")
    if netlink_attachskb(sk, data, sockaddr(uapi.AF_NETLINK, 0)):
        raise os_error(errno.EAGAIN, "the receive queue is full")


# --- requests -----------------------------------------------------------------------------------


def netlink_unicast(sk: netlink_sock, data: bytes, portid: int, group: int) -> None:
    """net/netlink/af_netlink.c: send to the kernel (0) or a socket, with the group.

    Raises: OSError ECONNREFUSED, EAGAIN.
    """
    proto = protocol_of(sk)
    if not portid:
        if proto.rcv is None:
            raise os_error(errno.ECONNREFUSED, "the kernel does not take such messages")
        if proto.input is None or not proto.input(sk, data):
            netlink_rcv_skb(sk, data, proto)
        return
    to = proto.by_portid.get(portid)
    if to is None or not hears(to, sk.portid):
        raise os_error(errno.ECONNREFUSED, f"no socket has port id {portid}, or another peer")
    name = sockaddr(uapi.AF_NETLINK, sk.portid, 0, netlink_group_mask(group))
    if netlink_attachskb(to, data, name):
        raise os_error(errno.EAGAIN, f"the receive queue of port id {portid} is full")


def messages_of(sk: netlink_sock, data: bytes) -> Iterator[nlmsg | None]:
    """The messages in a program's buffer; None: the rest is not a message."""
    at = 0
    while len(data) - at >= NLMSG_HDRLEN:
        size, kind, flags, seq, portid = NLMSGHDR.unpack_from(data, at)
        if size < NLMSG_HDRLEN or size > len(data) - at:
            yield None
            return
        yield nlmsg(kind, flags, seq, portid, data[at : at + size], sk)
        at += size + 3 & ~3


def netlink_rcv_skb(sk: netlink_sock, data: bytes, proto: netlink_protocol) -> None:
    """net/netlink/af_netlink.c: process each message of a buffer, up to a malformed one."""
    assert proto.rcv is not None
    for nlh in messages_of(sk, data):
        if nlh is None:
            return
        wrong: OSError | None = None
        if nlh.flags & NLM_F_REQUEST and nlh.type >= NLMSG_MIN_TYPE:
            proto.asked = nlh
            try:
                proto.rcv(nlh)
            except OSError as exc:
                wrong = exc
            finally:
                proto.asked = None
        if wrong is not None or (nlh.flags & NLM_F_ACK and not nlh.dumped):
            netlink_ack(nlh, wrong)


def netlink_ack(nlh: nlmsg, wrong: OSError | None) -> None:
    """net/netlink/af_netlink.c: NLMSG_ERROR, with errno 0 on success."""
    sk = nlh.sk
    if not hears(sk, 0):
        return
    flags, quoted = 0, nlh.whole
    if wrong is None or sk.cap_ack:
        quoted = nlh.whole[:NLMSG_HDRLEN]
        flags |= NLM_F_CAPPED
    tlvs = b""
    if sk.ext_ack:
        tlvs = ext_ack(wrong if wrong is not None else NlError(0, nlh.extack.msg))
    if tlvs:
        flags |= NLM_F_ACK_TLVS
        quoted += bytes(-len(quoted) & 3)
    error = errno_bytes(wrong) + quoted + tlvs
    reply = nlmsg_put(NLMSG_ERROR, flags, nlh.seq, sk.portid, error)
    if netlink_attachskb(sk, reply, sockaddr(uapi.AF_NETLINK, 0)):
        sk.sk_err = errno.ENOBUFS
        sk_error_report(sk)


def errno_bytes(wrong: OSError | None) -> bytes:
    """The negative errno of NLMSG_ERROR and NLMSG_DONE."""
    return S32.put(-(wrong.errno or errno.EIO) if wrong is not None else 0)


def ext_ack(wrong: OSError) -> bytes:
    """The attributes of an error's extended acknowledgement."""
    if not isinstance(wrong, NlError):
        # The detail of our functions, after the text of the errno.
        detail = str(wrong.strerror or "").partition(": ")[2]
        return NLMSGERR.build({"NLMSGERR_ATTR_MSG": detail}) if detail else b""
    return NLMSGERR.build(
        {
            "NLMSGERR_ATTR_MSG": wrong.msg or None,
            "NLMSGERR_ATTR_OFFS": wrong.at if wrong.at >= 0 else None,
            "NLMSGERR_ATTR_MISS_NEST": wrong.nest if wrong.nest >= 0 else None,
            "NLMSGERR_ATTR_MISS_TYPE": wrong.missing if wrong.missing >= 0 else None,
        }
    )


# --- dumps --------------------------------------------------------------------------------------


def netlink_dump_start(nlh: nlmsg, cb: netlink_callback) -> None:
    """net/netlink/af_netlink.c: start a dump. Raises: OSError EBUSY, another is running."""
    sk = nlh.sk
    if sk.cb is not None:
        raise os_error(errno.EBUSY, "a dump is under way on the socket")
    sk.cb = cb
    if cb.seq is not None:
        cb.prev_seq = cb.seq()
    nlh.dumped = True
    netlink_dump(sk)


def netlink_dump(sk: netlink_sock) -> None:
    """net/netlink/af_netlink.c: queue the next packet of a dump, if there is room for it."""
    cb = sk.cb
    if cb is None or sk.sk_rmem_alloc >= sk.sk_rcvbuf:
        return
    room = min(max(DUMP_BYTES, sk.max_recvmsg_len), DUMP_MOST_BYTES)
    packet = bytearray()
    flags = NLM_F_MULTI
    if cb.seq is not None and cb.seq() != cb.prev_seq:
        flags |= NLM_F_DUMP_INTR
    while not cb.ended:
        message = cb.pending or _next(cb)
        if packet and len(packet) + len(message) > room:
            cb.pending = message
            break
        cb.pending = b""
        if message:
            _with_flags(packet, message, flags)
    if cb.ended and len(packet) + DONE_BYTES <= room:
        packet += _done(cb, sk, flags)
        sk.cb = None
    if netlink_attachskb(sk, bytes(packet), sockaddr(uapi.AF_NETLINK, 0)):
        sk.cb = None
        netlink_overrun(sk)


def _next(cb: netlink_callback) -> bytes:
    """The next message of a dump; b"" at its end."""
    try:
        return next(cb.messages)
    except StopIteration:
        cb.ended = True
    except OSError as exc:
        cb.ended, cb.wrong = True, exc
    return b""


def _with_flags(packet: bytearray, message: bytes, flags: int) -> None:
    """Append a message with more flags."""
    size, kind, own, seq, portid = NLMSGHDR.unpack_from(message)
    packet += NLMSGHDR.pack(size, kind, own | flags, seq, portid)
    packet += message[NLMSG_HDRLEN:]


def _done(cb: netlink_callback, sk: netlink_sock, flags: int) -> bytes:
    """The message that ends a dump: errno, and the NETLINK_EXT_ACK attributes."""
    wrong = cb.wrong
    payload = errno_bytes(wrong)
    if wrong is not None and sk.ext_ack:
        tlvs = ext_ack(wrong)
        payload += tlvs
        flags |= NLM_F_ACK_TLVS if tlvs else 0
    return nlmsg_put(NLMSG_DONE, flags, cb.nlh.seq, sk.portid, payload)


# --- the socket's calls -------------------------------------------------------------------------


def netlink_autobind(sk: netlink_sock) -> None:
    """net/netlink/af_netlink.c: bind to the process's number, else to a free port id: as on Linux
    a negative one, and a small one where there are no processes. Raises: OSError EADDRINUSE.
    """
    table, proto = sk.net.nl_table, protocol_of(sk)
    portid = sk.tgid
    for _ in range(PORTS):
        if portid and portid not in proto.by_portid:
            netlink_insert(sk, portid)
            return
        table.rover = table.rover % PORTS + 1
        portid = NEGATIVE - table.rover if sk.tgid else table.rover
    raise os_error(errno.EADDRINUSE, "no port id is free")


def netlink_insert(sk: netlink_sock, portid: int) -> None:
    """net/netlink/af_netlink.c: bind a port id, which getsockname returns even if it is taken.

    Raises: OSError EADDRINUSE.
    """
    proto = protocol_of(sk)
    sk.portid = portid
    if portid in proto.by_portid:
        raise os_error(errno.EADDRINUSE, f"port id {portid} is another socket's")
    proto.by_portid[portid] = sk
    sk.bound = True


def nl_address(name: sockaddr) -> sockaddr:
    """Check that an address is one of AF_NETLINK. Raises: OSError EINVAL."""
    need_sa_len(name, SOCKADDR_NL_LEN)
    if name.family != uapi.AF_NETLINK:
        raise os_error(errno.EINVAL, f"{name!r} is no address of AF_NETLINK")
    return name


def may_send(sk: netlink_sock) -> None:
    """Only root sends to groups and other programs. Raises: OSError EPERM."""
    if not protocol_of(sk).nonroot_send and not netlink_capable(sk):
        raise os_error(errno.EPERM, f"the host's user is {sk.net.uid}, not root")


def netlink_sendmsg(sock: socket, msg: msghdr, length: int) -> int:
    """net/netlink/af_netlink.c: send messages. Returns `length`.

    Raises: OSError EOPNOTSUPP (MSG_OOB), ENODATA (nothing), EMSGSIZE, EPERM, ECONNREFUSED, EAGAIN,
    and what scm_send raises.
    """
    sk: netlink_sock = sock.sk
    if msg.msg_flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "netlink has no urgent data")
    if not length:
        raise os_error(errno.ENODATA, "an empty message")
    scm_send(sock, msg)
    portid, group = sk.dst_portid, sk.dst_group
    if msg.msg_name is not None and msg.msg_name.sa_len != NO_NAME:
        name = nl_address(msg.msg_name)
        portid, group = name.addr, (name.flowinfo & -name.flowinfo).bit_length()
        if portid or group:
            may_send(sk)
    if not sk.bound:
        netlink_autobind(sk)
    if length > sk.sk_sndbuf - 32:
        raise os_error(errno.EMSGSIZE, f"{length} bytes; the send buffer has {sk.sk_sndbuf}")
    data = msg.take(length)
    if group:
        netlink_broadcast(protocol_of(sk), data, sk.portid, group, sk, portid)
    netlink_unicast(sk, data, portid, group)
    return length


def netlink_recvmsg(sock: socket, msg: msghdr, length: int, flags: int) -> int:
    """net/netlink/af_netlink.c: read one packet; bytes copied, with MSG_TRUNC its own length.

    Raises: OSError EOPNOTSUPP (MSG_OOB), EAGAIN, ENOBUFS: messages were lost.
    """
    sk: netlink_sock = sock.sk
    if flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "netlink has no urgent data")
    skb = skb_recv_datagram(sk, flags)
    if skb is None:
        return 0
    sk.max_recvmsg_len = min(max(sk.max_recvmsg_len, length), DUMP_MOST_BYTES)
    full = skb.len
    copied = skb_read_datagram(skb, msg, length)
    msg.msg_name = skb.cb
    netlink_cmsg(msg, sk, skb)
    consume_skb(skb)
    if not sk.sk_receive_queue.qlen:
        sk.congested = False
    if sk.cb is not None and sk.sk_rmem_alloc <= sk.sk_rcvbuf // 2:
        netlink_dump(sk)
    return full if flags & uapi.MSG_TRUNC else copied


def netlink_cmsg(msg: msghdr, sk: netlink_sock, skb: sk_buff) -> None:
    """The control messages that the reader requested."""
    if sk.recv_pktinfo:
        group = skb.cb.flowinfo.bit_length()
        put_cmsg(msg, uapi.SOL_NETLINK, NETLINK_PKTINFO, U32.put(group))
    if sk.sk_flags & SOCK_PASSCRED:
        user = (sk.net.uid, sk.net.gid) if skb.cb.addr else (0, 0)
        put_cmsg(msg, uapi.SOL_SOCKET, uapi.SCM_CREDENTIALS, UCRED.pack(skb.cb.addr, *user))
    if sk.sk_flags & SOCK_PASSSEC and msg.msg_control is None:
        msg.msg_flags |= uapi.MSG_CTRUNC  # no security module adds data, with room


def netlink_purge(sk: netlink_sock) -> None:
    """Release a socket's dump and unread messages."""
    sk.cb = None
    while (skb := sk.sk_receive_queue.dequeue()) is not None:
        kfree_skb(skb)
