"""What each sysctl of net.core and net.ipv4 (without TCP's) does: `PROBES[name]`.

A row is (probe, {value: what the probe sees}); the first value is the default.
"""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from typing import Any

from scapy.layers.inet import TCP, IPOption_LSRR

from e1000emu.links import pair
from fastpath.base.skbuff import kfree_skb, sk_buff
from fastpath.net.hdr import ip_hdr
from stack.core import uapi
from stack.core.bsd_socket import (
    sys_bind,
    sys_close,
    sys_connect,
    sys_getsockname,
    sys_getsockopt,
    sys_listen,
    sys_recvmsg,
    sys_socket,
)
from stack.core.dev_receive import dev_add_pack
from stack.core.fib_rules import fib_rule, fib_rule_add
from stack.core.iov import msghdr
from stack.core.link_watch import netif_carrier_off
from stack.core.netdevice import packet_type
from stack.core.netfilter import NF_ACCEPT, NF_INET_FORWARD, NF_INET_LOCAL_IN, nf_register_net_hook
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.core.uapi import (
    AF_UNIX,
    IP_ADD_MEMBERSHIP,
    IP_ADD_SOURCE_MEMBERSHIP,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    RT_SCOPE_LINK,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_RAW,
    SOL_IP,
    SOL_SOCKET,
)
from stack.inet.flow import flowi
from stack.inet.xfrm_policy import (
    XFRM_POLICY_BLOCK,
    XFRM_POLICY_IN,
    XFRM_POLICY_OUT,
    xfrm_policy,
    xfrm_policy_insert,
    xfrm_selector,
)
from stack.ipv4.arp import arp_req_set
from stack.ipv4.fib import RT_TABLE_MAIN, ip_route_add
from stack.ipv4.route import ip_route_output_flow
from stack.netlink.nexthop import nexthop, nexthop_add
from stack.netlink.rt_attrs import RTA4, RTMSG
from stack.netlink.rt_route import fib_dump_info
from tests.stack.ipv4.net import ME_MAC, PEER_MAC, at
from tests.stack.knobs.rig import (
    AF_INET,
    BEYOND,
    FAR,
    GW,
    ICMP,
    IP,
    LO,
    ME,
    OUT,
    PEER,
    SOCK_DGRAM,
    SOCK_STREAM,
    UDP,
    Raw,
    Rig,
    S,
    datagram,
    err,
    flows,
    ip4,
    makes_a_probe,
    marked,
    push,
    send,
    sys_setsockopt,
    take,
    udp,
)

GROUP = "239.1.2.3"


def loop_sends(host: Any, count: int) -> int:
    """Datagrams to ourselves while no softirq runs; the descriptor that gets them."""
    fd = sys_socket(host, AF_INET, SOCK_DGRAM)
    sys_bind(host, fd, at(0, 7000))
    local_bh_disable(host.machine)
    for _ in range(count):
        send(host, fd, "127.0.0.1", port=7000)
    local_bh_enable(host.machine)
    host.clock.run_for(1000)
    return fd


def dev_weight(rig: Rig) -> bool:
    host = rig.host()
    sd = host.machine.softnet_data
    polls = []
    poll = sd.backlog.poll
    sd.backlog.poll = lambda napi, quota: polls.append(1) or poll(napi, quota)
    loop_sends(host, 20)
    return len(polls) > 9


def netdev_budget(rig: Rig) -> int:
    net = rig.ip()
    fd = udp(net, 7000)
    local_bh_disable(net.host.machine)
    send(net.host, fd, "127.0.0.1", port=7000)
    net.wire.receive(net.wire.dev.dev_addr + b"\2\0\0\0\0\2\x08\0" + bytes(datagram()))
    local_bh_enable(net.host.machine)
    net.run(1000)
    return int(net.host.machine.softnet_data.time_squeeze)


def gro_normal_batch(rig: Rig) -> list[int]:
    """How long the lists are in which a handler gets three packets of one poll."""
    net = rig.ip()
    lists: list[int] = []

    def take(skbs: list[Any], *_: Any) -> None:
        lists.append(len(skbs))
        for skb in skbs:
            kfree_skb(skb)

    dev_add_pack(net.host, packet_type(0x88B5, lambda skb, *_: take([skb]), list_func=take))
    frame = net.wire.dev.dev_addr + b"\2\0\0\0\0\2\x88\xb5" + bytes(50)
    net.wire.inbox += [frame] * 2
    net.wire.receive(frame)
    net.run(1000)
    return lists


def netdev_max_backlog(rig: Rig) -> int:
    host = rig.host()
    return take(host, loop_sends(host, 8))


def membership(group: str = GROUP, source: str = "") -> bytes:
    parts = [group, ME] + ([source] if source else [])
    return b"".join(ip4(p).to_bytes(4, "big") for p in parts)


def joins(net: Any, fd: int) -> int:
    """How many groups the socket may join."""
    for n in range(40):
        if err(sys_setsockopt, net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, membership(f"239.1.1.{n}")):
            return n
    return 40


def optmem_max(rig: Rig) -> int:
    net = rig.ip(igmp_max_memberships=30)
    return joins(net, udp(net))


def tstamp_allow_data(rig: Rig) -> int | None:
    """Bytes of the packet that come with a time stamp, to a user who may not see packets."""
    net = rig.ip()
    fd = udp(net)
    flags = uapi.SOF_TIMESTAMPING_TX_SCHED | uapi.SOF_TIMESTAMPING_SOFTWARE
    sys_setsockopt(net.host, fd, SOL_SOCKET, uapi.SO_TIMESTAMPING, flags)
    net.host.uid = 1000
    send(net.host, fd, PEER)
    try:
        msg = msghdr(None, [bytearray(2000)], [])
        return int(sys_recvmsg(net.host, fd, msg, uapi.MSG_ERRQUEUE | uapi.MSG_DONTWAIT))
    except BlockingIOError:
        return None


def rmem_default(rig: Rig) -> bool:
    net = rig.ip()
    fd = udp(net)
    for _ in range(30):
        net.inject(datagram(1000))
    return take(net.host, fd) == 30


def wmem_default(rig: Rig) -> bool:
    net = rig.ip()
    fd = udp(net)
    net.wire.busy = 1 << 30
    for n in range(30):
        if err(send, net.host, fd, PEER, 1000):
            return n == 30
    return True


@makes_a_probe
def buffer_limit(rig: Rig, opt: int) -> int:
    host = rig.host()
    fd = sys_socket(host, AF_INET, SOCK_DGRAM)
    sys_setsockopt(host, fd, SOL_SOCKET, opt, 1 << 30)
    return int(sys_getsockopt(host, fd, SOL_SOCKET, opt))


def somaxconn(rig: Rig) -> int:
    """Connections that a backlog of 100 takes, without cookies."""
    host = rig.host()
    host.sysctl.tcp_syncookies = 0
    fd = sys_socket(host, AF_INET, SOCK_STREAM)
    sys_bind(host, fd, at(LO, 80))
    sys_listen(host, fd, 100)
    done = 0
    for _ in range(10):
        client = host.socket(AF_INET, SOCK_STREAM)
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", 80))
        host.clock.run_for(10_000_000)
        done += client.connected()
    return done


def max_dgram_qlen(rig: Rig) -> int:
    """AF_UNIX datagrams that a socket without peer takes, of one that nobody reads."""
    host = rig.host()
    reader = host.socket(AF_UNIX, SOCK_DGRAM)
    reader.bind(b"\0reader")
    writer = host.socket(AF_UNIX, SOCK_DGRAM)
    writer.setblocking(False)
    done = 0
    with suppress(BlockingIOError):
        while True:
            writer.sendto(b"x", b"\0reader")
            done += 1
    return done


def ip_forward(rig: Rig) -> int:
    net = rig.router(**({} if "ip_forward" not in rig.sysctl else {"ip_forward": 0}))
    net.inject(datagram(dst=BEYOND))
    return len(net.ip_sent(wire=1))


def own_packet(rig: Rig, to: str = PEER, size: int = 10) -> Any:
    net = rig.ip()
    send(net.host, udp(net), to, size)
    net.run(1000)
    return net.ip_sent()[0]


def ip_no_pmtu_disc(rig: Rig) -> bool:
    net = rig.ip()
    send(net.host, udp(net), PEER)
    net.run(1000)
    return "DF" in str(net.ip_sent()[0].flags)


def frag_needed(net: Any, to: str, mtu: int) -> None:
    """A gateway says that our packets to `to` do not fit."""
    inner = bytes(IP(src=ME, dst=to) / UDP(sport=5000, dport=9) / Raw(bytes(8)))
    net.inject(IP(src=GW, dst=ME) / ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(inner))


def pmtu(net: Any, to: str = PEER) -> int:
    fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    sys_connect(net.host, fd, at(to, 9))
    mtu = int(sys_getsockopt(net.host, fd, SOL_IP, 14))
    sys_close(net.host, fd)
    return mtu


def learned(rig: Rig, mtu: int, *, wait_ns: int = 0) -> int:
    net = rig.ip()
    fd = udp(net)
    sys_connect(net.host, fd, at(PEER, 9))
    frag_needed(net, PEER, mtu)
    net.run(wait_ns)
    return pmtu(net)


def ip_forward_use_pmtu(rig: Rig) -> int:
    net = rig.router()
    fd = udp(net)
    sys_connect(net.host, fd, at(BEYOND, 9))
    inner = bytes(IP(src=OUT, dst=BEYOND) / UDP(sport=5000, dport=9) / Raw(bytes(8)))
    net.inject(IP(src=BEYOND, dst=OUT) / ICMP(type=3, code=4, nexthopmtu=800) / Raw(inner), wire=1)
    assert pmtu(net, BEYOND) == 800
    net.ip_sent(wire=1)
    net.inject(datagram(1000, dst=BEYOND, flags="DF"))
    return len(net.ip_sent(wire=1))


def demuxed(rig: Rig) -> list[bool]:
    """Whether packets of a TCP connection and of a connected UDP socket have their socket before
    they are delivered: what a hook at LOCAL_IN sees of the second of each."""
    seen: dict[int, bool] = {}

    def hook(skb: sk_buff, state: Any) -> int:
        seen[ip_hdr(skb).protocol] = skb.sk is not None
        return NF_ACCEPT

    with rig.tcp() as net:
        a, b = flows(net)
        nf_register_net_hook(net.b, NF_INET_LOCAL_IN, hook)
        push(net, a, b, 10)
        push(net, a, b, 10)
    ip = rig.ip()
    nf_register_net_hook(ip.host, NF_INET_LOCAL_IN, hook)
    sys_connect(ip.host, udp(ip), at(PEER, 9))
    for _ in range(2):
        ip.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / Raw(b"x"))
    return [seen[IPPROTO_TCP], seen[IPPROTO_UDP]]


def default_qdisc(rig: Rig) -> str:
    host = rig.host()
    ends = pair(host.clock)
    one, _ = (host.add_tap(f"tap{i}", end, up=True) for i, end in enumerate(ends))
    host.clock.run_for(1_000_000)
    return str(one.qdisc.kind)


def ip_forward_update_priority(rig: Rig) -> int:
    """The priority of a forwarded packet whose TOS asks for a low delay."""
    net, seen = rig.router(), list[int]()

    def hook(skb: sk_buff, state: Any) -> int:
        seen.append(skb.priority)
        return NF_ACCEPT

    nf_register_net_hook(net.host, NF_INET_FORWARD, hook)
    net.inject(datagram(dst=BEYOND, tos=0x10))
    (priority,) = seen
    return priority


def fwmark_reflect(rig: Rig) -> list[int]:
    """Of an echo reply, a RST and an ICMP error."""
    net = rig.ip()
    seen = marked(net.host)
    for packet in (ICMP(), TCP(dport=9, flags="S"), UDP(dport=9)):
        net.inject(IP(src=PEER, dst=ME) / packet)
    return seen


def ip_nonlocal_bind(rig: Rig) -> str:
    host = rig.host()
    return err(sys_bind, host, sys_socket(host, AF_INET, SOCK_DGRAM), at(FAR, 5000))


def chosen_ports(host: Any, kind: int) -> list[int]:
    ports = []
    for _ in range(2):
        fd = sys_socket(host, AF_INET, kind)
        if err(sys_bind, host, fd, at(0, 0)):
            break
        ports.append(sys_getsockname(host, fd).port)
    return sorted(ports)


def ip_local_port_range(rig: Rig) -> bool:
    host = rig.host()
    ports = chosen_ports(host, SOCK_DGRAM) + chosen_ports(host, SOCK_STREAM)
    return set(ports) == {2000, 2001}


def ip_autobind_reuse(rig: Rig) -> list[str]:
    """Three sockets with SO_REUSEADDR, and two ports."""
    host = rig.host()
    host.sysctl.ip_local_port_range = (2000, 2001)
    seen = []
    for _ in range(3):
        fd = sys_socket(host, AF_INET, SOCK_STREAM)
        sys_setsockopt(host, fd, SOL_SOCKET, uapi.SO_REUSEADDR, 1)
        seen.append(err(sys_bind, host, fd, at(0, 0)))
    return seen


def ip_local_reserved_ports(rig: Rig) -> list[list[int]]:
    host = rig.host()
    host.sysctl.ip_local_port_range = (2000, 2001)
    return [chosen_ports(host, SOCK_DGRAM), chosen_ports(host, SOCK_STREAM)]


def ip_unprivileged_port_start(rig: Rig) -> list[str]:
    host = rig.host(uid=1000)
    return [
        err(sys_bind, host, sys_socket(host, AF_INET, kind), at(0, 80))
        for kind in (SOCK_DGRAM, SOCK_STREAM)
    ]


def fragment(ident: int, at: int = 0, more: int = 1, size: int = 800) -> Any:
    return IP(src=PEER, dst=ME, id=ident, proto=17, frag=at // 8, flags=more) / Raw(bytes(size))


def ipfrag_high_thresh(rig: Rig) -> bool:
    net = rig.ip()
    for ident in range(20):
        net.inject(fragment(ident))
    return net.host.mib.ip.ReasmFails > 0


def ipfrag_low_thresh(rig: Rig) -> str:
    host = rig.host()

    def write() -> None:
        host.sysctl.ipfrag_high_thresh = 1 << 20

    return err(write)


def ipfrag_time(rig: Rig) -> int:
    net = rig.ip()
    net.inject(fragment(1))
    net.run(10 * S)
    return int(net.host.mib.ip.ReasmTimeout)


def ipfrag_max_dist(rig: Rig) -> int:
    net = rig.ip()
    net.inject(fragment(1))
    for ident in range(10, 20):
        net.inject(fragment(ident))
    net.inject(fragment(1, 800, 0))
    return int(net.host.mib.ip.ReasmOKs)


def echoes(rig: Rig, dst: str = ME, hw: bytes | None = None) -> int:
    net = rig.ip()
    net.inject(IP(src=PEER, dst=dst) / ICMP(), dst=hw)
    return len(net.ip_sent())


def icmp_echo_enable_probe(rig: Rig) -> int:
    """Replies to a request about interface 1 (RFC 8335)."""
    net = rig.ip()
    query = bytes.fromhex("2a00b1ec 00070101 20000000 00080302 00000001")
    net.inject(IP(src=PEER, dst=ME, proto=1) / Raw(query))
    return len(net.ip_sent())


def icmp_ignore_bogus_error_responses(rig: Rig) -> int:
    net = rig.ip()  # nobody has sent it: it counts as an error where it is looked at
    inner = bytes(IP(src=ME, dst="10.0.0.255") / UDP(sport=5000, dport=9) / Raw(bytes(8)))
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=1) / Raw(inner))
    return int(net.host.mib.icmp.InErrors)


def icmp_errors_use_inbound_ifaddr(rig: Rig) -> str:
    net = rig.router()
    net.host.route_add("10.7.0.0/24", via=BEYOND)
    # A packet that came in by the second wire, from behind it: the answer leaves by the first.
    net.host.route_add("192.0.2.0/24", via=PEER)
    net.inject(IP(src=FAR, dst="203.0.113.9") / UDP(sport=1, dport=2), wire=1)
    return str(net.ip_sent()[0].src)


def unreachables(net: Any, count: int, *, spread: bool) -> int:
    """ICMP errors that `count` packets of an unknown protocol get, at one instant."""
    for n in range(count):
        src = f"10.0.0.{100 + n}" if spread else PEER
        arp_known(net, src)
        packet = IP(src=src, dst=ME, proto=200) / Raw(bytes(8))
        frame = net.wire.dev.dev_addr + b"\2\0\0\0\0\2\x08\0" + bytes(packet)
        net.wire.receive(frame.ljust(60, b"\0"))
    net.run(1000)
    return len([p for p in net.ip_sent() if ICMP in p])


def arp_known(net: Any, addr: str) -> None:
    from stack.ipv4.arp import arp_req_set

    arp_req_set(net.wire.dev, ip4(addr), b"\2\0\0\0\0\2")


def icmp_msgs_per_sec(rig: Rig) -> int:
    net = rig.ip()
    unreachables(net, 50, spread=True)
    net.run(S // 10)
    return unreachables(net, 20, spread=True)


def igmp_max_msf(rig: Rig) -> int:
    net = rig.ip()
    fd = udp(net)
    for n in range(20):
        value = membership(GROUP, f"10.0.0.{n + 1}")
        if err(sys_setsockopt, net.host, fd, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, value):
            return n
    return 20


def reports(rig: Rig, *, seconds: float = 100, group: str = GROUP) -> list[tuple[int, int]]:
    """(ms after joining, IGMP type) of what is sent."""
    net = rig.ip()
    net.frames()
    start = net.clock.now_ns()
    fd = udp(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, membership(group))
    out = []
    while net.clock.now_ns() - start < seconds * S:
        net.run(S // 100)
        for frame in net.frames():
            if frame[12:14] == b"\x08\0" and frame[23] == 2:
                hlen = (frame[14] & 15) * 4
                out.append(((net.clock.now_ns() - start) // 1_000_000, frame[14 + hlen]))
    return out


def of_every_vrf(rig: Rig, kind: int, protocol: int, packet: Any) -> bool:
    """Whether a socket without a device gets what comes in a VRF; if not, the sender is told."""
    net = rig.ip()
    fd = sys_socket(net.host, AF_INET, kind, protocol)
    sys_bind(net.host, fd, at(0, 9))
    if kind == SOCK_STREAM:
        sys_listen(net.host, fd, 1)
    dev = net.wire.dev
    net.host.add_vrf("red", 10)
    net.host.set_master(dev.name, "red")
    arp_req_set(dev, ip4(PEER), PEER_MAC)
    net.ip_sent()
    net.inject(IP(src=PEER, dst=ME, proto=protocol) / packet)
    told = [ICMP in answer or answer[TCP].flags.R for answer in net.ip_sent()]
    sys_close(net.host, fd)
    return not any(told)


def tcp_l3mdev_accept(rig: Rig) -> bool:
    return of_every_vrf(rig, SOCK_STREAM, IPPROTO_TCP, TCP(dport=9))


def udp_l3mdev_accept(rig: Rig) -> bool:
    return of_every_vrf(rig, SOCK_DGRAM, IPPROTO_UDP, UDP(dport=9))


def raw_l3mdev_accept(rig: Rig) -> bool:
    return of_every_vrf(rig, SOCK_RAW, 253, Raw(bytes(20)))


def strict_mode(rig: Rig) -> bool:
    host = rig.ip().host
    host.add_vrf("red", 10)
    try:
        host.add_vrf("blue", 10)
    except OSError as wrong:
        assert wrong.errno == errno.EBUSY  # noqa: PT017
        return True
    return False


def ping_group_range(rig: Rig) -> str:
    host = rig.host(uid=1000, gid=1000)
    return err(sys_socket, host, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)


def udp_rmem_min(rig: Rig) -> tuple[bool, bool]:
    """UDP's memory is short: does a socket still get a few datagrams, or many?"""
    net = rig.ip()
    mem = net.host.prot_mem["UDP"]
    taken = mem.sysctl_mem[0]
    mem.memory_allocated += taken
    fd = udp(net)
    for _ in range(30):
        net.inject(datagram(1000))
    got = take(net.host, fd)
    mem.memory_allocated -= taken
    return 0 < got < 5, got > 10


def min_adv_mss(rig: Rig) -> int:
    from stack.core.dev import dev_set_mtu

    net = rig.ip()
    dev_set_mtu(net.wire.dev, 200)
    sock = net.host.socket(AF_INET, SOCK_STREAM)
    sock.setblocking(False)
    sock.connect_ex((PEER, 80))
    net.run(1000)
    return dict(net.ip_sent()[0]["TCP"].options)["MSS"]


def redirects(net: Any, count: int, gap_ns: int) -> int:
    """Redirects that a host gets which sends `count` packets by the longer way."""
    net.host.route_add("198.51.100.0/24", via=GW)
    sent = 0
    for _ in range(count):
        net.inject(IP(src=PEER, dst="198.51.100.9") / UDP(sport=1, dport=2))
        sent += sum(ICMP in p for p in net.ip_sent())
        net.run(gap_ns)
    return sent


def redirect_silence(rig: Rig) -> int:
    net = rig.router(redirect_number=1)
    first = redirects(net, 1, 10 * S)
    net.inject(IP(src=PEER, dst="198.51.100.9") / UDP(sport=1, dport=2))
    return first + sum(ICMP in p for p in net.ip_sent())


def no_routes(rig: Rig, count: int, gap_ns: int = 0, wait_ns: int = 0) -> int:
    """Unreachables for packets that have no route, 50 at most by the host-wide limit."""
    net = rig.router(icmp_ratemask=0)
    net.run(wait_ns)
    got = 0
    for _ in range(count):
        net.inject(IP(src=PEER, dst="203.0.113.9") / UDP(sport=1, dport=2))
        got += sum(ICMP in p for p in net.ip_sent())
        net.run(gap_ns)
    return got


def redirected(rig: Rig, gateway: str = "10.0.0.66", **more: Any) -> bool:
    """Whether a redirect from the present gateway is obeyed."""
    from stack.ipv4.route import ip_route_output

    net = rig.ip(**more)
    net.host.route_add("192.0.2.0/24", via=GW)
    fd = udp(net)
    sys_connect(net.host, fd, at(FAR, 2))
    inner = bytes(IP(src=ME, dst=FAR) / UDP(sport=5000, dport=2) / Raw(bytes(8)))
    net.inject(IP(src=GW, dst=ME) / ICMP(type=5, code=1, gw=gateway) / Raw(inner))
    return ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4(gateway)


def redirected_beyond(net: Any) -> bool:
    """Whether a redirect to a gateway on another network of the same wire is obeyed."""
    from stack.ipv4.route import ip_route_output

    net.host.route_add("192.0.2.0/24", via=GW)
    net.host.route_add("172.16.0.0/24", dev="eth0")
    fd = udp(net)
    sys_connect(net.host, fd, at(FAR, 2))
    inner = bytes(IP(src=ME, dst=FAR) / UDP(sport=5000, dport=2) / Raw(bytes(8)))
    net.inject(IP(src=GW, dst=ME) / ICMP(type=5, code=1, gw="172.16.0.9") / Raw(inner))
    return ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4("172.16.0.9")


def shared_media(rig: Rig) -> bool:
    """A gateway on another network of the same wire: only with shared media."""
    net = rig.ip(secure_redirects=0)
    return redirected_beyond(net)


def secure_redirects(rig: Rig) -> bool:
    net = rig.ip()
    return redirected_beyond(net)


def accept_source_route(rig: Rig) -> int:
    net = rig.router()
    header = IP(src=PEER, dst=ME, options=[IPOption_LSRR(routers=[BEYOND])])
    net.inject(IP(bytes(header / UDP(sport=1, dport=2))))
    return len(net.frames(wire=1))


def accept_local(rig: Rig) -> int:
    """A datagram from an address of ours that comes in by a wire."""
    net = rig.ip(f"{ME}/24", f"{OUT}/24")
    fd = udp(net)
    net.inject(datagram(src=OUT))
    return take(net.host, fd)


def rp_filter(rig: Rig) -> int:
    net = rig.ip(f"{ME}/24", f"{OUT}/24")
    fd = udp(net)
    net.inject(datagram(dst=OUT), wire=1)
    return take(net.host, fd)


LL_HEADER = f"h: ll header: 00000000: {(ME_MAC + PEER_MAC).hex(' ')} 08 00"


def log_martians(rig: Rig) -> list[str]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("stack.ipv4.route")
    logger.addHandler(handler)
    try:
        rig.ip().inject(datagram(src="127.0.0.1"))
    finally:
        logger.removeHandler(handler)
    return said


def route_localnet(rig: Rig) -> int:
    net = rig.ip()
    fd = udp(net)
    net.inject(datagram(dst="127.0.0.1"))
    return take(net.host, fd)


def bc_forwarding(rig: Rig) -> tuple[int, int]:
    """A directed broadcast for the network on the second wire: (forwarded, for us)."""
    net = rig.router()
    fd = udp(net)
    net.inject(datagram(dst="10.1.0.255"))
    sent = [f for f in net.frames(wire=1) if f[12:14] == b"\x08\0"]
    assert all(f[:6] == b"\xff" * 6 for f in sent)
    return len(sent), take(net.host, fd)


def drop_unicast_in_l2_multicast(rig: Rig) -> int:
    net = rig.ip()
    fd = udp(net)
    net.inject(datagram(), dst=b"\xff" * 6)
    return take(net.host, fd)


def arp(net: Any, op: int, sip: str, tip: str) -> list[bytes]:
    """Inject an ARP packet from PEER's card; ARP frames that answer."""
    sha = b"\2\0\0\0\0\x55"
    body = b"\0\1\x08\0\6\4" + op.to_bytes(2, "big") + sha + ip4(sip).to_bytes(4, "big")
    body += bytes(6) + ip4(tip).to_bytes(4, "big")
    net.frames()
    net.wire.receive((b"\xff" * 6 + sha + b"\x08\x06" + body).ljust(60, b"\0"))
    net.run(S // 10)
    return [f for f in net.frames() if f[12:14] == b"\x08\x06"]


def knows(net: Any, addr: str) -> bool:
    from stack.core.neighbour import neigh_lookup

    return neigh_lookup(net.host.arp_tbl, ip4(addr), net.wire.dev) is not None


def arp_accept(rig: Rig) -> bool:
    net = rig.ip()
    arp(net, 1, "10.0.0.77", "10.0.0.77")
    return knows(net, "10.0.0.77")


def drop_gratuitous_arp(rig: Rig) -> int:
    net = rig.ip()
    arp(net, 1, "10.0.0.77", "10.0.0.77")
    return net.drops().get("SKB_DROP_REASON_ARP_INHDR", 0)


def arp_ignore(rig: Rig) -> int:
    """A request on the first wire for the address of the second."""
    net = rig.ip(f"{ME}/24", f"{OUT}/24")
    return len(arp(net, 1, "10.0.0.77", OUT))


def arp_announce(rig: Rig) -> str:
    """Which address asks, for a packet that has the other wire's as its source."""
    net = rig.ip(f"{ME}/24", f"{OUT}/24")
    fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    sys_bind(net.host, fd, at(OUT, 0))
    net.frames()
    send(net.host, fd, "10.0.0.99")
    net.run(1000)
    (request,) = [f for f in net.frames() if f[12:14] == b"\x08\x06"]
    return ".".join(str(b) for b in request[28:32])


def arp_notify(rig: Rig) -> int:
    from stack.core.dev import dev_close, dev_open

    net = rig.ip()
    dev_close(net.wire.dev)
    net.frames()
    dev_open(net.wire.dev)
    net.run(1000)
    return len([f for f in net.frames() if f[12:14] == b"\x08\x06"])


def neighbours(rig: Rig, count: int, seconds: int = 0) -> int:
    """Entries of the table after `count` new ones, `seconds`, and one more."""
    from stack.core.neighbour import neigh_create

    net = rig.ip()
    tbl, dev = net.host.arp_tbl, net.wire.dev
    for number in range(count):
        neigh_create(tbl, ip4("10.0.0.100") + number, dev)
    net.run(seconds * S)
    neigh_create(tbl, ip4("10.0.0.99"), dev)
    return len(tbl)


def arp_filter(rig: Rig) -> int:
    """A request on the first wire from an address that is reached over the second."""
    net = rig.ip(f"{ME}/24", f"{OUT}/24")
    return len(arp(net, 1, "10.1.0.77", ME))


def arp_evict_nocarrier(rig: Rig) -> bool:
    """A neighbour is still known without a carrier."""
    net = rig.ip()
    arp_req_set(net.wire.dev, ip4("10.0.0.77"), b"\x02\0\0\0\1\2", permanent=False)
    netif_carrier_off(net.wire.dev)
    net.run(2 * S)
    return knows(net, "10.0.0.77")


def src_valid_mark(rig: Rig) -> int:
    """A datagram whose sender is reached by a rule for marks, with rp_filter."""
    net = rig.ip(rp_filter=1)
    fib_rule_add(net.host, net.host.fib.ops, fib_rule(9, table=9, mark=7, mark_mask=7))
    net.host.route_add("7.0.0.0/8", dev="eth0", table=9)
    marked(net.host)
    fd = udp(net)
    net.inject(datagram(src="7.7.7.7"))
    return take(net.host, fd)


def blocked(net: Any, direction: int) -> None:
    """A policy of IPsec that forbids all."""
    every = xfrm_selector(AF_INET, sport_mask=0, dport_mask=0)
    policy = xfrm_policy(every, direction, XFRM_POLICY_BLOCK, 0, ())
    xfrm_policy_insert(net.host, policy)


def disable_policy(rig: Rig) -> int:
    net = rig.ip()
    blocked(net, XFRM_POLICY_IN)
    fd = udp(net)
    net.inject(datagram())
    return take(net.host, fd)


def disable_xfrm(rig: Rig) -> str:
    net = rig.ip()
    blocked(net, XFRM_POLICY_OUT)
    return err(send, net.host, udp(net), PEER)


def proxied(rig: Rig, target: str, **more: int) -> int:
    """Answers of a router to a request for an address that is not its own."""
    net = rig.router(**more)
    asked = len(arp(net, 1, PEER, target))
    net.run(2_000_000_000)
    return asked + len([f for f in net.frames() if f[12:14] == b"\x08\x06" and f[21] == 2])


def promote_secondaries(rig: Rig) -> int:
    net = rig.ip()
    net.host.ifconfig("eth0", "10.0.0.9/24")
    net.host.addr_del("eth0", f"{ME}/24")
    return len(net.wire.dev.ip_ptr.ifa_list)


def ignore_routes_with_linkdown(rig: Rig) -> bool:
    """Whether there is a route over a link without a carrier."""
    net = rig.ip()
    netif_carrier_off(net.wire.dev)
    net.run(2_000_000_000)
    try:
        ip_route_output_flow(net.host, flowi(AF_INET, ip4(PEER)))
    except OSError:
        return False
    return True


def errors(rig: Rig, count: int, **more: Any) -> int:
    return unreachables(rig.ip(**more), count, spread=False)


def group_version(rig: Rig) -> int:
    return reports(rig, seconds=30)[0][1]


def gap(rig: Rig, **more: int) -> bool:
    """The last repetition of a report comes later than 2.1 s after the first."""
    rig = Rig({**rig.sysctl, **more}, rig.live)
    found = reports(rig, seconds=60)
    return found[-1][0] - found[0][0] > 2100


def multipath(rig: Rig, **more: int) -> int:
    """Over how many wires a router sends on what differs by port and by the packet inside."""
    net = rig.ip(f"{ME}/24", f"{OUT}/24", "10.2.0.1/24", ip_forward=1, **more)
    hops = []
    for i, to in enumerate((BEYOND, "10.2.0.2")):
        arp_req_set(net.wires[i + 1].dev, ip4(to), b"\x02\0\0\0\1\2")
        hops.append((to, None, 1))
    net.host.route_add("default", nexthops=hops)
    for i in range(20):
        net.inject(IP(src=PEER, dst="8.8.8.8") / UDP(sport=i, dport=2))
    return sum(bool(net.ip_sent(wire=i)) for i in (1, 2))


def multipath_seed(rig: Rig) -> bool:
    """Whether flows are spread as with seed 0."""
    spread = []
    for each in (rig, Rig({**rig.sysctl, "fib_multipath_hash_seed": 0}, rig.live)):
        net = each.ip(f"{ME}/24", f"{OUT}/24", "10.2.0.1/24")
        net.host.route_add("default", nexthops=[(BEYOND, None, 1), ("10.2.0.2", None, 1)])
        flows = [flowi(AF_INET, ip4(f"8.8.8.{i}")) for i in range(40)]
        spread.append([ip_route_output_flow(net.host, fl4).dev.name for fl4 in flows])
    return spread[0] == spread[1]


def multipath_use_neigh(rig: Rig) -> int:
    """To how many routers packets go after one did not answer."""
    net = rig.ip(f"{ME}/24", f"{OUT}/24", "10.2.0.1/24", ip_forward=1)
    arp_req_set(net.wires[1].dev, ip4(BEYOND), b"\x02\0\0\0\1\2")
    net.host.route_add("default", nexthops=[(BEYOND, None, 1), ("10.2.0.2", None, 1)])
    for _ in range(2):
        for i in range(20):
            net.inject(IP(src=PEER, dst=f"8.8.8.{i}") / UDP(sport=1, dport=2))
        sent = len(net.ip_sent(wire=1))
        net.run(5 * S)
    return sent == 20


def nexthop_compat_mode(rig: Rig) -> bool:
    """Whether RTM_NEWROUTE of a route over a nexthop object has the gateway."""
    net = rig.ip(f"{ME}/24")
    nh = nexthop(7, AF_INET, 0, 0, RT_SCOPE_LINK, net.wires[0].dev, ip4(PEER))
    nexthop_add(net.host, nh)
    ip_route_add(net.host, "9.0.0.0/8", nhobj=nh)
    [fa] = [fa for fa in net.host.fib.tables[RT_TABLE_MAIN].aliases() if fa.fa_info.fib_nhobj is nh]
    return "RTA_GATEWAY" in RTA4.parse(fib_dump_info(net.host, fa), RTMSG.size)


MIB = 1 << 20
PROBES: dict[str, tuple[Any, dict[Any, Any]]] = {
    "default_qdisc": (default_qdisc, {"pfifo_fast": "pfifo_fast", "fq": "fq", "tbf": "noqueue"}),
    "fwmark_reflect": (fwmark_reflect, {0: [0, 0, 0], 1: [7, 7, 7]}),
    "ip_forward_update_priority": (ip_forward_update_priority, {1: 6, 0: 0}),
    "dev_weight": (dev_weight, {64: False, 2: True}),
    "gro_normal_batch": (gro_normal_batch, {8: [3], 2: [2, 1], 1: [1, 1, 1]}),
    "netdev_budget": (netdev_budget, {300: 0, 1: 2}),
    "netdev_max_backlog": (netdev_max_backlog, {1000: 8, 2: 3}),
    "tstamp_allow_data": (tstamp_allow_data, {1: 52, 0: None}),
    "optmem_max": (optmem_max, {131072: 30, 100: 2}),
    "rmem_default": (rmem_default, {212992: True, 4000: False}),
    "wmem_default": (wmem_default, {212992: True, 5000: False}),
    "rmem_max": (buffer_limit(SO_RCVBUF), {212992: 425984, 10000: 20000}),
    "wmem_max": (buffer_limit(SO_SNDBUF), {212992: 425984, 10000: 20000}),
    "somaxconn": (somaxconn, {4096: 10, 2: 3}),
    "max_dgram_qlen": (max_dgram_qlen, {10: 11, 3: 4}),
    "ip_forward": (ip_forward, {0: 0, 1: 1}),
    "ip_default_ttl": (lambda rig: own_packet(rig).ttl, {64: 64, 7: 7}),
    "ip_early_demux": (demuxed, {1: [True, True], 0: [False, False]}),
    "tcp_early_demux": (demuxed, {1: [True, True], 0: [False, True]}),
    "udp_early_demux": (demuxed, {1: [True, True], 0: [True, False]}),
    "ip_no_pmtu_disc": (ip_no_pmtu_disc, {0: True, 1: False}),
    "ip_forward_use_pmtu": (ip_forward_use_pmtu, {0: 1, 1: 0}),
    "fib_multipath_hash_policy": (multipath, {0: 1, 1: 2, 2: 1}),
    "fib_multipath_hash_fields": (
        lambda rig: multipath(rig, fib_multipath_hash_policy=3),
        {7: 1, 16: 2},
    ),
    "fib_multipath_hash_seed": (multipath_seed, {0: True, 77: False}),
    "fib_multipath_use_neigh": (multipath_use_neigh, {0: False, 1: True}),
    "ip_nonlocal_bind": (ip_nonlocal_bind, {0: "EADDRNOTAVAIL", 1: ""}),
    "nexthop_compat_mode": (nexthop_compat_mode, {1: True, 0: False}),
    "ip_autobind_reuse": (ip_autobind_reuse, {0: ["", "", "EADDRINUSE"], 1: ["", "", ""]}),
    "ip_local_port_range": (ip_local_port_range, {(32768, 60999): False, (2000, 2001): True}),
    "ip_local_reserved_ports": (
        ip_local_reserved_ports,
        {"": [[2000, 2001]] * 2, "2000": [[2001]] * 2},
    ),
    "ip_unprivileged_port_start": (
        ip_unprivileged_port_start,
        {1024: ["EACCES"] * 2, 80: ["", ""]},
    ),
    "ipfrag_high_thresh": (ipfrag_high_thresh, {4 * MIB: False, 10000: True}),
    "ipfrag_low_thresh": (ipfrag_low_thresh, {2359296: "EINVAL", 1000: ""}),
    "ipfrag_time": (ipfrag_time, {30: 0, 5: 1}),
    "ipfrag_max_dist": (ipfrag_max_dist, {64: 1, 4: 0}),
    "strict_mode": (strict_mode, {0: False, 1: True}),
    "tcp_l3mdev_accept": (tcp_l3mdev_accept, {0: False, 1: True}),
    "udp_l3mdev_accept": (udp_l3mdev_accept, {0: False, 1: True}),
    "raw_l3mdev_accept": (raw_l3mdev_accept, {1: True, 0: False}),
    "icmp_echo_enable_probe": (icmp_echo_enable_probe, {0: 0, 1: 1}),
    "icmp_echo_ignore_all": (echoes, {0: 1, 1: 0}),
    "icmp_echo_ignore_broadcasts": (
        lambda rig: echoes(rig, "10.0.0.255", b"\xff" * 6),
        {1: 0, 0: 1},
    ),
    "icmp_ignore_bogus_error_responses": (icmp_ignore_bogus_error_responses, {1: 1, 0: 0}),
    "icmp_errors_use_inbound_ifaddr": (icmp_errors_use_inbound_ifaddr, {0: ME, 1: OUT}),
    "icmp_ratelimit": (lambda rig: errors(rig, 20), {1000: 6, 0: 20}),
    "icmp_ratemask": (lambda rig: errors(rig, 20), {0x1818: 6, 0: 20}),
    "icmp_msgs_per_sec": (icmp_msgs_per_sec, {1000: 20, 100: 10}),
    "icmp_msgs_burst": (lambda rig: unreachables(rig.ip(), 80, spread=True), {50: 50, 10: 10}),
    "igmp_max_memberships": (lambda rig: joins(net := rig.ip(), udp(net)), {20: 20, 3: 3}),
    "igmp_max_msf": (igmp_max_msf, {10: 10, 4: 4}),
    "igmp_link_local_mcast_reports": (
        lambda rig: len(reports(rig, group="224.0.0.9")),
        {1: 2, 0: 0},
    ),
    "igmp_qrv": (lambda rig: len(reports(rig)), {2: 2, 5: 5}),
    "ping_group_range": (ping_group_range, {(0, 2147483647): "", (1, 0): "EACCES"}),
    "udp_rmem_min": (udp_rmem_min, {4096: (True, False), 40000: (False, True)}),
    "mtu_expires": (lambda rig: learned(rig, 900, wait_ns=100 * S), {600: 900, 50: 1500}),
    "min_pmtu": (lambda rig: learned(rig, 300), {552: 552, 200: 300}),
    "min_adv_mss": (min_adv_mss, {256: 256, 100: 160}),
    "redirect_load": (
        lambda rig: redirects(rig.router(), 6, 100_000_000),
        {20: 4, 1: 6},
    ),
    "redirect_number": (lambda rig: redirects(rig.router(), 12, 11 * S), {9: 9, 3: 3}),
    "redirect_silence": (redirect_silence, {20480: 1, 2000: 2}),
    "error_cost": (lambda rig: no_routes(rig, 5, S // 2), {1000: 5, 5000: 1}),
    "error_burst": (lambda rig: no_routes(rig, 20, 0, 20 * S), {5000: 5, 10000: 10}),
    "accept_redirects": (redirected, {1: True, 0: False}),
    "secure_redirects": (secure_redirects, {1: False, 0: True}),
    "send_redirects": (lambda rig: redirects(rig.router(), 1, 0), {1: 1, 0: 0}),
    "shared_media": (shared_media, {1: True, 0: False}),
    "accept_source_route": (accept_source_route, {0: 0, 1: 1}),
    "accept_local": (accept_local, {0: 0, 1: 1}),
    "rp_filter": (rp_filter, {0: 1, 1: 0, 2: 1}),
    "log_martians": (
        log_martians,
        {0: [], 1: ["h: IPv4: martian source 10.0.0.1 from 127.0.0.1, on dev eth0", LL_HEADER]},
    ),
    "route_localnet": (route_localnet, {0: 0, 1: 1}),
    "bc_forwarding": (bc_forwarding, {0: (0, 1), 1: (1, 0)}),
    "drop_unicast_in_l2_multicast": (drop_unicast_in_l2_multicast, {0: 1, 1: 0}),
    "force_igmp_version": (group_version, {0: 0x22, 2: 0x16, 1: 0x12}),
    "igmpv2_unsolicited_report_interval": (
        lambda rig: gap(rig, force_igmp_version=2, igmp_qrv=5),
        {10000: True, 100: False},
    ),
    "igmpv3_unsolicited_report_interval": (
        lambda rig: gap(rig, igmp_qrv=3),
        {1000: False, 20000: True},
    ),
    "arp_accept": (arp_accept, {0: False, 1: True}),
    "arp_announce": (arp_announce, {0: OUT, 1: ME, 2: ME}),
    "arp_ignore": (arp_ignore, {0: 1, 1: 0, 8: 0}),
    "arp_filter": (arp_filter, {0: 1, 1: 0}),
    "arp_evict_nocarrier": (arp_evict_nocarrier, {1: False, 0: True}),
    "src_valid_mark": (src_valid_mark, {0: 0, 1: 1}),
    "disable_policy": (disable_policy, {0: 0, 1: 1}),
    "disable_xfrm": (disable_xfrm, {0: "EPERM", 1: ""}),
    "medium_id": (lambda rig: proxied(rig, BEYOND, proxy_arp=1), {0: 1, 3: 0, -1: 0}),
    "forwarding": (ip_forward, {0: 0, 1: 1}),
    "arp_notify": (arp_notify, {0: 0, 1: 1}),
    "drop_gratuitous_arp": (drop_gratuitous_arp, {0: 0, 1: 1}),
    "gc_thresh1": (lambda rig: neighbours(rig, 20, 200), {128: 23, 5: 3}),
    "gc_thresh2": (lambda rig: neighbours(rig, 20, 10), {512: 23, 5: 6}),
    "gc_thresh3": (lambda rig: neighbours(rig, 20), {1024: 23, 5: 5}),
    "proxy_arp": (lambda rig: proxied(rig, BEYOND), {0: 0, 1: 1}),
    "proxy_arp_pvlan": (lambda rig: proxied(rig, "10.0.0.77"), {0: 0, 1: 1}),
    "promote_secondaries": (promote_secondaries, {0: 0, 1: 1}),
    "ignore_routes_with_linkdown": (ignore_routes_with_linkdown, {0: True, 1: False}),
}
