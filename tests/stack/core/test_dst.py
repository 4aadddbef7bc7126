"""Routes: packets that lead nowhere, who refers to a dst, and who confirms its next hop."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from stack.core.drop_reason import drop_names
from stack.core.neigh_table import neighbour
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import NUD_REACHABLE, RTN_BLACKHOLE
from tests.stack.netfilter.rig import INSIDE, INSIDE6, OUTER, OUTER6, OUTSIDE, OUTSIDE6, Lan, lan

NOWHERE = "2001:db8:dead::1"


def test_a_blackhole_is_a_reason() -> None:
    with lan() as net, net.inner.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        net.router.route_add("2001:db8:dead::/48", rtype=RTN_BLACKHOLE)
        sender.sendto(b"x", (NOWHERE, 9))
        net.run(0.1)
        assert drop_names(net.router)["SKB_DROP_REASON_IP_INNOROUTES"] == 1


def test_a_packet_without_next_header_is_not_dropped() -> None:
    with lan() as net, net.inner.socket(socket.AF_INET6, socket.SOCK_RAW, 59) as sender:
        sender.sendto(b"x", (OUTER6, 0))
        net.run(0.1)
        assert net.outer.mib.ip6.InReceives
        assert not drop_names(net.outer)  # RFC 8200 4.7: it is ignored


def test_a_dst_counts_the_sockets_that_cache_it() -> None:
    with lan() as net:
        one, other = (net.inner.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        one.connect((OUTER, 9))
        other.connect((OUTER, 9))
        dst = one.sk.sk_dst_cache
        assert dst is other.sk.sk_dst_cache
        assert dst.refcnt == 2
        one.connect((OUTER, 10))
        assert dst.refcnt == 1 + (one.sk.sk_dst_cache is dst)
        one.close()
        assert dst.refcnt == 1
        other.connect(("127.0.0.1", 9))
        assert dst.refcnt == 0
        other.close()


def next_hop(net: Lan, family: socket.AddressFamily) -> neighbour:
    """The router as the host inside knows it."""
    table = net.inner.arp_tbl if family == socket.AF_INET else net.inner.ipv6.nd_tbl
    address = ip_address(INSIDE if family == socket.AF_INET else INSIDE6)
    return next(n for n in table if n.primary_key == int(address))


@pytest.mark.parametrize(("family", "peer"), [(socket.AF_INET, OUTER), (socket.AF_INET6, OUTER6)])
def test_an_acknowledgement_spares_the_next_hop_a_probe(
    family: socket.AddressFamily, peer: str
) -> None:
    """RFC 4861 7.3.1: what TCP hears from beyond a router says that the router is reachable."""
    with lan() as net:
        net.outer.route_add("0.0.0.0/0", via=OUTSIDE)
        net.outer.route_add("::/0", via=OUTSIDE6)
        server = net.outer.socket(family, socket.SOCK_STREAM)
        server.bind((peer, 80))
        server.listen()
        client = net.inner.socket(family, socket.SOCK_STREAM)
        client.connect((peer, 80))
        accepted, _ = server.accept()
        for _ in range(30):
            net.run(3)
            client.sendall(b"x")
            accepted.recv(1)
            accepted.sendall(b"y")
            client.recv(1)
        router = next_hop(net, family)
        assert router.nud_state == NUD_REACHABLE
        assert router.net.now() - router.confirmed < 4 * NSEC_PER_SEC
        for sock in (client, accepted, server):
            sock.close()


@pytest.mark.parametrize(("family", "peer"), [(socket.AF_INET, OUTER), (socket.AF_INET6, OUTER6)])
def test_msg_confirm_confirms_the_next_hop(family: socket.AddressFamily, peer: str) -> None:
    with lan() as net, net.inner.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (peer, 9))
        net.run(1)
        router = next_hop(net, family)
        sender.sendto(b"x", socket.MSG_CONFIRM, (peer, 9))
        assert router.confirmed == net.inner.now()
