"""XTP's rows in the tables of IPv4: sockets by type and protocol, packets by protocol."""

from __future__ import annotations

from stack.core import uapi
from stack.core.bsd_socket import sock_create_kern
from stack.core.net_namespace import pernet_operations
from stack.core.proto import proto, proto_register
from stack.core.rows import replace
from stack.inet.protocol import inet_add_protocol, net_protocol
from stack.inet.protosw import inet_protosw, inet_register_protosw
from stack.ipv4.af_inet import inet_dgram_ops, inet_stream_ops
from stack.net import Net
from stack.xtp.datagram import (
    xtp_dgram_close,
    xtp_dgram_connect,
    xtp_dgram_disconnect,
    xtp_dgram_poll,
    xtp_dgram_recvmsg,
    xtp_dgram_sendmsg,
)
from stack.xtp.demux import xtp_backlog_rcv, xtp_err, xtp_rcv
from stack.xtp.stream import (
    xtp_accept,
    xtp_close,
    xtp_connect,
    xtp_disconnect,
    xtp_getsockopt,
    xtp_init_sock,
    xtp_ioctl,
    xtp_listen,
    xtp_poll,
    xtp_recvmsg,
    xtp_sendmsg,
    xtp_setsockopt,
    xtp_shutdown,
)
from stack.xtp.xmit import xtp_release_cb
from stack.xtp.xtp_sock import xtp_get_port, xtp_net, xtp_put_port, xtp_sock

NO_SOCKOPTS = (
    uapi.SO_BROADCAST,
    uapi.SO_BUF_LOCK,
    uapi.SO_DEBUG,
    uapi.SO_KEEPALIVE,
    uapi.SO_MAX_PACING_RATE,
    uapi.SO_NO_CHECK,
    uapi.SO_OOBINLINE,
    uapi.SO_TXTIME,
)
"""Options without meaning in XTP. XTP sends to one peer at its rate, and always probes
that the peer is alive. It has XTP_NOCHECK and no urgent data. Buffer sizes are fixed, and it
logs no states."""

xtp_prot = proto(
    name="XTP",
    close=xtp_close,
    connect=xtp_connect,
    disconnect=xtp_disconnect,
    accept=xtp_accept,
    ioctl=xtp_ioctl,
    init=xtp_init_sock,
    shutdown=xtp_shutdown,
    setsockopt=xtp_setsockopt,
    getsockopt=xtp_getsockopt,
    sendmsg=xtp_sendmsg,
    recvmsg=xtp_recvmsg,
    backlog_rcv=xtp_backlog_rcv,
    release_cb=xtp_release_cb,
    unhash=xtp_put_port,
    get_port=xtp_get_port,
    no_autobind=True,
    no_sockopts=(*NO_SOCKOPTS, uapi.SO_RXQ_OVFL),
    sock_class=xtp_sock,
)
xtp_dgram_prot = replace(
    xtp_prot,
    name="XTP-DGRAM",
    close=xtp_dgram_close,
    connect=xtp_dgram_connect,
    disconnect=xtp_dgram_disconnect,
    accept=None,
    shutdown=None,
    sendmsg=xtp_dgram_sendmsg,
    recvmsg=xtp_dgram_recvmsg,
    no_autobind=False,
    no_sockopts=(*NO_SOCKOPTS, uapi.SO_LINGER, uapi.SO_RCVLOWAT),
)
xtp_stream_ops = replace(inet_stream_ops, listen=xtp_listen, poll=xtp_poll, set_rcvlowat=None)
xtp_dgram_ops = replace(inet_dgram_ops, poll=xtp_dgram_poll)

inetsw_array = (
    inet_protosw(uapi.SOCK_STREAM, uapi.IPPROTO_XTP, xtp_prot, xtp_stream_ops),
    inet_protosw(uapi.SOCK_DGRAM, uapi.IPPROTO_XTP, xtp_dgram_prot, xtp_dgram_ops),
)

xtp_protocol = net_protocol(handler=xtp_rcv, err_handler=xtp_err)


def xtp_init_net(net: Net) -> None:
    """Set up XTP in a namespace."""
    net.xtp = xtp_net()
    for prot in (xtp_prot, xtp_dgram_prot):
        proto_register(net, prot)
    inet_add_protocol(net, xtp_protocol, uapi.IPPROTO_XTP)
    for row in inetsw_array:
        inet_register_protosw(net.inetsw, row)
    sock = sock_create_kern(net, uapi.PF_INET, uapi.SOCK_RAW, uapi.IPPROTO_XTP)
    net.xtp.ctl_sk = sock.sk
    sock.sk.sk_prot.unhash(sock.sk)  # used only for sending


xtp_net_ops = pernet_operations(init=xtp_init_net)
