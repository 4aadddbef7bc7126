"""SOL_SOCKET options and control messages (net/core/sock.c: sock_setsockopt, sock_getsockopt).

Option values are ints, or bytes in the layout that Linux uses on a 64-bit machine.
"""

from __future__ import annotations

import errno
import struct
import sys
from typing import TYPE_CHECKING, Any

from fastpath.skbuff import sk_buff
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.filter import (
    sk_attach_bpf,
    sk_attach_filter,
    sk_detach_filter,
    sk_get_filter,
    sk_lock_filter,
)
from stack.core.rows import narrow, wide
from stack.core.sk_mem import SOCK_MIN_SNDBUF, SOCK_SNDBUF_LOCK
from stack.core.sock import (
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    PACING_UNLIMITED,
    SK_CAN_REUSE,
    SOCK_BROADCAST,
    SOCK_DBG,
    SOCK_FILTER_LOCKED,
    SOCK_KEEPOPEN,
    SOCK_LINGER,
    SOCK_LOCALROUTE,
    SOCK_MIN_RCVBUF,
    SOCK_NO_CHECK_TX,
    SOCK_PASSCRED,
    SOCK_PASSRIGHTS,
    SOCK_RCVBUF_LOCK,
    SOCK_RCVTSTAMP,
    SOCK_RCVTSTAMPNS,
    SOCK_RXQ_OVFL,
    SOCK_SELECT_ERR_QUEUE,
    SOCK_TIMESTAMP,
    SOCK_TSTAMP_NEW,
    SOCK_URGINLINE,
    SOCK_ZEROCOPY,
    ns_capable,
    sk_dst_reset,
    sk_write_space,
    sock_enable_timestamp,
    sock_valbool_flag,
)
from stack.core.sockaddr import sockaddr_bytes
from stack.core.tcp_states import TCP_LISTEN
from stack.core.wait import MAX_SCHEDULE_TIMEOUT

if TYPE_CHECKING:
    from stack.core.sock import sock
    from stack.core.socket import socket
    from stack.net import Net


class sockcm_cookie:
    """struct sockcm_cookie: socket options that one sendmsg overrides by control messages."""

    __slots__ = ("mark", "priority")

    def __init__(self, mark: int, priority: int) -> None:
        self.mark = mark
        self.priority = priority


ORDER = sys.byteorder
TIMEVAL = struct.Struct("=qq")
LINGER = struct.Struct("=ii")
UCRED = struct.Struct("=iII")
PACING_RATE = struct.Struct("=Q")
M64 = 0xFFFFFFFFFFFFFFFF
NSEC = 1_000_000_000


def opt_int(optval: Any) -> int:
    """The int of an option value. Raises: OSError EINVAL for fewer than 4 bytes."""
    if isinstance(optval, int):
        return int(optval)
    data = opt_bytes(optval)
    if len(data) < 4:
        raise os_error(errno.EINVAL, f"option value of {len(data)} bytes; an int has 4")
    return int.from_bytes(data[:4], ORDER, signed=True)


def opt_bytes(optval: Any) -> bytes:
    """The bytes of an option value; an int in the machine's order. Raises: OSError EINVAL."""
    if isinstance(optval, int):
        return int_bytes(optval & 0xFFFFFFFF)
    try:
        return bytes(memoryview(optval))
    except TypeError as exc:
        raise os_error(errno.EINVAL, f"{type(optval).__name__} is no option value") from exc


def int_bytes(value: int) -> bytes:
    """An int as control messages and getsockopt carry it."""
    return struct.pack("=i", value - (1 << 32) if value > 0x7FFFFFFF else value)


OPTLEN_ANY = -1
"""optlen of a caller that takes a value of any size."""
IFNAMSIZ = 16
SKF_AD_MAX = 64
SOCK_BUF_LOCK_MASK = 3


def pack_opt(value: Any, optlen: int) -> bytes:
    """What getsockopt writes into a user's buffer of `optlen` bytes."""
    data = int_bytes(value) if isinstance(value, int) else bytes(value)
    return data[:optlen]


def sock_timeout_ns(optval: Any) -> int:
    """net/core/sock.c sock_set_timeout: ns of a struct timeval (or a float of seconds); 0 = never.

    Raises: OSError EDOM, EINVAL.
    """
    if isinstance(optval, int | float):
        ns: wide = int(optval * NSEC)
        return MAX_SCHEDULE_TIMEOUT if ns == 0 else narrow(min(max(ns, 0), MAX_SCHEDULE_TIMEOUT))
    data = opt_bytes(optval)
    if len(data) < TIMEVAL.size:
        raise os_error(errno.EINVAL, "a timeout is a struct timeval of 16 bytes")
    sec: int
    usec: int
    sec, usec = TIMEVAL.unpack_from(data)
    if not 0 <= usec < 1_000_000:
        raise os_error(errno.EDOM, f"{usec} is not a number of microseconds below a second")
    if sec < 0:
        return 0
    if not sec and not usec:
        return MAX_SCHEDULE_TIMEOUT
    if sec >= MAX_SCHEDULE_TIMEOUT // NSEC:
        return MAX_SCHEDULE_TIMEOUT
    return sec * NSEC + usec * 1000


def sock_timeval(timeo_ns: int) -> bytes:
    """net/core/sock.c sock_get_timeout: the struct timeval."""
    if timeo_ns >= MAX_SCHEDULE_TIMEOUT:
        return TIMEVAL.pack(0, 0)
    return TIMEVAL.pack(timeo_ns // NSEC, timeo_ns % NSEC // 1000)


def __sock_set_rcvbuf(sk: sock, val: int) -> None:
    """net/core/sock.c: Linux doubles the value for its own overhead."""
    sk.sk_flags |= SOCK_RCVBUF_LOCK
    sk.sk_rcvbuf = max(val * 2, SOCK_MIN_RCVBUF)


def __sock_set_sndbuf(sk: sock, val: int) -> None:
    """net/core/sock.c"""
    sk.sk_flags |= SOCK_SNDBUF_LOCK
    sk.sk_sndbuf = max(val * 2, SOCK_MIN_SNDBUF)
    sk_write_space(sk)


def sock_bindtoindex(sk: sock, ifindex: int) -> None:
    """net/core/sock.c: use one interface only (0 = any), which need not be there yet.

    Raises: OSError EINVAL.
    """
    if ifindex < 0:
        raise os_error(errno.EINVAL, f"{ifindex} is no index of an interface")
    sk.sk_bound_dev_if = ifindex
    if sk.sk_prot.rehash is not None:
        sk.sk_prot.rehash(sk)
    sk_dst_reset(sk)


def _need_root(net: Net, cap: int, what: str) -> None:
    if not ns_capable(net, cap):
        raise os_error(errno.EPERM, f"{what}: the host's user is {net.uid}, not root")


def sock_set_max_pacing_rate(sk: sock, optval: Any) -> None:
    """SO_MAX_PACING_RATE, bytes a second: an int of 32 bits (-1: no limit) or 8 bytes.

    Only TCP is paced (tcp_pacing.py). Other protocols would need Linux's fq discipline, which the
    stack does not have. Raises: OSError ENOPROTOOPT, EINVAL.
    """
    if sk.sk_protocol != uapi.IPPROTO_TCP:
        raise os_error(errno.ENOPROTOOPT, "SO_MAX_PACING_RATE: only TCP sockets are paced")
    if not isinstance(optval, int) and len(opt_bytes(optval)) >= PACING_RATE.size:
        rate = min(int(PACING_RATE.unpack_from(opt_bytes(optval))[0]), PACING_UNLIMITED)
    else:
        rate = opt_int(optval) & 0xFFFFFFFF
        if rate == 0xFFFFFFFF:
            rate = PACING_UNLIMITED
    sk.sk_pacing_rate = rate
    sk.sk_pacing_status = rate != PACING_UNLIMITED


def pacing_rate(sk: sock) -> wide:
    """sk_pacing_rate as applications see it: bytes per second, ~0UL when nothing limits it."""
    rate: wide = sk.sk_pacing_rate
    return M64 if rate == PACING_UNLIMITED else rate


def sock_set_zerocopy(sk: sock, val: int) -> None:
    """SO_ZEROCOPY, of TCP and UDP. Raises: OSError EOPNOTSUPP, EINVAL."""
    stream = sk.sk_type == uapi.SOCK_STREAM and sk.sk_protocol == uapi.IPPROTO_TCP
    datagrams = sk.sk_type == uapi.SOCK_DGRAM and sk.sk_protocol == uapi.IPPROTO_UDP
    if sk.sk_family not in (uapi.AF_INET, uapi.AF_INET6) or not (stream or datagrams):
        raise os_error(errno.EOPNOTSUPP, "SO_ZEROCOPY: neither TCP nor UDP")
    if not 0 <= val <= 1:
        raise os_error(errno.EINVAL, f"SO_ZEROCOPY: {val} is neither 0 nor 1")
    sock_valbool_flag(sk, SOCK_ZEROCOPY, bool(val))


TIMEO_OPTIONS = frozenset(
    (uapi.SO_RCVTIMEO, uapi.SO_SNDTIMEO, uapi.SO_RCVTIMEO_NEW, uapi.SO_SNDTIMEO_NEW)
)


def need_peek_off(sk: sock) -> None:
    """Check that the protocol has SO_PEEK_OFF (set_peek_off). Raises: OSError EOPNOTSUPP."""
    if sk.sk_family == uapi.AF_UNIX or sk.sk_protocol in PEEK_OFF_PROTOCOLS.get(sk.sk_type, ()):
        return
    raise os_error(errno.EOPNOTSUPP, "SO_PEEK_OFF: only TCP, UDP and AF_UNIX")


PEEK_OFF_PROTOCOLS = {
    uapi.SOCK_STREAM: (uapi.IPPROTO_TCP,),
    uapi.SOCK_DGRAM: (uapi.IPPROTO_UDP,),
}
FLAG_OPTIONS = {
    uapi.SO_DEBUG: SOCK_DBG,
    uapi.SO_BROADCAST: SOCK_BROADCAST,
    uapi.SO_DONTROUTE: SOCK_LOCALROUTE,
    uapi.SO_OOBINLINE: SOCK_URGINLINE,
    uapi.SO_RXQ_OVFL: SOCK_RXQ_OVFL,
    uapi.SO_SELECT_ERR_QUEUE: SOCK_SELECT_ERR_QUEUE,
}


def sock_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """net/core/sock.c: SOL_SOCKET. Raises: OSError ENOPROTOOPT, EINVAL, EDOM, ENODEV, EPERM."""
    sk = sock.sk
    net = sk.net
    sk.sk_tx_flow = None
    if optname in sk.sk_prot.no_sockopts:
        raise os_error(errno.ENOPROTOOPT, f"option {optname} means nothing to {sk.sk_prot.name}")
    flag = FLAG_OPTIONS.get(optname)
    if flag is not None:
        on = bool(opt_int(optval))
        if optname == uapi.SO_DEBUG and on and not ns_capable(net, CAP_NET_ADMIN):
            raise os_error(errno.EACCES, f"SO_DEBUG: the host's user is {net.uid}, not root")
        sock_valbool_flag(sk, flag, on)
        if optname in (uapi.SO_DONTROUTE, uapi.SO_BROADCAST):
            sk_dst_reset(sk)
        return
    if optname == uapi.SO_BINDTODEVICE:
        name = opt_bytes(optval).split(b"\0")[0].decode(errors="replace") if optval else ""
        index = 0
        if name:
            dev = net.dev_by_name.get(name)
            if dev is None:
                raise os_error(errno.ENODEV, f"no device {name!r}")
            index = dev.ifindex
        if sk.sk_bound_dev_if:
            _need_root(net, CAP_NET_RAW, "another SO_BINDTODEVICE")
        sock_bindtoindex(sk, index)
        return
    if optname in TIMEO_OPTIONS:
        timeo_ns = sock_timeout_ns(optval)
        if optname in (uapi.SO_RCVTIMEO, uapi.SO_RCVTIMEO_NEW):
            sk.sk_rcvtimeo_ns = timeo_ns
        else:
            sk.sk_sndtimeo_ns = timeo_ns
        return
    if optname == uapi.SO_MAX_PACING_RATE:
        sock_set_max_pacing_rate(sk, optval)
        return
    if optname == uapi.SO_ATTACH_FILTER:
        sk_attach_filter(sk, optval)
        return
    if optname == uapi.SO_LINGER:
        if isinstance(optval, tuple):
            onoff, seconds = optval
        else:
            if len(opt_bytes(optval)) < LINGER.size:
                raise os_error(errno.EINVAL, "linger is a struct of 8 bytes")
            onoff, seconds = LINGER.unpack_from(opt_bytes(optval))
        sock_valbool_flag(sk, SOCK_LINGER, bool(onoff))
        if onoff:
            sk.sk_lingertime = seconds * NSEC if seconds >= 0 else MAX_SCHEDULE_TIMEOUT
        return
    val = opt_int(optval)
    match optname:
        case uapi.SO_REUSEADDR:
            sk.sk_reuse = SK_CAN_REUSE if val else 0
        case uapi.SO_REUSEPORT:
            if val and sk.sk_family not in (uapi.AF_INET, uapi.AF_INET6):
                raise os_error(errno.EOPNOTSUPP, "SO_REUSEPORT: only for ports")
            sk.sk_reuseport = bool(val)
        case uapi.SO_TYPE | uapi.SO_PROTOCOL | uapi.SO_DOMAIN | uapi.SO_ERROR:
            raise os_error(errno.ENOPROTOOPT, "this option can only be read")
        case uapi.SO_SNDBUF:
            __sock_set_sndbuf(sk, min(val & 0xFFFFFFFF, net.sysctl.wmem_max))  # -1: the maximum
        case uapi.SO_SNDBUFFORCE:
            _need_root(net, CAP_NET_ADMIN, "SO_SNDBUFFORCE")
            __sock_set_sndbuf(sk, max(val, 0))
        case uapi.SO_RCVBUF:
            __sock_set_rcvbuf(sk, min(val & 0xFFFFFFFF, net.sysctl.rmem_max))
        case uapi.SO_RCVBUFFORCE:
            _need_root(net, CAP_NET_ADMIN, "SO_RCVBUFFORCE")
            __sock_set_rcvbuf(sk, max(val, 0))
        case uapi.SO_KEEPALIVE:
            if sk.sk_prot.keepalive is not None:
                sk.sk_prot.keepalive(sk, val)
            sock_valbool_flag(sk, SOCK_KEEPOPEN, bool(val))
        case uapi.SO_NO_CHECK:
            sk.sk_no_check_tx = bool(val)
            sock_valbool_flag(sk, SOCK_NO_CHECK_TX, bool(val))
        case uapi.SO_PRIORITY:
            if not 0 <= val <= 6:
                _need_root(net, CAP_NET_ADMIN, f"SO_PRIORITY {val}")
            sk.sk_priority = val & 0xFFFFFFFF
        case uapi.SO_MARK:
            _need_root(net, CAP_NET_ADMIN, "SO_MARK")
            sk.sk_mark = val & 0xFFFFFFFF
            sk_dst_reset(sk)
        case uapi.SO_RCVLOWAT:
            ops = sock.ops
            low = 0x7FFFFFFF if val < 0 else val
            if ops.set_rcvlowat is not None:
                ops.set_rcvlowat(sk, low)
            else:
                sk.sk_rcvlowat = low or 1
        case uapi.SO_SNDLOWAT:
            raise os_error(errno.ENOPROTOOPT, "SO_SNDLOWAT cannot be changed on Linux")
        case (
            uapi.SO_TIMESTAMP
            | uapi.SO_TIMESTAMPNS
            | uapi.SO_TIMESTAMP_NEW
            | uapi.SO_TIMESTAMPNS_NEW
        ):
            in_ns = optname in (uapi.SO_TIMESTAMPNS, uapi.SO_TIMESTAMPNS_NEW)
            new = optname in (uapi.SO_TIMESTAMP_NEW, uapi.SO_TIMESTAMPNS_NEW)
            sock_valbool_flag(sk, SOCK_RCVTSTAMP, bool(val))
            sock_valbool_flag(sk, SOCK_RCVTSTAMPNS, bool(val) and in_ns)
            if val:
                sock_valbool_flag(sk, SOCK_TSTAMP_NEW, new)
                sock_enable_timestamp(sk, SOCK_TIMESTAMP)
        case uapi.SO_DETACH_FILTER:
            sk_detach_filter(sk)
        case uapi.SO_LOCK_FILTER:
            sk_lock_filter(sk, bool(val))
        case uapi.SO_ATTACH_BPF:
            sk_attach_bpf(sk, val)
        case uapi.SO_PEEK_OFF:
            need_peek_off(sk)
            sk.sk_peek_off = val
        case uapi.SO_BUF_LOCK:
            if val & ~SOCK_BUF_LOCK_MASK:
                raise os_error(errno.EINVAL, f"SO_BUF_LOCK: {val} is not 0 to 3")
            sock_valbool_flag(sk, SOCK_SNDBUF_LOCK, bool(val & 1))
            sock_valbool_flag(sk, SOCK_RCVBUF_LOCK, bool(val & 2))
        case uapi.SO_ZEROCOPY:
            sock_set_zerocopy(sk, val)
        case uapi.SO_PASSCRED:
            if sk.sk_family != uapi.AF_UNIX:
                raise os_error(errno.EOPNOTSUPP, "SO_PASSCRED: only AF_UNIX has credentials")
            sock_valbool_flag(sk, SOCK_PASSCRED, bool(val))
        case uapi.SO_PASSRIGHTS:
            if sk.sk_family != uapi.AF_UNIX:
                raise os_error(errno.EOPNOTSUPP, "SO_PASSRIGHTS: only AF_UNIX passes descriptors")
            sock_valbool_flag(sk, SOCK_PASSRIGHTS, bool(val))
        case uapi.SO_PEERCRED:
            raise os_error(errno.ENOPROTOOPT, "this option can only be read")
        case uapi.SO_BINDTOIFINDEX:
            if sk.sk_bound_dev_if:
                _need_root(net, CAP_NET_RAW, "another SO_BINDTOIFINDEX")
            sock_bindtoindex(sk, val)
        case _:
            raise os_error(errno.ENOPROTOOPT, f"unknown SOL_SOCKET option {optname}")


def sock_getsockopt(sock: socket, level: int, optname: int, optlen: int = OPTLEN_ANY) -> Any:
    """net/core/sock.c: an int, or bytes for struct values. Raises: OSError ENOPROTOOPT.

    `optlen` is the size of the caller's buffer, OPTLEN_ANY when any size fits.
    """
    sk = sock.sk
    if optname in sk.sk_prot.no_sockopts:
        raise os_error(errno.ENOPROTOOPT, f"option {optname} means nothing to {sk.sk_prot.name}")
    flag = FLAG_OPTIONS.get(optname)
    if flag is not None:
        return int(bool(sk.sk_flags & flag))
    match optname:
        case uapi.SO_REUSEADDR:
            return sk.sk_reuse
        case uapi.SO_REUSEPORT:
            return int(sk.sk_reuseport)
        case uapi.SO_ZEROCOPY:
            return int(bool(sk.sk_flags & SOCK_ZEROCOPY))
        case uapi.SO_TYPE:
            return sk.sk_type
        case uapi.SO_PROTOCOL:
            return sk.sk_protocol
        case uapi.SO_DOMAIN:
            return sk.sk_family
        case uapi.SO_ERROR:
            err, sk.sk_err = sk.sk_err, 0
            if not err:
                err, sk.sk_err_soft = sk.sk_err_soft, 0
            return err
        case uapi.SO_SNDBUF:
            return sk.sk_sndbuf
        case uapi.SO_RCVBUF:
            return sk.sk_rcvbuf
        case uapi.SO_KEEPALIVE:
            return int(bool(sk.sk_flags & SOCK_KEEPOPEN))
        case uapi.SO_NO_CHECK:
            return int(sk.sk_no_check_tx)
        case uapi.SO_PRIORITY:
            return sk.sk_priority
        case uapi.SO_MARK:
            return sk.sk_mark
        case uapi.SO_LINGER:
            return LINGER.pack(bool(sk.sk_flags & SOCK_LINGER), linger_seconds(sk))
        case uapi.SO_RCVTIMEO | uapi.SO_RCVTIMEO_NEW:
            return sock_timeval(sk.sk_rcvtimeo_ns)
        case uapi.SO_SNDTIMEO | uapi.SO_SNDTIMEO_NEW:
            return sock_timeval(sk.sk_sndtimeo_ns)
        case uapi.SO_RCVLOWAT:
            return sk.sk_rcvlowat
        case uapi.SO_SNDLOWAT:
            return 1
        case uapi.SO_BINDTODEVICE:
            dev = sk.net.dev_by_index.get(sk.sk_bound_dev_if)
            if dev is None:
                return b""
            if 0 <= optlen < IFNAMSIZ:
                raise os_error(errno.EINVAL, f"SO_BINDTODEVICE: a name needs {IFNAMSIZ} bytes")
            return dev.name.encode() + b"\0"
        case uapi.SO_BINDTOIFINDEX:
            return sk.sk_bound_dev_if
        case uapi.SO_ACCEPTCONN:
            return int(sk.sk_state == TCP_LISTEN)
        case uapi.SO_TIMESTAMP:
            return int(sk.sk_flags & STAMPS == SOCK_RCVTSTAMP)
        case uapi.SO_TIMESTAMPNS:
            return int(sk.sk_flags & STAMPS == SOCK_RCVTSTAMP | SOCK_RCVTSTAMPNS)
        case uapi.SO_TIMESTAMP_NEW:
            return int(sk.sk_flags & STAMPS == SOCK_RCVTSTAMP | SOCK_TSTAMP_NEW)
        case uapi.SO_TIMESTAMPNS_NEW:
            return int(sk.sk_flags & STAMPS == STAMPS)
        case uapi.SO_GET_FILTER:
            return sk_get_filter(sk, max(optlen, 0))
        case uapi.SO_LOCK_FILTER:
            return int(bool(sk.sk_flags & SOCK_FILTER_LOCKED))
        case uapi.SO_PEEK_OFF:
            need_peek_off(sk)
            return sk.sk_peek_off
        case uapi.SO_BUF_LOCK:
            return bool(sk.sk_flags & SOCK_SNDBUF_LOCK) | 2 * bool(sk.sk_flags & SOCK_RCVBUF_LOCK)
        case uapi.SO_BPF_EXTENSIONS:
            return SKF_AD_MAX
        case uapi.SO_PEERNAME:
            return peername(sock, optlen)
        case uapi.SO_PASSCRED if sk.sk_family == uapi.AF_UNIX:
            return int(bool(sk.sk_flags & SOCK_PASSCRED))
        case uapi.SO_PASSCRED:
            raise os_error(errno.EOPNOTSUPP, "SO_PASSCRED: only AF_UNIX has credentials")
        case uapi.SO_PASSRIGHTS if sk.sk_family == uapi.AF_UNIX:
            return int(bool(sk.sk_flags & SOCK_PASSRIGHTS))
        case uapi.SO_PASSRIGHTS:
            raise os_error(errno.EOPNOTSUPP, "SO_PASSRIGHTS: only AF_UNIX passes descriptors")
        case uapi.SO_PEERCRED:
            return UCRED.pack(*peercred(sk))
        case uapi.SO_PEERGROUPS:
            if not peercred(sk)[0]:
                raise os_error(errno.ENODATA, "the socket has no peer of this host")
            return b""  # a host's programs are in no further groups
        case uapi.SO_COOKIE:
            if 0 <= optlen < 8:
                raise os_error(errno.EINVAL, "SO_COOKIE: a cookie has 8 bytes")
            return struct.pack("=Q", sk.sk_cookie)
        case uapi.SO_MEMINFO:
            return struct.pack(
                "=9I",
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
        case uapi.SO_MAX_PACING_RATE if sk.sk_protocol == uapi.IPPROTO_TCP:
            if optlen >= PACING_RATE.size:
                return PACING_RATE.pack(pacing_rate(sk))
            rate = min(sk.sk_pacing_rate, 0xFFFFFFFF)  # as an int: -1, without limit
            return rate - (1 << 32) if rate > 0x7FFFFFFF else rate
        case _:
            raise os_error(errno.ENOPROTOOPT, f"unknown SOL_SOCKET option {optname}")


STAMPS = SOCK_RCVTSTAMP | SOCK_RCVTSTAMPNS | SOCK_TSTAMP_NEW


def linger_seconds(sk: sock) -> int:
    """l_linger of a struct linger; -1: for ever, where Linux has the limit of its timers."""
    return -1 if sk.sk_lingertime >= MAX_SCHEDULE_TIMEOUT else sk.sk_lingertime // NSEC


def peername(sock: socket, optlen: int) -> bytes:
    """SO_PEERNAME: the bytes of getpeername's address. Raises: OSError ENOTCONN, EINVAL."""
    try:
        name = sockaddr_bytes(sock.ops.getname(sock, None, 16, 2))
    except OSError:
        raise os_error(errno.ENOTCONN, "the socket has no peer") from None
    if optlen > len(name):
        raise os_error(errno.EINVAL, f"the address has {len(name)} bytes, fewer than {optlen}")
    return name


def peercred(sk: Any) -> tuple[int, int, int]:
    """Process, user and group of an AF_UNIX peer; 0, -1 and -1 of any other socket."""
    if sk.sk_family != uapi.AF_UNIX:
        return 0, 0xFFFFFFFF, 0xFFFFFFFF
    return sk.sk_peer_pid, sk.sk_peer_uid, sk.sk_peer_gid


def exact_int(data: Any) -> int:
    """The int of a control message, which has 4 bytes and no more. Raises: OSError EINVAL."""
    if not isinstance(data, int) and len(opt_bytes(data)) != 4:
        raise os_error(errno.EINVAL, f"an int of {len(opt_bytes(data))} bytes")
    return opt_int(data)


def __sock_cmsg_send(sk: sock, kind: int, data: Any, sockc: sockcm_cookie) -> None:
    """net/core/sock.c: a control message of SOL_SOCKET. Raises: OSError EINVAL, EPERM.

    SCM_RIGHTS and SCM_CREDENTIALS are for AF_UNIX; other families ignore them.
    """
    if kind == uapi.SO_MARK:
        sockc.mark = exact_int(data) & 0xFFFFFFFF
        _need_root(sk.net, CAP_NET_ADMIN, "SO_MARK")
    elif kind == uapi.SO_PRIORITY:
        priority = exact_int(data)
        if not 0 <= priority <= 6:
            _need_root(sk.net, CAP_NET_ADMIN, f"SO_PRIORITY {priority}")
        sockc.priority = priority & 0xFFFFFFFF
    elif kind not in (uapi.SCM_RIGHTS, uapi.SCM_CREDENTIALS):
        raise os_error(errno.EINVAL, f"control message {kind} of SOL_SOCKET")


def sock_cmsg_send(sk: sock, control: list[Any]) -> sockcm_cookie:
    """net/core/sock.c: all of SOL_SOCKET among these messages. Raises: OSError EINVAL, EPERM."""
    sockc = sockcm_cookie(sk.sk_mark, sk.sk_priority)
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
    """include/net/sock.h: receive time stamp and drop count, when the socket asked for them."""
    flags = sk.sk_flags
    if flags & SOCK_RCVTSTAMP:
        __sock_recv_timestamp(msg, sk, skb)
    elif flags & SOCK_TIMESTAMP:
        sk.sk_stamp_ns = sk.net.machine.realtime_ns(skb.tstamp_ns)
    if flags & SOCK_RXQ_OVFL and sk.sk_drops:
        put_cmsg(msg, uapi.SOL_SOCKET, uapi.SO_RXQ_OVFL, struct.pack("=I", sk.sk_drops))


def __sock_recv_timestamp(msg: Any, sk: sock, skb: sk_buff) -> None:
    """net/socket.c: SCM_TIMESTAMP or SCM_TIMESTAMPNS."""
    sock_put_stamp(msg, sk, sk.net.machine.realtime_ns(skb.tstamp_ns))


def sock_put_stamp(msg: Any, sk: sock, stamp: int) -> None:
    """The message of a time of arrival, ns since 1970, as the socket asked for it."""
    sec, nsec = divmod(stamp, NSEC)
    new = sk.sk_flags & SOCK_TSTAMP_NEW
    if sk.sk_flags & SOCK_RCVTSTAMPNS:
        kind = uapi.SO_TIMESTAMPNS_NEW if new else uapi.SCM_TIMESTAMPNS
        put_cmsg(msg, uapi.SOL_SOCKET, kind, TIMEVAL.pack(sec, nsec))
    else:
        kind = uapi.SO_TIMESTAMP_NEW if new else uapi.SCM_TIMESTAMP
        put_cmsg(msg, uapi.SOL_SOCKET, kind, TIMEVAL.pack(sec, nsec // 1000))
