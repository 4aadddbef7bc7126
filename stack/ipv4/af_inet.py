"""The IPv4 family: sockets through inetsw, and the start of all below (net/ipv4/af_inet.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from stack.core.dev_receive import dev_add_pack
from stack.core.net_namespace import (
    pernet_operations,
    register_pernet_device,
    register_pernet_subsys,
)
from stack.core.netdevice import ETH_P_IP, packet_type
from stack.core.sock import (
    CAP_NET_BIND_SERVICE,
    CAP_NET_RAW,
    SK_CAN_REUSE,
    SOCK_BINDADDR_LOCK,
    SOCK_BINDPORT_LOCK,
    SOCK_DEAD,
    SOCK_LINGER,
    lock_sock,
    ns_capable,
    os_error,
    release_sock,
    sk_alloc,
    sk_dst_reset,
    sk_free,
    sk_wait_event,
    sock_error,
    sock_graft,
    sock_init_data,
    sock_no_accept,
    sock_no_listen,
    sock_no_mmap,
    sock_no_sendpage,
    sock_no_socketpair,
    sock_sndtimeo,
)
from stack.core.sockaddr import sockaddr
from stack.core.socket import sock_exit_ops, sock_net_ops, sock_register, socket
from stack.core.tcp_states import (
    TCP_CLOSE,
    TCP_LISTEN,
    TCP_SYN_SENT,
    TCPF_CLOSE,
    TCPF_LISTEN,
    TCPF_SYN_RECV,
    TCPF_SYN_SENT,
)
from stack.core.uapi import (
    AF_INET,
    AF_UNSPEC,
    INADDR_ANY,
    IPPROTO_ICMP,
    IPPROTO_IGMP,
    IPPROTO_IP,
    IPPROTO_RAW,
    IPPROTO_TCP,
    IPPROTO_UDP,
    O_NONBLOCK,
    PF_INET,
    RCV_SHUTDOWN,
    SHUTDOWN_MASK,
    SOCK_DGRAM,
    SOCK_MAX,
    SOCK_RAW,
    SOCK_STREAM,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
)
from stack.inet.datagram import check_sockaddr, is_unspec
from stack.inet.ping import ping_init, ping_prot
from stack.inet.protocol import (
    INET_PROTOSW_ICSK,
    INET_PROTOSW_PERMANENT,
    INET_PROTOSW_REUSE,
    inet_add_protocol,
    inet_protosw,
    net_proto_family,
    net_protocol,
    new_inet_protos,
    new_inetsw,
    proto_ops,
    proto_register,
)
from stack.inet.raw import raw_init_net, raw_prot
from stack.inet.tcp import tcp_init, tcp_poll, tcp_set_rcvlowat
from stack.inet.udp import udp_init, udp_poll, udp_prot, udp_protocol
from stack.ipv4.af_ops import ipv4_af_ops
from stack.ipv4.arp import arp_net_ops
from stack.ipv4.devinet import devinet_net_ops
from stack.ipv4.fib import (
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    inet_addr_type,
    ip_fib_init,
)
from stack.ipv4.icmp import icmp_err, icmp_exit, icmp_init, icmp_rcv
from stack.ipv4.igmp import igmp_protocol, ip_mc_drop_socket
from stack.ipv4.ip_fragment import ip_frags_exit, ip_frags_init
from stack.ipv4.ip_input import ip_rcv
from stack.ipv4.ip_output import ip_init
from stack.ipv4.netns import netns_ipv4
from stack.ipv4.tcp_ipv4 import tcp_prot, tcp_protocol, tcp_sk_exit

if TYPE_CHECKING:
    from stack.machine import Machine
    from stack.net import Net

# --- life of a socket ----------------------------------------------------------------------


def inet_create(net: Any, sock: socket, protocol: int, kern: bool = False) -> None:
    """net/ipv4/af_inet.c: find (type, protocol) in inetsw and build the sock.

    Raises: OSError EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, or what prot->init says.
    """
    if not 0 <= protocol < 256:
        raise OSError(errno.EINVAL, f"protocol {protocol} does not exist")
    sock.state = SS_UNCONNECTED
    answer: inet_protosw | None = None
    err = errno.ESOCKTNOSUPPORT
    for row in net.inetsw[sock.type]:
        err = 0
        if protocol == row.protocol:
            if protocol != IPPROTO_IP:
                answer = row
                break
        else:
            if protocol == IPPROTO_IP:  # the wild case: the row decides
                protocol = row.protocol
                answer = row
                break
            if row.protocol == IPPROTO_IP:  # a wild row: the caller decides
                answer = row
                break
        err = errno.EPROTONOSUPPORT
    if answer is None:
        raise OSError(err, f"no protocol {protocol} for sockets of type {sock.type}")
    if sock.type == SOCK_RAW and not kern and not ns_capable(net, CAP_NET_RAW):
        raise PermissionError(errno.EPERM, f"raw sockets: the user is {net.uid}, not root")
    sock.ops = answer.ops
    sk = sk_alloc(net, PF_INET, 0, answer.prot, kern)
    if answer.flags & INET_PROTOSW_REUSE:
        sk.sk_reuse = SK_CAN_REUSE
    sk.is_icsk = bool(answer.flags & INET_PROTOSW_ICSK)
    if sock.type == SOCK_RAW:
        sk.inet_num = protocol
        if protocol == IPPROTO_RAW:
            sk.hdrincl = True
    sk.sk_af = ipv4_af_ops
    sock_init_data(sock, sk)
    sk.destruct = inet_sock_destruct
    sk.sk_protocol = protocol
    if sk.inet_num:
        # A raw socket is bound to its protocol from the start.
        sk.inet_sport = sk.inet_num
        sk.sk_prot.hash(sk)
    if sk.sk_prot.init is not None:
        try:
            result = sk.sk_prot.init(sk)
            if result:
                raise os_error(result)
        except OSError:
            if sk.sk_prot.unhash is not None:
                sk.sk_prot.unhash(sk)
            sk_free(sk)
            sock.sk = None
            sock.ops = None
            raise


def inet_sock_destruct(sk: Any) -> None:
    """net/ipv4/af_inet.c: last words of an IPv4 sock."""
    sk.sk_flags |= SOCK_DEAD
    sk.inet_opt = None
    sk.sk_dst_cache = None
    sk.sk_rx_dst = None


def inet_release(sock: socket) -> int:
    """net/ipv4/af_inet.c: the application is done; the transport may go on for a while."""
    sk = sock.sk
    if sk is None:
        return 0
    if sock.state != SS_UNCONNECTED:
        sock.state = SS_DISCONNECTING
    ip_mc_drop_socket(sk)
    timeout = 0
    if sk.sk_flags & SOCK_LINGER:
        timeout = sk.sk_lingertime
    wq = sk.sk_wq
    sk.sk_prot.close(sk, timeout)
    sock.sk = None
    # Whoever still sleeps on or watches the socket must notice that it is gone.
    for fn in tuple(wq.waiters):
        fn()
    sk.net.clock.wake()
    return 0


def inet_bind(sock: socket, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/af_inet.c: local address and port. Raises: OSError."""
    sk = sock.sk
    if sk.sk_prot.bind is not None:
        return sk.sk_prot.bind(sk, uaddr, addr_len)
    return __inet_bind(sk, uaddr)


def __inet_bind(sk: Any, uaddr: sockaddr) -> int:
    """net/ipv4/af_inet.c. Raises: OSError EADDRNOTAVAIL, EACCES, EINVAL, EADDRINUSE."""
    net = sk.net
    addr, snum = uaddr.addr, uaddr.port
    if uaddr.family == AF_UNSPEC and not addr:
        pass  # old programs leave the family out (net/ipv4/af_inet.c)
    else:
        check_sockaddr(uaddr)
    kind = inet_addr_type(net, addr)
    if not (net.sysctl.ip_nonlocal_bind or sk.freebind or sk.transparent) and (
        addr != INADDR_ANY and kind not in (RTN_LOCAL, RTN_MULTICAST, RTN_BROADCAST)
    ):
        raise OSError(errno.EADDRNOTAVAIL, "not an address of this host")
    start = net.sysctl.ip_unprivileged_port_start
    if snum and snum < start and not ns_capable(net, CAP_NET_BIND_SERVICE):
        raise PermissionError(
            errno.EACCES,
            f"port {snum}: user {net.uid} may bind from {start} on (ip_unprivileged_port_start)",
        )
    lock_sock(sk)
    try:
        if sk.sk_state != TCP_CLOSE or sk.inet_num:
            raise OSError(errno.EINVAL, "the socket is bound or connected")
        sk.inet_rcv_saddr = sk.inet_saddr = addr
        if kind in (RTN_MULTICAST, RTN_BROADCAST):
            sk.inet_saddr = 0  # use the device's address
        if snum or not sk.bind_address_no_port:
            try:
                taken = sk.sk_prot.get_port(sk, snum)
            except OSError:
                sk.inet_saddr = sk.inet_rcv_saddr = 0
                raise
            if taken:
                sk.inet_saddr = sk.inet_rcv_saddr = 0
                raise OSError(errno.EADDRINUSE, f"port {snum} is in use")
        if sk.inet_rcv_saddr:
            sk.sk_flags |= SOCK_BINDADDR_LOCK
        if snum:
            sk.sk_flags |= SOCK_BINDPORT_LOCK
        sk.inet_sport = sk.inet_num
        sk.inet_daddr = 0
        sk.inet_dport = 0
        sk_dst_reset(sk)
        return 0
    finally:
        release_sock(sk)


def inet_autobind(sk: Any) -> int:
    """net/ipv4/af_inet.c: a free port for a socket that was never bound. 0 or -EAGAIN."""
    lock_sock(sk)
    try:
        if not sk.inet_num:
            if sk.sk_prot.get_port(sk, 0):
                return -errno.EAGAIN
            sk.inet_sport = sk.inet_num
        return 0
    finally:
        release_sock(sk)


def inet_listen(sock: socket, backlog: int) -> int:
    """net/ipv4/af_inet.c: become a listener, or change its backlog. Raises: OSError."""
    from stack.inet.inet_connection_sock import inet_csk_listen_start

    sk = sock.sk
    lock_sock(sk)
    try:
        if sock.state != SS_UNCONNECTED or sock.type != SOCK_STREAM:
            raise OSError(errno.EINVAL, "only an unconnected stream can listen")
        if not 1 << sk.sk_state & (TCPF_CLOSE | TCPF_LISTEN):
            raise OSError(errno.EINVAL, "the socket is connected")
        sk.sk_max_ack_backlog = backlog
        if sk.sk_state != TCP_LISTEN:
            inet_csk_listen_start(sk)
        return 0
    finally:
        release_sock(sk)


def inet_accept(sock: socket, newsock: socket, flags: int, kern: bool = False) -> int:
    """net/ipv4/af_inet.c: the next connection becomes `newsock`. Raises: OSError."""
    sk1 = sock.sk
    sk2 = sk1.sk_prot.accept(sk1, flags)
    lock_sock(sk2)
    __inet_accept(sock, newsock, sk2)
    release_sock(sk2)
    return 0


def __inet_accept(sock: socket, newsock: socket, newsk: Any) -> None:
    """net/ipv4/af_inet.c"""
    sock_graft(newsk, newsock)
    newsock.state = SS_CONNECTED


def inet_getname(sock: socket, uaddr: Any, addr_len: int, peer: int) -> sockaddr:
    """net/ipv4/af_inet.c: `peer` picks remote (1; 2 = even when the connection ended) or local.

    Raises: OSError ENOTCONN.
    """
    sk = sock.sk
    if peer:
        if not sk.inet_dport or (1 << sk.sk_state & (TCPF_CLOSE | TCPF_SYN_SENT) and peer == 1):
            raise OSError(errno.ENOTCONN, "the socket is not connected")
        return sockaddr(AF_INET, sk.inet_daddr, sk.inet_dport)
    return sockaddr(AF_INET, sk.inet_rcv_saddr or sk.inet_saddr, sk.inet_sport)


# --- connect -------------------------------------------------------------------------------


def inet_dgram_connect(sock: socket, uaddr: sockaddr, addr_len: int, flags: int) -> int:
    """net/ipv4/af_inet.c: fix the peer of a datagram socket, or (AF_UNSPEC) forget it.

    Raises: OSError.
    """
    sk = sock.sk
    if is_unspec(uaddr):
        return sk.sk_prot.disconnect(sk, flags)
    check_sockaddr(uaddr)
    if sk.sk_prot.pre_connect is not None:
        sk.sk_prot.pre_connect(sk, uaddr, addr_len)
    if not sk.inet_num and sk.sk_prot.get_port is not None and inet_autobind(sk):
        raise BlockingIOError(errno.EAGAIN, "no port is free")
    return sk.sk_prot.connect(sk, uaddr, addr_len)


def inet_stream_connect(sock: socket, uaddr: sockaddr, addr_len: int, flags: int) -> int:
    """net/ipv4/af_inet.c: connect a stream. Raises: OSError, BlockingIOError (EINPROGRESS)."""
    sk = sock.sk
    lock_sock(sk)
    try:
        return __inet_stream_connect(sock, uaddr, addr_len, flags)
    finally:
        release_sock(sk)


def __inet_stream_connect(
    sock: socket, uaddr: sockaddr, addr_len: int, flags: int, is_sendmsg: bool = False
) -> int:
    """net/ipv4/af_inet.c: the same with the sock owned."""
    sk = sock.sk
    if is_unspec(uaddr):
        err = sk.sk_prot.disconnect(sk, flags)
        sock.state = SS_DISCONNECTING if err else SS_UNCONNECTED
        return err
    check_sockaddr(uaddr)
    if sock.state == SS_CONNECTED:
        raise OSError(errno.EISCONN, "already connected")
    if sock.state == SS_CONNECTING:
        pending = errno.EALREADY
        if sk.sk_err:
            return inet_sock_failed(sock, sk, flags)
    elif sock.state == SS_UNCONNECTED:
        if sk.sk_state != TCP_CLOSE:
            raise OSError(errno.EISCONN, "already connected")
        if sk.sk_prot.pre_connect is not None:
            sk.sk_prot.pre_connect(sk, uaddr, addr_len)
        err = sk.sk_prot.connect(sk, uaddr, addr_len)
        if err:
            raise os_error(err)
        sock.state = SS_CONNECTING
        pending = errno.EINPROGRESS
    else:
        raise OSError(errno.EINVAL, "the socket is closing")
    timeo_ns = sock_sndtimeo(sk, flags & O_NONBLOCK)
    if 1 << sk.sk_state & (TCPF_SYN_SENT | TCPF_SYN_RECV):
        if timeo_ns <= 0:
            raise BlockingIOError(pending, "the connection is being made")
        timeo_ns = inet_wait_for_connect(sk, timeo_ns)
        if timeo_ns <= 0 and 1 << sk.sk_state & (TCPF_SYN_SENT | TCPF_SYN_RECV):
            raise BlockingIOError(pending, "the connection is being made")
    # Refused, reset or timed out: the state is CLOSE again.
    if sk.sk_state == TCP_CLOSE:
        return inet_sock_failed(sock, sk, flags)
    sock.state = SS_CONNECTED
    return 0


def inet_sock_failed(sock: socket, sk: Any, flags: int) -> int:
    """A connect failed: back to unconnected. Raises: OSError."""
    err = sock_error(sk) or -errno.ECONNABORTED
    sock.state = SS_UNCONNECTED
    if sk.sk_prot.disconnect is not None and sk.sk_prot.disconnect(sk, flags):
        sock.state = SS_DISCONNECTING
    raise os_error(err)


def inet_wait_for_connect(sk: Any, timeo_ns: int) -> int:
    """net/ipv4/af_inet.c: sleep until the handshake is over. Returns the ns left."""
    # No writer is pending (the kernel's writebias is 1 for fast open only), so the handshake's last
    # ACK leaves at once instead of waiting for data to ride on.
    return sk_wait_event(
        sk,
        timeo_ns,
        lambda: bool(sk.sk_err or not 1 << sk.sk_state & (TCPF_SYN_SENT | TCPF_SYN_RECV)),
    )


# --- data ----------------------------------------------------------------------------------


def inet_send_prepare(sk: Any) -> None:
    """net/ipv4/af_inet.c: a port is needed before the first datagram. Raises: OSError EAGAIN."""
    if not sk.inet_num and not sk.sk_prot.no_autobind and inet_autobind(sk):
        raise BlockingIOError(errno.EAGAIN, "no port is free")


def inet_sendmsg(sock: socket, msg: Any, size: int) -> int:
    """net/ipv4/af_inet.c. Raises: OSError."""
    sk = sock.sk
    if not sk.inet_num:
        inet_send_prepare(sk)
    sendmsg = sk.sk_prot.sendmsg
    return sendmsg(sk, msg, size)


def inet_recvmsg(sock: socket, msg: Any, size: int, flags: int) -> int:
    """net/ipv4/af_inet.c. Raises: OSError."""
    sk = sock.sk
    recvmsg = sk.sk_prot.recvmsg
    return recvmsg(sk, msg, size, flags)


sock_common_recvmsg = inet_recvmsg  # kernel-flow.md: the old name


def inet_sendpage(sock: socket, page: Any, offset: int, size: int, flags: int) -> int:
    """net/ipv4/af_inet.c (gone; MSG_SPLICE_PAGES today). Raises: OSError EOPNOTSUPP."""
    sk = sock.sk
    if sk.sk_prot.sendpage is None:
        sock_no_sendpage()
    return sk.sk_prot.sendpage(sk, page, offset, size, flags)


def sock_common_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """net/core/sock.c: the protocol's options. Raises: OSError."""
    sock.sk.sk_prot.setsockopt(sock.sk, level, optname, optval)


def sock_common_getsockopt(sock: socket, level: int, optname: int) -> Any:
    """net/core/sock.c: the protocol's options. Raises: OSError."""
    return sock.sk.sk_prot.getsockopt(sock.sk, level, optname)


inet_setsockopt = sock_common_setsockopt
inet_getsockopt = sock_common_getsockopt
compat_sock_common_setsockopt = sock_common_setsockopt
compat_sock_common_getsockopt = sock_common_getsockopt


def inet_shutdown(sock: socket, how: int) -> int:
    """net/ipv4/af_inet.c: SHUT_RD, SHUT_WR or SHUT_RDWR. Raises: OSError EINVAL, ENOTCONN."""
    sk = sock.sk
    how += 1  # 0, 1, 2 become the bits RCV_SHUTDOWN, SEND_SHUTDOWN, both
    if how & ~SHUTDOWN_MASK or not how:
        raise OSError(errno.EINVAL, f"{how - 1} is not SHUT_RD, SHUT_WR or SHUT_RDWR")
    lock_sock(sk)
    try:
        if sock.state == SS_CONNECTING:
            connecting = TCPF_SYN_SENT | TCPF_SYN_RECV | TCPF_CLOSE
            sock.state = SS_DISCONNECTING if 1 << sk.sk_state & connecting else SS_CONNECTED
        failed = False
        if sk.sk_state == TCP_CLOSE:
            failed = True  # ENOTCONN, but wake sleepers all the same
        if sk.sk_state == TCP_LISTEN:
            if how & RCV_SHUTDOWN:
                err = sk.sk_prot.disconnect(sk, O_NONBLOCK)
                sock.state = SS_DISCONNECTING if err else SS_UNCONNECTED
        elif sk.sk_state == TCP_SYN_SENT:
            err = sk.sk_prot.disconnect(sk, O_NONBLOCK)
            sock.state = SS_DISCONNECTING if err else SS_UNCONNECTED
        else:
            sk.sk_shutdown |= how
            if sk.sk_prot.shutdown is not None:
                sk.sk_prot.shutdown(sk, how)
        sk.sk_state_change()
        if failed:
            raise OSError(errno.ENOTCONN, "the socket is not connected")
        return 0
    finally:
        release_sock(sk)


def inet_ioctl(sock: socket, cmd: int, arg: Any = None) -> Any:
    """net/ipv4/af_inet.c: the protocol's requests. Raises: OSError ENOTTY."""
    sk = sock.sk
    if sk.sk_prot.ioctl is None:
        raise OSError(errno.ENOTTY, f"unknown request {cmd:#x}")
    return sk.sk_prot.ioctl(sk, cmd, arg)


inet_compat_ioctl = inet_ioctl


def inet_poll(file: Any, sock: socket, wait: Any = None) -> int:
    """net/ipv4 of old: poll of a datagram socket."""
    return udp_poll(file, sock, wait)


# --- tables --------------------------------------------------------------------------------

inet_dgram_ops = proto_ops(
    family=PF_INET,
    release=inet_release,
    bind=inet_bind,
    connect=inet_dgram_connect,
    socketpair=sock_no_socketpair,
    accept=sock_no_accept,
    getname=inet_getname,
    poll=udp_poll,
    ioctl=inet_ioctl,
    listen=sock_no_listen,
    shutdown=inet_shutdown,
    setsockopt=sock_common_setsockopt,
    getsockopt=sock_common_getsockopt,
    sendmsg=inet_sendmsg,
    recvmsg=inet_recvmsg,
    mmap=sock_no_mmap,
    sendpage=inet_sendpage,
    compat_setsockopt=compat_sock_common_setsockopt,
    compat_getsockopt=compat_sock_common_getsockopt,
    compat_ioctl=inet_compat_ioctl,
)

inet_sockraw_ops = proto_ops(
    family=PF_INET,
    release=inet_release,
    bind=inet_bind,
    connect=inet_dgram_connect,
    socketpair=sock_no_socketpair,
    accept=sock_no_accept,
    getname=inet_getname,
    poll=udp_poll,
    ioctl=inet_ioctl,
    listen=sock_no_listen,
    shutdown=inet_shutdown,
    setsockopt=sock_common_setsockopt,
    getsockopt=sock_common_getsockopt,
    sendmsg=inet_sendmsg,
    recvmsg=inet_recvmsg,
    mmap=sock_no_mmap,
    sendpage=inet_sendpage,
    compat_setsockopt=compat_sock_common_setsockopt,
    compat_getsockopt=compat_sock_common_getsockopt,
    compat_ioctl=inet_compat_ioctl,
)


inet_stream_ops = proto_ops(
    family=PF_INET,
    release=inet_release,
    bind=inet_bind,
    connect=inet_stream_connect,
    socketpair=sock_no_socketpair,
    accept=inet_accept,
    getname=inet_getname,
    poll=tcp_poll,
    ioctl=inet_ioctl,
    listen=inet_listen,
    shutdown=inet_shutdown,
    setsockopt=sock_common_setsockopt,
    getsockopt=sock_common_getsockopt,
    sendmsg=inet_sendmsg,
    recvmsg=inet_recvmsg,
    mmap=sock_no_mmap,
    sendpage=inet_sendpage,
    compat_setsockopt=compat_sock_common_setsockopt,
    compat_getsockopt=compat_sock_common_getsockopt,
    compat_ioctl=inet_compat_ioctl,
    set_rcvlowat=tcp_set_rcvlowat,
)

inet_family_ops = net_proto_family(family=PF_INET, create=inet_create)

inetsw_array = (
    inet_protosw(
        SOCK_STREAM,
        IPPROTO_TCP,
        tcp_prot,
        inet_stream_ops,
        INET_PROTOSW_PERMANENT | INET_PROTOSW_ICSK,
    ),
    inet_protosw(SOCK_DGRAM, IPPROTO_UDP, udp_prot, inet_dgram_ops, INET_PROTOSW_PERMANENT),
    inet_protosw(SOCK_DGRAM, IPPROTO_ICMP, ping_prot, inet_dgram_ops, INET_PROTOSW_REUSE),
    inet_protosw(SOCK_RAW, IPPROTO_IP, raw_prot, inet_sockraw_ops, INET_PROTOSW_REUSE),
)

icmp_protocol = net_protocol(handler=icmp_rcv, err_handler=icmp_err, no_policy=True)


def inet_register_protosw(net: Any, row: inet_protosw) -> None:
    """net/ipv4/af_inet.c: link a row into inetsw, behind the permanent ones of its type.

    Raises: OSError EINVAL for an illegal type, EPERM when a permanent row has the protocol.
    """
    if not 0 <= row.type < SOCK_MAX:
        raise OSError(errno.EINVAL, f"socket type {row.type} does not exist")
    rows = net.inetsw[row.type]
    at = 0
    for other in rows:
        if not other.flags & INET_PROTOSW_PERMANENT:
            break
        if other.protocol == row.protocol:
            raise OSError(errno.EPERM, f"protocol {row.protocol} is permanent")
        at += 1
    rows.insert(at, row)


def inet_unregister_protosw(net: Any, row: inet_protosw) -> None:
    """net/ipv4/af_inet.c. Raises: OSError EPERM for a permanent row."""
    if row.flags & INET_PROTOSW_PERMANENT:
        raise OSError(errno.EPERM, "a permanent protocol cannot be removed")
    if row in net.inetsw[row.type]:
        net.inetsw[row.type].remove(row)


def inet_init_net(net: Net) -> None:
    """net/ipv4/af_inet.c: IPv4 of one namespace: sockets, protocols, routing, ICMP."""
    net.ipv4 = netns_ipv4(net)
    net.inet_protos = new_inet_protos()
    net.inetsw = new_inetsw()
    net.ra_chain = []
    raw_init_net(net)
    ping_init(net)
    udp_init(net)
    for prot in (tcp_prot, udp_prot, raw_prot, ping_prot):
        proto_register(net, prot)
    sock_register(net, inet_family_ops)
    inet_add_protocol(net, icmp_protocol, IPPROTO_ICMP)
    inet_add_protocol(net, udp_protocol, IPPROTO_UDP)
    inet_add_protocol(net, igmp_protocol, IPPROTO_IGMP)
    inet_add_protocol(net, tcp_protocol, IPPROTO_TCP)
    for row in inetsw_array:
        inet_register_protosw(net, row)
    ip_init(net)
    ip_fib_init(net)
    ip_frags_init(net)
    tcp_init(net)
    icmp_init(net)
    net.ip_packet_type = packet_type(ETH_P_IP, ip_rcv)
    dev_add_pack(net, net.ip_packet_type)


def inet_pre_exit(net: Net) -> None:
    """Free what waits for reassembly, while the devices still work."""
    ip_frags_exit(net)
    icmp_exit(net)


af_inet_ops = pernet_operations(init=inet_init_net, pre_exit=inet_pre_exit, exit=tcp_sk_exit)


def inet_init(machine: Machine) -> None:
    """net/ipv4/af_inet.c: bring IPv4 up on a machine, in each of its namespaces."""
    for ops in (sock_net_ops, devinet_net_ops, arp_net_ops, af_inet_ops):
        register_pernet_subsys(machine, ops)
    register_pernet_device(machine, sock_exit_ops)
