"""Sockets of a host with the standard library's interface, over the sys_* calls.

    sock = host.socket(AF_INET, SOCK_STREAM)
    sock.connect(("10.0.0.2", 80))
    sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")

Blocking calls sleep on the host's clock: under a virtual clock they advance virtual time, with a
RealClock running in a thread they block the calling thread.
"""

from __future__ import annotations

import array
import errno
import functools
import operator
import os
from collections.abc import Iterable, Sequence
from sys import byteorder
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, Self, TypeAlias, cast, overload

from fastpath.base.freshbytes import FreshBytes, first_bytes
from fastpath.errors import ArgumentError, ArgumentTypeError, check_type, whole_number
from fastpath.net.udp_batches import mmsg_recv, mmsg_send
from stack.api.netdb import (
    NI_DGRAM,
    NI_NAMEREQD,
    NI_NOFQDN,
    NI_NUMERICHOST,
    NI_NUMERICSERV,
    getaddrinfo,
    gethostbyaddr,
    gethostbyname,
    gethostbyname_ex,
    getnameinfo,
    resolve,
)
from stack.api.select import timeout_ns
from stack.api.sockaddr import (
    CACHED,
    Address,
    RetAddress,
    inet6_aton,
    inet6_ntoa,
    inet_aton,
    inet_ntoa,
    show,
    show_ll,
)
from stack.api.sockfile import open_file
from stack.clients.addrinfo import (
    AI_ADDRCONFIG,
    AI_ALL,
    AI_CANONNAME,
    AI_NUMERICHOST,
    AI_NUMERICSERV,
    AI_PASSIVE,
    AI_V4MAPPED,
)
from stack.core import bsd_socket as sys
from stack.core.bsd_socket import (
    sys_recv,
    sys_recvfrom,
    sys_recvmmsg,
    sys_send,
    sys_sendmmsg,
    sys_sendto,
)
from stack.core.clock import require_running
from stack.core.errors import os_error
from stack.core.fcntl import sys_dup
from stack.core.file import fget, files_struct
from stack.core.iov import msghdr
from stack.core.readyfd import ReadyFd, ready_fd
from stack.core.rows import i32, narrow, row, state, u16, wide
from stack.core.select import do_poll
from stack.core.sock import sk_sleep, sock
from stack.core.sockaddr import sockaddr, sockaddr_ll
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    IP_TOS,
    IP_TTL,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_RAW,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPV6_V6ONLY,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    MSG_WAITFORONE,
    MSG_ZEROCOPY,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SO_BROADCAST,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_PASSCRED,
    SO_PASSRIGHTS,
    SO_PEEK_OFF,
    SO_PEERCRED,
    SO_RCVBUF,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_TYPE,
    SO_ZEROCOPY,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOCK_TYPE_MASK,
    SOL_SOCKET,
    SOMAXCONN,
    UDP_GRO,
    UDP_SEGMENT,
)
from stack.core.wait import wait_queue_head
from stack.inet.tcp_sock import TCP_CORK, TCP_NODELAY
from stack.net import Net, check_net
from stack.packet.packet_mmap import map_ring
from stack.unix.unix_names import sys_unlink

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_NETLINK",
    "AF_PACKET",
    "AF_UNIX",
    "AI_ADDRCONFIG",
    "AI_ALL",
    "AI_CANONNAME",
    "AI_NUMERICHOST",
    "AI_NUMERICSERV",
    "AI_PASSIVE",
    "AI_V4MAPPED",
    "CMSG_LEN",
    "CMSG_SPACE",
    "IPPROTO_ICMP",
    "IPPROTO_ICMPV6",
    "IPPROTO_IP",
    "IPPROTO_IPV6",
    "IPPROTO_RAW",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "IPV6_V6ONLY",
    "IP_TOS",
    "IP_TTL",
    "MSG_CMSG_CLOEXEC",
    "MSG_CTRUNC",
    "MSG_DONTWAIT",
    "MSG_ERRQUEUE",
    "MSG_MORE",
    "MSG_NOSIGNAL",
    "MSG_OOB",
    "MSG_PEEK",
    "MSG_TRUNC",
    "MSG_WAITALL",
    "MSG_WAITFORONE",
    "MSG_ZEROCOPY",
    "NI_DGRAM",
    "NI_NAMEREQD",
    "NI_NOFQDN",
    "NI_NUMERICHOST",
    "NI_NUMERICSERV",
    "POLLERR",
    "POLLHUP",
    "POLLIN",
    "POLLOUT",
    "SCM_CREDENTIALS",
    "SCM_RIGHTS",
    "SHUT_RD",
    "SHUT_RDWR",
    "SHUT_WR",
    "SOCK_DGRAM",
    "SOCK_NONBLOCK",
    "SOCK_RAW",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SOMAXCONN",
    "SO_BROADCAST",
    "SO_ERROR",
    "SO_KEEPALIVE",
    "SO_LINGER",
    "SO_PASSCRED",
    "SO_PASSRIGHTS",
    "SO_PEEK_OFF",
    "SO_PEERCRED",
    "SO_RCVBUF",
    "SO_REUSEADDR",
    "SO_REUSEPORT",
    "SO_SNDBUF",
    "SO_TYPE",
    "SO_ZEROCOPY",
    "TCP_CORK",
    "TCP_NODELAY",
    "UDP_GRO",
    "UDP_SEGMENT",
    "Socket",
    "create_connection",
    "create_server",
    "getaddrinfo",
    "getdefaulttimeout",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
    "has_dualstack_ipv6",
    "inet6_aton",
    "inet6_ntoa",
    "inet_aton",
    "inet_ntoa",
    "recv_fds",
    "send_fds",
    "setdefaulttimeout",
    "socketpair",
    "unlink",
    "wait_any",
]

if TYPE_CHECKING:
    AnyNet: TypeAlias = Net
    """A Net, checked by `check_net`: compiled code would refuse others with Cython's message."""

BpfInsn: TypeAlias = tuple[int, int, int, int]
"""(code, jt, jf, k) of struct sock_filter."""

IN_PLACE_BYTES = 16384
"""From this size recv() writes into the bytes that it returns; below, a copy is cheaper."""


INT_BYTES = 4
INT_MAX = (1 << 31) - 1
NOT_GIVEN = object()


def _c_int(value: int) -> int:
    """Check an argument that is a C int. Raises: OverflowError."""
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise OverflowError(f"{value} does not fit into a C int")
    return value


def _check_kind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise ArgumentError unless family, type and protocol are numbers."""
    for name, value in [*zip(("family", "type", "proto"), args, strict=False), *kwargs.items()]:
        if name != "fileno" and value.__class__ is not int:
            whole_number("Socket", name, value)


def _check_timeout(where: str, timeout: Any) -> None:
    if timeout is not None:
        check_type(where, "timeout", timeout, (int, float), "seconds, or None for no limit")
        if not timeout >= 0:
            raise ArgumentError(f"{where}: Timeout value out of range: {timeout}; give 0 or more")
        timeout_ns(timeout)  # OverflowError


def getdefaulttimeout(net: AnyNet) -> float | None:
    """The timeout of new sockets of `net` in seconds; None waits without limit."""
    check_net("getdefaulttimeout", net)
    return net.default_timeout


def setdefaulttimeout(net: AnyNet, timeout: float | None) -> None:
    """Set the timeout of new sockets of `net` (s). Raises: TypeError, ValueError."""
    check_net("setdefaulttimeout", net)
    _check_timeout("setdefaulttimeout", timeout)
    net.default_timeout = None if timeout is None else float(timeout)


def _first(buffer: WriteableBuffer, nbytes: int) -> memoryview:
    """The first `nbytes` of a buffer."""
    view = memoryview(buffer)
    if view.itemsize != 1 or view.ndim != 1:
        view = view.cast("B")
    if nbytes > len(view):
        raise ValueError(f"nbytes {nbytes} is more than the buffer's {len(view)}")
    return view[:nbytes]


def _control(item: Any) -> tuple[Any, ...]:
    """Check a control message to send: (level, type, data). Raises: TypeError."""
    message = tuple(item)
    if len(message) != 3:
        raise TypeError("[sendmsg() ancillary data items must be of length 3]")
    level, kind, data = message
    operator.index(level)
    operator.index(kind)
    if not isinstance(data, int):
        memoryview(data)
    return message


NO_ADDRESS: Final = object()
"""A key different from any address."""


@state(weakref=True)
class Socket:
    """A socket on host `net`; the methods of `socket.socket`.

    Addresses are ("10.0.0.1", 80) or ("fe80::1", 80, 0, 2), of AF_UNIX "/path" or b"\\0name".

    On a clock that several threads share (RealClock) a new Socket is a subclass whose methods take
    the clock's lock.
    """

    net: Net
    family: int
    type: u16
    proto: int
    _fd: i32 = row(-1, hot=True)
    _timeout: float | None = row()
    _closed: bool = row(False, hot=True)
    _io_refs: i32 = row(0)
    _ready: ReadyFd | None = row()
    _os_fd: i32 = row(-1)
    _parsed: dict[Any, sockaddr] | None = row()
    """The cache of parsed addresses, created for the second one, as most sockets use one only."""
    _parsed_last: Any = row(NO_ADDRESS, shared=True)
    """The last parsed address; `_parsed_name` is its sockaddr."""
    _parsed_name: sockaddr | None = row()
    _shown: dict[sockaddr | None, tuple[Any, ...]] | None = row()
    _shown_last: sockaddr | None = row(hot=True)
    """The last converted sockaddr; `_shown_address` is its tuple."""
    _shown_address: Any = row(hot=True)

    if TYPE_CHECKING:

        def init_state(self) -> None:
            """Give every field its initial value (generated from the rows)."""

    def __new__(cls, net: AnyNet, *args: Any, **kwargs: Any) -> Socket:
        check_net("Socket", net)
        if args or kwargs:
            _check_kind(args, kwargs)
        if cls is Socket and net.wake_clock is not None:
            cls = _LockedSocket
        return super().__new__(cls)

    def __init__(
        self,
        net: Net,
        family: int = AF_INET,
        type: int = SOCK_STREAM,  # noqa: A002 -- as in the standard library
        proto: int = 0,
        fileno: int | None = None,
    ) -> None:
        self._init(net, family, type & SOCK_TYPE_MASK, proto)
        if fileno is not None:
            if not isinstance(fileno, int):
                raise TypeError(f"fileno is an int, not {fileno!r}")
            self._attach(fileno)
            return
        self._fd = sys.sys_socket(net, family, type, proto)
        if type & SOCK_NONBLOCK:
            self._timeout = 0.0
        elif net.default_timeout is not None:
            self.settimeout(net.default_timeout)

    def _init(self, net: Net, family: int, type: int, proto: int) -> None:  # noqa: A002
        self.init_state()
        self.net = net
        self.family = family
        self.type = type
        self.proto = proto

    def __repr__(self) -> str:
        """As the standard library's; `fd` is -1 until `fileno` was called."""
        text = f"fd={self._os_fd}, host_fd={self._fd}, "
        text += f"family={self.family}, type={self.type}, proto={self.proto}"
        if self._fd >= 0 and not self.net.closed:
            for name, call in (("laddr", self.getsockname), ("raddr", self.getpeername)):
                try:
                    address = call()
                except OSError:
                    continue
                text += f", {name}={address}" if address else ""
        return f"<Socket {self.net.name}{' [closed]' if self._closed else ''} {text}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- opening and closing ------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that select, poll, epoll and asyncio can watch; -1 when closed.

        It shows the readiness of this socket and carries no data (see stack.core.readyfd). It is
        made at the first call and closed with the socket.

        Raises: ClockError: the host would not run while the caller waits for the descriptor, as it
        has a VirtualClock or a RealClock that was not started.
        """
        if self._os_fd >= 0 or self._fd < 0:
            return self._os_fd
        with self.net.lock:
            require_running(self.net.clock, "Socket.fileno()")
            return self._descriptor()

    @property
    def host_fd(self) -> int:
        """The number in the host's own descriptor table, for the sys_* calls; -1 when closed."""
        return self._fd

    def _descriptor(self) -> int:
        """`fileno` on any clock. Call with the host's lock held."""
        if self._os_fd < 0 <= self._fd and not self.net.closed:
            self._ready = ready_fd(self.net, sys.sockfd_lookup(self.net, self._fd))
            self._os_fd = self._ready.open()
        return self._os_fd

    def close(self) -> None:
        """Close; closing again is harmless. The connection stays until `makefile`'s files close."""
        self._closed = True
        if self._fd < 0 or self._io_refs:
            return
        fd, self._fd = self._fd, -1
        try:
            if not self.net.closed:
                sys.sys_close(self.net, fd)
        finally:
            if self._ready is not None:
                self._ready.close(self._os_fd)
                self._ready = None
                self._os_fd = -1

    def detach(self) -> int:
        """Close this object only. Returns its descriptor, for `Socket(net, fileno=...)`.

        Closing the descriptor itself does not close the socket: the host does not notice.
        """
        with self.net.lock:
            number = self._descriptor()
            if self._ready is not None:
                self._ready.give(number)
                self.net.detached_fds[number] = self._ready, self._fd, self._timeout
            self._fd = self._os_fd = -1
            self._ready = None
            self._closed = True
        return number

    def _attach(self, number: int) -> None:
        """Attach a descriptor that `detach` returned.

        Raises: ValueError: a negative number. OSError: EBADF, it is not open; ENOTSOCK, it is open
        but not from `detach`.
        """
        if number < 0:
            raise ValueError(f"negative file descriptor: {number}")
        ready, fd, timeout = self.net.detached_fds.pop(number, (None, -1, None))
        if ready is None or not ready.take(number):
            try:
                os.fstat(number)
                code = errno.ENOTSOCK
            except OSError:
                code = errno.EBADF
            raise os_error(
                code,
                f"{number} is no descriptor that a Socket of host {self.net.name} gave away",
            )
        sock = sys.sockfd_lookup(self.net, fd)
        self.family, self.type, self.proto = sock.sk.sk_family, sock.type, sock.sk.sk_protocol
        self._fd, self._os_fd, self._ready, self._timeout = fd, number, ready, timeout

    def dup(self) -> Socket:
        """Another Socket of the same connection, which ends when both are closed."""
        with self.net.lock:
            new = self._of(sys_dup(self.net, self._fd))
            new._timeout = self._timeout
        return new

    def _of(self, fd: int) -> Socket:
        """A Socket like this one for the number `fd` of the host's table."""
        new = Socket.__new__(Socket, self.net)
        new._init(self.net, self.family, self.type, self.proto)
        new._fd = fd
        return new

    @classmethod
    def from_host_fd(cls, net: Net, fd: int) -> Socket:
        """The Socket with a number of the host's descriptor table, such as from SCM_RIGHTS.

        Raises: OSError EBADF.
        """
        new = Socket.__new__(Socket, net)
        with net.lock:
            sock = sys.sockfd_lookup(net, fd)
            new._init(net, sock.sk.sk_family, sock.type, sock.sk.sk_protocol)
            new._fd = fd
            new._timeout = 0.0 if sys.sys_get_nonblocking(net, fd) else None
        return new

    def get_inheritable(self) -> bool:
        """Whether executed programs inherit the descriptor `fileno`."""
        return os.get_inheritable(self.fileno())

    def set_inheritable(self, inheritable: bool) -> None:
        """Set whether executed programs inherit the descriptor `fileno`; by default they do not."""
        os.set_inheritable(self.fileno(), inheritable)

    def shutdown(self, how: int) -> None:
        """SHUT_RD, SHUT_WR or SHUT_RDWR."""
        sys.sys_shutdown(self.net, self._fd, _c_int(how))

    @property
    def sk(self) -> sock:
        """The struct sock behind it (for tests and tools)."""
        sk: sock = sys.sockfd_lookup(self.net, self._fd).sk
        return sk

    def wait_queue(self) -> wait_queue_head:
        """The wait queue that is woken when the socket's readiness changes."""
        return sk_sleep(self.sk)

    def waits_for_data(self) -> bool:
        """Whether it is connected and any byte makes it readable (SO_RCVLOWAT)."""
        sk = self.sk
        return sk.sk_state == 1 and sk.sk_rcvlowat <= 1

    def connected(self) -> bool:
        """Whether the handshake of a stream socket is done."""
        state = self.sk.sk_state
        return state not in (2, 3, 7, 12)  # SYN_SENT, SYN_RECV, CLOSE, NEW_SYN_RECV

    # --- names --------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        """Bind to ("10.0.0.1", port), ("", port) for any address; port 0 picks one."""
        sys.sys_bind(self.net, self._fd, _addr(self, address))

    def getsockname(self) -> Any:
        """The local address."""
        return _show(self, sys.sys_getsockname(self.net, self._fd))

    def getpeername(self) -> Any:
        """The remote address."""
        return _show(self, sys.sys_getpeername(self.net, self._fd))

    # --- connections --------------------------------------------------------------------------

    def listen(self, backlog: int = SOMAXCONN) -> None:
        """Listen for connections; at most `backlog` wait for accept() (sysctl somaxconn).

        A SYN beyond that is dropped; its sender retransmits after a second.
        """
        sys.sys_listen(self.net, self._fd, max(_c_int(backlog), 0))

    def accept(self) -> tuple[Socket, RetAddress]:
        """The next connection and its peer. The new Socket blocks even if the listener does not."""
        try:
            fd, name = sys.sys_accept(self.net, self._fd)
        except BlockingIOError as exc:
            self._would_block(exc)
        new = self._of(fd)
        if self.net.default_timeout is not None:
            new.settimeout(self.net.default_timeout)
        return new, None if name is None else show(name)

    def connect(self, address: Address) -> None:
        """Connect a stream; set the peer of a datagram socket."""
        try:
            sys.sys_connect(self.net, self._fd, _addr(self, address))
        except BlockingIOError as exc:
            self._would_block(exc)

    def connect_ex(self, address: Address) -> int:
        """`connect` that returns the errno; EAGAIN: the timeout is over. Raises: gaierror."""
        addr = _addr(self, address)
        try:
            sys.sys_connect(self.net, self._fd, addr)
        except BlockingIOError as exc:
            return errno.EAGAIN if self._timeout else exc.errno or 0
        except OSError as exc:
            return exc.errno or 0
        return 0

    # --- data ---------------------------------------------------------------------------------

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send what fits. Returns the number of bytes sent."""
        try:
            return sys_send(self.net, self._fd, data, flags)
        except BlockingIOError as exc:
            self._would_block(exc)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send everything."""
        view = memoryview(data)
        if view.itemsize != 1 or view.ndim != 1:
            view = view.cast("B")
        done = 0
        size = len(view)
        while done < size:
            done += self.send(view[done:] if done else view, flags)

    @overload
    def sendto(self, data: ReadableBuffer, address: Address, /) -> int: ...

    @overload
    def sendto(self, data: ReadableBuffer, flags: int, address: Address, /) -> int: ...

    def sendto(self, data: ReadableBuffer, flags: Any, address: Any = NOT_GIVEN) -> int:
        """`sendto(data, address)` or `sendto(data, flags, address)`."""
        if address is NOT_GIVEN:
            address = flags
            flags = 0
        name = self._parsed_name if address is self._parsed_last else _addr(self, address)
        try:
            return sys_sendto(self.net, self._fd, data, flags, name)
        except BlockingIOError as exc:
            self._would_block(exc)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Up to `bufsize` bytes; b"" at the end of a stream."""
        if bufsize > IN_PLACE_BYTES:
            return self._recvfrom_in_place(bufsize, flags)[0]
        files: files_struct = self.net.fdtable
        room = _room(files, bufsize)
        try:
            n = sys_recv(self.net, self._fd, room, flags)
        except BlockingIOError as exc:
            files.scratch = room
            self._would_block(exc)
        data = first_bytes(room, n)
        files.scratch = room
        return data

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, RetAddress]:
        """Data and the sender's address."""
        if bufsize > IN_PLACE_BYTES:
            return self._recvfrom_in_place(bufsize, flags)
        files: files_struct = self.net.fdtable
        room = _room(files, bufsize)
        try:
            n, name = sys_recvfrom(self.net, self._fd, room, flags)
        except BlockingIOError as exc:
            files.scratch = room
            self._would_block(exc)
        data = first_bytes(room, n)
        files.scratch = room
        return data, self._shown_address if name is self._shown_last else _show(self, name)

    def _recvfrom_in_place(self, bufsize: int, flags: int) -> tuple[bytes, RetAddress]:
        """`recvfrom` that writes into the object it returns."""
        room = FreshBytes(bufsize)
        try:
            n, name = sys_recvfrom(self.net, self._fd, memoryview(room), flags)
        except BlockingIOError as exc:
            self._would_block(exc)
        return room.take(n), _show(self, name)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into a writable buffer; bytes received."""
        if nbytes:
            buffer = _first(buffer, nbytes)
        try:
            return sys_recv(self.net, self._fd, buffer, flags)
        except BlockingIOError as exc:
            self._would_block(exc)

    def recvfrom_into(
        self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, RetAddress]:
        """Receive into a writable buffer; bytes received and the sender's address."""
        if nbytes:
            buffer = _first(buffer, nbytes)
        try:
            n, name = sys_recvfrom(self.net, self._fd, buffer, flags)
        except BlockingIOError as exc:
            self._would_block(exc)
        return n, _show(self, name)

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: Address | None = None,
    ) -> int:
        """Send several buffers as one message, with control messages."""
        msg = msghdr(
            None if address is None else _addr(self, address),
            list(buffers),
            [_control(item) for item in ancdata] or None,
            flags,
        )
        try:
            return sys.sys_sendmsg(self.net, self._fd, msg, flags)
        except BlockingIOError as exc:
            self._would_block(exc)

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, RetAddress]:
        """(data, control messages, msg_flags, address)."""
        if operator.index(bufsize) < 0:
            raise ValueError("negative buffer size in recvmsg()")
        buffer = bytearray(bufsize)
        n, anc, msg_flags, address = self.recvmsg_into([buffer], ancbufsize, flags)
        return bytes(memoryview(buffer)[:n]), anc, msg_flags, address

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[tuple[int, int, bytes]], int, RetAddress]:
        """(bytes, control messages, msg_flags, address); fills `buffers` in order."""
        if operator.index(ancbufsize) < 0:
            raise ValueError("invalid ancillary data buffer length")
        rooms = list(buffers)
        for room in rooms:
            if memoryview(room).readonly:
                raise TypeError("recvmsg_into() argument 1 must be an iterable of writable buffers")
        msg = msghdr(None, rooms, [] if ancbufsize else None, 0)
        msg.msg_controllen = ancbufsize
        try:
            n = sys.sys_recvmsg(self.net, self._fd, msg, flags)
        except BlockingIOError as exc:
            self._would_block(exc)
        return n, msg.msg_control or [], msg.msg_flags, _show(self, msg.msg_name)

    def sendmmsg(
        self, messages: Iterable[tuple[ReadableBuffer, Address | None]], flags: int = 0
    ) -> int:
        """Send several datagrams, each (data, address or None); the number sent, as sendmmsg(2).

        Successive datagrams of one size to one address are sent in one step.
        """
        rows = mmsg_send(messages, _addr, self, self._parsed_last, self._parsed_name)
        try:
            return sys_sendmmsg(self.net, self._fd, rows, flags)
        except BlockingIOError as exc:
            self._would_block(exc)

    def recvmmsg(
        self, buffers: Iterable[WriteableBuffer], flags: int = 0
    ) -> list[tuple[int, RetAddress]]:
        """Receive a datagram into each buffer; (bytes, address) of each one received.

        As recvmmsg(2), waits for all of them, with MSG_WAITFORONE only for the first.
        """
        rows = mmsg_recv(_show, self, buffers, None, 0, 0, self._shown_last, self._shown_address)
        return _recvmmsg(self, rows, flags)

    def recvmfrom(self, count: int, bufsize: int, flags: int = 0) -> list[tuple[bytes, RetAddress]]:
        """`recvmmsg` of up to `count` datagrams: (data, address) of each, as `recvfrom` gives."""
        rows = mmsg_recv(
            _show, self, None, None, count, bufsize, self._shown_last, self._shown_address
        )
        return _recvmmsg(self, rows, flags)

    def recvmfrom_into(
        self, buffer: WriteableBuffer, bufsize: int, flags: int = 0
    ) -> list[tuple[int, RetAddress]]:
        """`recvmmsg` into one buffer: datagram i goes to `buffer[i * bufsize:]`; (bytes, address).

        The buffer holds as many rows of `bufsize` as fit.
        """
        if bufsize < 1:
            raise ValueError(f"recvmfrom_into: rows of {bufsize} bytes")
        count = memoryview(buffer).nbytes // bufsize
        rows = mmsg_recv(
            _show, self, None, buffer, count, bufsize, self._shown_last, self._shown_address
        )
        return _recvmmsg(self, rows, flags)

    # --- options ------------------------------------------------------------------------------

    def setsockopt(
        self, level: int, optname: int, value: int | ReadableBuffer | Sequence[BpfInsn]
    ) -> None:
        """`value` is an int or bytes in Linux's layout; SO_ATTACH_FILTER takes rows too."""
        sys.sys_setsockopt(self.net, self._fd, level, optname, value)

    @overload
    def getsockopt(self, level: int, optname: int) -> int: ...

    @overload
    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes: ...

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """An int of the option's first four bytes, or at most `buflen` bytes of it.

        SO_GET_FILTER counts instructions instead. Raises: OSError of getsockopt(2), and for a
        `buflen` that is negative or more than 1024.
        """
        if not 0 <= buflen <= 1024:
            raise OSError("getsockopt buflen out of range")
        if buflen:
            return sys.sys_getsockopt(self.net, self._fd, level, optname, buflen)
        value = sys.sys_getsockopt(self.net, self._fd, level, optname, INT_BYTES)
        return int.from_bytes(value, byteorder, signed=True)

    def mmap(self, length: int, offset: int = 0) -> Any:
        """Map the ring of a packet socket (PACKET_RX_RING): `mmap.mmap(sock.fileno(), length)`.

        Returns an `mmap.mmap` of its `length` bytes. Raises: OSError EINVAL, ENODEV.
        """
        return map_ring(self.net, self._fd, length, offset)

    def settimeout(self, value: float | None) -> None:
        """None blocks, 0 never blocks, else seconds until TimeoutError."""
        _check_timeout("settimeout", value)
        self._timeout = value
        sys.sys_set_nonblocking(self.net, self._fd, value == 0)
        sys.sys_set_timeout(self.net, self._fd, timeout_ns(value) if value else None)

    def gettimeout(self) -> float | None:
        """Seconds, or None."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """True blocks without limit, False never blocks."""
        self.settimeout(None if flag else 0.0)

    @property
    def timeout(self) -> float | None:
        """What `gettimeout` returns."""
        return self._timeout

    def getblocking(self) -> bool:
        """Whether calls may block."""
        return self._timeout != 0

    def _would_block(self, exc: BlockingIOError) -> NoReturn:
        """Raise TimeoutError for EAGAIN if the socket has a timeout, else EAGAIN itself."""
        if self._timeout:
            raise TimeoutError(errno.ETIMEDOUT, "timed out") from None
        raise exc

    def poll(self) -> int:
        """POLLIN, POLLOUT ... as poll(2) would report them now."""
        return sys.sys_poll_one(self.net, self._fd)

    # --- files --------------------------------------------------------------------------------

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """A file object over the connection, as `socket.makefile`."""
        return open_file(self, mode, buffering, encoding, errors, newline)

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Send a binary file from `offset` to its end (or `count` bytes); bytes sent.

        The file's position is then after the last byte sent.

        Raises: ValueError: a text file, a socket not a stream or non-blocking, `count` below
        1. TypeError: `count` is not an int.
        """
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if not self.type & SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is not None and not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        if self._timeout == 0:
            raise ValueError("non-blocking sockets are not supported")
        if offset:
            file.seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                view = memoryview(file.read(262144 if count is None else min(262144, count - sent)))
                if not view:
                    break
                while view:
                    done = self.send(view)
                    sent += done
                    view = view[done:]
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)
        return sent


def _locked(name: str) -> Any:
    """`Socket.name` with the clock's lock held."""
    method = getattr(Socket, name)

    @functools.wraps(method)
    def call(self: Socket, *args: Any, **kwargs: Any) -> Any:
        with self.net.lock:
            return method(self, *args, **kwargs)

    return call


def _room(files: files_struct, size: int) -> bytearray:
    """Take the host's receive buffer with this size; the caller returns it to `scratch`."""
    room: bytearray | None = files.scratch
    files.scratch = None  # other calls allocate their own while this one waits
    if room is None or len(room) != size:  # calls often ask for the same size
        if size < 0:
            raise ValueError("negative buffersize")
        room = bytearray(size)
    return room


def _addr(sock: Socket, address: Address) -> sockaddr:
    """Convert an address to the sockaddr of sys_* calls, through the socket's cache."""
    known = sock._parsed
    if known is None:
        parsed = sock._parsed_name if address == sock._parsed_last else None
    else:
        try:
            parsed = known.get(address)
        except TypeError:  # unhashable: not an address, or a mutable one
            parsed = None
    if parsed is None:
        parsed = resolve(sock.net, sock.family, sock.type, address)
        if sock.family == AF_PACKET or isinstance(address, bytearray | memoryview):
            return parsed  # not cached: interfaces and bytes may change
        hash(address)  # a TypeError for a mutable address: not cached
        if sock._parsed_name is not None:
            sock._parsed = _with(known, sock._parsed_last, sock._parsed_name, address, parsed)
    sock._parsed_last = address
    sock._parsed_name = parsed
    return parsed


def _with(
    known: dict[Any, Any] | None, last: Any, of_last: Any, key: Any, value: Any
) -> dict[Any, Any]:
    """Add an entry to `known`. If None, create it with the last entry too."""
    if known is None:
        known = {last: of_last}
    elif len(known) >= CACHED:
        known.clear()
    known[key] = value
    return known


def _show(sock: Socket, name: sockaddr | None) -> Any:
    """An address from a sys_* call in the caller's form."""
    if name is None:
        return None
    if name is sock._shown_last:
        return sock._shown_address
    if name.family == AF_PACKET:  # not cached: an interface may be renamed
        return show_ll(sock.net, cast("sockaddr_ll", name))
    known = sock._shown
    if known is None:
        shown = sock._shown_address if name == sock._shown_last else None
    else:
        shown = known.get(name)
    if shown is None:
        shown = show(name)
        if sock._shown_last is not None:
            sock._shown = _with(known, sock._shown_last, sock._shown_address, name, shown)
    sock._shown_last = name
    sock._shown_address = shown
    return shown


def _recvmmsg(sock: Socket, rows: mmsg_recv, flags: int) -> list[tuple[Any, RetAddress]]:
    """Receive into the rows; a result for each datagram."""
    try:
        sys_recvmmsg(sock.net, sock._fd, rows, flags)
    except BlockingIOError as exc:
        sock._would_block(exc)
    return rows.got


class _LockedSocket(Socket):
    """A Socket whose methods are thread-safe."""

    __slots__ = ()

    def __init__(self, net: Net, *args: Any, **kwargs: Any) -> None:
        with net.lock:
            super().__init__(net, *args, **kwargs)

    close = _locked("close")
    shutdown = _locked("shutdown")
    wait_queue = _locked("wait_queue")
    connected = _locked("connected")
    bind = _locked("bind")
    getsockname = _locked("getsockname")
    getpeername = _locked("getpeername")
    listen = _locked("listen")
    accept = _locked("accept")
    connect = _locked("connect")
    send = _locked("send")
    sendto = _locked("sendto")
    recv = _locked("recv")
    recvfrom = _locked("recvfrom")
    recv_into = _locked("recv_into")
    recvfrom_into = _locked("recvfrom_into")
    sendmsg = _locked("sendmsg")
    recvmsg_into = _locked("recvmsg_into")
    sendmmsg = _locked("sendmmsg")
    recvmmsg = _locked("recvmmsg")
    recvmfrom = _locked("recvmfrom")
    recvmfrom_into = _locked("recvmfrom_into")
    setsockopt = _locked("setsockopt")
    getsockopt = _locked("getsockopt")
    mmap = _locked("mmap")
    settimeout = _locked("settimeout")
    poll = _locked("poll")


def socketpair(
    net: AnyNet,
    family: wide = AF_UNIX,
    type: wide = SOCK_STREAM,  # noqa: A002 -- as in the standard library
    proto: wide = 0,
) -> tuple[Socket, Socket]:
    """Two connected sockets of host `net`, as `socket.socketpair`."""
    check_net("socketpair", net)
    for name, value in (("family", family), ("type", type), ("proto", proto)):
        whole_number("socketpair", name, value)
    with net.lock:
        one, two = sys.sys_socketpair(net, narrow(family), narrow(type), narrow(proto))
        pair = Socket.from_host_fd(net, one), Socket.from_host_fd(net, two)
        if net.default_timeout is not None and not type & SOCK_NONBLOCK:
            for sock in pair:
                sock.settimeout(net.default_timeout)
    return pair


def CMSG_LEN(length: int) -> int:
    """Bytes of a control message with `length` bytes of data, without trailing padding.

    Raises: OverflowError: more than a C int holds.
    """
    if not 0 <= length <= INT_MAX - 16:
        raise OverflowError("CMSG_LEN() argument out of range")
    return 16 + length


def CMSG_SPACE(length: int) -> int:
    """Bytes of a control message with its padding: the room that `recvmsg` needs for it.

    Raises: OverflowError: more than a C int holds.
    """
    if not 0 <= length <= INT_MAX - 24:
        raise OverflowError("CMSG_SPACE() argument out of range")
    return 16 + (length + 7 & ~7)


def send_fds(
    sock: Socket,
    buffers: Iterable[ReadableBuffer],
    fds: Iterable[int],
    flags: int = 0,
    address: Address | None = None,
) -> int:
    """Send data and descriptors (`Socket.host_fd` of other Sockets), as `socket.send_fds`."""
    return sock.sendmsg(
        buffers, [(SOL_SOCKET, SCM_RIGHTS, array.array("i", fds).tobytes())], flags, address
    )


def recv_fds(
    sock: Socket, bufsize: int, maxfds: int, flags: int = 0
) -> tuple[bytes, list[int], int, RetAddress]:
    """Receive data and descriptors, as `socket.recv_fds`: use them by `Socket.from_host_fd`."""
    fds = array.array("i")
    data, control, msg_flags, address = sock.recvmsg(
        bufsize, CMSG_LEN(maxfds * fds.itemsize), flags
    )
    for level, kind, found in control:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            fds.frombytes(found[: len(found) - len(found) % fds.itemsize])
    return data, list(fds), msg_flags, address


def unlink(net: AnyNet, path: str | bytes | os.PathLike[str]) -> None:
    """Remove the name of an AF_UNIX socket from the namespace, as `os.unlink`.

    Raises: OSError ENOENT, EISDIR, ENOTDIR.
    """
    check_net("unlink", net)
    check_type("unlink", "path", path, (str, bytes, os.PathLike), "a path")
    with net.lock:
        sys_unlink(net, os.fsencode(path))


def create_connection(
    net: AnyNet,
    address: Address,
    timeout: float | object | None = NOT_GIVEN,
    source_address: Address | None = None,
    *,
    all_errors: bool = False,
) -> Socket:
    """A connected stream socket of host `net`, as `socket.create_connection`.

    Tries each address that getaddrinfo gives for the host. If all fail, the first exception
    is raised, with `all_errors` an ExceptionGroup of all. `timeout` None waits without limit. The
    default, also the standard library's sentinel (http.client), is that of `setdefaulttimeout`.
    """
    check_net("create_connection", net)
    if not isinstance(address, tuple | list) or len(address) < 2:
        raise ArgumentTypeError(
            f'address {address!r} is not a (host, port) pair; give one such as ("10.0.0.1", 80)'
        )
    if isinstance(timeout, str | bytes):
        _check_timeout("create_connection", timeout)
    if isinstance(address[0], int):
        rows: list[Any] = [(AF_INET, SOCK_STREAM, 0, "", address)]
    else:
        rows = getaddrinfo(net, address[0], address[1], 0, SOCK_STREAM)
    failures: list[OSError] = []
    for family, kind, proto, _, target in rows:
        try:
            sock = Socket(net, family, kind, proto)
        except OSError as error:  # this host lacks the family
            failures.append(error)
            continue
        try:
            if timeout is None or isinstance(timeout, int | float):
                sock.settimeout(timeout)
            if source_address is not None:
                sock.bind(source_address)
            sock.connect(target)
            return sock
        except OSError as error:
            failures.append(error)
            sock.close()
        except BaseException:
            sock.close()
            raise
    if all_errors:
        raise ExceptionGroup("create_connection failed", failures)
    raise failures[0]  # getaddrinfo never returns nothing


def has_dualstack_ipv6(net: AnyNet) -> bool:
    """Whether one socket of the host can accept IPv4 and IPv6, as `socket.has_dualstack_ipv6`."""
    check_net("has_dualstack_ipv6", net)
    return net.net_families[AF_INET6] is not None


def create_server(
    net: AnyNet,
    address: Address,
    *,
    family: int = AF_INET,
    backlog: wide = SOMAXCONN,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
) -> Socket:
    """A listening stream socket of host `net`, as `socket.create_server`.

    Raises: ValueError: `dualstack_ipv6` without AF_INET6. OSError.
    """
    check_net("create_server", net)
    whole_number("create_server", "backlog", backlog)
    if dualstack_ipv6 and not has_dualstack_ipv6(net):
        raise ValueError("dualstack_ipv6 not supported on this platform")
    if dualstack_ipv6 and family != AF_INET6:
        raise ValueError("dualstack_ipv6 requires AF_INET6 family")
    sock = Socket(net, family, SOCK_STREAM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, not dualstack_ipv6)
        sock.bind(address)
        sock.listen(narrow(backlog))
    except BaseException:
        sock.close()
        raise
    return sock


def wait_any(
    net: Net, waits: Sequence[tuple[Socket, int]], timeout: float | None = None
) -> list[tuple[Socket, int]]:
    """poll(2): wait until a socket is ready for one of its events (POLLIN ...); the ready ones.

    The sockets may be of several hosts, all on the clock of `net`.
    """
    limit_ns = None if timeout is None else timeout_ns(timeout)
    with net.lock:
        table = [(fget(s.net, s._fd), events) for s, events in waits]
        found = do_poll(net.clock, table, limit_ns)
    return [(sock, bits) for (sock, _), bits in zip(waits, found, strict=True) if bits]
