"""net/unix/diag.c, net/packet/diag.c, net/netlink/diag.c: sockets of the other families."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from typing import Any

from stack.core.sock import sock_i_ino
from stack.core.sockopt import sk_get_meminfo
from stack.core.tcp_states import TCP_LISTEN
from stack.core.uapi import AF_NETLINK, AF_PACKET, AF_UNIX
from stack.netlink.af_netlink import netlink_dump_start, netlink_reply, nlmsg_part
from stack.netlink.inet_diag import SOCK_DIAG_BY_FAMILY
from stack.netlink.netlink_sock import MAX_LINKS, NLM_F_DUMP, netlink_callback, netlink_sock, nlmsg
from stack.netlink.nlattr import BINARY, NESTED, U8, U32, Attr, AttrTable, NlError
from stack.packet.packet_sock import packet_sock
from stack.proc.unix import unix_queues, unix_sockets
from stack.unix.unix_sock import unix_sock

REQ = struct.Struct("=BBHIIQ")
"""struct packet_diag_req, netlink_diag_req: family, protocol, padding, inode, show, cookie."""
UNIX_REQ = struct.Struct("=BBHIIIQ")
"""struct unix_diag_req, which has the states before the inode."""
MSG = struct.Struct("=BBBxIQ")
"""struct unix_diag_msg: family, type, state, inode, cookie."""
PACKET_MSG = struct.Struct("=BBHIQ")
NETLINK_MSG = struct.Struct("=BBBBIIIIQ")
RQLEN = struct.Struct("=II")
PACKET_INFO = struct.Struct("=IIIIII")
PACKET_MCLIST = struct.Struct("=IIHH32s")
PDI_RUNNING, PDI_AUXDATA, PDI_ORIGDEV = 1, 2, 4

UNIX_DIAG = AttrTable(
    "UNIX_DIAG",
    Attr("UNIX_DIAG_NAME", 0, BINARY),
    Attr("UNIX_DIAG_PEER", 2, U32),
    Attr("UNIX_DIAG_ICONS", 3, BINARY),
    Attr("UNIX_DIAG_RQLEN", 4, BINARY),
    Attr("UNIX_DIAG_MEMINFO", 5, BINARY),
    Attr("UNIX_DIAG_SHUTDOWN", 6, U8),
    Attr("UNIX_DIAG_UID", 7, U32),
)
PACKET_DIAG = AttrTable(
    "PACKET_DIAG",
    Attr("PACKET_DIAG_INFO", 0, BINARY),
    Attr("PACKET_DIAG_MCLIST", 1, NESTED),
    Attr("PACKET_DIAG_UID", 5, U32),
    Attr("PACKET_DIAG_MEMINFO", 6, BINARY),
)
NETLINK_DIAG = AttrTable(
    "NETLINK_DIAG",
    Attr("NETLINK_DIAG_MEMINFO", 0, BINARY),
    Attr("NETLINK_DIAG_GROUPS", 1, BINARY),
    Attr("NETLINK_DIAG_FLAGS", 4, U32),
)
SHOW_NAME, SHOW_PEER, SHOW_ICONS, SHOW_RQLEN, SHOW_MEMINFO, SHOW_UID = 1, 4, 8, 16, 32, 64
PACKET_SHOW_INFO, PACKET_SHOW_MCLIST, PACKET_SHOW_MEMINFO = 1, 2, 16
NDIAG_SHOW_MEMINFO, NDIAG_SHOW_GROUPS = 1, 2
NDIAG_PROTO_ALL = 255


def sk_diag_fill(sk: unix_sock, show: int) -> bytes:
    """net/unix/diag.c: struct unix_diag_msg and the attributes of udiag_show."""
    head = MSG.pack(AF_UNIX, sk.sk_type, sk.sk_state, sock_i_ino(sk), sk.sk_cookie)
    listens = sk.sk_state == TCP_LISTEN
    waiting = None
    if show & SHOW_ICONS and listens:
        peers = (skb.sk for skb in sk.sk_receive_queue)
        waiting = b"".join(U32.put(sock_i_ino(peer)) for peer in peers if peer is not None)
    return head + UNIX_DIAG.build(
        {
            "UNIX_DIAG_NAME": sk.addr.path if sk.addr is not None and show & SHOW_NAME else None,
            "UNIX_DIAG_PEER": sock_i_ino(sk.peer) if sk.peer and show & SHOW_PEER else None,
            "UNIX_DIAG_ICONS": waiting,
            "UNIX_DIAG_RQLEN": RQLEN.pack(*unix_queues(sk)) if show & SHOW_RQLEN else None,
            "UNIX_DIAG_MEMINFO": sk_get_meminfo(sk) if show & SHOW_MEMINFO else None,
            "UNIX_DIAG_SHUTDOWN": sk.sk_shutdown,
            "UNIX_DIAG_UID": sk.net.uid if show & SHOW_UID else None,
        }
    )


def _dump(nlh: nlmsg, found: Iterator[Any], fill: Callable[[Any], bytes]) -> None:
    """Begin a dump of sockets."""
    messages = (nlmsg_part(nlh, SOCK_DIAG_BY_FAMILY, fill(sk)) for sk in tuple(found))
    netlink_dump_start(nlh, netlink_callback(nlh, messages))


def _request(nlh: nlmsg, code: struct.Struct, destroy: bool) -> tuple[int, ...]:
    """Raises: NlError EINVAL, EOPNOTSUPP: such a socket cannot be destroyed."""
    if destroy:
        raise NlError(errno.EOPNOTSUPP)
    if len(nlh.payload) < code.size:
        raise NlError(errno.EINVAL)
    return code.unpack_from(nlh.payload)


def unix_diag_cmd(nlh: nlmsg, destroy: bool) -> None:
    """net/unix/diag.c unix_diag_handler_dump. Raises: NlError."""
    net = nlh.sk.net
    _, _, _, states, inode, show, cookie = _request(nlh, UNIX_REQ, destroy)
    if nlh.flags & NLM_F_DUMP == NLM_F_DUMP:
        found = (sk for sk in unix_sockets(net) if states >> sk.sk_state & 1)
        _dump(nlh, found, lambda sk: sk_diag_fill(sk, show))
        return
    if not inode:
        raise NlError(errno.EINVAL)
    for sk in unix_sockets(net):
        if sock_i_ino(sk) == inode:
            if cookie not in (sk.sk_cookie, (1 << 64) - 1):
                raise NlError(errno.ESTALE)
            netlink_reply(nlh, SOCK_DIAG_BY_FAMILY, sk_diag_fill(sk, show))
            return
    raise NlError(errno.ENOENT)


def mclist_fill(sk: packet_sock) -> bytes:
    """net/packet/diag.c pdiag_put_mclist: struct packet_diag_mclist of each membership."""
    return b"".join(
        PACKET_MCLIST.pack(one.ifindex, one.count, one.type, len(one.addr), one.addr)
        for one in sk.mclist
    )


def packet_fill(sk: packet_sock, show: int) -> bytes:
    """net/packet/diag.c sk_diag_fill."""
    flags = sk.running * PDI_RUNNING | sk.auxdata * PDI_AUXDATA | sk.origdev * PDI_ORIGDEV
    info = (sk.ifindex & 0xFFFFFFFF, sk.tp_version, sk.tp_reserve, sk.copy_thresh, sk.tp_tstamp)
    head = PACKET_MSG.pack(AF_PACKET, sk.sk_type, sk.num, sock_i_ino(sk), sk.sk_cookie)
    return head + PACKET_DIAG.build(
        {
            "PACKET_DIAG_INFO": PACKET_INFO.pack(*info, flags) if show & PACKET_SHOW_INFO else None,
            "PACKET_DIAG_UID": sk.net.uid if show & PACKET_SHOW_INFO else None,
            "PACKET_DIAG_MCLIST": mclist_fill(sk) if show & PACKET_SHOW_MCLIST else None,
            "PACKET_DIAG_MEMINFO": sk_get_meminfo(sk) if show & PACKET_SHOW_MEMINFO else None,
        }
    )


def packet_diag_cmd(nlh: nlmsg, destroy: bool) -> None:
    """net/packet/diag.c packet_diag_handler_dump. Raises: NlError."""
    _, protocol, _, _, show, _ = _request(nlh, REQ, destroy)
    if protocol:
        raise NlError(errno.EINVAL)
    if nlh.flags & NLM_F_DUMP != NLM_F_DUMP:
        raise NlError(errno.EOPNOTSUPP)
    _dump(nlh, iter(nlh.sk.net.packet_sklist), lambda sk: packet_fill(sk, show))


def netlink_fill(sk: netlink_sock, show: int) -> bytes:
    """net/netlink/diag.c sk_diag_fill."""
    head = NETLINK_MSG.pack(
        *(AF_NETLINK, sk.sk_type, sk.sk_protocol, sk.sk_state),
        *(sk.portid, sk.dst_portid, sk.dst_group, sock_i_ino(sk), sk.sk_cookie),
    )
    bits = sum(1 << (group - 1) for group in sk.groups)
    return head + NETLINK_DIAG.build(
        {
            "NETLINK_DIAG_MEMINFO": sk_get_meminfo(sk) if show & NDIAG_SHOW_MEMINFO else None,
            "NETLINK_DIAG_GROUPS": bits.to_bytes(8, "little")
            if bits and show & NDIAG_SHOW_GROUPS
            else None,
        }
    )


def refused(err: int) -> Iterator[bytes]:
    """A dump that ends with an error."""
    raise NlError(err)
    yield b""


def netlink_diag_cmd(nlh: nlmsg, destroy: bool) -> None:
    """net/netlink/diag.c netlink_diag_handler_dump. Raises: NlError."""
    _, protocol, _, _, show, _ = _request(nlh, REQ, destroy)
    if nlh.flags & NLM_F_DUMP != NLM_F_DUMP:
        raise NlError(errno.EOPNOTSUPP)
    if MAX_LINKS <= protocol != NDIAG_PROTO_ALL:
        netlink_dump_start(nlh, netlink_callback(nlh, refused(errno.ENOENT)))
        return
    found = (s for s in nlh.sk.net.nl_table.sockets if protocol in (NDIAG_PROTO_ALL, s.sk_protocol))
    _dump(nlh, found, lambda sk: netlink_fill(sk, show))
