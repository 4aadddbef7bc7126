"""net/ipv4/inet_diag.c, tcp_diag.c, udp_diag.c, raw_diag.c: the sockets of IPv4 and IPv6.

inet_diag_cmd
    inet_diag_dump          all that match states and filter: `ss -tu`
        inet_diag_bc_sk     the filter (inet_diag_bc.py)
        inet_sk_diag_fill   struct inet_diag_msg and the attributes of idiag_ext
    inet_diag_dump_one      one socket, by its ends and cookie
    inet_diag_destroy       end it: `ss -K`
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from stack.core.sock import sock, sock_i_ino
from stack.core.sockopt import sk_get_meminfo
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import AF_INET, AF_INET6, IPPROTO_RAW, IPPROTO_TCP, IPPROTO_UDP
from stack.inet.inet_connection_sock import ICSK_TIME_PROBE0, ICSK_TIME_RETRANS, request_sock
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_md5 import tcp_diag_md5sig
from stack.inet.tcp_sock import tcp_sock
from stack.inet.tcp_sockopt import tcp_get_info
from stack.net import Net
from stack.netlink.af_netlink import netlink_capable, netlink_dump_start, netlink_reply, nlmsg_part
from stack.netlink.inet_diag_bc import audit, inet_diag_bc_sk
from stack.netlink.netlink_sock import NLM_F_DUMP, NLMSG_HDRLEN, netlink_callback, nlmsg
from stack.netlink.nlattr import BINARY, STRING, U8, U32, UNSPEC, Attr, AttrTable, NlError
from stack.proc.sockets import queues, raw_sockets, shown_address, tcp_sockets, udp_sockets

AnySock: TypeAlias = inet_sock | request_sock | inet_timewait_sock

REQ = struct.Struct("=BBBBI")
SOCKID = struct.Struct(">HH16s16s")
IFACE_COOKIE = struct.Struct("=IQ")
REQ_BYTES = REQ.size + SOCKID.size + IFACE_COOKIE.size
MSG = struct.Struct("=BBBB")
REST = struct.Struct("=IIIII")
"""expires in ms, receive and send queue, user, inode."""
MEMINFO = struct.Struct("=IIII")
NOCOOKIE = (1 << 64) - 1
SOCK_DIAG_BY_FAMILY = 20

REQ_ATTRS = AttrTable(
    "INET_DIAG_REQ",
    Attr("INET_DIAG_REQ_BYTECODE", 1, BINARY),
    Attr("INET_DIAG_REQ_SK_BPF_STORAGES", 2, BINARY),
    Attr("INET_DIAG_REQ_PROTOCOL", 3, BINARY),
)
INET_DIAG = AttrTable(
    "INET_DIAG",
    Attr("INET_DIAG_MEMINFO", 1, UNSPEC, MEMINFO.size),
    Attr("INET_DIAG_INFO", 2, BINARY),
    Attr("INET_DIAG_CONG", 4, STRING),
    Attr("INET_DIAG_TOS", 5, U8),
    Attr("INET_DIAG_TCLASS", 6, U8),
    Attr("INET_DIAG_SKMEMINFO", 7, BINARY),
    Attr("INET_DIAG_SHUTDOWN", 8, U8),
    Attr("INET_DIAG_SKV6ONLY", 11, U8),
    Attr("INET_DIAG_MARK", 15, U32),
    Attr("INET_DIAG_MD5SIG", 18, BINARY),
)


@dataclass(slots=True)
class diag_request:
    """struct inet_diag_req_v2 and its attributes."""

    family: int
    protocol: int
    ext: int
    states: int
    sport: int
    dport: int
    src: int
    dst: int
    ifindex: int
    cookie: int
    bytecode: bytes

    def wants(self, number: int) -> bool:
        """Whether idiag_ext requests an attribute."""
        return bool(self.ext & 1 << (number - 1))


def parse_request(nlh: nlmsg, dump: bool) -> diag_request:
    """Raises: NlError EINVAL, in a dump also for an invalid filter."""
    data = nlh.payload
    if len(data) < REQ_BYTES:
        raise NlError(errno.EINVAL)
    family, protocol, ext, _, states = REQ.unpack_from(data)
    sport, dport, src, dst = SOCKID.unpack_from(data, REQ.size)
    ifindex, cookie = IFACE_COOKIE.unpack_from(data, REQ.size + SOCKID.size)
    tb = REQ_ATTRS.parse(nlh.whole, NLMSG_HDRLEN + REQ_BYTES)
    size = 4 if family == AF_INET else 16
    if len(tb.get("INET_DIAG_REQ_PROTOCOL", bytes(4))) != 4:
        raise NlError(errno.EINVAL)
    if dump and "INET_DIAG_REQ_BYTECODE" in tb:
        audit(tb["INET_DIAG_REQ_BYTECODE"])
    return diag_request(
        family,
        U32.get(tb["INET_DIAG_REQ_PROTOCOL"]) if "INET_DIAG_REQ_PROTOCOL" in tb else protocol,
        ext,
        states,
        sport,
        dport,
        int.from_bytes(src[:size], "big"),
        int.from_bytes(dst[:size], "big"),
        ifindex,
        cookie,
        tb.get("INET_DIAG_REQ_BYTECODE", b""),
    )


# --- dumping ------------------------------------------------------------------------------------


def state_of(sk: AnySock) -> int:
    """The reported TCP_* state."""
    if isinstance(sk, inet_timewait_sock):
        return sk.tw_substate
    return TCP_SYN_RECV if isinstance(sk, request_sock) else sk.sk_state


def timer_of(sk: AnySock) -> tuple[int, int, int]:
    """Kind of the timer, number of expiries, ms left."""
    if isinstance(sk, request_sock):
        return 1, min(sk.num_timeout, 255), 0
    now = sk.net.now()
    if isinstance(sk, inet_timewait_sock):
        left = max(sk.tw_timer.expires - now, 0) if sk.tw_timer.pending else 0
        return 3, 0, left // NSEC_PER_MSEC
    if not isinstance(sk, tcp_sock):
        return 0, 0, 0
    if sk.icsk_pending == ICSK_TIME_PROBE0:
        return 4, sk.icsk_probes_out, max(sk.icsk_timeout - now, 0) // NSEC_PER_MSEC
    if sk.icsk_pending >= ICSK_TIME_RETRANS:
        return 1, sk.icsk_retransmits, max(sk.icsk_timeout - now, 0) // NSEC_PER_MSEC
    timer = sk.sk_timer
    if timer is not None and timer.pending:
        return 2, sk.icsk_probes_out, max(timer.expires - now, 0) // NSEC_PER_MSEC
    return 0, 0, 0


def ends_of(sk: AnySock) -> bytes:
    """Ports and addresses of struct inet_diag_sockid."""
    size = 4 if sk.sk_family == AF_INET else 16
    src, dst = (
        shown_address(sk, addr).to_bytes(size, "big").ljust(16, b"\0")
        for addr in (sk.inet_rcv_saddr, sk.inet_daddr)
    )
    return SOCKID.pack(sk.inet_num & 0xFFFF, sk.inet_dport, src, dst)


def inet_sk_diag_fill(sk: AnySock, want: diag_request, admin: bool) -> bytes:
    """net/ipv4/inet_diag.c: struct inet_diag_msg and the requested attributes."""
    kind, times, left = timer_of(sk)
    whole = isinstance(sk, inet_sock)
    cookie = sk.sk_cookie if isinstance(sk, sock) else id(sk) & 0xFFFFFFFF
    received, sent = 0, 0
    if isinstance(sk, tcp_sock):
        received, sent = queues(sk)
    elif isinstance(sk, inet_sock):
        received, sent = sk.sk_rmem_alloc, sk.sk_wmem_alloc
    head = MSG.pack(sk.sk_family, state_of(sk), kind, min(times, 255)) + ends_of(sk)
    head += IFACE_COOKIE.pack(sk.sk_bound_dev_if, cookie)
    head += REST.pack(left & 0xFFFFFFFF, received, sent, sk.net.uid, sock_i_ino(sk))
    return head + INET_DIAG.build(_details(sk, want, admin) if whole else {})  # type: ignore[arg-type]


def _details(sk: inet_sock, want: diag_request, admin: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"INET_DIAG_SHUTDOWN": sk.sk_shutdown}
    if want.wants(5):
        found["INET_DIAG_TOS"] = sk.tos & 0xFF
    if sk.sk_family == AF_INET6:
        if want.wants(6):
            found["INET_DIAG_TCLASS"] = sk.tos & 0xFF
        if state_of(sk) in (TCP_CLOSE, TCP_LISTEN):
            found["INET_DIAG_SKV6ONLY"] = int(sk.sk_ipv6only)
    if admin:
        found["INET_DIAG_MARK"] = sk.sk_mark
    if want.wants(1):
        used = (sk.sk_rmem_alloc, sk.sk_wmem_queued, max(sk.sk_forward_alloc, 0))
        found["INET_DIAG_MEMINFO"] = MEMINFO.pack(*used, sk.sk_wmem_alloc)
    if want.wants(7):
        found["INET_DIAG_SKMEMINFO"] = sk_get_meminfo(sk)
    if isinstance(sk, tcp_sock) and want.wants(2):
        found["INET_DIAG_INFO"] = tcp_get_info(sk)
    if isinstance(sk, tcp_sock) and want.wants(4):
        found["INET_DIAG_CONG"] = sk.icsk_ca_ops.name
    if isinstance(sk, tcp_sock) and admin and want.wants(2) and sk.md5sig_info:
        found["INET_DIAG_MD5SIG"] = tcp_diag_md5sig(sk)
    return found


# --- lookup -------------------------------------------------------------------------------------

SOCKETS: dict[int, Callable[[Net], Iterator[Any]]] = {
    IPPROTO_TCP: tcp_sockets,
    IPPROTO_UDP: udp_sockets,
    IPPROTO_RAW: raw_sockets,
}
"""The sockets of each supported protocol."""


def inet_diag_dump(nlh: nlmsg, want: diag_request) -> Iterator[bytes]:
    """net/ipv4/inet_diag.c: all sockets of the protocol, family, states and filter."""
    sk_nl = nlh.sk
    sockets = SOCKETS.get(want.protocol)
    if sockets is None:
        raise NlError(errno.ENOENT)
    admin = netlink_capable(sk_nl)
    for sk in tuple(sockets(sk_nl.net)):
        if sk.sk_family != want.family or not want.states >> state_of(sk) & 1:
            continue
        if want.sport not in (0, sk.inet_num) or want.dport not in (0, sk.inet_dport):
            continue
        if want.bytecode and not inet_diag_bc_sk(want.bytecode, sk):
            continue
        yield nlmsg_part(nlh, SOCK_DIAG_BY_FAMILY, inet_sk_diag_fill(sk, want, admin))


def find_one(net: Net, want: diag_request) -> Any:
    """net/ipv4/inet_diag.c inet_diag_find_one_icsk: a connection, or its listener.

    Raises: NlError ENOENT; for another cookie see with_cookie.
    """
    sockets = SOCKETS.get(want.protocol)
    if sockets is None:
        raise NlError(errno.ENOENT)
    if want.protocol == IPPROTO_UDP:  # udp_dump_one has the ends swapped
        want.sport, want.dport = want.dport, want.sport
        want.src, want.dst = want.dst, want.src
    listener = None
    for sk in sockets(net):
        if sk.sk_family != want.family or sk.inet_num != want.sport:
            continue
        if sk.inet_rcv_saddr and shown_address(sk, sk.inet_rcv_saddr) != want.src:
            continue
        if sk.inet_dport == want.dport and shown_address(sk, sk.inet_daddr) == want.dst:
            return with_cookie(sk, want)
        if state_of(sk) == (TCP_LISTEN if want.protocol == IPPROTO_TCP else TCP_CLOSE):
            listener = sk
    if listener is None:
        raise NlError(errno.ENOENT)
    return with_cookie(listener, want)


def with_cookie(sk: AnySock, want: diag_request) -> AnySock:
    """net/core/sock_diag.c sock_diag_check_cookie. Raises: NlError ENOENT; of UDP ESTALE."""
    if want.cookie != NOCOOKIE and isinstance(sk, sock) and sk.sk_cookie != want.cookie:
        raise NlError(errno.ESTALE if want.protocol == IPPROTO_UDP else errno.ENOENT)
    return sk


def inet_diag_cmd(nlh: nlmsg, destroy: bool) -> None:
    """net/ipv4/inet_diag.c inet_diag_handler_cmd. Raises: NlError."""
    dump = not destroy and nlh.flags & NLM_F_DUMP == NLM_F_DUMP
    want = parse_request(nlh, dump)
    if dump:
        netlink_dump_start(nlh, netlink_callback(nlh, inet_diag_dump(nlh, want)))
        return
    if destroy and not netlink_capable(nlh.sk):
        raise NlError(errno.EPERM)
    sk = find_one(nlh.sk.net, want)
    if not destroy:
        payload = inet_sk_diag_fill(sk, want, netlink_capable(nlh.sk))
        netlink_reply(nlh, SOCK_DIAG_BY_FAMILY, payload)
        return
    if not isinstance(sk, sock) or sk.sk_prot.diag_destroy is None:
        raise NlError(errno.EOPNOTSUPP)
    err = sk.sk_prot.diag_destroy(sk, errno.ECONNABORTED)
    if err:
        raise NlError(-err)
