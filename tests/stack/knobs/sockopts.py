"""What each socket option does: `PROBES[name]`, a row (probe, {setting: what the probe sees}).

The probe gets the setting, None for an option left alone. For an option that can only be read the
setting is a situation, and the probe returns what getsockopt says.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from scapy.layers.inet import IPOption_Router_Alert, IPOption_RR

from e1000emu.clock import VirtualClock
from stack.core import uapi as u
from stack.core.bsd_socket import (
    sys_bind,
    sys_connect,
    sys_getsockname,
    sys_getsockopt,
    sys_poll_one,
    sys_recvfrom,
    sys_recvmsg,
    sys_sendto,
    sys_setsockopt,
    sys_socket,
    sys_socketpair,
)
from stack.core.dev_queue import netif_stop_queue, netif_wake_queue
from stack.core.iov import msghdr
from stack.core.netfilter import NF_ACCEPT, NF_INET_LOCAL_OUT, nf_register_net_hook
from stack.host import Host
from stack.inet import tcp_sock as t
from stack.inet.xfrm_policy import XFRM_POLICY_OUT, selector, xfrm_policy
from stack.netlink.xfrm_attrs import put_policy_info
from tests.stack.inet.tcpnet import ACK, MS, RST, B, Sock, TcpNet
from tests.stack.ipv4.net import FAR, ME, PEER, Net, at, one_host
from tests.stack.knobs import fastopen
from tests.stack.knobs.core_and_ip import GROUP, frag_needed, membership
from tests.stack.knobs.rig import (
    ICMP,
    IP,
    OUT,
    UDP,
    Raw,
    Rig,
    S,
    datagram,
    err,
    flows,
    ip4,
    makes_a_probe,
    push,
    send,
    take,
    udp,
    udp_host,
    waiting,
)
from tests.stack.knobs.tcp import _keep, doubles, mute, thin

SOL = u.SOL_SOCKET
Probe = Callable[[Any], Any]


def option(net: Net | Host, fd: int, level: int, name: int, value: Any) -> None:
    if value is not None:
        host = net if isinstance(net, Host) else net.host
        sys_setsockopt(host, fd, level, name, value)


def sock_option(sock: Sock, name: int, value: Any, level: int = 6) -> None:
    """A TCP option of a Sock; SOL_SOCKET ones too."""
    if value is None:
        return
    if level == SOL:
        from stack.core.sockopt import sock_setsockopt

        sock_setsockopt(sock.sock, level, name, value)
    else:
        sock.setsockopt(name, value, level)


@contextlib.contextmanager
def tcp(**options: Any) -> Iterator[TcpNet]:
    with Rig({}, False).tcp(**options) as net:
        yield net


def two_wires() -> Net:
    return one_host(addrs=(f"{ME}/24", f"{OUT}/24"))


def frames_on(net: Net) -> list[int]:
    """On which wires something was sent."""
    return [i for i in range(len(net.wires)) if net.frames(wire=i)]


# --- SOL_SOCKET ---------------------------------------------------------------------------


def so_acceptconn(listens: bool) -> Any:
    with tcp() as net:
        sock = net.listening(200) if listens else net.socket(net.b)
        from stack.core.sockopt import sock_getsockopt

        return sock_getsockopt(sock.sock, SOL, u.SO_ACCEPTCONN)


@makes_a_probe
def bound_device(value: Any, name: int) -> list[int]:
    net = two_wires()
    fd = udp(net)
    option(net, fd, SOL, name, value)
    net.frames(), net.frames(wire=1)
    with contextlib.suppress(OSError):
        send(net.host, fd, "10.0.0.77")
    net.run(1000)
    return frames_on(net)


def so_broadcast(value: Any) -> str:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_BROADCAST, value)
    return err(send, net.host, fd, "10.0.0.255")


@makes_a_probe
def one_peers(family: int, name: int) -> Any:
    """What a socket of a family answers about its peer."""
    net = one_host()
    pair = (udp(net), 0) if family == u.AF_INET else sys_socketpair(net.host, family, 1)
    return err(sys_getsockopt, net.host, pair[0], SOL, name) or sys_getsockopt(
        net.host, pair[0], SOL, name
    )


def so_cookie(which: int) -> bool:
    net = one_host()
    fds = [udp(net, 5000 + n) for n in range(2)]
    cookies = [sys_getsockopt(net.host, fd, SOL, u.SO_COOKIE) for fd in fds]
    return cookies[which] == cookies[0]


def so_debug(value: Any) -> list[str]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("stack.inet.tcp_done")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with tcp() as net:
            sock = net.socket(net.a)
            sock_option(sock, u.SO_DEBUG, value, SOL)
            sock.bind(4000)
            with contextlib.suppress(OSError):
                sock.connect(B, 80)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return said


def so_dontroute(value: Any) -> str:
    net = one_host()
    net.host.route_add("default", via="10.0.0.254")
    fd = udp(net)
    option(net, fd, SOL, u.SO_DONTROUTE, value)
    with contextlib.suppress(OSError):
        send(net.host, fd, FAR)
    net.run(1000)
    sent = net.frames()
    return "gateway" if sent and sent[0][:6] == b"\2\0\0\0\0\xfe" else "link"


def so_error(refused: bool) -> list[int]:
    net, fd = udp_host()
    sys_connect(net.host, fd, at(PEER, 9))
    if refused:
        inner = bytes(IP(src=ME, dst=PEER) / UDP(sport=5000, dport=9) / Raw(bytes(8)))
        net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=3) / Raw(inner))
    return [sys_getsockopt(net.host, fd, SOL, u.SO_ERROR) for _ in range(2)]


def so_keepalive(value: Any) -> bool:
    with tcp(sysctl={"tcp_keepalive_time": 5}) as net:
        a, _ = net.pair()
        sock_option(a, u.SO_KEEPALIVE, value, SOL)
        del net.log[:]
        net.run(8 * S)
        return bool(net.log)


def so_linger(value: Any) -> bool:
    with tcp() as net:
        a, _ = flows(net)
        sock_option(a, u.SO_LINGER, value, SOL)
        a.close()
        net.run(20 * MS)
        return any(s.flags & RST for s in net.log)


TWO_BYTES = ((6, 0, 0, 10),)  # of a datagram: its header and these


def filtered(*options: tuple[int, Any]) -> bytes | str:
    """What a UDP socket with these options receives of "abcdef", or the errno of the last one."""
    net = one_host()
    with net.host.socket(2, 2) as sock:
        sock.bind(("127.0.0.1", 7000))
        for number, value in options:
            try:
                if value is not None:
                    sock.setsockopt(SOL, number, value)
            except OSError as error:
                return errno.errorcode[error.errno or 0]
        sock.sendto(b"abcdef", ("127.0.0.1", 7000))
        sock.setblocking(False)
        try:
            return sock.recv(100)
        except BlockingIOError:
            return ""


def so_attach_filter(value: Any) -> bytes | str:
    return filtered((u.SO_ATTACH_FILTER, value))


def so_attach_bpf(value: Any) -> bytes | str:
    return filtered((u.SO_ATTACH_BPF, value))


def so_detach_filter(value: Any) -> bytes | str:
    return filtered((u.SO_ATTACH_FILTER, TWO_BYTES), (u.SO_DETACH_FILTER, value))


def so_lock_filter(value: Any) -> bytes | str:
    return filtered(
        (u.SO_ATTACH_FILTER, TWO_BYTES), (u.SO_LOCK_FILTER, value), (u.SO_DETACH_FILTER, 0)
    )


def so_mark(value: Any) -> list[int]:
    net = one_host()
    marks: list[int] = []
    nf_register_net_hook(
        net.host, NF_INET_LOCAL_OUT, lambda skb, state: marks.append(skb.mark) or NF_ACCEPT
    )
    fd = udp(net)
    option(net, fd, SOL, u.SO_MARK, value)
    send(net.host, fd, PEER)
    return marks


def so_max_pacing_rate(value: Any) -> float:
    """Seconds that 200 kB take, to a tenth."""
    with tcp(latency_ns=MS) as net:
        a, b = net.pair()
        sock_option(a, u.SO_MAX_PACING_RATE, value, SOL)
        start = net.clock.now_ns()
        assert push(net, a, b, 200_000) == 200_000
        return round((net.clock.now_ns() - start) / S, 1)


def so_meminfo(full: bool) -> bool:
    net, fd = udp_host()
    if full:
        net.inject(datagram(1000))
    return struct.unpack("=9I", sys_getsockopt(net.host, fd, SOL, u.SO_MEMINFO))[0] > 0


def so_no_check(value: Any) -> bool:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_NO_CHECK, value)
    send(net.host, fd, PEER)
    net.run(1000)
    return net.ip_sent()[0][UDP].chksum != 0


def so_oobinline(value: Any) -> bytes:
    with tcp() as net:
        a, b = net.pair()
        sock_option(b, u.SO_OOBINLINE, value, SOL)
        a.send(b"ab!", u.MSG_OOB)
        net.run(20 * MS)
        return b.recv_all()


def so_peek_off(value: Any) -> bytes:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_PEEK_OFF, value)
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / Raw(b"abcdef"))
    buffer = bytearray(9)
    n = sys_recvfrom(net.host, fd, buffer, u.MSG_PEEK | u.MSG_DONTWAIT)[0]
    return bytes(buffer[:n])


def so_zerocopy(value: Any) -> list[tuple[int, int]]:
    """Kinds of control messages on the error queue after a send with MSG_ZEROCOPY."""
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_ZEROCOPY, value)
    sys_sendto(net.host, fd, b"x", u.MSG_ZEROCOPY, at(PEER, 9))
    net.run(MS)
    msg = msghdr(None, [bytearray(9)], [])
    try:
        sys_recvmsg(net.host, fd, msg, u.MSG_ERRQUEUE)
    except BlockingIOError:
        return []
    return [message[:2] for message in msg.msg_control or ()]


def so_priority(value: Any) -> list[int]:
    """Destination ports in the order in which a stopped queue lets them go."""
    net = one_host()
    first, second = udp(net, 5000), udp(net, 5001)
    option(net, second, SOL, u.SO_PRIORITY, value)
    netif_stop_queue(net.wire.dev)
    send(net.host, first, PEER, port=1)
    send(net.host, second, PEER, port=2)
    netif_wake_queue(net.wire.dev)
    net.run(MS)
    return [p[UDP].dport for p in net.ip_sent()]


@makes_a_probe
def created(kind: tuple[int, int], name: int) -> Any:
    host = Rig({}, False).host()
    return sys_getsockopt(host, sys_socket(host, u.AF_INET, *kind), SOL, name)


@makes_a_probe
def receive_buffer(value: Any, name: int) -> str:
    net, fd = udp_host()
    option(net, fd, SOL, name, value)
    for _ in range(150):
        net.inject(datagram(1000))
    got = take(net.host, fd)
    return "all" if got == 150 else "few" if 0 < got < 5 else "some"


def so_rcvlowat(value: Any) -> bool:
    host = Rig({}, False).host()
    listener = host.socket(u.AF_INET, u.SOCK_STREAM)
    listener.bind(("127.0.0.1", 80))
    listener.listen()
    client = host.socket(u.AF_INET, u.SOCK_STREAM)
    client.connect(("127.0.0.1", 80))
    server, _ = listener.accept()
    if value is not None:
        server.setsockopt(SOL, u.SO_RCVLOWAT, value)
    client.sendall(b"12345")
    host.clock.run_for(S)
    return bool(server.poll() & u.POLLIN)


def receive_timeout(value: Any) -> str:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_RCVTIMEO, value)
    net.clock.call_at(net.clock.now_ns() + 2 * S, lambda: net.inject(datagram()))
    return err(sys_recvfrom, net.host, fd, bytearray(99), 0)


def send_timeout(value: Any) -> str:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_SNDTIMEO, value)
    sys_setsockopt(net.host, fd, SOL, u.SO_SNDBUF, 1)
    netif_stop_queue(net.wire.dev)
    net.clock.call_at(net.clock.now_ns() + 2 * S, lambda: netif_wake_queue(net.wire.dev))
    for _ in range(9):
        if name := err(sys_sendto, net.host, fd, bytes(1000), 0, at(PEER, 9)):
            return name
    return ""


def so_reuseaddr(value: Any) -> str:
    with tcp() as net:
        first, again = net.socket(net.b), net.socket(net.b)
        for sock in (first, again):
            sock_option(sock, u.SO_REUSEADDR, value, SOL)
        first.bind(80)
        first.listen(8)
        a = net.client()
        net.run(20 * MS)
        b = first.accept()
        first.close()
        b.close()  # it goes through TIME_WAIT
        net.run(20 * MS)
        a.close()
        net.run(20 * MS)
        return err(again.bind, 80)


def so_reuseport(value: Any) -> str:
    net = one_host()
    fds = [sys_socket(net.host, u.AF_INET, u.SOCK_DGRAM) for _ in range(2)]
    for fd in fds:
        option(net, fd, SOL, u.SO_REUSEPORT, value)
    sys_bind(net.host, fds[0], at(0, 5000))
    return err(sys_bind, net.host, fds[1], at(0, 5000))


def cmsgs(net: Net, fd: int, packet: Any, **inject: Any) -> list[tuple[int, int]]:
    """(level, type) of the control messages of a datagram."""
    net.inject(packet, **inject)
    msg = msghdr(None, [bytearray(2000)], [], 0)
    sys_recvmsg(net.host, fd, msg, u.MSG_DONTWAIT)
    return [(level, kind) for level, kind, _ in msg.msg_control or ()]


@makes_a_probe
def control(
    value: Any, level: int, name: int, packet: Callable[[], Any] = datagram, **inject: Any
) -> list[tuple[int, int]]:
    net, fd = udp_host()
    option(net, fd, level, name, value)
    return cmsgs(net, fd, packet(), **inject)


def so_rxq_ovfl(value: Any) -> list[tuple[int, int]]:
    net, fd = udp_host()
    option(net, fd, SOL, u.SO_RXQ_OVFL, value)
    sys_setsockopt(net.host, fd, SOL, u.SO_RCVBUF, 1)
    for _ in range(9):
        net.inject(datagram(1000))
    take(net.host, fd)
    return cmsgs(net, fd, datagram())


def so_select_err_queue(value: Any) -> bool:
    net, fd = udp_host()
    sys_setsockopt(net.host, fd, u.SOL_IP, u.IP_RECVERR, 1)
    option(net, fd, SOL, u.SO_SELECT_ERR_QUEUE, value)
    unreachable(net, fd)
    return bool(sys_poll_one(net.host, fd) & u.POLLPRI)


def unreachable(net: Net, fd: int) -> None:
    """An ICMP error about a datagram of the socket (from 5000 to PEER's 9)."""
    send(net.host, fd, PEER)
    inner = bytes(IP(src=ME, dst=PEER) / UDP(sport=5000, dport=9) / Raw(bytes(8)))
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=3) / Raw(inner))


@makes_a_probe
def send_buffer(value: Any, name: int) -> bool:
    net, fd = udp_host()
    option(net, fd, SOL, name, value)
    net.wire.busy = 1 << 30
    return any(err(send, net.host, fd, PEER, 1000) == "EAGAIN" for _ in range(40))


def so_sndlowat(_: Any) -> Any:
    host = Rig({}, False).host()
    return sys_getsockopt(host, sys_socket(host, u.AF_INET, u.SOCK_STREAM), SOL, u.SO_SNDLOWAT)


# --- IPPROTO_IP ---------------------------------------------------------------------------


@makes_a_probe
def sent_with(value: Any, name: int, what: Callable[[Any], Any], to: str = PEER) -> Any:
    """What a packet of the socket looks like."""
    net = one_host()
    net.host.route_add("224.0.0.0/4", dev="eth0")
    fd = udp(net)
    option(net, fd, u.SOL_IP, name, value)
    send(net.host, fd, to)
    net.run(1000)
    return what(net.ip_sent()[0])


def group_datagram(group: str = GROUP, src: str = PEER) -> tuple[Any, bytes]:
    low = ip4(group) & 0x7FFFFF
    return IP(src=src, dst=group) / UDP(sport=1, dport=5000) / b"x", b"\1\0\x5e" + low.to_bytes(
        3, "big"
    )


def member(*steps: tuple[int, bytes]) -> int:
    """Datagrams to the group that a socket gets after these options."""
    net, fd = udp_host()
    for name, value in steps:
        sys_setsockopt(net.host, fd, u.SOL_IP, name, value)
    packet, hw = group_datagram()
    net.inject(packet, dst=hw)
    return take(net.host, fd)


JOIN = (u.IP_ADD_MEMBERSHIP, membership())
SOURCE = membership(GROUP, PEER)


def membership_option(name: int, value: bytes, *before: tuple[int, bytes]) -> Probe:
    return lambda on: member(*before, *([(name, value)] if on else []))


def ip_bind_address_no_port(value: Any) -> bool:
    net = one_host()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_STREAM)
    option(net, fd, u.SOL_IP, u.IP_BIND_ADDRESS_NO_PORT, value)
    sys_bind(net.host, fd, at(ME, 0))
    return sys_getsockname(net.host, fd).port != 0


@makes_a_probe
def may_bind(value: Any, name: int) -> str:
    net = one_host()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_DGRAM)
    option(net, fd, u.SOL_IP, name, value)
    return err(sys_bind, net.host, fd, at(FAR, 5000))


@makes_a_probe
def xfrm_policy_of(action: Any, name: int) -> str:
    """The errno of setting the socket's own policy, or of sending when it is set."""
    net, fd = udp_host()
    if action is not None:
        data = put_policy_info(xfrm_policy(selector(), XFRM_POLICY_OUT, action))
        failed = err(sys_setsockopt, net.host, fd, u.SOL_IP, name, data)
        if failed:
            return failed
    return err(sys_sendto, net.host, fd, b"x", 0, at(PEER, 9))


def ip_hdrincl(value: Any) -> tuple[int, int]:
    """(protocol, TTL) of what a raw socket sends that was given a whole packet."""
    net = one_host()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_RAW, 200)
    option(net, fd, u.SOL_IP, u.IP_HDRINCL, value)
    packet = bytes(IP(src=ME, dst=PEER, proto=99, ttl=3) / Raw(bytes(20)))
    sys_sendto(net.host, fd, packet, 0, at(PEER, 0))
    net.run(1000)
    (sent,) = net.ip_sent()
    return sent.proto, sent.ttl


def ip_local_port_range(value: Any) -> list[bool]:
    host = Rig({}, False).host()
    seen = []
    for kind in (u.SOCK_DGRAM, u.SOCK_STREAM):
        fd = sys_socket(host, u.AF_INET, kind)
        option(host, fd, u.SOL_IP, u.IP_LOCAL_PORT_RANGE, value)
        sys_bind(host, fd, at(0, 0))
        seen.append(sys_getsockname(host, fd).port in (40000, 40001))
    return seen


def ip_minttl(value: Any) -> int:
    with tcp() as net:
        a, b = net.pair()
        sock_option(b, u.IP_MINTTL, value, u.SOL_IP)
        a.send(b"12345")
        net.run(20 * MS)
        return len(b.recv_all())


def ip_mtu(learned: bool) -> Any:
    net, fd = udp_host()
    sys_connect(net.host, fd, at(PEER, 9))
    if learned:
        frag_needed(net, PEER, 900)
    return sys_getsockopt(net.host, fd, u.SOL_IP, u.IP_MTU)


def ip_multicast_all(value: Any) -> int:
    net = one_host()
    other = udp(net, 6000)
    sys_setsockopt(net.host, other, u.SOL_IP, *JOIN)
    fd = udp(net)
    option(net, fd, u.SOL_IP, u.IP_MULTICAST_ALL, value)
    packet, hw = group_datagram()
    net.inject(packet, dst=hw)
    return take(net.host, fd)


def ip_multicast_if(value: Any) -> list[int]:
    net = two_wires()
    net.host.route_add("224.0.0.0/4", dev="eth0")
    fd = udp(net)
    option(net, fd, u.SOL_IP, u.IP_MULTICAST_IF, value)
    net.frames(), net.frames(wire=1)
    send(net.host, fd, GROUP)
    net.run(1000)
    return frames_on(net)


def ip_multicast_loop(value: Any) -> int:
    net, fd = udp_host()
    sys_setsockopt(net.host, fd, u.SOL_IP, u.IP_MULTICAST_IF, ip4(ME).to_bytes(4, "big"))
    sys_setsockopt(net.host, fd, u.SOL_IP, *JOIN)
    option(net, fd, u.SOL_IP, u.IP_MULTICAST_LOOP, value)
    send(net.host, fd, GROUP, port=5000)
    net.run(1000)
    return take(net.host, fd)


def ip_recverr(value: Any) -> str:
    net, fd = udp_host()
    option(net, fd, u.SOL_IP, u.IP_RECVERR, value)
    unreachable(net, fd)
    return err(sys_recvfrom, net.host, fd, bytearray(99), u.MSG_ERRQUEUE | u.MSG_DONTWAIT)


def ip_recvfragsize(value: Any) -> list[tuple[int, int]]:
    net, fd = udp_host()
    option(net, fd, u.SOL_IP, u.IP_RECVFRAGSIZE, value)
    whole = bytes(IP(bytes(datagram(1600)))[UDP])
    net.inject(IP(src=PEER, dst=ME, proto=17, id=5, flags=1) / Raw(whole[:800]))
    return cmsgs(net, fd, IP(src=PEER, dst=ME, proto=17, id=5, frag=100) / Raw(whole[800:]))


def ip_router_alert(value: Any) -> int:
    """A packet with the option that passes through a router: does the socket take it?"""
    net = Rig({}, False).router()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_RAW, 46)
    option(net, fd, u.SOL_IP, u.IP_ROUTER_ALERT, value)
    packet = IP(src=PEER, dst="10.1.0.2", proto=46, options=[IPOption_Router_Alert()])
    net.inject(packet / Raw(bytes(20)))
    return take(net.host, fd)


def ip_unicast_if(value: Any) -> list[int]:
    net = two_wires()
    net.host.route_add("192.0.2.0/24", dev="eth0")
    net.host.route_add("192.0.2.0/24", dev="eth1", metric=9)
    fd = udp(net)
    option(net, fd, u.SOL_IP, u.IP_UNICAST_IF, value)
    net.frames(), net.frames(wire=1)
    send(net.host, fd, FAR)
    net.run(1000)
    return frames_on(net)


# --- TCP ----------------------------------------------------------------------------------


def tcp_congestion(name: Any) -> str:
    with tcp() as net:
        return err(net.socket(net.a).setsockopt, t.TCP_CONGESTION, name)


def tcp_cork(value: Any) -> int:
    with tcp() as net:
        a, b = flows(net)
        a.setsockopt(t.TCP_NODELAY, 1)
        sock_option(a, t.TCP_CORK, value)
        a.send(b"12345")
        net.run(20 * MS)
        return len(b.recv_all())


def tcp_defer_accept(value: Any) -> bool:
    with tcp() as net:
        listener = net.listening(200)
        sock_option(listener, t.TCP_DEFER_ACCEPT, value)
        net.socket(net.a).connect(B, 80)
        net.run(100 * MS)
        return listener.readable


def delayed_ack_ms(value: Any) -> bool:
    """A dialogue's ACK comes within 20 ms."""
    with tcp(latency_ns=MS) as net:
        a, b = flows(net)
        sock_option(b, t.TCP_DELACK_MAX_US, value)
        b.setsockopt(t.TCP_QUICKACK, 0)
        net.run(S)
        del net.log[:]
        a.send(b"x")
        net.run(20 * MS)
        return any(s.src == B for s in net.log)


def tcp_cc_info(name: str) -> Any:
    """Neither CUBIC nor Reno has anything to tell."""
    with TcpNet() as net:
        a, _ = net.pair()
        a.setsockopt(t.TCP_CONGESTION, name)
        return bytes(a.getsockopt(t.TCP_CC_INFO))


def tcp_is_mptcp(_: Any) -> int:
    with tcp() as net:
        return net.pair()[0].getsockopt(t.TCP_IS_MPTCP)


def tcp_info(moved: bool) -> bool:
    with tcp() as net:
        a, b = net.pair()
        if moved:
            push(net, a, b, 1000)
        return struct.unpack_from("=Q", a.getsockopt(t.TCP_INFO), 120)[0] >= 1000


def tcp_inq(value: Any) -> list[tuple[int, int]]:
    from stack.inet.tcp_recvmsg import tcp_recvmsg

    with tcp() as net:
        a, b = net.pair()
        sock_option(b, t.TCP_INQ, value)
        a.send(b"12345")
        net.run(20 * MS)
        msg = msghdr(None, bytearray(2), [], 0)
        tcp_recvmsg(b.sk, msg, 2, u.MSG_DONTWAIT)
        return [(level, kind) for level, kind, _ in msg.msg_control or ()]


KEY_OF_PEER = struct.pack("=H2x4s120xBBHi80s", u.AF_INET, B.to_bytes(4, "big"), 0, 0, 1, 0, b"k")
"""struct tcp_md5sig: a key for the peer."""
KEY_OF_NET = struct.pack("=H2x4s120xBBHi80s", u.AF_INET, B.to_bytes(4, "big"), 1, 33, 1, 0, b"k")
"""The same for a prefix of 33 bits, which only TCP_MD5SIG_EXT reads."""


@makes_a_probe
def tcp_md5sig(value: Any, name: int) -> Any:
    """Whether a SYN is signed, or the error."""
    with tcp() as net:
        client = net.socket(net.a)
        if value is not None:
            failed = err(client.setsockopt, name, value)
            if failed:
                return failed
        client.connect(B, 80)
        return net.log[0].opt(19) is not None


@makes_a_probe
def keepalive(value: Any, name: int) -> list[int]:
    with tcp(sysctl={"tcp_keepalive_time": 10, "tcp_keepalive_probes": 2}) as net:
        net.a.sysctl.tcp_keepalive_intvl = 5
        a, _ = net.pair()
        _keep(a)
        sock_option(a, name, value)
        start = net.clock.now_ns()
        log = mute(net)
        net.run(60 * S)
        return [round((s.time_ns - start) / S) for s in log if not s.flags & RST]


def tcp_linger2(value: Any) -> int:
    with tcp() as net:
        a, _ = net.pair()
        sock_option(a, t.TCP_LINGER2, value)
        a.close()
        net.run(20 * S)
        return len(net.a.tcp_hashinfo.ehash)


def tcp_maxseg(value: Any) -> int:
    with tcp(gso=False) as net:
        listener = net.listening(200)
        a = net.socket(net.a)
        sock_option(a, t.TCP_MAXSEG, value)
        a.connect(B, 80)
        assert net.run_until(lambda: listener.readable)
        push(net, a, listener.accept(), 20_000)
        return max(len(s.payload) for s in net.log)


def tcp_nodelay(value: Any) -> int:
    with tcp(latency_ns=20 * MS) as net:
        a, _ = flows(net)
        net.run(S)
        sock_option(a, t.TCP_NODELAY, value)
        del net.log[:]
        for _ in range(3):
            a.send(b"x")
        return len([s for s in net.log if s.payload])


def tcp_notsent_lowat(value: Any) -> bool:
    with tcp() as net:
        a, _ = net.pair()
        sock_option(a, t.TCP_NOTSENT_LOWAT, value)
        mute(net)
        a.send(bytes(30_000))
        return a.writable


def tcp_quickack(value: Any) -> bool:
    """The ACK of one segment comes at once, while the window may grow."""
    with tcp(latency_ns=MS, sysctl={"tcp_rmem": (4096, 4 << 20, 6 << 20)}) as net:
        a, b = flows(net)
        sock_option(b, t.TCP_QUICKACK, value)
        del net.log[:]
        a.send(b"x")
        net.run(5 * MS)
        return any(s.src == B for s in net.log)


@makes_a_probe
def rto_times(value: Any, name: int, run_s: int) -> Any:
    with tcp(latency_ns=MS, sysctl={"tcp_early_retrans": 0}) as net:
        listener = net.listening(200)
        a = net.socket(net.a)
        sock_option(a, name, value)
        a.connect(B, 80)
        assert net.run_until(lambda: listener.readable)
        push(net, a, listener.accept(), 50_000)
        log = mute(net)
        a.send(b"x")
        net.run(run_s * S)
        gaps = [(y.time_ns - x.time_ns) / S for x, y in pairwise(log)]
        return max(gaps) > 1.1 if name == t.TCP_RTO_MAX_MS else min(gaps) < 0.1


def tcp_saved_syn(wanted: bool) -> bool:
    with tcp() as net:
        listener = net.listening(200)
        sock_option(listener, t.TCP_SAVE_SYN, int(wanted))
        net.socket(net.a).connect(B, 80)
        assert net.run_until(lambda: listener.readable)
        return bool(listener.accept().getsockopt(t.TCP_SAVED_SYN))


def tcp_syncnt(value: Any) -> int:
    with tcp(sysctl={"tcp_syn_linear_timeouts": 0}) as net:
        mute(net)
        a = net.socket(net.a)
        sock_option(a, t.TCP_SYNCNT, value)
        a.connect(B, 80)
        net.run(200 * S)
        return len(net.log)


def tcp_thin_linear_timeouts(value: Any) -> bool:
    with tcp(sysctl={"tcp_early_retrans": 0}) as net:
        a, _ = thin(net)
        sock_option(a, t.TCP_THIN_LINEAR_TIMEOUTS, value)
        return doubles(net, a)


def tcp_timestamp(later_ms: int) -> int:
    with tcp() as net:
        a, _ = net.pair()
        first = a.getsockopt(t.TCP_TIMESTAMP)
        net.run(later_ms * MS)
        return (a.getsockopt(t.TCP_TIMESTAMP) - first) & 0xFFFFFFFF


def tcp_user_timeout(value: Any) -> str:
    with tcp() as net:
        a, _ = flows(net)
        sock_option(a, t.TCP_USER_TIMEOUT, value)
        mute(net)
        a.send(b"x")
        net.run(30 * S)
        return a.state


def tcp_window_clamp(value: Any) -> bool:
    with tcp(sysctl={"tcp_window_scaling": 0, "tcp_rmem": (4096, 65536, 1 << 20)}) as net:
        a, b = net.pair()
        sock_option(b, t.TCP_WINDOW_CLAMP, value)
        push(net, a, b, 300_000)
        last = [s for s in net.log if s.src == B and s.flags & ACK][-1]
        return last.window > 5000


# --- UDP, raw -----------------------------------------------------------------------------


def udp_cork(value: Any) -> list[int]:
    net, fd = udp_host()
    option(net, fd, u.SOL_UDP, u.UDP_CORK, value)
    for _ in range(2):
        send(net.host, fd, PEER)
    option(net, fd, u.SOL_UDP, u.UDP_CORK, None if value is None else 0)
    net.run(1000)
    return [p[UDP].len - 8 for p in net.ip_sent()]


def udp_segment(value: Any) -> list[int]:
    net, fd = udp_host()
    option(net, fd, u.SOL_UDP, u.UDP_SEGMENT, value)
    send(net.host, fd, PEER, 300)
    net.run(1000)
    return [p[UDP].len - 8 for p in net.ip_sent()]


def udp_encap(value: Any) -> list[int]:
    """Sizes that a reader gets of a keepalive and a message of IKE (RFC 3948)."""
    from e1000emu.lab import two_hosts

    a, b = two_hosts(VirtualClock())
    with a, b:
        rx, tx = b.socket(u.AF_INET, u.SOCK_DGRAM), a.socket(u.AF_INET, u.SOCK_DGRAM)
        rx.bind(("", 4500))
        if value is not None:
            rx.setsockopt(u.SOL_UDP, u.UDP_ENCAP, value)
        for data in (b"\xff", bytes(12)):
            tx.sendto(data, ("10.0.0.2", 4500))
        a.clock.run_for(S)
        rx.setblocking(False)
        return waiting(rx)


def udp_gro(value: Any) -> list[int]:
    """Sizes that a reader gets when datagrams of a flow arrive together."""
    from e1000emu.lab import two_hosts

    a, b = two_hosts(VirtualClock())
    with a, b:
        rx, tx = b.socket(u.AF_INET, u.SOCK_DGRAM), a.socket(u.AF_INET, u.SOCK_DGRAM)
        rx.bind(("", 40005))
        if value is not None:
            rx.setsockopt(u.SOL_UDP, u.UDP_GRO, value)
        tx.setsockopt(u.SOL_UDP, u.UDP_SEGMENT, 500)
        tx.sendto(b"warm", ("10.0.0.2", 40005))
        assert rx.recv(9) == b"warm"
        tx.sendto(bytes(1500), ("10.0.0.2", 40005))
        a.clock.run_for(S)
        rx.setblocking(False)
        return waiting(rx)


def icmp_filter(value: Any) -> int:
    net = one_host()
    fd = sys_socket(net.host, u.AF_INET, u.SOCK_RAW, u.IPPROTO_ICMP)
    option(net, fd, u.SOL_RAW, u.ICMP_FILTER, value)
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=0))
    return take(net.host, fd)


def option_packet() -> Any:
    return IP(src=PEER, dst=ME, options=[IPOption_RR(routers=["0.0.0.0"] * 3)]) / UDP(
        sport=9, dport=5000
    )


TIMEVAL_1S = struct.pack("=qq", 1, 0)
DGRAM, STREAM = (u.SOCK_DGRAM, 0), (u.SOCK_STREAM, 0)
NO: list[tuple[int, int]] = []
ETH1 = struct.pack("=4s4si", bytes(4), bytes(4), 3)


def ip_cmsg(option_name: int, kind: int, packet: Callable[[], Any] = datagram) -> Any:
    """A row for an option that asks for a control message."""
    return control(u.SOL_IP, option_name, packet), {None: NO, 1: [(u.SOL_IP, kind)]}


PROBES: dict[str, tuple[Probe, dict[Any, Any]]] = {
    "SO_ACCEPTCONN": (so_acceptconn, {False: 0, True: 1}),
    "SO_BINDTODEVICE": (bound_device(u.SO_BINDTODEVICE), {None: [0], b"eth1\0": [1]}),
    "SO_BINDTOIFINDEX": (bound_device(u.SO_BINDTOIFINDEX), {None: [0], 3: [1]}),
    "SO_BROADCAST": (so_broadcast, {None: "EACCES", 1: ""}),
    "SO_COOKIE": (so_cookie, {0: True, 1: False}),
    "SO_PEERCRED": (
        one_peers(u.SO_PEERCRED),
        {u.AF_INET: struct.pack("3i", 0, -1, -1), u.AF_UNIX: struct.pack("3i", 1, 0, 0)},
    ),
    "SO_PEERGROUPS": (one_peers(u.SO_PEERGROUPS), {u.AF_INET: "ENODATA", u.AF_UNIX: b""}),
    "SO_DEBUG": (
        so_debug,
        {None: [], 1: ["a: TCP port 4000 to port 80: CLOSE -> SYN_SENT"]},
    ),
    "SO_DOMAIN": (created(u.SO_DOMAIN), {DGRAM: u.AF_INET}),
    "SO_DONTROUTE": (so_dontroute, {None: "gateway", 1: "link"}),
    "SO_ERROR": (so_error, {False: [0, 0], True: [111, 0]}),
    "SO_KEEPALIVE": (so_keepalive, {None: False, 1: True}),
    "SO_ATTACH_BPF": (so_attach_bpf, {None: b"abcdef", 3: "EBADF"}),
    "SO_ATTACH_FILTER": (
        so_attach_filter,
        {None: b"abcdef", TWO_BYTES: b"ab", ((6, 0, 0, 0),): "", ((6, 0, 0),): "EINVAL"},
    ),
    "SO_DETACH_FILTER": (so_detach_filter, {None: b"ab", 0: b"abcdef"}),
    "SO_LOCK_FILTER": (so_lock_filter, {None: b"abcdef", 1: "EPERM"}),
    "SO_LINGER": (so_linger, {None: False, struct.pack("=ii", 1, 0): True}),
    "SO_MARK": (so_mark, {None: [0], 77: [77]}),
    # Less a first burst, which waits for nothing.
    "SO_MAX_PACING_RATE": (so_max_pacing_rate, {None: 0.0, 100_000: 1.8, 400_000: 0.5}),
    "SO_MEMINFO": (so_meminfo, {False: False, True: True}),
    "SO_NO_CHECK": (so_no_check, {None: True, 1: False}),
    "SO_OOBINLINE": (so_oobinline, {None: b"ab", 1: b"ab!"}),
    "SO_PEEK_OFF": (so_peek_off, {None: b"abcdef", 2: b"cdef"}),
    "SO_PRIORITY": (so_priority, {None: [1, 2], 6: [2, 1]}),
    "SO_PROTOCOL": (created(u.SO_PROTOCOL), {DGRAM: 17, STREAM: 6}),
    "SO_RCVBUF": (receive_buffer(u.SO_RCVBUF), {None: "some", 2000: "few", 1 << 20: "all"}),
    "SO_RCVBUFFORCE": (receive_buffer(u.SO_RCVBUFFORCE), {None: "some", 1 << 20: "all"}),
    "SO_RCVLOWAT": (so_rcvlowat, {None: True, 100: False}),
    "SO_RCVTIMEO": (receive_timeout, {None: "", TIMEVAL_1S: "EAGAIN"}),
    "SO_REUSEADDR": (so_reuseaddr, {None: "EADDRINUSE", 1: ""}),
    "SO_REUSEPORT": (so_reuseport, {None: "EADDRINUSE", 1: ""}),
    "SO_RXQ_OVFL": (so_rxq_ovfl, {None: NO, 1: [(SOL, u.SO_RXQ_OVFL)]}),
    "SO_SELECT_ERR_QUEUE": (so_select_err_queue, {None: False, 1: True}),
    "SO_SNDBUF": (send_buffer(u.SO_SNDBUF), {None: False, 5000: True}),
    "SO_SNDBUFFORCE": (send_buffer(u.SO_SNDBUFFORCE), {None: False, 5000: True}),
    "SO_SNDLOWAT": (so_sndlowat, {None: 1}),
    "SO_SNDTIMEO": (send_timeout, {None: "", TIMEVAL_1S: "EAGAIN"}),
    "SO_TIMESTAMP": (control(SOL, u.SO_TIMESTAMP), {None: NO, 1: [(SOL, u.SCM_TIMESTAMP)]}),
    "SO_TIMESTAMPNS": (
        control(SOL, u.SO_TIMESTAMPNS),
        {None: NO, 1: [(SOL, u.SCM_TIMESTAMPNS)]},
    ),
    "SO_TYPE": (created(u.SO_TYPE), {DGRAM: u.SOCK_DGRAM, STREAM: u.SOCK_STREAM}),
    "SO_ZEROCOPY": (so_zerocopy, {None: NO, 1: [(u.SOL_IP, u.IP_RECVERR)]}),
    "IP_ADD_MEMBERSHIP": (
        lambda on: member((u.IP_MULTICAST_ALL, struct.pack("=i", 0)), *([JOIN] if on else [])),
        {False: 0, True: 1},
    ),
    "IP_ADD_SOURCE_MEMBERSHIP": (
        lambda src: member((u.IP_ADD_SOURCE_MEMBERSHIP, membership(GROUP, src))),
        {PEER: 1, "10.0.0.3": 0},
    ),
    "IP_BIND_ADDRESS_NO_PORT": (ip_bind_address_no_port, {None: True, 1: False}),
    "IP_BLOCK_SOURCE": (membership_option(u.IP_BLOCK_SOURCE, SOURCE, JOIN), {False: 1, True: 0}),
    "IP_CHECKSUM": ip_cmsg(u.IP_CHECKSUM, u.IP_CHECKSUM),
    "IP_DROP_MEMBERSHIP": (
        membership_option(u.IP_DROP_MEMBERSHIP, membership(), JOIN),
        {False: 1, True: 0},
    ),
    "IP_DROP_SOURCE_MEMBERSHIP": (
        membership_option(
            u.IP_DROP_SOURCE_MEMBERSHIP, SOURCE, (u.IP_ADD_SOURCE_MEMBERSHIP, SOURCE)
        ),
        {False: 1, True: 0},
    ),
    "IP_FREEBIND": (may_bind(u.IP_FREEBIND), {None: "EADDRNOTAVAIL", 1: ""}),
    "IP_HDRINCL": (ip_hdrincl, {None: (200, 64), 1: (99, 3)}),
    "IP_LOCAL_PORT_RANGE": (
        ip_local_port_range,
        {None: [False, False], 40001 << 16 | 40000: [True, True]},
    ),
    "IP_MINTTL": (ip_minttl, {None: 5, 255: 0}),
    "IP_MTU": (ip_mtu, {False: 1500, True: 900}),
    "IP_MTU_DISCOVER": (
        sent_with(u.IP_MTU_DISCOVER, lambda p: "DF" in str(p.flags)),
        {None: True, 0: False},
    ),
    "IP_MULTICAST_ALL": (ip_multicast_all, {None: 1, 0: 0}),
    "IP_MULTICAST_IF": (ip_multicast_if, {None: [0], ETH1: [1]}),
    "IP_MULTICAST_LOOP": (ip_multicast_loop, {None: 1, 0: 0}),
    "IP_MULTICAST_TTL": (
        sent_with(u.IP_MULTICAST_TTL, lambda p: p.ttl, GROUP),
        {None: 1, 9: 9},
    ),
    "IP_OPTIONS": (
        sent_with(u.IP_OPTIONS, lambda p: len(p.options)),
        {None: 0, b"\x94\x04\x00\x00": 1},
    ),
    "IP_ORIGDSTADDR": ip_cmsg(u.IP_ORIGDSTADDR, u.IP_ORIGDSTADDR),
    "IP_PKTINFO": ip_cmsg(u.IP_PKTINFO, u.IP_PKTINFO),
    "IP_RECVERR": (ip_recverr, {None: "EAGAIN", 1: ""}),
    "IP_RECVFRAGSIZE": (
        ip_recvfragsize,
        {None: NO, 1: [(u.SOL_IP, u.IP_RECVFRAGSIZE)]},
    ),
    "IP_RECVOPTS": ip_cmsg(u.IP_RECVOPTS, u.IP_RECVOPTS, option_packet),
    "IP_RECVTOS": ip_cmsg(u.IP_RECVTOS, u.IP_TOS),
    "IP_RECVTTL": ip_cmsg(u.IP_RECVTTL, u.IP_TTL),
    "IP_RETOPTS": ip_cmsg(u.IP_RETOPTS, u.IP_RETOPTS, option_packet),
    "IP_ROUTER_ALERT": (ip_router_alert, {None: 0, 1: 1}),
    "IP_TOS": (sent_with(u.IP_TOS, lambda p: p.tos), {None: 0, 0x10: 0x10}),
    "IP_TRANSPARENT": (may_bind(u.IP_TRANSPARENT), {None: "EADDRNOTAVAIL", 1: ""}),
    "IP_TTL": (sent_with(u.IP_TTL, lambda p: p.ttl), {None: 64, 5: 5}),
    "IP_UNBLOCK_SOURCE": (
        membership_option(u.IP_UNBLOCK_SOURCE, SOURCE, JOIN, (u.IP_BLOCK_SOURCE, SOURCE)),
        {False: 0, True: 1},
    ),
    "IP_XFRM_POLICY": (
        xfrm_policy_of(u.IP_XFRM_POLICY),
        {None: "", 0: "", 1: "EPERM"},
    ),
    "IP_UNICAST_IF": (ip_unicast_if, {None: [0], 3 << 24: [1]}),
    "TCP_CC_INFO": (tcp_cc_info, {"cubic": b"", "reno": b""}),
    "TCP_CONGESTION": (tcp_congestion, {"reno": "", "cubic": "", "nothing": "ENOENT"}),
    "TCP_FASTOPEN": (fastopen.fastopen, {None: 0, 8: 5}),
    "TCP_FASTOPEN_CONNECT": (fastopen.fastopen_connect, {None: 1, 1: 0}),
    "TCP_FASTOPEN_KEY": (
        fastopen.fastopen_key,
        dict(zip(fastopen.KEYS, (True, False), strict=True)),
    ),
    "TCP_FASTOPEN_NO_COOKIE": (fastopen.fastopen_no_cookie, {None: False, 1: True}),
    "TCP_IS_MPTCP": (tcp_is_mptcp, {None: 0}),
    "TCP_CORK": (tcp_cork, {None: 5, 1: 0}),
    "TCP_DEFER_ACCEPT": (tcp_defer_accept, {None: True, 5: False}),
    "TCP_DELACK_MAX_US": (delayed_ack_ms, {None: False, 5000: True}),
    "TCP_INFO": (tcp_info, {False: False, True: True}),
    "TCP_INQ": (tcp_inq, {None: NO, 1: [(u.SOL_TCP, t.TCP_INQ)]}),
    "TCP_KEEPCNT": (keepalive(t.TCP_KEEPCNT), {None: [10, 15], 4: [10, 15, 20, 25]}),
    "TCP_KEEPIDLE": (keepalive(t.TCP_KEEPIDLE), {None: [10, 15], 20: [20, 25]}),
    "TCP_KEEPINTVL": (keepalive(t.TCP_KEEPINTVL), {None: [10, 15], 9: [10, 19]}),
    "TCP_LINGER2": (tcp_linger2, {None: 1, 3: 0}),
    "TCP_MAXSEG": (tcp_maxseg, {None: 1448, 500: 488}),
    "TCP_MD5SIG": (tcp_md5sig(t.TCP_MD5SIG), {None: False, KEY_OF_PEER: True, KEY_OF_NET: True}),
    "TCP_MD5SIG_EXT": (
        tcp_md5sig(t.TCP_MD5SIG_EXT),
        {None: False, KEY_OF_PEER: True, KEY_OF_NET: "EINVAL"},
    ),
    "TCP_NODELAY": (tcp_nodelay, {None: 1, 1: 3}),
    "TCP_NOTSENT_LOWAT": (tcp_notsent_lowat, {None: True, 1000: False}),
    "TCP_QUICKACK": (tcp_quickack, {1: True, 0: False}),
    "TCP_RTO_MAX_MS": (rto_times(t.TCP_RTO_MAX_MS, 20), {None: True, 1000: False}),
    "TCP_RTO_MIN_US": (rto_times(t.TCP_RTO_MIN_US, 2), {None: False, 10_000: True}),
    "TCP_SAVED_SYN": (tcp_saved_syn, {False: False, True: True}),
    "TCP_SAVE_SYN": (tcp_saved_syn, {False: False, True: True}),
    "TCP_SYNCNT": (tcp_syncnt, {None: 7, 2: 3}),
    "TCP_THIN_LINEAR_TIMEOUTS": (tcp_thin_linear_timeouts, {None: True, 1: False}),
    "TCP_TIMESTAMP": (tcp_timestamp, {0: 0, 70: 70}),
    "TCP_USER_TIMEOUT": (tcp_user_timeout, {None: "ESTABLISHED", 2000: "CLOSE"}),
    "TCP_WINDOW_CLAMP": (tcp_window_clamp, {None: True, 3000: False}),
    "UDP_CORK": (udp_cork, {None: [10, 10], 1: [20]}),
    "UDP_ENCAP": (udp_encap, {None: [1, 12], 2: [12]}),
    "UDP_GRO": (udp_gro, {None: [500, 500, 500], 1: [1500]}),
    "UDP_SEGMENT": (udp_segment, {None: [300], 100: [100, 100, 100]}),
    "ICMP_FILTER": (icmp_filter, {None: 1, 1: 0}),
}

CONSTANT = {
    *("MRT6_VERSION", "MRT_VERSION", "SO_BPF_EXTENSIONS", "SO_DOMAIN", "SO_SNDLOWAT"),
    *("TCP_CC_INFO", "TCP_IS_MPTCP"),
}
"""Options that say the same of every socket here."""
