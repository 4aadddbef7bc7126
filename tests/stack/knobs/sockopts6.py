"""What each option of AF_INET6 sockets does: rows as in sockopts.py, on one host and scapy."""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Callable
from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
    in6_chksum,
)
from scapy.packet import Raw

from stack.core import uapi as u
from stack.inet.xfrm_policy import XFRM_POLICY_OUT, selector, xfrm_policy
from stack.ipv6.if_inet6 import IFA_F_TEMPORARY
from stack.netlink.xfrm_attrs import put_policy_info
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Socket
from tests.stack.ipv6.net import (
    BEYOND,
    ME,
    OUT,
    PEER,
    PEER_MAC,
    Net6,
    add_addr,
    ip6,
    one_host6,
    static_neigh,
)
from tests.stack.knobs.rig import makes_a_probe, waiting

Probe = Callable[[Any], Any]
GROUP = "ff15::7"
PAD = b"\0\0\x01\x04\0\0\0\0"  # 8 bytes: PadN


def udp6(net: Net6, port: int = 0) -> Socket:
    sock = Socket(net.host, AF_INET6, SOCK_DGRAM)
    sock.setblocking(False)
    if port:
        sock.bind(("::", port))
    return sock


def give(sock: Socket, name: int, value: Any, level: int = u.SOL_IPV6) -> None:
    if value is not None:
        sock.setsockopt(level, name, value)


def name_of(call: Callable[[], Any]) -> str:
    """The errno that a call fails with, "" when it does not."""
    try:
        call()
    except OSError as error:
        return u_errno(error)
    return ""


def u_errno(error: OSError) -> str:
    return errno.errorcode[error.errno or 0]


@makes_a_probe
def xfrm_policy_of(action: Any, name: int) -> str:
    """The errno of setting the socket's own policy, or of sending when it is set."""
    with udp6(one_host6()) as sock:
        if action is not None:
            pol = xfrm_policy(selector("::/0", "::/0"), XFRM_POLICY_OUT, action)
            failed = name_of(lambda: give(sock, name, put_policy_info(pol)))
            if failed:
                return failed
        return name_of(lambda: sock.sendto(b"x", (PEER, 9)))


@makes_a_probe
def sends(value: Any, option: int, look: Callable[[Any], Any], size: int = 3) -> Any:
    """What a datagram to PEER looks like: the first packet, or the errno."""
    net = one_host6(addrs=(f"{ME}/64", f"{OUT}/64"))
    sock = udp6(net, 5000)
    give(sock, option, value)
    failed = name_of(lambda: sock.sendto(bytes(size), (PEER, 9)))
    sent = net.ip_sent()
    return failed or look(sent)


def header(sent: list[Any]) -> int:
    """Next header field of the first packet."""
    return int(sent[0].nh)


def incoming() -> Any:
    """A datagram with everything in front of it that can be."""
    return (
        IPv6(src=PEER, dst=ME, tc=0x20, fl=5, hlim=9)
        / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")])
        / IPv6ExtHdrRouting(type=2, segleft=0, addresses=[ME])
        / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")])
        / UDP(sport=7, dport=5000)
        / b"x"
    )


@makes_a_probe
def message(value: Any, option: int) -> list[int]:
    """The control messages that a datagram comes with."""
    net = one_host6()
    sock = udp6(net, 5000)
    give(sock, option, value)
    net.inject(incoming())
    return [kind for _, kind, _ in sock.recvmsg(99, 999)[1]]


def told(option: int, number: int) -> tuple[Probe, dict[Any, Any]]:
    return message(option), {None: [], 1: [number]}


def fragsize(value: Any) -> list[int]:
    net = one_host6()
    sock = udp6(net, 5000)
    give(sock, u.IPV6_RECVFRAGSIZE, value)
    whole = bytes(IPv6(src=PEER, dst=ME) / UDP(sport=7, dport=5000) / bytes(2000))[40:]
    for at, more in ((0, 1), (1000, 1), (2000, 0)):
        part = IPv6ExtHdrFragment(nh=17, offset=at // 8, m=more, id=7) / whole[at : at + 1000]
        net.inject(IPv6(src=PEER, dst=ME) / part)
    return [struct.unpack("=i", data)[0] for _, _, data in sock.recvmsg(9999, 999)[1]]


def recvpathmtu(value: Any) -> list[int]:
    net = one_host6()
    sock = udp6(net, 5000)
    sock.setsockopt(u.SOL_IPV6, u.IPV6_DONTFRAG, 1)
    give(sock, u.IPV6_RECVPATHMTU, value)
    with contextlib.suppress(OSError):
        sock.sendto(bytes(3000), (PEER, 9))
    try:
        return [kind for _, kind, _ in sock.recvmsg(99, 999)[1]]
    except BlockingIOError:
        return []


def addrform(value: Any) -> int:
    net = one_host6()
    sock = udp6(net)
    sock.connect(("::ffff:127.0.0.1", 9))
    give(sock, u.IPV6_ADDRFORM, value)
    return int(sock.sk.sk_family)


def preferences(value: Any) -> bool:
    """Is the source the temporary address?"""
    net = one_host6()
    add_addr(net.wire.dev, "2001:db8::99/64")
    net.host.ipv6.addr_hash[ip6("2001:db8::99")][0].flags |= IFA_F_TEMPORARY
    sock = udp6(net)
    give(sock, u.IPV6_ADDR_PREFERENCES, value)
    sock.connect((PEER, 9))
    return bool(sock.getsockname()[0] == "2001:db8::99")


def raw_checksum(value: Any) -> bool:
    net = one_host6()
    raw = Socket(net.host, AF_INET6, SOCK_RAW, 200)
    give(raw, u.IPV6_CHECKSUM, value)
    raw.sendto(bytes(8), (PEER, 0))
    return any(bytes(net.ip_sent()[0].payload))


def hdrincl(value: Any) -> int:
    net = one_host6()
    raw = Socket(net.host, AF_INET6, SOCK_RAW, 200)
    give(raw, u.IPV6_HDRINCL, value)
    raw.sendto(bytes(IPv6(src=ME, dst=PEER, nh=59)), (PEER, 0))
    return int(net.ip_sent()[0].nh)


def flowinfo_send(value: Any) -> bool:
    net = one_host6()
    sock = udp6(net)
    give(sock, u.IPV6_FLOWINFO_SEND, value)
    sock.sendto(b"x", (PEER, 9, 0x12345))
    return bool(net.ip_sent()[0].fl == 0x12345)


def flowlabel_mgr(value: Any) -> str:
    """An exclusive lease of another socket: may this one use its own label?"""
    net = one_host6()
    other, sock = udp6(net), udp6(net)
    request = struct.pack("!16sI", bytes.fromhex("20010db8" + "0" * 23 + "2"), 7)
    rest = struct.pack("<BBHHHI", 0, 1, 1, 60, 60, 0)  # get, exclusive, create
    (sock if value else other).setsockopt(u.SOL_IPV6, u.IPV6_FLOWLABEL_MGR, request + rest)
    sock.setsockopt(u.SOL_IPV6, u.IPV6_FLOWINFO_SEND, 1)
    return name_of(lambda: sock.sendto(b"x", (PEER, 9, 7)))


@makes_a_probe
def foreign(value: Any, option: int) -> str:
    """bind to an address that is not here."""
    sock = udp6(one_host6())
    give(sock, option, value)
    return name_of(lambda: sock.bind(("2001:db8::77", 5000)))


def minhopcount(value: Any) -> int:
    """SYN-ACKs to a SYN with hop limit 64."""
    net = one_host6()
    sock = Socket(net.host, AF_INET6, SOCK_STREAM)
    give(sock, u.IPV6_MINHOPCOUNT, value)
    sock.bind(("::", 80))
    sock.listen(1)
    net.inject(IPv6(src=PEER, dst=ME, hlim=64) / TCP(sport=9, dport=80, flags="S"))
    return len([p for p in net.ip_sent() if TCP in p])


def mc_hops(value: Any) -> int:
    net = one_host6()
    sock = udp6(net)
    give(sock, u.IPV6_MULTICAST_HOPS, value)
    sock.sendto(b"x", (GROUP, 9))
    return int(net.ip_sent()[0].hlim)


def mc_if(value: Any) -> list[int]:
    """Packets that leave by each of two interfaces."""
    net = one_host6(addrs=(f"{ME}/64", f"{OUT}/64"))
    sock = udp6(net)
    give(sock, u.IPV6_MULTICAST_IF, None if value is None else net.wires[1].dev.ifindex)
    sock.sendto(b"x", (GROUP, 9))
    return [len([p for p in net.ip_sent(wire=i) if UDP in p]) for i in (0, 1)]


def uc_if(value: Any) -> list[bool]:
    """Whether something leaves by each of two interfaces, to a link-local address."""
    net = one_host6(addrs=(f"{ME}/64", f"{OUT}/64"))
    for wire in net.wires:
        static_neigh(wire.dev, "fe80::9", PEER_MAC)
    sock = udp6(net)
    if value:
        index = net.wires[1].dev.ifindex
        give(sock, u.IPV6_UNICAST_IF, struct.unpack("=i", struct.pack("!i", index))[0])
    sock.sendto(b"x", ("fe80::9", 9))
    return [bool(net.frames(wire=i)) for i in (0, 1)]


def mreq(net: Net6, group: str) -> bytes:
    return ip6(group).to_bytes(16, "big") + struct.pack("=i", net.wire.dev.ifindex)


def sockaddr6(addr: str) -> bytes:
    return struct.pack("=HHI16sI", 10, 0, 0, ip6(addr).to_bytes(16, "big"), 0).ljust(128, b"\0")


def group_req(net: Net6, *addrs: str) -> bytes:
    index = struct.pack("=II", net.wire.dev.ifindex, 0)
    return index + b"".join(sockaddr6(addr) for addr in addrs)


def heard(*steps: Callable[[Net6], tuple[int, Any]], source: str = PEER) -> int:
    """Datagrams of GROUP from `source` that a socket reads after these options."""
    net = one_host6()
    member, sock = udp6(net), udp6(net, 5000)
    # Another member, so that the interface takes the group's packets.
    member.setsockopt(u.SOL_IPV6, u.IPV6_JOIN_GROUP, mreq(net, GROUP))
    for step in steps:
        sock.setsockopt(u.SOL_IPV6, *step(net))
    net.inject(IPv6(src=source, dst=GROUP) / UDP(sport=7, dport=5000) / b"x")
    return len(waiting(sock))


def alone(net: Net6) -> tuple[int, Any]:
    return u.IPV6_MULTICAST_ALL, 0


def step(option: int, *addrs: str) -> Callable[[Net6], tuple[int, Any]]:
    return lambda net: (option, group_req(net, *addrs))


def joins(net: Net6) -> tuple[int, Any]:
    return u.IPV6_JOIN_GROUP, mreq(net, GROUP)


def leaves(net: Net6) -> tuple[int, Any]:
    return u.IPV6_LEAVE_GROUP, mreq(net, GROUP)


def msfilter(net: Net6) -> tuple[int, Any]:
    head = group_req(net, GROUP) + struct.pack("=II", 0, 1)  # exclude one
    return u.MCAST_MSFILTER, head + sockaddr6(PEER)


def toggled(
    step_: Callable[[Net6], tuple[int, Any]], *before: Callable[[Net6], tuple[int, Any]]
) -> Probe:
    """Datagrams heard without and with one more step."""
    return lambda on: heard(alone, *before, *((step_,) if on else ()))


def mc_loop(value: Any) -> int:
    net = one_host6()
    sock = udp6(net, 5000)
    sock.setsockopt(u.SOL_IPV6, u.IPV6_JOIN_GROUP, mreq(net, GROUP))
    give(sock, u.IPV6_MULTICAST_LOOP, value)
    sock.sendto(b"x", (GROUP, 5000))
    net.run(1000)
    return len(waiting(sock))


def anycast(steps: int) -> bool:
    """Is 2001:db8::any answered as an address of ours after none, join, join and leave?"""
    net = one_host6()
    sock = udp6(net)
    addr = "2001:db8::abc"
    for option in (u.IPV6_JOIN_ANYCAST, u.IPV6_LEAVE_ANYCAST)[:steps]:
        sock.setsockopt(u.SOL_IPV6, option, mreq(net, addr))
    net.inject(IPv6(src=PEER, dst=addr) / ICMPv6EchoRequest())
    return any(ICMPv6EchoReply in p for p in net.ip_sent())


def pathmtu(connected: bool) -> Any:
    sock = udp6(one_host6())
    if connected:
        sock.connect((PEER, 9))
    try:
        return struct.unpack("=I", sock.getsockopt(u.SOL_IPV6, u.IPV6_PATHMTU, 32)[28:])[0]
    except OSError as error:
        return u_errno(error)


def pktinfo(value: Any) -> str:
    """Whether a link-local address without a scope can be pinged: the option names its link."""
    net = one_host6()
    sock = Socket(net.host, AF_INET6, SOCK_DGRAM, u.IPPROTO_ICMPV6)
    data = bytes(16) + struct.pack("=i", net.wire.dev.ifindex)
    give(sock, u.IPV6_PKTINFO, data if value else None)
    return name_of(lambda: sock.sendto(b"\x80\0\0\0\0\0\0\7", ("fe80::9", 0)))


def recverr(value: Any) -> int:
    net = one_host6()
    sock = udp6(net)
    give(sock, u.IPV6_RECVERR, value)
    sock.sendto(b"x", (PEER, 9))
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6DestUnreach(code=4) / net.ip_sent()[0])
    return int(sock.sk.sk_error_queue.qlen)


def recverr_rfc4884(value: Any) -> int:
    """Where an error's extensions begin, in the data that it brings back."""
    net = one_host6()
    sock = udp6(net)
    give(sock, u.IPV6_RECVERR, 1)
    give(sock, u.IPV6_RECVERR_RFC4884, value)
    sock.sendto(bytes(200), (PEER, 9))
    quoted = bytes(net.ip_sent()[0])[:128] + bytes.fromhex("2000000000080101000101ff")
    unreachable = bytes((1, 4, 0, 0, 16, 0, 0, 0)) + quoted
    sum_ = in6_chksum(58, IPv6(src=PEER, dst=ME), unreachable).to_bytes(2, "big")
    net.inject(IPv6(src=PEER, dst=ME, nh=58) / Raw(unreachable[:2] + sum_ + unreachable[4:]))
    _, control, _, _ = sock.recvmsg(2000, 500, u.MSG_ERRQUEUE)
    return int(struct.unpack_from("=12xH", control[0][2])[0])


def router_alert(value: Any) -> int:
    net = one_host6(addrs=(f"{ME}/64", f"{OUT}/64"), sysctl={"net.ipv6.conf.all.forwarding": 1})
    raw = Socket(net.host, AF_INET6, SOCK_RAW, 255)
    raw.setblocking(False)
    give(raw, u.IPV6_ROUTER_ALERT, value)
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert(value=1), PadN(optdata=b"")])
    net.inject(IPv6(src=PEER, dst=BEYOND) / alert / UDP(sport=1, dport=2) / b"x")
    return len(waiting(raw))


RTHDR2 = bytes((0, 2, 2, 1)) + bytes(4) + ip6(PEER).to_bytes(16, "big")


def rthdr(value: Any) -> list[int]:
    """Types of the headers of a datagram, and the address of its IPv6 header's last byte."""
    net = one_host6()
    sock = udp6(net)
    for option, data in ((u.IPV6_RTHDR, RTHDR2), (u.IPV6_RTHDRDSTOPTS, PAD)):
        if value and option in value:
            sock.setsockopt(u.SOL_IPV6, option, data)
    sock.sendto(b"x", ("2001:db8::fe", 9))
    packet = bytes(net.ip_sent()[0])
    kinds, kind, at = [], packet[6], 40
    while kind in (0, 43, 60):
        kinds.append(kind)
        kind, at = packet[at], at + (packet[at + 1] + 1) * 8
    return [*kinds, packet[39]]


def v6only(value: Any) -> int:
    net = one_host6()
    sock = Socket(net.host, AF_INET6, SOCK_DGRAM)
    sock.setblocking(False)
    give(sock, u.IPV6_V6ONLY, value)
    sock.bind(("::", 5000))
    Socket(net.host, AF_INET, SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 5000))
    net.run(1000)
    return len(waiting(sock))


def icmp6_filter(value: Any) -> int:
    net = one_host6()
    raw = Socket(net.host, AF_INET6, SOCK_RAW, u.IPPROTO_ICMPV6)
    raw.setblocking(False)
    give(raw, u.ICMPV6_FILTER, value, u.SOL_ICMPV6)
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6EchoReply())
    return len(waiting(raw))


def mtu(value: Any) -> int:
    return int(sends(u.IPV6_MTU, len, 1400)(value))


PROBES6: dict[str, tuple[Probe, dict[Any, Any]]] = {
    "IPV6_2292DSTOPTS": told(u.IPV6_2292DSTOPTS, u.IPV6_2292DSTOPTS),
    "IPV6_2292HOPLIMIT": told(u.IPV6_2292HOPLIMIT, u.IPV6_2292HOPLIMIT),
    "IPV6_2292HOPOPTS": told(u.IPV6_2292HOPOPTS, u.IPV6_2292HOPOPTS),
    "IPV6_2292PKTINFO": told(u.IPV6_2292PKTINFO, u.IPV6_2292PKTINFO),
    "IPV6_2292RTHDR": told(u.IPV6_2292RTHDR, u.IPV6_2292RTHDR),
    "IPV6_ADDRFORM": (addrform, {None: 10, AF_INET: 2}),
    "IPV6_ADDR_PREFERENCES": (preferences, {1: True, 2: False}),
    "IPV6_AUTOFLOWLABEL": (
        sends(u.IPV6_AUTOFLOWLABEL, lambda sent: bool(sent[0].fl)),
        {None: True, 0: False},
    ),
    "IPV6_CHECKSUM": (raw_checksum, {None: False, 2: True}),
    "IPV6_DONTFRAG": (sends(u.IPV6_DONTFRAG, len, 3000), {None: 3, 1: "EMSGSIZE"}),
    "IPV6_DSTOPTS": (sends(u.IPV6_DSTOPTS, header), {None: 17, PAD: 60}),
    "IPV6_FLOWINFO": told(u.IPV6_FLOWINFO, u.IPV6_FLOWINFO),
    "IPV6_FLOWINFO_SEND": (flowinfo_send, {None: False, 1: True}),
    "IPV6_FLOWLABEL_MGR": (flowlabel_mgr, {False: "EINVAL", True: ""}),
    "IPV6_FREEBIND": (foreign(u.IPV6_FREEBIND), {None: "EADDRNOTAVAIL", 1: ""}),
    "IPV6_HDRINCL": (hdrincl, {None: 200, 1: 59}),
    "IPV6_HOPOPTS": (sends(u.IPV6_HOPOPTS, header), {None: 17, PAD: 0}),
    "IPV6_JOIN_ANYCAST": (anycast, {0: False, 1: True}),
    "IPV6_JOIN_GROUP": (toggled(joins), {False: 0, True: 1}),
    "IPV6_LEAVE_ANYCAST": (anycast, {1: True, 2: False}),
    "IPV6_LEAVE_GROUP": (toggled(leaves, joins), {False: 1, True: 0}),
    "IPV6_MINHOPCOUNT": (minhopcount, {None: 1, 65: 0}),
    "IPV6_MTU": (mtu, {None: 1, 1280: 2}),
    "IPV6_MTU_DISCOVER": (sends(u.IPV6_MTU_DISCOVER, len, 3000), {None: 3, 2: "EMSGSIZE"}),
    "IPV6_MULTICAST_ALL": (lambda on: heard(*((alone,) if on else ())), {False: 1, True: 0}),
    "IPV6_MULTICAST_HOPS": (mc_hops, {None: 1, 5: 5}),
    "IPV6_MULTICAST_IF": (mc_if, {None: [1, 0], 1: [0, 1]}),
    "IPV6_MULTICAST_LOOP": (mc_loop, {None: 1, 0: 0}),
    "IPV6_PATHMTU": (pathmtu, {False: "ENOTCONN", True: 1500}),
    "IPV6_PKTINFO": (pktinfo, {False: "EINVAL", True: ""}),
    "IPV6_RECVDSTOPTS": told(u.IPV6_RECVDSTOPTS, u.IPV6_DSTOPTS),
    "IPV6_RECVERR": (recverr, {None: 0, 1: 1}),
    "IPV6_RECVERR_RFC4884": (recverr_rfc4884, {None: 0, 1: 80}),
    "IPV6_RECVFRAGSIZE": (fragsize, {None: [], 1: [1048]}),
    "IPV6_RECVHOPLIMIT": told(u.IPV6_RECVHOPLIMIT, u.IPV6_HOPLIMIT),
    "IPV6_RECVHOPOPTS": told(u.IPV6_RECVHOPOPTS, u.IPV6_HOPOPTS),
    "IPV6_RECVORIGDSTADDR": told(u.IPV6_RECVORIGDSTADDR, u.IPV6_ORIGDSTADDR),
    "IPV6_RECVPATHMTU": (recvpathmtu, {None: [], 1: [u.IPV6_PATHMTU]}),
    "IPV6_RECVPKTINFO": told(u.IPV6_RECVPKTINFO, u.IPV6_PKTINFO),
    "IPV6_RECVRTHDR": told(u.IPV6_RECVRTHDR, u.IPV6_RTHDR),
    "IPV6_RECVTCLASS": told(u.IPV6_RECVTCLASS, u.IPV6_TCLASS),
    "IPV6_ROUTER_ALERT": (router_alert, {None: 0, 1: 1}),
    "IPV6_RTHDR": (rthdr, {(): [0xFE], (u.IPV6_RTHDR,): [43, 2]}),
    "IPV6_RTHDRDSTOPTS": (
        rthdr,
        {(u.IPV6_RTHDR,): [43, 2], (u.IPV6_RTHDR, u.IPV6_RTHDRDSTOPTS): [60, 43, 2]},
    ),
    "IPV6_TCLASS": (sends(u.IPV6_TCLASS, lambda sent: sent[0].tc), {None: 0, 0x40: 0x40}),
    "IPV6_TRANSPARENT": (foreign(u.IPV6_TRANSPARENT), {None: "EADDRNOTAVAIL", 1: ""}),
    "IPV6_UNICAST_HOPS": (sends(u.IPV6_UNICAST_HOPS, lambda sent: sent[0].hlim), {None: 64, 9: 9}),
    "IPV6_XFRM_POLICY": (xfrm_policy_of(u.IPV6_XFRM_POLICY), {None: "", 0: "", 1: "EPERM"}),
    "IPV6_UNICAST_IF": (uc_if, {False: [True, False], True: [False, True]}),
    "IPV6_V6ONLY": (v6only, {None: 1, 1: 0}),
    "MCAST_BLOCK_SOURCE": (
        toggled(step(u.MCAST_BLOCK_SOURCE, GROUP, PEER), joins),
        {False: 1, True: 0},
    ),
    "MCAST_JOIN_GROUP": (toggled(step(u.MCAST_JOIN_GROUP, GROUP)), {False: 0, True: 1}),
    "MCAST_JOIN_SOURCE_GROUP": (
        lambda src: heard(alone, step(u.MCAST_JOIN_SOURCE_GROUP, GROUP, src)),
        {PEER: 1, "2001:db8::3": 0},
    ),
    "MCAST_LEAVE_GROUP": (toggled(step(u.MCAST_LEAVE_GROUP, GROUP), joins), {False: 1, True: 0}),
    "MCAST_LEAVE_SOURCE_GROUP": (
        toggled(
            step(u.MCAST_LEAVE_SOURCE_GROUP, GROUP, PEER),
            step(u.MCAST_JOIN_SOURCE_GROUP, GROUP, PEER),
        ),
        {False: 1, True: 0},
    ),
    "MCAST_MSFILTER": (toggled(msfilter, joins), {False: 1, True: 0}),
    "MCAST_UNBLOCK_SOURCE": (
        toggled(
            step(u.MCAST_UNBLOCK_SOURCE, GROUP, PEER),
            joins,
            step(u.MCAST_BLOCK_SOURCE, GROUP, PEER),
        ),
        {False: 0, True: 1},
    ),
    "ICMPV6_FILTER": (icmp6_filter, {None: 1, b"\xff" * 32: 0}),
}
