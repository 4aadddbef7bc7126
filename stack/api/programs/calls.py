"""The implementation of each system call on a host: `CALLS`, by name.

A function gets the `Call` and returns the call's value; None if the kernel shall execute the call,
since it does not concern a host socket. It raises OSError with the call's errno, or `Waiting`
(`Supervisor.wait`) to be called again when the socket may be ready. The host's own sockets never
block.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from fastpath.base.bpf import BPF_MAXINSNS
from fastpath.base.seccomp import get_fd, read_memory, write_memory
from stack.api import net_proc
from stack.api.programs.files import PAGE, TUN, open_file, path_at, stat_file, string_at
from stack.api.programs.filter import AT_SYMLINK_NOFOLLOW, FIONREAD, O_PATH, TIOCOUTQ
from stack.api.programs.memory import (
    MMSGHDR_BYTES,
    MSG_CONTROLLEN,
    MSG_NAMELEN,
    MSGHDR,
    NAME_BYTES,
    NEVER_NS,
    PIECE_BYTES,
    TIMESPEC,
    Iov,
    build_control,
    gather,
    get_iov,
    get_name,
    get_time,
    parse_control,
    put_name,
    total,
    user_buffers,
)
from stack.api.programs.pipes import PIPE_BYTES
from stack.api.programs.placeholder import Opened, Placeholder
from stack.api.programs.rings import Mapped
from stack.api.programs.supervisor import Call, forget, opened, show_at
from stack.api.programs.sysfs import AT_FDCWD, At, find, mode_of, stat_of, statx_of
from stack.api.programs.virtual import Held, get_task_comm, task_tgid_vnr
from stack.core import bsd_socket as sys
from stack.core import uapi
from stack.core.dev_ioctl import (
    BRIDGES,
    IFREQ_BYTES,
    SIOCADDRT,
    SIOCBRADDBR,
    SIOCBRDELBR,
    SIOCDARP,
    SIOCDELRT,
    SIOCDEVPRIVATE,
    SIOCETHTOOL,
    SIOCGARP,
    SIOCGIFCONF,
    SIOCGIFNAME,
    SIOCPROTOPRIVATE,
    SIOCSARP,
    SIOCSIFBR,
    dev_ioctl,
)
from stack.core.errors import os_error
from stack.core.ethtool_ioctl import Memory
from stack.core.file import O_CLOEXEC, vfs_poll, vm_area_struct
from stack.core.filter import SOCK_FPROG
from stack.core.ioctl import SOCK_IOC_TYPE, sys_ioctl
from stack.core.iov import UIO_MAXIOV, msghdr
from stack.core.netdevice import IFNAMSIZ
from stack.core.read_write import vfs_iter_read, vfs_iter_write
from stack.core.rows import narrow, wide
from stack.core.sock import raise_sock_error
from stack.core.sockaddr import sockaddr
from stack.core.splice import SPLICE_F_MORE, SPLICE_F_NONBLOCK
from stack.core.tcp_states import TCP_CLOSE, TCP_SYN_SENT
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.drivers.tun_chr import tun_chr_open
from stack.drivers.tun_ioctl import tun_arg_bytes
from stack.inet.mroute_sockopt import SIOCGETSGCNT
from stack.ipv4.arp_ioctl import ARPREQ
from stack.ipv4.fib_ioctl import RTENTRY, RTENTRY_BYTES, RTENTRY_DEV
from stack.ipv6.inet6_ioctl import IN6_RTMSG
from stack.ipv6.ip6mr_sockopt import SG_REQ6
from stack.netlink.netlink_sock import NETLINK_LIST_MEMBERSHIPS
from stack.packet.packet_sock import PACKET_FANOUT_DATA, PACKET_HDRLEN, TPACKET_HDRLEN

TUN_PATH = TUN.decode()
MAX_OPTLEN = 1 << 16
PIPE_NS = NSEC_PER_MSEC
"""Polling interval for a pipe that splice(2) waits for."""
libc = ctypes.CDLL(None, use_errno=True)
SOCK_FILTER = struct.Struct("=HBBI")
FILTERS = {
    (uapi.SOL_SOCKET, uapi.SO_ATTACH_FILTER),
    (uapi.SOL_PACKET, PACKET_FANOUT_DATA),
}
"""Options that are a struct sock_fprog."""
XFRM_POLICIES = {
    (uapi.SOL_IP, uapi.IP_XFRM_POLICY),
    (uapi.SOL_IPV6, uapi.IPV6_XFRM_POLICY),
}
IFCONF = struct.Struct("=i4xQ")
TELLING = {
    uapi.SIOCGSTAMP: 16,
    uapi.SIOCGSTAMPNS: 16,
    **dict.fromkeys((FIONREAD, TIOCOUTQ, uapi.SIOCOUTQNSD, uapi.SIOCATMARK), 4),
    **dict.fromkeys((uapi.FIOGETOWN, uapi.SIOCGPGRP), 4),
}
"""Size of the result of requests that only write."""
IOCTL_BYTES = {
    **dict.fromkeys((SIOCADDRT, SIOCDELRT), RTENTRY_BYTES),
    **dict.fromkeys((SIOCSARP, SIOCGARP, SIOCDARP), ARPREQ.size),
    **dict.fromkeys((uapi.FIOSETOWN, uapi.SIOCSPGRP), 4),
    **dict.fromkeys((SIOCBRADDBR, SIOCBRDELBR, SIOCSIFBR), IFNAMSIZ),
}
"""Size of a request's struct; others use struct ifreq."""
IOCTL6_BYTES = {SIOCGETSGCNT: SG_REQ6.size, SIOCADDRT: IN6_RTMSG.size, SIOCDELRT: IN6_RTMSG.size}
"""Different sizes for an IPv6 socket."""
OF_INTERFACES = frozenset((*range(SIOCGIFNAME, SIOCPROTOPRIVATE), *range(SIOCDEVPRIVATE, 0x8A00)))
"""Requests about interfaces, supported by any socket."""
SOCK_CLOEXEC = O_CLOEXEC
POLLFD = struct.Struct("=ihh")
MAX_POLLFDS = 1 << 16
ADDRESS_BITS = 47
"""Width of a program's addresses, in bits."""


def i32(value: wide) -> int:
    """An argument that is an int."""
    low = narrow(value & 0xFFFFFFFF)
    return low - (1 << 32) if low >> 31 else low


def ours(
    function: Callable[[Call, Opened], int | None],
    other: Callable[[Call], int | None] = lambda call: None,
) -> Callable[[Call], int | None]:
    """Require a host socket or file as first argument; else call `other`."""

    def call(call: Call) -> int | None:
        at = opened(call)
        return other(call) if at is None else function(call, at)

    return call


def of_socket(function: Callable[[Call, Opened], int | None]) -> Callable[[Call], int | None]:
    """Require a host socket, not another file, as first argument."""

    def call(call: Call) -> int | None:
        at = opened(call)
        if at is None:
            return None
        if at.sock is None:
            raise os_error(errno.ENOTSOCK, f"{call.name} of what is no socket")
        return function(call, at)

    return call


def do_socket(call: Call) -> int | None:
    """socket(2)."""
    family, kind, protocol = i32(call.args[0]), i32(call.args[1]), i32(call.args[2])
    net = call.supervisor.host
    if call.supervisor.down:
        raise call.supervisor.gone(call)
    fd = sys.sys_socket(net, family, (kind & ~SOCK_CLOEXEC) | uapi.SOCK_NONBLOCK, protocol)
    if family == uapi.AF_NETLINK:
        set_tgid(call, sys.sockfd_lookup(net, fd).sk)
    call.supervisor.give(call, fd, bool(kind & uapi.SOCK_NONBLOCK), kind & SOCK_CLOEXEC)
    return None


def set_tgid(call: Call, sk: Any) -> None:
    """Record the process of a netlink socket, which netlink_autobind uses as port id."""
    sk.tgid = task_tgid_vnr(call.tid)
    sk.comm = get_task_comm(call.tid)


def do_bind(call: Call, at: Opened) -> int:
    """bind(2)."""
    name = get_name(call.tid, call.args[1], call.args[2])
    if at.sock.sk.sk_family == uapi.AF_NETLINK:
        set_tgid(call, at.sock.sk)
    sys.sys_bind(call.supervisor.host, at.fd, name)
    return 0


def do_listen(call: Call, at: Opened) -> int:
    """listen(2)."""
    sys.sys_listen(call.supervisor.host, at.fd, i32(call.args[1]))
    return 0


def do_connect(call: Call, at: Opened) -> int:
    """connect(2): a blocking one waits for the handshake."""
    net = call.supervisor.host
    if call.state is None:
        call.state = get_name(call.tid, call.args[1], call.args[2])
    while True:
        # A second call, after the handshake, returns the result.
        try:
            sys.sys_connect(net, at.fd, call.state)
            return 0
        except BlockingIOError:
            if call.supervisor.nonblock(call) or call.state is None:
                raise
        if not sys.sys_poll_one(net, at.fd) & (uapi.POLLOUT | uapi.POLLERR | uapi.POLLHUP):
            late = errno.EINPROGRESS
            call.supervisor.wait(call, at, timeout_ns(at, "sk_sndtimeo_ns", late), late)


def timeout_ns(at: Opened, name: str, late: int = errno.EAGAIN) -> int:
    """SO_RCVTIMEO or SO_SNDTIMEO in ns; 0: none.

    Raises: OSError `late`: the timeout is negative, so the call does not wait.
    """
    value = getattr(at.sock.sk, name, None)
    if value is None:
        return 0
    if value <= 0:
        raise os_error(late, f"{name}=0")
    return int(value) if value < 1 << 62 else 0


def do_accept(call: Call, at: Opened, flags: int = 0) -> int | None:
    """accept(2)."""
    supervisor = call.supervisor
    try:
        fd, name = sys.sys_accept4(supervisor.host, at.fd, uapi.SOCK_NONBLOCK)
    except BlockingIOError:
        if call.supervisor.nonblock(call):
            raise
        supervisor.wait(call, at, timeout_ns(at, "sk_rcvtimeo_ns"))
    try:
        if call.args[1]:
            put_name(call.tid, call.args[1], call.args[2], name)
    except OSError:
        sys.sys_close(supervisor.host, fd)
        raise
    supervisor.give(call, fd, bool(flags & uapi.SOCK_NONBLOCK), flags & SOCK_CLOEXEC)
    return None


def do_accept4(call: Call, at: Opened) -> int | None:
    """accept4(2)."""
    flags = i32(call.args[3])
    if flags & ~(uapi.SOCK_NONBLOCK | SOCK_CLOEXEC):
        raise os_error(errno.EINVAL, f"unknown flags {flags:#o}")
    return do_accept(call, at, flags)


def do_getsockname(call: Call, at: Opened) -> int:
    """getsockname(2)."""
    put_name(call.tid, call.args[1], call.args[2], sys.sys_getsockname(call.supervisor.host, at.fd))
    return 0


def do_getpeername(call: Call, at: Opened) -> int:
    """getpeername(2)."""
    put_name(call.tid, call.args[1], call.args[2], sys.sys_getpeername(call.supervisor.host, at.fd))
    return 0


def do_shutdown(call: Call, at: Opened) -> int:
    """shutdown(2)."""
    sys.sys_shutdown(call.supervisor.host, at.fd, i32(call.args[1]))
    return 0


def do_setsockopt(call: Call, at: Opened) -> int:
    """setsockopt(2)."""
    level, name, size = i32(call.args[1]), i32(call.args[2]), i32(call.args[4])
    if not 0 <= size <= MAX_OPTLEN:
        raise os_error(errno.EINVAL, f"an option of {size} bytes")
    value: Any = bytes(read_memory(call.tid, call.args[3], size))
    if (level, name) in XFRM_POLICIES and not size and not call.args[3]:
        value = None  # removes the policies
    if (level, name) in FILTERS and size == SOCK_FPROG.size:
        value = filter_of(call, *SOCK_FPROG.unpack(value))
    sys.sys_setsockopt(call.supervisor.host, at.fd, level, name, value)
    return 0


def filter_of(call: Call, count: int, addr: wide) -> list[tuple[int, ...]]:
    """The instructions of a struct sock_fprog, in the program's memory."""
    if count > BPF_MAXINSNS:
        raise os_error(errno.EINVAL, f"a filter has 1 to {BPF_MAXINSNS} instructions")
    return list(SOCK_FILTER.iter_unpack(read_memory(call.tid, addr, count * SOCK_FILTER.size)))


def get_filter(call: Call, at: Opened, room: int) -> int:
    """SO_GET_FILTER, with lengths in instructions. Without room it returns their number."""
    found = sys.sys_getsockopt(
        call.supervisor.host, at.fd, uapi.SOL_SOCKET, uapi.SO_GET_FILTER, room
    )
    count = found if isinstance(found, int) else len(found) // SOCK_FILTER.size
    if room:
        write_memory(call.tid, call.args[3], found)
    write_memory(call.tid, call.args[4], struct.pack("=i", count))
    return 0


def get_memberships(call: Call, at: Opened, room: int) -> int:
    """NETLINK_LIST_MEMBERSHIPS: the words that fit; the length covers all."""
    found = sys.sys_getsockopt(
        call.supervisor.host, at.fd, uapi.SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS
    )
    write_memory(call.tid, call.args[3], found[: room & ~3])
    write_memory(call.tid, call.args[4], struct.pack("=i", len(found)))
    return 0


def get_hdrlen(call: Call, at: Opened) -> int:
    """PACKET_HDRLEN of a packet socket, where the program's buffer holds the version."""
    sys.sys_getsockopt(call.supervisor.host, at.fd, uapi.SOL_PACKET, PACKET_HDRLEN, 4)
    (version,) = struct.unpack("=i", read_memory(call.tid, call.args[3], 4))
    if version not in TPACKET_HDRLEN:
        raise os_error(errno.EINVAL, f"no version {version} of rings")
    write_memory(call.tid, call.args[4], struct.pack("=i", 4))
    write_memory(call.tid, call.args[3], struct.pack("=i", TPACKET_HDRLEN[version]))
    return 0


def do_getsockopt(call: Call, at: Opened) -> int:
    """getsockopt(2)."""
    level, name = i32(call.args[1]), i32(call.args[2])
    (room,) = struct.unpack("=i", read_memory(call.tid, call.args[4], 4))
    if room < 0:
        raise os_error(errno.EINVAL, f"room of {room} bytes")
    if (level, name) == (uapi.SOL_SOCKET, uapi.SO_GET_FILTER):
        return get_filter(call, at, room)
    if (level, name) == (uapi.SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS):
        return get_memberships(call, at, room)
    if (level, name) == (uapi.SOL_PACKET, PACKET_HDRLEN) and room >= 4:
        return get_hdrlen(call, at)
    value = sys.sys_getsockopt(
        call.supervisor.host, at.fd, level, name, max(min(room, MAX_OPTLEN), 1)
    )
    data = struct.pack("=i", value) if isinstance(value, int) else bytes(value)
    data = data[:room]
    write_memory(call.tid, call.args[3], data)
    write_memory(call.tid, call.args[4], struct.pack("=i", len(data)))
    return 0


# --- data ----------------------------------------------------------------------------------------


def receive(
    call: Call, at: Opened, iov: Iov, flags: int, msg: msghdr | None = None
) -> tuple[int, msghdr]:
    """Receive into a program's buffers: bytes, and the msghdr with the rest."""
    stream = at.sock.type == uapi.SOCK_STREAM
    done = call.state or 0
    want = total(iov)
    buffers = user_buffers(call.tid, iov, done)
    if msg is None:
        msg = msghdr(None, buffers)
    else:
        msg.set_bufs(buffers if type(buffers) is list else [buffers])
    asks = (flags & ~uapi.MSG_WAITALL if stream else flags) | uapi.MSG_DONTWAIT
    try:
        n = sys.sys_recvmsg(call.supervisor.host, at.fd, msg, asks)
    except BlockingIOError:
        if done and not waits(call, flags):
            return done, msg
        if flags & uapi.MSG_ERRQUEUE or not waits(call, flags):
            raise
        if at.sock.sk.sk_shutdown & uapi.RCV_SHUTDOWN:  # returned instead of waiting
            return 0, msg
        call.supervisor.wait(call, at, timeout_ns(at, "sk_rcvtimeo_ns"))
    except OSError:
        if done:
            return done, msg
        raise
    whole = flags & uapi.MSG_WAITALL and stream and not flags & uapi.MSG_PEEK
    if whole and n and done + n < want:
        call.state = done + n
        if not waits(call, flags):
            return done + n, msg
        return receive(call, at, iov, flags, msg)
    return done + n, msg


def waits(call: Call, flags: int) -> bool:
    """Whether a call may wait."""
    return not (flags & uapi.MSG_DONTWAIT or call.supervisor.nonblock(call))


def send(
    call: Call,
    at: Opened,
    iov: Iov,
    flags: int,
    name: sockaddr | None = None,
    control: list[Any] | None = None,
) -> int:
    """Send a program's buffers: bytes accepted. A blocking stream accepts all."""
    want = total(iov)
    done = call.state or 0
    if call.state is not None:
        flags &= ~uapi.MSG_FASTOPEN  # the SYN was sent
        if waits(call, flags):
            wait_for_syn_data(call, at, done < want)
        if want and done >= want:
            return done
    stream = at.sock.type == uapi.SOCK_STREAM
    while True:
        data: Any
        if stream and not flags & uapi.MSG_ZEROCOPY:
            data = user_buffers(call.tid, iov, done)  # the stream copies them
        elif stream and not done and want <= PIECE_BYTES:
            data = [gather(call.tid, [part]) for part in iov]  # each is a fragment
        else:
            data = gather(call.tid, iov, done)
            if not stream and len(data) < want:
                raise os_error(errno.EMSGSIZE, f"a message of {want} bytes")
        n = send_piece(call, at, msghdr(name, data, control, 0), flags, done)
        if done and not n:
            return done
        done += n
        if n and at.sock.sk.sk_state == TCP_SYN_SENT and waits(call, flags):
            call.state = done
            wait_for_syn_data(call, at, done < want)
        if done >= want or not stream:
            return done


def send_piece(call: Call, at: Opened, msg: msghdr, flags: int, done: int) -> int:
    """Send one message, or wait. The bytes accepted; 0 also for an error after `done` bytes."""
    try:
        all_flags = flags | uapi.MSG_DONTWAIT | uapi.MSG_NOSIGNAL
        return int(sys.sys_sendmsg(call.supervisor.host, at.fd, msg, all_flags))
    except BlockingIOError:
        if waits(call, flags):
            call.state = done
            if flags & uapi.MSG_FASTOPEN and at.sock.sk.sk_state != TCP_SYN_SENT:
                call.woken()  # a peer on this host has already answered
            wait_to_write(call, at)
        if not done:
            raise
    except OSError as exc:
        if not done:
            if exc.errno == errno.EPIPE and not flags & uapi.MSG_NOSIGNAL:
                call.supervisor.sigpipe(call)
            raise
    return 0


def wait_to_write(call: Call, at: Opened) -> NoReturn:
    """Wait as a writer: TCP sends the handshake's last ACK with the data. Raises: Waiting."""
    if call.writes_to is None:
        call.writes_to = at.sock.sk
        at.sock.sk.sk_write_pending += 1
    call.supervisor.wait(call, at, timeout_ns(at, "sk_sndtimeo_ns"))


def wait_for_syn_data(call: Call, at: Opened, rest: bool) -> None:
    """Wait for the connection whose SYN carried a call's first bytes; a `rest` of them may
    remain. Raises: OSError.
    """
    sk = at.sock.sk
    if sk.sk_state == TCP_SYN_SENT:
        if rest:
            wait_to_write(call, at)
        call.supervisor.wait(call, at, timeout_ns(at, "sk_sndtimeo_ns"))
    if sk.sk_state == TCP_CLOSE and at.sock.state == uapi.SS_CONNECTING:
        raise_sock_error(sk)


def do_sendto(call: Call, at: Opened) -> int:
    """sendto(2)."""
    _, addr, size, flags, name_addr, name_len = call.args
    name = sys.move_addr_to_kernel(get_name(call.tid, name_addr, name_len))
    return send(call, at, [(addr, size)], i32(flags), name)


def do_recvfrom(call: Call, at: Opened) -> int:
    """recvfrom(2)."""
    _, addr, size, flags, name_addr, len_addr = call.args
    n, msg = receive(call, at, [(addr, size)], i32(flags))
    if name_addr:
        stream = at.sock.type == uapi.SOCK_STREAM
        name = None if stream else msg.msg_name
        put_name(call.tid, name_addr, len_addr, name, True)
    return n


def do_read(call: Call, at: Opened) -> int:
    """read(2)."""
    if not call.args[2]:
        return 0
    return read_iov(call, at, [(call.args[1], call.args[2])])


def do_readv(call: Call, at: Opened) -> int:
    """readv(2)."""
    return read_iov(call, at, get_iov(call.tid, call.args[1], call.args[2]))


def read_iov(call: Call, at: Opened, iov: Iov) -> int:
    """Read into a program's buffers, from a socket or another file."""
    if at.sock is not None:
        return receive(call, at, iov, 0)[0]
    try:
        buffers = user_buffers(call.tid, iov)
        return vfs_iter_read(call.supervisor.host, at.file, buffers)
    except BlockingIOError:
        if call.supervisor.nonblock(call):
            raise
    call.supervisor.wait(call, at)


def do_write(call: Call, at: Opened) -> int:
    """write(2)."""
    return write_iov(call, at, [(call.args[1], call.args[2])])


def do_writev(call: Call, at: Opened) -> int:
    """writev(2)."""
    return write_iov(call, at, get_iov(call.tid, call.args[1], call.args[2]))


def write_iov(call: Call, at: Opened, iov: Iov) -> int:
    """Write a program's buffers, to a socket or another file, which accepts all at once."""
    if at.sock is not None:
        return send(call, at, iov, 0)
    return vfs_iter_write(call.supervisor.host, at.file, gather(call.tid, iov))


def msg_namelen(addr: wide, size: wide) -> int:
    """net/socket.c copy_msghdr_from_user: bytes of the name. Raises: OSError EINVAL."""
    if not addr:
        return 0
    if i32(size) < 0:
        raise os_error(errno.EINVAL, f"an address of {i32(size)} bytes")
    return min(i32(size), NAME_BYTES)


def send_one(call: Call, at: Opened, addr: wide, flags: int) -> int:
    """Send the message of a struct msghdr."""
    fields = MSGHDR.unpack(read_memory(call.tid, addr, MSGHDR.size))
    name_addr, name_len, iov_addr, iov_len, control_addr, control_len, _ = fields
    if control_len > MAX_OPTLEN:
        raise os_error(errno.ENOBUFS, f"control messages of {control_len} bytes")
    name_len = msg_namelen(name_addr, name_len)
    name = sys.move_addr_to_kernel(get_name(call.tid, name_addr, name_len) or None)
    control = parse_control(bytes(read_memory(call.tid, control_addr, control_len)))
    return send(call, at, get_iov(call.tid, iov_addr, iov_len), flags, name, control or None)


def receive_one(call: Call, at: Opened, addr: wide, flags: int) -> int:
    """Receive a message into a struct msghdr."""
    fields = MSGHDR.unpack(read_memory(call.tid, addr, MSGHDR.size))
    name_addr, name_len, iov_addr, iov_len, control_addr, control_len, _ = fields
    msg_namelen(name_addr, name_len)
    iov = get_iov(call.tid, iov_addr, iov_len)
    room = min(control_len, MAX_OPTLEN)
    msg = msghdr(None, [], [] if control_addr else None, 0)
    msg.msg_controllen = room
    n, msg = receive(call, at, iov, flags, msg)
    control, cut = build_control(msg.msg_control, room)
    if name_addr:
        put_name(call.tid, name_addr, addr + MSG_NAMELEN, msg.msg_name, True)
    if control:
        write_memory(call.tid, control_addr, control)
    told = struct.pack("=Qi", len(control), msg.msg_flags | cut)
    write_memory(call.tid, addr + MSG_CONTROLLEN, told)
    return n


def do_sendmsg(call: Call, at: Opened) -> int:
    """sendmsg(2)."""
    return send_one(call, at, call.args[1], i32(call.args[2]))


def do_recvmsg(call: Call, at: Opened) -> int:
    """recvmsg(2)."""
    return receive_one(call, at, call.args[1], i32(call.args[2]))


def many(call: Call, at: Opened, one: Callable[[Call, Opened, wide, int], int]) -> int:
    """sendmmsg(2) and recvmmsg(2): process messages until one fails.

    A blocking call waits for each, with MSG_WAITFORONE for the first.
    """
    _, addr, count, flags = call.args[:4]
    while call.messages < min(count & 0xFFFFFFFF, UIO_MAXIOV):
        here = addr + call.messages * MMSGHDR_BYTES
        at_once = uapi.MSG_DONTWAIT if call.messages and flags & uapi.MSG_WAITFORONE else 0
        try:
            n = one(call, at, here, (i32(flags) & ~uapi.MSG_WAITFORONE) | at_once)
            write_memory(call.tid, here + MSGHDR.size, struct.pack("=I", n))
        except OSError as exc:
            if not call.messages:
                raise
            if one is receive_one and exc.errno != errno.EAGAIN:
                at.sock.sk.sk_err = exc.errno  # the next call returns it
            break
        call.state = None
        call.messages += 1
        if call.deadline is not None and call.supervisor.host.clock.now_ns() >= call.deadline:
            break
    return call.messages


def do_sendmmsg(call: Call, at: Opened) -> int:
    """sendmmsg(2)."""
    return many(call, at, send_one)


def do_recvmmsg(call: Call, at: Opened) -> int:
    """recvmmsg(2). As on Linux the timeout is checked after each message, so it ends no wait;
    a socket error is returned even for zero messages."""
    if not call.messages and not call.args[3] & uapi.MSG_ERRQUEUE:
        raise_sock_error(at.sock.sk)
    clock, addr = call.supervisor.host.clock, call.args[4]
    if addr and call.deadline is None:
        call.deadline = min(clock.now_ns() + get_time(call.tid, addr), NEVER_NS)
    done = many(call, at, receive_one)
    if call.deadline is not None:
        left = max(call.deadline - clock.now_ns(), 0)
        write_memory(call.tid, addr, TIMESPEC.pack(*divmod(left, NSEC_PER_SEC)))
    return done


def do_sendfile(call: Call, at: Opened) -> int:
    """sendfile(2) to a socket: the file is read here. A blocking socket accepts all."""
    _, number, offset_addr, count = call.args[:4]
    fd = get_fd(call.tid, number & 0xFFFFFFFF)
    done = call.state or 0
    try:
        if offset_addr:
            (offset,) = struct.unpack("=q", read_memory(call.tid, offset_addr, 8))
        else:
            offset = os.lseek(fd, 0, os.SEEK_CUR)
        while done < count:
            data = os.pread(fd, min(count - done, PIECE_BYTES), offset)
            if not data:
                break
            n = send_piece(call, at, msghdr(None, [bytearray(data)], None, 0), 0, done)
            if not n:
                break
            # After each piece, as a waiting call resumes here.
            offset += n
            done += n
            if offset_addr:
                write_memory(call.tid, offset_addr, struct.pack("=q", offset))
            else:
                os.lseek(fd, offset, os.SEEK_SET)
        return done
    finally:
        os.close(fd)


def do_splice(call: Call) -> int | None:
    """splice(2) between a pipe and a stream socket, whose bytes are copied.

    Data that one end does not accept stays in the other.
    """
    supervisor = call.supervisor
    if call.socket is None:
        source, into = (supervisor.at(call.tid, call.args[at]) for at in (0, 2))
        if source is None and into is None:
            return None
        of_source, of_target = call.args[1], call.args[3]
        if of_target if into is None else of_source:
            raise os_error(errno.ESPIPE, "a pipe has no offset")
        if of_source or of_target:
            raise os_error(errno.EINVAL, "a socket has no offset")
        ends = (call.args[0], call.args[2]) if into is None else (call.args[2], call.args[0])
        call.args = (*ends, *call.args[4:], int(into is None))  # the socket's number is the first
    at = opened(call)
    if at is None:
        return None
    if call.held is not None:  # the pipe is polled
        forget(supervisor, call)
        call.held = None
    pipe = get_fd(call.tid, call.args[1] & 0xFFFFFFFF)
    try:
        mode = fcntl.fcntl(pipe, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH)
        if mode not in (os.O_RDWR, os.O_WRONLY if call.args[4] else os.O_RDONLY):
            raise os_error(errno.EBADF, "the pipe's other end")
        if (
            not stat.S_ISFIFO(os.fstat(pipe).st_mode)
            or at.sock is None
            or at.sock.type != uapi.SOCK_STREAM
        ):
            raise os_error(errno.EINVAL, "splice is for a pipe and a stream socket")
        if call.args[4]:
            moved = splice_from_socket(call, at, pipe)
        else:
            moved = splice_to_socket(call, at, pipe)
        if moved < 0 and (
            call.args[3] & SPLICE_F_NONBLOCK or (call.args[4] and not os.get_blocking(pipe))
        ):
            raise os_error(errno.EAGAIN, "the pipe is not ready")
    finally:
        os.close(pipe)
    if moved >= 0:
        return moved
    forget(supervisor, call)
    virtual = supervisor.attached is not None
    supervisor.hold(call, Held(NEVER_NS if virtual else supervisor.clock.now_ns() + PIPE_NS))


def splice_to_socket(call: Call, at: Opened, pipe: int) -> int:
    """fs/splice.c: splice from a pipe until it is empty. -1: it was empty."""
    done = call.state or 0
    size = narrow(call.args[2])
    flags = uapi.MSG_MORE if call.args[3] & SPLICE_F_MORE else 0
    out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while done < size:
            copied = libc.tee(pipe, into, min(size - done, PIECE_BYTES), SPLICE_F_NONBLOCK)
            if copied < 0 and not done:
                return -1
            if copied <= 0:
                break
            data = bytearray(os.read(out, copied))
            sent = send_piece(call, at, msghdr(None, [data], None, 0), flags, done)
            if not sent:
                break
            os.read(pipe, sent)
            done += sent
    finally:
        os.close(out)
        os.close(into)
    return done


def splice_from_socket(call: Call, at: Opened, pipe: int) -> int:
    """net/ipv4/tcp.c tcp_splice_read: splice what fits the pipe; -1: it is full.

    Raises: OSError EAGAIN, EPIPE ...
    """
    host, size = call.supervisor.host, narrow(min(call.args[2], PIPE_BYTES))
    data = bytearray(size)
    try:
        n = sys.sys_recvmsg(host, at.fd, msghdr(None, [data]), uapi.MSG_DONTWAIT | uapi.MSG_PEEK)
    except BlockingIOError:
        if call.supervisor.nonblock(call):
            raise
        call.supervisor.wait(call, at, timeout_ns(at, "sk_rcvtimeo_ns"))
    if not n:
        return 0
    out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(into, data[:n])
        moved = os.splice(out, pipe, n, flags=SPLICE_F_NONBLOCK)
    except BlockingIOError:
        return -1
    except BrokenPipeError:
        call.supervisor.sigpipe(call)
        raise
    finally:
        os.close(out)
        os.close(into)
    rest = msghdr(None, [bytearray(moved)])
    return int(sys.sys_recvmsg(host, at.fd, rest, uapi.MSG_DONTWAIT))


def do_mmap(call: Call) -> int | None:
    """mmap(2) of a packet socket's ring: the kernel maps the ring's file."""
    supervisor, number = call.supervisor, call.args[4] & 0xFFFFFFFF
    at = supervisor.at(call.tid, number)
    if at is None:
        return None
    if supervisor.down:
        raise supervisor.gone(call)
    if at.sock is None:
        raise os_error(errno.ENODEV, "what is open cannot be mapped")
    size, offset = call.args[1], call.args[5]
    if offset % PAGE:
        raise os_error(errno.EINVAL, f"a mapping begins with a page, not at {offset}")
    if size >> ADDRESS_BITS:
        raise os_error(errno.ENOMEM, f"a mapping of {size} bytes")
    mapped = Mapped(call.tid)
    vma = vm_area_struct(size, offset // PAGE, mapped)
    sys.sys_mmap(supervisor.host, at.fd, vma)
    mapped.inode = os.fstat(vma.vm_file).st_ino
    supervisor.lend(call, number, vma.vm_file)
    supervisor.has_ring(at)
    return None


def do_ioctl(call: Call) -> int | None:
    """ioctl(2) of a socket. Requests about interfaces are for the host even on other
    sockets (libc's if_indextoname uses AF_UNIX)."""
    at = opened(call)
    if at is not None:
        return ioctl(call, at.fd) if at.sock is not None else file_ioctl(call, at)
    supervisor = call.supervisor
    if (
        call.args[1] & 0xFFFFFFFF not in OF_INTERFACES
        or supervisor.listener.inode(call.tid, call.args[0] & 0xFFFFFFFF) < 0
    ):
        return None
    if supervisor.down:
        raise supervisor.gone(call)
    fd = sys.sys_socket(supervisor.host, uapi.AF_UNIX, uapi.SOCK_DGRAM)
    try:
        return ioctl(call, fd)
    finally:
        sys.sys_close(supervisor.host, fd)


def file_ioctl(call: Call, at: Opened) -> int:
    """ioctl(2) of /dev/net/tun, which is not a socket."""
    request, arg = call.args[1] & 0xFFFFFFFF, call.args[2]
    size = tun_arg_bytes(request)
    if not size:
        return narrow(sys_ioctl(call.supervisor.host, at.fd, request, i32(arg)) or 0)
    before = bytes(read_memory(call.tid, arg, size))
    more = tun_arg_bytes(request, before) - size
    before += bytes(read_memory(call.tid, arg + size, more))
    room = bytearray(before)
    value = sys_ioctl(call.supervisor.host, at.fd, request, room)
    if room != before:
        write_memory(call.tid, arg, room)
    return int(value or 0)


def ioctl(call: Call, fd: int) -> int:
    """ioctl(2) of the host's socket `fd`. A struct points to the program's memory, so the stack
    must not follow its pointers."""
    net = call.supervisor.host
    request, addr = call.args[1] & 0xFFFFFFFF, call.args[2]
    if request == SIOCGIFCONF:
        return get_ifconf(call, fd, addr)
    if request in (SIOCETHTOOL, *BRIDGES):
        size = IOCTL_BYTES.get(request, IFREQ_BYTES)
        ifr = bytearray(read_memory(call.tid, addr, size)).ljust(IFREQ_BYTES, b"\0")
        dev_ioctl(net, request, ifr, memory_of(call))
        return 0
    if request in TELLING:  # a socket error is returned before EFAULT
        room = bytearray(IFREQ_BYTES)
        try:
            value = sys_ioctl(net, fd, request, room)
        except OSError as exc:
            if exc.errno == errno.ENOTTY and request >> 8 == SOCK_IOC_TYPE:
                read_memory(call.tid, addr, IFREQ_BYTES)  # the interface is checked last
            raise
        write_memory(call.tid, addr, room[: TELLING[request]])
        return int(value or 0)
    size = IOCTL_BYTES.get(request, IFREQ_BYTES)
    if request in IOCTL6_BYTES and sys.sockfd_lookup(net, fd).sk.sk_family == uapi.AF_INET6:
        size = IOCTL6_BYTES[request]
    before = read_memory(call.tid, addr, size)
    room = bytearray(before)
    if size == RTENTRY_BYTES:  # IPv4's route; IPv6's has no pointer
        return set_route(call, fd, request, room)
    value = sys_ioctl(net, fd, request, room)
    if room != before:
        write_memory(call.tid, addr, room)
    return int(value or 0)


def set_route(call: Call, fd: int, request: int, room: bytearray) -> int:
    """SIOCADDRT, SIOCDELRT: struct rtentry may point to the name of an interface."""
    fields = list(RTENTRY.unpack_from(room))
    name = ctypes.create_string_buffer(IFNAMSIZ)
    if fields[RTENTRY_DEV]:
        text = string_at(call.tid, fields[RTENTRY_DEV], IFNAMSIZ)
        if text is None:
            raise os_error(errno.ENODEV, "the name of the route's interface is too long")
        name.value = text
        fields[RTENTRY_DEV] = ctypes.addressof(name)
    RTENTRY.pack_into(room, 0, *fields)
    sys_ioctl(call.supervisor.host, fd, request, room)
    return 0


def memory_of(call: Call) -> Memory:
    """The memory access object for a program."""

    def read(address: wide, size: int) -> bytes:
        return bytes(read_memory(call.tid, address, size))

    def write(address: wide, data: bytes) -> None:
        write_memory(call.tid, address, data)

    return Memory(read, write)


def get_ifconf(call: Call, fd: int, addr: wide) -> int:
    """SIOCGIFCONF: struct ifconf points to a buffer; a null pointer queries the needed size."""
    size, there = IFCONF.unpack(read_memory(call.tid, addr, IFCONF.size))
    room = ctypes.create_string_buffer(max(min(size, MAX_OPTLEN), 1))
    here = ctypes.addressof(room) if there else 0
    asked = bytearray(IFCONF.pack(min(size, MAX_OPTLEN), here))
    sys_ioctl(call.supervisor.host, fd, SIOCGIFCONF, asked)
    found, _ = IFCONF.unpack(asked)
    if there:
        write_memory(call.tid, there, room.raw[:found])
    write_memory(call.tid, addr, IFCONF.pack(found, there))
    return 0


# --- files ---------------------------------------------------------------------------------------


def path_of(call: Call, name: int) -> str | None:
    """The path in the argument `name`, if it is handled here. A later argument is relative to
    the directory in the first."""
    if call.supervisor.down:
        return None
    directory = i32(call.args[0]) if name else AT_FDCWD
    return path_at(call.tid, call.args[name], call.supervisor.tree, directory)


def open_path(call: Call, name: int, flags: int) -> None:
    """Open a network file of the host; some in /sys/class/net and /proc/sys/net can be
    written."""
    supervisor = call.supervisor
    path = None if flags & O_PATH else path_of(call, name)
    if path is None:
        return
    if path == TUN_PATH:
        open_tun(call, flags)
        return
    fd = open_file(supervisor.host, supervisor.tree, path, flags)
    if fd is None:
        return
    try:
        supervisor.give_file(call, fd, flags & O_CLOEXEC)
    finally:
        os.close(fd)


def open_tun(call: Call, flags: int) -> None:
    """open(2) of /dev/net/tun: a file of the host's driver."""
    if flags & os.O_DIRECTORY:
        raise os_error(errno.ENOTDIR, f"{TUN_PATH} is no directory")
    fd = tun_chr_open(call.supervisor.host, flags & os.O_ACCMODE | uapi.O_NONBLOCK)
    call.supervisor.give(call, fd, bool(flags & uapi.O_NONBLOCK), flags & O_CLOEXEC)


def do_open(call: Call) -> None:
    """open(2)."""
    open_path(call, 0, i32(call.args[1]))


def do_openat(call: Call) -> None:
    """openat(2)."""
    open_path(call, 1, i32(call.args[2]))


def do_openat2(call: Call) -> None:
    """openat2(2): struct open_how begins with the flags."""
    (flags,) = struct.unpack("=Q", read_memory(call.tid, call.args[2], 8))
    open_path(call, 1, flags)


def of_file(
    function: Callable[[Call, At, wide], int | None], name: int
) -> Callable[[Call], int | None]:
    """A call on such a file: `name` is the path argument, the next one is given."""

    def call(call: Call) -> int | None:
        path = path_of(call, name)
        at = None if path is None else find(path)
        return None if at is None else function(call, at, call.args[name + 1])

    return call


def stat_at(call: Call, name: int) -> tuple[os.stat_result, int] | None:
    """The stat(2) result of a host file, whose path is the argument `name`, and its size."""
    path = path_of(call, name)
    if path is None or (path == net_proc.ROOT and not follows(call)):
        return None
    return stat_file(call.supervisor.host, call.supervisor.tree, path)


def follows(call: Call) -> bool:
    """Whether a stat(2) variant follows a link at the end of its path."""
    flags = {"newfstatat": 3, "statx": 2}.get(call.name)
    if flags is None:
        return call.name == "stat"
    return not call.args[flags] & AT_SYMLINK_NOFOLLOW


def do_stat(call: Call) -> int | None:
    """stat(2) and its variants."""
    name = int(call.name == "newfstatat")
    found = stat_at(call, name)
    if found is None:
        return None
    write_memory(call.tid, call.args[1 + name], stat_of(*found, os.uname().machine))
    return 0


def do_statx(call: Call) -> int | None:
    """statx(2)."""
    found = stat_at(call, 1)
    if found is None:
        return None
    write_memory(call.tid, call.args[4], statx_of(*found))
    return 0


def do_readlink(call: Call, at: At, room: wide) -> int | None:
    """readlink(2) and its variants, as realpath(3) calls them. /proc/net is a link to
    self/net, which the kernel handles."""
    if not at.path:
        return None
    text = at.tree.link(call.supervisor.host, at.path)
    if text is None:
        raise os_error(errno.EINVAL, f"{at} is no symbolic link")
    size = i32(call.args[2 + (call.name == "readlinkat")])
    if size <= 0:
        raise os_error(errno.EINVAL, f"room for {size} bytes")
    found = text.encode()[:size]
    write_memory(call.tid, room, found)
    return len(found)


def do_access(call: Call, at: At, mode: wide) -> int:
    """access(2) and its variants: root may read and write all files."""
    if not mode_of(call.supervisor.host, at) & 0o111 and mode & os.X_OK:
        raise os_error(errno.EACCES, f"{at}")
    return 0


def do_write_file(call: Call) -> int | None:
    """write(2) to a file opened for writing, not a host socket."""
    supervisor = call.supervisor
    if not supervisor.tree.writers:
        return None
    at = supervisor.tree.writers.get(supervisor.listener.inode(call.tid, call.args[0] & 0xFFFFFFFF))
    if at is None:
        return None
    size = min(call.args[2], PAGE)
    text = bytes(read_memory(call.tid, call.args[1], size)).decode("ascii", "replace")
    at.tree.store(supervisor.host, at.path, text)
    return size


# --- waiting: the kernel does, on what placeholders show -------------------------------------


def show(call: Call, numbers: Iterable[int]) -> dict[int, Placeholder]:
    """Update the placeholders of these numbers; returns the sockets."""
    supervisor = call.supervisor
    found: dict[int, Placeholder] = {}
    if supervisor.down:
        return found
    for number in numbers:
        at: Placeholder | None = supervisor.at(call.tid, number)
        if at is not None:
            found[number] = at
            show_at(supervisor, call.tid, number, at)
    return found


def poll_bits(call: Call, at: Placeholder) -> int:
    """POLL* bits of a socket or another file. Raises: OSError EBADF."""
    if at.sock is None:
        return vfs_poll(at.file)
    return narrow(sys.sys_poll_one(call.supervisor.host, at.fd))


def do_poll(call: Call) -> int | None:
    """poll(2) and ppoll(2): the kernel waits; errors that cannot be shown return at once.

    This is an error of a datagram socket. The next call reports the other descriptors.
    """
    addr, count = call.args[0], call.args[1]
    if count > MAX_POLLFDS:
        return None
    rows = list(POLLFD.iter_unpack(bytes(read_memory(call.tid, addr, POLLFD.size * count))))
    sockets = show(call, (number for number, _, _ in rows if number >= 0))
    bits = {number: poll_bits(call, at) for number, at in sockets.items()}
    special = uapi.POLLERR | uapi.POLLHUP
    if not any(sockets[number].hides(found) for number, found in bits.items()):
        return None
    told = [
        (number, events, bits.get(number, 0) & (events | special)) for number, events, _ in rows
    ]
    write_memory(call.tid, addr, b"".join(POLLFD.pack(*row) for row in told))
    return len([row for row in told if row[2]])


def numbers_at(tid: int, addr: wide, count: int) -> list[int]:
    """The descriptors below `count` of the set at `addr`, the lowest first. Null is empty."""
    if not addr or not count:
        return []
    data = read_memory(tid, addr, (count + 63) // 64 * 8)
    bits = int.from_bytes(data, "little") & (1 << count) - 1
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def do_select(call: Call) -> None:
    """select(2) and pselect6(2) for reading alone: the kernel waits, on updated placeholders."""
    count = min(max(i32(call.args[0]), 0), MAX_POLLFDS)
    show(call, numbers_at(call.tid, call.args[1], count))


def do_epoll_wait(call: Call) -> None:
    """epoll_wait(2) and epoll_pwait(2) without waiting: the kernel checks updated placeholders."""


CALLS: dict[str, Callable[[Call], int | None]] = {
    "socket": do_socket,
    "splice": do_splice,
    "mmap": do_mmap,
    "ioctl": do_ioctl,
    "open": do_open,
    "openat": do_openat,
    "openat2": do_openat2,
    "stat": do_stat,
    "lstat": do_stat,
    "newfstatat": do_stat,
    "statx": do_statx,
    "readlink": of_file(do_readlink, 0),
    "readlinkat": of_file(do_readlink, 1),
    "access": of_file(do_access, 0),
    "faccessat": of_file(do_access, 1),
    "faccessat2": of_file(do_access, 1),
    "select": do_select,
    "pselect6": do_select,
    "epoll_wait": do_epoll_wait,
    "epoll_pwait": do_epoll_wait,
    "poll": do_poll,
    "ppoll": do_poll,
    **{
        name: of_socket(function)
        for name, function in {
            "accept": do_accept,
            "accept4": do_accept4,
            "bind": do_bind,
            "connect": do_connect,
            "getpeername": do_getpeername,
            "getsockname": do_getsockname,
            "getsockopt": do_getsockopt,
            "listen": do_listen,
            "recvfrom": do_recvfrom,
            "recvmmsg": do_recvmmsg,
            "recvmsg": do_recvmsg,
            "sendfile": do_sendfile,
            "sendmmsg": do_sendmmsg,
            "sendmsg": do_sendmsg,
            "sendto": do_sendto,
            "setsockopt": do_setsockopt,
            "shutdown": do_shutdown,
        }.items()
    },
    "read": ours(do_read),
    "readv": ours(do_readv),
    "write": ours(do_write, do_write_file),
    "writev": ours(do_writev),
}
