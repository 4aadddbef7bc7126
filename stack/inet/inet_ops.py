"""struct proto_ops of the sockets of both families (net/ipv4/af_inet.c, net/ipv6/af_inet6.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stack.core.bsd_socket import socket
from stack.core.datagram import datagram_poll
from stack.core.proto import proto_ops
from stack.core.rows import replace
from stack.core.sock import sock_no_accept, sock_no_listen, sock_no_mmap, sock_no_socketpair
from stack.core.sockaddr import sockaddr
from stack.inet.inet_common import (
    inet_accept,
    inet_dgram_connect,
    inet_listen,
    inet_recvmsg,
    inet_sendmsg,
    inet_sendpage,
    inet_shutdown,
    inet_stream_connect,
    sock_common_getsockopt,
    sock_common_setsockopt,
)
from stack.inet.tcp import tcp_poll, tcp_set_rcvlowat
from stack.inet.tcp_recvmsg import tcp_splice_read
from stack.inet.udp import udp_poll


def inet_proto_ops(
    family: int,
    release: Callable[[socket], int],
    bind: Callable[[socket, sockaddr, int], int],
    getname: Callable[[socket, Any, int, int], sockaddr],
    ioctl: Callable[..., Any],
    compat_ioctl: Callable[..., Any],
) -> tuple[proto_ops, proto_ops, proto_ops]:
    """(inet_stream_ops, inet_dgram_ops, inet_sockraw_ops) of a family, from its functions."""
    dgram = proto_ops(
        family=family,
        release=release,
        bind=bind,
        connect=inet_dgram_connect,
        socketpair=sock_no_socketpair,
        accept=sock_no_accept,
        getname=getname,
        poll=udp_poll,
        ioctl=ioctl,
        listen=sock_no_listen,
        shutdown=inet_shutdown,
        setsockopt=sock_common_setsockopt,
        getsockopt=sock_common_getsockopt,
        sendmsg=inet_sendmsg,
        recvmsg=inet_recvmsg,
        mmap=sock_no_mmap,
        sendpage=inet_sendpage,
        compat_setsockopt=sock_common_setsockopt,
        compat_getsockopt=sock_common_getsockopt,
        compat_ioctl=compat_ioctl,
    )
    stream = replace(
        dgram,
        connect=inet_stream_connect,
        accept=inet_accept,
        listen=inet_listen,
        poll=tcp_poll,
        set_rcvlowat=tcp_set_rcvlowat,
        splice_read=tcp_splice_read,
    )
    return stream, dgram, replace(dgram, poll=datagram_poll)
