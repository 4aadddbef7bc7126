"""SOL_SOCKET options and control messages (net/core/sock.c: sock_setsockopt, sock_getsockopt).

    sys_setsockopt -> sock_setsockopt -> set_option (sockopt_table.py), with a row of SOCKET_LEVEL
    sys_getsockopt -> sock_getsockopt -> get_option
    sendmsg of a family -> sock_cmsg_send -> __sock_cmsg_send       SOL_SOCKET control messages
    recvmsg of a family -> sock_recv_cmsgs                          those of a packet that is read
        put_cmsg                            any message of any level, into msg.msg_control

The functions before SOCKET_LEVEL are setters, getters and checks that its rows name, by theme:
times, buffers and devices, sending, receiving, state. An option that is
one member of the sock has no function. The file keeps no state: `sock` has it, and for one call
sockcm_cookie. Read the rows first.
"""

from __future__ import annotations

import errno
import struct
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff
from stack.core import sock_flags, uapi
from stack.core.errors import os_error
from stack.core.filter import (
    sk_attach_bpf,
    sk_attach_filter,
    sk_detach_filter,
    sk_get_filter,
    sk_lock_filter,
)
from stack.core.netdevice import IFNAMSIZ
from stack.core.rows import narrow, wide
from stack.core.sk_mem import SOCK_MIN_SNDBUF
from stack.core.sock import (
    PACING_UNLIMITED,
    SK_CAN_REUSE,
    SK_PACING_FQ,
    SK_PACING_NEEDED,
    SK_PACING_NONE,
    SOCK_MIN_RCVBUF,
    sk_dst_reset,
    sk_is_tcp,
    sk_write_space,
    sock,
    sock_disable_timestamp,
    sock_enable_timestamp,
    sock_valbool_flag,
)
from stack.core.sockaddr import sockaddr_bytes
from stack.core.sockopt_table import (
    ADMIN,
    M32,
    OPTLEN_ANY,
    UNIX,
    Level,
    SockOpt,
    exact_int,
    fact,
    flag,
    get_option,
    need_capable,
    number,
    only,
    opt_bytes,
    opt_int,
    opt_raw,
    opt_struct,
    opt_u32,
    set_option,
    switch,
)
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN
from stack.core.time64 import NSEC_PER_SEC, USEC_PER_SEC
from stack.core.uapi import CAP_NET_RAW
from stack.core.wait import MAX_SCHEDULE_TIMEOUT

if TYPE_CHECKING:
    from stack.core.bsd_socket import socket


class sockcm_cookie:
    """struct sockcm_cookie: socket options that one sendmsg overrides by control messages."""

    __slots__ = ("mark", "priority", "transmit_time", "ts_opt_id", "tsflags")

    def __init__(self, sk: sock, mark: int, priority: int) -> None:
        self.mark = mark
        self.priority = priority
        self.tsflags: int = sk.sk_tsflags
        self.ts_opt_id: int = -1
        """SCM_TS_OPT_ID: the number of the datagram's time stamps; -1: the next."""
        self.transmit_time: int = 0
        """SCM_TXTIME: when the packet is to leave, ns of `sk_clockid`; 0: at once."""


TIMEVAL = struct.Struct("=qq")
TIMESTAMPING = struct.Struct("=6q")
SO_TIMESTAMPING_BYTES = struct.Struct("=ii")
SOCK_TXTIME_BYTES = struct.Struct("=iI")
TXTIME = struct.Struct("=q")
"""A u64 that the kernel, too, compares as a signed number."""
LINGER = struct.Struct("=ii")
UCRED = struct.Struct("=iII")
MEMINFO = struct.Struct("=9I")
COOKIE = struct.Struct("=Q")
PACING_RATE = struct.Struct("=Q")
M64 = 0xFFFFFFFFFFFFFFFF
SKF_AD_MAX = 64


# --- times --------------------------------------------------------------------------------------


def sock_timeout_ns(optval: Any) -> int:
    """net/core/sock.c sock_set_timeout: ns of a struct timeval (or a float of seconds); 0 = never.

    Raises: OSError EDOM, EINVAL.
    """
    if isinstance(optval, int | float):
        ns: wide = int(optval * NSEC_PER_SEC)
        return MAX_SCHEDULE_TIMEOUT if ns == 0 else narrow(min(max(ns, 0), MAX_SCHEDULE_TIMEOUT))
    sec: int
    usec: int
    sec, usec = TIMEVAL.unpack_from(opt_struct(optval, TIMEVAL.size))
    if not 0 <= usec < USEC_PER_SEC:
        raise os_error(errno.EDOM, f"{usec} is not a number of microseconds below a second")
    if sec < 0:
        return 0
    if not sec and not usec:
        return MAX_SCHEDULE_TIMEOUT
    if sec >= MAX_SCHEDULE_TIMEOUT // NSEC_PER_SEC:
        return MAX_SCHEDULE_TIMEOUT
    return sec * NSEC_PER_SEC + usec * 1000


def sock_timeval(timeo_ns: int) -> bytes:
    """net/core/sock.c sock_get_timeout: the struct timeval."""
    if timeo_ns >= MAX_SCHEDULE_TIMEOUT:
        return TIMEVAL.pack(0, 0)
    return TIMEVAL.pack(timeo_ns // NSEC_PER_SEC, timeo_ns % NSEC_PER_SEC // 1000)


# --- buffers and devices ------------------------------------------------------------------------


def __sock_set_rcvbuf(sk: sock, val: int) -> None:
    """net/core/sock.c: Linux doubles the value for its own overhead."""
    sk.sk_flags |= sock_flags.SOCK_RCVBUF_LOCK
    sk.sk_rcvbuf = max(val * 2, SOCK_MIN_RCVBUF)


def __sock_set_sndbuf(sk: sock, val: int) -> None:
    """net/core/sock.c"""
    sk.sk_flags |= sock_flags.SOCK_SNDBUF_LOCK
    sk.sk_sndbuf = max(val * 2, SOCK_MIN_SNDBUF)
    sk_write_space(sk)


def sock_set_rcvbuf(sk: sock, val: int) -> None:
    """SO_RCVBUF: at most the sysctl rmem_max, which -1 asks for."""
    __sock_set_rcvbuf(sk, min(val, sk.net.sysctl.rmem_max))


def sock_set_sndbuf(sk: sock, val: int) -> None:
    """SO_SNDBUF: at most the sysctl wmem_max, which -1 asks for."""
    __sock_set_sndbuf(sk, min(val, sk.net.sysctl.wmem_max))


def sock_set_buf_lock(sk: sock, val: int) -> None:
    """SO_BUF_LOCK: bit 0 keeps the send buffer's size, bit 1 the receive buffer's."""
    sock_valbool_flag(sk, sock_flags.SOCK_SNDBUF_LOCK, bool(val & 1))
    sock_valbool_flag(sk, sock_flags.SOCK_RCVBUF_LOCK, bool(val & 2))


def sock_set_rcvlowat(sk: Any, val: int) -> None:
    """SO_RCVLOWAT; TCP makes room for so much (proto_ops.set_rcvlowat)."""
    low = 0x7FFFFFFF if val < 0 else val
    if sk.sk_socket.ops.set_rcvlowat is not None:
        sk.sk_socket.ops.set_rcvlowat(sk, low)
    else:
        sk.sk_rcvlowat = low or 1


def sock_bindtoindex(sk: sock, ifindex: int) -> None:
    """net/core/sock.c: use one interface only (0 = any), which need not be there yet.

    Raises: OSError EPERM when it is not the first and the user may not; EINVAL.
    """
    if sk.sk_bound_dev_if:
        need_capable(sk.net, (CAP_NET_RAW,), "another interface")
    if ifindex < 0:
        raise os_error(errno.EINVAL, f"{ifindex} is no index of an interface")
    sk.sk_bound_dev_if = ifindex
    if sk.sk_prot.rehash is not None:
        sk.sk_prot.rehash(sk)
    sk_dst_reset(sk)


def sock_setbindtodevice(sk: sock, optval: Any) -> None:
    """net/core/sock.c: SO_BINDTODEVICE, a name or nothing. Raises: OSError ENODEV, EPERM."""
    name = opt_bytes(optval).split(b"\0")[0].decode(errors="replace") if optval else ""
    index = 0
    if name:
        dev = sk.net.dev_by_name.get(name)
        if dev is None:
            raise os_error(errno.ENODEV, f"no device {name!r}")
        index = dev.ifindex
    sock_bindtoindex(sk, index)


def sock_getbindtodevice(sk: sock, optlen: int) -> bytes:
    """net/core/sock.c. Raises: OSError EINVAL for a buffer that no name is sure to fit, ENODEV."""
    if not sk.sk_bound_dev_if:
        return b""
    if 0 <= optlen < IFNAMSIZ:
        raise os_error(errno.EINVAL, f"SO_BINDTODEVICE: a name needs {IFNAMSIZ} bytes")
    dev = sk.net.dev_by_index.get(sk.sk_bound_dev_if)
    if dev is None:
        raise os_error(errno.ENODEV, f"no device with index {sk.sk_bound_dev_if}")
    return dev.name.encode() + b"\0"


# --- how a socket sends and ends ----------------------------------------------------------------


def need_ports(sk: sock, val: int) -> None:
    """SO_REUSEPORT, of families that have ports. Raises: OSError EOPNOTSUPP."""
    if val and sk.sk_family not in (uapi.AF_INET, uapi.AF_INET6):
        raise os_error(errno.EOPNOTSUPP, "SO_REUSEPORT: only for ports")


def sock_set_keepalive(sk: sock, val: int) -> None:
    """net/core/sock.c"""
    if sk.sk_prot.keepalive is not None:
        sk.sk_prot.keepalive(sk, val)
    sock_valbool_flag(sk, sock_flags.SOCK_KEEPOPEN, bool(val))


def sock_set_linger(sk: sock, optval: Any) -> None:
    """SO_LINGER: a struct linger or a pair of ints. Raises: OSError EINVAL."""
    if isinstance(optval, tuple):
        onoff, seconds = optval
    else:
        onoff, seconds = LINGER.unpack_from(opt_struct(optval, LINGER.size))
    sock_valbool_flag(sk, sock_flags.SOCK_LINGER, bool(onoff))
    if onoff:
        sk.sk_lingertime = seconds * NSEC_PER_SEC if seconds >= 0 else MAX_SCHEDULE_TIMEOUT


def sock_get_linger(sk: sock) -> bytes:
    """SO_LINGER: l_linger is -1 for ever, where Linux has the limit of its timers."""
    forever = sk.sk_lingertime >= MAX_SCHEDULE_TIMEOUT
    return LINGER.pack(
        bool(sk.sk_flags & sock_flags.SOCK_LINGER),
        -1 if forever else sk.sk_lingertime // NSEC_PER_SEC,
    )


def sock_set_max_pacing_rate(sk: sock, optval: Any) -> None:
    """SO_MAX_PACING_RATE, bytes a second: an int of 32 bits (-1: no limit) or 8 bytes."""
    if not isinstance(optval, int) and len(opt_bytes(optval)) >= PACING_RATE.size:
        rate = min(int(PACING_RATE.unpack_from(opt_bytes(optval))[0]), PACING_UNLIMITED)
    else:
        rate = opt_u32(optval)
        if rate == M32:
            rate = PACING_UNLIMITED
    sk.sk_pacing_rate = rate
    if sk.sk_pacing_status != SK_PACING_FQ:
        limited = rate != PACING_UNLIMITED
        sk.sk_pacing_status = SK_PACING_NEEDED if limited else SK_PACING_NONE


def sock_get_max_pacing_rate(sk: sock, optlen: int) -> Any:
    """SO_MAX_PACING_RATE: 8 bytes where they fit, else an int, -1 without a limit."""
    if optlen >= PACING_RATE.size:
        return PACING_RATE.pack(pacing_rate(sk))
    rate = min(sk.sk_pacing_rate, M32)
    return rate - (1 << 32) if rate > 0x7FFFFFFF else rate


def pacing_rate(sk: sock) -> wide:
    """sk_pacing_rate as applications see it: bytes per second, ~0UL when nothing limits it."""
    rate: wide = sk.sk_pacing_rate
    return M64 if rate == PACING_UNLIMITED else rate


def sock_set_txtime(sk: sock, optval: Any) -> None:
    """SO_TXTIME, a struct sock_txtime: the clock of SCM_TXTIME, and SOF_TXTIME_*.

    Raises: OSError EINVAL; EPERM for another clock than CLOCK_MONOTONIC.
    """
    data = opt_bytes(optval)
    if len(data) != SOCK_TXTIME_BYTES.size:
        raise os_error(errno.EINVAL, f"SO_TXTIME takes {SOCK_TXTIME_BYTES.size} bytes")
    clockid: int
    flags: int
    clockid, flags = SOCK_TXTIME_BYTES.unpack(data)
    if flags & ~uapi.SOF_TXTIME_FLAGS_MASK:
        raise os_error(errno.EINVAL, f"SO_TXTIME: {flags:#x} has unknown bits")
    if clockid != uapi.CLOCK_MONOTONIC:  # fq, which sends by it, has a horizon
        need_capable(sk.net, ADMIN, f"SO_TXTIME with clock {clockid}")
    if clockid not in (uapi.CLOCK_REALTIME, uapi.CLOCK_MONOTONIC, uapi.CLOCK_TAI):
        raise os_error(errno.EINVAL, f"no packet has a time of clock {clockid}")
    sk.sk_flags |= sock_flags.SOCK_TXTIME
    sk.sk_clockid = clockid
    sk.sk_txtime_deadline_mode = bool(flags & uapi.SOF_TXTIME_DEADLINE_MODE)
    sk.sk_txtime_report_errors = bool(flags & uapi.SOF_TXTIME_REPORT_ERRORS)


def sock_get_txtime(sk: sock) -> bytes:
    """SO_TXTIME: the struct sock_txtime."""
    flags = uapi.SOF_TXTIME_DEADLINE_MODE * sk.sk_txtime_deadline_mode
    flags |= uapi.SOF_TXTIME_REPORT_ERRORS * sk.sk_txtime_report_errors
    return SOCK_TXTIME_BYTES.pack(sk.sk_clockid, flags)


def need_zerocopy(sk: sock, val: int) -> None:
    """SO_ZEROCOPY, of TCP and UDP, is 0 or 1. Raises: OSError EOPNOTSUPP, EINVAL."""
    stream = sk.sk_type == uapi.SOCK_STREAM and sk.sk_protocol == uapi.IPPROTO_TCP
    datagrams = sk.sk_type == uapi.SOCK_DGRAM and sk.sk_protocol == uapi.IPPROTO_UDP
    if sk.sk_family not in (uapi.AF_INET, uapi.AF_INET6) or not (stream or datagrams):
        raise os_error(errno.EOPNOTSUPP, "SO_ZEROCOPY: neither TCP nor UDP")
    if not 0 <= val <= 1:
        raise os_error(errno.EINVAL, f"SO_ZEROCOPY: {val} is neither 0 nor 1")


# --- how a socket receives ----------------------------------------------------------------------


def need_peek_off(sk: sock) -> None:
    """Check that the protocol has SO_PEEK_OFF (set_peek_off). Raises: OSError EOPNOTSUPP."""
    if sk.sk_family == uapi.AF_UNIX or sk.sk_protocol in PEEK_OFF_PROTOCOLS.get(sk.sk_type, ()):
        return
    raise os_error(errno.EOPNOTSUPP, "SO_PEEK_OFF: only TCP, UDP and AF_UNIX")


PEEK_OFF_PROTOCOLS = {
    uapi.SOCK_STREAM: (uapi.IPPROTO_TCP,),
    uapi.SOCK_DGRAM: (uapi.IPPROTO_UDP,),
}
US = sock_flags.SOCK_RCVTSTAMP
NS = sock_flags.SOCK_RCVTSTAMP | sock_flags.SOCK_RCVTSTAMPNS
NEW = sock_flags.SOCK_TSTAMP_NEW
"""The flags of SO_TIMESTAMP, of SO_TIMESTAMPNS, and what their _NEW options add."""


def sock_set_timestamp(kind: int, sk: sock, val: int) -> None:
    """net/core/sock.c: switch the time stamps of this kind on, or all of them off."""
    sock_valbool_flag(sk, sock_flags.SOCK_RCVTSTAMP, bool(val))
    sock_valbool_flag(
        sk, sock_flags.SOCK_RCVTSTAMPNS, bool(val and kind & sock_flags.SOCK_RCVTSTAMPNS)
    )
    if val:
        sock_valbool_flag(sk, sock_flags.SOCK_TSTAMP_NEW, bool(kind & sock_flags.SOCK_TSTAMP_NEW))
        sock_enable_timestamp(sk, sock_flags.SOCK_TIMESTAMP)


def sock_take_timestamping(optval: Any) -> tuple[int, int]:
    """An int of SOF_TIMESTAMPING_*, or a struct so_timestamping: these and a clock's number."""
    if not isinstance(optval, int) and len(opt_bytes(optval)) == SO_TIMESTAMPING_BYTES.size:
        flags: int
        bind_phc: int
        flags, bind_phc = SO_TIMESTAMPING_BYTES.unpack(opt_bytes(optval))
        return flags, bind_phc
    return opt_int(optval), 0


def sock_set_timestamping(new: int, sk: Any, timestamping: tuple[int, int]) -> None:
    """net/core/sock.c: what SO_TIMESTAMPING asks for; `new`: by the option's _NEW number.

    Raises: OSError EINVAL; EOPNOTSUPP for a clock (SOF_TIMESTAMPING_BIND_PHC) of no interface.
    """
    val, _ = timestamping
    if val & ~uapi.SOF_TIMESTAMPING_MASK:
        raise os_error(errno.EINVAL, f"SO_TIMESTAMPING: {val & M32:#x} has unknown bits")
    numbers = val & uapi.SOF_TIMESTAMPING_OPT_ID
    if val & uapi.SOF_TIMESTAMPING_OPT_ID_TCP and not numbers:
        raise os_error(errno.EINVAL, "SOF_TIMESTAMPING_OPT_ID_TCP needs SOF_TIMESTAMPING_OPT_ID")
    if numbers and not sk.sk_tsflags & uapi.SOF_TIMESTAMPING_OPT_ID:
        sk.sk_tskey = sock_first_tskey(sk, val)
    if val & uapi.SOF_TIMESTAMPING_OPT_STATS and not val & uapi.SOF_TIMESTAMPING_OPT_TSONLY:
        raise os_error(errno.EINVAL, "SOF_TIMESTAMPING_OPT_STATS needs ..._OPT_TSONLY")
    if val & uapi.SOF_TIMESTAMPING_BIND_PHC:
        if sk.sk_bound_dev_if not in sk.net.dev_by_index:
            raise os_error(errno.EOPNOTSUPP, "SOF_TIMESTAMPING_BIND_PHC: bind an interface first")
        raise os_error(errno.EINVAL, "the interface has no clock")
    sk.sk_tsflags = val
    sock_valbool_flag(sk, sock_flags.SOCK_TSTAMP_NEW, bool(new))
    told = uapi.SOF_TIMESTAMPING_SOFTWARE | uapi.SOF_TIMESTAMPING_RAW_HARDWARE
    sock_valbool_flag(sk, sock_flags.SOCK_TIMESTAMPING_ANY, bool(val & told))
    if val & uapi.SOF_TIMESTAMPING_RX_SOFTWARE:
        sock_enable_timestamp(sk, sock_flags.SOCK_TIMESTAMPING_RX_SOFTWARE)
    else:
        sock_disable_timestamp(sk, sock_flags.SOCK_TIMESTAMPING_RX_SOFTWARE)


def sock_first_tskey(sk: Any, val: int) -> int:
    """Where SOF_TIMESTAMPING_OPT_ID begins to count. Raises: OSError EINVAL for idle TCP."""
    if not sk_is_tcp(sk):
        return 0
    if sk.sk_state in (TCP_CLOSE, TCP_LISTEN):
        raise os_error(errno.EINVAL, "SOF_TIMESTAMPING_OPT_ID: the connection has no bytes yet")
    first: int = sk.write_seq if val & uapi.SOF_TIMESTAMPING_OPT_ID_TCP else sk.snd_una
    return first


def sock_get_timestamping(new: int, sk: sock, optlen: int) -> Any:
    """SO_TIMESTAMPING: a struct so_timestamping, or its first int where no more fits.

    The _NEW option says nothing while the other is in use.
    """
    flags = sk.sk_tsflags
    if new and not sk.sk_flags & sock_flags.SOCK_TSTAMP_NEW:
        flags = 0
    return SO_TIMESTAMPING_BYTES.pack(flags, 0) if optlen > 4 else flags


# --- state of a socket --------------------------------------------------------------------------


def sock_error(sk: sock) -> int:
    """include/net/sock.h: the pending error, which is cleared; else the soft one."""
    err, sk.sk_err = sk.sk_err, 0
    if not err:
        err, sk.sk_err_soft = sk.sk_err_soft, 0
    return err


def sk_get_meminfo(sk: sock) -> bytes:
    """net/core/sock.c: SO_MEMINFO, the nine numbers of SK_MEMINFO_*."""
    return MEMINFO.pack(
        sk.sk_rmem_alloc,
        sk.sk_rcvbuf,
        sk.sk_wmem_alloc,
        sk.sk_sndbuf,
        max(sk.sk_forward_alloc, 0),
        sk.sk_wmem_queued,
        sk.sk_omem_alloc,
        sk.sk_backlog_len,
        sk.sk_drops,
    )


def sock_get_peername(sk: Any, optlen: int) -> bytes:
    """SO_PEERNAME: the bytes of getpeername's address. Raises: OSError ENOTCONN, EINVAL."""
    try:
        name = sockaddr_bytes(sk.sk_socket.ops.getname(sk.sk_socket, None, 16, 2))
    except OSError:
        raise os_error(errno.ENOTCONN, "the socket has no peer") from None
    if optlen > len(name):
        raise os_error(errno.EINVAL, f"the address has {len(name)} bytes, fewer than {optlen}")
    return name


need_unix = only("sk_family", (uapi.AF_UNIX,), errno.EOPNOTSUPP, "only AF_UNIX passes descriptors")
sk_may_scm_recv = only(
    "sk_family",
    (uapi.AF_UNIX, uapi.AF_NETLINK),
    errno.EOPNOTSUPP,
    "only AF_UNIX and AF_NETLINK tell of the sender",
)


def no_pidfd(sk: sock) -> None:
    """SO_PASSPIDFD: a host has no processes. Raises: OSError EOPNOTSUPP, of AF_UNIX ENOPROTOOPT."""
    need_unix(sk)
    raise os_error(errno.ENOPROTOOPT, "no process of a host has a descriptor")


def peercred(sk: Any) -> tuple[int, int, int]:
    """Process, user and group of an AF_UNIX peer; 0, -1 and -1 of any other socket."""
    if sk.sk_family != uapi.AF_UNIX:
        return 0, M32, M32
    return sk.sk_peer_pid, sk.sk_peer_uid, sk.sk_peer_gid


def sock_get_peergroups(sk: sock) -> bytes:
    """SO_PEERGROUPS: a host's programs have no supplementary groups. Raises: ENODATA."""
    if not peercred(sk)[0]:
        raise os_error(errno.ENODATA, "the socket has no peer of this host")
    return b""


# --- the table ----------------------------------------------------------------------------------


def stamp(name: str, kind: int, what: str, since: str = "") -> SockOpt:
    """A row for one kind of time stamps."""
    setter = partial(sock_set_timestamp, kind)
    mask = kind if kind & NEW else NS | NEW  # SO_TIMESTAMP_NEW is on with SO_TIMESTAMPNS_NEW, too
    return flag(name, kind, what, since=since, mask=mask, set=setter)


def stamping(name: str, new: int, what: str, since: str) -> SockOpt:
    """A row for SO_TIMESTAMPING; `new`: its second number."""
    return SockOpt(
        name,
        what,
        since,
        takes=sock_take_timestamping,
        set=partial(sock_set_timestamping, new),
        fill=partial(sock_get_timestamping, new),
    )


def timeout(name: str, member: str, what: str, since: str = "") -> SockOpt:
    """A row for a struct timeval."""
    return SockOpt(name, what, since, takes=sock_timeout_ns, member=member, shows=sock_timeval)


# fmt: off
SOCKET_LEVEL = Level("SOL_SOCKET", uapi.SOL_SOCKET, vars(uapi), (
    SockOpt("SO_ACCEPTCONN", "whether the socket listens",
        get=lambda sk: sk.sk_state == TCP_LISTEN),
    SockOpt("SO_ATTACH_BPF", "EBADF: there are no extended BPF programs", "3.19",
        set=sk_attach_bpf),
    SockOpt("SO_ATTACH_FILTER", "a classic BPF program for what is received; get: the program",
        takes=opt_raw, set=sk_attach_filter,
        fill=lambda sk, optlen: sk_get_filter(sk, max(optlen, 0))),  # optlen counts instructions
    SockOpt("SO_BINDTODEVICE", "use one interface, by name; CAP_NET_RAW to change it",
        takes=opt_raw, set=sock_setbindtodevice, fill=sock_getbindtodevice),
    number("SO_BINDTOIFINDEX", "sk_bound_dev_if", None,
        "use one interface, by index; CAP_NET_RAW to change it", since="5.1", set=sock_bindtoindex),
    SockOpt("SO_BPF_EXTENSIONS", "how many ancillary loads a filter has", "3.14",
        get=lambda sk: SKF_AD_MAX),
    flag("SO_BROADCAST", sock_flags.SOCK_BROADCAST,
        "may send to broadcast addresses"),
    SockOpt("SO_BUF_LOCK", "buffers whose size is fixed: 1 send, 2 receive", "5.15",
        legal=range(4), set=sock_set_buf_lock, get=lambda sk:
            bool(sk.sk_flags & sock_flags.SOCK_SNDBUF_LOCK)
            | 2 * bool(sk.sk_flags & sock_flags.SOCK_RCVBUF_LOCK)),
    SockOpt("SO_COOKIE", "a number that no other socket of the host has", "4.12",
        get=lambda sk: COOKIE.pack(sk.sk_cookie), room=8),
    flag("SO_DEBUG", sock_flags.SOCK_DBG,
        "log changes of a TCP socket's state (logger stack.inet.tcp_done)",
        caps=ADMIN, free=(0,), denied=errno.EACCES),
    SockOpt("SO_DETACH_FILTER", "remove the filter", then=sk_detach_filter),
    fact("SO_DOMAIN", "sk_family", "AF_INET", "2.6.32"),
    flag("SO_DONTROUTE", sock_flags.SOCK_LOCALROUTE, "to directly connected networks only",
        then=sk_dst_reset),
    SockOpt("SO_ERROR", "the pending error, which is cleared", get=sock_error),
    flag("SO_KEEPALIVE", sock_flags.SOCK_KEEPOPEN, "probe a silent peer", set=sock_set_keepalive),
    SockOpt("SO_LINGER", "close() waits for unsent data, or resets",
        takes=opt_raw, set=sock_set_linger, get=sock_get_linger),
    flag("SO_LOCK_FILTER", sock_flags.SOCK_FILTER_LOCKED, "the filter can no longer change",
        since="3.9", set=lambda sk, val: sk_lock_filter(sk, bool(val))),
    number("SO_MARK", "sk_mark", None, "mark of packets (skb.mark, for netfilter hooks)",
        since="2.6.25", takes=opt_u32, caps=ADMIN, then=sk_dst_reset),
    SockOpt("SO_MAX_PACING_RATE", "bytes a second at most; enforced by fq, else by TCP",
        "3.13", takes=opt_raw, set=sock_set_max_pacing_rate, fill=sock_get_max_pacing_rate),
    SockOpt("SO_MEMINFO", "memory in use, nine numbers", "4.12", get=sk_get_meminfo),
    switch("SO_NO_CHECK", "sk_no_check_tx", "send without UDP checksum"),
    flag("SO_OOBINLINE", sock_flags.SOCK_URGINLINE, "urgent data stays in the stream"),
    flag("SO_PASSCRED", sock_flags.SOCK_PASSCRED,
        "the sender's credentials, as a control message (AF_NETLINK, too)",
        sockets=UNIX, has=sk_may_scm_recv),
    SockOpt("SO_PASSPIDFD", "EOPNOTSUPP, of AF_UNIX ENOPROTOOPT: a host has no processes", "6.5",
        sockets=UNIX, has=no_pidfd, get=no_pidfd, then=no_pidfd),
    flag("SO_PASSRIGHTS", sock_flags.SOCK_PASSRIGHTS, "accept descriptors, as control messages",
        since="6.16", sockets=UNIX, has=need_unix),
    flag("SO_PASSSEC", sock_flags.SOCK_PASSSEC,
        "the sender's label, as a control message: none has one", since="2.6.18", sockets=UNIX,
        has=sk_may_scm_recv),
    number("SO_PEEK_OFF", "sk_peek_off", None, "where MSG_PEEK begins", since="3.4",
        has=need_peek_off),
    SockOpt("SO_PEERCRED", "process, user and group of an AF_UNIX peer; else 0 and -1",
        get=lambda sk: UCRED.pack(*peercred(sk))),
    SockOpt("SO_PEERGROUPS", "supplementary groups of the peer: none", "4.13",
        get=sock_get_peergroups),
    SockOpt("SO_PEERNAME", "the peer's address as a struct sockaddr", fill=sock_get_peername),
    number("SO_PRIORITY", "sk_priority", None, "band of the queueing discipline",
        takes=opt_u32, caps=ADMIN, free=range(7)),
    fact("SO_PROTOCOL", "sk_protocol", "IPPROTO_TCP ...", "2.6.32"),
    number("SO_RCVBUF", "sk_rcvbuf", None, "receive buffer, doubled, at most 2 * rmem_max",
        takes=opt_u32, set=sock_set_rcvbuf),
    SockOpt("SO_RCVBUFFORCE", "the same without the limit", "2.6.14",
        caps=ADMIN, set=__sock_set_rcvbuf),
    number("SO_RCVLOWAT", "sk_rcvlowat", None, "bytes that wake a reader",
        set=sock_set_rcvlowat),
    timeout("SO_RCVTIMEO", "sk_rcvtimeo_ns", "how long a receive may wait"),
    timeout("SO_RCVTIMEO_NEW", "sk_rcvtimeo_ns", "the same as SO_RCVTIMEO", "5.1"),
    flag("SO_REUSEADDR", SK_CAN_REUSE,
        "bind to an address in TIME_WAIT, or one that no socket listens on", "sk_reuse"),
    switch("SO_REUSEPORT", "sk_reuseport", "several sockets on one port, packets spread among them",
        since="3.9", check=need_ports),
    flag("SO_RXQ_OVFL", sock_flags.SOCK_RXQ_OVFL, "datagrams lost so far, as a control message",
        since="2.6.33"),
    flag("SO_SELECT_ERR_QUEUE", sock_flags.SOCK_SELECT_ERR_QUEUE,
        "poll() also sets POLLPRI for the error queue", since="3.10"),
    number("SO_SNDBUF", "sk_sndbuf", None, "send buffer, doubled, at most 2 * wmem_max",
        takes=opt_u32, set=sock_set_sndbuf),
    SockOpt("SO_SNDBUFFORCE", "the same without the limit", "2.6.14",
        caps=ADMIN, set=__sock_set_sndbuf),
    SockOpt("SO_SNDLOWAT", "1", get=lambda sk: 1),
    timeout("SO_SNDTIMEO", "sk_sndtimeo_ns", "how long a send may wait"),
    timeout("SO_SNDTIMEO_NEW", "sk_sndtimeo_ns", "the same as SO_SNDTIMEO", "5.1"),
    stamping("SO_TIMESTAMPING", 0, "times of packets that come and go (SOF_TIMESTAMPING_*)",
        "2.6.30"),
    stamping("SO_TIMESTAMPING_NEW", 1, "the same as SO_TIMESTAMPING, its message by this number",
        "5.1"),
    stamp("SO_TIMESTAMP", US, "time of arrival in us, as a control message"),
    stamp("SO_TIMESTAMPNS", NS, "time of arrival in ns, as a control message", "2.6.22"),
    stamp("SO_TIMESTAMPNS_NEW", NS | NEW, "the same as SO_TIMESTAMPNS, its message by this number",
        "5.1"),
    stamp("SO_TIMESTAMP_NEW", US | NEW, "the same as SO_TIMESTAMP, its message by this number",
        "5.1"),
    SockOpt("SO_TXTIME", "packets may carry their time of departure (SCM_TXTIME), for fq and etf",
        "4.19", takes=opt_raw, set=sock_set_txtime, get=sock_get_txtime),
    fact("SO_TYPE", "sk_type", "SOCK_STREAM ..."),
    flag("SO_ZEROCOPY", sock_flags.SOCK_ZEROCOPY,
        "MSG_ZEROCOPY sends from the caller's memory (TCP and UDP)", since="4.14",
        check=need_zerocopy),
))
# fmt: on


def need_meaning(sk: sock, optname: int) -> None:
    """Refuse options without effect on the protocol. Raises: OSError ENOPROTOOPT."""
    if optname in sk.sk_prot.no_sockopts:
        raise os_error(errno.ENOPROTOOPT, f"option {optname} means nothing to {sk.sk_prot.name}")


def sock_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """net/core/sock.c: SOL_SOCKET. Raises: OSError ENOPROTOOPT, EINVAL, EDOM, ENODEV, EPERM."""
    sk = sock.sk
    sk.sk_tx_flow = None
    need_meaning(sk, optname)
    set_option(SOCKET_LEVEL, sk, optname, optval)


def sock_getsockopt(sock: socket, level: int, optname: int, optlen: int = OPTLEN_ANY) -> Any:
    """net/core/sock.c: an int, or bytes for struct values. Raises: OSError ENOPROTOOPT.

    `optlen` is the size of the caller's buffer, OPTLEN_ANY when any size fits.
    """
    need_meaning(sock.sk, optname)
    return get_option(SOCKET_LEVEL, sock.sk, optname, optlen)


# --- control messages ---------------------------------------------------------------------------


def __sock_cmsg_send(sk: sock, kind: int, data: Any, sockc: sockcm_cookie) -> None:
    """net/core/sock.c: a control message of SOL_SOCKET. Raises: OSError EINVAL, EPERM.

    SCM_RIGHTS and SCM_CREDENTIALS are for AF_UNIX; other families ignore them.
    """
    if kind == uapi.SO_MARK:
        sockc.mark = exact_int(data) & M32
        need_capable(sk.net, ADMIN, "SO_MARK")
    elif kind == uapi.SO_PRIORITY:
        priority = exact_int(data)
        if not 0 <= priority <= 6:
            need_capable(sk.net, ADMIN, f"SO_PRIORITY {priority}")
        sockc.priority = priority & M32
    elif kind in (uapi.SO_TIMESTAMPING, uapi.SO_TIMESTAMPING_NEW):
        asked = exact_int(data) & M32
        if asked & ~uapi.SOF_TIMESTAMPING_TX_RECORD_MASK:
            raise os_error(errno.EINVAL, f"{asked:#x} asks for more than stamps of this packet")
        sockc.tsflags = sockc.tsflags & ~uapi.SOF_TIMESTAMPING_TX_RECORD_MASK | asked
    elif kind == uapi.SCM_TS_OPT_ID:
        if sk_is_tcp(sk) or not sk.sk_tsflags & uapi.SOF_TIMESTAMPING_OPT_ID:
            raise os_error(errno.EINVAL, "SCM_TS_OPT_ID: datagrams with SOF_TIMESTAMPING_OPT_ID")
        sockc.ts_opt_id = exact_int(data) & M32
    elif kind == uapi.SCM_TXTIME:
        sockc.transmit_time = sock_txtime(sk, data)
    elif kind not in (uapi.SCM_RIGHTS, uapi.SCM_CREDENTIALS):
        raise os_error(errno.EINVAL, f"control message {kind} of SOL_SOCKET")


def sock_txtime(sk: sock, data: Any) -> int:
    """SCM_TXTIME: ns, 8 bytes or an int. Raises: OSError EINVAL, also without SO_TXTIME."""
    if not sk.sk_flags & sock_flags.SOCK_TXTIME:
        raise os_error(errno.EINVAL, "SCM_TXTIME: set SO_TXTIME first")
    raw = (data & M64).to_bytes(8, sys.byteorder) if isinstance(data, int) else opt_bytes(data)
    if len(raw) != TXTIME.size:
        raise os_error(errno.EINVAL, f"SCM_TXTIME has {TXTIME.size} bytes")
    when: int = TXTIME.unpack(raw)[0]
    return when


def sock_cmsg_send(sk: sock, control: list[Any]) -> sockcm_cookie:
    """net/core/sock.c: all of SOL_SOCKET among these messages. Raises: OSError EINVAL, EPERM."""
    sockc = sockcm_cookie(sk, sk.sk_mark, sk.sk_priority)
    for level, kind, data in control:
        if level == uapi.SOL_SOCKET:
            __sock_cmsg_send(sk, kind, data, sockc)
    return sockc


def put_cmsg(msg: Any, level: int, kind: int, data: bytes) -> None:
    """net/core/scm.c: add a control message, or mark MSG_CTRUNC when there is no room.

    A message takes 16 bytes of header, its data, and padding to 8.
    """
    if msg.msg_control is None:
        msg.msg_flags |= uapi.MSG_CTRUNC
        return
    need = 16 + len(data)
    if msg.msg_controllen < need:
        msg.msg_flags |= uapi.MSG_CTRUNC
        if msg.msg_controllen < 16:
            return
        data = data[: msg.msg_controllen - 16]
    msg.msg_controllen = max(msg.msg_controllen - (need + 7 & ~7), 0)
    msg.msg_control.append((level, kind, data))


def sock_recv_cmsgs(msg: Any, sk: sock, skb: sk_buff) -> None:
    """include/net/sock.h: receive time stamp and drop count, if the socket enabled them."""
    flags = sk.sk_flags
    if flags & sock_flags.FLAGS_STAMPS:
        sock_recv_timestamp(msg, sk, skb, False)
    elif flags & sock_flags.SOCK_TIMESTAMP:
        sk.sk_stamp_ns = sk.net.machine.realtime_ns(skb.tstamp_ns)
    elif sk.sk_stamp_ns < 0:
        sk.sk_stamp_ns = 0
    if flags & sock_flags.SOCK_RXQ_OVFL and sk.sk_drops:
        put_cmsg(msg, uapi.SOL_SOCKET, uapi.SO_RXQ_OVFL, struct.pack("=I", sk.sk_drops))


def sock_recv_timestamp(msg: Any, sk: sock, skb: sk_buff, err_queue: bool) -> bool:
    """net/socket.c: the times of a packet of the receive or the error queue.

    True when SCM_TIMESTAMPING was among the messages.
    """
    when: int = skb.tstamp_ns
    if when or sk.sk_flags & sock_flags.SOCK_RCVTSTAMP:
        when = sk.net.machine.realtime_ns(when)
    return sock_put_stamps(msg, sk, when, err_queue)


def sock_put_stamps(msg: Any, sk: sock, when: int, err_queue: bool) -> bool:
    """net/socket.c (__sock_recv_timestamp): report a time, ns since 1970; 0: unknown.

    True when SCM_TIMESTAMPING was among the messages.
    """
    if sk.sk_flags & sock_flags.SOCK_RCVTSTAMP:
        sock_put_stamp(msg, sk, when)
    if not when or not sock_tells_stamp(sk.sk_tsflags, err_queue):
        return False
    kind = uapi.SCM_TIMESTAMPING
    if sk.sk_flags & sock_flags.SOCK_TSTAMP_NEW:
        kind = uapi.SO_TIMESTAMPING_NEW
    # The other two times are of hardware: nothing has a clock here.
    put_cmsg(msg, uapi.SOL_SOCKET, kind, TIMESTAMPING.pack(*divmod(when, NSEC_PER_SEC), 0, 0, 0, 0))
    return True


def sock_tells_stamp(tsflags: int, err_queue: bool) -> bool:
    """Whether a socket with these SOF_TIMESTAMPING_* gets software time stamps.

    The packet may be stamped because of other sockets; OPT_RX_FILTER excludes those stamps.
    """
    if not tsflags & uapi.SOF_TIMESTAMPING_SOFTWARE:
        return False
    asked = tsflags & uapi.SOF_TIMESTAMPING_RX_SOFTWARE or err_queue
    return bool(asked or not tsflags & uapi.SOF_TIMESTAMPING_OPT_RX_FILTER)


def sock_put_stamp(msg: Any, sk: sock, stamp: int) -> None:
    """The control message of a receive time, ns since 1970, of the kind that the socket enabled."""
    sec, nsec = divmod(stamp, NSEC_PER_SEC)
    new = sk.sk_flags & sock_flags.SOCK_TSTAMP_NEW
    if sk.sk_flags & sock_flags.SOCK_RCVTSTAMPNS:
        kind = uapi.SO_TIMESTAMPNS_NEW if new else uapi.SCM_TIMESTAMPNS
        put_cmsg(msg, uapi.SOL_SOCKET, kind, TIMEVAL.pack(sec, nsec))
    else:
        kind = uapi.SO_TIMESTAMP_NEW if new else uapi.SCM_TIMESTAMP
        put_cmsg(msg, uapi.SOL_SOCKET, kind, TIMEVAL.pack(sec, nsec // 1000))
