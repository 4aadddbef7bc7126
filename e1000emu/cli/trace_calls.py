"""Kinds of `e1000emu trace` that record calls and events rather than a packet's way."""

from __future__ import annotations

import struct
from contextlib import suppress

from e1000emu.cli.trace_kinds import (
    UNRECORDED,
    V4,
    Family,
    Kinds,
    Round,
    Scene,
    Trace,
    over_ipv6,
    steps,
)
from fastpath.base.skbuff import sk_buff
from stack.api.select import POLLIN, poll
from stack.core.ioctl import sys_ioctl
from stack.core.netfilter import (
    NF_DROP,
    NF_INET_LOCAL_IN,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_hook_state,
    nf_register_net_hook,
)
from stack.core.sock import lock_sock, release_sock
from stack.core.uapi import SIOCINQ
from stack.ipv4.icmp import icmp_send
from stack.ipv4.icmp_codes import ICMP_DEST_UNREACH, ICMP_PORT_UNREACH
from stack.ipv6.ip6_icmp import ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, icmpv6_send
from stack.socket import (
    AF_INET,
    IPPROTO_TCP,
    SHUT_WR,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    TCP_NODELAY,
    Socket,
    create_connection,
    create_server,
)

ALL_HOSTS = "224.0.0.1"
IGMP_QUERY = struct.pack("!BBH4s", 0x11, 100, 0xEE9B, bytes(4))


def _server(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)

    def one(trace: Trace) -> None:
        with trace(None):
            listener = Socket(scene.b, family.af, SOCK_STREAM)
            listener.bind((family.b, 9001))
            listener.listen(5)
        client = create_connection(scene.a, (family.b, 9001))
        scene.settle()
        with trace(None):
            server, _ = listener.accept()
        client.close()  # first: no port is left in TIME_WAIT
        scene.settle()
        server.close()
        with trace(None):
            listener.close()
        scene.settle()

    return one


def _calls(scene: Scene, family: Family = V4) -> Round:
    client, server = scene.tcp(family)
    client.close()
    server.close()
    listener = create_server(scene.b, (family.b, 9001), family=family.af)

    def one(trace: Trace) -> None:
        client = create_connection(scene.a, (family.b, 9001))
        server, _ = listener.accept()
        scene.settle()
        watch = poll(scene.a)
        watch.register(client, POLLIN)
        with trace(None):
            client.getsockname()
            client.getpeername()
            client.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            client.getsockopt(IPPROTO_TCP, TCP_NODELAY)
            sys_ioctl(scene.a, client.host_fd, SIOCINQ)
            watch.poll(0)
            client.shutdown(SHUT_WR)
        scene.settle()
        server.close()
        client.close()
        scene.settle()

    return one


def _message(scene: Scene, family: Family = V4) -> Round:
    client, server = scene.tcp(family)

    def call() -> None:
        client.sendmsg([b"x" * 32, b"x" * 32])
        server.recvmsg(100)  # waits for it

    return steps((None, call), (UNRECORDED, scene.settle))


def _backlog(scene: Scene, family: Family = V4) -> Round:
    client, server = scene.tcp(family)
    return steps(
        (UNRECORDED, lambda: lock_sock(server.sk)),  # a call is in progress
        (UNRECORDED, lambda: client.send(b"x" * 64)),
        (scene.b, scene.settle_briefly),
        (None, lambda: release_sock(server.sk)),
        (UNRECORDED, lambda: server.recv(100)),
        (UNRECORDED, scene.settle),
    )


def _tcp_error(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)

    def refuse(skb: sk_buff, state: nf_hook_state) -> int:
        if family is V4:
            icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
        else:
            icmpv6_send(skb, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0)
        return NF_DROP

    pf = NFPROTO_IPV4 if family is V4 else NFPROTO_IPV6
    nf_register_net_hook(scene.b, NF_INET_LOCAL_IN, refuse, pf)

    def one(trace: Trace) -> None:
        client = Socket(scene.a, family.af, SOCK_STREAM)
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect((family.b, 9001))
        with trace(scene.a):
            scene.settle(0.001)
        client.close()
        scene.settle(1)

    return one


def _udp_connect(scene: Scene, family: Family = V4) -> Round:
    scene.udp(family)

    def calls() -> None:
        sock = Socket(scene.a, family.af, SOCK_DGRAM)
        sock.connect((family.b, 9000))
        sock.close()

    return steps((None, calls))


def _igmp(scene: Scene) -> Round:
    scene.udp()
    scene.a.route_add("224.0.0.0/4", dev="eth0")
    querier = Socket(scene.a, AF_INET, SOCK_RAW, 2)
    return steps(
        (UNRECORDED, lambda: querier.sendto(IGMP_QUERY, (ALL_HOSTS, 0))),
        (scene.b, scene.settle_briefly),
        (UNRECORDED, lambda: scene.settle(20)),
    )


CALL_KINDS: Kinds = {
    "tcp-server": ("bind(), listen() and accept(), and close() of the listener", _server),
    "calls": ("names, options, ioctl(), poll() and shutdown() of a connection", _calls),
    "message": ("sendmsg(), and recvmsg() that waits for it", _message),
    "backlog": ("a segment that comes while a call has the socket", _backlog),
    "tcp-error": ("an ICMP error to a connection that is being made", _tcp_error),
    "udp-connect": ("socket(), connect() and close() of datagrams", _udp_connect),
    "igmp": ("a query of a multicast router", _igmp),
}
CALL_KINDS |= over_ipv6(CALL_KINDS, "tcp-server calls tcp-error")
