"""stack/ipv4/ip_output.py"""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from fastpath.base.skbuff import alloc_skb, skb_put_data, skb_reset_transport_header
from stack.core.bsd_socket import sockfd_lookup, sys_connect, sys_send, sys_sendto, sys_setsockopt
from stack.core.dev import dev_set_mtu
from stack.core.netdevice import LL_MAX_HEADER, NETIF_F_SG
from stack.core.netfilter import (
    NF_DROP,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    nf_register_net_hook,
)
from stack.core.uapi import (
    AF_INET,
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DO,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_PROBE,
    IP_TOS,
    SOL_IP,
)
from stack.inet.flow import flowi
from stack.ipv4.ip_options import ip_options_get
from stack.ipv4.ip_output import (
    ip_build_and_send_pkt,
    ip_queue_xmit,
    ip_send_unicast_reply,
    net_xmit_errno,
)
from stack.ipv4.route import ip_route_output
from tests.stack.ipv4.net import GW, ME, PEER, Net, at, ip4, one_host, udp_socket
from tests.support import errno_of, examples


@settings(max_examples=examples(50))
@given(st.integers(0, 20000), st.integers(68, 9000), st.integers(0, 255), st.booleans())
def test_fragments_fit_the_mtu_and_join_to_the_original(
    size: int, mtu: int, seed: int, gather: bool
) -> None:
    net = one_host()
    dev = net.wire.dev
    dev.features |= NETIF_F_SG if gather else 0
    dev.max_mtu = 9000
    assert dev_set_mtu(dev, mtu) == 0
    fd = udp_socket(net, 5000)
    data = bytes((i * 7 + seed) % 256 for i in range(size))
    sys_sendto(net.host, fd, data, 0, at(PEER, 9))
    packets = net.ip_sent()
    assert all(p.len <= mtu for p in packets)
    assert len({p.id for p in packets}) == 1
    whole = b""
    for i, packet in enumerate(packets):
        last = i == len(packets) - 1
        assert packet.frag * 8 == len(whole)
        assert bool(packet.flags & 1) != last
        assert last or len(packet.payload) % 8 == 0
        whole += bytes(packet.payload)
    assert whole[8:] == data
    header = IP(src=ME, dst=PEER) / UDP(whole)
    sent = header[UDP].chksum
    del header[UDP].chksum
    assert IP(bytes(header))[UDP].chksum == sent
    assert net.host.skb_small.in_use == 0
    assert net.host.skb_pages.in_use == 0


@pytest.mark.parametrize(
    ("mode", "small_df", "big"),
    [
        (IP_PMTUDISC_DONT, False, "fragments"),
        (1, True, "fragments"),
        (IP_PMTUDISC_DO, True, "refused"),
        (IP_PMTUDISC_PROBE, True, "refused"),
        (4, False, "refused"),
        (5, False, "fragments"),
    ],
)
def test_path_mtu_modes(net: Net, mode: int, small_df: bool, big: str) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_MTU_DISCOVER, mode)
    sys_sendto(net.host, fd, b"x", 0, at(PEER, 9))
    assert bool(net.ip_sent()[0].flags & 2) == small_df
    if big == "refused":
        assert errno_of(sys_sendto, net.host, fd, bytes(3000), 0, at(PEER, 9)) == errno.EMSGSIZE
    else:
        sys_sendto(net.host, fd, bytes(3000), 0, at(PEER, 9))
        assert len(net.ip_sent()) == 3


def test_ids_of_connected_sockets_count_up(net: Net) -> None:
    fd = udp_socket(net)
    sys_connect(net.host, fd, at(PEER, 9))
    for _ in range(4):
        sys_send(net.host, fd, b"x")
    ids = [p.id for p in net.ip_sent()]
    assert [(b - a) & 0xFFFF for a, b in pairwise(ids)] == [1, 1, 1]


def test_ids_of_different_destinations_are_apart(net: Net) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    for _ in range(3):
        for dst in (PEER, GW):
            sys_sendto(net.host, fd, b"x", 0, at(dst, 9))
    packets = net.ip_sent()
    assert len({(p.dst, p.id) for p in packets}) == 6


def test_tos_reaches_the_header(net: Net) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_TOS, 0xB8)
    sys_sendto(net.host, fd, b"x", 0, at(PEER, 9))
    assert net.ip_sent()[0].tos == 0xB8
    assert sockfd_lookup(net.host, fd).sk.sk_priority == 4


def test_output_hooks_can_drop(net: Net) -> None:
    fd = udp_socket(net)
    seen = []

    def out(skb, state):
        seen.append((state.hook, state.outdev.name))
        return 1

    def post(skb, state):
        seen.append((state.hook, state.outdev.name))
        return NF_DROP

    nf_register_net_hook(net.host, NF_INET_LOCAL_OUT, out)
    nf_register_net_hook(net.host, NF_INET_POST_ROUTING, post)
    with pytest.raises(PermissionError):
        sys_sendto(net.host, fd, b"x", 0, at(PEER, 9))
    assert seen == [(3, "eth0"), (4, "eth0")]
    assert net.ip_sent() == []
    assert net.host.skb_small.in_use == 0


def segment(net: Net, data: bytes):
    skb = alloc_skb(net.host.skb_small, len(data), LL_MAX_HEADER + 60)
    assert skb is not None
    skb_put_data(skb, data)
    skb_reset_transport_header(skb)
    return skb


def test_queue_xmit_routes_and_fills_the_header(net: Net) -> None:
    fd = udp_socket(net)
    sys_connect(net.host, fd, at(PEER, 9))
    sk = sockfd_lookup(net.host, fd).sk
    sk.sk_dst_cache = None
    sk.sk_no_check_tx = True
    assert ip_queue_xmit(sk, segment(net, b"\0\1\0\2\0\x09\0\0!"), None) == 0
    (packet,) = net.ip_sent()
    assert (packet.src, packet.dst, packet.ttl, packet.flags) == (ME, PEER, 64, "DF")
    assert sk.sk_dst_cache is not None
    assert sk.sk_gso_max_size == net.wire.dev.gso_max_size


def test_queue_xmit_without_route(net: Net) -> None:
    fd = udp_socket(net)
    sys_connect(net.host, fd, at(PEER, 9))
    sk = sockfd_lookup(net.host, fd).sk
    net.host.addr_del("eth0", f"{ME}/24")
    assert ip_queue_xmit(sk, segment(net, bytes(9)), None) == -errno.EHOSTUNREACH
    assert net.host.mib.ip.OutNoRoutes == 1
    assert net.host.skb_small.in_use == 0


def test_build_and_send_with_options(net: Net) -> None:
    sk = sockfd_lookup(net.host, udp_socket(net)).sk
    skb = segment(net, b"\0\1\0\2\0\x08\0\0")
    skb.dst = ip_route_output(net.host, ip4(PEER))
    opt = ip_options_get(net.host, b"\x07\x07\x04\0\0\0\0")
    assert ip_build_and_send_pkt(skb, sk, ip4(ME), ip4(PEER), opt, 0x10) == 0
    (packet,) = net.ip_sent()
    assert (packet.tos, packet.ihl) == (0x10, 7)


def test_unicast_reply_has_df_and_no_owner(net: Net) -> None:
    sk = sockfd_lookup(net.host, udp_socket(net)).sk
    skb = segment(net, bytes(IP(src=PEER, dst=ME)))
    assert (
        ip_send_unicast_reply(
            sk, skb, None, ip4(PEER), ip4(ME), b"payload!", protocol=99, tos=4, ttl=9
        )
        == 0
    )
    (packet,) = net.ip_sent()
    assert (packet.proto, packet.ttl, packet.tos, packet.flags, packet.id) == (99, 9, 4, "DF", 0)
    assert (
        ip_send_unicast_reply(sk, skb, None, ip4("192.0.2.1"), ip4(ME), b"x", protocol=99)
        == -errno.ENETUNREACH
    )
    assert sk.sk_wmem_alloc == 0


def test_no_neighbour_yet_keeps_the_packet(net: Net) -> None:
    fd = udp_socket(net)
    sys_sendto(net.host, fd, b"waits", 0, at("10.0.0.77", 9))
    assert net.ip_sent() == []
    from stack.ipv4.arp import arp_req_set

    arp_req_set(net.wire.dev, ip4("10.0.0.77"), b"\2\0\0\0\0\x77")
    (packet,) = net.ip_sent()
    assert packet.dst == "10.0.0.77"


def test_congestion_codes() -> None:
    assert (net_xmit_errno(2), net_xmit_errno(1)) == (0, -errno.ENOBUFS)


def test_flow_defaults() -> None:
    assert flowi(AF_INET, 1).ident == -1


def test_a_sender_that_slept_keeps_its_own_datagram(net: Net) -> None:
    fd = udp_socket(net)
    host = net.host
    sk = sockfd_lookup(host, fd).sk
    sk.sk_wmem_alloc = sk.sk_sndbuf

    def other() -> None:
        sk.sk_wmem_alloc = 0
        sys_sendto(host, fd, b"second", 0, at(GW, 2))

    net.clock.call_at(net.clock.now_ns() + 1000, other)
    sys_sendto(host, fd, b"first", 0, at(PEER, 1))
    sent = [(p.dst, p[UDP].dport, bytes(p[UDP].payload)) for p in net.ip_sent()]
    assert sorted(sent) == [(PEER, 1, b"first"), (GW, 2, b"second")]
