"""Packets that a route leads nowhere are dropped for a reason that is counted."""

from __future__ import annotations

import socket

from stack.core.drop_reason import drop_names
from stack.ipv6.ip6_fib import RTN_BLACKHOLE
from tests.stack.netfilter.rig import OUTER6, lan

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
