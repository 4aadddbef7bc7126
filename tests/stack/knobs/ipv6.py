"""What each sysctl of net.ipv6 does: `PROBES6[full name]`.

A row is (probe, {value: what the probe sees}); the first value is the default. A probe takes a
`Rig6`, which makes a host with the knob set as it is made or written afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.packet import Raw

from stack.core.neigh_table import NEIGH_UPDATE_F_OVERRIDE
from stack.core.neighbour import neigh_update
from stack.core.netfilter import NFPROTO_IPV6
from stack.core.uapi import AF_INET6, NUD_REACHABLE, RTF_UP, RTN_ANYCAST
from stack.inet.flow import flowi
from stack.inet.xfrm_policy import (
    XFRM_POLICY_BLOCK,
    XFRM_POLICY_IN,
    xfrm_policy,
    xfrm_policy_insert,
    xfrm_selector,
)
from stack.ipv6.if_inet6 import ifacaddr6
from stack.ipv6.ip6_fib import (
    RT6_TABLE_LOCAL,
    RTF_ANYCAST,
    fib6_add,
    fib6_get_table,
    fib6_info,
    fib6_nh,
)
from stack.ipv6.route import ip6_route_output_flow
from stack.ipv6.rt6_info import ip6_default_advmss
from tests.stack.ipv6.conformance import (
    DEST,
    FRAGMENT,
    HOP,
    ICMPV6,
    echo,
    fragment,
    opt,
    options,
    say,
    v6,
)
from tests.stack.ipv6.net import (
    BEYOND,
    BEYOND_MAC,
    FAR,
    GW,
    ME,
    OUT,
    PEER,
    SEC,
    Net6,
    ip6,
    neighbour_of,
    one_host6,
    static_neigh,
)
from tests.stack.ipv6.test_flowlabel import refused, sock_of
from tests.stack.knobs.rig import marked

ANYCAST = "2001:db8::ac"
GROUP = "ff02::1"


class Rig6:
    """One knob's value and how it is written."""

    def __init__(self, name: str, value: Any, live: bool) -> None:
        self.name, self.value, self.live = name, value, live

    def host(self, *addrs: str, **sysctl: Any) -> Net6:
        """A host with a wire for each address; `sysctl`: others, "icmp.ratelimit" as icmp__..."""
        given = {f"net.ipv6.{name.replace('__', '.')}": value for name, value in sysctl.items()}
        if not self.live:
            given[self.name] = self.value
        net = one_host6(addrs=addrs or (f"{ME}/64",), sysctl=given)
        if self.live:
            net.host.sysctl[self.name] = self.value
        return net

    def router(self) -> Net6:
        """Two wires; BEYOND is a neighbour on the second."""
        other = {} if self.name.endswith("all.forwarding") else {"conf__all__forwarding": 1}
        net = self.host(f"{ME}/64", f"{OUT}/64", **other)
        static_neigh(net.wires[1].dev, BEYOND, BEYOND_MAC)
        return net


def said(net: Net6, *packets: bytes, **inject: Any) -> list[str]:
    """What the host answers to the packets."""
    for packet in packets:
        net.inject(packet, **inject)
    return [say(p) for p in net.ip_sent()]


def answers(*packets: bytes, **inject: Any) -> Callable[[Rig6], list[str]]:
    return lambda rig: said(rig.host(), *packets, **inject)


def anycast(net: Net6) -> Net6:
    """The host has an anycast address on its first interface."""
    dev = net.wire.dev
    assert dev.ip6_ptr is not None
    rt = fib6_info(
        fib6_get_table(net.host, RT6_TABLE_LOCAL),
        ip6(ANYCAST),
        128,
        fib6_nh(dev),
        rtype=RTN_ANYCAST,
        flags=RTF_UP | RTF_ANYCAST,
        metric=0,
    )
    fib6_add(net.host, rt)
    dev.ip6_ptr.ac_list[ip6(ANYCAST)] = ifacaddr6(ip6(ANYCAST), rt)
    return net


def anycast_source(rig: Rig6) -> str:
    net = anycast(rig.host())
    net.inject(v6(ICMPV6, echo(dst=ANYCAST), dst=ANYCAST))
    return str(net.ip_sent()[0].src)


def anycast_echo(rig: Rig6) -> int:
    return len(said(anycast(rig.host()), v6(ICMPV6, echo(dst=ANYCAST), dst=ANYCAST)))


def anycast_error(rig: Rig6) -> int:
    net = anycast(rig.host())
    before = net.host.mib.icmp6.OutMsgs
    net.inject(v6(253, bytes(8), src=ANYCAST))
    return int(net.host.mib.icmp6.OutMsgs - before)


def label(rig: Rig6) -> int:
    """The automatic label's highest bit, over many flows; -1 without labels."""
    net = rig.host()
    labels = []
    for n in range(16):
        src = f"2001:db8::{n + 16:x}"
        static_neigh(net.wire.dev, src, b"\2\0\0\0\0\2")
        net.inject(v6(ICMPV6, echo(src=src), src=src))
        labels.append(net.ip_sent()[0].fl)
    return -1 if not any(labels) else len({fl >> 19 for fl in labels})


def label_reflected(rig: Rig6) -> bool:
    net = rig.host()
    request = bytearray(v6(ICMPV6, echo()))
    request[1:4] = b"\x01\x23\x45"
    net.inject(bytes(request))
    return bool(net.ip_sent()[0].fl == 0x12345)


def mark_reflected(rig: Rig6) -> list[int]:
    """Of an echo reply, a RST and an ICMPv6 error."""
    net = rig.host()
    seen = marked(net.host, NFPROTO_IPV6)
    net.inject(v6(ICMPV6, echo()))
    for packet in (TCP(dport=9, flags="S"), UDP(dport=9)):
        net.inject(bytes(IPv6(src=PEER, dst=ME) / packet))
    return seen


def reflect_refused(rig: Rig6) -> str:
    return refused(sock_of(rig.host()), flags=4)


def fragments_held(rig: Rig6) -> int:
    net = rig.host(ip6frag_low_thresh=0) if not rig.live else one_host6()
    if rig.live:
        net.host.sysctl["net.ipv6.ip6frag_low_thresh"] = 0
        net.host.sysctl[rig.name] = rig.value
    for ident in range(20):
        net.inject(v6(FRAGMENT, fragment(ICMPV6, 0, True, ident, bytes(800))))
    return len(net.host.ipv6.frags.queues)


def low_thresh(rig: Rig6) -> str:
    net = rig.host()
    try:
        net.host.sysctl["net.ipv6.ip6frag_high_thresh"] = 1 << 20
    except OSError as error:
        return type(error).__name__
    return ""


def fragment_waits(rig: Rig6) -> bool:
    net = rig.host()
    net.inject(v6(FRAGMENT, fragment(ICMPV6, 0, True, 1, bytes(800))))
    net.run(30 * SEC)
    return bool(net.host.ipv6.frags.queues)


def limited(rig: Rig6) -> int:
    """Errors about twelve packets at once."""
    return len(said(rig.host(), *[v6(253, bytes(8))] * 12))


def learned(net: Net6, dst: str = PEER) -> None:
    inner = bytes(IPv6(src=ME, dst=dst) / ICMPv6EchoReply())
    net.inject(IPv6(src=GW, dst=ME) / ICMPv6PacketTooBig(mtu=1300) / Raw(inner))


def mtu_expires(rig: Rig6) -> int:
    net = rig.host()
    learned(net)
    net.run(60 * SEC)
    net.inject(v6(ICMPV6, echo(data=bytes(1400))))
    return len(net.ip_sent())


def exceptions_kept(rig: Rig6) -> int:
    net = rig.host()
    for n in range(20):
        learned(net, f"2001:db8::{n + 16:x}")
    return net.host.ipv6.rt6_exceptions


def gc_interval(rig: Rig6) -> int:
    """What waits for the collector 10 s after it expired."""
    net = rig.host(route__mtu_expires=10)
    learned(net)
    net.run(20 * SEC)
    return net.host.ipv6.rt6_exceptions


def advmss(rig: Rig6) -> int:
    net = rig.host()
    net.host.route_add("2001:db8:ffff::/48", via=GW, mtu=1280)
    rt = ip6_route_output_flow(net.host, flowi(AF_INET6, ip6(FAR)))
    return ip6_default_advmss(rt)


def forwarding(rig: Rig6) -> int:
    net = rig.router()
    net.inject(v6(ICMPV6, echo(dst=BEYOND), dst=BEYOND))
    return len(net.ip_sent(wire=1))


def forced(rig: Rig6) -> int:
    """What a host that does not forward sends on."""
    net = rig.host(f"{ME}/64", f"{OUT}/64")
    static_neigh(net.wires[1].dev, BEYOND, BEYOND_MAC)
    net.inject(v6(ICMPV6, echo(dst=BEYOND), dst=BEYOND))
    return len(net.ip_sent(wire=1))


def policy_disabled(rig: Rig6) -> list[str]:
    """What a host answers that a policy of IPsec closes."""
    net = rig.host()
    every = xfrm_selector(AF_INET6, sport_mask=0, dport_mask=0)
    policy = xfrm_policy(every, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, 0, ())
    xfrm_policy_insert(net.host, policy)
    return said(net, v6(ICMPV6, echo()))


def unsolicited(rig: Rig6) -> bool:
    """Whether an advertisement unasked changes a neighbour's address."""
    net, other = rig.host(), "2001:db8::77"
    neigh = neighbour_of(net.wire.dev, other)
    neigh_update(neigh, b"\2\0\0\0\0\x55", NUD_REACHABLE, NEIGH_UPDATE_F_OVERRIDE)
    body = ICMPv6ND_NA(R=0, S=0, O=1, tgt=other) / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:66")
    net.inject(IPv6(src=other, dst=ME, hlim=255) / body)
    return neigh.ha[5] == 0x66


def hop_limit(rig: Rig6) -> int:
    net = rig.host()
    net.inject(v6(ICMPV6, echo()))
    return int(net.ip_sent()[0].hlim)


def link_mtu(rig: Rig6) -> int:
    """Packets of a reply of 1400 bytes, by the interface's own setting."""
    net = one_host6()
    net.host.sysctl["net.ipv6.conf.eth0.mtu"] = rig.value
    net.inject(v6(ICMPV6, echo(data=bytes(1400))))
    return len(net.ip_sent())


def header(kind: int, count: int) -> bytes:
    return v6(kind, options(ICMPV6, opt(0x1E) * count) + echo())


def unicast_in_multicast(rig: Rig6) -> list[str]:
    return said(rig.host(), v6(ICMPV6, echo()), dst=b"\x33\x33\0\0\0\1")


def disabled(rig: Rig6) -> list[str]:
    try:
        return said(rig.host(), v6(ICMPV6, echo()))
    except PermissionError:  # an interface without IPv6 takes no address
        return []


REPLY = ["reply 4"]


def multipath(rig: Rig6, **more: int) -> int:
    """Over how many interfaces flows go that differ by port."""
    net = rig.host("2001:db8:1::1/64", "2001:db8:2::1/64", **more)
    for i in (1, 2):
        net.host.route_add("::/0", via=f"2001:db8:{i}::2", append=i > 1)
    flows = [flowi(AF_INET6, ip6("fd00::9"), ip6("2001:db8:1::1"), fl_sport=i) for i in range(20)]
    return len({ip6_route_output_flow(net.host, fl6).dev.ifindex for fl6 in flows})


PROBES6: dict[str, tuple[Callable[[Rig6], Any], dict[Any, Any]]] = {
    "net.ipv6.anycast_src_echo_reply": (anycast_source, {0: ME, 1: ANYCAST}),
    "net.ipv6.auto_flowlabels": (label, {1: 1, 0: -1, 2: -1, 3: 1}),
    "net.ipv6.fib_multipath_hash_fields": (
        lambda rig: multipath(rig, fib_multipath_hash_policy=3),
        {7: 1, 16: 2},
    ),
    "net.ipv6.fib_multipath_hash_policy": (multipath, {0: 1, 1: 2, 2: 1}),
    "net.ipv6.flowlabel_consistency": (reflect_refused, {1: "EPERM", 0: "ENOPROTOOPT"}),
    "net.ipv6.flowlabel_reflect": (label_reflected, {0: False, 4: True}),
    "net.ipv6.flowlabel_state_ranges": (label, {1: 1, 0: 2}),
    "net.ipv6.fwmark_reflect": (mark_reflected, {0: [0, 0, 0], 1: [7, 7, 7]}),
    "net.ipv6.ip6frag_high_thresh": (fragments_held, {4 << 20: 20, 5000: 3}),
    "net.ipv6.ip6frag_low_thresh": (low_thresh, {3 << 20: "SysctlError", 1 << 20: ""}),
    "net.ipv6.ip6frag_time": (fragment_waits, {60: True, 20: False}),
    "net.ipv6.max_dst_opts_length": (answers(header(DEST, 4)), {2**31 - 1: REPLY, 8: []}),
    "net.ipv6.max_dst_opts_number": (answers(header(DEST, 4)), {8: REPLY, 3: [], -8: []}),
    "net.ipv6.max_hbh_length": (answers(header(HOP, 4)), {2**31 - 1: REPLY, 8: []}),
    "net.ipv6.max_hbh_opts_number": (answers(header(HOP, 4)), {8: REPLY, 3: [], -8: []}),
    "net.ipv6.icmp.echo_ignore_all": (answers(v6(ICMPV6, echo())), {0: REPLY, 1: []}),
    "net.ipv6.icmp.echo_ignore_anycast": (anycast_echo, {0: 1, 1: 0}),
    "net.ipv6.icmp.echo_ignore_multicast": (
        answers(v6(ICMPV6, echo(dst=GROUP), dst=GROUP)),
        {0: REPLY, 1: []},
    ),
    "net.ipv6.icmp.error_anycast_as_unicast": (anycast_error, {0: 0, 1: 1}),
    "net.ipv6.icmp.ratelimit": (limited, {1000: 6, 0: 12}),
    "net.ipv6.icmp.ratemask": (limited, {"0-1,3-127": 6, "0-3": 12}),
    "net.ipv6.route.gc_interval": (gc_interval, {30: 1, 5: 0}),
    "net.ipv6.route.max_size": (exceptions_kept, {4096: 20, 7: 7}),
    "net.ipv6.route.min_adv_mss": (advmss, {1220: 1220, 1400: 1400}),
    "net.ipv6.route.mtu_expires": (mtu_expires, {600: 2, 50: 1}),
    "net.ipv6.conf.all.disable_policy": (policy_disabled, {0: [], 1: REPLY}),
    "net.ipv6.conf.all.force_forwarding": (forced, {0: 0, 1: 1}),
    "net.ipv6.conf.default.drop_unsolicited_na": (unsolicited, {0: True, 1: False}),
    "net.ipv6.conf.all.disable_ipv6": (disabled, {0: REPLY, 1: []}),
    "net.ipv6.conf.all.forwarding": (forwarding, {0: 0, 1: 1}),
    "net.ipv6.conf.default.drop_unicast_in_l2_multicast": (unicast_in_multicast, {0: REPLY, 1: []}),
    "net.ipv6.conf.default.hop_limit": (hop_limit, {64: 64, 7: 7}),
    "net.ipv6.conf.eth0.mtu": (link_mtu, {1500: 1, 1280: 2}),
}
LATE = {name for name in PROBES6 if name.startswith("net.ipv6.conf.default.")}
"""`default` is for interfaces that come later, so these are not written afterwards."""
