"""The BSD layer: descriptors, struct socket, and one sys_* function per call (net/socket.c).

Called by stack/api/socket.py (the module that programs import), with the host's lock held. Each
call looks up its socket, calls the security modules, and calls the family through `sock.ops`:

    sys_socket -> sock_create -> net_families[family].create => inet_create, unix_create ...
               -> sock_map_fd                                   the descriptor
    sys_bind, sys_listen, sys_connect, sys_accept -> sockfd_lookup => ops.bind ...
    sys_send -> sys_sendto, sys_sendmsg, sys_sendmmsg -> sock_sendmsg -> __sock_sendmsg
        -> security_sock_sendmsg => ops.sendmsg                 inet_sendmsg ...
    sys_recv -> sys_recvfrom, sys_recvmsg, sys_recvmmsg -> sock_recvmsg -> __sock_recvmsg
        -> security_sock_recvmsg => ops.recvmsg                 inet_recvmsg ...
    sys_close -> filp_close => sock_close -> __sock_release => ops.release

sendmmsg and recvmmsg first offer many rows to the protocol at once (send_rows, recv_rows).

State: `net.fdtable` maps descriptors to open files, a file's `sock` is its struct socket, and
`socket.sk` is the protocol's sock. Addresses are `sockaddr` values. Blocking calls sleep on the
host's clock; a non-blocking one raises BlockingIOError. Read sys_sendto first.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.net.udp_batches import mmsg_recv, mmsg_send
from stack.core import uapi
from stack.core.dev_queue import dev_plug, dev_unplug
from stack.core.errors import os_error
from stack.core.fasync import fasync_struct, sock_fasync
from stack.core.file import (
    O_RDWR,
    fd_install,
    file_operations,
    files_struct,
    filp_close,
    struct_file,
    vm_area_struct,
)
from stack.core.iov import UIO_MAXIOV, msghdr, msghdr_init
from stack.core.net_namespace import pernet_operations
from stack.core.netfilter import new_nf_hooks
from stack.core.nf_queue import nf_queue_net
from stack.core.pipe import copy_splice_read, pipe_inode_info
from stack.core.proto import net_proto_family, proto_ops
from stack.core.readyfd import ReadyFd
from stack.core.rows import row, state, u8, u16, u32
from stack.core.security import (
    security_socket_accept,
    security_socket_bind,
    security_socket_connect,
    security_socket_create,
    security_socket_getpeername,
    security_socket_getsockname,
    security_socket_getsockopt,
    security_socket_listen,
    security_socket_post_create,
    security_socket_recvmsg,
    security_socket_sendmsg,
    security_socket_setsockopt,
    security_socket_shutdown,
    security_socket_socketpair,
)
from stack.core.signal import signal_struct
from stack.core.sock import sk_sleep, sock_kfree_s, sock_kmalloc
from stack.core.sock import sock as sock_t
from stack.core.sockaddr import sockaddr, sockaddr_from
from stack.core.sockopt import sock_getsockopt, sock_setsockopt
from stack.core.sockopt_table import OPTLEN_ANY, pack_opt
from stack.core.wait import MAX_SCHEDULE_TIMEOUT, wait_queue_head
from stack.net import Net
from stack.sched.sch_generic import Qdisc

CMSG_HDR_BYTES = 16  # sizeof(struct cmsghdr)
CMSG_ON_STACK_BYTES = 36  # what ___sys_sendmsg has room for without sock_kmalloc
DEV_PLUG_PACKETS = 64


@state
class socket:
    """struct socket: what a descriptor refers to."""

    net: Net
    state: u8 = row(uapi.SS_UNCONNECTED)
    type: u16 = row(0)
    flags: u32 = row(0)
    ops: proto_ops = row()
    """None, as `sk`, until the family has made the sock, and after release."""
    sk: Any = row()
    """Typed Any, because its class depends on the family."""
    file: struct_file | None = row()
    ready: ReadyFd | None = row()
    """Made when the program asks for a real descriptor (fileno())."""
    fasync_list: list[fasync_struct] | None = row()
    """In the kernel a member of struct socket_wq."""
    inode: int = row(0)
    """The inode in /proc/PID/fd of a program's socket; 0: not a program's."""


def security_sock_sendmsg(sock: socket, msg: msghdr, size: int) -> int:
    """security_socket_sendmsg, skipped without modules: check whether a message may be sent."""
    return 0 if sock.net.security is None else security_socket_sendmsg(sock, msg, size)


def security_sock_recvmsg(sock: socket, msg: msghdr, size: int, flags: int) -> int:
    """security_socket_recvmsg, skipped without modules: check whether one may be received."""
    return 0 if sock.net.security is None else security_socket_recvmsg(sock, msg, size, flags)


def refuse(err: int) -> None:
    """Raise a security module's negative errno as OSError; 0 raises nothing."""
    if err:
        raise os_error(err)


# --- objects and descriptors ---------------------------------------------------------------


def sock_init(net: Net) -> None:
    """net/socket.c: create the tables that every family needs."""
    net.fdtable = files_struct()
    net.detached_fds = {}
    net.delayed_fput = []
    net.flushing_fput = False
    net.signal = signal_struct()
    net.ready_hub = None
    net.wait_entry = net.wait_ready = None
    net.net_families = [None] * uapi.NPROTO
    net.proto_list = []
    net.prot_mem = net.machine.prot_mem
    net.sock_cookie = 0
    net.nf_hooks = new_nf_hooks()
    net.nf_queue = nf_queue_net()
    net.security = None


def sock_exit(net: Net) -> None:
    """The namespace ends: every descriptor is closed."""
    for fd in sorted(net.fdtable.fd):
        sys_close(net, fd)
    net.detached_fds.clear()
    net.ready_hub = net.wait_entry = net.wait_ready = None


sock_net_ops = pernet_operations(init=sock_init)
# Registered as a device's, so that sockets are closed before the subsystems that they use.
sock_exit_ops = pernet_operations(pre_exit=sock_exit, device=True)


def sock_register(net: Net, ops: net_proto_family) -> int:
    """net/socket.c: add an address family. 0 or -EEXIST."""
    if net.net_families[ops.family] is not None:
        return -errno.EEXIST
    net.net_families[ops.family] = ops
    return 0


def sock_alloc(net: Net) -> socket:
    """net/socket.c: an unconnected socket without family or protocol."""
    return socket(net)


def sock_create(net: Net, family: int, type: int, protocol: int) -> socket:  # noqa: A002
    """net/socket.c: a socket made by its family. Raises: OSError EAFNOSUPPORT, EINVAL, ..."""
    return __sock_create(net, family, type, protocol, False)


def sock_create_kern(net: Net, family: int, type: int, protocol: int) -> socket:  # noqa: A002
    """net/socket.c: the same for the host's own use."""
    return __sock_create(net, family, type, protocol, True)


def __sock_create(
    net: Net,
    family: int,
    type: int,  # noqa: A002
    protocol: int,
    kern: bool,
) -> socket:
    """net/socket.c"""
    if not 0 <= family < uapi.NPROTO:
        raise os_error(errno.EAFNOSUPPORT, f"address family {family} is not supported")
    if not 0 <= type < uapi.SOCK_MAX:
        raise os_error(errno.EINVAL, f"socket type {type} does not exist")
    pf = net.net_families[family]
    if pf is None:
        raise os_error(errno.EAFNOSUPPORT, f"address family {family} is not supported")
    refuse(security_socket_create(net, family, type, protocol, kern))
    sock = sock_alloc(net)
    sock.type = type
    pf.create(net, sock, protocol, kern)
    err = security_socket_post_create(sock, family, type, protocol, kern)
    if err:
        sock_release(sock)
        raise os_error(err)
    return sock


def sock_alloc_file(sock: socket, flags: int) -> struct_file:
    """net/socket.c"""
    sock.file = file = struct_file(
        sock.net, socket_file_ops, sock, O_RDWR | flags & uapi.O_NONBLOCK
    )
    file.sock = sock
    return file


def sock_map_fd(sock: socket, flags: int) -> int:
    """net/socket.c: give the socket a descriptor. Raises: OSError EMFILE."""
    file = sock_alloc_file(sock, flags)
    try:
        return fd_install(sock.net, file, flags)
    except OSError:
        sock_release(sock)
        raise


def sockfd_lookup(net: Net, fd: int) -> socket:
    """net/socket.c: the socket of a descriptor. Raises: OSError EBADF, ENOTSOCK."""
    file: struct_file | None = net.fdtable.fd.find(fd)
    if file is None:
        raise os_error(errno.EBADF, f"{fd} is not an open socket")
    sock = file.sock
    if sock is None:
        raise os_error(errno.ENOTSOCK, f"{fd} is open, but no socket")
    return sock


def sock_release(sock: socket) -> None:
    """net/socket.c: end of a socket."""
    __sock_release(sock)


def __sock_release(sock: socket) -> None:
    """net/socket.c: ops->release, once."""
    ops = sock.ops
    if ops is not None:
        sock.ops = None  # type: ignore[assignment]  # NULL
        ops.release(sock)
    sock.file = None


def sock_close(file: struct_file) -> None:
    """net/socket.c: the last descriptor of an open file was closed."""
    __sock_release(file.private_data)


def move_addr_to_kernel(addr: object) -> sockaddr | None:
    """net/socket.c: check an application's address; None where none is needed.

    It is a `sockaddr`, or the bytes of a struct sockaddr as C programs have it. Raises: OSError
    EFAULT, EINVAL: more than 128 bytes.
    """
    if addr is None or isinstance(addr, sockaddr):
        return addr
    if not isinstance(addr, bytes | bytearray | memoryview):
        raise os_error(errno.EFAULT, f"{addr!r} is no sockaddr")
    try:
        return sockaddr_from(addr)
    except ValueError as exc:
        raise os_error(errno.EINVAL, str(exc)) from None


# --- the two funnels -----------------------------------------------------------------------


def sock_sendmsg(sock: socket, msg: msghdr) -> int:
    """net/socket.c: send what msg's iterator holds. Returns bytes sent. Raises: OSError."""
    return __sock_sendmsg(sock, msg)


def __sock_sendmsg(sock: socket, msg: msghdr) -> int:
    """net/socket.c: the common path of all sending calls; security first."""
    size = msg.count
    err = security_sock_sendmsg(sock, msg, size)
    if err:
        raise os_error(err)
    sent: int = sock.ops.sendmsg(sock, msg, size)
    return sent


def sock_sendmsg_nosec(sock: socket, msg: msghdr) -> int:
    """net/socket.c: past the security check."""
    sent: int = sock.ops.sendmsg(sock, msg, msg.count)
    return sent


def sock_recvmsg(sock: socket, msg: msghdr, flags: int) -> int:
    """net/socket.c: receive into msg's buffers. Returns bytes received. Raises: OSError."""
    return __sock_recvmsg(sock, msg, flags)


def __sock_recvmsg(sock: socket, msg: msghdr, flags: int) -> int:
    """net/socket.c: the common path of all receiving calls; security first."""
    size = msg.count
    err = security_sock_recvmsg(sock, msg, size, flags)
    if err:
        raise os_error(err)
    received: int = sock.ops.recvmsg(sock, msg, size, flags)
    return received


def sock_recvmsg_nosec(sock: socket, msg: msghdr, flags: int) -> int:
    """net/socket.c: past the security check."""
    received: int = sock.ops.recvmsg(sock, msg, msg.count, flags)
    return received


def sock_read_iter(file: struct_file, to: msghdr) -> int:
    """net/socket.c: read(2) of a socket. Returns bytes. Raises: OSError."""
    if not to.count:
        return 0  # as in System V: no message is read
    sock: socket = file.private_data
    return sock_recvmsg(sock, to, uapi.MSG_DONTWAIT if file.f_flags & uapi.O_NONBLOCK else 0)


def sock_splice_read(file: struct_file, pos: int | None, pipe: pipe_inode_info, size: int) -> int:
    """net/socket.c: from a socket into a pipe: received data, at most `size` bytes."""
    sock: socket = file.private_data
    splice_read = sock.ops.splice_read
    if splice_read is None:
        return copy_splice_read(file, pos, pipe, size)
    return splice_read(sock, pos, pipe, size)


def sock_write_iter(file: struct_file, msg: msghdr) -> int:
    """net/socket.c: write(2) of a socket; a packet of SOCK_SEQPACKET ends with it. Bytes."""
    sock: socket = file.private_data
    if file.f_flags & uapi.O_NONBLOCK:
        msg.msg_flags |= uapi.MSG_DONTWAIT
    if sock.type == uapi.SOCK_SEQPACKET:
        msg.msg_flags |= uapi.MSG_EOR
    return __sock_sendmsg(sock, msg)


# --- helpers of the calls ------------------------------------------------------------------


def file_flags(sock: socket, flags: int) -> int:
    """net/socket.c: a call's MSG_* flags, with MSG_DONTWAIT if its open file has O_NONBLOCK."""
    file = sock.file
    return (
        flags | uapi.MSG_DONTWAIT if file is not None and file.f_flags & uapi.O_NONBLOCK else flags
    )


def msghdr_get(net: Net, name: sockaddr | None, buf: Any, flags: int) -> msghdr:
    """A msghdr for one call, reused between calls; the kernel has it on the stack."""
    msg: msghdr | None = net.fdtable.msg
    if msg is None:
        return msghdr(name, buf, None, flags)
    net.fdtable.msg = None
    msghdr_init(msg, name, buf, None, flags)
    return msg


def msghdr_put(net: Net, msg: msghdr) -> None:
    """Keep the msghdr of a call that succeeded for the next one, without the caller's objects."""
    msg.buf = msg.msg_name = msg.msg_control = msg.more = msg.msg_ubuf = None
    net.fdtable.msg = msg


def type_flags(type: int) -> int:  # noqa: A002
    """SOCK_NONBLOCK and SOCK_CLOEXEC of a socket's type. Raises: OSError EINVAL."""
    flags = type & ~uapi.SOCK_TYPE_MASK
    if flags & ~(uapi.SOCK_CLOEXEC | uapi.SOCK_NONBLOCK):
        raise os_error(errno.EINVAL, f"unknown socket type flags {flags:#o}")
    return flags


# --- the calls -----------------------------------------------------------------------------


def sys_socket(net: Net, family: int, type: int, protocol: int = 0) -> int:  # noqa: A002
    """socket(2): a descriptor. `type` may carry SOCK_NONBLOCK, SOCK_CLOEXEC. Raises: OSError."""
    flags = type_flags(type)
    sock = sock_create(net, family, type & uapi.SOCK_TYPE_MASK, protocol)
    return sock_map_fd(sock, flags)


def sys_socketpair(net: Net, family: int, type: int, protocol: int = 0) -> Any:  # noqa: A002
    """socketpair(2). Raises: OSError EOPNOTSUPP for families without it."""
    flags = type_flags(type)
    one = sock_create(net, family, type & uapi.SOCK_TYPE_MASK, protocol)
    two: socket | None = None
    try:
        two = sock_create(net, family, type & uapi.SOCK_TYPE_MASK, protocol)
        refuse(security_socket_socketpair(one, two))
        one.ops.socketpair(one, two)
        fd = sock_map_fd(one, flags)
    except OSError:
        sock_release(one)
        if two is not None:
            sock_release(two)
        raise
    try:
        return fd, sock_map_fd(two, flags)
    except OSError:
        sys_close(net, fd)
        raise


def sys_bind(net: Net, fd: int, addr: object) -> None:
    """bind(2). Raises: OSError EBADF, EADDRINUSE, EADDRNOTAVAIL, EINVAL, EACCES."""
    sock: socket = sockfd_lookup(net, fd)
    if addr is None:
        raise os_error(errno.EFAULT, "no address to bind to")
    uaddr = move_addr_to_kernel(addr)
    refuse(security_socket_bind(sock, uaddr, 16))
    sock.ops.bind(sock, uaddr, 16)


def sys_listen(net: Net, fd: int, backlog: int) -> None:
    """listen(2). Raises: OSError EBADF, EINVAL, EOPNOTSUPP, EADDRINUSE."""
    sock: socket = sockfd_lookup(net, fd)
    somaxconn = net.sysctl.somaxconn
    if not 0 <= backlog <= somaxconn:
        backlog = somaxconn
    refuse(security_socket_listen(sock, backlog))
    sock.ops.listen(sock, backlog)


def sys_accept(net: Net, fd: int) -> tuple[int, Any]:
    """accept(2): (descriptor, peer's address). Raises: OSError EAGAIN, EINVAL, EOPNOTSUPP."""
    return sys_accept4(net, fd, 0)


def sys_accept4(net: Net, fd: int, flags: int) -> tuple[int, Any]:
    """accept4(2): flags SOCK_NONBLOCK, SOCK_CLOEXEC. Raises: also EMFILE."""
    if flags & ~(uapi.SOCK_CLOEXEC | uapi.SOCK_NONBLOCK):
        raise os_error(errno.EINVAL, f"unknown flags {flags:#o}")
    sock: socket = sockfd_lookup(net, fd)
    if net.fdtable.full():  # before a connection is taken
        raise os_error(errno.EMFILE)
    newsock = sock_alloc(net)
    newsock.type = sock.type
    ops = newsock.ops = sock.ops
    file = sock.file
    try:
        refuse(security_socket_accept(sock, newsock))
        ops.accept(sock, newsock, file.f_flags if file is not None else 0)
    except BaseException:
        newsock.ops = None  # type: ignore[assignment]  # NULL
        raise
    newfd = sock_map_fd(newsock, flags)
    try:
        addr = ops.getname(newsock, None, 16, 2)
    except OSError:
        sys_close(net, newfd)
        raise os_error(errno.ECONNABORTED, "the connection ended before it was accepted") from None
    return newfd, addr


def sys_connect(net: Net, fd: int, addr: object) -> None:
    """connect(2); addr None or of AF_UNSPEC dissolves a datagram association.

    Raises: OSError, BlockingIOError.
    """
    sock: socket = sockfd_lookup(net, fd)
    file = sock.file
    uaddr = move_addr_to_kernel(addr)
    refuse(security_socket_connect(sock, uaddr, 16))
    sock.ops.connect(sock, uaddr, 16, file.f_flags if file is not None else 0)


def sys_send(net: Net, fd: int, buf: Any, flags: int = 0) -> int:
    """send(2). Raises: OSError, BlockingIOError."""
    return sys_sendto(net, fd, buf, flags, None)


def sys_sendto(net: Net, fd: int, buf: Any, flags: int = 0, addr: object = None) -> int:
    """sendto(2): bytes sent. Raises: OSError, BlockingIOError."""
    sock: socket = sockfd_lookup(net, fd)
    msg: msghdr = msghdr_get(net, move_addr_to_kernel(addr), buf, file_flags(sock, flags))
    sent = sock_sendmsg(sock, msg)
    msghdr_put(net, msg)
    return sent


def sys_sendmsg(net: Net, fd: int, msg: msghdr, flags: int = 0) -> int:
    """sendmsg(2): msg with name, buffers and control messages. Raises: OSError."""
    return ___sys_sendmsg(sockfd_lookup(net, fd), msg, flags)


def ___sys_sendmsg(sock: socket, msg: msghdr, flags: int) -> int:
    """net/socket.c: with the socket looked up. Many control messages count to optmem_max."""
    msg.msg_name = move_addr_to_kernel(msg.msg_name)
    msg.msg_flags = file_flags(sock, flags)
    if not msg.msg_control:
        return sock_sendmsg(sock, msg)
    size = 0
    for _, _, data in msg.msg_control:
        size += CMSG_HDR_BYTES + (cmsg_len(data) + 7 & ~7)
    if size <= CMSG_ON_STACK_BYTES:
        return sock_sendmsg(sock, msg)
    sock_kmalloc(sock.sk, size)
    try:
        return sock_sendmsg(sock, msg)
    finally:
        sock_kfree_s(sock.sk, size)


def cmsg_len(data: Any) -> int:
    """Bytes of a control message's data; an int has 4."""
    return 4 if isinstance(data, int) else memoryview(data).nbytes


def sys_sendmmsg(net: Net, fd: int, msgs: list[msghdr] | mmsg_send, flags: int = 0) -> int:
    """sendmmsg(2): the number of messages sent. Raises only when the first one failed.

    Messages that one step of the protocol cannot send together are collected in the device's queue
    and sent with one doorbell.
    """
    sock: socket = sockfd_lookup(net, fd)
    rows: mmsg_send | None = msgs if isinstance(msgs, mmsg_send) else None
    count = min(len(msgs), UIO_MAXIOV)
    done = 0
    plugged: Qdisc | None = None
    try:
        while done < count:
            sk: sock_t = sock.sk
            alike = rows is not None and rows.alike(done)
            if plugged is not None and (
                alike or sk.sk_wmem_alloc >= sk.sk_sndbuf or plugged.qlen >= DEV_PLUG_PACKETS
            ):
                q, plugged = plugged, None
                dev_unplug(q)  # sending makes room
            if plugged is None and not alike and done + 1 < count:
                plugged = plug_for(sk)
            if rows is None:
                ___sys_sendmsg(sock, msgs[done], flags)  # type: ignore[index]
                done += 1
            else:
                rows.went = 0
                done += send_rows(sock, rows, done, flags)
                rows.went = 0
    except Exception:  # not only OSError: also an invalid address
        if rows is not None:
            done += rows.went
        if not done:
            raise
    finally:
        if plugged is not None:
            dev_unplug(plugged)
    return done


def plug_for(sk: sock_t | None) -> Qdisc | None:
    """Plug the device queue of a socket's flow; None without a flow or with a full send buffer."""
    if sk is None or sk.sk_tx_flow is None or sk.sk_wmem_alloc >= sk.sk_sndbuf:
        return None
    return dev_plug(sk.sk_tx_flow.dst.dev, sk.sk_priority)


def send_rows(sock: socket, rows: mmsg_send, start: int, flags: int) -> int:
    """Send row `start`, and following rows that the protocol can send with it; how many."""
    flags = file_flags(sock, flags)
    sk: sock_t | None = sock.sk
    # Security modules check each message, so they need one sendmsg per row.
    if sk is not None and sk.sk_prot.sendmmsg is not None and sock.net.security is None:
        sent = sk.sk_prot.sendmmsg(sk, rows, start, flags)
        if sent:
            if sock.ready is not None:
                sock.ready.refresh()
            return sent
    data, name = rows.row(start)
    net = sock.net
    msg: msghdr = msghdr_get(net, name, data, flags)
    sock_sendmsg(sock, msg)
    msghdr_put(net, msg)
    return 1


def sys_recv(net: Net, fd: int, buf: Any, flags: int = 0) -> int:
    """recv(2) into `buf`: bytes received. Raises: OSError, BlockingIOError."""
    n: int = sys_recvfrom(net, fd, buf, flags, False)[0]
    return n


def sys_recvfrom(
    net: Net, fd: int, buf: Any, flags: int = 0, named: bool = True
) -> tuple[int, sockaddr | None]:
    """recvfrom(2) into `buf`: (bytes, sender's address or None). Raises: OSError.

    Without `named` the caller needs no address; UDP leaves it out.
    """
    sock: socket = sockfd_lookup(net, fd)
    msg: msghdr = msghdr_get(net, None, buf, 0)
    msg.msg_noname = not named
    n = sock_recvmsg(sock, msg, file_flags(sock, flags))
    name = msg.msg_name
    msghdr_put(net, msg)
    return n, name


def sys_recvmsg(net: Net, fd: int, msg: msghdr, flags: int = 0) -> int:
    """recvmsg(2): fills msg's buffers, name, control messages and flags. Returns bytes."""
    return ___sys_recvmsg(sockfd_lookup(net, fd), msg, flags)


def ___sys_recvmsg(sock: socket, msg: msghdr, flags: int) -> int:
    """net/socket.c: with the socket looked up."""
    msg.msg_flags = flags & uapi.MSG_CMSG_CLOEXEC
    msg.msg_name = None
    return sock_recvmsg(sock, msg, file_flags(sock, flags))


def sys_recvmmsg(
    net: Net,
    fd: int,
    msgs: list[msghdr] | mmsg_recv,
    flags: int = 0,
    timeout_ns: int | None = None,
) -> list[int]:
    """recvmmsg(2): the lengths of the messages received, one per msghdr used.

    With a `mmsg_recv` the results are in its `got`, and the list is empty. As on Linux `timeout_ns`
    is checked between messages only. Raises: OSError when the first message fails.
    """
    sock: socket = sockfd_lookup(net, fd)
    end = None if timeout_ns is None else net.clock.now_ns() + timeout_ns
    lengths: list[int] = []
    rows: mmsg_recv | None = msgs if isinstance(msgs, mmsg_recv) else None
    count = min(len(msgs), UIO_MAXIOV)
    done = 0
    while done < count:
        try:
            if rows is None:
                lengths.append(___sys_recvmsg(sock, msgs[done], flags & ~uapi.MSG_WAITFORONE))  # type: ignore[index]
                done += 1
            else:
                # As on Linux one more message is received after the timeout.
                most = 1 if end is not None and net.clock.now_ns() >= end else count - done
                done += recv_rows(sock, rows, most, flags & ~uapi.MSG_WAITFORONE)
        except OSError as exc:
            if not done:
                raise
            if not isinstance(exc, BlockingIOError) and sock.sk is not None:
                sock.sk.sk_err = exc.errno or 0
                if sock.ready is not None:
                    sock.ready.refresh()
            break
        if flags & uapi.MSG_WAITFORONE:
            flags |= uapi.MSG_DONTWAIT
        if end is not None and net.clock.now_ns() >= end:
            break
    return lengths


def recv_rows(sock: socket, rows: mmsg_recv, most: int, flags: int) -> int:
    """Fill up to `most` rows with waiting messages, else one by recvmsg, which may sleep."""
    flags = file_flags(sock, flags)
    sk: sock_t | None = sock.sk
    if sk is not None and sk.sk_prot.recvmmsg is not None and sock.net.security is None:
        got = sk.sk_prot.recvmmsg(sk, rows, most, flags)
        if got:
            if sock.ready is not None:
                sock.ready.refresh()
            return got
    room = rows.room()
    net = sock.net
    msg: msghdr = msghdr_get(net, None, room, 0)
    n = sock_recvmsg(sock, msg, flags)
    rows.put(n, msg.msg_name, room)
    msghdr_put(net, msg)
    return 1


def sys_getsockname(net: Net, fd: int) -> Any:
    """getsockname(2). Raises: OSError EBADF."""
    sock: socket = sockfd_lookup(net, fd)
    refuse(security_socket_getsockname(sock))
    return sock.ops.getname(sock, None, 16, 0)


def sys_getpeername(net: Net, fd: int) -> Any:
    """getpeername(2). Raises: OSError ENOTCONN."""
    sock: socket = sockfd_lookup(net, fd)
    refuse(security_socket_getpeername(sock))
    return sock.ops.getname(sock, None, 16, 1)


def sys_setsockopt(net: Net, fd: int, level: int, optname: int, optval: Any) -> None:
    """setsockopt(2): `optval` an int or the bytes of the option's struct. Raises: OSError."""
    sock: socket = sockfd_lookup(net, fd)
    refuse(security_socket_setsockopt(sock, level, optname))
    if level == uapi.SOL_SOCKET:
        sock_setsockopt(sock, level, optname, optval)
        if sock.ready is not None:
            sock.ready.refresh()
    else:
        sock.ops.setsockopt(sock, level, optname, optval)


def sys_getsockopt(net: Net, fd: int, level: int, optname: int, optlen: int = OPTLEN_ANY) -> Any:
    """getsockopt(2): an int (bytes for structs), or at most `optlen` bytes. Raises: OSError."""
    sock: socket = sockfd_lookup(net, fd)
    refuse(security_socket_getsockopt(sock, level, optname))
    if level == uapi.SOL_SOCKET:
        value = sock_getsockopt(sock, level, optname, optlen)
        if sock.ready is not None:
            sock.ready.refresh()  # SO_ERROR cleared the error
        if optname == uapi.SO_GET_FILTER:  # its optlen counts instructions
            return value
    else:
        value = sock.ops.getsockopt(sock, level, optname, optlen)
    if optlen == OPTLEN_ANY:
        return value
    if 0 < optlen < 4 and level == uapi.SOL_IP and isinstance(value, int) and 0 <= value <= 255:
        optlen = 1  # net/ipv4/ip_sockglue.c: a short buffer gets one byte
    return pack_opt(value, optlen)


def sys_mmap(net: Net, fd: int, vma: vm_area_struct) -> None:
    """mmap(2): the file to map is `vma.vm_file` then. Raises: OSError ENODEV, EINVAL."""
    sock: socket = sockfd_lookup(net, fd)
    sock.ops.mmap(sock.file, sock, vma)


def sys_shutdown(net: Net, fd: int, how: int) -> None:
    """shutdown(2). Raises: OSError EBADF, EINVAL, ENOTCONN."""
    sock: socket = sockfd_lookup(net, fd)
    refuse(security_socket_shutdown(sock, how))
    sock.ops.shutdown(sock, how)


def sys_close(net: Net, fd: int) -> None:
    """close(2). Raises: OSError EBADF."""
    file: struct_file | None = net.fdtable.remove(fd)
    if file is None:
        raise os_error(errno.EBADF, f"{fd} is not open")
    filp_close(file)


def sys_set_nonblocking(net: Net, fd: int, on: bool) -> None:
    """fcntl(F_SETFL) of O_NONBLOCK. Raises: OSError EBADF."""
    file = sockfd_lookup(net, fd).file
    assert file is not None
    if on:
        file.f_flags |= uapi.O_NONBLOCK
    else:
        file.f_flags &= ~uapi.O_NONBLOCK


def sys_get_nonblocking(net: Net, fd: int) -> bool:
    """fcntl(F_GETFL) & O_NONBLOCK. Raises: OSError EBADF."""
    file = sockfd_lookup(net, fd).file
    return file is not None and bool(file.f_flags & uapi.O_NONBLOCK)


# --- poll ----------------------------------------------------------------------------------


def sock_poll(sock: socket, wait: Any = None) -> int:
    """net/socket.c: POLL* bits of a socket; `wait` is added to its wait queue."""
    bits: int = sock.ops.poll(sock.file, sock, wait)
    return bits


def sock_file_poll(file: struct_file) -> int:
    """file_operations.poll of a socket's open file."""
    sock: socket = file.private_data
    return sock_poll(sock)


def sock_file_wait(file: struct_file) -> wait_queue_head:
    """The wait queue for those that poll a socket's file."""
    sock: socket = file.private_data
    return sk_sleep(sock.sk)


def sys_poll_one(net: Net, fd: int) -> int:
    """poll(2) of one descriptor without waiting: its POLL* bits. Raises: OSError EBADF."""
    return sock_poll(sockfd_lookup(net, fd))


def sys_set_timeout(net: Net, fd: int, timeout_ns: int | None) -> None:
    """SO_RCVTIMEO and SO_SNDTIMEO at once, in ns; None waits for ever. Raises: OSError EBADF."""
    sk = sockfd_lookup(net, fd).sk
    sk.sk_rcvtimeo_ns = sk.sk_sndtimeo_ns = (
        MAX_SCHEDULE_TIMEOUT if timeout_ns is None else timeout_ns
    )


socket_file_ops = file_operations(
    release=sock_close,
    poll=sock_file_poll,
    poll_wait=sock_file_wait,
    read_iter=sock_read_iter,
    write_iter=sock_write_iter,
    fasync=sock_fasync,
    splice_read=sock_splice_read,
)
